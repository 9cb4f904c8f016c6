"""One task, from its record to its last container's end. Every step may be taken again after a restart."""

from __future__ import annotations

import asyncio
import logging
import shutil
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.engines.containers import api as engines
from cloudlet.engines.containers.api import ContainerState, PodState
from cloudlet.errors import AwsError
from cloudlet.services.ecs import firelens, guarding, images, preparing, sidecars
from cloudlet.services.ecs.execution import CannotPrepare, ExecutionRole
from cloudlet.services.ecs.forwarding import Forwarder
from cloudlet.services.ecs.health import Health, checked
from cloudlet.services.ecs.records import Container, Task
from cloudlet.services.ecs.tasks import stopping

if TYPE_CHECKING:
    from cloudlet.engines.containers.api import Engine
    from cloudlet.services.ecs.keeping import Keeping
    from cloudlet.store import Tx

log = logging.getLogger("cloudlet.ecs")

_GRACE = 30  # seconds between the stop signal and the kill when the definition says nothing
_LAST_LINES = 2.0  # seconds that a router is given to take what is left, before it is stopped
_ESSENTIAL = "Essential container in task exited"


class _Failed(Exception):
    """The task cannot go on: its message becomes the stopped reason."""


class Runner:
    """Carries out one task. ``poke`` says that its record may have changed; ``ended`` tells of a container's end."""

    def __init__(self, keeper: Keeping, scope: str, task: Task) -> None:
        self._keeper = keeper
        self._scope = scope
        self._key = f"{task.cluster}/{task.id}"
        self.id = task.id
        self._news = asyncio.Event()
        self._exits: dict[str, ContainerState] = {}
        self._health: dict[str, Health] = {}
        self._pod: PodState | None = None
        self._healths: dict[str, str] = {}
        self._restarted: dict[str, float] = {}
        self._forwarder: Forwarder | None = None
        self._is_connected = False  # to what sends it traffic, as far as is known while it is put down
        self._patience: dict[str, Timer] = {}  # containers that others wait for: when that has been long enough
        self._begun: dict[str, float] = {}  # when each container was started, or taken up again

    @property
    def task(self) -> Task:
        """The task as it is stored now."""
        record = self._keeper.tasks.get(self._scope, self._key)
        assert record is not None
        return record.value

    def poke(self) -> None:
        """Look at the record again."""
        self._news.set()

    def ended(self, name: str, state: ContainerState) -> None:
        """A container has ended."""
        self._exits[name] = state
        self._news.set()

    async def run(self) -> None:
        """From where the task stands to its end."""
        found = self._keeper.definition(self._scope, self.task.task_definition)
        assert found is not None
        definition = found.members
        try:
            if self.task.desired == "RUNNING":
                await self._start_and_watch(definition)
        except (_Failed, CannotPrepare, engines.EngineMissing, engines.CannotStart) as error:
            await self._fail("TaskFailedToStart", str(error))
        except AwsError as error:
            await self._fail("TaskFailedToStart", f"{error.code}: {error.message}")
        finally:
            for health in self._health.values():
                health.stop()
            for timer in self._patience.values():
                timer.cancel()
        await self._put_down(definition)

    # Up

    async def _start_and_watch(self, definition: dict[str, Any]) -> None:
        engine = await self._keeper.engine()
        own_addresses = self._keeper.abilities.own_addresses
        dns = await self._keeper.name_servers()
        pod = await engine.create_pod(preparing.pod_of(self._scope, self.task, definition, own_addresses, dns))
        self._pod = pod
        await self._change(
            status="PENDING" if self.task.status == "PROVISIONING" else self.task.status,
            address=pod.address,
            ports=await self._ports(pod),
        )
        await self._keeper.relay.open(pod.name, pod.namespace)
        await guarding.open(self._keeper.cloud, self._scope, self.task, pod, self._keeper.abilities.host_address)
        await self._keeper.connecting.open(self._scope, self.task, pod.namespace)
        await self._adopt(definition)
        if self.task.status == "RUNNING":
            self._keeper.watch_targets_of(self._scope, self.task)
            await self._keeper.tell_health(self._scope, self.task)
        if any(not one.started for one in self.task.containers):
            await self._pull(engine, definition)
        while self.task.desired == "RUNNING":
            self._news.clear()
            await self._note_exits(definition)
            await self._judge(definition)
            if self.task.desired != "RUNNING":
                break
            if await self._start_due(engine, definition, pod):
                continue
            if self.task.status != "RUNNING" and all(one.started for one in self.task.containers):
                await self._change(status="ACTIVATING")
                await self._keeper.connect(self._scope, self.task, definition)
                await self._change(status="RUNNING", started=self.task.started or self._keeper.clock.now())
                continue
            await self._news.wait()

    async def _ports(self, pod: PodState) -> tuple[tuple[int, str, int, str], ...]:
        """Where the task's ports answer: at its instance, or at this machine."""
        if self.task.bindings and pod.namespace:
            return await self._keeper.publish(self._scope, self.task, pod)
        return tuple((port.container, port.address, port.host, port.protocol) for port in pod.ports)

    async def _adopt(self, definition: dict[str, Any]) -> None:
        """Take up what an earlier run of the control plane has started."""
        known = self._keeper.recovered.get(self.id, {})
        for one in self.task.containers:
            if one.runtime_id == sidecars.IN_PLACE:
                await self._join_mesh(definition, one.name)
                continue
            state = known.get(preparing.container_name(self.task, one.name))
            if state is not None and one.exit_code is None:
                if not one.started:
                    await self._change_container(one.name, started=True, status="RUNNING")
                if state.exit_code is not None:
                    self._exits[one.name] = state
                else:
                    self._watch(definition, one.name)
            elif one.started and one.exit_code is None and one.status != "STOPPED" and one.name not in self._exits:
                await self._fail("TerminationNotice", "This machine, or Cloudlet, was started anew")
                return

    async def _pull(self, engine: Engine, definition: dict[str, Any]) -> None:
        if self.task.pull_stopped:
            return
        await self._change(pull_started=self._keeper.clock.now())
        for members in definition["containerDefinitions"]:
            image = members["image"]
            if sidecars.is_proxy(definition, members) or not self._keeper.abilities.images or image.startswith("/"):
                continue
            found = await self._pull_image(engine, definition, members)
            await self._change_container(members["name"], reference=found.reference, digest=found.digest)
            if self.task.desired != "RUNNING":
                return
        await self._change(pull_stopped=self._keeper.clock.now())

    async def _pull_image(self, engine: Engine, definition: dict[str, Any], members: dict[str, Any]) -> images.Image:
        """Pull what a container's tag means now, or meant for the first task of the same deployment."""
        keeper, scope, name = self._keeper, self._scope, members["name"]
        role = ExecutionRole(keeper.cloud, scope, self.task, definition)
        if not images.is_pinned(members):
            return await images.pull(engine, role, members)
        found = await images.pull(engine, role, members, images.pinned(keeper, scope, self.task, name))
        if found.reference == members["image"]:
            return found  # of this machine: no registry has said what it means
        digest = await keeper.db.write(lambda tx: images.pin(keeper, tx, scope, self.task, name, found.digest))
        return found if digest == found.digest else await images.pull(engine, role, members, digest)

    async def _start_due(self, engine: Engine, definition: dict[str, Any], pod: PodState) -> bool:
        """Start the next container whose dependencies have come true; whether there was one."""
        for members in definition["containerDefinitions"]:
            one = self._container(members["name"])
            if one.started or one.status == "STOPPED" or not self._may_start(definition, members):
                continue
            await self._start(engine, definition, members, pod)
            return True
        return False

    def _may_start(self, definition: dict[str, Any], members: dict[str, Any]) -> bool:
        """Whether a container's dependencies have come true. Raises _Failed when one never will."""
        for dependency in firelens.dependencies(definition, members):
            name, condition = dependency["containerName"], dependency["condition"]
            other = self._container(name)
            has_ended = other.status == "STOPPED"
            if condition == "START":
                met = other.started
            elif condition == "COMPLETE":
                met = has_ended
            elif condition == "SUCCESS":
                met = has_ended and other.exit_code == 0
            else:
                met = other.health == "HEALTHY"
            never = (condition == "SUCCESS" and has_ended and other.exit_code != 0) or (
                condition == "HEALTHY" and (has_ended or other.health == "UNHEALTHY")
            )
            if never:
                raise _Failed(
                    f"Container '{members['name']}' cannot start: its dependency '{name}' did not become {condition}."
                )
            if not met:
                self._check_patience(definition, name, condition)
                return False
        proxy = definition.get("proxyConfiguration")
        if proxy is None or members["name"] in sidecars.before_all(definition):
            return True
        return self._container(proxy["containerName"]).started

    def _check_patience(self, definition: dict[str, Any], name: str, condition: str) -> None:
        """Raises _Failed once a container has had its ``startTimeout`` to become what another waits for."""
        members = next(one for one in definition["containerDefinitions"] if one["name"] == name)
        begun = self._begun.get(name)
        if "startTimeout" not in members or begun is None:
            return
        clock, end = self._keeper.clock, begun + members["startTimeout"]
        if clock.now() >= end:
            raise _Failed(f"Container '{name}' did not become {condition} within its startTimeout.")
        if name not in self._patience:
            self._patience[name] = clock.call_at(end, self.poke)

    async def _start(self, engine: Engine, definition: dict[str, Any], members: dict[str, Any], pod: PodState) -> None:
        keeper, name = self._keeper, members["name"]
        endpoint = keeper.relay.endpoint(pod.name, pod.namespace, keeper.abilities.host_address)
        container = await preparing.container_of(keeper.cloud, self._scope, self.task, definition, name, pod, endpoint)
        if (place := preparing.log_stream(self._scope, self.task, members)) is not None:
            try:
                await keeper.shipping.make(*place)
            except AwsError as error:
                raise _Failed(
                    "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 "
                    f"times: failed to create Cloudwatch log stream: {error.code}: {error.message} : exit status 1"
                ) from None
            keeper.shipping.direct(container.name, place[0])
        self._route(members)
        if "firelensConfiguration" in members:
            await preparing.configure_router(keeper.cloud, self._scope, self.task, definition)
        await asyncio.to_thread(preparing.make_folders, container, keeper.cloud)
        try:
            if sidecars.is_proxy(definition, members):
                prepared = await sidecars.prepare(keeper.cloud, self._scope, self.task, definition, pod, container)
                if prepared is None:
                    # It has been told what to carry before we are: that is what its health check would find.
                    health = "HEALTHY" if "healthCheck" in members else "UNKNOWN"
                    await self._change_container(
                        name, started=True, status="RUNNING", health=health, runtime_id=sidecars.IN_PLACE
                    )
                    return
                container = prepared
                if keeper.abilities.images and not container.image.startswith("/"):
                    await engine.ensure_image(container.image)
            state = await engine.run(container)
        except engines.ImageMissing as error:
            raise _Failed(images.cannot_pull(members["image"], str(error))) from None
        except engines.CannotStart as error:
            await self._change_container(name, status="STOPPED", reason=f"CannotStartContainerError: {error}")
            raise _Failed(f"CannotStartContainerError: {error}") from None
        await self._change_container(
            name,
            started=True,
            status="RUNNING",
            runtime_id=self._runtime_id(name),
            digest=self._container(name).digest or state.image_digest,
        )
        if state.exit_code is not None:
            self._exits.setdefault(name, state)
        else:
            self._watch(definition, name)

    async def _join_mesh(self, definition: dict[str, Any], name: str) -> None:
        """Have App Mesh take up the Envoy of this task again."""
        assert self._pod is not None
        endpoint = self._keeper.relay.endpoint(self._pod.name, self._pod.namespace, self._keeper.abilities.host_address)
        cloud = self._keeper.cloud
        container = await preparing.container_of(cloud, self._scope, self.task, definition, name, self._pod, endpoint)
        await sidecars.prepare(cloud, self._scope, self.task, definition, self._pod, container)

    def _watch(self, definition: dict[str, Any], name: str) -> None:
        """Begin a container's health checks, and know where its lines go."""
        members = next(one for one in definition["containerDefinitions"] if one["name"] == name)
        if (place := preparing.log_stream(self._scope, self.task, members)) is not None:
            self._keeper.shipping.direct(preparing.container_name(self.task, name), place[0])
        self._route(members)
        self._begun.setdefault(name, self._keeper.clock.now())
        check = members.get("healthCheck")
        if check is not None and check["command"][0] != "NONE" and name not in self._health:
            self._health[name] = Health(
                self._keeper, preparing.container_name(self.task, name), check, lambda state: self._judged(name, state)
            )
            self._health[name].start()

    def _route(self, members: dict[str, Any]) -> None:
        """Have a container's lines go to the task's router, where that is its log driver."""
        if not firelens.is_routed(members):
            return
        cloud = self._keeper.cloud
        if self._forwarder is None:
            self._forwarder = Forwarder(cloud, preparing.firelens_folder(cloud, self.task) / "socket")
        forwarder, name = self._forwarder, preparing.container_name(self.task, members["name"])
        tag, about = firelens.tag(members, self.id), {"container_id": self._runtime_id(members["name"])}

        def take(source: str, line: bytes) -> None:
            text = line.decode(errors="replace").rstrip("\r\n")
            forwarder.take(tag, {**about, "container_name": f"/{name}", "source": source, "log": text})

        self._keeper.shipping.route(name, take)

    def _runtime_id(self, name: str) -> str:
        return f"{self.id}-{zlib.crc32(name.encode())}"

    def _judged(self, name: str, state: str) -> None:
        self._healths[name] = state
        self._news.set()

    async def _judge(self, definition: dict[str, Any]) -> None:
        """Carry over what health checks found, to the container, the task and its service."""
        for name, state in list(self._healths.items()):
            if self._container(name).health != state and self._container(name).status == "RUNNING":
                await self._change_container(name, health=state)
        states = [self._container(name).health for name in checked(definition)]
        health = "UNKNOWN"
        if "UNHEALTHY" in states:
            health = "UNHEALTHY"
        elif states and all(state == "HEALTHY" for state in states):
            health = "HEALTHY"
        if health != self.task.health:
            await self._change(health=health)
            await self._keeper.tell_health(self._scope, self.task)
        await self._keeper.judge(self._scope, self.task, bool(states))

    async def _note_exits(self, definition: dict[str, Any]) -> None:
        """Record the containers that have ended: an essential one takes the task with it."""
        while self._exits:
            name, state = self._exits.popitem()
            members = next(one for one in definition["containerDefinitions"] if one["name"] == name)
            health = self._health.pop(name, None)
            if health is not None:
                health.stop()
            self._healths.pop(name, None)
            if await self._restart(members, state):
                continue
            await self._note_exit(name, state, members["essential"])

    async def _note_exit(self, name: str, state: ContainerState, is_essential: bool) -> None:
        is_early = self.task.status in ("PROVISIONING", "PENDING")
        reason = state.reason if state.reason and (is_early or "OutOfMemory" in state.reason) else _ESSENTIAL
        ended = {"status": "STOPPED", "exit_code": state.exit_code, "reason": state.reason, "started": True}

        def note(tx: Tx) -> None:
            self._keeper.change_container_in(tx, self._scope, self.task, name, **ended)
            if is_essential:  # at once: killed in between, nobody would know any more that the task has to end
                self._stop_in(tx, "EssentialContainerExited", reason)

        await self._keeper.db.write(note)
        self._keeper.task_changed(self._scope, self.task)

    async def _restart(self, members: dict[str, Any], state: ContainerState) -> bool:
        """Start a container again whose restart policy says so; whether it does."""
        policy = members.get("restartPolicy") or {}
        one, now = self._container(members["name"]), self._keeper.clock.now()
        least = policy.get("restartAttemptPeriod", 300)
        ran = now - self._restarted.get(members["name"], self.task.started or now)
        if not policy.get("enabled") or state.exit_code in policy.get("ignoredExitCodes", ()) or ran < least:
            return False
        self._restarted[members["name"]] = now
        engine = await self._keeper.engine()
        await engine.remove(preparing.container_name(self.task, one.name))
        await self._change_container(one.name, started=False, status="PENDING", restarts=one.restarts + 1)
        return True

    # Down

    async def _put_down(self, definition: dict[str, Any]) -> None:
        """Take the task out of what sends it traffic, stop its containers, remove its network.

        What another service fails to do is tried again, but no container and no network waits for that.
        """
        if self.task.status == "STOPPED":
            return
        keeper = self._keeper
        if self.task.status in ("RUNNING", "ACTIVATING", "DEACTIVATING"):
            self._is_connected = True
            await self._change(status="DEACTIVATING", ready=False)
            try:
                await self._disconnect()
            except Exception as error:
                log.warning("task %s still has traffic while it is put down: %r", self.id, error)
        await self._change(status="STOPPING")
        try:
            engine = await keeper.engine()
        except engines.EngineMissing:
            engine = None
        if engine is not None:
            await self._stop_containers(engine, definition)
        await self._change(status="DEPROVISIONING", execution_stopped=keeper.clock.now())
        try:
            await keeper.relay.close(self.id)
            await guarding.close(keeper.cloud, self._scope, self.task)
            await keeper.connecting.close(self.task)
            await keeper.drop_certificates(self._scope, self.task)
            if self.task.bindings:
                await keeper.unpublish(self.task)
            await sidecars.finish(keeper.cloud, self._scope, self.task, definition)
        finally:
            if engine is not None:
                await engine.remove_pod(self.id)
        await self._disconnect()
        await keeper.shipping.flush()
        for one in self.task.containers:
            keeper.shipping.forget(preparing.container_name(self.task, one.name))
        if self._forwarder is not None:
            self._forwarder.close()
            await asyncio.to_thread(shutil.rmtree, preparing.firelens_folder(keeper.cloud, self.task), True)
        await asyncio.to_thread(shutil.rmtree, preparing.volumes_folder(keeper.cloud, self.task), True)
        keeper.recovered.pop(self.id, None)
        await self._change(
            status="STOPPED",
            stopped=keeper.clock.now(),
            containers=tuple(msgspec.structs.replace(one, status="STOPPED") for one in self.task.containers),
        )

    async def _disconnect(self) -> None:
        if self._is_connected:
            await self._keeper.disconnect(self._scope, self.task)
            self._is_connected = False

    async def _stop_containers(self, engine: Engine, definition: dict[str, Any]) -> None:
        """Stop containers before those that they depend on; independent ones at once."""
        left = {one["name"]: one for one in definition["containerDefinitions"]}
        while left:
            needed = {
                other["containerName"] for one in left.values() for other in firelens.dependencies(definition, one)
            }
            wave = [name for name in left if name not in needed] or list(left)
            await asyncio.gather(*(self._stop_container(engine, left[name]) for name in wave))
            for name in wave:
                del left[name]

    async def _stop_container(self, engine: Engine, members: dict[str, Any]) -> None:
        one = self._container(members["name"])
        name = preparing.container_name(self.task, one.name)
        if one.runtime_id == sidecars.IN_PLACE:
            return
        if self._forwarder is not None and "firelensConfiguration" in members:
            await self._forwarder.flush(_LAST_LINES)
        if one.status != "STOPPED" and (one.started or self._pod is not None):
            await engine.stop(name, float(members.get("stopTimeout", _GRACE)))
        state = self._exits.pop(one.name, None)
        if state is not None and one.exit_code is None:
            await self._change_container(
                one.name, exit_code=state.exit_code, reason=one.reason or state.reason, status="STOPPED"
            )
        if one.started:
            await engine.remove(name)

    async def _fail(self, code: str, reason: str) -> None:
        """The task ends by itself; if somebody has stopped it before, that is the reason."""
        await self._keeper.db.write(lambda tx: self._stop_in(tx, code, reason))

    def _stop_in(self, tx: Tx, code: str, reason: str) -> None:
        record = self._keeper.tasks.get(self._scope, self._key, tx)
        if record is not None and record.value.is_active:
            made = stopping(record.value, code, reason, self._keeper.clock.now())
            self._keeper.put_task(tx, self._scope, made)

    # The record

    def _container(self, name: str) -> Container:
        return next(one for one in self.task.containers if one.name == name)

    async def _change(self, **changes: Any) -> None:
        await self._keeper.change_task(self._scope, self.task, **changes)
        self._keeper.task_changed(self._scope, self.task)

    async def _change_container(self, name: str, **changes: Any) -> None:
        await self._keeper.change_container(self._scope, self.task, name, **changes)
        self._keeper.task_changed(self._scope, self.task)
