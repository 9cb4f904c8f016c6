"""Which image a container runs: what its tag means is asked of its registry, once for all tasks of a deployment.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html#deployment-container-image-stability
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cloudlet.engines.containers import platforms, references
from cloudlet.engines.containers.api import ImageMissing
from cloudlet.errors import AwsError
from cloudlet.services.ecs.base import last
from cloudlet.services.ecs.execution import CannotPrepare, ExecutionRole

if TYPE_CHECKING:
    from cloudlet.engines.containers.api import Engine
    from cloudlet.services.ecs.base import Base
    from cloudlet.services.ecs.records import Task
    from cloudlet.store import Tx

_AUTH = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
_RETRIED = "service call has been retried 1 time(s): "


class Image(NamedTuple):
    """An image that is here: what the engine runs, and its digest."""

    reference: str
    digest: str


def is_pinned(members: dict[str, Any]) -> bool:
    """Whether all tasks of a deployment run what a container's tag meant for the first."""
    return bool(members.get("versionConsistency", "enabled") == "enabled")


def pinned(base: Base, scope: str, task: Task, name: str, tx: Tx | None = None) -> str:
    """The digest that a container has in the deployment of a task, where one is known."""
    record = base.revisions.get(scope, _revision(task), tx) if task.service else None
    return record.value.images.get(name, "") if record is not None else ""


def pin(base: Base, tx: Tx, scope: str, task: Task, name: str, digest: str) -> str:
    """Have a container's image mean this in the deployment of a task, unless it is known already; what it means."""
    record = base.revisions.get(scope, _revision(task), tx) if task.service else None
    if record is None:
        return digest
    images = {name: digest, **record.value.images}
    if images != record.value.images:
        base.revisions.put(tx, scope, record.name, msgspec.structs.replace(record.value, images=images))
    return images[name]


def _revision(task: Task) -> str:
    return f"{task.cluster}/{task.service}/{last(task.deployment)}"


async def pull(engine: Engine, role: ExecutionRole, members: dict[str, Any], digest: str = "") -> Image:
    """Have a container's image here, by its digest where that is known already.

    An image whose registry cannot be asked is used as it is here. Raises CannotPrepare with AWS's words.
    """
    host = role.cloud.endpoint.partition("://")[2]
    image = members["image"]
    if not image.startswith("/") and not references.is_valid(image):
        hint = " (a folder of this machine is named by its absolute path)" if image.startswith(".") else ""
        raise CannotPrepare(f"CannotPullContainerError: invalid reference format: {image}{hint}")
    if (ours := references.ECR.fullmatch(image.removeprefix(f"{host}/"))) is not None:
        login, digest = await _at_ecr(role, image, ours, digest)
        tag = "" if ours["digest"] else f":{ours['tag'] or 'latest'}"
        reference = f"{host}/{ours['account']}.dkr.ecr.{ours['region']}/{ours['name']}{tag}"
    else:
        reference, login = image, await _credentials(role, members)
        digest = digest or await _ask(image, login)
    try:
        found = await engine.ensure_image(reference, login, digest)
    except ImageMissing as error:
        raise CannotPrepare(cannot_pull(image, str(error))) from None
    return Image(references.pinned(reference, digest) if digest else reference, found)


def other_architecture(definition: dict[str, Any]) -> str:
    """What is said of a task definition that wants an architecture which this machine has not; else nothing."""
    wanted = definition.get("runtimePlatform", {}).get("cpuArchitecture", "")
    name = {"ARM64": "arm64", "X86_64": "amd64"}.get(wanted, "")
    if name in ("", platforms.own()):
        return ""
    return f"runs its {wanted} tasks on linux/{platforms.own()}, as this machine is, where their images have that."


def cannot_pull(image: str, why: str) -> str:
    """The stopped reason of a task whose image cannot be had."""
    start = "CannotPullContainerError: "
    if "does not contain descriptor matching platform" in why:
        start += "pull image manifest has been retried 1 time(s): "
    elif not image.startswith("/"):
        start += f"pull image manifest has been retried 1 time(s): failed to resolve ref {references.shown(image)}: "
    return start + why


async def _at_ecr(
    role: ExecutionRole, image: str, ours: re.Match[str], digest: str
) -> tuple[tuple[str, str] | None, str]:
    """Name and password for our own registry, where it wants any, and what an image means there."""
    where = {"account": ours["account"], "region": ours["region"]}
    login = None
    if role.cloud.config.auth == "enforce":
        try:
            made = await role.call(
                "ecr", "GetAuthorizationToken", {"registryIds": [ours["account"]]}, region=ours["region"]
            )
        except AwsError as error:
            raise CannotPrepare(
                f"{_AUTH}unable to retrieve ecr registry auth: {_RETRIED}{error.code}: {error.message}"
            ) from None
        token = base64.b64decode(made["authorizationData"][0]["authorizationToken"]).decode()
        login = ("AWS", token.partition(":")[2])
    wanted = {"imageTag": ours["tag"] or "latest"}
    if digest or ours["digest"]:
        wanted = {"imageDigest": digest or ours["digest"]}
    try:
        found = await role.call("ecr", "BatchGetImage", {"repositoryName": ours["name"], "imageIds": [wanted]}, **where)
    except AwsError as error:
        if error.code != "RepositoryNotFoundException":
            what = next(iter(wanted.values()))
            why = (
                f"pulling from host {image.partition('/')[0]} failed with status code [manifests {what}]: 403 Forbidden"
            )
            raise CannotPrepare(cannot_pull(image, why)) from None
        raise CannotPrepare(cannot_pull(image, f"{references.shown(image)}: not found")) from None
    if not found["images"]:
        raise CannotPrepare(cannot_pull(image, f"{references.shown(image)}: not found"))
    return login, found["images"][0]["imageId"]["imageDigest"]


async def _credentials(role: ExecutionRole, members: dict[str, Any]) -> tuple[str, str] | None:
    """Name and password for a private registry, out of the secret that its container names."""
    secret = members.get("repositoryCredentials", {}).get("credentialsParameter")
    if not secret:
        return None
    region = secret.split(":")[3] if secret.startswith("arn:") else ""
    start = f"{_AUTH}unable to get registry auth from asm: {_RETRIED}"
    try:
        found = await role.call("secretsmanager", "GetSecretValue", {"SecretId": secret}, region=region)
    except AwsError as error:
        raise CannotPrepare(
            f"{start}failed to fetch secret {secret} from secrets manager: {error.code}: {error.message}"
        ) from None
    try:
        login = json.loads(found.get("SecretString", ""))
        return str(login["username"]), str(login["password"])
    except (ValueError, KeyError, TypeError):
        raise CannotPrepare(f"{start}secret {secret} has no username and password as JSON") from None


async def _ask(image: str, login: tuple[str, str] | None) -> str:
    """What an image means at its registry; nothing when that cannot be asked, or does not know it."""
    from cloudlet.engines.containers import registry

    name, wanted = references.split(image)
    if wanted.startswith("sha256:"):
        return wanted
    try:
        return await asyncio.to_thread(registry.Remote(f"{name}:{wanted}", login).digest)
    except ImageMissing:
        return ""
