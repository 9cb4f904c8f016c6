"""Who may pass a load balancer: users with a session, programs with a token, clients with a certificate."""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from test_elbv2 import (
    Server,
    address_of,
    elb,
    eventually,
    fixed,
    forward,
    free_port,
    group,
    healthy,
    load_balancer,
    path_is,
    refused,
    rule,
    servers,
)
from test_elbv2_traffic import certificate

from cloudlet.testing.local import LocalCloud

__all__ = ["elb", "servers"]


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Provider:
    """An identity provider: it logs everybody in as ann, and publishes a key with which it signs."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self._key = rsa.generate_private_key(65537, 2048)
        numbers = self._key.public_key().public_numbers()
        jwk = {"kty": "RSA", "alg": "RS256", "kid": "k", "e": encoded(numbers.e.to_bytes(3))}
        jwk["n"] = encoded(numbers.n.to_bytes(256))
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
                provider.asked.append(form)
                is_good = form.get("code") == "good" and form.get("client_secret") == "secret"
                self.answer(200 if is_good else 400, {"access_token": "bearer-of-ann", "expires_in": 600})

            def do_GET(self) -> None:
                if self.path == "/keys":
                    self.answer(200, {"keys": [jwk]})
                elif self.headers["authorization"] == "Bearer bearer-of-ann":
                    self.answer(200, {"sub": "ann", "email": "ann@example.com"})
                else:
                    self.answer(401, {})

            def answer(self, status: int, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def token(self, **claims: Any) -> str:
        head = encoded(json.dumps({"alg": "RS256", "kid": "k"}).encode())
        body = encoded(json.dumps({"iss": self.url, "exp": int(time.time()) + 60, **claims}).encode())
        signed = self._key.sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{head}.{body}.{encoded(signed)}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.stop()


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.body = answer.status, answer.read()
        self.location = answer.headers.get("location", "")
        self.cookies = dict(
            (one.split(";")[0].partition("=")[::2]) for one in answer.headers.get_all("set-cookie") or []
        )

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Secure:
    """A load balancer with an HTTPS listener."""

    def __init__(self, cloud: LocalCloud, actions: list[dict[str, Any]], **more: Any) -> None:
        self.elb, self.port = cloud.client("elbv2"), free_port()
        self.arn = load_balancer(cloud)["LoadBalancerArn"]
        self.listener = self.elb.create_listener(
            LoadBalancerArn=self.arn,
            Protocol="HTTPS",
            Port=self.port,
            Certificates=[{"CertificateArn": certificate(cloud, "one.example")}],
            DefaultActions=actions,
            **more,
        )["Listeners"][0]["ListenerArn"]
        self.address = address_of(cloud)

    def get(self, path: str = "/", own: tuple[str, str] | None = None, **headers: str) -> Answer:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if own:
            context.load_cert_chain(*own)
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=10, context=context)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            return Answer(connection.getresponse())
        finally:
            connection.close()


def oidc(provider: Provider, otherwise: str = "authenticate") -> dict[str, Any]:
    config = {
        "Issuer": provider.url,
        "AuthorizationEndpoint": f"{provider.url}/authorize",
        "TokenEndpoint": f"{provider.url}/token",
        "UserInfoEndpoint": f"{provider.url}/user",
        "ClientId": "me",
        "ClientSecret": "secret",
        "OnUnauthenticatedRequest": otherwise,
        "AuthenticationRequestExtraParams": {"prompt": "login"},
    }
    return {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": config}


def test_users_log_in(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server], provider: Provider) -> None:
    arn = group(cloud, "shop", servers("a"))
    last = [{**forward(arn)[0], "Order": 2}]
    front = Secure(cloud, [oidc(provider), *last])
    rule(elb, front.listener, 1, [oidc(provider, "deny"), *last], path_is("/api/*"))
    rule(elb, front.listener, 2, [oidc(provider, "allow"), *last], path_is("/open/*"))
    healthy(cloud, arn, 1)
    shown = elb.describe_listeners(ListenerArns=[front.listener])["Listeners"][0]["DefaultActions"][0]
    assert shown["AuthenticateOidcConfig"]["Scope"] == "openid"
    assert "ClientSecret" not in shown["AuthenticateOidcConfig"]

    assert eventually(lambda: front.get("/api/x").status == 401)
    liar = front.get("/open/x", x_amzn_oidc_identity="bob", x_amzn_oidc_data="x").json["headers"]
    assert not [name for name in liar if "oidc" in name]
    host = f"shop.example:{front.port}"
    sent = front.get("/cart?item=1", host=host)
    assert sent.status == 302
    where, query = sent.location.split("?")[0], parse_qs(urlsplit(sent.location).query)
    assert where == f"{provider.url}/authorize"
    assert query["redirect_uri"] == [f"https://{host}/oauth2/idpresponse"]
    assert (query["client_id"], query["scope"], query["prompt"]) == (["me"], ["openid"], ["login"])
    (state,) = query["state"]
    nonce = sent.cookies["AWSALBAuthNonce"]

    back = f"/oauth2/idpresponse?code=good&state={state}"
    assert front.get(back, host=host).status == 401  # another browser's state
    assert front.get(back[:-3] + "xyz", host=host, cookie=f"AWSALBAuthNonce={nonce}").status == 401
    assert front.get(back.replace("good", "bad"), host=host, cookie=f"AWSALBAuthNonce={nonce}").status == 561
    entered = front.get(back, host=host, cookie=f"AWSALBAuthNonce={nonce}")
    assert (entered.status, entered.location) == (302, f"https://{host}/cart?item=1")
    assert provider.asked[-1]["redirect_uri"] == f"https://{host}/oauth2/idpresponse"
    session = f"AWSELBAuthSessionCookie-0={entered.cookies['AWSELBAuthSessionCookie-0']}"
    seen = front.get("/cart?item=1", cookie=session, x_amzn_oidc_identity="bob").json
    assert seen["path"] == "/cart?item=1"
    told = seen["headers"]
    assert (told["x-amzn-oidc-identity"], told["x-amzn-oidc-accesstoken"]) == ("ann", "bearer-of-ann")
    head, claims, signature = told["x-amzn-oidc-data"].split(".")
    assert json.loads(decoded(claims))["email"] == "ann@example.com"
    assert json.loads(decoded(head))["signer"] == front.arn
    published = http.client.HTTPConnection(*cloud.endpoint.rpartition("//")[2].split(":"))
    published.request("GET", f"/_cloudlet/elb-auth/keys/{json.loads(decoded(head))['kid']}")
    public = serialization.load_pem_public_key(published.getresponse().read())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    raw = decoded(signature)
    pair = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public.verify(pair, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    assert front.get("/", cookie=session[:-4] + "AAAA").status == 302

    # The sessions outlive the control plane, and Envoy needs nobody to verify them.
    cloud.kill()
    assert front.get("/cart", cookie=session).status == 200
    cloud.start()
    assert front.get("/cart", cookie=session).status == 200

    keep = oidc(provider)
    del keep["AuthenticateOidcConfig"]["ClientSecret"]
    keep["AuthenticateOidcConfig"] |= {"UseExistingClientSecret": True, "Scope": "openid email"}
    cloud.client("elbv2").modify_listener(ListenerArn=front.listener, DefaultActions=[keep, *last])
    eventually(lambda: "openid+email" in front.get("/").location)


def test_guards_that_are_wrong(cloud: LocalCloud, elb: Any, provider: Provider) -> None:
    arn = group(cloud, "shop")
    one = load_balancer(cloud)["LoadBalancerArn"]
    plain = {"LoadBalancerArn": one, "Protocol": "HTTP", "Port": free_port()}
    actions = [oidc(provider), {**forward(arn)[0], "Order": 2}]
    words = "Actions of type 'authenticate-oidc' are supported only on HTTPS listeners"
    assert refused(elb.create_listener, **plain, DefaultActions=actions) == ("InvalidLoadBalancerAction", words)
    cognito = {"UserPoolArn": "a", "UserPoolClientId": "b", "UserPoolDomain": "c"}
    first = {"Type": "authenticate-cognito", "Order": 1, "AuthenticateCognitoConfig": cognito}
    assert refused(elb.create_listener, **plain, DefaultActions=[first, actions[1]])[0] == "NotImplemented"
    wanted = {"Protocol": "HTTPS", "Certificates": [{"CertificateArn": certificate(cloud, "one.example")}]}
    for change in ({"TokenEndpoint": "http://id.example/token"}, {"SessionTimeout": 0}, {"ClientSecret": ""}):
        wrong = oidc(provider)
        wrong["AuthenticateOidcConfig"] |= change
        error = refused(elb.create_listener, **plain | wanted, DefaultActions=[wrong, actions[1]])
        assert error[0] == "ValidationError", change
    alone = refused(elb.create_listener, **plain | wanted, DefaultActions=actions[:1])
    assert alone[0] == "InvalidLoadBalancerAction"


def test_programs_show_tokens(
    cloud: LocalCloud, elb: Any, servers: Callable[[str], Server], provider: Provider
) -> None:
    arn = group(cloud, "shop", servers("a"))
    claims = [
        {"Format": "single-string", "Name": "azp", "Values": ["batch"]},
        {"Format": "string-array", "Name": "roles", "Values": ["admin"]},
        {"Format": "space-separated-values", "Name": "scope", "Values": ["a:read", "a:write"]},
    ]
    config = {"JwksEndpoint": f"{provider.url}/keys", "Issuer": provider.url, "AdditionalClaims": claims}
    guard = {"Type": "jwt-validation", "Order": 1, "JwtValidationConfig": config}
    front = Secure(cloud, [guard, {**forward(arn)[0], "Order": 2}])
    healthy(cloud, arn, 1)
    good = {"azp": "batch", "roles": ["user", "admin"], "scope": "a:write b a:read"}
    bearer = f"Bearer {provider.token(**good)}"
    seen = eventually(lambda: (lambda got: got if got.status == 200 else None)(front.get(authorization=bearer)))
    assert seen.json["headers"]["authorization"] == bearer
    assert front.get().status == 401
    for change in ({"azp": "other"}, {"roles": ["user"]}, {"scope": "a:reader a:write"}, {"exp": 1}, {"iss": "x"}):
        assert front.get(authorization=f"Bearer {provider.token(**{**good, **change})}").status == 401, change
    assert front.get(authorization=f"{bearer[:-4]}AAAA").status == 401


class Authority:
    """A certificate authority of a user's own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.serials: dict[str, int] = {}
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        own = self._built(self._name, self._key).add_extension(constraints, critical=True)
        self.certificate = own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _built(self, name: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return x509.CertificateBuilder(
            self._name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1)
        )

    def client(self, name: str) -> tuple[str, str]:
        """The files of a client's certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._built(subject, key).sign(self._key, hashes.SHA256())
        self.serials[name] = made.serial_number
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
        return str(files[0]), str(files[1])

    def revoked(self, name: str) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        one = x509.RevokedCertificateBuilder(self.serials[name], now).build()
        lists = x509.CertificateRevocationListBuilder(self._name, now, now + datetime.timedelta(days=1), [], [one])
        return lists.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_clients_show_certificates(
    cloud: LocalCloud, elb: Any, servers: Callable[[str], Server], tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path, "authority"), Authority(tmp_path, "stranger")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="trust")
    s3.put_object(Bucket="trust", Key="ca.pem", Body=authority.certificate)
    s3.put_object(Bucket="trust", Key="bad.pem", Body=b"no certificate")
    bundle = {"CaCertificatesBundleS3Bucket": "trust", "CaCertificatesBundleS3Key": "ca.pem"}
    bad = {**bundle, "CaCertificatesBundleS3Key": "bad.pem"}
    assert refused(elb.create_trust_store, Name="t", **bad)[0] == "InvalidCaCertificatesBundle"
    missing = {**bundle, "CaCertificatesBundleS3Key": "missing.pem"}
    assert refused(elb.create_trust_store, Name="t", **missing)[0] == "CaCertificatesBundleNotFound"
    made = elb.create_trust_store(Name="clients", **bundle)["TrustStores"][0]
    store = made["TrustStoreArn"]
    assert (made["Status"], made["NumberOfCaCertificates"], made["TotalRevokedEntries"]) == ("ACTIVE", 1, 0)
    assert refused(elb.create_trust_store, Name="clients", **bundle)[0] == "DuplicateTrustStoreName"

    arn = group(cloud, "shop", servers("a"))
    verify = {"Mode": "verify", "TrustStoreArn": store}
    front = Secure(cloud, forward(arn), MutualAuthentication=verify)
    healthy(cloud, arn, 1)
    ann, bob, eve = authority.client("ann"), authority.client("bob"), stranger.client("eve")
    told = eventually(lambda: front.get(own=ann)).json["headers"]
    assert told["x-amzn-mtls-clientcert-subject"] == "CN=ann"
    assert told["x-amzn-mtls-clientcert-issuer"] == "CN=authority"
    assert int(told["x-amzn-mtls-clientcert-serial-number"], 16) == authority.serials["ann"]
    assert told["x-amzn-mtls-clientcert-validity"].startswith("NotBefore=20")
    assert told["x-amzn-mtls-clientcert-leaf"].startswith("-----BEGIN%20CERTIFICATE")
    for own in (None, eve):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            front.get(own=own)

    s3.put_object(Bucket="trust", Key="revoked.pem", Body=authority.revoked("bob"))
    content = [{"S3Bucket": "trust", "S3Key": "revoked.pem", "RevocationType": "CRL"}]
    assert front.get(own=bob).status == 200
    (added,) = elb.add_trust_store_revocations(TrustStoreArn=store, RevocationContents=content)["TrustStoreRevocations"]
    assert (added["RevocationId"], added["NumberOfRevokedEntries"]) == (1, 1)

    def is_out(own: tuple[str, str]) -> bool:
        try:
            front.get(own=own)
        except (ssl.SSLError, ConnectionError):
            return True
        return False

    eventually(lambda: is_out(bob))
    assert not is_out(ann)
    elb.remove_trust_store_revocations(TrustStoreArn=store, RevocationIds=[1])
    eventually(lambda: not is_out(bob))
    users = elb.describe_trust_store_associations(TrustStoreArn=store)["TrustStoreAssociations"]
    assert users == [{"ResourceArn": front.listener}]
    assert refused(elb.delete_trust_store, TrustStoreArn=store)[0] == "TrustStoreInUse"
    location = elb.get_trust_store_ca_certificates_bundle(TrustStoreArn=store)["Location"]
    downloaded = http.client.HTTPConnection(*cloud.endpoint.rpartition("//")[2].split(":"))
    downloaded.request("GET", urlsplit(location).path)
    assert downloaded.getresponse().read() == authority.certificate

    elb.modify_listener(ListenerArn=front.listener, MutualAuthentication={"Mode": "passthrough"})
    told = eventually(lambda: not is_out(eve) and front.get(own=eve)).json["headers"]
    assert told["x-amzn-mtls-clientcert"].startswith("-----BEGIN%20CERTIFICATE")
    assert "x-amzn-mtls-clientcert-subject" not in told
    assert "x-amzn-mtls-clientcert" not in front.get(x_amzn_mtls_clientcert="a lie").json["headers"]
    elb.delete_trust_store(TrustStoreArn=store)
    assert refused(elb.describe_trust_stores, TrustStoreArns=[store])[0] == "TrustStoreNotFound"
    wrong = {"ListenerArn": front.listener, "MutualAuthentication": verify}
    assert refused(elb.modify_listener, **wrong)[0] == "TrustStoreNotFound"
    elb.modify_listener(ListenerArn=front.listener, DefaultActions=fixed(200))
