"""What a service is given, and what it gives: the contract between the cloud and its services."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from cloudlet.config import Config
from cloudlet.control.clock import Clock
from cloudlet.control.supervisor import Supervisor
from cloudlet.http import Request, Response
from cloudlet.observe.metrics import Metrics
from cloudlet.store import Resources, Store

# An operation's members as the service's model names them. Blobs are bytes, timestamps are epoch seconds (float),
# a streaming member is an async iterator of bytes, and a member that is not set is not there: never None.
Input = dict[str, Any]
Output = dict[str, Any]

Tagged = tuple[str, dict[str, str]]  # a resource's ARN, and its tags
GLOBAL_REGION = "us-east-1"  # where the tagging API has what is in no region


@dataclass(slots=True)
class Call:
    """Who asks for an operation, and where."""

    account: str
    region: str
    principal: str = ""  # the caller's ARN; a service's name (``sns.amazonaws.com``) when a service calls
    access_key: str = ""
    request_id: str = ""
    request: Request | None = None  # None when a service calls another
    service: str = ""
    operation: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # extra headers for the answer

    @property
    def scope(self) -> str:
        """The key of this account's and region's world in the store."""
        return f"{self.account}/{self.region}"


class Cloud(Protocol):
    """The cloud as a service sees it."""

    @property
    def config(self) -> Config: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def store(self) -> Store: ...
    @property
    def supervisor(self) -> Supervisor: ...
    @property
    def metrics(self) -> Metrics: ...

    @property
    def data_dir(self) -> Path:
        """Where files are kept; a service uses ``data_dir / <its name>``. Not there before its first use."""
        ...

    @property
    def endpoint(self) -> str:
        """The URL of the one endpoint, without a slash at the end, as clients and child processes reach it."""
        ...

    def door(self, name: str, label: str) -> str:
        """The URL of a data plane's front door (``execute-api``, ``lambda-url``, ...) for one resource, without a slash
        at the end: by host name where this machine resolves ``*.localhost``, else by path."""
        ...

    async def call(
        self, service: str, operation: str, input: Input, *, account: str, region: str, principal: str = ""
    ) -> Output:
        """Call another service's operation in this process. Raises AwsError as a client would see it."""
        ...

    def conform(self, service: str, operation: str, input: Input) -> Input:
        """Loosely typed input, as a template has it, in an operation's own types and constraints. Raises AwsError."""
        ...

    def present(self, service: str, operation: str, output: Output) -> Output:
        """An operation's output as JSON, with the names of its members in capitals, as state machines see it."""
        ...

    def knows_error(self, service: str, code: str) -> bool:
        """Whether a service's model has an error of this name or code."""
        ...

    async def service(self, name: str) -> Service:
        """Another service, started. For its data plane; operations go through ``call``."""
        ...

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        """What has tags, of every service, in the order of ARNs. One that was never used is not started by it."""
        ...

    async def authorize(self, call: Call, input: Input) -> None:
        """See that IAM lets the caller do what is about to be done with his own rights, with ``--auth enforce``.

        What services ask of each other through ``call`` is not judged. Raises AccessDenied."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Run work in the background until it ends or the cloud stops; its errors are logged."""
        ...


class Service:
    """A service: its operations are ``async def <OperationName>(self, call, input) -> Output`` as the API names them.

    Everything public in CapitalCase is an operation. What is missing answers ``NotImplemented`` by itself.
    """

    name: ClassVar[str]
    is_policy_needed: ClassVar[bool] = False  # whether nobody gets in whom a resource's policy does not mention
    refused: ClassVar[dict[str, str]] = {}  # operation -> what of its input has no effect here (``refusing.py``)

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.clock = cloud.clock

    async def start(self) -> None:
        """Open the database and take up again what should be running. Called once, before the first operation."""

    async def stop(self) -> None:
        """Finish or put down what is running. The store is still open."""

    async def serve(self, request: Request, label: str) -> Response:
        """Answer a data-plane request for ``<label>.<this service's host name>``: a bucket, an API, a function URL."""
        raise NotImplementedError

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        """The policy document of the resource that a call is about, when it has one: it may let the caller in."""
        return None

    async def resource_arn(self, call: Call, input: Input) -> str:
        """The ARN of what a call is about, where its input alone does not say: of an alias, of a ciphertext."""
        return ""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        """What a user would call resources here, each with ``type``, ``name``, ``arn`` and perhaps ``endpoint``."""
        return []

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        """What can have tags here, each with those that it has, if any. For the tagging API; nobody else asks."""
        return []


def tags_in(scope: str, *kinds: Resources[Any]) -> list[Tagged]:
    """The resources of some kinds whose records know their ``arn`` and have ``tags``."""
    return [(record.value.arn, record.value.tags) for kind in kinds for record in kind.list(scope)]


def arn(service: str, call: Call, resource: str) -> str:
    """An Amazon Resource Name of the caller's account and region."""
    return f"arn:aws:{service}:{call.region}:{call.account}:{resource}"
