"""The tags of versions."""

from __future__ import annotations

import msgspec

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import records
from cloudlet.services.s3.notifications import Notifications
from cloudlet.services.s3.reading import Reading
from cloudlet.services.s3.tags import Tags, check_tags
from cloudlet.store import Tx

_MOST = 10


class ObjectTags(Reading, Notifications):
    """The operations on tags of versions."""

    async def GetObjectTagging(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, "s3:GetObjectTagging")
        stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=False))
        tags = msgspec.json.decode(stored.tags, type=Tags) if stored.tags is not None else []
        return {"TagSet": tags, **({"VersionId": stored.version} if bucket.versioning else {})}

    async def PutObjectTagging(self, call: Call, input: Input) -> Output:
        tags = input["Tagging"]["TagSet"]
        check_tags(tags, _MOST)
        return await self._change_tags(call, input, msgspec.json.encode(tags) if tags else None, "ObjectTagging:Put")

    async def DeleteObjectTagging(self, call: Call, input: Input) -> Output:
        return await self._change_tags(call, input, None, "ObjectTagging:Delete")

    async def _change_tags(self, call: Call, input: Input, tags: bytes | None, event: str) -> Output:
        bucket = self.find(call, input)

        def write(tx: Tx) -> tuple[str, bool]:
            stored = self.look_up(tx, call, bucket, input, whole=False)
            records.change(tx, stored, "tags", tags)
            tells = "notification" in bucket.settings
            return stored.version, tells and self.announce(tx, call, input["Bucket"], bucket, event, stored)

        version, told = await self.db.write(write)
        if told:
            self.outbox.wake()
        return {"VersionId": version} if bucket.versioning else {}
