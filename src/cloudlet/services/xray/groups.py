"""Groups, tags and encryption."""

from __future__ import annotations

import secrets
import string
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.xray.filters import compile_filter
from cloudlet.services.xray.records import Encryption, Group, SamplingRule
from cloudlet.services.xray.sampling import Sampling
from cloudlet.store import Record, Resources, Tx

DEFAULT = "Default"
_LETTERS = string.ascii_uppercase + string.digits[2:]
_MOST_TAGS = 50


class Groups(Sampling):
    """The operations on groups, and what is left."""

    async def CreateGroup(self, call: Call, input: Input) -> Output:
        name = input["GroupName"]
        insights, notifications = _insights(input)
        expression = input.get("FilterExpression", "")
        compile_filter(expression)
        tags = {one["Key"]: one["Value"] for one in input.get("Tags", ())}
        id = "".join(secrets.choice(_LETTERS) for _ in range(52))
        group = Group(id, expression, insights, notifications, tags)

        def work(tx: Tx) -> None:
            if name == DEFAULT or self.groups.get(call.scope, name, tx) is not None:
                raise AwsError("InvalidRequestException", "Group already exists")
            self.groups.put(tx, call.scope, name, group, 0)

        await self.db.write(work)
        return {"Group": _shown(call, name, group)}

    async def GetGroup(self, call: Call, input: Input) -> Output:
        name, group = self._group(call, input)
        return {"Group": _shown(call, name, group)}

    async def GetGroups(self, call: Call, input: Input) -> Output:
        found = [(record.name, record.value) for record in self.groups.list(call.scope)]
        return {"Groups": [_shown(call, name, group) for name, group in [(DEFAULT, Group("")), *found]]}

    async def UpdateGroup(self, call: Call, input: Input) -> Output:
        name, group = self._group(call, input)
        if name == DEFAULT:
            raise AwsError("InvalidRequestException", "Default group cannot be updated")
        if "InsightsConfiguration" in input:
            insights, notifications = _insights(input)
            group = replace(group, insights=insights, notifications=notifications)
        if "FilterExpression" in input:
            compile_filter(input["FilterExpression"])
            group = replace(group, expression=input["FilterExpression"])
        await self.db.write(lambda tx: self.groups.put(tx, call.scope, name, group))
        return {"Group": _shown(call, name, group)}

    async def DeleteGroup(self, call: Call, input: Input) -> Output:
        name, _ = self._group(call, input)
        if name == DEFAULT:
            raise AwsError("InvalidRequestException", "Default group cannot be deleted")
        await self.db.write(lambda tx: self.groups.delete(tx, call.scope, name))
        return {}

    async def TagResource(self, call: Call, input: Input) -> Output:
        added = {one["Key"]: one["Value"] for one in input["Tags"]}

        def work(tx: Tx) -> None:
            resources, record = self._tagged(input["ResourceARN"], tx)
            tags = {**record.value.tags, **added}
            if len(tags) > _MOST_TAGS:
                raise AwsError("TooManyTagsException", "Too many tags", ResourceName=input["ResourceARN"])
            resources.put(tx, record.scope, record.name, replace(record.value, tags=tags))

        await self.db.write(work)
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        def work(tx: Tx) -> None:
            resources, record = self._tagged(input["ResourceARN"], tx)
            tags = {key: value for key, value in record.value.tags.items() if key not in input["TagKeys"]}
            resources.put(tx, record.scope, record.name, replace(record.value, tags=tags))

        await self.db.write(work)
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        _, record = self._tagged(input["ResourceARN"], None)
        return {"Tags": [{"Key": key, "Value": value} for key, value in record.value.tags.items()]}

    async def GetEncryptionConfig(self, call: Call, input: Input) -> Output:
        return {"EncryptionConfig": {"Status": "ACTIVE", "Type": "NONE"}}

    async def PutEncryptionConfig(self, call: Call, input: Input) -> Output:
        if input["Type"] != "NONE":
            raise not_implemented("PutEncryptionConfig with Type KMS")
        await self.db.write(lambda tx: self.encryption.put(tx, call.scope, "encryption", Encryption()))
        return await self.GetEncryptionConfig(call, {})

    def group_filter(self, call: Call, input: Input) -> str:
        if "GroupName" not in input and "GroupARN" not in input:
            return ""
        return self._group(call, input)[1].expression

    def _group(self, call: Call, input: Input) -> tuple[str, Group]:
        """The group that a call names, by name or ARN. Raises InvalidRequestException."""
        name = input.get("GroupName", "")
        if arn := input.get("GroupARN", ""):
            name, _, id = arn.partition(":group/")[2].partition("/")
        record = self.groups.get(call.scope, name)
        if record is None and name == DEFAULT:
            return name, Group("")
        if record is None or (arn and record.value.id != id):
            raise AwsError("InvalidRequestException", "Group not found")
        return name, record.value

    def _tagged(self, arn: str, tx: Tx | None) -> tuple[Resources[Any], Record[Any]]:
        """A group or a sampling rule by its ARN. Raises ResourceNotFoundException."""
        parts = arn.split(":", 5)
        kind, _, rest = parts[5].partition("/") if len(parts) == 6 else ("", "", "")
        resources: Resources[Any] = self.groups if kind == "group" else self.rules
        name = rest.partition("/")[0]
        record: Record[Any] | None = None
        if kind in ("group", "sampling-rule"):
            record = resources.get(f"{parts[4]}/{parts[3]}", name, tx)
        if record is None or (isinstance(record.value, Group) and rest != f"{name}/{record.value.id}"):
            raise AwsError("ResourceNotFoundException", "Resource not found", ResourceName=arn)
        assert isinstance(record.value, Group | SamplingRule)
        return resources, record


def _shown(call: Call, name: str, group: Group) -> dict[str, Any]:
    path = f"{name}/{group.id}" if group.id else name
    shown: dict[str, Any] = {
        "GroupName": name,
        "GroupARN": f"arn:aws:xray:{call.region}:{call.account}:group/{path}",
        "InsightsConfiguration": {
            "InsightsEnabled": group.insights,
            "NotificationsEnabled": group.notifications,
        },
    }
    return {**shown, **({"FilterExpression": group.expression} if group.expression else {})}


def _insights(input: Input) -> tuple[bool, bool]:
    """What is asked for; nobody looks for insights here."""
    given = input.get("InsightsConfiguration", {})
    if given.get("InsightsEnabled") or given.get("NotificationsEnabled"):
        raise not_implemented("X-Ray groups with InsightsEnabled")
    return False, False
