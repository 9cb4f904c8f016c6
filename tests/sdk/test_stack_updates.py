"""What an update of a stack changes: in place what can be changed, anew what cannot, and nothing unnoticed."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.testing.local import LocalCloud

Resources = dict[str, dict[str, Any]]


def deploy(cloud: LocalCloud, resources: Resources, operation: str = "update") -> dict[str, str]:
    """Make or update the stack; the physical ids of its resources."""
    stacks = cloud.client("cloudformation")
    body = json.dumps({"Resources": resources})
    getattr(stacks, f"{operation}_stack")(StackName="s", TemplateBody=body)
    stacks.get_waiter(f"stack_{operation}_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    found = stacks.list_stack_resources(StackName="s")["StackResourceSummaries"]
    return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}


def check_of(**more: Any) -> dict[str, Any]:
    config = {"Type": "TCP", "IPAddress": "127.0.0.1", "Port": 1, "RequestInterval": 30, **more}
    return {"Type": "AWS::Route53::HealthCheck", "Properties": {"HealthCheckConfig": config}}


def test_a_member_that_cannot_be_changed_makes_a_new_resource_and_the_others_do_not(cloud: LocalCloud) -> None:
    route53, stacks = cloud.client("route53"), cloud.client("cloudformation")
    first = deploy(cloud, {"Check": check_of()}, "create")["Check"]
    assert deploy(cloud, {"Check": check_of(Port=2)})["Check"] == first
    assert route53.get_health_check(HealthCheckId=first)["HealthCheck"]["HealthCheckConfig"]["Port"] == 2

    body = json.dumps({"Resources": {"Check": check_of(RequestInterval=10)}})
    change = stacks.create_change_set(StackName="s", ChangeSetName="c", TemplateBody=body)["Id"]
    stacks.get_waiter("change_set_create_complete").wait(ChangeSetName=change, WaiterConfig={"Delay": 1})
    (told,) = stacks.describe_change_set(ChangeSetName=change)["Changes"]
    assert told["ResourceChange"]["Replacement"] == "True"
    assert told["ResourceChange"]["Details"][0]["Target"]["RequiresRecreation"] == "Always"

    second = deploy(cloud, {"Check": check_of(RequestInterval=10)})["Check"]
    assert second != first
    assert [one["Id"] for one in route53.list_health_checks()["HealthChecks"]] == [second]


def test_networks_are_changed_in_place_or_anew_as_their_types_say(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    vpc = {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}
    options = {"Type": "AWS::EC2::DHCPOptions", "Properties": {"DomainName": "a.example"}}
    has = {
        "Type": "AWS::EC2::VPCDHCPOptionsAssociation",
        "Properties": {"VpcId": {"Ref": "Vpc"}, "DhcpOptionsId": {"Ref": "A"}},
    }
    resources: Resources = {
        "Vpc": vpc,
        "A": options,
        "B": {**options, "Properties": {"DomainName": "b.example"}},
        "Has": has,
        "Hub": {"Type": "AWS::EC2::TransitGateway"},
        "Group": {"Type": "AWS::EC2::PlacementGroup", "Properties": {"Strategy": "cluster"}},
    }
    before = deploy(cloud, resources, "create")
    has["Properties"] = {"VpcId": {"Ref": "Vpc"}, "DhcpOptionsId": {"Ref": "B"}}
    resources["Hub"]["Properties"] = {"Description": "the hub"}
    resources["Group"]["Properties"]["Tags"] = [{"Key": "team", "Value": "a"}]
    after = deploy(cloud, resources)

    (shown,) = ec2.describe_vpcs(VpcIds=[after["Vpc"]])["Vpcs"]
    assert shown["DhcpOptionsId"] == after["B"]
    assert after["Has"] != before["Has"]
    (hub,) = ec2.describe_transit_gateways()["TransitGateways"]
    assert (hub["TransitGatewayId"], hub["Description"]) == (before["Hub"], "the hub")
    assert after["Group"] != before["Group"]
    (group,) = ec2.describe_placement_groups()["PlacementGroups"]
    assert {"Key": "team", "Value": "a"} in group["Tags"]

    del resources["Has"]
    deploy(cloud, resources)
    assert ec2.describe_vpcs(VpcIds=[after["Vpc"]])["Vpcs"][0]["DhcpOptionsId"] != after["B"]


def test_a_key_is_never_replaced(cloud: LocalCloud) -> None:
    stacks, kms = cloud.client("cloudformation"), cloud.client("kms")
    key: dict[str, Any] = {"Type": "AWS::KMS::Key", "Properties": {"Description": "one"}}
    id = deploy(cloud, {"Key": key}, "create")["Key"]
    key["Properties"]["KeySpec"] = "SYMMETRIC_DEFAULT"
    assert deploy(cloud, {"Key": key})["Key"] == id  # it was that before
    key["Properties"] |= {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}
    stacks.update_stack(StackName="s", TemplateBody=json.dumps({"Resources": {"Key": key}}))
    stacks.get_waiter("stack_rollback_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    reasons = [
        one.get("ResourceStatusReason", "") for one in stacks.describe_stack_events(StackName="s")["StackEvents"]
    ]
    assert any("is not updatable with parameters provided" in reason for reason in reasons)
    shown = kms.describe_key(KeyId=id)["KeyMetadata"]
    assert (shown["KeyState"], shown["KeySpec"]) == ("Enabled", "SYMMETRIC_DEFAULT")


def test_the_tags_of_a_scalable_target_follow_its_template(cloud: LocalCloud) -> None:
    cloud.client("dynamodb").create_table(
        TableName="table",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    )
    place = {
        "ServiceNamespace": "dynamodb",
        "ResourceId": "table/table",
        "ScalableDimension": "dynamodb:table:ReadCapacityUnits",
    }
    target: dict[str, Any] = {
        "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
        "Properties": {**place, "MinCapacity": 1, "MaxCapacity": 2, "Tags": [{"Key": "a", "Value": "1"}]},
    }
    deploy(cloud, {"Target": target}, "create")
    target["Properties"]["Tags"] = [{"Key": "b", "Value": "2"}]
    deploy(cloud, {"Target": target})
    scaling = cloud.client("application-autoscaling")
    (found,) = scaling.describe_scalable_targets(ServiceNamespace="dynamodb")["ScalableTargets"]
    tags = scaling.list_tags_for_resource(ResourceARN=found["ScalableTargetARN"])["Tags"]
    assert {key: value for key, value in tags.items() if not key.startswith("aws:")} == {"b": "2"}


def test_a_deployment_changes_the_stage_that_it_describes(cloud: LocalCloud) -> None:
    mock = {"Type": "MOCK", "RequestTemplates": {"application/json": '{"statusCode": 200}'}}
    api = {"RestApiId": {"Ref": "Api"}}
    root = {"Fn::GetAtt": ["Api", "RootResourceId"]}
    get = {**api, "ResourceId": root, "HttpMethod": "GET", "AuthorizationType": "NONE", "Integration": mock}
    described: dict[str, Any] = {"Description": "one", "Variables": {"a": "1"}, "MetricsEnabled": True}
    deployed: dict[str, Any] = {
        "Type": "AWS::ApiGateway::Deployment",
        "DependsOn": "Get",
        "Properties": {**api, "StageName": "prod", "StageDescription": described},
    }
    resources: Resources = {
        "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "shop"}},
        "Get": {"Type": "AWS::ApiGateway::Method", "Properties": get},
        "Deployed": deployed,
    }
    before = deploy(cloud, resources, "create")
    rest, id = cloud.client("apigateway"), before["Api"]
    assert rest.get_stage(restApiId=id, stageName="prod")["methodSettings"]["*/*"]["metricsEnabled"] is True
    deployed["Properties"]["StageDescription"] = {"Description": "two", "Variables": {"b": "2"}, "LoggingLevel": "INFO"}
    after = deploy(cloud, resources)
    stage = rest.get_stage(restApiId=id, stageName="prod")
    assert after["Deployed"] == before["Deployed"]
    assert (stage["description"], stage["variables"]) == ("two", {"b": "2"})
    assert stage["methodSettings"]["*/*"]["loggingLevel"] == "INFO"

    # As the Serverless Framework does: another deployment takes the stage over, and the first one goes.
    resources["Again"] = {**resources.pop("Deployed"), "Properties": {**api, "StageName": "prod"}}
    again = deploy(cloud, resources)["Again"]
    assert rest.get_stage(restApiId=id, stageName="prod")["deploymentId"] == again
    resources["Again"]["Properties"]["StageName"] = "beta"
    deploy(cloud, resources)
    assert [one["stageName"] for one in rest.get_stages(restApiId=id)["item"]] == ["beta"]


def test_a_vpn_connection_is_what_its_template_says(cloud: LocalCloud) -> None:
    gateway = {"Type": "AWS::EC2::CustomerGateway", "Properties": {"Type": "ipsec.1", "IpAddress": "192.0.2.7"}}
    tunnel = {"DPDTimeoutSeconds": 40, "IKEVersions": [{"Value": "ikev2"}], "TunnelInsideCidr": "169.254.9.0/30"}
    asked: dict[str, Any] = {
        "Type": "ipsec.1",
        "CustomerGatewayId": {"Ref": "Theirs"},
        "VpnGatewayId": {"Fn::GetAtt": ["Ours", "VPNGatewayId"]},
        "LocalIpv4NetworkCidr": "10.1.0.0/16",
        "VpnTunnelOptionsSpecifications": [tunnel],
    }
    resources: Resources = {
        "Theirs": gateway,
        "Ours": {"Type": "AWS::EC2::VPNGateway", "Properties": {"Type": "ipsec.1"}},
        "Line": {"Type": "AWS::EC2::VPNConnection", "Properties": asked},
    }
    first = deploy(cloud, resources, "create")
    (line,) = cloud.client("ec2").describe_vpn_connections()["VpnConnections"]
    assert line["VpnGatewayId"] == first["Ours"]
    assert line["Options"]["LocalIpv4NetworkCidr"] == "10.1.0.0/16"
    shown = line["Options"]["TunnelOptions"][0]
    assert (shown["DpdTimeoutSeconds"], shown["IkeVersions"]) == (40, [{"Value": "ikev2"}])
    asked["LocalIpv4NetworkCidr"] = "10.2.0.0/16"
    assert deploy(cloud, resources)["Line"] != first["Line"]


def test_what_joins_things_is_moved_without_losing_what_it_keeps(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    vpc = {"VpcId": {"Ref": "Vpc"}}
    rule: dict[str, Any] = {"GroupId": {"Ref": "Group"}, "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}
    rule |= {"CidrIp": "10.0.0.0/8", "Description": "one"}
    joined: dict[str, Any] = {**vpc, "InternetGatewayId": {"Ref": "A"}}
    told: dict[str, Any] = {"RouteTableIds": [{"Ref": "T"}], "VpnGatewayId": {"Ref": "Vpn"}}
    resources: Resources = {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
        "Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {**vpc, "GroupDescription": "g"}},
        "Rule": {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": rule},
        "A": {"Type": "AWS::EC2::InternetGateway"},
        "B": {"Type": "AWS::EC2::InternetGateway"},
        "Joined": {"Type": "AWS::EC2::VPCGatewayAttachment", "Properties": joined},
        "Vpn": {"Type": "AWS::EC2::VPNGateway", "Properties": {"Type": "ipsec.1"}},
        "VpnJoined": {"Type": "AWS::EC2::VPCGatewayAttachment", "Properties": {**vpc, "VpnGatewayId": {"Ref": "Vpn"}}},
        "T": {"Type": "AWS::EC2::RouteTable", "Properties": vpc},
        "U": {"Type": "AWS::EC2::RouteTable", "Properties": vpc},
        "Told": {
            "Type": "AWS::EC2::VPNGatewayRoutePropagation",
            "Properties": told,
            "DependsOn": "VpnJoined",
        },
    }
    first = deploy(cloud, resources, "create")
    rule["Description"] = "two"
    joined["InternetGatewayId"] = {"Ref": "B"}
    told["RouteTableIds"] = [{"Ref": "T"}, {"Ref": "U"}]
    second = deploy(cloud, resources)
    assert second["Rule"] == first["Rule"]
    (shown,) = ec2.describe_security_group_rules(SecurityGroupRuleIds=[first["Rule"]])["SecurityGroupRules"]
    assert shown["Description"] == "two"
    attached = {
        one["InternetGatewayId"]: one["Attachments"] for one in ec2.describe_internet_gateways()["InternetGateways"]
    }
    assert attached[first["A"]] == []
    assert attached[first["B"]][0]["VpcId"] == first["Vpc"]
    tables = ec2.describe_route_tables(RouteTableIds=[first["T"], first["U"]])["RouteTables"]
    assert [one["PropagatingVgws"] for one in tables] == [[{"GatewayId": first["Vpn"]}]] * 2


def test_a_domain_and_its_paths_change_in_place(cloud: LocalCloud) -> None:
    domain: dict[str, Any] = {"DomainName": "api.shop.example", "EndpointConfiguration": {"Types": ["REGIONAL"]}}
    mapping: dict[str, Any] = {"DomainName": {"Ref": "Domain"}, "RestApiId": {"Ref": "A"}, "BasePath": "v1"}
    resources: Resources = {
        "A": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "a"}},
        "B": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "b"}},
        "Domain": {"Type": "AWS::ApiGateway::DomainName", "Properties": domain},
        "Mapping": {"Type": "AWS::ApiGateway::BasePathMapping", "Properties": mapping},
    }
    first = deploy(cloud, resources, "create")
    mapping["RestApiId"] = {"Ref": "B"}
    domain |= {"SecurityPolicy": "TLS_1_0", "Tags": [{"Key": "team", "Value": "a"}]}
    assert deploy(cloud, resources) == first
    rest = cloud.client("apigateway")
    (found,) = rest.get_base_path_mappings(domainName="api.shop.example")["items"]
    assert (found["basePath"], found["restApiId"]) == ("v1", first["B"])
    shown = rest.get_domain_name(domainName="api.shop.example")
    assert (shown["securityPolicy"], shown["tags"]["team"]) == ("TLS_1_0", "a")
