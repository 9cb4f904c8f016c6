"""How one Envoy is told what to carry: files in a folder, renamed into place, and its admin interface on a socket.

Make before break: what is named is there before what names it, and goes after it.

A rename is seen by Envoy within a millisecond or two, needs no connection that could break, and is still there when
either side is killed: an Envoy that starts again, or a control plane that does, finds what was published last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from cloudlet.engines.proxies.api import Endpoint
from cloudlet.mesh import Snapshot
from cloudlet.mesh.snapshot import Resource

_TYPE = "type.googleapis.com/envoy.{}"
_KINDS = {
    "clusters": _TYPE.format("config.cluster.v3.Cluster"),
    "listeners": _TYPE.format("config.listener.v3.Listener"),
}
_SINGLE = {
    "secrets": _TYPE.format("extensions.transport_sockets.tls.v3.Secret"),
    "endpoints": _TYPE.format("config.endpoint.v3.ClusterLoadAssignment"),
    "routes": _TYPE.format("config.route.v3.RouteConfiguration"),
}
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
        self._written: dict[Path, bytes] = {}
        self._publishing = asyncio.Lock()

    @property
    def admin_socket(self) -> Path:
        """The unix socket of Envoy's admin interface."""
        return self._folder / ADMIN_SOCKET

    async def publish(self, snapshot: Snapshot) -> None:
        snapshot.check()
        async with self._publishing:
            wanted = self._complete("clusters", snapshot.clusters)
            before = await asyncio.to_thread(self._carried, "clusters")
            if wanted.keys() == before.keys():
                await asyncio.to_thread(self._replace, snapshot)
                return
            carries = bool(await asyncio.to_thread(self._carried, "listeners"))
            await asyncio.to_thread(self._write, snapshot, ("secrets", "endpoints"))
            await asyncio.to_thread(self._put_kind, "clusters", {**before, **wanted})
            if carries and wanted.keys() - before.keys():
                await self._warmed()
            await asyncio.to_thread(self._write, snapshot, ("routes", "listeners"))
            if before.keys() - wanted.keys():
                if carries:
                    await self._taken_up()
                await asyncio.to_thread(self._put_kind, "clusters", wanted)
            await asyncio.to_thread(self._sweep, snapshot)

    def _replace(self, snapshot: Snapshot) -> None:
        """Write what differs where there are no other clusters than before."""
        self._write(snapshot, ("secrets", "endpoints", "clusters", "routes", "listeners"))
        self._sweep(snapshot)

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
        for kind in _SINGLE:
            (self._folder / kind).mkdir(exist_ok=True)
        for kind in _KINDS:
            if not (self._folder / f"{kind}.json").exists():
                self._put(self._folder / f"{kind}.json", [])
        self._put_bytes(self._folder / "bootstrap.json", msgspec.json.encode(self._own_bootstrap()))

    def _own_bootstrap(self) -> Resource:
        own: Resource = {
            "node": {"id": self.name, "cluster": self.name},
            "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
            "dynamic_resources": {
                "cds_config": self._source("clusters.json"),
                "lds_config": self._source("listeners.json"),
            },
        }
        return {**own, **self._bootstrap}

    def _source(self, file: str) -> Resource:
        return {"path_config_source": {"path": f"./{file}"}, "resource_api_version": "V3"}

    def _write(self, snapshot: Snapshot, kinds: Sequence[str]) -> None:
        for kind in kinds:
            resources: dict[str, Resource] = getattr(snapshot, kind)
            if kind in _KINDS:
                self._put_kind(kind, self._complete(kind, resources))
            else:
                for name, resource in resources.items():
                    self._put(self._file(kind, name), [{"@type": _SINGLE[kind], **resource}])

    def _sweep(self, snapshot: Snapshot) -> None:
        """Delete the files of what is there no more."""
        wanted = {self._file(kind, name) for kind in _SINGLE for name in getattr(snapshot, kind)}
        for kind in _SINGLE:
            for file in (self._folder / kind).glob("*.json"):
                if file not in wanted:
                    file.unlink()
                    self._written.pop(file, None)

    def _complete(self, kind: str, resources: Mapping[str, Resource]) -> dict[str, Resource]:
        """Resources as they are written into the file of their kind."""
        return {name: {"@type": _KINDS[kind], **self._with_sources(one)} for name, one in resources.items()}

    def _carried(self, kind: str) -> dict[str, Resource]:
        """The resources that are in the file of a kind, perhaps since an earlier run."""
        file = self._folder / f"{kind}.json"
        if not file.is_file():
            return {}
        return {
            one["name"]: one for one in msgspec.json.decode(self._written.get(file) or file.read_bytes())["resources"]
        }

    def _put_kind(self, kind: str, resources: Mapping[str, Resource]) -> None:
        self._put(self._folder / f"{kind}.json", [resources[name] for name in sorted(resources)])

    def _with_sources(self, resource: Any) -> Any:
        """A resource in which every name of another is followed by the file that it is in."""
        if isinstance(resource, list):
            return [self._with_sources(part) for part in resource]
        if not isinstance(resource, dict):
            return resource
        made = {key: self._with_sources(part) for key, part in resource.items()}
        if "route_config_name" in made:
            made["config_source"] = self._source_of("routes", made["route_config_name"])
        if made.get("type") == "EDS":
            name = made.get("eds_cluster_config", {}).get("service_name") or made["name"]
            made["eds_cluster_config"] = {"service_name": name, "eds_config": self._source_of("endpoints", name)}
        if "sds_config" in made:
            made["sds_config"] = self._source_of("secrets", made["name"])
        return made

    def _source_of(self, kind: str, name: str) -> Resource:
        return self._source(str(self._file(kind, name).relative_to(self._folder)))

    def _file(self, kind: str, name: str) -> Path:
        return self._folder / kind / f"{re.sub('[^A-Za-z0-9_.-]', '~', name)}.json"

    def _put(self, file: Path, resources: list[Resource]) -> None:
        self._put_bytes(file, msgspec.json.encode({"resources": resources}))

    def _put_bytes(self, file: Path, content: bytes) -> None:
        """Write a file aside and rename it into place, unless it says so already."""
        if file not in self._written and file.is_file():
            self._written[file] = file.read_bytes()
        if self._written.get(file) != content:
            aside = file.with_suffix(".new")
            aside.write_bytes(content)
            aside.replace(file)
            self._written[file] = content


def _endpoint(cluster: str, host: Resource) -> Endpoint:
    address = host["address"]["socket_address"]
    health = host.get("health_status", {})
    flags = tuple(sorted(flag for flag, is_set in health.items() if is_set is True))
    stats = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats", [])}
    return Endpoint(
        cluster,
        address["address"],
        address["port_value"],
        not flags and health.get("eds_health_status", "HEALTHY") in ("HEALTHY", "UNKNOWN"),
        flags,
        stats.get("rq_total", 0),
        stats.get("rq_error", 0),
        stats.get("rq_active", 0),
    )
