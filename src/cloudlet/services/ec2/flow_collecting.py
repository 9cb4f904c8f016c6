"""Flow logs at work: counts of packets become records, which are delivered.

An interface is counted while a flow log covers it (``flow_counting.py``). When the shortest interval of its logs has
passed, the next window begins, and what the last one counted is delivered. The kernel keeps the counts through a kill;
they are delivered when the interface is taken up again.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import secrets
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cloudlet.control.clock import Timer
from cloudlet.engines.containers.network import NetworkError, command
from cloudlet.errors import AwsError
from cloudlet.services.ec2 import flow_counting, flow_records
from cloudlet.services.ec2.base import Base
from cloudlet.services.ec2.firewall import TABLE
from cloudlet.services.ec2.flow_counting import Window
from cloudlet.services.ec2.kinds import FLOW_LOG
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World
from cloudlet.services.loglines import LogLines

if TYPE_CHECKING:
    from cloudlet.services.ec2.guarding import Member
    from cloudlet.store import Record

log = logging.getLogger("cloudlet.ec2")

DELIVERY = "delivery.logs.amazonaws.com"
Lines = dict[tuple[str, str], list[tuple[str, int, str]]]  # scope and log -> interface, start, record


class Collector:
    """Counts what the guard says, and delivers."""

    def __init__(self, service: Base) -> None:
        self._service = service
        self._clock = service.clock
        self._log_lines = LogLines(service.cloud, DELIVERY, makes=lambda group: True)
        self._counted: dict[tuple[str, str], Record[Member]] = {}
        self._begun: dict[tuple[str, str], float] = {}  # when the window of each began
        self._timer: Timer | None = None
        self._turning = asyncio.Lock()

    def covering(self, scope: str, member: Member) -> list[Item]:
        """The flow logs of a member's interface."""
        world = self._service.world(scope)
        if not member.interface or not (logs := world.all(FLOW_LOG)):
            return []
        interface = world.find(member.interface)
        shown = interface.shown if interface is not None else {}
        ids = (member.interface, shown.get("SubnetId"), shown.get("VpcId"))
        return [log for log in logs if log.shown["ResourceId"] in ids]

    async def count(self, record: Record[Member]) -> None:
        """A member's rules are those of one who is counted: begin. Raises NetworkError."""
        key = (record.scope, record.name)
        self._counted[key] = record
        if key not in self._begun:
            lines: Lines = defaultdict(list)
            await self._turn(record, lines)  # a kill may have left a window behind
            await self._deliver(lines)
        self._plan()

    async def leave(self, scope: str, name: str, is_over: bool = False) -> None:
        """A member is not counted any more; where it ends (``is_over``), its last window is delivered."""
        record = self._counted.pop((scope, name), None)
        if record is not None and is_over:
            lines: Lines = defaultdict(list)
            await self._turn(record, lines)
            await self._deliver(lines)
        self._begun.pop((scope, name), None)

    def stop(self) -> None:
        """Deliver no more; the kernel goes on counting."""
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if due := [self._due(record) for record in self._counted.values()]:
            self._timer = self._clock.call_at(
                min(due), lambda: self._service.cloud.spawn(self._turn_all(), "flow logs")
            )

    def _due(self, record: Record[Member]) -> float:
        logs = self.covering(record.scope, record.value)
        shortest = min((log.shown["MaxAggregationInterval"] for log in logs), default=600)
        return self._begun.get((record.scope, record.name), self._clock.now()) + float(shortest)

    async def _turn_all(self) -> None:
        lines: Lines = defaultdict(list)
        for record in [one for one in self._counted.values() if self._due(one) <= self._clock.now()]:
            await self._turn(record, lines)
        self._plan()
        await self._deliver(lines)

    async def _turn(self, record: Record[Member], lines: Lines) -> None:
        """Begin a member's next window and take the records of those before."""
        key, now = (record.scope, record.name), int(self._clock.now())
        async with self._turning:
            began, self._begun[key] = self._begun.get(key), float(now)
            try:
                found = await _windows(record.value.namespace, now)
                if not found and began is not None and began < now:
                    found = [Window(int(began), [], True)]  # its sets are gone
            except NetworkError as error:
                log.warning("the packets of %s were not counted: %s", record.value.interface, error)
                found = [] if began is None else [Window(int(began), [], True)]
            for window in found:
                self._take(record, window, now, lines)

    def _take(self, record: Record[Member], window: Window, end: int, lines: Lines) -> None:
        member, world = record.value, self._service.world(record.scope)
        known = _known(world, member)
        for covering in self.covering(record.scope, member):
            shown = covering.shown
            format, wanted = shown["LogFormat"], shown["TrafficType"]
            start = max(window.start, int(shown["CreationTime"]))
            mine = [one for one in window.flows if wanted in ("ALL", "ACCEPT" if one.is_accepted else "REJECT")]
            texts = [flow_records.line(format, known, start, end, "OK", flow) for flow in mine]
            if window.is_full:
                texts.append(flow_records.line(format, known, start, end, "SKIPDATA"))
            elif not window.flows:
                texts.append(flow_records.line(format, known, start, end, "NODATA"))
            lines[record.scope, covering.id] += [(member.interface, start, text) for text in texts]

    async def _deliver(self, lines: Lines) -> None:
        for (scope, id), records in lines.items():
            item = self._service.world(scope).find(id)
            if item is None or not records:
                continue
            failed = ""
            try:
                if item.shown["LogDestinationType"] == "s3":
                    await self._to_bucket(scope, item, records)
                else:
                    await self._to_group(scope, item, records)
            except AwsError as error:
                log.warning("records of %s are lost: %s", id, error)
                failed = "Access error"
            if failed != item.hidden.get("failed", ""):
                await self._service.write(scope, lambda world, id=id, failed=failed: _mark(world, id, failed))  # type: ignore[misc]

    async def _to_group(self, scope: str, item: Item, records: list[tuple[str, int, str]]) -> None:
        account, region = scope.split("/")
        by_interface = defaultdict(list)
        for interface, start, text in records:
            by_interface[interface].append((start * 1000, text))
        for interface, events in by_interface.items():
            stream = f"{interface}-{item.shown['TrafficType'].lower()}"
            await self._log_lines.put((account, region, item.shown["LogGroupName"], stream), events)

    async def _to_bucket(self, scope: str, item: Item, records: list[tuple[str, int, str]]) -> None:
        bucket, _, prefix = item.shown["LogDestination"].removeprefix("arn:aws:s3:::").partition("/")
        header = " ".join(flow_records.fields(item.shown["LogFormat"]))
        text = "\n".join([header, *(text for _, _, text in records)]) + "\n"
        body = await asyncio.to_thread(gzip.compress, text.encode(), mtime=0)
        key = object_key(scope, item, prefix.strip("/"), self._clock.now())
        account, region = scope.split("/")
        input = {"Bucket": bucket, "Key": key, "Body": body}
        await self._service.cloud.call("s3", "PutObject", input, account=account, region=region, principal=DELIVERY)


def object_key(scope: str, item: Item, prefix: str, now: float) -> str:
    """The key of a file that is delivered now."""
    account, region = scope.split("/")
    time, options = datetime.fromtimestamp(now, UTC), item.shown["DestinationOptions"]
    if options["HiveCompatiblePartitions"]:
        where = f"aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/year={time:%Y/month=%m/day=%d}"
        where += f"/hour={time:%H}" if options["PerHourPartition"] else ""
    else:
        where = f"{account}/vpcflowlogs/{region}/{time:%Y/%m/%d}"
        where += f"/{time:%H}" if options["PerHourPartition"] else ""
    name = f"{account}_vpcflowlogs_{region}_{item.id}_{time:%Y%m%dT%H%MZ}_{secrets.token_hex(4)}.log.gz"
    return "/".join(part for part in (prefix, "AWSLogs", where, name) if part)


async def _windows(namespace: str, now: int) -> list[Window]:
    """Begin a window in a network namespace, and what those before have counted. Raises NetworkError."""
    nft = ("nsenter", f"--net={namespace}", "nft")
    await command(*nft, "-f", "-", given=flow_counting.begin(now))
    listed = json.loads(await command(*nft, "--json", "list", "table", "ip", TABLE))
    found = [one for one in flow_counting.windows(listed) if one.start != now]
    if found:
        await command(*nft, "-f", "-", given=flow_counting.end(one.start for one in found))
    return found


def _known(world: World, member: Member) -> dict[str, str]:
    """The fields of an interface that its records have in common."""
    account, region = world.scope.split("/")
    interface = world.find(member.interface)
    shown = interface.shown if interface is not None else {}
    subnet = world.find(shown.get("SubnetId", ""))
    known = {"account-id": account, "interface-id": member.interface, "region": region, **member.described}
    known |= {"vpc-id": shown["VpcId"], "subnet-id": shown["SubnetId"]} if shown else {}
    return known | ({"az-id": subnet.shown["AvailabilityZoneId"]} if subnet is not None else {})


def _mark(world: World, id: str, failed: str) -> None:
    if (item := world.find(id)) is not None:
        world.change(item, hidden={"failed": failed})
