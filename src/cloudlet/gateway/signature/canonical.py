"""The text that is signed: canonical request, string to sign, signing key."""

from __future__ import annotations

import functools
import hashlib
import hmac
import posixpath
import re
from urllib.parse import quote, unquote_to_bytes

from cloudlet.http import Request

EMPTY_HASH = hashlib.sha256(b"").hexdigest()
_SPACES = re.compile(r"\s+")


@functools.lru_cache(maxsize=256)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of a day, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def sign(key: bytes, text: str) -> str:
    """A text's signature, in hexadecimal."""
    return hmac.digest(key, text.encode(), "sha256").hex()


def canonical_request(
    request: Request, signed_headers: tuple[str, ...], payload_hash: str, *, s3: bool, without: str = ""
) -> str:
    """The canonical form of a request. S3 takes its path as it is; ``without`` names a query parameter to leave out."""
    headers = "".join(f"{name}:{_header(request, name)}\n" for name in signed_headers)
    path = canonical_path(request.path, s3=s3)
    query = canonical_query(request.query, without)
    return "\n".join((request.method, path, query, headers, ";".join(signed_headers), payload_hash))


def string_to_sign(canonical: str, timestamp: str, scope: str) -> str:
    """What the signing key signs."""
    return "\n".join(("AWS4-HMAC-SHA256", timestamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))


def canonical_path(path: str, *, s3: bool) -> str:
    """The path, encoded once for S3; normalised and encoded twice for the others."""
    raw = unquote_to_bytes(path or "/")
    if s3:
        return quote(raw, safe="/-_.~")
    normal = posixpath.normpath(path or "/")
    normal = "/" + normal.lstrip("/")
    if path.endswith(("/", "/.", "/..")) and not normal.endswith("/"):
        normal += "/"
    return quote(normal, safe="/-_.~")


def canonical_query(query: str, without: str = "") -> str:
    """The parameters, encoded and sorted."""
    pairs = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            if name != without:
                pairs.append((_encoded(name), _encoded(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.replace("+", " ")), safe="-_.~")


def _header(request: Request, name: str) -> str:
    values = [
        _SPACES.sub(" ", value.decode("utf-8", "surrogateescape").strip())
        for raw, value in request.raw_headers
        if raw.decode("latin-1").lower() == name
    ]
    if not values and name in request.headers:
        values = [_SPACES.sub(" ", request.headers[name].strip())]
    return ",".join(values)
