"""The intrinsic functions of JSONPath states: ``States.Format('{} of {}', $.name, States.ArrayLength($.all))``."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import math
import random
import re
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.services.jsonpath import BadPath, NotFound, Scope, compile_path, is_number, same

Compiled = Callable[[Scope], Any]
_NAME = re.compile(r"States\.([A-Za-z0-9]+)\s*\(")
_STRING = re.compile(r"'((?:[^'\\]|\\.)*)'")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?=\s*[,)])")
_WORD = re.compile(r"(true|false|null)(?=\s*[,)])")
_LONGEST = 1000  # elements of an array that ArrayRange makes
_BASE64_AT_MOST = 10_000
_HASHES = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}


class BadIntrinsic(ValueError):
    """The text is no call of an intrinsic function."""


class IntrinsicFailed(Exception):
    """A call with arguments that the function does not take."""


@functools.lru_cache(2048)
def compile_intrinsic(text: str) -> Compiled:
    """The function call that a text writes. Raises BadIntrinsic."""
    call, at = _call(text, 0)
    if text[at:].strip():
        raise BadIntrinsic(text)
    return call


def _call(text: str, at: int) -> tuple[Compiled, int]:
    match = _NAME.match(text, at)
    if match is None or match[1] not in _FUNCTIONS:
        raise BadIntrinsic(text)
    function, least, most = _FUNCTIONS[match[1]]
    at = _space(text, match.end())
    arguments: list[Compiled] = []
    while not text.startswith(")", at):
        argument, at = _argument(text, at)
        arguments.append(argument)
        at = _space(text, at)
        if text.startswith(",", at):
            at = _space(text, at + 1)
        elif not text.startswith(")", at):
            raise BadIntrinsic(text)
    if not least <= len(arguments) <= most:
        raise BadIntrinsic(text)

    def run(scope: Scope) -> Any:
        try:
            return function(*[argument(scope) for argument in arguments])
        except (TypeError, ValueError, LookupError) as error:
            if isinstance(error, NotFound):
                raise
            raise IntrinsicFailed(f"The arguments of {text[match.start() : match.end() - 1]} are not valid") from error

    return run, at + 1


def _argument(text: str, at: int) -> tuple[Compiled, int]:
    if (match := _STRING.match(text, at)) is not None:
        # Format tells an escaped brace from a placeholder, so it alone keeps the escapes of braces.
        value: Any = _Template(match[1])
        return (lambda scope: value), match.end()
    if (match := _NUMBER.match(text, at)) is not None:
        value = msgspec.json.decode(match[0])
        return (lambda scope: value), match.end()
    if (match := _WORD.match(text, at)) is not None:
        value = msgspec.json.decode(match[1])
        return (lambda scope: value), match.end()
    if text.startswith("States.", at):
        return _call(text, at)
    if text.startswith("$", at):
        end = _end_of_path(text, at)
        try:
            path = compile_path(text[at:end].rstrip())
        except BadPath:
            raise BadIntrinsic(text) from None
        return path.value, end
    raise BadIntrinsic(text)


def _end_of_path(text: str, at: int) -> int:
    """Where a path as an argument ends: at a comma or a parenthesis outside of its brackets."""
    depth = 0
    quote = ""
    for index in range(at, len(text)):
        char = text[index]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[(":
            depth += 1
        elif char in "])" and depth:
            depth -= 1
        elif char in ",)" and not depth:
            return index
    raise BadIntrinsic(text)


def _space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


class _Template(str):
    """A text as it is written, with its escapes; ``plain`` is what it means."""

    __slots__ = ()

    @property
    def plain(self) -> str:
        return re.sub(r"\\(.)", r"\1", self)


def _plain(value: Any) -> Any:
    return value.plain if isinstance(value, _Template) else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _formatted(value: Any) -> str:
    """A value in a text: objects are written as Java writes its maps."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_formatted(item)}" for key, item in value.items()) + "}"
    return _shown(value)


def _text(value: Any) -> str:
    value = _plain(value)
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _whole(value: Any) -> int:
    if not is_number(value):
        raise TypeError(value)
    return math.floor(float(value) + 0.5) if isinstance(value, float) else int(value)


def _format(template: Any, *arguments: Any) -> str:
    left = list(arguments)

    def fill(match: re.Match[str]) -> str:
        if match[0] == "{}":
            return _formatted(_plain(left.pop(0)))
        return match[1]

    filled = re.sub(r"\\(.)|\{\}", fill, template if isinstance(template, str) else _text(template))
    if left:
        raise ValueError("more arguments than placeholders")
    return filled


def _parsed(text: Any) -> Any:
    written = _text(text)
    return msgspec.json.decode(written) if written.strip() else None


def _partition(items: Any, size: Any) -> list[Any]:
    length = _whole(size)
    if length < 1:
        raise ValueError(size)
    return [_list(items)[at : at + length] for at in range(0, len(items), length)]


def _range(first: Any, last: Any, step: Any) -> list[int]:
    start, end, by = _whole(first), _whole(last), _whole(step)
    numbers = range(start, end + (1 if by > 0 else -1), by)
    if len(numbers) > _LONGEST:
        raise ValueError("too many")
    return list(numbers)


def _item(items: Any, index: Any) -> Any:
    at = _whole(index)
    if at < 0:
        raise IndexError(at)
    return _list(items)[at]


def _unique(items: Any) -> list[Any]:
    found: dict[bytes, Any] = {}
    for item in _list(items):
        found.setdefault(msgspec.json.encode(item, order="sorted"), item)
    return list(found.values())


def _encode(text: Any) -> str:
    if len(_text(text)) > _BASE64_AT_MOST:
        raise ValueError("too long")
    return base64.b64encode(_text(text).encode()).decode()


def _decode(text: Any) -> str:
    if len(_text(text)) > _BASE64_AT_MOST:
        raise ValueError("too long")
    try:
        return base64.b64decode(_text(text), validate=True).decode()
    except binascii.Error as error:
        raise ValueError(text) from error


def _hash(data: Any, algorithm: Any) -> str:
    text = _shown(_plain(data))
    return hashlib.new(_HASHES[_text(algorithm)], text.encode(), usedforsecurity=False).hexdigest()


def _merge(first: Any, second: Any, deep: Any) -> dict[str, Any]:
    if deep is not False or not isinstance(first, dict) or not isinstance(second, dict):
        raise ValueError("only a shallow merge of two objects exists")
    return {**first, **second}


def _random(first: Any, last: Any, seed: Any = None) -> int:
    start, end = _whole(first), _whole(last)
    if start >= end:
        raise ValueError("nothing lies between")
    return random.Random(_whole(seed) if seed is not None else None).randrange(start, end)


def _split(text: Any, separators: Any) -> list[str]:
    characters = _text(separators)
    if not characters:
        return [_text(text)]
    return [part for part in re.split(f"[{re.escape(characters)}]", _text(text)) if part]


_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "Format": (_format, 1, 1000),
    "StringToJson": (_parsed, 1, 1),
    "JsonToString": (lambda value: msgspec.json.encode(_plain(value)).decode(), 1, 1),
    "Array": (lambda *items: [_plain(item) for item in items], 0, 1000),
    "ArrayPartition": (_partition, 2, 2),
    "ArrayContains": (lambda items, value: any(same(item, _plain(value)) for item in _list(items)), 2, 2),
    "ArrayRange": (_range, 3, 3),
    "ArrayGetItem": (_item, 2, 2),
    "ArrayLength": (lambda items: len(_list(items)), 1, 1),
    "ArrayUnique": (_unique, 1, 1),
    "Base64Encode": (_encode, 1, 1),
    "Base64Decode": (_decode, 1, 1),
    "Hash": (_hash, 2, 2),
    "JsonMerge": (_merge, 3, 3),
    "MathRandom": (_random, 2, 3),
    "MathAdd": (lambda first, second: _whole(first) + _whole(second), 2, 2),
    "StringSplit": (_split, 2, 2),
    "UUID": (lambda: str(uuid.uuid4()), 0, 0),
}
