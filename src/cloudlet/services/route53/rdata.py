"""The values of records: judged as Route 53 judges them, and made into what goes over the wire."""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import TYPE_CHECKING

from cloudlet.services.route53 import names
from cloudlet.services.route53.names import BadName, problem

if TYPE_CHECKING:
    import dns.rdata

_FIELDS = {"MX": 2, "SRV": 4, "CAA": 3, "NAPTR": 6, "DS": 4, "TLSA": 4, "SSHFP": 3, "SOA": 7}
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OCTAL = re.compile(r"\\([0-7]{3})")
_NAMES = frozenset(("CNAME", "NS", "PTR"))


class BadValue(ValueError):
    """A value is not one of its type; the message is AWS's."""


def check(kind: str, value: str) -> None:
    """Judge one value. Raises BadValue."""
    try:
        if kind == "A":
            _address(ipaddress.IPv4Address, value, "ARRDATAIllegalIPv4Address", "Value is not a valid IPv4 address")
        elif kind == "AAAA":
            _address(ipaddress.IPv6Address, value, "AAAARRDATAIllegalIPv6Address", "Value is not a valid IPv6 address")
        elif kind in _NAMES:
            names.canonical(value)
        elif kind in ("TXT", "SPF"):
            _strings(value)
        else:
            if (count := _FIELDS.get(kind)) is not None and len(_split(value)) < count:
                words = f"{kind} record doesn't have {count} fields"
                raise BadValue(problem(f"{kind}RRDATANot{_WORDS[count]}Fields", words, value))
            parsed(kind, value)
    except BadName as error:
        raise BadValue(str(error)) from None


_WORDS = {2: "Two", 3: "Three", 4: "Four", 6: "Six", 7: "Seven"}


@functools.lru_cache(maxsize=4096)
def parsed(kind: str, value: str) -> dns.rdata.Rdata:
    """A value as a message carries it. Raises BadValue."""
    import dns.exception
    import dns.name
    import dns.rdata
    import dns.rdataclass

    try:
        return dns.rdata.from_text(dns.rdataclass.IN, kind, decimal(value), origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        words = f"Value is not a valid {kind} record: {error}"
        raise BadValue(problem(f"Invalid{kind}RDATA", words, value)) from None


def decimal(text: str) -> str:
    """A text with its bytes escaped as zone files do: Route 53 writes them in octal."""
    return _OCTAL.sub(lambda found: f"\\{int(found[1], 8) & 255:03d}", text)


def _address(
    family: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], value: str, code: str, words: str
) -> None:
    try:
        family(value)
    except ValueError:
        raise BadValue(problem(code, words, value)) from None


def _strings(value: str) -> None:
    if _STRING.sub("", value).strip() or not value.strip():
        raise BadValue(problem("InvalidCharacterString", "Value should be enclosed in quotation marks", value))
    for text in _STRING.findall(value):
        if len(_OCTAL.sub("x", text).replace('\\"', '"').replace("\\\\", "\\")) > 255:
            raise BadValue(problem("CharacterStringTooLong", "Value is too long", value))
    parsed("TXT", value)


def _split(value: str) -> list[str]:
    return _STRING.sub("x", value).split()
