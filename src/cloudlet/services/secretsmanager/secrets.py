"""Operations on secrets: their life, description, tags and policy."""

from __future__ import annotations

import base64
import json
import secrets as randomness
import string
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.policies import is_resource_policy
from cloudlet.services.secretsmanager import filters, passwords, records
from cloudlet.services.secretsmanager.base import (
    DAY,
    Base,
    check_id,
    check_name,
    no_such_secret,
    token_in_use,
    token_of,
)
from cloudlet.services.secretsmanager.records import CURRENT, Secret
from cloudlet.store import Tx

_LETTERS = string.ascii_letters + string.digits
_PAGE = 100
_TAGS_AT_MOST = 50


class Secrets(Base):
    """Operations on secrets."""

    async def CreateSecret(self, call: Call, input: Input) -> Output:
        for parameter in ("AddReplicaRegions", "Type", "CrossAccountPrimaryARN"):
            if input.get(parameter):
                raise not_implemented(f"Secrets Manager CreateSecret with {parameter}")
        name, now = input["Name"], self.clock.now()
        check_name(name)
        token = token_of(call, input)
        suffix = "".join(randomness.choice(_LETTERS) for _ in range(6))
        secret = Secret(
            name,
            api.arn("secretsmanager", call, f"secret:{name}-{suffix}"),
            now,
            now,
            input.get("Description", ""),
            input.get("KmsKeyId", ""),
            tags=_tags(input.get("Tags", [])),
        )
        version = await self.encrypted(call, secret, token, input)

        def create(tx: Tx) -> Secret:
            known = self.secrets.get(call.scope, name, tx)
            if known is None:
                self.keep(tx, call.scope, secret)
                return secret if version is None else self.stage(tx, call.scope, secret, version, [CURRENT])
            if known.value.deletes_at:
                raise AwsError(
                    "InvalidRequestException",
                    "You can't create this secret because a secret with this name is already scheduled for deletion.",
                )
            made = records.get(tx, known.value.arn, token)
            if made is not None and version is not None and made.digest != version.digest:
                raise token_in_use(token, known.value)
            if made is None or version is None:
                raise AwsError(
                    "ResourceExistsException", f"The operation failed because the secret {name} already exists."
                )
            return known.value

        made = await self.db.write(create)
        return _named(made) | ({"VersionId": token} if version is not None else {})

    async def UpdateSecret(self, call: Call, input: Input) -> Output:
        if input.get("Type"):
            raise not_implemented("Secrets Manager UpdateSecret with Type")
        token = token_of(call, input)
        _, secret = self.named(call, input["SecretId"])
        fields = {
            field: input[name]
            for name, field in (("Description", "description"), ("KmsKeyId", "kms_key"))
            if name in input
        }
        secret = replace(secret, **fields)
        version = await self.encrypted(call, secret, token, input)
        now, staged = self.clock.now(), []
        if "kms_key" in fields:
            found = await self.db.read(lambda tx: records.versions(tx, secret.arn))
            used = set(secret.stages.values())
            staged = [await self.reencrypted(call, secret, each) for each in found if each.id in used and each.kind]

        def update(tx: Tx) -> Secret:
            scope, current = self.named(call, input["SecretId"], tx)
            for each in staged:
                if records.get(tx, current.arn, each.id) is not None:
                    records.put(tx, current.arn, each)
            changed = self.keep(tx, scope, replace(current, **fields, changed=now))
            return changed if version is None else self.stage(tx, scope, changed, version, [CURRENT])

        made = await self.db.write(update)
        return _named(made) | ({"VersionId": token} if version is not None else {})

    async def DescribeSecret(self, call: Call, input: Input) -> Output:
        _, secret = self.named(call, input["SecretId"], deleted=True)
        shown = _described(secret)
        if secret.stages:
            shown["VersionIdsToStages"] = secret.versions
        return shown

    async def ListSecrets(self, call: Call, input: Input) -> Output:
        wanted = filters.compiled(input.get("Filters", []))
        found = [record.value for record in self.secrets.list(call.scope)]
        if not input.get("IncludePlannedDeletion"):
            found = [secret for secret in found if not secret.deletes_at]
        order = _ORDERS[input.get("SortBy", "created-date")]
        found = sorted(filter(wanted, found), key=order, reverse=input.get("SortOrder") == "desc")
        start, limit = _read_token(input), input.get("MaxResults", _PAGE)
        shown = []
        for secret in found[start : start + limit]:
            entry = _described(secret)
            if secret.stages:
                entry["SecretVersionsToStages"] = secret.versions
            shown.append(entry)
        more = {"NextToken": _token(start + limit)} if len(found) > start + limit else {}
        return {"SecretList": shown, **more}

    async def DeleteSecret(self, call: Call, input: Input) -> Output:
        force, days = input.get("ForceDeleteWithoutRecovery", False), input.get("RecoveryWindowInDays")
        if days is not None and not 7 <= days <= 30:
            raise AwsError(
                "InvalidParameterException", "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."
            )
        if force and days is not None:
            raise AwsError(
                "InvalidParameterException",
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
            )
        now, id = self.clock.now(), input["SecretId"]
        check_id(id)
        at = now if force else now + (days or 30) * DAY

        def delete(tx: Tx) -> tuple[str, Secret] | None:
            found = self.place(call, id, tx)
            if found is None:
                if not force:
                    raise no_such_secret()
                return None
            scope, secret = found
            if force:
                self.remove(tx, scope, secret)
                return scope, secret
            if secret.deletes_at:
                raise AwsError(
                    "InvalidRequestException",
                    "You can't perform this operation on the secret because it was already scheduled for deletion.",
                )
            return scope, self.keep(tx, scope, replace(secret, deletes_at=at))

        found = await self.db.write(delete)
        if found is None:
            arn = id if id.startswith("arn:") else api.arn("secretsmanager", call, f"secret:{id}")
            return {"ARN": arn, "Name": id, "DeletionDate": at}
        self.plan(found[0], replace(found[1], deletes_at=0.0, rotates_at=0.0) if force else found[1])
        return _named(found[1]) | {"DeletionDate": at}

    async def RestoreSecret(self, call: Call, input: Input) -> Output:
        secret = await self.edit(call, input["SecretId"], lambda _: {"deletes_at": 0.0}, deleted=True)
        scope, _ = self.named(call, input["SecretId"])
        self.plan(scope, secret)
        return _named(secret)

    async def TagResource(self, call: Call, input: Input) -> Output:
        new = _tags(input["Tags"])

        def change(secret: Secret) -> dict[str, Any]:
            tags = {**secret.tags, **new}
            if len(tags) > _TAGS_AT_MOST:
                raise AwsError("LimitExceededException", "A secret can have no more than 50 tags.")
            return {"tags": tags}

        await self.edit(call, input["SecretId"], change)
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self.edit(
            call,
            input["SecretId"],
            lambda secret: {"tags": {key: value for key, value in secret.tags.items() if key not in gone}},
        )
        return {}

    async def GetResourcePolicy(self, call: Call, input: Input) -> Output:
        _, secret = self.named(call, input["SecretId"])
        return _named(secret) | ({"ResourcePolicy": secret.policy} if secret.policy else {})

    async def PutResourcePolicy(self, call: Call, input: Input) -> Output:
        problems = _problems(input["ResourcePolicy"])
        if problems:
            raise AwsError("MalformedPolicyDocumentException", problems[0])
        if input.get("BlockPublicPolicy") and _is_public(input["ResourcePolicy"]):
            raise AwsError("PublicPolicyException", "You can't attach a resource policy that allows broad access.")
        secret = await self.edit(call, input["SecretId"], lambda _: {"policy": input["ResourcePolicy"]})
        return _named(secret)

    async def DeleteResourcePolicy(self, call: Call, input: Input) -> Output:
        return _named(await self.edit(call, input["SecretId"], lambda _: {"policy": ""}, deleted=True))

    async def ValidateResourcePolicy(self, call: Call, input: Input) -> Output:
        if "SecretId" in input:
            self.named(call, input["SecretId"])
        problems = _problems(input["ResourcePolicy"])
        errors = [{"CheckName": "PolicySyntax", "ErrorMessage": problem} for problem in problems]
        return {"PolicyValidationPassed": not problems, "ValidationErrors": errors}

    async def GetRandomPassword(self, call: Call, input: Input) -> Output:
        return {"RandomPassword": passwords.make(input)}


_ORDERS: dict[str, Any] = {
    "created-date": lambda secret: secret.created,
    "last-accessed-date": lambda secret: secret.accessed,
    "last-changed-date": lambda secret: secret.changed,
    "name": lambda secret: secret.name,
}


def _named(secret: Secret) -> Output:
    return {"ARN": secret.arn, "Name": secret.name}


def _described(secret: Secret) -> Output:
    shown = _named(secret) | {"CreatedDate": secret.created, "LastChangedDate": secret.changed}
    optional = {
        "Description": secret.description,
        "KmsKeyId": secret.kms_key,
        "LastAccessedDate": secret.accessed,
        "DeletedDate": secret.deletes_at,
        "RotationLambdaARN": secret.function,
        "RotationRules": secret.rules,
        "LastRotatedDate": secret.rotated,
        "NextRotationDate": secret.rotates_at,
        "Tags": [{"Key": key, "Value": value} for key, value in secret.tags.items()],
        "OwningService": secret.tags.get("aws:secretsmanager:owningService"),
    }
    if secret.rotates is not None:
        shown["RotationEnabled"] = secret.rotates
    return shown | {name: value for name, value in optional.items() if value}


def _tags(given: list[dict[str, str]]) -> dict[str, str]:
    tags = {tag.get("Key", ""): tag.get("Value", "") for tag in given}
    if len(tags) > _TAGS_AT_MOST:
        raise AwsError("LimitExceededException", "A secret can have no more than 50 tags.")
    return tags


def _problems(text: str) -> list[str]:
    """What is wrong with a policy."""
    try:
        document = json.loads(text)
    except ValueError:
        return ["This resource policy contains invalid Json."]
    if not isinstance(document, dict) or not document.get("Statement"):
        return ["This resource policy is missing required fields: Statement."]
    return [] if is_resource_policy(text) else ["This resource policy contains a statement that is not valid."]


def _is_public(text: str) -> bool:
    """Whether a policy lets anyone in without a condition."""
    statements = json.loads(text)["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        named = principal.get("AWS") if isinstance(principal, dict) else principal
        anyone = named == "*" or (isinstance(named, list) and "*" in named)
        if anyone and statement.get("Effect") == "Allow" and not statement.get("Condition"):
            return True
    return False


def _token(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode()


def _read_token(input: Input) -> int:
    if "NextToken" not in input:
        return 0
    try:
        return int(base64.urlsafe_b64decode(input["NextToken"].encode("ascii")))
    except ValueError:
        raise AwsError("InvalidNextTokenException", "The NextToken value is invalid.") from None
