"""Compressed bodies, for APIs with a ``minimumCompressionSize``.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gzip-compression-decompression.html
"""

from __future__ import annotations

import asyncio
import gzip
import zlib

from cloudlet.http import Request, Response
from cloudlet.services.apigateway.refusals import Refused

_AT_ONCE = 64 * 1024  # bytes that the event loop works on by itself


async def unpacked(request: Request, body: bytes, largest: int) -> bytes:
    """A request's body as its integration gets it, of ``largest`` bytes at most. Raises Refused."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("gzip", "deflate") or not body:
        return body
    try:
        plain = await asyncio.to_thread(_unpack, body, largest)
    except zlib.error:
        raise Refused("BAD_REQUEST_BODY") from None
    request.headers.pop("content-encoding")
    request.raw_headers = [one for one in request.raw_headers if one[0].lower() != b"content-encoding"]
    return plain


async def pack(request: Request, response: Response, smallest: int) -> None:
    """Compress an answer of at least so many bytes in the way that its client understands."""
    body = response.body
    if not isinstance(body, bytes) or len(body) < smallest or not body or "content-encoding" in response.headers:
        return
    wanted = [one.split(";")[0].strip() for one in request.headers.get("accept-encoding", "").lower().split(",")]
    coding = next((one for one in wanted if one in ("gzip", "deflate")), None)
    if coding is None:
        return
    work = gzip.compress if coding == "gzip" else zlib.compress
    response.body = work(body) if len(body) < _AT_ONCE else await asyncio.to_thread(work, body)
    response.headers["content-encoding"] = coding


def _unpack(body: bytes, largest: int) -> bytes:
    worker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip and zlib alike
    plain = worker.decompress(body, largest)
    if worker.unconsumed_tail:
        raise zlib.error("too large")
    return plain
