"""Lifecycle: what a bucket's rules say is over is deleted, once a day at midnight UTC as AWS does it."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import lifecycle_rules, locks, records, uploads
from cloudlet.services.s3.buckets import malformed_xml
from cloudlet.services.s3.configurations import configuration_get
from cloudlet.services.s3.contents import Files
from cloudlet.services.s3.deleting import Deleting
from cloudlet.services.s3.lifecycle_rules import DAY, EXPIRE, REMOVE, History, Rule
from cloudlet.services.s3.records import EVERYWHERE, NULL, Bucket, Stored
from cloudlet.store import Record, Tx

_CHUNK = 200  # rows that are looked at, or versions that are deleted, in one go
_MOST_RULES = 1000
_ACTIONS = (
    "Expiration",
    "Transitions",
    "NoncurrentVersionTransitions",
    "NoncurrentVersionExpiration",
    "AbortIncompleteMultipartUpload",
)


class Lifecycle(Deleting):
    """The operations on a bucket's rules, and the carrying out."""

    _timer: Timer | None = None
    _sweeping: asyncio.Task[Any] | None = None
    _due = False

    GetBucketLifecycleConfiguration = configuration_get(
        "lifecycle", missing=("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
    )

    async def PutBucketLifecycleConfiguration(self, call: Call, input: Input) -> Output:
        rules = input.get("LifecycleConfiguration", {}).get("Rules", [])
        if not rules or len(rules) > _MOST_RULES:
            raise malformed_xml()
        for rule in rules:
            rule.setdefault("ID", secrets.token_urlsafe(36))
            _check(rule)
        if len({rule["ID"] for rule in rules}) < len(rules):
            raise AwsError("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
        size = input.get("TransitionDefaultMinimumObjectSize", "all_storage_classes_128K")
        members = {"Rules": rules, "TransitionDefaultMinimumObjectSize": size}
        await self.set(call, input, "lifecycle", members)
        self._arm()
        return {"TransitionDefaultMinimumObjectSize": size}

    async def DeleteBucketLifecycle(self, call: Call, input: Input) -> Output:
        await self.set(call, input, "lifecycle", None)
        return {}

    async def start_lifecycle(self) -> None:
        """Carry out what became due while nobody ran, and every midnight from now on."""
        if any("lifecycle" in record.value.settings for record in self.buckets.all()):
            self._sweep_soon()

    def stop_lifecycle(self) -> None:
        """Nothing more happens by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        """Set the timer, where there is anything to do at all."""
        if self._timer is None:
            self._timer = self.clock.call_at(lifecycle_rules.next_midnight(self.clock.now()), self._rung)

    def _rung(self) -> None:
        self._timer = None
        self._sweep_soon()

    def _sweep_soon(self) -> None:
        self._due = True
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = self.cloud.spawn(self._sweep(), "s3 lifecycle")

    async def _sweep(self) -> None:
        while self._due:
            self._due = False
            for record in self.buckets.list(EVERYWHERE):
                if rules := lifecycle_rules.of(record.value):
                    self._arm()
                    await self._sweep_bucket(record, rules)

    async def _sweep_bucket(self, record: Record[Bucket], rules: list[Rule]) -> None:
        """Go through a bucket, a stretch of keys at a time, off the event loop."""
        bucket, now = record.value, self.clock.now()
        start, older = "", records.NEWEST
        history = History(bucket, rules, now)
        while True:
            rows = await self.db.scan(
                lambda tx, start=start, older=older: records.versions(  # type: ignore[misc]
                    tx, bucket.id, start, older, records.END, _CHUNK
                )
            )
            due = [found for stored in rows for found in history.due(stored)]
            if len(rows) < _CHUNK:
                due += history.end()
            if due:
                await self._expire(record.name, bucket, due)
            if len(rows) < _CHUNK:
                break
            start, older = rows[-1].key, rows[-1].seq
        await self._abort_old(record.name, bucket, rules, now)

    async def _expire(self, name: str, bucket: Bucket, due: list[tuple[Stored, str]]) -> None:
        call = Call(bucket.account, bucket.region, principal="s3.amazonaws.com")

        def delete(tx: Tx) -> tuple[Files, bool]:
            now = self.still(tx, name, bucket)
            tells = "notification" in now.settings
            freed: Files = []
            told = False
            for stored, what in due:
                found = records.versioned(tx, bucket.id, stored.key, stored.version)
                if found is None or found.seq != stored.seq:
                    continue
                event = "LifecycleExpiration:Delete"
                if what not in (EXPIRE, REMOVE):
                    records.change_storage(tx, found, what)
                    continue
                if what == EXPIRE and now.versioning:
                    if stored.version == NULL and now.versioning == "Suspended":
                        locks.check(found, self.clock.now(), False)
                    marker = self.marker(now, stored.key)
                    freed += records.mark_deleted(tx, now, marker)
                    event, found = "LifecycleExpiration:DeleteMarkerCreated", marker
                elif found.lock is not None and locks.of(found).forbids(self.clock.now(), False):
                    continue
                else:
                    freed += records.remove(tx, bucket.id, stored.key, stored.version)
                    records.promote(tx, bucket.id, stored.key)
                told = (tells and self.announce(tx, call, name, now, event, found)) or told
            return freed, told

        try:
            freed, told = await self.db.write(delete, long=True)
        except AwsError:
            return  # the bucket went meanwhile
        self.contents.discard(freed)
        if told:
            self.outbox.wake()

    async def _abort_old(self, name: str, bucket: Bucket, rules: list[Rule], now: float) -> None:
        """Abort the uploads that nobody finished in the days that a rule gives them."""
        aborting = [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]
        if not aborting:
            return

        def abort(tx: Tx) -> Files:
            self.still(tx, name, bucket)
            freed: Files = []
            for upload in uploads.open_ones(tx, bucket.id, "", "", ""):
                for rule in aborting:
                    days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
                    if lifecycle_rules.midnight_after(upload.started, days) <= now and upload.key.startswith(
                        lifecycle_rules.prefix_of(rule)
                    ):
                        freed += uploads.close(tx, upload, set())
                        break
            return freed

        try:
            self.contents.discard(await self.db.write(abort, long=True))
        except AwsError:
            return  # the bucket went meanwhile


def _check(rule: Rule) -> None:
    """Refuse a rule that S3 does not take."""
    if rule.get("Status") not in ("Enabled", "Disabled") or ("Prefix" in rule) == ("Filter" in rule):
        raise malformed_xml()
    if len(rule["ID"]) > 255:
        raise AwsError("InvalidArgument", "ID length should not exceed allowed limit of 255")
    filter = rule.get("Filter") or {}
    if len([name for name in filter if filter[name] is not None]) > 1:
        raise malformed_xml()
    if "And" in filter and len(filter["And"]) + max(0, len(filter["And"].get("Tags", [])) - 1) < 2:
        raise malformed_xml()
    if not any(action in rule for action in (*_ACTIONS, "Transition", "NoncurrentVersionTransition")):
        raise AwsError("InvalidRequest", "At least one action needs to be specified in a rule")
    expiration = rule.get("Expiration")
    if expiration is not None:
        if len(expiration) != 1:
            raise malformed_xml()
        if "Days" in expiration and expiration["Days"] <= 0:
            raise AwsError("InvalidArgument", "'Days' for Expiration action must be a positive integer")
        if "Date" in expiration and expiration["Date"] % DAY:
            raise AwsError("InvalidArgument", "'Date' must be at midnight GMT")
        tagged = "Tag" in filter or "Tags" in filter.get("And", {})
        if "ExpiredObjectDeleteMarker" in expiration and tagged:
            raise AwsError("InvalidRequest", "ExpiredObjectDeleteMarker cannot be specified with Tag based filter.")
    for transition in rule.get("NoncurrentVersionTransitions", ()):
        if "NoncurrentDays" not in transition or "StorageClass" not in transition:
            raise malformed_xml()
    for transition in rule.get("Transitions", ()):
        if ("Days" in transition) == ("Date" in transition) or "StorageClass" not in transition:
            raise malformed_xml()
    noncurrent = rule.get("NoncurrentVersionExpiration")
    if noncurrent is not None and noncurrent.get("NoncurrentDays", 0) <= 0:
        raise AwsError(
            "InvalidArgument", "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer"
        )
    if (abort := rule.get("AbortIncompleteMultipartUpload")) is not None:
        if "DaysAfterInitiation" not in abort:
            raise malformed_xml()
        if "Tag" in filter or "Tags" in filter.get("And", {}):
            raise AwsError("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with Tags.")
