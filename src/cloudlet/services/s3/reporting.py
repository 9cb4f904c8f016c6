"""What S3 tells CloudWatch: how much each bucket holds, once a day, and the requests of buckets that ask for it.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/metrics-dimensions.html
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from cloudlet.control.clock import Clock, Timer
from cloudlet.errors import AwsError
from cloudlet.observe.calls import stopwatch
from cloudlet.observe.metrics import Metrics
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import lifecycle_rules
from cloudlet.services.s3.records import EVERYWHERE, Bucket
from cloudlet.store import Database, Resources, Tx

if TYPE_CHECKING:
    from cloudlet.services.s3.buckets import Buckets

_NAMESPACE = "AWS/S3"
_HELD = """
SELECT storage, count(*), coalesce(sum(size), 0) FROM object WHERE bucket = ? GROUP BY storage
UNION ALL SELECT storage, count(*), coalesce(sum(size), 0) FROM version WHERE bucket = ? GROUP BY storage"""
# Storage class -> how CloudWatch calls it.
_STORAGE = {
    "STANDARD": "StandardStorage",
    "STANDARD_IA": "StandardIAStorage",
    "ONEZONE_IA": "OneZoneIAStorage",
    "REDUCED_REDUNDANCY": "ReducedRedundancyStorage",
    "INTELLIGENT_TIERING": "IntelligentTieringFAStorage",
    "GLACIER": "GlacierStorage",
    "GLACIER_IR": "GlacierInstantRetrievalStorage",
    "DEEP_ARCHIVE": "DeepArchiveStorage",
}
_METHODS = {"GET": "GetRequests", "PUT": "PutRequests", "DELETE": "DeleteRequests", "HEAD": "HeadRequests"}


class Daily:
    """The storage metrics of all buckets, measured off the event loop at midnight UTC; no bucket, no timer."""

    def __init__(
        self, metrics: Metrics, clock: Clock, db: Database, buckets: Resources[Bucket], spawn: Callable[..., Any]
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._db = db
        self._buckets = buckets
        self._spawn = spawn
        self._timer: Timer | None = None

    def arm(self) -> None:
        """Measure at the next midnight, where there is a bucket."""
        if self._timer is None and self._buckets.list(EVERYWHERE):
            self._timer = self._clock.call_at(lifecycle_rules.next_midnight(self._clock.now()), self._rung)

    def stop(self) -> None:
        """Nothing more happens by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _rung(self) -> None:
        self._timer = None
        self.arm()
        self._spawn(self._measure(), "s3 measures buckets")

    async def _measure(self) -> None:
        for record in self._buckets.list(EVERYWHERE):
            bucket = record.value

            def held(tx: Tx, id: int = bucket.id) -> list[tuple[str, int, int]]:
                return tx.execute(_HELD, (id, id)).fetchall()

            scope, own = f"{bucket.account}/{bucket.region}", ("BucketName", record.name)
            sizes: dict[str, int] = {}
            objects = 0
            for storage, count, size in await self._db.scan(held):
                objects += count
                sizes[storage] = sizes.get(storage, 0) + size
            for storage, size in sizes.items():
                whose = (own, ("StorageType", _STORAGE.get(storage, "StandardStorage")))
                self._metrics.add(scope, _NAMESPACE, "BucketSizeBytes", whose, size, "Bytes")
            whose = (own, ("StorageType", "AllStorageTypes"))
            self._metrics.add(scope, _NAMESPACE, "NumberOfObjects", whose, objects, "Count")


_Operation = Callable[[Any, Call, Input], Awaitable[Output]]


def reported(operation: _Operation) -> _Operation:
    """An operation whose requests are counted where its bucket has metrics configurations. Raises what it raises."""

    @functools.wraps(operation)
    async def run(self: Buckets, call: Call, input: Input) -> Output:
        record = self.buckets.get(EVERYWHERE, input.get("Bucket", "")) if call.request is not None else None
        if record is None or not record.value.settings.get("metrics"):
            return await operation(self, call, input)
        started, output, status = stopwatch(), {}, 500
        try:
            output = await operation(self, call, input)
            status = 200
            return output
        except AwsError as error:
            status = error.status or 400
            raise
        finally:
            took = (stopwatch() - started) * 1e3
            for filter in _filters(record.value, input.get("Key", "")):
                whose = (("BucketName", record.name), ("FilterId", filter))
                scope = f"{record.value.account}/{record.value.region}"
                for metric, value, unit in _values(call, output, status, took):
                    self.cloud.metrics.add(scope, _NAMESPACE, metric, whose, value, unit)

    return run


def _filters(bucket: Bucket, key: str) -> list[str]:
    """The metrics configurations that a request is counted for."""
    found: dict[str, dict[str, Any]] = bucket.settings["metrics"]
    return [id for id, one in found.items() if key.startswith((one.get("Filter") or {}).get("Prefix", ""))]


def _values(call: Call, output: Output, status: int, took: float) -> list[tuple[str, float, str]]:
    assert call.request is not None
    method = call.request.method
    if call.operation in ("ListObjects", "ListObjectsV2", "ListObjectVersions"):
        kind = "ListRequests"
    else:
        kind = _METHODS.get(method, "PostRequests")
    values = [
        ("AllRequests", 1.0, "Count"),
        (kind, 1.0, "Count"),
        ("4xxErrors", float(400 <= status < 500), "Count"),
        ("5xxErrors", float(status >= 500), "Count"),
        ("TotalRequestLatency", round(took, 2), "Milliseconds"),
    ]
    if call.operation == "GetObject" and status == 200:
        values.append(("BytesDownloaded", float(output.get("ContentLength", 0)), "Bytes"))
    if method in ("PUT", "POST") and status == 200:
        sent = call.request.headers.get("x-amz-decoded-content-length") or call.request.headers.get("content-length")
        values.append(("BytesUploaded", float(sent or 0), "Bytes"))
    return values
