"""App Mesh. Operations: ``operations.py``; what Envoy is told: ``snapshots.py``; what runs: ``sidecars.py``."""

from __future__ import annotations

from cloudlet.services.api import Tagged, tags_in
from cloudlet.services.appmesh.sidecars import Sidecars


class Service(Sidecars):
    """Meshes, and the Envoys that carry their traffic."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": f"AWS::AppMesh::{part.kind[0].upper()}{part.kind[1:]}",
                "name": part.name,
                "arn": part.arn,
            }
            for part in (record.value for record in self.parts.list(f"{account}/{region}"))
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self.parts)
