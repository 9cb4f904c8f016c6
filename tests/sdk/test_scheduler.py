"""EventBridge Scheduler through boto3."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from queues import queue, receive, restart
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/scheduler"
OFF = {"Mode": "OFF"}


def at(seconds: float) -> str:
    """A time from now, as an expression has it."""
    return f"at({(datetime.now(UTC) + timedelta(seconds=seconds)).strftime('%Y-%m-%dT%H:%M:%S')})"


def test_schedules_and_groups(cloud: LocalCloud) -> None:
    scheduler = cloud.client("scheduler")
    _, arn = queue(cloud, "q")
    target = {"Arn": arn, "RoleArn": ROLE, "Input": "hello"}
    settings: dict[str, Any] = {"FlexibleTimeWindow": OFF, "Target": target}
    made = scheduler.create_schedule(Name="s", ScheduleExpression="cron(0 9 ? * MON *)", **settings)["ScheduleArn"]
    assert made == f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/s"
    found = scheduler.get_schedule(Name="s")
    assert (found["State"], found["ScheduleExpressionTimezone"], found["ActionAfterCompletion"]) == (
        "ENABLED",
        "UTC",
        "NONE",
    )
    assert found["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    create = scheduler.create_schedule
    again = {"Name": "s", "ScheduleExpression": "rate(1 hour)", **settings}
    assert refused(create, **again) == ("ConflictException", "Schedule s already exists.")
    assert refused(create, **{**again, "GroupName": "g"})[1] == "Schedule group g does not exist."
    assert refused(create, **{**again, "Name": "x", "ScheduleExpression": "rate(1 second)"})[1] == (
        "Invalid Schedule Expression rate(1 second)."
    )
    assert refused(create, **{**again, "Name": "x", "ScheduleExpressionTimezone": "Europe/Nowhere"})[0] == (
        "ValidationException"
    )
    assert refused(create, **{**again, "Name": "x", "StartDate": datetime(2020, 1, 1, tzinfo=UTC)})[1] == (
        "The StartDate you specify cannot be earlier than 5 minutes ago."
    )
    build = {"Arn": f"arn:aws:codebuild:us-east-1:{ACCOUNT}:project/p", "RoleArn": ROLE}
    assert refused(create, **{**again, "Name": "x", "Target": build})[0] == "NotImplemented"
    unknown = {"Arn": "arn:aws:scheduler:::aws-sdk:sqs:doNothing", "RoleArn": ROLE}
    assert refused(create, **{**again, "Name": "x", "Target": unknown})[0] == "NotImplemented"

    group = scheduler.create_schedule_group(Name="g", Tags=[{"Key": "team", "Value": "a"}])["ScheduleGroupArn"]
    scheduler.create_schedule(Name="s", GroupName="g", ScheduleExpression="rate(1 day)", State="DISABLED", **settings)
    assert [one["GroupName"] for one in scheduler.list_schedules(NamePrefix="s")["Schedules"]] == ["default", "g"]
    assert [one["Name"] for one in scheduler.list_schedules(GroupName="g", State="DISABLED")["Schedules"]] == ["s"]
    scheduler.tag_resource(ResourceArn=group, Tags=[{"Key": "cost", "Value": "1"}])
    scheduler.untag_resource(ResourceArn=group, TagKeys=["team"])
    assert scheduler.list_tags_for_resource(ResourceArn=group)["Tags"] == [{"Key": "cost", "Value": "1"}]
    assert [one["Name"] for one in scheduler.list_schedule_groups()["ScheduleGroups"]] == ["default", "g"]
    scheduler.delete_schedule_group(Name="g")
    assert refused(scheduler.get_schedule, Name="s", GroupName="g")[0] == "ResourceNotFoundException"
    scheduler.delete_schedule(Name="s")
    assert scheduler.list_schedules()["Schedules"] == []


def test_one_time_schedules_call_once_and_are_deleted(cloud: LocalCloud) -> None:
    scheduler = cloud.client("scheduler")
    url, arn = queue(cloud, "q")
    target = {"Arn": arn, "RoleArn": ROLE, "Input": '{"at":"<aws.scheduler.scheduled-time>"}'}
    when = datetime.now(UTC) + timedelta(hours=1)
    scheduler.create_schedule(
        Name="once",
        ScheduleExpression=at(3600),
        FlexibleTimeWindow=OFF,
        Target=target,
        ActionAfterCompletion="DELETE",
    )
    assert receive(cloud, url, 0) == []
    # One that comes due while the cloud is down is made up for.
    restart(cloud)
    cloud.advance(3601)
    (message,) = receive(cloud, url)
    assert json.loads(message["Body"])["at"][:13] == when.isoformat()[:13]
    eventually(lambda: not scheduler.list_schedules()["Schedules"])
    restart(cloud)
    assert receive(cloud, url, 0) == []

    # In a time zone: New York is four or five hours behind.
    local = datetime.now(UTC) + timedelta(seconds=3601) - timedelta(hours=4, minutes=30)
    scheduler.create_schedule(
        Name="local",
        ScheduleExpression=f"at({local.strftime('%Y-%m-%dT%H:%M:%S')})",
        ScheduleExpressionTimezone="America/New_York",
        FlexibleTimeWindow=OFF,
        Target=target,
    )
    cloud.advance(3600)
    assert len(receive(cloud, url)) == 1
    assert scheduler.get_schedule(Name="local")["State"] == "ENABLED"


def test_rates_begin_at_once_and_end(cloud: LocalCloud) -> None:
    scheduler = cloud.client("scheduler")
    url, arn = queue(cloud, "q")
    target = {"Arn": arn, "RoleArn": ROLE}
    end = datetime.now(UTC) + timedelta(minutes=25)
    scheduler.create_schedule(
        Name="often", ScheduleExpression="rate(10 minutes)", FlexibleTimeWindow=OFF, Target=target, EndDate=end
    )
    event = json.loads(receive(cloud, url)[0]["Body"])
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.scheduler", "Scheduled Event", "{}")
    restart(cloud)
    assert receive(cloud, url, 0) == []
    for _ in range(2):
        cloud.advance(601)
        assert len(receive(cloud, url)) == 1
    cloud.advance(601)
    assert receive(cloud, url, 0) == []
    # A flexible one is called some time within its window.
    window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 60}
    scheduler.create_schedule(Name="lazy", ScheduleExpression="rate(1 day)", FlexibleTimeWindow=window, Target=target)
    cloud.advance(3601)
    assert len(receive(cloud, url)) == 1


def test_any_operation_buses_retries_and_dead_letters(cloud: LocalCloud) -> None:
    scheduler, events = cloud.client("scheduler"), cloud.client("events")
    (url, arn), (dead, dead_arn) = queue(cloud, "q"), queue(cloud, "dead")

    def now(name: str, arn: str, **more: Any) -> None:
        target = {"Arn": arn, "RoleArn": ROLE, **more}
        scheduler.create_schedule(Name=name, ScheduleExpression="rate(9 days)", FlexibleTimeWindow=OFF, Target=target)

    send = {"QueueUrl": url, "MessageBody": "<aws.scheduler.schedule-arn> <aws.scheduler.attempt-number>"}
    now("universal", "arn:aws:scheduler:::aws-sdk:sqs:sendMessage", Input=json.dumps(send))
    assert receive(cloud, url)[0]["Body"] == f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/universal 1"
    events.put_rule(Name="r", EventPattern='{"source": ["me"]}')
    events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": arn}])
    bus = f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default"
    now("bus", bus, Input='{"n":1}', EventBridgeParameters={"Source": "me", "DetailType": "d"})
    assert json.loads(receive(cloud, url)[0]["Body"])["detail"] == {"n": 1}

    gone = f"arn:aws:sqs:us-east-1:{ACCOUNT}:nobody"
    now("gone", gone, Input="lost", DeadLetterConfig={"Arn": dead_arn})
    (letter,) = receive(cloud, dead)
    told = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert (letter["Body"], told["ERROR_CODE"], told["TARGET_ARN"]) == ("lost", "NO_RESOURCE", gone)

    cloud.control("faults", {"service": "sns", "operation": "Publish", "error": "InternalError", "status": 500})
    topic = cloud.client("sns").create_topic(Name="t")["TopicArn"]
    policy = {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 3600}
    now("tried", topic, Input="hard", DeadLetterConfig={"Arn": dead_arn}, RetryPolicy=policy)
    for _ in range(3):
        time.sleep(0.1)
        cloud.advance(10)
    (letter,) = receive(cloud, dead)
    told = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert (told["RETRY_ATTEMPTS"], told["EXHAUSTED_RETRY_CONDITION"]) == ("2", "MaximumRetryAttempts")


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Queue": {"Type": "AWS::SQS::Queue"},
        "Group": {"Type": "AWS::Scheduler::ScheduleGroup"},
        "Schedule": {
            "Type": "AWS::Scheduler::Schedule",
            "Properties": {
                "GroupName": {"Ref": "Group"},
                "ScheduleExpression": "rate(1 day)",
                "FlexibleTimeWindow": {"Mode": "OFF"},
                "Target": {"Arn": {"Fn::GetAtt": ["Queue", "Arn"]}, "RoleArn": ROLE, "Input": "tick"},
            },
        },
    },
    "Outputs": {
        "Queue": {"Value": {"Ref": "Queue"}},
        "Group": {"Value": {"Ref": "Group"}},
        "Name": {"Value": {"Ref": "Schedule"}},
        "Arn": {"Value": {"Fn::GetAtt": ["Schedule", "Arn"]}},
    },
}


def test_a_stack_of_schedules(cloud: LocalCloud) -> None:
    scheduler, stacks = cloud.client("scheduler"), cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    stack = stacks.describe_stacks(StackName="s")["Stacks"][0]
    out = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    assert out["Arn"].endswith(f":schedule/{out['Group']}/{out['Name']}")
    assert receive(cloud, out["Queue"])[0]["Body"] == "tick"
    changed = json.loads(json.dumps(TEMPLATE))
    changed["Resources"]["Schedule"]["Properties"]["State"] = "DISABLED"
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert scheduler.get_schedule(Name=out["Name"], GroupName=out["Group"])["State"] == "DISABLED"
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert [one["Name"] for one in scheduler.list_schedule_groups()["ScheduleGroups"]] == ["default"]
