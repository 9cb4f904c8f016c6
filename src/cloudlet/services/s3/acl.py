"""Access control lists: canned, in headers, in documents. Stored and shown; only what is public has an effect."""

from __future__ import annotations

import re
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Input
from cloudlet.services.s3 import policy
from cloudlet.services.s3.buckets import access_denied, malformed_xml, owner
from cloudlet.services.s3.records import Bucket

Grants = list[dict[str, Any]]

_GROUPS = "http://acs.amazonaws.com/groups/"
_EVERYONE = f"{_GROUPS}global/AllUsers"
_AUTHENTICATED = f"{_GROUPS}global/AuthenticatedUsers"
_LOG_DELIVERY = f"{_GROUPS}s3/LogDelivery"
# Canned name -> what it grants beside the owner's full control.
_CANNED: dict[str, list[tuple[str, str]]] = {
    "private": [],
    "public-read": [(_EVERYONE, "READ")],
    "public-read-write": [(_EVERYONE, "READ"), (_EVERYONE, "WRITE")],
    "authenticated-read": [(_AUTHENTICATED, "READ")],
    "log-delivery-write": [(_LOG_DELIVERY, "WRITE"), (_LOG_DELIVERY, "READ_ACP")],
    "bucket-owner-read": [],
    "bucket-owner-full-control": [],
    "aws-exec-read": [],
}
# What a permission in a bucket's list lets its grantee do: the actions that policies call it by.
GIVEN_BY = {
    "s3:GetBucketAcl": "READ_ACP",
    "s3:ListBucket": "READ",
    "s3:ListBucketMultipartUploads": "READ",
    "s3:ListBucketVersions": "READ",
}
_HEADERS = {
    "GrantFullControl": "FULL_CONTROL",
    "GrantRead": "READ",
    "GrantReadACP": "READ_ACP",
    "GrantWrite": "WRITE",
    "GrantWriteACP": "WRITE_ACP",
}
_PERMISSIONS = frozenset(_HEADERS.values())
_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*"?([^",]+)"?\s*\Z')


def asked(input: Input, account: str) -> Grants | None:
    """The grants that a request asks for in any of the three ways; None when it asks for none."""
    canned = input.get("ACL")
    headers = sorted(_HEADERS.keys() & input.keys())
    if canned is not None and headers:
        raise AwsError("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
    if canned is not None:
        if canned not in _CANNED:
            raise AwsError("InvalidArgument", "", ArgumentName="x-amz-acl", ArgumentValue=canned)
        return [*private(account), *(_to_group(group, permission) for group, permission in _CANNED[canned])]
    if headers:
        return [
            {"Grantee": _grantee(item), "Permission": _HEADERS[member]}
            for member in headers
            for item in input[member].split(",")
        ]
    if (document := input.get("AccessControlPolicy")) is not None and document:
        grants: Grants = document.get("Grants", [])
        for grant in grants:
            if grant.get("Permission") not in _PERMISSIONS or "Type" not in grant.get("Grantee", {}):
                raise malformed_xml()
        return grants
    return None


def private(account: str) -> Grants:
    """The grants of what only its owner may use."""
    return [{"Grantee": {**owner(account), "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}]


def _to_group(group: str, permission: str) -> dict[str, Any]:
    return {"Grantee": {"Type": "Group", "URI": group}, "Permission": permission}


def _grantee(text: str) -> dict[str, str]:
    found = _GRANTEE.match(text)
    if found is None:
        raise AwsError("InvalidArgument", "Argument format not recognized", ArgumentValue=text)
    kind, value = found.groups()
    if kind == "uri":
        return {"Type": "Group", "URI": value}
    if kind == "id":
        return {"Type": "CanonicalUser", "ID": value}
    raise AwsError(
        "UnresolvableGrantByEmailAddress", "The e-mail address you provided does not match any account on record."
    )


def public(grants: Grants, permission: str) -> bool:
    """Whether everyone has a permission."""
    return any(
        grant["Grantee"].get("URI") == _EVERYONE and grant["Permission"] in (permission, "FULL_CONTROL")
        for grant in grants
    )


def check_allowed(bucket: Bucket, input: Input, grants: Grants | None) -> None:
    """Refuse grants that the bucket's ownership or its public access block does not let in."""
    if grants is None or input.get("ACL") == "bucket-owner-full-control":
        return
    if enforced(bucket):
        raise AwsError("AccessControlListNotSupported", "The bucket does not allow ACLs")
    if policy.blocks(bucket, "BlockPublicAcls") and any(
        grant["Grantee"].get("URI") in (_EVERYONE, _AUTHENTICATED) for grant in grants
    ):
        raise access_denied()


def enforced(bucket: Bucket) -> bool:
    """Whether the bucket's owner owns everything in it, so that lists have no meaning."""
    controls = bucket.settings.get("ownership")
    return (
        controls is not None and controls["OwnershipControls"]["Rules"][0]["ObjectOwnership"] == "BucketOwnerEnforced"
    )
