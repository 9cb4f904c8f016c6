"""One resource's step of a deployment, as its type sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Properties
from cloudlet.stacks.package import local_path

if TYPE_CHECKING:
    from cloudlet.services.cloudformation.records import Resource
    from cloudlet.services.cloudformation.runs import Run

T = TypeVar("T")


class Cancelled(Exception):
    """Another resource failed while this one was waiting for something outside."""


class Step:
    """What a resource type is given. The types of this folder use also what the contract does not name."""

    def __init__(self, run: Run, resource: Resource, seed: str, request: str = "") -> None:
        stack = run.stack
        self.run = run
        self.resource = resource
        self.account = stack.account
        self.region = stack.region
        self.stack_name = stack.name
        self.stack_id = stack.id
        self.logical_id = resource.logical_id
        self.request = f"{stack.salt}-{request}"  # names this step's request, the same again after a crash
        self.tags = {
            **run.model.tags,
            "aws:cloudformation:stack-name": stack.name,
            "aws:cloudformation:stack-id": stack.id,
            "aws:cloudformation:logical-id": resource.logical_id,
        }
        self.update_policy: Any = None
        self._seed = seed

    async def call(self, service: str, operation: str, input: Properties) -> dict[str, Any]:
        """Call an operation as the stack's owner. Raises AwsError."""
        try:
            given = self.run.cloud.conform(service, operation, input)
            return await self.run.cloud.call(
                service,
                operation,
                given,
                account=self.account,
                region=self.region,
                principal=self.run.model.role or self.run.stack.owner,
            )
        except AwsError as error:
            error.service = service  # type: ignore[attr-defined]
            raise

    async def signals(self, count: int = 0, seconds: float = 0.0) -> int:
        """How many SignalResource calls there were for this resource; wait until there are so many. Raises as AWS."""
        from cloudlet.services.cloudformation.signals import signal_token

        token = signal_token(self.run.stack, self.resource)
        if not count:
            return len(await self.run.service.records.signals(token))
        found = await self.run.service.await_signals(self, token, count, seconds)
        failed = [one for one in (found or {}).values() if one.get("Status") == "FAILURE"]
        if failed:
            raise AwsError("ValidationError", f"Received {len(failed)} FAILURE signal(s) out of {count}")
        if found is None:
            raise AwsError(
                "ValidationError", f"Failed to receive {count} resource signal(s) within the specified duration"
            )
        return len(found)

    async def service(self, name: str) -> Any:
        """Another service, started."""
        return await self.run.cloud.service(name)

    def name(self, longest: int = 64, lower: bool = False, suffix: str = "") -> str:
        """The physical name: stack, logical id, and a random part that is this resource's own."""
        room = longest - len(self._seed) - len(suffix) - 2
        stack, logical = self.stack_name, self.logical_id
        if len(stack) + len(logical) > room:
            # The shorter one keeps its length as far as there is room.
            half = room // 2
            if len(stack) <= half:
                logical = logical[: room - len(stack)]
            elif len(logical) <= half:
                stack = stack[: room - len(logical)]
            else:
                stack, logical = stack[: room - half], logical[:half]
        made = "-".join(part for part in (stack.rstrip("-"), logical, self._seed) if part)
        return (made.lower() if lower else made) + suffix

    def local_path(self, uri: str) -> str | None:
        """The absolute path of a local folder or file, or None when it is not local."""
        return local_path(uri)

    async def initiated(self, physical_id: str) -> None:
        """Tell and remember the physical id before the resource is complete, so that a roll-back deletes it."""
        await self.run.initiated(self.resource, physical_id)

    async def wait(self, work: Awaitable[T]) -> T:
        """Wait for something outside. Raises Cancelled when the deployment fails elsewhere in the meantime."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.run.stopping.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Cancelled
            return task.result()
        finally:
            stopped.cancel()
            task.cancel()


def step_of(do: object) -> Step:
    """The step behind the contract."""
    return cast("Step", do)
