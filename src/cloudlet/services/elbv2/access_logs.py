"""Access logs: Envoy writes lines of JSON, which go to S3 in AWS's form.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.elbv2 import envoy
from cloudlet.services.elbv2.controller import Controller
from cloudlet.services.elbv2.records import LoadBalancer, TargetGroup, load_balancer_attributes

log = logging.getLogger("cloudlet.elbv2")

_FLUSH = 2.0  # seconds after which Envoy has written what it held back


class AccessLogs:
    """Takes what was written since the last time and delivers it."""

    def __init__(self, cloud: Cloud, controller: Controller, world: Callable[[], envoy.World]) -> None:
        self._cloud = cloud
        self._controller = controller
        self._world = world

    async def deliver(self) -> None:
        """Give every load balancer's lines to its bucket; what cannot be delivered is kept for the next time."""
        world = self._world()
        folder = Path(world.logs)
        if not folder.is_dir():
            return
        files = [file for file in folder.iterdir() if not file.suffix and file.stat().st_size]
        for file in files:
            file.rename(file.with_name(f"{file.name}.{secrets.token_hex(4)}"))
        if files:
            await self._controller.admin("/reopen_logs", "POST")
            await asyncio.sleep(_FLUSH)
        owners = {one.id: one for one in world.load_balancers}
        groups = {group.id: group for group in world.groups}
        logging_now = [
            one for one in owners.values() if load_balancer_attributes(one)["access_logs.s3.enabled"] == "true"
        ]
        for file in [file for file in folder.iterdir() if file.suffix]:
            if owners.get(file.stem) in logging_now and not file.with_suffix("").exists():
                continue  # Envoy may still write to it
            owner = owners.get(file.stem)
            if owner is None or await self._put(owner, groups, file):
                file.unlink()

    async def _put(self, owner: LoadBalancer, groups: Mapping[str, TargetGroup], file: Path) -> bool:
        attributes = load_balancer_attributes(owner)
        bucket = attributes["access_logs.s3.bucket"]
        now = self._cloud.clock.now()
        body = await asyncio.to_thread(_packed, owner, groups, file, self._cloud.clock.offset)
        try:
            put = {"Bucket": bucket, "Key": key(owner, attributes["access_logs.s3.prefix"], now), "Body": body}
            await self._cloud.call("s3", "PutObject", put, account=owner.account, region=owner.region)
        except AwsError as error:
            log.warning("the access log of %s cannot be delivered: %s", owner.name, error)
            return False
        return True


def key(owner: LoadBalancer, prefix: str, now: float) -> str:
    """The key of a log file that is delivered now."""
    time = datetime.fromtimestamp(now, UTC)
    start = f"{prefix}/" if prefix else ""
    where = f"{start}AWSLogs/{owner.account}/elasticloadbalancing/{owner.region}/{time:%Y/%m/%d}"
    name = f"{owner.account}_elasticloadbalancing_{owner.region}_{owner.path.replace('/', '.')}"
    return f"{where}/{name}_{time:%Y%m%dT%H%MZ}_{owner.address}_{secrets.token_hex(4)}.log.gz"


def _packed(owner: LoadBalancer, groups: Mapping[str, TargetGroup], file: Path, offset: float) -> bytes:
    lines = []
    for text in file.read_bytes().splitlines():
        try:
            lines.append(line(owner, groups, msgspec.json.decode(text), offset))
        except msgspec.DecodeError:
            continue  # cut off by a kill
    return gzip.compress("".join(lines).encode(), mtime=0)


def line(owner: LoadBalancer, groups: Mapping[str, TargetGroup], seen: dict[str, Any], offset: float = 0.0) -> str:
    """One request as AWS writes it: pure. ``offset`` is how far the cloud's clock is ahead of the machine's."""
    begun = float(seen["time"]) + offset
    took = [seen.get(part) for part in ("received_us", "target_us", "sent_us")]
    ended = begun + sum(part for part in took if part) / 1e6
    target = seen.get("target") or "-"
    group = groups.get(seen.get("group") or "")
    scheme = "https" if seen.get("tls") else "http"
    kind = {"HTTP/2": "h2"}.get(seen["protocol"], scheme) if scheme == "https" else "http"
    status, rule = seen["status"], seen.get("rule")
    has_answer = target != "-"
    parts = [
        kind,
        _time(ended),
        owner.path,
        seen["client"],
        target,
        *(f"{part / 1e6:.3f}" if part is not None and has_answer else "-1" for part in took),
        str(status or "-"),
        str(status) if has_answer and seen.get("flags") == "-" else "-",
        str(seen["bytes_in"]),
        str(seen["bytes_out"]),
        f'"{seen["method"] or "-"} {scheme}://{seen["authority"] or "-"}{seen["path"] or "-"} {seen["protocol"]}"',
        f'"{seen.get("agent") or "-"}"',
        seen.get("cipher") or "-",
        seen.get("tls") or "-",
        group.arn if group else "-",
        f'"{seen.get("trace") or "-"}"',
        f'"{seen.get("sni") or "-"}"',
        '"-"',
        rule if rule is not None else "-",
        _time(begun),
        f'"{_action(seen)}"',
        f'"{seen.get("location") or "-"}"' if not has_answer else '"-"',
        '"-"',
        f'"{target}"',
        f'"{status if has_answer else "-"}"',
        '"-"',
        '"-"',
    ]
    return " ".join(parts) + "\n"


def _action(seen: dict[str, Any]) -> str:
    if seen.get("group"):
        return "forward"
    return "redirect" if seen.get("location") else "fixed-response"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
