"""What is looked up for an Envoy: certificates, and the healthy instances of Cloud Map's services."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.appmesh.material import certificates as certificates_of
from cloudlet.services.appmesh.material import trusts
from cloudlet.services.appmesh.records import ROUTE_TYPES
from cloudlet.services.appmesh.world import Found, Spec, World, preference_of

_SELF = "appmesh.amazonaws.com"
_BALANCERS = ".elb.localhost"
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)

_IPV4, _IPV6 = "AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6"
# Which of an instance's addresses is taken, the first that it has.
_FAMILIES = {
    "IPv4_ONLY": (_IPV4,),
    "IPv6_ONLY": (_IPV6,),
    "IPv4_PREFERRED": (_IPV4, _IPV6),
    "IPv6_PREFERRED": (_IPV6, _IPV4),
}


class Question(NamedTuple):
    """What is asked of Cloud Map."""

    scope: str
    namespace: str
    service: str
    attributes: tuple[tuple[str, str], ...]
    preference: str  # of _FAMILIES


def reachable(world: World, name: str, *, gateway: bool) -> set[str]:
    """The nodes that a node or gateway may send traffic to."""
    services: list[str] = []
    if gateway:
        for route in world.gateway_routes.get(name, {}).values():
            body = next(route[kind] for kind in ROUTE_TYPES if kind in route)
            services.append(body["action"]["target"]["virtualService"]["virtualServiceName"])
    else:
        backends = world.nodes.get(name, {}).get("backends", [])
        services += [backend["virtualService"]["virtualServiceName"] for backend in backends]
    nodes: set[str] = set()
    for service in services:
        provider = world.services.get(service, {}).get("provider", {})
        if "virtualNode" in provider:
            nodes.add(provider["virtualNode"]["virtualNodeName"])
        elif "virtualRouter" in provider:
            for route in world.routes.get(provider["virtualRouter"]["virtualRouterName"], {}).values():
                body = next(route[kind] for kind in ROUTE_TYPES if kind in route)
                nodes.update(target["virtualNode"] for target in body["action"]["weightedTargets"])
    return nodes & world.nodes.keys()


def question_of(scope: str, world: World, node: str) -> Question | None:
    """What to ask Cloud Map for a node, if it is discovered by it."""
    found = world.nodes[node].get("serviceDiscovery", {}).get("awsCloudMap")
    if found is None:
        return None
    attributes = tuple(sorted((one["key"], one["value"]) for one in found.get("attributes", [])))
    preference = preference_of(world, world.nodes[node]) or "IPv4_PREFERRED"
    return Question(scope, found["namespaceName"], found["serviceName"], attributes, preference)


class Looking:
    """Asks the other services of this cloud and remembers their answers until they say that they have changed."""

    def __init__(self, cloud: Cloud, changed: Callable[[], None]) -> None:
        self._cloud = cloud
        self._changed = changed
        self._addresses: dict[Question, list[str]] = {}
        self._issued: dict[str, tuple[str, str]] = {}
        self._watching = False

    def instances_changed(self) -> None:
        """Instances of some service have changed: everything is asked anew when it is needed next."""
        self._addresses.clear()
        self._changed()

    async def found(self, scope: str, world: World, name: str, *, gateway: bool) -> Found:
        """All that the snapshot of a node or gateway needs. Raises AwsError where a certificate is not there."""
        spec = (world.gateways if gateway else world.nodes)[name]
        endpoints: dict[str, list[str]] = {}
        roots: dict[str, str] = {}
        for node in sorted(reachable(world, name, gateway=gateway)):
            if (question := question_of(scope, world, node)) is not None:
                endpoints[node] = await self._instances(question)
            elif (host := _hostname(world.nodes[node])).endswith(_BALANCERS):
                # Envoy's resolver takes every name under localhost for this machine itself.
                elbv2: Any = await self._cloud.service("elbv2")
                endpoints[node] = [address] if (address := elbv2.address_of(host)) is not None else []
            for arn in _offered(world.nodes[node]):
                # Where it cannot be had its own node says so.
                with contextlib.suppress(AwsError):
                    roots[arn] = await self._root(arn)
        certificates: dict[str, tuple[str, str]] = {}
        for certificate in certificates_of(spec):
            if "acm" in certificate:
                arn = certificate["acm"]["certificateArn"]
                acm: Any = await self._cloud.service("acm")
                certificates[arn] = await acm.material(arn)
            elif "sds" in certificate:
                secret = certificate["sds"]["secretName"]
                certificates[secret] = await self._issue(secret)
        authority, authorities = "", {}
        for trust in trusts(spec):
            if "sds" in trust:
                acm = await self._cloud.service("acm")
                authority = await acm.authority_pem()
            for arn in trust.get("acm", {}).get("certificateAuthorityArns", ()):
                authorities[arn] = await self._authority(arn)
        return Found(endpoints, certificates, authority, authorities, roots)

    async def _root(self, arn: str) -> str:
        """The authority that an ACM certificate comes from. Raises AwsError where it is not there."""
        acm: Any = await self._cloud.service("acm")
        chain, _ = await acm.material(arn)
        *_, last = _CERTIFICATE.findall(chain)
        return str(last)

    async def _authority(self, arn: str) -> str:
        """The certificate of a private authority. Raises AwsError where it has none."""
        account, region = arn.split(":")[4], arn.split(":")[3]
        found = await self._cloud.call(
            "acm-pca",
            "GetCertificateAuthorityCertificate",
            {"CertificateAuthorityArn": arn},
            account=account,
            region=region,
            principal=_SELF,
        )
        return str(found["Certificate"])

    async def _issue(self, secret: str) -> tuple[str, str]:
        """The certificate that the local authority gives for an SDS secret's name; a new one after each restart."""
        if secret not in self._issued:
            acm: Any = await self._cloud.service("acm")
            _, body, chain, key = await acm.issued([secret], "EC_prime256v1")
            self._issued[secret] = (body.rstrip("\n") + "\n" + chain, key)
        return self._issued[secret]

    async def _instances(self, question: Question) -> list[str]:
        if question not in self._addresses:
            await self._watch()
            account, region = question.scope.split("/")
            input: dict[str, Any] = {"NamespaceName": question.namespace, "ServiceName": question.service}
            # Those without a health check are neither healthy nor not.
            input |= {"HealthStatus": "ALL", "MaxResults": 1000}
            if question.attributes:
                input["QueryParameters"] = dict(question.attributes)
            try:
                found = await self._cloud.call(
                    "servicediscovery", "DiscoverInstances", input, account=account, region=region, principal=_SELF
                )
            except AwsError as error:
                if error.code not in ("ServiceNotFound", "NamespaceNotFound"):
                    raise
                found = {"Instances": []}
            alive = [instance for instance in found["Instances"] if instance.get("HealthStatus") != "UNHEALTHY"]
            families = _FAMILIES[question.preference]
            addresses = (_address(instance.get("Attributes", {}), families) for instance in alive)
            self._addresses[question] = sorted({address for address in addresses if address})
        return self._addresses[question]

    async def _watch(self) -> None:
        """Hear of every change of an instance or its health from now on."""
        if not self._watching:
            discovery: Any = await self._cloud.service("servicediscovery")
            self._watching = True
            await discovery.on_change(self.instances_changed)


def _address(attributes: dict[str, str], families: Sequence[str]) -> str:
    return next((attributes[family] for family in families if family in attributes), "")


def _hostname(spec: Spec) -> str:
    return str(spec.get("serviceDiscovery", {}).get("dns", {}).get("hostname", ""))


def _offered(spec: Spec) -> Iterator[str]:
    """The ACM certificates that a node's listeners show."""
    for listener in spec.get("listeners", []):
        if "acm" in listener.get("tls", {}).get("certificate", {}):
            yield listener["tls"]["certificate"]["acm"]["certificateArn"]
