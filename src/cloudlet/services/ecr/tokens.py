"""Authorization tokens: what ``docker login`` takes, and what the registry accepts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets

from cloudlet.http import Request
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import records
from cloudlet.services.ecr.base import Base

_VALID = 12 * 3600.0


class Tokens(Base):
    """The password of the user AWS: whose registry, and until when, signed with a key of this cloud's own."""

    _key: bytes | None = None

    async def GetAuthorizationToken(self, call: Call, input: Input) -> Output:
        data = []
        for account in input.get("registryIds") or [call.account]:
            token, expires = await self.new_token(account, call.region)
            data.append(
                {
                    "authorizationToken": base64.b64encode(f"AWS:{token}".encode()).decode(),
                    "expiresAt": expires,
                    "proxyEndpoint": f"http://{self.host(account, call.region).split('/')[0]}",
                }
            )
        return {"authorizationData": data}

    async def new_token(self, account: str, region: str) -> tuple[str, float]:
        """A password for an account's registry, and when it expires."""
        expires = self.clock.now() + _VALID
        text = base64.urlsafe_b64encode(json.dumps([account, region, expires]).encode()).decode()
        return f"{text}.{await self._sign(text)}", expires

    async def bearer(self, request: Request) -> tuple[str, str] | None:
        """Account and region of the token that a registry's request carries, or None without a valid one."""
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
        account, region, expires = json.loads(base64.urlsafe_b64decode(text))
        return (account, region) if expires > self.clock.now() else None

    async def _sign(self, text: str) -> str:
        if self._key is None:
            new = secrets.token_bytes(32)
            self._key = await self.db.write(lambda tx: records.keep_secret(tx, new))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
