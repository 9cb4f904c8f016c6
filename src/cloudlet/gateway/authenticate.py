"""Who calls: the account, the region and the principal of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudlet.errors import AwsError
from cloudlet.http import Request
from cloudlet.services.api import Call
from cloudlet.wire import signature

if TYPE_CHECKING:
    from cloudlet.cloud import Cloud

DEFAULT_ACCOUNT = "000000000000"

# What a client calls before it has credentials, and what S3 may serve to anyone.
_ANONYMOUS = frozenset(
    (
        *("AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"),
        *("GetObject", "HeadObject", "PostObject", "HeadBucket", "ListObjects", "ListObjectsV2"),
    )
)
# Headers that a presigned URL may carry instead.
_HEADERS_IN_QUERY = (
    "x-amz-acl",
    "x-amz-grant-",
    "x-amz-meta-",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
)


class Authenticator:
    """``--auth local`` believes every caller; ``--auth enforce`` verifies each signature against IAM's keys."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._enforce = cloud.config.auth == "enforce"
        self._region = cloud.config.region

    async def authenticate(self, request: Request, call: Call, service: str) -> None:
        """Fill in the call's account, region and principal, and unwrap a chunked upload. Raises AwsError."""
        signed = signature.read(request)
        credential = None
        if signed is None:
            if self._enforce and call.operation not in _ANONYMOUS:
                raise AwsError("MissingAuthenticationToken", "Missing Authentication Token", status=403)
            call.account, call.region = DEFAULT_ACCOUNT, self._region
        else:
            key = signed.access_key
            call.access_key = key
            call.region = signed.region or self._region
            if key.startswith(("AKIA", "ASIA")) or self._enforce:
                credential = await self._credential(key)
            if self._enforce:
                if credential is None:
                    raise signature.unknown_key(key, service)
                await signature.verify(request, signed, credential, self._cloud.clock.now())
            if credential is not None:
                call.account, call.principal = credential.account, credential.principal
            else:
                call.account = key if len(key) == 12 and key.isdigit() else DEFAULT_ACCOUNT
                if signed.kind == "query":
                    signature.check_expiry(request, signed, self._cloud.clock.now())
            if signed.kind == "query" and service == "s3":
                _take_headers_from_query(request)
        if not call.principal:
            call.principal = f"arn:aws:iam::{call.account}:root"
        if "x-amz-decoded-content-length" in request.headers or "aws-chunked" in request.headers.get(
            "content-encoding", ""
        ):
            signature.unchunk(request, signed, credential if self._enforce else None)
        elif self._enforce:
            signature.check_stream(request)

    def check_body(self, request: Request) -> None:
        """Hold a signed body against the hash that was signed; only where signatures are verified."""
        if self._enforce:
            signature.check_body(request)

    async def _credential(self, access_key: str) -> signature.Credential | None:
        for name in ("sts", "iam") if access_key.startswith("ASIA") else ("iam", "sts"):
            if self._cloud.has_state(name) or self._enforce:
                service = await self._cloud.service(name)
                if (credential := await service.credential(access_key)) is not None:
                    return credential  # type: ignore[no-any-return]
        return None


def _take_headers_from_query(request: Request) -> None:
    """A presigned URL of S3 may carry ``x-amz-`` headers; checksums and the signature itself are none of them."""
    if "x-amz-" in request.query.lower():
        for name, value in request.params():
            if (name := name.lower()).startswith(_HEADERS_IN_QUERY):
                request.headers.setdefault(name, value)
