"""The values of metric data queries: each is read or calculated once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from cloudlet.services.cloudwatch import records
from cloudlet.services.cloudwatch.anomalies import TRAINED, Model, band, model_of
from cloudlet.services.cloudwatch.asking import Query
from cloudlet.services.cloudwatch.functions import MathError, Series, Value
from cloudlet.services.cloudwatch.metrics import LISTED, aggregate
from cloudlet.services.cloudwatch.records import AnomalyDetector, Metric
from cloudlet.services.cloudwatch.reports import METRICS, gathered, metric_over_time
from cloudlet.services.cloudwatch.searching import compile_search
from cloudlet.services.cloudwatch.statistics import Statistic, Summary, compile_statistic
from cloudlet.store import Tx

_FOUND_AT_MOST = 500  # metrics that a search finds
_PERIOD = 300  # of an expression over nothing


class Evaluation:
    """The queries of one request, answered from what is stored."""

    def __init__(
        self,
        tx: Tx,
        scope: str,
        queries: dict[str, Query],
        start: Callable[[int], int],
        end: int,
        now: float,
        detectors: Sequence[AnomalyDetector] = (),
    ) -> None:
        """``start`` says from when on values are wanted, for a period; ``detectors`` how bands are made."""
        self.scope = scope
        self.end = end
        self.start = start
        self._tx = tx
        self._queries = queries
        self._now = now
        self._detectors = detectors
        self._known: dict[str, Value] = {}
        self._earlier: Evaluation | None = None

    def value(self, query: Query) -> Value:
        """A query's value. Raises ValidationError for what is wrong with its expression."""
        if query.id not in self._known:
            if query.insight is not None:
                self._known[query.id] = query.insight.series(
                    self._listed(),
                    lambda metric: self._summaries(metric, query.period, None),
                    query.period,
                    query.id,
                )
            elif query.expression is not None:
                self._known[query.id] = self._calculated(query)
            else:
                assert query.metric is not None
                self._known[query.id] = self._series(
                    query.metric, query.name, query.period, query.statistic, query.unit
                )
        return self._known[query.id]

    def named(self, name: str) -> Value:
        """The value of the query of an id."""
        return self.value(self._queries[name])

    def every(self) -> list[Series]:
        """The series of all metrics that the request names."""
        metrics = [one for one in self._queries.values() if one.metric is not None]
        return [found._replace(label=one.id) for one in metrics if isinstance(found := self.value(one), Series)]

    def search(self, text: str, stat: str, period: int) -> list[Series]:
        """The series of all metrics that a search finds."""
        test, statistic = compile_search(text), compile_statistic(stat)
        if statistic is None:
            raise MathError(f"There is no statistic {stat}.")
        found = list(itertools.islice((metric for metric in self._listed() if test(metric)), _FOUND_AT_MOST))
        one_name = len({metric.name for metric in found}) == 1
        return [self._series(metric, _label(metric, one_name), period, statistic, None) for metric in found]

    def band(self, name: str, deviations: float) -> list[Series]:
        """The bounds within which a query's values are expected, the lower one first."""
        if self._earlier is None:
            self._earlier = Evaluation(
                self._tx, self.scope, self._queries, lambda period: self.start(period) - TRAINED, self.end, self._now
            )
        found = self._earlier.named(name)
        if not isinstance(found, Series):
            raise MathError("ANOMALY_DETECTION_BAND takes a single time series.")
        times = range(self.start(found.period), self.end, found.period)
        lower, upper = band(found.points, times, deviations, self._model(self._queries[name]))
        return [found._replace(label="Low", points=lower), found._replace(label="High", points=upper)]

    def _model(self, query: Query) -> Model:
        """As the detector of what a query asks for says, if there is one."""
        for detector in self._detectors:
            if _is_of(detector, query, self._queries):
                return model_of(detector.configuration, detector.characteristics)
        return Model()

    def contributed(self, rule: str, metric: str, period: int) -> Series:
        """What an insight rule has counted."""
        if metric not in METRICS:
            raise MathError(f"There is no metric {metric} of insight rules.")
        first = self.start(period)
        by = gathered(records.contributions(self._tx, self.scope, rule, first, self.end), first, period)
        return Series(f"{rule} {metric}", period, metric_over_time(by, metric))

    def _calculated(self, query: Query) -> Value:
        assert query.expression is not None
        try:
            return query.expression.evaluate(Environment(self, self._period(query)))
        except MathError as error:
            raise query.wrong(error) from None
        except (TypeError, OverflowError, ValueError):
            raise query.wrong(MathError("A function has arguments that it does not take.")) from None

    def _period(self, query: Query) -> int:
        """An expression's period: its own, else the longest of the metrics that it uses."""
        assert query.expression is not None
        metrics = [one for one in self._queries.values() if one.metric is not None]
        used = [one for one in metrics if query.expression.everything or one.id in query.expression.names]
        return query.period or max((one.period for one in used or metrics), default=_PERIOD)

    def _series(self, metric: Metric, label: str, period: int, statistic: Statistic, unit: str | None) -> Series:
        summaries = self._summaries(metric, period, unit)
        points = ((time, statistic(summaries[time])) for time in sorted(summaries))
        return Series(label, period, {time: point for time, point in points if point is not None})

    def _summaries(self, metric: Metric, period: int, unit: str | None) -> dict[int, Summary]:
        first = self.start(period)
        return aggregate(records.read(self._tx, metric, first, self.end, unit), first, period)

    def _listed(self) -> Iterable[Metric]:
        """All metrics that there are."""
        return records.metrics(self._tx, self.scope, "", "", int(self._now - LISTED), ("", "", ""))


class Environment:
    """What an expression may ask for (``functions.Environment``)."""

    def __init__(self, evaluation: Evaluation, period: int) -> None:
        self.period = period
        self.value = evaluation.named
        self.search = evaluation.search
        self.band = evaluation.band
        self._evaluation = evaluation

    def metrics(self, part: Value = "") -> list[Series]:
        return [one for one in self._evaluation.every() if str(part) in one.label]

    def contributed(self, rule: str, metric: str) -> Series:
        return self._evaluation.contributed(rule, metric, self.period)

    def times(self, period: int) -> range:
        return range(self._evaluation.start(self.period), self._evaluation.end, period)


def _is_of(detector: AnomalyDetector, query: Query, queries: dict[str, Query]) -> bool:
    """Whether a detector is of what a query asks for: a metric's statistic, or the same expression over the same."""
    single = detector.members.get("SingleMetricAnomalyDetector")
    if single is not None:
        dimensions = tuple((one["Name"], one["Value"]) for one in single["Dimensions"])
        return query.metric is not None and (query.metric[1:], query.stat) == (
            (single["Namespace"], single["MetricName"], dimensions),
            single["Stat"],
        )
    if query.expression is None:
        return False
    parts = detector.members["MetricMathAnomalyDetector"]["MetricDataQueries"]
    (shown,) = (one["Id"] for one in parts if one.get("ReturnData", True))
    asked = ((one, queries[one["Id"]].given if one["Id"] in queries else {}) for one in parts)
    names = ("Expression", "MetricStat", "Period")
    return shown == query.id and all(one.get(name) == other.get(name) for one, other in asked for name in names)


def _label(metric: Metric, one_name: bool) -> str:
    """What a metric that was found is called: by its dimensions, and by its name where that differs."""
    values = [value for _, value in metric.dimensions]
    return " ".join(values if one_name and values else [*values, metric.name])
