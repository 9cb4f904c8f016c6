"""CBOR, as far as Smithy's RPC goes: plain values and timestamps."""

from __future__ import annotations

from typing import Any

from cloudlet.wire.documents import unreadable


def decode(body: bytes) -> Any:
    """One CBOR document. Raises AwsError SerializationException."""
    import cbor2

    try:
        return cbor2.loads(body)
    except RecursionError:
        raise unreadable("The document is nested too deeply.") from None
    except Exception:  # tags are free to fail in any way
        raise unreadable("") from None


def encode(value: Any) -> bytes:
    """A CBOR document of plain values and cbor2's tags."""
    import cbor2

    return cbor2.dumps(value)
