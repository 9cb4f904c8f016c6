"""KMS through boto3, its cryptography checked with a library of others."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from refusals import refused

from cloudlet.testing.local import LocalCloud

DAY = 86_400


@pytest.fixture
def kms(cloud: LocalCloud) -> Any:
    return cloud.client("kms")


def make(kms: Any, **parameters: Any) -> str:
    return str(kms.create_key(**parameters)["KeyMetadata"]["KeyId"])


def arn(id: str) -> str:
    return f"arn:aws:kms:us-east-1:000000000000:key/{id}"


def state(kms: Any, id: str) -> str:
    return str(kms.describe_key(KeyId=id)["KeyMetadata"]["KeyState"])


def test_what_is_encrypted_survives_a_kill(cloud: LocalCloud, kms: Any) -> None:
    id = make(kms, Description="mine", Tags=[{"TagKey": "team", "TagValue": "a"}])
    context = {"order": "7", "by": "Ada"}
    blob = kms.encrypt(KeyId=id, Plaintext=b"secret", EncryptionContext=context)["CiphertextBlob"]
    assert b"secret" not in blob
    data = kms.generate_data_key(KeyId=id, KeySpec="AES_256")
    assert len(data["Plaintext"]) == 32
    cloud.kill()
    cloud.start()
    answer = kms.decrypt(CiphertextBlob=blob, EncryptionContext={"by": "Ada", "order": "7"})
    assert (answer["Plaintext"], answer["KeyId"]) == (b"secret", arn(id))
    assert kms.decrypt(CiphertextBlob=data["CiphertextBlob"], KeyId=id)["Plaintext"] == data["Plaintext"]
    for wrong in ({}, {"order": "8", "by": "Ada"}):
        assert refused(kms.decrypt, CiphertextBlob=blob, EncryptionContext=wrong)[0] == "InvalidCiphertextException"
    broken = blob[:-1] + bytes([blob[-1] ^ 1])
    assert refused(kms.decrypt, CiphertextBlob=broken, EncryptionContext=context)[0] == "InvalidCiphertextException"
    other = make(kms)
    assert refused(kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, KeyId=other) == (
        "IncorrectKeyException",
        "The key ID in the request does not identify a CMK that can perform this operation.",
    )
    moved = kms.re_encrypt(CiphertextBlob=blob, SourceEncryptionContext=context, DestinationKeyId=other)
    assert (moved["SourceKeyId"], moved["KeyId"]) == (arn(id), arn(other))
    assert kms.decrypt(CiphertextBlob=moved["CiphertextBlob"])["Plaintext"] == b"secret"
    assert len(kms.generate_random(NumberOfBytes=40)["Plaintext"]) == 40
    assert refused(kms.encrypt, KeyId=id, Plaintext=b"x", DryRun=True)[0] == "DryRunOperationException"
    # The material is nowhere to be read.
    assert (cloud.data_dir / "kms" / "master.key").stat().st_mode & 0o777 == 0o600
    elsewhere = cloud.client("kms", region="eu-west-1")
    assert refused(elsewhere.decrypt, CiphertextBlob=blob, EncryptionContext=context)[0] == "InvalidCiphertextException"
    assert refused(elsewhere.describe_key, KeyId=arn(id)) == ("NotFoundException", "Invalid arn us-east-1")


def test_the_life_of_a_key(cloud: LocalCloud, kms: Any) -> None:
    metadata = kms.create_key(Description="mine")["KeyMetadata"]
    id = metadata["KeyId"]
    assert (metadata["Arn"], metadata["KeySpec"], metadata["KeyUsage"]) == (
        arn(id),
        "SYMMETRIC_DEFAULT",
        "ENCRYPT_DECRYPT",
    )
    assert (metadata["KeyManager"], metadata["Enabled"], metadata["MultiRegion"]) == ("CUSTOMER", True, False)
    assert refused(kms.describe_key, KeyId="nobody") == ("NotFoundException", "Invalid keyId 'nobody'")
    nobody = "12345678-1234-1234-1234-123456789012"
    assert refused(kms.describe_key, KeyId=nobody) == ("NotFoundException", f"Key '{arn(nobody)}' does not exist")
    assert refused(kms.create_key, MultiRegion=True)[0] == "NotImplemented"
    assert refused(kms.create_key, Origin="EXTERNAL")[0] == "NotImplemented"

    kms.disable_key(KeyId=id)
    assert refused(kms.encrypt, KeyId=id, Plaintext=b"x") == ("DisabledException", f"{arn(id)} is disabled.")
    kms.enable_key(KeyId=id)
    kms.update_key_description(KeyId=id, Description="yours")
    policy = kms.get_key_policy(KeyId=id, PolicyName="default")["Policy"]
    assert json.loads(policy)["Statement"][0]["Principal"] == {"AWS": "arn:aws:iam::000000000000:root"}
    kms.put_key_policy(KeyId=id, PolicyName="default", Policy=policy.replace("kms:*", "kms:Encrypt"))
    assert "kms:Encrypt" in kms.get_key_policy(KeyId=id, PolicyName="default")["Policy"]
    assert refused(kms.put_key_policy, KeyId=id, PolicyName="default", Policy="no")[0] == (
        "MalformedPolicyDocumentException"
    )
    kms.tag_resource(KeyId=id, Tags=[{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": "2"}])
    kms.untag_resource(KeyId=id, TagKeys=["a"])
    assert kms.list_resource_tags(KeyId=id)["Tags"] == [{"TagKey": "b", "TagValue": "2"}]
    reserved = [{"TagKey": "aws:x", "TagValue": ""}]
    assert refused(kms.tag_resource, KeyId=id, Tags=reserved)[1] == "Tags beginning with aws: are reserved"

    kms.create_alias(AliasName="alias/mine", TargetKeyId=id)
    assert kms.describe_key(KeyId="alias/mine")["KeyMetadata"]["KeyId"] == id
    alias = "arn:aws:kms:us-east-1:000000000000:alias/mine"
    assert refused(kms.create_alias, AliasName="alias/mine", TargetKeyId=id) == (
        "AlreadyExistsException",
        f"An alias with the name {alias} already exists",
    )
    assert refused(kms.create_alias, AliasName="alias/aws/x", TargetKeyId=id)[0] == "NotAuthorizedException"
    other = make(kms)
    kms.update_alias(AliasName="alias/mine", TargetKeyId=other)
    assert kms.encrypt(KeyId=alias, Plaintext=b"x")["KeyId"] == arn(other)
    assert [each["AliasName"] for each in kms.list_aliases(KeyId=other)["Aliases"]] == ["alias/mine"]
    kms.delete_alias(AliasName="alias/mine")
    assert refused(kms.describe_key, KeyId="alias/mine") == ("NotFoundException", f"Alias {alias} is not found.")
    managed = kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]
    assert (managed["KeyManager"], kms.describe_key(KeyId="alias/aws/s3")["KeyMetadata"]) == ("AWS", managed)
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
    assert [len(page["Keys"]) for page in pages] == [2, 1]

    blob = kms.encrypt(KeyId=id, Plaintext=b"x")["CiphertextBlob"]
    assert refused(kms.schedule_key_deletion, KeyId=id, PendingWindowInDays=3)[0] == "ValidationException"
    kms.schedule_key_deletion(KeyId=id, PendingWindowInDays=7)
    assert refused(kms.decrypt, CiphertextBlob=blob) == ("KMSInvalidStateException", f"{arn(id)} is pending deletion.")
    kms.cancel_key_deletion(KeyId=id)
    assert state(kms, id) == "Disabled"
    kms.schedule_key_deletion(KeyId=id, PendingWindowInDays=7)
    cloud.kill()
    cloud.start()
    cloud.advance(6 * DAY)
    assert state(kms, id) == "PendingDeletion"
    cloud.advance(DAY + 1)
    assert refused(kms.describe_key, KeyId=id)[0] == "NotFoundException"
    assert refused(kms.decrypt, CiphertextBlob=blob)[0] == "InvalidCiphertextException"


def test_rotation(cloud: LocalCloud, kms: Any) -> None:
    id = make(kms)
    first = kms.encrypt(KeyId=id, Plaintext=b"first")["CiphertextBlob"]
    assert kms.get_key_rotation_status(KeyId=id)["KeyRotationEnabled"] is False
    kms.enable_key_rotation(KeyId=id, RotationPeriodInDays=90)
    status = kms.get_key_rotation_status(KeyId=id)
    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 90)
    kms.rotate_key_on_demand(KeyId=id)
    second = kms.encrypt(KeyId=id, Plaintext=b"second")["CiphertextBlob"]
    cloud.kill()
    cloud.start()
    before = kms.describe_key(KeyId=id)["KeyMetadata"]["CurrentKeyMaterialId"]
    cloud.advance(90 * DAY + 1)
    kinds: list[str] = []
    for _ in range(100):
        kinds = [each["RotationType"] for each in kms.list_key_rotations(KeyId=id)["Rotations"]]
        if len(kinds) == 2:
            break
    assert kinds == ["ON_DEMAND", "AUTOMATIC"]
    assert kms.describe_key(KeyId=id)["KeyMetadata"]["CurrentKeyMaterialId"] != before
    assert [kms.decrypt(CiphertextBlob=blob)["Plaintext"] for blob in (first, second)] == [b"first", b"second"]
    kms.disable_key_rotation(KeyId=id)
    assert kms.get_key_rotation_status(KeyId=id)["KeyRotationEnabled"] is False
    assert refused(kms.enable_key_rotation, KeyId=make(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"))[0] == (
        "UnsupportedOperationException"
    )


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ("RSA_2048", "RSASSA_PSS_SHA_256"),
        ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_512"),
        ("ECC_NIST_P384", "ECDSA_SHA_384"),
        ("ECC_SECG_P256K1", "ECDSA_SHA_256"),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512"),
    ],
)
def test_signatures(kms: Any, spec: str, algorithm: str) -> None:
    id = make(kms, KeySpec=spec, KeyUsage="SIGN_VERIFY")
    key = {"KeyId": id, "SigningAlgorithm": algorithm}
    signature = kms.sign(**key, Message=b"hello")["Signature"]
    assert kms.verify(**key, Message=b"hello", Signature=signature)["SignatureValid"] is True
    assert refused(kms.verify, **key, Message=b"hallo", Signature=signature)[0] == "KMSInvalidSignatureException"
    public: Any = serialization.load_der_public_key(kms.get_public_key(KeyId=id)["PublicKey"])
    if spec.endswith("25519"):
        public.verify(signature, b"hello")
        return
    hash = getattr(hashes, f"SHA{algorithm[-3:]}")()
    if "PSS" in algorithm:
        public.verify(signature, b"hello", padding.PSS(padding.MGF1(hash), hash.digest_size), hash)
    elif "PKCS1" in algorithm:
        public.verify(signature, b"hello", padding.PKCS1v15(), hash)
    else:
        public.verify(signature, b"hello", ec.ECDSA(hash))
    digest = hashlib.new(f"sha{algorithm[-3:]}", b"hello").digest()
    assert kms.verify(**key, Message=digest, MessageType="DIGEST", Signature=signature)["SignatureValid"] is True
    signed = kms.sign(**key, Message=digest, MessageType="DIGEST")["Signature"]
    if spec.startswith("ECC"):
        public.verify(signed, digest, ec.ECDSA(utils.Prehashed(hash)))
    assert refused(kms.sign, **key, Message=b"x", MessageType="DIGEST") == (
        "ValidationException",
        f"Digest is invalid length for algorithm {algorithm}.",
    )
    assert refused(kms.encrypt, KeyId=id, Plaintext=b"x") == (
        "InvalidKeyUsageException",
        f"{arn(id)} key usage is SIGN_VERIFY which is not valid for Encrypt.",
    )


def test_other_kinds_of_keys(cloud: LocalCloud, kms: Any) -> None:
    assert refused(kms.create_key, KeySpec="RSA_2048") == (
        "ValidationException",
        "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
    )
    assert refused(kms.create_key, KeySpec="RSA_2048", KeyUsage="KEY_AGREEMENT") == (
        "ValidationException",
        "KeyUsage KEY_AGREEMENT is not compatible with KeySpec RSA_2048",
    )
    assert refused(kms.create_key, KeySpec="SM2", KeyUsage="SIGN_VERIFY")[0] == "NotImplemented"
    rsa = {
        "KeyId": make(kms, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT"),
        "EncryptionAlgorithm": "RSAES_OAEP_SHA_256",
    }
    public: Any = serialization.load_der_public_key(kms.get_public_key(KeyId=rsa["KeyId"])["PublicKey"])
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    blob = public.encrypt(b"from outside", oaep)
    cloud.kill()
    cloud.start()
    assert kms.decrypt(**rsa, CiphertextBlob=blob)["Plaintext"] == b"from outside"
    blob = kms.encrypt(**rsa, Plaintext=b"from inside")["CiphertextBlob"]
    assert kms.decrypt(**rsa, CiphertextBlob=blob)["Plaintext"] == b"from inside"
    assert refused(kms.encrypt, **rsa, Plaintext=b"x" * 191) == (
        "ValidationException",
        "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.",
    )

    key = {"KeyId": make(kms, KeySpec="HMAC_384", KeyUsage="GENERATE_VERIFY_MAC"), "MacAlgorithm": "HMAC_SHA_384"}
    mac = kms.generate_mac(**key, Message=b"hello")["Mac"]
    assert len(mac) == len(hmac.digest(b"k", b"", "sha384"))
    assert kms.verify_mac(**key, Message=b"hello", Mac=mac)["MacValid"] is True
    assert refused(kms.verify_mac, **key, Message=b"hallo", Mac=mac)[0] == "KMSInvalidMacException"
    assert refused(kms.generate_mac, **{**key, "MacAlgorithm": "HMAC_SHA_256"}, Message=b"x") == (
        "InvalidKeyUsageException",
        "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_384.",
    )

    mine = make(kms, KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")
    other = ec.generate_private_key(ec.SECP256R1())
    der = other.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    shared = kms.derive_shared_secret(KeyId=mine, KeyAgreementAlgorithm="ECDH", PublicKey=der)["SharedSecret"]
    public = serialization.load_der_public_key(kms.get_public_key(KeyId=mine)["PublicKey"])
    assert other.exchange(ec.ECDH(), public) == shared

    symmetric = make(kms)
    pair = kms.generate_data_key_pair(KeyId=symmetric, KeyPairSpec="ECC_NIST_P256")
    private = kms.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"])["Plaintext"]
    assert private == pair["PrivateKeyPlaintext"]
    loaded: Any = serialization.load_der_private_key(private, None)
    signature = loaded.sign(b"hello", ec.ECDSA(hashes.SHA256()))
    public = serialization.load_der_public_key(pair["PublicKey"])
    public.verify(signature, b"hello", ec.ECDSA(hashes.SHA256()))


def test_grants(kms: Any) -> None:
    id = make(kms)
    role = "arn:aws:iam::000000000000:role/reader"
    wish = {
        "KeyId": id,
        "GranteePrincipal": role,
        "Operations": ["Decrypt"],
        "Name": "reads",
        "RetiringPrincipal": role,
    }
    grant = kms.create_grant(**wish)
    assert kms.create_grant(**wish)["GrantId"] == grant["GrantId"]
    second = kms.create_grant(KeyId=id, GranteePrincipal=role, Operations=["Encrypt"])
    assert {each["GrantId"] for each in kms.list_grants(KeyId=id)["Grants"]} == {grant["GrantId"], second["GrantId"]}
    (retirable,) = kms.list_retirable_grants(RetiringPrincipal=role)["Grants"]
    assert (retirable["Name"], retirable["Operations"], retirable["KeyId"]) == ("reads", ["Decrypt"], arn(id))
    kms.retire_grant(GrantToken=grant["GrantToken"])
    kms.revoke_grant(KeyId=id, GrantId=second["GrantId"])
    assert kms.list_grants(KeyId=id)["Grants"] == []
    assert refused(kms.revoke_grant, KeyId=id, GrantId="nobody") == ("NotFoundException", "Grant ID nobody not found")


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Key": {
            "Type": "AWS::KMS::Key",
            "Properties": {"Description": "stack's", "EnableKeyRotation": True, "Tags": [{"Key": "a", "Value": "1"}]},
        },
        "Alias": {
            "Type": "AWS::KMS::Alias",
            "Properties": {"AliasName": "alias/stack", "TargetKeyId": {"Fn::GetAtt": ["Key", "Arn"]}},
        },
    },
    "Outputs": {"Key": {"Value": {"Ref": "Key"}}},
}


def test_stacks(cloud: LocalCloud, kms: Any) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    id = stacks.describe_stacks(StackName="s")["Stacks"][0]["Outputs"][0]["OutputValue"]
    metadata = kms.describe_key(KeyId="alias/stack")["KeyMetadata"]
    assert (metadata["KeyId"], metadata["Description"]) == (id, "stack's")
    assert kms.get_key_rotation_status(KeyId=id)["KeyRotationEnabled"] is True
    changed = json.loads(json.dumps(TEMPLATE))
    changed["Resources"]["Key"]["Properties"] |= {"Enabled": False, "EnableKeyRotation": False, "Tags": []}
    del changed["Resources"]["Key"]["Properties"]["EnableKeyRotation"]
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert state(kms, id) == "Disabled"
    assert "a" not in {tag["TagKey"] for tag in kms.list_resource_tags(KeyId=id)["Tags"]}
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert state(kms, id) == "PendingDeletion"
    assert refused(kms.describe_key, KeyId="alias/stack")[0] == "NotFoundException"
