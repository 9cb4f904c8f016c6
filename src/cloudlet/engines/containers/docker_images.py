"""The images of an engine behind the Docker API: pulled, loaded, built, and made of folders that containers name."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloudlet.engines.containers import archives, folders, platforms, references
from cloudlet.engines.containers.api import Container, ImageMissing, Mount
from cloudlet.engines.containers.daemon import Daemon, DaemonError


class DockerImages:
    """An engine's images. ``_folders`` is the repository of those that are made of folders."""

    _daemon: Daemon
    _podman: bool
    _folder: Path
    _folders: str
    _digests: dict[str, str]  # an image's id -> its digest

    async def ensure_image(self, reference: str, credentials: tuple[str, str] | None = None, digest: str = "") -> str:
        wanted = references.pinned(reference, digest) if digest else reference
        found = await self._image(wanted)
        if found is None:
            await self._fetch(wanted, credentials)
            found = await self._image(wanted)
            if found is None:
                raise ImageMissing(f"{wanted} is not there after it was pulled.")
            name, tag = references.split(reference)
            if digest and not tag.startswith("sha256:"):
                # So that it is found where its registry cannot be asked.
                await self._daemon.call("POST", f"/images/{wanted}/tag", {"repo": name, "tag": tag})
        return digest or found

    async def _fetch(self, reference: str, credentials: tuple[str, str] | None) -> None:
        headers = {}
        if credentials is not None:
            login = {"username": credentials[0], "password": credentials[1]}
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(login).encode()).decode()
        if self._podman:
            # Registries on this machine speak HTTP, as Docker takes for granted.
            plain = references.is_local(references.parse(reference)[0])
            query: dict[str, Any] = {"reference": reference, "tlsVerify": str(not plain).lower()}
            path = "/v4.0.0/libpod/images/pull"
        else:
            name, tag = references.split(reference)
            query, path = {"fromImage": name, "tag": tag}, "/images/create"
        try:
            async for document in self._daemon.documents("POST", path, query, headers=headers):
                if "error" in document:
                    raise _missing(document["error"])
        except DaemonError as error:
            raise _missing(str(error)) from None

    async def load_image(self, folder: Path, reference: str) -> None:
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            await asyncio.to_thread(archives.folder_archive, file, folder, reference)
            file.flush()
            await self._load(Path(file.name))

    async def _load(self, archive: Path) -> None:
        async for document in self._daemon.documents("POST", "/images/load", body=archive):
            if "error" in document:
                raise ImageMissing(document["error"])

    async def _image(self, reference: str) -> str | None:
        """An image's digest, or its id when no registry has ever seen it; None when it is not here."""
        try:
            document = await self._daemon.call("GET", f"/images/{reference}/json")
        except DaemonError as error:
            if error.status == 404:
                return None
            raise ImageMissing(str(error)) from None
        digests = document.get("RepoDigests") or ()
        identity = str(document["Id"]).removeprefix("sha256:")
        self._digests[identity] = digests[0].partition("@")[2] if digests else f"sha256:{identity}"
        return self._digests[identity]

    async def _image_of(self, container: Container) -> tuple[str, Sequence[Mount], Container]:
        """The reference of a container's image, where that is a folder an image of it; and what to mount."""
        mounts = [
            mount if mount.source.startswith("/") else Mount(self._title(mount.source), mount.target, mount.read_only)
            for mount in container.mounts
        ]
        if not container.image.startswith("/"):
            return container.image, mounts, container
        folder = Path(container.image)
        if not folder.is_dir():
            raise ImageMissing(f"There is no folder {folder}.")
        if folders.is_application(folder):
            # On this machine's own programs and libraries.
            shared = [Mount(path, path, read_only=True) for path in folders.system()]
            return archives.PAUSE, [*shared, *mounts, *folders.application(folder)], folders.prepared(container)
        reference = f"{self._folders}:{await asyncio.to_thread(folders.fingerprint, folder)}"
        if await self._image(reference) is None:
            await self.load_image(folder, reference)
        return reference, mounts, container

    def _title(self, name: str) -> str:
        """A container's or volume's name in the engine."""
        raise NotImplementedError


def _missing(words: str) -> ImageMissing:
    """The error of an engine that cannot pull; Podman and Docker each say in their way that no platform fits."""
    is_other = "no image found in" in words or "no matching manifest for" in words
    return ImageMissing(platforms.NONE if is_other else words)
