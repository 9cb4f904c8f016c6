"""A virtual gateway: routes of the gateway choose a virtual service, whose own routes then choose where to go.

The two are joined by an internal listener of the same Envoy: the first pass names the service and its port in a header,
the second finds the service by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloudlet.mesh.clusters import http2_protocol
from cloudlet.mesh.listeners import filter_chain, http_manager, listener, tls_inspector
from cloudlet.mesh.routes import header, route_configuration, virtual_host
from cloudlet.mesh.snapshot import Resource, Snapshot
from cloudlet.mesh.typed import extension, seconds, typed
from cloudlet.services.appmesh.egress import Egress, Outlet
from cloudlet.services.appmesh.ingress import pool_limits
from cloudlet.services.appmesh.matching import grpc_match, http_match, precedence
from cloudlet.services.appmesh.records import ROUTE_TYPES
from cloudlet.services.appmesh.world import HTTP2, MAY_MOVE, NORMALIZED, Port, Spec, World, listens_on, ports_of

_SERVICE = "x-app-mesh-virtual-service"
_INNER = "lds_egress_gateway"

# To be given to the Envoy of a gateway when it starts.
BOOTSTRAP: Resource = {
    "bootstrap_extensions": [
        extension("envoy.bootstrap.internal_listener", "extensions.bootstrap.internal_listener.v3.InternalListener")
    ]
}


def gateway_side(world: World, gateway: str, egress: Egress, logs: Sequence[Resource], into: Snapshot) -> None:
    """Add both passes of a gateway."""
    routes = world.gateway_routes.get(gateway, {})
    services = {_target(spec)["virtualService"]["virtualServiceName"] for spec in routes.values()}
    outlets = [outlet for service in sorted(services) for outlet in egress.outlets(service) if outlet.routes]
    for port, one in zip(ports_of(world.gateways[gateway]), world.gateways[gateway].get("listeners", []), strict=True):
        _listen(world, gateway, port, one, routes, outlets, egress, logs, into)
    name = "rds_egress_gateway"
    hosts = [virtual_host(_host(outlet), [_host(outlet)], outlet.routes) for outlet in outlets]
    into.routes[name] = route_configuration(name, hosts, vhost_header=_SERVICE, request_headers_to_remove=[_SERVICE])
    into.listeners[_INNER] = {
        "name": _INNER,
        "internal_listener": {},
        "filter_chains": [filter_chain([http_manager("egress", routes=name, silent=False)])],
    }


def _listen(
    world: World,
    gateway: str,
    port: Port,
    spec: Spec,
    routes: Mapping[str, Spec],
    outlets: Sequence[Outlet],
    egress: Egress,
    logs: Sequence[Resource],
    into: Snapshot,
) -> None:
    """One listener, with the gateway's routes of its protocol and port."""
    inner = f"cds_ingress_{world.name}_{gateway}_self_redirect_{port.protocol}_{port.port}"
    pool = spec.get("connectionPool", {}).get(port.protocol, {})
    into.clusters[inner] = _inner_cluster(inner, port.protocol, pool)
    kind = next(kind for kind, protocol in ROUTE_TYPES.items() if protocol == port.protocol)
    chosen = [
        (name, route)
        for name, route in routes.items()
        if kind in route and route[kind]["match"].get("port", port.port) == port.port
    ]
    made: list[Resource] = []
    for name, route in sorted(chosen, key=lambda one: precedence(one[0], one[1], one[1][kind]["match"])):
        made += _route(name, kind, route[kind], inner, outlets)
    name = f"rds_ingress_{port.protocol}_{port.port}"
    into.routes[name] = route_configuration(name, [virtual_host("self_redirect", ["*"], made)])
    filters = [
        http_manager("ingress", routes=name, silent=False, access_logs=logs, **NORMALIZED, **egress.proxy.traced)
    ]
    mode = spec.get("tls", {}).get("mode", "DISABLED")
    chains = []
    if mode != "DISABLED":
        chain = filter_chain(filters, tls=egress.secrets.server(spec["tls"], port.protocol in HTTP2))
        if mode == "PERMISSIVE":
            chain["filter_chain_match"] = {"transport_protocol": "tls"}
        chains.append(chain)
    if mode != "STRICT":
        chains.append(filter_chain(filters))
    address = listens_on(world, {}, egress.proxy)
    listens = f"lds_ingress_{address}_{port.port}"
    made_listener = listener(listens, address, port.port, chains, traffic_direction="INBOUND", **MAY_MOVE)
    if mode == "PERMISSIVE":
        made_listener["listener_filters"] = [tls_inspector()]
    into.listeners[listens] = made_listener


def _route(name: str, kind: str, body: Spec, inner: str, outlets: Sequence[Outlet]) -> list[Resource]:
    """A gateway route: one route of Envoy, two where a prefix is taken off."""
    target = body["action"]["target"]
    service = target["virtualService"]["virtualServiceName"]
    outlet = next(
        (one for one in outlets if one.service == service and target.get("port", one.port.port) == one.port.port), None
    )
    match = grpc_match(body["match"]) if kind == "grpcRoute" else http_match(body["match"])
    if outlet is None:
        return [{"name": name, "match": match, "direct_response": {"status": 503}}]
    rewrite = body["action"].get("rewrite", {})
    # The inner route has a timeout; this one only passes on.
    action: Resource = {"cluster": inner, "timeout": "0s"}
    if rewrite.get("hostname", {}).get("defaultTargetHostname", "ENABLED") == "ENABLED":
        action["host_rewrite_literal"] = service
    headers = [header(_SERVICE, _host(outlet))]
    matched = body["match"].get("prefix")
    made = []
    if "path" in rewrite:
        exact = rewrite["path"]["exact"]
        action["regex_rewrite"] = {"pattern": {"regex": "^/.*$"}, "substitution": exact.replace("\\", "\\\\")}
    elif matched not in (None, "/") and "value" in rewrite.get("prefix", {}):
        action["prefix_rewrite"] = rewrite["prefix"]["value"]
    elif matched not in (None, "/") and rewrite.get("prefix", {}).get("defaultPrefix", "ENABLED") == "ENABLED":
        action["prefix_rewrite"] = "/"
        if not matched.endswith("/"):
            longer = {**match, "prefix": matched + "/"}
            made.append({"name": name, "match": longer, "route": action, "request_headers_to_add": headers})
    made.append({"name": name, "match": match, "route": action, "request_headers_to_add": headers})
    return made


def _inner_cluster(name: str, protocol: str, pool: Spec) -> Resource:
    address = {"address": {"envoy_internal_address": {"server_listener_name": _INNER}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(1.0),
        "circuit_breakers": pool_limits(pool),
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": address}]}],
        },
        "transport_socket": extension(
            "envoy.transport_sockets.internal_upstream",
            "extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
            transport_socket={
                "name": "envoy.transport_sockets.raw_buffer",
                "typed_config": typed("extensions.transport_sockets.raw_buffer.v3.RawBuffer"),
            },
        ),
        **(http2_protocol() if protocol in HTTP2 else {}),
    }


def _host(outlet: Outlet) -> str:
    return f"{outlet.service}:{outlet.port.port}"


def _target(spec: Spec) -> Spec:
    body = next(spec[kind] for kind in ROUTE_TYPES if kind in spec)
    target: Spec = body["action"]["target"]
    return target
