"""What EC2 keeps as records: what a traffic mirror would use, and settings."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud


def test_what_a_traffic_mirror_would_use_is_a_record(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    made = ec2.create_traffic_mirror_filter(Description="web")["TrafficMirrorFilter"]
    which = {"TrafficMirrorFilterId": made["TrafficMirrorFilterId"]}
    rule: dict[str, Any] = {
        "TrafficDirection": "ingress",
        "RuleNumber": 10,
        "RuleAction": "accept",
        "Protocol": 6,
        "DestinationPortRange": {"FromPort": 80, "ToPort": 80},
        "SourceCidrBlock": "0.0.0.0/0",
        "DestinationCidrBlock": "10.0.0.0/8",
    }
    one = ec2.create_traffic_mirror_filter_rule(**which, **rule)["TrafficMirrorFilterRule"]
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        ec2.create_traffic_mirror_filter_rule(**which, **rule)
    other = {"TrafficMirrorFilterRuleId": one["TrafficMirrorFilterRuleId"]}
    ec2.modify_traffic_mirror_filter_rule(**other, RuleAction="reject", RemoveFields=["destination-port-range"])
    (shown,) = ec2.describe_traffic_mirror_filters()["TrafficMirrorFilters"]
    (rule_shown,) = shown["IngressFilterRules"]
    assert (shown["EgressFilterRules"], rule_shown["RuleAction"]) == ([], "reject")
    assert "DestinationPortRange" not in rule_shown
    assert len(ec2.describe_traffic_mirror_filter_rules(**which)["TrafficMirrorFilterRules"]) == 1

    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    interface = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        ec2.create_traffic_mirror_target()
    target = ec2.create_traffic_mirror_target(NetworkInterfaceId=interface)["TrafficMirrorTarget"]
    assert target["Type"] == "network-interface"
    session = {"NetworkInterfaceId": interface, "TrafficMirrorTargetId": target["TrafficMirrorTargetId"]}
    with pytest.raises(ClientError, match="does not implement ec2 CreateTrafficMirrorSession"):
        ec2.create_traffic_mirror_session(**session, **which, SessionNumber=1)
    ec2.delete_traffic_mirror_target(TrafficMirrorTargetId=target["TrafficMirrorTargetId"])
    ec2.delete_traffic_mirror_filter(**which)
    assert ec2.describe_traffic_mirror_filter_rules()["TrafficMirrorFilterRules"] == []


def test_encryption_by_default_is_a_setting(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    assert not ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    assert ec2.enable_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    key = cloud.client("kms").create_key()["KeyMetadata"]
    assert ec2.modify_ebs_default_kms_key_id(KmsKeyId=key["KeyId"])["KmsKeyId"] == key["Arn"]
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == key["Arn"]
    assert ec2.reset_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    elsewhere = cloud.client("ec2", "eu-west-1")
    assert not elsewhere.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    with pytest.raises(ClientError, match="The ID 'i-nothing' is not valid"):
        ec2.create_tags(Resources=["i-nothing"], Tags=[{"Key": "a", "Value": "b"}])
    with pytest.raises(ClientError, match=r"the parameter resourceIdSet$"):
        ec2.create_tags(Resources=[], Tags=[{"Key": "a", "Value": "b"}])


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bwrap, in which instances run")
def test_an_interface_is_attached_to_nothing_else(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    interface = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    attach = {"NetworkInterfaceId": interface, "DeviceIndex": 1}
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        ec2.attach_network_interface(**attach, InstanceId="i-0123456789abcdef0")
    made = ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1, InstanceType="t3.micro")
    instance = made["Instances"][0]
    with pytest.raises(ClientError, match="does not implement AttachNetworkInterface"):
        ec2.attach_network_interface(**attach, InstanceId=instance["InstanceId"])
    (own,) = instance["NetworkInterfaces"]
    with pytest.raises(ClientError, match="device index 0 and networkCard index 0 cannot be detached"):
        ec2.detach_network_interface(AttachmentId=own["Attachment"]["AttachmentId"])
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])


def test_types_have_the_sizes_that_aws_has(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    (big,) = ec2.describe_instance_types(InstanceTypes=["c5.9xlarge"])["InstanceTypes"]
    assert (big["VCpuInfo"]["DefaultVCpus"], big["MemoryInfo"]["SizeInMiB"]) == (36, 72 * 1024)
    (small,) = ec2.describe_instance_types(InstanceTypes=["c5.2xlarge"])["InstanceTypes"]
    assert (small["Hypervisor"], small["VCpuInfo"]["DefaultVCpus"]) == ("nitro", 8)
    with pytest.raises(ClientError, match="InvalidInstanceType"):
        ec2.describe_instance_types(InstanceTypes=["c5.8xlarge"])
