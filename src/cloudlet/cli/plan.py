"""``cloudlet plan``: what a deployment would change."""

from __future__ import annotations

from pathlib import Path

import click

from cloudlet.cli.deploy import of_a_stack, request
from cloudlet.cli.remote import Remote, of_a_running_cloud, show

_MARKS = {"Add": ("+", "green"), "Modify": ("~", "yellow"), "Remove": ("-", "red")}


@click.command()
@of_a_stack
@of_a_running_cloud
def command(
    template: str,
    stack: str | None,
    parameters: tuple[str, ...],
    region: str | None,
    endpoint: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Show what deploying TEMPLATE would change; nothing is changed."""
    remote = Remote(endpoint, data_dir)
    changes = remote.control("plan", request(remote, Path(template), stack, parameters, region))["changes"]
    if as_json:
        show(changes)
        return
    if not changes:
        click.echo("Nothing would change.")
    for change in changes:
        mark, colour = _MARKS[change["action"]]
        replaced = " (replaced)" if change.get("replacement") else ""
        click.echo(f"{click.style(mark, fg=colour)} {change['logicalId']} ({change['type']}){replaced}")
