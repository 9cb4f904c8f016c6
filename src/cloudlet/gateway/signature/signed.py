"""What a request says of its signature: read on every request, verified only where it counts."""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Request

_ALGORITHM = "AWS4-HMAC-SHA256"


class Signed(msgspec.Struct, frozen=True):
    """The parts of a signature. ``kind`` is header, query (a presigned URL) or v2 (the scheme before this one)."""

    kind: str
    access_key: str
    date: str = ""  # of the scope, YYYYMMDD
    region: str = ""
    service: str = ""
    headers: tuple[str, ...] = ()
    signature: str = ""


def read(request: Request) -> Signed | None:
    """The signature of a request, or None when it has none. Raises IncompleteSignature for a malformed one."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        if authorization.startswith(_ALGORITHM):
            return _header(authorization)
        if authorization.startswith("AWS "):
            return Signed("v2", authorization[4:].partition(":")[0])
        if authorization.startswith("AWS4-ECDSA-P256-SHA256"):
            raise AwsError("NotImplemented", "Cloudlet does not implement signatures of version 4a.", status=501)
        return None
    if "X-Amz-Signature=" in request.query or "X-Amz-Credential=" in request.query:
        return _query(request)
    if "AWSAccessKeyId=" in request.query and "Signature=" in request.query:
        return Signed("v2", dict(parse_qsl(request.query)).get("AWSAccessKeyId", ""))
    return None


def _header(authorization: str) -> Signed:
    parts = {}
    for part in authorization[len(_ALGORITHM) :].split(","):
        name, _, value = part.strip().partition("=")
        parts[name] = value
    for name in ("Credential", "Signature", "SignedHeaders"):
        if not parts.get(name):
            raise _incomplete(f"Authorization header requires '{name}' parameter.", authorization)
    key, date, region, service = _scope(parts["Credential"], authorization)
    headers = tuple(parts["SignedHeaders"].lower().split(";"))
    return Signed("header", key, date, region, service, headers, parts["Signature"])


def _query(request: Request) -> Signed:
    parts = dict(parse_qsl(request.query, keep_blank_values=True))
    if parts.get("X-Amz-Algorithm", _ALGORITHM) != _ALGORITHM:
        raise AwsError(
            "AuthorizationQueryParametersError",
            'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"',
        )
    for name in ("X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"):
        if not parts.get(name):
            raise AwsError(
                "AuthorizationQueryParametersError",
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
                "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            )
    key, date, region, service = _scope(parts["X-Amz-Credential"], parts["X-Amz-Credential"])
    headers = tuple(parts["X-Amz-SignedHeaders"].lower().split(";"))
    return Signed("query", key, date, region, service, headers, parts["X-Amz-Signature"])


def _scope(credential: str, shown: str) -> tuple[str, str, str, str]:
    # An access key may hold slashes; the scope behind it has four parts.
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.", shown
        )
    return parts[0], parts[1], parts[2], parts[3]


def _incomplete(words: str, shown: str) -> AwsError:
    return AwsError("IncompleteSignature", f"{words} (got '{shown[:200]}')", status=400)
