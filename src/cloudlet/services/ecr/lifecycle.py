"""Lifecycle policies: which images their rules expire. A pure function of the images; who calls it deletes them."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.ecr.records import Seen

_DAY = 86_400.0
_STATUSES = ("tagged", "untagged", "any")


class Rule(NamedTuple):
    """One rule of a policy."""

    priority: int
    status: str
    prefixes: list[str]
    patterns: list[str]
    count_type: str
    most: int  # images, or days


def read(text: str) -> list[Rule]:
    """A policy's rules in the order of their priority. Raises InvalidParameterException."""
    try:
        rules = [_rule(rule) for rule in json.loads(text)["rules"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _invalid("it is not well formed") from None
    if not rules:
        raise _invalid("it has no rules")
    if len({rule.priority for rule in rules}) != len(rules):
        raise _invalid("its rules have the same priority")
    return sorted(rules)


def _rule(rule: dict[str, Any]) -> Rule:
    selection, action = rule["selection"], rule["action"]["type"]
    status, count_type = selection["tagStatus"], selection["countType"]
    if action != "expire" or count_type not in ("imageCountMoreThan", "sinceImagePushed"):
        raise not_implemented(f"ECR lifecycle policies with the action {action} and the countType {count_type}")
    prefixes, patterns = selection.get("tagPrefixList", []), selection.get("tagPatternList", [])
    if status not in _STATUSES or (status == "tagged") != bool(prefixes or patterns):
        raise _invalid("tagPrefixList or tagPatternList go with the tagStatus tagged, and only with it")
    if (count_type == "sinceImagePushed") != (selection.get("countUnit") == "days"):
        raise _invalid("the countUnit days goes with the countType sinceImagePushed, and only with it")
    if (count := int(selection["countNumber"])) < 1:
        raise _invalid("countNumber is less than 1")
    return Rule(int(rule["rulePriority"]), status, prefixes, patterns, count_type, count)


def expiring(rules: list[Rule], images: list[Seen], now: float) -> list[tuple[Seen, Rule]]:
    """The images that are to go, each with its rule: an image belongs to the first rule that matches it."""
    gone: list[tuple[Seen, Rule]] = []
    claimed: set[str] = set()
    for rule in rules:
        matching = sorted((image for image in images if _matches(rule, image)), key=lambda image: -image.pushed)
        if rule.count_type == "imageCountMoreThan":
            over = matching[rule.most :]
        else:
            over = [image for image in matching if image.pushed < now - rule.most * _DAY]
        gone += [(image, rule) for image in over if image.digest not in claimed]
        claimed.update(image.digest for image in matching)
    return gone


def _matches(rule: Rule, image: Seen) -> bool:
    match rule.status:
        case "any":
            return True
        case "untagged":
            return not image.tags
    # Every prefix, or pattern, has to be met by some tag.
    return all(any(tag.startswith(prefix) for tag in image.tags) for prefix in rule.prefixes) and all(
        any(fnmatchcase(tag, pattern) for tag in image.tags) for pattern in rule.patterns
    )


def _invalid(reason: str) -> AwsError:
    return AwsError(
        "InvalidParameterException",
        "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
        f"'Lifecycle policy validation failure: {reason}'",
    )
