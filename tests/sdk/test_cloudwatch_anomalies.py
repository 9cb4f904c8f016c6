"""Anomaly detection through boto3: bands, alarms on them, and the detectors that shape them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

DAY = 86_400
METRIC: dict[str, Any] = {"Namespace": "app", "MetricName": "load", "Dimensions": []}


def query(period: int = 3600) -> list[dict[str, Any]]:
    stat = {"Metric": METRIC, "Period": period, "Stat": "Average"}
    return [{"Id": "m1", "MetricStat": stat}, {"Id": "band", "Expression": "ANOMALY_DETECTION_BAND(m1, 3)"}]


def put(cloud: LocalCloud, values: dict[float, float]) -> None:
    data = [{"MetricName": "load", "Value": value, "Timestamp": time} for time, value in values.items()]
    for start in range(0, len(data), 500):
        cloud.client("cloudwatch").put_metric_data(Namespace="app", MetricData=data[start : start + 500])


def band(cloud: LocalCloud, start: float, end: float) -> list[tuple[float, float]]:
    found = cloud.client("cloudwatch").get_metric_data(
        MetricDataQueries=query(), StartTime=start, EndTime=end, ScanBy="TimestampAscending"
    )["MetricDataResults"]
    low, high = (one["Values"] for one in found if one["Id"] == "band")
    return list(zip(low, high, strict=True))


def test_a_band_knows_the_hours_and_what_is_excluded(cloud: LocalCloud) -> None:
    watch = cloud.client("cloudwatch")
    midnight = int(cloud.control("clock")["now"]) // DAY * DAY
    watch.put_anomaly_detector(SingleMetricAnomalyDetector={**METRIC, "Stat": "Average"})

    def state() -> str:
        return str(watch.describe_anomaly_detectors(Namespace="app")["AnomalyDetectors"][0]["StateValue"])

    assert state() == "PENDING_TRAINING"
    put(cloud, {midnight - DAY: 20.0})
    assert state() == "TRAINED_INSUFFICIENT_DATA"
    # By day it is busy and by night it is not, for thirteen days; on one of them something else happened.
    hours = [(day, hour) for day in range(13) for hour in range(24)]
    busy = {midnight - 13 * DAY + day * DAY + hour * 3600: 100.0 if 8 <= hour < 20 else 20.0 for day, hour in hours}
    put(cloud, {time: value + (time // DAY) % 2 for time, value in busy.items()})
    put(cloud, {midnight - 3 * DAY + hour * 3600: 900.0 for hour in range(24)})
    assert state() == "TRAINED"
    spoiled = band(cloud, midnight, midnight + DAY)
    assert spoiled[10][1] > 300
    excluded = {"StartTime": midnight - 3 * DAY, "EndTime": midnight - 2 * DAY}
    watch.put_anomaly_detector(
        SingleMetricAnomalyDetector={**METRIC, "Stat": "Average"}, Configuration={"ExcludedTimeRanges": [excluded]}
    )
    cloud.kill()
    cloud.start()
    low, high = zip(*band(cloud, midnight, midnight + DAY), strict=True)
    assert all(95 < low[hour] < 100 < high[hour] < 106 for hour in range(8, 20))
    assert all(0 <= low[hour] < 21 < high[hour] < 30 for hour in (1, 2, 3, 22, 23))


def test_an_alarm_on_a_band(cloud: LocalCloud) -> None:
    watch = cloud.client("cloudwatch")
    alarm: dict[str, Any] = {
        "AlarmName": "odd",
        "EvaluationPeriods": 1,
        "ComparisonOperator": "LessThanLowerOrGreaterThanUpperThreshold",
        "ThresholdMetricId": "band",
        "Metrics": query(60),
    }
    for wrong, words in (
        ({"ThresholdMetricId": "m1"}, "must use ANOMALY_DETECTION_BAND function"),
        ({"ThresholdMetricId": "none"}, "Exactly one element of the metrics list should return data"),
        ({"Threshold": 1.0}, "mutually exclusive"),
    ):
        with pytest.raises(ClientError, match=words):
            watch.put_metric_alarm(**{**alarm, **wrong})
    with pytest.raises(ClientError, match="ComparisonOperators for ranges require ThresholdMetricId to be set"):
        watch.put_metric_alarm(**{name: value for name, value in alarm.items() if name != "ThresholdMetricId"})
    now = cloud.control("clock")["now"]
    put(cloud, {now - minute * 60: 10.0 + minute % 2 for minute in range(2, 40)})
    watch.put_metric_alarm(**alarm)

    def state() -> str:
        return str(watch.describe_alarms()["MetricAlarms"][0]["StateValue"])

    def minute(value: float) -> None:
        cloud.advance(60)
        put(cloud, {cloud.control("clock")["now"] - 30: value})

    minute(10.0)
    cloud.advance(60)
    eventually(lambda: state() == "OK")
    minute(50.0)
    cloud.advance(60)
    eventually(lambda: state() == "ALARM")
    (found,) = watch.describe_alarms()["MetricAlarms"]
    assert found["StateReason"].startswith("Thresholds Crossed: 1 out of the last 1 datapoint [50.0 (")
    assert "or greater than the upper thresholds [" in found["StateReason"]
    assert json.loads(found["StateReasonData"])["recentDatapoints"] == [50.0]


def test_detectors(cloud: LocalCloud) -> None:
    watch, stacks = cloud.client("cloudwatch"), cloud.client("cloudformation")
    single = {**METRIC, "Stat": "Sum"}
    id = watch.put_anomaly_detector(**single)["AnomalyDetectorId"]
    assert watch.put_anomaly_detector(SingleMetricAnomalyDetector=single)["AnomalyDetectorId"] == id
    rate = [{**query()[0], "ReturnData": False}, {"Id": "e1", "Expression": "m1 / 60"}]
    watch.put_anomaly_detector(MetricMathAnomalyDetector={"MetricDataQueries": rate})
    (shown,) = watch.describe_anomaly_detectors(MetricName="load")["AnomalyDetectors"]
    assert (shown["Stat"], shown["SingleMetricAnomalyDetector"]) == ("Sum", single)
    (shown,) = watch.describe_anomaly_detectors(AnomalyDetectorTypes=["METRIC_MATH"])["AnomalyDetectors"]
    assert shown["MetricMathAnomalyDetector"]["MetricDataQueries"][1]["Expression"] == "m1 / 60"
    # What a detector of an expression says counts for the band of the same expression.
    now = cloud.control("clock")["now"]
    put(cloud, {now - minute * 60: 60.0 for minute in range(20)})
    asked = [
        query(60)[0],
        {"Id": "e1", "Expression": "m1 / 60"},
        {"Id": "b", "Expression": "ANOMALY_DETECTION_BAND(e1)"},
    ]
    rate = [{**asked[0], "ReturnData": False}, asked[1]]

    def bands() -> list[float]:
        found = watch.get_metric_data(MetricDataQueries=asked, StartTime=now - 60, EndTime=now)["MetricDataResults"]
        return [value for one in found if one["Id"] == "b" for value in one["Values"]]

    assert (bands()[0], bands()[-1]) == (pytest.approx(0.98), pytest.approx(1.02))
    everything = {"ExcludedTimeRanges": [{"StartTime": now - DAY, "EndTime": now + DAY}]}
    watch.put_anomaly_detector(MetricMathAnomalyDetector={"MetricDataQueries": rate}, Configuration=everything)
    assert bands() == []
    watch.delete_anomaly_detector(AnomalyDetectorId=id)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        watch.delete_anomaly_detector(SingleMetricAnomalyDetector=single)
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        watch.put_anomaly_detector(SingleMetricAnomalyDetector=single, Stat="Sum")
    with pytest.raises(ClientError, match="MetricTimezone"):
        watch.put_anomaly_detector(**single, Configuration={"MetricTimezone": "Nowhere/At_all"})

    properties = {**single, "Configuration": {"MetricTimeZone": "Europe/Berlin"}}
    template = {"Resources": {"Odd": {"Type": "AWS::CloudWatch::AnomalyDetector", "Properties": properties}}}
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    (shown,) = watch.describe_anomaly_detectors()["AnomalyDetectors"]
    assert shown["Configuration"]["MetricTimezone"] == "Europe/Berlin"
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert watch.describe_anomaly_detectors()["AnomalyDetectors"] == []
