"""Stacks, their resources and events, change sets, exports, and what came in from outside: all that is stored."""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

import msgspec

from cloudlet.stacks.plan import State
from cloudlet.store import Database, Tx

T = TypeVar("T", bound=msgspec.Struct)

STACK_TYPE = "AWS::CloudFormation::Stack"

MIGRATIONS = [
    """
    CREATE TABLE stack (
        id TEXT PRIMARY KEY, scope TEXT NOT NULL, name TEXT NOT NULL, live INTEGER NOT NULL, busy INTEGER NOT NULL,
        created REAL NOT NULL, value BLOB NOT NULL
    );
    CREATE UNIQUE INDEX stack_live ON stack (scope, name) WHERE live = 1;
    CREATE INDEX stack_of_scope ON stack (scope, created);
    CREATE INDEX stack_busy ON stack (busy) WHERE busy = 1;
    CREATE TABLE model (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE part (
        stack TEXT, logical_id TEXT, value BLOB NOT NULL, PRIMARY KEY (stack, logical_id)
    ) WITHOUT ROWID;
    CREATE TABLE physical (id TEXT, stack TEXT, PRIMARY KEY (id, stack)) WITHOUT ROWID;
    CREATE TABLE event (stack TEXT, number INTEGER, value BLOB NOT NULL, PRIMARY KEY (stack, number)) WITHOUT ROWID;
    CREATE TABLE change_set (id TEXT PRIMARY KEY, stack TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL);
    CREATE UNIQUE INDEX change_set_of_stack ON change_set (stack, name);
    CREATE TABLE export (
        scope TEXT, name TEXT, stack TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (scope, name)
    ) WITHOUT ROWID;
    CREATE INDEX export_of_stack ON export (stack);
    CREATE TABLE import (scope TEXT, name TEXT, stack TEXT, PRIMARY KEY (scope, name, stack)) WITHOUT ROWID;
    CREATE INDEX import_of_stack ON import (stack);
    CREATE TABLE signal (token TEXT, id TEXT, value BLOB NOT NULL, PRIMARY KEY (token, id)) WITHOUT ROWID;
    CREATE TABLE token (token TEXT PRIMARY KEY, stack TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX token_of_stack ON token (stack);
    CREATE TABLE macro (scope TEXT, name TEXT, function TEXT NOT NULL, PRIMARY KEY (scope, name)) WITHOUT ROWID
    """
]


class Model(msgspec.Struct, omit_defaults=True):
    """What a deployment was asked for: template, parameters, and all that every resource sees of it."""

    body: str
    processed: str  # JSON, after every transform
    transforms: list[str] = []
    parameters: dict[str, str] = {}
    fetched: dict[str, str] = {}  # values that SSM has for parameters of its types
    tags: dict[str, str] = {}
    capabilities: list[str] = []
    notification_arns: list[str] = []
    rollback_configuration: dict[str, Any] = {}
    role: str = ""


class Stack(msgspec.Struct, omit_defaults=True):
    """A stack. ``previous`` is the model to return to while an update is under way."""

    id: str
    name: str
    account: str
    region: str
    status: str
    created: float
    model: int = 0
    previous: int = 0
    reason: str = ""
    updated: float = 0.0
    deleted: float = 0.0
    description: str = ""
    outputs: list[dict[str, str]] = []
    owner: str = ""  # the ARN of who deploys
    parent: str = ""
    root: str = ""
    on_failure: str = "ROLLBACK"
    retain_except_on_create: bool = False
    timeout: int = 0  # minutes
    deadline: float = 0.0
    protected: bool = False
    policy: str = ""
    policy_during_update: str = ""
    change_set: str = ""
    token: str = ""
    salt: str = ""  # of the operation under way
    retain: list[str] = []
    skip: list[str] = []
    delete_next: bool = False

    @property
    def scope(self) -> str:
        return f"{self.account}/{self.region}"

    @property
    def busy(self) -> bool:
        """Whether a run has something to do."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def live(self) -> bool:
        return self.status != "DELETE_COMPLETE"


class Resource(msgspec.Struct, omit_defaults=True):
    """A resource of a stack. While an operation is under way, ``before`` is what it was at its beginning."""

    logical_id: str
    type: str
    status: str = ""
    reason: str = ""
    updated: float = 0.0
    state: State | None = None
    before: State | None = None
    touched: str = ""  # CREATED, UPDATED or REPLACED by the operation under way
    seed: str = ""
    initiated: str = ""  # the physical id, where it is known before the resource is complete
    attempt: dict[str, Any] | None = None  # the properties that are being applied
    attempt_depends: list[str] = []  # what the resource that is being made depends on
    discard: list[State] = []  # made by an operation that was rolled back

    @property
    def physical_id(self) -> str:
        return self.state.physical_id if self.state is not None else self.initiated


class Event(msgspec.Struct, omit_defaults=True):
    """One line of a stack's history."""

    id: str
    logical_id: str
    physical_id: str
    type: str
    time: float
    status: str
    reason: str = ""
    properties: str = ""
    token: str = ""


class ChangeSet(msgspec.Struct, omit_defaults=True):
    """A planned deployment; ``model`` is what it will deploy."""

    id: str
    name: str
    stack: str
    type: str
    status: str
    execution: str
    created: float
    model: int
    reason: str = ""
    description: str = ""
    changes: list[dict[str, Any]] = []
    on_failure: str = ""
    nested: bool = False
    declared: list[str] = []
    token: str = ""


_encode = msgspec.json.Encoder().encode
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {}


def _decode(kind: type[T], value: bytes) -> T:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    return decoder.decode(value)  # type: ignore[no-any-return]


def put_stack(tx: Tx, stack: Stack) -> None:
    tx.execute(
        "INSERT INTO stack (id, scope, name, live, busy, created, value) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET live = excluded.live, busy = excluded.busy, value = excluded.value",
        (stack.id, stack.scope, stack.name, int(stack.live), int(stack.busy), stack.created, _encode(stack)),
    )


def put_model(tx: Tx, model: Model) -> int:
    tx.execute("INSERT INTO model (value) VALUES (?)", (_encode(model),))
    return int(tx.execute("SELECT last_insert_rowid()").fetchone()[0])


def drop_model(tx: Tx, model: int) -> None:
    tx.execute("DELETE FROM model WHERE id = ?", (model,))


def put_resource(tx: Tx, stack_id: str, resource: Resource) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO part (stack, logical_id, value) VALUES (?, ?, ?)",
        (stack_id, resource.logical_id, _encode(resource)),
    )
    if resource.physical_id:
        tx.execute("INSERT OR IGNORE INTO physical (id, stack) VALUES (?, ?)", (resource.physical_id, stack_id))


def drop_resource(tx: Tx, stack_id: str, logical_id: str) -> None:
    tx.execute("DELETE FROM part WHERE stack = ? AND logical_id = ?", (stack_id, logical_id))


def put_events(tx: Tx, stack_id: str, events: list[Event]) -> None:
    """Write events, each a millisecond or more after the one before: tools order them by their times alone."""
    newest = "SELECT number, value FROM event WHERE stack = ? ORDER BY number DESC LIMIT 1"
    row = tx.execute(newest, (stack_id,)).fetchone()
    last, before = (row[0], _decode(Event, row[1]).time) if row is not None else (0, 0.0)
    for number, event in enumerate(events, last + 1):
        event.time = before = max(event.time, round(before + 0.001, 3))
        tx.execute("INSERT INTO event (stack, number, value) VALUES (?, ?, ?)", (stack_id, number, _encode(event)))


def put_change_set(tx: Tx, change_set: ChangeSet) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO change_set (id, stack, name, value) VALUES (?, ?, ?, ?)",
        (change_set.id, change_set.stack, change_set.name, _encode(change_set)),
    )


def drop_change_set(tx: Tx, change_set: ChangeSet) -> None:
    tx.execute("DELETE FROM change_set WHERE id = ?", (change_set.id,))
    drop_model(tx, change_set.model)


def stack_event(stack: Stack, now: float) -> Event:
    """A line of a stack's own history, of its status."""
    return Event(
        str(uuid.uuid4()), stack.name, stack.id, STACK_TYPE, now, stack.status, stack.reason, token=stack.token
    )


def get_stack(tx: Tx, stack_id: str) -> Stack | None:
    row = tx.execute("SELECT value FROM stack WHERE id = ?", (stack_id,)).fetchone()
    return _decode(Stack, row[0]) if row else None


def live_stack(tx: Tx, scope: str, name: str) -> Stack | None:
    row = tx.execute("SELECT value FROM stack WHERE scope = ? AND name = ? AND live = 1", (scope, name)).fetchone()
    return _decode(Stack, row[0]) if row else None


def get_resources(tx: Tx, stack_id: str) -> dict[str, Resource]:
    rows = tx.execute("SELECT value FROM part WHERE stack = ? ORDER BY logical_id", (stack_id,))
    return {(resource := _decode(Resource, value)).logical_id: resource for (value,) in rows}


def get_model(tx: Tx, model: int) -> Model | None:
    row = tx.execute("SELECT value FROM model WHERE id = ?", (model,)).fetchone()
    return _decode(Model, row[0]) if row else None


class _Tags(msgspec.Struct):
    """Of a model, which may be big, only the tags."""

    tags: dict[str, str] = {}


def _tags(tx: Tx, scope: str) -> list[tuple[str, dict[str, str]]]:
    rows = tx.execute("SELECT value FROM stack WHERE scope = ? AND live = 1", (scope,)).fetchall()
    found = []
    for (value,) in rows:
        stack = _decode(Stack, value)
        row = tx.execute("SELECT value FROM model WHERE id = ?", (stack.model,)).fetchone()
        found.append((stack.id, _decode(_Tags, row[0]).tags if row else {}))
    return found


class Records:
    """Queries on committed state; writes are made of the functions above."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def stack(self, stack_id: str) -> Stack | None:
        return await self.db.read(lambda tx: get_stack(tx, stack_id))

    async def live(self, scope: str, name: str) -> Stack | None:
        return await self.db.read(lambda tx: live_stack(tx, scope, name))

    async def stacks(self, scope: str, live: bool, after: tuple[float, str], limit: int) -> list[Stack]:
        """A page of a scope's stacks, newest first."""
        where = "AND live = 1" if live else ""
        rows = await self.db.scan(
            lambda tx: tx.execute(
                f"SELECT value FROM stack WHERE scope = ? {where} AND (created, id) < (?, ?) "
                "ORDER BY created DESC, id DESC LIMIT ?",
                (scope, *after, limit),
            ).fetchall()
        )
        return [_decode(Stack, value) for (value,) in rows]

    async def all_live(self) -> list[Stack]:
        rows = await self.db.scan(lambda tx: tx.execute("SELECT value FROM stack WHERE live = 1").fetchall())
        return [_decode(Stack, value) for (value,) in rows]

    async def first_failure(self, stack_id: str) -> str:
        """Why the last operation on a stack went wrong: its own reason when its latest failure began."""
        row = await self.db.scan(
            lambda tx: tx.execute(
                "SELECT value FROM event WHERE stack = ? AND CAST(value AS TEXT) LIKE ? ORDER BY number DESC LIMIT 1",
                (stack_id, "%The following resource(s) failed to%"),
            ).fetchone()
        )
        return _decode(Event, row[0]).reason if row else ""

    async def tags(self, scope: str) -> list[tuple[str, dict[str, str]]]:
        """The ids of a scope's live stacks, each with its tags."""
        return await self.db.scan(lambda tx: _tags(tx, scope))

    async def model(self, model: int) -> Model:
        found = await self.db.read(lambda tx: get_model(tx, model))
        return found or Model("", "{}")

    async def resources(self, stack_id: str) -> dict[str, Resource]:
        return await self.db.read(lambda tx: get_resources(tx, stack_id))

    async def stacks_with(self, scope: str, physical_id: str) -> list[Stack]:
        """The stacks that have, or had, a resource with that physical id."""
        rows = await self.db.read(
            lambda tx: tx.execute(
                "SELECT stack.value FROM physical JOIN stack ON stack.id = physical.stack "
                "WHERE physical.id = ? AND stack.scope = ? ORDER BY stack.created DESC",
                (physical_id, scope),
            ).fetchall()
        )
        return [_decode(Stack, value) for (value,) in rows]

    async def events(self, stack_id: str, before: int, limit: int) -> list[tuple[int, Event]]:
        """A page of a stack's events, newest first, with their numbers."""
        rows = await self.db.scan(
            lambda tx: tx.execute(
                "SELECT number, value FROM event WHERE stack = ? AND number < ? ORDER BY number DESC LIMIT ?",
                (stack_id, before, limit),
            ).fetchall()
        )
        return [(number, _decode(Event, value)) for number, value in rows]

    async def change_set(self, change_set_id: str) -> ChangeSet | None:
        row = await self.db.read(
            lambda tx: tx.execute("SELECT value FROM change_set WHERE id = ?", (change_set_id,)).fetchone()
        )
        return _decode(ChangeSet, row[0]) if row else None

    async def change_set_named(self, stack_id: str, name: str) -> ChangeSet | None:
        row = await self.db.read(
            lambda tx: tx.execute(
                "SELECT value FROM change_set WHERE stack = ? AND name = ?", (stack_id, name)
            ).fetchone()
        )
        return _decode(ChangeSet, row[0]) if row else None

    async def change_sets(self, stack_id: str) -> list[ChangeSet]:
        rows = await self.db.read(
            lambda tx: tx.execute("SELECT value FROM change_set WHERE stack = ? ORDER BY name", (stack_id,)).fetchall()
        )
        return [_decode(ChangeSet, value) for (value,) in rows]

    async def exports(self, scope: str) -> list[tuple[str, str, str]]:
        """Every export of a scope: name, stack, value."""
        return await self.db.scan(
            lambda tx: tx.execute(
                "SELECT name, stack, value FROM export WHERE scope = ? ORDER BY name", (scope,)
            ).fetchall()
        )

    async def importers(self, scope: str, name: str) -> list[str]:
        """The names of the stacks that import an export."""
        rows = await self.db.read(
            lambda tx: tx.execute(
                "SELECT stack.name FROM import JOIN stack ON stack.id = import.stack "
                "WHERE import.scope = ? AND import.name = ? ORDER BY stack.name",
                (scope, name),
            ).fetchall()
        )
        return [row[0] for row in rows]

    async def signals(self, token: str) -> dict[str, dict[str, Any]]:
        """What came in under a token, by its unique id."""
        rows = await self.db.read(
            lambda tx: tx.execute("SELECT id, value FROM signal WHERE token = ? ORDER BY id", (token,)).fetchall()
        )
        return {id: msgspec.json.decode(value) for id, value in rows}

    async def put_macro(self, scope: str, name: str, function: str) -> None:
        await self.db.write(
            lambda tx: (
                tx.execute(
                    "INSERT OR REPLACE INTO macro (scope, name, function) VALUES (?, ?, ?)", (scope, name, function)
                ).rowcount
            )
        )

    async def drop_macro(self, scope: str, name: str) -> None:
        await self.db.write(
            lambda tx: tx.execute("DELETE FROM macro WHERE scope = ? AND name = ?", (scope, name)).rowcount
        )

    async def macro(self, scope: str, name: str) -> str | None:
        """The function of a macro."""
        row = await self.db.read(
            lambda tx: tx.execute("SELECT function FROM macro WHERE scope = ? AND name = ?", (scope, name)).fetchone()
        )
        return row[0] if row else None
