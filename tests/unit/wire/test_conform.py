"""Loosely typed input becomes an operation's own."""

from __future__ import annotations

import pytest

from cloudlet.errors import AwsError
from cloudlet.wire import Wire

WIRE = Wire([])


def test_values_of_templates_become_typed() -> None:
    given = {
        "FunctionName": "f",
        "Role": "arn:aws:iam::000000000000:role/r",
        "Code": {"ZipFile": "text"},
        "Timeout": "30",
        "MemorySize": 256.0,
        "Publish": "true",
        "Environment": {"Variables": {"COUNT": 5, "ON": True}},
        "Layers": None,
    }
    assert WIRE.model("lambda").conform("CreateFunction", given) == {
        "FunctionName": "f",
        "Role": "arn:aws:iam::000000000000:role/r",
        "Code": {"ZipFile": b"text"},
        "Timeout": 30,
        "MemorySize": 256,
        "Publish": True,
        "Environment": {"Variables": {"COUNT": "5", "ON": "true"}},
    }
    policy = {"Version": "2012-10-17", "Statement": []}
    conformed = WIRE.model("iam").conform("CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": policy})
    assert conformed["AssumeRolePolicyDocument"] == '{"Version":"2012-10-17","Statement":[]}'


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"FunctionName": "f", "Nonsense": 1}, r"extraneous key \[Nonsense\]"),
        ({"FunctionName": "f", "Timeout": "soon"}, "Timeout: expected a integer, got soon"),
        ({"FunctionName": "f", "Layers": "one"}, "Layers: expected a list"),
        ({"FunctionName": "f", "Timeout": 0}, "greater than or equal to 1"),
        ({"Timeout": 3}, "functionName"),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, object], words: str) -> None:
    with pytest.raises(AwsError, match=words):
        WIRE.model("lambda").conform("UpdateFunctionConfiguration", given)
