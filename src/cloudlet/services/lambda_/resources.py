"""CloudFormation's types of Lambda."""

from __future__ import annotations

import secrets
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.lambda_.code import LOCAL
from cloudlet.services.lambda_.inline import zipped
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

# What a removed property goes back to.
_DEFAULTS: Properties = {
    "Description": "",
    "Timeout": 3,
    "MemorySize": 128,
    "Environment": {},
    "Layers": [],
    "DeadLetterConfig": {},
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    "EphemeralStorage": {"Size": 512},
    "LoggingConfig": {},
    "SnapStart": {"ApplyOn": "None"},
    "FileSystemConfigs": [],
    "KMSKeyArn": "",
    "ImageConfig": {},
}
_CONFIGURATION = ("Role", "Handler", "Runtime", *_DEFAULTS)


class Function(ResourceType):
    """A function. ``Ref`` is its name."""

    type = "AWS::Lambda::Function"
    required = frozenset(("Code", "Role"))
    replaces = frozenset(("FunctionName", "PackageType"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("FunctionName") or do.name(64)
        given = {key: value for key, value in properties.items() if key not in _APART}
        tags = tags_of(do, properties)
        code = _code(do, properties)
        try:
            made = await do.call(
                "lambda", "CreateFunction", {**given, "FunctionName": name, "Code": code, "Tags": tags}
            )
        except AwsError as error:
            if error.code != "ResourceConflictException" or "FunctionName" in properties:
                raise
            made = await do.call("lambda", "GetFunctionConfiguration", {"FunctionName": name})
        if made["State"] == "Failed":
            await _unless_gone(do, "DeleteFunction", {"FunctionName": name})
            raise AwsError(made["StateReasonCode"], made["StateReason"], status=400)
        await do.initiated(name)
        await _aside(do, name, {}, properties)
        return _function(do, name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        name = physical.id
        before, after = _code(do, old), _code(do, new)
        configuration = {
            key: new.get(key, _DEFAULTS.get(key)) for key in _CONFIGURATION if old.get(key) != new.get(key)
        }
        if configuration:
            await do.call("lambda", "UpdateFunctionConfiguration", {"FunctionName": name, **configuration})
        if before != after or changed(old, new, "Architectures"):
            extra = {"Architectures": new["Architectures"]} if "Architectures" in new else {}
            await do.call("lambda", "UpdateFunctionCode", {"FunctionName": name, **after, **extra})
        await _retag(do, f"arn:aws:lambda:{do.region}:{do.account}:function:{name}", tags_of(do, new))
        await _aside(do, name, old, new)
        return _function(do, name)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteFunction", {"FunctionName": physical.id})


_APART = ("Code", "Tags", "ReservedConcurrentExecutions", "RuntimeManagementConfig", "RecursiveLoop")


def _function(do: Deployment, name: str) -> Physical:
    return Physical(name, {"Arn": f"arn:aws:lambda:{do.region}:{do.account}:function:{name}"})


def _code(do: Deployment, properties: Properties) -> Properties:
    """``Code`` as the API takes it: inline code as an archive, a local path as a folder of this machine."""
    code = properties["Code"]
    if isinstance(code, str):
        path = do.local_path(code)
        if path is None:
            raise AwsError("ValidationError", f"Code {code} is neither a local path nor a place in S3", status=400)
        return {"S3Bucket": LOCAL, "S3Key": path}
    if "ZipFile" in code:
        return {"ZipFile": zipped(code["ZipFile"], properties.get("Runtime", ""))}
    return {key: value for key, value in code.items() if key != "SourceKMSKeyArn"}


async def _aside(do: Deployment, name: str, old: Properties, new: Properties) -> None:
    """What the API sets apart from the function."""
    function = {"FunctionName": name}
    if changed(old, new, "ReservedConcurrentExecutions"):
        if "ReservedConcurrentExecutions" in new:
            count = new["ReservedConcurrentExecutions"]
            await do.call("lambda", "PutFunctionConcurrency", {**function, "ReservedConcurrentExecutions": count})
        else:
            await do.call("lambda", "DeleteFunctionConcurrency", function)
    if changed(old, new, "RuntimeManagementConfig"):
        settings = new.get("RuntimeManagementConfig") or {"UpdateRuntimeOn": "Auto"}
        await do.call("lambda", "PutRuntimeManagementConfig", {**function, **settings})
    if changed(old, new, "RecursiveLoop"):
        loop = new.get("RecursiveLoop", "Terminate")
        await do.call("lambda", "PutFunctionRecursionConfig", {**function, "RecursiveLoop": loop})


async def _retag(do: Deployment, arn: str, tags: dict[str, str]) -> None:
    before = (await do.call("lambda", "ListTags", {"Resource": arn})).get("Tags", {})
    if gone := [key for key in before if key not in tags]:
        await do.call("lambda", "UntagResource", {"Resource": arn, "TagKeys": gone})
    if tags and tags != before:
        await do.call("lambda", "TagResource", {"Resource": arn, "Tags": tags})


class Version(ResourceType):
    """A published version. ``Ref`` is its ARN."""

    type = "AWS::Lambda::Version"
    required = frozenset(("FunctionName",))
    replaces = frozenset(("FunctionName", "CodeSha256", "Description", "ProvisionedConcurrencyConfig", "RuntimePolicy"))
    refuses = frozenset(("FunctionScalingConfig",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = {key: value for key, value in properties.items() if key != "ProvisionedConcurrencyConfig"}
        made = await do.call("lambda", "PublishVersion", given)
        await _provision(do, made["FunctionArn"], {}, properties)
        return Physical(made["FunctionArn"], {"Version": made["Version"], "FunctionArn": made["FunctionArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteFunction", {"FunctionName": physical.id})


async def _provision(do: Deployment, arn: str, old: Properties, new: Properties) -> None:
    if not changed(old, new, "ProvisionedConcurrencyConfig"):
        return
    function, _, qualifier = arn.rpartition(":")
    which = {"FunctionName": function, "Qualifier": qualifier}
    if settings := new.get("ProvisionedConcurrencyConfig"):
        await do.call("lambda", "PutProvisionedConcurrencyConfig", {**which, **settings})
    else:
        await do.call("lambda", "DeleteProvisionedConcurrencyConfig", which)


class Alias(ResourceType):
    """An alias. ``Ref`` is its ARN."""

    type = "AWS::Lambda::Alias"
    required = frozenset(("FunctionName", "FunctionVersion", "Name"))
    replaces = frozenset(("FunctionName", "Name"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        made = await do.call("lambda", "CreateAlias", _alias(properties))
        await _provision(do, made["AliasArn"], {}, properties)
        return Physical(made["AliasArn"], {"AliasArn": made["AliasArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if policy := (do.update_policy or {}).get("CodeDeployLambdaAliasUpdate"):
            await _shift(do, policy, new)
        await do.call("lambda", "UpdateAlias", {"Description": "", "RoutingConfig": {}, **_alias(new)})
        await _provision(do, physical.id, old, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        which = {"FunctionName": properties["FunctionName"], "Name": properties["Name"]}
        await _unless_gone(do, "DeleteAlias", which)


async def _shift(do: Deployment, policy: Properties, new: Properties) -> None:
    """Have CodeDeploy lead an alias to its new version, and wait for that. Raises AwsError otherwise."""
    which = {"FunctionName": new["FunctionName"], "Name": new["Name"]}
    now = (await do.call("lambda", "GetAlias", which))["FunctionVersion"]
    if now == str(new["FunctionVersion"]):
        return
    function = new["FunctionName"].rpartition(":function:")[2].partition(":")[0]
    place = {
        "applicationName": policy["ApplicationName"],
        "deploymentGroupName": policy["DeploymentGroupName"],
        "externalId": f"{do.stack_id}/{do.logical_id}",
    }
    target = {
        "Name": function,
        "Alias": new["Name"],
        "CurrentVersion": now,
        "TargetVersion": str(new["FunctionVersion"]),
    }
    events = ("BeforeAllowTraffic", "AfterAllowTraffic")
    hooks = {event: policy[f"{event}Hook"] for event in events if policy.get(f"{event}Hook")}
    codedeploy = await do.service("codedeploy")
    await codedeploy.lead_alias(do.account, do.region, place, target, hooks)


def _alias(properties: Properties) -> Properties:
    """Templates list the weights that the API has as a map."""
    given = {key: value for key, value in properties.items() if key != "ProvisionedConcurrencyConfig"}
    if weights := (given.pop("RoutingConfig", None) or {}).get("AdditionalVersionWeights"):
        by_version = {one["FunctionVersion"]: one["FunctionWeight"] for one in weights}
        given["RoutingConfig"] = {"AdditionalVersionWeights": by_version}
    return given


class Permission(ResourceType):
    """A statement of a function's policy."""

    type = "AWS::Lambda::Permission"
    required = frozenset(("Action", "FunctionName", "Principal"))
    replaces = frozenset(
        (
            *("Action", "FunctionName", "Principal", "SourceArn", "SourceAccount", "EventSourceToken"),
            *("FunctionUrlAuthType", "PrincipalOrgID", "InvokedViaFunctionUrl"),
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        statement = do.name(100)
        try:
            await do.call("lambda", "AddPermission", {**properties, "StatementId": statement})
        except AwsError as error:
            if error.code != "ResourceConflictException":
                raise
        return Physical(statement, {"Id": statement})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        which = {"FunctionName": properties["FunctionName"], "StatementId": physical.id}
        await _unless_gone(do, "RemovePermission", which)


class EventSourceMapping(ResourceType):
    """An event source mapping. ``Ref`` is its UUID."""

    type = "AWS::Lambda::EventSourceMapping"
    required = frozenset(("FunctionName",))
    replaces = frozenset(
        (
            *("EventSourceArn", "StartingPosition", "StartingPositionTimestamp", "SelfManagedEventSource"),
            "AmazonManagedKafkaEventSourceConfig",
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = {key: value for key, value in properties.items() if key != "Tags"}
        made = await do.call("lambda", "CreateEventSourceMapping", {**given, "Tags": tags_of(do, properties)})
        return Physical(made["UUID"], {"Id": made["UUID"], "EventSourceMappingArn": made["EventSourceMappingArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        removed: Properties = {"FilterCriteria": {}, "FunctionResponseTypes": [], "ScalingConfig": {}, "Enabled": True}
        removed["MetricsConfig"] = {"Metrics": []}
        given = {key: value for key, value in removed.items() if key in old and key not in new}
        given |= {key: value for key, value in new.items() if key != "Tags" and key not in self.replaces}
        await do.call("lambda", "UpdateEventSourceMapping", {**given, "UUID": physical.id})
        await _retag(
            do, f"arn:aws:lambda:{do.region}:{do.account}:event-source-mapping:{physical.id}", tags_of(do, new)
        )
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteEventSourceMapping", {"UUID": physical.id})


class LayerVersion(ResourceType):
    """A layer's version. ``Ref`` is its ARN."""

    type = "AWS::Lambda::LayerVersion"
    required = frozenset(("Content",))
    replaces = frozenset(
        (
            *("CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LayerName"),
            "LicenseInfo",
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        content = properties["Content"]
        if isinstance(content, str):
            path = do.local_path(content)
            if path is None:
                raise AwsError("ValidationError", f"Content {content} is not a local path", status=400)
            content = {"S3Bucket": LOCAL, "S3Key": path}
        name = properties.get("LayerName") or do.logical_id
        made = await do.call("lambda", "PublishLayerVersion", {**properties, "Content": content, "LayerName": name})
        return Physical(made["LayerVersionArn"], {"LayerVersionArn": made["LayerVersionArn"]})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        layer, _, number = physical.id.rpartition(":")
        await _unless_gone(do, "DeleteLayerVersion", {"LayerName": layer, "VersionNumber": number})


class LayerVersionPermission(ResourceType):
    """A statement of a layer version's policy."""

    type = "AWS::Lambda::LayerVersionPermission"
    required = frozenset(("Action", "LayerVersionArn", "Principal"))
    replaces = frozenset(("Action", "LayerVersionArn", "OrganizationId", "Principal"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        layer, _, number = properties["LayerVersionArn"].rpartition(":")
        given = {key: value for key, value in properties.items() if key != "LayerVersionArn"}
        statement = f"{do.logical_id}-{secrets.token_hex(6)}"
        which = {"LayerName": layer, "VersionNumber": number, "StatementId": statement}
        await do.call("lambda", "AddLayerVersionPermission", {**given, **which})
        return Physical(f"{properties['LayerVersionArn']}#{statement}", {"Id": statement})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        arn, _, statement = physical.id.partition("#")
        layer, _, number = arn.rpartition(":")
        which = {"LayerName": layer, "VersionNumber": number, "StatementId": statement}
        await _unless_gone(do, "RemoveLayerVersionPermission", which)


class Url(ResourceType):
    """A function's URL. ``Ref`` is the function's ARN."""

    type = "AWS::Lambda::Url"
    required = frozenset(("AuthType", "TargetFunctionArn"))
    replaces = frozenset(("TargetFunctionArn", "Qualifier"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        made = await do.call("lambda", "CreateFunctionUrlConfig", _url(properties))
        attributes = {"FunctionArn": made["FunctionArn"], "FunctionUrl": made["FunctionUrl"]}
        return Physical(made["FunctionArn"], attributes)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("lambda", "UpdateFunctionUrlConfig", {"Cors": {}, "InvokeMode": "BUFFERED", **_url(new)})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        which = {key: value for key, value in _url(properties).items() if key in ("FunctionName", "Qualifier")}
        await _unless_gone(do, "DeleteFunctionUrlConfig", which)


def _url(properties: Properties) -> Properties:
    given = dict(properties)
    return {"FunctionName": given.pop("TargetFunctionArn"), **given}


class EventInvokeConfig(ResourceType):
    """How a function's asynchronous invocations are tried, and where their records go."""

    type = "AWS::Lambda::EventInvokeConfig"
    required = frozenset(("FunctionName", "Qualifier"))
    replaces = frozenset(("FunctionName", "Qualifier"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await do.call("lambda", "PutFunctionEventInvokeConfig", properties)
        return Physical(do.name())

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("lambda", "PutFunctionEventInvokeConfig", new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        which: dict[str, Any] = {key: properties[key] for key in ("FunctionName", "Qualifier")}
        await _unless_gone(do, "DeleteFunctionEventInvokeConfig", which)


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("lambda", operation, input)
    except AwsError as error:
        if error.code not in ("ResourceNotFoundException", "ProvisionedConcurrencyConfigNotFoundException"):
            raise


TYPES = [
    *(Function, Version, Alias, Permission, EventSourceMapping, LayerVersion, LayerVersionPermission, Url),
    EventInvokeConfig,
]
