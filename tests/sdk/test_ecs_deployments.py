"""Deployments that shift real traffic: a canary behind a load balancer, hooks, alarms, roll-backs, a kill between."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError
from shifting import subnet, target_group, tasks

from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.testing import LocalCloud, eventually

try:
    envoy.binary()
except ProxyMissing as absent:
    pytest.skip(str(absent), allow_module_level=True)

ROLE = "arn:aws:iam::000000000000:role/any"
PORT = 8097
HOOK = "def handler(event, context):\n    return {'hookStatus': event['hookDetails']['answer']}\n"


@pytest.fixture
def image(busybox: str) -> str:
    return busybox


@pytest.fixture
def cloud(podman_cloud: LocalCloud) -> LocalCloud:
    return podman_cloud


def template(image: str) -> dict[str, Any]:
    arn, forward = {"Ref": "First"}, {"Type": "forward"}
    advanced = {
        "AlternateTargetGroupArn": {"Ref": "Second"},
        "ProductionListenerRule": {"Ref": "Rule"},
        "RoleArn": ROLE,
    }
    hook = {
        "HookTargetArn": {"Fn::GetAtt": ["Hook", "Arn"]},
        "RoleArn": ROLE,
        "LifecycleStages": ["POST_SCALE_UP"],
        "HookDetails": {"answer": "SUCCEEDED"},
    }
    configuration = {
        "Strategy": "CANARY",
        "CanaryConfiguration": {"CanaryPercent": 10, "CanaryBakeTimeInMinutes": 10},
        "BakeTimeInMinutes": 0,
        "LifecycleHooks": [hook],
        "Alarms": {"AlarmNames": ["errors"], "Enable": True, "Rollback": True},
    }
    return {
        "Resources": {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
            "SubnetA": subnet(0),
            "SubnetB": subnet(1),
            "Balancer": {
                "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
                "Properties": {"Subnets": [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}]},
            },
            "First": target_group(),
            "Second": target_group(),
            "Listener": {
                "Type": "AWS::ElasticLoadBalancingV2::Listener",
                "Properties": {
                    "LoadBalancerArn": {"Ref": "Balancer"},
                    "Port": PORT,
                    "Protocol": "HTTP",
                    "DefaultActions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
                },
            },
            "Rule": {
                "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
                "Properties": {
                    "ListenerArn": {"Ref": "Listener"},
                    "Priority": 1,
                    "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}],
                    "Actions": [{**forward, "TargetGroupArn": arn}],
                },
            },
            "Hook": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Runtime": "python3.12",
                    "Handler": "index.handler",
                    "Role": ROLE,
                    "Code": {"ZipFile": HOOK},
                },
            },
            "Cluster": {"Type": "AWS::ECS::Cluster"},
            "One": tasks(image, "one"),
            "Two": tasks(image, "two"),
            "Service": {
                "Type": "AWS::ECS::Service",
                "Properties": {
                    "Cluster": {"Ref": "Cluster"},
                    "ServiceName": "web",
                    "TaskDefinition": {"Ref": "One"},
                    "DesiredCount": 1,
                    "LaunchType": "FARGATE",
                    "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": [{"Ref": "SubnetA"}]}},
                    "LoadBalancers": [
                        {
                            "TargetGroupArn": arn,
                            "ContainerName": "web",
                            "ContainerPort": 8080,
                            "AdvancedConfiguration": advanced,
                        }
                    ],
                    "DeploymentConfiguration": configuration,
                },
            },
        },
        "Outputs": {
            "Name": {"Value": {"Fn::GetAtt": ["Balancer", "DNSName"]}},
            "Cluster": {"Value": {"Ref": "Cluster"}},
        },
    }


class Service:
    """The service of the stack, and whoever asks it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.ecs = cloud.client("ecs")
        stacks = cloud.client("cloudformation")
        (stack,) = stacks.describe_stacks()["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        self.host, self.cluster = outputs["Name"], outputs["Cluster"]

    def fetch(self) -> str:
        ask = urllib.request.Request(f"http://127.0.0.1:{PORT}/", headers={"Host": self.host})
        with urllib.request.urlopen(ask, timeout=5) as answer:
            return str(answer.read().decode())

    def versions(self, count: int = 400) -> Counter[str]:
        return Counter(self.fetch() for _ in range(count))

    def update(self, **changes: Any) -> None:
        self.ecs.update_service(cluster=self.cluster, service="web", **changes)

    def deployment(self) -> dict[str, Any]:
        """The newest one."""
        found = self.ecs.list_service_deployments(cluster=self.cluster, service="web")["serviceDeployments"]
        arns = [found[0]["serviceDeploymentArn"]]
        (one,) = self.ecs.describe_service_deployments(serviceDeploymentArns=arns)["serviceDeployments"]
        assert isinstance(one, dict)
        return one

    def comes_to(self, **wanted: Any) -> dict[str, Any]:
        """The newest deployment, once it has these members; ``weight`` is the target's of production traffic."""

        def there() -> Any:
            one = self.deployment()
            one["weight"] = one["targetServiceRevision"].get("requestedProductionTrafficWeight")
            return one if all(one.get(key) == value for key, value in wanted.items()) else None

        found: dict[str, Any] = eventually(there)
        return found


def test_a_canary_gets_a_tenth_of_the_traffic_and_then_all_of_it_or_nothing(cloud: LocalCloud, image: str) -> None:
    stacks, cloudwatch = cloud.client("cloudformation"), cloud.client("cloudwatch")
    alarm = {"EvaluationPeriods": 1, "Period": 60, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold"}
    cloudwatch.put_metric_alarm(AlarmName="errors", MetricName="e", Namespace="n", Statistic="Sum", **alarm)
    stacks.create_stack(StackName="web", TemplateBody=json.dumps(template(image)))
    stacks.get_waiter("stack_create_complete").wait(WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    web = Service(cloud)
    assert web.deployment()["status"] == "SUCCESSFUL"
    assert web.versions(20) == {"one": 20}

    # A tenth goes to the canary, also when the control plane is killed meanwhile; then all, by the cloud's clock.
    web.update(taskDefinition="two")
    one = web.comes_to(lifecycleStage="PRODUCTION_TRAFFIC_SHIFT", weight=10)
    assert one["sourceServiceRevisions"][0]["requestedProductionTrafficWeight"] == 90
    eventually(lambda: web.versions(50)["two"])  # what was requested is under way
    cloud.kill()
    assert 10 <= web.versions()["two"] <= 90
    cloud.start()
    web.comes_to(lifecycleStage="PRODUCTION_TRAFFIC_SHIFT", weight=10)
    assert 10 <= web.versions()["two"] <= 90
    cloud.advance(601)
    web.comes_to(status="SUCCESSFUL", weight=100)
    assert web.versions(50) == {"two": 50}
    (described,) = web.ecs.describe_services(cluster=web.cluster, services=["web"])["services"]
    assert [deployment["rolloutState"] for deployment in described["deployments"]] == ["COMPLETED"]
    (revision,) = web.ecs.describe_service_revisions(serviceRevisionArns=[one["targetServiceRevision"]["arn"]])[
        "serviceRevisions"
    ]
    assert revision["taskDefinition"].endswith("/two:1")
    assert revision["resolvedConfiguration"]["loadBalancers"][0]["targetGroupArn"].count("Second")

    # An alarm turns the next one back, a user another one, a function's no the last.
    web.update(taskDefinition="one")
    web.comes_to(lifecycleStage="PRODUCTION_TRAFFIC_SHIFT", weight=10)
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    back = web.comes_to(status="ROLLBACK_SUCCESSFUL")
    assert back["alarms"] == {"status": "TRIGGERED", "alarmNames": ["errors"], "triggeredAlarmNames": ["errors"]}
    assert web.versions(50) == {"two": 50}
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="OK", StateReason="a test")

    web.update(taskDefinition="one")
    one = web.comes_to(lifecycleStage="PRODUCTION_TRAFFIC_SHIFT", weight=10)
    web.ecs.stop_service_deployment(serviceDeploymentArn=one["serviceDeploymentArn"], stopType="ROLLBACK")
    assert (
        web.comes_to(status="ROLLBACK_SUCCESSFUL")["rollback"]["serviceRevisionArn"] == revision["serviceRevisionArn"]
    )
    with pytest.raises(ClientError, match="ConflictException"):
        web.ecs.stop_service_deployment(serviceDeploymentArn=one["serviceDeploymentArn"])

    hooks = described["deploymentConfiguration"]["lifecycleHooks"]
    web.update(
        taskDefinition="one",
        deploymentConfiguration={"lifecycleHooks": [{**hooks[0], "hookDetails": {"answer": "FAILED"}}]},
    )
    back = web.comes_to(status="ROLLBACK_SUCCESSFUL")
    assert "POST_SCALE_UP" in back["statusReason"]
    assert web.versions(50) == {"two": 50}

    stacks.delete_stack(StackName="web")
    stacks.get_waiter("stack_delete_complete").wait(StackName="web", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
