"""Provisioned concurrency: sandboxes of a version that are ready before anybody asks, and stay."""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from cloudlet.engines.functions import FunctionFailed, Throttled
from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_.code import invalid
from cloudlet.services.lambda_.invocations import Invocations
from cloudlet.services.lambda_.records import LATEST, Settings

log = logging.getLogger("cloudlet.lambda")


class Provisioned(Invocations):
    """The operations on provisioned concurrency."""

    async def PutProvisionedConcurrencyConfig(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        self.function(call, input)
        if not qualifier or qualifier == LATEST:
            raise invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        self.version(scope, name, qualifier)
        count = input["ProvisionedConcurrentExecutions"]
        await self._keep(scope, name, qualifier, count)
        return self._settings_of(scope, name)[qualifier]

    async def GetProvisionedConcurrencyConfig(self, call: Call, input: Input) -> Output:
        _, _, settings = self.function(call, input)
        found = settings.provisioned.get(self.named(call, input)[2])
        if found is None:
            words = "No Provisioned Concurrency Config found for this function"
            raise AwsError("ProvisionedConcurrencyConfigNotFoundException", words, status=404, Type="User")
        return found

    async def ListProvisionedConcurrencyConfigs(self, call: Call, input: Input) -> Output:
        scope, name, settings = self.function(call, input)
        found = [
            {**members, "FunctionArn": self.arn(scope, name, qualifier)}
            for qualifier, members in settings.provisioned.items()
        ]
        return self.page("ProvisionedConcurrencyConfigs", found, input)

    async def DeleteProvisionedConcurrencyConfig(self, call: Call, input: Input) -> Output:
        scope, name, settings = self.function(call, input)
        qualifier = self.named(call, input)[2]

        def change(settings: Settings) -> Settings:
            kept = {key: value for key, value in settings.provisioned.items() if key != qualifier}
            return replace(settings, provisioned=kept)

        await self.alter(scope, name, change)
        if qualifier in settings.provisioned:
            await self.engine.keep(self.runnable_of(scope, self.version(scope, name, qualifier)), 0)
        return {}

    def resume_provisioned(self) -> None:
        """Have ready again what was ready before the cloud was stopped."""
        for record in self.settings.all():
            for qualifier in record.value.provisioned:
                self.provision_later(record.scope, record.name, qualifier)

    def provision_later(self, scope: str, name: str, qualifier: str, before: str = "") -> None:
        """A version, or the one that an alias now means and did not ``before``, has to have its sandboxes ready."""
        members = self._settings_of(scope, name).get(qualifier)
        if members is not None:
            count = members["RequestedProvisionedConcurrentExecutions"]
            self.cloud.spawn(self._move(scope, name, qualifier, count, before), f"provisioned concurrency of {name}")

    async def _move(self, scope: str, name: str, qualifier: str, count: int, before: str) -> None:
        await self._keep(scope, name, qualifier, count)
        number = self.version(scope, name, qualifier).value.members["Version"]
        if before and before != number:
            own = self._settings_of(scope, name).get(before, {})
            old = self.runnable_of(scope, self.version(scope, name, before))
            await self.engine.keep(old, own.get("RequestedProvisionedConcurrentExecutions", 0))

    async def _keep(self, scope: str, name: str, qualifier: str, count: int) -> None:
        """Start the sandboxes, and let the configuration say what came of it."""
        state: dict[str, Any] = {"Status": "READY"}
        try:
            await self.engine.keep(self.runnable_of(scope, self.version(scope, name, qualifier)), count)
        except (FunctionFailed, Throttled, AwsError) as error:
            log.warning("provisioned concurrency of %s cannot be had: %s", name, error)
            state = {"Status": "FAILED", "StatusReason": str(error) or "This machine has no room for so many."}
        ready = count if state["Status"] == "READY" else 0
        members = {
            "RequestedProvisionedConcurrentExecutions": count,
            "AllocatedProvisionedConcurrentExecutions": ready,
            "AvailableProvisionedConcurrentExecutions": ready,
            **state,
            "LastModified": self.timestamp(),
        }
        await self.alter(scope, name, lambda now: replace(now, provisioned={**now.provisioned, qualifier: members}))

    def _settings_of(self, scope: str, name: str) -> dict[str, dict[str, Any]]:
        record = self.settings.get(scope, name)
        return record.value.provisioned if record is not None else {}
