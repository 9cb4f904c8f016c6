"""Step Functions with real clients: whole state machines, their histories, and what survives a kill."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/states"


@pytest.fixture
def states(cloud: LocalCloud) -> Any:
    # StartSyncExecution and TestState would be asked of ``sync-<host>``, which no address has.
    return cloud.client("stepfunctions", config=Config(inject_host_prefix=False))


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
    describe = states.describe_execution
    return eventually(lambda: (found := describe(executionArn=execution))["status"] != "RUNNING" and dict(found))


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
    eventually(lambda: history(states, execution).count(type) >= count)


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
    assert [event["previousEventId"] for event in events] == [0, 0, *range(2, 8)]
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


def test_jsonata(cloud: LocalCloud, states: Any) -> None:
    """Arguments, Output, Assign and Condition; an error of an expression is one that can be caught."""
    table = cloud.client("dynamodb")
    table.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    put = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:putItem",
        "Arguments": {
            "TableName": "orders",
            "Item": {"k": {"S": "{% $states.input.id %}"}, "n": {"N": "{% $string($sum($states.input.lines.n)) %}"}},
            "ConditionExpression": "attribute_not_exists(k)",
        },
        "Assign": {"id": "{% $states.input.id %}", "when": "{% $exists($states.result.SdkHttpMetadata) %}"},
        "Output": "{% $states.input.lines %}",
        "Catch": [
            {
                "ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"],
                "Assign": {"id": "none"},
                "Output": "{% [] %}",
                "Next": "Items",
            }
        ],
        "Next": "Items",
    }
    items = {
        "Type": "Map",
        "Items": "{% $states.input[n > 1] ~> $append([]) %}",
        "ItemSelector": {"v": "{% $states.context.Map.Item.Value.n %}", "i": "{% $states.context.Map.Item.Index %}"},
        "ItemProcessor": {
            "StartAt": "D",
            "States": {"D": {"Type": "Pass", "Output": "{% $states.input.v * 2 %}", "End": True}},
        },
        "Next": "Read",
    }
    read = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:dynamodb:getItem",
        "Arguments": {"TableName": "orders", "Key": {"k": {"S": "a"}}},
        "Output": {"id": "{% $id %}", "n": "{% $states.result.Item.n.N %}", "doubled": "{% $states.input %}"},
        "Next": "Which",
    }
    which = {
        "Type": "Choice",
        "Choices": [{"Condition": "{% $id = 'a' %}", "Next": "Done"}],
        "Default": "Broken",
    }
    broken = {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:getItem",
        "Arguments": "{% $states.input.nothing %}",
        "Catch": [
            {
                "ErrorEquals": ["States.QueryEvaluationError"],
                "Output": "{% $states.errorOutput.Cause %}",
                "Next": "Done",
            }
        ],
        "End": True,
    }
    all_states = {
        "Put": put,
        "Items": items,
        "Read": read,
        "Which": which,
        "Broken": broken,
        "Done": {"Type": "Succeed"},
    }
    machine = make(states, "jsonata", all_states, QueryLanguage="JSONata")
    order = {"id": "a", "lines": [{"n": 1}, {"n": 2}, {"n": 3}]}
    assert output(states, start(states, machine, order)) == {"id": "a", "n": "6", "doubled": [4, 6]}
    said = "The JSONata expression '$states.input.nothing' specified for the field 'Arguments'"
    assert f"{said} returned nothing (undefined)." in output(states, start(states, machine, order))


def test_express_and_logging(cloud: LocalCloud, states: Any) -> None:
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName="states")
    group = "arn:aws:logs:us-east-1:000000000000:log-group:states:*"
    definition = {
        "StartAt": "A",
        "States": {"A": {"Type": "Pass", "Parameters": {"sum.$": "States.MathAdd($.a, 1)"}, "End": True}},
    }
    machine = states.create_state_machine(
        name="quick",
        definition=json.dumps(definition),
        roleArn=ROLE,
        type="EXPRESS",
        loggingConfiguration={
            "level": "ALL",
            "includeExecutionData": True,
            "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}],
        },
    )["stateMachineArn"]
    answer = states.start_sync_execution(stateMachineArn=machine, input='{"a": 1}', name="n")
    assert (answer["status"], answer["output"]) == ("SUCCEEDED", '{"sum":2}')
    assert ":express:quick:n:" in answer["executionArn"]
    answer = states.start_sync_execution(stateMachineArn=machine, input="{}")
    assert (answer["status"], answer["error"]) == ("FAILED", "States.ParameterPathFailure")
    background = states.start_execution(stateMachineArn=machine, input='{"a": 2}')["executionArn"]
    assert refused(states.describe_execution, executionArn=background)[0] == "InvalidArn"
    events = eventually(lambda: len(told := logs.filter_log_events(logGroupName="states")["events"]) == 11 and told)
    lines = [json.loads(event["message"]) for event in events]
    mine = [line for line in lines if line["execution_arn"] == background]
    assert [line["type"] for line in mine] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]
    assert mine[-1]["details"]["output"] == '{"sum":3}'
    standard = make(states, "slow", {"A": {"Type": "Succeed"}})
    assert refused(states.start_sync_execution, stateMachineArn=standard)[0] == "StateMachineTypeNotSupported"
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {},
        "End": True,
    }
    assert refused(make, states=states, name="x", all_states={"A": task}, kind="EXPRESS")[0] == "InvalidDefinition"


def test_activities_and_children(cloud: LocalCloud, states: Any) -> None:
    """A worker polls for its task; a parent waits for its child, also over a kill."""
    activity = states.create_activity(name="work")["activityArn"]
    child = make(states, "child", {"W": {"Type": "Task", "Resource": activity, "TimeoutSeconds": 500, "End": True}})
    run = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Parameters": {"StateMachineArn": child, "Input": {"n.$": "$.n"}},
        "OutputPath": "$.Output",
        "End": True,
    }
    parent = make(states, "parent", {"Run": run})
    polled: list[Any] = []
    worker = cloud.client("stepfunctions")
    thread = threading.Thread(
        target=lambda: polled.append(worker.get_activity_task(activityArn=activity, workerName="w"))
    )
    thread.start()
    time.sleep(0.2)
    execution = start(states, parent, {"n": 5})
    thread.join()
    (task,) = polled
    assert json.loads(task["input"]) == {"n": 5}
    cloud.kill()
    cloud.start()
    states.send_task_success(taskToken=task["taskToken"], output='{"done": true}')
    assert output(states, execution) == {"done": True}
    assert history(states, execution)[1:5] == ["TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskSubmitted"]
    second = start(states, parent, {"n": 6})
    until(states, second, "TaskSubmitted")
    cloud.advance(501)
    found = ended(states, second)
    assert found["error"] == "States.TaskFailed"
    assert json.loads(found["cause"])["Error"] == "States.Timeout"
    # What failed is done again from where it failed.
    (failed,) = states.list_executions(stateMachineArn=child, statusFilter="FAILED")["executions"]
    states.redrive_execution(executionArn=failed["executionArn"])
    task = worker.get_activity_task(activityArn=activity)
    states.send_task_failure(taskToken=task["taskToken"], error="Mine", cause="no")
    found = ended(states, failed["executionArn"])
    assert (found["error"], found["cause"], found["redriveCount"]) == ("Mine", "no", 1)
    stopped = start(states, parent, {"n": 7})
    states.stop_execution(executionArn=stopped, error="Enough", cause="of it")
    found = ended(states, stopped)
    assert (found["status"], found["error"], found["redriveStatus"]) == ("ABORTED", "Enough", "REDRIVABLE")
    assert history(states, stopped)[-1] == "ExecutionAborted"


def test_versions_and_aliases(cloud: LocalCloud, states: Any) -> None:
    machine = make(states, "m", {"A": {"Type": "Pass", "Result": 1, "End": True}})
    first = states.publish_state_machine_version(stateMachineArn=machine, description="one")["stateMachineVersionArn"]
    assert first == f"{machine}:1"
    assert states.publish_state_machine_version(stateMachineArn=machine)["stateMachineVersionArn"] == first
    definition = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": 2, "End": True}}}
    second = states.update_state_machine(stateMachineArn=machine, definition=json.dumps(definition), publish=True)
    alias = states.create_state_machine_alias(
        name="live", routingConfiguration=[{"stateMachineVersionArn": first, "weight": 100}]
    )["stateMachineAliasArn"]
    execution = start(states, alias)
    assert output(states, execution) == 1
    found = states.describe_execution(executionArn=execution)
    assert (found["stateMachineVersionArn"], found["stateMachineAliasArn"]) == (first, alias)
    states.update_state_machine_alias(
        stateMachineAliasArn=alias,
        routingConfiguration=[{"stateMachineVersionArn": second["stateMachineVersionArn"], "weight": 100}],
    )
    assert output(states, start(states, alias)) == output(states, start(states, machine)) == 2
    assert output(states, start(states, first)) == 1
    assert len(states.list_executions(stateMachineArn=alias)["executions"]) == 2
    assert refused(states.delete_state_machine_version, stateMachineVersionArn=f"{machine}:2")[0] == "ConflictException"
    states.delete_state_machine(stateMachineArn=machine)
    assert refused(states.describe_execution, executionArn=execution)[0] == "ExecutionDoesNotExist"
    assert refused(states.describe_state_machine, stateMachineArn=machine) == (
        "StateMachineDoesNotExist",
        f"State Machine Does Not Exist: '{machine}'",
    )


def test_what_is_refused(cloud: LocalCloud, states: Any) -> None:
    """Definitions are checked as AWS checks them; what is not there is named."""

    def said(all_states: dict[str, Any]) -> str:
        code, words = refused(make, states=states, name="x", all_states=all_states)
        assert code == "InvalidDefinition"
        return words

    assert said({"pass1": {"Type": "Pass", "Next": "pass3"}, "pass2": {"Type": "Pass", "End": True}}) == (
        "Invalid State Machine Definition: 'MISSING_TRANSITION_TARGET: Missing 'Next' target: pass3 "
        "at /States/pass1/Next, "
        'MISSING_TRANSITION_TARGET: State "pass2" is not reachable. at /States/pass2\''
    )
    words = "The value for the field 'a.$' must be a valid JSONPath or a valid intrinsic function call"
    assert words in said({"A": {"Type": "Pass", "Parameters": {"a.$": "States.Nothing()"}, "End": True}})
    assert "not recognized" in said({"A": {"Type": "Task", "Resource": "arn:aws:states:::sqs:nothing", "End": True}})
    refusal = refused(
        make,
        states=states,
        name="x",
        all_states={"A": {"Type": "Task", "Resource": "arn:aws:states:::glue:startJobRun", "End": True}},
    )
    assert refusal == (
        "NotImplemented",
        "Cloudlet does not implement the service integration arn:aws:states:::glue:startJobRun.",
    )
    checked = states.validate_state_machine_definition(definition="{")
    assert (checked["result"], checked["diagnostics"][0]["code"]) == ("FAIL", "INVALID_JSON_DESCRIPTION")
    tried = states.test_state(
        definition=json.dumps({"Type": "Pass", "Parameters": {"x.$": "$.a"}, "Next": "B"}),
        input='{"a": 1}',
        inspectionLevel="DEBUG",
    )
    assert (tried["status"], tried["output"], tried["nextState"]) == ("SUCCEEDED", '{"x":1}', "B")
    assert tried["inspectionData"]["afterParameters"] == '{"x":1}'


def test_in_a_template(cloud: LocalCloud, states: Any) -> None:
    """SAM's and CloudFormation's own types, substitutions, versions; an update in place."""
    template: dict[str, Any] = {
        "Resources": {
            "Work": {"Type": "AWS::StepFunctions::Activity", "Properties": {"Name": "work"}},
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {
                    "RoleArn": ROLE,
                    "DefinitionString": '{"StartAt":"A","States":{"A":{"Type":"Pass","Result":"${what}","End":true}}}',
                    "DefinitionSubstitutions": {"what": {"Ref": "Work"}},
                    "Tags": [{"Key": "team", "Value": "a"}],
                },
            },
            "Version": {
                "Type": "AWS::StepFunctions::StateMachineVersion",
                "Properties": {
                    "StateMachineArn": {"Ref": "Machine"},
                    "StateMachineRevisionId": {"Fn::GetAtt": ["Machine", "StateMachineRevisionId"]},
                },
            },
            "Alias": {
                "Type": "AWS::StepFunctions::StateMachineAlias",
                "Properties": {
                    "Name": "live",
                    "RoutingConfiguration": [{"StateMachineVersionArn": {"Ref": "Version"}, "Weight": 100}],
                },
            },
        },
        "Outputs": {"Machine": {"Value": {"Ref": "Machine"}}, "Alias": {"Value": {"Ref": "Alias"}}},
    }
    formation = cloud.client("cloudformation")
    formation.create_stack(StackName="s", TemplateBody=json.dumps(template))
    formation.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    outputs = {
        o["OutputKey"]: o["OutputValue"] for o in formation.describe_stacks(StackName="s")["Stacks"][0]["Outputs"]
    }
    assert output(states, start(states, outputs["Alias"])) == "arn:aws:states:us-east-1:000000000000:activity:work"
    tags = states.list_tags_for_resource(resourceArn=outputs["Machine"])["tags"]
    assert {"key": "team", "value": "a"} in tags
    machine = template["Resources"]["Machine"]["Properties"]
    machine["Definition"] = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": 2, "End": True}}}
    del machine["DefinitionString"]
    formation.update_stack(StackName="s", TemplateBody=json.dumps(template))
    formation.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert output(states, start(states, outputs["Alias"])) == 2
    formation.delete_stack(StackName="s")
    formation.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert states.list_state_machines()["stateMachines"] == states.list_activities()["activities"] == []


def test_a_distributed_map(cloud: LocalCloud, states: Any) -> None:
    """Child executions for the lines of an object; a kill in the middle; results in S3; a redrive of what failed."""
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="in.csv", Body=b"id,n\na,1\nb,2\nc,3\n")
    queue = sqs.create_queue(QueueName="asked")["QueueUrl"]
    ask = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": queue, "MessageBody": {"token.$": "$$.Task.Token", "id.$": "$.row.id"}},
        "End": True,
    }
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
        "Parameters": {"Bucket": "data", "Key": "in.csv"},
    }
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "Ask",
        "States": {"Ask": ask},
    }
    each = {
        "Type": "Map",
        "Label": "rows",
        "ItemReader": reader,
        "ItemSelector": {"row.$": "$$.Map.Item.Value"},
        "ItemProcessor": processor,
        "ToleratedFailureCount": 1,
        "ResultWriter": {
            "Resource": "arn:aws:states:::s3:putObject",
            "Parameters": {"Bucket": "data", "Prefix": "out"},
        },
        "End": True,
    }
    machine = make(states, "big", {"Each": each})
    execution = start(states, machine)
    asked: dict[str, str] = {}

    def collect() -> None:
        while len(asked) < 3:
            for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5, MaxNumberOfMessages=10)["Messages"]:
                body = json.loads(message["Body"])
                asked[body["id"]] = body["token"]

    collect()
    (map_run,) = states.list_map_runs(executionArn=execution)["mapRuns"]
    arn = map_run["mapRunArn"]
    states.send_task_success(taskToken=asked["a"], output='"A"')
    eventually(lambda: states.describe_map_run(mapRunArn=arn)["itemCounts"]["succeeded"])
    cloud.kill()
    cloud.start()
    states.send_task_success(taskToken=asked["b"], output='"B"')
    states.send_task_failure(taskToken=asked["c"], error="Bad", cause="c")
    found = output(states, execution)
    assert found["MapRunArn"] == arn
    assert found["ResultWriterDetails"]["Bucket"] == "data"
    manifest = json.load(s3.get_object(Bucket="data", Key=found["ResultWriterDetails"]["Key"])["Body"])
    written = json.load(s3.get_object(Bucket="data", Key=manifest["ResultFiles"]["SUCCEEDED"][0]["Key"])["Body"])
    assert [one["Output"] for one in written] == ['"A"', '"B"']
    described = states.describe_map_run(mapRunArn=arn)
    assert (described["status"], described["itemCounts"]["succeeded"], described["itemCounts"]["failed"]) == (
        "SUCCEEDED",
        2,
        1,
    )
    children = states.list_executions(mapRunArn=arn)["executions"]
    assert sorted(child["status"] for child in children) == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    child = states.describe_execution(executionArn=children[0]["executionArn"])
    assert (child["mapRunArn"], "/rows:" in child["executionArn"]) == (arn, True)

    del each["ResultWriter"]
    machine = make(states, "small", {"Each": {**each, "ToleratedFailureCount": 0}})
    execution = start(states, machine)
    asked.clear()
    collect()
    states.send_task_success(taskToken=asked["a"], output='"A"')
    states.send_task_success(taskToken=asked["b"], output='"B"')
    states.send_task_failure(taskToken=asked["c"], error="Bad")
    assert ended(states, execution)["error"] == "States.ExceedToleratedFailureThreshold"
    states.redrive_execution(executionArn=execution)
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    states.send_task_success(taskToken=json.loads(message["Body"])["token"], output='"C"')
    assert output(states, execution) == ["A", "B", "C"]

    listing = {"Resource": "arn:aws:states:::s3:listObjectsV2", "Parameters": {"Bucket": "data", "Prefix": "in"}}
    quick = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
        "StartAt": "P",
        "States": {"P": {"Type": "Pass", "Parameters": {"keys.$": "$.Items[*].Key"}, "End": True}},
    }
    batches = {
        "Type": "Map",
        "ItemReader": listing,
        "ItemBatcher": {"MaxItemsPerBatch": 5},
        "ItemProcessor": quick,
        "End": True,
    }
    assert ran(states, {"M": batches}) == [{"keys": ["in.csv"]}]


def test_status_changes_reach_eventbridge(cloud: LocalCloud, states: Any) -> None:
    events, sqs = cloud.client("events"), cloud.client("sqs")
    queue = sqs.create_queue(QueueName="heard")["QueueUrl"]
    events.put_rule(Name="r", EventPattern=json.dumps({"source": ["aws.states"], "detail": {"status": ["FAILED"]}}))
    events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": "arn:aws:sqs:us-east-1:000000000000:heard"}])
    execution = start(states, make(states, "m", {"F": {"Type": "Fail", "Error": "E", "Cause": "c"}}), {"a": 1})
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    event = json.loads(message["Body"])
    assert (event["detail-type"], event["resources"]) == ("Step Functions Execution Status Change", [execution])
    detail = event["detail"]
    assert (detail["status"], detail["error"], detail["input"], detail["output"]) == ("FAILED", "E", '{"a": 1}', None)


def test_what_an_expression_and_a_client_fail_with(cloud: LocalCloud, states: Any) -> None:
    """The history names the field of a failed expression, and an error outside of the model has its client's name."""
    assign = {"Type": "Pass", "QueryLanguage": "JSONata", "Output": {"a": "{% $nothing %}"}, "End": True}
    execution = start(states, make(states, "assign", {"Assign": assign}))
    ended(states, execution)
    events = states.get_execution_history(executionArn=execution)["events"]
    assert [event["type"] for event in events][2:] == ["EvaluationFailed", "ExecutionFailed"]
    told = events[2]["evaluationFailedEventDetails"]
    assert (told["location"], told["state"]) == ("Output/a", "Assign")
    cloud.client("dynamodb").create_table(
        TableName="things",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    get: dict[str, Any] = {
        "Type": "Task",
        "Parameters": {"TableName": "things", "Key": {"no": {"S": "x"}}},
        "End": True,
    }
    optimized, sdk = "arn:aws:states:::dynamodb:getItem", "arn:aws:states:::aws-sdk:dynamodb:getItem"
    assert failed(states, {"Get": {**get, "Resource": optimized}})[0] == "DynamoDB.AmazonDynamoDBException"
    assert failed(states, {"Get": {**get, "Resource": sdk}})[0] == "DynamoDb.DynamoDbException"
    lost = {"Type": "Pass", "OutputPath": "$.nothing", "End": True}
    taken = [{"ErrorEquals": [name], "Next": "No"} for name in ("States.Runtime", "States.ALL")]
    branch = {"StartAt": "Lost", "States": {"Lost": lost}}
    both = {"Type": "Parallel", "Branches": [branch], "Catch": taken, "End": True}
    assert failed(states, {"All": both, "No": {"Type": "Succeed"}})[0] == "States.Runtime"
