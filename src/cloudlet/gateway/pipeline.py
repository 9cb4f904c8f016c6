"""The whole way of a request, top to bottom, in ``Gateway.handle``."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from cloudlet.errors import AwsError, not_implemented
from cloudlet.gateway import front_doors, origins
from cloudlet.gateway.authenticate import Authenticator
from cloudlet.gateway.control_api import ControlApi, Handler
from cloudlet.gateway.faults import Faults
from cloudlet.http import BodyTooLarge, ClientGone, Request, Response
from cloudlet.observe.calls import Calls, stopwatch
from cloudlet.services.api import Call
from cloudlet.wire import Operation, UnknownService, Wire

if TYPE_CHECKING:
    from cloudlet.cloud import Cloud

# The largest body that is held in memory: Lambda's 50 MB zip as base64 in JSON, with room. Uploads to S3 are streamed.
LARGEST_BODY = 128 * 1024 * 1024

log = logging.getLogger("cloudlet.gateway")


class Gateway:
    """Answers every HTTP request to the cloud."""

    def __init__(self, cloud: Cloud, wire: Wire, faults: Faults, calls: Calls) -> None:
        self._cloud = cloud
        self._wire = wire
        self._faults = faults
        self._calls = calls
        self._authenticator = Authenticator(cloud)
        self._control = ControlApi(cloud, faults, calls)

    async def handle(self, request: Request) -> Response:
        """Answer one request; every error becomes an answer, except ``ClientGone``."""
        try:
            if request.path.startswith(("/_", "/moto-api/")) and (control := self._control.route(request)) is not None:
                return await self._controlled(control, request)
            path = request.path
            door = front_doors.find(request)
            if door is None and front_doors.may_be_a_users_own(request.host):
                door = await self._own_domain(request.host)
            if door is not None:
                request.identify = lambda service: self._identify(request, path, service)
                return await self._enter(door, request)
            return await self._api(request)
        except BodyTooLarge:
            return Response(413, {"content-type": "text/plain"}, b"The request's body is too large.\n")

    async def _controlled(self, control: Handler, request: Request) -> Response:
        """The control API, whose errors are JSON."""
        try:
            return await control(request)
        except (BodyTooLarge, ClientGone):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return Response(
                500, {"content-type": "application/json"}, b'{"error": "Cloudlet failed; its log says why."}'
            )

    async def _api(self, request: Request) -> Response:
        """An AWS API: find the operation, know the caller, call, and put the outcome into the protocol's words."""
        started = stopwatch()
        request_id = _request_id()
        service, operation = "", None
        call = Call("", "", request_id=request_id, request=request)
        error = None
        try:
            if origins.is_preflight(request):
                return await self._preflight(request)
            request, service, operation = await self._route(request)
            call.request = request
            call.service, call.operation = service, operation.name
            origins.check(request, service)
            await self._authenticator.authenticate(request, call, service)
            if not operation.streams_input:
                await request.read(LARGEST_BODY)
                self._authenticator.check_body(request)
            input = operation.decode(request)
            await self._cloud.authorize(call, input)
            output = await self._cloud.perform(service, operation.name, call, input)
            response = operation.encode(output, request_id)
            if call.headers:
                response.headers.update(call.headers)
        except AwsError as raised:
            error = raised
            response = self._refuse(request, service, operation, raised, request_id)
            if call.headers:
                response.headers.update(call.headers)
        except (BodyTooLarge, ClientGone):
            raise
        except Exception:
            log.exception("%s %s failed", service or request.path, operation.name if operation else "")
            error = AwsError("InternalFailure", "Cloudlet failed on this request; its log says why.", status=500)
            response = self._refuse(request, service, operation, error, request_id)
        if "origin" in request.headers and service != "s3":
            origins.let_read(request, response)
        self._calls.record(call, response.status, error, started)
        return response

    async def _route(self, request: Request) -> tuple[Request, str, Operation]:
        """Find the service and its operation. Query protocols name theirs in the body, so that is read here."""
        if request.method == "POST" and request.headers.get("content-type", "").startswith(
            "application/x-www-form-urlencoded"
        ):
            await request.read(LARGEST_BODY)
        request = self._wire.to_path_style(request)
        service = self._wire.identify(request)
        if service is None:
            raise AwsError(
                "MissingAuthenticationToken",
                "Missing Authentication Token: the request is not signed, so that its service cannot be told.",
                status=403,
            )
        try:
            model = self._wire.model(service)
        except UnknownService:
            raise not_implemented(f"the service {service!r}") from None
        try:
            return request, service, model.operation(request)
        except AwsError as error:
            if not self._cloud.has(service):
                raise not_implemented(f"the service {service!r}") from error
            raise

    async def _preflight(self, request: Request) -> Response:
        """A browser's question whether it may: a bucket answers by its own rules."""
        buckets = await self._cloud.service("s3")
        answer: Response | None = await buckets.preflight(self._wire.to_path_style(request))
        return answer or origins.preflight(request)

    async def _enter(self, door: front_doors.Door, request: Request) -> Response:
        """A data plane's front door: an API, a function URL, a website."""
        try:
            service = await self._cloud.service(door.service)
            answer: Response = await service.serve(request, door.label)
            return answer
        except AwsError as error:
            return Response(error.status or 400, {"content-type": "text/plain"}, f"{error}\n".encode())
        except (BodyTooLarge, ClientGone):
            raise
        except Exception:
            log.exception("%s %s failed", door.service, request.path)
            return Response(
                500, {"content-type": "text/plain"}, b"Cloudlet failed on this request; its log says why.\n"
            )

    async def _own_domain(self, host: str) -> front_doors.Door | None:
        """The door behind a domain name that a user has given to his APIs."""
        for name in ("apigatewayv2", "apigateway"):
            if self._cloud.has_state(name) and (await self._cloud.service(name)).has_domain(host):
                return front_doors.Door(name, host)
        return None

    async def _identify(self, request: Request, path: str, service: str) -> Call:
        """Who has signed a data plane's request, for one that lets in by signatures. Raises AwsError."""
        signed = Request(
            request.method,
            path,
            request.query,
            request.headers,
            await request.read(LARGEST_BODY),
            raw_headers=request.raw_headers,
        )
        call = Call("", "", request=signed, service=service)
        await self._authenticator.authenticate(signed, call, service)
        self._authenticator.check_body(signed)
        return call

    def _refuse(
        self, request: Request, service: str, operation: Operation | None, error: AwsError, request_id: str
    ) -> Response:
        if operation is not None:
            return operation.encode_error(error, request_id)
        return self._wire.encode_error(request, service or None, error, request_id)


def _request_id() -> str:
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
