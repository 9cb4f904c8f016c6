"""Metric math: the language of expressions, compiled to functions. What the functions do is in ``functions.py``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cloudlet.services.cloudwatch.functions import FUNCTIONS, REFUSED, Environment, MathError, Value, broadcast
from cloudlet.services.cloudwatch.tokens import END, Parser, Token

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[A-Za-z_]\w*)|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<sign>\|\||&&|==|!=|<=|>=|[-+*/^%<>()\[\],]))"
)
_DEEPEST = 64  # parentheses in each other

Node = Callable[[Environment], Value]


def _truth(test: Callable[[float, float], bool]) -> Callable[[float, float], float | None]:
    return lambda left, right: 1.0 if test(left, right) else 0.0


def _divided(left: float, right: float) -> float | None:
    return left / right if right else None


def _power(left: float, right: float) -> float | None:
    try:
        found = left**right
    except (OverflowError, ZeroDivisionError):
        return None
    return found if isinstance(found, float) else None


_COMPARISONS: dict[str, Callable[[float, float], float | None]] = {
    "==": _truth(operator.eq),
    "!=": _truth(operator.ne),
    "<=": _truth(operator.le),
    ">=": _truth(operator.ge),
    "<": _truth(operator.lt),
    ">": _truth(operator.gt),
}
_SUMS: dict[str, Callable[[float, float], float | None]] = {"+": operator.add, "-": operator.sub}
_PRODUCTS: dict[str, Callable[[float, float], float | None]] = {
    "*": operator.mul,
    "/": _divided,
    "%": lambda left, right: left % right if right else None,
}
_AND = {sign: lambda left, right: 1.0 if left and right else 0.0 for sign in ("&&", "AND")}
_OR = {sign: lambda left, right: 1.0 if left or right else 0.0 for sign in ("||", "OR")}


class Expression(NamedTuple):
    """A compiled expression. ``names`` are the ids that it mentions; ``everything`` that it asks for METRICS(),
    ``searches`` for metrics that it does not name, ``bands`` for expected values; ``rules`` are insight rules."""

    evaluate: Node
    names: frozenset[str]
    rules: frozenset[str]
    everything: bool
    searches: bool
    bands: bool


def compile_expression(text: str) -> Expression:
    """Compile an expression. Raises MathError and, by name, NotImplemented for what is not there."""
    return _Parser(text).expression()


def _misplaced(position: int) -> Exception:
    return MathError(f"Invalid syntax at position {position}.")


class _Parser(Parser):
    def __init__(self, text: str) -> None:
        super().__init__(_TOKEN, text, _misplaced)
        self._depth = 0
        self._names: set[str] = set()
        self._rules: set[str] = set()
        self._everything = self._searches = self._bands = False

    def expression(self) -> Expression:
        node = self._either()
        if self.peek() != END:
            raise MathError(f"Invalid syntax at '{self.peek()[1]}'.")
        return Expression(
            node, frozenset(self._names), frozenset(self._rules), self._everything, self._searches, self._bands
        )

    def _take(self, sign: str = "") -> Token:
        token = self.step()
        if token == END or (sign and token != ("sign", sign)):
            raise MathError(f"Invalid syntax: '{sign or 'a value'}' is missing.")
        return token

    def _binary(self, operand: Callable[[], Node], signs: dict[str, Any]) -> Node:
        node = operand()
        while (sign := self.peek())[0] in ("sign", "name") and sign[1] in signs:
            self.step()
            node = _joined(signs[sign[1]], node, operand())
        return node

    def _either(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise MathError("The expression is nested too deeply.")
        node = self._binary(self._both, _OR)
        self._depth -= 1
        return node

    def _both(self) -> Node:
        return self._binary(self._comparison, _AND)

    def _comparison(self) -> Node:
        return self._binary(self._sum, _COMPARISONS)

    def _sum(self) -> Node:
        return self._binary(self._product, _SUMS)

    def _product(self) -> Node:
        return self._binary(self._signed, _PRODUCTS)

    def _signed(self) -> Node:
        negative = False
        while self.peek() in (("sign", "-"), ("sign", "+")):
            negative ^= self._take()[1] == "-"
        node = self._raised()
        return _joined(operator.mul, lambda _: -1.0, node) if negative else node

    def _raised(self) -> Node:
        node = self._atom()
        if self.have(("sign", "^")):
            return _joined(_power, node, self._signed())
        return node

    def _atom(self) -> Node:
        kind, text = self._take()
        if kind == "number":
            number = float(text)
            return lambda _: number
        if kind == "text":
            return lambda _: text[1:-1]
        if kind == "name":
            return self._call(text) if self.peek() == ("sign", "(") else self._name(text)
        if text == "(":
            node = self._either()
            self._take(")")
            return node
        if text == "[":
            parts = self._list("]")
            return lambda env: [one for part in parts for one in _series_of(part(env))]
        raise MathError(f"Invalid syntax at '{text}'.")

    def _name(self, name: str) -> Node:
        if name in ("REPEAT", "LINEAR", "ASC", "DESC") or name in FUNCTIONS:
            return lambda _: name
        if not name[0].islower():
            raise MathError(f"Invalid syntax at '{name}'.")
        self._names.add(name)
        return lambda env: env.value(name)

    def _call(self, name: str) -> Node:
        self._take("(")
        if name in REFUSED:
            raise REFUSED[name]
        if name == "ANOMALY_DETECTION_BAND":
            return self._band()
        parts = self._words() if name == "INSIGHT_RULE_METRIC" else self._list(")")
        if name == "METRICS":
            self._everything = True
            return lambda env: env.metrics(*(part(env) for part in parts))
        self._searches |= name == "SEARCH"
        function = FUNCTIONS.get(name)
        if function is None:
            raise MathError(f"Unknown function '{name}'.")
        return lambda env: function(env, *(part(env) for part in parts))

    def _band(self) -> Node:
        """The id of a query, and perhaps how many standard deviations the band reaches."""
        kind, name = self._take()
        if kind != "name" or not name[0].islower():
            raise MathError("ANOMALY_DETECTION_BAND takes the id of a metric.")
        self._names.add(name)
        self._bands = True
        deviations = 2.0
        if self.have(("sign", ",")):
            kind, text = self._take()
            if kind != "number":
                raise MathError("ANOMALY_DETECTION_BAND takes a number of standard deviations.")
            deviations = float(text)
        self._take(")")
        return lambda env: env.band(name, deviations)

    def _words(self) -> list[Node]:
        """The name of an insight rule, and a metric's, with or without quotes."""
        words = [self._take()[1].strip("\"'")]
        self._rules.add(words[0])
        while self._take()[1] == ",":
            words.append(self._take()[1].strip("\"'"))
        return [lambda _, word=word: word for word in words]  # type: ignore[misc]

    def _list(self, end: str) -> list[Node]:
        parts: list[Node] = []
        if self.have(("sign", end)):
            return parts
        while True:
            parts.append(self._either())
            if self.have(("sign", end)):
                return parts
            self._take(",")


def _joined(join: Callable[[float, float], float | None], left: Node, right: Node) -> Node:
    return lambda env: broadcast(join, left(env), right(env))


def _series_of(value: Value) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, float | str):
        raise MathError("An array holds time series only.")
    return [value]
