"""The operations on event buses: their life, their policies, and the tags of everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.events.base import Base, page, tags_of
from cloudlet.services.events.errors import invalid, no_bus, not_found
from cloudlet.services.events.records import DEFAULT, Bus
from cloudlet.services.policies import is_resource_policy
from cloudlet.store import Tx

_SETTINGS = ("Description", "KmsKeyIdentifier", "DeadLetterConfig", "LogConfig")
_TAGS_AT_MOST = 50


class Buses(Base):
    """Operations on buses."""

    async def CreateEventBus(self, call: Call, input: Input) -> Output:
        name = input["Name"]
        if input.get("EventSourceName"):
            raise not_implemented("CreateEventBus with EventSourceName")
        _refuse_logs(input)
        if name == DEFAULT:
            raise AwsError("ResourceAlreadyExistsException", f"Event bus {name} already exists.")
        if "/" in name:
            raise invalid("Event bus name must not contain '/'.")
        now = self.clock.now()
        settings = {key: input[key] for key in _SETTINGS if key in input}
        bus = Bus(call.account, call.region, name, now, now, settings, tags=tags_of(input.get("Tags", [])))

        def create(tx: Tx) -> None:
            if self._buses.get(call.scope, name, tx) is not None:
                raise AwsError("ResourceAlreadyExistsException", f"Event bus {name} already exists.")
            self._buses.put(tx, call.scope, name, bus)

        await self._db.write(create)
        return {"EventBusArn": bus.arn, **settings}

    async def UpdateEventBus(self, call: Call, input: Input) -> Output:
        _refuse_logs(input)
        given = {key: input[key] for key in _SETTINGS if key in input}
        changed = await self._change_bus(
            self._bus(call, input.get("Name")), lambda bus: {"settings": {**bus.settings, **given}}
        )
        return {"Arn": changed.arn, "Name": changed.name, **changed.settings}

    async def DeleteEventBus(self, call: Call, input: Input) -> Output:
        name = input["Name"]
        if name == DEFAULT:
            raise invalid("Cannot delete event bus default.")

        def delete(tx: Tx) -> None:
            if self._rules.list(call.scope, f"{name}:", tx):
                raise invalid(f"Event bus {name} can't be deleted since it has rules.")
            self._buses.delete(tx, call.scope, name)

        await self._db.write(delete)
        return {}

    async def DescribeEventBus(self, call: Call, input: Input) -> Output:
        return _shown(self._bus(call, input.get("Name")))

    async def ListEventBuses(self, call: Call, input: Input) -> Output:
        found = {record.name: record.value for record in self._buses.list(call.scope)}
        found.setdefault(DEFAULT, Bus(call.account, call.region, DEFAULT))
        prefix = input.get("NamePrefix", "")
        names = sorted(name for name in found if name.startswith(prefix))
        start, end, token = page(names, input)
        hidden = ("KmsKeyIdentifier", "DeadLetterConfig", "LogConfig")
        shown = [
            {key: value for key, value in _shown(found[name]).items() if key not in hidden} for name in names[start:end]
        ]
        return {"EventBuses": shown, **token}

    async def PutPermission(self, call: Call, input: Input) -> Output:
        bus = self._bus(call, input.get("EventBusName"))
        if (text := input.get("Policy")) is not None:
            if any(name in input for name in ("Action", "Principal", "StatementId", "Condition")):
                raise invalid("You can't provide Policy with Action, Principal, StatementId or Condition.")
            if not is_resource_policy(text):
                raise invalid("The policy is not valid JSON with a Statement.")
            await self._change_bus(bus, lambda current: {"policy": text})
            return {}
        missing = [name for name in ("Action", "Principal", "StatementId") if name not in input]
        if missing:
            raise invalid(f"Parameter {missing[0]} is required.")
        if input["Action"] != "events:PutEvents":
            raise invalid("Provided value in parameter 'action' is not supported.")
        principal = input["Principal"]
        statement = {
            "Sid": input["StatementId"],
            "Effect": "Allow",
            "Principal": principal if principal == "*" else {"AWS": f"arn:aws:iam::{principal}:root"},
            "Action": input["Action"],
            "Resource": bus.arn,
        }
        if condition := input.get("Condition"):
            statement["Condition"] = {condition["Type"]: {condition["Key"]: condition["Value"]}}

        def put(current: Bus) -> dict[str, Any]:
            others = [one for one in _statements(current) if one.get("Sid") != statement["Sid"]]
            return {"policy": _text({"Version": "2012-10-17", "Statement": [*others, statement]})}

        await self._change_bus(bus, put)
        return {}

    async def RemovePermission(self, call: Call, input: Input) -> Output:
        bus, sid = self._bus(call, input.get("EventBusName")), input.get("StatementId")

        def remove(current: Bus) -> dict[str, Any]:
            if input.get("RemoveAllPermissions"):
                return {"policy": ""}
            known = _statements(current) if current.policy else []
            left = [one for one in known if one.get("Sid") != sid]
            if len(left) == len(known):
                raise not_found("Statement with the provided id does not exist.")
            return {"policy": _text({**_policy(current.policy), "Statement": left}) if left else ""}

        await self._change_bus(bus, remove)
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        return {"Tags": [{"Key": key, "Value": value} for key, value in self._tagged(input["ResourceARN"]).items()]}

    async def TagResource(self, call: Call, input: Input) -> Output:
        added = tags_of(input["Tags"])
        await self._retag(call, input["ResourceARN"], lambda tags: {**tags, **added})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._retag(
            call, input["ResourceARN"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    def _tagged(self, arn: str) -> dict[str, str]:
        """The tags of a rule or a bus. Raises ResourceNotFoundException."""
        parts = arn.split(":", 5)
        if len(parts) == 6 and parts[5].startswith("rule/"):
            rule = self._rule_of(arn)
            if rule is None:
                bus, _, name = parts[5].removeprefix("rule/").rpartition("/")
                raise not_found(f"Rule {name} does not exist on EventBus {bus or DEFAULT}.")
            return rule.tags
        if len(parts) == 6 and parts[5].startswith("event-bus/"):
            return self._bus(Call(parts[4], parts[3]), arn).tags
        raise not_found(f"The resource {arn} does not exist or cannot have tags.")

    async def _retag(self, call: Call, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        self._tagged(arn)

        def tags(of: Any) -> dict[str, Any]:
            changed = change(of.tags)
            if len(changed) > _TAGS_AT_MOST:
                raise AwsError("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
            return {"tags": changed}

        rule = self._rule_of(arn) if ":rule/" in arn else None
        if rule is not None:
            await self._change_rule(rule, tags)
        else:
            await self._change_bus(self._bus(call, arn), tags)

    async def _change_bus(self, bus: Bus, change: Callable[[Bus], dict[str, Any]]) -> Bus:
        """Set the fields that ``change`` makes of a bus as it is then."""
        now = self.clock.now()

        def edit(tx: Tx) -> Bus:
            record = self._buses.get(bus.scope, bus.name, tx)
            if record is None and bus.name != DEFAULT:
                raise no_bus(bus.name)
            current = record.value if record is not None else bus
            changed = replace(current, created=current.created or now, modified=now, **change(current))
            self._buses.put(tx, bus.scope, bus.name, changed)
            return changed

        return await self._db.write(edit)


def _refuse_logs(input: Input) -> None:
    if input.get("LogConfig", {}).get("Level", "OFF") != "OFF":
        raise not_implemented("event buses with LogConfig")


def _shown(bus: Bus) -> dict[str, Any]:
    shown: dict[str, Any] = {"Name": bus.name, "Arn": bus.arn, **bus.settings}
    if bus.policy:
        shown["Policy"] = bus.policy
    if bus.created:
        shown["CreationTime"] = bus.created
    if bus.modified:
        shown["LastModifiedTime"] = bus.modified
    return shown


def _policy(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _statements(bus: Bus) -> list[dict[str, Any]]:
    found = (_policy(bus.policy) or {}).get("Statement", []) if bus.policy else []
    return found if isinstance(found, list) else [found]


def _text(policy: Any) -> str:
    return json.dumps(policy, separators=(",", ":"))
