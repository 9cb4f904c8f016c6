"""``cloudlet up``: the cloud, the application on it, and everything that happens there, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click

from cloudlet.cli import settings
from cloudlet.cli.deploy import deployment, print_event, print_outputs, succeeded
from cloudlet.cli.logs import line
from cloudlet.cli.remote import Remote
from cloudlet.cli.status import table

_NOT_CODE = frozenset((".git", ".cloudlet", ".venv", "node_modules", "__pycache__", ".aws-sam", "cdk.out"))


@click.command()
@click.argument("template", type=click.Path(exists=True, dir_okay=False), required=False)
@click.option("--stack", help="The stack's name (default: the template's folder).")
@click.option("--parameter", "-p", "parameters", multiple=True, metavar="NAME=VALUE", help="A template parameter.")
@click.option("--once", is_flag=True, help="Stop after the deployment, with its success as exit status.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a JSON line.")
@settings.of_the_cloud
def command(
    template: str | None,
    stack: str | None,
    parameters: tuple[str, ...],
    once: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Start the cloud, deploy TEMPLATE, show what runs where and the logs, and redeploy what changes, until Ctrl-C."""
    settings.load(flags)
    server, remote = _start(flags)
    show = (lambda event: click.echo(json.dumps(event))) if as_json else print_event
    try:
        outcome: dict[str, Any] = {}
        if template is not None:
            if not as_json:
                click.echo(f"Deploying {template}")
            outcome = _deploy(remote, Path(template), stack, parameters, show)
        if not as_json:
            _show_resources(remote)
            print_outputs(outcome)
            click.echo("")
        if once:
            sys.exit(0 if template is None or _is_deployed(outcome) else 1)
        follower = threading.Thread(target=_follow, args=(remote, as_json), daemon=True)
        follower.start()
        if template is not None:
            _redeploy_on_change(remote, Path(template), stack, parameters, show)
        elif server is not None:
            server.wait()
        else:
            follower.join()
    except KeyboardInterrupt:
        pass
    finally:
        if server is not None:
            if not as_json:
                click.echo("\nStopping ...")
            server.terminate()
            server.wait()


def _start(flags: dict[str, Any]) -> tuple[subprocess.Popen[str] | None, Remote]:
    """The cloud of the data directory: the one that runs already, or one that is started here."""
    config = settings.load(flags)
    if not config.ephemeral and (running := _running(config.data_dir)) is not None:
        click.echo(f"Using the cloud that runs at {running}", err=True)
        return None, Remote(running, str(config.data_dir))
    arguments = []
    for name, value in flags.items():
        if value is True:
            arguments.append(f"--{name.replace('_', '-')}")
        elif value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    server = subprocess.Popen(
        [sys.executable, "-m", "cloudlet", "serve", "--json", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for this process; it stops the cloud in its own time.
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    assert server.stdout is not None
    answer = server.stdout.readline()
    if not answer:
        sys.exit(server.wait() or 1)
    endpoint = json.loads(answer)["endpoint"]
    click.echo(f"Cloudlet answers at {endpoint}", err=True)
    return server, Remote(endpoint, str(config.data_dir))


def _end_with_parent() -> None:
    import ctypes

    # PR_SET_PDEATHSIG, prctl(2): also when this process is killed, the cloud is told to stop.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _running(data_dir: Path) -> str | None:
    import urllib.request

    try:
        endpoint = json.loads((data_dir / "lock").read_text())["endpoint"]
        urllib.request.urlopen(f"{endpoint}/_cloudlet/health", timeout=2).read()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(endpoint)


def _deploy(
    remote: Remote, template: Path, stack: str | None, parameters: tuple[str, ...], show: Any
) -> dict[str, Any]:
    """Deploy once, and return the last event: ``done`` or ``failed``."""
    outcome: dict[str, Any] = {}
    try:
        for outcome in deployment(remote, template, stack, parameters, None):
            show(outcome)
    except click.ClickException as error:
        outcome = {"event": "failed", "message": error.message}
        show(outcome)
    return outcome


def _is_deployed(outcome: dict[str, Any]) -> bool:
    """Whether the stack is as the template says."""
    return outcome.get("event") == "done" and (outcome.get("unchanged", False) or succeeded(outcome["status"]))


def _show_resources(remote: Remote) -> None:
    found = remote.control(f"resources?region={remote.config.region}")["resources"]
    click.echo("")
    table(found)
    click.echo("")


def _follow(remote: Remote, as_json: bool) -> None:
    try:
        for event in remote.lines("logs"):
            click.echo(json.dumps({"event": "log", **event}) if as_json else line(event))
    except (click.ClickException, OSError, ValueError):
        return


def _redeploy_on_change(
    remote: Remote, template: Path, stack: str | None, parameters: tuple[str, ...], show: Any
) -> None:
    """Deploy again when the template or something that is built changes; plain code is reloaded by the cloud itself."""
    from watchfiles import DefaultFilter, watch

    class Filter(DefaultFilter):
        ignore_dirs = (*DefaultFilter.ignore_dirs, *_NOT_CODE)

    folder = template.resolve().parent
    for changes in watch(folder, watch_filter=Filter(), raise_interrupt=True, rust_timeout=60_000):
        names = {Path(path).name for _, path in changes}
        suffixes = {Path(path).suffix for _, path in changes}
        if names & {template.name, "requirements.txt", "package.json", "Makefile", "pom.xml"} or suffixes & {
            ".yaml",
            ".yml",
        }:
            _deploy(remote, template, stack, parameters, show)
