"""Scanners of images: Trivy, where it is installed, finds the known vulnerabilities of an image's packages.

It needs its own database of vulnerabilities, which it downloads; ``TRIVY_*`` variables say where from.
https://trivy.dev/latest/docs/references/configuration/cli/trivy_image/
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec

_SECONDS = 1800.0
_SEVERITIES = {"UNKNOWN": "UNDEFINED"}


class CannotScan(Exception):
    """There are no findings; the message says why."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One vulnerability of one package; ``severity`` is one of ECR's."""

    name: str
    severity: str
    package: str
    version: str
    description: str = ""
    uri: str = ""
    vector: str = ""  # of CVSS 2
    score: str = ""
    # What only a look at everything says:
    manager: str = ""  # what has installed the package: alpine, npm, ...
    path: str = ""
    fixed: str = ""  # the version without it
    source: str = ""  # who says so
    source_url: str = ""
    links: list[str] = []
    cvss: list[dict[str, str]] = []  # each with a source, a version, a score and a vector


async def scan(layout: Path, everything: bool = False) -> list[Finding]:
    """What is wrong with the operating system's packages in an image, a folder in OCI's layout; with ``everything``,
    with those of programming languages too, and more is said of each. Raises CannotScan.
    """
    program = shutil.which("trivy")
    if program is None:
        raise CannotScan("There is no scanner of images here: the program trivy is not installed.")
    process = await asyncio.create_subprocess_exec(
        *(program, "image", "--quiet", "--format", "json", "--scanners", "vuln", "--input", str(layout)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, said = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError:
        raise CannotScan(f"trivy has not ended within {_SECONDS:.0f} seconds.") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise CannotScan(f"trivy has failed: {lines[-1] if lines else process.returncode}")
    return read_all(json.loads(printed)) if everything else read(json.loads(printed))


def read_all(report: dict[str, Any]) -> list[Finding]:
    """All findings of a report of Trivy's. Raises CannotScan where it knows nothing that is in the image."""
    results = report.get("Results") or ()
    if "OS" not in (report.get("Metadata") or {}) and not results:
        raise CannotScan("UnsupportedImageError: The operating system and/or package manager are not supported.")
    return [_finding_in_full(found, result) for result in results for found in result.get("Vulnerabilities") or ()]


def read(report: dict[str, Any]) -> list[Finding]:
    """The findings of a report of Trivy's. Raises CannotScan where it knows no operating system in the image."""
    if "OS" not in (report.get("Metadata") or {}):
        raise CannotScan("UnsupportedImageError: The operating system and/or package manager are not supported.")
    return [
        _finding(found)
        for result in report.get("Results") or ()
        if result.get("Class") == "os-pkgs"
        for found in result.get("Vulnerabilities") or ()
    ]


def _finding(found: dict[str, Any]) -> Finding:
    scores = (found.get("CVSS") or {}).get("nvd") or {}
    severity = found.get("Severity", "UNKNOWN")
    return Finding(
        found["VulnerabilityID"],
        _SEVERITIES.get(severity, severity),
        found["PkgName"],
        found.get("InstalledVersion", ""),
        found.get("Description", ""),
        found.get("PrimaryURL", ""),
        scores.get("V2Vector", ""),
        str(scores["V2Score"]) if "V2Score" in scores else "",
    )


def _finding_in_full(found: dict[str, Any], result: dict[str, Any]) -> Finding:
    scores = [
        {"source": who.upper(), "version": version, "score": str(said[score]), "vector": said.get(vector, "")}
        for who, said in (found.get("CVSS") or {}).items()
        for version, score, vector in (("2.0", "V2Score", "V2Vector"), ("3.1", "V3Score", "V3Vector"))
        if score in said
    ]
    return msgspec.structs.replace(
        _finding(found),
        manager=result.get("Type", ""),
        path=found.get("PkgPath", ""),
        fixed=found.get("FixedVersion", ""),
        source=found.get("SeveritySource", "").upper(),
        source_url=(found.get("DataSource") or {}).get("URL", ""),
        links=found.get("References") or [],
        cvss=scores,
    )
