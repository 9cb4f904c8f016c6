"""Projections: the part of an item that a request asks for, and the parts that an update touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cloudlet.services.dynamodb.conditions import getter
from cloudlet.services.dynamodb.syntax import Path
from cloudlet.services.dynamodb.values import Item, Value

Project = Callable[[Item], Item]


def compile_projection(paths: Iterable[Path]) -> Project:
    """Picks the given paths out of an item; list members close up."""
    paths = tuple(paths)
    if all(len(path.parts) == 1 for path in paths):
        names = tuple(str(path.parts[0]) for path in paths)
        return lambda item: {name: item[name] for name in names if name in item}

    def project(item: Item) -> Item:
        # A tree of what was found: maps by name and lists by position, values at the leaves.
        root: dict[str | int, Any] = {}
        for path in paths:
            found = getter(path.parts)(item, {})
            if found is None:
                continue
            branch = root
            for part in path.parts[:-1]:
                branch = branch.setdefault(part, {})
            branch[path.parts[-1]] = _Leaf(found)
        return {str(name): _grow(branch) for name, branch in root.items()}

    return project


class _Leaf:
    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


def _grow(branch: Any) -> Value:
    if isinstance(branch, _Leaf):
        return branch.value
    if isinstance(next(iter(branch)), int):
        return {"L": [_grow(branch[position]) for position in sorted(branch)]}
    return {"M": {name: _grow(below) for name, below in branch.items()}}
