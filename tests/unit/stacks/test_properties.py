"""A template's properties are judged by AWS's own schemas, which every type of ours has."""

from __future__ import annotations

import pkgutil

import pytest

import cloudlet.services
from cloudlet.stacks.properties import faults, known
from cloudlet.stacks.registry import types_of

TYPES = [kind for folder in pkgutil.iter_modules(cloudlet.services.__path__) for kind in types_of(folder.name).values()]


def test_every_type_is_known_and_speaks_of_its_own_properties_only() -> None:
    # A new type: see scripts/resource-properties.
    assert [kind.type for kind in TYPES if known(kind.type) is None] == ["AWS::CloudFormation::CustomResource"]
    for kind in TYPES:
        if known(kind.type) is None:
            continue
        spoken_of = kind.required | kind.replaces | kind.refuses | kind.ignored
        members = known(kind.type)
        assert members is not None
        assert {name.partition("/")[0] for name in spoken_of} - members.keys() == set(), kind.type


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"DelaySeconds": "30", "FifoQueue": "true", "Tags": [{"Key": "a", "Value": 1}]}, []),
        ({"Delay": 1}, ["#: extraneous key [Delay] is not permitted"]),
        ({"Tags": [{"Key": "a", "Valeu": "b"}]}, ["#/Tags/0: extraneous key [Valeu] is not permitted"]),
        ({"Tags": {"a": "b"}}, ["#/Tags: expected type: JSONArray, found: JSONObject"]),
        ({"DelaySeconds": "soon"}, ["#/DelaySeconds: expected type: Integer, found: String"]),
        ({"DelaySeconds": 1.5}, ["#/DelaySeconds: expected type: Integer, found: Double"]),
        ({"FifoQueue": 7}, ["#/FifoQueue: expected type: Boolean, found: Integer"]),
        ({"QueueName": ["a"]}, ["#/QueueName: expected type: String, found: JSONArray"]),
        ({"QueueName": {"Ref": "Name"}, "Tags": {"Fn::If": ["A", [], {"Ref": "AWS::NoValue"}]}}, []),
        ({"DelaySeconds": "{{resolve:ssm:/app/delay}}"}, []),
        ({"RedrivePolicy": {"anything": ["goes"]}, "DelaySeconds": None}, []),
    ],
)
def test_a_fault_is_told_in_cloudformations_words(given: dict[str, object], words: list[str]) -> None:
    assert faults("AWS::SQS::Queue", given) == words


def test_what_has_no_schema_is_not_judged() -> None:
    assert faults("Custom::Anything", {"Whatever": [1]}) == []
    assert faults("AWS::CloudFormation::CustomResource", {"ServiceToken": "arn", "Whatever": [1]}) == []


def test_members_of_app_mesh_may_begin_with_a_small_letter() -> None:
    detection = {"outlierDetection": {"maxServerErrors": 5, "most": 2}}
    given = {"MeshName": "m", "Spec": {"listeners": [detection]}}
    assert faults("AWS::AppMesh::VirtualNode", given) == [
        "#/Spec/Listeners/0/OutlierDetection: extraneous key [Most] is not permitted"
    ]
