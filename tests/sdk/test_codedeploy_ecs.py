"""CodeDeploy leads an ECS service from one task set to another: canaries, waits, alarms, a kill between."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError
from shifting import subnet, target_group, tasks
from test_elbv2 import free_port

from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.testing import LocalCloud, eventually

try:
    envoy.binary()
except ProxyMissing as absent:
    pytest.skip(str(absent), allow_module_level=True)

ROLE = "arn:aws:iam::000000000000:role/any"
PORT, TEST_PORT = free_port(), free_port()


@pytest.fixture
def image(busybox: str) -> str:
    return busybox


@pytest.fixture
def cloud(podman_cloud: LocalCloud) -> LocalCloud:
    return podman_cloud


def listener(port: int, target: str) -> dict[str, Any]:
    members = {
        "LoadBalancerArn": {"Ref": "Balancer"},
        "Port": port,
        "Protocol": "HTTP",
        "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": target}}],
    }
    return {"Type": "AWS::ElasticLoadBalancingV2::Listener", "Properties": members}


def template(image: str) -> dict[str, Any]:
    pair = {
        "TargetGroups": [{"Name": {"Fn::GetAtt": [one, "TargetGroupName"]}} for one in ("First", "Second")],
        "ProdTrafficRoute": {"ListenerArns": [{"Ref": "Listener"}]},
        "TestTrafficRoute": {"ListenerArns": [{"Ref": "TestListener"}]},
    }
    deploys = {
        "ApplicationName": {"Ref": "App"},
        "DeploymentGroupName": "group",
        "ServiceRoleArn": ROLE,
        "DeploymentConfigName": "CodeDeployDefault.ECSCanary10Percent5Minutes",
        "DeploymentStyle": {"DeploymentType": "BLUE_GREEN", "DeploymentOption": "WITH_TRAFFIC_CONTROL"},
        "ECSServices": [{"ClusterName": {"Ref": "Cluster"}, "ServiceName": {"Fn::GetAtt": ["Service", "Name"]}}],
        "LoadBalancerInfo": {"TargetGroupPairInfoList": [pair]},
        "BlueGreenDeploymentConfiguration": {
            "DeploymentReadyOption": {"ActionOnTimeout": "STOP_DEPLOYMENT", "WaitTimeInMinutes": 60},
            "TerminateBlueInstancesOnDeploymentSuccess": {"Action": "TERMINATE", "TerminationWaitTimeInMinutes": 10},
        },
        "AlarmConfiguration": {"Enabled": True, "Alarms": [{"Name": "errors"}]},
        "AutoRollbackConfiguration": {"Enabled": True, "Events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"]},
    }
    service = {
        "Cluster": {"Ref": "Cluster"},
        "ServiceName": "web",
        "TaskDefinition": {"Ref": "One"},
        "DesiredCount": 1,
        "LaunchType": "FARGATE",
        "DeploymentController": {"Type": "CODE_DEPLOY"},
        "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": [{"Ref": "SubnetA"}]}},
        "LoadBalancers": [{"TargetGroupArn": {"Ref": "First"}, "ContainerName": "web", "ContainerPort": 8080}],
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
            "Listener": listener(PORT, "First"),
            "TestListener": listener(TEST_PORT, "First"),
            "Cluster": {"Type": "AWS::ECS::Cluster"},
            "One": tasks(image, "one"),
            "Two": tasks(image, "two"),
            "Service": {
                "Type": "AWS::ECS::Service",
                "DependsOn": ["Listener", "TestListener"],
                "Properties": service,
            },
            "App": {"Type": "AWS::CodeDeploy::Application", "Properties": {"ComputePlatform": "ECS"}},
            "Group": {"Type": "AWS::CodeDeploy::DeploymentGroup", "Properties": deploys},
        },
        "Outputs": {
            "Name": {"Value": {"Fn::GetAtt": ["Balancer", "DNSName"]}},
            "Cluster": {"Value": {"Ref": "Cluster"}},
            "App": {"Value": {"Ref": "App"}},
        },
    }


class Web:
    """The service of the stack, and whoever deploys it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.ecs, self.deploy = cloud.client("ecs"), cloud.client("codedeploy")
        (stack,) = cloud.client("cloudformation").describe_stacks()["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        self.host, self.cluster, self.application = outputs["Name"], outputs["Cluster"], outputs["App"]

    def versions(self, count: int = 400, port: int = PORT) -> Counter[str]:
        found: Counter[str] = Counter()
        for _ in range(count):
            ask = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": self.host})
            with urllib.request.urlopen(ask, timeout=5) as answer:
                found[answer.read().decode()] += 1
        return found

    def create(self, version: str) -> str:
        properties = {
            "TaskDefinition": version,
            "LoadBalancerInfo": {"ContainerName": "web", "ContainerPort": 8080},
        }
        resource = {"TargetService": {"Type": "AWS::ECS::Service", "Properties": properties}}
        content = json.dumps({"version": 0.0, "Resources": [resource]})
        revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}}
        made = self.deploy.create_deployment(
            applicationName=self.application, deploymentGroupName="group", revision=revision
        )
        id: str = made["deploymentId"]
        return id

    def info(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.deploy.get_deployment(deploymentId=id)["deploymentInfo"]
        return found

    def comes_to(self, id: str, status: str) -> dict[str, Any]:
        eventually(lambda: self.info(id)["status"] in (status, "Succeeded", "Failed", "Stopped"))
        assert self.info(id)["status"] == status, self.info(id)
        return self.info(id)

    def target(self, id: str) -> dict[str, Any]:
        name = f"{self.cluster}:web"
        found: dict[str, Any] = self.deploy.get_deployment_target(deploymentId=id, targetId=name)["deploymentTarget"]
        one: dict[str, Any] = found["ecsTarget"]
        return one

    def shares(self, id: str) -> dict[str, float]:
        return {one["taskSetLabel"]: one["trafficWeight"] for one in self.target(id)["taskSetsInfo"]}

    def sets(self) -> list[tuple[str, str]]:
        (service,) = self.ecs.describe_services(cluster=self.cluster, services=["web"])["services"]
        return [(one["taskDefinition"].split("/")[1], one["status"]) for one in service["taskSets"]]

    def refused(self, **changes: Any) -> str:
        with pytest.raises(ClientError) as caught:
            self.ecs.update_service(cluster=self.cluster, service="web", **changes)
        return str(caught.value.response["Error"]["Message"])


def test_a_service_goes_over_to_another_task_set_or_back(cloud: LocalCloud, image: str) -> None:
    stacks, cloudwatch = cloud.client("cloudformation"), cloud.client("cloudwatch")
    alarm = {"EvaluationPeriods": 1, "Period": 60, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold"}
    cloudwatch.put_metric_alarm(AlarmName="errors", MetricName="e", Namespace="n", Statistic="Sum", **alarm)
    stacks.create_stack(StackName="web", TemplateBody=json.dumps(template(image)))
    stacks.get_waiter("stack_create_complete").wait(WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    web = Web(cloud)
    assert web.versions(20) == {"one": 20}
    assert web.sets() == [("one:1", "PRIMARY")]
    words = "on services with a CODE_DEPLOY deployment controller. Use AWS CodeDeploy to trigger a new deployment."
    assert web.refused(taskDefinition="two") == f"Unable to update task definition {words}"
    assert web.refused(forceNewDeployment=True) == f"Cannot force a new deployment {words}"
    with pytest.raises(ClientError, match="external deployment controllers"):
        web.ecs.create_task_set(cluster=web.cluster, service="web", taskDefinition="two")

    # Test traffic first; production's when somebody lets it go; a tenth, through a kill; all; then blue's end.
    id = web.create("two")
    web.comes_to(id, "Ready")
    assert web.versions(20, TEST_PORT) == {"two": 20}
    assert web.versions(20) == {"one": 20}
    assert web.shares(id) == {"Blue": 100.0, "Green": 0.0}
    web.deploy.continue_deployment(deploymentId=id, deploymentWaitType="READY_WAIT")
    eventually(lambda: web.shares(id) == {"Blue": 90.0, "Green": 10.0})
    eventually(lambda: web.versions(50)["two"] > 0)
    cloud.kill()
    assert 10 <= web.versions()["two"] <= 90
    cloud.start()
    assert web.info(id)["status"] == "InProgress"
    assert 10 <= web.versions()["two"] <= 90
    cloud.advance(301)
    eventually(lambda: web.info(id)["instanceTerminationWaitTimeStarted"])
    assert web.versions(50) == {"two": 50}
    assert sorted(web.sets()) == [("one:1", "ACTIVE"), ("two:1", "PRIMARY")]
    events = {one["lifecycleEventName"]: one["status"] for one in web.target(id)["lifecycleEvents"]}
    assert list(events) == [
        *("BeforeInstall", "Install", "AfterInstall", "AllowTestTraffic", "AfterAllowTestTraffic"),
        *("BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic"),
    ]
    assert set(events.values()) == {"Succeeded"}
    cloud.advance(601)
    web.comes_to(id, "Succeeded")
    assert web.sets() == [("two:1", "PRIMARY")]
    assert web.versions(50) == {"two": 50}

    # An alarm turns the next one back.
    id = web.create("one")
    web.comes_to(id, "Ready")
    web.deploy.continue_deployment(deploymentId=id)
    eventually(lambda: web.shares(id) == {"Blue": 90.0, "Green": 10.0})
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    stopped = web.comes_to(id, "Stopped")
    assert stopped["errorInformation"]["code"] == "ALARM_ACTIVE"
    back = web.comes_to(stopped["rollbackInfo"]["rollbackDeploymentId"], "Succeeded")
    assert (back["creator"], back["deploymentConfigName"]) == ("codeDeployRollback", "CodeDeployDefault.ECSAllAtOnce")
    assert web.versions(50) == {"two": 50}
    assert web.versions(20, TEST_PORT) == {"two": 20}
    assert web.sets() == [("two:1", "PRIMARY")]
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="OK", StateReason="a test")

    # A task definition that is not there: nothing has changed.
    failed = web.comes_to(web.create("three"), "Failed")
    assert failed["errorInformation"]["code"] == "ECS_UPDATE_ERROR"
    web.comes_to(failed["rollbackInfo"]["rollbackDeploymentId"], "Succeeded")
    assert web.versions(20) == {"two": 20}

    web.ecs.update_service(cluster=web.cluster, service="web", desiredCount=2)
    (service,) = web.ecs.describe_services(cluster=web.cluster, services=["web"])["services"]
    assert service["taskSets"][0]["computedDesiredCount"] == 2
    web.ecs.update_service(cluster=web.cluster, service="web", desiredCount=0)
    assert web.ecs.delete_service(cluster=web.cluster, service="web")["service"]["status"] == "DRAINING"
    stacks.delete_stack(StackName="web")
    stacks.get_waiter("stack_delete_complete").wait(StackName="web", WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_a_network_load_balancer_goes_over_at_once_and_back() -> None:
    with LocalCloud() as cloud:
        ec2, elbv2, ecs, deploy = (cloud.client(name) for name in ("ec2", "elbv2", "ecs", "codedeploy"))
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]]
        balancer = elbv2.create_load_balancer(Name="n", Type="network", Subnets=subnets)["LoadBalancers"][0]
        kind = {"Protocol": "TCP", "Port": 80, "VpcId": vpc, "TargetType": "ip"}
        first, second = (
            elbv2.create_target_group(Name=name, **kind)["TargetGroups"][0]["TargetGroupArn"] for name in ("g1", "g2")
        )
        action = {"Type": "forward", "TargetGroupArn": first}
        arn = elbv2.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="TCP", Port=TEST_PORT, DefaultActions=[action]
        )["Listeners"][0]["ListenerArn"]
        for family in ("one", "two"):
            ecs.register_task_definition(
                family=family,
                networkMode="awsvpc",
                requiresCompatibilities=["FARGATE"],
                cpu="256",
                memory="512",
                containerDefinitions=[{"name": "web", "image": "x", "portMappings": [{"containerPort": 80}]}],
            )
        ecs.create_cluster(clusterName="c")
        ecs.create_service(
            cluster="c",
            serviceName="s",
            taskDefinition="one",
            desiredCount=0,
            launchType="FARGATE",
            deploymentController={"type": "CODE_DEPLOY"},
            networkConfiguration={"awsvpcConfiguration": {"subnets": subnets}},
            loadBalancers=[{"targetGroupArn": first, "containerName": "web", "containerPort": 80}],
        )
        pair = {"targetGroups": [{"name": "g1"}, {"name": "g2"}], "prodTrafficRoute": {"listenerArns": [arn]}}
        retire = {"action": "TERMINATE", "terminationWaitTimeInMinutes": 5}
        group = {
            "applicationName": "a",
            "deploymentGroupName": "g",
            "serviceRoleArn": ROLE,
            "ecsServices": [{"clusterName": "c", "serviceName": "s"}],
            "blueGreenDeploymentConfiguration": {"terminateBlueInstancesOnDeploymentSuccess": retire},
            "loadBalancerInfo": {"targetGroupPairInfoList": [pair]},
        }
        deploy.create_application(applicationName="a", computePlatform="ECS")
        with pytest.raises(ClientError, match="Only ALB supports gradual traffic routing"):
            deploy.create_deployment_group(deploymentConfigName="CodeDeployDefault.ECSCanary10Percent5Minutes", **group)
        deploy.create_deployment_group(**group)
        web = {"TaskDefinition": "two", "LoadBalancerInfo": {"ContainerName": "web", "ContainerPort": 80}}
        resource = {"TargetService": {"Type": "AWS::ECS::Service", "Properties": web}}
        content = json.dumps({"version": 0.0, "Resources": [resource]})
        revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}}

        def state() -> tuple[str, list[tuple[str, str]]]:
            (one,) = elbv2.describe_listeners(ListenerArns=[arn])["Listeners"]
            (service,) = ecs.describe_services(cluster="c", services=["s"])["services"]
            sets = [(each["taskDefinition"].split("/")[1], each["status"]) for each in service["taskSets"]]
            return one["DefaultActions"][0]["TargetGroupArn"], sorted(sets)

        def create() -> str:
            made = deploy.create_deployment(applicationName="a", deploymentGroupName="g", revision=revision)
            eventually(lambda: state() == (second, [("one:1", "ACTIVE"), ("two:1", "PRIMARY")]))
            id: str = made["deploymentId"]
            return id

        deploy.stop_deployment(deploymentId=create(), autoRollbackEnabled=True)
        eventually(lambda: state() == (first, [("one:1", "PRIMARY")]))
        eventually(lambda: not deploy.list_deployments(includeOnlyStatuses=["Created", "InProgress"])["deployments"])
        id = create()

        def is_waiting() -> bool:
            return bool(deploy.get_deployment(deploymentId=id)["deploymentInfo"]["instanceTerminationWaitTimeStarted"])

        eventually(is_waiting)
        deploy.continue_deployment(deploymentId=id, deploymentWaitType="TERMINATION_WAIT")
        eventually(lambda: state() == (second, [("two:1", "PRIMARY")]))
