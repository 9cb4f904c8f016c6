"""Lists in pages, and the tokens that say where the next page begins."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Output


def page_at(key: str, items: list[Any], token: str | None, size: int, refusal: AwsError, name: str) -> Output:
    """One page of a listing under ``key``, and the next one's token under ``name``; tokens are positions.

    Raises the refusal for what is no token.
    """
    start = token or "0"
    if not start.isdigit():
        raise refusal
    end = int(start) + size
    return {key: items[int(start) : end], **({name: str(end)} if end < len(items) else {})}


def token_of(*place: Any) -> str:
    """A token for going on at a place, texts and numbers."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def place_of(token: str, types: tuple[type, ...], refusal: AwsError) -> list[Any]:
    """The place of a token, of values of these types. Raises the refusal for what is no such token."""
    try:
        place = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        if isinstance(place, list) and tuple(type(part) for part in place) == types:
            return place
    except (ValueError, binascii.Error):
        pass
    raise refusal
