"""The headers that a load balancer puts into requests and answers: pure, from attributes."""

from __future__ import annotations

from cloudlet.mesh.routes import header
from cloudlet.mesh.snapshot import Resource
from cloudlet.services.elbv2 import routing
from cloudlet.services.elbv2.attributes import (
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    listener_attributes,
    load_balancer_attributes,
)
from cloudlet.services.elbv2.records import Listener, LoadBalancer

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_VERIFIED = {
    "x_amzn_mtls_clientcert_serial_number": "%DOWNSTREAM_PEER_SERIAL%",
    "x_amzn_mtls_clientcert_issuer": "%DOWNSTREAM_PEER_ISSUER%",
    "x_amzn_mtls_clientcert_subject": "%DOWNSTREAM_PEER_SUBJECT%",
    "x_amzn_mtls_clientcert_validity": (
        f"NotBefore=%DOWNSTREAM_PEER_CERT_V_START({_TIME})%;NotAfter=%DOWNSTREAM_PEER_CERT_V_END({_TIME})%"
    ),
    "x_amzn_mtls_clientcert_leaf": "%DOWNSTREAM_PEER_CERT%",
}
_PASSED = {"x_amzn_mtls_clientcert": "%DOWNSTREAM_PEER_CERT%"}
_TLS = {"x_amzn_tls_version": "%DOWNSTREAM_TLS_VERSION%", "x_amzn_tls_cipher_suite": "%DOWNSTREAM_TLS_CIPHER%"}


def of_host(owner: LoadBalancer, one: Listener, has_source: bool) -> Resource:
    """What the virtual host of a listener says of headers; ``has_source``: the source address is in one of them."""
    attributes = load_balancer_attributes(owner)
    added = [header("x-forwarded-port", str(one.port)), header("x-amzn-trace-id", "Root=%TRACE_ID%", "ADD_IF_ABSENT")]
    removed = ["x-envoy-external-address", *([routing.SOURCE] if has_source else [])]
    mode = attributes["routing.http.xff_header_processing.mode"]
    if mode == "remove":
        removed.append("x-forwarded-for")
    elif mode == "append":
        has_port = attributes["routing.http.xff_client_port.enabled"] == "true"
        client = f"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS{'' if has_port else '_WITHOUT_PORT'}%"
        added.append(header("x-forwarded-for", client, "APPEND_IF_EXISTS_OR_ADD"))
    told = _told(attributes, one)
    names = {**REQUEST_HEADERS, **_renamed(one)}
    added += [header(names[name].lower(), value) for name, value in told.items()]
    removed += [names[name].lower() for name in told]
    made: Resource = {"request_headers_to_add": added, "request_headers_to_remove": removed}
    own = listener_attributes(one)
    inserted = {name: own.get(f"routing.http.response.{name}.header_value", "") for name in RESPONSE_HEADERS}
    if any(inserted.values()):
        made["response_headers_to_add"] = [
            header(name.replace("_", "-"), value.replace("%", "%%"))
            for name, value in sorted(inserted.items())
            if value
        ]
    if own["routing.http.response.server.enabled"] == "false":
        made["response_headers_to_remove"] = ["server"]
    return made


def _told(attributes: dict[str, str], one: Listener) -> dict[str, str]:
    """What targets are told of the connection and the client's certificate, by the names in attributes."""
    if one.protocol != "HTTPS":
        return {}
    is_told = attributes["routing.http.x_amzn_tls_version_and_cipher_suite.enabled"] == "true"
    mutual = {"verify": _VERIFIED, "passthrough": _PASSED}.get(one.mutual.get("Mode", "off"), {})
    return {**(_TLS if is_told else {}), **mutual}


def _renamed(one: Listener) -> dict[str, str]:
    start, end = "routing.http.request.", ".header_name"
    return {
        key.removeprefix(start).removesuffix(end): value
        for key, value in one.attributes.items()
        if key.startswith(start) and value
    }
