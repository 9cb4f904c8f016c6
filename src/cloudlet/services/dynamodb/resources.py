"""CloudFormation's types of DynamoDB."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, is_own, tags_of

_SAME = ("ProvisionedThroughput", "TableClass", "DeletionProtectionEnabled", "OnDemandThroughput", "WarmThroughput")
_OWN = frozenset(
    (
        *("TableName", "KeySchema", "AttributeDefinitions", "BillingMode", "LocalSecondaryIndexes"),
        *("GlobalSecondaryIndexes", "StreamSpecification", "SSESpecification", "TimeToLiveSpecification"),
        *("PointInTimeRecoverySpecification", "Tags", "ResourcePolicy", *_SAME),
    )
)


class Table(ResourceType):
    """A table. ``Ref`` is its name."""

    type = "AWS::DynamoDB::Table"
    required = frozenset(("KeySchema",))
    replaces = frozenset(("TableName", "KeySchema", "LocalSecondaryIndexes"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("TableName") or do.name(255)
        self._refuse(properties)
        request = _definition(do, name, properties)
        if not await _describe(do, name):
            await do.call("dynamodb", "CreateTable", request)
        elif not is_own(do, await _tags(do, _arn(do, name))):
            raise AwsError("AlreadyExists", f"Resource of type '{self.type}' with identifier '{name}' already exists.")
        await do.initiated(name)
        await self._settle(do, name, {}, properties)
        return await _physical(do, name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self._refuse(new)
        name = physical.id
        await _change(do, name, new)
        await self._settle(do, name, old, new)
        return await _physical(do, name)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("dynamodb", "DeleteTable", {"TableName": physical.id})
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise

    def _refuse(self, properties: Properties) -> None:
        _refuse_insights(properties)
        for name in ("ResourcePolicy", "Tags"):
            if (properties.get("StreamSpecification") or {}).get(name):
                raise not_implemented(f"{self.type} with {name} of StreamSpecification")
        for name in properties:
            if name not in _OWN and name != "ContributorInsightsSpecification":
                raise not_implemented(f"{self.type} with {name}")

    async def _settle(self, do: Deployment, name: str, old: Properties, new: Properties) -> None:
        """What is set on a table by operations of its own."""
        await _set_ttl(do, name, new.get("TimeToLiveSpecification") or {})
        recovery = new.get("PointInTimeRecoverySpecification")
        if recovery or old.get("PointInTimeRecoverySpecification"):
            recovery = {"PointInTimeRecoveryEnabled": False, **(recovery or {})}
            await do.call(
                "dynamodb",
                "UpdateContinuousBackups",
                {"TableName": name, "PointInTimeRecoverySpecification": recovery},
            )
        arn = _arn(do, name)
        await _set_tags(do, arn, tags_of(do, new))
        await _set_policy(do, arn, (new.get("ResourcePolicy") or {}).get("PolicyDocument"))


class GlobalTable(Table):
    """A table with its one replica, which is here."""

    type = "AWS::DynamoDB::GlobalTable"
    required = frozenset(("KeySchema", "Replicas", "AttributeDefinitions"))
    ignored = frozenset(("WriteProvisionedThroughputSettings", "WriteOnDemandThroughputSettings"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        return await super().create(do, _single(do, properties))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await super().update(do, physical, _single(do, old), _single(do, new))


_OF_REPLICA = frozenset(
    ("DeletionProtectionEnabled", "PointInTimeRecoverySpecification", "ResourcePolicy", "TableClass", "Tags")
)
_OF_REPLICA_IGNORED = frozenset(  # capacity; the other two are looked at in their own place
    (
        *("Region", "ReadProvisionedThroughputSettings", "ReadOnDemandThroughputSettings", "GlobalSecondaryIndexes"),
        *("SSESpecification", "ContributorInsightsSpecification"),
    )
)


def _refuse_insights(given: Properties) -> None:
    if _flag((given.get("ContributorInsightsSpecification") or {}).get("Enabled")):
        raise not_implemented("AWS::DynamoDB with ContributorInsightsSpecification")


def _single(do: Deployment, properties: Properties) -> Properties:
    """A global table's properties as those of its replica here. Raises NotImplemented for other replicas."""
    replicas = properties["Replicas"]
    elsewhere = [replica["Region"] for replica in replicas if replica["Region"] != do.region]
    if elsewhere or len(replicas) != 1:
        raise not_implemented(f"AWS::DynamoDB::GlobalTable with replicas in {', '.join(elsewhere)}")
    replica = replicas[0]
    for name in properties:
        if name not in _OWN | GlobalTable.ignored and name != "Replicas":
            raise not_implemented(f"AWS::DynamoDB::GlobalTable with {name}")
    for name in replica:
        if name not in _OF_REPLICA | _OF_REPLICA_IGNORED:
            raise not_implemented(f"AWS::DynamoDB::GlobalTable with {name} of a replica")
    for given in (replica, *replica.get("GlobalSecondaryIndexes", ())):
        _refuse_insights(given)
    single: Properties = {
        name: properties[name]
        for name in (
            "TableName",
            "KeySchema",
            "AttributeDefinitions",
            "BillingMode",
            "LocalSecondaryIndexes",
            "StreamSpecification",
            "TimeToLiveSpecification",
            "WarmThroughput",
        )
        if name in properties
    }
    single |= {name: replica[name] for name in _OF_REPLICA if name in replica}
    # A global table is provisioned by scaling only; its capacity has no meaning on one machine.
    single["BillingMode"] = properties.get("BillingMode", "PROVISIONED")
    provisioned = single["BillingMode"] == "PROVISIONED"
    units = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    if provisioned:
        single["ProvisionedThroughput"] = units
    if "GlobalSecondaryIndexes" in properties:
        single["GlobalSecondaryIndexes"] = [
            {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
            | ({"ProvisionedThroughput": units} if provisioned else {})
            for index in properties["GlobalSecondaryIndexes"]
        ]
    if "SSESpecification" in properties:
        encryption = properties["SSESpecification"]
        single["SSESpecification"] = {
            "SSEEnabled": encryption.get("SSEEnabled", False),
            **({"SSEType": encryption["SSEType"]} if "SSEType" in encryption else {}),
            **(replica.get("SSESpecification") or {}),
        }
    return single


def _definition(do: Deployment, name: str, properties: Properties) -> Properties:
    """The properties as CreateTable's input."""
    request: Properties = {"TableName": name, "BillingMode": properties.get("BillingMode", "PROVISIONED")}
    request |= {
        key: properties[key]
        for key in ("AttributeDefinitions", "KeySchema", "LocalSecondaryIndexes", "GlobalSecondaryIndexes", *_SAME)
        if properties.get(key)
    }
    request["AttributeDefinitions"] = properties.get("AttributeDefinitions", [])
    for index in request.get("GlobalSecondaryIndexes", ()):
        _refuse_insights(index)
    if indexes := request.get("GlobalSecondaryIndexes"):
        request["GlobalSecondaryIndexes"] = [
            {key: value for key, value in index.items() if key != "ContributorInsightsSpecification"}
            for index in indexes
        ]
    if stream := _stream(properties):
        request["StreamSpecification"] = stream
    if encryption := _encryption(properties):
        request["SSESpecification"] = encryption
    if tags := tags_of(do, properties):
        request["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return request


def _stream(properties: Properties) -> Properties:
    view = (properties.get("StreamSpecification") or {}).get("StreamViewType")
    return {"StreamEnabled": True, "StreamViewType": view} if view else {}


def _encryption(properties: Properties) -> Properties:
    given = properties.get("SSESpecification") or {}
    if not _flag(given.get("SSEEnabled")):
        return {}
    return {
        "Enabled": True,
        **{name: given[name] for name in ("SSEType", "KMSMasterKeyId") if given.get(name)},
    }


async def _change(do: Deployment, name: str, properties: Properties) -> None:
    """Bring a table from what it is to what the template wants, one UpdateTable after the other."""
    wanted = _typed(_definition(do, name, properties))
    table = await _describe(do, name)
    billing = (table.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED")
    basics: Properties = {}
    if wanted["BillingMode"] != billing:
        basics["BillingMode"] = wanted["BillingMode"]
    throughput = wanted.get("ProvisionedThroughput")
    if throughput and ("BillingMode" in basics or not _same_units(throughput, table["ProvisionedThroughput"])):
        basics["ProvisionedThroughput"] = throughput
    indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
    wanted_indexes = {index["IndexName"]: index for index in wanted.get("GlobalSecondaryIndexes", [])}
    different = [
        key
        for key in indexes
        if key not in wanted_indexes
        or wanted_indexes[key]["KeySchema"] != indexes[key]["KeySchema"]
        or _projection(wanted_indexes[key]) != _projection(indexes[key])
    ]
    for key in different:
        await _update(do, name, {"GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": key}}]})
        del indexes[key]
    units = [
        {"Update": {"IndexName": key, "ProvisionedThroughput": wanted_indexes[key]["ProvisionedThroughput"]}}
        for key in indexes
        if "ProvisionedThroughput" in wanted_indexes[key]
        and not _same_units(wanted_indexes[key]["ProvisionedThroughput"], indexes[key]["ProvisionedThroughput"])
    ]
    if units:
        basics["GlobalSecondaryIndexUpdates"] = units
    if wanted.get("TableClass", "STANDARD") != (table.get("TableClassSummary") or {}).get("TableClass", "STANDARD"):
        basics["TableClass"] = wanted.get("TableClass", "STANDARD")
    protected = bool(wanted.get("DeletionProtectionEnabled", False))
    if protected != table["DeletionProtectionEnabled"]:
        basics["DeletionProtectionEnabled"] = protected
    if basics:
        await _update(do, name, basics)
    encryption = wanted.get("SSESpecification") or {"Enabled": False}
    if encryption["Enabled"] or table.get("SSEDescription"):
        await _update(do, name, {"SSESpecification": encryption})
    for setting in ("OnDemandThroughput", "WarmThroughput"):
        if setting in wanted:
            await _update(do, name, {setting: wanted[setting]})
    await _change_stream(do, name, wanted.get("StreamSpecification"), table.get("StreamSpecification"))
    for key, index in wanted_indexes.items():
        if key not in indexes:
            change = {
                "AttributeDefinitions": _definitions_for(wanted, table, index),
                "GlobalSecondaryIndexUpdates": [{"Create": index}],
            }
            await _update(do, name, change)


def _typed(request: Properties) -> Properties:
    """Numbers and flags of a template, which may be texts, as the operations have them."""

    def plain(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(name, member) for name, member in value.items()}
        if isinstance(value, list):
            return [plain(key, member) for member in value]
        if key.endswith(("Units", "UnitsPerSecond")):
            return int(value)
        return _flag(value) if key.endswith("Enabled") else value

    return {name: plain(name, value) for name, value in request.items()}


async def _update(do: Deployment, name: str, change: Properties) -> None:
    await do.call("dynamodb", "UpdateTable", {"TableName": name, **change})


def _definitions_for(wanted: Properties, table: Properties, index: Properties) -> list[Properties]:
    """The definitions that exist, and those that one index adds: others would not be used yet."""
    names = {key["AttributeName"] for key in index["KeySchema"]}
    return [one for one in wanted["AttributeDefinitions"] if one["AttributeName"] in names]


async def _change_stream(do: Deployment, name: str, wanted: Properties | None, current: Properties | None) -> None:
    if wanted == current:
        return
    if current:
        await _update(do, name, {"StreamSpecification": {"StreamEnabled": False}})
    if wanted:
        await _update(do, name, {"StreamSpecification": wanted})


async def _set_ttl(do: Deployment, name: str, wanted: Properties) -> None:
    attribute = wanted.get("AttributeName") if _flag(wanted.get("Enabled")) else None
    described = await do.call("dynamodb", "DescribeTimeToLive", {"TableName": name})
    current = described["TimeToLiveDescription"].get("AttributeName")
    if attribute == current:
        return
    if current:
        off = {"AttributeName": current, "Enabled": False}
        await do.call("dynamodb", "UpdateTimeToLive", {"TableName": name, "TimeToLiveSpecification": off})
    if attribute:
        on = {"AttributeName": attribute, "Enabled": True}
        await do.call("dynamodb", "UpdateTimeToLive", {"TableName": name, "TimeToLiveSpecification": on})


async def _tags(do: Deployment, arn: str) -> dict[str, str]:
    listed = await do.call("dynamodb", "ListTagsOfResource", {"ResourceArn": arn})
    return {tag["Key"]: tag["Value"] for tag in listed.get("Tags", [])}


async def _set_tags(do: Deployment, arn: str, wanted: dict[str, str]) -> None:
    current = await _tags(do, arn)
    if gone := [key for key in current if key not in wanted]:
        await do.call("dynamodb", "UntagResource", {"ResourceArn": arn, "TagKeys": gone})
    if new := [{"Key": key, "Value": value} for key, value in wanted.items() if current.get(key) != value]:
        await do.call("dynamodb", "TagResource", {"ResourceArn": arn, "Tags": new})


async def _set_policy(do: Deployment, arn: str, wanted: Any) -> None:
    if wanted:
        text = wanted if isinstance(wanted, str) else json.dumps(wanted)
        await do.call("dynamodb", "PutResourcePolicy", {"ResourceArn": arn, "Policy": text})
    else:
        await do.call("dynamodb", "DeleteResourcePolicy", {"ResourceArn": arn})


async def _describe(do: Deployment, name: str) -> Properties:
    """The table as it is, empty when there is none."""
    try:
        described = await do.call("dynamodb", "DescribeTable", {"TableName": name})
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return {}
    table: Properties = described["Table"]
    return table


async def _physical(do: Deployment, name: str) -> Physical:
    table = await _describe(do, name)
    attributes = {"Arn": table["TableArn"], "TableId": table["TableId"]}
    if "StreamSpecification" in table:
        attributes["StreamArn"] = table["LatestStreamArn"]
    return Physical(name, attributes)


def _arn(do: Deployment, name: str) -> str:
    return f"arn:aws:dynamodb:{do.region}:{do.account}:table/{name}"


def _same_units(one: Properties, two: Properties) -> bool:
    return all(int(one[name]) == int(two[name]) for name in ("ReadCapacityUnits", "WriteCapacityUnits"))


def _projection(index: Properties) -> tuple[str, frozenset[str]]:
    projection = index["Projection"]
    return projection["ProjectionType"], frozenset(projection.get("NonKeyAttributes") or ())


def _flag(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


TYPES = [Table, GlobalTable]
