"""Operations on repositories: their life, settings and tags."""

from __future__ import annotations

import base64
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import records
from cloudlet.services.ecr.base import invalid, place_of, scope_of
from cloudlet.services.ecr.expiry import Expiry
from cloudlet.services.ecr.records import Repository
from cloudlet.store import Tx

_PAGE = 100
_TAGS_AT_MOST = 50
_ARN = "arn:aws:ecr:"


class Repositories(Expiry):
    """Operations on repositories."""

    async def CreateRepository(self, call: Call, input: Input) -> Output:
        name, scope = input["repositoryName"], scope_of(call, input)
        encryption = input.get("encryptionConfiguration", {})
        mutability, exclusions = mutability_of(input)
        kms_key = encryption.get("kmsKey", "")
        if encryption.get("encryptionType", "AES256").startswith("KMS") and not kms_key:
            kms_key = await self._managed_key(call)
        tags = {tag["Key"]: tag["Value"] for tag in input.get("tags", [])}
        _count_tags(tags)
        fields = {
            "mutability": mutability,
            "exclusions": exclusions,
            "scan_on_push": input.get("imageScanningConfiguration", {}).get("scanOnPush", False),
            "encryption": encryption.get("encryptionType", "AES256"),
            "kms_key": kms_key,
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
        mutability, exclusions = mutability_of(input)
        await self.edit(call, input, mutability=mutability, exclusions=exclusions)
        output = place_of(call, input) | {"imageTagMutability": mutability}
        if exclusions:
            output["imageTagMutabilityExclusionFilters"] = input["imageTagMutabilityExclusionFilters"]
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

    async def _managed_key(self, call: Call) -> str:
        """The ARN of the key that AWS manages for ECR in this account."""
        found = await self.cloud.call(
            "kms",
            "DescribeKey",
            {"KeyId": "alias/aws/ecr"},
            account=call.account,
            region=call.region,
            principal="ecr.amazonaws.com",
        )
        return str(found["KeyMetadata"]["Arn"])

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


def mutability_of(input: Input) -> tuple[str, list[str]]:
    """Whether tags may be overwritten, and the patterns of exceptions. Raises InvalidParameterException."""
    mutability = input.get("imageTagMutability", "MUTABLE")
    exclusions = [each["filter"] for each in input.get("imageTagMutabilityExclusionFilters", [])]
    if bool(exclusions) != mutability.endswith("_WITH_EXCLUSION"):
        can = "can't be null" if not exclusions else "must be null"
        raise invalid(
            "imageTagMutabilityExclusionFilters",
            f"ImageTagMutabilityExclusionFilters {can} when imageTagMutability is set as {mutability}",
        )
    return mutability, exclusions


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
