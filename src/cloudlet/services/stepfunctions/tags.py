"""The operations on tags, of state machines and of activities."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.stepfunctions.callbacks import Callbacks
from cloudlet.services.stepfunctions.engine import scope_of
from cloudlet.services.stepfunctions.errors import invalid_arn
from cloudlet.store import Tx

_MOST = 50


class Tags(Callbacks):
    """Operations on tags."""

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        tags = self._tags(input["resourceArn"])
        return {"tags": [{"key": key, "value": value} for key, value in tags.items()]}

    async def TagResource(self, call: Call, input: Input) -> Output:
        added = {tag["key"]: tag.get("value", "") for tag in input["tags"]}
        await self._change(input["resourceArn"], lambda tags: {**tags, **added})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["tagKeys"])
        await self._change(
            input["resourceArn"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    def _tags(self, its_arn: str, tx: Tx | None = None) -> dict[str, str]:
        kind, _, name = its_arn.split(":", 5)[-1].partition(":") if its_arn.count(":") >= 6 else ("", "", "")
        if kind not in ("stateMachine", "activity"):
            raise invalid_arn(its_arn, "Resource type not valid in this context")
        scope = scope_of(its_arn)
        record = self.machines.get(scope, name, tx) if kind == "stateMachine" else self.activities.get(scope, name, tx)
        if record is None:
            raise AwsError("ResourceNotFound", f"Resource not found: '{its_arn}'")
        return record.value.tags

    async def _change(self, its_arn: str, changed: Callable[[dict[str, str]], dict[str, str]]) -> None:
        scope = scope_of(its_arn) if its_arn.count(":") >= 6 else ""

        def change(tx: Tx) -> None:
            tags = changed(self._tags(its_arn, tx))
            if len(tags) > _MOST:
                raise AwsError("TooManyTags", f"Too Many Tags: '{its_arn}'", resourceName=its_arn)
            _, kind, name = its_arn.rsplit(":", 2)
            if kind == "stateMachine":
                machine = self.machines.get(scope, name, tx)
                assert machine is not None
                self.machines.put(tx, scope, name, replace(machine.value, tags=tags))
            else:
                activity = self.activities.get(scope, name, tx)
                assert activity is not None
                self.activities.put(tx, scope, name, replace(activity.value, tags=tags))

        await self.db.write(change)
