"""What Lambda tells CloudWatch: of invocations, of events that wait, of streams, URLs and provisioned concurrency."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/anyone"
SOURCE = """
import time
def handler(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "fail" in event:
        raise ValueError(event["fail"])
    return event
"""

Read = Callable[..., tuple[float, float, float] | None]


def make(cloud: LocalCloud, name: str, source: str = SOURCE, **more: Any) -> Any:
    """A Python function; returns a client of Lambda."""
    functions = cloud.client("lambda")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr("index.py", source)
    code, settings = {"ZipFile": packed.getvalue()}, {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE}
    functions.create_function(FunctionName=name, Code=code, **{**settings, **more})
    return functions


@pytest.fixture
def read(cloud: LocalCloud) -> Read:
    """Reads a metric of AWS/Lambda: its sum, how many samples and the maximum, or None where there is nothing."""
    cloudwatch = cloud.client("cloudwatch")
    cloudwatch.list_metrics()

    def statistics(name: str, **dimensions: str) -> tuple[float, float, float] | None:
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=time.time() // 3600 * 3600 - 3600,
            EndTime=time.time() // 3600 * 3600 + 7 * 3600,
            Period=36000,
            Statistics=["Sum", "SampleCount", "Maximum"],
        )["Datapoints"]
        return (found[0]["Sum"], found[0]["SampleCount"], found[0]["Maximum"]) if found else None

    return statistics


def counts(read: Read, names: str, **dimensions: str) -> list[float | None]:
    """The sums of several metrics."""
    found = [read(name, **dimensions) for name in names.split()]
    return [one[0] if one is not None else None for one in found]


def test_invocations_are_counted_of_their_resource_their_function_and_all(cloud: LocalCloud, read: Read) -> None:
    functions = make(cloud, "f", Publish=True, Timeout=1)
    functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    make(cloud, "g")
    for event in ({}, {"fail": "a"}, {"sleep": 2}):
        functions.invoke(FunctionName="f", Payload=json.dumps(event))
    functions.invoke(FunctionName="f:live")
    functions.invoke(FunctionName="f", Qualifier="1", Payload='{"fail": "b"}')
    functions.invoke(FunctionName="f", InvocationType="DryRun")
    functions.put_function_concurrency(FunctionName="g", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        cloud.client("lambda", config=Config(retries={"total_max_attempts": 1})).invoke(FunctionName="g")
    with pytest.raises(ClientError, match="InvalidRequestContentException"):
        functions.invoke(FunctionName="g", Payload="no JSON")
    cloud.advance(60)
    eventually(lambda: read("Invocations") == (5, 5, 1))

    names = "Invocations Errors Throttles"
    assert counts(read, names) == [5, 3, 1]
    assert counts(read, names, FunctionName="f") == [5, 3, 0]
    assert counts(read, names, FunctionName="f", Resource="f") == [3, 2, 0]
    assert counts(read, names, FunctionName="f", Resource="f:live") == [1, 0, 0]
    assert counts(read, names, FunctionName="f", Resource="f:live", ExecutedVersion="1") == [1, 0, 0]
    assert counts(read, names, FunctionName="f", Resource="f:1") == [1, 1, 0]
    assert counts(read, names, FunctionName="g") == [None, None, 1]
    assert read("Errors", FunctionName="f", Resource="f:live") == (0, 1, 0)  # that there was none is a sample too
    duration = read("Duration", FunctionName="f")
    assert duration is not None
    assert duration[1] == 5
    assert 1000 <= duration[2] < 2000
    assert read("ConcurrentExecutions", FunctionName="f", Resource="f") == (3, 3, 1)


def test_concurrency_is_what_runs_at_the_same_time_and_a_late_end_counts_where_it_began(
    cloud: LocalCloud, read: Read
) -> None:
    functions = make(cloud, "f", Timeout=30)
    make(cloud, "reserved", Timeout=30)
    functions.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=2)
    names = ["f", "f", "reserved"]
    with ThreadPoolExecutor(3) as pool:
        calls = [
            pool.submit(cloud.client("lambda").invoke, FunctionName=name, Payload='{"sleep": 2}') for name in names
        ]
        eventually(lambda: cloud.advance(60) or read("ConcurrentExecutions") == (6, 3, 3))
        assert read("Duration") is None
        for call in calls:
            call.result()
    cloud.advance(60)
    eventually(lambda: read("Duration") is not None)
    assert read("ConcurrentExecutions", FunctionName="f") == (3, 2, 2)
    unreserved = read("UnreservedConcurrentExecutions")
    assert unreserved is not None
    assert unreserved[1:] == (2, 2)
    assert samples(cloud, "Duration") == samples(cloud, "ConcurrentExecutions")


def samples(cloud: LocalCloud, name: str) -> dict[Any, float]:
    """How many values of a metric of all functions there are in each minute."""
    found = cloud.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=name,
        StartTime=time.time() - 3600,
        EndTime=time.time() + 3600,
        Period=60,
        Statistics=["SampleCount"],
    )["Datapoints"]
    return {point["Timestamp"]: point["SampleCount"] for point in found}


def test_events_that_wait_are_counted_until_they_are_done_or_dropped(cloud: LocalCloud, read: Read) -> None:
    sqs = cloud.client("sqs")
    functions = make(cloud, "f", DeadLetterConfig={"TargetArn": "arn:aws:sqs:us-east-1:000000000000:nowhere"})
    nowhere = {"Destination": "arn:aws:sqs:us-east-1:000000000000:nowhere"}
    functions.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=1, DestinationConfig={"OnSuccess": nowhere, "OnFailure": nowhere}
    )
    for event in ("{}", '{"fail": "x"}'):
        functions.invoke(FunctionName="f", InvocationType="Event", Payload=event)

    def dropped() -> bool:
        cloud.advance(61)
        return counts(read, "AsyncEventsDropped", FunctionName="f") == [1]

    eventually(dropped)
    names = "AsyncEventsReceived AsyncEventsDropped Invocations Errors DeadLetterErrors DestinationDeliveryFailures"
    assert counts(read, names, FunctionName="f") == [2, 1, 3, 2, 1, 2]
    assert counts(read, names, FunctionName="f", Resource="f") == [2, 1, 3, 2, 1, 2]
    age = read("AsyncEventAge")
    assert age is not None
    assert age[1] == 3
    assert age[2] >= 60_000
    assert sqs.list_queues().get("QueueUrls") is None


def test_the_age_of_a_streams_records(cloud: LocalCloud, read: Read) -> None:
    functions, dynamodb = make(cloud, "f"), cloud.client("dynamodb")
    stream = dynamodb.create_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )["TableDescription"]["LatestStreamArn"]
    dynamodb.put_item(TableName="orders", Item={"id": {"S": "a"}})
    cloud.advance(100)
    functions.create_event_source_mapping(FunctionName="f", EventSourceArn=stream, StartingPosition="TRIM_HORIZON")
    eventually(lambda: cloud.advance(60) or read("IteratorAge", FunctionName="f") is not None)
    age = read("IteratorAge", FunctionName="f", Resource="f")
    assert age is not None
    assert age[1] == 1
    assert age[2] >= 99_000


def test_what_a_mapping_did_with_its_events_where_it_is_asked_for(cloud: LocalCloud, read: Read) -> None:
    functions, sqs, dynamodb = make(cloud, "f"), cloud.client("sqs"), cloud.client("dynamodb")
    source = """
def handler(event, context):
    records = event["Records"]
    return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in records if '"bad"' in r["body"]]}
"""
    make(cloud, "partly", source)
    url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "43200"})["QueueUrl"]
    for kind in ("good", "bad", "other"):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"kind": kind}))
    metrics = {"MetricsConfig": {"Metrics": ["EventCount"]}}
    arn = "arn:aws:sqs:us-east-1:000000000000:q"
    pattern = json.dumps({"body": {"kind": ["good", "bad"]}})
    mapping = functions.create_event_source_mapping(
        FunctionName="partly",
        EventSourceArn=arn,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        FilterCriteria={"Filters": [{"Pattern": pattern}]},
        **metrics,
    )
    assert mapping["MetricsConfig"] == metrics["MetricsConfig"]
    stream = dynamodb.create_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )["TableDescription"]["LatestStreamArn"]
    more = {"EventSourceArn": stream, "StartingPosition": "TRIM_HORIZON", "MaximumRetryAttempts": 0, **metrics}
    fails = "def handler(event, context): 1 / 0"
    destinations = {"lost": "arn:aws:sqs:us-east-1:000000000000:nowhere", "told": arn.replace(":q", ":told")}
    sqs.create_queue(QueueName="told")
    uuids = {"queue": mapping["UUID"]}
    for name, target in destinations.items():
        make(cloud, name, fails)
        config = {"OnFailure": {"Destination": target}}
        made = functions.create_event_source_mapping(FunctionName=name, DestinationConfig=config, **more)
        uuids[name] = made["UUID"]
    dynamodb.put_item(TableName="orders", Item={"id": {"S": "a"}})

    def of(name: str, *names: str) -> list[float | None]:
        return counts(read, " ".join(f"{one}EventCount" for one in names), EventSourceMappingUUID=uuids[name])

    sent = ("Dropped", "OnFailureDestinationDelivered")
    eventually(lambda: cloud.advance(61) or of("lost", *sent) == [1, None])
    eventually(lambda: cloud.advance(61) or of("told", *sent) == [None, 1])
    assert of("lost", "Polled", "Invoked", "FailedInvoke") == [1, 1, 1]
    assert counts(read, "DestinationDeliveryFailures", FunctionName="lost") == [1]
    names = ("Polled", "FilteredOut", "Invoked", "FailedInvoke", "Deleted")
    eventually(lambda: cloud.advance(61) or of("queue", *names) == [3, 1, 2, 1, 2])
    functions.update_event_source_mapping(UUID=mapping["UUID"], MetricsConfig={"Metrics": []})
    assert "MetricsConfig" not in functions.get_event_source_mapping(UUID=mapping["UUID"])


def test_function_urls_are_counted_but_not_of_all_functions(cloud: LocalCloud, read: Read) -> None:
    functions = make(cloud, "f", Publish=True)
    functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    url = functions.create_function_url_config(FunctionName="f", AuthType="NONE")["FunctionUrl"]
    closed = functions.create_function_url_config(FunctionName="f", Qualifier="live", AuthType="AWS_IAM")["FunctionUrl"]
    urllib.request.urlopen(url).close()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(closed)
    functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    with pytest.raises(urllib.error.HTTPError, match="429"):
        urllib.request.urlopen(url)
    cloud.advance(60)
    names = "UrlRequestCount Url4xxCount Url5xxCount Invocations"
    eventually(lambda: counts(read, names, FunctionName="f") == [3, 2, 0, 1])
    assert counts(read, names, FunctionName="f", Resource="f:$LATEST") == [2, 1, 0, None]
    assert counts(read, names, FunctionName="f", Resource="f:live", ExecutedVersion="1") == [1, 1, 0, None]
    assert counts(read, names) == [None, None, None, 1]
    latency = read("UrlRequestLatency", FunctionName="f")
    assert latency is not None
    assert latency[1] == 3
    assert latency[2] > 1


def test_provisioned_concurrency_is_used_first_and_others_run_beside_it(cloud: LocalCloud, read: Read) -> None:
    functions = make(cloud, "f", Publish=True, Timeout=30)
    functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    functions.put_provisioned_concurrency_config(FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=2)
    functions.invoke(FunctionName="f:live")
    functions.invoke(FunctionName="f:1")
    with ThreadPoolExecutor(3) as pool:
        clients = [cloud.client("lambda") for _ in range(3)]
        list(pool.map(lambda one: one.invoke(FunctionName="f:live", Payload='{"sleep": 1}'), clients))
    cloud.advance(60)
    names = "ProvisionedConcurrencyInvocations ProvisionedConcurrencySpilloverInvocations Invocations"
    eventually(lambda: counts(read, names, FunctionName="f", Resource="f:live") == [3, 1, 4])
    assert counts(read, names, FunctionName="f") == [3, 1, 5]
    assert counts(read, names) == [None, None, 5]
    assert counts(read, names, FunctionName="f", Resource="f:1") == [None, None, 1]
    assert read("ProvisionedConcurrentExecutions", FunctionName="f", Resource="f:live") == (6, 4, 2)
    assert read("ProvisionedConcurrencyUtilization", FunctionName="f", Resource="f:live") == (3, 4, 1)
    assert read("ProvisionedConcurrencyUtilization", FunctionName="f") is None


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.11
      Handler: index.handler
      InlineCode: "def handler(event, context): return ANSWER"
      AutoPublishAlias: live
      DeploymentPreference:
        Type: Canary10Percent5Minutes
        Alarms: [!Ref Failing]
  Failing:
    Type: AWS::CloudWatch::Alarm
    Properties:
      Namespace: AWS/Lambda
      MetricName: Errors
      Dimensions:
        - {Name: Resource, Value: !Sub "${Fn}:live"}
        - {Name: FunctionName, Value: !Ref Fn}
        - {Name: ExecutedVersion, Value: !GetAtt Fn.Version.Version}
      Statistic: Sum
      Period: 60
      EvaluationPeriods: 1
      Threshold: 0
      ComparisonOperator: GreaterThanThreshold
Outputs:
  Alias: {Value: !Ref Fn.Alias}
"""


def test_a_canary_that_fails_is_turned_back_by_an_alarm_on_its_errors(cloud: LocalCloud) -> None:
    stacks, functions = cloud.client("cloudformation"), cloud.client("lambda")
    more = {"StackName": "s", "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]}

    def comes_to(status: str) -> dict[str, Any]:
        def stack() -> dict[str, Any]:
            found: dict[str, Any] = stacks.describe_stacks(StackName="s")["Stacks"][0]
            return found

        eventually(lambda: stack()["StackStatus"] == status, 30)
        return stack()

    stacks.create_stack(TemplateBody=TEMPLATE.replace("ANSWER", "1"), **more)
    alias = comes_to("CREATE_COMPLETE")["Outputs"][0]["OutputValue"]
    stacks.update_stack(TemplateBody=TEMPLATE.replace("ANSWER", "1 / 0"), **more)
    name = {"FunctionName": alias.removesuffix(":live"), "Name": "live"}
    eventually(lambda: (functions.get_alias(**name).get("RoutingConfig") or {}).get("AdditionalVersionWeights"))
    eventually(lambda: "FunctionError" in functions.invoke(FunctionName=alias))
    cloud.advance(60)
    comes_to("UPDATE_ROLLBACK_COMPLETE")
    assert functions.get_alias(**name)["FunctionVersion"] == "1"
    assert functions.invoke(FunctionName=alias)["Payload"].read() == b"1"
    codes = [
        cloud.client("codedeploy").get_deployment(deploymentId=id)["deploymentInfo"].get("errorInformation", {})
        for id in cloud.client("codedeploy").list_deployments()["deployments"]
    ]
    assert "ALARM_ACTIVE" in [one.get("code") for one in codes]
