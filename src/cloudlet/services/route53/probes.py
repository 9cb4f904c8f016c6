"""One look at an endpoint, as Route 53's checkers look: a connection, or a request and its status line."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

_CONNECT = {"TCP": 10.0}  # seconds
_CONNECT_HTTP = 4.0
_ANSWER = 2.0  # seconds that an endpoint may take to answer once it is connected
_SEARCHED = 5120  # bytes of a body that are searched
_PORTS = {"HTTP": 80, "HTTP_STR_MATCH": 80, "HTTPS": 443, "HTTPS_STR_MATCH": 443}
_AGENT = "Amazon-Route53-Health-Check-Service (ref 00000000-0000-0000-0000-000000000000; report http://amzn.to/1vsZADi)"

# Finds a host's address. Raises OSError.
Resolve = Callable[[str], Awaitable[str]]


class Sight(NamedTuple):
    """What one look showed: well or not (None says nothing), what a user is told, and how many milliseconds it took."""

    well: bool | None
    words: str
    latencies: dict[str, float] = {}


async def probe(config: dict[str, Any], resolve: Resolve) -> Sight:
    """Look once."""
    kind = config["Type"]
    port = config.get("Port") or _PORTS.get(kind, 80)
    host = config.get("FullyQualifiedDomainName", "")
    secure = kind.startswith("HTTPS")
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_CONNECT.get(kind, _CONNECT_HTTP)):
            address = config.get("IPAddress") or await resolve(host)
            started = time.perf_counter()
            reader, writer = await asyncio.open_connection(
                address,
                port,
                ssl=_unverified() if secure else None,
                # An empty name sends none.
                server_hostname=(host if config.get("EnableSNI", True) else "") if secure else None,
            )
        latencies = {"ConnectionTime": 1000 * (time.perf_counter() - started)}
        if kind == "TCP":
            return Sight(True, "Success: TCP connection was established", latencies)
        async with asyncio.timeout(_ANSWER):
            path = config.get("ResourcePath") or "/"
            path = path if path.startswith("/") else f"/{path}"
            usual = port == (443 if secure else 80)
            name = host or (f"[{address}]" if ":" in address else address)
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: {name}{'' if usual else f':{port}'}\r\nUser-Agent: {_AGENT}\r\n"
                "Accept: */*\r\nConnection: close\r\n\r\n".encode()
            )
            started = time.perf_counter()
            line = (await reader.readline()).decode("latin-1").split(None, 2)
            latencies["TimeToFirstByte"] = 1000 * (time.perf_counter() - started)
            if len(line) < 2 or not line[0].startswith("HTTP/") or not line[1].isdigit():
                return Sight(False, "Failure: The endpoint did not answer in HTTP")
            code = f"{line[1]} {line[2].strip() if len(line) > 2 else ''}".strip()
            if not 200 <= int(line[1]) < 400:
                return Sight(False, f"Failure: HTTP Status Code {code}")
            if kind.endswith("STR_MATCH") and not await _contains(reader, config.get("SearchString", "")):
                return Sight(False, f"Failure: HTTP Status Code {code}, the search string was not found in the body")
            return Sight(True, f"Success: HTTP Status Code {code}", latencies)
    except TimeoutError:
        return Sight(False, "Failure: The health checker timed out")
    except (OSError, ssl.SSLError, ValueError) as error:
        return Sight(False, f"Failure: {error}")
    finally:
        if writer is not None:
            writer.transport.abort()


async def _contains(reader: asyncio.StreamReader, text: str) -> bool:
    while (await reader.readline()).strip():
        pass
    body = b""
    while len(body) < _SEARCHED and (piece := await reader.read(_SEARCHED - len(body))):
        body += piece
    return text.encode() in body


def _unverified() -> ssl.SSLContext:
    # Route 53 does not look at certificates.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
