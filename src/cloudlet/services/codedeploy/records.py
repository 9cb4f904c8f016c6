"""What CodeDeploy keeps. ``members`` are named as in the API's shapes; what we decide upon has a field of its own."""

from __future__ import annotations

from typing import Any

import msgspec

MIGRATIONS: tuple[str, ...] = ()
OVER = frozenset(("Succeeded", "Failed", "Stopped"))  # states in which nothing more will happen


class Application(msgspec.Struct, frozen=True):
    """An application, named by its name."""

    id: str
    platform: str
    created: float
    tags: dict[str, str] = {}


class Config(msgspec.Struct, frozen=True):
    """A deployment configuration of the user's own, named by its name."""

    members: dict[str, Any]


class Group(msgspec.Struct, frozen=True):
    """A deployment group, named ``<application>/<name>``. The last deployments are named by their ids."""

    id: str
    members: dict[str, Any]
    tags: dict[str, str] = {}
    last_attempt: str = ""
    last_success: str = ""
    revision: dict[str, Any] = {}  # the one that was deployed last, and well


class Revision(msgspec.Struct, frozen=True):
    """A revision of an application, named ``<application>/<digest of its location>``."""

    location: dict[str, Any]
    registered: float
    description: str = ""
    first_used: float = 0.0
    last_used: float = 0.0
    groups: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True):
    """A lifecycle event of a deployment. ``hook`` is the id under which its function answers, which has been asked."""

    name: str
    status: str = "Pending"
    started: float = 0.0
    ended: float = 0.0
    message: str = ""
    hook: str = ""
    is_asked: bool = False


class Ending(msgspec.Struct, frozen=True):
    """How a deployment shall end before it is done; ``cause`` is the event of an automatic roll-back."""

    status: str
    code: str
    message: str
    cause: str
    rolls_back: bool | None = None  # None: as the deployment's configuration has it


class Deployment(msgspec.Struct, frozen=True):
    """A deployment, named by its id. ``settings`` are its group's members as they were when it was made.

    ``target`` and ``hooks`` are what its revision says, known once it has started. ``share`` is the per cent of the
    traffic that the new version should have, ``carried`` what it has been given and ``carried_at`` since when.
    """

    id: str
    application: str
    group: str
    platform: str
    config: str
    routing: dict[str, Any]
    revision: dict[str, Any]
    settings: dict[str, Any]
    created: float
    creator: str = "user"
    description: str = ""
    external: str = ""
    previous: dict[str, Any] = {}  # the revision before
    undoes: str = ""  # the deployment that this one rolls back
    rollback: dict[str, Any] = {}
    target: dict[str, Any] = {}
    hooks: dict[str, str] = {}
    status: str = "Created"
    started: float = 0.0
    finished: float = 0.0
    updated: float = 0.0
    events: tuple[Event, ...] = ()
    share: float = 0.0
    carried: float = -1.0
    carried_at: float = 0.0
    ready_since: float = 0.0  # when it began to wait for somebody to let its traffic go
    is_let_go: bool = False
    retiring_since: float = 0.0  # when the old version began to wait for its end
    is_retired: bool = False
    ending: Ending | None = None
    error: dict[str, str] = {}
    sets: tuple[dict[str, Any], ...] = ()  # what there was of an ECS service in the end

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in OVER

    @property
    def place(self) -> str:
        """Its group's name in the store."""
        return f"{self.application}/{self.group}"

    def event(self, name: str) -> Event | None:
        """One of its lifecycle events, if it has that."""
        return next((one for one in self.events if one.name == name), None)
