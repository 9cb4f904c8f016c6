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
    rows = [("Type", "Name", "Endpoint or ARN")]
    rows += [(one["type"], one["name"], one.get("endpoint") or one.get("arn", "")) for one in resources]
    # Whole, however narrow the terminal: an address is there to be copied.
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for number, (kind, name, where) in enumerate(rows):
        line = f"{kind:<{widths[0]}}  {name:<{widths[1]}}  {where}"
        click.echo(click.style(line, bold=True) if number == 0 else line)
