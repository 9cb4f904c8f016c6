"""ECS Exec: a command in a running container, with a terminal, for AWS's session-manager-plugin.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudlet.control.clock import Timer
from cloudlet.engines.containers.api import CannotStart, EngineMissing
from cloudlet.errors import AwsError, not_implemented
from cloudlet.http import Request, Response
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import data_channel, preparing
from cloudlet.services.ecs.base import client_error, invalid, last
from cloudlet.services.ecs.data_channel import Channel, Message
from cloudlet.services.ecs.metadata import Metadata
from cloudlet.services.ecs.records import Container, Task
from cloudlet.services.ecs.shipping import SELF

if TYPE_CHECKING:
    from cloudlet.engines.containers.api import Execution

log = logging.getLogger("cloudlet.ecs")

_NOT_ENABLED = (
    "The execute command failed because execute command was not enabled when the task was run or the execute command "
    "agent isn’t running. Wait and try again or run a new task with execute command enabled and try again."
)
_NOT_CONNECTED = "The execute command failed due to an internal error. Try again later."
_MOST = 2  # sessions of one PID namespace
_UNUSED = 60.0  # seconds after which a session that nobody has joined is forgotten
_IDLE = 1200.0  # seconds without input or output after which a session ends; AWS's 20 minutes
_PIECE = 1024  # bytes of one message
_AGENT = "3.3.0.0"


@dataclass(slots=True)
class Session:
    """One command that shall run, or runs. ``joined`` says that a client has come."""

    id: str
    token: str
    scope: str
    task: Task
    container: str
    command: list[str]
    timer: Timer
    joined: bool = False
    active: float = 0.0


class Exec(Metadata):
    """The operation, and the WebSocket that it sends clients to."""

    async def start(self) -> None:
        self._sessions: dict[str, Session] = {}
        await super().start()

    async def ExecuteCommand(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if not input["interactive"]:
            raise invalid("Interactive is the only mode supported currently.")
        task = self._task(call, cluster, input["task"])
        if self._exec_configuration(call.scope, cluster).get("kmsKeyId"):
            raise not_implemented("ExecuteCommand in a cluster whose executeCommandConfiguration has a kmsKeyId")
        if not task.members.get("enableExecuteCommand") or not task.is_running:
            raise invalid(_NOT_ENABLED)
        container = _chosen(task, input.get("container"))
        if container.status != "RUNNING":
            raise AwsError("TargetNotConnectedException", _NOT_CONNECTED)
        try:
            command = shlex.split(input["command"])
        except ValueError as error:
            raise invalid(f"The command is invalid: {error}") from None
        if not command:
            raise invalid("Command cannot be empty.")
        of_container = [
            one for one in self._sessions.values() if (one.task.id, one.container) == (task.id, container.name)
        ]
        if len(of_container) >= _MOST:
            raise client_error(
                f"Unable to start new execute sessions because the maximum session limit of {_MOST} has been reached."
            )
        id = f"ecs-execute-command-{secrets.token_hex(13)[:25]}"
        timer = self.clock.call_later(_UNUSED, lambda: self._sessions.pop(id, None))
        session = Session(
            *(id, secrets.token_urlsafe(48), call.scope, task, container.name, command, timer), active=self.clock.now()
        )
        self._sessions[id] = session
        stream = self.cloud.endpoint.replace("http", "ws", 1)
        return {
            "clusterArn": self.arn(call.scope, "cluster", cluster),
            "containerArn": self.arn(call.scope, "container", f"{cluster}/{task.id}/{container.id}"),
            "containerName": container.name,
            "interactive": True,
            "session": {
                "sessionId": id,
                "streamUrl": f"{stream}/_cloudlet/{preparing.DOOR}/{id}/v1/data-channel/{id}?role=publish_subscribe",
                "tokenValue": session.token,
            },
            "taskArn": preparing.task_arn(call.scope, task),
        }

    async def serve(self, request: Request, label: str) -> Response:
        session = self._sessions.get(label)
        if session is None:
            return await super().serve(request, label)
        if request.headers.get("upgrade", "").lower() != "websocket":
            return Response(426, {"upgrade": "websocket"})
        response = Response(101)
        response.upgrade = lambda socket: self._join(session, socket)
        return response

    # One session

    async def _join(self, session: Session, socket: Any) -> None:
        """Serve a client, once it has shown the session's token, until either side ends."""
        opening = await socket.receive()
        if session.joined or not _opens(opening, session.token):
            socket.close(1008, "Unauthorized")
            return
        session.joined = True
        session.timer.cancel()
        channel = Channel(socket, self.clock.now)
        said: list[bytes] = []
        execution: Execution | None = None
        text = ""
        try:
            if not await self._shake_hands(channel, socket):
                return
            engine = await self.engine()
            name = preparing.container_name(session.task, session.container)
            execution = await engine.execute(name, session.command, tty=True, root=True)
            self._look_for_life(session, socket)
            await _either(
                self._carry_in(session, channel, socket, execution),
                self._carry_out_of(session, channel, execution, said),
            )
        except (CannotStart, EngineMissing) as error:
            text = f"----------ERROR-------\nUnable to start command: {error}"
        finally:
            session.timer.cancel()
            self._sessions.pop(session.id, None)
            if execution is not None:
                await execution.kill()
            channel.close(session.id, text)
            socket.close()
            self.cloud.spawn(self._keep_log(session, b"".join(said)), f"log of {session.id}")

    async def _shake_hands(self, channel: Channel, socket: Any) -> bool:
        """Tell the client what kind of session this is; whether it has answered."""
        action = {
            "ActionType": "SessionType",
            "ActionParameters": {"SessionType": "InteractiveCommands", "Properties": {}},
        }
        request = {"AgentVersion": _AGENT, "RequestedClientActions": [action]}
        await channel.send(data_channel.HANDSHAKE_REQUEST, json.dumps(request).encode())
        while (data := await socket.receive()) is not None:
            if any(one.kind == data_channel.HANDSHAKE_RESPONSE for one in _taken(channel, data)):
                done = {"HandshakeTimeToComplete": 0, "CustomerMessage": ""}
                await channel.send(data_channel.HANDSHAKE_COMPLETE, json.dumps(done).encode())
                return True
        return False

    async def _carry_in(self, session: Session, channel: Channel, socket: Any, execution: Execution) -> None:
        """What a client types, and how big its terminal is; until it ends the session."""
        while (data := await socket.receive()) is not None:
            session.active = self.clock.now()
            for message in _taken(channel, data):
                if message.kind == data_channel.DATA and message.payload:
                    await execution.send(message.payload)
                elif message.kind == data_channel.SIZE:
                    size = json.loads(message.payload)
                    await execution.resize(size["cols"], size["rows"])
                elif message.kind == data_channel.FLAG and data_channel.is_end(message):
                    return
        channel.over()

    async def _carry_out_of(self, session: Session, channel: Channel, execution: Execution, said: list[bytes]) -> None:
        """What the command prints, until it ends."""
        async for piece in execution.output():
            session.active = self.clock.now()
            said.append(piece)
            for start in range(0, len(piece), _PIECE):
                await channel.send(data_channel.DATA, piece[start : start + _PIECE])
        await channel.drain()

    def _look_for_life(self, session: Session, socket: Any) -> None:
        """End a session in which nothing has happened for long."""
        if self.clock.now() - session.active >= _IDLE:
            socket.close()
        else:
            when = session.active + _IDLE
            session.timer = self.clock.call_at(when, lambda: self._look_for_life(session, socket))

    # Its log

    def _exec_configuration(self, scope: str, cluster: str) -> dict[str, Any]:
        record = self.clusters.get(scope, cluster)
        configuration = record.value.members.get("configuration", {}) if record is not None else {}
        return configuration.get("executeCommandConfiguration", {})  # type: ignore[no-any-return]

    async def _keep_log(self, session: Session, said: bytes) -> None:
        """Write what a session has printed to where its cluster says."""
        configuration = self._exec_configuration(session.scope, session.task.cluster)
        account, region = session.scope.split("/")
        where = configuration.get("logConfiguration", {}) if configuration.get("logging") == "OVERRIDE" else {}
        group = where.get("cloudWatchLogGroupName", "")
        if configuration.get("logging", "DEFAULT") == "DEFAULT":
            definition = self.definition(session.scope, session.task.task_definition)
            containers = definition.containers if definition is not None else []
            members: dict[str, Any] = next((one for one in containers if one["name"] == session.container), {})
            if (place := preparing.log_stream(session.scope, session.task, members)) is not None:
                _, region, group, _ = place[0]
        try:
            if group and said:
                stream = (account, region, group, session.id)
                await self.shipping.make(stream, with_group=False)
                await self.shipping.put(stream, [(int(self.clock.now() * 1000), said.decode(errors="replace"))])
            if (bucket := where.get("s3BucketName")) is not None:
                key = "/".join(filter(None, (where.get("s3KeyPrefix", "").strip("/"), f"{session.id}.log")))
                ask = {"Bucket": bucket, "Key": key, "Body": said}
                await self.cloud.call("s3", "PutObject", ask, account=account, region=region, principal=SELF)
        except AwsError as error:
            log.warning("the log of %s is lost: %s", session.id, error)


def _chosen(task: Task, name: str | None) -> Container:
    """The container that is asked for; of a task with one, that."""
    if not name and len(task.containers) > 1:
        raise invalid("The container name is required for tasks with more than one container.")
    found = next((one for one in task.containers if one.name == name or not name), None)
    if found is None:
        raise invalid(f"The container {last(name or '')} was not found in the task.")
    return found


def _opens(opening: str | bytes | None, token: str) -> bool:
    """Whether a client's first message shows the token."""
    try:
        said = json.loads(opening or b"null")
        return secrets.compare_digest(str(said["TokenValue"]).encode(), token.encode())
    except (ValueError, KeyError, TypeError):
        return False


def _taken(channel: Channel, data: str | bytes) -> list[Message]:
    """A client's data; of what is no message nothing."""
    try:
        return channel.take(data.encode() if isinstance(data, str) else data)
    except (ValueError, KeyError):
        return []


async def _either(*works: Any) -> None:
    """Until the first of them is done; the others are ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
