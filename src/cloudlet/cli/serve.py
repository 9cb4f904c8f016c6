"""``cloudlet serve``: the cloud in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click

from cloudlet.cli import settings


@click.command()
@settings.of_the_cloud
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line once it answers.")
@click.option("--verbose", is_flag=True, help="Log more.")
def command(as_json: bool, verbose: bool, **flags: Any) -> None:
    """Start the cloud, and serve until Ctrl-C."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    config = settings.load(flags)
    started = run(config, lambda endpoint, data_dir: _announce(endpoint, data_dir, as_json))
    sys.exit(started)


def run(config: Any, announce: Any) -> int:
    """Run a cloud until SIGINT, SIGTERM or the control API's stop, and return the exit status."""
    try:
        import uvloop
    except ImportError:  # not on every platform
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        return runner.run(_serve(config, announce))


async def _serve(config: Any, announce: Any) -> int:
    from cloudlet.cloud import DataDirInUse, compose

    # Two threads share the interpreter: the writer must not wait five milliseconds for its turn.
    sys.setswitchinterval(0.0005)
    cloud = compose(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, cloud.stopping.set)
    try:
        await cloud.start()
    except (DataDirInUse, OSError) as error:
        where = f" {config.host}:{config.port}" if isinstance(error, OSError) else ""
        click.echo(f"cloudlet: cannot start{where}: {error}", err=True)
        return 1
    # What is loaded by now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    announce(cloud.endpoint, cloud.data_dir)
    await cloud.stopping.wait()
    await cloud.stop()
    return 0


def _announce(endpoint: str, data_dir: Path, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"endpoint": endpoint, "dataDir": str(data_dir)}))
    else:
        click.echo(f"Cloudlet answers at {endpoint} (state in {data_dir}). Ctrl-C stops it.")
    sys.stdout.flush()
