"""API Gateway's way to update: JSON patch operations on a resource's members.

https://docs.aws.amazon.com/apigateway/latest/api/patch-operations.html
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError

_NUMBERS = frozenset(
    ("timeoutInMillis", "minimumCompressionSize", "authorizerResultTtlInSeconds", "limit", "burstLimit")
)
_NUMBERS_IN_SETTINGS = frozenset(("throttlingBurstLimit", "cacheTtlInSeconds"))
_FLOATS = frozenset(("throttlingRateLimit", "rateLimit", "percentTraffic"))
# AWS does not keep these maps once they are empty.
_MAPS = frozenset(("requestModels", "requestParameters", "responseModels", "responseParameters"))
_LISTS = frozenset(
    ("binaryMediaTypes", "authorizationScopes", "cacheKeyParameters", "types", "vpcEndpointIds", "features")
)


def check_replaced(operations: list[dict[str, Any]] | None, *paths: str) -> None:
    """Judge patches of what can only be replaced, at these paths. Raises BadRequestException."""
    for operation in operations or []:
        path, op = operation.get("path"), operation.get("op")
        if op != "replace":
            told = "Please choose supported operations"
        elif path not in paths:
            told = f"Must be one of: [{', '.join(paths)}]"
        else:
            continue
        raise AwsError("BadRequestException", f"Invalid patch path  '{path}' specified for op '{op}'. {told}")


def apply(
    members: dict[str, Any],
    operations: list[dict[str, Any]] | None,
    rename: Callable[[list[str]], list[str]] = lambda path: path,
) -> dict[str, Any]:
    """The members after the operations. Raises BadRequestException.

    ``rename`` maps a patch path to where the value is kept.
    """
    changed = copy.deepcopy(members)
    for operation in operations or []:
        path = [part.replace("~1", "/").replace("~0", "~") for part in operation.get("path", "").split("/")[1:]]
        if not path or not path[0]:
            raise AwsError("BadRequestException", f"Invalid patch path {operation.get('path', 'null')}")
        _one(changed, operation.get("op", ""), rename(path), operation.get("value"))
    return {key: value for key, value in changed.items() if value or key not in _MAPS}


def _one(target: dict[str, Any], op: str, path: list[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        if parent in _LISTS:
            _in_list(target, parent, op, last, value)
            return
        child = target.setdefault(parent, {})
        if not isinstance(child, dict):
            raise AwsError("BadRequestException", f"Invalid patch path /{'/'.join(path)}")
        target = child
    if op in ("add", "replace"):
        if last in _LISTS:
            _in_list(target, last, op, value or "", value)
        elif value == "" and last in _NUMBERS:
            target.pop(last, None)  # how minimumCompressionSize is switched off
        else:
            target[last] = _typed(last, value)
    elif op == "remove":
        if last in _LISTS and value is not None:
            _in_list(target, last, op, value, None)
        else:
            target.pop(last, None)
    else:
        raise AwsError(
            "BadRequestException",
            f"Invalid patch operation specified. Must be one of: [add, remove, replace], not {op}",
        )


def _in_list(target: dict[str, Any], name: str, op: str, old: str, value: Any) -> None:
    items = [item for item in target.get(name) or [] if item != old]
    if op == "add":
        items.append(old if value is None or value == "" else value)
    elif op == "replace":
        items = [] if name == "types" else items  # an API has one
        items.append(value)
    target[name] = items


def _typed(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if name in _NUMBERS or name in _NUMBERS_IN_SETTINGS:
            return int(value)
        if name in _FLOATS:
            return float(value)
    except ValueError:
        raise AwsError("BadRequestException", f"Invalid value {value} for {name}") from None
    return value == "true" if value in ("true", "false") else value
