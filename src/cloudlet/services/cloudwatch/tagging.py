"""The tags of alarms, dashboards and insight rules."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch.base import Base, invalid, tags_of
from cloudlet.store import Resources, Tx

_TAGS_AT_MOST = 50


class Tagging(Base):
    """Operations on tags."""

    async def TagResource(self, call: Call, input: Input) -> Output:
        await self._change_tags(call, input["ResourceARN"], lambda tags: {**tags, **tags_of(input)})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = input["TagKeys"]
        await self._change_tags(
            call, input["ResourceARN"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        kind, scope, name = self._tagged(call, input["ResourceARN"])
        if (record := kind.get(scope, name)) is None:
            raise _no_such_resource(input["ResourceARN"])
        return {"Tags": [{"Key": key, "Value": value} for key, value in record.value.tags.items()]}

    async def _change_tags(self, call: Call, arn: str, change: Any) -> None:
        kind, scope, name = self._tagged(call, arn)

        def write(tx: Tx) -> None:
            record = kind.get(scope, name, tx)
            if record is None:
                raise _no_such_resource(arn)
            tags = change(record.value.tags)
            if len(tags) > _TAGS_AT_MOST:
                raise invalid(f"A resource can have at most {_TAGS_AT_MOST} tags.")
            kind.put(tx, scope, name, replace(record.value, tags=tags))

        await self.db.write(write)

    def _tagged(self, call: Call, arn: str) -> tuple[Resources[Any], str, str]:
        """What an ARN names: its kind, its scope and its name."""
        parts = arn.split(":", 6)
        if len(parts) >= 6 and parts[2] == "cloudwatch":
            if parts[5] == "alarm" and len(parts) == 7:
                return self.alarms, f"{parts[4]}/{parts[3]}", parts[6]
            if parts[5].startswith("dashboard/"):
                return self.dashboards, f"{parts[4]}/global", parts[5].partition("/")[2]
            if parts[5].startswith("insight-rule/"):
                return self.insight_rules, f"{parts[4]}/{parts[3]}", parts[5].partition("/")[2]
            raise not_implemented(f"{call.operation} of {arn}")
        raise invalid(f"The value {arn} for parameter ResourceARN is not an ARN of CloudWatch.")


def _no_such_resource(arn: str) -> AwsError:
    return AwsError("ResourceNotFoundException", "Unknown", ResourceType="", ResourceId=arn)
