"""A resource's state as it is stored, as its type knows it, and as a failed step tells of it."""

from __future__ import annotations

import logging

import msgspec

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Physical
from cloudlet.stacks.plan import State
from cloudlet.stacks.template import Desired

log = logging.getLogger("cloudlet.cloudformation")


def state_of(desired: Desired, physical: Physical, seed: str) -> State:
    """A resource as it now is."""
    return State(
        desired.type,
        physical.id,
        desired.properties,
        physical.attributes,
        physical.ref,
        sorted(desired.depends),
        desired.deletion_policy,
        desired.update_replace_policy,
        desired.metadata,
        seed,
    )


def state_of_update(state: State, physical: Physical) -> State:
    """A state after an update that gave back its properties."""
    return msgspec.structs.replace(state, physical_id=physical.id, attributes=physical.attributes, ref=physical.ref)


def physical_of(state: State) -> Physical:
    """A resource as its type knows it."""
    return Physical(state.physical_id, state.attributes, state.ref)


def reason_of(error: Exception, type: str) -> str:
    """What a failed step tells the user."""
    if isinstance(error, AwsError):
        service = getattr(error, "service", "")
        where = (
            f" (Service: {service}, Status Code: {error.status or 400}, Error Code: {error.code})" if service else ""
        )
        return f"{error.message}{where}"
    log.error("a step for %s failed", type, exc_info=error)
    if isinstance(error, KeyError):
        return f"Properties validation failed: {type} needs {error}"
    return f"Cloudlet failed on {type}: {error.__class__.__name__}: {error}; its log says more."
