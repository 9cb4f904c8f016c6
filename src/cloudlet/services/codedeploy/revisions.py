"""Application revisions: where an AppSpec file is to be found, and when it was used."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.codedeploy.base import few, page
from cloudlet.services.codedeploy.groups import Groups
from cloudlet.services.codedeploy.records import Revision
from cloudlet.store import Tx

_MEMBERS = {"S3": "s3Location", "GitHub": "gitHubLocation", "String": "string", "AppSpecContent": "appSpecContent"}
_SORTS = {"registerTime": "registered", "firstUsedTime": "first_used", "lastUsedTime": "last_used"}


class Revisions(Groups):
    """The operations on them."""

    async def RegisterApplicationRevision(self, call: Call, input: Input) -> Output:
        name, location = input["applicationName"], checked_location(input["revision"])
        now, words = self.clock.now(), input.get("description", "")

        def work(tx: Tx) -> None:
            self.application(call, name, tx)
            key = _key(name, location)
            known = self.revisions.get(call.scope, key, tx)
            made = replace(known.value, description=words) if known else Revision(location, now, words)
            self.revisions.put(tx, call.scope, key, made)

        await self.db.write(work)
        return {}

    async def GetApplicationRevision(self, call: Call, input: Input) -> Output:
        name, location = input["applicationName"], checked_location(input["revision"])
        self.application(call, name)
        record = self.revisions.get(call.scope, _key(name, location))
        if record is None:
            words = "The specified revision is not registered with the application."
            raise AwsError("RevisionDoesNotExistException", words)
        found = record.value
        return {"applicationName": name, "revision": found.location, "revisionInfo": _info(found)}

    async def BatchGetApplicationRevisions(self, call: Call, input: Input) -> Output:
        name = input["applicationName"]
        self.application(call, name)
        keys = [_key(name, checked_location(one)) for one in few(input["revisions"], 25)]
        records = [self.revisions.get(call.scope, key) for key in keys]
        found = [
            {"revisionLocation": one.value.location, "genericRevisionInfo": _info(one.value)} for one in records if one
        ]
        missing = {"errorMessage": "Some revisions are not registered with the application."}
        return {"applicationName": name, "revisions": found, **(missing if len(found) < len(keys) else {})}

    async def ListApplicationRevisions(self, call: Call, input: Input) -> Output:
        name, deployed = input["applicationName"], input.get("deployed", "ignore")
        self.application(call, name)
        if "s3KeyPrefix" in input and "s3Bucket" not in input:
            raise AwsError("BucketNameFilterRequiredException", "A bucket name is required with a key prefix.")
        found = [record.value for record in self.revisions.list(call.scope, f"{name}/")]
        if deployed != "ignore":
            in_use = [group.value.revision for group in self.groups.list(call.scope, f"{name}/")]
            found = [one for one in found if (one.location in in_use) == (deployed == "include")]
        if "s3Bucket" in input:
            bucket, prefix = input["s3Bucket"], input.get("s3KeyPrefix", "")
            places = [(one, one.location.get("s3Location", {})) for one in found]
            found = [
                one
                for one, place in places
                if place.get("bucket") == bucket and place.get("key", "").startswith(prefix)
            ]
        by = _SORTS[input.get("sortBy", "registerTime")]
        found.sort(key=lambda one: getattr(one, by), reverse=input.get("sortOrder") == "descending")
        return page("revisions", [one.location for one in found], input)

    def use_revision(self, tx: Tx, scope: str, application: str, location: dict[str, Any], group: str) -> None:
        """Note that a revision is deployed, and register it if nobody has."""
        key, now = _key(application, location), self.clock.now()
        known = self.revisions.get(scope, key, tx)
        one = known.value if known is not None else Revision(location, now)
        groups = tuple(sorted({*one.groups, group}))
        self.revisions.put(tx, scope, key, replace(one, first_used=one.first_used or now, last_used=now, groups=groups))


def checked_location(given: dict[str, Any]) -> dict[str, Any]:
    """Where a revision is, with the digest of its text. Raises InvalidRevisionException, RevisionRequiredException."""
    kind = given.get("revisionType") or next((kind for kind, member in _MEMBERS.items() if member in given), "")
    if not kind or not given.get(_MEMBERS[kind]):
        raise AwsError("RevisionRequiredException", "Revision is required")
    if kind == "GitHub":
        raise not_implemented("CodeDeploy with revisions in GitHub")
    place = dict(given[_MEMBERS[kind]])
    if kind == "S3":
        if not place.get("bucket") or not place.get("key") or not place.get("bundleType"):
            raise AwsError("InvalidRevisionException", "An S3 revision must have a bucket, a key and a bundle type.")
    else:
        digest = hashlib.sha256(place.get("content", "").encode()).hexdigest()
        if place.setdefault("sha256", digest) != digest:
            raise AwsError("InvalidRevisionException", "The SHA-256 of the content does not match the one given.")
    return {"revisionType": kind, _MEMBERS[kind]: place}


def _key(application: str, location: dict[str, Any]) -> str:
    return f"{application}/{hashlib.sha256(json.dumps(location, sort_keys=True).encode()).hexdigest()}"


def _info(one: Revision) -> dict[str, Any]:
    used = {"firstUsedTime": one.first_used, "lastUsedTime": one.last_used} if one.first_used else {}
    words = {"description": one.description} if one.description else {}
    return {"registerTime": one.registered, "deploymentGroups": list(one.groups), **used, **words}
