"""Contributor Insights through boto3: log events feed rules, and rules tell who contributes most."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

ARN = "arn:aws:cloudwatch:us-east-1:000000000000:insight-rule/"


def body(groups: list[str], keys: list[str], **more: Any) -> str:
    contribution = {"Keys": keys, **{name: more.pop(name) for name in ("ValueOf", "Filters") if name in more}}
    document = {
        "Schema": {"Name": "CloudWatchLogRule", "Version": 1},
        "LogGroupNames": groups,
        "LogFormat": "JSON",
        "Contribution": contribution,
        "AggregateOn": "Count",
        **more,
    }
    return json.dumps(document)


def write(cloud: LocalCloud, group: str, *messages: Any) -> None:
    logs, now = cloud.client("logs"), int(cloud.control("clock")["now"] * 1000)
    events = [{"timestamp": now, "message": one if isinstance(one, str) else json.dumps(one)} for one in messages]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)


@pytest.fixture
def groups(cloud: LocalCloud) -> list[str]:
    logs, names = cloud.client("logs"), ["web-a", "web-b", "other"]
    for name in names:
        logs.create_log_group(logGroupName=name)
        logs.create_log_stream(logGroupName=name, logStreamName="s")
    return names


def report(cloud: LocalCloud, rule: str, **more: Any) -> dict[str, Any]:
    now = cloud.control("clock")["now"]
    window = {"StartTime": now - 3600, "EndTime": now + 60, "Period": 3600}
    found: dict[str, Any] = cloud.client("cloudwatch").get_insight_rule_report(RuleName=rule, **window, **more)
    return found


def ranks(found: dict[str, Any]) -> list[tuple[list[str], float]]:
    return [(one["Keys"], one["ApproximateAggregateValue"]) for one in found["Contributors"]]


def test_rules_rank_contributors_and_outlive_a_kill(cloud: LocalCloud, groups: list[str]) -> None:
    watch = cloud.client("cloudwatch")
    put = [{"Match": "$.method", "In": ["PUT", "POST"]}, {"Match": "$.http.status", "LessThan": 400}]
    watch.put_insight_rule(
        RuleName="bytes",
        RuleDefinition=body(["web-*"], ["$.ip", "$.method"], ValueOf="$.bytes", AggregateOn="Sum", Filters=put),
        Tags=[{"Key": "team", "Value": "a"}],
    )
    watch.put_insight_rule(RuleName="hits", RuleDefinition=body(["web-a"], ["$.tags[0]"]))
    line = body(["other"], ["Ip"], LogFormat="CLF", Fields={"1": "Ip", "6": "Status"})
    watch.put_insight_rule(RuleName="lines", RuleDefinition=line)

    def request(ip: str, size: int, method: str = "PUT", status: int = 200) -> dict[str, Any]:
        return {"ip": ip, "bytes": size, "method": method, "http": {"status": status}, "tags": ["x"]}

    write(cloud, "web-a", request("1", 10), request("2", 5), request("1", 7, "GET"), request("1", 99, "PUT", 500), "no")
    write(cloud, "web-b", request("2", 30), request("2", 1, "POST"))
    clf = '1.2.3.4 - bob [25/Nov/2026:10:00:00 +0000] "GET / HTTP/1.0" 200 12'
    write(cloud, "other", clf, clf, "malformed")
    eventually(lambda: report(cloud, "bytes")["AggregateValue"] == 46)
    eventually(lambda: report(cloud, "lines")["AggregateValue"] == 3)
    cloud.kill()
    cloud.start()
    found = report(cloud, "bytes", Metrics=["UniqueContributors", "MaxContributorValue", "SampleCount", "Maximum"])
    assert ranks(found) == [(["2", "PUT"], 35), (["1", "PUT"], 10), (["2", "POST"], 1)]
    assert (found["KeyLabels"], found["ApproximateUniqueCount"]) == (["$.ip", "$.method"], 3)
    assert found["AggregationStatistic"] == "Sum"
    (point,) = found["MetricDatapoints"]
    del point["Timestamp"]
    assert point == {"UniqueContributors": 3, "MaxContributorValue": 35, "SampleCount": 4, "Maximum": 30}
    assert ranks(report(cloud, "hits")) == [(["x"], 4)]
    assert ranks(report(cloud, "lines", MaxContributorCount=1)) == [(["1.2.3.4"], 2)]

    # After the restart the first event counts again; a rule that is off counts nothing, and a new definition anew.
    watch = cloud.client("cloudwatch")
    watch.disable_insight_rules(RuleNames=["hits"])
    write(cloud, "web-a", request("1", 100))
    eventually(lambda: ranks(report(cloud, "bytes"))[0] == (["1", "PUT"], 110))
    assert ranks(report(cloud, "hits")) == [(["x"], 4)]
    watch.enable_insight_rules(RuleNames=["hits"])
    watch.put_insight_rule(RuleName="hits", RuleDefinition=body(["web-a"], ["$.ip"]))
    assert ranks(report(cloud, "hits")) == []
    assert watch.list_tags_for_resource(ResourceARN=f"{ARN}bytes")["Tags"] == [{"Key": "team", "Value": "a"}]
    failed = watch.delete_insight_rules(RuleNames=["bytes", "none"])["Failures"]
    assert [one["FailureResource"] for one in failed] == ["none"]
    assert [one["Name"] for one in watch.describe_insight_rules()["InsightRules"]] == ["hits", "lines"]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        report(cloud, "bytes")


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"NotIn": ["a"]}, ["b", "bc"]),
        ({"StartsWith": ["b"]}, ["b", "bc"]),
        ({"IsPresent": False}, ["-"]),
        ({"EqualTo": 1, "Match": "$.n"}, ["a"]),
        ({"NotEqualTo": 1, "Match": "$.n"}, ["b", "bc"]),
        ({"GreaterThan": 2, "Match": "$.n"}, ["bc"]),
    ],
)
def test_filters(cloud: LocalCloud, groups: list[str], match: dict[str, Any], expected: list[str]) -> None:
    rule = body(["other"], ["$.who"], Filters=[{"Match": "$.name", **match}])
    cloud.client("cloudwatch").put_insight_rule(RuleName="r", RuleDefinition=rule)
    events: list[dict[str, Any]] = [{"name": name, "n": n} for n, name in enumerate(("a", "b", "bc"), 1)]
    write(cloud, "other", *({**one, "who": one["name"]} for one in events), {"who": "-"})
    eventually(lambda: [keys[0] for keys, _ in ranks(report(cloud, "r"))] == expected)


def test_an_alarm_on_a_rule(cloud: LocalCloud, groups: list[str]) -> None:
    watch = cloud.client("cloudwatch")
    watch.put_insight_rule(RuleName="by-ip", RuleDefinition=body(["other"], ["$.ip"]))
    query: dict[str, Any] = {"Id": "e1", "Expression": 'INSIGHT_RULE_METRIC("by-ip", UniqueContributors)'}
    alarm = {
        "AlarmName": "many",
        "EvaluationPeriods": 1,
        "Threshold": 2.0,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    with pytest.raises(ClientError, match="Period must not be null"):
        watch.put_metric_alarm(**alarm, Metrics=[query])
    watch.put_metric_alarm(**alarm, Metrics=[{**query, "Period": 60}])
    write(cloud, "other", *({"ip": str(number)} for number in range(3)))
    eventually(lambda: report(cloud, "by-ip")["AggregateValue"] == 3)
    cloud.advance(60)
    eventually(lambda: watch.describe_alarms()["MetricAlarms"][0]["StateValue"] == "ALARM")


def test_a_stack_of_rules_and_what_is_refused(cloud: LocalCloud) -> None:
    watch, stacks = cloud.client("cloudwatch"), cloud.client("cloudformation")
    properties = {"RuleName": "r", "RuleState": "ENABLED", "RuleBody": body(["g"], ["$.a"])}
    template = {"Resources": {"Rule": {"Type": "AWS::CloudWatch::InsightRule", "Properties": properties}}}
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    properties["RuleState"] = "DISABLED"
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    (rule,) = watch.describe_insight_rules()["InsightRules"]
    assert (rule["State"], rule["ManagedRule"]) == ("DISABLED", False)
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert watch.describe_insight_rules()["InsightRules"] == []

    def refused(definition: str) -> str:
        with pytest.raises(ClientError) as caught:
            watch.put_insight_rule(RuleName="r", RuleDefinition=definition)
        return str(caught.value.response["Error"]["Code"])

    assert refused("{}") == "InvalidParameterValue"
    assert refused(body(["g"], [])) == "InvalidParameterValue"
    assert refused(body(["g"], ["name"])) == "InvalidParameterValue"
    assert refused(body(["g"], ["$.a"], AggregateOn="Sum")) == "InvalidParameterValue"
    assert refused(body(["g"], ["$.a"], Schema={"Name": "ServiceLogRule", "Version": 1})) == "NotImplemented"
