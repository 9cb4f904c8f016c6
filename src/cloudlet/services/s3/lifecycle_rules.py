"""Lifecycle rules as pure questions: which rule covers an object, and when is it over?"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import msgspec

from cloudlet.services.s3.records import Bucket, Stored

Rule = dict[str, Any]

DAY = 86_400
EXPIRE, REMOVE = "expire", "remove"
_SMALL = 128 * 1024


def of(bucket: Bucket) -> list[Rule]:
    """The bucket's rules that are switched on."""
    rules: list[Rule] = bucket.settings.get("lifecycle", {}).get("Rules", [])
    return [rule for rule in rules if rule["Status"] == "Enabled"]


def prefix_of(rule: Rule) -> str:
    """The prefix of the keys that a rule is about."""
    filter = rule.get("Filter") or {}
    found: str = rule.get("Prefix") or filter.get("Prefix") or filter.get("And", {}).get("Prefix") or ""
    return found


def covers(rule: Rule, stored: Stored) -> bool:
    """Whether a rule's filter takes in a version."""
    if not stored.key.startswith(prefix_of(rule)):
        return False
    filter = rule.get("Filter") or {}
    both = filter.get("And") or filter
    wanted = [*both.get("Tags", []), *([both["Tag"]] if "Tag" in both else [])]
    if wanted:
        tags = msgspec.json.decode(stored.tags) if stored.tags is not None else []
        if not all(tag in tags for tag in wanted):
            return False
    size = stored.size or 0
    return bool(both.get("ObjectSizeGreaterThan", -1) < size < both.get("ObjectSizeLessThan", size + 1))


def midnight_after(moment: float, days: int) -> int:
    """The midnight UTC at which so many days have passed since ``moment``."""
    return -int(-(moment + days * DAY) // DAY) * DAY


def expiry(rules: list[Rule], stored: Stored) -> tuple[int, Rule] | None:
    """When the first of the rules deletes a current version, and which; None where none ever does."""
    found: tuple[int, Rule] | None = None
    for rule in rules:
        expiration = rule.get("Expiration") or {}
        if "Days" in expiration:
            when = midnight_after(stored.modified, expiration["Days"])
        elif "Date" in expiration:
            when = int(expiration["Date"])
        else:
            continue
        if (found is None or when < found[0]) and covers(rule, stored):
            found = when, rule
    return found


def header(bucket: Bucket, stored: Stored) -> str | None:
    """What ``x-amz-expiration`` says of an object."""
    found = expiry(of(bucket), stored)
    if found is None:
        return None
    when, rule = found
    return f'expiry-date="{formatdate(when, usegmt=True)}", rule-id="{quote(rule["ID"])}"'


def next_midnight(now: float) -> float:
    """When the rules are carried out next."""
    return (int(now) // DAY + 1) * DAY


class History:
    """Versions pass by, of each key the newest first; it tells what is due of them."""

    def __init__(self, bucket: Bucket, rules: list[Rule], now: float) -> None:
        self._size = bucket.settings.get("lifecycle", {}).get("TransitionDefaultMinimumObjectSize", "")
        self._rules = rules
        self._now = now
        self._newer: Stored | None = None
        self._noncurrent = 0
        self._lone: Stored | None = None  # a delete marker with nothing below it, so far

    def due(self, stored: Stored) -> Iterator[tuple[Stored, str]]:
        """Versions, each with EXPIRE (current, its time is over), REMOVE (for good) or the storage class it goes to."""
        newer, self._newer = self._newer, stored
        if newer is None or newer.key != stored.key:
            yield from self.end()
            self._noncurrent = 0
            if stored.is_marker:
                self._lone = stored
            elif (found := expiry(self._rules, stored)) is not None and found[0] <= self._now:
                yield stored, EXPIRE
            else:
                yield from self._moved(stored, stored.modified, current=True)
            return
        self._lone = None
        self._noncurrent += 1
        if any(self._outlived(rule, stored, newer) for rule in self._rules):
            yield stored, REMOVE
        elif not stored.is_marker:
            yield from self._moved(stored, newer.modified, current=False)

    def end(self) -> Iterator[tuple[Stored, str]]:
        """What is due of the key that was the last."""
        lone, self._lone = self._lone, None
        if lone is not None and any(
            rule.get("Expiration", {}).get("ExpiredObjectDeleteMarker") and covers(rule, lone) for rule in self._rules
        ):
            yield lone, REMOVE

    def _outlived(self, rule: Rule, stored: Stored, newer: Stored) -> bool:
        """Whether a rule deletes a version that was current until ``newer`` came."""
        expiration = rule.get("NoncurrentVersionExpiration")
        if expiration is None or not covers(rule, stored):
            return False
        over = midnight_after(newer.modified, expiration["NoncurrentDays"])
        return self._noncurrent > expiration.get("NewerNoncurrentVersions", 0) and over <= self._now

    def _moved(self, stored: Stored, since: int, current: bool) -> Iterator[tuple[Stored, str]]:
        """The storage class that the rules have given a version by now, where that is another than it has."""
        kind, days = ("Transitions", "Days") if current else ("NoncurrentVersionTransitions", "NoncurrentDays")
        found = []
        for rule in self._rules:
            if not rule.get(kind) or not covers(rule, stored) or self._is_too_small(rule, stored):
                continue
            for one in rule[kind]:
                when = midnight_after(since, one[days]) if days in one else int(one["Date"])
                later_ones = self._noncurrent > one.get("NewerNoncurrentVersions", 0)
                if when <= self._now and (current or later_ones):
                    found.append((when, one["StorageClass"]))
        if found and max(found)[1] != stored.storage:
            yield stored, max(found)[1]

    def _is_too_small(self, rule: Rule, stored: Stored) -> bool:
        """Small objects stay where they are, unless a rule speaks of sizes itself."""
        filter = rule.get("Filter") or {}
        both = filter.get("And") or filter
        if "ObjectSizeGreaterThan" in both or "ObjectSizeLessThan" in both or self._size == "varies_by_storage_class":
            return False
        return (stored.size or 0) < _SMALL
