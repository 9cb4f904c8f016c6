"""Encryption as clients see it: the bucket's default, and keys of the client's own. The bytes lie on one's own disk."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Input
from cloudlet.services.s3.records import Bucket

# What answers repeat of an object's encryption.
_HEADER = "x-amz-server-side-encryption"
_OWN_KEYS = "Requests specifying Server Side Encryption with Customer provided keys must provide"
MEMBERS = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled", "SSECustomerAlgorithm", "SSECustomerKeyMD5")
_ALGORITHMS = ("AES256", "aws:kms", "aws:kms:dsse")


def describe(bucket: Bucket, input: Input, info: dict[str, Any]) -> None:
    """Complete what ``info`` says of a new object's encryption. Raises InvalidArgument and its like."""
    if "SSECustomerAlgorithm" in input or "SSECustomerKey" in input:
        if "ServerSideEncryption" in input:
            raise _invalid(
                "Server Side Encryption with Customer provided key is incompatible with the encryption method "
                "specified",
                ArgumentValue=input["ServerSideEncryption"],
            )
        info["SSECustomerKeyMD5"] = customer_key(input)
        return
    asked = input.get("ServerSideEncryption")
    if asked is None:
        _by_default(bucket, info)
    elif asked not in _ALGORITHMS:
        raise _invalid("The encryption method specified is not supported", ArgumentValue=asked)
    elif asked == "AES256" and "SSEKMSKeyId" in info:
        raise AwsError(
            "InvalidArgument",
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : "
            "aws:kms",
        )
    elif "SSEKMSKeyId" in info:
        info["SSEKMSKeyId"] = _key_arn(bucket, info["SSEKMSKeyId"])


def _by_default(bucket: Bucket, info: dict[str, Any]) -> None:
    configured = bucket.settings.get("encryption")
    if configured is None:
        info["ServerSideEncryption"] = "AES256"
        return
    rule = configured["ServerSideEncryptionConfiguration"]["Rules"][0]
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    info["ServerSideEncryption"] = default.get("SSEAlgorithm", "AES256")
    if info["ServerSideEncryption"] != "AES256":
        if "KMSMasterKeyID" in default:
            info["SSEKMSKeyId"] = _key_arn(bucket, default["KMSMasterKeyID"])
        if rule.get("BucketKeyEnabled"):
            info["BucketKeyEnabled"] = True


def _key_arn(bucket: Bucket, key: str) -> str:
    """The ARN of a KMS key; S3 tells a key's id as its ARN. An alias stays as it is."""
    is_id = not key.startswith(("arn:", "alias/"))
    return f"arn:aws:kms:{bucket.region}:{bucket.account}:key/{key}" if is_id else key


def _invalid(words: str, **members: Any) -> AwsError:
    return AwsError("InvalidArgument", words, ArgumentName=_HEADER, **members)


def customer_key(input: Input) -> str:
    """The MD5 of a client's own encryption key, after a look at the key. Raises InvalidArgument and its like."""
    algorithm, given = input.get("SSECustomerAlgorithm"), input.get("SSECustomerKey")
    if algorithm is None:
        raise _invalid(f"{_OWN_KEYS} a valid encryption algorithm.")
    if algorithm != "AES256":
        raise AwsError(
            "InvalidEncryptionAlgorithmError",
            "The Encryption request you specified is not valid. Supported value: AES256.",
            ArgumentName=_HEADER,
            ArgumentValue=algorithm,
        )
    if given is None:
        raise _invalid(f"{_OWN_KEYS} an appropriate secret key.")
    try:
        key = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise _invalid("The secret key was invalid for the specified algorithm.")
    md5 = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    if input.get("SSECustomerKeyMD5", md5) != md5:
        raise _invalid("The calculated MD5 hash of the key did not match the hash that was provided.")
    return md5


def check_customer_key(info: dict[str, Any], input: Input) -> None:
    """An object under a client's own key is given only to who shows the key."""
    if "SSECustomerKey" not in input:
        raise AwsError(
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to "
            "retrieve the object.",
        )
    md5 = customer_key(input)
    if "SSECustomerKeyMD5" not in info:
        raise AwsError("InvalidRequest", "The encryption parameters are not applicable to this object.")
    if md5 != info["SSECustomerKeyMD5"]:
        raise AwsError("AccessDenied", f"{_OWN_KEYS} the correct secret key.", status=403)
