"""Mapping templates: what Velocity makes of a template and a scope."""

from __future__ import annotations

from typing import Any

import pytest

from cloudlet.services.apigateway.java import from_json
from cloudlet.services.apigateway.velocity import TemplateError, render

SCOPE: dict[str, Any] = {
    "n": 7,
    "name": "Ada",
    "none": None,
    "input": {"path": lambda _: from_json({"list": [1, {"a": "b"}], "map": {"k": [1]}}), "empty": None},
    "rows": from_json([{"id": 1, "tags": ["x"]}, {"id": 2, "tags": []}]),
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain # text $ 5 #hash", "plain # text $ 5 #hash"),
        ("$name ${name}s $!name $name.length() $name.toUpperCase()", "Ada Adas Ada 3 ADA"),
        ("$missing ${missing.deep} $!missing.deep $input.empty.", "$missing ${missing.deep}  ."),
        ("a ## comment\nb #* block\n *# c", "a b  c"),
        (r"\$name \#if", "$name #if"),
        ("#set($a = 1 + 2 * 3 - 4 / 2)$a", "5"),
        ("#set($a = -7 / 2) $a #set($b = -7 % 2) $b", " -3  -1"),
        ("#set($a = \"${name}-$n\")$a #set($b = '$name')$b", "Ada-7 $name"),
        ("#if($n > 5 && !$none)yes#elseif($n == 5)five#{else}no#end!", "yes!"),
        ("#if($none)a#elseif($n == '7')b#else c#end", "b"),
        ("#if($n ge 7 and not ($n lt 7) or false)yes#end", "yes"),
        ("#foreach($r in $rows)$foreach.count:$r.id#if($foreach.hasNext), #end#end", "1:1, 2:2"),
        ("#foreach($i in [3..1])$i#if($i == 2)#break#end#end $!i", "32 "),
        (
            "#set($m = {'a': 1, 'b': [1, 'x']})$m $m.a $m['b'][1] $m.keySet() $m.b.size()",
            "{a=1, b=[1, x]} 1 x [a, b] 2",
        ),
        ("#set($m = {})#set($m.x.y = 2)$m #set($d = $m.put('z', 3))$m.z", "{x={y=2}} 3"),
        ("$input.path('$') $input.path('x').list", '{list=[1,{"a":"b"}], map={k=[1]}} [1,{"a":"b"}]'),
        ("$rows[0].tags $rows.get(1).tags.isEmpty() $rows.size()", '["x"] true 2'),
        ("before#stop after", "before"),
        ("#set($x = 'a,b,,c')$x.split(',').size() $x.replaceAll('[,]+', '-') $x.substring(2, 3)", "4 a-b-c b"),
        ("#set($l = [])#foreach($r in $rows)#set($ok = $l.add($r.id))#end$l", "[1, 2]"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert render(template, dict(SCOPE)) == text


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("#if($a) x", "#end"),
        ("x #end", "stands alone"),
        ("#set($a 1)", "missing"),
        ("#macro(x) y #end", "does not implement #macro"),
        ("#set($a = )", "broken"),
        ("$name.substring('x')", "indices|integer|slice"),
    ],
)
def test_what_cannot_be_read_or_carried_out(template: str, why: str) -> None:
    with pytest.raises(TemplateError, match=why):
        render(template, dict(SCOPE))
