"""``--auth enforce``: only who holds a key of IAM's or a session of STS's is let in, in each protocol's own words."""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud

ACCOUNT = "000000000000"
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
    role = enforcing.client("iam", **root).create_role(RoleName="worker", AssumeRolePolicyDocument=TRUST)["Role"]
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
