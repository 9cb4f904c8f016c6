"""ALB's event of a request, and what a function's answer stands for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloudlet.http import Request
from cloudlet.services.elbv2.formats import Context, request
from cloudlet.services.elbv2.functions import event, response
from cloudlet.services.elbv2.records import LoadBalancer, TargetGroup

_WHERE: dict[str, Any] = {"account": "0" * 12, "region": "us-east-1", "created": 0.0}
_GROUP = TargetGroup(**_WHERE, name="f", id="1", type="lambda")


def test_the_event_of_a_request() -> None:
    raw = [(b"Host", b"a"), (b"X-B", b"1"), (b"X-B", b"2"), (b"Content-Type", b"image/png")]
    request = Request("POST", "/a%20b", "x=1&x=%32&y", {"host": "a", "content-type": "image/png"}, raw_headers=raw)
    one = event(request, b"\xff", _GROUP, False)
    assert one["queryStringParameters"] == {"x": "%32", "y": ""}
    assert (one["path"], one["body"], one["isBase64Encoded"]) == ("/a%20b", "/w==", True)
    many = event(request, b"", _GROUP, True)
    assert many["multiValueQueryStringParameters"] == {"x": ["1", "%32"], "y": [""]}
    assert many["multiValueHeaders"]["x-b"] == ["1", "2"]
    assert (many["body"], many["isBase64Encoded"]) == ("", False)
    assert "headers" not in many


def test_answers() -> None:
    made = response(
        json.dumps(
            {"statusCode": 200, "headers": {"Set-Cookie": "a=b"}, "body": "aGk=", "isBase64Encoded": True}
        ).encode(),
        False,
    )
    assert made is not None
    assert (made.status, made.body, made.cookies) == (200, b"hi", ["a=b"])
    headers = {"Set-Cookie": ["a=b", "c=d"], "X": ["1", "2"]}
    made = response(json.dumps({"statusCode": 302, "multiValueHeaders": headers}).encode(), True)
    assert made is not None
    assert (made.cookies, made.headers["x"]) == (["a=b", "c=d"], "1, 2")


@pytest.mark.parametrize("payload", ["null", '"x"', "{}", '{"statusCode": "x"}', '{"statusCode": 99}', "[1]", "{"])
def test_what_is_no_answer(payload: str) -> None:
    assert response(payload.encode(), False) is None


def test_a_line_of_an_access_log() -> None:
    owner = LoadBalancer(
        **_WHERE, name="front", id="2", type="application", scheme="internal", address="127.64.0.1", dns_name="front"
    )
    seen = {
        "agent": "curl",
        "authority": "a:80",
        "bytes_in": 10,
        "bytes_out": 20,
        "client": "127.0.0.1:5",
        "flags": "-",
    }
    seen |= {"group": "1", "method": "GET", "path": "/x", "protocol": "HTTP/1.1", "target_us": 1500}
    seen |= {
        "received_us": 0,
        "sent_us": 100,
        "rule": "7",
        "status": 200,
        "target": "10.0.0.1:80",
        "time": "86400.000",
        "tls": None,
    }
    assert request(Context(owner, {"1": _GROUP}), seen) == (
        "http 1970-01-02T00:00:00.001600Z app/front/2 127.0.0.1:5 10.0.0.1:80 0.000 0.002 0.000 200 200 10 20 "
        f'"GET http://a:80/x HTTP/1.1" "curl" - - {_GROUP.arn} "-" "-" "-" 7 1970-01-02T00:00:00.000000Z "forward" '
        '"-" "-" "10.0.0.1:80" "200" "-" "-" -\n'
    )
