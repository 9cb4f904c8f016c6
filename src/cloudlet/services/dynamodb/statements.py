"""The operations that speak PartiQL: each statement becomes a read or a write that the other operations do too."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import keyconditions, partiql, ranges, writing
from cloudlet.services.dynamodb.capacity import Usage
from cloudlet.services.dynamodb.conditions import Values, compile_condition
from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.expressions import Predicate, Projection
from cloudlet.services.dynamodb.keyconditions import KeyConditions
from cloudlet.services.dynamodb.partiql import Statement
from cloudlet.services.dynamodb.projections import compile_projection
from cloudlet.services.dynamodb.reading import start_of
from cloudlet.services.dynamodb.schema import Plan, fresh
from cloudlet.services.dynamodb.syntax import Path, Reference, Used
from cloudlet.services.dynamodb.transactions import Transactions, with_capacity
from cloudlet.services.dynamodb.updates import Update
from cloudlet.services.dynamodb.values import Item, Value, decode
from cloudlet.services.dynamodb.writing import Outcome, Write
from cloudlet.store import Tx

_KEY_NOT_SELECTED = "Select statements within BatchExecuteStatement must specify the primary key in the where clause."
_KEY_MISSING = "Where clause does not contain a mandatory equality on all key attributes"


class Statements(Transactions):
    """ExecuteStatement, BatchExecuteStatement and ExecuteTransaction."""

    async def ExecuteStatement(self, call: Call, input: Input) -> Output:
        statement = partiql.read(input["Statement"], input.get("Parameters", []))
        if statement.kind == "SELECT":
            return await self._select(call, input, statement)
        if statement.kind == "EXISTS":
            raise invalid("EXISTS is only supported in ExecuteTransaction")
        write = self._write_for(call, statement)
        write.shows_old = input.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        now = self.clock.now()
        outcome = await self._db.write(lambda tx: self._do(tx, write, now))
        self._written(write.plan, now, outcome.new)
        output: Output = {"Items": _returned(statement, outcome)}
        usage = Usage(write.plan)
        usage.write(outcome)
        self.reporting.consumed(usage, "Write")
        if (consumed := usage.shown(input)) is not None:
            output["ConsumedCapacity"] = consumed
        return output

    async def BatchExecuteStatement(self, call: Call, input: Input) -> Output:
        responses: list[dict[str, Any]] = []
        usages: list[dict[str, Any]] = []
        for request in input["Statements"]:
            response: dict[str, Any] = {}
            try:
                statement = partiql.read(request["Statement"], request.get("Parameters", []))
                response["TableName"] = statement.table
                if statement.kind == "SELECT":
                    key_of(self._plan(call, statement.table), statement)
                answer = await self.ExecuteStatement(
                    call, {**request, "ReturnConsumedCapacity": input.get("ReturnConsumedCapacity", "NONE")}
                )
                if answer["Items"]:
                    response["Item"] = answer["Items"][0]
                if "ConsumedCapacity" in answer:
                    usages.append(answer["ConsumedCapacity"])
            except AwsError as error:
                response["Error"] = _batch_error(error)
            responses.append(response)
        output: Output = {"Responses": responses}
        if usages:
            output["ConsumedCapacity"] = usages
        return output

    async def ExecuteTransaction(self, call: Call, input: Input) -> Output:
        statements = [
            partiql.read(request["Statement"], request.get("Parameters", [])) for request in input["TransactStatements"]
        ]
        reads = [statement.kind == "SELECT" for statement in statements]
        if all(reads):
            return await self._read_together(call, input, statements)
        if any(reads):
            raise invalid("Transaction request cannot include both read and write operations")
        writes = [self._write_for(call, statement) for statement in statements]
        for write, request in zip(writes, input["TransactStatements"], strict=True):
            write.shows_old = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        digest = msgspec.json.encode(input["TransactStatements"])
        outcomes, usages = await self._write_together(call, input, writes, digest)
        # As in AWS, a statement that asks for nothing to be returned has no response; nor has what was done already.
        done = zip(statements, outcomes or (), strict=outcomes is not None)
        responses = [_first(_returned(statement, outcome)) for statement, outcome in done if statement.returning]
        return with_capacity({"Responses": responses}, input, usages, "Write")

    async def _read_together(self, call: Call, input: Input, statements: list[Statement]) -> Output:
        gets = []
        projections = []
        for statement in statements:
            plan = self._plan(call, statement.table)
            gets.append({"Get": {"TableName": statement.table, "Key": key_of(plan, statement)}})
            projections.append((_test(statement), _projection(statement)))
        request = {**input, "TransactItems": gets}
        inside = Call(call.account, call.region, principal=call.principal)
        answer = await self.TransactGetItems(inside, request)
        for response, (test, projection) in zip(answer["Responses"], projections, strict=True):
            item = response.pop("Item", None)
            if item is not None and (test is None or test(item)):
                response["Item"] = item if projection is None else projection.project(item)
        return answer

    async def _select(self, call: Call, input: Input, statement: Statement) -> Output:
        """A Query for each hash key that the statement names, else a Scan."""
        plan = self._plan(call, statement.table)
        index = next((index for index in plan.indexes if index.index.name == statement.index), None)
        if statement.index and index is None:
            raise invalid("The table does not have the specified index")
        if index is not None and index.index.is_global and input.get("ConsistentRead"):
            raise invalid("Consistent reads are not supported on global secondary indexes")
        keys = plan.keys if index is None else index.keys
        table, id = ("items", plan.id) if index is None else ("entries", index.id)
        hashes = None
        if not keys.composite:
            hashes = partiql.equalities(statement.where, statement.values).get(keys.hash.name)
        if statement.order and hashes is None:
            raise invalid(
                "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY clause."
            )
        parts: list[ranges.Range]
        if hashes is None:
            parts = [ranges.of_scan(table, id, 0, 1)]
        else:
            conditions = _range_condition(statement, keys.range.name if keys.range is not None else None)
            parts = []
            for value in hashes:
                hash, bounds = keyconditions.resolve(
                    {keys.hash.name: ("=", [value]), **conditions}, keys.hash, keys.range
                )
                parts.append(ranges.of_query(table, id, hash, bounds, _backwards(statement, keys.names)))
        at, start = _read_token(input.get("NextToken"))
        items: list[Any] = []
        output: Output = {"Items": items}
        limit, consumed = input.get("Limit"), None
        while at < len(parts):
            rows = parts[at] if start is None else parts[at].after(start_of(plan, index, start))
            request = {**input, "TableName": statement.table}
            if limit is not None:
                request["Limit"] = limit
            page = await self._read(call, request, plan, index, rows, _test(statement), _projection(statement))
            items += page["Items"]
            consumed = page.get("ConsumedCapacity") or consumed
            limit = None if limit is None else limit - page["ScannedCount"]
            start = page.get("LastEvaluatedKey")
            if start is not None:
                output["NextToken"] = _token(at, start)
                break
            at += 1
        if consumed is not None:
            output["ConsumedCapacity"] = consumed
        return output

    def _write_for(self, call: Call, statement: Statement) -> Write:
        """A statement as the write that it asks for. Raises ValidationException and ResourceNotFoundException."""
        plan = self._plan(call, statement.table)
        if statement.kind == "INSERT":
            write = writing.put_of(plan, statement.item)
            name = plan.keys.hash.name
            write.condition = lambda item: name not in item
            write.inserts = True
            return write
        key = key_of(plan, statement)
        if statement.kind == "UPDATE":
            write = writing.update_of(plan, key, Update(statement.actions), statement.values)
            for run in Update(statement.actions).checks:
                run(statement.values)
        else:
            write = writing.delete_of(plan, key, "delete" if statement.kind == "DELETE" else "check")
        test = _test(statement)
        if statement.kind == "DELETE" and test is not None:
            # Where there is no item, nothing is deleted, and that is a success.
            write.condition = lambda item: not item or test(item)
        else:
            write.condition = test
        return write

    def _do(self, tx: Tx, write: Write, now: float) -> Outcome:
        return write.apply(tx, fresh(tx, self._tables, write.plan), now)


def key_of(plan: Plan, statement: Statement) -> Item:
    """The key of the one item that a statement is about. Raises ValidationException."""
    found = partiql.equalities(statement.where, statement.values)
    key: Item = {}
    for name in plan.keys.names:
        if len(found.get(name, ())) != 1:
            if statement.kind in ("SELECT", "EXISTS"):
                raise invalid(_KEY_NOT_SELECTED)
            raise invalid(_KEY_MISSING)
        key[name] = found[name][0]
    return key


def _test(statement: Statement) -> Predicate | None:
    if statement.where is None:
        return None
    test, values = compile_condition(statement.where), statement.values
    return lambda item: test(item, values)


def _projection(statement: Statement) -> Projection | None:
    if statement.paths is None:
        return None
    return Projection(compile_projection(statement.paths), statement.paths, Used())


def _backwards(statement: Statement, names: tuple[str, ...]) -> bool:
    for name, _ in statement.order:
        if name not in names:
            raise invalid(f"Variable reference {name} in ORDER BY clause must be part of the primary key")
    return any(down for name, down in statement.order if name == names[-1])


_BOUNDS = ("=", "<", "<=", ">", ">=", "between", "begins_with")
_TURNED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _range_condition(statement: Statement, name: str | None) -> KeyConditions:
    """The first condition on the range key, which narrows what is read; the others are filters."""
    values: Values = statement.values
    for one in partiql.conjuncts(statement.where):
        operator, operands = one.name, one.operands
        if operator in _TURNED and isinstance(operands[0], Reference):
            operator, operands = _TURNED[operator], operands[::-1]
        if name is not None and operator in _BOUNDS and operands[0] == Path((name,)):
            found: list[Value] = [values[o.name] for o in operands[1:] if isinstance(o, Reference)]
            if len(found) == len(operands) - 1:
                return {name: (operator, found)}
    return {}


def _returned(statement: Statement, outcome: Outcome) -> list[Item]:
    item = outcome.old if statement.returning.endswith("OLD") else outcome.new
    if not statement.returning or item is None:
        return []
    if statement.returning.startswith("ALL"):
        return [item]
    touched = compile_projection(action.path for action in statement.actions)(item)
    return [touched] if touched else []


def _first(items: list[Item]) -> dict[str, Any]:
    return {"Item": items[0]} if items else {}


def _token(at: int, key: Item) -> str:
    return base64.b64encode(msgspec.json.encode([at, msgspec.json.encode(key).decode()])).decode()


def _read_token(token: str | None) -> tuple[int, Item | None]:
    if token is None:
        return 0, None
    try:
        at, key = msgspec.json.decode(base64.b64decode(token, validate=True))
        return int(at), decode(key)
    except (ValueError, TypeError):
        raise _bad_token() from None


def _bad_token() -> AwsError:
    return invalid("Invalid NextToken")


def _batch_error(error: AwsError) -> dict[str, Any]:
    codes = {
        "ValidationException": "ValidationError",
        "ResourceNotFoundException": "ResourceNotFound",
        "ConditionalCheckFailedException": "ConditionalCheckFailed",
        "DuplicateItemException": "DuplicateItem",
    }
    if error.code not in codes:
        raise error
    return {"Code": codes[error.code], "Message": error.message, **error.members}
