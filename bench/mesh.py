"""``python -m bench.mesh``: calls through two sidecars of App Mesh, beside the same Envoys configured by hand.

Needs root: callers and servers are in network namespaces of their own, and their traffic is redirected as in a task.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

from bench import load
from cloudlet.cloud import Cloud, compose
from cloudlet.config import Config
from cloudlet.engines.proxies.envoy import Envoy
from cloudlet.mesh import Snapshot
from cloudlet.mesh.clusters import assignment, endpoint
from cloudlet.services.appmesh import redirect
from cloudlet.services.appmesh.environment import Environment
from cloudlet.services.appmesh.redirect import Redirect

T = TypeVar("T")

SCOPE = "000000000000/us-east-1"
# Several may run at once, and one that was killed leaves its network behind.
NET = f"10.233.{os.getpid() % 256}"
PREFIX = f"cm{os.getpid() % 100_000}"
REQUEST = b"GET / HTTP/1.1\r\nhost: blue.bench.local:8080\r\n\r\n"
HTTP = "type.googleapis.com/envoy.extensions.filters"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.mesh", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each cell is measured")
    parser.add_argument("--rounds", type=int, default=5, help="how often; the fastest is shown")
    parser.add_argument("--sidecars", type=int, default=60, help="how many there are when the crowd is measured")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench.mesh makes network namespaces, which needs root")
    folder = Path(tempfile.mkdtemp(prefix="cloudlet-bench-mesh-"))
    try:
        asyncio.run(measure(folder, arguments.seconds, arguments.rounds, arguments.sidecars))
    finally:
        for namespace in (folder / "namespaces").read_text().split():
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        subprocess.run(["ip", "link", "del", PREFIX], check=False)
        shutil.rmtree(folder)


async def measure(folder: Path, seconds: float, rounds: int, sidecars: int) -> None:
    """All of it, one after the other."""
    (folder / "namespaces").write_text("")
    ip("link", "add", PREFIX, "type", "bridge")
    ip("addr", "add", f"{NET}.1/24", "dev", PREFIX)
    ip("link", "set", PREFIX, "up")
    front, blue = add(folder, "front", 10), add(folder, "blue", 11)
    cloud = compose(Config(port=0, data_dir=folder / "data"))
    await cloud.start()
    try:
        server = Envoy(cloud.supervisor, folder / "server", "server", prefix=("nsenter", f"--net={blue}"))
        await server.start()
        await server.publish(answering(8080))
        await asyncio.sleep(0.5)
        await rates(cloud, folder, front, blue, seconds, rounds)
        await reachable(cloud, front, blue)
        await changes(cloud, front)
        await idle(cloud, folder)
        await crowd(cloud, folder, sidecars)
    finally:
        await cloud.stop()


async def rates(cloud: Cloud, folder: Path, front: str, blue: str, seconds: float, rounds: int) -> None:
    """Requests per second: direct, through Envoys configured by hand, through App Mesh; in turns."""
    print(f"{'':26}{'conns':>6}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}{'of by hand':>12}")
    await desired(cloud)
    for connections in (1, 16):
        found: dict[str, list[load.Result]] = {"direct": [], "by hand": [], "App Mesh": []}
        for _ in range(rounds):
            found["direct"].append(await inside(front, partial(run, f"{NET}.11", connections, seconds)))
            stop = await by_hand(cloud, folder, front, blue)
            found["by hand"].append(await inside(front, partial(run, f"{NET}.99", connections, seconds)))
            await stop()
            await join(cloud, front, blue)
            found["App Mesh"].append(await inside(front, partial(run, f"{NET}.99", connections, seconds)))
            await leave(cloud)
        for name, results in found.items():
            one = best(results)
            # Of each round by itself, since the machine may be busier in another.
            ratios = sorted(mine.rate / hand.rate for mine, hand in zip(results, found["by hand"], strict=True))
            ratio = f"{ratios[len(ratios) // 2]:.3f}"
            print(
                f"{name:26}{connections:>6}{one.rate:>12.0f}{one.p50 * 1e3:>9.3f}{one.p99 * 1e3:>9.3f}{ratio:>12}"
                + (f"  {one.errors} errors: {one.first_error}" if one.errors else ""),
                flush=True,
            )


async def reachable(cloud: Cloud, front: str, blue: str) -> None:
    """How long it takes from nothing until a call passes both sidecars."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        await asyncio.gather(sidecar(cloud, "front", front, ()), sidecar(cloud, "blue", blue, (8080,)))
        await inside(front, partial(ready, f"{NET}.99"))
        taken.append(time.perf_counter() - started)
        await leave(cloud)
    print(f"a call passes two new sidecars after {sorted(taken)[2]:.3f} s (longest {max(taken):.3f} s)")


async def changes(cloud: Cloud, front: str) -> None:
    """How long it takes until a change of a route, and of 500 endpoints, is what Envoy does."""
    await join(cloud, front, "")
    appmesh = await cloud.service("appmesh")
    envoy = appmesh.running[SCOPE, "front"].envoy
    taken = []
    for number in range(21):
        wanted = f"/bench-{number}/"
        started = time.perf_counter()
        await route(cloud, "Update", wanted)
        await seen(lambda wanted=wanted: carries(envoy, wanted))
        taken.append(time.perf_counter() - started)
    print(f"a change of a route is carried after {sorted(taken)[10] * 1e3:.1f} ms (longest {max(taken) * 1e3:.1f} ms)")
    await route(cloud, "Update", "/")

    (service,) = (await aws(cloud, "ListServices", service="servicediscovery"))["Services"]

    async def register(number: int) -> None:
        address = f"10.9.{number // 250}.{number % 250 + 1}"
        input = {"ServiceId": service["Id"], "InstanceId": address, "Attributes": {"AWS_INSTANCE_IPV4": address}}
        await aws(cloud, "RegisterInstance", service="servicediscovery", **input)

    started = time.perf_counter()
    await asyncio.gather(*(register(number) for number in range(500)))
    registered = time.perf_counter() - started
    await seen(lambda: knows(envoy, 500))
    carried = time.perf_counter() - started
    print(f"500 endpoints: registered after {registered:.3f} s, carried after {carried:.3f} s")
    await leave(cloud)


async def carries(envoy: Envoy, prefix: str) -> bool:
    """Whether Envoy has taken a route with this prefix."""
    return prefix.encode() in await envoy.admin("/config_dump?resource=dynamic_route_configs")


async def knows(envoy: Envoy, count: int) -> bool:
    """Whether Envoy has so many of the endpoints that are made here."""
    return len([one for one in await envoy.endpoints() if one.address.startswith("10.9.")]) == count


async def seen(check: Callable[[], Awaitable[bool]]) -> None:
    """Return once it is so."""
    while True:
        if await check():
            return
        await asyncio.sleep(0.001)


async def idle(cloud: Cloud, folder: Path) -> None:
    """What ten sidecars hold that carry nothing."""
    await join_idle(cloud, folder, range(10))
    await asyncio.sleep(2)
    processes = idle_processes(cloud)
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    await asyncio.sleep(5)
    used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
    shared = memory(processes)
    print(f"{len(processes)} idle sidecars: {shared:.0f} MB (each {shared / len(processes):.1f}), CPU {used / 5:.1%}")


async def crowd(cloud: Cloud, folder: Path, count: int) -> None:
    """Many sidecars at once, which all hear of a change."""
    started = time.perf_counter()
    await join_idle(cloud, folder, range(10, count))
    joined = (time.perf_counter() - started) / (count - 10)
    appmesh = await cloud.service("appmesh")
    envoys = [running.envoy for (_, name), running in appmesh.running.items() if name.startswith("idle")]
    taken = []
    for number in range(5):
        started = time.time()
        await route(cloud, "Update", f"/crowd-{number}/")
        # Each Envoy says afterwards when it took the route up: to ask them meanwhile would be work for all.
        await asyncio.sleep(1)
        taken.append(max([await taken_up(envoy) for envoy in envoys]) - started)
    shared = memory(idle_processes(cloud))
    print(
        f"{len(envoys)} sidecars: {joined:.2f} s to join each, {shared:.0f} MB, "
        f"a change is carried by all after {sorted(taken)[2] * 1e3:.0f} ms (longest {max(taken) * 1e3:.0f} ms)"
    )


async def taken_up(envoy: Envoy) -> float:
    """When Envoy last took a route up, as seconds since the epoch."""
    (milliseconds,) = (await envoy.stats("rds_egress_http_8080.update_time$")).values()
    return milliseconds / 1000


async def join_idle(cloud: Cloud, folder: Path, numbers: range) -> None:
    """Sidecars in namespaces of their own."""
    appmesh = await cloud.service("appmesh")
    for number in numbers:
        namespace = add(folder, f"idle{number}", 20 + number)
        await appmesh.join(SCOPE, f"idle{number}", Environment("mesh/bench/virtualNode/front"), namespace, Redirect())


def idle_processes(cloud: Cloud) -> list[psutil.Process]:
    return [psutil.Process(one.pid) for one in cloud.supervisor.children if one.name.startswith("appmesh-idle")]


def memory(processes: list[psutil.Process]) -> float:
    """Megabytes that processes hold, with their part of what they share."""
    return sum(one.memory_full_info().pss for one in processes) / 1e6


# The mesh


async def aws(cloud: Cloud, operation: str, *, service: str = "appmesh", **input: Any) -> Any:
    return await cloud.call(service, operation, input, account="000000000000", region="us-east-1")


async def desired(cloud: Cloud) -> None:
    """A mesh whose front calls blue, which Cloud Map knows."""
    await aws(cloud, "CreateHttpNamespace", service="servicediscovery", Name="bench.local")
    (space,) = (await aws(cloud, "ListNamespaces", service="servicediscovery"))["Namespaces"]
    made = await aws(cloud, "CreateService", service="servicediscovery", Name="blue", NamespaceId=space["Id"])
    instance = {"ServiceId": made["Service"]["Id"], "InstanceId": "1"}
    attributes = {"AWS_INSTANCE_IPV4": f"{NET}.11"}
    await aws(cloud, "RegisterInstance", service="servicediscovery", **instance, Attributes=attributes)
    await aws(cloud, "CreateMesh", meshName="bench")
    listener = {"portMapping": {"port": 8080, "protocol": "http"}}
    found = {"awsCloudMap": {"namespaceName": "bench.local", "serviceName": "blue"}}
    spec: dict[str, Any] = {"listeners": [listener], "serviceDiscovery": found}
    await aws(cloud, "CreateVirtualNode", meshName="bench", virtualNodeName="blue", spec=spec)
    spec = {"backends": [{"virtualService": {"virtualServiceName": "blue.bench.local"}}]}
    await aws(cloud, "CreateVirtualNode", meshName="bench", virtualNodeName="front", spec=spec)
    await aws(cloud, "CreateVirtualRouter", meshName="bench", virtualRouterName="blue", spec={"listeners": [listener]})
    await route(cloud, "Create", "/")
    spec = {"provider": {"virtualRouter": {"virtualRouterName": "blue"}}}
    await aws(cloud, "CreateVirtualService", meshName="bench", virtualServiceName="blue.bench.local", spec=spec)


async def route(cloud: Cloud, verb: str, prefix: str) -> None:
    action = {"weightedTargets": [{"virtualNode": "blue", "weight": 1}]}
    spec = {"httpRoute": {"match": {"prefix": prefix}, "action": action}}
    names = {"meshName": "bench", "virtualRouterName": "blue", "routeName": "all"}
    await aws(cloud, f"{verb}Route", **names, spec=spec)


async def join(cloud: Cloud, front: str, blue: str) -> None:
    await sidecar(cloud, "front", front, ())
    if blue:
        await sidecar(cloud, "blue", blue, (8080,))
    await asyncio.sleep(0.5)


async def sidecar(cloud: Cloud, name: str, namespace: str, ports: tuple[int, ...]) -> None:
    appmesh = await cloud.service("appmesh")
    environment = Environment(f"mesh/bench/virtualNode/{name}")
    await appmesh.join(SCOPE, name, environment, namespace, Redirect(app_ports=ports))


async def leave(cloud: Cloud) -> None:
    appmesh = await cloud.service("appmesh")
    for name in ("front", "blue"):
        await appmesh.leave(SCOPE, name)


# By hand


async def by_hand(cloud: Cloud, folder: Path, front: str, blue: str) -> Callable[[], Any]:
    """Two Envoys with the least that does the same, and the same redirect; gives what ends them."""
    envoys = []
    for name, namespace, port, to in (("out", front, 15001, f"{NET}.11"), ("in", blue, 15000, "127.0.0.1")):
        user = ("setpriv", "--reuid=1337", "--regid=1337", "--clear-groups")
        may = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--")
        (folder / name).mkdir(exist_ok=True)
        os.chown(folder / name, 1337, 1337)
        prefix = ("nsenter", f"--net={namespace}", *user, *may)
        envoy = Envoy(cloud.supervisor, folder / name, f"hand-{name}", prefix=prefix)
        await envoy.start()
        await envoy.publish(passing(port, to))
        ports = () if name == "out" else (8080,)
        await redirect.install(namespace, Redirect(app_ports=ports))
        envoys.append((envoy, namespace))
    await asyncio.sleep(0.5)

    async def stop() -> None:
        for envoy, namespace in envoys:
            await redirect.remove(namespace)
            await envoy.stop()

    return stop


def answering(port: int) -> Snapshot:
    """A server that answers at once."""
    answer = {"status": 200, "body": {"inline_string": "x" * 64}}
    return listening(port, {"match": {"prefix": "/"}, "direct_response": answer}, {})


def passing(port: int, to: str) -> Snapshot:
    """A proxy that passes everything on to one address."""
    cluster = {
        "name": "to",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": assignment("to", [endpoint(to, 8080)]),
    }
    return listening(port, {"match": {"prefix": "/"}, "route": {"cluster": "to"}}, {"to": cluster})


def listening(port: int, route: dict[str, Any], clusters: dict[str, Any]) -> Snapshot:
    manager = {
        "@type": f"{HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "hand",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{HTTP}.http.router.v3.Router"}}],
    }
    address = {"socket_address": {"address": "0.0.0.0", "port_value": port}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return Snapshot(
        listeners={"front": {"name": "front", "address": address, "filter_chains": [chain]}}, clusters=clusters
    )


# Namespaces


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def add(folder: Path, name: str, number: int) -> str:
    """A namespace with an address on the bridge; its path."""
    namespace = f"{PREFIX}-{name}"
    with (folder / "namespaces").open("a") as file:
        file.write(f"{namespace} ")
    ip("netns", "add", namespace)
    ip("link", "add", f"{PREFIX}v{number}", "type", "veth", "peer", "name", f"{PREFIX}p{number}")
    ip("link", "set", f"{PREFIX}p{number}", "netns", namespace)
    ip("link", "set", f"{PREFIX}v{number}", "master", PREFIX, "up")
    for command in (
        *(f"addr add {NET}.{number}/24 dev {PREFIX}p{number}", "link set lo up", f"link set {PREFIX}p{number} up"),
        f"route add default via {NET}.1",
    ):
        ip("-n", namespace, *command.split())
    return f"/run/netns/{namespace}"


async def inside(namespace: str, work: Callable[[], T]) -> T:
    """Do something in a thread whose sockets are in a network namespace."""

    def enter() -> None:
        descriptor = os.open(namespace, os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000) != 0:  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        os.close(descriptor)

    with ThreadPoolExecutor(1, initializer=enter) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


def run(address: str, connections: int, seconds: float) -> load.Result:
    def script(number: int) -> load.Script:
        while True:
            yield REQUEST
            yield None

    ready(address)
    return load.run(address, 8080, script, connections, seconds)


def ready(address: str) -> None:
    """Return once it is answered. Raises TimeoutError."""
    end = time.perf_counter() + 10
    while time.perf_counter() < end:
        try:
            with socket.create_connection((address, 8080), timeout=2) as connection:
                connection.sendall(REQUEST)
                if connection.recv(4096).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{address} does not answer")


def best(results: list[load.Result]) -> load.Result:
    """The fastest without errors: whatever else the machine does only slows."""
    return max(results, key=lambda one: (not one.errors, one.rate))


if __name__ == "__main__":
    main()
