"""The running cloud, as the verbs reach it: its control API, and AWS's API through boto3."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from cloudlet.config import Config

F = TypeVar("F", bound=Callable[..., Any])


def of_a_running_cloud(command: F) -> F:
    """Give a verb the flags that say which cloud it means, and how it answers."""
    for flag in (
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.option("--data-dir", type=click.Path(file_okay=False), help="Find the cloud that works in this folder."),
        click.option(
            "--endpoint", envvar="CLOUDLET_ENDPOINT", help="URL of the cloud, if it is not the one of this folder."
        ),
    ):
        command = flag(command)
    return command


class Remote:
    """A running cloud, found by its endpoint or by the folder that it works in."""

    def __init__(self, endpoint: str | None = None, data_dir: str | None = None) -> None:
        from cloudlet.cli import settings

        self.config: Config = settings.load({"data_dir": data_dir})
        self.endpoint = (endpoint or _endpoint_of(self.config)).rstrip("/")

    def control(self, path: str, document: Any = None, method: str = "") -> Any:
        """Ask the control API; an error ends the command with its reason."""
        with self._open(path, document, method) as answer:
            return json.load(answer)

    def lines(self, path: str, document: Any = None) -> Iterator[dict[str, Any]]:
        """Ask the control API and yield its answer's JSON lines as they come."""
        with self._open(path, document, timeout=None) as answer:
            for line in answer:
                if line.strip():
                    yield json.loads(line)

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud; where none answers, the command ends and says so."""
        import boto3

        self.control("health")
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.config.region,
            aws_access_key_id="000000000000",
            aws_secret_access_key="local",
        )

    def _open(self, path: str, document: Any = None, method: str = "", timeout: float | None = 60) -> Any:
        request = urllib.request.Request(
            f"{self.endpoint}/_cloudlet/{path}",
            data=None if document is None else json.dumps(document).encode(),
            method=method or ("GET" if document is None else "POST"),
            headers={"content-type": "application/json"},
        )
        try:
            return urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                text = json.loads(text)["error"]
            except (ValueError, KeyError, TypeError):
                pass
            raise click.ClickException(text.strip()) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise click.ClickException(
                f"no Cloudlet answers at {self.endpoint} ({reason}); start one with: cloudlet serve"
            ) from None


def _endpoint_of(config: Config) -> str:
    """The endpoint that the cloud of the data directory has noted, else the configured one."""
    try:
        noted = json.loads((Path(config.data_dir) / "lock").read_text())["endpoint"]
        return str(noted)
    except (OSError, ValueError, KeyError, TypeError):
        return f"http://{config.host}:{config.port}"


def show(document: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(document, indent=2, default=str))
