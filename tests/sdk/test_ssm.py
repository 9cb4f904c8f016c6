"""Parameter Store through boto3."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from refusals import refused

from cloudlet.testing.local import LocalCloud


@pytest.fixture
def ssm(cloud: LocalCloud) -> Any:
    return cloud.client("ssm")


def put(ssm: Any, name: str, value: str = "v", **parameters: Any) -> int:
    parameters.setdefault("Type", "String")
    return int(ssm.put_parameter(Name=name, Value=value, **parameters)["Version"])


def values(ssm: Any, path: str, **parameters: Any) -> dict[str, str]:
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=path, **parameters)
    return {each["Name"]: each["Value"] for page in pages for each in page["Parameters"]}


def described(ssm: Any, *filters: dict[str, Any]) -> list[str]:
    pages = ssm.get_paginator("describe_parameters").paginate(ParameterFilters=list(filters))
    return [each["Name"] for page in pages for each in page["Parameters"]]


def test_versions_and_labels_survive_a_kill(cloud: LocalCloud, ssm: Any) -> None:
    made = ssm.put_parameter(
        Name="/app/db/host", Value="one", Type="String", Description="where", Tags=[{"Key": "team", "Value": "a"}]
    )
    assert (made["Version"], made["Tier"]) == (1, "Standard")
    assert refused(put, ssm=ssm, name="/app/db/host") == (
        "ParameterAlreadyExists",
        "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
    )
    assert ssm.put_parameter(Name="/app/db/host", Value="two", Overwrite=True)["Version"] == 2
    put(ssm, "/app/db/host", "three", Overwrite=True)
    labelled = ssm.label_parameter_version(Name="/app/db/host", ParameterVersion=1, Labels=["live", "9x", "awsx"])
    assert labelled["InvalidLabels"] == ["9x", "awsx"]
    cloud.kill()
    cloud.start()
    one = ssm.get_parameter(Name="/app/db/host")["Parameter"]
    assert (one["Value"], one["Version"], one["DataType"]) == ("three", 3, "text")
    assert one["ARN"] == "arn:aws:ssm:us-east-1:000000000000:parameter/app/db/host"
    assert ssm.get_parameter(Name=one["ARN"])["Parameter"]["Value"] == "three"
    assert refused(ssm.get_parameter, Name=one["ARN"].replace("us-east-1", "eu-west-1"))[0] == "ParameterNotFound"
    assert ssm.get_parameter(Name="/app/db/host:2")["Parameter"]["Value"] == "two"
    live = ssm.get_parameter(Name="/app/db/host:live")["Parameter"]
    assert (live["Value"], live["Selector"]) == ("one", ":live")
    ssm.label_parameter_version(Name="/app/db/host", Labels=["live"])
    assert ssm.get_parameter(Name="/app/db/host:live")["Parameter"]["Value"] == "three"
    assert ssm.unlabel_parameter_version(Name="/app/db/host", ParameterVersion=3, Labels=["live", "x"]) | {
        "ResponseMetadata": None
    } == {"RemovedLabels": ["live"], "InvalidLabels": ["x"], "ResponseMetadata": None}
    assert refused(ssm.get_parameter, Name="/app/db/host:9") == (
        "ParameterVersionNotFound",
        "Systems Manager could not find version 9 of /app/db/host. Verify the version and try again.",
    )
    history = ssm.get_parameter_history(Name="/app/db/host", MaxResults=2)
    assert [(each["Version"], each["Value"], each["Description"]) for each in history["Parameters"]] == [
        (1, "one", "where"),
        (2, "two", "where"),
    ]
    rest = ssm.get_parameter_history(Name="/app/db/host", NextToken=history["NextToken"])
    assert [each["Value"] for each in rest["Parameters"]] == ["three"]
    found = ssm.get_parameters(Names=["/app/db/host", "/app/db/host:2", "nobody", "/app/db/host:none"])
    assert [each["Value"] for each in found["Parameters"]] == ["three", "two"]
    assert found["InvalidParameters"] == ["nobody", "/app/db/host:none"]
    assert refused(ssm.get_parameter, Name="nobody") == ("ParameterNotFound", "Parameter nobody not found.")
    public = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    assert ssm.get_parameter(Name=public)["Parameter"]["Value"].startswith("ami-")
    router = ssm.get_parameter(Name="/aws/service/aws-for-fluent-bit/stable")["Parameter"]["Value"]
    assert router.endswith(".us-east-1.amazonaws.com/aws-for-fluent-bit:stable")

    key = {"ResourceType": "Parameter", "ResourceId": "/app/db/host"}
    ssm.add_tags_to_resource(**key, Tags=[{"Key": "stage", "Value": "test"}])
    ssm.remove_tags_from_resource(**key, TagKeys=["team"])
    assert ssm.list_tags_for_resource(**key)["TagList"] == [{"Key": "stage", "Value": "test"}]
    assert refused(ssm.list_tags_for_resource, ResourceType="Parameter", ResourceId="x")[0] == "InvalidResourceId"

    gone = ssm.delete_parameters(Names=["/app/db/host", "nobody"])
    assert (gone["DeletedParameters"], gone["InvalidParameters"]) == (["/app/db/host"], ["nobody"])
    assert refused(ssm.delete_parameter, Name="/app/db/host")[0] == "ParameterNotFound"
    assert put(ssm, "/app/db/host") == 1
    # At the root a name is the same with and without a slash, and it is answered as it was asked for.
    put(ssm, "/root")
    assert ssm.get_parameter(Name="root")["Parameter"]["Name"] == "root"
    assert ssm.get_parameters(Names=["/root"])["Parameters"][0]["Name"] == "/root"
    assert put(ssm, "root", Overwrite=True) == 2


def test_a_hundred_versions(ssm: Any) -> None:
    for number in range(100):
        put(ssm, "p", str(number), Overwrite=True)
    ssm.label_parameter_version(Name="p", ParameterVersion=1, Labels=["first"])
    code, message = refused(put, ssm=ssm, name="p", Overwrite=True)
    assert code == "ParameterMaxVersionLimitExceeded"
    assert "Version 1, the oldest version, can't be deleted because it has a label" in message
    ssm.label_parameter_version(Name="p", ParameterVersion=2, Labels=["first"])
    assert put(ssm, "p", "new", Overwrite=True) == 101
    assert refused(ssm.get_parameter, Name="p:1")[0] == "ParameterVersionNotFound"
    assert ssm.get_parameter(Name="p:first")["Parameter"]["Value"] == "1"


def test_hierarchies_and_filters(ssm: Any) -> None:
    for number in range(23):
        put(ssm, f"/app/list/{number:02}", str(number))
    put(ssm, "/app/one")
    put(ssm, "/app/list/deep/er", "a,b", Type="StringList")
    put(ssm, "/apples")
    put(ssm, "plain", Tier="Advanced", Tags=[{"Key": "stage", "Value": "test"}])
    assert values(ssm, "/app") == {"/app/one": "v"}
    assert len(values(ssm, "/app/list/")) == 23
    assert len(values(ssm, "/app/", Recursive=True)) == 25
    assert values(ssm, "/") == {"/apples": "v", "plain": "v"}
    assert len(values(ssm, "/", Recursive=True)) == 27
    lists = [{"Key": "Type", "Values": ["StringList"]}]
    assert values(ssm, "/app", Recursive=True, ParameterFilters=lists) == {"/app/list/deep/er": "a,b"}
    put(ssm, "/app/one", "w", Overwrite=True)
    ssm.label_parameter_version(Name="/app/one", ParameterVersion=1, Labels=["old"])
    assert values(ssm, "/app", ParameterFilters=[{"Key": "Label", "Values": ["old"]}]) == {"/app/one": "v"}
    assert values(ssm, "/nobody") == {}
    assert "must begin with a forward slash" in refused(ssm.get_parameters_by_path, Path="app")[1]
    assert refused(
        ssm.get_parameters_by_path, Path="/", ParameterFilters=[{"Key": "Tier", "Values": ["Standard"]}]
    ) == ("InvalidFilterKey", "The following filter key is not valid: Tier. Valid filter keys include: [Type, KeyId].")

    assert len(described(ssm)) == 27
    assert described(ssm, {"Key": "Name", "Values": ["/plain"]}) == ["plain"]
    assert described(ssm, {"Key": "Name", "Option": "BeginsWith", "Values": ["/appl", "pl"]}) == ["/apples", "plain"]
    assert described(ssm, {"Key": "Name", "Option": "Contains", "Values": ["eep"]}) == ["/app/list/deep/er"]
    assert described(ssm, {"Key": "Path", "Values": ["/app"]}) == ["/app/one"]
    assert len(described(ssm, {"Key": "Path", "Option": "Recursive", "Values": ["/app"]})) == 25
    assert described(ssm, {"Key": "tag:stage", "Values": ["test"]}) == ["plain"]
    assert described(ssm, {"Key": "Tier", "Values": ["Advanced"]}, {"Key": "tag:stage"}) == ["plain"]
    old = ssm.describe_parameters(Filters=[{"Key": "Type", "Values": ["StringList"]}])["Parameters"]
    assert [each["Name"] for each in old] == ["/app/list/deep/er"]
    assert refused(ssm.describe_parameters, ParameterFilters=[{"Key": "Type", "Values": ["x"]}]) == (
        "InvalidFilterValue",
        "The following filter value is not valid: x. Valid values include: [String, StringList, SecureString].",
    )


def test_what_may_not_be_put(ssm: Any) -> None:
    assert refused(put, ssm=ssm, name="aws-x") == (
        "ValidationException",
        'Parameter name: can\'t be prefixed with "aws" or "ssm" (case-insensitive).',
    )
    assert refused(put, ssm=ssm, name="/AWS/x/y")[0] == "AccessDeniedException"
    for name in ("a b", "a/b", "/a//b", "/ssm/x", "ä"):
        code, message = refused(put, ssm=ssm, name=name)
        assert (code, message.startswith("Parameter name: can't be prefixed")) == ("ValidationException", True)
    assert refused(put, ssm=ssm, name="/1" * 16)[0] == "HierarchyLevelLimitExceededException"
    assert refused(put, ssm=ssm, name="x" * 1000)[0] == "ValidationException"
    assert refused(ssm.put_parameter, Name="x", Value="v")[1] == (
        "A parameter type is required when you create a parameter."
    )
    assert "4096 characters" in refused(put, ssm=ssm, name="x", value="v" * 4097)[1]
    assert (
        refused(put, ssm=ssm, name="x", Overwrite=True, Tags=[{"Key": "a", "Value": "b"}])[0] == "ValidationException"
    )
    assert refused(put, ssm=ssm, name="x", value="abc", AllowedPattern=r"\d{1,4}") == (
        "ParameterPatternMismatchException",
        r"Parameter value, cannot be validated against allowedPattern: \d{1,4}",
    )
    assert refused(put, ssm=ssm, name="x", AllowedPattern="(")[0] == "InvalidAllowedPatternException"
    assert refused(put, ssm=ssm, name="x", DataType="Text")[0] == "ValidationException"
    assert refused(put, ssm=ssm, name="x", DataType="aws:ec2:image")[0] == "NotImplemented"
    assert refused(ssm.get_parameter, Name="x")[0] == "ParameterNotFound"

    put(ssm, "n", "12", AllowedPattern=r"\d+")
    assert refused(put, ssm=ssm, name="n", value="x", Overwrite=True)[0] == "ParameterPatternMismatchException"
    assert (
        ssm.put_parameter(Name="big", Value="v" * 5000, Type="String", Tier="Intelligent-Tiering")["Tier"] == "Advanced"
    )
    assert "can't downgrade" in refused(put, ssm=ssm, name="big", Overwrite=True, Tier="Standard")[1]
    assert refused(ssm.create_document, Name="doc", Content="{}")[0] == "NotImplemented"


def test_a_parameter_expires(cloud: LocalCloud, ssm: Any) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    policy = json.dumps([{"Type": "Expiration", "Version": "1.0", "Attributes": {"Timestamp": at}}])
    assert "tier" in refused(put, ssm=ssm, name="gone", Policies=policy)[1]
    put(ssm, "gone", Policies=policy, Tier="Advanced")
    put(ssm, "kept", Policies=policy, Tier="Advanced")
    put(ssm, "kept", Policies="[]", Overwrite=True)
    (shown,) = ssm.describe_parameters(Filters=[{"Key": "Name", "Values": ["gone"]}])["Parameters"]
    assert shown["Policies"][0]["PolicyType"] == "Expiration"
    notify = json.dumps([{"Type": "NoChangeNotification", "Version": "1.0", "Attributes": {"After": "1"}}])
    assert refused(put, ssm=ssm, name="n", Policies=notify, Tier="Advanced")[0] == "NotImplemented"
    cloud.kill()
    cloud.start()
    assert ssm.get_parameter(Name="gone")["Parameter"]["Value"] == "v"
    cloud.advance(3601)
    assert described(ssm) == ["kept"]


def test_secure_strings(cloud: LocalCloud, ssm: Any) -> None:
    kms = cloud.client("kms")
    put(ssm, "/secret", "one", Type="SecureString")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/own", TargetKeyId=key)
    put(ssm, "/own", "two" * 2000, Type="SecureString", KeyId="alias/own", Tier="Advanced")
    cloud.kill()
    cloud.start()
    hidden = ssm.get_parameter(Name="/secret")["Parameter"]["Value"]
    assert "one" not in hidden
    assert ssm.get_parameter(Name="/secret", WithDecryption=True)["Parameter"]["Value"] == "one"
    assert values(ssm, "/", WithDecryption=True) == {"/own": "two" * 2000, "/secret": "one"}
    # What is shown undecrypted is a ciphertext of KMS.
    context = {"PARAMETER_ARN": "arn:aws:ssm:us-east-1:000000000000:parameter/secret"}
    blob = base64.b64decode(hidden)
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"one"
    own = ssm.describe_parameters(Filters=[{"Key": "Name", "Values": ["/own"]}])["Parameters"][0]
    assert own["KeyId"] == "alias/own"
    assert described(ssm, {"Key": "KeyId", "Option": "BeginsWith", "Values": ["alias/aws/"]}) == ["/secret"]
    put(ssm, "/secret", "three", Overwrite=True)
    history = ssm.get_parameter_history(Name="/secret", WithDecryption=True)["Parameters"]
    assert [each["Value"] for each in history] == ["one", "three"]
    assert refused(put, ssm=ssm, name="x", Type="SecureString", KeyId="alias/nobody")[0] == "InvalidKeyId"
    kms.disable_key(KeyId=key)
    assert refused(ssm.get_parameter, Name="/own", WithDecryption=True)[0] == "InvalidKeyId"
    assert refused(put, ssm=ssm, name="/plain", KeyId=key)[0] == "ValidationException"


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Named": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": "/cdk/version", "Type": "String", "Value": "1", "Tags": {"team": "a"}},
        },
        "Other": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Type": "StringList", "Value": {"Fn::Join": [",", [{"Ref": "Named"}, "x"]]}},
        },
    },
    "Outputs": {
        "Name": {"Value": {"Ref": "Other"}},
        "Value": {"Value": {"Fn::GetAtt": ["Named", "Value"]}},
        "Type": {"Value": {"Fn::GetAtt": ["Other", "Type"]}},
    },
}


def test_stacks(cloud: LocalCloud, ssm: Any) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    outputs = {
        each["OutputKey"]: each["OutputValue"] for each in stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"]
    }
    assert (outputs["Value"], outputs["Type"]) == ("1", "StringList")
    assert outputs["Name"].startswith("CFN-Other-")
    assert ssm.get_parameter(Name=outputs["Name"])["Parameter"]["Value"] == "/cdk/version,x"
    changed = json.loads(json.dumps(TEMPLATE))
    changed["Resources"]["Named"]["Properties"] |= {"Value": "2", "Tags": {"team": "b"}}
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert ssm.get_parameter(Name="/cdk/version")["Parameter"]["Version"] == 2
    tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/cdk/version")["TagList"]
    assert {"Key": "team", "Value": "b"} in tags
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert described(ssm) == []
