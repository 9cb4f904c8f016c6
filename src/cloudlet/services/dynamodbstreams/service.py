"""DynamoDB Streams: the reading side of DynamoDB's streams. Each has one shard."""

from __future__ import annotations

import base64
import json
from typing import Any

from msgspec import Raw

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb.base import place_of
from cloudlet.services.dynamodb.records import Stream
from cloudlet.services.dynamodb.streams import decode_record, number_of, sequence_of, shard_of

_ITERATOR_LIVES = 15 * 60.0
_PAGE = 1024 * 1024  # bytes of one GetRecords
_AT_MOST = 1000
_LISTED = 100


class Service(api.Service):
    """A shard iterator is a place in a stream: the sequence after which to read on."""

    name = "dynamodbstreams"

    async def ListStreams(self, call: Call, input: Input) -> Output:
        dynamodb: Any = await self.cloud.service("dynamodb")
        found: list[Stream] = dynamodb.streams_of(call.scope, input.get("TableName", ""))
        after = input.get("ExclusiveStartStreamArn", "")
        if after:
            _check_arn(after)
        limit = min(input.get("Limit", _LISTED), _LISTED)
        found = [stream for stream in found if stream.arn > after]
        output: Output = {
            "Streams": [
                {"StreamArn": stream.arn, "TableName": stream.table, "StreamLabel": stream.label}
                for stream in found[:limit]
            ]
        }
        if len(found) > limit:
            output["LastEvaluatedStreamArn"] = found[limit - 1].arn
        return output

    async def DescribeStream(self, call: Call, input: Input) -> Output:
        stream = await self._stream(input["StreamArn"])
        shard = shard_of(stream)
        if (wanted := input.get("ShardFilter")) is not None and not {"Type", "ShardId"} <= wanted.keys():
            raise AwsError("ValidationException", "ShardFilter must have both a Type and a ShardId")
        range = {"StartingSequenceNumber": number_of(stream.first)}
        if stream.closed:
            range["EndingSequenceNumber"] = number_of(stream.last)
        return {
            "StreamDescription": {
                "StreamArn": stream.arn,
                "StreamLabel": stream.label,
                "StreamStatus": "DISABLED" if stream.closed else "ENABLED",
                "StreamViewType": stream.view,
                "CreationRequestDateTime": stream.created,
                "TableName": stream.table,
                "KeySchema": stream.keys,
                "Shards": [{"ShardId": shard, "SequenceNumberRange": range}]
                # No shard is ever split, so that none has children to filter for.
                if input.get("ExclusiveStartShardId", "") < shard and "ShardFilter" not in input
                else [],
            }
        }

    async def GetShardIterator(self, call: Call, input: Input) -> Output:
        stream = await self._stream(input["StreamArn"])
        if input["ShardId"] != shard_of(stream):
            raise AwsError(
                "ResourceNotFoundException",
                f"Requested resource not found: Shard: {input['ShardId']} in Stream: {stream.arn} not found",
            )
        dynamodb: Any = await self.cloud.service("dynamodb")
        kind = input["ShardIteratorType"]
        if kind in ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP") and "SequenceNumber" in input:
            raise AwsError("ValidationException", f"SequenceNumber is not allowed with {kind}")
        after = stream.first - 1
        if kind == "LATEST":
            after = await dynamodb.newest(stream)
        elif kind == "AT_TIMESTAMP":
            if "Timestamp" not in input:
                raise AwsError("ValidationException", "Timestamp is required for AT_TIMESTAMP")
            after = max(after, int(input["Timestamp"] * 1e6) - 1)
        elif kind != "TRIM_HORIZON":
            after = _given(input, kind) - (kind == "AT_SEQUENCE_NUMBER")
            if after < dynamodb.horizon() and call.request is not None:
                # A function's event source goes on with what there still is.
                raise AwsError(
                    "TrimmedDataAccessException",
                    "The operation attempted to read past the oldest stream record in a shard.",
                )
        return {"ShardIterator": self._iterator(stream, after)}

    async def GetRecords(self, call: Call, input: Input) -> Output:
        arn, after, made = _read_iterator(input["ShardIterator"])
        if made + _ITERATOR_LIVES < self.clock.now():
            raise AwsError("ExpiredIteratorException", "Iterator expired: the iterator is older than 15 minutes.")
        stream = await self._stream(arn)
        dynamodb: Any = await self.cloud.service("dynamodb")
        limit = input.get("Limit", _AT_MOST)
        if limit > _AT_MOST:
            raise AwsError(
                "ValidationException",
                f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must "
                f"have value less than or equal to {_AT_MOST}",
            )
        found: list[tuple[int, bytes]] = await dynamodb.changes(stream, after, limit)
        found = _page(found)
        if found:
            after = found[-1][0]
        output: Output = {
            "Records": [Raw(body) if call.request is not None else decode_record(body) for _, body in found]
        }
        if not stream.closed or after < stream.last:
            # A closed shard that was read to its end has no further iterator.
            output["NextShardIterator"] = self._iterator(stream, after)
        if stream.closed and not found:
            output.pop("NextShardIterator", None)
        return output

    async def _stream(self, arn: str) -> Stream:
        dynamodb: Any = await self.cloud.service("dynamodb")
        _check_arn(arn)
        stream: Stream | None = await dynamodb.stream(arn)
        if stream is None:
            raise AwsError("ResourceNotFoundException", f"Requested resource not found: Stream: {arn} not found")
        return stream

    def _iterator(self, stream: Stream, after: int) -> str:
        place = json.dumps([after, self.clock.now()]).encode()
        return f"{stream.arn}|1|{base64.b64encode(place).decode()}"


def _check_arn(arn: str) -> None:
    try:
        place_of(arn)
    except AwsError:
        raise AwsError("ValidationException", f"Invalid StreamArn: {arn}") from None


def _given(input: Input, kind: str) -> int:
    if "SequenceNumber" not in input:
        raise AwsError("ValidationException", f"SequenceNumber is required for {kind}")
    try:
        return sequence_of(input["SequenceNumber"])
    except ValueError:
        raise AwsError("ValidationException", f"Invalid SequenceNumber: {input['SequenceNumber']}") from None


def _read_iterator(text: str) -> tuple[str, int, float]:
    """The stream, the sequence and the time of an iterator. Raises ValidationException."""
    try:
        arn, _, place = text.split("|")
        after, made = json.loads(base64.b64decode(place, validate=True))
        return arn, int(after), float(made)
    except (ValueError, TypeError):
        raise AwsError("ValidationException", "Invalid ShardIterator") from None


def _page(found: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """As many records as one answer holds."""
    size = 0
    for number, (_, body) in enumerate(found):
        size += len(body)
        if size > _PAGE and number:
            return found[:number]
    return found
