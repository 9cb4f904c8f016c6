"""ECS. What should run is in ``services.py``, ``tasks.py`` and ``task_sets.py``; what makes it so in ``keeping.py``."""

from __future__ import annotations

from cloudlet.services.ecs.clusters import Clusters
from cloudlet.services.ecs.definitions import Definitions
from cloudlet.services.ecs.exec import Exec
from cloudlet.services.ecs.reporting import Reporting
from cloudlet.services.ecs.retiring import Retiring
from cloudlet.services.ecs.settings import Settings


class Service(Retiring, Exec, Reporting, Clusters, Definitions, Settings):
    """Clusters, tasks and services on this machine."""

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
