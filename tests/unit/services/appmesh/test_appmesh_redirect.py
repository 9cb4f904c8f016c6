"""proxyConfiguration as rules, and images by their names."""

from __future__ import annotations

import pytest

from cloudlet.services.appmesh.environment import resource_of
from cloudlet.services.appmesh.images import is_envoy_image
from cloudlet.services.appmesh.redirect import Redirect, redirect_of, rules


def test_a_proxy_configuration() -> None:
    given = {
        "IgnoredUID": "1400",
        "ProxyIngressPort": "16000",
        "ProxyEgressPort": "16001",
        "AppPorts": "8080, 9090",
        "EgressIgnoredIPs": "10.0.0.0/8,192.0.2.7,2001:db8::/32",
        "EgressIgnoredPorts": "22",
        "IgnoredGID": "",
    }
    made = redirect_of({"name": name, "value": value} for name, value in given.items())
    assert made == Redirect(1400, None, 16000, 16001, (8080, 9090), ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32"), (22,))
    script = rules(made)
    for rule in (
        "meta skuid 1400 return",
        "ip daddr { 169.254.170.2, 169.254.169.254, 10.0.0.0/8, 192.0.2.7 } return",
        "ip6 daddr { fd00:ec2::254, 2001:db8::/32 } return",
        "tcp dport { 22 } return",
        "meta l4proto tcp redirect to :16001",
        "tcp dport { 8080, 9090 } redirect to :16000",
    ):
        assert rule in script
    with pytest.raises(ValueError, match="many"):
        redirect_of([{"name": "AppPorts", "value": "many"}])
    assert "prerouting priority -100;  }" in rules(Redirect())


@pytest.mark.parametrize(
    ("image", "is_ours"),
    [
        ("public.ecr.aws/appmesh/aws-appmesh-envoy:v1.29.12.1-prod", True),
        ("840364872350.dkr.ecr.us-west-2.amazonaws.com/aws-appmesh-envoy:v1.15.1.0-prod", True),
        ("840364872350.dkr.ecr.us-west-2.amazonaws.com/aws-appmesh-envoy", True),
        ("public.ecr.aws/appmesh/aws-appmesh-envoy@sha256:0a", True),
        ("public.ecr.aws/appmesh/aws-appmesh-proxy-route-manager:v7-prod", False),
        ("envoyproxy/envoy:v1.29", False),
        ("111122223333.dkr.ecr.us-west-2.amazonaws.com/mine/aws-appmesh-envoy:1", False),
    ],
)
def test_images(image: str, is_ours: bool) -> None:
    assert is_envoy_image(image) == is_ours


def test_what_an_envoy_is() -> None:
    node = "mesh/shop/virtualNode/front"
    assert resource_of({"APPMESH_VIRTUAL_NODE_NAME": node}) == node
    assert resource_of({"APPMESH_RESOURCE_ARN": f"arn:aws:appmesh:us-east-1:000000000000:{node}"}) == node
    assert resource_of({"APPMESH_RESOURCE_ARN": "mesh/shop/virtualGateway/in"}) == "mesh/shop/virtualGateway/in"
    assert resource_of({"APPMESH_RESOURCE_ARN": "mesh/shop"}) == ""
    assert resource_of({}) == ""
