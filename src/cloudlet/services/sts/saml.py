"""SAML assertions: what one says. Whether its issuer really signed it is not looked at (``--auth local``)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cloudlet.errors import AwsError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
_SPACE = "{urn:oasis:names:tc:SAML:2.0:assertion}"


@dataclass(frozen=True, slots=True)
class Assertion:
    """Whom an assertion speaks of and what it lets him have. ``seconds`` is 0 where it does not say how long."""

    issuer: str
    subject: str
    subject_type: str
    audience: str
    session_name: str
    seconds: int
    roles: tuple[str, ...]  # pairs of ARNs, as they are written: role,provider or provider,role

    def check_role(self, role: str, provider: str) -> None:
        """Whether the role may be had through the provider. Raises AccessDenied."""
        if not any({part.strip() for part in pair.split(",")} == {role, provider} for pair in self.roles):
            raise AwsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML", status=403)


def read(encoded: str, now: float) -> Assertion:
    """Read a SAML response. Raises InvalidIdentityToken and ExpiredTokenException."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error, ElementTree.ParseError):
        raise _invalid("Invalid base64 SAMLResponse") from None
    name = root.find(f".//{_SPACE}Subject/{_SPACE}NameID")
    attributes = {
        attribute.get("Name", "").removeprefix(_ATTRIBUTES): [value.text or "" for value in attribute]
        for attribute in root.iter(f"{_SPACE}Attribute")
    }
    if name is None or not name.text:
        raise _invalid("A NameID is required")
    for needed in ("Role", "RoleSessionName"):
        if not attributes.get(needed):
            raise _invalid(f"{needed} is required in AuthnResponse")
    for limit in _limited(root):
        if datetime.fromisoformat(limit).timestamp() <= now:
            raise AwsError("ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance")
    return Assertion(
        _text(root, "Issuer"),
        name.text.strip(),
        name.get("Format", "").rpartition(":")[2],
        _text(root, "Audience"),
        attributes["RoleSessionName"][0].strip(),
        int(attributes.get("SessionDuration", ["0"])[0]),
        tuple(attributes["Role"]),
    )


def name_qualifier(issuer: str, account: str, provider: str) -> str:
    """What tells subjects of one provider from those of another, as AWS makes it."""
    digest = hashlib.sha1(f"{issuer}{account}/{provider}".encode()).digest()
    return base64.b64encode(digest).decode()


def _limited(root: Element) -> list[str]:
    """The times after which the assertion is good for nothing."""
    found = [*root.iter(f"{_SPACE}SubjectConfirmationData"), *root.iter(f"{_SPACE}Conditions")]
    return [limit for one in found if (limit := one.get("NotOnOrAfter"))]


def _text(root: Element, tag: str) -> str:
    found = root.find(f".//{_SPACE}{tag}")
    return (found.text or "").strip() if found is not None else ""


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidIdentityTokenException", message)
