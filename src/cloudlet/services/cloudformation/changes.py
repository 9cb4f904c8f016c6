"""A plan's steps as the changes that a change set shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cloudlet.services.cloudformation.prepare import Prepared
from cloudlet.services.cloudformation.records import Resource
from cloudlet.stacks import registry
from cloudlet.stacks.intrinsics import UNKNOWN, text_of
from cloudlet.stacks.parameters import MASK, hidden
from cloudlet.stacks.plan import CREATE, DELETE, REPLACE, Step, renews
from cloudlet.stacks.template import Template, references

_UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"
_AFTER = {"Delete": "ReplaceAndDelete", "Retain": "ReplaceAndRetain", "Snapshot": "ReplaceAndSnapshot"}


def shown(
    steps: list[Step], rows: dict[str, Resource], prepared: Prepared, old: Template | None
) -> list[dict[str, Any]]:
    """The changes, each a ResourceChange with its values; ``old`` is the template that the stack has."""
    return [_change(step, rows.get(step.logical_id), prepared, old) for step in steps]


def _change(step: Step, row: Resource | None, prepared: Prepared, old: Template | None) -> dict[str, Any]:
    change: dict[str, Any] = {
        "LogicalResourceId": step.logical_id,
        "ResourceType": step.type,
        "Action": "Add" if step.action == CREATE else "Remove" if step.action == DELETE else "Modify",
        "Scope": [],
        "Details": [],
    }
    if row is not None and row.physical_id:
        change["PhysicalResourceId"] = row.physical_id
    if step.action == DELETE:
        policy = row.state.deletion_policy if row is not None and row.state is not None else "Delete"
        change["PolicyAction"] = "Retain" if policy == "RetainExceptOnCreate" else policy
        change["BeforeContext"] = _context(step.before_properties, prepared)
        return change
    change["AfterContext"] = _context(step.after_properties, prepared)
    if step.action == CREATE:
        return change
    change["BeforeContext"] = _context(step.before_properties, prepared)
    change["Replacement"] = step.replacement
    change["Scope"] = list(dict.fromkeys("Tags" if name == "Tags" else "Properties" for name in step.changed))
    change["Details"] = [detail for name in step.changed for detail in _details(name, step, prepared, old)]
    if step.action == REPLACE:
        policy = row.state.update_replace_policy if row is not None and row.state is not None else "Delete"
        change["PolicyAction"] = _AFTER[policy]
    return change


def _details(name: str, step: Step, prepared: Prepared, old: Template | None) -> list[dict[str, Any]]:
    """Why a property changes: for each cause one detail."""
    replaces = registry.replaces(step.type)
    before, after = step.before_properties or {}, step.after_properties or {}
    critical = renews(name, before.get(name), after.get(name), replaces)
    target: dict[str, Any] = {
        "Attribute": "Tags" if name == "Tags" else "Properties",
        "RequiresRecreation": "Never" if not critical else "Conditionally" if after.get(name) is UNKNOWN else "Always",
        "Path": f"/Properties/{name}",
        "AttributeChangeType": "Add" if name not in before else "Remove" if name not in after else "Modify",
    }
    if name != "Tags":
        target["Name"] = name
    if name in before:
        target["BeforeValue"] = _value(before[name], prepared)
    if name in after:
        target["AfterValue"] = _value(after[name], prepared)
    return [
        {"Target": target, "Evaluation": evaluation, "ChangeSource": source, **cause}
        for evaluation, source, cause in _causes(name, step, prepared, old)
    ]


def _causes(
    name: str, step: Step, prepared: Prepared, old: Template | None
) -> Iterator[tuple[str, str, dict[str, str]]]:
    wanted = _property(prepared.template, step.logical_id, name)
    if old is None or _property(old, step.logical_id, name) != wanted:
        yield "Static", "DirectModification", {}
        return
    # The template says the same as before: what it refers to has changed.
    found = False
    for other in dict.fromkeys(references(wanted)):
        found = True
        if other in prepared.template.parameters:
            yield "Static", "ParameterReference", {"CausingEntity": other}
        else:
            yield "Dynamic", "ResourceReference", {"CausingEntity": other}
    if not found:
        yield "Dynamic", "DirectModification", {}


def _property(template: Template, logical_id: str, name: str) -> Any:
    return template.resources.get(logical_id, {}).get("Properties", {}).get(name)


def _context(properties: Any, prepared: Prepared) -> str:
    return json.dumps({"Properties": _plain(properties or {}, _secrets(prepared))}, separators=(",", ":"))


def _value(value: Any, prepared: Prepared) -> str:
    plain = _plain(value, _secrets(prepared))
    return json.dumps(plain, separators=(",", ":")) if isinstance(plain, dict | list) else text_of(plain)


def _secrets(prepared: Prepared) -> frozenset[str]:
    """The values of the parameters that are not to be shown."""
    model, declared = prepared.model, prepared.template.parameters
    return frozenset(value for name, value in model.parameters.items() if value and hidden(declared, name))


def _plain(value: Any, secrets: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _plain(below, secrets) for key, below in value.items()}
    if isinstance(value, list):
        return [_plain(item, secrets) for item in value]
    if value is UNKNOWN:
        return _UNKNOWN
    return MASK if value in secrets else value
