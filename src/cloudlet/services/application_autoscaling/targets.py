"""Scalable targets: what may be scaled, and how far; and what has been done about it."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.application_autoscaling.base import Base, chosen, no_target, page
from cloudlet.services.application_autoscaling.records import Target
from cloudlet.services.application_autoscaling.scalable import SCALABLES, validation
from cloudlet.services.scaling import capacity
from cloudlet.store import Tx

_ACTIVITIES = 100
_SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


class Targets(Base):
    """Operations on scalable targets."""

    async def RegisterScalableTarget(self, call: Call, input: Input) -> Output:
        key = self.key(input)
        scaled = SCALABLES[input["ScalableDimension"]]
        await self.current(call.scope, input)
        now = self.clock.now()

        def work(tx: Tx) -> Target:
            known = self.targets.get(call.scope, key, tx)
            if known is None:
                if "MinCapacity" not in input or "MaxCapacity" not in input:
                    raise validation("Min and max capacity must be given when a scalable target is registered.")
                members: dict[str, Any] = {
                    "ServiceNamespace": input["ServiceNamespace"],
                    "ResourceId": input["ResourceId"],
                    "ScalableDimension": input["ScalableDimension"],
                    "RoleARN": f"arn:aws:iam::{call.account}:role/aws-service-role/{scaled.role}",
                    "CreationTime": now,
                    "SuspendedState": dict.fromkeys(_SUSPENDED, False),
                    "ScalableTargetARN": f"arn:aws:application-autoscaling:{call.region}:{call.account}:"
                    f"scalable-target/0ec5{uuid.uuid4().hex}",
                }
                target = Target(members, dict(input.get("Tags") or {}))
            else:
                if input.get("Tags"):
                    raise validation(
                        "The scalable target that you tried to tag already exists. To update tags on an existing "
                        "scalable target, use the TagResource API."
                    )
                target = known.value
                members = dict(target.members)
            for name in ("MinCapacity", "MaxCapacity", "RoleARN"):
                if name in input:
                    members[name] = input[name]
            if "SuspendedState" in input:
                members["SuspendedState"] = {**members["SuspendedState"], **input["SuspendedState"]}
            if members["MinCapacity"] > members["MaxCapacity"]:
                raise validation("Max capacity cannot be less than min capacity.")
            if members["MinCapacity"] < 0:
                raise validation("Min capacity cannot be negative.")
            made = msgspec.structs.replace(target, members=members)
            self.targets.put(tx, call.scope, key, made)
            return made

        made = await self.db.write(work)
        return {"ScalableTargetARN": made.members["ScalableTargetARN"]}

    async def DescribeScalableTargets(self, call: Call, input: Input) -> Output:
        asked = input.get("ResourceIds")
        found = [
            one
            for one in chosen([record.value.members for record in self.targets.list(call.scope)], input)
            if not asked or one["ResourceId"] in asked
        ]
        return page("ScalableTargets", found, input)

    async def DeregisterScalableTarget(self, call: Call, input: Input) -> Output:
        key = self.key(input)
        self.target(call, input)
        for policy in self.policies.list(call.scope, f"{key}|"):
            await self.drop_policy(call.scope, policy.name)

        def work(tx: Tx) -> None:
            if not self.targets.delete(tx, call.scope, key):
                raise no_target(input)
            for action in self.actions.list(call.scope, f"{key}|", tx):
                self.actions.delete(tx, call.scope, action.name)

        await self.db.write(work)
        return {}

    async def DescribeScalingActivities(self, call: Call, input: Input) -> Output:
        every = [one for record in self.targets.list(call.scope) for one in record.value.activities]
        if not input.get("IncludeNotScaledActivities"):
            every = [one for one in every if "NotScaledReasons" not in one]
        every.sort(key=lambda one: -one["StartTime"])
        return page("ScalingActivities", chosen(every, input), input)

    async def TagResource(self, call: Call, input: Input) -> Output:
        await self._retag(call, input["ResourceARN"], lambda tags: {**tags, **input["Tags"]})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._retag(
            call, input["ResourceARN"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        return {"Tags": self._by_arn(call, input["ResourceARN"])[1].tags}

    async def _retag(self, call: Call, arn: str, change: Any) -> None:
        name, _ = self._by_arn(call, arn)

        def work(tx: Tx) -> None:
            record = self.targets.get(call.scope, name, tx)
            if record is not None:
                made = msgspec.structs.replace(record.value, tags=change(record.value.tags))
                self.targets.put(tx, call.scope, name, made)

        await self.db.write(work)

    def _by_arn(self, call: Call, arn: str) -> tuple[str, Target]:
        for record in self.targets.list(call.scope):
            if record.value.members["ScalableTargetARN"] == arn:
                return record.name, record.value
        raise AwsError("ResourceNotFoundException", "The specified resource doesn't exist.", ResourceName=arn)

    # What policies and schedules share

    async def drop_policy(self, scope: str, name: str) -> None:
        """Delete a policy and its alarms."""
        raise NotImplementedError

    async def scale(self, scope: str, key: str, current: int, wanted: int, cause: str) -> bool:
        """Set a target's capacity, within its bounds, and note that it was done; whether it was."""
        record = self.targets.get(scope, key)
        if record is None:
            return False
        members, now = record.value.members, self.clock.now()
        scaled = SCALABLES[members["ScalableDimension"]]
        new = capacity.bounded(wanted, members["MinCapacity"], members["MaxCapacity"])
        activity: dict[str, Any] = {
            "ActivityId": str(uuid.uuid4()),
            "ServiceNamespace": members["ServiceNamespace"],
            "ResourceId": members["ResourceId"],
            "ScalableDimension": members["ScalableDimension"],
            "Description": f"Setting {scaled.what} to {new}.",
            "Cause": cause,
            "StartTime": now,
        }
        if new == current:
            if wanted == current:
                return False
            code = "AlreadyAtMaxCapacity" if wanted > current else "AlreadyAtMinCapacity"
            bound = "MaxCapacity" if wanted > current else "MinCapacity"
            activity |= {
                "Description": "Attempting to scale due to alarm triggered",
                "StatusCode": "Unfulfilled",
                "EndTime": now,
                "NotScaledReasons": [{"Code": code, bound: members[bound], "CurrentCapacity": current}],
            }
            before = record.value.activities[0] if record.value.activities else {}
            # An alarm that stays on is not said anew every minute.
            if before.get("NotScaledReasons") != activity["NotScaledReasons"]:
                await self._note(scope, key, activity, None)
            return False
        try:
            await scaled.set(self.asker(scope), members["ResourceId"], new)
            activity |= {
                "StatusCode": "Successful",
                "StatusMessage": f"Successfully set {scaled.what} to {new}. Change successfully fulfilled by "
                f"{scaled.service}.",
            }
        except AwsError as error:
            activity |= {
                "StatusCode": "Failed",
                "StatusMessage": f"Failed to set {scaled.what} to {new}. Reason: {error.message}",
            }
        activity["EndTime"] = self.clock.now()
        is_done: bool = activity["StatusCode"] == "Successful"
        await self._note(scope, key, activity, (current, new) if is_done else None)
        return is_done

    async def _note(self, scope: str, key: str, activity: dict[str, Any], change: tuple[int, int] | None) -> None:
        now = self.clock.now()

        def work(tx: Tx) -> None:
            record = self.targets.get(scope, key, tx)
            if record is None:
                return
            made = msgspec.structs.replace(record.value, activities=(activity, *record.value.activities)[:_ACTIVITIES])
            if change is not None and change[1] > change[0]:
                made = msgspec.structs.replace(made, scaled_out=now, base=change[0])
            elif change is not None:
                made = msgspec.structs.replace(made, scaled_in=now)
            self.targets.put(tx, scope, key, made)

        await self.db.write(work)
