"""What an application load balancer does to requests and answers, by its attributes, conditions and transforms."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from typing import Any

from test_elbv2 import Front, Server, elb, eventually, fixed, forward, group, healthy, refused, rule, servers

from cloudlet.testing.local import LocalCloud

__all__ = ["elb", "servers"]


def set_load_balancer(front: Front, **values: str) -> None:
    pairs = [{"Key": key.replace("__", "."), "Value": value} for key, value in values.items()]
    front.elb.modify_load_balancer_attributes(LoadBalancerArn=front.arn, Attributes=pairs)


def test_headers(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    arn = group(cloud, "shop", servers("a"))
    front = Front(cloud, forward(arn))
    healthy(cloud, arn, 1)
    port = front.port

    def told(**headers: str) -> dict[str, str]:
        return dict(front.get(**headers).json["headers"])

    first, second = told()["x-amzn-trace-id"], told()["x-amzn-trace-id"]
    assert first != second
    given = told(x_amzn_trace_id="Root=1-67891233-abcdef012345678912345678;Sampled=1")["x-amzn-trace-id"]
    assert re.fullmatch("Self=1-[0-9a-f]{8}-[0-9a-f]{24};Root=1-67891233-abcdef012345678912345678;Sampled=1", given)
    assert re.fullmatch(
        "Root=1-[0-9a-f]{8}-[0-9a-f]{24};CalledFrom=app", told(x_amzn_trace_id="CalledFrom=app")["x-amzn-trace-id"]
    )

    assert told(host="a.example")["host"] == f"a.example:{port}"
    assert told(host="a.example:81")["host"] == "a.example:81"
    set_load_balancer(front, routing__http__preserve_host_header__enabled="true")
    eventually(lambda: told(host="a.example")["host"] == "a.example")

    assert told(x_forwarded_for="9.9.9.9")["x-forwarded-for"] == "9.9.9.9,127.0.0.1"
    set_load_balancer(front, routing__http__xff_client_port__enabled="true")
    eventually(lambda: re.fullmatch(r"9\.9\.9\.9,127\.0\.0\.1:\d+", told(x_forwarded_for="9.9.9.9")["x-forwarded-for"]))
    set_load_balancer(front, routing__http__xff_header_processing__mode="preserve")
    eventually(lambda: told(x_forwarded_for="9.9.9.9")["x-forwarded-for"] == "9.9.9.9")
    assert "x-forwarded-for" not in told()
    set_load_balancer(front, routing__http__xff_header_processing__mode="remove")
    eventually(lambda: "x-forwarded-for" not in told(x_forwarded_for="9.9.9.9"))

    assert told(**{"a.b": "kept"})["a.b"] == "kept"
    set_load_balancer(front, routing__http__drop_invalid_header_fields__enabled="true")
    eventually(lambda: "a.b" not in told(**{"a.b": "dropped"}))
    assert told(a_b="kept")["a-b"] == "kept"

    attributes = {
        "routing.http.response.x_frame_options.header_value": "DENY",
        "routing.http.response.content_security_policy.header_value": "default-src 'self' 100%",
        "routing.http.response.server.enabled": "false",
    }
    pairs = [{"Key": key, "Value": value} for key, value in attributes.items()]
    elb.modify_listener_attributes(ListenerArn=front.listener, Attributes=pairs)
    answer = eventually(lambda: (lambda got: got if "x-frame-options" in got.headers else None)(front.get()))
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-security-policy"] == "default-src 'self' 100%"
    assert "server" not in answer.headers

    for key, value, code in (
        ("routing.http.response.x_frame_options.header_value", "a\nb", "InvalidConfigurationRequest"),
        ("routing.http.response.unknown", "x", "InvalidConfigurationRequest"),
    ):
        pairs = [{"Key": key, "Value": value}]
        assert refused(elb.modify_listener_attributes, ListenerArn=front.listener, Attributes=pairs)[0] == code
    for key, value, code in (
        ("routing.http.x_amzn_tls_kx.enabled", "true", "NotImplemented"),
        ("load_balancing.cross_zone.enabled", "false", "InvalidConfigurationRequest"),
        ("idle_timeout.timeout_seconds", "0", "InvalidConfigurationRequest"),
    ):
        pairs = [{"Key": key, "Value": value}]
        assert refused(elb.modify_load_balancer_attributes, LoadBalancerArn=front.arn, Attributes=pairs)[0] == code


def test_regular_expressions_and_transforms(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    arn = group(cloud, "shop", servers("a"))
    front = Front(cloud, fixed(404, "nothing"))

    def path(*regexes: str) -> dict[str, Any]:
        return {"Field": "path-pattern", "PathPatternConfig": {"RegexValues": list(regexes)}}

    def transforms(url: tuple[str, str], host: tuple[str, str]) -> list[dict[str, Any]]:
        return [
            {"Type": "url-rewrite", "UrlRewriteConfig": {"Rewrites": [{"Regex": url[0], "Replace": url[1]}]}},
            {
                "Type": "host-header-rewrite",
                "HostHeaderRewriteConfig": {"Rewrites": [{"Regex": host[0], "Replace": host[1]}]},
            },
        ]

    wanted = transforms(
        (r"^/dp/([A-Za-z0-9]+)/?(\?.*)?$", "/product.php?id=$1"), (r"^mywebsite-(.+)\.com", "internal.$1.example")
    )
    made = elb.create_rule(
        ListenerArn=front.listener, Priority=1, Conditions=[path("^/dp/")], Actions=forward(arn), Transforms=wanted
    )["Rules"][0]
    assert made["Transforms"] == wanted
    rule(elb, front.listener, 2, fixed(200, "version"), path("^/api/v[0-9]+/"))
    host = {"Field": "host-header", "HostHeaderConfig": {"RegexValues": [r"^(a|b)\.example$"]}}
    rule(elb, front.listener, 3, fixed(200, "host"), host)
    header = {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "x-n", "RegexValues": ["^[0-9]+$"]}}
    rule(elb, front.listener, 4, fixed(200, "header"), header)
    healthy(cloud, arn, 1)
    eventually(lambda: front.get(x_n="12").body == b"header")
    assert (front.get("/api/v2/x").body, front.get("/api/vx/x").body) == (b"version", b"nothing")
    assert (front.get(host="A.example").body, front.get(host="ab.example").body) == (b"host", b"nothing")
    assert front.get(x_n="1a").body == b"nothing"

    def seen(path: str, host: str) -> tuple[str, str]:
        got = front.get(path, host=host).json
        return got["path"], got["headers"]["host"]

    assert seen("/dp/B00", "mywebsite-shop.com:80") == ("/product.php?id=B00", "internal.shop.example:80")
    assert seen("/dp/B00?x=y", "other.org:80") == ("/product.php?id=B00", "other.org:80")
    assert seen("/dp/a.b?x=y", "other.org:80") == ("/dp/a.b?x=y", "other.org:80")

    elb.modify_rule(RuleArn=made["RuleArn"], ResetTransforms=True)
    eventually(lambda: seen("/dp/B00", "mywebsite-shop.com:80") == ("/dp/B00", "mywebsite-shop.com:80"))
    for regex in ("(", "a(?=b)", r"(a)\1", "a*+", "a{2000}"):
        with_regex = {"Conditions": [path(regex)], "Actions": fixed(200), "ListenerArn": front.listener, "Priority": 9}
        assert refused(elb.create_rule, **with_regex)[0] == "ValidationError", regex
    beyond = transforms(("(a)", "$2"), ("a", "b"))[:1]
    given = {"Conditions": [path("a")], "Actions": fixed(200), "ListenerArn": front.listener, "Priority": 9}
    assert refused(elb.create_rule, **given, Transforms=beyond)[0] == "ValidationError"
    twice = {"Conditions": [path("a")], "Actions": fixed(200), "ListenerArn": front.listener, "Priority": 9}
    assert refused(elb.create_rule, **twice, Transforms=[wanted[0], wanted[0]])[0] == "ValidationError"


def test_stickiness_by_the_applications_cookie(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    one, two = servers("one"), servers("two")
    arn = group(cloud, "shop", one, two)
    front = Front(cloud, forward(arn))
    healthy(cloud, arn, 2)
    values = {
        "stickiness.enabled": "true",
        "stickiness.type": "app_cookie",
        "stickiness.app_cookie.cookie_name": "SESSION",
    }
    pairs = [{"Key": key, "Value": value} for key, value in values.items()]
    elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=pairs)

    def cookies(path: str) -> list[str]:
        connection = http.client.HTTPConnection(front.address, front.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.headers.get_all("set-cookie") or []

    both = eventually(lambda: (lambda got: got if len(got) == 2 else None)(cookies("/login?cookie=SESSION")))
    assert any(cookie.startswith("AWSALBAPP-0=") for cookie in both)
    assert cookies("/") == []
    jar = "; ".join(cookie.split(";")[0] for cookie in both)
    assert len({front.get(cookie=jar).json["name"] for _ in range(30)}) == 1
    pairs = [{"Key": "stickiness.app_cookie.cookie_name", "Value": "AWSALBAPP"}]
    assert (
        refused(elb.modify_target_group_attributes, TargetGroupArn=arn, Attributes=pairs)[0]
        == "InvalidConfigurationRequest"
    )
