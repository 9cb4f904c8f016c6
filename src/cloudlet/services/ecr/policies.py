"""Policies: of repositories, of registries, and those of lifecycles with their previews."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import lifecycle, records
from cloudlet.services.ecr.base import invalid, place_of, scope_of
from cloudlet.services.ecr.expiry import Expiry
from cloudlet.services.ecr.images import find
from cloudlet.services.ecr.lifecycle import Rule
from cloudlet.services.ecr.records import Seen
from cloudlet.services.ecr.repositories import read_token, token_of
from cloudlet.store import Tx

_PAGE = 100


class Policies(Expiry):
    """Operations on policies."""

    async def SetRepositoryPolicy(self, call: Call, input: Input) -> Output:
        policy = policy_of(input["policyText"], "Invalid repository policy provided")
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
        rules = lifecycle.read(repository.preview)
        status = input.get("filter", {}).get("tagStatus", "ANY")

        def look(tx: Tx) -> tuple[list[tuple[Seen, Rule]], set[str] | None]:
            due = lifecycle.due(rules, records.seen(tx, repository.number), self.clock.now())
            if "imageIds" not in input:
                return due, None
            asked = [find(tx, repository, id, []) for id in input["imageIds"]]
            return due, {image.digest for image in asked if image is not None}

        due, wanted = await self.db.scan(look)
        results = [
            _previewed(seen, rule)
            for seen, rule in due
            if (wanted is None or seen.image.digest in wanted)
            and (status == "ANY" or bool(seen.tags) == (status == "TAGGED"))
        ]
        first = int(read_token(input["nextToken"])) if "nextToken" in input else 0
        last = first + input.get("maxResults", _PAGE)
        archiving = sum(rule.action == "transition" for _, rule in due)
        summary: Output = {"expiringImageTotalCount": len(due) - archiving}
        if archiving:
            summary["transitioningImageTotalCounts"] = [{"targetStorageClass": "ARCHIVE", "imageTotalCount": archiving}]
        output = place_of(call, input) | {
            "lifecyclePolicyText": repository.preview,
            "status": "COMPLETE",
            "previewResults": results[first:last],
            "summary": summary,
        }
        return output | ({"nextToken": token_of(str(last))} if last < len(results) else {})

    async def PutRegistryPolicy(self, call: Call, input: Input) -> Output:
        policy = policy_of(input["policyText"], "Invalid registry policy provided")
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


def _previewed(seen: Seen, rule: Rule) -> Output:
    """What a rule would do with an image."""
    action = {"type": "EXPIRE"}
    if rule.action == "transition":
        action = {"type": "TRANSITION", "targetStorageClass": "ARCHIVE"}
    return {
        "imageDigest": seen.image.digest,
        "imageTags": seen.tags,
        "imagePushedAt": seen.image.pushed,
        "action": action,
        "appliedRulePriority": rule.priority,
        "storageClass": rule.storage.upper(),
    }


def policy_of(text: str, reason: str) -> str:
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
