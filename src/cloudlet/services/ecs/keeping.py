"""Services kept as they should be, and tasks carried out: one runner for each task, one reconciler for all services."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.control.reconcile import Reconciler, Step
from cloudlet.engines.containers.api import Abilities, CannotStart, ContainerState, Engine, EngineMissing, PodState
from cloudlet.errors import AwsError
from cloudlet.services.ecs import controller, images
from cloudlet.services.ecs.connecting import Connecting
from cloudlet.services.ecs.joining import Joining
from cloudlet.services.ecs.placement import cannot_place
from cloudlet.services.ecs.records import Deployment, Service, Task, TaskDefinition
from cloudlet.services.ecs.relay import Relay
from cloudlet.services.ecs.rollouts import Rollouts
from cloudlet.services.ecs.running import Runner
from cloudlet.services.ecs.shipping import Shipping
from cloudlet.services.ecs.tasks import new_task, stopping

if TYPE_CHECKING:
    from cloudlet.services.api import Cloud
    from cloudlet.services.ecs.records import Service
    from cloudlet.store import Tx

log = logging.getLogger("cloudlet.ecs")

_REMEMBERED = 3600.0  # seconds that a stopped task is still described
_EVENTS = 100
_FIRST_PAUSE = 0.5
_DNS = 53


def open_engine(cloud: Cloud) -> Engine:
    """What runs containers on this machine. Nothing is started yet."""
    from cloudlet.engines.containers import find

    return find.engine(cloud.supervisor, cloud.data_dir / "containers")


class Keeping(Joining, Rollouts):
    """The controller at work."""

    async def start(self) -> None:
        await super().start()
        self.relay = Relay(self.cloud.endpoint)
        self.shipping = Shipping(self.cloud)
        self.connecting = Connecting(self.cloud, self.shipping)
        self.recovered: dict[str, dict[str, ContainerState]] = {}
        self.abilities: Abilities
        self.runners: dict[str, Runner] = {}
        self.keys: dict[str, tuple[str, str]] = {}  # of a task's metadata -> its scope and its name in the store
        self._engine: asyncio.Future[Engine] | None = None
        self._running: Engine | None = None
        self._dirty: dict[tuple[str, str], None] = {}
        self._unplaced: set[tuple[str, str]] = set()  # services whose tasks find no instance until something changes
        self._wakes: dict[tuple[str, str], Timer] = {}
        self._awaited: dict[tuple[str, str], list[asyncio.Future[None]]] = defaultdict(list)
        self._forgetting: Timer | None = None
        self._stopping = False
        self._reconciler = Reconciler("ecs", self._plan, self.clock)
        active = [record for record in self.tasks.all() if record.value.status != "STOPPED"]
        if active:
            try:
                await self.engine()
            except EngineMissing as error:
                log.warning("tasks cannot be taken up: %s", error)
        for record in active:
            self.take_up(record.scope, record.value)
        for service in self.services.all():
            if service.value.status != "INACTIVE":
                self._dirty[service.scope, service.name] = None
        self._reconciler.start()
        self._forget_later()

    async def stop(self) -> None:
        self._stopping = True
        await self._reconciler.stop()
        for timer in [*self._wakes.values(), *([self._forgetting] if self._forgetting else [])]:
            timer.cancel()
        await self.relay.stop()
        await self.connecting.stop()
        if self._engine is not None:
            await asyncio.wait([self._engine])
        if self._running is not None:
            # What ends with us is not recorded as ended: the next run finds it gone, and replaces it.
            engine = self._running
            try:
                await engine.clear()
            except Exception:
                log.exception("containers could not be removed")
            await self.shipping.flush()
            await engine.stop_engine()
        await super().stop()

    # The engine

    async def engine(self) -> Engine:
        """What runs containers, ready and with all that an earlier run has left. Raises EngineMissing."""
        if self._engine is None or (self._engine.done() and self._engine.exception() is not None):
            self._engine = asyncio.ensure_future(self._start_engine())
        return await asyncio.shield(self._engine)

    async def _start_engine(self) -> Engine:
        engine = open_engine(self.cloud)
        try:
            self.abilities = await engine.start(self.shipping.printed, self._ended)
            pods, containers = await engine.recover()
        except BaseException:
            await engine.stop_engine()
            raise
        wanted = {record.value.id for record in self.tasks.all() if record.value.status != "STOPPED"}
        found: dict[str, dict[str, ContainerState]] = defaultdict(dict)
        for state in containers:
            found[state.pod][state.name] = state
        self.recovered = dict(found)
        await self._connect_again(pods)
        for pod in pods:
            if pod.name not in wanted and "com.amazonaws.ecs.task-arn" in pod.labels:
                await engine.remove_pod(pod.name)
        self._running = engine
        return engine

    async def _connect_again(self, pods: Sequence[PodState]) -> None:
        """Take up the Envoys of tasks, before the cloud ends what nobody has taken up."""
        namespaces = {pod.name: pod.namespace for pod in pods}
        for record in self.tasks.all():
            self.connecting.changed(record.scope, record.value)
        for record in self.tasks.all():
            if (task := record.value).connect and task.status != "STOPPED" and task.id in namespaces:
                try:
                    await self.connecting.open(record.scope, task, namespaces[task.id])
                except CannotStart as error:
                    log.warning("task %s is not connected again yet: %s", task.id, error)

    def _ended(self, state: ContainerState) -> None:
        runner = self.runners.get(state.pod)
        if runner is not None and not self._stopping:
            runner.ended(state.name.removeprefix(f"{state.pod}-"), state)

    def daemons_wanted(self, scope: str, cluster: str, service: Service, tx: Tx | None = None) -> int:
        """How many instances a daemon should run on."""
        raise NotImplementedError

    async def want_capacity(self, scope: str, name: str) -> None:
        """Tasks of a service found no place."""
        raise NotImplementedError

    async def publish(self, scope: str, task: Task, pod: PodState) -> tuple[tuple[int, str, int, str], ...]:
        """Have a task's ports answer at its instance's address."""
        raise NotImplementedError

    async def unpublish(self, task: Task) -> None:
        """Take a task's ports back from its instance."""
        raise NotImplementedError

    async def name_servers(self) -> tuple[str, ...]:
        """The DNS servers of tasks: Route 53's, where tasks reach it; else the engine's own."""
        if self.abilities.host_address in ("", "127.0.0.1"):
            return ()
        # One of the addresses that pods reach as they are, and that no other cloud of this machine uses.
        high, low = divmod(self.relay.port, 256)
        address = f"127.127.{high}.{low}"
        try:
            route53: Any = await self.cloud.service("route53")
            return (address,) if await route53.listen_on(address) == _DNS else ()
        except (AwsError, OSError) as error:
            log.warning("tasks do not resolve names through Route 53: %s", error)
            return ()

    # Tasks

    def take_up(self, scope: str, task: Task) -> None:
        """Carry out a task that is stored, or look at it again."""
        self.announcer.wake()
        runner = self.runners.get(task.id)
        if runner is not None:
            runner.poke()
        elif task.status != "STOPPED" and not self._stopping:
            self.keys[task.key] = scope, f"{task.cluster}/{task.id}"
            runner = self.runners[task.id] = Runner(self, scope, task)
            self.cloud.spawn(self._carry_out_task(scope, task, runner), f"task {task.id}")

    async def _carry_out_task(self, scope: str, task: Task, runner: Runner) -> None:
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    await runner.run()
                    break
                except Exception:
                    # Whatever stumbled, the task is not left half-done: it is put down until that works.
                    log.exception("task %s stumbled", task.id)
                    await self.order_stop(scope, task, "TaskFailedToStart", "InternalError: see Cloudlet's log")
                    await self.clock.sleep(pause)
                    pause = min(60.0, pause * 2)
        finally:
            self.runners.pop(task.id, None)
        self.keys.pop(task.key, None)
        self.task_changed(scope, task)
        self._forget_later()

    def task_changed(self, scope: str, task: Task) -> None:
        """Something of a task is new to its service."""
        self.announcer.wake()
        if task.connect and (record := self.tasks.get(scope, f"{task.cluster}/{task.id}")) is not None:
            self.connecting.changed(scope, record.value)
        if task.service:
            self.look_after(scope, f"{task.cluster}/{task.service}")
        if task.instance and task.status == "STOPPED":
            # Its place is free for those that found none.
            for place, name in [one for one in self._unplaced if one[1].startswith(f"{task.cluster}/")]:
                self.look_after(place, name)

    def poke_task(self, id: str) -> None:
        """Have a task looked at by its runner."""
        if (runner := self.runners.get(id)) is not None:
            runner.poke()

    def _forget_later(self) -> None:
        """Have stopped tasks forgotten in their time."""
        ended = [record.value.stopped for record in self.tasks.all() if record.value.status == "STOPPED"]
        if ended and self._forgetting is None:
            self._forgetting = self.clock.call_at(min(ended) + _REMEMBERED, self._forget_soon)

    def _forget_soon(self) -> None:
        self._forgetting = None
        self.cloud.spawn(self._forget(), "stopped tasks are forgotten")

    async def _forget(self) -> None:
        oldest = self.clock.now() - _REMEMBERED
        gone = [
            record for record in self.tasks.all() if record.value.status == "STOPPED" and record.value.stopped <= oldest
        ]

        def work(tx: Tx) -> None:
            for record in gone:
                self.tasks.delete(tx, record.scope, record.name)

        await self.db.write(work, long=True)
        self._forget_later()

    # Services

    def news_of(self, scope: str, name: str) -> asyncio.Future[None]:
        """Done at the next change of a service (``<cluster>/<name>``) or of one of its tasks."""
        news = asyncio.get_running_loop().create_future()
        self._awaited[scope, name].append(news)
        return news

    def _tell(self, scope: str, name: str) -> None:
        self.announcer.wake()
        for news in self._awaited.pop((scope, name), ()):
            if not news.done():
                news.set_result(None)

    def look_after(self, scope: str, name: str) -> None:
        """Compare a service with its tasks soon."""
        self._tell(scope, name)
        self._unplaced.discard((scope, name))
        if not self._stopping:
            self._dirty[scope, name] = None
            self._reconciler.trigger()

    async def settled(self) -> None:
        """Wait until nothing is left to do now."""
        await self._reconciler.settled()

    def _plan(self) -> Sequence[Step]:
        """The services that something may have changed for, and that are not as they should be."""
        steps = []
        for scope, name in list(self._dirty):
            plan = self._planned(scope, name)
            if plan is None:
                del self._dirty[scope, name]
                continue
            self._wake_later(scope, name, plan.wake)
            self.hear_alarms(plan.service.current)
            if not plan.is_empty and not (plan.only_starts and (scope, name) in self._unplaced):
                steps.append(Step(f"{scope} {name}", partial(self._carry_out, scope, name)))
            elif plan.shift:
                steps.append(Step(f"{scope} {name} shifts traffic", partial(self.shift, scope, name)))
            else:
                del self._dirty[scope, name]
                for hook in plan.ask:
                    self.ask_hook(scope, name, hook)
        return steps

    def _planned(self, scope: str, name: str, tx: Tx | None = None) -> controller.Plan | None:
        record = self.services.get(scope, name, tx)
        if record is None or record.value.status == "INACTIVE":
            return None
        cluster, _, service = name.partition("/")
        known = record.value
        if known.members.get("schedulingStrategy") == "DAEMON" and known.status == "ACTIVE":
            known = msgspec.structs.replace(known, desired=self.daemons_wanted(scope, cluster, known, tx))
        plan = controller.plan(known, self.tasks_of(scope, cluster, service, tx), self.clock.now())
        plan.before = record.value
        return plan

    async def _carry_out(self, scope: str, name: str) -> None:
        """Plan again within the transaction that carries the plan out: nothing is done twice."""
        touched = await self.db.write(lambda tx: self._apply(tx, scope, name))
        for task in touched:
            self.take_up(scope, task)
        self._tell(scope, name)
        if (scope, name) in self._unplaced:
            await self.want_capacity(scope, name)
        record = self.services.get(scope, name)
        if record is not None and record.value.status == "INACTIVE":
            await self.forget_endpoints(scope, record.value)

    def _apply(self, tx: Tx, scope: str, name: str) -> list[Task]:
        plan, now = self._planned(scope, name, tx), self.clock.now()
        if plan is None:
            return []
        cluster = name.partition("/")[0]
        events, touched = list(plan.events), []
        for task in plan.count:
            self.put_task(tx, scope, msgspec.structs.replace(task, counted=True))
        for task, reason in plan.stop:
            stopped = stopping(task, "ServiceSchedulerInitiated", reason, now)
            self.put_task(tx, scope, stopped)
            touched.append(stopped)
            if task.fault:
                events.append(f"(task {task.id}) failed health checks: {reason}.")
        if plan.stop:
            ids = " ".join(f"(task {task.id})" for task, _ in plan.stop)
            events.append(f"has stopped {len(plan.stop)} running tasks: {ids}.")
        for deployment, count in plan.start:
            definition = self.definition(scope, deployment.task_definition, tx)
            if definition is None:
                raise AwsError("ClientException", "TaskDefinition not found.")
            made = [self._new_task(scope, cluster, plan.service, deployment, definition, now) for _ in range(count)]
            if made[0].members.get("launchType") == "EC2":
                made = self._put_on_instances(tx, scope, name, plan.service, made, definition, events)
            for task in made:
                self.put_task(tx, scope, task)
            touched += made
            told = images.other_architecture(definition.members)
            if told and not any(text.endswith(told) for _, _, text in plan.service.events):
                events.append(told)
            if made:
                ids = " ".join(f"(task {task.id})" for task in made)
                events.append(f"has started {len(made)} tasks: {ids}.")
        service_name = plan.service.members["serviceName"]
        news = tuple((str(uuid.uuid4()), now, f"(service {service_name}) {text}") for text in events)
        after = msgspec.structs.replace(plan.service, events=(*news[::-1], *plan.service.events)[:_EVENTS])
        self.put_service(tx, scope, name, after)
        return touched

    def _put_on_instances(
        self,
        tx: Tx,
        scope: str,
        name: str,
        service: Service,
        tasks: list[Task],
        definition: TaskDefinition,
        events: list[str],
    ) -> list[Task]:
        """Those of a service's new tasks that found an instance; what is said of the others, once."""
        members = service.members
        constraints, strategy = members.get("placementConstraints") or [], members.get("placementStrategy") or []
        if members.get("schedulingStrategy") == "DAEMON":
            constraints = [*constraints, {"type": "distinctInstance"}]
        placed, lacks, count = self.placed(tx, scope, tasks, definition, constraints, strategy)
        if len(placed) == len(tasks):
            self._unplaced.discard((scope, name))
            return placed
        self._unplaced.add((scope, name))
        text = cannot_place(lacks, count)
        if not service.events or not service.events[0][2].endswith(text):
            events.append(text)
        return placed

    def _new_task(
        self,
        scope: str,
        cluster: str,
        service: Service,
        deployment: Deployment,
        definition: TaskDefinition,
        now: float,
    ) -> Task:
        settings, members = deployment.settings, service.members
        name = members["serviceName"]
        launch = self.launch_of(
            scope,
            cluster,
            {
                key: settings[key]
                for key in ("launchType", "capacityProviderStrategy", "platformVersion")
                if key in settings
            },
        )
        tags = {"SERVICE": service.tags, "TASK_DEFINITION": definition.tags}.get(members.get("propagateTags", ""), {})
        if members.get("enableECSManagedTags"):
            tags = {**tags, "aws:ecs:clusterName": cluster, "aws:ecs:serviceName": name}
        task = new_task(
            definition,
            cluster,
            {
                **launch["members"],
                "overrides": {},
                "group": f"service:{name}",
                "startedBy": deployment.id,
                "enableExecuteCommand": members.get("enableExecuteCommand", False),
                **(
                    {"networkConfiguration": settings["networkConfiguration"]}
                    if "networkConfiguration" in settings
                    else {}
                ),
            },
            now,
            service=name,
            deployment=deployment.id,
            tags=tags,
        )
        return msgspec.structs.replace(
            task,
            balancers=_chosen_groups(deployment),
            registries=settings.get("serviceRegistries", []),
            grace=float(members.get("healthCheckGracePeriodSeconds", 0)),
            connect=self.connect_of(scope, f"{cluster}/{name}", settings, definition.members),
        )

    def _wake_later(self, scope: str, name: str, when: float | None) -> None:
        timer = self._wakes.pop((scope, name), None)
        if timer is not None:
            timer.cancel()
        if when is not None:
            self._wakes[scope, name] = self.clock.call_at(when, lambda: self.look_after(scope, name))


def _chosen_groups(deployment: Deployment) -> list[dict[str, Any]]:
    """The load balancers of a deployment, each with the target group that it has chosen."""
    balancers: list[dict[str, Any]] = deployment.settings.get("loadBalancers", [])
    if not deployment.groups:
        return balancers
    return [one | {"targetGroupArn": group} for one, group in zip(balancers, deployment.groups, strict=True)]
