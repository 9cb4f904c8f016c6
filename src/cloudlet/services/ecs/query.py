"""The cluster query language: which container instances (and their tasks) an expression is true of.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-query-language.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cloudlet.services.ecs.base import invalid

# What an expression is asked about: subject -> its values; a subject that is not there has none.
Facts = Mapping[str, list[str]]
Test = Callable[[Facts], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*"|'[^']*')|(?P<sign>==|!=|>=|<=|>|<|=~|!~|!in\b|!exists\b|&&|\|\||!|\(|\)|\[|\]|,)"""
    r"""|(?P<word>[^\s()\[\],=!<>~&|"']+))"""
)
_SIGNS = {
    "equals": "==",
    "not_equals": "!=",
    "greater_than": ">",
    "greater_than_equal": ">=",
    "less_than": "<",
    "less_than_equal": "<=",
    "matches": "=~",
    "not_matches": "!~",
    "not_in": "!in",
    "not_exists": "!exists",
    "and": "&&",
    "or": "||",
    "not": "!",
}


def parse(expression: str) -> Test:
    """An expression as a test. Raises InvalidParameterException."""
    tokens: list[str] = []
    position, text = 0, expression.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _wrong(expression)
        position = found.end()
        word = found["text"] or found["sign"] or found["word"]
        tokens.append(word if found["text"] else _SIGNS.get(word, word))
    parser = _Parser(expression, tokens)
    test = parser.any_of()
    if parser.tokens:
        raise _wrong(expression)
    return test


class _Parser:
    """Reads tokens from their front: ``or`` over ``and`` over ``not`` over one comparison."""

    def __init__(self, expression: str, tokens: list[str]) -> None:
        self._expression = expression
        self.tokens = tokens

    def any_of(self) -> Test:
        tests = [self._all_of()]
        while self._takes("||"):
            tests.append(self._all_of())
        return tests[0] if len(tests) == 1 else lambda facts: any(test(facts) for test in tests)

    def _all_of(self) -> Test:
        tests = [self._one()]
        while self._takes("&&"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda facts: all(test(facts) for test in tests)

    def _one(self) -> Test:
        if self._takes("!"):
            test = self._one()
            return lambda facts: not test(facts)
        if self._takes("("):
            test = self.any_of()
            self._must(")")
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        subject, sign = self._next(), self._next()
        if sign in ("exists", "!exists"):
            return lambda facts: bool(facts.get(subject)) == (sign == "exists")
        if sign in ("in", "!in"):
            self._must("[")
            values = [_plain(self._next())]
            while self._takes(","):
                values.append(_plain(self._next()))
            self._must("]")
            return lambda facts: any(one in values for one in facts.get(subject, ())) == (sign == "in")
        value = _plain(self._next())
        if sign in ("=~", "!~"):
            try:
                pattern = re.compile(value)
            except re.error:
                raise _wrong(self._expression) from None
            return lambda facts: any(pattern.search(one) for one in facts.get(subject, ())) == (sign == "=~")
        if sign in ("==", "!="):
            return lambda facts: (value in facts.get(subject, ())) == (sign == "==")
        if sign not in (">", ">=", "<", "<="):
            raise _wrong(self._expression)
        return lambda facts: any(_compares(one, sign, value) for one in facts.get(subject, ()))

    def _takes(self, token: str) -> bool:
        if self.tokens[:1] == [token]:
            del self.tokens[0]
            return True
        return False

    def _must(self, token: str) -> None:
        if not self._takes(token):
            raise _wrong(self._expression)

    def _next(self) -> str:
        if not self.tokens:
            raise _wrong(self._expression)
        return self.tokens.pop(0)


def _plain(word: str) -> str:
    return word[1:-1] if word[:1] in "\"'" else word


def _compares(one: str, sign: str, other: str) -> bool:
    left: Any = one
    right: Any = other
    try:
        left, right = float(one), float(other)
    except ValueError:
        pass
    return bool({">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[sign])


def _wrong(expression: str) -> Exception:
    return invalid(f"Invalid expression: {expression}")
