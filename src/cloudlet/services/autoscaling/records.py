"""What EC2 Auto Scaling keeps. ``members`` are named as in the API's shapes."""

from __future__ import annotations

from typing import Any

import msgspec

# States in which an instance counts towards its group's capacity, and those in which it is on its way out.
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")
GOING = ("Terminating", "Terminating:Wait", "Terminating:Proceed", "Detaching")


class Wait(msgspec.Struct, frozen=True):
    """A lifecycle action that an instance waits for."""

    hook: str
    token: str
    due: float  # when it is over
    latest: float  # no heartbeat lengthens it beyond that


class Member(msgspec.Struct, frozen=True):
    """An instance of a group."""

    id: str
    zone: str
    type: str
    launched: float
    source: dict[str, Any]  # what it was launched from: LaunchConfigurationName or LaunchTemplate
    state: str = "Pending"
    health: str = "Healthy"
    is_protected: bool = False
    is_spot: bool = False
    weight: int = 1  # of its group's capacity
    runs: bool = False  # as EC2 says
    is_registered: bool = False  # with the group's targets
    in_service: float = 0.0
    waits: tuple[Wait, ...] = ()  # for lifecycle hooks
    activity: str = ""  # what brings it up or down
    cause: str = ""  # why it goes
    is_ending: bool = False  # EC2 has been told to end it


class Group(msgspec.Struct, frozen=True):
    """An Auto Scaling group, named by its name. ``asked`` is why its capacity is what it is, for activities."""

    members: dict[str, Any]
    desired: int
    created: float
    instances: tuple[Member, ...] = ()
    suspended: dict[str, str] = {}  # process -> why
    tags: dict[str, tuple[str, bool]] = {}  # key -> value, and whether instances get it
    metrics: tuple[str, ...] = ()
    status: str = ""  # Delete in progress
    asked: str = ""
    changed: float = 0.0  # when scaling last changed its capacity
    launches: int = 0  # instances that it has ever had
    failures: int = 0  # launches in a row
    failed: float = 0.0
    refreshes: tuple[dict[str, Any], ...] = ()  # newest first


class Configuration(msgspec.Struct, frozen=True):
    """A launch configuration, named by its name."""

    members: dict[str, Any]


class Hook(msgspec.Struct, frozen=True):
    """A lifecycle hook, named ``<group>/<name>``."""

    members: dict[str, Any]


class Policy(msgspec.Struct, frozen=True):
    """A scaling policy, named ``<group>/<name>``."""

    members: dict[str, Any]


class Action(msgspec.Struct, frozen=True):
    """A scheduled action, named ``<group>/<name>``. ``done`` is when it last was due."""

    members: dict[str, Any]
    created: float
    done: float = 0.0


class Notification(msgspec.Struct, frozen=True):
    """Which topics hear of a group, named ``<group>/<topic's ARN>``."""

    topic: str
    types: tuple[str, ...]


class Activity(msgspec.Struct, frozen=True):
    """A scaling activity, named ``<group>/<milliseconds>-<id>``: as old as its name is small."""

    members: dict[str, Any]
