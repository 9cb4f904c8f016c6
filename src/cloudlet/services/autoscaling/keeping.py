"""Groups kept as they should be: instances launched, brought into service, ended and replaced."""

from __future__ import annotations

import asyncio
import logging
import uuid
from functools import partial
from typing import Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.control.reconcile import Reconciler, Step
from cloudlet.errors import AwsError
from cloudlet.services.autoscaling import controller
from cloudlet.services.autoscaling.base import with_member
from cloudlet.services.autoscaling.configurations import to_run
from cloudlet.services.autoscaling.controller import LAUNCHING, TERMINATING, Plan
from cloudlet.services.autoscaling.groups import moment
from cloudlet.services.autoscaling.mixing import is_next_spot, overridden, override_of, template_of, weight_of
from cloudlet.services.autoscaling.records import COUNTED, Group, Member, Wait
from cloudlet.services.autoscaling.telling import Telling
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.autoscaling")

_LAUNCHES = uuid.UUID("6f1f2c5e-7f0f-4b39-9d2b-3f6f0a6d9c51")
_ENDED = ("stopping", "stopped", "shutting-down", "terminated")


class Keeping(Telling):
    """The controller at work."""

    async def start(self) -> None:
        await super().start()
        self._dirty: dict[tuple[str, str], None] = {(one.scope, one.name): None for one in self.groups.all()}
        self._wakes: dict[tuple[str, str], Timer] = {}
        self._news: dict[tuple[str, str], list[asyncio.Future[None]]] = {}
        self._awaited: dict[tuple[str, str], list[asyncio.Event]] = {}  # groups whose end is awaited
        self._watching = False
        self._graces: tuple[float, Timer] | None = None  # when the next grace period is over
        self._reconciler: Reconciler | None = None
        if self._dirty:
            self.cloud.spawn(self._resume(), "Auto Scaling groups are taken up")

    async def stop(self) -> None:
        if self._reconciler is not None:
            await self._reconciler.stop()
        for timer in [*self._wakes.values(), *([self._graces[1]] if self._graces else [])]:
            timer.cancel()
        await super().stop()

    async def _resume(self) -> None:
        """See what has become of instances while nobody looked."""
        await self._watch()
        for record in self.groups.all():
            await self.check_health(record.scope, record.name)
            self.look_after(record.scope, record.name)

    async def check_health(self, scope: str, name: str) -> None:
        for member in self.group(scope, name).instances:
            if member.state != "Terminated":
                await self._instance_changed(scope, member.id, await self._state(scope, member.id))

    async def _watch(self) -> None:
        """Hear of instances' states and of targets' health, from the first group on."""
        if self._watching:
            return
        self._watching = True
        ec2: Any = await self.cloud.service("ec2")
        ec2.watch_instances(self._instance_changed)
        if self._uses_targets():
            await self._watch_health()

    def look_after(self, scope: str, name: str) -> None:
        for news in self._news.pop((scope, name), ()):
            if not news.done():
                news.set_result(None)
        self._dirty[scope, name] = None
        if self._reconciler is None:
            self._reconciler = Reconciler("autoscaling", self._plan, self.clock)
            self._reconciler.start()
        self._reconciler.trigger()

    def _plan(self) -> list[Step]:
        steps = []
        for scope, name in list(self._dirty):
            record = self.groups.get(scope, name)
            if record is None:
                del self._dirty[scope, name]
                continue
            plan = controller.plan(record.value, record.value.members["AvailabilityZones"], self.clock.now())
            self._wake_later(scope, name, plan.wake)
            is_gone = record.value.status and not record.value.instances
            if plan.is_empty and not is_gone:
                del self._dirty[scope, name]
            else:
                steps.append(Step(f"{scope} {name}", partial(self._carry_out, scope, name, plan)))
        return steps

    def _wake_later(self, scope: str, name: str, when: float | None) -> None:
        if (timer := self._wakes.pop((scope, name), None)) is not None:
            timer.cancel()
        if when is not None:
            self._wakes[scope, name] = self.clock.call_at(when, lambda: self._look(scope, name))

    def _look(self, scope: str, name: str) -> None:
        self.cloud.spawn(self._time_out(scope, name), f"lifecycle hooks of {name}")

    async def _time_out(self, scope: str, name: str) -> None:
        """Hooks that nobody has answered in time have their default result."""
        record = self.groups.get(scope, name)
        for member in record.value.instances if record is not None else ():
            for wait in member.waits:
                if wait.due <= self.clock.now():
                    hook = self.hooks.get(scope, f"{name}/{wait.hook}")
                    result = hook.value.members["DefaultResult"] if hook else "ABANDON"
                    await self.proceed(scope, name, member.id, wait.token, result)
        self.look_after(scope, name)

    async def _carry_out(self, scope: str, name: str, plan: Plan) -> None:
        await self._watch()
        if plan.forget:
            gone = {one.id for one in plan.forget}
            await self.change(
                scope,
                name,
                lambda group: msgspec.structs.replace(
                    group, instances=tuple(one for one in group.instances if one.id not in gone)
                ),
            )
        for member, cause in plan.terminate:
            await self.end_member(scope, name, member, cause)
        await asyncio.gather(*(self._enter(scope, name, member) for member in plan.enter))
        await asyncio.gather(*(self._leave(scope, name, member) for member in plan.leave))
        for zone in plan.launch:
            if not await self._launch(scope, name, zone):
                break  # the others would fail as well; all of them are tried again later
        record = self.groups.get(scope, name)
        if record is not None and record.value.status and not record.value.instances:
            await self._forget(scope, name)
        self.look_after(scope, name)

    async def _forget(self, scope: str, name: str) -> None:
        """A group that was deleted, and whose instances are gone."""

        def work(tx: Any) -> None:
            self.groups.delete(tx, scope, name)
            for kind in (self.hooks, self.policies, self.actions, self.notifications, self.activities):
                for record in kind.list(scope, f"{name}/", tx):
                    kind.delete(tx, scope, record.name)

        await self.drop_policies(scope, name)
        await self.db.write(work, long=True)
        for waiting in self._awaited.pop((scope, name), ()):
            waiting.set()

    async def gone(self, scope: str, name: str) -> None:
        """Wait until a group that was deleted is gone, with its instances."""
        if self.groups.get(scope, name) is not None:
            done = asyncio.Event()
            self._awaited.setdefault((scope, name), []).append(done)
            await done.wait()

    async def drop_policies(self, scope: str, name: str) -> None:
        """Delete the alarms of a group's policies."""
        raise NotImplementedError

    # Up

    async def _launch(self, scope: str, name: str, zone: str) -> bool:
        """Launch an instance; False where that failed."""
        group = self.group(scope, name)
        cause = (
            f"{group.asked} At {moment(self.clock.now())} an instance was started in response to a difference between "
            "desired and actual capacity, increasing the capacity."
        )
        key = await self.begin_activity(scope, name, "Launching a new EC2 instance", cause, zone)
        try:
            is_spot = is_next_spot(group.members, [one for one in group.instances if one.state in COUNTED])
            asked = await self._to_run(scope, name, group, zone, is_spot)
            made = (await self.ask(scope, "ec2", "RunInstances", asked))["Instances"][0]
        except AwsError as error:
            message = f"{error.message} Launching EC2 instance failed."
            await self.end_activity(scope, key, "Failed", message)
            now = self.clock.now()
            await self.change(
                scope, name, lambda one: msgspec.structs.replace(one, failures=one.failures + 1, failed=now)
            )
            more = {**self.activity_named(scope, key), "StatusMessage": message}
            await self.notify(scope, name, "autoscaling:EC2_INSTANCE_LAUNCH_ERROR", more)
            await self.emit(scope, name, "EC2 Instance Launch Unsuccessful", {**more, "EC2InstanceId": ""})
            return False
        member = Member(
            made["InstanceId"],
            zone,
            made["InstanceType"],
            self.clock.now(),
            await self._source(scope, group),
            is_protected=group.members["NewInstancesProtectedFromScaleIn"],
            is_spot=is_spot,
            weight=weight_of(override_of(group.members)),
            activity=key,
        )
        await self._rename(scope, key, f"Launching a new EC2 instance: {member.id}")
        await self.change(
            scope,
            name,
            lambda one: msgspec.structs.replace(
                one, instances=(*one.instances, member), launches=one.launches + 1, failures=0
            ),
        )
        # It may run already: then nobody will tell of it any more.
        await self._instance_changed(scope, member.id, await self._state(scope, member.id))
        return True

    async def _to_run(self, scope: str, name: str, group: Group, zone: str, is_spot: bool) -> dict[str, Any]:
        """What RunInstances is asked. Raises AwsError."""
        members = group.members
        if (configuration := members.get("LaunchConfigurationName")) is not None:
            record = self.configurations.get(scope, configuration)
            if record is None:
                raise AwsError("ValidationError", f"The launch configuration {configuration} does not exist.")
            asked = to_run(record.value.members)
        else:
            template = template_of(members)
            ask = {key: template[key] for key in ("LaunchTemplateId",) if key in template}
            ask = ask or {"LaunchTemplateName": template["LaunchTemplateName"]}
            asked = {"LaunchTemplate": {**ask, "Version": template.get("Version", "$Default")}}
            asked |= overridden(members, is_spot)
        subnets = [one for one in members["VPCZoneIdentifier"].split(",") if one]
        if subnets:
            found = (await self.ask(scope, "ec2", "DescribeSubnets", {"SubnetIds": subnets}))["Subnets"]
            subnet = next(one["SubnetId"] for one in found if one["AvailabilityZone"] == zone)
            if asked.get("NetworkInterfaces"):
                asked["NetworkInterfaces"] = [{**asked["NetworkInterfaces"][0], "SubnetId": subnet}]
            else:
                asked["SubnetId"] = subnet
        else:
            asked["Placement"] = {"AvailabilityZone": zone}
        tags = {key: value for key, (value, launched) in group.tags.items() if launched}
        tags["aws:autoscaling:groupName"] = name
        specification = {
            "ResourceType": "instance",
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        return {
            **asked,
            "MinCount": 1,
            "MaxCount": 1,
            # The same for this very launch: after a kill it finds the instance that it has started.
            "ClientToken": str(uuid.uuid5(_LAUNCHES, f"{scope} {name} {group.created} {group.launches}")),
            "TagSpecifications": [specification],
        }

    async def _source(self, scope: str, group: Group) -> dict[str, Any]:
        """What an instance was launched from, as it shows it: the version by its number."""
        if "LaunchConfigurationName" in group.members:
            return {"LaunchConfigurationName": group.members["LaunchConfigurationName"]}
        template = template_of(group.members)
        ask = {"LaunchTemplateId": template["LaunchTemplateId"], "Versions": [template.get("Version", "$Default")]}
        found = (await self.ask(scope, "ec2", "DescribeLaunchTemplateVersions", ask))["LaunchTemplateVersions"][0]
        names = {key: found[key] for key in ("LaunchTemplateId", "LaunchTemplateName")}
        return {"LaunchTemplate": {**names, "Version": str(found["VersionNumber"])}}

    async def _enter(self, scope: str, name: str, member: Member) -> None:
        """An instance runs, or its hook has let it go on."""
        if member.state == "Pending" and (hooks := self._hooks_of(scope, name, LAUNCHING)):
            await self._wait(scope, name, member, hooks, "Pending:Wait")
            return
        await self.register(scope, name, member)
        now = self.clock.now()
        if not await self.change_member(
            scope, name, member.id, was=member.state, state="InService", in_service=now, is_registered=True
        ):
            # Meanwhile somebody wants it ended.
            await self.deregister(scope, name, member)
            return
        if member.activity:
            await self.end_activity(scope, member.activity)
        more = self.activity_of(scope, member)
        await self.notify(scope, name, "autoscaling:EC2_INSTANCE_LAUNCH", {**more, "EC2InstanceId": member.id})
        await self.emit(scope, name, "EC2 Instance Launch Successful", {**more, "EC2InstanceId": member.id})

    # Down

    async def end_member(self, scope: str, name: str, member: Member, cause: str, smaller: bool = False) -> str:
        activity = self.new_activity(scope, name, f"Terminating EC2 instance: {member.id}", cause, member.zone)

        def work(tx: Tx) -> tuple[str, str]:
            group = self.group(scope, name, tx)
            known = self.member(scope, name, member.id, tx)
            if controller.is_going(known):
                return known.activity, ""
            key = self.put_activity(tx, scope, name, activity)
            made = with_member(group, member.id, state="Terminating", activity=key, cause=cause, waits=())
            if smaller:
                made = msgspec.structs.replace(made, desired=made.desired - 1)
            self.groups.put(tx, scope, name, made)
            return key, known.activity

        key, before = await self.db.write(work)
        if before:
            await self.end_activity(scope, before, "Cancelled")
        self.look_after(scope, name)
        return key

    async def _leave(self, scope: str, name: str, member: Member) -> None:
        """Take an instance out of its target groups, let a hook wait, then end it."""
        if member.state == "Terminating":
            await self.deregister(scope, name, member)
            hooks = self._hooks_of(scope, name, TERMINATING)
            if hooks and not self.group(scope, name).status:
                await self._wait(scope, name, member, hooks, "Terminating:Wait")
                return
        try:
            await self.ask(
                scope,
                "ec2",
                "ModifyInstanceAttribute",
                {"InstanceId": member.id, "DisableApiTermination": {"Value": False}},
            )
            await self.ask(scope, "ec2", "TerminateInstances", {"InstanceIds": [member.id]})
        except AwsError as error:
            if error.code != "InvalidInstanceID.NotFound":
                raise  # it is tried again
            log.debug("%s is gone already: %s", member.id, error)
        await self.change_member(scope, name, member.id, is_ending=True, is_registered=False)
        await self._instance_changed(scope, member.id, await self._state(scope, member.id))

    async def proceed(self, scope: str, name: str, id: str, token: str, result: str) -> None:
        member = self.member(scope, name, id)
        if member.state == "Pending:Wait" and result == "ABANDON":
            cause = f"At {moment(self.clock.now())} an instance was taken out of service in response to an abandoned "
            await self.end_member(scope, name, member, f"{cause}lifecycle action.")
            return

        def work(group: Group) -> Group:
            one = next((one for one in group.instances if one.id == id), None)
            if one is None or all(wait.token != token for wait in one.waits):
                return group
            left = tuple(wait for wait in one.waits if wait.token != token and result != "ABANDON")
            state = one.state if left else f"{one.state.partition(':')[0]}:Proceed"
            return with_member(group, id, waits=left, state=state)

        await self.change(scope, name, work)
        self.look_after(scope, name)

    # Hooks

    def _hooks_of(self, scope: str, name: str, transition: str) -> list[dict[str, Any]]:
        found = [record.value.members for record in self.hooks.list(scope, f"{name}/")]
        return [one for one in found if one["LifecycleTransition"] == transition]

    async def _wait(self, scope: str, name: str, member: Member, hooks: list[dict[str, Any]], state: str) -> None:
        """Have an instance wait for all of its transition's hooks, and tell of each."""
        now = self.clock.now()
        waits = tuple(
            Wait(
                one["LifecycleHookName"],
                str(uuid.uuid4()),
                now + one["HeartbeatTimeout"],
                now + one["GlobalTimeout"],
            )
            for one in hooks
        )
        if await self.change_member(scope, name, member.id, was=member.state, state=state, waits=waits):
            for hook, wait in zip(hooks, waits, strict=True):
                await self.tell_of_action(scope, name, member, hook, wait.token)

    # Targets

    async def register(self, scope: str, name: str, member: Member) -> None:
        """Register an instance with the group's target groups."""
        group = self.group(scope, name)
        if "AddToLoadBalancer" in group.suspended:
            return
        for arn in group.members["TargetGroupARNs"]:
            await self._try(scope, "RegisterTargets", arn, member.id)
        if group.members["TargetGroupARNs"]:
            await self._watch_health()

    async def deregister(self, scope: str, name: str, member: Member) -> None:
        for arn in self.group(scope, name).members["TargetGroupARNs"]:
            await self._try(scope, "DeregisterTargets", arn, member.id)

    async def move_targets(self, scope: str, name: str, before: list[str], after: list[str]) -> None:
        for member in self.group(scope, name).instances:
            if member.state == "InService":
                for arn in after:
                    if arn not in before:
                        await self._try(scope, "RegisterTargets", arn, member.id)
                for arn in before:
                    if arn not in after:
                        await self._try(scope, "DeregisterTargets", arn, member.id)
        await self._watch_health()

    async def _try(self, scope: str, operation: str, arn: str, id: str) -> None:
        try:
            await self.ask(scope, "elbv2", operation, {"TargetGroupArn": arn, "Targets": [{"Id": id}]})
        except AwsError as error:
            log.warning("%s of %s: %s", operation, id, error)

    def _uses_targets(self) -> bool:
        return any(record.value.members["TargetGroupARNs"] for record in self.groups.all())

    async def _watch_health(self) -> None:
        if getattr(self, "_heard", None) is None and self._uses_targets():
            elbv2: Any = await self.cloud.service("elbv2")
            self._heard = elbv2.watch_health(lambda: self.cloud.spawn(self._see_targets(), "targets of groups"))

    def _see_targets_at(self, when: float) -> None:
        """Look again when a grace period is over; the earliest one counts, and looks for the next."""
        if self._graces is not None and self._graces[0] <= when:
            return
        if self._graces is not None:
            self._graces[1].cancel()
        self._graces = when, self.clock.call_at(when, self._graces_over)

    def _graces_over(self) -> None:
        self._graces = None
        self.cloud.spawn(self._see_targets(), "targets of groups")

    async def _see_targets(self) -> None:
        """Instances that a load balancer finds unhealthy are replaced, where the group asks load balancers."""
        for record in self.groups.all():
            group, now = record.value, self.clock.now()
            if "ELB" not in group.members["HealthCheckType"] or "HealthCheck" in group.suspended:
                continue
            bad: set[str] = set()
            for arn in group.members["TargetGroupARNs"]:
                try:
                    found = await self.ask(record.scope, "elbv2", "DescribeTargetHealth", {"TargetGroupArn": arn})
                except AwsError:
                    continue
                states = found["TargetHealthDescriptions"]
                bad |= {one["Target"]["Id"] for one in states if one["TargetHealth"]["State"] == "unhealthy"}
            for member in group.instances:
                if member.id not in bad or member.state != "InService" or member.health != "Healthy":
                    continue
                due = member.in_service + group.members["HealthCheckGracePeriod"]
                if now < due:
                    self._see_targets_at(due)
                else:
                    await self.judge(
                        record.scope, record.name, member.id, "Unhealthy", "an ELB system health check failure."
                    )

    # News

    async def _instance_changed(self, scope: str, id: str, state: str) -> None:
        """EC2 tells of an instance."""
        held = self.holder(scope, id)
        if held is None:
            return
        name, group, member = held
        if state == "running" and not member.runs:
            await self.change_member(scope, name, id, runs=True)
        elif state in ("terminated", "") and controller.is_going(member):
            await self.change_member(scope, name, id, state="Terminated")
            if member.activity:
                await self.end_activity(scope, member.activity)
            more = self.activity_of(scope, member)
            await self.notify(scope, name, "autoscaling:EC2_INSTANCE_TERMINATE", {**more, "EC2InstanceId": id})
            await self.emit(scope, name, "EC2 Instance Terminate Successful", {**more, "EC2InstanceId": id})
        elif state in (*_ENDED, "") and member.state in COUNTED and "HealthCheck" not in group.suspended:
            why = "an EC2 health check indicating it has been terminated or stopped."
            await self.judge(scope, name, id, "Unhealthy", why)
        self.look_after(scope, name)

    async def _state(self, scope: str, id: str) -> str:
        """An instance's state as EC2 says, or nothing when it is gone."""
        try:
            found = await self.ask(scope, "ec2", "DescribeInstances", {"InstanceIds": [id]})
        except AwsError:
            return ""
        return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])

    async def _rename(self, scope: str, key: str, description: str) -> None:
        def work(tx: Any) -> None:
            record = self.activities.get(scope, key, tx)
            if record is not None:
                members = {**record.value.members, "Description": description}
                self.activities.put(tx, scope, key, msgspec.structs.replace(record.value, members=members))

        await self.db.write(work)
