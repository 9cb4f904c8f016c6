"""DynamoDB's CloudFormation types: made, changed in place, and gone with the stack."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloudlet.testing.local import LocalCloud


class Stack:
    """One stack with one table under the logical id ``Table``."""

    def __init__(self, cloud: LocalCloud, type: str = "AWS::DynamoDB::Table") -> None:
        self.stacks = cloud.client("cloudformation")
        self.dynamodb = cloud.client("dynamodb")
        self.type = type
        self.made = False

    def deploy(self, properties: dict[str, Any]) -> dict[str, Any]:
        """The table's description and the stack's outputs."""
        template = {
            "Resources": {"Table": {"Type": self.type, "Properties": properties}},
            "Outputs": {
                "Name": {"Value": {"Ref": "Table"}},
                "Arn": {"Value": {"Fn::GetAtt": ["Table", "Arn"]}},
                **(
                    {"Stream": {"Value": {"Fn::GetAtt": ["Table", "StreamArn"]}}}
                    if "StreamSpecification" in properties
                    else {}
                ),
            },
        }
        call = self.stacks.update_stack if self.made else self.stacks.create_stack
        call(StackName="tables", TemplateBody=json.dumps(template))
        waiter = "stack_update_complete" if self.made else "stack_create_complete"
        self.stacks.get_waiter(waiter).wait(StackName="tables", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
        self.made = True
        stack = self.stacks.describe_stacks(StackName="tables")["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        return dict(self.dynamodb.describe_table(TableName=self.outputs["Name"])["Table"])

    def tags(self) -> dict[str, str]:
        listed = self.dynamodb.list_tags_of_resource(ResourceArn=self.outputs["Arn"])["Tags"]
        return {tag["Key"]: tag["Value"] for tag in listed if not tag["Key"].startswith("aws:")}


KEYS = [{"AttributeName": "id", "KeyType": "HASH"}]


def defined(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


def by(name: str) -> dict[str, Any]:
    return {
        "IndexName": f"by-{name}",
        "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }


def test_a_table_changes_in_place(cloud: LocalCloud) -> None:
    stack = Stack(cloud)
    table = stack.deploy(
        {
            "AttributeDefinitions": defined("id", "a"),
            "KeySchema": KEYS,
            "ProvisionedThroughput": {"ReadCapacityUnits": "2", "WriteCapacityUnits": "2"},
            "GlobalSecondaryIndexes": [
                by("a") | {"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}}
            ],
            "Tags": [{"Key": "team", "Value": "one"}],
        }
    )
    assert table["TableArn"] == stack.outputs["Arn"]
    assert table["ProvisionedThroughput"]["ReadCapacityUnits"] == 2
    assert stack.tags() == {"team": "one"}
    name = table["TableName"]
    stack.dynamodb.put_item(TableName=name, Item={"id": {"S": "kept"}, "b": {"S": "x"}, "c": {"S": "y"}})
    changed = {
        "AttributeDefinitions": defined("id", "b", "c"),
        "KeySchema": KEYS,
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [by("b"), by("c")],
        "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
        "TimeToLiveSpecification": {"AttributeName": "ends", "Enabled": "true"},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True},
        "Tags": [{"Key": "cost", "Value": "two"}],
    }
    table = stack.deploy(changed)
    assert table["TableName"] == name
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert [(index["IndexName"], index["ItemCount"]) for index in table["GlobalSecondaryIndexes"]] == [
        ("by-b", 1),
        ("by-c", 1),
    ]
    assert stack.outputs["Stream"] == table["LatestStreamArn"]
    assert stack.tags() == {"cost": "two"}
    ttl = stack.dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ends"}
    backups = stack.dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    resources = cloud.control("resources")["resources"]
    assert {"type": "AWS::DynamoDB::Table", "name": name, "arn": table["TableArn"]} in resources
    stack.stacks.delete_stack(StackName="tables")
    stack.stacks.get_waiter("stack_delete_complete").wait(StackName="tables", WaiterConfig={"Delay": 1})
    assert stack.dynamodb.list_tables()["TableNames"] == []


def test_a_global_table_has_its_replica_here(cloud: LocalCloud) -> None:
    stack = Stack(cloud, "AWS::DynamoDB::GlobalTable")
    properties = {
        "TableName": "global",
        "AttributeDefinitions": defined("id", "a"),
        "KeySchema": KEYS,
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [by("a")],
        "Replicas": [{"Region": "us-east-1", "DeletionProtectionEnabled": False, "Tags": [{"Key": "k", "Value": "v"}]}],
    }
    table = stack.deploy(properties)
    assert table["TableName"] == "global"
    assert stack.tags() == {"k": "v"}
    elsewhere = Stack(cloud, "AWS::DynamoDB::GlobalTable")
    elsewhere.made = True
    with pytest.raises(Exception, match="Waiter"):
        elsewhere.deploy(properties | {"Replicas": [{"Region": "us-east-1"}, {"Region": "eu-west-1"}]})
    events = stack.stacks.describe_stack_events(StackName="tables")["StackEvents"]
    assert any("replicas in eu-west-1" in event.get("ResourceStatusReason", "") for event in events)
