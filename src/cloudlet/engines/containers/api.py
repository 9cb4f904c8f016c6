"""The seam: what ECS asks of whatever runs its containers. One file beside this for each engine.

A *pod* is what the containers of one task share: a network namespace with an address of its own, a host name, DNS. It
is there before its first container and goes after its last. All names are given by the caller and are found again after
the control plane was killed: whoever calls ``recover`` first gets everything that still runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

# Takes what a container prints, as it comes: (container's name in the engine, "stdout" or "stderr", one line).
LogSink = Callable[[str, str, bytes], None]


class EngineMissing(Exception):
    """This engine cannot work on this machine; the message says what to install or allow."""


class ImageMissing(Exception):
    """The image is neither here nor can it be pulled; ECS says ``CannotPullContainerError`` with this message."""


class CannotStart(Exception):
    """The container could not be started; ECS says ``CannotStartContainerError`` with this message."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine, or a named volume, inside a container."""

    source: str  # an absolute path, or a volume's name
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the pod that this machine answers on; ``host`` 0 lets the engine choose."""

    container: int
    host: int = 0
    protocol: Literal["tcp", "udp"] = "tcp"
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Pod:
    """What the containers of one task share."""

    name: str
    network: Literal["own", "host", "none"] = "own"
    address: str = ""  # wished for; the engine says in ``PodState`` what it became
    hostname: str = ""
    dns: Sequence[str] = ()  # addresses of DNS servers
    search: Sequence[str] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)  # further names -> addresses
    ports: Sequence[Port] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    cpu: float = 0.0  # CPUs that its containers have together at most; 0 is no limit
    memory: int = 0  # bytes that they have together at most; 0 is no limit


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod that is there. ``namespace`` is the path of its network namespace, empty where it has none of its own."""

    name: str
    address: str
    namespace: str
    ports: Sequence[Port]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Container:
    """One container to run in a pod."""

    name: str
    pod: str
    image: str  # a reference, or the absolute path of a folder that is a root file system or an application
    entrypoint: Sequence[str] | None = None  # None: the image's
    command: Sequence[str] | None = None  # None: the image's
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    user: str = ""
    cpu: float = 0.0  # CPUs at most; 0 is no limit
    cpu_shares: int = 0  # of the CPU where containers compete for it, 1024 for one that says nothing; 0 is that
    memory: int = 0  # bytes at most; 0 is no limit
    mounts: Sequence[Mount] = ()
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # soft, hard
    read_only: bool = False
    privileged: bool = False
    capabilities: Sequence[str] = ()  # added to the engine's own
    dropped: Sequence[str] = ()  # capabilities taken away from the engine's own
    tmpfs: Mapping[str, int] = field(default_factory=dict)  # paths in memory -> bytes at most
    shared_memory: int = 0  # bytes of /dev/shm at most; 0 is the engine's own limit
    tty: bool = False
    init: bool = False
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as the engine knows it. ``exit_code`` is None while it runs."""

    name: str
    pod: str
    image: str
    pid: int
    started: float  # epoch seconds, of this machine
    exit_code: int | None = None
    reason: str = ""  # ``OutOfMemoryError: Container killed due to memory usage`` and the like
    image_digest: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used so far."""

    cpu_seconds: float
    memory: int  # bytes now
    memory_peak: int
    received: int = 0  # bytes of its pod's network
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this engine really does on this machine; what it does not is said to the user, never pretended."""

    name: str  # "podman", "docker", "processes"
    version: str
    limits_cpu: bool
    limits_memory: bool
    own_addresses: bool  # each pod has an address that the host and other pods reach
    images: bool  # runs images by reference; else only folders
    # Where pods reach what listens on this machine's 127.0.0.1: its gateway, or 127.0.0.1 itself where they share the
    # machine's network; empty where there is no way. Where it is a gateway, pods reach all of 127.64.0.0/10 as it is.
    host_address: str = ""
    limits_pods: bool = False  # what the containers of a pod have together; else only what each has


class Engine(Protocol):
    """Runs containers. All methods may be called again after a crash: what is there already is no error."""

    async def start(self, logs: LogSink, exited: Callable[[ContainerState], object]) -> Abilities:
        """Make ready. ``exited`` is called on the event loop for each container that ends. Raises EngineMissing."""
        ...

    async def recover(self) -> tuple[list[PodState], list[ContainerState]]:
        """What an earlier run of this cloud has left, running or ended; logs and exits of it are told from here on."""
        ...

    async def create_pod(self, pod: Pod) -> PodState:
        """Make the network of a task; an equal one that is there is returned. Raises CannotStart."""
        ...

    async def remove_pod(self, name: str) -> None:
        """Remove a pod and whatever still runs in it."""
        ...

    async def run(self, container: Container) -> ContainerState:
        """Start a container in its pod; one of that name that runs is returned. Raises ImageMissing, CannotStart."""
        ...

    async def stop(self, name: str, grace: float) -> None:
        """Send the stop signal, kill after ``grace`` seconds, return when it has ended."""
        ...

    async def remove(self, name: str) -> None:
        """Forget a container that has ended."""
        ...

    async def execute(
        self,
        name: str,
        argv: Sequence[str],
        *,
        tty: bool = False,
        environment: Mapping[str, str] | None = None,
        root: bool = False,
    ) -> Execution:
        """Run a command inside a running container: health checks, ECS Exec; ``root`` whatever the container's user."""
        ...

    async def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        """What these containers have used; one that has ended is left out."""
        ...

    async def ensure_image(self, reference: str, credentials: tuple[str, str] | None = None, digest: str = "") -> str:
        """Make an image available, pulling it where it is not here, and return its digest. Raises ImageMissing.

        With ``digest`` the image of that digest is meant, whatever the reference's tag was before: it is run by
        ``references.pinned``, and the tag means it from here on.
        """
        ...

    async def load_image(self, folder: Path, reference: str) -> None:
        """Give an unpacked root file system or application folder an image's name."""
        ...

    async def remove_volume(self, name: str) -> None:
        """Remove a named volume and what is in it. Raises CannotStart while there are containers that mount it."""
        ...

    async def clear(self) -> None:
        """Remove every pod, container, volume and network of this cloud: for ``down`` and ``reset``. No end is told."""
        ...

    async def forget_folders(self) -> None:
        """Remove the images that were made of this cloud's folders, but for those that a container still uses."""
        ...

    async def stop_engine(self) -> None:
        """Put down what this object holds; containers go on."""
        ...


class Execution(Protocol):
    """A command that runs inside a container."""

    async def wait(self) -> int:
        """Its exit status, after it has ended."""
        ...

    def output(self) -> AsyncIterator[bytes]:
        """What it prints, as it comes."""
        ...

    async def send(self, data: bytes) -> None:
        """Give it input; empty bytes end it."""
        ...

    async def resize(self, columns: int, rows: int) -> None:
        """Say how big the terminal of its user is; nothing where it has no terminal."""
        ...

    async def kill(self) -> None:
        """End it."""
        ...
