"""Listeners, their certificates and their attributes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from msgspec.structs import replace

from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2 import attributes, checks, policies, sharing
from cloudlet.services.elbv2.attributes import listener_attributes
from cloudlet.services.elbv2.base import Base, new_id, page, refuse, tags_of
from cloudlet.services.elbv2.errors import invalid, misconfigured
from cloudlet.services.elbv2.records import Document, Listener, LoadBalancer, groups_of
from cloudlet.store import Tx

_PROTOCOLS = {"application": ["HTTP", "HTTPS"], "network": ["UDP", "TCP", "TLS", "TCP_UDP"]}
_SECURE = ("HTTPS", "TLS")
_ACM = "arn:aws:acm:"
_ALPN = ("None", "HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred")
_NEIGHBOUR = "127.127.255.254"  # an address that no load balancer has
# What a network load balancer's listeners may forward to.
_COMPATIBLE = {"TCP": ("TCP", "TCP_UDP"), "TLS": ("TCP", "TLS"), "UDP": ("UDP", "TCP_UDP"), "TCP_UDP": ("TCP_UDP",)}


class Listeners(Base):
    """Making, changing and showing listeners."""

    async def CreateListener(self, call: Call, input: Input) -> Output:
        owner = self.load_balancer(call, input["LoadBalancerArn"])
        tags = tags_of(input)
        if not input.get("Protocol"):
            raise invalid("A listener protocol must be specified")
        if not input.get("Port"):
            raise invalid("A listener port must be specified")
        _check_proxy()
        made = await self._settings(call, owner, None, input, "CreateListener")
        made = replace(made, tags=tags)
        await self._certify(owner, made.certificates)

        def create(tx: Tx) -> None:
            one = self.load_balancer(call, owner.arn, tx)
            self._check_port(one, made, tx)
            self.check_actions(call, one, made.protocol, made.actions, tx)
            self.listeners.put(tx, call.scope, f"{one.id}/{made.id}", self._placed(made))

        await self.db.write(create)
        await self.have_key(made.actions)
        self.changed()
        if await self.controller.settled() and made.protocol != "UDP":
            await _answers(owner.address, made.bound)
        return {"Listeners": [_described(made)]}

    async def DescribeListeners(self, call: Call, input: Input) -> Output:
        if arns := input.get("ListenerArns"):
            found = [self.listener(call, arn) for arn in arns]
        elif arn := input.get("LoadBalancerArn"):
            found = self.listeners_of(self.load_balancer(call, arn))
        else:
            raise invalid("You must specify either listener ARNs or a load balancer ARN")
        here, marker = page([_described(one) for one in found], input, "ListenerArn")
        return {"Listeners": here, **marker}

    async def ModifyListener(self, call: Call, input: Input) -> Output:
        before = self.listener(call, input["ListenerArn"])
        owner = self.load_balancer(call, before.load_balancer_arn)
        made = await self._settings(call, owner, before, input, "ModifyListener")
        await self._certify(owner, made.certificates)

        def modify(tx: Tx) -> Listener:
            now = self.listener(call, before.arn, tx)
            after = self._placed(replace(made, tags=now.tags))
            self._check_port(owner, after, tx)
            self.check_actions(call, owner, after.protocol, after.actions, tx)
            return self.listeners.put(tx, call.scope, f"{owner.id}/{after.id}", after).value

        stored = await self.db.write(modify)
        await self.have_key(stored.actions)
        self.changed()
        gone = [arn for arn in before.certificates if arn not in stored.certificates]
        await self.release_certificates(owner.arn, gone)
        return {"Listeners": [_described(stored)]}

    async def DeleteListener(self, call: Call, input: Input) -> Output:
        one = self.listener(call, input["ListenerArn"])
        owner = self.load_balancer(call, one.load_balancer_arn)

        def delete(tx: Tx) -> None:
            for record in self.targets.list(call.scope, "", tx):
                if (record.value.target, record.value.port) == (owner.arn, one.port):
                    words = f"Listener port '{one.port}' is in use by registered target '{owner.arn}'"
                    raise AwsError("ResourceInUseException", f"{words} and cannot be removed.")
            for rule in self.rules_of(call, one, tx):
                self.rules.delete(tx, call.scope, f"{one.id}/{rule.id}")
            self.listeners.delete(tx, call.scope, f"{owner.id}/{one.id}")

        await self.db.write(delete)
        self.changed()
        await self.release_certificates(owner.arn, one.certificates)
        return {}

    # Certificates

    async def AddListenerCertificates(self, call: Call, input: Input) -> Output:
        one = self.listener(call, input["ListenerArn"])
        if one.protocol not in _SECURE:
            raise misconfigured(f"You cannot add certificates to listeners with protocol '{one.protocol}'")
        arns = _certificates(input, "AddListenerCertificates")
        if len({*one.certificates[1:], *arns}) > 25:
            raise AwsError("TooManyCertificatesException", "The quota of certificates per load balancer is reached")
        await self._certify(self.load_balancer(call, one.load_balancer_arn), arns)
        await self._change_listener(
            call,
            one.arn,
            lambda now: replace(
                now, certificates=[now.certificates[0], *dict.fromkeys([*now.certificates[1:], *arns])]
            ),
        )
        return {"Certificates": [{"CertificateArn": arn, "IsDefault": False} for arn in arns]}

    async def RemoveListenerCertificates(self, call: Call, input: Input) -> Output:
        one = self.listener(call, input["ListenerArn"])
        arns = _certificates(input, "RemoveListenerCertificates")
        if one.certificates and one.certificates[0] in set(arns).difference(one.certificates[1:]):
            words = "The default certificate of a listener cannot be removed"
            raise AwsError("OperationNotPermittedException", words)
        await self._change_listener(
            call,
            one.arn,
            lambda now: replace(
                now, certificates=[*now.certificates[:1], *(arn for arn in now.certificates[1:] if arn not in arns)]
            ),
        )
        await self.release_certificates(one.load_balancer_arn, arns)
        return {}

    async def DescribeListenerCertificates(self, call: Call, input: Input) -> Output:
        one = self.listener(call, input["ListenerArn"])
        found = [{"CertificateArn": arn, "IsDefault": place == 0} for place, arn in enumerate(one.certificates)]
        here, marker = page(found, input, "CertificateArn")
        return {"Certificates": here, **marker}

    async def DescribeSSLPolicies(self, call: Call, input: Input) -> Output:
        here, marker = page(policies.described(input.get("Names", [])), input, "Name")
        kind = input.get("LoadBalancerType")
        return {"SslPolicies": [one for one in here if not kind or kind in one["SupportedLoadBalancerTypes"]], **marker}

    # Attributes

    async def DescribeListenerAttributes(self, call: Call, input: Input) -> Output:
        return attributes.described(listener_attributes(self.listener(call, input["ListenerArn"])))

    async def ModifyListenerAttributes(self, call: Call, input: Input) -> Output:
        one = self.listener(call, input["ListenerArn"])
        changes = {given["Key"]: given.get("Value", "") for given in input["Attributes"] if "Key" in given}
        attributes.check("Listener", attributes.of_listener(one), changes)
        after = await self._change_listener(
            call, one.arn, lambda now: replace(now, attributes={**now.attributes, **changes})
        )
        return attributes.described(listener_attributes(after))

    # What they share

    async def _settings(
        self, call: Call, owner: LoadBalancer, before: Listener | None, input: Input, operation: str
    ) -> Listener:
        """The listener as it would be, checked as far as that needs no transaction."""
        protocol = input.get("Protocol") or (before.protocol if before else "")
        port = input.get("Port") or (before.port if before else 0)
        allowed = _PROTOCOLS[owner.type]
        if protocol not in allowed:
            raise invalid(f"Listener protocol '{protocol}' must be one of '{', '.join(allowed)}'")
        id = before.id if before else new_id()
        made = Listener(
            arn=f"{owner.arn.replace(':loadbalancer/', ':listener/')}/{id}",
            load_balancer_arn=owner.arn,
            load_balancer=owner.name,
            id=id,
            protocol=protocol,
            port=port,
            bound=before.bound if before and before.port == port else _bound(owner, protocol, port),
            actions=before.actions if before else [],
            mutual=self._mutual(call, input, protocol, before, operation),
            attributes=before.attributes if before else {},
        )
        if "DefaultActions" in input:
            made = replace(
                made, actions=checks.actions(input["DefaultActions"], protocol, port, operation, made.actions)
            )
        if protocol not in _SECURE:
            if input.get("Certificates"):
                raise invalid(f"You cannot specify certificates for {protocol} listeners")
            if input.get("SslPolicy"):
                raise invalid(f"You cannot specify an SSL policy for {protocol} listeners")
            return made
        given = _certificates(input, operation) if "Certificates" in input else None
        if given is not None and len(given) > 1:
            raise invalid(f"Up to '1' certificate ARNs can be specified, but '{len(given)}' were specified")
        kept = before.certificates if before else []
        certificates = kept if given is None else [*given, *kept[1:]]
        if not certificates or given == []:
            if before is None:
                raise invalid(f"A certificate must be specified for {protocol} listeners")
            words = "You must provide a list containing exactly one certificate if the listener protocol is"
            raise misconfigured(f"{words} {protocol}.")
        policy = input.get("SslPolicy") or (before.ssl_policy if before else "") or policies.DEFAULT
        policies.find(policy)
        alpn = input.get("AlpnPolicy", before.alpn if before else [])
        if alpn and (protocol != "TLS" or len(alpn) > 1 or alpn[0] not in _ALPN):
            raise AwsError("ALPNPolicyNotSupportedException", f"ALPN policy '{', '.join(alpn)}' is not supported")
        return replace(made, certificates=certificates, ssl_policy=policy, alpn=alpn)

    def _mutual(self, call: Call, input: Input, protocol: str, before: Listener | None, operation: str) -> Document:
        """How clients show who they are, checked. Raises ValidationError and TrustStoreNotFound."""
        if protocol != "HTTPS":
            if input.get("MutualAuthentication", {}).get("Mode", "off") != "off":
                raise invalid(f"You cannot specify mutual authentication for {protocol} listeners")
            return {}
        wanted: Document = input.get("MutualAuthentication") or (before.mutual if before else {}) or {"Mode": "off"}
        refuse(f"{operation} with MutualAuthentication", wanted, "ClientCertificateIdentityFilters")
        mode, store = wanted.get("Mode", "off"), wanted.get("TrustStoreArn")
        if mode not in ("off", "passthrough", "verify"):
            raise invalid(f"Mutual authentication mode '{mode}' must be one of 'off, passthrough, verify'")
        if mode == "verify":
            if not store:
                raise invalid("A trust store ARN must be specified when the mutual authentication mode is 'verify'")
            self.trust_store(call, store)
        elif store or "IgnoreClientCertificateExpiry" in wanted:
            raise invalid(f"You cannot specify a trust store when the mutual authentication mode is '{mode}'")
        return {**wanted, "Mode": mode}

    def _check_port(self, owner: LoadBalancer, one: Listener, tx: Tx) -> None:
        if any(other.port == one.port and other.id != one.id for other in self.listeners_of(owner, tx)):
            words = f"A listener already exists on this port for this load balancer '{owner.arn}'"
            raise AwsError("DuplicateListenerException", words)

    def _placed(self, one: Listener) -> Listener:
        """A listener with the port on 127.0.0.1 that others with its port have."""
        place = self.shared_ports.of(one.port)
        return replace(one, shared=place if place != one.port else 0)

    def check_actions(self, call: Call, owner: LoadBalancer, protocol: str, actions: list[Document], tx: Tx) -> None:
        """Raises an error where an action's target groups are not there or cannot be used by this load balancer."""
        groups = []
        for arn in groups_of(actions):
            try:
                groups.append(self.group(call, arn, tx))
            except AwsError:
                raise AwsError("TargetGroupNotFoundException", f"Target group '{arn}' not found") from None
        users = self.users(call, tx)
        for group in groups:
            allowed = ("HTTP", "HTTPS", "") if owner.type == "application" else _COMPATIBLE[protocol]
            if group.protocol not in allowed or (group.type == "alb" and protocol != "TCP"):
                words = f"Listener protocol '{protocol}' is not supported with target group protocol '{group.protocol}'"
                raise AwsError("IncompatibleProtocolsException", words)
            if group.type != "alb" and users.get(group.arn, owner.arn) != owner.arn:
                words = "The following target groups cannot be associated with more than one load balancer"
                raise AwsError("TargetGroupAssociationLimitException", f"{words}: {group.arn}")
        if len(groups) > 1 and protocol in ("UDP", "TCP_UDP"):
            raise not_implemented(f"a forward action to several target groups of a listener with Protocol {protocol}")
        if len(groups) > 1 and any(group.type == "lambda" for group in groups):
            raise not_implemented("a forward action to several target groups of which one is of type lambda")

    def users(self, call: Call, tx: Tx | None = None) -> dict[str, str]:
        """The load balancer's ARN of each target group that is in use."""
        found: dict[str, str] = {}
        owners: dict[str, str] = {}
        for record in self.listeners.list(call.scope, "", tx):
            owners[record.value.arn] = record.value.load_balancer_arn
            found |= dict.fromkeys(groups_of(record.value.actions), record.value.load_balancer_arn)
        for rule in self.rules.list(call.scope, "", tx):
            found |= dict.fromkeys(groups_of(rule.value.actions), owners[rule.value.listener_arn])
        return found

    async def _certify(self, owner: LoadBalancer, arns: list[str]) -> None:
        for arn in arns:
            await self.controller.certificate(arn)
        for arn in arns:
            if arn.startswith(_ACM):
                manager: Any = await self.cloud.service("acm")
                await manager.use(arn, owner.arn)

    async def have_key(self, actions: list[Document]) -> None:
        """Have a key by which sessions are signed, where an action needs one."""
        raise NotImplementedError

    async def release_certificates(self, load_balancer_arn: str, arns: list[str]) -> None:
        used = {
            arn
            for record in self.listeners.all()
            if record.value.load_balancer_arn == load_balancer_arn
            for arn in record.value.certificates
        }
        for arn in arns:
            if arn not in used and arn.startswith(_ACM):
                manager: Any = await self.cloud.service("acm")
                await manager.release(arn, load_balancer_arn)

    async def _change_listener(self, call: Call, arn: str, change: Any) -> Listener:
        def write(tx: Tx) -> Listener:
            one = change(self.listener(call, arn, tx))
            key = f"{one.load_balancer_arn.rpartition('/')[2]}/{one.id}"
            return self.listeners.put(tx, call.scope, key, one).value

        stored = await self.db.write(write)
        self.changed()
        return stored


def _described(one: Listener) -> Output:
    return {
        "ListenerArn": one.arn,
        "LoadBalancerArn": one.load_balancer_arn,
        "Port": one.port,
        "Protocol": one.protocol,
        "DefaultActions": checks.shown(one.actions),
        **({"Certificates": [{"CertificateArn": one.certificates[0]}]} if one.certificates else {}),
        **({"SslPolicy": one.ssl_policy} if one.ssl_policy else {}),
        **({"AlpnPolicy": one.alpn} if one.alpn else {}),
        **({"MutualAuthentication": one.mutual} if one.mutual else {}),
    }


def _certificates(input: Input, operation: str) -> list[str]:
    for one in input["Certificates"]:
        if "IsDefault" in one and operation != "ModifyListener":
            raise invalid("You cannot specify 'IsDefault' for a certificate")
    return list(dict.fromkeys(one["CertificateArn"] for one in input["Certificates"]))


def _bound(owner: LoadBalancer, protocol: str, port: int) -> int:
    """The port that can really be had: another one where the user may not bind it, or all addresses have it."""
    kind = socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM
    if owner.address == sharing.ADDRESS:
        return sharing.free_port(owner.address, kind=kind)
    with socket.socket(type=kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Not at its own address: there a listener that has just been deleted may still have the port for a moment.
            probe.bind((_NEIGHBOUR, port))
        except OSError:
            return sharing.free_port(owner.address, kind=kind)
    return port


async def _answers(address: str, port: int) -> None:
    """Wait until the proxy has taken up a new listener: a few milliseconds, at most a second."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.005)
        else:
            writer.close()
            return


def _check_proxy() -> None:
    from cloudlet.engines.proxies.envoy import binary

    try:
        binary()
    except ProxyMissing as missing:
        raise AwsError("ServiceUnavailable", str(missing), status=503) from None
