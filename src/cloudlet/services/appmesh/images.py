"""Images that stand for App Mesh's Envoy: where a task names one, Cloudlet runs its own Envoy in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloudlet.services.appmesh.records import resource_path

_ENVOY = re.compile(
    r"(public\.ecr\.aws/appmesh/|[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/)"
    r"aws-appmesh-envoy(:[^/@]+)?(@sha256:[0-9a-f]+)?"
)


def is_envoy_image(image: str) -> bool:
    """Whether an image is App Mesh's Envoy, of whatever version, by its name."""
    return _ENVOY.fullmatch(image) is not None


def resource_of(environment: Mapping[str, str]) -> str:
    """Which node or gateway an Envoy is, as its environment says: ``mesh/<mesh>/virtualNode/<node>``, or nothing.

    ``APPMESH_RESOURCE_ARN`` is an ARN or a path, ``APPMESH_VIRTUAL_NODE_NAME`` its older name.
    """
    named = environment.get("APPMESH_RESOURCE_ARN") or environment.get("APPMESH_VIRTUAL_NODE_NAME") or ""
    path = named.split(":", 5)[-1]
    return path if resource_path(path) and path.count("/") == 3 else ""
