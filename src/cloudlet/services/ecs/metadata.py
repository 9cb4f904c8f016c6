"""What a task's containers ask at the address in their environment: who they are, and the credentials of their role.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services.ecs import preparing
from cloudlet.services.ecs.keeping import Keeping
from cloudlet.services.ecs.records import Container, Task
from cloudlet.services.ecs.shipping import SELF

_HOUR = 3600.0
_MOST = 65536  # bytes of a request


class Metadata(Keeping):
    """The endpoint of all tasks: ``<our endpoint>/_cloudlet/ecs-task/<a task's key>/...``."""

    async def serve(self, request: Request, label: str) -> Response:
        place = self.keys.get(label)
        record = self.tasks.get(*place) if place is not None else None
        if place is None or record is None:
            return _answer({"code": "404", "message": "There is no task of this key."}, 404)
        scope, task = place[0], record.value
        kind, _, rest = request.path.lstrip("/").partition("/")
        if kind == "credentials":
            return await self._credentials(scope, task)
        if kind == "api" and rest.endswith("/task-protection/v1/state"):
            return await self._protection(request, scope, task)
        if kind not in ("v3", "v4"):
            return _answer({"code": "404", "message": "Not found"}, 404)
        id, _, what = rest.partition("/")
        container = next((one for one in task.containers if one.id == id), None)
        if container is None:
            return _answer({"code": "404", "message": "There is no such container."}, 404)
        if what == "":
            return _answer(self._container(scope, task, container))
        if what in ("task", "taskWithTags"):
            return _answer(self._task_document(scope, task, what == "taskWithTags"))
        if what == "stats":
            return _answer((await self._stats(task)).get(container.id, {}))
        if what == "task/stats":
            return _answer(await self._stats(task))
        return _answer({"code": "404", "message": "Not found"}, 404)

    async def _credentials(self, scope: str, task: Task) -> Response:
        account, region = scope.split("/")
        definition = self.definition(scope, task.task_definition)
        role = preparing.role_of(task, definition.members if definition is not None else {})
        if not role:
            return _answer({"code": "NoIdInRequest", "message": "The task has no role"}, 400)
        try:
            made = await self.cloud.call(
                "sts",
                "AssumeRole",
                {"RoleArn": role, "RoleSessionName": task.id},
                account=account,
                region=region,
                principal=SELF,
            )
        except AwsError:
            # A role that nobody has made: the task signs as its account, as the user of this machine does.
            return _answer(
                {
                    "RoleArn": role,
                    "AccessKeyId": account,
                    "SecretAccessKey": "local",
                    "Token": "local",
                    "Expiration": _moment(self.clock.now() + _HOUR),
                }
            )
        keys = made["Credentials"]
        return _answer(
            {
                "RoleArn": role,
                "AccessKeyId": keys["AccessKeyId"],
                "SecretAccessKey": keys["SecretAccessKey"],
                "Token": keys["SessionToken"],
                "Expiration": _moment(keys["Expiration"]),
            }
        )

    async def _protection(self, request: Request, scope: str, task: Task) -> Response:
        arn = preparing.task_arn(scope, task)
        if not task.service:
            return _answer({"failure": {"Arn": arn, "Reason": "TASK_NOT_VALID"}}, 400)
        if request.method == "PUT":
            asked: dict[str, Any] = msgspec.json.decode(await request.read(_MOST) or b"{}")
            minutes = asked.get("ExpiresInMinutes", 120)
            until = self.clock.now() + minutes * 60 if asked.get("ProtectionEnabled") else 0.0
            await self.change_task(scope, task, protected_until=until)
            task = msgspec.structs.replace(task, protected_until=until)
        is_protected = task.protected_until > self.clock.now()
        shown: dict[str, Any] = {"ProtectionEnabled": is_protected, "TaskArn": arn}
        if is_protected:
            shown["ExpirationDate"] = _moment(task.protected_until)
        return _answer({"protection": shown})

    def _task_document(self, scope: str, task: Task, with_tags: bool) -> dict[str, Any]:
        definition = self.definition(scope, task.task_definition)
        members: dict[str, Any] = definition.members if definition is not None else {}
        document: dict[str, Any] = {
            "Cluster": self.arn(scope, "cluster", task.cluster),
            "TaskARN": preparing.task_arn(scope, task),
            "Family": members.get("family", ""),
            "Revision": str(members.get("revision", "")),
            "DesiredStatus": task.desired,
            "KnownStatus": task.status,
            "AvailabilityZone": f"{scope.split('/')[1]}a",
            "LaunchType": task.members.get("launchType", "FARGATE"),
            "Containers": [self._container(scope, task, one) for one in task.containers],
        }
        if task.service:
            document["ServiceName"] = task.service
        limits: dict[str, Any] = {}
        if "cpu" in members:
            limits["CPU"] = int(members["cpu"]) / 1024
        if "memory" in members:
            limits["Memory"] = int(members["memory"])
        if limits:
            document["Limits"] = limits
        for key, value in (("PullStartedAt", task.pull_started), ("PullStoppedAt", task.pull_stopped)):
            if value:
                document[key] = _moment(value)
        if with_tags:
            document["TaskTags"] = task.tags
        return document

    def _container(self, scope: str, task: Task, one: Container) -> dict[str, Any]:
        definition = self.definition(scope, task.task_definition)
        containers = definition.containers if definition is not None else []
        members = next((each for each in containers if each["name"] == one.name), {})
        name = preparing.container_name(task, one.name)
        arn = preparing.task_arn(scope, task)
        document: dict[str, Any] = {
            "DockerId": one.runtime_id or one.id,
            "Name": one.name,
            "DockerName": name,
            "Image": one.image,
            "ImageID": one.digest,
            "Labels": {
                "com.amazonaws.ecs.cluster": self.arn(scope, "cluster", task.cluster),
                "com.amazonaws.ecs.container-name": one.name,
                "com.amazonaws.ecs.task-arn": arn,
                "com.amazonaws.ecs.task-definition-family": definition.members["family"] if definition else "",
                "com.amazonaws.ecs.task-definition-version": str(definition.members["revision"]) if definition else "",
            },
            "DesiredStatus": task.desired,
            "KnownStatus": one.status,
            "Limits": {"CPU": members.get("cpu", 0), "Memory": members.get("memory", 0)},
            "CreatedAt": _moment(task.created),
            "Type": "NORMAL",
            "ContainerARN": self.arn(scope, "container", f"{task.cluster}/{task.id}/{one.id}"),
            "Networks": [
                {
                    "NetworkMode": definition.members.get("networkMode", "bridge") if definition else "bridge",
                    "IPv4Addresses": [task.address or "127.0.0.1"],
                }
            ],
        }
        if task.started:
            document["StartedAt"] = _moment(task.started)
        if one.exit_code is not None:
            document["ExitCode"] = one.exit_code
        if one.health != "UNKNOWN":
            document["Health"] = {"status": one.health}
        if (place := preparing.log_stream(scope, task, members)) is not None:
            _, region, group, stream = place[0]
            document["LogDriver"] = "awslogs"
            document["LogOptions"] = {"awslogs-group": group, "awslogs-region": region, "awslogs-stream": stream}
        return document

    async def _stats(self, task: Task) -> dict[str, Any]:
        names = {preparing.container_name(task, one.name): one.id for one in task.containers}
        usage = await (await self.engine()).usage(list(names))
        return {
            names[name]: {
                "read": _moment(self.clock.now()),
                "cpu_stats": {"cpu_usage": {"total_usage": int(used.cpu_seconds * 1e9)}},
                "memory_stats": {"usage": used.memory, "max_usage": used.memory_peak},
                "networks": {"eth0": {"rx_bytes": used.received, "tx_bytes": used.sent}},
            }
            for name, used in usage.items()
        }


def _answer(document: dict[str, Any], status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(document).encode())


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
