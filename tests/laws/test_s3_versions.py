"""Laws of S3: a listing is what a plain sort gives, and a bucket of versions is what a list of them gives."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from cloudlet.services.s3 import listing, records
from cloudlet.services.s3.records import NULL, Bucket, Stored
from cloudlet.store import Tx

KEYS = st.text(alphabet="ab/\U0010ffff\ud7ff\ue000", min_size=1, max_size=5)


def database() -> Tx:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for script in records.MIGRATIONS:
        connection.executescript(script)
    return cast("Tx", connection)


def stored(key: str, seq: int, version: str = NULL, size: int | None = 1) -> Stored:
    none: tuple[Any, ...] = (None,) * 6
    return Stored(1, key, seq, version, 0, size, '"e"', "", "STANDARD", b"{}", *none)


@settings(max_examples=200, deadline=None)
@given(keys=st.sets(KEYS, max_size=12), prefix=st.text("ab/", max_size=2), delimiter=st.sampled_from(["", "/", "ab"]),
       most=st.integers(1, 4))  # fmt: skip
def test_pages_give_the_whole(keys: set[str], prefix: str, delimiter: str, most: int) -> None:
    tx = database()
    for seq, key in enumerate(keys):
        records.put(tx, Bucket(1, "", "", 0), stored(key, seq))
    wanted: list[str] = []
    for key in sorted(keys, key=str.encode):
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if end < 0 else key[: end + len(delimiter)]
            if entry not in wanted:
                wanted.append(entry)
    end_of_all = listing.successor(prefix) or records.END
    found: list[str] = []
    after = ""
    for _ in range(len(wanted) + 1):
        page = listing.page(
            lambda start, seq, limit: records.objects(tx, 1, start, seq, end_of_all, limit),
            prefix, delimiter, after, 0, most,
        )  # fmt: skip
        entries = [entry if isinstance(entry, str) else entry.key for entry in page.entries]
        found += entries
        assert len(entries) == most or not page.more
        if not page.more:
            break
        after = entries[-1]
    assert found == wanted


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["put", "mark", "remove"]), st.sampled_from(["Enabled", "Suspended"]), st.integers(0, 5)),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(actions=ACTIONS)
def test_versions_are_a_list(actions: list[tuple[str, str, int]]) -> None:
    """Newest first; null takes null's place; what is current is the newest, unless that is a marker."""
    tx = database()
    model: list[tuple[str, bool]] = []  # version and whether it is a marker, the newest first
    for number, (action, versioning, index) in enumerate(actions, 1):
        bucket = Bucket(1, "", "", 0, versioning)
        version = f"v{number}" if versioning == "Enabled" else NULL
        if action == "remove":
            if index < len(model):
                records.remove(tx, 1, "k", model[index][0])
                records.promote(tx, 1, "k")
                del model[index]
        else:
            if version == NULL:
                model = [one for one in model if one[0] != NULL]
            model.insert(0, (version, action == "mark"))
            # A clock that stands still must not confuse the order.
            if action == "mark":
                records.mark_deleted(tx, bucket, stored("k", 1, version, None))
            else:
                records.put(tx, bucket, stored("k", 1, version))
        listed = records.versions(tx, 1, "", records.NEWEST, records.END, 100)
        assert [(one.version, one.is_marker) for one in listed] == model
        current = records.current(tx, 1, "k")
        assert (current.version if current else None) == (model[0][0] if model and not model[0][1] else None)
