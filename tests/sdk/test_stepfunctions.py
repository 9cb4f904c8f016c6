"""Step Functions with real clients: whole state machines, their histories, and what survives a kill."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud

ROLE = "arn:aws:iam::000000000000:role/states"


@pytest.fixture
def states(cloud: LocalCloud) -> Any:
    return cloud.client("stepfunctions")


def make(
    states: Any, name: str, all_states: dict[str, Any], start: str = "", kind: str = "STANDARD", **more: Any
) -> str:
    definition = {"StartAt": start or next(iter(all_states)), "States": all_states, **more}
    made = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE, type=kind)
    return str(made["stateMachineArn"])


def start(states: Any, machine: str, input: Any = None, **more: Any) -> str:
    return str(states.start_execution(stateMachineArn=machine, input=json.dumps(input or {}), **more)["executionArn"])


def ended(states: Any, execution: str) -> dict[str, Any]:
    """The execution once it has ended."""
    for _ in range(300):
        found = states.describe_execution(executionArn=execution)
        if found["status"] != "RUNNING":
            return dict(found)
        time.sleep(0.02)
    raise AssertionError(history(states, execution))


def output(states: Any, execution: str) -> Any:
    found = ended(states, execution)
    assert found["status"] == "SUCCEEDED", (found, history(states, execution))
    return json.loads(found["output"])


def ran(states: Any, all_states: dict[str, Any], input: Any = None, name: str = "", **more: Any) -> Any:
    machine = make(states, name or f"m{time.time_ns()}", all_states, **more)
    return output(states, start(states, machine, input))


def failed(states: Any, all_states: dict[str, Any], input: Any = None, **more: Any) -> tuple[str, str]:
    found = ended(states, start(states, make(states, f"m{time.time_ns()}", all_states, **more), input))
    assert found["status"] == "FAILED", found
    return found["error"], found["cause"]


def history(states: Any, execution: str) -> list[str]:
    return [event["type"] for event in states.get_execution_history(executionArn=execution)["events"]]


def until(states: Any, execution: str, type: str, count: int = 1) -> None:
    """Wait until the history has such events."""
    for _ in range(300):
        if history(states, execution).count(type) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(history(states, execution))


def refused(operation: Any, **input: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        operation(**input)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def function(cloud: LocalCloud, name: str, code: str) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", code)
    made = cloud.client("lambda").create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": packed.getvalue()}
    )
    return str(made["FunctionArn"])


def test_a_pass_through_data(cloud: LocalCloud, states: Any) -> None:
    """Paths, templates, functions, choices and variables; the history as AWS writes it."""
    all_states: dict[str, Any] = {
        "Shape": {
            "Type": "Pass",
            "InputPath": "$.order",
            "Parameters": {
                "id.$": "$.id",
                "total.$": "States.MathAdd($.a, $.b)",
                "execution.$": "$$.Execution.Name",
                "big.$": "$.lines[?(@.n > 1)].sku",
                "text.$": "States.Format('{}/{}', $.id, States.ArrayLength($.lines))",
            },
            "Assign": {"kept.$": "$.total"},
            "ResultPath": "$.shaped",
            "Next": "Which",
        },
        "Which": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.missing", "IsPresent": True, "Next": "Bad"},
                {
                    "And": [
                        {"Variable": "$.shaped.total", "NumericGreaterThanEquals": 3},
                        {"Not": {"Variable": "$.shaped.id", "StringMatches": "x*"}},
                    ],
                    "Next": "Good",
                },
            ],
            "Default": "Bad",
        },
        "Bad": {"Type": "Fail", "Error": "Wrong", "CausePath": "States.Format('total {}', $kept)"},
        "Good": {"Type": "Pass", "Parameters": {"kept.$": "$kept", "all.$": "$.shaped"}, "End": True},
    }
    machine = make(states, "data", all_states)
    order = {"id": "o1", "a": 1, "b": 2, "lines": [{"n": 1, "sku": "a"}, {"n": 2, "sku": "b"}]}
    execution = start(states, machine, {"order": order}, name="first")
    assert output(states, execution) == {
        "kept": 3,
        "all": {"id": "o1", "total": 3, "execution": "first", "big": ["b"], "text": "o1/2"},
    }
    events = states.get_execution_history(executionArn=execution)["events"]
    assert [event["type"] for event in events] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "ChoiceStateEntered",
        "ChoiceStateExited",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]
    assert [event["previousEventId"] for event in events] == list(range(8))
    assert events[0]["executionStartedEventDetails"]["roleArn"] == ROLE
    assert events[2]["stateExitedEventDetails"]["assignedVariables"] == {"kept": "3"}
    # Started again by the same name it is the same, as long as it runs; then the name is taken.
    assert refused(states.start_execution, stateMachineArn=machine, name="first") == (
        "ExecutionAlreadyExists",
        f"Execution Already Exists: '{execution}'",
    )
    order["id"] = "x"
    found = ended(states, start(states, machine, {"order": order}))
    assert (found["status"], found["error"], found["cause"]) == ("FAILED", "Wrong", "total 3")
    error, cause = failed(states, {"A": {"Type": "Pass", "Parameters": {"x.$": "$.no"}, "End": True}}, {"a": 1})
    assert error == "States.ParameterPathFailure"
    assert cause == (
        "An error occurred while executing the state 'A' (entered at the event id #2). "
        "The JSONPath '$.no' specified for the field 'x.$' could not be found in the input '{\"a\":1}'"
    )


def test_functions_are_called(cloud: LocalCloud, states: Any) -> None:
    """Lambda in both forms; Retry and Catch by the names of its errors."""
    code = """
class Broken(Exception): pass
seen = {}
def handler(event, context):
    if event.get("fail"):
        raise Broken("no")
    return {"got": event}
"""
    arn = function(cloud, "worker", code)
    catch = [{"ErrorEquals": ["Broken"], "ResultPath": "$.error", "Next": "Sorry"}]
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1000, "MaxAttempts": 2, "BackoffRate": 2}]
    all_states = {
        "Old": {"Type": "Task", "Resource": arn, "ResultPath": "$.old", "Retry": retry, "Catch": catch, "Next": "New"},
        "New": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": arn, "Payload": {"x.$": "$.a"}},
            "ResultSelector": {"answer.$": "$.Payload", "status.$": "$.StatusCode"},
            "ResultPath": "$.new",
            "End": True,
        },
        "Sorry": {"Type": "Pass", "Parameters": {"error.$": "$.error.Error", "tries.$": "$.error.Cause"}, "End": True},
    }
    machine = make(states, "functions", all_states)
    execution = start(states, machine, {"a": 1})
    assert output(states, execution) == {
        "a": 1,
        "old": {"got": {"a": 1}},
        "new": {"answer": {"got": {"x": 1}}, "status": 200},
    }
    assert history(states, execution)[1:6] == [
        "TaskStateEntered",
        "LambdaFunctionScheduled",
        "LambdaFunctionStarted",
        "LambdaFunctionSucceeded",
        "TaskStateExited",
    ]
    execution = start(states, machine, {"fail": True})
    until(states, execution, "LambdaFunctionFailed")
    cloud.advance(1001)
    until(states, execution, "LambdaFunctionFailed", 2)
    cloud.advance(2001)
    found = output(states, execution)
    assert found["error"] == "Broken"
    assert json.loads(found["tries"])["errorMessage"] == "no"
    assert history(states, execution).count("LambdaFunctionScheduled") == 3


def test_branches_and_items(cloud: LocalCloud, states: Any) -> None:
    """Parallel and Map, one in the other; a failure in one ends the others."""
    inner = {
        "StartAt": "I",
        "States": {"I": {"Type": "Pass", "Parameters": {"v.$": "$.n", "p.$": "$outer"}, "End": True}},
    }
    all_states = {
        "P": {
            "Type": "Parallel",
            "Branches": [
                {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": 1, "End": True}}},
                {
                    "StartAt": "M",
                    "States": {
                        "M": {
                            "Type": "Map",
                            "ItemsPath": "$.items",
                            "MaxConcurrency": 2,
                            "ItemSelector": {"n.$": "$$.Map.Item.Value", "i.$": "$$.Map.Item.Index"},
                            "ItemProcessor": inner,
                            "End": True,
                        }
                    },
                },
            ],
            "ResultSelector": {"one.$": "$[0]", "rest.$": "$[1]"},
            "End": True,
        }
    }
    first = {"Type": "Pass", "Assign": {"outer": "o"}, "Next": "P"}
    expected = {"one": 1, "rest": [{"v": n, "p": "o"} for n in ("x", "y", "z")]}
    assert ran(states, {"First": first, **all_states}, {"items": ["x", "y", "z"]}, name="side") == expected
    broken = {
        "P": {
            "Type": "Parallel",
            "Branches": [
                {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 1000, "End": True}}},
                {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "E", "Cause": "c"}}},
            ],
            "Catch": [{"ErrorEquals": ["E"], "Next": "C"}],
            "End": True,
        },
        "C": {"Type": "Pass", "End": True},
    }
    assert ran(states, broken) == {"Error": "E", "Cause": "c"}


def test_what_survives_a_kill(cloud: LocalCloud, states: Any) -> None:
    """A wait, a token, a retry and half of a Map go on where they stood; what was recorded is not done again."""
    queue = cloud.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    send = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": queue, "MessageBody": {"token.$": "$$.Task.Token", "in.$": "$"}},
        "HeartbeatSeconds": 3000,
        "End": True,
    }
    waiting = {
        "Note": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage",
            "ResultPath": None,
            "Parameters": {"QueueUrl": queue, "MessageBody": "once"},
            "Next": "W",
        },
        "W": {"Type": "Wait", "Seconds": 1000, "End": True},
    }
    wait = start(states, make(states, "waits", waiting), {"k": 1})
    processor = {"StartAt": "T", "States": {"T": send}}
    token = start(states, make(states, "asks", {"M": {"Type": "Map", "ItemProcessor": processor, "End": True}}), [1, 2])
    until(states, wait, "WaitStateEntered")
    until(states, token, "TaskSubmitted", 2)
    sqs = cloud.client("sqs")
    bodies = [m["Body"] for _ in range(3) for m in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)["Messages"]]
    asked = {json.loads(body)["in"]: json.loads(body)["token"] for body in bodies if body != "once"}
    assert bodies.count("once") == 1
    states.send_task_success(taskToken=asked[2], output='{"two": 2}')
    states.send_task_heartbeat(taskToken=asked[1])
    cloud.kill()
    cloud.start()
    assert history(states, token).count("TaskSucceeded") == 1
    assert refused(states.send_task_success, taskToken=asked[2], output="{}") == (
        "TaskTimedOut",
        "Task Timed Out: 'Provided task does not exist anymore'",
    )
    assert refused(states.send_task_success, taskToken="nonsense", output="{}")[0] == "InvalidToken"
    assert refused(states.send_task_success, taskToken=asked[1], output="{")[0] == "InvalidOutput"
    states.send_task_success(taskToken=asked[1], output="1")
    assert output(states, token) == [1, {"two": 2}]
    assert states.describe_execution(executionArn=wait)["status"] == "RUNNING"
    cloud.advance(1001)
    assert output(states, wait) == {"k": 1}
    counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    assert counts == {"ApproximateNumberOfMessages": "3"}
    machine = states.describe_execution(executionArn=wait)["stateMachineArn"]
    (listed,) = states.list_executions(stateMachineArn=machine, statusFilter="SUCCEEDED")["executions"]
    assert listed["executionArn"] == wait
    late = start(states, make(states, "late", {"T": {**send, "HeartbeatSeconds": 10}}))
    until(states, late, "TaskSubmitted")
    cloud.advance(11)
    assert ended(states, late)["error"] == "States.HeartbeatTimeout"
    assert "TaskTimedOut" in history(states, late)
