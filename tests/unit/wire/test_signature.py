"""Signatures against AWS's own vectors and against the signers of botocore and the CRT."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from cloudlet.errors import AwsError
from cloudlet.http import Request
from cloudlet.wire import signature
from cloudlet.wire.signature.verify import canonical_request

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "sigv4"
KEY = signature.Credential("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "1" * 12, "arn:aws:iam::1:user/u")
SESSION = signature.Credential("ASIASESSION", "secret", "1" * 12, "arn", session_token="token+/=", expires=1e12)
THEN = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()


def _vectors() -> list[Path]:
    return sorted(file for file in VECTORS.rglob("*.req") if file.with_suffix(".authz").exists())


def _parse(file: Path) -> Request:
    head, _, body = file.read_bytes().partition(b"\n\n")
    lines = head.decode("latin-1").split("\n")
    method, rest = lines[0].split(" ", 1)
    path, _, query = rest.rsplit(" ", 1)[0].partition("?")
    headers: dict[str, str] = {}
    name = ""
    for line in lines[1:]:
        if line[:1].isspace():
            headers[name] += f" {line}"
            continue
        given, _, value = line.partition(":")
        name = given.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Request(method, path, query, headers, body)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors are not beside the repository")
async def test_vectors() -> None:
    assert len(_vectors()) > 30
    for file in _vectors():
        request = _parse(file)
        request.headers["authorization"] = file.with_suffix(".authz").read_text().strip()
        signed = signature.read(request)
        assert signed is not None
        hashed = file.with_suffix(".creq").read_text().rsplit("\n", 1)[1]
        canonical = canonical_request(request, signed, signed.signed_headers.split(";"), hashed)
        if "session-token" in file.name:
            # Its token and its signature are placeholders that no longer match what it says is signed.
            continue
        assert canonical == file.with_suffix(".creq").read_text(), file.name
        token = request.headers.get("x-amz-security-token", "")
        credential = signature.Credential(KEY.access_key, KEY.secret, KEY.account, KEY.principal, token)
        await signature.verify(request, signed, credential, THEN)


def _request(prepared: AWSRequest | object, body: bytes = b"") -> Request:
    """What the gateway reads from what a client would send."""
    url = urlsplit(prepared.url)  # type: ignore[attr-defined]
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in prepared.headers.items()  # type: ignore[attr-defined]
    }
    headers.setdefault("host", url.netloc)
    return Request(prepared.method, url.path or "/", url.query, headers, body)  # type: ignore[attr-defined]


def _signed_by_botocore(
    kind: type[SigV4Auth], service: str, request: AWSRequest, credential: signature.Credential = KEY
) -> Request:
    keys = Credentials(credential.access_key, credential.secret, credential.session_token or None)
    kind(keys, service, "eu-west-1").add_auth(request)
    body = request.body or b""
    return _request(request.prepare(), body.encode() if isinstance(body, str) else body)


async def _verify(request: Request, credential: signature.Credential = KEY, now: float | None = None) -> None:
    signed = signature.read(request)
    assert signed is not None
    await signature.verify(request, signed, credential, datetime.now(UTC).timestamp() if now is None else now)
    signature.check_body(request)


async def _refused(request: Request, credential: signature.Credential = KEY, now: float | None = None) -> AwsError:
    with pytest.raises(AwsError) as caught:
        await _verify(request, credential, now)
    return caught.value


def _post(target: str = "Service.Operation") -> AWSRequest:
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0"}
    return AWSRequest("POST", "http://127.0.0.1:4566/a%20b//c/../d?q=%2B1&q=a%20b&e", headers, b'{"a": 1}')


async def test_headers_of_any_service() -> None:
    request = _signed_by_botocore(SigV4Auth, "dynamodb", _post())
    await _verify(request)
    signed = signature.read(request)
    assert signed is not None
    assert (signed.access_key, signed.region, signed.service, signed.kind) == (
        "AKIDEXAMPLE",
        "eu-west-1",
        "dynamodb",
        "header",
    )
    for tamper in (
        lambda r: setattr(r, "method", "PUT"),
        lambda r: setattr(r, "path", "/a%20b/c"),
        lambda r: setattr(r, "query", "q=%2B1&q=a%20c&e"),
        lambda r: setattr(r, "body", b'{"a": 2}'),
        lambda r: r.headers.update({"x-amz-target": "Service.Other"}),
        lambda r: r.headers.update({"host": "127.0.0.1:4567"}),
        lambda r: r.headers.update({"authorization": r.headers["authorization"].replace("eu-west-1", "eu-west-2")}),
        lambda r: r.headers.update({"authorization": r.headers["authorization"][:-1] + "x"}),
    ):
        tampered = _signed_by_botocore(SigV4Auth, "dynamodb", _post())
        tamper(tampered)
        assert (await _refused(tampered)).code == "InvalidSignatureException"
    assert (await _refused(request, SESSION)).code == "UnrecognizedClientException"


async def test_sessions() -> None:
    request = _signed_by_botocore(SigV4Auth, "sts", _post(), SESSION)
    await _verify(request, SESSION)
    assert (await _refused(request, SESSION, now=2e12)).code == "ExpiredToken"
    request.headers["x-amz-security-token"] = "another"
    assert (await _refused(request, SESSION)).code == "InvalidClientTokenId"


async def test_time() -> None:
    now = datetime.now(UTC).timestamp()
    request = _signed_by_botocore(SigV4Auth, "sqs", _post())
    await _verify(request, now=now + 890)
    late = await _refused(request, now=now + 1000)
    assert late.code == "SignatureDoesNotMatch"
    assert late.message.startswith(f"Signature expired: {request.headers['x-amz-date']} is now earlier than ")
    early = await _refused(request, now=now - 1000)
    assert early.message.startswith(f"Signature not yet current: {request.headers['x-amz-date']} is still later than ")
    s3 = _signed_by_botocore(S3SigV4Auth, "s3", AWSRequest("GET", "http://localhost/b"))
    assert (await _refused(s3, now=now + 1000)).code == "RequestTimeTooSkewed"
    signed = signature.read(request)
    assert signed is not None
    await signature.verify(request, signed, KEY, now + 5000, at=lambda machine: machine + 5000)


async def test_s3_takes_its_path_as_it_is() -> None:
    url = "http://localhost:4566/bucket/a//b/../c%20d%2Be?versionId=1&list-type=2"
    request = _signed_by_botocore(S3SigV4Auth, "s3", AWSRequest("PUT", url, {"x-amz-meta-a": "1"}, b"body"))
    await _verify(request)
    request.headers["x-amz-acl"] = "public-read"
    refused = await _refused(request)
    assert (refused.code, refused.members) == ("AccessDenied", {"HeadersNotSigned": "x-amz-acl"})
    del request.headers["x-amz-acl"]
    request.body = b"other"
    assert (await _refused(request)).code == "XAmzContentSHA256Mismatch"
    request.path = "/bucket/b/c%20d%2Be"
    assert (await _refused(request)).code == "SignatureDoesNotMatch"


async def test_a_streamed_body_is_held_against_its_hash() -> None:
    signed = _signed_by_botocore(S3SigV4Auth, "s3", AWSRequest("PUT", "http://localhost/b/k", data=b"one two"))
    for chunks, good in ((b"one two", True), (b"one twi", False)):
        request = Request(signed.method, signed.path, "", signed.headers, receive=_receive(chunks, 3))
        await _verify(request)
        signature.check_stream(request)
        if good:
            assert b"".join([chunk async for chunk in request.stream()]) == chunks
        else:
            with pytest.raises(AwsError, match="XAmzContentSHA256Mismatch"):
                await request.read(100)


async def test_presigned() -> None:
    now = datetime.now(UTC).timestamp()
    url = "http://localhost:4566/bucket/a//b%20c?response-content-type=text%2Fplain"
    for credential in (KEY, SESSION):
        kind = type("Short", (S3SigV4QueryAuth,), {"DEFAULT_EXPIRES": 60})
        request = _signed_by_botocore(kind, "s3", AWSRequest("GET", url), credential)
        request.query = request.query.replace("X-Amz-Expires=3600", "X-Amz-Expires=3600")
        await _verify(request, credential)
        assert (await _refused(request, credential, now + 3700)).code == "AccessDenied"
        request.query = request.query.replace("text%2Fplain", "text%2Fhtml")
        assert (await _refused(request, credential)).code == "SignatureDoesNotMatch"
    sts = AWSRequest("GET", "http://localhost/?Action=GetCallerIdentity&Version=2011-06-15", {"x-k8s-aws-id": "c"})
    await _verify(_signed_by_botocore(SigV4QueryAuth, "sts", sts))
    request.query = request.query.replace("X-Amz-Expires=3600", "X-Amz-Expires=604801")
    with pytest.raises(AwsError, match="less than a week"):
        signature.read(request)


@pytest.mark.parametrize("version", [None, "s3v4"])
@pytest.mark.parametrize("style", ["path", "virtual"])
async def test_boto3_presigns(version: str | None, style: str) -> None:
    """By default boto3 presigns in version 2. A bucket in the host name is moved to the path by the gateway."""
    from cloudlet.wire import to_path_style

    client = boto3.client(
        "s3",
        endpoint_url="http://s3.localhost:4566",
        region_name="us-east-1",
        aws_access_key_id=KEY.access_key,
        aws_secret_access_key=KEY.secret,
        config=Config(signature_version=version, s3={"addressing_style": style}),
    )
    parameters = {"Bucket": "bucket", "Key": "a/b c", "ContentType": "text/x", "Metadata": {"m": "1"}}
    url = urlsplit(client.generate_presigned_url("put_object", Params=parameters))
    headers = {"host": url.netloc, "content-type": "text/x", "x-amz-meta-m": "1"}
    request = to_path_style(Request("PUT", url.path, url.query, headers, b"x"))
    assert request.path == "/bucket/a/b%20c"
    await _verify(request)
    now = datetime.now(UTC).timestamp()
    assert (await _refused(request, now=now + 3700)).message == "Request has expired"
    request.headers["x-amz-meta-m"] = "2"
    assert (await _refused(request)).code == "SignatureDoesNotMatch"
    request.headers["x-amz-meta-m"] = "1"
    request.path += "d"
    assert (await _refused(request)).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("version", [None, "s3v4"])
async def test_forms(version: str | None) -> None:
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id=SESSION.access_key,
        aws_secret_access_key=SESSION.secret,
        aws_session_token=SESSION.session_token,
        config=Config(signature_version=version),
    )
    form = client.generate_presigned_post(
        "bucket",
        "up/${filename}",
        {"acl": "private"},
        [{"acl": "private"}, ["content-length-range", 2, 4], ["starts-with", "$x-amz-meta-a", "b"]],
    )
    fields = {name.lower(): value for name, value in form["fields"].items()} | {"x-amz-meta-a": "bc"}
    now = datetime.now(UTC).timestamp()

    def check(changes: dict[str, str], size: int = 3, now: float = now) -> None:
        given = {**fields, **changes}
        signed = signature.read_form(given)
        assert signed is not None
        signature.check_form(given, signed, SESSION, now, "bucket", size)

    check({})
    for changes, size, later, code in (
        ({"acl": "public-read"}, 3, 0, "AccessDenied"),
        ({"x-amz-meta-a": "c"}, 3, 0, "AccessDenied"),
        ({"extra": "c"}, 3, 0, "AccessDenied"),
        ({"policy": fields["policy"][:-4] + "fQ=="}, 3, 0, "SignatureDoesNotMatch"),
        ({"x-amz-security-token": "other"}, 3, 0, "InvalidToken"),
        ({}, 5, 0, "EntityTooLarge"),
        ({}, 1, 0, "EntityTooSmall"),
        ({}, 3, 3700, "AccessDenied"),
    ):
        with pytest.raises(AwsError) as caught:
            check(changes, size, now + later)
        assert caught.value.code == code
    assert signature.read_form({"key": "anonymous"}) is None


def _receive(body: bytes, step: int):  # type: ignore[no-untyped-def]
    """The server's side of a body that arrives in pieces."""
    source = io.BytesIO(body)

    async def receive() -> dict[str, object]:
        piece = source.read(step)
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    return receive


def _chunked(kind: str, body: bytes, size: int, step: int, tamper: str = "") -> Request:
    """A chunked upload as the CRT signs it."""
    from awscrt.auth import (
        AwsCredentialsProvider,
        AwsSignatureType,
        AwsSignedBodyHeaderType,
        AwsSigningConfig,
        aws_sign_request,
    )
    from awscrt.http import HttpHeaders, HttpRequest

    headers = HttpHeaders(
        [
            ("host", "localhost"),
            ("content-encoding", "aws-chunked,gzip"),
            ("x-amz-decoded-content-length", str(len(body))),
        ]
    )
    trailer = kind.endswith("TRAILER")
    if trailer:
        headers.add("x-amz-trailer", "x-amz-checksum-crc32")
    request = HttpRequest("PUT", "/bucket/key", headers)
    config = AwsSigningConfig(
        signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=AwsCredentialsProvider.new_static(KEY.access_key, KEY.secret),
        region="us-east-1",
        service="s3",
        use_double_uri_encode=False,
        should_normalize_uri_path=False,
        signed_body_value=kind,
        signed_body_header_type=AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    aws_sign_request(request, config).result(5)
    given = {name.lower(): value for name, value in request.headers}
    return _wrap(kind, body, size, step, given, tamper)


def _wrap(kind: str, body: bytes, size: int, step: int, headers: dict[str, str], tamper: str) -> Request:
    """The body in chunks, signed here by the words of AWS's documentation."""
    import hashlib
    import hmac

    def mac(key: bytes, text: str) -> bytes:
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    day = headers["x-amz-date"][:8]
    key = f"AWS4{KEY.secret}".encode()
    for part in (day, "us-east-1", "s3", "aws4_request"):
        key = mac(key, part)
    scope = f"{headers['x-amz-date']}\n{day}/us-east-1/s3/aws4_request"
    previous = headers["authorization"].rsplit("Signature=", 1)[1]
    wire = b""
    for start in [*range(0, len(body), size), len(body)]:
        piece = body[start : start + size]
        line = f"{len(piece):x}"
        if kind.startswith("STREAMING-AWS4"):
            empty, digest = hashlib.sha256().hexdigest(), hashlib.sha256(piece).hexdigest()
            previous = mac(key, f"AWS4-HMAC-SHA256-PAYLOAD\n{scope}\n{previous}\n{empty}\n{digest}").hex()
            line += f";chunk-signature={previous}"
        wire += f"{line}\r\n".encode() + piece + (b"\r\n" if piece else b"")
    if kind.endswith("TRAILER"):
        wire += b"x-amz-checksum-crc32:AAAAAA==\r\n"
        if kind.startswith("STREAMING-AWS4"):
            digest = hashlib.sha256(b"x-amz-checksum-crc32:AAAAAA==\n").hexdigest()
            signature_ = mac(key, f"AWS4-HMAC-SHA256-TRAILER\n{scope}\n{previous}\n{digest}").hex()
            wire += f"x-amz-trailer-signature:{signature_}\r\n".encode()
    wire += b"\r\n"
    if tamper == "body":
        wire = wire.replace(b"bbbb", b"bbxb", 1)
    elif tamper == "trailer":
        wire = wire.replace(b"AAAAAA==", b"AAAAAB==", 1)
    elif tamper == "cut":
        wire = wire[: len(wire) // 2]
    elif tamper == "size":
        wire = b"zz" + wire
    elif tamper == "announced":
        wire = wire.replace(b"checksum-crc32:", b"checksum-sha1:", 1)
    headers["content-length"] = str(len(wire))
    return Request("PUT", "/bucket/key", "", headers, receive=_receive(wire, step))


_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.mark.parametrize("kind", [_SIGNED, _SIGNED_TRAILER, _UNSIGNED_TRAILER])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
async def test_chunks(kind: str, step: int) -> None:
    body = b"a" * 10 + b"b" * 30 + b"\r\n0\r\n"
    for credential in (KEY, None):
        request = _chunked(kind, body, 16, step)
        await _verify(request)
        signature.unchunk(request, signature.read(request), credential)
        assert await request.read(1000) == body
        assert request.headers["content-length"] == str(len(body))
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers.get("x-amz-checksum-crc32") == (None if kind == _SIGNED else "AAAAAA==")


@pytest.mark.parametrize(
    ("kind", "tamper", "code"),
    [
        (_SIGNED, "body", "SignatureDoesNotMatch"),
        (_SIGNED_TRAILER, "body", "SignatureDoesNotMatch"),
        (_SIGNED_TRAILER, "trailer", "SignatureDoesNotMatch"),
        (_SIGNED, "cut", "IncompleteBody"),
        (_UNSIGNED_TRAILER, "cut", "IncompleteBody"),
        (_UNSIGNED_TRAILER, "size", "InvalidRequest"),
        (_UNSIGNED_TRAILER, "announced", "MalformedTrailerError"),
    ],
)
async def test_tampered_chunks(kind: str, tamper: str, code: str) -> None:
    request = _chunked(kind, b"a" * 10 + b"b" * 30, 16, 11, tamper)
    signature.unchunk(request, signature.read(request), KEY)
    with pytest.raises(AwsError) as caught:
        await request.read(1000)
    assert caught.value.code == code


async def test_an_empty_chunked_body() -> None:
    for kind in (_SIGNED, _UNSIGNED_TRAILER):
        request = _chunked(kind, b"", 16, 5)
        signature.unchunk(request, signature.read(request), KEY)
        assert [chunk async for chunk in request.stream()] == []


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("AWS4-HMAC-SHA256 Credential=A/20150830/us-east-1/sqs/aws4_request", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256 Credential=A/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=1", "Incomplete"),
        ("AWS4-ECDSA-P256-SHA256 Credential=A/20150830/s3/aws4_request, SignedHeaders=h, Signature=1", "NotImplem"),
        ("AWS A:c2ln", "InvalidRequest"),
    ],
)
def test_malformed(header: str, code: str) -> None:
    with pytest.raises(AwsError, match=f"^{code}"):
        signature.read(Request("GET", "/", headers={"authorization": header}))


def test_not_signed() -> None:
    assert signature.read(Request("GET", "/", "a=b")) is None
    assert signature.read(Request("GET", "/", headers={"authorization": "Bearer abc"})) is None
    unusual = "AWS4-HMAC-SHA256 Signature=1,SignedHeaders=host,Credential=A/20150830/us-east-1/sqs/aws4_request"
    signed = signature.read(Request("GET", "/", headers={"authorization": unusual}))
    assert signed is not None
    assert (signed.access_key, signed.service, signed.signed_headers) == ("A", "sqs", "host")


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("s3", "InvalidAccessKeyId"),
        ("iam", "InvalidClientTokenId"),
        ("dynamodb", "UnrecognizedClientException"),
        ("ec2", "AuthFailure"),
    ],
)
def test_an_unknown_key_in_the_words_of_each_protocol(service: str, code: str) -> None:
    assert signature.unknown_key("AKIANOBODY", service).code == code
