"""What Cloud Map wants in DNS, and what has to change: pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from cloudlet.services.route53.names import BadName, canonical
from cloudlet.services.servicediscovery.dns import changes, record_sets
from cloudlet.services.servicediscovery.records import Instance, Namespace, Service

SPACE = Namespace("ns-1", "1", "us-east-1", "shop.local", "DNS_PRIVATE", 0.0, "")


def service(*kinds: str, policy: str = "MULTIVALUE", **more: Any) -> Service:
    records = [{"Type": kind, "TTL": 10} for kind in kinds]
    config = {"NamespaceId": "ns-1", "RoutingPolicy": policy, "DnsRecords": records}
    return Service("srv-1", "1", "us-east-1", "ns-1", more.pop("name", "orders"), 0.0, dns=config, **more)


def instance(id: str = "a", **attributes: str) -> Instance:
    given = {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "80", **attributes}
    return Instance(id, {name: value for name, value in given.items() if value})


def shown(sets: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(one["Name"], one["Type"], one["ResourceRecords"][0]["Value"]) for one in sets]


def test_records_of_an_instance() -> None:
    assert shown(record_sets(SPACE, service("A"), instance())) == [("orders.shop.local", "A", "10.0.0.1")]
    assert shown(record_sets(SPACE, service("A", name="."), instance())) == [("shop.local", "A", "10.0.0.1")]
    both = record_sets(SPACE, service("SRV"), instance(AWS_INSTANCE_IPV6="::1"))
    assert shown(both) == [
        ("orders.shop.local", "SRV", "1 1 80 a.orders.shop.local"),
        ("a.orders.shop.local", "A", "10.0.0.1"),
        ("a.orders.shop.local", "AAAA", "::1"),
    ]
    assert both[0]["MultiValueAnswer"] is True
    assert "SetIdentifier" not in both[1]
    weighted = record_sets(SPACE, service("A", policy="WEIGHTED"), instance())[0]
    assert (weighted["Weight"], weighted["SetIdentifier"]) == (1, "a")
    alias = record_sets(SPACE, service("A", policy="WEIGHTED"), Instance("a", {"AWS_ALIAS_DNS_NAME": "lb.localhost"}))
    assert alias[0]["AliasTarget"]["DNSName"] == "lb.localhost"
    assert record_sets(SPACE, service("A", http_only=True), instance()) == []


def test_only_the_well_are_in_dns() -> None:
    unwell = Instance("a", {"AWS_INSTANCE_IPV4": "10.0.0.1"}, custom_health="UNHEALTHY")
    assert record_sets(SPACE, service("A", custom_check={"FailureThreshold": 1}), unwell) == []
    assert len(record_sets(SPACE, service("A"), unwell)) == 1
    checked = record_sets(SPACE, service("A"), Instance("a", {"AWS_INSTANCE_IPV4": "10.0.0.1"}, check="c"))
    assert checked[0]["HealthCheckId"] == "c"


def test_changes() -> None:
    before = record_sets(SPACE, service("SRV"), instance())
    after = record_sets(
        SPACE, service("SRV"), instance(AWS_INSTANCE_PORT="81", AWS_INSTANCE_IPV4="", AWS_INSTANCE_IPV6="::1")
    )
    made = [(one["Action"], one["ResourceRecordSet"]["Type"]) for one in changes(before, after)]
    assert made == [("DELETE", "A"), ("UPSERT", "SRV"), ("UPSERT", "AAAA")]
    assert changes(before, before) == []
    # Route 53 gives names back in its own spelling: there is still nothing to do.
    listed = [{**one, "Name": canonical(one["Name"])} for one in before]
    assert changes(listed, before) == []
    with pytest.raises(BadName):
        changes([], record_sets(SPACE, service("SRV"), instance("a" * 64)))
