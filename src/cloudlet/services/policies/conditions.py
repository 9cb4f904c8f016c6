"""The conditions of policy statements: operators on context keys, with policy variables in their values."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

# A context key's values, None where the request does not have the key. Keys are in lower case.
Lookup = Callable[[str], Sequence[str] | None]
Test = Callable[[str, str], bool]

_VARIABLE = re.compile(r"\$\{([^}]+)\}")
_LITERALS = {"*": "*", "?": "?", "$": "$"}
_MANY = "\x00many\x00"  # stands for * and ? that are themselves, in a pattern
_ONE = "\x00one\x00"


class Condition(NamedTuple):
    """One operator on one key, ``name`` as it was written. ``holds`` says whether a request fulfils it."""

    name: str
    key: str
    holds: Callable[[Lookup], bool]


def compile_conditions(block: dict[str, Any]) -> list[Condition]:
    """The conditions of a statement; all must hold. An operator that does not exist never holds."""
    found = []
    for operator, keys in block.items():
        for key, values in keys.items():
            wanted = [_text(value) for value in (values if isinstance(values, list) else [values])]
            found.append(Condition(key, key.lower(), _compile(operator, key.lower(), wanted)))
    return found


def substitute(text: str, lookup: Lookup, escaped: bool = False) -> str | None:
    """A text with its policy variables replaced, None where one has no value. ``escaped``: values hold no wildcards."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        name, _, default = match[1].partition(",")
        name = name.strip()
        if name in _LITERALS:
            return {"*": _MANY, "?": _ONE}.get(name, name) if escaped else name
        found = lookup(name.lower())
        if found is None or len(found) != 1:
            if default:
                return default.strip().strip("'")
            missing = True
            return ""
        return found[0].replace("*", _MANY).replace("?", _ONE) if escaped else found[0]

    replaced = _VARIABLE.sub(value, text)
    return None if missing else replaced


def _compile(operator: str, key: str, wanted: list[str]) -> Callable[[Lookup], bool]:
    quantifier, _, rest = operator.rpartition(":")
    if_exists = rest.endswith("IfExists")
    name = rest.removesuffix("IfExists")
    if name == "Null":
        absent = wanted == ["true"]
        return lambda lookup: (lookup(key) is None) == absent
    negated = name in _NEGATED
    test = _TESTS.get(_NEGATED.get(name, name))
    if test is None:
        return lambda lookup: False

    def holds(lookup: Lookup) -> bool:
        values = lookup(key)
        if values is None:
            return if_exists or negated or quantifier == "ForAllValues"
        expected = [
            one for one in (substitute(text, lookup) if "${" in text else text for text in wanted) if one is not None
        ]

        def fits(value: str) -> bool:
            return any(test(value, one) for one in expected) != negated

        if quantifier == "ForAllValues":
            return all(fits(value) for value in values)
        if quantifier == "ForAnyValue":
            return any(fits(value) for value in values)
        return all(fits(value) for value in values) if negated else any(fits(value) for value in values)

    return holds


@lru_cache(maxsize=4096)
def pattern(text: str, fold: bool = False) -> re.Pattern[str]:
    """A pattern with * and ?, compiled."""
    quoted = re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")
    quoted = quoted.replace(re.escape(_MANY), r"\*").replace(re.escape(_ONE), r"\?")
    return re.compile(quoted, re.DOTALL | (re.IGNORECASE if fold else 0))


def _like(value: str, wanted: str) -> bool:
    return pattern(wanted).fullmatch(value) is not None


def _arn_like(value: str, wanted: str) -> bool:
    parts, patterns = value.split(":", 5), wanted.split(":", 5)
    return len(parts) == len(patterns) == 6 and all(map(_like, parts, patterns))


def _numbers(compare: Callable[[float, float], bool]) -> Test:
    def test(value: str, wanted: str) -> bool:
        try:
            return compare(float(value), float(wanted))
        except ValueError:
            return False

    return test


def _dates(compare: Callable[[float, float], bool]) -> Test:
    def test(value: str, wanted: str) -> bool:
        try:
            return compare(_moment(value), _moment(wanted))
        except ValueError:
            return False

    return test


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _in_network(value: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


def _same_bytes(value: str, wanted: str) -> bool:
    try:
        return base64.b64decode(value) == base64.b64decode(wanted)
    except (ValueError, binascii.Error):
        return False


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_TESTS: dict[str, Test] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.casefold() == wanted.casefold(),
    "StringLike": _like,
    "NumericEquals": _numbers(lambda value, wanted: value == wanted),
    "NumericLessThan": _numbers(lambda value, wanted: value < wanted),
    "NumericLessThanEquals": _numbers(lambda value, wanted: value <= wanted),
    "NumericGreaterThan": _numbers(lambda value, wanted: value > wanted),
    "NumericGreaterThanEquals": _numbers(lambda value, wanted: value >= wanted),
    "DateEquals": _dates(lambda value, wanted: value == wanted),
    "DateLessThan": _dates(lambda value, wanted: value < wanted),
    "DateLessThanEquals": _dates(lambda value, wanted: value <= wanted),
    "DateGreaterThan": _dates(lambda value, wanted: value > wanted),
    "DateGreaterThanEquals": _dates(lambda value, wanted: value >= wanted),
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "BinaryEquals": _same_bytes,
    "IpAddress": _in_network,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
