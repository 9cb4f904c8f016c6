"""The templates that certificates are issued by: what each sets, and what it takes from the request.

https://docs.aws.amazon.com/privateca/latest/userguide/template-definitions.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudlet.errors import AwsError

DEFAULT = "arn:aws:acm-pca:::template/EndEntityCertificate/V1"

_ARN = re.compile(r"arn:aws[\w-]*:acm-pca:::template/([A-Za-z0-9_]+)/V1\Z")
_NAME = re.compile(
    r"(?P<kind>(?:Blank)?[A-Za-z]+?)(?P<critical>_CriticalBasicConstraints)?(?:_PathLen(?P<length>[0-3]))?"
    r"(?:_(?P<through>API|CSR|APICSR)Passthrough)?\Z"
)
_SIGN = ("key_cert_sign", "crl_sign")


@dataclass(frozen=True, slots=True)
class Template:
    """One template. Usages are named as cryptography names them; ``extended`` are object identifiers."""

    name: str
    is_authority: bool = False
    is_root: bool = False
    length: int | None = None  # of the path below an authority
    critical: bool = False  # basic constraints
    usages: tuple[str, ...] = ()
    extended: tuple[str, ...] = ()
    extended_critical: bool = False
    from_api: bool = False
    from_csr: bool = False


_SERVER, _CLIENT, _CODE, _OCSP = (f"1.3.6.1.5.5.7.3.{number}" for number in (1, 2, 3, 9))
_USUAL = ("digital_signature", "key_encipherment")
_AUTHORITY = ("digital_signature", *_SIGN)
# kind -> usages, extended usages, whether these are critical
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    "EndEntityCertificate": (_USUAL, (_SERVER, _CLIENT), False),
    "EndEntityClientAuthCertificate": (_USUAL, (_CLIENT,), False),
    "EndEntityServerAuthCertificate": (_USUAL, (_SERVER,), False),
    "CodeSigningCertificate": (("digital_signature",), (_CODE,), True),
    "OCSPSigningCertificate": (("digital_signature",), (_OCSP,), True),
    "RootCACertificate": (_AUTHORITY, (), False),
    "SubordinateCACertificate": (_AUTHORITY, (), False),
    "BlankEndEntityCertificate": ((), (), False),
    "BlankRootCACertificate": ((), (), False),
    "BlankSubordinateCACertificate": ((), (), False),
}


def template(arn: str) -> Template:
    """The template that an ARN names. Raises InvalidArgsException."""
    found = _ARN.match(arn)
    form = _NAME.match(found[1]) if found else None
    if found is None or form is None or form["kind"] not in _KINDS or not _is_there(form):
        raise AwsError("InvalidArgsException", f"The template ARN {arn} is not valid.")
    usages, extended, critical = _KINDS[form["kind"]]
    through = form["through"] or ""
    is_authority = form["kind"].endswith("CACertificate")
    return Template(
        found[1],
        is_authority,
        "Root" in form["kind"],
        int(form["length"]) if form["length"] else None,
        is_authority or bool(form["critical"]),
        usages,
        extended,
        critical,
        "API" in through,
        "CSR" in through,
    )


def _is_there(form: re.Match[str]) -> bool:
    """Whether AWS has this combination."""
    kind, blank = form["kind"], form["kind"].startswith("Blank")
    if form["critical"] and kind != "BlankEndEntityCertificate":
        return False
    if blank and not form["through"]:
        return False
    if "Subordinate" in kind:
        return form["length"] is not None
    if kind == "RootCACertificate":
        return form["length"] is None and form["through"] in (None, "API")
    if kind == "BlankRootCACertificate":
        return form["through"] == "API"
    return form["length"] is None
