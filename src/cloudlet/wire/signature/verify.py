"""Version 4 signatures, computed anew and compared."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from cloudlet.errors import AwsError
from cloudlet.http import Request, Stream
from cloudlet.wire.hosts import bucket_of
from cloudlet.wire.signature import version2
from cloudlet.wire.signature.credential import Credential
from cloudlet.wire.signature.read import ALGORITHM, Signed
from cloudlet.wire.signature.refusals import S3_NAMES, refuse
from cloudlet.wire.signature.version2 import equal

_SKEW = 15 * 60
_LARGEST_BODY = 128 * 1024 * 1024
_HASH_BESIDE = 1024 * 1024  # bytes from which a body is hashed off the event loop
_UNSIGNED = "UNSIGNED-PAYLOAD"

At = Callable[[float], float]


def _same(time: float) -> float:
    return time


async def verify(request: Request, signed: Signed, credential: Credential, now: float, at: At = _same) -> None:
    """Hold a request against its signature. Raises AwsError with the code and words of the service that was asked.

    S3's bodies are signed by a hash in a header, to which ``check_stream`` and ``check_body`` hold them. ``at`` tells
    what the cloud's clock read when the client's read a given time, for a clock that has been moved.
    """
    check_token(signed.service, credential, _token(request, signed), now)
    if not signed.date:
        version2.verify(request, signed, credential, original_path(request))
        check_expiry(request, signed, now, at)
        return
    timestamp = signed.timestamp or _timestamp(request, signed)
    if timestamp[:8] != signed.date:
        raise refuse(
            signed.service,
            "scope",
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{signed.date}' != '{timestamp[:8]}', from '{timestamp}'.",
        )
    if signed.kind == "query":
        check_expiry(request, signed, now, at)
    else:
        _check_skew(signed, timestamp, now, at)
    names = signed.signed_headers.lower().split(";")
    if "host" not in names:
        raise refuse(
            signed.service, "scope", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
        )
    payload = await _payload_hash(request, signed)
    text = canonical_request(request, signed, names, payload)
    if not equal(signature_of(credential.secret, signed, timestamp, text), signed.signature):
        raise refuse(signed.service, "mismatch", "", AWSAccessKeyId=signed.access_key)
    if signed.service in S3_NAMES:
        unsigned = [
            name
            for name in request.headers
            if name.startswith("x-amz-") and name not in names and name != "x-amz-content-sha256"
        ]
        if unsigned:
            raise AwsError(
                "AccessDenied",
                "There were headers present in the request which were not signed",
                status=403,
                HeadersNotSigned=", ".join(unsigned),
            )


def check_token(service: str, credential: Credential, token: str, now: float) -> None:
    """Hold a session token against the session's. Raises the service's errors for an invalid or an expired one."""
    if not equal(credential.session_token, token):
        raise refuse(service, "token")
    if credential.expires and now >= credential.expires:
        raise refuse(service, "expired")


def check_expiry(request: Request, signed: Signed, now: float, at: At = _same) -> None:
    """Refuse a presigned request after its time, and before it. Raises AccessDenied (S3) and its like."""
    if not signed.date:
        if at(float(signed.expires)) < now:
            raise AwsError(
                "AccessDenied",
                "Request has expired",
                status=403,
                Expires=_iso(float(signed.expires)),
                ServerTime=_iso(now),
            )
        return
    begun = at(parse_time(signed.timestamp, signed.service))
    lifetime = int(signed.expires or _SKEW)
    if begun + lifetime < now:
        if signed.service in S3_NAMES:
            raise AwsError(
                "AccessDenied",
                "Request has expired",
                status=403,
                **{"X-Amz-Expires": signed.expires, "Expires": _iso(begun + lifetime), "ServerTime": _iso(now)},
            )
        raise refuse(
            signed.service,
            "skew",
            f"Signature expired: {signed.timestamp} is now earlier than {_basic(now - lifetime)} "
            f"({_basic(now)} - {lifetime // 60} min.)",
        )
    if begun > now + _SKEW:
        if signed.service in S3_NAMES:
            raise AwsError("AccessDenied", "Request is not yet valid", status=403)
        raise _too_early(signed, signed.timestamp, now)


def check_body(request: Request) -> None:
    """Hold a body that was read whole against the hash that was signed. Raises XAmzContentSHA256Mismatch."""
    given = request.headers.get("x-amz-content-sha256", "")
    if _is_hash(given) and request.body is not None:
        _compare(given, hashlib.sha256(request.body).hexdigest())


def check_stream(request: Request) -> None:
    """Hold a body that nobody has read yet against the hash that was signed, when its end has passed."""
    given = request.headers.get("x-amz-content-sha256", "")
    if _is_hash(given) and request.body is None:
        request.decode_body(lambda body: _hashed(body, given))


def canonical_request(request: Request, signed: Signed, names: list[str], payload: str) -> str:
    """The request in the form that is signed."""
    headers = request.headers
    lines = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in names)
    path = original_path(request)
    if signed.service in S3_NAMES:
        path = quote_from_bytes(unquote_to_bytes(path.encode("latin-1")), safe="/-_.~")
    else:
        path = quote(_normalized(path).encode("latin-1"), safe="/-_.~")
    query = canonical_query(request.query) if request.query else ""
    return f"{request.method}\n{path or '/'}\n{query}\n{lines}\n{';'.join(names)}\n{payload}"


def canonical_query(query: str) -> str:
    """The parameters encoded alike and sorted, without the signature itself."""
    pairs = []
    for part in query.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        if name != "X-Amz-Signature":
            pairs.append((_encoded(name), _encoded(value)))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def original_path(request: Request) -> str:
    """The path as the client sent it: the gateway has put a bucket that is in the host name in front of it."""
    bucket = bucket_of(request)
    if bucket is not None and request.path.startswith(f"/{bucket}/"):
        return request.path[len(bucket) + 1 :]
    return request.path


def signature_of(secret: str, signed: Signed, timestamp: str, canonical: str) -> str:
    """The signature of a canonical request, in hexadecimal."""
    digest = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
    text = f"{ALGORITHM}\n{timestamp}\n{scope_of(signed)}\n{digest}"
    return sign(signing_key(secret, signed.date, signed.region, signed.service), text)


def scope_of(signed: Signed) -> str:
    """What a signing key is good for."""
    return f"{signed.date}/{signed.region}/{signed.service}/aws4_request"


def sign(key: bytes, text: str) -> str:
    """HMAC-SHA256 in hexadecimal."""
    return hmac.digest(key, text.encode(), "sha256").hex()


@functools.lru_cache(maxsize=1024)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key that is derived from a secret for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def timestamp_of(request: Request, signed: Signed) -> str:
    """When a request was signed, in ISO 8601's basic form."""
    return signed.timestamp or _timestamp(request, signed)


def parse_time(timestamp: str, service: str) -> float:
    """Epoch seconds of ``20150830T123600Z``. Raises the service's error for an invalid date."""
    try:
        return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise refuse(
            service,
            "date",
            f"Date must be in ISO-8601 'basic format'. Got '{timestamp}'. See http://en.wikipedia.org/wiki/ISO_8601",
        ) from None


def _timestamp(request: Request, signed: Signed) -> str:
    given = request.headers.get("x-amz-date") or request.headers.get("date")
    if not given:
        raise refuse(
            signed.service,
            "date",
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
            f"Authorization={request.headers.get('authorization', '')}",
        )
    if len(given) == 16:
        return given
    try:
        return parsedate_to_datetime(given).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        return given


def _check_skew(signed: Signed, timestamp: str, now: float, at: At) -> None:
    then = at(parse_time(timestamp, signed.service))
    if abs(then - now) <= _SKEW:
        return
    if signed.service in S3_NAMES:
        raise refuse(
            signed.service,
            "skew",
            RequestTime=timestamp,
            ServerTime=_iso(now),
            MaxAllowedSkewMilliseconds=str(_SKEW * 1000),
        )
    if then > now:
        raise _too_early(signed, timestamp, now)
    raise refuse(
        signed.service,
        "skew",
        f"Signature expired: {timestamp} is now earlier than {_basic(now - _SKEW)} ({_basic(now)} - 15 min.)",
    )


def _too_early(signed: Signed, timestamp: str, now: float) -> AwsError:
    return refuse(
        signed.service,
        "skew",
        f"Signature not yet current: {timestamp} is still later than {_basic(now + _SKEW)} ({_basic(now)} + 15 min.)",
    )


def _token(request: Request, signed: Signed) -> str:
    if signed.kind == "query":
        return next((value for key, value in request.params() if key.lower() == "x-amz-security-token"), "")
    return request.headers.get("x-amz-security-token", "")


async def _payload_hash(request: Request, signed: Signed) -> str:
    """The hash of the body as it stands in the canonical request."""
    given = request.headers.get("x-amz-content-sha256", "")
    if signed.service in S3_NAMES:
        if signed.kind == "query" and not given:
            return _UNSIGNED
        if not given:
            raise AwsError(
                "InvalidRequest", "Missing required header for this request: x-amz-content-sha256", status=400
            )
        if not _is_hash(given) and given != _UNSIGNED and not given.startswith("STREAMING-"):
            raise AwsError(
                "InvalidArgument",
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, "
                "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a "
                "valid sha256 value.",
                status=400,
                ArgumentName="x-amz-content-sha256",
                ArgumentValue=given,
            )
        return given
    if given and not _is_hash(given):
        return given
    body = await request.read(_LARGEST_BODY)
    hashed = hashlib.sha256(body) if len(body) < _HASH_BESIDE else await asyncio.to_thread(hashlib.sha256, body)
    if given:
        _compare(given, hashed.hexdigest())
    return hashed.hexdigest()


async def _hashed(body: Stream, given: str) -> AsyncIterator[bytes]:
    """The body as it comes; its end is refused when it is not what was signed."""
    hashed = hashlib.sha256()
    async for chunk in body:
        hashed.update(chunk)
        yield chunk
    _compare(given, hashed.hexdigest())


def _compare(given: str, computed: str) -> None:
    if given != computed:
        raise AwsError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            status=400,
            ClientComputedContentSHA256=given,
            S3ComputedContentSHA256=computed,
        )


def _is_hash(given: str) -> bool:
    return len(given) == 64 and all(digit in "0123456789abcdef" for digit in given)


def _encoded(text: str) -> str:
    return quote_from_bytes(unquote_to_bytes(text.replace("+", " ").encode("latin-1")), safe="-_.~")


def _normalized(path: str) -> str:
    """Without ``.``, ``..`` and empty segments (RFC 3986), a slash at the end kept."""
    if "//" not in path and "/." not in path:
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    slash = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    return f"/{'/'.join(kept)}{slash}"


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _basic(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y%m%dT%H%M%SZ")
