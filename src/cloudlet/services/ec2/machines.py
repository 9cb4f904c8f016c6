"""Instances that really run: each a sandbox with an address of its own (ADR 9), one keeper for all of them.

Every step may be taken again after a restart: what still runs is found by its name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudlet.engines.containers import folders
from cloudlet.engines.containers.api import CannotStart, Container, ContainerState, Mount, Pod, PodState
from cloudlet.engines.containers.network import NetworkError, command
from cloudlet.services.ec2 import images, instance_types, user_data
from cloudlet.services.ec2.images import Image
from cloudlet.services.ec2.instance_records import state, transition, wanted
from cloudlet.services.ec2.interfaces import drop
from cloudlet.services.ec2.kinds import INSTANCE, INTERFACE, VOLUME
from cloudlet.services.ec2.launching import about
from cloudlet.services.ec2.measuring import Meter
from cloudlet.services.ec2.metadata import ADDRESS, DOOR, MetadataServers
from cloudlet.services.ec2.records import Item
from cloudlet.services.telling import tell

if TYPE_CHECKING:
    from cloudlet.services.ec2.service import Service
    from cloudlet.services.ec2.world import World

log = logging.getLogger("cloudlet.ec2")

# Told of each change of an instance's state: scope, id, state's name.
Watcher = Callable[[str, str, str], Awaitable[None]]
# A port of an instance that leads elsewhere: its own number, its protocol, where to.
Forward = tuple[int, str, str, int]

_GRACE = 5.0  # seconds that an instance has to shut down
_LOG = "var/log/cloud-init-output.log"
_LONGEST_LOG = 64 * 1024
_PRIVATE = ("etc", "var", "root", "home", "opt", "srv", "tmp", "mnt")  # of an instance, and kept with it
_MADE = (
    *("etc/profile.d", "etc/systemd/system", "var/log", "var/lib/cloud/instance/scripts", "var/tmp", "opt/aws/bin"),
    *("opt/cloudlet/bin", "var/run"),
)
_TOOLS = ("ecs-agent", "yum", "dnf", "systemctl", "service", "start", "stop", "restart", "amazon-linux-extras")
_SIGNALS = ("cfn-signal", "cfn-init", "cfn-hup", "cfn-get-metadata")
_PATH = "/opt/cloudlet/bin:/opt/aws/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REGISTERED = 0.96  # of its memory, what a machine tells ECS of: the kernel has the rest


class Machines:
    """The keeper. ``look_after`` says that an instance's record may want something."""

    def __init__(self, ec2: Service) -> None:
        self._ec2 = ec2
        self._cloud = ec2.cloud
        self._folder = ec2.cloud.data_dir / "ec2" / "instances"
        self._busy: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self._booted: dict[str, int] = {}  # instance -> which of its boots runs
        self._pods: dict[str, PodState] = {}
        self.metadata = MetadataServers(ec2)
        self.meter = Meter(ec2)
        self.watchers: list[Watcher] = []
        self._stood_for: set[str] = set()  # somebody's images that the log has been told of

    def take_up(self) -> None:
        """Look at all instances, after a start of this cloud."""
        for record in self._ec2.items.all():
            if record.name.startswith("i-") and record.value.shown["State"]["Name"] not in ("terminated", "stopped"):
                self.look_after(record.scope, record.name)

    def look_after(self, scope: str, id: str) -> None:
        """Have an instance made what its record says."""
        if (busy := self._busy.get(id)) is not None:
            busy[0].set()
            return
        news = asyncio.Event()
        self._busy[id] = news, self._cloud.spawn(self._keep(scope, id, news), f"instance {id}")

    async def settled(self, id: str) -> None:
        """Wait until nothing is left to do for an instance now."""
        while (busy := self._busy.get(id)) is not None:
            await asyncio.wait([busy[1]])

    def stop(self) -> None:
        """Answer no more; instances go on, or are ended by their engine."""
        self.metadata.close_all()

    async def console(self, id: str) -> bytes:
        """The end of an instance's log."""
        return await asyncio.to_thread(_tail, self._folder / id / _LOG)

    async def _keep(self, scope: str, id: str, news: asyncio.Event) -> None:
        """Step by step until the record wants nothing more; again when there is news meanwhile."""
        try:
            while True:
                news.clear()
                step = self._step(scope, id)
                if step is None and not news.is_set():
                    return
                if step is not None:
                    await step
        finally:
            del self._busy[id]

    def _step(self, scope: str, id: str) -> Awaitable[None] | None:
        item = self._ec2.world(scope).find(id)
        if item is None:
            return None
        name, aim = item.shown["State"]["Name"], item.hidden["wanted"]
        if aim == "terminated" and name != "terminated":
            return self._terminate(scope, item)
        if aim == "stopped" and name != "stopped":
            return self._halt(scope, item)
        if aim == "running" and (name != "running" or self._booted.get(id) != item.hidden["boots"]):
            return self._boot(scope, item)
        return None

    # Up

    async def _boot(self, scope: str, item: Item) -> None:
        """Start an instance, or take up one that runs."""
        if item.shown["State"]["Name"] == "pending":
            await self._announce(scope, item.id, "pending")
        ecs: Any = await self._cloud.service("ecs")
        image = self._image(scope, item)
        if image.stands_for and image.stands_for not in self._stood_for:
            self._stood_for.add(image.stands_for)
            log.warning("%s is somebody's image: Cloudlet's own machine image stands in for it", image.stands_for)
        try:
            pod, endpoint, running = await ecs.house(_pod(item), lambda state: self._ended(scope, item.id, state))
            self._pods[item.id] = pod
            if self._booted.get(item.id, item.hidden["boots"]) != item.hidden["boots"] and running is not None:
                await self._put_down(item.id)
                running = None
            await self._join(scope, item, pod)
            is_new = running is None or running.exit_code is not None
            if is_new:
                servers = await ecs.name_servers()
                folder = self._folder / item.id
                await asyncio.to_thread(_prepare, folder, item, image, self._kept_files(image), pod.address, servers)
                container = self._container(scope, item, endpoint, bool(pod.namespace))
                await ecs.run_guest(container)
        except Exception as error:
            # Whatever stumbled, the instance is not left half-made.
            log.warning("instance %s cannot be started: %s", item.id, error)
            await self._fail(scope, item.id, f"Server.InternalError: {error}")
            return
        self._booted[item.id] = item.hidden["boots"]

        def change(world: World) -> bool:
            found = world.find(item.id)
            if found is None or found.hidden["wanted"] != "running":
                return False
            before = found.shown["State"]["Name"]
            if before != "running":
                found = transition(world, found, "running", "")
            world.change(found, hidden={"address": pod.address})
            return bool(before != "running")

        self.meter.begin(scope, item.id, is_new)
        if await self._ec2.write(scope, change):
            await self._tell(scope, item.id, "running")

    def _container(self, scope: str, item: Item, endpoint: str, has_namespace: bool) -> Container:
        type = instance_types.get(item.shown["InstanceType"])
        environment = {
            "PATH": _PATH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL": endpoint,
            "CLOUDLET_INSTANCE": item.id,
            "CLOUDLET_ABOUT": about(item, self._image(scope, item)),
            "CLOUDLET_CPU": str(type.cpus * 1024),
            "CLOUDLET_MEMORY": str(int(type.memory * _REGISTERED)),
        }
        if not has_namespace:
            environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"{endpoint}/_cloudlet/{DOOR}/{item.hidden['door']}"
        folder = self._folder / item.id
        return Container(
            name=f"{item.id}-machine",
            pod=item.id,
            image=str(folder / "image"),
            command=["/bin/bash", "/opt/cloudlet/boot.sh"],
            environment=environment,
            working_dir="/root",
            mounts=tuple(Mount(str(folder / name), f"/{name}") for name in _PRIVATE),
        )

    def _image(self, scope: str, item: Item) -> Image:
        """What an instance was launched from; once an own image has gone, what stands in for it."""
        return images.launchable(self._ec2.world(scope), item.shown["ImageId"], item.shown["Architecture"])

    def _kept_files(self, image: Image) -> Path | None:
        return self._folder.parent / "snapshots" / image.snapshot if image.snapshot else None

    def files(self, id: str) -> Path:
        """The folder of an instance's own files."""
        return self._folder / id

    async def _join(self, scope: str, item: Item, pod: PodState) -> None:
        """Give an instance its metadata service, and let it lead its ports elsewhere."""
        if not pod.namespace:
            return
        script = (
            f"ip address replace {ADDRESS}/32 dev lo; echo 1 > /proc/sys/net/ipv4/ip_forward; "
            "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"
        )
        await command("nsenter", f"--net={pod.namespace}", "sh", "-c", script)
        await self.metadata.open(scope, item.id, pod.namespace)

    # Down

    async def _halt(self, scope: str, item: Item) -> None:
        await self._tell(scope, item.id, "stopping")
        await self._put_down(item.id)
        await self._leave(item.id, False)

        def change(world: World) -> bool:
            found = world.find(item.id)
            if found is None or found.hidden["wanted"] != "stopped":
                return False
            world.change(found, {"State": state("stopped")}, {"address": ""})
            return True

        if await self._ec2.write(scope, change):
            await self._tell(scope, item.id, "stopped")

    async def _terminate(self, scope: str, item: Item) -> None:
        await self._tell(scope, item.id, "shutting-down")
        await self._put_down(item.id)
        await self._leave(item.id, True)

        def change(world: World) -> None:
            found = world.find(item.id)
            if found is None:
                return
            for id in found.hidden["interfaces"]:
                interface = world.find(id)
                if interface is not None and interface.shown["Attachment"]["DeleteOnTermination"]:
                    drop(world, interface)
                elif interface is not None:
                    world.change(world.get(INTERFACE, id), {"Attachment": None, "Status": "available"})
            for one in found.shown["BlockDeviceMappings"]:
                if (volume := world.find(one["Ebs"]["VolumeId"])) is not None:
                    if one["Ebs"]["DeleteOnTermination"]:
                        world.delete(volume)
                    else:
                        world.change(world.get(VOLUME, volume.id), {"Attachments": [], "State": "available"})
            gone = dict.fromkeys(("PrivateIpAddress", "SubnetId", "VpcId", "IamInstanceProfile"))
            names = {"PrivateDnsName": "", "BlockDeviceMappings": []}
            found = world.change(found, {**gone, **names}, {"interfaces": [], "address": "", "association": ""})
            world.retire(INSTANCE, found, State=state("terminated"))

        await self._ec2.write(scope, change)
        await self._tell(scope, item.id, "terminated")

    async def _put_down(self, id: str) -> None:
        """End what runs; its files stay."""
        self._booted.pop(id, None)
        if self._pods.get(id) is not None or (self._folder / id).is_dir():
            ecs: Any = await self._cloud.service("ecs")
            await ecs.stop_guest(id, _GRACE)

    async def _leave(self, id: str, for_good: bool) -> None:
        """Give an instance's address back; at its very end its files go too."""
        self.metadata.close(id)
        self._pods.pop(id, None)
        ecs: Any = await self._cloud.service("ecs")
        await ecs.unhouse(id)
        if for_good:
            await asyncio.to_thread(_remove, self._folder / id)

    def _ended(self, scope: str, id: str, state: ContainerState) -> None:
        """An instance has ended by itself: ``shutdown``, or its first process was killed."""
        if self._booted.pop(id, None) is None:
            return
        self._cloud.spawn(self._note_end(scope, id), f"instance {id} has ended")

    async def _note_end(self, scope: str, id: str) -> None:
        def change(world: World) -> None:
            found = world.find(id)
            if found is not None and found.hidden["wanted"] == "running":
                ends = found.hidden["attributes"]["InstanceInitiatedShutdownBehavior"]
                aim, name = ("terminated", "shutting-down") if ends == "terminate" else ("stopped", "stopping")
                transition(world, wanted(world, found, aim), name, "Client.InstanceInitiatedShutdown")

        await self._ec2.write(scope, change)
        self.look_after(scope, id)

    async def _fail(self, scope: str, id: str, reason: str) -> None:
        """An instance that cannot be launched is terminated; the reason says why."""

        def change(world: World) -> None:
            if (found := world.find(id)) is not None:
                found = transition(world, wanted(world, found, "terminated"), "shutting-down", "Server.InternalError")
                world.change(found, {"StateReason": {"Code": "Server.InternalError", "Message": reason}})

        await self._ec2.write(scope, change)

    async def _tell(self, scope: str, id: str, name: str) -> None:
        for watcher in list(self.watchers):
            try:
                await watcher(scope, id, name)
            except Exception:
                log.exception("what the state of %s asks for has failed", id)
        await self._announce(scope, id, name)

    async def _announce(self, scope: str, id: str, name: str) -> None:
        """Tell EventBridge of a state."""
        detail, arn = {"instance-id": id, "state": name}, self._ec2.world(scope).arn("instance", id)
        await tell(self._cloud, scope, "ec2", "EC2 Instance State-change Notification", detail, arn)

    # Ports

    async def forward(self, id: str, key: str, forwards: list[Forward]) -> None:
        """Have ports of an instance lead elsewhere, instead of those of ``key`` before. Raises CannotStart."""
        await self.settled(id)
        pod = self._pods.get(id)
        if pod is None or not pod.namespace:
            raise CannotStart(f"The instance {id} has no network of its own.")
        try:
            await command("nsenter", f"--net={pod.namespace}", "nft", "-f", "-", given=rules(key, forwards))
        except NetworkError as error:
            raise CannotStart(str(error)) from None

    async def stop_forwarding(self, id: str, key: str) -> None:
        """Take those ports back; that they are gone already is no error."""
        pod = self._pods.get(id)
        if pod is not None and pod.namespace:
            try:
                await command("nsenter", f"--net={pod.namespace}", "nft", "delete", "table", "ip", _table(key))
            except NetworkError as error:
                log.debug("no ports of %s any more: %s", key, error)


def rules(key: str, forwards: list[Forward]) -> str:
    """What nft is told within an instance: one table for each key, as one transaction."""
    to = [f"{protocol} dport {port} dnat to {address}:{target}" for port, protocol, address, target in forwards]
    back = [f"ip daddr {address} {protocol} dport {target} masquerade" for _, protocol, address, target in forwards]
    here = [f"fib daddr type local {line}" for line in to]
    table = _table(key)
    text = f"table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n"
    for name, priority, lines in (("prerouting", -100, here), ("output", -100, here), ("postrouting", 100, back)):
        text += f" chain {name} {{\n  type nat hook {name} priority {priority};\n"
        text += "".join(f"  {line}\n" for line in lines) + " }\n"
    return text + "}\n"


def _table(key: str) -> str:
    return f"to_{key.replace('-', '_')}"


def _pod(item: Item) -> Pod:
    name = item.shown.get("PrivateDnsName", "").partition(".")[0]
    return Pod(name=item.id, hostname=name or item.id, labels={"cloudlet.instance": item.id})


def _prepare(
    folder: Path, item: Item, image: Image, source: Path | None, address: str, servers: tuple[str, ...]
) -> None:
    """Make an instance's own files; those that are there stay as they are."""
    is_new = not (folder / "image").is_dir()
    if is_new and source is not None:
        subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", str(folder)], check=True)
    for name in _PRIVATE:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in _MADE:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (folder / name).chmod(0o1777)
    if is_new:
        for path in folders.system() if source is None else ():
            if path.startswith("/etc/"):
                _copy(Path(path), folder / path[1:])
        if image.is_ecs or image.stands_for:
            (folder / "etc/ecs").mkdir(exist_ok=True)
        if image.is_ecs:
            (folder / "etc/ecs/ecs.config").touch()
        (folder / "etc/system-release").write_text("Cloudlet's machine image, in the place of Amazon Linux\n")
        _write_user_data(folder / "var/lib/cloud/instance", item.hidden["user_data"])
    hostname = _pod(item).hostname
    (folder / "etc/hostname").write_text(f"{hostname}\n")
    (folder / "etc/hosts").write_text(f"127.0.0.1\tlocalhost\n{address}\t{hostname}\n")
    resolvers = "".join(f"nameserver {one}\n" for one in servers)
    (folder / "etc/resolv.conf").write_text(resolvers or Path("/etc/resolv.conf").read_text())
    here = Path(__file__).parent / "machine"
    for name in ("boot.sh", "tools.py"):
        shutil.copyfile(here / name, folder / "opt/cloudlet" / name)
    for place, names in (("opt/cloudlet/bin", _TOOLS), ("opt/aws/bin", _SIGNALS)):
        for name in names:
            file = folder / place / name
            file.write_text(f'#!/bin/sh\nexec /usr/bin/env python3 -I /opt/cloudlet/tools.py {name} "$@"\n')
            file.chmod(0o755)
    (folder / "image").mkdir(exist_ok=True)


def _write_user_data(folder: Path, data: str) -> None:
    scripts, said = user_data.scripts(data)
    (folder / "said").write_text("".join(f"{line}\n" for line in said))
    for number, script in enumerate(scripts, 1):
        file = folder / "scripts" / f"part-{number:03d}"
        file.write_bytes(script)
        file.chmod(stat.S_IRWXU)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    else:
        shutil.copyfile(source, target)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _tail(file: Path) -> bytes:
    try:
        with file.open("rb") as log_file:
            log_file.seek(0, os.SEEK_END)
            log_file.seek(max(0, log_file.tell() - _LONGEST_LOG))
            return log_file.read()
    except OSError:
        return b""
