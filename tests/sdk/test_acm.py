"""ACM through boto3: certificates that TLS really takes, imports that are really checked."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from refusals import refused

from cloudlet.testing.local import LocalCloud
from cloudlet.testing.waiting import eventually


@pytest.fixture
def acm(cloud: LocalCloud) -> Any:
    return cloud.client("acm")


def described(acm: Any, arn: str) -> dict[str, Any]:
    return dict(acm.describe_certificate(CertificateArn=arn)["Certificate"])


def subnets(cloud: LocalCloud) -> list[str]:
    return [subnet["SubnetId"] for subnet in cloud.client("ec2").describe_subnets()["Subnets"][:2]]


def issued(acm: Any, **asked: Any) -> str:
    """A certificate that was requested and is issued by now."""
    arn = str(acm.request_certificate(**asked)["CertificateArn"])
    acm.get_waiter("certificate_validated").wait(CertificateArn=arn, WaiterConfig={"Delay": 1})
    return arn


def self_signed(name: str, days: int = 10) -> tuple[bytes, bytes]:
    """A certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=5)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


def shake_hands(folder: Path, chain: str, key: bytes, password: str, authority: str, name: str) -> str:
    """The TLS version between a server with this certificate and a client that trusts the authority."""
    file = folder / "server.pem"
    file.write_bytes(chain.encode() + b"\n" + key)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(file, password=password)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        # The client's alert is an error here too, where it does not trust the server.
        with contextlib.suppress(ssl.SSLError), server_side.wrap_socket(theirs, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    with ssl.create_default_context(cadata=authority).wrap_socket(ours, server_hostname=name) as client:
        version = client.version()
    thread.join()
    return str(version)


def test_issued_certificates_are_real(cloud: LocalCloud, acm: Any, tmp_path: Path) -> None:
    asked = {
        "DomainName": "shop.example.com",
        "SubjectAlternativeNames": ["*.shop.example.com"],
        "ValidationMethod": "DNS",
        "Options": {"Export": "ENABLED"},
        "IdempotencyToken": "once",
        "Tags": [{"Key": "team", "Value": "web"}, {"Key": "bare"}],
    }
    arn = acm.request_certificate(**asked)["CertificateArn"]
    assert acm.request_certificate(**asked)["CertificateArn"] == arn
    assert acm.request_certificate(**asked | {"IdempotencyToken": "twice"})["CertificateArn"] != arn
    waiting = described(acm, arn)
    assert (waiting["Status"], "NotAfter" in waiting) == ("PENDING_VALIDATION", False)
    assert refused(acm.get_certificate, CertificateArn=arn)[0] == "RequestInProgressException"
    acm.get_waiter("certificate_validated").wait(CertificateArn=arn, WaiterConfig={"Delay": 1})
    shown = described(acm, arn)
    assert (shown["Status"], shown["Type"], shown["KeyAlgorithm"]) == ("ISSUED", "AMAZON_ISSUED", "RSA_2048")
    own, wild = shown["DomainValidationOptions"]
    assert own["ResourceRecord"] == wild["ResourceRecord"]
    assert own["ResourceRecord"]["Name"].endswith(".shop.example.com.")
    assert acm.list_tags_for_certificate(CertificateArn=arn)["Tags"] == asked["Tags"]

    authority = urllib.request.urlopen(f"{cloud.endpoint}/_cloudlet/acm/authority.pem").read().decode()
    exported = acm.export_certificate(CertificateArn=arn, Passphrase=b"open sesame")
    chain, key = exported["Certificate"] + exported["CertificateChain"], exported["PrivateKey"].encode()
    for name in ("shop.example.com", "a.shop.example.com"):
        assert shake_hands(tmp_path, chain, key, "open sesame", authority, name) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, chain, key, "open sesame", authority, "other.example.com")

    serial = described(acm, arn)["Serial"]
    acm.renew_certificate(CertificateArn=arn)
    assert described(acm, arn)["Serial"] != serial
    cloud.kill()
    cloud.start()
    assert urllib.request.urlopen(f"{cloud.endpoint}/_cloudlet/acm/authority.pem").read().decode() == authority
    curve = issued(acm, DomainName="ec.example.com", KeyAlgorithm="EC_prime256v1")
    assert described(acm, curve)["KeyAlgorithm"] == "EC_prime256v1"
    assert refused(acm.export_certificate, CertificateArn=curve, Passphrase=b"four")[0] == "ValidationException"
    assert refused(acm.renew_certificate, CertificateArn=curve)[0] == "ValidationException"
    listed = acm.list_certificates(Includes={"keyTypes": ["EC_prime256v1"]})["CertificateSummaryList"]
    assert [each["CertificateArn"] for each in listed] == [curve]
    first = acm.list_certificates(MaxItems=1)
    second = acm.list_certificates(NextToken=first["NextToken"])
    assert len(first["CertificateSummaryList"]) == len(second["CertificateSummaryList"]) == 1
    acm.delete_certificate(CertificateArn=arn)
    assert refused(acm.describe_certificate, CertificateArn=arn)[0] == "ResourceNotFoundException"


def test_a_record_in_a_zone_of_this_cloud_proves_a_name(cloud: LocalCloud, acm: Any) -> None:
    zones, elb = cloud.client("route53"), cloud.client("elbv2")
    zone = zones.create_hosted_zone(Name="example.org", CallerReference="1")["HostedZone"]["Id"]
    arn = acm.request_certificate(
        DomainName="example.org", SubjectAlternativeNames=["*.example.org", "elsewhere.net"], ValidationMethod="DNS"
    )["CertificateArn"]
    gone = acm.request_certificate(DomainName="gone.example.org", ValidationMethod="DNS")["CertificateArn"]
    late = acm.request_certificate(DomainName="late.example.org", ValidationMethod="DNS")["CertificateArn"]
    acm.delete_certificate(CertificateArn=gone)
    time.sleep(1.5)  # longer than names wait that nobody can prove
    own, wild, _ = described(acm, arn)["DomainValidationOptions"]
    assert (own["ValidationStatus"], own["ResourceRecord"]) == ("PENDING_VALIDATION", wild["ResourceRecord"])
    balancer = elb.create_load_balancer(Name="b", Subnets=subnets(cloud))["LoadBalancers"][0]["LoadBalancerArn"]
    listener = {
        "LoadBalancerArn": balancer,
        "Protocol": "HTTPS",
        "Port": 8443,
        "Certificates": [{"CertificateArn": arn}],
    }
    answer = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]
    assert refused(elb.create_listener, DefaultActions=answer, **listener) == (
        "UnsupportedCertificate",
        f"The certificate '{arn}' must have a fully-qualified domain name, a supported signature, and a supported key "
        "size.",
    )
    cloud.kill()
    cloud.start()
    assert described(acm, arn)["Status"] == "PENDING_VALIDATION"
    record = {
        "Name": own["ResourceRecord"]["Name"],
        "Type": "CNAME",
        "TTL": 60,
        "ResourceRecords": [{"Value": "wrong.example."}],
    }
    for value in ("wrong.example.", own["ResourceRecord"]["Value"]):
        assert described(acm, arn)["Status"] == "PENDING_VALIDATION"
        record["ResourceRecords"] = [{"Value": value}]
        batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
        zones.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
    eventually(lambda: described(acm, arn)["Status"] == "ISSUED", 5)
    assert {option["ValidationStatus"] for option in described(acm, arn)["DomainValidationOptions"]} == {"SUCCESS"}
    cloud.advance(73 * 3600)
    eventually(lambda: described(acm, late)["Status"] == "VALIDATION_TIMED_OUT", 5)


def test_what_nobody_can_prove_is_issued_also_after_a_kill(cloud: LocalCloud, acm: Any) -> None:
    arn = acm.request_certificate(DomainName="nowhere.example.com")["CertificateArn"]
    cloud.kill()
    cloud.start()
    eventually(lambda: described(acm, arn)["Status"] == "ISSUED", 10)
    assert acm.get_certificate(CertificateArn=arn)["Certificate"].startswith("-----BEGIN CERTIFICATE-----")


def test_imports_are_checked(cloud: LocalCloud, acm: Any) -> None:
    body, key = self_signed("api.example.com")
    other, other_key = self_signed("other.example.com")
    expired, expired_key = self_signed("old.example.com", days=1)
    bring = acm.import_certificate
    for parameters in (
        {"Certificate": body, "PrivateKey": other_key},
        {"Certificate": body + other, "PrivateKey": key},
        {"Certificate": b"nonsense", "PrivateKey": key},
        {"Certificate": body, "PrivateKey": b"nonsense"},
        {"Certificate": body, "PrivateKey": key, "CertificateChain": other},
        {"Certificate": expired, "PrivateKey": expired_key},
    ):
        assert refused(bring, **parameters)[0] == "ValidationException"
    assert acm.list_certificates(Includes={"keyTypes": ["EC_prime256v1"]})["CertificateSummaryList"] == []
    arn = bring(Certificate=body, PrivateKey=key, Tags=[{"Key": "a", "Value": "b"}])["CertificateArn"]
    shown = described(acm, arn)
    assert (shown["Type"], shown["DomainName"], "ImportedAt" in shown) == ("IMPORTED", "api.example.com", True)
    assert acm.get_certificate(CertificateArn=arn)["Certificate"] == body.decode()
    assert bring(CertificateArn=arn, Certificate=other, PrivateKey=other_key)["CertificateArn"] == arn
    assert described(acm, arn)["DomainName"] == "other.example.com"
    cloud.advance(30 * 86_400)
    assert described(acm, arn)["Status"] == "EXPIRED"


def test_a_stack_proves_its_names_itself(cloud: LocalCloud, acm: Any) -> None:
    stacks = cloud.client("cloudformation")
    zone = cloud.client("route53").create_hosted_zone(Name="in.example", CallerReference="1")["HostedZone"]["Id"]
    options = [{"DomainName": "in.example", "HostedZoneId": zone.rpartition("/")[2]}]
    properties = {"DomainName": "in.example", "ValidationMethod": "DNS", "DomainValidationOptions": options}
    template = {"Resources": {"Cert": {"Type": "AWS::CertificateManager::Certificate", "Properties": properties}}}
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    (made,) = stacks.describe_stack_resources(StackName="s")["StackResources"]
    assert described(acm, made["PhysicalResourceId"])["Status"] == "ISSUED"
    records = cloud.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    assert [record["TTL"] for record in records if record["Type"] == "CNAME"] == [300]


def test_a_stack_waits_for_its_certificate_and_can_be_called_off(cloud: LocalCloud, acm: Any) -> None:
    stacks, zones = cloud.client("cloudformation"), cloud.client("route53")
    zone = zones.create_hosted_zone(Name="slow.example", CallerReference="1")["HostedZone"]["Id"]
    properties = {"DomainName": "slow.example", "ValidationMethod": "DNS"}
    template = {"Resources": {"Cert": {"Type": "AWS::CertificateManager::Certificate", "Properties": properties}}}
    for name in ("kept", "gone"):
        stacks.create_stack(StackName=name, TemplateBody=json.dumps(template))
    eventually(lambda: len(acm.list_certificates()["CertificateSummaryList"]) == 2, 10)
    stacks.delete_stack(StackName="gone")
    stacks.get_waiter("stack_delete_complete").wait(StackName="gone", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    cloud.kill()
    cloud.start()
    (left,) = acm.list_certificates()["CertificateSummaryList"]
    assert stacks.describe_stacks(StackName="kept")["Stacks"][0]["StackStatus"] == "CREATE_IN_PROGRESS"
    wanted = described(acm, left["CertificateArn"])["DomainValidationOptions"][0]["ResourceRecord"]
    record = {"Name": wanted["Name"], "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": wanted["Value"]}]}
    batch = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    zones.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)
    stacks.get_waiter("stack_create_complete").wait(StackName="kept", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    (made,) = acm.list_certificates()["CertificateSummaryList"]
    assert (made["CertificateArn"], made["Status"]) == (left["CertificateArn"], "ISSUED")


def test_a_stack_has_a_certificate(cloud: LocalCloud, acm: Any) -> None:
    stacks = cloud.client("cloudformation")
    properties: dict[str, Any] = {"DomainName": "app.example.com", "ValidationMethod": "DNS"}
    template = {"Resources": {"Cert": {"Type": "AWS::CertificateManager::Certificate", "Properties": properties}}}
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    (made,) = stacks.describe_stack_resources(StackName="s")["StackResources"]
    arn = made["PhysicalResourceId"]
    properties |= {"CertificateTransparencyLoggingPreference": "DISABLED", "Tags": [{"Key": "a", "Value": "1"}]}
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert described(acm, arn)["Options"]["CertificateTransparencyLoggingPreference"] == "DISABLED"
    assert acm.list_tags_for_certificate(CertificateArn=arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert acm.list_certificates()["CertificateSummaryList"] == []
