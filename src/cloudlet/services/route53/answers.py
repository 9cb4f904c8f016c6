"""The answer to a question: a pure function of the zones, of what is healthy, and of chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cloudlet.services.route53.index import Index, Node, ZoneIndex
from cloudlet.services.route53.names import canonical
from cloudlet.services.route53.records import RecordSet

_LONGEST_CHAIN = 8
_MULTIVALUE = 8
HEALTH = (
    "HEALTH"  # no type of records: asks whether what an alias leads to is well; nothing is the answer of what is not
)
_ALIAS_TTL = 60  # seconds, as Route 53 gives for load balancers and distributions


class Entry(NamedTuple):
    """Records of one name and type; ``values`` as zone files write them."""

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]


class Question(NamedTuple):
    """What is asked for."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What our zones say."""

    rcode: str
    entries: tuple[Entry, ...] = ()
    authority: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Outside:
    """Before the question can be answered, another must be that is about no zone of ours."""

    question: Question
    alias: bool  # an alias leads there: the name is that of an AWS resource


@dataclass(frozen=True, slots=True)
class View:
    """All that an answer depends on. ``draw(n)`` gives a number below n; ``near`` is the region of this cloud, ``at``
    its continent, country and part of the country, as far as they are known; ``client`` is the address that asks."""

    index: Index
    healthy: Callable[[str], bool]
    draw: Callable[[int], int]
    near: str
    outside: Mapping[Question, tuple[Entry, ...]]
    at: tuple[str, ...] = ()
    client: str = ""


class _Needs(Exception):
    def __init__(self, question: Question) -> None:
        self.question = question


def answer(question: Question, view: View) -> Answer | Outside | None:
    """Answer from our zones; None where they have no say, Outside where another answer is needed first."""
    name, kind = question
    entries: list[Entry] = []
    for _ in range(_LONGEST_CHAIN):
        place = view.index.place(name)
        # What another server has been given is not ours to answer, but for the DS record at the cut.
        if place is None or (kind != "DS" and place[0].delegated(name)):
            if not entries:
                return None
            here = Question(name, kind)
            if here not in view.outside:
                return Outside(here, alias=False)
            return Answer("NOERROR", (*entries, *view.outside[here]))
        zone, node = place
        if node is None:
            return Answer("NOERROR" if entries else "NXDOMAIN", tuple(entries), _authority(zone))
        try:
            found = _records(node, name, kind, view)
        except _Needs as needs:
            return Outside(needs.question, alias=True)
        if found is None:
            return Answer("NOERROR", tuple(entries), () if entries else _authority(zone))
        entries.append(found)
        if found.type == kind:
            return Answer("NOERROR", tuple(entries))
        name = canonical(found.values[0])
    return Answer("SERVFAIL")


def _authority(zone: ZoneIndex) -> tuple[Entry, ...]:
    """The SOA record, which says how long a negative answer may be remembered."""
    for soa in zone.nodes.get(zone.zone.name, {}).get("SOA", ()):
        minimum = int(soa.values[0].rsplit(" ", 1)[1])
        return (Entry(soa.name, "SOA", min(soa.ttl or 0, minimum), soa.values),)
    return ()


def _records(node: Node, name: str, kind: str, view: View, depth: int = 0) -> Entry | None:
    """The chosen records of a node, under ``name``: of that type, else its CNAME."""
    if depth > _LONGEST_CHAIN:
        return None
    for wanted in (kind, "CNAME") if kind != "CNAME" else (kind,):
        if sets := node.get(wanted):
            chosen = _choose(sets, view)
            break
    else:
        return None
    if not chosen:
        return None
    if (alias := chosen[0].alias) is None:
        values = list(dict.fromkeys(value for one in chosen for value in one.values))
        _shuffle(values, view)
        return Entry(name, wanted, min(one.ttl or 0 for one in chosen), tuple(values))
    target = view.index.zones.get(alias.zone)
    if target is not None:
        there = target.find(alias.name)
        found = _records(there, name, kind, view, depth + 1) if there is not None else None
        return found if found is None or found.type == kind else None
    question = Question(alias.name, kind)
    if question not in view.outside:
        raise _Needs(question)
    values = [value for entry in view.outside[question] if entry.type == kind for value in entry.values]
    return Entry(name, kind, _ALIAS_TTL, tuple(values)) if values else None


def _choose(sets: Sequence[RecordSet], view: View) -> Sequence[RecordSet]:
    """The sets that answer, by the policy that they share. Where none is healthy, all count as healthy."""
    policy = sets[0].policy
    if policy == "simple":
        return sets
    if policy == "multivalue answer":
        return _several(sets, view)
    healthy = [one for one in sets if _is_healthy(one, view)]
    if policy == "failover":
        primary = [one for one in sets if one.failover == "PRIMARY"]
        ranked = sorted(healthy, key=lambda one: one.failover != "PRIMARY")
        return (ranked or primary or sets)[:1]
    if policy == "weighted":
        # A set of weight 0 answers only where no other can.
        weighed = [one for one in healthy if one.weight] or [one for one in sets if one.weight and not healthy]
        return [_weighed(weighed or healthy or list(sets), view)]
    if policy == "latency":
        return sorted(healthy or sets, key=lambda one: _distance(one.region, view.near))[:1]
    ranks = [(_fits(one, view), one) for one in sets]
    fitting = [one for rank, one in sorted(ranks, key=lambda pair: -pair[0]) if rank]
    return ([one for one in fitting if one in healthy] or fitting)[:1]


def _fits(one: RecordSet, view: View) -> int:
    """How closely a set's location is the client's: 0 is elsewhere, 1 anywhere.

    Addresses of one machine are in no country, so that geolocation goes by where the cloud is said to be.
    """
    if one.cidr:
        name = one.cidr["LocationName"]
        if name == "*":
            return 1
        return 2 if name == view.index.blocks.location(one.cidr["CollectionId"], view.client) else 0
    continent, country, part = (*view.at, "", "", "")[:3]
    match one.geo:
        case {"CountryCode": "*"}:
            return 1
        case {"ContinentCode": code}:
            return 2 if code == continent else 0
        case {"CountryCode": code, "SubdivisionCode": inner}:
            return 4 if (code, inner) == (country, part) else 0
        case {"CountryCode": code}:
            return 3 if code == country else 0
    return 0


def _several(sets: Sequence[RecordSet], view: View) -> Sequence[RecordSet]:
    """Up to eight healthy ones, drawn one by one: most of a thousand need not be looked at."""
    left, healthy, others = list(sets), list[RecordSet](), list[RecordSet]()
    while left and len(healthy) < _MULTIVALUE:
        drawn = view.draw(len(left))
        left[drawn], left[-1] = left[-1], left[drawn]
        one = left.pop()
        (healthy if _is_healthy(one, view) else others).append(one)
    return healthy or others[:_MULTIVALUE]


def _weighed(sets: Sequence[RecordSet], view: View) -> RecordSet:
    total = sum(one.weight or 0 for one in sets)
    if not total:
        return sets[view.draw(len(sets))]
    point = view.draw(total)
    for one in sets:
        point -= one.weight or 0
        if point < 0:
            return one
    return sets[-1]


def _is_healthy(one: RecordSet, view: View, depth: int = 0) -> bool:
    if one.health_check and not view.healthy(one.health_check):
        return False
    if one.alias is None or not one.alias.evaluate or depth > _LONGEST_CHAIN:
        return True
    zone = view.index.zones.get(one.alias.zone)
    if zone is None:
        health = Question(one.alias.name, HEALTH)
        if health not in view.outside:
            raise _Needs(health)
        return bool(view.outside[health])
    sets = (zone.find(one.alias.name) or {}).get(one.type, ())
    return any(_is_healthy(target, view, depth + 1) for target in sets)


def _distance(region: str, near: str) -> int:
    """0 for the same region, 1 for the same part of the world, 2 beyond."""
    return 0 if region == near else 1 if region.partition("-")[0] == near.partition("-")[0] else 2


def _shuffle(items: list[str], view: View) -> None:
    for last in range(len(items) - 1, 0, -1):
        other = view.draw(last + 1)
        items[last], items[other] = items[other], items[last]
