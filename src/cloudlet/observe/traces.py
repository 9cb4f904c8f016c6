"""What a trace is called on its way: X-Ray's header, the ids of W3C and of X-Ray, and the trace of the running work."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from cloudlet.services.api import Call

HEADER = "x-amzn-trace-id"
_ROOT = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}", re.IGNORECASE)
_ID = re.compile(r"[0-9a-f]{16}", re.IGNORECASE)

# The header under which a service calls another one, where there is a trace.
_current: ContextVar[str] = ContextVar("trace", default="")


class Place(NamedTuple):
    """Where in a trace something happens; ``sampled`` is None while nobody has decided."""

    root: str
    parent: str = ""
    sampled: bool | None = None

    @property
    def header(self) -> str:
        """As ``X-Amzn-Trace-Id`` and ``AWSTraceHeader`` have it."""
        parent = f";Parent={self.parent}" if self.parent else ""
        decided = "" if self.sampled is None else f";Sampled={int(self.sampled)}"
        return f"Root={self.root}{parent}{decided}"


def place_of(header: str) -> Place | None:
    """Read a header; None when it names no trace."""
    if not header:
        return None
    parts = dict(part.strip().partition("=")[::2] for part in header.split(";"))
    root, parent = parts.get("Root", ""), parts.get("Parent", "")
    if not _ROOT.fullmatch(root):
        return None
    sampled = {"1": True, "0": False}.get(parts.get("Sampled", ""))
    return Place(root, parent if _ID.fullmatch(parent) else "", sampled)


def header_of(call: Call) -> str:
    """The trace that a call belongs to: as its request says, or the service that calls."""
    return call.request.headers.get(HEADER, "") if call.request is not None else _current.get()


@contextmanager
def within(header: str) -> Iterator[None]:
    """Calls of other services belong to this trace meanwhile."""
    token = _current.set(header)
    try:
        yield
    finally:
        _current.reset(token)


def new_root(now: float) -> str:
    """The id of a trace that begins now."""
    return f"1-{int(now):08x}-{secrets.token_hex(12)}"


def new_id() -> str:
    """The id of a segment, a subsegment or a span."""
    return secrets.token_hex(8)


def from_w3c(trace: str) -> str:
    """X-Ray's form of 32 hex digits."""
    return f"1-{trace[:8]}-{trace[8:]}"


def to_xray(trace: str) -> str:
    """An id in X-Ray's form, however it was given."""
    trace = trace.lower()
    return from_w3c(trace) if len(trace) == 32 and "-" not in trace else trace


def resource_environment(scope: str, name: str, platform: str, given: Mapping[str, str]) -> dict[str, str]:
    """OpenTelemetry's variable that says whose spans they are; what a user has ``given`` comes after it and wins."""
    account, region = scope.split("/")
    ours = (
        f"service.name={quote(name)},cloud.provider=aws,cloud.platform={platform},"
        f"cloud.account.id={account},cloud.region={region}"
    )
    own = given.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {"OTEL_RESOURCE_ATTRIBUTES": f"{ours},{own}" if own else ours}
