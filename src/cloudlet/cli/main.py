"""``cloudlet``: finds the verb's file when it is called, so that a verb costs only its own imports."""

from __future__ import annotations

import importlib

import click

VERBS = {
    "up": "Start the cloud, deploy a template, show what runs, and redeploy what changes.",
    "serve": "Start the cloud.",
    "deploy": "Deploy a template to the running cloud.",
    "plan": "Show what a deployment would change.",
    "status": "Show services, resources and endpoints.",
    "logs": "Show log lines, and follow them.",
    "invoke": "Invoke a function.",
    "clock": "Show the cloud's time, or move it forward.",
    "dns": "Show the DNS server and how to use it, or ask it for a name.",
    "fault": "Inject errors and delays into calls.",
    "env": "Print the environment that makes AWS tools use this cloud.",
    "run": "Run a command in that environment.",
    "doctor": "Check this machine for what Cloudlet can use.",
    "reset": "Delete everything in the running cloud.",
    "down": "Stop the running cloud.",
    "completion": "Print the shell's completion script.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"cloudlet.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cloudlet")
def main() -> None:
    """A small, complete cloud for microservices that speaks AWS's own APIs."""
