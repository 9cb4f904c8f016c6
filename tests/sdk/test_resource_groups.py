"""Resource Groups through boto3."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud

TEMPLATE = {
    "Resources": {
        "Group": {
            "Type": "AWS::ResourceGroups::Group",
            "Properties": {"Name": "app-of-it", "ResourceQuery": {"Type": "CLOUDFORMATION_STACK_1_0"}},
        },
        "Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "jobs"}},
        "T": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "news"}},
    }
}
JOBS = "arn:aws:sqs:us-east-1:000000000000:jobs"


@pytest.fixture
def groups(cloud: LocalCloud) -> Any:
    return cloud.client("resource-groups")


def by_tags(*tags: tuple[str, list[str]], types: tuple[str, ...] = ("AWS::AllSupported",)) -> dict[str, str]:
    filters = [{"Key": key, "Values": values} for key, values in tags]
    return {"Type": "TAG_FILTERS_1_0", "Query": json.dumps({"ResourceTypeFilters": types, "TagFilters": filters})}


def members(groups: Any, name: str, **more: Any) -> list[tuple[str, str]]:
    found = groups.list_group_resources(Group=name, **more)["ResourceIdentifiers"]
    return [(one["ResourceArn"].rpartition(":")[2], one["ResourceType"]) for one in found]


def refused(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_a_group_is_a_question(cloud: LocalCloud, groups: Any) -> None:
    """Who is in a group follows the tags; the group, its query and its tags survive a kill."""
    sqs, sns = cloud.client("sqs"), cloud.client("sns")
    jobs = sqs.create_queue(QueueName="jobs", tags={"team": "blue", "stage": "live"})["QueueUrl"]
    sqs.create_queue(QueueName="other", tags={"team": "red"})
    sns.create_topic(Name="news", Tags=[{"Key": "team", "Value": "blue"}])
    query = by_tags(("team", ["blue", "green"]))
    made = groups.create_group(Name="blue", Description="d", ResourceQuery=query, Tags={"team": "blue"})
    arn = "arn:aws:resource-groups:us-east-1:000000000000:group/blue"
    assert made["Group"] == {"GroupArn": arn, "Name": "blue", "Description": "d"}
    assert (made["ResourceQuery"], made["Tags"]) == (query, {"team": "blue"})
    group = ("group/blue", "AWS::ResourceGroups::Group")
    assert members(groups, "blue") == [
        group,
        ("news", "AWS::SNS::Topic"),
        ("jobs", "AWS::SQS::Queue"),
    ]
    cloud.kill()
    cloud.start()
    groups = cloud.client("resource-groups")
    assert groups.get_group_query(Group=arn)["GroupQuery"] == {"GroupName": "blue", "ResourceQuery": query}
    cloud.client("sqs").untag_queue(QueueUrl=jobs, TagKeys=["team"])
    assert members(groups, arn) == [group, ("news", "AWS::SNS::Topic")]
    wanted = [{"Name": "resource-type", "Values": ["AWS::SNS::Topic"]}]
    assert members(groups, arn, Filters=wanted) == [("news", "AWS::SNS::Topic")]

    groups.update_group_query(Group="blue", ResourceQuery=by_tags(("team", []), types=("AWS::SQS::Queue",)))
    assert members(groups, "blue") == [("other", "AWS::SQS::Queue")]
    assert groups.update_group(GroupName="blue", Description="e")["Group"]["Description"] == "e"
    groups.tag(Arn=arn, Tags={"a": "b"})
    groups.untag(Arn=arn, Keys=["team"])
    assert groups.get_tags(Arn=arn)["Tags"] == {"a": "b"}
    assert [one["Name"] for one in groups.list_groups()["Groups"]] == ["blue"]
    pages = groups.get_paginator("search_resources").paginate(
        ResourceQuery=by_tags(("team", ["red", "blue"])), PaginationConfig={"PageSize": 1}
    )
    assert [len(page["ResourceIdentifiers"]) for page in pages] == [1, 1]
    tagging = cloud.client("resourcegroupstaggingapi")
    assert tagging.tag_resources(ResourceARNList=[arn], Tags={"c": "d"})["FailedResourcesMap"] == {}
    assert groups.get_tags(Arn=arn)["Tags"] == {"a": "b", "c": "d"}

    assert refused(groups.create_group, Name="blue", ResourceQuery=query) == "BadRequestException"
    assert refused(groups.create_group, Name="aws-x", ResourceQuery=query) == "BadRequestException"
    for wrong in ("{", "[]", '{"ResourceTypeFilters": ["AWS::AllSupported"]}', '{"TagFilters": [{"Key": "a"}]}'):
        asked = {"Type": "TAG_FILTERS_1_0", "Query": wrong}
        assert refused(groups.search_resources, ResourceQuery=asked) == "BadRequestException"
    configuration = [{"Type": "AWS::EC2::CapacityReservationPool"}]
    assert refused(groups.create_group, Name="pool", Configuration=configuration) == "NotImplemented"
    groups.delete_group(Group="blue")
    assert refused(groups.get_group, Group="blue") == "NotFoundException"


def test_a_stack_is_a_group(cloud: LocalCloud, groups: Any) -> None:
    """A template's group without a query is of the template's own stack, and goes with it."""
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="app", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="app", WaiterConfig={"Delay": 1})
    assert members(groups, "app-of-it") == [
        ("group/app-of-it", "AWS::ResourceGroups::Group"),
        ("news", "AWS::SNS::Topic"),
        ("jobs", "AWS::SQS::Queue"),
    ]
    query = groups.get_group_query(Group="app-of-it")["GroupQuery"]["ResourceQuery"]
    TEMPLATE["Resources"]["Group"]["Properties"]["Description"] = "all of it"
    stacks.update_stack(StackName="app", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_update_complete").wait(StackName="app", WaiterConfig={"Delay": 1})
    assert groups.get_group(Group="app-of-it")["Group"]["Description"] == "all of it"
    stacks.delete_stack(StackName="app")
    stacks.get_waiter("stack_delete_complete").wait(StackName="app", WaiterConfig={"Delay": 1})
    assert groups.list_groups()["Groups"] == []
    found = groups.search_resources(ResourceQuery=query)
    assert (found["ResourceIdentifiers"], found["QueryErrors"][0]["ErrorCode"]) == ([], "CLOUDFORMATION_STACK_INACTIVE")
