"""What ECS keeps. ``members`` are named as in the API's shapes; what we decide upon has a field of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.control.outbox import Outbox

MIGRATIONS: tuple[str, ...] = (Outbox.MIGRATION,)

# The states of a task before it runs, in their order, and those of one on its way out.
ON_THE_WAY = ("PROVISIONING", "PENDING", "ACTIVATING")


class Cluster(msgspec.Struct, frozen=True):
    """A cluster, named by its name. One that is deleted stays as INACTIVE for those who look."""

    members: dict[str, Any]
    tags: dict[str, str] = {}
    status: str = "ACTIVE"


class CapacityProvider(msgspec.Struct, frozen=True):
    """A capacity provider, named by its name."""

    members: dict[str, Any]
    tags: dict[str, str] = {}


class Family(msgspec.Struct, frozen=True):
    """A family of task definitions, named by its name: its latest revision's number, and how many are active."""

    latest: int
    active: int


class TaskDefinition(msgspec.Struct, frozen=True):
    """A revision, named ``<family>:<number with leading zeros>``."""

    members: dict[str, Any]
    tags: dict[str, str] = {}

    @property
    def containers(self) -> list[dict[str, Any]]:
        return self.members["containerDefinitions"]  # type: ignore[no-any-return]


class Deployment(msgspec.Struct, frozen=True):
    """A deployment of a service, or a task set: tasks of one task definition under one id.

    ``settings`` are the members of the service that its tasks are started with. ``failures`` counts those that failed
    since one that was started later ran well, and makes tries rare; ``failed_tasks`` is what AWS counts.
    """

    id: str
    status: str  # PRIMARY or ACTIVE
    task_definition: str  # ARN
    created: float
    updated: float
    settings: dict[str, Any] = {}
    rollout: str = "IN_PROGRESS"
    reason: str = ""
    failed_tasks: int = 0
    failures: int = 0
    last_failure: float = 0.0
    scale: float | None = None  # per cent of the service's desired count: a task set
    task_set: dict[str, Any] = {}  # a task set's own members
    groups: tuple[str, ...] = ()  # the target group of each load balancer, where there is a choice

    @property
    def number(self) -> str:
        """What its ARNs end with."""
        return self.id.rpartition("/")[2]


class Hook(msgspec.Struct, frozen=True):
    """A lifecycle hook at the stage that a service deployment has reached."""

    id: str
    kind: str  # AWS_LAMBDA or PAUSE
    function: str
    status: str
    due: float  # when the function is to be asked, again
    expires: float
    action: str  # what is done then: ROLLBACK or CONTINUE
    details: Any = None


class ServiceDeployment(msgspec.Struct, frozen=True):
    """How a service gets from its revisions to another one, named ``<cluster>/<service>/<number>``.

    ``share`` and ``test`` are the per cent of production and test traffic that the target should have; ``carried`` is
    what the listeners' rules have been told.
    """

    number: str
    target: str  # a Deployment's id, as are sources
    sources: tuple[str, ...]
    configuration: dict[str, Any]
    created: float
    updated: float
    status: str = "IN_PROGRESS"
    reason: str = ""
    finished: float = 0.0
    stage: str = ""
    since: float = 0.0  # when the stage was entered
    share: float = 0.0
    test: float = 0.0
    carried: tuple[float, float] | None = None
    carried_at: float = 0.0
    hooks: tuple[Hook, ...] = ()
    rollback: dict[str, Any] = {}
    alarms: tuple[str, ...] = ()  # those that have gone off
    fault: str = ""  # why it cannot go on
    failures: int = 0  # failed tasks of its target

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED")


class ServiceRevision(msgspec.Struct, frozen=True):
    """What a deployment was made of, named ``<cluster>/<service>/<number>``."""

    deployment: Deployment
    images: dict[str, str] = {}  # a container's name -> the digest that its tag meant for the first task


class Service(msgspec.Struct, frozen=True):
    """A service, named ``<cluster>/<name>``. Newest deployments and events come first."""

    members: dict[str, Any]
    created: float
    desired: int
    status: str = "ACTIVE"  # ACTIVE, DRAINING, INACTIVE
    deployments: tuple[Deployment, ...] = ()
    events: tuple[tuple[str, float, str], ...] = ()
    tags: dict[str, str] = {}
    steady: bool = False
    last_good: Deployment | None = None  # what a roll-back goes back to
    current: ServiceDeployment | None = None  # the one under way

    @property
    def primary(self) -> Deployment | None:
        return next((one for one in self.deployments if one.status == "PRIMARY"), None)

    def deployment(self, id: str) -> Deployment | None:
        """One of its deployments, if it is still there."""
        return next((one for one in self.deployments if one.id == id), None)


class Container(msgspec.Struct, frozen=True):
    """A container of a task."""

    name: str
    id: str
    image: str
    status: str = "PENDING"
    started: bool = False
    exit_code: int | None = None
    reason: str = ""
    health: str = "UNKNOWN"
    runtime_id: str = ""
    digest: str = ""
    reference: str = ""  # its image as the engine runs it, once that is known
    restarts: int = 0


class Task(msgspec.Struct, frozen=True):
    """A task, named ``<cluster>/<id>``. ``deployment`` is its service's, or empty."""

    id: str
    cluster: str
    task_definition: str  # ARN
    members: dict[str, Any]
    created: float
    containers: tuple[Container, ...]
    service: str = ""
    deployment: str = ""
    desired: str = "RUNNING"
    status: str = "PROVISIONING"
    health: str = "UNKNOWN"
    balancers: list[dict[str, Any]] = []  # its service's, as they were when it was made
    registries: list[dict[str, Any]] = []
    connect: dict[str, Any] = {}  # what Service Connect gives it: ``service_connect.of_task``
    grace: float = 0.0  # seconds after its start in which failed health checks do not count
    instance: str = ""  # the container instance that it is on, or none
    host: str = ""  # the same, as EC2 knows it
    takes: tuple[int, int] = (0, 0)  # CPU units and MiB of its instance
    bindings: tuple[tuple[int, int, str], ...] = ()  # container port, its instance's port, protocol
    placement: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])  # constraints and strategy it was run with
    leaving: bool = False  # its instance is drained: its service replaces it
    address: str = ""
    ports: tuple[tuple[int, str, int, str], ...] = ()  # container port, host address, host port, protocol
    pull_started: float = 0.0
    pull_stopped: float = 0.0
    started: float = 0.0
    stopping: float = 0.0
    stopped: float = 0.0
    execution_stopped: float = 0.0
    stop_code: str = ""
    stop_reason: str = ""
    ready: bool = False  # it runs, its health checks and its load balancers' have passed
    was_ready: bool = False  # it has been ready at some time
    fault: str = ""  # why its service shall replace it
    counted: bool = False  # its end has been counted by its service
    protected_until: float = 0.0
    key: str = ""  # the secret part of its metadata's address
    asked: str = ""  # what RunTask was asked with a client token, as a digest
    tags: dict[str, str] = {}
    version: int = 1

    @property
    def is_active(self) -> bool:
        """Whether it runs or will run, and shall go on."""
        return self.desired == "RUNNING" and self.status != "STOPPED"

    @property
    def is_running(self) -> bool:
        return self.desired == "RUNNING" and self.status == "RUNNING"

    @property
    def waits(self) -> bool:
        """Whether it waits for its capacity provider to bring an instance."""
        is_ec2 = self.members.get("launchType") == "EC2" and "capacityProviderName" in self.members
        return is_ec2 and not self.instance and self.is_active


class Setting(msgspec.Struct, frozen=True):
    """An account setting, named ``<principal's ARN, or nothing for the account's default>/<name>``."""

    name: str
    value: str
    principal: str = ""


class ContainerInstance(msgspec.Struct, frozen=True):
    """A container instance, named ``<cluster>/<id>``: what its agent has registered."""

    id: str
    arn: str
    cluster: str
    ec2_id: str
    cpu: int  # units
    memory: int  # MiB
    ports: tuple[str, ...]  # that are taken by itself
    ports_udp: tuple[str, ...]
    attributes: list[dict[str, str]]
    version_info: dict[str, str]
    registered_at: float
    status: str = "ACTIVE"
    connected: bool = True
    provider: str = ""  # the capacity provider whose group it is in
    tags: dict[str, str] = {}
    version: int = 1
