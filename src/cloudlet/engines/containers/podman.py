"""Podman where nobody runs its API: we do, on a socket of our own, and with settings that this machine needs."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import zlib
from pathlib import Path

from cloudlet.control.supervisor import CLOUD_VARIABLE, NAME_VARIABLE, Supervisor
from cloudlet.engines.containers.api import EngineMissing

_PAUSE = 0.5  # seconds before it is started anew
_LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes

# The listening socket is handed over as systemd does it (sd_listen_fds(3)): clients may connect at once, and wait for
# nothing. Containers must not inherit the variables by which the supervisor knows its children: so a shell keeps them.
_PODMAN = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" system service --time=0 3<&0 </dev/null'
_SERVE = f'unset {CLOUD_VARIABLE} {NAME_VARIABLE}; /bin/sh -c "$1" "$0"'


class PodmanService:
    """``podman system service`` as a lasting child of ours: killed in the middle of making or removing a container it
    would leave half of that, so it outlives a kill of the control plane, and is taken up again."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self._supervisor = supervisor
        self._folder = folder
        # A cloud may have more than one engine, each with a folder and a service of its own.
        self._name = f"podman api in {folder}"
        self._listener: socket.socket | None = None
        self._stopping = False
        self.socket = folder / "podman.sock"
        self.log = folder / "podman.log"

    def start(self) -> Path:
        """The path of its socket. Raises EngineMissing."""
        program = shutil.which("podman")
        if program is None:
            raise EngineMissing("Podman is not installed here; install it with: apt-get install podman")
        self._folder.mkdir(parents=True, exist_ok=True)
        if len(str(self.socket)) > _LONGEST_SOCKET_PATH:
            self.socket = _own_folder(f"cloudlet-podman-{zlib.crc32(str(self._folder).encode()):x}") / "podman.sock"
        if not (self._supervisor.has_leftover(self._name) and self.socket.exists()):
            self._listen()
            self.log.unlink(missing_ok=True)
        self._run(program)
        return self.socket

    async def stop(self) -> None:
        """End the service and take its socket away."""
        self._stopping = True
        await self._supervisor.stop(self._name)
        if self._listener is not None:
            self._listener.close()
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self._folder:
            self.socket.parent.rmdir()

    def _listen(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self.socket.chmod(0o600)
        self._listener.listen(1024)

    def _run(self, program: str) -> None:
        """Start it, or take up the one that an earlier control plane has started."""
        with self.log.open("ab") as log:
            self._supervisor.start(
                self._name,
                ["/bin/sh", "-c", _SERVE, program, _PODMAN],
                env={**os.environ, **self._settings()},
                cwd=self._folder,  # conmon notes there that a container was out of memory
                lasting=True,
                stdin=self._listener.fileno() if self._listener is not None else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                on_exit=lambda _: self._ended(program),
            )

    def _ended(self, program: str) -> None:
        """Start it anew; who connects meanwhile waits in the socket's queue."""
        if not self._stopping:
            asyncio.get_running_loop().call_later(_PAUSE, self._run_again, program)

    def _run_again(self, program: str) -> None:
        if not self._stopping:
            if self._listener is None:
                self._listen()
            self._run(program)

    def _settings(self) -> dict[str, str]:
        """The environment that names our own ``containers.conf``, where this machine needs one."""
        text = settings()
        if not text or "CONTAINERS_CONF" in os.environ:
            return {}
        file = self._folder / "containers.conf"
        file.write_text(text)
        return {"CONTAINERS_CONF": str(file)}


def _own_folder(name: str) -> Path:
    """A folder with a short path that nobody else may use. Raises EngineMissing."""
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
        raise EngineMissing(f"{folder} is somebody else's")
    return folder


def settings() -> str:
    """What Podman has to be told about this machine in its ``containers.conf``; empty when it knows by itself."""
    containers, engine = [], []
    if limits := ", ".join(f'"{name}={most}:{most}"' for name, most in highest_limits().items()):
        containers.append(f"default_ulimits = [{limits}]")
    if shutil.which("crun") is None and shutil.which("runc") is not None:
        engine.append('runtime = "runc"')
    if not Path("/run/systemd/system").is_dir():
        engine += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
    return "".join(
        f"[{table}]\n" + "\n".join(lines) + "\n"
        for table, lines in (("containers", containers), ("engine", engine))
        if lines
    )


def highest_limits() -> dict[str, int]:
    """The limits that containers may have at most, where this machine has such: more could not start."""
    # Podman lowers its own number of processes to what there are ids for.
    ids = int(Path("/proc/sys/kernel/pid_max").read_text())
    known = (("nofile", resource.RLIMIT_NOFILE, 1_048_576), ("nproc", resource.RLIMIT_NPROC, ids))
    hard = {name: (resource.getrlimit(kind)[1], most) for name, kind, most in known}
    return {name: min(limit, most) for name, (limit, most) in hard.items() if limit != resource.RLIM_INFINITY}
