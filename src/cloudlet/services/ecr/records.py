"""What ECR keeps: repositories as resources; layers, images and tags in tables. Layers' bytes are files (``blobs.py``).

Everything of a repository is under its number, which no other repository ever has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE repository (number INTEGER PRIMARY KEY AUTOINCREMENT);
    CREATE TABLE layer (
        repository INTEGER NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
        PRIMARY KEY (repository, digest)) WITHOUT ROWID;
    CREATE TABLE image (
        repository INTEGER NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, artifact_type TEXT NOT NULL,
        subject TEXT NOT NULL, size INTEGER NOT NULL, pushed REAL NOT NULL, manifest BLOB NOT NULL,
        PRIMARY KEY (repository, digest)) WITHOUT ROWID;
    CREATE INDEX image_by_subject ON image (repository, subject) WHERE subject <> '';
    CREATE TABLE part (
        repository INTEGER NOT NULL, digest TEXT NOT NULL, image TEXT NOT NULL,
        PRIMARY KEY (repository, digest, image)) WITHOUT ROWID;
    CREATE INDEX part_by_image ON part (repository, image);
    CREATE TABLE tag (
        repository INTEGER NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (repository, tag)) WITHOUT ROWID;
    CREATE INDEX tag_by_digest ON tag (repository, digest);
    CREATE TABLE secret (key BLOB NOT NULL);
    """,
    Outbox.MIGRATION,
    """
    CREATE TABLE scan (
        repository INTEGER NOT NULL, digest TEXT NOT NULL, asked REAL NOT NULL, status TEXT NOT NULL,
        description TEXT NOT NULL, completed REAL NOT NULL, findings BLOB NOT NULL,
        PRIMARY KEY (repository, digest)) WITHOUT ROWID;
    CREATE INDEX scan_ordered ON scan (asked) WHERE status = 'IN_PROGRESS';
    """,
    """
    ALTER TABLE image ADD COLUMN status TEXT NOT NULL DEFAULT 'ACTIVE';
    ALTER TABLE image ADD COLUMN pulled REAL NOT NULL DEFAULT 0;
    ALTER TABLE image ADD COLUMN archived REAL NOT NULL DEFAULT 0;
    ALTER TABLE image ADD COLUMN activated REAL NOT NULL DEFAULT 0;
    """,
    "ALTER TABLE tag ADD COLUMN checked REAL NOT NULL DEFAULT 0;",
    "ALTER TABLE scan ADD COLUMN enhanced INTEGER NOT NULL DEFAULT 0;",
]


class Repository(msgspec.Struct, frozen=True, omit_defaults=True):
    """A repository; its name in the store is its name."""

    name: str
    number: int
    created: float
    mutability: str = "MUTABLE"
    exclusions: list[str] = []
    scan_on_push: bool = False
    encryption: str = "AES256"
    kms_key: str = ""
    policy: str = ""
    lifecycle: str = ""
    evaluated: float = 0.0  # when the lifecycle policy was, or when it was put
    preview: str = ""  # the lifecycle policy that a preview was asked for
    tags: dict[str, str] = {}


class Registry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What belongs to a whole registry, an account's in a region."""

    policy: str = ""
    replication: list[dict[str, Any]] = []  # its rules, as the API has them
    scanning: list[dict[str, Any]] = []  # likewise
    settings: dict[str, str] = {}
    scan_type: str = "BASIC"


class Template(msgspec.Struct, frozen=True, omit_defaults=True):
    """A repository creation template; its name in the store is its prefix."""

    prefix: str
    created: float
    updated: float
    settings: dict[str, Any]  # as the API has them


class CacheRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pull through cache rule; its name in the store is its prefix."""

    prefix: str
    url: str
    kind: str  # of the upstream registry
    created: float
    updated: float
    upstream_prefix: str = "ROOT"
    credential: str = ""  # a secret's ARN
    role: str = ""


class Image(NamedTuple):
    """An image, or a list of images, without its manifest."""

    digest: str
    media_type: str
    artifact_type: str
    subject: str  # the digest of what it is attached to
    size: int
    pushed: float
    status: str = "ACTIVE"  # or ARCHIVED, where nobody can pull it
    pulled: float = 0.0  # when that was recorded last, which is once a day
    archived: float = 0.0
    activated: float = 0.0  # when it came back from the archive


_IMAGE = "digest, media_type, artifact_type, subject, size, pushed, status, pulled, archived, activated"


class Scan(NamedTuple):
    """The last scan of an image."""

    digest: str
    asked: float
    status: str = "IN_PROGRESS"
    description: str = ""
    completed: float = 0.0
    findings: bytes = b"[]"  # JSON, ``engines.scanners.Finding``
    enhanced: int = 0  # whether everything is looked at


class Seen(NamedTuple):
    """An image as a lifecycle policy sees it."""

    image: Image
    tags: list[str]


def new_number(tx: Tx) -> int:
    """A number that no repository has had."""
    return int(tx.execute("INSERT INTO repository DEFAULT VALUES RETURNING number").fetchone()[0])


def forget(tx: Tx, number: int) -> None:
    """Delete what a repository has left behind."""
    for table in ("layer", "image", "part", "tag", "scan"):
        tx.execute(f"DELETE FROM {table} WHERE repository = ?", (number,))
    tx.execute("DELETE FROM repository WHERE number = ?", (number,))


def numbers(tx: Tx) -> list[int]:
    """Every number, also those of deleted repositories that are not swept up yet."""
    return [number for (number,) in tx.execute("SELECT number FROM repository")]


def secret(tx: Tx) -> bytes | None:
    """The key that signs authorization tokens, if there is one yet."""
    row = tx.execute("SELECT key FROM secret").fetchone()
    return None if row is None else row[0]


def keep_secret(tx: Tx, key: bytes) -> bytes:
    """Keep the key, unless there is one; the one that counts."""
    if (known := secret(tx)) is not None:
        return known
    tx.execute("INSERT INTO secret VALUES (?)", (key,))
    return key


def layer_size(tx: Tx, number: int, digest: str) -> int | None:
    """A layer's size in bytes, or None when the repository has none of that digest."""
    row = tx.execute("SELECT size FROM layer WHERE repository = ? AND digest = ?", (number, digest)).fetchone()
    return None if row is None else row[0]


def add_layer(tx: Tx, number: int, digest: str, size: int) -> None:
    """A repository has this layer, whose file is in place."""
    tx.execute("INSERT OR IGNORE INTO layer VALUES (?, ?, ?)", (number, digest, size))


def layers(tx: Tx) -> set[tuple[int, str]]:
    """All layers of all repositories."""
    return {(number, digest) for number, digest in tx.execute("SELECT repository, digest FROM layer")}


def image(tx: Tx, number: int, digest: str) -> Image | None:
    """An image by its digest, or None."""
    row = tx.execute(f"SELECT {_IMAGE} FROM image WHERE repository = ? AND digest = ?", (number, digest)).fetchone()
    return None if row is None else Image(*row)


def manifest(tx: Tx, number: int, digest: str) -> bytes | None:
    """An image's manifest as it was pushed, or None."""
    row = tx.execute("SELECT manifest FROM image WHERE repository = ? AND digest = ?", (number, digest)).fetchone()
    return None if row is None else row[0]


def images(tx: Tx, number: int, after: str, limit: int) -> list[Image]:
    """Images in the order of their digests."""
    rows = tx.execute(
        f"SELECT {_IMAGE} FROM image WHERE repository = ? AND digest > ? ORDER BY digest LIMIT ?",
        (number, after, limit),
    )
    return [Image(*row) for row in rows]


def has_images(tx: Tx, number: int) -> bool:
    """Whether a repository has any image."""
    return tx.execute("SELECT 1 FROM image WHERE repository = ? LIMIT 1", (number,)).fetchone() is not None


def attached(tx: Tx, number: int, subject: str) -> list[tuple[Image, bytes]]:
    """The images that are attached to another one, with their manifests."""
    rows = tx.execute(
        f"SELECT {_IMAGE}, manifest FROM image WHERE repository = ? AND subject = ? AND subject <> '' ORDER BY digest",
        (number, subject),
    )
    return [(Image(*row[:-1]), row[-1]) for row in rows]


def add_image(tx: Tx, number: int, new: Image, manifest: bytes, parts: list[str]) -> None:
    """Store an image and what it is made of."""
    marks = ", ".join("?" * (len(new) + 2))
    tx.execute(
        f"INSERT OR IGNORE INTO image (repository, {_IMAGE}, manifest) VALUES ({marks})", (number, *new, manifest)
    )
    add_parts(tx, number, new.digest, parts)


def add_parts(tx: Tx, number: int, digest: str, parts: list[str]) -> None:
    """An image is made of these layers, or is a list of these images."""
    tx.executemany("INSERT OR IGNORE INTO part VALUES (?, ?, ?)", [(number, part, digest) for part in parts])


def archive(tx: Tx, number: int, digest: str, now: float) -> None:
    """Put an image into the archive."""
    tx.execute(
        "UPDATE image SET status = 'ARCHIVED', archived = ? WHERE repository = ? AND digest = ?", (now, number, digest)
    )


def activate(tx: Tx, number: int, digest: str, now: float) -> None:
    """Take an image back from the archive."""
    tx.execute(
        "UPDATE image SET status = 'ACTIVE', activated = ? WHERE repository = ? AND digest = ?", (now, number, digest)
    )


def note_pull(tx: Tx, number: int, digest: str, now: float) -> None:
    """Record when an image was pulled."""
    tx.execute("UPDATE image SET pulled = ? WHERE repository = ? AND digest = ?", (now, number, digest))


def drop_image(tx: Tx, number: int, digest: str) -> list[str]:
    """Delete an image with its tags, and the layers that no other image has; their digests."""
    parts = [
        part for (part,) in tx.execute("SELECT digest FROM part WHERE repository = ? AND image = ?", (number, digest))
    ]
    tx.execute("DELETE FROM image WHERE repository = ? AND digest = ?", (number, digest))
    tx.execute("DELETE FROM tag WHERE repository = ? AND digest = ?", (number, digest))
    tx.execute("DELETE FROM scan WHERE repository = ? AND digest = ?", (number, digest))
    tx.execute("DELETE FROM part WHERE repository = ? AND image = ?", (number, digest))
    gone = [part for part in parts if not parents(tx, number, part)]
    return [part for part in gone if drop_layer(tx, number, part)]


def drop_layer(tx: Tx, number: int, digest: str) -> bool:
    """Delete a layer; False where there is none."""
    return bool(tx.execute("DELETE FROM layer WHERE repository = ? AND digest = ?", (number, digest)).rowcount)


def parents(tx: Tx, number: int, digest: str) -> list[str]:
    """The images that a layer or an image is part of."""
    rows = tx.execute("SELECT image FROM part WHERE repository = ? AND digest = ? ORDER BY image", (number, digest))
    return [image for (image,) in rows]


def tagged(tx: Tx, number: int, tag: str) -> str | None:
    """The digest of the image that has a tag, or None."""
    row = tx.execute("SELECT digest FROM tag WHERE repository = ? AND tag = ?", (number, tag)).fetchone()
    return None if row is None else row[0]


def tags_of(tx: Tx, number: int, digest: str) -> list[str]:
    """An image's tags."""
    rows = tx.execute("SELECT tag FROM tag WHERE repository = ? AND digest = ? ORDER BY tag", (number, digest))
    return [tag for (tag,) in rows]


def tags(tx: Tx, number: int, after: str, limit: int) -> list[str]:
    """A repository's tags in their order."""
    rows = tx.execute(
        "SELECT tag FROM tag WHERE repository = ? AND tag > ? ORDER BY tag LIMIT ?", (number, after, limit)
    )
    return [tag for (tag,) in rows]


def set_tag(tx: Tx, number: int, tag: str, digest: str) -> None:
    """Put a tag on an image, and off any other."""
    tx.execute("INSERT OR REPLACE INTO tag (repository, tag, digest) VALUES (?, ?, ?)", (number, tag, digest))


def checked(tx: Tx, number: int, tag: str) -> float | None:
    """When it was seen last what a tag means upstream; 0 when never, None where there is no such tag."""
    row = tx.execute("SELECT checked FROM tag WHERE repository = ? AND tag = ?", (number, tag)).fetchone()
    return None if row is None else row[0]


def set_checked(tx: Tx, number: int, tag: str, now: float) -> None:
    """Record that it was seen what a tag means upstream."""
    tx.execute("UPDATE tag SET checked = ? WHERE repository = ? AND tag = ?", (now, number, tag))


def drop_tag(tx: Tx, number: int, tag: str) -> None:
    """Take a tag off."""
    tx.execute("DELETE FROM tag WHERE repository = ? AND tag = ?", (number, tag))


def seen(tx: Tx, number: int) -> list[Seen]:
    """The images that a lifecycle policy may expire: those that no list of images needs."""
    return [
        Seen(image, tags_of(tx, number, image.digest))
        for image in images(tx, number, "", 2**31)
        if not parents(tx, number, image.digest)
    ]


_SCAN = "SELECT digest, asked, status, description, completed, findings, enhanced FROM scan"


def scan(tx: Tx, number: int, digest: str) -> Scan | None:
    """The last scan of an image, or None."""
    row = tx.execute(f"{_SCAN} WHERE repository = ? AND digest = ?", (number, digest)).fetchone()
    return None if row is None else Scan(*row)


def next_scan(tx: Tx) -> tuple[int, Scan] | None:
    """The number of a repository and the scan that is to be made next, or None."""
    row = tx.execute(
        "SELECT repository, digest, asked, enhanced FROM scan WHERE status = 'IN_PROGRESS' ORDER BY asked LIMIT 1"
    ).fetchone()
    return None if row is None else (row[0], Scan(row[1], row[2], enhanced=row[3]))


def put_scan(tx: Tx, number: int, new: Scan) -> None:
    """Order a scan of an image, in the place of its last one."""
    tx.execute("INSERT OR REPLACE INTO scan VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (number, *new))


def end_scan(tx: Tx, number: int, done: Scan) -> bool:
    """Keep what a scan has found; False where the image has gone meanwhile."""
    cursor = tx.execute(
        "UPDATE scan SET status = ?, description = ?, completed = ?, findings = ? WHERE repository = ? AND digest = ?",
        (done.status, done.description, done.completed, done.findings, number, done.digest),
    )
    return cursor.rowcount > 0
