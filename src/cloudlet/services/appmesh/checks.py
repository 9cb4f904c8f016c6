"""What a specification may say, beyond what the model of the API does, and what may not be deleted yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.appmesh.base import Check, Parts
from cloudlet.services.appmesh.records import (
    GATEWAY_ROUTE,
    KINDS,
    MESH,
    ROUTE,
    ROUTE_TYPES,
    VIRTUAL_GATEWAY,
    VIRTUAL_NODE,
    VIRTUAL_ROUTER,
    VIRTUAL_SERVICE,
    Kind,
    Part,
)

# Members of which exactly one says what is meant, wherever they are.
_UNIONS = ("certificate", "trust", "connectionPool", "accessLog", "format")
# What App Mesh keeps for itself.
_RESERVED_PREFIXES = ("/aws-appmesh", "/aws-app-mesh")
_RESERVED_SERVICES = ("aws.appmesh", "aws.app-mesh")
_HTTP_RETRY_EVENTS = frozenset(("server-error", "gateway-error", "client-error", "stream-error"))


def _bad(message: str) -> AwsError:
    return AwsError("BadRequestException", message)


def _nothing(parts: Parts, part: Part) -> None:
    """A mesh needs nothing, and routes are needed by nobody."""


def _virtual_node(parts: Parts, part: Part) -> None:
    spec = part.spec
    listeners = spec.get("listeners", [])
    if listeners and "serviceDiscovery" not in spec:
        raise _bad("Service discovery is required when a listener is specified")
    if not listeners and "serviceDiscovery" in spec:
        raise _bad("Service Discovery can't be set without a listener.")
    _only_one(spec, "serviceDiscovery")
    _listeners(listeners)
    _unions(spec)
    _policies(spec)
    if len(listeners) > 1:
        _all_say_port(
            part, [route for route in parts.list(ROUTE) if any(_vague(target, part.name) for target in _targets(route))]
        )
    names = [backend["virtualService"]["virtualServiceName"] for backend in spec.get("backends", [])]
    if len(names) != len(set(names)):
        raise _bad("Backends must have unique virtual service names")
    if not spec.get("serviceDiscovery", {}).get("dns", {"hostname": "x"})["hostname"]:
        raise _bad("DNS hostname must not be empty")


def _listeners(listeners: list[dict[str, Any]]) -> None:
    ports = [listener["portMapping"]["port"] for listener in listeners]
    if len(ports) != len(set(ports)):
        raise _bad("Listeners must have unique ports")
    for listener in listeners:
        protocol = listener["portMapping"]["protocol"]
        for member in ("connectionPool", "timeout"):
            _only_one(listener, member)
            if member in listener and protocol not in listener[member]:
                raise _bad(f"The protocol of {member} must be that of the listener's port mapping: {protocol}")
        check = listener.get("healthCheck")
        if check is not None and check["protocol"] in ("http", "http2") and not check.get("path"):
            raise _bad("Health check path is required for protocols http and http2")
        if check is not None and check.get("port", listener["portMapping"]["port"]) != listener["portMapping"]["port"]:
            raise _bad("Health check port must match the port of the listener's port mapping")
        if check is not None and check["timeoutMillis"] > check["intervalMillis"]:
            raise _bad("Health check timeout must not be greater than the interval")


def _virtual_service(parts: Parts, part: Part) -> None:
    """Its provider is there. Raises NotFoundException."""
    provider = part.spec.get("provider", {})
    if len(provider) > 1:
        raise _bad("Exactly one of virtualNode and virtualRouter must be specified in provider")
    if "virtualNode" in provider:
        parts.need(VIRTUAL_NODE, provider["virtualNode"]["virtualNodeName"])
    if "virtualRouter" in provider:
        parts.need(VIRTUAL_ROUTER, provider["virtualRouter"]["virtualRouterName"])


def _virtual_router(parts: Parts, part: Part) -> None:
    """With several listeners each of its routes names its port."""
    listeners = part.spec.get("listeners", [])
    _listeners(listeners)
    if len(listeners) > 1:
        _all_say_port(part, [route for route in parts.list(ROUTE, part.name) if "port" not in _match(route)])


def _route(parts: Parts, part: Part) -> None:
    """Its targets need not be there yet: traffic follows once they are."""
    kind, body = _body(part.spec)
    match = body.get("match", {})
    if kind in ("httpRoute", "http2Route"):
        _http_match(match)
    if kind == "grpcRoute" and "methodName" in match and "serviceName" not in match:
        raise _bad("If you specify a method name, you must also specify a service name")
    _matchers(match)
    for target in _targets(part):
        node = parts.get(VIRTUAL_NODE, target["virtualNode"])
        if node is not None and len(node.spec.get("listeners", [])) > 1 and "port" not in target:
            raise _bad(
                f"Weighted target {node.name} must define a port because the Virtual Node has multiple listeners"
            )
    router = parts.get(VIRTUAL_ROUTER, part.parent)
    listeners = router.spec.get("listeners", []) if router else []
    if len(listeners) > 1 and "port" not in match:
        raise _bad("Route must define a port match criteria if the Virtual Router has multiple listeners")
    if retries := body.get("retryPolicy"):
        events = retries.get("httpRetryEvents", [])
        if not events and not retries.get("tcpRetryEvents") and not retries.get("grpcRetryEvents"):
            raise _bad("Retry policy must specify at least one retry event")
        if wrong := [event for event in events if event not in _HTTP_RETRY_EVENTS]:
            raise _bad(f"Invalid HTTP retry event: {wrong[0]}")


def _gateway_route(parts: Parts, part: Part) -> None:
    kind, body = _body(part.spec)
    match = body["match"]
    if kind != "grpcRoute":
        _http_match(match)
        rewrite = body["action"].get("rewrite", {})
        if "path" in rewrite and "prefix" in rewrite:
            raise _bad("Only one of path and prefix can be rewritten")
        if "path" in rewrite and "prefix" in match:
            raise _bad("A path rewrite needs a path match")
        if "prefix" in rewrite and "path" in match:
            raise _bad("A prefix rewrite needs a prefix match")
    elif not match:
        raise _bad("At least one match criteria must be specified")
    if match.get("prefix", "").startswith(_RESERVED_PREFIXES):
        raise _bad(f"Prefixes that start with {' or '.join(_RESERVED_PREFIXES)} are reserved")
    if match.get("serviceName", "").startswith(_RESERVED_SERVICES):
        raise _bad(f"Service names that start with {' or '.join(_RESERVED_SERVICES)} are reserved")
    _matchers(match)
    gateway = parts.get(VIRTUAL_GATEWAY, part.parent)
    if gateway is not None and len(gateway.spec["listeners"]) > 1 and "port" not in match:
        raise _bad("Gateway Route must define a port match criteria if the Virtual Gateway has multiple listeners")
    target = body["action"]["target"]
    service = parts.get(VIRTUAL_SERVICE, target["virtualService"]["virtualServiceName"])
    if "port" not in target and service is not None and _listens_often(parts, service):
        raise _bad("Target must define a port if the provider of the Virtual Service has multiple listeners")


def _virtual_gateway(parts: Parts, part: Part) -> None:
    if not part.spec["listeners"]:
        raise _bad("A virtual gateway must have at least one listener")
    _listeners(part.spec["listeners"])
    _unions(part.spec)
    _policies(part.spec)
    if len(part.spec["listeners"]) > 1:
        _all_say_port(part, [one for one in parts.list(GATEWAY_ROUTE, part.name) if "port" not in _match(one)])


def _mesh_unused(parts: Parts, part: Part) -> None:
    """Not while a mesh has parts."""
    for kind in (VIRTUAL_NODE, VIRTUAL_SERVICE, VIRTUAL_ROUTER, VIRTUAL_GATEWAY):
        if parts.list(kind):
            raise _in_use(
                f"Mesh {part.name} for account {part.owner} has active {kind.label}s, "
                f"please delete {kind.label}s before deleting the Mesh"
            )


def _virtual_node_unused(parts: Parts, part: Part) -> None:
    """Not while a service or a route leads to a node."""
    _no_provider(parts, part, "virtualNode")
    users = [
        route.name
        for route in parts.list(ROUTE)
        if any(target["virtualNode"] == part.name for target in _body(route.spec)[1]["action"]["weightedTargets"])
    ]
    _unreferenced(part, "ROUTE", users)


def _virtual_router_unused(parts: Parts, part: Part) -> None:
    """Not while a router has routes or provides a service."""
    _no_provider(parts, part, "virtualRouter")
    if parts.list(ROUTE, part.name):
        raise _in_use(
            f"VirtualRouter {part.name} has active Routes, please delete Routes before deleting the VirtualRouter"
        )


def _virtual_service_unused(parts: Parts, part: Part) -> None:
    """Not while a gateway route leads to a service."""
    users = [
        route.name
        for route in parts.list(GATEWAY_ROUTE)
        if _body(route.spec)[1]["action"]["target"]["virtualService"]["virtualServiceName"] == part.name
    ]
    _unreferenced(part, "GATEWAY_ROUTE", users)


def _virtual_gateway_unused(parts: Parts, part: Part) -> None:
    """Not while a gateway has routes."""
    if parts.list(GATEWAY_ROUTE, part.name):
        raise _in_use(
            f"VirtualGateway {part.name} has active GatewayRoutes, "
            "please delete GatewayRoutes before deleting the VirtualGateway"
        )


def _no_provider(parts: Parts, part: Part, member: str) -> None:
    for service in parts.list(VIRTUAL_SERVICE):
        if service.spec.get("provider", {}).get(member, {}).get(f"{member}Name") == part.name:
            label = member[0].upper() + member[1:]
            raise _in_use(f"{label} with name {part.name} cannot be deleted because it is a VirtualService provider")


def _unreferenced(part: Part, kind: str, users: list[str]) -> None:
    if users:
        label = part.kind[0].upper() + part.kind[1:]
        raise _in_use(f"{label} {part.name} is being referenced in the following: {kind}: [{', '.join(users)}]")


def _in_use(message: str) -> AwsError:
    return AwsError("ResourceInUseException", message)


def _body(spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The one type of a route that a specification has, and what it says."""
    kinds = [kind for kind in ROUTE_TYPES if kind in spec]
    if len(kinds) != 1:
        raise _bad(f"Exactly one of {', '.join(ROUTE_TYPES)} must be specified")
    return kinds[0], {"match": {}, **spec[kinds[0]]}


def _match(route: Part) -> dict[str, Any]:
    match: dict[str, Any] = _body(route.spec)[1]["match"]
    return match


def _targets(route: Part) -> list[dict[str, Any]]:
    targets: list[dict[str, Any]] = _body(route.spec)[1]["action"]["weightedTargets"]
    return targets


def _vague(target: dict[str, Any], node: str) -> bool:
    return target["virtualNode"] == node and "port" not in target


def _listens_often(parts: Parts, service: Part) -> bool:
    """Whether the provider of a service has several listeners."""
    provider = service.spec.get("provider", {})
    found = None
    if "virtualNode" in provider:
        found = parts.get(VIRTUAL_NODE, provider["virtualNode"]["virtualNodeName"])
    if "virtualRouter" in provider:
        found = parts.get(VIRTUAL_ROUTER, provider["virtualRouter"]["virtualRouterName"])
    return found is not None and len(found.spec.get("listeners", [])) > 1


def _all_say_port(part: Part, lost: list[Part]) -> None:
    """Raises BadRequestException for routes that do not say which of several listeners they mean."""
    if not lost:
        return
    label, kind = re.sub("(?=[A-Z])", " ", part.kind).title(), KINDS[lost[0].kind].label
    what = "a target port" if part.kind == VIRTUAL_NODE.name else "a port match"
    raise _bad(
        f"All {kind}s for this {label} must define {what} before adding multiple listeners to this {label}. "
        f"{len(lost)} {kind}(s) are missing port. Listing up to 5 route names: "
        f"[{', '.join(one.name for one in lost[:5])}]"
    )


def _only_one(owner: dict[str, Any], member: str) -> None:
    if member in owner and len(owner[member]) != 1:
        raise _bad(f"Exactly one member of {member} must be specified")


def _unions(spec: Any) -> None:
    """Raises BadRequestException where a member says two things, or none."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name in _UNIONS:
                _only_one(spec, name)
            _unions(value)
    elif isinstance(spec, list):
        for one in spec:
            _unions(one)


def _policies(spec: dict[str, Any]) -> None:
    """A policy that enforces TLS names whom it trusts in full."""
    backends = [backend["virtualService"] for backend in spec.get("backends", [])]
    for of in (spec.get("backendDefaults", {}), *backends):
        tls = of.get("clientPolicy", {}).get("tls", {})
        names = tls.get("validation", {}).get("subjectAlternativeNames", {}).get("match", {}).get("exact", [])
        if tls.get("enforce", True) and any("*" in name for name in names):
            raise _bad("Subject alternative names with wildcards need a client policy that does not enforce TLS")


def _http_match(match: dict[str, Any]) -> None:
    both, neither = match.keys() >= {"prefix", "path"}, not match.keys() & {"prefix", "path"}
    if both or (neither and not match.get("port") and not match.get("hostname")):
        raise _bad("Exactly one of prefix and path must be specified in match")
    if "path" in match and len(match["path"]) != 1:
        raise _bad("Exactly one of exact and regex must be specified in match.path")
    for path in (match.get("prefix"), match.get("path", {}).get("exact")):
        if path is not None and not path.startswith("/"):
            raise _bad("Path match must start with /")


def _matchers(match: dict[str, Any]) -> None:
    for regex in _regexes(match):
        try:
            re.compile(regex)
        except re.error as error:
            raise _bad(f"Invalid regular expression {regex}: {error}") from None
    for header in [*match.get("headers", []), *match.get("metadata", [])]:
        bounds = header.get("match", {}).get("range")
        if bounds and bounds["start"] >= bounds["end"]:
            raise _bad("The start of a range must be less than its end")
        _only_one(header, "match")
    hostname = match.get("hostname")
    if hostname is not None and len(hostname) != 1:
        raise _bad("Exactly one of exact and suffix must be specified in match.hostname")


def _regexes(match: Any) -> Iterator[str]:
    if isinstance(match, dict):
        for key, value in match.items():
            if key == "regex":
                yield value
            else:
                yield from _regexes(value)
    elif isinstance(match, list):
        for one in match:
            yield from _regexes(one)


# What a part must be. Raises BadRequestException, and NotFoundException where it needs another part.
VALID: dict[Kind, Check] = {
    MESH: _nothing,
    VIRTUAL_NODE: _virtual_node,
    VIRTUAL_SERVICE: _virtual_service,
    VIRTUAL_ROUTER: _virtual_router,
    ROUTE: _route,
    VIRTUAL_GATEWAY: _virtual_gateway,
    GATEWAY_ROUTE: _gateway_route,
}

# What a part must be before it can go. Raises ResourceInUseException.
UNUSED: dict[Kind, Check] = {
    MESH: _mesh_unused,
    VIRTUAL_NODE: _virtual_node_unused,
    VIRTUAL_SERVICE: _virtual_service_unused,
    VIRTUAL_ROUTER: _virtual_router_unused,
    ROUTE: _nothing,
    VIRTUAL_GATEWAY: _virtual_gateway_unused,
    GATEWAY_ROUTE: _nothing,
}
