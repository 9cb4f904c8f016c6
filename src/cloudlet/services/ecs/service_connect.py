"""Service Connect: what a service's configuration means for its tasks, and what their Envoys are told. Pure.

Each endpoint of a namespace has a name and an address of its own on a task's loopback, where the task's Envoy listens.
It balances over the Envoys of the tasks behind the endpoint, which pass on to their applications.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-connect.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cloudlet.errors import not_implemented
from cloudlet.mesh import Snapshot
from cloudlet.mesh.clusters import assignment, cluster, endpoint, outlier_detection, static_cluster
from cloudlet.mesh.listeners import filter_chain, http_manager, listener, tcp_proxy
from cloudlet.mesh.routes import destination, retry_policy, route_configuration, virtual_host
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.tls import certificate_secret, client_tls, server_tls, trust_secret
from cloudlet.mesh.typed import extension, seconds, typed
from cloudlet.services.ecs.base import invalid

# AWS's defaults, in seconds.
_PER_REQUEST, _IDLE_HTTP, _IDLE_TCP = 15, 300, 3600
_RETRIES = 2
_ERRORS, _WINDOW, _EJECTED = 5, 30, 30  # so many errors in a row take an endpoint out, for 30 to 300 seconds
_TABLE = "cloudlet_connect"
_FIRST_PORT = 15100  # of the Envoys' own, where a service says no other
_HTTP = ("http", "http2", "grpc")
_LINE = (
    '[%START_TIME%] "%REQ(:METHOD)% {path} %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% '
    '%DURATION% "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)
_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "{path}",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
}

_AUTHORITY = re.compile(r"arn:[\w-]+:acm-pca:[\w-]+:\d{12}:certificate-authority/[\w-]+")
_TLS13 = ("TLSv1_3", "TLSv1_3")  # AWS speaks no other version


class Place(NamedTuple):
    """Where a task's Envoy lets in; with TLS the name in its certificate, and the authority's ARN."""

    address: str
    port: int
    name: str = ""
    authority: str = ""


class Secrets(NamedTuple):
    """What an Envoy needs for TLS, in PEM."""

    certificates: Mapping[str, tuple[str, str]] = {}  # discovery name of its own endpoint -> chain and key
    trusted: Mapping[str, str] = {}  # an authority's ARN -> its certificate


_NO_SECRETS = Secrets()


def check(operation: str, configuration: dict[str, Any], definition: dict[str, Any]) -> None:
    """Raises InvalidParameterException for what AWS refuses, NotImplemented for what is not here."""
    for one in configuration.get("services") or ():
        authority = one.get("tls", {}).get("issuerCertificateAuthority", {}).get("awsPcaAuthorityArn", "")
        if "tls" in one and not _AUTHORITY.fullmatch(authority):
            raise invalid(f"awsPcaAuthorityArn({authority}) must be the ARN of a private certificate authority.")
        if any("testTrafficRules" in alias for alias in one.get("clientAliases") or ()):
            raise not_implemented(
                f"{operation} with serviceConnectConfiguration.services.clientAliases.testTrafficRules"
            )
    if configuration.get("containerConfigurations"):
        raise not_implemented(f"{operation} with serviceConnectConfiguration.containerConfigurations")
    log = configuration.get("logConfiguration")
    if log is not None and (log["logDriver"] != "awslogs" or log.get("secretOptions")):
        raise not_implemented(f"{operation} with a serviceConnectConfiguration.logConfiguration other than awslogs")
    if definition.get("networkMode") not in ("awsvpc", "bridge"):
        raise invalid("Service Connect feature is only supported for awsvpc and bridge network modes.")
    named = ports(definition)
    seen: set[str] = set()
    for one in configuration.get("services") or ():
        if one["portName"] not in named:
            raise invalid(
                f"portName({one['portName']}) does not refer to any named PortMapping in the task definition."
            )
        if discovery_name(one) in seen:
            raise invalid(f"discoveryName({discovery_name(one)}) is used more than once.")
        seen.add(discovery_name(one))
        if len(one.get("clientAliases") or ()) > 1:
            raise invalid("clientAliases can have at most 1 item.")
        _, protocol = named[one["portName"]]
        if protocol not in _HTTP and "perRequestTimeoutSeconds" in one.get("timeout", {}):
            raise invalid("perRequestTimeoutSeconds is not supported for appProtocol TCP.")


def ports(definition: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """The named ports of a definition: container port and protocol."""
    return {
        port["name"]: (port["containerPort"], port.get("appProtocol", "tcp"))
        for container in definition["containerDefinitions"]
        for port in container["portMappings"]
        if "name" in port
    }


def discovery_name(service: dict[str, Any]) -> str:
    """The name of an endpoint in its namespace."""
    return str(service.get("discoveryName") or service["portName"])


def endpoints_of(configuration: dict[str, Any], definition: dict[str, Any]) -> list[dict[str, Any]]:
    """What a service offers to the tasks of its namespace."""
    named, found = ports(definition), []
    for one in configuration.get("services") or ():
        if one["portName"] not in named or not one.get("clientAliases"):
            continue
        alias = one["clientAliases"][0]
        found.append(
            {
                "discovery": discovery_name(one),
                "name": alias["dnsName"],
                "port": alias["port"],
                "protocol": named[one["portName"]][1],
                "timeout": one.get("timeout", {}),
            }
        )
    return found


def of_task(
    configuration: dict[str, Any],
    definition: dict[str, Any],
    offered: Sequence[dict[str, Any]],
    namespace: str = "",
    of: str = "",
) -> dict[str, Any]:
    """What a task's Envoy shall do: let in what its service offers, and lead to what its namespace has now.

    ``namespace`` is the name of its namespace, ``of`` the ARN of its service; certificates are for them.
    """
    taken = {port["containerPort"] for one in definition["containerDefinitions"] for port in one["portMappings"]}
    taken |= {one["ingressPortOverride"] for one in configuration.get("services") or () if "ingressPortOverride" in one}
    free = (port for port in range(_FIRST_PORT, 65536) if port not in taken)
    named = ports(definition)
    ingress = [
        {
            "discovery": discovery_name(one),
            "port": one.get("ingressPortOverride") or next(free),
            "container": named[one["portName"]][0],
            "protocol": named[one["portName"]][1],
            "timeout": one.get("timeout", {}),
            **({"tls": _tls(one, namespace, of)} if "tls" in one else {}),
        }
        for one in configuration.get("services") or ()
    ]
    listens = next(free)  # at each endpoint's address: its own port might be the application's too
    by_name = {one["name"]: one for one in sorted(offered, key=lambda one: (one["name"], one["discovery"]))}
    egress = [
        {**one, "address": f"127.255.{number // 255}.{number % 255}", "listens": listens}
        for number, one in enumerate(by_name.values(), start=1)
    ]
    return {
        "namespace": configuration["namespace"],
        "ingress": ingress,
        "egress": egress,
        "log": configuration.get("logConfiguration"),
        "access": configuration.get("accessLogConfiguration"),
    }


def _tls(service: dict[str, Any], namespace: str, of: str) -> dict[str, str]:
    """What an endpoint's certificate is asked for with, and for which service of ECS."""
    tls = service["tls"]
    return {
        "name": f"{discovery_name(service)}.{namespace}",
        "authority": tls["issuerCertificateAuthority"]["awsPcaAuthorityArn"],
        "role": tls.get("roleArn", ""),
        "key": tls.get("kmsKey", ""),
        "of": of,
    }


def container_name(task: str) -> str:
    """What AWS calls the container that a task's Envoy is in."""
    return f"ecs-service-connect-{task[:5]}"


def hosts(connect: dict[str, Any]) -> dict[str, str]:
    """The names that a task's containers find in their hosts file."""
    return {one["name"]: one["address"] for one in connect.get("egress", ())}


def redirects(connect: dict[str, Any]) -> str:
    """The script for ``nft`` that leads from each endpoint's port to where the Envoy listens; empty without endpoints.

    An application that listens on all addresses could not have the port of an endpoint that its Envoy listens on.
    """
    ways = [
        f"ip daddr {one['address']} tcp dport {one['port']} dnat to {one['address']}:{_listens(one)};"
        for one in connect["egress"]
    ]
    if not ways:
        return ""
    return (
        f"table ip {_TABLE}\ndelete table ip {_TABLE}\ntable ip {_TABLE} {{\n"
        f" chain egress {{ type nat hook output priority -100; {' '.join(ways)} }}\n}}\n"
    )


def snapshot(
    connect: dict[str, Any], members: Mapping[str, Sequence[Place]], log: str, secrets: Secrets = _NO_SECRETS
) -> Snapshot:
    """All that a task's Envoy carries; ``members`` are the Envoys behind each discovery name, ``log`` is a file."""
    made = Snapshot()
    logs = [_access_log(connect["access"], log)] if connect.get("access") and log else []
    for one in connect["ingress"]:
        name = f"ingress_{one['discovery']}"
        made.clusters[name] = {**static_cluster(name, "127.0.0.1", one["container"]), **_upstream(one["protocol"])}
        tls = None
        if "tls" in one:
            made.secrets[name] = certificate_secret(name, *secrets.certificates[one["discovery"]])
            tls = server_tls([name], alpn=("h2", "http/1.1") if one["protocol"] in _HTTP else (), versions=_TLS13)
        made.listeners[name] = _listener(name, "0.0.0.0", one["port"], name, one, logs, "INBOUND", tls)
        if one["protocol"] in _HTTP:
            made.routes[name] = _routes(name, name, 0, retries=0)
    for one in connect["egress"]:
        name, way = f"egress_{one['discovery']}", f"egress_{one['name']}"
        made.clusters[name] = cluster(
            name,
            http2=one["protocol"] in ("http2", "grpc"),
            outlier_detection=outlier_detection(errors=_ERRORS, interval=_WINDOW, ejection=_EJECTED, percent=100),
        )
        places = sorted(members.get(one["discovery"], ()))
        made.endpoints[name] = assignment(name, [_endpoint(place) for place in places])
        ways = sorted({(place.name, place.authority) for place in places if place.authority})
        for of, authority in ways:
            trust = _trust(of, authority)
            made.secrets[trust] = trust_secret(trust, secrets.trusted[authority], [of])
        if ways:
            made.clusters[name]["transport_socket_matches"] = [_match(*way, one["protocol"]) for way in ways]
        made.listeners[way] = _listener(way, one["address"], _listens(one), name, one, logs, "OUTBOUND")
        if one["protocol"] in _HTTP:
            limit = one["timeout"].get("perRequestTimeoutSeconds", _PER_REQUEST)
            made.routes[way] = _routes(way, name, limit, retries=_RETRIES)
    return made


def _listens(one: dict[str, Any]) -> int:
    return int(one.get("listens", one["port"]))


def _listener(
    name: str,
    address: str,
    port: int,
    to: str,
    one: dict[str, Any],
    logs: list[Resource],
    direction: str,
    tls: Resource | None = None,
) -> Resource:
    side = "ingress" if direction == "INBOUND" else "egress"
    prefix = f"{side}_{one['discovery']}"
    if one["protocol"] in _HTTP:
        idle = one["timeout"].get("idleTimeoutSeconds", _IDLE_HTTP)
        pipe = http_manager(
            prefix,
            routes=name,
            access_logs=logs,
            common_http_protocol_options={"idle_timeout": seconds(idle)},
            stream_idle_timeout=seconds(idle),
        )
    else:
        idle = one["timeout"].get("idleTimeoutSeconds", _IDLE_TCP)
        pipe = tcp_proxy(prefix, {to: 1}, idle_timeout=seconds(idle), access_logs=logs)
    return listener(name, address, port, [filter_chain([pipe], tls=tls)], traffic_direction=direction)


def _endpoint(place: Place) -> Resource:
    """A task that others lead to. While a service is changed to TLS some of its tasks speak it, and some do not."""
    made = endpoint(place.address, place.port)
    if place.authority:
        way = {"tls": _trust(place.name, place.authority)}
        made["metadata"] = {"filter_metadata": {"envoy.transport_socket_match": way}}
    return made


def _match(name: str, authority: str, protocol: str) -> Resource:
    """How the tasks of a certificate's name and authority are spoken to."""
    trust = _trust(name, authority)
    alpn = ("h2",) if protocol in ("http2", "grpc") else ()
    socket = client_tls(sni=name, alpn=alpn, versions=_TLS13, trust=trust)
    return {"name": trust, "match": {"tls": trust}, "transport_socket": socket}


def _trust(name: str, authority: str) -> str:
    return f"trust:{authority}:{name}"


def _routes(name: str, to: str, limit: float, *, retries: int) -> Resource:
    action: Resource = {**destination({to: 1}), "timeout": seconds(limit)}
    if retries:
        action["retry_policy"] = retry_policy(("connect-failure", "refused-stream", "reset-before-request"), retries)
    route = {"match": {"prefix": "/"}, "route": action}
    return route_configuration(name, [virtual_host(name, ["*"], [route])])


def _upstream(protocol: str) -> Resource:
    """What an application of its own protocol is spoken to with."""
    if protocol not in ("http2", "grpc"):
        return {}
    options = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}}
    )
    return {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}}


def _access_log(access: dict[str, Any], file: str) -> Resource:
    """Each request in a line; what comes after its path's ``?`` only where that is asked for."""
    asked = access.get("includeQueryParameters", "DISABLED") == "ENABLED"
    path = "%REQ(:PATH)%" if asked else "%REQ_WITHOUT_QUERY(:PATH)%"
    line: Resource = (
        {"json_format": {name: value.replace("{path}", path) for name, value in _FIELDS.items()}}
        if access.get("format") == "JSON"
        else {"text_format_source": {"inline_string": _LINE.replace("{path}", path)}}
    )
    formatters = [
        extension("envoy.formatter.req_without_query", "extensions.formatter.req_without_query.v3.ReqWithoutQuery")
    ]
    return extension(
        "envoy.access_loggers.file",
        "extensions.access_loggers.file.v3.FileAccessLog",
        path=file,
        log_format={**line, "formatters": formatters},
    )
