"""Child processes are accounted for: stopped with their families, adopted or swept after a crash."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import psutil
import pytest

from cloudlet.control.supervisor import Child, Supervisor, new_cloud_id

ENVIRONMENT = {"PATH": os.environ["PATH"]}


async def test_a_stopped_child_takes_its_family_with_it() -> None:
    supervisor = Supervisor(new_cloud_id())
    exited: list[Child] = []
    child = supervisor.start("family", ["sh", "-c", "sleep 300 & sleep 300"], env=ENVIRONMENT, on_exit=exited.append)
    process = psutil.Process(child.pid)
    while not (family := process.children()):
        await asyncio.sleep(0.01)
    with pytest.raises(ValueError, match="family"):
        supervisor.start("family", ["true"], env=ENVIRONMENT)
    await supervisor.stop_all()
    assert [gone.name for gone in exited] == ["family"]
    assert supervisor.children == []
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    supervisor = Supervisor(new_cloud_id())
    supervisor.start("deaf", ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], env=ENVIRONMENT)
    await asyncio.wait_for(supervisor.stop("deaf", grace=0.2), 5)
    assert supervisor.children == []


async def test_an_exit_is_noticed_with_its_status() -> None:
    supervisor = Supervisor(new_cloud_id())
    exited: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
    supervisor.start("short", ["sh", "-c", "exit 7"], env=ENVIRONMENT, on_exit=exited.set_result)
    assert (await asyncio.wait_for(exited, 5)).exit_code == 7


CRASHES = """
import asyncio, os, sys
from cloudlet.control.supervisor import Supervisor
async def main():
    supervisor = Supervisor(sys.argv[1])
    for name, lasting in (("kept", True), ("unwanted", True), ("mortal", False)):
        child = supervisor.start(name, ["sleep", "300"], env={"PATH": os.environ["PATH"]}, lasting=lasting)
        print(child.pid, flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


async def test_after_a_crash_a_lasting_child_is_adopted_and_no_other_is_left() -> None:
    cloud_id = new_cloud_id()
    crashed = subprocess.Popen([sys.executable, "-c", CRASHES, cloud_id], stdout=subprocess.PIPE, text=True)
    assert crashed.stdout is not None
    kept, unwanted, mortal = (int(crashed.stdout.readline()) for _ in range(3))
    crashed.kill()
    crashed.communicate()

    supervisor = Supervisor(cloud_id)
    supervisor.find_leftovers()
    child = supervisor.start("kept", ["sleep", "300"], env=ENVIRONMENT, lasting=True)
    assert (child.pid, child.adopted) == (kept, True)
    supervisor.sweep()
    for pid in (unwanted, mortal):
        for _ in range(100):
            if not _runs(pid):
                break
            await asyncio.sleep(0.01)
        assert not _runs(pid)
    assert _runs(kept)
    await asyncio.wait_for(supervisor.stop("kept"), 5)
    assert not _runs(kept)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
