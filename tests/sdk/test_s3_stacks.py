"""Buckets in stacks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Files": {
            "Type": "AWS::S3::Bucket",
            "Properties": {
                "BucketName": "stack-files",
                "AccessControl": "Private",
                "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [
                        {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": "true"}
                    ]
                },
                "CorsConfiguration": {
                    "CorsRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAge": "60", "Id": "all"}]
                },
                "LifecycleConfiguration": {
                    "Rules": [
                        {"Id": "old", "Status": "Enabled", "Prefix": "tmp/", "ExpirationInDays": 7},
                        {
                            "Status": "Enabled",
                            "NoncurrentVersionExpiration": {"NoncurrentDays": 3},
                            "TagFilters": [{"Key": "a", "Value": "b"}],
                        },
                    ]
                },
                "NotificationConfiguration": {
                    "QueueConfigurations": [
                        {
                            "Event": "s3:ObjectCreated:*",
                            "Queue": {"Fn::GetAtt": ["Queue", "Arn"]},
                            "Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": "in/"}]}},
                        }
                    ]
                },
                "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]},
                "PublicAccessBlockConfiguration": {"BlockPublicPolicy": False, "RestrictPublicBuckets": False},
                "VersioningConfiguration": {"Status": "Enabled"},
                "WebsiteConfiguration": {"IndexDocument": "index.html", "ErrorDocument": "error.html"},
                "Tags": [{"Key": "team", "Value": "a"}],
            },
        },
        "Queue": {"Type": "AWS::SQS::Queue"},
        "Policy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {
                "Bucket": {"Ref": "Files"},
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": "*",
                            "Action": "s3:GetObject",
                            "Resource": {"Fn::Sub": "${Files.Arn}/*"},
                        }
                    ],
                },
            },
        },
        "Plain": {"Type": "AWS::S3::Bucket"},
    },
    "Outputs": {
        name: {"Value": {"Fn::GetAtt": ["Files", name]}}
        for name in ("Arn", "DomainName", "DualStackDomainName", "RegionalDomainName", "WebsiteURL")
    }
    | {"Plain": {"Value": {"Ref": "Plain"}}},
}


def until(cloud: LocalCloud, *wanted: str) -> dict[str, Any]:
    """The stack once it has one of these states."""
    stacks = cloud.client("cloudformation")

    def look() -> dict[str, Any]:
        try:
            (stack,) = stacks.describe_stacks(StackName="files")["Stacks"]
        except ClientError:
            return {"StackStatus": "GONE"}
        return dict(stack) if stack["StackStatus"] in wanted else {}

    return eventually(look)


def test_stack(cloud: LocalCloud) -> None:
    stacks, s3 = cloud.client("cloudformation"), cloud.client("s3")
    stacks.create_stack(StackName="files", TemplateBody=json.dumps(TEMPLATE))
    stack = until(cloud, "CREATE_COMPLETE", "ROLLBACK_COMPLETE")
    assert stack["StackStatus"] == "CREATE_COMPLETE", stacks.describe_stack_events(StackName="files")["StackEvents"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert outputs["Arn"] == "arn:aws:s3:::stack-files"
    assert outputs["DomainName"] == "stack-files.s3.amazonaws.com"
    assert outputs["RegionalDomainName"] == "stack-files.s3.us-east-1.amazonaws.com"
    assert outputs["DualStackDomainName"] == "stack-files.s3.dualstack.us-east-1.amazonaws.com"
    assert "stack-files" in outputs["WebsiteURL"]
    assert outputs["WebsiteURL"].startswith("http://")
    bucket = {"Bucket": "stack-files"}
    assert s3.get_bucket_versioning(**bucket)["Status"] == "Enabled"
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(**bucket)["TagSet"]}
    assert (tags["team"], tags["aws:cloudformation:logical-id"]) == ("a", "Files")
    (rule,) = s3.get_bucket_cors(**bucket)["CORSRules"]
    assert rule == {"ID": "all", "AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAgeSeconds": 60}
    old, young = s3.get_bucket_lifecycle_configuration(**bucket)["Rules"]
    assert (old["ID"], old["Expiration"], old["Filter"]) == ("old", {"Days": 7}, {"Prefix": "tmp/"})
    assert young["Filter"] == {"Tag": {"Key": "a", "Value": "b"}}
    encryption = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert encryption["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms"}
    assert s3.get_bucket_website(**bucket)["ErrorDocument"] == {"Key": "error.html"}
    assert s3.get_bucket_policy_status(**bucket)["PolicyStatus"]["IsPublic"] is True
    (queue,) = s3.get_bucket_notification_configuration(**bucket)["QueueConfigurations"]
    assert queue["Events"] == ["s3:ObjectCreated:*"]
    assert outputs["Plain"].startswith("files-plain-")

    # What a template no longer says is taken back.
    changed = json.loads(json.dumps(TEMPLATE))
    properties = changed["Resources"]["Files"]["Properties"]
    for name in ("CorsConfiguration", "LifecycleConfiguration", "NotificationConfiguration", "VersioningConfiguration"):
        del properties[name]
    properties["Tags"] = [{"Key": "team", "Value": "b"}]
    del changed["Resources"]["Policy"]
    stacks.update_stack(StackName="files", TemplateBody=json.dumps(changed))
    assert until(cloud, "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")["StackStatus"] == "UPDATE_COMPLETE"
    assert s3.get_bucket_versioning(**bucket)["Status"] == "Suspended"
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(**bucket)
    for call in (s3.get_bucket_cors, s3.get_bucket_lifecycle_configuration, s3.get_bucket_policy):
        with pytest.raises(ClientError):
            call(**bucket)
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(**bucket)["TagSet"]}
    assert tags["team"] == "b"

    # A bucket that is not empty stays, and says so.
    s3.put_object(**bucket, Key="k", Body=b"1")
    stacks.delete_stack(StackName="files")
    stack = until(cloud, "DELETE_FAILED")
    events = stacks.describe_stack_events(StackName=stack["StackId"])["StackEvents"]
    reasons = [event.get("ResourceStatusReason", "") for event in events if event["ResourceStatus"] == "DELETE_FAILED"]
    assert any("The bucket you tried to delete is not empty" in reason for reason in reasons)
    for version in s3.list_object_versions(**bucket).get("Versions", []):
        s3.delete_object(**bucket, Key=version["Key"], VersionId=version["VersionId"])
    stacks.delete_stack(StackName="files")
    until(cloud, "DELETE_COMPLETE")
    assert s3.list_buckets()["Buckets"] == []


def test_refusals(cloud: LocalCloud) -> None:
    """A name that is taken and a property that is refused fail a stack by name; one that no bucket has makes none."""
    stacks, s3 = cloud.client("cloudformation"), cloud.client("s3")
    s3.create_bucket(Bucket="taken")
    for properties, words in (
        ({"BucketName": "taken"}, "with identifier 'taken' already exists"),
        ({"ReplicationConfiguration": {"Role": "r", "Rules": []}}, "ReplicationConfiguration"),
    ):
        template = {"Resources": {"Files": {"Type": "AWS::S3::Bucket", "Properties": properties}}}
        stacks.create_stack(StackName="files", TemplateBody=json.dumps(template))
        until(cloud, "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
        events = stacks.describe_stack_events(StackName="files")["StackEvents"]
        assert any(words in event.get("ResourceStatusReason", "") for event in events), events
        stacks.delete_stack(StackName="files")
        until(cloud, "DELETE_COMPLETE")
    template = {"Resources": {"Files": {"Type": "AWS::S3::Bucket", "Properties": {"Nonsense": 1}}}}
    words = (
        "Properties validation failed for resource Files with message: #: extraneous key [Nonsense] is not permitted"
    )
    told = refused(stacks.create_stack, StackName="files", TemplateBody=json.dumps(template))
    assert told == ("ValidationError", words)
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["taken"]
