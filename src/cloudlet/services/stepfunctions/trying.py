"""TestState: one state, without a state machine around it."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.stepfunctions.checks import Checker
from cloudlet.services.stepfunctions.data import text_of
from cloudlet.services.stepfunctions.definition import Machine, build_state
from cloudlet.services.stepfunctions.errors import StateFailed, matches
from cloudlet.services.stepfunctions.executions import Executions
from cloudlet.services.stepfunctions.journal import Journal
from cloudlet.services.stepfunctions.records import Execution, Frame
from cloudlet.services.stepfunctions.runs import Run
from cloudlet.services.stepfunctions.threads import iso

_TESTED = ("Pass", "Task", "Choice", "Wait", "Succeed", "Fail")


class Trying(Executions):
    """The operation that tries a state."""

    async def TestState(self, call: Call, input: Input) -> Output:
        for name in ("mock", "context", "stateConfiguration"):
            if name in input:
                raise not_implemented(f"TestState with {name}")
        fields = _fields(input)
        name = input.get("stateName", "TestState")
        run, frame = self._tried(call, input, name, fields)
        state = run.machine.states[name]
        output: Output = {}
        frame.entered = run.journal.emit(0, f"{state.type}StateEntered")
        frame.entered_at = self.clock.now()
        try:
            step = await run.act("", frame, run.visit(frame, state))
        except StateFailed as failure:
            output = {"status": "FAILED", "error": failure.error, "cause": failure.cause}
            if _takes(fields.get("Retry", []), failure):
                output["status"] = "RETRIABLE"
            elif (catcher := _takes(fields.get("Catch", []), failure)) is not None:
                caught = run.visit(frame, state).caught(catcher, failure)
                output |= {"status": "CAUGHT_ERROR", "output": text_of(caught.output), "nextState": caught.next}
        else:
            output = {"status": "SUCCEEDED", "output": text_of(step.output)}
            if step.next is not None:
                output["nextState"] = step.next
            if step.assigned:
                run.seen["variables"] = text_of({**frame.variables, **step.assigned})
        if input.get("inspectionLevel", "INFO") != "INFO":
            output["inspectionData"] = run.seen
        return output

    def _tried(self, call: Call, input: Input, name: str, fields: dict[str, Any]) -> tuple[Run, Frame]:
        """A run that has nothing but this state, and its thread."""
        state = build_state(name, fields, jsonata=False)
        machine = Machine(name, {name: state}, {})
        place = f"arn:aws:states:{call.region}:{call.account}"
        body = Execution(
            f"{place}:express:TestState:{name}:{uuid.uuid4()}", f"{place}:stateMachine:TestState", "", "{}"
        )
        given = _json(input.get("input", "{}"))
        execution = {
            "Id": body.arn,
            "Input": given,
            "Name": name,
            "RoleArn": input.get("roleArn", ""),
            "StartTime": iso(self.clock.now()),
        }
        facts = {"Execution": execution, "StateMachine": {"Id": body.machine_arn, "Name": "TestState"}}
        run = Run(self, Journal(self.clock, 0, body, None), machine, facts)
        run.seen = {"input": text_of(given)}
        frame = run.journal.put("", Frame(name, given, _json(input.get("variables", "{}"))))
        return run, frame


def _fields(input: Input) -> dict[str, Any]:
    """The state's own document. Raises InvalidDefinition."""
    try:
        document = msgspec.json.decode(input["definition"])
    except msgspec.DecodeError as error:
        words = f"Invalid State Machine Definition: 'INVALID_JSON_DESCRIPTION: {error}'"
        raise AwsError("InvalidDefinition", words) from None
    if isinstance(document, dict) and "States" in document:
        if "stateName" not in input or input["stateName"] not in document["States"]:
            raise AwsError("ValidationException", "stateName must name a state of the definition")
        language = {"QueryLanguage": document["QueryLanguage"]} if "QueryLanguage" in document else {}
        document = {**language, **document["States"][input["stateName"]]}
    checker = Checker("STANDARD")
    checker.state("TestState", document, "", jsonata=False, depth=0)
    if checker.problems:
        said = ", ".join(f"{code}: {message} at {location}" for code, message, location, _ in checker.problems)
        raise AwsError("InvalidDefinition", f"Invalid State Machine Definition: '{said}'")
    if document["Type"] not in _TESTED:
        raise not_implemented(f"TestState of a state of the type {document['Type']}")
    if str(document.get("Resource", "")).endswith((".sync", ".sync:2", ".waitForTaskToken")):
        raise not_implemented("TestState of a task that waits for a callback")
    return dict(document)


def _takes(entries: list[dict[str, Any]], failure: StateFailed) -> dict[str, Any] | None:
    return next((entry for entry in entries if matches(failure.error, entry["ErrorEquals"])), None)


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise AwsError("InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'") from None
