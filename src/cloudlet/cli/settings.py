"""The flags that every verb shares, and how they become a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cloudlet import config

F = TypeVar("F", bound=Callable[..., Any])

_FLAGS = [
    click.option("--host", help="Address to listen on (default 127.0.0.1); a wider one needs --auth enforce."),
    click.option("--port", type=int, help="Port of the one endpoint (default 4566); 0 picks a free one."),
    click.option("--data-dir", type=click.Path(file_okay=False), help="Where state lives (default .cloudlet)."),
    click.option("--ephemeral", is_flag=True, default=None, help="Keep state in memory and forget it at the end."),
    click.option("--sync", type=click.Choice(["normal", "full"]), help="full also survives a power cut."),
    click.option("--auth", type=click.Choice(["local", "enforce"]), help="enforce verifies every signature."),
    click.option("--region", help="Region of unsigned requests (default us-east-1)."),
    click.option("--isolation", type=click.Choice(["auto", "none"]), help="auto puts functions in bwrap sandboxes."),
    click.option(
        "--security-groups",
        type=click.Choice(["auto", "none"]),
        help="auto has them hold between tasks, where this machine lets us.",
    ),
]


def of_the_cloud(command: F) -> F:
    """Give a verb the cloud's flags."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def load(flags: dict[str, Any]) -> config.Config:
    """The configuration from flags, environment and file; a bad one ends the command with its reason."""
    try:
        return config.load(flags)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from None
