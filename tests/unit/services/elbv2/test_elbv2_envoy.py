"""What Envoy is given, held against ``tests/golden/elbv2.json``; written anew with UPDATE_GOLDEN=1."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec.structs
import pytest

from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import Envoy, binary
from cloudlet.services.elbv2 import formats
from cloudlet.services.elbv2.authentication import authorities
from cloudlet.services.elbv2.controller import State, plan
from cloudlet.services.elbv2.envoy import World, snapshot
from cloudlet.services.elbv2.records import Listener, LoadBalancer, Revocation, Rule, Target, TargetGroup, TrustStore

_GOLDEN = Path(__file__).parents[3] / "golden" / "elbv2.json"
_WHERE: dict[str, Any] = {"account": "000000000000", "region": "us-east-1", "created": 0.0}
_ACM = "arn:aws:acm:us-east-1:000000000000:certificate/"


def load_balancer(name: str, type: str = "application", **more: Any) -> LoadBalancer:
    dns = f"{name}-1.us-east-1.elb.localhost"
    host = {"front": "127.64.0.1", "other": "127.64.0.2", "net": "127.64.0.3"}[name]
    return LoadBalancer(
        **_WHERE, name=name, id=f"id-{name}", type=type, scheme="internal", address=host, dns_name=dns, **more
    )


def listener(owner: LoadBalancer, id: str, protocol: str, port: int, actions: Any, **more: Any) -> Listener:
    arn = f"{owner.arn.replace(':loadbalancer/', ':listener/')}/{id}"
    return Listener(arn, owner.arn, owner.name, id, protocol, port, more.pop("bound", port), actions, **more)


def rule(of: Listener, priority: int, conditions: list[Any], actions: Any, transforms: Any = ()) -> Rule:
    arn = f"{of.arn.replace(':listener/', ':listener-rule/')}/r{priority}"
    return Rule(arn, f"r{priority}", of.arn, priority, conditions, actions, transforms=list(transforms))


def group(name: str, protocol: str = "HTTP", **more: Any) -> TargetGroup:
    settings: dict[str, Any] = {
        "type": "ip",
        "version": "HTTP1" if protocol.startswith("HTTP") else "",
        "port": 80,
        "check_protocol": "HTTP" if protocol.startswith("HTTP") else "TCP",
        "check_port": "traffic-port",
        "check_path": "/health",
        "matcher": "200,300-302",
    }
    return TargetGroup(**_WHERE, name=name, id=f"id-{name}", protocol=protocol, **{**settings, **more})


def forward(*weights: tuple[TargetGroup, int], sticky: int = 0) -> list[Any]:
    chosen = [{"TargetGroupArn": one.arn, "Weight": weight} for one, weight in weights]
    kept = {"Enabled": bool(sticky), **({"DurationSeconds": sticky} if sticky else {})}
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": chosen, "TargetGroupStickinessConfig": kept}}]


def fixed(status: int) -> list[Any]:
    return [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": str(status), "MessageBody": "x"}}]


def oidc(otherwise: str) -> Any:
    config = {"Issuer": "https://id.example", "ClientId": "c", "ClientSecret": "s", "Scope": "openid"}
    config |= {"OnUnauthenticatedRequest": otherwise, "SessionCookieName": "Session", "SessionTimeout": 60}
    config |= {f"{name}Endpoint": f"https://id.example/{name}" for name in ("Authorization", "Token", "UserInfo")}
    return {"Type": "authenticate-oidc", "AuthenticateOidcConfig": config}


def everything() -> World:
    """One of each kind of thing that can be said."""
    logs = {"access_logs.s3.enabled": "true", "access_logs.s3.bucket": "b", "idle_timeout.timeout_seconds": "30"}
    logs |= {"connection_logs.s3.enabled": "true", "connection_logs.s3.bucket": "b"}
    logs |= {"routing.http.xff_client_port.enabled": "true", "routing.http.drop_invalid_header_fields.enabled": "true"}
    logs |= {"routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "true"}
    front = load_balancer("front", attributes=logs)
    other = load_balancer("other", attributes={"routing.http2.enabled": "false"})
    net = load_balancer("net", "network", attributes={"access_logs.s3.enabled": "true", "access_logs.s3.bucket": "b"})
    blue = group("blue", attributes={"stickiness.enabled": "true", "slow_start.duration_seconds": "30"})
    random = {"load_balancing.algorithm.type": "weighted_random", "load_balancing.algorithm.anomaly_mitigation": "on"}
    green = group("green", check_port="9000", attributes=random)
    app = {"stickiness.enabled": "true", "stickiness.type": "app_cookie", "stickiness.app_cookie.cookie_name": "SID"}
    kept = group("kept", attributes=app)
    datagrams = group("datagrams", "UDP", attributes={"stickiness.enabled": "true"})
    both = group("both", "TCP_UDP")
    secure = group("secure", "HTTPS", version="HTTP2", check_protocol="HTTP")
    grpc = group("grpc", version="GRPC", check_path="/AWS.ALB/healthcheck", matcher="12")
    function = group("function", type="lambda", protocol="")
    bytes_ = group("bytes", "TCP", attributes={"proxy_protocol_v2.enabled": "true"})
    behind = group("behind", "TCP", type="alb", check_protocol="HTTP", check_path="/")
    unused = group("unused")
    http = listener(front, "l1", "HTTP", 80, forward((blue, 9), (green, 1), sticky=60), bound=40080)
    https = listener(front, "l2", "HTTPS", 443, forward((secure, 1)), certificates=[f"{_ACM}1", f"{_ACM}2", f"{_ACM}1"])
    shared = listener(other, "l3", "HTTP", 80, fixed(404))
    store = TrustStore("000000000000", "us-east-1", "clients", "t1", "authorities", 1, [Revocation(1, "revoked", 1)])
    verified = {"Mode": "verify", "TrustStoreArn": store.arn, "IgnoreClientCertificateExpiry": True}
    second = listener(
        other,
        "l4",
        "HTTPS",
        443,
        [oidc("authenticate"), *forward((grpc, 1))],
        certificates=[f"{_ACM}2"],
        mutual=verified,
        attributes={
            "routing.http.response.x_frame_options.header_value": "DENY 100%",
            "routing.http.response.server.enabled": "false",
            "routing.http.request.x_amzn_mtls_clientcert_leaf.header_name": "X-Leaf",
        },
    )
    passing = listener(
        other, "l8", "HTTPS", 9443, fixed(200), certificates=[f"{_ACM}2"], mutual={"Mode": "passthrough"}
    )
    udp = listener(net, "l9", "UDP", 53, forward((datagrams, 1)))
    mixed = listener(net, "l10", "TCP_UDP", 5060, forward((both, 1)))
    waiting = listener(other, "l5", "HTTPS", 8443, fixed(200), certificates=[f"{_ACM}not-at-hand"])
    tcp = listener(net, "l6", "TCP", 5432, forward((bytes_, 1)))
    tls = listener(
        net, "l7", "TLS", 443, forward((bytes_, 1), (behind, 2)), certificates=[f"{_ACM}1"], alpn=["HTTP2Preferred"]
    )
    redirect = {"Protocol": "HTTPS", "Port": "443", "Path": "/new/#{path}", "Query": "a=b", "StatusCode": "HTTP_302"}
    anywhere = [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}]
    jwt = {"JwksEndpoint": "https://id.example/keys", "Issuer": "https://id.example"}
    jwt["AdditionalClaims"] = [
        {"Format": "single-string", "Name": "azp", "Values": ["me"]},
        {"Format": "string-array", "Name": "roles", "Values": ["admin", "user"]},
        {"Format": "space-separated-values", "Name": "scope", "Values": ["a:read"]},
    ]
    rewrites = [
        {
            "Type": "host-header-rewrite",
            "HostHeaderRewriteConfig": {"Rewrites": [{"Regex": "^a-(.+)[.]com$", "Replace": "b.$1.org"}]},
        },
        {"Type": "url-rewrite", "UrlRewriteConfig": {"Rewrites": [{"Regex": "^/dp/(.*)", "Replace": "/p?id=$1"}]}},
    ]
    regexes = [
        {"Field": "host-header", "HostHeaderConfig": {"RegexValues": ["^(a|b)[.]example"]}},
        {"Field": "path-pattern", "PathPatternConfig": {"RegexValues": ["^/v[0-9]+/", "end$"]}},
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "RegexValues": ["[0-9]+"]}},
    ]
    rules = [
        rule(second, 1, anywhere, [{"Type": "jwt-validation", "JwtValidationConfig": jwt}, *forward((blue, 1))]),
        rule(second, 2, anywhere, [oidc("deny"), *forward((blue, 1))]),
        rule(second, 3, anywhere, [oidc("allow"), *forward((kept, 1))]),
        rule(http, 30, regexes, forward((kept, 1)), rewrites),
        rule(http, 20, [{"Field": "path-pattern", "Values": ["/functions/*"]}], forward((function, 1))),
        rule(
            http,
            10,
            [
                {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}},
                {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a/*.png", "/b"]}},
                {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["b?c"]}},
                {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET", "HEAD"]}},
                {
                    "Field": "query-string",
                    "QueryStringConfig": {"Values": [{"Key": "k", "Value": "v*"}, {"Value": "x"}]},
                },
                {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.1.128.0/23", "::1/128"]}},
            ],
            [{"Type": "redirect", "RedirectConfig": redirect}],
        ),
    ]
    return World(
        load_balancers=[front, other, net],
        listeners=[http, https, shared, second, waiting, tcp, tls, passing, udp, mixed],
        trust_stores=[store],
        public_key={"kty": "EC"},
        authorities="/authorities.pem",
        rules=rules,
        groups=[blue, green, kept, secure, grpc, function, bytes_, datagrams, both, behind, unused],
        targets=[
            Target(blue.id, "10.0.0.1", "10.0.0.1", 8080),
            Target(blue.id, "10.0.0.2", "10.0.0.2", 8080, draining_until=5.0),
            Target(green.id, "i-1", "10.0.0.3", 80),
            Target(behind.id, front.arn, front.address, 80),
            Target(unused.id, "10.0.0.9", "10.0.0.9", 80),
        ],
        certificates={f"{_ACM}1": ("chain 1", "key 1"), f"{_ACM}2": ("chain 2", "key 2")},
        logs="/logs",
    )


def test_golden() -> None:
    made = snapshot(everything())
    made.check()
    text = json.dumps(asdict(made), indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        _GOLDEN.write_text(text)
    assert json.loads(text) == json.loads(_GOLDEN.read_text())


def test_plans() -> None:
    world = everything()
    missing = f"{_ACM}not-at-hand"
    assert plan(world, State(False, None)) == ["start"]
    assert plan(world, State(True, None)) == [f"certificate {missing}"]
    assert plan(world, State(True, None, frozenset((missing,)))) == ["publish"]
    assert plan(world, State(True, snapshot(world), frozenset((missing,)))) == []
    complete = replace(world, certificates={**world.certificates, f"{_ACM}not-at-hand": ("chain", "key")})
    assert plan(complete, State(True, snapshot(world))) == ["publish"]
    assert plan(complete, State(True, snapshot(complete))) == []
    assert plan(World(), State(True, snapshot(world))) == ["stop"]
    assert plan(World(), State(False, None)) == []


async def test_envoy_takes_all_of_it(tmp_path: Path) -> None:
    try:
        binary()
    except ProxyMissing as absent:
        pytest.skip(str(absent))
    world = everything()
    # Real certificates are the business of tests/sdk; here no listener has one.
    protocols = {"HTTPS": "HTTP", "TLS": "TCP"}
    x, y = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
    key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", "x": x, "y": y}
    folders = [tmp_path / kind for kind in formats.LINES]
    for folder in folders:
        folder.mkdir()
    plain = [
        msgspec.structs.replace(
            one,
            certificates=[],
            mutual={},
            protocol=protocols.get(one.protocol, one.protocol),
            port=20000 + one.port,
            bound=0,
        )
        for one in world.listeners
    ]
    supervisor = Supervisor(new_cloud_id())
    proxy = Envoy(supervisor, tmp_path, "golden")
    await proxy.start()
    try:
        await proxy.publish(
            snapshot(replace(world, listeners=plain, public_key=key, authorities=authorities(), logs=str(tmp_path)))
        )
        async with asyncio.timeout(5):
            while not (await proxy.stats(r"listener_manager\.lds\.update_attempt")).get(
                "listener_manager.lds.update_attempt", 0
            ) or not (await proxy.stats("rds.*update_success")):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        rejected = {name: count for name, count in (await proxy.stats("update_rejected$")).items() if count}
        assert not rejected, (tmp_path / "log").read_text()
    finally:
        await supervisor.stop_all()
