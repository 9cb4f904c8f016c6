"""The operations on dashboards, which are documents, and on the tags of alarms and dashboards."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch.alarms import tags_of
from cloudlet.services.cloudwatch.base import Base, invalid, read_token, token_of
from cloudlet.services.cloudwatch.records import Dashboard
from cloudlet.store import Resources, Tx

_PAGE = 1000
_TAGS_AT_MOST = 50


class Dashboards(Base):
    """Operations on dashboards and tags."""

    async def PutDashboard(self, call: Call, input: Input) -> Output:
        body, scope, now = input["DashboardBody"], f"{call.account}/global", self.clock.now()
        try:
            valid = isinstance(json.loads(body), dict)
        except ValueError:
            valid = False
        if not valid:
            message = "The field DashboardBody must be a valid JSON object"
            said = [{"Message": message}]
            raise AwsError("DashboardInvalidInputError", message, dashboardValidationMessages=said)

        def put(tx: Tx) -> None:
            known = self.dashboards.get(scope, input["DashboardName"], tx)
            tags = known.value.tags if known is not None else tags_of(input)
            self.dashboards.put(tx, scope, input["DashboardName"], Dashboard(body, now, tags))

        await self.db.write(put)
        return {"DashboardValidationMessages": []}

    async def GetDashboard(self, call: Call, input: Input) -> Output:
        name = input["DashboardName"]
        record = self.dashboards.get(f"{call.account}/global", name)
        if record is None:
            raise _no_such_dashboard(name)
        return {"DashboardArn": _arn(call, name), "DashboardBody": record.value.body, "DashboardName": name}

    async def ListDashboards(self, call: Call, input: Input) -> Output:
        found = self.dashboards.list(f"{call.account}/global", input.get("DashboardNamePrefix", ""))
        if "NextToken" in input:
            (after,) = read_token(input["NextToken"], str)
            found = [record for record in found if record.name > after]
        entries = [
            {
                "DashboardName": record.name,
                "DashboardArn": _arn(call, record.name),
                "LastModified": record.value.modified,
                "Size": len(record.value.body.encode()),
            }
            for record in found[:_PAGE]
        ]
        return {"DashboardEntries": entries} | (
            {"NextToken": token_of(found[_PAGE - 1].name)} if len(found) > _PAGE else {}
        )

    async def DeleteDashboards(self, call: Call, input: Input) -> Output:
        scope = f"{call.account}/global"
        if not input["DashboardNames"]:
            raise invalid("The value [] for parameter DashboardNames is invalid.")

        def delete(tx: Tx) -> None:
            for name in input["DashboardNames"]:
                if not self.dashboards.delete(tx, scope, name):
                    raise _no_such_dashboard(name)

        await self.db.write(delete)
        return {}

    # Tags

    async def TagResource(self, call: Call, input: Input) -> Output:
        await self._change_tags(call, input["ResourceARN"], lambda tags: {**tags, **tags_of(input)})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = input["TagKeys"]
        await self._change_tags(
            call, input["ResourceARN"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        kind, scope, name = self._tagged(call, input["ResourceARN"])
        if (record := kind.get(scope, name)) is None:
            raise _no_such_resource(input["ResourceARN"])
        return {"Tags": [{"Key": key, "Value": value} for key, value in record.value.tags.items()]}

    async def _change_tags(self, call: Call, arn: str, change: Any) -> None:
        kind, scope, name = self._tagged(call, arn)

        def write(tx: Tx) -> None:
            record = kind.get(scope, name, tx)
            if record is None:
                raise _no_such_resource(arn)
            tags = change(record.value.tags)
            if len(tags) > _TAGS_AT_MOST:
                raise invalid(f"A resource can have at most {_TAGS_AT_MOST} tags.")
            kind.put(tx, scope, name, replace(record.value, tags=tags))

        await self.db.write(write)

    def _tagged(self, call: Call, arn: str) -> tuple[Resources[Any], str, str]:
        """What an ARN names: its kind, its scope and its name."""
        parts = arn.split(":", 6)
        if len(parts) >= 6 and parts[2] == "cloudwatch":
            if parts[5] == "alarm" and len(parts) == 7:
                return self.alarms, f"{parts[4]}/{parts[3]}", parts[6]
            if parts[5].startswith("dashboard/"):
                return self.dashboards, f"{parts[4]}/global", parts[5].partition("/")[2]
            raise not_implemented(f"{call.operation} of {arn}")
        raise invalid(f"The value {arn} for parameter ResourceARN is not an ARN of CloudWatch.")


def _arn(call: Call, name: str) -> str:
    return f"arn:aws:cloudwatch::{call.account}:dashboard/{name}"


def _no_such_dashboard(name: str) -> AwsError:
    return AwsError("DashboardNotFoundError", f"Dashboard {name} does not exist")


def _no_such_resource(arn: str) -> AwsError:
    return AwsError("ResourceNotFoundException", "Unknown", ResourceType="", ResourceId=arn)
