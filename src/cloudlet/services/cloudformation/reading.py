"""What is said about stacks: their state, resources, events, exports and imports."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudformation.records import Event, Model, Records, Resource, Stack
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.parameters import MASK, hidden

T = TypeVar("T")

_PAGE = 100
_NOT_CHECKED = {"StackDriftStatus": "NOT_CHECKED"}
_RESOURCE_NOT_CHECKED = {"StackResourceDriftStatus": "NOT_CHECKED"}


class Reading:
    """The operations that change nothing; mixed into the service."""

    if TYPE_CHECKING:
        records: Records

        async def find(self, call: Call, name: str, words: str = "") -> Stack: ...

    async def DescribeStacks(self, call: Call, input: Input) -> Output:
        if "StackName" in input:
            stacks = [await self.find(call, input["StackName"], "Stack with id {} does not exist")]
            return {"Stacks": [await self._described(stack) for stack in stacks]}
        page = await self.records.stacks(call.scope, True, _after(input), _PAGE + 1)
        output: Output = {"Stacks": [await self._described(stack) for stack in page[:_PAGE]]}
        return _with_token(output, page)

    async def ListStacks(self, call: Call, input: Input) -> Output:
        wanted = input.get("StackStatusFilter", [])
        page = await self.records.stacks(call.scope, False, _after(input), _PAGE + 1)
        found = [_summary(stack) for stack in page[:_PAGE] if not wanted or stack.status in wanted]
        return _with_token({"StackSummaries": found}, page)

    async def DescribeStackEvents(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack [{}] does not exist")
        before = int(_decoded(input["NextToken"])[0]) if "NextToken" in input else 2**62
        page = await self.records.events(stack.id, before, _PAGE + 1)
        output: Output = {"StackEvents": [_event(stack, event) for _, event in page[:_PAGE]]}
        if len(page) > _PAGE:
            output["NextToken"] = _token(page[_PAGE - 1][0])
        return output

    async def DescribeStackResources(self, call: Call, input: Input) -> Output:
        if ("StackName" in input) == ("PhysicalResourceId" in input):
            raise invalid("You must specify either StackName or PhysicalResourceId, but not both.")
        if "StackName" in input:
            stack = await self.find(call, input["StackName"], "Stack with id {} does not exist")
        else:
            owners = await self.records.stacks_with(call.scope, input["PhysicalResourceId"])
            if not owners:
                raise invalid(f"Stack for {input['PhysicalResourceId']} does not exist")
            stack = next((owner for owner in owners if owner.live), owners[0])
        rows = await self.records.resources(stack.id)
        if "LogicalResourceId" in input:
            rows = {name: row for name, row in rows.items() if name == input["LogicalResourceId"]}
            if not rows:
                raise _no_resource(input["LogicalResourceId"], input.get("StackName", stack.name))
        return {
            "StackResources": [
                {
                    "StackName": stack.name,
                    "StackId": stack.id,
                    "Timestamp": row.updated,
                    "DriftInformation": _RESOURCE_NOT_CHECKED,
                    **_resource(row),
                }
                for row in rows.values()
            ]
        }

    async def DescribeStackResource(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack '{}' does not exist")
        row = (await self.records.resources(stack.id)).get(input["LogicalResourceId"])
        if row is None:
            raise _no_resource(input["LogicalResourceId"], input["StackName"])
        detail = {
            "StackName": stack.name,
            "StackId": stack.id,
            "LastUpdatedTimestamp": row.updated,
            "DriftInformation": _RESOURCE_NOT_CHECKED,
            "Metadata": _json(row.state.metadata if row.state and row.state.metadata is not None else {}),
            **_resource(row),
        }
        return {"StackResourceDetail": detail}

    async def ListStackResources(self, call: Call, input: Input) -> Output:
        stack = await self.find(call, input["StackName"], "Stack with id {} does not exist")
        rows = list((await self.records.resources(stack.id)).values())
        page, token = _slice(rows, input)
        summaries = [
            {"LastUpdatedTimestamp": row.updated, "DriftInformation": _RESOURCE_NOT_CHECKED, **_resource(row)}
            for row in page
        ]
        return {"StackResourceSummaries": summaries, **token}

    async def ListExports(self, call: Call, input: Input) -> Output:
        page, token = _slice(await self.records.exports(call.scope), input)
        exports = [{"ExportingStackId": stack, "Name": name, "Value": value} for name, stack, value in page]
        return {"Exports": exports, **token}

    async def ListImports(self, call: Call, input: Input) -> Output:
        name = input["ExportName"]
        if all(name != export for export, _, _ in await self.records.exports(call.scope)):
            raise invalid(f"Export '{name}' does not exist.")
        users = await self.records.importers(call.scope, name)
        if not users:
            raise invalid(f"Export '{name}' is not imported by any stack.")
        page, token = _slice(users, input)
        return {"Imports": page, **token}

    async def _described(self, stack: Stack) -> dict[str, Any]:
        model = await self.records.model(stack.model)
        found: dict[str, Any] = {
            "StackId": stack.id,
            "StackName": stack.name,
            **given(Parameters=shown_parameters(model), Capabilities=model.capabilities),
            "CreationTime": stack.created,
            "RollbackConfiguration": model.rollback_configuration,
            "StackStatus": stack.status,
            "DisableRollback": stack.on_failure == "DO_NOTHING",
            "NotificationARNs": model.notification_arns,
            "Tags": shown_tags(model),
            "EnableTerminationProtection": stack.protected,
            "DriftInformation": _NOT_CHECKED,
        }
        if stack.outputs and stack.live:
            found["Outputs"] = stack.outputs
        optional = {
            "ChangeSetId": stack.change_set,
            "Description": stack.description,
            "LastUpdatedTime": stack.updated,
            "DeletionTime": stack.deleted,
            "StackStatusReason": stack.reason,
            "TimeoutInMinutes": stack.timeout,
            "RoleARN": model.role,
            "ParentId": stack.parent,
            "RootId": stack.root,
            "RetainExceptOnCreate": stack.retain_except_on_create,
        }
        return found | {name: value for name, value in optional.items() if value}


def shown_parameters(model: Model) -> list[dict[str, str]]:
    """A model's parameters as a user may see them."""
    declared = msgspec.json.decode(model.processed or b"{}").get("Parameters") or {}
    shown = []
    for name, value in model.parameters.items():
        secret = hidden(declared, name)
        entry = {"ParameterKey": name, "ParameterValue": MASK if secret else value}
        if name in model.fetched:
            entry["ResolvedValue"] = MASK if secret else model.fetched[name]
        shown.append(entry)
    return shown


def _summary(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = {
        "StackId": stack.id,
        "StackName": stack.name,
        "CreationTime": stack.created,
        "StackStatus": stack.status,
        "DriftInformation": _NOT_CHECKED,
    }
    optional = {
        "TemplateDescription": stack.description,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
        "StackStatusReason": stack.reason,
        "ParentId": stack.parent,
        "RootId": stack.root,
    }
    return found | {name: value for name, value in optional.items() if value}


def _resource(row: Resource) -> dict[str, Any]:
    found = {"LogicalResourceId": row.logical_id, "ResourceType": row.type, "ResourceStatus": row.status}
    if row.physical_id:
        found["PhysicalResourceId"] = row.physical_id
    if row.reason:
        found["ResourceStatusReason"] = row.reason
    return found


def _event(stack: Stack, event: Event) -> dict[str, Any]:
    found = {
        "StackId": stack.id,
        "EventId": event.id,
        "StackName": stack.name,
        "LogicalResourceId": event.logical_id,
        "PhysicalResourceId": event.physical_id,
        "ResourceType": event.type,
        "Timestamp": event.time,
        "ResourceStatus": event.status,
    }
    optional = {
        "ResourceStatusReason": event.reason,
        "ResourceProperties": event.properties,
        "ClientRequestToken": event.token,
    }
    return found | {name: value for name, value in optional.items() if value}


def given(**lists: list[Any]) -> dict[str, list[Any]]:
    """The lists that hold something: CloudFormation leaves the others out of its answers."""
    return {name: items for name, items in lists.items() if items}


def shown_tags(model: Model) -> list[dict[str, str]]:
    """A stack's tags as they are shown."""
    return [{"Key": key, "Value": value} for key, value in model.tags.items()]


def _no_resource(name: str, stack: str) -> Exception:
    return invalid(f"Resource {name} does not exist for stack {stack}")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# Pages


def _after(input: Input) -> tuple[float, str]:
    """Where a page of stacks goes on: newest first."""
    if "NextToken" not in input:
        return 1e18, ""
    created, stack_id = _decoded(input["NextToken"])
    return float(created), str(stack_id)


def _with_token(output: Output, page: list[Stack]) -> Output:
    if len(page) > _PAGE:
        last = page[_PAGE - 1]
        output["NextToken"] = _token(last.created, last.id)
    return output


def _slice(items: list[T], input: Input) -> tuple[list[T], dict[str, str]]:
    """A page of a list, and the token of the next one."""
    start = int(_decoded(input["NextToken"])[0]) if "NextToken" in input else 0
    token = {"NextToken": _token(start + _PAGE)} if len(items) > start + _PAGE else {}
    return items[start : start + _PAGE], token


def _token(*parts: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def _decoded(token: str) -> list[Any]:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(token))
        if isinstance(found, list) and found and isinstance(found[0], int | float):
            return found
    except (ValueError, msgspec.MsgspecError):
        pass
    raise invalid("The token is not valid.")
