"""Flow logs: what is asked of them, and their records of packets between real tasks (root, nftables, bwrap)."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_ec2_guarding import PORT, Network, image, soon

from cloudlet.engines.containers.network import HostReach
from cloudlet.testing import LocalCloud

__all__ = ["image"]

ROLE = "arn:aws:iam::000000000000:role/logs"
FORMAT = "${version} ${interface-id} ${srcaddr} ${dstaddr} ${dstport} ${protocol} ${action} ${flow-direction}"
FORMAT += " ${tcp-flags} ${packets} ${log-status} ${subnet-id} ${ecs-cluster-name} ${instance-id}"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """A cloud that counts packets."""
    if not HostReach.possible():
        pytest.skip("needs root, with ip, nft and nsenter")
    if shutil.which("bwrap") is None:
        pytest.skip("needs bwrap")
    monkeypatch.setenv("CLOUDLET_ENGINE", "processes")
    with LocalCloud() as running:
        yield running
        print(running.log)


def forward(cloud: LocalCloud, seconds: float) -> None:
    cloud.control("clock", {"advance": seconds})


def records(cloud: LocalCloud, group: str, stream: str) -> list[dict[str, str]]:
    """The records of a stream, by the names of their fields."""
    try:
        events = cloud.client("logs").get_log_events(logGroupName=group, logStreamName=stream)["events"]
    except ClientError:
        return []
    names = [name[2:-1] for name in FORMAT.split()]
    return [dict(zip(names, event["message"].split(), strict=True)) for event in events]


def test_packets_between_tasks_become_records(counted: LocalCloud, image: str) -> None:
    network = Network(counted, image)
    ec2 = network.ec2
    ask: dict[str, Any] = {"ResourceType": "VPC", "ResourceIds": [network.vpc], "MaxAggregationInterval": 60}
    to_group = {"TrafficType": "ALL", "LogGroupName": "flows", "DeliverLogsPermissionArn": ROLE, "LogFormat": FORMAT}
    (log,) = ec2.create_flow_logs(**ask, **to_group)["FlowLogIds"]
    counted.client("s3").create_bucket(Bucket="flows")
    to_bucket = {"TrafficType": "REJECT", "LogDestinationType": "s3", "LogDestination": "arn:aws:s3:::flows/here"}
    ec2.create_flow_logs(**ask, **to_bucket)
    client, server = network.group("client"), network.group("server")
    rule = {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "UserIdGroupPairs": [{"GroupId": client}]}
    ec2.authorize_security_group_ingress(GroupId=server, IpPermissions=[rule])
    source, other, target = network.task(client), network.task(server), network.task(server)
    shown = ec2.describe_network_interfaces()["NetworkInterfaces"]
    interfaces = {one["PrivateIpAddress"]: one["NetworkInterfaceId"] for one in shown}
    at_target = f"{interfaces[target]}-all"
    assert soon(lambda: network.reaches(source, target))
    assert not network.reaches(other, target)
    # The kernel counts through a kill.
    counted.kill()
    counted.start()
    network.ec2, network.ecs = counted.client("ec2"), counted.client("ecs")
    forward(counted, 61)
    assert soon(lambda: len(records(counted, "flows", at_target)) >= 3)
    found = records(counted, "flows", at_target)
    came = next(one for one in found if one["srcaddr"] == source)
    assert came | {"packets": ""} == {
        "version": "7",
        "interface-id": interfaces[target],
        "srcaddr": source,
        "dstaddr": target,
        "dstport": str(PORT),
        "protocol": "6",
        "action": "ACCEPT",
        "flow-direction": "ingress",
        "tcp-flags": "3",
        "packets": "",
        "log-status": "OK",
        "subnet-id": network.subnet,
        "ecs-cluster-name": "c",
        "instance-id": "-",
    }
    assert int(came["packets"]) >= 3
    answered = next(one for one in found if one["dstaddr"] == source)
    assert (answered["action"], answered["flow-direction"], answered["tcp-flags"]) == ("ACCEPT", "egress", "19")
    refused = next(one for one in found if one["srcaddr"] == other)
    assert (refused["action"], refused["tcp-flags"]) == ("REJECT", "2")

    # The same refusal, and nothing that was let through, is in the bucket.
    s3 = counted.client("s3")
    listed = s3.list_objects_v2(Bucket="flows", Prefix="here/AWSLogs/000000000000/vpcflowlogs/us-east-1/")
    files = [s3.get_object(Bucket="flows", Key=one["Key"])["Body"].read() for one in listed["Contents"]]
    texts = [gzip.decompress(file) for file in files]
    lines = [line for text in texts for line in text.decode().splitlines()]
    assert lines[0].startswith("version account-id interface-id srcaddr")
    assert any(f" {other} {target} " in line and line.endswith("REJECT OK") for line in lines)
    assert not any("ACCEPT" in line for line in lines)

    # Silence is told too, and a deleted log writes nothing more.
    forward(counted, 61)
    assert soon(lambda: records(counted, "flows", at_target)[-1]["log-status"] == "NODATA")
    (described,) = network.ec2.describe_flow_logs(FlowLogIds=[log])["FlowLogs"]
    assert described["DeliverLogsStatus"] == "SUCCESS"
    network.ec2.delete_flow_logs(FlowLogIds=[log])
    before = len(records(counted, "flows", at_target))
    assert network.reaches(source, target)
    forward(counted, 61)
    assert soon(lambda: len(s3.list_objects_v2(Bucket="flows")["Contents"]) > len(listed["Contents"]))
    assert len(records(counted, "flows", at_target)) == before


def test_where_nothing_counts_a_flow_log_says_so() -> None:
    with LocalCloud("--security-groups", "none") as cloud:
        ec2 = cloud.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        ask: dict[str, Any] = {"ResourceType": "VPC", "ResourceIds": [vpc], "TrafficType": "ALL"}
        to_group = {"LogGroupName": "flows", "DeliverLogsPermissionArn": ROLE}
        tags = [{"ResourceType": "vpc-flow-log", "Tags": [{"Key": "a", "Value": "b"}]}]
        (id,) = ec2.create_flow_logs(**ask, **to_group, TagSpecifications=tags)["FlowLogIds"]
        (shown,) = ec2.describe_flow_logs(Filter=[{"Name": "resource-id", "Values": [vpc]}])["FlowLogs"]
        assert (shown["FlowLogStatus"], shown["DeliverLogsStatus"]) == ("ACTIVE", "FAILED")
        assert "switched off" in shown["DeliverLogsErrorMessage"]
        assert (shown["MaxAggregationInterval"], shown["Tags"]) == (600, [{"Key": "a", "Value": "b"}])
        assert shown["LogFormat"].startswith("${version} ${account-id}")
        for wrong, code in (
            ({**ask, **to_group}, "FlowLogAlreadyExists"),
            ({**ask, "LogGroupName": "x"}, "InvalidParameter"),
            ({**ask, **to_group, "LogFormat": "${colour}"}, "InvalidParameter"),
            ({**ask, **to_group, "MaxAggregationInterval": 61}, "InvalidParameter"),
            ({**ask, **to_group, "ResourceIds": ["vpc-0123456789abcdef0"]}, "InvalidVpcID.NotFound"),
        ):
            with pytest.raises(ClientError) as refused:
                ec2.create_flow_logs(**wrong)
            assert refused.value.response["Error"]["Code"] == code
        no_bucket = {"LogDestinationType": "s3", "LogDestination": "arn:aws:s3:::nobody-has-this"}
        assert ec2.describe_flow_logs(FlowLogIds=["fl-0123456789abcdef0"])["FlowLogs"] == []
        (failure,) = ec2.create_flow_logs(**ask, **no_bucket)["Unsuccessful"]
        assert failure["Error"]["Message"] == "LogDestination: nobody-has-this does not exist."
        with pytest.raises(ClientError, match="not found"):
            ec2.delete_flow_logs(FlowLogIds=[id, "fl-0123456789abcdef0"])
        ec2.delete_flow_logs(FlowLogIds=[id])
        assert ec2.describe_flow_logs()["FlowLogs"] == []


def test_a_stack_has_a_flow_log() -> None:
    with LocalCloud() as cloud:
        stacks, ec2 = cloud.client("cloudformation"), cloud.client("ec2")
        properties = {
            "ResourceId": {"Ref": "Net"},
            "ResourceType": "VPC",
            "TrafficType": "ALL",
            "LogGroupName": "flows",
            "DeliverLogsPermissionArn": ROLE,
            "Tags": [{"Key": "a", "Value": "b"}],
        }
        template = {
            "Resources": {
                "Net": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
                "Flows": {"Type": "AWS::EC2::FlowLog", "Properties": properties},
            }
        }
        stacks.create_stack(StackName="net", TemplateBody=json.dumps(template))
        stacks.get_waiter("stack_create_complete").wait(StackName="net", WaiterConfig={"Delay": 1})
        (shown,) = ec2.describe_flow_logs()["FlowLogs"]
        assert shown["ResourceId"].startswith("vpc-")
        properties["Tags"] = [{"Key": "a", "Value": "c"}]
        stacks.update_stack(StackName="net", TemplateBody=json.dumps(template))
        stacks.get_waiter("stack_update_complete").wait(StackName="net", WaiterConfig={"Delay": 1})
        (now,) = ec2.describe_flow_logs()["FlowLogs"]
        tags = {tag["Key"]: tag["Value"] for tag in now["Tags"]}
        assert (now["FlowLogId"], tags["a"]) == (shown["FlowLogId"], "c")
        stacks.delete_stack(StackName="net")
        stacks.get_waiter("stack_delete_complete").wait(StackName="net", WaiterConfig={"Delay": 1})
        assert ec2.describe_flow_logs()["FlowLogs"] == []
