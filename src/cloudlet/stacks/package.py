"""A template of this machine made ready to deploy: what it names by paths beside it becomes what a service can take."""

from __future__ import annotations


def local_path(uri: str) -> str | None:
    """The absolute path that a URI names, or None when it names no place of this machine."""
    uri = uri.removeprefix("file://")
    return uri if uri.startswith("/") else None
