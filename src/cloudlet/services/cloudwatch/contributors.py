"""Contributor Insights: rules that count who contributes most to log events. A log event that arrives feeds them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch import records
from cloudlet.services.cloudwatch.base import invalid, page_of, tags_of
from cloudlet.services.cloudwatch.contributions import Definition, DefinitionError, compile_definition
from cloudlet.services.cloudwatch.records import Contribution, InsightRule
from cloudlet.services.cloudwatch.reports import METRICS, gathered, report, rule_metric
from cloudlet.services.cloudwatch.statistics import Summary
from cloudlet.services.cloudwatch.watching import Watching
from cloudlet.store import Tx

_SCHEMA = '{"Name" : "CloudWatchLogRule", "Version" : 1}'
_PAGE = 500
_CONTRIBUTORS = 10
_CONTRIBUTORS_AT_MOST = 100
_STATES = ("ENABLED", "DISABLED")


class Feeding(NamedTuple):
    """An enabled rule as a listener of a log group (``services/logs/listening.py``)."""

    name: str
    definition: Definition

    def deliveries(self, call: Call, input: Input, events: list[Any], first: int) -> list[tuple[str, bytes]]:
        found: dict[tuple[int, tuple[str, ...]], Summary] = {}
        for event in events:
            counted = self.definition.contribution(event["message"])
            if counted is not None:
                keys, value = counted
                summary = Summary(1.0, value, value, value, None)
                known = found.setdefault((event["timestamp"] // 60_000 * 60, keys), summary)
                if known is not summary:
                    known.add(summary)
        if not found:
            return []
        rows = [(time, keys, one.count, one.sum, one.least, one.greatest) for (time, keys), one in found.items()]
        payload = json.dumps({"Rule": self.name, "Contributions": rows}).encode()
        return [(f"arn:aws:cloudwatch:{call.region}:{call.account}:insight-rule/{self.name}", payload)]


class Contributors(Watching):
    """Operations on insight rules."""

    async def PutInsightRule(self, call: Call, input: Input) -> Output:
        name, text, state = input["RuleName"], input["RuleDefinition"], input.get("RuleState", "ENABLED")
        if input.get("ApplyOnTransformedLogs"):
            raise not_implemented("PutInsightRule with ApplyOnTransformedLogs")
        if state not in _STATES:
            raise invalid(f"The value {state} for parameter RuleState is invalid.")
        try:
            compile_definition(text)
        except DefinitionError as error:
            raise invalid(f"The value for parameter RuleDefinition is invalid: {error}.") from None

        def put(tx: Tx) -> None:
            known = self.insight_rules.get(call.scope, name, tx)
            if known is None:
                self.insight_rules.put(tx, call.scope, name, InsightRule(text, state, tags_of(input)))
                return
            if known.value.definition != text:
                records.forget_contributions(tx, call.scope, name)  # they count something else
            self.insight_rules.put(tx, call.scope, name, replace(known.value, definition=text, state=state))

        await self.db.write(put)
        await self._rules_changed()
        return {}

    async def DescribeInsightRules(self, call: Call, input: Input) -> Output:
        page, token = page_of(self.insight_rules.list(call.scope), input, input.get("MaxResults", _PAGE))
        rules = [
            {
                "Name": record.name,
                "State": record.value.state,
                "Schema": _SCHEMA,
                "Definition": record.value.definition,
                "ManagedRule": False,
                "ApplyOnTransformedLogs": False,
            }
            for record in page
        ]
        return {"InsightRules": rules} | token

    async def EnableInsightRules(self, call: Call, input: Input) -> Output:
        return await self._alter(call, input, "ENABLED")

    async def DisableInsightRules(self, call: Call, input: Input) -> Output:
        return await self._alter(call, input, "DISABLED")

    async def DeleteInsightRules(self, call: Call, input: Input) -> Output:
        return await self._alter(call, input, None)

    async def _alter(self, call: Call, input: Input, state: str | None) -> Output:
        """Give rules a state, or delete them where there is none."""

        def write(tx: Tx) -> list[str]:
            missing = []
            for name in input["RuleNames"]:
                record = self.insight_rules.get(call.scope, name, tx)
                if record is None:
                    missing.append(name)
                elif state is None:
                    self.insight_rules.delete(tx, call.scope, name)
                    records.forget_contributions(tx, call.scope, name)
                else:
                    self.insight_rules.put(tx, call.scope, name, replace(record.value, state=state))
            return missing

        missing = await self.db.write(write, long=True)
        await self._rules_changed()
        return {"Failures": [_failure(name) for name in missing]}

    async def _rules_changed(self) -> None:
        """Have logs ask again who listens to its groups."""
        logs: Any = await self.cloud.service("logs")
        logs.hear(self.rules_on)

    def rules_on(self, scope: str, group: str) -> list[Feeding]:
        """The rules that a log group's new events feed; for ``services/logs``."""
        enabled = [record for record in self.insight_rules.list(scope) if record.value.state == "ENABLED"]
        rules = [Feeding(record.name, compile_definition(record.value.definition)) for record in enabled]
        return [rule for rule in rules if rule.definition.hears(group)]

    async def contribute(self, scope: str, given: dict[str, Any]) -> None:
        """Take what a rule has counted in a batch of log events; a rule that is gone takes nothing."""
        rule = given["Rule"]
        found = [
            Contribution(time, tuple(keys), Summary(count, total, least, greatest, None))
            for time, keys, count, total, least, greatest in given["Contributions"]
        ]

        def write(tx: Tx) -> bool:
            if self.insight_rules.get(scope, rule, tx) is None:
                return False
            records.contribute(tx, scope, rule, found)
            return True

        if await self.db.write(write, long=len(found) > 50):
            self.data_expected()
            self.heard(rule_metric(scope, rule), max(one.time for one in found))

    async def GetInsightRuleReport(self, call: Call, input: Input) -> Output:
        record = self.insight_rules.get(call.scope, input["RuleName"])
        if record is None:
            raise AwsError("ResourceNotFoundException", f"Insight rule {input['RuleName']} does not exist.", status=404)
        start, end, period = int(input["StartTime"]) // 60 * 60, int(input["EndTime"]), input["Period"]
        if start >= end:
            raise invalid("The parameter StartTime must be less than the parameter EndTime.")
        if period % 60:
            raise invalid("The parameter Period must be a multiple of 60.")
        most, order = input.get("MaxContributorCount", _CONTRIBUTORS), input.get("OrderBy", "Sum")
        if not 1 <= most <= _CONTRIBUTORS_AT_MOST:
            raise invalid(f"The parameter MaxContributorCount must be between 1 and {_CONTRIBUTORS_AT_MOST}.")
        if order not in ("Sum", "Maximum"):
            raise invalid(f"The value {order} for parameter OrderBy is invalid.")
        for metric in (asked := input.get("Metrics", [])):
            if metric not in METRICS:
                raise invalid(f"The value {metric} for parameter Metrics is invalid.")

        def work(tx: Tx) -> Output:
            by = gathered(records.contributions(tx, call.scope, input["RuleName"], start, end), start, period)
            return report(by, order, most, asked)

        definition = compile_definition(record.value.definition)
        statistic = "Sum" if definition.sums else "SampleCount"
        return {"KeyLabels": definition.labels, "AggregationStatistic": statistic, **await self.db.scan(work)}


def _failure(name: str) -> Output:
    return {
        "FailureResource": name,
        "ExceptionType": "ResourceNotFoundException",
        "FailureCode": "404",
        "FailureDescription": f"Insight rule {name} does not exist.",
    }
