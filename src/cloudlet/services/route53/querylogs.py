"""Logging the questions about a zone: configurations, and the lines that go to CloudWatch Logs."""

from __future__ import annotations

import datetime
import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.route53 import errors
from cloudlet.services.route53.base import limit, plain
from cloudlet.services.route53.cidrs import CidrCollections
from cloudlet.services.route53.messages import Exchange
from cloudlet.services.route53.records import QueryLog
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.dns")

_GROUP = re.compile(r"arn:aws:logs:us-east-1:(\d{12}):log-group:([^:*]+)(?::\*)?")
_EDGE = "LCL1"  # an edge location's name: the one server is here
_WAITING = 10_000  # lines that wait to be written; those beyond are lost, as AWS does not promise them


class QueryLogging(CidrCollections):
    """Which zones' questions are logged, and where."""

    async def CreateQueryLoggingConfig(self, call: Call, input: Input) -> Output:
        zone, group = self._zone(call, input["HostedZoneId"]), input["CloudWatchLogsLogGroupArn"]
        if zone.private:
            raise errors.invalid("Query logging is only available for public hosted zones.")
        found = _GROUP.fullmatch(group)
        if found is None:
            raise errors.invalid("The ARN for the CloudWatch Logs log group is invalid.")
        await self._check_group(call, found[1], found[2])
        made = QueryLog(str(uuid.uuid4()), zone.id, group)

        def create(tx: Tx) -> None:
            self._zone(call, zone.id, tx)
            if any(record.value.zone == zone.id for record in self._query_logs.list(call.account, tx=tx)):
                raise AwsError(
                    "QueryLoggingConfigAlreadyExists",
                    "A query logging configuration already exists for this hosted zone.",
                )
            self._query_logs.put(tx, call.account, made.id, made)

        await self._db.write(create)
        self.logged[zone.id] = group
        location = f"https://route53.amazonaws.com/2013-04-01/queryloggingconfig/{made.id}"
        return {"QueryLoggingConfig": _shown(made), "Location": location}

    async def GetQueryLoggingConfig(self, call: Call, input: Input) -> Output:
        return {"QueryLoggingConfig": _shown(self._query_log(call, input["Id"]))}

    async def DeleteQueryLoggingConfig(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> QueryLog:
            found = self._query_log(call, input["Id"], tx)
            self._query_logs.delete(tx, call.account, found.id)
            return found

        self.logged.pop((await self._db.write(delete)).zone, None)
        return {}

    async def ListQueryLoggingConfigs(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self._query_logs.list(call.account)]
        if "HostedZoneId" in input:
            zone = self._zone(call, input["HostedZoneId"])
            found = [one for one in found if one.zone == zone.id]
        found.sort(key=lambda one: (self.index.zones[one.zone].zone.created, one.id))
        size, start = limit(input, "MaxResults"), 0
        if token := input.get("NextToken"):
            place = next((number for number, one in enumerate(found) if one.id == token), None)
            if place is None:
                raise errors.invalid_token("query logging configurations")
            start = place
        output: Output = {"QueryLoggingConfigs": [_shown(one) for one in found[start : start + size]]}
        return output | ({"NextToken": found[start + size].id} if len(found) > start + size else {})

    def _query_log(self, call: Call, id: str, tx: Tx | None = None) -> QueryLog:
        record = self._query_logs.get(call.account, plain(id), tx)
        if record is None:
            raise AwsError("NoSuchQueryLoggingConfig", "The query logging configuration does not exist.")
        return record.value

    async def _check_group(self, call: Call, account: str, name: str) -> None:
        input = {"logGroupNamePrefix": name}
        found = await self.cloud.call("logs", "DescribeLogGroups", input, account=account, region="us-east-1")
        if not any(group["logGroupName"] == name for group in found["logGroups"]):
            raise AwsError("NoSuchCloudWatchLogsLogGroup", "The specified CloudWatch Logs log group doesn't exist.")


class QueryLines:
    """Writes what was asked: what comes while a write is under way goes with the next."""

    def __init__(self, cloud: Cloud, logged: dict[str, str], zone_of: Callable[[str], str]) -> None:
        """``logged`` has the log group's ARN of each zone that is logged; ``zone_of`` finds a name's zone."""
        self._cloud = cloud
        self._logged = logged
        self._zone_of = zone_of
        self._waiting: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._count = 0
        self._writing = False

    def note(self, asked: Exchange, rcode: str) -> None:
        """Log a question if its zone's are logged."""
        if not self._logged:
            return
        zone, question = self._zone_of(asked.question.name), asked.question
        group = self._logged.get(zone)
        if group is None or self._count >= _WAITING:
            return
        now = self._cloud.clock.now()
        at = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        name = question.name.rstrip(".") or "."
        fields = ("1.0", at, zone, name, question.type, rcode, asked.protocol, _EDGE, asked.client, asked.subnet or "-")
        line = " ".join(fields)
        self._waiting.setdefault((group, zone), []).append({"timestamp": int(now * 1000), "message": line})
        self._count += 1
        if not self._writing:
            self._writing = True
            self._cloud.spawn(self._write(), "route53 logs questions")

    async def _write(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting, self._count = self._waiting, {}, 0
                for (group, zone), events in waiting.items():
                    try:
                        await self._put(group, f"{zone}/{_EDGE}", events)
                    except AwsError as error:
                        log.warning("questions about %s cannot be logged: %s", zone, error.message)
        finally:
            self._writing = False

    async def _put(self, group: str, stream: str, events: list[dict[str, Any]]) -> None:
        account, name = group.split(":")[4], group.split(":")[6]
        place = {"logGroupName": name, "logStreamName": stream}
        try:
            await self._call(account, "PutLogEvents", {**place, "logEvents": events})
        except AwsError as error:
            if error.code != "ResourceNotFoundException" or "stream" not in error.message:
                raise
            await self._call(account, "CreateLogStream", place)
            await self._call(account, "PutLogEvents", {**place, "logEvents": events})

    async def _call(self, account: str, operation: str, input: Input) -> None:
        principal = "route53.amazonaws.com"
        await self._cloud.call("logs", operation, input, account=account, region="us-east-1", principal=principal)


def _shown(one: QueryLog) -> Output:
    return {"Id": one.id, "HostedZoneId": one.zone, "CloudWatchLogsLogGroupArn": one.group}
