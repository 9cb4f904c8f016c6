"""CloudWatch through boto3: metrics, metric math, alarms on the clock, dashboards."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ServiceModel

from cloudlet.testing import LocalCloud, eventually

ACCOUNT = "000000000000"
HOUR = 3600


@pytest.fixture
def cloudwatch(cloud: LocalCloud) -> Any:
    return cloud.client("cloudwatch")


def refused(call: Any, **input: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**input)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def now_of(cloud: LocalCloud) -> float:
    return float(cloud.control("clock")["now"])


def put(cloudwatch: Any, *values: float, name: str = "load", at: float | None = None, **datum: Any) -> None:
    data = [{"MetricName": name, "Value": value, **datum} for value in values]
    if at is not None:
        data = [{**one, "Timestamp": at} for one in data]
    cloudwatch.put_metric_data(Namespace="app", MetricData=data)


def statistics(cloudwatch: Any, *names: str, start: float, end: float, period: int = 60, **more: Any) -> list[Any]:
    if names:
        more["Statistics"] = list(names)
    answer = cloudwatch.get_metric_statistics(
        Namespace="app", MetricName="load", StartTime=start, EndTime=end, Period=period, **more
    )
    return sorted(answer["Datapoints"], key=lambda one: one["Timestamp"])


def stat(id: str, name: str = "load", stat: str = "Sum", period: int = 60, **more: Any) -> dict[str, Any]:
    metric = {"Namespace": "app", "MetricName": name, "Dimensions": more.pop("dimensions", [])}
    return {"Id": id, "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}, **more}


def math_of(cloudwatch: Any, start: float, end: float, *queries: dict[str, Any]) -> dict[str, list[float]]:
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=list(queries), StartTime=start, EndTime=end, ScanBy="TimestampAscending"
    )
    return {one["Id"]: one["Values"] for one in answer["MetricDataResults"]}


def test_statistics(cloud: LocalCloud, cloudwatch: Any) -> None:
    minute = int(time.time()) // 60 * 60 - 600
    put(cloudwatch, 1, 2, 3, 4, at=minute, Unit="Seconds")
    put(cloudwatch, 10, at=minute + 60, Unit="Seconds")
    put(cloudwatch, 7, at=minute, Unit="Count")
    cloud.kill()
    cloud.start()
    cloudwatch = cloud.client("cloudwatch")
    window = {"start": minute, "end": minute + 120}
    first, second = statistics(
        cloudwatch, "Sum", "Average", "Minimum", "Maximum", "SampleCount", **window, Unit="Seconds"
    )
    assert (first["Sum"], first["Average"], first["Minimum"], first["Maximum"]) == (10, 2.5, 1, 4)
    assert (first["SampleCount"], first["Unit"], second["Sum"]) == (4, "Seconds", 10)
    assert {one["Unit"] for one in statistics(cloudwatch, "Sum", **window)} == {"Seconds", "Count"}
    (both,) = statistics(
        cloudwatch, **window, period=120, Unit="Seconds", ExtendedStatistics=["p50", "p100", "tm80", "PR(:3)"]
    )
    assert both["ExtendedStatistics"] == {"p50": 3.0, "p100": 10.0, "tm80": 2.5, "PR(:3)": 60.0}

    cloudwatch.put_metric_data(
        Namespace="app",
        MetricData=[
            {"MetricName": "many", "Values": [1.0, 5.0], "Counts": [9.0, 1.0], "Timestamp": minute},
            {
                "MetricName": "set",
                "StatisticValues": {"SampleCount": 4, "Sum": 10, "Minimum": 1, "Maximum": 4},
                "Timestamp": minute,
            },
        ],
    )
    shown = math_of(
        cloudwatch,
        *(minute, minute + 60),
        *(stat("many", "many", "p90"), stat("set", "set", "Average"), stat("hidden", "set", "p90")),
    )
    assert shown == {"many": [pytest.approx(1.4)], "set": [2.5], "hidden": []}

    assert refused(statistics, cloudwatch=cloudwatch, start=minute, end=minute) == (
        "InvalidParameterCombination",
        "Must specify either Statistics or ExtendedStatistics",
    )
    empty = [{"MetricName": "x"}]
    assert refused(cloudwatch.put_metric_data, Namespace="app", MetricData=empty)[0] == "MissingParameter"
    old = [{"MetricName": "x", "Value": 1.0, "Timestamp": minute - 20 * 86_400}]
    assert "two weeks" in refused(cloudwatch.put_metric_data, Namespace="app", MetricData=old)[1]
    nan = [{"MetricName": "x", "Value": float("nan")}]
    assert refused(cloudwatch.put_metric_data, Namespace="app", MetricData=nan)[0] == "InvalidParameterValue"


@pytest.mark.parametrize("protocol", ["json", "query"])
def test_other_protocols(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """Older SDKs speak the query protocol, some json."""
    monkeypatch.setattr(ServiceModel, "resolved_protocol", protocol)
    cloudwatch = cloud.client("cloudwatch")
    minute = int(time.time()) // 60 * 60 - 60
    put(cloudwatch, 1, 2, at=minute)
    assert statistics(cloudwatch, "Sum", start=minute, end=minute + 60)[0]["Sum"] == 3.0
    assert refused(cloudwatch.set_alarm_state, AlarmName="x", StateValue="OK", StateReason="x")[0] == "ResourceNotFound"


def test_listing(cloud: LocalCloud, cloudwatch: Any) -> None:
    for host in range(3):
        put(cloudwatch, 1, Dimensions=[{"Name": "Host", "Value": f"h{host}"}, {"Name": "Az", "Value": "a"}])
    put(cloudwatch, 1, name="other")
    listed = cloudwatch.list_metrics(Namespace="app", Dimensions=[{"Name": "Host"}])["Metrics"]
    assert len(listed) == 3
    assert listed[0]["Dimensions"] == [{"Name": "Az", "Value": "a"}, {"Name": "Host", "Value": "h0"}]
    (one,) = cloudwatch.list_metrics(Dimensions=[{"Name": "Host", "Value": "h2"}])["Metrics"]
    assert one["MetricName"] == "load"
    assert [one["MetricName"] for one in cloudwatch.list_metrics(MetricName="other")["Metrics"]] == ["other"]
    data = [{"MetricName": f"m{number:04}", "Value": 1.0} for number in range(600)]
    cloudwatch.put_metric_data(Namespace="big", MetricData=data)
    pages = list(cloudwatch.get_paginator("list_metrics").paginate(Namespace="big"))
    assert [len(page["Metrics"]) for page in pages] == [500, 100]
    cloud.advance(15 * 86_400)
    assert cloudwatch.list_metrics()["Metrics"] == []


def test_metric_math(cloudwatch: Any) -> None:
    start = int(time.time()) // 60 * 60 - 600
    for minute, (errors, requests) in enumerate(((1, 10), (2, 0), (None, 8), (4, 8))):
        if errors is not None:
            put(cloudwatch, errors, name="errors", at=start + 60 * minute)
        put(cloudwatch, requests, name="requests", at=start + 60 * minute)
    e, r = stat("e", "errors", ReturnData=False), stat("r", "requests", ReturnData=False)

    def value(expression: str) -> list[float]:
        return math_of(cloudwatch, start, start + 240, e, r, {"Id": "x", "Expression": expression})["x"]

    assert value("100 * e / r") == [10.0, 50.0]  # nothing where there is no error or no request
    assert value("FILL(e, 0)") == [1, 2, 0, 4]
    assert value("FILL(e, REPEAT) + 1") == [2, 3, 3, 5]
    assert value("FILL(e, LINEAR)") == [1, 2, 3, 4]
    assert value("IF(r > 8, 1, 0)") == [1, 0, 0, 0]
    assert value("IF(r >= 8 AND r != 10, 1, 0)") == [0, 0, 1, 1]
    assert value("SUM([e, r])") == [11, 2, 8, 12]
    assert value("MAX(METRICS())") == [10, 2, 8, 8]
    assert value("e - AVG(e) + MIN(e) * -2 ^ 2") == [pytest.approx(v - 7 / 3 - 4) for v in (1, 2, 4)]
    assert value("RUNNING_SUM(r)") == [10, 10, 18, 26]
    assert value("RATE(r) * PERIOD(r)") == [-10, 8, 0]
    assert value("TIME_SERIES(3)") == [3, 3, 3, 3]
    assert value("FIRST(SORT([e, r], SUM, DESC))") == [10, 0, 8, 8]
    for expression, words in {
        "e +": "Invalid syntax",
        "nobody + 1": "Undefined variable",
        "FROB(e)": "Unknown function",
        "AVG(e)": "not a time series",
        "x": "depends on itself",
    }.items():
        with pytest.raises(ClientError, match=words):
            value(expression)
    with pytest.raises(ClientError, match="Cloudlet does not implement metric math's SERVICE_QUOTA"):
        value("SERVICE_QUOTA(e)")

    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=[stat("a", "errors"), stat("b", "requests")],
        StartTime=start,
        EndTime=start + 240,
        MaxDatapoints=3,
        ScanBy="TimestampAscending",
    )
    found = [(one["Id"], one["Values"]) for page in pages for one in page["MetricDataResults"]]
    assert found == [("a", [1, 2, 4]), ("b", [10, 0, 8]), ("b", [8])]


def test_searches_and_labels(cloudwatch: Any) -> None:
    start = int(time.time()) // 60 * 60 - 120
    for queue, size in (("orders", 3), ("mails", 5)):
        dimensions = [{"Name": "QueueName", "Value": queue}]
        for name in ("QueueSize", "QueueAge"):
            put(cloudwatch, size, name=name, at=start, Dimensions=dimensions)
    put(cloudwatch, 9, name="QueueSize", at=start)

    def found(text: str, label: str = "") -> dict[str, list[float]]:
        query = {"Id": "x", "Expression": f"SEARCH('{text}', 'Sum', 60)"}
        if label:
            query["Label"] = label
        answer = cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=start, EndTime=start + 60)
        return {one["Label"]: one["Values"] for one in answer["MetricDataResults"]}

    sizes = {"x orders": [3.0], "x mails": [5.0]}
    assert found('{app,QueueName} MetricName="QueueSize"') == sizes
    assert found("{app,QueueName} size") == sizes
    assert found("{app} size") == {"x QueueSize": [9.0]}
    assert found("{app,QueueName} queue NOT QueueName=mails") == {
        "x orders QueueSize": [3.0],
        "x orders QueueAge": [3.0],
    }
    both = "Namespace=app (QueueName=(orders OR mails)) AND Age"
    assert found(both, "${LABEL}: ${MAX}") == {"orders: 3": [3.0], "mails: 5": [5.0]}
    with pytest.raises(ClientError, match="Invalid syntax in the search"):
        found("{app} (")
    alarm = {"AlarmName": "a", "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold"}
    search = {"Id": "x", "Expression": "MAX(SEARCH('{app} size', 'Sum', 60))"}
    assert "SEARCH is not supported" in refused(cloudwatch.put_metric_alarm, **alarm, Metrics=[search])[1]

    label = "${PROP('MetricName')} of ${PROP('Dim.QueueName')} in ${PROP('Region')}: ${AVG}"
    one = stat("a", "QueueSize", dimensions=[{"Name": "QueueName", "Value": "orders"}], Label=label)
    answer = cloudwatch.get_metric_data(MetricDataQueries=[one], StartTime=start, EndTime=start + 60)
    assert answer["MetricDataResults"][0]["Label"] == "QueueSize of orders in us-east-1: 3"
    late = stat("a", Label="${LAST_TIME}")
    with pytest.raises(ClientError, match="NotImplemented"):
        cloudwatch.get_metric_data(MetricDataQueries=[late], StartTime=start, EndTime=start + 60)


def test_metrics_insights(cloudwatch: Any) -> None:
    start = int(time.time()) // 60 * 60 - 120
    for host, zone, load in (("a", "1", 10), ("b", "1", 30), ("c", "2", 50)):
        dimensions = [{"Name": "Host", "Value": host}, {"Name": "Zone", "Value": zone}]
        put(cloudwatch, load, at=start, Dimensions=dimensions)
    put(cloudwatch, 99, at=start)

    def found(text: str, **more: Any) -> list[tuple[str, list[float]]]:
        query = {"Id": "q", "Expression": text, "Period": 60, **more}
        answer = cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=start, EndTime=start + 60)
        return [(one["Label"], one["Values"]) for one in answer["MetricDataResults"]]

    assert found("SELECT SUM(load) FROM app") == [("q", [189.0])]
    assert found('SELECT AVG(load) FROM SCHEMA("app", Host, Zone)') == [("q", [30.0])]
    assert found("select max(load) from app where Zone = '1' group by Host") == [("a", [10.0]), ("b", [30.0])]
    by_zone = "SELECT SUM(load) FROM app WHERE Host != 'b' GROUP BY Zone ORDER BY MAX() DESC"
    assert found(by_zone) == [("2", [50.0]), ("1", [10.0])]
    assert found(f"{by_zone} LIMIT 1", Label="zone ${LABEL}") == [("zone 2", [50.0])]
    assert found("SELECT COUNT(load) FROM other") == []
    for text, words in {
        "SELECT FROB(load) FROM app": "Unknown function",
        "SELECT AVG(load)": "FROM is missing",
    }.items():
        with pytest.raises(ClientError, match=words):
            found(text)
    query = {"Id": "q", "Expression": "SELECT SUM(load) FROM app"}
    with pytest.raises(ClientError, match="Period is required"):
        cloudwatch.get_metric_data(MetricDataQueries=[query], StartTime=start, EndTime=start + 60)
    alarm = {"AlarmName": "a", "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold"}
    assert refused(cloudwatch.put_metric_alarm, **alarm, Metrics=[{**query, "Period": 60}])[0] == "NotImplemented"


def test_values_and_a_set_of_statistics(cloudwatch: Any) -> None:
    start = int(time.time()) // 60 * 60 - 120
    both = {"SampleCount": 2, "Sum": 7, "Minimum": 3, "Maximum": 4}
    datum = {"MetricName": "load", "Timestamp": start, "Values": [1.0, 9.0], "StatisticValues": both}
    cloudwatch.put_metric_data(Namespace="app", MetricData=[datum])
    (found,) = statistics(cloudwatch, "Sum", "SampleCount", "Maximum", start=start, end=start + 60)
    assert (found["Sum"], found["SampleCount"], found["Maximum"]) == (17, 4, 9)
    uneven = {**datum, "Counts": [1.0]}
    refusal = refused(cloudwatch.put_metric_data, Namespace="app", MetricData=[uneven])
    assert refusal[0] == "InvalidParameterValue"
    refusal = refused(cloudwatch.put_metric_data, Namespace="app", MetricData=[{**datum, "Value": 1.0}])
    assert refusal[0] == "InvalidParameterCombination"


def test_percentiles_of_few_samples(cloud: LocalCloud, cloudwatch: Any) -> None:
    for name, option in (("few", "evaluate"), ("enough", "ignore")):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="app",
            MetricName="load",
            ExtendedStatistic="p90",
            EvaluateLowSampleCountPercentile=option,
            Period=60,
            EvaluationPeriods=1,
            Threshold=10.0,
            ComparisonOperator="GreaterThanThreshold",
        )
    put(cloudwatch, 50.0, at=now_of(cloud))
    cloud.advance(60)
    becomes(cloudwatch, "ALARM", "few")
    assert state_of(cloudwatch, "enough") == "INSUFFICIENT_DATA"
    put(cloudwatch, *([50.0] * 100), at=now_of(cloud))
    cloud.advance(60)
    becomes(cloudwatch, "ALARM", "enough")


def test_points_grow_coarser_and_end(cloud: LocalCloud, cloudwatch: Any) -> None:
    start = int(time.time()) // HOUR * HOUR - HOUR
    put(cloudwatch, 1, 2, at=start + 1, StorageResolution=1)
    put(cloudwatch, 3, at=start + 61, StorageResolution=1)
    window = {"start": start, "end": start + HOUR}
    assert [one["Sum"] for one in statistics(cloudwatch, "Sum", **window, period=10)] == [3, 3]

    def folded(period: int) -> bool:
        return statistics(cloudwatch, "Sum", start=start, end=start + HOUR, period=period) == []

    for days, finest, coarser in ((0.25, 10, 60), (16, 60, 300), (64, 300, 3600)):
        cloud.advance(days * 86_400)
        eventually(lambda period=finest: folded(period))  # type: ignore[misc]
        answer = cloudwatch.get_metric_statistics(
            Namespace="app",
            MetricName="load",
            StartTime=start,
            EndTime=start + HOUR,
            Period=coarser,
            Statistics=["Sum"],
            ExtendedStatistics=["p100"],
        )["Datapoints"]
        assert sum(one["Sum"] for one in answer) == 6
        assert max(one["ExtendedStatistics"]["p100"] for one in answer) == 3
    cloud.advance(456 * 86_400)
    eventually(lambda: folded(3600))


def alarm_on(cloudwatch: Any, name: str = "high", **settings: Any) -> None:
    cloudwatch.put_metric_alarm(
        **{
            "AlarmName": name,
            "Namespace": "app",
            "MetricName": "load",
            "Statistic": "Maximum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 10.0,
            "ComparisonOperator": "GreaterThanThreshold",
            **settings,
        }
    )


def state_of(cloudwatch: Any, name: str = "high") -> str:
    found = cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    (alarm,) = found["MetricAlarms"] + found["CompositeAlarms"]
    return str(alarm["StateValue"])


def becomes(cloudwatch: Any, state: str, name: str = "high") -> None:
    eventually(lambda: state_of(cloudwatch, name) == state)


def test_an_alarm_follows_its_metric(cloud: LocalCloud, cloudwatch: Any) -> None:
    sns, sqs = cloud.client("sns"), cloud.client("sqs")
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    url = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:alerts"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    alarm_on(cloudwatch, AlarmActions=[topic], OKActions=[topic], AlarmDescription="too much")
    (alarm,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert (alarm["StateValue"], alarm["StateReason"]) == ("INSUFFICIENT_DATA", "Unchecked: Initial alarm creation")
    assert (alarm["ActionsEnabled"], alarm["OKActions"], alarm["Dimensions"]) == (True, [topic], [])

    put(cloudwatch, 50.0, at=now_of(cloud))
    cloud.advance(60)
    becomes(cloudwatch, "ALARM")
    (alarm,) = cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"]
    assert alarm["StateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoint [50.0 (")
    assert alarm["StateReason"].endswith("(minimum 1 datapoint for OK -> ALARM transition).")
    assert json.loads(alarm["StateReasonData"])["recentDatapoints"] == [50.0]
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    said = json.loads(message["Body"])
    assert (said["AlarmName"], said["OldStateValue"], said["NewStateValue"]) == ("high", "INSUFFICIENT_DATA", "ALARM")
    assert (said["Trigger"]["MetricName"], said["Trigger"]["Statistic"]) == ("load", "MAXIMUM")
    assert (said["AWSAccountId"], said["Region"]) == (ACCOUNT, "US East (N. Virginia)")

    cloud.kill()
    cloud.start()
    cloudwatch = cloud.client("cloudwatch")
    assert state_of(cloudwatch) == "ALARM"
    put(cloudwatch, 5.0, at=now_of(cloud))
    cloud.advance(60)
    becomes(cloudwatch, "OK")
    cloud.advance(600)
    becomes(cloudwatch, "INSUFFICIENT_DATA")

    def summaries() -> list[str]:
        items = cloudwatch.describe_alarm_history(AlarmName="high", ScanBy="TimestampAscending")["AlarmHistoryItems"]
        return [item["HistorySummary"] for item in items]

    expected = {
        'Alarm "high" created',
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        "Alarm updated from ALARM to OK",
        f"Successfully executed action {topic}",
        "Alarm updated from OK to INSUFFICIENT_DATA",
    }
    eventually(lambda: set(summaries()) == expected)
    updates = cloudwatch.describe_alarm_history(HistoryItemType="StateUpdate", MaxRecords=2)
    assert [item["HistorySummary"].rpartition(" ")[2] for item in updates["AlarmHistoryItems"]] == [
        "INSUFFICIENT_DATA",
        "OK",
    ]
    cloudwatch.delete_alarms(AlarmNames=["high", "never there"])
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_missing_data_m_of_n_and_math(cloud: LocalCloud, cloudwatch: Any) -> None:
    alarm_on(cloudwatch, "breaching", TreatMissingData="breaching")
    alarm_on(cloudwatch, "fine", TreatMissingData="notBreaching")
    alarm_on(cloudwatch, "ignoring", TreatMissingData="ignore")
    alarm_on(cloudwatch, "two", EvaluationPeriods=3, DatapointsToAlarm=2)
    cloudwatch.put_metric_alarm(
        AlarmName="math",
        EvaluationPeriods=1,
        Threshold=0.5,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Metrics=[
            stat("e", "errors", ReturnData=False),
            stat("r", "load", ReturnData=False),
            {"Id": "rate", "Expression": "e / r", "ReturnData": True},
        ],
    )
    cloud.advance(60)
    becomes(cloudwatch, "ALARM", "breaching")
    becomes(cloudwatch, "OK", "fine")
    assert state_of(cloudwatch, "ignoring") == "INSUFFICIENT_DATA"
    put(cloudwatch, 20.0, at=now_of(cloud))
    put(cloudwatch, 15.0, name="errors", at=now_of(cloud))
    cloud.advance(60)
    becomes(cloudwatch, "ALARM", "ignoring")
    becomes(cloudwatch, "ALARM", "math")
    put(cloudwatch, 1.0, at=now_of(cloud))
    cloud.advance(60)
    becomes(cloudwatch, "OK", "breaching")
    becomes(cloudwatch, "OK", "two")
    put(cloudwatch, 30.0, at=now_of(cloud))
    cloud.advance(60)
    becomes(cloudwatch, "ALARM", "two")
    cloud.advance(HOUR)
    becomes(cloudwatch, "INSUFFICIENT_DATA", "two")
    assert state_of(cloudwatch, "ignoring") == "ALARM"

    assert "across more than a day" in refused(alarm_on, cloudwatch=cloudwatch, EvaluationPeriods=2000)[1]
    assert refused(alarm_on, cloudwatch=cloudwatch, AlarmActions=["arn:ok"])[1] == "Invalid arn syntax: arn:ok"
    stop = "arn:aws:automate:us-east-1:ec2:stop"
    assert "InstanceId" in refused(alarm_on, cloudwatch=cloudwatch, AlarmActions=[stop])[1]
    recover = "arn:aws:automate:us-east-1:ec2:recover"
    assert refused(alarm_on, cloudwatch=cloudwatch, AlarmActions=[recover])[0] == "NotImplemented"
    assert refused(alarm_on, cloudwatch=cloudwatch, ExtendedStatistic="p90")[0] == "InvalidParameterCombination"


def test_set_state_and_composite_alarms(cloud: LocalCloud, cloudwatch: Any) -> None:
    alarm_on(cloudwatch, "a", Tags=[{"Key": "team", "Value": "blue"}])
    alarm_on(cloudwatch, "b")
    cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule='ALARM("a") AND NOT OK(b)')
    cloudwatch.put_composite_alarm(AlarmName="top", AlarmRule="ALARM(both) OR FALSE")
    assert (state_of(cloudwatch, "both"), state_of(cloudwatch, "top")) == ("OK", "OK")
    cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="a test")
    assert (state_of(cloudwatch, "both"), state_of(cloudwatch, "top")) == ("ALARM", "ALARM")
    cloudwatch.set_alarm_state(AlarmName="b", StateValue="OK", StateReason="a test")
    assert (state_of(cloudwatch, "both"), state_of(cloudwatch, "top")) == ("OK", "OK")
    cloud.advance(60)  # what is set by hand does not last
    becomes(cloudwatch, "INSUFFICIENT_DATA", "a")

    children = cloudwatch.describe_alarms(ChildrenOfAlarmName="both")["MetricAlarms"]
    assert [child["AlarmName"] for child in children] == ["a", "b"]
    parents = cloudwatch.describe_alarms(ParentsOfAlarmName="a", AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert [parent["AlarmName"] for parent in parents] == ["both"]
    assert len(cloudwatch.describe_alarms_for_metric(Namespace="app", MetricName="load")["MetricAlarms"]) == 2
    for rule in ("ALARM(a) AND", "ALARM(nobody)", "SOMETHING(a)", "ALARM(top)"):
        assert refused(cloudwatch.put_composite_alarm, AlarmName="both", AlarmRule=rule)[0] == "ValidationError"
    assert refused(cloudwatch.set_alarm_state, AlarmName="x", StateValue="OK", StateReason="x")[0] == "ResourceNotFound"

    cloudwatch.disable_alarm_actions(AlarmNames=["a"])
    assert not cloudwatch.describe_alarms(AlarmNames=["a"])["MetricAlarms"][0]["ActionsEnabled"]
    arn = f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:a"
    cloudwatch.tag_resource(ResourceARN=arn, Tags=[{"Key": "stage", "Value": "test"}])
    cloudwatch.untag_resource(ResourceARN=arn, TagKeys=["team"])
    assert cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]
    pages = list(cloudwatch.get_paginator("describe_alarms").paginate(PaginationConfig={"PageSize": 1}))
    assert [page["MetricAlarms"][0]["AlarmName"] for page in pages] == ["a", "b"]


def test_dashboards(cloudwatch: Any) -> None:
    body = json.dumps({"widgets": []})
    assert cloudwatch.put_dashboard(DashboardName="ops", DashboardBody=body)["DashboardValidationMessages"] == []
    assert cloudwatch.get_dashboard(DashboardName="ops")["DashboardBody"] == body
    (entry,) = cloudwatch.list_dashboards(DashboardNamePrefix="o")["DashboardEntries"]
    assert (entry["Size"], entry["DashboardArn"]) == (len(body), f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/ops")
    assert refused(cloudwatch.put_dashboard, DashboardName="ops", DashboardBody="x")[0] == "InvalidParameterInput"
    cloudwatch.delete_dashboards(DashboardNames=["ops"])
    assert refused(cloudwatch.get_dashboard, DashboardName="ops")[0] == "ResourceNotFound"


def test_other_services_report(cloud: LocalCloud, cloudwatch: Any) -> None:
    """A queue's depth sets off an alarm; log events that match a metric filter are counted."""
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="work")["QueueUrl"]
    dimensions = [{"Name": "QueueName", "Value": "work"}]
    alarm_on(
        cloudwatch,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Dimensions=dimensions,
        Threshold=2.0,
    )
    for _ in range(3):
        sqs.send_message(QueueUrl=url, MessageBody="x")
    cloud.advance(60)
    becomes(cloudwatch, "ALARM")
    start, end = now_of(cloud) - 600, now_of(cloud) + 60
    answer = cloudwatch.get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="NumberOfMessagesSent",
        Dimensions=dimensions,
        StartTime=start,
        EndTime=end,
        Period=600,
        Statistics=["Sum"],
    )
    assert sum(one["Sum"] for one in answer["Datapoints"]) == 3
    sqs.purge_queue(QueueUrl=url)
    cloud.advance(60)
    becomes(cloudwatch, "OK")  # the queue is asked for some hours more, as AWS does it

    logs = cloud.client("logs", config=Config(inject_host_prefix=False))
    logs.create_log_group(logGroupName="app")
    logs.create_log_stream(logGroupName="app", logStreamName="one")
    transformation = {"metricName": "load", "metricNamespace": "app", "metricValue": "1"}
    logs.put_metric_filter(
        logGroupName="app", filterName="f", filterPattern="ERROR", metricTransformations=[transformation]
    )
    now = int(now_of(cloud) * 1000)
    events = [{"timestamp": now, "message": text} for text in ("ERROR a", "fine", "ERROR b")]
    logs.put_log_events(logGroupName="app", logStreamName="one", logEvents=events)
    start, end = now_of(cloud) - 600, now_of(cloud) + 60
    eventually(lambda: [one["Sum"] for one in statistics(cloudwatch, "Sum", start=start, end=end, period=600)] == [2])


def test_a_change_of_state_is_an_event(cloud: LocalCloud, cloudwatch: Any) -> None:
    events, sqs = cloud.client("events"), cloud.client("sqs")
    url = sqs.create_queue(QueueName="heard")["QueueUrl"]
    pattern = {"source": ["aws.cloudwatch"], "detail": {"state": {"value": ["ALARM"]}}}
    events.put_rule(Name="alarms", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="alarms", Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:heard"}])
    alarm_on(cloudwatch)
    cloudwatch.set_alarm_state(AlarmName="high", StateValue="OK", StateReason="fine")
    cloudwatch.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="a test")
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    event = json.loads(message["Body"])
    assert (event["detail-type"], event["resources"]) == (
        "CloudWatch Alarm State Change",
        [f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:high"],
    )
    detail = event["detail"]
    assert (detail["alarmName"], detail["state"]["reason"], detail["previousState"]["value"]) == (
        "high",
        "a test",
        "OK",
    )
    assert detail["configuration"]["metrics"][0]["metricStat"]["metric"]["name"] == "load"


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "High": {
            "Type": "AWS::CloudWatch::Alarm",
            "Properties": {
                "Namespace": "app",
                "MetricName": "load",
                "Statistic": "Sum",
                "Period": 60,
                "EvaluationPeriods": "1",
                "Threshold": "5",
                "ComparisonOperator": "GreaterThanThreshold",
                "Tags": [{"Key": "team", "Value": "blue"}],
            },
        },
        "Any": {
            "Type": "AWS::CloudWatch::CompositeAlarm",
            "Properties": {"AlarmName": "any", "AlarmRule": {"Fn::Sub": "ALARM(${High})"}},
        },
        "Board": {"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardBody": '{"widgets":[]}'}},
    },
    "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["High", "Arn"]}}, "Board": {"Value": {"Ref": "Board"}}},
}


def test_a_stack_of_alarms(cloud: LocalCloud, cloudwatch: Any) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="watch", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="watch", WaiterConfig={"Delay": 1})
    (stack,) = stacks.describe_stacks(StackName="watch")["Stacks"]
    out = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    (alarm,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert (alarm["AlarmArn"], alarm["Threshold"]) == (out["Arn"], 5.0)
    tags = cloudwatch.list_tags_for_resource(ResourceARN=out["Arn"])["Tags"]
    assert {"Key": "team", "Value": "blue"} in tags
    cloudwatch.get_dashboard(DashboardName=out["Board"])

    changed = json.loads(json.dumps(TEMPLATE))
    changed["Resources"]["High"]["Properties"]["Threshold"] = 7
    del changed["Resources"]["Board"], changed["Outputs"]["Board"]
    stacks.update_stack(StackName="watch", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="watch", WaiterConfig={"Delay": 1})
    (alarm,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert (alarm["AlarmArn"], alarm["Threshold"]) == (out["Arn"], 7.0)
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []

    stacks.delete_stack(StackName="watch")
    stacks.get_waiter("stack_delete_complete").wait(StackName="watch", WaiterConfig={"Delay": 1})
    found = cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    assert found["MetricAlarms"] == found["CompositeAlarms"] == []
