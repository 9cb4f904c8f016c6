"""ECS with a real client and real containers: on Podman where it is, and as processes."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/task"


@pytest.fixture
def root(busybox: str) -> str:
    return busybox


@pytest.fixture
def cloud(engine_cloud: LocalCloud) -> LocalCloud:
    return engine_cloud


def register(ecs: Any, root: str, *command: str, **more: Any) -> str:
    """A Fargate task definition of one container."""
    container = {
        "name": "app",
        "image": root,
        "command": list(command),
        "portMappings": [{"containerPort": 8080}],
        "stopTimeout": 2,
        **more.pop("container", {}),
    }
    made = ecs.register_task_definition(
        family=more.pop("family", "web"),
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu=more.pop("cpu", "256"),
        memory=more.pop("memory", ".5GB"),
        executionRoleArn=ROLE,
        containerDefinitions=[container, *more.pop("others", [])],
        **more,
    )
    return str(made["taskDefinition"]["taskDefinitionArn"])


def network(cloud: LocalCloud) -> dict[str, Any]:
    """In the default VPC, behind a security group that lets everybody in."""
    ec2 = cloud.client("ec2")
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    known = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["open"]}])["SecurityGroups"]
    if known:
        group = known[0]["GroupId"]
    else:
        group = ec2.create_security_group(GroupName="open", Description="open", VpcId=vpc["VpcId"])["GroupId"]
        everybody = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[everybody])
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    return {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}


def run(cloud: LocalCloud, definition: str, **more: Any) -> str:
    answer = cloud.client("ecs").run_task(
        cluster="c", taskDefinition=definition, launchType="FARGATE", networkConfiguration=network(cloud), **more
    )
    assert answer["failures"] == []
    return str(answer["tasks"][0]["taskArn"])


def task(ecs: Any, arn: str) -> dict[str, Any]:
    return ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]  # type: ignore[no-any-return]


def stopped(ecs: Any, arn: str) -> dict[str, Any]:
    eventually(lambda: task(ecs, arn)["lastStatus"] == "STOPPED")
    return task(ecs, arn)


def test_a_task_gets_what_it_needs_and_says_how_it_ended(cloud: LocalCloud, root: str) -> None:
    ecs, logs = cloud.client("ecs"), cloud.client("logs")
    ecs.create_cluster(clusterName="c")
    cloud.client("ssm").put_parameter(Name="/db/user", Value="anna", Type="SecureString")
    secret = cloud.client("secretsmanager").create_secret(Name="db", SecretString='{"password": "tiger"}')["ARN"]
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="files")
    s3.put_object(Bucket="files", Key="a.env", Body=b"# a comment\nFROM_FILE=yes\nGIVEN=file\n")
    logs.create_log_group(logGroupName="/tasks")
    script = (
        "echo user=$USERNAME password=$PASSWORD file=$FROM_FILE given=$GIVEN region=$AWS_REGION; "
        "wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/task; echo; "
        "wget -q -O - $AWS_CONTAINER_CREDENTIALS_FULL_URI; echo; "
        "echo kept > /data/x; cat /data/x; exit 3"
    )
    definition = register(
        ecs,
        root,
        "sh",
        "-c",
        script,
        taskRoleArn=ROLE,
        volumes=[{"name": "data"}],
        container={
            "environment": [{"name": "GIVEN", "value": "definition"}],
            "environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::files/a.env"}],
            "secrets": [
                {"name": "USERNAME", "valueFrom": "/db/user"},
                {"name": "PASSWORD", "valueFrom": f"{secret}:password::"},
            ],
            "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": "/tasks",
                    "awslogs-region": "us-east-1",
                    "awslogs-stream-prefix": "web",
                },
            },
        },
    )
    arn = run(cloud, definition)
    ended = stopped(ecs, arn)
    assert ended["stopCode"] == "EssentialContainerExited", ended
    assert ended["stoppedReason"] == "Essential container in task exited"
    assert ended["containers"][0]["exitCode"] == 3
    assert (ended["cpu"], ended["memory"]) == ("256", "512")
    stream = f"web/app/{arn.rpartition('/')[2]}"
    lines = [one["message"] for one in logs.get_log_events(logGroupName="/tasks", logStreamName=stream)["events"]]
    assert lines[0] == "user=anna password=tiger file=yes given=definition region=us-east-1"
    assert json.loads(lines[1])["TaskARN"] == arn
    assert json.loads(lines[2])["RoleArn"] == ROLE
    assert lines[3] == "kept"


def test_a_container_has_the_volumes_of_another(cloud: LocalCloud, root: str) -> None:
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    writer = {
        "name": "writer",
        "image": root,
        "command": ["sh", "-c", "echo hello > /data/x"],
        "essential": False,
        "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}],
    }
    given: dict[str, Any] = {
        "volumes": [{"name": "data"}],
        "others": [writer],
        "container": {
            "volumesFrom": [{"sourceContainer": "writer", "readOnly": True}],
            "dependsOn": [{"containerName": "writer", "condition": "SUCCESS"}],
        },
    }
    definition = register(ecs, root, "sh", "-c", "grep hello /data/x && ! echo > /data/y && exit 7", **given)
    (app, _) = ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]["containerDefinitions"]
    assert app["volumesFrom"] == given["container"]["volumesFrom"]
    ended = stopped(ecs, run(cloud, definition))
    assert {one["name"]: one["exitCode"] for one in ended["containers"]} == {"writer": 0, "app": 7}
    given["container"]["volumesFrom"][0]["sourceContainer"] = "nobody"
    with pytest.raises(ClientError, match="Invalid 'volumesFrom' setting"):
        register(ecs, root, "true", **given)


def test_containers_start_in_their_order_and_bad_tasks_say_why(cloud: LocalCloud, root: str) -> None:
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    init = {"name": "init", "image": root, "command": ["sh", "-c", "sleep 0.2"], "essential": False}
    side = {
        "name": "side",
        "image": root,
        "command": ["sh", "-c", "sleep 0.5; echo > /tmp/well; sleep 60"],
        "stopTimeout": 2,
        "healthCheck": {"command": ["CMD-SHELL", "cat /tmp/well"], "interval": 5},
    }
    definition = register(
        ecs,
        root,
        "sleep",
        "60",
        others=[init, side],
        container={
            "dependsOn": [
                {"containerName": "init", "condition": "SUCCESS"},
                {"containerName": "side", "condition": "HEALTHY"},
            ]
        },
    )
    arn = run(cloud, definition)
    ecs.get_waiter("tasks_running").wait(cluster="c", tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    running = task(ecs, arn)
    assert running["healthStatus"] == "HEALTHY"
    assert {one["name"]: one["lastStatus"] for one in running["containers"]} == {
        "app": "RUNNING",
        "init": "STOPPED",
        "side": "RUNNING",
    }
    ecs.stop_task(cluster="c", task=arn, reason="enough")
    ecs.get_waiter("tasks_stopped").wait(cluster="c", tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    assert (task(ecs, arn)["stopCode"], task(ecs, arn)["stoppedReason"]) == ("UserInitiated", "enough")

    missing = register(ecs, "localhost/nobody/has-this:1", "true", family="missing")
    ended = stopped(ecs, run(cloud, missing))
    assert ended["stopCode"] == "TaskFailedToStart"
    assert ended["stoppedReason"].startswith("CannotPullContainerError")
    nonsense = register(ecs, "./nobody", "true", family="nonsense")
    assert "invalid reference format: ./nobody" in stopped(ecs, run(cloud, nonsense))["stoppedReason"]
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 120 * 2**30:
        huge = register(ecs, root, "true", family="huge", cpu="16 vCPU", memory="120 GB")
        assert "needs 122880 MiB of memory" in stopped(ecs, run(cloud, huge))["stoppedReason"]
    secret = register(ecs, root, "true", family="s", container={"secrets": [{"name": "A", "valueFrom": "/none"}]})
    ended = stopped(ecs, run(cloud, secret))
    assert ended["stoppedReason"].startswith("ResourceInitializationError: unable to pull secrets or registry auth")
    assert "invalid parameters: /none" in ended["stoppedReason"]


def running_tasks(ecs: Any) -> list[str]:
    arns = ecs.list_tasks(cluster="c", serviceName="web")["taskArns"]
    found = ecs.describe_tasks(cluster="c", tasks=arns)["tasks"] if arns else []
    return sorted(one["taskArn"] for one in found if one["lastStatus"] == "RUNNING")


def test_a_service_is_kept_running_through_everything(cloud: LocalCloud, root: str, tmp_path: Path) -> None:
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    definition = register(ecs, root, "httpd", "-f", "-p", "8080", "-h", "/www")
    ecs.create_service(
        cluster="c",
        serviceName="web",
        taskDefinition=definition,
        desiredCount=2,
        launchType="FARGATE",
        networkConfiguration=network(cloud),
    )
    stable = ecs.get_waiter("services_stable")
    stable.wait(cluster="c", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    first = running_tasks(ecs)
    assert len(first) == 2
    for arn in first:
        details = {one["name"]: one["value"] for one in task(ecs, arn)["attachments"][0]["details"]}
        if cloud_has_addresses(details["privateIPv4Address"]):
            with urllib.request.urlopen(f"http://{details['privateIPv4Address']}:8080/", timeout=5) as answer:
                assert answer.read() == b"hello"

    # One is stopped and replaced.
    ecs.stop_task(cluster="c", task=first[0])
    eventually(lambda: len(now := running_tasks(ecs)) == 2 and first[0] not in now)
    second = running_tasks(ecs)
    assert first[1] in second

    # The control plane is killed: the same tasks run on, and it knows them.
    cloud.kill()
    cloud.start()
    eventually(lambda: running_tasks(ecs) == second)
    time.sleep(0.5)
    assert running_tasks(ecs) == second
    service = ecs.describe_services(cluster="c", services=["web"])["services"][0]
    assert (service["runningCount"], service["pendingCount"], service["desiredCount"]) == (2, 0, 2)
    assert "has reached a steady state" in service["events"][0]["message"]

    # Another revision takes its place.
    new = register(ecs, root, "httpd", "-f", "-p", "8080", "-h", "/tmp")
    ecs.update_service(cluster="c", service="web", taskDefinition=new)
    stable.wait(cluster="c", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    assert not set(running_tasks(ecs)) & set(second)
    assert all(task(ecs, arn)["taskDefinitionArn"] == new for arn in running_tasks(ecs))

    with pytest.raises(ClientError, match="cannot be stopped while it is scaled above 0"):
        ecs.delete_service(cluster="c", service="web")
    ecs.delete_service(cluster="c", service="web", force=True)
    ecs.get_waiter("services_inactive").wait(
        cluster="c", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    assert running_tasks_of_cluster(ecs) == []
    ecs.delete_cluster(cluster="c")


def running_tasks_of_cluster(ecs: Any) -> list[str]:
    return list(ecs.list_tasks(cluster="c")["taskArns"])


def cloud_has_addresses(address: str) -> bool:
    return not address.startswith("127.") and bool(address)


def test_definitions_are_checked_as_on_aws(cloud: LocalCloud, root: str) -> None:
    ecs = cloud.client("ecs")
    fargate = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
    app = {"name": "app", "image": "i"}

    def refused(words: str, **input: Any) -> None:
        with pytest.raises(ClientError, match=words) as raised:
            ecs.register_task_definition(family="f", **input)
        assert raised.value.response["Error"]["Code"] == "ClientException"

    refused("No Fargate configuration exists", containerDefinitions=[app], **{**fargate, "memory": "4096"})
    refused("only supports network mode", containerDefinitions=[app], **{**fargate, "networkMode": "bridge"})
    refused("At least one of 'memory' or 'memoryReservation'", containerDefinitions=[app])
    refused("must be marked as essential", containerDefinitions=[{**app, "essential": False}], **fargate)
    one = {**app, "dependsOn": [{"containerName": "two", "condition": "START"}]}
    two = {**app, "name": "two", "dependsOn": [{"containerName": "app", "condition": "START"}]}
    refused("Container dependsOn contains a cycle", containerDefinitions=[one, two], **fargate)
    one["dependsOn"] = [{"containerName": "three", "condition": "START"}]
    refused(r"Cannot depend on container \+ 'three' because it does not exist", containerDefinitions=[one], **fargate)
    one["dependsOn"] = [{"containerName": "two", "condition": "SUCCESS"}]
    two.pop("dependsOn")
    refused("SUCCESS or COMPLETE condition cannot be an essential", containerDefinitions=[one, two], **fargate)
    one["dependsOn"] = [{"containerName": "two", "condition": "HEALTHY"}]
    refused("HEALTHY condition must have health check", containerDefinitions=[one, two], **fargate)
    for container, words in (
        ({"privileged": True}, "Fargate requires that the 'privileged' setting be 'false'"),
        ({"linuxParameters": {"tmpfs": [{"containerPath": "/t", "size": 1}]}}, "do not support tmpfs"),
        ({"linuxParameters": {"devices": [{"hostPath": "/d"}]}}, "do not support devices"),
        ({"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"]}}}, "NET_ADMIN is not allowed on Fargate"),
        ({"hostname": "h"}, "hostname is not supported on container when networkMode=awsvpc"),
        ({"links": ["two"]}, "Links are not supported when networkMode=awsvpc"),
        ({"logConfiguration": {"logDriver": "syslog"}}, "syslog is not a valid log driver. Must be one of"),
        ({"logConfiguration": {"logDriver": "awslogs"}}, "to support log driver awslogs"),
        ({"secrets": [{"name": "A", "valueFrom": "b"}]}, "you must also specify a value for 'executionRoleArn'"),
        ({"stopTimeout": 121}, "must have a container stop timeout of less than 120 seconds"),
        ({"stopTimeout": 1}, "Granular stop timeout on container 'app' must be at least 2 seconds"),
        ({"memory": 1024}, "The 'memory' setting for container 'app' is greater than for the task"),
        ({"cpu": 512}, "The sum of all container 'cpu' values cannot be greater"),
        ({"portMappings": [{"protocol": "tcp"}]}, "Invalid 'containerPort' setting for container 'app'"),
        ({"portMappings": [{"containerPort": 80, "hostPort": 81}]}, "the host ports and container ports in port"),
        ({"ulimits": [{"name": "nofile", "softLimit": 2, "hardLimit": 1}]}, "Soft limit exceeds hard limit for ulimit"),
    ):
        refused(words, containerDefinitions=[{**app, **container}], **fargate)
    for more, words in (
        ({"cpu": "lots"}, "Invalid 'cpu' setting for task."),
        ({"ephemeralStorage": {"sizeInGiB": 20}}, "must be between 21 and 200 GiB"),
        ({"placementConstraints": [{"type": "memberOf", "expression": "x"}]}, "do not support constraints"),
        ({"volumes": [{"name": "v", "host": {"sourcePath": "/"}}]}, "do not support sourcePath"),
        ({"volumes": [{"name": "v", "dockerVolumeConfiguration": {}}]}, "do not support dockerVolumeConfiguration"),
    ):
        refused(words, containerDefinitions=[app], **{**fargate, **more})
    refused("Too many containers", containerDefinitions=[{**app, "name": f"c{n}"} for n in range(11)], **fargate)
    logs = {"logDriver": "awslogs", "options": {"awslogs-group": "g"}}
    refused(
        "Log driver awslogs requires options: awslogs-region",
        containerDefinitions=[{**app, "memory": 64, "logConfiguration": logs}],
    )
    made = ecs.register_task_definition(family="f", containerDefinitions=[app], **fargate)["taskDefinition"]
    assert (made["revision"], made["compatibilities"]) == (1, ["EC2", "FARGATE"])
    with pytest.raises(ClientError, match="NotImplemented"):
        ecs.register_task_definition(
            family="f",
            containerDefinitions=[{**app, "logConfiguration": {"logDriver": "splunk"}}],
            **fargate,
        )
    ecs.create_cluster(clusterName="c")
    with pytest.raises(ClientError, match="Network Configuration must be provided"):
        ecs.run_task(cluster="c", taskDefinition="f", launchType="FARGATE")
    with pytest.raises(ClientError, match="Cluster not found"):
        ecs.run_task(cluster="nobodys", taskDefinition="f")


def test_tasks_find_a_service_by_its_name(cloud: LocalCloud, root: str, request: pytest.FixtureRequest) -> None:
    if "processes" in request.node.name:
        pytest.skip("processes share this machine's network and its names")
    ecs, discovery, logs = (cloud.client(name) for name in ("ecs", "servicediscovery", "logs"))
    ecs.create_cluster(clusterName="c")
    discovery.create_private_dns_namespace(
        Name="shop.test", Vpc=cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    )
    namespace = eventually(lambda: discovery.list_namespaces()["Namespaces"])[0]["Id"]
    records = {"DnsRecords": [{"Type": "A", "TTL": 5}]}
    found = discovery.create_service(Name="web", NamespaceId=namespace, DnsConfig=records)["Service"]
    ecs.create_service(
        cluster="c",
        serviceName="web",
        taskDefinition=register(ecs, root, "httpd", "-f", "-p", "8080", "-h", "/www"),
        desiredCount=2,
        launchType="FARGATE",
        networkConfiguration=network(cloud),
        serviceRegistries=[{"registryArn": found["Arn"]}],
    )
    ecs.get_waiter("services_stable").wait(cluster="c", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    assert len(discovery.list_instances(ServiceId=found["Id"])["Instances"]) == 2
    log = {
        "logDriver": "awslogs",
        "options": {"awslogs-group": "/a", "awslogs-region": "us-east-1", "awslogs-create-group": "true"},
    }
    client = register(
        ecs,
        root,
        "wget",
        "-q",
        "-O",
        "-",
        "http://web.shop.test:8080/",
        family="client",
        container={"logConfiguration": log},
    )
    assert stopped(ecs, run(cloud, client))["containers"][0]["exitCode"] == 0
    stream = logs.describe_log_streams(logGroupName="/a")["logStreams"][0]["logStreamName"]
    assert logs.get_log_events(logGroupName="/a", logStreamName=stream)["events"][0]["message"] == "hello"

    ecs.update_service(cluster="c", service="web", desiredCount=0)
    eventually(lambda: not discovery.list_instances(ServiceId=found["Id"])["Instances"])
    usage = cloud.control("usage")["tasks"]
    assert len(usage) == 3
    assert all(one["vcpu_seconds"] == one["seconds"] / 4 for one in usage)


def test_eventbridge_hears_of_tasks_and_deployments(cloud: LocalCloud, root: str) -> None:
    ecs, sqs, events = cloud.client("ecs"), cloud.client("sqs"), cloud.client("events")
    queue = sqs.create_queue(QueueName="news")["QueueUrl"]
    target = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="news", EventPattern=json.dumps({"source": ["aws.ecs"]}))
    events.put_targets(Rule="news", Targets=[{"Id": "1", "Arn": target}])
    ecs.create_cluster(clusterName="c")
    definition = register(ecs, root, "sleep", "100")
    place = {"launchType": "FARGATE", "networkConfiguration": network(cloud)}
    ecs.create_service(cluster="c", serviceName="s", taskDefinition=definition, desiredCount=1, **place)
    heard: list[dict[str, Any]] = []

    def hears(name: str) -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", ()):
            heard.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return any(name in (one["detail"].get("eventName"), one["detail"].get("lastStatus")) for one in heard)

    eventually(lambda: hears("SERVICE_DEPLOYMENT_COMPLETED"))
    ecs.delete_service(cluster="c", service="s", force=True)
    eventually(lambda: hears("STOPPED"))
    deployments = [one for one in heard if one["detail-type"] == "ECS Deployment State Change"]
    assert [one["detail"]["eventName"] for one in deployments] == [
        "SERVICE_DEPLOYMENT_IN_PROGRESS",
        "SERVICE_DEPLOYMENT_COMPLETED",
    ]
    assert deployments[0]["resources"][0].endswith(":service/c/s")
    tasks = [one["detail"] for one in heard if one["detail-type"] == "ECS Task State Change"]
    states = list(dict.fromkeys(one["lastStatus"] for one in sorted(tasks, key=lambda one: one["version"])))
    assert states[0] == "PROVISIONING"
    assert states[-1] == "STOPPED"
    assert {"PENDING", "RUNNING", "DEACTIVATING"} < set(states)
    assert tasks[0]["group"] == "service:s"
    assert tasks[-1]["stoppedAt"].endswith("Z")


def test_a_task_is_found_once_its_health_check_is_good(cloud: LocalCloud, root: str) -> None:
    ecs, discovery = cloud.client("ecs"), cloud.client("servicediscovery", config=Config(inject_host_prefix=False))
    ecs.create_cluster(clusterName="c")
    discovery.create_http_namespace(Name="shop")
    namespace = eventually(lambda: discovery.list_namespaces()["Namespaces"])[0]["Id"]
    web = discovery.create_service(Name="web", NamespaceId=namespace, HealthCheckCustomConfig={"FailureThreshold": 1})[
        "Service"
    ]
    check = {"command": ["CMD-SHELL", "test -e /tmp/ready"], "interval": 5}
    definition = register(
        ecs, root, "sh", "-c", "sleep 2; touch /tmp/ready; sleep 600", container={"healthCheck": check}
    )
    ecs.create_service(
        cluster="c",
        serviceName="web",
        taskDefinition=definition,
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=network(cloud),
        serviceRegistries=[{"registryArn": web["Arn"]}],
    )
    (instance,) = eventually(lambda: discovery.list_instances(ServiceId=web["Id"])["Instances"])
    assert instance["Attributes"]["AWS_INIT_HEALTH_STATUS"] == "UNHEALTHY"

    def healthy() -> Any:
        found = discovery.discover_instances(NamespaceName="shop", ServiceName="web", HealthStatus="HEALTHY")
        return [one["InstanceId"] for one in found["Instances"]]

    # Killed before it is known to be well: the next run learns of it all the same.
    cloud.kill()
    cloud.start()
    ecs = cloud.client("ecs")
    eventually(lambda: healthy() == [instance["Id"]])
    ecs.delete_service(cluster="c", service="web", force=True)
    eventually(lambda: not healthy())


def test_early_success_is_checked_as_on_aws(cloud: LocalCloud, root: str) -> None:
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    definition = register(ecs, root, "sleep", "600")

    def create(**configuration: Any) -> str:
        with pytest.raises(ecs.exceptions.InvalidParameterException) as caught:
            ecs.create_service(
                cluster="c",
                serviceName="web",
                taskDefinition=definition,
                desiredCount=0,
                launchType="FARGATE",
                networkConfiguration=network(cloud),
                deploymentConfiguration=configuration,
            )
        return str(caught.value)

    early = {"enable": True, "healthyPercent": 60, "sourceServiceRevisionCleanup": "DEFERRED"}
    assert "healthyPercent is required" in create(earlySuccessCriteria={"enable": True})
    assert "greater than or equal to minimumHealthyPercent" in create(earlySuccessCriteria=early)
    assert "strategy is ROLLING" in create(earlySuccessCriteria=early, strategy="BLUE_GREEN", minimumHealthyPercent=50)


def test_services_are_checked_as_on_aws(cloud: LocalCloud) -> None:
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    app = {"name": "app", "image": "i", "memory": 64}
    ecs.register_task_definition(family="f", containerDefinitions=[app])
    fargate = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
    ecs.register_task_definition(family="g", containerDefinitions=[app], **fargate)
    spread, binpack = {"type": "spread", "field": "instanceId"}, {"type": "binpack", "field": "color"}
    on_fargate: dict[str, Any] = {
        "taskDefinition": "g",
        "launchType": "FARGATE",
        "networkConfiguration": network(cloud),
    }
    daemon: dict[str, Any] = {"desiredCount": None, "schedulingStrategy": "DAEMON"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"desiredCount": -1}, "DesiredCount can not be lesser than 0"),
        ({"clientToken": "x" * 37}, "idempotency token longer than 36."),
        ({"placementStrategy": [binpack]}, "binpack field 'color' is invalid"),
        ({"healthCheckGracePeriodSeconds": 5}, "only valid for services configured to use load balancers"),
        ({**daemon, "placementStrategy": [spread]}, "strategy does not support placement strategies"),
        ({**daemon, "deploymentConfiguration": {"maximumPercent": 150}}, "values above 100 for maximumPercent"),
        ({**daemon, "desiredCount": 1}, "does not support a desired count for services"),
        ({**on_fargate, **daemon}, "does not support the FARGATE launch type"),
        ({**on_fargate, "placementStrategy": [spread]}, "Placement strategies are not supported with FARGATE"),
        (
            {**on_fargate, "placementConstraints": [{"type": "distinctInstance"}]},
            "Placement constraints are not supported with FARGATE launch type.",
        ),
        ({"launchType": "EC2", "platformVersion": "1.4.0"}, "The platform version must be null when specifying an EC2"),
        (
            {"launchType": "EC2", "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        ),
    ]
    for more, words in cases:
        asked = {"cluster": "c", "serviceName": "s", "taskDefinition": "f", "desiredCount": 0, **more}
        with pytest.raises(ecs.exceptions.InvalidParameterException, match=words):
            ecs.create_service(**{key: value for key, value in asked.items() if value is not None})
    assert ecs.list_services(cluster="c")["serviceArns"] == []
    ecs.create_service(cluster="c", serviceName="s", taskDefinition="f", desiredCount=0)
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="DesiredCount can not be lesser than 0"):
        ecs.update_service(cluster="c", service="s", desiredCount=-1)
