"""From a request to a model that can be deployed: parse, parameters, transforms, and every check beforehand."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Cloud
from cloudlet.services.cloudformation import sources
from cloudlet.services.cloudformation.records import Model, Records
from cloudlet.stacks import language, parameters, registry, rules, sam
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import UNKNOWN, Context, Resolver, pseudo_parameters
from cloudlet.stacks.parse import document as parse_document
from cloudlet.stacks.parse import parse
from cloudlet.stacks.properties import faults
from cloudlet.stacks.template import Template, transforms_of

_INCLUDE = "AWS::Include"
_IAM = {
    "AWS::IAM::AccessKey": "",
    "AWS::IAM::Group": "GroupName",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Policy": "",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::User": "UserName",
    "AWS::IAM::UserToGroupAddition": "",
}


@dataclass(slots=True)
class Prepared:
    """A model, and its template and context."""

    model: Model
    template: Template
    context: Context


class Preparer:
    """Prepares the deployments of one cloud."""

    def __init__(self, cloud: Cloud, records: Records) -> None:
        self._cloud = cloud
        self._records = records

    async def prepare(
        self, call: Call, input: dict[str, Any], name: str, stack_id: str, previous: Model | None, expand: bool = False
    ) -> Prepared:
        """Everything that a request deploys. ``expand``: macros need no capability, as in change sets.

        Raises ValidationError and InsufficientCapabilitiesException.
        """
        for member, value in input.get("RollbackConfiguration", {}).items():
            if value:
                raise not_implemented(f"RollbackConfiguration with {member}")
        body = await self._body(call, input, previous)
        document = await asyncio.to_thread(parse, body)
        declared = document.get("Parameters") or {}
        if not isinstance(declared, dict):
            raise invalid("Template format error: Parameters must be an object.")
        parameters.check_declarations(declared)
        values = parameters.values_of(declared, input.get("Parameters", []), previous.parameters if previous else None)
        fetched = await self._fetch(call, parameters.stored_elsewhere(declared, values))
        await self._look_up(call, parameters.named_in_ec2(declared, values))
        notification_arns = input.get("NotificationARNs", previous.notification_arns if previous else [])
        pseudo = pseudo_parameters(call.account, call.region, name, stack_id, notification_arns)
        typed = parameters.typed(declared, values, fetched)
        capabilities = input.get("Capabilities", [])
        macros = transforms_of(document)
        nested = "Fn::Transform" in body or "!Transform" in body
        if (macros or nested) and not (expand or "CAPABILITY_AUTO_EXPAND" in capabilities):
            raise _insufficient(["CAPABILITY_AUTO_EXPAND"])
        processed = await self._transform(call, document, typed, pseudo, nested)
        template, context, needed = await asyncio.to_thread(_checked, processed, typed, pseudo, language.NAME in macros)
        context.door = self._cloud.door
        if not _granted(needed, capabilities):
            raise _insufficient(needed)
        model = Model(
            body,
            json.dumps(processed, separators=(",", ":")),
            macros,
            values,
            fetched,
            _tags(input, previous),
            capabilities,
            notification_arns,
            input.get("RollbackConfiguration", previous.rollback_configuration if previous else {}),
            input.get("RoleARN", previous.role if previous else ""),
        )
        return Prepared(model, template, context)

    async def _body(self, call: Call, input: dict[str, Any], previous: Model | None) -> str:
        """The template's text: the request's own, or that of the deployment before. Raises ValidationError."""
        body = await sources.text_of(self._cloud, call, input)
        if input.get("UsePreviousTemplate"):
            if body is not None:
                raise invalid("You cannot specify both usePreviousTemplate and Template Body/Template URL.")
            if previous is None:
                raise invalid("Cannot use the previous template of a stack that has none.")
            return previous.body
        if body is None:
            raise invalid("Either Template URL or Template Body must be specified.")
        return body

    async def _fetch(self, call: Call, names: dict[str, str]) -> dict[str, str]:
        """The values that SSM has for parameters of its types. Raises ValidationError for those it has not."""
        found: dict[str, str] = {}
        missing = []
        for parameter, name in names.items():
            try:
                answer = await self._cloud.call(
                    "ssm",
                    "GetParameter",
                    {"Name": name},
                    account=call.account,
                    region=call.region,
                    principal=call.principal,
                )
                found[parameter] = answer["Parameter"]["Value"]
            except AwsError as error:
                if error.code not in ("ParameterNotFound", "ParameterVersionNotFound"):
                    raise
                missing.append(name)
        if missing:
            raise parameters.not_in_store(missing)
        return found

    async def _look_up(self, call: Call, named: list[tuple[str, str, str, str]]) -> None:
        """See that what parameters name is there in EC2. Raises ValidationError."""
        for parameter, value, operation, member in named:
            try:
                await self._cloud.call("ec2", operation, {member: [value]}, account=call.account, region=call.region)
            except AwsError as error:
                raise parameters.does_not_exist(parameter, value) from error

    # Transforms

    async def _transform(
        self, call: Call, document: dict[str, Any], typed: dict[str, Any], pseudo: dict[str, Any], nested: bool
    ) -> dict[str, Any]:
        """The document after its transforms: those inside first, then those of the whole in their order."""
        declared = document.get("Transform")
        given = declared if isinstance(declared, list) else [declared] if declared is not None else []
        context = Context(
            typed, pseudo, document.get("Mappings") or {}, document.get("Conditions") or {}, extended=True
        )
        resolver = Resolver(context, lambda name, attribute: UNKNOWN)
        inner = {key: value for key, value in document.items() if key != "Transform"}
        result: dict[str, Any] = inner
        if nested:
            result = await self._inside(call, inner, resolver, typed)
        for one in given:
            name, arguments = (one, {}) if isinstance(one, str) else (one["Name"], one.get("Parameters", {}))
            if name == sam.NAME:
                result = await self._serverless(call, result, typed)
            elif name == language.NAME:
                result = await asyncio.to_thread(language.expand, result, resolver)
            elif name == _INCLUDE:
                result = {**result, **await self._include(call, arguments, resolver)}
            else:
                result = await self._macro(call, name, result, resolver.resolve(arguments), typed)
        return result

    async def _inside(self, call: Call, value: Any, resolver: Resolver, typed: dict[str, Any]) -> Any:
        if isinstance(value, list):
            return [await self._inside(call, item, resolver, typed) for item in value]
        if not isinstance(value, dict):
            return value
        made = {
            key: await self._inside(call, below, resolver, typed)
            for key, below in value.items()
            if key != "Fn::Transform"
        }
        if (asked := value.get("Fn::Transform")) is None:
            return made
        for one in asked if isinstance(asked, list) else [asked]:
            if not isinstance(one, dict) or not isinstance(one.get("Name"), str):
                raise invalid("Template format error: Fn::Transform needs the Name of a macro.")
            arguments = one.get("Parameters", {})
            if one["Name"] == _INCLUDE:
                made = {**made, **await self._include(call, arguments, resolver)}
            else:
                made = await self._macro(call, one["Name"], made, resolver.resolve(arguments), typed)
        return made

    async def _include(self, call: Call, arguments: Any, resolver: Resolver) -> dict[str, Any]:
        location = resolver.resolve(arguments.get("Location")) if isinstance(arguments, dict) else None
        if not isinstance(location, str):
            raise invalid(f"Transform {_INCLUDE} failed with: The location parameter is missing.")
        if location.startswith("s3://"):
            bucket, _, key = location[5:].partition("/")
            location = f"https://s3.amazonaws.com/{bucket}/{key}"
        text = await sources.fetch(self._cloud, call.account, call.region, location)
        included = await asyncio.to_thread(parse_document, text)
        if not isinstance(included, dict):
            raise invalid(
                f"Transform {_INCLUDE} failed with: The specified S3 object's content should be valid Yaml/JSON"
            )
        return included

    async def _serverless(self, call: Call, document: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        def policies() -> dict[str, str]:
            return asyncio.run_coroutine_threadsafe(self._managed_policies(call), loop).result()

        asked = {**document, "Transform": sam.NAME}
        return await asyncio.to_thread(sam.translate, asked, typed, call.account, call.region, policies)

    async def _managed_policies(self, call: Call) -> dict[str, str]:
        found: dict[str, str] = {}
        input: dict[str, Any] = {"Scope": "AWS", "MaxItems": 1000}
        while True:
            page = await self._cloud.call("iam", "ListPolicies", input, account=call.account, region=call.region)
            found.update((policy["PolicyName"], policy["Arn"]) for policy in page["Policies"])
            if not page.get("IsTruncated"):
                return found
            input["Marker"] = page["Marker"]

    async def _macro(
        self, call: Call, name: str, fragment: dict[str, Any], arguments: Any, typed: dict[str, Any]
    ) -> dict[str, Any]:
        function = await self._records.macro(call.scope, name)
        if function is None:
            raise invalid(f"No transform named {name} found.")
        request = {
            "accountId": call.account,
            "fragment": fragment,
            "params": arguments,
            "region": call.region,
            "requestId": str(uuid.uuid4()),
            "templateParameterValues": typed,
            "transformId": f"{call.account}::{name}",
        }
        answer = await self._cloud.call(
            "lambda",
            "Invoke",
            {"FunctionName": function, "Payload": json.dumps(request).encode()},
            account=call.account,
            region=call.region,
            principal="cloudformation.amazonaws.com",
        )
        payload = answer.get("Payload", b"")
        if not isinstance(payload, bytes):
            payload = b"".join([chunk async for chunk in payload])
        try:
            document = json.loads(payload)
        except ValueError:
            document = {}
        if answer.get("FunctionError") or not isinstance(document, dict) or document.get("status") != "success":
            words = document.get("errorMessage", "") if isinstance(document, dict) else ""
            raise invalid(f"Transform {call.account}::{name} failed with: {words or 'the macro did not succeed'}")
        made = document.get("fragment")
        if not isinstance(made, dict):
            raise invalid(f"Transform {call.account}::{name} failed with: the macro gave no fragment")
        return made


def _checked(
    processed: dict[str, Any], typed: dict[str, Any], pseudo: dict[str, Any], extended: bool
) -> tuple[Template, Context, list[str]]:
    """The template, judged as a whole; its context, and the capabilities that it needs. Raises ValidationError."""
    template = Template(processed)
    template.check()
    context = Context(typed, pseudo, template.mappings, template.conditions, extended=extended)
    rules.check(template.rules, context)
    template.dependencies(context)
    check_types(template, template.active(context))
    return template, context, needed_capabilities(template)[0]


def check_types(template: Template, active: list[str]) -> None:
    """Name, all at once, every type that Cloudlet does not have, and every property that is missing or refused.

    ``active`` are the resources that will be there, by their conditions: only those are looked at. Raises
    ValidationError.
    """
    problems = []
    for name, hook in (template.document.get("Hooks") or {}).items():
        if isinstance(hook, dict) and hook.get("Type") == "AWS::CodeDeploy::BlueGreen":
            problems.append(f"Template format error: Cloudlet does not implement the hook {name} of {hook['Type']}")
    types = {template.resources[name]["Type"] for name in active}
    if unknown := sorted(type for type in types if registry.find(type) is None):
        problems.append(
            f"Template format error: Unrecognized resource types: [{', '.join(unknown)}] (Cloudlet does not implement "
            "them)"
        )
    for name in active:
        resource = template.resources[name]
        kind = registry.find(resource["Type"])
        if kind is None:
            continue
        given = resource.get("Properties", {})
        words = [f"#: required key [{key}] not found" for key in sorted(kind.required - given.keys())]
        words += [f"#: Cloudlet does not implement the property [{key}]" for key in sorted(kind.refuses & given.keys())]
        words += faults(resource["Type"], given)
        if words:
            problems.append(f"Properties validation failed for resource {name} with message: {', '.join(words)}")
    if problems:
        raise invalid("; ".join(problems))


def needed_capabilities(template: Template) -> tuple[list[str], str]:
    """The capabilities that a template needs beyond macros, and AWS's reason."""
    types = [type for type in template.types() if type in _IAM]
    if not types:
        return [], ""
    reason = f"The following resource(s) require capabilities: [{', '.join(sorted(types))}]"
    for resource in template.resources.values():
        name = _IAM.get(resource["Type"])
        if name and name in resource.get("Properties", {}):
            return ["CAPABILITY_NAMED_IAM"], reason
    return ["CAPABILITY_IAM"], reason


def _granted(needed: list[str], given: list[str]) -> bool:
    return not needed or "CAPABILITY_NAMED_IAM" in given or needed[0] in given


def _insufficient(names: list[str]) -> AwsError:
    return AwsError("InsufficientCapabilitiesException", f"Requires capabilities : [{', '.join(names)}]")


def _tags(input: dict[str, Any], previous: Model | None) -> dict[str, str]:
    """The stack's tags, those of the deployment before where none are given. Raises ValidationError."""
    if "Tags" in input:
        tags = {tag["Key"]: tag["Value"] for tag in input["Tags"]}
    else:
        tags = previous.tags if previous else {}
    if any(key.lower().startswith("aws:") for key in tags):
        raise invalid("aws: prefixed tag key names are not allowed for external use.")
    return tags
