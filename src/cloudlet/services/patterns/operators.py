"""The operators on one value: each is checked once and becomes a function from a leaf of an event to a yes or no."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

# From a string, number, true, false or null to whether it matches.
Test = Callable[[Any], bool]

_LARGEST = 5_000_000_000_000.0


class PatternError(ValueError):
    """The pattern is not valid; the text says why, in AWS's words."""


def number(value: Any) -> bool:
    """Whether a JSON value is a number: true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def operator(name: str, value: Any) -> Test:
    """The test that ``{name: value}`` stands for; ``exists`` is not one of a value. Raises PatternError."""
    build = _OPERATORS.get(name)
    if build is None:
        raise PatternError(f"Unrecognized match type {name}")
    return build(value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise PatternError(f"{name} match pattern must be a string")
    return value


def _affix(name: str, fits: Callable[[str, str], bool]) -> Callable[[Any], Test]:
    def build(value: Any) -> Test:
        if isinstance(value, dict):
            if list(value) != ["equals-ignore-case"]:
                raise PatternError(f"Unsupported {name} match pattern: {next(iter(value), '')}")
            folded = _text(value["equals-ignore-case"], "equals-ignore-case").lower()
            return lambda leaf: isinstance(leaf, str) and fits(leaf.lower(), folded)
        text = _text(value, name)
        return lambda leaf: isinstance(leaf, str) and fits(leaf, text)

    return build


def _equals_ignore_case(value: Any) -> Test:
    folded = _text(value, "equals-ignore-case").lower()
    return lambda leaf: isinstance(leaf, str) and leaf.lower() == folded


def _wildcard(value: Any) -> Test:
    # Positions in errors count the quotation mark before the text.
    text, parts, at, star = _text(value, "wildcard"), [], 0, False
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
            if text[at : at + 1] not in ("*", "\\"):
                raise PatternError(f"Invalid escape character at pos {at}")
            parts.append(re.escape(text[at]))
        elif char == "*":
            if star:
                raise PatternError(f"Consecutive wildcard characters at pos {at}")
            parts.append(".*")
        else:
            parts.append(re.escape(char))
        star = char == "*"
        at += 1
    full = re.compile("".join(parts), re.DOTALL).fullmatch
    return lambda leaf: isinstance(leaf, str) and full(leaf) is not None


def _cidr(value: Any) -> Test:
    text = _text(value, "prefix")  # AWS's own word here
    address, slash, bits = text.partition("/")
    if not slash or "/" in bits:
        raise PatternError("Malformed CIDR, one '/' required")
    if not re.fullmatch(r"[+-]?\d+", bits):
        raise PatternError("Malformed CIDR, mask bits must be an integer")
    if int(bits) < 0:
        raise PatternError("Malformed CIDR, mask bits must not be negative")
    try:
        most = ipaddress.ip_address(address).max_prefixlen
    except ValueError:
        raise PatternError(f"Nonstandard IP address: {address}") from None
    if int(bits) >= most:
        raise PatternError(f"IPv{4 if most == 32 else 6} mask bits must be < {most}")
    network = ipaddress.ip_network((address, int(bits)), strict=False)

    def inside(leaf: Any) -> bool:
        if not isinstance(leaf, str):
            return False
        try:
            return ipaddress.ip_address(leaf) in network
        except ValueError:
            return False

    return inside


def _numeric(value: Any) -> Test:
    if not isinstance(value, list):
        raise PatternError("Value of numeric must be an array.")
    if not value or not isinstance(value[0], str):
        raise PatternError(f"Invalid member in numeric match: {value[0] if value else ']'}")
    sign, rest = value[0], value[1:]
    if sign not in _COMPARE:
        raise PatternError(f"Unrecognized numeric range operator: {sign}")
    bound = _bound("equals" if sign == "=" else sign, rest)
    first = _COMPARE[sign](bound)
    if len(rest) == 1:
        return lambda leaf: number(leaf) and first(leaf)
    if sign not in (">", ">="):
        raise PatternError("Too many elements in numeric expression")
    upper, rest = rest[1], rest[2:]
    if not isinstance(upper, str):
        raise PatternError(f"Bad value in numeric range: {upper}")
    if upper not in ("<", "<="):
        raise PatternError(f"Bad numeric range operator: {upper}")
    top = _bound(upper, rest)
    if len(rest) > 1:
        raise PatternError("Too many terms in numeric range expression")
    if bound >= top:
        raise PatternError("Bottom must be less than top")
    second = _COMPARE[upper](top)
    return lambda leaf: number(leaf) and first(leaf) and second(leaf)


def _bound(sign: str, rest: list[Any]) -> float:
    if not rest or not number(rest[0]):
        raise PatternError(f"Value of {sign} must be numeric")
    if not -_LARGEST <= rest[0] <= _LARGEST:
        raise PatternError(f"Value must be between {-_LARGEST} and {_LARGEST}, inclusive")
    return float(rest[0])


_COMPARE: dict[str, Callable[[float], Test]] = {
    "=": lambda bound: lambda leaf: leaf == bound,
    "<": lambda bound: lambda leaf: leaf < bound,
    "<=": lambda bound: lambda leaf: leaf <= bound,
    ">": lambda bound: lambda leaf: leaf > bound,
    ">=": lambda bound: lambda leaf: leaf >= bound,
}


def _anything_but(value: Any) -> Test:
    if isinstance(value, dict):
        if len(value) != 1:
            reason = "Only one key allowed in match expression" if value else "Anything-But expression name not found"
            raise PatternError(reason)
        ((name, of),) = value.items()
        if name not in _DENIABLE:
            raise PatternError(f"Unsupported anything-but pattern: {name}")
        if isinstance(of, dict):
            raise PatternError("Value of anything-but must be an array or single string/number value.")
        texts = of if isinstance(of, list) else [of]
        if not texts or not all(isinstance(text, str) for text in texts):
            if name == "equals-ignore-case":
                raise PatternError(f"Inside anything-but/{name} list, number|start|null|boolean is not supported.")
            raise PatternError(
                f"{'wildcard' if name == 'wildcard' else 'prefix/suffix'} match pattern must be a string"
            )
        if name in ("prefix", "suffix") and "" in texts:
            raise PatternError("Null prefix/suffix not allowed")
        denied = [operator(name, text) for text in texts]
        return lambda leaf: not any(test(leaf) for test in denied)
    values = value if isinstance(value, list) else [value]
    if not isinstance(value, list) and not (isinstance(value, str) or number(value)):
        raise PatternError("Value of anything-but must be an array or single string/number value.")
    if not all(isinstance(each, str) or number(each) for each in values):
        raise PatternError("Inside anything but list, start|null|boolean is not supported.")
    texts = [each for each in values if isinstance(each, str)]
    if not values or (texts and len(texts) != len(values)):
        raise PatternError(
            "Inside anything but list, either all values are number or string, mixed type is not supported"
        )
    among = frozenset(values)
    # True equals 1 for Python, but not for a pattern.
    return lambda leaf: isinstance(leaf, bool) or leaf not in among


_DENIABLE = frozenset(("prefix", "suffix", "equals-ignore-case", "wildcard"))

_OPERATORS: dict[str, Callable[[Any], Test]] = {
    "prefix": _affix("prefix", str.startswith),
    "suffix": _affix("suffix", str.endswith),
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
    "cidr": _cidr,
    "numeric": _numeric,
    "anything-but": _anything_but,
}
