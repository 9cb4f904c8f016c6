"""Logs: Envoy writes lines of JSON, which go to S3 in AWS's form (``formats.py``)."""

from __future__ import annotations

import asyncio
import gzip
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.elbv2 import envoy, formats
from cloudlet.services.elbv2.attributes import load_balancer_attributes
from cloudlet.services.elbv2.controller import Controller
from cloudlet.services.elbv2.records import LoadBalancer

log = logging.getLogger("cloudlet.elbv2")

_FLUSH = 2.0  # seconds after which Envoy has written what it held back
# The kind of a log: the attributes that it belongs to, and what its files' names begin with.
_KINDS = {
    formats.REQUESTS: ("access_logs", ""),
    formats.FLOWS: ("access_logs", ""),
    formats.CONNECTIONS: ("connection_logs", "conn_log."),
}


class Logs:
    """Takes what was written since the last time and delivers it."""

    def __init__(self, cloud: Cloud, controller: Controller, world: Callable[[], envoy.World]) -> None:
        self._cloud = cloud
        self._controller = controller
        self._world = world

    async def deliver(self) -> None:
        """Give every load balancer's lines to its bucket; what cannot be delivered is kept for the next time."""
        world = self._world()
        folders = [folder for kind in _KINDS if (folder := Path(world.logs, kind)).is_dir()]
        files = [file for folder in folders for file in folder.iterdir() if not file.suffix and file.stat().st_size]
        for file in files:
            file.rename(file.with_name(f"{file.name}.{secrets.token_hex(4)}"))
        if files:
            await self._controller.admin("/reopen_logs", "POST")
            await asyncio.sleep(_FLUSH)
        owners = {one.id: one for one in world.load_balancers}
        groups = {group.id: group for group in world.groups}
        for file in [file for folder in folders for file in folder.iterdir() if file.suffix]:
            owner, kind = owners.get(file.stem), file.parent.name
            if owner is not None and _is_on(owner, kind) and not file.with_suffix("").exists():
                continue  # Envoy may still write to it
            if owner is None or await self._put(formats.Context(owner, groups, self._cloud.clock.offset), kind, file):
                file.unlink()

    async def _put(self, of: formats.Context, kind: str, file: Path) -> bool:
        attributes, owner = load_balancer_attributes(of.owner), of.owner
        attribute, _ = _KINDS[kind]
        name = key(owner, kind, attributes[f"{attribute}.s3.prefix"], self._cloud.clock.now())
        body = await asyncio.to_thread(_packed, of, kind, file)
        try:
            put = {"Bucket": attributes[f"{attribute}.s3.bucket"], "Key": name, "Body": body}
            await self._cloud.call("s3", "PutObject", put, account=owner.account, region=owner.region)
        except AwsError as error:
            log.warning("a log of %s cannot be delivered: %s", owner.name, error)
            return False
        return True


def key(owner: LoadBalancer, kind: str, prefix: str, now: float) -> str:
    """The key of a log file that is delivered now."""
    time = datetime.fromtimestamp(now, UTC)
    start = f"{prefix}/" if prefix else ""
    where = f"{start}AWSLogs/{owner.account}/elasticloadbalancing/{owner.region}/{time:%Y/%m/%d}"
    name = f"{_KINDS[kind][1]}{owner.account}_elasticloadbalancing_{owner.region}_{owner.path.replace('/', '.')}"
    if owner.type == "network":
        return f"{where}/{name}_{time:%Y%m%dT%H%MZ}_{secrets.token_hex(4)}.log.gz"
    return f"{where}/{name}_{time:%Y%m%dT%H%MZ}_{owner.address}_{secrets.token_hex(4)}.log.gz"


def _is_on(owner: LoadBalancer, kind: str) -> bool:
    return load_balancer_attributes(owner).get(f"{_KINDS[kind][0]}.s3.enabled") == "true"


def _packed(of: formats.Context, kind: str, file: Path) -> bytes:
    lines = []
    for text in file.read_bytes().splitlines():
        try:
            lines.append(formats.LINES[kind](of, msgspec.json.decode(text)))
        except msgspec.DecodeError:
            continue  # cut off by a kill
    return gzip.compress("".join(lines).encode(), mtime=0)
