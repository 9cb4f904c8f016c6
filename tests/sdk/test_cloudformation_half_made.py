"""CloudFormation: what a creation has begun goes with it when it fails, and what was there before stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import WaiterError
from test_cloudformation import TRUST, Stacks

from cloudlet.testing.local import LocalCloud

HALF_MADE: dict[str, dict[str, Any]] = {
    "Table": {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "TableName": "half",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "ResourcePolicy": {"PolicyDocument": {"Version": "2012-10-17", "Statement": "no statement"}},
        },
    },
    "Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "half", "RetentionInDays": 2}},
    "Topic": {
        "Type": "AWS::SNS::Topic",
        "Properties": {"TopicName": "half", "Subscription": [{"Protocol": "sqs", "Endpoint": "no arn"}]},
    },
    "Role": {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": "half",
            "AssumeRolePolicyDocument": TRUST,
            "ManagedPolicyArns": ["arn:aws:iam::000000000000:policy/nothing"],
        },
    },
    "Bucket": {
        "Type": "AWS::S3::Bucket",
        "Properties": {"BucketName": "half-made", "WebsiteConfiguration": {"IndexDocument": "a/b"}},
    },
    "Balancer": {
        "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
        "Properties": {
            "Name": "half",
            "Port": 80,
            "Protocol": "HTTP",
            "VpcId": "default",
            "TargetGroupAttributes": [{"Key": "no.attribute", "Value": "x"}],
        },
    },
}


@pytest.mark.parametrize("name", HALF_MADE)
def test_nothing_is_left_of_what_could_not_be_finished(cloud: LocalCloud, name: str) -> None:
    stacks = Stacks(cloud)
    resources = {name: HALF_MADE[name]}
    if name == "Balancer":
        resources[name]["Properties"]["VpcId"] = cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    stacks.create("half", resources, "ROLLBACK_COMPLETE")
    left = {
        "Table": lambda: cloud.client("dynamodb").list_tables()["TableNames"],
        "Group": lambda: cloud.client("logs").describe_log_groups()["logGroups"],
        "Topic": lambda: cloud.client("sns").list_topics()["Topics"],
        "Role": lambda: [one for one in cloud.client("iam").list_roles()["Roles"] if one["RoleName"] == "half"],
        "Bucket": lambda: cloud.client("s3").list_buckets()["Buckets"],
        "Balancer": lambda: cloud.client("elbv2").describe_target_groups()["TargetGroups"],
    }
    assert left[name]() == []


def test_a_stack_does_not_take_what_was_there_before(cloud: LocalCloud) -> None:
    stacks = Stacks(cloud)
    dynamodb, logs = cloud.client("dynamodb"), cloud.client("logs")
    keys = HALF_MADE["Table"]["Properties"]
    properties = {key: value for key, value in keys.items() if key != "ResourcePolicy"}
    dynamodb.create_table(**properties)
    dynamodb.put_item(TableName="half", Item={"id": {"S": "precious"}})
    logs.create_log_group(logGroupName="mine")
    group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "mine"}}
    table = {"Type": "AWS::DynamoDB::Table", "Properties": properties}
    stacks.create("taker", {"Group": group}, "ROLLBACK_COMPLETE")
    stacks.create("another", {"Table": table}, "ROLLBACK_COMPLETE")
    assert any("already exists" in reason for _, _, reason in stacks.events("another"))
    for name in ("taker", "another"):
        stacks.delete(name)
    assert dynamodb.scan(TableName="half")["Count"] == 1
    assert len(logs.describe_log_groups()["logGroups"]) == 1
    # Nothing is imported either: what exists fails its creation, and stays.
    stacks.client.create_change_set(
        StackName="importer",
        ChangeSetName="one",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Resources": {"Table": table}}),
        ImportExistingResources=True,
    )
    stacks.client.get_waiter("change_set_create_complete").wait(
        StackName="importer", ChangeSetName="one", WaiterConfig={"Delay": 1}
    )
    stacks.client.execute_change_set(StackName="importer", ChangeSetName="one")
    with pytest.raises(WaiterError):
        stacks.client.get_waiter("stack_create_complete").wait(StackName="importer", WaiterConfig={"Delay": 1})
    stacks.delete("importer")
    assert dynamodb.scan(TableName="half")["Count"] == 1
