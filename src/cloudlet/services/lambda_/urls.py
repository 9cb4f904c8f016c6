"""Function URLs: a function as a web server of its own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.http import Request, Response
from cloudlet.observe.calls import stopwatch
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.fronts import cors, events, signed
from cloudlet.services.fronts.events import Match
from cloudlet.services.lambda_.base import not_found
from cloudlet.services.lambda_.invocations import Invocations
from cloudlet.services.lambda_.records import LATEST, Settings, Version
from cloudlet.services.lambda_.running import gathered
from cloudlet.store import Record

_LARGEST = 6 * 1024 * 1024
_WITH_PRELUDE = "application/vnd.awslambda.http-integration-response"
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
_END_OF_PRELUDE = bytes(8)
_LARGEST_PRELUDE = 64 * 1024


class Urls(Invocations):
    """The operations on function URLs, and the door behind them."""

    _doors: dict[str, tuple[str, str, str, dict[str, Any]]]  # by the URL's own name, as of the revision
    _doors_of = -1

    async def CreateFunctionUrlConfig(self, call: Call, input: Input) -> Output:
        scope, name, qualifier, settings = self._pointed_at(call, input)
        if qualifier in settings.urls:
            arn = self.arn(scope, name, qualifier)
            words = (
                f"Failed to create function url config for [functionArn = {arn}]. Error message:  "
                "FunctionUrlConfig exists for this Lambda function"
            )
            raise AwsError("ResourceConflictException", words, status=409, Type="User")
        _check_mode(input)
        now = self.timestamp()
        members = {
            "FunctionUrl": self.cloud.door("lambda-url", _url_id(scope, name, qualifier)) + "/",
            "FunctionArn": self.arn(scope, name, qualifier),
            "AuthType": input["AuthType"],
            "InvokeMode": input.get("InvokeMode", "BUFFERED"),
            **({"Cors": input["Cors"]} if "Cors" in input else {}),
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        await self.alter(scope, name, lambda now: replace(now, urls={**now.urls, qualifier: members}))
        return members

    async def GetFunctionUrlConfig(self, call: Call, input: Input) -> Output:
        _check_qualifier(input)
        scope, name, qualifier = self.named(call, input)
        record = self.settings.get(scope, name)
        found = record.value.urls.get(qualifier) if record is not None else None
        if found is None:
            raise not_found()
        return found

    async def ListFunctionUrlConfigs(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.named(call, input)
        record = self.settings.get(scope, name)
        if record is None:
            raise not_found("Function does not exist")
        return self.page("FunctionUrlConfigs", list(record.value.urls.values()), input)

    async def UpdateFunctionUrlConfig(self, call: Call, input: Input) -> Output:
        _check_mode(input)
        scope, name, qualifier, _ = self._pointed_at(call, input)
        current = await self.GetFunctionUrlConfig(call, input)
        kept: dict[str, Any] = {key: input[key] for key in ("AuthType", "Cors", "InvokeMode") if key in input}
        members = {**current, **kept, "LastModifiedTime": self.timestamp()}
        await self.alter(scope, name, lambda now: replace(now, urls={**now.urls, qualifier: members}))
        return members

    async def DeleteFunctionUrlConfig(self, call: Call, input: Input) -> Output:
        await self.GetFunctionUrlConfig(call, input)
        scope, name, qualifier = self.named(call, input)

        def change(settings: Settings) -> Settings:
            return replace(settings, urls={key: value for key, value in settings.urls.items() if key != qualifier})

        await self.alter(scope, name, change)
        return {}

    def _pointed_at(self, call: Call, input: Input) -> tuple[str, str, str, Settings]:
        """Scope, name, alias (perhaps empty) and settings of what a URL is to lead to. Raises as Lambda does."""
        _check_qualifier(input)
        scope, name, qualifier = self.named(call, input)
        record = self.settings.get(scope, name)
        if record is None or (qualifier and self.aliases.get(scope, f"{name}/{qualifier}") is None):
            raise not_found("Function does not exist")
        return scope, name, qualifier, record.value

    async def answer_url(self, request: Request, label: str) -> Response:
        """Answer a request to a function URL."""
        started = stopwatch()
        found = self._find_url(label)
        if found is None:
            return _message(404, "Not Found")
        scope, name, qualifier, _ = found
        record = self.version(scope, name, qualifier, choose=True)
        response = await self._answered(request, label, found, record)
        version = record.value.members["Version"]
        self.reporting.answered_url(scope, name, qualifier, version, response.status, stopwatch() - started)
        return response

    async def _answered(
        self, request: Request, label: str, url: tuple[str, str, str, dict[str, Any]], record: Record[Version]
    ) -> Response:
        scope, name, qualifier, members = url
        configuration = members.get("Cors")
        if configuration and cors.is_preflight(request):
            return cors.preflight(request, configuration)
        account, region = scope.split("/", 1)
        caller = None
        if members["AuthType"] == "AWS_IAM":
            try:
                which = {"FunctionName": members["FunctionArn"], "FunctionUrlAuthType": "AWS_IAM"}
                policy = self.policy_of(scope, name, qualifier)
                caller = await signed.caller(self.cloud, request, "lambda", "InvokeFunctionUrl", which, policy)
            except AwsError:
                return _message(403, _FORBIDDEN)
        body = await request.read(_LARGEST)
        match = Match({"RouteKey": "$default"}, {})
        path = events.unquoted(request.path)
        stage = {"StageName": "$default"}
        context = events.Context(request, body, label, account, region, stage, match, path, self.cloud.clock.now())
        context.iam = signed.identity(caller) if caller is not None else None
        event = msgspec.json.encode(events.version_2(context))
        trace = request.headers.get("x-amzn-trace-id", "")
        try:
            outcome = await self.run(scope, record, qualifier, event, trace=trace)
        except AwsError as error:
            return _message(error.status or 500, error.message)
        if members["InvokeMode"] == "BUFFERED":
            outcome = await gathered(outcome)
        if outcome.stream is not None:
            response = await _streamed(outcome.content_type, outcome.stream)
        elif outcome.error:
            response = _message(502, "Internal Server Error")
        else:
            response = events.read_answer(outcome.payload, newer=True)
        if configuration:
            cors.add_headers(request, response, configuration)
        return response

    def _find_url(self, label: str) -> tuple[str, str, str, dict[str, Any]] | None:
        if self._doors_of != self.db.revision:
            self._doors, self._doors_of = {}, self.db.revision
            for record in self.settings.all():
                for qualifier, members in record.value.urls.items():
                    place = record.scope, record.name, qualifier, members
                    self._doors[_url_id(record.scope, record.name, qualifier)] = place
        return self._doors.get(label)


def _url_id(scope: str, name: str, qualifier: str) -> str:
    """The URL's own name: the same again when it is made again."""
    return hashlib.sha256(f"{scope}/{name}/{qualifier or LATEST}".encode()).hexdigest()[:32]


async def _streamed(kind: str, stream: AsyncIterator[bytes]) -> Response:
    """A streamed result; one that begins with a prelude says its status, headers and cookies in JSON before 8 zeros."""
    if kind != _WITH_PRELUDE:
        return Response(200, {"content-type": kind}, stream)
    begun = b""
    while _END_OF_PRELUDE not in begun:
        piece = await anext(stream, None)
        if piece is None or len(begun) > _LARGEST_PRELUDE:
            return _message(502, "Internal Server Error")
        begun += piece
    prelude, _, rest = begun.partition(_END_OF_PRELUDE)
    try:
        said = msgspec.json.decode(prelude)
        headers = {str(name).lower(): str(value) for name, value in (said.get("headers") or {}).items()}
        response = Response(int(said.get("statusCode", 200)), headers)
        response.cookies = [str(cookie) for cookie in said.get("cookies") or ()]
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError):
        return _message(502, "Internal Server Error")
    headers.setdefault("content-type", "application/octet-stream")
    headers.pop("content-length", None)
    response.body = _joined(rest, stream)
    return response


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _check_qualifier(input: Input) -> None:
    """A URL is of a function or an alias of it, never of a version. Raises ValidationException."""
    given = input.get("Qualifier", "")
    if given == LATEST or given.isdigit():
        words = (
            f"1 validation error detected: Value '{given}' at 'qualifier' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)"
        )
        raise AwsError("ValidationException", words, status=400)


def _check_mode(input: Input) -> None:
    if input.get("InvokeMode", "BUFFERED") not in ("BUFFERED", "RESPONSE_STREAM"):
        raise not_implemented(f"function URLs with InvokeMode {input['InvokeMode']}")


def _message(status: int, words: str) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode({"Message": words}))
