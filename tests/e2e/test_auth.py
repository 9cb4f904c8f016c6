"""``--auth enforce``: only who holds a key of IAM's or a session of STS's is let in, in each protocol's own words."""

from __future__ import annotations

import configparser
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud

ACCOUNT = "000000000000"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}],
    }
)
STRANGER = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


@pytest.fixture
def enforcing() -> Iterator[LocalCloud]:
    with LocalCloud("--auth", "enforce") as cloud:
        yield cloud
        if cloud.log:
            print(cloud.log)


def root_of(cloud: LocalCloud) -> dict[str, str]:
    """The keys with which everything begins; the file that holds them is there once somebody has knocked."""
    with pytest.raises(ClientError):
        cloud.client("sts", **STRANGER).get_caller_identity()
    file = configparser.ConfigParser()
    file.read(cloud.data_dir / "credentials")
    assert (cloud.data_dir / "credentials").stat().st_mode & 0o077 == 0
    section = file["default"]
    return {"access_key": section["aws_access_key_id"], "secret_key": section["aws_secret_access_key"]}


def session_of(credentials: dict[str, Any]) -> dict[str, str]:
    """A client's settings of temporary credentials."""
    return {
        "access_key": credentials["AccessKeyId"],
        "secret_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


def refused(call: Any, **input: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**input)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_strangers_are_refused_in_the_words_of_each_protocol(enforcing: LocalCloud) -> None:
    root = root_of(enforcing)
    wrong = {**root, "secret_key": "x" * 40}
    tampered = {**root, "aws_session_token": "not-a-session"}
    for service, call, input, unknown, mismatch in (
        ("sts", "get_caller_identity", {}, ("InvalidClientTokenId", 403), ("SignatureDoesNotMatch", 403)),
        ("iam", "list_users", {}, ("InvalidClientTokenId", 403), ("SignatureDoesNotMatch", 403)),
        ("sqs", "list_queues", {}, ("InvalidClientTokenId", 403), ("SignatureDoesNotMatch", 403)),
        ("s3", "list_buckets", {}, ("InvalidAccessKeyId", 403), ("SignatureDoesNotMatch", 403)),
        ("dynamodb", "list_tables", {}, ("UnrecognizedClientException", 403), ("InvalidSignatureException", 403)),
        ("lambda", "list_functions", {}, ("UnrecognizedClientException", 403), ("InvalidSignatureException", 403)),
    ):
        quick = {"config": Config(retries={"max_attempts": 1})}
        assert refused(getattr(enforcing.client(service, **STRANGER, **quick), call), **input) == unknown
        assert refused(getattr(enforcing.client(service, **quick), call), **input) == unknown
        assert refused(getattr(enforcing.client(service, **wrong, **quick), call), **input) == mismatch
        assert refused(getattr(enforcing.client(service, **tampered, **quick), call), **input)[1] in (400, 403)
    unsigned = enforcing.client("sts", config=Config(signature_version=UNSIGNED))
    assert refused(unsigned.get_caller_identity)[1] == 403


def test_a_key_that_iam_made_works_until_it_is_inactive_or_gone(enforcing: LocalCloud) -> None:
    root = root_of(enforcing)
    assert enforcing.client("sts", **root).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    iam = enforcing.client("iam", **root)
    user = iam.create_user(UserName="ann", Path="/team/")["User"]
    iam.attach_user_policy(UserName="ann", PolicyArn=ADMIN)
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    mine = {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}

    assert enforcing.client("sts", **mine).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/team/ann"
    assert enforcing.client("iam", **mine).get_user()["User"]["UserId"] == user["UserId"]
    sqs = enforcing.client("sqs", **mine)
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="one")
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "one"

    enforcing.kill()
    enforcing.start()
    assert enforcing.client("sts", **mine).get_caller_identity()["UserId"] == user["UserId"]
    assert root_of(enforcing) == root

    iam = enforcing.client("iam", **root)
    iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert refused(enforcing.client("sts", **mine).get_caller_identity) == ("InvalidClientTokenId", 403)
    iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Active")
    enforcing.client("sts", **mine).get_caller_identity()
    iam.delete_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"])
    assert refused(enforcing.client("sts", **mine).get_caller_identity) == ("InvalidClientTokenId", 403)


def test_a_session_needs_its_token_and_ends_by_the_clock(enforcing: LocalCloud) -> None:
    root = root_of(enforcing)
    iam = enforcing.client("iam", **root)
    role = iam.create_role(RoleName="worker", AssumeRolePolicyDocument=TRUST)["Role"]
    iam.attach_role_policy(RoleName="worker", PolicyArn=ADMIN)
    assumed = enforcing.client("sts", **root).assume_role(RoleArn=role["Arn"], RoleSessionName="shift")
    session = session_of(assumed["Credentials"])

    identity = enforcing.client("sts", **session).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/shift"
    assert identity["UserId"] == f"{role['RoleId']}:shift"
    enforcing.client("sqs", **session).list_queues()
    enforcing.client("apigateway", **session).get_rest_apis()

    without = {name: value for name, value in session.items() if name != "aws_session_token"}
    assert refused(enforcing.client("sts", **without).get_caller_identity) == ("InvalidClientTokenId", 403)
    other = {**session, "aws_session_token": session["aws_session_token"][:-8] + "AAAAAAAA"}
    assert refused(enforcing.client("dynamodb", **other).list_tables) == ("UnrecognizedClientException", 403)

    enforcing.kill()
    enforcing.start()
    assert enforcing.client("sts", **session).get_caller_identity()["UserId"] == identity["UserId"]
    enforcing.advance(3600)
    assert refused(enforcing.client("sts", **session).get_caller_identity) == ("ExpiredToken", 403)
    assert refused(enforcing.client("dynamodb", **session).list_tables) == ("ExpiredTokenException", 403)
    assert refused(enforcing.client("s3", **session).list_buckets) == ("ExpiredToken", 400)


def allow(*actions: str, resource: Any = "*", effect: str = "Allow", **condition: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": list(actions), "Resource": resource, "Condition": condition}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def keys_of(iam: Any, user: str, *statements: dict[str, Any]) -> dict[str, str]:
    """A new user with these permissions, and his key."""
    iam.create_user(UserName=user)
    if statements:
        iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=document(*statements))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}


def denied(call: Any, **input: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**input)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_policies_decide_who_may_do_what(enforcing: LocalCloud) -> None:
    root = root_of(enforcing)
    iam, owner = enforcing.client("iam", **root), enforcing.client("sqs", **root)
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:orders"
    url = owner.create_queue(QueueName="orders")["QueueUrl"]
    mine = keys_of(iam, "ann", allow("sqs:Send*", resource="arn:aws:sqs:*:*:ord*"))
    ann, sqs = f"arn:aws:iam::{ACCOUNT}:user/ann", enforcing.client("sqs", **mine)
    assert enforcing.client("sts", **mine).get_caller_identity()["Arn"] == ann
    sqs.send_message(QueueUrl=url, MessageBody="x")
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "x"}])
    words = f"User: {ann} is not authorized to perform: sqs:ReceiveMessage on resource: {queue}"
    assert denied(sqs.receive_message, QueueUrl=url) == (
        "AccessDenied",
        f"{words} because no identity-based policy allows the sqs:ReceiveMessage action",
    )
    assert denied(enforcing.client("dynamodb", **mine).list_tables)[0] == "AccessDeniedException"
    assert denied(enforcing.client("iam", **mine).create_user, UserName="bob")[0] == "AccessDenied"

    # What changes in IAM counts at once; an explicit deny wins over everything.
    iam.create_group(GroupName="readers")
    iam.put_group_policy(GroupName="readers", PolicyName="p", PolicyDocument=document(allow("sqs:*")))
    iam.add_user_to_group(GroupName="readers", UserName="ann")
    sqs.receive_message(QueueUrl=url)
    iam.put_user_policy(
        UserName="ann", PolicyName="no", PolicyDocument=document(allow("sqs:Receive*", resource=queue, effect="Deny"))
    )
    assert denied(sqs.receive_message, QueueUrl=url)[1] == f"{words} with an explicit deny in an identity-based policy"
    iam.delete_user_policy(UserName="ann", PolicyName="no")

    # A permissions boundary limits; conditions and variables are evaluated.
    limit = iam.create_policy(PolicyName="limit", PolicyDocument=document(allow("sqs:SendMessage")))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="ann", PermissionsBoundary=limit)
    assert denied(sqs.receive_message, QueueUrl=url)[1].endswith(
        "because no permissions boundary allows the sqs:ReceiveMessage action"
    )
    iam.delete_user_permissions_boundary(UserName="ann")
    conditional = allow("dynamodb:*", resource="*", StringEquals={"aws:RequestedRegion": "eu-west-1"})
    own = allow("sns:*", resource="arn:aws:sns:*:*:${aws:username}-*")
    iam.put_user_policy(UserName="ann", PolicyName="own", PolicyDocument=document(conditional, own))
    enforcing.client("dynamodb", "eu-west-1", **mine).list_tables()
    assert denied(enforcing.client("dynamodb", **mine).list_tables)[0] == "AccessDeniedException"
    enforcing.client("sns", **mine).create_topic(Name="ann-alerts")
    assert denied(enforcing.client("sns", **mine).create_topic, Name="bob-alerts")[0].startswith("Authorization")

    # A queue's own policy lets a user in who has no policy; and it can keep out.
    bob = enforcing.client("sqs", **keys_of(iam, "bob"))
    assert denied(bob.receive_message, QueueUrl=url)[0] == "AccessDenied"
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/bob"}, "Action": "sqs:Receive*"}
    owner.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document({**statement, "Resource": queue})})
    bob.receive_message(QueueUrl=url)
    assert denied(bob.send_message, QueueUrl=url, MessageBody="x")[0] == "AccessDenied"


def test_keys_secrets_tables_and_repositories_have_policies_of_their_own(enforcing: LocalCloud) -> None:
    root = root_of(enforcing)
    iam = enforcing.client("iam", **root)
    everything = allow("kms:*", "dynamodb:*", "secretsmanager:*")
    ann, bob = keys_of(iam, "ann", everything), keys_of(iam, "bob")
    arns = {name: f"arn:aws:iam::{ACCOUNT}:user/{name}" for name in ("ann", "bob")}

    # A key is open only to whom its policy lets in: the account as a whole, at first, and so its users' policies.
    kms, anns, bobs = (enforcing.client("kms", **keys) for keys in (root, ann, bob))
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    context = {"shop": "1"}
    blob = anns.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]
    assert denied(bobs.decrypt, CiphertextBlob=blob, EncryptionContext=context)[0] == "AccessDeniedException"
    only = {"Effect": "Allow", "Principal": {"AWS": arns["bob"]}, "Action": "kms:Decrypt", "Resource": "*"}
    admin = {
        "Effect": "Allow",
        "Principal": {"AWS": arns["ann"]},
        "Action": ["kms:Put*", "kms:CreateGrant"],
        "Resource": "*",
    }
    kms.put_key_policy(KeyId=key, Policy=document(only, admin))
    assert bobs.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"x"
    code, message = denied(anns.decrypt, CiphertextBlob=blob, EncryptionContext=context)
    assert code == "AccessDeniedException"
    assert message.endswith("because no resource-based policy allows the kms:Decrypt action")
    assert denied(kms.describe_key, KeyId=key)[0] == "AccessDeniedException"
    # A grant opens it too, for its operations and its context.
    granted = {"EncryptionContextSubset": context}
    anns.create_grant(KeyId=key, GranteePrincipal=arns["ann"], Operations=["Decrypt"], Constraints=granted)
    assert anns.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"x"
    assert denied(anns.encrypt, KeyId=key, Plaintext=b"x")[0] == "AccessDeniedException"

    secrets = enforcing.client("secretsmanager", **root)
    secrets.create_secret(Name="db", SecretString="pw")
    reading = {"Effect": "Allow", "Principal": {"AWS": arns["bob"]}, "Action": "secretsmanager:GetSecretValue"}
    assert denied(enforcing.client("secretsmanager", **bob).get_secret_value, SecretId="db")[0].startswith(
        "AccessDenied"
    )
    secrets.put_resource_policy(SecretId="db", ResourcePolicy=document({**reading, "Resource": "*"}))
    assert enforcing.client("secretsmanager", **bob).get_secret_value(SecretId="db")["SecretString"] == "pw"

    ecr = enforcing.client("ecr", **root)
    ecr.create_repository(repositoryName="app")
    pulling = {"Effect": "Allow", "Principal": {"AWS": arns["bob"]}, "Action": "ecr:ListImages"}
    assert denied(enforcing.client("ecr", **bob).list_images, repositoryName="app")[0] == "AccessDeniedException"
    ecr.set_repository_policy(repositoryName="app", policyText=document(pulling))
    assert enforcing.client("ecr", **bob).list_images(repositoryName="app")["imageIds"] == []

    tables = enforcing.client("dynamodb", **root)
    schema = {"AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}]}
    table = tables.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        **schema,
    )["TableDescription"]["TableArn"]
    theirs = enforcing.client("dynamodb", **ann)
    theirs.get_item(TableName="orders", Key={"k": {"S": "1"}})
    no = {"Effect": "Deny", "Principal": {"AWS": arns["ann"]}, "Action": "dynamodb:*Item", "Resource": table}
    tables.put_resource_policy(ResourceArn=table, Policy=document(no))
    assert denied(theirs.get_item, TableName="orders", Key={"k": {"S": "1"}})[1].endswith("in a resource-based policy")
    items = {"orders": {"Keys": [{"k": {"S": "1"}}]}}
    assert denied(theirs.batch_get_item, RequestItems=items)[0] == "AccessDeniedException"


def test_roles_trust_and_sessions_are_narrowed(enforcing: LocalCloud) -> None:
    root = root_of(enforcing)
    iam = enforcing.client("iam", **root)
    mine = keys_of(iam, "ann")
    sts = enforcing.client("sts", **mine)
    role = iam.create_role(RoleName="worker", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.put_role_policy(RoleName="worker", PolicyName="p", PolicyDocument=document(allow("sqs:*", "sns:*")))
    asked = {"RoleArn": role, "RoleSessionName": "shift"}
    # The account is trusted, so that it is for the user's own policies to say.
    assert denied(sts.assume_role, **asked)[0] == "AccessDenied"
    iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=document(allow("sts:AssumeRole", resource=role)))
    session = session_of(sts.assume_role(**asked)["Credentials"])
    enforcing.client("sqs", **session).list_queues()
    enforcing.client("sns", **session).list_topics()
    assert denied(enforcing.client("iam", **session).list_users)[0] == "AccessDenied"
    narrow = session_of(sts.assume_role(**asked, Policy=document(allow("sns:*", "iam:*")))["Credentials"])
    enforcing.client("sns", **narrow).list_topics()
    assert "no session policy" in denied(enforcing.client("sqs", **narrow).list_queues)[1]
    assert "no identity-based policy" in denied(enforcing.client("iam", **narrow).list_users)[1]

    # Without its role a session may do nothing any more.
    iam.create_role(RoleName="passing", AssumeRolePolicyDocument=TRUST)
    iam.put_user_policy(UserName="ann", PolicyName="q", PolicyDocument=document(allow("sts:AssumeRole")))
    passing = f"arn:aws:iam::{ACCOUNT}:role/passing"
    orphan = session_of(sts.assume_role(RoleArn=passing, RoleSessionName="brief")["Credentials"])
    iam.delete_role(RoleName="passing")
    iam.delete_user_policy(UserName="ann", PolicyName="q")
    assert denied(enforcing.client("sqs", **orphan).list_queues)[0] == "AccessDenied"

    # Who is named needs no policy; an external id must be the one that is agreed.
    iam.delete_user_policy(UserName="ann", PolicyName="p")
    named = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ann"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "agreed"}},
    }
    iam.update_assume_role_policy(RoleName="worker", PolicyDocument=document(named))
    assert denied(sts.assume_role, **asked)[0] == "AccessDenied"
    assert denied(sts.assume_role, **asked, ExternalId="guessed")[0] == "AccessDenied"
    sts.assume_role(**asked, ExternalId="agreed")


def test_resource_policies_of_rest_apis_hold_for_everybody(enforcing: LocalCloud) -> None:
    root = root_of(enforcing)
    api = enforcing.client("apigateway", **root)

    def policy(effect: str, address: str) -> str:
        here = {"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
        statement = {**here, "Condition": {"IpAddress": {"aws:SourceIp": address}}}
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    made = api.create_rest_api(name="guarded", policy=policy("Allow", "127.0.0.0/8"))
    for verb, kind in (("GET", "NONE"), ("POST", "AWS_IAM")):
        where = {"restApiId": made["id"], "resourceId": made["rootResourceId"], "httpMethod": verb}
        api.put_method(**where, authorizationType=kind)
        api.put_method_response(**where, statusCode="200")
        api.put_integration(**where, type="MOCK", requestTemplates={"application/json": '{"statusCode": 200}'})
        api.put_integration_response(**where, statusCode="200")
    api.create_deployment(restApiId=made["id"], stageName="prod")
    url = f"{enforcing.endpoint}/_cloudlet/execute-api/{made['id']}/prod"
    user = enforcing.client("iam", **root)
    user.create_user(UserName="caller")
    own = user.create_access_key(UserName="caller")["AccessKey"]

    def ask(verb: str) -> int:
        request = AWSRequest(verb, url, {"content-type": "application/json"}, b"{}" if verb == "POST" else None)
        if verb == "POST":
            keys = Credentials(own["AccessKeyId"], own["SecretAccessKey"])
            SigV4Auth(keys, "execute-api", "us-east-1").add_auth(request)
        asked = urllib.request.Request(url, data=request.data, method=verb, headers=dict(request.headers.items()))
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def change(text: str) -> None:
        operation = {"op": "replace", "path": "/policy", "value": text}
        before = ask("GET"), ask("POST")
        api.update_rest_api(restApiId=made["id"], patchOperations=[operation])
        assert (ask("GET"), ask("POST")) == before  # it counts with the next deployment
        api.create_deployment(restApiId=made["id"], stageName="prod")

    assert (ask("GET"), ask("POST")) == (200, 200)
    change(policy("Allow", "192.0.2.0/24"))
    assert (ask("GET"), ask("POST")) == (403, 403)
    change(policy("Allow", "127.0.0.0/8"))
    assert (ask("GET"), ask("POST")) == (200, 200)
    change(policy("Deny", "127.0.0.0/8"))
    assert (ask("GET"), ask("POST")) == (403, 403)
