"""PartiQL's grammar: a statement as the trees that expressions have, its literals and parameters as their values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb.conditions import Values
from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.syntax import Action, Apply, Node, Path, Reference
from cloudlet.services.dynamodb.values import Item, Value, check

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")*")|(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"""
    r"""|(?P<word>[A-Za-z_][\w-]*)|(?P<sign><<|>>|<>|!=|<=|>=|[=<>()\[\]{},.:+*?-])|(?P<end>\Z))"""
)
_SIGNS = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_TESTS = {"begins_with": 2, "contains": 2, "attribute_type": 2}
_SET_FUNCTIONS = {"set_add": "ADD", "set_delete": "DELETE"}
_DEEPEST = 100


@dataclass(slots=True)
class Statement:
    """One statement. ``kind`` is SELECT, INSERT, UPDATE, DELETE or EXISTS (with what it selects)."""

    kind: str
    table: str
    index: str = ""
    paths: tuple[Path, ...] | None = None  # of a SELECT; None is everything
    where: Node | None = None
    order: tuple[tuple[str, bool], ...] = ()  # attribute, and whether downwards
    item: Item = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    returning: str = ""  # as ReturnValues has it
    values: Values = field(default_factory=dict)


def read(text: str, parameters: list[Value]) -> Statement:
    """Read one statement. Raises ValidationException."""
    for parameter in parameters:
        check(parameter)
    return _Parser(text, parameters).statement()


class _Parser:
    def __init__(self, text: str, parameters: list[Value]) -> None:
        self._text = text
        self._parameters = parameters
        self._taken = 0
        self._at = 0
        self._depth = 0
        self._values: Values = {}
        self._tokens: list[tuple[str, str, int]] = []
        position = 0
        while not self._tokens or self._tokens[-1][0] != "end":
            match = _TOKEN.match(text, position)
            if match is None:
                raise invalid(f"Statement wasn't well formed, can't be processed: Unexpected token at {position + 1}")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind], match.start(kind)))
            position = match.end()

    def statement(self) -> Statement:
        if self._word("EXISTS"):
            self._need("(")
            statement = self._select()
            self._need(")")
            statement.kind = "EXISTS"
        elif self._peek("SELECT"):
            statement = self._select()
        elif self._word("INSERT"):
            statement = self._insert()
        elif self._word("UPDATE"):
            statement = self._update()
        elif self._word("DELETE"):
            self._need_word("FROM")
            statement = Statement("DELETE", self._name())
            statement.where = self._where()
            statement.returning = self._returning()
        else:
            raise self._failure()
        if self._tokens[self._at][0] != "end":
            raise self._failure()
        if self._taken != len(self._parameters):
            raise invalid("Number of parameters in request and statement don't match.")
        statement.values = self._values
        return statement

    def _select(self) -> Statement:
        self._need_word("SELECT")
        paths: tuple[Path, ...] | None = None
        if not self._sign("*"):
            found = [self._path()]
            while self._sign(","):
                found.append(self._path())
            paths = tuple(found)
        self._need_word("FROM")
        statement = Statement("SELECT", self._name(), paths=paths)
        if self._sign("."):
            statement.index = self._name()
        statement.where = self._where()
        if self._word("ORDER"):
            self._need_word("BY")
            order = [self._order()]
            while self._sign(","):
                order.append(self._order())
            statement.order = tuple(order)
        return statement

    def _order(self) -> tuple[str, bool]:
        name = self._name()
        if self._word("DESC"):
            return name, True
        self._word("ASC")
        return name, False

    def _insert(self) -> Statement:
        self._need_word("INTO")
        table = self._name()
        self._need_word("VALUE")
        value = self._value()
        if "M" not in value:
            raise self._failure()
        return Statement("INSERT", table, item=value["M"])

    def _update(self) -> Statement:
        statement = Statement("UPDATE", self._name())
        actions: list[Action] = []
        while self._peek("SET") or self._peek("REMOVE"):
            section = "SET" if self._word("SET") else "REMOVE"
            if section == "REMOVE":
                self._need_word("REMOVE")
            actions.append(self._action(section))
            while self._sign(","):
                actions.append(self._action(section))
        if not actions:
            raise self._failure()
        statement.actions = tuple(actions)
        statement.where = self._where()
        statement.returning = self._returning()
        return statement

    def _action(self, section: str) -> Action:
        path = self._path()
        if section == "REMOVE":
            return Action(section, path, None)
        self._need("=")
        kind, word, _ = self._tokens[self._at]
        if kind == "word" and word.lower() in _SET_FUNCTIONS:
            self._at += 1
            self._need("(")
            self._path()
            self._need(",")
            members = self._operand()
            self._need(")")
            return Action(_SET_FUNCTIONS[word.lower()], path, members)
        value = self._set_operand()
        while self._tokens[self._at][1] in ("+", "-"):
            operator = self._tokens[self._at][1]
            self._at += 1
            value = Apply(operator, (value, self._set_operand()))
        return Action(section, path, value)

    def _set_operand(self) -> Node:
        kind, word, _ = self._tokens[self._at]
        if kind == "word" and word.lower() in ("list_append", "if_not_exists"):
            self._at += 1
            self._need("(")
            left = self._set_operand()
            self._need(",")
            right = self._set_operand()
            self._need(")")
            return Apply(word.lower(), (left, right))
        return self._operand()

    def _returning(self) -> str:
        if not self._word("RETURNING"):
            return ""
        which = "ALL" if self._word("ALL") else "UPDATED"
        if which == "UPDATED":
            self._need_word("MODIFIED")
        when = "OLD" if self._word("OLD") else "NEW"
        if when == "NEW":
            self._need_word("NEW")
        self._need("*")
        return f"{which}_{when}"

    def _where(self) -> Node | None:
        return self._or() if self._word("WHERE") else None

    def _or(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise invalid("Statement wasn't well formed, can't be processed: it is nested too deeply")
        nodes = [self._and()]
        while self._word("OR"):
            nodes.append(self._and())
        self._depth -= 1
        return nodes[0] if len(nodes) == 1 else Apply("or", tuple(nodes))

    def _and(self) -> Node:
        nodes = [self._not()]
        while self._word("AND"):
            nodes.append(self._not())
        return nodes[0] if len(nodes) == 1 else Apply("and", tuple(nodes))

    def _not(self) -> Node:
        if self._word("NOT"):
            return Apply("not", (self._not(),))
        if self._sign("("):
            node = self._or()
            self._need(")")
            return node
        return self._comparison()

    def _comparison(self) -> Node:
        kind, word, _ = self._tokens[self._at]
        if kind == "word" and word.lower() in _TESTS:
            self._at += 1
            self._need("(")
            operands = [self._operand()]
            while self._sign(","):
                operands.append(self._operand())
            self._need(")")
            if len(operands) != _TESTS[word.lower()]:
                raise self._failure()
            return Apply(word.lower(), tuple(operands))
        left = self._operand()
        if self._word("IS"):
            return self._is(left)
        if self._word("BETWEEN"):
            low = self._operand()
            self._need_word("AND")
            return Apply("between", (left, low, self._operand()))
        if self._word("IN"):
            close = "]" if self._sign("[") else ")"
            if close == ")":
                self._need("(")
            members = [self._operand()]
            while self._sign(","):
                members.append(self._operand())
            self._need(close)
            return Apply("in", (left, *members))
        sign = self._tokens[self._at][1]
        if self._tokens[self._at][0] != "sign" or sign not in _SIGNS:
            raise self._failure()
        self._at += 1
        return Apply(_SIGNS[sign], (left, self._operand()))

    def _is(self, left: Node) -> Node:
        negated = self._word("NOT")
        if self._word("MISSING"):
            return Apply("attribute_exists" if negated else "attribute_not_exists", (left,))
        self._need_word("NULL")
        node = Apply("=", (left, self._reference({"NULL": True})))
        return Apply("not", (node,)) if negated else node

    def _operand(self) -> Node:
        kind, word, _ = self._tokens[self._at]
        if kind == "word" and word.lower() == "size" and self._tokens[self._at + 1][1] == "(":
            self._at += 2
            node = self._operand()
            self._need(")")
            return Apply("size", (node,))
        if kind == "quoted" or (kind == "word" and word.upper() not in ("TRUE", "FALSE", "NULL")):
            return self._path()
        return self._reference(self._value())

    def _reference(self, value: Value) -> Reference:
        name = f":{len(self._values)}"
        self._values[name] = value
        return Reference(name)

    def _value(self) -> Value:
        """A literal or the next parameter."""
        value = self._literal()
        check(value)
        return value

    def _literal(self) -> Value:
        kind, text, _ = self._tokens[self._at]
        self._at += 1
        if kind == "text":
            return {"S": text[1:-1].replace("''", "'")}
        if kind == "number":
            return {"N": text}
        if kind == "word" and text.upper() in ("TRUE", "FALSE"):
            return {"BOOL": text.upper() == "TRUE"}
        if kind == "word" and text.upper() == "NULL":
            return {"NULL": True}
        if kind == "sign" and text == "?":
            if self._taken == len(self._parameters):
                raise invalid("Number of parameters in request and statement don't match.")
            self._taken += 1
            return self._parameters[self._taken - 1]
        if kind == "sign" and text == "-" and self._tokens[self._at][0] == "number":
            self._at += 1
            return {"N": f"-{self._tokens[self._at - 1][1]}"}
        if kind == "sign" and text == "[":
            return {"L": self._members("]")}
        if kind == "sign" and text == "<<":
            return self._set(self._members(">>"))
        if kind == "sign" and text == "{":
            return {"M": self._map()}
        self._at -= 1
        raise self._failure()

    def _members(self, close: str) -> list[Value]:
        members: list[Value] = []
        if self._sign(close):
            return members
        members.append(self._literal())
        while self._sign(","):
            members.append(self._literal())
        self._need(close)
        return members

    def _set(self, members: list[Value]) -> Value:
        kinds = {next(iter(member)) for member in members}
        if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
            raise invalid("Statement wasn't well formed, can't be processed: a set has members of one scalar type")
        (kind,) = kinds
        return {f"{kind}S": [member[kind] for member in members]}

    def _map(self) -> Item:
        found: Item = {}
        if self._sign("}"):
            return found
        while True:
            kind, text, _ = self._tokens[self._at]
            if kind not in ("text", "quoted"):
                raise self._failure()
            self._at += 1
            self._need(":")
            found[text[1:-1].replace(text[0] * 2, text[0])] = self._literal()
            if self._sign("}"):
                return found
            self._need(",")

    def _path(self) -> Path:
        parts: list[str | int] = [self._name()]
        while True:
            if self._sign("."):
                parts.append(self._name())
            elif self._sign("["):
                kind, text, _ = self._tokens[self._at]
                if kind != "number" or not text.isdigit():
                    raise self._failure()
                self._at += 1
                parts.append(int(text))
                self._need("]")
            else:
                return Path(tuple(parts))

    def _name(self) -> str:
        kind, text, _ = self._tokens[self._at]
        if kind not in ("word", "quoted"):
            raise self._failure()
        self._at += 1
        return text if kind == "word" else text[1:-1].replace('""', '"')

    def _peek(self, word: str) -> bool:
        kind, text, _ = self._tokens[self._at]
        return kind == "word" and text.upper() == word

    def _word(self, word: str) -> bool:
        if self._peek(word):
            self._at += 1
            return True
        return False

    def _sign(self, sign: str) -> bool:
        kind, text, _ = self._tokens[self._at]
        if kind == "sign" and text == sign:
            self._at += 1
            return True
        return False

    def _need(self, sign: str) -> None:
        if not self._sign(sign):
            raise self._failure()

    def _need_word(self, word: str) -> None:
        if not self._word(word):
            raise self._failure()

    def _failure(self) -> AwsError:
        kind, text, position = self._tokens[self._at]
        line = self._text.count("\n", 0, position) + 1
        column = position - self._text.rfind("\n", 0, position)
        found = "end of statement" if kind == "end" else f"token {text!r}"
        return invalid(
            f"Statement wasn't well formed, can't be processed: Unexpected {found} at line {line}, column {column}"
        )


def conjuncts(node: Node | None) -> list[Apply]:
    """The conditions that must all hold."""
    if not isinstance(node, Apply):
        return []
    if node.name != "and":
        return [node]
    return [found for operand in node.operands for found in conjuncts(operand)]


def equalities(node: Node | None, values: Values) -> dict[str, list[Value]]:
    """The attributes that must equal a value, or one of some values."""
    found: dict[str, list[Value]] = {}
    for one in conjuncts(node):
        operands: tuple[Any, ...] = one.operands
        if one.name == "=" and isinstance(operands[0], Reference):
            operands = operands[::-1]
        if one.name not in ("=", "in") or not isinstance(operands[0], Path) or len(operands[0].parts) > 1:
            continue
        if all(isinstance(operand, Reference) for operand in operands[1:]):
            found.setdefault(str(operands[0].parts[0]), [values[operand.name] for operand in operands[1:]])
    return found
