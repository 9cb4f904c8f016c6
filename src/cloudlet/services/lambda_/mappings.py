"""Event source mappings: their records, and the sources that run while they are on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from cloudlet.engines.functions import Outcome
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_.asynchronous import check_destination
from cloudlet.services.lambda_.base import not_found
from cloudlet.services.lambda_.batches import Filter
from cloudlet.services.lambda_.code import invalid
from cloudlet.services.lambda_.invocations import Invocations
from cloudlet.services.lambda_.queue_source import QueueSource
from cloudlet.services.lambda_.records import Mapping
from cloudlet.services.lambda_.running import gathered
from cloudlet.services.lambda_.stream_source import StreamSource
from cloudlet.store import Record

_LAST_CHANCE = 2.0  # seconds for batches under way when the cloud stops
_COMMON = (
    *("BatchSize", "FilterCriteria", "MaximumBatchingWindowInSeconds", "FunctionResponseTypes", "KMSKeyArn"),
    "MetricsConfig",
)
_OF_QUEUES = (*_COMMON, "ScalingConfig")
_OF_STREAMS = (
    *(*_COMMON, "StartingPosition", "ParallelizationFactor", "DestinationConfig", "MaximumRecordAgeInSeconds"),
    *("BisectBatchOnFunctionError", "MaximumRetryAttempts"),
)
_STREAM_DEFAULTS = {
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 0,
    "ParallelizationFactor": 1,
    "DestinationConfig": {"OnFailure": {}},
    "MaximumRecordAgeInSeconds": -1,
    "BisectBatchOnFunctionError": False,
    "MaximumRetryAttempts": -1,
    "TumblingWindowInSeconds": 0,
}


class Mappings(Invocations):
    """The operations on event source mappings."""

    async def CreateEventSourceMapping(self, call: Call, input: Input) -> Output:
        source = input.get("EventSourceArn", "")
        if not source and "SelfManagedEventSource" not in input:
            raise invalid("Unrecognized event source.")
        scope, name, qualifier = self._reader(call, input)
        members: dict[str, Any] = {
            "UUID": str(uuid.uuid4()),
            "EventSourceArn": source,
            "FunctionArn": self.arn(scope, name, qualifier),
        }
        for record in self.mappings.list(scope):
            own = record.value.members
            if own["EventSourceArn"] == source and own["FunctionArn"] == members["FunctionArn"]:
                kind = "SQS" if ":sqs:" in source else "stream"
                words = (
                    f'An event source mapping with {kind} arn (" {source} ") and function (" {name} ") already exists. '
                    f"Please update or delete the existing mapping with UUID {own['UUID']}"
                )
                raise AwsError("ResourceConflictException", words, status=409, Type="User")
        members |= {"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0} if ":sqs:" in source else _STREAM_DEFAULTS
        await self._take(call, members, input)
        members["State"] = "Enabled" if input.get("Enabled", True) else "Disabled"
        positions = await self._first_positions(call, members)
        mapping = Mapping(members, positions, input.get("Tags", {}))
        await self._put_mapping(scope, mapping)
        return self._shown_mapping(scope, members)

    async def GetEventSourceMapping(self, call: Call, input: Input) -> Output:
        return self._shown_mapping(call.scope, self._mapping(call, input).value.members)

    async def ListEventSourceMappings(self, call: Call, input: Input) -> Output:
        found = [record.value.members for record in self.mappings.list(call.scope)]
        if source := input.get("EventSourceArn"):
            found = [members for members in found if members["EventSourceArn"] == source]
        if input.get("FunctionName"):
            arn = self.arn(*self.named(call, input))
            found = [members for members in found if members["FunctionArn"] == arn]
        return self.page("EventSourceMappings", [self._shown_mapping(call.scope, one) for one in found], input, 100)

    async def UpdateEventSourceMapping(self, call: Call, input: Input) -> Output:
        record = self._mapping(call, input)
        members = dict(record.value.members)
        if "FunctionName" in input:
            scope, name, qualifier = self._reader(call, input)
            members["FunctionArn"] = self.arn(scope, name, qualifier)
        await self._take(call, members, input)
        if "Enabled" in input:
            members["State"] = "Enabled" if input["Enabled"] else "Disabled"
        await self._put_mapping(call.scope, msgspec.structs.replace(record.value, members=members))
        return self._shown_mapping(call.scope, members)

    async def DeleteEventSourceMapping(self, call: Call, input: Input) -> Output:
        record = self._mapping(call, input)
        await self.db.write(lambda tx: self.mappings.delete(tx, call.scope, record.name))
        self._switch_off(call.scope, record.name)
        return {**self._shown_mapping(call.scope, record.value.members), "State": "Deleting"}

    # The sources that run

    def start_mappings(self) -> None:
        """Switch on what was on; once, when the service starts."""
        self._sources: dict[tuple[str, str], tuple[QueueSource | StreamSource, asyncio.Task[None]]] = {}
        for record in self.mappings.all():
            self._switch(record.scope, record.value)

    async def stop_mappings(self) -> None:
        """Read no more, and let batches under way end."""
        sources = [source for source, _ in self._sources.values()]
        for key in list(self._sources):
            self._switch_off(*key)
        await asyncio.gather(*(source.settle(_LAST_CHANCE) for source in sources))

    def _switch(self, scope: str, mapping: Mapping) -> None:
        """Run a mapping's source as the mapping now is."""
        members = mapping.members
        name = members["UUID"]
        self._switch_off(scope, name)
        if members["State"] != "Enabled":
            return
        account, region = scope.split("/", 1)
        call = Call(account, region, principal="lambda.amazonaws.com")
        _, function, qualifier = self.named(call, {"FunctionName": members["FunctionArn"]})

        async def run(event: bytes, links: Sequence[str] = ()) -> Outcome:
            version = self.version(scope, function, qualifier, choose=True)
            return await gathered(await self.run(scope, version, qualifier, event, links=links))

        async def run_aged(event: bytes, age: float) -> Outcome:
            self.reporting.count(self.reporting.level(scope, function, qualifier), "IteratorAge", round(age * 1e3))
            return await run(event)

        async def keep(shard: str, number: str) -> None:
            def work(tx: Any) -> None:
                record = self.mappings.get(scope, name, tx)
                if record is not None:
                    positions = {**record.value.positions, shard: number}
                    self.mappings.put(tx, scope, name, msgspec.structs.replace(record.value, positions=positions))

            await self.db.write(work)

        async def tell(record: dict[str, Any]) -> bool:
            target = (members.get("DestinationConfig") or {}).get("OnFailure", {}).get("Destination")
            if not target:
                return False
            level = self.reporting.level(scope, function, qualifier)
            return await self.send_record(level, target, record, "Lambda Function Invocation Result - Failure")

        def count(metric: str, value: int) -> None:
            if "EventCount" in members.get("MetricsConfig", {}).get("Metrics", ()):
                self.reporting.of_mapping(scope, name, metric, value)

        source: QueueSource | StreamSource
        if ":sqs:" in members["EventSourceArn"]:
            source = QueueSource(self.cloud, members, account, region, run, count)
        else:
            source = StreamSource(self.cloud, members, mapping.positions, account, region, run_aged, keep, tell, count)
        task = self.cloud.spawn(source.follow(), f"event source {members['EventSourceArn']}")
        self._sources[scope, name] = source, task

    def _switch_off(self, scope: str, name: str) -> None:
        running = self._sources.pop((scope, name), None)
        if running is not None:
            running[1].cancel()

    # What a mapping may be

    def _reader(self, call: Call, input: Input) -> tuple[str, str, str]:
        """Scope, name and qualifier of the function that is to have the records. Raises as Lambda does."""
        scope, name, qualifier = self.named(call, input)
        try:
            self.version(scope, name, qualifier)
        except AwsError:
            raise invalid("Function does not exist") from None
        return scope, name, qualifier

    async def _take(self, call: Call, members: dict[str, Any], input: Input) -> None:
        """Take over what a request says, once its source is seen to be there. Raises AwsError."""
        source = members["EventSourceArn"]
        where: dict[str, Any] = {"account": call.account, "region": call.region, "principal": "lambda.amazonaws.com"}
        if ":sqs:" in source:
            allowed: tuple[str, ...] = _OF_QUEUES
            try:
                request: Input = {"QueueUrl": source, "AttributeNames": ["VisibilityTimeout"]}
                queue = await self.cloud.call("sqs", "GetQueueAttributes", request, **where)
            except AwsError:
                words = (
                    "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
                    "SQS Error Message: The specified queue does not exist."
                )
                raise invalid(words) from None
            self._check_queue(members, input, int(queue["Attributes"]["VisibilityTimeout"]), source)
        elif ":dynamodb:" in source and "/stream/" in source:
            allowed = _OF_STREAMS
            await self.cloud.call("dynamodbstreams", "DescribeStream", {"StreamArn": source}, **where)
            position = input.get("StartingPosition", members.get("StartingPosition"))
            if position is None:
                words = "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
                raise invalid(words + "Member must not be null.")
            if position == "AT_TIMESTAMP":
                raise invalid(f"Unsupported starting position for arn type: {source}")
        else:
            raise not_implemented(f"event source mappings for {source or 'self-managed sources'}")
        if input.get("TumblingWindowInSeconds"):
            raise not_implemented("event source mappings with TumblingWindowInSeconds")
        if input.get("ProvisionedPollerConfig"):
            raise not_implemented("event source mappings with ProvisionedPollerConfig")
        check_destination(((input.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination"))
        Filter(input.get("FilterCriteria"))
        members |= {key: input[key] for key in allowed if key in input}
        if not members.get("ScalingConfig", True):
            del members["ScalingConfig"]
        if not members.get("MetricsConfig", {}).get("Metrics"):
            members.pop("MetricsConfig", None)
        if not (members.get("FilterCriteria") or {}).get("Filters"):
            members.pop("FilterCriteria", None)
        members["LastModified"] = self.cloud.clock.now()

    def _check_queue(self, members: dict[str, Any], input: Input, visibility: int, source: str) -> None:
        call = Call("", "")
        arn = members["FunctionArn"].split(":")
        call.account, call.region = arn[4], arn[3]
        scope, name, qualifier = self.named(call, {"FunctionName": members["FunctionArn"]})
        timeout = self.version(scope, name, qualifier).value.members["Timeout"]
        if visibility < timeout:
            raise invalid(
                f"Queue visibility timeout: {visibility} seconds is less than Function timeout: {timeout} seconds"
            )
        size = input.get("BatchSize", members["BatchSize"])
        window = input.get("MaximumBatchingWindowInSeconds", members["MaximumBatchingWindowInSeconds"])
        if source.endswith(".fifo") and (size > 10 or window):
            raise invalid("Batching window is not supported for FIFO queues." if window else "Invalid BatchSize.")
        if size > 10 and window < 1:
            raise invalid(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
            )

    async def _first_positions(self, call: Call, members: dict[str, Any]) -> dict[str, str]:
        """Where a mapping that begins with the latest record begins: after what there is now."""
        if members.get("StartingPosition") != "LATEST":
            return {}
        dynamodb: Any = await self.cloud.service("dynamodb")
        positions: dict[str, str] = await dynamodb.latest_positions(members["EventSourceArn"])
        return positions

    def _shown_mapping(self, scope: str, members: dict[str, Any]) -> dict[str, Any]:
        account, region = scope.split("/", 1)
        arn = f"arn:aws:lambda:{region}:{account}:event-source-mapping:{members['UUID']}"
        shown = {"FunctionResponseTypes": [], **members, "EventSourceMappingArn": arn}
        shown["StateTransitionReason"] = "USER_INITIATED" if ":sqs:" in members["EventSourceArn"] else "User action"
        return shown

    def _mapping(self, call: Call, input: Input) -> Record[Mapping]:
        record = self.mappings.get(call.scope, input["UUID"])
        if record is None:
            raise not_found()
        return record

    async def _put_mapping(self, scope: str, mapping: Mapping) -> None:
        await self.db.write(lambda tx: self.mappings.put(tx, scope, mapping.members["UUID"], mapping))
        self._switch(scope, mapping)
