"""Event patterns: the cases of the Event Ruler, each operator, and what is not a pattern."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cloudlet.services.patterns import PatternError, compile_filter_policy, compile_pattern

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "event-patterns" / "correctness-cases.json"
# The cases' names say what is to come out.
_NO = re.compile(r"missing|mismatch|split|no match|fail|^empty|empty prim|exists-false: present")


@pytest.mark.skipif(not VECTORS.exists(), reason="the vectors are not on this machine")
def test_the_event_rulers_cases() -> None:
    cases = json.loads(VECTORS.read_text())
    wrong = [
        case["name"]
        for case in cases
        if compile_pattern(case["rule"]).matches(case["event"]) == bool(_NO.search(case["name"]))
    ]
    assert (wrong, len(cases)) == ([], 51)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ([{"prefix": {"equals-ignore-case": "AB"}}], "abc", "xab"),
        ([{"suffix": ".png"}], "a.png", "a.jpg"),
        ([{"equals-ignore-case": "Ab"}], "aB", "abc"),
        ([{"wildcard": "a*c\\*"}], "abbc*", "abbc"),
        ([{"cidr": "10.0.0.0/24"}], "10.0.0.9", "10.0.1.9"),
        ([{"numeric": ["=", 3.0]}], 3, "3"),
        ([{"anything-but": ["a", "b"]}], "c", "a"),
        ([{"anything-but": {"prefix": ["a", "b"]}}], "c", "bc"),
        ([None], None, ""),
        ([True], True, 1),
        ([{"exists": False}], ..., "x"),
    ],
)
def test_operators(pattern: list[Any], yes: Any, no: Any) -> None:
    matches = compile_pattern({"a": pattern}).matches
    assert matches({} if yes is ... else {"a": yes})
    assert not matches({"a": no})


@pytest.mark.parametrize(
    ("pattern", "event", "matched"),
    [
        ({"a.b": [1]}, {"a": {"b": 1}}, True),
        ({"a": {"b": [1]}}, {"a.b": 1}, True),
        ({"a.b": {"c": [1]}}, {"a": {"b.c": 1}}, True),
        ({"a.b": [1]}, {"a": {"b": {"b": 1}}}, False),
        ({"a.b": [{"exists": False}]}, {"a": {"b": 1}}, False),
        ({"a.b": [{"exists": False}]}, {"a": {"c": 1}}, True),
    ],
)
def test_a_dot_is_nesting(pattern: Any, event: Any, matched: bool) -> None:
    assert compile_pattern(pattern).matches(event) is matched


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ({"cidr": "bad"}, "Malformed CIDR, one '/' required"),
        ({"cidr": "10.0.0.0/x"}, "Malformed CIDR, mask bits must be an integer"),
        ({"cidr": "10.0.x/8"}, "Nonstandard IP address: 10.0.x"),
        ({"cidr": "10.0.0.1/32"}, "IPv4 mask bits must be < 32"),
        ({"wildcard": "abc**def"}, "Consecutive wildcard characters at pos 4"),
        ({"anything-but": {"suffix": [1]}}, "prefix/suffix match pattern must be a string"),
    ],
)
def test_what_is_wrong_with_an_operator(operator: Any, reason: str) -> None:
    with pytest.raises(PatternError, match=re.escape(reason)):
        compile_pattern({"a": [operator]})


def test_or_joins_alternatives() -> None:
    pattern = compile_pattern({"s": ["x"], "$or": [{"a": [1]}, {"b": {"c": [2]}}]})
    assert pattern.matches({"s": "x", "b": {"c": 2}})
    assert not pattern.matches({"s": "x", "a": 2})


@pytest.mark.parametrize(
    "pattern",
    [
        "[]",
        "{}",
        "{",
        '{"a": "b"}',
        '{"a": []}',
        '{"a": [{"what": 1}]}',
        '{"a": [{"numeric": ["<"]}]}',
        '{"$or": [{}]}',
    ],
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def test_filter_policies_look_at_attributes_or_bodies() -> None:
    policy = compile_filter_policy({"n": [{"numeric": [">", 1]}], "tags": ["red"]})
    number, tags = {"DataType": "Number", "StringValue": "2"}, {"DataType": "String.Array", "StringValue": '["red", 1]'}
    assert policy.accepts({"n": number, "tags": tags}, "")
    assert not policy.accepts({"n": {"DataType": "String", "StringValue": "2"}, "tags": tags}, "")
    precise = {"n": {"DataType": "Number", "StringValue": "1.2345678"}}
    assert compile_filter_policy('{"n": [1.23456789]}').accepts(precise, "")
    assert not compile_filter_policy('{"n": [1.2345]}').accepts(precise, "")
    body = compile_filter_policy('{"a": {"b": ["c"]}}', "MessageBody")
    assert body.accepts({}, '{"a": [{"b": "c"}]}')
    assert not body.accepts({}, "no JSON")
    with pytest.raises(PatternError):
        compile_filter_policy({"a": {"b": ["c"]}})
