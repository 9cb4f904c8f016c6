"""Which service and which operation a request means."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cloudlet.errors import AwsError
from cloudlet.http import Request
from cloudlet.wire import UnknownService, Wire

KNOWN = [
    *("apigateway", "apigatewaymanagementapi", "apigatewayv2", "cloudwatch", "dynamodb", "dynamodbstreams", "elbv2"),
    *("events", "iam", "lambda", "rds", "s3", "ses", "sesv2", "sns", "sqs", "stepfunctions", "sts"),
]
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.fixture(scope="module")
def wire() -> Wire:
    return Wire(KNOWN)


def scope(name: str) -> dict[str, str]:
    return {
        "host": "127.0.0.1:4566",
        "authorization": f"AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/{name}/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=00",
    }


@pytest.mark.parametrize(
    ("request_", "service", "operation"),
    [
        # By target, whatever the signing name.
        (
            Request("POST", "/", "", {**scope("dynamodb"), "x-amz-target": "DynamoDBStreams_20120810.ListStreams"}),
            "dynamodbstreams",
            "ListStreams",
        ),
        (
            Request("POST", "/", "", {"x-amz-target": "AWSStepFunctions.ListActivities"}),
            "stepfunctions",
            "ListActivities",
        ),
        (
            Request("POST", "/", "", {**scope("athena"), "x-amz-target": "AmazonAthena.ListWorkGroups"}),
            "athena",
            "ListWorkGroups",
        ),
        # By the path of smithy's protocol.
        (
            Request(
                "POST",
                "/service/GraniteServiceVersion20100801/operation/ListMetrics",
                "",
                {**scope("monitoring"), "smithy-protocol": "rpc-v2-cbor"},
            ),
            "cloudwatch",
            "ListMetrics",
        ),
        # By signing name and form.
        (
            Request("POST", "/", "", {**scope("monitoring"), **FORM}, b"Action=ListMetrics&Version=2010-08-01"),
            "cloudwatch",
            "ListMetrics",
        ),
        (
            Request(
                "POST", "/", "", {**scope("elasticloadbalancing"), **FORM}, b"Version=2015-12-01&Action=DescribeRules"
            ),
            "elbv2",
            "DescribeRules",
        ),
        (
            Request("POST", "/", "", {**scope("ses"), **FORM}, b"Action=GetSendQuota&Version=2010-12-01"),
            "ses",
            "GetSendQuota",
        ),
        (Request("GET", "/v2/email/account", "", scope("ses")), "sesv2", "GetAccount"),
        # By signing name and path.
        (Request("GET", "/v2/apis/a1", "", scope("apigateway")), "apigatewayv2", "GetApi"),
        (Request("GET", "/restapis/a1", "", scope("apigateway")), "apigateway", "GetRestApi"),
        (
            Request("POST", "/prod/%40connections/abc%3D", "", scope("execute-api")),
            "apigatewaymanagementapi",
            "PostToConnection",
        ),
        (
            Request("GET", "/v20180820/tags/arn%3Aaws%3As3%3A%3A%3Ab", "", scope("s3")),
            "s3control",
            "ListTagsForResource",
        ),
        # Presigned.
        (
            Request("GET", "/b/k", "X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Expires=9"),
            "s3",
            "GetObject",
        ),
        (Request("GET", "/b/k", "AWSAccessKeyId=AKID&Signature=x&Expires=9"), "s3", "GetObject"),
        (Request("GET", "/b/k", "", {"authorization": "AWS AKID:sig"}), "s3", "GetObject"),
        # By host.
        (
            Request("POST", "/", "", {"host": "sqs.eu-west-1.localhost:4566", **FORM}, b"Action=ListQueues"),
            "sqs",
            "ListQueues",
        ),
        (
            Request("POST", "/", "", {"host": "sns.us-east-1.amazonaws.com", **FORM}, b"Action=ListTopics"),
            "sns",
            "ListTopics",
        ),
        # Not signed at all.
        (
            Request("POST", "/", "", dict(FORM), b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15"),
            "sts",
            "AssumeRoleWithWebIdentity",
        ),
        (Request("GET", "/", "Action=GetCallerIdentity&Version=2011-06-15"), "sts", "GetCallerIdentity"),
        (Request("GET", "/bucket/some/key", ""), "s3", "GetObject"),
    ],
    ids=lambda value: f"{value.method} {value.path}" if isinstance(value, Request) else value,
)
def test_identify(wire: Wire, request_: Request, service: str, operation: str) -> None:
    assert wire.identify(request_) == service
    assert wire.model(service).operation(request_).name == operation


def test_a_bucket_may_have_a_service_s_name(wire: Wire) -> None:
    request = wire.to_path_style(Request("GET", "/k", "", {"host": "sqs.s3.eu-west-1.localhost:4566"}))
    assert wire.identify(request) == "s3"
    assert (
        wire.identify(Request("POST", "/", "", {"host": "streams.dynamodb.eu-west-1.localhost"})) == "dynamodbstreams"
    )


def test_s3_control_has_an_account_in_its_host(wire: Wire) -> None:
    headers = {**scope("s3"), "host": "000000000000.localhost:4566", "x-amz-account-id": "000000000000"}
    request = Request("GET", "/v20180820/tags/arn", "", headers)
    assert wire.to_path_style(request) is request
    assert wire.identify(request) == "s3control"


def test_an_unsigned_form_of_no_known_version_is_nobody_s(wire: Wire) -> None:
    assert wire.identify(Request("POST", "/", "", dict(FORM), b"Action=Foo&Version=1999-01-01")) is None


def test_a_service_without_a_model(wire: Wire) -> None:
    with pytest.raises(UnknownService):
        wire.model("no-such-service")
    with pytest.raises(UnknownService):
        wire.model("../../etc")


def test_unknown_operations(wire: Wire) -> None:
    sns = wire.model("sns")
    with pytest.raises(AwsError, match="Could not find operation Nope") as raised:
        sns.operation(Request("POST", "/", "", dict(FORM), b"Action=Nope"))
    assert raised.value.code == "InvalidAction"
    with pytest.raises(AwsError) as raised:
        wire.model("dynamodb").operation(Request("POST", "/", "", {"x-amz-target": "DynamoDB_20120810.Nope"}))
    assert raised.value.code == "UnknownOperationException"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "operation"),
    [
        ("GET", "/", "", {}, "ListBuckets"),
        ("GET", "/b", "", {}, "ListObjects"),
        ("GET", "/b/", "list-type=2", {}, "ListObjectsV2"),
        ("GET", "/b", "location", {}, "GetBucketLocation"),
        ("GET", "/b", "lifecycle", {}, "GetBucketLifecycleConfiguration"),
        ("PUT", "/b", "notification=", {}, "PutBucketNotificationConfiguration"),
        ("GET", "/b", "analytics", {}, "ListBucketAnalyticsConfigurations"),
        ("GET", "/b", "analytics&id=1", {}, "GetBucketAnalyticsConfiguration"),
        ("GET", "/b", "uploads", {}, "ListMultipartUploads"),
        ("POST", "/b", "delete", {}, "DeleteObjects"),
        ("POST", "/b", "", {}, "PostObject"),
        ("POST", "/b/k", "uploads", {}, "CreateMultipartUpload"),
        ("POST", "/b/k", "uploadId=1", {}, "CompleteMultipartUpload"),
        ("PUT", "/b/k", "", {}, "PutObject"),
        ("PUT", "/b/k", "x-id=PutObject", {}, "PutObject"),
        ("PUT", "/b/k", "", {"x-amz-copy-source": "/a/b"}, "CopyObject"),
        ("PUT", "/b/k", "partNumber=1&uploadId=1", {}, "UploadPart"),
        ("PUT", "/b/k", "partNumber=1&uploadId=1", {"x-amz-copy-source": "/a/b"}, "UploadPartCopy"),
        ("PUT", "/b/k", "tagging", {}, "PutObjectTagging"),
        ("GET", "/b/k", "uploadId=1", {}, "ListParts"),
        ("GET", "/b/k", "attributes", {"x-amz-object-attributes": "ETag"}, "GetObjectAttributes"),
        ("GET", "/b/k", "versionId=1&acl", {}, "GetObjectAcl"),
        ("DELETE", "/b/k", "uploadId=1", {}, "AbortMultipartUpload"),
        ("DELETE", "/b/k", "versionId=1", {}, "DeleteObject"),
        ("HEAD", "/b/k/", "", {}, "HeadObject"),
        ("HEAD", "/b/", "", {}, "HeadBucket"),
    ],
)
def test_the_operations_of_s3(
    wire: Wire, method: str, path: str, query: str, headers: dict[str, str], operation: str
) -> None:
    assert wire.model("s3").operation(Request(method, path, query, headers)).name == operation


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/b/a//b", "a//b"),
        ("/b/a/", "a/"),
        ("/b//", "/"),
        ("/b/./../x", "./../x"),
        ("/b/a+b%2Bc%20d", "a+b+c d"),
        ("/b/%2525", "%25"),
        ("/b/%C3%BC", "ü"),
        ("/b/a%2Fb", "a/b"),
        ("/b/line%0Abreak", "line\nbreak"),
    ],
)
def test_keys_keep_their_exact_characters(wire: Wire, path: str, key: str) -> None:
    request = Request("GET", path)
    assert wire.model("s3").operation(request).decode(request) == {"Bucket": "b", "Key": key}


def test_a_key_that_is_no_unicode(wire: Wire) -> None:
    request = Request("GET", "/b/%ff")
    with pytest.raises(AwsError) as raised:
        wire.model("s3").operation(request).decode(request)
    assert raised.value.code == "InvalidURI"


@pytest.mark.parametrize(
    ("host", "path", "signed", "rewritten"),
    [
        ("b.s3.localhost:4566", "/k", "", "/b/k"),
        ("my.b.s3.eu-west-1.localhost:4566", "/", "", "/my.b/"),
        ("b.s3.amazonaws.com", "/k%2F", "", "/b/k%2F"),
        ("b.s3-eu-west-1.amazonaws.com", "/k", "", "/b/k"),
        ("b.s3.dualstack.us-east-1.amazonaws.com", "/k", "", "/b/k"),
        ("b.s3.localhost.localstack.cloud:4566", "/k", "", "/b/k"),
        ("b.localhost:4566", "/k", "s3", "/b/k"),
        ("b.localhost:4566", "/k", "", "/k"),
        ("sqs.s3.localhost:4566", "/k", "", "/sqs/k"),
        ("s3.localhost:4566", "/b/k", "s3", "/b/k"),
        ("s3.us-east-1.localhost:4566", "/b/k", "s3", "/b/k"),
        ("s3.us-east-1.amazonaws.com", "/b/k", "s3", "/b/k"),
        ("localhost:4566", "/b/k", "s3", "/b/k"),
        ("127.0.0.1:4566", "/b/k", "s3", "/b/k"),
        ("sqs.us-east-1.localhost:4566", "/", "sqs", "/"),
    ],
)
def test_buckets_in_host_names(wire: Wire, host: str, path: str, signed: str, rewritten: str) -> None:
    headers = {**(scope(signed) if signed else {}), "host": host}
    assert wire.to_path_style(Request("GET", path, "a=b", headers)).path == rewritten


def test_botocore_is_never_imported() -> None:
    """Its models are read, itself costs more than the whole start."""
    program = (
        "import sys\n"
        "from cloudlet.wire import Wire\n"
        "Wire(['sqs', 's3']).model('s3').operations['PutObject']\n"
        "print([name for name in sys.modules if name.startswith(('botocore', 'cbor2', 'email.'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
