"""ECS Exec: a client of our own for the protocol of AWS's session-manager-plugin, and that itself where it is."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import socket
import struct
import subprocess
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from test_ecs import register, run
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from cloudlet.testing import LocalCloud, eventually

_HEAD = struct.Struct(">I32sIQqQ16s32sII")


class Plugin:
    """As much of a client as a terminal needs; ``output`` is what the command has printed."""

    def __init__(self, session: dict[str, str], token: str = "") -> None:
        url = urlsplit(session["streamUrl"])
        self._socket = socket.create_connection((url.hostname, url.port), timeout=20)
        self._frames = WSConnection(ConnectionType.CLIENT)
        self._send(Request(host=url.netloc, target=f"{url.path}?{url.query}"))
        opening = {"MessageSchemaVersion": "1.0", "RequestId": str(uuid.uuid4()), "ClientId": str(uuid.uuid4())}
        self._opening = json.dumps({**opening, "TokenValue": token or session["tokenValue"]})
        self._sequence = 0
        self._expected = 0
        self.output = b""
        self.closed: dict[str, Any] | None = None
        self.refused = False
        self.is_ready = False

    def until(self, text: bytes = b"") -> bytes:
        """What has been printed, once that contains ``text``; or once the session is over."""
        while not self.closed and not self.refused and not (text and text in self.output):
            data = self._socket.recv(65536)
            self._frames.receive_data(data or None)
            for event in self._frames.events():
                if isinstance(event, AcceptConnection):
                    self._send(TextMessage(self._opening))
                elif isinstance(event, BytesMessage):
                    self._take(bytes(event.data))
                elif isinstance(event, CloseConnection):
                    self.refused = self.closed is None
        return self.output

    def type(self, data: bytes, kind: int = 1) -> None:
        """Send input; before the handshake is over it is not taken."""
        while not self.is_ready:
            self.until(b"\0ready")
        self._message("input_stream_data", data, kind, self._sequence)
        self._sequence += 1

    def _take(self, data: bytes) -> None:
        length, name, _, _, number, _, id, digest, kind, size = _HEAD.unpack_from(data)
        payload = data[length + 4 :]
        assert (length, size, hashlib.sha256(payload).digest()) == (116, len(payload), digest)
        if name.strip() == b"channel_closed":
            self.closed = json.loads(payload)
        if name.strip() != b"output_stream_data":
            return
        content = {
            "AcknowledgedMessageType": "output_stream_data",
            "AcknowledgedMessageId": str(uuid.UUID(bytes=id[8:] + id[:8])),
            "AcknowledgedMessageSequenceNumber": number,
            "IsSequentialMessage": True,
        }
        if not self.is_ready and kind == 1 and number == 2 and self._expected == 2 and not self.output:
            self.output = b" "  # as AWS's own client does while it gets ready: not acknowledged, so it comes again
            return
        self._message("acknowledge", json.dumps(content).encode())
        if number != self._expected:
            return
        self._expected += 1
        if kind == 5:
            assert json.loads(payload)["RequestedClientActions"][0]["ActionType"] == "SessionType"
            answer = {
                "ClientVersion": "1",
                "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1}],
            }
            self._message("input_stream_data", json.dumps(answer).encode(), 6, self._sequence)
            self._sequence += 1
        elif kind == 7:
            self.is_ready = True
            self.output += b"\0ready"
        elif kind == 1:
            self.output += payload

    def _message(self, name: str, payload: bytes, kind: int = 0, number: int = 0) -> None:
        digest = hashlib.sha256(payload).digest()
        head = _HEAD.pack(116, name.encode().ljust(32), 1, 1, number, 0, uuid.uuid4().bytes, digest, kind, len(payload))
        self._send(BytesMessage(head + payload))

    def _send(self, event: Any) -> None:
        self._socket.sendall(self._frames.send(event))


def _started(cloud: LocalCloud, root: str, **more: Any) -> tuple[Any, str]:
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    arn = run(cloud, register(ecs, root, "sleep", "600", **more), enableExecuteCommand=True)
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")
    return ecs, arn


def test_a_terminal_in_a_container(engine_cloud: LocalCloud, busybox: str) -> None:
    ecs, arn = _started(engine_cloud, busybox, container={"user": "other"})
    logs = engine_cloud.client("logs")
    logs.create_log_group(logGroupName="/exec")
    override = {"logging": "OVERRIDE", "logConfiguration": {"cloudWatchLogGroupName": "/exec"}}
    ecs.update_cluster(cluster="c", configuration={"executeCommandConfiguration": override})
    container = ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["containers"][0]
    assert container["managedAgents"][0]["name"] == "ExecuteCommandAgent"
    assert container["managedAgents"][0]["lastStatus"] == "RUNNING"

    answer = ecs.execute_command(cluster="c", task=arn, container="app", interactive=True, command="sh")
    assert answer["containerName"] == "app"
    session = answer["session"]
    assert session["sessionId"].startswith("ecs-execute-command-")
    plugin = Plugin(session)
    plugin.type(json.dumps({"cols": 132, "rows": 43}).encode(), 3)
    plugin.type(b"stty size; id -u; echo $((6 * 7))-$((6 * 7))\r")
    printed = plugin.until(b"42-42")
    assert b"43 132\r\n" in printed
    assert b"\r\n0\r\n" in printed  # root, whoever the container is
    # More than a window of messages, whole and in order.
    plugin.type(b"i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo e''nd\r")
    printed = plugin.until(b"\nend")
    assert b"".join(b"line %d\r\n" % number for number in range(20000)) in printed
    plugin.type(b"echo sta''rted; sleep 100\r")
    plugin.until(b"started")
    plugin.type(b"\x03")  # Ctrl-C
    plugin.type(b"exit\r")
    plugin.until()
    assert plugin.closed is not None
    assert plugin.closed["SessionId"] == session["sessionId"]

    def kept() -> list[str]:
        try:
            found = logs.get_log_events(logGroupName="/exec", logStreamName=session["sessionId"])["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [one["message"] for one in found]

    assert "42-42" in eventually(kept)[0]


def test_what_a_session_is_refused_for(engine_cloud: LocalCloud, busybox: str) -> None:
    ecs, arn = _started(engine_cloud, busybox)

    def refused(**more: Any) -> str:
        with pytest.raises(ClientError) as error:
            ecs.execute_command(**{"cluster": "c", "task": arn, "interactive": True, "command": "sh", **more})
        return f"{error.value.response['Error']['Code']}: {error.value.response['Error']['Message']}"

    assert refused(interactive=False) == "InvalidParameterException: Interactive is the only mode supported currently."
    assert refused(cluster="none").startswith("ClusterNotFoundException")
    assert refused(task="none").startswith("InvalidParameterException")
    assert refused(container="none").startswith("InvalidParameterException")
    without = run(engine_cloud, register(ecs, busybox, "sleep", "600"))
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=[without])["tasks"][0]["lastStatus"] == "RUNNING")
    assert refused(task=without).startswith(
        "InvalidParameterException: The execute command failed because execute command was not enabled"
    )
    session = ecs.execute_command(cluster="c", task=arn, interactive=True, command="sh")["session"]
    stranger = Plugin(session, token="guessed")
    stranger.until()
    assert stranger.refused
    bad = Plugin(ecs.execute_command(cluster="c", task=arn, interactive=True, command="no-such-program")["session"])
    bad.until()
    assert bad.closed is not None
    Plugin(session).until(b"#")
    ecs.execute_command(cluster="c", task=arn, interactive=True, command="sh")
    assert refused().startswith("ClientException: Unable to start new execute sessions")
    ecs.stop_task(cluster="c", task=arn)
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"] == "STOPPED")
    assert refused().startswith("InvalidParameterException: The execute command failed")


def test_aws_own_plugin(engine_cloud: LocalCloud, busybox: str) -> None:
    """``CLOUDLET_SESSION_MANAGER_PLUGIN`` is the path of one that is not installed."""
    program = os.environ.get("CLOUDLET_SESSION_MANAGER_PLUGIN") or shutil.which("session-manager-plugin")
    if program is None:
        pytest.skip("needs AWS's session-manager-plugin")
    ecs, arn = _started(engine_cloud, busybox)
    session = ecs.execute_command(cluster="c", task=arn, interactive=True, command="sh")["session"]
    document = {
        "SessionId": session["sessionId"],
        "StreamUrl": session["streamUrl"],
        "TokenValue": session["tokenValue"],
    }
    terminal, inner = pty.openpty()
    argv = [program, json.dumps(document), "us-east-1", "StartSession", "", json.dumps({"Target": "ecs:c_t_r"})]
    keys = {"AWS_ACCESS_KEY_ID": "000000000000", "AWS_SECRET_ACCESS_KEY": "test"}
    child = subprocess.Popen(
        [*argv, engine_cloud.endpoint], stdin=inner, stdout=inner, stderr=inner, env={**os.environ, **keys}
    )
    os.close(inner)
    printed = b""
    try:
        for typed, expected in (
            (b"", b"#"),
            (b"echo $((6 * 7))-$((6 * 7))\r", b"42-42"),
            (b"exit\r", b"Exiting session"),
        ):
            os.write(terminal, typed)
            while expected not in printed:
                printed += os.read(terminal, 65536)
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait()
        os.close(terminal)
