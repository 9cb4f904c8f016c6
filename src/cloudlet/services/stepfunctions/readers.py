"""Where a distributed Map has its items from, and where it writes its results to."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable
from itertools import zip_longest
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.stepfunctions.data import Visit
from cloudlet.services.stepfunctions.errors import StateFailed

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]  # an operation of S3
_LIST, _GET = "arn:aws:states:::s3:listObjectsV2", "arn:aws:states:::s3:getObject"
_PUT = "arn:aws:states:::s3:putObject"
_FORMATS = ("CSV", "JSON", "JSONL")
_DELIMITERS = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}


def check(fields: dict[str, Any]) -> None:
    """Raises NotImplemented for what a distributed Map of Cloudlet cannot read or write."""
    reader = fields.get("ItemReader") or {}
    if reader.get("Resource", _LIST) not in (_LIST, _GET):
        raise not_implemented(f"Map states with an ItemReader of {reader['Resource']}")
    config = reader.get("ReaderConfig") or {}
    if reader.get("Resource") == _GET and config.get("InputType") not in _FORMATS:
        raise not_implemented(f"an ItemReader with the InputType {config.get('InputType')}")
    if "Transformation" in config:
        raise not_implemented("an ItemReader with a Transformation")
    if (fields.get("ResultWriter") or {}).get("Resource", _PUT) != _PUT:
        raise not_implemented(f"Map states with a ResultWriter of {fields['ResultWriter']['Resource']}")


async def read(visit: Visit, ask: Ask) -> list[Any]:
    """The items that a state's ItemReader names. Raises StateFailed."""
    reader = visit.state.fields["ItemReader"]
    where, config = part(visit, reader, "ItemReader"), reader.get("ReaderConfig") or {}
    most = _number(visit, config, "MaxItems") or None  # 0 is no limit
    try:
        if reader["Resource"] == _LIST:
            items = await _listed(where, ask, most)
        else:
            body = (await ask("GetObject", where))["Body"]
            text = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
            items = await asyncio.to_thread(_parsed, text.decode("utf-8-sig"), config)
    except (AwsError, ValueError, KeyError, csv.Error) as error:
        said = error.message if isinstance(error, AwsError) else str(error)
        raise StateFailed("States.ItemReaderFailed", f"Attempting to read the items failed: {said}") from error
    return items[:most] if most is not None else items


async def _listed(where: dict[str, Any], ask: Ask, most: int | None) -> list[Any]:
    found: list[Any] = []
    more: dict[str, Any] = {}
    while True:
        page = await ask("ListObjectsV2", {**where, **more})
        for entry in page.get("Contents", []):
            found.append(
                {
                    "Etag": entry.get("ETag", ""),
                    "Key": entry["Key"],
                    "LastModified": int(entry["LastModified"]),
                    "Size": entry["Size"],
                    "StorageClass": entry.get("StorageClass", "STANDARD"),
                }
            )
        if not page.get("IsTruncated") or (most is not None and len(found) >= most):
            return found
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _parsed(text: str, config: dict[str, Any]) -> list[Any]:
    match config["InputType"]:
        case "JSON":
            items = msgspec.json.decode(text)
            for name in str(config.get("ItemsPointer", "")).split("/")[1:]:
                items = items[name.replace("~1", "/").replace("~0", "~")]
            if isinstance(items, dict):
                items = [{"Key": key, "Value": value} for key, value in items.items()]
            if not isinstance(items, list):
                raise ValueError("the JSON is not an array")
            return items
        case "JSONL":
            return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
    rows = csv.reader(io.StringIO(text), delimiter=_DELIMITERS[config.get("CSVDelimiter", "COMMA")])
    headers = config["CSVHeaders"] if config.get("CSVHeaderLocation") == "GIVEN" else next(rows, [])
    return [dict(zip_longest(headers, row[: len(headers)], fillvalue="")) for row in rows]


def batched(visit: Visit, items: list[Any]) -> list[Any]:
    """The items in batches, where the state has an ItemBatcher."""
    batcher = visit.state.fields.get("ItemBatcher")
    if batcher is None:
        return items
    most = _number(visit, batcher, "MaxItemsPerBatch") or len(items) or 1
    largest = _number(visit, batcher, "MaxInputBytesPerBatch") or 256 * 1024
    given = batcher.get("BatchInput")
    if given is not None:
        given = visit.evaluate(given, "BatchInput") if visit.state.jsonata else visit.template(given, visit.effective())
    extra = {"BatchInput": given} if given is not None else {}
    batches: list[list[Any]] = []
    size = 0
    for item in items:
        length = len(msgspec.json.encode(item)) + 1
        if not batches or len(batches[-1]) >= most or size + length > largest:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += length
    return [{**extra, "Items": batch} for batch in batches]


async def write(visit: Visit, ask: Ask, map_run: str, ended: list[dict[str, Any]], outputs: list[Any]) -> Any:
    """Write the results as ResultWriter says; the state's result. Raises StateFailed.

    ``ended`` are the descriptions of the child executions, ``outputs`` what those have given that succeeded.
    """
    writer = visit.state.fields.get("ResultWriter")
    if writer is None:
        return outputs
    config = writer.get("WriterConfig") or {}
    if "Resource" not in writer:
        return _shaped(outputs, ended, config)
    where = part(visit, writer, "ResultWriter")
    prefix = f"{where.get('Prefix', '').rstrip('/')}/{map_run.rpartition(':')[2]}".lstrip("/")
    lines = config.get("OutputType") == "JSONL"
    files: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    try:
        for status in ("FAILED", "SUCCEEDED"):
            mine = [one for one in ended if (one["Status"] == "SUCCEEDED") == (status == "SUCCEEDED")]
            if not mine:
                continue
            shaped = _shaped(outputs, mine, config) if status == "SUCCEEDED" else mine
            body = b"\n".join(msgspec.json.encode(one) for one in shaped) if lines else msgspec.json.encode(shaped)
            key = f"{prefix}/{status}_0.{'jsonl' if lines else 'json'}"
            await ask("PutObject", {"Bucket": where["Bucket"], "Key": key, "Body": body})
            files[status].append({"Key": key, "Size": len(body)})
        manifest = {"DestinationBucket": where["Bucket"], "MapRunArn": map_run, "ResultFiles": files}
        key = f"{prefix}/manifest.json"
        await ask("PutObject", {"Bucket": where["Bucket"], "Key": key, "Body": msgspec.json.encode(manifest)})
    except (AwsError, KeyError) as error:
        raise StateFailed("States.ResultWriterFailed", f"Failed to write the results: {error}") from error
    return {"MapRunArn": map_run, "ResultWriterDetails": {"Bucket": where["Bucket"], "Key": key}}


def _shaped(outputs: list[Any], ended: list[dict[str, Any]], config: dict[str, Any]) -> list[Any]:
    match config.get("Transformation", "NONE"):
        case "COMPACT":
            return outputs
        case "FLATTEN":
            return [one for output in outputs for one in (output if isinstance(output, list) else [output])]
    return ended


def part(visit: Visit, fields: dict[str, Any], field: str) -> dict[str, Any]:
    """The parameters of a reader or writer."""
    if visit.state.jsonata:
        found = visit.evaluate(fields.get("Arguments", {}), f"{field}/Arguments")
    else:
        found = visit.template(fields.get("Parameters", {}), visit.effective())
    if not isinstance(found, dict):
        raise visit.failed(f"The parameters of {field} are not an object")
    return found


def _number(visit: Visit, fields: dict[str, Any], name: str) -> int | None:
    if f"{name}Path" in fields:
        return int(visit.resolve(fields[f"{name}Path"], visit.effective(), f"{name}Path"))
    value = fields.get(name)
    if visit.state.jsonata and value is not None:
        value = visit.evaluate(value, name)
    return int(value) if value is not None else None
