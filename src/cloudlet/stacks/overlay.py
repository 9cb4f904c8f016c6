"""A function's sources over its installed dependencies: a folder that is kept like its source while that changes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Never part of a function's code.
NOT_CODE = frozenset((".git", ".venv", "venv", "__pycache__", ".aws-sam", ".cloudlet", ".pytest_cache", ".mypy_cache"))


def lay(target: Path, dependencies: Path, source: Path) -> None:
    """Make ``target`` of the dependencies and the sources over them. Blocks."""
    if not _notes(target).is_file():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(dependencies, target, symlinks=True, copy_function=_link)
        _write(target, source, {})
    refresh(target)


def source_of(target: Path) -> Path | None:
    """The folder that ``target`` is kept like, or None when it is no overlay."""
    try:
        return Path(json.loads(_notes(target).read_text())["source"])
    except (OSError, ValueError, KeyError):
        return None


def refresh(target: Path) -> None:
    """Bring every change of the sources into the overlay. Blocks."""
    notes = json.loads(_notes(target).read_text())
    source, before = Path(notes["source"]), notes["files"]
    now: dict[str, list[int]] = {}
    for path in files(source):
        name = str(path.relative_to(source))
        status = path.stat()
        now[name] = [status.st_mtime_ns, status.st_size]
        if before.get(name) != now[name]:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f".{place.name}.new")
            shutil.copy2(path, aside)
            aside.replace(place)
    for name in before.keys() - now.keys():
        (target / name).unlink(missing_ok=True)
    if now != before:
        _write(target, source, now)


def files(folder: Path) -> Iterator[Path]:
    """Every file of a folder that is code, in a steady order."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in NOT_CODE)
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file():
                yield path


def _write(target: Path, source: Path, known: dict[str, list[int]]) -> None:
    aside = _notes(target).with_suffix(".new")
    aside.write_text(json.dumps({"source": str(source), "files": known}))
    aside.replace(_notes(target))


def _notes(target: Path) -> Path:
    """Beside the overlay, so that the function does not see it."""
    return target.with_name(f"{target.name}.overlay")


def _link(source: str, target: str) -> None:
    """Files of dependencies are shared, not copied; nobody writes them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
