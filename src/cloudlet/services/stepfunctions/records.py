"""What Step Functions keeps. Machines, revisions, versions, aliases and activities are resources; executions, their
events and their frames are tables.

A frame is where one thread of an execution stands: the whole machine, or one branch of a Parallel or Map state. It is
written in the transaction that writes the events which led there, so an execution is taken up from its frames, and
nothing is played again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE execution (
        number INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL,
        started REAL NOT NULL, stopped REAL, qualifier TEXT NOT NULL, map_run TEXT NOT NULL DEFAULT '',
        body BLOB NOT NULL);
    CREATE UNIQUE INDEX execution_by_name ON execution (machine, name);
    CREATE INDEX execution_by_status ON execution (machine, status, number);
    CREATE INDEX execution_by_machine ON execution (machine, number);
    CREATE INDEX execution_by_map_run ON execution (map_run, number) WHERE map_run != '';
    CREATE INDEX execution_running ON execution (number) WHERE status = 'RUNNING';
    CREATE INDEX execution_by_stop ON execution (stopped) WHERE stopped IS NOT NULL;
    CREATE TABLE event (
        execution INTEGER NOT NULL, id INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (execution, id)) WITHOUT ROWID;
    CREATE TABLE frame (
        execution INTEGER NOT NULL, path TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (execution, path)) WITHOUT ROWID;
    CREATE TABLE express (
        id TEXT PRIMARY KEY, machine TEXT NOT NULL, started REAL NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE map_run (
        arn TEXT PRIMARY KEY, execution INTEGER NOT NULL, status TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX map_run_by_execution ON map_run (execution);
    """,
    Outbox.MIGRATION,
]
_COLUMNS = "number, machine, name, status, started, stopped, qualifier, map_run, body"


class Revision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an execution runs by: its own for ever, whatever happens to the machine. ``machine`` is the machine's id."""

    machine: str
    definition: str
    role: str
    logging: dict[str, Any] = {}
    tracing: bool = False
    updated: float = 0.0


class StateMachine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A state machine; its name in the store is its own. ``id`` tells it from an earlier one of the same name."""

    id: str
    kind: str  # STANDARD or EXPRESS
    created: float
    revision: str
    encryption: dict[str, Any] = {}
    tags: dict[str, str] = {}
    last_version: int = 0


class Version(msgspec.Struct, frozen=True, omit_defaults=True):
    """A published revision; its name is ``machine:number`` with leading zeros."""

    revision: str
    created: float
    description: str = ""


class Alias(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an alias leads; its name is ``machine:alias``."""

    routes: list[tuple[int, int]]  # a version's number, and its percentage
    created: float
    updated: float
    description: str = ""


class Activity(msgspec.Struct, frozen=True, omit_defaults=True):
    """An activity; its name in the store is its own."""

    created: float
    encryption: dict[str, Any] = {}
    tags: dict[str, str] = {}


class Execution(msgspec.Struct, omit_defaults=True):
    """What an execution was started with and came to; columns have the rest."""

    arn: str
    machine_arn: str
    revision: str
    input: str
    version_arn: str = ""
    alias_arn: str = ""
    trace: str = ""
    output: str | None = None
    error: str | None = None
    cause: str | None = None
    redrives: int = 0
    redriven: float = 0.0
    state: str = ""  # of a distributed Map's child: the Map state whose processor it runs
    map_run: str = ""


class Attempt(msgspec.Struct, omit_defaults=True):
    """A task in flight."""

    token: str
    arguments: Any
    started: float
    deadline: float | None = None
    heartbeat: float | None = None  # seconds
    beat_by: float | None = None
    submitted: Any = None  # what a call answered whose end is still awaited
    called: bool = False  # whether that call was made, or an activity's worker has the task
    output: Any = msgspec.UNSET
    error: tuple[str, str] | None = None


class MapRun(msgspec.Struct, omit_defaults=True):
    """A distributed Map at work; counts are of items or batches, each of which is a child execution."""

    arn: str
    execution: str
    started: float
    label: str
    items: int = 0
    children: int = 0
    max_concurrency: int = 0
    tolerated_count: int = 0
    tolerated_percentage: float = 0.0
    status: str = "RUNNING"
    stopped: float | None = None
    succeeded: int = 0
    failed: int = 0


class Frame(msgspec.Struct, omit_defaults=True):
    """Where a thread of an execution stands."""

    state: str
    input: Any
    variables: dict[str, Any] = {}
    event: int = 0  # the last one of this thread
    entered_at: float = 0.0
    entered: int = 0  # the event by which the state was entered; 0 before
    retries: list[int] = []  # by Retry's entries
    tries: int = 0
    wake: float | None = None  # a Wait's end, or the next try
    attempt: Attempt | None = None
    begun: bool = False  # a Parallel or Map whose children have been started
    items: list[Any] | None = None  # of a Map
    map_run: str = ""  # of a distributed Map
    item: tuple[int, Any] | None = None  # the item that this thread is for
    done: bool = False
    output: Any = None
    failure: tuple[str, str] | None = None


class Row(NamedTuple):
    """An execution as it is stored."""

    number: int
    machine: str
    name: str
    status: str
    started: float
    stopped: float | None
    qualifier: str
    map_run: str
    body: Execution


_json = msgspec.json.Encoder()
_execution = msgspec.json.Decoder(Execution)
_frame = msgspec.json.Decoder(Frame)


def encode(value: Any) -> bytes:
    """A body as it is stored."""
    return _json.encode(value)


def _row(found: Any) -> Row:
    number, machine, name, status, started, stopped, qualifier, map_run, body = found
    return Row(number, machine, name, status, started, stopped, qualifier, map_run, _execution.decode(body))


def add(tx: Tx, machine: str, name: str, started: float, qualifier: str, map_run: str, body: Execution) -> int:
    """Store a new execution; its number."""
    row = (machine, name, "RUNNING", started, qualifier, map_run, encode(body))
    tx.execute(
        "INSERT INTO execution (machine, name, status, started, qualifier, map_run, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    return int(tx.execute("SELECT number FROM execution WHERE machine = ? AND name = ?", (machine, name)).fetchone()[0])


def find(tx: Tx, machine: str, name: str) -> Row | None:
    """The execution of that name, or None."""
    found = tx.execute(f"SELECT {_COLUMNS} FROM execution WHERE machine = ? AND name = ?", (machine, name)).fetchone()
    return _row(found) if found is not None else None


def running(tx: Tx) -> list[Row]:
    """All executions that have not ended."""
    return [_row(found) for found in tx.execute(f"SELECT {_COLUMNS} FROM execution WHERE status = 'RUNNING'")]


def page(tx: Tx, column: str, value: str, status: str, before: int, limit: int) -> list[Row]:
    """Executions of a machine or a map run, the newest first, from before a number on."""
    condition, given = "", [value, before]
    if status:
        condition, given = "AND status = ?", [value, before, status]
    sql = f"SELECT {_COLUMNS} FROM execution WHERE {column} = ? AND number < ? {condition} ORDER BY number DESC LIMIT ?"
    return [_row(found) for found in tx.execute(sql, [*given, limit])]


def save(tx: Tx, number: int, status: str, stopped: float | None, body: bytes) -> None:
    """Store what has become of an execution."""
    tx.execute(
        "UPDATE execution SET status = ?, stopped = ?, body = ? WHERE number = ?", (status, stopped, body, number)
    )


def add_events(tx: Tx, rows: list[tuple[int, int, bytes]]) -> None:
    """Append to histories."""
    tx.executemany("INSERT INTO event (execution, id, body) VALUES (?, ?, ?)", rows)


def events(tx: Tx, number: int, after: int, limit: int, backwards: bool) -> list[dict[str, Any]]:
    """Some events of a history, after (or backwards: before) an id."""
    order, compare = ("DESC", "<") if backwards else ("ASC", ">")
    sql = f"SELECT body FROM event WHERE execution = ? AND id {compare} ? ORDER BY id {order} LIMIT ?"
    return [msgspec.json.decode(body) for (body,) in tx.execute(sql, (number, after, limit))]


def put_frames(tx: Tx, rows: list[tuple[int, str, bytes]]) -> None:
    """Store where threads stand."""
    tx.executemany("INSERT OR REPLACE INTO frame (execution, path, body) VALUES (?, ?, ?)", rows)


def drop_frames(tx: Tx, rows: list[tuple[int, str]]) -> None:
    """Forget threads that are over."""
    tx.executemany("DELETE FROM frame WHERE execution = ? AND path = ?", rows)


def frames(tx: Tx, number: int) -> dict[str, Frame]:
    """Where an execution's threads stand."""
    found = tx.execute("SELECT path, body FROM frame WHERE execution = ?", (number,))
    return {path: _frame.decode(body) for path, body in found}


def forget(tx: Tx, numbers: list[int]) -> None:
    """Delete executions with all that belongs to them."""
    keys = [(number,) for number in numbers]
    for table in ("event", "frame", "map_run", "execution"):
        column = "number" if table == "execution" else "execution"
        tx.executemany(f"DELETE FROM {table} WHERE {column} = ?", keys)


def drop_express_of(tx: Tx, machine: str) -> None:
    """Forget the Express executions of a machine that is gone."""
    tx.execute("DELETE FROM express WHERE machine = ?", (machine,))


def of_machine(tx: Tx, machine: str, limit: int) -> list[int]:
    """Some executions of a machine that is gone."""
    # Children of distributed Maps have the machine's id before a slash, and "0" follows the slash.
    sql = "SELECT number FROM execution WHERE machine >= ? AND machine < ? LIMIT ?"
    return [number for (number,) in tx.execute(sql, (machine, f"{machine}0", limit))]


def stopped_before(tx: Tx, moment: float, limit: int) -> list[int]:
    """Some executions that ended before a time."""
    sql = "SELECT number FROM execution WHERE stopped IS NOT NULL AND stopped < ? ORDER BY stopped LIMIT ?"
    return [number for (number,) in tx.execute(sql, (moment, limit))]


def first_stop(tx: Tx) -> float | None:
    """When the execution ended that ended first."""
    found = tx.execute("SELECT stopped FROM execution WHERE stopped IS NOT NULL ORDER BY stopped LIMIT 1").fetchone()
    return found[0] if found is not None else None


def add_express(tx: Tx, id: str, machine: str, started: float, body: bytes) -> None:
    """Store an accepted execution of an Express machine, until it has ended."""
    tx.execute("INSERT INTO express (id, machine, started, body) VALUES (?, ?, ?, ?)", (id, machine, started, body))


def drop_express(tx: Tx, id: str) -> None:
    """An Express execution has ended."""
    tx.execute("DELETE FROM express WHERE id = ?", (id,))


def express(tx: Tx) -> list[tuple[str, str, float, Execution]]:
    """The Express executions that have not ended."""
    found = tx.execute("SELECT id, machine, started, body FROM express")
    return [(id, machine, started, _execution.decode(body)) for id, machine, started, body in found]


def put_map_run(tx: Tx, execution: int, run: MapRun) -> None:
    """Store a map run, or what has become of it."""
    row = (run.arn, execution, run.status, encode(run))
    tx.execute("INSERT OR REPLACE INTO map_run (arn, execution, status, body) VALUES (?, ?, ?, ?)", row)


def save_map_run(tx: Tx, run: MapRun) -> None:
    """Store what has become of a map run."""
    tx.execute("UPDATE map_run SET status = ?, body = ? WHERE arn = ?", (run.status, encode(run), run.arn))


def map_run(tx: Tx, arn: str) -> MapRun | None:
    """The map run of an ARN."""
    found = tx.execute("SELECT body FROM map_run WHERE arn = ?", (arn,)).fetchone()
    return msgspec.json.decode(found[0], type=MapRun) if found is not None else None


def map_runs(tx: Tx, execution: int) -> list[MapRun]:
    """The map runs of an execution."""
    found = tx.execute("SELECT body FROM map_run WHERE execution = ?", (execution,))
    return [msgspec.json.decode(body, type=MapRun) for (body,) in found]


def running_map_runs(tx: Tx) -> list[MapRun]:
    """The map runs that have not ended."""
    found = tx.execute("SELECT body FROM map_run WHERE status = 'RUNNING'")
    return [msgspec.json.decode(body, type=MapRun) for (body,) in found]
