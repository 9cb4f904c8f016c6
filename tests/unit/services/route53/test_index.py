"""The index against the simplest thing that finds the same: a law."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cloudlet.services.route53.index import ZoneIndex
from cloudlet.services.route53.names import parent, within
from cloudlet.services.route53.records import RecordSet, Zone

_LABELS = st.sampled_from(("a", "b", "\\052"))
_NAMES = st.lists(_LABELS, max_size=4).map(lambda labels: ".".join([*labels, "z."]))
_CHANGES = st.lists(st.tuples(_NAMES, st.booleans()), max_size=30)


def found(names: set[str], name: str) -> str | None:
    """Which name answers: its own, also where it only has names below it, or its closest encloser's wildcard."""
    there = {"z."} | {above for one in names for above in enclosers(one)}
    if name in there:
        return name
    encloser = next(one for one in enclosers(name) if one in there)
    wildcard = f"\\052.{encloser}"
    return wildcard if wildcard in names else None


def enclosers(name: str) -> list[str]:
    """A name and all above it, down to the zone's."""
    made = [name]
    while made[-1] != "z.":
        made.append(parent(made[-1]))
    return made


@settings(max_examples=300, deadline=None)
@given(_CHANGES, _NAMES)
def test_finds_what_a_search_through_all_names_finds(changes: list[tuple[str, bool]], asked: str) -> None:
    index, names = ZoneIndex(Zone("Z", "1", "z.", "r", 0.0, [])), set[str]()
    for name, there in changes:
        index.put(name, [RecordSet(name, "A", 60, (name,))] if there else [])
        (names.add if there else names.discard)(name)
    expected = found(names, asked)
    node = index.find(asked)
    if expected is None:
        assert node is None
    elif expected in names:
        assert node is not None
        assert node["A"][0].name == expected
    else:
        assert node == {}
    assert index.count == len(names)
    assert index.ordered() == sorted(names, key=lambda one: one.rstrip(".").split(".")[::-1])
    assert all(within(name, "z.") for name in index.nodes)
