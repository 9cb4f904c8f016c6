"""Laws of the controller: plans lead to what is stored, are then empty, and publish nothing inconsistent."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from test_elbv2_envoy import everything

from cloudlet.mesh import Snapshot
from cloudlet.services.elbv2.controller import State, plan
from cloudlet.services.elbv2.envoy import World, snapshot
from cloudlet.services.elbv2.records import groups_of

_ALL = everything()
_CERTIFICATES = sorted({arn for one in _ALL.listeners for arn in one.certificates})


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Some of the listeners, rules and targets; what they name is there, certificates perhaps not yet."""
    listeners = draw(st.lists(st.sampled_from(_ALL.listeners), unique_by=lambda one: one.arn))
    arns = {one.arn for one in listeners}
    rules = draw(st.lists(st.sampled_from(_ALL.rules), unique_by=lambda one: one.arn))
    held = draw(st.sets(st.sampled_from(_CERTIFICATES)))
    return replace(
        _ALL,
        listeners=listeners,
        rules=[rule for rule in rules if rule.listener_arn in arns],
        targets=draw(st.lists(st.sampled_from(_ALL.targets), unique_by=lambda one: (one.group, one.target))),
        certificates=dict.fromkeys(held, ("chain", "key")),
    )


def carried_out(world: World, state: State, to_be_had: frozenset[str]) -> tuple[World, State]:
    """The world and the state after the steps of one plan."""
    for step in plan(world, state):
        verb, _, what = step.partition(" ")
        if verb == "start":
            state = State(True, None, state.lost)
        elif verb == "stop":
            state = State(False, None, state.lost)
        elif verb == "certificate" and what in to_be_had:
            world = replace(world, certificates={**world.certificates, what: ("chain", "key")})
        elif verb == "certificate":
            state = state._replace(lost=state.lost | {what})
        else:
            made = snapshot(world)
            made.check()
            state = state._replace(carried=made)
    return world, state


@given(worlds(), st.booleans(), st.sets(st.sampled_from(_CERTIFICATES)).map(frozenset))
def test_plans_lead_there_and_are_then_empty(world: World, runs: bool, to_be_had: frozenset[str]) -> None:
    state = State(runs, Snapshot() if runs else None)
    for _ in range(4):
        world, state = carried_out(world, state, to_be_had)
    assert plan(world, state) == []
    assert state.running == bool(world.listeners)
    if state.running:
        assert state.carried == snapshot(world)


@given(worlds())
def test_what_is_carried(world: World) -> None:
    made = snapshot(world)
    made.check()
    ready = [one for one in world.listeners if set(one.certificates) <= world.certificates.keys()]
    own = {name.removesuffix("/udp") for name in made.listeners if not name.startswith("shared/")}
    assert len(own) == len(ready)
    used = {arn for one in (*world.listeners, *world.rules) for arn in groups_of(one.actions)}
    named = {group.id for group in world.groups if group.arn in used and group.type != "lambda"}
    assert made.endpoints.keys() == named
    draining = {target.address for target in world.targets if target.draining_until}
    for one in (
        each for group in made.endpoints.values() for part in group["endpoints"] for each in part["lb_endpoints"]
    ):
        drains = one["endpoint"]["address"]["socket_address"]["address"] in draining
        assert ("metadata" in one, one.get("health_status") == "DRAINING") == (not drains, drains)


@given(worlds())
def test_the_order_in_which_it_is_stored_means_nothing(world: World) -> None:
    turned = replace(world, rules=list(reversed(world.rules)), groups=list(reversed(world.groups)))
    assert snapshot(turned) == snapshot(world)
