"""Which browser pages may use the cloud: only those of this machine, so that no foreign page can reach it."""

from __future__ import annotations

from urllib.parse import urlsplit

from cloudlet.errors import AwsError
from cloudlet.http import Request


def check(request: Request, service: str) -> None:
    """Refuse an AWS call that a page of another origin makes. S3 answers for itself, by its buckets' CORS rules."""
    origin = request.headers.get("origin")
    if origin and service != "s3" and not is_local(urlsplit(origin).hostname or ""):
        raise AwsError("AccessDenied", f"Pages of {origin} may not call this cloud.", status=403)


def is_local(host: str) -> bool:
    """Whether a host name can only mean this machine."""
    return host in ("localhost", "127.0.0.1", "::1", "[::1]") or host.endswith(".localhost") or host.startswith("127.")
