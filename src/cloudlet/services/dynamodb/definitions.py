"""Tables as requests define them: what is checked of keys, indexes, billing and streams, and the fields it becomes."""

from __future__ import annotations

import re
from typing import Any

from cloudlet.errors import not_implemented
from cloudlet.services.api import Call, Input
from cloudlet.services.dynamodb import records
from cloudlet.services.dynamodb.errors import bad_parameter, invalid
from cloudlet.services.dynamodb.records import Index, Table
from cloudlet.store import Tx

_NAME = re.compile(r"[a-zA-Z0-9_.-]+\Z")
_LOCAL_INDEXES = 5
_GLOBAL_INDEXES = 20
_PARTS = 4
_PROJECTED = 100
_TAGS = 50
_TAG = re.compile(r"[\w\s.:/=+\-@]*")  # letters of all languages
_UNSUPPORTED = (
    "GlobalTableSourceArn",
    "GlobalTableSettingsReplicationMode",
    "VectorIndexes",
    "VectorIndexUpdates",
    "ReplicaUpdates",
    "MultiRegionConsistency",
    "GlobalTableWitnessUpdates",
    "DisassociationProtectionEnabled",
)


def refuse_unsupported(operation: str, input: Input) -> None:
    """Name what is not there. Raises NotImplemented."""
    for name in _UNSUPPORTED:
        if input.get(name):
            raise not_implemented(f"{operation} with {name}")


def check_name(name: str) -> None:
    """A new table's name. Raises ValidationException."""
    if not 3 <= len(name) <= 255:
        raise invalid("TableName must be at least 3 characters long and at most 255 characters long")
    if not _NAME.match(name):
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'tableName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
        )


def definitions_of(given: list[dict[str, str]]) -> dict[str, str]:
    """Attribute -> type. Raises ValidationException."""
    found: dict[str, str] = {}
    for definition in given:
        if definition["AttributeName"] in found:
            raise bad_parameter(f"Attribute Name is duplicated: {definition['AttributeName']}")
        found[definition["AttributeName"]] = definition["AttributeType"]
    return found


def check_keys(keys: list[dict[str, str]], definitions: dict[str, str], index: bool = False, most: int = 1) -> None:
    """HASH keys, then perhaps RANGE keys, ``most`` of each kind, all defined. Raises ValidationException."""
    names, kinds = [key["AttributeName"] for key in keys], [key["KeyType"] for key in keys]
    if kinds[0] != "HASH":
        raise invalid("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
    if most == 1 and len(keys) == 2 and kinds[1] != "RANGE":
        raise invalid("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type")
    if most == 1 and len(keys) > 2:
        raise bad_parameter("KeySchema must contain at most two elements: one HASH key and, optionally, one RANGE key")
    if kinds != sorted(kinds) or max(kinds.count("HASH"), kinds.count("RANGE")) > most:
        raise bad_parameter(
            f"KeySchema of an index must contain 1 to {most} HASH keys followed by up to {most} RANGE keys"
        )
    if len(set(names)) < len(names):
        raise invalid("Both the Hash Key and the Range Key element in the KeySchema have the same name")
    missing = [key["AttributeName"] for key in keys if key["AttributeName"] not in definitions]
    if missing:
        if index:
            raise bad_parameter(
                "Some index key attributes are not defined in AttributeDefinitions. "
                f"Keys: [{', '.join(missing)}], AttributeDefinitions: [{', '.join(definitions)}]"
            )
        if keys[0]["AttributeName"] in definitions:
            raise invalid("Invalid KeySchema: Some index key attribute have no definition")
        raise bad_parameter(
            "Some index key attributes are not defined in AttributeDefinitions. "
            f"Keys: [{', '.join(missing)}], AttributeDefinitions: [{', '.join(definitions)}]"
        )


def check_used(table_keys: list[dict[str, str]], indexes: list[Index], definitions: dict[str, str]) -> None:
    """Every definition belongs to a key. Raises ValidationException."""
    used = {key["AttributeName"] for keys in (table_keys, *(index.keys for index in indexes)) for key in keys}
    if len(definitions) > len(used):
        if not indexes:
            raise bad_parameter(
                "Number of attributes in KeySchema does not exactly match number of attributes defined in "
                "AttributeDefinitions"
            )
        raise bad_parameter(
            "Some AttributeDefinitions are not used. AttributeDefinitions: "
            f"[{', '.join(sorted(definitions))}], keys used: [{', '.join(sorted(used))}]"
        )


def indexes_of(tx: Tx, input: Input, definitions: dict[str, str], billing: str) -> list[Index]:
    """The indexes of a new table. Raises ValidationException."""
    local, everywhere = input.get("LocalSecondaryIndexes"), input.get("GlobalSecondaryIndexes")
    if local is not None and not local:
        raise bad_parameter("List of LocalSecondaryIndexes is empty")
    if everywhere is not None and not everywhere:
        raise bad_parameter("List of GlobalSecondaryIndexes is empty")
    if local and len(input["KeySchema"]) < 2:
        raise bad_parameter(
            "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex"
        )
    if local and len(local) > _LOCAL_INDEXES:
        raise bad_parameter(f"Number of LocalSecondaryIndexes exceeds per-table limit of {_LOCAL_INDEXES}")
    if everywhere and len(everywhere) > _GLOBAL_INDEXES:
        raise bad_parameter(f"GlobalSecondaryIndex count exceeds the per-table limit of {_GLOBAL_INDEXES}")
    made: list[Index] = []
    for given in local or ():
        index = index_of(tx, given, definitions, is_global=False)
        if len(index.keys) < 2:
            raise bad_parameter(f"Index KeySchema does not have a range key for index: {index.name}")
        if index.keys[0]["AttributeName"] != input["KeySchema"][0]["AttributeName"]:
            raise bad_parameter(
                f"Index KeySchema does not have the same leading hash key as table KeySchema for index: {index.name}. "
                f"index hash key: {index.keys[0]['AttributeName']}, "
                f"table hash key: {input['KeySchema'][0]['AttributeName']}"
            )
        made.append(index)
    for given in everywhere or ():
        check_throughput(given.get("ProvisionedThroughput"), billing, given["IndexName"])
        made.append(index_of(tx, given, definitions, is_global=True))
    names = [index.name for index in made]
    for name in names:
        if names.count(name) > 1:
            raise bad_parameter(f"Duplicate index name: {name}")
    projected = sum(len(index.projection.get("NonKeyAttributes", ())) for index in made)
    if projected > _PROJECTED:
        raise bad_parameter(
            f"The total number of projected attributes in all indexes of the table exceeds the limit of {_PROJECTED}"
        )
    return made


def index_of(
    tx: Tx, given: dict[str, Any], definitions: dict[str, str], is_global: bool, building: bool = False
) -> Index:
    """One index of a request. Raises ValidationException."""
    check_keys(given["KeySchema"], definitions, index=True, most=_PARTS if is_global else 1)
    projection = given["Projection"]
    kind, attributes = projection.get("ProjectionType"), projection.get("NonKeyAttributes")
    if kind is None:
        raise bad_parameter("Unknown ProjectionType: null")
    if kind == "INCLUDE" and not attributes:
        raise bad_parameter("ProjectionType is INCLUDE, but NonKeyAttributes is not specified")
    if kind != "INCLUDE" and attributes is not None:
        raise bad_parameter(f"ProjectionType is {kind}, but NonKeyAttributes is specified")
    return Index(
        id=records.new_id(tx),
        name=given["IndexName"],
        keys=given["KeySchema"],
        projection=projection,
        is_global=is_global,
        building=building,
        throughput=given.get("ProvisionedThroughput", {}),
        on_demand=given.get("OnDemandThroughput", {}),
        warm=given.get("WarmThroughput", {}),
    )


def check_throughput(given: dict[str, int] | None, billing: str, index: str = "") -> None:
    """Units go with PROVISIONED, and only with it. Raises ValidationException."""
    of_index = f" for index: {index}" if index else ""
    if billing == "PAY_PER_REQUEST":
        if given is not None and not index:
            raise bad_parameter(
                "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST"
            )
        if given is not None:
            raise bad_parameter(
                f"ProvisionedThroughput should not be specified{of_index} when BillingMode is PAY_PER_REQUEST"
            )
    elif given is None:
        if index:
            raise bad_parameter(f"ProvisionedThroughput is not specified{of_index}")
        raise bad_parameter(
            "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED"
        )


def stream_view(given: dict[str, Any] | None) -> str:
    """The view of a stream that is to be on, else empty. Raises ValidationException."""
    if not given:
        return ""
    view = given.get("StreamViewType", "")
    if not given["StreamEnabled"]:
        if view:
            raise bad_parameter("StreamViewType should not be specified when StreamEnabled is false")
        return ""
    if not view:
        raise bad_parameter("StreamViewType must be specified when StreamEnabled is true")
    return str(view)


def tags_of(given: list[dict[str, str]]) -> dict[str, str]:
    """Tags by their keys. Raises ValidationException."""
    tags: dict[str, str] = {}
    for tag in given:
        if tag["Key"] in tags:
            raise invalid("One or more parameter values were invalid: Duplicate tag keys found")
        if tag["Key"].lower().startswith("aws:") and not tag["Key"].startswith("aws:cloudformation:"):
            raise invalid("aws: prefixed tag key names are not allowed for external use.")
        if not _TAG.fullmatch(tag["Key"] + tag["Value"]):
            raise bad_parameter("Tag keys and values have letters, numbers, white space and + - = . _ : / @ only")
        tags[tag["Key"]] = tag["Value"]
    check_tags(tags)
    return tags


def check_tags(tags: dict[str, str]) -> None:
    """Raises ValidationException for too many tags."""
    if len(tags) > _TAGS:
        raise invalid(f"One or more parameter values were invalid: Too many Tags: the limit is {_TAGS}")


def encryption_of(call: Call, given: dict[str, Any]) -> dict[str, Any]:
    """What DescribeTable says about encryption; empty for DynamoDB's own key. Raises ValidationException."""
    key = given.get("KMSMasterKeyId")
    if not given.get("Enabled"):
        if key or given.get("SSEType"):
            raise bad_parameter("KMSMasterKeyId and SSEType cannot be specified when SSE is not enabled")
        return {}
    if given.get("SSEType", "KMS") != "KMS":
        raise bad_parameter("SSEType AES256 is not supported")
    key = key or "alias/aws/dynamodb"
    if not key.startswith("arn:"):
        kind = "" if key.startswith("alias/") else "key/"
        key = f"arn:aws:kms:{call.region}:{call.account}:{kind}{key}"
    return {"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": key}


def settings_of(call: Call, input: Input) -> dict[str, Any]:
    """The fields of a table that CreateTable and UpdateTable set alike. Raises ValidationException."""
    fields: dict[str, Any] = {}
    if "SSESpecification" in input:
        fields["sse"] = encryption_of(call, input["SSESpecification"])
    for name, field in (
        ("TableClass", "table_class"),
        ("DeletionProtectionEnabled", "protected"),
        ("OnDemandThroughput", "on_demand"),
        ("WarmThroughput", "warm"),
    ):
        if name in input:
            fields[field] = input[name]
    return fields


def check_deletable(table: Table) -> None:
    """Raises ValidationException for a table that is protected."""
    if table.protected:
        raise invalid(
            "Resource cannot be deleted as it is currently protected against deletion. "
            "Disable deletion protection first."
        )
