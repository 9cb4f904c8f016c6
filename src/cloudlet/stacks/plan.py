"""What a deployment has to do: resources as they are against resources as the template wants them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import UNKNOWN, Context, Resolver, known
from cloudlet.stacks.template import Desired, Template, order

CREATE, UPDATE, REPLACE, DELETE, NONE = "CREATE", "UPDATE", "REPLACE", "DELETE", "NONE"

# Attributes of these may change with any update.
_LIVELY = ("AWS::CloudFormation::Stack", "AWS::CloudFormation::CustomResource", "Custom::")


class State(msgspec.Struct, omit_defaults=True):
    """A resource that exists: what it was made with, and what it gives."""

    type: str
    physical_id: str
    properties: dict[str, Any]
    attributes: dict[str, Any] = {}
    ref: str | None = None
    depends: list[str] = []
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    metadata: Any = None
    seed: str = ""

    def value(self, logical_id: str, attribute: str | None) -> Any:
        """What Ref (None) or Fn::GetAtt gives. Raises ValidationError for an attribute that the resource has not."""
        if attribute is None:
            return self.ref if self.ref is not None else self.physical_id
        if attribute in self.attributes:
            return self.attributes[attribute]
        value: Any = self.attributes
        for part in attribute.split("."):
            if not isinstance(value, dict) or part not in value:
                raise no_attribute(self.type, attribute, logical_id)
            value = value[part]
        return value


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan. ``replacement`` is True, False or Conditional; ``after`` are the steps to wait for."""

    action: str
    logical_id: str
    type: str
    changed: tuple[str, ...] = ()
    replacement: str = "False"
    after: frozenset[str] = frozenset()
    before_properties: Any = None
    after_properties: Any = None


# The properties of a type whose change makes a new resource; None when any does.
Replaces = Callable[[str], frozenset[str] | None]


def decide(state: State | None, desired: Desired, replaces: frozenset[str] | None) -> tuple[str, tuple[str, ...], str]:
    """The action for one resource, the changed properties, and whether it is replaced: True, False or Conditional."""
    if state is None:
        return CREATE, (), "False"
    old, new = state.properties, desired.properties
    names = tuple(
        name for name in {**old, **new} if name not in old or name not in new or not _same(old[name], new[name])
    )
    if not names:
        return NONE, (), "False"
    critical = [
        name
        for name in names
        if replaces is None or name in desired.replaces or renews(name, old.get(name), new.get(name), replaces)
    ]
    if not critical:
        return UPDATE, names, "False"
    if all(name in new and not known(new[name]) for name in critical):
        return REPLACE, names, "Conditional"
    return REPLACE, names, "True"


def renews(name: str, old: Any, new: Any, replaces: frozenset[str] | None) -> bool:
    """Whether a property's change makes a new resource: by itself, or by a member that ``replaces`` names."""
    if replaces is None or name in replaces:
        return True
    for outer, _, inner in (path.partition("/") for path in replaces):
        if outer == name and inner:
            before, after = (one.get(inner) if isinstance(one, dict) else None for one in (old, new))
            if new is UNKNOWN or not _same(before, after):
                return True
    return False


def plan(current: Mapping[str, State], template: Template, context: Context, replaces: Replaces) -> list[Step]:
    """The steps from what is to what the template wants, each after those it depends on. Raises ValidationError.

    Run on the result of a plan it is empty.
    """
    depends = template.dependencies(context)
    values: dict[str, State | None] = {}  # what stays as it is, as far as others see it
    steps: list[Step] = []
    touched: set[str] = set()

    def lookup(name: str, attribute: str | None) -> Any:
        state = values.get(name)
        if state is None or (attribute is not None and name in touched and state.type.startswith(_LIVELY)):
            return UNKNOWN
        return state.value(name, attribute)

    resolver = Resolver(context, lookup)
    for name in order(depends):
        desired = template.desired(name, resolver, depends[name])
        state = current.get(name)
        if state is not None and state.type != desired.type:
            raise invalid(
                "Update of resource type is not permitted. The new template modifies resource type of the following "
                f"resources: [{name}]"
            )
        action, changed, replacement = decide(state, desired, replaces(desired.type))
        values[name] = state if action in (NONE, UPDATE) else None
        if action != NONE:
            touched.add(name)
            steps.append(
                Step(
                    action,
                    name,
                    desired.type,
                    changed,
                    replacement,
                    frozenset(depends[name] & touched),
                    state.properties if state is not None else None,
                    desired.properties,
                )
            )
    gone = {name: state for name, state in current.items() if name not in depends}
    users: dict[str, set[str]] = {name: set() for name in gone}
    for name, state in gone.items():
        for other in state.depends:
            if other in users:
                users[other].add(name)
    for name in order(users):
        after = frozenset(users[name]) | frozenset(touched)
        steps.append(Step(DELETE, name, gone[name].type, after=after, before_properties=gone[name].properties))
    return steps


def no_attribute(type: str, attribute: str, logical_id: str) -> Exception:
    """The refusal of a Fn::GetAtt for something that a resource does not give."""
    return invalid(
        f"Template error: resource {logical_id} does not support attribute type {attribute} in Fn::GetAtt ({type})"
    )


def _same(old: Any, new: Any) -> bool:
    if new is UNKNOWN:
        return False
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_same(left, right) for left, right in zip(old, new, strict=True))
    if isinstance(old, bool) != isinstance(new, bool):
        return False
    return bool(old == new)
