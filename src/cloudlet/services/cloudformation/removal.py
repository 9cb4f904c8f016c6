"""What a run takes away: roll-backs, clean-up after updates, and the deletion of a whole stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.cloudformation import records
from cloudlet.services.cloudformation.records import Event, Model, Resource, Stack
from cloudlet.services.cloudformation.states import physical_of, reason_of, state_of_update
from cloudlet.services.cloudformation.steps import Cancelled, Step
from cloudlet.stacks import graph, registry
from cloudlet.stacks.plan import State
from cloudlet.stacks.template import order
from cloudlet.store import Tx

_PARENTS = ("Id", "Arn", "Name", "Cluster")
_IN_USE = ("DependencyViolation", "InvalidIPAddress.InUse", "ResourceInUse", "ResourceInUseException", "DeleteConflict")


class Removal:
    """The phases of a run that undo and delete; mixed into ``Run``."""

    if TYPE_CHECKING:
        service: Any
        stack: Stack
        model: Model
        rows: dict[str, Resource]
        depends: dict[str, frozenset[str]]
        old_tags: dict[str, str]
        stopping: asyncio.Event

        def event(
            self, row: Resource, status: str, reason: str = "", properties: Any = None, physical: str = ""
        ) -> Event: ...
        async def save(self, row: Resource, events: list[Event]) -> None: ...
        async def move(
            self, status: str, reason: str = "", *, then: Callable[[Tx], None] | None = None, **changes: Any
        ) -> None: ...
        def tell(self, events: list[Event]) -> None: ...

    async def roll_back_creation(self) -> None:
        """Delete what a failed creation has made."""
        failed = await self._delete([(row, _made(row)) for row in self.rows.values()], "created")
        if self.stack.delete_next:
            await self.move("DELETE_IN_PROGRESS", "User Initiated", delete_next=False)
        elif failed:
            await self.move("ROLLBACK_FAILED", _not_deleted(failed))
        else:
            await self.move("ROLLBACK_COMPLETE")

    async def clean_up(self) -> None:
        """After a successful update: delete what was replaced, and what the template has no more."""
        wanted = set(self.service.active_resources(self))
        old: list[tuple[Resource, State | None]] = []
        for name, row in self.rows.items():
            old += [(row, state) for state in row.discard]
            if name not in wanted:
                old.append((row, _made(row)))
            elif row.touched == "REPLACED" and row.before is not None and not _same_place(row.before, row.state):
                old.append((row, row.before))
        removed = [name for name in self.rows if name not in wanted]
        await self._delete(old, "removed", removed)
        await self._settle("UPDATE_COMPLETE", removed)

    async def roll_back_update(self) -> None:
        """Give every touched resource back what it had."""
        stack = self.stack
        if stack.previous:
            # From here on the previous model is the stack's own; the refused one is forgotten.
            refused = stack.model
            stack.model, stack.previous = stack.previous, 0
            self.old_tags = self.model.tags

            def swap(tx: Tx) -> None:
                records.put_stack(tx, stack)
                records.drop_model(tx, refused)

            await self.service.db.write(swap)
            self.model = await self.service.records.model(stack.model)
        for row in self.rows.values():
            if row.status == "UPDATE_FAILED" and row.before is None and row.state is not None:
                # It was refused before anything was done to it.
                row.status, row.reason = "UPDATE_COMPLETE", ""
                await self.save(row, [self.event(row, row.status, "", row.state.properties)])
        touched = {name: row for name, row in self.rows.items() if row.before is not None}
        depends = order_of({name: row.before.depends for name, row in touched.items() if row.before is not None})
        failed: list[str] = []

        async def revert(name: str) -> bool:
            row = touched[name]
            done = await self._revert(row)
            if not done:
                failed.append(name)
            return done

        self.stopping.clear()
        await graph.run(depends, revert, self.stopping, stop_on_failure=False)
        if failed:
            words = f"The following resource(s) failed to update: [{', '.join(sorted(failed))}]. "
            await self.move("UPDATE_ROLLBACK_FAILED", words)
        else:
            await self.move("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", skip=[])

    async def clean_up_roll_back(self) -> None:
        """After a rolled back update: delete what it had made."""
        made: list[tuple[Resource, State | None]] = []
        created = []
        for name, row in self.rows.items():
            made += [(row, state) for state in row.discard]
            if row.touched == "CREATED":
                made.append((row, _made(row)))
                created.append(name)
        await self._delete(made, "created", created)
        await self._settle("UPDATE_ROLLBACK_COMPLETE", created)

    async def delete_all(self) -> None:
        """Delete every resource, then the stack."""
        stack = self.stack
        for export in [made["ExportName"] for made in stack.outputs if "ExportName" in made]:
            users = [name for name in await self.service.records.importers(stack.scope, export) if name != stack.name]
            if users:
                return await self.move(
                    "DELETE_FAILED", f"Export {export} cannot be deleted as it is in use by {', '.join(users)}"
                )
        items: list[tuple[Resource, State | None]] = []
        for row in self.rows.values():
            items += [(row, state) for state in row.discard]
            if row.before is not None and (row.state is None or not _same_place(row.before, row.state)):
                items.append((row, row.before))
            items.append((row, _made(row)))
        failed = await self._delete(items, "removed")
        if failed:
            return await self.move("DELETE_FAILED", _not_deleted(failed))

        def forget(tx: Tx) -> None:
            for table in ("export", "import", "change_set", "token"):
                tx.execute(f"DELETE FROM {table} WHERE stack = ?", (stack.id,))

        return await self.move("DELETE_COMPLETE", then=forget, deleted=self.service.clock.now(), retain=[])

    async def _revert(self, row: Resource) -> bool:
        """Give one resource back its state of before the operation."""
        before = row.before
        assert before is not None
        if row.touched == "REPLACED":
            if (made := _made(row)) is not None and made.physical_id != before.physical_id:
                row.discard.append(made)
        elif row.logical_id not in self.stack.skip and row.state is not None:
            attempted = row.attempt if row.attempt is not None else row.state.properties
            row.status, row.reason = "UPDATE_IN_PROGRESS", ""
            await self.save(row, [self.event(row, row.status, "", before.properties)])
            step = Step(self, row, before.seed, f"{row.logical_id}-ROLLBACK-{before.seed}")  # type: ignore[arg-type]
            try:
                kind = registry.find(before.type)
                assert kind is not None
                physical = await kind.update(
                    step,
                    physical_of(row.state),
                    await self.service.resolved(step, attempted),
                    await self.service.resolved(step, before.properties),
                )
                before = state_of_update(before, physical)
            except (Exception, Cancelled) as error:
                row.status, row.reason = "UPDATE_FAILED", reason_of(error, row.type)
                await self.save(row, [self.event(row, row.status, row.reason, before.properties)])
                return False
        row.state, row.before, row.touched, row.attempt, row.initiated = before, None, "", None, ""
        row.seed, row.type = before.seed, before.type
        row.status, row.reason = "UPDATE_COMPLETE", ""
        await self.save(row, [self.event(row, row.status, "", before.properties)])
        return True

    async def _settle(self, status: str, gone: list[str]) -> None:
        """End an update: its traces on the resources go, and so does the model that is no longer needed."""
        stack, rows = self.stack, self.rows
        previous = stack.previous

        def write(tx: Tx) -> None:
            if previous:
                records.drop_model(tx, previous)
            for name in gone:
                records.drop_resource(tx, stack.id, name)
            for name, row in rows.items():
                if name not in gone and (row.touched or row.before or row.discard):
                    row.touched, row.before, row.attempt, row.discard = "", None, None, []
                    records.put_resource(tx, stack.id, row)

        await self.move(status, then=write, previous=0, policy_during_update="")
        for name in gone:
            del rows[name]

    async def _delete(
        self, items: list[tuple[Resource, State | None]], why: str, gone: list[str] | None = None
    ) -> list[str]:
        """Delete states, dependents first. Returns the logical ids of those that could not be deleted.

        ``gone`` are the rows that end with this; when None, all of them do.
        """
        work = {f"{number}": item for number, item in enumerate(items)}
        users: dict[str, set[str]] = {}
        for key, (_, state) in work.items():
            for other in state.depends if state is not None else ():
                users.setdefault(other, set()).add(key)
        depends = order_of({key: users.get(row.logical_id, set()) - {key} for key, (row, _) in work.items()})
        left = depends
        failed: dict[str, Exception] = {}

        async def remove(key: str) -> bool:
            row, state = work[key]
            again = key in failed
            if again and not _in_use(failed[key]):
                return gone is not None
            try:
                if state is not None:
                    await self._delete_one(row, state, why, ends(row, state), again)
            except Exception as error:
                failed[key] = error
                return gone is not None
            del left[key]
            failed.pop(key, None)
            return True

        def ends(row: Resource, state: State) -> bool:
            return (gone is None or row.logical_id in gone) and state not in row.discard and state is not row.before

        self.stopping.clear()
        before = len(left) + 1
        while left and len(left) < before:
            before = len(left)
            await graph.run(dict(left), remove, self.stopping, stop_on_failure=False)
            # What is in use by others of this stack, unknown to the template, goes when they are gone.
            if self.stopping.is_set() or not any(_in_use(error) for error in failed.values()):
                break
        for key, error in failed.items():
            row, state = work[key]
            if state is not None:
                await self._note(row, state, "DELETE_FAILED", reason_of(error, state.type), ends(row, state))
        return sorted({work[key][0].logical_id for key in failed})

    async def _delete_one(self, row: Resource, state: State, why: str, ends: bool, again: bool) -> None:
        """Delete one state. Raises what stands in the way."""
        if ends and row.status == "DELETE_COMPLETE":
            return
        skip = self._skips(row, state, why, ends)
        if skip is not None:
            await self._note(row, state, "DELETE_SKIPPED", skip, ends)
            return
        if not again:
            await self._note(row, state, "DELETE_IN_PROGRESS", "", ends)
        step = Step(self, row, state.seed, f"{row.logical_id}-DELETE-{state.physical_id}")  # type: ignore[arg-type]
        kind = registry.find(state.type)
        if kind is not None:
            await kind.delete(step, physical_of(state), await self.service.resolved(step, state.properties))
        await self._note(row, state, "DELETE_COMPLETE", "", ends)

    async def _note(self, row: Resource, state: State, status: str, reason: str, ends: bool) -> None:
        event = self.event(row, status, reason, state.properties, state.physical_id)
        if ends:
            row.status, row.reason = status, reason
            if row.state is None:
                row.state, row.initiated = state, ""
            if status == "DELETE_COMPLETE":
                row.touched, row.before, row.attempt = "", None, None
        await self.save(row, [event])

    def _skips(self, row: Resource, state: State, why: str, ends: bool) -> str | None:
        """Why a resource is kept, or None when it goes."""
        if row.logical_id in self.stack.retain:
            return ""
        policy = state.deletion_policy if ends else state.update_replace_policy
        if policy == "Retain" and not (why == "created" and self.stack.retain_except_on_create):
            return ""
        if policy == "RetainExceptOnCreate" and why != "created":
            return ""
        if policy == "Snapshot" and why != "created":
            return f"Cloudlet makes no snapshot of {state.type}; the resource is kept instead of deleted."
        return None


def order_of(depends: dict[str, Any]) -> dict[str, frozenset[str]]:
    """Dependencies among these names only; a cycle, which deleted conditions may leave, is cut."""
    inner = {name: frozenset(others) & depends.keys() for name, others in depends.items()}
    try:
        order(inner)
    except Exception:
        return {name: frozenset() for name in inner}
    return inner


def _made(row: Resource) -> State | None:
    """What is there of a resource, be it only half made."""
    if row.status in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
        return None
    if row.state is not None:
        return row.state
    if row.initiated:
        return State(row.type, row.initiated, row.attempt or {}, depends=row.attempt_depends, seed=row.seed)
    return None


def _same_place(old: State, new: State | None) -> bool:
    """Whether two states are one and the same thing, so that deleting the old one would delete the new one."""
    if new is None or old.physical_id != new.physical_id:
        return False
    names = [name for name in {**old.properties, **new.properties} if name.endswith(_PARENTS)]
    return all(old.properties.get(name) == new.properties.get(name) for name in names)


def _in_use(error: Exception) -> bool:
    return isinstance(error, AwsError) and error.code in _IN_USE


def _not_deleted(names: list[str]) -> str:
    return f"The following resource(s) failed to delete: [{', '.join(names)}]. "
