"""Templates as text: both formats, the short forms, and what is no template."""

from __future__ import annotations

import pytest

from cloudlet.errors import AwsError
from cloudlet.stacks.parse import parse


def test_short_forms_become_long_ones() -> None:
    found = parse(
        """
        A: !Ref X
        B: !GetAtt X.Outputs.Y
        C: !Sub "${X}"
        D: !If [C, !Ref Y, !Ref "AWS::NoValue"]
        E: !Condition Is
        F: !Join [",", [a, !Base64 b]]
        """
    )
    assert found == {
        "A": {"Ref": "X"},
        "B": {"Fn::GetAtt": ["X", "Outputs.Y"]},
        "C": {"Fn::Sub": "${X}"},
        "D": {"Fn::If": ["C", {"Ref": "Y"}, {"Ref": "AWS::NoValue"}]},
        "E": {"Condition": "Is"},
        "F": {"Fn::Join": [",", ["a", {"Fn::Base64": "b"}]]},
    }


def test_scalars_are_those_of_json() -> None:
    found = parse("{a: 2010-09-09, b: 010, c: yes, d: true, e: 1.5, f: '1', g: 0x10, h: 12}")
    assert found == {
        "a": "2010-09-09",
        "b": "010",
        "c": "yes",
        "d": True,
        "e": 1.5,
        "f": "1",
        "g": "0x10",
        "h": 12,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "unsupported structure"),
        ("", "unsupported structure"),
        ("a: [", "YAML not well-formed. (line"),
        ("{]", "JSON not well-formed"),
        ("a: !Nope x", "Unknown tag !Nope (line 1, column 4)"),
        ("a: &x 1\nb: *x", "YAML aliases are not allowed"),
        ("a: " + "[" * 5000, ""),
    ],
)
def test_what_is_no_template(text: str, words: str) -> None:
    with pytest.raises(AwsError) as refused:
        parse(text)
    assert refused.value.code == "ValidationError"
    assert words in refused.value.message


def test_aliases_where_a_tool_would_expand_them() -> None:
    text = "base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}"
    assert parse(text, aliases=True)["use"] == {"x": 1, "y": 3}
