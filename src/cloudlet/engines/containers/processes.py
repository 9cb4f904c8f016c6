"""Containers as supervised processes, where there is no container engine."""

from __future__ import annotations

from pathlib import Path

from cloudlet.control.supervisor import Supervisor
from cloudlet.engines.containers.api import Engine, EngineMissing


def engine(supervisor: Supervisor, folder: Path) -> Engine:
    """The engine. Raises EngineMissing."""
    raise EngineMissing("There is no container engine here; install one with: apt-get install podman")
