"""Object lock: retention and legal holds, which keep versions from being deleted."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Input
from cloudlet.services.s3.records import Bucket, Lock, Stored

_DAY = 86_400
MODES = ("GOVERNANCE", "COMPLIANCE")
_UNSUPPORTED = ("ObjectLockEventHold", "ObjectLockEventHoldDurationDays", "ObjectLockEventHoldDurationYears")


def of_new(bucket: Bucket, input: Input, now: float) -> bytes | None:
    """The lock of a new version: what its request asks for, else the bucket's default."""
    for name in _UNSUPPORTED:
        if name in input:
            raise not_implemented(f"PutObject with {name}")
    mode, until = input.get("ObjectLockMode"), input.get("ObjectLockRetainUntilDate")
    hold = input.get("ObjectLockLegalHoldStatus")
    if mode is None and until is None and hold is None and not bucket.object_lock:
        return None
    if (mode is not None or until is not None or hold is not None) and not bucket.object_lock:
        raise missing_configuration()
    if (mode is None) != (until is None):
        raise AwsError(
            "InvalidArgument",
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            ArgumentName="x-amz-object-lock-mode" if mode is None else "x-amz-object-lock-retain-until-date",
        )
    if hold not in (None, "ON", "OFF"):
        raise AwsError("InvalidArgument", "Legal Hold must be either of 'ON' or 'OFF'", ArgumentValue=hold)
    if mode is not None and until is not None:
        check_retention(mode, until, now)
        lock = Lock(mode, until)
    else:
        lock = _default(bucket, now)
    lock = replace(lock, hold=None if hold is None else hold == "ON")
    return msgspec.json.encode(lock) if lock != Lock() else None


def _default(bucket: Bucket, now: float) -> Lock:
    configuration = bucket.settings.get("object_lock", {}).get("ObjectLockConfiguration", {})
    rule = configuration.get("Rule", {}).get("DefaultRetention")
    if rule is None:
        return Lock()
    return Lock(rule["Mode"], now + _DAY * (rule["Days"] if "Days" in rule else 365 * rule["Years"]))


def check_retention(mode: str, until: float, now: float) -> None:
    """Refuse a retention that is none. Raises InvalidArgument."""
    if mode not in MODES:
        raise AwsError("InvalidArgument", "Unknown wormMode directive.", ArgumentValue=mode)
    if until <= now:
        raise AwsError("InvalidArgument", "The retain until date must be in the future!")


def check(stored: Stored | None, now: float, bypass: bool) -> None:
    """Refuse to delete a version that is locked. Raises AccessDenied."""
    if stored is not None and stored.lock is not None and of(stored).forbids(now, bypass):
        raise protected()


def of(stored: Stored) -> Lock:
    """A version's lock; one that holds nothing where it has none."""
    return msgspec.json.decode(stored.lock, type=Lock) if stored.lock is not None else Lock()


def protected() -> AwsError:
    """The error for what a lock forbids."""
    return AwsError("AccessDenied", "Access Denied because object protected by object lock.", status=403)


def missing_configuration() -> AwsError:
    """The error for a lock in a bucket without object lock."""
    return AwsError("InvalidRequest", "Bucket is missing Object Lock Configuration")


def members(lock: bytes) -> dict[str, Any]:
    """A stored lock as the members of GetObject's answer."""
    known = msgspec.json.decode(lock, type=Lock)
    found: dict[str, Any] = {}
    if known.mode:
        found["ObjectLockMode"] = known.mode
        found["ObjectLockRetainUntilDate"] = known.until
    if known.hold is not None:
        found["ObjectLockLegalHoldStatus"] = "ON" if known.hold else "OFF"
    return found
