"""Operations on a secret's versions: their values and their staging labels."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.secretsmanager import filters, records
from cloudlet.services.secretsmanager.base import DAY, Base, moved, token_of
from cloudlet.services.secretsmanager.records import CURRENT, Secret, Version
from cloudlet.store import Tx

_BATCH = 20
_DEFAULT = "DefaultEncryptionKey"


class Values(Base):
    """Operations on versions."""

    async def GetSecretValue(self, call: Call, input: Input) -> Output:
        scope, secret = self.named(call, input["SecretId"])
        id = _wanted(secret, input)
        version = await self.db.read(lambda tx: records.get(tx, secret.arn, id)) if id else None
        if version is None or not version.kind:
            raise _no_such_value(input)
        plain = await self.decrypted(call, secret, version)
        await self._touch(scope, secret, version)
        return {
            "ARN": secret.arn,
            "Name": secret.name,
            "VersionId": version.id,
            version.kind: plain.decode() if version.kind == "SecretString" else plain,
            "VersionStages": secret.stages_of(version.id),
            "CreatedDate": version.made,
        }

    async def _touch(self, scope: str, secret: Secret, version: Version) -> None:
        """Note the day of a read: the first one of a day writes, the others do not."""
        day = self.clock.now() // DAY * DAY
        if secret.accessed == version.accessed == day:
            return

        def touch(tx: Tx) -> None:
            record = self.secrets.get(scope, secret.name, tx)
            if record is not None and record.value.arn == secret.arn:
                self.keep(tx, scope, replace(record.value, accessed=day))
                records.touch(tx, secret.arn, version.id, day)

        await self.db.write(touch)

    async def BatchGetSecretValue(self, call: Call, input: Input) -> Output:
        if ("SecretIdList" in input) == ("Filters" in input):
            raise AwsError(
                "InvalidParameterException",
                "Either 'SecretIdList' or 'Filters' must be provided, but not both.",
            )
        if "SecretIdList" in input and "MaxResults" in input:
            raise AwsError(
                "InvalidParameterException",
                "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.",
            )
        ids, more = input.get("SecretIdList", []), {}
        if "Filters" in input:
            wanted, limit = filters.compiled(input["Filters"]), input.get("MaxResults", _BATCH)
            after = input.get("NextToken", "")
            found = [
                record.name
                for record in self.secrets.list(call.scope)
                if record.name > after and not record.value.deletes_at and wanted(record.value)
            ]
            ids, more = found[:limit], {"NextToken": found[limit - 1]} if len(found) > limit else {}
        values, errors = [], []
        for id in ids:
            try:
                values.append(await self.GetSecretValue(call, {"SecretId": id}))
            except AwsError as error:
                errors.append({"SecretId": id, "ErrorCode": error.code, "Message": error.message})
        return {"SecretValues": values, "Errors": errors, **more}

    async def PutSecretValue(self, call: Call, input: Input) -> Output:
        token = token_of(call, input)
        if "SecretString" not in input and "SecretBinary" not in input:
            raise AwsError("InvalidRequestException", "You must provide either SecretString or SecretBinary.")
        _, secret = self.named(call, input["SecretId"])
        version = await self.encrypted(call, secret, token, input)
        assert version is not None
        stages = input.get("VersionStages", [CURRENT])

        def put(tx: Tx) -> Secret:
            scope, current = self.named(call, input["SecretId"], tx)
            # A secret's first version is the current one, whatever else it is.
            first = [CURRENT] if not current.stages and CURRENT not in stages else []
            return self.stage(tx, scope, current, version, [*stages, *first])

        made = await self.db.write(put)
        return {"ARN": made.arn, "Name": made.name, "VersionId": token, "VersionStages": made.stages_of(token)}

    async def ListSecretVersionIds(self, call: Call, input: Input) -> Output:
        _, secret = self.named(call, input["SecretId"], deleted=True)
        found = await self.db.scan(lambda tx: records.versions(tx, secret.arn))
        if not input.get("IncludeDeprecated"):
            staged = set(secret.stages.values())
            found = [version for version in found if version.id in staged]
        if token := input.get("NextToken"):
            places = [place for place, version in enumerate(found) if version.id == token]
            found = found[places[0] :] if places else []
        limit = input.get("MaxResults", 100)
        versions = [_shown(secret, version) for version in found[:limit]]
        more = {"NextToken": found[limit].id} if len(found) > limit else {}
        return {"Versions": versions, "ARN": secret.arn, "Name": secret.name, **more}

    async def UpdateSecretVersionStage(self, call: Call, input: Input) -> Output:
        now = self.clock.now()
        label, source, target = input["VersionStage"], input.get("RemoveFromVersionId"), input.get("MoveToVersionId")

        def update(tx: Tx) -> Secret:
            scope, secret = self.named(call, input["SecretId"], tx)
            for id in (source, target):
                if id is not None and records.get(tx, secret.arn, id) is None:
                    raise AwsError(
                        "ResourceNotFoundException",
                        f"Secrets Manager can't find the specified secret version: {id}.",
                    )
            holder = secret.stages.get(label)
            _check_move(label, holder, source, target)
            if target is not None:
                stages = moved(secret.stages, target, [label])
            else:
                stages = {name: id for name, id in secret.stages.items() if name != label}
            return self.keep(tx, scope, replace(secret, stages=stages, changed=now))

        secret = await self.db.write(update)
        return {"ARN": secret.arn, "Name": secret.name}


def _check_move(label: str, holder: str | None, source: str | None, target: str | None) -> None:
    """Whether a label may go where it is sent. Raises InvalidParameterException."""
    if target is None and label == CURRENT:
        raise AwsError(
            "InvalidParameterException",
            "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.",
        )
    if holder is not None and holder != target and source is None:
        raise AwsError(
            "InvalidParameterException",
            f"The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached to version "
            f"{holder}, so you must explicitly reference that version in RemoveFromVersionId.",
        )
    if source is not None and source != holder:
        raise AwsError(
            "InvalidParameterException",
            f"The staging label {label} is not currently attached to version {source}."
            + (f" It is attached to version {holder}." if holder is not None else ""),
        )


def _wanted(secret: Secret, input: Input) -> str:
    """The id of the version that is asked for; empty where no version has the label. Raises InvalidRequestException."""
    id, stage = input.get("VersionId"), input.get("VersionStage")
    if id is not None and stage is not None and secret.stages.get(stage) != id:
        if id not in secret.stages.values():
            return ""
        raise AwsError(
            "InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId."
        )
    return str(id or secret.stages.get(stage or CURRENT, ""))


def _no_such_value(input: Input) -> AwsError:
    place = f"staging label: {input.get('VersionStage', CURRENT)}"
    if "VersionId" in input:
        place = f"VersionId: {input['VersionId']}"
    return AwsError("ResourceNotFoundException", f"Secrets Manager can't find the specified secret value for {place}")


def _shown(secret: Secret, version: Version) -> Output:
    shown: dict[str, Any] = {
        "VersionId": version.id,
        "CreatedDate": version.made,
        "KmsKeyIds": [secret.kms_key or _DEFAULT],
    }
    if stages := secret.stages_of(version.id):
        shown["VersionStages"] = stages
    if version.accessed:
        shown["LastAccessedDate"] = version.accessed
    return shown
