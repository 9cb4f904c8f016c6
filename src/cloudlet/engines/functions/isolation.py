"""What a function's process may see: by bubblewrap its code, its layers, a runtime, and nothing else of the machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cloudlet.engines.functions.api import Function
from cloudlet.engines.functions.runtimes import Start

# Of /etc only what programs need to resolve names, to trust certificates and to find their libraries.
_ETC = (
    *("alternatives", "ca-certificates", "crypto-policies", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "localtime", "nsswitch.conf", "passwd", "pki", "ssl"),
    *("java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "java-25-openjdk"),
)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")


@cache
def bubblewrap() -> str | None:
    """The program, if there is one and it may make sandboxes here."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    tried = subprocess.run(
        [program, "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--dev", "/dev", "true"],
        capture_output=True,
        timeout=10,
    )
    return program if tried.returncode == 0 else None


@cache
def _has_sizes(program: str) -> bool:
    """Whether this bubblewrap can limit a file system in memory."""
    return b"--size" in subprocess.run([program, "--help"], capture_output=True, timeout=10).stdout


def resolv_conf(file: Path) -> Path:
    """The file that sandboxes have as /etc/resolv.conf: this machine's, until a DNS server of ours writes itself in."""
    if not file.exists():
        own = Path("/etc/resolv.conf")
        file.write_bytes(own.read_bytes() if own.is_file() else b"")
    return file


def wrap(
    program: str, argv: Sequence[str], function: Function, opt: Path | None, start: Start, resolv_conf: Path
) -> list[str]:
    """The command that runs ``argv`` in a sandbox with its code at /var/task and its layers at /opt."""
    command = [program, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    for folder in _SYSTEM:
        command += ["--ro-bind-try", folder, folder]
    for name in _ETC:
        command += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    command += ["--ro-bind", str(resolv_conf), "/etc/resolv.conf"]
    command += ["--proc", "/proc", "--dev", "/dev", *_tmp(program, function.storage)]
    for path in dict.fromkeys(str(need) for need in start.needs):
        if path != "/usr" and not path.startswith(("/usr/", "/bin/", "/lib/")):
            command += ["--ro-bind", path, path]
    command += ["--ro-bind", str(function.code), "/var/task"]
    command += ["--ro-bind", str(opt), "/opt"] if opt is not None else ["--dir", "/opt"]
    for path, target in start.links:
        command += ["--symlink", target, path]
    return [*command, "--chdir", "/var/task", *argv]


def _tmp(program: str, megabytes: int) -> list[str]:
    size = ["--size", str(megabytes << 20)] if _has_sizes(program) else []
    return [*size, "--tmpfs", "/tmp"]
