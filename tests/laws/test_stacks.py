"""Laws of deployments of any template: a plan carried out is empty the second time; nothing runs before its needs."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cloudlet.stacks import graph
from cloudlet.stacks.intrinsics import Context, Resolver, pseudo_parameters
from cloudlet.stacks.plan import CREATE, DELETE, REPLACE, UPDATE, State, plan
from cloudlet.stacks.template import Template, order

TYPE = "AWS::Test::Thing"
CRITICAL = frozenset(("Name",))
NAMES = "ABCDEF"


@st.composite
def templates(draw: Any) -> dict[str, Any]:
    """Things that refer to things before them, by Ref, by attribute or by DependsOn."""
    resources: dict[str, Any] = {}
    for number, name in enumerate(NAMES[: draw(st.integers(1, len(NAMES)))]):
        if not draw(st.booleans()) and number:
            continue
        properties: dict[str, Any] = {
            "Size": draw(st.integers(0, 2)),
            "Name": draw(st.sampled_from(["x", "y"])),
        }
        for other in list(resources):
            kind = draw(st.sampled_from(["", "", "ref", "att", "after"]))
            if kind == "ref":
                properties[f"Of{other}"] = {"Ref": other}
            elif kind == "att":
                properties["Name"] = {"Fn::Sub": f"${{{other}.Arn}}"}
            elif kind == "after":
                resources.setdefault(name, {}).setdefault("DependsOn", []).append(other)
        resources[name] = {**resources.get(name, {}), "Type": TYPE, "Properties": properties}
    return {"Resources": resources}


def context() -> Context:
    return Context(pseudo=pseudo_parameters("0" * 12, "us-east-1", "s", "arn", []))


def replaces(type: str) -> frozenset[str]:
    return CRITICAL


class World:
    """Carries a plan out, and counts what it makes."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.made = 0

    def carry_out(self, document: dict[str, Any]) -> list[str]:
        """Deploy; returns what was done, in order."""
        template, known = Template(document), context()
        steps = plan(self.states, template, known, replaces)
        depends = template.dependencies(known)
        done: list[str] = []
        resolver = Resolver(known, lambda name, attribute: self.states[name].value(name, attribute))
        for step in steps:
            assert step.after <= {*done}, "a step came before one that it needs"
            done.append(step.logical_id)
            if step.action == DELETE:
                del self.states[step.logical_id]
                continue
            desired = template.desired(step.logical_id, resolver, depends[step.logical_id])
            id = f"{step.logical_id}-{self.made}"
            if step.action == UPDATE:
                id = self.states[step.logical_id].physical_id
            else:
                assert step.action in (CREATE, REPLACE)
                self.made += 1
            depended = sorted(desired.depends)
            self.states[step.logical_id] = State(TYPE, id, desired.properties, {"Arn": f"arn:{id}"}, depends=depended)
        for name, state in self.states.items():
            state.depends = sorted(depends[name])  # which a run notes of what it does not touch too
        return done


@given(st.lists(templates(), min_size=1, max_size=4))
def test_a_plan_that_was_carried_out_is_empty(documents: list[dict[str, Any]]) -> None:
    world = World()
    for document in documents:
        world.carry_out(document)
        # What a plan calls Conditional may leave a dependent to be settled by a second look, as in the run itself.
        for _ in NAMES:
            if not world.carry_out(document):
                break
        assert world.carry_out(document) == []
        assert set(world.states) == set(document["Resources"])
        for name, state in world.states.items():
            for other in state.depends:
                assert other in world.states, f"{name} needs {other}, which is gone"


@given(templates(), st.sets(st.sampled_from(NAMES)))
def test_the_graph_runs_everything_once_after_its_needs(document: dict[str, Any], failing: set[str]) -> None:
    depends = Template(document).dependencies(context())
    done: list[str] = []
    running = 0

    async def work(name: str) -> bool:
        nonlocal running
        assert depends[name] <= {one for one in done if one not in failing}
        running += 1
        await asyncio.sleep(0)
        running -= 1
        done.append(name)
        return name not in failing

    async def go() -> None:
        await graph.run(depends, work, asyncio.Event(), limit=3, stop_on_failure=False)

    asyncio.run(go())
    assert running == 0
    assert len(done) == len(set(done))
    blocked = set(failing)
    for name in order(depends):
        if depends[name] & blocked:
            blocked.add(name)
    assert set(done) == {name for name in depends if not depends[name] & blocked}
