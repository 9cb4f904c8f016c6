"""IAM with real clients: users, groups, roles, policies, keys, providers, and CloudFormation's types of them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloudlet.services.iam.mfa import code_of
from cloudlet.testing import LocalCloud

ACCOUNT = "000000000000"
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


def allow(*actions: str, **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), **(more or {"Resource": "*"})}
    return {"Version": "2012-10-17", "Statement": [statement]}


TRUST = allow("sts:AssumeRole", Principal={"Service": "lambda.amazonaws.com"})


def refusal(call: Any, **input: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**input)
    response = caught.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def tags(**values: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def test_a_role_with_its_policies(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    made = iam.create_role(
        RoleName="worker",
        Path="/svc/",
        AssumeRolePolicyDocument=json.dumps(TRUST),
        Description="works",
        MaxSessionDuration=7200,
        PermissionsBoundary=ADMIN,
        Tags=tags(team="blue"),
    )["Role"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/svc/worker"
    assert made["RoleId"].startswith("AROA")
    assert len(made["RoleId"]) == 21
    assert refusal(iam.create_role, RoleName="worker", AssumeRolePolicyDocument=json.dumps(TRUST)) == (
        "EntityAlreadyExists",
        "Role with name worker already exists.",
        409,
    )
    role = cloud.client("iam", region="eu-west-1").get_role(RoleName="worker")["Role"]
    assert role["AssumeRolePolicyDocument"] == TRUST
    assert role["PermissionsBoundary"] == {
        "PermissionsBoundaryType": "Policy",
        "PermissionsBoundaryArn": ADMIN,
    }
    assert role["Tags"] == tags(team="blue")
    assert (role["Description"], role["MaxSessionDuration"]) == ("works", 7200)
    assert refusal(cloud.client("iam", account="123456789012").get_role, RoleName="worker") == (
        "NoSuchEntity",
        "The role with name worker cannot be found.",
        404,
    )

    document = allow("sqs:SendMessage", Resource=f"arn:aws:sqs:us-east-1:{ACCOUNT}:orders")
    iam.put_role_policy(RoleName="worker", PolicyName="send", PolicyDocument=json.dumps(document))
    iam.attach_role_policy(RoleName="worker", PolicyArn=BASIC)
    iam.attach_role_policy(RoleName="worker", PolicyArn=BASIC)
    cloud.kill()
    cloud.start()
    assert iam.list_role_policies(RoleName="worker")["PolicyNames"] == ["send"]
    assert iam.get_role_policy(RoleName="worker", PolicyName="send")["PolicyDocument"] == document
    assert iam.list_attached_role_policies(RoleName="worker")["AttachedPolicies"] == [
        {"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": BASIC}
    ]
    assert iam.get_policy(PolicyArn=BASIC)["Policy"]["AttachmentCount"] == 1
    assert iam.get_policy(PolicyArn=ADMIN)["Policy"]["PermissionsBoundaryUsageCount"] == 1
    entities = iam.list_entities_for_policy(PolicyArn=BASIC)
    assert [one["RoleName"] for one in entities["PolicyRoles"]] == ["worker"]

    iam.update_role(RoleName="worker", Description="rests", MaxSessionDuration=3600)
    other = allow("sts:AssumeRole", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})
    iam.update_assume_role_policy(RoleName="worker", PolicyDocument=json.dumps(other))
    iam.tag_role(RoleName="worker", Tags=tags(stage="test"))
    iam.untag_role(RoleName="worker", TagKeys=["team"])
    iam.delete_role_permissions_boundary(RoleName="worker")
    role = iam.get_role(RoleName="worker")["Role"]
    assert (role["Description"], role["AssumeRolePolicyDocument"]) == ("rests", other)
    assert iam.list_role_tags(RoleName="worker")["Tags"] == tags(stage="test")
    assert "PermissionsBoundary" not in role

    assert refusal(iam.delete_role, RoleName="worker")[:2] == (
        "DeleteConflict",
        "Cannot delete entity, must detach all policies first.",
    )
    iam.detach_role_policy(RoleName="worker", PolicyArn=BASIC)
    assert refusal(iam.detach_role_policy, RoleName="worker", PolicyArn=BASIC)[0] == "NoSuchEntity"
    assert refusal(iam.delete_role, RoleName="worker")[1] == "Cannot delete entity, must delete policies first."
    iam.delete_role_policy(RoleName="worker", PolicyName="send")
    iam.delete_role(RoleName="worker")
    assert iam.list_roles()["Roles"] == []


def test_instance_profiles_and_roles_of_services(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    iam.create_role(RoleName="node", AssumeRolePolicyDocument=json.dumps(TRUST))
    profile = iam.create_instance_profile(InstanceProfileName="nodes", Tags=tags(a="1"))["InstanceProfile"]
    assert profile["Arn"] == f"arn:aws:iam::{ACCOUNT}:instance-profile/nodes"
    iam.add_role_to_instance_profile(InstanceProfileName="nodes", RoleName="node")
    assert iam.get_waiter("instance_profile_exists").wait(InstanceProfileName="nodes") is None
    shown = iam.get_instance_profile(InstanceProfileName="nodes")["InstanceProfile"]
    assert [role["RoleName"] for role in shown["Roles"]] == ["node"]
    found = iam.list_instance_profiles_for_role(RoleName="node")["InstanceProfiles"]
    assert [one["InstanceProfileName"] for one in found] == ["nodes"]
    assert refusal(iam.add_role_to_instance_profile, InstanceProfileName="nodes", RoleName="node")[0] == "LimitExceeded"
    assert refusal(iam.delete_role, RoleName="node")[0] == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName="nodes", RoleName="node")
    iam.delete_instance_profile(InstanceProfileName="nodes")
    assert refusal(iam.get_instance_profile, InstanceProfileName="nodes")[:2] == (
        "NoSuchEntity",
        "Instance Profile nodes cannot be found.",
    )

    linked = iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")["Role"]
    assert linked["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
    assert refusal(iam.create_service_linked_role, AWSServiceName="ecs.amazonaws.com")[:2] == (
        "InvalidInput",
        "Service role name AWSServiceRoleForECS has been taken in this account, please try a different suffix.",
    )
    assert refusal(iam.delete_role, RoleName=linked["RoleName"])[0] == "UnmodifiableEntity"
    task = iam.delete_service_linked_role(RoleName=linked["RoleName"])["DeletionTaskId"]
    assert iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"] == "SUCCEEDED"
    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == ["node"]


def test_a_managed_policy_and_its_versions(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    first, second = allow("s3:GetObject"), allow("s3:PutObject")
    made = iam.create_policy(
        PolicyName="store", Path="/app/", PolicyDocument=json.dumps(first), Description="d", Tags=tags(a="1")
    )["Policy"]
    arn = made["Arn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:policy/app/store"
    assert (made["DefaultVersionId"], made["AttachmentCount"]) == ("v1", 0)
    assert iam.get_policy(PolicyArn=arn)["Policy"]["Description"] == "d"
    assert iam.list_policy_tags(PolicyArn=arn)["Tags"] == tags(a="1")
    assert refusal(iam.create_policy, PolicyName="store", PolicyDocument=json.dumps(first)) == (
        "EntityAlreadyExists",
        "A policy called store already exists. Duplicate names are not allowed.",
        409,
    )

    version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(second), SetAsDefault=True)
    assert version["PolicyVersion"]["VersionId"] == "v2"
    assert iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]["Document"] == second
    assert [one["VersionId"] for one in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v2", "v1"]
    for _ in range(3):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(first))
    refused = refusal(iam.create_policy_version, PolicyArn=arn, PolicyDocument=json.dumps(first))
    assert refused[0] == "LimitExceeded"
    assert refusal(iam.delete_policy_version, PolicyArn=arn, VersionId="v2")[1] == (
        "Cannot delete the default version of a policy."
    )
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v5")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v5"
    assert refusal(iam.get_policy_version, PolicyArn=arn, VersionId="v2")[0] == "NoSuchEntity"

    iam.create_group(GroupName="devs")
    iam.attach_group_policy(GroupName="devs", PolicyArn=arn)
    mine = iam.list_policies(Scope="Local", OnlyAttached=True)["Policies"]
    assert [(one["Arn"], one["AttachmentCount"]) for one in mine] == [(arn, 1)]
    assert refusal(iam.delete_policy, PolicyArn=arn)[:2] == (
        "DeleteConflict",
        "Cannot delete a policy attached to entities.",
    )
    iam.detach_group_policy(GroupName="devs", PolicyArn=arn)
    assert refusal(iam.delete_policy, PolicyArn=arn)[0] == "DeleteConflict"
    for version_id in ("v1", "v3", "v4"):
        iam.delete_policy_version(PolicyArn=arn, VersionId=version_id)
    iam.delete_policy(PolicyArn=arn)
    assert refusal(iam.get_policy, PolicyArn=arn)[:2] == ("NoSuchEntity", f"Policy {arn} was not found.")
    assert refusal(iam.attach_group_policy, GroupName="devs", PolicyArn=arn)[1] == (
        f"Policy {arn} does not exist or is not attachable."
    )

    # AWS's own ones are known, listed page by page, and nobody changes them.
    every = [one for page in iam.get_paginator("list_policies").paginate(Scope="AWS") for one in page["Policies"]]
    assert len({one["Arn"] for one in every}) == len(every) > 500
    assert {ADMIN, BASIC} <= {one["Arn"] for one in every}
    said = iam.get_policy_version(PolicyArn=ADMIN, VersionId="v1")["PolicyVersion"]["Document"]
    assert said["Statement"] == [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    assert refusal(iam.delete_policy, PolicyArn=ADMIN)[0] == "AccessDenied"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("nonsense", "Syntax errors in policy."),
        ({"Version": "2012-10-17"}, "Syntax errors in policy."),
        ({**allow("s3:Get*"), "Version": "2020-01-01"}, "Syntax errors in policy."),
        (allow("GetObject"), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."),
        (allow("s3:GetObject", Resource="bucket"), 'Resource bucket must be in ARN format or "*".'),
        (allow("s3:GetObject", Resource=[]), "Policy statement must contain resources."),
        (allow("s3:Get*", Resource="*", Principal="*"), "Policy document should not specify a principal."),
    ],
)
def test_documents_that_are_no_policies(cloud: LocalCloud, document: Any, message: str) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    assert refusal(cloud.client("iam").create_policy, PolicyName="p", PolicyDocument=text) == (
        "MalformedPolicyDocument",
        message,
        400,
    )


def test_users_groups_and_keys(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    assert iam.get_user()["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    user = iam.create_user(UserName="ann", Path="/team/", Tags=tags(a="1"))["User"]
    assert user["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/team/ann"
    assert refusal(iam.create_user, UserName="ann")[0] == "EntityAlreadyExists"
    iam.create_group(GroupName="devs")
    iam.add_user_to_group(GroupName="devs", UserName="ann")
    iam.put_user_policy(UserName="ann", PolicyName="own", PolicyDocument=json.dumps(allow("s3:*")))
    iam.attach_user_policy(UserName="ann", PolicyArn=ADMIN)
    iam.create_login_profile(UserName="ann", Password="correct horse", PasswordResetRequired=True)

    first = iam.create_access_key(UserName="ann")["AccessKey"]
    iam.create_access_key(UserName="ann")
    assert refusal(iam.create_access_key, UserName="ann")[:2] == (
        "LimitExceeded",
        "Cannot exceed quota for AccessKeysPerUser: 2",
    )
    keys = iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]
    assert [(key["UserName"], key["Status"]) for key in keys] == [("ann", "Active")] * 2
    assert all("SecretAccessKey" not in key for key in keys)
    iam.update_access_key(UserName="ann", AccessKeyId=first["AccessKeyId"], Status="Inactive")
    assert iam.get_access_key_last_used(AccessKeyId=first["AccessKeyId"])["UserName"] == "ann"

    # A new name is carried to all that refers to the user.
    iam.update_user(UserName="ann", NewUserName="anna", NewPath="/")
    assert [one["UserName"] for one in iam.get_group(GroupName="devs")["Users"]] == ["anna"]
    assert [one["GroupName"] for one in iam.list_groups_for_user(UserName="anna")["Groups"]] == ["devs"]
    assert [one["UserName"] for one in iam.list_entities_for_policy(PolicyArn=ADMIN)["PolicyUsers"]] == ["anna"]
    assert iam.get_user(UserName="anna")["User"]["UserId"] == user["UserId"]
    assert refusal(iam.get_user, UserName="ann")[:2] == ("NoSuchEntity", "The user with name ann cannot be found.")

    details = iam.get_account_authorization_details()
    detail = details["UserDetailList"][0]
    assert (detail["UserName"], detail["GroupList"]) == ("anna", ["devs"])
    assert detail["UserPolicyList"] == [{"PolicyName": "own", "PolicyDocument": allow("s3:*")}]
    assert detail["AttachedManagedPolicies"] == [{"PolicyName": "AdministratorAccess", "PolicyArn": ADMIN}]
    assert [one["Arn"] for one in details["Policies"]] == [ADMIN]
    summary = iam.get_account_summary()["SummaryMap"]
    assert (summary["Users"], summary["Groups"], summary["AccountAccessKeysPresent"]) == (1, 1, 0)

    # What tools ask and take away before they delete a user.
    assert iam.list_mfa_devices(UserName="anna")["MFADevices"] == []
    assert iam.list_ssh_public_keys(UserName="anna")["SSHPublicKeys"] == []
    assert iam.list_signing_certificates(UserName="anna")["Certificates"] == []
    assert iam.list_service_specific_credentials(UserName="anna")["ServiceSpecificCredentials"] == []
    iam.detach_user_policy(UserName="anna", PolicyArn=ADMIN)
    iam.delete_user_policy(UserName="anna", PolicyName="own")
    iam.remove_user_from_group(GroupName="devs", UserName="anna")
    assert refusal(iam.delete_user, UserName="anna")[:2] == (
        "DeleteConflict",
        "Cannot delete entity, must delete access keys first.",
    )
    for key in keys:
        iam.delete_access_key(UserName="anna", AccessKeyId=key["AccessKeyId"])
    assert iam.get_login_profile(UserName="anna")["LoginProfile"]["PasswordResetRequired"] is True
    iam.delete_login_profile(UserName="anna")
    iam.delete_user(UserName="anna")
    iam.delete_group(GroupName="devs")

    # The account's root has keys too, two at most.
    root = [iam.create_access_key()["AccessKey"]["AccessKeyId"] for _ in range(2)]
    assert refusal(iam.create_access_key)[0] == "LimitExceeded"
    assert [key["AccessKeyId"] for key in iam.list_access_keys()["AccessKeyMetadata"]] == root
    iam.delete_access_key(AccessKeyId=root[0])
    assert [key["AccessKeyId"] for key in iam.list_access_keys()["AccessKeyMetadata"]] == root[1:]
    assert iam.get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"] == 1


def test_the_account_and_its_providers(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    assert iam.list_account_aliases()["AccountAliases"] == []
    iam.create_account_alias(AccountAlias="acme")
    assert iam.list_account_aliases()["AccountAliases"] == ["acme"]
    other = cloud.client("iam", account="123456789012")
    assert refusal(other.create_account_alias, AccountAlias="acme")[0] == "EntityAlreadyExists"
    iam.delete_account_alias(AccountAlias="acme")
    assert refusal(iam.get_account_password_policy)[0] == "NoSuchEntity"
    iam.update_account_password_policy(MinimumPasswordLength=12, MaxPasswordAge=90)
    policy = iam.get_account_password_policy()["PasswordPolicy"]
    assert (policy["MinimumPasswordLength"], policy["ExpirePasswords"]) == (12, True)

    url = "https://token.actions.githubusercontent.com"
    arn = iam.create_open_id_connect_provider(Url=url, ClientIDList=["sts.amazonaws.com"], Tags=tags(a="1"))[
        "OpenIDConnectProviderArn"
    ]
    assert arn == f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
    assert refusal(iam.create_open_id_connect_provider, Url=url)[0] == "EntityAlreadyExists"
    iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="more")
    iam.update_open_id_connect_provider_thumbprint(OpenIDConnectProviderArn=arn, ThumbprintList=["a" * 40])
    shown = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert shown["ClientIDList"] == ["sts.amazonaws.com", "more"]
    assert (shown["ThumbprintList"], shown["Tags"]) == (["a" * 40], tags(a="1"))
    assert [one["Arn"] for one in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]] == [arn]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert refusal(iam.get_open_id_connect_provider, OpenIDConnectProviderArn=arn)[0] == "NoSuchEntity"

    metadata = "<EntityDescriptor>" + "x" * 1000 + "</EntityDescriptor>"
    saml = iam.create_saml_provider(Name="corp", SAMLMetadataDocument=metadata)["SAMLProviderArn"]
    assert iam.get_saml_provider(SAMLProviderArn=saml)["SAMLMetadataDocument"] == metadata
    assert [one["Arn"] for one in iam.list_saml_providers()["SAMLProviderList"]] == [saml]
    iam.delete_saml_provider(SAMLProviderArn=saml)


def test_pages(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    names = [f"r{number:02}" for number in range(7)]
    for name in names:
        iam.create_role(
            RoleName=name, Path="/a/" if name < "r05" else "/b/", AssumeRolePolicyDocument=json.dumps(TRUST)
        )
    first = iam.list_roles(MaxItems=3)
    assert first["IsTruncated"]
    pages = iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 3})
    assert [role["RoleName"] for page in pages for role in page["Roles"]] == names
    assert [role["RoleName"] for role in iam.list_roles(PathPrefix="/b/")["Roles"]] == names[5:]
    assert refusal(iam.list_roles, Marker="never given")[0] == "ValidationError"


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Boundary": {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {"PolicyDocument": allow("s3:*"), "Roles": [{"Ref": "Worker"}]},
        },
        "Worker": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": TRUST,
                "ManagedPolicyArns": [BASIC],
                "MaxSessionDuration": 7200,
                "PermissionsBoundary": ADMIN,
                "Policies": [{"PolicyName": "inline", "PolicyDocument": allow("sqs:*")}],
                "Tags": tags(team="blue"),
            },
        },
        "Default": {
            "Type": "AWS::IAM::Policy",
            "Properties": {
                "PolicyName": "default",
                "PolicyDocument": allow("sns:Publish"),
                "Roles": [{"Ref": "Worker"}],
                "Groups": [{"Ref": "Devs"}],
            },
        },
        "Extra": {
            "Type": "AWS::IAM::RolePolicy",
            "Properties": {
                "PolicyName": "extra",
                "RoleName": {"Ref": "Worker"},
                "PolicyDocument": allow("sns:Subscribe"),
            },
        },
        "Devs": {"Type": "AWS::IAM::Group", "Properties": {"ManagedPolicyArns": [ADMIN]}},
        "Ann": {"Type": "AWS::IAM::User", "Properties": {"UserName": "ann", "LoginProfile": {"Password": "s3cret!!"}}},
        "Membership": {
            "Type": "AWS::IAM::UserToGroupAddition",
            "Properties": {"GroupName": {"Ref": "Devs"}, "Users": [{"Ref": "Ann"}]},
        },
        "Key": {"Type": "AWS::IAM::AccessKey", "Properties": {"UserName": {"Ref": "Ann"}}},
        "Nodes": {"Type": "AWS::IAM::InstanceProfile", "Properties": {"Roles": [{"Ref": "Worker"}]}},
        "Github": {
            "Type": "AWS::IAM::OIDCProvider",
            "Properties": {"Url": "https://id.example.com", "ClientIdList": ["app"]},
        },
        "Linked": {"Type": "AWS::IAM::ServiceLinkedRole", "Properties": {"AWSServiceName": "ecs.amazonaws.com"}},
    },
    "Outputs": {
        "Role": {"Value": {"Ref": "Worker"}},
        "RoleArn": {"Value": {"Fn::GetAtt": ["Worker", "Arn"]}},
        "RoleId": {"Value": {"Fn::GetAtt": ["Worker", "RoleId"]}},
        "Policy": {"Value": {"Ref": "Boundary"}},
        "Group": {"Value": {"Ref": "Devs"}},
        "Key": {"Value": {"Ref": "Key"}},
        "Secret": {"Value": {"Fn::GetAtt": ["Key", "SecretAccessKey"]}},
        "Profile": {"Value": {"Fn::GetAtt": ["Nodes", "Arn"]}},
        "Provider": {"Value": {"Ref": "Github"}},
        "Linked": {"Value": {"Ref": "Linked"}},
    },
}


def test_a_stack_of_identities(cloud: LocalCloud) -> None:
    iam, stacks = cloud.client("iam"), cloud.client("cloudformation")
    settings: dict[str, Any] = {"StackName": "ids", "Capabilities": ["CAPABILITY_NAMED_IAM"]}
    stacks.create_stack(**settings, TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="ids", WaiterConfig={"Delay": 1})

    def outputs() -> dict[str, str]:
        stack = stacks.describe_stacks(StackName="ids")["Stacks"][0]
        return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}

    out = outputs()
    role = iam.get_role(RoleName=out["Role"])["Role"]
    assert (role["Arn"], role["RoleId"]) == (out["RoleArn"], out["RoleId"])
    assert (role["MaxSessionDuration"], role["AssumeRolePolicyDocument"]) == (7200, TRUST)
    assert {"Key": "team", "Value": "blue"} in role["Tags"]
    assert iam.list_role_policies(RoleName=out["Role"])["PolicyNames"] == ["default", "extra", "inline"]
    attached = iam.list_attached_role_policies(RoleName=out["Role"])["AttachedPolicies"]
    assert {one["PolicyArn"] for one in attached} == {BASIC, out["Policy"]}
    assert [one["UserName"] for one in iam.get_group(GroupName=out["Group"])["Users"]] == ["ann"]
    mine = cloud.client("sts", access_key=out["Key"], secret_key=out["Secret"])
    assert mine.get_caller_identity()["Arn"].endswith(":user/ann")
    assert out["Profile"].startswith(f"arn:aws:iam::{ACCOUNT}:instance-profile/")
    assert iam.get_open_id_connect_provider(OpenIDConnectProviderArn=out["Provider"])["ClientIDList"] == ["app"]
    assert out["Linked"] == "AWSServiceRoleForECS"

    changed = json.loads(json.dumps(TEMPLATE))
    worker = changed["Resources"]["Worker"]["Properties"]
    worker["Policies"] = [{"PolicyName": "other", "PolicyDocument": allow("sqs:SendMessage")}]
    worker["Description"] = "changed"
    del worker["ManagedPolicyArns"], worker["PermissionsBoundary"], worker["Tags"]
    changed["Resources"]["Boundary"]["Properties"]["PolicyDocument"] = allow("s3:GetObject")
    del changed["Resources"]["Default"]["Properties"]["Groups"]
    changed["Resources"]["Membership"]["Properties"]["Users"] = []
    stacks.update_stack(**settings, TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="ids", WaiterConfig={"Delay": 1})
    assert outputs() == out
    role = iam.get_role(RoleName=out["Role"])["Role"]
    assert (role["Description"], "PermissionsBoundary" in role) == ("changed", False)
    assert "team" not in {tag["Key"] for tag in role["Tags"]}
    assert iam.list_role_policies(RoleName=out["Role"])["PolicyNames"] == ["default", "extra", "other"]
    assert iam.list_group_policies(GroupName=out["Group"])["PolicyNames"] == []
    assert iam.get_group(GroupName=out["Group"])["Users"] == []
    version = iam.get_policy(PolicyArn=out["Policy"])["Policy"]["DefaultVersionId"]
    said = iam.get_policy_version(PolicyArn=out["Policy"], VersionId=version)["PolicyVersion"]["Document"]
    assert said == allow("s3:GetObject")

    stacks.delete_stack(StackName="ids")
    stacks.get_waiter("stack_delete_complete").wait(StackName="ids", WaiterConfig={"Delay": 1})
    details = iam.get_account_authorization_details()
    assert not any(details[name] for name in ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"))
    assert iam.list_instance_profiles()["InstanceProfiles"] == []


def test_a_stack_that_fails_leaves_no_role(cloud: LocalCloud) -> None:
    iam, stacks = cloud.client("iam"), cloud.client("cloudformation")
    worker = {"AssumeRolePolicyDocument": TRUST, "ManagedPolicyArns": ["arn:aws:iam::aws:policy/NoSuchPolicyAtAll"]}
    template = {"Resources": {"Worker": {"Type": "AWS::IAM::Role", "Properties": worker}}}
    stacks.create_stack(StackName="bad", Capabilities=["CAPABILITY_IAM"], TemplateBody=json.dumps(template))
    with pytest.raises(Exception, match="ROLLBACK_COMPLETE"):
        stacks.get_waiter("stack_create_complete").wait(StackName="bad", WaiterConfig={"Delay": 1})
    assert iam.list_roles()["Roles"] == []
    events = stacks.describe_stack_events(StackName="bad")["StackEvents"]
    assert any("does not exist or is not attachable" in event.get("ResourceStatusReason", "") for event in events)


def simulated(answer: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {
        (one["EvalActionName"], one["EvalResourceName"]): one["EvalDecision"] for one in answer["EvaluationResults"]
    }


def test_simulation(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    bucket = "arn:aws:s3:::data/*"
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:Get*", "Resource": bucket},
            {"Effect": "Deny", "NotAction": ["s3:*", "iam:*"], "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": "iam:GetUser",
                "Resource": "arn:aws:iam::*:user/${aws:username}",
                "Condition": {
                    "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
                    "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"},
                    "ForAllValues:StringLike": {"aws:TagKeys": ["team*"]},
                    "NumericLessThanEquals": {"aws:MultiFactorAuthAge": "3600"},
                    "Bool": {"aws:SecureTransport": "true"},
                    "StringNotEqualsIfExists": {"aws:UserAgent": "curl"},
                    "Null": {"aws:TokenIssueTime": "true"},
                },
            },
        ],
    }
    ask = {"PolicyInputList": [json.dumps(policy)], "CallerArn": f"arn:aws:iam::{ACCOUNT}:user/ann"}
    found = iam.simulate_custom_policy(
        **ask, ActionNames=["s3:GetObject", "s3:PutObject", "sqs:SendMessage"], ResourceArns=["arn:aws:s3:::data/a"]
    )
    assert [one["EvalDecision"] for one in found["EvaluationResults"]] == ["allowed", "implicitDeny", "explicitDeny"]
    assert found["EvaluationResults"][0]["MatchedStatements"][0]["SourcePolicyId"] == "PolicyInputList.1"

    me = f"arn:aws:iam::{ACCOUNT}:user/ann"
    context = {
        "aws:SourceIp": ("ip", "10.1.2.3"),
        "aws:CurrentTime": ("date", "2026-01-01T00:00:00Z"),
        "aws:MultiFactorAuthAge": ("numeric", "60"),
        "aws:SecureTransport": ("boolean", "true"),
    }

    def get_user(resource: str = me, **others: str) -> str:
        values = context | {key.replace("_", ":"): ("string", value) for key, value in others.items()}
        entries = [
            {"ContextKeyName": key, "ContextKeyType": kind, "ContextKeyValues": [value]}
            for key, (kind, value) in values.items()
        ]
        answer = iam.simulate_custom_policy(
            **ask, ActionNames=["iam:GetUser"], ResourceArns=[resource], ContextEntries=entries
        )
        return str(answer["EvaluationResults"][0]["EvalDecision"])

    assert get_user() == "allowed"
    assert get_user(me.replace("ann", "bob")) == "implicitDeny"
    for key, value in (
        ("aws_SourceIp", "11.0.0.1"),
        ("aws_CurrentTime", "2031-01-01T00:00:00Z"),
        ("aws_TagKeys", "cost"),
        ("aws_MultiFactorAuthAge", "7200"),
        ("aws_SecureTransport", "false"),
        ("aws_UserAgent", "curl"),
        ("aws_TokenIssueTime", "2026-01-01T00:00:00Z"),
    ):
        assert get_user(**{key: value}) == "implicitDeny", key
    missing = iam.simulate_custom_policy(**ask, ActionNames=["iam:GetUser"], ResourceArns=[me])["EvaluationResults"][0]
    assert "aws:SourceIp" in missing["MissingContextValues"]
    assert (
        "aws:SourceIp"
        in iam.get_context_keys_for_custom_policy(PolicyInputList=ask["PolicyInputList"])["ContextKeyNames"]
    )

    iam.create_user(UserName="ann")
    iam.create_group(GroupName="devs")
    iam.add_user_to_group(GroupName="devs", UserName="ann")
    iam.attach_group_policy(GroupName="devs", PolicyArn="arn:aws:iam::aws:policy/PowerUserAccess")
    asked = {"PolicySourceArn": me, "ActionNames": ["sqs:SendMessage", "iam:CreateUser"]}
    assert simulated(iam.simulate_principal_policy(**asked)) == {
        ("sqs:SendMessage", "*"): "allowed",
        ("iam:CreateUser", "*"): "implicitDeny",
    }
    boundary = iam.create_policy(PolicyName="limit", PolicyDocument=json.dumps(allow("s3:*")))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="ann", PermissionsBoundary=boundary)
    first = iam.simulate_principal_policy(**asked)["EvaluationResults"][0]
    assert first["EvalDecision"] == "implicitDeny"
    assert first["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}
    assert (
        refusal(iam.simulate_principal_policy, **{**asked, "PolicySourceArn": "arn:aws:s3:::a-long-bucket"})[0]
        == "InvalidInput"
    )


def test_mfa_devices(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="ann")
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName="phone")["VirtualMFADevice"]
    serial, seed = device["SerialNumber"], device["Base32StringSeed"].decode()
    assert serial == f"arn:aws:iam::{ACCOUNT}:mfa/phone"
    enable = {"UserName": "ann", "SerialNumber": serial}
    wrong = {"AuthenticationCode1": "000000", "AuthenticationCode2": "000001"}
    assert refusal(iam.enable_mfa_device, **enable, **wrong)[0] == "InvalidAuthenticationCode"
    step = int(time.time()) // 30
    iam.enable_mfa_device(
        **enable, AuthenticationCode1=code_of(seed, step - 1), AuthenticationCode2=code_of(seed, step)
    )
    assert [one["SerialNumber"] for one in iam.list_mfa_devices(UserName="ann")["MFADevices"]] == [serial]
    (shown,) = iam.list_virtual_mfa_devices(AssignmentStatus="Assigned")["VirtualMFADevices"]
    assert shown["User"]["UserName"] == "ann"
    assert refusal(iam.delete_virtual_mfa_device, SerialNumber=serial)[0] == "DeleteConflict"
    assert refusal(iam.delete_user, UserName="ann")[0] == "DeleteConflict"
    iam.deactivate_mfa_device(**enable)
    iam.delete_virtual_mfa_device(SerialNumber=serial)
    iam.delete_user(UserName="ann")


def test_server_certificates(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example.com")])
    start = datetime.now(UTC).replace(microsecond=0)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=30))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    upload = {"ServerCertificateName": "shop", "CertificateBody": made, "PrivateKey": pem}
    shown = iam.upload_server_certificate(**upload, Path="/tls/")["ServerCertificateMetadata"]
    assert shown["Arn"] == f"arn:aws:iam::{ACCOUNT}:server-certificate/tls/shop"
    assert shown["Expiration"] == start + timedelta(days=30)
    iam.update_server_certificate(ServerCertificateName="shop", NewServerCertificateName="store")
    kept = iam.get_server_certificate(ServerCertificateName="store")["ServerCertificate"]
    assert kept["CertificateBody"].strip() == made.strip()
    assert len(iam.list_server_certificates(PathPrefix="/tls/")["ServerCertificateMetadataList"]) == 1
    other = ec.generate_private_key(ec.SECP256R1())
    stolen = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert refusal(iam.upload_server_certificate, **{**upload, "PrivateKey": stolen})[0] == "KeyPairMismatch"
    assert refusal(iam.upload_server_certificate, **{**upload, "CertificateBody": "x"})[0] == "MalformedCertificate"
    iam.delete_server_certificate(ServerCertificateName="store")
    assert refusal(iam.get_server_certificate, ServerCertificateName="store")[0] == "NoSuchEntity"


def test_signing_certificates(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="signer")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    start = datetime.now(UTC).replace(microsecond=0)
    first, second, third = (
        x509.CertificateBuilder(name, name, key.public_key(), number, start, start + timedelta(days=30))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
        for number in (1, 2, 3)
    )
    made = iam.upload_signing_certificate(UserName="signer", CertificateBody=first)["Certificate"]
    assert (made["Status"], made["CertificateBody"]) == ("Active", first)
    assert refusal(iam.upload_signing_certificate, UserName="signer", CertificateBody="x")[0] == "MalformedCertificate"
    iam.upload_signing_certificate(UserName="signer", CertificateBody=second)
    assert refusal(iam.upload_signing_certificate, UserName="signer", CertificateBody=third)[0] == "LimitExceeded"
    this = {"UserName": "signer", "CertificateId": made["CertificateId"]}
    iam.update_signing_certificate(**this, Status="Inactive")
    listed = iam.list_signing_certificates(UserName="signer")["Certificates"]
    assert [one["Status"] for one in listed] == ["Inactive", "Active"]
    assert refusal(iam.delete_user, UserName="signer")[0] == "DeleteConflict"
    for one in listed:
        iam.delete_signing_certificate(UserName="signer", CertificateId=one["CertificateId"])
    assert refusal(iam.delete_signing_certificate, **this)[0] == "NoSuchEntity"
    iam.delete_user(UserName="signer")
