"""Answers as a pure function: zones in, chance and health given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloudlet.services.route53.answers import HEALTH, Answer, Entry, Outside, Question, View, answer
from cloudlet.services.route53.index import Index
from cloudlet.services.route53.names import canonical
from cloudlet.services.route53.records import Alias, RecordSet, Zone


def first(_: int) -> int:
    """A draw that shuffles as little as it can and takes the first."""
    return 0


class World:
    """Zones, and what is asked of them."""

    def __init__(self) -> None:
        self.index = Index()
        self.unwell: set[str] = set()
        self.outside: dict[Question, tuple[Entry, ...]] = {}
        self.at: tuple[str, ...] = ()
        self._sets: dict[tuple[str, str], list[RecordSet]] = {}
        self._created = 0.0

    def zone(self, id: str, name: str, private: bool = False) -> None:
        self._created += 1
        self.index.add(Zone(id, "1", name, id, self._created, ["ns.example"], private=private))
        self.put(id, name, "SOA", "ns.example. admin.example. 1 7200 900 1209600 60", ttl=900)
        self.put(id, name, "NS", "ns.example.")

    def put(self, zone: str, name: str, kind: str, *values: str, **more: Any) -> None:
        more.setdefault("ttl", 300)
        if "alias" in more:
            more["ttl"] = None
        name = canonical(name)
        sets = self._sets.setdefault((zone, name), [])
        sets.append(RecordSet(name, kind, values=values, **more))
        self.index.zones[zone].put(name, sets)

    def drop(self, zone: str, name: str) -> None:
        self.index.zones[zone].put(canonical(name), [])

    def ask(self, name: str, kind: str = "A", draw: Callable[[int], int] = first) -> Answer | Outside | None:
        view = View(self.index, lambda check: check not in self.unwell, draw, "eu-west-1", self.outside, self.at)
        return answer(Question(canonical(name), kind), view)

    def values(self, name: str, kind: str = "A", draw: Callable[[int], int] = first) -> list[str]:
        found = self.ask(name, kind, draw)
        assert isinstance(found, Answer)
        return sorted(value for entry in found.entries for value in entry.values)

    def spread(self, name: str) -> dict[str, int]:
        """How often each value comes when every draw of a hundred comes once."""
        counts: dict[str, int] = {}
        for point in range(100):
            value = self.values(name, draw=lambda most, point=point: point * most // 100)[0]
            counts[value] = counts.get(value, 0) + 1
        return counts


def shop() -> World:
    world = World()
    world.zone("Z1", "shop.example.")
    return world


def rcode(found: Answer | Outside | None) -> tuple[str, str]:
    """The code of an answer, and of what its authority is."""
    assert isinstance(found, Answer)
    return found.rcode, found.authority[0].type if found.authority else ""


def test_what_is_there_and_what_is_not() -> None:
    world = shop()
    world.put("Z1", "www.shop.example", "A", "10.0.0.1", "10.0.0.2")
    world.put("Z1", "a.b.c.shop.example", "A", "10.0.0.3")
    assert world.values("www.shop.example") == ["10.0.0.1", "10.0.0.2"]
    assert rcode(world.ask("www.shop.example", "AAAA")) == ("NOERROR", "SOA")
    assert rcode(world.ask("none.shop.example")) == ("NXDOMAIN", "SOA")
    # Names above others are there, though they have no records (RFC 8020).
    assert rcode(world.ask("b.c.shop.example")) == rcode(world.ask("c.shop.example")) == ("NOERROR", "SOA")
    world.drop("Z1", "a.b.c.shop.example")
    assert rcode(world.ask("b.c.shop.example")) == ("NXDOMAIN", "SOA")
    negative = world.ask("none.shop.example")
    assert isinstance(negative, Answer)
    assert negative.authority[0].ttl == 60  # the smaller one of the SOA record's two
    assert world.ask("other.example") is None


def test_wildcards_answer_below_their_closest_name() -> None:
    world = shop()
    world.put("Z1", "*.shop.example", "A", "10.0.0.9")
    world.put("Z1", "www.shop.example", "TXT", '"here"')
    assert world.values("x.shop.example") == world.values("x.y.shop.example") == ["10.0.0.9"]
    assert rcode(world.ask("www.shop.example")) == ("NOERROR", "SOA")
    assert rcode(world.ask("x.www.shop.example")) == ("NXDOMAIN", "SOA")


def test_chains() -> None:
    world = shop()
    world.zone("Z2", "other.example.")
    world.put("Z1", "www.shop.example", "CNAME", "web.other.example")
    world.put("Z2", "web.other.example", "CNAME", "10.other.example.")
    world.put("Z2", "10.other.example", "A", "10.0.0.1")
    world.put("Z1", "out.shop.example", "CNAME", "Far.Example")
    world.put("Z1", "loop.shop.example", "CNAME", "loop.shop.example")
    found = world.ask("www.shop.example")
    assert isinstance(found, Answer)
    assert [entry.type for entry in found.entries] == ["CNAME", "CNAME", "A"]
    assert world.values("www.shop.example", "CNAME") == ["web.other.example"]
    assert rcode(world.ask("loop.shop.example"))[0] == "SERVFAIL"
    far = Question("far.example.", "A")
    assert world.ask("out.shop.example") == Outside(far, alias=False)
    world.outside[far] = (Entry("far.example.", "A", 5, ("1.2.3.4",)),)
    assert world.values("out.shop.example") == ["1.2.3.4", "Far.Example"]


def test_aliases_take_the_place_of_what_they_lead_to() -> None:
    world = shop()
    world.zone("Z2", "other.example.")
    world.put("Z2", "web.other.example", "A", "10.0.0.1", ttl=42)
    world.put("Z1", "shop.example", "A", alias=Alias("Z2", "web.other.example.", False))
    found = world.ask("shop.example")
    assert isinstance(found, Answer)
    assert found.entries == (Entry("shop.example.", "A", 42, ("10.0.0.1",)),)
    name = "lb-1.us-east-1.elb.localhost."
    world.put("Z1", "lb.shop.example", "A", alias=Alias("Z35SXDOTRQ7X7K", name, True))
    assert world.ask("lb.shop.example") == Outside(Question(name, "A"), alias=True)
    world.outside[Question(name, "A")] = (Entry(name, "A", 5, ("127.64.0.1",)),)
    assert world.values("lb.shop.example") == ["127.64.0.1"]
    world.outside[Question(name, "A")] = ()
    assert rcode(world.ask("lb.shop.example")) == ("NOERROR", "SOA")


def test_weights() -> None:
    world = shop()
    for id, weight in (("a", 10), ("b", 90), ("c", 0)):
        more: dict[str, Any] = {"weight": weight, "identifier": id, "health_check": id}
        world.put("Z1", "www.shop.example", "A", f"10.0.0.{weight}", **more)
    assert world.spread("www.shop.example") == {"10.0.0.10": 10, "10.0.0.90": 90}
    world.unwell = {"b"}
    assert world.spread("www.shop.example") == {"10.0.0.10": 100}
    world.unwell = {"a", "b"}
    assert world.spread("www.shop.example") == {"10.0.0.0": 100}
    world.unwell = {"a", "b", "c"}  # where none is well, all count as well
    assert world.spread("www.shop.example") == {"10.0.0.10": 10, "10.0.0.90": 90}


def test_failover() -> None:
    world = shop()
    world.put("Z1", "www.shop.example", "A", "10.0.0.1", failover="PRIMARY", identifier="1", health_check="1")
    world.put("Z1", "www.shop.example", "A", "10.0.0.2", failover="SECONDARY", identifier="2", health_check="2")
    for unwell, expected in (
        (set[str](), "10.0.0.1"),
        ({"1"}, "10.0.0.2"),
        ({"2"}, "10.0.0.1"),
        ({"1", "2"}, "10.0.0.1"),
    ):
        world.unwell = unwell
        assert world.values("www.shop.example") == [expected]


def test_failover_of_an_alias_that_looks_at_its_target() -> None:
    world = shop()
    world.put("Z1", "blue.shop.example", "A", "10.0.0.1", multivalue=True, identifier="b", health_check="1")
    alias = Alias("Z1", "blue.shop.example.", True)
    world.put("Z1", "www.shop.example", "A", alias=alias, failover="PRIMARY", identifier="1")
    world.put("Z1", "www.shop.example", "A", "10.0.0.2", failover="SECONDARY", identifier="2")
    assert world.values("www.shop.example") == ["10.0.0.1"]
    world.unwell = {"1"}
    assert world.values("www.shop.example") == ["10.0.0.2"]


def test_latency_and_geolocation() -> None:
    world = shop()
    for number, region in enumerate(("us-east-1", "eu-central-1", "eu-west-1")):
        more: dict[str, Any] = {"region": region, "identifier": region, "health_check": region}
        world.put("Z1", "www.shop.example", "A", f"10.0.0.{number}", **more)
    assert world.values("www.shop.example") == ["10.0.0.2"]
    world.unwell = {"eu-west-1"}
    assert world.values("www.shop.example") == ["10.0.0.1"]
    world.put("Z1", "geo.shop.example", "A", "10.1.0.1", geo={"CountryCode": "DE"}, identifier="de")
    assert rcode(world.ask("geo.shop.example")) == ("NOERROR", "SOA")
    world.put("Z1", "geo.shop.example", "A", "10.1.0.2", geo={"CountryCode": "*"}, identifier="all")
    assert world.values("geo.shop.example") == ["10.1.0.2"]


def test_multivalue_gives_eight_that_are_well() -> None:
    world = shop()
    for number in range(12):
        more: dict[str, Any] = {"multivalue": True, "identifier": str(number), "health_check": str(number)}
        world.put("Z1", "www.shop.example", "A", f"10.0.0.{number}", **more)
    assert len(world.values("www.shop.example")) == 8
    world.unwell = {str(number) for number in range(9)}
    assert world.values("www.shop.example") == ["10.0.0.10", "10.0.0.11", "10.0.0.9"]
    world.unwell = {str(number) for number in range(12)}
    assert len(world.values("www.shop.example")) == 8


def test_which_zone_answers() -> None:
    world = shop()
    world.zone("Z2", "eu.shop.example.")
    world.put("Z1", "a.eu.shop.example", "A", "10.0.0.1")
    assert rcode(world.ask("a.eu.shop.example")) == ("NXDOMAIN", "SOA")  # the zone with the longer name
    world.zone("Z3", "shop.example.", private=True)
    world.put("Z1", "www.shop.example", "A", "10.0.0.1")
    assert world.values("www.shop.example") == ["10.0.0.1"]  # the private zone has no such name
    world.put("Z3", "www.shop.example", "A", "10.0.0.3")
    assert world.values("www.shop.example") == ["10.0.0.3"]
    world.put("Z3", "far.shop.example", "NS", "ns.far.example.")
    world.put("Z3", "www.far.shop.example", "A", "10.0.0.4")
    assert world.ask("www.far.shop.example") is None  # another server has been given it
    world.index.remove("Z3")
    assert world.values("www.shop.example") == ["10.0.0.1"]


def test_geolocation() -> None:
    world = shop()
    for value, geo in {
        "10.0.0.1": {"CountryCode": "*"},
        "10.0.0.2": {"ContinentCode": "NA"},
        "10.0.0.3": {"CountryCode": "US"},
        "10.0.0.4": {"CountryCode": "US", "SubdivisionCode": "CA"},
    }.items():
        world.put("Z1", "www.shop.example", "A", value, identifier=value, geo=geo, health_check=value)
    for at, value in (
        ((), "10.0.0.1"),
        (("EU", "DE"), "10.0.0.1"),
        (("NA", "CA"), "10.0.0.2"),
        (("NA", "US"), "10.0.0.3"),
        (("NA", "US", "CA"), "10.0.0.4"),
    ):
        world.at = at
        assert world.values("www.shop.example") == [value]
    world.unwell = {"10.0.0.4", "10.0.0.3"}
    assert world.values("www.shop.example") == ["10.0.0.2"]


def test_an_alias_to_a_load_balancer_without_healthy_targets() -> None:
    world = shop()
    alias = Alias("ZELB", "lb-1.us-east-1.elb.localhost.", True)
    world.put("Z1", "www.shop.example", "A", alias=alias, identifier="a", failover="PRIMARY")
    world.put("Z1", "www.shop.example", "A", "10.0.0.2", identifier="b", failover="SECONDARY")
    health = Question(alias.name, HEALTH)
    assert world.ask("www.shop.example") == Outside(health, alias=True)
    world.outside = {health: (), Question(alias.name, "A"): (Entry(alias.name, "A", 5, ("127.64.0.1",)),)}
    assert world.values("www.shop.example") == ["10.0.0.2"]
    world.outside[health] = (Entry("", HEALTH, 0, ()),)
    assert world.values("www.shop.example") == ["127.64.0.1"]
