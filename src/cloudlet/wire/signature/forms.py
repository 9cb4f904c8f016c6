"""S3's HTML forms: a policy that says what may be uploaded, signed in one of the form's fields."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.wire.signature import version2
from cloudlet.wire.signature.credential import Credential
from cloudlet.wire.signature.read import ALGORITHM, Signed, read_scope
from cloudlet.wire.signature.refusals import refuse
from cloudlet.wire.signature.verify import check_token, sign, signing_key

# Fields that a policy need not name.
_FREE = frozenset(("x-amz-signature", "signature", "awsaccesskeyid", "policy", "file", "bucket"))


def read_form(fields: Mapping[str, str]) -> Signed | None:
    """Who signed a form (field names in lower case), None for an anonymous one. Raises InvalidArgument."""
    if "policy" not in fields:
        return None
    if "awsaccesskeyid" in fields:
        return Signed(fields["awsaccesskeyid"], "", "", "s3", "post", signature=_field(fields, "signature"))
    if _field(fields, "x-amz-algorithm") != ALGORITHM:
        raise AwsError("InvalidArgument", "X-Amz-Algorithm only supports AWS4-HMAC-SHA256", status=400)
    key, date, region, service = read_scope(_field(fields, "x-amz-credential"))
    return Signed(
        key, date, region, service, "post", "", _field(fields, "x-amz-signature"), _field(fields, "x-amz-date")
    )


def check_form(
    fields: Mapping[str, str], signed: Signed, credential: Credential | None, now: float, bucket: str, size: int
) -> None:
    """Hold a form against its policy and, with a credential, against its signature.

    ``size`` is that of the uploaded file in bytes. Raises AccessDenied, SignatureDoesNotMatch, EntityTooLarge, ...
    """
    encoded = fields["policy"]
    if credential is not None:
        check_token("s3", credential, fields.get("x-amz-security-token", ""), now)
        if not signed.date:
            computed = version2.sign(credential.secret, encoded)
        else:
            computed = sign(signing_key(credential.secret, signed.date, signed.region, signed.service), encoded)
        if not version2.equal(computed, signed.signature):
            raise refuse("s3", "mismatch", "", AWSAccessKeyId=signed.access_key)
    try:
        policy = json.loads(base64.b64decode(encoded, validate=True))
        expires = datetime.fromisoformat(policy["expiration"]).timestamp()
        conditions = policy["conditions"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise _invalid_policy("Invalid Policy: Invalid JSON.") from None
    if expires < now:
        raise AwsError("AccessDenied", "Invalid according to Policy: Policy expired.", status=403)
    values = {**fields, "bucket": bucket}
    named = set(_FREE)
    for condition in conditions:
        named.add(_check_condition(condition, values, size))
    for name in fields:
        if name not in named and not name.startswith("x-ignore-"):
            raise AwsError("AccessDenied", f"Invalid according to Policy: Extra input fields: {name}", status=403)


def _check_condition(condition: Any, values: Mapping[str, str], size: int) -> str:
    """Check one condition and return the name of the field that it is about."""
    if isinstance(condition, dict) and len(condition) == 1:
        ((name, wanted),) = condition.items()
        rule, name = "eq", f"${name}"
    elif isinstance(condition, list) and len(condition) == 3:
        rule, name, wanted = condition
        rule = str(rule).lower()
    else:
        raise _invalid_policy("Invalid Policy: Invalid Conditions.")
    if rule == "content-length-range":
        if size < int(name):
            raise AwsError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                status=400,
                ProposedSize=str(size),
                MinSizeAllowed=str(name),
            )
        if size > int(wanted):
            raise AwsError(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                status=400,
                ProposedSize=str(size),
                MaxSizeAllowed=str(wanted),
            )
        return ""
    field = str(name).removeprefix("$").lower()
    value = values.get(field, "")
    if (rule == "eq" and value == str(wanted)) or (rule == "starts-with" and value.startswith(str(wanted))):
        return field
    raise AwsError(
        "AccessDenied",
        f"Invalid according to Policy: Policy Condition failed: {json.dumps([rule, f'${field}', wanted])}",
        status=403,
    )


def _field(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise AwsError(
            "InvalidArgument",
            f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the "
            "fields.",
            status=400,
            ArgumentName=name,
            ArgumentValue="",
        )
    return fields[name]


def _invalid_policy(message: str) -> AwsError:
    return AwsError("InvalidPolicyDocument", message, status=400)
