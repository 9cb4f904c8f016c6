"""What comes from outside while a deployment waits: wait handles, custom resources' answers, and SignalResource."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.http import Request, Response
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.cloudformation.records import Records, Resource, Stack
from cloudlet.stacks.api import Physical
from cloudlet.stacks.errors import invalid
from cloudlet.store import Database, Tx

if TYPE_CHECKING:
    from cloudlet.control.clock import Clock
    from cloudlet.services.cloudformation.steps import Step

_LARGEST = 1024 * 1024
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?\Z")


class Signals:
    """The door that is open to functions and machines; mixed into the service."""

    if TYPE_CHECKING:
        cloud: Cloud
        clock: Clock
        db: Database
        records: Records
        signalled: dict[str, asyncio.Event]

        async def find(self, call: Call, name: str, words: str = "") -> Stack: ...

    async def serve(self, request: Request, label: str) -> Response:
        """Take the document that a function or a machine PUTs to the URL it was given."""
        if request.method not in ("PUT", "POST"):
            return Response(405, {"content-type": "text/plain", "allow": "PUT"}, b"Only PUT is for this URL.\n")
        known = await self.db.read(lambda tx: tx.execute("SELECT 1 FROM token WHERE token = ?", (label,)).fetchone())
        if known is None:
            return Response(403, {"content-type": "text/plain"}, b"This URL is not valid, or no longer.\n")
        try:
            document = msgspec.json.decode(await request.read(_LARGEST))
            if not isinstance(document, dict):
                raise ValueError
        except (ValueError, msgspec.MsgspecError):
            return Response(400, {"content-type": "text/plain"}, b"The body must be a JSON object.\n")
        # A wait handle tells signals apart by their id; of a custom resource's answers one counts.
        await self.signal(label, str(document.get("UniqueId", "")), document)
        return Response(200)

    async def SignalResource(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        resources = await self.records.resources(stack.id)
        name = input["LogicalResourceId"]
        if name not in resources:
            raise invalid(f"Resource {name} does not exist for stack {stack.name}")
        if not resources[name].status.endswith("_IN_PROGRESS"):
            raise invalid(f"Resource {name} is in {resources[name].status} state and can not be signaled")
        document = {"Status": input["Status"], "UniqueId": input["UniqueId"]}
        await self.signal(signal_token(stack, resources[name]), input["UniqueId"], document)
        return {}

    async def signal(self, token: str, unique_id: str, document: dict[str, Any]) -> None:
        """Store what came in, and wake who waits for it."""

        def write(tx: Tx) -> None:
            tx.execute(
                "INSERT OR IGNORE INTO signal (token, id, value) VALUES (?, ?, ?)",
                (token, unique_id, msgspec.json.encode(document)),
            )

        await self.db.write(write)
        if (waiting := self.signalled.get(token)) is not None:
            waiting.set()

    async def new_token(self, stack_id: str, token: str = "") -> str:
        """A token under which something may come in until the stack is deleted; ``token`` again when it is given."""
        made = token or secrets.token_urlsafe(24)
        await self.db.write(
            lambda tx: tx.execute("INSERT OR IGNORE INTO token (token, stack) VALUES (?, ?)", (made, stack_id)).rowcount
        )
        return made

    def url_of(self, token: str) -> str:
        """The URL that a document for a token is PUT to, from functions too."""
        return f"{self.cloud.endpoint}/_cloudlet/cloudformation/{token}"

    async def await_signals(
        self, step: Step, token: str, count: int, seconds: float, failing: bool = True
    ) -> dict[str, dict[str, Any]] | None:
        """What came in, once ``count`` signals have, or one that failed; None when the time is over first."""
        deadline = asyncio.Event()
        timer = self.clock.call_later(seconds, deadline.set)
        try:
            while True:
                arrived = self.signalled[token] = asyncio.Event()
                found = await self.records.signals(token)
                failed = failing and any(signal.get("Status") == "FAILURE" for signal in found.values())
                if len(found) >= count or failed:
                    return found
                if not await step.wait(_first(arrived, deadline)):
                    return None
        finally:
            timer.cancel()
            self.signalled.pop(token, None)

    async def await_creation(self, step: Step, physical: Physical, creation_policy: Any) -> None:
        """Wait for the signals that a CreationPolicy asks for. Raises ValidationError when they don't come."""
        signal = creation_policy.get("ResourceSignal") if isinstance(creation_policy, dict) else None
        if signal is None:
            return
        await step.initiated(physical.id)
        count = int(signal.get("Count", 1))
        seconds = duration(str(signal.get("Timeout", "PT5M")))
        found = await self.await_signals(step, signal_token(step.run.stack, step.resource), count, seconds)
        failed = [one for one in (found or {}).values() if one.get("Status") == "FAILURE"]
        if failed:
            raise invalid(
                f"Received {len(failed)} FAILURE signal(s) out of {count}. Unable to satisfy 100% "
                "MinSuccessfulInstancesPercent requirement"
            )
        if found is None:
            raise invalid(f"Failed to receive {count} resource signal(s) within the specified duration")


async def _first(arrived: asyncio.Event, deadline: asyncio.Event) -> bool:
    """Whether something arrived before the deadline."""
    waits = [asyncio.ensure_future(arrived.wait()), asyncio.ensure_future(deadline.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return arrived.is_set()
    finally:
        for wait in waits:
            wait.cancel()


def signal_token(stack: Stack, resource: Resource) -> str:
    """Under which SignalResource's signals for one creation of a resource are kept; no URL leads there."""
    return f"{stack.id}/{resource.logical_id}/{resource.seed}"


def duration(text: str) -> float:
    """Seconds of an ISO 8601 duration of hours, minutes and seconds. Raises ValidationError."""
    found = _DURATION.match(text)
    if found is None or not any(found.groups()):
        raise invalid(f"Template format error: {text} is not a duration such as PT15M")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)
