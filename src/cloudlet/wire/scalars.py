"""Scalars as text: numbers, booleans, blobs and timestamps, as queries, headers and XML carry them."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,25}\Z", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)(?:[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?\s*([Zz]|[+-]\d\d:?(?:\d\d)?)?\Z",
    re.ASCII,
)
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_HTTP_DATE = re.compile(
    r"(?:[A-Za-z]{3,9},\s*)?(\d{1,2})[ -]([A-Za-z]{3})[ -](\d{4})\s+(\d\d):(\d\d):(\d\d)(\.\d+)?"
    r"\s*(?:GMT|UTC|[+-]0000)\Z",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = datetime(1970, 1, 1)  # noqa: DTZ001 - always UTC here, and faster to print without a zone

INTEGER_RANGE = (-(2**31), 2**31 - 1)
LONG_RANGE = (-(2**63), 2**63 - 1)


def read_integer(text: str) -> int:
    """A 32-bit integer. Raises ValueError."""
    return _bounded(text, INTEGER_RANGE)


def read_long(text: str) -> int:
    """A 64-bit integer. Raises ValueError."""
    return _bounded(text, LONG_RANGE)


def _bounded(text: str, bounds: tuple[int, int]) -> int:
    text = text.strip()
    if not _INTEGER.match(text):
        raise ValueError(text)
    value = int(text)
    if not bounds[0] <= value <= bounds[1]:
        raise ValueError(text)
    return value


def read_float(text: str) -> float:
    """A float, NaN and the infinities by name. Raises ValueError."""
    text = text.strip()
    if _NUMBER.match(text):
        return float(text)
    try:
        return _SPECIAL[text]
    except KeyError:
        raise ValueError(text) from None


def read_boolean(text: str) -> bool:
    """A boolean. Raises ValueError."""
    folded = text.strip().lower()
    if folded in ("true", "1"):
        return True
    if folded in ("false", "0"):
        return False
    raise ValueError(text)


def read_blob(text: str) -> bytes:
    """Base64. Raises ValueError."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None


def read_timestamp(text: str) -> float:
    """Epoch seconds from any of AWS's formats: a number, ISO 8601 or an HTTP date. Raises ValueError."""
    text = text.strip()
    if _NUMBER.match(text):
        value = float(text)
        if not math.isfinite(value) or abs(value) > 1e15:
            raise ValueError(text)
        return value
    if found := _ISO.match(text):
        year, month, day, hour, minute, second, fraction, zone = found.groups()
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), 0, tzinfo=UTC)
        value = (moment - _EPOCH).total_seconds() + int(second or 0)
        if zone and zone not in "Zz":
            digits = zone[1:].replace(":", "").ljust(4, "0")
            offset = int(digits[:2]) * 3600 + int(digits[2:]) * 60
            value -= offset if zone[0] == "+" else -offset
        return value + float(f"0.{fraction}") if fraction else value
    if found := _HTTP_DATE.match(text):
        day, name, year, hour, minute, second, fraction = found.groups()
        moment = datetime(int(year), _MONTHS.index(name.capitalize()) + 1, int(day), int(hour), int(minute), tzinfo=UTC)
        return (moment - _EPOCH).total_seconds() + int(second) + float(fraction or 0)
    raise ValueError(text)


def write_iso(value: Any) -> str:
    """``2015-01-01T00:00:00Z``, with milliseconds when there are any."""
    millis = round(value * 1000)
    moment = _START + timedelta(milliseconds=millis)
    return f"{moment.isoformat(timespec='milliseconds' if millis % 1000 else 'seconds')}Z"


def write_iso_millis(value: Any) -> str:
    """``2015-01-01T00:00:00.000Z``, as S3 and the query services write it."""
    return f"{(_START + timedelta(milliseconds=round(value * 1000))).isoformat(timespec='milliseconds')}Z"


def write_http_date(value: Any) -> str:
    """``Thu, 01 Jan 2015 00:00:00 GMT``."""
    moment = _START + timedelta(seconds=int(value // 1))
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment.year:04} "
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02} GMT"
    )


def write_epoch(value: Any) -> str:
    """Epoch seconds, with milliseconds when there are any."""
    seconds, millis = divmod(round(value * 1000), 1000)
    return f"{seconds + millis / 1000:.3f}".rstrip("0") if millis else str(seconds)


def write_float(value: Any) -> str:
    """A float as AWS writes it."""
    number = float(value)
    if number != number:
        return "NaN"
    if number in (math.inf, -math.inf):
        return "Infinity" if number > 0 else "-Infinity"
    return repr(number)


def write_blob(value: Any) -> str:
    """Base64 of bytes, or of a text's UTF-8."""
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def write_boolean(value: Any) -> str:
    """``true`` or ``false``."""
    return "true" if value else "false"


READERS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "character": str,
    "integer": read_integer,
    "long": read_long,
    "float": read_float,
    "double": read_float,
    "boolean": read_boolean,
    "blob": read_blob,
    "timestamp": read_timestamp,
}

WRITERS: dict[str, Callable[[Any], str]] = {
    "string": str,
    "character": str,
    "integer": str,
    "long": str,
    "float": write_float,
    "double": write_float,
    "boolean": write_boolean,
    "blob": write_blob,
}

TIMESTAMPS: dict[str, Callable[[Any], str]] = {
    "iso8601": write_iso,
    "rfc822": write_http_date,
    "unixTimestamp": write_epoch,
}
