"""What all operations of ECS stand on: the database, names and ARNs, pages."""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import records
from cloudlet.services.ecs.announcing import Announcer, news_of
from cloudlet.services.ecs.records import (
    CapacityProvider,
    Cluster,
    ContainerInstance,
    Family,
    Service,
    ServiceDeployment,
    ServiceRevision,
    Setting,
    Task,
    TaskDefinition,
)
from cloudlet.services.pages import page_at
from cloudlet.store import Tx

DEFAULT = "default"
_REMEMBERED = 20  # deployments of a service that have ended
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,255}\Z")


class Base(api.Service):
    """The state of the service."""

    name = "ecs"

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name, records.MIGRATIONS)
        self.announcer = Announcer(self.cloud, self.db)
        await self.announcer.start()
        self.clusters = self.db.resources(Cluster)
        self.providers = self.db.resources(CapacityProvider)
        self.families = self.db.resources(Family)
        self.definitions = self.db.resources(TaskDefinition)
        self.services = self.db.resources(Service)
        self.deployments = self.db.resources(ServiceDeployment)
        self.revisions = self.db.resources(ServiceRevision)
        self.tasks = self.db.resources(Task)
        self.settings = self.db.resources(Setting)
        self.instances = self.db.resources(ContainerInstance)

    async def stop(self) -> None:
        await self.announcer.stop()
        await super().stop()

    def arn(self, scope: str, kind: str, name: str) -> str:
        """An ARN: ``cluster/x``, ``service/<cluster>/<name>``, ``task/<cluster>/<id>``."""
        account, region = scope.split("/")
        return f"arn:aws:ecs:{region}:{account}:{kind}/{name}"

    def revision_arn(self, scope: str, service: str, deployment: str) -> str:
        """The ARN of the service revision of a deployment."""
        return self.arn(scope, "service-revision", f"{service}/{last(deployment)}")

    def cluster_name(self, input: Input) -> str:
        """The name of the cluster that is asked for; it need not be there."""
        return last(input.get("cluster") or DEFAULT)

    def cluster(self, call: Call, input: Input, tx: Tx | None = None) -> str:
        """The name of an active cluster. Raises ClusterNotFoundException."""
        name = self.cluster_name(input)
        record = self.clusters.get(call.scope, name, tx)
        if record is None or record.value.status != "ACTIVE":
            raise AwsError("ClusterNotFoundException", "Cluster not found.")
        return name

    def definition(self, scope: str, identifier: str, tx: Tx | None = None) -> TaskDefinition | None:
        """A task definition by family, ``family:revision`` or ARN; a family is its latest active revision."""
        family, _, revision = last(identifier).partition(":")
        if revision:
            if not revision.isdigit():
                raise AwsError("ClientException", f"Invalid revision number. Number: {revision}")
            record = self.definitions.get(scope, revision_key(family, int(revision)), tx)
            return record.value if record is not None else None
        found = self.families.get(scope, family, tx)
        if found is None:
            return None
        for number in range(found.value.latest, 0, -1):
            record = self.definitions.get(scope, revision_key(family, number), tx)
            if record is not None and record.value.members["status"] == "ACTIVE":
                return record.value
        return None

    def usable_definition(self, scope: str, identifier: str) -> TaskDefinition:
        """A task definition that tasks may be started with. Raises ClientException."""
        found = self.definition(scope, identifier)
        if found is None:
            raise AwsError("ClientException", "TaskDefinition not found.")
        if found.members["status"] != "ACTIVE":
            raise AwsError("ClientException", "TaskDefinition is inactive")
        return found

    def service_name(self, cluster: str, identifier: str) -> str:
        """A service's name in the store from its name or ARN."""
        return f"{cluster}/{last(identifier)}"

    def service(self, call: Call, cluster: str, identifier: str, tx: Tx | None = None) -> Service:
        """A service that is not deleted. Raises ServiceNotFoundException, ServiceNotActiveException."""
        record = self.services.get(call.scope, self.service_name(cluster, identifier), tx)
        if record is None:
            raise AwsError("ServiceNotFoundException", "Service not found.")
        if record.value.status != "ACTIVE":
            raise AwsError("ServiceNotActiveException", "Service was not ACTIVE.")
        return record.value

    def put_service(self, tx: Tx, scope: str, name: str, made: Service) -> None:
        """Store a service, and how its deployment goes. One that another has taken the place of has stopped."""
        before, now = self.services.get(scope, name, tx), self.clock.now()
        old, new = before.value.current if before is not None else None, made.current
        ended = None
        if old is not None and (new is None or new.number != old.number):
            ended = msgspec.structs.replace(old, status="STOPPED", finished=now, updated=now)
            self.deployments.put(tx, scope, f"{name}/{old.number}", ended)
        for one in (ended, new):
            if one is not None and self.announcer.is_heard:
                arn = self.arn(scope, "service", name)
                for detail in news_of(old, one):
                    self.announcer.add(tx, "ECS Deployment State Change", arn, detail)
        if new is not None and new != old:
            self.deployments.put(tx, scope, f"{name}/{new.number}", new)
            if old is None or old.number != new.number:
                target = next(one for one in made.deployments if one.id == new.target)
                self.revisions.put(tx, scope, f"{name}/{target.number}", ServiceRevision(target))
                self._forget_deployments(tx, scope, name, made)
            if new.is_over:
                made = msgspec.structs.replace(made, current=None)
        self.services.put(tx, scope, name, made)

    def put_task(self, tx: Tx, scope: str, task: Task) -> None:
        """Store a task, and tell of it when its state is another one."""
        name = f"{task.cluster}/{task.id}"
        before = self.tasks.get(scope, name, tx)
        self.tasks.put(tx, scope, name, task)
        if self.announcer.is_heard and (before is None or _states(before.value) != _states(task)):
            detail = {**self.described_task(scope, task, False), "updatedAt": self.clock.now()}
            detail.pop("tags")
            self.announcer.add(tx, "ECS Task State Change", self.arn(scope, "task", name), detail)

    def described_task(self, scope: str, task: Task, with_tags: bool) -> dict[str, Any]:
        """A task as the API shows it."""
        raise NotImplementedError

    def _forget_deployments(self, tx: Tx, scope: str, name: str, service: Service) -> None:
        """Forget the oldest deployments of a service, and revisions that nothing refers to any more."""
        known = sorted(self.deployments.list(scope, f"{name}/", tx), key=lambda record: -record.value.created)
        for record in known[_REMEMBERED:]:
            self.deployments.delete(tx, scope, record.name)
        used = {id for record in known[:_REMEMBERED] for id in (record.value.target, *record.value.sources)}
        used |= {one.id for one in (*service.deployments, service.last_good) if one is not None}
        for revision in self.revisions.list(scope, f"{name}/", tx):
            if revision.value.deployment.id not in used:
                self.revisions.delete(tx, scope, revision.name)

    def tasks_of(self, scope: str, cluster: str, service: str, tx: Tx | None = None) -> list[Task]:
        """The tasks of a service, running, starting and stopped."""
        return [
            record.value
            for record in self.tasks.list(scope, f"{cluster}/", tx)
            if record.value.service == service and service
        ]

    def checked_name(self, name: str, what: str) -> str:
        """Raises InvalidParameterException for a name that AWS would refuse."""
        if not _NAME.match(name):
            raise AwsError(
                "InvalidParameterException",
                f"{what} name can have up to 255 letters (uppercase and lowercase), numbers, hyphens, and underscores.",
            )
        return name


def _states(task: Task) -> tuple[str, str, list[str]]:
    return task.status, task.desired, [one.status for one in task.containers]


def last(identifier: str) -> str:
    """What comes after the last slash: the name in an ARN."""
    return identifier.rpartition("/")[2]


def revision_key(family: str, revision: int) -> str:
    """A task definition's name in the store, which sorts by number."""
    return f"{family}:{revision:08d}"


def new_id() -> str:
    """The id of a task."""
    return uuid.uuid4().hex


def page(key: str, items: list[Any], input: Input, most: int = 100) -> Output:
    """One page of a listing; tokens are positions."""
    size = input.get("maxResults") or most
    if not 1 <= size <= 100:
        raise AwsError("InvalidParameterException", "MaxResults must be between 1 and 100.")
    refusal = AwsError("InvalidParameterException", "Invalid token")
    return page_at(key, items, input.get("nextToken"), size, refusal, "nextToken")


def from_tags(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """A list of tags as a map."""
    return {tag["key"]: tag.get("value", "") for tag in tags or ()}


def to_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    """A map of tags as a list."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def invalid(message: str) -> AwsError:
    """InvalidParameterException."""
    return AwsError("InvalidParameterException", message)


def client_error(message: str) -> AwsError:
    """ClientException."""
    return AwsError("ClientException", message)
