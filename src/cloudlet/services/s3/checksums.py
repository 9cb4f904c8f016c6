"""The checksums that S3 keeps with an object: made, verified, and joined over the parts of an upload."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input

# Algorithm -> the member that carries its value, and the value's length in bytes.
MEMBERS = {
    "CRC32": "ChecksumCRC32",
    "CRC32C": "ChecksumCRC32C",
    "CRC64NVME": "ChecksumCRC64NVME",
    "SHA1": "ChecksumSHA1",
    "SHA256": "ChecksumSHA256",
    "SHA512": "ChecksumSHA512",
    "MD5": "ChecksumMD5",
    "XXHASH64": "ChecksumXXHASH64",
    "XXHASH3": "ChecksumXXHASH3",
    "XXHASH128": "ChecksumXXHASH128",
}
_ALGORITHMS = {member: algorithm for algorithm, member in MEMBERS.items()}
_SIZES = {
    "CRC32": 4,
    "CRC32C": 4,
    "CRC64NVME": 8,
    "SHA1": 20,
    "SHA256": 32,
    "SHA512": 64,
    "MD5": 16,
    "XXHASH64": 8,
    "XXHASH3": 8,
    "XXHASH128": 16,
}
_HASHES = {"SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512", "MD5": "md5"}
_LINEAR = frozenset(("CRC32", "CRC32C", "CRC64NVME"))  # those that can be joined without the bytes

# What S3 computes for an object whose client sent none.
DEFAULT = "CRC64NVME"


class Hasher(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    __slots__ = ("_size", "_step", "_value")

    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class _XxHash:
    __slots__ = ("_hash",)

    def __init__(self, hash: Any) -> None:
        self._hash = hash

    def update(self, data: bytes, /) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        return bytes(self._hash.finalize())


@functools.cache
def _steps() -> dict[str, Callable[[bytes, int], int]]:
    from awscrt import checksums

    return {"CRC32": zlib.crc32, "CRC32C": checksums.crc32c, "CRC64NVME": checksums.crc64nvme}


def hasher(algorithm: str) -> Hasher:
    """A new hash of an algorithm of S3's."""
    if (name := _HASHES.get(algorithm)) is not None:
        return hashlib.new(name, usedforsecurity=False)
    if algorithm in _LINEAR:
        return _Crc(_steps()[algorithm], _SIZES[algorithm])
    # The one library that knows these; it is loaded when one is first used.
    from awscrt import checksums

    match algorithm:
        case "XXHASH64":
            return _XxHash(checksums.XXHash.new_xxhash64())
        case "XXHASH3":
            return _XxHash(checksums.XXHash.new_xxhash3_64())
        case "XXHASH128":
            return _XxHash(checksums.XXHash.new_xxhash3_128())
    raise _unknown_algorithm()


def _unknown_algorithm() -> AwsError:
    names = ", ".join(MEMBERS)
    return AwsError(
        "InvalidRequest",
        f"Checksum algorithm provided is unsupported. Please try again with any of the valid types: [{names}]",
    )


def text(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()


class Expected:
    """The checksums that a client promises for a body: which to compute, and what they must be."""

    __slots__ = ("algorithm", "given", "md5", "trailer", "value")

    def __init__(self, call: Call, input: Input, default: str = DEFAULT) -> None:
        self.md5 = _content_md5(input)
        self.trailer: str | None = None
        self.value: str | None = None
        self.given = True
        if found := list(_ALGORITHMS.keys() & input.keys()):
            if len(found) > 1:
                raise AwsError(
                    "InvalidRequest",
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
                )
            self.algorithm = _ALGORITHMS[found[0]]
            self._take(input[found[0]])
            return
        headers = call.request.headers if call.request is not None else {}
        trailer = headers.get("x-amz-trailer", "").strip().lower()
        if trailer.startswith("x-amz-checksum-"):
            self.algorithm = trailer[len("x-amz-checksum-") :].upper()
            if self.algorithm not in MEMBERS:
                raise AwsError("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
            self.trailer = trailer
            return
        asked = input.get("ChecksumAlgorithm")
        if asked is None:
            self.algorithm = default
            self.given = False
            return
        if asked not in MEMBERS:
            raise AwsError("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
        if call.request is not None:
            raise AwsError(
                "InvalidRequest",
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
                "x-amz-trailer headers were found.",
            )
        self.algorithm = asked

    def _take(self, value: str) -> None:
        try:
            valid = len(base64.b64decode(value, validate=True)) == _SIZES[self.algorithm]
        except (binascii.Error, ValueError):
            valid = False
        if not valid:
            raise AwsError("InvalidRequest", f"Value for x-amz-checksum-{self.algorithm.lower()} header is invalid.")
        self.value = value

    def verify(self, call: Call, md5: bytes, checksum: str) -> None:
        """Hold what came against what was promised; a trailer has arrived by now. Raises BadDigest, InvalidRequest."""
        if self.trailer is not None:
            value = call.request.headers.get(self.trailer) if call.request is not None else None
            if value is None:
                raise AwsError(
                    "MalformedTrailerError",
                    "The request contained trailing data that was not well-formed or did not conform to our published "
                    "schema.",
                )
            self._take(value)
        if self.value is not None and self.value != checksum:
            raise AwsError("BadDigest", f"The {self.algorithm} you specified did not match the calculated checksum.")
        if self.md5 is not None and self.md5 != md5:
            raise AwsError(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                ExpectedDigest=text(self.md5),
                CalculatedDigest=text(md5),
            )


def _content_md5(input: Input) -> bytes | None:
    given = input.get("ContentMD5")
    if given is None:
        return None
    try:
        digest = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise AwsError("InvalidDigest", "The Content-MD5 you specified was invalid.")
    return digest


def pack(algorithm: str, kind: str, value: str) -> str:
    """A checksum as it is stored: ``CRC32 FULL_OBJECT <value>``."""
    return f"{algorithm} {kind} {value}"


def members(packed: str) -> dict[str, str]:
    """A stored checksum as an answer's members: ``ChecksumCRC32`` and ``ChecksumType``."""
    if not packed:
        return {}
    algorithm, kind, value = packed.split(" ")
    return {MEMBERS[algorithm]: value, "ChecksumType": kind}


def is_linear(algorithm: str) -> bool:
    """Whether checksums of parts give that of the whole without its bytes."""
    return algorithm in _LINEAR


def default_type(algorithm: str) -> str:
    """The type of an upload's checksum when the client names only the algorithm."""
    return "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"


def check_type(algorithm: str, kind: str) -> None:
    """Refuse a combination that S3 has not."""
    if algorithm not in MEMBERS:
        raise _unknown_algorithm()
    if kind not in ("COMPOSITE", "FULL_OBJECT"):
        raise AwsError("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    if (kind == "FULL_OBJECT" and algorithm not in _LINEAR) or (kind == "COMPOSITE" and algorithm == "CRC64NVME"):
        raise AwsError(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )


def join(algorithm: str, kind: str, parts: Sequence[tuple[str, int]]) -> str:
    """The checksum of an upload from its parts' values and sizes, in their order."""
    digests = [(base64.b64decode(value), size) for value, size in parts]
    if kind == "COMPOSITE":
        whole = hasher(algorithm)
        for digest, _ in digests:
            whole.update(digest)
        return f"{text(whole.digest())}-{len(parts)}"
    from awscrt import checksums

    combine = {
        "CRC32": checksums.combine_crc32,
        "CRC32C": checksums.combine_crc32c,
        "CRC64NVME": checksums.combine_crc64nvme,
    }[algorithm]
    value = 0
    for number, (digest, size) in enumerate(digests):
        one = int.from_bytes(digest, "big")
        value = one if number == 0 else combine(value, one, size)
    return text(value.to_bytes(_SIZES[algorithm], "big"))
