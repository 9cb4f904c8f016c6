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
        if not 1 <= len(tag["Key"]) <= 128:
            raise AwsError("InvalidTag", "The TagKey you have provided is invalid", TagKey=tag["Key"])
        if len(tag["Value"]) > 256:
            raise AwsError("InvalidTag", "The TagValue you have provided is invalid", TagKey=tag["Key"])
        if tag["Key"].startswith("aws:") and most == 10:
            raise AwsError("InvalidTag", "Your TagKey cannot be prefixed with aws:", TagKey=tag["Key"])


def of_header(text: str) -> Tags:
    """The tags of an ``x-amz-tagging`` header, which is written as a query string."""
    try:
        pairs: list[Any] = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=100)
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
