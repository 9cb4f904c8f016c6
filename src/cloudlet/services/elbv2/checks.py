"""Conditions and actions: AWS's rules for them, and the form in which they are kept and shown."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.elbv2 import routing
from cloudlet.services.elbv2.base import refuse
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


def conditions(given: list[Document], operation: str) -> list[Document]:
    """A rule's conditions as they are kept. Raises ValidationError."""
    if not given:
        raise invalid("A condition must be specified")
    made = [_condition(one, operation) for one in given]
    fields = [one["Field"] for one in made]
    for field in fields:
        if field not in _MAY_REPEAT and fields.count(field) > 1:
            raise invalid(f"Rules can have only one '{field}' condition")
    return made


def _condition(given: Document, operation: str) -> Document:
    field = given.get("Field")
    if not field:
        raise invalid("A condition field must be specified")
    if field not in _CONFIGS:
        raise invalid(f"Condition field '{field}' must be one of '[{', '.join(_CONFIGS)}]'")
    name = _CONFIGS[field]
    config = given.get(name, {})
    refuse(f"{operation} with {field}", {**given, **config}, "RegexValues")
    if field in ("host-header", "path-pattern"):
        return _patterns(given, field, name)
    if name not in given:
        raise invalid(f"A '{name}' must be specified with '{field}'")
    values: list[Any] = config.get("Values", [])
    if field == "http-header":
        header = config.get("HttpHeaderName", "")
        if not header:
            raise invalid("An 'HttpHeaderName' must be specified with 'http-header'")
        _within("HttpHeaderName", header, 40)
        if header.lower() == "host":
            raise invalid("The 'HttpHeaderName' cannot be 'Host'; use a 'host-header' condition")
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


def actions(given: list[Document], protocol: str, port: int, operation: str) -> list[Document]:
    """The actions of a listener or a rule as they are kept. Raises ValidationError and InvalidLoadBalancerAction."""
    if not given:
        raise invalid("An action must be specified")
    for one in given:
        if one["Type"] not in _LAST:
            raise not_implemented(f"{operation} with an action of type {one['Type']}")
    if len(given) > 1:
        if any("Order" not in one for one in given):
            raise invalid("An action order must be specified")
        raise _bad("You must specify exactly one forward, redirect or fixed-response action")
    return [_action(one, protocol, port, operation) for one in given]


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
