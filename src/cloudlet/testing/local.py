"""A Cloudlet process for a test: started on a free port, killed for real, and gone at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

_FIRST_ANSWER = 20.0


class LocalCloud:
    """One cloud. Its data live in a folder of their own, in memory where the system has that, until ``stop``."""

    def __init__(self, *arguments: str, data_dir: Path | None = None) -> None:
        self._own_dir = data_dir is None
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="cloudlet-test-", dir=memory))
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self.endpoint = ""

    def start(self) -> LocalCloud:
        """Start, or start again on the same data and port. Raises RuntimeError with what Cloudlet printed."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "cloudlet", "serve", "--json", "--port", str(self._port)),
                *("--data-dir", str(self.data_dir), *self._arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=(self.data_dir / "log").open("ab"),
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Cloudlet did not start:\n{self.log}")
        self.endpoint = json.loads(line)["endpoint"]
        self._port = int(self.endpoint.rsplit(":", 1)[1])
        return self

    @property
    def pid(self) -> int:
        """The process id of the running cloud."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the cloud has written to its log."""
        file = self.data_dir / "log"
        return file.read_text(errors="replace") if file.is_file() else ""

    def client(self, service: str, region: str = "us-east-1", account: str = "000000000000", **settings: Any) -> Any:
        """A boto3 client of this cloud."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=settings.pop("access_key", account),
            aws_secret_access_key=settings.pop("secret_key", "test"),
            **settings,
        )

    def control(self, path: str, document: Any = None, method: str = "") -> Any:
        """Ask the control API: ``control("clock", {"advance": 60})``."""
        request = urllib.request.Request(
            f"{self.endpoint}/_cloudlet/{path}",
            data=None if document is None else json.dumps(document).encode(),
            method=method or ("GET" if document is None else "POST"),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_FIRST_ANSWER) as answer:
            return json.load(answer)

    def advance(self, seconds: float) -> None:
        """Move the cloud's clock forward."""
        self.control("clock", {"advance": seconds})

    def kill(self) -> None:
        """Kill the cloud's process as ``kill -9`` does; ``start`` takes up the same data."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    @property
    def is_running(self) -> bool:
        """Whether the cloud's process is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop the cloud and delete its data.

        One that was killed is started first: what it has left running ends only with it.
        """
        if self._process is not None and not self.is_running:
            self.start()
        if self._process is not None and self.is_running:
            self._process.terminate()
            try:
                self._process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        if self._own_dir:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> LocalCloud:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
