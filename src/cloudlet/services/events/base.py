"""What all operations of EventBridge stand on: the database, which rule matches what, and the outbox."""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input
from cloudlet.services.events import records
from cloudlet.services.events.delivery import Courier
from cloudlet.services.events.errors import invalid, no_bus, no_rule
from cloudlet.services.events.records import DEFAULT, ApiDestination, Archive, Bus, Connection, Replay, Rule
from cloudlet.services.events.reporting import Reporting
from cloudlet.services.events.ticking import Ticking
from cloudlet.services.patterns import Pattern, PatternError, compile_pattern
from cloudlet.store import Database, Resources, Tx

_PAGE = 100


class Listener(NamedTuple):
    """A rule that waits for events. ``sources``: it takes only events of these, all others need not be looked at."""

    rule: Rule
    pattern: Pattern
    sources: tuple[str, ...] | None


class Listeners:
    """Whom the events of one bus may concern: its rules, found by an event's source, and its archives."""

    __slots__ = ("_by_source", "_of_any", "_rules", "archives")

    def __init__(self) -> None:
        self.archives: dict[str, tuple[Archive, Pattern | None]] = {}
        self._rules: dict[str, Listener] = {}
        self._by_source: dict[str, list[Listener]] = {}
        self._of_any: list[Listener] = []

    def put(self, rule: Rule) -> None:
        """A rule is new or has changed; it counts when it is enabled and has a pattern and targets."""
        gone = self._rules.pop(rule.name, None)
        if rule.enabled and rule.pattern and rule.targets:
            listener = Listener(rule, compile_pattern(rule.pattern), _sources(rule.pattern))
            self._rules[rule.name] = listener
            for shelf in self._shelves(listener):
                shelf.append(listener)
        if gone is not None:
            for shelf in self._shelves(gone):
                shelf.remove(gone)

    def remove(self, rule: Rule) -> None:
        """A rule is gone."""
        self.put(replace(rule, state="DISABLED"))

    def of(self, source: str) -> Iterator[Listener]:
        """The rules that an event of a source may concern."""
        return chain(self._by_source.get(source, ()), self._of_any)

    def _shelves(self, listener: Listener) -> list[list[Listener]]:
        if listener.sources is None:
            return [self._of_any]
        return [self._by_source.setdefault(source, []) for source in listener.sources]


def _sources(pattern: str) -> tuple[str, ...] | None:
    """The sources that a pattern names, if it names them by themselves."""
    values = msgspec.json.decode(pattern).get("source")
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return tuple(set(values))
    return None


class Base(api.Service):
    """The state of the service."""

    name = "events"

    _db: Database
    _buses: Resources[Bus]
    _rules: Resources[Rule]
    _archives: Resources[Archive]
    _replays: Resources[Replay]
    _connections: Resources[Connection]
    _destinations: Resources[ApiDestination]

    async def start(self) -> None:
        self._db = await self.cloud.store.database("events", records.MIGRATIONS)
        self._buses = self._db.resources(Bus)
        self._rules = self._db.resources(Rule)
        self._archives = self._db.resources(Archive)
        self._replays = self._db.resources(Replay)
        self._connections = self._db.resources(Connection)
        self._destinations = self._db.resources(ApiDestination)
        self._listeners: dict[str, Listeners] = {}
        self._reports = Reporting(self.cloud.metrics)
        self._courier = Courier(self.cloud, self._db, self._rule_of, self._pass_on, self._destination_of, self._reports)
        self._outbox = self._courier.outbox
        self._ticking = Ticking(self._db, self.clock, self._outbox, self._rule_of, self._reports)
        for archive in self._archives.all():
            self._listen_archive(archive.value)
        for rule in self._rules.all():
            self._listen(rule.value)
        await self._outbox.start()
        for rule in self._rules.all():
            await self._ticking.resume(rule.value)

    async def stop(self) -> None:
        self._ticking.stop()
        await self._courier.stop()

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        named = next((entry["EventBusName"] for entry in input.get("Entries", ()) if "EventBusName" in entry), None)
        try:
            return self._bus(call, input.get("EventBusName", named)).policy or None
        except AwsError:
            return None

    async def _pass_on(self, bus: str, event: dict[str, Any]) -> None:
        """Give an event of one bus to another."""
        raise NotImplementedError

    def _of_bus(self, bus: str) -> Listeners:
        listeners = self._listeners.get(bus)
        if listeners is None:
            listeners = self._listeners[bus] = Listeners()
        return listeners

    def _listen(self, rule: Rule) -> None:
        """A rule is new or has changed."""
        self._of_bus(bus_arn(rule.account, rule.region, rule.bus)).put(rule)

    def _listen_archive(self, archive: Archive) -> None:
        """An archive is new or has changed."""
        pattern = compile_pattern(archive.pattern) if archive.pattern else None
        self._of_bus(archive.source).archives[archive.name] = archive, pattern

    def _rule_of(self, arn: str) -> Rule | None:
        """The rule of an ARN, or None."""
        _, _, _, region, account, resource = arn.split(":", 5)
        bus, _, name = resource.removeprefix("rule/").rpartition("/")
        record = self._rules.get(f"{account}/{region}", f"{bus or DEFAULT}:{name}")
        return record.value if record is not None else None

    def _destination_of(self, arn: str) -> tuple[ApiDestination, Connection] | None:
        """The API destination of an ARN and its connection, or None when one is gone."""
        _, _, _, region, account, resource = arn.split(":", 5)
        scope = f"{account}/{region}"
        record = self._destinations.get(scope, resource.split("/")[1])
        if record is None or record.value.arn != arn:
            return None
        connection = self._connections.get(scope, record.value.connection.split("/")[1])
        return (record.value, connection.value) if connection is not None else None

    def _bus(self, call: Call, name_or_arn: str | None, tx: Tx | None = None) -> Bus:
        """A bus by its name or ARN. Raises ResourceNotFoundException."""
        account, region, name = place_of(call, name_or_arn)
        record = self._buses.get(f"{account}/{region}", name, tx)
        if record is not None:
            return record.value
        if name != DEFAULT:
            raise no_bus(name)
        return Bus(account, region, DEFAULT)

    def _rule(self, call: Call, input: dict[str, Any], name: str, tx: Tx | None = None) -> Rule:
        """A rule by its name and the input's bus. Raises ResourceNotFoundException."""
        bus = self._bus(call, input.get("EventBusName"), tx)
        record = self._rules.get(bus.scope, f"{bus.name}:{name}", tx)
        if record is None:
            raise no_rule(name, bus.name)
        return record.value

    async def _change_rule(self, rule: Rule, change: Callable[[Rule], dict[str, Any]]) -> Rule:
        """Set the fields that ``change`` makes of a rule as it is then."""

        def edit(tx: Tx) -> Rule:
            record = self._rules.get(rule.scope, rule.place, tx)
            if record is None:
                raise no_rule(rule.name, rule.bus)
            changed = replace(record.value, **change(record.value))
            self._rules.put(tx, rule.scope, rule.place, changed)
            return changed

        changed = await self._db.write(edit)
        self._listen(changed)
        return changed


def bus_arn(account: str, region: str, name: str) -> str:
    """The ARN of a bus."""
    return f"arn:aws:events:{region}:{account}:event-bus/{name}"


def place_of(call: Call, name_or_arn: str | None) -> tuple[str, str, str]:
    """Account, region and name of a bus."""
    if not name_or_arn:
        return call.account, call.region, DEFAULT
    if not name_or_arn.startswith("arn:"):
        return call.account, call.region, name_or_arn
    _, _, _, region, account, resource = name_or_arn.split(":", 5)
    return account, region, resource.removeprefix("event-bus/")


def pattern_of(text: str) -> Pattern:
    """Compile an event pattern. Raises InvalidEventPatternException."""
    try:
        return compile_pattern(text)
    except PatternError as error:
        raise AwsError("InvalidEventPatternException", f"Event pattern is not valid. Reason: {error}") from None


def page(names: list[str], input: dict[str, Any]) -> tuple[int, int, dict[str, str]]:
    """Where a page of sorted names begins and ends, and the token of the next one: the last name of this."""
    start = bisect_right(names, _name_of(input["NextToken"])) if "NextToken" in input else 0
    end = start + input.get("Limit", _PAGE)
    return start, end, {"NextToken": _token_of(names[end - 1])} if end < len(names) else {}


def _token_of(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


def _name_of(token: str) -> str:
    try:
        return base64.b64decode(token, validate=True).decode()
    except ValueError:
        raise invalid("Parameter NextToken is not valid.") from None


def tags_of(tags: list[dict[str, str]]) -> dict[str, str]:
    """Tags as they are kept."""
    return {tag["Key"]: tag["Value"] for tag in tags}
