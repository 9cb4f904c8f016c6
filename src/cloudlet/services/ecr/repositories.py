"""Operations on repositories: their life, settings, policies and tags."""

from __future__ import annotations

import base64
import json
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import lifecycle, records
from cloudlet.services.ecr.base import Base, invalid, scope_of
from cloudlet.services.ecr.records import Registry, Repository
from cloudlet.store import Tx

_PAGE = 100
_TAGS_AT_MOST = 50
_ARN = "arn:aws:ecr:"


class Repositories(Base):
    """Operations on repositories and on the registry as a whole."""

    async def CreateRepository(self, call: Call, input: Input) -> Output:
        name, scope = input["repositoryName"], scope_of(call, input)
        encryption = input.get("encryptionConfiguration", {})
        mutability, exclusions = _mutability(input)
        tags = {tag["Key"]: tag["Value"] for tag in input.get("tags", [])}
        _count_tags(tags)
        fields = {
            "mutability": mutability,
            "exclusions": exclusions,
            "scan_on_push": input.get("imageScanningConfiguration", {}).get("scanOnPush", False),
            "encryption": encryption.get("encryptionType", "AES256"),
            "kms_key": encryption.get("kmsKey", ""),
            "tags": tags,
        }
        now = self.clock.now()

        def create(tx: Tx) -> Repository:
            if self.repositories.get(scope, name, tx) is not None:
                raise AwsError(
                    "RepositoryAlreadyExistsException",
                    f"The repository with name '{name}' already exists in the registry with id '{scope.split('/')[0]}'",
                )
            return self.repositories.put(tx, scope, name, Repository(name, records.new_number(tx), now, **fields)).value

        return {"repository": self._shown(scope, await self.db.write(create))}

    async def DescribeRepositories(self, call: Call, input: Input) -> Output:
        scope = scope_of(call, input)
        if names := input.get("repositoryNames"):
            return {"repositories": [self._shown(scope, self.repository(scope, name)) for name in names]}
        found = [record.value for record in self.repositories.list(scope)]
        limit = input.get("maxResults", _PAGE)
        if token := input.get("nextToken"):
            after = read_token(token)
            found = [repository for repository in found if repository.name > after]
        output: Output = {"repositories": [self._shown(scope, repository) for repository in found[:limit]]}
        return output | ({"nextToken": token_of(found[limit - 1].name)} if len(found) > limit else {})

    async def DeleteRepository(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call, input), input["repositoryName"]

        def delete(tx: Tx) -> Repository:
            repository = self.repository(scope, name, tx)
            if not input.get("force") and records.has_images(tx, repository.number):
                raise AwsError(
                    "RepositoryNotEmptyException",
                    f"The repository with name '{name}' in registry with id '{scope.split('/')[0]}' cannot be deleted "
                    "because it still contains images",
                )
            self.repositories.delete(tx, scope, name)
            return repository

        repository = await self.db.write(delete)
        self.plan_expiry(scope, replace(repository, lifecycle=""))
        self.cloud.spawn(self.sweep(repository.number), f"ecr sweeps {repository.number}")
        return {"repository": self._shown(scope, repository)}

    async def PutImageTagMutability(self, call: Call, input: Input) -> Output:
        mutability, exclusions = _mutability(input)
        await self._edit(call, input, mutability=mutability, exclusions=exclusions)
        output = _place(call, input) | {"imageTagMutability": mutability}
        if exclusions:
            output["imageTagMutabilityExclusionFilters"] = input["imageTagMutabilityExclusionFilters"]
        return output

    async def PutImageScanningConfiguration(self, call: Call, input: Input) -> Output:
        scan = input["imageScanningConfiguration"].get("scanOnPush", False)
        await self._edit(call, input, scan_on_push=scan)
        return _place(call, input) | {"imageScanningConfiguration": {"scanOnPush": scan}}

    async def BatchGetRepositoryScanningConfiguration(self, call: Call, input: Input) -> Output:
        found, failures = [], []
        for name in input["repositoryNames"]:
            record = self.repositories.get(call.scope, name)
            if record is None:
                failures.append(
                    {
                        "repositoryName": name,
                        "failureCode": "REPOSITORY_NOT_FOUND",
                        "failureReason": "REPOSITORY_NOT_FOUND",
                    }
                )
                continue
            scan = record.value.scan_on_push
            found.append(
                {
                    "repositoryArn": api.arn("ecr", call, f"repository/{name}"),
                    "repositoryName": name,
                    "scanOnPush": scan,
                    "scanFrequency": "SCAN_ON_PUSH" if scan else "MANUAL",
                    "appliedScanFilters": [],
                }
            )
        return {"scanningConfigurations": found, "failures": failures}

    async def SetRepositoryPolicy(self, call: Call, input: Input) -> Output:
        policy = _policy(input["policyText"], "Invalid repository policy provided")
        await self._edit(call, input, policy=policy)
        return _place(call, input) | {"policyText": policy}

    async def GetRepositoryPolicy(self, call: Call, input: Input) -> Output:
        repository = self.named(call, input)
        if not repository.policy:
            raise _no_policy("Repository", "RepositoryPolicyNotFoundException", call, input)
        return _place(call, input) | {"policyText": repository.policy}

    async def DeleteRepositoryPolicy(self, call: Call, input: Input) -> Output:
        output = await self.GetRepositoryPolicy(call, input)
        await self._edit(call, input, policy="")
        return output

    async def PutLifecyclePolicy(self, call: Call, input: Input) -> Output:
        text = input["lifecyclePolicyText"]
        lifecycle.read(text)
        repository = await self._edit(call, input, lifecycle=text, evaluated=self.clock.now())
        self.plan_expiry(scope_of(call, input), repository)
        return _place(call, input) | {"lifecyclePolicyText": text}

    async def GetLifecyclePolicy(self, call: Call, input: Input) -> Output:
        repository = self.named(call, input)
        if not repository.lifecycle:
            raise _no_policy("Lifecycle", "LifecyclePolicyNotFoundException", call, input)
        return _place(call, input) | {
            "lifecyclePolicyText": repository.lifecycle,
            "lastEvaluatedAt": repository.evaluated,
        }

    async def DeleteLifecyclePolicy(self, call: Call, input: Input) -> Output:
        output = await self.GetLifecyclePolicy(call, input)
        self.plan_expiry(scope_of(call, input), await self._edit(call, input, lifecycle=""))
        return output

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        scope, name = _named_by(input["resourceArn"])
        tags = self.repository(scope, name).tags
        return {"tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    async def TagResource(self, call: Call, input: Input) -> Output:
        new = {tag["Key"]: tag["Value"] for tag in input["tags"]}
        await self._edit_tags(input, lambda tags: {**tags, **new})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["tagKeys"])
        await self._edit_tags(input, lambda tags: {key: value for key, value in tags.items() if key not in gone})
        return {}

    async def DescribeRegistry(self, call: Call, input: Input) -> Output:
        return {"registryId": call.account, "replicationConfiguration": {"rules": []}}

    async def PutReplicationConfiguration(self, call: Call, input: Input) -> Output:
        if input["replicationConfiguration"]["rules"]:
            raise not_implemented("ECR PutReplicationConfiguration with rules")
        return {"replicationConfiguration": {"rules": []}}

    async def GetRegistryScanningConfiguration(self, call: Call, input: Input) -> Output:
        return {"registryId": call.account, "scanningConfiguration": {"scanType": "BASIC", "rules": []}}

    async def PutRegistryPolicy(self, call: Call, input: Input) -> Output:
        policy = _policy(input["policyText"], "Invalid registry policy provided")
        await self.db.write(lambda tx: self.registries.put(tx, call.scope, "default", Registry(policy)))
        return {"registryId": call.account, "policyText": policy}

    async def GetRegistryPolicy(self, call: Call, input: Input) -> Output:
        record = self.registries.get(call.scope, "default")
        if record is None:
            raise AwsError(
                "RegistryPolicyNotFoundException",
                f"Registry policy does not exist in the registry with id '{call.account}'",
            )
        return {"registryId": call.account, "policyText": record.value.policy}

    async def DeleteRegistryPolicy(self, call: Call, input: Input) -> Output:
        output = await self.GetRegistryPolicy(call, input)
        await self.db.write(lambda tx: self.registries.delete(tx, call.scope, "default"))
        return output

    async def _edit(self, call: Call, input: Input, **fields: Any) -> Repository:
        scope, name = scope_of(call, input), input["repositoryName"]

        def edit(tx: Tx) -> Repository:
            return self.repositories.put(tx, scope, name, replace(self.repository(scope, name, tx), **fields)).value

        return await self.db.write(edit)

    async def _edit_tags(self, input: Input, change: Any) -> None:
        scope, name = _named_by(input["resourceArn"])

        def edit(tx: Tx) -> None:
            repository = self.repository(scope, name, tx)
            tags = change(repository.tags)
            _count_tags(tags)
            self.repositories.put(tx, scope, name, replace(repository, tags=tags))

        await self.db.write(edit)

    def _shown(self, scope: str, repository: Repository) -> Output:
        account, region = scope.split("/")
        encryption = {"encryptionType": repository.encryption}
        if repository.kms_key:
            encryption["kmsKey"] = repository.kms_key
        shown: Output = {
            "repositoryArn": f"{_ARN}{region}:{account}:repository/{repository.name}",
            "registryId": account,
            "repositoryName": repository.name,
            "repositoryUri": self.uri(account, region, repository.name),
            "createdAt": repository.created,
            "imageTagMutability": repository.mutability,
            "imageScanningConfiguration": {"scanOnPush": repository.scan_on_push},
            "encryptionConfiguration": encryption,
        }
        if repository.exclusions:
            shown["imageTagMutabilityExclusionFilters"] = [
                {"filterType": "WILDCARD", "filter": each} for each in repository.exclusions
            ]
        return shown


def _mutability(input: Input) -> tuple[str, list[str]]:
    mutability = input.get("imageTagMutability", "MUTABLE")
    exclusions = [each["filter"] for each in input.get("imageTagMutabilityExclusionFilters", [])]
    if bool(exclusions) != mutability.endswith("_WITH_EXCLUSION"):
        raise invalid(
            "imageTagMutabilityExclusionFilters",
            "Exclusion filters go with IMMUTABLE_WITH_EXCLUSION or MUTABLE_WITH_EXCLUSION, and only with them",
        )
    return mutability, exclusions


def _place(call: Call, input: Input) -> Output:
    return {"registryId": input.get("registryId", call.account), "repositoryName": input["repositoryName"]}


def _policy(text: str, reason: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not document.get("Statement"):
        raise invalid("PolicyText", reason)
    return text


def _no_policy(kind: str, code: str, call: Call, input: Input) -> AwsError:
    return AwsError(
        code,
        f"{kind} policy does not exist for the repository with name '{input['repositoryName']}' in the registry with "
        f"id '{input.get('registryId', call.account)}'",
    )


def _named_by(arn: str) -> tuple[str, str]:
    """Scope and name of a repository's ARN. Raises InvalidParameterException."""
    parts = arn.split(":", 5)
    if not arn.startswith(_ARN) or len(parts) != 6 or not parts[5].startswith("repository/"):
        raise invalid("resourceArn", "Invalid ARN")
    return f"{parts[4]}/{parts[3]}", parts[5].removeprefix("repository/")


def _count_tags(tags: dict[str, str]) -> None:
    if len(tags) > _TAGS_AT_MOST:
        raise AwsError("TooManyTagsException", "The list of tags on the repository is over the limit of 50 tags.")


def token_of(place: str) -> str:
    """A token for going on after a place."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def read_token(token: str) -> str:
    """The place of a token. Raises InvalidParameterException."""
    try:
        return base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except ValueError:
        raise invalid("nextToken", "Invalid token") from None
