"""``cloudlet run -- CMD``: any AWS program against this cloud."""

from __future__ import annotations

import os

import click

from cloudlet.cli.env import variables
from cloudlet.cli.remote import Remote


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--data-dir", type=click.Path(file_okay=False), help="Find the cloud that works in this folder.")
@click.option("--endpoint", envvar="CLOUDLET_ENDPOINT", help="URL of the cloud, if it is not the one of this folder.")
@click.argument("argv", nargs=-1, required=True, metavar="-- COMMAND [ARG]...")
def command(argv: tuple[str, ...], endpoint: str | None, data_dir: str | None) -> None:
    """Run a command in the environment that makes AWS tools use this cloud."""
    environment = {key: value for key, value in os.environ.items() if key not in ("AWS_PROFILE", "AWS_SESSION_TOKEN")}
    remote = Remote(endpoint, data_dir)
    environment.update(variables(remote))
    if os.path.basename(argv[0]) == "aws" and "--endpoint-url" not in argv:
        # Version 1 of the AWS CLI has fixed addresses for SQS, which only this flag overrides.
        argv = (argv[0], "--endpoint-url", remote.endpoint, *argv[1:])
    try:
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        raise click.ClickException(f"{argv[0]}: {error.strerror}") from None
