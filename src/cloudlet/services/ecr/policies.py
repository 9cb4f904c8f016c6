"""Policies: of repositories, of registries, and those of lifecycles with their previews."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import lifecycle, records
from cloudlet.services.ecr.base import Base, invalid, place_of, scope_of


class Policies(Base):
    """Operations on policies."""

    async def SetRepositoryPolicy(self, call: Call, input: Input) -> Output:
        policy = _policy(input["policyText"], "Invalid repository policy provided")
        await self.edit(call, input, policy=policy)
        return place_of(call, input) | {"policyText": policy}

    async def GetRepositoryPolicy(self, call: Call, input: Input) -> Output:
        repository = self.named(call, input)
        if not repository.policy:
            raise _no_policy("Repository", "RepositoryPolicyNotFoundException", call, input)
        return place_of(call, input) | {"policyText": repository.policy}

    async def DeleteRepositoryPolicy(self, call: Call, input: Input) -> Output:
        output = await self.GetRepositoryPolicy(call, input)
        await self.edit(call, input, policy="")
        return output

    async def PutLifecyclePolicy(self, call: Call, input: Input) -> Output:
        text = input["lifecyclePolicyText"]
        lifecycle.read(text)
        repository = await self.edit(call, input, lifecycle=text, evaluated=self.clock.now())
        self.plan_expiry(scope_of(call, input), repository)
        return place_of(call, input) | {"lifecyclePolicyText": text}

    async def GetLifecyclePolicy(self, call: Call, input: Input) -> Output:
        repository = self.named(call, input)
        if not repository.lifecycle:
            raise _no_policy("Lifecycle", "LifecyclePolicyNotFoundException", call, input)
        return place_of(call, input) | {
            "lifecyclePolicyText": repository.lifecycle,
            "lastEvaluatedAt": repository.evaluated,
        }

    async def DeleteLifecyclePolicy(self, call: Call, input: Input) -> Output:
        output = await self.GetLifecyclePolicy(call, input)
        self.plan_expiry(scope_of(call, input), await self.edit(call, input, lifecycle=""))
        return output

    async def StartLifecyclePolicyPreview(self, call: Call, input: Input) -> Output:
        text = input.get("lifecyclePolicyText") or (await self.GetLifecyclePolicy(call, input))["lifecyclePolicyText"]
        lifecycle.read(text)
        await self.edit(call, input, preview=text)
        return place_of(call, input) | {"lifecyclePolicyText": text, "status": "IN_PROGRESS"}

    async def GetLifecyclePolicyPreview(self, call: Call, input: Input) -> Output:
        """What the policy would do now: it is worked out when it is asked for."""
        repository = self.named(call, input)
        if not repository.preview:
            raise _no_policy("Lifecycle preview", "LifecyclePolicyPreviewNotFoundException", call, input)
        for member in ("imageIds", "filter", "nextToken"):
            if input.get(member):
                raise not_implemented(f"ECR GetLifecyclePolicyPreview with {member}")
        rules = lifecycle.read(repository.preview)
        seen = await self.db.scan(lambda tx: records.seen(tx, repository.number))
        gone = lifecycle.expiring(rules, seen, self.clock.now())
        results = [
            {
                "imageDigest": image.digest,
                "imageTags": image.tags,
                "imagePushedAt": image.pushed,
                "action": {"type": "EXPIRE"},
                "appliedRulePriority": rule.priority,
            }
            for image, rule in gone
        ]
        return place_of(call, input) | {
            "lifecyclePolicyText": repository.preview,
            "status": "COMPLETE",
            "previewResults": results,
            "summary": {"expiringImageTotalCount": len(results)},
        }

    async def PutRegistryPolicy(self, call: Call, input: Input) -> Output:
        policy = _policy(input["policyText"], "Invalid registry policy provided")
        await self.edit_registry(call.scope, policy=policy)
        return {"registryId": call.account, "policyText": policy}

    async def GetRegistryPolicy(self, call: Call, input: Input) -> Output:
        record = self.registries.get(call.scope, "default")
        if record is None or not record.value.policy:
            raise AwsError(
                "RegistryPolicyNotFoundException",
                f"Registry policy does not exist in the registry with id '{call.account}'",
            )
        return {"registryId": call.account, "policyText": record.value.policy}

    async def DeleteRegistryPolicy(self, call: Call, input: Input) -> Output:
        output = await self.GetRegistryPolicy(call, input)
        await self.edit_registry(call.scope, policy="")
        return output


def _policy(text: str, reason: str) -> str:
    """A policy that says who may do what. Raises InvalidParameterException."""
    try:
        statements = json.loads(text)["Statement"]
    except (ValueError, KeyError, TypeError):
        raise invalid("PolicyText", reason) from None
    statements = statements if isinstance(statements, list) else [statements]
    if not statements or not all(isinstance(one, dict) and _is_statement(one) for one in statements):
        raise invalid("PolicyText", reason)
    return text


def _is_statement(statement: dict[str, Any]) -> bool:
    has_who = "Principal" in statement or "NotPrincipal" in statement
    actions = statement.get("Action") or statement.get("NotAction") or ""
    listed = [actions] if isinstance(actions, str) else actions
    return (
        statement.get("Effect") in ("Allow", "Deny")
        and has_who
        and all(isinstance(one, str) and (one == "*" or one.startswith("ecr:")) for one in listed)
    )


def _no_policy(kind: str, code: str, call: Call, input: Input) -> AwsError:
    return AwsError(
        code,
        f"{kind} policy does not exist for the repository with name '{input['repositoryName']}' in the registry with "
        f"id '{input.get('registryId', call.account)}'",
    )
