"""SNS filter policies: the pattern language on a message's attributes or on its body."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.services.patterns.language import Pattern, PatternError, compile_pattern

_KEYS_AT_MOST = 5
_COMBINATIONS_AT_MOST = 150
_DIGITS = 5


def _rounded(text: str) -> float:
    """A number as precise as SNS compares them."""
    return round(float(text), _DIGITS)


_decode = msgspec.json.Decoder(float_hook=_rounded).decode


class FilterPolicy:
    """A compiled filter policy. ``on_body`` says whether it looks at the body instead of the attributes."""

    __slots__ = ("_pattern", "on_body")

    def __init__(self, pattern: Pattern | None, on_body: bool) -> None:
        self._pattern = pattern
        self.on_body = on_body

    def accepts(self, attributes: dict[str, Any], body: str) -> bool:
        """Whether a message passes. ``attributes`` are as Publish takes them."""
        if self._pattern is None:
            return True
        if not self.on_body:
            return self._pattern.matches(plain(attributes))
        try:
            event = _decode(body)
        except (msgspec.DecodeError, UnicodeError):
            return False
        return isinstance(event, dict) and self._pattern.matches(event)


def compile_filter_policy(text: str | dict[str, Any], scope: str = "MessageAttributes") -> FilterPolicy:
    """Compile a filter policy for its scope; an empty one accepts everything. Raises PatternError."""
    policy: Any = text
    if isinstance(policy, str):
        try:
            policy = _decode(policy)
        except (msgspec.DecodeError, UnicodeError):
            raise PatternError("failed to parse JSON.") from None
    if not isinstance(policy, dict):
        raise PatternError("failed to parse JSON.")
    on_body = scope == "MessageBody"
    if not policy:
        return FilterPolicy(None, on_body)
    if len(policy) > _KEYS_AT_MOST:
        raise PatternError(f"Filter policy can not have more than {_KEYS_AT_MOST} keys")
    if not on_body:
        _check_flat(policy)
    if _combinations(policy, 1) > _COMBINATIONS_AT_MOST:
        raise PatternError("Filter policy is too complex")
    return FilterPolicy(compile_pattern(policy), on_body)


def plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Message attributes as an event: numbers as numbers, ``String.Array`` as a list; binary ones match nothing."""
    event: dict[str, Any] = {}
    for name, attribute in attributes.items():
        kind, value = attribute["DataType"], attribute.get("StringValue")
        if value is None:
            continue
        if kind == "String.Array":
            try:
                event[name] = _decode(value)
            except (msgspec.DecodeError, UnicodeError):
                event[name] = value
        elif kind == "Number" or kind.startswith("Number."):
            try:
                event[name] = _rounded(value)
            except ValueError:
                event[name] = value
        else:
            event[name] = value
    return event


def _check_flat(policy: dict[str, Any]) -> None:
    for key, value in policy.items():
        if isinstance(value, dict):
            raise PatternError("Filter policy scope MessageAttributes does not support nested filter policy")
        if key == "$or" and isinstance(value, list):
            for choice in value:
                if isinstance(choice, dict):
                    _check_flat(choice)


def _combinations(policy: dict[str, Any], depth: int) -> int:
    """The product of the numbers of values, each times its depth."""
    product = 1
    for key, value in policy.items():
        if isinstance(value, dict):
            product *= _combinations(value, depth + 1)
        elif isinstance(value, list) and value:
            if key == "$or":
                product *= sum(_combinations(choice, depth) for choice in value if isinstance(choice, dict)) or 1
            else:
                product *= len(value) * depth
    return product
