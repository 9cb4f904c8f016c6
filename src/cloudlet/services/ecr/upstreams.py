"""Upstream registries: which there are, and how an image of one gets into a repository of ours."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import IO, TYPE_CHECKING, Protocol, TypeVar, cast

from cloudlet.engines.containers.references import is_local
from cloudlet.errors import AwsError
from cloudlet.services.api import Call
from cloudlet.services.ecr import manifests, records
from cloudlet.services.ecr.base import Base, invalid
from cloudlet.services.ecr.images import find
from cloudlet.services.ecr.manifests import Malformed, Manifest
from cloudlet.services.ecr.records import CacheRule, Repository

if TYPE_CHECKING:
    from cloudlet.engines.containers.registry import Remote
    from cloudlet.services.iam.service import Service as Iam

T = TypeVar("T")

_CHUNK = 1024 * 1024
_SELF = "pullthroughcache.ecr.amazonaws.com"
_OURS = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|localhost(?::\d+)?)")
_KINDS = {
    "public.ecr.aws": "ecr-public",
    "registry-1.docker.io": "docker-hub",
    "ghcr.io": "github-container-registry",
    "registry.gitlab.com": "gitlab-container-registry",
    "registry.k8s.io": "k8s",
    "quay.io": "quay",
    "cgr.dev": "chainguard",
}
_WITH_SECRETS = frozenset(
    ("docker-hub", "github-container-registry", "gitlab-container-registry", "azure-container-registry", "chainguard")
)


class CannotFetch(Exception):
    """The upstream registry does not give the image; the message says why."""


class Upstream(Protocol):
    """One repository of an upstream registry."""

    async def manifest(self, reference: str) -> Manifest:
        """The manifest of a tag or a digest. Raises CannotFetch."""
        ...

    async def layer(self, target: Repository, digest: str) -> None:
        """Give a repository of ours a layer. Raises CannotFetch."""
        ...

    async def ping(self) -> None:
        """See that the registry lets us in. Raises CannotFetch."""
        ...


def kind_of(url: str, stated: str, secret: str, role: str, account: str) -> str:
    """The kind of the registry at a URL. Raises as CreatePullThroughCacheRule does.

    Beyond AWS's, a registry of this machine may be one of any kind that needs no secret.
    """
    host = url.removeprefix("https://").rstrip("/")
    if (ours := _OURS.fullmatch(host)) is not None:
        kind = "ecr"
        if ours[1] != account and not role:
            raise invalid("customRoleArn", "must not be null for an upstream registry of another account")
    elif is_local(host):
        kind = stated or "quay"
    elif host.endswith(".azurecr.io"):
        kind = "azure-container-registry"
    else:
        kind = _KINDS.get(host, "")
    if not kind or (stated and stated != kind):
        raise AwsError("UnsupportedUpstreamRegistryException", "The specified upstream registry isn't supported.")
    if kind in _WITH_SECRETS and not secret:
        raise invalid("credentialArn", f"must not be null for the upstream registry {kind}")
    return kind


def upstream(ecr: Base, scope: str, rule: CacheRule, name: str) -> Upstream:
    """The repository of an upstream registry that a rule means by a name."""
    host = rule.url.removeprefix("https://").rstrip("/")
    if (ours := _OURS.fullmatch(host)) is not None:
        return _Ours(ecr, scope, f"{ours[1]}/{ours[2]}", name, rule.role)
    return _Theirs(ecr, scope, f"{host}/{name}", rule.credential)


class _Ours:
    """A repository of another registry in this cloud: its layers are linked, not copied."""

    def __init__(self, ecr: Base, scope: str, source: str, name: str, role: str) -> None:
        self._ecr, self._scope, self._source, self._name, self._role = ecr, scope, source, name, role

    async def manifest(self, reference: str) -> Manifest:
        record = self._ecr.repositories.get(self._source, self._name)
        if record is None:
            raise CannotFetch(f"the registry {self._source} has no repository {self._name}")
        await self._authorize()
        number = record.value.number
        id = {"imageDigest" if ":" in reference else "imageTag": reference}
        image = await self._ecr.db.read(lambda tx: find(tx, record.value, id, []))
        if image is None or image.status == "ARCHIVED":
            raise CannotFetch(f"the repository {self._name} has no image {reference}")
        data = await self._ecr.db.read(lambda tx: records.manifest(tx, number, image.digest))
        return manifests.read(data or b"", image.media_type)

    async def layer(self, target: Repository, digest: str) -> None:
        record = self._ecr.repositories.get(self._source, self._name)
        if record is None or not await self._ecr.mount(record.value, target, digest):
            raise CannotFetch(f"the repository {self._name} has no layer {digest}")

    async def ping(self) -> None:
        await self._authorize()

    async def _authorize(self) -> None:
        """Another account's registry opens to the rule's role only where its policies allow that."""
        account = self._scope.split("/")[0]
        owner, region = self._source.split("/")
        if owner == account or self._ecr.cloud.config.auth != "enforce":
            return
        name = self._role.rpartition("/")[2]
        principal = f"arn:aws:sts::{account}:assumed-role/{name}/ecr-pull-through-cache"
        call = Call(account, region, principal=principal, service="ecr", operation="BatchGetImage")
        input = {"repositoryName": self._name, "registryId": owner}
        iam = cast("Iam", await self._ecr.cloud.service("iam"))
        arn, policy = await self._ecr.resource_arn(call, input), await self._ecr.resource_policy(call, input)
        try:
            await iam.authorize(call, input, arn, policy, self._ecr.is_policy_needed)
        except AwsError as error:
            raise CannotFetch(error.message) from None


class _Theirs:
    """A repository of a registry that is somewhere else."""

    def __init__(self, ecr: Base, scope: str, name: str, secret: str) -> None:
        self._ecr, self._scope, self._name, self._secret = ecr, scope, name, secret
        self._login: tuple[str, str] | None = None

    async def manifest(self, reference: str) -> Manifest:
        remote = await self._remote(reference)
        data, media_type = await _try(remote.raw)
        try:
            manifest = manifests.read(data, media_type)
        except Malformed as error:
            raise CannotFetch(str(error)) from None
        if ":" in reference and manifest.digest != reference:
            raise CannotFetch(f"{self._name}: what came is not {reference}")
        return manifest

    async def layer(self, target: Repository, digest: str) -> None:
        from cloudlet.engines.containers.api import ImageMissing

        remote = await self._remote(digest)
        upload = self._ecr.blobs.begin(target.number)
        try:
            await self._ecr.blobs.append(target.number, upload, _chunks(await _try(lambda: remote.blob(digest))))
            if not await self._ecr.complete(target, upload, digest):
                raise CannotFetch(f"{self._name}: what came is not {digest}")
        except (ImageMissing, OSError) as error:
            raise CannotFetch(str(error)) from None
        finally:
            self._ecr.blobs.cancel(target.number, upload)

    async def ping(self) -> None:
        remote = await self._remote("latest")
        await _try(remote.ping)

    async def _remote(self, reference: str) -> Remote:
        from cloudlet.engines.containers.registry import Remote

        if self._secret and self._login is None:
            self._login = await self._credentials()
        return Remote(f"{self._name}{'@' if ':' in reference else ':'}{reference}", self._login)

    async def _credentials(self) -> tuple[str, str]:
        account, region = self._scope.split("/")
        ask = {"SecretId": self._secret}
        try:
            found = await self._ecr.cloud.call(
                "secretsmanager", "GetSecretValue", ask, account=account, region=region, principal=_SELF
            )
            secret = json.loads(found.get("SecretString", ""))
            return str(secret["username"]), str(secret["accessToken"])
        except AwsError as error:
            raise CannotFetch(error.message) from None
        except (ValueError, KeyError, TypeError):
            raise CannotFetch(f"the secret {self._secret} has no username and accessToken as JSON") from None


async def _try(ask: Callable[[], T]) -> T:
    """What a registry answers, asked off the event loop. Raises CannotFetch."""
    from cloudlet.engines.containers.api import ImageMissing

    try:
        return await asyncio.to_thread(ask)
    except (ImageMissing, OSError) as error:
        raise CannotFetch(str(error)) from None


async def _chunks(source: IO[bytes]) -> AsyncIterator[bytes]:
    with source:
        while data := await asyncio.to_thread(source.read, _CHUNK):
            yield data
