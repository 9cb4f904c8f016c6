"""The query language of Logs Insights: compiled to steps that rows pass through. Expressions are in ``formulas.py``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from cloudlet.errors import not_implemented
from cloudlet.services.logs.aggregates import Aggregate, aggregate_of
from cloudlet.services.logs.formulas import Formula, Parser, QueryError, tokens_of
from cloudlet.services.logs.values import Row, Value, number_of

_DEFAULT_LIMIT = 10_000
_LIMIT_AT_MOST = 10_000
_NOT_THERE = ("anomaly", "diff", "filterIndex", "join", "lookup", "pattern", "source", "subquery", "unmask", "unnest")

T = TypeVar("T")
Step = Callable[[Iterator[Row]], Iterator[Row]]


class Query(NamedTuple):
    """A compiled query. ``shown`` are the fields of an answer; ``grouped`` says that rows are no events any more."""

    steps: list[Step]
    shown: list[str]
    grouped: bool
    limit: int

    def run(self, events: Iterable[Row]) -> list[Row]:
        """The rows of the answer, of events from the newest to the oldest."""
        rows = iter(events)
        for step in self.steps:
            rows = step(rows)
        found = []
        for row in rows:
            found.append(row)
            if len(found) >= self.limit:
                break
        return found


def compile_query(text: str, limit: int | None = None) -> Query:
    """Compile a query. Raises QueryError and, by name, NotImplemented."""
    steps: list[Step] = []
    named: list[str] = []
    displayed: list[str] | None = None
    grouped: list[str] | None = None
    for part in _commands(text):
        word, _, rest = part.partition(" ") if " " in part else (part, "", "")
        command = word.lower()
        if word in _NOT_THERE or command in {name.lower() for name in _NOT_THERE}:
            raise not_implemented(f"Logs Insights' command {word}")
        if command == "fields":
            made = _named_list(rest)
            named += [name for name, _ in made if name not in named]
            steps.append(_fields(made))
        elif command == "display":
            displayed = [name for name, _ in _named_list(rest)]
        elif command == "filter":
            steps.append(_filter(Parser(tokens_of(rest)).whole()))
        elif command == "parse":
            step, names = _parse(rest)
            named += names
            steps.append(step)
        elif command == "stats":
            step, grouped = _stats(rest)
            displayed = None
            steps.append(step)
        elif command == "sort":
            steps.append(_sort(rest))
        elif command == "dedup":
            steps.append(_dedup([formula for _, formula in _named_list(rest)]))
        elif command in ("limit", "head", "tail"):
            if command == "tail" or not rest.strip().isdigit():
                raise QueryError(f"unexpected {command}")
            limit = min(int(rest), limit or int(rest))
        else:
            raise QueryError(f"unexpected symbol found {word}")
    shown = displayed or grouped or named or ["@timestamp", "@message"]
    return Query(steps, shown, grouped is not None, min(limit or _DEFAULT_LIMIT, _LIMIT_AT_MOST))


def _commands(text: str) -> list[str]:
    """The commands between bars that are neither quoted nor in a regular expression."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    parts, current, quote = [], "", ""
    previous = ""
    for letter in "\n".join(lines):
        if quote:
            if letter == quote and previous != "\\":
                quote = ""
        elif letter in "\"'`" or (letter == "/" and _begins_regex(current)):
            quote = letter
        elif letter == "|":
            parts.append(current)
            current, previous = "", ""
            continue
        current += letter
        previous = "" if previous == "\\" else letter
    parts.append(current)
    found = [re.sub(r"^(\w+)\s+", r"\1 ", part.strip()) for part in parts if part.strip()]
    if not found:
        raise QueryError("the query is empty")
    return found


def _begins_regex(before: str) -> bool:
    """Whether a slash begins a regular expression rather than dividing."""
    words = before.split()
    return bool(words) and (words[-1].lower() in ("like", "=~") or words[0].lower() == "parse")


def _named_list(text: str) -> list[tuple[str, Formula]]:
    """Expressions with commas between them, each under its own text or the name after ``as``."""
    parser = Parser(tokens_of(text))
    found = _named(parser, parser.expression)
    parser.end()
    return found


def _named(parser: Parser, one: Callable[[], T]) -> list[tuple[str, T]]:
    """What comes next, with commas between, each under its own text or the name after ``as``."""
    found = []
    while True:
        start = parser.place
        made = one()
        name = parser.text(start)
        if parser.word("as"):
            name = parser.name()
        found.append((name, made))
        if not parser.sign(","):
            return found


def _fields(made: list[tuple[str, Formula]]) -> Step:
    def step(rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            for name, formula in made:
                if (value := formula(row)) is not None:
                    row[name] = value
            yield row

    return step


def _filter(test: Formula) -> Step:
    return lambda rows: (row for row in rows if test(row))


def _parse(text: str) -> tuple[Step, list[str]]:
    """``parse [field] "a * b *" as x, y`` or ``parse [field] /...(?<x>...)/``."""
    parser = Parser(tokens_of(text, regex_anywhere=True))
    kind, _ = parser.peek()
    source: Formula = (lambda row: row.find("@message")) if kind in ("text", "regex") else parser.expression()
    kind, pattern = parser.take()
    if kind == "text":
        expression = "(.*?)".join(re.escape(part) for part in pattern.split("*"))
        if pattern.endswith("*"):
            expression = expression.removesuffix("(.*?)") + "(.*)"
        if not parser.word("as"):
            raise QueryError("parse needs names after as")
        names = [parser.name()]
        while parser.sign(","):
            names.append(parser.name())
        if len(names) != pattern.count("*"):
            raise QueryError("parse needs as many names as its pattern has wildcards")
    elif kind == "regex":
        expression = pattern.replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!")
        names = []
    else:
        raise QueryError("parse needs a pattern")
    parser.end()
    try:
        found = re.compile(expression, re.DOTALL)
    except re.error:
        raise QueryError("invalid regular expression") from None
    names = names or list(found.groupindex)

    def step(rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            value = source(row)
            if value is not None and (match := found.search(str(value))) is not None:
                row.update({name: part for name, part in zip(names, match.groups(), strict=False) if part is not None})
            yield row

    return step, names


def _stats(text: str) -> tuple[Step, list[str]]:
    """``stats count(*) as n, avg(x) by bin(5m), y``."""
    parser = Parser(tokens_of(text))
    made = _named(parser, lambda: aggregate_of(parser))
    groups = _named(parser, parser.expression) if parser.word("by") else []
    parser.end()

    def step(rows: Iterator[Row]) -> Iterator[Row]:
        found: dict[tuple[Value, ...], list[Aggregate]] = {}
        for row in rows:
            key = tuple(formula(row) for _, formula in groups)
            aggregates = found.get(key)
            if aggregates is None:
                aggregates = found[key] = [make() for _, make in made]
            for aggregate in aggregates:
                aggregate.add(row)
        if not found and not groups:
            found[()] = [make() for _, make in made]
        for key, aggregates in found.items():
            made_row = Row({name: value for (name, _), value in zip(groups, key, strict=True) if value is not None})
            for (name, _), aggregate in zip(made, aggregates, strict=True):
                if (value := aggregate.result()) is not None:
                    made_row[name] = value
            yield made_row

    return step, [name for name, _ in groups] + [name for name, _ in made]


def _sort(text: str) -> Step:
    parser = Parser(tokens_of(text))
    keys: list[tuple[Formula, bool]] = []
    while True:
        formula = parser.expression()
        descending = parser.word("desc")
        if not descending:
            parser.word("asc")
        keys.append((formula, descending))
        if not parser.sign(","):
            break
    parser.end()

    def step(rows: Iterator[Row]) -> Iterator[Row]:
        found = list(rows)
        for formula, descending in reversed(keys):
            found.sort(key=lambda row, formula=formula: _order(formula(row)), reverse=descending)  # type: ignore[misc]
        return iter(found)

    return step


def _order(value: Value) -> tuple[int, Any]:
    number = number_of(value)
    if number is not None:
        return (1, number)
    return (0, "") if value is None else (2, str(value))


def _dedup(formulas: list[Formula]) -> Step:
    def step(rows: Iterator[Row]) -> Iterator[Row]:
        seen: set[tuple[Value, ...]] = set()
        for row in rows:
            key = tuple(formula(row) for formula in formulas)
            if key not in seen:
                seen.add(key)
                yield row

    return step
