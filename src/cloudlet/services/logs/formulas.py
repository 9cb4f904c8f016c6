"""Expressions of Logs Insights: their words and functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cloudlet.services.logs.values import Row, Value, number_of, text_of

_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')|`(?P<quoted>[^`]+)`"
    r"|(?P<number>\d+(?:\.\d+)?(?![\w.]))|(?P<duration>\d+\s?(?:ms|s|m|h|d|w|mo|q|y)\b)"
    r"|(?P<name>[@A-Za-z_][\w@]*(?:[.:][\w@\-]+|\[\d+\])*)|(?P<sign>=~|!=|<=|>=|[-+*/%^=<>()\[\],]))"
)
_REGEX = re.compile(r"\s*/((?:\\.|[^/\\])*)/(i?)")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DEEPEST = 64


class QueryError(Exception):
    """What is wrong with a query."""


Formula = Callable[[Row], Value]


def tokens_of(text: str, regex_anywhere: bool = False) -> list[tuple[str, str, str]]:
    """The kinds, meanings and texts of a command's words. A slash divides, but after ``like`` and ``=~``."""
    tokens: list[tuple[str, str, str]] = []
    place, text = 0, text.rstrip()
    while place < len(text):
        pattern = regex_anywhere or (bool(tokens) and tokens[-1][1].lower() in ("like", "=~"))
        if pattern and (regex := _REGEX.match(text, place)) is not None:
            tokens.append(("regex", f"(?i){regex[1]}" if regex[2] else regex[1], regex[0].strip()))
            place = regex.end()
            continue
        found = _TOKEN.match(text, place)
        if found is None:
            raise QueryError(f"unexpected symbol found {text[place : place + 10].strip()}")
        kind = str(found.lastgroup)
        meaning = found[kind]
        if kind == "text":
            meaning = re.sub(r"\\(.)", r"\1", meaning[1:-1])
        tokens.append(("name" if kind == "quoted" else kind, meaning, found[0].strip()))
        place = found.end()
    return tokens


class Parser:
    """Expressions over tokens; ``place`` is the next token."""

    def __init__(self, tokens: list[tuple[str, str, str]]) -> None:
        self._tokens = tokens
        self.place = 0
        self._depth = 0

    def peek(self) -> tuple[str, str]:
        """The next token's kind and meaning."""
        return self._tokens[self.place][:2] if self.place < len(self._tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        """The next token, which is passed."""
        token = self.peek()
        if token[0] == "end":
            raise QueryError("the query ends too early")
        self.place += 1
        return token

    def word(self, word: str) -> bool:
        """Pass a word when it is the next."""
        kind, text = self.peek()
        if kind == "name" and text.lower() == word:
            self.place += 1
            return True
        return False

    def sign(self, sign: str) -> bool:
        """Pass a sign when it is the next."""
        if self.peek() == ("sign", sign):
            self.place += 1
            return True
        return False

    def need(self, sign: str) -> None:
        """Pass a sign that must be there."""
        if not self.sign(sign):
            raise QueryError(f"{sign} is missing")

    def name(self) -> str:
        """A name."""
        kind, text = self.take()
        if kind != "name":
            raise QueryError(f"unexpected symbol found {text}")
        return text

    def text(self, start: int) -> str:
        """What was written from a place on."""
        return "".join(f"{text}{' ' if text == ',' else ''}" for _, _, text in self._tokens[start : self.place]).strip(
            "`"
        )

    def end(self) -> None:
        """Nothing may follow."""
        if self.place < len(self._tokens):
            raise QueryError(f"unexpected symbol found {self._tokens[self.place][2]}")

    def whole(self) -> Formula:
        """An expression that is everything."""
        formula = self.expression()
        self.end()
        return formula

    def expression(self) -> Formula:
        """Comparisons with and, or, not."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise QueryError("the query is nested too deeply")
        parts = [self._both()]
        while self.word("or"):
            parts.append(self._both())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else lambda row: any(_true(part(row)) for part in parts)

    def _both(self) -> Formula:
        parts = [self._negated()]
        while self.word("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else lambda row: all(_true(part(row)) for part in parts)

    def _negated(self) -> Formula:
        if self.word("not"):
            inner = self._negated()
            return lambda row: not _true(inner(row))
        return self._comparison()

    def _comparison(self) -> Formula:
        left = self._sum()
        negative = self.word("not")
        if self.word("like") or self.sign("=~"):
            return self._like(left, negative)
        if self.word("in"):
            values = self._list()
            return lambda row: any(_equal(left(row), value(row)) for value in values) != negative
        if negative:
            raise QueryError("unexpected symbol found not")
        kind, sign = self.peek()
        if kind == "sign" and sign in _COMPARE:
            self.place += 1
            compare, right = _COMPARE[sign], self._sum()
            return lambda row: compare(left(row), right(row))
        return left

    def _like(self, left: Formula, negative: bool) -> Formula:
        kind, pattern = self.take()
        if kind not in ("text", "regex"):
            raise QueryError("like needs a text or a regular expression")
        try:
            search = re.compile(re.escape(pattern) if kind == "text" else pattern).search
        except re.error:
            raise QueryError("invalid regular expression") from None

        def test(row: Row) -> Value:
            value = left(row)
            return (value is not None and search(text_of(value)) is not None) != negative

        return test

    def _list(self) -> list[Formula]:
        self.need("[")
        values = [self._sum()]
        while self.sign(","):
            values.append(self._sum())
        self.need("]")
        return values

    def _sum(self) -> Formula:
        return self._calculated(lambda: self._calculated(self._power, "*/%"), "+-")

    def _calculated(self, operand: Callable[[], Formula], signs: str) -> Formula:
        formula = operand()
        while (sign := self.peek())[0] == "sign" and sign[1] in signs:
            self.place += 1
            formula = _arithmetic(sign[1], formula, operand())
        return formula

    def _power(self) -> Formula:
        base = self._atom()
        return _arithmetic("^", base, self._power()) if self.sign("^") else base

    def _atom(self) -> Formula:
        kind, text = self.take()
        if kind == "number":
            number = float(text)
            return lambda row: number
        if kind in ("text", "duration"):
            return lambda row: text
        if (kind, text) == ("sign", "("):
            inner = self.expression()
            self.need(")")
            return inner
        if (kind, text) == ("sign", "-"):
            return _arithmetic("-", lambda row: 0.0, self._atom())
        if kind != "name":
            raise QueryError(f"unexpected symbol found {text}")
        if self.sign("("):
            return self._function(text)
        return lambda row: row.find(text)

    def _function(self, name: str) -> Formula:
        arguments: list[Formula] = []
        if not self.sign(")"):
            arguments.append(self.expression())
            while self.sign(","):
                arguments.append(self.expression())
            self.need(")")
        if name.lower() == "bin":
            arguments.insert(0, lambda row: row.find("@timestamp"))
        function = _FUNCTIONS.get(name.lower())
        if function is None:
            raise QueryError(f"unknown function {name}")

        def call(row: Row) -> Value:
            try:
                return function(*(argument(row) for argument in arguments))
            except (ValueError, OverflowError, ZeroDivisionError, AttributeError):
                return None

        return call


def _true(value: Value) -> bool:
    return bool(value) and value != "0"


def _equal(left: Value, right: Value) -> bool:
    if left is None or right is None:
        return False
    numbers = number_of(left), number_of(right)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return text_of(left) == text_of(right)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Value, Value], bool]:
    def compare(left: Value, right: Value) -> bool:
        first, second = number_of(left), number_of(right)
        if first is not None and second is not None:
            return test(first, second)
        return left is not None and right is not None and test(text_of(left), text_of(right))

    return compare


_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "=": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
}


def _arithmetic(sign: str, left: Formula, right: Formula) -> Formula:
    operate: dict[str, Callable[[float, float], float]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
        "%": math.fmod,
        "^": math.pow,
    }
    work = operate[sign]

    def calculate(row: Row) -> Value:
        first, second = number_of(left(row)), number_of(right(row))
        if first is None or second is None:
            return None
        try:
            return work(first, second)
        except (ArithmeticError, ValueError):
            return None

    return calculate


def shown_time(milliseconds: float) -> str:
    """A time as answers show it."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{int(milliseconds) % 1000:03d}"


def _milliseconds(value: Value) -> float:
    number = number_of(value)
    if number is not None:
        return number
    return datetime.fromisoformat(str(value)).replace(tzinfo=UTC).timestamp() * 1000


def _floor(value: Value, size: Value, up: bool = False) -> str:
    match = re.fullmatch(r"(\d+)\s?([a-z]+)", text_of(size))
    if match is None or match[2] not in _UNITS:
        raise ValueError(size)
    step, time = int(match[1]) * _UNITS[match[2]], _milliseconds(value)
    return shown_time((math.ceil(time / step) if up else math.floor(time / step)) * step)


def _numeric(function: Callable[..., float]) -> Callable[..., Value]:
    def call(*values: Value) -> Value:
        numbers = [number_of(value) for value in values]
        return None if None in numbers else float(function(*numbers))

    return call


def _textual(function: Callable[[str], Value]) -> Callable[..., Value]:
    return lambda value: None if value is None else function(text_of(value))


def _substr(value: Value, start: Value, length: Value = None) -> Value:
    text, first = text_of(value), int(number_of(start) or 0)
    return text[first:] if length is None else text[first : first + int(number_of(length) or 0)]


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "ispresent": lambda value: value is not None,
    "isempty": lambda value: value is None or value == "",
    "isblank": lambda value: value is None or not text_of(value).strip(),
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "concat": lambda *values: "".join(text_of(value) for value in values if value is not None),
    "strlen": _textual(lambda text: float(len(text))),
    "tolower": _textual(str.lower),
    "lower": _textual(str.lower),
    "toupper": _textual(str.upper),
    "upper": _textual(str.upper),
    "trim": _textual(str.strip),
    "ltrim": _textual(str.lstrip),
    "rtrim": _textual(str.rstrip),
    "substr": _substr,
    "replace": lambda value, old, new: text_of(value).replace(text_of(old), text_of(new)),
    "strcontains": lambda value, part: 1.0 if value is not None and text_of(part) in text_of(value) else 0.0,
    "abs": _numeric(abs),
    "ceil": _numeric(math.ceil),
    "floor": _numeric(math.floor),
    "greatest": _numeric(max),
    "least": _numeric(min),
    "log": _numeric(math.log),
    "sqrt": _numeric(math.sqrt),
    "bin": lambda value, size: _floor(value, size),
    "datefloor": lambda value, size: _floor(value, size),
    "dateceil": lambda value, size: _floor(value, size, up=True),
    "frommillis": lambda value: shown_time(_milliseconds(value)),
    "tomillis": lambda value: _milliseconds(value),
}
