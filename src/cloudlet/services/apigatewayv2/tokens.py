"""JSON Web Tokens of HTTP APIs' JWT authorizers: verified with the keys that their issuer publishes.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

_KEYS_FOR = 7200.0  # seconds that an issuer's keys are held, as API Gateway holds them
_ASK_AGAIN = 10.0  # seconds before an unknown key makes us ask the issuer again
_HASHES = {"RS256": "SHA256", "RS384": "SHA384", "RS512": "SHA512"}
_WAIT = 5.0  # seconds for the issuer's answer


class Refused(Exception):
    """The token does not let in; the text is the error_description that the client sees."""


class Issuers:
    """The published keys of issuers."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[float, dict[str, Any]]] = {}

    async def claims(self, token: str, configuration: dict[str, Any], now: float) -> dict[str, Any]:
        """The claims of a token that is valid now. Raises Refused."""
        head, payload, signed, signature = _parts(token)
        issuer = configuration.get("Issuer", "")
        if payload.get("iss") != issuer:
            raise Refused("issuer is not valid")
        audience = payload.get("aud") or payload.get("client_id") or ()
        audiences = [audience] if isinstance(audience, str) else list(audience)
        if not set(audiences) & set(configuration.get("Audience") or ()):
            raise Refused("invalid audience claim")
        if head.get("alg") not in _HASHES:
            raise Refused("signing method is invalid")
        key = await self._key(issuer, head.get("kid", ""), now)
        if not _is_signed(key, head["alg"], signed, signature):
            raise Refused("signature is invalid")
        if not isinstance(payload.get("exp"), int | float) or payload["exp"] <= now:
            raise Refused("the token has expired")
        if isinstance(payload.get("nbf"), int | float) and payload["nbf"] > now:
            raise Refused("the token is not valid yet")
        return payload

    async def _key(self, issuer: str, kid: str, now: float) -> dict[str, Any]:
        fetched, keys = self._keys.get(issuer, (-_KEYS_FOR, {}))
        if now - fetched > (_KEYS_FOR if kid in keys else _ASK_AGAIN):
            keys = await _published(issuer)
            self._keys[issuer] = now, keys
        if kid not in keys:
            raise Refused("unable to find a key for the token")
        found: dict[str, Any] = keys[kid]
        return found


async def _published(issuer: str) -> dict[str, Any]:
    """An issuer's keys by their ids. Raises Refused."""
    import aiohttp

    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_WAIT)) as session:
            where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
            async with session.get(where) as answer:
                configuration = msgspec.json.decode(await answer.read())
            async with session.get(configuration["jwks_uri"]) as answer:
                document = msgspec.json.decode(await answer.read())
        return {key.get("kid", ""): key for key in document["keys"] if key.get("kty") == "RSA"}
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise Refused("the issuer's keys cannot be read") from None


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    try:
        head, payload, signature = token.split(".")
        decoded = msgspec.json.decode(_decoded(head)), msgspec.json.decode(_decoded(payload))
        if not (isinstance(decoded[0], dict) and isinstance(decoded[1], dict)):
            raise ValueError
        return *decoded, f"{head}.{payload}".encode(), _decoded(signature)
    except (ValueError, msgspec.DecodeError):
        raise Refused("invalid number of segments" if token.count(".") != 2 else "the token is malformed") from None


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _is_signed(key: dict[str, Any], algorithm: str, signed: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    try:
        numbers = [int.from_bytes(_decoded(key[part])) for part in ("e", "n")]
        public = RSAPublicNumbers(*numbers).public_key()
        public.verify(signature, signed, PKCS1v15(), getattr(hashes, _HASHES[algorithm])())
    except (InvalidSignature, KeyError, ValueError):
        return False
    return True


def shown(claims: dict[str, Any]) -> dict[str, str]:
    """Claims as functions see them: texts all."""
    return {name: _text(value) for name, value in claims.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{' '.join(_text(item) for item in value)}]"
    return msgspec.json.encode(value).decode()
