"""Parameter Store. Documents, Run Command and the rest of Systems Manager are not here."""

from __future__ import annotations

from cloudlet.services.api import Tagged
from cloudlet.services.ssm import records
from cloudlet.services.ssm.reading import Reading
from cloudlet.services.ssm.writing import Writing


class Service(Reading, Writing):
    """Parameters in hierarchies, with versions, labels and, for secure ones, real encryption."""

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        prefix = f"arn:aws:ssm:{region}:{account}:parameter"
        found = await self.db.scan(lambda tx: records.all_tags(tx, f"{account}/{region}"))
        return [(f"{prefix}{path}", tags) for path, tags in found]
