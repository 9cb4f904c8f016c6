"""What Envoy is to carry, from what is stored: pure functions, judged by golden files (``tests/golden/elbv2*``).

Each listener has a route configuration and, at its load balancer's own address, an Envoy listener, both of its name; a
target group in use is a cluster of its id. On 127.0.0.1 the ports of all load balancers are shared: by host name
(HTTP) and by SNI (TLS), or by the only one that has the port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloudlet.mesh import Snapshot
from cloudlet.mesh.access_logs import file_log
from cloudlet.mesh.clusters import assignment, cluster, endpoint, static_cluster
from cloudlet.mesh.health_checks import grpc_check, health_check, http_check
from cloudlet.mesh.listeners import filter_chain, http_manager, listener, tcp_proxy, tls_inspector
from cloudlet.mesh.routes import header, route_configuration, virtual_host
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.tls import certificate_secret, client_tls, plaintext, server_tls
from cloudlet.mesh.typed import extension
from cloudlet.services.elbv2 import policies, routing
from cloudlet.services.elbv2.records import (
    Listener,
    LoadBalancer,
    Rule,
    Target,
    TargetGroup,
    group_attributes,
    groups_of,
    load_balancer_attributes,
)

SHARED_ADDRESS = "127.0.0.1"
# Without a port of its own each worker would take what it gets, and one of them most.
_BALANCED: Resource = {"connection_balance_config": {"exact_balance": {}}}
_ALPN = {
    "HTTP1Only": ["http/1.1", "http/1.0"],
    "HTTP2Only": ["h2"],
    "HTTP2Optional": ["http/1.1", "http/1.0", "h2"],
    "HTTP2Preferred": ["h2", "http/1.1", "http/1.0"],
}
_LINE = {
    "time": "%START_TIME(%s.%3f)%",
    "protocol": "%PROTOCOL%",
    "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "target": "%UPSTREAM_HOST%",
    "group": "%UPSTREAM_CLUSTER_RAW%",
    "received_us": "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%",
    "target_us": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%",
    "sent_us": "%COMMON_DURATION(US_RX_BEG:DS_TX_END:us)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "bytes_in": "%DOWNSTREAM_WIRE_BYTES_RECEIVED%",
    "bytes_out": "%DOWNSTREAM_WIRE_BYTES_SENT%",
    "method": "%REQ(:METHOD)%",
    "scheme": "%REQ(:SCHEME)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "agent": "%REQ(USER-AGENT)%",
    "trace": "%REQ(X-AMZN-TRACE-ID)%",
    "cipher": "%DOWNSTREAM_TLS_CIPHER%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "rule": "%ROUTE_NAME%",
    "location": "%RESP(LOCATION)%",
}


@dataclass(frozen=True, slots=True)
class World:
    """All load balancers of the cloud with what belongs to them."""

    load_balancers: Sequence[LoadBalancer] = ()
    listeners: Sequence[Listener] = ()
    rules: Sequence[Rule] = ()
    groups: Sequence[TargetGroup] = ()
    targets: Sequence[Target] = ()
    certificates: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by ARN: chain and key
    lambda_address: tuple[str, int] = ("127.0.0.1", 4566)
    logs: str = ""  # the folder of access logs
    health: str = ""  # the file that changes of health are written to


def snapshot(world: World) -> Snapshot:
    """Everything that Envoy is to carry. A listener whose certificate is not at hand is left out."""
    return _Maker(world).make()


def used_groups(world: World) -> dict[str, LoadBalancer]:
    """The target groups, by ARN, to which a listener or a rule forwards, each with its load balancer."""
    found: dict[str, LoadBalancer] = {}
    by_arn = {one.arn: one for one in world.load_balancers}
    owners = {one.arn: by_arn[one.load_balancer_arn] for one in world.listeners}
    for one in world.listeners:
        found |= dict.fromkeys(groups_of(one.actions), owners[one.arn])
    for rule in world.rules:
        found |= dict.fromkeys(groups_of(rule.actions), owners[rule.listener_arn])
    return found


class _Maker:
    """One snapshot in the making."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._groups = {group.arn: group for group in world.groups}
        self._owners = {one.arn: one for one in world.load_balancers}
        self._rules: dict[str, list[Rule]] = {}
        for rule in sorted(world.rules, key=lambda rule: rule.priority):
            self._rules.setdefault(rule.listener_arn, []).append(rule)
        self._snapshot = Snapshot()

    def make(self) -> Snapshot:
        made = self._snapshot
        ready = [
            one for one in self._world.listeners if all(arn in self._world.certificates for arn in one.certificates)
        ]
        for arn in sorted({arn for one in ready for arn in one.certificates}):
            made.secrets[arn] = certificate_secret(arn, *self._world.certificates[arn])
        used = used_groups(self._world)
        targets: dict[str, list[Target]] = {}
        for target in self._world.targets:
            if not target.draining_until:
                targets.setdefault(target.group, []).append(target)
        for arn in used:
            group = self._groups[arn]
            if group.type == "lambda":
                made.clusters[routing.LAMBDA] = static_cluster(routing.LAMBDA, *self._world.lambda_address)
            else:
                made.clusters[group.id] = _cluster(group, self._world.health)
                made.endpoints[group.id] = assignment(
                    group.id, [self._endpoint(group, one) for one in targets.get(group.id, [])]
                )
        by_port: dict[int, list[Listener]] = {}
        for one in ready:
            owner = self._owners[one.load_balancer_arn]
            name = _name(owner, one)
            if one.protocol in ("HTTP", "HTTPS"):
                made.routes[name] = self._routes(owner, one)
            made.listeners[name] = listener(name, owner.address, one.bound, [self._chain(owner, one)], **_BALANCED)
            by_port.setdefault(one.port, []).append(one)
        for port, sharing in by_port.items():
            self._share(port, sharing)
        return made

    def _endpoint(self, group: TargetGroup, target: Target) -> Resource:
        port = target.port
        if group.type == "alb":
            port = next(
                (
                    one.bound
                    for one in self._world.listeners
                    if (one.load_balancer_arn, one.port) == (target.target, port)
                ),
                port,
            )
        return endpoint(
            target.address, port, health_port=0 if group.check_port in ("", "traffic-port") else int(group.check_port)
        )

    def _chain(self, owner: LoadBalancer, one: Listener, server_names: Sequence[str] = ()) -> Resource:
        tls = None
        if one.certificates:
            policy = policies.find(one.ssl_policy or policies.DEFAULT)
            alpn: Sequence[str]
            if one.protocol == "TLS":
                alpn = _ALPN.get(one.alpn[0], []) if one.alpn else []
            else:
                is_http2 = load_balancer_attributes(owner)["routing.http2.enabled"] == "true"
                alpn = ["h2", "http/1.1"] if is_http2 else ["http/1.1"]
            tls = server_tls(
                list(dict.fromkeys(one.certificates)), alpn=alpn, versions=policy.range, ciphers=policy.old_ciphers
            )
        return filter_chain([self._filter(owner, one)], tls=tls, server_names=server_names)

    def _filter(self, owner: LoadBalancer, one: Listener) -> Resource:
        if one.protocol in ("HTTP", "HTTPS"):
            return self._manager(owner.id, _name(owner, one), [(owner, one)])
        weights = {self._groups[arn].id: weight for arn, weight in groups_of(one.actions).items() if weight}
        sticky = any(
            group_attributes(self._groups[arn])["stickiness.enabled"] == "true" for arn in groups_of(one.actions)
        )
        idle = one.attributes.get("tcp.idle_timeout.seconds", "350")
        return tcp_proxy(owner.id, weights, idle_timeout=f"{idle}s", sticky=sticky)

    def _manager(self, stat_prefix: str, routes: str, carried: Sequence[tuple[LoadBalancer, Listener]]) -> Resource:
        """The HTTP manager of one listener, or of those that share a port."""
        attributes = load_balancer_attributes(carried[0][0])
        rules = [rule for _, one in carried for rule in self._rules.get(one.arn, [])]
        conditions = [condition for rule in rules for condition in rule.conditions]
        filters: list[Resource] = []
        more: Resource = {}
        groups = [self._groups[arn] for actions in self._actions(carried) for arn in groups_of(actions)]
        if any(group_attributes(group).get("stickiness.enabled") == "true" for group in groups):
            filters.append(extension(routing.STICKY, "extensions.filters.http.stateful_session.v3.StatefulSession"))
        if any(condition["Field"] == "source-ip" for condition in conditions):
            more["early_header_mutation_extensions"] = [_SOURCE_HEADER]
        if attributes["routing.http.xff_header_processing.mode"] == "preserve":
            more["skip_xff_append"] = True
        common: Resource = {
            "idle_timeout": f"{attributes['idle_timeout.timeout_seconds']}s",
            "max_connection_duration": f"{attributes['client_keep_alive.seconds']}s",
        }
        if attributes["routing.http.drop_invalid_header_fields.enabled"] == "true":
            common["headers_with_underscores_action"] = "DROP_HEADER"
        return http_manager(
            stat_prefix,
            routes=routes,
            filters=filters,
            access_logs=self._logs(carried),
            use_remote_address=True,
            generate_request_id=False,
            server_header_transformation="PASS_THROUGH",
            stream_idle_timeout=f"{attributes['idle_timeout.timeout_seconds']}s",
            common_http_protocol_options=common,
            normalize_path=False,
            local_reply_config={"mappers": _LOCAL_REPLIES},
            **more,
        )

    def _actions(self, carried: Sequence[tuple[LoadBalancer, Listener]]) -> list[list[Resource]]:
        return [
            actions
            for _, one in carried
            for actions in (one.actions, *(rule.actions for rule in self._rules.get(one.arn, [])))
        ]

    def _logs(self, carried: Sequence[tuple[LoadBalancer, Listener]]) -> list[Resource]:
        made = []
        for owner in {one.arn: one for one, _ in carried}.values():
            if load_balancer_attributes(owner)["access_logs.s3.enabled"] == "true":
                log = file_log(f"{self._world.logs}/{owner.id}", _LINE)
                if len(carried) > 1:
                    match = {"name": ":authority", "string_match": {"prefix": owner.dns_name}}
                    log["filter"] = {"header_filter": {"header": match}}
                made.append(log)
        return made

    def _routes(self, owner: LoadBalancer, one: Listener) -> Resource:
        return route_configuration(_name(owner, one), [self._host(owner, one, ["*"])])

    def _host(self, owner: LoadBalancer, one: Listener, domains: Sequence[str]) -> Resource:
        """The rules of a listener as one virtual host."""
        rules = self._rules.get(one.arn, [])
        routes = []
        for name, conditions, actions in [
            *((str(rule.priority), rule.conditions, rule.actions) for rule in rules),
            ("0", [], one.actions),
        ]:
            routes += routing.routes(name, conditions, actions, self._groups, _lambda_path)
        made = virtual_host(_name(owner, one), domains, routes)
        made["request_headers_to_add"] = [header("x-forwarded-port", str(one.port))]
        removed = ["x-envoy-external-address"]
        if any(condition["Field"] == "source-ip" for rule in rules for condition in rule.conditions):
            removed.append(routing.SOURCE)
        if load_balancer_attributes(owner)["routing.http.xff_header_processing.mode"] == "remove":
            removed.append("x-forwarded-for")
        made["request_headers_to_remove"] = removed
        inserted = [
            header(name.removeprefix(_INSERTED[0]).removesuffix(_INSERTED[1]).replace("_", "-"), value)
            for name, value in sorted(one.attributes.items())
            if name.startswith(_INSERTED[0]) and name.endswith(_INSERTED[1]) and value
        ]
        if inserted:
            made["response_headers_to_add"] = inserted
        if one.attributes.get("routing.http.response.server.enabled") == "false":
            made["response_headers_to_remove"] = ["server"]
        return made

    def _share(self, port: int, sharing: Sequence[Listener]) -> None:
        """The port on 127.0.0.1, where it can be had: Envoy tries, and leaves this one out if not."""
        owned = [(self._owners[one.load_balancer_arn], one) for one in sharing]
        plain = [(owner, one) for owner, one in owned if one.protocol == "HTTP"]
        secure = [(owner, one) for owner, one in owned if one.certificates]
        name = f"shared/{port}"
        chains = []
        for owner, one in secure:
            chain = self._chain(owner, one, [owner.dns_name] if len(secure) > 1 else [])
            chain.setdefault("filter_chain_match", {})["transport_protocol"] = "tls"
            chains.append(chain)
        if plain:
            self._snapshot.routes[name] = route_configuration(
                name, [self._host(owner, one, _domains(owner, port, len(plain) == 1)) for owner, one in plain]
            )
            chains.append(filter_chain([self._manager("shared", name, plain)]))
        elif len(owned) == 1 and not secure:
            chains.append(self._chain(*owned[0]))
        if chains:
            inspect = {"listener_filters": [tls_inspector()]} if secure else {}
            self._snapshot.listeners[name] = listener(name, SHARED_ADDRESS, port, chains, **inspect, **_BALANCED)


def _lambda_path(group: TargetGroup) -> str:
    return f"/_cloudlet/elb-lambda/{group.id}"


def _domains(owner: LoadBalancer, port: int, is_only: bool) -> list[str]:
    return ["*"] if is_only else [owner.dns_name, f"{owner.dns_name}:{port}"]


def _name(owner: LoadBalancer, one: Listener) -> str:
    return f"{owner.name}/{owner.id}/{one.id}"


def _cluster(group: TargetGroup, log: str) -> Resource:
    attributes = group_attributes(group)
    is_http = group.protocol in ("HTTP", "HTTPS")
    secure = client_tls(versions=("TLSv1_0", "TLSv1_3"))
    tls = secure if group.protocol in ("HTTPS", "TLS") else None
    if attributes.get("proxy_protocol_v2.enabled") == "true":
        tls = extension(
            "envoy.transport_sockets.upstream_proxy_protocol",
            "extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
            config={"version": "V2"},
            transport_socket=tls or plaintext(),
        )
    check_tls = secure if group.check_protocol in ("HTTPS", "TLS") else None
    percentage = attributes["target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage"]
    return cluster(
        group.id,
        policy=_policy(attributes, is_http),
        connect_timeout=10.0 if is_http else 5.0,
        http2=is_http and group.version in ("HTTP2", "GRPC"),
        tls=tls,
        check_transport=None if check_tls == tls else check_tls or plaintext(),
        health_checks=[_health_check(group, log)] if group.check_enabled else [],
        slow_start=float(attributes.get("slow_start.duration_seconds", "0")),
        # AWS sends to all targets when none is healthy.
        panic_threshold=1 if percentage == "off" else int(percentage),
    )


def _policy(attributes: Mapping[str, str], is_http: bool) -> str:
    if not is_http:
        return "MAGLEV" if attributes["stickiness.enabled"] == "true" else "RANDOM"
    chosen = attributes["load_balancing.algorithm.type"]
    return {"least_outstanding_requests": "LEAST_REQUEST", "weighted_random": "RANDOM"}.get(chosen, "ROUND_ROBIN")


def _health_check(group: TargetGroup, log: str) -> Resource:
    asked: dict[str, Resource] = {}
    if group.check_protocol in ("HTTP", "HTTPS"):
        if group.version == "GRPC" and group.check_path == "/grpc.health.v1.Health/Check":
            asked["grpc"] = grpc_check()
        elif group.version == "GRPC":
            # Any gRPC server answers 200 to any method; the gRPC status that says 12 is in the trailers.
            asked["http"] = {
                **http_check(group.check_path, http2=True, agent="ELB-HealthChecker/2.0"),
                "method": "POST",
            }
            asked["http"]["request_headers_to_add"] += [
                header("content-type", "application/grpc"),
                header("te", "trailers"),
            ]
        else:
            asked["http"] = http_check(
                group.check_path, _ranges(group.matcher), http2=group.version == "HTTP2", agent="ELB-HealthChecker/2.0"
            )
    return health_check(
        interval=group.check_interval,
        timeout=group.check_timeout,
        healthy=group.healthy,
        unhealthy=group.unhealthy,
        http=asked.get("http"),
        grpc=asked.get("grpc"),
        log=log,
    )


def _ranges(matcher: str) -> list[tuple[int, int]]:
    """``200,202-299`` as ranges."""
    made = []
    for part in matcher.split(","):
        first, _, last = part.partition("-")
        made.append((int(first), int(last or first)))
    return made


_INSERTED = ("routing.http.response.", ".header_value")

_SOURCE_HEADER = extension(
    "envoy.http.early_header_mutation.header_mutation",
    "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    mutations=[{"append": header(routing.SOURCE, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")}],
)


def _local_reply(flags: list[str], status: int, words: str) -> Resource:
    title = f"{status} {words}"
    body = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    return {
        "filter": {"response_flag_filter": {"flags": flags}},
        "status_code": status,
        "headers_to_add": [header("server", "awselb/2.0")],
        "body_format_override": {"text_format_source": {"inline_string": body}, "content_type": "text/html"},
    }


# What a load balancer says itself, where Envoy would say 503 to all of it.
_LOCAL_REPLIES = [
    _local_reply(["UF", "UC", "UR", "UPE"], 502, "Bad Gateway"),
    _local_reply(["UH"], 503, "Service Temporarily Unavailable"),
    _local_reply(["UT", "SI"], 504, "Gateway Time-out"),
]
