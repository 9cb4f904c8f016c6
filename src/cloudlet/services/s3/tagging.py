"""The tags of versions."""

from __future__ import annotations

import msgspec

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import records
from cloudlet.services.s3.keys import method_not_allowed
from cloudlet.services.s3.notifications import Notifications
from cloudlet.services.s3.reading import Reading
from cloudlet.services.s3.records import Bucket, Stored
from cloudlet.services.s3.tags import Tags, check_tags
from cloudlet.store import Tx

_MOST = 10


class ObjectTags(Reading, Notifications):
    """The operations on tags of versions."""

    async def GetObjectTagging(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, "s3:GetObjectTagging")
        stored = await self.db.read(lambda tx: self._bearer(tx, call, bucket, input))
        tags = msgspec.json.decode(stored.tags, type=Tags) if stored.tags is not None else []
        return {"TagSet": tags, **({"VersionId": stored.version} if bucket.versioning else {})}

    async def PutObjectTagging(self, call: Call, input: Input) -> Output:
        tags = input["Tagging"]["TagSet"]
        check_tags(tags, _MOST)
        return await self._change_tags(call, input, msgspec.json.encode(tags) if tags else None, "ObjectTagging:Put")

    async def DeleteObjectTagging(self, call: Call, input: Input) -> Output:
        return await self._change_tags(call, input, None, "ObjectTagging:Delete")

    def _bearer(self, tx: Tx, call: Call, bucket: Bucket, input: Input) -> Stored:
        """The version that the tags are of; a delete marker has none, be it named or the newest. Raises as S3 does."""
        newest = records.latest(tx, bucket.id, input["Key"]) if "VersionId" not in input else None
        if newest is not None and newest.is_marker and records.current_head(tx, bucket.id, input["Key"]) is None:
            raise method_not_allowed(call.request.method if call.request is not None else "GET", "DeleteMarker")
        return self.look_up(tx, call, bucket, input, whole=False)

    async def _change_tags(self, call: Call, input: Input, tags: bytes | None, event: str) -> Output:
        bucket = self.find(call, input)

        def write(tx: Tx) -> tuple[str, bool]:
            stored = self._bearer(tx, call, bucket, input)
            records.change(tx, stored, "tags", tags)
            tells = "notification" in bucket.settings
            return stored.version, tells and self.announce(tx, call, input["Bucket"], bucket, event, stored)

        version, told = await self.db.write(write)
        if told:
            self.outbox.wake()
        return {"VersionId": version} if bucket.versioning else {}
