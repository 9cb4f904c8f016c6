"""What comes in: the listener that a task's incoming traffic is led to, and the cluster of its application."""

from __future__ import annotations

from collections.abc import Sequence

from cloudlet.mesh.clusters import assignment, circuit_breakers, endpoint, http2_protocol
from cloudlet.mesh.listeners import filter_chain, http_manager, listener, tcp_proxy, tls_inspector
from cloudlet.mesh.routes import route_configuration, virtual_host
from cloudlet.mesh.snapshot import Resource, Snapshot
from cloudlet.mesh.typed import extension, seconds
from cloudlet.services.appmesh.matching import timeouts
from cloudlet.services.appmesh.security import Secrets
from cloudlet.services.appmesh.world import HTTP2, MAY_MOVE, Proxy, Spec, World, listens_on, preference_of, seconds_of

_UNLIMITED = 2_147_483_647


def ingress(world: World, node: str, proxy: Proxy, secrets: Secrets, logs: Sequence[Resource], into: Snapshot) -> None:
    """Add the inbound side of a node; nothing where it has no listeners."""
    spec = world.nodes[node]
    local = "::1" if preference_of(world, spec).startswith("IPv6") else "127.0.0.1"
    chains: list[Resource] = []
    inspected = False
    for one in spec.get("listeners", []):
        port, protocol = one["portMapping"]["port"], one["portMapping"]["protocol"]
        name = f"cds_ingress_{world.name}_{node}_{protocol}_{port}"
        into.clusters[name] = _application(name, local, port, one)
        filters = _filters(name, port, protocol, one.get("timeout", {}).get(protocol), proxy, logs, into)
        mode = one.get("tls", {}).get("mode", "DISABLED")
        if mode != "DISABLED":
            tls = secrets.server(one["tls"], protocol in HTTP2)
            chain = filter_chain(filters, tls=tls)
            chain["filter_chain_match"] = {"destination_port": port}
            if mode == "PERMISSIVE":
                inspected = True
                chain["filter_chain_match"]["transport_protocol"] = "tls"
            chains.append(chain)
        if mode != "STRICT":
            chains.append({**filter_chain(filters), "filter_chain_match": {"destination_port": port}})
    if not chains:
        return
    address = listens_on(world, spec, proxy)
    name = f"lds_ingress_{address}_{proxy.ingress_port}"
    into.listeners[name] = listener(
        name,
        address,
        proxy.ingress_port,
        chains,
        **MAY_MOVE,
        traffic_direction="INBOUND",
        listener_filters=[original_destination(), *([tls_inspector()] if inspected else [])],
        **({"continue_on_listener_filters_timeout": True} if inspected else {}),
    )


def original_destination() -> Resource:
    """The listener filter that finds out where redirected traffic was going to."""
    return extension("envoy.filters.listener.original_dst", "extensions.filters.listener.original_dst.v3.OriginalDst")


def _application(name: str, address: str, port: int, spec: Spec) -> Resource:
    """The application beside this Envoy, with no more connections and requests than its listener says.

    It is asked at one loopback address only, as App Mesh does: that of IPv6 where this is preferred or wanted alone.
    """
    protocol = spec["portMapping"]["protocol"]
    pool = spec.get("connectionPool", {}).get(protocol, {})
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(1.0),
        "load_assignment": assignment(name, [endpoint(address, port)]),
        "circuit_breakers": pool_limits(pool),
        **(http2_protocol() if protocol in HTTP2 else {}),
    }


def pool_limits(pool: Spec) -> Resource:
    """A connection pool as Envoy's thresholds. What it does not limit has no limit, against Envoy's own defaults."""
    return circuit_breakers(
        connections=pool.get("maxConnections", _UNLIMITED),
        pending=pool.get("maxPendingRequests", _UNLIMITED),
        requests=pool.get("maxRequests", _UNLIMITED),
        retries=_UNLIMITED,
    )


def _filters(
    cluster: str,
    port: int,
    protocol: str,
    timeout: Spec | None,
    proxy: Proxy,
    logs: Sequence[Resource],
    into: Snapshot,
) -> list[Resource]:
    if protocol == "tcp":
        idle = seconds_of((timeout or {}).get("idle"))
        return [
            tcp_proxy("ingress", {cluster: 1}, idle_timeout="" if idle is None else seconds(idle), access_logs=logs)
        ]
    name = f"rds_ingress_{protocol}_{port}"
    everything = {"match": {"prefix": "/"}, "route": {"cluster": cluster, **timeouts(timeout)}}
    into.routes[name] = route_configuration(name, [virtual_host("application", ["*"], [everything])])
    return [http_manager("ingress", routes=name, silent=False, access_logs=logs, **proxy.traced)]
