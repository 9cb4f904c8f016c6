"""``python -m bench.traffic``: requests through a load balancer, beside the same Envoy configured by hand and a direct
call, in one run, with ratios; then how long a changed rule and 500 new targets take."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from bench import load
from bench.rows import repeat
from cloudlet.engines.proxies.envoy import binary
from cloudlet.testing.local import LocalCloud

_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_IDS = {
    "random_sampling": {"value": 0},
    "provider": {
        "name": "envoy.tracers.xray",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.XRayConfig",
            "segment_name": "front",
            "daemon_endpoint": {"protocol": "UDP", "address": "127.0.0.1", "port_value": 9},
        },
    },
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.traffic", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.3, help="how long each cell is measured in each round")
    parser.add_argument("--rounds", type=int, default=21, help="rounds, in turn; the median counts")
    parser.add_argument("--connections", default="1,16", help="numbers of connections")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(LocalCloud())
        target = stack.enter_context(envoy(answering()))
        workers = min(4, os.cpu_count() or 1)
        by_hand = stack.enter_context(envoy(forwarding(target), workers))
        with_ids = stack.enter_context(envoy(forwarding(target), workers, with_ids=True))
        front = Front(cloud, target)
        places = {"direct": ("127.0.0.1", target), "by hand": ("127.0.0.1", by_hand)}
        places |= {"  with ids": ("127.0.0.1", with_ids), "cloudlet ALB": front.place}
        print(f"{'':14}{'conns':>6}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}{'of by hand':>12}{'CPU us':>9}")
        for connections in (int(number) for number in arguments.connections.split(",")):
            measure(places, connections, arguments.seconds, arguments.rounds)
        print(f"a changed rule is seen after   {front.change_rule() * 1000:8.1f} ms  (goal: 100 ms)")
        print(f"500 targets are carried after  {front.register(500) * 1000:8.1f} ms  (goal: 1000 ms)")


def measure(places: dict[str, tuple[str, int]], connections: int, seconds: float, rounds: int) -> None:
    """One line for each place. They are measured in turn, in many short rounds, and compared round by round: so the
    machine's moods are shared by all. Beside that, the processor time that a request costs the process that answers."""
    found: dict[str, list[load.Result]] = {name: [] for name in places}
    spent = dict.fromkeys(places, 0.0)
    processes = {name: listening(*place) for name, place in places.items()}
    for _ in range(rounds):
        for name, (address, port) in places.items():
            request = f"GET /orders HTTP/1.1\r\nhost: {address}:{port}\r\n\r\n".encode()
            before = sum(processes[name].cpu_times()[:2])
            found[name].append(load.run(address, port, repeat(request), connections, seconds))
            spent[name] += sum(processes[name].cpu_times()[:2]) - before
    for name, results in found.items():
        rate = statistics.median(one.rate for one in results)
        p50 = statistics.median(one.p50 for one in results) * 1000
        p99 = statistics.median(one.p99 for one in results) * 1000
        ratio = statistics.median(one.rate / base.rate for one, base in zip(results, found["by hand"], strict=True))
        own = spent[name] * 1e6 / sum(one.rate * seconds for one in results)
        errors = sum(one.errors for one in results)
        print(
            f"{name:14}{connections:>6}{rate:>12,.0f}{p50:>9.3f}{p99:>9.3f}{ratio:>12.1%}{own:>9.1f}"
            + (f"  {errors} errors: {results[0].first_error}" if errors else "")
        )


def listening(address: str, port: int) -> psutil.Process:
    """The process that listens there."""
    wanted = {(address, port), ("0.0.0.0", port)}
    found = (one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and tuple(one.laddr) in wanted)
    return psutil.Process(next(found))


class Front:
    """A load balancer with one target, made through the API."""

    def __init__(self, cloud: LocalCloud, target: int) -> None:
        self._elb = cloud.client("elbv2")
        network = cloud.client("ec2")
        subnets = [one["SubnetId"] for one in network.describe_subnets()["Subnets"]][:2]
        vpc = network.describe_vpcs()["Vpcs"][0]["VpcId"]
        settings: dict[str, Any] = {"Protocol": "HTTP", "Port": 80, "VpcId": vpc, "TargetType": "ip"}
        settings |= {"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2}
        self._group = self._elb.create_target_group(Name="t", **settings)["TargetGroups"][0]["TargetGroupArn"]
        self._elb.register_targets(TargetGroupArn=self._group, Targets=[{"Id": "127.0.0.1", "Port": target}])
        arn = self._elb.create_load_balancer(Name="front", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
        port = free_port()
        self._listener = self._elb.create_listener(
            LoadBalancerArn=arn,
            Protocol="HTTP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self._group}],
        )["Listeners"][0]["ListenerArn"]
        (found,) = [one for one in cloud.control("resources")["resources"] if one["name"] == "front"]
        self.place = (found["address"], port)
        until(lambda: status(self.place, "/orders") == 200)

    def change_rule(self) -> float:
        """Seconds from the end of the call that makes a rule until a request sees it; the median of nine."""
        took = []
        for number in range(1, 10):
            answer = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "418"}}
            self._elb.create_rule(
                ListenerArn=self._listener,
                Priority=number,
                Conditions=[{"Field": "path-pattern", "Values": [f"/changed/{number}"]}],
                Actions=[answer],
            )
            path = f"/changed/{number}"
            took.append(until(lambda path=path: status(self.place, path) == 418))
        return statistics.median(took)

    def register(self, count: int) -> float:
        """Seconds from the call that registers so many targets until the proxy knows all of them."""
        targets = [{"Id": f"127.1.{number // 250}.{number % 250 + 1}", "Port": 9} for number in range(count)]
        started = time.perf_counter()
        self._elb.register_targets(TargetGroupArn=self._group, Targets=targets)

        def carried() -> bool:
            found = self._elb.describe_target_health(TargetGroupArn=self._group)["TargetHealthDescriptions"]
            reasons = [one["TargetHealth"].get("Reason") for one in found]
            return len(reasons) > count and "Elb.RegistrationInProgress" not in reasons

        until(carried)
        return time.perf_counter() - started


def answering() -> dict[str, Any]:
    """Routes of an Envoy that answers itself: the fastest service that there is."""
    return {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": '{"orders": []}'}}}


def forwarding(port: int) -> dict[str, Any]:
    """Routes of an Envoy that somebody has written for one service, and its cluster."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "match": {"prefix": "/"},
        "route": {"cluster": "service"},
        "cluster": {
            "name": "service",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "service", "endpoints": endpoints},
        },
    }


@contextlib.contextmanager
def envoy(route: dict[str, Any], workers: int = 1, with_ids: bool = False) -> Iterator[int]:
    """An Envoy with a static configuration; its port. ``with_ids``: it tells each request's id for traces, in the form
    of AWS's load balancers, which few would write by hand."""
    port = free_port()
    cluster = route.pop("cluster", None)
    told: list[dict[str, Any]] = [{"header": {"key": "x-forwarded-port", "value": str(port)}}]
    if with_ids:
        trace_id = {"key": "x-amzn-trace-id", "value": "Root=%TRACE_ID%"}
        told.append({"header": trace_id, "append_action": "ADD_IF_ABSENT"})
    host = {"name": "all", "domains": ["*"], "routes": [route], "request_headers_to_add": told}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "bench",
        # What any balancer tells: who asks (x-forwarded-for, -proto), and at which port.
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
        **({"tracing": _IDS} if with_ids else {}),
    }
    listener = {
        "name": "front",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    bootstrap = {"static_resources": {"listeners": [listener], "clusters": [cluster] if cluster else []}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bootstrap.json")
        file.write_text(json.dumps(bootstrap))
        process = subprocess.Popen(
            [binary(), "-c", str(file), "--use-dynamic-base-id", "--concurrency", str(workers), "-l", "off"],
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # as Cloudlet's: a busy machine is shared out by sessions
        )
        try:
            until(lambda: status(("127.0.0.1", port), "/") == 200)
            yield port
        finally:
            process.terminate()
            process.wait()


def until(there: Callable[[], bool], longest: float = 15.0) -> float:
    """Seconds until something is so. Raises TimeoutError."""
    started = time.perf_counter()
    while not there():
        if time.perf_counter() - started > longest:
            raise TimeoutError("it did not come to pass")
        time.sleep(0.001)
    return time.perf_counter() - started


def status(place: tuple[str, int], path: str) -> int:
    """The status of a GET, 0 when nothing answers."""
    connection = http.client.HTTPConnection(*place, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def free_port() -> int:
    """A port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
