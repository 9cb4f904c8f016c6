"""Traffic through sidecars, in real network namespaces, between plain programs that know nothing of the mesh."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloudlet.cloud import Cloud, compose
from cloudlet.config import Config
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import binary
from cloudlet.services.acm.authority import Authority
from cloudlet.services.appmesh.environment import Environment
from cloudlet.services.appmesh.redirect import CannotRedirect, Redirect
from cloudlet.services.appmesh.security import MaterialMissing

if os.name != "posix" or os.geteuid() != 0:
    pytest.skip("network namespaces need root", allow_module_level=True)
if missing := [program for program in ("ip", "nft", "nsenter", "setpriv", "unshare") if not shutil.which(program)]:
    pytest.skip(f"{missing[0]} is not installed", allow_module_level=True)
try:
    binary()
except ProxyMissing as error:
    pytest.skip(str(error), allow_module_level=True)

SCOPE = "000000000000/us-east-1"
MESH = {"meshName": "traffic"}

# A program as anybody would write it: it answers its name, fails when it is told to, and knows no mesh.
SERVER = """
import sys, http.server, socket
name, address, state = sys.argv[1], sys.argv[2], {"fail": "", "seen": {}}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        status = 200
        if self.path.startswith("/fail/"):
            state["fail"] = self.path[6:]
        elif self.path.startswith("/once/") and not state["seen"].setdefault(self.path, 0):
            state["seen"][self.path] = 1
            status = 503
        elif state["fail"] == "500":
            status = 500
        body = name.encode()
        if self.path.startswith("/echo"):
            body += f" {self.path} {self.headers['host']}".encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
    daemon_threads = True
server = Server((address, 8080), Handler)
server.serve_forever()
"""

# And one that calls: by name, again and again, and prints what it got.
CLIENT = """
import collections, http.client, json, sys, time
host, path, count, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
found = collections.Counter()
for number in range(count):
    try:
        connection = http.client.HTTPConnection(host, 8080, timeout=5)
        connection.request("GET", path.replace("*", str(number)))
        answer = connection.getresponse()
        found[f"{answer.status} {answer.read().decode()[:40]}"] += 1
        connection.close()
    except OSError as error:
        found[f"{type(error).__name__}"] += 1
    time.sleep(pause)
print(json.dumps(found))
"""


class Network:
    """A bridge, and namespaces on it, each with an address: what a container engine makes for tasks."""

    def __init__(self) -> None:
        self._id = f"{os.getpid() % 10000:04}"
        self._net = f"10.{200 + os.getpid() % 50}.{os.getpid() % 250}"
        self.gateway = f"{self._net}.1"
        self._names: list[str] = []
        self._processes: list[subprocess.Popen[Any]] = []
        self.resolv_conf: Path | None = None

    def start(self) -> None:
        self._ip("link", "add", f"cmb{self._id}", "type", "bridge")
        self._ip("addr", "add", f"{self.gateway}/24", "dev", f"cmb{self._id}")
        self._ip("link", "set", f"cmb{self._id}", "up")

    def add(self, name: str) -> tuple[str, str]:
        """A namespace; its path and its address."""
        namespace, number = f"cm{self._id}-{name}", len(self._names) + 10
        self._names.append(namespace)
        self._ip("netns", "add", namespace)
        outer, inner = f"cm{self._id}v{number}", f"cm{self._id}p{number}"
        self._ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        self._ip("link", "set", inner, "netns", namespace)
        self._ip("link", "set", outer, "master", f"cmb{self._id}", "up")
        address = f"{self._net}.{number}"
        for command in (f"addr add {address}/24 dev {inner}", "link set lo up", f"link set {inner} up"):
            self._ip("-n", namespace, *command.split())
        self._ip("-n", namespace, "route", "add", "default", "via", self.gateway)
        return f"/run/netns/{namespace}", address

    def add_ipv6(self, name: str) -> str:
        """An address of IPv6 for a namespace that is there."""
        namespace = f"cm{self._id}-{name}"
        number = self._names.index(namespace) + 10
        address = f"fd00:c10d:{os.getpid() % 0xFFFF:x}::{number:x}"
        self._ip("-n", namespace, "addr", "add", f"{address}/64", "dev", f"cm{self._id}p{number}", "nodad")
        return address

    def serve(self, namespace: str, name: str, address: str = "0.0.0.0") -> None:
        """Run the server in a namespace."""
        command = ["nsenter", f"--net={namespace}", sys.executable, "-c", SERVER, name, address]
        self._processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))

    async def call(
        self, namespace: str, host: str, path: str = "/", count: int = 1, pause: float = 0
    ) -> dict[str, int]:
        """What the client got, each with how often."""
        inside = ["nsenter", f"--net={namespace}"]
        if self.resolv_conf is not None:
            bind = f'mount --bind {self.resolv_conf} /etc/resolv.conf && exec "$@"'
            inside += ["unshare", "--mount", "sh", "-c", bind, "sh"]
        process = await asyncio.create_subprocess_exec(
            *(*inside, sys.executable, "-c", CLIENT, host, path, str(count), str(pause)), stdout=subprocess.PIPE
        )
        said, _ = await process.communicate()
        return json.loads(said)  # type: ignore[no-any-return]

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for number, namespace in enumerate(self._names, 10):
            # A namespace is gone a moment after its name: not so the link, which we delete.
            self._ip("link", "del", f"cm{self._id}v{number}")
            self._ip("netns", "del", namespace)
        self._ip("link", "del", f"cmb{self._id}")

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    try:
        made.start()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network can be made here: {error}")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
async def cloud(network: Network, tmp_path: Path) -> AsyncIterator[Cloud]:
    made = compose(Config(port=0, data_dir=tmp_path / "data"))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def aws(cloud: Cloud, operation: str, *, service: str = "appmesh", **input: Any) -> Any:
    return await cloud.call(service, operation, input, account="000000000000", region="us-east-1")


def listener(**more: Any) -> list[dict[str, Any]]:
    return [{"portMapping": {"port": 8080, "protocol": "http"}, **more}]


def to(**weights: int) -> dict[str, Any]:
    return {"weightedTargets": [{"virtualNode": node, "weight": weight} for node, weight in weights.items()]}


async def instances(cloud: Cloud, **addresses: list[str]) -> dict[str, str]:
    """Cloud Map's services of a new namespace, with instances; their ids by name."""
    await aws(cloud, "CreateHttpNamespace", service="servicediscovery", Name="map.test")
    (space,) = (await aws(cloud, "ListNamespaces", service="servicediscovery"))["Namespaces"]
    ids = {}
    for name, of in addresses.items():
        made = await aws(cloud, "CreateService", service="servicediscovery", Name=name, NamespaceId=space["Id"])
        ids[name] = made["Service"]["Id"]
        for address in of:
            await register(cloud, ids[name], address)
    return ids


async def register(cloud: Cloud, service: str, address: str) -> None:
    await aws(
        *(cloud, "RegisterInstance"),
        service="servicediscovery",
        ServiceId=service,
        InstanceId=address,
        Attributes={"AWS_INSTANCE_IPV4": address},
    )


async def answered(network: Network, place: str, wanted: str, host: str = "colors.map.test") -> float:
    """Seconds until the only answer is the wanted one."""
    started = time.perf_counter()
    while set(await network.call(place, host)) != {wanted}:
        assert time.perf_counter() - started < 10, await network.call(place, host)
    return time.perf_counter() - started


async def colors(
    cloud: Cloud, network: Network, tmp_path: Path, files: dict[str, str] | None = None, **blue: Any
) -> dict[str, Any]:
    """A front that calls colours: two blue servers, one green, all with sidecars."""
    places = {name: network.add(name) for name in ("front", "blue1", "blue2", "green")}
    for name in ("blue1", "blue2", "green"):
        network.serve(places[name][0], name)
    ids = await instances(cloud, blue=[places["blue1"][1], places["blue2"][1]], green=[places["green"][1]])
    await aws(cloud, "CreateMesh", **MESH)
    for node, of in (("blue", blue), ("green", {})):
        found = {"awsCloudMap": {"namespaceName": "map.test", "serviceName": node}}
        spec = {"listeners": listener(**of), "serviceDiscovery": found}
        await aws(cloud, "CreateVirtualNode", **MESH, virtualNodeName=node, spec=spec)
    backend = {"virtualService": {"virtualServiceName": "colors.map.test"}}
    spec = {"backends": [backend]}
    await aws(cloud, "CreateVirtualNode", **MESH, virtualNodeName="front", spec=spec)
    await aws(cloud, "CreateVirtualRouter", **MESH, virtualRouterName="colors", spec={"listeners": listener()})
    await route(cloud, "Create", to(blue=1))
    provider = {"virtualRouter": {"virtualRouterName": "colors"}}
    await aws(cloud, "CreateVirtualService", **MESH, virtualServiceName="colors.map.test", spec={"provider": provider})
    appmesh = await cloud.service("appmesh")
    for name, (namespace, _) in places.items():
        rules = Redirect(app_ports=() if name == "front" else (8080,))
        await appmesh.join(
            SCOPE, name, Environment(f"mesh/traffic/virtualNode/{name.rstrip('12')}"), namespace, rules, files=files
        )
    route53 = await cloud.service("route53")
    assert await route53.listen_on(network.gateway) == 53
    await name_address(cloud, "colors.map.test", network.gateway.rpartition(".")[0] + ".200")
    network.resolv_conf = tmp_path / "resolv.conf"
    network.resolv_conf.write_text(f"nameserver {network.gateway}\n")
    return {"places": places, "services": ids, "appmesh": appmesh}


async def name_address(cloud: Cloud, name: str, address: str) -> None:
    """Have our DNS server know a name, in a zone of its own."""
    place = {"Name": name.partition(".")[2], "CallerReference": name}
    zone = (await aws(cloud, "CreateHostedZone", service="route53", **place))["HostedZone"]
    record = {"Name": name, "Type": "A", "TTL": 1, "ResourceRecords": [{"Value": address}]}
    batch = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    await aws(cloud, "ChangeResourceRecordSets", service="route53", HostedZoneId=zone["Id"], ChangeBatch=batch)


async def route(cloud: Cloud, verb: str, action: dict[str, Any], **more: Any) -> None:
    spec = {"httpRoute": {"match": {"prefix": "/"}, "action": action, **more}}
    await aws(cloud, f"{verb}Route", **MESH, virtualRouterName="colors", routeName="all", spec=spec)


def second(value: int = 1) -> dict[str, Any]:
    return {"value": value, "unit": "s"}


async def test_routes_weights_retries_and_ejection(
    cloud: Cloud, network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outliers = {
        "maxServerErrors": 3,
        "interval": second(),
        "baseEjectionDuration": second(30),
        "maxEjectionPercent": 50,
    }
    made = await colors(cloud, network, tmp_path, outlierDetection=outliers)
    front = made["places"]["front"][0]
    deadline = time.perf_counter() + 10
    while set(await network.call(front, "colors.map.test")) - {"200 blue1", "200 blue2"}:
        assert time.perf_counter() < deadline
    found = await network.call(front, "colors.map.test", count=40)
    assert set(found) == {"200 blue1", "200 blue2"}
    # What is not in the mesh does not get out: its filter is DROP_ALL.
    assert set(await network.call(front, network.gateway)) == {"404 "}

    # A tenth for green.
    await route(cloud, "Update", to(blue=90, green=10))
    await asyncio.sleep(0.1)
    found = await network.call(front, "colors.map.test", count=300)
    assert 10 <= found["200 green"] <= 55, found
    assert sum(found.values()) == sum(count for what, count in found.items() if what.startswith("200"))

    # Each first try is answered 503, and nobody sees it.
    retries = {
        "httpRetryEvents": ["server-error"],
        "tcpRetryEvents": ["connection-error"],
        "maxRetries": 3,
        "perRetryTimeout": second(2),
    }
    await route(cloud, "Update", to(green=1), retryPolicy={**retries, "maxRetries": 0})
    await asyncio.sleep(0.1)
    assert await network.call(front, "colors.map.test", "/once/a*", count=5) == {"503 green": 5}
    await route(cloud, "Update", to(green=1), retryPolicy=retries)
    await asyncio.sleep(0.1)
    assert await network.call(front, "colors.map.test", "/once/b*", count=20) == {"200 green": 20}

    # One of the blue begins to fail: it is ejected, and its callers see no error.
    await route(cloud, "Update", to(blue=1), retryPolicy=retries)
    await asyncio.sleep(0.1)
    await network.call(made["places"]["blue1"][0], "127.0.0.1", "/fail/500")
    found = await network.call(front, "colors.map.test", count=60, pause=0.02)
    assert not [what for what in found if not what.startswith("200 blue")], found
    running = made["appmesh"].running[SCOPE, "front"]
    ejected = [one.address for one in await running.envoy.endpoints() if "failed_outlier_check" in one.flags]
    assert ejected == [made["places"]["blue1"][1]]
    # The Envoy container's log tells of it, as App Mesh's image has it.
    deadline = time.perf_counter() + 10
    while '"action":"EJECT"' not in (told := (running.folder / "lines").read_text()):
        assert time.perf_counter() < deadline, told
        await asyncio.sleep(0.05)

    # An instance that leaves Cloud Map gets nothing more, a new one gets its share.
    blue = made["services"]["blue"]
    await network.call(made["places"]["blue1"][0], "127.0.0.1", "/fail/no")
    gone = {"ServiceId": blue, "InstanceId": made["places"]["blue2"][1]}
    await aws(cloud, "DeregisterInstance", service="servicediscovery", **gone)
    await register(cloud, blue, made["places"]["green"][1])
    await asyncio.sleep(0.1)
    found = await network.call(front, "colors.map.test", count=20)
    assert "200 blue2" not in found
    assert found["200 green"] >= 8

    gauges = {gauge.name for gauge in await made["appmesh"].measure() if ("VirtualNode", "front") in gauge.dimensions}
    assert gauges >= {
        "RequestCount",
        "RetryCount",
        "HTTPCode_Target_2XX_Count",
        "ProcessedBytes",
        "RequestCountPerTarget",
    }

    # What Envoy refuses does not stay unnoticed, and it goes on with what it has.
    await route(cloud, "Update", to(green=1), match={"path": {"regex": "/(?!a)"}})
    deadline = time.perf_counter() + 10
    while not (refused := [line for line in caplog.messages if line.startswith("the Envoy of") and "refuses" in line]):
        assert time.perf_counter() < deadline
        await asyncio.sleep(0.05)
    assert refused[0].startswith(
        "the Envoy of mesh/traffic/virtualNode/front refuses what it was told: invalid perl"
    ), refused
    found = await network.call(front, "colors.map.test", count=20)
    assert all(what.startswith("200") for what in found), found

    # At the end nothing is left: neither process nor rule.
    for name, (namespace, _) in made["places"].items():
        await made["appmesh"].leave(SCOPE, name)
        assert "cloudlet" not in tables_of(namespace)
    assert not [child for child in cloud.supervisor.children if child.name.startswith("appmesh")]


async def test_a_gateway_and_what_is_not_in_the_mesh(cloud: Cloud, network: Network, tmp_path: Path) -> None:
    made = await colors(cloud, network, tmp_path)
    await route(cloud, "Update", to(green=1))
    name = {**MESH, "virtualGatewayName": "entry"}
    await aws(cloud, "CreateVirtualGateway", **name, spec={"listeners": listener()})
    target = {"target": {"virtualService": {"virtualServiceName": "colors.map.test"}}}
    for prefix in ("/colors", "/lost"):
        spec = {"httpRoute": {"match": {"prefix": prefix}, "action": target}}
        await aws(cloud, "CreateGatewayRoute", **name, gatewayRouteName=prefix[1:], spec=spec)
    namespace, address = network.add("entry")
    await made["appmesh"].join(SCOPE, "entry", Environment("mesh/traffic/virtualGateway/entry"), namespace)
    outside, _ = network.add("outside")
    deadline = time.perf_counter() + 10
    while (found := await network.call(outside, address, "/colors/echo/1")) != {"200 green /echo/1 colors.map.test": 1}:
        assert time.perf_counter() < deadline, found
    assert await network.call(outside, address, "/elsewhere") == {"404 ": 1}
    # A host that is kept, by a route of the gateway.
    kept = {**target, "rewrite": {"hostname": {"defaultTargetHostname": "DISABLED"}}}
    spec = {"httpRoute": {"match": {"prefix": "/"}, "action": kept}}
    await aws(cloud, "CreateGatewayRoute", **name, gatewayRouteName="rest", spec=spec)
    await asyncio.sleep(0.1)
    assert await network.call(outside, address, "/echo/2") == {f"200 green /echo/2 {address}:8080": 1}

    # Envoy's admin interface is where App Mesh's image has it.
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9901/ready').read().decode())"
    inside = await asyncio.create_subprocess_exec(
        *("nsenter", f"--net={namespace}", sys.executable, "-c", ask), stdout=subprocess.PIPE
    )
    assert (await inside.communicate())[0].strip() == b"LIVE"

    # An Envoy that is killed is there again, with all that it carried.
    (child,) = [one for one in cloud.supervisor.children if one.name == "appmesh-entry"]
    os.kill(child.pid, signal.SIGKILL)
    deadline = time.perf_counter() + 10
    while set(await network.call(outside, address, "/colors/echo/3")) != {"200 green /echo/3 colors.map.test"}:
        assert time.perf_counter() < deadline

    # The mesh's filter, there and back.
    front, blue = made["places"]["front"][0], made["places"]["blue2"][1]
    assert await network.call(front, blue) == {"404 ": 1}
    # It is not for the APIs of AWS.
    await name_address(cloud, "queue.amazonaws.com", blue)
    assert await network.call(front, "queue.amazonaws.com") == {"200 blue2": 1}
    await aws(cloud, "UpdateMesh", **MESH, spec={"egressFilter": {"type": "ALLOW_ALL"}})
    await asyncio.sleep(0.1)
    assert await network.call(front, blue) == {"200 blue2": 1}
    assert set(await network.call(front, "colors.map.test")) == {"200 green"}


async def test_ipv6(cloud: Cloud, network: Network, tmp_path: Path) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    made = await colors(cloud, network, tmp_path)
    places, appmesh = made["places"], made["appmesh"]
    front = places["front"][0]
    namespace, _ = network.add("six")
    network.add_ipv6("front")
    address = network.add_ipv6("six")
    network.serve(namespace, "six", "::1")
    found = {"awsCloudMap": {"namespaceName": "map.test", "serviceName": "six"}}
    spec = {"listeners": listener(), "serviceDiscovery": found}
    await aws(cloud, "CreateVirtualNode", **MESH, virtualNodeName="six", spec=spec)
    await appmesh.join(
        SCOPE, "six", Environment("mesh/traffic/virtualNode/six"), namespace, Redirect(app_ports=(8080,))
    )
    (space,) = (await aws(cloud, "ListNamespaces", service="servicediscovery"))["Namespaces"]
    six = await aws(cloud, "CreateService", service="servicediscovery", Name="six", NamespaceId=space["Id"])
    await aws(
        *(cloud, "RegisterInstance"),
        service="servicediscovery",
        ServiceId=six["Service"]["Id"],
        InstanceId="six",
        Attributes={"AWS_INSTANCE_IPV6": address},
    )
    await route(cloud, "Update", to(six=1))
    # Without a preference the Envoy of the application listens on IPv4 alone, and asks it there.
    deadline = time.perf_counter() + 10
    while not next(iter(said := await network.call(front, "colors.map.test"))).startswith("503"):
        assert time.perf_counter() < deadline, said
    for preference in ("IPv6_ONLY", "IPv6_PREFERRED"):
        await aws(cloud, "UpdateMesh", **MESH, spec={"serviceDiscovery": {"ipPreference": preference}})
        assert await answered(network, front, "200 six") < 10
    ingress = await appmesh.running[SCOPE, "six"].envoy.stats("^http.ingress.downstream_rq_total$")
    assert ingress["http.ingress.downstream_rq_total"] > 0
    # What leaves over IPv6 passes the mesh too, whose filter is DROP_ALL.
    assert await network.call(front, address) == {"404 ": 1}


def tables_of(namespace: str) -> str:
    """The names of a namespace's tables of rules."""
    return subprocess.check_output(["nsenter", f"--net={namespace}", "nft", "list", "tables"], text=True)


async def test_an_envoy_waits_for_its_gateway(cloud: Cloud, network: Network, tmp_path: Path) -> None:
    appmesh: Any = await cloud.service("appmesh")
    await aws(cloud, "CreateMesh", **MESH)
    namespace, address = network.add("early")
    environment = Environment("mesh/traffic/virtualGateway/early", admin_port=8080)
    await appmesh.join(SCOPE, "early", environment, namespace)
    # Health checks of AWS's examples ask its admin port, whether the gateway is there or not.
    assert await network.call(namespace, address, "/ready") == {"200 LIVE\n": 1}
    listens = {"listeners": [{"portMapping": {"port": 8088, "protocol": "http"}}]}
    await aws(cloud, "CreateVirtualGateway", **MESH, virtualGatewayName="early", spec=listens)
    active, deadline = "listener_manager.total_listeners_active", time.perf_counter() + 5
    while (await appmesh.running[SCOPE, "early"].envoy.stats(active)).get(active) != 3:
        assert time.perf_counter() < deadline
        await asyncio.sleep(0.02)
    await appmesh.leave(SCOPE, "early")


async def test_mutual_tls(cloud: Cloud, network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = tmp_path / "keys"
    authority = Authority(keys)
    for name in ("blue.map.test", "front.map.test"):
        chain, key = authority.issue([name], "EC_prime256v1", time.time())
        (keys / f"{name}.pem").write_text(chain)
        (keys / f"{name}.key").write_text(key)
    trust = {"trust": {"file": {"certificateChain": "/keys/authority.pem"}}}

    def certificate(name: str) -> dict[str, Any]:
        return {"file": {"certificateChain": f"/keys/{name}.map.test.pem", "privateKey": f"/keys/{name}.map.test.key"}}

    tls = {"mode": "STRICT", "certificate": certificate("blue"), "validation": trust}
    made = await colors(cloud, network, tmp_path, {"/keys": str(keys)}, tls=tls)
    appmesh, places = made["appmesh"], made["places"]

    async def policy(**tls: Any) -> None:
        client = {"clientPolicy": {"tls": {"validation": trust, **tls}}}
        backend = {"virtualService": {"virtualServiceName": "colors.map.test", **client}}
        await aws(cloud, "UpdateVirtualNode", **MESH, virtualNodeName="front", spec={"backends": [backend]})

    await policy(certificate=certificate("front"))
    deadline = time.perf_counter() + 10
    while set(await network.call(places["front"][0], "colors.map.test")) - {"200 blue1", "200 blue2"}:
        assert time.perf_counter() < deadline
    handshakes = 0
    for name in ("blue1", "blue2"):
        handshakes += sum((await appmesh.running[SCOPE, name].envoy.stats("listener.*ssl.handshake")).values())
    assert handshakes > 0
    # A key of another certificate is named, and traffic goes on as it did.
    await policy(certificate={"file": {**certificate("front")["file"], "privateKey": "/keys/blue.map.test.key"}})
    chain, key = keys / "front.map.test.pem", keys / "blue.map.test.key"
    said = "the Envoy of mesh/traffic/virtualNode/front carries what it did before: "
    while not any(
        line.startswith(f"{said}the certificate {chain} and the key {key} do not fit") for line in caplog.messages
    ):
        assert time.perf_counter() < deadline, caplog.messages
        await asyncio.sleep(0.02)
    assert all("200" in what for what in await network.call(places["front"][0], "colors.map.test", count=5))
    # Nobody else gets in: no TLS, no certificate, or one for another name.
    assert not any("200" in what for what in await network.call(places["green"][0], places["blue1"][1]))
    await policy()
    await asyncio.sleep(0.2)
    (what,) = await network.call(places["front"][0], "colors.map.test")
    assert what.startswith("503 upstream connect error")
    names = {"subjectAlternativeNames": {"match": {"exact": ["red.map.test"]}}}
    await policy(certificate=certificate("front"), validation={**trust, **names})
    await asyncio.sleep(0.2)
    assert not any("200" in what for what in await network.call(places["front"][0], "colors.map.test"))


async def private_root(cloud: Cloud) -> str:
    """A private certificate authority that is active."""
    subject = {"CommonName": "mesh"}
    configuration = {"KeyAlgorithm": "EC_prime256v1", "SigningAlgorithm": "SHA256WITHECDSA", "Subject": subject}
    made = await aws(
        cloud,
        "CreateCertificateAuthority",
        service="acm-pca",
        CertificateAuthorityConfiguration=configuration,
        CertificateAuthorityType="ROOT",
    )
    place = {"service": "acm-pca", "CertificateAuthorityArn": made["CertificateAuthorityArn"]}
    csr = (await aws(cloud, "GetCertificateAuthorityCsr", **place))["Csr"].encode()
    asked = {"Csr": csr, "SigningAlgorithm": "SHA256WITHECDSA", "Validity": {"Type": "YEARS", "Value": 10}}
    template = "arn:aws:acm-pca:::template/RootCACertificate/V1"
    issued = await aws(cloud, "IssueCertificate", **place, **asked, TemplateArn=template)
    own = await aws(cloud, "GetCertificate", **place, CertificateArn=issued["CertificateArn"])
    await aws(cloud, "ImportCertificateAuthorityCertificate", **place, Certificate=own["Certificate"].encode())
    return str(made["CertificateAuthorityArn"])


async def test_certificates_of_acm_and_of_the_local_authority(cloud: Cloud, network: Network, tmp_path: Path) -> None:
    made = await colors(cloud, network, tmp_path)
    authority, other = await private_root(cloud), await private_root(cloud)
    asked = {"DomainName": "*.map.test", "CertificateAuthorityArn": authority}
    arn = (await aws(cloud, "RequestCertificate", service="acm", **asked))["CertificateArn"]
    tls = {
        "mode": "STRICT",
        "certificate": {"acm": {"certificateArn": arn}},
        "validation": {
            "trust": {"sds": {"secretName": "authority"}},
            "subjectAlternativeNames": {"match": {"exact": ["spiffe://map.test/front"]}},
        },
    }
    found = {"awsCloudMap": {"namespaceName": "map.test", "serviceName": "blue"}}
    spec = {"listeners": listener(tls=tls), "serviceDiscovery": found}
    await aws(cloud, "UpdateVirtualNode", **MESH, virtualNodeName="blue", spec=spec)

    async def front(secret: str, authority: str = authority) -> None:
        policy = {
            "certificate": {"sds": {"secretName": secret}},
            "validation": {"trust": {"acm": {"certificateAuthorityArns": [authority]}}},
        }
        backend = {"virtualServiceName": "colors.map.test", "clientPolicy": {"tls": policy}}
        spec = {"backends": [{"virtualService": backend}]}
        await aws(cloud, "UpdateVirtualNode", **MESH, virtualNodeName="front", spec=spec)

    await front("spiffe://map.test/front")
    place = made["places"]["front"][0]
    deadline = time.perf_counter() + 10
    while set(found := await network.call(place, "colors.map.test")) - {"200 blue1", "200 blue2"}:
        assert time.perf_counter() < deadline, found
    for secret, trusted in (("spiffe://map.test/somebody", authority), ("spiffe://map.test/front", other)):
        await front(secret, trusted)
        await asyncio.sleep(0.3)
        (what,) = await network.call(place, "colors.map.test")
        assert what.startswith("503")
        await front("spiffe://map.test/front")
        deadline = time.perf_counter() + 10
        while set(found := await network.call(place, "colors.map.test")) - {"200 blue1", "200 blue2"}:
            assert time.perf_counter() < deadline, found
    # What cannot be had is said, and what runs goes on.
    missing = {"file": {"certificateChain": "/nowhere.pem", "privateKey": "/nowhere.key"}}
    spec["listeners"] = listener(tls={"mode": "STRICT", "certificate": missing})
    await aws(cloud, "CreateVirtualNode", **MESH, virtualNodeName="lost", spec=spec)
    namespace, _ = network.add("lost")
    with pytest.raises(MaterialMissing, match=r"/nowhere\.pem is not there"):
        await made["appmesh"].join(SCOPE, "lost", Environment("mesh/traffic/virtualNode/lost"), namespace, Redirect())
    assert "cloudlet" not in tables_of(namespace)
    with pytest.raises(CannotRedirect):
        await made["appmesh"].join(
            SCOPE, "lost", Environment("mesh/traffic/virtualNode/lost"), namespace, Redirect(egress_ignored_ips=("no",))
        )
    assert not [child for child in cloud.supervisor.children if child.name == "appmesh-lost"]


async def hold(data_dir: str, namespaces: list[str]) -> None:
    """In a process of its own: bring the mesh up, say so, and be killed."""
    cloud = compose(Config(port=0, data_dir=Path(data_dir)))
    await cloud.start()
    front, blue, address = namespaces
    await instances(cloud, blue=[address])
    await aws(cloud, "CreateMesh", **MESH)
    found = {"awsCloudMap": {"namespaceName": "map.test", "serviceName": "blue"}}
    spec = {"listeners": listener(), "serviceDiscovery": found}
    await aws(cloud, "CreateVirtualNode", **MESH, virtualNodeName="blue", spec=spec)
    provider = {"provider": {"virtualNode": {"virtualNodeName": "blue"}}}
    await aws(cloud, "CreateVirtualService", **MESH, virtualServiceName="blue.map.test", spec=provider)
    spec = {"backends": [{"virtualService": {"virtualServiceName": "blue.map.test"}}]}
    await aws(cloud, "CreateVirtualNode", **MESH, virtualNodeName="front", spec=spec)
    appmesh = await cloud.service("appmesh")
    await appmesh.join(SCOPE, "front", Environment("mesh/traffic/virtualNode/front"), front, Redirect())
    await appmesh.join(SCOPE, "blue", Environment("mesh/traffic/virtualNode/blue"), blue, Redirect(app_ports=(8080,)))
    print("joined", *(child.pid for child in cloud.supervisor.children), flush=True)
    await asyncio.Event().wait()


async def test_traffic_goes_on_when_the_control_plane_is_killed(network: Network, tmp_path: Path) -> None:
    front, _ = network.add("front")
    blue, address = network.add("blue")
    network.serve(blue, "blue")
    data = tmp_path / "data"
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, str(data), front, blue, address), stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    word, *pids = (await asyncio.wait_for(holder.stdout.readline(), 30)).decode().split()
    assert word == "joined"
    (tmp_path / "hosts").write_text(f"{network.gateway} blue.map.test\n")
    deadline = time.perf_counter() + 10
    # By address: the name is only the Host here, which the mesh goes by.
    calling = asyncio.ensure_future(calls(network, front, 150, tmp_path))
    await asyncio.sleep(0.5)
    holder.send_signal(signal.SIGKILL)
    await holder.wait()
    cloud = compose(Config(port=0, data_dir=data))
    await cloud.start()
    try:
        found = await calling
        assert found == {"200 blue": 150}, found
        assert time.perf_counter() < deadline + 20
        running = {str(child.pid): child.adopted for child in cloud.supervisor.children}
        assert running == dict.fromkeys(pids, True)
    finally:
        await cloud.stop()
    assert not [pid for pid in pids if psutil.pid_exists(int(pid))]


async def calls(network: Network, namespace: str, count: int, tmp_path: Path) -> dict[str, int]:
    """Calls of the name, which a hosts file leads to the bridge."""
    bind = f'mount --bind {tmp_path / "hosts"} /etc/hosts && exec "$@"'
    inside = ["nsenter", f"--net={namespace}", "unshare", "--mount", "sh", "-c", bind, "sh"]
    process = await asyncio.create_subprocess_exec(
        *(*inside, sys.executable, "-c", CLIENT, "blue.map.test", "/", str(count), "0.01"), stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    return json.loads(said)  # type: ignore[no-any-return]


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], sys.argv[2:]))
