"""Route 53 through boto3. What DNS answers is in ``tests/unit/services/route53`` and ``tests/e2e/test_dns.py``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

Change = tuple[str, dict[str, Any]]


@pytest.fixture
def route53(cloud: LocalCloud) -> Any:
    return cloud.client("route53")


def zone(route53: Any, name: str = "shop.example", **more: Any) -> str:
    made = route53.create_hosted_zone(Name=name, CallerReference=more.pop("reference", name), **more)
    return str(made["HostedZone"]["Id"])


def record(name: str, kind: str, *values: str, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"Name": name, "Type": kind, **more}
    if values:
        given |= {"TTL": more.get("TTL", 60), "ResourceRecords": [{"Value": value} for value in values]}
    return given


def change(route53: Any, zone: str, *changes: Change) -> dict[str, Any]:
    batch = {"Changes": [{"Action": action, "ResourceRecordSet": one} for action, one in changes]}
    answer = route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
    return dict(answer["ChangeInfo"])


def listed(route53: Any, zone: str) -> list[tuple[str, str]]:
    """Names and types of all records but the zone's own."""
    sets = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return [(one["Name"], one["Type"]) for one in sets if one["Type"] not in ("NS", "SOA")]


def test_life_of_a_zone(cloud: LocalCloud, route53: Any) -> None:
    made = route53.create_hosted_zone(
        Name="Shop.Example", CallerReference="one", HostedZoneConfig={"Comment": "all of it"}
    )
    id = made["HostedZone"]["Id"]
    assert id.startswith("/hostedzone/Z")
    assert made["HostedZone"]["Name"] == "shop.example."
    assert made["HostedZone"]["Config"] == {"Comment": "all of it", "PrivateZone": False}
    assert made["ChangeInfo"]["Status"] == "INSYNC"
    assert len(made["DelegationSet"]["NameServers"]) == 4
    assert route53.get_change(Id=made["ChangeInfo"]["Id"])["ChangeInfo"]["Status"] == "INSYNC"
    assert refused(route53.create_hosted_zone, Name="x.example", CallerReference="one")[0] == "HostedZoneAlreadyExists"
    assert refused(route53.create_hosted_zone, Name="a..b", CallerReference="two")[0] == "InvalidDomainName"

    found = route53.get_hosted_zone(Id=id)
    assert found["DelegationSet"] == made["DelegationSet"]
    assert found["HostedZone"]["ResourceRecordSetCount"] == 2
    own = route53.list_resource_record_sets(HostedZoneId=id)["ResourceRecordSets"]
    assert [(one["Type"], one["TTL"]) for one in own] == [("NS", 172800), ("SOA", 900)]
    assert route53.update_hosted_zone_comment(Id=id, Comment="less")["HostedZone"]["Config"]["Comment"] == "less"

    change(route53, id, ("CREATE", record("www.shop.example", "A", "10.0.0.1")))
    assert refused(route53.delete_hosted_zone, Id=id)[0] == "HostedZoneNotEmpty"
    change(route53, id, ("DELETE", record("www.shop.example", "A", "10.0.0.1")))
    route53.delete_hosted_zone(Id=id)
    gone = id.rpartition("/")[2]
    assert refused(route53.get_hosted_zone, Id=id) == ("NoSuchHostedZone", f"No hosted zone found with ID: {gone}")

    for number in range(5):
        zone(route53, f"n{number}.example")
    pages = route53.get_paginator("list_hosted_zones").paginate(PaginationConfig={"PageSize": 2})
    names = [[one["Name"] for one in page["HostedZones"]] for page in pages]
    assert names == [["n0.example.", "n1.example."], ["n2.example.", "n3.example."], ["n4.example."]]
    by_name = route53.list_hosted_zones_by_name(DNSName="n3.example", MaxItems="1")
    assert [one["Name"] for one in by_name["HostedZones"]] == ["n3.example."]
    assert (by_name["IsTruncated"], by_name["NextDNSName"]) == (True, "n4.example.")
    assert route53.get_hosted_zone_count()["HostedZoneCount"] == 5
    assert cloud.client("route53", account="111111111111").list_hosted_zones()["HostedZones"] == []


def new_vpc(cloud: LocalCloud, **account: str) -> dict[str, str]:
    vpc = cloud.client("ec2", **account).create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    return {"VPCRegion": "us-east-1", "VPCId": vpc}


def test_a_private_zone_needs_a_vpc_that_is_there(route53: Any) -> None:
    gone = {"VPCRegion": "us-east-1", "VPCId": "vpc-0123456789abcdef0"}
    assert refused(zone, route53=route53, VPC=gone) == ("InvalidVPCId", "The VPC ID is invalid.")
    assert route53.list_hosted_zones()["HostedZones"] == []


def test_private_zones(cloud: LocalCloud, route53: Any) -> None:
    vpc, other = new_vpc(cloud), new_vpc(cloud)
    id = zone(route53, VPC=vpc)
    assert route53.get_hosted_zone(Id=id)["VPCs"] == [vpc]
    assert refused(zone, route53=route53, reference="again", VPC=vpc)[0] == "ConflictingDomainExists"
    route53.associate_vpc_with_hosted_zone(HostedZoneId=id, VPC=other)
    summaries = route53.list_hosted_zones_by_vpc(**other)["HostedZoneSummaries"]
    assert [one["Name"] for one in summaries] == ["shop.example."]
    route53.disassociate_vpc_from_hosted_zone(HostedZoneId=id, VPC=vpc)
    last = {"HostedZoneId": id, "VPC": other}
    assert refused(route53.disassociate_vpc_from_hosted_zone, **last)[0] == "LastVPCAssociation"
    public = zone(route53, reference="public")
    assert (
        refused(route53.associate_vpc_with_hosted_zone, HostedZoneId=public, VPC=vpc)[0] == "PublicZoneVPCAssociation"
    )


def test_a_batch_is_made_as_a_whole_or_not_at_all(route53: Any) -> None:
    id = zone(route53)
    www = record("www.shop.example", "A", "10.0.0.1")

    def wrong(*changes: Change) -> str:
        code, message = refused(lambda: change(route53, id, *changes))
        assert code == "InvalidChangeBatch", message
        return message

    change(route53, id, ("CREATE", www), ("UPSERT", record("txt.shop.example", "TXT", '"a" "b"')))
    assert listed(route53, id) == [("txt.shop.example.", "TXT"), ("www.shop.example.", "A")]
    exists = "[Tried to create resource record set [name='www.shop.example.', type='A'] but it already exists]"
    assert wrong(("CREATE", record("new.shop.example", "A", "10.0.0.2")), ("CREATE", www)) == exists
    assert wrong(("DELETE", record("www.shop.example", "A", "10.0.0.9"))) == (
        "[Tried to delete resource record set [name='www.shop.example.', type='A'] but the values provided do not "
        "match the current values]"
    )
    missing = "[Tried to delete resource record set [name='x.shop.example.', type='A'] but it was not found]"
    assert wrong(("DELETE", record("x.shop.example", "A", "10.0.0.9"))) == missing
    assert wrong(("CREATE", record("www.other.example", "A", "10.0.0.1"))) == (
        "[RRSet with DNS name www.other.example. is not permitted in zone shop.example.]"
    )
    assert "not permitted at apex" in wrong(("CREATE", record("shop.example", "CNAME", "a.example")))
    assert "conflicts with other records" in wrong(("CREATE", record("www.shop.example", "CNAME", "a.example")))
    assert "already exists" not in wrong(("CREATE", record("n.shop.example", "A", "1.2.3")))
    for kind, value, words in (
        ("A", "10.0.0.256", "ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) encountered with"),
        ("AAAA", "::x", "AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address) encountered with"),
        ("TXT", "bare", "InvalidCharacterString (Value should be enclosed in quotation marks) encountered with 'bare'"),
        ("TXT", f'"{"x" * 256}"', "CharacterStringTooLong (Value is too long) encountered with"),
        ("MX", "mail.shop.example", "MXRRDATANotTwoFields (MX record doesn't have 2 fields) encountered with"),
        ("SRV", "1 2 x y", "InvalidSRVRDATA"),
        ("CNAME", "a..b", "DomainLabelEmpty (Domain label is empty) encountered with 'a..b'"),
    ):
        assert words in wrong(("CREATE", record("bad.shop.example", kind, value)))
    assert "exactly one SOA" in wrong(("DELETE", _own(route53, id, "SOA")))
    # What an earlier change of the batch has made or removed counts for the later ones.
    moved = record("www.shop.example", "CNAME", "a.example")
    change(route53, id, ("DELETE", www), ("CREATE", moved), ("UPSERT", {**moved, "TTL": 5}))
    assert listed(route53, id) == [("txt.shop.example.", "TXT"), ("www.shop.example.", "CNAME")]

    alias = {"HostedZoneId": id.rpartition("/")[2], "EvaluateTargetHealth": False}
    nowhere = record("b.shop.example", "A", AliasTarget={**alias, "DNSName": "nowhere.shop.example"})
    assert wrong(("CREATE", nowhere)).endswith("but that target was not found]")
    both = record("b.shop.example", "A", "10.0.0.1", AliasTarget={**alias, "DNSName": "www.shop.example"})
    assert refused(lambda: change(route53, id, ("CREATE", both)))[0] == "InvalidInput"
    balancer = {**alias, "HostedZoneId": "Z35SXDOTRQ7X7K", "DNSName": "a-1.us-east-1.elb.localhost"}
    change(route53, id, ("CREATE", record("lb.shop.example", "A", AliasTarget=balancer)))

    weighted = {"Weight": 10, "SetIdentifier": "a"}
    change(route53, id, ("CREATE", record("w.shop.example", "A", "10.0.0.1", **weighted)))
    assert "a weighted rrset exists" in wrong(("CREATE", record("w.shop.example", "A", "10.0.0.2")))
    message = refused(lambda: change(route53, id, ("CREATE", record("w.shop.example", "A", "10.0.0.2", Weight=1))))[1]
    assert message.startswith("Invalid request: Missing field 'SetIdentifier' in Change with [Action=CREATE")
    checked = record("c.shop.example", "A", "10.0.0.2", HealthCheckId="nothing")
    assert refused(lambda: change(route53, id, ("CREATE", checked)))[0] == "NoSuchHealthCheck"
    near = record("g.shop.example", "A", "10.0.0.2", SetIdentifier="a", GeoProximityLocation={"AWSRegion": "us-east-1"})
    assert refused(lambda: change(route53, id, ("CREATE", near)))[0] == "NotImplemented"


def _own(route53: Any, zone: str, kind: str) -> dict[str, Any]:
    sets = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return dict(next(one for one in sets if one["Type"] == kind))


def test_listing_and_asking(cloud: LocalCloud, route53: Any) -> None:
    id = zone(route53)
    names = ["b.a.shop.example", "a.shop.example", "*.shop.example", "z.shop.example"]
    change(route53, id, *(("CREATE", record(name, "A", "10.0.0.1")) for name in names))
    for weight, identifier in enumerate("abc"):
        one = record("w.shop.example", "A", f"10.0.0.{weight}", Weight=weight, SetIdentifier=identifier)
        change(route53, id, ("CREATE", one))
    order = ["\\052.shop.example.", "a.shop.example.", "b.a.shop.example.", *["w.shop.example."] * 3, "z.shop.example."]
    assert [name for name, _ in listed(route53, id)] == order
    paginator = route53.get_paginator("list_resource_record_sets")
    pages = list(paginator.paginate(HostedZoneId=id, PaginationConfig={"PageSize": 3}))
    sizes = [len(page["ResourceRecordSets"]) for page in pages]
    assert sizes == [3, 3, 3]
    start = {"StartRecordName": "w.shop.example", "StartRecordType": "A", "StartRecordIdentifier": "b"}
    page = route53.list_resource_record_sets(HostedZoneId=id, MaxItems="1", **start)
    assert page["ResourceRecordSets"][0]["SetIdentifier"] == "b"
    assert (page["NextRecordName"], page["NextRecordIdentifier"]) == ("w.shop.example.", "c")

    def test(name: str, kind: str = "A") -> tuple[str, list[str]]:
        found = route53.test_dns_answer(HostedZoneId=id, RecordName=name, RecordType=kind)
        return found["ResponseCode"], found["RecordData"]

    assert test("a.shop.example") == ("NOERROR", ["10.0.0.1"])
    assert test("anything.shop.example") == ("NOERROR", ["10.0.0.1"])
    assert test("x.a.shop.example") == ("NXDOMAIN", [])
    assert test("a.shop.example", "MX") == ("NOERROR", [])
    assert test("w.shop.example")[1][0] in ("10.0.0.1", "10.0.0.2")
    cloud.kill()
    cloud.start()
    assert [name for name, _ in listed(route53, id)] == order
    assert test("a.shop.example") == ("NOERROR", ["10.0.0.1"])


def test_health_checks(cloud: LocalCloud, route53: Any) -> None:
    def create(reference: str, **config: Any) -> str:
        made = route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)
        return str(made["HealthCheck"]["Id"])

    closed = create("a", Type="TCP", IPAddress="127.0.0.1", Port=1, FailureThreshold=1, RequestInterval=10)
    assert create("a", Type="TCP", IPAddress="127.0.0.1", Port=1, FailureThreshold=1, RequestInterval=10) == closed
    assert refused(create, reference="a", Type="TCP", IPAddress="127.0.0.1", Port=2)[0] == "HealthCheckAlreadyExists"
    assert refused(create, reference="b", Type="TCP", Port=2)[0] == "InvalidInput"
    disabled = create("c", Type="HTTP", FullyQualifiedDomainName="shop.example", Disabled=True)
    config = route53.get_health_check(HealthCheckId=disabled)["HealthCheck"]["HealthCheckConfig"]
    assert (config["Port"], config["RequestInterval"], config["FailureThreshold"]) == (80, 30, 3)
    one = create("d", Type="CALCULATED", ChildHealthChecks=[closed, disabled], HealthThreshold=1)
    both = create("e", Type="CALCULATED", ChildHealthChecks=[closed, disabled], HealthThreshold=2)
    inverted = create("f", Type="CALCULATED", ChildHealthChecks=[both], HealthThreshold=1, Inverted=True)
    assert refused(create, reference="g", Type="CALCULATED", HealthThreshold=1, ChildHealthChecks=["x"])[0] == (
        "InvalidInput"
    )

    def status(id: str) -> str:
        found = route53.get_health_check_status(HealthCheckId=id)["HealthCheckObservations"]
        return str(found[0]["StatusReport"]["Status"])

    for _ in range(50):
        if status(closed).startswith("Failure"):
            break
        cloud.advance(10)
    assert status(one) == "Success: 1 of 2 health checks are healthy"
    assert status(both) == "Failure: 1 of 2 health checks are healthy"
    assert status(inverted).startswith("Success")
    reason = route53.get_health_check_last_failure_reason(HealthCheckId=closed)["HealthCheckObservations"]
    assert "refused" in reason[0]["StatusReport"]["Status"].lower()

    changed = route53.update_health_check(HealthCheckId=both, HealthThreshold=0, HealthCheckVersion=1)
    assert changed["HealthCheck"]["HealthCheckVersion"] == 2
    assert status(both).startswith("Success")
    old = {"HealthCheckId": both, "HealthThreshold": 1, "HealthCheckVersion": 1}
    assert refused(route53.update_health_check, **old)[0] == "HealthCheckVersionMismatch"
    pages = route53.get_paginator("list_health_checks").paginate(PaginationConfig={"PageSize": 2})
    assert [len(page["HealthChecks"]) for page in pages] == [2, 2, 1]
    route53.delete_health_check(HealthCheckId=closed)
    unknown = ("NoSuchHealthCheck", f"A health check with id {closed} does not exist.")
    assert refused(route53.get_health_check, HealthCheckId=closed) == unknown


def test_a_health_check_of_an_alarm(cloud: LocalCloud, route53: Any) -> None:
    alarms = cloud.client("cloudwatch")
    alarms.put_metric_alarm(
        AlarmName="load",
        Namespace="shop",
        MetricName="load",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    check = route53.create_health_check(
        CallerReference="a",
        HealthCheckConfig={
            "Type": "CLOUDWATCH_METRIC",
            "AlarmIdentifier": {"Region": "us-east-1", "Name": "load"},
            "InsufficientDataHealthStatus": "Healthy",
        },
    )["HealthCheck"]["Id"]
    id = zone(route53)
    primary = {"Failover": "PRIMARY", "SetIdentifier": "1", "HealthCheckId": check}
    change(
        route53,
        id,
        ("CREATE", record("www.shop.example", "A", "10.0.0.1", **primary)),
        ("CREATE", record("www.shop.example", "A", "10.0.0.2", Failover="SECONDARY", SetIdentifier="2")),
    )

    def answered() -> str:
        found = route53.test_dns_answer(HostedZoneId=id, RecordName="www.shop.example", RecordType="A")
        return str(found["RecordData"][0])

    assert answered() == "10.0.0.1"
    alarms.set_alarm_state(AlarmName="load", StateValue="ALARM", StateReason="a test")
    eventually(lambda: answered() == "10.0.0.2")
    alarms.delete_alarms(AlarmNames=["load"])
    eventually(lambda: answered() == "10.0.0.1")


def test_tags_and_delegation_sets(route53: Any) -> None:
    delegation = route53.create_reusable_delegation_set(CallerReference="a")["DelegationSet"]
    id = zone(route53, DelegationSetId=delegation["Id"])
    assert route53.get_hosted_zone(Id=id)["DelegationSet"]["NameServers"] == delegation["NameServers"]
    assert refused(route53.delete_reusable_delegation_set, Id=delegation["Id"])[0] == "DelegationSetInUse"
    listed = route53.list_hosted_zones(DelegationSetId=delegation["Id"])["HostedZones"]
    assert [one["Id"] for one in listed] == [id]
    plain = id.rpartition("/")[2]
    tags = [{"Key": "team", "Value": "a"}, {"Key": "cost", "Value": "b"}]
    route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=plain, AddTags=tags)
    route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=plain, RemoveTagKeys=["cost"])
    found = route53.list_tags_for_resources(ResourceType="hostedzone", ResourceIds=[plain])["ResourceTagSets"]
    assert found == [{"ResourceType": "hostedzone", "ResourceId": plain, "Tags": tags[:1]}]
    limit = route53.get_hosted_zone_limit(Type="MAX_RRSETS_BY_ZONE", HostedZoneId=id)
    assert (limit["Limit"]["Value"], limit["Count"]) == (10_000, 2)
    assert refused(route53.list_traffic_policies)[0] == "NotImplemented"


def test_another_accounts_vpc(cloud: LocalCloud, route53: Any) -> None:
    theirs = cloud.client("route53", account="111111111111")
    vpc, other = new_vpc(cloud), new_vpc(cloud, account="111111111111")
    place = {"HostedZoneId": zone(route53, VPC=vpc).rpartition("/")[2], "VPC": other}
    assert refused(theirs.associate_vpc_with_hosted_zone, **place)[0] == "NotAuthorizedException"
    route53.create_vpc_association_authorization(**place)
    listed = route53.list_vpc_association_authorizations(HostedZoneId=place["HostedZoneId"])
    assert listed["VPCs"] == [other]
    theirs.associate_vpc_with_hosted_zone(**place)
    route53.delete_vpc_association_authorization(**place)
    gone = refused(route53.delete_vpc_association_authorization, **place)
    assert gone[0] == "VPCAssociationAuthorizationNotFound"
    assert route53.get_hosted_zone(Id=place["HostedZoneId"])["VPCs"] == [vpc, other]
    assert refused(theirs.get_hosted_zone, Id=place["HostedZoneId"])[0] == "NoSuchHostedZone"


def test_cidr_collections(cloud: LocalCloud, route53: Any) -> None:
    made = route53.create_cidr_collection(Name="offices", CallerReference="a")["Collection"]
    assert route53.create_cidr_collection(Name="offices", CallerReference="a")["Collection"] == made
    taken = refused(route53.create_cidr_collection, Name="offices", CallerReference="b")
    assert taken[0] == "CidrCollectionAlreadyExistsException"

    def put(location: str, *blocks: str, action: str = "PUT", **more: Any) -> Any:
        change = {"LocationName": location, "Action": action, "CidrList": list(blocks)}
        return route53.change_cidr_collection(Id=made["Id"], Changes=[change], **more)

    changed = put("ulm", "10.1.0.0/16", "2001:db8::/32")
    assert route53.get_change(Id=changed["Id"])["ChangeInfo"]["Status"] == "INSYNC"
    put("bonn", "10.1.2.0/24", CollectionVersion=2)
    for blocks, code in (
        (["10.1.2.0/24"], "CidrBlockInUseException"),
        (["10.1.2.1/24"], "InvalidInput"),
        (["10.0.0.0/28"], "InvalidInput"),
    ):
        assert refused(lambda blocks=blocks: put("ulm", *blocks))[0] == code
    assert refused(lambda: put("x", "10.9.0.0/16", CollectionVersion=1))[0] == "CidrCollectionVersionMismatchException"
    locations = route53.list_cidr_locations(CollectionId=made["Id"])["CidrLocations"]
    assert [one["LocationName"] for one in locations] == ["bonn", "ulm"]
    first = route53.list_cidr_blocks(CollectionId=made["Id"], LocationName="ulm", MaxResults="1")
    assert (first["CidrBlocks"], first["NextToken"]) == ([{"CidrBlock": "10.1.0.0/16", "LocationName": "ulm"}], "1")

    id = zone(route53)
    for name in ("ulm", "bonn", "*"):
        where = {"CollectionId": made["Id"], "LocationName": name}
        www = record("www.shop.example", "TXT", f'"{name}"', SetIdentifier=name, CidrRoutingConfig=where)
        change(route53, id, ("CREATE", www))
    cloud.kill()
    cloud.start()
    asked = {"HostedZoneId": id, "RecordName": "www.shop.example", "RecordType": "TXT"}
    for client, name in (("10.1.2.3", "bonn"), ("10.1.3.3", "ulm"), ("2001:db8::1", "ulm"), ("10.2.0.1", "*")):
        answer = route53.test_dns_answer(EDNS0ClientSubnetIP=client, **asked)
        assert answer["RecordData"] == [f'"{name}"']
    assert refused(route53.delete_cidr_collection, Id=made["Id"])[0] == "CidrCollectionInUseException"
    put("ulm", "10.1.0.0/16", "2001:db8::/32", action="DELETE_IF_EXISTS")
    put("bonn", "10.1.2.0/24", action="DELETE_IF_EXISTS")
    route53.delete_cidr_collection(Id=made["Id"])
    assert refused(route53.list_cidr_locations, CollectionId=made["Id"])[0] == "NoSuchCidrCollectionException"


def test_what_the_schema_does_not_allow(route53: Any) -> None:
    id = zone(route53)
    www = record("www.shop.example", "A", "10.0.0.1")
    code, words = refused(lambda: change(route53, id, ("MAKE", www)))
    assert (code, words) == (
        "InvalidInput",
        "Invalid XML ; cvc-enumeration-valid: Value 'MAKE' is not facet-valid with respect to enumeration "
        "'[CREATE, DELETE, UPSERT]'. It must be a value from the enumeration.",
    )
    assert refused(lambda: change(route53, id, ("CREATE", {**www, "HealthCheckId": "x" * 65})))[0] == "InvalidInput"
    assert refused(lambda: change(route53, id, ("CREATE", {**www, "Name": "a b.shop.example"}))) == (
        "InvalidChangeBatch",
        "FATAL problem: UnsupportedCharacter (Value contains unsupported characters) encountered with ' '",
    )
    change(route53, id, ("CREATE", {**www, "Name": "a\\ b.shop.example"}))
    assert listed(route53, id) == [("a\\040b.shop.example.", "A")]


def test_a_stack_of_records(cloud: LocalCloud, route53: Any) -> None:
    def www(*values: str) -> dict[str, Any]:
        return {
            "Type": "AWS::Route53::RecordSet",
            "Properties": {
                "HostedZoneName": "shop.example.",
                "Name": "www.shop.example",
                "Type": "A",
                "TTL": "60",
                "ResourceRecords": list(values),
                "HealthCheckId": {"Ref": "Check"},
                "MultiValueAnswer": True,
                "SetIdentifier": "a",
            },
            "DependsOn": "Zone",
        }

    group = [
        {"Name": "a.shop.example", "Type": "TXT", "TTL": 60, "ResourceRecords": ['"a"']},
        {
            "Name": "shop.example",
            "Type": "TXT",
            "AliasTarget": {"DNSName": "a.shop.example", "HostedZoneId": {"Ref": "Zone"}},
        },
    ]
    template: dict[str, Any] = {
        "Resources": {
            "Zone": {
                "Type": "AWS::Route53::HostedZone",
                "Properties": {
                    "Name": "shop.example",
                    "HostedZoneTags": [{"Key": "team", "Value": "a"}],
                    "QueryLoggingConfig": {"CloudWatchLogsLogGroupArn": {"Fn::GetAtt": ["Log", "Arn"]}},
                },
            },
            "Log": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "dns"}},
            "Offices": {
                "Type": "AWS::Route53::CidrCollection",
                "Properties": {
                    "Name": "offices",
                    "Locations": [{"LocationName": "ulm", "CidrList": ["10.1.0.0/16"]}],
                },
            },
            "Check": {
                "Type": "AWS::Route53::HealthCheck",
                "Properties": {"HealthCheckConfig": {"Type": "TCP", "IPAddress": "127.0.0.1", "Port": "1"}},
            },
            "Www": www("10.0.0.1"),
            "Group": {
                "Type": "AWS::Route53::RecordSetGroup",
                "Properties": {"HostedZoneId": {"Ref": "Zone"}, "RecordSets": group},
            },
        },
        "Outputs": {"Www": {"Value": {"Ref": "Www"}}, "Zone": {"Value": {"Ref": "Zone"}}},
    }
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="dns", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName="dns", WaiterConfig={"Delay": 1})
    outputs = stacks.describe_stacks(StackName="dns")["Stacks"][0]["Outputs"]
    values = {one["OutputKey"]: one["OutputValue"] for one in outputs}
    assert values["Www"] == "www.shop.example"
    expected = [("shop.example.", "TXT"), ("a.shop.example.", "TXT"), ("www.shop.example.", "A")]
    assert listed(route53, values["Zone"]) == expected

    assert len(route53.list_query_logging_configs()["QueryLoggingConfigs"]) == 1
    (offices,) = route53.list_cidr_collections()["CidrCollections"]

    template["Resources"]["Www"] = www("10.0.0.2")
    del template["Resources"]["Zone"]["Properties"]["QueryLoggingConfig"]
    template["Resources"]["Offices"]["Properties"]["Locations"][0]["CidrList"] = ["10.2.0.0/16"]
    group.pop()
    stacks.update_stack(StackName="dns", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_update_complete").wait(StackName="dns", WaiterConfig={"Delay": 1})
    assert listed(route53, values["Zone"]) == expected[1:]
    sets = route53.list_resource_record_sets(HostedZoneId=values["Zone"])["ResourceRecordSets"]
    assert sets[-1]["ResourceRecords"] == [{"Value": "10.0.0.2"}]
    assert route53.list_query_logging_configs()["QueryLoggingConfigs"] == []
    blocks = route53.list_cidr_blocks(CollectionId=offices["Id"])["CidrBlocks"]
    assert blocks == [{"CidrBlock": "10.2.0.0/16", "LocationName": "ulm"}]
    # What somebody else has removed is no error.
    change(route53, values["Zone"], ("DELETE", sets[-1]))
    stacks.delete_stack(StackName="dns")
    stacks.get_waiter("stack_delete_complete").wait(StackName="dns", WaiterConfig={"Delay": 1})
    assert route53.list_hosted_zones()["HostedZones"] == []
    assert route53.list_health_checks()["HealthChecks"] == []
