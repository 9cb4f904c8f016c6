"""What CloudWatch is told of load balancers, and access logs on their way to S3."""

from __future__ import annotations

from collections.abc import Callable

from cloudlet.services.api import Cloud
from cloudlet.services.elbv2 import envoy
from cloudlet.services.elbv2.controller import Controller


class Reporting:
    """Looks at the proxy once a minute, while there is a listener."""

    def __init__(self, cloud: Cloud, controller: Controller, world: Callable[[], envoy.World]) -> None:
        self._cloud = cloud
        self._controller = controller
        self._world = world

    def watch(self) -> None:
        pass

    def stop(self) -> None:
        pass
