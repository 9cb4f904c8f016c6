"""Images made here, as archives that ``POST /images/load`` takes: no builder and no registry is asked."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

from cloudlet.engines.containers import programs

PAUSE = "localhost/cloudlet/pause:1"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def pause_archive(file: IO[bytes]) -> None:
    """Write the image that holds a pod's network while its containers come and go."""
    program = programs.pause()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    _write(file, layer, PAUSE, {"Entrypoint": ["/pause"]})


def folder_archive(file: IO[bytes], folder: Path, reference: str) -> None:
    """Write an image whose one layer is the folder. Reads all of it; call off the event loop."""
    with tempfile.TemporaryFile() as layer:
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for entry in sorted(folder.iterdir()):
                archive.add(entry, entry.name)
        _write(file, layer, reference, {"Env": [_PATH]})


def _write(file: IO[bytes], layer: IO[bytes], reference: str, settings: dict[str, Any]) -> None:
    size = layer.seek(0, io.SEEK_END)
    layer.seek(0)
    digest = hashlib.file_digest(layer, "sha256").hexdigest()  # type: ignore[arg-type]
    layer.seek(0)
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for title, data in ((name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(title)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo("layer.tar")
        entry.size = size
        archive.addfile(entry, layer)
