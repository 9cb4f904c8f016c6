"""Images in whose place Cloudlet runs what it has itself: App Mesh's Envoy, and X-Ray's daemon."""

from __future__ import annotations

import re

_ENVOY = re.compile(
    r"(public\.ecr\.aws/appmesh/|[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/)"
    r"aws-appmesh-envoy(:[^/@]+)?(@sha256:[0-9a-f]+)?"
)
_XRAY_DAEMON = re.compile(
    r"((public\.ecr\.aws/xray|docker\.io/amazon|amazon)/|[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/)"
    r"aws-xray-daemon(:[^/@]+)?(@sha256:[0-9a-f]+)?"
)


def is_xray_image(image: str) -> bool:
    """Whether an image is X-Ray's daemon, of whatever version, by its name."""
    return _XRAY_DAEMON.fullmatch(image) is not None


def is_envoy_image(image: str) -> bool:
    """Whether an image is App Mesh's Envoy, of whatever version, by its name."""
    return _ENVOY.fullmatch(image) is not None
