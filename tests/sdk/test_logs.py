"""CloudWatch Logs through boto3."""

from __future__ import annotations

import gzip
import io
import json
import threading
import time
import urllib.request
import zipfile
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

DAY = 86_400


@pytest.fixture
def logs(cloud: LocalCloud) -> Any:
    return cloud.client("logs")


def refused(call: Any, **parameters: Any) -> str:
    """The code and the message of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


def make(logs: Any, group: str = "app", *streams: str, **members: Any) -> None:
    logs.create_log_group(logGroupName=group, **members)
    for stream in streams:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)


def put(logs: Any, *messages: str, group: str = "app", stream: str = "one", at: float | None = None) -> Any:
    start = int((at if at is not None else time.time()) * 1000)
    events = [{"timestamp": start + number, "message": message} for number, message in enumerate(messages)]
    return logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def found(logs: Any, pattern: str = "", **parameters: Any) -> list[str]:
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName="app", filterPattern=pattern, **parameters)
    return [event["message"] for page in pages for event in page["events"]]


def test_groups(cloud: LocalCloud, logs: Any) -> None:
    make(logs, "/aws/lambda/hello", tags={"team": "a"})
    assert refused(logs.create_log_group, logGroupName="/aws/lambda/hello") == (
        "ResourceAlreadyExistsException: The specified log group already exists"
    )
    for number in range(4):
        make(logs, f"app-{number}")
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/aws/lam")["logGroups"]
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/hello"
    assert (group["arn"], group["logGroupArn"]) == (f"{arn}:*", arn)
    assert group["storedBytes"] == 0
    assert "retentionInDays" not in group
    pages = list(logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 2}))
    assert [[each["logGroupName"] for each in page["logGroups"]] for page in pages] == [
        ["/aws/lambda/hello", "app-0"],
        ["app-1", "app-2"],
        ["app-3"],
    ]
    assert [each["logGroupName"] for each in logs.list_log_groups(logGroupNamePattern="^app")["logGroups"]] == [
        f"app-{number}" for number in range(4)
    ]

    logs.put_retention_policy(logGroupName="app-1", retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix="app-1")["logGroups"][0]["retentionInDays"] == 7
    assert "enum value set" in refused(logs.put_retention_policy, logGroupName="app-1", retentionInDays=8)
    logs.delete_retention_policy(logGroupName="app-1")
    assert "retentionInDays" not in logs.describe_log_groups(logGroupNamePrefix="app-1")["logGroups"][0]

    logs.tag_resource(resourceArn=arn, tags={"stage": "test"})
    logs.tag_log_group(logGroupName="/aws/lambda/hello", tags={"old": "way"})
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "a", "stage": "test", "old": "way"}
    logs.untag_resource(resourceArn=arn, tagKeys=["team"])
    logs.untag_log_group(logGroupName="/aws/lambda/hello", tags=["old"])
    assert logs.list_tags_log_group(logGroupName="/aws/lambda/hello")["tags"] == {"stage": "test"}

    logs.put_log_group_deletion_protection(logGroupIdentifier="app-0", deletionProtectionEnabled=True)
    assert "deletion protection" in refused(logs.delete_log_group, logGroupName="app-0")
    logs.put_log_group_deletion_protection(logGroupIdentifier="app-0", deletionProtectionEnabled=False)
    logs.delete_log_group(logGroupName="app-0")
    assert refused(logs.delete_log_group, logGroupName="app-0") == (
        "ResourceNotFoundException: The specified log group does not exist."
    )
    assert cloud.client("logs", region="eu-west-1").describe_log_groups()["logGroups"] == []
    here = cloud.client("logs", config=Config(inject_host_prefix=False))
    assert refused(here.get_log_object, logObjectPointer="x").startswith("NotImplemented")


def test_streams(logs: Any) -> None:
    make(logs, "app", *(f"s/{number}" for number in range(5)), "other")
    assert refused(logs.create_log_stream, logGroupName="app", logStreamName="other") == (
        "ResourceAlreadyExistsException: The specified log stream already exists"
    )
    assert refused(logs.create_log_stream, logGroupName="nobody", logStreamName="other").startswith(
        "ResourceNotFoundException"
    )
    now = time.time()
    for number, stream in enumerate(("s/3", "s/1", "other")):
        put(logs, "x", stream=stream, at=now - 100 + number)

    def names(size: int = 2, **parameters: Any) -> list[str]:
        pages = logs.get_paginator("describe_log_streams").paginate(
            logGroupName="app", PaginationConfig={"PageSize": size}, **parameters
        )
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    assert names() == ["other", "s/0", "s/1", "s/2", "s/3", "s/4"]
    assert names(descending=True) == ["s/4", "s/3", "s/2", "s/1", "s/0", "other"]
    assert names(logStreamNamePrefix="s/") == [f"s/{number}" for number in range(5)]
    assert names(logStreamNamePrefix="s/", descending=True) == [f"s/{number}" for number in (4, 3, 2, 1, 0)]
    assert names(orderBy="LastEventTime", descending=True) == ["other", "s/1", "s/3", "s/4", "s/2", "s/0"]
    assert names(orderBy="LastEventTime") == ["s/0", "s/2", "s/4", "s/3", "s/1", "other"]
    (stream,) = logs.describe_log_streams(logGroupName="app", logStreamNamePrefix="other")["logStreams"]
    assert stream["arn"] == "arn:aws:logs:us-east-1:000000000000:log-group:app:log-stream:other"
    assert stream["firstEventTimestamp"] == stream["lastEventTimestamp"] == int((now - 98) * 1000)
    logs.delete_log_stream(logGroupName="app", logStreamName="other")
    assert found(logs) == ["x", "x"]
    logs.create_log_stream(logGroupName="app", logStreamName="other")
    assert logs.get_log_events(logGroupName="app", logStreamName="other")["events"] == []


def test_events_are_read_in_both_directions(cloud: LocalCloud, logs: Any) -> None:
    make(logs, "app", "one")
    empty = logs.get_log_events(logGroupName="app", logStreamName="one", startFromHead=True)
    now = time.time() - 10
    put(logs, *(str(number) for number in range(10)), at=now)
    put(logs, "early", at=now - 5)
    cloud.kill()
    cloud.start()

    def read(**parameters: Any) -> tuple[list[str], str, str]:
        answer = logs.get_log_events(logGroupName="app", logStreamName="one", **parameters)
        messages = [event["message"] for event in answer["events"]]
        return messages, answer["nextForwardToken"], answer["nextBackwardToken"]

    assert read(nextToken=empty["nextForwardToken"])[0] == ["early", *map(str, range(10))]
    messages, forward, backward = read(limit=4)
    assert messages == ["6", "7", "8", "9"]
    assert read(nextToken=forward) == ([], forward, "b" + forward[1:])
    messages, _, backward = read(limit=4, nextToken=backward)
    assert messages == ["2", "3", "4", "5"]
    messages, _, backward = read(limit=4, nextToken=backward)
    assert messages == ["early", "0", "1"]
    assert read(limit=4, nextToken=backward)[::2] == ([], backward)
    messages, forward, _ = read(limit=4, startFromHead=True)
    assert messages == ["early", "0", "1", "2"]
    assert read(limit=2, startFromHead=True, nextToken=forward)[0] == ["3", "4"]
    at = int(now * 1000)
    assert read(startTime=at + 2, endTime=at + 5, startFromHead=True)[0] == ["2", "3", "4"]
    put(logs, "late")
    assert read(limit=1)[0] == ["late"]
    event = logs.get_log_events(logGroupName="app", logStreamName="one", limit=1)["events"][0]
    assert 0 <= event["ingestionTime"] - event["timestamp"] < 1000
    assert "nextToken is invalid" in refused(
        logs.get_log_events, logGroupName="app", logStreamName="one", nextToken="nonsense"
    )
    assert refused(logs.get_log_events, logGroupName="app", logStreamName="two") == (
        "ResourceNotFoundException: The specified log stream does not exist."
    )
    # 26 bytes beside each message
    size = logs.describe_log_groups()["logGroups"][0]["storedBytes"]
    assert size == 10 * 27 + 26 + 5 + 26 + 4


def test_batches_are_checked(logs: Any) -> None:
    make(logs, "app", "one")
    now = int(time.time() * 1000)

    def events(*offsets: int) -> Any:
        return logs.put_log_events(
            logGroupName="app",
            logStreamName="one",
            logEvents=[{"timestamp": now + offset, "message": str(offset)} for offset in offsets],
        )

    assert "chronological order" in refused(lambda: events(1, 0))
    assert "24 hours" in refused(lambda: events(-DAY * 1000 - 1, 0))
    assert "Upload too large" in refused(lambda: put(logs, *["x" * 200_000] * 6))
    assert refused(lambda: put(logs, "x", stream="two")) == (
        "ResourceNotFoundException: The specified log stream does not exist."
    )
    assert events(-15 * DAY * 1000)["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
    assert events(0, 10_000_000)["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 1}
    assert found(logs) == ["0"]
    logs.put_retention_policy(logGroupName="app", retentionInDays=1)
    answer = events(-DAY * 1000 - 5000, -5000)
    assert answer["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}
    assert found(logs) == ["-5000", "0"]


def test_search(logs: Any) -> None:
    make(logs, "app", "one", "two", "three")
    now = time.time() - 60
    put(logs, "[ERROR] disk full", "[INFO] all well", "[WARN] disk nearly full", at=now)
    put(logs, '{"level": "error", "ms": 120, "user": {"name": "eve"}, "tags": ["a", "b"]}', stream="two", at=now + 1)
    put(logs, '{"level": "info", "ms": 7, "ok": true, "cause": null}', stream="two", at=now + 2)
    put(logs, '127.0.0.1 - bob [10/Oct/2026] "GET /x HTTP/1.1" 404 1534', stream="three", at=now + 3)

    def short(pattern: str, **parameters: Any) -> list[str]:
        return [message[:8] for message in found(logs, pattern, **parameters)]

    assert len(found(logs)) == 6
    assert found(logs, "disk full") == ["[ERROR] disk full", "[WARN] disk nearly full"]
    assert found(logs, '"disk full"') == ["[ERROR] disk full"]
    assert found(logs, "?ERROR ?WARN") == ["[ERROR] disk full", "[WARN] disk nearly full"]
    assert found(logs, "disk -ERROR") == ["[WARN] disk nearly full"]
    assert found(logs, "%disk.*full%") == ["[ERROR] disk full", "[WARN] disk nearly full"]
    error, info = found(logs, "level")
    for pattern, expected in {
        '{ $.level = "error" }': [error],
        "{ $.level = err* }": [error],
        "{ $.level != error }": [info],
        "{ $.ms > 100 }": [error],
        "{ ($.ms > 100 && $.level = info) || $.ok IS TRUE }": [info],
        "{ $.cause IS NULL }": [info],
        "{ $.user NOT EXISTS }": [info],
        '{ $.user.name = "eve" }': [error],
        '{ $.tags[1] = "b" }': [error],
        '{ $.tags[*] = "a" }': [error],
        "{ $.level = %^in% }": [info],
        "{ $.ms = 7 }": [info],
        "{ $.ms >= 7 && $.ms <= 120 }": [error, info],
    }.items():
        assert found(logs, pattern) == expected, pattern
    assert short("[ip, id, user, time, request, status=4*, size]") == ["127.0.0."]
    assert short("[ip, id, user=bob || user=eve, ..., size > 1000]") == ["127.0.0."]
    assert short("[ip, id, user=eve, ...]") == []
    assert short("[..., request=*HTTP*, status!=200, size]") == ["127.0.0."]
    assert refused(logs.filter_log_events, logGroupName="app", filterPattern="{ $.x }") == (
        "InvalidParameterException: Invalid filter pattern"
    )

    assert short("", logStreamNames=["one", "three"]) == ["[ERROR] ", "[INFO] a", "[WARN] d", "127.0.0."]
    assert short("", logStreamNamePrefix="t") == [error[:8], info[:8], "127.0.0."]
    assert short("", startFromHead=False, startTime=int(now * 1000), PaginationConfig={"PageSize": 2})[:2] == [
        "127.0.0.",
        info[:8],
    ]
    assert short("", startTime=int(now * 1000) + 1, endTime=int(now * 1000) + 2) == ["[INFO] a", "[WARN] d"]
    assert short("", PaginationConfig={"PageSize": 1}) == short("")
    assert refused(logs.filter_log_events, logGroupName="app", logStreamNames=["none"]) == (
        "ResourceNotFoundException: The specified log stream does not exist."
    )
    by_arn = logs.filter_log_events(
        logGroupIdentifier="arn:aws:logs:us-east-1:000000000000:log-group:app", filterPattern="ERROR"
    )
    assert [event["logStreamName"] for event in by_arn["events"]] == ["one"]

    matches = logs.test_metric_filter(
        filterPattern="[ip, id, user, ..., status_code=4*, bytes]",
        logEventMessages=["nothing", '127.0.0.1 - bob [10/Oct/2026] "GET /x" 404 1534'],
    )["matches"]
    assert [match["eventNumber"] for match in matches] == [2]
    assert matches[0]["extractedValues"]["$status_code"] == "404"
    (match,) = logs.test_metric_filter(filterPattern="{ $.ms > 100 }", logEventMessages=[error, info])["matches"]
    assert match["extractedValues"] == {"$.ms": "120"}


def test_retention(cloud: LocalCloud, logs: Any) -> None:
    make(logs, "app", "one")
    make(logs, "kept", "one")
    put(logs, "old")
    put(logs, "old", group="kept")
    logs.put_retention_policy(logGroupName="app", retentionInDays=1)
    cloud.advance(DAY / 2)
    put(logs, "new", at=time.time() + DAY / 2)
    assert found(logs) == ["old", "new"]
    cloud.kill()
    cloud.start()
    cloud.advance(DAY / 2 + 1)
    assert found(logs) == ["new"]
    deadline = time.monotonic() + 5
    while (size := logs.describe_log_groups(logGroupNamePrefix="app")["logGroups"][0]["storedBytes"]) != 29:
        assert time.monotonic() < deadline, size
    assert logs.get_log_events(logGroupName="kept", logStreamName="one")["events"][0]["message"] == "old"
    cloud.advance(DAY)
    assert found(logs) == []


def test_followers_hear_at_once(cloud: LocalCloud, logs: Any) -> None:
    make(logs, "app", "one")
    make(logs, "else", "one")
    lines: list[dict[str, Any]] = []
    with urllib.request.urlopen(f"{cloud.endpoint}/_cloudlet/logs?prefix=ap", timeout=10) as answer:
        assert answer.readline() == b"\n"
        reader = threading.Thread(target=lambda: [lines.append(json.loads(answer.readline())) for _ in range(2)])
        reader.start()
        put(logs, "not this", group="else")
        put(logs, "first", "second")
        reader.join(5)
    assert [(line["group"], line["stream"], line["message"]) for line in lines] == [
        ("app", "one", "first"),
        ("app", "one", "second"),
    ]


def test_filters_and_policies(cloud: LocalCloud, logs: Any) -> None:
    make(logs, "app", "one")
    metric = {"metricName": "errors", "metricNamespace": "App", "metricValue": "1"}
    for name in ("b", "a"):
        logs.put_metric_filter(
            logGroupName="app", filterName=name, filterPattern="ERROR", metricTransformations=[metric]
        )
    filters = logs.describe_metric_filters(logGroupName="app")["metricFilters"]
    assert [each["filterName"] for each in filters] == ["a", "b"]
    assert filters[0]["metricTransformations"] == [metric]
    assert logs.describe_log_groups()["logGroups"][0]["metricFilterCount"] == 2
    put(logs, "ERROR", "fine")
    found_by_metric = logs.describe_metric_filters(metricName="errors", metricNamespace="App")["metricFilters"]
    assert len(found_by_metric) == 2
    logs.delete_metric_filter(logGroupName="app", filterName="a")
    assert refused(logs.delete_metric_filter, logGroupName="app", filterName="a") == (
        "ResourceNotFoundException: The specified metric filter does not exist."
    )
    assert "Invalid filter pattern" in refused(
        logs.put_metric_filter,
        logGroupName="app",
        filterName="x",
        filterPattern="{ nonsense",
        metricTransformations=[metric],
    )
    logs.put_resource_policy(policyName="events", policyDocument='{"Version": "2012-10-17", "Statement": []}')
    assert [each["policyName"] for each in logs.describe_resource_policies()["resourcePolicies"]] == ["events"]
    logs.delete_resource_policy(policyName="events")
    assert refused(logs.delete_resource_policy, policyName="events") == (
        "ResourceNotFoundException: Policy with name [events] does not exist."
    )
    assert logs.describe_subscription_filters(logGroupName="app")["subscriptionFilters"] == []
    assert "destinationArn" in refused(
        logs.put_subscription_filter,
        logGroupName="app",
        filterName="s",
        filterPattern="",
        destinationArn="arn:aws:sqs:us-east-1:000000000000:q",
    )


def asked(logs: Any, query: str, start: float = 0, end: float | None = None, **more: Any) -> list[dict[str, str]]:
    """The rows of a query's answer."""
    if not more.keys() & {"logGroupNames", "logGroupIdentifiers"}:
        more["logGroupName"] = "app"
    end = end if end is not None else time.time() + DAY
    id = logs.start_query(startTime=int(start), endTime=int(end), queryString=query, **more)["queryId"]
    answer = eventually(lambda: (told := logs.get_query_results(queryId=id))["status"] != "Running" and told)
    assert answer["status"] == "Complete"
    return [{cell["field"]: cell["value"] for cell in row if cell["field"] != "@ptr"} for row in answer["results"]]


def test_queries(cloud: LocalCloud, logs: Any) -> None:
    make(logs, "app", "one", "two")
    now = time.time() - 600
    lines = [
        json.dumps({"level": level, "ms": ms, "user": {"name": name}, "tags": ["x"]})
        for level, ms, name in (("info", 10, "ann"), ("error", 30, "bob"), ("info", 20, "ann"), ("error", 50, "ann"))
    ]
    put(logs, *lines, at=now)
    put(logs, "plain took 7 ms for eve", stream="two", at=now + 60)

    newest = asked(logs, "fields @message | limit 1")
    assert newest == [{"@message": "plain took 7 ms for eve"}]
    rows = asked(logs, "fields ms, user.name as who | filter level = 'error' and ms > 20 | sort ms asc")
    assert rows == [{"ms": "30", "who": "bob"}, {"ms": "50", "who": "ann"}]
    rows = asked(
        logs,
        """# how long it takes
        filter ispresent(ms)
        | stats count(*) as n, avg(ms), pct(ms, 50) as half by user.name
        | sort n desc""",
    )
    assert rows == [
        {"user.name": "ann", "n": "3", "avg(ms)": "26.66666667", "half": "20"},
        {"user.name": "bob", "n": "1", "avg(ms)": "30", "half": "30"},
    ]
    assert asked(logs, "stats sum(ms), count_distinct(level) as levels, latest(level) as last") == [
        {"sum(ms)": "110", "levels": "2", "last": "error"}
    ]
    (row,) = asked(logs, 'parse "took * ms for *" as took, whom | filter took / 7 = 1 | display whom, took')
    assert row == {"whom": "eve", "took": "7"}
    (row,) = asked(
        logs, "parse @message /took (?<took>\\d+) (?<unit>\\w+)/ | filter took like /^7$/ | display took, unit"
    )
    assert row == {"took": "7", "unit": "ms"}
    assert asked(logs, "filter @message not like 'level' and @logStream in ['two', 'three'] | stats count(*) as n") == [
        {"n": "1"}
    ]
    assert len(asked(logs, "filter level = 'info' or user.name = 'bob' | dedup user.name")) == 2
    by_time = asked(logs, "stats count(*) as n by bin(1d)")
    assert sum(int(row["n"]) for row in by_time) == 5
    (row,) = asked(logs, "fields concat(toupper(level), '-', strlen(user.name)) as x, ms * 2 as y | filter ms = 30")
    assert row == {"x": "ERROR-3", "y": "60"}
    assert asked(logs, "fields @message", start=time.time(), end=time.time() + 60) == []

    answer = logs.start_query(logGroupName="app", startTime=0, endTime=2_000_000_000, queryString="fields ms")
    window = {"logGroupName": "app", "startTime": 0, "endTime": 1}
    for query, words in {
        "frobnicate x": "unexpected symbol",
        "filter (ms > 3": "MalformedQuery",
        "stats frob(ms)": "unknown aggregate",
    }.items():
        assert words in refused(logs.start_query, **window, queryString=query)
    assert "NotImplemented" in refused(
        logs.start_query, logGroupName="app", startTime=0, endTime=1, queryString="fields @message | pattern @message"
    )
    assert "does not exist" in refused(logs.get_query_results, queryId="nothing")
    cloud.kill()
    cloud.start()
    logs = cloud.client("logs")
    id = answer["queryId"]
    found = eventually(lambda: (told := logs.get_query_results(queryId=id))["status"] == "Complete" and told)
    assert found["statistics"]["recordsScanned"] == 5
    (pointer,) = (cell["value"] for cell in found["results"][0] if cell["field"] == "@ptr")
    assert logs.get_log_record(logRecordPointer=pointer)["logRecord"]["@message"].startswith("plain")
    assert logs.describe_queries(logGroupName="app")["queries"][0]["queryString"] == "fields ms"


def test_live_tail(cloud: LocalCloud, logs: Any) -> None:
    make(logs, "app", "one", "two")
    make(logs, "else", "one")
    arn = logs.describe_log_groups(logGroupNamePrefix="app")["logGroups"][0]["logGroupArn"]
    client = cloud.client("logs", config=Config(inject_host_prefix=False))
    tail = client.start_live_tail(logGroupIdentifiers=[arn], logStreamNames=["one"], logEventFilterPattern="ERROR")[
        "responseStream"
    ]
    events = iter(tail)
    assert next(events)["sessionStart"]["logGroupIdentifiers"] == [arn]
    put(logs, "ERROR a", "fine")
    put(logs, "ERROR b", stream="two")
    put(logs, "ERROR c", group="else")
    results: list[Any] = []
    for event in events:
        results += event["sessionUpdate"]["sessionResults"]
        if results:
            break
    assert [(one["message"], one["logStreamName"]) for one in results] == [("ERROR a", "one")]
    tail.close()


def test_a_stack_of_log_groups(cloud: LocalCloud, logs: Any) -> None:
    stacks = cloud.client("cloudformation")
    template: dict[str, Any] = {
        "Resources": {
            "Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": 7}},
            "Stream": {"Type": "AWS::Logs::LogStream", "Properties": {"LogGroupName": {"Ref": "Group"}}},
            "Errors": {
                "Type": "AWS::Logs::MetricFilter",
                "Properties": {
                    "LogGroupName": {"Ref": "Group"},
                    "FilterPattern": "ERROR",
                    "MetricTransformations": [{"MetricName": "e", "MetricNamespace": "App", "MetricValue": "1"}],
                },
            },
            "Policy": {
                "Type": "AWS::Logs::ResourcePolicy",
                "Properties": {"PolicyName": "p", "PolicyDocument": '{"Version":"2012-10-17","Statement":[]}'},
            },
            "Saved": {
                "Type": "AWS::Logs::QueryDefinition",
                "Properties": {"Name": "slow", "QueryString": "fields @message", "LogGroupNames": [{"Ref": "Group"}]},
            },
        },
        "Outputs": {"Name": {"Value": {"Ref": "Group"}}, "Arn": {"Value": {"Fn::GetAtt": ["Group", "Arn"]}}},
    }
    stacks.create_stack(StackName="logs", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName="logs", WaiterConfig={"Delay": 1})
    (stack,) = stacks.describe_stacks(StackName="logs")["Stacks"]
    out = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    (group,) = logs.describe_log_groups()["logGroups"]
    assert (group["logGroupName"], group["arn"], group["retentionInDays"]) == (out["Name"], out["Arn"], 7)
    assert group["metricFilterCount"] == 1
    (saved,) = logs.describe_query_definitions()["queryDefinitions"]
    assert (saved["name"], saved["logGroupNames"]) == ("slow", [out["Name"]])

    del template["Resources"]["Group"]["Properties"]["RetentionInDays"], template["Resources"]["Policy"]
    template["Resources"]["Saved"]["Properties"]["QueryString"] = "fields @timestamp"
    stacks.update_stack(StackName="logs", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_update_complete").wait(StackName="logs", WaiterConfig={"Delay": 1})
    assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]
    (changed,) = logs.describe_query_definitions()["queryDefinitions"]
    assert (changed["queryDefinitionId"], changed["queryString"]) == (saved["queryDefinitionId"], "fields @timestamp")
    assert logs.describe_resource_policies()["resourcePolicies"] == []
    stacks.delete_stack(StackName="logs")
    stacks.get_waiter("stack_delete_complete").wait(StackName="logs", WaiterConfig={"Delay": 1})
    assert logs.describe_log_groups()["logGroups"] == logs.describe_query_definitions()["queryDefinitions"] == []


HEARER = """
import base64, gzip, json
def handler(event, context):
    told = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    print("HEARD", told["logGroup"], told["subscriptionFilters"][0], [one["message"] for one in told["logEvents"]])
"""


def test_a_subscription_invokes_a_function(cloud: LocalCloud, logs: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", HEARER)
    made = cloud.client("lambda").create_function(
        FunctionName="hearer",
        Runtime="python3.11",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/anyone",
        Code={"ZipFile": packed.getvalue()},
    )
    make(logs, "app", "one")
    subscription = {"logGroupName": "app", "filterName": "errors", "filterPattern": "ERROR"}
    logs.put_subscription_filter(**subscription, destinationArn=made["FunctionArn"])
    put(logs, "ERROR a", "fine", "ERROR b")
    eventually(lambda: logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/hearer")["logGroups"])
    asked = {"logGroupName": "/aws/lambda/hearer", "filterPattern": "HEARD"}
    heard = [event["message"].strip() for event in eventually(lambda: logs.filter_log_events(**asked)["events"])]
    assert heard == ["HEARD app errors ['ERROR a', 'ERROR b']"]
    logs.delete_subscription_filter(logGroupName="app", filterName="errors")
    gone = "arn:aws:lambda:us-east-1:000000000000:function:nobody"
    assert "Could not execute the lambda function" in refused(
        logs.put_subscription_filter, **subscription, destinationArn=gone
    )


def test_a_group_is_exported_to_a_bucket(cloud: LocalCloud) -> None:
    logs, s3 = cloud.client("logs"), cloud.client("s3")
    logs.create_log_group(logGroupName="app")
    logs.create_log_stream(logGroupName="app", logStreamName="/one/stream")
    now = int(float(cloud.control("clock")["now"]) * 1000)
    lines = [{"timestamp": now + number, "message": f"line {number}"} for number in range(3)]
    logs.put_log_events(logGroupName="app", logStreamName="/one/stream", logEvents=lines)
    asked = {"logGroupName": "app", "fromTime": now + 1, "to": now + 60_000, "destination": "exports"}
    with pytest.raises(ClientError, match="bucket does not exist"):
        logs.create_export_task(**asked)
    s3.create_bucket(Bucket="exports")
    task = logs.create_export_task(**asked, destinationPrefix="logs")["taskId"]

    def over() -> str | None:
        (shown,) = logs.describe_export_tasks(taskId=task)["exportTasks"]
        code = str(shown["status"]["code"])
        return None if code in ("PENDING", "RUNNING") else code

    assert eventually(over) == "COMPLETED"
    assert s3.get_object(Bucket="exports", Key="aws-logs-write-test")["Body"].read() == b"Permission Check Successful"
    body = s3.get_object(Bucket="exports", Key=f"logs/{task}/one-stream/000000.gz")["Body"].read()
    written = gzip.decompress(body).decode().splitlines()
    assert [line.partition(" ")[2] for line in written] == ["line 1", "line 2"]
    with pytest.raises(ClientError, match="already finished"):
        logs.cancel_export_task(taskId=task)
