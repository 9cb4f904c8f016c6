"""Whatever a template holds, it is deployed or refused in AWS's words; it never breaks anything."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cloudlet.errors import AwsError
from cloudlet.services.cloudformation.prepare import _checked
from cloudlet.stacks import language, parameters, rules
from cloudlet.stacks.intrinsics import UNKNOWN, Context, Resolver, pseudo_parameters
from cloudlet.stacks.parse import parse
from cloudlet.stacks.plan import plan
from cloudlet.stacks.template import Template

GOOD: dict[str, Any] = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Parameters": {
        "P": {"Type": "Number", "Default": 3, "MinValue": 1},
        "L": {"Type": "CommaDelimitedList", "Default": "a,b"},
    },
    "Mappings": {"M": {"a": {"b": "c"}}},
    "Conditions": {"C": {"Fn::Equals": [{"Ref": "P"}, "3"]}, "D": {"Fn::Not": [{"Condition": "C"}]}},
    "Rules": {"R": {"Assertions": [{"Assert": {"Fn::Contains": [["1", "3"], {"Ref": "P"}]}}]}},
    "Resources": {
        "Q": {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": {"Ref": "P"}}, "DeletionPolicy": "Retain"},
        "R": {
            "Type": "AWS::SQS::Queue",
            "Condition": "C",
            "DependsOn": ["Q"],
            "Properties": {
                "QueueName": {"Fn::Sub": ["${Q.QueueName}-${x}", {"x": {"Fn::Select": [0, {"Ref": "L"}]}}]},
                "Tags": {
                    "Fn::If": [
                        "D",
                        [{"Key": "k", "Value": {"Fn::FindInMap": ["M", "a", "b"]}}],
                        {"Ref": "AWS::NoValue"},
                    ]
                },
            },
        },
        "Fn::ForEach::S": ["N", ["x", "y"], {"S${N}": {"Type": "AWS::SQS::Queue"}}],
    },
    "Outputs": {"O": {"Value": {"Fn::Join": ["-", {"Fn::Split": [",", "a,b"]}]}, "Export": {"Name": "n"}}},
}
PIECES = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.5, "", "a", "Q", "AWS::NoValue", "${", "${Q.}", "AWS::SQS::Queue"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Ref",
                    "Fn::Sub",
                    "Fn::GetAtt",
                    "Fn::If",
                    "Fn::Join",
                    "Fn::Select",
                    "Fn::Cidr",
                    "Type",
                    "x",
                    "Fn::ForEach::Z",
                ]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(below, (*path, key))
    return found


PLACES = places(GOOD)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(PLACES), PIECES), min_size=1, max_size=3))
def test_a_broken_template_is_refused_in_words(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    document = copy.deepcopy(GOOD)
    for path, piece in changes:
        holder: Any = document
        try:
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = piece
        except (KeyError, IndexError, TypeError):
            continue
    refused: AwsError | None = None
    pseudo = pseudo_parameters("0" * 12, "us-east-1", "s", "arn", [])
    try:
        document = parse(json.dumps(document))
        declared = document.get("Parameters") or {}
        if not isinstance(declared, dict):
            return
        parameters.check_declarations(declared)
        typed = parameters.typed(declared, parameters.values_of(declared, []), {})
        known = Context(typed, pseudo, document.get("Mappings") or {}, document.get("Conditions") or {}, extended=True)
        document = language.expand(document, Resolver(known, lambda name, attribute: UNKNOWN))
        template, context, _ = _checked(document, typed, pseudo, True)
        assert isinstance(template, Template)
        rules.check(template.rules, context)
        plan({}, template, context, lambda type: frozenset())
    except AwsError as error:
        refused = error
    assert refused is None or (refused.code == "ValidationError" and refused.message)
