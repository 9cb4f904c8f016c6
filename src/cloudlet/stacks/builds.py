"""Code of this machine made ready to run: its dependencies installed, or the whole built, once for each content.

Where there is nothing to install the code is served from where it lies.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudlet.stacks import overlay
from cloudlet.stacks.errors import invalid

Say = Callable[[str], None]

_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Code:
    """Code to make ready: its path, and what the template says of it."""

    logical_id: str
    path: Path
    runtime: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    layer: bool = False


class Builds:
    """The builds under one folder. Every method blocks, and may be called in several threads."""

    def __init__(self, folder: Path, say: Say = lambda words: None) -> None:
        self._folder = folder
        self._say = say
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def make(self, code: Code) -> Path:
        """The folder to run: the code's own, or one with its dependencies. Raises ValidationError."""
        if code.path.is_file():
            return self._of_file(code)
        method = str(code.metadata.get("BuildMethod", ""))
        if method == "esbuild":
            return self._esbuild(code)
        if method == "makefile":
            return self._makefile(code)
        if method and not method.startswith(("python", "nodejs", "java")):
            raise invalid(f"Cloudlet does not build {code.logical_id} with BuildMethod {method}.")
        runtime = method or code.runtime
        if runtime.startswith("python") and _requires(code.path):
            return self._python(code, runtime)
        if runtime.startswith("nodejs") and _node_dependencies(code.path, "dependencies"):
            return self._node(code)
        if runtime.startswith("java") and (code.path / "pom.xml").is_file():
            return self._maven(code)
        if runtime.startswith("java") and any((code.path / f"build.gradle{end}").is_file() for end in ("", ".kts")):
            raise invalid(
                f"Cloudlet does not build {code.logical_id} with Gradle: build a .jar and name it as its code."
            )
        if code.layer:
            return self._snapshot(code, method)
        return code.path

    # Each way to build

    def _python(self, code: Code, runtime: str) -> Path:
        program = _python_program(runtime.removeprefix("python"))
        key = _hash(b"python", program, (code.path / "requirements.txt").read_bytes())

        def install(folder: Path) -> None:
            self._say(f"Installing the requirements of {code.logical_id}")
            command = [*_pip(program), "--target", str(folder), "-r", "requirements.txt"]
            self._run(command, code, code.path)

        dependencies = self._once(f"python-{key}", install)
        return self._over(code, dependencies, "python" if code.layer else "")

    def _node(self, code: Code) -> Path:
        return self._over(code, self._packages(code, "--omit=dev"), "nodejs" if code.layer else "")

    def _packages(self, code: Code, *flags: str) -> Path:
        """A folder with the packages that a package.json names."""
        npm = _npm(code)
        names = [name for name in ("package.json", "package-lock.json", ".npmrc") if (code.path / name).is_file()]
        key = _hash(b"node", *flags, *((code.path / name).read_bytes() for name in names))

        def install(folder: Path) -> None:
            self._say(f"Installing the packages of {code.logical_id}")
            for name in names:
                shutil.copy2(code.path / name, folder / name)
            self._run([npm, "install", *flags, "--no-audit", "--no-fund"], code, folder)

        return self._once(f"node-{key}", install)

    def _maven(self, code: Code) -> Path:
        maven = shutil.which("mvn")
        if maven is None:
            raise invalid(f"{code.logical_id} is built by Maven, which is not on this machine (package maven).")

        def build(folder: Path) -> None:
            self._say(f"Building {code.logical_id} with Maven")
            scratch = self._scratch(code, folder)
            copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-Dmdep.prependGroupId=true"]
            self._run([maven, "-q", "-B", "clean", "package", *copy, "-DskipTests"], code, scratch)
            place = folder / "java" / "lib" if code.layer else folder
            shutil.copytree(scratch / "target" / "classes", place, dirs_exist_ok=True)
            if (jars := scratch / "target" / "dependency").is_dir():
                shutil.copytree(jars, place if code.layer else folder / "lib", dirs_exist_ok=True)
            shutil.rmtree(scratch)

        return self._once(f"maven-{_hash_of(code.path)}", build)

    def _makefile(self, code: Code) -> Path:
        make = shutil.which("make")
        if make is None:
            raise invalid(f"{code.logical_id} is built by make, which is not on this machine (package make).")

        def build(folder: Path) -> None:
            self._say(f"Building {code.logical_id} with make")
            scratch = self._scratch(code, folder)
            within = scratch / str(code.metadata.get("WorkingDirectory", "."))
            target = f"build-{code.metadata.get('SamResourceId', code.logical_id)}"
            self._run([make, target], code, within, {"ARTIFACTS_DIR": str(folder)})
            shutil.rmtree(scratch)

        return self._once(f"make-{code.logical_id}-{_hash_of(code.path)}", build)

    def _esbuild(self, code: Code) -> Path:
        packages = self._packages(code) if _node_dependencies(code.path, "dependencies", "devDependencies") else None
        places = (*((packages,) if packages else ()), code.path, *code.path.parents)
        own = (place / "node_modules" / ".bin" / "esbuild" for place in places)
        program = next((str(path) for path in own if path.is_file()), None) or shutil.which("esbuild")
        settings = code.metadata.get("BuildProperties") or {}
        flags = _esbuild_flags(code, settings)

        def build(folder: Path) -> None:
            self._say(f"Building {code.logical_id} with esbuild")
            command = [
                program or self._tool(code, "esbuild"),
                *settings.get("EntryPoints", ["app.js"]),
                *flags,
                f"--outdir={folder}",
            ]
            if packages is None:
                self._run(command, code, code.path)
                return
            scratch = self._scratch(code, folder)
            (scratch / "node_modules").symlink_to(packages / "node_modules")
            self._run(command, code, scratch)
            shutil.rmtree(scratch)

        return self._once(f"esbuild-{_hash(json.dumps(settings, sort_keys=True))}-{_hash_of(code.path)}", build)

    def _tool(self, code: Code, name: str) -> str:
        """A program that comes as a package of its name."""

        def install(folder: Path) -> None:
            self._say(f"Installing {name}")
            self._run([_npm(code), "install", name, "--no-audit", "--no-fund"], code, folder)

        return str(self._once(f"tool-{name}", install) / "node_modules" / ".bin" / name)

    def _snapshot(self, code: Code, method: str) -> Path:
        """A layer is a version: another content is another place."""

        def copy(folder: Path) -> None:
            inner = {"p": "python", "n": "nodejs", "j": "java"}.get(method[:1], "")
            for path in overlay.files(code.path):
                place = folder / inner / path.relative_to(code.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)

        return self._once(f"layer-{method}-{_hash_of(code.path)}", copy)

    def _of_file(self, code: Code) -> Path:
        """A folder for code that is one file: an archive's content, or the file itself."""

        def unpack(folder: Path) -> None:
            if not zipfile.is_zipfile(code.path):
                shutil.copy2(code.path, folder / code.path.name)
                return
            with zipfile.ZipFile(code.path) as archive:
                archive.extractall(folder)
                for entry in archive.infolist():
                    if mode := entry.external_attr >> 16 & 0o777:
                        (folder / entry.filename).chmod(mode | 0o600)

        return self._once(f"file-{_hash(code.path.name, code.path.read_bytes())}", unpack)

    # What they share

    def _over(self, code: Code, dependencies: Path, inner: str) -> Path:
        """The sources over their dependencies; of a layer with both inside the folder that runtimes look into."""
        if code.layer:

            def join(folder: Path) -> None:
                shutil.copytree(dependencies, folder / inner, symlinks=True)
                for path in overlay.files(code.path):
                    place = folder / inner / path.relative_to(code.path)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, place)

            return self._once(f"layer-{dependencies.name}-{_hash_of(code.path)}", join)
        target = self._folder / f"code-{_hash(str(code.path), dependencies.name)}"
        with self._locked(target.name):
            overlay.lay(target, dependencies, code.path)
        return target

    def _once(self, name: str, build: Callable[[Path], None]) -> Path:
        """The folder of that name, built when it is not there; one that is half done is never seen."""
        target = self._folder / name
        with self._locked(name):
            if not target.is_dir():
                aside = self._folder / f"{name}.{os.getpid()}.new"
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
                try:
                    build(aside)
                    aside.rename(target)
                finally:
                    shutil.rmtree(aside, ignore_errors=True)
        return target

    def _scratch(self, code: Code, folder: Path) -> Path:
        """A copy of the sources in which a build may write."""
        scratch = folder.with_suffix(".scratch")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(code.path, scratch, symlinks=True, ignore=shutil.ignore_patterns(*overlay.NOT_CODE, "target"))
        return scratch

    def _locked(self, name: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(name, threading.Lock())

    def _run(self, command: list[str], code: Code, folder: Path, extra: dict[str, str] | None = None) -> None:
        """Run a tool. Raises ValidationError with the end of what it has said."""
        try:
            ran = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise invalid(f"{code.logical_id} could not be built: {error}") from None
        if ran.returncode != 0:
            raise invalid(f"{code.logical_id} could not be built:\n{ran.stdout.strip()[-2000:]}")


def _requires(folder: Path) -> bool:
    """Whether a folder has requirements that are not installed in it already, as ``sam build`` does."""
    file = folder / "requirements.txt"
    if not file.is_file() or any(folder.glob("*.dist-info")):
        return False
    lines = (line.split("#", 1)[0].strip() for line in file.read_text(errors="replace").splitlines())
    return any(lines)


def _node_dependencies(folder: Path, *kinds: str) -> bool:
    """Whether a folder names packages, of any of these kinds, that are not installed in it already."""
    if (folder / "node_modules").is_dir():
        return False
    try:
        package = json.loads((folder / "package.json").read_text())
        return any(package.get(kind) for kind in kinds)
    except (OSError, ValueError, AttributeError):
        return False


def _npm(code: Code) -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise invalid(f"{code.logical_id} has dependencies, and npm is not on this machine (package npm).")
    return npm


def _python_program(wanted: str) -> str:
    """The Python that a function will run with: that of its runtime where this machine has it, else our own."""
    found = shutil.which(f"python{wanted}") if re.fullmatch(r"3\.\d+", wanted) else None
    if found is not None and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
        return found
    return sys.executable


def _pip(program: str) -> list[str]:
    from importlib.util import find_spec

    if find_spec("pip") is not None:
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        return [sys.executable, "-m", "pip", "--python", program, "install", *quiet]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", program]
    raise invalid("There are requirements to install, and neither pip nor uv is on this machine (package python3-pip).")


def _esbuild_flags(code: Code, settings: dict[str, Any]) -> list[str]:
    """BuildProperties as esbuild's flags. Raises ValidationError for those that are not known."""
    flags = ["--bundle", "--platform=node"]
    simple = {"Minify": "minify", "Sourcemap": "sourcemap", "Format": "format", "Target": "target"}
    lists = {"MainFields": "main-fields", "ResolveExtensions": "resolve-extensions"}
    repeated = {"External": "external", "Loader": "loader", "OutExtension": "out-extension"}
    for name, value in settings.items():
        if name in simple:
            if str(value).lower() != "false":
                flags.append(f"--{simple[name]}" + ("" if str(value).lower() == "true" else f"={value}"))
        elif name in lists:
            flags.append(f"--{lists[name]}={value if isinstance(value, str) else ','.join(value)}")
        elif name in repeated:
            for item in value:
                flags.append(f"--{repeated[name]}:{item}")
        elif name not in ("EntryPoints", "UseNpmCi"):
            raise invalid(f"Cloudlet does not build {code.logical_id} with the esbuild property {name}.")
    return flags


def _hash_of(folder: Path) -> str:
    """A name for all that is in a folder."""
    found = hashlib.sha256()
    for path in overlay.files(folder):
        found.update(f"{path.relative_to(folder)}\0{path.stat().st_mode & 0o111}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:20]


def _hash(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest())
    return found.hexdigest()[:20]
