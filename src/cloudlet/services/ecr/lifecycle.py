"""Lifecycle policies: which images their rules expire or archive. A pure function of the images; who calls it acts.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.services.ecr.records import Image, Seen

_DAY = 86_400.0
_STATUSES = ["any", "tagged", "untagged"]
_COUNTS = ["imageCountMoreThan", "sinceImagePulled", "sinceImagePushed", "sinceImageTransitioned"]
_WILDCARDS = 4  # in one pattern


class Rule(NamedTuple):
    """One rule of a policy."""

    priority: int
    status: str
    prefixes: list[str]
    patterns: list[str]
    count_type: str
    most: int  # images, or days
    storage: str  # the class of the images that it is about
    action: str  # expire or transition


def read(text: str) -> list[Rule]:
    """A policy's rules in the order of their priority. Raises InvalidParameterException."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _invalid("Could not map policyString into LifecyclePolicy.")
    _require(document, "rules")
    try:
        rules = [_rule(rule) for rule in document["rules"]]
    except (ValueError, TypeError, AttributeError):
        raise _invalid("Could not map policyString into LifecyclePolicy.") from None
    if not rules:
        raise _invalid("it has no rules")
    if len({rule.priority for rule in rules}) != len(rules):
        raise _invalid("its rules have the same priority")
    rules.sort()
    for storage in ("standard", "archive"):
        statuses = [rule.status for rule in rules if rule.storage == storage]
        if statuses.count("untagged") > 1:
            raise _invalid("Only one rule can select Untagged images per storage class")
        if "any" in statuses[:-1]:
            raise _invalid("Rule for tagStatus=ANY must have the lowest priority per storage class")
    return rules


def _rule(rule: dict[str, Any]) -> Rule:
    _require(rule, "action", "rulePriority", "selection")
    selection, action = rule["selection"], rule["action"]
    _require(selection, "countNumber", "countType", "tagStatus")
    _require(action, "type")
    status, count_type = selection["tagStatus"], selection["countType"]
    _one_of(status, _STATUSES)
    _one_of(count_type, _COUNTS)
    _one_of(action["type"], ["expire", "transition"])
    prefixes, patterns = selection.get("tagPrefixList", []), selection.get("tagPatternList", [])
    if status == "tagged" and not prefixes and not patterns:
        raise _invalid("Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED.")
    if status != "tagged" and (prefixes or patterns):
        raise _invalid("tagPrefixList and tagPatternList go with the tagStatus tagged only")
    if prefixes and patterns:
        raise _invalid("tagPrefixList and tagPatternList do not go together")
    if any(pattern.count("*") > _WILDCARDS for pattern in patterns):
        raise _invalid(f"a pattern of tagPatternList has more than {_WILDCARDS} wildcards")
    if (count_type == "imageCountMoreThan") == (selection.get("countUnit") == "days"):
        raise _invalid("the countUnit days goes with all countTypes but imageCountMoreThan")
    if (count := int(selection["countNumber"])) < 1:
        raise _invalid("countNumber is less than 1")
    storage = _storage(selection, action, count_type)
    return Rule(int(rule["rulePriority"]), status, prefixes, patterns, count_type, count, storage, action["type"])


def _storage(selection: dict[str, Any], action: dict[str, Any], count_type: str) -> str:
    """The storage class of the images that a rule is about."""
    storage: str = selection.get("storageClass", "standard")
    _one_of(storage, ["archive", "standard"])
    if (count_type == "sinceImageTransitioned") != (storage == "archive"):
        raise _invalid("the storageClass archive goes with the countType sinceImageTransitioned, and only with it")
    if action["type"] == "transition":
        if action.get("targetStorageClass") != "archive":
            raise _invalid("the action transition goes with the targetStorageClass archive")
        if storage == "archive":
            raise _invalid("images of the storageClass archive can only expire")
    elif "targetStorageClass" in action:
        raise _invalid("targetStorageClass goes with the action transition only")
    return storage


def due(rules: list[Rule], images: list[Seen], now: float) -> list[tuple[Seen, Rule]]:
    """The images that something is to be done with, each with its rule: the first one that matches it."""
    found: list[tuple[Seen, Rule]] = []
    claimed: set[str] = set()
    for rule in rules:
        matching = [seen for seen in images if _matches(rule, seen)]
        if rule.count_type == "imageCountMoreThan":
            over = sorted(matching, key=lambda seen: -seen.image.pushed)[rule.most :]
        else:
            over = [seen for seen in matching if _since(rule, seen.image) < now - rule.most * _DAY]
        found += [(seen, rule) for seen in over if seen.image.digest not in claimed]
        claimed.update(seen.image.digest for seen in matching)
    return found


def _since(rule: Rule, image: Image) -> float:
    """When the days of a rule have begun for an image."""
    match rule.count_type:
        case "sinceImagePulled":
            # One that was never pulled counts from its push, or from when it came back from the archive.
            return max(image.pulled, image.activated) or image.pushed
        case "sinceImageTransitioned":
            return image.archived
    return image.pushed


def _matches(rule: Rule, seen: Seen) -> bool:
    if (seen.image.status == "ARCHIVED") != (rule.storage == "archive"):
        return False
    match rule.status:
        case "any":
            return True
        case "untagged":
            return not seen.tags
    # Every prefix, or pattern, has to be met by some tag.
    return all(any(tag.startswith(prefix) for tag in seen.tags) for prefix in rule.prefixes) and all(
        any(fnmatchcase(tag, pattern) for tag in seen.tags) for pattern in rule.patterns
    )


def _require(document: dict[str, Any], *names: str) -> None:
    if missing := [name for name in names if name not in document]:
        raise _invalid(f"object has missing required properties ({json.dumps(missing, separators=(',', ':'))})")


def _one_of(value: Any, possible: list[str]) -> None:
    if value not in possible:
        listed = json.dumps(possible, separators=(",", ":"))
        raise _invalid(f"instance value ({json.dumps(value)}) not found in enum (possible values: {listed})")


def _invalid(reason: str) -> AwsError:
    return AwsError(
        "InvalidParameterException",
        "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
        f"'Lifecycle policy validation failure: {reason}'",
    )
