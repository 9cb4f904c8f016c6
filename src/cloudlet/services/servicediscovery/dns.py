"""What Cloud Map wants in a hosted zone: pure functions from its records to Route 53's record sets and changes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cloudlet.services.route53.names import canonical
from cloudlet.services.servicediscovery.records import Instance, Namespace, Service

RecordSet = dict[str, Any]

_VALUES = {"A": "AWS_INSTANCE_IPV4", "AAAA": "AWS_INSTANCE_IPV6", "CNAME": "AWS_INSTANCE_CNAME"}
_BALANCERS = "Z35SXDOTRQ7X7K"  # the hosted zone of Elastic Load Balancing in us-east-1


def record_sets(namespace: Namespace, service: Service, instance: Instance) -> list[RecordSet]:
    """The record sets of one instance; none when its own report says that it is not well."""
    if service.dns is None or service.http_only or (service.custom_check and instance.custom_health != "HEALTHY"):
        return []
    name = namespace.name if service.name == "." else f"{service.name}.{namespace.name}"
    found = []
    for record in service.dns["DnsRecords"]:
        kind, ttl = record["Type"], record["TTL"]
        one: RecordSet = {"Name": name, "Type": kind, "SetIdentifier": instance.id, **_policy(service)}
        if alias := instance.attributes.get("AWS_ALIAS_DNS_NAME"):
            if kind in ("A", "AAAA"):
                target = {"HostedZoneId": _BALANCERS, "DNSName": alias, "EvaluateTargetHealth": True}
                found.append({**one, "AliasTarget": target})
            continue
        if kind == "SRV":
            host = f"{instance.id}.{name}"
            port = instance.attributes["AWS_INSTANCE_PORT"]
            found.append({**one, **_own(ttl, f"1 1 {port} {host}"), **_check(instance)})
            # What the SRV record names must be there too.
            for address in ("A", "AAAA"):
                if value := instance.attributes.get(_VALUES[address]):
                    found.append({"Name": host, "Type": address, **_own(ttl, value)})
        elif value := instance.attributes.get(_VALUES[kind]):
            found.append({**one, **_own(ttl, value), **_check(instance)})
    return found


def changes(before: Iterable[RecordSet], after: Iterable[RecordSet]) -> list[dict[str, Any]]:
    """The changes that make of one what the other wants; none where nothing differs. Raises BadName."""
    old, new = {_key(one): one for one in before}, {_key(one): one for one in after}
    gone = [{"Action": "DELETE", "ResourceRecordSet": one} for key, one in old.items() if key not in new]
    made = [{"Action": "UPSERT", "ResourceRecordSet": one} for key, one in new.items() if not _same(old.get(key), one)]
    return gone + made


def _policy(service: Service) -> dict[str, Any]:
    weighted = (service.dns or {}).get("RoutingPolicy") == "WEIGHTED"
    return {"Weight": 1} if weighted else {"MultiValueAnswer": True}


def _own(ttl: int, value: str) -> dict[str, Any]:
    return {"TTL": ttl, "ResourceRecords": [{"Value": value}]}


def _check(instance: Instance) -> dict[str, str]:
    return {"HealthCheckId": instance.check} if instance.check else {}


def _key(one: RecordSet) -> tuple[str, str, str]:
    return canonical(one["Name"]), one["Type"], one.get("SetIdentifier", "")


def _same(old: RecordSet | None, new: RecordSet) -> bool:
    if old is None:
        return False
    ours, theirs = dict(new), dict(old)
    for one in (ours, theirs):
        one["Name"] = canonical(one["Name"])
        if "AliasTarget" in one:
            one["AliasTarget"] = {**one["AliasTarget"], "DNSName": canonical(one["AliasTarget"]["DNSName"])}
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
