"""How a version runs once: its slot among all that run at once, its sandbox and its role's keys."""

from __future__ import annotations

import base64
import hashlib
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from cloudlet.engines.functions import Function, FunctionFailed, Outcome, Throttled
from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services.api import Input
from cloudlet.services.lambda_ import tracing
from cloudlet.services.lambda_.images import Images
from cloudlet.services.lambda_.records import ACCOUNT_CONCURRENCY, LATEST, Version
from cloudlet.services.lambda_.reporting import Begun
from cloudlet.store import Record

LARGEST = 6 * 1024 * 1024  # bytes of an event or a result
SELF = "lambda.amazonaws.com"


class Running(Images):
    """Runs versions, for whoever asks."""

    async def run(
        self,
        scope: str,
        record: Record[Version],
        qualifier: str,
        event: bytes,
        request_id: str = "",
        client_context: str = "",
        trace: str = "",
        tail: bool = False,
        links: Sequence[str] = (),
    ) -> Outcome:
        """Run a version once. Raises TooManyRequestsException, and ServiceException when it cannot be run here.

        ``qualifier`` is what it was asked for by, ``trace`` the caller's X-Ray header, ``links`` those of what the
        event was made from.
        """
        if record.value.members["State"] != "Active":
            raise AwsError(
                "ResourceConflictException",
                "The operation cannot be performed at this time. The function is currently in the following state: "
                + record.value.members["State"],
                status=409,
                Type="User",
            )
        function = self.runnable_of(scope, record)
        if not (trace or function.traced):
            return await self._run(scope, function, qualifier, event, request_id, client_context, trace, tail)
        traced, trace = await tracing.begin(self.cloud, scope, function, trace, links)
        request_id = request_id or str(uuid.uuid4())
        try:
            outcome = await self._run(scope, function, qualifier, event, request_id, client_context, trace, tail)
        except AwsError as error:
            if traced is not None:
                traced.refused(error)
            raise
        if traced is not None:
            traced.ended(outcome, request_id)
        return outcome

    async def _run(
        self,
        scope: str,
        function: Function,
        qualifier: str,
        event: bytes,
        request_id: str,
        client_context: str,
        trace: str,
        tail: bool,
    ) -> Outcome:
        decoded = _decoded_context(client_context)
        begun, pool = self._begin(scope, function, qualifier)
        try:
            outcome = await self.engine.invoke(
                function, event, request_id=request_id, client_context=decoded, trace=trace, tail=tail
            )
        except Throttled:
            self.reporting.throttled(scope, function.name, qualifier)
            raise _throttled("ConcurrentInvocationLimitExceeded") from None
        except FunctionFailed as error:
            outcome = _unhandled("Runtime.InvalidEntrypoint", str(error), Outcome(b""))
        finally:
            self.under_way[pool] -= 1
            self.reporting.left(begun)
        if outcome.stream is None and len(outcome.payload) > LARGEST:
            words = f"Response payload size exceeded maximum allowed payload size ({LARGEST} bytes)."
            outcome = _unhandled("Function.ResponseSizeTooLarge", words, outcome)
        self.reporting.ended(begun, outcome)
        return outcome

    def _begin(self, scope: str, function: Function, qualifier: str) -> tuple[Begun, tuple[str, str]]:
        """Take a slot, and have it counted. Raises TooManyRequestsException."""
        name = function.name
        try:
            pool = self._take_slot(scope, name)
        except AwsError:
            self.reporting.throttled(scope, name, qualifier)
            raise
        is_alias = bool(qualifier) and qualifier != LATEST and not qualifier.isdigit()
        level = self.reporting.level(scope, name, qualifier, function.version if is_alias else "")
        allocated = self._allocated(scope, name, qualifier, function.version) if qualifier else 0
        return self.reporting.began(level, 0 if pool[1] else self.under_way[pool], allocated), pool

    def _allocated(self, scope: str, name: str, qualifier: str, version: str) -> int:
        """The provisioned concurrency of an alias or a version; an alias has it for the version that it names first."""
        record = self.settings.get(scope, name)
        found = record.value.provisioned.get(qualifier) if record is not None else None
        if found is None or self.version(scope, name, qualifier).value.members["Version"] != version:
            return 0
        allocated: int = found["AllocatedProvisionedConcurrentExecutions"]
        return allocated

    def _take_slot(self, scope: str, name: str) -> tuple[str, str]:
        """Count an invocation against the function's own concurrency, or what the account has left for all others."""
        reserved = self.reserved.get((scope, name))
        if reserved is None:
            record = self.settings.get(scope, name)
            reserved = -1 if record is None or record.value.reserved is None else record.value.reserved
            self.reserved[scope, name] = reserved
            # What is reserved by others is not for this one.
            taken = sum(record.value.reserved or 0 for record in self.settings.list(scope))
            self.reserved[scope, ""] = ACCOUNT_CONCURRENCY - taken
        pool = (scope, name) if reserved >= 0 else (scope, "")
        running = self.under_way.get(pool, 0)
        if running >= self.reserved[pool]:
            limit = "ReservedFunctionConcurrentInvocation" if reserved >= 0 else "ConcurrentInvocation"
            raise _throttled(f"{limit}LimitExceeded")
        self.under_way[pool] = running + 1
        return pool

    def runnable_of(self, scope: str, record: Record[Version]) -> Function:
        """A version as the engine takes it; made again only when it has changed."""
        known = self.runnable.get((scope, record.name))
        if known is not None and known[0] == record.revision:
            return known[1]
        members = record.value.members
        region = scope.partition("/")[2]
        name, number = record.name.rsplit(":", 1)
        given = (members.get("Environment") or {}).get("Variables") or {}
        environment = {
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            **given,
            **traces.resource_environment(scope, name, "aws_lambda", given),
        }
        layers: tuple[Any, ...] = ()
        if members.get("Layers"):
            shas = []
            for layer in members["Layers"]:
                arn, _, version = layer["Arn"].rpartition(":")
                found = self.layers.get(scope, f"{arn.rsplit(':', 1)[-1]}:{int(version):08d}")
                if found is not None:
                    shas.append(found.value.sha)
            layers = (self.archive.merged(tuple(shas)),) if shas else ()
        digest = hashlib.sha256(
            msgspec.json.encode([members, record.value.sha, record.value.folder, record.value.image], order="sorted")
        )
        function = Function(
            key=f"{scope}/{record.name}/{digest.hexdigest()[:16]}",
            name=name,
            arn=self.arn(scope, name, "" if number == LATEST else number),
            version=number,
            runtime=members.get("Runtime", ""),
            handler=members.get("Handler", ""),
            image=self.engine_image(record.value),
            code=self.archive.path(record.value.sha) if record.value.sha else Path(record.value.folder),
            memory=members["MemorySize"],
            storage=members["EphemeralStorage"]["Size"],
            timeout=float(members["Timeout"]),
            environment=environment,
            layers=layers,
            log_group=members["LoggingConfig"]["LogGroup"],
            json_log=members["LoggingConfig"]["LogFormat"] == "JSON",
            log_level=members["LoggingConfig"].get("ApplicationLogLevel", "INFO"),
            system_level=members["LoggingConfig"].get("SystemLogLevel", "INFO"),
            role=members["Role"],
            traced=members["TracingConfig"]["Mode"] == tracing.ACTIVE,
        )
        self.runnable[scope, record.name] = (record.revision, function)
        return function

    async def credentials(self, function: Function) -> tuple[dict[str, str], float]:
        """The keys of a function's role, for the environment of one sandbox, and until when they are good.

        Where it is traced, also where its segments go.
        """
        scope = function.key.rsplit("/", 2)[0]
        account, region = scope.split("/", 1)
        traced = await tracing.environment(self.cloud, scope) if function.traced else {}
        session: Input = {"RoleArn": function.role, "RoleSessionName": function.name}
        try:
            made = await self.cloud.call("sts", "AssumeRole", session, account=account, region=region, principal=SELF)
        except AwsError:
            # A role that nobody has made: the function signs as its account, as the user of this machine does.
            return {"AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "local", **traced}, math.inf
        keys = made["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
            **traced,
        }, keys["Expiration"]


async def gathered(outcome: Outcome) -> Outcome:
    """The outcome with its whole payload, also where the function streams it."""
    if outcome.stream is not None:
        outcome.payload = b"".join([piece async for piece in outcome.stream])
        outcome.stream = None
    return outcome


def _unhandled(kind: str, words: str, outcome: Outcome) -> Outcome:
    """What an invocation came to, as an error of the runtime in place of it."""
    body = {"errorType": kind, "errorMessage": words}
    return Outcome(msgspec.json.encode(body), "Unhandled", outcome.log, outcome.seconds)


def _throttled(reason: str) -> AwsError:
    return AwsError("TooManyRequestsException", "Rate Exceeded.", status=429, Reason=reason, Type="User")


def _decoded_context(given: str) -> str:
    if not given:
        return ""
    try:
        text = base64.b64decode(given, validate=True).decode()
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except (ValueError, msgspec.DecodeError):
        words = "Client context must be a valid Base64-encoded JSON object."
        raise AwsError("InvalidRequestContentException", words, status=400, Type="User") from None
