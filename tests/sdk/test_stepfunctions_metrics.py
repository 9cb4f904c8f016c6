"""What Step Functions tells CloudWatch: of executions, their versions and aliases, and of their tasks."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

import pytest
from botocore.config import Config

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/states"
Metrics = dict[tuple[str, str], tuple[float, float]]


@pytest.fixture
def states(cloud: LocalCloud) -> Any:
    return cloud.client("stepfunctions", config=Config(inject_host_prefix=False))


def make(states: Any, name: str, state: dict[str, Any], **more: Any) -> str:
    """A state machine of one state."""
    definition = json.dumps({"StartAt": "A", "States": {"A": {**state, "End": True}}, **more})
    return str(states.create_state_machine(name=name, definition=definition, roleArn=ROLE)["stateMachineArn"])


def start(states: Any, machine: str) -> str:
    return str(states.start_execution(stateMachineArn=machine, input="{}")["executionArn"])


def ended(states: Any, execution: str) -> str:
    eventually(lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    return str(states.describe_execution(executionArn=execution)["status"])


def metrics(cloud: LocalCloud) -> Metrics:
    """Sum and sample count of all metrics of AWS/States, by their name and the values of their dimensions."""
    cloud.advance(60)
    cloudwatch, found = cloud.client("cloudwatch"), {}
    for metric in cloudwatch.list_metrics(Namespace="AWS/States")["Metrics"]:
        points = cloudwatch.get_metric_statistics(
            **metric,
            StartTime=time.time() // 3600 * 3600 - 3600,
            EndTime=time.time() // 3600 * 3600 + 7 * 3600,
            Period=36000,
            Statistics=["Sum", "SampleCount"],
        )["Datapoints"]
        whose = " ".join(one["Value"].rpartition(":")[2] for one in metric["Dimensions"])
        found[metric["MetricName"], whose] = (points[0]["Sum"], points[0]["SampleCount"])
    return found


def test_executions_are_counted_by_what_became_of_them(cloud: LocalCloud, states: Any) -> None:
    cloud.client("cloudwatch").list_metrics()
    passes = make(states, "passes", {"Type": "Pass"})
    fails = make(states, "fails", {"Type": "Wait", "SecondsPath": "$.none"})
    waits = make(states, "waits", {"Type": "Wait", "Seconds": 1000}, TimeoutSeconds=100)
    version = states.publish_state_machine_version(stateMachineArn=passes)["stateMachineVersionArn"]
    routes = [{"stateMachineVersionArn": version, "weight": 100}]
    alias = states.create_state_machine_alias(name="live", routingConfiguration=routes)["stateMachineAliasArn"]
    for machine in (passes, version, alias):
        assert ended(states, start(states, machine)) == "SUCCEEDED"
    failed = start(states, fails)
    assert ended(states, failed) == "FAILED"
    stopped, late = start(states, waits), start(states, waits)
    states.stop_execution(executionArn=stopped)
    cloud.advance(101)
    assert ended(states, late) == "TIMED_OUT"
    states.redrive_execution(executionArn=failed)
    assert ended(states, failed) == "FAILED"

    eventually(lambda: ("RedrivenExecutionsFailed", "") in metrics(cloud))
    found = metrics(cloud)
    ends = ("Started", "Succeeded", "Failed", "Aborted", "TimedOut")
    assert [found[f"Executions{end}", ""][0] for end in ends] == [6, 3, 2, 1, 1]
    assert [found[f"Executions{end}", "passes"] for end in ends] == [(3, 6), (3, 3), (0, 3), (0, 3), (0, 3)]
    assert [found[f"Executions{end}", "waits"][0] for end in ends] == [2, 0, 0, 1, 1]
    assert found["ExecutionsStarted", "passes 1"] == (1, 2)
    assert found["ExecutionsSucceeded", "live passes"] == (1, 1)
    assert found["ExecutionTime", "waits"][0] >= 101_000
    assert (found["ExecutionsRedriven", "fails"], found["RedrivenExecutionsFailed", "fails"]) == ((1, 1), (1, 1))
    assert not any("Throttled" in name for name, _ in found)


def test_tasks_are_counted_by_what_they_call(cloud: LocalCloud, states: Any) -> None:
    cloud.client("cloudwatch").list_metrics()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr("index.py", "def handler(event, context):\n    return 1 / event.get('by', 0)\n")
    function = cloud.client("lambda").create_function(
        FunctionName="fn", Runtime="python3.11", Handler="index.handler", Role=ROLE, Code={"ZipFile": packed.getvalue()}
    )["FunctionArn"]
    called = make(states, "called", {"Type": "Task", "Resource": function})
    invoked = make(
        states,
        "invoked",
        {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": "fn", "Payload": {"by": 1}},
        },
    )
    activity = states.create_activity(name="work")["activityArn"]
    worked = make(states, "worked", {"Type": "Task", "Resource": activity, "HeartbeatSeconds": 30})
    assert ended(states, start(states, called)) == "FAILED"
    assert ended(states, start(states, invoked)) == "SUCCEEDED"
    done = start(states, worked)
    token = states.get_activity_task(activityArn=activity)["taskToken"]
    states.send_task_success(taskToken=token, output="1")
    assert ended(states, done) == "SUCCEEDED"
    lost = start(states, worked)
    states.get_activity_task(activityArn=activity)
    cloud.advance(31)
    assert ended(states, lost) == "FAILED"
    tried = json.dumps({"Type": "Task", "Resource": function, "End": True})
    assert states.test_state(definition=tried, roleArn=ROLE, input='{"by": 1}')["status"] == "SUCCEEDED"

    eventually(lambda: ("ActivitiesHeartbeatTimedOut", "work") in metrics(cloud))
    found = metrics(cloud)
    counted = {(name, whose): value[0] for (name, whose), value in found.items() if not name.endswith("Time")}
    assert {key: value for key, value in counted.items() if key[1] in ("fn", "invoke", "work")} == {
        ("LambdaFunctionsScheduled", "fn"): 1,
        ("LambdaFunctionsStarted", "fn"): 1,
        ("LambdaFunctionsFailed", "fn"): 1,
        ("ServiceIntegrationsScheduled", "invoke"): 1,
        ("ServiceIntegrationsStarted", "invoke"): 1,
        ("ServiceIntegrationsSucceeded", "invoke"): 1,
        ("ActivitiesScheduled", "work"): 2,
        ("ActivitiesStarted", "work"): 2,
        ("ActivitiesSucceeded", "work"): 1,
        ("ActivitiesHeartbeatTimedOut", "work"): 1,
    }
    assert counted["ActivitiesScheduled", ""] == 2
    names = {name for name, whose in found if whose == "work" and name.endswith("Time")}
    assert names == {"ActivityTime", "ActivityRunTime", "ActivityScheduleTime"}
    assert found["ActivityRunTime", "work"][0] >= 30_000
    shown = cloud.client("cloudwatch").list_metrics(MetricName="ServiceIntegrationTime")["Metrics"]
    resource = "arn:aws:states:us-east-1:000000000000:lambda:invoke"
    assert {"Name": "ServiceIntegrationResourceArn", "Value": resource} in [d for m in shown for d in m["Dimensions"]]
