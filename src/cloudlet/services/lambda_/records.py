"""What Lambda keeps. Members are named as in the API's shapes."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.control.outbox import Outbox

MIGRATIONS = (Outbox.MIGRATION,)
LATEST = "$LATEST"
ACCOUNT_CONCURRENCY = 1000  # invocations at once of an account in a region


class Version(msgspec.Struct, frozen=True):
    """One version's configuration and code; named ``<function>:<version>``. ``folder`` is where local code is."""

    members: dict[str, Any]
    sha: str = ""  # of the zip, in hexadecimal
    folder: str = ""
    image_uri: str = ""  # as it was given
    image: str = ""  # by its digest where it is in our registry (without its host), else as it was given
    latest_description: str = ""  # that $LATEST had when it was published; the version may have one of its own

    @property
    def watched(self) -> str:
        """The folder of this machine that the code lies in, or nothing."""
        return self.image if self.image.startswith("/") else self.folder


class Settings(msgspec.Struct, frozen=True):
    """What belongs to a function as a whole; named by the function."""

    next_version: int = 1
    tags: dict[str, str] = {}
    reserved: int | None = None
    statements: dict[str, list[dict[str, Any]]] = {}  # by qualifier; "" is the function itself
    urls: dict[str, dict[str, Any]] = {}  # by qualifier
    event_invoke: dict[str, dict[str, Any]] = {}  # by qualifier
    provisioned: dict[str, dict[str, Any]] = {}  # by qualifier
    recursion: str = "Terminate"
    runtime_management: dict[str, Any] = {}


class Alias(msgspec.Struct, frozen=True):
    """A name for a version, or for two by weight; named ``<function>/<alias>``."""

    members: dict[str, Any]


class Layer(msgspec.Struct, frozen=True):
    """A layer's version; named ``<layer>:<number>``, the number with leading zeros so that they sort."""

    members: dict[str, Any]
    sha: str
    statements: list[dict[str, Any]] = []
    deleted: bool = False  # functions that have it keep it, and its number is never given again


class Mapping(msgspec.Struct, frozen=True):
    """An event source mapping, named by its id. ``positions`` are where its shards have been read to."""

    members: dict[str, Any]
    positions: dict[str, str] = {}
    tags: dict[str, str] = {}
