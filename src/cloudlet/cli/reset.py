"""``cloudlet reset``: an empty cloud at the same endpoint."""

from __future__ import annotations

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@of_a_running_cloud
def command(yes: bool, endpoint: str | None, data_dir: str | None, as_json: bool) -> None:
    """Delete everything in the running cloud."""
    remote = Remote(endpoint, data_dir)
    if not yes:
        click.confirm(f"Delete everything in the cloud at {remote.endpoint}?", abort=True)
    answer = remote.control("reset", {})
    if as_json:
        show(answer)
    else:
        click.echo("The cloud is empty.")
