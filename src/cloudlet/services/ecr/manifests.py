"""Manifests: what an image, or a list of images, says that it is made of."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
INDEX = "application/vnd.oci.image.index.v1+json"
_LISTS = frozenset((INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"))
_IMAGES = frozenset(
    ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
)


class Malformed(Exception):
    """The manifest cannot be one; the text says why."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that is well formed."""

    data: bytes
    digest: str
    media_type: str
    artifact_type: str
    subject: str
    layers: list[str]  # what must have been uploaded, the configuration too
    images: list[str]  # of a list
    size: int  # of its layers, in bytes


def read(data: bytes, media_type: str) -> Manifest:
    """A manifest from its bytes; ``media_type`` is what the request says of it, perhaps nothing. Raises Malformed."""
    try:
        document = json.loads(data)
    except ValueError:
        raise Malformed("Invalid image manifest: it is not JSON") from None
    if not isinstance(document, dict):
        raise Malformed("Invalid image manifest: it is not an object")
    stated = document.get("mediaType")
    if stated and media_type and stated != media_type:
        raise Malformed(f"manifest media type {stated} does not match the request's {media_type}")
    kind = media_type or stated
    if not kind:
        raise Malformed("image manifest mediatype not provided in manifest or parameter")
    if kind not in _LISTS and kind not in _IMAGES:
        raise Malformed(f"manifest media type {kind} is not supported")
    if document.get("schemaVersion") != 2:
        raise Malformed("Invalid image manifest: its schemaVersion is not 2")
    return Manifest(
        data,
        f"sha256:{hashlib.sha256(data).hexdigest()}",
        kind,
        _artifact_type(document),
        _digest(document["subject"]) if "subject" in document else "",
        _layers(document) if kind in _IMAGES else [],
        [_digest(each) for each in _list(document, "manifests")] if kind in _LISTS else [],
        sum(int(each.get("size", 0)) for each in _list(document, "layers")) if kind in _IMAGES else 0,
    )


def _layers(document: dict[str, Any]) -> list[str]:
    # A foreign layer is somewhere else for good.
    own = [each for each in _list(document, "layers") if not each.get("urls")]
    return [_digest(each) for each in (document.get("config"), *own)]


def _artifact_type(document: dict[str, Any]) -> str:
    config = document.get("config")
    return str(document.get("artifactType") or (config.get("mediaType", "") if isinstance(config, dict) else ""))


def _list(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Malformed(f"Invalid image manifest: {name} is not a list of descriptors")
    return found


def _digest(descriptor: Any) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or DIGEST.fullmatch(digest) is None:
        raise Malformed("Invalid image manifest: a descriptor has no digest")
    return digest
