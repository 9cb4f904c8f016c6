"""CloudFormation's functions, evaluated. What is not known yet stays unknown, through every function that uses it."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloudlet import places
from cloudlet.stacks import doors
from cloudlet.stacks.errors import invalid


class _Marker:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __deepcopy__(self, memo: Any) -> _Marker:
        return self


UNKNOWN: Final = _Marker("UNKNOWN")  # a value that only exists once its resource does
NO_VALUE: Final = _Marker("NO_VALUE")  # AWS::NoValue: the property is not there

# What a resource gives: its Ref for None, else the named attribute. Raises ValidationError for what it has not.
Lookup = Callable[[str, str | None], Any]

_SUB = re.compile(r"\$\{([^}]*)\}")


@dataclass(slots=True)
class Context:
    """All that a template's functions may refer to, but its resources."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    pseudo: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    imports: Callable[[str], Any] = lambda name: UNKNOWN
    extended: bool = False  # AWS::LanguageExtensions was asked for
    where: str = "Resources"  # the block, for the error texts
    decided: dict[str, bool] = field(default_factory=dict)
    door: doors.Door | None = None  # where URLs of AWS's data planes lead to; None leaves them as they are


class Resolver:
    """Evaluates values of one template."""

    def __init__(self, context: Context, lookup: Lookup) -> None:
        self._context = context
        self._lookup = lookup
        self._deciding: list[str] = []

    def resolve(self, value: Any) -> Any:
        """The value with every function evaluated. Raises ValidationError."""
        if isinstance(value, dict):
            if len(value) == 1:
                ((name, argument),) = value.items()
                if name == "Ref":
                    return self._ref(argument)
                if name.startswith("Fn::"):
                    return self._function(name, argument)
                if name == "Condition" and isinstance(argument, str) and argument in self._context.conditions:
                    return self.condition(argument)
            found = {}
            for key, below in value.items():
                if (resolved := self.resolve(below)) is not NO_VALUE:
                    found[key] = resolved
            return found
        if isinstance(value, list):
            return [resolved for item in value if (resolved := self.resolve(item)) is not NO_VALUE]
        return value

    def condition(self, name: str) -> bool:
        """Whether a condition of the template holds. Raises ValidationError."""
        context = self._context
        if name in context.decided:
            return context.decided[name]
        if name not in context.conditions:
            raise invalid(
                f"Template format error: Unresolved condition dependency {name} in the {context.where} block of the "
                "template"
            )
        if name in self._deciding:
            raise invalid("Template format error: Circular dependency between conditions")
        self._deciding.append(name)
        try:
            value = context.decided[name] = self._boolean(context.conditions[name], "Fn::If")
        finally:
            self._deciding.pop()
        return value

    def _ref(self, name: Any) -> Any:
        if not isinstance(name, str):
            raise invalid("Template format error: Every Ref object must have a single String value.")
        context = self._context
        if name in context.parameters:
            return context.parameters[name]
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in context.pseudo:
            return context.pseudo[name]
        return self._lookup(name, None)

    def _function(self, name: str, argument: Any) -> Any:
        method = _FUNCTIONS.get(name)
        if method is None:
            raise invalid(
                f"Template format error: Encountered unsupported function: {name} Supported functions are: "
                f"[{', '.join(_SUPPORTED)}]"
            )
        if name in _EXTENSIONS and not self._context.extended:
            raise invalid(
                f"Template format error: Encountered unsupported function: {name} Supported functions are: "
                f"[{', '.join(_SUPPORTED)}]. It needs the transform AWS::LanguageExtensions."
            )
        return method(self, argument)

    # Values

    def _getatt(self, argument: Any) -> Any:
        if isinstance(argument, str):
            argument = argument.split(".", 1)
        if self._context.extended and isinstance(argument, list) and argument:
            argument = [self.resolve(argument[0]), *argument[1:]]
        if not (isinstance(argument, list) and len(argument) >= 2 and isinstance(argument[0], str)):
            raise invalid(
                "Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the "
                "resource attribute"
            )
        parts = [self.resolve(part) for part in argument[1:]]
        if any(part is UNKNOWN for part in parts):
            return UNKNOWN
        if not all(isinstance(part, str) and part for part in parts):
            raise invalid(
                "Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the "
                "resource attribute"
            )
        return self._lookup(argument[0], ".".join(parts))

    def _sub(self, argument: Any) -> Any:
        own: dict[str, Any] = {}
        if isinstance(argument, list):
            if len(argument) != 2 or not isinstance(argument[0], str) or not isinstance(argument[1], dict):
                raise invalid(_SUB_WORDS)
            text = argument[0]
            own = {name: self.resolve(value) for name, value in argument[1].items()}
        elif isinstance(argument, str):
            text = argument
        else:
            raise invalid(_SUB_WORDS)
        unknown = any(value is UNKNOWN for value in own.values())

        def fill(found: re.Match[str]) -> str:
            nonlocal unknown
            name = found.group(1).strip()
            if name.startswith("!"):
                return f"${{{found.group(1).strip()[1:]}}}"
            if not name:
                raise invalid(
                    "Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters, "
                    "underscores, periods, and colons"
                )
            if name in own:
                value = own[name]
            elif name in self._context.parameters or name in self._context.pseudo or name == "AWS::NoValue":
                value = self._ref(name)
            elif "." in name:
                value = self._lookup(*name.split(".", 1))
            else:
                value = self._ref(name)
            if value is UNKNOWN:
                unknown = True
                return ""
            return self._text(value, "Fn::Sub")

        filled = _SUB.sub(fill, text)
        return UNKNOWN if unknown else self._local(filled)

    def _join(self, argument: Any) -> Any:
        if not (isinstance(argument, list) and len(argument) == 2):
            raise invalid(_JOIN_WORDS)
        delimiter, items = self.resolve(argument[0]), self.resolve(argument[1])
        if delimiter is UNKNOWN or items is UNKNOWN:
            return UNKNOWN
        if not isinstance(delimiter, str) or not isinstance(items, list):
            raise invalid(_JOIN_WORDS)
        if any(item is UNKNOWN for item in items):
            return UNKNOWN
        return self._local(delimiter.join(self._text(item, "Fn::Join") for item in items))

    def _local(self, text: str) -> str:
        return text if self._context.door is None else doors.local(text, self._context.door)

    def _split(self, argument: Any) -> Any:
        if not (isinstance(argument, list) and len(argument) == 2):
            raise invalid(_SPLIT_WORDS)
        delimiter, text = self.resolve(argument[0]), self.resolve(argument[1])
        if delimiter is UNKNOWN or text is UNKNOWN:
            return UNKNOWN
        if not isinstance(delimiter, str) or not delimiter or not isinstance(text, (str, int, float)):
            raise invalid(_SPLIT_WORDS)
        return str(text).split(delimiter)

    def _select(self, argument: Any) -> Any:
        if not (isinstance(argument, list) and len(argument) == 2):
            raise invalid(
                "Template error: Fn::Select requires a list argument with two elements: an integer index and a list"
            )
        index, items = self.resolve(argument[0]), self.resolve(argument[1])
        if index is UNKNOWN or items is UNKNOWN:
            return UNKNOWN
        try:
            position = int(index)
        except (TypeError, ValueError):
            raise invalid(
                "Template error: Fn::Select requires a list argument with two elements: an integer index and a list"
            ) from None
        if isinstance(items, str):
            items = items.split(",")
        if not isinstance(items, list):
            raise invalid("Template error: Fn::Select requires a list argument with a valid index value")
        if not 0 <= position < len(items):
            raise invalid(f"Template error: Fn::Select cannot select nonexistent value at index {position}")
        return items[position]

    def _find_in_map(self, argument: Any) -> Any:
        if not (isinstance(argument, list) and len(argument) in (3, 4)):
            raise invalid(
                "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the "
                "attribute for return value"
            )
        default = NO_VALUE
        if len(argument) == 4:
            if not (self._context.extended and isinstance(argument[3], dict) and set(argument[3]) == {"DefaultValue"}):
                raise invalid(
                    "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and "
                    "the attribute for return value"
                )
            default = self.resolve(argument[3]["DefaultValue"])
        names = [self.resolve(part) for part in argument[:3]]
        if any(name is UNKNOWN for name in names):
            raise invalid("Template error: Fn::FindInMap cannot depend on a resource")
        texts = [self._text(name, "Fn::FindInMap") for name in names]
        mappings = self._context.mappings
        if texts[0] not in mappings and len(argument) == 3:
            raise invalid(
                f"Template error: Mapping named '{texts[0]}' is not present in the 'Mappings' section of template."
            )
        value: Any = mappings
        for text in texts:
            if not isinstance(value, dict) or text not in value:
                if len(argument) == 4:
                    return default
                raise invalid(f"Template error: Unable to get mapping for {'::'.join(texts)}")
            value = value[text]
        return self.resolve(value)

    def _import(self, argument: Any) -> Any:
        name = self.resolve(argument)
        if name is UNKNOWN:
            return UNKNOWN
        if not isinstance(name, str):
            raise invalid("Template error: the attribute in Fn::ImportValue must not depend on any resources")
        return self._context.imports(name)

    def _base64(self, argument: Any) -> Any:
        text = self.resolve(argument)
        if text is UNKNOWN:
            return UNKNOWN
        if not isinstance(text, (str, int, float)):
            raise invalid("Template error: every Fn::Base64 object must have a String-typed value.")
        return base64.b64encode(self._text(text, "Fn::Base64").encode()).decode()

    def _cidr(self, argument: Any) -> Any:
        words = (
            "Template error: every Fn::Cidr object requires two or three parameters, (1) a CIDR range, (2) a count and "
            "(3) an optional number of subnet bits for each"
        )
        if not (isinstance(argument, list) and len(argument) in (2, 3)):
            raise invalid(words)
        given = [self.resolve(part) for part in argument]
        if any(part is UNKNOWN for part in given):
            return UNKNOWN
        try:
            network = ipaddress.ip_network(str(given[0]), strict=False)
            count = int(given[1])
            bits = int(given[2]) if len(given) == 3 else (8 if network.version == 4 else 64)
            prefix = network.max_prefixlen - bits
            if not 1 <= count <= 256 or prefix < network.prefixlen or bits < 1:
                raise ValueError
            if count > 2 ** min(prefix - network.prefixlen, 16):
                raise ValueError
        except (TypeError, ValueError):
            raise invalid(words) from None
        start, size = int(network.network_address), 2**bits
        make = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
        return [f"{make(start + number * size)}/{prefix}" for number in range(count)]

    def _zones(self, argument: Any) -> Any:
        region = self.resolve(argument)
        if region is UNKNOWN:
            return UNKNOWN
        if region in ("", None, NO_VALUE):
            region = self._context.pseudo.get("AWS::Region", "")
        if not isinstance(region, str):
            raise invalid("Template error: Fn::GetAZs must have a String-typed value")
        return places.zone_names(region)

    def _to_json(self, argument: Any) -> Any:
        value = self.resolve(argument)
        if not isinstance(value, (dict, list)) and value is not UNKNOWN:
            raise invalid("Template error: every Fn::ToJsonString object must have an object or an array")
        if _holds_unknown(value):
            return UNKNOWN
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def _length(self, argument: Any) -> Any:
        value = self.resolve(argument)
        if value is UNKNOWN:
            return UNKNOWN
        if not isinstance(value, list):
            raise invalid("Template error: every Fn::Length object must have an array")
        return len(value)

    # Conditions

    def _if(self, argument: Any) -> Any:
        if not (isinstance(argument, list) and len(argument) == 3):
            raise invalid("Template error: Fn::If requires a list argument with three elements")
        name, yes, no = argument
        if isinstance(name, dict) and set(name) == {"Condition"}:
            name = name["Condition"]
        if not isinstance(name, str):
            raise invalid("Template error: Fn::If requires a list argument with the first element being a condition")
        return self.resolve(yes if self.condition(name) else no)

    def _equals(self, argument: Any) -> Any:
        if not (isinstance(argument, list) and len(argument) == 2):
            raise invalid("Template error: every Fn::Equals object requires a list of 2 string parameters.")
        left, right = (self.resolve(part) for part in argument)
        if left is UNKNOWN or right is UNKNOWN:
            raise invalid(
                "Template format error: Unresolved dependencies. Cannot reference resources in the Conditions block of "
                "the template"
            )
        return _comparable(left) == _comparable(right)

    def _and(self, argument: Any) -> bool:
        return all(self._booleans(argument, "Fn::And"))

    def _or(self, argument: Any) -> bool:
        return any(self._booleans(argument, "Fn::Or"))

    def _not(self, argument: Any) -> bool:
        if not (isinstance(argument, list) and len(argument) == 1):
            raise invalid("Template error: every Fn::Not object requires one boolean parameter.")
        return not self._boolean(argument[0], "Fn::Not")

    def _booleans(self, argument: Any, function: str) -> list[bool]:
        if not (isinstance(argument, list) and 2 <= len(argument) <= 10):
            raise invalid(
                f"Template error: every {function} object requires a list of at least 2 and at most 10 boolean "
                "parameters."
            )
        return [self._boolean(part, function) for part in argument]

    def _boolean(self, value: Any, function: str) -> bool:
        if isinstance(value, dict) and set(value) == {"Condition"} and isinstance(value["Condition"], str):
            return self.condition(value["Condition"])
        resolved = self.resolve(value)
        if isinstance(resolved, bool):
            return resolved
        if resolved in ("true", "false"):
            return bool(resolved == "true")
        raise invalid(f"Template error: every {function} object requires boolean parameters.")

    # Rules

    def _contains(self, argument: Any) -> bool:
        items, wanted = self._pair(argument, "Fn::Contains")
        return _comparable(wanted) in [_comparable(item) for item in _list(items)]

    def _each_equals(self, argument: Any) -> bool:
        items, wanted = self._pair(argument, "Fn::EachMemberEquals")
        return all(_comparable(item) == _comparable(wanted) for item in _list(items))

    def _each_in(self, argument: Any) -> bool:
        items, allowed = self._pair(argument, "Fn::EachMemberIn")
        known = [_comparable(item) for item in _list(allowed)]
        return all(_comparable(item) in known for item in _list(items))

    def _pair(self, argument: Any, function: str) -> tuple[Any, Any]:
        if not (isinstance(argument, list) and len(argument) == 2):
            raise invalid(f"Template error: every {function} object requires a list of 2 parameters.")
        return self.resolve(argument[0]), self.resolve(argument[1])

    def _unsupported_rule(self, argument: Any) -> Any:
        raise invalid("Template error: Cloudlet does not implement Fn::RefAll, Fn::ValueOf and Fn::ValueOfAll.")

    def _left_over(self, argument: Any) -> Any:
        raise invalid(
            "Template format error: Fn::Transform and Fn::ForEach are evaluated before all other functions; "
            "Fn::ForEach needs the transform AWS::LanguageExtensions."
        )

    def _text(self, value: Any, function: str) -> str:
        if isinstance(value, (dict, list)):
            words = _JOIN_WORDS if function == "Fn::Join" else f"Template error: {function} expects a string"
            raise invalid(words)
        return "" if value is NO_VALUE else text_of(value)


def text_of(value: Any) -> str:
    """A scalar as CloudFormation writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def pseudo_parameters(
    account: str, region: str, stack_name: str, stack_id: str, notification_arns: list[str]
) -> dict[str, Any]:
    """What ``AWS::`` names stand for in a stack."""
    return {
        "AWS::AccountId": account,
        "AWS::NotificationARNs": notification_arns,
        "AWS::Partition": "aws",
        "AWS::Region": region,
        "AWS::StackId": stack_id,
        "AWS::StackName": stack_name,
        "AWS::URLSuffix": "amazonaws.com",
    }


def known(value: Any) -> bool:
    """Whether no part of a value is unknown."""
    return not _holds_unknown(value)


def _holds_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_unknown(item) for item in value)
    return value is UNKNOWN


def _comparable(value: Any) -> Any:
    return value if isinstance(value, (dict, list)) else text_of(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise invalid("Template error: a rule-specific function expects a list of strings.")
    return value


_SUB_WORDS = (
    "Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as "
    "first argument, and an optional second argument to specify a mapping of values to replace in the string"
)
_JOIN_WORDS = (
    "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of strings "
    "to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined."
)
_SPLIT_WORDS = (
    "Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be "
    "split or a function that returns a string to be split."
)
_EXTENSIONS = frozenset(("Fn::ToJsonString", "Fn::Length"))
_SUPPORTED = (
    "Fn::Base64",
    "Fn::GetAtt",
    "Fn::GetAZs",
    "Fn::ImportValue",
    "Fn::Join",
    "Fn::Split",
    "Fn::FindInMap",
    "Fn::Select",
    "Ref",
    "Fn::Equals",
    "Fn::If",
    "Fn::Not",
    "Condition",
    "Fn::And",
    "Fn::Or",
    "Fn::Contains",
    "Fn::EachMemberEquals",
    "Fn::EachMemberIn",
    "Fn::ValueOf",
    "Fn::ValueOfAll",
    "Fn::RefAll",
    "Fn::Sub",
    "Fn::Cidr",
)
_FUNCTIONS: dict[str, Callable[[Resolver, Any], Any]] = {
    "Fn::And": Resolver._and,
    "Fn::Base64": Resolver._base64,
    "Fn::Cidr": Resolver._cidr,
    "Fn::Contains": Resolver._contains,
    "Fn::EachMemberEquals": Resolver._each_equals,
    "Fn::EachMemberIn": Resolver._each_in,
    "Fn::Equals": Resolver._equals,
    "Fn::FindInMap": Resolver._find_in_map,
    "Fn::GetAZs": Resolver._zones,
    "Fn::GetAtt": Resolver._getatt,
    "Fn::If": Resolver._if,
    "Fn::ImportValue": Resolver._import,
    "Fn::Join": Resolver._join,
    "Fn::Length": Resolver._length,
    "Fn::Not": Resolver._not,
    "Fn::Or": Resolver._or,
    "Fn::RefAll": Resolver._unsupported_rule,
    "Fn::Select": Resolver._select,
    "Fn::Split": Resolver._split,
    "Fn::Sub": Resolver._sub,
    "Fn::ToJsonString": Resolver._to_json,
    "Fn::Transform": Resolver._left_over,
    "Fn::ValueOf": Resolver._unsupported_rule,
    "Fn::ValueOfAll": Resolver._unsupported_rule,
}
