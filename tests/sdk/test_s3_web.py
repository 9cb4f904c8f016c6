"""S3 as browsers and plain HTTP clients see it: websites, CORS, presigned URLs, forms, host names."""

from __future__ import annotations

import base64
import http.client
import json
import zlib
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from botocore.config import Config
from callers import root_of

from cloudlet.testing.local import LocalCloud


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    client = cloud.client("s3")
    client.create_bucket(Bucket="bucket")
    return client


def ask(
    cloud: LocalCloud, method: str, target: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One plain HTTP request; underscores in header names are dashes."""
    connection = http.client.HTTPConnection(urlsplit(cloud.endpoint).netloc, timeout=10)
    try:
        connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def test_website(cloud: LocalCloud, s3: Any) -> None:
    def get(target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        return ask(cloud, method, target, Host="bucket.s3-website.localhost", **headers)

    assert get("/")[0] == 404
    rules = [
        {"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "new/"}},
        {
            "Condition": {"HttpErrorCodeReturnedEquals": "404", "KeyPrefixEquals": "lost/"},
            "Redirect": {"HostName": "example.com", "ReplaceKeyWith": "found", "HttpRedirectCode": "302"},
        },
    ]
    s3.put_bucket_website(
        Bucket="bucket",
        WebsiteConfiguration={
            "IndexDocument": {"Suffix": "index.html"},
            "ErrorDocument": {"Key": "error.html"},
            "RoutingRules": rules,
        },
    )
    assert s3.get_bucket_website(Bucket="bucket")["RoutingRules"] == rules
    for key, text in (("index.html", "home"), ("sub/index.html", "sub"), ("error.html", "sorry")):
        s3.put_object(Bucket="bucket", Key=key, Body=text.encode(), ContentType="text/html")
    s3.put_object(Bucket="bucket", Key="moved", WebsiteRedirectLocation="/index.html")
    status, headers, body = get("/")
    assert (status, headers["content-type"], body) == (200, "text/html", b"home")
    assert get("/", "HEAD")[2] == b""
    assert get("/sub/")[2] == b"sub"
    assert (get("/sub")[0], get("/sub")[1]["location"]) == (302, "/sub/")
    assert (get("/nothing")[0], get("/nothing")[2]) == (404, b"sorry")
    assert (get("/moved")[0], get("/moved")[1]["location"]) == (301, "/index.html")
    assert get("/old/a")[1]["location"] == "http://bucket.s3-website.localhost/new/a"
    assert (get("/lost/a")[0], get("/lost/a")[1]["location"]) == (302, "http://example.com/found")
    assert get("/", if_none_match=headers["etag"])[0] == 304
    assert get("/", "PUT")[0] == 405
    # The door by path, for machines without names under localhost.
    assert ask(cloud, "GET", "/_cloudlet/s3-website/bucket/sub/")[2] == b"sub"
    s3.create_bucket(Bucket="1.dotted")
    assert (
        b"NoSuchWebsiteConfiguration" in ask(cloud, "GET", "/", Host="1.dotted.s3-website-us-east-1.amazonaws.com")[2]
    )
    s3.put_bucket_website(
        Bucket="bucket", WebsiteConfiguration={"RedirectAllRequestsTo": {"HostName": "e.com", "Protocol": "https"}}
    )
    assert get("/x")[1]["location"] == "https://e.com/x"


def test_cors(cloud: LocalCloud, s3: Any) -> None:
    def question(**headers: str) -> tuple[int, dict[str, str], bytes]:
        return ask(cloud, "OPTIONS", "/bucket/k", Origin="https://app.example.com", **headers)

    assert question(Access_Control_Request_Method="PUT")[0] == 403
    rule = {
        "AllowedMethods": ["PUT", "GET"],
        "AllowedOrigins": ["https://*.example.com"],
        "AllowedHeaders": ["x-*", "content-type"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 60,
    }
    s3.put_bucket_cors(Bucket="bucket", CORSConfiguration={"CORSRules": [rule]})
    assert s3.get_bucket_cors(Bucket="bucket")["CORSRules"] == [rule]
    asked = {"Access_Control_Request_Method": "PUT", "Access_Control_Request_Headers": "Content-Type, x-amz-date"}
    status, headers, _ = question(**asked)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example.com")
    assert headers["access-control-allow-headers"] == "content-type, x-amz-date"
    assert headers["access-control-max-age"] == "60"
    assert question(Access_Control_Request_Method="DELETE")[0] == 403
    s3.put_object(Bucket="bucket", Key="k", Body=b"1")
    _, headers, _ = ask(cloud, "GET", "/bucket/k", Origin="https://app.example.com")
    assert headers["access-control-expose-headers"] == "ETag"
    _, headers, _ = ask(cloud, "GET", "/bucket/k", Origin="https://evil.com")
    assert "access-control-allow-origin" not in headers


def test_presigned(cloud: LocalCloud, s3: Any) -> None:
    this = {"Bucket": "bucket", "Key": "a b"}
    for version in ("s3v4", "s3"):
        client = cloud.client("s3", config=Config(signature_version=version))
        put = client.generate_presigned_url("put_object", {**this, "ContentType": "text/plain"})
        assert ask(cloud, "PUT", path_of(put), version.encode(), Content_Type="text/plain")[0] == 200
        get = client.generate_presigned_url("get_object", {**this, "ResponseContentType": "x/y"}, ExpiresIn=60)
        status, headers, body = ask(cloud, "GET", path_of(get))
        assert (status, headers["content-type"], body) == (200, "x/y", version.encode())
    late = s3.generate_presigned_url("get_object", this, ExpiresIn=60)
    cloud.advance(3600)
    assert ask(cloud, "GET", path_of(late))[0] == 403


def _form(fields: dict[str, str], data: bytes, filename: str = "f.txt") -> tuple[bytes, str]:
    edge = "----edge"
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n')
    parts.append("Content-Type: text/plain\r\n\r\n")
    return "".join(parts).encode() + data + f"\r\n--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"


def test_forms(cloud: LocalCloud, s3: Any) -> None:
    """A browser's upload, small and large, within its policy and outside of it."""
    post = s3.generate_presigned_post(
        "bucket",
        "up/${filename}",
        Fields={"x-amz-meta-a": "1", "Content-Type": "text/css", "success_action_status": "201"},
        Conditions=[
            {"x-amz-meta-a": "1"}, {"Content-Type": "text/css"}, {"success_action_status": "201"},
            ["content-length-range", 1, 1_000_000],
        ],
    )  # fmt: skip

    def send(data: bytes, **changes: str) -> tuple[int, dict[str, str], bytes]:
        body, kind = _form({**post["fields"], **changes}, data)
        return ask(cloud, "POST", "/bucket", body, Content_Type=kind)

    status, headers, body = send(b"data")
    assert status == 201
    document = ElementTree.fromstring(body)
    assert (document.findtext("Bucket"), document.findtext("Key")) == ("bucket", "up/f.txt")
    assert document.findtext("ETag") == headers["etag"]
    found = s3.get_object(Bucket="bucket", Key="up/f.txt")
    assert (found["Body"].read(), found["ContentType"], found["Metadata"]) == (b"data", "text/css", {"a": "1"})
    large = bytes(range(256)) * 3000
    assert send(large)[0] == 201
    assert s3.get_object(Bucket="bucket", Key="up/f.txt")["Body"].read() == large
    for changes, data, code in (
        ({}, b"", b"EntityTooSmall"),
        ({}, b"x" * 1_000_001, b"EntityTooLarge"),
        ({"x-amz-meta-a": "2"}, b"x", b"AccessDenied"),
        ({"x-amz-meta-b": "1"}, b"x", b"AccessDenied"),
        ({"key": "other"}, b"x", b"AccessDenied"),
    ):
        status, _, body = send(data, **changes)
        assert (status >= 400, code in body) == (True, True), body
    assert s3.get_object(Bucket="bucket", Key="up/f.txt")["Body"].read() == large
    body, kind = _form({"key": "anyone", "success_action_redirect": "http://e.com/done"}, b"1")
    status, headers, _ = ask(cloud, "POST", "/", body, Content_Type=kind, Host="bucket.s3.localhost")
    assert status == 303
    assert headers["location"].startswith("http://e.com/done?bucket=bucket&key=anyone&etag=")
    assert ask(cloud, "POST", "/bucket", b"", Content_Type=kind)[0] == 400


def test_hosts(cloud: LocalCloud, s3: Any) -> None:
    """A bucket in the host name is the same as one in the path."""
    s3.put_object(Bucket="bucket", Key="dir/k", Body=b"1")
    for host in ("bucket.s3.localhost", "bucket.s3.us-east-1.amazonaws.com", "bucket.s3.localhost.localstack.cloud"):
        assert ask(cloud, "GET", "/dir/k", Host=host)[2] == b"1"
    scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
    assert ask(cloud, "GET", "/dir/k", Host="bucket.localhost", Authorization=scope)[2] == b"1"
    status, headers, body = ask(cloud, "GET", "/?list-type=2", Host="bucket.s3.localhost")
    assert (status, b"<Key>dir/k</Key>" in body) == (200, True)
    assert headers["content-type"] == "application/xml"
    status, _, body = ask(cloud, "GET", "/bucket/nothing")
    assert (status, b"<Code>NoSuchKey</Code>" in body) == (404, True)


def test_trailers(cloud: LocalCloud, s3: Any) -> None:
    """A body in chunks with its checksum behind it, as SDKs of other languages send it."""

    def put(data: bytes, checksum: str) -> tuple[int, dict[str, str], bytes]:
        half = len(data) // 2
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:half], data[half:]))
        body += f"0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
        return ask(
            cloud, "PUT", "/bucket/k", body,
            Content_Encoding="gzip,aws-chunked", X_Amz_Trailer="x-amz-checksum-crc32",
            X_Amz_Content_Sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER", X_Amz_Decoded_Content_Length=str(len(data)),
        )  # fmt: skip

    for data in (b"small", b"large" * 100_000):
        checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        status, headers, _ = put(data, checksum)
        assert (status, headers["x-amz-checksum-crc32"]) == (200, checksum)
        found = s3.get_object(Bucket="bucket", Key="k")
        assert (found["Body"].read(), found["ContentEncoding"]) == (data, "gzip")
        status, _, answer = put(data[:-1], checksum)
        assert (status, b"BadDigest" in answer) == (400, True)


def test_strangers() -> None:
    """With enforced signatures anyone may read what a policy makes public, and nothing else."""
    with LocalCloud("--auth", "enforce") as strict:
        assert ask(strict, "GET", "/bucket/k")[0] == 404
        keys = root_of(strict)
        s3 = strict.client("s3", **keys)
        s3.create_bucket(Bucket="bucket")
        for key in ("open/k", "k"):
            s3.put_object(Bucket="bucket", Key=key, Body=b"1")
        s3.put_bucket_website(Bucket="bucket", WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
        site = {"Host": "bucket.s3-website.localhost"}
        assert ask(strict, "GET", "/bucket/open/k")[0] == ask(strict, "GET", "/open/k", **site)[0] == 403
        s3.delete_public_access_block(Bucket="bucket")
        statement = {"Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/open/*"}
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
        s3.put_bucket_policy(Bucket="bucket", Policy=json.dumps(policy))
        assert ask(strict, "GET", "/bucket/open/k")[2] == ask(strict, "GET", "/open/k", **site)[2] == b"1"
        assert ask(strict, "GET", "/bucket/k")[0] == 403
        assert ask(strict, "PUT", "/bucket/open/k", b"2")[0] == 403
        # Conditions count: from which address or page somebody comes.
        there = {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::bucket"}
        for address, status in (("127.0.0.0/8", 200), ("192.0.2.0/24", 403)):
            listing = {**there, "Condition": {"IpAddress": {"aws:SourceIp": address}}}
            s3.put_bucket_policy(Bucket="bucket", Policy=json.dumps({**policy, "Statement": [listing]}))
            assert ask(strict, "GET", "/bucket?list-type=2")[0] == status
        hotlinks = {"Effect": "Deny", **statement, "Condition": {"StringLike": {"aws:Referer": "http://thief/*"}}}
        both = {**policy, "Statement": [*policy["Statement"], hotlinks]}
        s3.put_bucket_policy(Bucket="bucket", Policy=json.dumps(both))
        assert ask(strict, "GET", "/bucket/open/k")[0] == 200
        assert ask(strict, "GET", "/bucket/open/k", Referer="http://thief/page")[0] == 403
        # The bucket's own list says who may list it, an object's who may read it; a policy's denial counts more.
        s3.delete_bucket_policy(Bucket="bucket")
        s3.put_bucket_ownership_controls(
            Bucket="bucket", OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
        )
        s3.put_bucket_acl(Bucket="bucket", ACL="public-read")
        assert [ask(strict, "GET", path)[0] for path in ("/bucket?list-type=2", "/bucket?acl", "/bucket/k")] == [
            200,
            403,
            403,
        ]
        s3.put_object_acl(Bucket="bucket", Key="k", ACL="public-read")
        assert ask(strict, "GET", "/bucket/k")[0] == 200
        deny = {
            **there,
            "Effect": "Deny",
            "Action": "s3:*",
            "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
        }
        deny["Condition"] = {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "Null": {"aws:PrincipalArn": "true"}}
        s3.put_bucket_policy(Bucket="bucket", Policy=json.dumps({**policy, "Statement": [deny]}))
        assert [ask(strict, "GET", path)[0] for path in ("/bucket?list-type=2", "/bucket/k")] == [403, 403]
        s3.delete_bucket_policy(Bucket="bucket")
        # Signed uploads: chunks with trailers, presigned URLs and forms are verified.
        url = s3.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "signed"})
        assert ask(strict, "PUT", path_of(url), b"3")[0] == 200
        assert ask(strict, "PUT", path_of(url).replace("signed", "other"), b"3")[0] == 403
        post = s3.generate_presigned_post("bucket", "form")
        body, kind = _form(post["fields"], b"4")
        assert ask(strict, "POST", "/bucket", body, Content_Type=kind)[0] == 204
        body, kind = _form({**post["fields"], "signature": "wrong"}, b"5")
        assert ask(strict, "POST", "/bucket", body, Content_Type=kind)[0] == 403
        assert s3.get_object(Bucket="bucket", Key="form")["Body"].read() == b"4"
