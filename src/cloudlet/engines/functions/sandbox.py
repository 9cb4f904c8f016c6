"""One sandbox: a runtime with a function in it, one invocation at a time."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import psutil

from cloudlet.engines.functions import lines
from cloudlet.engines.functions.api import Function, Outcome
from cloudlet.engines.functions.carriers import Carrier
from cloudlet.engines.functions.extensions import INVOKE, SHUTDOWN, Extensions, ended, registered
from cloudlet.engines.functions.runtime_api import RuntimeApi

_LONGEST_LINE = 256 * 1024
_SIGNALS = {6: "aborted", 9: "killed", 11: "segmentation fault", 15: "terminated"}  # as Lambda words them
_SHUTDOWN = 2.0  # seconds that extensions have to end
_TAIL = 4096  # bytes of its log that an invocation gives back


class Sandbox:
    """Starting, then idle or busy until it is dead. ``changed`` is called when it becomes idle or dead."""

    def __init__(
        self,
        function: Function,
        carrier: Carrier,
        log: Callable[[str], None],
        changed: Callable[[Sandbox], None],
        provide: Callable[[str], Coroutine[Any, Any, bool]],
        extensions: frozenset[str] = frozenset(),
    ) -> None:
        self.provide = provide
        self.extensions = Extensions(extensions, self.ready)
        self.function = function
        self.carrier = carrier
        self.dead = False
        self.idle_since = 0.0
        self.good_until = math.inf  # epoch seconds: when the function's keys expire
        self.retired = False  # to be stopped when its invocation is over
        self.finishing = False  # has answered and will ask for the next event in a moment
        self._log = log
        self._changed = changed
        self._api = RuntimeApi(self)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._result: asyncio.Future[Outcome] | None = None
        self._request_id = ""
        self._failure = b""  # of the start
        self._ending: asyncio.Future[None] | None = None
        self._is_idle = False  # and that has been told
        self._partial = b""
        self._tail = b""
        self._started = 0.0
        self.memory = 0  # megabytes, as last seen
        self.init = 0.0  # seconds that its start took, until an invocation has told of it

    def used(self, anew: bool) -> int:
        """Megabytes that the function's process holds; as last seen, unless it is to be looked up ``anew``."""
        if anew or self.memory == 0:
            try:
                top = psutil.Process(self.carrier.pid)
                # The innermost one is the runtime, not what holds its sandbox.
                runtime = next(one for one in [*reversed(top.children(recursive=True)), top] if one.is_running())
                self.memory = max(1, runtime.memory_info().rss // 1_000_000)
            except (psutil.Error, StopIteration, ValueError):
                self.memory = self.memory or 1
        return self.memory

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start the runtime; ``wait_ready`` waits until it is ready. Raises FunctionFailed."""
        await self._api.start()
        try:
            whole = {**environment, "AWS_LAMBDA_RUNTIME_API": self._api.address}
            await self.carrier.start(whole, self._printed, self._exited)
        except BaseException:
            self._api.close()
            raise

    async def wait_ready(self, seconds: float) -> None:
        """Wait until the runtime asks for its first event. Raises StartFailed."""
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), seconds)
        except TimeoutError:
            raise StartFailed(_error("Sandbox.Timedout", f"Init phase timed out after {seconds:.2f} seconds")) from None

    async def invoke(self, request_id: str, event: bytes, headers: bytes, tail: bool = False) -> Outcome:
        """Run one invocation; it is over when this returns, and the sandbox idle, stopping or dead."""
        loop = asyncio.get_running_loop()
        self._request_id = request_id
        self._is_idle = False
        begins = lines.start(self.function, request_id)
        self._tail = begins.encode()
        self._result = loop.create_future()
        self._log(begins)
        self._started = time.perf_counter()
        self._api.send(headers, event)
        self.extensions.tell(
            INVOKE,
            {
                "deadlineMs": int((time.time() + self.function.timeout) * 1000),
                "requestId": request_id,
                "invokedFunctionArn": self.function.arn,
            },
        )
        timer = loop.call_later(self.function.timeout, self._timed_out)
        try:
            outcome = await self._result
        except BaseException:
            timer.cancel()
            raise
        if outcome.stream is None:
            timer.cancel()
        else:
            outcome.stream = self._streamed(outcome.stream, timer)
        outcome.seconds = time.perf_counter() - self._started
        self.carrier.read()
        if tail and self.carrier.late:
            await asyncio.sleep(self.carrier.late)
        outcome.log = self._tail.decode(errors="replace")
        return outcome

    async def _streamed(self, stream: AsyncIterator[bytes], timer: asyncio.TimerHandle) -> AsyncIterator[bytes]:
        try:
            async for piece in stream:
                yield piece
        finally:
            timer.cancel()

    def finished(self, line: str) -> None:
        """Write the last lines of an invocation to the log, after those that come late."""
        if self.carrier.late:
            asyncio.get_running_loop().call_later(self.carrier.late, self._log, line)
        else:
            self._log(line)

    def stop(self, reason: str = "spindown") -> asyncio.Future[None]:
        """End it now, or when its extensions have had the time that Lambda gives them."""
        self.dead = True
        self.finishing = False
        deadline = int((time.time() + _SHUTDOWN) * 1000)
        if self.extensions.tell(SHUTDOWN, {"shutdownReason": reason, "deadlineMs": deadline}):
            self._ending = asyncio.ensure_future(self._shut_down())
            return self._ending
        self._api.close()
        return self.carrier.stop()

    async def _shut_down(self) -> None:
        """End it when its extensions have ended, or take too long."""
        try:
            await asyncio.wait_for(ended(self.carrier.pid), _SHUTDOWN)
        except TimeoutError:
            pass
        self._api.close()
        await self.carrier.stop()

    def about(self) -> bytes:
        """What an extension is told when it registers."""
        return registered(self.function.name, self.function.version, self.function.handler)

    def extension_failed(self, body: bytes) -> None:
        """An extension gives up: the start has failed, or the sandbox is of no use any more."""
        self._failure = body
        self._log(f"EXTENSION failed: {body.decode(errors='replace')}\n")
        self.stop("failure")

    # What the runtime says

    def ready(self) -> None:
        """The runtime waits for an event, or an extension does: all of them must."""
        if self._is_idle or self._api.waiting is None or not self.extensions.settled:
            return
        self._is_idle = True
        self.finishing = False
        if not self._ready.done():
            # Whoever started it gives it away.
            self._ready.set_result(None)
        elif not self.dead and self._result is None:
            self._changed(self)

    def answered(self, request_id: str, body: bytes | AsyncIterator[bytes], content_type: str) -> bool:
        """The invocation's result."""
        if self._result is None or self._result.done() or request_id != self._request_id:
            return False
        outcome = Outcome(body if isinstance(body, bytes) else b"")
        outcome.stream = None if isinstance(body, bytes) else body
        outcome.content_type = content_type
        self._settle(outcome)
        return True

    def failed(self, request_id: str, body: bytes) -> bool:
        """The invocation's error, or the start's."""
        if not request_id:
            self._failure = body
            return True
        if self._result is None or self._result.done() or request_id != self._request_id:
            return False
        self._settle(Outcome(body, "Unhandled"))
        return True

    def _settle(self, outcome: Outcome) -> None:
        assert self._result is not None
        result, self._result = self._result, None
        self.finishing = True
        result.set_result(outcome)

    def _timed_out(self) -> None:
        words = f"Task timed out after {self.function.timeout:.2f} seconds"
        if not self.dead:
            self._log(f"{self._request_id} {words}\n\n")
        if self._result is not None and not self._result.done():
            self._settle(
                Outcome(_error("Sandbox.Timedout", f"RequestId: {self._request_id} Error: {words}"), "Unhandled")
            )
        self.stop("timeout")

    def _exited(self, code: int) -> None:
        if self._partial:
            self._line(self._partial)
            self._partial = b""
        self.dead = True
        self.finishing = False
        self._api.close()
        # Bubblewrap and shells say of a program that a signal has ended: 128 and the signal's number.
        number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
        how = f"signal: {_SIGNALS.get(number, number)}" if number else f"exit status {code}"
        words = f"Runtime exited with error: {how}" if code else "Runtime exited without providing a reason"
        if not self._ready.done():
            self._ready.set_exception(StartFailed(self._failure or _error("Runtime.ExitError", words)))
            # Nobody may wait for it.
            self._ready.exception()
        if self._result is not None and not self._result.done():
            body = _error("Runtime.ExitError", f"RequestId: {self._request_id} Error: {words}")
            self._settle(Outcome(body, "Unhandled"))
        self._changed(self)

    # What it prints

    def _printed(self, data: bytes) -> None:
        *whole, self._partial = (self._partial + data).split(b"\n")
        for line in whole:
            self._line(line)
        if len(self._partial) > _LONGEST_LINE:
            self._line(self._partial)
            self._partial = b""

    def _line(self, line: bytes) -> None:
        self._tail = (self._tail + line + b"\n")[-_TAIL:]
        self._log(line.decode(errors="replace") + "\n")


class StartFailed(Exception):
    """A sandbox did not come up; ``body`` is the error as the function's invoker sees it."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body.decode(errors="replace"))
        self.body = body


def _error(kind: str, words: str) -> bytes:
    document: dict[str, Any] = {"errorType": kind, "errorMessage": words}
    return json.dumps(document).encode()
