"""What all operations of CloudWatch Logs stand on: the database, the groups in it, and who follows them."""

from __future__ import annotations

from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input
from cloudlet.services.logs import records
from cloudlet.services.logs.following import Followers
from cloudlet.services.logs.records import Group, MetricFilter, QueryDefinition, ResourcePolicy, SubscriptionFilter
from cloudlet.services.pages import place_of
from cloudlet.store import Database, Resources, Tx

_CHUNK = 500  # events that are deleted in one go, so that other writers need not wait long
_DAY = 86_400.0
_HOUR = 3600.0


class Base(api.Service):
    """The state of the service."""

    name = "logs"

    db: Database
    groups: Resources[Group]
    subscriptions: Resources[SubscriptionFilter]
    metrics: Resources[MetricFilter]
    policies: Resources[ResourcePolicy]
    definitions: Resources[QueryDefinition]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("logs", records.MIGRATIONS)
        self.groups = self.db.resources(Group)
        self.subscriptions = self.db.resources(SubscriptionFilter)
        self.metrics = self.db.resources(MetricFilter)
        self.policies = self.db.resources(ResourcePolicy)
        self.definitions = self.db.resources(QueryDefinition)
        self.followers = Followers()
        self._newest = await self.db.read(records.newest)
        self._expiries: dict[int, Timer] = {}
        groups = {record.value.volume: record for record in self.groups.all()}
        for volume in await self.db.read(records.volumes):
            if volume not in groups:
                self.cloud.spawn(self.sweep_group(volume), f"logs sweeps {volume}")
        for volume, stream in await self.db.read(records.gone_streams):
            if volume in groups:
                self.cloud.spawn(self.sweep_stream(volume, stream), f"logs sweeps {volume}/{stream}")
        for record in groups.values():
            if record.value.retention:
                await self.plan_expiry(record.scope, record.value)

    async def stop(self) -> None:
        for timer in self._expiries.values():
            timer.cancel()

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.clock.now() * 1000)

    def new_ids(self, count: int) -> int:
        """The first of some ids that no event has: microseconds, or the next ones where the clock is too slow."""
        first = max(int(self.clock.now() * 1e6), self._newest + 1)
        self._newest = first + count - 1
        return first

    def group(self, scope: str, name: str, tx: Tx | None = None) -> Group:
        """A group by its name. Raises ResourceNotFoundException."""
        record = self.groups.get(scope, name, tx)
        if record is None:
            raise no_such_group()
        return record.value

    def group_of(self, call: Call, input: Input) -> Group:
        """The group that a request names by its name or its identifier, which may be an ARN."""
        name, identifier = input.get("logGroupName"), input.get("logGroupIdentifier")
        if name is not None and identifier is not None:
            raise AwsError(
                "ValidationException", "LogGroup name and LogGroup ARN are mutually exclusive parameters.", status=400
            )
        if name is None and identifier is None:
            raise AwsError(
                "InvalidParameterException", "Exactly one of logGroupName or logGroupIdentifier must be specified."
            )
        if name is not None:
            return self.group(call.scope, name)
        assert identifier is not None
        return self.identified(call, identifier)

    def identified(self, call: Call, identifier: str) -> Group:
        """The group of a name or an ARN, with or without ``:*``. Raises ResourceNotFoundException."""
        if not identifier.startswith("arn:"):
            return self.group(call.scope, identifier)
        parts = identifier.split(":")
        if len(parts) < 7 or parts[2] != "logs" or parts[5] != "log-group":
            raise AwsError("InvalidParameterException", f"Invalid log group identifier: {identifier}")
        return self.group(f"{parts[4]}/{parts[3]}", parts[6])

    def cutoff(self, group: Group) -> int:
        """The timestamp before which a group's events are past its retention; they are not shown any more."""
        return int((self.clock.now() - group.retention * _DAY) * 1000) if group.retention else 0

    async def plan_expiry(self, scope: str, group: Group) -> None:
        """Delete a group's events once they are past its retention: the first of them sets the timer, once an hour."""
        if (timer := self._expiries.pop(group.volume, None)) is not None:
            timer.cancel()
        oldest = await self.db.read(lambda tx: records.oldest(tx, group.volume)) if group.retention else None
        if oldest is not None:
            self._expire_at(scope, group, oldest / 1000 + group.retention * _DAY)

    def expects(self, scope: str, group: Group, oldest: int) -> None:
        """Events were stored: see that a timer waits for their end."""
        if group.volume not in self._expiries:
            self._expire_at(scope, group, oldest / 1000 + group.retention * _DAY)

    def _expire_at(self, scope: str, group: Group, when: float) -> None:
        def due() -> None:
            self.cloud.spawn(self._expire(scope, group.name, group.volume), f"logs expires {group.name}")

        self._expiries[group.volume] = self.clock.call_at(max(when, self.clock.now()), due)

    async def _expire(self, scope: str, name: str, volume: int) -> None:
        record = self.groups.get(scope, name)
        if record is None or record.value.volume != volume or not record.value.retention:
            self._expiries.pop(volume, None)
            return
        group = record.value
        before = self.cutoff(group)
        while await self.db.write(lambda tx: records.drop_older(tx, volume, before, _CHUNK), long=True):
            pass
        oldest = await self.db.read(lambda tx: records.oldest(tx, volume))
        self._expiries.pop(volume, None)
        if oldest is not None:
            self._expire_at(scope, group, max(oldest / 1000 + group.retention * _DAY, self.clock.now() + _HOUR))

    async def sweep_group(self, volume: int) -> None:
        """Delete what a deleted group has left behind."""
        if (timer := self._expiries.pop(volume, None)) is not None:
            timer.cancel()
        while await self.db.write(lambda tx: records.drop_older(tx, volume, 2**62, _CHUNK), long=True):
            pass
        await self.db.write(lambda tx: records.forget_volume(tx, volume), long=True)

    async def sweep_stream(self, volume: int, stream: int) -> None:
        """Delete the events of a deleted stream."""
        while await self.db.write(lambda tx: records.drop_of_stream(tx, volume, stream, _CHUNK), long=True):
            pass


def no_such_group() -> AwsError:
    """The log group is not there."""
    return AwsError("ResourceNotFoundException", "The specified log group does not exist.")


def no_such_stream() -> AwsError:
    """The log stream is not there."""
    return AwsError("ResourceNotFoundException", "The specified log stream does not exist.")


def read_token(token: str, *types: type) -> list[Any]:
    """The place of a token. Raises InvalidParameterException."""
    return place_of(token, types, AwsError("InvalidParameterException", "The specified nextToken is invalid."))
