"""``cloudlet down``: the running cloud ends, its state stays."""

from __future__ import annotations

import json
import os
import time

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show


@click.command()
@of_a_running_cloud
def command(endpoint: str | None, data_dir: str | None, as_json: bool) -> None:
    """Stop the running cloud; its state is kept."""
    remote = Remote(endpoint, data_dir)
    try:
        pid = json.loads((remote.config.data_dir / "lock").read_text())["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        pid = None
    answer = remote.control("stop", {})
    deadline = time.monotonic() + 20
    while pid is not None and _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    if as_json:
        show(answer)
    else:
        click.echo(
            "The cloud has stopped." if pid is None or not _runs(pid) else f"The cloud (pid {pid}) is still stopping."
        )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
