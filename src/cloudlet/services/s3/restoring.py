"""Archived objects made readable for some days. On one machine that takes no time."""

from __future__ import annotations

from email.utils import formatdate

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import lifecycle_rules, records
from cloudlet.services.s3.buckets import malformed_xml
from cloudlet.services.s3.notifications import Notifications
from cloudlet.services.s3.reading import ARCHIVED, Reading
from cloudlet.store import Tx

_TIERS = ("Standard", "Bulk", "Expedited")


class Restoring(Reading, Notifications):
    """RestoreObject."""

    async def RestoreObject(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        asked = input.get("RestoreRequest") or {}
        for name in ("Type", "SelectParameters", "OutputLocation"):
            if name in asked:
                raise not_implemented(f"RestoreObject with {name}")
        days = asked.get("Days", 0)
        if days < 1 or asked.get("GlacierJobParameters", {}).get("Tier", "Standard") not in _TIERS:
            raise malformed_xml()
        now = self.clock.now()
        until = lifecycle_rules.midnight_after(now, days)

        def write(tx: Tx) -> tuple[bool, bool]:
            stored = self.look_up(tx, call, bucket, input, whole=False)
            if stored.storage not in ARCHIVED:
                raise AwsError(
                    "InvalidObjectState",
                    "Restore is not allowed for the object's current storage class",
                    status=403,
                    StorageClass=stored.storage,
                )
            info = msgspec.json.decode(stored.info)
            known = info.get("RestoredUntil", 0) > now
            info["Restore"] = f'ongoing-request="false", expiry-date="{formatdate(until, usegmt=True)}"'
            info["RestoredUntil"] = until
            records.change(tx, stored, "info", msgspec.json.encode(info))
            told = False
            if "notification" in bucket.settings and not known:
                for event in ("ObjectRestore:Post", "ObjectRestore:Completed"):
                    told = self.announce(tx, call, input["Bucket"], bucket, event, stored) or told
            return known, told

        known, told = await self.db.write(write)
        if told:
            self.outbox.wake()
        return {"StatusCode": 200 if known else 202}
