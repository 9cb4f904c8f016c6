"""The operations on messages: send, receive, delete, and their batches."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.sqs import fifo, messages, records
from cloudlet.services.sqs.base import Base
from cloudlet.services.sqs.messages import LARGEST_BATCH, Draft, View, invalid
from cloudlet.services.sqs.records import Queue, Taken
from cloudlet.store import Tx

_ENTRIES_AT_MOST = 10
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_ATTEMPT = re.compile(r"[!-~]{1,128}")
_LONGEST_VISIBILITY = 43_200
_LARGE = 256 * 1024  # bytes from which a write has a thread


class Delivery(Base):
    """Operations on messages."""

    async def SendMessage(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        draft = messages.read(queue, input)
        ((id, message_id),) = await self._send(call, queue, [draft])
        return _sent(queue, draft, id, message_id)

    async def SendMessageBatch(self, call: Call, input: Input) -> Output:
        queue, entries = self._queue(call, input["QueueUrl"]), input["Entries"]
        _check_entries(entries, "SendMessageBatchRequestEntry")
        drafts: list[tuple[str, Draft]] = []
        failed: list[dict[str, Any]] = []
        size = 0
        for entry in entries:
            try:
                drafts.append((entry["Id"], messages.read(queue, entry)))
            except AwsError as error:
                if error.code == "MissingParameter":
                    raise AwsError("InvalidParameterValue", error.message) from None
                if "ContentBasedDeduplication" in error.message:
                    raise
                failed.append(_failure(entry["Id"], error))
                size += len(entry["MessageBody"].encode())
        size += sum(draft.size for _, draft in drafts)
        if size > LARGEST_BATCH:
            raise AwsError(
                "BatchRequestTooLong",
                f"Batch requests cannot be longer than {LARGEST_BATCH} bytes. You have sent {size} bytes.",
            )
        stored = await self._send(call, queue, [draft for _, draft in drafts]) if drafts else []
        successful = [
            {"Id": entry_id, **_sent(queue, draft, id, message_id)}
            for (entry_id, draft), (id, message_id) in zip(drafts, stored, strict=True)
        ]
        return _batch(successful, failed)

    async def _send(self, call: Call, queue: Queue, drafts: list[Draft]) -> list[tuple[int, str]]:
        """Store messages; the id and message id of each."""
        if trace := traces.header_of(call):
            drafts = [draft.within(trace) for draft in drafts]
        now = self.clock.now()
        first, sender = self._new_id(now, len(drafts)), _sender(call)
        rows = [
            (
                queue.number,
                id,
                now + draft.delay,
                _new_message_id(),
                draft.md5,
                sender,
                draft.group if queue.fifo else None,
                records.pack(draft.extra) if draft.extra is not None else None,
                draft.body,
            )
            for id, draft in enumerate(drafts, first)
        ]
        large = sum(draft.size for draft in drafts) > _LARGE
        if queue.fifo:
            stored = await self._db.write(
                lambda tx: [
                    fifo.send(tx, queue, row, draft.deduplication_id, now)
                    for row, draft in zip(rows, drafts, strict=True)
                ],
                long=large,
            )
        else:
            await self._db.write(lambda tx: records.insert(tx, rows), long=large)
            stored = [(row[1], row[3]) for row in rows]
        self._bells.ring(queue.identity)
        self._reports.sent(queue, [draft.size for draft in drafts])
        return stored

    async def ReceiveMessage(self, call: Call, input: Input) -> Output:
        url = input["QueueUrl"]
        queue = self._queue(call, url)
        limit, visibility, wait = input.get("MaxNumberOfMessages", 1), input.get("VisibilityTimeout"), None
        if not 1 <= limit <= _ENTRIES_AT_MOST:
            raise invalid(limit, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
        if visibility is not None and not 0 <= visibility <= _LONGEST_VISIBILITY:
            raise invalid(visibility, "VisibilityTimeout", "Must be >= 0 and <= 43200, if provided.")
        if (wait := input.get("WaitTimeSeconds", queue.wait)) and not 0 <= wait <= 20:
            raise invalid(wait, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")
        attempt = input.get("ReceiveRequestAttemptId", "")
        if attempt and (not queue.fifo or _ATTEMPT.fullmatch(attempt) is None):
            raise invalid(
                attempt,
                "ReceiveRequestAttemptId",
                "ReceiveRequestAttemptId can only include alphanumeric and punctuation characters. 1 to 128 in length."
                if queue.fifo
                else "The request include parameter that is not valid for this queue type.",
            )
        view = View(queue, input)
        taken, now = await self._take(queue, limit, visibility, attempt)
        if not taken.messages and wait:
            taken, now = await self._wait(call, url, wait, limit, visibility, attempt)
        self._reports.received(queue, len(taken.messages))
        if not taken.messages:
            return {}
        return {"Messages": [view.show(row, now) for row in taken.messages]}

    async def _wait(
        self, call: Call, url: str, wait: float, limit: int, visibility: int | None, attempt: str
    ) -> tuple[Taken, float]:
        """Receive the first messages that come within ``wait`` seconds, unless the client goes away."""
        deadline = self.clock.now() + wait
        queue = self._queue(call, url)
        gone = asyncio.ensure_future(call.request.gone()) if call.request is not None else None
        try:
            with self._bells.listen(queue.identity) as bell:
                while True:
                    heard = bell.rings
                    queue = self._queue(call, url)
                    taken, now = await self._take(queue, limit, visibility, attempt)
                    if taken.messages:
                        bell.ring()
                    if taken.messages or now >= deadline:
                        return taken, now
                    until = deadline if taken.next_at is None else min(deadline, taken.next_at)
                    if not await bell.hear(heard, until, gone):
                        return taken, now
        finally:
            if gone is not None:
                gone.cancel()

    async def _take(self, queue: Queue, limit: int, visibility: int | None, attempt: str = "") -> tuple[Taken, float]:
        """Receive what is there now, after expiring and dead-lettering what has to be; also says when that was."""
        while True:
            dead_letter = self._queue_at(queue.dead_letter_arn) if queue.dead_letter_arn else None
            now = self.clock.now()
            until = now + (queue.visibility if visibility is None else visibility)
            taken = await self._take_once(queue, dead_letter, now, limit, until, attempt)
            if taken.stale:
                await self._expire(queue)
                continue
            if taken.dead_lettered and dead_letter is not None:
                self._bells.ring(dead_letter.identity)
                if not taken.messages:
                    continue
            return taken, now

    def _take_once(
        self, queue: Queue, dead_letter: Queue | None, now: float, limit: int, until: float, attempt: str
    ) -> Awaitable[Taken]:
        if not queue.fifo:
            return self._db.write(lambda tx: records.take(tx, queue, dead_letter, now, limit, until))
        new_ids = count(self._new_id(now, limit * limit) if dead_letter is not None else 0)
        return self._db.write(lambda tx: fifo.take(tx, queue, dead_letter, now, limit, until, new_ids, attempt))

    async def DeleteMessage(self, call: Call, input: Input) -> Output:
        await self._delete(self._queue(call, input["QueueUrl"]), input)
        return {}

    async def DeleteMessageBatch(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        return await _each(input["Entries"], "DeleteMessageBatchRequestEntry", lambda entry: self._delete(queue, entry))

    async def _delete(self, queue: Queue, input: Input) -> None:
        handle = input["ReceiptHandle"]
        id, receives = records.read_receipt(queue, handle)
        if not queue.fifo:
            # A message that was received again since stays: its newest receiver answers for it.
            await self._db.write(lambda tx: records.delete(tx, queue.number, id, receives))
            self._reports.deleted(queue, 1)
            return
        now = self.clock.now()

        def delete(tx: Tx) -> None:
            state = records.flight(tx, queue.number, id)
            if state is None:
                return
            if state.receives != receives or state.visible_at <= now:
                raise invalid(handle, "ReceiptHandle", "The receipt handle has expired.")
            records.delete(tx, queue.number, id, receives)
            assert state.lane is not None
            fifo.settle(tx, queue.number, state.lane)

        await self._db.write(delete)
        self._reports.deleted(queue, 1)
        self._bells.ring(queue.identity)

    async def ChangeMessageVisibility(self, call: Call, input: Input) -> Output:
        await self._change_visibility(self._queue(call, input["QueueUrl"]), input)
        return {}

    async def ChangeMessageVisibilityBatch(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        return await _each(
            input["Entries"],
            "ChangeMessageVisibilityBatchRequestEntry",
            lambda entry: self._change_visibility(queue, entry),
        )

    async def _change_visibility(self, queue: Queue, input: Input) -> None:
        handle = input["ReceiptHandle"]
        id, receives = records.read_receipt(queue, handle)
        if (timeout := input.get("VisibilityTimeout")) is None:
            raise messages.missing("VisibilityTimeout")
        if not 0 <= timeout <= _LONGEST_VISIBILITY:
            raise invalid(timeout, "VisibilityTimeout", "Must be between 0 and 43200.")
        now = self.clock.now()

        def change(tx: Tx) -> None:
            state = records.flight(tx, queue.number, id)
            # Of a standard queue's message, every receipt handle is good for this, also one of an earlier receive.
            if state is None or (queue.fifo and state.receives != receives):
                reason = "Message does not exist or is not available for visibility timeout change."
                raise invalid(handle, "ReceiptHandle", reason)
            if not state.received_at:
                raise AwsError("MessageNotInflight", f"The message referred to by {handle} isn't in flight.")
            if queue.fifo and state.visible_at <= now:
                raise invalid(handle, "ReceiptHandle", "The receipt handle has expired.")
            if int(now - state.received_at) + timeout > _LONGEST_VISIBILITY:
                raise invalid(
                    timeout,
                    "VisibilityTimeout",
                    "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
                )
            records.show(tx, queue.number, id, now + timeout, state.received_at if timeout else 0.0)
            if state.lane is not None:
                fifo.settle(tx, queue.number, state.lane)

        await self._db.write(change)
        self._bells.ring(queue.identity)


def _sent(queue: Queue, draft: Draft, id: int, message_id: str) -> Output:
    """What a sender is told of its message."""
    output: Output = {"MD5OfMessageBody": draft.md5, "MessageId": message_id}
    if draft.attributes_md5:
        output["MD5OfMessageAttributes"] = draft.attributes_md5
    if draft.trace_md5:
        output["MD5OfMessageSystemAttributes"] = draft.trace_md5
    if queue.fifo:
        output["SequenceNumber"] = fifo.sequence_number(id)
    return output


def _new_message_id() -> str:
    """A random UUID; nobody gains by guessing one, and the system's own randomness costs several times as much."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _sender(call: Call) -> str:
    """The SenderId: the account of a root user, else what the caller's ARN names."""
    principal = call.principal
    if not principal or principal.endswith(":root"):
        return call.account
    return principal.partition("/")[2].replace("/", ":") or principal


async def _each(entries: list[dict[str, Any]], kind: str, act: Callable[[dict[str, Any]], Awaitable[None]]) -> Output:
    """Do the same with each entry of a batch; they share a commit. One that fails is told apart from the others."""
    _check_entries(entries, kind)
    outcomes = await asyncio.gather(*(act(entry) for entry in entries), return_exceptions=True)
    successful: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, AwsError):
            failed.append(_failure(entry["Id"], outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            successful.append({"Id": entry["Id"]})
    return _batch(successful, failed)


def _batch(successful: list[dict[str, Any]], failed: list[dict[str, Any]]) -> Output:
    """A batch's answer, without the list that is empty, as AWS leaves it out."""
    lists = {"Successful": successful, "Failed": failed}
    return {name: entries for name, entries in lists.items() if entries}


def _failure(entry_id: str, error: AwsError) -> dict[str, Any]:
    message = error.message.replace("parameters are invalid", "parameters cannot be validated")
    return {"Id": entry_id, "SenderFault": True, "Code": error.code, "Message": message}


def _check_entries(entries: list[dict[str, Any]], kind: str) -> None:
    if not entries:
        raise AwsError("EmptyBatchRequest", f"There should be at least one {kind} in the request.")
    if len(entries) > _ENTRIES_AT_MOST:
        raise AwsError(
            "TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {_ENTRIES_AT_MOST}. You have sent {len(entries)}.",
        )
    seen: set[str] = set()
    for entry in entries:
        if _ENTRY_ID.fullmatch(entry["Id"]) is None:
            raise AwsError(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
                "It can be at most 80 letters long.",
            )
        if entry["Id"] in seen:
            raise AwsError("BatchEntryIdsNotDistinct", f"Id {entry['Id']} repeated.")
        seen.add(entry["Id"])
