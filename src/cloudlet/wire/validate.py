"""A model's constraints, checked on a decoded input, and AWS's words for what breaks them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.wire.documents import full_match
from cloudlet.wire.model import Model, OperationSpec, Ref, Shape


class Problem(NamedTuple):
    """One broken constraint; ``value`` is as it is shown, ``path`` from here downwards."""

    value: str
    path: str
    constraint: str


Check = Callable[[Any], list[Problem] | None]

NOT_NULL = "Member must not be null"
_ENUM = "Member must satisfy enum value set: "


class Checks:
    """The checks of one model's shapes, compiled when they are first wanted.

    ``required_only`` leaves out lengths, ranges, patterns and enums, for protocols whose services judge by themselves.
    """

    def __init__(self, model: Model, *, required_only: bool = False) -> None:
        self._shapes = model.shapes
        self._required_only = required_only
        self._made: dict[str, Check | None] = {}

    def of(self, ref: Ref | None) -> Check | None:
        """The check for a shape, or None when it constrains nothing."""
        if ref is None:
            return None
        if ref.shape in self._made:
            return self._made[ref.shape]
        shape = self._shapes[ref.shape]
        if shape.type not in ("structure", "list", "map") or shape.document:
            check = None if self._required_only else _scalar(shape)
            self._made[ref.shape] = check
            return check
        # Registered before its members are, so that a shape may hold itself.
        body: list[Check | None] = []
        self._made[ref.shape] = lambda value: body[0](value) if body[0] is not None else None
        match shape.type:
            case "structure":
                check = self._structure(shape)
            case "list":
                check = self._list(shape)
            case _:
                check = self._map(shape)
        body.append(check)
        self._made[ref.shape] = check
        return check

    def _structure(self, shape: Shape) -> Check | None:
        required = tuple((name, _coral(name)) for name in shape.required if name in shape.members)
        members = tuple(
            (name, _coral(name), check)
            for name, ref in shape.members.items()
            if (check := self.of(ref)) is not None and not shape.eventstream
        )
        if not required and not members:
            return None

        def check_structure(value: Any) -> list[Problem] | None:
            found: list[Problem] | None = None
            for name, path in required:
                if name not in value:
                    found = found or []
                    found.append(Problem("null ", path, NOT_NULL))
            for name, path, check in members:
                if name in value and (below := check(value[name])):
                    found = found or []
                    found += _under(path, below)
            return found

        return check_structure

    def _list(self, shape: Shape) -> Check | None:
        assert shape.member is not None
        member = self.of(shape.member)
        size = None if self._required_only else _length(shape)
        if member is None:
            return size
        words = _words(self._shapes[shape.member.shape])

        def check_list(value: Any) -> list[Problem] | None:
            found = size(value) if size is not None else None
            for number, item in enumerate(value, 1):
                if item is not None and (below := member(item)):
                    if words:
                        return [*(found or ()), _problem(shape, value, f"Member must satisfy constraint: [{words}]")]
                    found = (found or []) + _under(f"{number}.member", below)
            return found

        return check_list

    def _map(self, shape: Shape) -> Check | None:
        assert shape.key is not None
        assert shape.value is not None
        key, member = self.of(shape.key), self.of(shape.value)
        size = None if self._required_only else _length(shape)
        if member is None and key is None:
            return size
        key_words, words = _words(self._shapes[shape.key.shape]), _words(self._shapes[shape.value.shape])

        def check_map(value: Any) -> list[Problem] | None:
            found = list(size(value) or ()) if size is not None else []
            if key is not None and any(map(key, value)):
                found.append(_problem(shape, value, f"Map keys must satisfy constraint: [{key_words}]"))
            for name, item in value.items():
                if member is not None and item is not None and (below := member(item)):
                    if words:
                        found.append(_problem(shape, value, f"Map value must satisfy constraint: [{words}]"))
                        break
                    found += _under(f"{name}.member", below)
            return found

        return check_map


def _coral(name: str) -> str:
    return name[:1].lower() + name[1:]


def _under(path: str, problems: list[Problem]) -> list[Problem]:
    return [Problem(value, f"{path}.{below}" if below else path, constraint) for value, below, constraint in problems]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bytes):
        return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
    return str(value)


def _problem(shape: Shape, value: Any, constraint: str) -> Problem:
    return Problem("" if shape.sensitive else f"'{_shown(value)}' ", "", constraint)


def _words(shape: Shape) -> str:
    """All constraints of a scalar, as AWS lists them for the members of a list or map; empty for anything else."""
    if shape.type in ("structure", "list", "map"):
        return ""
    kind = "value" if shape.type in ("integer", "long", "float", "double") else "length"
    words = []
    if shape.max is not None:
        words.append(f"Member must have {kind} less than or equal to {shape.max:.0f}")
    if shape.min is not None:
        words.append(f"Member must have {kind} greater than or equal to {shape.min:.0f}")
    if shape.pattern:
        words.append(f"Member must satisfy regular expression pattern: {shape.pattern}")
    if shape.enum:
        words.append(f"{_ENUM}[{', '.join(shape.enum)}]")
    return ", ".join(words)


def _length(shape: Shape) -> Check | None:
    low = int(shape.min) if shape.min is not None and shape.min > 0 else None
    high = int(shape.max) if shape.max is not None else None
    if low is None and high is None:
        return None

    def check_length(value: Any) -> list[Problem] | None:
        size = len(value)
        if low is not None and size < low:
            return [_problem(shape, value, f"Member must have length greater than or equal to {low}")]
        if high is not None and size > high:
            return [_problem(shape, value, f"Member must have length less than or equal to {high}")]
        return None

    return check_length


def _scalar(shape: Shape) -> Check | None:
    match shape.type:
        case "integer" | "long" | "float" | "double":
            return _range(shape)
        case "blob":
            return None if shape.streaming else _length(shape)
        case "string" | "character":
            return _string(shape)
    return None


def _range(shape: Shape) -> Check | None:
    low, high = shape.min, shape.max
    if low is None and high is None:
        return None
    whole = shape.type in ("integer", "long")

    def check_range(value: Any) -> list[Problem] | None:
        if low is not None and value < low:
            bound = int(low) if whole else low
            return [_problem(shape, value, f"Member must have value greater than or equal to {bound}")]
        if high is not None and value > high:
            bound = int(high) if whole else high
            return [_problem(shape, value, f"Member must have value less than or equal to {bound}")]
        return None

    return check_range


def _string(shape: Shape) -> Check | None:
    if shape.enum:
        allowed = frozenset(shape.enum)
        words = f"{_ENUM}[{', '.join(shape.enum)}]"
        return lambda value: None if value in allowed else [_problem(shape, value, words)]
    length = _length(shape)
    anchored = full_match(shape.pattern) if shape.pattern else None
    if anchored is None:
        return length
    matches = functools.partial(re.search, anchored)
    pattern = f"Member must satisfy regular expression pattern: {shape.pattern}"

    def check_string(value: Any) -> list[Problem] | None:
        found = length(value) if length is not None else None
        if not matches(value):
            found = [*(found or ()), _problem(shape, value, pattern)]
        return found

    return check_string


def refusal(
    model: Model,
    operation: OperationSpec,
    problems: list[Problem],
    protocol: str,
    *,
    names_missing: bool = False,
    names: Mapping[str, str] = {},
    code: str = "",
    words: str = "",
) -> AwsError:
    """The error that a service of this kind sends for broken constraints.

    ``code`` and ``words`` (a sentence with ``{path}`` and ``{constraint}``) are the service's own, where it has such.

    ``names_missing``: the service answers for a missing parameter in the words of AWS's first services, by the
    parameter's own name or that of ``names`` (``<operation>.<parameter>``).
    """
    declared = {ref.shape for ref in operation.errors}
    missing = next((problem for problem in problems if problem.constraint == NOT_NULL), None)
    if missing is not None:
        parameter = _declared_name(model, operation, missing.path)
        if protocol == "query" and "InvalidParameterException" in declared:
            words = f"Invalid parameter: {parameter} Reason: no value for required parameter"
            return AwsError("InvalidParameter", words, status=400)
        if names_missing:
            parameter = names.get(f"{operation.name}.{parameter}", parameter)
            stop = "" if protocol == "ec2" else "."
            return AwsError("MissingParameter", f"The request must contain the parameter {parameter}{stop}", status=400)
    if protocol == "rest-xml" and problems[0].constraint.startswith(_ENUM):
        # These services judge documents by a schema, whose words are XML's.
        value, allowed = problems[0].value.strip(), problems[0].constraint.removeprefix(_ENUM)
        words = (
            f"Invalid XML ; cvc-enumeration-valid: Value {value} is not facet-valid with respect to enumeration "
            f"'{allowed}'. It must be a value from the enumeration."
        )
        return AwsError(_code(declared, protocol), words, status=400)
    if words:
        message = words.format(path=problems[0].path, constraint=problems[0].constraint)
        return AwsError(code or _code(declared, protocol), message, status=400)
    count = len(problems)
    words = "; ".join(
        f"Value {problem.value}at '{problem.path}' failed to satisfy constraint: {problem.constraint}"
        for problem in problems[:10]
    )
    message = f"{count} validation error{'s' if count != 1 else ''} detected: {words}"
    return AwsError(code or _code(declared, protocol), message, status=400)


def _code(declared: set[str], protocol: str) -> str:
    if protocol in ("query", "ec2"):
        return "ValidationError"
    for code in ("ValidationException", "InvalidParameterException", "BadRequestException", "InvalidInput"):
        if code in declared:
            return code
    return "ValidationException"


def _declared_name(model: Model, operation: OperationSpec, path: str) -> str:
    """A path's parameter as the model spells it."""
    head = path.split(".", 1)[0]
    members = model.shapes[operation.input.shape].members if operation.input is not None else {}
    return next((name for name in members if _coral(name) == head), head)
