"""Conditions and actions: AWS's rules for them, and the form in which they are kept and shown."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.elbv2 import authentication, routing
from cloudlet.services.elbv2.errors import invalid
from cloudlet.services.elbv2.records import Document

_CONFIGS = {
    "host-header": "HostHeaderConfig",
    "path-pattern": "PathPatternConfig",
    "http-header": "HttpHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}
_MAY_REPEAT = ("http-header", "query-string")
_LAST = ("forward", "redirect", "fixed-response")
_GUARDS = {authentication.OIDC: "AuthenticateOidcConfig", authentication.JWT: "JwtValidationConfig"}


def conditions(given: list[Document]) -> list[Document]:
    """A rule's conditions as they are kept. Raises ValidationError."""
    if not given:
        raise invalid("A condition must be specified")
    made = [_condition(one) for one in given]
    fields = [one["Field"] for one in made]
    for field in fields:
        if field not in _MAY_REPEAT and fields.count(field) > 1:
            raise invalid(f"Rules can have only one '{field}' condition")
    return made


def _condition(given: Document) -> Document:
    field = given.get("Field")
    if not field:
        raise invalid("A condition field must be specified")
    if field not in _CONFIGS:
        raise invalid(f"Condition field '{field}' must be one of '[{', '.join(_CONFIGS)}]'")
    name = _CONFIGS[field]
    config = given.get(name, {})
    if regexes := config.get("RegexValues") or given.get("RegexValues"):
        return _regexes(field, name, config, regexes, bool(config.get("Values") or given.get("Values")))
    if field in ("host-header", "path-pattern"):
        return _patterns(given, field, name)
    if name not in given:
        raise invalid(f"A '{name}' must be specified with '{field}'")
    values: list[Any] = config.get("Values", [])
    if field == "http-header":
        _header_name(config)
    if not values:
        raise invalid(f"A '{field}' value must be specified")
    for value in values:
        if field == "query-string":
            _query_pair(value)
        elif field == "http-request-method":
            _within(field, value, 40)
            if not re.fullmatch("[A-Z_-]+", value):
                allowed = "the allowed characters are A-Z, hyphen and underscore"
                raise invalid(f"The 'http-request-method' value is invalid; {allowed}")
        elif field == "source-ip":
            _cidr(value)
        else:
            _within(field, value, 128)
    return {"Field": field, name: config}


def _regexes(field: str, name: str, config: Document, regexes: list[str], has_values: bool) -> Document:
    """A condition with regular expressions in the place of values."""
    if field not in ("host-header", "path-pattern", "http-header"):
        raise invalid(f"You cannot specify 'RegexValues' with '{field}'")
    if has_values:
        raise invalid("You cannot specify both 'Values' and 'RegexValues' for a condition")
    if field == "http-header":
        _header_name(config)
    for regex in regexes:
        _within(field, regex, 128)
        _regex(regex)
    kept = {"HttpHeaderName": config["HttpHeaderName"]} if field == "http-header" else {}
    return {"Field": field, name: {**kept, "RegexValues": regexes}}


def _header_name(config: Document) -> None:
    header = config.get("HttpHeaderName", "")
    if not header:
        raise invalid("An 'HttpHeaderName' must be specified with 'http-header'")
    _within("HttpHeaderName", header, 40)
    if header.lower() == "host":
        raise invalid("The 'HttpHeaderName' cannot be 'Host'; use a 'host-header' condition")
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~*?-]+", header):
        raise invalid(f"The 'HttpHeaderName' value '{header}' is not the name of a header")


def _regex(regex: str) -> int:
    """How many groups it has. Raises ValidationError for what is none, or has parts that AWS and Envoy exclude."""
    try:
        groups = re.compile(regex).groups
    except re.error as error:
        raise invalid(f"The regular expression '{regex}' is not valid: {error}") from None
    if re.search(_EXCLUDED, regex) or groups > 9:
        raise invalid(f"The regular expression '{regex}' has a part that is not supported")
    return groups


# Looking around, references back, atomic groups, possessive quantifiers, conditions, comments, classes of Unicode.
_EXCLUDED = r"\(\?(?!:|[ims]+[):])|[*+?}]\+|\\[1-9pPkgGuUNZXR]|\{(?:\d*,)?\d{4,}"


def transforms(given: list[Document]) -> list[Document]:
    """A rule's transforms as they are kept. Raises ValidationError."""
    made = []
    for one in given:
        name = _REWRITES[one["Type"]]
        found = one.get(name, {}).get("Rewrites", [])
        if len(found) != 1:
            raise invalid(f"A transform of type '{one['Type']}' must have exactly one rewrite in '{name}'")
        replacement = found[0]["Replace"]
        if any(int(number) > _regex(found[0]["Regex"]) for number in ("0", *re.findall(r"\$(\d)", replacement))):
            raise invalid(f"The replacement '{replacement}' refers to a group that the regular expression has not")
        made.append({"Type": one["Type"], name: {"Rewrites": found}})
    if len({one["Type"] for one in made}) < len(made):
        raise invalid("A rule can have only one transform of each type")
    return made


_REWRITES = {"host-header-rewrite": "HostHeaderRewriteConfig", "url-rewrite": "UrlRewriteConfig"}


def _patterns(given: Document, field: str, name: str) -> Document:
    values = given.get("Values", [])
    if len(values) > 1:
        raise invalid(f"The '{field}' field contains too many values; the limit is '1'")
    if values and name in given and given[name].get("Values", values) != values:
        raise invalid(f"You cannot specify both 'Values' and '{name}' for a condition")
    values = values or given.get(name, {}).get("Values", [])
    if not values:
        raise invalid("A condition value must be specified")
    for value in values:
        _within(field, value, 128)
    return {"Field": field, **({"Values": values} if len(values) == 1 else {}), name: {"Values": values}}


def _query_pair(pair: Document) -> None:
    if not pair.get("Value"):
        raise invalid("A 'Value' must be specified in 'QueryStringKeyValuePair'")
    _within("Key", pair.get("Key", ""), 128)
    _within("Value", pair["Value"], 128)


def _cidr(value: str) -> None:
    try:
        if "/" not in value:
            raise ValueError
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise invalid(f"The 'source-ip' value '{value}' must be a CIDR block") from None


def _within(name: str, value: str, limit: int) -> None:
    if len(value) > limit:
        raise invalid(f"The '{name}' value is too long; the limit is '{limit}'")


def actions(
    given: list[Document], protocol: str, port: int, operation: str, before: Sequence[Document] = ()
) -> list[Document]:
    """The actions of a listener or a rule as they are kept; ``before`` are those that they replace.

    Raises ValidationError and InvalidLoadBalancerAction.
    """
    if not given:
        raise invalid("An action must be specified")
    for one in given:
        if one["Type"] not in (*_LAST, *_GUARDS):
            raise not_implemented(f"{operation} with an action of type {one['Type']}")
    if len(given) > 1 and any("Order" not in one for one in given):
        raise invalid("An action order must be specified")
    ordered = sorted(given, key=lambda one: int(one.get("Order", 1)))
    if len({one.get("Order") for one in ordered}) < len(ordered):
        raise invalid("Action orders must be unique")
    guards, ends = [one for one in ordered if one["Type"] in _GUARDS], [one for one in ordered if one["Type"] in _LAST]
    for one in guards:
        if protocol != "HTTPS":
            raise _bad(f"Actions of type '{one['Type']}' are supported only on HTTPS listeners")
    if len(ends) != 1 or ordered[-1] is not ends[0] or len(guards) > 1:
        raise _bad("You must specify exactly one forward, redirect or fixed-response action, and it must be the last")
    return [
        *(_guard(one, before, operation) for one in guards),
        *(_action(one, protocol, port, operation) for one in ends),
    ]


def shown(kept: list[Document]) -> list[Document]:
    """Actions as the operations show them: without secrets."""
    return [
        {**one, _OIDC: {name: value for name, value in one[_OIDC].items() if name != "ClientSecret"}}
        if _OIDC in one
        else one
        for one in kept
    ]


_OIDC = "AuthenticateOidcConfig"
_SESSION = {
    "OnUnauthenticatedRequest": "authenticate",
    "Scope": "openid",
    "SessionCookieName": authentication.COOKIE,
    "SessionTimeout": 604_800,
}


def _guard(one: Document, before: Sequence[Document], operation: str) -> Document:
    """An action that says who may pass."""
    kept: Document = {"Type": one["Type"], **({"Order": one["Order"]} if "Order" in one else {})}
    name = _GUARDS[one["Type"]]
    if name not in one:
        raise invalid(f"A '{name}' must be specified for an action of type '{one['Type']}'")
    config = {**one[name]}
    if one["Type"] == authentication.JWT:
        _url("JwksEndpoint", config["JwksEndpoint"])
        for claim in config.get("AdditionalClaims", []):
            if claim["Name"] in ("exp", "iss", "nbf", "iat"):
                raise invalid(f"The claim '{claim['Name']}' is validated by default and cannot be an additional claim")
        return {**kept, name: config}
    for endpoint in ("AuthorizationEndpoint", "TokenEndpoint", "UserInfoEndpoint"):
        _url(endpoint, config[endpoint])
    config = {**_SESSION, **config}
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}", config["SessionCookieName"]):
        raise invalid(f"The session cookie name '{config['SessionCookieName']}' is not valid")
    if not 1 <= config["SessionTimeout"] <= 604_800:
        raise invalid("The session timeout must be between 1 and 604800 seconds inclusive")
    if config.pop("UseExistingClientSecret", False):
        if "ClientSecret" in config:
            raise invalid("You cannot specify a client secret when 'UseExistingClientSecret' is true")
        there = [action[_OIDC] for action in before if action["Type"] == authentication.OIDC]
        if not there:
            raise invalid("There is no existing client secret that could be used")
        config["ClientSecret"] = there[0]["ClientSecret"]
    if not config.get("ClientSecret"):
        raise invalid("A client secret must be specified")
    return {**kept, name: config}


def _url(name: str, value: str) -> None:
    """AWS wants HTTPS; what is on this machine may do without. Raises ValidationError."""
    try:
        where = urlsplit(value)
        host, _ = where.hostname or "", where.port
    except ValueError:
        raise invalid(f"The '{name}' value '{value}' is not a valid URL") from None
    is_here = host == "localhost" or host.endswith(".localhost") or host.startswith("127.")
    if not host or not (where.scheme == "https" or (where.scheme == "http" and is_here)):
        raise invalid(f"The '{name}' value '{value}' must be a full URL, including the HTTPS protocol and the domain")


def _action(one: Document, protocol: str, port: int, operation: str) -> Document:
    if one["Type"] == "forward":
        return _forward(one)
    if protocol not in ("HTTP", "HTTPS"):
        raise _bad(f"Actions of type '{one['Type']}' are not supported for listeners with protocol '{protocol}'")
    order = {"Order": one["Order"]} if "Order" in one else {}
    if one["Type"] == "redirect":
        if "RedirectConfig" not in one:
            raise invalid("A redirect action must have a redirect configuration")
        return {
            "Type": "redirect",
            **order,
            "RedirectConfig": _redirect(one["RedirectConfig"], protocol, port, operation),
        }
    config = one.get("FixedResponseConfig")
    if config is None:
        raise invalid("A fixed-response action must have a fixed response configuration")
    kinds = ("text/plain", "text/css", "text/html", "application/javascript", "application/json")
    if config.get("ContentType") and config["ContentType"] not in kinds:
        raise _bad(f"The ContentType must be one of:'{', '.join(kinds)}'")
    return {"Type": "fixed-response", **order, "FixedResponseConfig": config}


def _forward(one: Document) -> Document:
    config = one.get("ForwardConfig", {})
    chosen = config.get("TargetGroups", [])
    if not chosen:
        if not one.get("TargetGroupArn"):
            raise invalid("A target group ARN must be specified")
        chosen = [{"TargetGroupArn": one["TargetGroupArn"]}]
    elif one.get("TargetGroupArn") and [group["TargetGroupArn"] for group in chosen] != [one["TargetGroupArn"]]:
        words = "You cannot specify both a target group ARN and a forward configuration with other target groups"
        raise _bad(words)
    if len(chosen) > 5:
        raise AwsError(
            "TooManyUniqueTargetGroupsPerLoadBalancerException", "A forward action has at most 5 target groups"
        )
    arns = [group["TargetGroupArn"] for group in chosen]
    if len(set(arns)) < len(arns):
        raise invalid("Target group ARNs must be unique within a forward action")
    weighted = [{"TargetGroupArn": group["TargetGroupArn"], "Weight": group.get("Weight", 1)} for group in chosen]
    for group in weighted:
        if not 0 <= group["Weight"] <= 999:
            raise invalid(f"The weight '{group['Weight']}' must be between 0 and 999 inclusive")
    sticky = config.get("TargetGroupStickinessConfig", {"Enabled": False})
    if sticky.get("Enabled") and not 1 <= sticky.get("DurationSeconds", 0) <= 604_800:
        raise invalid("The target group stickiness duration must be between 1 and 604800 seconds inclusive")
    made: Document = {"Type": "forward"}
    if len(weighted) == 1:
        made["TargetGroupArn"] = arns[0]
    if "Order" in one:
        made["Order"] = one["Order"]
    made["ForwardConfig"] = {"TargetGroups": weighted, "TargetGroupStickinessConfig": sticky}
    return made


def _redirect(config: Document, protocol: str, port: int, operation: str) -> Document:
    if member := routing.mixed(config):
        raise not_implemented(f"{operation} with a redirect's {member} that mixes placeholders with other text")
    made = {**routing.PLACEHOLDERS, **config}
    path = made["Path"]
    if not path.startswith("/"):
        raise invalid("The redirect path must start with a '/'")
    if made["Port"] != "#{port}" and not (made["Port"].isdecimal() and 1 <= int(made["Port"]) <= 65535):
        raise invalid(f"The redirect port '{made['Port']}' is not valid")
    is_same = (
        made["Protocol"] in ("#{protocol}", protocol)
        and made["Port"] in ("#{port}", str(port))
        and all(made[name] == routing.PLACEHOLDERS[name] for name in ("Host", "Path", "Query"))
    )
    if is_same:
        raise _bad("The Redirect configuration is not valid because it creates a loop.")
    return made


def _bad(message: str) -> AwsError:
    return AwsError("InvalidLoadBalancerActionException", message)
