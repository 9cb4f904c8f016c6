"""What all operations of CloudWatch stand on: the database, and errors in its words."""

from __future__ import annotations

from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch import records
from cloudlet.services.cloudwatch.records import Alarm, AnomalyDetector, Dashboard, InsightRule, Metric
from cloudlet.services.pages import place_of, token_of
from cloudlet.store import Database, Resources

_AT_ONCE = 500  # points that grow old in one go, so that other writers need not wait long
_HOUR = 3600.0


class Base(api.Service):
    """The state of the service."""

    name = "cloudwatch"

    db: Database
    alarms: Resources[Alarm]
    dashboards: Resources[Dashboard]
    insight_rules: Resources[InsightRule]
    detectors: Resources[AnomalyDetector]

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name, records.MIGRATIONS)
        self.alarms = self.db.resources(Alarm)
        self.dashboards = self.db.resources(Dashboard)
        self.insight_rules = self.db.resources(InsightRule)
        self.detectors = self.db.resources(AnomalyDetector)
        self._aging: Timer | None = None
        await self._plan_aging()

    async def stop(self) -> None:
        if self._aging is not None:
            self._aging.cancel()

    def data_expected(self) -> None:
        """Values were stored: see that a timer waits for their age."""
        if self._aging is None:
            self._age_at(self.clock.now() + _HOUR)

    def _age_at(self, when: float) -> None:
        self._aging = self.clock.call_at(when, lambda: self.cloud.spawn(self._age(), "cloudwatch ages points"))

    async def _age(self) -> None:
        now = self.clock.now()
        while await self.db.write(lambda tx: records.grow_old(tx, now, _AT_ONCE), long=True):
            pass
        await self._plan_aging()

    async def _plan_aging(self) -> None:
        """The oldest point sets the timer, at most once an hour; without points there is none."""
        due = await self.db.read(records.next_aging)
        self._aging = None
        if due is not None:
            self._age_at(max(due, self.clock.now() + _HOUR))


def metric_of(call: Call, given: dict[str, Any]) -> Metric:
    """The metric that Namespace, MetricName and Dimensions name."""
    dimensions = tuple(sorted((one["Name"], one["Value"]) for one in given.get("Dimensions", ())))
    return Metric(call.scope, given["Namespace"], given["MetricName"], dimensions)


def shown_dimensions(metric: Metric) -> list[dict[str, str]]:
    """Dimensions as the API has them."""
    return [{"Name": name, "Value": value} for name, value in metric.dimensions]


def tags_of(input: dict[str, Any]) -> dict[str, str]:
    """Tags as they are kept."""
    return {tag["Key"]: tag["Value"] for tag in input.get("Tags", ())}


def invalid(message: str) -> AwsError:
    """A value that cannot be."""
    return AwsError("InvalidParameterValue", message, status=400)


def combination(message: str) -> AwsError:
    """Values that cannot be together."""
    return AwsError("InvalidParameterCombination", message, status=400)


def validation(message: str) -> AwsError:
    """What CloudWatch says of most wrong input."""
    return AwsError("ValidationError", message, status=400)


def missing(message: str) -> AwsError:
    """A value that is needed."""
    return AwsError("MissingParameter", message, status=400)


def page_of(found: list[Any], input: Input, size: int) -> tuple[list[Any], Output]:
    """A page of records in the order of their names, and the token for the next one."""
    if "NextToken" in input:
        (after,) = read_token(input["NextToken"], str)
        found = [record for record in found if record.name > after]
    return found[:size], {"NextToken": token_of(found[size - 1].name)} if len(found) > size else {}


def read_token(token: str, *types: type) -> list[Any]:
    """The place of a token. Raises InvalidNextToken."""
    return place_of(token, types, AwsError("InvalidNextToken", "Request parameter NextToken is invalid", status=400))
