"""Deployments of templates that lie on this machine, as ``cloudlet deploy``, ``plan`` and ``up`` ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.cloudformation.prepare import Prepared, Preparer
from cloudlet.services.cloudformation.records import Event, Records, Resource, Stack
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.package import Packager
from cloudlet.stacks.parse import parse
from cloudlet.stacks.plan import CREATE, DELETE, REPLACE, Step

if TYPE_CHECKING:
    from cloudlet.services.cloudformation.runs import Run

_CAPABILITIES = ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
# What can only be deleted and made anew.
_DEAD = frozenset(("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS"))


class Deploying:
    """The control API's side of the service; mixed into it."""

    if TYPE_CHECKING:
        cloud: Cloud
        records: Records
        preparer: Preparer
        runs: dict[str, Run]

        def new_stack(self, call: Call, name: str, status: str) -> Stack: ...
        async def create(self, call: Call, input: Input, parent: Stack | None = None) -> Output: ...
        async def update(self, call: Call, input: Input, nested: bool = False) -> Output: ...
        async def DeleteStack(self, call: Call, input: Input) -> Output: ...
        async def steps(self, stack: Stack, rows: dict[str, Resource], prepared: Prepared) -> list[Step]: ...
        async def first_failure(self, stack_id: str) -> str: ...

    def __init__(self) -> None:
        self._followers: dict[str, set[asyncio.Queue[dict[str, Any] | None]]] = {}

    async def deploy(self, account: str, region: str, document: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Deploy a template and tell what happens; the last event is ``done``. Raises AwsError.

        ``document`` has the path ``template``, the ``stack``'s name and its ``parameters`` (name -> value).
        """
        call, name = self._call(account, region), str(document.get("stack") or "stack")
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        packaging = asyncio.ensure_future(self._package(document, events))
        while (event := await events.get()) is not None:
            yield event
        body = await packaging
        stack = await self._settled(call, name)
        if stack is not None and stack.status in _DEAD:
            yield {"event": "message", "message": f"Stack {name} is {stack.status}: it is deleted and made anew."}
            await self.DeleteStack(call, {"StackName": stack.id})
            if (stack := await self._settled(call, name)) is not None:
                raise invalid(f"Stack {name} could not be deleted: {stack.reason}")
        input: Input = {"StackName": name, "TemplateBody": body, "Capabilities": _CAPABILITIES}
        input["Parameters"] = await self._parameters(stack, body, document.get("parameters") or {})
        try:
            made = await (self.create(call, input) if stack is None else self.update(call, input))
        except AwsError as error:
            if stack is None or error.message != "No updates are to be performed.":
                raise
            yield {**_done(stack, ""), "unchanged": True}
            return
        followers = self._followers.setdefault(made["StackId"], set())
        followers.add(events)
        try:
            while made["StackId"] in self.runs and (event := await events.get()) is not None:
                yield event
        finally:
            followers.discard(events)
            if not followers:
                self._followers.pop(made["StackId"], None)
        while not events.empty():
            if (event := events.get_nowait()) is not None:
                yield event
        settled = await self.records.stack(made["StackId"])
        assert settled is not None
        yield _done(settled, "" if settled.status.endswith("E_COMPLETE") else await self.first_failure(settled.id))

    async def plan(self, account: str, region: str, document: dict[str, Any]) -> dict[str, Any]:
        """What a deployment would change. Raises AwsError."""
        call, name = self._call(account, region), str(document.get("stack") or "stack")
        body = await self._package(document, asyncio.Queue())
        stack = await self._settled(call, name)
        if stack is not None and stack.status in _DEAD:
            stack = None
        input: Input = {"StackName": name, "TemplateBody": body, "Capabilities": _CAPABILITIES}
        input["Parameters"] = await self._parameters(stack, body, document.get("parameters") or {})
        current = await self.records.model(stack.model) if stack is not None else None
        stack = stack or self.new_stack(call, name, "REVIEW_IN_PROGRESS")
        prepared = await self.preparer.prepare(call, input, name, stack.id, current)
        steps = await self.steps(stack, await self.records.resources(stack.id), prepared)
        return {
            "changes": [
                {
                    "action": "Add" if step.action == CREATE else "Remove" if step.action == DELETE else "Modify",
                    "logicalId": step.logical_id,
                    "type": step.type,
                    "replacement": step.action == REPLACE,
                    "properties": list(step.changed),
                }
                for step in steps
            ]
        }

    def tell_followers(self, stack: Stack, events: list[Event]) -> None:
        """Tell who follows a deployment what has happened in its stack or one nested in it."""
        followers = self._followers.get(stack.root or stack.id)
        if not followers:
            return
        for event in events:
            if event.reason == "Resource creation Initiated":
                continue
            told = {
                "event": "resource",
                "logicalId": f"{stack.name}/{event.logical_id}" if stack.root else event.logical_id,
                "type": event.type,
                "status": event.status,
                "reason": event.reason,
            }
            for queue in followers:
                queue.put_nowait(told)

    def end_followers(self, stack: Stack) -> None:
        """Tell who follows a stack that its run has ended."""
        for queue in self._followers.get(stack.id, ()):
            queue.put_nowait(None)

    async def _package(self, document: dict[str, Any], events: asyncio.Queue[dict[str, Any] | None]) -> str:
        """The template without local paths; what takes long is told, then None."""
        loop = asyncio.get_running_loop()

        def say(words: str) -> None:
            loop.call_soon_threadsafe(events.put_nowait, {"event": "message", "message": words})

        packager = Packager(self.cloud.data_dir / "cloudformation", say)
        try:
            return await asyncio.to_thread(packager.body, Path(document["template"]))
        finally:
            events.put_nowait(None)

    async def _parameters(self, stack: Stack | None, body: str, given: dict[str, Any]) -> list[dict[str, Any]]:
        """The parameters as given; one that has no default keeps the value that the stack has."""
        declared = (await asyncio.to_thread(parse, body)).get("Parameters") or {}
        previous = (await self.records.model(stack.model)).parameters if stack is not None else {}
        entries: list[dict[str, Any]] = [
            {"ParameterKey": name, "ParameterValue": str(value)} for name, value in given.items()
        ]
        for name, one in declared.items():
            if name in previous and name not in given and isinstance(one, dict) and "Default" not in one:
                entries.append({"ParameterKey": name, "UsePreviousValue": True})
        return entries

    async def _settled(self, call: Call, name: str) -> Stack | None:
        """The live stack of that name, once nothing is under way on it."""
        while True:
            stack = await self.records.live(call.scope, name)
            run = self.runs.get(stack.id) if stack is not None else None
            if run is None:
                return stack
            await run.done.wait()
            await asyncio.sleep(0)

    def _call(self, account: str, region: str) -> Call:
        return Call(account, region, principal=f"arn:aws:iam::{account}:root")


def _done(stack: Stack, reason: str) -> dict[str, Any]:
    return {
        "event": "done",
        "stack": stack.name,
        "status": stack.status,
        "reason": reason or stack.reason,
        "unchanged": False,
        "outputs": [
            {"key": made["OutputKey"], "value": made["OutputValue"], "description": made.get("Description", "")}
            for made in stack.outputs
        ],
    }
