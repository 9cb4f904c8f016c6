"""``cloudlet logs``: log lines of functions and services."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud


@click.command()
@click.argument("group", required=False, default="")
@click.option("--follow", "-f", is_flag=True, help="Wait for new lines until Ctrl-C.")
@click.option("--limit", default=100, show_default=True, help="How many stored lines to show for each log group.")
@of_a_running_cloud
def command(group: str, follow: bool, limit: int, endpoint: str | None, data_dir: str | None, as_json: bool) -> None:
    """Show the log lines of log groups whose names start with GROUP, and follow them."""
    remote = Remote(endpoint, data_dir)
    logs = remote.client("logs")
    arguments: dict[str, Any] = {"logGroupNamePrefix": group} if group else {}
    for page in logs.get_paginator("describe_log_groups").paginate(**arguments):
        for found in page["logGroups"]:
            name = found["logGroupName"]
            for event in logs.filter_log_events(logGroupName=name, limit=limit)["events"]:
                _print({"group": name, **event}, as_json)
    if follow:
        try:
            for event in remote.lines(f"logs?prefix={group}"):
                _print(event, as_json)
        except KeyboardInterrupt:
            return


def line(event: dict[str, Any]) -> str:
    """One log event for people: time, group, message."""
    at = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    return f"{at} {event['group']}  {event['message'].rstrip()}"


def _print(event: dict[str, Any], as_json: bool) -> None:
    import json

    click.echo(json.dumps(event) if as_json else line(event))
