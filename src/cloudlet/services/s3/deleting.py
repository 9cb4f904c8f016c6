"""Objects deleted: one version, one object, or many."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import conditions, locks, records
from cloudlet.services.s3.buckets import malformed_xml
from cloudlet.services.s3.contents import Files
from cloudlet.services.s3.keys import check_key, check_version, no_such_key
from cloudlet.services.s3.records import NULL, Bucket, Stored
from cloudlet.services.s3.writing import Writing
from cloudlet.store import Tx

_MOST_DELETED = 1000


class Deleting(Writing):
    """The operations that delete objects."""

    async def DeleteObject(self, call: Call, input: Input) -> Output:
        """Delete a version for good, or the object; with versioning the latter puts a delete marker over it."""
        found = self.find(call, input, "s3:DeleteObject")

        def delete(tx: Tx) -> tuple[Output, Files, bool]:
            bucket = self.still(tx, input["Bucket"], found)
            return self.delete_in(tx, call, input, bucket, check_key(input["Key"]), input.get("VersionId"))

        output, freed, told = await self.db.write(delete)
        self.contents.discard(freed)
        if told:
            self.outbox.wake()
        return output

    async def DeleteObjects(self, call: Call, input: Input) -> Output:
        """Delete up to 1000 objects; each fails on its own."""
        found = self.find(call, input, "s3:DeleteObject")
        wanted = input["Delete"]["Objects"]
        if not 1 <= len(wanted) <= _MOST_DELETED:
            raise malformed_xml()
        quiet = input["Delete"].get("Quiet", False)

        def delete(tx: Tx) -> tuple[Output, Files, bool]:
            bucket = self.still(tx, input["Bucket"], found)
            deleted: list[dict[str, Any]] = []
            errors: list[dict[str, Any]] = []
            freed: Files = []
            told = False
            for one in wanted:
                key, version = one["Key"], one.get("VersionId")
                named = {"Key": key, "VersionId": version} if version is not None else {"Key": key}
                conditional = {
                    **({"IfMatch": one["ETag"]} if "ETag" in one else {}),
                    **({"IfMatchLastModifiedTime": one["LastModifiedTime"]} if "LastModifiedTime" in one else {}),
                    **({"IfMatchSize": one["Size"]} if "Size" in one else {}),
                }
                try:
                    asked = {**conditional, "Bucket": input["Bucket"]}
                    if "BypassGovernanceRetention" in input:
                        asked["BypassGovernanceRetention"] = input["BypassGovernanceRetention"]
                    output, loose, tells = self.delete_in(tx, call, asked, bucket, check_key(key), version)
                except AwsError as error:
                    errors.append({**named, "Code": error.code, "Message": error.message})
                    continue
                freed += loose
                told = told or tells
                if output.get("DeleteMarker"):
                    named["DeleteMarker"] = True
                    named["DeleteMarkerVersionId"] = output["VersionId"]
                deleted.append(named)
            result: Output = {} if quiet else {"Deleted": deleted}
            return ({**result, "Errors": errors} if errors else result), freed, told

        output, freed, told = await self.db.write(delete, long=len(wanted) > 20)
        self.contents.discard(freed)
        if told:
            self.outbox.wake()
        return output

    def delete_in(
        self, tx: Tx, call: Call, input: Input, bucket: Bucket, key: str, version: str | None
    ) -> tuple[Output, Files, bool]:
        """Delete within a transaction: the answer, the files that became loose, and whether somebody is to be told."""
        if "IfMatch" in input or "IfMatchLastModifiedTime" in input or "IfMatchSize" in input:
            _check_delete(input, key, records.current_head(tx, bucket.id, key))
        tells = "notification" in bucket.settings
        name = input["Bucket"]
        if version is not None:
            check_version(version)
            stored = records.versioned(tx, bucket.id, key, version)
            if stored is None:
                return {"VersionId": version} if bucket.versioning else {}, [], False
            locks.check(stored, self.clock.now(), bool(input.get("BypassGovernanceRetention")))
            freed = records.remove(tx, bucket.id, key, version)
            records.promote(tx, bucket.id, key)
            told = tells and self.announce(tx, call, name, bucket, "ObjectRemoved:Delete", stored)
            output: Output = {"VersionId": version}
            if stored.is_marker:
                output["DeleteMarker"] = True
            return output, freed, told
        if not bucket.versioning:
            old = records.current_head(tx, bucket.id, key) if tells else None
            freed = records.delete_current(tx, bucket.id, key)
            told = old is not None and self.announce(tx, call, name, bucket, "ObjectRemoved:Delete", old)
            return {}, freed, told
        marker = self.marker(bucket, key)
        if marker.version == NULL:
            locks.check(records.versioned(tx, bucket.id, key, NULL), self.clock.now(), False)
        freed = records.mark_deleted(tx, bucket, marker)
        told = tells and self.announce(tx, call, name, bucket, "ObjectRemoved:DeleteMarkerCreated", marker)
        return {"DeleteMarker": True, "VersionId": marker.version}, freed, told

    def marker(self, bucket: Bucket, key: str) -> Stored:
        """A new delete marker."""
        version = records.new_version() if bucket.versioning == "Enabled" else NULL
        now = int(self.clock.now())
        return Stored(
            bucket.id, key, self.next_seq(), version, now, None, None, "", "STANDARD", b"{}", *(None,) * 6
        )  # fmt: skip


def _check_delete(input: Input, key: str, stored: Stored | None) -> None:
    if stored is None:
        raise no_such_key(key)
    if "IfMatch" in input:
        conditions.check_write(input["IfMatch"], None, stored.key, stored.etag)
    if input.get("IfMatchSize", stored.size) != stored.size:
        raise conditions.precondition_failed("x-amz-if-match-size")
    if int(input.get("IfMatchLastModifiedTime", stored.modified)) != stored.modified:
        raise conditions.precondition_failed("x-amz-if-match-last-modified-time")
