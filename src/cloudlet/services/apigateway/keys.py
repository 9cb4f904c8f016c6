"""API keys and the usage plans that let them use a stage."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.apigateway import patch
from cloudlet.services.apigateway.parts import Shared, new_id
from cloudlet.services.apigateway.records import ApiKey, UsagePlan
from cloudlet.store import Tx

if TYPE_CHECKING:
    from cloudlet.services.apigateway.data_plane import DataPlane

_SHORTEST = 20  # characters of a key


class Keys(Shared):
    """The operations on API keys and usage plans. Rates and quotas are in ``limits.py``."""

    data_plane: DataPlane

    async def CreateApiKey(self, call: Call, input: Input) -> Output:
        now = self.cloud.clock.now()
        value = input.get("value") or secrets.token_urlsafe(30)[:40]
        if len(value) < _SHORTEST:
            raise AwsError("BadRequestException", f"API Key value should be at least {_SHORTEST} characters")
        if any(record.value.members["value"] == value for record in self.keys.list(call.scope)):
            raise AwsError("ConflictException", "API Key already exists")
        kept = {key: item for key, item in input.items() if key not in ("generateDistinctId", "stageKeys")}
        members = {
            "enabled": False,
            "stageKeys": [],
            **kept,
            "id": new_id(),
            "value": value,
            "createdDate": now,
            "lastUpdatedDate": now,
        }
        await self.db.write(lambda tx: self.keys.put(tx, call.scope, members["id"], ApiKey(members)))
        return members

    async def GetApiKey(self, call: Call, input: Input) -> Output:
        members = self._key(call, input["apiKey"])
        return members if input.get("includeValue") else {key: item for key, item in members.items() if key != "value"}

    async def GetApiKeys(self, call: Call, input: Input) -> Output:
        found = [record.value.members for record in self.keys.list(call.scope)]
        if query := input.get("nameQuery"):
            found = [key for key in found if key.get("name", "").startswith(query)]
        if not input.get("includeValues"):
            found = [{name: item for name, item in key.items() if name != "value"} for key in found]
        return self.page(found, input)

    async def UpdateApiKey(self, call: Call, input: Input) -> Output:
        members = patch.apply(self._key(call, input["apiKey"]), input.get("patchOperations"))
        members["lastUpdatedDate"] = self.cloud.clock.now()
        await self.db.write(lambda tx: self.keys.put(tx, call.scope, input["apiKey"], ApiKey(members)))
        shown = {key: item for key, item in members.items() if key != "value"}
        return {"tags": {}, **shown}  # an update answers tags also where there are none

    async def DeleteApiKey(self, call: Call, input: Input) -> Output:
        self._key(call, input["apiKey"])

        def work(tx: Tx) -> None:
            self.keys.delete(tx, call.scope, input["apiKey"])
            for record in self.plans.list(call.scope, tx=tx):
                if input["apiKey"] in record.value.keys:
                    kept = tuple(key for key in record.value.keys if key != input["apiKey"])
                    self.plans.put(tx, call.scope, record.name, UsagePlan(record.value.members, kept))

        await self.db.write(work)
        return {}

    async def CreateUsagePlan(self, call: Call, input: Input) -> Output:
        for stage in input.get("apiStages") or []:
            self.found(self.stages, call, stage["apiId"], stage["stage"], "Stage")
        members = {"apiStages": [], **input, "id": new_id(6)}
        await self.db.write(lambda tx: self.plans.put(tx, call.scope, members["id"], UsagePlan(members)))
        return members

    async def GetUsagePlan(self, call: Call, input: Input) -> Output:
        return self._plan(call, input["usagePlanId"]).members

    async def GetUsagePlans(self, call: Call, input: Input) -> Output:
        wanted = input.get("keyId")
        plans = [record.value for record in self.plans.list(call.scope)]
        return self.page([plan.members for plan in plans if wanted is None or wanted in plan.keys], input)

    async def UpdateUsagePlan(self, call: Call, input: Input) -> Output:
        plan = self._plan(call, input["usagePlanId"])
        others = []
        stages = list(plan.members["apiStages"])
        for operation in input.get("patchOperations") or []:
            if operation.get("path", "").startswith("/apiStages/"):
                stages = _with_rate(stages, operation)
                continue
            if operation.get("path") != "/apiStages":
                others.append(operation)
                continue
            api_id, _, stage = (operation.get("value") or "").partition(":")
            stages = [kept for kept in stages if (kept["apiId"], kept["stage"]) != (api_id, stage)]
            if operation["op"] == "add":
                self.found(self.stages, call, api_id, stage, "Stage")
                stages.append({"apiId": api_id, "stage": stage})
        members = {**patch.apply(plan.members, others), "apiStages": stages}
        changed = UsagePlan(members, plan.keys)
        await self.db.write(lambda tx: self.plans.put(tx, call.scope, input["usagePlanId"], changed))
        return members

    async def DeleteUsagePlan(self, call: Call, input: Input) -> Output:
        if self._plan(call, input["usagePlanId"]).members["apiStages"]:
            raise AwsError(
                "BadRequestException", "Cannot delete Usage Plan. Please remove stages from Usage Plan before deleting."
            )
        await self.db.write(lambda tx: self.plans.delete(tx, call.scope, input["usagePlanId"]))
        return {}

    async def CreateUsagePlanKey(self, call: Call, input: Input) -> Output:
        plan = self._plan(call, input["usagePlanId"])
        key = self._key(call, input["keyId"])
        if input["keyId"] in plan.keys:
            raise AwsError("ConflictException", "Usage Plan already has this API Key")
        changed = UsagePlan(plan.members, (*plan.keys, input["keyId"]))
        await self.db.write(lambda tx: self.plans.put(tx, call.scope, input["usagePlanId"], changed))
        return _as_plan_key(key)

    async def GetUsagePlanKey(self, call: Call, input: Input) -> Output:
        if input["keyId"] not in self._plan(call, input["usagePlanId"]).keys:
            raise AwsError("NotFoundException", "Invalid Usage Plan Key identifier specified")
        return _as_plan_key(self._key(call, input["keyId"]))

    async def GetUsagePlanKeys(self, call: Call, input: Input) -> Output:
        keys = [_as_plan_key(self._key(call, key)) for key in self._plan(call, input["usagePlanId"]).keys]
        return self.page(keys, input)

    async def DeleteUsagePlanKey(self, call: Call, input: Input) -> Output:
        plan = self._plan(call, input["usagePlanId"])
        await self.GetUsagePlanKey(call, input)
        changed = UsagePlan(plan.members, tuple(key for key in plan.keys if key != input["keyId"]))
        await self.db.write(lambda tx: self.plans.put(tx, call.scope, input["usagePlanId"], changed))
        return {}

    async def GetUsage(self, call: Call, input: Input) -> Output:
        plan = self._plan(call, input["usagePlanId"])
        quota = (plan.members.get("quota") or {}).get("limit")
        start, end = input["startDate"], input["endDate"]
        items = await self.data_plane.limits.usage(call.scope, input["usagePlanId"], start, end, quota)
        if "keyId" in input:
            items = {key: days for key, days in items.items() if key == input["keyId"]}
        return {"usagePlanId": input["usagePlanId"], "startDate": start, "endDate": end, "items": items}

    def may_use(self, scope: str, api_id: str, stage: str, value: str | None) -> tuple[str, dict[str, Any]] | None:
        """The id of the enabled key with that value, and the usage plan that lets it use the stage; else None."""
        for record in self.keys.list(scope):
            key = record.value.members
            if value is not None and key["value"] == value and key["enabled"]:
                for plan in self.plans.list(scope):
                    stages = plan.value.members["apiStages"]
                    if record.name in plan.value.keys and any(
                        (s["apiId"], s["stage"]) == (api_id, stage) for s in stages
                    ):
                        return record.name, plan.value.members
        return None

    def _key(self, call: Call, key_id: str) -> dict[str, Any]:
        record = self.keys.get(call.scope, key_id)
        if record is None:
            raise AwsError("NotFoundException", "Invalid API Key identifier specified")
        return record.value.members

    def _plan(self, call: Call, plan_id: str) -> UsagePlan:
        record = self.plans.get(call.scope, plan_id)
        if record is None:
            raise AwsError("NotFoundException", "Invalid Usage Plan ID specified")
        return record.value


def rate_of(plan: dict[str, Any], api_id: str, stage: str, method: str) -> dict[str, Any] | None:
    """What a plan lets each of its keys call one method (``/orders/GET``), where it says so."""
    for one in plan["apiStages"]:
        if (one["apiId"], one["stage"]) == (api_id, stage):
            found: dict[str, Any] | None = (one.get("throttle") or {}).get(method)
            return found
    return None


def _with_rate(stages: list[dict[str, Any]], operation: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan's stages with one method's rate changed: ``/apiStages/<api>:<stage>/throttle/<path>/<verb>/rateLimit``."""
    parts = [part.replace("~1", "/") for part in operation["path"].split("/")[2:]]
    known = [f"{one['apiId']}:{one['stage']}" for one in stages]
    if len(parts) < 4 or parts[0] not in known or parts[1] != "throttle":
        raise AwsError("BadRequestException", f"Invalid patch path {operation['path']}")
    at, setting = known.index(parts[0]), parts[-1] if parts[-1] in ("rateLimit", "burstLimit") else ""
    method = "/" + "/".join(parts[2:-1] if setting else parts[2:]).lstrip("/")
    rates = {name: dict(value) for name, value in (stages[at].get("throttle") or {}).items()}
    if operation["op"] == "remove":
        rates.pop(method, None)
    elif not setting:
        raise AwsError("BadRequestException", f"Invalid patch path {operation['path']}")
    else:
        number = float if setting == "rateLimit" else int
        rates.setdefault(method, {})[setting] = number(operation.get("value") or 0)
    return [*stages[:at], {**stages[at], "throttle": rates}, *stages[at + 1 :]]


def _as_plan_key(key: dict[str, Any]) -> Output:
    named = {"name": key["name"]} if "name" in key else {}
    return {"id": key["id"], "type": "API_KEY", "value": key["value"], **named}
