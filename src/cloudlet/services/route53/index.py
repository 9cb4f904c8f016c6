"""All zones and records as questions need them: found by name, in memory, kept in step with what is stored."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable

from cloudlet.services.route53 import names
from cloudlet.services.route53.records import CidrCollection, RecordSet, Zone

# The record sets of one name: by their types, in the order of their identifiers.
Node = dict[str, tuple[RecordSet, ...]]

_EMPTY: Node = {}


class ZoneIndex:
    """One zone's names."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.nodes: dict[str, Node] = {}
        self.count = 0  # of record sets
        self._above: Counter[str] = Counter()  # names without records that have some below them
        self._ordered: list[str] | None = None

    def put(self, name: str, sets: Iterable[RecordSet]) -> None:
        """Replace what a name has by these sets, in the order of their keys; none removes it."""
        node: dict[str, list[RecordSet]] = {}
        for one in sets:
            node.setdefault(one.type, []).append(one)
        old = self.nodes.pop(name, _EMPTY)
        self.count -= sum(map(len, old.values()))
        self.count += sum(map(len, node.values()))
        if node:
            self.nodes[name] = {kind: tuple(sets) for kind, sets in node.items()}
        if bool(old) == bool(node):
            return
        self._ordered = None
        step = names.parent(name)
        while step != self.zone.name and names.within(step, self.zone.name):
            self._above[step] += 1 if node else -1
            if not self._above[step]:
                del self._above[step]
            step = names.parent(step)

    def find(self, name: str) -> Node | None:
        """The node that answers for a name, perhaps a wildcard's; an empty one where names only lie below."""
        if (node := self.nodes.get(name)) is not None:
            return node
        if name in self._above or name == self.zone.name:
            return _EMPTY
        encloser = names.parent(name)
        while encloser not in self.nodes and encloser not in self._above and encloser != self.zone.name:
            encloser = names.parent(encloser)
        return self.nodes.get(names.WILDCARD + encloser)

    def delegated(self, name: str) -> bool:
        """Whether another server has been given the part of the zone in which a name lies."""
        while name != self.zone.name:
            if "NS" in self.nodes.get(name, _EMPTY):
                return True
            name = names.parent(name)
        return False

    def ordered(self) -> list[str]:
        """All names, as they are listed."""
        if self._ordered is None:
            self._ordered = sorted(self.nodes, key=names.order)
        return self._ordered


class Blocks:
    """The blocks of all CIDR collections, each collection's in the order in which they are tried."""

    def __init__(self) -> None:
        self._collections: dict[str, list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]]] = {}

    def put(self, collection: CidrCollection) -> None:
        """Take over a collection as it is now."""
        pairs = [(ipaddress.ip_network(block), name) for name, all in collection.locations.items() for block in all]
        self._collections[collection.id] = sorted(pairs, key=lambda pair: -pair[0].prefixlen)

    def remove(self, id: str) -> None:
        """Forget a collection."""
        self._collections.pop(id, None)

    def __contains__(self, id: object) -> bool:
        return id in self._collections

    def location(self, collection: str, client: str) -> str | None:
        """The location whose longest block has the client's address."""
        if not client:
            return None
        address = ipaddress.ip_address(client)
        return next((name for block, name in self._collections.get(collection, ()) if address in block), None)


class Index:
    """All zones of all accounts."""

    def __init__(self) -> None:
        self.zones: dict[str, ZoneIndex] = {}  # by id
        self.blocks = Blocks()
        self._apexes: dict[str, list[ZoneIndex]] = {}

    def add(self, zone: Zone) -> ZoneIndex:
        """Add a zone, or take over its new settings."""
        known = self.zones.get(zone.id)
        if known is not None:
            known.zone = zone
            return known
        index = self.zones[zone.id] = ZoneIndex(zone)
        same = self._apexes.setdefault(zone.name, [])
        same.append(index)
        # A private zone answers before a public one of the same name, as in a VPC; then the newest.
        same.sort(key=lambda one: (not one.zone.private, -one.zone.created))
        return index

    def remove(self, id: str) -> None:
        """Remove a zone with all its names."""
        index = self.zones.pop(id, None)
        if index is not None:
            same = self._apexes[index.zone.name]
            same.remove(index)
            if not same:
                del self._apexes[index.zone.name]

    def only(self, id: str) -> Index:
        """The same zones, of which only this one is asked; aliases still lead to the others."""
        alone = Index()
        alone.zones, alone.blocks = self.zones, self.blocks
        alone._apexes = {self.zones[id].zone.name: [self.zones[id]]}
        return alone

    def place(self, name: str) -> tuple[ZoneIndex, Node | None] | None:
        """The zone that a name belongs to, and its node there; None where no zone is responsible."""
        step = name
        while True:
            if zones := self._apexes.get(step):
                found = ((zone, node) for zone in zones if (node := zone.find(name)) is not None)
                return next(found, (zones[0], None))
            if step == ".":
                return None
            step = names.parent(step)

    def zone_of(self, name: str) -> str:
        """The id of the zone that answers for a name; empty where none does."""
        place = self.place(name)
        return place[0].zone.id if place is not None else ""
