"""What other services have running beside tasks: the instances of EC2, on the engine that runs the tasks."""

from __future__ import annotations

from collections.abc import Callable

from cloudlet.engines.containers.api import Container, ContainerState, Pod, PodState, Usage
from cloudlet.services.ecs import preparing
from cloudlet.services.ecs.keeping import Keeping

Ended = Callable[[ContainerState], None]


class Guests(Keeping):
    """A guest is a pod of its name with one container, ``<name>-machine``."""

    async def start(self) -> None:
        self._guests: dict[str, Ended] = {}
        await super().start()

    async def house(self, pod: Pod, ended: Ended) -> tuple[PodState, str, ContainerState | None]:
        """Make a guest's pod: what it became, our endpoint as it is reached from there, and what still runs in it.

        ``ended`` is called when its container ends. Raises EngineMissing and CannotStart.
        """
        engine = await self.engine()
        state = await engine.create_pod(pod)
        await self.relay.open(pod.name, state.namespace)
        self._guests[pod.name] = ended
        endpoint = self.relay.endpoint(pod.name, state.namespace, self.abilities.host_address)
        return state, endpoint, self.recovered.pop(pod.name, {}).get(f"{pod.name}-machine")

    async def run_guest(self, container: Container) -> None:
        """Start a guest's container; one that runs goes on. Raises CannotStart and ImageMissing."""
        await (await self.engine()).run(container)

    async def stop_guest(self, name: str, grace: float) -> None:
        """End a guest's container; its pod stays. That it is gone already is no error."""
        engine = await self.engine()
        await engine.stop(f"{name}-machine", grace)
        await engine.remove(f"{name}-machine")

    async def usage_of_guests(self) -> dict[str, dict[str, Usage]]:
        """What each guest has used so far, with the tasks that are placed on it: container's name -> its usage."""
        names = {guest: [f"{guest}-machine"] for guest in self._guests}
        for one in self.tasks.all():
            task, seat = one.value, f"{one.value.cluster}/{one.value.instance}"
            if task.status == "RUNNING" and task.instance and (host := self.instances.get(one.scope, seat)) is not None:
                mine = [preparing.container_name(task, each.name) for each in task.containers]
                names.setdefault(host.value.ec2_id, []).extend(mine)
        usage = await (await self.engine()).usage([name for each in names.values() for name in each])
        return {guest: {name: usage[name] for name in each if name in usage} for guest, each in names.items()}

    async def unhouse(self, name: str) -> None:
        """Remove a guest with all that runs in its pod."""
        self._guests.pop(name, None)
        await self.relay.close(name)
        await (await self.engine()).remove_pod(name)

    def _ended(self, state: ContainerState) -> None:
        if (ended := self._guests.get(state.pod)) is None:
            super()._ended(state)
        elif not self._stopping:
            ended(state)
