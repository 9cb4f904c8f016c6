"""Routes of App Mesh as routes of Envoy: what they match, how they try again, how long they wait."""

from __future__ import annotations

import re
from typing import Any

from cloudlet.mesh.routes import header_match, retry_policy
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import seconds
from cloudlet.services.appmesh.world import Spec, seconds_of

# HTTP statuses that stand for the events of a retry policy.
_STATUSES = {
    "server-error": (500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511),
    "gateway-error": (502, 503, 504),
    "client-error": (409,),
}
_NO_PRIORITY = 1001  # after every route that has one (0 to 1000)


def http_match(match: Spec) -> Resource:
    """What an HTTP request must look like."""
    made: Resource = {}
    path = match.get("path", {})
    if "exact" in path:
        made["path"] = path["exact"]
    elif "regex" in path:
        made["safe_regex"] = {"regex": path["regex"]}
    else:
        made["prefix"] = match.get("prefix", "/")
    headers = [_header(header) for header in match.get("headers", [])]
    for name in ("method", "scheme"):
        if name in match:
            headers.append(header_match(f":{name}", exact=match[name]))
    headers += _hostname(match)
    if headers:
        made["headers"] = headers
    if queries := match.get("queryParameters"):
        made["query_parameters"] = [_query(query) for query in queries]
    return made


def grpc_match(match: Spec) -> Resource:
    """What a gRPC call must look like: its path is ``/<service>/<method>``."""
    made: Resource = {"grpc": {}}
    if "methodName" in match:
        made["path"] = f"/{match['serviceName']}/{match['methodName']}"
    else:
        made["prefix"] = f"/{match['serviceName']}/" if "serviceName" in match else "/"
    if headers := [_header(header) for header in match.get("metadata", [])] + _hostname(match):
        made["headers"] = headers
    return made


def _header(header: Spec) -> Resource:
    made: Resource = {"name": header["name"]}
    match: dict[str, Any] = header.get("match", {})
    if "range" in match:
        made["range_match"] = {"start": match["range"]["start"], "end": match["range"]["end"]}
    elif "regex" in match:
        made["string_match"] = {"safe_regex": {"regex": match["regex"]}}
    elif match:
        made["string_match"] = dict(match)
    else:
        made["present_match"] = True
    if header.get("invert"):
        made["invert_match"] = True
    return made


def _query(query: Spec) -> Resource:
    if "exact" in query.get("match", {}):
        return {"name": query["name"], "string_match": {"exact": query["match"]["exact"]}}
    return {"name": query["name"], "present_match": True}


def _hostname(match: Spec) -> list[Resource]:
    """The host of a gateway route, with any port."""
    hostname = match.get("hostname", {})
    if "exact" in hostname:
        return [header_match(":authority", regex=re.escape(hostname["exact"]) + r"(:\d+)?")]
    if "suffix" in hostname:
        return [header_match(":authority", regex=".*" + re.escape(hostname["suffix"]) + r"(:\d+)?")]
    return []


def retries(policy: Spec | None, grpc: bool) -> Resource:
    """The retry policy of a route; without one it is App Mesh's own: twice, where it is safe to try again."""
    if policy is None:
        on = ["connect-failure", "refused-stream", "reset", "unavailable" if grpc else "retriable-status-codes"]
        return retry_policy(on, 2, statuses=() if grpc else (503,))
    on, statuses = [], []
    for event in policy.get("httpRetryEvents", []):
        statuses += [status for status in _STATUSES.get(event, ()) if status not in statuses]
        on += ["refused-stream"] if event == "stream-error" else ["reset"] if event != "client-error" else []
    on += ["connect-failure"] if policy.get("tcpRetryEvents") else []
    on += policy.get("grpcRetryEvents", [])
    on += ["retriable-status-codes"] if statuses else []
    return retry_policy(
        list(dict.fromkeys(on)),
        policy["maxRetries"],
        per_try=seconds_of(policy["perRetryTimeout"]) or 0.0,
        statuses=statuses,
    )


def timeouts(timeout: Spec | None) -> Resource:
    """How long a request may take and be silent; 0 is for ever, nothing is 15 seconds and 5 minutes."""
    made: Resource = {}
    per_request = seconds_of((timeout or {}).get("perRequest"))
    made["timeout"] = seconds(15.0 if per_request is None else per_request)
    if (idle := seconds_of((timeout or {}).get("idle"))) is not None:
        made["idle_timeout"] = seconds(idle)
    return made


def precedence(name: str, spec: Spec, match: Spec) -> tuple[Any, ...]:
    """Sorts routes: by priority, then what says more before what says less."""
    path = match.get("path", {})
    length = len(path.get("exact") or path.get("regex") or match.get("prefix") or "")
    service = ("methodName" in match) + ("serviceName" in match)
    conditions = sum(len(match.get(group, ())) for group in ("headers", "metadata", "queryParameters"))
    conditions += ("method" in match) + ("scheme" in match) + ("hostname" in match)
    return (spec.get("priority", _NO_PRIORITY), "exact" not in path, -service, -length, -conditions, name)
