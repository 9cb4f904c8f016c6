"""Java's values as templates see them: what is printed, what is equal, and the methods that templates call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any


class JsonArray(list[Any]):
    """A list out of a JSON document: it prints as JSON, where a list of the template's own does not."""


def from_json(value: Any) -> Any:
    """A decoded JSON document with its lists as JsonArrays."""
    if isinstance(value, list):
        return JsonArray(from_json(item) for item in value)
    if isinstance(value, dict):
        return {key: from_json(item) for key, item in value.items()}
    return value


def printed(value: Any) -> str:
    """A value as Java's toString writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, JsonArray):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, list):
        return f"[{', '.join(printed(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={printed(item)}" for key, item in value.items()) + "}"
    return str(value)


def truth(value: Any) -> bool:
    """Only null and false are false; in Velocity 1.7 an empty text is true."""
    return value is not None and value is not False


def same(one: Any, other: Any) -> bool:
    """Equality: of different kinds, by what they print."""
    if one is None or other is None:
        return one is other
    return one == other or (type(one) is not type(other) and printed(one) == printed(other))


def call(target: Any, name: str, arguments: list[Any]) -> Any:
    """Call a method; one that there is not, or on null, gives null. Raises what a wrong argument raises."""
    if isinstance(target, dict) and callable(own := target.get(name)):
        return own(*arguments)
    for kind, methods in _METHODS:
        if isinstance(target, kind) and name in methods:
            return methods[name](target, *arguments)
    if target is not None and name in ("toString", "equals"):
        return printed(target) if name == "toString" else same(target, arguments[0])
    return None


def _put(target: dict[Any, Any], key: Any, value: Any) -> Any:
    before = target.get(key)
    target[key] = value
    return before


def _add(target: list[Any], *arguments: Any) -> bool:
    if len(arguments) == 2:
        target.insert(int(arguments[0]), arguments[1])
    else:
        target.append(arguments[0])
    return True


def _set(target: list[Any], index: int, value: Any) -> Any:
    before, target[index] = target[index], value
    return before


def _remove(target: list[Any], what: Any) -> Any:
    if isinstance(what, int):
        return target.pop(what)
    if what in target:
        target.remove(what)
        return True
    return False


def _replaced(target: str, pattern: str, replacement: str, count: int = 0) -> str:
    return re.sub(pattern, re.sub(r"\$(\d)", r"\\\1", replacement), target, count=count)


def _split(target: str, pattern: str, limit: int = 0) -> list[str]:
    parts = re.split(pattern, target, maxsplit=max(0, limit - 1))
    while not limit and len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts


_OF_TEXT: dict[str, Callable[..., Any]] = {
    "length": len,
    "size": len,
    "isEmpty": lambda s: not s,
    "isBlank": lambda s: not s.strip(),
    "toUpperCase": str.upper,
    "toLowerCase": str.lower,
    "trim": str.strip,
    "strip": str.strip,
    "concat": lambda s, other: s + other,
    "contains": lambda s, other: other in s,
    "startsWith": lambda s, other: s.startswith(other),
    "endsWith": lambda s, other: s.endswith(other),
    "indexOf": lambda s, other, start=0: s.find(other, start),
    "lastIndexOf": lambda s, other: s.rfind(other),
    "charAt": lambda s, index: s[index],
    "substring": lambda s, begin, end=None: s[begin:end],
    "replace": lambda s, old, new: s.replace(old, new),
    "replaceAll": _replaced,
    "replaceFirst": lambda s, pattern, new: _replaced(s, pattern, new, 1),
    "matches": lambda s, pattern: re.fullmatch(pattern, s) is not None,
    "split": _split,
    "equals": lambda s, other: s == other,
    "equalsIgnoreCase": lambda s, other: isinstance(other, str) and s.lower() == other.lower(),
    "compareTo": lambda s, other: (s > other) - (s < other),
}
_OF_LISTS: dict[str, Callable[..., Any]] = {
    "size": len,
    "length": len,
    "isEmpty": lambda items: not items,
    "get": lambda items, index: items[int(index)],
    "set": _set,
    "add": _add,
    "addAll": lambda items, more: items.extend(more) or bool(more),
    "remove": _remove,
    "contains": lambda items, item: item in items,
    "indexOf": lambda items, item: items.index(item) if item in items else -1,
    "subList": lambda items, begin, end: items[begin:end],
}
_OF_MAPS: dict[str, Callable[..., Any]] = {
    "size": len,
    "isEmpty": lambda entries: not entries,
    "get": lambda entries, key: entries.get(key),
    "getOrDefault": lambda entries, key, other: entries.get(key, other),
    "put": _put,
    "putAll": lambda entries, more: entries.update(more),
    "remove": lambda entries, key: entries.pop(key, None),
    "containsKey": lambda entries, key: key in entries,
    "containsValue": lambda entries, value: value in entries.values(),
    "keySet": lambda entries: list(entries),
    "values": lambda entries: list(entries.values()),
    "entrySet": lambda entries: [{"key": key, "value": value} for key, value in entries.items()],
}
_OF_ENTRIES: dict[str, Callable[..., Any]] = {
    "getKey": lambda entry: entry.get("key"),
    "getValue": lambda entry: entry.get("value"),
}
_OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "intValue": int,
    "longValue": int,
    "doubleValue": float,
    "parseInt": lambda _, text: int(text),
    "parseDouble": lambda _, text: float(text),
    "compareTo": lambda one, other: (one > other) - (one < other),
}
_METHODS: tuple[tuple[Any, dict[str, Callable[..., Any]]], ...] = (
    (str, _OF_TEXT),
    (list, _OF_LISTS),
    (dict, {**_OF_ENTRIES, **_OF_MAPS}),
    ((int, float), _OF_NUMBERS),
)
