"""The operations on log groups: their life, retention, encryption record and tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs import records
from cloudlet.services.logs.base import Base, no_such_group, read_token
from cloudlet.services.logs.records import Group
from cloudlet.services.pages import token_of
from cloudlet.store import Tx

_RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
_PAGE = 50
_TAGS_AT_MOST = 50


class Groups(Base):
    """Operations on log groups."""

    async def CreateLogGroup(self, call: Call, input: Input) -> Output:
        name = input["logGroupName"]
        if name.startswith("aws/"):
            raise AwsError("InvalidParameterException", "Log group names starting with 'aws/' are reserved for AWS.")
        kind = input.get("logGroupClass", "STANDARD")
        if kind not in ("STANDARD", "INFREQUENT_ACCESS"):
            raise not_implemented(f"CreateLogGroup with logGroupClass {kind}")

        def create(tx: Tx) -> None:
            if self.groups.get(call.scope, name, tx) is not None:
                raise AwsError("ResourceAlreadyExistsException", "The specified log group already exists")
            group = Group(
                name,
                api.arn("logs", call, f"log-group:{name}"),
                records.create_volume(tx),
                self.now(),
                kind,
                kms_key=input.get("kmsKeyId", ""),
                protected=input.get("deletionProtectionEnabled", False),
                tags=input.get("tags", {}),
            )
            self.groups.put(tx, call.scope, name, group)

        await self.db.write(create)
        return {}

    async def DeleteLogGroup(self, call: Call, input: Input) -> Output:
        name = input["logGroupName"]

        def delete(tx: Tx) -> Group:
            group = self.group(call.scope, name, tx)
            if group.protected:
                raise AwsError(
                    "ValidationException",
                    "Cannot delete log group because deletion protection is enabled for it.",
                )
            self.groups.delete(tx, call.scope, name)
            for kind in (self.subscriptions, self.metrics):
                for record in kind.list(call.scope, f"{name}\n", tx):
                    kind.delete(tx, call.scope, record.name)
            return group

        group = await self.db.write(delete)
        self.filters_changed(call.scope, name)
        self.cloud.spawn(self.sweep_group(group.volume), f"logs sweeps {group.volume}")
        return {}

    def filters_changed(self, scope: str, group: str) -> None:
        """The filters of a group are others than before."""
        raise NotImplementedError

    async def DescribeLogGroups(self, call: Call, input: Input) -> Output:
        if "logGroupNamePrefix" in input and "logGroupNamePattern" in input:
            raise AwsError(
                "InvalidParameterException",
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            )
        if "accountIdentifiers" in input or input.get("includeLinkedAccounts"):
            raise not_implemented("DescribeLogGroups with linked accounts")
        found = [record.value for record in self.groups.list(call.scope, input.get("logGroupNamePrefix", ""))]
        if pattern := input.get("logGroupNamePattern"):
            found = [group for group in found if pattern.lower() in group.name.lower()]
        if kind := input.get("logGroupClass"):
            found = [group for group in found if group.kind == kind]
        if identifiers := input.get("logGroupIdentifiers"):
            names = {identifier.split(":")[6] if ":" in identifier else identifier for identifier in identifiers}
            found = [group for group in found if group.name in names]
        page, token = page_of(found, input, lambda group: group.name)

        def sizes(tx: Tx) -> list[int]:
            return [records.stored_bytes(tx, group.volume) for group in page]

        shown = [
            self._shown(call.scope, group, size) for group, size in zip(page, await self.db.read(sizes), strict=True)
        ]
        return {"logGroups": shown} | token

    def _shown(self, scope: str, group: Group, size: int) -> Output:
        shown: Output = {
            "logGroupName": group.name,
            "creationTime": group.created,
            "metricFilterCount": len(self.metrics.list(scope, f"{group.name}\n")),
            "arn": f"{group.arn}:*",
            "logGroupArn": group.arn,
            "storedBytes": size,
            "logGroupClass": group.kind,
            "deletionProtectionEnabled": group.protected,
        }
        if group.retention:
            shown["retentionInDays"] = group.retention
        if group.kms_key:
            shown["kmsKeyId"] = group.kms_key
        return shown

    async def ListLogGroups(self, call: Call, input: Input) -> Output:
        for name in ("accountIdentifiers", "dataSources", "fieldIndexNames"):
            if name in input:
                raise not_implemented(f"ListLogGroups with {name}")
        pattern = input.get("logGroupNamePattern", "")
        wanted, anchored = pattern.removeprefix("^"), pattern.startswith("^")
        found = [
            group
            for group in (record.value for record in self.groups.list(call.scope))
            if (group.name.startswith(wanted) if anchored else wanted in group.name)
            and input.get("logGroupClass", group.kind) == group.kind
            and all(_tagged(group, wish) for wish in input.get("logGroupTags", ()))
        ]
        page, token = page_of(found, input, lambda group: group.name)
        shown = [{"logGroupName": group.name, "logGroupArn": group.arn, "logGroupClass": group.kind} for group in page]
        return {"logGroups": shown} | token

    async def edit(self, scope: str, name: str, change: Callable[[Group], dict[str, Any]]) -> Group:
        """Change fields of a group. Raises ResourceNotFoundException."""

        def write(tx: Tx) -> Group:
            group = self.group(scope, name, tx)
            group = replace(group, **change(group))
            self.groups.put(tx, scope, name, group)
            return group

        return await self.db.write(write)

    # Retention, encryption, protection

    async def PutRetentionPolicy(self, call: Call, input: Input) -> Output:
        days = input["retentionInDays"]
        if days not in _RETENTIONS:
            raise AwsError(
                "InvalidParameterException",
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(map(str, sorted(_RETENTIONS)))}]",
            )
        group = await self.edit(call.scope, input["logGroupName"], lambda _: {"retention": days})
        await self.plan_expiry(call.scope, group)
        return {}

    async def DeleteRetentionPolicy(self, call: Call, input: Input) -> Output:
        group = await self.edit(call.scope, input["logGroupName"], lambda _: {"retention": 0})
        await self.plan_expiry(call.scope, group)
        return {}

    async def AssociateKmsKey(self, call: Call, input: Input) -> Output:
        await self._set_key(call, input, input["kmsKeyId"])
        return {}

    async def DisassociateKmsKey(self, call: Call, input: Input) -> Output:
        await self._set_key(call, input, "")
        return {}

    async def _set_key(self, call: Call, input: Input, key: str) -> None:
        if "logGroupName" not in input:
            raise not_implemented(f"{call.operation} with resourceIdentifier")
        await self.edit(call.scope, input["logGroupName"], lambda _: {"kms_key": key})

    async def PutLogGroupDeletionProtection(self, call: Call, input: Input) -> Output:
        group = self.identified(call, input["logGroupIdentifier"])
        await self.edit(call.scope, group.name, lambda _: {"protected": input["deletionProtectionEnabled"]})
        return {}

    # Tags

    async def TagLogGroup(self, call: Call, input: Input) -> Output:
        await self._tag(call.scope, input["logGroupName"], input["tags"])
        return {}

    async def UntagLogGroup(self, call: Call, input: Input) -> Output:
        await self._untag(call.scope, input["logGroupName"], input["tags"])
        return {}

    async def ListTagsLogGroup(self, call: Call, input: Input) -> Output:
        return {"tags": self.group(call.scope, input["logGroupName"]).tags}

    async def TagResource(self, call: Call, input: Input) -> Output:
        group = self._tagged_resource(call, input)
        await self._tag(call.scope, group.name, input["tags"])
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        group = self._tagged_resource(call, input)
        await self._untag(call.scope, group.name, input["tagKeys"])
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        return {"tags": self._tagged_resource(call, input).tags}

    def _tagged_resource(self, call: Call, input: Input) -> Group:
        arn = input["resourceArn"]
        parts = arn.split(":")
        if len(parts) < 7 or parts[2] != "logs" or parts[5] != "log-group":
            raise not_implemented(f"{call.operation} of {arn}")
        try:
            return self.group(f"{parts[4]}/{parts[3]}", parts[6])
        except AwsError:
            raise no_such_group() from None

    async def _tag(self, scope: str, name: str, tags: dict[str, str]) -> None:
        def change(group: Group) -> dict[str, Any]:
            merged = {**group.tags, **tags}
            if len(merged) > _TAGS_AT_MOST:
                raise AwsError("TooManyTagsException", "A resource can have no more than 50 tags.")
            return {"tags": merged}

        await self.edit(scope, name, change)

    async def _untag(self, scope: str, name: str, keys: list[str]) -> None:
        await self.edit(
            scope, name, lambda group: {"tags": {key: tag for key, tag in group.tags.items() if key not in keys}}
        )


def page_of(found: list[Any], input: Input, name: Callable[[Any], str], most: int = _PAGE) -> tuple[list[Any], Output]:
    """The part of a list, ordered by ``name``, that is asked for, and the token of the next one."""
    limit = input.get("limit", most)
    if token := input.get("nextToken"):
        (after,) = read_token(token, str)
        found = [item for item in found if name(item) > after]
    page = found[:limit]
    return page, {"nextToken": token_of(name(page[-1]))} if len(found) > limit else {}


def _tagged(group: Group, wish: dict[str, Any]) -> bool:
    value = group.tags.get(wish["key"])
    return value is not None and (not wish.get("values") or value in wish["values"])
