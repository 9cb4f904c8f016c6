"""``cloudlet deploy``: a template, SAM or CloudFormation, into the running cloud."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from cloudlet.cli.remote import F, Remote, of_a_running_cloud, show

_COLOURS = {"COMPLETE": "green", "FAILED": "red", "PROGRESS": "yellow"}


def of_a_stack(command: F) -> F:
    """Give a verb a template, and the flags that say which stack it is for and with what."""
    for flag in (
        click.option("--region", help="Default: the configured one."),
        click.option(
            "--parameter", "-p", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter's value."
        ),
        click.option("--stack", help="The stack's name (default: the template's folder)."),
        click.argument("template", type=click.Path(exists=True, dir_okay=False)),
    ):
        command = flag(command)
    return command


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
    """Deploy TEMPLATE to the running cloud. Local code is used where it lies, and built where it has dependencies."""
    remote = Remote(endpoint, data_dir)
    outcome: dict[str, Any] = {}
    for event in deployment(remote, Path(template), stack, parameters, region):
        outcome = event
        if not as_json:
            print_event(event)
    if as_json:
        show(outcome)
    else:
        print_outputs(outcome)
    if outcome.get("event") != "done" or not (outcome.get("unchanged") or succeeded(outcome["status"])):
        sys.exit(1)


def deployment(
    remote: Remote, template: Path, stack: str | None, parameters: tuple[str, ...], region: str | None
) -> Iterator[dict[str, Any]]:
    """Deploy and yield what happens: ``resource`` events, then one of ``done`` or ``failed``."""
    yield from remote.lines("deploy", request(remote, template, stack, parameters, region))


def request(
    remote: Remote, template: Path, stack: str | None, parameters: tuple[str, ...], region: str | None
) -> dict[str, Any]:
    """What the control API needs to know of a deployment. Raises click.BadParameter."""
    values = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals:
            raise click.BadParameter(f"{parameter!r} is not NAME=VALUE")
        values[name] = value
    path = template.resolve()
    return {
        "template": str(path),
        "stack": stack or stack_name(path),
        "parameters": values,
        "region": region or remote.config.region,
    }


def stack_name(template: Path) -> str:
    """A stack's name for a template: its folder's, or its own when it is not called template."""
    own = template.stem
    name = template.parent.name if own in ("template", "sam", "cloudformation") else own
    name = re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")
    return name if name[:1].isalpha() else f"stack-{name}".rstrip("-")


def succeeded(status: str) -> bool:
    """Whether a stack's final status is a success."""
    return status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")


def print_event(event: dict[str, Any]) -> None:
    """One event as a line for people."""
    if event["event"] == "resource":
        status = event["status"]
        colour = next((colour for word, colour in _COLOURS.items() if word in status), None)
        reason = f"  {event['reason']}" if event.get("reason") else ""
        click.echo(f"  {click.style(f'{status:<32}', fg=colour)} {event['logicalId']} ({event['type']}){reason}")
    elif event["event"] == "message":
        click.echo(f"  {event['message']}")
    elif event["event"] == "failed":
        click.echo(click.style(event["message"], fg="red"), err=True)
    elif event["event"] == "done":
        if event.get("unchanged"):
            click.echo(f"Stack {event['stack']} has no changes.")
        else:
            click.echo(f"Stack {event['stack']}: {click.style(event['status'], bold=True)} {event.get('reason', '')}")


def print_outputs(event: dict[str, Any]) -> None:
    """The outputs of a stack that is done."""
    outputs = event.get("outputs") or []
    width = max((len(output["key"]) for output in outputs), default=0)
    for output in outputs:
        click.echo(f"  {output['key']:<{width}}  {output['value']}")
