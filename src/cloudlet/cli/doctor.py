"""``cloudlet doctor``: what this machine has, what each thing is for, and how to install what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict, dataclass

import click

from cloudlet.cli.remote import show


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    name: str
    state: str  # "ok", "missing" or "unusable"
    needed_for: str
    detail: str
    install: str = ""


# program -> (what needs it, Debian's package)
_PROGRAMS = {
    "bwrap": ("isolation of functions (without it they run as plain processes)", "bubblewrap"),
    "node": ("functions with a nodejs runtime", "nodejs"),
    "npm": ("dependency installs of nodejs functions", "npm"),
    "java": ("functions with a java runtime", "openjdk-17-jdk-headless"),
    "javac": ("functions with a java runtime", "openjdk-17-jdk-headless"),
}


def findings() -> list[Finding]:
    """Everything that Cloudlet can use on this machine. Nothing of it is needed for its main job."""
    found = [
        Finding("python", "ok", "Cloudlet itself", f"{platform.python_version()} at {sys.executable}"),
        Finding("sqlite", "ok", "the store", sqlite3.sqlite_version),
    ]
    for program, (needed_for, package) in _PROGRAMS.items():
        path = shutil.which(program)
        install = "" if path else f"apt-get install {package}"
        found.append(Finding(program, "ok" if path else "missing", needed_for, path or "not on PATH", install))
    if (bwrap := shutil.which("bwrap")) and (why := _why_not(bwrap)):
        index = next(i for i, finding in enumerate(found) if finding.name == "bwrap")
        found[index] = Finding("bwrap", "unusable", _PROGRAMS["bwrap"][0], why)
    found.append(_containers())
    found.append(_security_groups())
    if not hasattr(os, "pidfd_open"):
        found.append(Finding("pidfd", "missing", "noticing the end of child processes", "needs Linux 5.3 or newer"))
    return found


def _containers() -> Finding:
    """What tasks run on; each engine says itself what it lacks."""
    from cloudlet.engines.containers import find
    from cloudlet.engines.containers.api import EngineMissing

    try:
        return Finding("containers", "ok", "tasks of ECS", find.describe())
    except EngineMissing as missing:
        return Finding("containers", "missing", "tasks of ECS", str(missing))


def _security_groups() -> Finding:
    """Whether tasks are guarded by their security groups."""
    from cloudlet.engines.containers.network import HostReach

    needed_for = "security groups of tasks that are in force (without it every task reaches every other)"
    if HostReach.possible():
        return Finding("security groups", "ok", needed_for, "nftables in the network namespace of each task")
    install = "" if shutil.which("nft") else "apt-get install nftables"
    return Finding("security groups", "missing", needed_for, "needs root, with ip, nft and nsenter", install)


def _why_not(bwrap: str) -> str:
    """Why a sandbox cannot be made here, or nothing when it can."""
    tried = subprocess.run([bwrap, "--ro-bind", "/", "/", "--unshare-pid", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"exit status {tried.returncode}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(as_json: bool) -> None:
    """Check this machine for what Cloudlet can use."""
    found = findings()
    if as_json:
        show([asdict(finding) for finding in found])
        return
    for finding in found:
        mark = {"ok": "✓", "missing": "✗", "unusable": "!"}[finding.state]
        click.echo(f"{mark} {finding.name:<8} {finding.detail}")
        if finding.state != "ok":
            click.echo(
                f"           needed for {finding.needed_for}" + (f"; {finding.install}" if finding.install else "")
            )
