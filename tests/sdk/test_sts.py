"""STS with real clients: who calls, and what temporary credentials are good for."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud

ACCOUNT = "000000000000"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)
POLICY = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}})


def with_session(cloud: LocalCloud, credentials: dict[str, Any], service: str = "sts") -> Any:
    return cloud.client(
        service,
        access_key=credentials["AccessKeyId"],
        secret_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


def refusal(call: Any, **input: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**input)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def seconds_left(credentials: dict[str, Any]) -> float:
    return float((credentials["Expiration"] - datetime.now(UTC)).total_seconds())


def test_everybody_is_told_who_they_are(cloud: LocalCloud) -> None:
    root = cloud.client("sts").get_caller_identity()
    assert (root["UserId"], root["Account"], root["Arn"]) == (ACCOUNT, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
    other = cloud.client("sts", account="123456789012", region="eu-west-1").get_caller_identity()
    assert other["Arn"] == "arn:aws:iam::123456789012:root"
    stranger = cloud.client("sts", access_key="AKIAIOSFODNN7EXAMPLE").get_caller_identity()
    assert stranger["Account"] == ACCOUNT

    iam = cloud.client("iam", account="123456789012")
    user = iam.create_user(UserName="ann", Path="/team/")["User"]
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    mine = cloud.client("sts", access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])
    identity = mine.get_caller_identity()
    assert (identity["UserId"], identity["Account"], identity["Arn"]) == (user["UserId"], "123456789012", user["Arn"])
    assert cloud.client("sts").get_access_key_info(AccessKeyId=key["AccessKeyId"])["Account"] == "123456789012"


def test_a_role_is_assumed_and_its_session_outlives_a_kill(cloud: LocalCloud) -> None:
    iam, sts = cloud.client("iam"), cloud.client("sts")
    role = iam.create_role(RoleName="worker", Path="/svc/", AssumeRolePolicyDocument=TRUST, MaxSessionDuration=7200)
    arn, role_id = role["Role"]["Arn"], role["Role"]["RoleId"]
    assumed = sts.assume_role(
        RoleArn=arn,
        RoleSessionName="shift@1",
        Policy=POLICY,
        PolicyArns=[{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}],
        Tags=[{"Key": "team", "Value": "blue"}],
        SourceIdentity="ann",
        ExternalId="ext-1",
    )
    credentials = assumed["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    assert len(credentials["AccessKeyId"]) == 20
    assert len(credentials["SecretAccessKey"]) == 40
    assert 3590 < seconds_left(credentials) <= 3600
    assert assumed["SourceIdentity"] == "ann"
    assert 0 < assumed["PackedPolicySize"] < 100
    session_arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/shift@1"
    assert assumed["AssumedRoleUser"] == {"Arn": session_arn, "AssumedRoleId": f"{role_id}:shift@1"}

    identity = with_session(cloud, credentials).get_caller_identity()
    assert (identity["Arn"], identity["UserId"]) == (session_arn, f"{role_id}:shift@1")
    assert sts.get_access_key_info(AccessKeyId=credentials["AccessKeyId"])["Account"] == ACCOUNT

    cloud.kill()
    cloud.start()
    again = with_session(cloud, credentials)
    assert again.get_caller_identity()["Arn"] == session_arn

    # A session may assume a further role for an hour at most, and is no user.
    code, message = refusal(again.assume_role, RoleArn=arn, RoleSessionName="next", DurationSeconds=7200)
    assert (code, "role chaining" in message) == ("ValidationError", True)
    chained = again.assume_role(RoleArn=arn, RoleSessionName="next")["AssumedRoleUser"]["Arn"]
    assert chained.endswith("/worker/next")
    assert refusal(again.get_session_token)[0] == "AccessDenied"
    assert refusal(again.get_federation_token, Name="someone")[0] == "AccessDenied"
    assert refusal(with_session(cloud, credentials, "iam").create_access_key)[0] == "ValidationError"


def test_what_sts_refuses(cloud: LocalCloud) -> None:
    iam, sts = cloud.client("iam"), cloud.client("sts")
    arn = iam.create_role(RoleName="worker", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    nobody = f"arn:aws:iam::{ACCOUNT}:role/nobody"
    assert refusal(sts.assume_role, RoleArn=nobody, RoleSessionName="s1") == (
        "AccessDenied",
        f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: sts:AssumeRole on resource: {nobody}",
    )
    assert refusal(sts.assume_role, RoleArn="arn:aws:s3:::bucket-no-role", RoleSessionName="s1") == (
        "ValidationError",
        "arn:aws:s3:::bucket-no-role is invalid",
    )
    assert refusal(sts.assume_role, RoleArn=arn, RoleSessionName="s1", DurationSeconds=7200) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    )
    assert refusal(sts.assume_role, RoleArn=arn, RoleSessionName="no spaces")[0] == "ValidationError"
    assert refusal(sts.assume_role, RoleArn=arn, RoleSessionName="s1", Policy="{}")[0] == "MalformedPolicyDocument"
    large = [{"Key": f"k{number}", "Value": "x" * 250} for number in range(10)]
    assert refusal(sts.assume_role, RoleArn=arn, RoleSessionName="s1", Tags=large)[0] == "PackedPolicyTooLarge"
    code, message = refusal(sts.assume_role, RoleArn=arn, RoleSessionName="s1", TokenCode="123456")
    assert (code, "TokenCode" in message) == ("NotImplemented", True)
    assert refusal(sts.decode_authorization_message, EncodedMessage="x")[0].startswith("InvalidAuthorizationMessage")

    # A role of another account is found there, and nowhere else.
    other = cloud.client("iam", account="123456789012")
    theirs = other.create_role(RoleName="theirs", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    made = sts.assume_role(RoleArn=theirs, RoleSessionName="visit")
    assert with_session(cloud, made["Credentials"]).get_caller_identity()["Account"] == "123456789012"
    iam.delete_role(RoleName="worker")
    assert refusal(sts.assume_role, RoleArn=arn, RoleSessionName="s1")[0] == "AccessDenied"


def test_tokens_of_users_and_of_those_whom_they_federate(cloud: LocalCloud) -> None:
    iam, root = cloud.client("iam"), cloud.client("sts")
    user = iam.create_user(UserName="ann")["User"]
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    sts = cloud.client("sts", access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])

    token = sts.get_session_token(DurationSeconds=900)["Credentials"]
    assert 890 < seconds_left(token) <= 900
    assert with_session(cloud, token).get_caller_identity()["Arn"] == user["Arn"]
    assert 43_190 < seconds_left(sts.get_session_token()["Credentials"]) <= 43_200
    assert 3590 < seconds_left(root.get_session_token()["Credentials"]) <= 3600

    made = sts.get_federation_token(Name="guest", Policy=POLICY, Tags=[{"Key": "a", "Value": "b"}])
    arn = f"arn:aws:sts::{ACCOUNT}:federated-user/guest"
    assert made["FederatedUser"] == {"FederatedUserId": f"{ACCOUNT}:guest", "Arn": arn}
    identity = with_session(cloud, made["Credentials"]).get_caller_identity()
    assert (identity["UserId"], identity["Arn"]) == (f"{ACCOUNT}:guest", arn)


def test_a_web_identity_assumes_a_role(cloud: LocalCloud) -> None:
    iam, sts = cloud.client("iam"), cloud.client("sts")
    arn = iam.create_role(RoleName="web", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    now = datetime.now(UTC).timestamp()

    def assume(**claims: Any) -> Any:
        claims = {"iss": "https://id.example.com/pool", "sub": "u-1", "aud": "app", "exp": now + 60, **claims}
        parts = [{"alg": "RS256"}, claims, {}]
        token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        return sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="w1", WebIdentityToken=token)

    code, message = refusal(assume)
    assert (code, "No OpenIDConnect provider found" in message) == ("InvalidIdentityToken", True)
    provider = iam.create_open_id_connect_provider(Url="https://id.example.com/pool", ClientIDList=["app"])
    assert refusal(assume, aud="another") == ("InvalidIdentityToken", "Incorrect token audience")
    assert refusal(assume, exp=now - 10)[0] == "ExpiredTokenException"
    made = assume()
    assert made["Provider"] == provider["OpenIDConnectProviderArn"]
    assert (made["SubjectFromWebIdentityToken"], made["Audience"]) == ("u-1", "app")
    identity = with_session(cloud, made["Credentials"]).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/web/w1"


SAML = """<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion">
<a:Assertion><a:Issuer>https://id.example.com</a:Issuer>
<a:Subject><a:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">ann</a:NameID>
<a:SubjectConfirmation><a:SubjectConfirmationData NotOnOrAfter="{until}"/></a:SubjectConfirmation></a:Subject>
<a:Conditions><a:AudienceRestriction><a:Audience>urn:amazon:webservices</a:Audience></a:AudienceRestriction></a:Conditions>
<a:AttributeStatement>
<a:Attribute Name="https://aws.amazon.com/SAML/Attributes/Role"><a:AttributeValue>{role},{provider}</a:AttributeValue>
</a:Attribute>
<a:Attribute Name="https://aws.amazon.com/SAML/Attributes/RoleSessionName"><a:AttributeValue>ann@corp</a:AttributeValue>
</a:Attribute></a:AttributeStatement></a:Assertion></p:Response>"""


def test_assume_role_with_saml(cloud: LocalCloud) -> None:
    iam, sts = cloud.client("iam"), cloud.client("sts")
    trust = '{"Statement":[{"Effect":"Allow","Principal":{"Federated":"*"},"Action":"sts:AssumeRoleWithSAML"}]}'
    role = iam.create_role(RoleName="federated", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    provider = "arn:aws:iam::000000000000:saml-provider/corp"

    def assertion(until: str = "2099-01-01T00:00:00Z") -> str:
        return base64.b64encode(SAML.format(role=role, provider=provider, until=until).encode()).decode()

    answer = sts.assume_role_with_saml(RoleArn=role, PrincipalArn=provider, SAMLAssertion=assertion())
    assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::000000000000:assumed-role/federated/ann@corp"
    assert (answer["Subject"], answer["SubjectType"]) == ("ann", "persistent")
    assert (answer["Issuer"], answer["Audience"]) == ("https://id.example.com", "urn:amazon:webservices")
    asked = {"RoleArn": role, "PrincipalArn": provider}
    for given, code in (
        ({**asked, "SAMLAssertion": assertion("2020-01-01T00:00:00Z")}, "ExpiredTokenException"),
        ({**asked, "SAMLAssertion": "bm8geG1s"}, "InvalidIdentityToken"),
        ({**asked, "PrincipalArn": f"{provider}-2", "SAMLAssertion": assertion()}, "AccessDenied"),
    ):
        with pytest.raises(ClientError) as caught:
            sts.assume_role_with_saml(**given)
        assert caught.value.response["Error"]["Code"] == code


def test_tags_from_role_to_role(cloud: LocalCloud) -> None:
    """Transitive tags stay with the next role and cannot be given anew; keys are the same whatever their case."""
    iam, sts = cloud.client("iam"), cloud.client("sts")
    trust = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    roles = [iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"] for name in ("one", "two")]
    assert "MaxSessionDuration" not in roles[0]
    first, second = ({"RoleArn": role["Arn"], "RoleSessionName": "chain"} for role in roles)

    def tagged(*keys: str) -> list[dict[str, str]]:
        return [{"Key": key, "Value": "v"} for key in keys]

    with pytest.raises(ClientError, match="transitive tag key must be included in the requested tags"):
        sts.assume_role(**first, Tags=tagged("Team"), TransitiveTagKeys=["Other"])
    with pytest.raises(ClientError, match="Duplicate tag keys found"):
        sts.assume_role(**first, Tags=tagged("Team", "team"))
    keys = sts.assume_role(**first, Tags=tagged("Team"), TransitiveTagKeys=["team"])["Credentials"]
    chained = with_session(cloud, keys)
    with pytest.raises(ClientError, match="conflicts with a transitive tag key from the calling session"):
        chained.assume_role(**second, Tags=tagged("TEAM"))
    assert chained.assume_role(**second, Tags=tagged("Other"))["Credentials"]
