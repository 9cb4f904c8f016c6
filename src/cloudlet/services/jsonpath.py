"""JSONPath, as state machines and mapping templates have it: ``$.orders[?(@.total > 10)].id``, ``$$.Execution.Id``."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Nodes = list[Any]
Step = Callable[[Nodes, Any], Nodes]
_Test = Callable[[Any, Any], bool]
_NAME = re.compile(r"[\w$@:-]+")
_ROOT = re.compile(r"\$(\$|[A-Za-z_]\w*)?")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_INTEGER = re.compile(r"-?\d+")
_SLICE = re.compile(r"\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?(?=\])")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_OPERATOR = re.compile(r"==|!=|<=|>=|<|>|=~|in\b|nin\b")
_REFERENCE_STEP = re.compile(r"\.([^.\[\]()\s*?]+)|\[(\d+)\]|\[(?:'([^']*)'|\"([^\"]*)\")\]")


class BadPath(ValueError):
    """The text is not a path."""


class NotFound(LookupError):
    """A definite path leads nowhere; the message says where it ends."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What paths can see: ``$`` is the data, ``$$`` the context object, ``$name`` a variable."""

    data: Any
    context: dict[str, Any]
    variables: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path. ``root`` is empty for the data, ``$`` for the context object, else a variable's name."""

    text: str
    root: str
    steps: tuple[Step, ...]
    definite: bool

    def value(self, scope: Scope) -> Any:
        """What is there: one value, or the list of all for a path with wildcards. Raises NotFound."""
        if not self.root:
            start = scope.data
        elif self.root == "$":
            start = scope.context
        elif self.root in scope.variables:
            start = scope.variables[self.root]
        else:
            raise NotFound(f"The variable ${self.root} has no value")
        nodes = [start]
        for step in self.steps:
            nodes = step(nodes, start)
        if not self.definite:
            return nodes
        if not nodes:
            raise NotFound(f"No results for path: {_bracketed(self.text)}")
        return nodes[0]


@functools.lru_cache(4096)
def compile_path(text: str) -> Path:
    """The path of a text. Raises BadPath."""
    return _Reader(text).whole()


@functools.lru_cache(2048)
def compile_reference(text: str) -> tuple[str | int, ...]:
    """The steps of a reference path such as ``$.a.b[0]``: one that names one place. Raises BadPath."""
    if not text.startswith("$"):
        raise BadPath(text)
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        match = _REFERENCE_STEP.match(text, at)
        if match is None:
            raise BadPath(text)
        index = match[2]
        steps.append(
            int(index) if index is not None else next(g for g in (match[1], match[3], match[4]) if g is not None)
        )
        at = match.end()
    return tuple(steps)


def put(data: Any, steps: tuple[str | int, ...], value: Any) -> Any:
    """The data with a value at a reference path, everything else shared. Raises BadPath where nothing can be put."""
    if not steps:
        return value
    first, rest = steps[0], steps[1:]
    if isinstance(first, int):
        if not isinstance(data, list) or first >= len(data):
            raise BadPath("the path names an element that is not there")
        return [put(item, rest, value) if index == first else item for index, item in enumerate(data)]
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise BadPath("the path leads through a value that is no object")
    return {**data, first: put(data.get(first), rest, value)}


class _Reader:
    """Reads one path, left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.definite = True

    def whole(self) -> Path:
        match = _ROOT.match(self.text)
        if match is None:
            raise BadPath(self.text)
        self.at = match.end()
        steps = self.steps()
        if self.at != len(self.text):
            raise BadPath(self.text)
        return Path(self.text, match[1] or "", tuple(steps), self.definite)

    def steps(self) -> list[Step]:
        steps: list[Step] = []
        while self.at < len(self.text):
            if self.take(".."):
                self.definite = False
                steps.append(_descend)
                if not self.text.startswith("[", self.at):
                    steps.append(self.member())
            elif self.take("."):
                bracket = self.text.startswith("[", self.at)  # ``$.[0]``: AWS lets the point stand
                steps.append(self.bracket() if bracket else self.member())
            elif self.text.startswith("[", self.at):
                steps.append(self.bracket())
            else:
                break
        return steps

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def need(self, token: str) -> None:
        self.space()
        if not self.take(token):
            raise BadPath(self.text)

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def member(self) -> Step:
        if self.take("*"):
            self.definite = False
            return _children
        match = self.match(_NAME)
        if match is None or self.text.startswith("(", self.at):
            raise BadPath(self.text)
        return functools.partial(_named, (match[0],))

    def bracket(self) -> Step:
        self.need("[")
        self.space()
        if self.take("*"):
            self.definite = False
            step: Step = _children
        elif self.take("?"):
            self.definite = False
            self.need("(")
            step = functools.partial(_filtered, self.any_of())
            self.need(")")
        elif (sliced := self.match(_SLICE)) is not None:
            self.definite = False
            bounds = [int(part) if part else None for part in sliced.groups()]
            step = functools.partial(_sliced, slice(*bounds))
        elif (names := self.listed(self.quoted)) is not None:
            step = functools.partial(_named, tuple(names))
        elif (indexes := self.listed(self.integer)) is not None:
            step = functools.partial(_indexed, tuple(indexes))
        else:
            raise BadPath(self.text)
        self.need("]")
        return step

    def listed(self, read: Callable[[], Any]) -> list[Any] | None:
        """One or more of the same, with commas between; more than one makes the path indefinite."""
        first = read()
        if first is None:
            return None
        found = [first]
        self.space()
        while self.take(","):
            self.definite = False
            self.space()
            if (another := read()) is None:
                raise BadPath(self.text)
            found.append(another)
            self.space()
        return found

    def quoted(self) -> str | None:
        match = self.match(_QUOTED)
        if match is None:
            return None
        return re.sub(r"\\(.)", r"\1", match[1] if match[1] is not None else match[2])

    def integer(self) -> int | None:
        match = self.match(_INTEGER)
        return int(match[0]) if match is not None else None

    # Filters

    def any_of(self) -> _Test:
        tests = [self.all_of()]
        while self.operator("||"):
            tests.append(self.all_of())
        return tests[0] if len(tests) == 1 else lambda node, root: any(test(node, root) for test in tests)

    def all_of(self) -> _Test:
        tests = [self.test()]
        while self.operator("&&"):
            tests.append(self.test())
        return tests[0] if len(tests) == 1 else lambda node, root: all(test(node, root) for test in tests)

    def operator(self, token: str) -> bool:
        self.space()
        return self.take(token)

    def test(self) -> _Test:
        self.space()
        if self.take("!"):
            inner = self.test()
            return lambda node, root: not inner(node, root)
        if self.take("("):
            inner = self.any_of()
            self.need(")")
            return inner
        left = self.operand()
        self.space()
        match = self.match(_OPERATOR)
        if match is None:
            return lambda node, root: bool(left(node, root))
        self.space()
        if match[0] == "=~":
            return self.pattern(left)
        right = self.operand()
        compare = _COMPARE[match[0]]

        def compared(node: Any, root: Any) -> bool:
            first, second = left(node, root), right(node, root)
            return bool(first) and bool(second) and compare(first[0], second[0])

        return compared

    def operand(self) -> Callable[[Any, Any], Nodes]:
        """Gives the operand's value in a list, or an empty one when it has none."""
        if self.text[self.at : self.at + 1] in ("@", "$"):
            relative = self.text[self.at] == "@"
            self.at += 1
            definite, self.definite = self.definite, True
            steps = self.steps()
            single, self.definite = self.definite, definite

            def found(node: Any, root: Any) -> Nodes:
                nodes = [node if relative else root]
                for step in steps:
                    nodes = step(nodes, root)
                return nodes if single else ([nodes] if nodes else [])

            return found
        value = self.literal()
        return lambda node, root: [value]

    def literal(self) -> Any:
        if (quoted := self.quoted()) is not None:
            return quoted
        for word, value in (("true", True), ("false", False), ("null", None)):
            if self.take(word):
                return value
        if (number := self.match(_NUMBER)) is not None:
            return float(number[0]) if set(number[0]) & set(".eE") else int(number[0])
        if self.take("["):
            self.space()
            items: list[Any] = []
            while not self.take("]"):
                items.append(self.literal())
                self.space()
                self.take(",")
                self.space()
            return items
        raise BadPath(self.text)

    def pattern(self, left: Callable[[Any, Any], Nodes]) -> _Test:
        match = self.match(re.compile(r"/((?:[^/\\]|\\.)*)/(i?)"))
        if match is None:
            raise BadPath(self.text)
        try:
            pattern = re.compile(match[1], re.IGNORECASE if match[2] else 0)
        except re.error:
            raise BadPath(self.text) from None
        return lambda node, root: any(
            isinstance(value, str) and pattern.fullmatch(value) is not None for value in left(node, root)
        )


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(first: Any, second: Any) -> bool:
        numbers = is_number(first) and is_number(second)
        return (numbers or (isinstance(first, str) and isinstance(second, str))) and compare(first, second)

    return ordered


def is_number(value: Any) -> bool:
    """Whether it is a JSON number: to Python a boolean is one too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(first: Any, second: Any) -> bool:
    """Whether two JSON values are equal: true is not 1."""
    return isinstance(first, bool) == isinstance(second, bool) and first == second


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": same,
    "!=": lambda first, second: not same(first, second),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": lambda first, second: isinstance(second, list) and any(same(first, item) for item in second),
    "nin": lambda first, second: isinstance(second, list) and not any(same(first, item) for item in second),
}


def _named(names: tuple[str, ...], nodes: Nodes, root: Any) -> Nodes:
    return [node[name] for node in nodes if isinstance(node, dict) for name in names if name in node]


def _indexed(indexes: tuple[int, ...], nodes: Nodes, root: Any) -> Nodes:
    return [
        node[index] for node in nodes if isinstance(node, list) for index in indexes if -len(node) <= index < len(node)
    ]


def _sliced(bounds: slice, nodes: Nodes, root: Any) -> Nodes:
    return [item for node in nodes if isinstance(node, list) for item in node[bounds]]


def _filtered(test: _Test, nodes: Nodes, root: Any) -> Nodes:
    found: Nodes = []
    for node in nodes:
        candidates = node if isinstance(node, list) else [node] if isinstance(node, dict) else []
        found += [item for item in candidates if test(item, root)]
    return found


def _children(nodes: Nodes, root: Any) -> Nodes:
    found: Nodes = []
    for node in nodes:
        found += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return found


def _descend(nodes: Nodes, root: Any) -> Nodes:
    return [inner for node in nodes for inner in _walk(node)]


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _walk(child)


def _bracketed(text: str) -> str:
    """A path as messages show it: ``$['a']['b']``."""
    return re.sub(r"\.([\w-]+)", r"['\1']", text)
