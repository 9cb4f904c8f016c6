"""Velocity templates as API Gateway's mappings use them: references, #set, #if, #foreach and expressions.

https://velocity.apache.org/engine/1.7/vtl-reference.html. Macros, #parse and #evaluate are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from cloudlet.services.apigateway.java import call, printed, same, truth

Scope = dict[str, Any]
Expression = Callable[[Scope], Any]
Node = Callable[[Scope, list[str]], None]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_OPERATOR = re.compile(r"\|\||&&|==|!=|<=|>=|<|>|\+|-|\*|/|%|(?:or|and|eq|ne|le|ge|lt|gt)\b")
_WORDS = {"or": "||", "and": "&&", "eq": "==", "ne": "!=", "le": "<=", "ge": ">=", "lt": "<", "gt": ">"}
_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "%"))
_DIRECTIVE = re.compile(r"#(?:\{(\w+)\}|(\w+))")
_REFUSED = frozenset(("macro", "parse", "include", "evaluate", "define"))
_REST_OF_LINE = re.compile(r"[ \t]*\r?\n")
# What API Gateway itself provides has no undefined parts: they are empty.
_PROVIDED = frozenset(("context", "input", "stageVariables", "util"))
_MOST_TURNS = 1000  # of one #foreach, as API Gateway limits it


class TemplateError(Exception):
    """The template cannot be read or carried out; the text says why."""


class _Stop(Exception):
    pass


class _Break(Exception):
    pass


@lru_cache(maxsize=512)
def compiled(source: str) -> Node:
    """A template, read once. Raises TemplateError."""
    return _Parser(source).template()


def render(source: str, scope: Scope) -> str:
    """The text that a template makes of a scope; ``#set`` changes the scope. Raises TemplateError."""
    out: list[str] = []
    try:
        compiled(source)(scope, out)
    except (_Stop, _Break):
        pass
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise TemplateError(str(error)) from None
    return "".join(out)


class _Parser:
    """Reads a template into functions that write it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0

    def template(self) -> Node:
        node, ended_by = self._block(())
        if ended_by:
            raise TemplateError(f"#{ended_by} has nothing to end")
        return node

    def _block(self, ends: tuple[str, ...]) -> tuple[Node, str]:
        """What comes up to one of the directives ``ends``, and which of them it was."""
        nodes: list[Node] = []
        text: list[str] = []
        source = self._source

        def flush() -> None:
            if text:
                nodes.append(_text("".join(text)))
                text.clear()

        while self._at < len(source):
            char = source[self._at]
            if char == "\\" and source[self._at + 1 : self._at + 2] in ("$", "#"):
                text.append(source[self._at + 1])
                self._at += 2
            elif source.startswith("##", self._at):
                end = source.find("\n", self._at)
                self._at = len(source) if end < 0 else end + 1
            elif source.startswith("#*", self._at):
                end = source.find("*#", self._at)
                self._at = len(source) if end < 0 else end + 2
            elif char == "#" and (found := _DIRECTIVE.match(source, self._at)) and self._known(found):
                name = found[1] or found[2]
                self._at = found.end()
                if name in ends:
                    flush()
                    return _sequence(nodes), name
                flush()
                nodes.append(self._directive(name))
            elif char == "$" and (reference := self._reference_here()) is not None:
                flush()
                nodes.append(reference)
            else:
                text.append(char)
                self._at += 1
        flush()
        if ends:
            raise TemplateError("an #end is missing")
        return _sequence(nodes), ""

    def _known(self, found: re.Match[str]) -> bool:
        name = found[1] or found[2]
        if name in _REFUSED:
            raise TemplateError(f"Cloudlet does not implement #{name} in mapping templates")
        return name in ("set", "if", "elseif", "else", "end", "foreach", "break", "stop", "return")

    def _directive(self, name: str) -> Node:
        if name == "set":
            return self._set()
        if name == "if":
            return self._if()
        if name == "foreach":
            return self._foreach()
        if name in ("stop", "return"):
            return _raising(_Stop)
        if name == "break":
            return _raising(_Break)
        raise TemplateError(f"#{name} stands alone")

    def _set(self) -> Node:
        self._expect("(")
        self._spaces()
        self._expect("$")
        braces = self._take("{")
        path: list[Expression] = [_constant(self._name())]
        while True:
            if self._take("."):
                path.append(_constant(self._name()))
            elif self._take("["):
                path.append(self._expression())
                self._expect("]")
            else:
                break
        if braces:
            self._expect("}")
        self._expect("=")
        value = self._expression()
        self._expect(")")
        self._end_of_line()

        def write(scope: Scope, out: list[str]) -> None:
            target: Any = scope
            *parents, last = [part(scope) for part in path]
            for parent in parents:
                if target.get(parent) is None:
                    target[parent] = {}
                target = target[parent]
            target[last] = value(scope)

        return write

    def _if(self) -> Node:
        branches: list[tuple[Expression, Node]] = []
        other: Node = _sequence([])
        name = "if"
        while name != "end":
            if name == "else":
                self._end_of_line()
                other, name = self._block(("end",))
                continue
            self._expect("(")
            condition = self._expression()
            self._expect(")")
            self._end_of_line()
            body, name = self._block(("elseif", "else", "end"))
            branches.append((condition, body))
        self._end_of_line()

        def write(scope: Scope, out: list[str]) -> None:
            for condition, body in branches:
                if truth(condition(scope)):
                    body(scope, out)
                    return
            other(scope, out)

        return write

    def _foreach(self) -> Node:
        self._expect("(")
        self._spaces()
        self._expect("$")
        braces = self._take("{")
        name = self._name()
        if braces:
            self._expect("}")
        self._spaces()
        if self._name() != "in":
            raise TemplateError("#foreach needs an 'in'")
        items = self._expression()
        self._expect(")")
        self._end_of_line()
        body, _ = self._block(("end",))
        self._end_of_line()

        def write(scope: Scope, out: list[str]) -> None:
            found = items(scope)
            values = list(found.values()) if isinstance(found, dict) else list(found) if found is not None else []
            before = {key: scope.get(key) for key in (name, "foreach", "velocityCount")}
            for index, value in enumerate(values[:_MOST_TURNS]):
                last = index == len(values) - 1
                scope[name], scope["velocityCount"] = value, index + 1
                turn = {"index": index, "count": index + 1, "first": index == 0, "last": last, "hasNext": not last}
                scope["foreach"] = {**turn, "parent": before["foreach"]}
                try:
                    body(scope, out)
                except _Break:
                    break
            for key, value in before.items():
                if value is None:
                    scope.pop(key, None)
                else:
                    scope[key] = value

        return write

    # References

    def _reference_here(self) -> Node | None:
        start = self._at
        found = self._reference()
        if found is None:
            self._at = start
            return None
        value, quiet, root = found
        source = self._source[start : self._at]

        def write(scope: Scope, out: list[str]) -> None:
            result = value(scope)
            if result is not None:
                out.append(printed(result))
            elif not quiet and root not in _PROVIDED:
                out.append(source)

        return write

    def _reference(self) -> tuple[Expression, bool, str] | None:
        """A reference that begins here: its value, whether it is quiet, its first name; or None."""
        source = self._source
        self._at += 1
        quiet = source.startswith("!", self._at)
        self._at += quiet
        braces = source.startswith("{", self._at)
        self._at += braces
        first = _NAME.match(source, self._at)
        if first is None:
            return None
        self._at = first.end()
        root = first[0]
        value: Expression = lambda scope: scope.get(root)  # noqa: E731
        while True:
            if source.startswith(".", self._at) and (name := _NAME.match(source, self._at + 1)):
                self._at = name.end()
                if source.startswith("(", self._at):
                    self._at += 1
                    value = _method(value, name[0], self._arguments(")"))
                else:
                    value = _property(value, _constant(name[0]))
            elif source.startswith("[", self._at):
                self._at += 1
                value = _property(value, self._expression())
                self._expect("]")
            else:
                break
        if braces:
            if not source.startswith("}", self._at):
                return None
            self._at += 1
        return value, quiet, root

    # Expressions

    def _arguments(self, end: str) -> list[Expression]:
        arguments: list[Expression] = []
        self._spaces()
        if self._take(end):
            return arguments
        while True:
            arguments.append(self._expression())
            if self._take(end):
                return arguments
            self._expect(",")

    def _expression(self, level: int = 0) -> Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._expression(level + 1)
        while True:
            self._spaces()
            found = _OPERATOR.match(self._source, self._at)
            operator = _WORDS.get(found[0], found[0]) if found is not None else ""
            if found is None or operator not in _LEVELS[level]:
                return left
            self._at = found.end()
            left = _operation(operator, left, self._expression(level + 1))

    def _unary(self) -> Expression:
        self._spaces()
        source = self._source
        negated = source.startswith("!", self._at) or re.match(r"not\b", source[self._at : self._at + 4])
        if negated:
            self._at += 1 if source[self._at] == "!" else 3
            inner = self._unary()
            return lambda scope: not truth(inner(scope))
        char = source[self._at : self._at + 1]
        if char == "(":
            self._at += 1
            inside = self._expression()
            self._expect(")")
            return inside
        if char == "$":
            found = self._reference()
            if found is None:
                raise TemplateError(f"a reference is broken at {source[self._at : self._at + 20]!r}")
            return found[0]
        if char in ("'", '"'):
            return self._string(char)
        if number := _NUMBER.match(source, self._at):
            # "1..3" is a range, not the number 1. and a rest.
            text = number[0]
            self._at = number.end()
            return _constant(float(text) if "." in text else int(text))
        if char == "[":
            return self._list()
        if char == "{":
            return self._map()
        word = _NAME.match(source, self._at)
        if word is not None and word[0] in ("true", "false", "null"):
            self._at = word.end()
            return _constant({"true": True, "false": False, "null": None}[word[0]])
        raise TemplateError(f"an expression is broken at {source[self._at : self._at + 20]!r}")

    def _string(self, quote: str) -> Expression:
        self._at += 1
        text: list[str] = []
        while True:
            char = self._source[self._at : self._at + 1]
            if not char:
                raise TemplateError("a string has no end")
            self._at += 1
            if char == quote:
                if self._source.startswith(quote, self._at):
                    self._at += 1  # a doubled quote stands for itself
                else:
                    break
            elif char == "\\" and quote == '"' and self._source.startswith('"', self._at):
                self._at += 1
                char = '"'
            text.append(char)
        whole = "".join(text)
        if quote == "'" or not ("$" in whole or "#" in whole):
            return _constant(whole)
        inner = _Parser(whole).template()

        def value(scope: Scope) -> str:
            out: list[str] = []
            inner(scope, out)
            return "".join(out)

        return value

    def _list(self) -> Expression:
        self._at += 1
        self._spaces()
        if self._take("]"):
            return lambda scope: []
        first = self._expression()
        if self._take(".."):
            last = self._expression()
            self._expect("]")

            def spanned(scope: Scope) -> list[int]:
                begin, end = int(first(scope)), int(last(scope))
                step = 1 if begin <= end else -1
                return list(range(begin, end + step, step))

            return spanned
        items = [first]
        while not self._take("]"):
            self._expect(",")
            items.append(self._expression())
        return lambda scope: [item(scope) for item in items]

    def _map(self) -> Expression:
        self._at += 1
        entries: list[tuple[Expression, Expression]] = []
        self._spaces()
        while not self._take("}"):
            if entries:
                self._expect(",")
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression()))
        return lambda scope: {key(scope): value(scope) for key, value in entries}

    # Characters

    def _name(self) -> str:
        found = _NAME.match(self._source, self._at)
        if found is None:
            raise TemplateError(f"a name is missing at {self._source[self._at : self._at + 20]!r}")
        self._at = found.end()
        return found[0]

    def _spaces(self) -> None:
        while self._source[self._at : self._at + 1].isspace():
            self._at += 1

    def _take(self, text: str) -> bool:
        at = self._at
        self._spaces()
        if self._source.startswith(text, self._at):
            self._at += len(text)
            return True
        self._at = at
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise TemplateError(f"{text!r} is missing at {self._source[self._at : self._at + 20]!r}")

    def _end_of_line(self) -> None:
        """A directive takes the end of its line with it."""
        if rest := _REST_OF_LINE.match(self._source, self._at):
            self._at = rest.end()


def _text(text: str) -> Node:
    return lambda scope, out: out.append(text)


def _sequence(nodes: list[Node]) -> Node:
    def write(scope: Scope, out: list[str]) -> None:
        for node in nodes:
            node(scope, out)

    return write


def _raising(kind: type[Exception]) -> Node:
    def write(scope: Scope, out: list[str]) -> None:
        raise kind

    return write


def _constant(value: Any) -> Expression:
    return lambda scope: value


def _method(value: Expression, name: str, arguments: list[Expression]) -> Expression:
    return lambda scope: call(value(scope), name, [argument(scope) for argument in arguments])


def _property(value: Expression, key: Expression) -> Expression:
    def read(scope: Scope) -> Any:
        target, wanted = value(scope), key(scope)
        if isinstance(target, dict):
            found = target.get(wanted)
            return found if not callable(found) else None
        if isinstance(target, list) and isinstance(wanted, int):
            return target[wanted] if -len(target) <= wanted < len(target) else None
        return None

    return read


def _operation(operator: str, left: Expression, right: Expression) -> Expression:
    if operator == "||":
        return lambda scope: truth(left(scope)) or truth(right(scope))
    if operator == "&&":
        return lambda scope: truth(left(scope)) and truth(right(scope))
    if operator == "==":
        return lambda scope: same(left(scope), right(scope))
    if operator == "!=":
        return lambda scope: not same(left(scope), right(scope))

    def value(scope: Scope) -> Any:
        one, other = left(scope), right(scope)
        if operator == "+" and (isinstance(one, str) or isinstance(other, str)):
            return printed(one) + printed(other)
        if one is None or other is None:
            return None
        if operator == "/" and isinstance(one, int) and isinstance(other, int):
            return int(one / other) if other else None  # Java's division goes towards zero
        return _ARITHMETIC[operator](one, other)

    return value


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    ">=": lambda one, other: one >= other,
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "/": lambda one, other: one / other,
    "%": lambda one, other: one - other * int(one / other),
}
