"""OpenID Connect tokens: what one claims. Whether its issuer really signed it is not looked at (``--auth local``)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import msgspec

from cloudlet.errors import AwsError


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks of, and for whom it was made; ``issuer`` is without its scheme."""

    issuer: str
    subject: str
    audience: str
    audiences: tuple[str, ...]

    def check_audience(self, client_ids: list[str] | None) -> None:
        """Hold the audience against a provider's clients, None for no such provider. Raises InvalidIdentityToken."""
        if client_ids is None:
            raise _invalid(
                f"No OpenIDConnect provider found in your account for https://{self.issuer}",
            )
        if not set(self.audiences) & set(client_ids):
            raise _invalid("Incorrect token audience")


def read(token: str, now: float) -> Identity:
    """Read a JSON Web Token. Raises InvalidIdentityToken and ExpiredTokenException."""
    try:
        _, payload, _ = token.split(".")
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=dict)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise _invalid(
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
        ) from None
    audience = claims.get("aud", ())
    audiences = tuple(map(str, audience)) if isinstance(audience, list) else (str(audience),) if audience else ()
    for name in ("iss", "sub", "exp"):
        if name not in claims:
            raise _invalid(f"Missing a required claim: {name}")
    if not audiences:
        raise _invalid("Missing a required claim: aud")
    try:
        expires = float(claims["exp"])
    except (TypeError, ValueError):
        raise _invalid("Invalid claim: exp") from None
    if expires <= now:
        raise AwsError(
            "ExpiredTokenException",
            f"Token expired: current date/time {int(now)} must be before the expiration date/time {int(expires)}",
        )
    issuer = str(claims["iss"]).removeprefix("https://").removeprefix("http://").rstrip("/")
    return Identity(issuer, str(claims["sub"]), str(claims.get("azp") or audiences[0]), audiences)


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidIdentityTokenException", message)
