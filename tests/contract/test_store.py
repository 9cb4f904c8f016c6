"""What every implementation of the store promises. A later implementation adds itself to ``STORES``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from cloudlet.store import Change, Compacted, Conflict, Database, Store, Tx
from cloudlet.store.sqlite import SqliteStore

TABLE = "CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"
SCOPE = "000000000000/us-east-1"


class Queue(msgspec.Struct, frozen=True):
    """A resource for these tests."""

    delay: int = 0


Opener = Callable[[Path], Awaitable[Store]]


async def sqlite(folder: Path) -> Store:
    return SqliteStore(folder)


async def sqlite_full(folder: Path) -> Store:
    return SqliteStore(folder, "full")


async def ephemeral(folder: Path) -> Store:
    return SqliteStore(folder, "off")


STORES = [sqlite, sqlite_full, ephemeral]


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest) -> Opener:
    return request.param


@pytest.fixture
async def db(opener: Opener, tmp_path: Path) -> AsyncIterator[Database]:
    store = await opener(tmp_path)
    yield await store.database("one", [TABLE])
    await store.close()


def insert(text: str) -> Callable[[Tx], int]:
    return lambda tx: tx.execute("INSERT INTO item (text) VALUES (?) RETURNING id", (text,)).fetchone()[0]


def texts(tx: Tx) -> list[str]:
    return [row[0] for row in tx.execute("SELECT text FROM item ORDER BY id")]


async def test_a_write_is_there_for_every_reader_once_it_is_answered(db: Database) -> None:
    assert await db.write(insert("a")) == 1
    assert await db.read(texts) == ["a"]
    assert await db.scan(texts) == ["a"]


async def test_writes_that_meet_share_a_commit_but_fail_alone(db: Database) -> None:
    def fails(tx: Tx) -> None:
        insert("lost")(tx)
        db.resources(Queue).put(tx, SCOPE, "lost", Queue())
        raise KeyError("on purpose")

    results = await asyncio.gather(
        *(db.write(insert("a")), db.write(fails), db.write(insert("b"))), return_exceptions=True
    )
    assert isinstance(results[1], KeyError)
    assert await db.read(texts) == ["a", "b"]
    assert db.resources(Queue).get(SCOPE, "lost") is None
    assert db.revision == 0


async def test_what_is_stored_in_another_form_is_passed_over_where_that_is_asked_for(db: Database) -> None:
    await db.write(lambda tx: db.resources(Queue).put(tx, SCOPE, "q", Queue(1)))
    await db.write(
        lambda tx: tx.execute("UPDATE resource SET kind = 'Other', value = ?", (b'{"depth": "deep"}',)) and None
    )

    class Other(msgspec.Struct, frozen=True):
        depth: int = 0

    with pytest.raises(msgspec.ValidationError):
        db.resources(Other)
    others = db.resources(Other, lenient=True)
    assert others.all() == []
    await db.write(lambda tx: others.put(tx, SCOPE, "q", Other(2)))
    assert [one.value.depth for one in others.all()] == [2]


async def test_resources_have_revisions_and_refuse_a_stale_writer(db: Database) -> None:
    queues = db.resources(Queue)
    created = await db.write(lambda tx: queues.put(tx, SCOPE, "q", Queue(1), expected_revision=0))
    assert queues.get(SCOPE, "q") == created
    with pytest.raises(Conflict):
        await db.write(lambda tx: queues.put(tx, SCOPE, "q", Queue(2), expected_revision=0))
    changed = await db.write(lambda tx: queues.put(tx, SCOPE, "q", Queue(3), expected_revision=created.revision))
    assert changed.revision > created.revision
    with pytest.raises(Conflict):
        await db.write(lambda tx: queues.delete(tx, SCOPE, "q", expected_revision=created.revision))
    assert await db.write(lambda tx: queues.delete(tx, SCOPE, "q")) is True
    assert await db.write(lambda tx: queues.delete(tx, SCOPE, "q")) is False
    assert queues.get(SCOPE, "q") is None


async def test_of_two_that_create_at_once_one_wins(db: Database) -> None:
    queues = db.resources(Queue)
    results = await asyncio.gather(
        *(db.write(lambda tx, n=n: queues.put(tx, SCOPE, "q", Queue(n), expected_revision=0)) for n in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in results) == 4


async def test_a_transaction_sees_its_own_changes_and_others_do_not(db: Database) -> None:
    queues = db.resources(Queue)

    def work(tx: Tx) -> list[str]:
        queues.put(tx, SCOPE, "b", Queue())
        queues.put(tx, SCOPE, "a", Queue())
        queues.put(tx, "other/world", "c", Queue())
        queues.delete(tx, SCOPE, "b")
        assert queues.get(SCOPE, "a") is None
        assert queues.get(SCOPE, "a", tx) is not None
        return [record.name for record in queues.list(SCOPE, tx=tx)]

    assert await db.write(work) == ["a"]
    assert [record.name for record in queues.list(SCOPE, "a")] == ["a"]
    assert [record.name for record in queues.all()] == ["a", "c"]


async def test_a_watcher_gets_each_change_once_in_order(db: Database) -> None:
    queues = db.resources(Queue)
    await db.write(lambda tx: queues.put(tx, SCOPE, "before", Queue()))
    seen: list[Change[Queue]] = []

    async def watch() -> None:
        async for change in queues.watch(since=0):
            seen.append(change)
            if len(seen) == 3:
                return

    watcher = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await db.write(lambda tx: queues.put(tx, SCOPE, "q", Queue(1)))
    await db.write(lambda tx: queues.delete(tx, SCOPE, "q"))
    await asyncio.wait_for(watcher, 5)
    assert [(change.name, change.record is None) for change in seen] == [("before", False), ("q", False), ("q", True)]
    assert [change.revision for change in seen] == [1, 2, 3]


async def test_everything_is_there_after_opening_again(opener: Opener, tmp_path: Path) -> None:
    store = await opener(tmp_path)
    db = await store.database("one", [TABLE])
    queues = db.resources(Queue)
    await db.write(insert("kept"))
    kept = await db.write(lambda tx: queues.put(tx, SCOPE, "q", Queue(7)))
    await store.close()

    store = await opener(tmp_path)
    assert store.names() == ["one"]
    db = await store.database("one", [TABLE, "ALTER TABLE item ADD COLUMN more TEXT; UPDATE item SET more = text"])
    assert await db.read(lambda tx: tx.execute("SELECT more FROM item").fetchall()) == [("kept",)]
    assert db.resources(Queue).get(SCOPE, "q") == kept
    with pytest.raises(Compacted):
        async for _ in db.resources(Queue).watch(since=0):
            pass
    await store.close()


async def test_a_broken_migration_changes_nothing(opener: Opener, tmp_path: Path) -> None:
    store = await opener(tmp_path)
    with pytest.raises(Exception, match="nowhere"):
        await store.database("one", [TABLE, "CREATE TABLE second (id INTEGER); INSERT INTO nowhere VALUES (1)"])
    db = await store.database("one", [TABLE])
    assert await db.read(texts) == []
    with pytest.raises(Exception, match="second"):
        await db.read(lambda tx: tx.execute("SELECT * FROM second").fetchall())
    await store.close()


async def test_closing_finishes_what_was_accepted(opener: Opener, tmp_path: Path) -> None:
    store = await opener(tmp_path)
    db = await store.database("one", [TABLE])
    writes = [asyncio.ensure_future(db.write(insert(str(number)))) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert sorted(await asyncio.gather(*writes)) == list(range(1, 51))


KILLED = """
import asyncio, os, sys
from pathlib import Path
from cloudlet.store.sqlite import SqliteStore

async def main():
    db = await SqliteStore(Path(sys.argv[1])).database("one", [sys.argv[2]])
    async def writer(name):
        for number in range(10_000):
            await db.write(lambda tx: tx.execute("INSERT INTO item (text) VALUES (?)", (f"{name}-{number}",)))
            os.write(1, f"{name}-{number}\\n".encode())
    await asyncio.gather(*(writer(name) for name in "abcdefgh"))

asyncio.run(main())
"""


async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), TABLE], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered = [child.stdout.readline() for _ in range(500)]
    child.kill()
    answered += child.communicate()[0].splitlines(keepends=True)
    store = SqliteStore(tmp_path)
    stored = set(await (await store.database("one", [TABLE])).read(texts))
    await store.close()
    # The last line may be cut off by the kill: then nobody has read it as an answer.
    assert {line.strip() for line in answered if line.endswith("\n")} <= stored
