"""Search expressions: ``{Namespace,Dimension} MetricName="x" OR word``, compiled to a test of metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html
"""

from __future__ import annotations

import re
from collections.abc import Callable

from cloudlet.services.cloudwatch.functions import MathError
from cloudlet.services.cloudwatch.records import Metric
from cloudlet.services.cloudwatch.tokens import END, Parser

_SCHEMA = re.compile(r"\s*\{([^}]*)\}\s*")
_TOKEN = re.compile(r'\s*(?:(?P<exact>"(?:[^"\\]|\\.)*")|(?P<sign>[()=])|(?P<word>[^\s()="]+))')
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_DEEPEST = 64  # parentheses in each other

Test = Callable[[Metric], bool]
Texts = Callable[[Metric], list[str]]


def compile_search(text: str) -> Test:
    """Compile a search. Raises MathError."""
    schema = _SCHEMA.match(text)
    test = _Parser(text[schema.end() if schema is not None else 0 :]).test()
    if schema is None:
        return test
    namespace, *dimensions = (part.strip().strip('"') for part in schema[1].split(","))
    wanted = sorted(dimensions)

    def within(metric: Metric) -> bool:
        return (
            metric.namespace == namespace
            and [name for name, _ in metric.dimensions] == wanted
            and (test is _anything or test(metric))
        )

    return within


def _anything(metric: Metric) -> bool:
    return True


def _misplaced(position: int) -> Exception:
    return MathError(f"Invalid syntax in the search at position {position}.")


class _Parser(Parser):
    def __init__(self, text: str) -> None:
        super().__init__(_TOKEN, text, _misplaced)
        self._depth = 0

    def test(self) -> Test:
        if self.peek() == END:
            return _anything
        test = self._either(_every_text)
        if self.peek() != END:
            raise MathError(f"Invalid syntax in the search at '{self.peek()[1]}'.")
        return test

    def _either(self, texts: Texts) -> Test:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise MathError("The search is nested too deeply.")
        tests = [self._all(texts)]
        while self.have(("word", "OR")):
            tests.append(self._all(texts))
        self._depth -= 1
        return lambda metric: any(test(metric) for test in tests)

    def _all(self, texts: Texts) -> Test:
        tests = [self._one(texts)]
        while self.peek() not in (("word", "OR"), ("sign", ")"), ("end", "")):
            self.have(("word", "AND"))
            tests.append(self._one(texts))
        return lambda metric: all(test(metric) for test in tests)

    def _one(self, texts: Texts) -> Test:
        kind, text = self.step()
        if (kind, text) == ("word", "NOT"):
            denied = self._one(texts)
            return lambda metric: not denied(metric)
        if (kind, text) == ("sign", "("):
            inner = self._either(texts)
            if self.step() != ("sign", ")"):
                raise MathError("Invalid syntax in the search: ')' is missing.")
            return inner
        if kind not in ("word", "exact"):
            raise MathError(f"Invalid syntax in the search at '{text}'.")
        if self.have(("sign", "=")):
            return self._one(_texts_of(text.strip('"')))
        return _exactly(text[1:-1], texts) if kind == "exact" else _partly(text, texts)


def _every_text(metric: Metric) -> list[str]:
    return [metric.namespace, metric.name, *(text for pair in metric.dimensions for text in pair)]


def _texts_of(name: str) -> Texts:
    """What a metric has under a property's name."""
    if name == "Namespace":
        return lambda metric: [metric.namespace]
    if name == "MetricName":
        return lambda metric: [metric.name]
    return lambda metric: [value for key, value in metric.dimensions if key == name]


def _exactly(wanted: str, texts: Texts) -> Test:
    return lambda metric: wanted in texts(metric)


def _partly(wanted: str, texts: Texts) -> Test:
    """Whether a text has all the parts of a word: words part where case changes, and at signs."""
    parts = _parts(wanted)
    return lambda metric: any(parts <= _parts(text) for text in texts(metric))


def _parts(text: str) -> frozenset[str]:
    return frozenset(part.lower() for part in _PART.findall(text))
