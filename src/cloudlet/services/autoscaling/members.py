"""The instances of groups: brought in and out by users, protected, judged."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import invalid, name_in, page, with_member
from cloudlet.services.autoscaling.groups import Groups, described_member, moment, resized
from cloudlet.services.autoscaling.records import Group, Member
from cloudlet.store import Tx


class Members(Groups):
    """Operations on instances of groups."""

    async def DescribeAutoScalingInstances(self, call: Call, input: Input) -> Output:
        wanted = input.get("InstanceIds")
        found = [
            {**described_member(one), "AutoScalingGroupName": record.name}
            for record in self.groups.list(call.scope)
            for one in record.value.instances
            if one.state != "Terminated" and (not wanted or one.id in wanted)
        ]
        return page("AutoScalingInstances", found, input)

    async def TerminateInstanceInAutoScalingGroup(self, call: Call, input: Input) -> Output:
        id, smaller = input["InstanceId"], input["ShouldDecrementDesiredCapacity"]
        name, group, member = self._held(call, id)
        if smaller and group.desired - 1 < group.members["MinSize"]:
            raise invalid(
                "Currently, desiredSize equals minSize ("
                + f"{group.members['MinSize']}). Terminating instance without "
                "replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag "
                "to false or lower group's min size."
            )
        cause = f"At {moment(self.clock.now())} instance {id} was taken out of service in response to a user request"
        key = await self.end_member(
            call.scope, name, member, f"{cause}{', shrinking the capacity' if smaller else ''}.", smaller
        )
        return {"Activity": self._shown(call, key)}

    async def SetInstanceHealth(self, call: Call, input: Input) -> Output:
        name, group, member = self._held(call, input["InstanceId"])
        status = input["HealthStatus"].capitalize()
        if status not in ("Healthy", "Unhealthy"):
            raise invalid("Valid instance health states are: [Healthy, Unhealthy].")
        grace = group.members["HealthCheckGracePeriod"]
        if input.get("ShouldRespectGracePeriod", True) and self.clock.now() < member.in_service + grace:
            return {}
        await self.judge(call.scope, name, member.id, status, "a user health-check.")
        return {}

    async def SetInstanceProtection(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])
        group = self.group(call.scope, name)
        known = {one.id for one in group.instances}
        for id in input["InstanceIds"]:
            if id not in known:
                raise invalid(f"The instance {id} is not part of Auto Scaling group {name}.")
        for id in input["InstanceIds"]:
            await self.change_member(call.scope, name, id, is_protected=input["ProtectedFromScaleIn"])
        self.look_after(call.scope, name)
        return {}

    async def AttachInstances(self, call: Call, input: Input) -> Output:
        name, ids = name_in(call, input["AutoScalingGroupName"]), input.get("InstanceIds") or []
        group = self.group(call.scope, name)
        if group.desired + len(ids) > group.members["MaxSize"]:
            raise invalid(
                f"AutoScalingGroup {name} has max-size={group.members['MaxSize']}, and this request would make it "
                f"{group.desired + len(ids)}."
            )
        new = []
        for id in ids:
            if (held := self.holder(call.scope, id)) is not None:
                raise invalid(f"The instance {id} is already part of AutoScalingGroup:{held[0]}")
            try:
                found = await self.ask(call.scope, "ec2", "DescribeInstances", {"InstanceIds": [id]})
            except AwsError as error:
                raise invalid(f"Invalid Instance ID(s): {error.message}") from None
            facts = found["Reservations"][0]["Instances"][0]
            if facts["State"]["Name"] != "running":
                raise invalid(
                    f"Invalid Instance ID(s): {id} is not in correct state. Instance(s) must be in running state."
                )
            zone, now = facts["Placement"]["AvailabilityZone"], self.clock.now()
            new.append(Member(id, zone, facts["InstanceType"], now, {}, runs=True))
        for at, one in enumerate(new):
            cause = f"At {moment(self.clock.now())} an instance was added in response to user request."
            description = f"Attaching an existing EC2 instance: {one.id}"
            key = await self.begin_activity(call.scope, name, description, cause, one.zone)
            new[at] = msgspec.structs.replace(one, activity=key)

        def change(group: Group) -> Group:
            more = resized(group, group.desired + len(new), self.clock.now(), "user request to attach instances")
            return msgspec.structs.replace(more, instances=(*more.instances, *new))

        await self.change(call.scope, name, change)
        self.look_after(call.scope, name)
        return {}

    async def DetachInstances(self, call: Call, input: Input) -> Output:
        name, ids = name_in(call, input["AutoScalingGroupName"]), input.get("InstanceIds") or []
        activities, members = [], self._chosen(call, name, ids)
        self._smaller(self.group(call.scope, name), input, len(ids))
        for member in members:
            cause = f"At {moment(self.clock.now())} instance {member.id} was detached in response to a user request."
            await self.deregister(call.scope, name, member)
            key = await self.begin_activity(
                call.scope, name, f"Detaching EC2 instance: {member.id}", cause, member.zone
            )
            await self.end_activity(call.scope, key)
            activities.append(self._shown(call, key))

        def change(group: Group) -> Group:
            left = tuple(one for one in group.instances if one.id not in ids)
            return self._smaller(msgspec.structs.replace(group, instances=left), input, len(ids))

        await self.change(call.scope, name, change)
        self.look_after(call.scope, name)
        return {"Activities": activities}

    async def EnterStandby(self, call: Call, input: Input) -> Output:
        name, ids = name_in(call, input["AutoScalingGroupName"]), input.get("InstanceIds") or []
        activities, members = [], self._chosen(call, name, ids)
        for member in members:
            if member.state != "InService":
                raise invalid(f"The instance {member.id} is not in InService.")
        self._smaller(self.group(call.scope, name), input, len(ids))
        for member in members:
            cause = f"At {moment(self.clock.now())} instance {member.id} was moved to standby by a user request."
            await self.deregister(call.scope, name, member)
            key = await self.begin_activity(
                call.scope, name, f"Moving EC2 instance to Standby: {member.id}", cause, member.zone
            )
            await self.end_activity(call.scope, key)
            await self.change_member(call.scope, name, member.id, state="Standby", is_registered=False)
            activities.append(self._shown(call, key))
        await self.change(call.scope, name, lambda group: self._smaller(group, input, len(ids)))
        self.look_after(call.scope, name)
        return {"Activities": activities}

    async def ExitStandby(self, call: Call, input: Input) -> Output:
        name, ids = name_in(call, input["AutoScalingGroupName"]), input.get("InstanceIds") or []
        activities, now = [], self.clock.now()
        members = self._chosen(call, name, ids)
        group = self.group(call.scope, name)
        if group.desired + len(ids) > group.members["MaxSize"]:
            raise invalid(f"AutoScalingGroup {name} would exceed its max size {group.members['MaxSize']}.")
        for member in members:
            if member.state != "Standby":
                raise invalid(f"The instance {member.id} is not in Standby.")
        for member in members:
            cause = f"At {moment(now)} instance {member.id} was moved out of standby in response to a user request."
            key = await self.begin_activity(
                call.scope, name, f"Moving EC2 instance out of Standby: {member.id}", cause, member.zone
            )
            activities.append(self._shown(call, key))

            def change(group: Group, id: str = member.id, key: str = key) -> Group:
                made = with_member(group, id, state="Pending", activity=key, in_service=0.0)
                return resized(made, made.desired + 1, now, "user request to leave standby")

            await self.change(call.scope, name, change)
        self.look_after(call.scope, name)
        return {"Activities": activities}

    # What the keeper does

    async def end_member(self, scope: str, name: str, member: Member, cause: str, smaller: bool = False) -> str:
        """Take an instance out of service and begin to end it: the activity's name in the store."""
        raise NotImplementedError

    async def deregister(self, scope: str, name: str, member: Member) -> None:
        """Take an instance out of the group's target groups."""
        raise NotImplementedError

    async def judge(self, scope: str, name: str, id: str, status: str, why: str) -> None:
        """Note an instance's health; one that is not healthy is replaced."""
        cause = f"At {moment(self.clock.now())} an instance was taken out of service in response to {why}"
        await self.change_member(scope, name, id, health=status, cause=cause if status == "Unhealthy" else "")
        self.look_after(scope, name)

    # Parts

    def member(self, scope: str, name: str, id: str, tx: Tx | None = None) -> Member:
        """An instance of a group. Raises ValidationError."""
        for one in self.group(scope, name, tx).instances:
            if one.id == id:
                return one
        raise invalid(f"The instance {id} is not part of Auto Scaling group {name}.")

    def _held(self, call: Call, id: str) -> tuple[str, Group, Member]:
        found = self.holder(call.scope, id)
        if found is None or found[2].state == "Terminated":
            raise invalid(f"Instance Id not found - No managed instance found for instance ID {id}")
        return found

    def _chosen(self, call: Call, name: str, ids: list[str]) -> list[Member]:
        return [self.member(call.scope, name, id) for id in ids]

    def _smaller(self, group: Group, input: Input, count: int) -> Group:
        if not input["ShouldDecrementDesiredCapacity"]:
            return group
        desired = group.desired - count
        if desired < group.members["MinSize"]:
            raise invalid(
                f"AutoScalingGroup {group.members['AutoScalingGroupName']} has min-size={group.members['MinSize']}, "
                f"desired-capacity={group.desired}, and this request would reduce it below its min size."
            )
        return resized(group, desired, self.clock.now(), "user request")

    def _shown(self, call: Call, key: str) -> dict[str, Any]:
        record = self.activities.get(call.scope, key)
        assert record is not None
        return record.value.members
