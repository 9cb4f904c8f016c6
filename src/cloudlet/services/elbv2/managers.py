"""Envoy's HTTP connection manager, as one or several listeners need it: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from cloudlet.mesh.listeners import http_manager
from cloudlet.mesh.routes import header
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension
from cloudlet.services.elbv2 import authentication, routing, scripts
from cloudlet.services.elbv2.attributes import group_attributes, load_balancer_attributes
from cloudlet.services.elbv2.records import Document, Listener, LoadBalancer, Rule, TargetGroup, groups_of


class Carried:
    """A listener with its load balancer and its rules by priority."""

    def __init__(self, owner: LoadBalancer, listener: Listener, rules: Sequence[Rule]) -> None:
        self.owner = owner
        self.listener = listener
        self.rules = rules
        self.name = f"{owner.name}/{owner.id}/{listener.id}"
        self.is_http = listener.protocol in ("HTTP", "HTTPS")

    @property
    def actions(self) -> list[list[Document]]:
        """The actions of the listener itself and of each rule."""
        return [self.listener.actions, *(rule.actions for rule in self.rules)]

    @cached_property
    def guards(self) -> list[Document]:
        """The actions that say who may pass, one for each kind of session or token."""
        found = [guard for actions in self.actions if (guard := authentication.action_of(actions))]
        return list({authentication.session_of(guard): guard for guard in found}.values())

    @property
    def logins(self) -> bool:
        """Whether users may have to log in."""
        return any(guard["Type"] == authentication.OIDC for guard in self.guards)

    @property
    def appended_port(self) -> int:
        """The port that a Host without one is given; 0: it is left as it is."""
        port = self.listener.port
        keeps = load_balancer_attributes(self.owner)["routing.http.preserve_host_header.enabled"] == "true"
        return 0 if keeps or port in (80, 443) else port

    def has_field(self, field: str) -> bool:
        """Whether a rule has a condition of this kind."""
        return any(condition["Field"] == field for rule in self.rules for condition in rule.conditions)


def manager(
    stat_prefix: str,
    routes: str,
    carried: Sequence[Carried],
    groups: Mapping[str, TargetGroup],
    logs: Sequence[Resource],
    public_key: Mapping[str, Any],
) -> Resource:
    """The manager of one listener, or of those that share a port, of which the first one's attributes hold."""
    owner = carried[0].owner
    attributes = load_balancer_attributes(owner)
    idle = f"{attributes['idle_timeout.timeout_seconds']}s"
    more: Resource = {}
    if any(one.has_field("source-ip") for one in carried):
        more["early_header_mutation_extensions"] = [_SOURCE_HEADER]
    return http_manager(
        stat_prefix,
        routes=routes,
        filters=_filters(carried, attributes, groups, public_key),
        access_logs=logs,
        use_remote_address=True,
        skip_xff_append=True,  # Envoy would put another address there for a client of this machine
        generate_request_id=False,
        server_header_transformation="PASS_THROUGH",
        stream_idle_timeout=idle,
        common_http_protocol_options={
            "idle_timeout": idle,
            "max_connection_duration": f"{attributes['client_keep_alive.seconds']}s",
        },
        normalize_path=False,
        local_reply_config={"mappers": _LOCAL_REPLIES},
        tracing=_TRACE_IDS,
        **more,
    )


def _filters(
    carried: Sequence[Carried],
    attributes: Mapping[str, str],
    groups: Mapping[str, TargetGroup],
    public_key: Mapping[str, Any],
) -> list[Resource]:
    """The HTTP filters in their order: each only where something needs it, but for the one of the trace header."""
    used = [groups[arn] for one in carried for actions in one.actions for arn in groups_of(actions) if arn in groups]
    sticky = [given for group in used if (given := group_attributes(group)).get("stickiness.enabled") == "true"]
    app_cookies = {
        given["stickiness.app_cookie.cookie_name"] for given in sticky if given["stickiness.type"] == "app_cookie"
    }
    made = [
        scripts.headers_filter(
            drop=attributes["routing.http.drop_invalid_header_fields.enabled"] == "true",
            port=carried[0].appended_port,
            app_cookies=sorted(app_cookies),
            own_cookie=routing.APP_COOKIE,
        )
    ]
    guards = list({authentication.session_of(guard): guard for one in carried for guard in one.guards}.values())
    if guards:
        made.append(authentication.jwt_filter(guards, public_key))
    if any(rule.transforms for one in carried for rule in one.rules):
        made += scripts.rewrite_filters()
    if sticky:
        made.append(extension(routing.STICKY, "extensions.filters.http.stateful_session.v3.StatefulSession"))
    return made


# X-Ray's tracer, for its ids only: it samples nothing and sends nothing on by itself (``headers.of_host`` does).
_TRACE_IDS: Resource = {
    "random_sampling": {"value": 0},
    "no_context_propagation": True,
    "provider": extension(
        "envoy.tracers.xray",
        "config.trace.v3.XRayConfig",
        segment_name="elb",
        daemon_endpoint={"protocol": "UDP", "address": "127.0.0.1", "port_value": 9},
        sampling_rule_manifest={
            "inline_string": '{"version": 2, "rules": [], "default": {"fixed_target": 0, "rate": 0}}'
        },
    ),
}
_SOURCE_HEADER = extension(
    "envoy.http.early_header_mutation.header_mutation",
    "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    mutations=[{"append": header(routing.SOURCE, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")}],
)


def _local_reply(flags: list[str], status: int, words: str) -> Resource:
    source = {"text_format_source": {"inline_string": routing.page(status, words)}, "content_type": "text/html"}
    return {
        "filter": {"response_flag_filter": {"flags": flags}},
        "status_code": status,
        "headers_to_add": [header("server", "awselb/2.0")],
        "body_format_override": source,
    }


# What a load balancer says itself, where Envoy would say 503 to all of it.
_LOCAL_REPLIES = [
    _local_reply(["UF", "UC", "UR", "UPE"], 502, "Bad Gateway"),
    _local_reply(["UH"], 503, "Service Temporarily Unavailable"),
    _local_reply(["UT", "SI"], 504, "Gateway Time-out"),
]
