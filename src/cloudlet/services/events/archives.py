"""Archives, which keep a bus's events, and replays, which send them again."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.events import records
from cloudlet.services.events.base import page, pattern_of
from cloudlet.services.events.errors import invalid, not_found
from cloudlet.services.events.publishing import DAY, Publishing
from cloudlet.services.events.records import Archive, Replay
from cloudlet.store import Tx

_CHUNK = 100  # events that are sent again together
_ACTIVE = frozenset(("STARTING", "RUNNING"))


class Archives(Publishing):
    """Operations on archives and replays."""

    async def start(self) -> None:
        await super().start()
        for record in self._replays.all():
            if record.value.state in _ACTIVE:
                self.cloud.spawn(self._replay(record.value), f"replay {record.name}")

    async def CreateArchive(self, call: Call, input: Input) -> Output:
        name, source = input["ArchiveName"], input["EventSourceArn"]
        bus = self._bus(call, source)
        pattern = input.get("EventPattern", "")
        if pattern:
            pattern_of(pattern)
        archive = Archive(
            call.account,
            call.region,
            name,
            secrets.token_hex(8),
            bus.arn,
            self.clock.now(),
            pattern,
            input.get("Description", ""),
            input.get("RetentionDays", 0),
            input.get("KmsKeyIdentifier", ""),
        )

        def create(tx: Tx) -> None:
            if self._archives.get(call.scope, name, tx) is not None:
                raise AwsError("ResourceAlreadyExistsException", f"Archive {name} already exists.")
            self._archives.put(tx, call.scope, name, archive)

        await self._db.write(create)
        self._listen_archive(archive)
        return _made(archive)

    async def UpdateArchive(self, call: Call, input: Input) -> Output:
        archive = self._archive(call, input["ArchiveName"])
        if pattern := input.get("EventPattern", ""):
            pattern_of(pattern)
        fields = {
            field: input[name]
            for name, field in (
                ("Description", "description"),
                ("EventPattern", "pattern"),
                ("RetentionDays", "days"),
                ("KmsKeyIdentifier", "kms_key"),
            )
            if name in input
        }

        def update(tx: Tx) -> Archive:
            record = self._archives.get(archive.scope, archive.name, tx)
            if record is None:
                raise not_found(f"Archive {archive.name} does not exist.")
            changed = replace(record.value, **fields)
            self._archives.put(tx, archive.scope, archive.name, changed)
            return changed

        changed = await self._db.write(update)
        self._listen_archive(changed)
        return _made(changed)

    async def DeleteArchive(self, call: Call, input: Input) -> Output:
        archive = self._archive(call, input["ArchiveName"])

        def delete(tx: Tx) -> None:
            self._archives.delete(tx, archive.scope, archive.name)
            records.drop_archive(tx, archive.number)

        await self._db.write(delete, long=True)
        self._of_bus(archive.source).archives.pop(archive.name, None)
        return {}

    async def DescribeArchive(self, call: Call, input: Input) -> Output:
        archive = self._archive(call, input["ArchiveName"])
        shown = {
            **await self._shown_archive(archive),
            "ArchiveArn": archive.arn,
            "Description": archive.description,
            "EventPattern": archive.pattern,
            "KmsKeyIdentifier": archive.kms_key,
        }
        return {key: value for key, value in shown.items() if value != ""}

    async def ListArchives(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self._archives.list(call.scope, input.get("NamePrefix", ""))]
        _one_filter(input)
        if (source := input.get("EventSourceArn")) is not None:
            self._bus(call, source)
            found = [archive for archive in found if archive.source == source]
        if input.get("State", "ENABLED") != "ENABLED":
            found = []
        start, end, token = page([archive.name for archive in found], input)
        return {"Archives": [await self._shown_archive(archive) for archive in found[start:end]], **token}

    async def _shown_archive(self, archive: Archive) -> dict[str, Any]:
        count, size = await self._db.read(lambda tx: records.archive_size(tx, archive.number))
        return {
            "ArchiveName": archive.name,
            "EventSourceArn": archive.source,
            "State": "ENABLED",
            "RetentionDays": archive.days,
            "SizeBytes": size,
            "EventCount": count,
            "CreationTime": archive.created,
        }

    def _archive(self, call: Call, name: str) -> Archive:
        record = self._archives.get(call.scope, name)
        if record is None:
            raise not_found(f"Archive {name} does not exist.")
        return record.value

    async def StartReplay(self, call: Call, input: Input) -> Output:
        name, source, destination = input["ReplayName"], input["EventSourceArn"], input["Destination"]
        begin, end = input["EventStartTime"], input["EventEndTime"]
        if ":event-bus/" not in destination["Arn"]:
            raise invalid("Parameter Destination.Arn is not valid. Reason: Must contain an event bus ARN.")
        bus = self._bus(call, destination["Arn"])
        if begin >= end:
            reason = "EventStartTime must be before EventEndTime."
            raise invalid(f"Parameter EventEndTime is not valid. Reason: {reason}")
        archive = self._archives.get(call.scope, source.rpartition("/")[2])
        if archive is None or archive.value.arn != source:
            reason = f"Archive {source.rpartition('/')[2]} does not exist."
            raise invalid(f"Parameter EventSourceArn is not valid. Reason: {reason}")
        if bus.arn != archive.value.source:
            reason = "Cross event bus replay is not permitted."
            raise invalid(f"Parameter Destination.Arn is not valid. Reason: {reason}")
        if days := archive.value.days:
            begin = max(begin, self.clock.now() - days * DAY)  # older ones are as good as gone
        replay = Replay(
            call.account,
            call.region,
            name,
            source,
            archive.value.number,
            destination,
            input["EventStartTime"],
            end,
            self.clock.now(),
            description=input.get("Description", ""),
            at=begin,
            id=-1,
        )

        def create(tx: Tx) -> None:
            if self._replays.get(call.scope, name, tx) is not None:
                raise AwsError("ResourceAlreadyExistsException", f"Replay {name} already exists.")
            self._replays.put(tx, call.scope, name, replay)

        await self._db.write(create)
        self.cloud.spawn(self._replay(replay), f"replay {name}")
        return {"ReplayArn": replay.arn, "State": replay.state, "ReplayStartTime": replay.started}

    async def _replay(self, replay: Replay) -> None:
        """Send the archived events of a time again, some at once; what was sent is remembered after each lot."""
        only = frozenset(replay.destination.get("FilterArns", ())) or None
        place = (replay.at, replay.id)
        state = "RUNNING"
        while state == "RUNNING":
            events = await self._db.scan(
                lambda tx, place=place: records.archived(tx, replay.number, place, replay.end, _CHUNK)  # type: ignore[misc]
            )
            sent = [
                (replay.destination["Arn"], {**msgspec.json.decode(event.event), "replay-name": replay.name})
                for event in events
            ]
            await self._accept(sent, only)
            if events:
                place = (events[-1].at, events[-1].id)
            if len(events) < _CHUNK:
                state = "COMPLETED"
            if not await self._progress(replay, place, state):
                return

    async def _progress(self, replay: Replay, place: tuple[float, int], state: str) -> bool:
        """Remember how far a replay is; False when it was cancelled."""
        now = self.clock.now()

        def save(tx: Tx) -> bool:
            record = self._replays.get(replay.scope, replay.name, tx)
            if record is None or record.value.state not in _ACTIVE:
                return False
            ended = now if state == "COMPLETED" else 0.0
            changed = replace(record.value, at=place[0], id=place[1], state=state, ended=ended)
            self._replays.put(tx, replay.scope, replay.name, changed)
            return True

        return await self._db.write(save)

    async def CancelReplay(self, call: Call, input: Input) -> Output:
        replay = self._replay_of(call, input["ReplayName"])
        now = self.clock.now()

        def cancel(tx: Tx) -> Replay:
            record = self._replays.get(call.scope, replay.name, tx)
            if record is None or record.value.state not in _ACTIVE:
                raise AwsError(
                    "IllegalStatusException", f"Replay {replay.name} is not in a valid state for this operation."
                )
            changed = replace(record.value, state="CANCELLED", ended=now)
            self._replays.put(tx, call.scope, replay.name, changed)
            return changed

        changed = await self._db.write(cancel)
        return {"ReplayArn": changed.arn, "State": changed.state}

    async def DescribeReplay(self, call: Call, input: Input) -> Output:
        replay = self._replay_of(call, input["ReplayName"])
        shown = {**_shown_replay(replay), "ReplayArn": replay.arn, "Destination": replay.destination}
        return shown | ({"Description": replay.description} if replay.description else {})

    async def ListReplays(self, call: Call, input: Input) -> Output:
        _one_filter(input)
        found = [record.value for record in self._replays.list(call.scope, input.get("NamePrefix", ""))]
        for name, field in (("State", "state"), ("EventSourceArn", "archive")):
            if name in input:
                found = [replay for replay in found if getattr(replay, field) == input[name]]
        start, end, token = page([replay.name for replay in found], input)
        return {"Replays": [_shown_replay(replay) for replay in found[start:end]], **token}

    def _replay_of(self, call: Call, name: str) -> Replay:
        record = self._replays.get(call.scope, name)
        if record is None:
            raise not_found(f"Replay {name} does not exist.")
        return record.value


def _one_filter(input: Input) -> None:
    if sum(name in input for name in ("NamePrefix", "State", "EventSourceArn")) > 1:
        raise invalid(
            "At most one filter is allowed for ListArchives. Use either : State, EventSourceArn, or NamePrefix."
        )


def _made(archive: Archive) -> Output:
    return {"ArchiveArn": archive.arn, "State": "ENABLED", "CreationTime": archive.created}


def _shown_replay(replay: Replay) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ReplayName": replay.name,
        "EventSourceArn": replay.archive,
        "State": replay.state,
        "EventStartTime": replay.begin,
        "EventEndTime": replay.end,
        "ReplayStartTime": replay.started,
    }
    if replay.id >= 0:
        shown["EventLastReplayedTime"] = replay.at
    if replay.ended:
        shown["ReplayEndTime"] = replay.ended
    return shown
