"""Rules as Envoy's routes: a pure translation of conditions and actions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cloudlet.mesh.routes import destination, header, header_match, retry_policy
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import typed
from cloudlet.services.elbv2 import authentication, scripts
from cloudlet.services.elbv2.attributes import group_attributes
from cloudlet.services.elbv2.records import Document, TargetGroup, groups_of

# The header in which the connection's own address comes to the routes of a listener with source-ip conditions.
SOURCE = "x-cloudlet-source"
STICKY = "envoy.filters.http.stateful_session"
# The cluster of Cloudlet itself: for functions, and for users who have to log in.
HOME = "cloudlet"
APP_COOKIE = "AWSALBAPP-0"
_COOKIE = "AWSALBTG"
_SESSION = "extensions.http.stateful_session.cookie.v3.CookieBasedSessionState"
# Safe for any method: nothing of the request has reached a target.
_RETRY = retry_policy(["connect-failure", "refused-stream", "reset-before-request"], 2)
PLACEHOLDERS = {
    "Protocol": "#{protocol}",
    "Host": "#{host}",
    "Port": "#{port}",
    "Path": "/#{path}",
    "Query": "#{query}",
}


def routes(
    name: str,
    conditions: Sequence[Document],
    actions: Sequence[Document],
    groups: Mapping[str, TargetGroup],
    transforms: Sequence[Document] = (),
) -> list[Resource]:
    """The routes of one rule: those for clients that may pass, then the one for others, if it asks who may."""
    here = match(conditions)
    passing = _outcomes(name, here, actions, groups)
    if transforms:
        for one in passing:
            one["typed_per_filter_config"] = {**one.get("typed_per_filter_config", {}), **_rewrites(transforms)}
    guard = authentication.action_of(actions)
    if guard is None:
        return passing
    metadata = {"dynamic_metadata": authentication.passes(guard)}
    if untold := authentication.untold(guard):
        passing = [{**one, "request_headers_to_remove": untold} for one in passing]
    told = {"request_headers_to_add": headers} if (headers := authentication.told(guard)) else {}
    return [
        *({**one, **told, "match": {**one["match"], **metadata}} for one in passing),
        *_without_session(name, here, guard, passing),
    ]


def _without_session(name: str, here: Resource, guard: Document, passing: list[Resource]) -> list[Resource]:
    """What becomes of clients who are not known."""
    wanted = authentication.config_of(guard).get("OnUnauthenticatedRequest", "authenticate")
    if guard["Type"] == authentication.JWT or wanted == "deny":
        headers = [header("server", "awselb/2.0"), header("content-type", "text/html")]
        body = {"inline_string": page(401, "Authorization Required")}
        answer = {"direct_response": {"status": 401, "body": body}, "response_headers_to_add": headers}
        return [{"name": name, "match": here, **answer}]
    if wanted == "allow":
        return passing
    return [{"name": name, "match": here, **_home(f"/_cloudlet/elb-auth/{authentication.key_of(guard)}")}]


def callback() -> Resource:
    """The route by which users come back from their login, before all rules of a listener."""
    return {"match": {"path": authentication.CALLBACK}, **_home("/_cloudlet/elb-auth/callback")}


def _home(path: str) -> Resource:
    """To Cloudlet itself, with a path before the path."""
    rewrite = {"pattern": {"regex": "^/"}, "substitution": f"{path}/"}
    return {"route": {"cluster": HOME, "timeout": "0s", "regex_rewrite": rewrite}}


def _rewrites(transforms: Sequence[Document]) -> Resource:
    wanted: dict[str, tuple[str, str]] = {}
    for one in transforms:
        (rewrite,) = (one.get("HostHeaderRewriteConfig") or one["UrlRewriteConfig"])["Rewrites"]
        replacement = re.sub(r"\$(\d)", r"\\\1", _escaped(rewrite["Replace"]))
        wanted[one["Type"]] = rewrite["Regex"], replacement
    return scripts.rewrites(wanted.get("host-header-rewrite"), wanted.get("url-rewrite"))


def _outcomes(
    name: str, here: Resource, actions: Sequence[Document], groups: Mapping[str, TargetGroup]
) -> list[Resource]:
    """The routes to what a rule's last action says.

    A client that shall stay with its target group has a cookie which says so, and a route of its own.
    """
    made: Resource = {"name": name, "match": here, **_outcome(actions, groups)}
    choices = made.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
    seconds = _group_stickiness(actions)
    if not choices or not seconds:
        return [made]
    staying = []
    for choice in choices:
        cookie = header_match("cookie", regex=rf"(?:.*;\s*)?{_COOKIE}={choice['name']}(?:;.*)?")
        kept = header("set-cookie", f"{_COOKIE}={choice['name']}; Max-Age={seconds}; Path=/", "APPEND_IF_EXISTS_OR_ADD")
        choice["response_headers_to_add"] = [kept]
        one: Resource = {
            "name": name,
            "match": {**here, "headers": [*here.get("headers", []), cookie]},
            "route": {"cluster": choice["name"], "timeout": "0s", "retry_policy": _RETRY},
            "response_headers_to_add": [kept],
        }
        if "typed_per_filter_config" in choice:
            one["typed_per_filter_config"] = choice["typed_per_filter_config"]
        staying.append(one)
    return [*staying, made]


def _group_stickiness(actions: Sequence[Document]) -> int:
    """For how many seconds a client shall stay with its target group."""
    for action in actions:
        sticky = action.get("ForwardConfig", {}).get("TargetGroupStickinessConfig", {})
        if sticky.get("Enabled"):
            return int(sticky["DurationSeconds"])
    return 0


def match(conditions: Sequence[Document]) -> Resource:
    """The match of all conditions, each of which has at least one value; at most one is of the path."""
    path: Resource = {"prefix": "/"}
    headers: list[Resource] = []
    for condition in conditions:
        field, values, regexes = condition["Field"], values_of(condition), values_of(condition, "RegexValues")
        if field == "path-pattern":
            path = {"safe_regex": {"regex": _found(regexes)}} if regexes else _path(values)
        elif field == "host-header":
            pattern = _found([_with_port(one) for one in regexes]) if regexes else rf"(?:{_any(values)})(?::\d+)?"
            headers.append(header_match(":authority", regex=f"(?i){pattern}"))
        elif field == "http-header":
            name = condition["HttpHeaderConfig"]["HttpHeaderName"].lower()
            headers.append(header_match(name, regex=_found(regexes) if regexes else f"(?i)(?:{_any(values)})"))
        elif field == "http-request-method":
            headers.append(header_match(":method", regex="|".join(re.escape(value) for value in values)))
        elif field == "query-string":
            headers.append(header_match(":path", regex=_query(condition["QueryStringConfig"]["Values"])))
        else:
            headers.append(header_match(SOURCE, regex="|".join(_network(value) for value in values)))
    return {**path, **({"headers": headers} if headers else {})}


def values_of(condition: Document, member: str = "Values") -> list[Any]:
    """A condition's values, wherever they are."""
    for name, config in condition.items():
        if name.endswith("Config"):
            return list(config.get(member, []))
    return list(condition.get(member, []))


def _found(regexes: Sequence[str]) -> str:
    """A regular expression that is found in a whole text where one of these is found somewhere in it."""
    return f"(?s).*(?:{'|'.join(f'(?:{one})' for one in regexes)}).*"


def _with_port(regex: str) -> str:
    """A regular expression for a host that takes one with its port too."""
    return f"{regex[:-1]}(?::[0-9]+)?$" if regex.endswith("$") and not regex.endswith("\\$") else regex


def _outcome(actions: Sequence[Document], groups: Mapping[str, TargetGroup]) -> Resource:
    for action in actions:
        if action["Type"] == "fixed-response":
            return _fixed(action["FixedResponseConfig"])
        if action["Type"] == "redirect":
            return _redirect(action["RedirectConfig"])
    return _forward(actions, groups)


def _forward(actions: Sequence[Document], groups: Mapping[str, TargetGroup]) -> Resource:
    weights = {arn: weight for arn, weight in groups_of(list(actions)).items() if weight and arn in groups}
    chosen = [groups[arn] for arn in weights]
    if not chosen:
        return {"direct_response": {"status": 503}}
    functions = [group for group in chosen if group.type == "lambda"]
    if functions:
        # A path can be rewritten for a route as a whole only: several functions share one, and it draws among them.
        assert len(functions) == len(chosen) == 1, "refused by the operation"
        return _home(f"/_cloudlet/elb-lambda/{functions[0].id}")
    route: Resource = {**destination({group.id: weights[group.arn] for group in chosen}), "timeout": "0s"}
    route["retry_policy"] = _RETRY
    made: Resource = {"route": route}
    session = {group.id: config for group in chosen if (config := _session(group))}
    if len(chosen) == 1:
        if session:
            made["typed_per_filter_config"] = {STICKY: session[chosen[0].id]}
        return made
    for choice in route["weighted_clusters"]["clusters"]:
        if choice["name"] in session:
            choice["typed_per_filter_config"] = {STICKY: session[choice["name"]]}
    return made


def _session(group: TargetGroup) -> Resource | None:
    """The cookie that keeps a client at its target."""
    attributes = group_attributes(group)
    if attributes.get("stickiness.enabled") != "true":
        return None
    kind = attributes["stickiness.type"]
    name = "AWSALB" if kind == "lb_cookie" else APP_COOKIE
    seconds = attributes[f"stickiness.{kind}.duration_seconds"]
    state = typed(_SESSION, cookie={"name": name, "ttl": f"{seconds}s", "path": "/"})
    return typed(
        "extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
        stateful_session={"session_state": {"name": "envoy.http.stateful_session.cookie", "typed_config": state}},
    )


def page(status: int, words: str) -> str:
    """The page with which a load balancer itself answers."""
    title = f"{status} {words}"
    head = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
    return f"{head}<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"


def _fixed(config: Document) -> Resource:
    headers = [header("server", "awselb/2.0")]
    answer: Resource = {"status": int(config["StatusCode"])}
    if body := config.get("MessageBody"):
        answer["body"] = {"inline_string": body}
        headers.append(header("content-type", config.get("ContentType") or "text/plain; charset=utf-8"))
    return {"direct_response": answer, "response_headers_to_add": headers}


def mixed(config: Document) -> str | None:
    """The member of a redirect that mixes a placeholder with other text in a way that is not carried, if any."""
    for name in ("Protocol", "Host", "Port", "Query"):
        value = config.get(name, PLACEHOLDERS[name])
        if "#{" in value and value != PLACEHOLDERS[name]:
            return name
    path = config.get("Path", PLACEHOLDERS["Path"])
    return "Path" if "#{" in path.replace("#{path}", "", 1) else None


def _redirect(config: Document) -> Resource:
    wanted = {name: config.get(name, default) for name, default in PLACEHOLDERS.items()}
    to: Resource = {"response_code": "FOUND" if config["StatusCode"] == "HTTP_302" else "MOVED_PERMANENTLY"}
    if wanted["Protocol"] != "#{protocol}":
        to["scheme_redirect"] = wanted["Protocol"].lower()
    if wanted["Host"] != "#{host}":
        to["host_redirect"] = wanted["Host"]
    if wanted["Port"] != "#{port}":
        to["port_redirect"] = int(wanted["Port"])
    path, query = wanted["Path"], wanted["Query"]
    end = "" if query in ("", "#{query}") else f"?{query}"
    if query != "#{query}":
        to["strip_query"] = True
    if "#{path}" in path:
        if path != "/#{path}" or end:
            before, _, after = path.partition("#{path}")
            substitution = rf"{_escaped(before)}\1{_escaped(after + end)}"
            to["regex_rewrite"] = {"pattern": {"regex": "^/(.*)$"}, "substitution": substitution}
    else:
        to["path_redirect"] = path + end
    return {"redirect": to, "response_headers_to_add": [header("server", "awselb/2.0")]}


def _escaped(substitution: str) -> str:
    return substitution.replace("\\", "\\\\")


def _path(values: Sequence[str]) -> Resource:
    if len(values) == 1:
        (value,) = values
        plain = value.removesuffix("*")
        if not any(sign in plain for sign in "*?"):
            return {"prefix": plain or "/"} if plain != value else {"path": value}
    return {"safe_regex": {"regex": f"(?s)(?:{_any(values)})"}}


def _any(values: Sequence[str]) -> str:
    """A regular expression for patterns with ``*`` and ``?``; a backslash takes the next sign as it is."""
    return "|".join(_pattern(value) for value in values)


def _pattern(value: str) -> str:
    made, signs = [], iter(value)
    for sign in signs:
        if sign == "\\":
            made.append(re.escape(next(signs, "\\")))
        else:
            made.append({"*": ".*", "?": "."}.get(sign) or re.escape(sign))
    return "".join(made)


def _query(pairs: Sequence[Document]) -> str:
    any_of = "|".join(f"{_part(pair['Key']) if pair.get('Key') else '[^=&]*'}={_part(pair['Value'])}" for pair in pairs)
    return rf"(?i)[^?]*\?(?:.*&)?(?:{any_of})(?:&.*)?"


def _part(pattern: str) -> str:
    """Within one parameter: a wildcard does not go beyond it."""
    return _pattern(pattern).replace(".*", "[^&]*")


def _network(cidr: str) -> str:
    """A regular expression for the addresses of a network; those of IPv6 come to no listener of ours."""
    network = ipaddress.ip_network(cidr, strict=False)
    if network.version == 6:
        return "[^.]*:[^.]*"
    first, last = network.network_address.packed, network.broadcast_address.packed
    return r"\.".join(
        str(low)
        if low == high
        else r"\d+"
        if (low, high) == (0, 255)
        else f"(?:{'|'.join(map(str, range(low, high + 1)))})"
        for low, high in zip(first, last, strict=True)
    )
