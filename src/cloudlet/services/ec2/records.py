"""What EC2 keeps: everything is an item, whose id tells its kind by its prefix."""

from __future__ import annotations

from typing import Any

import msgspec


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """A VPC, a subnet, a rule ...: ``shown`` are its members as AWS describes it, ``hidden`` what it keeps besides."""

    id: str
    created: float  # epoch seconds
    order: int  # of its making
    shown: dict[str, Any]
    hidden: dict[str, Any] = {}
    tags: dict[str, str] = {}


class Begun(msgspec.Struct, frozen=True):
    """That an account's network in a region has been made, with how many things were made in it since."""

    made: int
