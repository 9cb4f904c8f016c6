"""The rules of composite alarms: ``ALARM(a) AND (OK("b") OR NOT INSUFFICIENT_DATA(c))``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cloudlet.errors import not_implemented
from cloudlet.services.cloudwatch.tokens import END, Parser, Token

_TOKEN = re.compile(r'\s*(?:(?P<sign>[()])|"(?P<quoted>[^"]+)"|(?P<word>[^\s()"]+))')
_STATES = ("ALARM", "OK", "INSUFFICIENT_DATA")
_CHILDREN_AT_MOST = 100
_DEEPEST = 64

Test = Callable[[Mapping[str, str]], bool]


class RuleError(Exception):
    """What is wrong with a rule."""


class Rule(NamedTuple):
    """A compiled rule: ``holds`` takes the states of alarms by name."""

    holds: Test
    children: frozenset[str]


def compile_rule(text: str) -> Rule:
    """Compile an AlarmRule. Raises RuleError."""
    return _Parser(text).rule()


def _misplaced(position: int) -> Exception:
    return RuleError(f"at position {position}")


class _Parser(Parser):
    def __init__(self, text: str) -> None:
        super().__init__(_TOKEN, text.strip(), _misplaced)
        self._depth = 0
        self._children: set[str] = set()

    def rule(self) -> Rule:
        test = self._either()
        if self.peek() != END:
            raise RuleError(f"at '{self.peek()[1]}'")
        if len(self._children) > _CHILDREN_AT_MOST:
            raise RuleError(f"it names more than {_CHILDREN_AT_MOST} alarms")
        return Rule(test, frozenset(self._children))

    def _have(self, word: str) -> bool:
        """Go on where this word comes next, in capitals or not."""
        kind, text = self.peek()
        if kind != "word" or text.upper() != word:
            return False
        self.step()
        return True

    def _take(self, sign: str = "") -> Token:
        token = self.step()
        if token == END or (sign and token != ("sign", sign)):
            raise RuleError(f"'{sign}' is missing" if sign else "it ends too early")
        return token

    def _either(self) -> Test:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise RuleError("it is nested too deeply")
        tests = [self._both()]
        while self._have("OR"):
            tests.append(self._both())
        self._depth -= 1
        return tests[0] if len(tests) == 1 else lambda states: any(test(states) for test in tests)

    def _both(self) -> Test:
        tests = [self._negated()]
        while self._have("AND"):
            tests.append(self._negated())
        return tests[0] if len(tests) == 1 else lambda states: all(test(states) for test in tests)

    def _negated(self) -> Test:
        negative = False
        while self._have("NOT"):
            negative = not negative
        test = self._atom()
        return (lambda states: not test(states)) if negative else test

    def _atom(self) -> Test:
        kind, text = self._take()
        word = text.upper() if kind == "word" else ""
        if (kind, text) == ("sign", "("):
            test = self._either()
            self._take(")")
            return test
        if word in ("TRUE", "FALSE"):
            return lambda _: word == "TRUE"
        if word == "AT_LEAST":
            raise not_implemented("AlarmRule with AT_LEAST")
        if word not in _STATES:
            raise RuleError(f"at '{text}'")
        self._take("(")
        named, name = self._take()
        if named == "sign":
            raise RuleError("an alarm's name is missing")
        self._take(")")
        if name.startswith("arn:"):
            name = name.split(":alarm:", 1)[-1]
        self._children.add(name)
        return lambda states: states.get(name, "INSUFFICIENT_DATA") == word
