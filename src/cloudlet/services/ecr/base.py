"""What all operations of ECR stand on: the database, the layers' files, and what both ways of pushing share."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services import api, telling
from cloudlet.services.api import Call, Input, Output, Tagged
from cloudlet.services.ecr import records
from cloudlet.services.ecr.blobs import Blobs
from cloudlet.services.ecr.manifests import Manifest
from cloudlet.services.ecr.records import Image, Registry, Repository
from cloudlet.store import Database, Resources, Tx

_DAY = 86_400.0
_NAMESPACE = "AWS/ECR"


class Base(api.Service):
    """The state of the service."""

    name = "ecr"

    db: Database
    repositories: Resources[Repository]
    registries: Resources[Registry]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("ecr", records.MIGRATIONS)
        self.repositories = self.db.resources(Repository)
        self.registries = self.db.resources(Registry)
        self.blobs = Blobs(self.cloud.data_dir / "ecr", self.cloud.config.sync == "full")
        self._settling: dict[int, asyncio.Lock] = {}
        known = {record.value.number for record in self.repositories.all()}
        for number in await self.db.read(records.numbers):
            if number not in known:
                self.cloud.spawn(self.sweep(number), f"ecr sweeps {number}")
        if known:
            await asyncio.to_thread(self.blobs.sweep, await self.db.scan(records.layers), self.clock.now())

    async def resource_arn(self, call: Call, input: Input) -> str:
        name = input.get("repositoryName")
        return f"arn:aws:ecr:{call.region}:{input.get('registryId', call.account)}:repository/{name}" if name else ""

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        scope = f"{input.get('registryId', call.account)}/{call.region}"
        record = self.repositories.get(scope, input.get("repositoryName", ""))
        return record.value.policy or None if record is not None else None

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        call = Call(account, region)
        return [
            {
                "type": "AWS::ECR::Repository",
                "name": record.name,
                "arn": api.arn("ecr", call, f"repository/{record.name}"),
                "endpoint": self.uri(account, region, record.name),
            }
            for record in self.repositories.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        prefix = f"arn:aws:ecr:{region}:{account}:repository"
        repositories = self.repositories.list(f"{account}/{region}")
        return [(f"{prefix}/{record.name}", record.value.tags) for record in repositories]

    def host(self, account: str, region: str) -> str:
        """The host, and perhaps the first part of a path, under which clients find an account's registry."""
        door = self.cloud.door(f"dkr.ecr.{region}", account)
        if "/_cloudlet/" not in door:
            return door.removeprefix("http://")
        # Names under localhost do not resolve here, so that the registry's name comes first in the repository's.
        return f"{self.cloud.endpoint.removeprefix('http://')}/{account}.dkr.ecr.{region}"

    def uri(self, account: str, region: str, name: str) -> str:
        """Where a repository is pushed to and pulled from."""
        return f"{self.host(account, region)}/{name}"

    def repository(self, scope: str, name: str, tx: Tx | None = None) -> Repository:
        """A repository by its name. Raises RepositoryNotFoundException."""
        record = self.repositories.get(scope, name, tx)
        if record is None:
            raise AwsError(
                "RepositoryNotFoundException",
                f"The repository with name '{name}' does not exist in the registry with id '{scope.split('/')[0]}'",
            )
        return record.value

    def named(self, call: Call, input: Input) -> Repository:
        """The repository that a request names."""
        return self.repository(scope_of(call, input), input["repositoryName"])

    async def edit(self, call: Call, input: Input, **fields: Any) -> Repository:
        """Change fields of the repository that a request names."""
        scope, name = scope_of(call, input), input["repositoryName"]

        def edit(tx: Tx) -> Repository:
            return self.repositories.put(tx, scope, name, replace(self.repository(scope, name, tx), **fields)).value

        return await self.db.write(edit)

    async def edit_registry(self, scope: str, **fields: Any) -> None:
        """Change fields of what belongs to a whole registry."""

        def edit(tx: Tx) -> None:
            record = self.registries.get(scope, "default", tx)
            before = record.value if record is not None else Registry()
            self.registries.put(tx, scope, "default", replace(before, **fields))

        await self.db.write(edit)

    async def sweep(self, number: int) -> None:
        """Delete what a deleted repository has left behind."""
        await asyncio.to_thread(self.blobs.drop, number)
        self._settling.pop(number, None)
        await self.db.write(lambda tx: records.forget(tx, number), long=True)

    def push(self, tx: Tx, scope: str, repository: Repository, manifest: Manifest, tag: str, now: float) -> bool:
        """Store an image and tag it; False when it is there already, with that tag. Raises as PutImage does."""
        number = repository.number
        there = records.image(tx, number, manifest.digest) is not None
        before = records.tagged(tx, number, tag) if tag else None
        if there and (not tag or before == manifest.digest):
            return False
        if before is not None and _is_immutable(repository, tag):
            raise AwsError(
                "ImageTagAlreadyExistsException",
                f"The image tag '{tag}' already exists in the '{repository.name}' repository and cannot be "
                "overwritten because the tag is immutable.",
            )
        if not there:
            self._check_parts(tx, scope, repository, manifest)
            size = manifest.size
            for image in manifest.images:
                found = records.image(tx, number, image)
                size = max(size, found.size if found is not None else 0)
            new = Image(manifest.digest, manifest.media_type, manifest.artifact_type, manifest.subject, size, now)
            records.add_image(tx, number, new, manifest.data, manifest.layers + manifest.images)
        if tag:
            records.set_tag(tx, number, tag, manifest.digest)
        return True

    def drop(self, tx: Tx, scope: str, repository: Repository, digest: str) -> list[str]:
        """Delete an image; the layers that no other image has, whose files are to be deleted after the transaction."""
        return records.drop_image(tx, repository.number, digest)

    def untag(self, tx: Tx, scope: str, repository: Repository, tag: str) -> None:
        """Take a tag off."""
        records.drop_tag(tx, repository.number, tag)

    def dropped(self) -> None:
        """Images or tags have been deleted, and the transaction is done."""

    def pushed(self, scope: str, repository: Repository, manifest: Manifest, tag: str) -> None:
        """An image has been pushed, and its transaction is done."""
        self.stored()
        self.announce_image(scope, repository, "PUSH", manifest.digest, tag)

    def stored(self) -> None:
        """An image has been stored, and its transaction is done: its scan and its copies may be due."""

    async def fill(self, scope: str, name: str, reference: str) -> None:
        """See that an image is here that is about to be pulled, by its tag or digest, where it may come of itself."""

    def pulled(self, scope: str, repository: Repository, image: Image) -> None:
        """An image is being pulled. When that was is recorded once a day."""
        self.cloud.metrics.add(
            scope, _NAMESPACE, "RepositoryPullCount", (("RepositoryName", repository.name),), 1.0, "Count"
        )
        now, number = self.clock.now(), repository.number
        if now - image.pulled >= _DAY:
            self.cloud.spawn(self._note_pull(number, image.digest, now), "ecr notes a pull")

    async def _note_pull(self, number: int, digest: str, now: float) -> None:
        await self.db.write(lambda tx: records.note_pull(tx, number, digest, now))

    def announce(self, scope: str, kind: str, detail: Output, name: str = "", source: str = "ecr") -> None:
        """Tell EventBridge of something, perhaps about a repository."""
        account, region = scope.split("/")
        resource = f"arn:aws:ecr:{region}:{account}:repository/{name}" if name else ""
        self.cloud.spawn(telling.tell(self.cloud, scope, source, kind, detail, resource), f"ecr tells of {kind}")

    def announce_image(self, scope: str, repository: Repository, action: str, digest: str, tag: str) -> None:
        """Tell EventBridge what has been done with an image."""
        detail = {
            "result": "SUCCESS",
            "repository-name": repository.name,
            "image-digest": digest,
            "action-type": action,
        }
        self.announce(scope, "ECR Image Action", detail | ({"image-tag": tag} if tag else {}))

    def _check_parts(self, tx: Tx, scope: str, repository: Repository, manifest: Manifest) -> None:
        place = f"repository with name '{repository.name}' in the registry with id '{scope.split('/')[0]}'"
        number = repository.number
        missing = [digest for digest in manifest.layers if records.layer_size(tx, number, digest) is None]
        if missing:
            raise AwsError(
                "LayersNotFoundException",
                f"Layers with digests '[{', '.join(missing)}]' required for pushing image into {place} do not exist",
            )
        missing = [digest for digest in manifest.images if records.image(tx, number, digest) is None]
        if missing:
            raise AwsError(
                "ReferencedImagesNotFoundException",
                f"Images with digests '[{', '.join(missing)}]' required for pushing image into {place} do not exist",
            )

    async def delete_files(self, repository: Repository, digests: list[str]) -> None:
        """Delete the files of layers that a transaction has given up, unless they were pushed again since."""
        async with self.settling(repository.number):
            for digest in digests:
                if await self.layer_size(repository, digest) is None:
                    self.blobs.delete(repository.number, digest)

    def settling(self, number: int) -> asyncio.Lock:
        """Held while a layer's file and its row come or go, so that they do so together."""
        return self._settling.setdefault(number, asyncio.Lock())

    async def layer_size(self, repository: Repository, digest: str) -> int | None:
        """A layer's size in bytes, or None when the repository has none of that digest."""
        return await self.db.read(lambda tx: records.layer_size(tx, repository.number, digest))

    async def complete(self, repository: Repository, upload: str, digest: str) -> bool:
        """Make an upload a layer; False when its bytes have another digest."""
        async with self.settling(repository.number):
            size = await self.blobs.finish(repository.number, upload, digest)
            if size is None:
                return False
            await self.db.write(lambda tx: records.add_layer(tx, repository.number, digest, size))
        return True

    async def mount(self, source: Repository, target: Repository, digest: str) -> bool:
        """Give a repository another one's layer; False when the other has none of that digest."""
        if source.number == target.number:
            return await self.layer_size(source, digest) is not None
        # In the order of their numbers, so that two that take from each other do not wait for each other.
        first, second = sorted((source.number, target.number))
        async with self.settling(first), self.settling(second):
            size = await self.layer_size(source, digest)
            if size is None:
                return False
            self.blobs.link(source.number, target.number, digest)
            await self.db.write(lambda tx: records.add_layer(tx, target.number, digest, size))
        return True


def _is_immutable(repository: Repository, tag: str) -> bool:
    excluded = any(fnmatchcase(tag, pattern) for pattern in repository.exclusions)
    return repository.mutability.startswith("IMMUTABLE") != excluded


def scope_of(call: Call, input: Input) -> str:
    """The registry that a request is for."""
    return f"{input.get('registryId', call.account)}/{call.region}"


def place_of(call: Call, input: Input) -> Output:
    """The repository that a request is for, as its answer names it."""
    return {"registryId": input.get("registryId", call.account), "repositoryName": input["repositoryName"]}


def invalid(parameter: str, reason: str) -> AwsError:
    """A parameter that cannot be."""
    return AwsError(
        "InvalidParameterException", f"Invalid parameter at '{parameter}' failed to satisfy constraint: '{reason}'"
    )
