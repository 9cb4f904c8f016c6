"""Pages, whose tokens say where the next one begins, of which question, and for how long they are good."""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input
from cloudlet.services.resourcegroupstaggingapi.errors import invalid

_GOOD_FOR = 900.0  # seconds
_ALWAYS = ("PaginationToken", "ResourcesPerPage", "TagsPerPage")  # what may differ from page to page


def after(call: Call, input: Input, now: float) -> str:
    """The last of the page before, or nothing. Raises PaginationTokenExpiredException, InvalidParameterException."""
    token = input.get("PaginationToken")
    if not token:
        return ""
    try:
        made, question, last = json.loads(urlsafe_b64decode(token))
        age = now - made
    except (ValueError, TypeError):
        raise invalid("The specified PaginationToken is invalid.") from None
    if question != _question(call, input):
        raise invalid("The specified PaginationToken is of another request.")
    if age > _GOOD_FOR:
        raise AwsError("PaginationTokenExpiredException", "The specified PaginationToken has expired.")
    return str(last)


def token(call: Call, input: Input, now: float, last: str) -> str:
    """The token of the page that follows ``last``."""
    return urlsafe_b64encode(json.dumps([now, _question(call, input), last]).encode()).decode()


def _question(call: Call, input: Input) -> int:
    asked = {key: value for key, value in input.items() if key not in _ALWAYS}
    return zlib.crc32(json.dumps([call.scope, call.operation, asked], sort_keys=True).encode())
