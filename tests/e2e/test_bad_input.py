"""What a broken or hostile client sends: a clean answer, a server that lives, and nothing stored."""

from __future__ import annotations

import errno
import json
import socket
import urllib.error
import urllib.request

import pytest

from cloudlet.testing import LocalCloud

SIGNED = (
    b"authorization: AWS4-HMAC-SHA256 Credential=t/20260101/us-east-1/%s/aws4_request, SignedHeaders=host, "
    b"Signature=0\r\n"
)


def raw(cloud: LocalCloud, data: bytes, *, close: bool = False) -> bytes:
    """Send bytes and read what comes back until the server closes or has said all."""
    host, port = cloud.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(data)
            if not close:
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    answer += chunk
        except OSError as error:
            # The server has closed before it was sent all: what it said by then counts.
            if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                raise
        return answer


def status(answer: bytes) -> int:
    """The status of an answer's first line."""
    return int(answer.split(b" ", 2)[1])


def lives(cloud: LocalCloud) -> bool:
    """Whether the cloud still answers."""
    return bool(cloud.control("health")["status"] == "running")


def request(path: str, body: bytes, service: bytes, *headers: bytes, method: bytes = b"POST") -> bytes:
    """A request's bytes."""
    lines = b"".join(header + b"\r\n" for header in headers)
    head = method + b" " + path.encode() + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    return head + SIGNED % service + lines + b"content-length: %d\r\n\r\n" % len(body) + body


TARGET = b"x-amz-target: AmazonSQS.CreateQueue"
JSON = b"content-type: application/x-amz-json-1.0"


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\x03 nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"/a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(2000)) + b"\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        request("/", b"{", b"sqs", TARGET, JSON),
        request("/", b"\xff\xfe{}", b"sqs", TARGET, JSON),
        request("/", b"[" * 200_000, b"sqs", TARGET, JSON),
        request("/", b'{"QueueName":' * 50_000, b"sqs", TARGET, JSON),
        request("/", b'{"QueueName": 7}', b"sqs", TARGET, JSON),
        request("/", b'{"QueueName": "' + b"x" * 5000 + b'"}', b"sqs", TARGET, JSON),
        request("/", b"{}", b"sqs", TARGET, JSON),
        request("/", b"{}", b"sqs", b"x-amz-target: AmazonSQS.NoSuchThing", JSON),
        request("/", b"Action=Nonsense&Version=1", b"sns", b"content-type: application/x-www-form-urlencoded"),
        request("/", b"%%%&=&&&", b"sns", b"content-type: application/x-www-form-urlencoded"),
        request("/bucket?tagging", b"<a" * 1000, b"s3", method=b"PUT"),
        request(
            "/bucket?tagging",
            b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><Tagging>&b;</Tagging>',
            b"s3",
            method=b"PUT",
        ),
        request("/%2e%2e/%2e%2e/etc/passwd", b"x", b"s3", method=b"PUT"),
        request("/2015-03-31/functions/..%2f..%2fx/invocations", b"{}", b"lambda"),
        b"POST / HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256 nonsense\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=range(21),
)
def test_nonsense_gets_a_clean_refusal(cloud: LocalCloud, data: bytes) -> None:
    answer = raw(cloud, data)
    assert not answer or 400 <= status(answer) < 500 or status(answer) == 501, answer[:500]
    assert b"Traceback" not in answer
    assert lives(cloud)
    assert cloud.control("resources")["resources"] == []
    assert "Traceback" not in cloud.log


def test_half_sent_requests_and_idle_connections_do_no_harm(cloud: LocalCloud) -> None:
    host, port = cloud.endpoint.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(1000)]
    half = idle[:200]
    for number, connection in enumerate(half):
        whole = request("/", json.dumps({"QueueName": f"q{number}"}).encode(), b"sqs", TARGET, JSON)
        connection.sendall(whole[: len(whole) - 1 - number % 150])
    assert lives(cloud)
    sqs = cloud.client("sqs")
    sqs.create_queue(QueueName="whole")
    for connection in idle:
        connection.close()
    assert [url.rsplit("/", 1)[1] for url in sqs.list_queues()["QueueUrls"]] == ["whole"]
    upload = request("/bucket/key", b"x" * 100_000, b"s3", method=b"PUT")
    cloud.client("s3").create_bucket(Bucket="bucket")
    raw(cloud, upload[:50_000], close=True)
    assert "Contents" not in cloud.client("s3").list_objects_v2(Bucket="bucket")


def test_foreign_pages_cannot_use_the_cloud(cloud: LocalCloud) -> None:
    for path, headers in (
        ("/_cloudlet/reset", {"origin": "https://evil.example"}),
        ("/_cloudlet/reset", {"host": "evil.example"}),
        ("/", {"origin": "https://evil.example", "x-amz-target": "AmazonSQS.ListQueues"}),
    ):
        asked = urllib.request.Request(cloud.endpoint + path, data=b"{}", headers=headers, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=10)
        assert refused.value.code == 403
        refused.value.close()
