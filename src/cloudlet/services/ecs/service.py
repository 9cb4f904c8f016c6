"""ECS. What should run is in ``services.py``, ``tasks.py`` and ``task_sets.py``; what makes it so in ``keeping.py``."""

from __future__ import annotations

from typing import Any

from cloudlet.services.api import Tagged
from cloudlet.services.ecs.clusters import Clusters
from cloudlet.services.ecs.definitions import Definitions
from cloudlet.services.ecs.exec import Exec
from cloudlet.services.ecs.reporting import Reporting
from cloudlet.services.ecs.retiring import Retiring
from cloudlet.services.ecs.settings import Settings
from cloudlet.store import Resources


class Service(Retiring, Exec, Reporting, Clusters, Definitions, Settings):
    """Clusters, tasks and services on this machine."""

    refused = {
        "RegisterContainerInstance": "platformDevices",
    }

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope = f"{account}/{region}"
        clusters = [
            {"type": "AWS::ECS::Cluster", "name": one.name, "arn": self.arn(scope, "cluster", one.name)}
            for one in self.clusters.list(scope)
            if one.value.status == "ACTIVE"
        ]
        services = [
            {"type": "AWS::ECS::Service", "name": one.name, "arn": self.arn(scope, "service", one.name)}
            for one in self.services.list(scope)
            if one.value.status == "ACTIVE"
        ]
        tasks = [
            {
                "type": "AWS::ECS::Task",
                "name": f"{one.value.service or 'task'}/{one.value.id}",
                "arn": self.arn(scope, "task", one.name),
                **({"endpoint": one.value.address} if one.value.address else {}),
            }
            for one in self.tasks.list(scope)
            if one.value.status == "RUNNING"
        ]
        return [*clusters, *services, *tasks]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope = f"{account}/{region}"
        found = [(one.value.arn, one.value.tags) for one in self.instances.list(scope)]
        found += [
            (self.arn(scope, "capacity-provider", one.name), one.value.tags) for one in self.providers.list(scope)
        ]
        kinds: dict[str, Resources[Any]] = {"cluster": self.clusters, "service": self.services, "task": self.tasks}
        for kind, records in kinds.items():
            there = [one for one in records.list(scope) if one.value.status not in ("INACTIVE", "STOPPED")]
            found += [(self.arn(scope, kind, one.name), one.value.tags) for one in there]
        definitions = [one.value for one in self.definitions.list(scope)]
        return found + [
            (one.members["taskDefinitionArn"], one.tags) for one in definitions if one.members["status"] == "ACTIVE"
        ]
