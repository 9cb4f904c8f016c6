"""The queries that define groups: by tags, or by the stack that has made something."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Tagged
from cloudlet.services.resource_groups import types

_ALL = "AWS::AllSupported"
_BY_TAGS, _BY_STACK = "TAG_FILTERS_1_0", "CLOUDFORMATION_STACK_1_0"
_STACK_ARN = re.compile(r"arn:aws:cloudformation:[a-z0-9-]+:\d{12}:stack/\S+")
_STACK = "aws:cloudformation:stack-id"  # the tag that CloudFormation gives to all that a stack makes


class Query(msgspec.Struct, frozen=True, omit_defaults=True):
    """A query: the text that it was given, and what that says. ``tags`` are alternatives for each of some keys."""

    type: str
    text: str
    types: list[str]  # of CloudFormation; nothing: all
    tags: list[tuple[str, list[str]]] = []
    stack: str = ""  # an ARN

    def finds(self, resource: Tagged) -> dict[str, str] | None:
        """A resource's identifier, if it is asked for and of a type that Resource Groups knows."""
        arn, tags = resource
        type = types.type_of(arn)
        if type is None or (self.types and type not in self.types):
            return None
        if not all(key in tags and (not values or tags[key] in values) for key, values in self._wanted()):
            return None
        return {"ResourceArn": arn, "ResourceType": type}

    @property
    def unknown_types(self) -> list[str]:
        """The types that it asks for and nobody knows."""
        return [type for type in self.types if type not in types.KNOWN]

    def _wanted(self) -> list[tuple[str, list[str]]]:
        return [(_STACK, [self.stack])] if self.type == _BY_STACK else self.tags


def read(given: dict[str, str]) -> Query:
    """A ResourceQuery. Raises BadRequestException."""
    try:
        query = json.loads(given["Query"])
        asked = [str(type) for type in query.get("ResourceTypeFilters", ())]
        filters = [(str(one["Key"]), [str(value) for value in one.get("Values", ())]) for one in _filters(query)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise invalid("the query is not a JSON object of the form that its type asks for") from None
    if not asked:
        raise invalid("ResourceTypeFilters must name at least one resource type")
    stack = query.get("StackIdentifier", "")
    if given["Type"] == _BY_TAGS and not filters:
        raise invalid("TagFilters must have at least one tag")
    if given["Type"] == _BY_STACK and _STACK_ARN.fullmatch(str(stack)) is None:
        raise invalid("StackIdentifier must be the ARN of a stack")
    by_stack = {"stack": stack} if given["Type"] == _BY_STACK else {"tags": filters}
    return Query(given["Type"], given["Query"], [] if _ALL in asked else asked, **by_stack)


def invalid(what: str) -> AwsError:
    """A query that cannot be understood."""
    return AwsError("BadRequestException", f"Query not valid: {what}.")


def _filters(query: dict[str, Any]) -> Any:
    return query.get("TagFilters") or ()
