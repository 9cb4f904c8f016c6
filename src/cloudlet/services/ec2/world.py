"""An account's network in a region, as one transaction sees and changes it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.ec2.kinds import Kind
from cloudlet.services.ec2.records import Begun, Item
from cloudlet.store import Resources, Tx

Members = dict[str, Any]

# A tag that nobody sees: which step of a deployment has made something. The step finds it again after a crash.
STEP = "aws:cloudlet:step"
# How long a deleted thing of a kind that lingers is shown, in seconds.
_LINGERS = 3600.0


class World:
    """Finds, makes, changes and deletes items. Without a transaction it only finds, in committed state."""

    def __init__(self, items: Resources[Item], begun: Resources[Begun], scope: str, now: float, tx: Tx | None = None):
        self._items, self._begun, self._tx = items, begun, tx
        self.scope, self.now = scope, now
        self.account, self.region = scope.split("/")

    def other(self, account: str, region: str) -> World:
        """Another account's or region's, in the same transaction."""
        return World(self._items, self._begun, f"{account}/{region}", self.now, self._tx)

    @property
    def is_begun(self) -> bool:
        """Whether the default network has been made here."""
        return self._begun.get(self.scope, "", self._tx) is not None

    def find(self, id: str) -> Item | None:
        """An item of any kind, or None."""
        record = self._items.get(self.scope, id, self._tx)
        return record.value if record is not None else None

    def get(self, kind: Kind, id: str) -> Item:
        """The item of that id. Raises Invalid<Kind>.Malformed, Invalid<Kind>.NotFound."""
        if not kind.has(id):
            raise kind.malformed(id)
        item = self.find(id)
        if item is None or not self._is_seen(item):
            raise kind.not_found(id)
        return item

    def all(self, kind: Kind, **members: Any) -> list[Item]:
        """The items of a kind that have these members, in the order of their making."""
        records = self._items.list(self.scope, f"{kind.prefix}-", self._tx)
        found = [one.value for one in records if kind.has(one.name) and self._is_seen(one.value)]
        if members:
            found = [item for item in found if all(item.shown.get(key) == value for key, value in members.items())]
        return sorted(found, key=lambda item: (item.created, item.order))

    def every(self) -> Iterator[Item]:
        """Every item, in the order of ids."""
        return (record.value for record in self._items.list(self.scope, "", self._tx))

    def make(
        self,
        kind: Kind,
        shown: Members,
        tags: dict[str, str] | None = None,
        hidden: Members | None = None,
        id: str = "",
    ) -> Item:
        """A new item of a kind."""
        assert self._tx is not None
        record = self._begun.get(self.scope, "", self._tx)
        order = record.value.made + 1 if record is not None else 1
        self._begun.put(self._tx, self.scope, "", Begun(order))
        id = id or new_id(kind.prefix)
        item = Item(id, self.now, order, {kind.id_member: id, **shown}, hidden or {}, tags or {})
        return self.put(item)

    def put(self, item: Item) -> Item:
        """Store an item."""
        assert self._tx is not None
        return self._items.put(self._tx, self.scope, item.id, item).value

    def change(self, item: Item, shown: Members | None = None, hidden: Members | None = None) -> Item:
        """Give an item other members; one that is None goes."""
        both = {key: value for key, value in (item.shown | (shown or {})).items() if value is not None}
        return self.put(replace(item, shown=both, hidden=item.hidden | (hidden or {})))

    def delete(self, item: Item) -> None:
        """Delete an item; that it is gone already is no error."""
        assert self._tx is not None
        self._items.delete(self._tx, self.scope, item.id)

    def retire(self, kind: Kind, item: Item, **shown: Any) -> Item:
        """Delete an item; where its kind lingers, it is shown as deleted for an hour."""
        if not kind.lingers:
            self.delete(item)
            return item
        for record in self._items.list(self.scope, f"{kind.prefix}-", self._tx):
            if kind.has(record.name) and not self._is_seen(record.value):
                self.delete(record.value)
        return self.change(item, {"State": "deleted", **shown}, {"gone": self.now})

    def _is_seen(self, item: Item) -> bool:
        return bool(item.hidden.get("gone", self.now) + _LINGERS > self.now)

    def arn(self, type: str, id: str) -> str:
        """The ARN of something here."""
        return f"arn:aws:ec2:{self.region}:{self.account}:{type}/{id}"


def new_id(prefix: str) -> str:
    """An id that nothing has."""
    return f"{prefix}-0{secrets.token_hex(8)}"


def shown_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as they are answered."""
    return [{"Key": key, "Value": value} for key, value in tags.items() if key != STEP]


def invalid(message: str) -> AwsError:
    """A parameter's value cannot be."""
    return AwsError("InvalidParameterValue", message)


def missing(parameter: str) -> AwsError:
    """A parameter has to be there."""
    return AwsError("MissingParameter", f"The request must contain the parameter {parameter}")


def in_use(message: str) -> AwsError:
    """Something else needs what is to be deleted."""
    return AwsError("DependencyViolation", message)
