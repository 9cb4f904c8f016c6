"""The operations of access control lists."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import acl, records
from cloudlet.services.s3.acl import Grants
from cloudlet.services.s3.buckets import owner
from cloudlet.services.s3.notifications import Notifications
from cloudlet.services.s3.reading import Reading
from cloudlet.services.s3.records import Bucket
from cloudlet.store import Tx


class Acls(Reading, Notifications):
    """The lists of buckets and of versions."""

    async def GetBucketAcl(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        return {"Owner": owner(bucket.account), "Grants": bucket.settings.get("acl") or acl.private(bucket.account)}

    async def PutBucketAcl(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        grants = acl.asked(input, bucket.account)
        if grants is None:
            raise AwsError("MissingSecurityHeader", "Your request was missing a required header")
        if input.get("ACL") != "private" and acl.enforced(bucket):
            raise AwsError("AccessControlListNotSupported", "The bucket does not allow ACLs")
        if not acl.enforced(bucket):
            acl.check_allowed(bucket, input, grants)
        await self._set_grants(call, input, grants)
        return {}

    async def _set_grants(self, call: Call, input: Input, grants: Grants) -> None:
        def change(bucket: Bucket) -> Bucket:
            return replace(bucket, settings={**bucket.settings, "acl": grants})

        await self.change_bucket(call, input, change)

    async def GetObjectAcl(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, "s3:GetObjectAcl")
        stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=False))
        grants = msgspec.json.decode(stored.acl) if stored.acl is not None else acl.private(bucket.account)
        return {"Owner": owner(bucket.account), "Grants": grants}

    async def PutObjectAcl(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        grants = acl.asked(input, bucket.account)
        if grants is None:
            raise AwsError("MissingSecurityHeader", "Your request was missing a required header")
        acl.check_allowed(bucket, input, grants)

        def write(tx: Tx) -> bool:
            stored = self.look_up(tx, call, bucket, input, whole=False)
            records.change(tx, stored, "acl", msgspec.json.encode(grants))
            return "notification" in bucket.settings and self.announce(
                tx, call, input["Bucket"], bucket, "ObjectAcl:Put", stored
            )

        if await self.db.write(write):
            self.outbox.wake()
        return {}
