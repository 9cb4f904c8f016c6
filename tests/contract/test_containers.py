"""The contract of a container engine, judged on every one that this machine has, with real containers."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloudlet.control.supervisor import CLOUD_VARIABLE, Supervisor, new_cloud_id
from cloudlet.engines.containers import find
from cloudlet.engines.containers.api import (
    Abilities,
    CannotStart,
    Container,
    ContainerState,
    Engine,
    EngineMissing,
    ImageMissing,
    Mount,
    Pod,
    Port,
)
from cloudlet.testing.local import LocalCloud

IMAGE = "localhost/cloudlet/contract:1"
_PROGRAMS = "cat dd echo env false grep httpd hostname id ip kill ls mkdir nc nslookup pwd sh sleep stty test true wget"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root file system with nothing but busybox in it."""
    busybox = shutil.which("busybox")
    if busybox is None or b"dynamically" in subprocess.run(["file", "-L", busybox], capture_output=True).stdout:
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    folder = tmp_path_factory.mktemp("root")
    for name in ("bin", "etc", "tmp"):
        (folder / name).mkdir()
    shutil.copy(busybox, folder / "bin/busybox")
    for name in _PROGRAMS.split():
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    yield folder
    if shutil.which("podman"):
        subprocess.run(["podman", "rmi", "-f", IMAGE, f"{IMAGE}-built"], capture_output=True)


@dataclass
class Desk:
    """An engine, and all that it has told."""

    engine: Engine
    supervisor: Supervisor
    folder: Path
    abilities: Abilities = field(init=False)
    lines: list[tuple[str, str, bytes]] = field(default_factory=list)
    ends: list[ContainerState] = field(default_factory=list)

    async def start(self) -> None:
        self.abilities = await self.engine.start(
            lambda name, stream, line: self.lines.append((name, stream, line)), self.ends.append
        )

    def said(self, name: str) -> list[bytes]:
        """The lines of one container."""
        return [line for who, _, line in self.lines if who == name]

    async def end(self, name: str) -> ContainerState:
        """How a container has ended."""
        await until(lambda: any(state.name == name for state in self.ends))
        (state,) = [state for state in self.ends if state.name == name]
        return state

    async def run(self, name: str, *command: str, pod: str = "p", **settings: Any) -> ContainerState:
        """Run a command of busybox in the pod."""
        return await self.engine.run(Container(name, pod, IMAGE, command=command, **settings))


async def until(done: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit, "it does not happen"
        await asyncio.sleep(0.005)


async def get(address: str, port: int, path: str = "/") -> bytes:
    """The answer to a GET, as soon as somebody listens."""
    limit = time.monotonic() + 5
    while True:
        try:
            reader, writer = await asyncio.open_connection(address, port)
            break
        except OSError:
            assert time.monotonic() < limit, f"nothing listens at {address}:{port}"
            await asyncio.sleep(0.002)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


def make(kind: str, supervisor: Supervisor, folder: Path) -> Engine:
    """An engine of that kind."""
    return find.engine(supervisor, folder, kind)


@pytest.fixture(params=find.KINDS)
async def desk(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> AsyncIterator[Desk]:
    supervisor = Supervisor(new_cloud_id())
    try:
        desk = Desk(make(request.param, supervisor, tmp_path / "e"), supervisor, tmp_path / "e")
        await desk.start()
    except EngineMissing as missing:
        pytest.skip(str(missing))
    desk.kind = request.param  # type: ignore[attr-defined]
    try:
        await desk.engine.load_image(root, IMAGE)
        yield desk
    finally:
        await desk.engine.clear()
        await desk.engine.stop_engine()
        await supervisor.stop_all()
        assert left_behind(supervisor.cloud_id) == []


def left_behind(cloud: str) -> list[str]:
    """What is there of a cloud that should be gone: processes, network devices, namespaces, rules."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(CLOUD_VARIABLE) == cloud and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {process.cmdline()}")
        except psutil.Error:
            continue
    for line in ("ip -o link", "ip netns", "nft list tables", "podman ps -a", "podman network ls", "podman images"):
        argv = line.split()
        if shutil.which(argv[0]):
            said = subprocess.run(argv, capture_output=True, text=True).stdout
            found += [line for line in said.splitlines() if cloud[:8] in line]
    return found


async def test_a_container_runs_tells_its_lines_and_its_end(desk: Desk) -> None:
    pod = await desk.engine.create_pod(Pod("p", hostname="web", hosts={"db": "10.1.2.3"}, labels={"task": "t"}))
    assert pod.labels["task"] == "t"
    assert await desk.engine.create_pod(Pod("p", hostname="web", labels={"task": "t"})) == pod

    script = 'echo out; echo err >&2; echo "$GREETING"; pwd; hostname; cat /etc/hosts; exit 7'
    state = await desk.run(
        "c", "sh", "-c", script, environment={"GREETING": "héllo"}, working_dir="/tmp", labels={"container": "c"}
    )
    assert (state.name, state.pod, state.image) == ("c", "p", IMAGE)
    assert state.labels["container"] == "c"
    assert abs(state.started - time.time()) < 5
    assert state.image_digest.startswith("sha256:")
    end = await desk.end("c")
    assert (end.exit_code, end.reason, end.labels["container"]) == (7, "", "c")
    said = [line for _, stream, line in desk.lines if stream == "stdout"]
    assert said[:3] == [b"out", "héllo".encode(), b"/tmp"]
    if desk.abilities.own_addresses:
        assert (said[3], [line.split()[0] for line in said if b"db" in line]) == (b"web", [b"10.1.2.3"])
    assert [line for line in desk.lines if line[1] == "stderr"] == [("c", "stderr", b"err")]

    # The name is free again.
    await desk.run("c", "sh", "-c", "echo again")
    await until(lambda: b"again" in desk.said("c"))
    await until(lambda: len(desk.ends) == 2)
    await desk.engine.remove("c")
    await desk.engine.remove("c")


async def test_lines_come_at_once_long_ones_whole_and_the_last_without_its_end(desk: Desk) -> None:
    await desk.engine.create_pod(Pod("p"))
    await desk.run(
        "c", "sh", "-c", "echo first; sleep 1; dd if=/dev/zero bs=40000 count=1 2>/dev/null; echo; echo -n x"
    )
    await until(lambda: desk.said("c") == [b"first"], 0.9)
    assert (await desk.end("c")).exit_code == 0
    assert desk.said("c") == [b"first", bytes(40000), b"x"]


async def test_stop_asks_then_kills(desk: Desk) -> None:
    await desk.engine.create_pod(Pod("p"))
    polite = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    usr1 = "trap 'exit 4' USR1; echo up; while :; do sleep 0.1; done"
    await asyncio.gather(
        desk.run("polite", "sh", "-c", polite),
        desk.run("other", "sh", "-c", usr1, stop_signal="SIGUSR1"),
        desk.run("deaf", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"),
    )
    await until(lambda: len(desk.lines) == 3)
    await desk.engine.stop("polite", 5)
    assert [(state.name, state.exit_code) for state in desk.ends] == [("polite", 3)]
    assert desk.said("polite") == [b"up", b"bye"]
    await desk.engine.stop("other", 5)
    assert (await desk.end("other")).exit_code == 4
    started = time.perf_counter()
    await desk.engine.stop("deaf", 1)
    assert 0.9 < time.perf_counter() - started < 9, "engines wait for 10 seconds by themselves"
    end = await desk.end("deaf")
    assert (end.exit_code, end.reason) == (137, "")
    await desk.engine.stop("deaf", 1)
    await desk.engine.stop("nobody", 1)


async def test_what_cannot_start_says_why_and_leaves_nothing(desk: Desk) -> None:
    await desk.engine.create_pod(Pod("p"))
    with pytest.raises(CannotStart, match="no-such-program"):
        await desk.run("c", "no-such-program")
    with pytest.raises(ImageMissing, match="no-such-image"):
        await desk.engine.run(Container("c", "p", "localhost/no-such-image:1", command=["true"]))
    with pytest.raises(ImageMissing, match="no-such-folder"):
        await desk.engine.run(Container("c", "p", "/no-such-folder", command=["true"]))
    with pytest.raises(ImageMissing):
        await desk.engine.ensure_image("127.0.0.1:9/no-such-image:1", ("AWS", "secret"))
    with pytest.raises(CannotStart, match="no-such-pod"):
        await desk.run("c", "true", pod="no-such-pod")
    assert (await desk.engine.recover())[1] == []
    assert (await desk.engine.ensure_image(IMAGE)).startswith("sha256:")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CannotStart):
            await desk.engine.create_pod(Pod("q", ports=[Port(80, taken.getsockname()[1])]))
    assert [pod.name for pod in (await desk.engine.recover())[0]] == ["p"]


async def test_pods_have_addresses_that_this_machine_and_other_pods_reach(desk: Desk) -> None:
    if not desk.abilities.own_addresses:
        pytest.skip("pods share this machine's network here")
    await desk.engine.create_pod(Pod("q"))
    times = [time.perf_counter()]
    first = await desk.engine.create_pod(Pod("p", ports=[Port(80)]))
    times.append(time.perf_counter())
    await desk.run("web", "httpd", "-f", "-p", "80", "-h", "/etc")
    assert b"root:x" in await get(first.address, 80, "/passwd")
    times.append(time.perf_counter())
    pod, container, whole = (f"{(b - a) * 1000:.0f} ms" for a, b in (times[:2], times[1:], times[::2]))
    print(f"\n{desk.abilities.name}: reachable after {whole}: its pod {pod}, its container {container}")
    assert first.address != (await desk.engine.create_pod(Pod("q"))).address
    (port,) = first.ports
    assert (port.container, port.address) == (80, "127.0.0.1")
    assert b"root:x" in await get("127.0.0.1", port.host, "/passwd")

    # From another pod, from another container of the same pod, and from a program of ours in the namespace.
    await desk.run("other", "wget", "-q", "-O", "-", f"http://{first.address}/passwd", pod="q")
    await desk.run("same", "wget", "-q", "-O", "-", "http://127.0.0.1/passwd")
    for name in ("other", "same"):
        assert (await desk.end(name)).exit_code == 0
        assert b"root:x:0:0:root:/:/bin/sh" in desk.said(name)
    inside = ["nsenter", f"--net={first.namespace}", "ip", "-o", "address"]
    assert first.address.encode() in await asyncio.to_thread(subprocess.check_output, inside)

    # The pod is there as long as it is not removed.
    await desk.engine.stop("web", 1)
    await desk.run("web", "httpd", "-f", "-p", "80", "-h", "/etc")
    assert b"root:x" in await get(first.address, 80, "/passwd")
    await desk.engine.remove_pod("p")
    with pytest.raises(OSError):
        await asyncio.wait_for(asyncio.open_connection(first.address, 80), 1)
    assert [pod.name for pod in (await desk.engine.recover())[0]] == ["q"]


async def test_pods_reach_this_machines_loopback(desk: Desk) -> None:
    here = desk.abilities.host_address
    if not here:
        pytest.skip("there is no way from pods to this machine's loopback here")
    addresses = [here, "127.0.0.1"] if here == "127.0.0.1" else [here, "127.64.1.2", "127.0.0.2"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + writer.get_extra_info("sockname")[0].encode() + b"\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    others = [await asyncio.start_server(serve, address, port) for address in ("127.64.1.2", "127.0.0.2")]
    try:
        await desk.engine.create_pod(Pod("p"))
        for address in addresses:
            await desk.run(f"to-{address}", "wget", "-q", "-O", "-", f"http://{address}:{port}/")
            assert (await desk.end(f"to-{address}")).exit_code == 0, address
            assert desk.said(f"to-{address}") == [b"127.0.0.1" if address == here else address.encode()]
    finally:
        for one in (server, *others):
            one.close()


async def test_names_are_resolved_as_the_pod_says(desk: Desk) -> None:
    if not desk.abilities.own_addresses:
        pytest.skip("pods share this machine's network here")
    await desk.engine.create_pod(Pod("p", dns=["127.0.0.2"], search=["svc.local"]))
    await desk.run("c", "cat", "/etc/resolv.conf")
    await desk.end("c")
    said = [line.strip() for line in desk.said("c")]
    assert b"nameserver 127.0.0.2" in said
    assert b"search svc.local" in said


async def test_commands_run_inside(desk: Desk) -> None:
    await desk.engine.create_pod(Pod("p"))
    await desk.run("c", "sh", "-c", "echo secret > /tmp/file; exec sleep 100", environment={"MINE": "1"})
    await asyncio.sleep(0.2)
    execution = await desk.engine.execute(
        "c", ["sh", "-c", "cat /tmp/file; echo $MINE$YOURS; exit 5"], environment={"YOURS": "2"}
    )
    assert b"".join([piece async for piece in execution.output()]) == b"secret\n12\n"
    assert await execution.wait() == 5

    execution = await desk.engine.execute("c", ["env"])
    assert b"CLOUDLET" not in b"".join([piece async for piece in execution.output()])

    execution = await desk.engine.execute("c", ["cat"])
    await execution.send(b"in and out")
    await execution.send(b"")
    assert b"".join([piece async for piece in execution.output()]) == b"in and out"
    assert await execution.wait() == 0

    execution = await desk.engine.execute("c", ["sh"], tty=True)
    await execution.resize(91, 17)
    await execution.send(b"stty size; test -t 0 && echo ter''minal; exit 6\n")
    said = b"".join([piece async for piece in execution.output()])
    assert b"terminal" in said
    assert b"17 91" in said
    assert await execution.wait() == 6

    execution = await desk.engine.execute("c", ["sleep", "50"])
    await asyncio.sleep(0.1)
    await execution.kill()
    assert await asyncio.wait_for(execution.wait(), 3) != 0
    with pytest.raises(CannotStart):
        await desk.engine.execute("nobody", ["true"])


async def test_limits_hold_where_they_are_promised(desk: Desk) -> None:
    await desk.engine.create_pod(Pod("p"))
    await desk.run("spin", "sh", "-c", "while :; do :; done", cpu=0.25, memory=64_000_000)
    await asyncio.sleep(0.3)
    before, started = (await desk.engine.usage(["spin", "nobody"]))["spin"], time.perf_counter()
    assert 0 < before.memory <= before.memory_peak < 64_000_000
    await asyncio.sleep(1)
    used = (await desk.engine.usage(["spin"]))["spin"].cpu_seconds - before.cpu_seconds
    if desk.abilities.limits_cpu:
        assert used / (time.perf_counter() - started) < 0.4
    await desk.engine.stop("spin", 0)
    if desk.abilities.limits_memory:
        await desk.run("big", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=2", memory=32_000_000)
        end = await desk.end("big")
        assert end.exit_code == 137
        assert end.reason.startswith("OutOfMemoryError")
    await desk.run("limits", "sh", "-c", "ulimit -n; ulimit -H -n", ulimits={"nofile": (500, 600)})
    await desk.end("limits")
    assert desk.said("limits") == [b"500", b"600"]


async def test_a_container_has_what_linux_gives_it(desk: Desk) -> None:
    await desk.engine.create_pod(Pod("p"))
    script = "chown 5 /tmp && echo may; echo x > /scratch/x && cat /scratch/x; cat /proc/mounts"
    settings = {"tmpfs": {"/scratch": 2**20}, "shared_memory": 2**22, "cpu_shares": 512}
    await desk.run("linux", "sh", "-c", script, dropped=["CHOWN"], **settings)
    await desk.end("linux")
    said = desk.said("linux")
    assert b"may" not in said
    assert b"x" in said
    mounts = {line.split()[1]: line.split()[3] for line in said if line.count(b" ") == 5}
    assert b"size=1024k" in mounts[b"/scratch"]
    assert b"size=4096k" in mounts[b"/dev/shm"]


async def test_files_users_and_folders(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/in").write_text("from outside")
    await desk.engine.create_pod(Pod("p"))
    shared, volume = Mount(str(tmp_path / "shared"), "/shared"), Mount("v", "/volume")
    await desk.run(
        "c", "sh", "-c", "cat /shared/in; echo; echo x > /shared/out; echo kept > /volume/f", mounts=[shared, volume]
    )
    assert (await desk.end("c")).exit_code == 0
    assert desk.said("c") == [b"from outside"]
    assert (tmp_path / "shared/out").read_text() == "x\n"
    read_only = Mount(str(tmp_path / "shared"), "/shared", read_only=True)
    await desk.run(
        "d",
        "sh",
        "-c",
        "echo x > /shared/no; cat /volume/f; id -u; echo x > /no || echo full",
        mounts=[read_only, volume],
        read_only=True,
    )
    await desk.end("d")
    assert not (tmp_path / "shared/no").exists()
    assert b"kept" in desk.said("d")
    assert b"full" in desk.said("d")
    with pytest.raises(CannotStart):
        await desk.engine.remove_volume("v")
    await desk.engine.remove("c")
    await desk.engine.remove("d")
    await desk.engine.remove_volume("v")
    await desk.engine.remove_volume("v")
    await desk.run("e", "sh", "-c", "ls /volume; echo done", mounts=[volume])
    await desk.end("e")
    assert desk.said("e") == [b"done"]

    # Each container has a file system of its own, and what one writes the image does not have.
    await desk.run("f", "sh", "-c", "echo x > /etc/new; ls /etc/new")
    await desk.run("g", "ls", "/etc/new")
    assert (await desk.end("f")).exit_code == 0
    assert (await desk.end("g")).exit_code == 1
    if os.geteuid() == 0:
        await desk.run("h", "id", "-u", user="user")
        await desk.run("i", "sh", "-c", "id -u; id -g", user="1234:99")
        await desk.end("h")
        await desk.end("i")
        assert (desk.said("h"), desk.said("i")) == ([b"1000"], [b"1234", b"99"])


async def test_folders_are_images_too(desk: Desk, root: Path, tmp_path: Path) -> None:
    await desk.engine.create_pod(Pod("p"))
    await desk.engine.run(Container("c", "p", str(root), command=["sh", "-c", "echo x > /etc/y; echo from the folder"]))
    assert (await desk.end("c")).exit_code == 0
    assert desk.said("c") == [b"from the folder"]
    assert not (root / "etc/y").exists()

    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").write_text("import ssl; print('application')")
    await desk.engine.run(Container("d", "p", str(tmp_path / "app"), command=["/usr/bin/python3", "main.py"]))
    await desk.end("d")
    assert desk.said("d") == [b"application"]
    with pytest.raises(CannotStart, match="command"):
        await desk.engine.run(Container("e", "p", str(tmp_path / "app")))


async def test_the_containers_of_a_pod_have_its_memory_together(desk: Desk) -> None:
    if not desk.abilities.limits_pods:
        pytest.skip("this engine does not limit pods here")
    await desk.engine.create_pod(Pod("p", cpu=0.5, memory=64_000_000))
    hold = "dd if=/dev/zero of=/tmp/x bs=1M count=40 && echo held && sleep 60"
    scratch = {"tmpfs": {"/tmp": 2**26}, "memory": 60_000_000}
    await desk.run("a", "sh", "-c", hold, **scratch)
    await until(lambda: b"held" in desk.said("a"))
    await desk.run("b", "sh", "-c", hold, **scratch)
    # Each is within its own limit; the second one to take its part is too much.
    await until(lambda: desk.ends)
    assert desk.ends[0].exit_code != 0
    assert b"held" not in desk.said("b")


async def test_images_come_from_our_own_registry(desk: Desk, root: Path, cloud: LocalCloud, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None or shutil.which("buildah") is None:
        pytest.skip("needs skopeo and buildah to push an image")
    ecr = cloud.client("ecr")
    uri = ecr.create_repository(repositoryName="web")["repository"]["repositoryUri"]
    data = ecr.get_authorization_token()["authorizationData"][0]
    user, password = base64.b64decode(data["authorizationToken"]).decode().split(":")
    folder = tmp_path / "build"
    shutil.copytree(root, folder / "files", symlinks=True)
    (folder / "Dockerfile").write_text(
        "FROM scratch\nCOPY files /\nRUN rm /etc/group; ln -s passwd /etc/users\n"
        'USER user\nENTRYPOINT ["sh", "-c"]\nCMD ["id -u; cat /etc/users; ls /etc/group"]\n'
    )

    def push() -> None:
        copy = ["skopeo", "copy", "--dest-tls-verify=false", f"--dest-creds={user}:{password}"]
        local = f"localhost/cloudlet/pushed:{desk.supervisor.cloud_id[:8]}"
        for argv in (
            ["buildah", "bud", "--layers", "--isolation", "chroot", "-t", local, str(folder)],
            [*copy, f"containers-storage:{local}", f"docker://{uri}:1"],
            ["buildah", "rmi", "-f", local],
        ):
            subprocess.run(argv, check=True, capture_output=True)

    await asyncio.to_thread(push)
    digest = await desk.engine.ensure_image(f"{uri}:1", (user, password))
    (image,) = ecr.describe_images(repositoryName="web")["imageDetails"]
    assert digest == image["imageDigest"]
    assert await desk.engine.ensure_image(f"{uri}@{digest}", (user, password)) == digest
    await desk.engine.create_pod(Pod("p"))
    await desk.engine.run(Container("c", "p", f"{uri}:1"))
    assert (await desk.end("c")).exit_code == 1
    out = [line for _, stream, line in desk.lines if stream == "stdout"]
    assert out == [b"1000", b"root:x:0:0:root:/:/bin/sh", b"user:x:1000:1000:user:/:/bin/sh"]
    await desk.engine.run(Container("d", "p", f"{uri}:1", command=["echo mine"]))
    await desk.end("d")
    assert desk.said("d") == [b"mine"]
    with pytest.raises(ImageMissing):
        await desk.engine.ensure_image(f"{uri}:2", (user, password))
    await desk.engine.remove_pod("p")
    if shutil.which("podman"):
        await asyncio.to_thread(subprocess.run, ["podman", "rmi", "-f", f"{uri}:1"], capture_output=True)


async def test_everything_outlives_the_control_plane(desk: Desk, tmp_path: Path) -> None:
    """Another process starts it, is killed without a word, and we find it."""
    cloud, folder = new_cloud_id(), tmp_path / "k"
    script = f"""
        import asyncio, os, signal
        from pathlib import Path
        from cloudlet.control.supervisor import Supervisor
        from cloudlet.engines.containers import find
        from cloudlet.engines.containers.api import Container, Pod, Port

        async def main():
            engine = find.engine(Supervisor({cloud!r}), Path({str(folder)!r}), {desk.kind!r})
            lines = []
            def logs(name, stream, line):
                print(name, line.decode(), flush=True)
                if (name, line) == ("c", b"5"):
                    os.kill(os.getpid(), signal.SIGKILL)
            await engine.start(logs, print)
            await engine.create_pod(Pod("p", labels={{"task": "t"}}, ports=[Port(80)]))
            await engine.run(Container("quick", "p", IMAGE, command=["sh", "-c", "sleep 1; exit 9"]))
            await engine.run(Container("web", "p", IMAGE, command=["httpd", "-f", "-p", "80", "-h", "/etc"]))
            count = "i=0; while [ $i -lt 45 ]; do i=$((i+1)); echo $i; sleep 0.1; done"
            await engine.run(Container("c", "p", IMAGE, command=["sh", "-c", count]))
            await asyncio.sleep(20)

        IMAGE = {IMAGE!r}
        asyncio.run(main())
    """
    await asyncio.to_thread(share_images, desk.folder, folder)
    child = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    told = [int(line.split()[1]) for line in child.stdout.splitlines() if line.startswith("c ")]
    await asyncio.sleep(1.2)

    supervisor = Supervisor(cloud)
    await asyncio.to_thread(supervisor.find_leftovers)
    second = Desk(make(desk.kind, supervisor, folder), supervisor, folder)  # type: ignore[attr-defined]
    await second.start()
    try:
        (pod,), containers = await second.engine.recover()
        supervisor.sweep()
        assert (pod.name, pod.labels["task"]) == ("p", "t")
        states = {state.name: state for state in containers}
        assert {name: state.exit_code for name, state in states.items()} == {"quick": 9, "web": None, "c": None}
        if second.abilities.own_addresses:
            assert b"root:x" in await get(pod.address, 80, "/passwd")
            assert b"root:x" in await get("127.0.0.1", pod.ports[0].host, "/passwd")
        # Every line is told, and only what was told last perhaps twice.
        await second.end("c")
        rest = [int(line) for line in second.said("c")]
        assert sorted({*told, *rest}) == list(range(1, 46))
        assert len(told) + len(rest) <= 46
        again = await second.engine.run(Container("web", "p", IMAGE, command=["false"]))
        assert (again.pid, again.exit_code) == (states["web"].pid, None)
        await second.engine.stop("web", 1)
        assert [state.name for state in second.ends] == ["c", "web"]
    finally:
        await second.engine.clear()
        await second.engine.stop_engine()
        await supervisor.stop_all()
    assert left_behind(cloud) == []


def share_images(source: Path, target: Path) -> None:
    """Give another cloud's folder the images of this one, where an engine keeps them there."""
    if (source / "images").is_dir():
        shutil.copytree(source / "images", target / "images", symlinks=True)
