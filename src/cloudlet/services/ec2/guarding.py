"""Security groups in force: what has an address of its own here is guarded in its network namespace.

Who runs something says so by ``protect`` and ``release``, and load balancers by ``represent``. That is stored, so
that the members of a group are known again before all of them have been taken up after a restart; the rules
themselves are the kernel's and stay meanwhile. A change of a group, a rule or a member is an event that leads to a new
plan.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from functools import partial

import msgspec

from cloudlet.control.reconcile import Reconciler, Step
from cloudlet.engines.containers.network import HostReach, NetworkError, command
from cloudlet.services.ec2 import firewall, rules
from cloudlet.services.ec2.base import Base
from cloudlet.services.ec2.firewall import Peer
from cloudlet.services.ec2.flow_collecting import Collector
from cloudlet.services.ec2.kinds import FLOW_LOG, INTERFACE, PREFIX_LIST, RULE, SECURITY_GROUP, SUBNET
from cloudlet.services.ec2.world import World
from cloudlet.store import Record, Resources
from cloudlet.store.api import Compacted

log = logging.getLogger("cloudlet.ec2")

_WATCHED = (RULE, SECURITY_GROUP, PREFIX_LIST, SUBNET, FLOW_LOG)


class Member(msgspec.Struct, frozen=True):
    """What has security groups. Without an address it is a load balancer, which speaks from this machine."""

    groups: list[str]
    subnets: list[str]
    address: str = ""
    namespace: str = ""  # the path of its network namespace, where the rules are
    gateway: str = ""  # this machine's address as it sees it
    proxies: list[tuple[int, int]] = []  # ports of sidecars, each with the port that it stands for
    interface: str = ""  # the id of its network interface
    described: dict[str, str] = {}  # fields of flow logs that say what it is


class Guarding(Base):
    """Who is guarded, and that it is: by the service's ``guard``."""

    guard: Guard

    async def start(self) -> None:
        await super().start()
        self.guard = Guard(self)
        self.guard.start()

    async def stop(self) -> None:
        await self.guard.stop()
        await super().stop()


class Guard:
    """Keeps the rules of all members as the groups say."""

    def __init__(self, service: Base) -> None:
        self._service = service
        self._collector = Collector(service)
        self._members: Resources[Member] = service.db.resources(Member)
        self._in_force: dict[tuple[str, str], str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._reconciler: Reconciler | None = None
        self._follower: asyncio.Task[None] | None = None
        self._has_said_why = False

    def start(self) -> None:
        """Take up what was guarded."""
        if any(record.value.namespace for record in self._members.all()):
            self._begin()

    async def stop(self) -> None:
        """Look after nothing any more; the rules stay."""
        if self._follower is not None:
            self._follower.cancel()
        if self._reconciler is not None:
            await self._reconciler.stop()
        self._collector.stop()

    async def protect(
        self,
        account: str,
        region: str,
        name: str,
        *,
        address: str,
        namespace: str,
        gateway: str,
        subnets: Iterable[str],
        groups: Iterable[str],
        proxies: Iterable[tuple[int, int]] = (),
        interface: str = "",
        described: dict[str, str] | None = None,
    ) -> bool:
        """Guard something by its security groups, or by its VPC's default one; whether its rules are in force.

        ``proxies`` are ports of sidecars, each with the port that it stands for, and by which it is judged;
        ``described`` are fields of flow logs that say what has the ``interface``. The rules are not in force where
        this machine does not allow it (that is logged once), and where EC2 does not know the groups.
        """
        await self._service.prepare(account, region)
        if not self._may_guard():
            return False
        world = self._service.world(f"{account}/{region}")
        own = _groups(world, list(groups), list(subnets))
        member = Member(own, list(subnets), address, namespace, gateway, list(proxies), interface, described or {})
        await self._keep(world.scope, name, member)
        if self._reconciler is None:
            self._begin()
        self._in_force.pop((world.scope, name), None)  # the namespace may be another one of the same path
        await self._collector.leave(world.scope, name)
        record = self._members.get(world.scope, name)
        assert record is not None
        text = self._text(record)
        try:
            await self._enforce(record, text)
        except NetworkError as error:
            log.warning("the security groups of %s are not in force yet: %s", name, error)
        self._look_again()
        return "chain" in text and self._in_force.get((world.scope, name)) == text

    async def represent(
        self, account: str, region: str, name: str, *, subnets: Iterable[str], groups: Iterable[str]
    ) -> None:
        """Have what this machine sends count as coming from the groups and subnets of a load balancer or a function."""
        await self._keep(f"{account}/{region}", name, Member(list(groups), list(subnets)))
        self._look_again()

    async def release(self, account: str, region: str, name: str) -> None:
        """Something is there no more; that it was not known is no error."""
        scope = f"{account}/{region}"
        self._in_force.pop((scope, name), None)
        self._locks.pop(name, None)
        await self._collector.leave(scope, name, is_over=True)
        if self._members.get(scope, name) is not None:
            await self._service.db.write(lambda tx: self._members.delete(tx, scope, name))
            self._look_again()

    async def _keep(self, scope: str, name: str, member: Member) -> None:
        there = self._members.get(scope, name)
        if there is None or there.value != member:
            await self._service.db.write(lambda tx: self._members.put(tx, scope, name, member))

    def why_uncounted(self, scope: str, resource: str) -> str:
        """Why nothing counts the packets of what a flow log is for, or nothing where they are counted."""
        if self._service.cloud.config.security_groups == "none":
            return "Packets are counted where security groups are in force, and they are switched off"
        if not HostReach.possible():
            return "Packets are counted where security groups are in force: that needs root, with ip, nft and nsenter"
        there = self._service.world(scope).find(resource) if INTERFACE.has(resource) else None
        if there is None or there.shown["Status"] != "in-use":
            return ""
        if any(one.value.interface == resource for one in self._members.list(scope)):
            return ""
        return f"Nothing here counts the packets of {resource}: it is not a task's with security groups in force"

    def _may_guard(self) -> bool:
        if self._service.cloud.config.security_groups == "none":
            return False
        if not (possible := HostReach.possible()) and not self._has_said_why:
            self._has_said_why = True
            log.warning("security groups are not enforced: that needs root, with ip, nft and nsenter")
        return possible

    def _begin(self) -> None:
        self._reconciler = Reconciler("ec2-groups", self._plan, self._service.clock)
        self._reconciler.start()
        self._follower = self._service.cloud.spawn(self._follow(), "security groups")

    def _look_again(self) -> None:
        if self._reconciler is not None:
            self._reconciler.trigger()

    async def _follow(self) -> None:
        while True:
            try:
                async for change in self._service.items.watch(self._service.db.revision):
                    if any(kind.has(change.name) for kind in _WATCHED):
                        self._look_again()
            except Compacted:
                self._look_again()

    def _plan(self) -> list[Step]:
        steps = []
        for record in self._members.all():
            if record.value.namespace:
                text = self._text(record)
                if self._in_force.get((record.scope, record.name)) != text:
                    steps.append(Step(f"guard {record.name}", partial(self._enforce, record, text)))
        return steps

    def _text(self, record: Record[Member]) -> str:
        """The rules of a member, as they should be."""
        world, member = self._service.world(record.scope), record.value
        groups = [world.find(id) for id in member.groups]
        if not groups or None in groups:
            return firewall.cleared()
        own = [item.shown for group in groups if group is not None for item in rules.of_group(world, group)]
        lists = {rule["PrefixListId"] for rule in own if "PrefixListId" in rule}
        prefixes = {
            id: [entry["Cidr"] for entry in found.hidden["versions"][-1]]
            for id in sorted(lists)
            if (found := world.find(id)) is not None
        }
        peers = [
            Peer(one.value.address or member.gateway, frozenset(one.value.groups), _blocks(world, one.value.subnets))
            for one in self._members.list(record.scope)
        ]
        # What runs on this machine itself - functions, links - is taken for a member of the groups that no pod has.
        of_pods = {id for peer in peers if peer.address != member.gateway for id in peer.groups}
        named = {rule["ReferencedGroupInfo"]["GroupId"] for rule in own if "ReferencedGroupInfo" in rule}
        peers.append(Peer(member.gateway, frozenset(named - of_pods)))
        others = [pair for one in self._members.list(record.scope) for pair in one.value.proxies]
        proxies = {False: member.proxies, True: others}
        is_counted = bool(self._collector.covering(record.scope, member))
        return firewall.script(own, peers, member.gateway, prefixes, proxies, is_counted)

    async def _enforce(self, record: Record[Member], text: str) -> None:
        namespace = record.value.namespace
        async with self._locks.setdefault(record.name, asyncio.Lock()):
            if os.path.exists(namespace):
                await command("nsenter", f"--net={namespace}", "nft", "-f", "-", given=text)
            self._in_force[record.scope, record.name] = text
            if firewall.is_counted(text):
                await self._collector.count(record)
            else:
                await self._collector.leave(record.scope, record.name)


def _groups(world: World, groups: list[str], subnets: list[str]) -> list[str]:
    """The groups of an interface: without any, its VPC's default one."""
    found = world.find(subnets[0]) if subnets and not groups else None
    if found is None:
        return groups
    default = world.all(SECURITY_GROUP, VpcId=found.shown["VpcId"], GroupName="default")
    return [group.id for group in default]


def _blocks(world: World, subnets: list[str]) -> tuple[str, ...]:
    found = [world.find(id) for id in subnets]
    return tuple(one.shown["CidrBlock"] for one in found if one is not None and "CidrBlock" in one.shown)
