"""From a mesh to what one Envoy carries: pure functions, judged by golden files."""

from __future__ import annotations

from collections.abc import Sequence

from cloudlet.engines.proxies.folder import ADMIN_SOCKET
from cloudlet.mesh.access_logs import file_log, stdout_log
from cloudlet.mesh.listeners import filter_chain, http_manager, listener, tcp_proxy, tls_inspector
from cloudlet.mesh.routes import route_configuration, virtual_host
from cloudlet.mesh.snapshot import Resource, Snapshot
from cloudlet.mesh.typed import seconds
from cloudlet.services.appmesh.egress import Egress, Outlet, backend_policies
from cloudlet.services.appmesh.gateway import gateway_side
from cloudlet.services.appmesh.ingress import ingress, original_destination, pool_limits
from cloudlet.services.appmesh.security import Secrets
from cloudlet.services.appmesh.world import MAY_MOVE, NORMALIZED, Found, Proxy, Spec, World, listens_on

# Where a mesh that drops everything else lets traffic go: to the APIs of AWS.
_AWS = ["*.amazonaws.com"]
_HTTPS = 443


def node_snapshot(world: World, node: str, found: Found, proxy: Proxy) -> Snapshot:
    """What the sidecar of a virtual node carries. Raises MaterialMissing."""
    spec = world.nodes[node]
    into, secrets = Snapshot(), Secrets(found, proxy)
    logs = access_logs(spec, proxy)
    ingress(world, node, proxy, secrets, logs, into)
    default = spec.get("backendDefaults", {}).get("clientPolicy", {})
    egress = Egress(world, proxy, secrets, into, default)
    outlets = [
        outlet for service, policy in backend_policies(spec).items() for outlet in egress.outlets(service, policy)
    ]
    _outbound(world, listens_on(world, spec, proxy), outlets, proxy, logs, into)
    _admin(proxy, into)
    into.secrets.update(secrets.made)
    return into


def gateway_snapshot(world: World, gateway: str, found: Found, proxy: Proxy) -> Snapshot:
    """What the Envoy of a virtual gateway carries. Raises MaterialMissing."""
    spec = world.gateways[gateway]
    into, secrets = Snapshot(), Secrets(found, proxy)
    default = spec.get("backendDefaults", {}).get("clientPolicy", {})
    egress = Egress(world, proxy, secrets, into, default)
    gateway_side(world, gateway, egress, access_logs(spec, proxy), into)
    _admin(proxy, into)
    into.secrets.update(secrets.made)
    return into


def waiting_snapshot(proxy: Proxy) -> Snapshot:
    """What an Envoy carries whose node or gateway is not there yet: its admin port, where health checks ask."""
    into = Snapshot()
    _admin(proxy, into)
    return into


def access_logs(spec: Spec, proxy: Proxy) -> list[Resource]:
    """The access log of a node or gateway, if it has one."""
    file = spec.get("logging", {}).get("accessLog", {}).get("file")
    if file is None:
        return []
    format = file.get("format", {})
    if "json" in format:
        return [_log(file["path"], proxy, {pair["key"]: pair["value"] for pair in format["json"]})]
    text = format.get("text", "")
    return [_log(file["path"], proxy, text if not text or text.endswith("\n") else text + "\n")]


def _log(path: str, proxy: Proxy, format: str | dict[str, str] = "") -> Resource:
    """A log at a path of the Envoy container."""
    if path not in ("/dev/stdout", "/dev/stderr"):
        return file_log(proxy.file(path), format)
    return file_log(proxy.stdout, format) if proxy.stdout else stdout_log(format)


def _outbound(
    world: World, address: str, outlets: Sequence[Outlet], proxy: Proxy, logs: Sequence[Resource], into: Snapshot
) -> None:
    """The outbound listener: a chain for each port of a backend, and the mesh's filter for all other traffic.

    HTTP on a port is told apart by its Host, so that services may share it; TCP is told apart by the port alone, and
    where both want one port HTTP has it.
    """
    allowed = world.spec.get("egressFilter", {}).get("type", "DROP_ALL") == "ALLOW_ALL"
    passthrough = f"cds_egress_{world.name}_{'mesh-allow-all' if allowed else 'amazonaws'}"
    into.clusters[passthrough] = {
        "name": passthrough,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": seconds(5.0),
        "circuit_breakers": pool_limits({}),
    }
    http_ports = sorted({outlet.port.port for outlet in outlets if outlet.routes})
    chains: list[Resource] = []
    for port in http_ports:
        name = f"rds_egress_http_{port}"
        hosts = [
            virtual_host(outlet.service, [outlet.service], outlet.routes)
            for outlet in outlets
            if outlet.port.port == port and outlet.routes
        ]
        through = {"match": {"prefix": "/"}, "route": {"cluster": passthrough, "timeout": "0s"}}
        hosts.append(virtual_host("passthrough", ["*"] if allowed else _AWS, [through]))
        into.routes[name] = route_configuration(name, hosts, ignore_port_in_host_matching=True)
        chain = filter_chain(
            [http_manager("egress", routes=name, silent=False, access_logs=logs, **NORMALIZED, **proxy.traced)]
        )
        # What is encrypted already is none of the mesh's: it is filtered like any other TCP.
        chain["filter_chain_match"] = {"destination_port": port, "transport_protocol": "raw_buffer"}
        chains.append(chain)
    taken = set(http_ports)
    for outlet in outlets:
        if outlet.clusters and outlet.port.port not in taken:
            taken.add(outlet.port.port)
            proxied = tcp_proxy("egress", outlet.clusters, idle_timeout=outlet.idle_timeout, access_logs=logs)
            chain = filter_chain([proxied])
            chain["filter_chain_match"] = {"destination_port": outlet.port.port}
            chains.append(chain)
    more: Resource = {"traffic_direction": "OUTBOUND", "continue_on_listener_filters_timeout": True}
    inspected = http_ports if allowed or _HTTPS in taken else [*http_ports, _HTTPS]
    more["listener_filters"] = [original_destination(), *([_inspector_of(inspected)] if inspected else [])]
    rest = filter_chain([tcp_proxy("egress", {passthrough: 1}, access_logs=logs)])
    if allowed:
        more["default_filter_chain"] = rest
    elif _HTTPS not in taken:
        chains.append({**rest, "filter_chain_match": {"destination_port": _HTTPS, "server_names": _AWS}})
    name = f"lds_egress_{address}_{proxy.egress_port}"
    into.listeners[name] = listener(name, address, proxy.egress_port, chains, **more, **MAY_MOVE)


def _admin(proxy: Proxy, into: Snapshot) -> None:
    """Envoy's admin interface on a port of the task, where App Mesh's own image has it."""
    if not proxy.admin_port:
        return
    address = {"endpoint": {"address": {"pipe": {"path": ADMIN_SOCKET}}}}
    into.clusters["admin"] = {
        **_nowhere("admin"),
        "load_assignment": {"cluster_name": "admin", "endpoints": [{"lb_endpoints": [address]}]},
    }
    everything = {"match": {"prefix": "/"}, "route": {"cluster": "admin", "timeout": "0s"}}
    into.routes["admin"] = route_configuration("admin", [virtual_host("admin", ["*"], [everything])])
    logs = [_log(proxy.admin_log, proxy)] if proxy.admin_log else []
    chain = filter_chain([http_manager("admin", routes="admin", access_logs=logs)])
    into.listeners["admin"] = listener("admin", "::" if proxy.admin_ipv6 else "0.0.0.0", proxy.admin_port, [chain])


def _nowhere(name: str) -> Resource:
    return {"name": name, "type": "STATIC", "connect_timeout": seconds(1.0)}


def _inspector_of(ports: Sequence[int]) -> Resource:
    """Look for TLS on the ports of HTTP only: elsewhere the server may be the first to speak."""
    ranges: list[Resource] = [{"destination_port_range": {"start": port, "end": port + 1}} for port in ports]
    where = ranges[0] if len(ranges) == 1 else {"or_match": {"rules": ranges}}
    return {**tls_inspector(), "filter_disabled": {"not_match": where}}
