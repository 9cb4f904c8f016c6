"""What all operations of Application Auto Scaling stand on."""

from __future__ import annotations

import functools
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.application_autoscaling.records import Action, Policy, Target
from cloudlet.services.application_autoscaling.scalable import SCALABLES, Ask, scalable
from cloudlet.services.pages import page_at
from cloudlet.store import Tx

SELF = "application-autoscaling.amazonaws.com"


class Base(api.Service):
    """The state of the service."""

    name = "application-autoscaling"

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name)
        self.targets = self.db.resources(Target)
        self.policies = self.db.resources(Policy)
        self.actions = self.db.resources(Action)

    def key(self, input: Input) -> str:
        """A target's name in the store. Raises ValidationException, and NotImplemented for what does not scale here."""
        namespace, resource = input["ServiceNamespace"], input["ResourceId"]
        scalable(namespace, resource, input["ScalableDimension"])
        return f"{namespace}|{resource}|{input['ScalableDimension']}"

    def target(self, call: Call, input: Input, tx: Tx | None = None) -> Target:
        """A target that is registered. Raises ObjectNotFoundException."""
        record = self.targets.get(call.scope, self.key(input), tx)
        if record is None:
            raise no_target(input)
        return record.value

    async def current(self, scope: str, members: dict[str, Any]) -> int:
        """The capacity that is wanted of a target now. Raises ValidationException."""
        return await SCALABLES[members["ScalableDimension"]].current(self.asker(scope), members["ResourceId"])

    def asker(self, scope: str) -> Ask:
        """Calls of other services in an account and region."""
        return functools.partial(self.ask, scope)

    async def ask(self, scope: str, service: str, operation: str, input: Input) -> Output:
        """Call another service as this one."""
        account, region = scope.split("/")
        return await self.cloud.call(service, operation, input, account=account, region=region, principal=SELF)


def no_target(input: Input) -> AwsError:
    """The target is not registered."""
    return AwsError(
        "ObjectNotFoundException",
        f"No scalable target registered for service namespace: {input['ServiceNamespace']}, "
        f"resource ID: {input['ResourceId']}, scalable dimension: {input['ScalableDimension']}",
    )


def page(key: str, items: list[Any], input: Input) -> Output:
    """One page of a listing; tokens are positions."""
    refusal = AwsError("InvalidNextTokenException", "The next token is not valid.")
    size = min(input.get("MaxResults") or 50, 50)
    return page_at(key, items, input.get("NextToken"), size, refusal, "NextToken")


def chosen(items: list[dict[str, Any]], input: Input) -> list[dict[str, Any]]:
    """The items of a resource and dimension, where those are asked for."""
    return [
        one
        for one in items
        if one["ServiceNamespace"] == input["ServiceNamespace"]
        and input.get("ResourceId") in (None, one["ResourceId"])
        and input.get("ScalableDimension") in (None, one["ScalableDimension"])
    ]
