"""Tags: their rules, and how they stand in a header."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from cloudlet.errors import AwsError

Tags = list[dict[str, str]]


def check_tags(tags: Tags, most: int) -> None:
    """Refuse a set of tags that S3 does not take."""
    if len(tags) > most:
        what = "Object tags cannot be greater than 10" if most == 10 else "Bucket tag count cannot be greater than 50"
        raise AwsError("BadRequest" if most == 10 else "InvalidTag", what)
    keys = [tag["Key"] for tag in tags]
    if len(set(keys)) < len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise AwsError("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=repeated)
    for tag in tags:
        key, value = tag["Key"], tag["Value"]
        if not 1 <= len(key) <= 128 or not _is_plain(key):
            raise AwsError("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if len(value) > 256 or not _is_plain(value):
            raise AwsError("InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value)
        if key.startswith("aws:") and most == 10:
            raise AwsError("InvalidTag", "Your TagKey cannot be prefixed with aws:", TagKey=key)


def _is_plain(text: str) -> bool:
    """Whether it has letters, digits, white space and the signs of tags only."""
    return all(letter.isalnum() or letter.isspace() or letter in "_.:/=+-@" for letter in text)


def of_header(text: str) -> Tags:
    """The tags of an ``x-amz-tagging`` header, which is written as a query string."""
    try:
        pairs: list[Any] = parse_qsl(text, keep_blank_values=True, max_num_fields=100)
        if len({key for key, _ in pairs}) < len(pairs) or any(one.count("=") > 1 for one in text.split("&")):
            raise ValueError("a name stands twice, or not everything is encoded")
    except ValueError:
        raise AwsError(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag "
            "name duplicates.",
            ArgumentName="x-amz-tagging",
            ArgumentValue=text,
        ) from None
    tags = [{"Key": key, "Value": value} for key, value in pairs]
    check_tags(tags, 10)
    return tags
