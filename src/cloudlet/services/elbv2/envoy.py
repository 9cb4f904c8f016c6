"""What Envoy is to carry, from what is stored: pure functions, judged by golden files (``tests/golden/elbv2*``).

Each listener has a route configuration and, at its load balancer's own address, an Envoy listener, both of its name; a
target group in use is a cluster of its id. On 127.0.0.1 the ports of all load balancers are shared: by host name
(HTTP) and by SNI (TLS), or by the only one that has the port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudlet.mesh import Snapshot
from cloudlet.mesh.access_logs import file_log
from cloudlet.mesh.clusters import assignment, static_cluster
from cloudlet.mesh.listeners import filter_chain, listener, tcp_proxy, tls_inspector, udp_listener, udp_proxy
from cloudlet.mesh.routes import header, route_configuration, virtual_host
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.tls import any_client_secret, certificate_secret, server_tls, trust_secret
from cloudlet.services.elbv2 import (
    authentication,
    clusters,
    formats,
    headers,
    managers,
    policies,
    routing,
    scripts,
    sharing,
)
from cloudlet.services.elbv2.attributes import group_attributes, listener_attributes, load_balancer_attributes
from cloudlet.services.elbv2.managers import Carried
from cloudlet.services.elbv2.records import Listener, LoadBalancer, Rule, Target, TargetGroup, TrustStore, groups_of

_ANY_CLIENT = "any client"
# Without a port of its own each worker would take what it gets, and one of them most.
_BALANCED: Resource = {"connection_balance_config": {"exact_balance": {}}}
_FLOW = "120s"  # after which AWS forgets a flow of datagrams
_ALPN = {
    "HTTP1Only": ["http/1.1", "http/1.0"],
    "HTTP2Only": ["h2"],
    "HTTP2Optional": ["http/1.1", "http/1.0", "h2"],
    "HTTP2Preferred": ["h2", "http/1.1", "http/1.0"],
}


@dataclass(frozen=True, slots=True)
class World:
    """All load balancers of the cloud with what belongs to them."""

    load_balancers: Sequence[LoadBalancer] = ()
    listeners: Sequence[Listener] = ()
    rules: Sequence[Rule] = ()
    groups: Sequence[TargetGroup] = ()
    targets: Sequence[Target] = ()
    trust_stores: Sequence[TrustStore] = ()
    certificates: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by ARN: chain and key
    home: tuple[str, int] = ("127.0.0.1", 4566)  # where Cloudlet itself answers
    public_key: Mapping[str, Any] = field(default_factory=dict)  # by which sessions are verified
    authorities: str = ""  # the file of those that this system trusts
    logs: str = ""  # the folder of logs
    health: str = ""  # the file that changes of targets' health are written to


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
        self._clusters()
        by_port: dict[int, list[Carried]] = {}
        for one in ready:
            carried = Carried(self._owners[one.load_balancer_arn], one, self._rules.get(one.arn, []))
            if carried.is_http:
                made.routes[carried.name] = route_configuration(carried.name, [self._host(carried, ["*"])])
            self._listen(carried, carried.owner.address, one.bound, carried.name)
            self._guards(carried)
            by_port.setdefault(one.port, []).append(carried)
        for port, together in by_port.items():
            self._share(port, together)
        return made

    def _clusters(self) -> None:
        """A cluster with its endpoints for each target group in use."""
        made = self._snapshot
        targets: dict[str, list[Target]] = {}
        for target in self._world.targets:
            targets.setdefault(target.group, []).append(target)
        for arn in used_groups(self._world):
            group = self._groups[arn]
            if group.type == "lambda":
                self._home()
            else:
                made.clusters[group.id] = clusters.of_group(group, self._world.health)
                made.endpoints[group.id] = assignment(
                    group.id, [self._endpoint(group, one) for one in targets.get(group.id, [])]
                )

    def _home(self) -> None:
        self._snapshot.clusters[routing.HOME] = static_cluster(routing.HOME, *self._world.home)

    def _endpoint(self, group: TargetGroup, target: Target) -> Resource:
        port = target.port
        if group.type == "alb":
            wanted = (target.target, port)
            found = (one.bound for one in self._world.listeners if (one.load_balancer_arn, one.port) == wanted)
            port = next(found, port)
        health_port = 0 if group.check_port in ("", "traffic-port") else int(group.check_port)
        return clusters.of_target(target.address, port, health_port, draining=bool(target.draining_until))

    def _guards(self, carried: Carried) -> None:
        """What those actions need which say who may pass."""
        for guard in carried.guards:
            if guard["Type"] == authentication.JWT:
                name = authentication.jwks_cluster_name(guard)
                self._snapshot.clusters[name] = authentication.jwks_cluster(guard, self._world.authorities)
            else:
                self._home()

    def _listen(self, carried: Carried, address: str, port: int, name: str) -> None:
        """Have a listener, or two, where bytes and datagrams come to one port."""
        one = carried.listener
        if one.protocol in ("UDP", "TCP_UDP"):
            group = self._groups[next(iter(groups_of(one.actions)))]
            proxy = udp_proxy(carried.owner.id, group.id, idle_timeout=_FLOW, sticky=_is_sticky(group))
            self._snapshot.listeners[f"{name}/udp"] = udp_listener(f"{name}/udp", address, port, proxy)
        if one.protocol != "UDP":
            chain, prefix = self._chain(carried), carried.owner.id
            made = listener(name, address, port, [chain], stat_prefix=prefix, **_inspected(carried), **_BALANCED)
            if logs := self._connection_logs([carried]):
                made["access_log"] = logs
            self._snapshot.listeners[name] = made

    def _chain(self, carried: Carried, server_names: Sequence[str] = (), routes: str = "") -> Resource:
        one, tls = carried.listener, None
        if one.certificates:
            policy = policies.find(one.ssl_policy or policies.DEFAULT)
            alpn: Sequence[str]
            if one.protocol == "TLS":
                alpn = _ALPN.get(one.alpn[0], []) if one.alpn else []
            else:
                is_http2 = load_balancer_attributes(carried.owner)["routing.http2.enabled"] == "true"
                alpn = ["h2", "http/1.1"] if is_http2 else ["http/1.1"]
            tls = server_tls(
                list(dict.fromkeys(one.certificates)),
                alpn=alpn,
                versions=policy.range,
                ciphers=policy.old_ciphers,
                trust=self._trust(one),
                require_client=one.mutual.get("Mode") == "verify",
            )
        return filter_chain([self._filter(carried, routes or carried.name)], tls=tls, server_names=server_names)

    def _trust(self, one: Listener) -> str:
        """The secret by which a listener judges its clients, put among the secrets; nothing when it does not."""
        mode = one.mutual.get("Mode", "off")
        if mode == "passthrough":
            self._snapshot.secrets[_ANY_CLIENT] = any_client_secret(_ANY_CLIENT)
            return _ANY_CLIENT
        if mode != "verify":
            return ""
        store = next(store for store in self._world.trust_stores if store.arn == one.mutual["TrustStoreArn"])
        takes_expired = bool(one.mutual.get("IgnoreClientCertificateExpiry"))
        name = f"{store.arn}{'/expired' if takes_expired else ''}"
        revoked = "".join(each.content for each in store.revocations)
        self._snapshot.secrets[name] = trust_secret(name, store.bundle, revoked=revoked, takes_expired=takes_expired)
        return name

    def _filter(self, carried: Carried, routes: str) -> Resource:
        owner, one = carried.owner, carried.listener
        if carried.is_http:
            return self._manager(owner.id, routes, [carried])
        weights = {self._groups[arn].id: weight for arn, weight in groups_of(one.actions).items() if weight}
        sticky = any(_is_sticky(self._groups[arn]) for arn in groups_of(one.actions))
        idle = listener_attributes(one).get("tcp.idle_timeout.seconds", "350")
        logs = []
        if one.protocol == "TLS" and load_balancer_attributes(owner)["access_logs.s3.enabled"] == "true":
            logs.append(file_log(f"{self._world.logs}/{formats.FLOWS}/{owner.id}", formats.of_flow(one)))
        prefix = f"{owner.id}-tls" if one.protocol == "TLS" else owner.id
        return tcp_proxy(prefix, weights, idle_timeout=f"{idle}s", sticky=sticky, access_logs=logs)

    def _manager(self, stat_prefix: str, routes: str, carried: Sequence[Carried]) -> Resource:
        logs = list(self._request_logs(carried))
        return managers.manager(stat_prefix, routes, carried, self._groups, logs, self._world.public_key)

    def _request_logs(self, carried: Sequence[Carried]) -> Iterator[Resource]:
        for owner in {one.owner.arn: one.owner for one in carried}.values():
            if load_balancer_attributes(owner)["access_logs.s3.enabled"] == "true":
                log = file_log(f"{self._world.logs}/{formats.REQUESTS}/{owner.id}", formats.REQUEST)
                if len(carried) > 1:
                    match = {"name": ":authority", "string_match": {"prefix": owner.dns_name}}
                    log["filter"] = {"header_filter": {"header": match}}
                yield log

    def _connection_logs(self, carried: Sequence[Carried]) -> list[Resource]:
        """Of listeners that belong to one load balancer."""
        owner = carried[0].owner
        if len({one.owner.arn for one in carried}) > 1:
            return []
        if load_balancer_attributes(owner).get("connection_logs.s3.enabled") != "true":
            return []
        return [file_log(f"{self._world.logs}/{formats.CONNECTIONS}/{owner.id}", formats.CONNECTION)]

    def _host(self, carried: Carried, domains: Sequence[str]) -> Resource:
        """The rules of a listener as one virtual host."""
        routes = [] if not carried.logins else [routing.callback()]
        for rule in carried.rules:
            routes += routing.routes(str(rule.priority), rule.conditions, rule.actions, self._groups, rule.transforms)
        routes += routing.routes("0", [], carried.listener.actions, self._groups)
        made = virtual_host(carried.name, domains, scripts.with_headers(routes, carried.appended_port))
        made |= headers.of_host(carried.owner, carried.listener, carried.has_field("source-ip"))
        return made

    def _share(self, port: int, together: Sequence[Carried]) -> None:
        """The port on 127.0.0.1, or the one that stands for it."""
        plain = [one for one in together if one.listener.protocol == "HTTP"]
        secure = [one for one in together if one.listener.certificates]
        name, place = sharing.name_of(port), sharing.place_of(port, [one.listener for one in together])
        if len(together) == 1 and not plain and not secure:
            self._listen(together[0], sharing.ADDRESS, place, name)
            return
        chains = []
        for one in secure:
            routes = f"{name}/{one.listener.id}"
            if one.is_http:
                self._snapshot.routes[routes] = self._named(routes, [one])
            chain = self._chain(one, [one.owner.dns_name] if len(secure) > 1 else [], routes)
            chain.setdefault("filter_chain_match", {})["transport_protocol"] = "tls"
            chains.append(chain)
        if plain:
            self._snapshot.routes[name] = self._named(name, plain)
            prefix = plain[0].owner.id if len(plain) == 1 else "shared"
            chains.append(filter_chain([self._manager(prefix, name, plain)]))
        if chains:
            inspect = {"listener_filters": [tls_inspector()]} if secure else {}
            made = listener(name, sharing.ADDRESS, place, chains, **inspect, **_BALANCED)
            if logs := self._connection_logs([*plain, *secure]):
                made["access_log"] = logs
            self._snapshot.listeners[name] = made

    def _named(self, name: str, together: Sequence[Carried]) -> Resource:
        """Routes by the load balancers' names. The only one has what comes by any other host too, but for the names of
        load balancers that are not there, as those of another cloud on this machine."""
        is_only = len(together) == 1
        hosts = [self._host(one, [one.owner.dns_name, *(["*"] if is_only else [])]) for one in together]
        hosts.append(virtual_host("nobody", ["*.elb.localhost" if is_only else "*"], [_NOBODY]))
        return route_configuration(name, hosts, ignore_port_in_host_matching=True)


_NOBODY: Resource = {
    "match": {"prefix": "/"},
    "direct_response": {
        "status": 421,
        "body": {"inline_string": "No load balancer of this name is at this port. Where each is: cloudlet status\n"},
    },
    "response_headers_to_add": [header("content-type", "text/plain")],
}


def _inspected(carried: Carried) -> Resource:
    """Have the names that clients ask for read, where a log tells them."""
    attributes = load_balancer_attributes(carried.owner)
    is_told = any(attributes.get(f"{kind}_logs.s3.enabled") == "true" for kind in ("access", "connection"))
    return {"listener_filters": [tls_inspector()]} if is_told and carried.listener.certificates else {}


def _is_sticky(group: TargetGroup) -> bool:
    return group_attributes(group)["stickiness.enabled"] == "true"
