"""S3 through boto3: buckets, objects, versions, listings, locks."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import zlib
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.testing.local import LocalCloud

DAY = 86_400


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    client = cloud.client("s3")
    client.create_bucket(Bucket="bucket")
    return client


def code(call: Any, **parameters: Any) -> str:
    return refused(call, **parameters)[0]


def read(s3: Any, key: str, **parameters: Any) -> bytes:
    return bytes(s3.get_object(Bucket="bucket", Key=key, **parameters)["Body"].read())


def keys(s3: Any, **parameters: Any) -> list[str]:
    found = s3.list_objects_v2(Bucket="bucket", **parameters)
    return [entry["Key"] for entry in found.get("Contents", [])]


def test_bucket_life(cloud: LocalCloud, s3: Any) -> None:
    s3.create_bucket(Bucket="bucket")  # in us-east-1 one may
    west = cloud.client("s3", region="eu-west-1")
    place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    made = west.create_bucket(Bucket="west.bucket", **place)
    assert made["Location"] == "http://west.bucket.s3.amazonaws.com/"
    assert code(west.create_bucket, Bucket="west.bucket", **place) == "BucketAlreadyOwnedByYou"
    assert code(west.create_bucket, Bucket="other") == "IllegalLocationConstraintException"
    stranger = cloud.client("s3", account="111111111111")
    assert code(stranger.create_bucket, Bucket="bucket") == "BucketAlreadyExists"
    assert code(stranger.list_objects_v2, Bucket="bucket") == "AccessDenied"
    assert stranger.list_buckets()["Buckets"] == []
    for name in ("Bucket", "ab", "a..b", "192.168.1.1", "xn--a", "under_score"):
        assert code(s3.create_bucket, Bucket=name) == "InvalidBucketName"
    assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] is None
    assert west.get_bucket_location(Bucket="west.bucket")["LocationConstraint"] == "eu-west-1"
    assert s3.head_bucket(Bucket="west.bucket")["BucketRegion"] == "eu-west-1"
    assert code(s3.head_bucket, Bucket="nobody") == "404"
    assert refused(s3.get_object, Bucket="nobody", Key="k") == ("NoSuchBucket", "The specified bucket does not exist")
    assert code(s3.head_bucket, Bucket="bucket", ExpectedBucketOwner="111111111111") == "403"

    for number in range(3):
        s3.create_bucket(Bucket=f"page-{number}")
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert names == ["bucket", "page-0", "page-1", "page-2", "west.bucket"]
    found = s3.list_buckets(Prefix="page-", MaxBuckets=2)
    assert [bucket["Name"] for bucket in found["Buckets"]] == ["page-0", "page-1"]
    found = s3.list_buckets(Prefix="page-", ContinuationToken=found["ContinuationToken"])
    assert [bucket["Name"] for bucket in found["Buckets"]] == ["page-2"]
    assert [bucket["Name"] for bucket in s3.list_buckets(BucketRegion="eu-west-1")["Buckets"]] == ["west.bucket"]

    s3.put_object(Bucket="bucket", Key="k", Body=b"1")
    assert refused(s3.delete_bucket, Bucket="bucket") == (
        "BucketNotEmpty",
        "The bucket you tried to delete is not empty",
    )
    s3.delete_object(Bucket="bucket", Key="k")
    s3.delete_bucket(Bucket="bucket")
    assert code(s3.delete_bucket, Bucket="bucket") == "NoSuchBucket"
    s3.create_bucket(Bucket="bucket")
    assert keys(s3) == []


def test_objects(cloud: LocalCloud, s3: Any) -> None:
    put = s3.put_object(
        Bucket="bucket",
        Key="a b/ü+%&?.txt",
        Body=b"hello world",
        ContentType="text/plain",
        CacheControl="no-cache",
        ContentEncoding="identity",
        ContentMD5=base64.b64encode(hashlib.md5(b"hello world").digest()).decode(),
        Metadata={"one": "1", "Two": "zwei"},
        Tagging="a=1&b=x%20y",
        StorageClass="STANDARD_IA",
    )
    assert put["ETag"] == f'"{hashlib.md5(b"hello world").hexdigest()}"'
    assert (put["ServerSideEncryption"], put["ChecksumType"]) == ("AES256", "FULL_OBJECT")
    cloud.kill()
    cloud.start()
    found = s3.get_object(Bucket="bucket", Key="a b/ü+%&?.txt")
    assert found["Body"].read() == b"hello world"
    assert (found["ContentType"], found["CacheControl"], found["ContentEncoding"]) == (
        "text/plain",
        "no-cache",
        "identity",
    )
    assert found["Metadata"] == {"one": "1", "two": "zwei"}
    assert (found["TagCount"], found["StorageClass"], found["AcceptRanges"]) == (2, "STANDARD_IA", "bytes")
    assert "VersionId" not in found
    head = s3.head_object(Bucket="bucket", Key="a b/ü+%&?.txt")
    assert (head["ContentLength"], head["ETag"]) == (11, put["ETag"])
    assert keys(s3) == ["a b/ü+%&?.txt"]

    assert refused(s3.get_object, Bucket="bucket", Key="nothing") == (
        "NoSuchKey",
        "The specified key does not exist.",
    )
    assert code(s3.head_object, Bucket="bucket", Key="nothing") == "404"
    assert code(s3.put_object, Bucket="bucket", Key="k" * 1025) == "KeyTooLongError"
    assert code(s3.put_object, Bucket="bucket", Key="k", Metadata={"m": "x" * 2048}) == "MetadataTooLarge"
    assert (
        code(s3.put_object, Bucket="bucket", Key="k", Body=b"1", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==") == "BadDigest"
    )
    assert code(s3.put_object, Bucket="bucket", Key="k", StorageClass="NONE") == "InvalidStorageClass"
    assert code(s3.put_object, Bucket="bucket", Key="k", Tagging="aws:x=1") == "InvalidTag"

    # Ranges
    key = "a b/ü+%&?.txt"
    for text, wanted in (
        ("bytes=0-4", b"hello"),
        ("bytes=6-", b"world"),
        ("bytes=-3", b"rld"),
        ("bytes=4-99", b"o world"),
    ):
        part = s3.get_object(Bucket="bucket", Key=key, Range=text)
        assert (part["Body"].read(), part["ResponseMetadata"]["HTTPStatusCode"]) == (wanted, 206)
        assert part["ContentRange"].endswith("/11")
    assert code(s3.get_object, Bucket="bucket", Key=key, Range="bytes=11-") == "InvalidRange"
    assert read(s3, key, Range="nonsense") == b"hello world"
    # What a client asks the answer to say
    found = s3.get_object(Bucket="bucket", Key=key, ResponseContentType="x/y", ResponseContentDisposition="attachment")
    assert (found["ContentType"], found["ContentDisposition"]) == ("x/y", "attachment")

    # Tags and attributes
    s3.put_object_tagging(Bucket="bucket", Key=key, Tagging={"TagSet": [{"Key": "c", "Value": ""}]})
    assert s3.get_object_tagging(Bucket="bucket", Key=key)["TagSet"] == [{"Key": "c", "Value": ""}]
    s3.delete_object_tagging(Bucket="bucket", Key=key)
    assert s3.get_object_tagging(Bucket="bucket", Key=key)["TagSet"] == []
    known = s3.get_object_attributes(
        Bucket="bucket", Key=key, ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass", "ObjectParts"]
    )
    assert (known["ETag"], known["ObjectSize"], known["StorageClass"]) == (put["ETag"].strip('"'), 11, "STANDARD_IA")
    assert known["Checksum"]["ChecksumType"] == "FULL_OBJECT"

    # Many at once
    for number in range(3):
        s3.put_object(Bucket="bucket", Key=f"d{number}", Body=b"")
    wanted_gone = {"Objects": [{"Key": "d0"}, {"Key": "d1", "ETag": '"other"'}, {"Key": "nothing"}]}
    gone = s3.delete_objects(Bucket="bucket", Delete=wanted_gone)
    assert [one["Key"] for one in gone["Deleted"]] == ["d0", "nothing"]
    assert [(one["Key"], one["Code"]) for one in gone["Errors"]] == [("d1", "PreconditionFailed")]
    assert keys(s3, Prefix="d") == ["d1", "d2"]
    quiet = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "d1"}], "Quiet": True})
    assert "Deleted" not in quiet


def test_conditions(s3: Any) -> None:
    etag = s3.put_object(Bucket="bucket", Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    this = {"Bucket": "bucket", "Key": "k"}
    assert code(s3.put_object, **this, Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
    assert code(s3.put_object, **this, Body=b"2", IfMatch='"other"') == "PreconditionFailed"
    assert code(s3.put_object, Bucket="bucket", Key="new", Body=b"2", IfMatch=etag) == "NoSuchKey"
    assert read(s3, "k") == b"1"
    etag2 = s3.put_object(**this, Body=b"2", IfMatch=etag)["ETag"]
    assert code(s3.get_object, **this, IfMatch=etag) == "PreconditionFailed"
    assert code(s3.get_object, **this, IfNoneMatch=etag2) == "304"
    assert read(s3, "k", IfNoneMatch=etag) == b"2"
    now = s3.head_object(**this)["LastModified"]
    before, after = now - datetime.timedelta(seconds=60), now + datetime.timedelta(seconds=60)
    assert code(s3.get_object, **this, IfModifiedSince=after) == "304"
    assert code(s3.head_object, **this, IfUnmodifiedSince=before) == "412"
    assert read(s3, "k", IfModifiedSince=before, IfUnmodifiedSince=after) == b"2"
    source = {"CopySource": "bucket/k", "Bucket": "bucket", "Key": "copy"}
    assert code(s3.copy_object, **source, CopySourceIfMatch=etag) == "PreconditionFailed"
    s3.copy_object(**source, CopySourceIfMatch=etag2)
    assert code(s3.delete_object, **this, IfMatch=etag) == "PreconditionFailed"
    s3.delete_object(**this, IfMatch=etag2)
    assert code(s3.head_object, **this) == "404"


def test_checksums(cloud: LocalCloud, s3: Any) -> None:
    """Each algorithm is verified, kept and shown; a wrong one changes nothing."""
    for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"):
        # boto3 computes it, here as a header and above as a trailer.
        put = s3.put_object(Bucket="bucket", Key=algorithm, Body=b"data", ChecksumAlgorithm=algorithm)
        member = f"Checksum{algorithm}"
        assert put[member]
        # It verifies what it reads, too.
        found = s3.get_object(Bucket="bucket", Key=algorithm, ChecksumMode="ENABLED")
        assert (found["Body"].read(), found[member], found["ChecksumType"]) == (b"data", put[member], "FULL_OBJECT")
        wrong = base64.b64encode(b"\0" * len(base64.b64decode(put[member]))).decode()
        assert code(s3.put_object, Bucket="bucket", Key=algorithm, Body=b"other", **{member: wrong}) == "BadDigest"
        assert read(s3, algorithm) == b"data"
        assert code(s3.put_object, Bucket="bucket", Key=algorithm, Body=b"x", **{member: "AAA="}) == "InvalidRequest"
    sha = base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    assert s3.head_object(Bucket="bucket", Key="SHA256", ChecksumMode="ENABLED")["ChecksumSHA256"] == sha
    # Without any the object has one all the same.
    plain = cloud.client("s3", config=Config(request_checksum_calculation="when_required"))
    assert plain.put_object(Bucket="bucket", Key="plain", Body=b"data")["ChecksumCRC64NVME"]
    copied = s3.copy_object(Bucket="bucket", Key="c", CopySource="bucket/plain", ChecksumAlgorithm="CRC32")
    crc = base64.b64encode(zlib.crc32(b"data").to_bytes(4, "big")).decode()
    assert copied["CopyObjectResult"]["ChecksumCRC32"] == crc
    (entry,) = s3.list_objects_v2(Bucket="bucket", Prefix="SHA1")["Contents"]
    assert entry["ChecksumAlgorithm"] == ["SHA1"]


def test_copies(s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="a?b c", Body=b"1", Metadata={"m": "1"}, Tagging="t=1", ContentType="text/x")
    source = {"Bucket": "bucket", "Key": "a?b c"}
    s3.copy_object(Bucket="bucket", Key="same", CopySource=source)
    found = s3.get_object(Bucket="bucket", Key="same")
    assert (found["Metadata"], found["ContentType"], found["TagCount"]) == ({"m": "1"}, "text/x", 1)
    s3.copy_object(
        Bucket="bucket", Key="new", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"},
        TaggingDirective="REPLACE", Tagging="u=2",
    )  # fmt: skip
    found = s3.get_object(Bucket="bucket", Key="new")
    assert (found["Metadata"], found["ContentType"]) == ({"n": "2"}, "binary/octet-stream")
    assert s3.get_object_tagging(Bucket="bucket", Key="new")["TagSet"] == [{"Key": "u", "Value": "2"}]
    assert code(s3.copy_object, Bucket="bucket", Key="a?b c", CopySource=source) == "InvalidRequest"
    s3.copy_object(Bucket="bucket", Key="a?b c", CopySource=source, StorageClass="ONEZONE_IA")
    assert s3.head_object(**source)["StorageClass"] == "ONEZONE_IA"
    assert code(s3.copy_object, Bucket="bucket", Key="x", CopySource="bucket/nothing") == "NoSuchKey"
    assert code(s3.copy_object, Bucket="bucket", Key="x", CopySource="nobody/k") == "NoSuchBucket"


def test_versions(cloud: LocalCloud, s3: Any) -> None:
    this = {"Bucket": "bucket", "Key": "k"}
    s3.put_object(**this, Body=b"0")
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    one, two = (s3.put_object(**this, Body=body)["VersionId"] for body in (b"1", b"2"))
    assert (read(s3, "k"), read(s3, "k", VersionId=one), read(s3, "k", VersionId="null")) == (b"2", b"1", b"0")
    marker = s3.delete_object(**this)
    assert marker["DeleteMarker"] is True
    with pytest.raises(ClientError) as caught:
        s3.get_object(**this)
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker["VersionId"])
    assert code(s3.get_object, **this, VersionId=marker["VersionId"]) == "MethodNotAllowed"
    assert code(s3.get_object, **this, VersionId="0" * 32) == "NoSuchVersion"
    assert code(s3.get_object, **this, VersionId="nonsense") == "InvalidArgument"
    assert keys(s3) == []
    assert refused(s3.delete_bucket, Bucket="bucket")[1].endswith("You must delete all versions in the bucket.")
    cloud.kill()
    cloud.start()
    listed = s3.list_object_versions(Bucket="bucket")
    assert [(one["VersionId"], one["IsLatest"]) for one in listed["Versions"]] == [
        (two, False),
        (one, False),
        ("null", False),
    ]
    assert [(one["VersionId"], one["IsLatest"]) for one in listed["DeleteMarkers"]] == [(marker["VersionId"], True)]
    # Page by page it is the same.
    seen: list[str] = []
    page: dict[str, Any] = {}
    while True:
        found = s3.list_object_versions(Bucket="bucket", MaxKeys=1, **page)
        seen += [one["VersionId"] for one in (*found.get("Versions", []), *found.get("DeleteMarkers", []))]
        if not found["IsTruncated"]:
            break
        page = {"KeyMarker": found["NextKeyMarker"], "VersionIdMarker": found["NextVersionIdMarker"]}
    assert seen == [marker["VersionId"], two, one, "null"]

    # Without its marker the object is there again; so is the one before when a version goes.
    assert s3.delete_object(**this, VersionId=marker["VersionId"])["DeleteMarker"] is True
    assert read(s3, "k") == b"2"
    s3.delete_object(**this, VersionId=two)
    assert (read(s3, "k"), keys(s3)) == (b"1", ["k"])

    # Suspended, what is written takes the null version's place and leaves the others.
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Suspended"})
    assert "VersionId" not in s3.put_object(**this, Body=b"3")
    assert [v["VersionId"] for v in s3.list_object_versions(Bucket="bucket")["Versions"]] == ["null", one]
    assert s3.delete_object(**this)["VersionId"] == "null"
    listed = s3.list_object_versions(Bucket="bucket")
    assert [v["VersionId"] for v in listed["Versions"]] == [one]
    assert [m["VersionId"] for m in listed["DeleteMarkers"]] == ["null"]
    s3.copy_object(Bucket="bucket", Key="copy", CopySource=f"bucket/k?versionId={one}")
    assert read(s3, "copy") == b"1"


def test_listings(s3: Any) -> None:
    names = ["a", "b/1", "b/2", "b/c/3", "b0", "c/", "d", "é/1", "\U0001f600"]
    for name in names:
        s3.put_object(Bucket="bucket", Key=name, Body=b"x")
    assert keys(s3) == names
    assert keys(s3, Prefix="b/") == ["b/1", "b/2", "b/c/3"]
    assert keys(s3, StartAfter="b/2", MaxKeys=2) == ["b/c/3", "b0"]

    def folded(**parameters: Any) -> tuple[list[str], list[str]]:
        found = s3.list_objects_v2(Bucket="bucket", **parameters)
        assert found["KeyCount"] == len(found.get("Contents", [])) + len(found.get("CommonPrefixes", []))
        return [one["Key"] for one in found.get("Contents", [])], [
            one["Prefix"] for one in found.get("CommonPrefixes", [])
        ]

    assert folded(Delimiter="/") == (["a", "b0", "d", "\U0001f600"], ["b/", "c/", "é/"])
    assert folded(Delimiter="/", Prefix="b/") == (["b/1", "b/2"], ["b/c/"])
    assert folded(Delimiter="0") == ([n for n in names if n != "b0"], ["b0"])
    for size in (1, 2, 3):
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket="bucket", Delimiter="/", PaginationConfig={"PageSize": size}
        )
        seen: list[str] = []
        for page in pages:
            seen += [one["Key"] for one in page.get("Contents", [])]
            seen += [one["Prefix"] for one in page.get("CommonPrefixes", [])]
        assert sorted(seen) == ["a", "b/", "b0", "c/", "d", "é/", "\U0001f600"]
        old = s3.get_paginator("list_objects").paginate(Bucket="bucket", PaginationConfig={"PageSize": size})
        assert [one["Key"] for page in old for one in page["Contents"]] == names
    first = s3.list_objects(Bucket="bucket", MaxKeys=1)
    assert (first["IsTruncated"], first["Contents"][0]["Owner"]["ID"] != "") == (True, True)
    assert s3.list_objects(Bucket="bucket", MaxKeys=0).get("Contents") is None
    assert code(s3.list_objects_v2, Bucket="bucket", ContinuationToken="ü") == "InvalidArgument"
    assert code(s3.list_objects_v2, Bucket="bucket", MaxKeys=-1) == "InvalidArgument"


def test_locks(cloud: LocalCloud, s3: Any) -> None:
    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    assert s3.get_bucket_versioning(Bucket="locked")["Status"] == "Enabled"
    this = {"Bucket": "locked", "Key": "k"}
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
    put = s3.put_object(**this, Body=b"1", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    version = {"VersionId": put["VersionId"]}
    assert refused(s3.delete_object, **this, **version) == (
        "AccessDenied",
        "Access Denied because object protected by object lock.",
    )
    s3.put_object_legal_hold(**this, LegalHold={"Status": "ON"})
    assert code(s3.delete_object, **this, **version, BypassGovernanceRetention=True) == "AccessDenied"
    s3.put_object_legal_hold(**this, LegalHold={"Status": "OFF"})
    head = s3.head_object(**this)
    assert (head["ObjectLockMode"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "OFF")
    shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": until - datetime.timedelta(days=1)}
    assert code(s3.put_object_retention, **this, Retention=shorter) == "AccessDenied"
    s3.put_object_retention(**this, Retention=shorter, BypassGovernanceRetention=True)
    cloud.advance(DAY + 60)
    s3.delete_object(**this, **version)

    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    s3.put_object_lock_configuration(
        Bucket="locked", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    assert s3.get_object_lock_configuration(Bucket="locked")["ObjectLockConfiguration"]["Rule"] == rule
    version = {"VersionId": s3.put_object(**this, Body=b"2")["VersionId"]}
    assert s3.get_object_retention(**this)["Retention"]["Mode"] == "COMPLIANCE"
    assert code(s3.delete_object, **this, **version, BypassGovernanceRetention=True) == "AccessDenied"
    gone = s3.delete_objects(Bucket="locked", Delete={"Objects": [{"Key": "k", **version}]})
    assert gone["Errors"][0]["Code"] == "AccessDenied"
    cloud.advance(DAY + 1)
    s3.delete_object(**this, **version)
    assert code(s3.put_object, Bucket="bucket", Key="k", ObjectLockLegalHoldStatus="ON") == "InvalidRequest"
    suspended = {"Bucket": "locked", "VersioningConfiguration": {"Status": "Suspended"}}
    assert code(s3.put_bucket_versioning, **suspended) == "InvalidBucketState"


def test_configurations(s3: Any) -> None:
    """What Terraform reads of a new bucket, and what it writes."""
    this = {"Bucket": "bucket"}
    for call, wanted in (
        (s3.get_bucket_tagging, "NoSuchTagSet"),
        (s3.get_bucket_policy, "NoSuchBucketPolicy"),
        (s3.get_bucket_cors, "NoSuchCORSConfiguration"),
        (s3.get_bucket_website, "NoSuchWebsiteConfiguration"),
        (s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
        (s3.get_bucket_replication, "ReplicationConfigurationNotFoundError"),
        (s3.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
    ):
        assert code(call, **this) == wanted
    assert "Status" not in s3.get_bucket_versioning(**this)
    assert "Status" not in s3.get_bucket_accelerate_configuration(**this)
    assert s3.get_bucket_request_payment(**this)["Payer"] == "BucketOwner"
    assert "LoggingEnabled" not in s3.get_bucket_logging(**this)
    rules = s3.get_bucket_encryption(**this)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert s3.get_bucket_ownership_controls(**this)["OwnershipControls"]["Rules"] == [
        {"ObjectOwnership": "BucketOwnerEnforced"}
    ]
    assert all(s3.get_public_access_block(**this)["PublicAccessBlockConfiguration"].values())
    (grant,) = s3.get_bucket_acl(**this)["Grants"]
    assert grant["Permission"] == "FULL_CONTROL"

    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}
        ],
    }
    text = json.dumps(policy)
    assert code(s3.put_bucket_policy, **this, Policy=text) == "AccessDenied"  # public policies are blocked
    s3.delete_public_access_block(**this)
    s3.put_bucket_policy(**this, Policy=text)
    assert json.loads(s3.get_bucket_policy(**this)["Policy"]) == policy
    assert s3.get_bucket_policy_status(**this)["PolicyStatus"]["IsPublic"] is True
    assert code(s3.put_bucket_policy, **this, Policy="{}") == "MalformedPolicy"
    other = text.replace("bucket/*", "other/*")
    assert code(s3.put_bucket_policy, **this, Policy=other) == "MalformedPolicy"
    s3.delete_bucket_policy(**this)

    s3.put_bucket_tagging(**this, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    assert s3.get_bucket_tagging(**this)["TagSet"] == [{"Key": "a", "Value": "1"}]
    s3.put_bucket_encryption(
        **this,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "key"}}]
        },
    )
    assert s3.put_object(**this, Key="k")["SSEKMSKeyId"] == "arn:aws:kms:us-east-1:000000000000:key/key"
    wrong = {"ExpectedBucketOwner": "somebody"}
    assert code(s3.get_bucket_policy, **this, **wrong) == "InvalidBucketOwnerAWSAccountID"
    assert s3.head_object(**this, Key="k")["ServerSideEncryption"] == "aws:kms"
    assert code(s3.put_bucket_acl, **this, ACL="public-read") == "AccessControlListNotSupported"
    s3.put_bucket_ownership_controls(**this, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    s3.put_bucket_acl(**this, ACL="public-read")
    assert len(s3.get_bucket_acl(**this)["Grants"]) == 2
    s3.put_object_acl(**this, Key="k", ACL="public-read")
    assert len(s3.get_object_acl(**this, Key="k")["Grants"]) == 2
    metrics = {"Id": "all", "Filter": {"Prefix": "p"}}
    s3.put_bucket_metrics_configuration(**this, Id="all", MetricsConfiguration=metrics)
    assert s3.list_bucket_metrics_configurations(**this)["MetricsConfigurationList"] == [metrics]
    rule = {"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::other"}}
    replication = {"Role": "arn:aws:iam::000000000000:role/r", "Rules": [rule]}
    assert code(s3.put_bucket_replication, **this, ReplicationConfiguration=replication) == "NotImplemented"


def test_customer_keys(s3: Any) -> None:
    """An object under a client's own key is shown only with it."""
    secret = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    put = s3.put_object(Bucket="bucket", Key="k", Body=b"1", **secret)
    assert "ServerSideEncryption" not in put
    assert read(s3, "k", **secret) == b"1"
    assert code(s3.get_object, Bucket="bucket", Key="k") == "InvalidRequest"
    other = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "o" * 32}
    assert code(s3.get_object, Bucket="bucket", Key="k", **other) == "AccessDenied"


def test_archives(cloud: LocalCloud, s3: Any) -> None:
    this = {"Bucket": "bucket", "Key": "k"}
    s3.put_object(**this, Body=b"1", StorageClass="GLACIER")
    assert code(s3.get_object, **this) == "InvalidObjectState"
    s3.restore_object(**this, RestoreRequest={"Days": 1})
    assert 'ongoing-request="false"' in s3.head_object(**this)["Restore"]
    assert read(s3, "k") == b"1"
    cloud.advance(3 * DAY)
    assert "Restore" not in s3.head_object(**this)
    assert code(s3.get_object, **this) == "InvalidObjectState"


def test_what_cloudwatch_hears(cloud: LocalCloud) -> None:
    s3, cloudwatch = cloud.client("s3"), cloud.client("cloudwatch")
    s3.create_bucket(Bucket="seen")
    everything = {"Id": "all"}
    s3.put_bucket_metrics_configuration(Bucket="seen", Id="all", MetricsConfiguration=everything)
    logs = {"Id": "logs", "Filter": {"Prefix": "logs/"}}
    s3.put_bucket_metrics_configuration(Bucket="seen", Id="logs", MetricsConfiguration=logs)
    tagged = {"Id": "tags", "Filter": {"Tag": {"Key": "a", "Value": "b"}}}
    with pytest.raises(ClientError, match="filter of tags"):
        s3.put_bucket_metrics_configuration(Bucket="seen", Id="tags", MetricsConfiguration=tagged)
    for key in ("logs/1", "other"):
        s3.put_object(Bucket="seen", Key=key, Body=b"x" * 100)
    s3.put_object(Bucket="seen", Key="cold", Body=b"x" * 50, StorageClass="STANDARD_IA")
    s3.get_object(Bucket="seen", Key="logs/1")["Body"].read()
    with pytest.raises(ClientError):
        s3.get_object(Bucket="seen", Key="logs/2")
    cloud.advance(86_400)
    cloud.advance(60)
    now = float(cloud.control("clock")["now"])

    def total(metric: str, **dimensions: str) -> float:
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/S3",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - 2 * 86_400,
            EndTime=now + 60,
            Period=3 * 86_400,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(one["Sum"] for one in found))

    assert total("NumberOfObjects", BucketName="seen", StorageType="AllStorageTypes") == 3
    assert total("BucketSizeBytes", BucketName="seen", StorageType="StandardStorage") == 200
    assert total("BucketSizeBytes", BucketName="seen", StorageType="StandardIAStorage") == 50
    assert total("PutRequests", BucketName="seen", FilterId="all") >= 3
    assert total("GetRequests", BucketName="seen", FilterId="logs") == 2
    assert total("4xxErrors", BucketName="seen", FilterId="logs") == 1
    assert total("BytesDownloaded", BucketName="seen", FilterId="logs") == 100
    assert total("BytesUploaded", BucketName="seen", FilterId="logs") >= 100


def test_somebody_else_pays(cloud: LocalCloud, s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="k", Body=b"1")
    s3.delete_public_access_block(Bucket="bucket")
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "111111111111"},
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::bucket/*",
    }
    s3.put_bucket_policy(Bucket="bucket", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    other = cloud.client("s3", account="111111111111")
    assert other.get_object(Bucket="bucket", Key="k")["Body"].read() == b"1"
    s3.put_bucket_request_payment(Bucket="bucket", RequestPaymentConfiguration={"Payer": "Requester"})
    assert code(other.get_object, Bucket="bucket", Key="k") == "AccessDenied"
    assert other.get_object(Bucket="bucket", Key="k", RequestPayer="requester")["Body"].read() == b"1"
    assert read(s3, "k") == b"1"


def test_markers_conditions_and_tags_are_judged_as_s3_does(cloud: LocalCloud) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="bucket")
    for key in ("folder/below/1", "folder/below/2", "folder/file1", "folder/file2"):
        s3.put_object(Bucket="bucket", Key=key, Body=b"x")

    # A marker inside a common prefix has seen all of it.
    inside: dict[str, Any] = {"Bucket": "bucket", "Prefix": "folder/", "Delimiter": "/", "MaxKeys": 1}
    page = s3.list_objects(**inside, Marker="folder/below/1")
    assert [one["Key"] for one in page["Contents"]] == ["folder/file1"]
    assert "CommonPrefixes" not in page
    versions = s3.list_object_versions(**inside, KeyMarker="folder/below/1")
    assert [one["Key"] for one in versions["Versions"]] == ["folder/file1"]

    def refused(code: str, words: str, **input: Any) -> None:
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket="bucket", Key="k", Body=b"x", **input)
        assert (error.value.response["Error"]["Code"], words in str(error.value.response["Error"])) == (code, True)

    refused("NotImplemented", "Multiple conditional request headers", IfMatch='"a"', IfNoneMatch="*")
    refused("NotImplemented", "provided value of If-Match header", IfMatch="*")
    refused("InvalidArgument", "without tag name duplicates", Tagging="a=1&a=2")
    refused("InvalidTag", "The TagKey you have provided is invalid", Tagging="a,b=1")

    # A range of the whole object has the whole object's checksum.
    whole = s3.get_object(Bucket="bucket", Key="folder/file1", Range="bytes=0-", ChecksumMode="ENABLED")
    assert whole["ChecksumType"] == "FULL_OBJECT"
