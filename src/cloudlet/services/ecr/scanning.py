"""Scanning: what a scanner of this machine finds in an image, when somebody asks for it or when it is pushed.

Scans are ordered in a table, and made one after the other; what a kill has interrupted is scanned again. Without a
scanner every scan fails, and says so.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import records
from cloudlet.services.ecr.base import Base, invalid, place_of, scope_of
from cloudlet.services.ecr.images import find, no_such_image, status_of, summary_of
from cloudlet.services.ecr.manifests import Manifest
from cloudlet.services.ecr.records import Image, Repository, Scan
from cloudlet.services.ecr.repositories import read_token, token_of
from cloudlet.store import Tx

_DAY = 86_400.0
_PAGE = 100
_DONE = "The scan was completed successfully."
_LISTS = ("image.index", "manifest.list")


class Scanning(Base):
    """Operations on scans and on their settings, and the scanning."""

    _scans: asyncio.Task[None] | None = None
    _ordered = False  # whether a scan may have been ordered since the table was read

    async def start(self) -> None:
        await super().start()
        if await self.db.read(records.next_scan) is not None:
            self._wake()

    async def PutImageScanningConfiguration(self, call: Call, input: Input) -> Output:
        scan = input["imageScanningConfiguration"].get("scanOnPush", False)
        await self.edit(call, input, scan_on_push=scan)
        return place_of(call, input) | {"imageScanningConfiguration": {"scanOnPush": scan}}

    async def BatchGetRepositoryScanningConfiguration(self, call: Call, input: Input) -> Output:
        found, failures = [], []
        for name in input["repositoryNames"]:
            record = self.repositories.get(call.scope, name)
            if record is None:
                code = "REPOSITORY_NOT_FOUND"
                failures.append({"repositoryName": name, "failureCode": code, "failureReason": code})
                continue
            filters = self._filters(call.scope, name)
            scan = record.value.scan_on_push or bool(filters)
            found.append(
                {
                    "repositoryArn": api.arn("ecr", call, f"repository/{name}"),
                    "repositoryName": name,
                    "scanOnPush": record.value.scan_on_push,
                    "scanFrequency": "SCAN_ON_PUSH" if scan else "MANUAL",
                    "appliedScanFilters": filters,
                }
            )
        return {"scanningConfigurations": found, "failures": failures}

    async def GetRegistryScanningConfiguration(self, call: Call, input: Input) -> Output:
        shown = {"scanType": "BASIC", "rules": self._scan_rules(call.scope)}
        return {"registryId": call.account, "scanningConfiguration": shown}

    async def PutRegistryScanningConfiguration(self, call: Call, input: Input) -> Output:
        kind, rules = input.get("scanType", "BASIC"), input.get("rules", [])
        if kind != "BASIC":
            raise not_implemented(f"ECR PutRegistryScanningConfiguration with scanType {kind}")
        if any(rule["scanFrequency"] == "CONTINUOUS_SCAN" for rule in rules):
            raise invalid("rules", "CONTINUOUS_SCAN is not supported with the scan type BASIC")
        await self.edit_registry(call.scope, scanning=rules)
        return {"registryScanningConfiguration": {"scanType": kind, "rules": rules}}

    async def StartImageScan(self, call: Call, input: Input) -> Output:
        image, repository = await self._image(call, input)
        if any(part in image.media_type for part in _LISTS):
            raise AwsError("UnsupportedImageTypeException", f"The image type {image.media_type} cannot be scanned.")
        if image.status == "ARCHIVED":
            raise AwsError("ImageArchivedException", "The specified image is archived and cannot be scanned.")
        now = self.clock.now()

        def begin(tx: Tx) -> None:
            before = records.scan(tx, repository.number, image.digest)
            if before is not None and before.status != "FAILED" and before.asked > now - _DAY:
                raise AwsError(
                    "LimitExceededException", "The scan quota per image has been exceeded. Wait and try again."
                )
            records.put_scan(tx, repository.number, Scan(image.digest, now))

        await self.db.write(begin)
        self._wake()
        return self._head(call, input, image) | {"imageScanStatus": {"status": "IN_PROGRESS"}}

    async def DescribeImageScanFindings(self, call: Call, input: Input) -> Output:
        image, repository = await self._image(call, input)
        scan = await self.db.read(lambda tx: records.scan(tx, repository.number, image.digest))
        if scan is None:
            digest, tag = (input["imageId"].get(key, "null") for key in ("imageDigest", "imageTag"))
            raise AwsError(
                "ScanNotFoundException",
                f"Image scan does not exist for the image with '{{imageDigest:'{digest}', imageTag:'{tag}'}}' in the "
                f"repository with name '{input['repositoryName']}' in the registry with id "
                f"'{scope_of(call, input).split('/')[0]}'",
            )
        output = self._head(call, input, image) | {"imageScanStatus": status_of(scan)}
        if scan.status != "COMPLETE":
            return output
        first, limit = (
            int(read_token(input["nextToken"])) if "nextToken" in input else 0,
            input.get("maxResults", _PAGE),
        )
        every = msgspec.json.decode(scan.findings)
        if len(every) > first + limit:
            output["nextToken"] = token_of(str(first + limit))
        findings = [_shown(one) for one in every[first : first + limit]]
        return output | {"imageScanFindings": {**summary_of(scan), "findings": findings}}

    # The scanning

    def push(self, tx: Tx, scope: str, repository: Repository, manifest: Manifest, tag: str, now: float) -> bool:
        is_new = records.image(tx, repository.number, manifest.digest) is None
        pushed = super().push(tx, scope, repository, manifest, tag, now)
        wanted = repository.scan_on_push or bool(self._filters(scope, repository.name))
        if pushed and is_new and wanted and not manifest.images:
            records.put_scan(tx, repository.number, Scan(manifest.digest, now))
        return pushed

    def stored(self) -> None:
        super().stored()
        self._wake()

    def _wake(self) -> None:
        self._ordered = True
        if self._scans is None or self._scans.done():
            self._scans = self.cloud.spawn(self._scan_all(), "ecr scans")

    async def _scan_all(self) -> None:
        while self._ordered:
            self._ordered = False
            while (found := await self.db.read(records.next_scan)) is not None:
                number, begun = found
                done = await self._scan(number, begun)
                if await self.db.write(partial(records.end_scan, number=number, done=done)):
                    await self._announce_scan(number, done)

    async def _announce_scan(self, number: int, done: Scan) -> None:
        """Tell EventBridge of a scan that has ended."""
        found = [record for record in self.repositories.all() if record.value.number == number]
        for record in found:
            detail = {
                "scan-status": done.status,
                "repository-name": record.name,
                "finding-severity-counts": summary_of(done)["findingSeverityCounts"],
                "image-digest": done.digest,
                "image-tags": await self.db.read(lambda tx: records.tags_of(tx, number, done.digest)),
            }
            self.announce(record.scope, "ECR Image Scan", detail, record.name)

    async def _scan(self, number: int, begun: Scan) -> Scan:
        from cloudlet.engines.scanners import CannotScan, scan

        layout = self.cloud.data_dir / "ecr" / "scanned"
        try:
            manifest = await self.db.read(lambda tx: records.manifest(tx, number, begun.digest)) or b""
            await asyncio.to_thread(self._lay_out, layout, number, manifest, begun.digest)
            every = msgspec.json.encode(await scan(layout))
        except (CannotScan, OSError, ValueError) as error:
            return begun._replace(status="FAILED", description=str(error))
        finally:
            await asyncio.to_thread(shutil.rmtree, layout, True)
        return begun._replace(status="COMPLETE", description=_DONE, completed=self.clock.now(), findings=every)

    def _lay_out(self, layout: Path, number: int, manifest: bytes, digest: str) -> None:
        """Make a folder in OCI's layout of an image, whose layers are linked. Blocks."""
        document = json.loads(manifest)
        shutil.rmtree(layout, ignore_errors=True)
        (layout / "blobs" / "sha256").mkdir(parents=True)
        for part in (document["config"], *document["layers"]):
            if not part.get("urls"):
                self.blobs.give(number, part["digest"], layout / "blobs" / "sha256")
        (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(manifest)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        kind = document.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
        entry = {"mediaType": kind, "digest": digest, "size": len(manifest)}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))

    # Parts

    def _scan_rules(self, scope: str) -> list[dict[str, Any]]:
        record = self.registries.get(scope, "default")
        return record.value.scanning if record is not None else []

    def _filters(self, scope: str, name: str) -> list[dict[str, Any]]:
        """The filters of the registry's rules that a repository is scanned for when something is pushed to it."""
        return [
            one
            for rule in self._scan_rules(scope)
            if rule["scanFrequency"] == "SCAN_ON_PUSH"
            for one in rule["repositoryFilters"]
            if _fits(name, one["filter"])
        ]

    def _head(self, call: Call, input: Input, image: Image) -> Output:
        return place_of(call, input) | {"imageId": {"imageDigest": image.digest, **input["imageId"]}}

    async def _image(self, call: Call, input: Input) -> tuple[Image, Repository]:
        """Raises ImageNotFoundException."""
        repository, scope = self.named(call, input), scope_of(call, input)
        image = await self.db.read(lambda tx: find(tx, repository, input["imageId"], []))
        if image is None:
            raise no_such_image(scope, repository, input["imageId"])
        return image, repository


def _fits(name: str, pattern: str) -> bool:
    """Whether a filter means a repository: one without an asterisk is a part of its name."""
    return fnmatchcase(name, pattern) if "*" in pattern else pattern in name


def _shown(found: dict[str, str]) -> Output:
    attributes = {
        "package_version": found["version"],
        "package_name": found["package"],
        "CVSS2_VECTOR": found.get("vector", ""),
        "CVSS2_SCORE": found.get("score", ""),
    }
    shown: Output = {member: found[member] for member in ("name", "description", "uri", "severity") if member in found}
    return shown | {"attributes": [{"key": key, "value": value} for key, value in attributes.items() if value]}
