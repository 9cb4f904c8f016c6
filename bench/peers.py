"""The peers, each installed into a folder of its own under ``.make/`` from its package registry."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.targets import Dynalite, Ministack, Target

_FOLDER = Path(__file__).parent.parent / ".make" / "peers"


def found() -> dict[str, Callable[[], Target]]:
    """The peers that can be installed here; the others are named and left out."""
    makers: dict[str, Callable[[], Target]] = {}
    python = _FOLDER / "ministack" / "bin" / "python"
    if python.exists() or _install(
        [sys.executable, "-m", "venv", str(python.parent.parent)],
        [str(python), "-m", "pip", "install", "--quiet", "ministack"],
    ):
        makers["ministack"] = lambda: Ministack(str(python))
    else:
        print("ministack could not be installed from PyPI; it is left out.", file=sys.stderr)
    folder = _FOLDER / "dynalite"
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "node_modules" / ".bin" / "dynalite").exists() or (
        shutil.which("npm") and _install(["npm", "install", "--silent", "--prefix", str(folder), "dynalite"])
    ):
        makers["dynalite"] = lambda: Dynalite(str(folder))
    else:
        print("dynalite could not be installed from npm; it is left out.", file=sys.stderr)
    return makers


def _install(*commands: list[str]) -> bool:
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)
