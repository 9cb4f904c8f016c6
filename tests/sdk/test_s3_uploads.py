"""S3 through boto3: large bodies, uploads in parts, and what survives kill -9."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import tempfile
import threading
import time
import zlib
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

MB = 1024 * 1024
DAY = 86_400


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    client = cloud.client("s3")
    client.create_bucket(Bucket="bucket")
    return client


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def files(cloud: LocalCloud) -> int:
    """How many files hold objects; what was let go is deleted a moment later."""
    return sum(1 for path in (cloud.data_dir / "s3").rglob("*") if path.is_file())


def test_large_objects(cloud: LocalCloud, s3: Any) -> None:
    data = noise(3 * MB + 17)
    this = {"Bucket": "bucket", "Key": "large"}
    etag = s3.put_object(**this, Body=data)["ETag"]
    assert etag.strip('"') == hashlib.md5(data).hexdigest()
    assert s3.get_object(**this)["Body"].read() == data
    assert s3.get_object(**this, Range=f"bytes={MB - 1}-{2 * MB}")["Body"].read() == data[MB - 1 : 2 * MB + 1]
    eventually(lambda: files(cloud) == 1)
    s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/large")
    # A reader that has begun ends with the bytes that it began with.
    reader = s3.get_object(**this)["Body"]
    assert reader.read(10) == data[:10]
    s3.put_object(**this, Body=b"small")
    assert reader.read() == data[10:]
    s3.delete_object(**this)
    cloud.kill()
    cloud.start()
    assert s3.get_object(Bucket="bucket", Key="copy")["Body"].read() == data
    eventually(lambda: files(cloud) == 1)
    s3.delete_object(Bucket="bucket", Key="copy")
    eventually(lambda: files(cloud) == 0)
    # What is wrong leaves nothing.
    wrong = {"ChecksumSHA256": "A" * 43 + "="}
    assert refused(s3.put_object, **this, Body=data, **wrong)[0] == "BadDigest"
    eventually(lambda: files(cloud) == 0)


def test_memory(cloud: LocalCloud, s3: Any) -> None:
    """A body passes through; it is never held."""

    def memory() -> int:
        with open(f"/proc/{cloud.pid}/status") as status:
            return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))

    s3.put_object(Bucket="bucket", Key="k", Body=noise(2 * MB))
    before = memory()
    with tempfile.TemporaryFile() as zeros:
        zeros.truncate(300 * MB)  # a file with nothing in it
        s3.put_object(Bucket="bucket", Key="zeros", Body=zeros)
    body = s3.get_object(Bucket="bucket", Key="zeros")["Body"]
    assert sum(len(chunk) for chunk in body.iter_chunks(MB)) == 300 * MB
    assert memory() - before < 40


def test_parts(cloud: LocalCloud, s3: Any) -> None:
    data = noise(12 * MB)
    this = {"Bucket": "bucket", "Key": "parts"}
    upload = s3.create_multipart_upload(
        **this, Metadata={"m": "1"}, ContentType="text/plain", Tagging="a=1", ChecksumAlgorithm="CRC32"
    )["UploadId"]
    ids = {**this, "UploadId": upload}
    pieces = [data[: 5 * MB], data[5 * MB : 11 * MB], data[11 * MB :]]
    s3.upload_part(**ids, PartNumber=2, Body=b"to be replaced")
    etags = {}
    for number in (3, 1, 2):
        etags[number] = s3.upload_part(**ids, PartNumber=number, Body=pieces[number - 1])
    cloud.kill()
    cloud.start()
    listed = s3.list_parts(**ids)
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(1, 5 * MB), (2, 6 * MB), (3, MB)]
    page = s3.list_parts(**ids, MaxParts=1, PartNumberMarker=1)
    assert ([part["PartNumber"] for part in page["Parts"]], page["IsTruncated"]) == ([2], True)
    assert [one["UploadId"] for one in s3.list_multipart_uploads(Bucket="bucket")["Uploads"]] == [upload]
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")

    def parts(*numbers: int) -> dict[str, Any]:
        return {
            "Parts": [
                {"PartNumber": n, "ETag": etags[n]["ETag"], "ChecksumCRC32": etags[n]["ChecksumCRC32"]} for n in numbers
            ]
        }

    complete = s3.complete_multipart_upload
    assert refused(complete, **ids, MultipartUpload=parts(2, 1))[0] == "InvalidPartOrder"
    assert refused(complete, **ids, MultipartUpload=parts(1, 3, 3))[0] == "InvalidPartOrder"
    bad = parts(1, 2, 3)
    bad["Parts"][1]["ETag"] = '"nonsense"'
    assert refused(complete, **ids, MultipartUpload=bad)[0] == "InvalidPart"
    assert refused(complete, **ids, MultipartUpload=parts(1, 2, 3), MpuObjectSize=1)[0] == "InvalidRequest"
    done = complete(**ids, MultipartUpload=parts(1, 2, 3))
    digest = hashlib.md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)).hexdigest()
    assert done["ETag"] == f'"{digest}-3"'
    assert done["Location"] == f"{cloud.endpoint}/bucket/parts"
    # Whoever missed the answer may ask again.
    assert complete(**ids, MultipartUpload=parts(1, 2, 3))["ETag"] == done["ETag"]
    found = s3.get_object(**this)
    assert found["Body"].read() == data
    assert (found["Metadata"], found["ContentType"], found["TagCount"]) == ({"m": "1"}, "text/plain", 1)
    head = s3.head_object(**this, ChecksumMode="ENABLED")
    assert (head["ChecksumType"], head["ChecksumCRC32"].endswith("-3")) == ("COMPOSITE", True)
    second = s3.get_object(**this, PartNumber=2)
    assert (second["Body"].read(), second["PartsCount"]) == (pieces[1], 3)
    own = base64.b64encode(zlib.crc32(pieces[1]).to_bytes(4, "big")).decode()
    assert s3.head_object(**this, PartNumber=2, ChecksumMode="ENABLED")["ChecksumCRC32"] == own
    assert (
        s3.get_object(**this, Range=f"bytes={5 * MB - 2}-{5 * MB + 1}")["Body"].read() == data[5 * MB - 2 : 5 * MB + 2]
    )
    known = s3.get_object_attributes(**this, ObjectAttributes=["ObjectParts"])["ObjectParts"]
    assert (known["TotalPartsCount"], [part["Size"] for part in known["Parts"]]) == (3, [5 * MB, 6 * MB, MB])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")
    assert refused(s3.upload_part, **ids, PartNumber=1, Body=b"")[0] == "NoSuchUpload"

    # Parts of what is there already, checksum of the whole, and too small a part.
    full = s3.create_multipart_upload(
        Bucket="bucket", Key="full", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
    )
    ids = {"Bucket": "bucket", "Key": "full", "UploadId": full["UploadId"]}
    copied = []
    for number, span in ((1, f"bytes=0-{6 * MB - 1}"), (2, f"bytes={6 * MB}-{12 * MB - 1}")):
        part = s3.upload_part_copy(**ids, PartNumber=number, CopySource="bucket/parts", CopySourceRange=span)
        copied.append({"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]})
    done = complete(**ids, MultipartUpload={"Parts": copied})
    s3.put_object(Bucket="bucket", Key="whole", Body=data)
    whole = s3.head_object(Bucket="bucket", Key="whole", ChecksumMode="ENABLED")
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (whole["ChecksumCRC32"], "FULL_OBJECT")
    assert s3.get_object(Bucket="bucket", Key="full")["Body"].read() == data

    ids = {**this, "UploadId": s3.create_multipart_upload(**this)["UploadId"]}
    etags = {number: s3.upload_part(**ids, PartNumber=number, Body=b"tiny") for number in (1, 2)}
    assert refused(complete, **ids, MultipartUpload=parts(1, 2))[0] == "EntityTooSmall"
    assert refused(s3.upload_part, **ids, PartNumber=10_001, Body=b"")[0] == "InvalidArgument"
    s3.abort_multipart_upload(**ids)
    assert refused(s3.list_parts, **ids)[0] == "NoSuchUpload"
    for key in ("parts", "full", "whole"):
        s3.delete_object(Bucket="bucket", Key=key)
    eventually(lambda: files(cloud) == 0)


def test_transfers(cloud: LocalCloud, s3: Any) -> None:
    """The transfer manager's many connections, on versioned and virtual-hosted buckets alike."""
    data = noise(21 * MB)
    config = TransferConfig(multipart_threshold=5 * MB, multipart_chunksize=5 * MB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(data), "bucket", "t", Config=config, ExtraArgs={"ContentType": "x/y"})
    target = io.BytesIO()
    s3.download_fileobj("bucket", "t", target, Config=config)
    assert target.getvalue() == data
    s3.copy({"Bucket": "bucket", "Key": "t"}, "bucket", "u", Config=config)
    assert s3.head_object(Bucket="bucket", Key="u")["ContentLength"] == len(data)


def test_kill_during_uploads(cloud: LocalCloud, s3: Any) -> None:
    """Whatever was acknowledged is there, whole; what was not leaves no file."""
    done: dict[str, bytes] = {}
    stop = threading.Event()

    def write(name: str) -> None:
        client = cloud.client("s3", config=Config(retries={"max_attempts": 0}))
        for number in range(1000):
            data = noise(100_000 + number)
            try:
                client.put_object(Bucket="bucket", Key=f"{name}-{number % 20}", Body=data)
            except (BotoCoreError, ClientError, OSError):
                return
            done[f"{name}-{number % 20}"] = data
            if stop.is_set():
                return

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    cloud.kill()
    stop.set()
    for thread in threads:
        thread.join()
    cloud.start()
    assert done
    listed = [one["Key"] for one in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    assert set(done) <= set(listed)
    for key in listed:
        found = s3.get_object(Bucket="bucket", Key=key)
        body = found["Body"].read()
        assert found["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    eventually(lambda: files(cloud) == len(listed))
    # The last that was acknowledged, or the next that was under way.
    assert all(len(s3.get_object(Bucket="bucket", Key=key)["Body"].read()) >= len(data) for key, data in done.items())
