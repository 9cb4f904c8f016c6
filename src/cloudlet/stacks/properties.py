"""Which properties CloudFormation's types have, and what they are: a template is judged by it before anything is made.

``properties.json`` says it, as ``scripts/resource-properties`` takes it from AWS's schemas: for each type its
properties, each the name of a scalar, a list of one, an object's members, or ``*`` where AWS leaves it open.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_ANY_CASE = "AWS::AppMesh::"  # members may begin with a small letter, and in AWS's own examples some do
_FOUND = {dict: "JSONObject", list: "JSONArray", str: "String", bool: "Boolean", int: "Integer", float: "Double"}


def faults(type: str, given: dict[str, Any]) -> list[str]:
    """What is wrong with a resource's properties, in CloudFormation's words. What a function makes is not looked at."""
    wanted = known(type)
    if type.startswith(_ANY_CASE):
        given = _capitalized(given)
    return [] if wanted is None else list(_faults(wanted, given, "#"))


def known(type: str) -> dict[str, Any] | None:
    """A type's properties as AWS has them, but for those that only AWS sets; None for a type that takes any."""
    return _types().get(type)


@functools.cache
def _types() -> dict[str, Any]:
    text = Path(__file__).with_suffix(".json").read_bytes()
    return msgspec.json.decode(text)  # type: ignore[no-any-return]


def _capitalized(given: Any) -> Any:
    if isinstance(given, dict):
        return {f"{name[:1].upper()}{name[1:]}": _capitalized(one) for name, one in given.items()}
    return [_capitalized(one) for one in given] if isinstance(given, list) else given


def _faults(wanted: Any, given: Any, path: str) -> Iterator[str]:
    if given is None or _is_made(given):
        return
    if isinstance(wanted, dict):
        if isinstance(given, dict):
            for name in sorted(given.keys() - wanted.keys(), key=str):
                yield f"{path}: extraneous key [{name}] is not permitted"
            for name in given.keys() & wanted.keys():
                yield from _faults(wanted[name], given[name], f"{path}/{name}")
        elif not isinstance(given, str):  # a text may be a path on this machine
            yield _wrong(path, "JSONObject", given)
    elif isinstance(wanted, list):
        if isinstance(given, list):
            for index, one in enumerate(given):
                yield from _faults(wanted[0], one, f"{path}/{index}")
        else:
            yield _wrong(path, "JSONArray", given)
    elif not _fits(wanted, given):
        yield _wrong(path, wanted.capitalize(), given)


def _is_made(given: Any) -> bool:
    """Whether a function or a dynamic reference makes it, or a part of it."""
    if isinstance(given, str):
        return "{{resolve:" in given
    return isinstance(given, dict) and any(name == "Ref" or str(name).startswith("Fn::") for name in given)


def _fits(wanted: str, given: Any) -> bool:
    """Whether a value is a scalar of the kind, or is made one: "30" is a number, and true a text."""
    if wanted == "*" or (wanted == "string" and not isinstance(given, list)):  # an object is written out as JSON
        return True
    if wanted == "boolean":
        return str(given).lower() in ("true", "false")
    if isinstance(given, bool | dict | list) or wanted == "string":
        return False
    try:
        return float(given).is_integer() or wanted == "number"
    except ValueError:
        return False


def _wrong(path: str, wanted: str, given: Any) -> str:
    return f"{path}: expected type: {wanted}, found: {_FOUND.get(type(given), 'String')}"
