"""Certificates of Service Connect: one for each endpoint with TLS, of its private authority, kept in Secrets Manager.

A certificate is good for seven days, and after five another takes its place in all Envoys.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-connect-tls.html
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.ecs.execution import CannotPrepare, Role

if TYPE_CHECKING:
    from cloudlet.control.clock import Timer
    from cloudlet.services.api import Cloud, Input, Output

log = logging.getLogger("cloudlet.ecs")

_DAY = 86_400.0
_VALID, _RENEWED, _AGAIN = 7, 5 * _DAY, 3600.0  # days; seconds
_ALGORITHM = "EC_prime256v1"
_SELF = "ecs.amazonaws.com"  # whom the role has to trust, other than a task's


def secret_name(service: str) -> str:
    """The name of the secret with the certificate of an endpoint, by the id of its service in Cloud Map."""
    return f"ecs-sc!{service}"


class Certifying:
    """Issues, keeps and renews certificates; ``renewed`` is told the Cloud Map service of one that is another."""

    def __init__(self, cloud: Cloud, renewed: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._renewed = renewed
        self._held: dict[str, tuple[str, str]] = {}
        self._timers: dict[str, Timer] = {}
        self._trusted: dict[str, str] = {}
        self._issuing = asyncio.Lock()  # two tasks that start at once get the same certificate

    async def certificate(self, scope: str, endpoint: dict[str, Any]) -> tuple[str, str]:
        """Chain and key (PEM) of an endpoint. Raises AwsError as the authority and Secrets Manager do, CannotPrepare
        for a role that ECS may not assume."""
        service = endpoint["service"]
        async with self._issuing:
            if service not in self._held:
                await self._load(scope, endpoint)
            return self._held[service]

    async def trust(self, authority: str) -> str:
        """The certificate (PEM) that a private authority's certificates are judged by. Raises AwsError."""
        if authority not in self._trusted:
            place = {"account": authority.split(":")[4], "region": authority.split(":")[3]}
            role = Role(self._cloud, f"{place['account']}/{place['region']}", "", "service-connect", _SELF)
            ask = {"CertificateAuthorityArn": authority}
            found = await role.call("acm-pca", "GetCertificateAuthorityCertificate", ask)
            self._trusted[authority] = _joined(found["Certificate"], found.get("CertificateChain", ""))
        return self._trusted[authority]

    async def delete(self, scope: str, service: str, role: str) -> None:
        """An endpoint is gone, or has no TLS any more: so is its secret. Raises AwsError."""
        self.forget(service)
        ask = {"SecretId": secret_name(service), "ForceDeleteWithoutRecovery": True}
        try:
            await Role(self._cloud, scope, role, "service-connect", _SELF).call("secretsmanager", "DeleteSecret", ask)
        except CannotPrepare as error:
            raise AwsError("AccessDeniedException", str(error)) from None

    def forget(self, service: str) -> None:
        """No task needs a certificate any more."""
        self._held.pop(service, None)
        if (timer := self._timers.pop(service, None)) is not None:
            timer.cancel()

    def stop(self) -> None:
        """Renew nothing from now on."""
        for service in list(self._timers):
            self.forget(service)

    async def _load(self, scope: str, endpoint: dict[str, Any]) -> None:
        """What Secrets Manager has, or a new certificate where that is none or old, or of another authority."""
        role, name = self._role(scope, endpoint), secret_name(endpoint["service"])
        kept: Output | None = None
        try:
            kept = await role.call("secretsmanager", "GetSecretValue", {"SecretId": name})
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
        if kept is not None:
            known, until = json.loads(kept["SecretString"]), kept["CreatedDate"] + _RENEWED
            is_same = (known["authority"], known["name"]) == (endpoint["tls"]["authority"], endpoint["tls"]["name"])
            if is_same and until > self._cloud.clock.now():
                self._hold(scope, endpoint, known, until)
                return
        made = await self._issue(role, endpoint["tls"])
        input: Input = {"SecretString": json.dumps(made)}
        if kept is not None:
            await role.call("secretsmanager", "PutSecretValue", {"SecretId": name, **input})
        else:
            tags = {"AmazonECSManaged": "true", "AmazonECSCreated": endpoint["tls"]["of"]}
            input |= {"Name": name, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            if key := endpoint["tls"].get("key"):
                input["KmsKeyId"] = key
            await role.call("secretsmanager", "CreateSecret", input)
        self._hold(scope, endpoint, made, self._cloud.clock.now() + _RENEWED)

    async def _issue(self, role: Role, tls: dict[str, Any]) -> dict[str, str]:
        from cloudlet.services.acm.authority import request

        key, csr = await asyncio.to_thread(request, [tls["name"]], _ALGORITHM)
        place = {"CertificateAuthorityArn": tls["authority"]}
        of = {"account": tls["authority"].split(":")[4], "region": tls["authority"].split(":")[3]}
        found = (await role.call("acm-pca", "DescribeCertificateAuthority", place, **of))["CertificateAuthority"]
        signing = found["CertificateAuthorityConfiguration"]["SigningAlgorithm"]
        validity = {"Type": "DAYS", "Value": _VALID}
        ask = {**place, "Csr": csr.encode(), "SigningAlgorithm": signing, "Validity": validity}
        arn = (await role.call("acm-pca", "IssueCertificate", ask, **of))["CertificateArn"]
        issued = await role.call("acm-pca", "GetCertificate", {**place, "CertificateArn": arn}, **of)
        chain = _joined(issued["Certificate"], issued.get("CertificateChain", ""))
        return {"name": tls["name"], "authority": tls["authority"], "certificate": chain, "privateKey": key}

    def _hold(self, scope: str, endpoint: dict[str, Any], made: dict[str, str], until: float) -> None:
        service = endpoint["service"]
        self.forget(service)
        self._held[service] = (made["certificate"], made["privateKey"])
        self._timers[service] = self._cloud.clock.call_at(
            until, lambda: self._cloud.spawn(self._renew(scope, endpoint), f"service connect renews {service}")
        )

    async def _renew(self, scope: str, endpoint: dict[str, Any]) -> None:
        """Another certificate. The old one is used, and this tried again, while the authority refuses."""
        service = endpoint["service"]
        async with self._issuing:
            try:
                await self._load(scope, endpoint)
            except Exception as error:
                log.warning("the certificate of %s is not renewed yet: %s", endpoint["tls"]["name"], error)
                if service in self._held:
                    self._timers[service] = self._cloud.clock.call_later(
                        _AGAIN,
                        lambda: self._cloud.spawn(self._renew(scope, endpoint), f"service connect renews {service}"),
                    )
                return
        self._renewed(service)

    def _role(self, scope: str, endpoint: dict[str, Any]) -> Role:
        return Role(self._cloud, scope, endpoint["tls"].get("role", ""), "service-connect", _SELF)


def _joined(*parts: str) -> str:
    return "".join(part.rstrip("\n") + "\n" for part in parts if part)
