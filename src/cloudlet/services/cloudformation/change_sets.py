"""Change sets: a deployment is planned, shown, and carried out or thrown away."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.cloudformation import records
from cloudlet.services.cloudformation.changes import shown
from cloudlet.services.cloudformation.prepare import Prepared, Preparer
from cloudlet.services.cloudformation.reading import given, shown_parameters, shown_tags
from cloudlet.services.cloudformation.records import ChangeSet, Model, Records, Resource, Stack
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.plan import Step
from cloudlet.stacks.template import Template
from cloudlet.store import Database, Tx

if TYPE_CHECKING:
    from cloudlet.control.clock import Clock

_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}\Z")
_UNCHANGED = "The submitted information didn't contain changes. Submit different information to create a change set."
# ImportExistingResources, which CDK's bootstrap asks for, is taken: what exists is not imported, its creation fails.
_NOT_HERE = ("DeploymentMode", "ResourceTypes", "ResourcesToImport")


def keeps_failed(input: Input) -> bool:
    """Whether a failed deployment is to be left as it is.

    ``DeploymentConfig`` says it too. Its modes do the same here: a resource is ready when its step is done.
    """
    return bool(input.get("DisableRollback") or input.get("DeploymentConfig", {}).get("DisableRollback"))


class ChangeSets:
    """The operations on change sets; mixed into the service."""

    if TYPE_CHECKING:
        cloud: Cloud
        clock: Clock
        db: Database
        records: Records
        preparer: Preparer

        async def find(self, call: Call, name: str, words: str = "") -> Stack: ...
        def new_stack(self, call: Call, name: str, status: str) -> Stack: ...
        def updatable(self, stack: Stack) -> None: ...
        async def changes(self, stack: Stack, current: Model, prepared: Prepared) -> bool: ...
        async def steps(self, stack: Stack, rows: dict[str, Resource], prepared: Prepared) -> list[Step]: ...
        async def begin_creation(self, stack: Stack, model: Model, description: str) -> None: ...
        async def begin_update(self, stack: Stack, model: Model) -> None: ...
        def remember(self, stack: Stack) -> None: ...

    async def CreateChangeSet(self, call: Call, input: Input) -> Output:
        kind = input.get("ChangeSetType", "UPDATE")
        if kind == "IMPORT":
            raise not_implemented("CreateChangeSet with ChangeSetType IMPORT")
        for member in _NOT_HERE:
            if input.get(member):
                raise not_implemented(f"CreateChangeSet with {member}")
        name = input["ChangeSetName"]
        stack, is_new = await self._stack_for(call, kind, input["StackName"], name)
        there = None if is_new else await self.records.change_set_named(stack.id, name)
        token = input.get("ClientToken", "")
        if there is not None and token and there.token == token:
            return {"Id": there.id, "StackId": stack.id}
        if there is not None and there.execution != "EXECUTED":
            raise AwsError("AlreadyExistsException", f"ChangeSet {name} already exists")
        id = f"arn:aws:cloudformation:{call.region}:{call.account}:changeSet/{name}/{uuid.uuid4()}"
        change_set = ChangeSet(id, name, stack.id, kind, "CREATE_COMPLETE", "AVAILABLE", self.clock.now(), 0)
        change_set.token = token
        change_set.description = input.get("Description", "")
        change_set.on_failure = input.get("OnStackFailure") or ("DO_NOTHING" if keeps_failed(input) else "")
        model = await self._plan(call, input, stack, change_set)

        def write(tx: Tx) -> None:
            if is_new:
                if records.live_stack(tx, stack.scope, stack.name) is not None:
                    raise AwsError("AlreadyExistsException", f"Stack [{stack.name}] already exists")
                records.put_stack(tx, stack)
                records.put_events(tx, stack.id, [records.stack_event(stack, stack.created)])
            if there is not None:
                records.drop_change_set(tx, there)  # executed, its name is free again
            change_set.model = records.put_model(tx, model)
            records.put_change_set(tx, change_set)

        await self.db.write(write)
        if is_new:
            self.remember(stack)
        return {"Id": change_set.id, "StackId": stack.id}

    async def _stack_for(self, call: Call, kind: str, name: str, change_set: str) -> tuple[Stack, bool]:
        """The stack that a new change set is for, and whether it is new itself. Raises ValidationError."""
        if kind == "UPDATE":
            stack = await self.find(call, name, "Stack [{}] does not exist")
            self.updatable(stack)
            return stack, False
        there = await (self.records.stack(name) if name.startswith("arn:") else self.records.live(call.scope, name))
        if there is None:
            if not _NAME.match(name):
                raise invalid(
                    f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: Member "
                    "must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
                )
            stack = self.new_stack(call, name, "REVIEW_IN_PROGRESS")
            stack.reason = "User Initiated"
            return stack, True
        if there.status != "REVIEW_IN_PROGRESS":
            raise invalid(
                f"Stack [{name}] already exists and cannot be created again with the changeSet [{change_set}]."
            )
        return there, False

    async def _plan(self, call: Call, input: Input, stack: Stack, change_set: ChangeSet) -> Model:
        """What the change set will deploy; its changes, or why it has failed, are noted in it."""
        current = await self.records.model(stack.model) if stack.model else None
        try:
            prepared = await self.preparer.prepare(call, input, stack.name, stack.id, current, expand=True)
        except AwsError as error:
            # What is wrong only after a transform is told by the change set itself.
            if not error.message.startswith("Transform "):
                raise
            _fail(change_set, error.message)
            return Model(input.get("TemplateBody", ""), "{}", capabilities=input.get("Capabilities", []))
        rows = await self.records.resources(stack.id)
        try:
            if current is not None and not await self.changes(stack, current, prepared):
                words = "No updates are to be performed." if prepared.model.transforms else _UNCHANGED
                _fail(change_set, words)
                return prepared.model
            steps = await self.steps(stack, rows, prepared)
        except AwsError as error:
            _fail(change_set, error.message)
            return prepared.model
        old = Template(json.loads(current.processed)) if current is not None else None
        change_set.changes = shown(steps, rows, prepared, old)
        return prepared.model

    async def DescribeChangeSet(self, call: Call, input: Input) -> Output:
        stack, change_set = await self.change_set(call, input)
        model = await self.records.model(change_set.model)
        start = int(input.get("NextToken", "0"))
        changes = change_set.changes[start : start + 100]
        if not input.get("IncludePropertyValues"):
            changes = [_without_values(change) for change in changes]
        found: Output = {
            **_summary(stack, change_set),
            **given(Parameters=shown_parameters(model), Tags=shown_tags(model)),
            "NotificationARNs": model.notification_arns,
            "RollbackConfiguration": model.rollback_configuration,
            "Capabilities": model.capabilities,
            "Changes": [{"Type": "Resource", "ResourceChange": change} for change in changes],
        }
        if change_set.on_failure:
            found["OnStackFailure"] = change_set.on_failure
        if len(change_set.changes) > start + 100:
            found["NextToken"] = str(start + 100)
        return found

    async def ListChangeSets(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        found = await self.records.change_sets(stack.id)
        return {"Summaries": [_summary(stack, one) for one in found if one.execution != "EXECUTED"]}

    async def DeleteChangeSet(self, call: Call, input: Input) -> Output:
        name = input["ChangeSetName"]
        if name.startswith("arn:"):
            change_set = await self.records.change_set(name)
        else:
            if "StackName" not in input:
                raise invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
            stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
            change_set = await self.records.change_set_named(stack.id, name)
        if change_set is None:
            return {}  # as AWS, which tells nobody whether it was there
        gone = change_set
        owner = await self.records.stack(gone.stack)
        if owner is not None and gone.execution == "EXECUTED" and owner.busy and owner.change_set == gone.id:
            raise AwsError(
                "InvalidChangeSetStatusException",
                f"ChangeSet [{gone.id}] cannot be deleted in its current status of [EXECUTE_IN_PROGRESS]",
            )
        await self.db.write(lambda tx: records.drop_change_set(tx, gone))
        return {}

    async def ExecuteChangeSet(self, call: Call, input: Input) -> Output:
        stack, change_set = await self.change_set(call, input)
        if "DisableRollback" in input and change_set.on_failure not in ("", "DO_NOTHING"):
            raise invalid("You can specify either DisableRollback or OnStackFailure, but not both.")
        if change_set.execution != "AVAILABLE":
            status = f"status of [{change_set.status}]"
            if change_set.status != "FAILED":
                status = f"execution status of [{execution_of(stack, change_set)}]"
            raise AwsError(
                "InvalidChangeSetStatusException",
                f"ChangeSet [{change_set.id}] cannot be executed in its current {status}",
            )
        if stack.status != "REVIEW_IN_PROGRESS":
            self.updatable(stack)
        model = await self.records.model(change_set.model)
        others = [one for one in await self.records.change_sets(stack.id) if one.id != change_set.id]
        change_set.execution = "EXECUTED"

        def write(tx: Tx) -> None:
            for other in others:
                records.drop_change_set(tx, other)
            records.put_change_set(tx, change_set)

        stack.change_set = change_set.id
        stack.on_failure = "DO_NOTHING" if keeps_failed(input) else change_set.on_failure or "ROLLBACK"
        stack.retain_except_on_create = input.get("RetainExceptOnCreate", False)
        stack.token = input.get("ClientRequestToken", "")
        await self.db.write(write)
        if stack.status == "REVIEW_IN_PROGRESS":
            stack.updated = self.clock.now()
            description = str(msgspec.json.decode(model.processed).get("Description", ""))
            await self.begin_creation(stack, model, description)
        else:
            await self.begin_update(stack, model)
        return {}

    async def change_set(self, call: Call, input: Input) -> tuple[Stack, ChangeSet]:
        """The change set that a request names, and its stack. Raises ValidationError and ChangeSetNotFound."""
        name = input["ChangeSetName"]
        if name.startswith("arn:"):
            found = await self.records.change_set(name)
            stack = await self.records.stack(found.stack) if found is not None else None
        else:
            if "StackName" not in input:
                raise invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
            stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
            found = await self.records.change_set_named(stack.id, name)
        if found is None or stack is None or stack.scope != call.scope:
            raise AwsError("ChangeSetNotFoundException", f"ChangeSet [{name}] does not exist")
        return stack, found


def execution_of(stack: Stack, change_set: ChangeSet) -> str:
    """How far the execution of a change set is."""
    if change_set.execution != "EXECUTED":
        return change_set.execution
    if stack.change_set == change_set.id:
        if stack.busy:
            return "EXECUTE_IN_PROGRESS"
        if "ROLLBACK" in stack.status or stack.status.endswith("_FAILED"):
            return "EXECUTE_FAILED"
    return "EXECUTE_COMPLETE"


def _fail(change_set: ChangeSet, reason: str) -> None:
    change_set.status, change_set.execution, change_set.reason = "FAILED", "UNAVAILABLE", reason


def _summary(stack: Stack, change_set: ChangeSet) -> dict[str, Any]:
    found = {
        "StackId": stack.id,
        "StackName": stack.name,
        "ChangeSetId": change_set.id,
        "ChangeSetName": change_set.name,
        "ExecutionStatus": execution_of(stack, change_set),
        "Status": change_set.status,
        "CreationTime": change_set.created,
        # A nested stack is one change of its parent's set, whatever was asked for.
        "IncludeNestedStacks": False,
    }
    optional = {"StatusReason": change_set.reason, "Description": change_set.description}
    return found | {name: value for name, value in optional.items() if value}


def _without_values(change: dict[str, Any]) -> dict[str, Any]:
    """A change as it is shown when nobody asked for values."""
    left = {key: value for key, value in change.items() if key not in ("BeforeContext", "AfterContext")}
    hidden = ("BeforeValue", "AfterValue")
    left["Details"] = [
        {**detail, "Target": {key: value for key, value in detail["Target"].items() if key not in hidden}}
        for detail in change.get("Details", [])
    ]
    return left
