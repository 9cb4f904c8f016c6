"""Findings of the scan type ENHANCED, as Amazon Inspector shows them. Pure.

What Inspector alone knows (exploits, its own adjustments of scores) is left out.
"""

from __future__ import annotations

import hashlib
from typing import Any

from cloudlet.services.api import Output
from cloudlet.services.ecr.records import Image, Scan


def shown(found: dict[str, Any], scope: str, name: str, image: Image, tags: list[str], scan: Scan) -> Output:
    """One finding in an image of a repository."""
    account, region = scope.split("/")
    mark = hashlib.sha256(f"{image.digest} {found['name']} {found['package']} {found['version']}".encode()).hexdigest()
    package = {"name": found["package"], "version": found["version"]}
    for member, key in (("packageManager", "manager"), ("filePath", "path"), ("fixedInVersion", "fixed")):
        if key in found:
            package[member] = found[key].upper() if key == "manager" else found[key]
    details: Output = {
        "vulnerabilityId": found["name"],
        "vulnerablePackages": [package],
        "referenceUrls": found.get("links", []),
        "relatedVulnerabilities": [],
        "vendorSeverity": found["severity"],
        "cvss": [
            {
                "baseScore": float(one["score"]),
                "scoringVector": one["vector"],
                "source": one["source"],
                "version": one["version"],
            }
            for one in found.get("cvss", ())
        ],
    }
    for member, key in (("source", "source"), ("sourceUrl", "source_url")):
        if key in found:
            details[member] = found[key]
    made: Output = {
        "awsAccountId": account,
        "description": found.get("description", ""),
        "findingArn": f"arn:aws:inspector2:{region}:{account}:finding/{mark[:32]}",
        "fixAvailable": "YES" if "fixed" in found else "NO",
        "lastObservedAt": scan.completed,
        "updatedAt": scan.completed,
        "packageVulnerabilityDetails": details,
        "remediation": {"recommendation": {"text": "None Provided"}},
        "resources": [_resource(account, region, name, image, tags)],
        "severity": severity(found["severity"]),
        "status": "ACTIVE",
        "title": f"{found['name']} - {found['package']}",
        "type": "PACKAGE_VULNERABILITY",
    }
    if scores := [one["baseScore"] for one in details["cvss"]]:
        made["score"] = max(scores)
    return made


def severity(text: str) -> str:
    """A severity as Inspector calls it."""
    return "UNTRIAGED" if text == "UNDEFINED" else text


def _resource(account: str, region: str, name: str, image: Image, tags: list[str]) -> Output:
    container = {
        "imageHash": image.digest,
        "imageTags": tags,
        "pushedAt": image.pushed,
        "registry": account,
        "repositoryName": name,
    }
    return {
        "id": f"arn:aws:ecr:{region}:{account}:repository/{name}/{image.digest}",
        "type": "AWS_ECR_CONTAINER_IMAGE",
        "tags": {},
        "details": {"awsEcrContainerImage": container},
    }
