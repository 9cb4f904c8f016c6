"""``cloudlet status``: what runs where."""

from __future__ import annotations

from typing import Any

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show


@click.command()
@click.option("--account", default="000000000000", show_default=True)
@click.option("--region", help="Default: the configured one.")
@click.option(
    "--usage", is_flag=True, help="Show the vCPU-seconds and GB-seconds that Fargate would bill for each task."
)
@of_a_running_cloud
def command(
    account: str, region: str | None, usage: bool, endpoint: str | None, data_dir: str | None, as_json: bool
) -> None:
    """Show services, resources and endpoints."""
    remote = Remote(endpoint, data_dir)
    if usage:
        tasks = remote.control(f"usage?account={account}&region={region or remote.config.region}")["tasks"]
        show({"tasks": tasks}) if as_json else bill(tasks)
        return
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


def bill(tasks: list[dict[str, Any]]) -> None:
    """Print what tasks have used, by service, and the sum."""
    if not tasks:
        click.echo("no tasks")
        return
    width = max(len(one["task"]) for one in tasks)
    head = f"{'Task':<{width}}  {'Status':<10}  {'Seconds':>10}  {'vCPU-s':>10}  {'GB-s':>10}"
    click.echo(click.style(head, bold=True))
    for one in sorted(tasks, key=lambda one: (one["service"], one["task"])):
        numbers = f"{one['seconds']:>10.1f}  {one['vcpu_seconds']:>10.1f}  {one['gb_seconds']:>10.1f}"
        click.echo(f"{one['task']:<{width}}  {one['status']:<10}  {numbers}")
    sums = [sum(one[key] for one in tasks) for key in ("seconds", "vcpu_seconds", "gb_seconds")]
    click.echo(f"{'together':<{width}}  {'':<10}  " + "  ".join(f"{number:>10.1f}" for number in sums))


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
