"""Repositories that nobody creates: those of a pull through cache, of a replication, of a push."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from test_ecr import DAY, IMAGE, INDEX, Registry, descriptor, digest_of

from cloudlet.testing import eventually
from cloudlet.testing.local import LocalCloud


@pytest.fixture
def ecr(cloud: LocalCloud) -> Any:
    return cloud.client("ecr")


LIFECYCLE = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1},
                "action": {"type": "expire"},
            }
        ]
    }
)


def _tags(cloud: LocalCloud, ecr: Any, name: str) -> list[str]:
    return sorted(one.get("imageTag", "") for one in ecr.list_images(repositoryName=name)["imageIds"])


def test_templates_say_what_repositories_are_like(cloud: LocalCloud, ecr: Any) -> None:
    with pytest.raises(ClientError, match="CREATE_ON_PUSH"):
        ecr.create_repository_creation_template(prefix="x", appliedFor=["NEVER"])
    made = ecr.create_repository_creation_template(
        prefix="team/",
        appliedFor=["CREATE_ON_PUSH"],
        description="ours",
        imageTagMutability="IMMUTABLE",
        lifecyclePolicy=LIFECYCLE,
        resourceTags=[{"Key": "team", "Value": "a"}],
    )["repositoryCreationTemplate"]
    assert (made["prefix"], made["createdAt"]) == ("team", made["updatedAt"])
    with pytest.raises(ecr.exceptions.TemplateAlreadyExistsException):
        ecr.create_repository_creation_template(prefix="team", appliedFor=["REPLICATION"])
    ecr.create_repository_creation_template(prefix="ROOT", appliedFor=["REPLICATION", "CREATE_ON_PUSH"])
    ecr.update_repository_creation_template(prefix="ROOT", appliedFor=["REPLICATION"], imageTagMutability="MUTABLE")
    cloud.kill()
    cloud.start()
    found = ecr.describe_repository_creation_templates()["repositoryCreationTemplates"]
    assert [(one["prefix"], one["appliedFor"]) for one in found] == [
        ("ROOT", ["REPLICATION"]),
        ("team", ["CREATE_ON_PUSH"]),
    ]

    registry = Registry(cloud)
    digest = registry.push_image("team/app", "v1", b"layer")
    (repository,) = ecr.describe_repositories()["repositories"]
    assert (repository["repositoryName"], repository["imageTagMutability"]) == ("team/app", "IMMUTABLE")
    assert ecr.get_lifecycle_policy(repositoryName="team/app")["lifecyclePolicyText"] == LIFECYCLE
    tags = ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
    assert tags == [{"Key": "team", "Value": "a"}]
    assert registry.ask("POST", "/v2/other/blobs/uploads/").code == "NAME_UNKNOWN"
    assert registry.ask("GET", f"/v2/team/none/manifests/{digest}").code == "NAME_UNKNOWN"

    ecr.delete_repository_creation_template(prefix="team")
    with pytest.raises(ecr.exceptions.TemplateNotFoundException):
        ecr.delete_repository_creation_template(prefix="team")
    assert registry.ask("POST", "/v2/team/two/blobs/uploads/").code == "NAME_UNKNOWN"


def test_a_pull_brings_an_image_of_another_registry(cloud: LocalCloud, ecr: Any) -> None:
    west = cloud.client("ecr", region="us-west-2")
    west.create_repository(repositoryName="base/app")
    there = Registry(cloud, "000000000000.dkr.ecr.us-west-2.localhost:4566")
    first = there.push_image("base/app", "v1", b"first")
    url = "000000000000.dkr.ecr.us-west-2.amazonaws.com"
    with pytest.raises(ecr.exceptions.UnsupportedUpstreamRegistryException):
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="no", upstreamRegistryUrl="registry.example.com")
    with pytest.raises(ecr.exceptions.InvalidParameterException):
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="hub", upstreamRegistryUrl="registry-1.docker.io")
    rule = ecr.create_pull_through_cache_rule(
        ecrRepositoryPrefix="west", upstreamRegistryUrl=url, upstreamRepositoryPrefix="base"
    )
    assert (rule["upstreamRegistry"], rule["upstreamRepositoryPrefix"]) == ("ecr", "base")
    with pytest.raises(ecr.exceptions.PullThroughCacheRuleAlreadyExistsException):
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="west/", upstreamRegistryUrl=url)
    ecr.create_repository_creation_template(
        prefix="west", appliedFor=["PULL_THROUGH_CACHE"], resourceTags=[{"Key": "from", "Value": "west"}]
    )
    events, sqs = cloud.client("events"), cloud.client("sqs")
    told = sqs.create_queue(QueueName="told")["QueueUrl"]
    events.put_rule(Name="ecr", EventPattern=json.dumps({"detail-type": ["ECR Pull Through Cache Action"]}))
    events.put_targets(Rule="ecr", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:000000000000:told"}])

    here = Registry(cloud)
    assert here.ask("GET", "/v2/west/none/manifests/v1").code == "NAME_UNKNOWN"
    pulled = here.ask("GET", "/v2/west/app/manifests/v1")
    assert pulled.headers["docker-content-digest"] == first
    assert here.ask("GET", f"/v2/west/app/blobs/{digest_of(b'first')}").body == b"first"
    (repository,) = ecr.describe_repositories()["repositories"]
    assert ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"][0]["Value"] == "west"
    details = []
    while len(details) < 2:
        for message in sqs.receive_message(QueueUrl=told, WaitTimeSeconds=10, MaxNumberOfMessages=10)["Messages"]:
            details.append(json.loads(message["Body"])["detail"])
            sqs.delete_message(QueueUrl=told, ReceiptHandle=message["ReceiptHandle"])
    assert {one["sync-status"]: one["repository-name"] for one in details} == {
        "FAILED": "west/none",
        "SUCCESS": "west/app",
    }

    # What a tag means is asked again after a day, and where nobody answers, the image is the one that is here.
    second = there.push_image("base/app", "v1", b"second")
    assert here.ask("GET", "/v2/west/app/manifests/v1").headers["docker-content-digest"] == first
    cloud.kill()
    cloud.start()
    cloud.advance(DAY)
    assert ecr.batch_get_image(repositoryName="west/app", imageIds=[{"imageTag": "v1"}])["images"][0]["imageId"] == {
        "imageDigest": second,
        "imageTag": "v1",
    }
    west.delete_repository(repositoryName="base/app", force=True)
    cloud.advance(DAY)
    assert here.ask("GET", "/v2/west/app/manifests/v1").headers["docker-content-digest"] == second
    assert ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix="west")["isValid"]
    assert [one["ecrRepositoryPrefix"] for one in ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]] == [
        "west"
    ]
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="west")
    with pytest.raises(ecr.exceptions.PullThroughCacheRuleNotFoundException):
        ecr.describe_pull_through_cache_rules(ecrRepositoryPrefixes=["west"])


def test_a_pull_brings_an_image_over_the_network(cloud: LocalCloud, ecr: Any) -> None:
    with LocalCloud() as upstream:
        upstream.client("ecr").create_repository(repositoryName="library/app")
        theirs = Registry(upstream)
        layer = b"layer" * 500_000
        image = theirs.push_image("library/app", "one", layer)
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(image, 1, IMAGE)]})
        theirs.ask("PUT", "/v2/library/app/manifests/all", index.encode(), Content_Type=INDEX)
        host = urlsplit(upstream.endpoint).netloc
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="ROOT", upstreamRegistryUrl=host)
        assert ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix="ROOT")["isValid"]
        registry = Registry(cloud)
        assert registry.ask("HEAD", "/v2/library/app/manifests/all").headers["docker-content-digest"] == digest_of(
            index.encode()
        )
        assert _tags(cloud, ecr, "library/app") == ["all"]
        assert registry.ask("GET", f"/v2/library/app/manifests/{image}").status == 200
    # The upstream is gone, and the image is here.
    assert not ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix="ROOT")["isValid"]
    cloud.advance(2 * DAY)
    assert registry.ask("GET", "/v2/library/app/manifests/all").status == 200
    assert registry.ask("GET", f"/v2/library/app/blobs/{digest_of(layer)}").body == layer
    assert registry.ask("DELETE", f"/v2/library/app/manifests/{image}").code == "DENIED"


def test_a_copy_has_its_template_s_settings(cloud: LocalCloud, ecr: Any) -> None:
    ecr.create_repository(repositoryName="app")
    west = cloud.client("ecr", region="us-west-2")
    west.create_repository_creation_template(prefix="ROOT", appliedFor=["REPLICATION"], imageTagMutability="IMMUTABLE")
    ecr.put_replication_configuration(
        replicationConfiguration={"rules": [{"destinations": [{"region": "us-west-2", "registryId": "000000000000"}]}]}
    )
    Registry(cloud).push_image("app", "v1", b"layer")
    eventually(lambda: west.describe_repositories()["repositories"])
    assert west.describe_repositories()["repositories"][0]["imageTagMutability"] == "IMMUTABLE"


def test_deletions_are_replicated_where_a_rule_says_so(cloud: LocalCloud, ecr: Any) -> None:
    west, north = cloud.client("ecr", region="us-west-2"), cloud.client("ecr", region="eu-north-1")

    def rule(region: str, enabled: bool) -> dict[str, Any]:
        destination = {"region": region, "registryId": "000000000000"}
        return {"destinations": [destination], "deleteReplication": {"enabled": enabled}}

    rules = [rule("us-west-2", True), rule("eu-north-1", False)]
    ecr.put_replication_configuration(replicationConfiguration={"rules": rules})
    assert ecr.describe_registry()["replicationConfiguration"]["rules"] == rules
    ecr.create_repository(repositoryName="app")
    registry = Registry(cloud)
    for tag in ("one", "two", "three"):
        registry.push_image("app", tag, tag.encode())
    manifest = registry.ask("GET", "/v2/app/manifests/one").body
    registry.ask("PUT", "/v2/app/manifests/also", manifest, Content_Type=IMAGE)
    every = ["also", "one", "three", "two"]

    def there(client: Any, tags: list[str]) -> bool:
        known = [one["repositoryName"] for one in client.describe_repositories()["repositories"]]
        return "app" in known and _tags(cloud, client, "app") == tags

    for client in (west, north):
        eventually(lambda client=client: there(client, every))
    # A tag that means another image over there is that image's.
    other = Registry(cloud, "000000000000.dkr.ecr.us-west-2.localhost:4566")
    other.push_image("app", "three", b"another")
    ecr.batch_delete_image(repositoryName="app", imageIds=[{"imageTag": "also"}, {"imageTag": "two"}])
    registry.ask("DELETE", "/v2/app/manifests/three")
    cloud.kill()
    cloud.start()
    assert there(ecr, ["", "one"])
    eventually(lambda: there(west, ["", "one", "three"]))
    assert there(north, every)


def test_account_settings(cloud: LocalCloud, ecr: Any) -> None:
    assert ecr.get_account_setting(name="REGISTRY_POLICY_SCOPE")["value"] == "V2"
    with pytest.raises(ecr.exceptions.InvalidParameterException):
        ecr.put_account_setting(name="BLOB_MOUNTING", value="PERHAPS")
    ecr.put_account_setting(name="BLOB_MOUNTING", value="DISABLED")
    cloud.kill()
    cloud.start()
    assert ecr.get_account_setting(name="BLOB_MOUNTING")["value"] == "DISABLED"
    for name in ("one", "two"):
        ecr.create_repository(repositoryName=name)
    registry = Registry(cloud)
    registry.push_image("one", "v1", b"layer")
    mount = f"/v2/two/blobs/uploads/?mount={digest_of(b'layer')}&from=one"
    assert registry.ask("POST", mount).status == 202
    ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    assert registry.ask("POST", mount).status == 201


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Policy": {
            "Type": "AWS::ECR::RegistryPolicy",
            "Properties": {
                "PolicyText": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
                            "Action": "ecr:ReplicateImage",
                            "Resource": "*",
                        }
                    ],
                }
            },
        },
        "Copies": {
            "Type": "AWS::ECR::ReplicationConfiguration",
            "Properties": {
                "ReplicationConfiguration": {
                    "Rules": [
                        {
                            "Destinations": [{"Region": "us-west-2", "RegistryId": {"Ref": "AWS::AccountId"}}],
                            "RepositoryFilters": [{"Filter": "prod", "FilterType": "PREFIX_MATCH"}],
                        }
                    ]
                }
            },
        },
        "Scans": {
            "Type": "AWS::ECR::RegistryScanningConfiguration",
            "Properties": {
                "ScanType": "BASIC",
                "Rules": [
                    {
                        "ScanFrequency": "SCAN_ON_PUSH",
                        "RepositoryFilters": [{"Filter": "prod", "FilterType": "WILDCARD"}],
                    }
                ],
            },
        },
        "Cache": {
            "Type": "AWS::ECR::PullThroughCacheRule",
            "Properties": {"EcrRepositoryPrefix": "quay", "UpstreamRegistryUrl": "quay.io"},
        },
        "Template": {
            "Type": "AWS::ECR::RepositoryCreationTemplate",
            "Properties": {
                "Prefix": "prod",
                "AppliedFor": ["CREATE_ON_PUSH"],
                "Description": "ours",
                "ImageTagMutability": "IMMUTABLE",
                "ResourceTags": [{"Key": "a", "Value": "1"}],
            },
        },
    },
    "Outputs": {"Registry": {"Value": {"Ref": "Policy"}}, "Prefix": {"Value": {"Ref": "Template"}}},
}


def test_stacks_of_a_registry(cloud: LocalCloud, ecr: Any) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    outputs = stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"]
    assert {one["OutputValue"] for one in outputs} == {"000000000000", "prod"}
    assert "ReplicateImage" in ecr.get_registry_policy()["policyText"]
    assert ecr.describe_registry()["replicationConfiguration"]["rules"][0]["repositoryFilters"] == [
        {"filter": "prod", "filterType": "PREFIX_MATCH"}
    ]
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"]["rules"]
    assert ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"][0]["upstreamRegistryUrl"] == "quay.io"

    changed = json.loads(json.dumps(TEMPLATE))
    del changed["Resources"]["Template"]["Properties"]["Description"]
    changed["Resources"]["Cache"]["Properties"]["UpstreamRegistryUrl"] = "public.ecr.aws"
    changed["Resources"]["Cache"]["Properties"]["EcrRepositoryPrefix"] = "public"
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    (template,) = ecr.describe_repository_creation_templates()["repositoryCreationTemplates"]
    assert (template["description"], template["resourceTags"]) == ("", [{"Key": "a", "Value": "1"}])
    (rule,) = ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]
    assert (rule["ecrRepositoryPrefix"], rule["upstreamRegistry"]) == ("public", "ecr-public")

    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"] == []
    assert ecr.describe_repository_creation_templates()["repositoryCreationTemplates"] == []
    assert ecr.describe_registry()["replicationConfiguration"]["rules"] == []
    with pytest.raises(ecr.exceptions.RegistryPolicyNotFoundException):
        ecr.get_registry_policy()
