"""Buckets in host names: virtual-host requests as the path-style requests that they mean."""

from __future__ import annotations

import re

from cloudlet.http import Request
from cloudlet.wire.identify import scope_of

# bucket.s3.localhost, bucket.s3.us-east-1.amazonaws.com, bucket.s3-eu-west-1.amazonaws.com, ...
_BUCKET = re.compile(
    r"(?P<bucket>[a-z0-9][a-z0-9.\-]*?)\.s3(?:[.-](?:dualstack\.|fips\.|accelerate\.)?[a-z0-9-]+)?"
    r"\.(?:localhost(?:\.localstack\.cloud)?|amazonaws\.com|api\.aws|localstack\.cloud)\Z"
    r"|(?P<short>[a-z0-9][a-z0-9.\-]*?)\.s3\.(?:localhost(?:\.localstack\.cloud)?|amazonaws\.com)\Z"
)
_OWN = ("s3.", "s3-")


def bucket_of(request: Request) -> str | None:
    """The bucket that a host name carries, or None."""
    host = request.host
    if "." not in host or (host[0].isdigit() and host.replace(".", "").isdigit()):
        return None
    if ".s3" in host and (found := _BUCKET.match(host)):
        return found.group("bucket") or found.group("short")
    # With an endpoint of http://localhost an SDK puts the bucket right before it.
    if host.endswith(".localhost") and not host.startswith(_OWN) and _is_for_bucket(request):
        return host.removesuffix(".localhost")
    return None


def _is_for_bucket(request: Request) -> bool:
    headers = request.headers
    if "x-amz-account-id" in headers:  # S3 Control puts an account there
        return False
    if request.method == "POST" and headers.get("content-type", "").startswith("multipart/form-data"):
        return True  # a browser's upload, whose signature is in the form
    return scope_of(request) == "s3"


def to_path_style(request: Request) -> Request:
    """The same request with its bucket in the path; the request itself when its host carries none."""
    bucket = bucket_of(request)
    if bucket is None:
        return request
    path = request.path if request.path.startswith("/") else f"/{request.path}"
    return Request(
        request.method,
        f"/{bucket}{path}",
        request.query,
        request.headers,
        request.body,
        scheme=request.scheme,
        client=request.client,
        raw_headers=request.raw_headers,
        receive=request._receive,
    )
