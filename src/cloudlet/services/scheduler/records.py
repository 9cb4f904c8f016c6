"""What Scheduler keeps: schedules and groups as resources; in tables the outbox, and when each schedule was last due.

Every region has a group ``default``, which is not stored.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.services.placed import Placed
from cloudlet.store import Tx

DEFAULT = "default"
MIGRATIONS = [
    Outbox.MIGRATION
    + """;
    CREATE TABLE tick (schedule TEXT PRIMARY KEY, due REAL NOT NULL) WITHOUT ROWID;
    """
]


class Group(Placed, frozen=True, omit_defaults=True):
    """A group of schedules."""

    name: str
    created: float = 0.0
    token: str = ""
    tags: dict[str, str] = {}

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:scheduler:{self.region}:{self.account}:schedule-group/{self.name}"


class Schedule(Placed, frozen=True, omit_defaults=True):
    """A schedule. Its name in the store is ``<group>/<name>``; ``settings`` are CreateSchedule's members."""

    group: str
    name: str
    created: float
    modified: float
    anchor: float  # from when a rate counts that has no StartDate
    settings: dict[str, Any]
    token: str = ""

    @property
    def place(self) -> str:
        """Its name in the store."""
        return f"{self.group}/{self.name}"

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:scheduler:{self.region}:{self.account}:schedule/{self.group}/{self.name}"

    @property
    def enabled(self) -> bool:
        """Whether it runs."""
        return bool(self.settings.get("State", "ENABLED") == "ENABLED")


class Job(msgspec.Struct, array_like=True):
    """What the outbox keeps of a call: the schedule may be gone when it is made."""

    schedule: str
    target: dict[str, Any]
    due: float
    id: str


pack = msgspec.json.Encoder().encode
unpack = msgspec.json.Decoder(Job).decode


def tick(tx: Tx, schedule: str, due: float) -> None:
    """Remember when a schedule was last due."""
    tx.execute("INSERT OR REPLACE INTO tick VALUES (?, ?)", (schedule, due))


def ticks(tx: Tx) -> dict[str, float]:
    """When each schedule was last due."""
    return dict(tx.execute("SELECT schedule, due FROM tick").fetchall())


def forget(tx: Tx, schedule: str) -> None:
    """The schedule is gone, or begins anew."""
    tx.execute("DELETE FROM tick WHERE schedule = ?", (schedule,))
