"""Containers by the Docker API: Docker or Podman, on whichever socket answers, or a Podman service of our own.

A pod is a container of its own that does nothing but hold the network (its image is made here, ``archives.py``); all
containers of the task join it, so that any of them may come and go. Engines keep all state: labels find it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudlet.control.supervisor import Supervisor
from cloudlet.engines.containers import archives, cgroups, translate
from cloudlet.engines.containers.api import (
    Abilities,
    CannotStart,
    Container,
    ContainerState,
    EngineMissing,
    Execution,
    ImageMissing,
    LogSink,
    Pod,
    PodState,
    Usage,
)
from cloudlet.engines.containers.daemon import Daemon, DaemonError
from cloudlet.engines.containers.docker_images import DockerImages
from cloudlet.engines.containers.network import HostReach, NetworkError, Shared, free_subnet
from cloudlet.engines.containers.podman import PodmanService, highest_limits
from cloudlet.engines.containers.sessions import Session
from cloudlet.engines.containers.tail import Tail

log = logging.getLogger("cloudlet.containers")

_RETRY = 0.5
# What Podman says of a container that goes while it is looked at, or that is half removed.
_HALF_REMOVED = re.compile(r'container from store "([0-9a-f]+)": container not known')
_GONE = ("no such container", "container not known")
_LONGEST_START = 15.0  # seconds until a Podman of ours must have answered
_LONGEST_END = 10.0  # seconds that a stop waits for the engine to tell of the end


@dataclass(slots=True)
class _Known:
    """A container whose log and end are told."""

    id: str
    tail: Tail
    pid: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Docker(DockerImages):
    """The engine behind one socket."""

    def __init__(self, supervisor: Supervisor, folder: Path, kind: str = "") -> None:
        """``folder`` is for what must outlive us; ``kind`` is "docker", "podman", or empty for either."""
        self._supervisor = supervisor
        self._folder = folder
        self._kind = kind
        self._cloud = supervisor.cloud_id
        self._network = f"cloudlet-{self._cloud[:8]}"
        self._bridge = f"cl{self._cloud[:8]}"
        self._folders = f"localhost/cloudlet/folders-{self._cloud[:8]}"  # images of folders that containers name
        self._service: PodmanService | None = None
        self._reach: HostReach | None = None
        self._shared = Shared(self._open_network, self._close_network)
        self._known: dict[str, _Known] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._stopped: set[str] = set()  # containers that we have signalled
        self._pods: dict[str, tuple[str, str]] = {}  # a pod's name -> its holder's id, and its host name
        self._digests: dict[str, str] = {}  # an image's id -> its digest
        self._events: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._making: set[asyncio.Task[None]] = set()

    # The engine

    async def start(self, logs: LogSink, exited: Callable[[ContainerState], object]) -> Abilities:
        self._logs, self._exited = logs, exited
        await asyncio.to_thread((self._folder / "logs").mkdir, parents=True, exist_ok=True)
        version = await self._connect()
        information = await self._daemon.call("GET", "/info")
        components = [part.get("Name", "") for part in version.get("Components") or ()]
        self._podman = "Podman Engine" in components
        rootless = information.get("Rootless") or "name=rootless" in str(information.get("SecurityOptions"))
        # Their networks are inside a machine or a namespace of their own.
        apart = rootless or "Desktop" in information.get("OperatingSystem", "") or not os.path.exists("/proc/self/ns")
        await self._ensure_pause()
        self._subnet = await self._choose_subnet()
        gateway = str(self._subnet[1])
        if not apart and HostReach.possible():
            self._reach = HostReach(self._network, self._bridge, gateway)
        self.abilities = Abilities(
            "podman" if self._podman else "docker",
            version["Version"],
            limits_cpu=bool(information.get("CpuCfsQuota", information.get("CPUCfsQuota"))),
            limits_memory=bool(information.get("MemoryLimit")),
            own_addresses=not apart,
            images=True,
            host_address=gateway if self._reach is not None else "",
        )
        self._events = asyncio.get_running_loop().create_task(self._listen(time.time()))
        return self.abilities

    async def stop_engine(self) -> None:
        ending = [*self._tasks, *([self._events] if self._events else [])]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for known in self._known.values():
            await known.tail.stop()
        self._known.clear()
        if self._service is not None:
            await self._service.stop()

    async def clear(self) -> None:
        if self._making:
            await asyncio.wait(list(self._making))
        known, self._known = self._known, {}
        for one in known.values():
            await one.tail.stop()
            one.ended.set()
        for document in await self._ours():
            # One that is being stopped is removed without its processes, if they are not killed first.
            with contextlib.suppress(DaemonError):
                await self._daemon.call("POST", f"/containers/{document['Id']}/kill")
            await self._delete(document["Id"])
        self._pods.clear()
        filters = json.dumps({"label": [f"{translate.CLOUD}={self._cloud}"]})
        volumes = await self._daemon.call("GET", "/volumes", {"filters": filters})
        for volume in volumes.get("Volumes") or ():
            await self._forget(f"/volumes/{volume['Name']}")
        await self.forget_folders()
        self._shared = Shared(self._open_network, self._close_network)
        await self._close_network()
        await asyncio.to_thread(shutil.rmtree, self._folder / "logs", ignore_errors=True)
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)

    async def forget_folders(self) -> None:
        reference = json.dumps({"reference": [f"{self._folders}:*"]})
        for image in await self._daemon.call("GET", "/images/json", {"filters": reference}):
            # By our own names: it may have others. One that a container still uses stays (409).
            for name in image.get("RepoTags") or ():
                if name.startswith(f"{self._folders}:"):
                    await self._forget(f"/images/{name}")

    async def recover(self) -> tuple[list[PodState], list[ContainerState]]:
        pods, containers = [], []
        listed = await self._ours()
        documents = await asyncio.gather(*(self._inspect(one["Id"]) for one in listed))
        for one, document in zip(listed, documents, strict=True):
            if document is None:
                # Its removal was broken off with the engine that was at it.
                await self._delete(one["Id"])
                continue
            labels, running = document["Config"]["Labels"], document["State"]["Running"]
            if labels[translate.KIND] == "pod" and running:
                pods.append(self._have_pod(document))
                if labels[translate.NETWORK] == "own":
                    await self._shared.take(labels[translate.NAME])
            elif labels[translate.KIND] == "pod" or not document["State"]["StartedAt"].startswith("2"):
                # Made, but never started; or what held the network is gone, so that it has to be made anew.
                await self._delete(document["Id"])
            else:
                name = labels[translate.NAME]
                self._watch(name, document)
                containers.append(await self._state(document))
                if not running:
                    await self._known.pop(name).tail.finish()
        return pods, containers

    async def _connect(self) -> dict[str, Any]:
        for path in translate.sockets(dict(os.environ), self._kind):
            with contextlib.suppress(DaemonError):
                self._daemon = Daemon(path)
                return await self._daemon.call("GET", "/version")  # type: ignore[no-any-return]
        if self._kind == "docker":
            raise EngineMissing("No Docker answers here; install it (apt-get install docker.io), or start it")
        self._service = PodmanService(self._supervisor, self._folder)
        self._daemon = Daemon(self._service.start())
        try:
            return await asyncio.wait_for(self._daemon.call("GET", "/version"), _LONGEST_START)
        except (DaemonError, TimeoutError):
            said = self._service.log.read_text()[-1000:]
            await self._service.stop()
            raise EngineMissing(f"Podman does not work here: {said or 'it does not answer'}") from None

    async def _ensure_pause(self) -> None:
        if await self._image(archives.PAUSE) is None:
            with tempfile.NamedTemporaryFile() as file:
                archives.pause_archive(file)
                file.flush()
                await self._load(Path(file.name))

    async def _choose_subnet(self) -> ipaddress.IPv4Network:
        """The addresses of our network: those that it has, or that no other network of the engine has."""
        taken = []
        for name, block in await self._networks():
            subnet = ipaddress.ip_network(block or "::/128")
            if isinstance(subnet, ipaddress.IPv4Network):
                if name == self._network:
                    return subnet
                taken.append(subnet)
        try:
            return free_subnet(self._cloud, taken)
        except NetworkError as error:
            raise EngineMissing(str(error)) from None

    async def _networks(self) -> list[tuple[str, str]]:
        """Each block of addresses that a network of the engine has, with the network's name."""
        if self._podman:
            # Docker's own call fails in Podman when a container goes while it looks.
            listed = await self._daemon.call("GET", "/v4.0.0/libpod/networks/json")
            return [(one["name"], block["subnet"]) for one in listed for block in one.get("subnets") or ()]
        listed = await self._daemon.call("GET", "/networks")
        return [
            (one["Name"], block.get("Subnet", ""))
            for one in listed
            for block in (one.get("IPAM") or {}).get("Config") or ()
        ]

    async def _open_network(self) -> None:
        labels, gateway = {translate.CLOUD: self._cloud}, str(self._subnet[1])
        if self._podman:
            # Without a DNS server of its own: names are answered by ours.
            body: dict[str, Any] = {
                "name": self._network,
                "driver": "bridge",
                "network_interface": self._bridge,
                "subnets": [{"subnet": str(self._subnet), "gateway": gateway}],
                "dns_enabled": False,
                "labels": labels,
            }
            path = "/v4.0.0/libpod/networks/create"
        else:
            body = {
                "Name": self._network,
                "Driver": "bridge",
                "IPAM": {"Config": [{"Subnet": str(self._subnet), "Gateway": gateway}]},
                "Options": {"com.docker.network.bridge.name": self._bridge},
                "Labels": labels,
            }
            path = "/networks/create"
        try:
            # Docker's own call fails in Podman while any container is half removed.
            one = f"/v4.0.0/libpod/networks/{self._network}/json" if self._podman else f"/networks/{self._network}"
            await self._daemon.call("GET", one)
        except DaemonError as error:
            if error.status != 404:
                raise
            await self._daemon.call("POST", path, body=body)
        if self._reach is not None:
            await self._reach.open()

    async def _close_network(self) -> None:
        if self._reach is not None:
            await self._reach.close()
        await self._forget(f"/networks/{self._network}")

    # Pods

    async def create_pod(self, pod: Pod) -> PodState:
        async with self._lock(pod.name):
            title = self._title(pod.name)
            document = await self._inspect(title)
            if document is not None and not document["State"]["Running"]:
                await self._delete(title)
                document = None
            if document is None:
                body = translate.pod_body(pod, self._cloud, self._network)
                try:
                    if pod.network == "own":
                        await self._shared.take(pod.name)
                    await self._make(title, body)
                except (DaemonError, NetworkError) as error:
                    await self._delete(title)
                    await self._shared.leave(pod.name)
                    raise CannotStart(str(error)) from None
                document = await self._inspect(title)
                if document is None:
                    raise CannotStart(f"The pod {pod.name} ended at once.")
            state = self._have_pod(document)
            if self._reach is not None and pod.network == "own":
                await self._reach.join(state.namespace)
            return state

    async def remove_pod(self, name: str) -> None:
        self._pods.pop(name, None)
        await asyncio.gather(
            *(self.remove(one["Labels"][translate.NAME]) for one in await self._ours(f"{translate.POD}={name}"))
        )
        await self._delete(self._title(name))
        await self._shared.leave(name)
        self._locks.pop(name, None)

    def _have_pod(self, document: dict[str, Any]) -> PodState:
        state = translate.pod_state(document)
        hostname = document["Config"].get("Hostname", "")
        # What nobody has named, engines call by the first letters of its id.
        self._pods[state.name] = (document["Id"], "" if document["Id"].startswith(hostname) else hostname)
        return state

    # Containers

    async def run(self, container: Container) -> ContainerState:
        async with self._lock(container.name):
            title = self._title(container.name)
            document = await self._inspect(title)
            if document is not None and document["State"]["Running"]:
                if container.name not in self._known:
                    self._watch(container.name, document)
                return await self._state(document)
            if document is not None:
                await self._delete(title)
            self._stopped.discard(container.name)
            (self._folder / "logs" / container.name).unlink(missing_ok=True)
            image, mounts, container = await self._image_of(container)
            if container.pod not in self._pods:
                raise CannotStart(f"There is no pod {container.pod}.")
            pod_id, hostname = self._pods[container.pod]
            # Docker gives a container the host name of the one whose network it joins, Podman has to be told.
            hostname = hostname if self._podman else ""
            for mount in container.mounts:
                await self._ensure_volume(mount.source)
            # A container with any limit of its own has none of the defaults that keep it within this machine's.
            highest = highest_limits() if self._service is not None and container.ulimits else {}
            body = translate.container_body(
                container, image, mounts, self._cloud, pod_id, hostname, self.abilities, highest
            )
            try:
                await self._make(title, body)
                document = await self._daemon.call("GET", f"/containers/{title}/json")
            except DaemonError as error:
                await self._delete(title)
                if error.status == 404 and "image" in str(error).lower():
                    raise ImageMissing(str(error)) from None
                raise CannotStart(str(error)) from None
            self._watch(container.name, document)
            if not document["State"]["Running"]:
                # Its end may have been told of before we knew it.
                self._spawn(self._ended(container.name))
            return await self._state(document)

    async def stop(self, name: str, grace: float) -> None:
        self._stopped.add(name)
        known = self._known.get(name)
        path = f"/containers/{self._title(name)}"
        try:
            if grace > 0:
                await self._daemon.call("POST", f"{path}/stop", {"t": math.ceil(grace)})
            else:
                await self._daemon.call("POST", f"{path}/kill")
        except DaemonError as error:
            # It has ended, or is not there.
            if error.status not in (304, 404, 409, 500):
                raise
        if known is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(known.ended.wait(), _LONGEST_END)

    async def remove(self, name: str) -> None:
        if name in self._known:
            await self.stop(name, 0)
        await self._delete(self._title(name))
        self._stopped.discard(name)
        self._locks.pop(name, None)
        (self._folder / "logs" / name).unlink(missing_ok=True)

    async def execute(
        self,
        name: str,
        argv: Sequence[str],
        *,
        tty: bool = False,
        environment: Mapping[str, str] | None = None,
        root: bool = False,
    ) -> Execution:
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
            "Cmd": list(argv),
            "Env": [f"{key}={value}" for key, value in (environment or {}).items()],
            **({"User": "0"} if root else {}),
        }
        try:
            made = await self._daemon.call("POST", f"/containers/{self._title(name)}/exec", body=body)
            session = Session(self._daemon, made["Id"], tty)
            await session.start()
        except DaemonError as error:
            raise CannotStart(str(error)) from None
        return session

    async def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        found = {name: cgroups.usage_of(known.pid) for name in names if (known := self._known.get(name)) is not None}
        return {name: usage for name, usage in found.items() if usage is not None}

    async def remove_volume(self, name: str) -> None:
        try:
            await self._daemon.call("DELETE", f"/volumes/{self._title(name)}")
        except DaemonError as error:
            if error.status != 404:
                raise CannotStart(str(error)) from None

    # What happens

    async def _listen(self, since: float) -> None:
        """Hear of ends, for ever; after a break, also of those that it has hidden. ``since`` is this machine's time."""
        # Docker's word for an end, and Podman's.
        filters = {"type": ["container"], "event": ["die", "died"], "label": [f"{translate.CLOUD}={self._cloud}"]}
        while True:
            try:
                query = {"filters": json.dumps(filters), "since": str(int(since))}
                async for event in self._daemon.documents("GET", "/events", query):
                    since = float(event.get("time", since))
                    self._spawn(self._ended(event["Actor"]["Attributes"].get(translate.NAME, "")))
            except DaemonError as error:
                log.info("the container engine's events broke off: %s", error)
            await asyncio.sleep(_RETRY)
            for name in list(self._known):
                self._spawn(self._ended(name))

    async def _ended(self, name: str) -> None:
        """Tell of a container's end, once, after its last line; nothing when it runs."""
        async with self._lock(name):
            known = self._known.get(name)
            if known is None:
                return
            document = await self._inspect(known.id)
            if document is not None and document["State"]["Running"]:
                return
            del self._known[name]
            await known.tail.finish()
            if document is not None:
                self._exited(await self._state(document))
            known.ended.set()

    def _watch(self, name: str, document: dict[str, Any]) -> None:
        path = f"/containers/{document['Id']}/logs"
        tail = Tail(
            self._daemon,
            f"/v4.0.0/libpod{path}" if self._podman else path,
            document["Config"]["Tty"] and not self._podman,
            self._folder / "logs" / name,
            lambda stream, line: self._logs(name, stream, line),
        )
        self._known[name] = _Known(document["Id"], tail, document["State"]["Pid"])
        if document["State"]["Running"]:
            tail.start()

    async def _state(self, document: dict[str, Any]) -> ContainerState:
        identity = document["Image"].removeprefix("sha256:")
        if identity not in self._digests:
            with contextlib.suppress(ImageMissing):
                await self._image(identity)
        digest = self._digests.get(identity, "")
        name = document["Config"]["Labels"][translate.NAME]
        return translate.container_state(document, digest, name in self._stopped)

    # Small steps

    def _title(self, name: str) -> str:
        """A container's or volume's name in the engine, which all clouds of this machine share."""
        return f"{self._network}-{name}"

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _make(self, title: str, body: Any) -> None:
        """Create and start a container, to the end: ``clear`` would not see one whose making was called off."""

        async def make() -> None:
            await self._daemon.call("POST", "/containers/create", {"name": title}, body)
            await self._daemon.call("POST", f"/containers/{title}/start")

        making = asyncio.get_running_loop().create_task(make())
        self._making.add(making)
        making.add_done_callback(self._made)
        await asyncio.shield(making)

    def _made(self, making: asyncio.Task[None]) -> None:
        self._making.discard(making)
        if not making.cancelled() and (error := making.exception()) is not None:
            log.debug("a container was not made: %s", error)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what a container's end asks for has failed", exc_info=error)

    async def _ours(self, label: str = "") -> list[dict[str, Any]]:
        labels = [f"{translate.CLOUD}={self._cloud}", *([label] if label else [])]
        query = {"all": "true", "filters": json.dumps({"label": labels})}
        try:
            found: list[dict[str, Any]] = await self._daemon.call("GET", "/containers/json", query)
        except DaemonError as error:
            # Podman was killed while it removed one of them: it lists none before that one is gone.
            half = _HALF_REMOVED.search(str(error))
            if half is None:
                raise
            await self._delete(half[1])
            return await self._ours(label)
        # Containers first: a pod's holder goes last.
        return sorted(found, key=lambda one: one["Labels"][translate.KIND])

    async def _inspect(self, title: str) -> dict[str, Any] | None:
        try:
            return await self._daemon.call("GET", f"/containers/{title}/json")  # type: ignore[no-any-return]
        except DaemonError as error:
            if error.status == 404 or any(words in str(error) for words in _GONE):
                return None
            raise

    async def _delete(self, title: str) -> None:
        """Remove a container, running or not; nothing when it is gone."""
        await self._forget(f"/containers/{title}", {"force": "true", "v": "true"})

    async def _forget(self, path: str, query: Mapping[str, Any] | None = None) -> None:
        try:
            await self._daemon.call("DELETE", path, query)
        except DaemonError as error:
            if error.status not in (404, 409) and not any(words in str(error) for words in _GONE):
                raise

    async def _ensure_volume(self, source: str) -> None:
        if not source.startswith("/"):
            labels = {translate.CLOUD: self._cloud}
            await self._daemon.call("POST", "/volumes/create", body={"Name": self._title(source), "Labels": labels})
