"""Alarms that act on instances of EC2."""

from __future__ import annotations

from test_ec2_instances import cloud, image, in_state

from cloudlet.testing import LocalCloud

__all__ = ["cloud"]


def test_an_alarm_stops_and_another_terminates_its_instance(cloud: LocalCloud) -> None:
    ec2, watch = cloud.client("ec2"), cloud.client("cloudwatch")
    launched = ec2.run_instances(ImageId=image(cloud), InstanceType="t3.micro", MinCount=1, MaxCount=1)
    id = launched["Instances"][0]["InstanceId"]
    in_state(cloud, id, "running")
    for action, state in (("stop", "stopped"), ("terminate", "terminated")):
        watch.put_metric_alarm(
            AlarmName=action,
            Namespace="AWS/EC2",
            MetricName="CPUUtilization",
            Dimensions=[{"Name": "InstanceId", "Value": id}],
            Statistic="Average",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="LessThanThreshold",
            AlarmActions=[f"arn:aws:automate:us-east-1:ec2:{action}"],
        )
        watch.set_alarm_state(AlarmName=action, StateValue="ALARM", StateReason="a test")
        in_state(cloud, id, state)
        history = watch.describe_alarm_history(AlarmName=action, HistoryItemType="Action")["AlarmHistoryItems"]
        assert history[0]["HistorySummary"].startswith("Successfully executed action")
