"""Sampling rules: which requests are traced.

https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html
"""

from __future__ import annotations

import functools
import random
import re
from functools import partial
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.observe.traces import Place, new_root
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.xray import records
from cloudlet.services.xray.records import SamplingRule
from cloudlet.services.xray.traces import Traces
from cloudlet.store import Tx

DEFAULT = "Default"
_MOST_RULES = 25
_INTERVAL = 10  # seconds after which a client reports again
_WINDOW = 600.0  # seconds of statistics that are shown
_UPDATED = (
    *("ResourceARN", "Priority", "FixedRate", "ReservoirSize", "Host", "ServiceName", "ServiceType"),
    *("HTTPMethod", "URLPath", "Attributes"),
)
_OF_DEFAULT = frozenset(("RuleName", "RuleARN", "FixedRate", "ReservoirSize"))


class Sampling(Traces):
    """The operations on sampling rules, and the decision for requests of our own services."""

    async def start(self) -> None:
        await super().start()
        self._second: dict[tuple[str, str], tuple[int, int]] = {}  # how many of a reservoir are taken in which second
        self._clients: dict[tuple[str, str], dict[str, float]] = {}  # who reports on a rule, and when last

    async def CreateSamplingRule(self, call: Call, input: Input) -> Output:
        given = input["SamplingRule"]
        _refuse(given)
        name = given.get("RuleName", "")
        if not name:
            raise AwsError("InvalidRequestException", "RuleName is required")
        if given["Version"] != 1:
            raise AwsError("InvalidRequestException", "Invalid sampling rule version")
        tags = {one["Key"]: one["Value"] for one in input.get("Tags", ())}
        now = self.clock.now()
        members = {"Attributes": {}, **given, "RuleARN": self._rule_arn(call, name)}
        rule = SamplingRule(members, now, now, tags)

        def work(tx: Tx) -> None:
            if name == DEFAULT or self.rules.get(call.scope, name, tx) is not None:
                raise AwsError("InvalidRequestException", "Sampling rule already exists")
            if len(self.rules.list(call.scope, tx=tx)) >= _MOST_RULES:
                raise AwsError("RuleLimitExceededException", "Sampling rule limit exceeded")
            self.rules.put(tx, call.scope, name, rule, 0)

        await self.db.write(work)
        return {"SamplingRuleRecord": _shown(rule)}

    async def GetSamplingRules(self, call: Call, input: Input) -> Output:
        return {"SamplingRuleRecords": [_shown(rule) for rule in self._rules(call.scope)]}

    async def UpdateSamplingRule(self, call: Call, input: Input) -> Output:
        given = input["SamplingRuleUpdate"]
        _refuse(given)
        name = self._named(given)
        if name == DEFAULT and set(given) - _OF_DEFAULT:
            raise AwsError("InvalidRequestException", "Invalid update request for default sampling rule")
        changes = {key: given[key] for key in _UPDATED if key in given}
        now = self.clock.now()

        def work(tx: Tx) -> SamplingRule:
            record = self.rules.get(call.scope, name, tx)
            old = record.value if record is not None else default_rule(call.scope) if name == DEFAULT else None
            if old is None:
                raise _no_rule()
            new = SamplingRule({**old.members, **changes}, old.created, now, old.tags)
            self.rules.put(tx, call.scope, name, new)
            return new

        return {"SamplingRuleRecord": _shown(await self.db.write(work))}

    async def DeleteSamplingRule(self, call: Call, input: Input) -> Output:
        name = self._named(input)
        if name == DEFAULT:
            raise AwsError("InvalidRequestException", "Cannot delete default sampling rule")

        def work(tx: Tx) -> SamplingRule:
            record = self.rules.get(call.scope, name, tx)
            if record is None:
                raise _no_rule()
            self.rules.delete(tx, call.scope, name)
            return record.value

        return {"SamplingRuleRecord": _shown(await self.db.write(work))}

    async def GetSamplingTargets(self, call: Call, input: Input) -> Output:
        if input.get("SamplingBoostStatisticsDocuments"):
            raise not_implemented("GetSamplingTargets with SamplingBoostStatisticsDocuments")
        now = self.clock.now()
        rules = {rule.members["RuleName"]: rule for rule in self._rules(call.scope)}
        targets, unknown, counts = [], [], []
        for report in input["SamplingStatisticsDocuments"]:
            name = report["RuleName"]
            rule = rules.get(name)
            if rule is None:
                words = {"ErrorCode": "InvalidRequestException", "Message": "Sampling rule does not exist"}
                unknown.append({"RuleName": name, **words})
                continue
            counts.append((name, report["RequestCount"], report.get("BorrowCount", 0), report["SampledCount"]))
            targets.append(
                {
                    "RuleName": name,
                    "FixedRate": rule.members["FixedRate"],
                    "ReservoirQuota": self._quota(call.scope, rule, report["ClientID"], now),
                    "ReservoirQuotaTTL": now + _INTERVAL,
                    "Interval": _INTERVAL,
                }
            )
        await self._count(call.scope, now, counts)
        modified = max(rule.modified for rule in rules.values())
        return {
            "SamplingTargetDocuments": targets,
            "LastRuleModification": modified,
            "UnprocessedStatistics": unknown,
            "UnprocessedBoostStatistics": [],
        }

    async def GetSamplingStatisticSummaries(self, call: Call, input: Input) -> Output:
        since = int(self.clock.now() - _WINDOW)
        rows = await self.db.read(partial(records.sampling_statistics, scope=call.scope, since=since))
        names = ("RuleName", "Timestamp", "RequestCount", "BorrowCount", "SampledCount")
        return {"SamplingStatisticSummaries": [dict(zip(names, row, strict=True)) for row in rows]}

    def sample(
        self, scope: str, service: str, kind: str, host: str = "", method: str = "", path: str = "", arn: str = ""
    ) -> Place:
        """Begin a trace with the decision that the rules come to for a request."""
        now = self.clock.now()
        asked = {
            "ServiceName": service,
            "ServiceType": kind,
            "Host": host,
            "HTTPMethod": method,
            "URLPath": path,
            "ResourceARN": arn,
        }
        rule = next(rule for rule in self._rules(scope) if _matches(rule, asked))
        name = rule.members["RuleName"]
        second, taken = self._second.get((scope, name), (0, 0))
        taken = taken if second == int(now) else 0
        borrowed = taken < rule.members["ReservoirSize"]
        self._second[scope, name] = (int(now), taken + 1)
        sampled = borrowed or random.random() < rule.members["FixedRate"]
        self.cloud.spawn(self._count(scope, now, [(name, 1, int(borrowed), int(sampled))]), "sampling is counted")
        return Place(new_root(now), "", sampled)

    def _rules(self, scope: str) -> list[SamplingRule]:
        """All rules in the order in which they are tried; Default is the last."""
        found = [record.value for record in self.rules.list(scope)]
        if all(rule.members["RuleName"] != DEFAULT for rule in found):
            found.append(default_rule(scope))
        return sorted(found, key=lambda rule: (rule.members["Priority"], rule.members["RuleName"]))

    def _quota(self, scope: str, rule: SamplingRule, client: str, now: float) -> int:
        """A client's equal share of the reservoir among those who have reported lately."""
        clients = self._clients.setdefault((scope, rule.members["RuleName"]), {})
        clients[client] = now
        for one in [one for one, at in clients.items() if now - at > 3 * _INTERVAL]:
            del clients[one]
        size, place = rule.members["ReservoirSize"], sorted(clients).index(client)
        return int(size // len(clients) + (place < size % len(clients)))

    async def _count(self, scope: str, now: float, counts: list[tuple[str, int, int, int]]) -> None:
        def work(tx: Tx) -> None:
            for name, requests, borrowed, sampled in counts:
                records.count_sampled(tx, scope, name, int(now) // 60 * 60, requests, borrowed, sampled)

        if counts:
            await self.db.write(work)

    def _rule_arn(self, call: Call, name: str) -> str:
        return f"arn:aws:xray:{call.region}:{call.account}:sampling-rule/{name}"

    def _named(self, given: Input) -> str:
        """The name of a rule that is given by name or ARN. Raises InvalidRequestException."""
        name: str = given.get("RuleName", "") or given.get("RuleARN", "").rpartition(":sampling-rule/")[2]
        if not name or ("RuleName" in given and "RuleARN" in given):
            raise AwsError("InvalidRequestException", "Specify either RuleName or RuleARN, but not both")
        return name


@functools.lru_cache(maxsize=256)
def default_rule(scope: str) -> SamplingRule:
    """The rule that every account has: a request a second, and 5 % of all others."""
    account, region = scope.split("/")
    members = {
        "RuleName": DEFAULT,
        "RuleARN": f"arn:aws:xray:{region}:{account}:sampling-rule/{DEFAULT}",
        **dict.fromkeys(("ResourceARN", "ServiceName", "ServiceType", "Host", "HTTPMethod", "URLPath"), "*"),
        "Priority": 10000,
        "FixedRate": 0.05,
        "ReservoirSize": 1,
        "Version": 1,
        "Attributes": {},
    }
    return SamplingRule(members, 0.0, 0.0)


def _shown(rule: SamplingRule) -> dict[str, Any]:
    return {"SamplingRule": rule.members, "CreatedAt": rule.created, "ModifiedAt": rule.modified}


def _matches(rule: SamplingRule, asked: dict[str, str]) -> bool:
    if rule.members["Attributes"]:
        return False  # nothing that our services trace has attributes before it has run
    return all(_pattern(rule.members[member]).fullmatch(value) for member, value in asked.items())


@functools.lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    """A rule's text, in which * is anything and ? one character, whatever the case."""
    special = {"*": ".*", "?": "."}
    return re.compile("".join(special.get(one) or re.escape(one) for one in text), re.IGNORECASE | re.DOTALL)


def _refuse(given: Input) -> None:
    if "SamplingRateBoost" in given:
        raise not_implemented("sampling rules with SamplingRateBoost")


def _no_rule() -> AwsError:
    return AwsError("InvalidRequestException", "Sampling rule does not exist")
