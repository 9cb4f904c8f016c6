"""One Envoy beside a task: what is stored of it, and how it is run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cloudlet.engines.proxies.apart import UID, owned, within
from cloudlet.services.appmesh.environment import Environment, with_files
from cloudlet.services.appmesh.records import VIRTUAL_GATEWAY
from cloudlet.services.appmesh.redirect import Redirect
from cloudlet.services.appmesh.world import Proxy

if TYPE_CHECKING:
    from cloudlet.control.supervisor import Supervisor
    from cloudlet.engines.proxies.envoy import Envoy
    from cloudlet.engines.proxies.inside import EnvoyInside


LINES, LOG = "lines", "log"  # files of its folder: what Envoy writes to /dev/stdout, and its own log


class Sidecar(msgspec.Struct, frozen=True):
    """An Envoy that shall run, named by its task. ``namespace`` is the path of the task's network namespace."""

    environment: Environment
    namespace: str
    redirect: Redirect | None = None  # none for a gateway
    uid: int = UID  # whom Envoy runs as
    dns: tuple[str, int] | None = None
    files: dict[str, str] = {}
    container: str = ""  # whose lines its own are, in the task's log
    inside: bool = False  # it is started by that container, whose image is the user's own

    @property
    def resource(self) -> str:
        """``mesh/<mesh>/virtualNode/<node>``, or virtualGateway."""
        return self.environment.resource

    @property
    def mesh(self) -> str:
        """The name of its mesh."""
        return self.resource.split("/")[1]

    @property
    def is_gateway(self) -> bool:
        """Whether it is a gateway's, not a node's."""
        return self.resource.split("/")[2] == VIRTUAL_GATEWAY.name

    @property
    def name(self) -> str:
        """The name of its node or gateway."""
        return self.resource.split("/")[3]

    @property
    def proxy(self) -> Proxy:
        """How its Envoy is joined to the task. Paths are of its folder, so that equal Envoys carry the same."""
        ports = self.redirect or Redirect()
        return Proxy(
            *(ports.ingress_port, ports.egress_port, self.dns),
            stdout="" if self.inside else LINES,
            admin_port=self.environment.admin_port if self.namespace else 0,
            admin_log=self.environment.admin_log,
            ipv6=os.path.exists("/proc/net/if_inet6"),
            sds=self.environment.sds,
            admin_ipv6=self.environment.admin_ipv6,
            tracer=self.environment.tracer,
            files={} if self.inside else self.files,
        )

    @property
    def dimensions(self) -> tuple[tuple[str, str], ...]:
        """Its metrics' dimensions."""
        return ("Mesh", self.mesh), ("VirtualGateway" if self.is_gateway else "VirtualNode", self.name)


class Running:
    """One Envoy, and which state of its mesh it carries."""

    def __init__(self, sidecar: Sidecar, envoy: Envoy | EnvoyInside) -> None:
        self.sidecar = sidecar
        self.envoy = envoy
        self.carries = 0
        self.complaint = ""  # why it does not carry what it should, as it was said last
        self.counted: dict[str, float] = {}
        self.followed: list[Callable[[], None]] = []

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.envoy.admin_socket.parent

    def unfollow(self) -> None:
        """Take the last lines of its logs."""
        for end in self.followed:
            end()
        self.followed.clear()


async def envoy_of(
    sidecar: Sidecar, folder: Path, name: str, supervisor: Supervisor, on_end: Callable[[], None]
) -> Envoy | EnvoyInside:
    """The Envoy of a sidecar, not yet started, with a folder that it may write into."""
    from cloudlet.engines.proxies.envoy import Envoy
    from cloudlet.engines.proxies.inside import EnvoyInside
    from cloudlet.services.appmesh.gateway import BOOTSTRAP

    environment = sidecar.environment
    bootstrap = {**environment.bootstrap(sidecar.proxy), **(BOOTSTRAP if sidecar.is_gateway else {})}
    await asyncio.to_thread(owned, folder, sidecar.uid, (LINES, LOG))
    for link, path in environment.sockets.items() if not sidecar.inside else ():
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(sidecar.proxy.file(path))
    level = environment.log_level if sidecar.container else "warning"
    # Its log is followed: what it refuses is said there and nowhere else.
    arguments = ["--file-flush-interval-msec", "1000"]
    if level in ("error", "critical", "off"):
        arguments += ["--component-log-level", "config:warning"]
    if sidecar.inside:
        return EnvoyInside(
            *(folder, f"appmesh-{name}", bootstrap),
            concurrency=environment.concurrency,
            log_level=level,
            arguments=arguments,
            merged=list(environment.files.values()),
        )
    bootstrap = with_files(bootstrap, await asyncio.to_thread(_texts, sidecar))
    return Envoy(
        *(supervisor, folder, f"appmesh-{name}"),
        concurrency=environment.concurrency,
        prefix=within(sidecar.namespace, sidecar.uid),
        bootstrap=bootstrap,
        log_level=level,
        on_end=on_end,
        arguments=arguments,
    )


def _texts(sidecar: Sidecar) -> dict[str, str]:
    """The files that variables name. Raises ValueError where one cannot be read. Blocks."""
    texts = {}
    for variable, path in sidecar.environment.files.items():
        file = Path(sidecar.proxy.file(path))
        if not file.is_file():
            raise ValueError(f"{variable}: the file {path} is not there; give it to the Envoy container with a volume")
        texts[variable] = file.read_text()
    return texts
