"""Filter patterns: terms, JSON conditions in braces, and space-delimited columns in brackets.

``compile_pattern(text)`` gives a function from a message to what it extracts (a dictionary, perhaps an empty one), or
None when the message doesn't match.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError

Extracted = dict[str, str]
Pattern = Callable[[str], Extracted | None]
_Test = Callable[[Any], bool]

_TOKEN = re.compile(r'\s*(?:(?P<op>&&|\|\||!=|<=|>=|[=<>()])|(?P<quoted>"(?:\\.|[^"\\])*")|(?P<regex>%[^%]*%)'
                    r"|(?P<path>\$(?:\.[\w@\-]+|\[[^\]]*\])*)|(?P<word>[^\s()=<>!&|\"]+))")  # fmt: skip
_STEP = re.compile(r"\.([\w@\-]+)|\.?\[(\d+|\*|'[^']*'|\"[^\"]*\")\]")
_TERM = re.compile(r'\s*([?-]?)("(?:\\.|[^"\\])*"|%[^%]*%|[^\s"]+)')
_COLUMN = re.compile(r'"((?:\\.|[^"\\])*)"|\[([^\]]*)\]|(\S+)')
_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|%[^%]*%|,')
_ABSENT = object()


def invalid() -> AwsError:
    """The pattern cannot be read."""
    return AwsError("InvalidParameterException", "Invalid filter pattern")


@functools.lru_cache(256)
def compile_pattern(text: str) -> Pattern:
    """A filter pattern as a function. Raises InvalidParameterException."""
    stripped = text.strip()
    if not stripped:
        return lambda message: {}
    if stripped[0] == "{":
        if stripped[-1] != "}":
            raise invalid()
        return _json(stripped[1:-1])
    if stripped[0] == "[":
        if stripped[-1] != "]":
            raise invalid()
        return _columns(stripped[1:-1])
    return _terms(stripped)


def _terms(text: str) -> Pattern:
    """Every plain term and no excluded one; of terms with a question mark one is enough."""
    needed: list[_Test] = []
    excluded: list[_Test] = []
    either: list[_Test] = []
    place = 0
    while place < len(text):
        match = _TERM.match(text, place)
        if match is None:
            raise invalid()
        {"": needed, "-": excluded, "?": either}[match[1]].append(_contains(match[2]))
        place = match.end()

    def matches(message: str) -> Extracted | None:
        if not all(test(message) for test in needed) or any(test(message) for test in excluded):
            return None
        # AWS: among plain terms those with a question mark count for nothing.
        if either and not needed and not any(test(message) for test in either):
            return None
        return {}

    return matches


def _contains(term: str) -> _Test:
    if len(term) > 1 and term[0] == term[-1] == "%":
        return _regex(term)
    plain = _unquote(term) if term[0] == '"' else term
    return lambda message: plain in message


def _regex(term: str) -> _Test:
    try:
        found = re.compile(term[1:-1]).search
    except re.error:
        raise invalid() from None
    return lambda value: isinstance(value, str) and found(value) is not None


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


# JSON


def _json(text: str) -> Pattern:
    reader = _Reader(text, selector)
    test = reader.condition()
    reader.end()

    def matches(message: str) -> Extracted | None:
        if "{" not in message:
            return None
        try:
            document = json.loads(message)
        except ValueError:
            return None
        if not isinstance(document, dict) or not test(document):
            return None
        extracted = {}
        for name, select in reader.names.items():
            if found := select(document):
                extracted[name] = found[0] if isinstance(found[0], str) else json.dumps(found[0])
        return extracted

    return matches


def selector(path: str) -> Callable[[Any], list[Any]]:
    """``$.a.b[0]`` as a function from a document to the values there. Raises InvalidParameterException."""
    steps: list[str | int | None] = []
    place = 1
    while place < len(path):
        match = _STEP.match(path, place)
        if match is None:
            raise invalid()
        if match[1] is not None:
            steps.append(match[1])
        else:
            steps.append(None if match[2] == "*" else int(match[2]) if match[2].isdigit() else match[2][1:-1])
        place = match.end()
    if not path.startswith("$"):
        raise invalid()

    def select(document: Any) -> list[Any]:
        found = [document]
        for step in steps:
            if step is None:
                found = [item for value in found if isinstance(value, list) for item in value]
            elif isinstance(step, int):
                found = [value[step] for value in found if isinstance(value, list) and step < len(value)]
            else:
                found = [value[step] for value in found if isinstance(value, dict) and step in value]
        return found

    return select


class _Reader:
    """Reads conditions joined by && and ||. ``selector`` makes of a name a function to the values of that name."""

    def __init__(self, text: str, selector: Callable[[str], Callable[[Any], list[Any]]]) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._place = 0
        self._selector = selector
        self.names: dict[str, Callable[[Any], list[Any]]] = {}
        place, text = 0, text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise invalid()
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind]))
            place = match.end()

    def end(self) -> None:
        """Nothing may follow."""
        if self._place != len(self._tokens):
            raise invalid()

    def condition(self) -> _Test:
        """One or more conditions; && binds tighter than ||."""
        tests = [self._all()]
        while self._take("op", "||"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)

    def _all(self) -> _Test:
        tests = [self._one()]
        while self._take("op", "&&"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)

    def _one(self) -> _Test:
        if self._take("op", "("):
            test = self.condition()
            if not self._take("op", ")"):
                raise invalid()
            return test
        _, name = self._next()
        select = self.names.get(name) or self._selector(name)
        self.names[name] = select
        kind, operator = self._next()
        if kind == "word" and operator.upper() == "IS":
            wanted = {"NULL": None, "TRUE": True, "FALSE": False}.get(self._next()[1].upper(), _ABSENT)
            if wanted is _ABSENT:
                raise invalid()
            return lambda value: any(found is wanted for found in select(value))
        if kind == "word" and operator.upper() == "NOT":
            if self._next()[1].upper() != "EXISTS":
                raise invalid()
            return lambda value: not select(value)
        if kind == "word" and operator.upper() == "EXISTS":
            return lambda value: bool(select(value))
        if kind != "op" or operator not in _OPERATORS:
            raise invalid()
        kind, wanted_text = self._next()
        compare = _comparison(operator, kind, wanted_text)
        return lambda value: any(compare(found) for found in select(value))

    def _next(self) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise invalid()
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self, kind: str, text: str) -> bool:
        if self._place < len(self._tokens) and self._tokens[self._place] == (kind, text):
            self._place += 1
            return True
        return False


_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


def _comparison(operator: str, kind: str, text: str) -> _Test:
    """``<operator> <value>`` as a test of one value."""
    if kind not in ("quoted", "regex", "word"):
        raise invalid()
    if operator not in ("=", "!="):
        limit = _number(text)
        if limit is None:
            raise invalid()
        order: dict[str, Callable[[float], bool]] = {
            "<": lambda number: number < limit,
            "<=": lambda number: number <= limit,
            ">": lambda number: number > limit,
            ">=": lambda number: number >= limit,
        }
        compare = order[operator]

        def ordered(value: Any) -> bool:
            number = _number(value)
            return number is not None and compare(number)

        return ordered
    equals = _equality(kind, text)
    return equals if operator == "=" else lambda value: not equals(value)


def _equality(kind: str, text: str) -> _Test:
    if kind == "regex":
        return _regex(text)
    plain = _unquote(text) if kind == "quoted" else text
    if "*" in plain:
        whole = re.compile(".*".join(re.escape(part) for part in plain.split("*")), re.DOTALL).fullmatch
        return lambda value: whole(_text(value)) is not None
    number = _number(plain) if kind == "word" else None
    if number is not None:
        return lambda value: _number(value) == number
    return lambda value: _text(value) == plain


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


# Columns


def _columns(text: str) -> Pattern:
    """Named columns, each perhaps with conditions; ``...`` stands for any number of them."""
    names: list[str | None] = []
    tests: list[tuple[str, _Test]] = []
    for position, part in enumerate(_split(text), start=1):
        if part == "...":
            if None in names:
                raise invalid()
            names.append(None)
            continue
        bare = re.fullmatch(r"[\w.\-]*", part)
        if bare is not None:
            names.append(part or f"${position}")
            continue
        first = re.match(r"\s*\(?\s*([\w.\-]+)", part)
        if first is None:
            raise invalid()
        reader = _Reader(part, _field)
        tests.append((first[1], reader.condition()))
        reader.end()
        if set(reader.names) != {first[1]}:
            raise invalid()
        names.append(first[1])

    def matches(message: str) -> Extracted | None:
        values = [next((group for group in found.groups() if group is not None), "")
                  for found in _COLUMN.finditer(message)]  # fmt: skip
        row = _assign(names, values)
        if row is None or not all(test(row) for _, test in tests):
            return None
        return {name if name.startswith("$") else f"${name}": value for name, value in row.items()}

    return matches


def _field(name: str) -> Callable[[Any], list[Any]]:
    return lambda row: [row[name]] if name in row else []


def _split(text: str) -> list[str]:
    """The parts between commas that are not quoted."""
    parts, start = [], 0
    for found in _COMMA.finditer(text):
        if found[0] == ",":
            parts.append(text[start : found.start()].strip())
            start = found.end()
    return [*parts, text[start:].strip()]


def _assign(names: list[str | None], values: list[str]) -> dict[str, str] | None:
    """Values under their columns' names, or None when their numbers differ."""
    if None not in names:
        if len(names) != len(values):
            return None
        return {str(name): value for name, value in zip(names, values, strict=True)}
    gap = names.index(None)
    before, after = names[:gap], names[gap + 1 :]
    if len(values) < len(before) + len(after):
        return None
    row = {str(name): value for name, value in zip(before, values, strict=False)}
    if after:
        row |= {str(name): value for name, value in zip(after, values[-len(after) :], strict=True)}
    return row
