"""Which images this machine can run: its own architecture's, and those that the kernel has an interpreter for."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAMES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_INTERPRETED = {"arm64": "aarch64", "amd64": "x86_64"}


def own() -> str:
    """This machine's architecture as images name it."""
    machine = platform.machine().lower()
    return _NAMES.get(machine, machine)


# As AWS words it.
NONE = f"image Manifest does not contain descriptor matching platform 'linux/{own()}'"


def runs(architecture: str) -> bool:
    """Whether programs of an architecture run here: natively, or by what binfmt_misc has registered (QEMU, Rosetta)."""
    if architecture == own():
        return True
    name = _INTERPRETED.get(architecture, architecture)
    return any(
        entry.name.endswith(f"-{name}") and entry.read_text().startswith("enabled") for entry in _BINFMT.glob("*-*")
    )


def choose(manifests: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of an index's manifests the one to run here: this machine's own architecture first."""
    linux = [one for one in manifests if _of(one).get("os") == "linux" and runs(_of(one).get("architecture", ""))]
    return min(linux, key=lambda one: _of(one)["architecture"] != own(), default=None)


def _of(manifest: dict[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = manifest.get("platform", {})
    return found
