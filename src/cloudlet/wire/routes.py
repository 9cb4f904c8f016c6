"""Which REST operation a method, a path, a query and headers mean: a tree of path segments, the most specific first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from cloudlet.http import Request
from cloudlet.wire.model import Model, OperationSpec

_LABEL = re.compile(r"\{([^}]+)\}")


class Template:
    """A request URI of a model: ``/{Bucket}/{Key+}?tagging``."""

    __slots__ = ("labels", "path", "query", "regex")

    def __init__(self, uri: str) -> None:
        self.path, _, query = uri.partition("?")
        self.query: dict[str, str] = dict(parse_qsl(query, keep_blank_values=True))
        labels = _LABEL.findall(self.path)
        self.labels = [label.rstrip("+") for label in labels]
        pieces = []
        last = 0
        for found in _LABEL.finditer(self.path):
            pieces.append(re.escape(self.path[last : found.start()]))
            pieces.append("(.+)" if found.group(1).endswith("+") else "([^/]+)")
            last = found.end()
        pieces.append(re.escape(self.path[last:].rstrip("/") if last else self.path.rstrip("/")))
        # Before a path that starts with @ a client may have put a stage.
        start = "" if self.path.startswith("/@") else r"\A"
        self.regex = re.compile(start + "".join(pieces).replace("@", "(?:@|%40)") + r"/?\Z", re.DOTALL)


class Choice:
    """An operation among those of one path and method, and what tells it from the others."""

    __slots__ = ("deprecated", "headers", "name", "query", "rank", "required")

    def __init__(self, model: Model, operation: OperationSpec, template: Template) -> None:
        self.name = operation.name
        self.deprecated = operation.deprecated
        self.query = template.query
        self.required: list[str] = []
        self.headers: list[str] = []
        if operation.input is not None:
            shape = model.shapes[operation.input.shape]
            for name in shape.required:
                ref = shape.members.get(name)
                if ref is None:
                    continue
                wire = ref.location_name or name
                if ref.location == "querystring":
                    self.required.append(wire)
                elif ref.location == "header":
                    self.headers.append(wire.lower())
        self.rank = len(self.query), len(self.required) + len(self.headers)

    def score(self, params: dict[str, str], headers: dict[str, str]) -> tuple[Any, ...] | None:
        """How well a request fits; None when it does not."""
        for key, value in self.query.items():
            if key not in params or (value and params[key] != value):
                return None
        whole = all(key in params for key in self.required) and all(key in headers for key in self.headers)
        named = params.get("x-id") == self.name
        return len(self.query), whole, len(self.required) + len(self.headers), named, not self.deprecated


class _Node:
    __slots__ = ("choices", "greedy", "label", "literals", "mixed", "plain")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.mixed: list[tuple[re.Pattern[str], _Node]] = []
        self.label: _Node | None = None
        self.greedy: _Node | None = None
        self.choices: dict[str, list[Choice]] = {}
        # Those of a method that need nothing of a query, the most particular first.
        self.plain: dict[str, list[Choice]] = {}


class Routes:
    """The paths of one model."""

    def __init__(self, model: Model) -> None:
        self._root = _Node()
        firsts = set()
        for operation in model.operations.values():
            template = Template(operation.http.request_uri)
            self._add(template, operation.http.method, Choice(model, operation, template))
            firsts.add(template.path.split("/")[1])
        first = firsts.pop() if len(firsts) == 1 else ""
        self._first = f"/{first}/" if first.startswith("@") else ""

    def find(self, request: Request) -> tuple[str, int] | None:
        """The operation's name, and how many of the path's segments are literally its own; None when there is none."""
        path = request.path
        if self._first:
            path = path.replace("%40", "@", 1)
            if (start := path.find(self._first)) > 0:
                path = path[start:]
        segments = path.split("/")[1:]
        params: dict[str, str] | None = None
        for node, literals in _walk(self._root, segments, 0, 0):
            choices = node.choices.get(request.method)
            if choices is None:
                continue
            if len(choices) == 1 and not choices[0].query:
                return choices[0].name, literals
            if not request.query:
                for choice in node.plain[request.method]:
                    if not choice.headers or all(map(request.headers.__contains__, choice.headers)):
                        return choice.name, literals
            if params is None:
                params = _params(request.query)
            best: Choice | None = None
            best_score: tuple[Any, ...] = ()
            for choice in choices:
                if best is not None and choice.rank < best.rank and best_score[1]:
                    break  # they are in the order of their ranks: no better one follows
                score = choice.score(params, request.headers)
                if score is not None and (best is None or score > best_score):
                    best, best_score = choice, score
            if best is not None:
                return best.name, literals
        return None

    def _add(self, template: Template, method: str, choice: Choice) -> None:
        node = self._root
        for segment in template.path.rstrip("/").split("/")[1:]:
            labels = _LABEL.findall(segment)
            if not labels:
                node = node.literals.setdefault(segment, _Node())
            elif _LABEL.fullmatch(segment):
                if labels[0].endswith("+"):
                    node.greedy = node.greedy or _Node()
                    node = node.greedy
                else:
                    node.label = node.label or _Node()
                    node = node.label
            else:
                node = _mixed(node, segment)
        choices = node.choices.setdefault(method, [])
        choices.append(choice)
        choices.sort(key=lambda choice: (choice.rank, not choice.deprecated), reverse=True)
        node.plain[method] = [choice for choice in choices if not choice.query and not choice.required]


def _mixed(node: _Node, segment: str) -> _Node:
    pieces = [re.escape(text) if number % 2 == 0 else "(.+)" for number, text in enumerate(_LABEL.split(segment))]
    pattern = re.compile("".join(pieces) + r"\Z", re.DOTALL)
    for known, below in node.mixed:
        if known.pattern == pattern.pattern:
            return below
    below = _Node()
    node.mixed.append((pattern, below))
    return below


def _walk(node: _Node, segments: list[str], at: int, literals: int) -> Iterator[tuple[_Node, int]]:
    left = len(segments) - at
    if left == 0 or (left == 1 and segments[at] == ""):
        yield node, literals
        if left == 0:
            return
    segment = segments[at]
    if (below := node.literals.get(segment)) is not None:
        yield from _walk(below, segments, at + 1, literals + 1)
    if segment:
        for pattern, below in node.mixed:
            if pattern.match(segment):
                yield from _walk(below, segments, at + 1, literals)
        if node.label is not None:
            yield from _walk(node.label, segments, at + 1, literals)
    if node.greedy is not None and any(segments[at:]) | (left > 1):
        below = node.greedy
        if below.literals or below.label or below.mixed:
            for end in range(len(segments) - 1, at, -1):
                yield from _walk(below, segments, end, literals)
        yield below, literals


def _params(query: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        return dict(reversed(parse_qsl(query, keep_blank_values=True)))
    except ValueError:
        return {}
