"""CodeDeploy. What is kept is in ``records.py``, how a deployment goes in ``course.py`` and ``running.py``."""

from __future__ import annotations

import json

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Tagged
from cloudlet.services.codedeploy.deployments import Deployments
from cloudlet.services.codedeploy.revisions import checked_location


class Service(Deployments):
    """Applications, groups and deployments that shift the traffic of aliases and of ECS services."""

    refused = {
        "CreateDeployment": "deploymentMode!=STANDARD",
    }

    async def lead_alias(
        self, account: str, region: str, place: dict[str, str], target: dict[str, str], hooks: dict[str, str]
    ) -> None:
        """Lead an alias to another version for a stack, and wait for it. Raises AwsError when it does not get there.

        ``place`` names the application, the group and for whom (``externalId``) it is: a deployment that is under way
        for the same is waited for, and not made again.
        """
        call = Call(account, region)
        resource = {target["Name"]: {"Type": "AWS::Lambda::Function", "Properties": target}}
        text = {"version": 0.0, "Resources": [resource], "Hooks": [{name: hooks[name]} for name in hooks]}
        location = checked_location({"revisionType": "String", "string": {"content": json.dumps(text)}})
        of_group = self.deployments_of(call.scope, place["applicationName"], place["deploymentGroupName"])
        mine = [one for one in of_group if one.value.external == place["externalId"] and not one.value.is_over]
        id = mine[0].name if mine else await self.begin(call, "Lambda", location, dict(place), place["externalId"])
        one = await self.ended(call.scope, id)
        if one is None or one.status != "Succeeded":
            reason = one.error["message"] if one is not None else "It is not there any more."
            raise AwsError("InternalFailure", f"{id} failed. {reason}")

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope, arn = f"{account}/{region}", f"arn:aws:codedeploy:{region}:{account}"
        applications = [
            {"type": "AWS::CodeDeploy::Application", "name": one.name, "arn": f"{arn}:application:{one.name}"}
            for one in self.applications.list(scope)
        ]
        return applications + [
            {"type": "AWS::CodeDeploy::DeploymentGroup", "name": one.name, "arn": f"{arn}:deploymentgroup:{one.name}"}
            for one in self.groups.list(scope)
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope, prefix = f"{account}/{region}", f"arn:aws:codedeploy:{region}:{account}"
        found = [(f"{prefix}:application:{one.name}", one.value.tags) for one in self.applications.list(scope)]
        return found + [(f"{prefix}:deploymentgroup:{one.name}", one.value.tags) for one in self.groups.list(scope)]
