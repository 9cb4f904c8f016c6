"""What is set on a table beside its definition: tags, backups, resource policies; and the account's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import definitions, policy
from cloudlet.services.dynamodb.base import place_of
from cloudlet.services.dynamodb.errors import bad_parameter, invalid, no_table
from cloudlet.services.dynamodb.records import Table
from cloudlet.services.dynamodb.schema import Plan
from cloudlet.services.dynamodb.tables import Tables
from cloudlet.store import Tx

_RECOVERY_DAYS = 35
_RECOVERY_DELAY = 300.0  # the latest restorable time is five minutes ago


class Settings(Tables):
    """Operations on a table's settings."""

    async def TagResource(self, call: Call, input: Input) -> Output:
        new = definitions.tags_of(input["Tags"])
        if not new:
            raise invalid("Atleast one Tag needs to be provided as Input.")

        def tag(table: Table) -> dict[str, Any]:
            tags = {**table.tags, **new}
            definitions.check_tags(tags)
            return {"tags": tags}

        await self._edit(self._plan_of_arn(call, input["ResourceArn"]), tag)
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._edit(
            self._plan_of_arn(call, input["ResourceArn"]),
            lambda table: {"tags": {key: value for key, value in table.tags.items() if key not in gone}},
        )
        return {}

    async def ListTagsOfResource(self, call: Call, input: Input) -> Output:
        tags = self._plan_of_arn(call, input["ResourceArn"]).table.tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    async def DescribeContinuousBackups(self, call: Call, input: Input) -> Output:
        return {"ContinuousBackupsDescription": self._recovery(self._plan_backed_up(call, input).table)}

    async def UpdateContinuousBackups(self, call: Call, input: Input) -> Output:
        given, now = input["PointInTimeRecoverySpecification"], self.clock.now()

        def update(table: Table) -> dict[str, Any]:
            if not given["PointInTimeRecoveryEnabled"]:
                return {"recovery": {}}
            days = given.get("RecoveryPeriodInDays", table.recovery.get("days", _RECOVERY_DAYS))
            return {"recovery": {"since": table.recovery.get("since", now), "days": days}}

        table = await self._edit(self._plan_backed_up(call, input), update)
        return {"ContinuousBackupsDescription": self._recovery(table)}

    def _plan_backed_up(self, call: Call, input: Input) -> Plan:
        try:
            return self._plan(call, input["TableName"])
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
            raise AwsError("TableNotFoundException", f"Table not found: {input['TableName']}") from None

    def _recovery(self, table: Table) -> dict[str, Any]:
        described: dict[str, Any] = {"PointInTimeRecoveryStatus": "DISABLED"}
        if table.recovery:
            latest = self.clock.now() - _RECOVERY_DELAY
            since, days = table.recovery["since"], table.recovery["days"]
            described = {
                "PointInTimeRecoveryStatus": "ENABLED",
                "RecoveryPeriodInDays": days,
                "EarliestRestorableDateTime": max(since, latest - days * 86400),
                "LatestRestorableDateTime": max(since, latest),
            }
        return {"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": described}

    async def PutResourcePolicy(self, call: Call, input: Input) -> Output:
        arn, text = input["ResourceArn"], input["Policy"]
        policy.check_policy(text)
        revision = policy.new_revision(self.clock.now())

        def put(table: Table) -> dict[str, Any]:
            held = table.policies.get(arn)
            policy.check_revision(table.name, held, input.get("ExpectedRevisionId"))
            return {} if held and held[0] == text else {"policies": {**table.policies, arn: [text, revision]}}

        table = await self._edit(self._plan_with_policy(call, arn), put)
        return {"RevisionId": table.policies[arn][1]}

    async def GetResourcePolicy(self, call: Call, input: Input) -> Output:
        arn = input["ResourceArn"]
        held = self._plan_with_policy(call, arn).table.policies.get(arn)
        if held is None:
            raise policy.no_policy(arn)
        return {"Policy": held[0], "RevisionId": held[1]}

    async def DeleteResourcePolicy(self, call: Call, input: Input) -> Output:
        arn = input["ResourceArn"]
        plan = self._plan_with_policy(call, arn)
        held = plan.table.policies.get(arn)

        def delete(table: Table) -> dict[str, Any]:
            policy.check_revision(table.name, table.policies.get(arn), input.get("ExpectedRevisionId"))
            return {"policies": {key: value for key, value in table.policies.items() if key != arn}}

        await self._edit(plan, delete)
        return {"RevisionId": held[1]} if held else {}

    async def DescribeContributorInsights(self, call: Call, input: Input) -> Output:
        plan = self._plan_named(call, input["TableName"])
        output: Output = {"TableName": plan.table.name, "ContributorInsightsStatus": "DISABLED"}
        if "IndexName" in input:
            output["IndexName"] = plan.index(input["IndexName"]).index.name
        return output

    async def DescribeKinesisStreamingDestination(self, call: Call, input: Input) -> Output:
        plan = self._plan_named(call, input["TableName"])
        return {"TableName": plan.table.name, "KinesisDataStreamDestinations": []}

    async def DescribeLimits(self, call: Call, input: Input) -> Output:
        return {
            "AccountMaxReadCapacityUnits": 80000,
            "AccountMaxWriteCapacityUnits": 80000,
            "TableMaxReadCapacityUnits": 40000,
            "TableMaxWriteCapacityUnits": 40000,
        }

    async def DescribeEndpoints(self, call: Call, input: Input) -> Output:
        host = call.request.headers.get("host") if call.request is not None else None
        return {"Endpoints": [{"Address": host or urlsplit(self.cloud.endpoint).netloc, "CachePeriodInMinutes": 1440}]}

    def _plan_with_policy(self, call: Call, arn: str) -> Plan:
        _check_arn(arn)
        scope, name = place_of(arn)
        if self._tables.get(scope, name) is None:
            raise no_table(name)
        return self._plan(call, arn.split("/stream/")[0])

    def _plan_of_arn(self, call: Call, arn: str) -> Plan:
        """The table of an ARN, which may name one of its streams. Raises ResourceNotFoundException."""
        _check_arn(arn)
        try:
            scope, name = place_of(arn)
        except AwsError:
            raise invalid(f"Invalid TableArn: Invalid ResourceArn provided as input {arn}") from None
        table_arn = arn.split("/stream/")[0]
        if self._tables.get(scope, name) is None:
            raise AwsError("ResourceNotFoundException", f"Requested resource not found: ResourcArn: {arn} not found")
        return self._plan(call, table_arn)

    async def _edit(self, plan: Plan, change: Callable[[Table], dict[str, Any]]) -> Table:
        """Set the fields that ``change`` makes of the table as it is then."""

        def edit(tx: Tx) -> Table:
            current = self._current(tx, plan)
            table = replace(current, **change(current))
            self._tables.put(tx, plan.scope, table.name, table)
            return table

        return await self._db.write(edit)


def _check_arn(arn: str) -> None:
    """Only a table or a stream has tags and policies. Raises ValidationException."""
    if not arn.startswith("arn:"):
        raise bad_parameter(f"ARNs must start with 'arn:': {arn}")
    if "/index/" in arn:
        raise bad_parameter(
            f"Invalid resource arn provided, only table or stream is accepted. Provided resource arn: {arn}"
        )
