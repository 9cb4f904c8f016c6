"""Who called whom in traces: pure functions from segments to services, edges and their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cloudlet.services.xray.records import Document
from cloudlet.services.xray.segments import finish_of, joined, parts_of, seconds_of, status_of


class Name(NamedTuple):
    """A service: what it is called, and what it is (``AWS::Lambda::Function``, ``remote``, ``client``) if known."""

    name: str
    type: str = ""


class Visit(NamedTuple):
    """One request that a service answered, as its segment or its caller saw it."""

    service: Name
    part: Document
    caller: Name | None  # None where nobody knows
    is_root: bool


@dataclass(slots=True)
class Trace:
    """A trace put together: its segments and who visited whom."""

    id: str
    segments: list[Document]
    visits: list[Visit] = field(default_factory=list)

    @property
    def start(self) -> float:
        """When it began."""
        return float(min(one["start_time"] for one in self.segments))

    @property
    def finish(self) -> float:
        """When the last of its parts ended."""
        return max(finish_of(part) for one in self.segments for part in parts_of(one))

    @property
    def root(self) -> Document:
        """The segment with which it began, as far as it has come."""
        roots = [visit.part for visit in self.visits if visit.is_root]
        return roots[0] if roots else self.segments[0]

    @property
    def is_partial(self) -> bool:
        """Whether something in it has not ended."""
        return any(part.get("in_progress") for one in self.segments for part in parts_of(one))


def trace_of(id: str, documents: list[Document]) -> Trace:
    """Put a trace together from what was sent."""
    segments = joined(documents)
    return Trace(id, segments, list(_visits(segments)))


def name_of(segment: Document) -> Name:
    """The service that a segment is of."""
    return Name(segment["name"], segment.get("origin", ""))


def _visits(segments: list[Document]) -> Iterator[Visit]:
    owners = {part["id"]: one for one in segments for part in parts_of(one) if "id" in part}
    answered = {one.get("parent_id") for one in segments}
    for one in segments:
        owner = owners.get(one.get("parent_id", ""))
        if one.get("type") == "subsegment":
            continue
        yield Visit(name_of(one), one, name_of(owner) if owner else None, owner is None)
    for one in segments:
        for part in parts_of(one):
            is_call = part.get("namespace") in ("aws", "remote")
            if is_call and part.get("id") not in answered:
                yield Visit(_callee(part), part, name_of(one), False)


def _callee(part: Document) -> Name:
    """The service that a subsegment called, where it has sent no segment of its own."""
    aws = part.get("aws", {})
    if part["namespace"] == "remote":
        return Name(part["name"], "remote")
    if "table_name" in aws:
        return Name(str(aws["table_name"]), "AWS::DynamoDB::Table")
    if "queue_url" in aws:
        return Name(str(aws["queue_url"]), "AWS::SQS::Queue")
    return Name(part["name"], f"AWS::{part['name']}")


class Numbers:
    """The statistics of a service or an edge."""

    def __init__(self) -> None:
        self.ok = self.throttles = self.errors = self.faults = self.count = 0
        self.seconds = 0.0
        self.histogram: dict[float, int] = {}
        self.start, self.finish = float("inf"), 0.0

    def add(self, part: Document) -> None:
        fault, error, throttle = status_of(part)
        self.count += 1
        self.faults += fault
        self.throttles += throttle and not fault
        self.errors += error and not throttle and not fault
        self.ok += not (fault or error or throttle)
        seconds = seconds_of(part)
        self.seconds += seconds
        bucket = round(seconds, 3)
        self.histogram[bucket] = self.histogram.get(bucket, 0) + 1
        self.start = min(self.start, part["start_time"])
        self.finish = max(self.finish, finish_of(part))

    @property
    def statistics(self) -> dict[str, Any]:
        return {
            "OkCount": self.ok,
            "ErrorStatistics": {
                "ThrottleCount": self.throttles,
                "OtherCount": self.errors,
                "TotalCount": self.errors + self.throttles,
            },
            "FaultStatistics": {"OtherCount": self.faults, "TotalCount": self.faults},
            "TotalCount": self.count,
            "TotalResponseTime": self.seconds,
        }

    @property
    def times(self) -> list[dict[str, Any]]:
        return [{"Value": value, "Count": count} for value, count in sorted(self.histogram.items())]


def services_of(traces: Iterable[Trace], account: str) -> list[dict[str, Any]]:
    """Nodes and edges as GetServiceGraph and GetTraceGraph show them."""
    nodes: dict[Name, Numbers] = {}
    edges: dict[tuple[Name, Name], Numbers] = {}
    roots: set[Name] = set()
    for trace in traces:
        for visit in trace.visits:
            nodes.setdefault(visit.service, Numbers()).add(visit.part)
            caller = visit.caller
            if visit.is_root:
                roots.add(visit.service)
                caller = Name(visit.service.name, "client")
            if caller is not None and caller != visit.service:
                nodes.setdefault(caller, Numbers())
                edges.setdefault((caller, visit.service), Numbers()).add(visit.part)
                nodes[caller].start = min(nodes[caller].start, visit.part["start_time"])
                nodes[caller].finish = max(nodes[caller].finish, finish_of(visit.part))
    numbers = {name: number for number, name in enumerate(nodes)}
    return [_service(name, counted, numbers, edges, roots, account) for name, counted in nodes.items()]


def _service(
    name: Name,
    counted: Numbers,
    numbers: dict[Name, int],
    edges: dict[tuple[Name, Name], Numbers],
    roots: set[Name],
    account: str,
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ReferenceId": numbers[name],
        "Name": name.name,
        "Names": [name.name],
        "State": "unknown" if name.type == "client" else "active",
        "StartTime": counted.start,
        "EndTime": counted.finish,
        "Edges": [
            {
                "ReferenceId": numbers[callee],
                "StartTime": edge.start,
                "EndTime": edge.finish,
                "SummaryStatistics": edge.statistics,
                "ResponseTimeHistogram": edge.times,
                "Aliases": [],
            }
            for (caller, callee), edge in edges.items()
            if caller == name
        ],
    }
    if name.type:
        made["Type"] = name.type
    if name in roots:
        made["Root"] = True
    if name.type not in ("client", "remote"):
        made["AccountId"] = account
    if counted.count:
        made["SummaryStatistics"] = counted.statistics
        made["DurationHistogram"] = made["ResponseTimeHistogram"] = counted.times
    return made
