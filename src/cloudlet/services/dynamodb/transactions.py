"""Transactions: all or nothing, told in reasons, and done once for one client token."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import records, writing
from cloudlet.services.dynamodb.batches import Batches
from cloudlet.services.dynamodb.capacity import Usage
from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.expressions import Expressions
from cloudlet.services.dynamodb.items import read_projection
from cloudlet.services.dynamodb.reporting import measured
from cloudlet.services.dynamodb.schema import fresh
from cloudlet.services.dynamodb.values import decode
from cloudlet.services.dynamodb.writing import Outcome, Write
from cloudlet.store import Tx

_SIZE = 4 * 1024 * 1024
_SHORT = 8  # writes that the event loop does not hand to a thread
_TOKENS_KEPT = 600.0
_TOKEN = "SELECT at, digest FROM tokens WHERE scope = ? AND token = ?"
_KEEP_TOKEN = "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?)"
_DROP_TOKENS = "DELETE FROM tokens WHERE at < ?"
_KINDS = {"Put": "put", "Update": "update", "Delete": "delete", "ConditionCheck": "check"}


class Transactions(Batches):
    """TransactGetItems and TransactWriteItems. The store does one after the other, so that they never conflict."""

    @measured
    async def TransactGetItems(self, call: Call, input: Input) -> Output:
        wanted = []
        for request in input["TransactItems"]:
            get = request["Get"]
            projection = read_projection(get)
            plan = self._plan(call, get["TableName"])
            wanted.append((plan, projection, plan.find(get["Key"])))

        def read(tx: Tx) -> list[tuple[int, bytes] | None]:
            return [tx.execute(records.GET, (plan.id, *place)).fetchone() for plan, _, place in wanted]

        rows = await self._db.read(read)
        if sum(row[0] for row in rows if row is not None) > _SIZE:
            raise invalid("Total size of items in the transaction exceeds limit")
        responses: list[dict[str, Any]] = []
        usages: dict[int, Usage] = {}
        for (plan, projection, _), row in zip(wanted, rows, strict=True):
            usage = usages.setdefault(plan.id, Usage(plan))
            usage.read(0 if row is None else row[0], consistent=True, factor=2.0)
            if row is None:
                responses.append({})
            elif projection is None:
                responses.append({"Item": self._shown(call, row[1])})
            else:
                responses.append({"Item": projection.project(decode(row[1]))})
        for usage in usages.values():
            self.reporting.consumed(usage, "Read")
        return with_capacity({"Responses": responses}, input, usages, "Read")

    @measured
    async def TransactWriteItems(self, call: Call, input: Input) -> Output:
        asked = msgspec.json.encode(input["TransactItems"])
        writes = [self._asked(call, item) for item in input["TransactItems"]]
        outcomes, usages = await self._write_together(call, input, writes, asked)
        output = with_capacity({}, input, usages, "Write" if outcomes is not None else "Read")
        if input.get("ReturnItemCollectionMetrics") == "SIZE":
            metrics: dict[str, Any] = {}
            for write in writes:
                if write.plan.local and write.kind != "check":
                    metrics.setdefault(write.plan.table.name, []).append(await self._collection(write))
            output["ItemCollectionMetrics"] = metrics
        return output

    async def _write_together(
        self, call: Call, input: Input, writes: list[Write], asked: bytes
    ) -> tuple[list[Outcome] | None, dict[int, Usage]]:
        """Do all writes or none. The outcomes are None when this request's token has been used for them before."""
        digest = hashlib.sha256(asked).digest()
        if len({(write.plan.id, write.hash, write.range) for write in writes}) < len(writes):
            raise invalid("Transaction request cannot include multiple operations on one item")
        if sum(write.size for write in writes) > _SIZE:
            raise invalid("Member must have total size less than or equal to 4194304 bytes")
        token, now, scope = input.get("ClientRequestToken"), self.clock.now(), call.scope

        def do(tx: Tx) -> list[Outcome] | None:
            if token is not None:
                tx.execute(_DROP_TOKENS, (now - _TOKENS_KEPT,))
                if (known := tx.execute(_TOKEN, (scope, token)).fetchone()) is not None:
                    if known[1] != digest:
                        raise AwsError(
                            "IdempotentParameterMismatchException",
                            "The provided client token has already been used with different parameters",
                        )
                    return None
                tx.execute(_KEEP_TOKEN, (scope, token, now, digest))
            return self._all(tx, writes, now)

        outcomes = await self._db.write(do, long=len(writes) > _SHORT)
        usages: dict[int, Usage] = {}
        for number, write in enumerate(writes):
            usage = usages.setdefault(write.plan.id, Usage(write.plan))
            if outcomes is None:
                # It was done before: what is counted now is the look at it.
                usage.read(write.size, consistent=True, factor=2.0)
                continue
            usage.write(outcomes[number], factor=2.0)
            if write.kind != "check":
                self._written(write.plan, now, outcomes[number].new)
        for usage in usages.values():
            self.reporting.consumed(usage, "Read" if outcomes is None else "Write")
        return outcomes, usages

    def _asked(self, call: Call, item: dict[str, Any]) -> Write:
        """One member of a transaction, checked. Raises ValidationException and ResourceNotFoundException."""
        if len(item) != 1:
            raise invalid(
                "TransactItems can only contain one of Check, Put, Update or Delete"
                if item
                else "Invalid Request: TransactWriteRequest should contain Delete or Put or Update request"
            )
        ((name, request),) = item.items()
        kind = _KINDS[name]
        expressions = Expressions(request)
        update = expressions.update(request["UpdateExpression"]) if kind == "update" else None
        condition = None
        if "ConditionExpression" in request:
            condition = expressions.predicate("ConditionExpression", request["ConditionExpression"])
        expressions.finish()
        plan = self._plan(call, request["TableName"])
        if kind == "put":
            write = writing.put_of(plan, request["Item"])
        elif kind == "update":
            write = writing.update_of(plan, request["Key"], update, expressions.values)
        else:
            write = writing.delete_of(plan, request["Key"], kind)
        write.condition = condition
        write.shows_old = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        return write

    def _all(self, tx: Tx, writes: list[Write], now: float) -> list[Outcome]:
        """Do every write, or raise TransactionCanceledException with what stands against it."""
        outcomes: list[Outcome] = []
        reasons: list[dict[str, Any]] = []
        for write in writes:
            try:
                outcomes.append(write.apply(tx, fresh(tx, self._tables, write.plan), now))
                reasons.append({"Code": "None"})
            except AwsError as error:
                reasons.append(_reason(error))
        if len(outcomes) < len(writes):
            codes = ", ".join(reason["Code"] for reason in reasons)
            words = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
            raise AwsError("TransactionCanceledException", words, CancellationReasons=reasons)
        return outcomes


def _reason(error: AwsError) -> dict[str, Any]:
    if error.code == "ConditionalCheckFailedException":
        return {"Code": "ConditionalCheckFailed", "Message": error.message, **error.members}
    if error.code == "DuplicateItemException":
        return {"Code": "DuplicateItem", "Message": error.message}
    if error.code == "ValidationException":
        return {"Code": "ValidationError", "Message": error.message}
    raise error


def with_capacity(output: Output, input: Input, usages: dict[int, Usage], kind: str) -> Output:
    """An answer with the capacity that each table has given, if that is wanted."""
    consumed = [shown for usage in usages.values() if (shown := usage.shown(input, kind)) is not None]
    if consumed:
        output["ConsumedCapacity"] = consumed
    return output
