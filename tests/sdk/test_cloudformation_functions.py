"""What templates may say: functions, parameters, rules, dynamic references, macros."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from test_cloudformation import QUICK, Stacks, body, queue, refused

from cloudlet.testing.local import LocalCloud


@pytest.fixture
def stacks(cloud: LocalCloud) -> Stacks:
    return Stacks(cloud)


def test_functions(stacks: Stacks) -> None:
    template = """
    Parameters:
      Names: {Type: CommaDelimitedList, Default: "a, b,c"}
      Stage: {Type: String, Default: prod}
    Mappings:
      Sizes: {prod: {size: large, zones: [x, y]}, test: {size: small, zones: [z]}}
    Conditions:
      IsProd: !Equals [!Ref Stage, prod]
      IsTest: !Not [!Condition IsProd]
      Either: !Or [!Condition IsProd, !Condition IsTest]
      Both: !And [!Condition IsProd, !Equals ["1", 1]]
    Resources:
      Queue: {Type: AWS::SQS::Queue}
      Only: {Type: AWS::SQS::Queue, Condition: IsTest}
    Outputs:
      Joined: {Value: !Join ["-", !Ref Names]}
      Selected: {Value: !Select [1, !Ref Names]}
      Split: {Value: !Select ["2", !Split ["|", "a|b|c"]]}
      Mapped: {Value: !FindInMap [Sizes, !Ref Stage, size]}
      Zones: {Value: !Join [",", !FindInMap [Sizes, !Ref Stage, zones]]}
      If: {Value: !If [Both, yes-it-is, no-it-is-not]}
      Sub: {Value: !Sub ["${AWS::Region}/${x}/${!Literal}/${Queue.QueueName}", {x: !Ref Stage}]}
      Base64: {Value: !Base64 hello}
      Cidr: {Value: !Select [1, !Cidr [10.0.0.0/16, 2, 8]]}
      Az: {Value: !Select [0, !GetAZs ""]}
      Account: {Value: !Ref AWS::AccountId}
      Hidden: {Condition: IsTest, Value: never}
    """
    stacks.create("s", template)
    outputs = stacks.outputs("s")
    name = stacks.physical("s")["Queue"].rsplit("/", 1)[1]
    assert outputs == {
        "Joined": "a-b-c",
        "Selected": "b",
        "Split": "c",
        "Mapped": "large",
        "Zones": "x,y",
        "If": "yes-it-is",
        "Sub": f"us-east-1/prod/${{Literal}}/{name}",
        "Base64": "aGVsbG8=",
        "Cidr": "10.0.1.0/24",
        "Az": "us-east-1a",
        "Account": "000000000000",
    }
    assert list(stacks.physical("s")) == ["Queue"]
    stacks.client.update_stack(
        StackName="s",
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "Stage", "ParameterValue": "test"}],
    )
    stacks.settled("s", "UPDATE_COMPLETE")
    assert sorted(stacks.physical("s")) == ["Only", "Queue"]
    assert stacks.outputs("s")["Hidden"] == "never"


def test_language_extensions(stacks: Stacks) -> None:
    template = """
    Transform: AWS::LanguageExtensions
    Mappings: {M: {a: {k: v}}}
    Resources:
      Fn::ForEach::Queues:
        - Name
        - [Red, Blue]
        - Queue${Name}:
            Type: AWS::SQS::Queue
            Properties: {QueueName: !Sub "${Name}-queue"}
    Outputs:
      Fn::ForEach::Out:
        - Name
        - [Red, Blue]
        - Url${Name}: {Value: !GetAtt [!Sub "Queue${Name}", QueueName]}
      Length: {Value: !Length [1, 2, 3]}
      Json: {Value: !ToJsonString {a: [1, !Ref AWS::Region]}}
      Missing: {Value: !FindInMap [M, a, nothing, DefaultValue: fallback]}
    """
    client = stacks.client
    assert refused(client.create_stack, StackName="s", TemplateBody=template) == (
        "InsufficientCapabilitiesException",
        "Requires capabilities : [CAPABILITY_AUTO_EXPAND]",
    )
    stacks.create("s", template, Capabilities=["CAPABILITY_AUTO_EXPAND"])
    assert stacks.outputs("s") == {
        "UrlRed": "Red-queue",
        "UrlBlue": "Blue-queue",
        "Length": "3",
        "Json": '{"a":[1,"us-east-1"]}',
        "Missing": "fallback",
    }
    processed = client.get_template(StackName="s", TemplateStage="Processed")["TemplateBody"]
    assert sorted(processed["Resources"]) == ["QueueBlue", "QueueRed"]


def test_parameters(cloud: LocalCloud, stacks: Stacks) -> None:
    template = {
        "Parameters": {
            "Few": {"Type": "String", "MinLength": 2, "MaxLength": 4, "AllowedPattern": "[a-z]+"},
            "Count": {"Type": "Number", "MinValue": 1, "MaxValue": 5, "Default": 3},
            "Color": {"Type": "String", "AllowedValues": ["red", "blue"], "Default": "red"},
        },
        "Resources": {"Queue": queue(DelaySeconds={"Ref": "Count"})},
    }

    def attempt(**values: str) -> str:
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
        return refused(stacks.client.create_stack, StackName="s", Parameters=given, **body(template, {}))[1]

    assert attempt() == "Parameters: [Few] must have values"
    assert attempt(Few="a") == "Parameter 'Few' must contain at least 2 characters"
    assert attempt(Few="abcde") == "Parameter 'Few' must contain at most 4 characters"
    assert attempt(Few="A1") == "Parameter 'Few' must match pattern [a-z]+"
    assert attempt(Few="abc", Count="9") == "Parameter 'Count' must be a number not greater than 5"
    assert attempt(Few="abc", Count="x") == "Parameter 'Count' must be a number"
    assert attempt(Few="abc", Color="green") == "Parameter 'Color' must be one of AllowedValues"
    assert attempt(Few="abc", Other="x") == "Parameters: [Other] do not exist in the template"
    rules = {
        "R": {
            "RuleCondition": {"Fn::Equals": [{"Ref": "Color"}, "red"]},
            "Assertions": [{"Assert": {"Fn::Contains": [["1", "3"], {"Ref": "Count"}]}, "AssertDescription": "odd"}],
        }
    }
    template["Rules"] = rules
    assert "odd" in attempt(Few="abc", Count="2")
    stacks.create("s", template, Parameters=[{"ParameterKey": "Few", "ParameterValue": "abc"}])


def test_values_from_elsewhere(cloud: LocalCloud, stacks: Stacks) -> None:
    ssm, sqs = cloud.client("ssm"), cloud.client("sqs")
    ssm.put_parameter(Name="/app/delay", Type="String", Value="7")
    ssm.put_parameter(Name="/app/list", Type="StringList", Value="a,b")
    ssm.put_parameter(Name="/app/secret", Type="SecureString", Value="hush")
    template = """
    Parameters:
      Delay: {Type: "AWS::SSM::Parameter::Value<String>", Default: /app/delay}
      Names: {Type: "AWS::SSM::Parameter::Value<List<String>>", Default: /app/list}
    Resources:
      Queue:
        Type: AWS::SQS::Queue
        Properties:
          DelaySeconds: !Ref Delay
          VisibilityTimeout: "{{resolve:ssm:/app/delay}}"
          Tags:
            - {Key: first, Value: !Select [0, !Ref Names]}
            - {Key: secret, Value: "{{resolve:ssm-secure:/app/secret}}"}
    """
    stack = stacks.create("s", template)
    shown = {one["ParameterKey"]: one for one in stack["Parameters"]}
    assert (shown["Delay"]["ParameterValue"], shown["Delay"]["ResolvedValue"]) == ("/app/delay", "7")
    url = stacks.physical("s")["Queue"]
    given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (given["DelaySeconds"], given["VisibilityTimeout"]) == ("7", "7")
    tags = sqs.list_queue_tags(QueueUrl=url)["Tags"]
    assert (tags["first"], tags["secret"]) == ("a", "hush")
    ssm.put_parameter(Name="/app/delay", Type="String", Value="8", Overwrite=True)
    stacks.client.update_stack(StackName="s", UsePreviousTemplate=True)
    stacks.settled("s", "UPDATE_COMPLETE")
    given = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert given["DelaySeconds"] == "8"
    missing = template.replace("/app/list", "/app/nothing")
    assert refused(stacks.client.create_stack, StackName="t", TemplateBody=missing)[1] == (
        "Unable to fetch parameters [/app/nothing] from parameter store for this account."
    )
    stacks.create("u", {"Q": queue(DelaySeconds="{{resolve:ssm:/none}}")}, "ROLLBACK_COMPLETE")
    assert "cannot be found" in stacks.reason("u", "Q", "CREATE_FAILED")


def test_a_macro_of_ones_own(cloud: LocalCloud, stacks: Stacks) -> None:
    code = """
def handler(event, context):
    fragment = event["fragment"]
    fragment["Resources"]["Added"] = {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": 3}}
    return {"requestId": event["requestId"], "status": "success", "fragment": fragment}
"""
    resources: dict[str, Any] = {
        "Fn": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Runtime": "python3.12",
                "Handler": "index.handler",
                "Role": "arn:aws:iam::000000000000:role/any",
                "Code": {"ZipFile": code},
            },
        },
        "Macro": {
            "Type": "AWS::CloudFormation::Macro",
            "Properties": {"Name": "Adds", "FunctionName": {"Fn::GetAtt": ["Fn", "Arn"]}},
        },
    }
    stacks.create("macro", resources)
    template = {"Transform": "Adds", "Resources": {"Queue": queue()}}
    capabilities = {"Capabilities": ["CAPABILITY_AUTO_EXPAND"]}
    stacks.create("s", json.dumps(template), **capabilities)
    assert sorted(stacks.physical("s")) == ["Added", "Queue"]
    stacks.delete("macro")
    assert refused(stacks.client.create_stack, StackName="t", TemplateBody=json.dumps(template), **capabilities)[1] == (
        "No transform named Adds found."
    )


def test_serverless(cloud: LocalCloud, stacks: Stacks) -> None:
    template = """
    Transform: AWS::Serverless-2016-10-31
    Globals:
      Function: {Runtime: python3.12, Handler: index.handler}
    Resources:
      Jobs: {Type: AWS::SQS::Queue}
      Fn:
        Type: AWS::Serverless::Function
        Properties:
          InlineCode: |
            def handler(event, context):
                return {"statusCode": 200, "body": "hello " + str(event.get("path", ""))}
          AutoPublishAlias: live
          FunctionUrlConfig: {AuthType: NONE}
          Policies:
            - AWSLambdaBasicExecutionRole
            - SQSSendMessagePolicy: {QueueName: !GetAtt Jobs.QueueName}
          Events:
            Rest: {Type: Api, Properties: {Path: /rest, Method: get}}
            Jobs: {Type: SQS, Properties: {Queue: !GetAtt Jobs.Arn}}
    Outputs:
      Alias: {Value: !Ref Fn.Alias}
    """
    client = stacks.client
    # As sam deploy does it.
    made = client.create_change_set(
        StackName="s",
        ChangeSetName="sam1",
        ChangeSetType="CREATE",
        TemplateBody=template,
        Capabilities=["CAPABILITY_IAM"],
    )
    client.get_waiter("change_set_create_complete").wait(ChangeSetName=made["Id"], WaiterConfig=QUICK)
    client.execute_change_set(ChangeSetName="sam1", StackName="s")
    stacks.settled("s", "CREATE_COMPLETE")
    assert stacks.outputs("s")["Alias"].endswith(":live")
    resources = stacks.physical("s")
    roles = cloud.client("iam").list_attached_role_policies(RoleName=resources["FnRole"])["AttachedPolicies"]
    assert "AWSLambdaBasicExecutionRole" in [one["PolicyName"] for one in roles]
    again = {"TemplateBody": template, "Capabilities": ["CAPABILITY_IAM"]}
    client.create_change_set(StackName="s", ChangeSetName="sam2", **again)
    empty = client.describe_change_set(StackName="s", ChangeSetName="sam2")
    assert (empty["Status"], empty["StatusReason"]) == ("FAILED", "No updates are to be performed.")

    wrong = template.replace("AutoPublishAlias: live", "AutoPublishAlias: [live]")
    client.create_change_set(StackName="s", ChangeSetName="sam3", TemplateBody=wrong, Capabilities=["CAPABILITY_IAM"])
    failed = client.describe_change_set(StackName="s", ChangeSetName="sam3")
    assert failed["Status"] == "FAILED"
    assert failed["StatusReason"].startswith(
        "Transform AWS::Serverless-2016-10-31 failed with: Invalid Serverless Application Specification document. "
        "Number of errors found: 1. Resource with id [Fn] is invalid."
    )


def test_urls_that_a_template_makes_lead_here(cloud: LocalCloud, stacks: Stacks) -> None:
    """What an application's own tests and functions find in outputs and variables can be called as it is."""
    template = """
    Transform: AWS::Serverless-2016-10-31
    Globals:
      Function: {Runtime: python3.12, Handler: index.handler}
    Resources:
      Api: {Type: AWS::Serverless::Api, Properties: {StageName: prod}}
      Fn:
        Type: AWS::Serverless::Function
        Properties:
          InlineCode: |
            def handler(event, context):
                return {"statusCode": 200, "body": event["path"]}
          Events:
            Get: {Type: Api, Properties: {Path: /hello, Method: get, RestApiId: !Ref Api}}
      Client:
        Type: AWS::Serverless::Function
        Properties:
          FunctionName: client
          InlineCode: |
            import os
            def handler(event, context):
                return os.environ["URL"]
          Environment: {Variables: {URL: !Sub "https://${Api}.execute-api.${AWS::Region}.amazonaws.com/prod"}}
    Outputs:
      Url:
        Value: !Join ["", ["https://", !Ref Api, ".execute-api.", !Ref "AWS::Region", ".amazonaws.com/prod/hello"]]
    """
    capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    stacks.client.create_stack(StackName="app", TemplateBody=template, Capabilities=capabilities)
    (url,) = [output["OutputValue"] for output in stacks.settled("app", "CREATE_COMPLETE")["Outputs"]]
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"/hello"
    payload = cloud.client("lambda").invoke(FunctionName="client")["Payload"].read()
    assert json.loads(payload) + "/hello" == url
