"""Compressed bodies: SDKs gzip the larger ones of some operations."""

from __future__ import annotations

import zlib

from cloudlet.errors import AwsError
from cloudlet.http import Request

LARGEST = 64 * 1024 * 1024


def inflated(request: Request) -> Request:
    """The request with its body decompressed; the request itself when it is not gzipped. Raises AwsError."""
    encodings = [part.strip() for part in request.headers.get("content-encoding", "").split(",")]
    if encodings[-1].lower() != "gzip" or not request.body:
        return request
    unzip = zlib.decompressobj(wbits=31)
    try:
        body = unzip.decompress(request.body, LARGEST)
    except zlib.error:
        raise AwsError("SerializationException", "The body is not gzip, as its Content-Encoding says.") from None
    if unzip.unconsumed_tail or not unzip.eof:
        raise AwsError("RequestEntityTooLarge", "The decompressed body is too large or cut off.", status=413)
    headers = {name: value for name, value in request.headers.items() if name != "content-encoding"}
    if encodings[:-1]:
        headers["content-encoding"] = ", ".join(encodings[:-1])
    return Request(request.method, request.path, request.query, headers, body)
