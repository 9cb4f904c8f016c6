"""Filters of Describe operations: one way for all of them.

Values may have the wildcards ``*`` and ``?``; a backslash before one takes it literally.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cloudlet.services.ec2.world import invalid


def chosen(
    shown: Iterable[dict[str, Any]], filters: list[dict[str, Any]], paths: Mapping[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Those that every filter lets through. Raises InvalidParameterValue for a filter that there is not."""
    tests = [(_path(entry.get("Name", ""), paths), _pattern(entry.get("Values", []))) for entry in filters]
    return [one for one in shown if all(any(map(pattern, _texts(one, path))) for path, pattern in tests)]


def _path(name: str, paths: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if name.startswith("tag:"):
        return ("tag", name[4:])
    if name in ("tag-key", "tag-value"):
        return ("Tags", "Key" if name == "tag-key" else "Value")
    if name not in paths:
        raise invalid(f"The filter '{name}' is invalid")
    return paths[name]


def _pattern(values: list[str]) -> Any:
    parts = [_CHARACTER.sub(_meaning, value) for value in values]
    return re.compile("|".join(parts) if parts else r"(?!)", re.DOTALL).fullmatch


_CHARACTER = re.compile(r"\\[*?\\]|.", re.DOTALL)  # of a value, or a wildcard that is taken literally
_WILDCARDS = {"*": ".*", "?": "."}


def _meaning(found: re.Match[str]) -> str:
    return _WILDCARDS.get(found[0]) or re.escape(found[0][-1])


def _texts(value: Any, path: tuple[str, ...]) -> list[str]:
    if path[:1] == ("tag",):
        return [tag["Value"] for tag in value.get("Tags", ()) if tag["Key"] == path[1]]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one, path)]
    if not path:
        return [str(value).lower() if isinstance(value, bool) else str(value)]
    if not isinstance(value, dict) or path[0] not in value:
        return []
    return _texts(value[path[0]], path[1:])
