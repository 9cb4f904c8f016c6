"""X-Ray through boto3, through OpenTelemetry's door and through the daemon's port."""

from __future__ import annotations

import gzip
import io
import json
import secrets
import socket
import struct
import time
import urllib.error
import urllib.request
import zipfile
from typing import Any

import pytest
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

ACCOUNT = "000000000000"


def new_trace() -> str:
    """A trace id of now."""
    return f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"


def segment(trace: str, name: str, **more: Any) -> dict[str, Any]:
    """A segment of the last second."""
    now = time.time()
    return {
        "trace_id": trace,
        "id": secrets.token_hex(8),
        "name": name,
        "start_time": now - 1,
        "end_time": now - 0.5,
        **more,
    }


def put(xray: Any, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    """Send segments; what was not taken."""
    answer = xray.put_trace_segments(TraceSegmentDocuments=[json.dumps(one) for one in documents])
    return answer["UnprocessedTraceSegments"]  # type: ignore[no-any-return]


def summaries(xray: Any, expression: str = "") -> list[dict[str, Any]]:
    """The traces of the last minutes that an expression means."""
    more = {"FilterExpression": expression} if expression else {}
    now = time.time()
    pages = xray.get_paginator("get_trace_summaries").paginate(StartTime=now - 600, EndTime=now + 60, **more)
    return [one for page in pages for one in page["TraceSummaries"]]


def shop(xray: Any) -> str:
    """A trace: shop calls stock, which fails, and a table; a subsegment comes by itself."""
    trace = new_trace()
    call, table = secrets.token_hex(8), secrets.token_hex(8)
    now = time.time()
    times = {"start_time": now - 0.9, "end_time": now - 0.6}
    front = segment(
        trace,
        "shop",
        origin="AWS::ECS::Container",
        http={"request": {"method": "GET", "url": "http://shop/v2/x"}, "response": {"status": 200}},
        annotations={"order": 7, "vip": True, "kind": "book"},
        user="eve",
        subsegments=[{"id": call, "name": "stock", "namespace": "remote", "fault": True, **times}],
    )
    back = segment(trace, "stock", parent_id=call, fault=True, http={"response": {"status": 503}}, **times)
    late = segment(
        trace,
        "DynamoDB",
        type="subsegment",
        parent_id=front["id"],
        id=table,
        namespace="aws",
        aws={"table_name": "orders", "operation": "PutItem"},
        **times,
    )
    assert put(xray, front, back, late) == []
    return trace


def test_segments_and_traces(cloud: LocalCloud) -> None:
    xray = cloud.client("xray")
    trace = shop(xray)
    bad = segment(trace, "x")
    del bad["id"]
    gone = segment("2-1", "x")
    [no_id, no_trace, no_json] = xray.put_trace_segments(
        TraceSegmentDocuments=[json.dumps(bad), json.dumps(gone), "nonsense"]
    )["UnprocessedTraceSegments"]
    assert no_id == {"ErrorCode": "MissingId", "Message": "Invalid segment. ErrorCode: MissingId"}
    assert no_trace["ErrorCode"] == "InvalidTraceId"
    assert no_trace["Id"] == gone["id"]
    assert no_json["ErrorCode"] == "ParseError"

    def check(xray: Any) -> None:
        found = xray.batch_get_traces(TraceIds=[trace, new_trace()])
        assert len(found["UnprocessedTraceIds"]) == 1
        [one] = found["Traces"]
        documents = {s["Id"]: json.loads(s["Document"]) for s in one["Segments"]}
        assert sorted(document["name"] for document in documents.values()) == ["shop", "stock"]
        front = next(document for document in documents.values() if document["name"] == "shop")
        assert [part["name"] for part in front["subsegments"]] == ["stock", "DynamoDB"]

    check(xray)
    assert refused(xray.batch_get_traces, TraceIds=[trace] * 6)[0] == "InvalidRequestException"
    cloud.kill()
    cloud.start()
    check(cloud.client("xray"))


def test_summaries_and_filters(cloud: LocalCloud) -> None:
    xray = cloud.client("xray")
    trace, other = shop(xray), new_trace()
    put(xray, segment(other, "other", error=True, throttle=True, http={"response": {"status": 429}}))
    found = {one["Id"]: one for one in summaries(xray)}
    assert set(found) == {trace, other}
    one = found[trace]
    assert one["Http"] == {"HttpURL": "http://shop/v2/x", "HttpStatus": 200, "HttpMethod": "GET"}
    assert one["EntryPoint"]["Name"] == "shop"
    assert (one["HasFault"], found[other]["HasThrottle"]) == (False, True)
    assert one["Annotations"]["order"][0]["AnnotationValue"] == {"NumberValue": 7.0}
    assert one["Users"][0]["UserName"] == "eve"
    assert {service["Name"] for service in one["ServiceIds"]} == {"shop", "stock", "orders"}
    assert one["ResponseTime"] == pytest.approx(0.5, abs=0.01)
    wanted = {
        'service("shop")': {trace},
        '!service("shop")': {other},
        'service("stock") { fault }': {trace},
        'service("shop") { fault }': set(),
        'service(id(name: "orders", type: "AWS::DynamoDB::Table"))': {trace},
        'edge("shop", "stock") { fault = true }': {trace},
        'edge("stock", "shop")': set(),
        "http.status = 429 OR responsetime > 5": {other},
        "ok !partial duration < 3": {trace},
        "error AND throttle = true": {other},
        'annotation.order = 7 AND annotation.kind BEGINSWITH "bo"': {trace},
        "annotation[vip] = true": {trace},
        "annotation.order > 7": set(),
        'http.url CONTAINS "/v2/" && user = "eve"': {trace},
        '(service("other") || service("shop")) responsetime >= 0': {trace, other},
    }
    assert {text: {one["Id"] for one in summaries(xray, text)} for text in wanted} == wanted
    for text in ("responsetime >", "nothing = 1", 'service("a"', "http.status CONTAINS 4", "ok = 7"):
        assert refused(summaries, xray=xray, expression=text)[0] == "InvalidRequestException"


def test_graphs_and_groups(cloud: LocalCloud) -> None:
    xray = cloud.client("xray")
    trace = shop(xray)
    group = xray.create_group(GroupName="stock", FilterExpression='service("stock")', Tags=[{"Key": "a", "Value": "b"}])
    arn = group["Group"]["GroupARN"]
    assert arn.startswith(f"arn:aws:xray:us-east-1:{ACCOUNT}:group/stock/")
    now = time.time()
    for answer in (
        xray.get_trace_graph(TraceIds=[trace]),
        xray.get_service_graph(StartTime=now - 60, EndTime=now + 60, GroupName="stock"),
    ):
        services = {(one["Name"], one.get("Type")): one for one in answer["Services"]}
        names = {one["ReferenceId"]: one["Name"] for one in answer["Services"]}
        front = services["shop", "AWS::ECS::Container"]
        assert front["Root"] is True
        assert sorted(names[edge["ReferenceId"]] for edge in front["Edges"]) == ["orders", "stock"]
        [edge] = services["shop", "client"]["Edges"]
        assert edge["SummaryStatistics"]["OkCount"] == 1
        assert services["stock", None]["SummaryStatistics"]["FaultStatistics"]["TotalCount"] == 1
    between = {"StartTime": now - 60, "EndTime": now + 60}
    for selector, member, faults in (
        ("", "Edge", 0),
        ('service("stock")', "Service", 1),
        ('edge("shop", "stock")', "Edge", 1),
    ):
        more = {"EntitySelectorExpression": selector} if selector else {}
        [counted] = xray.get_time_series_service_statistics(**between, **more)["TimeSeriesServiceStatistics"]
        statistics = counted[f"{member}SummaryStatistics"]
        assert (statistics["TotalCount"], statistics["FaultStatistics"]["TotalCount"]) == (1, faults)
    xray.update_group(GroupARN=arn, FilterExpression='service("nobody")')
    assert xray.get_service_graph(StartTime=now - 60, EndTime=now + 60, GroupARN=arn)["Services"] == []
    assert xray.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert [one["GroupName"] for one in xray.get_groups()["Groups"]] == ["Default", "stock"]
    xray.delete_group(GroupName="stock")
    assert refused(xray.get_group, GroupName="stock") == ("InvalidRequestException", "Group not found")
    assert refused(xray.put_encryption_config, Type="KMS", KeyId="alias/x")[0] == "NotImplemented"


RULE: dict[str, Any] = {
    "RuleName": "all",
    "ResourceARN": "*",
    "Priority": 1,
    "FixedRate": 1.0,
    "ReservoirSize": 10,
    **dict.fromkeys(("ServiceName", "ServiceType", "Host", "HTTPMethod", "URLPath"), "*"),
    "Version": 1,
}


def test_sampling_rules(cloud: LocalCloud) -> None:
    xray = cloud.client("xray")
    xray.create_sampling_rule(SamplingRule=RULE)
    assert refused(xray.create_sampling_rule, SamplingRule=RULE)[0] == "InvalidRequestException"
    rules = [one["SamplingRule"] for one in xray.get_sampling_rules()["SamplingRuleRecords"]]
    assert [(one["RuleName"], one["Priority"]) for one in rules] == [("all", 1), ("Default", 10000)]
    assert (rules[1]["FixedRate"], rules[1]["ReservoirSize"]) == (0.05, 1)
    report = {"RequestCount": 20, "SampledCount": 12, "BorrowCount": 2, "Timestamp": time.time()}
    clients = [secrets.token_hex(12) for _ in range(2)]
    documents = [{"RuleName": "all", "ClientID": client, **report} for client in clients]
    documents.append({"RuleName": "none", "ClientID": clients[0], **report})
    xray.get_sampling_targets(SamplingStatisticsDocuments=documents)
    targets = xray.get_sampling_targets(SamplingStatisticsDocuments=documents)
    assert [one["ReservoirQuota"] for one in targets["SamplingTargetDocuments"]] == [5, 5]
    assert [one["RuleName"] for one in targets["UnprocessedStatistics"]] == ["none"]
    [counted] = xray.get_sampling_statistic_summaries()["SamplingStatisticSummaries"]
    assert (counted["RuleName"], counted["RequestCount"], counted["BorrowCount"]) == ("all", 80, 8)
    xray.update_sampling_rule(SamplingRuleUpdate={"RuleName": "Default", "FixedRate": 0.5})
    wrong = {"RuleName": "Default", "Priority": 5}
    assert refused(xray.update_sampling_rule, SamplingRuleUpdate=wrong) == (
        "InvalidRequestException",
        "Invalid update request for default sampling rule",
    )
    xray.delete_sampling_rule(RuleName="all")
    assert refused(xray.delete_sampling_rule, RuleName="all") == (
        "InvalidRequestException",
        "Sampling rule does not exist",
    )


def test_traces_are_forgotten_after_thirty_days(cloud: LocalCloud) -> None:
    xray = cloud.client("xray")
    trace = shop(xray)
    cloud.advance(29 * 86_400)
    assert xray.batch_get_traces(TraceIds=[trace])["Traces"]
    cloud.advance(2 * 86_400)
    eventually(lambda: not xray.batch_get_traces(TraceIds=[trace])["Traces"])


# OpenTelemetry


def varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])


def field(number: int, value: int | bytes | str | float) -> bytes:
    """A field of protobuf as its writers make it: a number, a double, bytes or text."""
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fixed(number: int, value: int) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<Q", value)


def attribute(key: str, value: bytes) -> bytes:
    return field(1, key) + field(2, value)


def export(cloud: LocalCloud, body: bytes, kind: str, path: str = "/v1/traces", **headers: str) -> tuple[int, bytes]:
    """Post as an exporter does."""
    request = urllib.request.Request(cloud.endpoint + path, body, {"content-type": kind, **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_spans_by_protobuf(cloud: LocalCloud) -> None:
    now = time.time_ns()
    trace, server, client = secrets.token_bytes(16), secrets.token_bytes(8), secrets.token_bytes(8)
    times = fixed(7, now - 200_000_000) + fixed(8, now)
    texts = field(5, field(1, field(1, "a")) + field(1, field(1, "b")))
    exception = fixed(1, now) + field(2, "exception")
    exception += field(3, attribute("exception.type", field(1, "Oops"))) + field(
        3, attribute("exception.message", field(1, "it broke"))
    )
    serving = field(1, trace) + field(2, server) + field(5, "GET /cart") + field(6, 2) + times
    serving += field(9, attribute("http.request.method", field(1, "GET")))
    serving += field(9, attribute("http.response.status_code", field(3, 500)))
    serving += field(9, attribute("url.full", field(1, "http://cart/1")))
    serving += field(9, attribute("aws.xray.annotations", field(5, field(1, field(1, "cart.id")))))
    serving += field(9, attribute("cart.id", field(3, (1 << 64) - 5))) + field(9, attribute("list", texts))
    serving += field(9, attribute("ratio", field(4, 0.25))) + field(11, exception) + field(15, field(3, 2))
    calling = field(1, trace) + field(2, client) + field(4, server) + field(5, "GET") + field(6, 3) + times
    calling += field(9, attribute("peer.service", field(1, "prices")))
    resource = field(1, attribute("service.name", field(1, "cart")))
    scope = field(1, field(1, "my.library"))
    group = field(1, resource) + field(2, scope + field(2, serving) + field(2, calling) + fixed(99, 1))
    status, answer = export(
        cloud, gzip.compress(field(1, group)), "application/x-protobuf", **{"content-encoding": "gzip"}
    )
    assert (status, answer) == (200, b"")
    xray = cloud.client("xray")
    id = f"1-{trace.hex()[:8]}-{trace.hex()[8:]}"
    [found] = summaries(xray, 'edge("cart", "prices") AND fault AND annotation.cart_id = 0 OR service("cart")')
    assert (found["Id"], found["HasFault"]) == (id, True)
    assert found["Http"] == {"HttpURL": "http://cart/1", "HttpStatus": 500, "HttpMethod": "GET"}
    [shown] = xray.batch_get_traces(TraceIds=[id])["Traces"]
    [document] = [json.loads(one["Document"]) for one in shown["Segments"]]
    assert (document["id"], document["name"]) == (server.hex(), "cart")
    assert document["annotations"] == {"cart_id": -5}
    assert document["metadata"]["default"]["list"] == ["a", "b"]
    assert document["metadata"]["default"]["ratio"] == 0.25
    assert document["cause"]["exceptions"][0]["message"] == "it broke"
    [inner] = document["subsegments"]
    assert (inner["id"], inner["name"], inner["namespace"]) == (client.hex(), "prices", "remote")
    assert export(cloud, b"\x0a\xff", "application/x-protobuf")[0] == 400


def test_spans_by_json(cloud: LocalCloud) -> None:
    now = time.time_ns()
    span = {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": "work",
        "kind": 1,
        "startTimeUnixNano": str(now - 1000),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": "n", "value": {"intValue": "3"}}],
    }
    bad = {**span, "spanId": "short"}
    resource = [
        {"key": "service.name", "value": {"stringValue": "worker"}},
        {"key": "cloud.region", "value": {"stringValue": "eu-west-1"}},
    ]
    body = {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"spans": [span, bad]}]}]}
    status, answer = export(cloud, json.dumps(body).encode(), "application/json")
    assert (status, json.loads(answer)["partialSuccess"]["rejectedSpans"]) == (200, "1")
    assert summaries(cloud.client("xray")) == []
    [found] = summaries(cloud.client("xray", region="eu-west-1"))
    assert found["EntryPoint"]["Name"] == "worker"
    assert export(cloud, b"{", "application/json")[0] == 400
    assert export(cloud, b"{}", "text/plain")[0] == 415
    status, answer = export(cloud, b"{}", "application/json", "/v1/metrics")
    assert (status, json.loads(answer)["code"]) == (404, 12)


def daemon_send(address: str, document: dict[str, Any]) -> None:
    """Send a segment as an X-Ray SDK does."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b'{"format": "json", "version": 1}\n' + json.dumps(document).encode(), (host, int(port)))


# Producers

ECHO = """
import json, os, socket, time

def handler(event, context):
    header = os.environ["_X_AMZN_TRACE_ID"]
    parts = dict(part.split("=") for part in header.split(";"))
    if event.get("tell"):
        host, port = os.environ["AWS_XRAY_DAEMON_ADDRESS"].rsplit(":", 1)
        now = time.time()
        document = {
            "trace_id": parts["Root"], "parent_id": parts["Parent"], "id": os.urandom(8).hex(), "type": "subsegment",
            "name": "inside", "start_time": now - 0.001, "end_time": now,
        }
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        out.sendto(b'{"format": "json", "version": 1}\\n' + json.dumps(document).encode(), (host, int(port)))
    if event.get("queue"):
        import boto3
        boto3.client("sqs").send_message(QueueUrl=event["queue"], MessageBody="x")
    if event.get("fail"):
        raise ValueError("no")
    return {"header": header, "attributes": os.environ["OTEL_RESOURCE_ATTRIBUTES"]}
"""


def function(cloud: LocalCloud, name: str, mode: str = "Active", code: str = ECHO) -> Any:
    """A function of Python code."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", code)
    client = cloud.client("lambda")
    client.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="app.handler",
        Role=f"arn:aws:iam::{ACCOUNT}:role/r",
        Code={"ZipFile": archive.getvalue()},
        TracingConfig={"Mode": mode},
        Timeout=10,
    )
    return client


def invoke(client: Any, name: str, event: dict[str, Any], header: str = "") -> dict[str, Any]:
    """Invoke, perhaps within a trace; what the function answers."""

    def add(request: Any, **_: Any) -> None:
        if header:
            request.headers["X-Amzn-Trace-Id"] = header

    client.meta.events.register_first("before-sign.lambda.Invoke", add, unique_id="trace")
    try:
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read())  # type: ignore[no-any-return]
    finally:
        client.meta.events.unregister("before-sign.lambda.Invoke", unique_id="trace")


def documents_of(xray: Any, trace: str) -> dict[str, dict[str, Any]]:
    """The segments of a trace by what they are of."""
    [found] = xray.batch_get_traces(TraceIds=[trace])["Traces"] or [{"Segments": []}]
    documents = [json.loads(one["Document"]) for one in found["Segments"]]
    return {f"{one.get('origin', '')} {one['name']}".strip(): one for one in documents}


def test_a_function_is_traced(cloud: LocalCloud) -> None:
    xray = cloud.client("xray")
    client = function(cloud, "f")
    xray.create_sampling_rule(SamplingRule=RULE)
    answer = invoke(client, "f", {"tell": True})
    parts = dict(part.split("=") for part in answer["header"].split(";"))
    assert parts["Sampled"] == "1"
    assert answer["attributes"] == (
        f"service.name=f,cloud.provider=aws,cloud.platform=aws_lambda,cloud.account.id={ACCOUNT},cloud.region=us-east-1"
    )
    trace = parts["Root"]

    def whole() -> dict[str, Any] | None:
        found = documents_of(xray, trace)
        own = found.get("AWS::Lambda::Function f", {"subsegments": []})
        return found if "inside" in [one["name"] for one in own["subsegments"]] else None

    found = eventually(whole)
    service, own = found["AWS::Lambda f"], found["AWS::Lambda::Function f"]
    assert own["id"] == parts["Parent"]
    assert own["parent_id"] == service["id"]
    assert service["http"]["response"]["status"] == 200
    assert [one["name"] for one in own["subsegments"]] == ["Initialization", "Invocation", "inside"]
    assert own["start_time"] >= service["start_time"]

    header = f"Root={new_trace()};Parent={secrets.token_hex(8)};Sampled=1"
    assert invoke(client, "f", {"fail": True}, header)["errorType"] == "ValueError"
    [failed] = eventually(lambda: summaries(xray, 'service(id(name: "f", type: "AWS::Lambda::Function")) { fault }'))
    assert failed["Id"] in header
    assert documents_of(xray, failed["Id"])["AWS::Lambda f"]["parent_id"] in header


def test_a_function_that_only_passes_traces_on(cloud: LocalCloud) -> None:
    xray, sqs = cloud.client("xray"), cloud.client("sqs")
    client = function(cloud, "f", "PassThrough")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    assert invoke(client, "f", {})["header"].endswith("Sampled=0")
    header = f"Root={new_trace()};Parent={secrets.token_hex(8)};Sampled=1"
    answer = invoke(client, "f", {"queue": url}, header)
    [message] = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], WaitTimeSeconds=5)["Messages"]
    assert message["Attributes"]["AWSTraceHeader"] == answer["header"]
    [found] = eventually(lambda: summaries(xray))
    assert found["Id"] in header
    assert documents_of(xray, found["Id"])["AWS::Lambda::Function f"]["id"] in answer["header"]


def test_a_topic_passes_traces_on(cloud: LocalCloud) -> None:
    xray, sqs, sns = cloud.client("xray"), cloud.client("sqs"), cloud.client("sns")
    client = function(cloud, "f", "PassThrough")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    topic = sns.create_topic(Name="t", Attributes={"TracingConfig": "Active"})["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:{ACCOUNT}:q")
    arn = client.get_function(FunctionName="f")["Configuration"]["FunctionArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    trace, parent = new_trace(), secrets.token_hex(8)

    def add(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Trace-Id"] = f"Root={trace};Parent={parent};Sampled=1"

    sns.meta.events.register_first("before-sign.sns.Publish", add)
    sns.publish(TopicArn=topic, Message="m")
    [message] = sqs.receive_message(QueueUrl=url, AttributeNames=["All"], WaitTimeSeconds=5)["Messages"]

    def whole() -> dict[str, Any] | None:
        found = documents_of(xray, trace)
        return found if len(found) == 3 else None

    found = eventually(whole)
    own = found["AWS::SNS::Topic t"]
    assert own["parent_id"] == parent
    assert message["Attributes"]["AWSTraceHeader"] == f"Root={trace};Parent={own['id']};Sampled=1"
    assert found["AWS::Lambda f"]["parent_id"] == own["id"]


def test_an_api_and_a_state_machine_are_traced(cloud: LocalCloud) -> None:
    xray, api, states = cloud.client("xray"), cloud.client("apigateway"), cloud.client("stepfunctions")
    xray.create_sampling_rule(SamplingRule=RULE)
    client = function(cloud, "f")
    arn = client.get_function(FunctionName="f")["Configuration"]["FunctionArn"]
    rest = api.create_rest_api(name="shop")["id"]
    root = api.get_resources(restApiId=rest)["items"][0]["id"]
    place = {"restApiId": rest, "resourceId": root, "httpMethod": "GET"}
    api.put_method(**place, authorizationType="NONE")
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"
    api.put_integration(**place, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    api.create_deployment(restApiId=rest, stageName="prod")
    operations = [{"op": "replace", "path": "/tracingEnabled", "value": "true"}]
    api.update_stage(restApiId=rest, stageName="prod", patchOperations=operations)
    with pytest.raises(urllib.error.HTTPError):  # the function's answer is none of a proxy
        urllib.request.urlopen(f"{cloud.endpoint}/_cloudlet/execute-api/{rest}/prod/", timeout=10)
    [found] = eventually(lambda: summaries(xray, 'edge("shop/prod", "f") AND http.status = 502'))
    documents = documents_of(xray, found["Id"])
    stage = documents["AWS::ApiGateway::Stage shop/prod"]
    assert stage["aws"]["api_gateway"]["rest_api_id"] == rest
    assert documents["AWS::Lambda f"]["parent_id"] == stage["id"]

    broken = {"Type": "Fail", "Error": "Oops", "Cause": "why"}
    call = {"Type": "Task", "Resource": arn, "Parameters": {"a": 1}, "Next": "Broken"}
    definition = {"StartAt": "Call", "States": {"Call": call, "Broken": broken}}
    machine = states.create_state_machine(
        name="m",
        definition=json.dumps(definition),
        roleArn=f"arn:aws:iam::{ACCOUNT}:role/r",
        tracingConfiguration={"enabled": True},
    )["stateMachineArn"]
    started = states.start_execution(stateMachineArn=machine)["executionArn"]
    [found] = eventually(lambda: summaries(xray, 'service("m") { fault }'))
    assert found["Id"] in states.describe_execution(executionArn=started)["traceHeader"]

    def whole() -> dict[str, Any] | None:
        documents = documents_of(xray, found["Id"])
        return documents if len(documents) == 3 and "in_progress" not in str(documents) else None

    documents = eventually(whole)
    own = documents["AWS::StepFunctions::StateMachine m"]
    assert own["cause"]["exceptions"][0]["type"] == "Oops"
    [first, second] = sorted(own["subsegments"], key=lambda one: one["start_time"])
    assert (first["name"], second["name"], second["fault"]) == ("Call", "Broken", True)
    [invoked] = first["subsegments"]
    assert (invoked["name"], invoked["namespace"]) == ("Lambda", "aws")
    assert documents["AWS::Lambda f"]["parent_id"] == invoked["id"]


def test_events_pass_traces_on_and_batches_link_them(cloud: LocalCloud) -> None:
    xray, sqs, events = cloud.client("xray"), cloud.client("sqs"), cloud.client("events")
    xray.create_sampling_rule(SamplingRule=RULE)
    client = function(cloud, "f")
    sqs.create_queue(QueueName="q")
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
    events.put_rule(Name="r", EventPattern='{"source": ["me"]}')
    events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": arn}])
    client.create_event_source_mapping(EventSourceArn=arn, FunctionName="f")
    place = f"Root={new_trace()};Parent={secrets.token_hex(8)}"
    entry = {"Source": "me", "DetailType": "d", "Detail": "{}", "TraceHeader": f"{place};Sampled=1"}
    events.put_events(Entries=[entry])
    [found] = eventually(lambda: summaries(xray, 'service("f")'))
    assert found["Id"] not in place
    [link] = documents_of(xray, found["Id"])["AWS::Lambda::Function f"]["links"]
    assert place == f"Root={link['trace_id']};Parent={link['id']}"


def test_a_header_that_is_none(cloud: LocalCloud) -> None:
    client = function(cloud, "f-1")
    for header in ("nonsense", "Root=1-2-3;Sampled=1", "Root=;Parent=x"):
        assert "Root=1-" in invoke(client, "f-1", {}, header)["header"]


def test_the_daemons_port(cloud: LocalCloud) -> None:
    """Segments by UDP and questions about sampling by TCP, as SDKs with central rules ask them."""
    xray = cloud.client("xray")
    client = function(cloud, "f", code="import os\ndef handler(e, c): return os.environ['AWS_XRAY_DAEMON_ADDRESS']")
    address = json.loads(client.invoke(FunctionName="f")["Payload"].read())
    trace = new_trace()
    daemon_send(address, segment(trace, "mine"))
    eventually(lambda: xray.batch_get_traces(TraceIds=[trace])["Traces"])
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}/GetSamplingRules", b"{}"), timeout=5) as got:
        rules = json.loads(got.read())["SamplingRuleRecords"]
    assert [one["SamplingRule"]["RuleName"] for one in rules] == ["Default"]
    report = {"RuleName": "Default", "ClientID": "a" * 24, "RequestCount": 1, "SampledCount": 1, "Timestamp": 1.5e9}
    body = json.dumps({"SamplingStatisticsDocuments": [report]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}/SamplingTargets", body), timeout=5) as got:
        [target] = json.loads(got.read())["SamplingTargetDocuments"]
    assert (target["ReservoirQuota"], target["FixedRate"]) == (1, 0.05)


TEMPLATE = """
Resources:
  Group:
    Type: AWS::XRay::Group
    Properties:
      GroupName: slow
      FilterExpression: "responsetime > {seconds}"
      Tags: [{{Key: a, Value: b}}]
  Rule:
    Type: AWS::XRay::SamplingRule
    Properties:
      SamplingRule:
        RuleName: half
        ResourceARN: "*"
        Priority: 5
        FixedRate: {rate}
        ReservoirSize: 1
        ServiceName: "*"
        ServiceType: "*"
        Host: "*"
        HTTPMethod: "*"
        URLPath: "*"
        Version: 1
Outputs:
  Group: {{Value: !Ref Group}}
  Rule: {{Value: !GetAtt Rule.RuleARN}}
"""


def test_a_stack(cloud: LocalCloud) -> None:
    xray, stacks = cloud.client("xray"), cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=TEMPLATE.format(seconds=5, rate=0.5))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    outputs = stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"]
    [group, rule] = [one["OutputValue"] for one in sorted(outputs, key=lambda one: one["OutputKey"])]
    assert xray.get_group(GroupARN=group)["Group"]["FilterExpression"] == "responsetime > 5"
    assert rule == f"arn:aws:xray:us-east-1:{ACCOUNT}:sampling-rule/half"
    stacks.update_stack(StackName="s", TemplateBody=TEMPLATE.format(seconds=6, rate=0.25))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert xray.get_group(GroupName="slow")["Group"]["FilterExpression"] == "responsetime > 6"
    assert xray.get_sampling_rules()["SamplingRuleRecords"][0]["SamplingRule"]["FixedRate"] == 0.25
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert [one["GroupName"] for one in xray.get_groups()["Groups"]] == ["Default"]
    assert len(xray.get_sampling_rules()["SamplingRuleRecords"]) == 1


def test_spans_are_signed_where_signatures_are_verified() -> None:
    with LocalCloud("--auth", "enforce") as cloud:
        assert export(cloud, b"{}", "application/json")[0] == 401


def test_programs_live_in_the_machines_time(cloud: LocalCloud) -> None:
    """What programs tell of themselves is found where the cloud's clock is."""
    cloud.advance(86_400)
    now = time.time_ns()
    span = {"traceId": secrets.token_hex(16), "spanId": secrets.token_hex(8), "name": "work", "kind": 2}
    span |= {"startTimeUnixNano": str(now - 1000), "endTimeUnixNano": str(now)}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    assert export(cloud, json.dumps(body).encode(), "application/json")[0] == 200
    at = time.time() + 86_400
    found = cloud.client("xray").get_trace_summaries(StartTime=at - 60, EndTime=at + 60)
    assert len(found["TraceSummaries"]) == 1
