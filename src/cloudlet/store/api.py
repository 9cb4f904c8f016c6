"""The store's seam. Every implementation passes ``tests/contract/test_store.py``.

Two kinds of state live in a service's database. *Resources* (queues, functions: few, watched) are typed, frozen
``msgspec.Struct`` records with a revision. *Tables* (messages, items: many, hot) are plain SQL that the service's
``records.py`` owns and migrates.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)


class Cursor(Protocol):
    """What a statement gives back: the subset of DB-API that every implementation has."""

    rowcount: int

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Tx(Protocol):
    """A transaction. It exists only while the function that was given to ``write``, ``read`` or ``scan`` runs."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Cursor:
        """Run one statement with ``?`` placeholders."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        """Run one statement for each row."""
        ...


@dataclass(frozen=True, slots=True)
class Record(Generic[R]):
    """A stored resource. ``revision`` grows with every change in its database."""

    scope: str
    name: str
    revision: int
    value: R


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """One change of a resource; ``record`` is None when it was deleted."""

    revision: int
    scope: str
    name: str
    record: Record[R] | None


class Resources(Protocol[R]):
    """All resources of one kind. The kind's name is its class's; ``scope`` says whose they are (``account/region``)."""

    def get(self, scope: str, name: str, tx: Tx | None = None) -> Record[R] | None:
        """The resource as committed, or as this transaction sees it. Costs a dictionary look-up."""
        ...

    def list(self, scope: str, prefix: str = "", tx: Tx | None = None) -> builtins.list[Record[R]]:
        """The resources of a scope whose names start with ``prefix``, in the order of their names."""
        ...

    def all(self) -> builtins.list[Record[R]]:
        """The resources of every scope, for a controller that starts."""
        ...

    def put(self, tx: Tx, scope: str, name: str, value: R, expected_revision: int | None = None) -> Record[R]:
        """Create or replace. ``expected_revision`` 0 means that it must not exist. Raises Conflict."""
        ...

    def delete(self, tx: Tx, scope: str, name: str, expected_revision: int | None = None) -> bool:
        """Delete; False where there was none. Raises Conflict."""
        ...

    def watch(self, since: int = 0) -> AsyncIterator[Change[R]]:
        """Changes after revision ``since``, then each new one as it is committed. Raises Compacted."""
        ...


class Database(Protocol):
    """One service's database: its tables and its resources."""

    @property
    def revision(self) -> int:
        """The revision of the latest committed change of a resource."""
        ...

    def resources(self, kind: type[R], *, lenient: bool = False) -> Resources[R]:
        """The resources of a kind; the same object for the same class.

        ``lenient`` passes over those that an older Cloudlet has stored in another form, with a line in the log: only
        for what can be made again.
        """
        ...

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run point reads of a few microseconds, on the event loop, on committed state."""
        ...

    async def scan(self, fn: Callable[[Tx], T]) -> T:
        """Run a longer read off the event loop, in one snapshot."""
        ...

    def write(self, fn: Callable[[Tx], T], long: bool = False) -> Awaitable[T]:
        """Run ``fn`` in a transaction and return its result after the commit.

        ``fn`` runs together with others in one group commit, perhaps in another thread; it touches its ``tx`` and its
        own arguments, nothing else. It takes a few microseconds; one that may take longer says so (``long``) and does
        not hold up the event loop. When it raises, its changes are undone alone and its error is raised here.
        """
        ...


class Store(Protocol):
    """All databases of a cloud."""

    async def database(self, name: str, migrations: Sequence[str] = ()) -> Database:
        """Open a service's database, after applying those SQL scripts of ``migrations`` that it has not yet had."""
        ...

    def names(self) -> list[str]:
        """The databases that exist, also those that nobody has opened yet."""
        ...

    async def close(self) -> None:
        """Finish what was accepted and close every database."""
        ...


class Conflict(Exception):
    """A resource's revision is not the expected one."""


class Compacted(Exception):
    """The changes after that revision are no longer kept: list again, then watch from the database's revision."""
