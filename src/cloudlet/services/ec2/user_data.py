"""User data: what cloud-init would make of it, as scripts to be run in their order.

https://cloudinit.readthedocs.io/en/latest/explanation/format.html
"""

from __future__ import annotations

import base64
import binascii
import email
import gzip
import shlex
from typing import Any

_SHELL = ("text/x-shellscript", "text/x-shellscript-per-instance")
_SETTINGS = "text/cloud-config"
_LARGEST = 16 * 1024


def scripts(data: str) -> tuple[list[bytes], list[str]]:
    """The scripts of base64 user data, and what is to be said in the log of parts that cannot be run."""
    if not data:
        return [], []
    try:
        raw = base64.b64decode(data)
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (binascii.Error, OSError):
        return [], ["Cloudlet: the user data is neither base64 nor a gzip archive"]
    if raw[:4096].lower().startswith((b"mime-version:", b"content-type: multipart")):
        made, said = [], []
        for part in email.message_from_bytes(raw).walk():
            if not part.is_multipart():
                payload: Any = part.get_payload(decode=True)
                found, words = _part(part.get_content_type(), payload)
                made += found
                said += words
        return made, said
    if raw.startswith(b"#!"):
        return _part(_SHELL[0], raw)
    if raw.startswith(b"#cloud-config"):
        return _part(_SETTINGS, raw)
    return [], [f"__init__.py[WARNING]: Unhandled non-multipart (text/x-not-multipart) userdata: '{raw[:24]!r}...'"]


def _part(type: str, content: bytes) -> tuple[list[bytes], list[str]]:
    if type in _SHELL or content.startswith(b"#!"):
        return [content], []
    if type == _SETTINGS or content.startswith(b"#cloud-config"):
        return _from_settings(content)
    return [], [f"Cloudlet: a part of type {type} of the user data is not implemented"]


def _from_settings(content: bytes) -> tuple[list[bytes], list[str]]:
    """A cloud-config document as a script."""
    import yaml

    try:
        settings: Any = yaml.safe_load(content) or {}
        lines = ["#!/bin/sh"]
        for file in settings.pop("write_files", ()):
            text = file.get("content", "").encode()
            if file.get("encoding") not in ("b64", "base64"):
                text = base64.b64encode(text)
            path, arrow = shlex.quote(file["path"]), ">>" if file.get("append") else ">"
            lines.append(f"mkdir -p $(dirname {path})")
            lines.append(f"echo {text.decode()} | base64 -d {arrow}{path}")
            lines.append(f"chmod {file.get('permissions', '0644')} {path}")
        if packages := settings.pop("packages", ()):
            lines.append(f"yum install -y {shlex.join(map(str, packages))}")
        for key in ("bootcmd", "runcmd"):
            for command in settings.pop(key, ()):
                lines.append(command if isinstance(command, str) else shlex.join(map(str, command)))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        return [], [f"util.py[WARNING]: Failed loading yaml blob. {error}"]
    said = [f"Cloudlet: cloud-config's {key} is not implemented" for key in settings]
    return ["\n".join([*lines, ""]).encode()], said


def is_too_large(data: str) -> bool:
    """Whether base64 user data is more than an instance may have."""
    return len(data) * 3 // 4 > _LARGEST + 2
