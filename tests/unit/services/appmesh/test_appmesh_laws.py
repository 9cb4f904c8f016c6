"""Whatever a mesh lacks, what Envoy is told is consistent, and the same each time."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_appmesh_snapshots import FOUND, PROXY, shop

from cloudlet.services.appmesh.snapshots import gateway_snapshot, node_snapshot

_GROUPS = ("nodes", "services", "routers", "routes", "gateway_routes")
_ALL = sorted((group, name) for group in _GROUPS for name in getattr(shop(), group))


@given(
    gone=st.sets(st.sampled_from(_ALL)),
    weights=st.lists(st.integers(0, 100), min_size=2, max_size=2),
    egress=st.sampled_from(["ALLOW_ALL", "DROP_ALL"]),
    ports=st.lists(st.sampled_from([80, 5432, 9080, 50051]), min_size=2, max_size=2),
)
@settings(max_examples=200, deadline=None)
def test_a_mesh_in_pieces_is_still_consistent(
    gone: set[tuple[str, str]], weights: list[int], egress: str, ports: list[int]
) -> None:
    world = shop()
    targets: Any = world.routes["colors"]["all"]["httpRoute"]["action"]["weightedTargets"]
    for target, weight in zip(targets, weights, strict=True):
        target["weight"] = weight
    # Routers and nodes on ports that others use too.
    world.routers["colors"]["listeners"][0]["portMapping"]["port"] = ports[0]
    world.nodes["db"]["listeners"][0]["portMapping"]["port"] = ports[1]
    left = {
        group: {name: spec for name, spec in getattr(world, group).items() if (group, name) not in gone}
        for group in _GROUPS
    }
    left["nodes"].setdefault("front", world.nodes["front"])
    world = dataclasses.replace(world, spec={"egressFilter": {"type": egress}}, **left)
    before = copy.deepcopy(world)
    for make, name in ((node_snapshot, "front"), (gateway_snapshot, "entry")):
        made = make(world, name, FOUND, PROXY)
        made.check()
        assert made == make(world, name, FOUND, PROXY)
    assert world == before
