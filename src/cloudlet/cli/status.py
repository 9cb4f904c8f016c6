"""``cloudlet status``: what runs where."""

from __future__ import annotations

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show


@click.command()
@click.option("--account", default="000000000000", show_default=True)
@click.option("--region", help="Default: the configured one.")
@of_a_running_cloud
def command(account: str, region: str | None, endpoint: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show services, resources and endpoints."""
    remote = Remote(endpoint, data_dir)
    health = remote.control("health")
    found = remote.control(f"resources?account={account}&region={region or remote.config.region}")["resources"]
    if as_json:
        show({"endpoint": remote.endpoint, **health, "resources": found})
        return
    running = [name for name, state in health["services"].items() if state == "running"]
    click.echo(f"Cloudlet {health['version']} answers at {remote.endpoint}")
    click.echo(f"running: {', '.join(running) or 'nothing has been called yet'}")
    if health["children"]:
        click.echo(f"child processes: {', '.join(child['name'] for child in health['children'])}")
    table(found)


def table(resources: list[dict[str, str]]) -> None:
    """Print resources and their endpoints."""
    if not resources:
        click.echo("no resources")
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table("Type", "Name", "Endpoint or ARN", box=None, header_style="bold")
    for resource in resources:
        grid.add_row(resource["type"], resource["name"], resource.get("endpoint") or resource.get("arn", ""))
    Console().print(grid)
