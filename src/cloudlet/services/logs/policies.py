"""Resource policies and saved queries: records that other operations look at."""

from __future__ import annotations

import uuid

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs.base import Base
from cloudlet.services.logs.groups import page_of
from cloudlet.services.logs.records import QueryDefinition, ResourcePolicy
from cloudlet.services.policies import is_resource_policy
from cloudlet.store import Tx

_POLICIES_AT_MOST = 10


class Policies(Base):
    """Operations on resource policies and query definitions."""

    async def PutResourcePolicy(self, call: Call, input: Input) -> Output:
        if "resourceArn" in input or "expectedRevisionId" in input:
            raise not_implemented("PutResourcePolicy with resourceArn")
        name, document = input.get("policyName"), input.get("policyDocument")
        if not name or not document:
            raise AwsError("InvalidParameterException", "policyName and policyDocument must be specified.")
        if not is_resource_policy(document):
            raise AwsError("InvalidParameterException", "Policy document is not valid.")
        policy = {
            "policyName": name,
            "policyDocument": document,
            "lastUpdatedTime": self.now(),
            "policyScope": "ACCOUNT",
        }

        def put(tx: Tx) -> None:
            known = self.policies.list(call.scope, tx=tx)
            if len(known) >= _POLICIES_AT_MOST and all(record.name != name for record in known):
                raise AwsError("LimitExceededException", "Resource limit exceeded.")
            self.policies.put(tx, call.scope, name, ResourcePolicy(policy))

        await self.db.write(put)
        return {"resourcePolicy": policy}

    async def DescribeResourcePolicies(self, call: Call, input: Input) -> Output:
        if "resourceArn" in input or input.get("policyScope") == "RESOURCE":
            raise not_implemented("DescribeResourcePolicies with resourceArn")
        found = [record.value.members for record in self.policies.list(call.scope)]
        page, token = page_of(found, input, lambda policy: str(policy["policyName"]))
        return {"resourcePolicies": page} | token

    async def DeleteResourcePolicy(self, call: Call, input: Input) -> Output:
        if "resourceArn" in input or "policyName" not in input:
            raise not_implemented("DeleteResourcePolicy with resourceArn")
        name = input["policyName"]
        if not await self.db.write(lambda tx: self.policies.delete(tx, call.scope, name)):
            raise AwsError("ResourceNotFoundException", f"Policy with name [{name}] does not exist.")
        return {}

    async def PutQueryDefinition(self, call: Call, input: Input) -> Output:
        if input.get("queryLanguage", "CWLI") != "CWLI" or input.get("parameters"):
            raise not_implemented("PutQueryDefinition with queryLanguage or parameters")
        token = input.get("clientToken")  # a client that asks again makes nothing new
        id = input.get("queryDefinitionId") or str(uuid.uuid5(uuid.NAMESPACE_OID, token) if token else uuid.uuid4())
        members = {
            "queryDefinitionId": id,
            "name": input["name"],
            "queryString": input["queryString"],
            "lastModified": self.now(),
            "logGroupNames": input.get("logGroupNames", []),
        }

        def put(tx: Tx) -> None:
            if "queryDefinitionId" in input and self.definitions.get(call.scope, id, tx) is None:
                raise AwsError("ResourceNotFoundException", "The specified query definition does not exist.")
            self.definitions.put(tx, call.scope, id, QueryDefinition(members))

        await self.db.write(put)
        return {"queryDefinitionId": id}

    async def DescribeQueryDefinitions(self, call: Call, input: Input) -> Output:
        prefix = input.get("queryDefinitionNamePrefix", "")
        found = [record.value.members for record in self.definitions.list(call.scope)]
        found = [members for members in found if members["name"].startswith(prefix)]
        asked = {**input, "limit": input.get("maxResults", 1000)}
        page, token = page_of(found, asked, lambda members: str(members["queryDefinitionId"]))
        return {"queryDefinitions": page} | token

    async def DeleteQueryDefinition(self, call: Call, input: Input) -> Output:
        id = input["queryDefinitionId"]
        if not await self.db.write(lambda tx: self.definitions.delete(tx, call.scope, id)):
            raise AwsError("ResourceNotFoundException", "The specified query definition does not exist.")
        return {"success": True}
