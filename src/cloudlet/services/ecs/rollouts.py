"""Deployments at work: listeners' rules are told the weights, functions of hooks are asked, alarms are heard.

Each may be done again after a restart; what comes of it is stored before the deployment goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.ecs import hooks, shifting
from cloudlet.services.ecs.balancing import Balancing
from cloudlet.services.ecs.records import Deployment, Hook, Service, ServiceDeployment
from cloudlet.services.forwards import shared_out

log = logging.getLogger("cloudlet.ecs")

_IN_TRAFFIC = frozenset(("TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT", "PRE_PRODUCTION_TRAFFIC_SHIFT"))


class Rollouts(Balancing):
    """What a plan wants done besides tasks."""

    async def start(self) -> None:
        await super().start()
        self._asked: set[str] = set()  # hooks whose functions have been called and have not answered
        self._hears_alarms = False

    async def shift(self, scope: str, name: str) -> None:
        """Have listeners' rules send what a service's deployment says where it says."""
        service = self._service(scope, name)
        if service is None or (current := service.current) is None:
            return
        green = service.deployment(current.target)
        blue = service.deployment(service.last_good.id) if service.last_good is not None else None
        fault = ""
        try:
            for place, balancer in enumerate(green.settings.get("loadBalancers", ()) if green is not None else ()):
                more = balancer.get("advancedConfiguration")
                if more is None or green is None:
                    continue
                groups = (_group(blue, place), _group(green, place))
                await self._send(scope, more["productionListenerRule"], groups, current.share)
                if rule := more.get("testListenerRule"):
                    await self._send(scope, rule, groups, current.test)
        except AwsError as error:
            # On the way back there is no other way: what cannot be told any more is passed over.
            fault = f"Traffic could not be shifted: {error.message}"
        now, told = self.clock.now(), (current.share, current.test)

        def note(one: ServiceDeployment) -> ServiceDeployment:
            if (one.share, one.test) != told:
                return one
            if fault and not shifting.is_back(one):
                return msgspec.structs.replace(one, fault=fault)
            return msgspec.structs.replace(one, carried=told, carried_at=now, updated=now, fault=fault or one.fault)

        await self.change_deployment(scope, name, current.number, note)

    async def _send(self, scope: str, rule: str, groups: tuple[str, str], share: float) -> None:
        """Share out a rule's requests, or a listener's: ``share`` per cent to the second group. Raises AwsError."""
        actions, listener = await self.actions_of(scope, rule)
        actions = shared_out(actions, groups, share)
        if listener:
            await self._ask(scope, "elbv2", "ModifyListener", {"ListenerArn": listener, "DefaultActions": actions})
        else:
            await self._ask(scope, "elbv2", "ModifyRule", {"RuleArn": rule, "Actions": actions})

    # Hooks

    def ask_hook(self, scope: str, name: str, hook: Hook) -> None:
        """Call a hook's function, unless it is being called."""
        if hook.id not in self._asked:
            self._asked.add(hook.id)
            self.cloud.spawn(self._ask_hook(scope, name, hook), f"a hook of {name}")

    async def _ask_hook(self, scope: str, name: str, hook: Hook) -> None:
        try:
            service = self._service(scope, name)
            if service is None or (current := service.current) is None:
                return
            answer = await hooks.ask(self.cloud, scope, hook, self._event(scope, name, current, hook))
            now = self.clock.now()
            await self.change_deployment(
                scope, name, current.number, lambda one: hooks.answered(one, hook.id, answer, now)
            )
        finally:
            self._asked.discard(hook.id)
            self.look_after(scope, name)

    def _event(self, scope: str, name: str, current: ServiceDeployment, hook: Hook) -> dict[str, Any]:
        """What a hook's function is told; who gets which traffic only while it is being shifted."""
        is_production = "PRODUCTION" in current.stage

        def weights(share: float, has: bool) -> dict[str, float]:
            if not has or current.stage not in _IN_TRAFFIC:
                return {}
            target = {self.revision_arn(scope, name, current.target): share}
            return {self.revision_arn(scope, name, one): 100 - share for one in current.sources} | target

        return {
            "executionDetails": {
                "testTrafficWeights": weights(current.test, not is_production),
                "productionTrafficWeights": weights(current.share, is_production),
                "serviceArn": self.arn(scope, "service", name),
                "targetServiceRevisionArn": self.revision_arn(scope, name, current.target),
            },
            "executionId": hook.id,
            "lifecycleStage": current.stage,
            "resourceArn": self.arn(scope, "service-deployment", f"{name}/{current.number}"),
        }

    # Alarms

    def hear_alarms(self, current: ServiceDeployment | None) -> None:
        """Have a deployment know of its alarms from here on."""
        if _alarms(current) and not self._hears_alarms:
            self._hears_alarms = True
            self.cloud.spawn(self._hear_alarms(), "alarms of deployments")

    async def _hear_alarms(self) -> None:
        try:
            cloudwatch: Any = await self.cloud.service("cloudwatch")
        except AwsError as error:
            log.warning("deployments do not hear of alarms: %s", error)
            return
        cloudwatch.watch_states(self._alarm_moved)
        # What has gone off while nobody was there to hear it.
        for record in self.services.all():
            if _alarms(record.value.current):
                await self._see_alarms(record.scope, record.name)

    def _alarm_moved(self, scope: str, alarm: str, state: str) -> None:
        for record in self.services.list(scope):
            if state == "ALARM" and alarm in _alarms(record.value.current):
                self.cloud.spawn(self._see_alarms(scope, record.name), f"alarms of {record.name}")

    async def _see_alarms(self, scope: str, name: str) -> None:
        """Note the alarms that have gone off since a deployment began; those that were on before do not count."""
        service = self._service(scope, name)
        if service is None or (current := service.current) is None:
            return
        ask = {"AlarmNames": _alarms(current), "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
        found = await self._ask(scope, "cloudwatch", "DescribeAlarms", ask)
        gone_off = tuple(
            one["AlarmName"]
            for one in (*found["MetricAlarms"], *found["CompositeAlarms"])
            if one["StateValue"] == "ALARM"
            and one.get("StateTransitionedTimestamp", one["StateUpdatedTimestamp"]) >= current.created
        )
        if gone_off:
            await self.change_deployment(
                scope, name, current.number, lambda one: msgspec.structs.replace(one, alarms=gone_off)
            )

    # Parts

    async def change_deployment(
        self, scope: str, name: str, number: str, change: Callable[[ServiceDeployment], ServiceDeployment]
    ) -> None:
        """Change a service's deployment if it is still this one, and see what follows."""

        def work(tx: Any) -> None:
            record = self.services.get(scope, name, tx)
            if record is not None and (one := record.value.current) is not None and one.number == number:
                self.put_service(tx, scope, name, msgspec.structs.replace(record.value, current=change(one)))

        await self.db.write(work)
        self.look_after(scope, name)

    def _service(self, scope: str, name: str) -> Service | None:
        record = self.services.get(scope, name)
        return record.value if record is not None else None


def _group(one: Deployment | None, place: int) -> str:
    """The target group of a deployment behind one of its load balancers, or nothing."""
    if one is None:
        return ""
    if place < len(one.groups):
        return one.groups[place]
    balancers = one.settings.get("loadBalancers", ())
    return balancers[place].get("targetGroupArn", "") if place < len(balancers) else ""


def _alarms(current: ServiceDeployment | None) -> list[str]:
    settings = (current.configuration.get("alarms") or {}) if current is not None else {}
    return list(settings.get("alarmNames", ())) if settings.get("enable") else []
