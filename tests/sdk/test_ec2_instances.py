"""Instances of EC2 that really run: user data, metadata, states, launch templates, stacks."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing import LocalCloud, eventually

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """A cloud whose instances have networks of their own."""
    missing = [one for one in ("bwrap", "ip", "nft", "nsenter", "curl") if shutil.which(one) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and: {', '.join(missing) or 'nothing more'}")
    monkeypatch.setenv("CLOUDLET_ENGINE", "processes")
    with LocalCloud() as running:
        yield running
        print(running.log)


def image(cloud: LocalCloud, name: str = "/aws/service/ecs/optimized-ami/amazon-linux-2/recommended/image_id") -> str:
    return str(cloud.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])


def profile(cloud: LocalCloud, name: str = "p") -> str:
    iam = cloud.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(_TRUST))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return name


def instance(cloud: LocalCloud, id: str) -> dict[str, Any]:
    return cloud.client("ec2").describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]  # type: ignore[no-any-return]


def in_state(cloud: LocalCloud, id: str, name: str) -> dict[str, Any]:
    eventually(lambda: instance(cloud, id)["State"]["Name"] == name)
    return instance(cloud, id)


def console(cloud: LocalCloud, id: str) -> str:
    return str(cloud.client("ec2").get_console_output(InstanceId=id).get("Output", ""))


def refused(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_user_data_runs_once_as_root_with_the_instances_own_metadata(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    script = """#!/bin/bash -x
id -u
curl -s http://169.254.169.254/latest/meta-data/instance-id; echo
TOKEN=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
curl -s -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/iam/security-credentials/p
echo; echo counted >> /var/lib/count; touch /usr/mine || echo usr is not mine
yum install -y no-such-package || echo no package
systemctl start nginx || echo no nginx
(cd /srv && echo hello > index.html && nohup python3 -m http.server 8080 >/dev/null 2>&1 &)
exit 3
"""
    launched = ec2.run_instances(
        ImageId=image(cloud),
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        UserData=script,
        IamInstanceProfile={"Name": profile(cloud)},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}],
    )["Instances"][0]
    id = launched["InstanceId"]
    assert launched["State"]["Name"] == "pending"
    shown = in_state(cloud, id, "running")
    eventually(lambda: "user data has been run" in console(cloud, id))
    said = console(cloud, id)
    for expected in ("\n0\n", id, '"Code": "Success"', "usr is not mine", "no package", "no nginx"):
        assert expected in said, said
    assert "Failed to run module scripts-user" in said
    address = shown["PublicIpAddress"]
    assert eventually(lambda: _get(f"http://{address}:8080/")) == "hello\n"
    assert shown["Tags"] == [{"Key": "Name", "Value": "web"}]
    assert ec2.describe_volumes()["Volumes"][0]["Attachments"][0]["InstanceId"] == id
    assert ec2.describe_instance_status()["InstanceStatuses"][0]["InstanceStatus"]["Status"] == "ok"

    # Its files outlive a stop; its user data is not run again.
    ec2.stop_instances(InstanceIds=[id])
    in_state(cloud, id, "stopped")
    ec2.modify_instance_attribute(InstanceId=id, InstanceType={"Value": "t3.small"})
    ec2.start_instances(InstanceIds=[id])
    in_state(cloud, id, "running")
    eventually(lambda: console(cloud, id).count("boots, as") == 2)
    assert console(cloud, id).count("user data has been run") == 1

    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": True})
    assert refused(ec2.terminate_instances, InstanceIds=[id]) == "OperationNotPermitted"
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[id])
    gone = in_state(cloud, id, "terminated")
    assert gone["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert ec2.describe_volumes()["Volumes"] == []
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_instances_go_on_when_the_control_plane_is_killed(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    script = "#!/bin/bash\n(cd /srv; date +%s%N > index.html; nohup python3 -m http.server 8080 >/dev/null 2>&1 &)\n"
    answer = ec2.run_instances(ImageId=image(cloud), MinCount=1, MaxCount=1, InstanceType="t2.micro", UserData=script)
    id = answer["Instances"][0]["InstanceId"]
    url = f"http://{in_state(cloud, id, 'running')['PublicIpAddress']}:8080/"
    before = eventually(lambda: _get(url))
    cloud.kill()
    assert _get(url) == before
    cloud.start()
    assert in_state(cloud, id, "running")["PublicIpAddress"] in url
    assert _get(url) == before
    ec2.terminate_instances(InstanceIds=[id])
    in_state(cloud, id, "terminated")
    assert eventually(lambda: _get(url) is None)


def test_launch_templates_have_versions_and_name_images_by_parameters(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    data = {"ImageId": f"resolve:ssm:{name}", "InstanceType": "t3.micro"}
    made = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)["LaunchTemplate"]
    assert refused(ec2.create_launch_template, LaunchTemplateName="web", LaunchTemplateData=data) == (
        "InvalidLaunchTemplateName.AlreadyExistsException"
    )
    ec2.create_launch_template_version(
        LaunchTemplateName="web", SourceVersion="1", LaunchTemplateData={"InstanceType": "t3.small"}
    )
    versions = ec2.describe_launch_template_versions(LaunchTemplateName="web", Versions=["$Latest"])
    assert versions["LaunchTemplateVersions"][0]["LaunchTemplateData"] == {**data, "InstanceType": "t3.small"}
    ec2.modify_launch_template(LaunchTemplateName="web", DefaultVersion="2")
    template = {"LaunchTemplateId": made["LaunchTemplateId"]}
    launched = ec2.run_instances(LaunchTemplate=template, MinCount=1, MaxCount=1)["Instances"][0]
    assert (launched["InstanceType"], launched["ImageId"]) == ("t3.small", image(cloud, name))
    id = launched["InstanceId"]
    in_state(cloud, id, "running")
    ec2.terminate_instances(InstanceIds=[id])
    in_state(cloud, id, "terminated")
    ec2.delete_launch_template(LaunchTemplateName="web")
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []


def test_somebodys_image_is_stood_in_for_and_says_so(cloud: LocalCloud) -> None:
    ec2, ecs = cloud.client("ec2"), cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    launched = ec2.run_instances(
        ImageId="ami-0a1b2c3d",
        InstanceType="t4g.micro",
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 20}}],
        IamInstanceProfile={"Name": profile(cloud)},
        UserData="#!/bin/sh\necho ECS_CLUSTER=c >> /etc/ecs/ecs.config\n",
        InstanceMarketOptions={"MarketType": "spot"},
    )["Instances"][0]
    id = launched["InstanceId"]
    assert (launched["ImageId"], launched["RootDeviceName"]) == ("ami-0a1b2c3d", "/dev/sda1")
    assert (launched["Architecture"], launched["InstanceLifecycle"]) == ("arm64", "spot")
    in_state(cloud, id, "running")
    # It may be one of ECS's: its agent starts where user data has named a cluster.
    eventually(lambda: ecs.list_container_instances(cluster="c")["containerInstanceArns"])
    assert "stands in for it" in console(cloud, id).splitlines()[0]
    assert refused(ec2.stop_instances, InstanceIds=[id]) == "UnsupportedOperation"
    request = ec2.describe_spot_instance_requests()["SpotInstanceRequests"][0]
    assert (request["InstanceId"], request["State"], request["Status"]["Code"]) == (id, "active", "fulfilled")
    ec2.terminate_instances(InstanceIds=[id])
    assert ec2.describe_spot_instance_requests()["SpotInstanceRequests"][0]["State"] == "closed"


def test_an_image_of_ones_own_has_the_files_of_its_instance(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    size = {"MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    installs = "#!/bin/sh\necho installed > /opt/program\n"
    id = ec2.run_instances(ImageId=image(cloud), UserData=installs, **size)["Instances"][0]["InstanceId"]
    in_state(cloud, id, "running")
    eventually(lambda: "user data has been run" in console(cloud, id))
    made = ec2.create_image(InstanceId=id, Name="golden")["ImageId"]
    assert refused(ec2.create_image, InstanceId=id, Name="golden") == "InvalidAMIName.Duplicate"
    ec2.get_waiter("image_available").wait(ImageIds=[made], WaiterConfig={"Delay": 1})
    assert [one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]] == [made]
    ec2.terminate_instances(InstanceIds=[id])
    again = ec2.run_instances(ImageId=made, UserData="#!/bin/sh\ncat /opt/program\n", **size)["Instances"][0]
    in_state(cloud, again["InstanceId"], "running")
    eventually(lambda: "installed" in console(cloud, again["InstanceId"]).splitlines())
    (snapshot,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert (snapshot["State"], snapshot["VolumeSize"]) == ("completed", 30)
    assert refused(ec2.delete_snapshot, SnapshotId=snapshot["SnapshotId"]) == "InvalidSnapshot.InUse"
    ec2.deregister_image(ImageId=made)
    ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    assert refused(ec2.describe_images, ImageIds=[made]) == "InvalidAMIID.NotFound"


def test_a_fleet_is_kept_at_its_size_over_a_kill(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    data = {"ImageId": image(cloud), "InstanceType": "t3.small"}
    ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
    template = {"LaunchTemplateName": "web", "Version": "$Latest"}
    configs = [{"LaunchTemplateSpecification": template, "Overrides": [{"InstanceType": "t3.micro"}]}]
    target = {"TotalTargetCapacity": 2, "OnDemandTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
    fleet = ec2.create_fleet(LaunchTemplateConfigs=configs, TargetCapacitySpecification=target)["FleetId"]

    def members() -> dict[str, dict[str, Any]]:
        found = ec2.describe_fleet_instances(FleetId=fleet)["ActiveInstances"]
        return {one["InstanceId"]: one for one in found}

    before = members()
    assert [one["InstanceType"] for one in before.values()] == ["t3.micro", "t3.micro"]
    assert sum("SpotInstanceRequestId" in one for one in before.values()) == 1
    for id in before:
        in_state(cloud, id, "running")
    cloud.kill()
    cloud.start()
    gone = next(iter(before))
    ec2.terminate_instances(InstanceIds=[gone])
    eventually(lambda: len(members()) == 2 and gone not in members())
    ec2.modify_fleet(FleetId=fleet, TargetCapacitySpecification={"TotalTargetCapacity": 0})
    assert members() == {}
    deleted = ec2.delete_fleets(FleetIds=[fleet], TerminateInstances=True)["SuccessfulFleetDeletions"]
    assert deleted[0]["CurrentFleetState"] == "deleted_terminating"


def test_bad_input_starts_nothing(cloud: LocalCloud) -> None:
    ec2 = cloud.client("ec2")
    good = {"ImageId": image(cloud), "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}
    assert refused(ec2.run_instances, **{**good, "ImageId": "ami-0123"}) == "InvalidAMIID.Malformed"
    assert refused(ec2.describe_images, ImageIds=["ami-0123456789abcdef0"]) == "InvalidAMIID.NotFound"
    assert refused(ec2.run_instances, **{**good, "InstanceType": "t9.huge"}) == "InvalidParameterValue"
    assert refused(ec2.run_instances, **{**good, "InstanceType": "t4g.micro"}) == "InvalidParameterValue"
    assert refused(ec2.run_instances, **good, KeyName="none") == "InvalidKeyPair.NotFound"
    assert refused(ec2.run_instances, **good, SubnetId="subnet-0123456789abcdef0") == "InvalidSubnetID.NotFound"
    assert refused(ec2.run_instances, **good, IamInstanceProfile={"Name": "none"}) == "InvalidParameterValue"
    persistent = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "persistent"}}
    assert refused(ec2.run_instances, **good, InstanceMarketOptions=persistent) == "NotImplemented"
    assert refused(ec2.create_volume, AvailabilityZone="us-east-1a", Size=1) == "NotImplemented"
    assert refused(ec2.start_instances, InstanceIds=["i-0123456789abcdef0"]) == "InvalidInstanceID.NotFound"
    assert ec2.describe_instances()["Reservations"] == []


def test_placement_groups(cloud: LocalCloud) -> None:
    ec2, cloudformation = cloud.client("ec2"), cloud.client("cloudformation")
    made = ec2.create_placement_group(GroupName="near", Strategy="cluster")["PlacementGroup"]
    assert made["GroupId"].startswith("pg-")
    one = {"ImageId": image(cloud), "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
    (started,) = ec2.run_instances(**one, Placement={"GroupId": made["GroupId"]})["Instances"]
    assert started["Placement"]["GroupName"] == "near"
    for call, code in (
        (lambda: ec2.create_placement_group(GroupName="near", Strategy="spread"), "InvalidPlacementGroup.Duplicate"),
        (lambda: ec2.run_instances(**one, Placement={"GroupName": "far"}), "InvalidPlacementGroup.Unknown"),
        (lambda: ec2.describe_placement_groups(GroupNames=["far"]), "InvalidPlacementGroup.Unknown"),
        (lambda: ec2.delete_placement_group(GroupName="near"), "InvalidPlacementGroup.InUse"),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == code
    ec2.terminate_instances(InstanceIds=[started["InstanceId"]])
    in_state(cloud, started["InstanceId"], "terminated")
    ec2.delete_placement_group(GroupName="near")

    group = {"Type": "AWS::EC2::PlacementGroup", "Properties": {"Strategy": "spread"}}
    template = {"Resources": {"Group": group}, "Outputs": {"Name": {"Value": {"Ref": "Group"}}}}
    cloudformation.create_stack(StackName="pg", TemplateBody=json.dumps(template))
    (output,) = eventually(lambda: _ended(cloudformation, "pg"))["Outputs"]
    (shown,) = ec2.describe_placement_groups(GroupNames=[output["OutputValue"]])["PlacementGroups"]
    assert (shown["Strategy"], shown["SpreadLevel"]) == ("spread", "rack")
    cloudformation.delete_stack(StackName="pg")
    eventually(lambda: not ec2.describe_placement_groups()["PlacementGroups"])


def test_a_stack_waits_for_its_instances_signal(cloud: LocalCloud) -> None:
    cloudformation = cloud.client("cloudformation")
    template = {
        "Parameters": {
            "Image": {
                "Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
                "Default": "/aws/service/ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-gp2",
            }
        },
        "Resources": {
            "Profile": {"Type": "AWS::IAM::InstanceProfile", "Properties": {"Roles": [{"Ref": "Role"}]}},
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": _TRUST}},
            "Web": {
                "Type": "AWS::EC2::Instance",
                "CreationPolicy": {"ResourceSignal": {"Timeout": "PT1M"}},
                "Properties": {
                    "ImageId": {"Ref": "Image"},
                    "InstanceType": "t3.nano",
                    "IamInstanceProfile": {"Ref": "Profile"},
                    "UserData": {
                        "Fn::Base64": {
                            "Fn::Sub": "#!/bin/bash\n/opt/aws/bin/cfn-signal -e 0 --stack ${AWS::StackName} "
                            "--resource Web --region ${AWS::Region}\n"
                        }
                    },
                },
            },
            "Public": {"Type": "AWS::EC2::EIP", "Properties": {"InstanceId": {"Ref": "Web"}}},
            "Other": {"Type": "AWS::EC2::EIP"},
        },
        "Outputs": {
            "Id": {"Value": {"Ref": "Web"}},
            "Ip": {"Value": {"Fn::GetAtt": ["Web", "PrivateIp"]}},
            "Public": {"Value": {"Ref": "Public"}},
            "Other": {"Value": {"Fn::GetAtt": ["Other", "AllocationId"]}},
        },
    }
    cloudformation.create_stack(StackName="s", TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"])
    stack = eventually(lambda: _ended(cloudformation, "s"))
    assert stack["StackStatus"] == "CREATE_COMPLETE", cloudformation.describe_stack_events(StackName="s")
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    assert instance(cloud, outputs["Id"])["PrivateIpAddress"] == outputs["Ip"]
    ec2 = cloud.client("ec2")
    assert instance(cloud, outputs["Id"])["PublicIpAddress"] == outputs["Public"]
    (address,) = ec2.describe_addresses(PublicIps=[outputs["Public"]])["Addresses"]
    assert address["InstanceId"] == outputs["Id"]
    ec2.associate_address(AllocationId=outputs["Other"], InstanceId=outputs["Id"])  # it takes the other's place
    assert instance(cloud, outputs["Id"])["PublicIpAddress"] != outputs["Public"]
    cloudformation.delete_stack(StackName="s")
    in_state(cloud, outputs["Id"], "terminated")
    eventually(lambda: not ec2.describe_addresses()["Addresses"])
    with pytest.raises(ClientError, match="The terminated instance"):
        ec2.associate_address(AllocationId=ec2.allocate_address()["AllocationId"], InstanceId=outputs["Id"])


def _ended(cloudformation: Any, name: str) -> dict[str, Any] | None:
    stack: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return None if stack["StackStatus"].endswith("_IN_PROGRESS") else stack


def _get(url: str) -> str | None:
    try:
        return str(urllib.request.urlopen(url, timeout=2).read().decode())
    except OSError:
        return None
