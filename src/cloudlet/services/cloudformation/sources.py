"""Where a template's text comes from: the request, or an object of S3."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud
from cloudlet.stacks.errors import invalid

_VIRTUAL = re.compile(r"(?P<bucket>.+?)\.(?:s3[.-].*|localhost(?:\.localstack\.cloud)?)\Z")
_LARGEST = 1024 * 1024


async def text_of(cloud: Cloud, call: Call, input: dict[str, Any], what: str = "Template") -> str | None:
    """The text that ``<what>Body`` or ``<what>URL`` give, or None. Raises ValidationError."""
    body, url = input.get(f"{what}Body"), input.get(f"{what}URL")
    if body is not None and url is not None:
        raise invalid(f"You must specify exactly one of {what} Body or {what} URL.")
    if url is not None:
        return await fetch(cloud, call.account, call.region, url)
    return body


async def fetch(cloud: Cloud, account: str, region: str, url: str) -> str:
    """The text of an object by its URL, in any style of S3, or of a packaged template. Raises ValidationError."""
    if url.startswith("file://"):
        return await asyncio.to_thread(_packaged, cloud, url)
    bucket, key, version = place_of(url)
    input = {"Bucket": bucket, "Key": key}
    if version:
        input["VersionId"] = version
    try:
        found = await cloud.call("s3", "GetObject", input, account=account, region=region)
    except AwsError as error:
        raise invalid(f"S3 error: {error.message}") from None
    body = found["Body"]
    if not isinstance(body, bytes):
        chunks, size = [], 0
        async for chunk in body:
            size += len(chunk)
            if size > _LARGEST:
                raise invalid("Template may not exceed 1000000 bytes in size.")
            chunks.append(chunk)
        body = b"".join(chunks)
    try:
        return str(body.decode())
    except UnicodeDecodeError:
        raise invalid("Template format error: the template is not UTF-8.") from None


def _packaged(cloud: Cloud, url: str) -> str:
    """A template that was packaged on this machine; no other file can be read this way."""
    file = Path(unquote(url.removeprefix("file://"))).resolve()
    if not file.is_relative_to((cloud.data_dir / "cloudformation" / "templates").resolve()) or not file.is_file():
        raise invalid("TemplateURL must be a supported URL.")
    return file.read_text()


def place_of(url: str) -> tuple[str, str, str]:
    """Bucket, key and version of an object's URL. Raises ValidationError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid("TemplateURL must be a supported URL.")
    host, path = parts.hostname, unquote(parts.path).lstrip("/")
    found = _VIRTUAL.match(host) if not host.startswith(("s3.", "s3-")) else None
    bucket, key = (found.group("bucket"), path) if found else path.partition("/")[::2]
    if not bucket or not key:
        raise invalid("TemplateURL must reference a valid S3 object to which you have access.")
    return bucket, key, parse_qs(parts.query).get("versionId", [""])[0]
