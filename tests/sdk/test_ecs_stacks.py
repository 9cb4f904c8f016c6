"""A stack as AWS's own examples have it: a service of containers behind a load balancer, with scaling."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_elbv2 import free_port

from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.testing import LocalCloud, eventually

try:
    envoy.binary()
except ProxyMissing as absent:
    pytest.skip(str(absent), allow_module_level=True)

ROLE = "arn:aws:iam::000000000000:role/task"
PORT = free_port()  # on this machine's own address, which every cloud wants


@pytest.fixture
def image(busybox: str) -> str:
    return busybox


@pytest.fixture
def cloud(podman_cloud: LocalCloud) -> LocalCloud:
    return podman_cloud


def template(image: str, version: str, count: int = 2) -> dict[str, Any]:
    return {
        "Resources": {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
            "SubnetA": {
                "Type": "AWS::EC2::Subnet",
                "Properties": {
                    "VpcId": {"Ref": "Vpc"},
                    "CidrBlock": "10.0.0.0/24",
                    "AvailabilityZone": {"Fn::Select": [0, {"Fn::GetAZs": ""}]},
                },
            },
            "SubnetB": {
                "Type": "AWS::EC2::Subnet",
                "Properties": {
                    "VpcId": {"Ref": "Vpc"},
                    "CidrBlock": "10.0.1.0/24",
                    "AvailabilityZone": {"Fn::Select": [1, {"Fn::GetAZs": ""}]},
                },
            },
            "Balancer": {
                "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
                "Properties": {"Subnets": [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}]},
            },
            "Group": {
                "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
                "Properties": {
                    "Port": 80,
                    "Protocol": "HTTP",
                    "TargetType": "ip",
                    "VpcId": {"Ref": "Vpc"},
                    "HealthCheckIntervalSeconds": 5,
                    "HealthCheckTimeoutSeconds": 2,
                    "HealthyThresholdCount": 2,
                    "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}],
                },
            },
            "Later": {"Type": "AWS::Logs::LogGroup", "DependsOn": "Tasks"},
            "Listener": {
                "Type": "AWS::ElasticLoadBalancingV2::Listener",
                "DependsOn": "Later",
                "Properties": {
                    "LoadBalancerArn": {"Ref": "Balancer"},
                    "Port": PORT,
                    "Protocol": "HTTP",
                    "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Group"}}],
                },
            },
            "Cluster": {"Type": "AWS::ECS::Cluster"},
            "Tasks": {
                "Type": "AWS::ECS::TaskDefinition",
                "Properties": {
                    "Family": "web",
                    "RequiresCompatibilities": ["FARGATE"],
                    "NetworkMode": "awsvpc",
                    "Cpu": 256,
                    "Memory": "0.5GB",
                    "ExecutionRoleArn": ROLE,
                    "ContainerDefinitions": [
                        {
                            "Name": "web",
                            "Image": image,
                            "Command": ["httpd", "-f", "-p", "8080", "-h", f"/{version}"],
                            "StopTimeout": 2,
                            "PortMappings": [{"ContainerPort": 8080}],
                        }
                    ],
                },
            },
            "Service": {
                "Type": "AWS::ECS::Service",
                "DependsOn": "Balancer",  # as examples of AWS have it: the listener comes a moment later
                "Properties": {
                    "Cluster": {"Ref": "Cluster"},
                    "TaskDefinition": {"Ref": "Tasks"},
                    "DesiredCount": count,
                    "LaunchType": "FARGATE",
                    "NetworkConfiguration": {
                        "AwsvpcConfiguration": {"Subnets": [{"Ref": "SubnetA"}], "AssignPublicIp": "ENABLED"}
                    },
                    "LoadBalancers": [
                        {"TargetGroupArn": {"Ref": "Group"}, "ContainerName": "web", "ContainerPort": 8080}
                    ],
                },
            },
            "Scaling": {
                "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
                "Properties": {
                    "MinCapacity": 1,
                    "MaxCapacity": 4,
                    "ServiceNamespace": "ecs",
                    "ScalableDimension": "ecs:service:DesiredCount",
                    "ResourceId": {"Fn::Sub": "service/${Cluster}/${Service.Name}"},
                },
            },
            "Policy": {
                "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
                "Properties": {
                    "PolicyName": "cpu",
                    "PolicyType": "TargetTrackingScaling",
                    "ScalingTargetId": {"Ref": "Scaling"},
                    "TargetTrackingScalingPolicyConfiguration": {
                        "TargetValue": 50,
                        "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
                    },
                },
            },
        },
        "Outputs": {
            "Name": {"Value": {"Fn::GetAtt": ["Balancer", "DNSName"]}},
            "Cluster": {"Value": {"Ref": "Cluster"}},
            "Service": {"Value": {"Fn::GetAtt": ["Service", "Name"]}},
        },
    }


def outcome(stacks: Any) -> dict[str, str]:
    """The outputs of the stack, once it is done."""

    def done() -> Any:
        one = stacks.describe_stacks(StackName="web")["Stacks"][0]
        return one if not one["StackStatus"].endswith("IN_PROGRESS") else None

    one = eventually(done, 90)
    if one["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        events = stacks.describe_stack_events(StackName="web")["StackEvents"]
        raise AssertionError(
            [event.get("ResourceStatusReason") for event in events if "FAILED" in event["ResourceStatus"]]
        )
    return {each["OutputKey"]: each["OutputValue"] for each in one["Outputs"]}


def seen_targets(cloud: LocalCloud) -> dict[str, str]:
    """The targets of the one group, with what the load balancer thinks of them."""
    elb = cloud.client("elbv2")
    (group,) = elb.describe_target_groups()["TargetGroups"]
    found = elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]
    return {one["Target"]["Id"]: one["TargetHealth"]["State"] for one in found}


def test_a_new_version_takes_over_behind_a_load_balancer_and_no_request_fails(cloud: LocalCloud, image: str) -> None:
    stacks, ecs = cloud.client("cloudformation"), cloud.client("ecs")
    stacks.create_stack(StackName="web", TemplateBody=json.dumps(template(image, "one")))
    outputs = outcome(stacks)

    def fetch() -> str:
        # As a client whose system resolves *.localhost.
        ask = urllib.request.Request(f"http://127.0.0.1:{PORT}/", headers={"Host": outputs["Name"]})
        with urllib.request.urlopen(ask, timeout=5) as answer:
            return str(answer.read().decode())

    assert fetch() == "one"
    with pytest.raises(ClientError, match="No updates are to be performed"):
        stacks.update_stack(StackName="web", TemplateBody=json.dumps(template(image, "one")))

    seen: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.append(fetch())
            except OSError as error:
                seen.append(f"failed: {error}")
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        stacks.update_stack(StackName="web", TemplateBody=json.dumps(template(image, "two")))
        outcome(stacks)
        eventually(lambda: seen[-5:] == ["two"] * 5)

        # One task is killed, and the control plane too: traffic goes on.
        place = {"cluster": outputs["Cluster"]}
        cloud.kill()
        time.sleep(0.5)
        cloud.start()
        tasks = ecs.list_tasks(**place, serviceName=outputs["Service"])["taskArns"]
        assert len(tasks) == 2
        before = seen_targets(cloud)
        assert [state for state in before.values() if state != "draining"] == ["healthy", "healthy"]
        ecs.stop_task(**place, task=tasks[0])
        service = {**place, "services": [outputs["Service"]]}
        eventually(
            lambda: (
                tasks[0] not in ecs.list_tasks(**place)["taskArns"] and len(ecs.list_tasks(**place)["taskArns"]) == 2
            )
        )
        eventually(lambda: ecs.describe_services(**service)["services"][0]["runningCount"] == 2)
        # Both are ready as the service sees them, also the one that was there before the kill.
        eventually(lambda: "steady state" in ecs.describe_services(**service)["services"][0]["events"][0]["message"])
        assert list(seen_targets(cloud).values()).count("healthy") == 2
    finally:
        stop.set()
        asking.join()
    failed = [one for one in seen if one.startswith("failed")]
    assert not failed, failed[:3]
    assert set(seen) == {"one", "two"}

    alarms = cloud.client("cloudwatch").describe_alarms(AlarmNamePrefix="TargetTracking-service/")["MetricAlarms"]
    assert len(alarms) == 2
    stacks.delete_stack(StackName="web")
    stacks.get_waiter("stack_delete_complete").wait(StackName="web", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert ecs.list_clusters()["clusterArns"] == []
    assert cloud.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
