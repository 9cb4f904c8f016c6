"""``cloudlet clock``: the cloud's time, shown or moved forward."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """Seconds, or a number with s, m, h or d behind it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The duration in seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90, 15m, 2h or 7d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


@click.command()
@click.option("--advance", type=Duration(), help="Move the clock forward: 90, 15m, 2h, 7d.")
@of_a_running_cloud
def command(advance: float | None, endpoint: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show the cloud's time, or move it forward."""
    remote = Remote(endpoint, data_dir)
    clock = remote.control("clock") if advance is None else remote.control("clock", {"advance": advance})
    if as_json:
        show(clock)
    else:
        now = datetime.fromtimestamp(clock["now"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        click.echo(f"{now} ({clock['offset']:g} s ahead of this machine)")
