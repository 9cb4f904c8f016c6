"""The cloud: every part is made and joined here, and nowhere else."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import importlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Coroutine
from contextvars import Context
from pathlib import Path
from typing import Any

from cloudlet.config import Config
from cloudlet.control.clock import Clock
from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.errors import AwsError, not_implemented
from cloudlet.gateway.authorize import Authorizer
from cloudlet.gateway.faults import Faults
from cloudlet.gateway.pipeline import Gateway
from cloudlet.gateway.server import Server, listen
from cloudlet.observe.calls import Calls, stopwatch
from cloudlet.observe.metrics import Metrics, Report
from cloudlet.services.api import Call, Input, Output, Service, Tagged
from cloudlet.services.refusing import refusing
from cloudlet.store import Store
from cloudlet.store.sqlite import SqliteStore
from cloudlet.wire import Wire

log = logging.getLogger("cloudlet")

SERVICES = Path(__file__).parent / "services"


class DataDirInUse(Exception):
    """Another Cloudlet works in this data directory."""


def compose(config: Config) -> Cloud:
    """Make a cloud from its configuration; nothing runs before ``start``."""
    return Cloud(config)


class Cloud:
    """One running cloud. Services start with their first call, or with the cloud when they have state to look after."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.endpoint = ""
        self.data_dir = config.data_dir.absolute()
        self.stopping = asyncio.Event()
        self.clock = Clock()
        self.metrics = Metrics(
            self.clock, self._store_metrics, lambda: self.spawn(self.metrics.collect(), "metrics of a minute")
        )
        self.store: Store
        self.supervisor: Supervisor
        self._known = services()
        self._services: dict[str, Service] = {}
        self._starting: dict[str, asyncio.Future[Service]] = {}
        self._operations: dict[tuple[str, str], Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wire = Wire(self._known)
        self._authorizer = Authorizer(self)
        self._lock: int | None = None
        self._server: Server | None = None

    async def start(self) -> None:
        """Open the state, listen, and take up again what should be running. Raises DataDirInUse and OSError."""
        listener = listen(self.config.host, self.config.port)
        host, port = listener.getsockname()[:2]
        self.endpoint = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        try:
            self._open()
        except BaseException:
            listener.close()
            raise
        self._faults = Faults(self.clock)
        self._calls = Calls(self.clock.now)
        gateway = Gateway(self, self._wire, self._faults, self._calls)
        self._server = Server(gateway.handle, listener)
        await self._server.start()
        if self.store.names():
            await asyncio.to_thread(self.supervisor.find_leftovers)
            await self._take_up()

    async def stop(self) -> None:
        """Put everything down in order: no child process is left, and what was accepted is stored."""
        if self._server is not None:
            await self._server.close()
        if not self.config.ephemeral:
            await self.metrics.flush()
        await self._put_down()
        self._unlock()
        if self.config.ephemeral:
            await asyncio.to_thread(shutil.rmtree, self.data_dir, ignore_errors=True)

    async def reset(self) -> None:
        """Delete everything and go on as a new cloud at the same endpoint."""
        await self._put_down()
        self._faults.remove("")
        self._calls.clear()
        for entry in list(self.data_dir.iterdir()):
            if entry.name != "lock":
                await asyncio.to_thread(shutil.rmtree, entry) if entry.is_dir() else entry.unlink()
        self.clock.reset()
        self._open()

    def door(self, name: str, label: str) -> str:
        """The URL of a front door, as every program on this machine can reach it."""
        if _localhost_names_resolve():
            return f"http://{label}.{name}.localhost:{self.endpoint.rsplit(':', 1)[1]}"
        return f"{self.endpoint}/_cloudlet/{name}/{label}"

    async def perform(self, service: str, operation: str, call: Call, input: Input) -> Output:
        """Do an operation for a caller; all calls, from outside and between services, come through here."""
        if self._faults.rules:
            await self._faults.strike(service, operation)
        method = self._operations.get((service, operation))
        if method is None:
            method = await self._operation(service, operation)
        return await method(call, input)  # type: ignore[no-any-return]

    async def call(
        self, service: str, operation: str, input: Input, *, account: str, region: str, principal: str = ""
    ) -> Output:
        """Call a service from within the cloud. Raises AwsError."""
        started = stopwatch()
        call = Call(account, region, principal=principal, service=service, operation=operation)
        error: AwsError | None = None
        try:
            return await self.perform(service, operation, call, input)
        except AwsError as raised:
            error = raised
            raise
        finally:
            self._calls.record(call, (error.status or 400) if error else 200, error, started)

    def conform(self, service: str, operation: str, input: Input) -> Input:
        """Loosely typed input, as a template has it, in an operation's own types. Raises AwsError."""
        return self._wire.model(service).conform(operation, input)

    def present(self, service: str, operation: str, output: Output) -> Output:
        """An operation's output as JSON, with the names of its members in capitals. Raises AwsError."""
        return self._wire.model(service).present(operation, output)

    def knows_error(self, service: str, code: str) -> bool:
        """Whether a service's model has an error of this name or code."""
        return self._wire.model(service).knows_error(code)

    async def service(self, name: str) -> Any:
        """A service, started. Raises AwsError NotImplemented when there is none of that name."""
        if (running := self._services.get(name)) is not None:
            return running
        if name not in self._known:
            raise not_implemented(f"the service {name!r}")
        starting = self._starting.get(name)
        if starting is None:
            # In a context of its own: what it will do all its life is no part of whose call has started it.
            work = self._start_service(name)
            starting = self._starting[name] = asyncio.get_running_loop().create_task(work, context=Context())
        return await asyncio.shield(starting)

    def has(self, name: str) -> bool:
        """Whether Cloudlet has a service of that name."""
        return name in self._known

    def has_state(self, name: str) -> bool:
        """Whether a service has stored anything, or runs."""
        return name in self._services or name in self._starting or name in self.store.names()

    def health(self) -> dict[str, str]:
        """Each service: running, or available when nobody has called it yet."""
        return {name: "running" if name in self._services else "available" for name in sorted(self._known)}

    async def resources(self, account: str, region: str) -> list[dict[str, str]]:
        """What a user would call resources, of every service that has state."""
        return [one for service in await self._used() for one in service.resources_of(account, region)]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        """What has tags, of every service that has state, in the order of ARNs."""
        every = [one for service in await self._used() for one in await service.tagged(account, region)]
        return sorted((one for one in every if one[1]), key=lambda one: one[0])

    async def authorize(self, call: Call, input: Input) -> None:
        """See that IAM lets a caller do this, where it is asked at all. Raises AccessDenied."""
        await self._authorizer.authorize(call, input)

    def move_clock(self, seconds: float) -> None:
        """Move the cloud's time forward, for good: it stays moved over a restart."""
        self._save({"id": self._id, "offset": self.clock.offset + seconds})
        self.clock.advance(seconds)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Run work in the background; its errors are logged, and it is cancelled when the cloud stops."""
        task = asyncio.get_running_loop().create_task(work, name=name or None, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work %s failed", task.get_name(), exc_info=error)

    async def _used(self) -> list[Service]:
        return [await self.service(name) for name in sorted(self._known) if self.has_state(name)]

    async def _operation(self, service: str, operation: str) -> Any:
        running = await self.service(service)
        method = getattr(running, operation, None) if operation[:1].isupper() else None
        if method is None:
            raise not_implemented(f"{service} {operation}")
        if members := running.refused.get(operation):
            method = refusing(method, operation, members)
        self._operations[service, operation] = method
        return method

    async def _start_service(self, name: str) -> Service:
        try:
            module = importlib.import_module(f"cloudlet.services.{self._known[name]}.service")
            service: Service = module.Service(self)
            await service.start()
            self._services[name] = service
            return service
        finally:
            del self._starting[name]

    async def _take_up(self) -> None:
        """Start the services that have state, then end what an earlier run left and nobody took up."""
        for name in self.store.names():
            if name in self._known:
                try:
                    await self.service(name)
                except Exception:
                    log.exception("%s could not take up its state", name)
        await asyncio.to_thread(self.supervisor.sweep)

    async def _store_metrics(self, reports: list[Report]) -> None:
        if self.has("cloudwatch"):
            await (await self.service("cloudwatch")).take(reports)

    async def _put_down(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=5)
        while self._starting:  # or nobody would put down what they have begun
            await asyncio.wait(list(self._starting.values()))
        for service in reversed(list(self._services.values())):
            try:
                await service.stop()
            except Exception:
                log.exception("%s did not stop cleanly", service.name)
        self._services.clear()
        self._operations.clear()
        self.metrics.clear()
        await self.supervisor.stop_all()
        await self.store.close()

    def _open(self) -> None:
        if self._lock is None:
            self._take_data_dir()
        file = self.data_dir / "cloud.json"
        state = json.loads(file.read_text()) if file.is_file() else {}
        self._id = state.get("id") or new_cloud_id()
        if state:
            self.clock.advance(max(0.0, state.get("offset", 0.0) - self.clock.offset))
        else:
            self._save({"id": self._id, "offset": 0.0})
        self.supervisor = Supervisor(self._id)
        self.store = SqliteStore(self.data_dir / "store", "off" if self.config.ephemeral else self.config.sync)

    def _take_data_dir(self) -> None:
        if self.config.ephemeral:
            memory = Path("/dev/shm")
            self.data_dir = Path(tempfile.mkdtemp(prefix="cloudlet-", dir=memory if memory.is_dir() else None))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 100).decode() or "it has not said where"
            os.close(lock)
            raise DataDirInUse(f"another Cloudlet works in {self.data_dir} ({owner.strip()})") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "endpoint": self.endpoint}).encode(), 0)
        self._lock = lock

    def _unlock(self) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def _save(self, state: dict[str, Any]) -> None:
        aside = self.data_dir / "cloud.json.new"
        aside.write_text(json.dumps(state))
        aside.replace(self.data_dir / "cloud.json")


@functools.cache
def _localhost_names_resolve() -> bool:
    """Whether every program finds names under localhost (RFC 6761): not all systems do it. Asks no DNS server."""
    try:
        hosts = next(line for line in Path("/etc/nsswitch.conf").read_text().splitlines() if line.startswith("hosts:"))
    except (OSError, StopIteration):
        return sys.platform == "darwin"
    return "myhostname" in hosts or "resolve" in hosts


def services() -> dict[str, str]:
    """The services that there are, each with its folder: whatever has a ``service.py``."""
    folders = (entry for entry in os.scandir(SERVICES) if entry.is_dir())
    return {
        _service_name(entry.name): entry.name
        for entry in folders
        if os.path.exists(os.path.join(entry.path, "service.py"))
    }


def _service_name(folder: str) -> str:
    """A service's folder is its botocore name, with an underscore after a name that Python keeps for itself."""
    return folder.rstrip("_").replace("_", "-")
