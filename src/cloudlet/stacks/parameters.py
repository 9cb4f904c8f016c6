"""A stack's parameters: declared by the template, given by the caller, judged by their constraints."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import text_of

_SSM = re.compile(r"AWS::SSM::Parameter::Value<(.+)>\Z")
_LIST = re.compile(r"(?:List<(.+)>|(CommaDelimitedList))\Z")
_AWS_TYPES = re.compile(
    r"AWS::(EC2::(AvailabilityZone::Name|Image::Id|Instance::Id|KeyPair::KeyName|SecurityGroup::GroupName"
    r"|SecurityGroup::Id|Subnet::Id|Volume::Id|VPC::Id)|Route53::HostedZone::Id|SSM::Parameter::Name)\Z"
)
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\Z", re.ASCII)
_MEMBERS = frozenset(
    (
        "AllowedPattern",
        "AllowedValues",
        "ConstraintDescription",
        "Default",
        "Description",
        "MaxLength",
        "MaxValue",
        "MinLength",
        "MinValue",
        "NoEcho",
        "Type",
    )
)
# What a parameter of EC2's types names -> how EC2 tells whether it is there.
_IN_EC2 = {
    "AWS::EC2::AvailabilityZone::Name": ("DescribeAvailabilityZones", "ZoneNames"),
    "AWS::EC2::Instance::Id": ("DescribeInstances", "InstanceIds"),
    "AWS::EC2::KeyPair::KeyName": ("DescribeKeyPairs", "KeyNames"),
    "AWS::EC2::SecurityGroup::GroupName": ("DescribeSecurityGroups", "GroupNames"),
    "AWS::EC2::SecurityGroup::Id": ("DescribeSecurityGroups", "GroupIds"),
    "AWS::EC2::Subnet::Id": ("DescribeSubnets", "SubnetIds"),
    "AWS::EC2::VPC::Id": ("DescribeVpcs", "VpcIds"),
}
MASK = "****"


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _is_number(value: Any) -> bool:
    return _is_scalar(value) and not isinstance(value, bool) and bool(_NUMBER.match(str(value)))


def _is_length(value: Any) -> bool:
    return _is_number(value) and float(value).is_integer()


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(_is_scalar(item) for item in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_FORMS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("AllowedPattern", _is_text, "a string"),
    ("AllowedValues", _is_list, "a list"),
    ("ConstraintDescription", _is_text, "a string"),
    ("Default", _is_scalar, "a string"),
    ("Description", _is_text, "a string"),
    ("MaxLength", _is_length, "an integer"),
    ("MaxValue", _is_number, "a number"),
    ("MinLength", _is_length, "an integer"),
    ("MinValue", _is_number, "a number"),
)


def check_declarations(declared: Mapping[str, Any]) -> None:
    """Judge a template's Parameters section. Raises ValidationError."""
    for name, parameter in declared.items():
        if not isinstance(parameter, dict):
            raise invalid(f"Template format error: Every Parameters member must be an object: {name}")
        if not name.isalnum():
            raise invalid(f"Template format error: Parameter name {name} is non alphanumeric.")
        if "Type" not in parameter:
            raise invalid("Template format error: Every Parameters object must contain a Type member.")
        if unknown := sorted(set(parameter) - _MEMBERS):
            raise invalid(f"Invalid template parameter property '{unknown[0]}'")
        if not _is_type(parameter["Type"]):
            raise invalid(f"Template format error: Unrecognized parameter type: {parameter['Type']}")
        for member, form, words in _FORMS:
            if member in parameter and not form(parameter[member]):
                raise invalid(f"Template format error: Every {member} member must be {words}.")


def values_of(
    declared: Mapping[str, Any],
    given: list[dict[str, Any]],
    previous: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Every parameter's text: as given, as before, or by default. Raises ValidationError."""
    values: dict[str, str] = {}
    extra = []
    for entry in given:
        name = entry.get("ParameterKey", "")
        if name not in declared:
            extra.append(name)
        elif entry.get("UsePreviousValue"):
            if "ParameterValue" in entry:
                raise invalid(
                    f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true and non empty "
                    "value for a parameter"
                )
            if previous is None or name not in previous:
                raise invalid(f"Invalid input for parameter key {name}. Cannot use previous value of it.")
            values[name] = previous[name]
        elif "ParameterValue" in entry:
            values[name] = entry["ParameterValue"]
    if extra:
        raise invalid(f"Parameters: [{', '.join(extra)}] do not exist in the template")
    for name, parameter in declared.items():
        if name not in values and "Default" in parameter:
            values[name] = text_of(parameter["Default"])
    if missing := [name for name in declared if name not in values]:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    for name, text in values.items():
        _check(name, declared[name], text)
    return values


def typed(declared: Mapping[str, Any], values: Mapping[str, str], fetched: Mapping[str, str]) -> dict[str, Any]:
    """What ``Ref`` gives for each parameter. ``fetched`` are the values that SSM has for parameters of its types."""
    return {name: _typed(declared[name]["Type"], fetched.get(name, text)) for name, text in values.items()}


def stored_elsewhere(declared: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """The parameters whose value is the name of a parameter of SSM: name -> that name."""
    return {name: text for name, text in values.items() if _SSM.match(str(declared[name]["Type"]))}


def named_in_ec2(declared: Mapping[str, Any], values: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """What has to be there in EC2: the parameter, its value, the operation that finds it and that one's member."""
    found = []
    for name, text in values.items():
        kind = str(declared[name]["Type"])
        listed = _LIST.match(kind)
        if (asked := _IN_EC2.get(listed.group(1) if listed else kind)) is not None:
            found += [(name, part.strip(), *asked) for part in (text.split(",") if listed and text else [text])]
    return found


def hidden(declared: Mapping[str, Any], name: str) -> bool:
    """Whether a parameter is not to be shown."""
    return text_of(declared.get(name, {}).get("NoEcho", False)).lower() == "true"


def not_in_store(names: list[str]) -> AwsError:
    """The refusal for parameters that SSM does not have."""
    return invalid(f"Unable to fetch parameters [{','.join(names)}] from parameter store for this account.")


def does_not_exist(name: str, value: str) -> AwsError:
    """The refusal for a parameter that names what is not there."""
    return invalid(f"Parameter validation failed: parameter value {value} for parameter name {name} does not exist")


def _is_type(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    if found := _SSM.match(text):
        return _is_type(found.group(1))
    if found := _LIST.match(text):
        inner = found.group(1)
        return inner is None or inner in ("Number", "String") or bool(_AWS_TYPES.match(inner))
    return text in ("String", "Number") or bool(_AWS_TYPES.match(text))


def _typed(kind: str, text: str) -> Any:
    if found := _SSM.match(kind):
        kind = found.group(1)
    if found := _LIST.match(kind):
        parts = [part.strip() for part in text.split(",")] if text else []
        return [_number(part) for part in parts] if found.group(1) == "Number" else parts
    return _number(text) if kind == "Number" else text


def _number(text: str) -> Any:
    """A number where its text is the number's own, so that nothing of it is lost."""
    try:
        value = int(text)
        return value if str(value) == text else text
    except ValueError:
        pass
    try:
        real = float(text)
        return real if repr(real) == text else text
    except ValueError:
        return text


def _check(name: str, parameter: dict[str, Any], text: str) -> None:
    kind = parameter["Type"]
    listed = bool(_LIST.match(kind))
    parts = [part.strip() for part in text.split(",")] if listed and text else ([] if listed else [text])
    described = parameter.get("ConstraintDescription")

    def refuse(words: str) -> AwsError:
        if described is not None:
            return invalid(f"Parameter {name} failed to satisfy constraint: {described}")
        return invalid(f"Parameter '{name}' {words}")

    if not isinstance(text, str):
        raise invalid(f"Parameter '{name}' must be a string")
    if kind in ("Number", "List<Number>"):
        for part in parts:
            if not _NUMBER.match(part):
                raise invalid(f"Parameter '{name}' must be a number")
            if "MinValue" in parameter and float(part) < float(parameter["MinValue"]):
                raise refuse(f"must be a number not less than {text_of(parameter['MinValue'])}")
            if "MaxValue" in parameter and float(part) > float(parameter["MaxValue"]):
                raise refuse(f"must be a number not greater than {text_of(parameter['MaxValue'])}")
    if "MinLength" in parameter and len(text) < int(float(parameter["MinLength"])):
        raise refuse(f"must contain at least {int(parameter['MinLength'])} characters")
    if "MaxLength" in parameter and len(text) > int(float(parameter["MaxLength"])):
        raise refuse(f"must contain at most {int(parameter['MaxLength'])} characters")
    if "AllowedValues" in parameter:
        allowed = [text_of(value) for value in parameter["AllowedValues"]]
        if any(part not in allowed for part in parts):
            raise refuse("must be one of AllowedValues")
    if "AllowedPattern" in parameter:
        try:
            pattern = re.compile(parameter["AllowedPattern"])
        except re.error:
            raise invalid(f"Template format error: Parameter {name} has an invalid AllowedPattern.") from None
        if any(not pattern.fullmatch(part) for part in parts):
            raise refuse(f"must match pattern {parameter['AllowedPattern']}")
