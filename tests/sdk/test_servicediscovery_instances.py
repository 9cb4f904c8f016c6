"""Instances of EC2 as instances of Cloud Map's services."""

from __future__ import annotations

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from test_ec2_instances import cloud, image, in_state

from cloudlet.testing import LocalCloud

__all__ = ["cloud"]


def test_an_instance_of_ec2_is_found_at_its_address(cloud: LocalCloud) -> None:
    ec2, discovery = cloud.client("ec2"), cloud.client("servicediscovery", config=Config(inject_host_prefix=False))
    launched = ec2.run_instances(ImageId=image(cloud), InstanceType="t3.micro", MinCount=1, MaxCount=1)
    id = launched["Instances"][0]["InstanceId"]
    address = in_state(cloud, id, "running")["PrivateIpAddress"]
    discovery.create_http_namespace(Name="shop")
    namespace = discovery.list_namespaces()["Namespaces"][0]["Id"]
    service = discovery.create_service(Name="web", NamespaceId=namespace)["Service"]["Id"]
    place = {"ServiceId": service, "InstanceId": "a"}
    discovery.register_instance(**place, Attributes={"AWS_EC2_INSTANCE_ID": id, "zone": "a"})
    (found,) = discovery.discover_instances(NamespaceName="shop", ServiceName="web")["Instances"]
    assert found["Attributes"] == {"AWS_EC2_INSTANCE_ID": id, "AWS_INSTANCE_IPV4": address, "zone": "a"}
    for attributes, words in (
        ({"AWS_EC2_INSTANCE_ID": id, "AWS_INSTANCE_PORT": "80"}, "together with AWS_INSTANCE_PORT"),
        ({"AWS_EC2_INSTANCE_ID": "i-0123456789abcdef0"}, "does not exist"),
    ):
        with pytest.raises(ClientError, match=words):
            discovery.register_instance(**place, Attributes=attributes)
    ec2.terminate_instances(InstanceIds=[id])
    in_state(cloud, id, "terminated")
