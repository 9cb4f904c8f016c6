"""The Envoys that run: started, told what to carry whenever it changes, taken up again after a kill, removed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudlet.control.reconcile import Reconciler, Step
from cloudlet.engines.proxies.apart import own_user
from cloudlet.errors import AwsError
from cloudlet.services.appmesh import redirect as redirecting
from cloudlet.services.appmesh.environment import Environment, environment_of, resource_of
from cloudlet.services.appmesh.images import is_envoy_image
from cloudlet.services.appmesh.lines import Lines
from cloudlet.services.appmesh.looking import Looking
from cloudlet.services.appmesh.operations import Operations
from cloudlet.services.appmesh.records import KINDS, MESH, Part, key_of
from cloudlet.services.appmesh.redirect import Redirect
from cloudlet.services.appmesh.running import LINES, LOG, Running, Sidecar, envoy_of
from cloudlet.services.appmesh.security import MaterialMissing, check_files
from cloudlet.services.appmesh.tracing import Xray
from cloudlet.services.appmesh.unheeded import unheeded
from cloudlet.services.appmesh.world import Proxy, World, world_of
from cloudlet.store import Resources

if TYPE_CHECKING:
    from cloudlet.engines.containers.api import Container, PodState
    from cloudlet.engines.proxies.files import Files

log = logging.getLogger("cloudlet.appmesh")

_BURST = 0.005  # seconds in which changes are gathered


class Sidecars(Operations):
    """Keeps as many Envoys as there are sidecars, each carrying what its mesh says now."""

    sidecars: Resources[Sidecar]

    async def start(self) -> None:
        await super().start()
        self.sidecars = self.db.resources(Sidecar, lenient=True)  # ECS asks again for those that it needs
        self.running: dict[tuple[str, str], Running] = {}
        self._looking = Looking(self.cloud, self._everything_changed)
        self._states: dict[tuple[str, str], int] = {}
        self._worlds: dict[tuple[str, str], tuple[int, World | None]] = {}
        self._made: dict[tuple[int, str, str, Proxy], asyncio.Task[Files]] = {}
        self._epoch = 1
        self._lines = Lines()
        self._unshipped: list[tuple[str, str, bytes]] = []
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._burst: asyncio.TimerHandle | None = None
        self._reconciler: Reconciler | None = None
        if self.sidecars.all():
            self._begin()
            # Whatever still runs is adopted before the cloud ends what nobody has taken up.
            found = [(one.scope, one.name, one.value) for one in self.sidecars.all()]
            for error in await asyncio.gather(*(self._run(*one) for one in found), return_exceptions=True):
                if isinstance(error, BaseException):
                    log.warning("an Envoy is not taken up again yet: %r", error)

    async def stop(self) -> None:
        if self._burst is not None:
            self._burst.cancel()
        if self._reconciler is not None:
            await self._reconciler.stop()
        self._lines.stop()

    # What ECS asks for

    async def sidecar(
        self, scope: str, task: Any, proxy: dict[str, Any], pod: PodState, container: Container
    ) -> Container | None:
        """Join a task to its mesh: called before its containers start, and again after a restart.

        None: Cloudlet's own Envoy runs in the place of this container. A container with an image of its own is given
        back behind the same redirect, with our Envoy in it where it names a node or gateway. A gateway's task has no
        proxyConfiguration, which is then empty: nothing is redirected. Raises CannotStart with the reason.
        """
        from cloudlet.engines.containers.api import CannotStart, Mount
        from cloudlet.engines.proxies.api import ProxyMissing
        from cloudlet.engines.proxies.inside import EnvoyInside

        if not pod.namespace:
            raise CannotStart("App Mesh needs tasks with a network namespace of their own, which this engine has not")
        inside = not is_envoy_image(container.image)
        try:
            rules = redirecting.redirect_of(proxy.get("properties", ())) if proxy else None
            if inside and not resource_of(container.environment):
                if rules is not None:
                    await redirecting.install(pod.namespace, rules)
                return container
            is_new = self.sidecars.get(scope, task.id) is None
            await self.join(
                *(scope, task.id, environment_of(container.environment), pod.namespace, rules),
                dns=await self._dns_of_tasks(),
                files={mount.target: mount.source for mount in container.mounts if mount.source.startswith("/")},
                container=container.name,
                inside_as=_uid_of(container.user) if inside else None,
            )
            running = self.running[scope, task.id]
            for line in unheeded(container.environment) if is_new else ():
                self._line(running.sidecar, "stderr", line.encode())
            if not inside:
                return None
            assert isinstance(running.envoy, EnvoyInside)
            mounts = await asyncio.to_thread(running.envoy.mounts)
        except ValueError as error:
            raise CannotStart(f"The proxy's configuration: {error}") from None
        except AwsError as error:
            raise CannotStart(f"{error.code}: {error.message}") from None
        except (MaterialMissing, ProxyMissing, redirecting.CannotRedirect, OSError, RuntimeError) as error:
            raise CannotStart(str(error)) from None
        given = [Mount(str(source), target, source != running.folder) for source, target in mounts]
        return replace(container, mounts=(*container.mounts, *given))

    async def sidecar_gone(self, scope: str, task: Any) -> None:
        """The task has ended: so does its Envoy."""
        await self.leave(scope, task.id)

    async def _dns_of_tasks(self) -> tuple[str, int] | None:
        """The DNS server as tasks reach it."""
        ecs: Any = await self.cloud.service("ecs")
        servers: Sequence[str] = await ecs.name_servers()
        return (servers[0], 53) if servers else None

    # Joining and leaving, also without ECS

    async def join(
        self,
        scope: str,
        name: str,
        environment: Environment,
        namespace: str,
        redirect: Redirect | None = None,
        *,
        dns: tuple[str, int] | None = None,
        files: Mapping[str, str] | None = None,
        container: str = "",
        inside_as: int | None = None,
    ) -> None:
        """Run an Envoy in a network namespace and, with ``redirect``, lead the namespace's traffic through it.

        ``files`` are folders of the Envoy container on this machine; ``inside_as`` is the user of a container that
        starts Envoy itself. The Envoy has been told what to carry when this returns. Raises ProxyMissing,
        CannotRedirect, MaterialMissing, and AwsError where another service says so.
        """
        uid = self._user_of(scope, name) if inside_as is None else inside_as
        made = Sidecar(
            *(environment, namespace, redirect, uid, dns, dict(files or {}), container), inside=inside_as is not None
        )
        await self.db.write(lambda tx: self.sidecars.put(tx, scope, name, made))
        self._begin()
        try:
            await self._run(scope, name, made)
        except BaseException:
            await self.leave(scope, name)
            raise

    async def leave(self, scope: str, name: str) -> None:
        """End an Envoy and its redirect; it does not have to be there."""
        found = self.sidecars.get(scope, name)
        if found is None:
            return
        await self.db.write(lambda tx: self.sidecars.delete(tx, scope, name))
        await self._end(scope, name, found.value)

    def _user_of(self, scope: str, name: str) -> int:
        """Whom an Envoy runs as: nobody else does, and it stays so."""
        if (known := self.sidecars.get(scope, name)) is not None:
            return known.value.uid
        return own_user({one.value.uid for one in self.sidecars.all()})

    # Keeping them as they should be

    def mesh_changed(self, scope: str, mesh: str) -> None:
        self._states[scope, mesh] = self._states.get((scope, mesh), 0) + 1
        self._made.clear()
        self._trigger_soon()

    def _everything_changed(self) -> None:
        self._epoch += 1
        self._made.clear()
        self._trigger_soon()

    def _trigger_soon(self) -> None:
        """Gather a burst of changes, then look."""
        if self._reconciler is not None and self._burst is None:
            self._burst = asyncio.get_running_loop().call_later(_BURST, self._trigger)

    def _trigger(self) -> None:
        self._burst = None
        if self._reconciler is not None:
            self._reconciler.trigger()

    def _begin(self) -> None:
        if self._reconciler is None:
            self._reconciler = Reconciler("appmesh", self.plan, self.clock)
            self._reconciler.start()
            self.cloud.metrics.gauge(self.measure)

    def plan(self) -> Sequence[Step]:
        """What differs: Envoys that do not run, that carry an old state, that nobody wants any longer."""
        steps: list[Step] = []
        wanted = {(one.scope, one.name): one.value for one in self.sidecars.all()}
        for place, sidecar in wanted.items():
            running = self.running.get(place)
            if running is None or running.carries != self._state(place[0], sidecar.mesh):
                step = "run" if running is None else "tell"
                steps.append(Step(f"{step} {place[1]}", partial(self._run, *place, sidecar)))
        for place, running in self.running.items():
            if place not in wanted:
                steps.append(Step(f"end {place[1]}", partial(self._end, *place, running.sidecar)))
        return steps

    def _state(self, scope: str, mesh: str) -> int:
        """A number that is another whenever a mesh, or what was looked up for it, may be."""
        return self._epoch * 1_000_000_000 + self._states.get((scope, mesh), 0)

    async def _run(self, scope: str, name: str, sidecar: Sidecar) -> None:
        """Start or adopt an Envoy, and tell it the state of its mesh. A second time does nothing."""
        async with self._locks[scope, name]:
            if (wanted := self.sidecars.get(scope, name)) is None or wanted.value != sidecar:
                return
            running = self.running.get((scope, name))
            if running is None:
                if sidecar.namespace and not os.path.exists(sidecar.namespace):
                    raise RuntimeError(f"the network namespace {sidecar.namespace} is gone")
                running = await self._start_envoy(scope, name, sidecar)
            if running.sidecar != sidecar:
                running.sidecar, running.carries = sidecar, 0
            state = self._state(scope, sidecar.mesh)
            if running.carries != state:
                try:
                    await self._tell(scope, running, state)
                except (MaterialMissing, AwsError) as error:
                    self._complain(running, f"carries what it did before: {error}")
                    raise
                running.carries = state

    async def _start_envoy(self, scope: str, name: str, sidecar: Sidecar) -> Running:
        if isinstance(sidecar.environment.tracer, Xray):
            await self._receive_traces(scope, name, sidecar)
        folder = self.cloud.data_dir / "appmesh" / name
        envoy = await envoy_of(sidecar, folder, name, self.cloud.supervisor, lambda: self._ended(scope, name))
        running = Running(sidecar, envoy)
        running.followed.append(self._lines.follow(folder / LOG, partial(self._said, sidecar)))
        if not sidecar.inside:
            running.followed.append(self._lines.follow(folder / LINES, partial(self._line, sidecar, "stdout")))
        try:
            await envoy.start()
            if sidecar.redirect is not None:
                await redirecting.install(sidecar.namespace, sidecar.redirect, sidecar.uid)
        except BaseException:
            running.unfollow()
            await envoy.stop()
            raise
        self.running[scope, name] = running
        # Something is counted, so that numbers are asked for at the minute's end.
        self.cloud.metrics.add(scope, "AppMesh", "SidecarStarted", sidecar.dimensions, 1, "Count")
        return running

    async def _receive_traces(self, scope: str, name: str, sidecar: Sidecar) -> None:
        """Listen in the Envoy's network as X-Ray's daemon does, unless somebody does already."""
        xray: Any = await self.cloud.service("xray")
        try:
            await xray.open_daemon(name, sidecar.namespace, scope)
        except OSError as error:
            log.warning("%s: its traces do not come here: %s", sidecar.resource, error)

    async def _tell(self, scope: str, running: Running, state: int) -> None:
        """Publish what the mesh says now. A node that is there no longer leaves its Envoy as it is."""
        from cloudlet.services.appmesh.snapshots import waiting_snapshot

        sidecar = running.sidecar
        world = self._world(scope, sidecar.mesh)
        if world is None or sidecar.name not in (world.gateways if sidecar.is_gateway else world.nodes):
            self._complain(running, "carries nothing new: it is not there")
            if not running.envoy.carries:
                await running.envoy.publish(waiting_snapshot(sidecar.proxy))
            return
        place = (state, scope, sidecar.resource, sidecar.proxy)
        if place not in self._made:
            self._made[place] = asyncio.ensure_future(self._files(scope, sidecar, world))
        try:
            files = await asyncio.shield(self._made[place])
        except BaseException:
            self._made.pop(place, None)
            raise
        await running.envoy.publish(files)
        running.complaint = ""

    async def _files(self, scope: str, sidecar: Sidecar, world: World) -> Files:
        """What an Envoy carries: made once for all that are joined to the same node in the same way."""
        from cloudlet.engines.proxies.files import Files
        from cloudlet.services.appmesh.snapshots import gateway_snapshot, node_snapshot

        found = await self._looking.found(scope, world, sidecar.name, gateway=sidecar.is_gateway)
        make = gateway_snapshot if sidecar.is_gateway else node_snapshot
        snapshot = make(world, sidecar.name, found, sidecar.proxy)
        if not sidecar.inside:
            await asyncio.to_thread(check_files, snapshot)
        return Files(snapshot)

    def _world(self, scope: str, mesh: str) -> World | None:
        """The mesh as it is, made once for each of its states."""
        state = self._states.get((scope, mesh), 0)
        known = self._worlds.get((scope, mesh))
        if known is None or known[0] != state:
            of: World | None = None
            if (record := self.parts.get(scope, key_of(MESH, mesh, "", mesh))) is not None:
                parts: list[Part] = []
                for kind in KINDS.values():
                    if kind is not MESH:
                        parts += [one.value for one in self.parts.list(scope, f"{kind.name}/{mesh}/")]
                of = world_of(record.value, parts)
            known = self._worlds[scope, mesh] = (state, of)
        return known[1]

    async def _end(self, scope: str, name: str, sidecar: Sidecar) -> None:
        async with self._locks[scope, name]:
            if self.sidecars.get(scope, name) is not None:
                return
            if sidecar.redirect is not None:
                await redirecting.remove(sidecar.namespace)
            running = self.running.pop((scope, name), None)
            if running is not None:
                await running.envoy.stop()
                running.unfollow()
            if isinstance(sidecar.environment.tracer, Xray):
                xray: Any = await self.cloud.service("xray")
                xray.close_daemon(name)
            await asyncio.to_thread(shutil.rmtree, self.cloud.data_dir / "appmesh" / name, ignore_errors=True)
        self._locks.pop((scope, name), None)
        self._made.clear()

    def _ended(self, scope: str, name: str) -> None:
        """An Envoy has ended by itself: another is started."""
        running = self.running.pop((scope, name), None)
        if running is not None:
            running.unfollow()
        self._trigger_soon()

    def _complain(self, running: Running, words: str) -> None:
        """Say once, in the log of the task too, why its Envoy does not carry what its mesh says."""
        if running.complaint != words:
            running.complaint = words
            sidecar = running.sidecar
            log.warning("the Envoy of %s %s", sidecar.resource, words)
            self._line(sidecar, "stderr", f"Cloudlet: the Envoy of {sidecar.resource} {words}".encode())

    def _said(self, sidecar: Sidecar, line: bytes) -> None:
        """A line of Envoy's own log, which is the one place where it says what it refuses and why."""
        _, refused, why = line.partition(b" config update rejected: ")
        if refused:
            log.warning("the Envoy of %s refuses what it was told: %s", sidecar.resource, why.decode(errors="replace"))
        self._line(sidecar, "stderr", line)

    def _line(self, sidecar: Sidecar, stream: str, line: bytes) -> None:
        """A line for the log of a task's Envoy: gathered, then given to ECS."""
        if not sidecar.container:
            return
        if not self._unshipped:
            self.cloud.spawn(self._ship(), "Envoys' logs")
        self._unshipped.append((sidecar.container, stream, line))

    async def _ship(self) -> None:
        ecs: Any = await self.cloud.service("ecs")
        unshipped, self._unshipped = self._unshipped, []
        for container, stream, line in unshipped:
            ecs.shipping.printed(container, stream, line)

    async def measure(self) -> list[Any]:
        """What CloudWatch is told of every Envoy once a minute."""
        from cloudlet.services.appmesh.reporting import gauges

        found: list[Any] = []
        for (scope, _), running in list(self.running.items()):
            try:
                found += await gauges(scope, running, running.sidecar.dimensions)
            except OSError:
                continue  # it is being started again
        return found


def _uid_of(user: str) -> int:
    """The number of a container's user, as far as its name says it: others are root's."""
    number = user.partition(":")[0]
    return int(number) if number.isdigit() else 0
