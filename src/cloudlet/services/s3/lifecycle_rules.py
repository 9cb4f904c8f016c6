"""Lifecycle rules as pure questions: which rule covers an object, and when is it over?"""

from __future__ import annotations

import datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import msgspec

from cloudlet.services.s3.records import Bucket, Stored

Rule = dict[str, Any]

DAY = 86_400


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


def is_midnight(moment: float) -> bool:
    """Whether a date is one that a rule may name."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).time() == datetime.time()
