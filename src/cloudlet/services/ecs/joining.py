"""Services and Service Connect: the namespace, what Cloud Map knows of it, and what each new task is given."""

from __future__ import annotations

import logging
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import service_connect
from cloudlet.services.ecs.balancing import Balancing
from cloudlet.services.ecs.base import invalid, last, page
from cloudlet.services.ecs.connecting import Connecting
from cloudlet.services.ecs.records import Service, Task
from cloudlet.services.ecs.service_connect import discovery_name

log = logging.getLogger("cloudlet.ecs")


class Joining(Balancing):
    """What Service Connect asks of services and tasks; its Envoys are ``connecting``'s."""

    connecting: Connecting

    async def default_namespace(self, call: Call, defaults: dict[str, Any]) -> dict[str, Any]:
        """A cluster's ``serviceConnectDefaults`` with its namespace's ARN; a name that is new becomes a namespace."""
        wanted = defaults.get("namespace")
        if not wanted:
            return {}
        found = await self._namespace(call, wanted)
        if found is None and wanted.startswith("arn:"):
            raise AwsError("NamespaceNotFoundException", "The specified namespace wasn't found.")
        if found is None:
            await self._ask(call.scope, "servicediscovery", "CreateHttpNamespace", {"Name": wanted})
            found = await self._namespace(call, wanted)
        assert found is not None
        return {"namespace": found["Arn"]}

    async def ListServicesByNamespace(self, call: Call, input: Input) -> Output:
        namespace = await self._namespace(call, input["namespace"])
        if namespace is None:
            raise AwsError("NamespaceNotFoundException", "The specified namespace wasn't found.")
        found = [
            self.arn(call.scope, "service", record.name)
            for record in self.services.list(call.scope)
            if record.value.status == "ACTIVE"
            and (record.value.members.get("serviceConnectConfiguration") or {}).get("namespace") == namespace["Arn"]
        ]
        return page("serviceArns", found, input, 10)

    async def connect_members(
        self, call: Call, cluster: str, name: str, input: Input, definition: dict[str, Any]
    ) -> dict[str, Any]:
        """The members of a service that Service Connect adds, checked; its discovery names are in Cloud Map then."""
        configuration = input.get("serviceConnectConfiguration")
        if configuration is None or not configuration["enabled"]:
            return (
                {"serviceConnectConfiguration": configuration, "serviceConnectResources": []} if configuration else {}
            )
        service_connect.check(call.operation or "CreateService", configuration, definition)
        record = self.clusters.get(call.scope, cluster)
        defaults = record.value.members.get("serviceConnectDefaults", {}) if record is not None else {}
        wanted = configuration.get("namespace") or defaults.get("namespace")
        if not wanted:
            raise invalid("namespace must be specified in serviceConnectConfiguration or in the cluster's defaults.")
        namespace = await self._namespace(call, wanted)
        if namespace is None:
            raise AwsError("NamespaceNotFoundException", "The specified namespace wasn't found.")
        services = [_completed(one, namespace["Name"]) for one in configuration.get("services") or ()]
        for other, offered in self._offered(call.scope, namespace["Arn"]):
            for one in services:
                if other != f"{cluster}/{name}" and one["discoveryName"] in [each["discovery"] for each in offered]:
                    raise invalid(f"discoveryName({one['discoveryName']}) is already in use in the namespace.")
        resources = [
            {"discoveryName": one["discoveryName"], "discoveryArn": await self._discovery_arn(call, namespace, one)}
            for one in services
        ]
        made = {**configuration, "namespace": namespace["Arn"], **({"services": services} if services else {})}
        return {
            "serviceConnectConfiguration": made,
            "serviceConnectResources": resources,
            "serviceConnectNamespace": namespace["Name"],
        }

    def connect_of(self, scope: str, name: str, settings: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
        """What Service Connect gives to a new task of a deployment; nothing where it is not wanted."""
        configuration = settings.get("serviceConnectConfiguration") or {}
        if not configuration.get("enabled"):
            return {}
        offered = [one for _, every in self._offered(scope, configuration["namespace"]) for one in every]
        arns = {one["discoveryName"]: one["discoveryArn"] for one in settings["serviceConnectResources"]}
        of = self.arn(scope, "service", name)
        namespace = settings.get("serviceConnectNamespace", "")
        made = service_connect.of_task(configuration, definition, offered, namespace, of)
        made["ingress"] = [{**one, "service": last(arns[one["discovery"]])} for one in made["ingress"]]
        return made

    async def connect(self, scope: str, task: Task, definition: dict[str, Any]) -> None:
        await super().connect(scope, task, definition)
        for one in task.connect.get("ingress", ()):
            attributes = {
                "AWS_INSTANCE_IPV4": task.address,
                "AWS_INSTANCE_PORT": str(one["port"]),
                "AVAILABILITY_ZONE": f"{scope.split('/')[1]}a",
                "ECS_CLUSTER_NAME": task.cluster,
                "ECS_SERVICE_NAME": task.service,
                "ECS_TASK_DEFINITION_FAMILY": definition["family"],
            }
            ask = {"ServiceId": one["service"], "InstanceId": task.id, "Attributes": attributes}
            await self._ask(scope, "servicediscovery", "RegisterInstance", ask)

    async def disconnect(self, scope: str, task: Task) -> None:
        self.connecting.changed(scope, task)
        for one in task.connect.get("ingress", ()):
            ask = {"ServiceId": one["service"], "InstanceId": task.id}
            await self._gone(self._ask(scope, "servicediscovery", "DeregisterInstance", ask))
        await super().disconnect(scope, task)
        if task.connect:
            await self.connecting.told()

    async def drop_certificates(self, scope: str, task: Task) -> None:
        """A task's Envoy has ended: its certificates are deleted where its service has no TLS any more."""
        for one in task.connect.get("ingress", ()):
            if "tls" in one and not self._needs_certificate(scope, task, one):
                await self._gone(self.connecting.certifying.delete(scope, one["service"], one["tls"].get("role", "")))

    async def forget_endpoints(self, scope: str, service: Service) -> None:
        """A service is gone: so are its names in Cloud Map."""
        for one in service.members.get("serviceConnectResources") or ():
            ask = {"Id": last(one["discoveryArn"])}
            await self._gone(self._ask(scope, "servicediscovery", "DeleteService", ask))
        configuration = service.members.get("serviceConnectConfiguration") or {}
        for one in configuration.get("services") or ():
            if "tls" in one:
                made, role = service.members["serviceConnectResources"], one["tls"].get("roleArn", "")
                arn = next(each["discoveryArn"] for each in made if each["discoveryName"] == one["discoveryName"])
                await self._gone(self.connecting.certifying.delete(scope, last(arn), role))

    def _needs_certificate(self, scope: str, task: Task, endpoint: dict[str, Any]) -> bool:
        """Whether the endpoint of a task that ends has TLS still, in another task or in what its service has now."""
        others = [one for one in self.tasks_of(scope, task.cluster, task.service) if one.id != task.id]
        ingress = [one for other in others if other.is_active for one in other.connect.get("ingress", ())]
        if any("tls" in one and one["service"] == endpoint["service"] for one in ingress):
            return True
        record = self.services.get(scope, f"{task.cluster}/{task.service}")
        if record is None or record.value.status != "ACTIVE":
            return True  # a service that goes takes its secrets along
        configuration = record.value.members.get("serviceConnectConfiguration") or {}
        return bool(configuration.get("enabled")) and any(
            "tls" in one and discovery_name(one) == endpoint["discovery"] for one in configuration.get("services") or ()
        )

    def _offered(self, scope: str, namespace: str) -> list[tuple[str, list[dict[str, Any]]]]:
        """The endpoints of a namespace, by the names of the services that they are of."""
        found = []
        for record in self.services.list(scope):
            primary = record.value.primary
            configuration = record.value.members.get("serviceConnectConfiguration") or {}
            if record.value.status != "ACTIVE" or primary is None or not configuration.get("enabled"):
                continue
            definition = self.definition(scope, primary.task_definition)
            if configuration["namespace"] == namespace and definition is not None:
                found.append((record.name, service_connect.endpoints_of(configuration, definition.members)))
        return found

    async def _namespace(self, call: Call, wanted: str) -> dict[str, Any] | None:
        """A namespace of Cloud Map, by its name or ARN."""
        token: dict[str, Any] = {}
        while True:
            page = await self._ask(call.scope, "servicediscovery", "ListNamespaces", token)
            for one in page.get("Namespaces", ()):
                if wanted in (one["Name"], one["Arn"]):
                    return one  # type: ignore[no-any-return]
            if "NextToken" not in page:
                return None
            token = {"NextToken": page["NextToken"]}

    async def _discovery_arn(self, call: Call, namespace: dict[str, Any], service: dict[str, Any]) -> str:
        """The ARN of a discovery name's service in Cloud Map, which is made where it is not there."""
        ask = {"Name": service["discoveryName"], "NamespaceId": namespace["Id"], "Type": "HTTP"}
        try:
            made = await self._ask(call.scope, "servicediscovery", "CreateService", ask)
        except AwsError as error:
            if error.code != "ServiceAlreadyExists":
                raise
            id = error.members["ServiceId"]
            made = await self._ask(call.scope, "servicediscovery", "GetService", {"Id": id})
        return str(made["Service"]["Arn"])


def _completed(service: dict[str, Any], namespace: str) -> dict[str, Any]:
    """A service of the configuration with AWS's defaults."""
    name = discovery_name(service)
    aliases = [{"dnsName": f"{name}.{namespace}", **one} for one in service.get("clientAliases") or ()]
    return {**service, "discoveryName": name, **({"clientAliases": aliases} if aliases else {})}
