"""X-Ray. Traces are in ``traces.py``, sampling rules in ``sampling.py``, OpenTelemetry's door is in ``otlp.py``."""

from __future__ import annotations

from cloudlet.services.api import Tagged
from cloudlet.services.xray.daemon import Daemon
from cloudlet.services.xray.otlp import Otlp


class Service(Otlp):
    """Segments of every service here and of every SDK, kept for 30 days."""

    async def start(self) -> None:
        await super().start()
        self._daemon = Daemon(self)

    async def stop(self) -> None:
        self._daemon.stop()
        await super().stop()

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope = f"{account}/{region}"
        rules = [
            {"type": "AWS::XRay::SamplingRule", "name": record.name, "arn": record.value.members["RuleARN"]}
            for record in self.rules.list(scope)
        ]
        place = f"arn:aws:xray:{region}:{account}:group"
        groups = [
            {"type": "AWS::XRay::Group", "name": record.name, "arn": f"{place}/{record.name}/{record.value.id}"}
            for record in self.groups.list(scope)
        ]
        return groups + rules

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope, prefix = f"{account}/{region}", f"arn:aws:xray:{region}:{account}"
        rules = [(one.value.members["RuleARN"], one.value.tags) for one in self.rules.list(scope)]
        groups = self.groups.list(scope)
        return rules + [(f"{prefix}:group/{one.name}/{one.value.id}", one.value.tags) for one in groups]

    async def daemon(self, scope: str) -> str:
        """The address to which X-Ray's SDKs send segments of an account and region, as AWS_XRAY_DAEMON_ADDRESS has it.

        From the first call on there is a listener. Raises OSError where there can be none.
        """
        return await self._daemon.address(scope)

    async def open_daemon(self, pod: str, namespace: str, scope: str) -> None:
        """Listen as the daemon does in a pod's own network, on port 2000. Again is no error; raises OSError."""
        await self._daemon.open(pod, namespace, scope)

    def close_daemon(self, pod: str) -> None:
        """The pod goes."""
        self._daemon.close(pod)
