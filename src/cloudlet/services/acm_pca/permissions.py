"""Who else may use an authority: permissions of services, policies for accounts."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.acm_pca.base import Base, page
from cloudlet.services.acm_pca.records import CertificateAuthority, Permission
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.policies import is_resource_policy

_PRINCIPAL = "acm.amazonaws.com"  # the only one that AWS takes


class Permissions(Base):
    """Operations on permissions and policies."""

    async def CreatePermission(self, call: Call, input: Input) -> Output:
        account, principal = input.get("SourceAccount", call.account), input["Principal"]
        if principal != _PRINCIPAL:
            raise AwsError("ValidationException", f"The principal must be {_PRINCIPAL}.")
        made = Permission(principal, account, input["Actions"], self.clock.now())

        def add(found: CertificateAuthority) -> dict[str, Any]:
            _check(found)
            if any((one.principal, one.source_account) == (principal, account) for one in found.permissions):
                raise AwsError("PermissionAlreadyExistsException", "The permission already exists.")
            return {"permissions": [*found.permissions, made]}

        await self.change(input["CertificateAuthorityArn"], add)
        return {}

    async def DeletePermission(self, call: Call, input: Input) -> Output:
        place = (input["Principal"], input.get("SourceAccount", call.account))

        def remove(found: CertificateAuthority) -> dict[str, Any]:
            _check(found)
            left = [one for one in found.permissions if (one.principal, one.source_account) != place]
            if len(left) == len(found.permissions):
                raise AwsError("ResourceNotFoundException", f"Could not find a permission of {place[0]}.")
            return {"permissions": left}

        await self.change(input["CertificateAuthorityArn"], remove)
        return {}

    async def ListPermissions(self, call: Call, input: Input) -> Output:
        found = self.authority(input["CertificateAuthorityArn"])
        _check(found)
        shown = [
            {
                "CertificateAuthorityArn": found.arn,
                "CreatedAt": one.created,
                "Principal": one.principal,
                "SourceAccount": one.source_account,
                "Actions": one.actions,
            }
            for one in found.permissions
        ]
        return page("Permissions", shown, input)

    async def PutPolicy(self, call: Call, input: Input) -> Output:
        if not is_resource_policy(input["Policy"]):
            raise AwsError("InvalidPolicyException", "The resource policy is invalid.")
        await self._set_policy(input["ResourceArn"], input["Policy"])
        return {}

    async def GetPolicy(self, call: Call, input: Input) -> Output:
        found = self.authority(input["ResourceArn"])
        _check(found)
        if not found.policy:
            raise AwsError("ResourceNotFoundException", f"Could not find a policy of {found.arn}.")
        return {"Policy": found.policy}

    async def DeletePolicy(self, call: Call, input: Input) -> Output:
        await self._set_policy(input["ResourceArn"], "")
        return {}

    async def _set_policy(self, arn: str, policy: str) -> None:
        def set(found: CertificateAuthority) -> dict[str, Any]:
            _check(found)
            return {"policy": policy}

        await self.change(arn, set)


def _check(found: CertificateAuthority) -> None:
    if found.status == "DELETED":
        raise AwsError("InvalidStateException", f"The certificate authority {found.arn} is deleted.")
