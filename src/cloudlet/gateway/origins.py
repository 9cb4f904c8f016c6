"""Which browser pages may use the cloud: only those of this machine, so that no foreign page can reach it.

AWS's APIs let any page call, as a signature says who it is; here most requests need none. S3 answers for itself, by its
buckets' CORS rules. https://docs.aws.amazon.com/sdk-for-javascript/v3/developer-guide/cors.html
"""

from __future__ import annotations

from urllib.parse import urlsplit

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response

_READABLE = "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,x-amz-request-id,Date"
_KEPT = "172800"  # seconds for which a browser need not ask again


def check(request: Request, service: str) -> None:
    """Refuse an AWS call that a page of another origin makes."""
    origin = request.headers.get("origin")
    if origin and service != "s3" and not is_local(urlsplit(origin).hostname or ""):
        raise AwsError("AccessDenied", f"Pages of {origin} may not call this cloud.", status=403)


def is_preflight(request: Request) -> bool:
    """Whether a browser asks whether a page may call."""
    return request.method == "OPTIONS" and "access-control-request-method" in request.headers


def preflight(request: Request) -> Response:
    """Tell a browser whether its page may call an API."""
    response = Response(200, {}, b"")
    let_read(request, response)
    if not response.headers:
        return Response(403, {"content-type": "text/plain"}, b"Pages of that origin may not call this cloud.\n")
    response.headers["access-control-allow-methods"] = request.headers["access-control-request-method"]
    response.headers["access-control-max-age"] = _KEPT
    if asked := request.headers.get("access-control-request-headers"):
        response.headers["access-control-allow-headers"] = asked
    return response


def let_read(request: Request, response: Response) -> None:
    """Let a page of this machine read an API's answer."""
    if is_local(urlsplit(request.headers.get("origin", "")).hostname or ""):
        response.headers["access-control-allow-origin"] = "*"
        response.headers["access-control-expose-headers"] = _READABLE


def is_local(host: str) -> bool:
    """Whether a host name can only mean this machine."""
    return host in ("localhost", "127.0.0.1", "::1", "[::1]") or host.endswith(".localhost") or host.startswith("127.")
