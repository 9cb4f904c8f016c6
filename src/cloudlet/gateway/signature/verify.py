"""Whether a signature is right, in time, and over this body."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

from cloudlet.errors import AwsError
from cloudlet.gateway.signature.canonical import EMPTY_HASH, canonical_request, sign, signing_key, string_to_sign
from cloudlet.gateway.signature.credentials import Credential
from cloudlet.gateway.signature.signed import Signed
from cloudlet.http import Request

_SKEW = 300.0  # seconds that clocks may differ
_S3_SKEW = 900.0
_LONGEST = 604800  # a presigned URL lives a week at most
_FORMAT = "%Y%m%dT%H%M%SZ"


async def verify(request: Request, signed: Signed, credential: Credential, now: float) -> None:
    """Raises AwsError unless the request was signed with this credential, and not too long ago.

    A body that is signed by its hash is held against it when it has been read (``check_body``) or as it is streamed.
    """
    s3 = signed.service in ("s3", "s3express")
    if signed.kind == "v2":
        raise AwsError(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    if credential.expires and credential.expires <= now:
        words = "The provided token has expired." if s3 else "The security token included in the request is expired"
        code = "ExpiredToken" if s3 or signed.service in ("sts", "iam") else "ExpiredTokenException"
        raise AwsError(code, words, status=400 if s3 else 403)
    parameters = dict(parse_qsl(request.query, keep_blank_values=True)) if signed.kind == "query" else {}
    token = parameters.get("X-Amz-Security-Token") or request.headers.get("x-amz-security-token", "")
    if not hmac.compare_digest(token.encode(), credential.session_token.encode()):
        code = "InvalidToken" if s3 else "InvalidClientTokenId"
        raise AwsError(code, "The security token included in the request is invalid.", status=400 if s3 else 403)
    if signed.kind == "query":
        timestamp = parameters["X-Amz-Date"]
        check_expiry(request, signed, now)
    else:
        timestamp = _check_time(request, now, s3)
    if not timestamp.startswith(signed.date):
        raise AwsError(
            "SignatureDoesNotMatch",
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{signed.date}' != '{timestamp[:8]}', from '{timestamp}'.",
            status=403,
        )
    if "host" not in signed.headers:
        raise AwsError(
            "SignatureDoesNotMatch",
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            status=403,
        )
    # A query protocol's form is read before this; a streamed body is named by the header that is itself signed.
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        presigned = signed.kind == "query" and s3
        payload = "UNSIGNED-PAYLOAD" if presigned else hashlib.sha256(await request.read(_LARGEST)).hexdigest()
    scope = f"{signed.date}/{signed.region}/{signed.service}/aws4_request"
    key = signing_key(credential.secret, signed.date, signed.region, signed.service)
    without = "X-Amz-Signature" if signed.kind == "query" else ""
    canonical = canonical_request(request, signed.headers, payload, s3=s3, without=without)
    to_sign = string_to_sign(canonical, timestamp, scope)
    if not hmac.compare_digest(sign(key, to_sign).encode(), signed.signature.encode()):
        raise _mismatch(s3, credential, signed, canonical, to_sign)


_LARGEST = 128 * 1024 * 1024


def check_expiry(request: Request, signed: Signed, now: float) -> None:
    """Raises AwsError when a presigned URL is not valid yet, or no longer."""
    if signed.kind != "query":
        return
    parameters = dict(parse_qsl(request.query, keep_blank_values=True))
    try:
        signed_at = datetime.strptime(parameters.get("X-Amz-Date", ""), _FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise AwsError(
            "AuthorizationQueryParametersError",
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        ) from None
    text = parameters.get("X-Amz-Expires", "900" if signed.service != "s3" else "")
    if not text.isdigit():
        raise AwsError("AuthorizationQueryParametersError", "X-Amz-Expires should be a number")
    if int(text) > _LONGEST:
        raise AwsError(
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            "604800 seconds",
        )
    if now > signed_at + int(text):
        raise AwsError(
            "AccessDenied",
            "Request has expired",
            status=403,
            Expires=_shown(signed_at + int(text)),
            ServerTime=_shown(now),
        )
    if signed_at > now + _S3_SKEW:
        raise AwsError("AccessDenied", "Request is not yet valid", status=403)


def check_body(request: Request) -> None:
    """Raises AwsError when a body that was read is not the one whose hash was signed."""
    claimed = request.headers.get("x-amz-content-sha256")
    if claimed is None or len(claimed) != 64 or request.body is None:
        return
    actual = hashlib.sha256(request.body).hexdigest() if request.body else EMPTY_HASH
    if actual != claimed:
        raise wrong_hash(claimed, actual)


def wrong_hash(claimed: str, actual: str) -> AwsError:
    """The body is not the one that was signed."""
    return AwsError(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        status=400,
        ClientComputedContentSHA256=claimed,
        S3ComputedContentSHA256=actual,
    )


def _check_time(request: Request, now: float, s3: bool) -> str:
    """The request's timestamp. Raises AwsError when the client's clock is too far off."""
    timestamp = request.headers.get("x-amz-date")
    if timestamp is None and "date" in request.headers:
        try:
            date = parsedate_to_datetime(request.headers["date"])
            timestamp = date.astimezone(UTC).strftime(_FORMAT)
        except (TypeError, ValueError):
            timestamp = None
    try:
        signed_at = datetime.strptime(timestamp or "", _FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        words = "AWS authentication requires a valid Date or x-amz-date header"
        if s3:
            raise AwsError("AccessDenied", words, status=403) from None
        raise AwsError(
            "IncompleteSignature",
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
            status=400,
        ) from None
    assert timestamp is not None
    if s3 and abs(now - signed_at) > _S3_SKEW:
        raise AwsError(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            status=403,
            RequestTime=timestamp,
            ServerTime=_shown(now),
        )
    if not s3 and now - signed_at > _SKEW:
        earliest = datetime.fromtimestamp(now - _SKEW, UTC).strftime(_FORMAT)
        current = datetime.fromtimestamp(now, UTC).strftime(_FORMAT)
        words = f"Signature expired: {timestamp} is now earlier than {earliest} ({current} - 5 min.)"
        raise AwsError("SignatureDoesNotMatch", words, status=403)
    if not s3 and signed_at - now > _SKEW:
        latest = datetime.fromtimestamp(now + _SKEW, UTC).strftime(_FORMAT)
        current = datetime.fromtimestamp(now, UTC).strftime(_FORMAT)
        words = f"Signature not yet current: {timestamp} is still later than {latest} ({current} + 5 min.)"
        raise AwsError("SignatureDoesNotMatch", words, status=403)
    return timestamp


def _mismatch(s3: bool, credential: Credential, signed: Signed, canonical: str, to_sign: str) -> AwsError:
    if s3:
        return AwsError(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
            status=403,
            AWSAccessKeyId=credential.access_key,
            StringToSign=to_sign,
            SignatureProvided=signed.signature,
            CanonicalRequest=canonical,
        )
    words = (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details."
    )
    queries = ("iam", "sts", "sns", "cloudformation")
    code = "SignatureDoesNotMatch" if signed.service in queries else "InvalidSignatureException"
    return AwsError(code, words, status=403)


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
