"""The operations of object lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import locks, records
from cloudlet.services.s3.buckets import malformed_xml
from cloudlet.services.s3.reading import Reading
from cloudlet.services.s3.records import Bucket, Lock, Stored
from cloudlet.store import Tx

_LONGEST_DAYS, _LONGEST_YEARS = 36_500, 100


class ObjectLocks(Reading):
    """The operations on locks of versions and on a bucket's default."""

    async def GetObjectLockConfiguration(self, call: Call, input: Input) -> Output:
        settings = self.find(call, input).settings
        if "object_lock" not in settings:
            raise AwsError(
                "ObjectLockConfigurationNotFoundError",
                "Object Lock configuration does not exist for this bucket",
                status=404,
                BucketName=input["Bucket"],
            )
        return dict(settings["object_lock"])

    async def PutObjectLockConfiguration(self, call: Call, input: Input) -> Output:
        """Set the default retention of new versions; a versioned bucket's lock may be switched on by it."""
        if "ObjectLockConfiguration" not in input:
            raise AwsError("MissingRequestBodyError", "Request Body is empty")
        asked = input["ObjectLockConfiguration"]
        if asked.get("ObjectLockEnabled") != "Enabled":
            raise malformed_xml()
        if "Rule" in asked:
            _check_default(asked["Rule"].get("DefaultRetention", {}))

        def change(bucket: Bucket) -> Bucket:
            if bucket.versioning != "Enabled":
                raise AwsError(
                    "InvalidBucketState",
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
                )
            settings = {**bucket.settings, "object_lock": {"ObjectLockConfiguration": asked}}
            return replace(bucket, object_lock=True, settings=settings)

        await self.change_bucket(call, input, change)
        return {}

    async def GetObjectRetention(self, call: Call, input: Input) -> Output:
        lock = locks.of(await self._lockable(call, input))
        if not lock.mode:
            raise _no_lock()
        return {"Retention": {"Mode": lock.mode, "RetainUntilDate": lock.until}}

    async def PutObjectRetention(self, call: Call, input: Input) -> Output:
        """Set, prolong or, where it may be, shorten a version's retention."""
        asked: dict[str, Any] = input.get("Retention") or {}
        mode, until = asked.get("Mode"), asked.get("RetainUntilDate")
        if (mode is None) != (until is None):
            raise malformed_xml()
        now = self.clock.now()
        if mode is not None and until is not None:
            if mode not in locks.MODES:
                raise malformed_xml()
            locks.check_retention(mode, until, now)
        bypass = bool(input.get("BypassGovernanceRetention"))

        def change(lock: Lock) -> Lock:
            changed = replace(lock, mode=mode or "", until=until or 0.0)
            weaker = changed.until < lock.until or (changed.mode != lock.mode and lock.mode == "COMPLIANCE")
            weaker = weaker or (changed.mode != lock.mode and lock.mode == "GOVERNANCE" and not bypass)
            if lock.until > now and weaker and not (lock.mode == "GOVERNANCE" and bypass):
                raise locks.protected()
            return changed

        await self._change_lock(call, input, change)
        return {}

    async def GetObjectLegalHold(self, call: Call, input: Input) -> Output:
        stored = await self._lockable(call, input)
        if stored.lock is None:
            raise _no_lock()
        return {"LegalHold": {"Status": "ON" if locks.of(stored).hold else "OFF"}}

    async def PutObjectLegalHold(self, call: Call, input: Input) -> Output:
        status = (input.get("LegalHold") or {}).get("Status")
        if status not in ("ON", "OFF"):
            raise malformed_xml()
        await self._change_lock(call, input, lambda lock: replace(lock, hold=status == "ON"))
        return {}

    async def _lockable(self, call: Call, input: Input) -> Stored:
        bucket = self.find(call, input)
        if not bucket.object_lock:
            raise locks.missing_configuration()
        return await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=False))

    async def _change_lock(self, call: Call, input: Input, change: Callable[[Lock], Lock]) -> None:
        bucket = self.find(call, input)
        if not bucket.object_lock:
            raise locks.missing_configuration()

        def write(tx: Tx) -> None:
            stored = self.look_up(tx, call, bucket, input, whole=False)
            records.change(tx, stored, "lock", msgspec.json.encode(change(locks.of(stored))))

        await self.db.write(write)


def _no_lock() -> AwsError:
    return AwsError(
        "NoSuchObjectLockConfiguration",
        "The specified object does not have a ObjectLock configuration",
        status=404,
    )


def _check_default(default: dict[str, Any]) -> None:
    if default.get("Mode") not in locks.MODES or ("Days" in default) == ("Years" in default):
        raise malformed_xml()
    span, longest = ("Days", _LONGEST_DAYS) if "Days" in default else ("Years", _LONGEST_YEARS)
    if default[span] <= 0:
        raise AwsError("InvalidArgument", "Default retention period must be a positive integer value.")
    if default[span] > longest:
        raise AwsError(
            "InvalidArgument", f"Default retention period is too large: the maximum is {longest} {span.lower()}"
        )
