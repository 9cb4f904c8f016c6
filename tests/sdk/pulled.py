"""Images that tests have Podman pull."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from cloudlet.testing import LocalCloud


def forget(registry: str) -> None:
    """Remove what was pulled from a registry (``127.0.0.1:5000``) that is gone: nobody else has a use for it."""
    if shutil.which("podman"):
        listing = ["podman", "images", "--format", "{{.Repository}} {{.ID}}"]
        lines = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
        for id in {line.split()[1] for line in lines if line.startswith(f"{registry}/")}:
            subprocess.run(["podman", "rmi", "-f", id], capture_output=True)


@contextmanager
def cloud_with_engine(cloud: LocalCloud) -> Iterator[LocalCloud]:
    """Run a cloud, and forget what was pulled from its registry."""
    with cloud as running:
        yield running
        print(running.log)
        has_registry = (running.data_dir / "ecr").exists()
    if has_registry:
        forget(running.endpoint.partition("//")[2])
