"""Presigned URLs of version 2: S3's first signature, which boto3 still makes by default. Header signatures are not."""

from __future__ import annotations

import base64
import hmac
from urllib.parse import parse_qsl

from cloudlet.http import Request
from cloudlet.wire.hosts import bucket_of
from cloudlet.wire.signature.credential import Credential
from cloudlet.wire.signature.read import Signed
from cloudlet.wire.signature.refusals import refuse

# The parameters that name what is asked for, and so are signed.
_SIGNED = frozenset(
    (
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-",
        "type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    )
)


def verify(request: Request, signed: Signed, credential: Credential, path: str) -> None:
    """Hold a presigned request against its signature. Raises SignatureDoesNotMatch."""
    if not equal(sign(credential.secret, _text(request, signed, path)), signed.signature):
        raise refuse("s3", "mismatch", "", AWSAccessKeyId=signed.access_key)


def equal(ours: str, theirs: str) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "replace"))


def sign(secret: str, text: str) -> str:
    """HMAC-SHA1 in base 64."""
    return base64.b64encode(hmac.digest(secret.encode(), text.encode("utf-8"), "sha1")).decode()


def _text(request: Request, signed: Signed, path: str) -> str:
    parameters = parse_qsl(request.query, keep_blank_values=True)
    headers = {name: value.strip() for name, value in request.headers.items()}
    for name, value in parameters:
        if name.lower().startswith("x-amz-") or name in ("content-md5", "content-type"):
            headers.setdefault(name.lower(), value)
    amazon = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-amz-"))
    named = sorted((name, value) for name, value in parameters if name in _SIGNED)
    sub = "&".join(f"{name}={value}" if value else name for name, value in named)
    bucket = bucket_of(request)
    resource = f"/{bucket}{path}" if bucket is not None else path
    content = f"{headers.get('content-md5', '')}\n{headers.get('content-type', '')}"
    return f"{request.method}\n{content}\n{signed.expires}\n{amazon}{resource}{'?' if sub else ''}{sub}"
