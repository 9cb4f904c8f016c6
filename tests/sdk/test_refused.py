"""What would have no effect is refused by its name, in every family of services; and the tables name what there is."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from cloudlet.cloud import services
from cloudlet.testing.local import LocalCloud

ASKED: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("lambda", "invoke", {"FunctionName": "f", "TenantId": "blue"}, "Invoke with TenantId"),
    (
        "lambda",
        "create_event_source_mapping",
        {"FunctionName": "f", "EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:q", "Queues": ["q"]},
        "CreateEventSourceMapping with Queues",
    ),
    (
        "lambda",
        "create_function",
        {
            "FunctionName": "f",
            "Role": "arn:aws:iam::000000000000:role/r",
            "Code": {"SourceKMSKeyArn": "arn:aws:kms:::"},
        },
        "CreateFunction with Code.SourceKMSKeyArn",
    ),
    (
        "apigateway",
        "create_domain_name",
        {"domainName": "a.example.com", "endpointAccessMode": "STRICT"},
        "CreateDomainName with endpointAccessMode",
    ),
    ("apigatewayv2", "import_api", {"Body": "{}", "Basepath": "prepend"}, "ImportApi with Basepath"),
    (
        "s3",
        "put_object",
        {"Bucket": "b-1", "Key": "k", "SSEKMSEncryptionContext": "e30="},
        "SSEKMSEncryptionContext",
    ),
    (
        "ec2",
        "create_vpc",
        {"CidrBlock": "10.0.0.0/16", "VpcEncryptionControl": {"Mode": "enforce"}},
        "VpcEncryptionControl",
    ),
    ("ec2", "stop_instances", {"InstanceIds": ["i-1"], "SkipOsShutdown": True}, "StopInstances with SkipOsShutdown"),
    (
        "autoscaling",
        "start_instance_refresh",
        {"AutoScalingGroupName": "g", "Strategy": "ReplaceRootVolume"},
        "StartInstanceRefresh with Strategy",
    ),
    (
        "autoscaling",
        "cancel_instance_refresh",
        {"AutoScalingGroupName": "g", "WaitForTransitioningInstances": False},
        "CancelInstanceRefresh with WaitForTransitioningInstances",
    ),
    (
        "elbv2",
        "describe_target_health",
        {"TargetGroupArn": "arn:aws:elasticloadbalancing:::", "Include": ["AnomalyDetection"]},
        "DescribeTargetHealth with Include",
    ),
    (
        "ec2",
        "create_fleet",
        {
            "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateName": "one", "Version": "1"}}],
            "TargetCapacitySpecification": {"TotalTargetCapacity": 1},
            "SpotOptions": {"MaxTotalPrice": "1"},
        },
        "CreateFleet with SpotOptions.MaxTotalPrice",
    ),
    (
        "elbv2",
        "create_load_balancer",
        {"Name": "n", "SubnetMappings": [{"SubnetId": "s-1"}, {"SubnetId": "s-2", "PrivateIPv4Address": "10.0.0.9"}]},
        "CreateLoadBalancer with SubnetMappings.PrivateIPv4Address",
    ),
    (
        "kms",
        "create_grant",
        {
            "KeyId": "k",
            "GranteePrincipal": "arn:aws:iam::000000000000:role/r",
            "Operations": ["Encrypt"],
            "Constraints": {"SourceArn": "arn:aws:sns:us-east-1:000000000000:t"},
        },
        "CreateGrant with Constraints.SourceArn",
    ),
    ("iam", "update_role", {"RoleName": "r", "ResetMaxSigninSessionDuration": True}, "ResetMaxSigninSessionDuration"),
)


@pytest.mark.parametrize(("service", "operation", "input", "words"), ASKED)
def test_it_is_refused_by_its_name(
    cloud: LocalCloud, service: str, operation: str, input: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words) as refusal:
        getattr(cloud.client(service), operation)(**input)
    assert refusal.value.response["Error"]["Code"] == "NotImplemented"


def test_defaults_of_aws_are_no_question(cloud: LocalCloud) -> None:
    """Whoever says aloud what is so anyway is served."""
    made = cloud.client("apigateway").create_rest_api(name="a", endpointAccessMode="BASIC")
    assert made["name"] == "a"
    cloud.client("autoscaling").describe_auto_scaling_groups()
    with pytest.raises(ClientError, match="not found"):
        cloud.client("autoscaling").cancel_instance_refresh(
            AutoScalingGroupName="g", WaitForTransitioningInstances=True
        )


def test_the_tables_name_what_there_is() -> None:
    """Each refused member is one of the operation's input, and each operation is here."""
    loader = Loader()
    for name, folder in services().items():
        service = importlib.import_module(f"cloudlet.services.{folder}.service").Service
        model = loader.load_service_model(name, "service-2") if service.refused else {}
        for operation, members in service.refused.items():
            assert hasattr(service, operation), f"{name} {operation}"
            for path in members.split():
                shape = model["shapes"][model["operations"][operation]["input"]["shape"]]
                for member in path.partition("!=")[0].split("."):
                    assert member in shape["members"], f"{name} {operation} {path}"
                    shape = model["shapes"][shape["members"][member]["shape"]]
                    if shape["type"] == "list":
                        shape = model["shapes"][shape["member"]["shape"]]
