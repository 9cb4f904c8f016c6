"""Logins: the part of ``authenticate-oidc`` that is not traffic. A user who has no session comes here, is sent to the
identity provider, comes back, and gets a session, which Envoy verifies from then on (``authentication.py``).

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-authenticate-users.html
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from cloudlet.http import Request, Response
from cloudlet.services.elbv2 import authentication
from cloudlet.services.elbv2.functions import failed
from cloudlet.services.elbv2.records import Document, LoadBalancer, SigningKey
from cloudlet.services.elbv2.trust_stores import TrustStores
from cloudlet.store import Tx

_NONCE = "AWSALBAuthNonce"
_LOGIN_SECONDS = 900  # for which a login may take
_PATIENCE = 10.0  # seconds for the identity provider's answer
_SCOPE, _NAME = "", "key"
_LONGEST_COOKIE = 4096


class Failed(Exception):
    """The identity provider, or what it says, is not as it should be."""


class Asked(NamedTuple):
    """What a login is for."""

    action: Document
    owner: LoadBalancer


class Logins(TrustStores):
    """The front door ``elb-auth``."""

    async def have_key(self, actions: list[Document]) -> None:
        guard = authentication.action_of(actions)
        if guard is None or guard["Type"] != authentication.OIDC or self.keys.get(_SCOPE, _NAME) is not None:
            return
        made = await asyncio.to_thread(_new_key)

        def put(tx: Tx) -> None:
            if self.keys.get(_SCOPE, _NAME, tx) is None:
                self.keys.put(tx, _SCOPE, _NAME, made)

        await self.db.write(put)

    async def login(self, request: Request, label: str) -> Response | None:
        """Answer a request of a login, for a key, or for a download; None when the label is none of these."""
        if label.startswith(("bundle-", "revocation-")):
            text = self.download(label)
            return None if text is None else Response(200, {"content-type": "application/x-pem-file"}, text.encode())
        record = self.keys.get(_SCOPE, _NAME)
        if record is None:
            return None
        key = record.value
        if label == "keys":
            is_known = request.path.strip("/") == key.id
            return (
                Response(200, {"content-type": "text/plain"}, key.public.encode())
                if is_known
                else failed(404, "Not Found")
            )
        if label == "callback":
            return await self._returned(request, key)
        asked = self._asked(label)
        return None if asked is None else await self._sent(request, key, label, asked)

    def _now(self) -> int:
        """The machine's own time: Envoy, which judges sessions, knows no other."""
        return int(self.clock.now() - self.clock.offset)

    def _asked(self, wanted: str) -> Asked | None:
        """The action of a key, with its load balancer."""
        owners = {record.value.arn: record.value for record in self.load_balancers.all()}
        listeners = {record.value.arn: record.value for record in self.listeners.all()}
        said = [(one.actions, one) for one in listeners.values()]
        said += [(record.value.actions, listeners[record.value.listener_arn]) for record in self.rules.all()]
        for actions, listener in said:
            guard = authentication.action_of(actions)
            if guard is not None and authentication.key_of(guard) == wanted:
                return Asked(guard, owners[listener.load_balancer_arn])
        return None

    async def _sent(self, request: Request, key: SigningKey, wanted: str, asked: Asked) -> Response:
        """Send a user without a session to the identity provider."""
        config, nonce = authentication.config_of(asked.action), secrets.token_urlsafe(16)
        query = f"?{request.query}" if request.query else ""
        state = {"for": wanted, "to": f"{_origin(request)}{request.path}{query}", "nonce": nonce}
        parameters = {
            **config.get("AuthenticationRequestExtraParams", {}),
            "client_id": config["ClientId"],
            "redirect_uri": f"{_origin(request)}{authentication.CALLBACK}",
            "response_type": "code",
            "scope": config["Scope"],
            "state": await _signed(key, {**state, "exp": self._now() + _LOGIN_SECONDS}),
        }
        sign = "&" if "?" in config["AuthorizationEndpoint"] else "?"
        answer = Response(302, {"location": f"{config['AuthorizationEndpoint']}{sign}{urlencode(parameters)}"}, b"")
        answer.headers["server"] = "awselb/2.0"
        answer.cookies = [f"{_NONCE}={nonce}; Path=/; Secure; HttpOnly; Max-Age={_LOGIN_SECONDS}"]
        return answer

    async def _returned(self, request: Request, key: SigningKey) -> Response:
        """Give a user who comes back from the identity provider a session."""
        given = dict(parse_qsl(request.query))
        state = await asyncio.to_thread(_verified, key, given.get("state", ""), self._now())
        asked = self._asked(state["for"]) if state else None
        if state is None or asked is None or _cookies(request).get(_NONCE) != state["nonce"]:
            return failed(401, "Authorization Required")
        if "code" not in given:
            self._told(asked, "ELBAuthFailure")
            return failed(401, "Authorization Required")
        try:
            session = await self._session(request, key, asked, given["code"])
        except Failed as error:
            self._told(asked, "ELBAuthError")
            return failed(561, f"Unauthorized: {error}")
        self._told(asked, "ELBAuthSuccess")
        seconds = authentication.config_of(asked.action)["SessionTimeout"]
        cookie = f"{authentication.cookie_of(asked.action)}={session}"
        if len(cookie) > _LONGEST_COOKIE:
            self._told(asked, "ELBAuthUserClaimsSizeExceeded")
            return failed(500, "Internal Server Error: the session is too large for a cookie")
        answer = Response(302, {"location": state["to"], "server": "awselb/2.0"}, b"")
        answer.cookies = [
            f"{cookie}; Path=/; Secure; HttpOnly; Max-Age={seconds}",
            f"{_NONCE}=; Path=/; Secure; HttpOnly; Max-Age=0",
        ]
        return answer

    async def _session(self, request: Request, key: SigningKey, asked: Asked, code: str) -> str:
        """A session for the user whom the identity provider names for the code. Raises Failed."""
        config = authentication.config_of(asked.action)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": f"{_origin(request)}{authentication.CALLBACK}",
            "client_id": config["ClientId"],
            "client_secret": config["ClientSecret"],
        }
        tokens = await _fetched("POST", config["TokenEndpoint"], data=form)
        bearer = tokens.get("access_token")
        if not isinstance(bearer, str):
            raise Failed("the token endpoint gave no access token")
        user = await _fetched("GET", config["UserInfoEndpoint"], headers={"authorization": f"Bearer {bearer}"})
        if not isinstance(user.get("sub"), str):
            raise Failed("the user info endpoint gave no subject")
        now = self._now()
        ends = now + min(config["SessionTimeout"], int(tokens.get("expires_in") or config["SessionTimeout"]))
        told = {"iss": config["Issuer"], "client": config["ClientId"], "signer": asked.owner.arn, "exp": ends}
        data = await _signed(key, {**user, "exp": ends, "iss": config["Issuer"]}, told)
        return await _signed(
            key,
            {
                "iss": authentication.ISSUER,
                "aud": authentication.session_of(asked.action),
                "exp": ends,
                "sub": user["sub"],
                "accesstoken": bearer,
                "data": data,
            },
        )

    def _told(self, asked: Asked, name: str) -> None:
        owner = asked.owner
        self.cloud.metrics.add(owner.scope, "AWS/ApplicationELB", name, (("LoadBalancer", owner.path),), 1, "Count")


def _origin(request: Request) -> str:
    scheme = request.headers.get("x-forwarded-proto", "https")
    return f"{scheme}://{request.headers.get('host', '')}"


def _cookies(request: Request) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in request.headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs}


async def _fetched(method: str, url: str, **more: Any) -> dict[str, Any]:
    """The JSON object with which an endpoint of the identity provider answers. Raises Failed."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as session,
            session.request(method, url, **more) as answer,
        ):
            if answer.status != 200:
                raise Failed(f"{url} answered {answer.status}")
            document = msgspec.json.decode(await answer.read())
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        raise Failed(f"{url} gave no answer: {error}") from None
    if not isinstance(document, dict):
        raise Failed(f"{url} gave no JSON object")
    return document


def _new_key() -> SigningKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    id = secrets.token_hex(8)
    numbers = private.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id}
    jwk |= {"x": _encoded(numbers.x.to_bytes(32)), "y": _encoded(numbers.y.to_bytes(32))}
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return SigningKey(id, pem.decode(), jwk, public.decode())


async def _signed(key: SigningKey, claims: Document, more: Document | None = None) -> str:
    """A token of claims, with more members for its head."""
    return await asyncio.to_thread(_sign, key, claims, more or {})


def _sign(key: SigningKey, claims: Document, more: Document) -> str:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    head = {"typ": "JWT", "alg": "ES256", "kid": key.id, **more}
    text = f"{_encoded(msgspec.json.encode(head))}.{_encoded(msgspec.json.encode(claims))}"
    private = serialization.load_pem_private_key(key.private.encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    r, s = utils.decode_dss_signature(private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_encoded(r.to_bytes(32) + s.to_bytes(32))}"


def _verified(key: SigningKey, token: str, now: int) -> Document | None:
    """The claims of a token of ours that is still good."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    try:
        head, claims, signature = token.split(".")
        raw = _decoded(signature)
        public = serialization.load_pem_public_key(key.public.encode())
        assert isinstance(public, ec.EllipticCurvePublicKey)
        pair = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        public.verify(pair, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
        found: Document = msgspec.json.decode(_decoded(claims))
    except (ValueError, InvalidSignature, msgspec.DecodeError):
        return None
    return found if "for" in found and found.get("exp", 0) > now else None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
