"""What goes out: the backends of a node or gateway as routes, clusters and endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cloudlet.mesh.clusters import assignment, cluster, endpoint, outlier_detection, socket_address
from cloudlet.mesh.health_checks import grpc_check, health_check, http_check
from cloudlet.mesh.routes import destination
from cloudlet.mesh.snapshot import Resource, Snapshot
from cloudlet.mesh.typed import extension, seconds
from cloudlet.services.appmesh.ingress import pool_limits
from cloudlet.services.appmesh.matching import grpc_match, http_match, precedence, retries, timeouts
from cloudlet.services.appmesh.records import ROUTE_TYPES
from cloudlet.services.appmesh.security import Secrets
from cloudlet.services.appmesh.world import HTTP2, Port, Proxy, Spec, World, ports_of, preference_of, seconds_of

_FAMILIES = {
    "": "AUTO",
    "IPv4_ONLY": "V4_ONLY",
    "IPv6_ONLY": "V6_ONLY",
    "IPv4_PREFERRED": "V4_PREFERRED",
    "IPv6_PREFERRED": "AUTO",
}
# All of a node's endpoints get traffic when fewer than so many per cent are healthy: App Mesh leaves it to Envoy.
_PANIC = 50


class Outlet(NamedTuple):
    """A virtual service on one port: routes of HTTP in their order, or weighted clusters and a timeout of TCP."""

    service: str
    port: Port
    routes: list[Resource]
    clusters: dict[str, int]
    idle_timeout: str


@dataclass(slots=True)
class Egress:
    """Expands virtual services; the clusters that they need go into the snapshot."""

    world: World
    proxy: Proxy
    secrets: Secrets
    into: Snapshot
    default_policy: Spec

    def outlets(self, service: str, policy: Spec | None = None) -> Iterator[Outlet]:
        """The ports of a virtual service. None where it, its provider or all that it leads to is not there yet."""
        provider = self.world.services.get(service, {}).get("provider", {})
        if "virtualNode" in provider:
            node = provider["virtualNode"]["virtualNodeName"]
            for port in ports_of(self.world.nodes.get(node, {})):
                yield self._direct(service, node, port, policy)
        elif "virtualRouter" in provider:
            router = provider["virtualRouter"]["virtualRouterName"]
            for port in ports_of(self.world.routers.get(router, {})):
                if (outlet := self._routed(service, router, port, policy)) is not None:
                    yield outlet

    def _direct(self, service: str, node: str, port: Port, policy: Spec | None) -> Outlet:
        name = self._cluster(node, port, service, policy)
        if port.protocol == "tcp":
            return Outlet(service, port, [], {name: 1}, "")
        grpc = port.protocol == "grpc"
        action = {**destination({name: 1}), **timeouts(None), "retry_policy": retries(None, grpc)}
        return Outlet(service, port, [{"match": {"prefix": "/"}, "route": action}], {}, "")

    def _routed(self, service: str, router: str, port: Port, policy: Spec | None) -> Outlet | None:
        """A router's port: its routes of the port's protocol, which may go to other ports of the nodes."""
        kind = next(kind for kind, protocol in ROUTE_TYPES.items() if protocol == port.protocol)
        chosen = {
            name: spec
            for name, spec in self.world.routes.get(router, {}).items()
            if kind in spec and spec[kind].get("match", {}).get("port", port.port) == port.port
        }
        ordered = sorted(chosen.items(), key=lambda one: precedence(one[0], one[1], one[1][kind].get("match", {})))
        routes: list[Resource] = []
        for name, spec in ordered:
            body = spec[kind]
            targets = self._targets(service, body["action"]["weightedTargets"], port.protocol, policy)
            if kind == "tcpRoute":
                weighted = {cluster: weight for cluster, weight in targets.items() if weight}
                idle = seconds_of(body.get("timeout", {}).get("idle"))
                if weighted:
                    return Outlet(service, port, [], weighted, "" if idle is None else seconds(idle))
                continue
            match = body.get("match", {})
            made: Resource = {"name": name, "match": grpc_match(match) if kind == "grpcRoute" else http_match(match)}
            if sum(targets.values()):
                made["route"] = {
                    **destination(targets),
                    **timeouts(body.get("timeout")),
                    "retry_policy": retries(body.get("retryPolicy"), kind == "grpcRoute"),
                }
            else:
                made["direct_response"] = {"status": 503}
            routes.append(made)
        return Outlet(service, port, routes, {}, "") if routes else None

    def _targets(self, service: str, targets: list[Spec], protocol: str, policy: Spec | None) -> dict[str, int]:
        """Clusters by weight, of those targets that are there and speak the route's protocol."""
        found: dict[str, int] = {}
        for target in targets:
            for port in ports_of(self.world.nodes.get(target["virtualNode"], {})):
                if port.protocol == protocol and target.get("port", port.port) == port.port:
                    name = self._cluster(target["virtualNode"], port, service, policy)
                    found[name] = found.get(name, 0) + target["weight"]
                    break
        return found

    # Clusters

    def _cluster(self, node: str, port: Port, service: str, policy: Spec | None) -> str:
        """The cluster of a node's port. A backend with a client policy of its own has clusters of its own."""
        name = f"cds_egress_{self.world.name}_{node}_{port.protocol}_{port.port}"
        if policy is not None:
            name += f"_{service}"
        if name not in self.into.clusters:
            spec = self.world.nodes[node]
            listener = next(one for one in spec["listeners"] if one["portMapping"]["port"] == port.port)
            tls = self._tls(spec, listener, self.default_policy if policy is None else policy)
            self.into.clusters[name] = self._discovered(name, node, spec, listener, port, tls)
        return name

    def _tls(self, spec: Spec, listener: Spec, policy: Spec) -> Resource | None:
        """TLS towards a node: as the client's policy says for its port, else wherever the node offers it."""
        port = listener["portMapping"]["port"]
        http2 = listener["portMapping"]["protocol"] in HTTP2
        offer = listener.get("tls", {"mode": "DISABLED"})
        offered = offer["mode"] != "DISABLED"
        tls = policy.get("tls")
        if tls is not None and port in (tls.get("ports") or [port]):
            return self.secrets.client(tls, _name_of(spec), http2) if offered or tls.get("enforce", True) else None
        return self.secrets.offered(offer["certificate"], _name_of(spec), http2) if offered else None

    def _discovered(
        self, name: str, node: str, spec: Spec, listener: Spec, port: Port, tls: Resource | None
    ) -> Resource:
        discovery = spec.get("serviceDiscovery", {})
        ejected = listener.get("outlierDetection")
        made = cluster(
            name,
            connect_timeout=1.0,
            panic_threshold=_PANIC,
            http2=port.protocol in HTTP2,
            tls=tls,
            health_checks=[_health_check(listener["healthCheck"])] if "healthCheck" in listener else (),
            outlier_detection=_outliers(ejected) if ejected else None,
            circuit_breakers=pool_limits({}),
        )
        if "dns" in discovery and node not in self.secrets.found.endpoints:
            dns = discovery["dns"]
            single = dns.get("responseType", "LOADBALANCER") == "LOADBALANCER"
            made["type"] = "LOGICAL_DNS" if single else "STRICT_DNS"
            made["dns_lookup_family"] = _FAMILIES[preference_of(self.world, spec)]
            made["load_assignment"] = assignment(name, [endpoint(dns["hostname"], port.port)])
            if self.proxy.dns is not None:
                made["typed_dns_resolver_config"] = _resolver(*self.proxy.dns)
        else:
            addresses = self.secrets.found.endpoints.get(node, ())
            self.into.endpoints[name] = assignment(name, [endpoint(address, port.port) for address in addresses])
        return made


def backend_policies(spec: Spec) -> Mapping[str, Spec | None]:
    """The virtual services that a node names as backends, with their own client policies."""
    backends = [backend["virtualService"] for backend in spec.get("backends", [])]
    return {backend["virtualServiceName"]: backend.get("clientPolicy") for backend in backends}


def _name_of(spec: Spec) -> str:
    """The name that a node is discovered by, and that its certificate has."""
    discovery = spec.get("serviceDiscovery", {})
    if "dns" in discovery:
        return str(discovery["dns"]["hostname"])
    found = discovery.get("awsCloudMap")
    return f"{found['serviceName']}.{found['namespaceName']}" if found else ""


def _resolver(address: str, port: int) -> Resource:
    return extension(
        "envoy.network.dns_resolver.cares",
        "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        resolvers=[socket_address(address, port)],
        dns_resolver_options={"no_default_search_domain": True},
    )


def _outliers(spec: Spec) -> Resource:
    ejection = seconds_of(spec["baseEjectionDuration"]) or 0.0
    made = outlier_detection(
        errors=spec["maxServerErrors"],
        interval=seconds_of(spec["interval"]) or 1.0,
        ejection=ejection,
        percent=spec["maxEjectionPercent"],
    )
    made["max_ejection_time"] = seconds(max(300.0, ejection))
    return made


def _health_check(spec: Spec) -> Resource:
    protocol = spec["protocol"]
    return health_check(
        interval=spec["intervalMillis"] / 1000,
        timeout=spec["timeoutMillis"] / 1000,
        healthy=spec["healthyThreshold"],
        unhealthy=spec["unhealthyThreshold"],
        http=http_check(spec["path"], http2=protocol == "http2") if protocol in ("http", "http2") else None,
        grpc=grpc_check() if protocol == "grpc" else None,
    )
