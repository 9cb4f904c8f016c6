"""Bodies that are uploaded in chunks (``aws-chunked``), signed or not, with or without a trailer.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator

from cloudlet.errors import AwsError
from cloudlet.gateway.signature.canonical import EMPTY_HASH, sign, signing_key
from cloudlet.gateway.signature.credentials import Credential
from cloudlet.gateway.signature.signed import Signed
from cloudlet.gateway.signature.verify import wrong_hash
from cloudlet.http import Request

_LONGEST_LINE = 16 * 1024


def unchunk(request: Request, signed: Signed | None, credential: Credential | None) -> None:
    """Put the plain body in place of the chunked one; signatures are verified where there is a credential.

    When the body has ended, the trailing headers (``x-amz-checksum-…``) are among the request's headers.
    """
    form = request.headers.get("x-amz-content-sha256", "")
    if not form.startswith("STREAMING-"):
        return
    chain = None
    if "UNSIGNED" not in form and credential is not None and signed is not None:
        chain = _Chain(signed, credential, request.headers.get("x-amz-date", ""))
    source = request.stream()
    request.replace_stream(_plain(request, source, chain))
    encodings = [part.strip() for part in request.headers.get("content-encoding", "").split(",")]
    kept = [encoding for encoding in encodings if encoding and encoding != "aws-chunked"]
    if kept:
        request.headers["content-encoding"] = ",".join(kept)
    else:
        request.headers.pop("content-encoding", None)
    if "x-amz-decoded-content-length" in request.headers:
        request.headers["content-length"] = request.headers["x-amz-decoded-content-length"]


def check_stream(request: Request) -> None:
    """Hold a streamed body against the hash that was signed, as its last chunk passes."""
    claimed = request.headers.get("x-amz-content-sha256", "")
    if len(claimed) == 64 and request.body is None:
        request.replace_stream(_hashed(request.stream(), claimed))


async def _hashed(source: AsyncIterator[bytes], claimed: str) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()
    async for chunk in source:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != claimed:
        raise wrong_hash(claimed, digest.hexdigest())


class _Chain:
    """Each chunk's signature covers the one before it; the first covers the request's."""

    def __init__(self, signed: Signed, credential: Credential, timestamp: str) -> None:
        self._scope = f"{signed.date}/{signed.region}/{signed.service}/aws4_request"
        self._key = signing_key(credential.secret, signed.date, signed.region, signed.service)
        self._timestamp = timestamp
        self._previous = signed.signature

    def check_chunk(self, digest: str, claimed: str) -> None:
        """Raises SignatureDoesNotMatch."""
        self._check(
            ("AWS4-HMAC-SHA256-PAYLOAD", self._timestamp, self._scope, self._previous, EMPTY_HASH, digest), claimed
        )

    def check_trailer(self, text: bytes, claimed: str) -> None:
        """Raises SignatureDoesNotMatch."""
        digest = hashlib.sha256(text).hexdigest()
        self._check(("AWS4-HMAC-SHA256-TRAILER", self._timestamp, self._scope, self._previous, digest), claimed)

    def _check(self, parts: tuple[str, ...], claimed: str) -> None:
        expected = sign(self._key, "\n".join(parts))
        if not hmac.compare_digest(expected.encode(), claimed.encode()):
            words = (
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method."
            )
            raise AwsError("SignatureDoesNotMatch", words, status=403)
        self._previous = expected


class _Reader:
    """Lines and exact numbers of bytes out of a stream."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self._buffer = bytearray()

    async def _more(self) -> bool:
        async for chunk in self._source:
            self._buffer += chunk
            return True
        return False

    async def line(self) -> bytes:
        """The next line, without its end; an empty one at the end of the stream."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise malformed("a chunk's header is too long")
            if not await self._more():
                end = len(self._buffer)
                break
        found = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return found.rstrip(b"\r")

    async def exactly(self, size: int) -> AsyncIterator[bytes]:
        """That many bytes, in the pieces in which they come."""
        while size:
            if not self._buffer and not await self._more():
                raise AwsError(
                    "IncompleteBody",
                    "You did not provide the number of bytes specified by the Content-Length HTTP header",
                )
            piece = bytes(self._buffer[:size])
            del self._buffer[:size]
            size -= len(piece)
            yield piece


async def _plain(request: Request, source: AsyncIterator[bytes], chain: _Chain | None) -> AsyncIterator[bytes]:
    reader = _Reader(source)
    total = 0
    while True:
        header = (await reader.line()).decode("latin-1")
        text, _, extension = header.partition(";")
        try:
            size = int(text, 16)
        except ValueError:
            raise malformed(f"{text[:40]!r} is not a chunk's size") from None
        claimed = extension.strip().removeprefix("chunk-signature=")
        digest = hashlib.sha256()
        async for piece in reader.exactly(size):
            if chain is not None:
                digest.update(piece)
            total += len(piece)
            yield piece
        if chain is not None:
            chain.check_chunk(digest.hexdigest(), claimed)
        if size == 0:
            break
        await reader.line()
    await _trailer(request, reader, chain)
    promised = request.headers.get("x-amz-decoded-content-length")
    if promised is not None and promised.isdigit() and int(promised) != total:
        raise AwsError(
            "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"
        )


async def _trailer(request: Request, reader: _Reader, chain: _Chain | None) -> None:
    lines: list[tuple[str, str]] = []
    claimed = ""
    while line := await reader.line():
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or len(lines) > 20:
            raise malformed("its trailer is not a list of headers")
        if name.strip().lower() == "x-amz-trailer-signature":
            claimed = value.strip()
        else:
            lines.append((name.strip().lower(), value.strip()))
    promised = {name.strip().lower() for name in request.headers.get("x-amz-trailer", "").split(",") if name.strip()}
    if not promised.issubset(name for name, _ in lines):
        raise malformed("a promised trailing header is missing", "MalformedTrailerError")
    if chain is not None and "TRAILER" in request.headers.get("x-amz-content-sha256", ""):
        chain.check_trailer("".join(f"{name}:{value}\n" for name, value in lines).encode(), claimed)
    request.headers.update(line for line in lines if line[0] in promised)


def malformed(why: str, code: str = "InvalidRequest") -> AwsError:
    """A chunked body that is not in its form."""
    return AwsError(code, f"The request contained a chunked body that is not well-formed: {why}.")
