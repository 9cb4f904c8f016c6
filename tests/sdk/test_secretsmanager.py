"""Secrets Manager through boto3."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

DAY = 86_400


@pytest.fixture
def secrets(cloud: LocalCloud) -> Any:
    return cloud.client("secretsmanager")


def value(secrets: Any, id: str, **which: Any) -> Any:
    answer = secrets.get_secret_value(SecretId=id, **which)
    return answer.get("SecretString", answer.get("SecretBinary"))


def stages(secrets: Any, id: str) -> dict[str, list[str]]:
    return dict(secrets.describe_secret(SecretId=id).get("VersionIdsToStages", {}))


def test_versions_survive_a_kill(cloud: LocalCloud, secrets: Any) -> None:
    made = secrets.create_secret(Name="app/db", SecretString="one", Tags=[{"Key": "team", "Value": "a"}])
    arn, first = made["ARN"], made["VersionId"]
    assert arn.startswith("arn:aws:secretsmanager:us-east-1:000000000000:secret:app/db-")
    assert len(arn.rpartition("-")[2]) == 6
    assert refused(secrets.create_secret, Name="app/db", SecretString="x") == (
        "ResourceExistsException",
        "The operation failed because the secret app/db already exists.",
    )
    second = secrets.put_secret_value(SecretId=arn, SecretString="two")["VersionId"]
    token = "x" * 32
    for _ in range(2):
        pending = secrets.put_secret_value(
            SecretId="app/db", SecretBinary=b"\x00three", VersionStages=["AWSPENDING", "mine"], ClientRequestToken=token
        )
        assert (pending["VersionId"], pending["VersionStages"]) == (token, ["AWSPENDING", "mine"])
    assert refused(secrets.put_secret_value, SecretId=arn, SecretString="other", ClientRequestToken=token) == (
        "ResourceExistsException",
        f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret {arn}.",
    )
    cloud.kill()
    cloud.start()
    for id in ("app/db", arn, arn[:-7]):
        assert value(secrets, id) == "two"
    assert value(secrets, arn, VersionStage="AWSPREVIOUS") == value(secrets, arn, VersionId=first) == "one"
    assert value(secrets, arn, VersionStage="mine") == b"\x00three"
    assert stages(secrets, arn) == {first: ["AWSPREVIOUS"], second: ["AWSCURRENT"], token: ["AWSPENDING", "mine"]}
    assert refused(secrets.get_secret_value, SecretId=arn, VersionId=first, VersionStage="AWSCURRENT") == (
        "InvalidRequestException",
        "You provided a VersionStage that is not associated to the provided VersionId.",
    )
    assert refused(secrets.get_secret_value, SecretId=arn, VersionStage="nobody") == (
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret value for staging label: nobody",
    )
    move = {"SecretId": arn, "VersionStage": "AWSCURRENT", "MoveToVersionId": token}
    assert refused(secrets.update_secret_version_stage, **move)[1] == (
        f"The parameter RemoveFromVersionId can't be empty. Staging label AWSCURRENT is currently attached to version "
        f"{second}, so you must explicitly reference that version in RemoveFromVersionId."
    )
    secrets.update_secret_version_stage(**move, RemoveFromVersionId=second)
    assert stages(secrets, arn) == {second: ["AWSPREVIOUS"], token: ["AWSCURRENT", "AWSPENDING", "mine"]}
    listed = secrets.list_secret_version_ids(SecretId=arn, IncludeDeprecated=True)["Versions"]
    assert [each["VersionId"] for each in listed] == [first, second, token]
    assert len(secrets.list_secret_version_ids(SecretId=arn)["Versions"]) == 2
    # What is stored is not what was said.
    files = [file for file in (cloud.data_dir / "store").iterdir() if file.is_file()]
    assert not any(b"\x00three" in file.read_bytes() for file in files)

    updated = secrets.update_secret(SecretId=arn, Description="the database", SecretString="four")
    assert (value(secrets, arn), updated["VersionId"] != second) == ("four", True)
    described = secrets.describe_secret(SecretId=arn)
    assert (described["Description"], described["Tags"]) == ("the database", [{"Key": "team", "Value": "a"}])
    assert "RotationEnabled" not in described
    secrets.tag_resource(SecretId=arn, Tags=[{"Key": "stage", "Value": "test"}])
    secrets.untag_resource(SecretId=arn, TagKeys=["team"])
    assert secrets.describe_secret(SecretId=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]


def test_deletion_and_recovery(cloud: LocalCloud, secrets: Any) -> None:
    secrets.create_secret(Name="s", SecretString="one")
    assert refused(secrets.create_secret, Name="a b")[0] == "ValidationException"
    assert refused(secrets.create_secret, Name="r", AddReplicaRegions=[{"Region": "eu-west-1"}])[0] == "NotImplemented"
    assert refused(secrets.get_secret_value, SecretId="nobody") == (
        "ResourceNotFoundException",
        "Secrets Manager can't find the specified secret.",
    )
    secrets.create_secret(Name="empty")
    assert refused(secrets.get_secret_value, SecretId="empty")[1] == (
        "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"
    )
    assert refused(secrets.delete_secret, SecretId="s", RecoveryWindowInDays=6)[0] == "InvalidParameterException"
    secrets.delete_secret(SecretId="s", RecoveryWindowInDays=7)
    gone = "You can't perform this operation on the secret because it was marked for deletion."
    assert refused(secrets.get_secret_value, SecretId="s") == ("InvalidRequestException", gone)
    assert "already scheduled for deletion" in refused(secrets.create_secret, Name="s")[1]
    assert [each["Name"] for each in secrets.list_secrets()["SecretList"]] == ["empty"]
    assert len(secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"]) == 2
    secrets.restore_secret(SecretId="s")
    assert value(secrets, "s") == "one"
    secrets.delete_secret(SecretId="s", RecoveryWindowInDays=7)
    cloud.kill()
    cloud.start()
    cloud.advance(7 * DAY + 1)
    assert refused(secrets.describe_secret, SecretId="s")[0] == "ResourceNotFoundException"
    old = secrets.create_secret(Name="s", SecretString="again")["ARN"]
    secrets.delete_secret(SecretId="s", ForceDeleteWithoutRecovery=True)
    new = secrets.create_secret(Name="s", SecretString="new")["ARN"]
    assert new != old
    assert value(secrets, "s") == "new"
    assert refused(secrets.delete_secret, SecretId="nobody")[0] == "ResourceNotFoundException"
    secrets.delete_secret(SecretId="nobody", ForceDeleteWithoutRecovery=True)


def test_lists_policies_and_passwords(secrets: Any) -> None:
    for name, description in (("prod/AppBeta", "one two"), ("prod-Gamma", "one"), ("test", "unrelated")):
        secrets.create_secret(Name=name, Description=description, SecretString=name, Tags=[{"Key": name, "Value": "v"}])

    def found(*filters: tuple[str, str]) -> list[str]:
        wish = [{"Key": key, "Values": [text]} for key, text in filters]
        return [each["Name"] for each in secrets.list_secrets(Filters=wish)["SecretList"]]

    assert found(("name", "prod")) == ["prod/AppBeta", "prod-Gamma"]
    assert found(("description", "!one")) == ["test"]
    assert found(("name", "!prod")) == ["test"]
    assert found(("description", "o t")) == ["prod/AppBeta"]
    assert found(("all", "beta")) == ["prod/AppBeta"]
    assert found(("tag-key", "te"), ("tag-value", "v")) == ["test"]
    pages = secrets.get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 2})
    assert [len(page["SecretList"]) for page in pages] == [2, 1]
    got = secrets.batch_get_secret_value(SecretIdList=["test", "nobody"])
    assert got["SecretValues"][0]["SecretString"] == "test"
    assert got["Errors"][0]["ErrorCode"] == "ResourceNotFoundException"

    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*"}]}
    secrets.put_resource_policy(SecretId="test", ResourcePolicy=json.dumps(policy))
    assert json.loads(secrets.get_resource_policy(SecretId="test")["ResourcePolicy"]) == policy
    assert refused(
        secrets.put_resource_policy, SecretId="test", ResourcePolicy=json.dumps(policy), BlockPublicPolicy=True
    )[0] == ("PublicPolicyException")
    assert refused(secrets.put_resource_policy, SecretId="test", ResourcePolicy="{")[0] == (
        "MalformedPolicyDocumentException"
    )
    secrets.delete_resource_policy(SecretId="test")
    assert "ResourcePolicy" not in secrets.get_resource_policy(SecretId="test")

    password = secrets.get_random_password()["RandomPassword"]
    assert len(password) == 32
    assert any(each.islower() for each in password)
    assert any(each.isdigit() for each in password)
    digits = secrets.get_random_password(
        PasswordLength=50, ExcludeLowercase=True, ExcludeUppercase=True, ExcludePunctuation=True, ExcludeCharacters="0"
    )["RandomPassword"]
    assert set(digits) <= set("123456789")
    assert refused(secrets.get_random_password, PasswordLength=3)[0] == "InvalidParameterException"


def test_keys_of_kms(cloud: LocalCloud, secrets: Any) -> None:
    kms = cloud.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    secrets.create_secret(Name="s", SecretString="one", KmsKeyId=key)
    assert value(secrets, "s") == "one"
    kms.disable_key(KeyId=key)
    assert refused(secrets.get_secret_value, SecretId="s")[0] == "DecryptionFailure"
    assert refused(secrets.put_secret_value, SecretId="s", SecretString="x")[0] == "EncryptionFailure"
    kms.enable_key(KeyId=key)
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    secrets.update_secret(SecretId="s", KmsKeyId=other)
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert value(secrets, "s") == "one"
    # As a parameter of Parameter Store.
    ssm = cloud.client("ssm")
    name = "/aws/reference/secretsmanager/s"
    assert ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == "one"
    (version,) = stages(secrets, "s")
    assert ssm.get_parameter(Name=f"{name}:{version}", WithDecryption=True)["Parameter"]["Value"] == "one"
    assert refused(ssm.get_parameter, Name=name)[0] == "ValidationException"


FUNCTION = """
import boto3
def handler(event, context):
    secrets = boto3.client("secretsmanager")
    secret, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    versions = secrets.describe_secret(SecretId=secret)["VersionIdsToStages"]
    assert "AWSPENDING" in versions[token], versions
    if step == "createSecret":
        before = secrets.get_secret_value(SecretId=secret, VersionStage="AWSCURRENT")["SecretString"]
        try:
            secrets.get_secret_value(SecretId=secret, VersionId=token, VersionStage="AWSPENDING")
        except secrets.exceptions.ResourceNotFoundException:
            secrets.put_secret_value(
                SecretId=secret, ClientRequestToken=token, SecretString=before + "+", VersionStages=["AWSPENDING"])
    elif step == "setSecret":
        if secrets.get_secret_value(SecretId=secret, VersionStage="AWSPENDING")["SecretString"] == "bad+":
            raise ValueError("the database does not want it")
    elif step == "finishSecret":
        (current,) = [version for version, stages in versions.items() if "AWSCURRENT" in stages]
        secrets.update_secret_version_stage(
            SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current)
"""


def make_function(cloud: LocalCloud) -> str:
    """The ARN of a function that rotates secrets."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("code.py", FUNCTION)
    role = cloud.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    made = cloud.client("lambda").create_function(
        FunctionName="rotates",
        Runtime="python3.11",
        Role=role,
        Handler="code.handler",
        Code={"ZipFile": archive.getvalue()},
        Timeout=60,
    )
    return str(made["FunctionArn"])


TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


def test_rotation(cloud: LocalCloud, secrets: Any) -> None:
    made = secrets.create_secret(Name="s", SecretString="one")
    assert refused(secrets.rotate_secret, SecretId="s") == (
        "InvalidRequestException",
        "No Lambda rotation function ARN is associated with this secret.",
    )
    nobody = "arn:aws:lambda:us-east-1:000000000000:function:nobody"
    assert refused(secrets.rotate_secret, SecretId="s", RotationLambdaARN=nobody)[0] == "AccessDeniedException"
    function = make_function(cloud)
    rules = {"AutomaticallyAfterDays": 10}
    rotated = secrets.rotate_secret(SecretId="s", RotationLambdaARN=function, RotationRules=rules)
    eventually(lambda: value(secrets, "s") == "one+")
    eventually(lambda: "LastRotatedDate" in secrets.describe_secret(SecretId="s"))
    assert stages(secrets, "s") == {made["VersionId"]: ["AWSPREVIOUS"], rotated["VersionId"]: ["AWSCURRENT"]}
    described = secrets.describe_secret(SecretId="s")
    assert (described["RotationEnabled"], described["RotationRules"]) == (True, rules)
    cloud.kill()
    cloud.start()
    cloud.advance(10 * DAY + 1)
    eventually(lambda: value(secrets, "s") == "one++")

    secrets.create_secret(Name="other", SecretString="bad")
    secrets.rotate_secret(
        SecretId="other", RotationLambdaARN=function, RotationRules={"ScheduleExpression": "rate(4 hours)"}
    )
    eventually(lambda: "the database does not want it" in cloud.log)
    assert value(secrets, "other") == "bad"
    assert "A previous rotation isn't complete." in refused(secrets.rotate_secret, SecretId="other")[1]
    secrets.cancel_rotate_secret(SecretId="other")
    assert secrets.describe_secret(SecretId="other")["RotationEnabled"] is False
    assert "NextRotationDate" not in secrets.describe_secret(SecretId="other")


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Secret": {
            "Type": "AWS::SecretsManager::Secret",
            "Properties": {
                "Description": "made",
                "GenerateSecretString": {
                    "SecretStringTemplate": '{"username": "ada"}',
                    "GenerateStringKey": "password",
                    "PasswordLength": 20,
                    "ExcludePunctuation": "true",
                },
            },
        },
        "Policy": {
            "Type": "AWS::SecretsManager::ResourcePolicy",
            "Properties": {
                "SecretId": {"Ref": "Secret"},
                "ResourcePolicy": {"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*"}]},
            },
        },
        "Copy": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Name": "user",
                "Type": "String",
                "Value": {"Fn::Sub": "{{resolve:secretsmanager:${Secret}:SecretString:username}}"},
            },
        },
    },
    "Outputs": {"Secret": {"Value": {"Ref": "Secret"}}},
}


def test_stacks(cloud: LocalCloud, secrets: Any) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    arn = stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"][0]["OutputValue"]
    document = json.loads(value(secrets, arn))
    assert (document["username"], len(document["password"]), document["password"].isalnum()) == ("ada", 20, True)
    assert "Deny" in secrets.get_resource_policy(SecretId=arn)["ResourcePolicy"]
    assert cloud.client("ssm").get_parameter(Name="user")["Parameter"]["Value"] == "ada"
    changed = json.loads(json.dumps(TEMPLATE))
    del changed["Resources"]["Policy"]
    changed["Resources"]["Secret"]["Properties"] |= {"Description": "changed", "Tags": [{"Key": "a", "Value": "1"}]}
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert json.loads(value(secrets, arn)) == document
    described = secrets.describe_secret(SecretId=arn)
    assert described["Description"] == "changed"
    assert {"Key": "a", "Value": "1"} in described["Tags"]
    assert "ResourcePolicy" not in secrets.get_resource_policy(SecretId=arn)
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"] == []
