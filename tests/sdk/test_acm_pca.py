"""AWS Private CA through boto3: a hierarchy that TLS really believes, and what keeps it in order."""

from __future__ import annotations

import csv
import datetime
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from callers import root_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from refusals import refused
from test_acm import shake_hands

from cloudlet.testing.local import LocalCloud

TEMPLATE = "arn:aws:acm-pca:::template/{}/V1"
YEAR = {"Type": "YEARS", "Value": 1}


@pytest.fixture
def pca(cloud: LocalCloud) -> Any:
    return cloud.client("acm-pca")


def created(pca: Any, name: str, kind: str = "ROOT", curve: bool = False, **more: Any) -> str:
    configuration = {
        "KeyAlgorithm": "EC_prime256v1" if curve else "RSA_2048",
        "SigningAlgorithm": "SHA256WITHECDSA" if curve else "SHA256WITHRSA",
        "Subject": {"Country": "DE", "Organization": "Shop", "CommonName": name},
    }
    made = pca.create_certificate_authority(
        CertificateAuthorityConfiguration=configuration, CertificateAuthorityType=kind, **more
    )
    return str(made["CertificateAuthorityArn"])


def csr_of(pca: Any, authority: str) -> bytes:
    return pca.get_certificate_authority_csr(CertificateAuthorityArn=authority)["Csr"].encode()  # type: ignore[no-any-return]


def issue(pca: Any, authority: str, csr: bytes, **more: Any) -> dict[str, str]:
    """What an authority has issued, with its ARN."""
    asked = {"SigningAlgorithm": "SHA256WITHRSA", "Validity": YEAR} | more
    arn = pca.issue_certificate(CertificateAuthorityArn=authority, Csr=csr, **asked)["CertificateArn"]
    found = pca.get_certificate(CertificateAuthorityArn=authority, CertificateArn=arn)
    return {"Arn": arn, "Certificate": found["Certificate"], "Chain": found.get("CertificateChain", "")}


def root(pca: Any, name: str = "Root", curve: bool = False, **more: Any) -> str:
    """A root that is active."""
    arn = created(pca, name, curve=curve, **more)
    asked = {"SigningAlgorithm": "SHA256WITHECDSA" if curve else "SHA256WITHRSA"}
    template = TEMPLATE.format("RootCACertificate")
    own = issue(pca, arn, csr_of(pca, arn), TemplateArn=template, Validity={"Type": "YEARS", "Value": 10}, **asked)
    assert own["Chain"] == ""
    pca.import_certificate_authority_certificate(CertificateAuthorityArn=arn, Certificate=own["Certificate"].encode())
    return arn


def request(name: str, *extensions: x509.ExtensionType) -> tuple[bytes, bytes]:
    """A CSR and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


def read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def status(pca: Any, authority: str) -> str:
    found = pca.describe_certificate_authority(CertificateAuthorityArn=authority)
    return str(found["CertificateAuthority"]["Status"])


def test_a_hierarchy_that_tls_believes(cloud: LocalCloud, pca: Any, tmp_path: Path) -> None:
    csr, key = request("shop.internal")
    top = created(pca, "Root", Tags=[{"Key": "team", "Value": "web"}], IdempotencyToken="once")
    assert created(pca, "Root", Tags=[{"Key": "team", "Value": "web"}], IdempotencyToken="once") == top
    assert status(pca, top) == "PENDING_CERTIFICATE"
    asked: dict[str, Any] = {"CertificateAuthorityArn": top, "SigningAlgorithm": "SHA256WITHRSA", "Validity": YEAR}
    assert refused(pca.issue_certificate, Csr=csr, **asked) == (
        "InvalidStateException",
        "The certificate authority is not in a valid state for issuing certificates",
    )
    assert refused(pca.get_certificate_authority_certificate, CertificateAuthorityArn=top) == (
        "InvalidStateException",
        f"The certificate authority {top} is not in the correct state to have a certificate signing request.",
    )
    bring = pca.import_certificate_authority_certificate
    assert refused(bring, CertificateAuthorityArn=top, Certificate=b"none")[0] == "MalformedCertificateException"
    other = root(pca, "Other")
    foreign = pca.get_certificate_authority_certificate(CertificateAuthorityArn=other)["Certificate"].encode()
    assert refused(bring, CertificateAuthorityArn=top, Certificate=foreign)[0] == "CertificateMismatchException"
    template = TEMPLATE.format("RootCACertificate")
    ten = {"Type": "YEARS", "Value": 10}
    # A shell's echo makes spaces of newlines; AWS does not mind.
    flat = csr_of(pca, top).replace(b"\n", b" ")
    own = issue(pca, top, flat, TemplateArn=template, Validity=ten)["Certificate"]
    bring(CertificateAuthorityArn=top, Certificate=own.replace("\n", " ").encode())
    assert pca.get_certificate_authority_certificate(CertificateAuthorityArn=top) | {"ResponseMetadata": 0} == {
        "Certificate": own,
        "ResponseMetadata": 0,
    }

    middle = created(pca, "Middle", "SUBORDINATE", curve=True)
    five = {
        "TemplateArn": TEMPLATE.format("SubordinateCACertificate_PathLen0"),
        "Validity": {"Type": "YEARS", "Value": 5},
    }
    signed = issue(pca, top, csr_of(pca, middle), **five)
    bring(CertificateAuthorityArn=middle, Certificate=signed["Certificate"], CertificateChain=signed["Chain"])
    assert read(signed["Certificate"]).extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    cloud.kill()
    cloud.start()
    assert (status(pca, top), status(pca, middle)) == ("ACTIVE", "ACTIVE")

    leaf = issue(pca, middle, csr, SigningAlgorithm="SHA256WITHECDSA")
    chain = f"{leaf['Certificate']}\n{leaf['Chain']}"
    assert shake_hands(tmp_path, chain, key, "", own, "shop.internal") == "TLSv1.3"
    certificate = read(leaf["Certificate"])
    assert certificate.subject.rfc4514_string() == "CN=shop.internal"
    assert certificate.issuer.rfc4514_string() == "CN=Middle,O=Shop,C=DE"
    # What openssl thinks of it is not our opinion.
    for name, text in (("own.pem", own), ("middle.pem", signed["Certificate"]), ("leaf.pem", leaf["Certificate"])):
        (tmp_path / name).write_text(text)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "own.pem", "-untrusted", "middle.pem", "leaf.pem"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "leaf.pem: OK\n"
    asked = {"CertificateAuthorityArn": middle, "Csr": csr, "SigningAlgorithm": "SHA256WITHECDSA"}
    assert refused(pca.issue_certificate, **asked, Validity={"Type": "YEARS", "Value": 6}) == (
        "ValidationException",
        "The certificate validity specified exceeds the certificate authority validity",
    )
    asked["SigningAlgorithm"] = "SHA256WITHRSA"
    assert refused(pca.issue_certificate, **asked, Validity=YEAR)[0] == "InvalidArgsException"
    nonsense = {**asked, "SigningAlgorithm": "SHA256WITHECDSA", "Csr": b"nonsense"}
    assert refused(pca.issue_certificate, **nonsense, Validity=YEAR)[0] == "MalformedCSRException"


def test_templates_and_what_passes_through(pca: Any) -> None:
    arn = root(pca)
    csr, _ = request("a.internal", x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), x509.TLSFeature([
        x509.TLSFeatureType.status_request
    ]))  # fmt: skip

    def issued(template: str, **more: Any) -> x509.Certificate:
        return read(issue(pca, arn, csr, TemplateArn=TEMPLATE.format(template), **more)["Certificate"])

    def extended(certificate: x509.Certificate) -> list[str]:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return [usage._name for usage in usages]

    assert extended(issued("EndEntityCertificate")) == ["serverAuth", "clientAuth"]
    assert extended(issued("EndEntityClientAuthCertificate")) == ["clientAuth"]
    passed = issued("EndEntityServerAuthCertificate_CSRPassthrough")
    assert extended(passed) == ["serverAuth"]
    assert passed.extensions.get_extension_for_class(x509.TLSFeature)
    through = {
        "Subject": {"CommonName": "b.internal", "Organization": "B"},
        "Extensions": {
            "SubjectAlternativeNames": [{"DnsName": "b.internal"}, {"IpAddress": "10.0.0.7"}],
            "KeyUsage": {"DigitalSignature": True, "NonRepudiation": True},
            "ExtendedKeyUsage": [{"ExtendedKeyUsageType": "EMAIL_PROTECTION"}],
            "CertificatePolicies": [{"CertPolicyId": "1.2.3.4"}],
        },
    }
    assert refused(
        pca.issue_certificate, CertificateAuthorityArn=arn, Csr=csr, SigningAlgorithm="SHA256WITHRSA", Validity=YEAR,
        ApiPassthrough=through,
    )[0] == "ValidationException"  # fmt: skip
    blank = issued("BlankEndEntityCertificate_APIPassthrough", ApiPassthrough=through)
    assert (blank.subject.rfc4514_string(), extended(blank)) == ("CN=b.internal,O=B", ["emailProtection"])
    names = blank.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert (names.get_values_for_type(x509.DNSName), len(list(names))) == (["b.internal"], 2)
    assert refused(
        pca.issue_certificate, CertificateAuthorityArn=arn, Csr=csr, SigningAlgorithm="SHA256WITHRSA", Validity=YEAR,
        TemplateArn=TEMPLATE.format("NoSuchCertificate"),
    )[0] == "InvalidArgsException"  # fmt: skip

    now = datetime.datetime.now(datetime.UTC)
    end = now.replace(microsecond=0) + datetime.timedelta(days=30)
    exact = issued("EndEntityCertificate", Validity={"Type": "ABSOLUTE", "Value": int(end.timestamp())})
    assert exact.not_valid_after_utc == end
    assert abs((now - exact.not_valid_before_utc).total_seconds() - 3600) < 60
    dated = issued("EndEntityCertificate", Validity={"Type": "END_DATE", "Value": int(end.strftime("%Y%m%d%H%M%S"))})
    assert dated.not_valid_after_utc == end
    short = issued("EndEntityCertificate", Validity={"Type": "END_DATE", "Value": int(end.strftime("%y%m%d%H%M%S"))})
    assert short.not_valid_after_utc == end
    months = issued(
        "EndEntityCertificate", SigningAlgorithm="SHA512WITHRSA_PSS", Validity={"Type": "MONTHS", "Value": 2}
    )
    assert 58 <= (months.not_valid_after_utc - now).days <= 62


def test_an_authority_comes_and_goes(cloud: LocalCloud, pca: Any) -> None:
    arn = root(pca)
    place = {"CertificateAuthorityArn": arn}
    csr, _ = request("a.internal")
    leaf = issue(pca, arn, csr)["Arn"]
    assert refused(pca.delete_certificate_authority, **place) == (
        "InvalidStateException",
        "The certificate authority is not in a valid state for deletion.",
    )
    pca.update_certificate_authority(**place, Status="DISABLED")
    asked = {**place, "Csr": csr, "SigningAlgorithm": "SHA256WITHRSA", "Validity": YEAR}
    assert refused(pca.issue_certificate, **asked)[0] == "InvalidStateException"
    pca.delete_certificate_authority(**place, PermanentDeletionTimeInDays=7)
    assert status(pca, arn) == "DELETED"
    assert refused(pca.get_certificate, **place, CertificateArn=leaf) == (
        "InvalidStateException",
        f"The certificate authority {arn} is not in the correct state to have issued certificates.",
    )
    assert refused(pca.update_certificate_authority, **place, Status="ACTIVE") == (
        "InvalidStateException",
        "The certificate authority must be in the ACTIVE or DISABLED state to be updated",
    )
    pca.restore_certificate_authority(**place)
    assert status(pca, arn) == "DISABLED"
    pca.update_certificate_authority(**place, Status="ACTIVE")
    assert issue(pca, arn, csr)
    pca.update_certificate_authority(**place, Status="DISABLED")
    pca.delete_certificate_authority(**place, PermanentDeletionTimeInDays=7)
    cloud.kill()
    cloud.start()
    cloud.advance(6 * 86_400)
    assert [one["Status"] for one in pca.list_certificate_authorities()["CertificateAuthorities"]] == ["DELETED"]
    cloud.advance(2 * 86_400)
    assert refused(pca.describe_certificate_authority, **place)[0] == "ResourceNotFoundException"

    kept = root(pca)
    place = {"CertificateAuthorityArn": kept}
    grant = {**place, "Principal": "acm.amazonaws.com", "Actions": ["IssueCertificate", "GetCertificate"]}
    pca.create_permission(**grant)
    assert refused(pca.create_permission, **grant)[0] == "PermissionAlreadyExistsException"
    (found,) = pca.list_permissions(**place)["Permissions"]
    assert (found["SourceAccount"], found["Actions"]) == ("000000000000", ["IssueCertificate", "GetCertificate"])
    pca.delete_permission(**place, Principal="acm.amazonaws.com")
    assert pca.list_permissions(**place)["Permissions"] == []
    statement = {"Effect": "Allow", "Principal": {"AWS": "111111111111"}, "Action": "acm-pca:*", "Resource": kept}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert refused(pca.put_policy, ResourceArn=kept, Policy="{}")[0] == "InvalidPolicyException"
    pca.put_policy(ResourceArn=kept, Policy=policy)
    assert pca.get_policy(ResourceArn=kept)["Policy"] == policy
    pca.delete_policy(ResourceArn=kept)
    assert refused(pca.get_policy, ResourceArn=kept)[0] == "ResourceNotFoundException"
    pca.tag_certificate_authority(**place, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    pca.untag_certificate_authority(**place, Tags=[{"Key": "a", "Value": "9"}, {"Key": "b"}])
    assert pca.list_tags(**place)["Tags"] == [{"Key": "a", "Value": "1"}]


def test_revocations_are_listed_and_reported(cloud: LocalCloud, pca: Any) -> None:
    s3 = cloud.client("s3")
    crl = {"CrlConfiguration": {"Enabled": True, "ExpirationInDays": 4, "S3BucketName": "lists"}}
    crl["CrlConfiguration"]["S3ObjectAcl"] = "BUCKET_OWNER_FULL_CONTROL"
    with pytest.raises(ClientError, match="InvalidArgsException"):
        created(pca, "Root", RevocationConfiguration=crl)
    with pytest.raises(ClientError, match="does not implement CreateCertificateAuthority with OcspConfiguration"):
        created(pca, "Root", RevocationConfiguration={"OcspConfiguration": {"Enabled": True}})
    s3.create_bucket(Bucket="lists")
    arn = root(pca, RevocationConfiguration=crl)
    place = {"CertificateAuthorityArn": arn}
    csr, _ = request("a.internal")
    leaf = issue(pca, arn, csr)
    certificate = read(leaf["Certificate"])
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name is not None
    url = points[0].full_name[0].value

    def listed() -> x509.CertificateRevocationList:
        return x509.load_der_x509_crl(urllib.request.urlopen(url).read())

    assert len(listed()) == 0
    serial = f"{certificate.serial_number:x}"
    pca.revoke_certificate(**place, CertificateSerial=serial, RevocationReason="KEY_COMPROMISE")
    (entry,) = listed()
    assert entry.serial_number == certificate.serial_number
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise
    own = read(pca.get_certificate_authority_certificate(**place)["Certificate"])
    assert listed().is_signature_valid(own.public_key())  # type: ignore[arg-type]
    again = {**place, "CertificateSerial": serial, "RevocationReason": "SUPERSEDED"}
    assert refused(pca.revoke_certificate, **again)[0] == "RequestAlreadyProcessedException"
    again["CertificateSerial"] = f"{own.serial_number:x}"
    assert refused(pca.revoke_certificate, **again) == (
        "InvalidRequestException",
        "Self-signed certificate can not be revoked",
    )
    asked = {**place, "S3BucketName": "lists"}
    report = pca.create_certificate_authority_audit_report(**asked, AuditReportResponseFormat="JSON")
    found = pca.describe_certificate_authority_audit_report(**place, AuditReportId=report["AuditReportId"])
    assert (found["AuditReportStatus"], found["S3Key"]) == ("SUCCESS", report["S3Key"])
    rows = json.loads(s3.get_object(Bucket="lists", Key=report["S3Key"])["Body"].read())
    assert [row.get("revocationReason") for row in rows] == [None, "KEY_COMPROMISE"]
    assert rows[1]["certificateArn"] == leaf["Arn"]
    report = pca.create_certificate_authority_audit_report(**asked, AuditReportResponseFormat="CSV")
    text = s3.get_object(Bucket="lists", Key=report["S3Key"])["Body"].read().decode()
    assert [row["subject"] for row in csv.DictReader(text.splitlines())] == ["CN=Root,O=Shop,C=DE", "CN=a.internal"]


def test_acm_issues_from_a_private_authority(cloud: LocalCloud, pca: Any, tmp_path: Path) -> None:
    acm = cloud.client("acm")
    waiting = created(pca, "Waiting")
    arn = acm.request_certificate(DomainName="a.internal", CertificateAuthorityArn=waiting)["CertificateArn"]
    shown = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert (shown["Status"], shown["FailureReason"]) == ("FAILED", "PCA_INVALID_STATE")
    authority = root(pca)
    arn = acm.request_certificate(DomainName="shop.internal", CertificateAuthorityArn=authority)["CertificateArn"]
    shown = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert (shown["Status"], shown["Type"], shown["Issuer"]) == ("ISSUED", "PRIVATE", "Shop")
    assert (shown["CertificateAuthorityArn"], "DomainValidationOptions" in shown) == (authority, False)
    assert refused(acm.export_certificate, CertificateArn=arn, Passphrase=b"pa$$word")[0] == "ValidationException"
    exported = acm.export_certificate(CertificateArn=arn, Passphrase=b"open sesame")
    trusted = pca.get_certificate_authority_certificate(CertificateAuthorityArn=authority)["Certificate"]
    assert exported["CertificateChain"] == trusted + "\n"
    chain, key = exported["Certificate"] + exported["CertificateChain"], exported["PrivateKey"].encode()
    assert shake_hands(tmp_path, chain, key, "open sesame", trusted, "shop.internal") == "TLSv1.3"
    acm.renew_certificate(CertificateArn=arn)
    renewed = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert (renewed["Serial"] != shown["Serial"], renewed["Issuer"]) == (True, "Shop")


def test_a_stack_has_an_authority(cloud: LocalCloud, pca: Any) -> None:
    stacks, acm = cloud.client("cloudformation"), cloud.client("acm")
    authority = {"Ref": "CA"}
    resources: dict[str, Any] = {
        "CA": {
            "Type": "AWS::ACMPCA::CertificateAuthority",
            "Properties": {
                "Type": "ROOT",
                "KeyAlgorithm": "RSA_2048",
                "SigningAlgorithm": "SHA256WITHRSA",
                "Subject": {"CommonName": "Stack"},
            },
        },
        "Own": {
            "Type": "AWS::ACMPCA::Certificate",
            "Properties": {
                "CertificateAuthorityArn": authority,
                "CertificateSigningRequest": {"Fn::GetAtt": ["CA", "CertificateSigningRequest"]},
                "SigningAlgorithm": "SHA256WITHRSA",
                "TemplateArn": {"Fn::Sub": "arn:${AWS::Partition}:acm-pca:::template/RootCACertificate/V1"},
                "Validity": {"Type": "YEARS", "Value": 10},
            },
        },
        "Activation": {
            "Type": "AWS::ACMPCA::CertificateAuthorityActivation",
            "Properties": {
                "CertificateAuthorityArn": authority,
                "Certificate": {"Fn::GetAtt": ["Own", "Certificate"]},
                "Status": "ACTIVE",
            },
        },
        "Permission": {
            "Type": "AWS::ACMPCA::Permission",
            "Properties": {
                "CertificateAuthorityArn": authority,
                "Actions": ["IssueCertificate", "GetCertificate", "ListPermissions"],
                "Principal": "acm.amazonaws.com",
            },
        },
        "Leaf": {
            "Type": "AWS::CertificateManager::Certificate",
            "DependsOn": "Activation",
            "Properties": {"CertificateAuthorityArn": authority, "DomainName": "a.stack.internal"},
        },
    }
    stacks.create_stack(StackName="s", TemplateBody=json.dumps({"Resources": resources}))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    made = {
        one["LogicalResourceId"]: one["PhysicalResourceId"]
        for one in stacks.describe_stack_resources(StackName="s")["StackResources"]
    }
    assert status(pca, made["CA"]) == "ACTIVE"
    assert acm.describe_certificate(CertificateArn=made["Leaf"])["Certificate"]["Issuer"] == "Stack"
    resources["CA"]["Properties"]["Tags"] = [{"Key": "a", "Value": "1"}]
    stacks.update_stack(StackName="s", TemplateBody=json.dumps({"Resources": resources}))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert pca.list_tags(CertificateAuthorityArn=made["CA"])["Tags"] == [{"Key": "a", "Value": "1"}]
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert status(pca, made["CA"]) == "DELETED"


def test_a_policy_lets_callers_in() -> None:
    with LocalCloud("--auth", "enforce") as cloud:
        owner = root_of(cloud)
        iam, pca = cloud.client("iam", **owner), cloud.client("acm-pca", **owner)
        user = iam.create_user(UserName="ann")["User"]["Arn"]
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        ann = cloud.client("acm-pca", access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])
        arn = root(pca, curve=True)
        csr, _ = request("a.internal")
        asked = {"Csr": csr, "SigningAlgorithm": "SHA256WITHECDSA", "Validity": YEAR}
        # The template's ARN comes first and is not what the call is about.
        asked = {"TemplateArn": TEMPLATE.format("EndEntityCertificate"), "CertificateAuthorityArn": arn, **asked}
        assert refused(ann.issue_certificate, **asked)[0] == "AccessDeniedException"
        statement = {"Effect": "Allow", "Principal": {"AWS": user}, "Action": "acm-pca:IssueCertificate"}
        policy = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": arn}]}
        pca.put_policy(ResourceArn=arn, Policy=json.dumps(policy))
        issued = ann.issue_certificate(**asked)["CertificateArn"]
        denied = {"CertificateAuthorityArn": arn, "CertificateArn": issued}
        assert refused(ann.get_certificate, **denied)[0] == "AccessDeniedException"
