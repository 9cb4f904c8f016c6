"""Tags and account settings: records of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs.base import Base, client_error, from_tags, invalid, page, revision_key, to_tags
from cloudlet.services.ecs.records import Setting
from cloudlet.store import Resources, Tx

_DEFAULTS = {
    "awsvpcTrunking": "disabled",
    "containerInsights": "disabled",
    "containerInstanceLongArnFormat": "enabled",
    "defaultLogDriverMode": "blocking",
    "fargateFIPSMode": "disabled",
    "fargateTaskRetirementWaitPeriod": "7",
    "guardDutyActivate": "on",
    "serviceLongArnFormat": "enabled",
    "tagResourceAuthorization": "off",
    "taskLongArnFormat": "enabled",
}
_VALUES = {
    "containerInsights": ("enabled", "disabled", "enhanced"),
    "tagResourceAuthorization": ("on", "off"),
    "guardDutyActivate": ("on", "off"),
    "defaultLogDriverMode": ("blocking", "non-blocking"),
    "fargateTaskRetirementWaitPeriod": ("0", "7", "14"),
}


class Settings(Base):
    """Operations on tags and account settings."""

    async def TagResource(self, call: Call, input: Input) -> Output:
        added = from_tags(input["tags"])
        if any(key.lower().startswith("aws:") for key in added):
            raise invalid("Tag keys cannot start with aws:")

        def change(tags: dict[str, str]) -> dict[str, str]:
            made = {**tags, **added}
            if len(made) > 50:
                raise invalid("The resource has more than 50 tags.")
            return made

        await self._retag(call, input["resourceArn"], change)
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["tagKeys"])
        await self._retag(
            call, input["resourceArn"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        kind, name = self._resource(input["resourceArn"])
        record = kind.get(call.scope, name)
        if record is None:
            raise _missing(input["resourceArn"])
        return {"tags": to_tags(record.value.tags)}

    async def _retag(self, call: Call, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        kind, name = self._resource(arn)

        def work(tx: Tx) -> None:
            record = kind.get(call.scope, name, tx)
            if record is None:
                raise _missing(arn)
            kind.put(tx, call.scope, name, msgspec.structs.replace(record.value, tags=change(record.value.tags)))

        await self.db.write(work)

    def _resource(self, arn: str) -> tuple[Resources[Any], str]:
        """Where the resource of an ARN is kept. Raises InvalidParameterException."""
        parts = arn.split(":", 5)
        kind, _, name = parts[5].partition("/") if len(parts) == 6 else ("", "", "")
        if kind == "task-definition":
            family, _, number = name.partition(":")
            return self.definitions, revision_key(family, int(number) if number.isdigit() else 0)
        found: dict[str, Resources[Any]] = {
            "cluster": self.clusters,
            "service": self.services,
            "task": self.tasks,
            "capacity-provider": self.providers,
            "container-instance": self.instances,
        }
        if kind not in found or not name:
            raise invalid("The specified ARN is invalid.")
        return found[kind], name

    # Account settings

    async def PutAccountSetting(self, call: Call, input: Input) -> Output:
        principal = input.get("principalArn") or call.principal or f"arn:aws:iam::{call.account}:root"
        return await self._put_setting(call, input["name"], input["value"], principal)

    async def PutAccountSettingDefault(self, call: Call, input: Input) -> Output:
        made = await self._put_setting(call, input["name"], input["value"], "")
        made["setting"]["principalArn"] = f"arn:aws:iam::{call.account}:root"
        return made

    async def DeleteAccountSetting(self, call: Call, input: Input) -> Output:
        principal = input.get("principalArn") or call.principal or f"arn:aws:iam::{call.account}:root"
        await self.db.write(lambda tx: self.settings.delete(tx, call.scope, f"{principal}/{input['name']}"))
        return {"setting": {"name": input["name"], "value": "", "principalArn": principal}}

    async def ListAccountSettings(self, call: Call, input: Input) -> Output:
        root = f"arn:aws:iam::{call.account}:root"
        principal = input.get("principalArn") or call.principal or root
        found: dict[str, dict[str, Any]] = {}
        if input.get("effectiveSettings"):
            for name, value in _DEFAULTS.items():
                found[name] = {"name": name, "value": value, "principalArn": principal}
            owners: tuple[str, ...] = ("", principal)
        else:
            owners = ("", principal) if principal == root else (principal,)
        for owner in owners:
            for record in self.settings.list(call.scope, f"{owner}/"):
                one = record.value
                if one.principal == owner:
                    found[one.name] = {"name": one.name, "value": one.value, "principalArn": owner or principal}
        chosen = [
            {**one, "type": "user"}
            for name, one in sorted(found.items())
            if input.get("name") in (None, name) and input.get("value") in (None, one["value"])
        ]
        return page("settings", chosen, input, 10)

    async def _put_setting(self, call: Call, name: str, value: str, principal: str) -> Output:
        if name not in _DEFAULTS:
            raise invalid(
                "unknown is not one of the valid account setting names. "
                f"Valid values are: {', '.join(sorted(_DEFAULTS))}."
            )
        if value not in _VALUES.get(name, ("enabled", "disabled")):
            raise invalid(f"The value {value} is not valid for the setting {name}.")
        made = Setting(name, value, principal)
        await self.db.write(lambda tx: self.settings.put(tx, call.scope, f"{principal}/{name}", made))
        return {"setting": {"name": name, "value": value, "principalArn": principal, "type": "user"}}


def _missing(arn: str) -> AwsError:
    kind = arn.split(":", 5)[5].partition("/")[0]
    if kind == "task-definition":
        return client_error("Unable to describe task definition.")
    words = {"task": "task"}
    if kind == "service":
        return AwsError("ServiceNotFoundException", "Service not found.")
    if kind == "cluster":
        return AwsError("ClusterNotFoundException", "Cluster not found.")
    return invalid(f"The specified {words.get(kind, 'resource')} could not be found.")
