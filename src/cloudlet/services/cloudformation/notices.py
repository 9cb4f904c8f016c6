"""What the topics of a stack are told."""

from __future__ import annotations

from datetime import UTC, datetime

from cloudlet.services.cloudformation.records import Event, Stack


def notice_of(stack: Stack, event: Event) -> str:
    """The message in which a stack's topics are told of an event: a line for each member."""
    stamp = datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = [
        ("StackId", stack.id),
        ("Timestamp", stamp),
        ("EventId", event.id),
        ("LogicalResourceId", event.logical_id),
        ("Namespace", stack.account),
        ("PhysicalResourceId", event.physical_id),
        ("ResourceProperties", event.properties or "null"),
        ("ResourceStatus", event.status),
        ("ResourceStatusReason", event.reason),
        ("ResourceType", event.type),
        ("StackName", stack.name),
        ("ClientRequestToken", event.token or "null"),
    ]
    return "".join(f"{key}='{value}'\n" for key, value in lines)
