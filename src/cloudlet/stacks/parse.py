"""A template's text, YAML or JSON, as plain dictionaries in which every function has its long form."""

from __future__ import annotations

import json
import re
from typing import Any

from cloudlet.stacks.errors import invalid

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(
    r"[-+]?(0|[1-9][0-9]*)?\.[0-9]+([eE][-+]?[0-9]+)?\Z|[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?[eE][-+]?[0-9]+\Z"
)
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
# Names whose long form has no "Fn::".
_BARE = frozenset(("Ref", "Condition"))
_SHORT = frozenset(
    (
        *("Ref", "Condition", "And", "Base64", "Cidr", "Contains", "EachMemberEquals", "EachMemberIn", "Equals"),
        *("FindInMap", "ForEach", "GetAtt", "GetAZs", "If", "ImportValue", "Join", "Length", "Not", "Or", "RefAll"),
        *("Select", "Split", "Sub", "ToJsonString", "Transform", "ValueOf", "ValueOfAll"),
    )
)
_DEEPEST = 200


def parse(text: str, aliases: bool = False) -> dict[str, Any]:
    """Read a template. Raises ValidationError.

    Of a key that is there twice the last one counts, as in AWS. ``aliases`` allows YAML's anchors and merge keys, which
    AWS's own tools expand before they send a template.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return _object(json.loads(text))
        except json.JSONDecodeError as error:
            failed = error
        except RecursionError:
            raise invalid("Template format error: the template is nested too deeply.") from None
        try:
            # A flow mapping of YAML starts like JSON.
            return _object(_yaml(text, aliases))
        except Exception:
            where = f"(line {failed.lineno}, column {failed.colno})"
            raise invalid(f"Template format error: JSON not well-formed. {where}") from None
    return _object(_yaml(text, aliases))


def document(text: str) -> Any:
    """Any YAML or JSON document, such as an OpenAPI definition beside a template. Raises ValidationError."""
    return _yaml(text, aliases=True)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid("Template format error: unsupported structure.")
    return value


def _yaml(text: str, aliases: bool) -> Any:
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise invalid(f"Template format error: YAML not well-formed.{where}") from None
    except (yaml.YAMLError, RecursionError):
        raise invalid("Template format error: YAML not well-formed.") from None
    if node is None:
        raise invalid("Template format error: unsupported structure.")
    if not aliases and re.search(r"(^|[\s\[{,:])\*[^\s*]", text) and _shared(node):
        raise invalid("Template error: YAML aliases are not allowed in CloudFormation templates")
    return _Reader().read(node, 0)


def _shared(root: Any) -> bool:
    """Whether a node is reached twice: an alias."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            return True
        seen.add(id(node))
        if isinstance(node.value, list):
            for item in node.value:
                waiting.extend(item if isinstance(item, tuple) else (item,))
    return False


class _Reader:
    """Nodes as values; counts them, so that aliases cannot blow up."""

    def __init__(self) -> None:
        self._left = 1_000_000

    def read(self, node: Any, depth: int) -> Any:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise invalid("Template format error: the template is nested too deeply.")
        tag = node.tag or ""
        value = self._plain(node, depth)
        if tag.startswith("!") and tag != "!":
            return self._function(tag[1:], value, node)
        return value

    def _plain(self, node: Any, depth: int) -> Any:
        if isinstance(node.value, str):
            if node.style in ("'", '"', "|", ">") or (node.tag or "").startswith("tag:yaml.org,2002:str_"):
                return node.value
            if (node.tag or "").startswith("!"):
                return node.value  # what a function is given is text: !Select [0, ...] is a list, !Ref 12 a name
            return _scalar(node.value)
        if node.value and isinstance(node.value[0], tuple):
            return self._mapping(node, depth)
        if node.id == "mapping":
            return {}
        return [self.read(item, depth + 1) for item in node.value]

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, below in node.value:
            if not isinstance(key.value, str):
                mark = key.start_mark
                raise invalid(
                    f"Template format error: YAML not well-formed. (line {mark.line + 1}, column {mark.column + 1})"
                )
            if key.value == "<<" and not key.style:
                given = self.read(below, depth + 1)
                for part in given if isinstance(given, list) else [given]:
                    if isinstance(part, dict):
                        merged = {**part, **merged}
                continue
            found[key.value] = self.read(below, depth + 1)
        return {**merged, **found} if merged else found

    def _function(self, name: str, value: Any, node: Any) -> Any:
        if name not in _SHORT:
            mark = node.start_mark
            raise invalid(
                f"Template format error: YAML not well-formed. Unknown tag !{name} "
                f"(line {mark.line + 1}, column {mark.column + 1})"
            )
        if name in _BARE:
            return {name: value}
        if name == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {f"Fn::{name}": value}


def _scalar(text: str) -> Any:
    """A plain scalar's value: dates, octal numbers, and yes, no, on and off stay texts."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text
