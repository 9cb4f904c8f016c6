"""Code archives: kept by their hash, unpacked once, within Lambda's limits and inside their folder."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import zipfile
from pathlib import Path

from cloudlet.errors import AwsError

_LARGEST = 250 * 1024 * 1024  # bytes unpacked, layers included on AWS
LOCAL = "hot-reload"  # the bucket that means a folder of this machine
ARCHIVE_LABEL = 64  # characters: archives are named by their hash


class Archive:
    """The archives under one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha: str) -> Path:
        """Where an archive's files are."""
        return self._folder / sha

    def zip(self, sha: str) -> Path:
        """The archive itself."""
        return self._folder / f"{sha}.zip"

    def keep(self, data: bytes) -> str:
        """Store and unpack an archive; returns its SHA-256 in hex. Blocks. Raises InvalidParameterValueException."""
        sha = hashlib.sha256(data).hexdigest()
        target = self.path(sha)
        if target.is_dir() and self.zip(sha).is_file():
            return sha
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f"{sha}.{os.getpid()}.new"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            _unpack(data, aside)
            written = self.zip(sha).with_suffix(".part")
            written.write_bytes(data)
            written.replace(self.zip(sha))
            if target.is_dir():
                shutil.rmtree(target)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return sha

    def merged(self, shas: tuple[str, ...]) -> Path:
        """One folder with the files of several layers, the later ones over the earlier. Blocks."""
        if len(shas) == 1:
            return self.path(shas[0])
        name = "layers-" + hashlib.sha256(":".join(shas).encode()).hexdigest()[:24]
        target = self._folder / name
        if not target.is_dir():
            aside = self._folder / f"{name}.{os.getpid()}.new"
            shutil.rmtree(aside, ignore_errors=True)
            for sha in shas:
                shutil.copytree(self.path(sha), aside, dirs_exist_ok=True, symlinks=True)
            aside.rename(target)
        return target


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, root: Path, left: int) -> int:
    """Unpack one entry; the bytes that it takes. Raises for what would be elsewhere, or take more than is ``left``."""
    place = (root / entry.filename).resolve()
    if not place.is_relative_to(root):
        raise invalid(f"Could not unzip uploaded file: {entry.filename} is outside of the archive.")
    mode = entry.external_attr >> 16
    if entry.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        return 0
    place.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        link = archive.read(entry).decode()
        if not (place.parent / link).resolve().is_relative_to(root):
            raise invalid(f"Could not unzip uploaded file: {entry.filename} links out of the archive.")
        place.symlink_to(link)
        return 0
    taken = 0
    with archive.open(entry) as source, place.open("wb") as file:
        # The sizes in the directory may lie: what counts is what comes out.
        while chunk := source.read(1 << 20):
            taken += len(chunk)
            if taken > left:
                raise invalid(f"Unzipped size must be smaller than {_LARGEST} bytes")
            file.write(chunk)
    place.chmod((mode & 0o777) | 0o444 if mode else 0o644)
    return taken


def _unpack(data: bytes, target: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > _LARGEST:
                raise invalid(f"Unzipped size must be smaller than {_LARGEST} bytes")
            target.mkdir(parents=True)
            root, left = target.resolve(), _LARGEST
            for entry in entries:
                left -= _unpack_entry(archive, entry, root, left)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, UnicodeDecodeError, ValueError):
        raise invalid("Could not unzip uploaded file. Please check your file, then try to upload again.") from None


def invalid(words: str) -> AwsError:
    """A parameter that cannot be."""
    return AwsError("InvalidParameterValueException", words, status=400, Type="User")
