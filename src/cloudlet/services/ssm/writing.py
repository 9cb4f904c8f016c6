"""Operations that write parameters, their labels and tags."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ssm import records, rules
from cloudlet.services.ssm.base import DEFAULT_KEY, Base, arn_of, no_such_parameter, no_such_version
from cloudlet.services.ssm.records import Version, path_of
from cloudlet.store import Tx

_VERSIONS_AT_MOST = 100
_LABELS_AT_MOST = 10
_TAGS_AT_MOST = 50


class Writing(Base):
    """Operations that change parameters."""

    async def PutParameter(self, call: Call, input: Input) -> Output:
        name, value = input["Name"].strip(), input["Value"]
        path = path_of(name)
        rules.check_name(name, arn_of(call, name))
        tags = {tag["Key"]: tag["Value"] for tag in input.get("Tags", [])}
        if tags and input.get("Overwrite"):
            raise rules.validation(
                "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please "
                "remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or "
                "RemoveTagsFromResource."
            )
        _count_tags(tags)
        before = await self.db.read(lambda tx: records.latest(tx, call.scope, path))
        version, expires = self._version(call, input, before)
        if version.type == "SecureString":
            # Encrypted before the transaction, which may find that another writer was faster.
            version = replace(version, value=await self.seal(call, version.name, version.key_id, value))

        def put(tx: Tx) -> int:
            current = records.latest(tx, call.scope, path)
            if current is None:
                records.create(tx, call.scope, path, version, tags, expires)
                return version.number
            if not input.get("Overwrite"):
                raise _exists()
            if before is None or current.tier != before.tier or current.type != before.type:
                raise AwsError(
                    "TooManyUpdates", "There are concurrent updates for a resource that supports one update at a time."
                )
            _make_room(tx, call.scope, path)
            after = replace(version, number=current.number + 1)
            records.update(tx, call.scope, path, current, after, expires)
            return after.number

        number = await self.db.write(put)
        if expires is not None or (before is not None and before.policies):
            await self.plan_expiry()
        return {"Version": number, "Tier": version.tier}

    def _version(self, call: Call, input: Input, before: Version | None) -> tuple[Version, float | None]:
        """The version that a request makes, not encrypted yet, and when it expires."""
        if before is not None and not input.get("Overwrite"):
            raise _exists()
        if before is None and "Type" not in input:
            raise rules.validation("A parameter type is required when you create a parameter.")
        type = input.get("Type") or (before.type if before is not None else "")
        data_type = input.get("DataType") or (before.data_type if before is not None else "text")
        rules.check_data_type(data_type)
        if type != "SecureString" and "KeyId" in input:
            raise rules.validation("KeyId is required for SecureString type parameter only.")
        pattern = input.get("AllowedPattern", before.pattern if before is not None else "")
        rules.check_value(type, input["Value"], pattern)
        policies = input.get("Policies", before.policies if before is not None else "")
        entries, expires = rules.read_policies(policies) if policies else ([], None)
        tier = rules.tier_of(input.get("Tier", ""), before.tier if before else "", input["Value"], bool(entries))
        key_id = ""
        if type == "SecureString":
            key_id = input.get("KeyId") or (before.key_id if before is not None else "") or DEFAULT_KEY
        version = Version(
            input["Name"].strip() if before is None else before.name,
            1,
            type,
            input["Value"],
            self.clock.now(),
            call.principal,
            data_type,
            tier,
            input.get("Description", before.description if before is not None else ""),
            pattern,
            key_id,
            policies if entries else "",
        )
        return version, expires

    async def DeleteParameter(self, call: Call, input: Input) -> Output:
        name = input["Name"].strip()
        rules.check_readable(name)
        path = path_of(name)
        if not await self.db.write(lambda tx: records.delete(tx, call.scope, path)):
            raise no_such_parameter(name)
        return {}

    async def DeleteParameters(self, call: Call, input: Input) -> Output:
        names = list(dict.fromkeys(name.strip() for name in input["Names"]))
        deleted = await self.db.write(
            lambda tx: [name for name in names if records.delete(tx, call.scope, path_of(name))]
        )
        return {"DeletedParameters": deleted, "InvalidParameters": [name for name in names if name not in deleted]}

    async def LabelParameterVersion(self, call: Call, input: Input) -> Output:
        name = input["Name"].strip()
        rules.check_readable(name)
        path = path_of(name)
        invalid = [label for label in input["Labels"] if not rules.is_label(label)]
        wanted = [label for label in dict.fromkeys(input["Labels"]) if label not in invalid]

        def put(tx: Tx) -> int:
            number = _number(tx, call.scope, name, input.get("ParameterVersion"))
            known = records.labels(tx, call.scope, path)
            there = {label for label, at in known.items() if at == number}
            if len(there.union(wanted)) > _LABELS_AT_MOST:
                raise AwsError(
                    "ParameterVersionLabelLimitExceeded",
                    "An error occurred (ParameterVersionLabelLimitExceeded) when calling the LabelParameterVersion "
                    "operation: A parameter version can have maximum 10 labels."
                    "Move one or more labels to another version and try again.",
                )
            for label in wanted:
                records.set_label(tx, call.scope, path, label, number)
            return number

        return {"InvalidLabels": invalid, "ParameterVersion": await self.db.write(put)}

    async def UnlabelParameterVersion(self, call: Call, input: Input) -> Output:
        name = input["Name"].strip()
        rules.check_readable(name)
        path = path_of(name)
        wanted = list(dict.fromkeys(input["Labels"]))

        def drop(tx: Tx) -> list[str]:
            number = _number(tx, call.scope, name, input["ParameterVersion"])
            known = records.labels(tx, call.scope, path)
            there = [label for label in wanted if known.get(label) == number]
            for label in there:
                records.drop_label(tx, call.scope, path, label)
            return there

        removed = await self.db.write(drop)
        return {"RemovedLabels": removed, "InvalidLabels": [label for label in wanted if label not in removed]}

    async def AddTagsToResource(self, call: Call, input: Input) -> Output:
        new = {tag["Key"]: tag["Value"] for tag in input["Tags"]}
        await self._edit_tags(call, input, lambda tags: {**tags, **new})
        return {}

    async def RemoveTagsFromResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._edit_tags(call, input, lambda tags: {key: value for key, value in tags.items() if key not in gone})
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        path = _tagged(input)
        tags = await self.db.read(lambda tx: records.tags(tx, call.scope, path))
        if tags is None:
            raise _no_such_resource()
        return {"TagList": [{"Key": key, "Value": value} for key, value in tags.items()]}

    async def _edit_tags(self, call: Call, input: Input, change: Any) -> None:
        path = _tagged(input)

        def edit(tx: Tx) -> None:
            tags = records.tags(tx, call.scope, path)
            if tags is None:
                raise _no_such_resource()
            changed = change(tags)
            _count_tags(changed)
            records.set_tags(tx, call.scope, path, changed)

        await self.db.write(edit)


def _make_room(tx: Tx, scope: str, path: str) -> None:
    """Give up the oldest version where there are as many as there may be."""
    if records.count_past(tx, scope, path) + 1 < _VERSIONS_AT_MOST:
        return
    oldest = records.oldest(tx, scope, path)
    assert oldest is not None
    if oldest in records.labels(tx, scope, path).values():
        raise AwsError(
            "ParameterMaxVersionLimitExceeded",
            f"You attempted to create a new version of {path} by calling the PutParameter API with the overwrite flag. "
            f"Version {oldest}, the oldest version, can't be deleted because it has a label associated with it. "
            "Move the label to another version of the parameter, and try again.",
        )
    records.drop_past(tx, scope, path, oldest)


def _number(tx: Tx, scope: str, name: str, wanted: int | None) -> int:
    """The number of the version that is asked for, by default the newest. Raises ParameterNotFound and its like."""
    newest = records.latest(tx, scope, path_of(name))
    if newest is None:
        raise no_such_parameter(name)
    if wanted is not None and records.version(tx, scope, path_of(name), wanted) is None:
        raise no_such_version(name, wanted)
    return newest.number if wanted is None else wanted


def _tagged(input: Input) -> str:
    """The path of the parameter whose tags are meant."""
    if input["ResourceType"] != "Parameter":
        raise not_implemented(f"tags of the resource type {input['ResourceType']}")
    return path_of(input["ResourceId"])


def _count_tags(tags: dict[str, str]) -> None:
    if len(tags) > _TAGS_AT_MOST:
        raise AwsError(
            "TooManyTagsError", "The Targets parameter includes too many tags. Remove one or more tags and try again."
        )


def _exists() -> AwsError:
    return AwsError(
        "ParameterAlreadyExists",
        "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
    )


def _no_such_resource() -> AwsError:
    return AwsError(
        "InvalidResourceId", "The resource ID isn't valid. Verify that you entered the correct ID and try again."
    )
