"""CloudFormation: creates, updates and deletes stacks. What reads them and change sets are in the files beside."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Cloud, Input, Output, Tagged
from cloudlet.services.cloudformation import dynamic, policy, records, sources
from cloudlet.services.cloudformation.change_sets import ChangeSets, keeps_failed
from cloudlet.services.cloudformation.deploying import Deploying
from cloudlet.services.cloudformation.prepare import Prepared, Preparer
from cloudlet.services.cloudformation.reading import Reading
from cloudlet.services.cloudformation.records import MIGRATIONS, Model, Records, Resource, Stack, stack_event
from cloudlet.services.cloudformation.runs import Run
from cloudlet.services.cloudformation.signals import Signals
from cloudlet.services.cloudformation.steps import Step
from cloudlet.services.cloudformation.templates import Templates
from cloudlet.stacks import registry
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.plan import plan
from cloudlet.store import Tx

_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}\Z")
_UPDATABLE = frozenset(
    ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED", "CREATE_FAILED")
)
_DELETABLE_BUSY = frozenset(("CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS"))


class Service(Reading, ChangeSets, Templates, Signals, Deploying, api.Service):
    """AWS CloudFormation."""

    name = "cloudformation"
    refused = {
        "ContinueUpdateRollback": "ForceRollback",
        "GetTemplateSummary": "CallAs!=SELF TemplateSummaryConfig",
    }

    def __init__(self, cloud: Cloud) -> None:
        api.Service.__init__(self, cloud)
        Deploying.__init__(self)
        self.runs: dict[str, Run] = {}
        self.known: dict[str, tuple[str, str]] = {}  # the live stacks: id -> scope and name

    async def start(self) -> None:
        """Open the database and take up every deployment that was under way."""
        self.db = await self.cloud.store.database(self.name, MIGRATIONS)
        self.records = Records(self.db)
        self.preparer = Preparer(self.cloud, self.records)
        self.signalled: dict[str, asyncio.Event] = {}
        for stack in await self.records.all_live():
            self.remember(stack)
            if stack.busy:
                self.launch(stack)

    def launch(self, stack: Stack) -> Run:
        """Let a stack in progress go on by itself."""
        run = self.runs[stack.id] = Run(self, stack)

        async def work() -> None:
            try:
                await run.work()
            finally:
                self.runs.pop(stack.id, None)
                self.end_followers(stack)

        self.cloud.spawn(work(), f"stack {stack.name}")
        return run

    # Stacks

    async def CreateStack(self, call: Call, input: Input) -> Output:
        return await self.create(call, input)

    async def create(self, call: Call, input: Input, parent: Stack | None = None) -> Output:
        """Check everything, then start to create. A nested stack has a parent."""
        name = input["StackName"]
        check_name(name)
        _only(input, "CreateStack", "ResourceTypes")
        there = await self.records.live(call.scope, name)
        if there is not None:
            if input.get("ClientRequestToken") and there.token == input["ClientRequestToken"]:
                return {"StackId": there.id}
            raise AwsError("AlreadyExistsException", f"Stack [{name}] already exists")
        stack = self.new_stack(call, name, "CREATE_IN_PROGRESS")
        if parent is not None:
            stack.parent, stack.root = parent.id, parent.root or parent.id
        prepared = await self.preparer.prepare(call, input, name, stack.id, None, expand=parent is not None)
        self._settings(stack, input)
        if policy_text := await sources.text_of(self.cloud, call, input, "StackPolicy"):
            policy.check(policy_text)
            stack.policy = policy_text
        await self.begin_creation(stack, prepared.model, prepared.template.description)
        return {"StackId": stack.id}

    async def UpdateStack(self, call: Call, input: Input) -> Output:
        return await self.update(call, input)

    async def update(self, call: Call, input: Input, nested: bool = False) -> Output:
        """Check everything, then start to update. Raises ValidationError when nothing changes."""
        _only(input, "UpdateStack", "ResourceTypes")
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        self.updatable(stack)
        current = await self.records.model(stack.model)
        prepared = await self.preparer.prepare(call, input, stack.name, stack.id, current, expand=nested)
        if stack.status not in ("UPDATE_FAILED", "CREATE_FAILED") and not await self.changes(stack, current, prepared):
            raise invalid("No updates are to be performed.")
        self._settings(stack, input)
        if text := await sources.text_of(self.cloud, call, input, "StackPolicy"):
            policy.check(text)
            stack.policy = text
        if text := await sources.text_of(self.cloud, call, input, "StackPolicyDuringUpdate"):
            policy.check(text)
            stack.policy_during_update = text
        await self.begin_update(stack, prepared.model)
        return {"StackId": stack.id}

    async def DeleteStack(self, call: Call, input: Input) -> Output:
        if input.get("DeletionMode") == "FORCE_DELETE_STACK":
            raise not_implemented("DeleteStack with DeletionMode FORCE_DELETE_STACK")
        name = input["StackName"]
        stack = await (self.records.stack(name) if name.startswith("arn:") else self.records.live(call.scope, name))
        if stack is None or stack.scope != call.scope or not stack.live:
            return {}
        if stack.protected:
            raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        retain = input.get("RetainResources", [])
        if retain and stack.status != "DELETE_FAILED":
            raise invalid(
                f"Invalid operation on stack [{stack.id}]. Specify the resources to retain only when the stack is in "
                "the DELETE_FAILED state."
            )
        if stack.busy:
            if stack.status not in _DELETABLE_BUSY:
                raise invalid(f"Stack [{stack.id}] cannot be deleted while in status {stack.status}")
            if stack.status != "DELETE_IN_PROGRESS":
                await self._delete_after_run(stack)
            return {}
        stack.retain = retain
        self._token(stack, input)
        await self._begin(stack, "DELETE_IN_PROGRESS", "User Initiated")
        return {}

    async def CancelUpdateStack(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        run = self.runs.get(stack.id)
        if stack.status != "UPDATE_IN_PROGRESS" or run is None:
            raise invalid("CancelUpdateStack cannot be called from current stack status")
        run.stop("User Initiated")
        return {}

    async def ContinueUpdateRollback(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not continue its rollback.")
        rows = await self.records.resources(stack.id)
        for name in input.get("ResourcesToSkip", []):
            if name not in rows or rows[name].status != "UPDATE_FAILED":
                raise invalid(f"Can not skip [{name}]: only resources in the state UPDATE_FAILED can be skipped.")
        stack.skip = input.get("ResourcesToSkip", [])
        self._token(stack, input)
        await self._begin(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        return {}

    async def RollbackStack(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        if stack.status not in ("CREATE_FAILED", "UPDATE_FAILED"):
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be rolled back.")
        self._token(stack, input)
        stack.retain_except_on_create = input.get("RetainExceptOnCreate", stack.retain_except_on_create)
        status = "ROLLBACK_IN_PROGRESS" if stack.status == "CREATE_FAILED" else "UPDATE_ROLLBACK_IN_PROGRESS"
        await self._begin(stack, status, "User Initiated")
        return {"StackId": stack.id}

    async def UpdateTerminationProtection(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        if stack.root:
            raise invalid(f"Termination protection cannot be changed on the nested stack {stack.id}.")
        self._running(stack).protected = stack.protected = input["EnableTerminationProtection"]
        await self.db.write(lambda tx: records.put_stack(tx, self._running(stack)))
        return {"StackId": stack.id}

    async def SetStackPolicy(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        text = await sources.text_of(self.cloud, call, input, "StackPolicy")
        if text is None:
            raise invalid("You must specify either a stack policy body or a stack policy URL.")
        policy.check(text)
        self._running(stack).policy = stack.policy = text
        await self.db.write(lambda tx: records.put_stack(tx, self._running(stack)))
        return {}

    async def GetStackPolicy(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        return {"StackPolicyBody": stack.policy} if stack.policy else {}

    # What the operations share

    async def find(self, call: Call, name: str, words: str = "Stack with id {} does not exist") -> Stack:
        """A stack by its id, or a live one by its name. Raises ValidationError."""
        if name.startswith("arn:"):
            stack = await self.records.stack(name)
        else:
            stack = await self.records.live(call.scope, name)
        if stack is None or stack.scope != call.scope:
            raise invalid(words.format(name))
        return stack

    def updatable(self, stack: Stack) -> None:
        """Raises ValidationError when a stack cannot be updated as it is."""
        if stack.status not in _UPDATABLE:
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")

    async def first_failure(self, stack_id: str) -> str:
        """Why a nested stack has failed, for its parent."""
        stack = await self.records.stack(stack_id)
        return await self.records.first_failure(stack_id) or (stack.reason if stack is not None else "")

    def remember(self, stack: Stack) -> None:
        """Keep at hand which stacks there are."""
        if stack.live:
            self.known[stack.id] = (stack.scope, stack.name)
        else:
            self.known.pop(stack.id, None)

    def new_stack(self, call: Call, name: str, status: str) -> Stack:
        """A stack that is not yet stored."""
        stack_id = f"arn:aws:cloudformation:{call.region}:{call.account}:stack/{name}/{uuid.uuid4()}"
        owner = call.principal
        return Stack(stack_id, name, call.account, call.region, status, self.clock.now(), owner=owner)

    async def begin_creation(self, stack: Stack, model: Model, description: str) -> None:
        """Store a new stack and start its run."""
        stack.description = description
        if stack.timeout:
            stack.deadline = self.clock.now() + stack.timeout * 60
        await self._begin(stack, "CREATE_IN_PROGRESS", "User Initiated", model)

    async def begin_update(self, stack: Stack, model: Model) -> None:
        """Store what is wanted now and start the run."""
        stack.updated = self.clock.now()
        await self._begin(stack, "UPDATE_IN_PROGRESS", "User Initiated", model)

    async def _begin(self, stack: Stack, status: str, reason: str, model: Model | None = None) -> None:
        was, old = stack.status, stack.model
        stack.status, stack.reason, stack.salt = status, reason, uuid.uuid4().hex
        event = stack_event(stack, self.clock.now())

        def write(tx: Tx) -> None:
            there = records.get_stack(tx, stack.id)
            if there is not None and there.status != was:
                raise invalid(f"Stack:{stack.id} is in {there.status} state and can not be updated.")
            if there is None and records.live_stack(tx, stack.scope, stack.name) is not None:
                raise AwsError("AlreadyExistsException", f"Stack [{stack.name}] already exists")
            if model is not None:
                if status == "UPDATE_IN_PROGRESS" and not stack.previous:
                    stack.previous = old
                elif old:
                    records.drop_model(tx, old)
                stack.model = records.put_model(tx, model)
            records.put_stack(tx, stack)
            records.put_events(tx, stack.id, [event])

        await self.db.write(write)
        self.remember(stack)
        self.launch(stack)

    async def _delete_after_run(self, stack: Stack) -> None:
        run = self.runs.get(stack.id)
        stack = run.stack if run is not None else stack
        stack.delete_next = True
        await self.db.write(lambda tx: records.put_stack(tx, stack))
        if run is not None:
            run.stop("User Initiated")

    def _running(self, stack: Stack) -> Stack:
        """The same stack as its run holds it, else itself."""
        run = self.runs.get(stack.id)
        return run.stack if run is not None else stack

    async def changes(self, stack: Stack, current: Model, prepared: Prepared) -> bool:
        """Whether a deployment would do anything."""
        model = prepared.model
        if (current.tags, current.notification_arns) != (model.tags, model.notification_arns):
            return True
        if current.processed != model.processed and await asyncio.to_thread(
            _differ, current.processed, model.processed
        ):
            return True
        rows = await self.records.resources(stack.id)
        if await self.steps(stack, rows, prepared):
            return True
        return await self._outputs_change(stack, current, prepared) or await self.nested_changes(stack, rows, prepared)

    async def steps(self, stack: Stack, rows: dict[str, Resource], prepared: Prepared) -> list[Any]:
        """The plan against the stack's resources as they are."""
        exports = {name: value for name, _, value in await self.records.exports(stack.scope)}

        def imported(name: str) -> Any:
            if name not in exports:
                raise invalid(f"No export named {name} found.")
            return exports[name]

        prepared.context.imports = imported
        current = {
            name: row.state
            for name, row in rows.items()
            if row.state is not None and not row.status.startswith("DELETE_")
        }
        return await asyncio.to_thread(plan, current, prepared.template, prepared.context, registry.replaces)

    async def _outputs_change(self, stack: Stack, current: Model, prepared: Prepared) -> bool:
        """Whether a parameter or condition changes an output while no resource changes."""
        if current.parameters == prepared.model.parameters and current.fetched == prepared.model.fetched:
            return False
        return bool(prepared.template.outputs)

    async def nested_changes(self, stack: Stack, rows: dict[str, Resource], prepared: Prepared) -> bool:
        """Whether the template of a nested stack has changed at the URL that it has."""
        for row in rows.values():
            if row.type == "AWS::CloudFormation::Stack" and row.state is not None:
                url = row.state.properties.get("TemplateURL")
                nested = await self.records.stack(row.state.physical_id)
                if url and nested is not None:
                    text = await sources.fetch(self.cloud, stack.account, stack.region, str(url))
                    if text != (await self.records.model(nested.model)).body:
                        return True
        return False

    def active_resources(self, run: Run) -> list[str]:
        """The resources of a run's template whose condition holds."""
        return run.template.active(run.context)

    async def resolved(self, step: Step, properties: dict[str, Any]) -> dict[str, Any]:
        """Properties with their dynamic references looked up."""
        found: dict[str, Any] = await dynamic.resolve(properties, step.call)
        return found

    async def settled(self, stack_id: str, seconds: float) -> None:
        """Wait until a stack's run is at its end, at most so many seconds of the machine's time."""
        run = self.runs.get(stack_id)
        if run is not None:
            try:
                await asyncio.wait_for(run.done.wait(), seconds)
            except TimeoutError:
                pass

    def _settings(self, stack: Stack, input: Input) -> None:
        if "OnFailure" in input and "DisableRollback" in input:
            raise invalid("You can specify either DisableRollback or OnFailure, but not both.")
        stack.on_failure = "DO_NOTHING" if keeps_failed(input) else input.get("OnFailure", "ROLLBACK")
        stack.timeout = input.get("TimeoutInMinutes", stack.timeout)
        stack.protected = input.get("EnableTerminationProtection", stack.protected)
        stack.retain_except_on_create = input.get("RetainExceptOnCreate", False)
        self._token(stack, input)

    def _token(self, stack: Stack, input: Input) -> None:
        stack.token = input.get("ClientRequestToken", "")

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        """The live stacks."""
        return [
            {"type": "stack", "name": name, "arn": stack_id}
            for stack_id, (scope, name) in self.known.items()
            if scope == f"{account}/{region}"
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return await self.records.tags(f"{account}/{region}")


def check_name(name: str) -> None:
    """Judge a new stack's name. Raises ValidationError."""
    if not _NAME.match(name):
        words = (
            "Member must have length less than or equal to 128"
            if len(name) > 128
            else "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
        )
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: {words}"
        )


def _only(input: Input, operation: str, *unsupported: str) -> None:
    for name in unsupported:
        if input.get(name):
            raise not_implemented(f"{operation} with {name}")


def _differ(before: str, after: str) -> bool:
    return bool(_noted(before) != _noted(after))


def _noted(processed: str) -> Any:
    """What of a template counts beside its resources' properties."""
    import msgspec

    document = msgspec.json.decode(processed)
    resources = {
        name: {key: value for key, value in resource.items() if key not in ("Properties", "Condition")}
        for name, resource in document["Resources"].items()
    }
    return document.get("Outputs"), resources
