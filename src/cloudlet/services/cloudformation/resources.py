"""CloudFormation's own types: nested stacks, custom resources, wait conditions and macros."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call
from cloudlet.services.cloudformation.records import Stack
from cloudlet.services.cloudformation.steps import Step, step_of
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import text_of

_CUSTOM_SECONDS = 3600


class NestedStack(ResourceType):
    """A stack in a stack. ``Ref`` is its id; its outputs are the attributes ``Outputs.<name>``."""

    type = "AWS::CloudFormation::Stack"
    required = frozenset(("TemplateURL",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        step = step_of(do)
        service = step.run.service
        name = do.name(128)
        stack = await service.records.live(f"{do.account}/{do.region}", name)
        if stack is None:
            made = await service.create(_call(step), _input(step, name, properties), step.run.stack)
            stack = await service.records.stack(made["StackId"])
        assert stack is not None
        await step.initiated(stack.id)
        return await _settled(step, stack.id, "CREATE_COMPLETE", "created")

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        step = step_of(do)
        service = step.run.service
        stack = await service.records.stack(physical.id)
        if stack is None:
            raise invalid(f"Stack with id {physical.id} does not exist")
        if stack.token != step.request:
            input = {**_input(step, stack.id, new), "ClientRequestToken": step.request}
            try:
                await service.update(_call(step), input, nested=True)
            except AwsError as error:
                if error.message != "No updates are to be performed.":
                    raise
                return await _outputs(step, stack.id)
        return await _settled(step, stack.id, "UPDATE_COMPLETE", "updated")

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        step = step_of(do)
        service = step.run.service
        await service.DeleteStack(_call(step), {"StackName": physical.id})
        while (run := service.runs.get(physical.id)) is not None:
            await run.done.wait()
        stack = await service.records.stack(physical.id)
        if stack is not None and stack.live:
            raise invalid(f"Embedded stack {physical.id} was not successfully deleted: {stack.reason}")


def _call(step: Step) -> Call:
    return Call(step.account, step.region, principal=step.run.stack.owner)


def _input(step: Step, name: str, properties: Properties) -> dict[str, Any]:
    known = {"TemplateURL", "Parameters", "NotificationARNs", "Tags", "TimeoutInMinutes"}
    if unknown := sorted(properties.keys() - known):
        raise invalid(f"Encountered unsupported property {unknown[0]}")
    parameters = [
        # A list is given to a parameter as its items with commas.
        {
            "ParameterKey": key,
            "ParameterValue": ",".join(map(text_of, value)) if isinstance(value, list) else text_of(value),
        }
        for key, value in properties.get("Parameters", {}).items()
    ]
    own = {**step.run.model.tags, **{tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}}
    input: dict[str, Any] = {
        "StackName": name,
        "TemplateURL": properties["TemplateURL"],
        "Parameters": parameters,
        "Capabilities": ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        "Tags": [{"Key": key, "Value": value} for key, value in own.items()],
        "NotificationARNs": properties.get("NotificationARNs", step.run.model.notification_arns),
    }
    if "TimeoutInMinutes" in properties:
        input["TimeoutInMinutes"] = int(properties["TimeoutInMinutes"])
    return input


async def _settled(step: Step, stack_id: str, wanted: str, verb: str) -> Physical:
    """Wait for a nested stack. Raises ValidationError when it has not become what is wanted."""
    service = step.run.service
    while (run := service.runs.get(stack_id)) is not None:
        await step.wait(run.done.wait())
    stack: Stack | None = await service.records.stack(stack_id)
    if stack is None or stack.status != wanted:
        reason = await service.first_failure(stack_id)
        raise invalid(f"Embedded stack {stack_id} was not successfully {verb}: {reason}")
    return await _outputs(step, stack_id)


async def _outputs(step: Step, stack_id: str) -> Physical:
    stack = await step.run.service.records.stack(stack_id)
    assert stack is not None
    return Physical(stack_id, {f"Outputs.{made['OutputKey']}": made["OutputValue"] for made in stack.outputs})


class CustomResource(ResourceType):
    """A resource that a function, or whoever listens to a topic, makes. ``Ref`` is the id that it has given."""

    type = "AWS::CloudFormation::CustomResource"
    required = frozenset(("ServiceToken",))
    replaces = frozenset(("ServiceToken",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        return await _ask(step_of(do), "Create", properties)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        before = {"PhysicalResourceId": physical.id, "OldResourceProperties": _texts(old)}
        return await _ask(step_of(do), "Update", new, **before)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _ask(step_of(do), "Delete", properties, PhysicalResourceId=physical.id)


async def _ask(step: Step, request: str, properties: Properties, **more: Any) -> Physical:
    """Send a request to the one who makes the resource, and wait for the answer. Raises ValidationError."""
    service = step.run.service
    # The same token after a crash, so that the answer to a request sent before it still counts.
    token = hashlib.sha256(step.request.encode()).hexdigest()
    request_id = f"{token[:8]}-{token[8:12]}-4{token[13:16]}-8{token[17:20]}-{token[20:32]}"
    await service.new_token(step.stack_id, token)
    if not await service.records.signals(token):
        document = {
            "RequestType": request,
            "ServiceToken": properties["ServiceToken"],
            "ResponseURL": service.url_of(token),
            "StackId": step.stack_id,
            "RequestId": request_id,
            "LogicalResourceId": step.logical_id,
            "ResourceType": step.resource.type,
            "ResourceProperties": _texts({key: value for key, value in properties.items() if key != "ServiceTimeout"}),
            **more,
        }
        await _send(step, str(properties["ServiceToken"]), json.dumps(document))
    seconds = _seconds(properties.get("ServiceTimeout", _CUSTOM_SECONDS))
    found = await service.await_signals(step, token, 1, seconds)
    if found is None:
        raise invalid(
            "CloudFormation did not receive a response from your Custom Resource. Please check your logs for requestId "
            f"[{request_id}]. If you are using the Python cfn-response module, you may need to update your Lambda "
            "function so that CloudFormation can attach the updated version."
        )
    answer = next(iter(found.values()))
    id = str(answer.get("PhysicalResourceId") or more.get("PhysicalResourceId") or "")
    if answer.get("Status") != "SUCCESS":
        if request == "Create":
            await step.initiated(id or step.name(255))
        raise invalid(
            f"Received response status [FAILED] from custom resource. Message returned: {answer.get('Reason', '')} "
            f"(RequestId: {request_id})"
        )
    if not id:
        raise invalid("Invalid PhysicalResourceId")
    data = answer.get("Data")
    return Physical(id, data if isinstance(data, dict) else {})


async def _send(step: Step, to: str, message: str) -> None:
    parts = to.split(":")
    if len(parts) < 6 or parts[2] not in ("lambda", "sns"):
        raise invalid(f"Invalid service token: {to} is neither a function nor a topic")
    if parts[2] == "lambda":
        input = {"FunctionName": to, "InvocationType": "Event", "Payload": message}
        await step.call("lambda", "Invoke", input)
    else:
        subject = "AWS CloudFormation custom resource request"
        await step.call("sns", "Publish", {"TopicArn": to, "Subject": subject, "Message": message})


def _texts(value: Any) -> Any:
    """Properties as CloudFormation sends them: every scalar is a text."""
    if isinstance(value, dict):
        return {key: _texts(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return text_of(value)


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 1 <= seconds <= _CUSTOM_SECONDS:
        raise invalid(f"ServiceTimeout must be a number between 1 and {_CUSTOM_SECONDS}")
    return seconds


class WaitConditionHandle(ResourceType):
    """A URL that takes signals. ``Ref`` is the URL."""

    type = "AWS::CloudFormation::WaitConditionHandle"

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        step = step_of(do)
        token = hashlib.sha256(f"{step.request}-handle".encode()).hexdigest()
        await step.run.service.new_token(do.stack_id, token)
        return Physical(step.run.service.url_of(token))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        return None


class WaitCondition(ResourceType):
    """Waits for signals at its handle, or for SignalResource. ``Data`` is what the signals brought."""

    type = "AWS::CloudFormation::WaitCondition"

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        step = step_of(do)
        physical = Physical(do.name(128), {"Data": "{}"})
        if "Handle" not in properties:
            return physical  # its CreationPolicy says what to wait for
        await step.initiated(physical.id)
        if "Timeout" not in properties:
            raise invalid("Property Timeout cannot be empty.")
        count, seconds = int(properties.get("Count", 1)), float(properties["Timeout"])
        token = str(properties["Handle"]).rsplit("/", 1)[-1]
        found = await step.run.service.await_signals(step, token, count, seconds)
        if found is None:
            received = len(await step.run.service.records.signals(token))
            raise invalid(f"WaitCondition timed out. Received {received} conditions when expecting {count}")
        for id, signal in found.items():
            if signal.get("Status") != "SUCCESS":
                reason = signal.get("Reason", "")
                raise invalid(f"WaitCondition received failed message: '{reason}' for uniqueId: {id}")
        return Physical(physical.id, {"Data": json.dumps({id: signal.get("Data", "") for id, signal in found.items()})})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        return None


class Macro(ResourceType):
    """A function that rewrites templates. ``Ref`` is its name."""

    type = "AWS::CloudFormation::Macro"
    required = frozenset(("FunctionName", "Name"))
    replaces = frozenset(("Name",))
    ignored = frozenset(("Description", "LogGroupName", "LogRoleARN"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await step_of(do).run.service.records.put_macro(_scope(do), properties["Name"], properties["FunctionName"])
        return Physical(properties["Name"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await step_of(do).run.service.records.drop_macro(_scope(do), physical.id)


def _scope(do: Deployment) -> str:
    return f"{do.account}/{do.region}"


class CdkMetadata(ResourceType):
    """What the CDK tells AWS about itself: only a record, here as there."""

    type = "AWS::CDK::Metadata"
    ignored = frozenset(("Analytics",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        return Physical(do.name(128))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        return None


TYPES = [NestedStack, CustomResource, WaitConditionHandle, WaitCondition, Macro, CdkMetadata]
