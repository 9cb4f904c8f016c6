"""What goes into a state and what comes out of it: the fields for that of both query languages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from cloudlet.services.jsonpath import (
    BadPath,
    NotFound,
    Scope,
    compile_path,
    compile_reference,
    is_number,
    put,
)
from cloudlet.services.stepfunctions import queries
from cloudlet.services.stepfunctions.definition import State
from cloudlet.services.stepfunctions.errors import EVALUATION, RUNTIME, StateFailed
from cloudlet.services.stepfunctions.intrinsics import IntrinsicFailed, compile_intrinsic

LARGEST = 256 * 1024  # bytes of a state's input, output or variables


class Step(NamedTuple):
    """How a state was left: its output, what follows (None at the end), and the variables that it has assigned."""

    output: Any
    next: str | None
    assigned: dict[str, Any]


def text_of(value: Any) -> str:
    """JSON as events and outputs have it."""
    return msgspec.json.encode(value).decode()


class Visit:
    """One visit of a state: what its fields can see."""

    def __init__(
        self,
        state: State,
        input: Any,
        variables: dict[str, Any],
        context: dict[str, Any],
        event: int,
        now: float,
        seen: dict[str, Any],
    ) -> None:
        """``event`` is the one by which the state was entered, ``now`` the cloud's time.

        ``seen`` gets the stages of the data when it has any: a state is being tried.
        """
        self.state = state
        self.input = input
        self.variables = variables
        self.context = context
        self.event = event
        self.now = now
        self._seen = seen

    def failed(self, said: str, error: str = RUNTIME, location: str = "") -> StateFailed:
        """An error while the state was executed, as Step Functions words it."""
        where = f"(entered at the event id #{self.event})"
        return StateFailed(
            error, f"An error occurred while executing the state '{self.state.name}' {where}. {said}", location
        )

    def unexpected(self, text: str, field: str, wanted: str, value: Any) -> StateFailed:
        """An expression whose value is of another type than the field wants."""
        words = f"The JSONata expression '{text[2:-2].strip()}' specified for the field '{field}' returned an"
        said = f"unexpected result type. Expected '{wanted}', but was '{_kind(value)}' for value: {text_of(value)}"
        return self.failed(f"{words} {said}", EVALUATION, field)

    # In

    def effective(self) -> Any:
        """The input that the state works with."""
        return self.input if self.state.jsonata else self.stage("afterInputPath", self._at("InputPath", self.input))

    def stage(self, name: str, data: Any) -> Any:
        """The data, remembered as a stage where a state is tried."""
        if self._seen:
            self._seen[name] = text_of(data)
        return data

    def arguments(self, *fields: str, data: Any = msgspec.UNSET) -> Any:
        """What a state's work gets: the template in the first of the fields that it has, else its input."""
        if self.state.jsonata:
            if "Arguments" in self.state.fields:
                return self.stage("afterArguments", self.query("Arguments"))
            return self.input
        data = self.effective() if data is msgspec.UNSET else data
        for field in fields or ("Parameters",):
            if field in self.state.fields:
                return self.stage("afterParameters", self.template(self.state.fields[field], data))
        return data

    def items(self) -> list[Any]:
        """A Map's items."""
        if self.state.jsonata:
            items = self.query("Items") if "Items" in self.state.fields else self.input
        else:
            items = self.resolve(self.state.fields.get("ItemsPath", "$"), self.effective(), "ItemsPath")
        if isinstance(items, list):
            return items
        text = self.state.fields.get("Items", "")
        if self.state.jsonata and queries.is_query(text):
            raise self.unexpected(text, "Items", "array", items)
        error = EVALUATION if self.state.jsonata else RUNTIME
        raise self.failed(f"Map state input must be an array but was: {text_of(items)}", error)

    def value(self, field: str) -> Any:
        """A field's own value, or by its ``...Path``, or by its expression; None where it has none."""
        fields = self.state.fields
        if f"{field}Path" in fields:
            return self.resolve(fields[f"{field}Path"], self.effective(), f"{field}Path")
        if field in fields and self.state.jsonata:
            return self.query(field)
        return fields.get(field)

    def number(self, field: str, kind: type[int] | type[float] = int) -> int | float | None:
        """A field's own number, or by its ``...Path``; None where it has none. Raises StateFailed."""
        value = self.value(field)
        if value is None:
            return None
        if isinstance(value, str) or (is_number(value) and kind(value) == value):
            with suppress(ValueError):
                return kind(value)  # a number in a text will do
        what = "integer" if kind is int else "float"
        said = f'refers to value "{value if isinstance(value, str) else text_of(value)}" which is not a valid {what}'
        path = self.state.fields.get(f"{field}Path")
        raise self.failed(f"The {field}Path field {said}: {path}" if path else f"The {field} field {said}")

    def query(self, field: str, **states: Any) -> Any:
        """A field with its JSONata evaluated."""
        return self.evaluate(self.state.fields[field], field, **states)

    def evaluate(self, template: Any, field: str, **states: Any) -> Any:
        """A template with its JSONata evaluated; ``states`` are further members of ``$states``."""
        seen = {"input": self.input, "context": self.context, **states}
        try:
            return queries.evaluate(template, seen, self.variables, field, self.now)
        except queries.QueryFailed as failed:
            raise self.failed(str(failed), EVALUATION, failed.field) from failed

    def template(self, template: Any, data: Any, context: dict[str, Any] | None = None) -> Any:
        """A payload template with its paths and functions replaced by their values."""
        if isinstance(template, list):
            return [self.template(item, data, context) for item in template]
        if not isinstance(template, dict):
            return template
        filled = {}
        for key, item in template.items():
            if key.endswith(".$"):
                filled[key[:-2]] = self.resolve(item, data, key, context)
            else:
                filled[key] = self.template(item, data, context)
        return filled

    def resolve(self, text: str, data: Any, field: str, context: dict[str, Any] | None = None) -> Any:
        """The value of a path or of a function."""
        scope = Scope(data, context or self.context, self.variables)
        try:
            if text.startswith("States."):
                return compile_intrinsic(text)(scope)
            return compile_path(text).value(scope)
        except IntrinsicFailed as failed:
            raise self.failed(f"{failed}: {text}", "States.IntrinsicFailure") from None
        except NotFound:
            words = f"The JSONPath '{text}' specified for the field '{field}' could not be found in the input"
            raise self.failed(f"{words} '{text_of(data)}'", "States.ParameterPathFailure") from None

    # Out

    def finish(self, result: Any, raw: Any = msgspec.UNSET) -> Step:
        """The step out of the state with a result. ``raw`` is it before ResultSelector."""
        raw = result if raw is msgspec.UNSET else raw
        fields = self.state.fields
        self.stage("result", raw)
        if self.state.jsonata:
            output = self.query("Output", result=result) if "Output" in fields else result
            assigned = self.query("Assign", result=result) if "Assign" in fields else {}
            return Step(output, self.state.next, assigned)
        if "ResultSelector" in fields:
            result = self.stage("afterResultSelector", self.template(fields["ResultSelector"], result))
        assigned = self.template(fields["Assign"], raw) if "Assign" in fields else {}
        output = self.stage("afterResultPath", self._placed(result, fields.get("ResultPath", "$")))
        return Step(self._at("OutputPath", output), self.state.next, assigned)

    def passed(self, next: str | None, rule: dict[str, Any] | None = None) -> Step:
        """The step out of a state that does no work: Choice, Wait, Succeed. A rule has its own Assign and Output."""
        fields = self.state.fields if rule is None else rule
        if self.state.jsonata:
            output = self.evaluate(fields["Output"], "Output") if "Output" in fields else self.input
            assigned = self.evaluate(fields["Assign"], "Assign") if "Assign" in fields else {}
            return Step(output, next, assigned)
        effective = self.effective()
        assigned = self.template(fields["Assign"], effective) if "Assign" in fields else {}
        return Step(self._at("OutputPath", effective), next, assigned)

    def caught(self, catcher: dict[str, Any], failure: StateFailed) -> Step:
        """The step that a Catch takes."""
        error = {"Error": failure.error or None, "Cause": failure.cause if failure.error else failure.cause or None}
        next = catcher["Next"]
        if self.state.jsonata:
            output = (
                self.evaluate(catcher["Output"], "Catch/Output", errorOutput=error) if "Output" in catcher else error
            )
            given = catcher.get("Assign", {})
            return Step(output, next, self.evaluate(given, "Catch/Assign", errorOutput=error))
        return Step(
            self._placed(error, catcher.get("ResultPath", "$")), next, self.template(catcher.get("Assign", {}), error)
        )

    def _at(self, field: str, data: Any) -> Any:
        path = self.state.fields.get(field, "$")
        if path is None:
            return {}
        if path == "$":
            return data
        if path.startswith("States."):
            return self.resolve(path, data, field)
        try:
            return compile_path(path).value(Scope(data, self.context, self.variables))
        except NotFound as missing:
            raise self.failed(f"Invalid path '{path}': {missing}") from None

    def _placed(self, result: Any, path: str | None) -> Any:
        if path is None:
            return self.input
        try:
            return put(self.input, compile_reference(path), result)
        except BadPath:
            words = f"Unable to apply step \"{path}\" to input '{text_of(self.input)}'"
            raise self.failed(words, "States.ResultPathMatchFailure") from None


def check_size(name: str, value: Any) -> str:
    """The JSON of an output. Raises StateFailed when it is too large."""
    text = text_of(value)
    if len(text) > LARGEST:
        words = "returned a result with a size exceeding the maximum number of bytes service limit."
        raise StateFailed("States.DataLimitExceeded", f"The state/task '{name}' {words}")
    return text


def _kind(value: Any) -> str:
    """JSON's name for the type of a value."""
    if value is None:
        return "null"
    names = {bool: "boolean", str: "string", dict: "object", list: "array"}
    return names.get(type(value), "number")
