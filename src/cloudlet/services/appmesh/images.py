"""Images that stand for App Mesh's Envoy: where a task names one, Cloudlet runs its own Envoy in its place."""

from __future__ import annotations

import re

_ENVOY = re.compile(
    r"(public\.ecr\.aws/appmesh/|[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/)"
    r"aws-appmesh-envoy(:[^/@]+)?(@sha256:[0-9a-f]+)?"
)


def is_envoy_image(image: str) -> bool:
    """Whether an image is App Mesh's Envoy, of whatever version, by its name."""
    return _ENVOY.fullmatch(image) is not None
