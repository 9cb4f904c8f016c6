"""The outbox: at least once, lanes in order, a failing target alone, and a crash loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cloudlet.control.clock import Clock
from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.store import Database
from cloudlet.store.sqlite import SqliteStore


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    store = SqliteStore(tmp_path)
    yield await store.database("outbox", (Outbox.MIGRATION,))
    await store.close()


async def rows(db: Database) -> int:
    return int(await db.scan(lambda tx: tx.execute("SELECT count(*) FROM outbox").fetchone()[0]))


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while True:
            answer = condition()
            if answer is True or (not isinstance(answer, bool) and await answer):
                return
            await asyncio.sleep(0.002)


async def empty(db: Database) -> bool:
    return await rows(db) == 0


async def test_deliveries_are_made_and_forgotten_and_what_was_undone_is_not_delivered(db: Database) -> None:
    made: list[tuple[str, bytes]] = []

    async def deliver(delivery: Delivery) -> None:
        made.append((delivery.target, delivery.payload))

    outbox = Outbox(db, Clock(), deliver, retries=lambda attempt, delivery: None)
    await outbox.start()
    await db.write(lambda tx: [outbox.add(tx, f"t{n % 7}", b"%d" % n) for n in range(1000)])

    def undone(tx: object) -> None:
        outbox.add(tx, "never", b"")  # type: ignore[arg-type]
        raise ValueError

    with pytest.raises(ValueError):
        await db.write(undone)
    outbox.wake()
    await until(lambda: empty(db))
    assert sorted(int(payload) for _, payload in made) == list(range(1000))
    assert not any(target == "never" for target, _ in made)
    assert not outbox._lines
    await outbox.stop()


async def test_a_lane_keeps_its_order_over_failures_and_restarts_while_other_lanes_go_on(db: Database) -> None:
    clock, made = Clock(), []
    broken = True

    async def deliver(delivery: Delivery) -> None:
        await asyncio.sleep(0)
        if broken and delivery.payload == b"a3":
            raise OSError("not now")
        made.append(delivery.payload.decode())

    def outbox() -> Outbox:
        return Outbox(db, clock, deliver, retries=lambda attempt, delivery: 60.0 * attempt)

    first = outbox()
    await first.start()
    for n in range(200):
        await db.write(
            lambda tx, n=n: [first.add(tx, "queue", f"{lane}{n}".encode(), lane=lane) for lane in ("a", "b")]
        )
        first.wake()
    await until(lambda: made.count("b199") == 1)
    assert [name for name in made if name[0] == "b"] == [f"b{n}" for n in range(200)]
    assert [name for name in made if name[0] == "a"] == ["a0", "a1", "a2"]
    clock.advance(61)
    await asyncio.sleep(0.02)
    assert "a4" not in made
    await first.stop()
    broken = False
    second = outbox()
    await second.start()
    await until(lambda: empty(db))
    assert [name for name in made if name[0] == "a"] == [f"a{n}" for n in range(200)]
    await second.stop()


async def test_failures_are_retried_at_their_time_then_given_up(db: Database) -> None:
    clock, tries, dead = Clock(), [], []

    async def deliver(delivery: Delivery) -> None:
        tries.append((delivery.target, delivery.attempt))
        raise Undeliverable("gone") if delivery.target == "gone" else OSError("down")

    async def given_up(delivery: Delivery, error: Exception) -> None:
        dead.append((delivery.target, delivery.attempt, str(error)))

    outbox = Outbox(db, clock, deliver, retries=lambda attempt, _: [1.0, 3600.0, None][attempt - 1], given_up=given_up)
    await outbox.start()
    await db.write(lambda tx: [outbox.add(tx, target, b"") for target in ("down", "gone")])
    outbox.wake()
    await until(lambda: len(tries) == 2)
    clock.advance(1)
    await until(lambda: len(tries) == 3)
    clock.advance(3500)
    await asyncio.sleep(0.02)
    assert len(tries) == 3
    clock.advance(100)
    await until(lambda: empty(db))
    assert dead == [("gone", 1, "gone"), ("down", 3, "down")]
    assert tries == [("down", 0), ("gone", 0), ("down", 1), ("down", 2)]
    await outbox.stop()


async def test_a_target_that_hangs_leaves_the_others_alone(db: Database) -> None:
    made: list[str] = []
    hanging = asyncio.Event()

    async def deliver(delivery: Delivery) -> None:
        if delivery.target == "hangs":
            await hanging.wait()
        made.append(delivery.target)

    outbox = Outbox(db, Clock(), deliver, retries=lambda attempt, delivery: 1.0, concurrency=8)
    await outbox.start()
    await db.write(lambda tx: [outbox.add(tx, "hangs", b"") for _ in range(500)])
    outbox.wake()
    await asyncio.sleep(0.01)
    await db.write(lambda tx: [outbox.add(tx, "well", b"") for _ in range(100)])
    outbox.wake()
    await until(lambda: made.count("well") == 100)
    assert "hangs" not in made
    assert sum(len(line.queue) for line in outbox._lines.values()) <= 64
    hanging.set()
    await until(lambda: empty(db))
    assert made.count("hangs") == 500
    await outbox.stop()


async def test_what_is_due_later_is_delivered_at_its_time_also_by_the_next_run(db: Database) -> None:
    clock, made = Clock(), []

    async def deliver(delivery: Delivery) -> None:
        made.append(delivery.target)

    outbox = Outbox(db, clock, deliver, retries=lambda attempt, delivery: None)
    await outbox.start()
    now = clock.now()
    for target, seconds in (("late", 7200), ("soon", 60), ("now", 0)):
        await db.write(lambda tx, t=target, s=seconds: outbox.add(tx, t, b"", due=now + s))
    outbox.wake()
    await until(lambda: made == ["now"])
    clock.advance(60)
    await until(lambda: made == ["now", "soon"])
    await outbox.stop()
    outbox = Outbox(db, clock, deliver, retries=lambda attempt, delivery: None)
    await outbox.start()
    await asyncio.sleep(0.01)
    assert made == ["now", "soon"]
    clock.advance(7200)
    await until(lambda: empty(db))
    assert made == ["now", "soon", "late"]
    await outbox.stop()
