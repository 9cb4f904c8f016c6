"""What the container engines stand on, without any container."""

from __future__ import annotations

import asyncio
import io
import os
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from cloudlet.engines.containers import (
    cgroups,
    find,
    folders,
    images,
    network,
    podman,
    programs,
    references,
    translate,
)
from cloudlet.engines.containers.api import CannotStart, EngineMissing, ImageMissing
from cloudlet.engines.containers.follow import Follower
from cloudlet.engines.containers.network import Forward


def test_the_user_decides_which_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDLET_ENGINE", "processes")
    assert find.kind() == "processes"
    monkeypatch.setenv("CLOUDLET_ENGINE", "lxc")
    with pytest.raises(EngineMissing, match="docker, podman, processes"):
        find.kind()
    monkeypatch.delenv("CLOUDLET_ENGINE")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(translate, "sockets", lambda environment, kind: [])
    assert find.kind() == "processes"


def test_sockets_are_looked_for_in_order() -> None:
    environment = {"DOCKER_HOST": "unix:///mine.sock", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert [str(path) for path in translate.sockets(environment, "")] == [
        "/mine.sock",
        "/var/run/docker.sock",
        "/run/user/7/docker.sock",
        "/run/podman/podman.sock",
        "/run/user/7/podman/podman.sock",
    ]
    assert [str(path) for path in translate.sockets({"DOCKER_HOST": "tcp://x"}, "docker")] == ["/var/run/docker.sock"]


def test_podman_is_told_what_this_machine_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "highest_limits", lambda: {"nofile": 20000})
    monkeypatch.setattr(podman.shutil, "which", lambda name: None if name == "crun" else f"/usr/bin/{name}")
    said = podman.settings()
    assert 'default_ulimits = ["nofile=20000:20000"]' in said
    assert 'runtime = "runc"' in said
    monkeypatch.setattr(podman, "highest_limits", dict)
    monkeypatch.setattr(podman.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "ulimits" not in podman.settings()
    assert "runtime" not in podman.settings()


def test_times_as_engines_write_them() -> None:
    assert translate.moment("2026-11-25T17:13:29Z") == 1795626809
    assert translate.moment("2026-11-25T17:13:29.030189164Z") == pytest.approx(1795626809.030189, abs=1e-6)
    assert translate.moment("2026-11-25T19:13:29.5+02:00") == 1795626809.5


@pytest.mark.parametrize(
    ("reference", "host", "name", "tag"),
    [
        ("nginx", "registry-1.docker.io", "library/nginx", "latest"),
        ("amazon/aws-cli:2.1", "registry-1.docker.io", "amazon/aws-cli", "2.1"),
        ("docker.io/a/b", "registry-1.docker.io", "a/b", "latest"),
        ("127.0.0.1:4566/0.dkr.ecr.us-east-1/web:v1", "127.0.0.1:4566", "0.dkr.ecr.us-east-1/web", "v1"),
        ("public.ecr.aws/x/y@sha256:00", "public.ecr.aws", "x/y", "sha256:00"),
        ("localhost/x:1", "localhost", "x", "1"),
    ],
)  # fmt: skip
def test_references(reference: str, host: str, name: str, tag: str) -> None:
    assert references.parse(reference) == (host, name, tag)


def test_rules_name_the_bridge_and_replace_those_that_are_there() -> None:
    forward = Forward("127.0.0.1", 8080, "tcp", "10.192.0.2", 80)
    text = network.rules("cloudlet_x", "clx", "10.192.0.1", "10.192.0.0/20", [forward])
    assert text.startswith("table ip cloudlet_x\ndelete table ip cloudlet_x\n")
    assert text.count("ip daddr 127.0.0.1 tcp dport 8080 dnat to 10.192.0.2:80") == 2
    assert 'ip saddr 10.192.0.0/20 oifname != "clx" masquerade' in text
    assert 'iifname "clx" ip daddr 10.192.0.1' in text
    assert "masquerade" not in network.rules("t", "b", "10.0.0.1", "", [])


def test_subnets_of_clouds_do_not_meet() -> None:
    first = network.free_subnet("00000001" * 2)
    assert first == network.free_subnet("00000001" * 2)
    assert not first.overlaps(network.free_subnet("00000001" * 2, [first]))


async def test_what_is_shared_comes_with_the_first_and_goes_with_the_last() -> None:
    seen: list[str] = []

    async def note(word: str) -> None:
        await asyncio.sleep(0)
        seen.append(word)

    shared = network.Shared(lambda: note("open"), lambda: note("close"))
    await asyncio.gather(shared.take("a"), shared.take("b"))
    await shared.leave("a")
    await shared.leave("a")
    assert seen == ["open"]
    await shared.leave("b")
    await shared.take("c")
    assert seen == ["open", "close", "open"]


async def test_a_file_is_followed_from_where_it_was_left(tmp_path: Path) -> None:
    path, told = tmp_path / "stdout", []
    path.write_bytes(b"one\ntw")
    follower = Follower()
    follower.add(path, told.append)
    assert told == [b"one"]
    with path.open("ab", buffering=0) as file:
        file.write(b"o\nthree\nfo")
        await asyncio.sleep(0.05)
        assert told == [b"one", b"two", b"three"]
        follower.close()
        file.write(b"ur\nlast")
    follower = Follower()
    follower.add(path, told.append)
    follower.finish(path)
    follower.close()
    assert told == [b"one", b"two", b"three", b"four", b"last"]


async def test_what_has_been_told_takes_no_space(tmp_path: Path) -> None:
    path, told = tmp_path / "stdout", []
    path.write_bytes((b"x" * 1023 + b"\n") * 20_000)
    follower = Follower()
    follower.add(path, lambda line: told.append(len(line)))
    follower.close()
    assert len(told) == 20_000
    assert path.stat().st_size == 20_480_000
    assert path.stat().st_blocks * 512 < 8_000_000


def layer(*entries: tuple[str, bytes | None, str]) -> io.BytesIO:
    """A layer of files (with bytes), folders, and links to the third."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data, link in entries:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            elif data is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data or b""))
    made.seek(0)
    return made


def test_layers_lie_over_each_other_and_stay_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    images.unpack(layer(("a/b", b"1", ""), ("a/c", b"2", ""), ("d/e", b"3", ""), ("up", b"", str(outside))), root)
    images.unpack(layer(("a/.wh.b", b"", ""), ("d/.wh..wh..opq", b"", ""), ("d/f", b"4", "")), root)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == ["a/c", "d/f"]
    # A link of the image is followed as the image means it: from its own top.
    images.unpack(layer(("up/x", b"5", "")), root)
    assert not list(outside.iterdir())
    assert images.inside(root, "up/" + "../" * 30 + "a/c") == root / "a/c"
    with pytest.raises(ImageMissing):
        images.unpack(layer(("../x", b"6", "")), root)
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="runs machine code of x86-64")
def test_our_programs_run(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(programs.pause())
    program.chmod(0o755)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([program], timeout=0.1)
    tmp_path.chmod(0o755)
    program.write_bytes(programs.become(os.getuid(), os.getgid()))
    if os.geteuid() != 0:
        pytest.skip("only root may become another")
    done = subprocess.run([program, "/bin/sh", "-c", "echo $0 $A; exit 3", "x"], env={"A": "b"}, capture_output=True)
    assert (done.returncode, done.stdout) == (3, b"x b\n")
    assert subprocess.run([program, "/no/such"]).returncode == 126
    program.write_bytes(programs.become(70_000, 99))
    done = subprocess.run([program, "/usr/bin/id"], capture_output=True, text=True)
    assert done.stdout.startswith("uid=70000 gid=99")


def test_a_folder_is_a_root_or_an_application(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("")
    assert folders.is_application(tmp_path)
    before = folders.fingerprint(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("")
    assert not folders.is_application(tmp_path)
    assert folders.fingerprint(tmp_path) != before


def test_users_are_found_in_the_image(tmp_path: Path) -> None:
    from cloudlet.engines.containers.sandbox import _user

    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:::\nweb:x:12:34:::\n")
    (tmp_path / "etc/group").write_text("staff:x:50:\n")
    assert [_user(text, tmp_path) for text in ("", "web", "12", "99", "web:staff", "5:6")] == [
        *((0, 0), (12, 34), (12, 34), (99, 0), (12, 50), (5, 6))
    ]
    with pytest.raises(CannotStart, match="nobody"):
        _user("nobody", tmp_path)


def test_controllers_of_version_2_are_given_down_to_each_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = os.makedirs

    def as_the_kernel_does(name: str, exist_ok: bool = False) -> None:
        made(name, exist_ok=exist_ok)
        for folder in [Path(name), *Path(name).parents]:
            if folder.is_relative_to(tmp_path):
                for file in ("cgroup.subtree_control", "cpu.max", "memory.max"):
                    (folder / file).touch()

    monkeypatch.setattr(os, "makedirs", as_the_kernel_does)
    monkeypatch.setattr(cgroups, "mounts", lambda: cgroups.Mounts({}, str(tmp_path)))
    groups = cgroups.Groups("cloud")
    assert (groups.cpu, groups.memory) == (True, True)
    (tmp_path / "cloud" / "cgroup.subtree_control").write_text("")  # as after the group of all was removed
    assert groups.create("pod/web", 0.5, 2**20) == [f"{tmp_path}/cloud/pod/web/cgroup.procs"]
    for folder in (tmp_path, tmp_path / "cloud", tmp_path / "cloud" / "pod"):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "cloud" / "pod" / "web" / "cgroup.subtree_control").read_text() == ""
    assert (tmp_path / "cloud" / "pod" / "web" / "memory.max").read_text() == str(2**20)
