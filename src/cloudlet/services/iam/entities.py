"""What users, groups and roles have in common: names, tags, inline and attached policies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.iam import managed
from cloudlet.services.iam.records import (
    AccessKey,
    Account,
    DeletionTask,
    Device,
    Entity,
    Group,
    InstanceProfile,
    Policy,
    Provider,
    Role,
    ServerCertificate,
    User,
)
from cloudlet.services.policies import documents
from cloudlet.store import Database, Resources, Tx

E = TypeVar("E", bound=Entity)
R = TypeVar("R", bound=msgspec.Struct)
_PAGE = 100
_MOST_TAGS = 50


class Entities:
    """The database, and the operations that are the same for all kinds."""

    db: Database
    cloud: Cloud

    def _load(self) -> None:
        self.users: Resources[User] = self.db.resources(User)
        self.groups: Resources[Group] = self.db.resources(Group)
        self.roles: Resources[Role] = self.db.resources(Role)
        self.policies: Resources[Policy] = self.db.resources(Policy)
        self.profiles: Resources[InstanceProfile] = self.db.resources(InstanceProfile)
        self.keys: Resources[AccessKey] = self.db.resources(AccessKey)
        self.providers: Resources[Provider] = self.db.resources(Provider)
        self.accounts: Resources[Account] = self.db.resources(Account)
        self.devices: Resources[Device] = self.db.resources(Device)
        self.certificates: Resources[ServerCertificate] = self.db.resources(ServerCertificate)
        self.tasks: Resources[DeletionTask] = self.db.resources(DeletionTask)

    def of_kind(self, kind: str) -> Resources[Any]:
        """The resources of the kind that an operation's name carries: User, Group or Role."""
        kinds: dict[str, Resources[Any]] = {"User": self.users, "Group": self.groups, "Role": self.roles}
        return kinds[kind]

    def entity(self, kind: str, scope: str, name: str, tx: Tx | None = None) -> Any:
        """A user, group or role. Raises NoSuchEntity."""
        record = self.of_kind(kind).get(scope, name, tx)
        if record is None:
            raise no_such(f"The {kind.lower()} with name {name} cannot be found.")
        return record.value

    async def change(self, kind: str, call: Call, name: str, change: Callable[[Tx, Any], Any]) -> Any:
        """Put what ``change`` makes of a user, group or role, in one transaction."""
        scope = scope_of(call)

        def work(tx: Tx) -> Any:
            changed = change(tx, self.entity(kind, scope, name, tx))
            self.of_kind(kind).put(tx, scope, name, changed)
            return changed

        return await self.db.write(work)

    def account(self, scope: str, tx: Tx | None = None) -> Account:
        """What is set for a whole account."""
        record = self.accounts.get(scope, "account", tx)
        return record.value if record is not None else Account()

    async def change_account(self, scope: str, change: Callable[[Account], Account]) -> None:
        """Put what ``change`` makes of an account's settings, in one transaction."""

        def work(tx: Tx) -> None:
            self.accounts.put(tx, scope, "account", change(self.account(scope, tx)))

        await self.db.write(work)

    # Inline policies

    async def put_inline(self, kind: str, call: Call, input: Input) -> Output:
        document = input["PolicyDocument"]
        documents.check_identity_policy(document)

        def change(tx: Tx, entity: E) -> E:
            return msgspec.structs.replace(entity, inline={**entity.inline, input["PolicyName"]: document})

        await self.change(kind, call, input[f"{kind}Name"], change)
        return {}

    async def get_inline(self, kind: str, call: Call, input: Input) -> Output:
        entity = self.entity(kind, scope_of(call), input[f"{kind}Name"])
        if (document := entity.inline.get(input["PolicyName"])) is None:
            raise no_such(f"The {kind.lower()} policy with name {input['PolicyName']} cannot be found.")
        return {
            f"{kind}Name": input[f"{kind}Name"],
            "PolicyName": input["PolicyName"],
            "PolicyDocument": encoded(document),
        }

    async def delete_inline(self, kind: str, call: Call, input: Input) -> Output:
        def change(tx: Tx, entity: E) -> E:
            if input["PolicyName"] not in entity.inline:
                raise no_such(f"The {kind.lower()} policy with name {input['PolicyName']} cannot be found.")
            left = {name: document for name, document in entity.inline.items() if name != input["PolicyName"]}
            return msgspec.structs.replace(entity, inline=left)

        await self.change(kind, call, input[f"{kind}Name"], change)
        return {}

    async def list_inline(self, kind: str, call: Call, input: Input) -> Output:
        entity = self.entity(kind, scope_of(call), input[f"{kind}Name"])
        return page("PolicyNames", sorted(entity.inline), input)

    # Attached policies

    async def attach(self, kind: str, call: Call, input: Input) -> Output:
        scope, arn = scope_of(call), input["PolicyArn"]
        _check_arn(arn)

        def change(tx: Tx, entity: E) -> E:
            if not managed.is_managed(arn) and self.find_policy(scope, arn, tx) is None:
                raise no_such(f"Policy {arn} does not exist or is not attachable.")
            if arn in entity.attached:
                return entity
            tx.execute(
                "INSERT OR IGNORE INTO attachment VALUES (?, ?, 'policy', ?, ?)",
                (scope, arn, kind, input[f"{kind}Name"]),
            )
            return msgspec.structs.replace(entity, attached=[*entity.attached, arn])

        await self.change(kind, call, input[f"{kind}Name"], change)
        return {}

    async def detach(self, kind: str, call: Call, input: Input) -> Output:
        scope, arn = scope_of(call), input["PolicyArn"]

        def change(tx: Tx, entity: E) -> E:
            if arn not in entity.attached:
                raise no_such(f"Policy {arn} was not found.")
            tx.execute(
                "DELETE FROM attachment WHERE scope = ? AND policy = ? AND usage = 'policy' AND kind = ? "
                "AND entity = ?",
                (scope, arn, kind, input[f"{kind}Name"]),
            )
            return msgspec.structs.replace(entity, attached=[one for one in entity.attached if one != arn])

        await self.change(kind, call, input[f"{kind}Name"], change)
        return {}

    async def list_attached(self, kind: str, call: Call, input: Input) -> Output:
        entity = self.entity(kind, scope_of(call), input[f"{kind}Name"])
        prefix = input.get("PathPrefix", "/")
        attached = [one for one in attached_policies(entity) if path_of(one["PolicyArn"]).startswith(prefix)]
        return page("AttachedPolicies", sorted(attached, key=lambda one: one["PolicyName"]), input)

    def find_policy(self, scope: str, arn: str, tx: Tx | None = None) -> Policy | None:
        """A managed policy of the account by its ARN."""
        record = self.policies.get(scope, arn.rsplit("/", 1)[-1], tx)
        return record.value if record is not None and record.value.members["Arn"] == arn else None

    # Permissions boundaries

    async def put_boundary(self, kind: str, call: Call, input: Input) -> Output:
        await self.change(
            kind,
            call,
            input[f"{kind}Name"],
            lambda tx, entity: self.bounded(tx, call, kind, input[f"{kind}Name"], entity, input["PermissionsBoundary"]),
        )
        return {}

    async def delete_boundary(self, kind: str, call: Call, input: Input) -> Output:
        def change(tx: Tx, entity: E) -> E:
            if "PermissionsBoundary" not in entity.members:
                raise no_such(
                    f"The {kind.lower()} with name {input[f'{kind}Name']} does not have a permissions boundary."
                )
            self.unbound(tx, scope_of(call), kind, input[f"{kind}Name"], entity)
            members = {name: value for name, value in entity.members.items() if name != "PermissionsBoundary"}
            return msgspec.structs.replace(entity, members=members)

        await self.change(kind, call, input[f"{kind}Name"], change)
        return {}

    def bounded(self, tx: Tx, call: Call, kind: str, name: str, entity: E, arn: str) -> E:
        """The entity with a permissions boundary. Raises NoSuchEntity."""
        scope = scope_of(call)
        if not managed.is_managed(arn) and self.find_policy(scope, arn, tx) is None:
            raise no_such(f"Scope ARN: {arn} does not exist or is not attachable.")
        self.unbound(tx, scope, kind, name, entity)
        tx.execute("INSERT INTO attachment VALUES (?, ?, 'boundary', ?, ?)", (scope, arn, kind, name))
        boundary = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}
        return msgspec.structs.replace(entity, members={**entity.members, "PermissionsBoundary": boundary})

    def unbound(self, tx: Tx, scope: str, kind: str, name: str, entity: Entity) -> None:
        """Forget which policy bounds an entity."""
        if (boundary := entity.members.get("PermissionsBoundary")) is not None:
            tx.execute(
                "DELETE FROM attachment WHERE scope = ? AND policy = ? AND usage = 'boundary' AND kind = ? "
                "AND entity = ?",
                (scope, boundary["PermissionsBoundaryArn"], kind, name),
            )

    # Tags

    async def tag(self, kind: str, call: Call, input: Input) -> Output:
        await self.change(kind, call, input[f"{kind}Name"], lambda tx, entity: with_tags(entity, input["Tags"]))
        return {}

    async def untag(self, kind: str, call: Call, input: Input) -> Output:
        await self.change(kind, call, input[f"{kind}Name"], lambda tx, entity: without_tags(entity, input["TagKeys"]))
        return {}

    async def list_tags(self, kind: str, call: Call, input: Input) -> Output:
        return page("Tags", self.entity(kind, scope_of(call), input[f"{kind}Name"]).members.get("Tags", []), input)


def scope_of(call: Call) -> str:
    """IAM is the same in every region."""
    return f"{call.account}/global"


def no_such(message: str) -> AwsError:
    """What was asked for is not there."""
    return AwsError("NoSuchEntity", message, status=404)


def exists(message: str) -> AwsError:
    """What should be made is there already."""
    return AwsError("EntityAlreadyExists", message, status=409)


def conflict(message: str) -> AwsError:
    """What should be deleted is still in use."""
    return AwsError("DeleteConflict", message, status=409)


def encoded(document: str) -> str:
    """A policy document as IAM's answers carry it (RFC 3986)."""
    return quote(document, safe="")


def path_of(arn: str) -> str:
    """The path in an ARN of IAM."""
    return f"/{arn.split(':', 5)[5].split('/', 1)[-1].rpartition('/')[0]}/".replace("//", "/")


def attached_policies(entity: Entity) -> list[dict[str, Any]]:
    """Names and ARNs."""
    return [{"PolicyName": arn.rsplit("/", 1)[-1], "PolicyArn": arn} for arn in entity.attached]


def checked_tags(tags: Iterable[dict[str, str]], present: Iterable[dict[str, str]] = ()) -> list[dict[str, str]]:
    """Tags over those that are there. Raises InvalidInput and LimitExceeded."""
    merged = {tag["Key"]: tag["Value"] for tag in present}
    seen: set[str] = set()
    for tag in tags:
        if tag["Key"].lower() in seen:
            raise AwsError(
                "InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.", status=400
            )
        seen.add(tag["Key"].lower())
        if tag["Key"].lower().startswith("aws:") and not tag["Key"].startswith("aws:cloudformation:"):
            raise AwsError("InvalidInput", "Tag keys starting with 'aws:' are reserved for system use.", status=400)
        merged[tag["Key"]] = tag["Value"]
    if len(merged) > _MOST_TAGS:
        raise AwsError("LimitExceeded", "The number of tags has reached the maximum limit.", status=409)
    return [{"Key": key, "Value": value} for key, value in merged.items()]


def with_tags(record: Any, tags: list[dict[str, str]]) -> Any:
    """The record with tags added."""
    merged = checked_tags(tags, record.members.get("Tags", ()))
    return msgspec.structs.replace(record, members={**record.members, "Tags": merged})


def without_tags(record: Any, keys: list[str]) -> Any:
    """The record without those tags."""
    left = [tag for tag in record.members.get("Tags", ()) if tag["Key"] not in keys]
    members = {name: value for name, value in record.members.items() if name != "Tags"}
    return msgspec.structs.replace(record, members={**members, **({"Tags": left} if left else {})})


def page(name: str, items: list[Any], input: Input, size: int = _PAGE) -> Output:
    """One page of a list; the marker says how many came before. Raises ValidationError."""
    start = 0
    if (marker := input.get("Marker")) is not None:
        try:
            start = int(base64.urlsafe_b64decode(marker))
        except (ValueError, binascii.Error):
            raise AwsError("ValidationError", f"Invalid Marker: {marker}", status=400) from None
    end = start + input.get("MaxItems", size)
    output: Output = {name: items[start:end], "IsTruncated": end < len(items)}
    if end < len(items):
        output["Marker"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return output


def public(members: dict[str, Any], *left_out: str) -> dict[str, Any]:
    """Members as an answer shows them: the trust policy is encoded."""
    shown = {name: value for name, value in members.items() if name not in left_out}
    if "AssumeRolePolicyDocument" in shown:
        shown["AssumeRolePolicyDocument"] = encoded(shown["AssumeRolePolicyDocument"])
    return shown


def _check_arn(arn: str) -> None:
    if not arn.startswith("arn:"):
        raise AwsError("ValidationError", "Invalid ARN:  Could not be parsed!", status=400)
