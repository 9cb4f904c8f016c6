"""The operations that take segments in and show traces."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.xray import records, segments
from cloudlet.services.xray.base import Base, page_after, page_token
from cloudlet.services.xray.filters import compile_filter, compile_selector, seen
from cloudlet.services.xray.graph import Name, Numbers, Trace, Visit, services_of, trace_of
from cloudlet.services.xray.records import Document
from cloudlet.services.xray.segments import parts_of, seconds_of, status_of
from cloudlet.store import Tx

_MOST_IDS = 5
_A_PAGE = 100  # traces that are looked through for one answer
_MOST_IN_GRAPH = 10_000
_LARGEST = 64 * 1024  # bytes of a document
_PERIOD = 60  # seconds that statistics are of


class Traces(Base):
    """Segments in, traces out."""

    async def PutTraceSegments(self, call: Call, input: Input) -> Output:
        taken, refused = [], []
        for text in input["TraceSegmentDocuments"]:
            try:
                if len(text) > _LARGEST:
                    raise segments.BadSegment("SegmentTooLarge")
                taken.append(segments.read(call.scope, text))
            except segments.BadSegment as bad:
                why = {"ErrorCode": bad.code, "Message": str(bad)}
                refused.append({**why, **({"Id": bad.id} if bad.id else {})})
        await self.store(taken)
        return {"UnprocessedTraceSegments": refused}

    async def PutTelemetryRecords(self, call: Call, input: Input) -> Output:
        return {}

    async def BatchGetTraces(self, call: Call, input: Input) -> Output:
        found, missing = await self._traces(call, input)
        shown = [
            {
                "Id": trace.id,
                "Duration": trace.finish - trace.start,
                "LimitExceeded": False,
                "Segments": [
                    {"Id": one["id"], "Document": json.dumps(one, separators=(",", ":"))} for one in trace.segments
                ],
            }
            for trace in found
        ]
        return {"Traces": shown, "UnprocessedTraceIds": missing}

    async def GetTraceGraph(self, call: Call, input: Input) -> Output:
        found, _ = await self._traces(call, input)
        return {"Services": services_of(found, call.account)}

    async def GetTraceSummaries(self, call: Call, input: Input) -> Output:
        start, end = _between(input)
        test = compile_filter(input.get("FilterExpression", ""))
        by_finish = input.get("TimeRangeType", "TraceId") != "TraceId"
        share = _share(input)
        after = page_after(input)

        def look(tx: Tx) -> tuple[list[Document], int, str]:
            places = records.traces_between(tx, call.scope, start, end, by_finish, after, _A_PAGE)
            made = []
            for at, id in places:
                if int(id[-8:], 16) >= share * 2**32:
                    continue
                trace = trace_of(id, records.documents(tx, call.scope, id))
                if test(seen(trace)):
                    made.append({**_summary(trace, call.account), "MatchedEventTime": at})
            return made, len(places), page_token(*places[-1]) if len(places) == _A_PAGE else ""

        found, count, token = await self.db.scan(look)
        answer: Output = {
            "TraceSummaries": found,
            "ApproximateTime": self.clock.now(),
            "TracesProcessedCount": count,
        }
        return {**answer, **({"NextToken": token} if token else {})}

    async def GetServiceGraph(self, call: Call, input: Input) -> Output:
        start, end = _between(input)
        test = compile_filter(self.group_filter(call, input))

        def look(tx: Tx) -> list[dict[str, Any]]:
            ids = records.traces_in(tx, call.scope, start, end, _MOST_IN_GRAPH)
            found = (trace_of(id, records.documents(tx, call.scope, id)) for id in ids)
            return services_of((trace for trace in found if test(seen(trace))), call.account)

        services = await self.db.scan(look)
        return {"StartTime": start, "EndTime": end, "Services": services, "ContainsOldGroupVersions": False}

    async def GetTimeSeriesServiceStatistics(self, call: Call, input: Input) -> Output:
        if input.get("ForecastStatistics"):
            raise not_implemented("GetTimeSeriesServiceStatistics with ForecastStatistics")
        start, end = _between(input)
        period = input.get("Period", _PERIOD)
        if period < 1:
            raise AwsError("InvalidRequestException", "Period must be greater than 0")
        test = compile_filter(self.group_filter(call, input))
        selector = input.get("EntitySelectorExpression", "")
        meant = compile_selector(selector) if selector else _from_clients
        kind = "Service" if selector.lstrip().lower().startswith("service") else "Edge"

        def look(tx: Tx) -> dict[int, Numbers]:
            found: dict[int, Numbers] = {}
            for id in records.traces_in(tx, call.scope, start, end, _MOST_IN_GRAPH):
                trace = trace_of(id, records.documents(tx, call.scope, id))
                if test(seen(trace)):
                    for visit in filter(meant, trace.visits):
                        place = int(visit.part["start_time"]) // period * period
                        found.setdefault(place, Numbers()).add(visit.part)
            return found

        counted = await self.db.scan(look)
        series = [
            {
                "Timestamp": float(place),
                f"{kind}SummaryStatistics": numbers.statistics,
                "ResponseTimeHistogram": numbers.times,
            }
            for place, numbers in sorted(counted.items())
        ]
        return {"TimeSeriesServiceStatistics": series, "ContainsOldGroupVersions": False}

    async def _traces(self, call: Call, input: Input) -> tuple[list[Trace], list[str]]:
        """The traces that were asked for, and the ids of those that are not there."""
        ids = input["TraceIds"]
        if len(ids) > _MOST_IDS:
            raise AwsError("InvalidRequestException", f"TraceIds must contain at most {_MOST_IDS} ids")
        found, missing = [], []
        for id in ids:
            documents = await self.db.scan(partial(records.documents, scope=call.scope, trace=id))
            if documents:
                found.append(trace_of(id, documents))
            else:
                missing.append(id)
        return found, missing

    def group_filter(self, call: Call, input: Input) -> str:
        """The expression of the group that a call names."""
        raise NotImplementedError


def _from_clients(visit: Visit) -> bool:
    """Whether a visit is one that somebody from outside has made."""
    return visit.is_root


def _between(input: Input) -> tuple[float, float]:
    start, end = input["StartTime"], input["EndTime"]
    if start > end:
        raise AwsError("InvalidRequestException", "StartTime must be before EndTime")
    return start, end


def _share(input: Input) -> float:
    """Which part of the traces is looked at."""
    strategy = input.get("SamplingStrategy", {})
    if not input.get("Sampling") or strategy.get("Name") != "FixedRate":
        return 1.0
    return float(strategy.get("Value", 1.0))


def _summary(trace: Trace, account: str) -> Document:
    root = trace.root
    parts = [part for one in trace.segments for part in parts_of(one)]
    fault, error, throttle = status_of(root)
    made: Document = {
        "Id": trace.id,
        "StartTime": trace.start,
        "Duration": trace.finish - trace.start,
        "ResponseTime": seconds_of(root),
        "HasFault": fault,
        "HasError": error,
        "HasThrottle": throttle,
        "IsPartial": trace.is_partial,
        "Http": _http(root),
        "Annotations": _annotations(trace, account),
        "Users": _users(trace, account),
        "ServiceIds": [_id(visit_name, account) for visit_name in dict.fromkeys(v.service for v in trace.visits)],
        "ResourceARNs": _each("ARN", [part.get("resource_arn") for part in parts]),
        "InstanceIds": _each("Id", [part.get("aws", {}).get("ec2", {}).get("instance_id") for part in parts]),
        "AvailabilityZones": _each(
            "Name", [part.get("aws", {}).get("ec2", {}).get("availability_zone") for part in parts]
        ),
        "EntryPoint": _id(Name(root["name"], root.get("origin", "")), account),
        "Revision": len(trace.segments),
    }
    return made


def _http(root: Document) -> Document:
    request, response = root.get("http", {}).get("request", {}), root.get("http", {}).get("response", {})
    names = (
        ("HttpURL", request.get("url")),
        ("HttpStatus", response.get("status")),
        ("HttpMethod", request.get("method")),
        ("UserAgent", request.get("user_agent")),
        ("ClientIp", request.get("client_ip")),
    )
    return {name: value for name, value in names if value is not None}


def _annotations(trace: Trace, account: str) -> dict[str, list[Document]]:
    """Each annotation with its values, and the services that noted them."""
    found: dict[str, dict[bytes, Document]] = {}
    for segment in trace.segments:
        service = _id(Name(segment["name"], segment.get("origin", "")), account)
        for part in parts_of(segment):
            for key, value in part.get("annotations", {}).items():
                kept = found.setdefault(key, {})
                one = kept.setdefault(msgspec.json.encode(value), {"AnnotationValue": _typed(value), "ServiceIds": []})
                if service not in one["ServiceIds"]:
                    one["ServiceIds"].append(service)
    return {key: list(values.values()) for key, values in found.items()}


def _typed(value: Any) -> Document:
    if isinstance(value, bool):
        return {"BooleanValue": value}
    if isinstance(value, int | float):
        return {"NumberValue": float(value)}
    return {"StringValue": str(value)}


def _users(trace: Trace, account: str) -> list[Document]:
    found: dict[str, list[Document]] = {}
    for segment in trace.segments:
        if user := segment.get("user"):
            found.setdefault(str(user), []).append(_id(Name(segment["name"], segment.get("origin", "")), account))
    return [{"UserName": user, "ServiceIds": services} for user, services in found.items()]


def _id(name: Name, account: str) -> Document:
    kind = {"Type": name.type} if name.type else {}
    return {"Name": name.name, "Names": [name.name], "AccountId": account, **kind}


def _each(member: str, values: list[Any]) -> list[Document]:
    return [{member: value} for value in dict.fromkeys(str(one) for one in values if one)]
