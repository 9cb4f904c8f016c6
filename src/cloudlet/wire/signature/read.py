"""The signature as it stands in a request: parsed, not yet believed."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.http import Request
from cloudlet.wire.signature.refusals import S3_NAMES, refuse

ALGORITHM = "AWS4-HMAC-SHA256"
_HEADER = re.compile(
    rf"{ALGORITHM} +Credential=([^/,\s]+)/(\d{{8}})/([^/,\s]+)/([^/,\s]+)/aws4_request, *"
    r"SignedHeaders=([^,\s]+), *Signature=([^,\s]+)\s*\Z"
)
_QUERY_MEMBERS = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")


class Signed(msgspec.Struct, frozen=True):
    """Who says to have signed a request, and for what.

    ``kind`` is ``header``, ``query`` (presigned) or ``post`` (a form). ``date`` is the scope's day; without one it is a
    signature of version 2, as boto3 still makes for presigned URLs and forms of S3. ``timestamp`` is filled in only
    where it is not in a header. ``expires`` is in seconds after that, in version 2 in seconds since the epoch.
    """

    access_key: str
    date: str
    region: str
    service: str
    kind: str
    signed_headers: str = ""
    signature: str = ""
    timestamp: str = ""
    expires: str = ""


def read(request: Request) -> Signed | None:
    """The signature of a request, None when it has none. Raises IncompleteSignature and its like."""
    header = request.headers.get("authorization")
    if header is not None:
        if found := _HEADER.match(header):
            key, date, region, service, names, signature = found.groups()
            return Signed(key, date, region, service, "header", names, signature)
        if header.startswith("AWS"):
            return _read_unusual(header)
    query = request.query
    if query:
        if "X-Amz-" in query and ("X-Amz-Signature=" in query or "X-Amz-Credential=" in query):
            return _read_query(query)
        if "AWSAccessKeyId=" in query and "Signature=" in query:
            return _read_query_2(query)
    return None


def _read_unusual(header: str) -> Signed:
    """An Authorization header that is not written as SDKs write it, or is not ours to verify."""
    algorithm, _, rest = header.partition(" ")
    if algorithm.startswith("AWS4-ECDSA-P256-SHA256"):
        raise not_implemented("signatures of version 4A (AWS4-ECDSA-P256-SHA256)")
    if algorithm != ALGORITHM:
        raise AwsError(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            status=400,
        )
    members = dict(part.strip().partition("=")[::2] for part in rest.split(",") if "=" in part)
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not members.get(name)]
    if missing:
        reasons = " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        raise AwsError("IncompleteSignature", f"{reasons} Authorization={header}", status=400)
    key, date, region, service = read_scope(members["Credential"])
    return Signed(key, date, region, service, "header", members["SignedHeaders"], members["Signature"])


def _read_query(query: str) -> Signed:
    members = dict(parse_qsl(query, keep_blank_values=True))
    credential = members.get("X-Amz-Credential", "")
    of_s3 = credential.split("/")[-2:-1] in [[name] for name in S3_NAMES]
    if members.get("X-Amz-Algorithm", ALGORITHM).startswith("AWS4-ECDSA-P256-SHA256"):
        raise not_implemented("signatures of version 4A (AWS4-ECDSA-P256-SHA256)")
    wanted = (*_QUERY_MEMBERS, "X-Amz-Expires") if of_s3 else _QUERY_MEMBERS
    if missing := [name for name in wanted if not members.get(name)]:
        if of_s3:
            raise AwsError(
                "AuthorizationQueryParametersError",
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
                "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
                status=400,
            )
        reasons = " ".join(f"AWS query-string parameters must include '{name}'." for name in missing)
        raise AwsError("IncompleteSignature", f"{reasons} Re-examine the query-string parameters.", status=400)
    if members["X-Amz-Algorithm"] != ALGORITHM:
        if of_s3:
            raise AwsError(
                "AuthorizationQueryParametersError",
                'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"',
                status=400,
            )
        raise AwsError("IncompleteSignature", f"Unsupported AWS 'algorithm': '{members['X-Amz-Algorithm']}'.")
    key, date, region, service = read_scope(credential)
    expires = members.get("X-Amz-Expires", "")
    if expires and not (expires.isdigit() and int(expires) <= 604800):
        reason = (
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            "604800 seconds"
            if expires.isdigit()
            else "X-Amz-Expires should be a number"
        )
        raise AwsError("AuthorizationQueryParametersError", reason, status=400)
    return Signed(
        key,
        date,
        region,
        service,
        "query",
        members["X-Amz-SignedHeaders"],
        members["X-Amz-Signature"],
        members["X-Amz-Date"],
        expires,
    )


def _read_query_2(query: str) -> Signed:
    members = dict(parse_qsl(query, keep_blank_values=True))
    expires = members.get("Expires", "")
    if not expires.isdigit() or not members.get("AWSAccessKeyId") or not members.get("Signature"):
        raise AwsError(
            "AccessDenied",
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
            status=403,
        )
    return Signed(members["AWSAccessKeyId"], "", "", "s3", "query", signature=members["Signature"], expires=expires)


def read_scope(credential: str) -> tuple[str, str, str, str]:
    """Access key, day, region and service of ``Credential=``. Raises IncompleteSignature."""
    parts = credential.rsplit("/", 4)
    if (
        len(parts) != 5
        or parts[4] != "aws4_request"
        or not all(parts)
        or not (len(parts[1]) == 8 == len(parts[1].strip()))
    ):
        raise AwsError(
            "IncompleteSignature",
            "Credential must have exactly 5 slash-delimited elements, "
            f"e.g. keyid/date/region/service/term, got '{credential}'",
            status=400,
        )
    if not parts[1].isdigit():
        raise refuse(parts[3], "incomplete", f"Invalid date in Credential scope: '{parts[1]}'.")
    return parts[0], parts[1], parts[2], parts[3]
