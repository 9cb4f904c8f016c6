"""The control API under ``/_cloudlet/``, and the two paths of other emulators that existing tools ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from cloudlet import __version__
from cloudlet.errors import AwsError
from cloudlet.gateway.faults import Faults
from cloudlet.gateway.origins import is_local
from cloudlet.http import Request, Response
from cloudlet.observe.calls import Calls

if TYPE_CHECKING:
    from cloudlet.cloud import Cloud

Handler = Callable[[Request], Awaitable[Response]]

_LIMIT = 1024 * 1024
_FOR_TIMERS = 0.02  # seconds in which what has become due does its work, before a moved clock is answered


class ControlApi:
    """One method for each path; answers and questions are JSON."""

    def __init__(self, cloud: Cloud, faults: Faults, calls: Calls) -> None:
        self._cloud = cloud
        self._faults = faults
        self._calls = calls
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "/_cloudlet/health"): self._health,
            ("POST", "/_cloudlet/reset"): self._reset,
            ("GET", "/_cloudlet/clock"): self._clock,
            ("POST", "/_cloudlet/clock"): self._move_clock,
            ("GET", "/_cloudlet/faults"): self._list_faults,
            ("POST", "/_cloudlet/faults"): self._add_fault,
            ("DELETE", "/_cloudlet/faults"): self._remove_fault,
            ("GET", "/_cloudlet/calls"): self._list_calls,
            ("GET", "/_cloudlet/resources"): self._resources,
            ("GET", "/_cloudlet/usage"): self._usage,
            ("GET", "/_cloudlet/dns"): self._dns,
            ("GET", "/_cloudlet/logs"): self._logs,
            ("POST", "/_cloudlet/deploy"): self._deploy,
            ("POST", "/_cloudlet/plan"): self._plan,
            ("POST", "/_cloudlet/stop"): self._stop,
            ("GET", "/_localstack/health"): self._health,
            ("POST", "/moto-api/reset"): self._reset,
        }

    def route(self, request: Request) -> Handler | None:
        """The handler of a control request, or None when the path is not the control API's."""
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            known = {path for _, path in self._routes}
            if request.path in known:
                return self._wrong_method
            return None
        origin = request.headers.get("origin")
        if (origin and not is_local(urlsplit(origin).hostname or "")) or not self._may_use(request):
            return self._foreign
        return handler

    def _may_use(self, request: Request) -> bool:
        # A foreign name that resolves to this machine is how a web page would get past the origin rule.
        return self._cloud.config.auth == "enforce" or is_local(request.host.strip("[]") or "localhost")

    async def _foreign(self, request: Request) -> Response:
        return _json({"error": "Only pages and programs of this machine may use the control API."}, 403)

    async def _wrong_method(self, request: Request) -> Response:
        return _json({"error": f"{request.method} is not for {request.path}."}, 405)

    async def _health(self, request: Request) -> Response:
        return _json(
            {
                "status": "running",
                "version": __version__,
                "services": self._cloud.health(),
                "children": [{"name": child.name, "pid": child.pid} for child in self._cloud.supervisor.children],
            }
        )

    async def _reset(self, request: Request) -> Response:
        await self._cloud.reset()
        return _json({"status": "reset"})

    async def _clock(self, request: Request) -> Response:
        return _json({"now": self._cloud.clock.now(), "offset": self._cloud.clock.offset})

    async def _move_clock(self, request: Request) -> Response:
        try:
            document = await _document(request)
            seconds = float(document["advance"])
            if not 0 <= seconds <= 3.2e9:
                raise ValueError
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError):
            return _json({"error": 'The clock takes {"advance": SECONDS}, a number of at least 0.'}, 400)
        self._cloud.move_clock(seconds)
        await asyncio.sleep(_FOR_TIMERS)
        return await self._clock(request)

    async def _dns(self, request: Request) -> Response:
        try:
            address, port = await (await self._cloud.service("route53")).dns_address()
        except OSError as error:
            return _json({"error": f"The DNS server cannot listen: {error}"}, 503)
        return _json({"address": address, "port": port})

    async def _list_faults(self, request: Request) -> Response:
        return _json({"faults": self._faults.rules})

    async def _add_fault(self, request: Request) -> Response:
        try:
            return _json(self._faults.add(await _document(request)), 201)
        except (TypeError, msgspec.MsgspecError) as error:
            return _json({"error": str(error)}, 400)

    async def _remove_fault(self, request: Request) -> Response:
        removed = self._faults.remove(dict(request.params()).get("id", ""))
        return _json({"removed": removed}, 200 if removed else 404)

    async def _list_calls(self, request: Request) -> Response:
        query = dict(request.params())
        limit = query.get("limit", "100")
        if not limit.isdigit():
            return _json({"error": "limit is a number."}, 400)
        return _json(
            {
                "count": self._calls.count,
                "calls": self._calls.latest(query.get("service", ""), query.get("operation", ""), int(limit)),
            }
        )

    async def _resources(self, request: Request) -> Response:
        query = dict(request.params())
        found = await self._cloud.resources(
            query.get("account", "000000000000"), query.get("region", self._cloud.config.region)
        )
        return _json({"resources": found})

    async def _usage(self, request: Request) -> Response:
        """What Fargate would bill for the tasks of an account and region."""
        query = dict(request.params())
        if not self._cloud.has_state("ecs"):
            return _json({"tasks": []})
        ecs = await self._cloud.service("ecs")
        place = query.get("account", "000000000000"), query.get("region", self._cloud.config.region)
        return _json({"tasks": ecs.usage(*place)})

    async def _logs(self, request: Request) -> Response:
        """Log lines as they come, one JSON document a line, until the client leaves."""
        query = dict(request.params())
        logs = await self._cloud.service("logs")
        events = logs.follow(
            query.get("account", "000000000000"),
            query.get("region", self._cloud.config.region),
            query.get("prefix", ""),
        )

        async def lines() -> AsyncIterator[bytes]:
            yield b"\n"  # tells the client that the follower listens from here on
            async for event in events:
                yield msgspec.json.encode(event) + b"\n"

        return Response(200, {"content-type": "application/x-ndjson"}, lines())

    async def _deploy(self, request: Request) -> Response:
        """Deploy a template of this machine; what happens is told as it happens, one JSON document a line."""
        try:
            account, region, document = await self._template(request)
        except (TypeError, msgspec.MsgspecError) as error:
            return _json({"error": str(error)}, 400)
        cloudformation = await self._cloud.service("cloudformation")

        async def lines() -> AsyncIterator[bytes]:
            try:
                async for event in cloudformation.deploy(account, region, document):
                    yield msgspec.json.encode(event) + b"\n"
            except AwsError as error:
                yield msgspec.json.encode({"event": "failed", "message": error.message}) + b"\n"

        return Response(200, {"content-type": "application/x-ndjson"}, lines())

    async def _plan(self, request: Request) -> Response:
        """What deploying a template would change."""
        try:
            account, region, document = await self._template(request)
            cloudformation = await self._cloud.service("cloudformation")
            return _json(await cloudformation.plan(account, region, document))
        except (TypeError, msgspec.MsgspecError) as error:
            return _json({"error": str(error)}, 400)
        except AwsError as error:
            return _json({"error": error.message}, 400)

    async def _template(self, request: Request) -> tuple[str, str, dict[str, Any]]:
        document = await _document(request)
        if not isinstance(document.get("template"), str):
            raise TypeError("template is needed: the absolute path of a template")
        region = document.get("region") or self._cloud.config.region
        return document.get("account", "000000000000"), region, document

    async def _stop(self, request: Request) -> Response:
        asyncio.get_running_loop().call_later(0.05, self._cloud.stopping.set)
        return _json({"status": "stopping"})


async def _document(request: Request) -> dict[str, Any]:
    document = msgspec.json.decode(await request.read(_LIMIT))
    if not isinstance(document, dict):
        raise TypeError("a JSON object is needed")
    return document


def _json(document: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode(document))
