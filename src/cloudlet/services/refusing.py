"""What an operation takes that has no effect here: its service lists it, and who gives it is told so by its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import Any

from cloudlet.errors import not_implemented
from cloudlet.services.api import Call, Input, Output

Method = Callable[[Call, Input], Awaitable[Output]]


def refusing(method: Method, operation: str, members: str) -> Method:
    """An operation that refuses members of its input, which are separated by spaces.

    ``Outer.Inner`` is a member of a structure, or of each of a list. ``Name!=value`` is refused unless it is AWS's own
    default; without one, what is empty or false asks for nothing. The operation raises NotImplemented.
    """
    refused = [(path.split("."), default) for path, _, default in (name.partition("!=") for name in members.split())]

    def asks(value: Any, default: str) -> bool:
        return str(value) != default if default else bool(value)

    @wraps(method)
    async def call_unless_refused(call: Call, input: Input) -> Output:
        for path, default in refused:
            if any(asks(value, default) for value in _given(input, path)):
                raise not_implemented(f"{operation} with {'.'.join(path)}")
        return await method(call, input)

    return call_unless_refused


def _given(value: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _given(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _given(value[path[0]], path[1:])
