"""The pods of the engine without an engine: network namespaces of our own, behind a bridge of our own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import os
import shutil
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from cloudlet.control.supervisor import Supervisor
from cloudlet.engines.containers.api import CannotStart, Pod, PodState, Port
from cloudlet.engines.containers.network import Bridge, Forward, HostReach, NetworkError, Shared, command, free_subnet

_NETNS = "/run/netns"


class Pods:
    """What is kept of pods: a folder for each; a namespace where we are root, else this machine's network."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        """``folder`` is for what must outlive us."""
        self._supervisor = supervisor
        self._folder = folder.absolute()
        self._name = f"cloudlet-{supervisor.cloud_id[:8]}"
        self._pods: dict[str, tuple[Pod, PodState]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._network_lock = asyncio.Lock()
        self._bridge: Bridge | None = None
        self._shared = Shared(self._open_network, self._close_network)
        self._youngest = 1  # the number of the address that was given last

    async def create_pod(self, pod: Pod) -> PodState:
        async with self._lock(pod.name):
            if pod.name in self._pods:
                return self._pods[pod.name][1]
            namespace = ""
            own = self._bridge is not None and pod.network != "host"
            async with self._network_lock:
                address = self._free_address(pod.address) if own and pod.network == "own" else "127.0.0.1"
                ports = [_bound(port, own) for port in pod.ports]
                if own:
                    assert self._bridge is not None
                    title = self._title(pod.name)
                    connected = address if pod.network == "own" else ""
                    await self._bridge.remove(title)
                    try:
                        if connected:
                            await self._shared.take(pod.name)
                        await self._bridge.add(title, _device(self._supervisor.cloud_id, pod.name), connected)
                    except NetworkError as error:
                        await self._shared.leave(pod.name)
                        raise CannotStart(str(error)) from None
                    namespace = f"{_NETNS}/{title}"
                state = PodState(pod.name, address, namespace, ports, dict(pod.labels))
                self._pods[pod.name] = (pod, state)
            try:
                await asyncio.to_thread(self._write_pod, pod, state)
                if own and pod.network == "own":
                    # As engines have it: any user of a container may listen on any port of its pod.
                    ports_for_all = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start"
                    await command("nsenter", f"--net={namespace}", "sh", "-c", ports_for_all)
                    await self._reach.join(namespace)
                    if ports:
                        await self._set_rules()
            except (OSError, NetworkError) as error:
                await self._forget_pod(pod.name)
                raise CannotStart(str(error)) from None
            return state

    async def _forget_pod(self, name: str) -> None:
        known = self._pods.pop(name, None)
        if self._bridge is not None:
            await self._bridge.remove(self._title(name))
            if known is not None and known[1].ports:
                await self._set_rules()
            await self._shared.leave(name)
        await asyncio.to_thread(shutil.rmtree, self._folder / "pods" / name, ignore_errors=True)

    def _write_pod(self, pod: Pod, state: PodState) -> None:
        folder = self._folder / "pods" / pod.name
        etc = folder / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        if state.namespace or pod.hosts:
            hosts = {"localhost": "127.0.0.1"}
            if state.namespace and pod.network == "own":
                hosts[pod.hostname or pod.name] = state.address
            lines = [f"{address}\t{name}\n" for name, address in {**hosts, **pod.hosts}.items()]
            (etc / "hosts").write_text("".join(lines))
        resolvers = [f"nameserver {address}\n" for address in pod.dns]
        if pod.search:
            resolvers.insert(0, f"search {' '.join(pod.search)}\n")
        with contextlib.suppress(OSError):
            (etc / "resolv.conf").write_text("".join(resolvers) or Path("/etc/resolv.conf").read_text())
        (etc / "hostname").write_text(f"{pod.hostname or pod.name}\n")
        put(folder / "pod.json", {"pod": asdict(pod), "state": asdict(state)})

    def _read_pod(self, name: str) -> tuple[Pod, PodState]:
        written = json.loads((self._folder / "pods" / name / "pod.json").read_text())
        return msgspec.convert(written["pod"], Pod), msgspec.convert(written["state"], PodState)

    # The network

    def _choose_network(self) -> None:
        """The bridge that our pods are behind, once there are any. Raises NetworkError."""
        file = self._folder / "network.json"
        known = json.loads(file.read_text())["subnet"] if file.is_file() else ""
        subnet = ipaddress.IPv4Network(known) if known else free_subnet(self._supervisor.cloud_id)
        put(file, {"subnet": str(subnet)})
        self._bridge = Bridge(f"cl{self._supervisor.cloud_id[:8]}", subnet)
        self._reach = HostReach(self._name, self._bridge.name, self._bridge.gateway)

    async def _open_network(self) -> None:
        assert self._bridge is not None
        await self._bridge.open()
        await self._set_rules()

    async def _close_network(self) -> None:
        assert self._bridge is not None
        await self._reach.close()
        await self._bridge.close()

    async def _set_rules(self) -> None:
        assert self._bridge is not None
        forwards = [
            Forward(port.address, port.host, port.protocol, state.address, port.container)
            for pod, state in self._pods.values()
            for port in state.ports
            if pod.network == "own"
        ]
        await self._reach.open(str(self._bridge.subnet), forwards)

    def _free_address(self, wished: str) -> str:
        assert self._bridge is not None
        taken = {state.address for _, state in self._pods.values()}
        if wished:
            if wished in taken:
                raise CannotStart(f"The address {wished} is in use.")
            return wished
        # The first is the gateway's. The one after the youngest, so that an old one is not soon another's.
        size = self._bridge.subnet.num_addresses - 3
        for step in range(size):
            number = 2 + (self._youngest - 1 + step) % size
            address = str(self._bridge.subnet[number])
            if address not in taken:
                self._youngest = number
                return address
        raise CannotStart("All addresses of this cloud's network are in use.")

    async def _recover_pods(self) -> list[PodState]:
        pods = []
        for name in await asyncio.to_thread(self._names, "pods"):
            pod, state = self._read_pod(name)
            if state.namespace and not os.path.exists(state.namespace):
                # This machine was started anew.
                await self._forget_pod(name)
                continue
            self._pods[name] = (pod, state)
            pods.append(state)
        for pod, state in self._pods.values():
            if state.namespace and pod.network == "own":
                await self._shared.take(pod.name)
        await self._forget_namespaces()
        return pods

    async def _forget_namespaces(self) -> None:
        """Remove the namespaces of this cloud whose making was broken off, so that nobody knows of them."""
        if self._bridge is not None:
            ours = {os.path.basename(state.namespace) for _, state in self._pods.values()}
            for name in await asyncio.to_thread(_namespaces, f"{self._name}-"):
                if name not in ours:
                    await self._bridge.remove(name)

    def _title(self, pod: str) -> str:
        return f"{self._name}-{pod}"

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _names(self, part: str) -> list[str]:
        return sorted(os.listdir(self._folder / part))


def _namespaces(start: str) -> list[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(_NETNS) if name.startswith(start)]
    return []


def _device(cloud: str, pod: str) -> str:
    """A name for the outer end of a pod's connection: the kernel takes 15 letters."""
    return f"v{cloud[:8]}{hashlib.sha256(pod.encode()).hexdigest()[:6]}"


def _bound(port: Port, own: bool) -> Port:
    """A port with the number that this machine answers on. Raises CannotStart when that is in use."""
    if not own:
        return replace(port, host=port.container)
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((port.address, port.host))
        except OSError as error:
            raise CannotStart(f"{port.address}:{port.host}: {error.strerror}") from None
        return replace(port, host=probe.getsockname()[1])


def put(file: Path, document: dict[str, Any]) -> None:
    """Write a document aside and rename it into place."""
    aside = file.with_suffix(".new")
    aside.write_text(json.dumps(document))
    aside.replace(file)
