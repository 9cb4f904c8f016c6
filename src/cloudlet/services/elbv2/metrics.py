"""CloudWatch's metrics of load balancers, from two samples of the proxy's own numbers: pure.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-cloudwatch-metrics.html

A metric that counts is given where it is not nothing, as AWS does; of those without a source here (capacity units, WAF,
resets, port allocation, zones) nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from cloudlet.observe.metrics import Dimensions
from cloudlet.services.elbv2.records import LoadBalancer, TargetGroup

# The names of the proxy's numbers that are asked for.
FILTER = (
    r"^(cluster\.[0-9a-f]{16}\.(upstream_rq_([2345]xx|time|completed)|upstream_cx_(total|connect_fail)|lb_healthy_panic|"
    r"ssl\.(connection_error|fail_verify_error)|outlier_detection\.ejections_active)|"
    r"(http|tcp)\.[0-9a-f]{16}(-tls)?\.(downstream_(rq_[345]xx|cx_(total|active|rx_bytes_total|tx_bytes_total))|"
    r"rq_(redirect|direct_response))|udp\.[0-9a-f]{16}\.downstream_sess_(total|active|rx_bytes|tx_bytes|rx_datagrams|"
    r"tx_datagrams)|listener\.[0-9a-f]{16}\.ssl\.(connection_error|fail_verify_.*))$"
)
NAMESPACES = {"application": "AWS/ApplicationELB", "network": "AWS/NetworkELB"}


class Sample(NamedTuple):
    """The proxy's numbers at one time: counters and gauges, and how often each time was seen in each histogram."""

    counts: dict[str, float]
    times: dict[str, dict[float, int]]


class Count(NamedTuple):
    """A value of a metric, seen so many times."""

    name: str
    dimensions: Dimensions
    value: float
    unit: str
    times: int = 1


def read(document: bytes) -> Sample:
    """What the proxy answers to ``/stats?format=json&histogram_buckets=detailed``."""
    counts: dict[str, float] = {}
    times: dict[str, dict[float, int]] = {}
    for stat in msgspec.json.decode(document)["stats"]:
        if "name" in stat:
            counts[stat["name"]] = stat["value"]
        for one in stat.get("histograms", {}).get("details", []):
            buckets = one.get("totals", [])
            times[one["name"]] = {part["lower_bound"] + part["width"] / 2: part["count"] for part in buckets}
    return Sample(counts, times)


class Change(NamedTuple):
    """What has happened between two samples."""

    now: Sample
    before: Sample

    def more(self, *names: str) -> float:
        """How much counters have grown, together."""
        return sum(self._grown(name) for name in names)

    def _grown(self, name: str) -> float:
        count, earlier = self.now.counts.get(name, 0), self.before.counts.get(name, 0)
        return count - earlier if count >= earlier else count  # it starts at nothing after a crash

    def is_now(self, *names: str) -> float:
        """What gauges show, together."""
        return sum(self.now.counts.get(name, 0) for name in names)

    def times(self, name: str) -> Iterator[tuple[float, int]]:
        """The values of a histogram that were seen, and how often."""
        earlier = self.before.times.get(name, {})
        for value, times in self.now.times.get(name, {}).items():
            if (fresh := times - earlier.get(value, 0)) > 0:
                yield value, fresh


def counted(owner: LoadBalancer, groups: list[TargetGroup], now: Sample, before: Sample) -> Iterator[Count]:
    """What has happened at a load balancer between two samples."""
    change = Change(now, before)
    yield from (_network if owner.type == "network" else _application)(owner, groups, change)
    whole: Dimensions = (("LoadBalancer", owner.path),)
    refused = (f"listener.{owner.id}.ssl.connection_error", *_verifications(owner, now))
    yield from _some("ClientTLSNegotiationErrorCount", [whole], change.more(*refused))
    for group in groups:
        both = [whole, (*whole, ("TargetGroup", group.path))]
        failed = change.more(f"cluster.{group.id}.ssl.connection_error", f"cluster.{group.id}.ssl.fail_verify_error")
        yield from _some("TargetTLSNegotiationErrorCount", both, failed)
        panic = change.more(f"cluster.{group.id}.lb_healthy_panic")
        name = "UnhealthyRoutingFlowCount" if owner.type == "network" else "UnhealthyRoutingRequestCount"
        yield from _some(name, both, panic)


def _verifications(owner: LoadBalancer, now: Sample) -> list[str]:
    start = f"listener.{owner.id}.ssl.fail_verify_"
    return [name for name in now.counts if name.startswith(start)]


def _application(owner: LoadBalancer, groups: list[TargetGroup], change: Change) -> Iterator[Count]:
    whole: Dimensions = (("LoadBalancer", owner.path),)
    front = f"http.{owner.id}."
    received, sent = (f"{front}downstream_cx_{way}_bytes_total" for way in ("rx", "tx"))
    fresh, active = change.more(f"{front}downstream_cx_total"), change.is_now(f"{front}downstream_cx_active")
    yield from _some("NewConnectionCount", [whole], fresh)
    yield from _some("ActiveConnectionCount", [whole], fresh + active)
    yield from _some("ProcessedBytes", [whole], change.more(received, sent), "Bytes")
    redirects, direct = change.more(f"{front}rq_redirect"), change.more(f"{front}rq_direct_response")
    yield from _some("HTTP_Redirect_Count", [whole], redirects)
    yield from _some("HTTP_Fixed_Response_Count", [whole], direct)
    own = {digit: change.more(f"{front}downstream_rq_{digit}xx") for digit in "345"}
    for group in groups:
        both = [whole, (*whole, ("TargetGroup", group.path))]
        back = f"cluster.{group.id}.upstream_"
        requests = change.more(f"{back}rq_completed")
        yield from _some("RequestCount", both, requests)
        if group.version == "GRPC":
            yield from _some("GrpcRequestCount", both, requests)
        for digit in "2345":
            answers = change.more(f"{back}rq_{digit}xx")
            yield from _some(f"HTTPCode_Target_{digit}XX_Count", both, answers)
            if digit in own:
                own[digit] -= answers
        yield from _some("TargetConnectionErrorCount", both, change.more(f"{back}cx_connect_fail"))
        yield from _some(
            "MitigatedHostCount", both[1:], change.is_now(f"cluster.{group.id}.outlier_detection.ejections_active")
        )
        for milliseconds, times in change.times(f"{back}rq_time"):
            for dimensions in both:
                yield Count("TargetResponseTime", dimensions, milliseconds / 1000, "Seconds", times)
    for digit, answers in own.items():
        yield from _some(f"HTTPCode_ELB_{digit}XX_Count", [whole], answers)


def _network(owner: LoadBalancer, groups: list[TargetGroup], change: Change) -> Iterator[Count]:
    """Flows, and what has passed in them, together and by protocol."""
    whole: Dimensions = (("LoadBalancer", owner.path),)
    tcp, tls, udp = f"tcp.{owner.id}.downstream_cx_", f"tcp.{owner.id}-tls.downstream_cx_", f"udp.{owner.id}."
    sessions = f"{udp}downstream_sess_"
    kinds = {
        "TCP": (f"{tcp}total", f"{tcp}active", (f"{tcp}rx_bytes_total", f"{tcp}tx_bytes_total")),
        "TLS": (f"{tls}total", f"{tls}active", (f"{tls}rx_bytes_total", f"{tls}tx_bytes_total")),
        "UDP": (f"{sessions}total", f"{sessions}active", (f"{sessions}rx_bytes", f"{sessions}tx_bytes")),
    }
    for kind, (total, active, bytes_) in kinds.items():
        yield from _some(f"NewFlowCount_{kind}", [whole], change.more(total))
        yield from _some(f"ActiveFlowCount_{kind}", [whole], change.is_now(active))
        yield from _some(f"ProcessedBytes_{kind}", [whole], change.more(*bytes_), "Bytes")
    yield Count("NewFlowCount", whole, change.more(*(total for total, _, _ in kinds.values())), "Count")
    yield Count("ActiveFlowCount", whole, change.is_now(*(active for _, active, _ in kinds.values())), "Count")
    passed = (name for _, _, bytes_ in kinds.values() for name in bytes_)
    yield Count("ProcessedBytes", whole, change.more(*passed), "Bytes")


def per_target(
    owner: LoadBalancer, groups: Sequence[TargetGroup], counts: Sequence[Count], healthy: Mapping[str, list[bool]]
) -> Iterator[Count]:
    """How many requests each healthy target has had on average: what services are scaled on."""
    requests = {dict(one.dimensions).get("TargetGroup"): one.value for one in counts if one.name == "RequestCount"}
    for group in groups:
        if group.path in requests:
            dimensions: Dimensions = (("LoadBalancer", owner.path), ("TargetGroup", group.path))
            value = requests[group.path] / max(1, sum(healthy.get(group.id, [])))
            yield Count("RequestCountPerTarget", dimensions, value, "Count")
            yield Count("RequestCountPerTarget", dimensions[1:], value, "Count")


def health(owner: LoadBalancer, groups: Sequence[TargetGroup], healthy: Mapping[str, list[bool]]) -> Iterator[Count]:
    """How many targets are healthy, and how many are not."""
    for group in groups:
        if group.type != "lambda":
            states = healthy.get(group.id, [])
            dimensions: Dimensions = (("LoadBalancer", owner.path), ("TargetGroup", group.path))
            yield Count("HealthyHostCount", dimensions, sum(states), "Count")
            yield Count("UnHealthyHostCount", dimensions, len(states) - sum(states), "Count")


def _some(name: str, places: Sequence[Dimensions], value: float, unit: str = "Count") -> Iterator[Count]:
    """A metric where it is more than nothing, under each of some dimensions."""
    if value > 0:
        for dimensions in places:
            yield Count(name, dimensions, value, unit)
