"""Cloud Map through boto3, and what DNS says of it."""

from __future__ import annotations

import json
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.testing import eventually
from cloudlet.testing.local import LocalCloud


@pytest.fixture
def discovery(cloud: LocalCloud) -> Any:
    return cloud.client("servicediscovery", config=Config(inject_host_prefix=False))


def ask(cloud: LocalCloud, name: str, kind: str) -> list[str]:
    """The sorted records of an answer; NXDOMAIN is shown as such."""
    server = cloud.control("dns")
    answer = dns.query.udp(dns.message.make_query(name, kind), server["address"], 5, server["port"])
    if answer.rcode() == dns.rcode.NXDOMAIN:
        return ["NXDOMAIN"]
    return sorted(record.to_text() for rrset in answer.answer for record in rrset)


def default_vpc(cloud: LocalCloud) -> str:
    return str(cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"])


def namespace(discovery: Any, kind: str, name: str, **more: Any) -> str:
    operation = getattr(discovery, f"create_{kind}_namespace")(Name=name, **more)["OperationId"]
    found = discovery.get_operation(OperationId=operation)["Operation"]
    assert (found["Status"], found["Type"]) == ("SUCCESS", "CREATE_NAMESPACE")
    return str(found["Targets"]["NAMESPACE"])


def service(discovery: Any, namespace: str, name: str, *kinds: str, policy: str = "MULTIVALUE", **more: Any) -> str:
    if kinds:
        records = [{"Type": kind, "TTL": 10} for kind in kinds]
        more["DnsConfig"] = {"RoutingPolicy": policy, "DnsRecords": records}
    return str(discovery.create_service(Name=name, NamespaceId=namespace, **more)["Service"]["Id"])


def register(discovery: Any, service: str, id: str, **attributes: str) -> None:
    names = {"ip": "AWS_INSTANCE_IPV4", "ip6": "AWS_INSTANCE_IPV6", "port": "AWS_INSTANCE_PORT"}
    names |= {"cname": "AWS_INSTANCE_CNAME", "alias": "AWS_ALIAS_DNS_NAME", "init": "AWS_INIT_HEALTH_STATUS"}
    given = {names.get(name, name): value for name, value in attributes.items()}
    discovery.register_instance(ServiceId=service, InstanceId=id, Attributes=given)


def test_instances_are_in_dns_at_once(cloud: LocalCloud, discovery: Any) -> None:
    shop = namespace(discovery, "private_dns", "shop.local", Vpc=default_vpc(cloud))
    orders = service(discovery, shop, "orders", "A", "SRV", HealthCheckCustomConfig={})
    for number in range(3):
        register(discovery, orders, f"i-{number}", ip=f"10.0.0.{number}", port="8080")
    assert ask(cloud, "orders.shop.local", "A") == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert ask(cloud, "orders.shop.local", "SRV")[1] == "1 1 8080 i-1.orders.shop.local."
    assert ask(cloud, "i-1.orders.shop.local", "A") == ["10.0.0.1"]

    unwell = {"ServiceId": orders, "InstanceId": "i-1", "Status": "UNHEALTHY"}
    discovery.update_instance_custom_health_status(**unwell)
    assert ask(cloud, "orders.shop.local", "A") == ["10.0.0.0", "10.0.0.2"]
    assert ask(cloud, "i-1.orders.shop.local", "A") == ["NXDOMAIN"]
    register(discovery, orders, "i-0", ip="10.0.9.9", port="80")
    discovery.deregister_instance(ServiceId=orders, InstanceId="i-2")
    register(discovery, orders, "i-3", ip="10.0.0.3", port="80", init="UNHEALTHY")
    assert ask(cloud, "orders.shop.local", "A") == ["10.0.9.9"]

    cloud.kill()
    cloud.start()
    assert ask(cloud, "orders.shop.local", "A") == ["10.0.9.9"]
    discovery.update_instance_custom_health_status(**{**unwell, "Status": "HEALTHY"})
    assert ask(cloud, "orders.shop.local", "A") == ["10.0.0.1", "10.0.9.9"]

    web = service(discovery, shop, "web", "CNAME", policy="WEIGHTED")
    register(discovery, web, "a", cname="orders.shop.local")
    assert ask(cloud, "web.shop.local", "A") == ["10.0.0.1", "10.0.9.9", "orders.shop.local."]
    both = service(discovery, shop, "both", "A", "AAAA", policy="WEIGHTED")
    register(discovery, both, "a", ip="10.1.0.1", ip6="fd00::1")
    register(discovery, both, "b", ip="10.1.0.2", ip6="fd00::2")
    assert {*(ask(cloud, "both.shop.local", "A")[0] for _ in range(40))} == {"10.1.0.1", "10.1.0.2"}
    assert ask(cloud, "both.shop.local", "AAAA")[0].startswith("fd00::")
    discovery.update_service(
        Id=both, Service={"DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 77}, {"Type": "AAAA", "TTL": 78}]}}
    )
    zones = cloud.client("route53")
    zone = discovery.get_namespace(Id=shop)["Namespace"]["Properties"]["DnsProperties"]["HostedZoneId"]
    sets = zones.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    assert {one["TTL"] for one in sets if one["Name"] == "both.shop.local."} == {77, 78}
    assert refused(zones.delete_hosted_zone, Id=zone)[0] == "AccessDenied"


def test_discovery_by_the_api(discovery: Any) -> None:
    http = namespace(discovery, "http", "shop", Description="all of it", Tags=[{"Key": "team", "Value": "a"}])
    orders = service(discovery, http, "orders", HealthCheckCustomConfig={})
    for number, colour in enumerate(("red", "green", "red")):
        register(discovery, orders, f"i-{number}", ip=f"10.0.0.{number}", colour=colour)

    def found(**more: Any) -> list[str]:
        answer = discovery.discover_instances(NamespaceName="shop", ServiceName="orders", **more)
        return sorted(one["InstanceId"] for one in answer["Instances"])

    assert found() == ["i-0", "i-1", "i-2"]
    assert found(QueryParameters={"colour": "red"}) == ["i-0", "i-2"]
    assert found(OptionalParameters={"colour": "green"}) == ["i-1"]
    assert found(OptionalParameters={"colour": "blue"}) == ["i-0", "i-1", "i-2"]
    assert len(found(MaxResults=2)) == 2
    revision = discovery.discover_instances_revision(NamespaceName="shop", ServiceName="orders")
    assert revision["InstancesRevision"] == 3
    for id in ("i-0", "i-1", "i-2"):
        discovery.update_instance_custom_health_status(ServiceId=orders, InstanceId=id, Status="UNHEALTHY")
    assert found(HealthStatus="HEALTHY") == []
    assert found(HealthStatus="HEALTHY_OR_ELSE_ALL") == found(HealthStatus="UNHEALTHY") == ["i-0", "i-1", "i-2"]
    status = discovery.get_instances_health_status(ServiceId=orders, Instances=["i-1"])["Status"]
    assert status == {"i-1": "UNHEALTHY"}
    pages = discovery.get_paginator("list_instances").paginate(ServiceId=orders, PaginationConfig={"PageSize": 2})
    assert [len(page["Instances"]) for page in pages] == [2, 1]
    instance = discovery.get_instance(ServiceId=orders, InstanceId="i-1")["Instance"]
    assert instance["Attributes"] == {"AWS_INSTANCE_IPV4": "10.0.0.1", "colour": "green"}

    assert refused(discovery.delete_service, Id=orders) == (
        "ResourceInUse",
        "Service contains registered instances; delete the instances before deleting the service",
    )
    assert refused(discovery.delete_namespace, Id=http)[0] == "ResourceInUse"
    assert refused(service, discovery=discovery, namespace=http, name="orders")[0] == "ServiceAlreadyExists"
    assert refused(discovery.create_http_namespace, Name="shop")[0] == "NamespaceAlreadyExists"
    unknown = {"ServiceId": orders, "InstanceId": "nobody"}
    assert refused(discovery.deregister_instance, **unknown) == ("InstanceNotFound", "nobody")
    assert refused(discovery.get_service, Id="srv-nothing") == ("ServiceNotFound", "srv-nothing")

    arn = discovery.get_service(Id=orders)["Service"]["Arn"]
    discovery.tag_resource(ResourceARN=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    discovery.untag_resource(ResourceARN=arn, TagKeys=["a"])
    assert discovery.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    discovery.update_service_attributes(ServiceId=orders, Attributes={"port": "80", "path": "/"})
    discovery.delete_service_attributes(ServiceId=orders, Attributes=["path"])
    attributes = discovery.get_service_attributes(ServiceId=orders)["ServiceAttributes"]
    assert attributes["Attributes"] == {"port": "80"}

    for number in range(3):
        discovery.deregister_instance(ServiceId=orders, InstanceId=f"i-{number}")
    discovery.delete_service(Id=orders)
    kinds = [{"Name": "TYPE", "Values": ["DEREGISTER_INSTANCE"]}]
    assert len(discovery.list_operations(Filters=kinds)["Operations"]) == 3
    deletion = discovery.delete_namespace(Id=http)["OperationId"]
    assert discovery.list_namespaces()["Namespaces"] == []
    # Operations are listed as long as their namespace is there; one can still be asked for.
    assert discovery.list_operations()["Operations"] == []
    assert discovery.get_operation(OperationId=deletion)["Operation"]["Status"] == "SUCCESS"


def test_bad_input_changes_nothing(cloud: LocalCloud, discovery: Any) -> None:
    shop = namespace(discovery, "private_dns", "shop.local", Vpc=default_vpc(cloud))
    http = namespace(discovery, "http", "api")
    assert discovery.get_namespace(Id=http)["Namespace"]["Properties"]["DnsProperties"] == {"SOA": {}}
    assert refused(service, discovery=discovery, namespace=http, name="two words")[0] == "InvalidInput"
    orders = service(discovery, shop, "orders", "SRV")
    assert "AWS_INSTANCE_PORT" in refused(register, discovery=discovery, service=orders, id="a", ip="10.0.0.1")[1]
    assert (
        refused(register, discovery=discovery, service=orders, id="a", ip="10.0.0.256", port="1")[0] == "InvalidInput"
    )
    assert refused(register, discovery=discovery, service=orders, id="a" * 64, ip="10.0.0.1", port="1")[0] == (
        "InvalidInput"
    )
    assert discovery.list_instances(ServiceId=orders)["Instances"] == []
    assert ask(cloud, "orders.shop.local", "SRV") == ["NXDOMAIN"]
    check = {"Type": "HTTP"}
    private = {"discovery": discovery, "namespace": shop, "name": "x"}
    assert refused(service, **private, HealthCheckConfig=check)[0] == "InvalidInput"
    with pytest.raises(ClientError, match="CNAME"):
        service(discovery, shop, "x", "CNAME")
    with pytest.raises(ClientError, match="DnsConfig"):
        service(discovery, http, "x", "A")


def test_a_stack_of_cloud_map(cloud: LocalCloud, discovery: Any) -> None:
    template = {
        "Resources": {
            "Space": {
                "Type": "AWS::ServiceDiscovery::PrivateDnsNamespace",
                "Properties": {"Name": "shop.local", "Vpc": default_vpc(cloud)},
            },
            "Orders": {
                "Type": "AWS::ServiceDiscovery::Service",
                "Properties": {
                    "Name": "orders",
                    "NamespaceId": {"Ref": "Space"},
                    "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": "60"}], "RoutingPolicy": "MULTIVALUE"},
                    "HealthCheckCustomConfig": {"FailureThreshold": 1},
                },
            },
            "One": {
                "Type": "AWS::ServiceDiscovery::Instance",
                "Properties": {
                    "ServiceId": {"Ref": "Orders"},
                    "InstanceId": "one",
                    "InstanceAttributes": {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": 80},
                },
            },
        },
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Orders", "Arn"]}}},
    }
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="map", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName="map", WaiterConfig={"Delay": 1})
    assert ask(cloud, "orders.shop.local", "A") == ["10.0.0.1"]
    template["Resources"]["One"]["Properties"]["InstanceAttributes"]["AWS_INSTANCE_IPV4"] = "10.0.0.2"  # type: ignore[index]
    stacks.update_stack(StackName="map", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_update_complete").wait(StackName="map", WaiterConfig={"Delay": 1})
    assert ask(cloud, "orders.shop.local", "A") == ["10.0.0.2"]
    stacks.delete_stack(StackName="map")
    stacks.get_waiter("stack_delete_complete").wait(StackName="map", WaiterConfig={"Delay": 1})
    assert discovery.list_namespaces()["Namespaces"] == []
    assert cloud.client("route53").list_hosted_zones()["HostedZones"] == []


def test_a_namespace_in_no_vpc_is_an_operation_that_fails(cloud: LocalCloud) -> None:
    discovery = cloud.client("servicediscovery")
    gone = "vpc-00000000000000000"
    asked = discovery.create_private_dns_namespace(Name="shop.local", Vpc=gone, CreatorRequestId="1")["OperationId"]
    failed = discovery.get_operation(OperationId=asked)["Operation"]
    assert (failed["Status"], failed["ErrorCode"]) == ("FAIL", "CANNOT_CREATE_HOSTED_ZONE")
    assert failed["ErrorMessage"] == (
        "The VPC ID is invalid. (Service: AmazonRoute53; Status Code: 400; Error Code: InvalidVPCId)"
    )
    assert discovery.list_namespaces()["Namespaces"] == []
    stacks = cloud.client("cloudformation")
    properties = {"Name": "shop.local", "Vpc": gone}
    template = {"Resources": {"N": {"Type": "AWS::ServiceDiscovery::PrivateDnsNamespace", "Properties": properties}}}
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(template), OnFailure="DO_NOTHING")
    eventually(lambda: stacks.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"] == "CREATE_FAILED")
    reasons = [
        one.get("ResourceStatusReason", "") for one in stacks.describe_stack_events(StackName="s")["StackEvents"]
    ]
    assert any("The VPC ID is invalid." in reason for reason in reasons)
    # The name is free.
    namespace(discovery, "private_dns", "shop.local", Vpc=default_vpc(cloud))
