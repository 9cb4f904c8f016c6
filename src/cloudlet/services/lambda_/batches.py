"""Batches of events: which records a mapping lets through, and what a function says of those it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.engines.functions import Outcome
from cloudlet.services.lambda_.code import invalid
from cloudlet.services.patterns import Pattern, PatternError, compile_pattern

# Tells of what was done with so many events, by the name of the metric: only where the mapping is to have metrics.
Count = Callable[[str, int], None]


class Filter:
    """A mapping's FilterCriteria: a record passes when any of the patterns matches."""

    def __init__(self, criteria: dict[str, Any] | None) -> None:
        """Raises InvalidParameterValueException."""
        try:
            self._patterns: list[Pattern] = [
                compile_pattern(one["Pattern"]) for one in (criteria or {}).get("Filters", ()) if "Pattern" in one
            ]
        except PatternError:
            raise invalid("Invalid filter pattern definition.") from None

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def passes(self, record: dict[str, Any]) -> bool:
        """Whether the function is to see a record; its ``body`` is compared as what it is, JSON or text."""
        if not self._patterns:
            return True
        if isinstance(record.get("body"), str):
            try:
                record = {**record, "body": msgspec.json.decode(record["body"])}
            except msgspec.DecodeError:
                pass
        return any(pattern.matches(record) for pattern in self._patterns)


def failures(outcome: Outcome, identifiers: list[str], reports: bool) -> list[str]:
    """The identifiers of a batch that the function has not done, as ReportBatchItemFailures reads its answer.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    if outcome.error:
        return identifiers
    if not reports:
        return []
    try:
        answer = msgspec.json.decode(outcome.payload or b"null")
    except msgspec.DecodeError:
        return identifiers
    items = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if items is None:
        return identifiers if isinstance(answer, str) and answer else []
    if not isinstance(items, list):
        return identifiers
    known = set(identifiers)
    failed: list[str] = []
    for item in items:
        identifier = item.get("itemIdentifier") if isinstance(item, dict) else None
        if identifier not in known:
            return identifiers
        failed.append(identifier)
    return failed
