"""Parts of templates in which a service of tasks goes from one version to the other behind a load balancer."""

from __future__ import annotations

from typing import Any


def subnet(number: int) -> dict[str, Any]:
    """A subnet of ``Vpc`` in the zone of this number."""
    zone = {"Fn::Select": [number, {"Fn::GetAZs": ""}]}
    place = {"VpcId": {"Ref": "Vpc"}, "CidrBlock": f"10.0.{number}.0/24", "AvailabilityZone": zone}
    return {"Type": "AWS::EC2::Subnet", "Properties": place}


def target_group() -> dict[str, Any]:
    """A target group of tasks in ``Vpc``, quick to see and to let go."""
    members = {
        "Port": 80,
        "Protocol": "HTTP",
        "TargetType": "ip",
        "VpcId": {"Ref": "Vpc"},
        "HealthCheckIntervalSeconds": 5,
        "HealthCheckTimeoutSeconds": 2,
        "HealthyThresholdCount": 2,
        "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}],
    }
    return {"Type": "AWS::ElasticLoadBalancingV2::TargetGroup", "Properties": members}


def tasks(image: str, version: str) -> dict[str, Any]:
    """A task definition that serves the version's page of the image."""
    container = {
        "Name": "web",
        "Image": image,
        "Command": ["httpd", "-f", "-p", "8080", "-h", f"/{version}"],
        "StopTimeout": 2,
        "PortMappings": [{"ContainerPort": 8080}],
    }
    members = {
        "Family": version,
        "RequiresCompatibilities": ["FARGATE"],
        "NetworkMode": "awsvpc",
        "Cpu": 256,
        "Memory": "0.5GB",
        "ContainerDefinitions": [container],
    }
    return {"Type": "AWS::ECS::TaskDefinition", "Properties": members}
