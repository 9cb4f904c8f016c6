"""ECR through boto3, and its registry through HTTP as container engines speak it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from callers import root_of
from refusals import refused

from cloudlet.testing import eventually
from cloudlet.testing.local import LocalCloud

DAY = 86_400
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def ecr(cloud: LocalCloud) -> Any:
    return cloud.client("ecr")


class Answer:
    """What the registry has answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def code(self) -> str:
        """The code of the error."""
        return str(json.loads(self.body)["errors"][0]["code"])


class Registry:
    """A client of the registry."""

    def __init__(self, cloud: LocalCloud, host: str = "") -> None:
        self.address = urlsplit(cloud.endpoint).netloc
        self.host = host or self.address

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": self.host, **headers}, encode_chunked=False)
        try:
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def push_blob(self, name: str, data: bytes) -> str:
        """Push a layer in two chunks."""
        opened = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert opened.status == 202
        middle = len(data) // 2
        first = self.ask("PATCH", opened.headers["location"], data[:middle], Content_Range=f"0-{middle - 1}")
        assert (first.status, first.headers["range"]) == (202, f"0-{middle - 1}")
        again = self.ask("PATCH", first.headers["location"], data[:middle], Content_Range=f"0-{middle - 1}")
        assert again.status == 416
        self.ask("PATCH", first.headers["location"], data[middle:], Content_Range=f"{middle}-{len(data) - 1}")
        done = self.ask("PUT", f"{first.headers['location']}?digest={digest_of(data)}")
        assert (done.status, done.headers["docker-content-digest"]) == (201, digest_of(data))
        return digest_of(data)

    def push_image(self, name: str, tag: str, *layers: bytes) -> str:
        """Push an image and return its digest."""
        described = [descriptor(self.push_blob(name, layer), len(layer)) for layer in layers]
        manifest = image_of(descriptor(self.push_blob(name, b"{}  "), 4), described)
        put = self.ask("PUT", f"/v2/{name}/manifests/{tag}", manifest, Content_Type=IMAGE)
        assert put.status == 201, put.body
        return put.headers["docker-content-digest"]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(digest: str, size: int, media_type: str = "application/vnd.oci.image.layer.v1.tar") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def image_of(config: dict[str, Any], layers: list[dict[str, Any]], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers, **more}).encode()


def test_repositories(cloud: LocalCloud, ecr: Any) -> None:
    made = ecr.create_repository(
        repositoryName="team/app",
        imageTagMutability="IMMUTABLE",
        imageScanningConfiguration={"scanOnPush": True},
        tags=[{"Key": "a", "Value": "1"}],
    )["repository"]
    assert made["repositoryArn"] == "arn:aws:ecr:us-east-1:000000000000:repository/team/app"
    assert made["repositoryUri"].endswith("/team/app")
    assert "000000000000.dkr.ecr.us-east-1" in made["repositoryUri"]
    assert refused(ecr.create_repository, repositoryName="team/app") == (
        "RepositoryAlreadyExistsException",
        "The repository with name 'team/app' already exists in the registry with id '000000000000'",
    )
    ecr.create_repository(repositoryName="other")
    cloud.kill()
    cloud.start()
    assert [each["repositoryName"] for each in ecr.describe_repositories()["repositories"]] == ["other", "team/app"]
    shown = ecr.describe_repositories(repositoryNames=["team/app"])["repositories"][0]
    assert (shown["imageTagMutability"], shown["imageScanningConfiguration"]) == ("IMMUTABLE", {"scanOnPush": True})
    assert refused(ecr.describe_repositories, repositoryNames=["nobody"]) == (
        "RepositoryNotFoundException",
        "The repository with name 'nobody' does not exist in the registry with id '000000000000'",
    )
    assert cloud.client("ecr", region="eu-west-1").describe_repositories()["repositories"] == []

    ecr.tag_resource(resourceArn=made["repositoryArn"], tags=[{"Key": "b", "Value": "2"}])
    ecr.untag_resource(resourceArn=made["repositoryArn"], tagKeys=["a"])
    assert ecr.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"] == [{"Key": "b", "Value": "2"}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*"}]})
    assert refused(ecr.get_repository_policy, repositoryName="other")[0] == "RepositoryPolicyNotFoundException"
    ecr.set_repository_policy(repositoryName="other", policyText=policy)
    assert ecr.get_repository_policy(repositoryName="other")["policyText"] == policy
    ecr.delete_repository_policy(repositoryName="other")
    assert refused(ecr.set_repository_policy, repositoryName="other", policyText="{}")[1] == (
        "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'"
    )
    selection = {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1}
    lifecycle = json.dumps({"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]})
    ecr.put_lifecycle_policy(repositoryName="other", lifecyclePolicyText=lifecycle)
    assert ecr.get_lifecycle_policy(repositoryName="other")["lifecyclePolicyText"] == lifecycle
    ecr.delete_lifecycle_policy(repositoryName="other")
    assert refused(ecr.get_lifecycle_policy, repositoryName="other")[0] == "LifecyclePolicyNotFoundException"
    ecr.put_image_tag_mutability(repositoryName="other", imageTagMutability="IMMUTABLE")
    assert refused(ecr.put_image_tag_mutability, repositoryName="other", imageTagMutability="x") == (
        "InvalidParameterException",
        "Invalid parameter at 'imageTagMutability' failed to satisfy constraint: 'Member must satisfy enum value set: "
        "[IMMUTABLE, MUTABLE, MUTABLE_WITH_EXCLUSION, IMMUTABLE_WITH_EXCLUSION]'",
    )
    ecr.put_image_scanning_configuration(repositoryName="other", imageScanningConfiguration={"scanOnPush": True})
    assert (
        refused(ecr.start_image_scan, repositoryName="other", imageId={"imageTag": "x"})[0] == "ImageNotFoundException"
    )
    ecr.delete_repository(repositoryName="other")
    assert refused(ecr.delete_repository, repositoryName="other")[0] == "RepositoryNotFoundException"


def test_images_are_pushed_and_pulled(cloud: LocalCloud, ecr: Any) -> None:
    uri = ecr.create_repository(repositoryName="team/app")["repository"]["repositoryUri"]
    registry = Registry(cloud)
    assert registry.ask("GET", "/v2/").status == 200
    assert registry.ask("POST", "/v2/nobody/blobs/uploads/").code == "NAME_UNKNOWN"
    layer = b"layer" * 500_000
    digest = registry.push_image("team/app", "v1", layer)
    cloud.kill()
    cloud.start()
    head = registry.ask("HEAD", "/v2/team/app/manifests/v1")
    assert (head.status, head.headers["docker-content-digest"], head.headers["content-type"]) == (200, digest, IMAGE)
    manifest = registry.ask("GET", f"/v2/team/app/manifests/{digest}").body
    assert digest_of(manifest) == digest
    blob = f"/v2/team/app/blobs/{digest_of(layer)}"
    assert registry.ask("HEAD", blob).headers["content-length"] == str(len(layer))
    assert registry.ask("GET", blob).body == layer
    part = registry.ask("GET", blob, Range="bytes=5-9")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"layer", f"bytes 5-9/{len(layer)}")
    # By the registry's own host, and by the name of its URI.
    own = Registry(cloud, "000000000000.dkr.ecr.us-east-1.localhost:4566")
    assert own.ask("GET", "/v2/team/app/manifests/v1").body == manifest
    path = "/v2/000000000000.dkr.ecr.us-east-1/team/app/manifests/v1"
    assert registry.ask("GET", path).body == manifest
    assert uri.startswith((registry.address, "000000000000."))
    elsewhere = Registry(cloud, "111111111111.dkr.ecr.us-east-1.localhost:4566")
    assert elsewhere.ask("GET", "/v2/team/app/manifests/v1").code == "NAME_UNKNOWN"
    assert registry.ask("GET", "/v2/team/app/manifests/v9").code == "MANIFEST_UNKNOWN"
    assert registry.ask("GET", "/v2/", Origin="http://evil.example").status == 403

    # What is not there, or is not what it says that it is.
    unknown = image_of(descriptor(digest_of(b"x"), 1), [])
    assert registry.ask("PUT", "/v2/team/app/manifests/x", unknown, Content_Type=IMAGE).code == "MANIFEST_BLOB_UNKNOWN"
    assert registry.ask("PUT", "/v2/team/app/manifests/x", b"[]", Content_Type=IMAGE).code == "MANIFEST_INVALID"
    wrong = registry.ask("POST", f"/v2/team/app/blobs/uploads/?digest={digest_of(b'a')}", b"b")
    assert wrong.code == "DIGEST_INVALID"
    assert registry.ask("GET", f"/v2/team/app/blobs/{digest_of(b'a')}").code == "BLOB_UNKNOWN"

    # A layer of another repository is taken over.
    ecr.create_repository(repositoryName="copy")
    mount = f"/v2/copy/blobs/uploads/?mount={digest_of(layer)}&from=team/app"
    assert registry.ask("POST", mount).status == 201
    assert registry.ask("POST", mount.replace("/copy/", "/team/app/")).status == 201
    assert registry.ask("POST", mount.replace("team/app", "nobody")).status == 202

    # A list of images, and something attached to an image.
    entry = descriptor(digest, len(manifest), IMAGE)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    assert registry.ask("PUT", "/v2/team/app/manifests/all", index, Content_Type=INDEX).status == 201
    signature = image_of(descriptor(digest_of(b"{}  "), 4), [], subject=entry, artifactType="application/signature")
    attached = registry.ask("PUT", f"/v2/team/app/manifests/{digest_of(signature)}", signature, Content_Type=IMAGE)
    assert attached.headers["oci-subject"] == digest
    referrers = json.loads(registry.ask("GET", f"/v2/team/app/referrers/{digest}").body)["manifests"]
    assert [each["artifactType"] for each in referrers] == ["application/signature"]
    listed = registry.ask("GET", "/v2/team/app/tags/list?n=1")
    assert json.loads(listed.body) == {"name": "team/app", "tags": ["all"]}
    assert listed.headers["link"] == '</v2/team/app/tags/list?n=1&last=all>; rel="next"'
    assert json.loads(registry.ask("GET", "/v2/_catalog").body) == {"repositories": ["copy", "team/app"]}

    assert registry.ask("DELETE", f"/v2/team/app/manifests/{digest}").code == "DENIED"
    assert registry.ask("DELETE", "/v2/team/app/manifests/all").status == 202
    assert registry.ask("DELETE", f"/v2/team/app/manifests/{digest_of(index)}").status == 202
    assert registry.ask("DELETE", f"/v2/team/app/manifests/{digest}").status == 202
    assert registry.ask("GET", blob).code == "BLOB_UNKNOWN"
    assert registry.ask("GET", blob.replace("team/app", "copy")).body == layer


def test_image_operations(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="app")
    key = {"repositoryName": "app"}
    layer, config = b"x" * 1000, b'{"os":"linux"}'
    for data in (layer, config):
        upload = ecr.initiate_layer_upload(**key)["uploadId"]
        middle = len(data) // 2
        send = {**key, "uploadId": upload}
        ecr.upload_layer_part(**send, partFirstByte=0, partLastByte=middle - 1, layerPartBlob=data[:middle])
        assert refused(
            ecr.upload_layer_part, **send, partFirstByte=0, partLastByte=middle - 1, layerPartBlob=data[:middle]
        )[0] == ("InvalidLayerPartException")
        cloud.kill()
        cloud.start()
        ecr.upload_layer_part(**send, partFirstByte=middle, partLastByte=len(data) - 1, layerPartBlob=data[middle:])
        assert refused(ecr.complete_layer_upload, **send, layerDigests=[digest_of(b"no")])[0] == "InvalidLayerException"
        assert ecr.complete_layer_upload(**send, layerDigests=[digest_of(data)])["layerDigest"] == digest_of(data)
        assert (
            refused(ecr.complete_layer_upload, **send, layerDigests=[digest_of(data)])[0] == "UploadNotFoundException"
        )
    checked = ecr.batch_check_layer_availability(**key, layerDigests=[digest_of(layer), digest_of(b"?"), "x"])
    assert [each["layerAvailability"] for each in checked["layers"]] == ["AVAILABLE", "UNAVAILABLE"]
    assert [each["failureCode"] for each in checked["failures"]] == ["InvalidLayerDigest"]

    manifest = image_of(descriptor(digest_of(config), 14), [descriptor(digest_of(layer), 1000)]).decode()
    digest = digest_of(manifest.encode())
    assert ecr.put_image(**key, imageManifest=manifest, imageTag="v1")["image"]["imageId"]["imageDigest"] == digest
    assert refused(ecr.put_image, **key, imageManifest=manifest, imageTag="v1") == (
        "ImageAlreadyExistsException",
        f"Image with digest '{digest}' and tag 'v1' already exists in the repository with name 'app' "
        "in registry with id '000000000000'",
    )
    ecr.put_image(**key, imageManifest=manifest, imageTag="v2")
    missing = image_of(descriptor(digest_of(b"no"), 2), []).decode()
    assert refused(ecr.put_image, **key, imageManifest=missing)[0] == "LayersNotFoundException"
    untyped = json.dumps({"schemaVersion": 2})
    assert refused(ecr.put_image, **key, imageManifest=untyped)[1] == (
        "image manifest mediatype not provided in manifest or parameter"
    )
    ecr.put_image_tag_mutability(**key, imageTagMutability="IMMUTABLE")
    other = image_of(descriptor(digest_of(config), 14), []).decode()
    assert refused(ecr.put_image, **key, imageManifest=other, imageTag="v1") == (
        "ImageTagAlreadyExistsException",
        "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is "
        "immutable.",
    )
    ecr.put_image(**key, imageManifest=other)

    assert {each.get("imageTag") for each in ecr.list_images(**key)["imageIds"]} == {"v1", "v2", None}
    tagged = ecr.list_images(**key, filter={"tagStatus": "UNTAGGED"})["imageIds"]
    assert tagged == [{"imageDigest": digest_of(other.encode())}]
    (shown,) = ecr.describe_images(**key, imageIds=[{"imageTag": "v2"}])["imageDetails"]
    assert (shown["imageTags"], shown["imageSizeInBytes"], shown["imageDigest"]) == (["v1", "v2"], 1000, digest)
    assert abs(shown["imagePushedAt"].timestamp() - time.time()) < 60
    assert refused(ecr.describe_images, **key, imageIds=[{"imageTag": "v9"}]) == (
        "ImageNotFoundException",
        "The image with imageId {imageDigest:'null', imageTag:'v9'} does not exist within the repository with name "
        "'app' in the registry with id '000000000000'",
    )
    got = ecr.batch_get_image(**key, imageIds=[{"imageTag": "v1"}, {"imageTag": "v9"}])
    assert (got["images"][0]["imageManifest"], got["failures"][0]["failureCode"]) == (manifest, "ImageNotFound")
    url = urlsplit(ecr.get_download_url_for_layer(**key, layerDigest=digest_of(layer))["downloadUrl"])
    assert Registry(cloud).ask("GET", f"{url.path}?{url.query}").body == layer

    assert refused(ecr.delete_repository, **key)[0] == "RepositoryNotEmptyException"
    gone = ecr.batch_delete_image(**key, imageIds=[{"imageTag": "v1"}, {"imageTag": "v9"}])
    assert gone["imageIds"] == [{"imageDigest": digest, "imageTag": "v1"}]
    assert gone["failures"][0]["failureReason"] == "Requested image not found"
    assert len(ecr.describe_images(**key)["imageDetails"]) == 2
    ecr.batch_delete_image(**key, imageIds=[{"imageTag": "v2"}])
    assert len(ecr.describe_images(**key)["imageDetails"]) == 1
    assert refused(ecr.get_download_url_for_layer, **key, layerDigest=digest_of(layer))[0] == "LayersNotFoundException"
    ecr.delete_repository(**key, force=True)
    for _ in range(100):
        if not list((cloud.data_dir / "ecr").glob("*/sha256/*")):
            return
        time.sleep(0.05)
    raise AssertionError("the layers' files are still there")


def test_lifecycle_policies(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="app")
    registry = Registry(cloud)
    old = registry.push_image("app", "old", b"old layer")
    for tag in ("dev-1", "dev-2", "dev-3"):
        registry.push_image("app", tag, tag.encode())
    registry.ask("DELETE", "/v2/app/manifests/old")
    untagged = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 2}
    dev = {"tagStatus": "tagged", "tagPrefixList": ["dev-"], "countType": "imageCountMoreThan", "countNumber": 2}
    rules = [
        {"rulePriority": number, "selection": selection, "action": {"type": "expire"}}
        for number, selection in enumerate((untagged, dev), 1)
    ]
    wrong = json.dumps({"rules": [{**rules[0], "selection": {**untagged, "countUnit": "hours"}}]})
    assert refused(ecr.put_lifecycle_policy, repositoryName="app", lifecyclePolicyText=wrong)[0] == (
        "InvalidParameterException"
    )
    ecr.put_lifecycle_policy(repositoryName="app", lifecyclePolicyText=json.dumps({"rules": rules}))

    def left() -> set[str]:
        return {each.get("imageTag", each["imageDigest"]) for each in ecr.list_images(repositoryName="app")["imageIds"]}

    def until(wanted: set[str]) -> None:
        for _ in range(100):
            if left() == wanted:
                return
            time.sleep(0.05)
        raise AssertionError(left())

    cloud.kill()
    cloud.start()
    assert len(left()) == 4
    cloud.advance(DAY + 1)
    until({old, "dev-2", "dev-3"})
    cloud.advance(DAY + 1)
    until({"dev-2", "dev-3"})
    assert registry.ask("GET", f"/v2/app/blobs/{digest_of(b'old layer')}").code == "BLOB_UNKNOWN"


def test_what_is_pushed_is_replicated(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="team/web")
    other = cloud.client("ecr", region="eu-west-1")
    foreign = cloud.client("ecr", account="111111111111")
    here = {"region": "us-east-1", "registryId": "000000000000"}
    rules = [
        {
            "destinations": [
                {"region": "eu-west-1", "registryId": "000000000000"},
                {"region": "us-east-1", "registryId": "111111111111"},
            ],
            "repositoryFilters": [{"filter": "team/", "filterType": "PREFIX_MATCH"}],
        }
    ]
    same = {"rules": [{"destinations": [here]}]}
    words = "'Replication destination cannot be the same as the source registry'"
    assert refused(ecr.put_replication_configuration, replicationConfiguration=same)[1].endswith(words)
    ecr.put_replication_configuration(replicationConfiguration={"rules": rules})
    assert ecr.describe_registry()["replicationConfiguration"]["rules"] == rules
    digest = Registry(cloud).push_image("team/web", "1", b"layer")

    def statuses() -> list[str]:
        id = {"imageTag": "1"}
        found = ecr.describe_image_replication_status(repositoryName="team/web", imageId=id)
        return [one["status"] for one in found["replicationStatuses"]]

    def until(wanted: list[str]) -> None:
        limit = time.monotonic() + 10
        while statuses() != wanted:
            assert time.monotonic() < limit, statuses()
            time.sleep(0.02)

    # Another account has to let itself be replicated into.
    until(["COMPLETE", "FAILED"])
    (copy,) = other.describe_images(repositoryName="team/web")["imageDetails"]
    assert (copy["imageDigest"], copy["imageTags"]) == (digest, ["1"])
    assert other.batch_get_image(repositoryName="team/web", imageIds=[{"imageTag": "1"}])["images"]
    statement = {
        "Sid": "in",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
        "Action": ["ecr:CreateRepository", "ecr:ReplicateImage"],
        "Resource": "*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    foreign.put_registry_policy(policyText=policy)
    cloud.kill()
    cloud.start()
    ecr = cloud.client("ecr")
    Registry(cloud).push_image("team/web", "1", b"layer", b"more")
    until(["COMPLETE", "COMPLETE"])
    assert len(cloud.client("ecr", account="111111111111").describe_repositories()["repositories"]) == 1


def test_a_preview_says_what_a_policy_would_expire(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="web")
    registry = Registry(cloud)
    digests = []
    for number in range(3):
        digests.append(registry.push_image("web", str(number), b"layer %d" % number))
        cloud.advance(60)
    assert refused(ecr.get_lifecycle_policy_preview, repositoryName="web")[0].endswith("PreviewNotFoundException")
    assert refused(ecr.start_lifecycle_policy_preview, repositoryName="web")[0] == "LifecyclePolicyNotFoundException"
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}
    policy = json.dumps({"rules": [{"rulePriority": 7, "selection": selection, "action": {"type": "expire"}}]})
    started = ecr.start_lifecycle_policy_preview(repositoryName="web", lifecyclePolicyText=policy)
    assert started["status"] == "IN_PROGRESS"
    ecr.get_waiter("lifecycle_policy_preview_complete").wait(repositoryName="web")
    found = ecr.get_lifecycle_policy_preview(repositoryName="web")
    assert found["summary"]["expiringImageTotalCount"] == 2
    assert {one["imageDigest"] for one in found["previewResults"]} == set(digests[:2])
    assert {one["appliedRulePriority"] for one in found["previewResults"]} == {7}
    assert len(ecr.describe_images(repositoryName="web")["imageDetails"]) == 3


def test_tokens(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="app")
    with LocalCloud("--auth", "enforce", data_dir=cloud.data_dir / "enforced") as strict:
        registry = Registry(strict)
        answer = registry.ask("GET", "/v2/")
        assert (answer.status, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")
        assert registry.ask("GET", "/v2/app/tags/list", Authorization="Basic QVdTOng=").status == 401
    (data,) = ecr.get_authorization_token()["authorizationData"]
    assert data["proxyEndpoint"].startswith("http://")
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")
    cloud.kill()
    cloud.start()
    # The token says whose registry it is.
    (other,) = cloud.client("ecr", region="eu-west-1").get_authorization_token()["authorizationData"]
    cloud.client("ecr", region="eu-west-1").create_repository(repositoryName="west")
    registry = Registry(cloud)
    west = registry.ask("GET", "/v2/west/tags/list", Authorization=f"Basic {other['authorizationToken']}")
    assert json.loads(west.body) == {"name": "west", "tags": []}
    east = registry.ask("GET", "/v2/app/tags/list", Authorization=f"Basic {data['authorizationToken']}")
    assert east.status == 200
    cloud.advance(12 * 3600)
    late = registry.ask("GET", "/v2/west/tags/list", Authorization=f"Basic {other['authorizationToken']}")
    assert late.code == "NAME_UNKNOWN"


def test_the_registry_asks_iam() -> None:
    with LocalCloud("--auth", "enforce") as cloud:
        root = root_of(cloud)
        ecr, iam = cloud.client("ecr", **root), cloud.client("iam", **root)
        for name in ("app", "hidden"):
            ecr.create_repository(repositoryName=name)

        def user(name: str) -> str:
            iam.create_user(UserName=name)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            allow(name, ["ecr:GetAuthorizationToken"], "*")
            mine = cloud.client("ecr", access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])
            return f"Basic {mine.get_authorization_token()['authorizationData'][0]['authorizationToken']}"

        def allow(name: str, actions: list[str], resource: str) -> None:
            statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)

        pusher, puller = user("pusher"), user("puller")
        arn = "arn:aws:ecr:us-east-1:000000000000:repository/app"
        registry = Registry(cloud)
        denied = registry.ask("POST", "/v2/app/blobs/uploads/", Authorization=pusher)
        assert (denied.status, denied.code) == (403, "DENIED")
        assert json.loads(denied.body)["errors"][0]["message"].startswith(
            "User: arn:aws:iam::000000000000:user/pusher is not authorized to perform: ecr:InitiateLayerUpload on "
            f"resource: {arn} because no identity-based policy allows"
        )
        push = ["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage"]
        allow("pusher", [f"ecr:{one}" for one in push], arn)
        layer = digest_of(b"layer")
        for data in (b"layer", b"{}  "):
            path = f"/v2/app/blobs/uploads/?digest={digest_of(data)}"
            assert registry.ask("POST", path, data, Authorization=pusher).status == 201
        manifest = image_of(descriptor(digest_of(b"{}  "), 4), [descriptor(layer, 5)])
        path = "/v2/app/manifests/v1"
        assert registry.ask("PUT", path, manifest, Authorization=pusher, Content_Type=IMAGE).status == 201
        assert registry.ask("GET", path, Authorization=pusher).code == "DENIED"
        assert registry.ask("POST", "/v2/hidden/blobs/uploads/", Authorization=pusher).code == "DENIED"

        # What the repository's own policy lets in may come in.
        assert registry.ask("GET", path, Authorization=puller).code == "DENIED"
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::000000000000:user/puller"},
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        ecr.set_repository_policy(repositoryName="app", policyText=policy)
        assert registry.ask("GET", path, Authorization=puller).body == manifest
        assert registry.ask("GET", f"/v2/app/blobs/{layer}", Authorization=puller).body == b"layer"
        assert registry.ask("DELETE", path, Authorization=puller).code == "DENIED"

        # The address of a layer opens that layer to whoever has it, and nothing else.
        url = urlsplit(ecr.get_download_url_for_layer(repositoryName="app", layerDigest=layer)["downloadUrl"])
        assert registry.ask("GET", f"{url.path}?{url.query}").body == b"layer"
        assert registry.ask("GET", f"{url.path.rpartition('blobs')[0]}manifests/v1?{url.query}").code == "DENIED"
        other = url.path.replace(layer, digest_of(b"{}  "))
        assert registry.ask("GET", f"{other}?{url.query}").code == "DENIED"


def test_a_kill_leaves_no_half_made_layer(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="app")
    registry = Registry(cloud)
    registry.push_image("app", "v1", b"kept")
    data = os.urandom(8 * 1024 * 1024)
    opened = registry.ask("POST", "/v2/app/blobs/uploads/").headers["location"]
    address = urlsplit(cloud.endpoint)
    with socket.create_connection((address.hostname or "", address.port or 0)) as client:
        head = f"PATCH {opened} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data[: len(data) // 2])
        (upload,) = (cloud.data_dir / "ecr").glob("*/uploads/*")
        eventually(lambda: upload.stat().st_size > 1024 * 1024)
        cloud.kill()
    # As if the kill had come between a layer's file and its row.
    stray = upload.parent.parent / "sha256" / digest_of(b"stray").removeprefix("sha256:")
    stray.write_bytes(b"stray")
    cloud.start()
    assert registry.ask("HEAD", f"/v2/app/blobs/{digest_of(data)}").status == 404
    assert registry.ask("HEAD", f"/v2/app/blobs/{digest_of(b'kept')}").status == 200
    assert not stray.exists()
    # The client asks how far it has come, and goes on from there.
    there = registry.ask("GET", opened)
    received = int(there.headers["range"].partition("-")[2]) + 1
    assert (there.status, 0 < received <= len(data) // 2) == (204, True)
    rest = registry.ask("PATCH", opened, data[received:], Content_Range=f"{received}-{len(data) - 1}")
    assert rest.headers["range"] == f"0-{len(data) - 1}"
    assert registry.ask("PUT", f"{opened}?digest={digest_of(data)}").status == 201
    assert registry.ask("GET", f"/v2/app/blobs/{digest_of(data)}").body == data


def test_skopeo_and_podman_push_and_pull(cloud: LocalCloud, ecr: Any, tmp_path: Path) -> None:
    if missing := [program for program in ("skopeo", "podman") if shutil.which(program) is None]:
        pytest.skip(f"{missing} not installed")
    ecr.create_repository(repositoryName="team/app")
    password = base64.b64decode(ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]).decode()
    login, registry = password, Registry(cloud)
    registry.push_image("team/app", "v1", gzip.compress(_tar(b"hello")))
    uri = f"docker://{registry.address}/team/app"

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("skopeo", "copy", "-q", "--src-tls-verify=false", "--src-creds", login, f"{uri}:v1", f"oci:{tmp_path}/img:x")
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{tmp_path}/img:x", f"{uri}:two")
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", uri))
    assert sorted(listed["Tags"]) == ["two", "v1"]
    run("skopeo", "delete", "--tls-verify=false", f"{uri}:two")
    assert ecr.list_images(repositoryName="team/app")["imageIds"] == []  # it deletes by digest
    none = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"{uri}x:v1"], capture_output=True, text=True, timeout=60
    )
    assert "name unknown: The repository with name 'team/appx' does not exist in the registry with id" in none.stderr
    file = str(tmp_path / "auth.json")
    run("podman", "login", "--tls-verify=false", "--authfile", file, "-u", "AWS", "-p", login[4:], registry.address)


def _tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("hello")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Assets": {
            "Type": "AWS::ECR::Repository",
            "Properties": {
                "RepositoryName": "cdk-assets",
                "ImageTagMutability": "IMMUTABLE",
                "RepositoryPolicyText": {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}]},
                "LifecyclePolicy": {
                    "LifecyclePolicyText": json.dumps(
                        {
                            "rules": [
                                {
                                    "rulePriority": 1,
                                    "selection": {
                                        "tagStatus": "untagged",
                                        "countType": "sinceImagePushed",
                                        "countUnit": "days",
                                        "countNumber": 3,
                                    },
                                    "action": {"type": "expire"},
                                }
                            ]
                        }
                    )
                },
            },
        },
        "Other": {"Type": "AWS::ECR::Repository", "Properties": {"EmptyOnDelete": True}},
    },
    "Outputs": {
        "Uri": {"Value": {"Fn::GetAtt": ["Assets", "RepositoryUri"]}},
        "Arn": {"Value": {"Fn::GetAtt": ["Other", "Arn"]}},
    },
}


def test_stacks(cloud: LocalCloud, ecr: Any) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    outputs = {
        each["OutputKey"]: each["OutputValue"] for each in stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"]
    }
    (shown,) = ecr.describe_repositories(repositoryNames=["cdk-assets"])["repositories"]
    assert (outputs["Uri"], shown["imageTagMutability"]) == (shown["repositoryUri"], "IMMUTABLE")
    assert "Principal" in ecr.get_repository_policy(repositoryName="cdk-assets")["policyText"]
    Registry(cloud).push_image(outputs["Arn"].partition("/")[2], "v1", b"layer")
    changed = json.loads(json.dumps(TEMPLATE))
    changed["Resources"]["Assets"]["Properties"] = {
        "RepositoryName": "cdk-assets",
        "ImageScanningConfiguration": {"ScanOnPush": True},
        "Tags": [{"Key": "team", "Value": "a"}],
    }
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    (shown,) = ecr.describe_repositories(repositoryNames=["cdk-assets"])["repositories"]
    assert (shown["imageTagMutability"], shown["imageScanningConfiguration"]["scanOnPush"]) == ("MUTABLE", True)
    assert refused(ecr.get_lifecycle_policy, repositoryName="cdk-assets")[0] == "LifecyclePolicyNotFoundException"
    assert {"Key": "team", "Value": "a"} in ecr.list_tags_for_resource(resourceArn=shown["repositoryArn"])["tags"]
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert ecr.describe_repositories()["repositories"] == []


_TRIVY = """#!/bin/sh
# Stands in for trivy: it finds in the image what the image's own layer says.
while [ "$1" != --input ]; do shift; done
cd "$2"
digest=$(sed -n 's/.*sha256:\\([0-9a-f]*\\).*/\\1/p' index.json)
layer=$(sed -n 's/.*"layers".*sha256:\\([0-9a-f]*\\).*/\\1/p' blobs/sha256/$digest)
[ -e oci-layout ] && cat blobs/sha256/$layer
"""


def _status(ecr: Any, image: str) -> tuple[str, str]:
    found = ecr.describe_image_scan_findings(repositoryName="app", imageId={"imageDigest": image})["imageScanStatus"]
    return found["status"], found.get("description", "")


def test_images_are_scanned_by_trivy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trivy = tmp_path / "trivy"
    trivy.write_text(_TRIVY)
    trivy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def vulnerable(name: str, severity: str) -> dict[str, Any]:
        score = {"nvd": {"V2Vector": "AV:N/AC:L", "V2Score": 7.5}}
        return {
            "VulnerabilityID": name,
            "PkgName": "musl",
            "InstalledVersion": "1.1.18-r3",
            "Severity": severity,
            "Description": "bad",
            "PrimaryURL": f"https://example.com/{name}",
            "CVSS": score,
        }

    system = {"Class": "os-pkgs", "Vulnerabilities": [vulnerable("CVE-1", "HIGH"), vulnerable("CVE-2", "UNKNOWN")]}
    library = {"Class": "lang-pkgs", "Vulnerabilities": [vulnerable("CVE-3", "LOW")]}
    report = json.dumps({"Metadata": {"OS": {"Family": "alpine"}}, "Results": [system, library]}).encode()
    with LocalCloud() as cloud:
        ecr, registry = cloud.client("ecr"), Registry(cloud)
        ecr.create_repository(repositoryName="app", imageScanningConfiguration={"scanOnPush": True})
        image = registry.push_image("app", "one", report)
        eventually(lambda: _status(ecr, image)[0] == "COMPLETE")
        pages = ecr.get_paginator("describe_image_scan_findings").paginate(
            repositoryName="app", imageId={"imageTag": "one"}, PaginationConfig={"PageSize": 1}
        )
        found = [one for page in pages for one in page["imageScanFindings"]["findings"]]
        assert [(one["name"], one["severity"]) for one in found] == [("CVE-1", "HIGH"), ("CVE-2", "UNDEFINED")]
        assert {one["key"]: one["value"] for one in found[0]["attributes"]} == {
            "package_name": "musl",
            "package_version": "1.1.18-r3",
            "CVSS2_VECTOR": "AV:N/AC:L",
            "CVSS2_SCORE": "7.5",
        }
        (detail,) = ecr.describe_images(repositoryName="app")["imageDetails"]
        assert detail["imageScanFindingsSummary"]["findingSeverityCounts"] == {"HIGH": 1, "UNDEFINED": 1}
        assert refused(ecr.start_image_scan, repositoryName="app", imageId={"imageTag": "one"}) == (
            "LimitExceededException",
            "The scan quota per image has been exceeded. Wait and try again.",
        )
        cloud.kill()
        cloud.start()
        ecr = cloud.client("ecr")
        assert _status(ecr, image) == ("COMPLETE", "The scan was completed successfully.")
        cloud.advance(DAY)
        started = ecr.start_image_scan(repositoryName="app", imageId={"imageTag": "one"})
        assert started["imageScanStatus"] == {"status": "IN_PROGRESS"}

        # Images of what no system is known in, and what trivy says when it fails.
        empty = registry.push_image("app", "two", b'{"Metadata": {}}')
        eventually(lambda: _status(ecr, empty)[1].startswith("UnsupportedImageError"))
        trivy.write_text("#!/bin/sh\necho no database >&2; exit 1\n")
        failed = registry.push_image("app", "three", b"{}")
        eventually(lambda: _status(ecr, failed) == ("FAILED", "trivy has failed: no database"))


def test_enhanced_scans_look_at_everything_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trivy = tmp_path / "trivy"
    trivy.write_text(_TRIVY)
    trivy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    leak = {
        "VulnerabilityID": "CVE-9",
        "PkgName": "left-pad",
        "PkgPath": "app/package.json",
        "InstalledVersion": "1.0.0",
        "FixedVersion": "1.0.1",
        "Severity": "CRITICAL",
        "SeveritySource": "ghsa",
        "References": ["https://example.com/CVE-9"],
        "CVSS": {"nvd": {"V3Score": 9.8, "V3Vector": "CVSS:3.1/AV:N", "V2Score": 7.5, "V2Vector": "AV:N"}},
    }
    vague = {"VulnerabilityID": "CVE-8", "PkgName": "x", "InstalledVersion": "1", "Severity": "UNKNOWN"}
    library = {"Class": "lang-pkgs", "Type": "npm", "Vulnerabilities": [leak, vague]}
    report = json.dumps({"Metadata": {}, "Results": [library]}).encode()
    key: dict[str, Any] = {"repositoryName": "prod/app", "imageId": {"imageTag": "one"}}
    with LocalCloud() as cloud:
        ecr, registry = cloud.client("ecr"), Registry(cloud)
        events, sqs = cloud.client("events"), cloud.client("sqs")
        told = sqs.create_queue(QueueName="told")["QueueUrl"]
        events.put_rule(Name="scans", EventPattern=json.dumps({"source": ["aws.inspector2"]}))
        events.put_targets(Rule="scans", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:000000000000:told"}])
        filters = [{"filter": "prod*", "filterType": "WILDCARD"}]
        rules = [{"scanFrequency": "CONTINUOUS_SCAN", "repositoryFilters": filters}]
        assert refused(ecr.put_registry_scanning_configuration, scanType="BASIC", rules=rules)[0] == (
            "InvalidParameterException"
        )
        ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=rules)
        assert ecr.get_registry_scanning_configuration()["scanningConfiguration"]["scanType"] == "ENHANCED"
        for name in ("prod/app", "dev/app"):
            ecr.create_repository(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})
        found = ecr.batch_get_repository_scanning_configuration(repositoryNames=["prod/app", "dev/app"])
        assert [one["scanFrequency"] for one in found["scanningConfigurations"]] == ["CONTINUOUS_SCAN", "MANUAL"]
        image = registry.push_image("prod/app", "one", report)
        registry.push_image("dev/app", "one", report)

        def status() -> str:
            return str(ecr.describe_image_scan_findings(**key)["imageScanStatus"]["status"])

        eventually(lambda: status() == "ACTIVE")
        findings = ecr.describe_image_scan_findings(**key)["imageScanFindings"]
        assert findings["findingSeverityCounts"] == {"CRITICAL": 1, "UNTRIAGED": 1}
        first, second = findings["enhancedFindings"]
        assert (first["title"], first["severity"], first["score"]) == ("CVE-9 - left-pad", "CRITICAL", 9.8)
        assert (first["fixAvailable"], second["fixAvailable"]) == ("YES", "NO")
        details = first["packageVulnerabilityDetails"]
        assert details["vulnerablePackages"] == [
            {
                "name": "left-pad",
                "version": "1.0.0",
                "packageManager": "NPM",
                "filePath": "app/package.json",
                "fixedInVersion": "1.0.1",
            }
        ]
        assert [one["version"] for one in details["cvss"]] == ["2.0", "3.1"]
        container = first["resources"][0]["details"]["awsEcrContainerImage"]
        assert (container["imageHash"], container["imageTags"]) == (image, ["one"])
        event = json.loads(sqs.receive_message(QueueUrl=told, WaitTimeSeconds=10)["Messages"][0]["Body"])
        assert (event["detail-type"], event["detail"]["scan-status"]) == ("Inspector2 Scan", "INITIAL_SCAN_COMPLETE")
        assert event["detail"]["finding-severity-counts"] == {"CRITICAL": 1, "UNTRIAGED": 1, "TOTAL": 2}
        assert refused(ecr.start_image_scan, **key) == ("ValidationException", "This feature is disabled")
        dev = {**key, "repositoryName": "dev/app"}
        assert refused(ecr.describe_image_scan_findings, **dev)[0] == "ScanNotFoundException"

        # What is not known today is known tomorrow, also when nobody was there at midnight.
        library["Vulnerabilities"] = [vague]
        (tmp_path / "report").write_text(json.dumps({"Results": [library]}))
        trivy.write_text(f"#!/bin/sh\ncat {tmp_path}/report\n")
        cloud.kill()
        cloud.start()
        ecr = cloud.client("ecr")
        assert ecr.describe_image_scan_findings(**key)["imageScanFindings"]["findingSeverityCounts"]["CRITICAL"] == 1
        cloud.advance(DAY + 60)

        def counts() -> Any:
            return ecr.describe_image_scan_findings(**key).get("imageScanFindings", {}).get("findingSeverityCounts")

        eventually(lambda: counts() == {"UNTRIAGED": 1})


def test_without_a_scanner_scans_fail_and_say_so(cloud: LocalCloud, ecr: Any) -> None:
    if shutil.which("trivy"):
        pytest.skip("trivy is installed")
    ecr.create_repository(repositoryName="app")
    rules = [{"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "prod*", "filterType": "WILDCARD"}]}]
    ecr.put_registry_scanning_configuration(scanType="BASIC", rules=rules)
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"] == {"scanType": "BASIC", "rules": rules}
    image = Registry(cloud).push_image("app", "one", b"layer")
    assert (
        refused(ecr.describe_image_scan_findings, repositoryName="app", imageId={"imageDigest": image})[0]
        == "ScanNotFoundException"
    )
    ecr.start_image_scan(repositoryName="app", imageId={"imageTag": "one"})
    eventually(lambda: _status(ecr, image)[0] == "FAILED")
    assert "trivy is not installed" in _status(ecr, image)[1]
    ecr.create_repository(repositoryName="prod/app")
    Registry(cloud).push_image("prod/app", "one", b"layer")

    def tried() -> bool:
        (detail,) = ecr.describe_images(repositoryName="prod/app")["imageDetails"]
        return bool(detail["imageScanStatus"]["status"] == "FAILED")

    eventually(tried)
    (shown,) = ecr.batch_get_repository_scanning_configuration(repositoryNames=["prod/app"])["scanningConfigurations"]
    assert (shown["scanFrequency"], shown["appliedScanFilters"]) == ("SCAN_ON_PUSH", rules[0]["repositoryFilters"])
