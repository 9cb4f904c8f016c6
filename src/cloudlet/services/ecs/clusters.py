"""Clusters and capacity providers. Fargate's two are there; what others do with their groups is in ``capacity.py``."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs.base import DEFAULT, Base, client_error, from_tags, invalid, last, page, to_tags
from cloudlet.services.ecs.records import ON_THE_WAY, CapacityProvider, Cluster
from cloudlet.store import Tx

FARGATE = ("FARGATE", "FARGATE_SPOT")
_KEPT = ("configuration", "settings", "capacityProviders", "defaultCapacityProviderStrategy", "serviceConnectDefaults")


class Clusters(Base):
    """Operations on clusters and capacity providers."""

    async def CreateCluster(self, call: Call, input: Input) -> Output:
        name = self.checked_name(input.get("clusterName") or DEFAULT, "Cluster")
        self._check_strategy(call, input)
        members = {key: input[key] for key in _KEPT if key in input}
        if "serviceConnectDefaults" in input:
            members["serviceConnectDefaults"] = await self.default_namespace(call, input["serviceConnectDefaults"])
        members.setdefault("settings", [{"name": "containerInsights", "value": self._insights(call)}])

        def work(tx: Tx) -> Cluster:
            known = self.clusters.get(call.scope, name, tx)
            if known is not None and known.value.status == "ACTIVE":
                return known.value
            made = Cluster(members, from_tags(input.get("tags")))
            self.clusters.put(tx, call.scope, name, made)
            return made

        await self.db.write(work)
        return {"cluster": self._described_cluster(call.scope, name, {"TAGS", "SETTINGS", "CONFIGURATIONS"})}

    async def DescribeClusters(self, call: Call, input: Input) -> Output:
        found, failures = [], []
        for identifier in input.get("clusters") or [DEFAULT]:
            name = last(identifier)
            if self.clusters.get(call.scope, name) is None:
                failures.append({"arn": self.arn(call.scope, "cluster", name), "reason": "MISSING"})
            else:
                found.append(self._described_cluster(call.scope, name, set(input.get("include") or ())))
        return {"clusters": found, "failures": failures}

    async def ListClusters(self, call: Call, input: Input) -> Output:
        names = [one.name for one in self.clusters.list(call.scope) if one.value.status == "ACTIVE"]
        return page("clusterArns", [self.arn(call.scope, "cluster", name) for name in names], input)

    async def UpdateCluster(self, call: Call, input: Input) -> Output:
        changes: dict[str, Any] = {
            key: input[key] for key in ("configuration", "settings", "serviceConnectDefaults") if key in input
        }
        if "serviceConnectDefaults" in changes:
            changes["serviceConnectDefaults"] = await self.default_namespace(call, changes["serviceConnectDefaults"])
        return await self._change_cluster(call, input, changes)

    async def UpdateClusterSettings(self, call: Call, input: Input) -> Output:
        return await self._change_cluster(call, input, {"settings": input["settings"]})

    async def PutClusterCapacityProviders(self, call: Call, input: Input) -> Output:
        self._check_strategy(call, input)
        changes = {key: input[key] for key in ("capacityProviders", "defaultCapacityProviderStrategy")}
        return await self._change_cluster(call, input, changes)

    async def DeleteCluster(self, call: Call, input: Input) -> Output:
        def work(tx: Tx) -> str:
            name = self.cluster(call, input, tx)
            for service in self.services.list(call.scope, f"{name}/", tx):
                if service.value.status == "ACTIVE":
                    raise AwsError(
                        "ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active."
                    )
            if self.instances.list(call.scope, f"{name}/", tx):
                raise AwsError(
                    "ClusterContainsContainerInstancesException",
                    "The Cluster cannot be deleted while Container Instances are active or draining.",
                )
            if any(task.value.status != "STOPPED" for task in self.tasks.list(call.scope, f"{name}/", tx)):
                raise AwsError("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
            record = self.clusters.get(call.scope, name, tx)
            assert record is not None
            self.clusters.put(tx, call.scope, name, msgspec.structs.replace(record.value, status="INACTIVE"))
            return name

        name = await self.db.write(work)
        return {"cluster": self._described_cluster(call.scope, name, {"TAGS", "SETTINGS", "CONFIGURATIONS"})}

    # Capacity providers

    async def CreateCapacityProvider(self, call: Call, input: Input) -> Output:
        name = self.checked_name(input["name"], "Capacity provider")
        if "managedInstancesProvider" in input:
            raise not_implemented("CreateCapacityProvider with managedInstancesProvider")
        if "autoScalingGroupProvider" not in input:
            raise client_error("The capacity provider must have an Auto Scaling group provider.")
        if name.lower().startswith(("aws", "ecs", "fargate")):
            raise client_error(
                "The specified capacity provider name is invalid. Up to 255 characters are allowed, including letters "
                "(upper and lowercase), numbers, underscores, and hyphens. The name cannot be prefixed with 'aws', "
                "'ecs', or 'fargate'."
            )
        provider = {**input["autoScalingGroupProvider"]}
        scaling = provider.get("managedScaling") or {}
        provider["managedScaling"] = {
            "status": "DISABLED" if not scaling else "ENABLED",
            "targetCapacity": 100,
            "minimumScalingStepSize": 1,
            "maximumScalingStepSize": 10000,
            "instanceWarmupPeriod": 300,
            **scaling,
        }
        provider.setdefault("managedTerminationProtection", "DISABLED")
        provider.setdefault("managedDraining", "ENABLED")
        made = CapacityProvider(
            {"name": name, "status": "ACTIVE", "autoScalingGroupProvider": provider}, from_tags(input.get("tags"))
        )

        def work(tx: Tx) -> None:
            if self.providers.get(call.scope, name, tx) is not None:
                raise client_error("A capacity provider with the specified name already exists.")
            self.providers.put(tx, call.scope, name, made)

        await self.db.write(work)
        return {"capacityProvider": self._described_provider(call.scope, made, True)}

    async def UpdateCapacityProvider(self, call: Call, input: Input) -> Output:
        if "managedInstancesProvider" in input:
            raise not_implemented("UpdateCapacityProvider with managedInstancesProvider")

        def work(tx: Tx) -> CapacityProvider:
            record = self.providers.get(call.scope, last(input["name"]), tx)
            if record is None:
                raise client_error("The specified capacity provider does not exist.")
            old = record.value.members
            provider = {**old["autoScalingGroupProvider"], **(input.get("autoScalingGroupProvider") or {})}
            if "managedScaling" in (input.get("autoScalingGroupProvider") or {}):
                provider["managedScaling"] = {
                    **old["autoScalingGroupProvider"]["managedScaling"],
                    **input["autoScalingGroupProvider"]["managedScaling"],
                }
            made = msgspec.structs.replace(
                record.value,
                members={**old, "autoScalingGroupProvider": provider, "updateStatus": "UPDATE_COMPLETE"},
            )
            self.providers.put(tx, call.scope, record.name, made)
            return made

        made = await self.db.write(work)
        await self.provider_changed(call.scope, made.members["name"])
        return {"capacityProvider": self._described_provider(call.scope, made, False)}

    async def DescribeCapacityProviders(self, call: Call, input: Input) -> Output:
        asked = [last(one) for one in input.get("capacityProviders") or ()]
        with_tags = "TAGS" in (input.get("include") or ())
        own = {one.name: one.value for one in self.providers.list(call.scope)}
        every = {**{name: _fargate(name) for name in FARGATE}, **own}
        failures = [
            {"arn": self.arn(call.scope, "capacity-provider", name), "reason": "MISSING"}
            for name in asked
            if name not in every
        ]
        found = [
            self._described_provider(call.scope, one, with_tags)
            for name, one in every.items()
            if not asked or name in asked
        ]
        return {**page("capacityProviders", found, input), "failures": failures}

    async def DeleteCapacityProvider(self, call: Call, input: Input) -> Output:
        def work(tx: Tx) -> CapacityProvider:
            name = last(input["capacityProvider"])
            record = self.providers.get(call.scope, name, tx)
            if record is None:
                raise client_error("The specified capacity provider does not exist.")
            for cluster in self.clusters.list(call.scope, "", tx):
                if cluster.value.status == "ACTIVE" and name in cluster.value.members.get("capacityProviders", ()):
                    raise client_error(
                        "The capacity provider cannot be deleted because it is associated with cluster: "
                        f"{cluster.name}. Remove the capacity provider from the cluster and try again."
                    )
            self.providers.delete(tx, call.scope, name)
            return msgspec.structs.replace(
                record.value, members={**record.value.members, "updateStatus": "DELETE_COMPLETE", "status": "INACTIVE"}
            )

        return {"capacityProvider": self._described_provider(call.scope, await self.db.write(work), False)}

    # What operations share

    async def default_namespace(self, call: Call, defaults: dict[str, Any]) -> dict[str, Any]:
        """A cluster's ``serviceConnectDefaults`` with its namespace's ARN; a name that is new becomes a namespace."""
        raise NotImplementedError

    async def provider_changed(self, scope: str, name: str) -> None:
        """Have the Auto Scaling group of a capacity provider do what that says now."""
        raise NotImplementedError

    async def _change_cluster(self, call: Call, input: Input, changes: dict[str, Any]) -> Output:
        def work(tx: Tx) -> str:
            name = self.cluster(call, input, tx)
            record = self.clusters.get(call.scope, name, tx)
            assert record is not None
            made = msgspec.structs.replace(record.value, members={**record.value.members, **changes})
            self.clusters.put(tx, call.scope, name, made)
            return name

        name = await self.db.write(work)
        return {"cluster": self._described_cluster(call.scope, name, {"TAGS", "SETTINGS", "CONFIGURATIONS"})}

    def _check_strategy(self, call: Call, input: Input) -> None:
        providers = [last(one) for one in input.get("capacityProviders") or ()]
        for name in providers:
            if name not in FARGATE and self.providers.get(call.scope, name) is None:
                raise invalid(
                    "The specified capacity provider was not found. Specify a valid name or ARN and try again."
                )
        for entry in input.get("defaultCapacityProviderStrategy") or ():
            if last(entry["capacityProvider"]) not in providers:
                raise invalid(
                    "The specified capacity provider strategy cannot contain a capacity provider that is not "
                    "associated with the cluster. Associate the capacity provider with the cluster and try again."
                )

    def _insights(self, call: Call) -> str:
        found = self.settings.get(call.scope, "/containerInsights")
        return found.value.value if found is not None else "disabled"

    def _described_provider(self, scope: str, provider: CapacityProvider, with_tags: bool) -> dict[str, Any]:
        name = provider.members["name"]
        return {
            "capacityProviderArn": self.arn(scope, "capacity-provider", name),
            "type": name if name in FARGATE else "EC2_AUTOSCALING",
            **provider.members,
            "tags": to_tags(provider.tags) if with_tags else [],
        }

    def _described_cluster(self, scope: str, name: str, include: set[str]) -> dict[str, Any]:
        record = self.clusters.get(scope, name)
        assert record is not None
        cluster = record.value
        tasks = [one.value for one in self.tasks.list(scope, f"{name}/")]
        services = [one.value for one in self.services.list(scope, f"{name}/")]
        instances = self.instances.list(scope, f"{name}/")
        described = {
            "clusterArn": self.arn(scope, "cluster", name),
            "clusterName": name,
            "status": cluster.status,
            "registeredContainerInstancesCount": len(instances),
            "runningTasksCount": sum(task.status == "RUNNING" for task in tasks),
            "pendingTasksCount": sum(task.status in ON_THE_WAY for task in tasks),
            "activeServicesCount": sum(service.status == "ACTIVE" for service in services),
            "statistics": [],
            **({"tags": to_tags(cluster.tags)} if "TAGS" in include and cluster.tags else {}),
            "settings": cluster.members["settings"] if "SETTINGS" in include else [],
            "capacityProviders": cluster.members.get("capacityProviders", []),
            "defaultCapacityProviderStrategy": cluster.members.get("defaultCapacityProviderStrategy", []),
        }
        if "CONFIGURATIONS" in include and "configuration" in cluster.members:
            described["configuration"] = cluster.members["configuration"]
        if "serviceConnectDefaults" in cluster.members:
            described["serviceConnectDefaults"] = cluster.members["serviceConnectDefaults"]
        if "STATISTICS" in include:
            described["statistics"] = _statistics(tasks, services)
        return described


def _fargate(name: str) -> CapacityProvider:
    return CapacityProvider({"name": name, "status": "ACTIVE"})


def _statistics(tasks: list[Any], services: list[Any]) -> list[dict[str, str]]:
    found: dict[str, int] = {}
    for kind, title in (("EC2", "EC2"), ("FARGATE", "Fargate")):
        of_kind = [task for task in tasks if task.members.get("launchType", "FARGATE") == kind]
        found[f"running{title}TasksCount"] = sum(task.status == "RUNNING" for task in of_kind)
        found[f"pending{title}TasksCount"] = sum(task.status in ON_THE_WAY for task in of_kind)
        served = [one for one in services if one.members.get("launchType", "FARGATE") == kind]
        found[f"active{title}ServiceCount"] = sum(one.status == "ACTIVE" for one in served)
        found[f"draining{title}ServiceCount"] = sum(one.status == "DRAINING" for one in served)
    return [{"name": name, "value": str(value)} for name, value in found.items()]
