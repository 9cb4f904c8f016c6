"""What ECS does in the name of a task's execution role: it pulls images, and fetches secrets and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.ecs.records import Task
from cloudlet.services.ecs.shipping import SELF

if TYPE_CHECKING:
    from cloudlet.services.iam.service import Service as Iam


class CannotPrepare(Exception):
    """The task cannot be started; the message is its stopped reason."""


class Role:
    """Asks other services in the name of a role, by its ARN. Without one it is ECS itself that asks.

    ``service`` is whom the role has to trust.
    """

    def __init__(self, cloud: Cloud, scope: str, role: str, session: str, service: str = SELF) -> None:
        self.cloud = cloud
        self._service = service
        self.account, self.region = scope.split("/")
        self._role, self._session = role, session

    async def call(self, service: str, operation: str, input: Input, *, account: str = "", region: str = "") -> Output:
        """Do an operation if the role may, in an account and region that need not be the task's. Raises AwsError.

        Raises CannotPrepare for a role that ECS may not assume.
        """
        account, region = account or self.account, region or self.region
        if self.cloud.config.auth == "enforce" and self._role:
            await self._check(service, operation, input, region)
        return await self.cloud.call(service, operation, input, account=account, region=region, principal=self._service)

    async def _check(self, service: str, operation: str, input: Input, region: str) -> None:
        name = self._role.rpartition("/")[2]
        ask = {"RoleArn": self._role, "RoleSessionName": self._session}
        try:
            await self.cloud.call(
                "sts", "AssumeRole", ask, account=self.account, region=self.region, principal=self._service
            )
        except AwsError:
            raise CannotPrepare(
                f"ECS was unable to assume the role '{self._role}' that was provided for this task. Please verify "
                "that the role being passed has the proper trust relationship and permissions and that your IAM user "
                "has permissions to pass this role."
            ) from None
        principal = f"arn:aws:sts::{self.account}:assumed-role/{name}/{self._session}"
        call = Call(self.account, region, principal=principal, service=service, operation=operation)
        asked, iam = await self.cloud.service(service), cast("Iam", await self.cloud.service("iam"))
        arn, policy = await asked.resource_arn(call, input), await asked.resource_policy(call, input)
        await iam.authorize(call, input, arn, policy, asked.is_policy_needed)


class ExecutionRole(Role):
    """Asks other services for what a task needs before it runs."""

    def __init__(self, cloud: Cloud, scope: str, task: Task, definition: dict[str, Any]) -> None:
        overrides = task.members.get("overrides", {})
        role = overrides.get("executionRoleArn") or definition.get("executionRoleArn") or ""
        super().__init__(cloud, scope, role, task.id)
