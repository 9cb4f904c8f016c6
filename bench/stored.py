"""Law 6: an operation costs with a million messages or items stored what it costs with none."""

from __future__ import annotations

import json
from collections.abc import Callable

from bench import load
from bench.load import Script
from bench.rows import call, item, numbered, queue_of, sqs_cycle, table
from bench.targets import Cloudlet

_ROUNDS = 3


def compare(count: int, seconds: float) -> None:
    """Print the rates of an empty and of a full cloud; both run at the same time and are measured in turns."""
    empty, full = Cloudlet(), Cloudlet()
    try:
        for target in (empty, full):
            target.start()
        print(f"storing {count:,} messages and {count:,} items ...", flush=True)
        _fill(full, count)
        _fill(empty, 2000)
        print(f"{'':26}{'empty/s':>10}{'full/s':>10}{'full/empty':>12}  goal >= 0.90")
        scripts: dict[str, Callable[[Cloudlet], Callable[[int], Script]]] = {
            "SQS send+receive+delete": sqs_cycle,
            "DynamoDB get": lambda target: _get(target, count if target is full else 2000),
            "DynamoDB query": lambda target: _query(target, count if target is full else 2000),
        }
        for name, make in scripts.items():
            rates: dict[int, list[float]] = {id(empty): [], id(full): []}
            for _ in range(_ROUNDS):
                for target in (empty, full):
                    rates[id(target)].append(load.run("127.0.0.1", target.port, make(target), 1, seconds).rate)
            before, after = (sorted(rates[id(target)])[_ROUNDS // 2] for target in (empty, full))
            print(f"{name:26}{before:>10.0f}{after:>10.0f}{after / before:>12.2f}", flush=True)
    finally:
        empty.stop()
        full.stop()


def _fill(target: Cloudlet, count: int) -> None:
    url = queue_of(target, "cycle")
    name = table(target)

    def messages(number: int) -> bytes:
        entries = [{"Id": str(index), "MessageBody": "x" * 100} for index in range(10)]
        return call(target, "sqs", "AmazonSQS", "SendMessageBatch", {"QueueUrl": url, "Entries": entries})

    def items(number: int) -> bytes:
        requests = [{"PutRequest": {"Item": item(number * 25 + index)}} for index in range(25)]
        return call(target, "dynamodb", "DynamoDB_20120810", "BatchWriteItem", {"RequestItems": {name: requests}})

    _send(target, messages, max(1, count // 10))
    _send(target, items, max(1, count // 25))


def _send(target: Cloudlet, make: Callable[[int], bytes], count: int) -> None:
    """Send a number of requests over one connection, in order."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", target.port)
    for number in range(count):
        head, _, body = make(number).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200 or json.loads(text).get("Failed") or json.loads(text).get("UnprocessedItems"):
            raise RuntimeError(f"storing failed: {answer.status} {text[:300]!r}")


def _get(target: Cloudlet, count: int) -> Callable[[int], Script]:
    def make(number: int) -> bytes:
        chosen = number * 7919 % count
        key = {"pk": item(chosen)["pk"], "sk": item(chosen)["sk"]}
        return call(target, "dynamodb", "DynamoDB_20120810", "GetItem", {"TableName": "bench", "Key": key})

    return numbered(make, 5000)


def _query(target: Cloudlet, count: int) -> Callable[[int], Script]:
    def make(number: int) -> bytes:
        document = {
            "TableName": "bench",
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": item(number * 7919 % count)["pk"]},
        }
        return call(target, "dynamodb", "DynamoDB_20120810", "Query", document)

    return numbered(make, 5000)
