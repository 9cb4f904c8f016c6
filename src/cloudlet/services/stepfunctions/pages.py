"""Lists in pages."""

from __future__ import annotations

import base64
from typing import TypeVar

from cloudlet.errors import AwsError
from cloudlet.services.api import Input

T = TypeVar("T")
MOST = 1000


def size_of(input: Input, default: int = 100) -> int:
    """How many a page has: 0 means the default."""
    return min(int(input.get("maxResults") or default), MOST)


def token_of(value: int, asked: str = "") -> str:
    """A token that says where the next page begins, and of what it is a page."""
    return base64.urlsafe_b64encode(f"{value}|{asked}".encode()).decode()


def place_of(input: Input, default: int, asked: str = "") -> int:
    """Where a page begins. Raises InvalidToken, also for the token of another question."""
    token = input.get("nextToken")
    if not token:
        return default
    try:
        place, _, before = base64.urlsafe_b64decode(token.encode()).decode().partition("|")
        start = int(place)
    except ValueError:
        raise AwsError("InvalidToken", "Invalid Token: 'Invalid token'") from None
    if before != asked:
        raise AwsError("InvalidToken", "Invalid Token: 'Input inconsistent with page token'")
    return start


def paged(found: list[T], input: Input) -> tuple[list[T], dict[str, str]]:
    """A page of a list, and ``nextToken`` where there is more. Raises InvalidToken."""
    start, size = place_of(input, 0), size_of(input)
    rest = {"nextToken": token_of(start + size)} if start + size < len(found) else {}
    return found[start : start + size], rest
