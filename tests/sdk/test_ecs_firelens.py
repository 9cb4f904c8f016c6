"""FireLens: a router that writes down what it is given, by the protocol of Fluent Bit and Fluentd."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from test_ecs import register, run, stopped

from cloudlet.testing import LocalCloud, eventually

_ROUTER = """
import base64, os, socket, sys
print("config " + base64.b64encode(open("/fluent-bit/etc/fluent-bit.conf", "rb").read()).decode(), flush=True)
print("key " + os.environ["api_key_app"], flush=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind("/var/run/fluent.sock")
listener.listen()
while True:
    peer, _ = listener.accept()
    while data := peer.recv(65536):
        print("data " + base64.b64encode(data).decode(), flush=True)
"""


def _log(group: str) -> dict[str, Any]:
    options = {"awslogs-group": group, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "r"}
    return {"logDriver": "awslogs", "options": {**options, "awslogs-create-group": "true"}}


def test_a_router_gets_the_lines_of_the_others(engine_cloud: LocalCloud, busybox: str, tmp_path: Path) -> None:
    if shutil.which("python3", path="/usr/bin:/bin") is None:
        pytest.skip("needs the system's python3")
    (tmp_path / "router.py").write_text(_ROUTER)
    tmp_path.chmod(0o755)
    ecs, logs = engine_cloud.client("ecs"), engine_cloud.client("logs")
    ecs.create_cluster(clusterName="c")
    engine_cloud.client("ssm").put_parameter(Name="/key", Value="hush", Type="SecureString")
    router = {
        "name": "log_router",
        "image": str(tmp_path),
        "command": ["/usr/bin/python3", "router.py"],
        "firelensConfiguration": {
            "type": "fluentbit",
            "options": {"config-file-type": "file", "config-file-value": "/x"},
        },
        "logConfiguration": _log("/router"),
        "stopTimeout": 2,
    }
    routed = {
        "logDriver": "awsfirelens",
        "options": {"Name": "http", "host": "logs.example", "exclude-pattern": "noise"},
        "secretOptions": [{"name": "api_key", "valueFrom": "/key"}],
    }
    script = "echo $FLUENT_HOST:$FLUENT_PORT; echo oh >&2; sleep 1; echo last"
    definition = register(
        ecs, busybox, "sh", "-c", script, others=[router], container={"logConfiguration": routed}, family="routed"
    )
    arn = run(engine_cloud, definition)
    id = arn.rpartition("/")[2]
    ended = stopped(ecs, arn)
    assert ended["stopCode"] == "EssentialContainerExited", ended

    stream = f"r/log_router/{id}"
    told = eventually(lambda: logs.get_log_events(logGroupName="/router", logStreamName=stream)["events"])
    said = [one["message"].split(" ", 1) for one in told]
    texts = {kind: base64.b64decode(text) for kind, text in said if kind == "config"}
    assert ["key", "hush"] in said
    config = texts["config"].decode()
    tag = f"app-firelens-{id}"
    assert "[INPUT]\n    Name forward\n    unix_path /var/run/fluent.sock\n" in config
    assert f"[FILTER]\n    Name grep\n    Match {tag}\n    Exclude log noise\n" in config
    assert (
        f"    Record ecs_cluster c\n    Record ecs_task_arn {arn}\n    Record ecs_task_definition routed:1\n" in config
    )
    assert "@INCLUDE /x\n" in config
    assert f"[OUTPUT]\n    Name http\n    Match {tag}\n    host logs.example\n    api_key ${{api_key_app}}\n" in config

    decoder = b"".join(base64.b64decode(text) for kind, text in said if kind == "data")
    records = list(_messages(decoder))
    assert {one[0] for one in records} == {tag}
    assert [one[2]["log"] for one in records if one[2]["source"] == "stdout"] == ["127.0.0.1:24224", "last"]
    assert [one[2]["log"] for one in records if one[2]["source"] == "stderr"] == ["oh"]
    assert records[0][2]["container_name"].startswith("/")
    assert records[0][2]["container_id"] == ended["containers"][0]["runtimeId"]


def _messages(data: bytes) -> Any:
    """The messages that were sent one after the other: each begins as a list of three with the tag's length."""
    start = b"\x93\xd9"
    for part in data.split(start)[1:]:
        yield msgspec.msgpack.decode(start + part)


def test_what_does_not_go_together(cloud: LocalCloud) -> None:
    ecs = cloud.client("ecs")
    routed = {"logConfiguration": {"logDriver": "awsfirelens", "options": {"Name": "null"}}}
    with pytest.raises(ClientError, match="firelensConfiguration"):
        register(ecs, "/x", "true", container=routed)
    log = {**_log("/x"), "secretOptions": [{"name": "a", "valueFrom": "b"}]}
    with pytest.raises(ClientError, match="secretOptions for the log driver awslogs"):
        register(ecs, "/x", "true", container={"logConfiguration": log})
