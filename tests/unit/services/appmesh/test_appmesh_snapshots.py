"""What Envoy is told for a mesh, held against golden files. ``UPDATE_GOLDEN=1`` writes them anew."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import Envoy, binary
from cloudlet.mesh import Snapshot
from cloudlet.services.appmesh.gateway import BOOTSTRAP
from cloudlet.services.appmesh.security import MaterialMissing
from cloudlet.services.appmesh.snapshots import gateway_snapshot, node_snapshot, waiting_snapshot
from cloudlet.services.appmesh.tracing import Xray
from cloudlet.services.appmesh.world import Found, Proxy, World

_GOLDEN = Path(__file__).parents[3] / "golden"
_PEM = ("-----BEGIN CERTIFICATE-----\nchain\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nkey\n")


def listener(port: int, protocol: str = "http", **more: Any) -> dict[str, Any]:
    return {"portMapping": {"port": port, "protocol": protocol}, **more}


def targets(**weights: int) -> dict[str, Any]:
    return {"weightedTargets": [{"virtualNode": node, "weight": weight} for node, weight in weights.items()]}


def backends(*names: str) -> list[dict[str, Any]]:
    return [{"virtualService": {"virtualServiceName": name}} for name in names]


def dns(name: str, **more: Any) -> dict[str, Any]:
    return {"dns": {"hostname": name, **more}}


def cloud_map(service: str) -> dict[str, Any]:
    return {"awsCloudMap": {"namespaceName": "shop.local", "serviceName": service}}


def shop() -> World:
    """A front that calls colours over HTTP, orders over gRPC and a database over TCP."""
    second = {"value": 1, "unit": "s"}
    checked = {
        "protocol": "http",
        "path": "/ping",
        "intervalMillis": 5000,
        "timeoutMillis": 2000,
        "healthyThreshold": 2,
        "unhealthyThreshold": 3,
    }
    ejected = {"maxServerErrors": 5, "interval": second, "baseEjectionDuration": second, "maxEjectionPercent": 50}
    retry = {
        "httpRetryEvents": ["server-error", "client-error", "stream-error"],
        "tcpRetryEvents": ["connection-error"],
        "maxRetries": 4,
        "perRetryTimeout": {"value": 250, "unit": "ms"},
    }
    trust = {"trust": {"file": {"certificateChain": "/keys/ca.pem"}}}
    front = {
        "listeners": [
            listener(
                8080,
                connectionPool={"http": {"maxConnections": 100, "maxPendingRequests": 10}},
                timeout={"http": {"perRequest": second, "idle": {"value": 60, "unit": "s"}}},
            )
        ],
        "serviceDiscovery": dns("front.shop.local"),
        "backends": [
            *backends("colors.shop.local", "orders.shop.local", "db.shop.local", "later.shop.local"),
            {
                "virtualService": {
                    "virtualServiceName": "green.shop.local",
                    "clientPolicy": {
                        "tls": {
                            "validation": {
                                **trust,
                                "subjectAlternativeNames": {"match": {"exact": ["green.example"]}},
                            },
                            "certificate": {
                                "file": {"certificateChain": "/keys/front.pem", "privateKey": "/keys/front.key"}
                            },
                        }
                    },
                }
            },
        ],
        "logging": {"accessLog": {"file": {"path": "/dev/stdout", "format": {"text": "%PROTOCOL% %RESPONSE_CODE%"}}}},
    }
    return World(
        name="shop",
        spec={"egressFilter": {"type": "ALLOW_ALL"}, "serviceDiscovery": {"ipPreference": "IPv4_ONLY"}},
        nodes={
            "front": front,
            "blue": {
                "listeners": [listener(9080, healthCheck=checked, outlierDetection=ejected)],
                "serviceDiscovery": cloud_map("blue"),
            },
            "green": {
                "listeners": [
                    listener(
                        9080,
                        tls={
                            "mode": "STRICT",
                            "certificate": {"acm": {"certificateArn": "arn:aws:acm:x:1:certificate/g"}},
                            "validation": {"trust": {"sds": {"secretName": "local"}}},
                        },
                    )
                ],
                "serviceDiscovery": cloud_map("green"),
            },
            "orders": {
                "listeners": [listener(50051, "grpc", tls={"mode": "PERMISSIVE", "certificate": _sds("orders")})],
                "serviceDiscovery": dns("orders.shop.local", responseType="ENDPOINTS"),
                "logging": {
                    "accessLog": {
                        "file": {"path": "/logs/a", "format": {"json": [{"key": "code", "value": "%RESPONSE_CODE%"}]}}
                    }
                },
            },
            "db": {
                "listeners": [
                    listener(
                        5432, "tcp", connectionPool={"tcp": {"maxConnections": 7}}, timeout={"tcp": {"idle": second}}
                    )
                ],
                "serviceDiscovery": dns("db.shop.local", ipPreference="IPv6_PREFERRED"),
            },
            # It calls who calls it: backends may lead in a circle.
            "cache": {
                "listeners": [listener(6379, "tcp"), listener(9121, "http2")],
                "serviceDiscovery": dns("cache.shop.local"),
                "backends": backends("cache.shop.local", "db-routed.shop.local"),
            },
        },
        services={
            "colors.shop.local": {"provider": {"virtualRouter": {"virtualRouterName": "colors"}}},
            "orders.shop.local": {"provider": {"virtualRouter": {"virtualRouterName": "orders"}}},
            "db.shop.local": {"provider": {"virtualNode": {"virtualNodeName": "db"}}},
            "db-routed.shop.local": {"provider": {"virtualRouter": {"virtualRouterName": "db"}}},
            "cache.shop.local": {"provider": {"virtualNode": {"virtualNodeName": "cache"}}},
            "green.shop.local": {"provider": {"virtualNode": {"virtualNodeName": "green"}}},
            "later.shop.local": {},
        },
        routers={
            "colors": {"listeners": [listener(80)]},
            "orders": {"listeners": [listener(50051, "grpc")]},
            "db": {"listeners": [listener(5432, "tcp")]},
        },
        routes={
            "colors": {
                "all": {"httpRoute": {"match": {"prefix": "/"}, "action": targets(blue=90, green=10)}},
                "beta": {
                    "priority": 1,
                    "httpRoute": {
                        "match": {
                            "prefix": "/c",
                            "method": "GET",
                            "headers": [
                                {"name": "beta", "match": {"exact": "yes"}},
                                {"name": "age", "match": {"range": {"start": 1, "end": 9}}, "invert": True},
                            ],
                            "queryParameters": [{"name": "q", "match": {"exact": "1"}}],
                        },
                        "action": targets(green=1),
                        "retryPolicy": retry,
                        "timeout": {"perRequest": {"value": 2, "unit": "s"}, "idle": second},
                    },
                },
                "exact": {"httpRoute": {"match": {"path": {"exact": "/red"}}, "action": targets(red=1)}},
                "regex": {"httpRoute": {"match": {"path": {"regex": "/v[0-9]+/.*"}}, "action": targets(blue=1)}},
            },
            "db": {"all": {"tcpRoute": {"action": targets(db=3, cache=1), "timeout": {"idle": second}}}},
            "orders": {
                "place": {
                    "grpcRoute": {
                        "match": {"serviceName": "shop.Orders", "methodName": "Place", "metadata": [{"name": "vip"}]},
                        "action": targets(orders=1),
                        "retryPolicy": {
                            "grpcRetryEvents": ["unavailable", "cancelled"],
                            "maxRetries": 1,
                            "perRetryTimeout": second,
                        },
                    }
                },
            },
        },
        gateways={
            "entry": {
                "listeners": [
                    listener(8088, connectionPool={"http": {"maxConnections": 50}}),
                    listener(
                        8443,
                        "grpc",
                        connectionPool={"grpc": {"maxRequests": 9}},
                        tls={"mode": "PERMISSIVE", "certificate": _sds("orders"), "validation": trust},
                    ),
                ],
                "backendDefaults": {"clientPolicy": {"tls": {"enforce": False, "validation": trust}}},
                "logging": {"accessLog": {"file": {"path": "/dev/stdout"}}},
            }
        },
        gateway_routes={
            "entry": {
                "colors": {"httpRoute": {"match": {"prefix": "/colors"}, "action": _to("colors.shop.local")}},
                "kept": {
                    "httpRoute": {
                        "match": {"prefix": "/", "hostname": {"suffix": ".example.com"}},
                        "action": {
                            **_to("green.shop.local"),
                            "rewrite": {"hostname": {"defaultTargetHostname": "DISABLED"}},
                        },
                    }
                },
                "one": {
                    "priority": 3,
                    "httpRoute": {
                        "match": {"path": {"exact": "/one"}},
                        "action": {**_to("colors.shop.local"), "rewrite": {"path": {"exact": "/two"}}},
                    },
                },
                "place": {"grpcRoute": {"match": {"serviceName": "shop.Orders"}, "action": _to("orders.shop.local")}},
                "port": {"httpRoute": {"match": {"port": 8088}, "action": _to("db-routed.shop.local")}},
                "lost": {"httpRoute": {"match": {"prefix": "/lost"}, "action": _to("later.shop.local")}},
            }
        },
    )


def _to(service: str) -> dict[str, Any]:
    return {"target": {"virtualService": {"virtualServiceName": service}}}


def _sds(name: str) -> dict[str, Any]:
    return {"sds": {"secretName": name}}


FOUND = Found(
    endpoints={"blue": ["10.0.0.1", "10.0.0.2"], "green": ["10.0.0.3"]},
    certificates={"arn:aws:acm:x:1:certificate/g": _PEM, "orders": _PEM},
    authority=_PEM[0],
)
PROXY = Proxy(
    *(15000, 15001, ("127.0.0.2", 53)),
    stdout="/tmp/lines",
    admin_port=9901,
    admin_log="/dev/stdout",
    files={"/keys": "/srv/keys"},
)


_NAMES = ["front", "green", "orders", "db", "cache", "entry"]


@pytest.mark.parametrize("name", _NAMES)
def test_golden(name: str) -> None:
    made = (gateway_snapshot if name == "entry" else node_snapshot)(shop(), name, FOUND, PROXY)
    made.check()
    _check_golden(name, json.loads(json.dumps(dataclasses.asdict(made))))


def test_golden_of_tracing() -> None:
    """What is traced: all that carries HTTP, in and out, and nothing else differs."""
    proxy = dataclasses.replace(PROXY, tracer=Xray("shop", "front", "shop/front"))
    traced = {}
    for name, make in (("front", node_snapshot), ("entry", gateway_snapshot)):
        made = make(shop(), name, FOUND, proxy)
        made.check()
        for place, listener in made.listeners.items():
            for number, chain in enumerate(listener["filter_chains"]):
                manager = chain["filters"][-1]["typed_config"]
                if "tracing" in manager:
                    traced[f"{name} {place} {number}"] = manager["tracing"]
    _check_golden("traced", traced)


def _check_golden(name: str, document: object) -> None:
    file = _GOLDEN / f"appmesh_{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    assert document == json.loads(file.read_text())


def test_golden_of_a_node_that_calls_nobody_where_all_else_is_dropped() -> None:
    made = node_snapshot(dataclasses.replace(shop(), spec={}), "db", FOUND, Proxy())
    _check_golden("alone", json.loads(json.dumps(dataclasses.asdict(made))))


def test_golden_of_what_waits_for_its_node() -> None:
    _check_golden("waiting", json.loads(json.dumps(dataclasses.asdict(waiting_snapshot(PROXY)))))


def test_a_mesh_that_drops_lets_nothing_else_out() -> None:
    world = dataclasses.replace(shop(), spec={})
    made = node_snapshot(world, "front", FOUND, PROXY)
    (egress,) = (one for name, one in made.listeners.items() if "egress" in name)
    assert "default_filter_chain" not in egress
    assert not any("passthrough" in name for name in made.clusters)
    assert [host["domains"] for host in made.routes["rds_egress_http_80"]["virtual_hosts"]] == [
        ["colors.shop.local"],
        ["*.amazonaws.com"],
    ]
    (aws,) = (one for one in egress["filter_chains"] if "server_names" in one["filter_chain_match"])
    assert aws["filter_chain_match"] == {"destination_port": 443, "server_names": ["*.amazonaws.com"]}


def test_what_acm_gives_a_node_is_verified_without_a_policy_too() -> None:
    arn = "arn:aws:acm:x:1:certificate/g"
    tls = {"mode": "STRICT", "certificate": {"acm": {"certificateArn": arn}}}
    nodes = {
        "a": {"listeners": [listener(80, tls=tls)], "serviceDiscovery": dns("a.local")},
        "b": {"backends": backends("a.local")},
    }
    services = {"a.local": {"provider": {"virtualNode": {"virtualNodeName": "a"}}}}
    made = node_snapshot(World("shop", {}, nodes, services), "b", Found(roots={arn: _PEM[0]}), Proxy())
    validated = made.secrets[f"trust:offered:{arn}"]["validation_context"]
    assert validated["trusted_ca"] == {"inline_string": _PEM[0]}
    assert validated["match_typed_subject_alt_names"][0] == {"san_type": "DNS", "matcher": {"exact": "a.local"}}
    context = made.clusters["cds_egress_shop_a_http_80"]["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["validation_context_sds_secret_config"]["name"] == f"trust:offered:{arn}"


def test_a_load_balancer_is_found_by_its_address() -> None:
    """Envoy's resolver has every name under localhost for this machine itself."""
    nodes = {
        "a": {"listeners": [listener(80)], "serviceDiscovery": dns("internal-a.elb.localhost")},
        "b": {"backends": backends("a.local")},
    }
    services = {"a.local": {"provider": {"virtualNode": {"virtualNodeName": "a"}}}}
    world = World("shop", {}, nodes, services)
    made = node_snapshot(world, "b", Found(endpoints={"a": ["127.64.0.9"]}), Proxy())
    assert made.clusters["cds_egress_shop_a_http_80"]["type"] == "EDS"
    (group,) = made.endpoints["cds_egress_shop_a_http_80"]["endpoints"]
    address = group["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "127.64.0.9", "port_value": 80}


@pytest.mark.parametrize(("of_mesh", "address"), [("", "0.0.0.0"), ("IPv4_ONLY", "::")])
def test_where_envoy_listens(of_mesh: str, address: str) -> None:
    spec = {"serviceDiscovery": {"ipPreference": of_mesh}} if of_mesh else {}
    nodes = {"a": {"listeners": [listener(80)], "serviceDiscovery": dns("a.local")}}
    world = World("shop", spec, nodes, gateways={"in": {"listeners": [listener(88)]}})
    made = node_snapshot(world, "a", Found(), Proxy()).listeners
    made |= gateway_snapshot(world, "in", Found(), Proxy()).listeners
    assert made.keys() == {
        f"lds_{name}"
        for name in (f"ingress_{address}_15000", f"egress_{address}_15001", f"ingress_{address}_88", "egress_gateway")
    }
    assert all(
        one["address"]["socket_address"].get("ipv4_compat", False) is (address == "::")
        for one in made.values()
        if "address" in one
    )
    node_snapshot(world, "a", Found(), Proxy(ipv6=False)).listeners["lds_ingress_0.0.0.0_15000"]


@pytest.mark.parametrize(
    ("of_node", "of_mesh", "asked"),
    [
        ("", "", "127.0.0.1"),
        ("IPv4_PREFERRED", "IPv6_ONLY", "127.0.0.1"),
        ("", "IPv6_ONLY", "::1"),
        ("IPv6_PREFERRED", "IPv4_ONLY", "::1"),
    ],
)
def test_the_application_is_asked_at_one_address_by_preference(of_node: str, of_mesh: str, asked: str) -> None:
    discovery = dns("a.shop.local", **({"ipPreference": of_node} if of_node else {}))
    spec = {"serviceDiscovery": {"ipPreference": of_mesh}} if of_mesh else {}
    world = World("shop", spec, {"a": {"listeners": [listener(80)], "serviceDiscovery": discovery}})
    made = node_snapshot(world, "a", Found(), Proxy()).clusters["cds_ingress_shop_a_http_80"]
    [endpoint] = made["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"]["address"] == asked


def test_a_certificate_that_is_missing_is_named() -> None:
    with pytest.raises(MaterialMissing, match="certificate/g"):
        node_snapshot(shop(), "green", dataclasses.replace(FOUND, certificates={}), PROXY)


@pytest.mark.parametrize("name", _NAMES)
async def test_envoy_takes_all_of_it(name: str, tmp_path: Path) -> None:
    """Golden files say that nothing has changed; Envoy itself says that it is right."""
    try:
        binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    from cloudlet.services.acm.authority import Authority

    authority = Authority(tmp_path / "authority")
    pem = authority.issue(["green.example"], "EC_prime256v1", 1.7e9)
    for file, text in (("ca.pem", authority.pem(1.7e9)), ("front.pem", pem[0]), ("front.key", pem[1])):
        (tmp_path / file).write_text(text)
    found = dataclasses.replace(FOUND, certificates=dict.fromkeys(FOUND.certificates, pem), authority=pem[0])
    base = 20000 + os.getpid() % 20000
    proxy = dataclasses.replace(
        PROXY,
        ingress_port=base,
        egress_port=base + 1,
        admin_port=base + 2,
        stdout=str(tmp_path / "lines"),
        files={"/keys": str(tmp_path), "/logs": str(tmp_path)},
    )
    world = shop()
    for number, one in enumerate(world.gateways["entry"]["listeners"]):
        one["portMapping"]["port"] = base + 3 + number
    made: Snapshot = (gateway_snapshot if name == "entry" else node_snapshot)(world, name, found, proxy)
    supervisor = Supervisor(new_cloud_id())
    envoy = Envoy(supervisor, tmp_path / "envoy", name, bootstrap=BOOTSTRAP)
    await envoy.start()
    try:
        await envoy.publish(made)
        stats: dict[str, Any] = {}
        for _ in range(100):
            stats = await envoy.stats("update_rejected|update_success|total_listeners_active|listener_create")
            if stats["listener_manager.total_listeners_active"] == len(made.listeners):
                break
            await asyncio.sleep(0.05)
        log = (tmp_path / "envoy" / "log").read_text()
        assert not [key for key, value in stats.items() if key.endswith("update_rejected") and value], log
        assert stats["listener_manager.total_listeners_active"] == len(made.listeners), log
    finally:
        await supervisor.stop_all()
