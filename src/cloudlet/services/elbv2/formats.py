"""What Envoy writes into the files from which logs are made, and AWS's lines of it: pure.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-connection-logs.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-access-logs.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cloudlet.services.elbv2.records import Listener, LoadBalancer, TargetGroup

Seen = dict[str, Any]

REQUESTS, CONNECTIONS, FLOWS = "requests", "connections", "flows"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TLS = {
    "cipher": "%DOWNSTREAM_TLS_CIPHER%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "sni": "%REQUESTED_SERVER_NAME%",
}
REQUEST = {
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
    "root": "%TRACE_ID%",
    "rule": "%ROUTE_NAME%",
    "location": "%RESP(LOCATION)%",
    "connection": "%CONNECTION_ID%",
    **_TLS,
}
CONNECTION = {
    "time": "%START_TIME(%s.%3f)%",
    "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "port": "%DOWNSTREAM_LOCAL_PORT%",
    "handshake_us": "%COMMON_DURATION(DS_CX_BEG:DS_HS_END:us)%",
    "subject": "%DOWNSTREAM_PEER_SUBJECT%",
    "from": f"%DOWNSTREAM_PEER_CERT_V_START({_TIME})%",
    "to": f"%DOWNSTREAM_PEER_CERT_V_END({_TIME})%",
    "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "connection": "%CONNECTION_ID%",
    **_TLS,
}
FLOW = {
    "time": "%START_TIME(%s.%3f)%",
    "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "here": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "took_ms": "%DURATION%",
    "handshake_us": "%COMMON_DURATION(DS_CX_BEG:DS_HS_END:us)%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    **_TLS,
}


def of_flow(one: Listener) -> dict[str, str]:
    """What is written of the connections of a network load balancer's TLS listener."""
    return {**FLOW, "listener": one.id, "certificate": one.certificates[0] if one.certificates else "-"}


class Context(NamedTuple):
    """Whose lines they are; ``offset`` is how far the cloud's clock is ahead of the machine's."""

    owner: LoadBalancer
    groups: Mapping[str, TargetGroup]
    offset: float = 0.0


def request(of: Context, seen: Seen) -> str:
    """One request to an application load balancer."""
    begun = float(seen["time"]) + of.offset
    took = [seen.get(part) for part in ("received_us", "target_us", "sent_us")]
    ended = begun + sum(part for part in took if part) / 1e6
    target = seen.get("target") or "-"
    group = of.groups.get(seen.get("group") or "")
    scheme = "https" if seen.get("tls") else "http"
    kind = {"HTTP/2": "h2"}.get(seen["protocol"], scheme) if scheme == "https" else "http"
    status, rule = seen["status"], seen.get("rule")
    has_answer = target != "-"
    parts = [
        kind,
        _time(ended),
        of.owner.path,
        seen["client"],
        target,
        *(f"{part / 1e6:.3f}" if part is not None and has_answer else "-1" for part in took),
        str(status or "-"),
        str(status) if has_answer and seen.get("flags") == "-" else "-",
        str(seen["bytes_in"]),
        str(seen["bytes_out"]),
        f'"{seen["method"] or "-"} {scheme}://{seen["authority"] or "-"}{seen["path"] or "-"} {seen["protocol"]}"',
        f'"{seen.get("agent") or "-"}"',
        seen.get("cipher") or "-",
        seen.get("tls") or "-",
        group.arn if group else "-",
        f'"{seen.get("trace") or _root(seen)}"',
        f'"{seen.get("sni") or "-"}"',
        '"-"',
        rule if rule is not None else "-",
        _time(begun),
        f'"{_action(seen)}"',
        f'"{seen.get("location") or "-"}"' if not has_answer else '"-"',
        '"-"',
        f'"{target}"',
        f'"{status if has_answer else "-"}"',
        '"-"',
        '"-"',
        _trace(of, seen),
    ]
    return " ".join(parts) + "\n"


def connection(of: Context, seen: Seen) -> str:
    """One connection to an application load balancer."""
    address, _, port = seen["client"].rpartition(":")
    took, failure = seen.get("handshake_us"), seen.get("failure")
    status = "-"
    if seen.get("subject") or failure:
        status = f"Failed:{_failure(failure)}" if failure else "Success"
    validity = f'"NotBefore={seen["from"]};NotAfter={seen["to"]}"' if seen.get("from") else "-"
    parts = [
        _time(float(seen["time"]) + of.offset),
        address,
        port,
        str(seen["port"]),
        seen.get("tls") or "-",
        seen.get("cipher") or "-",
        f"{took / 1e6:.3f}" if took is not None else "-",
        f'"{seen["subject"]}"' if seen.get("subject") else "-",
        validity,
        seen.get("serial") or "-",
        status,
        _trace(of, seen),
    ]
    return " ".join(parts) + "\n"


def flow(of: Context, seen: Seen) -> str:
    """One TLS connection to a network load balancer."""
    begun = float(seen["time"]) + of.offset
    took = seen.get("handshake_us")
    parts = [
        "tls",
        "2.0",
        _log_time(begun + seen["took_ms"] / 1000),
        of.owner.path,
        seen["listener"],
        seen["client"],
        seen["here"],
        str(seen["took_ms"]),
        str(round(took / 1000)) if took is not None else "-",
        str(seen["bytes_in"]),
        str(seen["bytes_out"]),
        "-",
        seen["certificate"],
        "-",
        seen.get("cipher") or "-",
        (seen.get("tls") or "-").replace("TLSv1.", "tlsv1").replace("TLSv1", "tlsv1"),
        "-",
        seen.get("sni") or "-",
        "-",
        "-",
        "-",
        _log_time(begun),
    ]
    return " ".join(parts) + "\n"


LINES: dict[str, Callable[[Context, Seen], str]] = {REQUESTS: request, CONNECTIONS: connection, FLOWS: flow}


def _trace(of: Context, seen: Seen) -> str:
    """What a connection and its requests have in common."""
    number = seen.get("connection")
    if number is None:
        return "-"
    return f"TID_{hashlib.sha256(f'{of.owner.id}/{number}'.encode()).hexdigest()[:32]}"


def _root(seen: Seen) -> str:
    """The trace of a request that no target was told of."""
    return f"Root={seen['root']}" if seen.get("root") else "-"


def _failure(reason: str) -> str:
    text = reason.upper()
    if "EXPIRED" in text:
        return "ClientCertExpired"
    if "REVOKED" in text:
        return "ClientCertCrlHit"
    return "ClientCertUntrusted" if "VERIFY" in text else "UnmappedConnectionError"


def _action(seen: Seen) -> str:
    if seen.get("group"):
        return "forward"
    return "redirect" if seen.get("location") else "fixed-response"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _log_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
