"""CloudFormation through boto3: stacks, change sets, and what goes wrong."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError
from refusals import refused

from cloudlet.testing.local import LocalCloud

QUICK = {"Delay": 1, "MaxAttempts": 60}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Stacks:
    """CloudFormation's client, with what these tests do again and again."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.client = cloud.client("cloudformation")

    def create(self, name: str, resources: Any, wanted: str = "CREATE_COMPLETE", **more: Any) -> dict[str, Any]:
        self.client.create_stack(StackName=name, **body(resources, more))
        return self.settled(name, wanted)

    def update(self, name: str, resources: Any, wanted: str = "UPDATE_COMPLETE", **more: Any) -> dict[str, Any]:
        self.client.update_stack(StackName=name, **body(resources, more))
        return self.settled(name, wanted)

    def delete(self, name: str, wanted: str = "DELETE_COMPLETE", **more: Any) -> dict[str, Any]:
        stack_id = self.describe(name)["StackId"]
        self.client.delete_stack(StackName=name, **more)
        return self.settled(stack_id, wanted)

    def describe(self, name: str) -> dict[str, Any]:
        return dict(self.client.describe_stacks(StackName=name)["Stacks"][0])

    def settled(self, name: str, wanted: str, seconds: float = 20) -> dict[str, Any]:
        """The stack once nothing is under way; it must have come to what is wanted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            stack = self.describe(name)
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                assert stack["StackStatus"] == wanted, self.events(name)
                return stack
            time.sleep(0.02)
        raise AssertionError(f"{name} is still {stack['StackStatus']}: {self.events(name)}")

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """Logical id, status and reason of each event, the first first."""
        pages = self.client.get_paginator("describe_stack_events").paginate(StackName=name)
        found = [event for page in pages for event in page["StackEvents"]]
        return [
            (event["LogicalResourceId"], event["ResourceStatus"], event.get("ResourceStatusReason", ""))
            for event in reversed(found)
        ]

    def reason(self, name: str, logical_id: str, status: str) -> str:
        """The reason of the latest event of a resource with a status."""
        return [reason for one, is_now, reason in self.events(name) if (one, is_now) == (logical_id, status)][-1]

    def physical(self, name: str) -> dict[str, str]:
        found = self.client.describe_stack_resources(StackName=name)["StackResources"]
        return {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in found}

    def outputs(self, name: str) -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self.describe(name).get("Outputs", [])}


def body(resources: Any, more: dict[str, Any]) -> dict[str, Any]:
    """A request's template: resources, or a whole template when it has a Resources section."""
    if isinstance(resources, str):
        return {"TemplateBody": resources, **more}
    document = resources if "Resources" in resources else {"Resources": resources}
    return {"TemplateBody": json.dumps(document), "Capabilities": ["CAPABILITY_NAMED_IAM"], **more}


def queue(**properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::SQS::Queue", "Properties": properties}


# A queue that cannot be: it is refused when it is made, not before.
BAD = queue(VisibilityTimeout=1_000_000)


@pytest.fixture
def stacks(cloud: LocalCloud) -> Stacks:
    return Stacks(cloud)


def test_stack_life(cloud: LocalCloud, stacks: Stacks) -> None:
    template = """
    AWSTemplateFormatVersion: "2010-09-09"
    Description: Two queues
    Parameters:
      Delay: {Type: Number, Default: 5, MinValue: 0}
      Secret: {Type: String, NoEcho: true, Default: hush}
    Resources:
      Dead: {Type: AWS::SQS::Queue, Metadata: {Owner: me}}
      Work:
        Type: AWS::SQS::Queue
        Properties:
          DelaySeconds: !Ref Delay
          RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
    Outputs:
      Url: {Value: !Ref Work, Description: Where to send}
      Name: {Value: !GetAtt Work.QueueName, Export: {Name: !Sub "${AWS::StackName}-name"}}
    """
    client, sqs = stacks.client, cloud.client("sqs")
    tags = [{"Key": "team", "Value": "red"}]
    made = client.create_stack(StackName="two", TemplateBody=template, Tags=tags)
    client.get_waiter("stack_create_complete").wait(StackName="two", WaiterConfig=QUICK)
    stack = stacks.describe("two")
    assert stack["StackId"] == made["StackId"]
    assert stack["Description"] == "Two queues"
    assert stack["Tags"] == tags
    assert {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]} == {
        "Delay": "5",
        "Secret": "****",
    }
    outputs = stacks.outputs("two")
    assert outputs["Name"].startswith("two-Work-")
    given = sqs.get_queue_attributes(QueueUrl=outputs["Url"], AttributeNames=["All"])["Attributes"]
    assert given["DelaySeconds"] == "5"
    assert "two-Dead-" in given["RedrivePolicy"]
    assert sqs.list_queue_tags(QueueUrl=outputs["Url"])["Tags"] == {
        "team": "red",
        "aws:cloudformation:stack-name": "two",
        "aws:cloudformation:stack-id": stack["StackId"],
        "aws:cloudformation:logical-id": "Work",
    }
    events = stacks.events("two")
    assert events[0] == ("two", "CREATE_IN_PROGRESS", "User Initiated")
    assert events[-1] == ("two", "CREATE_COMPLETE", "")
    assert events.index(("Dead", "CREATE_COMPLETE", "")) < events.index(("Work", "CREATE_IN_PROGRESS", ""))
    assert ("Work", "CREATE_IN_PROGRESS", "Resource creation Initiated") in events
    detail = client.describe_stack_resource(StackName="two", LogicalResourceId="Dead")["StackResourceDetail"]
    assert json.loads(detail["Metadata"]) == {"Owner": "me"}
    assert client.get_template(StackName="two")["TemplateBody"] == template
    assert client.list_exports()["Exports"] == [
        {"ExportingStackId": stack["StackId"], "Name": "two-name", "Value": outputs["Name"]}
    ]
    assert refused(client.create_stack, StackName="two", TemplateBody=template) == (
        "AlreadyExistsException",
        "Stack [two] already exists",
    )

    # Nothing to do, then something in place.
    assert refused(client.update_stack, StackName="two", TemplateBody=template, Tags=tags) == (
        "ValidationError",
        "No updates are to be performed.",
    )
    delay = [{"ParameterKey": "Delay", "ParameterValue": "9"}]
    client.update_stack(StackName="two", UsePreviousTemplate=True, Parameters=delay)
    client.get_waiter("stack_update_complete").wait(StackName="two", WaiterConfig=QUICK)
    given = sqs.get_queue_attributes(QueueUrl=outputs["Url"], AttributeNames=["All"])["Attributes"]
    assert given["DelaySeconds"] == "9"
    assert stacks.outputs("two") == outputs
    assert ("Dead", "UPDATE_IN_PROGRESS", "") not in stacks.events("two")

    cloud.kill()
    cloud.start()
    assert stacks.outputs("two") == outputs

    client.delete_stack(StackName="two")
    client.get_waiter("stack_delete_complete").wait(StackName="two", WaiterConfig=QUICK)
    assert refused(client.describe_stacks, StackName="two") == ("ValidationError", "Stack with id two does not exist")
    assert stacks.describe(stack["StackId"])["StackStatus"] == "DELETE_COMPLETE"
    assert [one["StackStatus"] for one in client.list_stacks()["StackSummaries"]] == ["DELETE_COMPLETE"]
    assert "QueueUrls" not in sqs.list_queues()
    assert client.list_exports()["Exports"] == []
    client.delete_stack(StackName="two")


def test_an_update_replaces_adds_and_removes(cloud: LocalCloud, stacks: Stacks) -> None:
    sqs = cloud.client("sqs")
    stacks.create("s", {"Named": queue(QueueName="first"), "Gone": queue(), "Same": queue()})
    before = stacks.physical("s")
    user = queue(RedrivePolicy={"deadLetterTargetArn": {"Fn::GetAtt": ["Named", "Arn"]}, "maxReceiveCount": 1})
    stacks.update("s", {"Named": queue(QueueName="second"), "Same": queue(), "User": user})
    after = stacks.physical("s")
    assert after["Same"] == before["Same"]
    assert after["Named"].endswith("/second")
    assert sorted(after) == ["Named", "Same", "User"]
    urls = sqs.list_queues()["QueueUrls"]
    assert sorted(urls) == sorted(after.values())
    events = stacks.events("s")
    words = "Requested update requires the creation of a new physical resource; hence creating one."
    order = [
        events.index(("Named", "UPDATE_IN_PROGRESS", words)),
        events.index(("Named", "UPDATE_COMPLETE", "")),
        events.index(("User", "CREATE_IN_PROGRESS", "")),
        events.index(("s", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "")),
        events.index(("Gone", "DELETE_COMPLETE", "")),
        events.index(("s", "UPDATE_COMPLETE", "")),
    ]
    assert order == sorted(order)


def test_a_failed_creation_is_rolled_back(cloud: LocalCloud, stacks: Stacks) -> None:
    client, sqs = stacks.client, cloud.client("sqs")
    resources = {"Good": queue(), "Bad": {**BAD, "DependsOn": "Good"}, "Never": {**queue(), "DependsOn": "Bad"}}
    client.create_stack(StackName="s", **body(resources, {}))
    with pytest.raises(WaiterError, match="ROLLBACK_COMPLETE"):
        client.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig=QUICK)
    assert "VisibilityTimeout" in stacks.reason("s", "Bad", "CREATE_FAILED")
    words = "The following resource(s) failed to create: [Bad]. Rollback requested by user."
    assert stacks.reason("s", "s", "ROLLBACK_IN_PROGRESS") == words
    assert ("Good", "DELETE_COMPLETE", "") in stacks.events("s")
    assert "Never" not in [one for one, _, _ in stacks.events("s")]
    assert "QueueUrls" not in sqs.list_queues()
    code, message = refused(client.update_stack, StackName="s", **body({"Good": queue()}, {}))
    assert code == "ValidationError"
    assert message.endswith("is in ROLLBACK_COMPLETE state and can not be updated.")
    stacks.delete("s")

    stacks.create("kept", resources, "CREATE_FAILED", DisableRollback=True)
    assert len(sqs.list_queues()["QueueUrls"]) == 1
    # What failed may be corrected.
    stacks.update("kept", {"Good": queue(), "Bad": queue()})
    stacks.delete("kept")

    client.create_stack(StackName="gone", OnFailure="DELETE", **body(resources, {}))
    client.get_waiter("stack_delete_complete").wait(StackName="gone", WaiterConfig=QUICK)
    assert "QueueUrls" not in sqs.list_queues()


def test_a_failed_update_is_rolled_back(cloud: LocalCloud, stacks: Stacks) -> None:
    sqs = cloud.client("sqs")
    first = {"Changed": queue(DelaySeconds=1), "Replaced": queue(QueueName="old"), "Gone": queue()}
    stacks.create("s", first)
    before = stacks.physical("s")
    second = {
        "Changed": queue(DelaySeconds=2),
        "Replaced": queue(QueueName="new"),
        "Added": queue(),
        "Bad": {**BAD, "DependsOn": ["Changed", "Replaced", "Added"]},
    }
    stacks.update("s", second, "UPDATE_ROLLBACK_COMPLETE")
    assert stacks.physical("s") == before
    given = sqs.get_queue_attributes(QueueUrl=before["Changed"], AttributeNames=["All"])["Attributes"]
    assert given["DelaySeconds"] == "1"
    assert sorted(sqs.list_queues()["QueueUrls"]) == sorted(before.values())
    words = "The following resource(s) failed to create: [Bad]."
    assert stacks.reason("s", "s", "UPDATE_ROLLBACK_IN_PROGRESS") == words
    assert refused(stacks.client.update_stack, StackName="s", **body(first, {}))[1] == "No updates are to be performed."
    stacks.update("s", {**first, "Changed": queue(DelaySeconds=3)})


def test_what_cannot_be_is_refused_before_anything_is_made(cloud: LocalCloud, stacks: Stacks) -> None:
    create = stacks.client.create_stack
    resources: dict[str, Any] = {
        "Queue": queue(),
        "A": {"Type": "AWS::EKS::Cluster"},
        "B": {"Type": "AWS::Redshift::Cluster"},
    }
    code, message = refused(create, StackName="s", **body(resources, {}))
    assert code == "ValidationError"
    assert message.startswith(
        "Template format error: Unrecognized resource types: [AWS::EKS::Cluster, AWS::Redshift::Cluster]"
    )
    # What Cloudlet does not have is no hindrance where the template's conditions leave it out.
    never = {"Never": {"Fn::Equals": ["a", "b"]}}
    unused = {"Queue": queue(), "A": {**resources["A"], "Condition": "Never"}}
    create(StackName="without", TemplateBody=json.dumps({"Conditions": never, "Resources": unused}))
    stacks.settled("without", "CREATE_COMPLETE")
    assert list(stacks.physical("without")) == ["Queue"]
    stacks.delete("without")
    role = {"R": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}}}
    assert refused(create, StackName="s", TemplateBody=json.dumps({"Resources": role})) == (
        "InsufficientCapabilitiesException",
        "Requires capabilities : [CAPABILITY_IAM]",
    )
    missing = {"Q": queue(DelaySeconds={"Ref": "Nowhere"}, QueueName={"Fn::Sub": "${Neither}"})}
    assert refused(create, StackName="s", **body(missing, {}))[1] == (
        "Template format error: Unresolved resource dependencies [Neither, Nowhere] in the Resources block of the "
        "template"
    )
    circle = {"A": {**queue(), "DependsOn": "B"}, "B": {**queue(), "DependsOn": "A"}}
    assert refused(create, StackName="s", **body(circle, {}))[1] == "Circular dependency between resources: [A, B]"
    assert refused(create, StackName="s", TemplateBody="{]")[1].startswith(
        "Template format error: JSON not well-formed"
    )
    assert refused(create, StackName="s", TemplateBody="a: [")[1].startswith("Template format error: YAML not well-f")
    assert refused(create, StackName="1s", **body({"Q": queue()}, {}))[0] == "ValidationError"
    assert [one["StackName"] for one in stacks.client.list_stacks()["StackSummaries"]] == ["without"]
    assert "QueueUrls" not in cloud.client("sqs").list_queues()


def test_change_sets(cloud: LocalCloud, stacks: Stacks) -> None:
    client = stacks.client
    first = {"Named": queue(QueueName="one"), "Plain": queue(DelaySeconds=1), "Gone": queue()}
    made = client.create_change_set(StackName="s", ChangeSetName="c1", ChangeSetType="CREATE", **body(first, {}))
    client.get_waiter("change_set_create_complete").wait(ChangeSetName="c1", StackName="s", WaiterConfig=QUICK)
    assert stacks.describe("s")["StackStatus"] == "REVIEW_IN_PROGRESS"
    shown = client.describe_change_set(ChangeSetName=made["Id"])
    assert (shown["Status"], shown["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    assert {
        (one["ResourceChange"]["Action"], one["ResourceChange"]["LogicalResourceId"]) for one in shown["Changes"]
    } == {
        ("Add", "Named"),
        ("Add", "Plain"),
        ("Add", "Gone"),
    }
    assert "QueueUrls" not in cloud.client("sqs").list_queues()
    assert [one["ChangeSetName"] for one in client.list_change_sets(StackName="s")["Summaries"]] == ["c1"]
    client.execute_change_set(ChangeSetName="c1", StackName="s")
    client.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig=QUICK)
    assert client.describe_change_set(ChangeSetName=made["Id"])["ExecutionStatus"] == "EXECUTE_COMPLETE"
    assert client.list_change_sets(StackName="s")["Summaries"] == []
    assert stacks.describe("s")["ChangeSetId"] == made["Id"]

    def change_set(name: str, resources: Any, **more: Any) -> dict[str, Any]:
        client.create_change_set(StackName="s", ChangeSetName=name, **body(resources, more))
        return dict(client.describe_change_set(ChangeSetName=name, StackName="s", IncludePropertyValues=True))

    empty = change_set("c2", first)
    assert (empty["Status"], empty["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert empty["StatusReason"] == (
        "The submitted information didn't contain changes. Submit different information to create a change set."
    )
    with pytest.raises(WaiterError):
        client.get_waiter("change_set_create_complete").wait(ChangeSetName="c2", StackName="s", WaiterConfig=QUICK)
    assert refused(client.execute_change_set, ChangeSetName="c2", StackName="s")[0] == "InvalidChangeSetStatus"

    user = queue(RedrivePolicy={"deadLetterTargetArn": {"Fn::GetAtt": ["Named", "Arn"]}, "maxReceiveCount": 1})
    second = {"Named": queue(QueueName="two"), "Plain": queue(DelaySeconds=2), "User": user}
    planned = {
        one["ResourceChange"]["LogicalResourceId"]: one["ResourceChange"] for one in change_set("c3", second)["Changes"]
    }
    assert {name: one["Action"] for name, one in planned.items()} == {
        "Named": "Modify",
        "Plain": "Modify",
        "User": "Add",
        "Gone": "Remove",
    }
    assert (planned["Named"]["Replacement"], planned["Plain"]["Replacement"]) == ("True", "False")
    (detail,) = planned["Plain"]["Details"]
    assert detail["Target"] == {
        "Attribute": "Properties",
        "Name": "DelaySeconds",
        "RequiresRecreation": "Never",
        "Path": "/Properties/DelaySeconds",
        "BeforeValue": "1",
        "AfterValue": "2",
        "AttributeChangeType": "Modify",
    }
    assert (detail["Evaluation"], detail["ChangeSource"]) == ("Static", "DirectModification")
    assert "{{changeSet:KNOWN_AFTER_APPLY}}" in planned["User"]["AfterContext"]
    bare = client.describe_change_set(ChangeSetName="c3", StackName="s")
    assert "AfterContext" not in json.dumps(bare, default=str)
    assert refused(client.create_change_set, StackName="s", ChangeSetName="c3", **body(second, {}))[0] == (
        "AlreadyExistsException"
    )
    client.delete_change_set(ChangeSetName="c2", StackName="s")
    client.delete_change_set(ChangeSetName="nothing", StackName="s")
    client.execute_change_set(ChangeSetName="c3", StackName="s")
    client.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig=QUICK)
    assert sorted(stacks.physical("s")) == ["Named", "Plain", "User"]

    assert refused(client.describe_change_set, ChangeSetName="none", StackName="s") == (
        "ChangeSetNotFound",
        "ChangeSet [none] does not exist",
    )
    assert refused(client.create_change_set, StackName="none", ChangeSetName="c", **body(first, {})) == (
        "ValidationError",
        "Stack [none] does not exist",
    )
    assert refused(
        client.create_change_set, StackName="s", ChangeSetName="c", ChangeSetType="CREATE", **body(first, {})
    ) == (
        "ValidationError",
        "Stack [s] already exists and cannot be created again with the changeSet [c].",
    )
    importing = {"ChangeSetType": "IMPORT", "StackName": "new", "ChangeSetName": "c"}
    assert "IMPORT" in refused(client.create_change_set, **importing, **body(first, {}))[1]


def test_a_change_set_says_what_becomes_of_a_failure(stacks: Stacks) -> None:
    client = stacks.client
    more: dict[str, Any] = {"ChangeSetType": "CREATE", "OnStackFailure": "DELETE"}
    made = client.create_change_set(StackName="s", ChangeSetName="c", **body({"Bad": BAD}, more))
    client.execute_change_set(ChangeSetName="c", StackName="s")
    stacks.settled(made["StackId"], "DELETE_COMPLETE")


def test_exports_in_use_stay(stacks: Stacks) -> None:
    def exporting(name: str, value: Any) -> dict[str, Any]:
        outputs = {"Url": {"Value": value, "Export": {"Name": name}}}
        return {"Resources": {"Queue": queue()}, "Outputs": outputs}

    url = {"Ref": "Queue"}
    stacks.create("out", exporting("shared", url))
    user = {"Resources": {"Q": queue(Tags=[{"Key": "other", "Value": {"Fn::ImportValue": "shared"}}])}}
    stacks.create("in", user)
    assert stacks.client.list_imports(ExportName="shared")["Imports"] == ["in"]
    stacks.delete("out", "DELETE_FAILED")
    assert stacks.describe("out")["StackStatusReason"] == "Export shared cannot be deleted as it is in use by in"
    stacks.delete("in")
    stacks.delete("out")
    stacks.create("in", user, "ROLLBACK_COMPLETE")
    assert stacks.reason("in", "in", "ROLLBACK_IN_PROGRESS") == (
        "No export named shared found. Rollback requested by user."
    )


def test_an_export_in_use_cannot_change(stacks: Stacks) -> None:
    def exporting(value: str) -> dict[str, Any]:
        outputs = {"Value": {"Value": value, "Export": {"Name": "shared"}}}
        return {"Resources": {"Queue": queue()}, "Outputs": outputs}

    stacks.create("out", exporting("one"))
    user = {
        "Resources": {"Q": queue()},
        "Outputs": {"Seen": {"Value": {"Fn::ImportValue": "shared"}}},
    }
    stacks.create("in", user)
    assert stacks.outputs("in") == {"Seen": "one"}
    stacks.update("out", exporting("two"), "UPDATE_ROLLBACK_COMPLETE")
    assert stacks.reason("out", "out", "UPDATE_ROLLBACK_IN_PROGRESS") == (
        "Export shared cannot be updated as it is in use by in"
    )
    stacks.create("twice", exporting("x"), "ROLLBACK_COMPLETE")
    assert "Export with name shared is already exported by stack out" in stacks.reason(
        "twice", "twice", "ROLLBACK_IN_PROGRESS"
    )


def test_what_stays_when_a_stack_goes(cloud: LocalCloud, stacks: Stacks) -> None:
    sqs = cloud.client("sqs")

    def names() -> list[str]:
        return sorted(url.rsplit("/", 1)[1] for url in sqs.list_queues().get("QueueUrls", []))

    resources = {
        "Kept": {**queue(QueueName="kept"), "DeletionPolicy": "Retain"},
        "Snap": {**queue(QueueName="snap"), "DeletionPolicy": "Snapshot"},
        "Late": {**queue(QueueName="late"), "DeletionPolicy": "RetainExceptOnCreate"},
        "Old": {**queue(QueueName="old"), "UpdateReplacePolicy": "Retain"},
    }
    stacks.create("s", resources)
    stacks.update("s", {**resources, "Old": {**queue(QueueName="new"), "UpdateReplacePolicy": "Retain"}})
    assert names() == ["kept", "late", "new", "old", "snap"]
    stack_id = stacks.delete("s")["StackId"]
    assert names() == ["kept", "late", "old", "snap"]
    assert ("Kept", "DELETE_SKIPPED", "") in stacks.events(stack_id)
    assert "no snapshot" in stacks.reason(stack_id, "Snap", "DELETE_SKIPPED")
    for url in sqs.list_queues()["QueueUrls"]:
        sqs.delete_queue(QueueUrl=url)
    # What a failed creation made is not kept.
    failing = {"Late": resources["Late"], "Bad": {**BAD, "DependsOn": "Late"}}
    stacks.create("t", failing, "ROLLBACK_COMPLETE")
    assert names() == []


def test_what_is_in_use_by_others_of_the_stack_goes_after_them(stacks: Stacks) -> None:
    """A gateway cannot leave while NAT gateways have public addresses, of which its resource knows nothing."""

    def of(kind: str, **properties: Any) -> dict[str, Any]:
        return {"Type": f"AWS::EC2::{kind}", "Properties": properties}

    resources = {
        "Vpc": of("VPC", CidrBlock="10.0.0.0/16"),
        "Gateway": of("InternetGateway"),
        "Attachment": of("VPCGatewayAttachment", VpcId={"Ref": "Vpc"}, InternetGatewayId={"Ref": "Gateway"}),
        "Subnet": of("Subnet", VpcId={"Ref": "Vpc"}, CidrBlock="10.0.0.0/24"),
        "Ip": of("EIP"),
        "Nat": of("NatGateway", SubnetId={"Ref": "Subnet"}, AllocationId={"Fn::GetAtt": ["Ip", "AllocationId"]}),
    }
    stack = stacks.create("net", resources)
    stacks.delete("net")
    gone = [(name, status) for name, status, _ in stacks.events(stack["StackId"]) if status.startswith("DELETE")]
    assert [status for name, status in gone if name == "Attachment"] == ["DELETE_IN_PROGRESS", "DELETE_COMPLETE"]


def test_protection(stacks: Stacks) -> None:
    client = stacks.client
    policy = {
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"},
            {"Effect": "Deny", "Principal": "*", "Action": "Update:*", "Resource": "LogicalResourceId/Safe"},
        ]
    }
    resources = {"Safe": queue(DelaySeconds=1), "Open": queue(DelaySeconds=1)}
    text = json.dumps(policy)
    stacks.create("s", resources, StackPolicyBody=text, EnableTerminationProtection=True)
    assert client.get_stack_policy(StackName="s")["StackPolicyBody"] == text
    stacks.update("s", {**resources, "Open": queue(DelaySeconds=2)})
    changed = {"Safe": queue(DelaySeconds=2), "Open": queue(DelaySeconds=2)}
    stacks.update("s", changed, "UPDATE_ROLLBACK_COMPLETE")
    assert stacks.reason("s", "Safe", "UPDATE_FAILED") == (
        "Action denied by stack policy: Statement [#2] does not allow [Update:Modify] for resource [Safe]"
    )
    stacks.update("s", {"Open": queue(DelaySeconds=2)}, "UPDATE_ROLLBACK_COMPLETE")
    assert sorted(stacks.physical("s")) == ["Open", "Safe"]
    allow = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"}]}
    stacks.update("s", changed, StackPolicyDuringUpdateBody=json.dumps(allow))
    assert refused(client.set_stack_policy, StackName="s", StackPolicyBody="{}")[0] == "ValidationError"
    assert refused(client.delete_stack, StackName="s") == (
        "ValidationError",
        "Stack [s] cannot be deleted while TerminationProtection is enabled",
    )
    client.update_termination_protection(StackName="s", EnableTerminationProtection=False)
    stacks.delete("s")


def test_templates_are_described_and_judged(stacks: Stacks) -> None:
    client = stacks.client
    template = """
    Description: A role
    Parameters:
      Size: {Type: String, AllowedValues: [small, large], Default: small, Description: How much}
      Secret: {Type: String, NoEcho: true}
    Resources:
      Role:
        Type: AWS::IAM::Role
        Properties: {RoleName: mine, AssumeRolePolicyDocument: {}}
    """
    found = client.validate_template(TemplateBody=template)
    assert found["Description"] == "A role"
    assert found["Capabilities"] == ["CAPABILITY_NAMED_IAM"]
    assert found["CapabilitiesReason"] == "The following resource(s) require capabilities: [AWS::IAM::Role]"
    assert {one["ParameterKey"]: one["NoEcho"] for one in found["Parameters"]} == {"Size": False, "Secret": True}
    summary = client.get_template_summary(TemplateBody=template)
    assert summary["ResourceTypes"] == ["AWS::IAM::Role"]
    size = next(one for one in summary["Parameters"] if one["ParameterKey"] == "Size")
    assert size["ParameterConstraints"] == {"AllowedValues": ["small", "large"]}
    assert refused(client.validate_template, TemplateBody="Resources: {}") == (
        "ValidationError",
        "Template format error: At least one Resources member must be defined.",
    )
    versioned = {"A": {"Type": "Custom::A", "Version": "1.0", "Properties": {"ServiceToken": "x"}}, "Q": queue()}
    client.validate_template(TemplateBody=json.dumps({"Resources": versioned}))
    versioned["Q"]["Version"] = "1.0"
    assert (
        "property 'Version'" in refused(client.validate_template, TemplateBody=json.dumps({"Resources": versioned}))[1]
    )
    # As YAML, without quotes: a tag that no function has.
    assert refused(client.validate_template, TemplateBody="Resources: {Q: {Type: !Nope x}}")[0] == "ValidationError"
    assert refused(client.estimate_template_cost, TemplateBody=template)[0] == "NotImplemented"
    assert refused(client.create_stack_set, StackSetName="x", TemplateBody=template)[0] == "NotImplemented"


def test_a_change_set_that_was_executed_leaves_its_name_and_events_have_an_order_by_time(cloud: LocalCloud) -> None:
    client = cloud.client("cloudformation")
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    for kind, waiter in (("CREATE", "stack_create_complete"), ("UPDATE", "stack_update_complete")):
        made = client.create_change_set(
            StackName="again", ChangeSetName="same", ChangeSetType=kind, TemplateBody=json.dumps(template)
        )
        shown = client.describe_change_set(ChangeSetName=made["Id"])
        assert not {"Parameters", "Tags"} & set(shown)
        client.execute_change_set(ChangeSetName=made["Id"])
        client.get_waiter(waiter).wait(StackName="again", WaiterConfig={"Delay": 1})
        template["Resources"]["Queue"] = {"Type": "AWS::SQS::Queue"}
    times = [event["Timestamp"] for event in client.describe_stack_events(StackName="again")["StackEvents"]]
    assert times == sorted(set(times), reverse=True)

    unchanged = client.create_change_set(StackName="again", ChangeSetName="none", UsePreviousTemplate=True)
    with pytest.raises(ClientError) as error:
        client.execute_change_set(ChangeSetName=unchanged["Id"])
    assert "cannot be executed in its current status of [FAILED]" in str(error.value)


def test_a_change_set_asked_for_again_is_the_same(cloud: LocalCloud) -> None:
    """A client's token makes a repeated request harmless; without it, or with another, the name is taken."""
    cloudformation = cloud.client("cloudformation")
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    asked = {"StackName": "s", "ChangeSetName": "c", "ChangeSetType": "CREATE", "TemplateBody": template}
    first = cloudformation.create_change_set(**asked, ClientToken="once")
    assert cloudformation.create_change_set(**asked, ClientToken="once")["Id"] == first["Id"]
    with pytest.raises(ClientError, match="ChangeSet c already exists"):
        cloudformation.create_change_set(**asked, ClientToken="twice")
