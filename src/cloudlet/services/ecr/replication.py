"""Replication: what is pushed is copied to the registries of other regions and accounts that the rules name.

A copy is ordered in the transaction of its push (an outbox), so that it is made whatever happens in between; so is the
deletion of a copy, where a rule says so. Only what is pushed after a rule was put is copied, as on AWS; a repository
that is not there is made.
"""

from __future__ import annotations

import json

import msgspec

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import manifests, records
from cloudlet.services.ecr.base import Base, invalid, scope_of
from cloudlet.services.ecr.images import find, no_such_image
from cloudlet.services.ecr.manifests import Manifest
from cloudlet.services.ecr.records import Repository
from cloudlet.services.ecr.templates import Templates
from cloudlet.store import Tx

_PAUSES = (1.0, 10.0, 60.0, 600.0)  # seconds before a copy is tried again
_ACTIONS = frozenset(("ecr:ReplicateImage", "ecr:*", "*"))


class _Copy(msgspec.Struct):
    """An image to be copied: from one registry's repository to that of the same name in another."""

    source: str  # scopes
    target: str
    name: str
    digest: str
    tag: str
    is_deletion: bool = False  # of the tag, or where there is none of the image


class Replication(Templates):
    """The operations on replication, and the copying."""

    async def start(self) -> None:
        await super().start()
        self.copies = Outbox(self.db, self.clock, self._copy, retries=_retries, concurrency=4)
        await self.copies.start()

    async def stop(self) -> None:
        await self.copies.stop()
        await super().stop()

    async def DescribeRegistry(self, call: Call, input: Input) -> Output:
        return {"registryId": call.account, "replicationConfiguration": {"rules": self._rules(call.scope)}}

    async def PutReplicationConfiguration(self, call: Call, input: Input) -> Output:
        rules = input["replicationConfiguration"]["rules"]
        for rule in rules:
            for destination in rule["destinations"]:
                if f"{destination['registryId']}/{destination['region']}" == call.scope:
                    raise invalid(
                        "replicationConfiguration",
                        "Replication destination cannot be the same as the source registry",
                    )

        await self.edit_registry(call.scope, replication=rules)
        return {"replicationConfiguration": {"rules": rules}}

    async def DescribeImageReplicationStatus(self, call: Call, input: Input) -> Output:
        repository, scope, id = self.named(call, input), scope_of(call, input), input["imageId"]
        image = await self.db.read(lambda tx: find(tx, repository, id, []))
        if image is None:
            raise no_such_image(scope, repository, id)
        statuses = []
        for target in self._targets(scope, repository.name):
            account, region = target.split("/")
            if await self._has(target, repository.name, image.digest):
                state = {"status": "COMPLETE"}
            elif self._may_copy(scope, target):
                state = {"status": "IN_PROGRESS"}
            else:
                state = {"status": "FAILED", "failureCode": "AccessDenied"}
            statuses.append({"region": region, "registryId": account, **state})
        shown = {"imageDigest": image.digest, **id}
        return {"repositoryName": repository.name, "imageId": shown, "replicationStatuses": statuses}

    def push(self, tx: Tx, scope: str, repository: Repository, manifest: Manifest, tag: str, now: float) -> bool:
        pushed = super().push(tx, scope, repository, manifest, tag, now)
        for target in self._targets(scope, repository.name) if pushed else ():
            copy = _Copy(scope, target, repository.name, manifest.digest, tag)
            self.copies.add(tx, f"{target}/{repository.name}", msgspec.msgpack.encode(copy))
        return pushed

    def drop(self, tx: Tx, scope: str, repository: Repository, digest: str) -> list[str]:
        self._order_deletion(tx, scope, repository, digest, "")
        return super().drop(tx, scope, repository, digest)

    def untag(self, tx: Tx, scope: str, repository: Repository, tag: str) -> None:
        self._order_deletion(tx, scope, repository, records.tagged(tx, repository.number, tag) or "", tag)
        super().untag(tx, scope, repository, tag)

    def dropped(self) -> None:
        super().dropped()
        self.copies.wake()

    def _order_deletion(self, tx: Tx, scope: str, repository: Repository, digest: str, tag: str) -> None:
        for target in self._targets(scope, repository.name, are_deleted=True):
            copy = _Copy(scope, target, repository.name, digest, tag, True)
            self.copies.add(tx, f"{target}/{repository.name}", msgspec.msgpack.encode(copy))

    def stored(self) -> None:
        super().stored()
        self.copies.wake()

    async def _has(self, scope: str, name: str, digest: str) -> bool:
        record = self.repositories.get(scope, name)
        if record is None:
            return False
        return await self.db.read(lambda tx: records.image(tx, record.value.number, digest)) is not None

    def _rules(self, scope: str) -> list[Output]:
        record = self.registries.get(scope, "default")
        return record.value.replication if record is not None else []

    def _targets(self, scope: str, name: str, are_deleted: bool = False) -> list[str]:
        """The registries, as scopes, that a repository is copied to; or only those whose copies are deleted too."""
        found = []
        for rule in self._rules(scope):
            if are_deleted and not rule.get("deleteReplication", {}).get("enabled"):
                continue
            filters = [one["filter"] for one in rule.get("repositoryFilters") or ()]
            if not filters or any(name.startswith(prefix) for prefix in filters):
                found += [f"{one['registryId']}/{one['region']}" for one in rule["destinations"]]
        return list(dict.fromkeys(found))

    def _may_copy(self, source: str, target: str) -> bool:
        """Whether another account's registry lets itself be replicated into; within an account it always does."""
        account = source.split("/")[0]
        if account == target.split("/")[0]:
            return True
        record = self.registries.get(target, "default")
        statements = json.loads(record.value.policy or "{}").get("Statement", []) if record is not None else []
        for statement in statements if isinstance(statements, list) else [statements]:
            principal = statement.get("Principal")
            named = principal.get("AWS", []) if isinstance(principal, dict) else principal
            who = [named] if isinstance(named, str) else named or []
            actions = statement.get("Action", [])
            allowed = _ACTIONS.intersection([actions] if isinstance(actions, str) else actions)
            if statement.get("Effect") == "Allow" and allowed and any(one == "*" or account in one for one in who):
                return True
        return False

    async def _copy(self, delivery: Delivery) -> None:
        """Copy one image. Raises AwsError where something of it is not there yet."""
        copy = msgspec.msgpack.decode(delivery.payload, type=_Copy)
        if copy.is_deletion:
            await self._delete(copy)
            return
        source = self.repositories.get(copy.source, copy.name)
        if source is None or not self._may_copy(copy.source, copy.target):
            raise Undeliverable
        number = source.value.number
        data = await self.db.read(lambda tx: records.manifest(tx, number, copy.digest))
        image = await self.db.read(lambda tx: records.image(tx, number, copy.digest))
        if data is None or image is None:
            raise Undeliverable
        record = self.repositories.get(copy.target, copy.name)
        target = (
            record.value if record is not None else await self.make_repository(copy.target, copy.name, "REPLICATION")
        )
        manifest = manifests.read(data, image.media_type)
        for digest in manifest.layers:
            await self.mount(source.value, target, digest)
        now = self.clock.now()
        # Copies are not copied on: it is the source's rules that count.
        await self.db.write(lambda tx: Base.push(self, tx, copy.target, target, manifest, copy.tag, now))
        source_account, source_region = copy.source.split("/")
        detail = {
            "result": "SUCCESS",
            "repository-name": copy.name,
            "image-digest": copy.digest,
            "source-account": source_account,
            "source-region": source_region,
            "action-type": "REPLICATE",
        }
        tagged = {"image-tag": copy.tag} if copy.tag else {}
        self.announce(copy.target, "ECR Replication Action", detail | tagged, copy.name)

    async def _delete(self, copy: _Copy) -> None:
        """Delete one copy, or its tag, unless that is another image's by now."""
        record = self.repositories.get(copy.target, copy.name)
        if record is None or not self._may_copy(copy.source, copy.target):
            raise Undeliverable
        target = record.value

        def delete(tx: Tx) -> list[str]:
            if copy.tag:
                if records.tagged(tx, target.number, copy.tag) == copy.digest:
                    records.drop_tag(tx, target.number, copy.tag)
                return []
            if records.parents(tx, target.number, copy.digest):
                return []  # an index that is only there needs it
            return records.drop_image(tx, target.number, copy.digest)

        await self.delete_files(target, await self.db.write(delete))


def _retries(attempt: int, delivery: Delivery) -> float | None:
    return _PAUSES[attempt - 1] if attempt <= len(_PAUSES) else None
