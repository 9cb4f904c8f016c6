"""What becomes of images in ECR: they are pulled, archived, expired; and who is told of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_ecr import DAY, IMAGE, Registry, descriptor, digest_of, image_of

from cloudlet.testing import eventually
from cloudlet.testing.local import LocalCloud


@pytest.fixture
def ecr(cloud: LocalCloud) -> Any:
    return cloud.client("ecr")


def _policy(*rules: tuple[dict[str, Any], dict[str, Any]]) -> str:
    return json.dumps(
        {
            "rules": [
                {"rulePriority": number, "selection": selection, "action": action}
                for number, (selection, action) in enumerate(rules, 1)
            ]
        }
    )


EXPIRE = {"type": "expire"}
ARCHIVE = {"type": "transition", "targetStorageClass": "archive"}
COUNT: dict[str, Any] = {"countType": "imageCountMoreThan", "countNumber": 1}


def _days(kind: str, days: int, **more: Any) -> dict[str, Any]:
    return {"tagStatus": "any", "countType": kind, "countUnit": "days", "countNumber": days, **more}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" + " " * 100, "Could not map policyString into LifecyclePolicy."),
        ('{"rule":[]}' + " " * 100, 'object has missing required properties (["rules"])'),
        (
            json.dumps({"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any"}}]}) + " " * 100,
            'object has missing required properties (["action"])',
        ),
        (
            _policy(({**COUNT, "tagStatus": "some"}, EXPIRE)),
            'instance value ("some") not found in enum (possible values: ["any","tagged","untagged"])',
        ),
        (
            _policy(({**COUNT, "tagStatus": "tagged"}, EXPIRE)),
            "Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED.",
        ),
        (
            _policy(({**COUNT, "tagStatus": "untagged"}, EXPIRE), (_days("sinceImagePushed", 1), EXPIRE))
            .replace('"any"', '"untagged"'),
            "Only one rule can select Untagged images per storage class",
        ),
        (
            _policy(({**COUNT, "tagStatus": "any"}, EXPIRE), ({**COUNT, "tagStatus": "untagged"}, EXPIRE)),
            "Rule for tagStatus=ANY must have the lowest priority per storage class",
        ),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_refused_in_aws_words(ecr: Any, text: str, words: str) -> None:
    ecr.create_repository(repositoryName="app")
    with pytest.raises(ClientError) as caught:
        ecr.put_lifecycle_policy(repositoryName="app", lifecyclePolicyText=text)
    assert caught.value.response["Error"]["Message"] == (
        "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
        f"'Lifecycle policy validation failure: {words}'"
    )


def test_what_nobody_pulls_is_archived_and_then_expires(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="app")
    key = {"repositoryName": "app"}
    registry = Registry(cloud)
    used, idle = registry.push_image("app", "used", b"used"), registry.push_image("app", "idle", b"idle")
    signature = image_of(
        descriptor(digest_of(b"{}  "), 4), [], subject=descriptor(idle, 1, IMAGE), artifactType="application/signature"
    )
    registry.ask("PUT", f"/v2/app/manifests/{digest_of(signature)}", signature, Content_Type=IMAGE)
    text = _policy(
        (_days("sinceImagePulled", 5), ARCHIVE),
        (_days("sinceImageTransitioned", 3, storageClass="archive"), EXPIRE),
    )
    ecr.put_lifecycle_policy(**key, lifecyclePolicyText=text)

    def details(**filters: str) -> dict[str, dict[str, Any]]:
        found = ecr.describe_images(**key, filter=filters)["imageDetails"]
        return {one.get("imageTags", ["signature"])[0]: one for one in found}

    cloud.advance(5 * DAY - 60)
    registry.ask("HEAD", "/v2/app/manifests/used")
    assert "lastRecordedPullTime" not in details()["used"]
    registry.ask("GET", "/v2/app/manifests/used")
    eventually(lambda: "lastRecordedPullTime" in details()["used"])

    ecr.start_lifecycle_policy_preview(**key, lifecyclePolicyText=text)
    cloud.advance(300)
    found = ecr.get_lifecycle_policy_preview(**key, filter={"tagStatus": "TAGGED"})
    assert [one["imageDigest"] for one in found["previewResults"]] == [idle]
    assert found["previewResults"][0]["action"] == {"type": "TRANSITION", "targetStorageClass": "ARCHIVE"}
    assert found["summary"]["expiringImageTotalCount"] == 0
    none = ecr.get_lifecycle_policy_preview(**key, imageIds=[{"imageDigest": used}])
    assert none["previewResults"] == []

    cloud.advance(DAY)
    eventually(lambda: set(details(imageStatus="ARCHIVED")) == {"idle", "signature"})
    cloud.kill()
    cloud.start()
    assert set(details()) == {"used"}
    assert details(imageStatus="ANY")["idle"]["lastArchivedAt"]
    assert registry.ask("GET", "/v2/app/manifests/idle").code == "MANIFEST_UNKNOWN"
    got = ecr.batch_get_image(**key, imageIds=[{"imageTag": "idle"}])
    assert (got["images"], got["failures"][0]["failureCode"]) == ([], "ImageInaccessible")
    with pytest.raises(ecr.exceptions.ImageArchivedException):
        ecr.start_image_scan(**key, imageId={"imageTag": "idle"})
    assert ecr.list_image_referrers(**key, subjectId={"imageDigest": idle})["referrers"] == []
    (referrer,) = ecr.list_image_referrers(**key, subjectId={"imageDigest": idle}, filter={"artifactStatus": "ANY"})[
        "referrers"
    ]
    assert (referrer["artifactType"], referrer["artifactStatus"]) == ("application/signature", "ARCHIVED")

    # Taken back, it counts from then on.
    back = ecr.update_image_storage_class(**key, imageId={"imageTag": "idle"}, targetStorageClass="STANDARD")
    assert back["imageStatus"] == "ACTIVE"
    assert registry.ask("GET", "/v2/app/manifests/idle").status == 200
    ecr.update_image_storage_class(**key, imageId={"imageTag": "idle"}, targetStorageClass="ARCHIVE")
    cloud.advance(3 * DAY + 600)
    eventually(lambda: set(details(imageStatus="ANY")) == {"used"})


def test_an_image_of_a_list_is_archived_only_after_it(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="app")
    registry = Registry(cloud)
    image = registry.push_image("app", "v1", b"layer")
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [descriptor(image, 1, IMAGE)]}).encode()
    registry.ask("PUT", "/v2/app/manifests/all", index, Content_Type=kind)
    ask: dict[str, Any] = {"repositoryName": "app", "targetStorageClass": "ARCHIVE"}
    with pytest.raises(ecr.exceptions.ImageStorageClassUpdateNotSupportedException):
        ecr.update_image_storage_class(**ask, imageId={"imageTag": "v1"})
    ecr.update_image_storage_class(**ask, imageId={"imageTag": "all"})
    ecr.update_image_storage_class(**ask, imageId={"imageTag": "v1"})
    assert ecr.list_images(repositoryName="app")["imageIds"] == []


def test_eventbridge_and_cloudwatch_are_told(cloud: LocalCloud, ecr: Any) -> None:
    events, sqs = cloud.client("events"), cloud.client("sqs")
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    events.put_rule(Name="ecr", EventPattern=json.dumps({"source": ["aws.ecr"]}))
    events.put_targets(Rule="ecr", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:000000000000:told"}])

    def told() -> dict[str, Any]:
        message = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"][0]
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return dict(json.loads(message["Body"]))

    ecr.create_repository(repositoryName="app")
    registry = Registry(cloud)
    digest = registry.push_image("app", "v1", b"layer")
    event = told()
    assert (event["detail-type"], event["resources"]) == ("ECR Image Action", [])
    assert event["detail"] == {
        "result": "SUCCESS",
        "repository-name": "app",
        "image-digest": digest,
        "action-type": "PUSH",
        "image-tag": "v1",
    }
    ecr.start_image_scan(repositoryName="app", imageId={"imageTag": "v1"})
    event = told()
    assert event["resources"] == ["arn:aws:ecr:us-east-1:000000000000:repository/app"]
    assert (event["detail-type"], event["detail"]["image-tags"]) == ("ECR Image Scan", ["v1"])
    ecr.batch_get_image(repositoryName="app", imageIds=[{"imageTag": "v1"}])
    registry.ask("GET", "/v2/app/manifests/v1")
    ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageTag": "v1"}])
    assert told()["detail"]["action-type"] == "DELETE"
    cloud.advance(60)

    def pulls() -> float:
        ask = {"Namespace": "AWS/ECR", "MetricName": "RepositoryPullCount", "Period": 3600, "Statistics": ["Sum"]}
        now = time.time()
        found = cloud.client("cloudwatch").get_metric_statistics(
            **ask,
            Dimensions=[{"Name": "RepositoryName", "Value": "app"}],
            StartTime=now - 7200,
            EndTime=now + 7200,
        )["Datapoints"]
        return sum(one["Sum"] for one in found)

    eventually(lambda: pulls() == 2)
