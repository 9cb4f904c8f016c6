"""Deployments carried out: one task for each that is under way, which waits for news and for its times.

Every step may be done again: what has been done is stored before the next one, and after a kill a deployment is taken
up where it stood.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.codedeploy import appspec, configs, course
from cloudlet.services.codedeploy.aliases import Aliases
from cloudlet.services.codedeploy.announcing import announce
from cloudlet.services.codedeploy.base import SELF, new_deployment_id
from cloudlet.services.codedeploy.errors import Failure
from cloudlet.services.codedeploy.records import Deployment, Ending, Event
from cloudlet.services.codedeploy.revisions import Revisions
from cloudlet.services.codedeploy.task_sets import TaskSets
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.codedeploy")

_NO_ANSWER = (
    "The deployment timed out while waiting for a status callback. CodeDeploy expects a status callback within one "
    "hour after a deployment hook is invoked."
)
_NOT_HEALTHY = (
    "The deployment timed out while waiting for the replacement task set to become healthy. This time out period is "
    "60 minutes."
)


class Running(Revisions):
    """What happens to deployments that are under way."""

    async def start(self) -> None:
        await super().start()
        self._platforms: dict[str, Aliases | TaskSets] = {"Lambda": Aliases(self.cloud), "ECS": TaskSets(self.cloud)}
        self._news: dict[str, asyncio.Event] = {}
        self._awaited: dict[str, list[asyncio.Future[None]]] = {}
        self._listening: set[str] = set()  # deployments that hear of their alarms
        self._deaf: Callable[[], None] = lambda: None  # ends that
        for record in self.deployments.all():
            if not record.value.is_over:
                self.take_up(record.scope, record.name)

    def platform(self, one: Deployment) -> Aliases | TaskSets:
        """What shifts the traffic of a deployment."""
        return self._platforms[one.platform]

    def take_up(self, scope: str, id: str) -> None:
        """Carry out a deployment until it is over."""
        self._news[id] = asyncio.Event()
        self.cloud.spawn(self._carry_out(scope, id), f"deployment {id}")

    def nudge(self, id: str) -> None:
        """Have a deployment looked at: something is new."""
        if (news := self._news.get(id)) is not None:
            news.set()

    async def ended(self, scope: str, id: str) -> Deployment | None:
        """Wait until a deployment is over, and the one that rolls it back; None when it is there no more."""
        while (one := self._deployment(scope, id)) is not None:
            back = one.rollback.get("rollbackDeploymentId", "")
            other = self._deployment(scope, back) if back else None
            if one.is_over and (other is None or other.is_over):
                return one
            future = asyncio.get_running_loop().create_future()
            self._awaited.setdefault(back if one.is_over else id, []).append(future)
            await future
        return None

    async def _carry_out(self, scope: str, id: str) -> None:
        news = self._news[id]

        def told(_: object) -> None:
            news.set()

        try:
            while (one := self._deployment(scope, id)) is not None and not one.is_over:
                news.clear()
                # Heard from before the look, so that nothing is missed between the two.
                outside = await self.platform(one).news(scope, one)
                if outside is not None:
                    outside.add_done_callback(told)
                try:
                    until = await self._step(scope, one)
                except Failure as failure:
                    await self._end(scope, one, Ending("Failed", failure.code, failure.message, "DEPLOYMENT_FAILURE"))
                except AwsError as error:
                    failed = Ending("Failed", self.platform(one).trouble, error.message, "DEPLOYMENT_FAILURE")
                    await self._end(scope, one, failed)
                else:
                    if until is not None and one == self._deployment(scope, id):
                        await self._wait(news, until)
                finally:
                    if outside is not None and not outside.done():
                        outside.remove_done_callback(told)
                        outside.cancel()
        except Exception:
            log.exception("deployment %s stumbled", id)
            if (one := self._deployment(scope, id)) is not None and not one.is_over:
                ending = Ending("Failed", "INTERNAL_ERROR", "See Cloudlet's log.", "DEPLOYMENT_FAILURE")
                await self._end(scope, one, ending)
        finally:
            self._news.pop(id, None)
            self._listening.discard(id)
            if not self._listening:
                self._deaf()
            for future in self._awaited.pop(id, ()):
                if not future.done():
                    future.set_result(None)

    async def _step(self, scope: str, one: Deployment) -> float | None:
        """Take a deployment one step further, or say until when to wait for news. Raises Failure and AwsError."""
        if one.ending is not None:
            await self._end(scope, one, one.ending)
            return None
        if one.status == "Created":
            await self._set_out(scope, one)
            return None
        await self._hear_alarms(scope, one)
        if (event := course.following(one)) is None:
            return await self._retire(scope, one)
        if event.status == "Pending":
            if event.name == "BeforeAllowTraffic" and (until := await self._is_held(scope, one)) is not None:
                return until
            now = self.clock.now()
            await self._change(scope, one.id, lambda new: course.begun(new, event.name, now))
            return None
        if event.name == course.INSTALL:
            return await self._install(scope, one, event)
        if event.name == course.TRAFFIC:
            return await self._shift(scope, one, event)
        if event.name == course.TEST and not one.undoes:
            await self.platform(one).test(scope, one)
        elif event.name in one.hooks:
            return await self._ask_hook(scope, one, event)
        await self._done(scope, one, event)
        return None

    async def _set_out(self, scope: str, one: Deployment) -> None:
        """Read the revision and see whether it can be deployed."""
        target, hooks = one.target, one.hooks
        if not one.undoes:
            target, hooks = appspec.parse(await self._text(scope, one.revision), one.platform)
        if alarms := await self._active_alarms(scope, one):
            now = self.clock.now()
            one = await self._change(scope, one.id, lambda new: replace(new, target=target, started=now))
            await self._end(scope, one, _alarmed(alarms))
            return
        target = await self.platform(one).check(scope, replace(one, target=target))
        now = self.clock.now()

        def set_out(new: Deployment) -> Deployment:
            return replace(new, status="InProgress", target=target, hooks=hooks, started=now, updated=now)

        await announce(self.cloud, scope, await self._change(scope, one.id, set_out))

    async def _text(self, scope: str, location: dict[str, Any]) -> str:
        """The AppSpec file. Raises Failure."""
        if "s3Location" not in location:
            return str((location.get("string") or location["appSpecContent"])["content"])
        place = location["s3Location"]
        if place["bundleType"] not in ("JSON", "YAML"):
            raise Failure("INVALID_REVISION", f"The bundle type {place['bundleType']} is not one of an AppSpec file.")
        account, region = scope.split("/")
        ask = {"Bucket": place["bucket"], "Key": place["key"]}
        ask |= {"VersionId": place["version"]} if place.get("version") else {}
        try:
            found = await self.cloud.call("s3", "GetObject", ask, account=account, region=region, principal=SELF)
        except AwsError as error:
            raise Failure("REVISION_MISSING", f"The revision could not be read: {error.message}") from None
        body = found["Body"]
        return (body if isinstance(body, bytes) else b"".join([part async for part in body])).decode()

    async def _install(self, scope: str, one: Deployment, event: Event) -> float | None:
        until = event.started + course.INSTALL_LIMIT
        if not one.undoes and not await self.platform(one).install(scope, one):
            if self.clock.now() >= until:
                raise Failure("TIMEOUT", _NOT_HEALTHY)
            return until
        await self._done(scope, one, event)
        return None

    async def _shift(self, scope: str, one: Deployment, event: Event) -> float | None:
        """Give the new version its next share, or wait until it has had this one for long enough."""
        if one.undoes:
            await self.platform(one).back(scope, one)
            await self._done(scope, one, event)
            return None
        now = self.clock.now()
        if one.carried != one.share or not one.share:
            share = one.share if one.carried != one.share and one.share else course.next_share(one)
            await self._change(scope, one.id, lambda new: replace(new, share=share))
            await self.platform(one).shift(scope, one, share)
            await self._change(scope, one.id, lambda new: replace(new, carried=share, carried_at=now))
            return None
        if one.carried >= course.ALL:
            await self._done(scope, one, event)
            return None
        if now < (until := course.step_ends(one)):
            return until
        share = course.next_share(one)
        await self._change(scope, one.id, lambda new: replace(new, share=share))
        return None

    async def _ask_hook(self, scope: str, one: Deployment, event: Event) -> float | None:
        """Ask a hook's function and wait for what it says; asked again if a kill came between the two."""
        if event.is_asked:
            if self.clock.now() >= (until := event.started + course.HOOK_LIMIT):
                raise Failure("TIMEOUT", _NO_ANSWER)
            return until
        hook, now = event.hook or _new_hook(), self.clock.now()
        # Stored first: a function may answer before its invocation has returned.
        await self._change(scope, one.id, lambda new: course.asks(new, event.name, hook, now))
        account, region = scope.split("/")
        told = json.dumps({"DeploymentId": one.id, "LifecycleEventHookExecutionId": hook}).encode()
        ask = {"FunctionName": one.hooks[event.name], "InvocationType": "Event", "Payload": told}
        try:
            await self.cloud.call("lambda", "Invoke", ask, account=account, region=region, principal=SELF)
        except AwsError as error:
            raise Failure("HOOK_EXECUTION_FAILURE", f"The hook could not be invoked: {error.message}") from None
        await self._change(scope, one.id, lambda new: course.asked(new, event.name, now))
        return None

    async def _is_held(self, scope: str, one: Deployment) -> float | None:
        """Until when a deployment waits for somebody to let its traffic go, or None when it need not."""
        if course.ready_ends(one) is None or one.is_let_go:
            if one.status == "Ready":
                await self._change(scope, one.id, lambda new: replace(new, status="InProgress"))
            return None
        now = self.clock.now()
        if not one.ready_since:
            held = await self._change(scope, one.id, lambda new: replace(new, status="Ready", ready_since=now))
            await announce(self.cloud, scope, held)
            return now
        until = course.ready_ends(one)
        assert until is not None
        if now < until:
            return until
        minutes = one.settings["blueGreenDeploymentConfiguration"]["deploymentReadyOption"]["waitTimeInMinutes"]
        words = (
            "The deployment timed out while waiting for a notification to continue. This time out period is "
            f"{minutes} minutes."
        )
        await self._end(scope, one, Ending("Stopped", "TIMEOUT", words, "DEPLOYMENT_FAILURE"))
        return now

    async def _retire(self, scope: str, one: Deployment) -> float | None:
        """All has been: the new version is the one, the old one ends in its time."""
        platform, now = self.platform(one), self.clock.now()
        if not one.undoes and not one.retiring_since:
            await platform.settle(scope, one)
            if platform.has_old:
                await self._change(scope, one.id, lambda new: replace(new, retiring_since=now))
                return None
        if one.retiring_since and not course.keeps_old(one):
            if not one.is_retired and now < (until := course.retires_at(one)):
                return until
            await platform.retire(scope, one)
        await self._finish(scope, one)
        return None

    async def _finish(self, scope: str, one: Deployment) -> None:
        """A deployment has succeeded."""
        sets, now = await self.sets_of(scope, one), self.clock.now()

        def work(tx: Tx) -> Deployment | None:
            record = self.deployments.get(scope, one.id, tx)
            if record is None or record.value.ending is not None:
                return None
            done = replace(record.value, status="Succeeded", finished=now, updated=now, sets=sets)
            self.deployments.put(tx, scope, one.id, done)
            if (group := self.groups.get(scope, one.place, tx)) is not None:
                new = replace(group.value, last_success=one.id, revision=done.revision or group.value.revision)
                self.groups.put(tx, scope, one.place, new)
            return done

        if (done := await self.db.write(work)) is not None:
            await announce(self.cloud, scope, done)

    async def _end(self, scope: str, one: Deployment, ending: Ending) -> None:
        """A deployment ends before it is done; another one takes back what it did, if that is wanted."""
        sets, now = await self.sets_of(scope, one), self.clock.now()
        rolls = one.settings.get("autoRollbackConfiguration") or {}
        is_wanted = bool(rolls.get("enabled")) and ending.cause in rolls.get("events", ())
        goes_back = (is_wanted if ending.rolls_back is None else ending.rolls_back) and not one.undoes and one.started
        back = new_deployment_id() if goes_back else ""

        def work(tx: Tx) -> Deployment | None:
            record = self.deployments.get(scope, one.id, tx)
            if record is None or record.value.is_over:
                return None
            ended = replace(
                course.cut_off(record.value, now, ending.message),
                status=ending.status,
                finished=now,
                updated=now,
                error={"code": ending.code, "message": ending.message},
                sets=sets,
            )
            if back:
                words = f"Deployment {one.id} terminated. Automatic rollback is triggered with a DeploymentId {back}."
                ended = replace(ended, rollback={"rollbackDeploymentId": back, "rollbackMessage": words})
                self.deployments.put(tx, scope, back, _undoing(record.value, back, now))
                if (group := self.groups.get(scope, one.place, tx)) is not None:
                    self.groups.put(tx, scope, one.place, replace(group.value, last_attempt=back))
            self.deployments.put(tx, scope, one.id, ended)
            return ended

        ended = await self.db.write(work)
        if ended is not None and back:
            self.take_up(scope, back)
        if ended is not None:
            await announce(self.cloud, scope, ended)

    # Alarms

    async def _hear_alarms(self, scope: str, one: Deployment) -> None:
        """Hear of alarms from here on; what has gone off while nobody was there to hear it counts."""
        if one.undoes or not _alarms(one) or one.id in self._listening:
            return
        if not self._listening:
            cloudwatch: Any = await self.cloud.service("cloudwatch")
            self._deaf = cloudwatch.watch_states(self._alarm_moved)
        self._listening.add(one.id)
        if alarms := await self._active_alarms(scope, one):
            await self._change(scope, one.id, lambda new: replace(new, ending=new.ending or _alarmed(alarms)))

    def _alarm_moved(self, scope: str, alarm: str, state: str) -> None:
        if state != "ALARM":
            return
        for record in self.deployments.list(scope):
            one = record.value
            if not one.is_over and not one.undoes and one.target and alarm in _alarms(one):
                self.cloud.spawn(self._stop_for(scope, one.id, alarm), f"alarm of {one.id}")

    async def _stop_for(self, scope: str, id: str, alarm: str) -> None:
        await self._change(scope, id, lambda new: replace(new, ending=new.ending or _alarmed([alarm])))
        self.nudge(id)

    async def _active_alarms(self, scope: str, one: Deployment) -> list[str]:
        if one.undoes or not (names := _alarms(one)):
            return []
        account, region = scope.split("/")
        ask = {"AlarmNames": names, "AlarmTypes": ["MetricAlarm", "CompositeAlarm"], "StateValue": "ALARM"}
        place = {"account": account, "region": region, "principal": SELF}
        found = await self.cloud.call("cloudwatch", "DescribeAlarms", ask, **place)
        return [alarm["AlarmName"] for alarm in (*found["MetricAlarms"], *found["CompositeAlarms"])]

    # Parts

    async def sets_of(self, scope: str, one: Deployment) -> tuple[dict[str, Any], ...]:
        """The task sets of a deployment, as they are or as they were in its end; none where their service is gone."""
        if one.is_over:
            return one.sets
        try:
            return await self.platform(one).sets(scope, one)
        except (AwsError, Failure):
            return ()

    def _deployment(self, scope: str, id: str) -> Deployment | None:
        record = self.deployments.get(scope, id)
        return record.value if record is not None else None

    async def _done(self, scope: str, one: Deployment, event: Event) -> None:
        now = self.clock.now()
        await self._change(scope, one.id, lambda new: course.ended(new, event.name, now))

    async def _change(self, scope: str, id: str, change: Callable[[Deployment], Deployment]) -> Deployment:
        """Change a deployment that is not over, and give it back as it is then."""

        def work(tx: Tx) -> Deployment:
            record = self.deployments.get(scope, id, tx)
            assert record is not None
            if record.value.is_over:
                return record.value
            return self.deployments.put(tx, scope, id, change(record.value)).value

        return await self.db.write(work)

    async def _wait(self, news: asyncio.Event, until: float) -> None:
        """Wait for news of a deployment or of its target, at most until then."""
        timer = self.clock.call_at(until, news.set)
        try:
            await news.wait()
        finally:
            timer.cancel()


def _new_hook() -> str:
    """An id under which a function answers; it is sealed, as AWS's are."""
    return urlsafe_b64encode(json.dumps({"encryptedData": secrets.token_urlsafe(48)}).encode()).decode()


def _undoing(one: Deployment, id: str, now: float) -> Deployment:
    """The deployment that takes back what another one did."""
    return Deployment(
        id=id,
        application=one.application,
        group=one.group,
        platform=one.platform,
        config=configs.DEFAULTS[one.platform],
        routing=configs.ALL_AT_ONCE,
        revision=one.previous,
        settings=one.settings,
        created=now,
        updated=now,
        creator="codeDeployRollback",
        undoes=one.id,
        rollback={
            "rollbackTriggeringDeploymentId": one.id,
            "rollbackMessage": f"Deployment {id} is triggered to roll back deployment {one.id}.",
        },
        target=one.target,
        events=tuple(Event(event.name) for event in one.events),
    )


def _alarms(one: Deployment) -> list[str]:
    settings = one.settings.get("alarmConfiguration") or {}
    return [alarm["name"] for alarm in settings.get("alarms", ())] if settings.get("enabled") else []


def _alarmed(alarms: list[str]) -> Ending:
    named = " ".join(f"<{alarm}>" for alarm in alarms)
    words = (
        "One or more alarms have been activated according to the Amazon CloudWatch metrics you selected, and the "
        f"affected deployments have been stopped. Activated alarms: {named}"
    )
    return Ending("Stopped", "ALARM_ACTIVE", words, "DEPLOYMENT_STOP_ON_ALARM")
