"""Filters of DescribeParameters and GetParametersByPath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.ssm import rules
from cloudlet.services.ssm.records import Parameter, path_of

Wanted = Callable[[Parameter], bool]

_TYPES = ("String", "StringList", "SecureString")
_TIERS = ("Standard", "Advanced", "Intelligent-Tiering")


def compiled(filters: list[dict[str, Any]]) -> Wanted:
    """DescribeParameters' filters as one question. Raises InvalidFilterKey and its like."""
    keys = [each["Key"] for each in filters]
    for key in keys:
        if keys.count(key) > 1:
            raise AwsError(
                "InvalidFilterKey",
                f"The following filter is duplicated in the request: {key}. "
                "A request can contain only one occurrence of a specific filter.",
            )
        if key == "Label":
            raise AwsError(
                "InvalidFilterKey",
                "The following filter key is not valid: Label. "
                "Valid filter keys include: [Path, Name, Type, KeyId, Tier].",
            )
    questions = [_question(each) for each in filters]
    return lambda parameter: all(question(parameter) for question in questions)


def _question(wish: dict[str, Any]) -> Wanted:
    key, values = wish["Key"], wish.get("Values", [])
    if not values and not key.startswith("tag:"):
        raise AwsError("InvalidFilterValue", f"The following filter values are missing : null for filter key {key}")
    if key == "Path":
        return _in_path(values, _option(wish, ("Recursive", "OneLevel"), "OneLevel"))
    if key == "Name":
        return _named(values, _option(wish, ("BeginsWith", "Equals", "Contains"), "Equals"))
    _allowed(key, values)
    option = _option(wish, ("BeginsWith", "Equals"), "Equals")
    if key.startswith("tag:"):
        return _tagged(key.removeprefix("tag:"), values, option)
    read = _READ[key]
    if option == "BeginsWith":
        return lambda parameter: read(parameter).startswith(tuple(values))
    return lambda parameter: read(parameter) in values


def _tagged(name: str, values: list[str], option: str) -> Wanted:
    if not values:
        return lambda parameter: name in parameter.tags
    if option == "BeginsWith":
        return lambda parameter: name in parameter.tags and parameter.tags[name].startswith(tuple(values))
    return lambda parameter: parameter.tags.get(name) in values


_READ: dict[str, Callable[[Parameter], str]] = {
    "Type": lambda parameter: parameter.latest.type,
    "KeyId": lambda parameter: parameter.latest.key_id,
    "Tier": lambda parameter: parameter.latest.tier,
    "DataType": lambda parameter: parameter.latest.data_type,
}


def of_path(filters: list[dict[str, Any]], has_label: Callable[[str, list[str]], bool]) -> Wanted:
    """GetParametersByPath's filters as one question; ``has_label`` says whether a parameter's version has a label."""
    plain = []
    labels: list[list[str]] = []
    for each in filters:
        if each["Key"] == "Label":
            labels.append(each.get("Values", []))
        elif each["Key"] in ("Type", "KeyId"):
            plain.append(each)
        else:
            raise AwsError(
                "InvalidFilterKey",
                f"The following filter key is not valid: {each['Key']}. Valid filter keys include: [Type, KeyId].",
            )
    wanted = compiled(plain)
    return lambda parameter: wanted(parameter) and all(has_label(parameter.path, wish) for wish in labels)


def _allowed(key: str, values: list[str]) -> None:
    known = {"Type": _TYPES, "Tier": _TIERS}.get(key)
    if known is None:
        return
    for value in values:
        if value not in known:
            raise AwsError(
                "InvalidFilterValue",
                f"The following filter value is not valid: {value}. Valid values include: [{', '.join(known)}].",
            )


def _option(wish: dict[str, Any], known: tuple[str, ...], default: str) -> str:
    option: str = wish.get("Option", default)
    if option not in known:
        raise _bad_option(option, known)
    return option


def _bad_option(option: str, known: tuple[str, ...]) -> AwsError:
    shown = [name for name in known if name != "Contains"]
    return AwsError(
        "InvalidFilterOption",
        f"The following filter option is not valid: {option}. Valid options include: [{', '.join(shown)}].",
    )


def _named(values: list[str], option: str) -> Wanted:
    """A name is compared with and without the slash at its head, unless it is looked for inside."""
    if option == "Contains":
        return lambda parameter: any(value in parameter.path for value in values)
    wanted = [path_of(value) for value in values]
    if option == "BeginsWith":
        return lambda parameter: parameter.path.startswith(tuple(wanted))
    return lambda parameter: parameter.path in wanted


def _in_path(values: list[str], option: str) -> Wanted:
    for value in values:
        rules.check_path(value)
        if value.lower().startswith(("/aws", "/ssm")):
            raise rules.validation(
                'Filters for common parameters can\'t be prefixed with "aws" or "ssm" (case-insensitive). '
                "When using global parameters, please specify within a global namespace."
            )
    below = [f"{value.rstrip('/')}/" for value in values]
    if option == "Recursive":
        return lambda parameter: parameter.path.startswith(tuple(below))
    return lambda parameter: f"{parameter.path.rpartition('/')[0]}/" in below
