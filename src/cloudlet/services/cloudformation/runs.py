"""The run of one operation on one stack: each status in progress is a phase, taken up again wherever it was left."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import string
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.cloudformation import dynamic, policy, records
from cloudlet.services.cloudformation.notices import notice_of
from cloudlet.services.cloudformation.records import STACK_TYPE, Event, Model, Resource, Stack, stack_event
from cloudlet.services.cloudformation.removal import Removal
from cloudlet.services.cloudformation.states import physical_of, reason_of, state_of
from cloudlet.services.cloudformation.steps import Cancelled, Step
from cloudlet.stacks import graph, registry
from cloudlet.stacks.api import Physical
from cloudlet.stacks.doors import Door
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import NO_VALUE, Context, Resolver, pseudo_parameters, text_of
from cloudlet.stacks.parameters import typed
from cloudlet.stacks.plan import CREATE, DELETE, NONE, REPLACE, UPDATE, State, decide
from cloudlet.stacks.template import Desired, Template
from cloudlet.store import Tx

if TYPE_CHECKING:
    from cloudlet.services.cloudformation.service import Service

log = logging.getLogger("cloudlet.cloudformation")

_SEED = string.ascii_uppercase + string.digits


class Run(Removal):
    """One stack at work. ``done`` is set when its status is no longer in progress."""

    def __init__(self, service: Service, stack: Stack) -> None:
        self.service = service
        self.cloud = service.cloud
        self.clock = service.clock
        self.records = service.records
        self.stack = stack
        self.done = asyncio.Event()
        self.stopping = asyncio.Event()  # nothing new is started any more
        self.stop_reason = ""
        self.failed: dict[str, list[str]] = {"create": [], "update": []}
        self.rows: dict[str, Resource] = {}
        self.forced: frozenset[str] = frozenset()
        self.imported: set[str] = set()
        self.old_tags: dict[str, str] = {}
        self._told = asyncio.Lock()

    async def work(self) -> None:
        """Go through the phases until there is none left."""
        phases = {
            "CREATE_IN_PROGRESS": self._create,
            "ROLLBACK_IN_PROGRESS": self.roll_back_creation,
            "UPDATE_IN_PROGRESS": self._update,
            "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": self.clean_up,
            "UPDATE_ROLLBACK_IN_PROGRESS": self.roll_back_update,
            "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": self.clean_up_roll_back,
            "DELETE_IN_PROGRESS": self.delete_all,
        }
        self.rows = await self.records.resources(self.stack.id)
        try:
            while self.stack.busy:
                self.stopping.clear()
                self.stop_reason = ""
                await self._prepare()
                await phases[self.stack.status]()
        finally:
            self.done.set()

    def stop(self, reason: str) -> None:
        """Start nothing more, and let what waits for something outside give up."""
        self.stop_reason = self.stop_reason or reason
        self.stopping.set()

    async def _prepare(self) -> None:
        """Read what this phase goes by."""
        stack = self.stack
        self.model: Model = await self.records.model(stack.model)
        self.template = await asyncio.to_thread(lambda: Template(json.loads(self.model.processed)))
        self.context = context_of(stack, self.model, self.template, self._import, self.cloud.door)
        exports = await self.records.exports(stack.scope) if "Fn::ImportValue" in self.model.processed else []
        self._exports = {name: value for name, _, value in exports}
        self.resolver = Resolver(self.context, self._lookup)
        self.old_tags = (await self.records.model(stack.previous)).tags if stack.previous else self.model.tags

    def _import(self, name: str) -> Any:
        if name not in self._exports:
            raise invalid(f"No export named {name} found.")
        self.imported.add(name)
        return self._exports[name]

    def _lookup(self, name: str, attribute: str | None) -> Any:
        row = self.rows.get(name)
        if row is None or row.state is None:
            raise invalid(
                f"Template format error: Unresolved resource dependencies [{name}] in the {self.context.where} block "
                "of the template"
            )
        return row.state.value(name, attribute)

    # Forward

    async def _create(self) -> None:
        timer = None
        if self.stack.deadline:
            timer = self.clock.call_at(
                self.stack.deadline, lambda: self.stop("Stack creation time exceeded the specified timeout.")
            )
        try:
            problem = await self._forward()
        finally:
            if timer is not None:
                timer.cancel()
        if self.stack.delete_next:
            return await self.move("DELETE_IN_PROGRESS", "User Initiated", delete_next=False)
        if problem is None:
            return await self._complete("CREATE_COMPLETE")
        if self.stack.on_failure == "DO_NOTHING":
            return await self.move("CREATE_FAILED", problem)
        if self.stack.on_failure == "DELETE":
            return await self.move("DELETE_IN_PROGRESS", f"{problem}Delete requested by user.")
        return await self.move("ROLLBACK_IN_PROGRESS", f"{problem}Rollback requested by user.")

    async def _update(self) -> None:
        # A nested stack knows by itself whether it has something to do.
        self.forced = frozenset(name for name, row in self.rows.items() if row.state and row.type == STACK_TYPE)
        problem = await self._forward()
        if problem is None:
            try:
                return await self._complete("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            except AwsError as error:
                problem = error.message
        if self.stack.on_failure == "DO_NOTHING":
            return await self.move("UPDATE_FAILED", problem)
        return await self.move("UPDATE_ROLLBACK_IN_PROGRESS", problem)

    async def _forward(self) -> str | None:
        """Create and update all that differs; what went wrong, or None."""
        self.failed = {"create": [], "update": []}
        self.imported = set()
        try:
            depends = await asyncio.to_thread(self.template.dependencies, self.context)
        except AwsError as error:
            return f"{error.message} "
        self.depends = depends
        for name, row in self.rows.items():
            if name not in depends and row.state is not None and (reason := self._forbidden(row, DELETE)):
                await self._failed(row, "UPDATE", reason)
        if not self.failed["update"]:
            await graph.run(depends, self._apply, self.stopping)
        words = [
            f"The following resource(s) failed to {verb}: [{', '.join(sorted(names))}]. "
            for verb, names in self.failed.items()
            if names
        ]
        if self.stop_reason:
            return f"{self.stop_reason} "
        if words:
            return "".join(words)
        try:
            self.outputs = self._outputs()
        except AwsError as error:
            return f"{error.message} "
        return None

    def _outputs(self) -> list[dict[str, str]]:
        self.context.where = "Outputs"
        found = []
        for name, output in self.template.outputs.items():
            if "Condition" in output and not self.resolver.condition(output["Condition"]):
                continue
            value = self.resolver.resolve(output["Value"])
            if value is NO_VALUE:
                continue
            if isinstance(value, (dict, list)):
                raise invalid(
                    "Template format error: The Value field of every Outputs member must evaluate to a String."
                )
            made = {"OutputKey": name, "OutputValue": text_of(value)}
            if "Description" in output:
                made["Description"] = text_of(self.resolver.resolve(output["Description"]))
            if "Export" in output:
                export = self.resolver.resolve(output["Export"])
                if not isinstance(export, dict) or not isinstance(export.get("Name"), str):
                    raise invalid("Template format error: Every Export member must contain a Name that is a String.")
                made["ExportName"] = export["Name"]
            found.append(made)
        return found

    async def _complete(self, status: str) -> None:
        """Everything is as the template wants it: outputs, exports and imports with it."""
        outputs, imported, stack = self.outputs, self.imported, self.stack

        def share(tx: Tx) -> None:
            exports = {made["ExportName"]: made["OutputValue"] for made in outputs if "ExportName" in made}
            for name, value in tx.execute("SELECT name, value FROM export WHERE stack = ?", (stack.id,)).fetchall():
                if exports.get(name) == value:
                    continue
                users = tx.execute(
                    "SELECT stack.name FROM import JOIN stack ON stack.id = import.stack "
                    "WHERE import.scope = ? AND import.name = ? AND stack.id != ?",
                    (stack.scope, name, stack.id),
                ).fetchall()
                if users:
                    verb = "updated" if name in exports else "deleted"
                    names = ", ".join(sorted(user for (user,) in users))
                    raise invalid(f"Export {name} cannot be {verb} as it is in use by {names}")
            for name in exports:
                row = tx.execute(
                    "SELECT stack FROM export WHERE scope = ? AND name = ?", (stack.scope, name)
                ).fetchone()
                if row is not None and row[0] != stack.id:
                    other = row[0].split("/")[1]
                    raise invalid(f"Export with name {name} is already exported by stack {other}")
            tx.execute("DELETE FROM export WHERE stack = ?", (stack.id,))
            tx.executemany(
                "INSERT INTO export (scope, name, stack, value) VALUES (?, ?, ?, ?)",
                [(stack.scope, name, stack.id, value) for name, value in exports.items()],
            )
            tx.execute("DELETE FROM import WHERE stack = ?", (stack.id,))
            tx.executemany(
                "INSERT INTO import (scope, name, stack) VALUES (?, ?, ?)",
                [(stack.scope, name, stack.id) for name in sorted(imported)],
            )
            if status == "CREATE_COMPLETE":
                for row in self.rows.values():
                    if row.touched:
                        row.touched, row.attempt = "", None
                        records.put_resource(tx, stack.id, row)

        try:
            await self.move(status, outputs=outputs, description=self.template.description, then=share)
        except AwsError as error:
            if status != "CREATE_COMPLETE":
                raise
            words = f"{error.message}. Rollback requested by user."
            await self.move("CREATE_FAILED" if stack.on_failure == "DO_NOTHING" else "ROLLBACK_IN_PROGRESS", words)

    async def _apply(self, name: str) -> bool:
        """Bring one resource to what the template wants."""
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = Resource(name, self.template.resources[name]["Type"])
        try:
            desired = self.template.desired(name, self.resolver, self.depends[name])
        except AwsError as error:
            return await self._failed(row, "UPDATE" if row.state is not None else "CREATE", error.message)
        action, changed, _ = decide(row.state, desired, registry.replaces(desired.type))
        retag = self._retags(row, action)
        if row.state is not None and (action != NONE or retag) and (reason := self._forbidden(row, action)):
            return await self._failed(row, "UPDATE", reason)
        if action == NONE and not retag and name not in self.forced:
            return await self._keep(row, desired)
        if action == REPLACE and (custom := _custom_name(row, desired, changed)):
            return await self._failed(
                row,
                "UPDATE",
                "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename "
                f"{custom} and update the stack again.",
            )
        verb = await self._begin(row, desired, action)
        old = row.state
        step = Step(self, row, row.seed, f"{name}-{action}-{row.seed}")
        step.update_policy = desired.update_policy
        try:
            physical = await self._carry_out(step, desired, old, retag)
        except Cancelled:
            return await self._failed(row, verb, f"Resource {'update' if old else 'creation'} cancelled")
        except Exception as error:
            return await self._failed(row, verb, reason_of(error, desired.type))
        replaced = old is not None and physical.id != old.physical_id
        if replaced and row.before is not None and row.touched == "UPDATED":
            row.touched = "REPLACED"
        row.state = state_of(desired, physical, row.seed)
        row.attempt = None
        events = []
        if old is None and not row.initiated:
            events.append(self.event(row, f"{verb}_IN_PROGRESS", "Resource creation Initiated", desired.properties))
        row.initiated = ""
        row.status, row.reason = f"{verb}_COMPLETE", ""
        events.append(self.event(row, row.status, "", desired.properties))
        await self.save(row, events)
        return True

    async def _carry_out(self, step: Step, desired: Desired, old: State | None, retag: bool) -> Physical:
        """Have the resource's type make it, or change what it is."""
        kind = registry.find(desired.type)
        if kind is None:
            raise invalid(f"Cloudlet does not implement the resource type {desired.type}")
        properties = await dynamic.resolve(desired.properties, step.call)
        if old is None:
            physical = await kind.create(step, properties)
            if desired.creation_policy:
                await self.service.await_creation(step, physical, desired.creation_policy)
            return physical
        before = await dynamic.resolve(old.properties, step.call)
        if retag:
            before, properties = self._tagged(before, self.old_tags), self._tagged(properties, self.model.tags)
        return await kind.update(step, physical_of(old), before, properties)

    def _forbidden(self, row: Resource, action: str) -> str | None:
        """Why the stack's policy does not let this update touch a resource."""
        if self.stack.status != "UPDATE_IN_PROGRESS":
            return None
        text = self.stack.policy_during_update or self.stack.policy
        return policy.refusal(text, UPDATE if action == NONE else action, row.logical_id, row.type)

    async def _begin(self, row: Resource, desired: Desired, action: str) -> str:
        """Note what is about to be done, so that it can be done again or undone. Returns CREATE or UPDATE."""
        reason = ""
        if action == REPLACE and row.state is not None:
            if row.touched in ("REPLACED", "CREATED"):
                row.discard.append(row.state)
            elif not row.touched:
                row.before = row.state
            row.touched = "CREATED" if row.touched == "CREATED" else "REPLACED"
            row.state, row.seed = None, ""
            reason = "Requested update requires the creation of a new physical resource; hence creating one."
        elif action in (UPDATE, NONE) and not row.touched:
            row.before, row.touched = row.state, "UPDATED"
        elif action == CREATE and not row.touched:
            row.touched = "CREATED"
        verb = "UPDATE" if row.before is not None or row.state is not None else "CREATE"
        row.seed = row.seed or "".join(random.choices(_SEED, k=12))
        row.attempt, row.attempt_depends = desired.properties, sorted(desired.depends)
        row.type = desired.type
        row.status, row.reason = f"{verb}_IN_PROGRESS", reason
        await self.save(row, [self.event(row, row.status, reason, desired.properties)])
        return verb

    async def _keep(self, row: Resource, desired: Desired) -> bool:
        """Nothing to do for a resource, but what CloudFormation itself notes of it."""
        state = row.state
        assert state is not None
        noted = (state.metadata, state.deletion_policy, state.update_replace_policy, sorted(state.depends))
        wanted = (desired.metadata, desired.deletion_policy, desired.update_replace_policy, sorted(desired.depends))
        if noted != wanted:
            state.metadata, state.deletion_policy, state.update_replace_policy = wanted[:3]
            state.depends = list(desired.depends)
            await self.save(row, [])
        return True

    async def _failed(self, row: Resource, verb: str, reason: str) -> bool:
        self.failed[verb.lower()].append(row.logical_id)
        row.status, row.reason = f"{verb}_FAILED", reason
        await self.save(row, [self.event(row, row.status, reason, row.attempt)])
        return False

    def _retags(self, row: Resource, action: str) -> bool:
        """Whether the stack's own tags are all that changes, on a resource that has tags."""
        return (
            action == NONE
            and self.old_tags != self.model.tags
            and row.state is not None
            and not row.status.endswith("IN_PROGRESS")
            and isinstance(row.state.properties.get("Tags"), (list, dict))
        )

    def _tagged(self, properties: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
        own = properties["Tags"]
        if isinstance(own, dict):
            return {**properties, "Tags": {**tags, **own}}
        named = {tag["Key"] for tag in own}
        return {
            **properties,
            "Tags": [*own, *({"Key": key, "Value": value} for key, value in tags.items() if key not in named)],
        }

    # What is written

    async def initiated(self, row: Resource, physical_id: str) -> None:
        """Note a physical id before its resource is complete."""
        if row.initiated != physical_id:
            row.initiated = physical_id
            await self.save(row, [self.event(row, row.status, "Resource creation Initiated", row.attempt)])

    async def save(self, row: Resource, events: list[Event]) -> None:
        """Write a resource and its events."""
        row.updated = self.clock.now()
        stack_id = self.stack.id

        def write(tx: Tx) -> None:
            records.put_resource(tx, stack_id, row)
            if events:
                records.put_events(tx, stack_id, events)

        await self.service.db.write(write)
        self.tell(events)

    async def move(
        self, status: str, reason: str = "", *, then: Callable[[Tx], None] | None = None, **changes: Any
    ) -> None:
        """Give the stack another status, with its event. What ``then`` raises leaves everything as it was."""
        stack = self.stack
        old = {name: getattr(stack, name) for name in ("status", "reason", "updated", *changes)}
        for name, value in {"status": status, "reason": reason.strip(), **changes}.items():
            setattr(stack, name, value)
        event = self.stack_event()

        def write(tx: Tx) -> None:
            if then is not None:
                then(tx)
            records.put_stack(tx, stack)
            records.put_events(tx, stack.id, [event])

        try:
            await self.service.db.write(write)
        except BaseException:
            for name, value in old.items():
                setattr(stack, name, value)
            raise
        self.service.remember(stack)
        self.tell([event])

    def event(self, row: Resource, status: str, reason: str = "", properties: Any = None, physical: str = "") -> Event:
        """A line of a resource's history."""
        now = self.clock.now()
        stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Event(
            f"{row.logical_id}-{status}-{stamp}",
            row.logical_id,
            physical or row.physical_id,
            row.type,
            now,
            status,
            reason,
            json.dumps(properties, separators=(",", ":"), default=str) if properties is not None else "",
            self.stack.token,
        )

    def stack_event(self) -> Event:
        """A line of the stack's own history."""
        return stack_event(self.stack, self.clock.now())

    def tell(self, events: list[Event]) -> None:
        """Publish events to the stack's topics, in their order."""
        self.service.tell_followers(self.stack, events)
        arns = self.model.notification_arns if hasattr(self, "model") else []
        if arns and events:
            self.cloud.spawn(self._publish(arns, events), "cloudformation notifications")

    async def _publish(self, arns: list[str], events: list[Event]) -> None:
        async with self._told:
            for event in events:
                for arn in arns:
                    message = {"TopicArn": arn, "Subject": "AWS CloudFormation Notification"}
                    message["Message"] = notice_of(self.stack, event)
                    try:
                        await self.cloud.call(
                            "sns",
                            "Publish",
                            message,
                            account=self.stack.account,
                            region=self.stack.region,
                            principal="cloudformation.amazonaws.com",
                        )
                    except AwsError as error:
                        log.warning("%s did not take an event of %s: %s", arn, self.stack.name, error)


def context_of(stack: Stack, model: Model, template: Template, imports: Callable[[str], Any], door: Door) -> Context:
    """What a model's template may refer to, but its resources."""
    return Context(
        typed(template.parameters, model.parameters, model.fetched),
        pseudo_parameters(stack.account, stack.region, stack.name, stack.id, model.notification_arns),
        template.mappings,
        template.conditions,
        imports,
        "AWS::LanguageExtensions" in model.transforms,
        door=door,
    )


def _custom_name(row: Resource, desired: Desired, changed: tuple[str, ...]) -> str | None:
    """The name that a resource cannot have twice, when it must be replaced and keeps that name."""
    state = row.state
    if state is None or any(name.endswith(("Id", "Arn", "Name", "Cluster")) for name in changed):
        return None
    for name in (f"{desired.type.rsplit('::', 1)[-1]}Name", "Name"):
        replaces = registry.replaces(desired.type)
        if state.properties.get(name) and replaces is not None and name in replaces:
            return str(state.properties[name])
    return None
