"""The functions that run: warm sandboxes for each version, more when more is asked for at once, fewer when quiet."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import uuid
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

from cloudlet.control.clock import Clock, Timer
from cloudlet.control.supervisor import Supervisor
from cloudlet.engines.functions import isolation, lines
from cloudlet.engines.functions.api import Credentials, Function, FunctionFailed, LogSink, Outcome, Throttled
from cloudlet.engines.functions.carriers import Carrier, Process
from cloudlet.engines.functions.containers import Containers
from cloudlet.engines.functions.extensions import START, programs
from cloudlet.engines.functions.node_sdk import NodeSdk
from cloudlet.engines.functions.runtimes import start_of
from cloudlet.engines.functions.sandbox import Sandbox, StartFailed

_QUIET = 600.0  # seconds after which an idle sandbox ends
_START = 10.0  # seconds that a sandbox may take to start, as on Lambda
_STARTS = 2 * (os.cpu_count() or 1)  # sandboxes of one function that start at the same time
_AT_ONCE = max(32, min(1000, psutil.virtual_memory().total // (64 << 20)))  # sandboxes: what one machine bears
_MOMENT = 0.1  # seconds
_WAIT_FOR_ROOM = 60.0  # seconds that an invocation waits for a sandbox to become free


class _Pool:
    """The sandboxes of one version, and the invocations that wait for one."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.idle: list[Sandbox] = []
        self.all: set[Sandbox] = set()
        self.starting = 0
        self.kept = 0  # sandboxes that stay, however quiet it is
        self.hopeless_later = False  # a timer runs for those who wait without room for a sandbox
        self.waiters: deque[asyncio.Future[Sandbox]] = deque()

    def first_waiter(self) -> asyncio.Future[Sandbox] | None:
        """Take the invocation that has waited longest; those that were given up are passed over."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                return waiter
        return None


class Engine:
    """Runs functions in sandboxes of this machine."""

    def __init__(
        self,
        supervisor: Supervisor,
        clock: Clock,
        endpoint: str,
        cache_dir: Path,
        isolate: bool,
        log: LogSink,
        credentials: Credentials,
        resolv_conf: Path,
        containers: Containers,
    ) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._endpoint = endpoint
        self._cache_dir = cache_dir
        self._isolate = isolate
        self._log = log
        self._credentials = credentials
        self._resolv_conf = resolv_conf
        self._containers = containers
        self._node_sdk = NodeSdk()
        self._pools: dict[str, _Pool] = {}
        self._numbers = itertools.count(1)
        self._count = 0  # of sandboxes that run or start
        self._tasks: set[asyncio.Task[None]] = set()
        self._reaper: Timer | None = None

    async def invoke(
        self,
        function: Function,
        event: bytes,
        *,
        request_id: str = "",
        client_context: str = "",
        trace: str = "",
        tail: bool = False,
    ) -> Outcome:
        """Run a function once; with ``tail`` the outcome's log has all that it printed until its answer.

        Raises FunctionFailed when it cannot be run here, Throttled when there is no room.
        """
        pool = self._pools.get(function.key)
        if pool is None:
            pool = self._pools[function.key] = _Pool(function)
        sandbox = self._warm(pool)
        if sandbox is None:
            try:
                sandbox = await self._next_free(pool)
            except StartFailed as failed:
                return Outcome(failed.body, "Unhandled")
            except _Retired:
                return await self.invoke(
                    function, event, request_id=request_id, client_context=client_context, trace=trace, tail=tail
                )
        init, sandbox.init = sandbox.init, 0.0
        request_id = request_id or str(uuid.uuid4())
        deadline = int((self._clock.now() - self._clock.offset + function.timeout) * 1000)
        headers = (
            f"Lambda-Runtime-Aws-Request-Id: {request_id}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {function.arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {trace or _trace()}\r\n"
        )
        if client_context:
            headers += f"Lambda-Runtime-Client-Context: {client_context}\r\n"
        outcome = await sandbox.invoke(request_id, event, headers.encode("latin-1", "replace"), tail)
        if sandbox.dead:
            self._replace(pool)
        outcome.init = init
        if outcome.stream is not None:
            outcome.stream = self._streaming(outcome.stream, sandbox, request_id, init)
        else:
            outcome.log += self._report(sandbox, request_id, outcome.seconds, init, outcome.error)
        return outcome

    async def keep(self, function: Function, count: int) -> None:
        """Have that many sandboxes ready before anybody asks, from now on. Raises FunctionFailed and Throttled."""
        pool = self._pools.setdefault(function.key, _Pool(function))
        pool.kept = count
        self._reap_later()
        for _ in range(count - len(pool.all)):
            if not self._has_room():
                raise Throttled
            self._count += 1
            try:
                self._free(await self._start(function, pool, provisioned=True))
            except StartFailed as failed:
                raise FunctionFailed(str(failed)) from None

    def retire(self, key: str) -> None:
        """End a version's sandboxes, each after its invocation: what is invoked next starts anew."""
        pool = self._pools.pop(key, None)
        if pool is None:
            return
        for sandbox in list(pool.all):
            sandbox.retired = True
            if sandbox in pool.idle:
                self._stop(sandbox)
        pool.idle.clear()
        while (waiter := pool.first_waiter()) is not None:
            waiter.set_exception(_Retired())

    async def stop(self) -> None:
        """End all sandboxes."""
        if self._reaper is not None:
            self._reaper.cancel()
        for task in self._tasks:
            task.cancel()
        stops = [sandbox.stop() for pool in self._pools.values() for sandbox in pool.all]
        self._pools.clear()
        if stops:
            await asyncio.wait(stops)
        await self._containers.stop()

    def _warm(self, pool: _Pool) -> Sandbox | None:
        """An idle sandbox whose keys are still good."""
        while pool.idle:
            sandbox = pool.idle.pop()
            if self._clock.now() < sandbox.good_until:
                return sandbox
            self._stop(sandbox)
        return None

    async def _next_free(self, pool: _Pool) -> Sandbox:
        """The first sandbox to become free: one that starts now, or one whose invocation ends before that."""
        waiter: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        pool.waiters.append(waiter)
        if sum(sandbox.finishing for sandbox in pool.all) >= len(pool.waiters):
            # It has answered and is a moment away from its next event: waiting for it beats a cold start.
            asyncio.get_running_loop().call_later(_MOMENT, self._provide, pool)
        else:
            self._provide(pool)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._free(waiter.result())
            raise

    def _provide(self, pool: _Pool) -> None:
        """Start sandboxes for those who wait, a few at once: what is free in the meantime serves them too."""
        waiting = sum(not waiter.done() for waiter in pool.waiters)
        while pool.starting < min(waiting, _STARTS):
            if not self._has_room():
                if not pool.hopeless_later:
                    pool.hopeless_later = True
                    asyncio.get_running_loop().call_later(_WAIT_FOR_ROOM, self._give_up, pool)
                return
            self._begin(pool)

    def _replace(self, pool: _Pool) -> None:
        """A sandbox has died under its invocation: where it was one of those that stay, another takes its place."""
        alive = sum(not sandbox.dead for sandbox in pool.all)
        is_current = self._pools.get(pool.function.key) is pool
        if is_current and alive + pool.starting < pool.kept and self._has_room():
            self._begin(pool, provisioned=True)

    def _begin(self, pool: _Pool, provisioned: bool = False) -> None:
        pool.starting += 1
        self._count += 1
        task = asyncio.ensure_future(self._add(pool, provisioned))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self, pool: _Pool, provisioned: bool) -> None:
        """Start one sandbox for whoever waits first; he also hears why it cannot be started."""
        try:
            sandbox = await self._start(pool.function, pool, provisioned)
        except Exception as error:
            pool.starting -= 1
            if (waiter := pool.first_waiter()) is not None:
                waiter.set_exception(error)
            self._provide(pool)
        else:
            pool.starting -= 1
            self._free(sandbox)
            self._provide(pool)

    async def _start(self, function: Function, pool: _Pool, provisioned: bool = False) -> Sandbox:
        """A sandbox that has just become ready; its place has been counted."""
        try:
            if function.runtime.startswith("nodejs"):
                await self._node_sdk.prepare(function)
            began = asyncio.get_running_loop().time()
            carrier, environment, note = await asyncio.to_thread(self._carrier, function)
            keys, good_until = await self._credentials(function)
        except BaseException:
            self._count -= 1
            raise
        environment.update(keys)
        now = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y/%m/%d")
        stream = f"{now}/[{function.version}]{secrets.token_hex(16)}"
        environment["AWS_LAMBDA_LOG_STREAM_NAME"] = stream
        if provisioned:
            environment["AWS_LAMBDA_INITIALIZATION_TYPE"] = "provisioned-concurrency"

        def log(text: str) -> None:
            if text:
                self._log(function, stream, [(int(self._clock.now() * 1000), text)])

        extensions = programs(function.layers[0] if function.layers else None)
        sandbox = Sandbox(function, carrier, log, self._changed, self._node_sdk.provide, extensions)
        sandbox.good_until = good_until
        pool.all.add(sandbox)
        if note:
            log(note + "\n")
        log(lines.init(function))
        try:
            await sandbox.start(environment)
        except BaseException:
            pool.all.discard(sandbox)
            self._count -= 1
            raise
        try:
            # A slow start counts against the function's own time too, as on Lambda.
            await sandbox.wait_ready(max(_START, function.timeout))
        except BaseException:
            self._stop(sandbox)
            raise
        sandbox.init = asyncio.get_running_loop().time() - began
        return sandbox

    def _carrier(self, function: Function) -> tuple[Carrier, dict[str, str], str]:
        """What a function's runtime runs in, with which environment, and a note for its log."""
        name = f"function-{function.name}-{next(self._numbers)}"
        if function.image is not None:
            names = isolation.resolv_conf(self._resolv_conf)
            carrier = self._containers.carrier(function, function.image, name, names)
            return carrier, {**self._environment(function), **function.environment}, ""
        opt = function.layers[0] if function.layers else None
        bwrap = isolation.bubblewrap() if self._isolate else None
        task_root, opt_root = ("/var/task", "/opt") if bwrap else (str(function.code), str(opt or "/opt"))
        start = start_of(function, self._cache_dir, self._node_sdk.modules, task_root, opt_root)
        environment = {
            **self._environment(function),
            "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin",
            "LANG": "en_US.UTF-8",
            "HOME": "/tmp",
            "LD_LIBRARY_PATH": f"{task_root}:{task_root}/lib:{opt_root}/lib",
            "LAMBDA_TASK_ROOT": task_root,
            "_HANDLER": function.handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **start.environment,
            **function.environment,
        }
        argv = list(start.argv)
        if function.runtime.startswith("python"):
            # Node and Java are held by their own heap limits: they reserve far more than they use.
            limit = (function.memory + 64) * 1024
            argv = ["/bin/sh", "-c", f'ulimit -d {limit} 2>/dev/null; exec "$@"', "sh", *argv]
        if programs(opt):
            argv = ["/bin/sh", "-c", START, "sh", f"{opt_root}/extensions", *argv]
        if bwrap:
            names = isolation.resolv_conf(self._resolv_conf)
            argv = isolation.wrap(bwrap, argv, function, opt, start, names)
        return Process(self._supervisor, name, argv, None if bwrap else function.code), environment, start.note

    def _environment(self, function: Function) -> dict[str, str]:
        """What every function finds in its environment, images too."""
        return {
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            **(
                {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": function.log_level}
                if function.json_log
                else {"AWS_LAMBDA_LOG_FORMAT": "Text"}
            ),
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",  # no resolver knows data-127.0.0.1
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }

    def _changed(self, sandbox: Sandbox) -> None:
        """A sandbox became idle or is dead."""
        if not sandbox.dead:
            self._free(sandbox)
            return
        pool = self._pools.get(sandbox.function.key)
        if pool is not None and sandbox in pool.all:
            pool.all.discard(sandbox)
            if sandbox in pool.idle:
                pool.idle.remove(sandbox)
        self._count -= 1
        self._provide_all()

    def _free(self, sandbox: Sandbox) -> None:
        """Give a free sandbox to who waits first, else keep it warm."""
        pool = self._pools.get(sandbox.function.key)
        if sandbox.retired or pool is None or sandbox not in pool.all:
            self._stop(sandbox)
        elif (waiter := pool.first_waiter()) is not None:
            waiter.set_result(sandbox)
        else:
            sandbox.idle_since = self._clock.now()
            pool.idle.append(sandbox)
            self._reap_later()
            if self._count >= _AT_ONCE:
                self._provide_all()

    def _give_up(self, pool: _Pool) -> None:
        """There has been no room for long: whoever still waits is refused."""
        pool.hopeless_later = False
        if self._count >= _AT_ONCE and not pool.starting:
            while (waiter := pool.first_waiter()) is not None:
                waiter.set_exception(Throttled())

    def _provide_all(self) -> None:
        for pool in list(self._pools.values()):
            if pool.waiters:
                self._provide(pool)

    def _stop(self, sandbox: Sandbox) -> None:
        pool = self._pools.get(sandbox.function.key)
        if pool is not None:
            pool.all.discard(sandbox)
            if sandbox in pool.idle:
                pool.idle.remove(sandbox)
        if not sandbox.dead:
            sandbox.stop()

    def _has_room(self) -> bool:
        """Whether another sandbox may be started now; the longest idle one makes place for it."""
        if self._count < _AT_ONCE:
            return True
        if idle := self._dispensable():
            self._stop(min(idle, key=lambda sandbox: sandbox.idle_since))
        return False

    def _reap_later(self) -> None:
        if self._reaper is None:
            self._reaper = self._clock.call_later(_QUIET, self._reap)

    def _reap(self) -> None:
        """End what has been idle for long; one timer for all of them, and none when nothing is warm."""
        self._reaper = None
        now = self._clock.now()
        for sandbox in self._dispensable():
            if now - sandbox.idle_since >= _QUIET:
                self._stop(sandbox)
        left = [sandbox.idle_since for sandbox in self._dispensable()]
        if left:
            self._reaper = self._clock.call_at(min(left) + _QUIET, self._reap)

    def _dispensable(self) -> list[Sandbox]:
        """The idle sandboxes that are more than their versions keep; those that have been idle longest."""
        found = []
        for pool in self._pools.values():
            longest = sorted(pool.idle, key=lambda sandbox: sandbox.idle_since)
            found += longest[: max(0, len(pool.all) - pool.kept)]
        return found

    def _report(self, sandbox: Sandbox, request_id: str, seconds: float, init: float, error: str) -> str:
        """The last lines of an invocation's log."""
        report = lines.report(sandbox.function, request_id, seconds, sandbox.used(bool(init)), init, error)
        sandbox.finished(report)
        return report

    async def _streaming(
        self, stream: AsyncIterator[bytes], sandbox: Sandbox, request_id: str, init: float
    ) -> AsyncIterator[bytes]:
        began = asyncio.get_running_loop().time()
        try:
            async for piece in stream:
                yield piece
        finally:
            self._report(sandbox, request_id, asyncio.get_running_loop().time() - began, init, "")


class _Retired(Exception):
    """The version has changed while its invocation waited for a sandbox."""


def _trace() -> str:
    return f"Root=1-{secrets.token_hex(4)}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"
