"""``cloudlet invoke``: a function by its name."""

from __future__ import annotations

import base64
import sys

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show


@click.command()
@click.argument("function")
@click.argument("payload", required=False, default="{}")
@click.option("--async", "asynchronous", is_flag=True, help="Do not wait for the result.")
@click.option("--log", is_flag=True, help="Show the log's tail too.")
@of_a_running_cloud
def command(
    function: str,
    payload: str,
    asynchronous: bool,
    log: bool,
    endpoint: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Invoke FUNCTION with PAYLOAD: JSON, @FILE, or - for standard input."""
    if payload == "-":
        payload = sys.stdin.read()
    elif payload.startswith("@"):
        try:
            with open(payload[1:]) as file:
                payload = file.read()
        except OSError as error:
            raise click.ClickException(f"{payload[1:]}: {error.strerror}") from None
    from botocore.exceptions import ClientError

    try:
        answer = (
            Remote(endpoint, data_dir)
            .client("lambda")
            .invoke(
                FunctionName=function,
                Payload=payload.encode(),
                InvocationType="Event" if asynchronous else "RequestResponse",
                LogType="Tail" if log else "None",
            )
        )
    except ClientError as error:
        raise click.ClickException(str(error)) from None
    result = answer["Payload"].read().decode()
    if as_json:
        show({"status": answer["StatusCode"], "error": answer.get("FunctionError"), "payload": result})
    else:
        if log and "LogResult" in answer:
            click.echo(base64.b64decode(answer["LogResult"]).decode(errors="replace"), err=True)
        click.echo(result or f"accepted ({answer['StatusCode']})")
    if "FunctionError" in answer:
        sys.exit(1)
