"""The expressions of one request: read once per text, then checked against the request's names and values."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb.conditions import Check, Test, Values, compile_condition, value_checks
from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.projections import Project, compile_projection
from cloudlet.services.dynamodb.syntax import Node, Parser, Path, Used
from cloudlet.services.dynamodb.updates import Update
from cloudlet.services.dynamodb.values import Item, check

# What a request asks of an item: conditions bound to its values.
Predicate = Callable[[Item], bool]

_NAME = re.compile(r"#[0-9a-zA-Z_]+\Z")
_VALUE = re.compile(r":[0-9a-zA-Z_]+\Z")
_LONGEST = 4096
_KEPT = 2048
_Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was read; ``tree`` is for those who look for keys in it."""

    test: Test
    tree: Node
    used: Used
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection that was read."""

    project: Project
    paths: tuple[Path, ...]
    used: Used


@functools.lru_cache(_KEPT)
def _read_condition(kind: str, text: str, names: _Names) -> Condition:
    parser = Parser(kind, text, dict(names))
    tree = parser.condition()
    return Condition(compile_condition(tree), tree, parser.used, value_checks(kind, tree))


@functools.lru_cache(_KEPT)
def _read_update(text: str, names: _Names) -> tuple[Update, Used]:
    parser = Parser("UpdateExpression", text, dict(names))
    return Update(parser.update()), parser.used


@functools.lru_cache(_KEPT)
def _read_projection(text: str, names: _Names) -> Projection:
    parser = Parser("ProjectionExpression", text, dict(names))
    paths = parser.projection()
    return Projection(compile_projection(paths), paths, parser.used)


class Expressions:
    """Reads a request's expressions and notes which of its names and values they use."""

    def __init__(self, input: dict[str, Any], told: bool = True) -> None:
        """``told``: an error in a value says which one it is, as not all operations do."""
        names = input.get("ExpressionAttributeNames")
        values = input.get("ExpressionAttributeValues")
        if names is not None:
            if not names:
                raise invalid("ExpressionAttributeNames must not be empty")
            for name, attribute in names.items():
                if not _NAME.match(name):
                    raise invalid(f'ExpressionAttributeNames contains invalid key: Syntax error; key: "{name}"')
                if not attribute:
                    raise invalid(
                        f"ExpressionAttributeNames contains invalid value: Empty attribute name for key {name}"
                    )
        if values is not None:
            _check_values(values, told)
        self._names: _Names = tuple(names.items()) if names else ()
        self.values: Values = values or {}
        self._used_names: set[str] = set()
        self._used_values: set[str] = set()

    def condition(self, kind: str, text: str) -> Condition:
        """Read a condition, a filter or a key condition. Raises ValidationException."""
        _check_length(kind, text)
        condition = _read_condition(kind, text, self._names)
        self._use(kind, condition.used, condition.checks)
        return condition

    def predicate(self, kind: str, text: str) -> Predicate:
        """A condition with the request's values in it."""
        return self.bind(self.condition(kind, text))

    def bind(self, condition: Condition) -> Predicate:
        """Put the request's values into a condition."""
        test, values = condition.test, self.values
        return lambda item: test(item, values)

    def update(self, text: str) -> Update:
        """Read an update expression. Raises ValidationException."""
        _check_length("UpdateExpression", text)
        update, used = _read_update(text, self._names)
        self._use("UpdateExpression", used, update.checks)
        return update

    def projection(self, text: str) -> Projection:
        """Read a projection. Raises ValidationException."""
        _check_length("ProjectionExpression", text)
        projection = _read_projection(text, self._names)
        self._use("ProjectionExpression", projection.used, ())
        return projection

    def finish(self) -> None:
        """Refuse names and values that no expression has used."""
        unused = [name for name, _ in self._names if name not in self._used_names]
        if unused:
            raise invalid(
                f"Value provided in ExpressionAttributeNames unused in expressions: keys: {{{', '.join(unused)}}}"
            )
        unused = [name for name in self.values if name not in self._used_values]
        if unused:
            raise invalid(
                f"Value provided in ExpressionAttributeValues unused in expressions: keys: {{{', '.join(unused)}}}"
            )

    def _use(self, kind: str, used: Used, checks: tuple[Check, ...]) -> None:
        for name in used.values:
            if name not in self.values:
                raise invalid(
                    f"Invalid {kind}: An expression attribute value used in expression is not defined; "
                    f"attribute value: {name}"
                )
        for run in checks:
            run(self.values)
        self._used_names |= used.names
        self._used_values |= used.values


def _check_values(values: Values, told: bool) -> None:
    if not values:
        raise invalid("ExpressionAttributeValues must not be empty")
    for name in values:
        if not _VALUE.match(name):
            raise invalid(f'ExpressionAttributeValues contains invalid key: Syntax error; key: "{name}"')
    for name, value in values.items():
        try:
            check(value)
        except AwsError as error:
            if not told:
                raise
            raise invalid(f"ExpressionAttributeValues contains invalid value: {error.message} for key {name}") from None


def _check_length(kind: str, text: str) -> None:
    if len(text) > _LONGEST and len(text.encode()) > _LONGEST:
        raise invalid(
            f"Invalid {kind}: Expression size has exceeded the maximum allowed size; "
            f"expression size: {len(text.encode())}"
        )


def refuse_mixture(input: dict[str, Any], expressions: tuple[str, ...], others: tuple[str, ...]) -> None:
    """A request speaks either in expressions or in the parameters before them. Raises ValidationException."""
    given = [name for name in expressions if name in input]
    if given:
        old = [name for name in others if name in input]
        if old:
            raise invalid(
                "Can not use both expression and non-expression parameters in the same request: "
                f"Non-expression parameters: {{{', '.join(old)}}} Expression parameters: {{{', '.join(given)}}}"
            )
        if given != ["ProjectionExpression"]:
            return
    elif "ExpressionAttributeNames" in input:
        raise invalid("ExpressionAttributeNames can only be specified when using expressions")
    if "ExpressionAttributeValues" in input:
        with_values = [name for name in expressions if name != "ProjectionExpression"]
        verb = "are" if len(with_values) > 1 else "is"
        raise invalid(
            "ExpressionAttributeValues can only be specified when using expressions: "
            f"{' and '.join(with_values)} {verb} null"
        )
