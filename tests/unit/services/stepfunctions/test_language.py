"""The parts of the states language that need no cloud: paths, functions, comparators, expressions."""

from __future__ import annotations

from typing import Any

import pytest

from cloudlet.services.jsonpath import BadPath, NotFound, Scope, compile_path, compile_reference, put
from cloudlet.services.stepfunctions.choices import holds
from cloudlet.services.stepfunctions.intrinsics import BadIntrinsic, IntrinsicFailed, compile_intrinsic
from cloudlet.services.stepfunctions.queries import QueryFailed, evaluate

DATA: dict[str, Any] = {
    "store": {"book": [{"title": "a", "price": 8}, {"title": "b", "price": 12, "tags": ["x"]}], "open-now": True},
    "when": "2026-01-01T00:00:00Z",
    "nothing": None,
    "text": "it's",
}
SCOPE = Scope(DATA, {"Execution": {"Name": "e"}}, {"limit": {"price": 10}})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.store.book[1].title", "b"),
        ("$.store.book[-1]['title']", "b"),
        ("$['store'][\"open-now\"]", True),
        ("$.store.book[*].price", [8, 12]),
        ("$..title", ["a", "b"]),
        ("$..book[0]", [{"title": "a", "price": 8}]),
        ("$.store.book[0,1].title", ["a", "b"]),
        ("$.store.book[0:1].title", ["a"]),
        ("$.store.book[::2].title", ["a"]),
        ("$.store.book[?(@.price > 10)].title", ["b"]),
        ("$.store.book[?(@.tags && @.price >= 12 || @.title == 'z')].title", ["b"]),
        ("$.store.book[?(!@.tags)].title", ["a"]),
        ("$.store.book[?(@.title in ['a', 'c'])].price", [8]),
        ("$.store.book[?(@.title =~ /B/i)].price", [12]),
        ("$.store.book[?(@.price == 13)]", []),
        ("$.nothing", None),
        ("$$.Execution.Name", "e"),
        ("$limit.price", 10),
    ],
)
def test_paths(path: str, value: Any) -> None:
    assert compile_path(path).value(SCOPE) == value


def test_paths_that_are_none() -> None:
    for text in ("", "store", "$.", "$.a[", "$.a[?(@.b >)]", "$.a.length()", "$.a b"):
        with pytest.raises(BadPath):
            compile_path(text)
    for text in ("$.store.none", "$.text.deeper", "$unset"):
        with pytest.raises(NotFound):
            compile_path(text).value(SCOPE)
    with pytest.raises(BadPath):
        compile_reference("$.a[*]")
    assert put({"a": [1, 2]}, compile_reference("$.a[1]"), 3) == {"a": [1, 3]}
    assert put({"a": 1}, compile_reference("$['x y'].z"), 3) == {"a": 1, "x y": {"z": 3}}
    with pytest.raises(BadPath):
        put([1], compile_reference("$.a"), 3)


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (r"States.Format('{} \{\} it\'s {}', $.store.book[0].title, States.Array(1, null))", "a {} it's [1,null]"),
        ("States.Format('{}', $.store.book[0])", "{title=a, price=8}"),
        ("States.StringToJson('{\"a\": 1}')", {"a": 1}),
        ("States.StringToJson(' ')", None),
        ("States.JsonToString($.store.book[0])", '{"title":"a","price":8}'),
        ("States.ArrayPartition(States.ArrayRange(1, 5, 1), 2)", [[1, 2], [3, 4], [5]]),
        ("States.ArrayContains($.store.book[*].price, 12)", True),
        ("States.ArrayGetItem($..title, 1)", "b"),
        ("States.ArrayLength($.store.book[?(@.price > 10)])", 1),
        ("States.ArrayUnique(States.Array(1, 1, 'a', 'a', true))", [1, "a", True]),
        ("States.Base64Decode(States.Base64Encode('ä'))", "ä"),
        ("States.Hash('input data', 'SHA-1')", "aaff4a450a104cd177d28d18d74485e8cae074b7"),
        ("States.JsonMerge($.store, $limit, false)", {**DATA["store"], "price": 10}),
        ("States.MathAdd(5, -1)", 4),
        ("States.StringSplit('1,2;3,,', ',;')", ["1", "2", "3"]),
    ],
)
def test_functions(call: str, value: Any) -> None:
    assert compile_intrinsic(call)(SCOPE) == value


def test_functions_that_fail() -> None:
    assert 1 <= compile_intrinsic("States.MathRandom(1, 9)")(SCOPE) < 9
    assert len(compile_intrinsic("States.UUID()")(SCOPE)) == 36
    for text in ("States.Nothing()", "States.MathAdd(1)", "States.Format('a'", "States.Array(a)", "States.UUID() x"):
        with pytest.raises(BadIntrinsic):
            compile_intrinsic(text)
    for text in ("States.ArrayGetItem(States.Array(1), 3)", "States.Format('{}')", "States.StringToJson('{')"):
        with pytest.raises(IntrinsicFailed):
            compile_intrinsic(text)(SCOPE)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"Variable": "$.text", "StringEquals": "it's"}, True),
        ({"Variable": "$.text", "NumericEquals": 1}, False),
        ({"Variable": "$.text", "StringMatches": "*'s"}, True),
        ({"Variable": "$.store.book[0].price", "NumericLessThanPath": "$limit.price"}, True),
        ({"Variable": "$.store.open-now", "BooleanEquals": True}, True),
        ({"Variable": "$.when", "TimestampGreaterThan": "2025-12-31T23:59:59+01:00"}, True),
        ({"Variable": "$.when", "IsTimestamp": True}, True),
        ({"Variable": "$.text", "IsTimestamp": False}, True),
        ({"Variable": "$.nothing", "IsNull": True}, True),
        ({"Variable": "$.absent", "IsPresent": False}, True),
        ({"Variable": "$.nothing", "IsPresent": True}, True),
        ({"Not": {"Variable": "$.store.open-now", "IsNumeric": True}}, True),
        ({"Or": [{"Variable": "$.text", "IsString": False}, {"Variable": "$.text", "IsString": True}]}, True),
    ],
)
def test_rules(rule: dict[str, Any], expected: bool) -> None:
    assert holds(rule, SCOPE) is expected


def test_expressions() -> None:
    states = {"input": {"x": 1, "z": None, "items": [{"n": 1}, {"n": 5}]}, "context": {}}

    def value(template: Any, **variables: Any) -> Any:
        return evaluate(template, states, variables, "Output", 0.0)

    template = {"a": "{% $states.input.x + $v %}", "b": ["{% $states.input.items[n > 2].n %}"], "c": "plain"}
    assert value(template, v=2) == {"a": 3, "b": [5], "c": "plain"}
    assert value("{% $states.input.z %}") is None
    assert value("{% $now() %}") == "1970-01-01T00:00:00.000Z"
    assert value("{% $partition($range(1, 4, 1), 3) %}") == [[1, 2, 3], [4]]
    assert value("{% $parse('{\"a\":[1]}').a[0] %}") == 1
    for text in ("{% $absent %}", "{% 1 / 0 %}", "{% $sum('a') %}", "{% $eval('1') %}", "{% function($x){$x} %}"):
        with pytest.raises(QueryFailed):
            value(text)
    with pytest.raises(QueryFailed):
        value("{% ($f := function($n){ 1 + $f($n) }; $f(1)) %}")


def test_expressions_do_not_age(monkeypatch: pytest.MonkeyPatch) -> None:
    from jsonata.timebox import Timebox

    def value(text: str) -> Any:
        return evaluate(text, {"input": {"a": 1}}, {}, "Output", 0.0)

    assert value("{% $states.input.a + 6 %}") == 7
    now = Timebox.current_milli_time() + 3_600_000
    monkeypatch.setattr(Timebox, "current_milli_time", lambda: now)
    assert value("{% $states.input.a + 6 %}") == 7
    assert value("{% $range(1, 9, 9) %}") == 1
