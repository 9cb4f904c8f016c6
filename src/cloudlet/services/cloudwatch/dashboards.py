"""The operations on dashboards, which are documents."""

from __future__ import annotations

import json

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch.base import Base, invalid, page_of, tags_of
from cloudlet.services.cloudwatch.records import Dashboard
from cloudlet.store import Tx

_PAGE = 1000


class Dashboards(Base):
    """Operations on dashboards."""

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
        page, token = page_of(found, input, _PAGE)
        entries = [
            {
                "DashboardName": record.name,
                "DashboardArn": _arn(call, record.name),
                "LastModified": record.value.modified,
                "Size": len(record.value.body.encode()),
            }
            for record in page
        ]
        return {"DashboardEntries": entries} | token

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


def _arn(call: Call, name: str) -> str:
    return f"arn:aws:cloudwatch::{call.account}:dashboard/{name}"


def _no_such_dashboard(name: str) -> AwsError:
    return AwsError("DashboardNotFoundError", f"Dashboard {name} does not exist")
