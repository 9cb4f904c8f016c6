"""The ports of 127.0.0.1: a cloud's load balancers share them, and other programs, or other clouds, may have them.

Envoy tries to listen at a listener's own port there. Where it cannot, all listeners of that port have another, which
stays theirs until the cloud starts again and finds their own to be free.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from cloudlet.mesh import Snapshot
from cloudlet.services.elbv2.records import Listener
from cloudlet.store import Database, Resources, Tx

log = logging.getLogger("cloudlet.elbv2")

ADDRESS = "127.0.0.1"
_START = "shared/"


def name_of(port: int) -> str:
    """What Envoy calls the listener that those of a port share."""
    return f"{_START}{port}"


def place_of(port: int, sharing: Iterable[Listener]) -> int:
    """The port of 127.0.0.1 for those who listen on ``port``."""
    return next((one.shared for one in sharing if one.port == port and one.shared), port)


def fresh(now: Snapshot, before: Snapshot | None) -> dict[str, int]:
    """The shared listeners, by name, that were not at their ports before."""
    there = _places(before) if before is not None else {}
    return dict(_places(now).items() - there.items())


def _places(snapshot: Snapshot) -> dict[str, int]:
    addresses = {name: one["address"]["socket_address"] for name, one in snapshot.listeners.items()}
    return {name: int(one["port_value"]) for name, one in addresses.items() if name.startswith(_START)}


def taken(wanted: Mapping[str, int]) -> dict[str, str]:
    """Those for datagrams whose ports others have: Envoy, whose workers share such ports, would share them too."""
    kind = socket.SOCK_DGRAM
    return {
        name: "Address already in use"
        for name, port in wanted.items()
        if name.endswith("/udp") and free_port(ADDRESS, port, kind) != port
    }


def free_port(address: str, port: int = 0, kind: int = socket.SOCK_STREAM) -> int:
    """The port if it can be bound at the address, a free one if it cannot, 0 where the address is not ours."""
    for wanted in (port, 0):
        with socket.socket(type=kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return 0


class SharedPorts:
    """Which port of 127.0.0.1 stands for which."""

    def __init__(self, db: Database, listeners: Resources[Listener]) -> None:
        self._db = db
        self._listeners = listeners

    def of(self, port: int) -> int:
        """The port of 127.0.0.1 for those who listen on ``port``."""
        return place_of(port, (record.value for record in self._listeners.all()))

    async def go_home(self) -> None:
        """Give listeners that had to move their own ports back where these are free by now."""
        moved = {record.value.port for record in self._listeners.all() if record.value.shared}
        await self._put({port: 0 for port in moved if free_port(ADDRESS, port) == port})

    async def move(self, refused: Mapping[str, str]) -> bool:
        """Find other ports for shared listeners that Envoy could not have: by their names, each with why. Whether
        there were any."""
        wanted: dict[int, int] = {}
        for name, why in refused.items():
            if name.startswith(_START):
                port, _, kind = name.removeprefix(_START).partition("/")
                place = self.of(int(port))
                free = free_port(ADDRESS, place, socket.SOCK_DGRAM if kind else socket.SOCK_STREAM)
                if free == place:
                    log.warning("port %s of %s is not carried: %s", place, ADDRESS, why)
                else:
                    log.info("port %s of %s belongs to another program; port %s stands for it", place, ADDRESS, free)
                    wanted[int(port)] = free
        await self._put(wanted)
        return bool(wanted)

    async def _put(self, wanted: Mapping[int, int]) -> None:
        if not wanted:
            return

        def put(tx: Tx) -> None:
            for record in self._listeners.all():
                now = self._listeners.get(record.scope, record.name, tx)
                if now is not None and now.value.port in wanted:
                    one = replace(now.value, shared=wanted[now.value.port])
                    self._listeners.put(tx, record.scope, record.name, one)

        await self._db.write(put)
