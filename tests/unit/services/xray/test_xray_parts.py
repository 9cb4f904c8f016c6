"""The pure parts of X-Ray: whatever comes in from outside is either understood or refused, and never an accident."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudlet.errors import AwsError
from cloudlet.observe.traces import Place, place_of
from cloudlet.services.appmesh.images import is_xray_image
from cloudlet.services.xray import filters, graph, otlp, segments, traces
from cloudlet.services.xray.protobuf import BadMessage, export_request

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
_SENDER = otlp._Sender("000000000000", "us-east-1", False, 0.0)
_KEYS = (
    *("resourceSpans", "scopeSpans", "spans", "traceId", "spanId", "name", "kind", "attributes", "key", "value", "id"),
    *("subsegments", "trace_id", "start_time", "end_time", "http", "aws", "ec2", "request", "annotations", "namespace"),
    *("events", "status", "startTimeUnixNano", "resource", "user", "origin", "parent_id", "resource_arn"),
)
_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("header", "place"),
    [
        (f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1", Place(ROOT, "53995c3f42cd8ad8", True)),
        (f"Self=1-2-3; Root={ROOT}; Sampled=0", Place(ROOT, "", False)),
        (f"Root={ROOT};Parent=short;Sampled=?", Place(ROOT)),
        ("Root=1-2-3;Sampled=1", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_headers(header: str, place: Place | None) -> None:
    assert place_of(header) == place
    assert place is None or place_of(place.header) == place


@pytest.mark.parametrize(
    ("image", "is_one"),
    [
        ("amazon/aws-xray-daemon", True),
        ("amazon/aws-xray-daemon:3.3.7", True),
        ("public.ecr.aws/xray/aws-xray-daemon:latest", True),
        ("840364872350.dkr.ecr.us-west-2.amazonaws.com/aws-xray-daemon:latest", True),
        ("mine/aws-xray-daemon", False),
        ("amazon/aws-xray-daemon-too", False),
    ],
)
def test_images_of_the_daemon(image: str, is_one: bool) -> None:
    assert is_xray_image(image) is is_one


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(data: bytes) -> None:
    try:
        export_request(data)
    except BadMessage:
        return


@given(_JSON)
def test_any_export_is_taken_or_refused(export: Any) -> None:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [export]}]}]}).encode()
    for one in (json.dumps(export).encode(), body):
        try:
            taken, _ = otlp._read(one, "", "application/json", _SENDER)
        except ValueError:
            continue
        assert all(segment.trace for segment in taken)


@given(_JSON)
def test_any_document_is_a_segment_or_none(document: Any) -> None:
    for more in ({}, {"id": "a" * 16, "trace_id": ROOT, "name": "x", "start_time": 1, "end_time": 2}):
        whole = {**document, **more} if isinstance(document, dict) else document
        try:
            segment = segments.read("a/b", json.dumps(whole), 1.0)
        except segments.BadSegment:
            continue
        trace = graph.trace_of(segment.trace, [json.loads(segment.document)])
        assert graph.services_of([trace], "a")
        assert traces._summary(trace, "a")["Id"] == segment.trace


@given(
    st.lists(st.sampled_from(["service", "(", ")", '"x"', "{", "}", "AND", "OR", "!", "fault", "=", "1", "a.b", ","]))
)
def test_any_expression_is_a_filter_or_none(words: list[str]) -> None:
    try:
        test = filters.compile_filter(" ".join(words))
    except AwsError:
        return
    part = {"id": "a" * 16, "trace_id": ROOT, "name": "x", "start_time": 1, "end_time": 2}
    assert test(filters.seen(graph.trace_of(ROOT, [part]))) in (True, False)
