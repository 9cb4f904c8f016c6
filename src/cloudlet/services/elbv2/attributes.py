"""Every attribute that AWS knows of load balancers, listeners and target groups, and what becomes of it here.

An attribute either has its effect (``effect`` says where), or it has no meaning on one machine (``effect`` says why),
or those of its values that would not be carried are refused by name (``refused``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cloudlet.errors import not_implemented
from cloudlet.services.elbv2.errors import misconfigured
from cloudlet.services.elbv2.records import Listener, LoadBalancer, TargetGroup


class Values(NamedTuple):
    """The values that an attribute may have, and how an error says it."""

    takes: Callable[[str], bool]
    said: str


def _words(*words: str) -> Values:
    return Values(lambda value: value in words, f"one of [{', '.join(words)}]")


def _number(low: int, high: int, *words: str) -> Values:
    """A number within inclusive bounds, or one of some words."""
    said = f"between {low} and {high} inclusive"
    return Values(lambda value: value in words or (value.isdecimal() and low <= int(value) <= high), said)


_FLAG = _words("true", "false")
_ANY = Values(lambda value: True, "any text")
_NAME = Values(lambda value: re.fullmatch("[A-Za-z0-9_-]{1,40}", value) is not None, "the name of a header")
_VALUE = Values(lambda value: re.fullmatch("[ -~]{0,1024}", value) is not None, "printable characters, at most 1024")
_COOKIE = Values(
    lambda value: re.fullmatch(r"(?!AWSALB)[A-Za-z0-9!#$%&'*+.^_`|~-]{0,256}", value) is not None,
    "the name of a cookie, which cannot begin with AWSALB",
)
_ONE_MACHINE = "no meaning: all zones are this machine"


class Attribute(NamedTuple):
    """What an attribute is made with and may become; ``refused`` are values that AWS takes and Cloudlet does not."""

    default: str
    values: Values
    effect: str
    refused: Values | None = None


_TRUE = _words("true")


def _log(kind: str, effect: str, refused: Values | None = None) -> dict[str, Attribute]:
    return {
        f"{kind}.s3.enabled": Attribute("false", _FLAG, effect, refused),
        f"{kind}.s3.bucket": Attribute("", _ANY, effect),
        f"{kind}.s3.prefix": Attribute("", _ANY, effect),
    }


_EVERY_LOAD_BALANCER = {
    "deletion_protection.enabled": Attribute("false", _FLAG, "DeleteLoadBalancer"),
    "ipv6.deny_all_igw_traffic": Attribute(
        "false", _FLAG, "no meaning: there is no internet gateway before this machine"
    ),
    "zonal_shift.config.enabled": Attribute("false", _FLAG, _ONE_MACHINE),
    **_log("access_logs", "a file of Envoy's, delivered by logs.py"),
}
_APPLICATION = {
    **_EVERY_LOAD_BALANCER,
    **_log("connection_logs", "a file of Envoy's, delivered by logs.py"),
    **_log("health_check_logs", "not there: Envoy tells of changes only", _TRUE),
    "client_keep_alive.seconds": Attribute("3600", _number(60, 604800), "Envoy's max_connection_duration"),
    "idle_timeout.timeout_seconds": Attribute("60", _number(1, 4000), "Envoy's idle timeouts"),
    "load_balancing.cross_zone.enabled": Attribute("true", _TRUE, _ONE_MACHINE),
    "routing.http.desync_mitigation_mode": Attribute(
        "defensive",
        _words("monitor", "defensive", "strictest"),
        "no meaning: Envoy refuses ambiguous requests in every mode",
    ),
    "routing.http.drop_invalid_header_fields.enabled": Attribute("false", _FLAG, "scripts.py"),
    "routing.http.preserve_host_header.enabled": Attribute("false", _FLAG, "scripts.py"),
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": Attribute("false", _FLAG, "headers.py"),
    "routing.http.x_amzn_tls_kx.enabled": Attribute("false", _FLAG, "not there: Envoy does not tell the group", _TRUE),
    "routing.http.xff_client_port.enabled": Attribute("false", _FLAG, "headers.py"),
    "routing.http.xff_header_processing.mode": Attribute(
        "append", _words("append", "preserve", "remove"), "headers.py"
    ),
    "routing.http2.enabled": Attribute("true", _FLAG, "the ALPN of HTTPS listeners"),
    "waf.fail_open.enabled": Attribute("false", _FLAG, "no meaning: no WAF is in the way"),
}
_NETWORK = {
    **_EVERY_LOAD_BALANCER,
    "dns_record.client_routing_policy": Attribute(
        "any_availability_zone",
        _words("availability_zone_affinity", "partial_availability_zone_affinity", "any_availability_zone"),
        _ONE_MACHINE,
    ),
    "load_balancing.cross_zone.enabled": Attribute("false", _FLAG, _ONE_MACHINE),
    "secondary_ips.auto_assigned.per_subnet": Attribute(
        "0", _number(0, 7), "no meaning: ports to targets do not run out"
    ),
}
_LOAD_BALANCERS = {"application": _APPLICATION, "network": _NETWORK}

REQUEST_HEADERS = {
    "x_amzn_mtls_clientcert_serial_number": "X-Amzn-Mtls-Clientcert-Serial-Number",
    "x_amzn_mtls_clientcert_issuer": "X-Amzn-Mtls-Clientcert-Issuer",
    "x_amzn_mtls_clientcert_subject": "X-Amzn-Mtls-Clientcert-Subject",
    "x_amzn_mtls_clientcert_validity": "X-Amzn-Mtls-Clientcert-Validity",
    "x_amzn_mtls_clientcert_leaf": "X-Amzn-Mtls-Clientcert-Leaf",
    "x_amzn_mtls_clientcert": "X-Amzn-Mtls-Clientcert",
    "x_amzn_tls_version": "X-Amzn-Tls-Version",
    "x_amzn_tls_cipher_suite": "X-Amzn-Tls-Cipher-Suite",
}
RESPONSE_HEADERS = (
    "strict_transport_security",
    "access_control_allow_origin",
    "access_control_allow_methods",
    "access_control_allow_headers",
    "access_control_allow_credentials",
    "access_control_expose_headers",
    "access_control_max_age",
    "content_security_policy",
    "x_content_type_options",
    "x_frame_options",
)
_HTTP_LISTENER = {
    "routing.http.response.server.enabled": Attribute("true", _FLAG, "headers.py"),
    **{f"routing.http.response.{name}.header_value": Attribute("", _VALUE, "headers.py") for name in RESPONSE_HEADERS},
}
_TCP_LISTENER = {"tcp.idle_timeout.seconds": Attribute("350", _number(60, 6000), "Envoy's idle timeout")}
_LISTENERS: dict[str, dict[str, Attribute]] = {
    "HTTP": _HTTP_LISTENER,
    "HTTPS": {
        **_HTTP_LISTENER,
        **{
            f"routing.http.request.{name}.header_name": Attribute(default, _NAME, "headers.py")
            for name, default in REQUEST_HEADERS.items()
        },
    },
    "TCP": _TCP_LISTENER,
    "TCP_UDP": _TCP_LISTENER,
    "TLS": {},
    "UDP": {},
}

_GROUP = {
    "deregistration_delay.timeout_seconds": Attribute("300", _number(0, 3600), "targets.py"),
    "load_balancing.cross_zone.enabled": Attribute(
        "use_load_balancer_configuration", _words("true", "false", "use_load_balancer_configuration"), _ONE_MACHINE
    ),
    "stickiness.enabled": Attribute("false", _FLAG, "routing.py"),
    "target_group_health.dns_failover.minimum_healthy_targets.count": Attribute(
        "1", _number(1, 1000, "off"), _ONE_MACHINE
    ),
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": Attribute(
        "off", _number(1, 100, "off"), _ONE_MACHINE
    ),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": Attribute(
        "1", _number(1, 1000), "not there: Envoy knows a percentage", _number(2, 1000)
    ),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": Attribute(
        "off", _number(1, 100, "off"), "Envoy's panic threshold"
    ),
}
_WEEK = _number(1, 604800)
_HTTP_GROUP = {
    **_GROUP,
    "load_balancing.algorithm.type": Attribute(
        "round_robin", _words("round_robin", "least_outstanding_requests", "weighted_random"), "clusters.py"
    ),
    "load_balancing.algorithm.anomaly_mitigation": Attribute("off", _words("on", "off"), "Envoy's outlier detection"),
    "slow_start.duration_seconds": Attribute("0", _number(30, 900, "0"), "Envoy's slow start"),
    "stickiness.type": Attribute("lb_cookie", _words("lb_cookie", "app_cookie"), "routing.py"),
    "stickiness.app_cookie.cookie_name": Attribute("", _COOKIE, "routing.py"),
    "stickiness.app_cookie.duration_seconds": Attribute("86400", _WEEK, "routing.py"),
    "stickiness.lb_cookie.duration_seconds": Attribute("86400", _WEEK, "routing.py"),
}
_HTTP2_GROUP = {
    **_HTTP_GROUP,
    "routing.http2.rst_stream_error_forwarding.enabled": Attribute(
        "false", _FLAG, "not there: Envoy answers 502", _TRUE
    ),
}
_INSPECTION = Attribute(
    "inspect_immediately",
    _words("inspect_immediately", "inspect_after_sufficient_data"),
    "no meaning: no WAF is in the way",
)
_CLIENT = "a target sees the load balancer's address: there is one machine, and no other may be claimed"
_BYTES_GROUP = {
    **_GROUP,
    "deregistration_delay.connection_termination.enabled": Attribute(
        "false", _FLAG, "not there: Envoy leaves connections to a target that has gone", _TRUE
    ),
    "preserve_client_ip.enabled": Attribute("false", _FLAG, _CLIENT, _TRUE),
    "proxy_protocol_v2.enabled": Attribute("false", _FLAG, "clusters.py"),
    "stickiness.type": Attribute("source_ip", _words("source_ip"), "clusters.py"),
    "target_health_state.unhealthy.connection_termination.enabled": Attribute("true", _FLAG, "clusters.py"),
    "target_health_state.unhealthy.draining_interval_seconds": Attribute(
        "0", _number(0, 360000), "not there: an unhealthy target gets no new connections at once", _number(1, 360_000)
    ),
}
_DATAGRAM_GROUP = {
    **_BYTES_GROUP,
    "deregistration_delay.connection_termination.enabled": Attribute(
        "true", _FLAG, "a flow ends with its target: Envoy's sessions choose again", _words("false")
    ),
    "preserve_client_ip.enabled": Attribute("true", _TRUE, _CLIENT),
    "proxy_protocol_v2.enabled": Attribute("false", _FLAG, "not there for datagrams", _TRUE),
    "target_health_state.unhealthy.connection_termination.enabled": Attribute("false", _words("false"), "as AWS's"),
}
_FAILOVER = _words("rebalance", "no_rebalance")
_RECORD = "no meaning: no gateway load balancer carries it"
_GENEVE_GROUP = {
    "deregistration_delay.timeout_seconds": Attribute("300", _number(0, 3600), _RECORD),
    "stickiness.enabled": Attribute("false", _FLAG, _RECORD),
    "stickiness.type": Attribute(
        "source_ip_dest_ip_proto", _words("source_ip_dest_ip_proto", "source_ip_dest_ip"), _RECORD
    ),
    "send_tcp_reset.on_deregistration.enabled": Attribute("false", _FLAG, _RECORD),
    "send_tcp_reset.on_unhealthy.enabled": Attribute("false", _FLAG, _RECORD),
    "target_failover.on_deregistration": Attribute("no_rebalance", _FAILOVER, _RECORD),
    "target_failover.on_unhealthy": Attribute("no_rebalance", _FAILOVER, _RECORD),
}
_LAMBDA_GROUP = {"lambda.multi_value_headers.enabled": Attribute("false", _FLAG, "functions.py")}


def of_load_balancer(one: LoadBalancer) -> Mapping[str, Attribute]:
    """The attributes that a load balancer has."""
    known = _LOAD_BALANCERS[one.type]
    if one.scheme == "internal":
        key = "ipv6.deny_all_igw_traffic"
        return {**known, key: known[key]._replace(default="true")}
    return known


def of_listener(one: Listener) -> Mapping[str, Attribute]:
    """The attributes that a listener has."""
    return _LISTENERS[one.protocol]


def of_group(group: TargetGroup) -> Mapping[str, Attribute]:
    """The attributes that a target group has."""
    if group.type == "lambda":
        return _LAMBDA_GROUP
    if group.protocol in ("HTTP", "HTTPS"):
        if group.version == "HTTP2":
            return {**_HTTP2_GROUP, "waf.http2.traffic_inspection_behavior": _INSPECTION}
        return _HTTP2_GROUP if group.version == "GRPC" else _HTTP_GROUP
    if group.protocol == "GENEVE":
        return _GENEVE_GROUP
    if group.protocol in ("UDP", "TCP_UDP"):
        return _DATAGRAM_GROUP
    if group.type == "instance":
        return {**_BYTES_GROUP, "preserve_client_ip.enabled": Attribute("true", _FLAG, _CLIENT)}
    return _BYTES_GROUP


def load_balancer_attributes(one: LoadBalancer) -> dict[str, str]:
    """A load balancer's attributes, with what it was made with."""
    return _values(of_load_balancer(one), one.attributes)


def listener_attributes(one: Listener) -> dict[str, str]:
    """A listener's attributes, with what it was made with."""
    return _values(of_listener(one), one.attributes)


def group_attributes(group: TargetGroup) -> dict[str, str]:
    """A target group's attributes, with what it was made with."""
    return _values(of_group(group), group.attributes)


def check(kind: str, known: Mapping[str, Attribute], changes: Mapping[str, str]) -> None:
    """Raises InvalidConfigurationRequest and NotImplemented; ``kind`` is ``Target group`` and the like."""
    for key in changes:
        if key not in known:
            raise misconfigured(f"{kind} attribute key '{key}' is not recognized")
    for key, value in changes.items():
        one = known[key]
        if not one.values.takes(value):
            raise misconfigured(f"{kind} attribute '{key}' cannot be '{value}'; it must be {one.values.said}")
        if one.refused is not None and one.refused.takes(value):
            raise not_implemented(f"the {kind.lower()} attribute {key}={value}")


def described(values: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    """Attributes as the operations show them."""
    return {"Attributes": [{"Key": key, "Value": value} for key, value in sorted(values.items())]}


def _values(known: Mapping[str, Attribute], own: Mapping[str, str]) -> dict[str, str]:
    return {key: own.get(key, one.default) for key, one in known.items()}
