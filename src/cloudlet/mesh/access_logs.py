"""Access logs, written by Envoy itself."""

from __future__ import annotations

from collections.abc import Mapping

from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension


def file_log(path: str, format: str | Mapping[str, str] = "") -> Resource:
    """Log to a file: a line of text, or of JSON when ``format`` is a mapping; Envoy's own format when it is empty."""
    chosen: Resource = {}
    if isinstance(format, str):
        if format:
            chosen = {"log_format": {"text_format_source": {"inline_string": format}}}
    else:
        chosen = {"log_format": {"json_format": dict(format)}}
    return extension(
        "envoy.access_loggers.file", "extensions.access_loggers.file.v3.FileAccessLog", path=path, **chosen
    )
