"""Every attribute that AWS's model tells of is known, and its default is one of its values."""

from __future__ import annotations

import re
from collections.abc import Mapping

import botocore.session
import pytest
from test_elbv2_envoy import fixed, group, listener, load_balancer

from cloudlet.services.elbv2.attributes import Attribute, of_group, of_listener, of_load_balancer

_GATEWAY = {"send_tcp_reset.on_idle_timeout.enabled"}  # of listeners of gateway load balancers, which are not there


def told(shape: str) -> set[str]:
    """The names in the documentation of a kind of attribute."""
    text = botocore.session.get_session().get_service_model("elbv2").shape_for(shape).members["Key"].documentation
    names = re.findall(r"<code>([a-z0-9_]+(?:[.][a-z0-9_]+)+)</code>(?: -| \u2013)", text)
    assert len(names) > 10
    return set(names)


def groups() -> list[Mapping[str, Attribute]]:
    made = [group("one", protocol) for protocol in ("HTTP", "TCP", "TLS", "UDP", "TCP_UDP", "GENEVE")]
    made += [group("one", version="HTTP2"), group("one", version="GRPC"), group("one", "TCP", type="instance")]
    return [of_group(one) for one in (*made, group("one", "", type="lambda"))]


def listeners() -> list[Mapping[str, Attribute]]:
    protocols = ("HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP")
    return [of_listener(listener(load_balancer("front"), "l", one, 80, fixed(200))) for one in protocols]


def load_balancers() -> list[Mapping[str, Attribute]]:
    return [of_load_balancer(load_balancer("front")), of_load_balancer(load_balancer("net", "network"))]


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ("LoadBalancerAttribute", load_balancers()),
        ("ListenerAttribute", listeners()),
        ("TargetGroupAttribute", groups()),
    ],
)
def test_all_are_known(shape: str, known: list[Mapping[str, Attribute]]) -> None:
    assert told(shape) - _GATEWAY == {name for one in known for name in one}


def test_defaults_are_taken() -> None:
    for known in (*load_balancers(), *listeners(), *groups()):
        for name, one in known.items():
            assert one.values.takes(one.default), name
            assert one.refused is None or not one.refused.takes(one.default), name
            assert one.effect, name
