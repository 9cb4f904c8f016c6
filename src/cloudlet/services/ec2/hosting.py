"""The instances of this cloud and what others ask of them. Nothing is made for them before the first is launched."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cloudlet.engines.containers.api import EngineMissing
from cloudlet.http import Request, Response
from cloudlet.services.ec2.instances import Instances
from cloudlet.services.ec2.kinds import INSTANCE

if TYPE_CHECKING:
    from cloudlet.services.ec2.machines import Machines, Watcher

log = logging.getLogger("cloudlet.ec2")


class Hosting(Instances):
    """Instances, kept as their records say."""

    async def start(self) -> None:
        await super().start()
        self._machines: Machines | None = None
        if any(one.name.startswith("i-") and one.value.hidden["wanted"] == "running" for one in self.items.all()):
            ecs: Any = await self.cloud.service("ecs")
            try:
                # What still runs is taken up before the cloud ends what nobody has taken up.
                await ecs.engine()
            except EngineMissing as error:
                log.warning("instances cannot be taken up: %s", error)
            self.machines.take_up()

    async def stop(self) -> None:
        if self._machines is not None:
            self._machines.stop()
        await super().stop()

    @property
    def machines(self) -> Machines:
        """The keeper of instances."""
        if self._machines is None:
            from cloudlet.services.ec2.machines import Machines

            self._machines = Machines(self)  # type: ignore[arg-type]
        return self._machines

    def look_after(self, scope: str, id: str) -> None:
        self.machines.look_after(scope, id)

    async def console(self, id: str) -> bytes:
        return await self.machines.console(id)

    def watch_instances(self, watcher: Watcher) -> None:
        """Be told of each change of an instance's state: scope, id, the state's name."""
        self.machines.watchers.append(watcher)

    async def serve(self, request: Request, label: str) -> Response:
        """The metadata service of instances that share this machine's network."""
        for record in self.items.all():
            if record.name.startswith("i-") and record.value.hidden["door"] == label:
                status, text = await self.machines.metadata.answer(
                    record.scope, record.name, request.method, request.path, dict(request.headers)
                )
                return Response(status, {"content-type": "text/plain"}, text.encode())
        return Response(404, {"content-type": "text/plain"}, b"")

    def instances_here(self, account: str, region: str) -> list[dict[str, str]]:
        """What a user sees of instances."""
        world = self.world(f"{account}/{region}")
        return [
            {
                "type": "AWS::EC2::Instance",
                "name": item.tags.get("Name", item.id),
                "arn": world.arn("instance", item.id),
                **({"endpoint": address} if (address := str(item.hidden.get("address", ""))) else {}),
            }
            for item in world.all(INSTANCE)
            if item.shown["State"]["Name"] == "running"
        ]
