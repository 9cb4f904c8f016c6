"""The reports of insight rules: contributions gathered by contributor and by time. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cloudlet.services.api import Output
from cloudlet.services.cloudwatch.records import Contribution, Metric
from cloudlet.services.cloudwatch.statistics import Summary

# What is said of the contributors of one stretch of time, each with the summary of its values.
METRICS: dict[str, Callable[[list[Summary]], float]] = {
    "UniqueContributors": lambda found: float(len(found)),
    "MaxContributorValue": lambda found: max(one.sum for one in found),
    "SampleCount": lambda found: sum(one.count for one in found),
    "Sum": lambda found: sum(one.sum for one in found),
    "Average": lambda found: sum(one.sum for one in found) / sum(one.count for one in found),
    "Minimum": lambda found: min(one.least for one in found),
    "Maximum": lambda found: max(one.greatest for one in found),
}

By = dict[tuple[str, ...], dict[int, Summary]]  # contributor -> start of a stretch of time -> its values


def rule_metric(scope: str, rule: str) -> Metric:
    """What alarms on a rule wait for; no metric that anybody else sees."""
    return Metric(scope, "", rule, ())


def gathered(found: Iterable[Contribution], first: int, period: int) -> By:
    """Contributions by contributor, in stretches of ``period`` seconds from ``first`` on."""
    by: By = {}
    for one in found:
        times, time = by.setdefault(one.keys, {}), first + (one.time - first) // period * period
        if time in times:
            times[time].add(one.summary)
        else:
            times[time] = one.summary
    return by


def metric_over_time(by: By, metric: str) -> dict[int, float]:
    """One of ``METRICS`` for each stretch of time in which anybody has contributed."""
    times: dict[int, list[Summary]] = {}
    for contributor in by.values():
        for time, summary in contributor.items():
            times.setdefault(time, []).append(summary)
    return {time: METRICS[metric](times[time]) for time in sorted(times)}


def report(by: By, order: str, most: int, metrics: list[str]) -> Output:
    """The contributors that rank highest by Sum or Maximum, and what is said of all."""
    totals = {keys: sum(one.sum for one in times.values()) for keys, times in by.items()}
    rank = totals if order == "Sum" else {keys: max(one.sum for one in times.values()) for keys, times in by.items()}
    top = sorted(by, key=lambda keys: (-rank[keys], keys))[:most]
    points: dict[int, Output] = {}
    for metric in metrics:
        for time, value in metric_over_time(by, metric).items():
            points.setdefault(time, {"Timestamp": float(time)})[metric] = value
    return {
        "AggregateValue": sum(totals.values()),
        "ApproximateUniqueCount": len(by),
        "Contributors": [
            {
                "Keys": list(keys),
                "ApproximateAggregateValue": totals[keys],
                "Datapoints": [
                    {"Timestamp": float(time), "ApproximateValue": by[keys][time].sum} for time in sorted(by[keys])
                ],
            }
            for keys in top
        ],
        "MetricDatapoints": [points[time] for time in sorted(points)],
    }
