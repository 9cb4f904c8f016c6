"""A table's keys and indexes, made ready for items: which bytes a key is sorted by, and which indexes an item is in."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb import numbers
from cloudlet.services.dynamodb.errors import bad_parameter, invalid, no_table, wrong_key
from cloudlet.services.dynamodb.records import Index, Table
from cloudlet.services.dynamodb.values import Item, Value, check, encode, item_size, kind_of
from cloudlet.store import Record, Resources, Tx

_LONGEST_HASH = 2048
_LONGEST_RANGE = 1024

_ENCODERS: dict[str, Callable[[Any], bytes]] = {"S": str.encode, "N": numbers.sort_key, "B": bytes}


def with_checksum(key: bytes) -> bytes:
    """A hash key as it is stored: a checksum spreads the items evenly over the segments of a scan."""
    return (zlib.crc32(key) & 0xFFFF).to_bytes(2) + key


def escape(key: bytes, ended: bool = True) -> bytes:
    """A part of a longer key, with an end that sorts before all that might go on."""
    return key.replace(b"\0", b"\0\xff") + (b"\0\x01" if ended else b"")


def join(keys: list[bytes]) -> bytes:
    """A key of several parts, in their order."""
    return b"".join(map(escape, keys))


class KeyPart:
    """One attribute of a key."""

    __slots__ = ("encode", "is_hash", "kind", "name")

    def __init__(self, name: str, kind: str, is_hash: bool) -> None:
        self.name = name
        self.kind = kind
        self.is_hash = is_hash
        self.encode = _ENCODERS[kind]

    def encode_hash(self, content: Any) -> bytes:
        """The key as it is stored."""
        return with_checksum(self.encode(content))

    def check_size(self, key: bytes) -> None:
        """Raises ValidationException for a key that is too long."""
        if self.is_hash:
            if len(key) > _LONGEST_HASH:
                raise bad_parameter("Size of hashkey has exceeded the maximum size limit of2048 bytes")
        elif len(key) > _LONGEST_RANGE:
            raise bad_parameter("Aggregated size of all range keys has exceeded the size limit of 1024 bytes")

    def of_item(self, item: Item) -> bytes:
        """The encoded key of an item that is to be written. Raises ValidationException."""
        value = item.get(self.name)
        if value is None:
            raise bad_parameter(f"Missing the key {self.name} in the item")
        content = value.get(self.kind)
        if content is None:
            raise bad_parameter(f"Type mismatch for key {self.name} expected: {self.kind} actual: {kind_of(value)}")
        return self._encoded(content)

    def of_key(self, key: Item) -> bytes:
        """The encoded key of a request's key. Raises ValidationException."""
        value = key.get(self.name)
        if value is None:
            raise wrong_key()
        check(value)
        if (content := value.get(self.kind)) is None:
            raise wrong_key()
        return self._encoded(content)

    def _encoded(self, content: Any) -> bytes:
        if not content:
            word = "string" if self.kind == "S" else "binary"
            raise invalid(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain "
                f"an empty {word} value. Key: {self.name}"
            )
        key = self.encode(content)
        if len(key) > _LONGEST_RANGE:
            self.check_size(key)
        return with_checksum(key) if self.is_hash else key


class Keys:
    """The hash part and perhaps the range part of a table or an index; some indexes have up to four of each."""

    __slots__ = ("composite", "hash", "hashes", "names", "range", "ranges")

    def __init__(self, keys: list[dict[str, str]], definitions: dict[str, str]) -> None:
        parts = [
            KeyPart(key["AttributeName"], definitions[key["AttributeName"]], key["KeyType"] == "HASH") for key in keys
        ]
        self.hashes = tuple(part for part in parts if part.is_hash)
        self.ranges = tuple(part for part in parts if not part.is_hash)
        # Nearly all keys have one attribute of each kind at most.
        self.composite = len(self.hashes) > 1 or len(self.ranges) > 1
        self.hash = self.hashes[0]
        self.range = self.ranges[0] if self.ranges else None
        self.names = tuple(part.name for part in parts)


class IndexPlan:
    """A secondary index, ready for items."""

    __slots__ = ("id", "index", "keys", "names", "projected")

    def __init__(self, index: Index, table: Table) -> None:
        self.index = index
        self.id = index.id
        self.keys = Keys(index.keys, table.definitions)
        self.names = self.keys.names
        kind = index.projection["ProjectionType"]
        # What an entry holds, None for everything.
        self.projected: frozenset[str] | None = None
        if kind != "ALL":
            own = {key["AttributeName"] for key in (*table.keys, *index.keys)}
            self.projected = frozenset(own | set(index.projection.get("NonKeyAttributes", ())))

    def place(self, item: Item) -> tuple[bytes, bytes] | None:
        """Where an item stands in the index; None when it lacks a key. Raises ValidationException."""
        keys = self.keys
        hashes = [key for part in keys.hashes if (key := self._part(part, item)) is not None]
        ranges = [key for part in keys.ranges if (key := self._part(part, item)) is not None]
        if len(hashes) < len(keys.hashes) or len(ranges) < len(keys.ranges):
            return None
        if keys.composite:
            return with_checksum(join(hashes)), join(ranges)
        return with_checksum(hashes[0]), ranges[0] if ranges else b""

    def standing(self, item: Item) -> tuple[bytes, bytes] | None:
        """Where an item that was stored before the index was made stands: nowhere when it does not fit."""
        try:
            return self.place(item)
        except AwsError:
            return None

    def _part(self, part: KeyPart, item: Item) -> bytes | None:
        value = item.get(part.name)
        if value is None:
            return None
        content = value.get(part.kind)
        if content is None:
            raise bad_parameter(
                f"Type mismatch for Index Key {part.name} Expected: {part.kind} Actual: {kind_of(value)} "
                f"IndexName: {self.index.name}"
            )
        if not content:
            word = "string" if part.kind == "S" else "binary"
            raise invalid(
                "One or more parameter values are not valid. A value specified for a secondary index key is not "
                "supported. The AttributeValue for a key attribute cannot contain an empty "
                f"{word} value. IndexName: {self.index.name}, IndexKey: {part.name}"
            )
        key = part.encode(content)
        part.check_size(key)
        return key

    def entry(self, item: Item, size: int, body: bytes) -> tuple[int, bytes]:
        """The size and the stored form of what the index keeps of an item."""
        if self.projected is None:
            return size, body
        kept = self.project(item)
        return item_size(kept), encode(kept)

    def project(self, item: Item) -> Item:
        """What the index keeps of an item."""
        projected = self.projected
        return item if projected is None else {name: value for name, value in item.items() if name in projected}


class Plan:
    """A table, ready for items. It is made anew when the table changes."""

    __slots__ = ("arn", "dimensions", "id", "indexes", "keys", "local", "plain", "record", "scope", "table")

    def __init__(self, record: Record[Table]) -> None:
        table = record.value
        self.record = record
        self.scope = record.scope
        self.table = table
        self.dimensions = (("TableName", table.name),)  # under which CloudWatch has it
        self.id = table.id
        self.keys = Keys(table.keys, table.definitions)
        self.indexes = tuple(IndexPlan(index, table) for index in table.indexes)
        self.plain = not (table.indexes or table.stream_view or table.ttl)
        self.arn = table_arn(record.scope, table.name)
        # Whether all items with one hash key make a collection.
        self.local = any(not index.is_global for index in table.indexes)

    def place(self, item: Item) -> tuple[bytes, bytes]:
        """Where an item that is to be written belongs. Raises ValidationException."""
        keys = self.keys
        return keys.hash.of_item(item), b"" if keys.range is None else keys.range.of_item(item)

    def find(self, key: Item) -> tuple[bytes, bytes]:
        """Where the item with a request's key is. Raises ValidationException."""
        keys = self.keys
        if len(key) != len(keys.names):
            raise wrong_key()
        return keys.hash.of_key(key), b"" if keys.range is None else keys.range.of_key(key)

    def key_of(self, item: Item) -> Item:
        """An item's key attributes."""
        return {name: item[name] for name in self.keys.names}

    def index(self, name: str) -> IndexPlan:
        """The index of a name. Raises ValidationException."""
        for plan in self.indexes:
            if plan.index.name == name:
                return plan
        raise invalid(f"The table does not have the specified index: {name}")

    def expiry(self, item: Item) -> int | None:
        """When an item is to go, in epoch seconds."""
        value: Value | None = item.get(self.table.ttl)
        number = None if value is None else value.get("N")
        return None if number is None or len(number) > 18 else int(number.partition(".")[0] or 0)


def fresh(tx: Tx, tables: Resources[Table], plan: Plan) -> Plan:
    """The plan as this transaction sees its table. Raises ResourceNotFoundException when that is gone."""
    record = tables.get(plan.scope, plan.table.name, tx)
    if record is plan.record:
        return plan
    if record is None or record.value.id != plan.id:
        raise no_table()
    return Plan(record)


def table_arn(scope: str, name: str) -> str:
    """A table's ARN from the scope it is stored in."""
    account, _, region = scope.partition("/")
    return f"arn:aws:dynamodb:{region}:{account}:table/{name}"
