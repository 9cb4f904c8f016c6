"""Authorization tokens: what ``docker login`` takes, and what the registry accepts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import NamedTuple

from cloudlet.http import Request
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import records
from cloudlet.services.ecr.base import Base

_VALID = 12 * 3600.0
_DOWNLOAD = 3600.0  # seconds that a layer can be downloaded for


class Bearer(NamedTuple):
    """Who a token was given to, and what it opens."""

    account: str  # of the registry that is meant where a request names none
    region: str
    caller: str = ""  # the account of whoever has asked for the token, and which of its principals that is
    principal: str = ""
    access_key: str = ""  # empty of a service
    digest: str = ""  # of the one layer that it opens


class Tokens(Base):
    """The password of the user AWS: who has it, of which registry, and until when, signed with a key of our own."""

    _key: bytes | None = None

    async def GetAuthorizationToken(self, call: Call, input: Input) -> Output:
        data = []
        for account in input.get("registryIds") or [call.account]:
            bearer = Bearer(account, call.region, call.account, call.principal, call.access_key)
            expires = self.clock.now() + _VALID
            token = await self._token(bearer, expires)
            data.append(
                {
                    "authorizationToken": base64.b64encode(f"AWS:{token}".encode()).decode(),
                    "expiresAt": expires,
                    "proxyEndpoint": f"http://{self.host(account, call.region).split('/')[0]}",
                }
            )
        return {"authorizationData": data}

    async def download_token(self, account: str, region: str, digest: str) -> str:
        """What opens one layer of an account's registry, for an hour, to whoever has it."""
        return await self._token(Bearer(account, region, digest=digest), self.clock.now() + _DOWNLOAD)

    async def bearer(self, request: Request) -> Bearer | None:
        """Whose token a registry's request carries, or None without a valid one."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        token = next((value for name, value in request.params() if name == "token"), "")
        if kind.lower() == "basic":
            try:
                token = base64.b64decode(given).decode().partition(":")[2]
            except ValueError:
                return None
        text, _, signature = token.partition(".")
        if not signature or not hmac.compare_digest(await self._sign(text), signature):
            return None
        expires, *fields = json.loads(base64.urlsafe_b64decode(text))
        return Bearer(*fields) if expires > self.clock.now() else None

    async def _token(self, bearer: Bearer, expires: float) -> str:
        text = base64.urlsafe_b64encode(json.dumps([expires, *bearer]).encode()).decode()
        return f"{text}.{await self._sign(text)}"

    async def _sign(self, text: str) -> str:
        if self._key is None:
            new = secrets.token_bytes(32)
            self._key = await self.db.write(lambda tx: records.keep_secret(tx, new))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
