"""Domain names in Route 53's one spelling: lower case, a dot at the end, every unusual character as ``\\ooo``."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ESCAPE = re.compile(rb"\\([0-7]{3})|\\(.)|(.)", re.DOTALL)
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
WILDCARD = "\\052."


class BadName(ValueError):
    """A text is no domain name; the message is AWS's."""


def canonical(text: str) -> str:
    """A name as a user writes it, in Route 53's spelling. Raises BadName."""
    if not text.isascii():
        strange = next(letter for letter in text if not letter.isascii())
        raise BadName(problem("UnsupportedCharacter", "Value contains unsupported characters", strange))
    if not text:
        raise BadName(problem("DomainNameEmpty", "Domain name is empty", text))
    labels: list[bytearray] = [bytearray()]
    for octal, literal, plain in _ESCAPE.findall(text.removesuffix(".").encode()):
        if octal:
            labels[-1].append(int(octal, 8) & 0xFF)
        elif plain == b".":
            labels.append(bytearray())
        elif plain and (plain <= b" " or plain == b"\x7f"):
            raise BadName(problem("UnsupportedCharacter", "Value contains unsupported characters", plain.decode()))
        else:
            labels[-1] += literal or plain
    if text == ".":
        return "."
    if not all(labels):
        raise BadName(problem("DomainLabelEmpty", "Domain label is empty", text))
    if any(len(label) > 63 for label in labels):
        raise BadName(problem("DomainLabelTooLong", "Domain label is too long", text))
    if sum(len(label) + 1 for label in labels) > 254:
        raise BadName(problem("DomainNameTooLong", "Domain name is too long", text))
    return of_labels(labels)


def of_labels(labels: Iterable[bytes | bytearray]) -> str:
    """The name of these labels, the outermost last and without the root's."""
    parts = []
    for label in labels:
        lower = label.lower()
        if _PLAIN.issuperset(lower):
            parts.append(lower.decode())
        else:
            parts.append("".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in lower))
    return ".".join(parts) + "."


def within(name: str, zone: str) -> bool:
    """Whether a name is a zone's own or lies below it."""
    return name == zone or zone == "." or name.endswith("." + zone)


def parent(name: str) -> str:
    """The name without its first label; of a top-level name the root."""
    return name.partition(".")[2] or "."


def order(name: str) -> tuple[str, ...]:
    """What names are listed by: their labels, the outermost first."""
    return tuple(reversed(name.rstrip(".").split(".")))


def problem(code: str, words: str, value: str) -> str:
    """AWS's words for something that cannot be part of a record."""
    return f"FATAL problem: {code} ({words}) encountered with '{value}'"
