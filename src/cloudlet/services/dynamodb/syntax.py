"""The grammar of expressions: text -> tokens -> a tree, with attribute names in their place and values by reference."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.reserved import RESERVED

_TOKEN = re.compile(r"[ \t\r\n]*(?:([A-Za-z]\w*|#\w+|:\w+|[0-9]+|<=|>=|<>|[=<>()\[\].,+-])|(\S))", re.ASCII)
_WORD = re.compile(r"[A-Za-z]\w*\Z", re.ASCII)
_END = "<EOF>"
_SECTIONS = ("SET", "REMOVE", "ADD", "DELETE")
_COMPARATORS = ("=", "<>", "<", "<=", ">", ">=")
# How many operands each function takes.
_CONDITIONS = {
    "attribute_exists": 1,
    "attribute_not_exists": 1,
    "attribute_type": 2,
    "begins_with": 2,
    "contains": 2,
    "size": 1,
}
_UPDATES = {"if_not_exists": 2, "list_append": 2}
_MOST_OPERATORS = 300
_DEEPEST_PATH = 32
_LARGEST_POSITION = 2**31 - 1
# Reading an expression takes up to eight frames for each operator that is nested in the one before.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 12 * _MOST_OPERATORS))


@dataclass(frozen=True, slots=True)
class Path:
    """A document path: a top-level name, then names and list positions."""

    parts: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"[{', '.join(f'[{part}]' if isinstance(part, int) else part for part in self.parts)}]"


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that comes with the request: ``:name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """A function or an operator (``=``, ``and``, ``between``, ``+``) and its operands."""

    name: str
    operands: tuple[Node, ...]


Node = Path | Reference | Apply


@dataclass(frozen=True, slots=True)
class Action:
    """One action of an update; ``value`` is None for REMOVE."""

    section: str
    path: Path
    value: Node | None


@dataclass(slots=True)
class Used:
    """What an expression takes from the request, and the paths in it."""

    names: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    paths: list[Path] = field(default_factory=list)


class Parser:
    """Reads one expression. ``kind`` is its parameter's name, with which every error (a ValidationException) begins."""

    def __init__(self, kind: str, text: str, names: dict[str, str]) -> None:
        self._kind = kind
        self._text = text
        self._names = names
        self._spans: list[tuple[int, int]] = []
        self._tokens: list[str] = []
        self._at = 0
        self._operators = 0
        self.used = Used()
        if not text.strip():
            raise self._error("The expression can not be empty;")
        for match in _TOKEN.finditer(text):
            group = 1 if match[1] is not None else 2
            self._tokens.append(match[group])
            self._spans.append(match.span(group))
            if group == 2:
                self._at = len(self._tokens) - 1
                raise self._syntax_error()
        self._tokens.append(_END)
        self._spans.append((len(text), len(text)))
        self._closing = _pairs(self._tokens)

    def condition(self) -> Node:
        """A condition, a filter or a key condition."""
        node = self._or()
        self._finish()
        if not _is_condition(node):
            raise self._misused(node)
        return node

    def projection(self) -> tuple[Path, ...]:
        """A list of document paths."""
        paths = [self._path()]
        while self._take(","):
            paths.append(self._path())
        self._finish()
        self._check_overlap(paths)
        return tuple(paths)

    def update(self) -> tuple[Action, ...]:
        """The sections of an update expression, in their order."""
        actions: list[Action] = []
        seen: set[str] = set()
        while True:
            section = self._token.upper()
            if section not in _SECTIONS:
                raise self._syntax_error()
            if section in seen:
                raise self._error(f'The "{section}" section can only be used once in an update expression;')
            seen.add(section)
            self._at += 1
            actions.append(self._action(section))
            while self._take(","):
                actions.append(self._action(section))
            if self._token is _END:
                break
        self._check_overlap([action.path for action in actions])
        return tuple(actions)

    @property
    def _token(self) -> str:
        return self._tokens[self._at]

    def _take(self, token: str) -> bool:
        if self._tokens[self._at] == token:
            self._at += 1
            return True
        return False

    def _take_word(self, word: str) -> bool:
        if self._tokens[self._at].upper() == word:
            self._at += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._syntax_error()

    def _finish(self) -> None:
        if self._token is not _END:
            raise self._syntax_error()

    def _or(self) -> Node:
        return self._chain("or", self._and)

    def _and(self) -> Node:
        return self._chain("and", self._not)

    def _chain(self, name: str, operand: Callable[[], Node]) -> Node:
        nodes = [operand()]
        while self._take_word(name.upper()):
            self._count_operator()
            nodes.append(operand())
        if len(nodes) == 1:
            return nodes[0]
        for node in nodes:
            if not _is_condition(node):
                raise self._misused(node)
        return Apply(name, tuple(nodes))

    def _not(self) -> Node:
        if self._take_word("NOT"):
            self._count_operator()
            node = self._not()
            if not _is_condition(node):
                raise self._misused(node)
            return Apply("not", (node,))
        return self._comparison()

    def _comparison(self) -> Node:
        opened = self._at
        if self._token == "(":
            node = self._parentheses()
            if _is_condition(node):
                return node
            # It was an operand in parentheses.
        else:
            node = self._operand(_CONDITIONS)
        if self._token in _COMPARATORS:
            operator = self._token
            self._at += 1
            return self._compare(operator, node, self._nested_operand())
        if self._take_word("BETWEEN"):
            low = self._nested_operand()
            if not self._take_word("AND"):
                raise self._syntax_error()
            return self._compare("between", node, low, self._nested_operand())
        if self._take_word("IN"):
            self._expect("(")
            members = [self._nested_operand()]
            while self._take(","):
                members.append(self._nested_operand())
            self._expect(")")
            if len(members) > 100:
                raise self._error(
                    "Invalid number of operands for operator or function; operator or function: IN, "
                    f"number of operands: {len(members) + 1}"
                )
            return self._compare("in", node, *members)
        if isinstance(node, Apply) or self._tokens[opened] == "(":
            return node
        raise self._syntax_error()

    def _parentheses(self) -> Node:
        opened = self._at
        self._expect("(")
        end = self._closing.get(opened)
        if end is None:
            self._at = len(self._tokens) - 1
            raise self._syntax_error()
        if self._token == "(" and self._closing.get(opened + 1) == end - 1:
            raise self._error("The expression has redundant parentheses;")
        node = self._bare_operand_in_parentheses() or self._or()
        self._expect(")")
        return node

    def _count_operator(self) -> None:
        self._operators += 1
        if self._operators > _MOST_OPERATORS:
            raise self._error(f"The expression contains too many operators; operator count: {self._operators}")

    def _bare_operand_in_parentheses(self) -> Node | None:
        """A path or a value that stands alone in its parentheses."""
        start = self._at
        if self._token[0] in "#:" or (_WORD.match(self._token) and self._tokens[start + 1] in (")", ".", "[")):
            node = self._operand(_CONDITIONS)
            if self._token == ")":
                return node
            self._at = start
        return None

    def _compare(self, operator: str, *operands: Node) -> Apply:
        self._count_operator()
        for node in operands:
            if isinstance(node, Apply) and node.name != "size":
                raise self._misused(node)
        first = operands[0]
        if isinstance(first, Path) and any(first == other for other in operands[1:]):
            raise self._error(
                "The first operand must be distinct from the remaining operands for this operator or function; "
                f"operator: {operator.upper()}, first operand: {first}"
            )
        return Apply(operator, operands)

    def _misused(self, node: Node) -> Exception:
        if isinstance(node, Apply):
            return self._error(
                f"The function is not allowed to be used this way in an expression; function: {node.name}"
            )
        return self._syntax_error()

    def _nested_operand(self, functions: dict[str, int] = _CONDITIONS) -> Node:
        if self._take("("):
            node = self._nested_operand(functions)
            self._expect(")")
            return node
        return self._operand(functions)

    def _operand(self, functions: dict[str, int]) -> Node:
        token = self._token
        if token[0] == ":" and len(token) > 1:
            self._at += 1
            self.used.values.add(token)
            return Reference(token)
        if self._tokens[self._at + 1 : self._at + 2] == ["("] and _WORD.match(token):
            return self._function(functions)
        return self._path()

    def _function(self, functions: dict[str, int]) -> Apply:
        name = self._token
        if name not in functions:
            if name in _CONDITIONS or name in _UPDATES:
                where = "a condition" if functions is _CONDITIONS else "an update"
                raise self._error(f"The function is not allowed in {where} expression; function: {name}")
            raise self._error(f"Invalid function name; function: {name}")
        self._at += 2
        if name == "size" and self._token == "size" and self._tokens[self._at + 1] == "(":
            raise self._error(
                "Incorrect operand type for operator or function; operator or function: size, operand type: N"
            )
        operands = [self._nested_operand(functions)]
        while self._take(","):
            operands.append(self._nested_operand(functions))
        self._expect(")")
        if len(operands) != functions[name]:
            raise self._error(
                "Incorrect number of operands for operator or function; "
                f"operator or function: {name}, number of operands: {len(operands)}"
            )
        if functions is _CONDITIONS:
            return self._check_condition_function(name, operands)
        if name == "if_not_exists" and not isinstance(operands[0], Path):
            raise self._needs_path(name)
        return Apply(name, tuple(operands))

    def _check_condition_function(self, name: str, operands: list[Node]) -> Apply:
        for node in operands:
            if isinstance(node, Apply) and node.name != "size":
                raise self._misused(node)
        if name in ("attribute_exists", "attribute_not_exists") and not isinstance(operands[0], Path):
            raise self._needs_path(name)
        if len(operands) == 2 and isinstance(operands[0], Path) and operands[0] == operands[1]:
            raise self._error(
                "The first operand must be distinct from the remaining operands for this operator or function; "
                f"operator: {name}, first operand: {operands[0]}"
            )
        return Apply(name, tuple(operands))

    def _needs_path(self, name: str) -> Exception:
        return self._error(f"Operator or function requires a document path; operator or function: {name}")

    def _path(self) -> Path:
        parts: list[str | int] = [self._name()]
        while True:
            if self._take("."):
                parts.append(self._name())
            elif self._take("["):
                if not self._token.isdigit():
                    raise self._syntax_error()
                if int(self._token) > _LARGEST_POSITION:
                    raise self._error(f"List index is not within the allowable range; index: [{self._token}]")
                parts.append(int(self._token))
                self._at += 1
                self._expect("]")
            else:
                break
        if len(parts) > _DEEPEST_PATH:
            raise self._error(f"The document path has too many nesting levels; nesting levels: {len(parts)}")
        path = Path(tuple(parts))
        self.used.paths.append(path)
        return path

    def _name(self) -> str:
        token = self._token
        if token[0] == "#":
            self._at += 1
            self.used.names.add(token)
            if token not in self._names:
                raise self._error(
                    f"An expression attribute name used in the document path is not defined; attribute name: {token}"
                )
            return self._names[token]
        if not _WORD.match(token):
            raise self._syntax_error()
        if token.upper() in RESERVED:
            raise self._error(f"Attribute name is a reserved keyword; reserved keyword: {token}")
        self._at += 1
        return token

    def _action(self, section: str) -> Action:
        path = self._path()
        if section == "REMOVE":
            return Action(section, path, None)
        if section == "SET":
            self._expect("=")
            return Action(section, path, self._set_value())
        token = self._token
        if token[0] != ":" or len(token) == 1:
            raise self._syntax_error()
        return Action(section, path, self._operand(_UPDATES))

    def _set_value(self) -> Node:
        if self._token == "(":
            # Parentheses around the whole value or around its first operand.
            self._at += 1
            left = self._set_value()
            self._expect(")")
        else:
            left = self._operand(_UPDATES)
        if self._token in ("+", "-"):
            operator = self._token
            self._at += 1
            return Apply(operator, (left, self._nested_operand(_UPDATES)))
        return left

    def _check_overlap(self, paths: list[Path]) -> None:
        for number, path in enumerate(paths):
            for other in paths[:number]:
                self._check_pair(other, path)

    def _check_pair(self, one: Path, two: Path) -> None:
        for left, right in zip(one.parts, two.parts, strict=False):
            if isinstance(left, int) != isinstance(right, int):
                trouble = "conflict"
                break
            if left != right:
                return
        else:
            trouble = "overlap"
        raise self._error(
            f"Two document paths {trouble} with each other; must remove or rewrite one of these paths; "
            f"path one: {one}, path two: {two}"
        )

    def _error(self, text: str) -> Exception:
        return invalid(f"Invalid {self._kind}: {text}")

    def _syntax_error(self) -> Exception:
        """The token that does not fit, and its neighbours as they stand in the text."""
        first = max(0, self._at - 1)
        last = min(len(self._spans) - 1, self._at + 1)
        near = self._text[self._spans[first][0] : self._spans[last][1]].strip()
        return self._error(f'Syntax error; token: "{self._token}", near: "{near}"')


def _is_condition(node: Node) -> bool:
    return isinstance(node, Apply) and node.name not in ("size", "+", "-")


def _pairs(tokens: list[str]) -> dict[int, int]:
    """Where the parenthesis that opens at a place closes."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for at, token in enumerate(tokens):
        if token == "(":
            opened.append(at)
        elif token == ")" and opened:
            pairs[opened.pop()] = at
    return pairs
