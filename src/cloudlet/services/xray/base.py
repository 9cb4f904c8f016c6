"""What all of X-Ray stands on: the database, and segments that are gathered off the path of a request."""

from __future__ import annotations

import base64
import binascii
from functools import partial

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Input
from cloudlet.services.xray import records, segments
from cloudlet.services.xray.records import Document, Encryption, Group, SamplingRule, Segment
from cloudlet.store import Database, Resources

_FORGOTTEN_AT_ONCE = 200


class Base(api.Service):
    """The state of the service."""

    name = "xray"

    db: Database
    rules: Resources[SamplingRule]
    groups: Resources[Group]
    encryption: Resources[Encryption]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("xray", records.MIGRATIONS)
        self.rules = self.db.resources(SamplingRule)
        self.groups = self.db.resources(Group)
        self.encryption = self.db.resources(Encryption)
        self._gathered: list[Segment] = []
        self._sweeper: Timer | None = None
        if (oldest := await self.db.read(records.oldest)) is not None:
            self._sweep_at(oldest + records.KEPT)

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._flush()

    async def store(self, taken: list[Segment]) -> None:
        """Keep segments; returns when they are safe."""
        if not taken:
            return
        now = self.clock.now()
        await self.db.write(partial(records.add, segments=taken, now=now), long=len(taken) > 10)
        if self._sweeper is None:
            self._sweep_at(now + records.KEPT)

    def record(self, scope: str, *documents: Document) -> None:
        """Keep segments of ours, soon."""
        for one in documents:
            self.take(segments.segment_of(scope, {**one, "name": segments.possible_name(one["name"])}))

    def take(self, segment: Segment) -> None:
        """Keep a segment soon, with others: whoever reports it does not wait."""
        if not self._gathered:
            self.cloud.spawn(self._flush(), "traces are stored")
        self._gathered.append(segment)

    async def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        await self.store(gathered)

    def _sweep_at(self, when: float) -> None:
        self._sweeper = self.clock.call_at(when, lambda: self.cloud.spawn(self._sweep(), "old traces are forgotten"))

    async def _sweep(self) -> None:
        before = self.clock.now() - records.KEPT
        while await self.db.write(partial(records.forget, before=before, limit=_FORGOTTEN_AT_ONCE), long=True):
            pass
        self._sweeper = None
        if (oldest := await self.db.read(records.oldest)) is not None:
            self._sweep_at(oldest + records.KEPT)


def page_token(at: float, id: str) -> str:
    """Where a listing goes on."""
    return base64.urlsafe_b64encode(msgspec.json.encode((at, id))).decode()


def page_after(input: Input) -> tuple[float, str]:
    """The place that a token names; the very first without one. Raises InvalidRequestException."""
    if not input.get("NextToken"):
        return 0.0, ""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(input["NextToken"]), type=tuple[float, str])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise AwsError("InvalidRequestException", "Invalid NextToken") from None
