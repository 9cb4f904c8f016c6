"""Images without an engine: unpacked root file systems, each in a folder beside what its image says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from cloudlet.engines.containers import folders, platforms, references, registry
from cloudlet.engines.containers.api import ImageMissing

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEW = "new-"  # what is not complete yet is called
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is here."""

    root: Path
    digest: str = ""
    settings: dict[str, Any] = field(default_factory=lambda: {"Env": [_PATH]})
    application: bool = False  # on this machine's own programs


class Images:
    """The images of one cloud: each is unpacked once, by its digest; a reference is a link to what it means now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._roots, self._names = folder / "roots", folder / "names"
        self._locks: dict[str, asyncio.Lock] = {}
        self._changing = threading.Lock()  # an image that is not named yet is not dropped

    def get(self, reference: str) -> Image | None:
        """An image by its reference, or by the path of a folder. Raises ImageMissing for a path that is not there."""
        if reference.startswith("/"):
            root = Path(reference)
            if not root.is_dir():
                raise ImageMissing(f"There is no folder {root}.")
            return Image(root, application=folders.is_application(root))
        place = self._names / quote(reference, safe="")
        if "@" in reference and not place.is_symlink():
            place = self._root(references.split(reference)[1])
        return _read(place)

    async def pull(self, reference: str, credentials: tuple[str, str] | None, digest: str = "") -> Image:
        """An image, from its registry where it is not here, or not with this digest. Raises ImageMissing."""
        wanted = references.pinned(reference, digest) if digest else reference
        async with self._locks.setdefault(wanted, asyncio.Lock()):
            if self.get(wanted) is None or (digest and not self._name(reference, digest)):
                await asyncio.to_thread(self._unpack, registry.Remote(wanted, credentials), reference)
            found = self.get(wanted)
            assert found is not None
            return found

    def drop(self, used: Iterable[Path]) -> None:
        """Remove what no reference means any more and no container runs on; ``used`` are roots of containers."""
        kept = {root.parent.name for root in used}
        with self._changing:
            kept |= {os.path.basename(os.readlink(name)) for name in _entries(self._names)}
            for folder in _entries(self._roots):
                if folder.name not in kept and not folder.name.startswith(_NEW):
                    shutil.rmtree(folder, ignore_errors=True)

    async def load(self, folder: Path, reference: str) -> None:
        """Take a copy of a folder as an image."""

        def copy() -> None:
            with self._making() as made:
                command = ["cp", "-a", "--reflink=auto", f"{folder}/.", str(made / "root")]
                subprocess.run(command, check=True, capture_output=True)
                identity = hashlib.sha256(folders.fingerprint(made / "root").encode()).hexdigest()
                digest, application = f"sha256:{identity}", folders.is_application(folder)
                self._put(reference, made, Image(made / "root", digest, application=application))

        await asyncio.to_thread(copy)

    def _unpack(self, source: registry.Source, reference: str) -> None:
        manifest, digest = source.manifest()
        if not self._name(reference, digest):
            config = json.loads(source.blob(manifest["config"]["digest"]).read())
            if not platforms.runs(config.get("architecture") or platforms.own()):
                raise ImageMissing(platforms.NONE)
            with self._making() as made:
                for layer in manifest["layers"]:
                    with source.blob(layer["digest"]) as file:
                        unpack(file, made / "root")
                self._put(reference, made, Image(made / "root", digest, config.get("config") or {}))

    def _making(self) -> _Made:
        self._roots.mkdir(parents=True, exist_ok=True)
        return _Made(tempfile.mkdtemp(prefix=_NEW, dir=self._roots))

    def _put(self, reference: str, made: Path, image: Image) -> None:
        """Put what has been unpacked in its place, and have a reference mean it."""
        about = {"digest": image.digest, "settings": image.settings, "application": image.application}
        (made / "image.json").write_text(json.dumps(about))
        made.chmod(0o755)
        with self._changing:
            with contextlib.suppress(OSError):  # it is there: another reference has the same digest
                made.rename(self._root(image.digest))
            self._link(reference, image.digest)

    def _name(self, reference: str, digest: str) -> bool:
        """Have a reference mean an image from here on; whether it is there."""
        with self._changing:
            if _read(self._root(digest)) is None:
                return False
            self._link(reference, digest)
            return True

    def _link(self, reference: str, digest: str) -> None:
        self._names.mkdir(parents=True, exist_ok=True)
        new = self._names / f"{_NEW}{uuid.uuid4().hex}"
        new.symlink_to(Path("..", "roots", self._root(digest).name))
        new.rename(self._names / quote(reference, safe=""))

    def _root(self, digest: str) -> Path:
        return self._roots / digest.replace(":", "-")


def _read(place: Path) -> Image | None:
    """The image in a folder, if there is one."""
    try:
        about = json.loads((place / "image.json").read_text())
    except OSError:
        return None
    return Image(place.resolve() / "root", about["digest"], about["settings"], about["application"])


def _entries(folder: Path) -> list[Path]:
    try:
        return [*folder.iterdir()]
    except OSError:
        return []


class _Made:
    """A folder that is gone unless it has been put into its place."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        (self._path / "root").mkdir()

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def unpack(layer: IO[bytes], root: Path) -> None:
    """Lay one layer of an image over what is in the folder. Raises ImageMissing when it would reach out of it."""
    with tarfile.open(fileobj=layer, mode="r|*") as archive:
        for entry in archive:
            name = entry.name.lstrip("/").removeprefix("./")
            folder, _, last = name.rpartition("/")
            if ".." in name.split("/"):
                raise ImageMissing(f"A layer of the image has a path that leads out of it: {entry.name}")
            above = inside(root, folder)
            if last == _OPAQUE:
                for gone in above.iterdir():
                    _remove(gone)
            elif last.startswith(_WHITEOUT):
                _remove(above / last.removeprefix(_WHITEOUT))
            elif name and not entry.isdev():
                above.mkdir(parents=True, exist_ok=True)
                target = above / last
                if not (entry.isdir() and target.is_dir() and not target.is_symlink()):
                    _remove(target)
                if entry.islnk():
                    os.link(inside(root, entry.linkname, whole=False), target, follow_symlinks=False)
                    continue
                entry.name = last
                archive.extract(entry, above, numeric_owner=True, filter="fully_trusted")


def inside(root: Path, path: str, whole: bool = True) -> Path:
    """Where a path of the image is on this machine, its links followed as they are within the image.

    Without ``whole`` the last name is not followed. What is not there is no error, a link that never ends is (OSError).
    """
    parts, place, links = [part for part in path.split("/") if part not in ("", ".")], root, 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            place = place.parent if place != root else root
            continue
        step = place / part
        if (parts or whole) and step.is_symlink():
            links += 1
            if links > 40:
                raise OSError(f"too many links: {path}")
            target = os.readlink(step)
            place = root if target.startswith("/") else place
            parts[:0] = [name for name in target.split("/") if name not in ("", ".")]
        else:
            place = step
    return place


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
