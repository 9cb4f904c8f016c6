"""``cloudlet env``: what makes AWS's tools use this cloud."""

from __future__ import annotations

import shlex

import click

from cloudlet.cli.remote import Remote, of_a_running_cloud, show


def variables(remote: Remote) -> dict[str, str]:
    """The environment for a program that shall use this cloud."""
    return {
        "AWS_ENDPOINT_URL": remote.endpoint,
        "AWS_ACCESS_KEY_ID": "000000000000",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": remote.config.region,
        "AWS_DEFAULT_REGION": remote.config.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Some operations want a word before the host: data-127.0.0.1 is a name that no resolver knows.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": remote.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "CLOUDLET_ENDPOINT": remote.endpoint,
    }


@click.command()
@of_a_running_cloud
def command(endpoint: str | None, data_dir: str | None, as_json: bool) -> None:
    """Print the environment that makes AWS tools use this cloud: eval "$(cloudlet env)"."""
    values = variables(Remote(endpoint, data_dir))
    if as_json:
        show(values)
        return
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")
