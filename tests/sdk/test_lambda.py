"""Lambda: functions of all runtimes, how they are invoked, what calls them, and what becomes of what they print."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from queues import receive

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/anyone"


def archive(**files: str) -> bytes:
    """A zip of modules: ``index="..."`` is index.py, ``index_js`` is index.js."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        for name, source in files.items():
            path = name.replace("_js", ".js").replace("_mjs", ".mjs")
            entry = zipfile.ZipInfo(path if "." in path or name == "bootstrap" else f"{name}.py")
            entry.external_attr = 0o755 << 16
            written.writestr(entry, source)
    return packed.getvalue()


def make(cloud: LocalCloud, name: str, source: str, **more: Any) -> str:
    """A Python function; returns its ARN."""
    settings: dict[str, Any] = {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE, **more}
    code = settings.pop("Code", None) or {"ZipFile": archive(index=source)}
    made = cloud.client("lambda").create_function(FunctionName=name, Code=code, **settings)
    arn: str = made["FunctionArn"]
    return arn


def invoke(cloud: LocalCloud, name: str, event: Any = None, **more: Any) -> Any:
    answer = cloud.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **more)
    return json.loads(answer["Payload"].read() or b"null")


def test_function_is_created_invoked_changed_and_deleted(cloud: LocalCloud) -> None:
    functions = cloud.client("lambda")
    source = "import os\ndef handler(event, context):\n    return {'was': event, 'mode': os.environ['MODE']}"
    arn = make(cloud, "echo", source, Environment={"Variables": {"MODE": "one"}}, Tags={"team": "red"})
    answer = functions.invoke(FunctionName="echo", Payload=b'{"a": 1}', LogType="Tail")
    told = json.loads(answer["Payload"].read())
    assert (told["was"], told["mode"]) == ({"a": 1}, "one")
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer

    functions.update_function_configuration(FunctionName="echo", Environment={"Variables": {"MODE": "two"}}, Timeout=7)
    assert invoke(cloud, arn)["mode"] == "two"
    functions.update_function_code(FunctionName="echo", ZipFile=archive(index="def handler(e, c):\n    return 'new'"))
    assert invoke(cloud, "echo") == "new"

    found = functions.get_function(FunctionName="echo")
    assert found["Configuration"]["Timeout"] == 7
    assert found["Tags"] == {"team": "red"}
    with urllib.request.urlopen(found["Code"]["Location"]) as download:
        assert zipfile.ZipFile(io.BytesIO(download.read())).namelist() == ["index.py"]

    functions.delete_function(FunctionName="echo")
    with pytest.raises(functions.exceptions.ResourceNotFoundException) as gone:
        functions.invoke(FunctionName="echo")
    assert gone.value.response["Error"]["Message"] == f"Function not found: {arn}"


def test_errors_and_timeouts_are_told_as_lambda_tells_them(cloud: LocalCloud) -> None:
    source = """
import time, sys
def handler(event, context):
    print("doing", event["do"])
    if event["do"] == "sleep":
        time.sleep(30)
    if event["do"] == "exit":
        sys.exit(3)
    if event["do"] == "grow":
        return len(bytearray(1 << 30))
    raise KeyError(event["do"])
"""
    make(cloud, "fails", source, Timeout=1)
    functions = cloud.client("lambda")
    answer = functions.invoke(FunctionName="fails", Payload=b'{"do": "raise"}', LogType="Tail")
    told = json.loads(answer["Payload"].read())
    assert answer["FunctionError"] == "Unhandled"
    assert (told["errorType"], told["errorMessage"]) == ("KeyError", "'raise'")
    assert told["stackTrace"]
    assert "Task timed out after 1.00 seconds" in invoke(cloud, "fails", {"do": "sleep"})["errorMessage"]
    assert invoke(cloud, "fails", {"do": "exit"})["errorMessage"].endswith("exited with error: exit status 3")
    told = invoke(cloud, "fails", {"do": "grow"})
    assert (told["errorType"], told["errorMessage"][-14:]) == ("Runtime.ExitError", "signal: killed")

    make(cloud, "broken", "import nothing_of_that_name")
    assert invoke(cloud, "broken")["errorType"] == "Runtime.ImportModuleError"
    with pytest.raises(ClientError) as wrong:
        functions.invoke(FunctionName="fails", Payload=b"{not json")
    assert wrong.value.response["Error"]["Code"] == "InvalidRequestContentException"


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not on this machine")
def test_node_and_provided_runtimes(cloud: LocalCloud) -> None:
    source = "exports.handler = async (event) => ({ twice: event.n * 2 });"
    make(cloud, "node", "", Runtime="nodejs20.x", Code={"ZipFile": archive(index_js=source)})
    assert invoke(cloud, "node", {"n": 21}) == {"twice": 42}

    shell = r"""#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  event=$(curl -sS -D /tmp/headers "$api/next")
  id=$(grep -i lambda-runtime-aws-request-id /tmp/headers | tr -d '\r' | cut -d' ' -f2)
  curl -sS -X POST "$api/$id/response" -d "{\"shell\": $event}" > /dev/null
done
"""
    make(cloud, "shell", "", Runtime="provided.al2023", Code={"ZipFile": archive(bootstrap=shell)})
    assert invoke(cloud, "shell", [1, 2]) == {"shell": [1, 2]}


@pytest.mark.skipif(not shutil.which("javac"), reason="a JDK is not on this machine")
def test_java_runtime(cloud: LocalCloud, tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "Greeter.java").write_text("""
        import java.util.*;
        public class Greeter {
            public static class Order { private String name; private int count;
                public void setName(String n) { name = n; } public void setCount(int c) { count = c; }
                public String getName() { return name; } public int getCount() { return count; } }
            public Map<String, Object> handle(Order order) {
                if (order.getCount() < 0) throw new IllegalStateException("too few");
                return Map.of("greeting", "hello " + order.getName(), "order", order);
            }
        }""")
    subprocess.run(["javac", "Greeter.java"], cwd=tmp_path, check=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        for path in tmp_path.glob("*.class"):
            written.write(path, path.name)
    code = {"ZipFile": packed.getvalue()}
    make(cloud, "java", "", Runtime="java17", Handler="Greeter::handle", Code=code, MemorySize=256, Timeout=30)
    told = invoke(cloud, "java", {"name": "Zoë", "count": 2, "unknown": None})
    assert told == {"greeting": "hello Zoë", "order": {"name": "Zoë", "count": 2}}
    assert invoke(cloud, "java", {"name": "x", "count": -1})["errorType"] == "java.lang.IllegalStateException"


def test_versions_aliases_layers_and_permissions(cloud: LocalCloud) -> None:
    functions = cloud.client("lambda")
    layer = functions.publish_layer_version(
        LayerName="shared", Content={"ZipFile": archive(**{"python/shared.py": "WORD = 'layer'"})}
    )
    source = "import shared\ndef handler(e, c):\n    return [shared.WORD, c.function_version, c.invoked_function_arn]"
    arn = make(cloud, "one", source, Layers=[layer["LayerVersionArn"]], Publish=True)
    assert arn.endswith(":one")
    functions.create_alias(FunctionName="one", Name="live", FunctionVersion="1")
    assert invoke(cloud, "one", Qualifier="live")[:2] == ["layer", "1"]
    assert functions.publish_version(FunctionName="one")["Version"] == "1"
    functions.update_function_configuration(FunctionName="one", Description="changed")
    assert functions.publish_version(FunctionName="one")["Version"] == "2"
    functions.update_alias(FunctionName="one", Name="live", FunctionVersion="2")
    assert invoke(cloud, "one:live")[1] == "2"
    assert [one["Version"] for one in functions.list_versions_by_function(FunctionName="one")["Versions"]] == [
        *("$LATEST", "1", "2")
    ]
    with pytest.raises(functions.exceptions.ResourceConflictException):
        functions.delete_function(FunctionName="one", Qualifier="2")

    functions.add_permission(
        FunctionName="one", StatementId="s", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com"
    )
    policy = json.loads(functions.get_policy(FunctionName="one")["Policy"])
    assert policy["Statement"][0]["Principal"] == {"Service": "sns.amazonaws.com"}


EXTENSION = """#!/bin/sh
cat >/tmp/extension.py <<'end'
import json, os, time, urllib.request
api = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}"
def ask(path, body=None, **headers):
    request = urllib.request.Request(api + path, data=body, headers=headers)
    return urllib.request.urlopen(request, timeout=60)
said = ask("/2020-01-01/extension/register", b'{"events": ["INVOKE", "SHUTDOWN"]}', **{"Lambda-Extension-Name": "spy"})
id = said.headers["Lambda-Extension-Identifier"]
print("spy of", json.load(said)["functionName"], flush=True)
request = urllib.request.Request(api + "/2022-07-01/telemetry", data=b"{}", method="PUT")
print(json.load(urllib.request.urlopen(request))["errorType"], flush=True)
while True:
    event = json.load(ask("/2020-01-01/extension/event/next", **{"Lambda-Extension-Identifier": id}))
    print("spy saw", event["eventType"], event.get("requestId") or event["shutdownReason"], flush=True)
    if event["eventType"] == "SHUTDOWN":
        time.sleep(0.3)
        print("spy has tidied up", flush=True)
        break
    time.sleep(0.2)
end
exec PYTHON /tmp/extension.py /opt/extensions/spy
"""


def test_extensions_of_a_layer_run_beside_the_runtime(cloud: LocalCloud) -> None:
    functions = cloud.client("lambda")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        entry = zipfile.ZipInfo("extensions/spy")
        entry.external_attr = 0o755 << 16
        made.writestr(entry, EXTENSION.replace("PYTHON", os.path.realpath(sys.executable)))
    layer = functions.publish_layer_version(LayerName="spy", Content={"ZipFile": packed.getvalue()})
    make(cloud, "watched", "def handler(e, c):\n    return c.aws_request_id", Layers=[layer["LayerVersionArn"]])
    ids = [invoke(cloud, "watched") for _ in range(2)]
    # A deleted version stays with the functions that have it, and its number is not given again.
    functions.delete_layer_version(LayerName="spy", VersionNumber=1)
    assert functions.list_layer_versions(LayerName="spy")["LayerVersions"] == []
    functions.update_function_configuration(FunctionName="watched", Timeout=5)
    ids.append(invoke(cloud, "watched"))
    again = functions.publish_layer_version(LayerName="spy", Content={"ZipFile": packed.getvalue()})
    assert again["Version"] == 2

    def lines() -> list[str]:
        events = cloud.client("logs").filter_log_events(logGroupName="/aws/lambda/watched")["events"]
        return [event["message"].strip() for event in events]

    eventually(lambda: "spy has tidied up" in lines())
    seen = lines()
    assert "spy of watched" in seen
    assert "Telemetry.NotSupported" in seen
    assert [line for line in seen if line.startswith("spy saw INVOKE")] == [f"spy saw INVOKE {id}" for id in ids]
    assert "spy saw SHUTDOWN spindown" in seen


def test_concurrency_is_used_and_limited(cloud: LocalCloud) -> None:
    from concurrent.futures import ThreadPoolExecutor

    functions = cloud.client("lambda")
    source = "import time, uuid\nown = str(uuid.uuid4())\ndef handler(e, c):\n    time.sleep(0.5)\n    return own"
    make(cloud, "slow", source)
    with ThreadPoolExecutor(4) as pool:
        sandboxes = set(pool.map(lambda _: invoke(cloud, "slow"), range(4)))
    assert len(sandboxes) == 4
    functions.put_function_concurrency(FunctionName="slow", ReservedConcurrentExecutions=1)

    functions.put_function_concurrency(FunctionName="slow", ReservedConcurrentExecutions=0)
    with pytest.raises(functions.exceptions.TooManyRequestsException):
        functions.invoke(FunctionName="slow")


def sandboxes_of(cloud: LocalCloud) -> set[int]:
    """The processes of functions."""
    found = set()
    for child in psutil.Process(cloud.pid).children():
        with contextlib.suppress(psutil.Error):  # it is ending just now
            if "bootstrap.py" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_provisioned_sandboxes_are_ready_and_stay(cloud: LocalCloud) -> None:
    functions = cloud.client("lambda")
    source = "import os\ndef handler(e, c):\n    return [os.getpid(), os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']]"
    make(cloud, "ready", source)
    functions.publish_version(FunctionName="ready")
    functions.create_alias(FunctionName="ready", Name="live", FunctionVersion="1")
    config = {"FunctionName": "ready", "Qualifier": "live"}
    put = functions.put_provisioned_concurrency_config(**config, ProvisionedConcurrentExecutions=2)
    assert (put["Status"], put["AvailableProvisionedConcurrentExecutions"]) == ("READY", 2)

    def sandboxes() -> int:
        return len(sandboxes_of(cloud))

    assert sandboxes() == 2
    answer = functions.invoke(FunctionName="ready:live")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/json"
    pid, kind = json.loads(answer["Payload"].read())
    assert kind == "provisioned-concurrency"
    cloud.advance(3600)
    assert invoke(cloud, "ready:live")[0] == pid
    assert sandboxes() == 2
    cloud.kill()
    cloud.start()
    functions = cloud.client("lambda")
    functions.get_account_settings()
    eventually(lambda: sandboxes() == 2)
    # The version that an alias means next is made ready, and the former one goes when it is quiet.
    functions.update_function_code(FunctionName="ready", ZipFile=archive(index=source + " + [2]"), Publish=True)
    functions.update_alias(FunctionName="ready", Name="live", FunctionVersion="2")
    eventually(lambda: sandboxes() == 4)

    def later() -> int:
        cloud.advance(700)
        return sandboxes()

    eventually(lambda: later() == 2)
    assert invoke(cloud, "ready:live")[1:] == ["provisioned-concurrency", 2]
    functions.delete_provisioned_concurrency_config(**config)
    eventually(lambda: later() == 0)


def test_a_provisioned_sandbox_that_dies_is_replaced(cloud: LocalCloud) -> None:
    functions = cloud.client("lambda")
    source = """
import os, time
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
"""
    make(cloud, "ready", source, Timeout=1, Publish=True)
    functions.put_provisioned_concurrency_config(FunctionName="ready", Qualifier="1", ProvisionedConcurrentExecutions=1)

    (first,) = sandboxes_of(cloud)
    assert "timed out" in invoke(cloud, "ready:1", {"sleep": 5})["errorMessage"]
    eventually(lambda: len(now := sandboxes_of(cloud)) == 1 and first not in now)
    assert invoke(cloud, "ready:1") == "provisioned-concurrency"
    assert len(sandboxes_of(cloud)) == 1


def test_a_burst_is_served_by_what_becomes_free(cloud: LocalCloud) -> None:
    """More at once than sandboxes start at once: whoever waits takes the first free one, new or used."""
    from concurrent.futures import ThreadPoolExecutor

    make(cloud, "burst", "def handler(e, c):\n    return e")
    clients = [cloud.client("lambda") for _ in range(12)]

    def several(number: int) -> list[int]:
        answers = [clients[number].invoke(FunctionName="burst", Payload=str(n).encode()) for n in range(10)]
        return [json.loads(answer["Payload"].read()) for answer in answers]

    started = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(several, range(12))) == [list(range(10))] * 12
    assert time.monotonic() - started < 10


def test_logging_in_text_and_in_json(cloud: LocalCloud) -> None:
    logs = cloud.client("logs")
    source = """
import logging
logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
def handler(event, context):
    logger.debug("unseen")
    logger.info("sold %s", event["what"], extra={"price": 3})
"""
    make(cloud, "text", source)
    json_log = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", "LogGroup": "shop"}
    make(cloud, "json", source, LoggingConfig=json_log)
    invoke(cloud, "text", {"what": "bread"})
    invoke(cloud, "json", {"what": "milk"})

    def lines(group: str) -> list[str]:
        try:
            found = [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return found if any("REPORT" in line or "platform.report" in line for line in found) else []

    (told,) = [line for line in eventually(lambda: lines("/aws/lambda/text")) if "sold" in line]
    level, _, request_id, message = told.rstrip("\n").split("\t")
    assert (level, message) == ("[INFO]", "sold bread")
    assert len(request_id) == 36
    entries = [json.loads(line) for line in eventually(lambda: lines("shop"))]
    (sold,) = [entry for entry in entries if entry.get("message") == "sold milk"]
    assert (sold["level"], sold["logger"], sold["price"]) == ("INFO", "shop", 3)
    (report,) = [entry for entry in entries if entry.get("type") == "platform.report"]
    assert report["record"]["requestId"] == sold["requestId"]
    assert report["record"]["metrics"]["memorySizeMB"] == 128


def test_invocation_with_a_response_stream_and_a_trace(cloud: LocalCloud) -> None:
    functions = cloud.client("lambda")
    make(cloud, "echo", "import os\ndef handler(e, c):\n    return os.environ['_X_AMZN_TRACE_ID']")
    stream = functions.invoke_with_response_stream(FunctionName="echo", LogType="Tail")
    events = list(stream["EventStream"])
    assert b"Root=" in events[0]["PayloadChunk"]["Payload"]
    assert "LogResult" in events[-1]["InvokeComplete"]
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    functions.meta.events.register(
        "before-send.lambda.Invoke", lambda request, **_: request.headers.update({"X-Amzn-Trace-Id": trace})
    )
    # The parent of what the function reports is its own segment.
    passed = re.fullmatch(r"(Root=[0-9a-f-]+);Parent=([0-9a-f]{16});Sampled=1", invoke_with(functions, "echo"))
    assert passed is not None
    assert passed[1] in trace
    assert passed[2] not in trace


def invoke_with(client: Any, name: str) -> Any:
    return json.loads(client.invoke(FunctionName=name)["Payload"].read())


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not on this machine")
def test_streamed_answer_of_a_function_url(cloud: LocalCloud) -> None:
    source = """
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event.rawPath === "/plain") { stream.write("just "); stream.end("bytes"); return; }
  if (event.rawPath === "/fails") throw new RangeError("no");
  const prelude = { statusCode: 418, headers: { "x-kind": "teapot" }, cookies: ["a=b"] };
  stream = awslambda.HttpResponseStream.from(stream, prelude);
  stream.write("first,");
  await new Promise((resolve) => setTimeout(resolve, 1000));
  stream.end("second");
});
"""
    make(cloud, "pour", "", Runtime="nodejs20.x", Code={"ZipFile": archive(index_mjs=source)}, Timeout=10)
    functions = cloud.client("lambda")
    url = functions.create_function_url_config(FunctionName="pour", AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    with urllib.request.urlopen(url["FunctionUrl"] + "plain") as answer:
        assert answer.read() == b"just bytes"
    with pytest.raises(urllib.error.HTTPError) as teapot:
        urllib.request.urlopen(url["FunctionUrl"])
    assert (teapot.value.code, teapot.value.headers["x-kind"]) == (418, "teapot")
    assert teapot.value.headers["set-cookie"] == "a=b"
    assert teapot.value.read(6) == b"first,"
    first = time.monotonic()
    assert teapot.value.read() == b"second"
    assert time.monotonic() - first > 0.3, "the first part was held back until the second"
    teapot.value.close()
    assert invoke(cloud, "pour", {"rawPath": "/fails"})["errorType"] == "RangeError"
    chunks = functions.invoke_with_response_stream(FunctionName="pour", Payload=b'{"rawPath": "/plain"}')
    assert b"".join(e["PayloadChunk"]["Payload"] for e in chunks["EventStream"] if "PayloadChunk" in e) == b"just bytes"


def test_queue_is_worked_off_and_failed_messages_come_back(cloud: LocalCloud) -> None:
    sqs, functions = cloud.client("sqs"), cloud.client("lambda")
    work = sqs.create_queue(QueueName="work")["QueueUrl"]
    done = sqs.create_queue(QueueName="done")["QueueUrl"]
    source = """
import boto3, os
sqs = boto3.client("sqs")
def handler(event, context):
    failed = []
    for record in event["Records"]:
        if record["body"] == "bad" and record["attributes"]["ApproximateReceiveCount"] == "1":
            failed.append({"itemIdentifier": record["messageId"]})
        else:
            sqs.send_message(QueueUrl=os.environ["DONE"], MessageBody=record["body"] + record["eventSource"])
    return {"batchItemFailures": failed}
"""
    make(cloud, "worker", source, Environment={"Variables": {"DONE": done}}, Timeout=10)
    arn = sqs.get_queue_attributes(QueueUrl=work, AttributeNames=["All"])["Attributes"]["QueueArn"]
    mapping = functions.create_event_source_mapping(
        EventSourceArn=arn, FunctionName="worker", FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    for body in ("good", "bad"):
        sqs.send_message(QueueUrl=work, MessageBody=body)
    assert [message["Body"] for message in receive(cloud, done)] == ["goodaws:sqs"]
    cloud.advance(31)
    assert eventually(lambda: receive(cloud, done, 1))[0]["Body"] == "badaws:sqs"

    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    sqs.send_message(QueueUrl=work, MessageBody="later")
    assert receive(cloud, done, 1) == []
    cloud.kill()
    cloud.start()
    functions = cloud.client("lambda")
    assert receive(cloud, done, 0) == []
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    assert receive(cloud, done)[0]["Body"] == "lateraws:sqs"
    functions.delete_event_source_mapping(UUID=mapping["UUID"])
    assert functions.list_event_source_mappings()["EventSourceMappings"] == []


def test_stream_of_a_table_is_worked_off_in_order(cloud: LocalCloud) -> None:
    """Only what passes the filter, a poison record given up after its tries, and the place kept over a kill."""
    functions, dynamodb, sqs = cloud.client("lambda"), cloud.client("dynamodb"), cloud.client("sqs")
    done = sqs.create_queue(QueueName="done")["QueueUrl"]
    lost = sqs.create_queue(QueueName="lost")["QueueUrl"]
    lost_arn = sqs.get_queue_attributes(QueueUrl=lost, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    stream = dynamodb.create_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )["TableDescription"]["LatestStreamArn"]
    source = """
import boto3, os
sqs = boto3.client("sqs")
def handler(event, context):
    for record in event["Records"]:
        id = record["dynamodb"]["Keys"]["id"]["S"]
        if id == "poison":
            raise ValueError(id)
        sqs.send_message(QueueUrl=os.environ["DONE"], MessageBody=record["eventName"] + id)
"""
    make(cloud, "follow", source, Environment={"Variables": {"DONE": done}}, Timeout=10)
    functions.create_event_source_mapping(
        EventSourceArn=stream,
        FunctionName="follow",
        StartingPosition="TRIM_HORIZON",
        BatchSize=1,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": lost_arn}},
        FilterCriteria={"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]},
    )

    def put(*ids: str) -> None:
        for id in ids:
            cloud.client("dynamodb").put_item(TableName="orders", Item={"id": {"S": id}})

    put("a", "b")
    cloud.client("dynamodb").delete_item(TableName="orders", Key={"id": {"S": "a"}})
    put("poison", "c")
    seen: list[str] = []

    def three() -> bool:
        cloud.advance(2)
        seen.extend(message["Body"] for message in receive(cloud, done, 0))
        return len(seen) >= 3

    eventually(three, 20)
    assert sorted(seen) == ["INSERTa", "INSERTb", "INSERTc"]
    record = json.loads(receive(cloud, lost)[0]["Body"])
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["DDBStreamBatchInfo"]["batchSize"] == 1
    cloud.kill()
    cloud.start()
    put("d")
    assert [message["Body"] for message in receive(cloud, done)] == ["INSERTd"]


def test_batches_of_a_shard_run_side_by_side_and_an_item_stays_in_order(cloud: LocalCloud) -> None:
    dynamodb, functions = cloud.client("dynamodb"), cloud.client("lambda")
    stream = dynamodb.create_table(
        TableName="orders",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )["TableDescription"]["LatestStreamArn"]
    done = cloud.client("sqs").create_queue(QueueName="done")["QueueUrl"]
    source = """
import boto3, json, os, time
sqs = boto3.client("sqs")
def handler(event, context):
    began = time.time()
    time.sleep(0.3)
    seen = [[r["dynamodb"]["Keys"]["id"]["S"], r["dynamodb"]["NewImage"]["n"]["N"]] for r in event["Records"]]
    sqs.send_message(QueueUrl=os.environ["DONE"], MessageBody=json.dumps([began, time.time(), seen]))
"""
    make(cloud, "follow", source, Environment={"Variables": {"DONE": done}}, Timeout=10)
    for number in range(3):
        for id in "abcdef":
            dynamodb.put_item(TableName="orders", Item={"id": {"S": id}, "n": {"N": str(number)}})
    functions.create_event_source_mapping(
        EventSourceArn=stream, FunctionName="follow", StartingPosition="TRIM_HORIZON", ParallelizationFactor=4
    )
    batches: list[Any] = []

    def all_there() -> bool:
        batches.extend(json.loads(message["Body"]) for message in receive(cloud, done, 1))
        return sum(len(seen) for _, _, seen in batches) >= 18

    eventually(all_there, 20)
    assert len(batches) > 1
    assert max(began for began, _, _ in batches) < min(ended for _, ended, _ in batches)
    for id in "abcdef":
        (numbers,) = [found for _, _, seen in batches if (found := [n for one, n in seen if one == id])]
        assert numbers == ["0", "1", "2"]


def test_accepted_event_is_tried_again_and_told_of(cloud: LocalCloud) -> None:
    sqs, functions = cloud.client("sqs"), cloud.client("lambda")
    failed = sqs.create_queue(QueueName="failed")["QueueUrl"]
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arns = [
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        for url in (failed, dead)
    ]
    make(cloud, "bad", "def handler(e, c):\n    raise ValueError('no')", DeadLetterConfig={"TargetArn": arns[1]})
    functions.put_function_event_invoke_config(
        FunctionName="bad", MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": arns[0]}}
    )
    accepted = functions.invoke(FunctionName="bad", InvocationType="Event", Payload=b'{"n": 1}')
    assert accepted["StatusCode"] == 202
    assert receive(cloud, failed, 1) == []
    cloud.kill()
    cloud.start()
    cloud.advance(61)
    record = json.loads(receive(cloud, failed)[0]["Body"])
    assert record["requestPayload"] == {"n": 1}
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responsePayload"]["errorType"] == "ValueError"
    message = receive(cloud, dead)[0]
    assert json.loads(message["Body"]) == {"n": 1}
    assert message["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no"


def test_function_url_answers(cloud: LocalCloud) -> None:
    source = (
        "def handler(e, _):\n return {'statusCode': 201, 'body': e['requestContext']['http']['method'] + e['rawPath']}"
    )
    make(cloud, "web", source)
    functions = cloud.client("lambda")
    url = functions.create_function_url_config(FunctionName="web", AuthType="NONE")["FunctionUrl"]
    with urllib.request.urlopen(url + "a/b?x=1") as answer:
        assert (answer.status, answer.read()) == (201, b"GET/a/b")
    functions.update_function_url_config(FunctionName="web", AuthType="AWS_IAM")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url)
    assert refused.value.code == 403
    refused.value.close()


def test_changed_file_of_a_local_folder_serves_the_next_invocation(cloud: LocalCloud, tmp_path: Path) -> None:
    code = tmp_path / "index.py"
    code.write_text("def handler(e, c):\n    return 1")
    make(cloud, "live", "", Code={"S3Bucket": "hot-reload", "S3Key": str(tmp_path)})
    assert invoke(cloud, "live") == 1
    code.write_text("def handler(e, c):\n    return 2")
    eventually(lambda: invoke(cloud, "live") == 2, 2)


def test_what_a_function_prints_is_in_its_log(cloud: LocalCloud) -> None:
    logs = cloud.client("logs")
    make(cloud, "talks", "def handler(e, c):\n    print('hello there')")
    invoke(cloud, "talks")

    def lines() -> list[str]:
        try:
            return [event["message"] for event in logs.filter_log_events(logGroupName="/aws/lambda/talks")["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []

    found = eventually(lambda: (seen := lines()) and "REPORT" in "".join(seen) and seen)
    assert "hello there\n" in found
    assert any(line.startswith("START RequestId: ") for line in found)


def test_code_comes_from_a_bucket(cloud: LocalCloud) -> None:
    functions, s3 = cloud.client("lambda"), cloud.client("s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="one.zip", Body=archive(index="def handler(e, c):\n    return 1"))
    make(cloud, "stored", "", Code={"S3Bucket": "code", "S3Key": "one.zip"})
    assert invoke(cloud, "stored") == 1
    s3.put_object(Bucket="code", Key="two.zip", Body=archive(index="def handler(e, c):\n    return 2"))
    functions.update_function_code(FunctionName="stored", S3Bucket="code", S3Key="two.zip")
    assert invoke(cloud, "stored") == 2
    with pytest.raises(functions.exceptions.InvalidParameterValueException, match="NoSuchKey"):
        functions.update_function_code(FunctionName="stored", S3Bucket="code", S3Key="none.zip")


@pytest.mark.skipif(not shutil.which("javac"), reason="a JDK is not on this machine")
def test_java_interfaces(cloud: LocalCloud, tmp_path: Path) -> None:
    """RequestHandler with a POJO and a context, and RequestStreamHandler, in a jar beside the classes."""
    import subprocess

    package = tmp_path / "com/amazonaws/services/lambda/runtime"
    package.mkdir(parents=True)
    for name, source in {
        "Context": "public interface Context { String getAwsRequestId(); String getFunctionName();"
        " int getMemoryLimitInMB(); int getRemainingTimeInMillis(); LambdaLogger getLogger(); }",
        "LambdaLogger": "public interface LambdaLogger { void log(String message); }",
        "RequestHandler": "public interface RequestHandler<I, O> { O handleRequest(I input, Context context); }",
        "RequestStreamHandler": "public interface RequestStreamHandler { void handleRequest(java.io.InputStream in,"
        " java.io.OutputStream out, Context context) throws java.io.IOException; }",
    }.items():
        (package / f"{name}.java").write_text(f"package com.amazonaws.services.lambda.runtime;\n{source}")
    (tmp_path / "Typed.java").write_text("""
        import com.amazonaws.services.lambda.runtime.*;
        public class Typed implements RequestHandler<Typed.Order, Typed.Answer> {
            public record Order(String name, java.util.List<Integer> counts) {}
            public static class Answer { public String text; public int sum; }
            public Answer handleRequest(Order order, Context context) {
                context.getLogger().log("for " + order.name());
                Answer answer = new Answer();
                answer.text = order.name() + context.getFunctionName() + context.getMemoryLimitInMB();
                answer.sum = order.counts().stream().mapToInt(i -> i).sum();
                return answer;
            }
        }""")
    (tmp_path / "Raw.java").write_text("""
        import com.amazonaws.services.lambda.runtime.*;
        public class Raw implements RequestStreamHandler {
            public void handleRequest(java.io.InputStream in, java.io.OutputStream out, Context c)
                    throws java.io.IOException { out.write(in.readAllBytes()); }
        }""")
    sources = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.java")]
    subprocess.run(["javac", *sources], cwd=tmp_path, check=True)
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as written:
        for path in package.glob("*.class"):
            written.write(path, str(path.relative_to(tmp_path)))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr("lib/core.jar", jar.getvalue())
        for path in tmp_path.glob("*.class"):
            written.write(path, path.name)
    settings: dict[str, Any] = {"Runtime": "java17", "Code": {"ZipFile": packed.getvalue()}, "Timeout": 30}
    make(cloud, "typed", "", Handler="Typed", MemorySize=256, **settings)
    make(cloud, "raw", "", Handler="Raw::handleRequest", MemorySize=256, **settings)
    assert invoke(cloud, "typed", {"name": "Zoë", "counts": [1, 2, 3]}) == {"text": "Zoëtyped256", "sum": 6}
    assert invoke(cloud, "raw", {"as": ["it", "is"]}) == {"as": ["it", "is"]}


def test_bad_archives_are_refused(cloud: LocalCloud) -> None:
    functions = cloud.client("lambda")
    outside = io.BytesIO()
    with zipfile.ZipFile(outside, "w") as written:
        written.writestr("../../outside.py", "x")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("zeros", b"\0" * (300 << 20))
    for data in (b"no zip", outside.getvalue(), bomb.getvalue()):
        with pytest.raises(functions.exceptions.InvalidParameterValueException):
            make(cloud, "bad", "", Code={"ZipFile": data})
    assert functions.list_functions()["Functions"] == []
    assert not list(cloud.data_dir.glob("lambda/code/*"))


def test_what_is_not_there_is_told_in_the_words_of_each_operation(cloud: LocalCloud) -> None:
    """Lambda has no one way to say it; tools match these texts."""
    client = cloud.client("lambda")
    arn = make(cloud, "known", "def handler(event, context):\n    return 1\n")
    client.create_alias(FunctionName="known", Name="live", FunctionVersion="$LATEST")
    nowhere = arn.replace("known", "nowhere")

    def refused(operation: str, code: str, words: str, **input: Any) -> None:
        with pytest.raises(ClientError) as error:
            getattr(client, operation)(**input)
        assert (error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]) == (code, words)

    missing = "ResourceNotFoundException"
    refused("get_function", missing, f"Function not found: {nowhere}", FunctionName="nowhere")
    refused("get_function_url_config", missing, "The resource you requested does not exist.", FunctionName="nowhere")
    refused("create_function_url_config", missing, "Function does not exist", FunctionName="nowhere", AuthType="NONE")
    config = f"The function {nowhere}:$LATEST doesn't have an EventInvokeConfig"
    refused("get_function_event_invoke_config", missing, config, FunctionName="nowhere")
    refused("update_alias", missing, f"Alias not found: {arn}:old", FunctionName="known", Name="old")
    refused("get_alias", missing, f"Cannot find alias arn: {arn}:old", FunctionName="known", Name="old")
    elsewhere = "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
    refused("get_function", missing, elsewhere, FunctionName=arn.replace("us-east-1", "eu-west-1"))

    wrong = "InvalidParameterValueException"
    mismatch = "The derived qualifier from the function name does not match the specified qualifier."
    refused("get_function", wrong, mismatch, FunctionName="known:live", Qualifier="1")
    last = "$LATEST version cannot be deleted without deleting the function."
    refused("delete_function", wrong, last, FunctionName="known", Qualifier="$LATEST")
    tagged = "Tags on function aliases and versions are not supported. Please specify a function ARN."
    refused("tag_resource", wrong, tagged, Resource=f"{arn}:live", Tags={"a": "b"})
    permission = {"FunctionName": "known", "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}
    latest = "We currently do not support adding policies for $LATEST."
    refused("add_permission", wrong, latest, **permission, Qualifier="$LATEST")
    stale = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest "
        "Revision Id"
    )
    refused("add_permission", "PreconditionFailedException", stale, **permission, RevisionId="old")
    refused("get_policy", missing, "The resource you requested does not exist.", FunctionName="known")

    # A version that is gone is deleted without a word, and lists do not speak of states.
    assert client.delete_function(FunctionName="known", Qualifier="7")["ResponseMetadata"]["HTTPStatusCode"] == 204
    (listed,) = client.list_functions()["Functions"]
    assert listed["FunctionName"] == "known"
    assert not {"State", "LastUpdateStatus"} & set(listed)
