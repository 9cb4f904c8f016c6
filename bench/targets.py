"""The servers that are measured: each is started fresh, measured, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

# Python must find its compiled files, as it does for a user.
_ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


class Target:
    """A server in a process of its own, on a free port."""

    name = ""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.seconds_to_first_answer = 0.0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What it is started with."""
        return _ENVIRONMENT

    def start(self) -> None:
        """Start it and wait for its first answer."""
        started = time.perf_counter()
        self._process = subprocess.Popen(
            self.command(),
            env=self.environment(),
            cwd=self.folder,
            stdout=(self.folder / "out").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - started > 60:
                raise RuntimeError(f"{self.name} did not start: {(self.folder / 'out').read_text()[-2000:]}")
            time.sleep(0.002)
        self.seconds_to_first_answer = time.perf_counter() - started

    def memory(self) -> int:
        """Bytes that the whole process tree holds: each one's own, and its share of what they have in common."""
        assert self._process is not None
        top = psutil.Process(self._process.pid)
        return sum(process.memory_full_info().pss for process in [top, *top.children(recursive=True)])

    def stop(self) -> None:
        """End it and all that it started."""
        if self._process is not None:
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            for process in family:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    pass
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self._question(), timeout=5).read()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def _question(self) -> urllib.request.Request:
        """An AWS call that any state can answer."""
        return urllib.request.Request(
            self.url,
            data=b"{}",
            headers={
                "X-Amz-Target": "AmazonSQS.ListQueues",
                "Content-Type": "application/x-amz-json-1.0",
                "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, "
                "SignedHeaders=host, Signature=0",
            },
        )


class Cloudlet(Target):
    """This checkout, with its default durability."""

    name = "cloudlet"
    flags: tuple[str, ...] = ()

    def command(self) -> list[str]:
        data = str(self.folder / "data")
        return [sys.executable, "-m", "cloudlet", "serve", "--port", str(self.port), "--data-dir", data, *self.flags]


class CloudletFullSync(Cloudlet):
    """This checkout, surviving a power cut."""

    name = "cloudlet --sync full"
    flags = ("--sync", "full")


class Ministack(Target):
    """ministack from PyPI, in an environment of its own; in memory."""

    name = "ministack"

    def __init__(self, python: str) -> None:
        super().__init__()
        self._command = str(Path(python).parent / "ministack")

    def command(self) -> list[str]:
        return [self._command]

    def environment(self) -> dict[str, str]:
        return {**_ENVIRONMENT, "GATEWAY_PORT": str(self.port), "LAMBDA_EXECUTOR": "local"}


class Dynalite(Target):
    """dynalite from npm; in memory, DynamoDB only."""

    name = "dynalite"

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._command = str(Path(folder) / "node_modules" / ".bin" / "dynalite")

    def command(self) -> list[str]:
        return [self._command, "--port", str(self.port), "--createTableMs", "0"]


class Bare(Target):
    """The same HTTP server answering without doing anything: what no service can exceed."""

    name = "bare server"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bench.bare", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**_ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parent.parent)}
