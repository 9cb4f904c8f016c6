"""Scanning: what a scanner of this machine finds in an image, when somebody asks for it or when it is pushed.

Scans are ordered in a table, and made one after the other; what a kill has interrupted is scanned again. Without a
scanner every scan fails, and says so.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import enhanced, records
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
_ENHANCED, _CONTINUOUS = "ENHANCED", "CONTINUOUS_SCAN"
_WATCHED = {"status": "ACTIVE", "description": "Continuous scan is selected for image."}
_EVERY = 2**31


class Scanning(Base):
    """Operations on scans and on their settings, and the scanning."""

    _scans: asyncio.Task[None] | None = None
    _ordered = False  # whether a scan may have been ordered since the table was read
    _rescan: Timer | None = None  # while anything is scanned continuously

    async def start(self) -> None:
        await super().start()
        if await self.db.read(records.next_scan) is not None:
            self._wake()
        if any(self._continuous()):
            self.cloud.spawn(self._scan_again(), "ecr scans once more")

    async def stop(self) -> None:
        if self._rescan is not None:
            self._rescan.cancel()
        await super().stop()

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
            found.append(
                {
                    "repositoryArn": api.arn("ecr", call, f"repository/{name}"),
                    "repositoryName": name,
                    "scanOnPush": record.value.scan_on_push,
                    "scanFrequency": self._frequency(call.scope, record.value),
                    "appliedScanFilters": self._filters(call.scope, name),
                }
            )
        return {"scanningConfigurations": found, "failures": failures}

    async def GetRegistryScanningConfiguration(self, call: Call, input: Input) -> Output:
        shown = {"scanType": self._scan_type(call.scope), "rules": self._scan_rules(call.scope)}
        return {"registryId": call.account, "scanningConfiguration": shown}

    async def PutRegistryScanningConfiguration(self, call: Call, input: Input) -> Output:
        kind, rules = input.get("scanType", "BASIC"), input.get("rules", [])
        if kind == "BASIC" and any(rule["scanFrequency"] == _CONTINUOUS for rule in rules):
            raise invalid("rules", "CONTINUOUS_SCAN is not supported with the scan type BASIC")
        await self.edit_registry(call.scope, scanning=rules, scan_type=kind)
        self._plan_rescan()
        return {"registryScanningConfiguration": {"scanType": kind, "rules": rules}}

    async def StartImageScan(self, call: Call, input: Input) -> Output:
        image, repository = await self._image(call, input)
        if any(part in image.media_type for part in _LISTS):
            raise AwsError("UnsupportedImageTypeException", f"The image type {image.media_type} cannot be scanned.")
        if image.status == "ARCHIVED":
            raise AwsError("ImageArchivedException", "The specified image is archived and cannot be scanned.")
        if self._scan_type(scope_of(call, input)) == _ENHANCED:
            raise AwsError("ValidationException", "This feature is disabled")
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
        scope = scope_of(call, input)
        is_watched = bool(scan.enhanced) and self._frequency(scope, repository) == _CONTINUOUS
        status = _WATCHED if is_watched and scan.status == "COMPLETE" else status_of(scan)
        output = self._head(call, input, image) | {"imageScanStatus": status}
        if scan.status != "COMPLETE":
            return output
        first, limit = (
            int(read_token(input["nextToken"])) if "nextToken" in input else 0,
            input.get("maxResults", _PAGE),
        )
        every = msgspec.json.decode(scan.findings)
        if len(every) > first + limit:
            output["nextToken"] = token_of(str(first + limit))
        page = every[first : first + limit]
        if not scan.enhanced:
            return output | {"imageScanFindings": {**summary_of(scan), "findings": [_shown(one) for one in page]}}
        tags = await self.db.read(lambda tx: records.tags_of(tx, repository.number, image.digest))
        findings = [enhanced.shown(one, scope, repository.name, image, tags, scan) for one in page]
        return output | {"imageScanFindings": {**summary_of(scan), "enhancedFindings": findings}}

    # The scanning

    def push(self, tx: Tx, scope: str, repository: Repository, manifest: Manifest, tag: str, now: float) -> bool:
        is_new = records.image(tx, repository.number, manifest.digest) is None
        pushed = super().push(tx, scope, repository, manifest, tag, now)
        wanted = self._frequency(scope, repository) != "MANUAL"
        if pushed and is_new and wanted and not manifest.images:
            is_enhanced = self._scan_type(scope) == _ENHANCED
            records.put_scan(tx, repository.number, Scan(manifest.digest, now, enhanced=int(is_enhanced)))
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
            counts: Output = summary_of(done)["findingSeverityCounts"]
            detail = {
                "scan-status": done.status,
                "repository-name": record.name,
                "finding-severity-counts": counts,
                "image-digest": done.digest,
                "image-tags": await self.db.read(lambda tx: records.tags_of(tx, number, done.digest)),
            }
            if not done.enhanced:
                self.announce(record.scope, "ECR Image Scan", detail, record.name)
            elif done.status == "COMPLETE":  # it is Inspector that tells of it
                account, region = record.scope.split("/")
                detail |= {
                    "scan-status": "INITIAL_SCAN_COMPLETE",
                    "repository-name": f"arn:aws:ecr:{region}:{account}:repository/{record.name}",
                    "finding-severity-counts": {**counts, "TOTAL": sum(counts.values())},
                }
                self.announce(record.scope, "Inspector2 Scan", detail, record.name, "inspector2")

    async def _scan(self, number: int, begun: Scan) -> Scan:
        from cloudlet.engines.scanners import CannotScan, scan

        layout = self.cloud.data_dir / "ecr" / "scanned"
        try:
            manifest = await self.db.read(lambda tx: records.manifest(tx, number, begun.digest)) or b""
            await asyncio.to_thread(self._lay_out, layout, number, manifest, begun.digest)
            every = msgspec.json.encode(await scan(layout, bool(begun.enhanced)))
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

    # Continuous scans: everything is scanned again a day later, as what is known of packages changes

    def _plan_rescan(self) -> None:
        if self._rescan is None and any(self._continuous()):
            self._rescan = self.clock.call_later(
                _DAY, lambda: self.cloud.spawn(self._scan_again(), "ecr scans once more")
            )

    async def _scan_again(self) -> None:
        self._rescan = None
        now = self.clock.now()

        continuous = list(self._continuous())

        def order(tx: Tx) -> None:
            for repository in continuous:
                for image in records.images(tx, repository.number, "", _EVERY):
                    last = records.scan(tx, repository.number, image.digest)
                    if last is not None and last.enhanced and image.status == "ACTIVE" and last.asked <= now - _DAY:
                        again = last._replace(asked=now, status="IN_PROGRESS")
                        records.put_scan(tx, repository.number, again)

        await self.db.write(order, long=True)
        self._plan_rescan()
        self._wake()

    def _continuous(self) -> Iterator[Repository]:
        """The repositories that are scanned continuously."""
        for record in self.repositories.all():
            if self._frequency(record.scope, record.value) == _CONTINUOUS:
                yield record.value

    # Parts

    def _scan_type(self, scope: str) -> str:
        record = self.registries.get(scope, "default")
        return record.value.scan_type if record is not None else "BASIC"

    def _frequency(self, scope: str, repository: Repository) -> str:
        """How often a repository's images are scanned; with ENHANCED the registry's rules alone say so."""
        found = {rule["scanFrequency"] for rule in self._scan_rules(scope) if _means(rule, repository.name)}
        if _CONTINUOUS in found:
            return _CONTINUOUS
        is_own = repository.scan_on_push and self._scan_type(scope) == "BASIC"
        return "SCAN_ON_PUSH" if is_own or "SCAN_ON_PUSH" in found else "MANUAL"

    def _scan_rules(self, scope: str) -> list[dict[str, Any]]:
        record = self.registries.get(scope, "default")
        return record.value.scanning if record is not None else []

    def _filters(self, scope: str, name: str) -> list[dict[str, Any]]:
        """The filters of the registry's rules that a repository is scanned for when something is pushed to it."""
        return [
            one
            for rule in self._scan_rules(scope)
            if rule["scanFrequency"] in ("SCAN_ON_PUSH", _CONTINUOUS)
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


def _means(rule: dict[str, Any], name: str) -> bool:
    return any(_fits(name, one["filter"]) for one in rule["repositoryFilters"])


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
