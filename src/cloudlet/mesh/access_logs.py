"""Access logs, written by Envoy itself."""

from __future__ import annotations

from collections.abc import Mapping

from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension

_SOURCES = "extensions.access_loggers."


def file_log(path: str, format: str | Mapping[str, str] = "") -> Resource:
    """Log to a file: a line of text, or of JSON when ``format`` is a mapping; Envoy's own format when it is empty."""
    type = f"{_SOURCES}file.v3.FileAccessLog"
    return extension("envoy.access_loggers.file", type, path=path, **_format(format))


def stdout_log(format: str | Mapping[str, str] = "") -> Resource:
    """Log to Envoy's own standard output."""
    return extension("envoy.access_loggers.stdout", f"{_SOURCES}stream.v3.StdoutAccessLog", **_format(format))


def _format(format: str | Mapping[str, str]) -> Resource:
    if not format:
        return {}
    if isinstance(format, str):
        return {"log_format": {"text_format_source": {"inline_string": format}}}
    return {"log_format": {"json_format": dict(format)}}
