"""DynamoDB. Tables are in ``tables.py``, items in ``items.py``, Query and Scan in ``reading.py``."""

from __future__ import annotations

from cloudlet.services.api import Tagged
from cloudlet.services.dynamodb.schema import table_arn
from cloudlet.services.dynamodb.statements import Statements


class Service(Statements):
    """Tables whose items are rows sorted by their keys; every read is a look-up or a range of an index."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope = f"{account}/{region}"
        return [
            {"type": "AWS::DynamoDB::Table", "name": record.name, "arn": table_arn(scope, record.name)}
            for record in self._tables.list(scope)
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope = f"{account}/{region}"
        return [(table_arn(scope, record.name), record.value.tags) for record in self._tables.list(scope)]
