"""The operations on log streams."""

from __future__ import annotations

import re

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs import records
from cloudlet.services.logs.base import Base, no_such_stream, read_token
from cloudlet.services.logs.records import Group, Stream
from cloudlet.services.pages import token_of
from cloudlet.store import Tx

_PAGE = 50
_NAME = re.compile(r"[^:*]+")


class Streams(Base):
    """Operations on log streams."""

    async def CreateLogStream(self, call: Call, input: Input) -> Output:
        name = input["logStreamName"]
        if _NAME.fullmatch(name) is None:
            raise AwsError(
                "InvalidParameterException",
                f"1 validation error detected: Value '{name}' at 'logStreamName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: [^:*]*",
            )

        def create(tx: Tx) -> None:
            group = self.group(call.scope, input["logGroupName"], tx)
            if not records.create_stream(tx, group.volume, name, self.now()):
                raise AwsError("ResourceAlreadyExistsException", "The specified log stream already exists")

        await self.db.write(create)
        return {}

    async def DeleteLogStream(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> tuple[int, int]:
            group = self.group(call.scope, input["logGroupName"], tx)
            stream = records.stream(tx, group.volume, input["logStreamName"])
            if stream is None:
                raise no_such_stream()
            records.delete_stream(tx, group.volume, stream.number)
            return group.volume, stream.number

        volume, number = await self.db.write(delete)
        self.cloud.spawn(self.sweep_stream(volume, number), f"logs sweeps {volume}/{number}")
        return {}

    async def DescribeLogStreams(self, call: Call, input: Input) -> Output:
        group = self.group_of(call, input)
        by_time = input.get("orderBy") == "LastEventTime"
        descending, limit = input.get("descending", False), input.get("limit", _PAGE)
        prefix = input.get("logStreamNamePrefix", "")
        if by_time and prefix:
            raise AwsError("InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.")
        token = input.get("nextToken")

        def find(tx: Tx) -> list[Stream]:
            if by_time:
                place = read_token(token, int, str) if token else None
                after = (place[0], place[1]) if place else None
                return records.streams_by_time(tx, group.volume, after, descending, limit + 1)
            name = read_token(token, str)[0] if token else None
            return records.streams_by_name(tx, group.volume, prefix, name, descending, limit + 1)

        found = await self.db.read(find)
        output: Output = {"logStreams": [_shown(group, stream) for stream in found[:limit]]}
        if len(found) > limit:
            last = found[limit - 1]
            output["nextToken"] = token_of(last.last or 0, last.name) if by_time else token_of(last.name)
        return output


def _shown(group: Group, stream: Stream) -> Output:
    shown: Output = {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": f"{group.arn}:log-stream:{stream.name}",
        "storedBytes": 0,  # AWS: always, since 2019
    }
    if stream.first is not None and stream.last is not None:
        shown["firstEventTimestamp"] = stream.first
        shown["lastEventTimestamp"] = stream.last
        shown["lastIngestionTime"] = stream.newest // 1000
        shown["uploadSequenceToken"] = f"{stream.newest:056d}"
    return shown
