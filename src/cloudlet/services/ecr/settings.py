"""Account settings of ECR, of which there are three."""

from __future__ import annotations

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr.base import Base, invalid

# What each may be; the first is what it is before anybody puts it. On AWS blobs are not mounted before that.
_VALUES = {
    "BASIC_SCAN_TYPE_VERSION": ("AWS_NATIVE",),
    "BLOB_MOUNTING": ("ENABLED", "DISABLED"),
    "REGISTRY_POLICY_SCOPE": ("V2",),
}


class Settings(Base):
    """Operations on account settings."""

    async def GetAccountSetting(self, call: Call, input: Input) -> Output:
        name = input["name"]
        return {"name": name, "value": self.setting(call.scope, name)}

    async def PutAccountSetting(self, call: Call, input: Input) -> Output:
        name, value = input["name"], input["value"]
        if value not in _of(name):
            raise invalid("value", f"Member must satisfy enum value set: [{', '.join(_of(name))}]")
        record = self.registries.get(call.scope, "default")
        before = record.value.settings if record is not None else {}
        await self.edit_registry(call.scope, settings={**before, name: value})
        return {"name": name, "value": value}

    def setting(self, scope: str, name: str) -> str:
        """What an account has set, or what it has without. Raises InvalidParameterException."""
        record = self.registries.get(scope, "default")
        return (record.value.settings if record is not None else {}).get(name, _of(name)[0])


def _of(name: str) -> tuple[str, ...]:
    if name not in _VALUES:
        raise invalid("name", f"Member must satisfy enum value set: [{', '.join(_VALUES)}]")
    return _VALUES[name]
