"""Auto Scaling groups of instances that really run: sizes, replacement, hooks, policies, scheduled actions, stacks."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.services.autoscaling import controller, scheduled
from cloudlet.services.autoscaling.records import Action, Group, Member
from cloudlet.testing import LocalCloud, eventually


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    missing = [one for one in ("bwrap", "ip", "nft", "nsenter") if shutil.which(one) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and: {', '.join(missing) or 'nothing more'}")
    monkeypatch.setenv("CLOUDLET_ENGINE", "processes")
    with LocalCloud() as running:
        yield running
        print(running.log)


def refused(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def make(cloud: LocalCloud, UserData: str = "", **more: Any) -> Any:
    """A group ``g`` from a launch template."""
    autoscaling, ec2 = cloud.client("autoscaling"), cloud.client("ec2")
    data = {
        "ImageId": "resolve:ssm:/aws/service/ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-gp2",
        "InstanceType": "t3.nano",
        "UserData": UserData,
    }
    ec2.create_launch_template(LaunchTemplateName="template", LaunchTemplateData=data)
    settings = {"MinSize": 0, "MaxSize": 4, "DesiredCapacity": 2, "AvailabilityZones": ["us-east-1a", "us-east-1b"]}
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="g", LaunchTemplate={"LaunchTemplateName": "template"}, **{**settings, **more}
    )
    return autoscaling


def group(autoscaling: Any) -> dict[str, Any]:
    return autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["g"])["AutoScalingGroups"][0]  # type: ignore[no-any-return]


def in_service(autoscaling: Any, count: int) -> list[dict[str, Any]]:
    """The instances, once there are as many and all of them serve."""

    def there() -> Any:
        found = group(autoscaling)["Instances"]
        return len(found) == count and all(one["LifecycleState"] == "InService" for one in found)

    eventually(there)
    return group(autoscaling)["Instances"]  # type: ignore[no-any-return]


def test_a_group_is_kept_at_its_size(cloud: LocalCloud) -> None:
    tags = [{"Key": "team", "Value": "a", "PropagateAtLaunch": True}]
    autoscaling, ec2 = make(cloud, Tags=tags), cloud.client("ec2")
    first = in_service(autoscaling, 2)
    assert {one["AvailabilityZone"] for one in first} == {"us-east-1a", "us-east-1b"}
    launched = ec2.describe_instances(Filters=[{"Name": "tag:aws:autoscaling:groupName", "Values": ["g"]}])
    assert len(launched["Reservations"]) == 2
    assert {"Key": "team", "Value": "a"} in launched["Reservations"][0]["Instances"][0]["Tags"]

    # One that dies is replaced, in its zone.
    dead = first[0]
    ec2.terminate_instances(InstanceIds=[dead["InstanceId"]])
    eventually(lambda: dead["InstanceId"] not in {one["InstanceId"] for one in group(autoscaling)["Instances"]})
    assert {one["AvailabilityZone"] for one in in_service(autoscaling, 2)} == {"us-east-1a", "us-east-1b"}
    causes = [one["Cause"] for one in autoscaling.describe_scaling_activities(AutoScalingGroupName="g")["Activities"]]
    assert any("EC2 health check" in cause for cause in causes)

    # Neither a kill nor a restart makes one too many.
    before = {one["InstanceId"] for one in group(autoscaling)["Instances"]}
    cloud.kill()
    cloud.start()
    assert {one["InstanceId"] for one in in_service(autoscaling, 2)} == before

    # Protected ones stay.
    kept = sorted(before)[0]
    autoscaling.set_instance_protection(AutoScalingGroupName="g", InstanceIds=[kept], ProtectedFromScaleIn=True)
    assert refused(autoscaling.set_desired_capacity, AutoScalingGroupName="g", DesiredCapacity=9) == "ValidationError"
    autoscaling.set_desired_capacity(AutoScalingGroupName="g", DesiredCapacity=1)
    assert [one["InstanceId"] for one in in_service(autoscaling, 1)] == [kept]

    # One in standby does not count; one that is ended by its name is not replaced when the group shrinks with it.
    autoscaling.enter_standby(AutoScalingGroupName="g", InstanceIds=[kept], ShouldDecrementDesiredCapacity=True)
    assert group(autoscaling)["Instances"][0]["LifecycleState"] == "Standby"
    autoscaling.exit_standby(AutoScalingGroupName="g", InstanceIds=[kept])
    in_service(autoscaling, 1)
    autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=kept, ShouldDecrementDesiredCapacity=True)
    eventually(lambda: group(autoscaling)["Instances"] == [])
    assert group(autoscaling)["DesiredCapacity"] == 0
    autoscaling.delete_auto_scaling_group(AutoScalingGroupName="g")
    eventually(lambda: autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"] == [])


def test_lifecycle_hooks_hold_instances(cloud: LocalCloud) -> None:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    hook = {
        "LifecycleHookName": "up",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
        "HeartbeatTimeout": 600,
        "NotificationTargetARN": queue,
        "NotificationMetadata": "more",
    }
    autoscaling = make(cloud, DesiredCapacity=1, LifecycleHookSpecificationList=[hook])
    message = eventually(lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5).get("Messages"))[0]
    action = json.loads(message["Body"])
    assert (action["LifecycleTransition"], action["NotificationMetadata"]) == (hook["LifecycleTransition"], "more")
    assert group(autoscaling)["Instances"][0]["LifecycleState"] == "Pending:Wait"
    names = {"AutoScalingGroupName": "g", "LifecycleHookName": "up"}
    autoscaling.complete_lifecycle_action(
        **names, LifecycleActionToken=action["LifecycleActionToken"], LifecycleActionResult="CONTINUE"
    )
    id = in_service(autoscaling, 1)[0]["InstanceId"]

    autoscaling.put_lifecycle_hook(
        AutoScalingGroupName="g",
        LifecycleHookName="down",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=60,
    )
    autoscaling.set_desired_capacity(AutoScalingGroupName="g", DesiredCapacity=0)
    eventually(lambda: group(autoscaling)["Instances"][0]["LifecycleState"] == "Terminating:Wait")
    assert refused(
        autoscaling.complete_lifecycle_action,
        **{**names, "LifecycleHookName": "down"},
        InstanceId="i-0123456789abcdef0",
        LifecycleActionResult="CONTINUE",
    ) == ("ValidationError")
    cloud.advance(61)  # nobody answers
    eventually(lambda: group(autoscaling)["Instances"] == [])
    state = cloud.client("ec2").describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]["State"]
    assert state["Name"] == "terminated"


def test_policies_and_schedules_change_the_size(cloud: LocalCloud) -> None:
    autoscaling, cloudwatch = make(cloud, DesiredCapacity=0), cloud.client("cloudwatch")
    out = autoscaling.put_scaling_policy(
        AutoScalingGroupName="g",
        PolicyName="out",
        PolicyType="StepScaling",
        AdjustmentType="ChangeInCapacity",
        StepAdjustments=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 2}],
    )["PolicyARN"]
    cloudwatch.put_metric_alarm(
        AlarmName="busy",
        Namespace="Own",
        MetricName="Load",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[out],
    )
    cloudwatch.put_metric_data(Namespace="Own", MetricData=[{"MetricName": "Load", "Value": 9}])
    cloud.advance(61)
    eventually(lambda: group(autoscaling)["DesiredCapacity"] == 2)
    in_service(autoscaling, 2)
    autoscaling.put_scaling_policy(
        AutoScalingGroupName="g", PolicyName="one", AdjustmentType="ExactCapacity", ScalingAdjustment=1
    )
    autoscaling.execute_policy(AutoScalingGroupName="g", PolicyName="one")
    in_service(autoscaling, 1)
    tracked = autoscaling.put_scaling_policy(
        AutoScalingGroupName="g",
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration={
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
            "TargetValue": 50,
        },
    )
    assert len(tracked["Alarms"]) == 2
    autoscaling.put_scheduled_update_group_action(
        AutoScalingGroupName="g", ScheduledActionName="night", StartTime=time.time() + 7200, DesiredCapacity=0
    )
    cloud.advance(7200)
    in_service(autoscaling, 0)


def template(type: str, update: dict[str, Any]) -> str:
    """A stack of one group whose instances are launched from a launch configuration of a type."""
    signal = "#!/bin/bash\n/opt/aws/bin/cfn-signal -e 0 --stack s --resource Group --region us-east-1\n"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    name = "/aws/service/ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-gp2"
    resources = {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}},
        "Profile": {"Type": "AWS::IAM::InstanceProfile", "Properties": {"Roles": [{"Ref": "Role"}]}},
        "Launch": {
            "Type": "AWS::AutoScaling::LaunchConfiguration",
            "Properties": {
                "ImageId": {"Ref": "Image"},
                "InstanceType": type,
                "IamInstanceProfile": {"Ref": "Profile"},
                "UserData": {"Fn::Base64": signal},
            },
        },
        "Group": {
            "Type": "AWS::AutoScaling::AutoScalingGroup",
            "CreationPolicy": {"ResourceSignal": {"Count": 2, "Timeout": "PT1M"}},
            "UpdatePolicy": update,
            "Properties": {
                "MinSize": "2",
                "MaxSize": "3",
                "AvailabilityZones": {"Fn::GetAZs": ""},
                "LaunchConfigurationName": {"Ref": "Launch"},
            },
        },
    }
    parameter = {"Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "Default": name}
    return json.dumps({"Parameters": {"Image": parameter}, "Resources": resources})


def test_stacks_replace_instances_as_their_update_policy_says(cloud: LocalCloud) -> None:
    cloudformation, autoscaling = cloud.client("cloudformation"), cloud.client("autoscaling")

    def ended() -> Any:
        status = cloudformation.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"]
        return None if status.endswith("_IN_PROGRESS") else status

    def there() -> tuple[str, dict[str, str]]:
        (one,) = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        return one["AutoScalingGroupName"], {each["InstanceId"]: each["InstanceType"] for each in one["Instances"]}

    rolling = {"AutoScalingRollingUpdate": {"WaitOnResourceSignals": True, "PauseTime": "PT1M"}}
    capabilities = {"Capabilities": ["CAPABILITY_IAM"]}
    cloudformation.create_stack(StackName="s", TemplateBody=template("t3.nano", rolling), **capabilities)
    assert eventually(ended) == "CREATE_COMPLETE"
    name, first = there()
    cloudformation.update_stack(StackName="s", TemplateBody=template("t3.micro", rolling), **capabilities)
    assert eventually(ended) == "UPDATE_COMPLETE"
    same, second = there()
    assert (same, list(second.values())) == (name, ["t3.micro"] * 2)
    assert not first.keys() & second.keys()

    replacing = {"AutoScalingReplacingUpdate": {"WillReplace": "true"}}
    cloudformation.update_stack(StackName="s", TemplateBody=template("t3.small", replacing), **capabilities)
    assert eventually(ended) == "UPDATE_COMPLETE"
    eventually(lambda: len(autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]) == 1)
    other, third = there()
    assert other != name
    assert list(third.values()) == ["t3.small"] * 2

    autoscaling.start_instance_refresh(AutoScalingGroupName=other)
    refresh = {"AutoScalingGroupName": other}
    eventually(
        lambda: autoscaling.describe_instance_refreshes(**refresh)["InstanceRefreshes"][0]["Status"] == "Successful"
    )
    assert not there()[1].keys() & third.keys()
    cloudformation.delete_stack(StackName="s")
    eventually(lambda: autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"] == [])


def test_an_instance_waits_for_every_hook_and_a_deleted_group_takes_all_with_it(cloud: LocalCloud) -> None:
    sns, sqs = cloud.client("sns"), cloud.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    up = {"LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING", "HeartbeatTimeout": 600}
    hooks = [{"LifecycleHookName": name, **up} for name in ("one", "two")]
    autoscaling = make(cloud, DesiredCapacity=1, LifecycleHookSpecificationList=hooks)
    kinds = ["autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_TERMINATE"]
    autoscaling.put_notification_configuration(AutoScalingGroupName="g", TopicARN=topic, NotificationTypes=kinds)
    autoscaling.enable_metrics_collection(AutoScalingGroupName="g", Granularity="1Minute")

    def told() -> str:
        message = eventually(lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5).get("Messages"))[0]
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return str(json.loads(message["Body"])["Subject"])

    assert told() == 'Auto Scaling: test notification for group "g"'
    eventually(lambda: [one["LifecycleState"] for one in group(autoscaling)["Instances"]] == ["Pending:Wait"])
    id = group(autoscaling)["Instances"][0]["InstanceId"]
    done = {"AutoScalingGroupName": "g", "InstanceId": id, "LifecycleActionResult": "CONTINUE"}
    autoscaling.complete_lifecycle_action(LifecycleHookName="two", **done)
    assert group(autoscaling)["Instances"][0]["LifecycleState"] == "Pending:Wait"
    assert refused(autoscaling.complete_lifecycle_action, LifecycleHookName="two", **done) == "ValidationError"
    autoscaling.complete_lifecycle_action(LifecycleHookName="one", **done)
    in_service(autoscaling, 1)
    assert told() == 'Auto Scaling: launch for group "g"'

    # What is refused has changed nothing.
    autoscaling.update_auto_scaling_group(AutoScalingGroupName="g", MinSize=1)
    standby = {"AutoScalingGroupName": "g", "InstanceIds": [id]}
    assert refused(autoscaling.detach_instances, ShouldDecrementDesiredCapacity=True, **standby) == "ValidationError"
    assert len(autoscaling.describe_scaling_activities(AutoScalingGroupName="g")["Activities"]) == 1
    autoscaling.update_auto_scaling_group(AutoScalingGroupName="g", MinSize=0)
    autoscaling.enter_standby(ShouldDecrementDesiredCapacity=True, **standby)

    # What the group collects is in CloudWatch.
    cloud.advance(60)
    metric = {
        "Namespace": "AWS/AutoScaling",
        "MetricName": "GroupStandbyInstances",
        "Dimensions": [{"Name": "AutoScalingGroupName", "Value": "g"}],
    }
    times = {"StartTime": time.time() - 3600, "EndTime": time.time() + 3600, "Period": 60, "Statistics": ["Maximum"]}
    statistics = cloud.client("cloudwatch").get_metric_statistics
    points = eventually(lambda: statistics(**metric, **times)["Datapoints"])
    assert max(one["Maximum"] for one in points) == 1.0

    # A group that is deleted takes along what stands by.
    autoscaling.delete_auto_scaling_group(AutoScalingGroupName="g", ForceDelete=True)
    eventually(lambda: autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"] == [])


def test_bad_input_changes_nothing(cloud: LocalCloud) -> None:
    autoscaling = cloud.client("autoscaling")
    good = {"AutoScalingGroupName": "g", "MinSize": 0, "MaxSize": 1, "AvailabilityZones": ["us-east-1a"]}
    create = autoscaling.create_auto_scaling_group
    assert refused(create, **good) == "ValidationError"
    assert refused(create, **good, LaunchConfigurationName="none") == "ValidationError"
    assert refused(create, **good, LaunchTemplate={"LaunchTemplateName": "none"}) == "ValidationError"
    assert refused(autoscaling.put_warm_pool, AutoScalingGroupName="g") == "NotImplemented"
    assert refused(autoscaling.delete_auto_scaling_group, AutoScalingGroupName="g") == "ValidationError"
    assert autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"] == []


@pytest.mark.parametrize(
    ("recurrence", "days"),
    [("0 0 * * 1-5/2", (7, 9, 12)), ("0 0 * * SUN,6-7", (10, 11, 17)), ("0 0 7 * *", (7, 38, 66))],
)
def test_days_of_the_week_are_those_of_cron(recurrence: str, days: tuple[int, ...]) -> None:
    day, found = 86400.0, [4 * 86400.0]  # Monday, 5 January 1970
    for _ in days:
        when = scheduled.next_of(Action({"Recurrence": recurrence}, 0.0), found[-1])
        assert when is not None
        found.append(when)
    assert [one / day + 1 for one in found[1:]] == list(days)


def test_a_plan_that_was_carried_out_is_followed_by_an_empty_one() -> None:
    members = {"TerminationPolicies": ["Default"]}
    group = Group(members, 3, 0.0)
    plan = controller.plan(group, ["a", "b"], 0.0)
    assert plan.launch == ["a", "b", "a"]
    there = tuple(Member(f"i-{n}", zone, "t3.nano", n, {}, state="InService") for n, zone in enumerate(plan.launch))
    assert controller.plan(Group(members, 3, 0.0, there), ["a", "b"], 0.0).is_empty
    ((gone, _),) = controller.plan(Group(members, 2, 0.0, there), ["a", "b"], 0.0).terminate
    assert gone.id == "i-0"  # the oldest, of the zone with the most


def test_the_cpu_time_that_instances_use_scales_their_group(cloud: LocalCloud) -> None:
    events, sqs, cloudwatch = cloud.client("events"), cloud.client("sqs"), cloud.client("cloudwatch")
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="r", EventPattern='{"source": ["aws.ec2", "aws.autoscaling"]}')
    events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": arn}])
    busy = base64.b64encode(b"#!/bin/sh\nwhile :; do :; done &\n").decode()
    autoscaling = make(cloud, DesiredCapacity=1, UserData=busy)
    (member,) = in_service(autoscaling, 1)
    heard: list[tuple[str, str]] = []

    def tells() -> bool:
        for one in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            event = json.loads(one["Body"])
            heard.append((event["detail-type"], event["detail"].get("state", "")))
        return ("EC2 Instance Launch Successful", "") in heard and len(heard) >= 3

    eventually(tells)
    states = [state for kind, state in heard if kind == "EC2 Instance State-change Notification"]
    assert sorted(states) == ["pending", "running"]

    tracking = {"PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}}
    autoscaling.put_scaling_policy(
        AutoScalingGroupName="g",
        PolicyName="cpu",
        PolicyType="TargetTrackingScaling",
        TargetTrackingConfiguration={**tracking, "TargetValue": 3.0},
    )
    time.sleep(2)
    for _ in range(4):
        cloud.advance(60)
        time.sleep(0.5)
    eventually(lambda: group(autoscaling)["DesiredCapacity"] > 1)
    found = cloudwatch.get_metric_statistics(
        Namespace="AWS/EC2",
        MetricName="CPUUtilization",
        Dimensions=[{"Name": "InstanceId", "Value": member["InstanceId"]}],
        StartTime=time.time() - 3600,
        EndTime=time.time() + 3600,
        Period=7200,
        Statistics=["Maximum"],
    )["Datapoints"]
    assert 3 < found[0]["Maximum"] <= 100
