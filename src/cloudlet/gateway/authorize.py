"""Whether the caller may do what he asks for: IAM's policies decide, with ``--auth enforce``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudlet.services.api import Call, Input

if TYPE_CHECKING:
    from cloudlet.cloud import Cloud


class Authorizer:
    """Asks IAM about every call from outside; what services ask of each other is not its matter."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._enforce = cloud.config.auth == "enforce"

    async def authorize(self, call: Call, input: Input) -> None:
        """Raises AccessDenied. A caller without a signature is judged by the service that lets him in."""
        if not self._enforce or not call.access_key or not self._cloud.has(call.service):
            return
        iam = await self._cloud.service("iam")
        service = await self._cloud.service(call.service)
        arn, policy = await service.resource_arn(call, input), await service.resource_policy(call, input)
        await iam.authorize(call, input, arn, policy, service.is_policy_needed)
