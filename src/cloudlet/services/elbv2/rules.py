"""Rules of application load balancers' listeners."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2 import checks
from cloudlet.services.elbv2.base import new_id, page, tags_of
from cloudlet.services.elbv2.errors import invalid
from cloudlet.services.elbv2.listeners import Listeners
from cloudlet.services.elbv2.records import Listener, Rule
from cloudlet.store import Tx


class Rules(Listeners):
    """Making, changing and showing rules."""

    async def CreateRule(self, call: Call, input: Input) -> Output:
        listener = self.listener(call, input["ListenerArn"])
        owner = self.load_balancer(call, listener.load_balancer_arn)
        if owner.type != "application":
            raise AwsError(
                "UnsupportedProtocolException", "Rules are not supported for listeners of this load balancer"
            )
        id = new_id()
        made = Rule(
            arn=f"{listener.arn.replace(':listener/', ':listener-rule/')}/{id}",
            id=id,
            listener_arn=listener.arn,
            priority=input["Priority"],
            conditions=checks.conditions(input["Conditions"]),
            actions=checks.actions(input["Actions"], listener.protocol, listener.port, "CreateRule"),
            tags=tags_of(input),
            transforms=checks.transforms(input.get("Transforms", [])),
        )

        def create(tx: Tx) -> None:
            there = self.rules_of(call, self.listener(call, listener.arn, tx), tx)
            if any(rule.priority == made.priority for rule in there):
                raise AwsError("PriorityInUseException", f"Priority '{made.priority}' is currently in use")
            self.check_actions(call, owner, listener.protocol, made.actions, tx)
            self.rules.put(tx, call.scope, f"{listener.id}/{id}", made)

        await self.db.write(create)
        await self.have_key(made.actions)
        self.changed()
        return {"Rules": [_described(made)]}

    async def DescribeRules(self, call: Call, input: Input) -> Output:
        if arns := input.get("RuleArns"):
            found = [self._shown(call, arn) for arn in arns]
        elif arn := input.get("ListenerArn"):
            listener = self.listener(call, arn)
            found = [_described(rule) for rule in self.rules_of(call, listener)] + [_default(listener)]
        else:
            raise invalid("You must specify either listener rule ARNs or a listener ARN")
        here, marker = page(found, input, "RuleArn")
        return {"Rules": here, **marker}

    async def ModifyRule(self, call: Call, input: Input) -> Output:
        self._refuse_default(call, input["RuleArn"], "modified")
        before = self.rule(call, input["RuleArn"])
        listener = self.listener(call, before.listener_arn)
        owner = self.load_balancer(call, listener.load_balancer_arn)
        changes: dict[str, Any] = {}
        if input.get("Conditions"):
            changes["conditions"] = checks.conditions(input["Conditions"])
        if input.get("Actions"):
            changes["actions"] = checks.actions(
                input["Actions"], listener.protocol, listener.port, "ModifyRule", before.actions
            )
        if input.get("Transforms") or input.get("ResetTransforms"):
            if input.get("Transforms") and input.get("ResetTransforms"):
                raise invalid("You cannot specify both 'Transforms' and 'ResetTransforms'")
            changes["transforms"] = checks.transforms(input.get("Transforms", []))
        if not changes:
            raise invalid("Either conditions or actions must be specified")

        def modify(tx: Tx) -> Rule:
            after = replace(self.rule(call, before.arn, tx), **changes)
            self.check_actions(call, owner, listener.protocol, after.actions, tx)
            return self.rules.put(tx, call.scope, f"{listener.id}/{after.id}", after).value

        stored = await self.db.write(modify)
        await self.have_key(stored.actions)
        self.changed()
        return {"Rules": [_described(stored)]}

    async def DeleteRule(self, call: Call, input: Input) -> Output:
        self._refuse_default(call, input["RuleArn"], "deleted")
        one = self.rule(call, input["RuleArn"])
        key = f"{one.listener_arn.rpartition('/')[2]}/{one.id}"
        await self.db.write(lambda tx: self.rules.delete(tx, call.scope, key))
        self.changed()
        return {}

    async def SetRulePriorities(self, call: Call, input: Input) -> Output:
        wanted: dict[str, int] = {}
        for pair in input["RulePriorities"]:
            arn = pair.get("RuleArn", "")
            self._refuse_default(call, arn, "given a priority")
            if "Priority" not in pair:
                raise invalid("A priority must be specified")
            wanted[arn] = pair["Priority"]
        if not wanted:
            raise invalid("A rule priority must be specified")
        if len(set(wanted.values())) < len(wanted):
            raise invalid("Priorities must be unique")

        def put(tx: Tx) -> list[Rule]:
            chosen = [self.rule(call, arn, tx) for arn in wanted]
            listeners = {rule.listener_arn for rule in chosen}
            if len(listeners) > 1:
                raise invalid("All rules must belong to the same listener")
            for rule in self.rules_of(call, self.listener(call, listeners.pop(), tx), tx):
                if rule.arn not in wanted and rule.priority in wanted.values():
                    raise AwsError("PriorityInUseException", f"Priority '{rule.priority}' is currently in use")
            made = [replace(rule, priority=wanted[rule.arn]) for rule in chosen]
            for rule in made:
                self.rules.put(tx, call.scope, f"{rule.listener_arn.rpartition('/')[2]}/{rule.id}", rule)
            return made

        stored = await self.db.write(put)
        self.changed()
        return {"Rules": [_described(rule) for rule in stored]}

    def _shown(self, call: Call, arn: str) -> Output:
        listener = self._by_default_rule(call, arn)
        return _default(listener) if listener is not None else _described(self.rule(call, arn))

    def _by_default_rule(self, call: Call, arn: str) -> Listener | None:
        """The listener whose default rule this is."""
        try:
            listener = self.listener(call, arn.rpartition("/")[0].replace(":listener-rule/", ":listener/"))
        except AwsError:
            return None
        return listener if _default_arn(listener) == arn else None

    def _refuse_default(self, call: Call, arn: str, what: str) -> None:
        if self._by_default_rule(call, arn) is not None:
            raise AwsError("OperationNotPermittedException", f"Default rule '{arn}' cannot be {what}")


def _described(rule: Rule) -> Output:
    return {
        "RuleArn": rule.arn,
        "Priority": str(rule.priority),
        "Conditions": rule.conditions,
        "Actions": checks.shown(rule.actions),
        **({"Transforms": rule.transforms} if rule.transforms else {}),
        "IsDefault": False,
    }


def _default(listener: Listener) -> Output:
    return {
        "RuleArn": _default_arn(listener),
        "Priority": "default",
        "Conditions": [],
        "Actions": checks.shown(listener.actions),
        "IsDefault": True,
    }


def _default_arn(listener: Listener) -> str:
    id = hashlib.sha256(listener.id.encode()).hexdigest()[:16]
    return f"{listener.arn.replace(':listener/', ':listener-rule/')}/{id}"
