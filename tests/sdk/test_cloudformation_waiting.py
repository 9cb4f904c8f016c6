"""What a deployment waits for: custom resources, wait conditions, nested stacks; and that it outlives a kill."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from typing import Any

import pytest
from test_cloudformation import BAD, Stacks, queue

from cloudlet.testing import LocalCloud, eventually

ROLE = "arn:aws:iam::000000000000:role/any"
# A custom resource that keeps a log of its requests in a queue.
CODE = """
import json, boto3, cfnresponse
def handler(event, context):
    properties = event["ResourceProperties"]
    boto3.client("sqs").send_message(QueueUrl=properties["Log"], MessageBody=json.dumps(event))
    if properties.get("Silent"):
        return
    status = cfnresponse.FAILED if properties.get("Fail") and event["RequestType"] != "Delete" else cfnresponse.SUCCESS
    data = {"Answer": properties["Size"]}
    cfnresponse.send(event, context, status, data, physicalResourceId="thing-" + properties["Name"], reason="so be it")
"""


@pytest.fixture
def stacks(cloud: LocalCloud) -> Stacks:
    return Stacks(cloud)


def custom(**properties: Any) -> dict[str, Any]:
    thing = {"ServiceToken": {"Fn::GetAtt": ["Fn", "Arn"]}, "Log": {"Ref": "Log"}, "Size": 3, **properties}
    function = {
        "Runtime": "python3.12",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"ZipFile": CODE},
    }
    return {
        "Resources": {
            "Log": queue(),
            "Fn": {"Type": "AWS::Lambda::Function", "Properties": function},
            "Thing": {"Type": "Custom::Thing", "Properties": thing},
        },
        "Outputs": {
            "Id": {"Value": {"Ref": "Thing"}},
            "Answer": {"Value": {"Fn::GetAtt": ["Thing", "Answer"]}},
            "Log": {"Value": {"Ref": "Log"}},
        },
    }


def requests(cloud: LocalCloud, url: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    sqs = cloud.client("sqs")
    end = time.monotonic() + 15
    while len(found) < count and time.monotonic() < end:
        page = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in page.get("Messages", []):
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_custom_resources(cloud: LocalCloud, stacks: Stacks) -> None:
    stacks.create("s", custom(Name="one"))
    outputs = stacks.outputs("s")
    assert (outputs["Id"], outputs["Answer"]) == ("thing-one", "3")
    (made,) = requests(cloud, outputs["Log"], 1)
    assert made["RequestType"] == "Create"
    assert made["ResourceType"] == "Custom::Thing"
    assert made["ResourceProperties"]["Size"] == "3"

    # Another id is another thing: the old one is deleted afterwards.
    stacks.update("s", custom(Name="two"))
    assert stacks.outputs("s")["Id"] == "thing-two"
    changed, deleted = requests(cloud, outputs["Log"], 2)
    assert (changed["RequestType"], changed["PhysicalResourceId"]) == ("Update", "thing-one")
    assert changed["OldResourceProperties"]["Name"] == "one"
    assert (deleted["RequestType"], deleted["PhysicalResourceId"]) == ("Delete", "thing-one")

    stacks.update("s", custom(Name="two", Fail="yes"), "UPDATE_ROLLBACK_COMPLETE")
    reason = stacks.reason("s", "Thing", "UPDATE_FAILED")
    assert reason.startswith("Received response status [FAILED] from custom resource. Message returned: so be it")
    failed, reverted = requests(cloud, outputs["Log"], 2)
    assert ("Fail" in failed["ResourceProperties"], "Fail" in reverted["ResourceProperties"]) == (True, False)
    stacks.delete("s")

    # What could not be made is deleted by the function that could not make it, before that goes.
    stacks.create("t", custom(Name="three", Fail="yes"), "ROLLBACK_COMPLETE")


def test_a_custom_resource_that_does_not_answer(cloud: LocalCloud, stacks: Stacks) -> None:
    template = custom(Name="x", Silent="yes", ServiceTimeout=60)
    # Its deletion, which nobody answers either, would be waited for too.
    template["Resources"]["Thing"]["DeletionPolicy"] = "Retain"
    stacks.client.create_stack(StackName="s", TemplateBody=json.dumps(template))
    eventually(lambda: "Thing" in [one for one, _, _ in stacks.events("s")])
    time.sleep(0.3)  # its function is invoked meanwhile, and stays silent
    cloud.advance(61)
    stacks.settled("s", "ROLLBACK_COMPLETE")
    reason = stacks.reason("s", "Thing", "CREATE_FAILED")
    assert reason.startswith("CloudFormation did not receive a response from your Custom Resource.")


def put(url: str, document: dict[str, Any]) -> None:
    request = urllib.request.Request(url, data=json.dumps(document).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def waiting(timeout: int = 60, count: int = 2) -> dict[str, Any]:
    properties = {"Handle": {"Ref": "Handle"}, "Timeout": str(timeout), "Count": count}
    return {
        "Resources": {
            "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
            "Wait": {"Type": "AWS::CloudFormation::WaitCondition", "Properties": properties},
            "After": {**queue(), "DependsOn": "Wait"},
        },
        "Outputs": {"Data": {"Value": {"Fn::GetAtt": ["Wait", "Data"]}}},
    }


def handle(stacks: Stacks, name: str) -> str:
    eventually(lambda: ("Wait", "CREATE_IN_PROGRESS", "Resource creation Initiated") in stacks.events(name))
    return stacks.physical(name)["Handle"]


def test_wait_conditions_over_a_kill(cloud: LocalCloud, stacks: Stacks) -> None:
    client = stacks.client
    client.create_stack(StackName="s", TemplateBody=json.dumps(waiting()))
    url = handle(stacks, "s")
    put(url, {"Status": "SUCCESS", "UniqueId": "1", "Data": "first", "Reason": "done"})
    cloud.kill()
    cloud.start()
    put(url, {"Status": "SUCCESS", "UniqueId": "2", "Data": "second", "Reason": "done"})
    stacks.settled("s", "CREATE_COMPLETE")
    assert json.loads(stacks.outputs("s")["Data"]) == {"1": "first", "2": "second"}
    assert sum(status == "CREATE_COMPLETE" for one, status, _ in stacks.events("s") if one == "After") == 1

    client.create_stack(StackName="failed", TemplateBody=json.dumps(waiting()))
    put(handle(stacks, "failed"), {"Status": "FAILURE", "UniqueId": "1", "Data": "", "Reason": "no luck"})
    stacks.settled("failed", "ROLLBACK_COMPLETE")
    assert stacks.reason("failed", "Wait", "CREATE_FAILED") == (
        "WaitCondition received failed message: 'no luck' for uniqueId: 1"
    )

    client.create_stack(StackName="late", TemplateBody=json.dumps(waiting(timeout=600)))
    handle(stacks, "late")
    cloud.advance(601)
    stacks.settled("late", "ROLLBACK_COMPLETE")
    assert stacks.reason("late", "Wait", "CREATE_FAILED") == (
        "WaitCondition timed out. Received 0 conditions when expecting 2"
    )


def test_signals_and_cancelling(cloud: LocalCloud, stacks: Stacks) -> None:
    client = stacks.client
    signalled = {
        "Type": "AWS::CloudFormation::WaitCondition",
        "CreationPolicy": {"ResourceSignal": {"Count": 1, "Timeout": "PT10M"}},
    }
    client.create_stack(StackName="s", TemplateBody=json.dumps({"Resources": {"Wait": signalled}}))
    eventually(lambda: ("Wait", "CREATE_IN_PROGRESS", "Resource creation Initiated") in stacks.events("s"))
    client.signal_resource(StackName="s", LogicalResourceId="Wait", UniqueId="1", Status="SUCCESS")
    stacks.settled("s", "CREATE_COMPLETE")

    # A deletion does not wait for what is under way.
    client.create_stack(StackName="never", TemplateBody=json.dumps(waiting()))
    handle(stacks, "never")
    stacks.delete("never")

    stacks.create("t", {"Queue": queue()})
    more = waiting()
    more["Resources"]["Queue"] = queue()
    client.update_stack(StackName="t", TemplateBody=json.dumps(more))
    handle(stacks, "t") if "Handle" in stacks.physical("t") else None
    client.cancel_update_stack(StackName="t")
    stacks.settled("t", "UPDATE_ROLLBACK_COMPLETE")
    assert list(stacks.physical("t")) == ["Queue"]


def test_creation_takes_too_long(cloud: LocalCloud, stacks: Stacks) -> None:
    stacks.client.create_stack(StackName="s", TemplateBody=json.dumps(waiting(timeout=3600)), TimeoutInMinutes=5)
    handle(stacks, "s")
    cloud.advance(301)
    stacks.settled("s", "ROLLBACK_COMPLETE")
    assert "timeout" in stacks.reason("s", "s", "ROLLBACK_IN_PROGRESS")


def test_nested_stacks(cloud: LocalCloud, stacks: Stacks) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="templates")

    def store(key: str, resources: dict[str, Any]) -> str:
        inner = {
            "Parameters": {"Delay": {"Type": "Number", "Default": 1}},
            "Resources": resources,
            "Outputs": {"Url": {"Value": {"Ref": "Queue"}}},
        }
        s3.put_object(Bucket="templates", Key=key, Body=json.dumps(inner).encode())
        return f"{cloud.endpoint}/templates/{key}"

    good = store("good.json", {"Queue": queue(DelaySeconds={"Ref": "Delay"})})
    bad = store("bad.json", {"Queue": queue(), "Bad": BAD})

    def outer(url: str, delay: int) -> dict[str, Any]:
        properties = {"TemplateURL": url, "Parameters": {"Delay": delay}}
        return {
            "Resources": {"Inner": {"Type": "AWS::CloudFormation::Stack", "Properties": properties}},
            "Outputs": {"Url": {"Value": {"Fn::GetAtt": ["Inner", "Outputs.Url"]}}},
        }

    stack = stacks.create("s", outer(good, 4))
    inner = stacks.physical("s")["Inner"]
    nested = stacks.describe(inner)
    assert (nested["ParentId"], nested["RootId"]) == (stack["StackId"], stack["StackId"])
    url = stacks.outputs("s")["Url"]
    sqs = cloud.client("sqs")

    def delay() -> str:
        return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["DelaySeconds"])

    assert delay() == "4"
    stacks.update("s", outer(good, 5))
    assert delay() == "5"
    # The text at the same URL changes.
    store("good.json", {"Queue": queue(DelaySeconds=9)})
    stacks.update("s", outer(good, 5))
    assert delay() == "9"
    stacks.update("s", outer(bad, 5), "UPDATE_ROLLBACK_COMPLETE")
    reason = stacks.reason("s", "Inner", "UPDATE_FAILED")
    assert reason.startswith(f"Embedded stack {inner} was not successfully updated: The following resource(s) failed")
    assert delay() == "9"
    stacks.delete("s")
    assert stacks.describe(inner)["StackStatus"] == "DELETE_COMPLETE"
    assert "QueueUrls" not in sqs.list_queues()


def test_a_deployment_outlives_kills(cloud: LocalCloud, stacks: Stacks) -> None:
    resources: dict[str, Any] = {}
    for number in range(30):
        needs = [f"Q{number - 10}"] if number >= 10 else []
        resources[f"Q{number}"] = {**queue(DelaySeconds=1), "DependsOn": needs}
    client, sqs = stacks.client, cloud.client("sqs")

    def killed(pause: float) -> None:
        for _ in range(2):
            time.sleep(pause)
            cloud.kill()
            cloud.start()

    client.create_stack(StackName="s", TemplateBody=json.dumps({"Resources": resources}))
    killed(0.02)
    stacks.settled("s", "CREATE_COMPLETE")
    urls = stacks.physical("s")
    assert sorted(sqs.list_queues(MaxResults=100)["QueueUrls"]) == sorted(urls.values())

    changed = {name: {**one, "Properties": {"DelaySeconds": 2}} for name, one in resources.items()}
    changed["Bad"] = {**BAD, "DependsOn": list(resources)}
    client.update_stack(StackName="s", TemplateBody=json.dumps({"Resources": changed}))
    killed(0.05)
    stacks.settled("s", "UPDATE_ROLLBACK_COMPLETE")
    assert stacks.physical("s") == urls
    for url in urls.values():
        given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds"])["Attributes"]
        assert given["DelaySeconds"] == "1"

    stack_id = stacks.describe("s")["StackId"]
    client.delete_stack(StackName="s")
    killed(0.02)
    stacks.settled(stack_id, "DELETE_COMPLETE")
    assert "QueueUrls" not in sqs.list_queues()


def test_a_roll_back_that_fails_is_continued(cloud: LocalCloud, stacks: Stacks) -> None:
    stacks.create("s", custom(Name="one"))
    function = stacks.physical("s")["Fn"]
    cloud.client("lambda").delete_function(FunctionName=function)
    stacks.update("s", custom(Name="one", Size=4), "UPDATE_ROLLBACK_FAILED")
    assert "Function not found" in stacks.reason("s", "Thing", "UPDATE_FAILED")
    client = stacks.client
    client.continue_update_rollback(StackName="s")
    stacks.settled("s", "UPDATE_ROLLBACK_FAILED")
    client.continue_update_rollback(StackName="s", ResourcesToSkip=["Thing"])
    stacks.settled("s", "UPDATE_ROLLBACK_COMPLETE")
    stacks.delete("s", "DELETE_FAILED")
    words = "The following resource(s) failed to delete: [Thing]."
    assert stacks.describe("s")["StackStatusReason"].strip() == words
    stacks.delete("s", RetainResources=["Thing"])


# As CDK's and npm's handlers answer: at https and port 443, with nothing of the URL but its host name and path.
OVER_HTTPS = """
const https = require("https");
exports.handler = async (event) => {
  const url = new URL(event.ResponseURL);
  const { StackId, RequestId, LogicalResourceId } = event;
  const body = JSON.stringify({ Status: "SUCCESS", PhysicalResourceId: "p", StackId, RequestId, LogicalResourceId });
  const headers = { "content-type": "", "content-length": Buffer.byteLength(body) };
  const options = { hostname: url.hostname, port: 443, path: url.pathname + url.search, method: "PUT", headers };
  await new Promise((resolve, reject) => {
    https.request(options, resolve).on("error", reject).end(body);
  });
};
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_custom_resource_that_answers_over_https(stacks: Stacks) -> None:
    function = {"Runtime": "nodejs20.x", "Handler": "index.handler", "Role": ROLE}
    stacks.create(
        "s",
        {
            "Resources": {
                "Function": {
                    "Type": "AWS::Lambda::Function",
                    "Properties": {**function, "Code": {"ZipFile": OVER_HTTPS}},
                },
                "Mine": {"Type": "Custom::Mine", "Properties": {"ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]}}},
            }
        },
    )
