"""ECS on EC2: container instances registered by their agents, tasks placed on them, traffic through their ports."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    missing = [one for one in ("bwrap", "ip", "nft", "nsenter", "curl", "python3") if shutil.which(one) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and: {', '.join(missing) or 'nothing more'}")
    monkeypatch.setenv("CLOUDLET_ENGINE", "processes")
    with LocalCloud() as running:
        yield running
        print(running.log)


def launch(cloud: LocalCloud, count: int, **more: Any) -> list[str]:
    """Instances of a cluster ``c``, registered."""
    ec2, ecs = cloud.client("ec2"), cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    profile(cloud)
    name = "/aws/service/ecs/optimized-ami/amazon-linux-2/recommended/image_id"
    made = ec2.run_instances(
        ImageId=cloud.client("ssm").get_parameter(Name=name)["Parameter"]["Value"],
        MinCount=count,
        MaxCount=count,
        UserData="#!/bin/bash\necho ECS_CLUSTER=c >> /etc/ecs/ecs.config\n"
        'echo \'ECS_INSTANCE_ATTRIBUTES={"rack": "r1"}\' >> /etc/ecs/ecs.config\n',
        IamInstanceProfile={"Name": "p"},
        **{"InstanceType": "t2.micro", **more},
    )
    eventually(lambda: len(instances(ecs)) == count)
    return [one["InstanceId"] for one in made["Instances"]]


def instances(ecs: Any) -> list[dict[str, Any]]:
    arns = ecs.list_container_instances(cluster="c")["containerInstanceArns"]
    if not arns:
        return []
    return ecs.describe_container_instances(cluster="c", containerInstances=arns)["containerInstances"]  # type: ignore[no-any-return]


def register(ecs: Any, folder: Path, family: str = "web", **more: Any) -> None:
    (folder / "index.html").write_text("hello\n")
    container = {
        "name": "web",
        "image": str(folder),
        "command": ["python3", "-m", "http.server", "3000"],
        "cpu": 256,
        "memory": 256,
        "portMappings": [{"containerPort": 3000, "hostPort": 0}],
        "stopTimeout": 2,
        **more,
    }
    ecs.register_task_definition(family=family, containerDefinitions=[container])


def tasks(ecs: Any, status: str = "RUNNING") -> list[dict[str, Any]]:
    arns = ecs.list_tasks(cluster="c", desiredStatus=status)["taskArns"]
    return ecs.describe_tasks(cluster="c", tasks=arns)["tasks"] if arns else []


def remaining(instance: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one["integerValue"] for one in instance["remainingResources"]}


def fetch(url: str) -> str:
    return subprocess.run(["curl", "-s", "-m", "3", url], capture_output=True, text=True).stdout


def test_tasks_are_placed_by_what_instances_have(cloud: LocalCloud, tmp_path: Path) -> None:
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    register(ecs, tmp_path)
    with pytest.raises(ClientError, match="No Container Instances were found in your cluster"):
        ecs.run_task(cluster="c", taskDefinition="web")
    launch(cloud, 2)
    one = instances(ecs)[0]
    assert remaining(one)["CPU"] == 1024
    attributes = {each["name"]: each.get("value") for each in one["attributes"]}
    assert (attributes["rack"], attributes["ecs.instance-type"]) == ("r1", "t2.micro")

    # Spread over both, each at a port of its instance.
    made = ecs.run_task(cluster="c", taskDefinition="web", count=2)["tasks"]
    assert len({each["containerInstanceArn"] for each in made}) == 2
    eventually(lambda: all(each["lastStatus"] == "RUNNING" for each in tasks(ecs)))
    place = {each["containerInstanceArn"]: each["ec2InstanceId"] for each in instances(ecs)}
    for each in tasks(ecs):
        found = cloud.client("ec2").describe_instances(InstanceIds=[place[each["containerInstanceArn"]]])
        address = found["Reservations"][0]["Instances"][0]["PublicIpAddress"]
        port = each["containers"][0]["networkBindings"][0]["hostPort"]
        assert eventually(lambda address=address, port=port: fetch(f"http://{address}:{port}/")) == "hello\n"
    assert [remaining(each)["MEMORY"] for each in instances(ecs)] == [983 - 256] * 2

    # What fits nowhere says why; expressions choose.
    register(ecs, tmp_path, "big", memory=900)
    failures = ecs.run_task(cluster="c", taskDefinition="big")["failures"]
    assert {each["reason"] for each in failures} == {"RESOURCE:MEMORY"}
    register(ecs, tmp_path, "fixed", portMappings=[{"containerPort": 3000, "hostPort": 8080}])
    answer = ecs.run_task(cluster="c", taskDefinition="fixed", count=3)
    assert len(answer["tasks"]) == 2
    assert {each["reason"] for each in answer["failures"]} == {"RESOURCE:PORTS"}
    constraint = {"type": "memberOf", "expression": "attribute:rack == r2 or ec2InstanceId == none"}
    answer = ecs.run_task(cluster="c", taskDefinition="web", placementConstraints=[constraint])
    assert answer["failures"][0]["reason"] == "MemberOf placement constraint unsatisfied."
    ecs.put_attributes(
        cluster="c", attributes=[{"name": "rack", "value": "r2", "targetId": one["containerInstanceArn"]}]
    )
    answer = ecs.run_task(cluster="c", taskDefinition="web", placementConstraints=[constraint])
    assert answer["tasks"][0]["containerInstanceArn"] == one["containerInstanceArn"]
    started = ecs.start_task(cluster="c", taskDefinition="web", containerInstances=["none"])
    assert started["failures"][0]["reason"] == "MISSING"
    filtered = ecs.list_container_instances(cluster="c", filter="attribute:rack == r2")["containerInstanceArns"]
    assert filtered == [one["containerInstanceArn"]]


def test_an_instance_that_has_ended_is_not_registered(cloud: LocalCloud) -> None:
    ecs, ec2 = cloud.client("ecs"), cloud.client("ec2")
    ecs.create_cluster(clusterName="c")
    (id,) = launch(cloud, 1)
    ec2.terminate_instances(InstanceIds=[id])
    with pytest.raises(ClientError, match="has ended"):
        ecs.register_container_instance(cluster="c", instanceIdentityDocument=json.dumps({"instanceId": id}))
    eventually(lambda: not instances(ecs))
    ecs.delete_cluster(cluster="c")


def test_a_service_follows_its_instances(cloud: LocalCloud, tmp_path: Path) -> None:
    ecs, ec2 = cloud.client("ecs"), cloud.client("ec2")
    ids = launch(cloud, 2)
    register(ecs, tmp_path)
    ecs.create_service(cluster="c", serviceName="s", taskDefinition="web", desiredCount=2)
    ecs.create_service(cluster="c", serviceName="d", taskDefinition="web", schedulingStrategy="DAEMON")
    eventually(lambda: _running(ecs, "s") == 2 and _running(ecs, "d") == 2)

    # One that is drained is left by its tasks.
    one = instances(ecs)[0]
    ecs.update_container_instances_state(
        cluster="c", containerInstances=[one["containerInstanceArn"]], status="DRAINING"
    )
    eventually(lambda: {t["containerInstanceArn"] for t in tasks(ecs)} == {instances(ecs)[1]["containerInstanceArn"]})
    eventually(lambda: _running(ecs, "s") == 2 and _running(ecs, "d") == 1)
    ecs.update_container_instances_state(cluster="c", containerInstances=[one["containerInstanceArn"]], status="ACTIVE")
    eventually(lambda: _running(ecs, "d") == 2)

    # A kill of the control plane changes nothing.
    before = sorted(each["taskArn"] for each in tasks(ecs))
    cloud.kill()
    cloud.start()
    eventually(lambda: _running(ecs, "s") == 2)
    assert sorted(each["taskArn"] for each in tasks(ecs)) == before

    # More than there is room for: those that fit run, and the service says why the others do not.
    ecs.update_service(cluster="c", service="s", desiredCount=20)
    eventually(lambda: "has insufficient memory" in _events(ecs, "s")[0])
    ecs.update_service(cluster="c", service="s", desiredCount=1)
    eventually(lambda: _running(ecs, "s") == 1)

    # An instance that is terminated takes its tasks with it, and they start elsewhere.
    ec2.terminate_instances(InstanceIds=ids[:1])
    eventually(lambda: len(instances(ecs)) == 1 and _running(ecs, "s") == 1 and _running(ecs, "d") == 1)
    assert {t["containerInstanceArn"] for t in tasks(ecs)} == {instances(ecs)[0]["containerInstanceArn"]}
    assert f"Host EC2 (instance {ids[0]}) terminated." in {t["stoppedReason"] for t in tasks(ecs, "STOPPED")}


def test_a_capacity_provider_brings_instances_and_takes_them_back(cloud: LocalCloud, tmp_path: Path) -> None:
    ecs, autoscaling = cloud.client("ecs"), cloud.client("autoscaling")
    profile(cloud)
    script = "#!/bin/bash\necho ECS_CLUSTER=c >> /etc/ecs/ecs.config\n"
    cloud.client("ec2").create_launch_template(
        LaunchTemplateName="machines",
        LaunchTemplateData={
            "ImageId": "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2/recommended/image_id",
            "InstanceType": "t2.micro",
            "IamInstanceProfile": {"Name": "p"},
            "UserData": base64.b64encode(script.encode()).decode(),
        },
    )
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="g",
        MinSize=0,
        MaxSize=2,
        LaunchTemplate={"LaunchTemplateName": "machines"},
        AvailabilityZones=["us-east-1a"],
    )
    arn = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["AutoScalingGroupARN"]
    ecs.create_capacity_provider(
        name="machines",
        autoScalingGroupProvider={"autoScalingGroupArn": arn, "managedScaling": {"status": "ENABLED"}},
    )
    strategy = [{"capacityProvider": "machines", "weight": 1}]
    ecs.create_cluster(clusterName="c", capacityProviders=["machines"], defaultCapacityProviderStrategy=strategy)
    register(ecs, tmp_path, memory=600)
    ecs.create_service(cluster="c", serviceName="s", taskDefinition="web", desiredCount=2)
    eventually(lambda: _running(ecs, "s") == 2)
    assert {one["capacityProviderName"] for one in instances(ecs)} == {"machines"}
    assert len(instances(ecs)) == 2

    # What is run beyond all that the group may have waits for a place, also over a kill, and stops if it is told to.
    ask = {"cluster": "c", "taskDefinition": "web", "clientToken": "once"}
    waiting = [one["taskArn"] for one in ecs.run_task(count=2, **ask)["tasks"]]
    assert [one["taskArn"] for one in ecs.run_task(count=2, **ask)["tasks"]] == waiting
    with pytest.raises(ClientError, match="clientToken is already in use"):
        ecs.run_task(count=1, **ask)
    cloud.kill()
    cloud.start()
    found = ecs.describe_tasks(cluster="c", tasks=waiting)["tasks"]
    assert {(one["lastStatus"], one.get("containerInstanceArn")) for one in found} == {("PROVISIONING", None)}
    ecs.stop_task(cluster="c", task=waiting[0])
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=waiting[:1])["tasks"][0]["lastStatus"] == "STOPPED")

    ecs.update_service(cluster="c", service="s", desiredCount=0)
    eventually(lambda: [one["taskArn"] for one in tasks(ecs) if one["lastStatus"] == "RUNNING"] == waiting[1:])
    cloud.advance(60)
    metric = {
        "Namespace": "AWS/ECS/ManagedScaling",
        "MetricName": "CapacityProviderReservation",
        "Dimensions": [{"Name": "ClusterName", "Value": "c"}, {"Name": "CapacityProviderName", "Value": "machines"}],
    }
    times = {"StartTime": time.time() - 3600, "EndTime": time.time() + 3600, "Period": 60, "Statistics": ["Maximum"]}
    statistics = cloud.client("cloudwatch").get_metric_statistics
    points = eventually(lambda: statistics(**metric, **times)["Datapoints"])
    assert max(one["Maximum"] for one in points) >= 100.0
    # An instance that its group wants to end keeps its task until that has stopped.
    held = ecs.describe_tasks(cluster="c", tasks=waiting[1:])["tasks"][0]["containerInstanceArn"]
    (one,) = ecs.describe_container_instances(cluster="c", containerInstances=[held])["containerInstances"]
    autoscaling.terminate_instance_in_auto_scaling_group(
        InstanceId=one["ec2InstanceId"], ShouldDecrementDesiredCapacity=True
    )
    eventually(lambda: {each["status"] for each in instances(ecs)} == {"DRAINING", "ACTIVE"})
    cloud.kill()
    cloud.start()
    assert [each["lastStatus"] for each in tasks(ecs)] == ["RUNNING"]
    assert len(instances(ecs)) == 2
    ecs.stop_task(cluster="c", task=waiting[1])
    eventually(lambda: not tasks(ecs))
    eventually(lambda: len(instances(ecs)) == 1)
    eventually(lambda: all(each["lastStatus"] == "STOPPED" for each in tasks(ecs, "STOPPED")))
    cloud.advance(1000)
    eventually(lambda: instances(ecs) == [])
    assert autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["DesiredCapacity"] == 0


def profile(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(_TRUST))
    iam.create_instance_profile(InstanceProfileName="p")
    iam.add_role_to_instance_profile(InstanceProfileName="p", RoleName="r")


def _service(ecs: Any, name: str) -> dict[str, Any]:
    return ecs.describe_services(cluster="c", services=[name])["services"][0]  # type: ignore[no-any-return]


def _running(ecs: Any, name: str) -> int:
    return int(_service(ecs, name)["runningCount"])


def _events(ecs: Any, name: str) -> list[str]:
    return [one["message"] for one in _service(ecs, name)["events"]]
