"""What all operations of EC2 Auto Scaling stand on."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.records import (
    Action,
    Activity,
    Configuration,
    Group,
    Hook,
    Member,
    Notification,
    Policy,
)
from cloudlet.services.pages import page_at
from cloudlet.store import Tx

SELF = "autoscaling.amazonaws.com"
_MOST_ACTIVITIES = 100  # of a group that are remembered


class Base(api.Service):
    """The state of the service."""

    name = "autoscaling"

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name)
        self.groups = self.db.resources(Group)
        self.configurations = self.db.resources(Configuration)
        self.hooks = self.db.resources(Hook)
        self.policies = self.db.resources(Policy)
        self.actions = self.db.resources(Action)
        self.notifications = self.db.resources(Notification)
        self.activities = self.db.resources(Activity)

    def look_after(self, scope: str, name: str) -> None:
        """Compare a group with what it should be soon."""
        raise NotImplementedError

    def group(self, scope: str, name: str, tx: Tx | None = None, words: str = "") -> Group:
        """A group. Raises ValidationError."""
        record = self.groups.get(scope, name, tx)
        if record is None:
            raise invalid(words or "AutoScalingGroup name not found - null")
        return record.value

    async def change(self, scope: str, name: str, fn: Callable[[Group], Group]) -> Group | None:
        """Change a group as it is when it is this change's turn; None when it is gone."""

        def work(tx: Tx) -> Group | None:
            record = self.groups.get(scope, name, tx)
            if record is None:
                return None
            made = fn(record.value)
            if made != record.value:
                self.groups.put(tx, scope, name, made)
            return made

        return await self.db.write(work)

    async def change_member(self, scope: str, name: str, id: str, was: str = "", **changes: Any) -> bool:
        """Change one instance of a group, if its state still is what it ``was``; whether it has been changed."""
        done = False

        def work(group: Group) -> Group:
            nonlocal done
            done = any(one.id == id and was in ("", one.state) for one in group.instances)
            return with_member(group, id, **changes) if done else group

        await self.change(scope, name, work)
        return done

    def holder(self, scope: str, id: str, tx: Tx | None = None) -> tuple[str, Group, Member] | None:
        """The group that an instance is in."""
        for record in self.groups.list(scope, "", tx):
            for member in record.value.instances:
                if member.id == id:
                    return record.name, record.value, member
        return None

    def put_activity(self, tx: Tx, scope: str, group: str, members: dict[str, Any]) -> str:
        """Store an activity, new or changed; the oldest are forgotten."""
        key = f"{group}/{int(members['StartTime'] * 1000):015d}-{members['ActivityId']}"
        self.activities.put(tx, scope, key, Activity(members))
        known = self.activities.list(scope, f"{group}/", tx)
        for record in known[: max(0, len(known) - _MOST_ACTIVITIES)]:
            self.activities.delete(tx, scope, record.name)
        return key

    async def begin_activity(self, scope: str, group: str, description: str, cause: str, zone: str = "") -> str:
        """Store an activity that is under way: its name in the store."""
        members = self.new_activity(scope, group, description, cause, zone)
        return await self.db.write(lambda tx: self.put_activity(tx, scope, group, members))

    def new_activity(self, scope: str, group: str, description: str, cause: str, zone: str) -> dict[str, Any]:
        """An activity that is under way."""
        details = f'{{"Availability Zone":"{zone}"}}' if zone else "{}"
        return {
            "ActivityId": str(uuid.uuid4()),
            "AutoScalingGroupName": group,
            "AutoScalingGroupARN": group_arn(scope, group),
            "Description": description,
            "Cause": cause,
            "StartTime": self.clock.now(),
            "StatusCode": "InProgress",
            "Progress": 50,
            "Details": details,
        }

    async def end_activity(self, scope: str, key: str, code: str = "Successful", message: str = "") -> None:
        """An activity has ended."""
        now = self.clock.now()

        def work(tx: Tx) -> None:
            record = self.activities.get(scope, key, tx)
            if record is not None and "EndTime" not in record.value.members:
                members = {**record.value.members, "EndTime": now, "StatusCode": code, "Progress": 100}
                members |= {"StatusMessage": message} if message else {}
                self.activities.put(tx, scope, key, Activity(members))

        await self.db.write(work)

    async def ask(self, scope: str, service: str, operation: str, input: Input) -> Output:
        """Call another service as this one. Raises AwsError."""
        account, region = scope.split("/")
        return await self.cloud.call(service, operation, input, account=account, region=region, principal=SELF)


def with_member(group: Group, id: str, **changes: Any) -> Group:
    """The group with one instance changed."""
    return msgspec.structs.replace(
        group,
        instances=tuple(msgspec.structs.replace(one, **changes) if one.id == id else one for one in group.instances),
    )


def group_arn(scope: str, name: str, id: str = "") -> str:
    """A group's ARN; its middle is made of its name."""
    account, region = scope.split("/")
    id = id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{scope} {name}"))
    return f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:{id}:autoScalingGroupName/{name}"


def invalid(message: str) -> AwsError:
    """ValidationError."""
    return AwsError("ValidationError", message)


def page(key: str, items: list[Any], input: Input, most: int = 50) -> Output:
    """One page of a listing; tokens are positions. Raises InvalidNextToken."""
    refusal = AwsError("InvalidNextToken", "The NextToken value is not valid.")
    size = min(input.get("MaxRecords") or most, 100)
    return page_at(key, items, input.get("NextToken"), size, refusal, "NextToken")


def name_in(call: Call, given: str) -> str:
    """A group's name from its name or ARN."""
    return given.partition("autoScalingGroupName/")[2] if given.startswith("arn:") else given
