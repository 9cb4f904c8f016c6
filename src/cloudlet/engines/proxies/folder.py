"""How one Envoy is told what to carry: files in a folder, renamed into place, and its admin interface on a socket.

Make before break: what is named is there before what names it, and goes after it.

A rename is seen by Envoy within a millisecond or two, needs no connection that could break, and is still there when
either side is killed: an Envoy that starts again, or a control plane that does, finds what was published last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from cloudlet.engines.proxies.api import Endpoint
from cloudlet.engines.proxies.files import SINGLE, TOGETHER, Files, source, together
from cloudlet.mesh import Snapshot
from cloudlet.mesh.snapshot import Resource

_WARM_SECONDS = 1.0
ADMIN_SOCKET = "admin.sock"  # by its name alone: that of a socket has no room for long paths


class Folder:
    """The folder of one Envoy, which works in it: all paths that it is given are relative to it, so that a container
    may have it elsewhere."""

    def __init__(self, folder: Path, name: str, bootstrap: Resource | None = None) -> None:
        """``bootstrap`` is merged into Envoy's own."""
        self.name = name
        self._folder = folder
        self._bootstrap = bootstrap or {}
        self._written: dict[str, bytes] = {}
        self._publishing = asyncio.Lock()

    @property
    def admin_socket(self) -> Path:
        """The unix socket of Envoy's admin interface."""
        return self._folder / ADMIN_SOCKET

    @property
    def carries(self) -> bool:
        """Whether it has been told of any listener."""
        return bool(self._carried("listeners"))

    async def publish(self, snapshot: Snapshot | Files) -> None:
        """As ``Proxy.publish``; the files of a snapshot that many Envoys carry are given as such."""
        files = snapshot if isinstance(snapshot, Files) else Files(snapshot)
        async with self._publishing:
            before = await asyncio.to_thread(self._replace, files)
            if before is None:
                return
            carries = self.carries
            await asyncio.to_thread(self._write, files, "secrets", "endpoints")
            await asyncio.to_thread(self._put, "clusters.json", together({**before, **files.clusters}))
            if carries and files.clusters.keys() - before.keys():
                await self._warmed()
            leaving = carries and bool(before.keys() - files.clusters.keys())
            refused = await self._refused() if leaving else 0
            await asyncio.to_thread(self._write, files, "routes", "listeners")
            if leaving:
                await self._taken_up()
                if await self._refused() > refused:
                    return  # it goes on with routes that name what would go now
            await asyncio.to_thread(self._write, files, "clusters")
            await asyncio.to_thread(self._sweep, files)

    def _replace(self, files: Files) -> dict[str, Resource] | None:
        """Write what differs where there are no other clusters than before; else only say which there were."""
        if self._written["clusters.json"] not in files.of_kind["clusters"].values():
            before = self._carried("clusters")
            if before.keys() != files.clusters.keys():
                return before
        self._write(files, "secrets", "endpoints", "clusters", "routes", "listeners")
        self._sweep(files)
        return None

    async def _warmed(self) -> None:
        """Wait, but not for long, until new clusters have had their first health checks: a route to one that has not
        is a route to nowhere."""
        await self._taken_up()
        name = "cluster_manager.warming_clusters"
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(_WARM_SECONDS):
                while True:
                    if not (await self.stats(f"^{name}$")).get(name):
                        return
                    await asyncio.sleep(0.005)

    async def _taken_up(self) -> None:
        """Wait until files that were renamed before have been read: Envoy's main thread does that and answers this,
        and the second question comes after everything that waited beside the first."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            for _ in range(2):
                await self.admin("/ready")

    async def refused(self) -> dict[str, str]:
        await self._taken_up()
        path = "/config_dump?resource=dynamic_listeners&mask=name,error_state.details"
        found = msgspec.json.decode(await self.admin(path)).get("configs", [])
        return {
            one["name"]: one["error_state"].get("details", "") for one in found if {"name", "error_state"} <= one.keys()
        }

    async def _refused(self) -> int:
        """How often it has refused something."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            return sum((await self.stats("update_rejected$")).values())
        return 0

    async def endpoints(self) -> list[Endpoint]:
        document = msgspec.json.decode(await self.admin("/clusters?format=json"))
        return [
            _endpoint(cluster["name"], host)
            for cluster in document.get("cluster_statuses", [])
            for host in cluster.get("host_statuses", [])
            if "socket_address" in host.get("address", {})
        ]

    async def stats(self, prefix: str = "") -> dict[str, Any]:
        path = "/stats?format=json" + (f"&filter={quote(prefix, safe='')}" if prefix else "")
        document = msgspec.json.decode(await self.admin(path))
        found = {stat["name"]: stat["value"] for stat in document["stats"] if "name" in stat}
        for stat in document["stats"]:
            if histograms := stat.get("histograms"):
                quantiles = histograms["supported_quantiles"]
                for one in histograms.get("computed_quantiles", []):
                    found[one["name"]] = {
                        quantile: value.get("interval")
                        for quantile, value in zip(quantiles, one["values"], strict=False)
                    }
        return found

    async def admin(self, path: str, method: str = "GET") -> bytes:
        """The answer of Envoy's admin interface. Raises OSError when Envoy does not run."""
        folder = os.open(self._folder, os.O_PATH)
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{ADMIN_SOCKET}")
        finally:
            os.close(folder)
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if b"transfer-encoding: chunked" not in head.lower():
                return await reader.read()
            body = bytearray()
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            return bytes(body)
        finally:
            writer.close()

    # Files

    def prepare(self) -> None:
        """Make what Envoy needs to start, with what was published last. Blocks."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for kind in SINGLE:
            (self._folder / kind).mkdir(exist_ok=True)
        there = [self._folder / f"{kind}.json" for kind in TOGETHER]
        there += [file for kind in SINGLE for file in (self._folder / kind).glob("*.json")]
        self._written = {str(one.relative_to(self._folder)): one.read_bytes() for one in there if one.is_file()}
        for kind in TOGETHER:
            if f"{kind}.json" not in self._written:
                self._put(f"{kind}.json", together({}))
        self._put("bootstrap.json", msgspec.json.encode(self._own_bootstrap()))

    def _own_bootstrap(self) -> Resource:
        own: Resource = {
            "node": {"id": self.name, "cluster": self.name},
            "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
            "dynamic_resources": {
                "cds_config": source("clusters.json"),
                "lds_config": source("listeners.json"),
            },
        }
        return {**own, **self._bootstrap}

    def _carried(self, kind: str) -> dict[str, Resource]:
        """The resources that are in the file of a kind, perhaps since an earlier run."""
        return {one["name"]: one for one in msgspec.json.decode(self._written[f"{kind}.json"])["resources"]}

    def _write(self, files: Files, *kinds: str) -> None:
        for kind in kinds:
            for name, content in files.of_kind[kind].items():
                self._put(name, content)

    def _sweep(self, files: Files) -> None:
        """Delete the files of what is there no more."""
        for name in {name for name in self._written if "/" in name} - files.names:
            (self._folder / name).unlink(missing_ok=True)
            del self._written[name]

    def _put(self, name: str, content: bytes) -> None:
        """Write a file aside and rename it into place, unless it says so already."""
        if self._written.get(name) != content:
            file = self._folder / name
            aside = file.with_suffix(".new")
            aside.write_bytes(content)
            aside.replace(file)
            self._written[name] = content


def _endpoint(cluster: str, host: Resource) -> Endpoint:
    address = host["address"]["socket_address"]
    health = host.get("health_status", {})
    flags = tuple(sorted(flag for flag, is_set in health.items() if is_set is True))
    stats = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats", [])}
    told = health.get("eds_health_status", "HEALTHY")
    return Endpoint(
        cluster,
        address["address"],
        address["port_value"],
        not flags and told in ("HEALTHY", "UNKNOWN"),
        flags,
        stats.get("rq_total", 0),
        stats.get("rq_error", 0),
        stats.get("rq_active", 0),
        told == "DRAINING",
    )
