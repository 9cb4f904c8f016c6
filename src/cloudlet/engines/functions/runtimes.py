"""Which program runs a runtime's functions on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cloudlet.engines.functions.api import Function, FunctionFailed

BOOTSTRAP = Path(__file__).parent / "bootstrap"
_NODE = "install nodejs, for example with: apt-get install nodejs"
_JAVA = "install a JDK, for example with: apt-get install openjdk-17-jdk-headless"


@dataclass(frozen=True)
class Start:
    """How a sandbox begins: its program, and what its environment has besides. ``note`` is for the log."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    needs: tuple[Path, ...] = ()  # folders that it must see
    links: tuple[tuple[str, str], ...] = ()  # paths in its sandbox, and what they lead to
    note: str = ""


def start_of(function: Function, cache_dir: Path, node_sdk: Path, task: str, opt: str) -> Start:
    """How a function is started that finds its code at ``task`` and its layers at ``opt``. Raises FunctionFailed."""
    runtime = function.runtime
    if runtime.startswith("python"):
        return _python(runtime, task, opt)
    if runtime.startswith("nodejs"):
        return _node(runtime, function, node_sdk, task, opt)
    if runtime.startswith("java"):
        return _java(function, cache_dir, task, opt)
    if runtime.startswith("provided"):
        for folder in (function.code, *function.layers):
            program = folder / "bootstrap"
            if program.is_file():
                if not os.access(program, os.X_OK):
                    raise FunctionFailed(f"fork/exec {program.name}: permission denied")
                return Start((f"{task if folder == function.code else opt}/bootstrap",), {})
        raise FunctionFailed("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
    raise FunctionFailed(f"Cloudlet has no runtime {runtime}.")


def _python(runtime: str, task: str, opt: str) -> Start:
    wanted = runtime.removeprefix("python")
    program, note = _python_program(wanted)
    here = Path(sys.prefix).resolve()
    packages = _boto3_folder()
    paths = [task, f"{opt}/python", f"{opt}/python/lib/python{wanted}/site-packages"]
    # Lambda's Python runtimes bring boto3; what the function brings itself comes first.
    environment = {"PYTHONPATH": ":".join(paths), "CLOUDLET_PACKAGES": str(packages)}
    return Start(
        (program, "-X", "frozen_modules=on", str(BOOTSTRAP / "bootstrap.py")),
        environment,
        (here, Path(sys.base_prefix).resolve(), Path(program).resolve().parent.parent, packages, BOOTSTRAP),
        # Where Lambda has it, and scripts of layers look for it.
        tuple((f"/var/lang/bin/{name}", program) for name in ("python", "python3", f"python{wanted}")),
        note,
    )


@cache
def _python_program(wanted: str) -> tuple[str, str]:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted == own:
        return os.path.realpath(sys.executable), ""
    found = shutil.which(f"python{wanted}")
    if found is not None and (real := _works(found)) is not None:
        return real, ""
    return os.path.realpath(sys.executable), f"This machine has no Python {wanted}; the function runs with {own}."


def _works(program: str) -> str | None:
    """The real program behind a name, None for a shim of a version that is not installed."""
    import subprocess

    try:
        ran = subprocess.run([program, "-c", "import sys; print(sys.executable)"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.path.realpath(ran.stdout.decode().strip()) if ran.returncode == 0 else None


@cache
def _boto3_folder() -> Path:
    from importlib.util import find_spec

    found = find_spec("boto3")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent.parent


def _node(runtime: str, function: Function, sdk: Path, task: str, opt: str) -> Start:
    program = shutil.which("node")
    if program is None:
        raise FunctionFailed(f"The runtime {runtime} needs Node.js, which is not on this machine: {_NODE}.")
    major = runtime.removeprefix("nodejs").removesuffix(".x")
    paths = [f"{opt}/nodejs/node_modules", f"{opt}/nodejs/node{major}/node_modules", f"{task}/node_modules", str(sdk)]
    real = Path(program).resolve()
    return Start(
        (str(real), f"--max-old-space-size={max(64, function.memory)}", str(BOOTSTRAP / "bootstrap.mjs")),
        {"NODE_PATH": ":".join(paths)},
        (real.parent.parent, BOOTSTRAP, sdk),
        # ES modules do not look at NODE_PATH, but beside the code.
        (("/var/node_modules", str(sdk)), ("/var/lang/bin/node", str(real))),
    )


def _java(function: Function, cache_dir: Path, task: str, opt: str) -> Start:
    java, javac = shutil.which("java"), shutil.which("javac")
    if java is None or javac is None:
        raise FunctionFailed(f"The runtime {function.runtime} needs a JDK, which is not on this machine: {_JAVA}.")
    classes = _compiled(javac, cache_dir)
    real = Path(java).resolve()
    return Start(
        (
            *(str(real), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", f"-Xmx{function.memory}m"),
            *("-cp", f"{classes}:{task}:{task}/lib/*:{opt}/java/lib/*", "cloudlet.Bootstrap"),
        ),
        {},
        (real.parent.parent, classes),
    )


def _compiled(javac: str, cache_dir: Path) -> Path:
    """The folder with the compiled bootstrap, made once for each version of its source."""
    import hashlib
    import subprocess

    source = BOOTSTRAP / "Bootstrap.java"
    folder = cache_dir / f"java-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not (folder / "cloudlet" / "Bootstrap.class").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        ran = subprocess.run([javac, "-d", str(folder), str(source)], capture_output=True, text=True, timeout=120)
        if ran.returncode != 0:
            raise FunctionFailed(f"The Java runtime could not be compiled: {ran.stderr.strip()}")
    return folder
