"""Images made here, as archives that ``POST /images/load`` takes: no builder and no registry is asked."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import struct
import tarfile
import tempfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

PAUSE = "localhost/cloudlet/pause:1"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# pause(2) for ever, as machine code: there may be no compiler here. x86-64: mov eax, 34; syscall; jump back.
# arm64 has ppoll(2) instead: mov x0..x4, 0; mov x8, 73; svc 0; branch back.
_CODE = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (
        183,
        b"".join(
            word.to_bytes(4, "little")
            for word in (0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800004, 0xD2800928, 0xD4000001, 0x17FFFFF9)
        ),
    ),
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def pause_program(machine: str = "") -> bytes:
    """A static Linux program of a few dozen bytes that waits until it is killed. Raises KeyError on other machines."""
    number, code = _CODE[machine or platform.machine().replace("arm64", "aarch64")]
    base, head = 0x400000, 64 + 56
    size = head + len(code)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, number, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return elf + segment + code


def pause_archive(file: IO[bytes]) -> None:
    """Write the image that holds a pod's network while its containers come and go."""
    program = pause_program()
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


def context_archive(file: IO[bytes], folder: Path) -> None:
    """Write what a builder is given of a folder: all but what ``.dockerignore`` leaves out. Call off the event loop."""
    ignored = _ignored(folder)
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(folder.iterdir()):
            archive.add(entry, entry.name, filter=lambda info: None if ignored(info.name) else info)


def _ignored(folder: Path) -> Callable[[str], bool]:
    """Whether a path is left out, by the last pattern that matches it or a folder above it."""
    file = folder / ".dockerignore"
    lines = file.read_text().splitlines() if file.is_file() else []
    patterns = [
        (line.lstrip("!").strip("/").removeprefix("**/"), line.startswith("!"))
        for line in map(str.strip, lines)
        if line and not line.startswith("#")
    ]

    def ignored(name: str) -> bool:
        parts = name.split("/")
        heads = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        out = False
        for pattern, kept in patterns:
            if any(fnmatchcase(head, pattern) for head in heads):
                out = not kept
        return out and parts[0] not in ("Dockerfile", ".dockerignore")

    return ignored


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
