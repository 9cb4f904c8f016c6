"""One item's change: checked outside, done inside a transaction together with all that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb import records, streams
from cloudlet.services.dynamodb.conditions import Values
from cloudlet.services.dynamodb.errors import bad_parameter, condition_failed, invalid
from cloudlet.services.dynamodb.expressions import Predicate
from cloudlet.services.dynamodb.legacy import AttributeUpdates
from cloudlet.services.dynamodb.schema import Plan
from cloudlet.services.dynamodb.updates import Update
from cloudlet.services.dynamodb.values import LARGEST_ITEM, Item, check_item, decode, encode, item_size, too_large
from cloudlet.store import Tx

_FIVE_YEARS = 5 * 366 * 86400


class Outcome(NamedTuple):
    """An item before and after, None where there was none, and the sizes of both."""

    old: Item | None
    new: Item | None
    old_size: int
    new_size: int


@dataclass(slots=True)
class Write:
    """A change that was asked for: a put (``item``), an update, a delete, or only a check."""

    kind: str
    plan: Plan
    hash: bytes
    range: bytes
    condition: Predicate | None = None
    shows_old: bool = False  # when the condition is not met
    item: Item | None = None
    size: int = 0
    key: Item = field(default_factory=dict)
    update: Update | AttributeUpdates | None = None
    values: Values = field(default_factory=dict)
    inserts: bool = False  # a put that has to be the first, told in words of its own

    def apply(self, tx: Tx, plan: Plan, now: float) -> Outcome:
        """Do it on a table as it is now. Raises ConditionalCheckFailedException and ValidationException."""
        row = tx.execute(records.GET, (plan.id, self.hash, self.range)).fetchone()
        old: Item | None = None
        old_size = 0
        if row is not None:
            old_size, old = row[0], decode(row[1])
        if self.condition is not None and not self.condition(old or {}):
            if self.inserts:
                raise AwsError("DuplicateItemException", "Duplicate primary key exists in table")
            raise condition_failed(old if self.shows_old else None)
        match self.kind:
            case "put":
                new, size = self.item, self.size
            case "update":
                new, size = self._updated(old, row[1] if row is not None else None)
            case "delete":
                new, size = None, 0
            case _:
                return Outcome(old, old, old_size, old_size)
        if new is not None or old is not None:
            store(tx, plan, self.hash, self.range, old, new, size, now)
        return Outcome(old, new, old_size, size)

    def _updated(self, old: Item | None, body: bytes | None) -> tuple[Item | None, int]:
        """What the update makes of an item, which is made of its key where there is none."""
        new: Item = decode(body) if body is not None else dict(self.key)
        update = self.update
        if update is not None:
            if old is None and update.paths and not update.creates:
                return None, 0  # only deletions: no item comes from nothing
            update.apply(old or {}, new, self.values)
        size = item_size(new)
        if size > LARGEST_ITEM:
            raise invalid("Item size to update has exceeded the maximum allowed size")
        return new, size


def store(
    tx: Tx,
    plan: Plan,
    hash: bytes,
    range: bytes,
    old: Item | None,
    new: Item | None,
    size: int,
    now: float,
    by_service: bool = False,
) -> None:
    """Write or delete an item with its index entries, its expiry and its stream's record."""
    body = b""
    if new is None:
        tx.execute(records.DELETE, (plan.id, hash, range))
    else:
        body = encode(new)
        tx.execute(records.PUT, (plan.id, hash, range, size, body))
    for index in plan.indexes:
        after = None if new is None else index.place(new)
        before = None
        if old is not None:
            before = index.standing(old)
        if before is not None and before != after:
            tx.execute(records.DELETE_ENTRY, (index.id, *before, hash, range))
        if after is not None and new is not None:
            tx.execute(records.PUT_ENTRY, (index.id, *after, hash, range, *index.entry(new, size, body)))
    if plan.table.ttl:
        gone = None if old is None else plan.expiry(old)
        at = None if new is None else plan.expiry(new)
        if gone is not None and gone != at:
            tx.execute(records.DELETE_EXPIRY, (gone, plan.id, hash, range))
        if at is not None and expires(at, now):
            tx.execute(records.PUT_EXPIRY, (at, plan.id, hash, range))
    if plan.table.stream_view:
        key = plan.key_of(new if new is not None else old or {})
        streams.append(tx, plan, key, old, new, now, by_service)


def expires(at: int, now: float) -> bool:
    """Whether an item with this expiry is ever deleted: what is over for five years is taken for a mistake."""
    return at > now - _FIVE_YEARS


def put_of(plan: Plan, item: Item) -> Write:
    """A put of an item. Raises ValidationException for what cannot be stored."""
    size = check_item(item)
    if size > LARGEST_ITEM:
        raise too_large()
    hash, range = plan.place(item)
    for index in plan.indexes:
        index.place(item)
    return Write("put", plan, hash, range, item=item, size=size)


def delete_of(plan: Plan, key: Item, kind: str = "delete") -> Write:
    """A delete, or a check, of the item with a key. Raises ValidationException."""
    hash, range = plan.find(key)
    return Write(kind, plan, hash, range, key=key)


def update_of(plan: Plan, key: Item, update: Update | AttributeUpdates | None, values: Values) -> Write:
    """An update of the item with a key. Raises ValidationException."""
    hash, range = plan.find(key)
    for path in update.paths if update is not None else ():
        if path.parts[0] in plan.keys.names:
            raise bad_parameter(f"Cannot update attribute {path.parts[0]}. This attribute is part of the key")
    return Write("update", plan, hash, range, key=key, update=update, values=values)
