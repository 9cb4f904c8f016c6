"""Bodies in chunks (``aws-chunked``): unwrapped as they stream, each chunk's signature verified, trailers taken in."""

from __future__ import annotations

import hashlib

from cloudlet.errors import AwsError, not_implemented
from cloudlet.http import Request, Stream
from cloudlet.wire.signature.credential import Credential
from cloudlet.wire.signature.read import Signed
from cloudlet.wire.signature.refusals import refuse
from cloudlet.wire.signature.verify import scope_of, sign, signing_key, timestamp_of
from cloudlet.wire.signature.version2 import equal

_LONGEST_LINE = 16 * 1024
_MOST_TRAILERS = 32
_NOTHING = hashlib.sha256(b"").hexdigest()
_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


def unchunk(request: Request, signed: Signed | None, credential: Credential | None) -> None:
    """Let the request's body be what was wrapped in chunks; call it after the headers' signature was verified.

    With a credential each chunk's and the trailer's signature are verified. Trailing headers are in the request's
    headers when the body has ended. Reading raises AwsError for a malformed, cut off or tampered body.
    """
    headers = request.headers
    encodings = [name.strip() for name in headers.get("content-encoding", "").split(",")]
    left = ",".join(name for name in encodings if name and name != "aws-chunked")
    if left:
        headers["content-encoding"] = left
    else:
        headers.pop("content-encoding", None)
    kind = headers.get("x-amz-content-sha256", "")
    length = headers.get("x-amz-decoded-content-length")
    if length is None and not kind.startswith("STREAMING-"):
        return
    if length is None:
        raise AwsError("MissingContentLength", "You must provide the Content-Length HTTP header.", status=411)
    if not length.isdigit():
        raise AwsError("InvalidArgument", "x-amz-decoded-content-length must be a number", status=400)
    headers["content-length"] = length
    chain = None
    if credential is not None and signed is not None and kind.startswith("STREAMING-AWS4"):
        if not kind.startswith(_SIGNED):
            raise not_implemented("chunk signatures of version 4A")
        chain = _Chain(request, signed, credential)
    request.decode_body(lambda body: _decoded(_Reader(body), request, int(length), chain))


class _Chain:
    """Signatures of which each covers the one before it."""

    def __init__(self, request: Request, signed: Signed, credential: Credential) -> None:
        self._key = signing_key(credential.secret, signed.date, signed.region, signed.service)
        self._scope = f"{timestamp_of(request, signed)}\n{scope_of(signed)}"
        self._previous = signed.signature

    def check_chunk(self, signature: str, digest: str) -> None:
        """Raises SignatureDoesNotMatch when the next chunk is not the one that was signed."""
        self._check(signature, f"AWS4-HMAC-SHA256-PAYLOAD\n{self._scope}\n{self._previous}\n{_NOTHING}\n{digest}")

    def check_trailer(self, signature: str, trailers: list[tuple[str, str]]) -> None:
        """Raises SignatureDoesNotMatch when the trailing headers are not those that were signed."""
        text = "".join(f"{name}:{value}\n" for name, value in trailers)
        digest = hashlib.sha256(text.encode("latin-1")).hexdigest()
        self._check(signature, f"AWS4-HMAC-SHA256-TRAILER\n{self._scope}\n{self._previous}\n{digest}")

    def _check(self, signature: str, text: str) -> None:
        if not equal(sign(self._key, text), signature):
            raise refuse("s3", "mismatch")
        self._previous = signature


class _Reader:
    """Lines and stretches of bytes out of a stream."""

    def __init__(self, source: Stream) -> None:
        self._source = source
        self._buffer = b""
        self._position = 0

    async def line(self) -> bytes | None:
        """The next line without its end, None at the end of the stream."""
        while True:
            end = self._buffer.find(b"\n", self._position)
            if end >= 0:
                line = self._buffer[self._position : end]
                self._position = end + 1
                return line.rstrip(b"\r")
            if len(self._buffer) - self._position > _LONGEST_LINE:
                raise _malformed("a line is too long")
            if not await self._more():
                line = self._buffer[self._position :]
                self._buffer, self._position = b"", 0
                return line or None

    async def stretch(self, most: int) -> bytes:
        """What is at hand of the next ``most`` bytes, at least one. Raises IncompleteBody at the end of the stream."""
        if self._position == len(self._buffer) and not await self._more():
            raise _incomplete()
        whole = self._position == 0 and most >= len(self._buffer)
        piece = self._buffer if whole else self._buffer[self._position : self._position + most]
        self._position += len(piece)
        return piece

    async def rest(self) -> None:
        """Read the stream to its end, so that the connection can be used again."""
        self._buffer, self._position = b"", 0
        async for _ in self._source:
            pass

    async def _more(self) -> bool:
        async for piece in self._source:
            self._buffer = self._buffer[self._position :] + piece
            self._position = 0
            return True
        return False


async def _decoded(reader: _Reader, request: Request, length: int, chain: _Chain | None) -> Stream:
    total = 0
    while True:
        size, signature = _chunk_header(await reader.line())
        total += size
        if total > length:
            raise _incomplete()
        hashed = hashlib.sha256() if chain is not None else None
        left = size
        while left:
            piece = await reader.stretch(left)
            left -= len(piece)
            if hashed is not None:
                hashed.update(piece)
            yield piece
        if chain is not None and hashed is not None:
            chain.check_chunk(signature, hashed.hexdigest())
        if size == 0:
            break
        if await reader.line() != b"":
            raise _malformed("a chunk is longer than it says")
    await _take_trailers(reader, request, chain)
    if total != length:
        raise _incomplete()
    await reader.rest()


async def _take_trailers(reader: _Reader, request: Request, chain: _Chain | None) -> None:
    trailers: list[tuple[str, str]] = []
    signature = ""
    while (line := await reader.line()) is not None:
        if not line:
            # Between the trailers and their signature some clients leave an empty line.
            if chain is None or signature or not trailers:
                break
            continue
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or len(trailers) == _MOST_TRAILERS:
            raise _bad_trailer()
        if (name := name.strip().lower()) == "x-amz-trailer-signature":
            signature = value.strip()
        else:
            trailers.append((name, value.strip()))
    announced = {name.strip().lower() for name in request.headers.get("x-amz-trailer", "").split(",") if name.strip()}
    if announced != {name for name, _ in trailers}:
        raise _bad_trailer()
    if chain is not None and (trailers or signature):
        chain.check_trailer(signature, trailers)
    request.headers.update(trailers)


def _chunk_header(line: bytes | None) -> tuple[int, str]:
    """Size and signature of a chunk."""
    if line is None:
        raise _incomplete()
    size, _, extension = line.partition(b";")
    try:
        if not size.strip().isalnum():
            raise ValueError
        number = int(size, 16)
    except ValueError:
        raise _malformed("a chunk does not begin with its size") from None
    name, _, value = extension.partition(b"=")
    return number, value.decode("latin-1").strip() if name.strip() == b"chunk-signature" else ""


def _malformed(reason: str) -> AwsError:
    return AwsError("InvalidRequest", f"The body is not in well-formed aws-chunked encoding: {reason}.", status=400)


def _bad_trailer() -> AwsError:
    return AwsError(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
        status=400,
    )


def _incomplete() -> AwsError:
    return AwsError(
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
        status=400,
    )
