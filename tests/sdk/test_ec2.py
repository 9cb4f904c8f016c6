"""EC2's networks through boto3, and as stacks make them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.services.ec2 import rules
from cloudlet.testing.local import LocalCloud


@pytest.fixture
def ec2(cloud: LocalCloud) -> Any:
    return cloud.client("ec2")


def refused(call: Any, **parameters: Any) -> str:
    """The code of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def by(**filters: Any) -> list[dict[str, Any]]:
    return [
        {"Name": name.replace("_", "-"), "Values": value if isinstance(value, list) else [value]}
        for name, value in filters.items()
    ]


def new_vpc(ec2: Any, block: str = "10.0.0.0/16") -> str:
    return str(ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"])


def new_subnet(ec2: Any, vpc: str, block: str = "10.0.1.0/24") -> str:
    return str(ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"])


def test_the_default_network_is_there_and_stays(cloud: LocalCloud, ec2: Any) -> None:
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    assert (vpc["CidrBlock"], vpc["IsDefault"]) == ("172.31.0.0/16", True)
    subnets = ec2.describe_subnets(Filters=by(default_for_az="true"))["Subnets"]
    zones = [zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]]
    assert [subnet["AvailabilityZone"] for subnet in subnets] == zones
    assert {subnet["AvailableIpAddressCount"] for subnet in subnets} == {4091}
    (table,) = ec2.describe_route_tables()["RouteTables"]
    (gateway,) = ec2.describe_internet_gateways()["InternetGateways"]
    assert table["Associations"][0]["Main"]
    assert table["Routes"][1]["GatewayId"] == gateway["InternetGatewayId"]
    (group,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    assert group["IpPermissions"][0]["UserIdGroupPairs"][0]["GroupId"] == group["GroupId"]
    (acl,) = ec2.describe_network_acls()["NetworkAcls"]
    assert len(acl["Associations"]) == len(subnets)
    assert ec2.describe_instances()["Reservations"] == []
    there = cloud.client("ec2", "eu-west-1").describe_vpcs()["Vpcs"]
    assert there[0]["VpcId"] != vpc["VpcId"]
    cloud.kill()
    cloud.start()
    assert cloud.client("ec2").describe_vpcs()["Vpcs"] == [vpc]
    assert refused(cloud.client("ec2").create_default_vpc) == "DefaultVpcAlreadyExists"


def test_vpcs_and_subnets(ec2: Any) -> None:
    assert refused(ec2.create_vpc, CidrBlock="10.0.0.0/8") == "InvalidVpc.Range"
    assert refused(ec2.create_vpc, CidrBlock="nonsense") == "InvalidParameterValue"
    assert refused(ec2.create_vpc, CidrBlock="10.0.0.0/16", DryRun=True) == "DryRunOperation"
    vpc = new_vpc(ec2)
    assert refused(ec2.delete_vpc, VpcId="vpc-0123456789abcdef0") == "InvalidVpcID.NotFound"
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    shown = ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")
    assert shown["EnableDnsHostnames"] == {"Value": True}
    subnet = new_subnet(ec2, vpc)
    assert refused(ec2.create_subnet, VpcId=vpc, CidrBlock="10.0.1.128/25") == "InvalidSubnet.Conflict"
    assert refused(ec2.create_subnet, VpcId=vpc, CidrBlock="10.1.0.0/24") == "InvalidSubnet.Range"
    added = ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock="10.1.0.0/16")["CidrBlockAssociation"]
    other = new_subnet(ec2, vpc, "10.1.0.0/24")
    assert refused(ec2.disassociate_vpc_cidr_block, AssociationId=added["AssociationId"]) == "OperationNotPermitted"
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    found = ec2.describe_subnets(Filters=by(vpc_id=vpc, cidr_block="10.1.*"))["Subnets"]
    assert [one["SubnetId"] for one in found] == [other]
    assert refused(ec2.describe_subnets, Filters=by(nonsense="a")) == "InvalidParameterValue"
    first = ec2.describe_subnets(MaxResults=5)
    rest = ec2.describe_subnets(MaxResults=5, NextToken=first["NextToken"])
    assert (len(first["Subnets"]), len(rest["Subnets"])) == (5, 3)
    ec2.create_tags(Resources=[subnet, vpc], Tags=[{"Key": "Name", "Value": "mine"}])
    tagged = ec2.describe_tags(Filters=by(key="Name"))["Tags"]
    assert {(tag["ResourceId"], tag["ResourceType"]) for tag in tagged} == {(subnet, "subnet"), (vpc, "vpc")}
    assert [one["VpcId"] for one in ec2.describe_vpcs(Filters=by(**{"tag:Name": "mi?e"}))["Vpcs"]] == [vpc]
    for id in (subnet, other):
        ec2.delete_subnet(SubnetId=id)
    ec2.delete_vpc(VpcId=vpc)
    assert ec2.describe_route_tables(Filters=by(vpc_id=vpc))["RouteTables"] == []


def test_routes_lead_where_something_is(ec2: Any) -> None:
    vpc = new_vpc(ec2)
    subnet = new_subnet(ec2, vpc)
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    everywhere = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    assert refused(ec2.create_route, **everywhere, GatewayId=gateway) == "InvalidParameterValue"
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    assert ec2.create_route(**everywhere, GatewayId=gateway)["Return"] is True
    address = ec2.allocate_address(Domain="vpc")
    nat = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address["AllocationId"])["NatGateway"]
    ec2.get_waiter("nat_gateway_available").wait(NatGatewayIds=[nat["NatGatewayId"]])
    assert nat["NatGatewayAddresses"][0]["PublicIp"] == address["PublicIp"]
    assert refused(ec2.create_route, **everywhere, NatGatewayId=nat["NatGatewayId"]) == "RouteAlreadyExists"
    ec2.replace_route(**everywhere, NatGatewayId=nat["NatGatewayId"])
    association = ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)["AssociationId"]
    assert refused(ec2.delete_route_table, RouteTableId=table) == "DependencyViolation"
    assert refused(ec2.release_address, AllocationId=address["AllocationId"]) == "InvalidIPAddress.InUse"
    assert refused(ec2.detach_internet_gateway, InternetGatewayId=gateway, VpcId=vpc) == "DependencyViolation"
    assert refused(ec2.delete_subnet, SubnetId=subnet) == "DependencyViolation"

    ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])
    assert ec2.describe_nat_gateways(NatGatewayIds=[nat["NatGatewayId"]])["NatGateways"][0]["State"] == "deleted"
    (shown,) = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    assert [route["State"] for route in shown["Routes"]] == ["active", "blackhole"]
    ec2.release_address(AllocationId=address["AllocationId"])
    ec2.delete_route(**everywhere)
    assert refused(ec2.delete_route, **everywhere) == "InvalidRoute.NotFound"
    ec2.disassociate_route_table(AssociationId=association)
    ec2.delete_route_table(RouteTableId=table)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    assert refused(ec2.detach_internet_gateway, InternetGatewayId=gateway, VpcId=vpc) == "Gateway.NotAttached"
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)


def test_security_groups(ec2: Any) -> None:
    vpc = new_vpc(ec2)
    make = {"GroupName": "web", "Description": "web", "VpcId": vpc}
    web = ec2.create_security_group(**make)["GroupId"]
    db = ec2.create_security_group(**make | {"GroupName": "db"})["GroupId"]
    assert refused(ec2.create_security_group, **make) == "InvalidGroup.Duplicate"
    http = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}
    open_to_all = [{**http, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "inside"}]}]
    (rule,) = ec2.authorize_security_group_ingress(GroupId=web, IpPermissions=open_to_all)["SecurityGroupRules"]
    assert (rule["CidrIpv4"], rule["Description"], rule["IsEgress"]) == ("10.0.0.0/8", "inside", False)
    again = {"GroupId": web, "IpPermissions": open_to_all}
    assert refused(ec2.authorize_security_group_ingress, **again) == "InvalidPermission.Duplicate"
    from_web = [{"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": web}]}]
    ec2.authorize_security_group_ingress(GroupId=db, IpPermissions=from_web)
    assert refused(ec2.delete_security_group, GroupId=web) == "DependencyViolation"
    (shown,) = ec2.describe_security_groups(Filters=by(**{"ip-permission.group-id": web}))["SecurityGroups"]
    assert shown["GroupId"] == db
    assert shown["IpPermissionsEgress"][0]["IpRanges"] == [{"CidrIp": "0.0.0.0/0"}]

    listed = ec2.describe_security_group_rules(Filters=by(group_id=[web, db]))["SecurityGroupRules"]
    of_web = [one for one in listed if one["GroupId"] == web]
    of_db = [one for one in listed if one["GroupId"] == db]
    assert rules.allowed(of_web, "tcp", 80, peer_address="10.1.2.3")
    assert not rules.allowed(of_web, "tcp", 81, peer_address="10.1.2.3")
    assert not rules.allowed(of_web, "tcp", 80, peer_address="11.1.2.3")
    assert rules.allowed(of_web, "udp", 53, peer_address="11.1.2.3", egress=True)
    assert rules.allowed(of_db, "tcp", 5432, peer_groups=[web])
    assert not rules.allowed(of_db, "tcp", 5432, peer_groups=[db])

    ec2.modify_security_group_rules(
        GroupId=web,
        SecurityGroupRules=[
            {
                "SecurityGroupRuleId": rule["SecurityGroupRuleId"],
                "SecurityGroupRule": {**http, "CidrIpv4": "10.9.0.0/16"},
            }
        ],
    )
    assert refused(ec2.revoke_security_group_ingress, **again) == "InvalidPermission.NotFound"
    ec2.revoke_security_group_ingress(GroupId=web, SecurityGroupRuleIds=[rule["SecurityGroupRuleId"]])
    ec2.delete_security_group(GroupId=db)
    ec2.delete_security_group(GroupId=web)
    assert refused(ec2.describe_security_groups, GroupIds=[web]) == "InvalidGroup.NotFound"
    assert refused(ec2.describe_security_groups, GroupIds=["web"]) == "InvalidGroupId.Malformed"


def test_interfaces_take_addresses(ec2: Any) -> None:
    vpc = new_vpc(ec2)
    subnet = new_subnet(ec2, vpc, "10.0.0.0/28")
    first = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]
    assert (first["PrivateIpAddress"], first["PrivateDnsName"]) == ("10.0.0.4", "ip-10-0-0-4.ec2.internal")
    taken = {"SubnetId": subnet, "PrivateIpAddress": "10.0.0.4"}
    assert refused(ec2.create_network_interface, **taken) == "InvalidIPAddress.InUse"
    second = ec2.create_network_interface(SubnetId=subnet, SecondaryPrivateIpAddressCount=9)["NetworkInterface"]
    assert ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"] == 0
    full = refused(ec2.create_network_interface, SubnetId=subnet)
    assert full == "InsufficientFreeAddressesInSubnet"
    address = ec2.allocate_address(Domain="vpc")
    associate = {"AllocationId": address["AllocationId"], "NetworkInterfaceId": first["NetworkInterfaceId"]}
    ec2.associate_address(**associate)
    (shown,) = ec2.describe_network_interfaces(Filters=by(**{"association.public-ip": address["PublicIp"]}))[
        "NetworkInterfaces"
    ]
    assert shown["NetworkInterfaceId"] == first["NetworkInterfaceId"]
    for one in (first, second):
        ec2.delete_network_interface(NetworkInterfaceId=one["NetworkInterfaceId"])
    assert ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"] == 11
    assert "AssociationId" not in ec2.describe_addresses()["Addresses"][0]


def test_key_pairs_are_real(ec2: Any) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    made = ec2.create_key_pair(KeyName="mine")
    assert load_pem_private_key(made["KeyMaterial"].encode(), None).key_size == 2048  # type: ignore[union-attr]
    (shown,) = ec2.describe_key_pairs(KeyNames=["mine"], IncludePublicKey=True)["KeyPairs"]
    assert shown["KeyFingerprint"] == made["KeyFingerprint"]
    ec2.delete_key_pair(KeyName="mine")
    ec2.import_key_pair(KeyName="mine", PublicKeyMaterial=shown["PublicKey"].encode())
    assert refused(ec2.create_key_pair, KeyName="mine") == "InvalidKeyPair.Duplicate"


def test_gateways_between_networks(cloud: LocalCloud, ec2: Any) -> None:
    vpc, other = new_vpc(ec2), new_vpc(ec2, "10.1.0.0/16")
    subnet = new_subnet(ec2, vpc)
    tag = {"ResourceType": "transit-gateway", "Tags": [{"Key": "Name", "Value": "hub"}]}
    hub = ec2.create_transit_gateway(TagSpecifications=[tag])["TransitGateway"]
    table = hub["Options"]["AssociationDefaultRouteTableId"]
    attach = {"TransitGatewayId": hub["TransitGatewayId"], "VpcId": vpc, "SubnetIds": [subnet]}
    made = ec2.create_transit_gateway_vpc_attachment(**attach)["TransitGatewayVpcAttachment"]
    assert refused(ec2.create_transit_gateway_vpc_attachment, **attach) == "DuplicateTransitGatewayAttachment"
    id = made["TransitGatewayAttachmentId"]
    (shown,) = ec2.describe_transit_gateway_attachments(Filters=by(**{"association.state": "associated"}))[
        "TransitGatewayAttachments"
    ]
    assert (shown["ResourceId"], shown["Association"]["TransitGatewayRouteTableId"]) == (vpc, table)
    blackhole = {"TransitGatewayRouteTableId": table, "DestinationCidrBlock": "10.9.0.0/16"}
    ec2.create_transit_gateway_route(**blackhole, Blackhole=True)
    assert refused(ec2.create_transit_gateway_route, **blackhole, Blackhole=True) == "RouteAlreadyExists"
    search = {"TransitGatewayRouteTableId": table, "Filters": by(state=["active", "blackhole"])}
    routes = ec2.search_transit_gateway_routes(**search)["Routes"]
    assert [(one["DestinationCidrBlock"], one["Type"], one["State"]) for one in routes] == [
        ("10.9.0.0/16", "static", "blackhole"),
        ("10.0.0.0/16", "propagated", "active"),
    ]
    assert refused(ec2.delete_transit_gateway, TransitGatewayId=hub["TransitGatewayId"]) == "IncorrectState"
    ec2.delete_transit_gateway_vpc_attachment(TransitGatewayAttachmentId=id)
    ec2.delete_transit_gateway(TransitGatewayId=hub["TransitGatewayId"])
    gone = {"TransitGatewayIds": [hub["TransitGatewayId"]]}
    assert refused(ec2.describe_transit_gateways, **gone) == "InvalidTransitGatewayID.NotFound"

    customer = ec2.create_customer_gateway(Type="ipsec.1", IpAddress="192.0.2.7", BgpAsn=65000)["CustomerGateway"]
    private = ec2.create_vpn_gateway(Type="ipsec.1")["VpnGateway"]["VpnGatewayId"]
    ec2.attach_vpn_gateway(VpnGatewayId=private, VpcId=other)
    (main,) = ec2.describe_route_tables(Filters=by(vpc_id=other))["RouteTables"]
    ec2.create_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="192.168.0.0/16", GatewayId=private)
    ec2.enable_vgw_route_propagation(RouteTableId=main["RouteTableId"], GatewayId=private)
    vpn = ec2.create_vpn_connection(
        Type="ipsec.1",
        CustomerGatewayId=customer["CustomerGatewayId"],
        VpnGatewayId=private,
        Options={"StaticRoutesOnly": True},
    )["VpnConnection"]
    assert [tunnel["Status"] for tunnel in vpn["VgwTelemetry"]] == ["DOWN", "DOWN"], "nobody has dialled in"
    assert refused(ec2.delete_vpn_gateway, VpnGatewayId=private) == "IncorrectState"
    assert refused(ec2.delete_vpc, VpcId=other) == "DependencyViolation"
    ec2.delete_vpn_connection(VpnConnectionId=vpn["VpnConnectionId"])
    ec2.detach_vpn_gateway(VpnGatewayId=private, VpcId=other)
    ec2.delete_vpn_gateway(VpnGatewayId=private)
    state = ec2.describe_vpn_gateways(VpnGatewayIds=[private])["VpnGateways"][0]["State"]
    assert state == "deleted"
    cloud.client("ec2").delete_customer_gateway(CustomerGatewayId=customer["CustomerGatewayId"])
    cloud.advance(3601)
    assert ec2.describe_vpn_gateways()["VpnGateways"] == []


def test_prefix_lists_have_versions_and_users(ec2: Any) -> None:
    make = {"PrefixListName": "offices", "AddressFamily": "IPv4", "MaxEntries": 2}
    made = ec2.create_managed_prefix_list(**make, Entries=[{"Cidr": "10.0.0.0/8"}])["PrefixList"]
    id = made["PrefixListId"]
    ec2.modify_managed_prefix_list(PrefixListId=id, CurrentVersion=1, RemoveEntries=[{"Cidr": "10.0.0.0/8"}])
    stale = {"PrefixListId": id, "PreviousVersion": 1, "CurrentVersion": 1}
    assert refused(ec2.restore_managed_prefix_list_version, **stale) == "PrefixListVersionMismatch"
    ec2.restore_managed_prefix_list_version(PrefixListId=id, PreviousVersion=1, CurrentVersion=2)
    entries = ec2.get_managed_prefix_list_entries(PrefixListId=id)["Entries"]
    assert [entry["Cidr"] for entry in entries] == ["10.0.0.0/8"]
    vpc = new_vpc(ec2)
    group = ec2.create_security_group(GroupName="in", Description="in", VpcId=vpc)["GroupId"]
    rule = {"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": id}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    again = {"GroupId": group, "IpPermissions": [rule, rule]}
    assert refused(ec2.authorize_security_group_ingress, **again) == "InvalidParameterValue"
    (user,) = ec2.get_managed_prefix_list_associations(PrefixListId=id)["PrefixListAssociations"]
    assert user["ResourceId"] == group
    names = [one["GroupName"] for one in ec2.get_security_groups_for_vpc(VpcId=vpc)["SecurityGroupForVpcs"]]
    assert sorted(names) == ["default", "in"]
    ec2.delete_managed_prefix_list(PrefixListId=id)
    (left,) = ec2.describe_managed_prefix_lists(PrefixListIds=[id])["PrefixLists"]
    assert left["State"] == "delete-failed"


def test_endpoint_services(cloud: LocalCloud, ec2: Any) -> None:
    subnet = new_subnet(ec2, new_vpc(ec2))
    elb = cloud.client("elbv2")
    balancer = elb.create_load_balancer(Name="inner", Type="network", Scheme="internal", Subnets=[subnet])
    arn = balancer["LoadBalancers"][0]["LoadBalancerArn"]
    assert refused(ec2.create_vpc_endpoint_service_configuration) == "InvalidParameter"
    made = ec2.create_vpc_endpoint_service_configuration(NetworkLoadBalancerArns=[arn])["ServiceConfiguration"]
    (shown,) = ec2.describe_vpc_endpoint_services(ServiceNames=[made["ServiceName"]])["ServiceDetails"]
    assert (shown["AvailabilityZones"], shown["AcceptanceRequired"]) == (["us-east-1a"], True)
    everyone = {"ServiceId": made["ServiceId"], "AddAllowedPrincipals": ["*"]}
    ec2.modify_vpc_endpoint_service_permissions(**everyone)
    allowed = ec2.describe_vpc_endpoint_service_permissions(ServiceId=made["ServiceId"])["AllowedPrincipals"]
    assert [one["PrincipalType"] for one in allowed] == ["All"]
    ours = ec2.describe_vpc_endpoint_services(Filters=by(owner="amazon", service_type="Gateway"))["ServiceNames"]
    assert sorted(name.rpartition(".")[2] for name in ours) == ["dynamodb", "s3"]
    asked = {"ServiceIds": [made["ServiceId"], "vpce-svc-0123456789abcdef0"]}
    (failed,) = ec2.delete_vpc_endpoint_service_configurations(**asked)["Unsuccessful"]
    assert failed["Error"]["Code"] == "InvalidVpcEndpointService.NotFound"


def test_a_stack_joins_networks(cloud: LocalCloud, ec2: Any) -> None:
    stacks = cloud.client("cloudformation")
    template = {
        "Resources": {
            "Vpc": resource("VPC", CidrBlock="10.0.0.0/16"),
            "Subnet": resource("Subnet", VpcId=ref("Vpc"), CidrBlock="10.0.0.0/24"),
            "Block6": resource("VPCCidrBlock", VpcId=ref("Vpc"), AmazonProvidedIpv6CidrBlock=True),
            "Subnet6": resource(
                "SubnetCidrBlock",
                SubnetId=ref("Subnet"),
                Ipv6CidrBlock={
                    "Fn::Select": [0, {"Fn::Cidr": [{"Fn::Select": [0, of("Vpc", "Ipv6CidrBlocks")]}, 1, 64]}]
                },
            )
            | {"DependsOn": "Block6"},
            "Hub": resource("TransitGateway", DefaultRouteTableAssociation="disable", Description="one"),
            "Attached": resource(
                "TransitGatewayVpcAttachment",
                TransitGatewayId=ref("Hub"),
                VpcId=ref("Vpc"),
                SubnetIds=[ref("Subnet")],
            ),
            "Routes": resource("TransitGatewayRouteTable", TransitGatewayId=ref("Hub")),
            "Follows": resource(
                "TransitGatewayRouteTableAssociation",
                TransitGatewayAttachmentId=ref("Attached"),
                TransitGatewayRouteTableId=ref("Routes"),
            ),
            "Default": resource(
                "TransitGatewayRoute",
                TransitGatewayAttachmentId=ref("Attached"),
                TransitGatewayRouteTableId=ref("Routes"),
                DestinationCidrBlock="0.0.0.0/0",
            ),
            "Customer": resource("CustomerGateway", Type="ipsec.1", IpAddress="192.0.2.7", BgpAsn=65000),
            "Private": resource("VPNGateway", Type="ipsec.1"),
            "Serves": resource("VPCGatewayAttachment", VpcId=ref("Vpc"), VpnGatewayId=ref("Private")),
            "Vpn": resource(
                "VPNConnection",
                Type="ipsec.1",
                CustomerGatewayId=ref("Customer"),
                VpnGatewayId=ref("Private"),
                StaticRoutesOnly=True,
            ),
            "Office": resource("VPNConnectionRoute", VpnConnectionId=ref("Vpn"), DestinationCidrBlock="192.168.0.0/16"),
        },
        "Outputs": {"Table": {"Value": ref("Routes")}},
    }

    def wait(what: str) -> None:
        stacks.get_waiter(f"stack_{what}_complete").wait(StackName="hub", WaiterConfig={"Delay": 1})

    stacks.create_stack(StackName="hub", TemplateBody=json.dumps(template))
    wait("create")
    table = stacks.describe_stacks(StackName="hub")["Stacks"][0]["Outputs"][0]["OutputValue"]
    search = {"TransitGatewayRouteTableId": table, "Filters": by(type="static")}
    assert ec2.search_transit_gateway_routes(**search)["Routes"][0]["State"] == "active"
    template["Resources"]["Hub"]["Properties"]["Description"] = "two"
    stacks.update_stack(StackName="hub", TemplateBody=json.dumps(template))
    wait("update")
    assert ec2.describe_transit_gateways()["TransitGateways"][0]["Description"] == "two"
    stacks.delete_stack(StackName="hub")
    wait("delete")
    assert ec2.describe_transit_gateways()["TransitGateways"] == []

    session = resource("TrafficMirrorSession", NetworkInterfaceId="eni-1", TrafficMirrorTargetId="tmt-1")
    with pytest.raises(ClientError, match="Cloudlet does not implement"):
        stacks.create_stack(StackName="mirror", TemplateBody=json.dumps({"Resources": {"Mirror": session}}))


def resource(type: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::EC2::{type}", "Properties": properties}


def ref(name: str) -> dict[str, str]:
    return {"Ref": name}


def of(name: str, attribute: str) -> dict[str, list[str]]:
    return {"Fn::GetAtt": [name, attribute]}


def network() -> dict[str, Any]:
    attached = {"DependsOn": "Attachment"}
    return {
        "Parameters": {"Zone": {"Type": "AWS::EC2::AvailabilityZone::Name", "Default": "us-east-1b"}},
        "Resources": {
            "Vpc": resource(
                "VPC", CidrBlock="10.0.0.0/16", EnableDnsHostnames="true", Tags=[{"Key": "Name", "Value": "net"}]
            ),
            "More": resource("VPCCidrBlock", VpcId=ref("Vpc"), CidrBlock="10.1.0.0/16"),
            "Public": resource(
                "Subnet",
                VpcId=ref("Vpc"),
                CidrBlock="10.0.0.0/24",
                AvailabilityZone=ref("Zone"),
                MapPublicIpOnLaunch=True,
            ),
            "Private": resource("Subnet", VpcId=ref("Vpc"), CidrBlock="10.1.1.0/24") | {"DependsOn": "More"},
            "Igw": resource("InternetGateway"),
            "Attachment": resource("VPCGatewayAttachment", VpcId=ref("Vpc"), InternetGatewayId=ref("Igw")),
            "Table": resource("RouteTable", VpcId=ref("Vpc")),
            "Route": resource(
                "Route", RouteTableId=ref("Table"), DestinationCidrBlock="0.0.0.0/0", GatewayId=ref("Igw")
            )
            | attached,
            "Follows": resource("SubnetRouteTableAssociation", SubnetId=ref("Public"), RouteTableId=ref("Table")),
            "Ip": resource("EIP", Domain="vpc") | attached,
            "Nat": resource("NatGateway", SubnetId=ref("Public"), AllocationId=of("Ip", "AllocationId")),
            "Web": resource(
                "SecurityGroup",
                GroupDescription="web",
                VpcId=ref("Vpc"),
                SecurityGroupIngress=[{"IpProtocol": "tcp", "FromPort": "80", "ToPort": 80, "CidrIp": "0.0.0.0/0"}],
            ),
            "Db": resource("SecurityGroup", GroupDescription="db", VpcId=ref("Vpc")),
            "WebToDb": resource(
                "SecurityGroupIngress",
                GroupId=of("Db", "GroupId"),
                IpProtocol="tcp",
                FromPort=5432,
                ToPort=5432,
                SourceSecurityGroupId=ref("Web"),
            ),
            "Acl": resource("NetworkAcl", VpcId=ref("Vpc")),
            "AclEntry": resource(
                "NetworkAclEntry",
                NetworkAclId=ref("Acl"),
                RuleNumber=100,
                Protocol=-1,
                RuleAction="allow",
                CidrBlock="0.0.0.0/0",
            ),
            "Under": resource("SubnetNetworkAclAssociation", SubnetId=ref("Private"), NetworkAclId=ref("Acl")),
            "S3": resource(
                "VPCEndpoint",
                VpcId=ref("Vpc"),
                ServiceName={"Fn::Sub": "com.amazonaws.${AWS::Region}.s3"},
                VpcEndpointType="Gateway",
                RouteTableIds=[ref("Table")],
            ),
            "Interface": resource("NetworkInterface", SubnetId=ref("Private"), GroupSet=[ref("Db")]),
            "Reachable": resource("EIP", Domain="vpc") | attached,
            "IsReachable": resource(
                "EIPAssociation", AllocationId=of("Reachable", "AllocationId"), NetworkInterfaceId=ref("Interface")
            ),
            "Key": resource("KeyPair", KeyName="mine"),
            "Blocks": resource(
                "PrefixList",
                PrefixListName="blocks",
                AddressFamily="IPv4",
                MaxEntries=2,
                Entries=[{"Cidr": "10.0.0.0/8", "Description": "a"}],
            ),
            "Options": resource("DHCPOptions", DomainName="example.com", DomainNameServers=["AmazonProvidedDNS"]),
            "HasOptions": resource("VPCDHCPOptionsAssociation", VpcId=ref("Vpc"), DhcpOptionsId=ref("Options")),
        },
        "Outputs": {"Address": {"Value": of("Interface", "PrimaryPrivateIpAddress")}, "Vpc": {"Value": ref("Vpc")}},
    }


def test_a_stack_is_a_network(cloud: LocalCloud, ec2: Any) -> None:
    stacks = cloud.client("cloudformation")
    template = network()

    def wait(what: str) -> None:
        stacks.get_waiter(f"stack_{what}_complete").wait(StackName="net", WaiterConfig={"Delay": 1})

    stacks.create_stack(StackName="net", TemplateBody=json.dumps(template))
    wait("create")
    outputs = stacks.describe_stacks(StackName="net")["Stacks"][0]["Outputs"]
    values = {output["OutputKey"]: output["OutputValue"] for output in outputs}
    assert values["Address"] == "10.1.1.4"
    vpc = values["Vpc"]
    (table,) = ec2.describe_route_tables(Filters=by(**{"vpc-id": vpc, "route.destination-cidr-block": "0.0.0.0/0"}))[
        "RouteTables"
    ]
    assert any(route.get("GatewayId", "").startswith("vpce-") for route in table["Routes"])
    groups = ec2.describe_security_groups(Filters=by(vpc_id=vpc))["SecurityGroups"]
    web = next(group for group in groups if group["Description"] == "web")
    assert [permission["FromPort"] for permission in web["IpPermissions"]] == [80]

    key = ec2.describe_key_pairs(KeyNames=["mine"])["KeyPairs"][0]["KeyPairId"]
    private = cloud.client("ssm").get_parameter(Name=f"/ec2/keypair/{key}", WithDecryption=True)["Parameter"]["Value"]
    assert private.startswith("-----BEGIN RSA PRIVATE KEY-----")

    resources = template["Resources"]
    resources["Blocks"]["Properties"]["Entries"].append({"Cidr": "11.0.0.0/8"})
    resources["Web"]["Properties"]["SecurityGroupIngress"][0]["FromPort"] = 443
    resources["Web"]["Properties"]["SecurityGroupIngress"][0]["ToPort"] = 443
    resources["Route"]["Properties"] = {
        "RouteTableId": ref("Table"),
        "DestinationCidrBlock": "0.0.0.0/0",
        "NatGatewayId": ref("Nat"),
    }
    resources["Vpc"]["Properties"]["Tags"][0]["Value"] = "renamed"
    resources["Interface"]["Properties"]["SecondaryPrivateIpAddressCount"] = 1
    del resources["AclEntry"]
    stacks.update_stack(StackName="net", TemplateBody=json.dumps(template))
    wait("update")
    (web,) = ec2.describe_security_groups(GroupIds=[web["GroupId"]])["SecurityGroups"]
    assert [permission["FromPort"] for permission in web["IpPermissions"]] == [443]
    (table,) = ec2.describe_route_tables(RouteTableIds=[table["RouteTableId"]])["RouteTables"]
    assert any("NatGatewayId" in route for route in table["Routes"])
    assert [one["VpcId"] for one in ec2.describe_vpcs(Filters=by(**{"tag:Name": "renamed"}))["Vpcs"]] == [vpc]

    (interface,) = ec2.describe_network_interfaces(Filters=by(interface_type="interface"))["NetworkInterfaces"]
    assert len(interface["PrivateIpAddresses"]) == 2, "another one has taken its place"
    assert all(not tag["Key"].startswith("aws:cloudlet") for tag in interface["TagSet"])

    wants = {"Parameters": {"Vpc": {"Type": "AWS::EC2::VPC::Id"}}, "Resources": {"Igw": resource("InternetGateway")}}
    given = {"StackName": "other", "TemplateBody": json.dumps(wants)}
    unknown = {"ParameterKey": "Vpc", "ParameterValue": "vpc-0123456789abcdef0"}
    assert refused(stacks.create_stack, **given, Parameters=[unknown]) == "ValidationError"

    stacks.delete_stack(StackName="net")
    wait("delete")
    assert len(ec2.describe_vpcs()["Vpcs"]) == 1
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []
    assert ec2.describe_addresses()["Addresses"] == []
    assert ec2.describe_key_pairs()["KeyPairs"] == []


def test_a_wildcard_of_a_filter_may_be_meant_literally(ec2: Any) -> None:
    values = ("a value", "a value*", "a value*?", "a\\value")
    made = {value: ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"] for value in values}
    for value, vpc in made.items():
        ec2.create_tags(Resources=[vpc], Tags=[{"Key": "k", "Value": value}])

    def found(pattern: str) -> set[str]:
        tags = ec2.describe_tags(Filters=[{"Name": "value", "Values": [pattern]}])["Tags"]
        return {one["Value"] for one in tags}

    assert found("a*") == set(values)
    assert found(r"*value\*") == {"a value*"}
    assert found(r"*value\*\?") == {"a value*?"}
    assert found(r"a\\value") == {"a\\value"}
    assert found("a?value") == {"a value", "a\\value"}
