"""What is said about templates: GetTemplate, ValidateTemplate and GetTemplateSummary."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.cloudformation import sources
from cloudlet.services.cloudformation.prepare import check_types, needed_capabilities
from cloudlet.services.cloudformation.records import ChangeSet, Records, Stack
from cloudlet.stacks import sam
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import text_of
from cloudlet.stacks.parameters import hidden
from cloudlet.stacks.parse import parse
from cloudlet.stacks.template import Template, transforms_of


class Templates:
    """The operations on templates; mixed into the service."""

    if TYPE_CHECKING:
        cloud: Cloud
        records: Records

        async def find(self, call: Call, name: str, words: str = "") -> Stack: ...
        async def change_set(self, call: Call, input: Input) -> tuple[Stack, ChangeSet]: ...

    async def GetTemplate(self, call: Call, input: Input) -> Output:
        if "ChangeSetName" in input:
            if "StackName" not in input and not input["ChangeSetName"].startswith("arn:"):
                raise invalid("StackName is a required parameter.")
            _, change_set = await self.change_set(call, input)
            model = await self.records.model(change_set.model)
        elif "StackName" in input:
            stack = await self.find(call, input["StackName"], "Stack with id {} does not exist")
            model = await self.records.model(stack.model)
        else:
            raise invalid("StackName is required if ChangeSetName is not specified.")
        body = model.body
        # A template without transforms was processed as it is.
        if input.get("TemplateStage") == "Processed" and model.transforms:
            body = model.processed
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    async def ValidateTemplate(self, call: Call, input: Input) -> Output:
        template = await self._template(call, input)
        return {
            "Parameters": [
                {
                    "ParameterKey": name,
                    "NoEcho": hidden(template.parameters, name),
                    **({"DefaultValue": text_of(one["Default"])} if "Default" in one else {}),
                    **({"Description": one["Description"]} if "Description" in one else {}),
                }
                for name, one in template.parameters.items()
            ],
            **_of_all(template),
        }

    async def GetTemplateSummary(self, call: Call, input: Input) -> Output:
        if "StackSetName" in input:
            raise not_implemented("GetTemplateSummary with StackSetName")
        if "StackName" in input:
            if "TemplateBody" in input or "TemplateURL" in input:
                raise invalid("You can specify only one of StackName, TemplateBody and TemplateURL.")
            stack = await self.find(call, input["StackName"], "Stack with id {} does not exist")
            if stack.status == "REVIEW_IN_PROGRESS":
                raise invalid("GetTemplateSummary cannot be called on REVIEW_IN_PROGRESS stacks.")
            input = {"TemplateBody": (await self.records.model(stack.model)).body}
        template = await self._template(call, input)
        found: Output = {
            "Parameters": [_declaration(template, name, one) for name, one in template.parameters.items()],
            "ResourceTypes": template.types(),
            **_of_all(template),
        }
        if version := template.document.get("AWSTemplateFormatVersion"):
            found["Version"] = version
        if "Metadata" in template.document:
            found["Metadata"] = json.dumps(template.document["Metadata"])
        return found

    async def _template(self, call: Call, input: Input) -> Template:
        """The given template, checked as far as that goes without parameters and transforms. Raises ValidationError."""
        body = await sources.text_of(self.cloud, call, input)
        if body is None:
            raise invalid("Either Template URL or Template Body must be specified.")
        document = await asyncio.to_thread(parse, body)
        if sam.NAME in transforms_of(document):
            document.pop("Globals", None)  # a section that the transform takes away
        template = Template(document)
        if not template.transforms and "Fn::Transform" not in template.document:
            template.check()
            check_types(template, [name for name, one in template.resources.items() if "Condition" not in one])
        elif not template.resources:
            raise invalid("Template format error: At least one Resources member must be defined.")
        return template


def _of_all(template: Template) -> dict[str, Any]:
    found: dict[str, Any] = {"DeclaredTransforms": template.transforms} if template.transforms else {}
    if template.description:
        found["Description"] = template.description
    try:
        capabilities, reason = needed_capabilities(template)
    except AwsError:
        return found
    if template.transforms:
        capabilities = [*capabilities, "CAPABILITY_AUTO_EXPAND"]
        names = ", ".join(template.transforms)
        reason = f"{reason}{'. ' if reason else ''}The following transform(s) require capabilities: [{names}]"
    if capabilities:
        found |= {"Capabilities": capabilities, "CapabilitiesReason": reason}
    return found


def _declaration(template: Template, name: str, one: dict[str, Any]) -> dict[str, Any]:
    found = {
        "ParameterKey": name,
        "ParameterType": one["Type"],
        "NoEcho": hidden(template.parameters, name),
        "ParameterConstraints": {},
    }
    if "AllowedValues" in one:
        found["ParameterConstraints"] = {"AllowedValues": [text_of(value) for value in one["AllowedValues"]]}
    if "Default" in one:
        found["DefaultValue"] = text_of(one["Default"])
    if "Description" in one:
        found["Description"] = one["Description"]
    return found
