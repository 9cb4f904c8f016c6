"""Application Auto Scaling with a real client: what is measured moves what is wanted."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

PLACE = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/c/web",
    "ScalableDimension": "ecs:service:DesiredCount",
}


@pytest.fixture
def service(cloud: LocalCloud) -> Callable[[], int]:
    """A service whose tasks cannot start: only how many are wanted matters here."""
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    ecs.register_task_definition(
        family="web", containerDefinitions=[{"name": "app", "image": "localhost/nobody:1", "memory": 64}]
    )
    ecs.create_service(cluster="c", serviceName="web", taskDefinition="web", desiredCount=2)

    def desired() -> int:
        return int(ecs.describe_services(cluster="c", services=["web"])["services"][0]["desiredCount"])

    return desired


def measure(cloud: LocalCloud, value: float) -> None:
    """One more minute with this load."""
    cloud.advance(60)
    now = cloud.control("clock")["now"]
    cloud.client("cloudwatch").put_metric_data(
        Namespace="App", MetricData=[{"MetricName": "Load", "Value": value, "Timestamp": now - 30}]
    )


def test_a_service_follows_its_load(cloud: LocalCloud, service: Callable[[], int]) -> None:
    scaling, watch = cloud.client("application-autoscaling"), cloud.client("cloudwatch")
    with pytest.raises(ClientError, match="No scalable target registered"):
        scaling.put_scaling_policy(PolicyName="p", PolicyType="TargetTrackingScaling", **PLACE)
    scaling.register_scalable_target(**PLACE, MinCapacity=1, MaxCapacity=5)
    made = scaling.put_scaling_policy(
        PolicyName="load",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 50.0,
            "CustomizedMetricSpecification": {"MetricName": "Load", "Namespace": "App", "Statistic": "Average"},
            "ScaleOutCooldown": 120,
            "ScaleInCooldown": 120,
        },
        **PLACE,
    )
    assert [one["AlarmName"].split("-")[2] for one in made["Alarms"]] == ["AlarmHigh", "AlarmLow"]
    measure(cloud, 100.0)
    measure(cloud, 100.0)
    assert service() == 2  # its alarm wants three minutes of it
    measure(cloud, 100.0)
    cloud.advance(60)
    eventually(lambda: service() == 4)
    activities = scaling.describe_scaling_activities(ServiceNamespace="ecs")["ScalingActivities"]
    assert activities[0]["StatusMessage"].startswith("Successfully set desired count to 4")

    # The control plane is killed, the load stays: it goes on to the limit, and not beyond.
    cloud.kill()
    cloud.start()
    for _ in range(5):
        measure(cloud, 100.0)
        time.sleep(0.1)
    eventually(lambda: service() == 5)
    for _ in range(22):
        measure(cloud, 10.0)
        time.sleep(0.05)
    eventually(lambda: service() == 1)
    scaling.delete_scaling_policy(PolicyName="load", **PLACE)
    assert watch.describe_alarms()["MetricAlarms"] == []
    scaling.deregister_scalable_target(**PLACE)
    assert scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"] == []


def test_steps_schedules_and_what_is_not_here(cloud: LocalCloud, service: Callable[[], int]) -> None:
    scaling, watch = cloud.client("application-autoscaling"), cloud.client("cloudwatch")
    scaling.register_scalable_target(**PLACE, MinCapacity=1, MaxCapacity=10)
    steps = [
        {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 10, "ScalingAdjustment": 4},
    ]
    policy = scaling.put_scaling_policy(
        PolicyName="steps",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={"AdjustmentType": "ChangeInCapacity", "StepAdjustments": steps},
        **PLACE,
    )
    watch.put_metric_alarm(
        AlarmName="busy",
        Namespace="App",
        MetricName="Load",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=50,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[policy["PolicyARN"]],
    )
    shown = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"][0]
    assert [one["AlarmName"] for one in shown["Alarms"]] == ["busy"]
    measure(cloud, 75.0)
    cloud.advance(60)
    eventually(lambda: service() == 6)
    watch.delete_alarms(AlarmNames=["busy"])

    scaling.put_scheduled_action(
        ScheduledActionName="night",
        Schedule="rate(1 hour)",
        ScalableTargetAction={"MinCapacity": 1, "MaxCapacity": 3},
        **PLACE,
    )
    cloud.advance(3600)
    eventually(lambda: service() == 3)
    assert scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"][0]["MaxCapacity"] == 3

    with pytest.raises(ClientError, match="ECS service doesn't exist"):
        scaling.register_scalable_target(**{**PLACE, "ResourceId": "service/c/no"}, MinCapacity=1, MaxCapacity=2)
    place = {"ServiceNamespace": "sagemaker", "ResourceId": "endpoint/e/variant/v"}
    with pytest.raises(ClientError, match="NotImplemented"):
        scaling.register_scalable_target(
            **place, ScalableDimension="sagemaker:variant:DesiredInstanceCount", MinCapacity=1, MaxCapacity=2
        )


def test_the_capacity_of_tables(cloud: LocalCloud) -> None:
    scaling, tables = cloud.client("application-autoscaling"), cloud.client("dynamodb")
    units = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    key = [{"AttributeName": "id", "KeyType": "HASH"}]
    tables.create_table(
        TableName="cards",
        KeySchema=key,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        ProvisionedThroughput=units,
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-id",
                "KeySchema": key,
                "Projection": {"ProjectionType": "ALL"},
                "ProvisionedThroughput": units,
            }
        ],
    )
    places = [
        {
            "ServiceNamespace": "dynamodb",
            "ResourceId": resource,
            "ScalableDimension": f"dynamodb:{kind}:ReadCapacityUnits",
        }
        for resource, kind in (("table/cards", "table"), ("table/cards/index/by-id", "index"))
    ]
    for place in places:
        scaling.register_scalable_target(**place, MinCapacity=1, MaxCapacity=100)
        scaling.put_scheduled_action(
            **place,
            ScheduledActionName="day",
            Schedule="rate(1 hour)",
            ScalableTargetAction={"MinCapacity": 20, "MaxCapacity": 100},
        )

    def provisioned() -> list[int]:
        table = tables.describe_table(TableName="cards")["Table"]
        both = (table, table["GlobalSecondaryIndexes"][0])
        return [one["ProvisionedThroughput"]["ReadCapacityUnits"] for one in both]

    cloud.advance(3601)
    eventually(lambda: provisioned() == [20, 20])
    activity = scaling.describe_scaling_activities(ServiceNamespace="dynamodb")["ScalingActivities"][0]
    assert activity["Description"] == "Setting read capacity units to 20."
    with pytest.raises(ClientError, match="DynamoDB table does not exist"):
        scaling.register_scalable_target(**{**places[0], "ResourceId": "table/no"}, MinCapacity=1, MaxCapacity=2)
    with pytest.raises(ClientError, match="Unsupported service namespace"):
        scaling.register_scalable_target(**{**places[1], "ResourceId": "table/cards"}, MinCapacity=1, MaxCapacity=2)


def test_tables_follow_what_is_consumed(cloud: LocalCloud) -> None:
    scaling, tables, watch = (cloud.client(name) for name in ("application-autoscaling", "dynamodb", "cloudwatch"))
    tables.create_table(
        TableName="cards",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 1},
    )
    place = {
        "ServiceNamespace": "dynamodb",
        "ResourceId": "table/cards",
        "ScalableDimension": "dynamodb:table:WriteCapacityUnits",
    }
    configuration = {
        "TargetValue": 70.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "DynamoDBWriteCapacityUtilization"},
    }
    policy = {**place, "PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": configuration}
    scaling.register_scalable_target(**place, MinCapacity=1, MaxCapacity=100, Tags={"team": "a"})
    with pytest.raises(ClientError, match="that you tried to tag already exists"):
        scaling.register_scalable_target(**place, MinCapacity=1, MaxCapacity=100, Tags={"team": "a"})
    scaling.put_scaling_policy(PolicyName="writes", **policy)
    with pytest.raises(ClientError, match="Only one TargetTrackingScaling policy for a given metric specification"):
        scaling.put_scaling_policy(PolicyName="again", **policy)

    def thresholds() -> dict[str, float]:
        alarms = watch.describe_alarms()["MetricAlarms"]
        return {one["AlarmName"].split("-")[2]: one["Threshold"] for one in alarms}

    # 70 % and 50 % of a unit a second, for a minute; as AWS makes them.
    provisioned = {"ProvisionedCapacityHigh": 1.0, "ProvisionedCapacityLow": 1.0}
    assert thresholds() == {"AlarmHigh": 42.0, "AlarmLow": 30.0, **provisioned}

    def write(count: int) -> None:
        for number in range(count):
            tables.put_item(TableName="cards", Item={"id": {"S": str(number)}, "text": {"S": "x" * 9000}})
        cloud.advance(60)

    def capacity() -> int:
        table = tables.describe_table(TableName="cards")["Table"]
        return int(table["ProvisionedThroughput"]["WriteCapacityUnits"])

    for _ in range(3):
        write(20)  # of nine units each
    eventually(lambda: capacity() == 5)  # 180 units in a minute are 70 % of 4.3 units
    eventually(lambda: thresholds()["AlarmHigh"] == 210.0)
    # Somebody else changes the capacity, and the load is within the bounds of before: only as the thresholds follow
    # it is found to be little, and the capacity is taken back.
    tables.update_table(TableName="cards", ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 7})
    for _ in range(22):
        write(20)
    eventually(lambda: capacity() == 5)
    eventually(lambda: thresholds() == {"AlarmHigh": 210.0, "AlarmLow": 150.0, **dict.fromkeys(provisioned, 5.0)})
    for _ in range(16):
        write(1)
    eventually(lambda: capacity() == 1)
    eventually(lambda: thresholds()["AlarmHigh"] == 42.0)
    scaling.delete_scaling_policy(PolicyName="writes", **place)
    assert thresholds() == {}


def test_provisioned_concurrency_follows_its_use(cloud: LocalCloud) -> None:
    functions, scaling = cloud.client("lambda"), cloud.client("application-autoscaling")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr("index.py", "def handler(event, context):\n    return 1\n")
    functions.create_function(
        FunctionName="fn",
        Runtime="python3.11",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": packed.getvalue()},
        Publish=True,
    )
    functions.create_alias(FunctionName="fn", Name="live", FunctionVersion="1")
    config = {"FunctionName": "fn", "Qualifier": "live"}
    functions.put_provisioned_concurrency_config(**config, ProvisionedConcurrentExecutions=1)
    place = {
        "ServiceNamespace": "lambda",
        "ResourceId": "function:fn:live",
        "ScalableDimension": "lambda:function:ProvisionedConcurrency",
    }
    scaling.register_scalable_target(**place, MinCapacity=1, MaxCapacity=3)
    predefined = {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}
    policy = scaling.put_scaling_policy(
        **place,
        PolicyName="use",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={"TargetValue": 0.7, "PredefinedMetricSpecification": predefined},
    )
    names = [one["AlarmName"] for one in policy["Alarms"]]
    assert [name[:-37] for name in names] == [
        "TargetTracking-function:fn:live-AlarmHigh",
        "TargetTracking-function:fn:live-AlarmLow",
    ]
    found = cloud.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
    assert [one["Threshold"] for one in found] == [0.7, 0.63]

    def kept() -> int:
        found = functions.get_provisioned_concurrency_config(**config)
        return int(found["RequestedProvisionedConcurrentExecutions"])

    def minutes_of_use(count: int) -> None:
        for _ in range(count):
            functions.invoke(FunctionName="fn:live")
            cloud.advance(60)

    minutes_of_use(4)  # one of one is at work whenever somebody asks
    eventually(lambda: kept() == 2)
    functions.put_provisioned_concurrency_config(**config, ProvisionedConcurrentExecutions=3)
    minutes_of_use(17)  # one of three is less than is wanted
    eventually(lambda: kept() == 2)
    activity = scaling.describe_scaling_activities(ServiceNamespace="lambda")["ScalingActivities"][0]
    assert activity["Description"] == "Setting desired concurrency to 2."
