"""AWS::LanguageExtensions: Fn::ForEach. The other extensions are functions like all others."""

from __future__ import annotations

import re
from typing import Any

from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import UNKNOWN, Resolver, text_of

_LOOP = re.compile(r"Fn::ForEach::([A-Za-z0-9]+)\Z")
_MOST = 10_000
NAME = "AWS::LanguageExtensions"


def expand(document: dict[str, Any], resolver: Resolver) -> dict[str, Any]:
    """The document with every Fn::ForEach written out; ``resolver`` evaluates the collections.

    Raises ValidationError.
    """
    expander = _Expander(resolver)
    return {key: expander.expand(value, {}) for key, value in document.items()}


class _Expander:
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._made = 0

    def expand(self, value: Any, names: dict[str, str]) -> Any:
        if isinstance(value, dict):
            if len(value) == 1 and isinstance(name := value.get("Ref"), str) and name in names:
                return names[name]
            found: dict[str, Any] = {}
            for key, below in value.items():
                if loop := _LOOP.match(key):
                    pairs = self._loop(loop.group(1), below, names)
                else:
                    pairs = [(_fill(key, names), self.expand(below, names))]
                for made, item in pairs:
                    if made in found:
                        raise invalid(f"Transform {NAME} failed with: duplicate key {made} in Fn::ForEach")
                    found[made] = item
            return found
        if isinstance(value, list):
            return [self.expand(item, names) for item in value]
        if isinstance(value, str) and names:
            return _fill(value, names)
        return value

    def _loop(self, loop: str, given: Any, names: dict[str, str]) -> list[tuple[str, Any]]:
        if not (isinstance(given, list) and len(given) == 3 and isinstance(given[2], dict)):
            raise invalid(f"Transform {NAME} failed with: Fn::ForEach::{loop} layout is incorrect")
        identifier, collection, body = given
        if not isinstance(identifier, str) or identifier in names:
            raise invalid(f"Transform {NAME} failed with: Fn::ForEach::{loop} needs an identifier of its own")
        items = self._resolver.resolve(self.expand(collection, names))
        if items is UNKNOWN or not isinstance(items, list):
            raise invalid(
                f"Transform {NAME} failed with: Fn::ForEach::{loop} cannot iterate over its collection: it must be a "
                "list"
            )
        pairs: list[tuple[str, Any]] = []
        for item in items:
            inner = {**names, identifier: text_of(item)}
            made = self.expand(body, inner)
            self._made += len(made)
            if self._made > _MOST:
                raise invalid(f"Transform {NAME} failed with: Fn::ForEach makes too much")
            pairs.extend(made.items())
        return pairs


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"${{{name}}}", value).replace(f"&{{{name}}}", re.sub(r"[^A-Za-z0-9]", "", value))
    return text
