"""PEM as AWS reads and writes it."""

from __future__ import annotations

import re

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


def tidy(given: bytes) -> str:
    """The blocks of a text, one after the other, without a newline at the end, as AWS writes them.

    AWS also takes lines that a shell has put into one, with spaces between them.
    """
    return joined(*(_written(match[1], b"".join(match[2].split())) for match in _BLOCK.finditer(given)))


def joined(*pems: str) -> str:
    """Texts of PEM as one; empty ones are left out."""
    return "\n".join(pem.strip("\n") for pem in pems if pem)


def _written(label: bytes, body: bytes) -> str:
    lines = [body[index : index + 64] for index in range(0, len(body), 64)]
    return b"\n".join((b"-----BEGIN %b-----" % label, *lines, b"-----END %b-----" % label)).decode()
