"""What is stored of temporary credentials: one row for each, found by its access key alone."""

from __future__ import annotations

import msgspec

from cloudlet.store import Tx

MIGRATIONS = (
    """CREATE TABLE session (access_key TEXT PRIMARY KEY, expires REAL NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX session_by_expiry ON session (expires);""",
)

_REMEMBERED = 24 * 3600.0  # seconds for which an ended session is still told from one that never was
_FORGOTTEN_AT_ONCE = 8  # so that the table shrinks while each write stays short


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """Temporary credentials. ``expires`` is epoch seconds."""

    secret: str
    token: str
    account: str
    principal: str  # an ARN
    user_id: str
    expires: float
    policies: list[str] = []  # documents and ARNs that narrow the session
    tags: dict[str, str] = {}
    transitive: list[str] = []  # the keys of those tags that the next role in the chain gets, in lower case
    source_identity: str = ""
    issuer: str = ""  # who asked for a federated user's credentials


_decode = msgspec.msgpack.Decoder(Session).decode
_encode = msgspec.msgpack.Encoder().encode


def add(tx: Tx, access_key: str, session: Session, now: float) -> None:
    """Store a session, and forget some that ended long ago."""
    tx.execute("INSERT INTO session VALUES (?, ?, ?)", (access_key, session.expires, _encode(session)))
    tx.execute(
        "DELETE FROM session WHERE access_key IN (SELECT access_key FROM session WHERE expires < ? LIMIT ?)",
        (now - _REMEMBERED, _FORGOTTEN_AT_ONCE),
    )


def find(tx: Tx, access_key: str) -> Session | None:
    """A session by its access key, also one that has ended."""
    row = tx.execute("SELECT value FROM session WHERE access_key = ?", (access_key,)).fetchone()
    return _decode(row[0]) if row is not None else None
