"""``cloudlet fault``: errors and delays on demand."""

from __future__ import annotations

import click

from cloudlet.cli.clock import Duration
from cloudlet.cli.remote import Remote, of_a_running_cloud, show


@click.command()
@click.option("--service", default="", help="Only this service's calls (sqs, dynamodb, ...).")
@click.option("--operation", default="", help="Only this operation (SendMessage, ...).")
@click.option("--error", default="", help="The error code to answer with (ThrottlingException, ...).")
@click.option("--status", default=500, show_default=True, help="The HTTP status of that error.")
@click.option("--delay", type=Duration(), default=0.0, help="Wait this long before the call (of the cloud's clock).")
@click.option("--probability", default=1.0, show_default=True, help="How many calls are hit, 0 to 1.")
@click.option("--remove", help="Remove the fault of this id.")
@click.option("--clear", is_flag=True, help="Remove all faults.")
@of_a_running_cloud
def command(
    service: str,
    operation: str,
    error: str,
    status: int,
    delay: float,
    probability: float,
    remove: str | None,
    clear: bool,
    endpoint: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Inject errors and delays into calls; without an option, list what is injected now."""
    remote = Remote(endpoint, data_dir)
    if remove:
        remote.control(f"faults?id={remove}", method="DELETE")
    elif clear:
        if remote.control("faults")["faults"]:
            remote.control("faults", method="DELETE")
    elif error or delay:
        remote.control(
            "faults",
            {
                "service": service,
                "operation": operation,
                "error": error,
                "status": status,
                "delay": delay,
                "probability": probability,
            },
        )
    elif service or operation:
        raise click.UsageError("say what shall happen: --error CODE or --delay DURATION")
    faults = remote.control("faults")["faults"]
    if as_json:
        show(faults)
    elif not faults:
        click.echo("No faults are injected.")
    for fault in [] if as_json else faults:
        what = f"{fault['service'] or 'every service'} {fault['operation'] or 'every operation'}"
        effect = " and ".join(
            part
            for part in (
                f"{fault['delay']:g} s delay" if fault["delay"] else "",
                fault["error"] and f"{fault['error']} {fault['status']}",
            )
            if part
        )
        click.echo(f"{fault['id']}  {what}: {effect}, {fault['probability']:.0%} of calls")
