"""Functions that are container images: what an ImageUri means here, and how its function becomes ready to run.

An ImageUri names an image in our ECR, one that this machine's container engine has or can pull, or a folder of this
machine. The function is made at once; the image is fetched behind it, and its state says what came of that.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cloudlet.engines.containers.api import Engine, EngineMissing, ImageMissing
from cloudlet.engines.containers.references import ECR
from cloudlet.engines.functions import Containers, Image
from cloudlet.errors import AwsError
from cloudlet.services.lambda_.base import Base, Code
from cloudlet.services.lambda_.code import invalid
from cloudlet.services.lambda_.records import LATEST, Version
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.lambda")

_SINGLE = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_SELF = "lambda.amazonaws.com"


class Images(Base):
    """What functions need of images."""

    containers: Containers

    def open_containers(self) -> Containers:
        """The containers of image functions; nothing is started yet."""
        return Containers(self._open_engine, self.cloud.data_dir / "lambda" / "containers", self._login)

    def _open_engine(self, folder: Path) -> Engine:
        from cloudlet.engines.containers import find

        return find.engine(self.cloud.supervisor, folder)

    async def image(self, uri: str) -> Code:
        """An image that a request names. Raises InvalidParameterValueException."""
        if uri.startswith("/"):
            if not Path(uri).is_dir():
                raise _no_such_image(uri)
            from cloudlet.engines.containers.folders import fingerprint

            # It is no image yet: its files' names, sizes and times stand for it.
            mark = await asyncio.to_thread(fingerprint, Path(uri))
            return _code(hashlib.sha256(mark.encode()).hexdigest(), uri, uri)
        if (found := ECR.fullmatch(uri.removeprefix(f"{self._host()}/"))) is not None:
            return await self._from_ecr(uri, found)
        try:
            digest = await self.containers.ensure(uri)
        except EngineMissing as error:
            raise invalid(f"Source image {uri} is not valid. Provide a valid source image. ({error})") from None
        except ImageMissing:
            raise _no_such_image(uri) from None
        # What an engine has built itself it does not find by its digest.
        return _code(digest, uri, uri)

    async def _from_ecr(self, uri: str, found: re.Match[str]) -> Code:
        account, region, name = found["account"], found["region"], found["name"]
        wanted = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
        where: dict[str, Any] = {"account": account, "region": region, "principal": _SELF}
        try:
            images = await self.cloud.call(
                "ecr", "BatchGetImage", {"repositoryName": name, "imageIds": [wanted]}, **where
            )
        except AwsError:
            raise _no_such_image(uri) from None
        if not images["images"]:
            raise _no_such_image(uri)
        image = images["images"][0]
        if image["imageManifestMediaType"] not in _SINGLE:
            words = f"The image manifest, config or layer media type for the source image {uri} is not supported."
            raise invalid(words)
        digest: str = image["imageId"]["imageDigest"]
        return _code(digest, uri, f"{account}.dkr.ecr.{region}/{name}@{digest}")

    def reference(self, image: str) -> str:
        """What the container engine runs: an image of our registry is where the cloud listens now."""
        return f"{self._host()}/{image}" if ECR.fullmatch(image) else image

    def engine_image(self, version: Version) -> Image | None:
        """The image of a version as the engine takes it."""
        if not version.image:
            return None
        settings = (version.members.get("ImageConfigResponse") or {}).get("ImageConfig") or {}
        return Image(
            self.reference(version.image),
            tuple(settings.get("EntryPoint") or ()),
            tuple(settings.get("Command") or ()),
            settings.get("WorkingDirectory") or "",
        )

    def _host(self) -> str:
        return self.cloud.endpoint.partition("://")[2]

    async def _login(self, reference: str) -> tuple[str, str] | None:
        """Name and password for an image's registry: ours gives tokens, others are not known here."""
        found = ECR.fullmatch(reference.removeprefix(f"{self._host()}/"))
        if found is None or self.cloud.config.auth != "enforce":
            return None
        made = await self.cloud.call(
            "ecr", "GetAuthorizationToken", {}, account=found["account"], region=found["region"], principal=_SELF
        )
        token = made["authorizationData"][0]["authorizationToken"]
        name, _, password = base64.b64decode(token).decode().partition(":")
        return name, password

    # Becoming ready

    async def pull(self, code: Code) -> None:
        """Have an image here before its function changes to it. Raises InvalidParameterValueException."""
        try:
            await self.containers.ensure(self.reference(code.image))
        except (ImageMissing, EngineMissing) as error:
            raise invalid(
                f"Source image {code.image_uri} is not valid. Provide a valid source image. ({error})"
            ) from None

    def fetch_later(self, scope: str, name: str) -> None:
        """Fetch the image of a new function."""
        self.cloud.spawn(self.fetch(scope, name), f"image of {name}")

    def resume_fetching(self) -> None:
        """Go on with what an earlier run has not finished."""
        for record in self.versions.all():
            if record.name.endswith(f":{LATEST}") and record.value.members["State"] == "Pending":
                self.fetch_later(record.scope, record.name.rpartition(":")[0])

    async def fetch(self, scope: str, name: str) -> None:
        """Fetch a new function's image, and let its state say what came of it."""
        record = self.versions.get(scope, f"{name}:{LATEST}")
        if record is None:
            return
        state: dict[str, Any] = {"State": "Active"}
        try:
            await self.containers.ensure(self.reference(record.value.image))
        except ImageMissing as error:
            state = failed("ImageAccessDenied", f"The image {record.value.image_uri} cannot be pulled: {error}")
        except EngineMissing as error:
            state = failed("InternalError", str(error))
        except Exception as error:
            log.exception("the image of %s cannot be had", name)
            state = failed("InternalError", str(error))

        def settle(tx: Tx) -> None:
            for version in self.versions.list(scope, f"{name}:", tx):
                members = version.value.members
                if members["State"] == "Pending":
                    kept = {key: value for key, value in members.items() if not key.startswith("State")}
                    self.versions.put(tx, scope, version.name, replace(version.value, members={**kept, **state}))

        await self.db.write(settle)


CREATING = {"State": "Pending", "StateReason": "The function is being created.", "StateReasonCode": "Creating"}


def failed(code: str, reason: str) -> dict[str, Any]:
    """The state of a function that cannot be run."""
    return {"State": "Failed", "StateReasonCode": code, "StateReason": reason}


def _code(digest: str, uri: str, reference: str) -> Code:
    return Code(sha256=digest.removeprefix("sha256:"), image_uri=uri, image=reference)


def _no_such_image(uri: str) -> AwsError:
    return invalid(f"Source image {uri} does not exist. Provide a valid source image.")
