"""The contract between the deployment engine and a service's ``resources.py``.

A service lists its CloudFormation types in ``TYPES``; the engine finds them by the type's middle word
(``AWS::SQS::Queue`` is in ``services/sqs/resources.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

T = TypeVar("T")
Properties = dict[str, Any]
_MARKS = ("aws:cloudformation:stack-id", "aws:cloudformation:logical-id")


@dataclass(frozen=True, slots=True)
class Physical:
    """What was made: its physical id, what ``Ref`` gives (else the id) and what ``Fn::GetAtt`` gives."""

    id: str
    attributes: dict[str, Any] = field(default_factory=dict)
    ref: str | None = None


class Deployment(Protocol):
    """One resource's step of a deployment, as its type sees it."""

    account: str
    region: str
    stack_name: str
    stack_id: str
    logical_id: str
    update_policy: Any  # the resource's own, or None
    tags: dict[str, str]  # the stack's own tags and aws:cloudformation:*, to be given to what is made

    async def call(self, service: str, operation: str, input: Properties) -> dict[str, Any]:
        """Call an operation as the stack's owner. Raises AwsError; its message becomes the status reason."""
        ...

    async def signals(self, count: int = 0, seconds: float = 0.0) -> int:
        """How many signals there were for this resource; with a count, wait for so many. Raises ValidationError."""
        ...

    async def service(self, name: str) -> Any:
        """Another service, started: to wait for its news, where an operation would have to be asked again and again."""
        ...

    async def wait(self, work: Awaitable[T]) -> T:
        """Wait for something that may take long; where the deployment is called off meanwhile, the step ends."""
        ...

    def name(self, longest: int = 64, lower: bool = False, suffix: str = "") -> str:
        """A physical name as CloudFormation makes it: stack, logical id, and a random part kept for this resource."""
        ...

    async def initiated(self, physical_id: str) -> None:
        """Remember the physical id before the resource is usable, so that it is deleted should it never be."""
        ...

    def local_path(self, uri: str) -> str | None:
        """The absolute path that a local ``CodeUri`` and its like names, or None when it is not a local path."""
        ...


class ResourceType:
    """One CloudFormation resource type. Every method is idempotent: after a crash it is called again."""

    type: ClassVar[str]
    required: ClassVar[frozenset[str]] = frozenset()  # properties without which a template is refused
    replaces: ClassVar[frozenset[str]] = (
        frozenset()
    )  # properties whose change makes a new resource; ``Outer/Inner`` is a member of one
    refuses: ClassVar[frozenset[str]] = (
        frozenset()
    )  # properties that are not implemented: named before anything is made
    ignored: ClassVar[frozenset[str]] = frozenset()  # properties that have no meaning on one machine; docs list them

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        """Make it and return when it is usable."""
        raise NotImplementedError

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        """Change it in place; called only when no property of ``replaces`` differs."""
        raise NotImplementedError

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        """Delete it; that it is gone already is no error."""
        raise NotImplementedError


def changed(old: Properties, new: Properties, *names: str) -> bool:
    """Whether any of the named properties differs."""
    return any(old.get(name) != new.get(name) for name in names)


def tags_of(do: Deployment, properties: Properties) -> dict[str, str]:
    """The resource's own tags over the stack's. ``Tags`` may be a list of Key and Value or a map."""
    own = properties.get("Tags") or {}
    if isinstance(own, list):
        own = {tag["Key"]: tag["Value"] for tag in own}
    return {**do.tags, **own}


def is_own(do: Deployment, tags: dict[str, str]) -> bool:
    """Whether what bears these tags was made for this very resource, by a run of its step that was cut off."""
    return all(tags.get(mark) == do.tags.get(mark) for mark in _MARKS)
