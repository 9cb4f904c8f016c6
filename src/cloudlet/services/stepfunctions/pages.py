"""Lists in pages."""

from __future__ import annotations

import base64
from typing import Any, TypeVar

from cloudlet.errors import AwsError
from cloudlet.services.api import Input

T = TypeVar("T")
MOST = 1000


def size_of(input: Input, default: int = 100) -> int:
    """How many a page has: 0 means the default."""
    return min(int(input.get("maxResults") or default), MOST)


def token_of(value: Any) -> str:
    """A token that says where the next page begins."""
    return base64.urlsafe_b64encode(str(value).encode()).decode()


def place_of(input: Input, default: int) -> int:
    """Where a page begins. Raises InvalidToken."""
    token = input.get("nextToken")
    if not token:
        return default
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except ValueError:
        raise AwsError("InvalidToken", "Invalid Token: 'Invalid token'") from None


def paged(found: list[T], input: Input) -> tuple[list[T], dict[str, str]]:
    """A page of a list, and ``nextToken`` where there is more. Raises InvalidToken."""
    start, size = place_of(input, 0), size_of(input)
    rest = {"nextToken": token_of(start + size)} if start + size < len(found) else {}
    return found[start : start + size], rest
