"""EventBridge through boto3."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from queues import queue, receive, restart
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

ACCOUNT = "000000000000"


def put(cloud: LocalCloud, detail: Any, source: str = "shop", kind: str = "order", **more: Any) -> dict[str, Any]:
    entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(detail), **more}
    answer: dict[str, Any] = cloud.client("events").put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0, answer
    return answer


def test_events_reach_the_targets_of_matching_rules(cloud: LocalCloud) -> None:
    events = cloud.client("events")
    urls, arns = {}, {}
    for name in ("all", "part", "text", "lines", "ordered.fifo"):
        once = {"ContentBasedDeduplication": "true"} if name.endswith(".fifo") else {}
        urls[name], arns[name] = queue(cloud, name, **once)
    pattern = {"source": ["shop"], "detail": {"total": [{"numeric": [">", 10]}]}}
    rule = events.put_rule(Name="big", EventPattern=json.dumps(pattern))["RuleArn"]
    assert rule == f"arn:aws:events:us-east-1:{ACCOUNT}:rule/big"
    template = {"id": "<id>", "all": "<items>", "who": "order of <name>", "rule": "<aws.events.rule-name>"}
    text = json.dumps(template).replace('"<items>"', "<items>")
    paths = {"id": "$.detail.id", "items": "$.detail.items", "name": "$.detail.user.name"}
    targets: list[dict[str, Any]] = [
        {"Id": "1", "Arn": arns["all"]},
        {"Id": "2", "Arn": arns["part"], "InputPath": "$.detail.items[0]"},
        {"Id": "3", "Arn": arns["text"], "InputTransformer": {"InputPathsMap": paths, "InputTemplate": text}},
        {"Id": "4", "Arn": arns["lines"], "Input": '{"constant": true}'},
        {"Id": "5", "Arn": arns["ordered.fifo"], "SqsParameters": {"MessageGroupId": "g"}},
    ]
    assert events.put_targets(Rule="big", Targets=targets)["FailedEntryCount"] == 0
    detail = {"id": 'a"1', "total": 12, "items": [{"sku": 7}], "user": {"name": "Ann"}}
    put(cloud, {"total": 3})
    id = put(cloud, detail, Resources=["arn:x"])["Entries"][0]["EventId"]

    event = json.loads(receive(cloud, urls["all"])[0]["Body"])
    assert event.pop("time").endswith("Z")
    assert event == {
        "version": "0",
        "id": id,
        "detail-type": "order",
        "source": "shop",
        "account": ACCOUNT,
        "region": "us-east-1",
        "resources": ["arn:x"],
        "detail": detail,
    }
    assert receive(cloud, urls["part"])[0]["Body"] == '{"sku":7}'
    filled = json.loads(receive(cloud, urls["text"])[0]["Body"])
    assert filled == {"id": 'a"1', "all": [{"sku": 7}], "who": "order of Ann", "rule": "big"}
    assert receive(cloud, urls["lines"])[0]["Body"] == '{"constant": true}'
    (ordered,) = receive(cloud, urls["ordered.fifo"])
    assert ordered["Attributes"]["MessageGroupId"] == "g"

    cloud.advance(61)
    metrics = cloud.client("cloudwatch")
    eventually(lambda: metrics.list_metrics(Namespace="AWS/Events", MetricName="Invocations")["Metrics"])
    events.disable_rule(Name="big")
    put(cloud, detail)
    assert receive(cloud, urls["all"], 0) == []
    events.enable_rule(Name="big")
    restart(cloud)
    put(cloud, detail)
    assert len(receive(cloud, urls["all"])) == 1
    assert events.list_rule_names_by_target(TargetArn=arns["all"])["RuleNames"] == ["big"]
    assert refused(events.delete_rule, Name="big")[1] == "Rule can't be deleted since it has targets."
    answer = events.remove_targets(Rule="big", Ids=["1", "2", "3", "4", "5", "6"])
    assert [entry["TargetId"] for entry in answer["FailedEntries"]] == ["6"]
    events.delete_rule(Name="big")
    assert events.list_rules()["Rules"] == []


def test_what_is_refused(cloud: LocalCloud) -> None:
    events = cloud.client("events")
    entries = [
        {"DetailType": "t", "Detail": "{}"},
        {"Source": "s", "DetailType": "t", "Detail": "[]"},
        {"Source": "aws.s3", "DetailType": "t", "Detail": "{}"},
        {"Source": "s", "DetailType": "t", "Detail": "{}"},
    ]
    answer = events.put_events(Entries=entries)
    codes = [entry.get("ErrorCode") for entry in answer["Entries"]]
    assert codes == ["InvalidArgument", "MalformedDetail", "NotAuthorizedForSourceException", None]
    assert answer["FailedEntryCount"] == 3
    large = [{"Source": "s", "DetailType": "t", "Detail": json.dumps({"a": "x" * 262_144})}]
    assert "over the limit" in refused(events.put_events, Entries=large)[1]
    assert refused(events.put_rule, Name="r")[0] == "ValidationException"
    code, reason = refused(events.put_rule, Name="r", EventPattern='{"a": "b"}')
    assert (code, reason[:29]) == ("InvalidEventPatternException", "Event pattern is not valid. R")
    for expression in ("rate(1 minutes)", "rate(5 minute)", "cron(0 0 * * * *)", "at(2030-01-01T00:00:00)"):
        reason = refused(events.put_rule, Name="r", ScheduleExpression=expression)[1]
        assert reason == "Parameter ScheduleExpression is not valid."
    assert refused(events.describe_rule, Name="r")[1] == "Rule r does not exist on EventBus default."
    assert refused(events.put_targets, Rule="r", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:::q"}])[0] == (
        "ResourceNotFoundException"
    )
    events.put_rule(Name="r", EventPattern='{"source": ["s"]}')
    put_targets = events.put_targets
    assert refused(put_targets, Rule="r", Targets=[{"Id": "1", "Arn": "no arn"}])[0] == "ValidationException"
    batch = {"Id": "1", "Arn": f"arn:aws:batch:us-east-1:{ACCOUNT}:job-queue/q", "RoleArn": "arn:aws:iam::1:role/r"}
    assert refused(put_targets, Rule="r", Targets=[batch])[0] == "NotImplemented"
    fifo = {"Id": "1", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q.fifo"}
    assert refused(put_targets, Rule="r", Targets=[fifo])[1] == (
        "Parameter(s) SqsParameters must be specified for target: 1."
    )
    both = {"Id": "1", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q", "Input": "{}", "InputPath": "$.detail"}
    assert "Only one of" in refused(put_targets, Rule="r", Targets=[both])[1]
    assert events.test_event_pattern(
        EventPattern='{"source": ["s"]}',
        Event=json.dumps(
            {
                "id": "1",
                "account": "1",
                "source": "s",
                "time": "2020-01-01T00:00:00Z",
                "region": "r",
                "resources": [],
                "detail-type": "t",
            }
        ),
    )["Result"]


def test_buses_pass_events_on_and_have_policies(cloud: LocalCloud) -> None:
    events = cloud.client("events")
    bus = events.create_event_bus(Name="orders", Tags=[{"Key": "team", "Value": "a"}])["EventBusArn"]
    assert refused(events.create_event_bus, Name="orders")[0] == "ResourceAlreadyExistsException"
    url, arn = queue(cloud, "q")
    anything = json.dumps({"source": [{"prefix": ""}]})
    events.put_rule(Name="on", EventPattern=anything)
    events.put_targets(Rule="on", Targets=[{"Id": "bus", "Arn": bus, "RoleArn": "arn:aws:iam::000000000000:role/r"}])
    rule = events.put_rule(Name="out", EventBusName="orders", EventPattern=anything)["RuleArn"]
    assert rule.endswith(":rule/orders/out")
    events.put_targets(Rule="out", EventBusName=bus, Targets=[{"Id": "q", "Arn": arn}])
    put(cloud, {"n": 1})
    put(cloud, {"n": 2}, EventBusName=bus)
    put(cloud, {"n": 3}, EventBusName="nobody")
    got: list[Any] = []
    eventually(lambda: got.extend(receive(cloud, url)) or len(got) == 2)
    assert {json.loads(message["Body"])["detail"]["n"] for message in got} == {1, 2}
    assert refused(events.put_rule, Name="s", EventBusName="orders", ScheduleExpression="rate(1 day)")[1] == (
        "ScheduleExpression is supported only on the default event bus."
    )

    events.put_permission(EventBusName="orders", Action="events:PutEvents", Principal="1" * 12, StatementId="one")
    policy = json.loads(events.describe_event_bus(Name="orders")["Policy"])
    assert policy["Statement"][0]["Principal"] == {"AWS": "arn:aws:iam::111111111111:root"}
    events.remove_permission(EventBusName="orders", StatementId="one")
    assert "Policy" not in events.describe_event_bus(Name="orders")
    assert [found["Name"] for found in events.list_event_buses()["EventBuses"]] == ["default", "orders"]
    events.tag_resource(ResourceARN=rule, Tags=[{"Key": "x", "Value": "y"}])
    assert events.list_tags_for_resource(ResourceARN=rule)["Tags"] == [{"Key": "x", "Value": "y"}]
    assert events.list_tags_for_resource(ResourceARN=bus)["Tags"] == [{"Key": "team", "Value": "a"}]
    assert "has rules" in refused(events.delete_event_bus, Name="orders")[1]
    assert refused(events.delete_event_bus, Name="default")[1] == "Cannot delete event bus default."


def test_schedules_tick_by_the_clouds_clock(cloud: LocalCloud) -> None:
    events = cloud.client("events")
    url, arn = queue(cloud, "ticks")
    rule = events.put_rule(Name="often", ScheduleExpression="rate(10 minutes)")["RuleArn"]
    events.put_targets(Rule="often", Targets=[{"Id": "q", "Arn": arn}])
    assert receive(cloud, url, 0) == []
    cloud.advance(601)
    event = json.loads(receive(cloud, url)[0]["Body"])
    assert (event["source"], event["detail-type"], event["resources"]) == ("aws.events", "Scheduled Event", [rule])
    # What was missed is made up for once.
    cloud.advance(6000)
    assert len(receive(cloud, url)) == 1
    restart(cloud)
    assert receive(cloud, url, 0) == []
    cloud.advance(601)
    assert len(receive(cloud, url)) == 1
    events.disable_rule(Name="often")
    cloud.advance(6000)
    assert receive(cloud, url, 0) == []
    events.put_rule(Name="often", ScheduleExpression="cron(0 12 * * ? *)")
    cloud.advance(86_400)
    assert json.loads(receive(cloud, url)[0]["Body"])["time"].endswith("T12:00:00Z")


def test_failed_deliveries_are_tried_again_and_dead_lettered(cloud: LocalCloud) -> None:
    events = cloud.client("events")
    (dead, dead_arn), (url, arn) = queue(cloud, "dead"), queue(cloud, "q")
    events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
    gone = f"arn:aws:sqs:us-east-1:{ACCOUNT}:nobody"
    events.put_targets(Rule="r", Targets=[{"Id": "gone", "Arn": gone, "DeadLetterConfig": {"Arn": dead_arn}}])
    put(cloud, {"n": 1})
    (letter,) = receive(cloud, dead)
    told = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert json.loads(letter["Body"])["detail"] == {"n": 1}
    assert (told["ERROR_CODE"], told["TARGET_ARN"], told["RETRY_ATTEMPTS"]) == ("NO_RESOURCE", gone, "0")

    policy = {"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 3600}
    target = {"Id": "gone", "Arn": arn, "RetryPolicy": policy, "DeadLetterConfig": {"Arn": dead_arn}}
    events.put_targets(Rule="r", Targets=[target])
    cloud.control("faults", {"service": "sqs", "operation": "SendMessage", "error": "InternalError", "status": 500})
    put(cloud, {"n": 2})
    # It is stored before it is tried, so that a killed cloud tries it again.
    restart(cloud)
    cloud.advance(5)
    assert json.loads(receive(cloud, url)[0]["Body"])["detail"] == {"n": 2}


def test_archives_keep_events_and_replays_send_them_again(cloud: LocalCloud) -> None:
    events = cloud.client("events")
    bus = f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default"
    archive = events.create_archive(ArchiveName="a", EventSourceArn=bus, EventPattern='{"source": ["shop"]}')[
        "ArchiveArn"
    ]
    start = time.time() - 10
    put(cloud, {"n": 1})
    put(cloud, {"n": 2}, source="else")
    assert events.describe_archive(ArchiveName="a")["EventCount"] == 1
    url, arn = queue(cloud, "q")
    events.put_rule(Name="r", EventPattern=json.dumps({"replay-name": [{"exists": True}]}))
    events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": arn}])
    restart(cloud)
    events.start_replay(
        ReplayName="again",
        EventSourceArn=archive,
        EventStartTime=start,
        EventEndTime=time.time() + 10,
        Destination={"Arn": bus},
    )
    event = json.loads(receive(cloud, url)[0]["Body"])
    assert (event["detail"], event["replay-name"]) == ({"n": 1}, "again")
    eventually(lambda: events.describe_replay(ReplayName="again")["State"] == "COMPLETED")
    assert events.describe_archive(ArchiveName="a")["EventCount"] == 1
    events.delete_archive(ArchiveName="a")


class Endpoint:
    """A web server that gives tokens under /token and keeps what else is sent to it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.command, self.path, headers, body))
                answer = b'{"access_token": "t1", "expires_in": 3600}' if self.path == "/token" else b""
                self.send_response(200 if self.path == "/token" else outer.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_api_destinations_are_authorized_requests(cloud: LocalCloud, endpoint: Endpoint) -> None:
    events = cloud.client("events")
    oauth = {
        "ClientParameters": {"ClientID": "me", "ClientSecret": "secret"},
        "AuthorizationEndpoint": f"{endpoint.url}/token",
        "HttpMethod": "POST",
    }
    more = {"HeaderParameters": [{"Key": "x-shop", "Value": "hush", "IsValueSecret": True}]}
    connection = events.create_connection(
        Name="c",
        AuthorizationType="OAUTH_CLIENT_CREDENTIALS",
        AuthParameters={"OAuthParameters": oauth, "InvocationHttpParameters": more},
    )["ConnectionArn"]
    described = events.describe_connection(Name="c")
    shown = json.dumps(described["AuthParameters"])
    secrets = cloud.client("secretsmanager")
    assert secrets.describe_secret(SecretId=described["SecretArn"])["OwningService"] == "events"
    kept = json.loads(secrets.get_secret_value(SecretId=described["SecretArn"])["SecretString"])
    assert (kept["client_id"], kept["client_secret"], kept["http_method"]) == ("me", "secret", "POST")
    assert kept["invocation_http_parameters"]["header_parameters"][0]["is_value_secret"] is True
    assert "me" in shown
    assert "secret" not in shown
    assert "hush" not in shown
    destination = events.create_api_destination(
        Name="d", ConnectionArn=connection, InvocationEndpoint=f"{endpoint.url}/orders/*", HttpMethod="PUT"
    )["ApiDestinationArn"]
    dead, dead_arn = queue(cloud, "dead")
    events.put_rule(Name="r", EventPattern='{"source": ["shop"]}')
    target = {
        "Id": "d",
        "Arn": destination,
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r",
        "InputPath": "$.detail",
        "HttpParameters": {"PathParameterValues": ["$.detail.id"], "QueryStringParameters": {"v": "1"}},
        "DeadLetterConfig": {"Arn": dead_arn},
    }
    events.put_targets(Rule="r", Targets=[target])
    put(cloud, {"id": "a/1"})
    token, request = eventually(lambda: len(endpoint.requests) == 2 and endpoint.requests)
    assert "client_secret=secret" in token[3]
    assert (request[0], request[1], request[3]) == ("PUT", "/orders/a%2F1?v=1", '{"id":"a/1"}')
    assert (request[2]["authorization"], request[2]["x-shop"]) == ("Bearer t1", "hush")
    endpoint.status = 400
    put(cloud, {"id": "b"})
    assert json.loads(receive(cloud, dead)[0]["Body"])["detail"] == {"id": "b"}
    events.delete_api_destination(Name="d")
    put(cloud, {"id": "c"})
    assert receive(cloud, dead)[0]["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Queue": {"Type": "AWS::SQS::Queue"},
        "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "stack-bus"}},
        "Policy": {
            "Type": "AWS::Events::EventBusPolicy",
            "Properties": {
                "EventBusName": {"Ref": "Bus"},
                "StatementId": "all",
                "Statement": {"Effect": "Allow", "Principal": "*", "Action": "events:PutEvents", "Resource": "*"},
            },
        },
        "Rule": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "EventBusName": {"Ref": "Bus"},
                "EventPattern": {"source": ["shop"]},
                "Targets": [{"Id": "q", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}, "InputPath": "$.detail"}],
            },
        },
        "Tick": {"Type": "AWS::Events::Rule", "Properties": {"Name": "tick", "ScheduleExpression": "rate(1 day)"}},
        "Archive": {"Type": "AWS::Events::Archive", "Properties": {"SourceArn": {"Fn::GetAtt": ["Bus", "Arn"]}}},
    },
    "Outputs": {"Queue": {"Value": {"Ref": "Queue"}}, "Rule": {"Value": {"Fn::GetAtt": ["Rule", "Arn"]}}},
}


def test_a_stack_of_rules(cloud: LocalCloud) -> None:
    events, stacks = cloud.client("events"), cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    stack = stacks.describe_stacks(StackName="s")["Stacks"][0]
    out = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    assert ":rule/stack-bus/s-Rule-" in out["Rule"]
    put(cloud, {"n": 1}, EventBusName="stack-bus")
    assert receive(cloud, out["Queue"])[0]["Body"] == '{"n":1}'
    assert json.loads(events.describe_event_bus(Name="stack-bus")["Policy"])["Statement"][0]["Sid"] == "all"

    changed = json.loads(json.dumps(TEMPLATE))
    changed["Resources"]["Rule"]["Properties"]["Targets"][0]["InputPath"] = "$.source"
    changed["Resources"]["Tick"]["Properties"]["State"] = "DISABLED"
    del changed["Resources"]["Policy"], changed["Resources"]["Archive"]
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    put(cloud, {"n": 1}, EventBusName="stack-bus")
    assert receive(cloud, out["Queue"])[0]["Body"] == '"shop"'
    assert events.describe_rule(Name="tick")["State"] == "DISABLED"
    assert "Policy" not in events.describe_event_bus(Name="stack-bus")

    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert [bus["Name"] for bus in events.list_event_buses()["EventBuses"]] == ["default"]
    assert events.list_rules()["Rules"] == []


SERVERLESS: dict[str, Any] = {
    "Transform": "AWS::Serverless-2016-10-31",
    "Resources": {
        "Out": {"Type": "AWS::SQS::Queue"},
        "Topic": {"Type": "AWS::SNS::Topic"},
        "Function": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "Runtime": "python3.11",
                "Handler": "index.handler",
                "Timeout": 20,
                "InlineCode": (
                    "import boto3, json, os\n"
                    "def handler(event, context):\n"
                    "    body = json.dumps(event)\n"
                    "    boto3.client('sqs').send_message(QueueUrl=os.environ['OUT'], MessageBody=body)\n"
                ),
                "Environment": {"Variables": {"OUT": {"Ref": "Out"}}},
                "Events": {
                    "News": {"Type": "SNS", "Properties": {"Topic": {"Ref": "Topic"}}},
                    "Orders": {
                        "Type": "EventBridgeRule",
                        "Properties": {"Pattern": {"source": ["shop"]}, "InputPath": "$.detail"},
                    },
                    "Tick": {"Type": "Schedule", "Properties": {"Schedule": "rate(1 hour)", "Input": '{"tick":1}'}},
                    "Begin": {
                        "Type": "ScheduleV2",
                        "Properties": {"ScheduleExpression": "rate(2 days)", "Input": '{"begin":1}'},
                    },
                },
            },
        },
    },
    "Outputs": {"Out": {"Value": {"Ref": "Out"}}, "Topic": {"Value": {"Ref": "Topic"}}},
}


def test_a_serverless_function_with_every_kind_of_event(cloud: LocalCloud) -> None:
    stacks = cloud.client("cloudformation")
    capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(SERVERLESS), Capabilities=capabilities)
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    stack = stacks.describe_stacks(StackName="s")["Stacks"][0]
    out = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}

    def said() -> Any:
        return json.loads(receive(cloud, out["Out"], 20)[0]["Body"])

    assert said() == {"begin": 1}
    cloud.client("sns").publish(TopicArn=out["Topic"], Message="hi")
    assert said()["Records"][0]["Sns"]["Message"] == "hi"
    put(cloud, {"n": 1})
    assert said() == {"n": 1}
    cloud.advance(3601)
    assert said() == {"tick": 1}
