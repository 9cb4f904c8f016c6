"""Scanning: there is no scanner of images here, so that no image has ever been scanned, and nothing says otherwise."""

from __future__ import annotations

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr.base import Base, place_of, scope_of
from cloudlet.services.ecr.images import find, no_such_image


class Scanning(Base):
    """Operations on scans and on their settings, which are only kept."""

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
            scan = record.value.scan_on_push
            found.append(
                {
                    "repositoryArn": api.arn("ecr", call, f"repository/{name}"),
                    "repositoryName": name,
                    "scanOnPush": scan,
                    "scanFrequency": "SCAN_ON_PUSH" if scan else "MANUAL",
                    "appliedScanFilters": [],
                }
            )
        return {"scanningConfigurations": found, "failures": failures}

    async def GetRegistryScanningConfiguration(self, call: Call, input: Input) -> Output:
        return {"registryId": call.account, "scanningConfiguration": {"scanType": "BASIC", "rules": []}}

    async def PutRegistryScanningConfiguration(self, call: Call, input: Input) -> Output:
        kind = input.get("scanType", "BASIC")
        if kind != "BASIC":
            raise not_implemented(f"ECR PutRegistryScanningConfiguration with scanType {kind}")
        if input.get("rules"):
            raise not_implemented("ECR PutRegistryScanningConfiguration with rules")
        return {"registryScanningConfiguration": {"scanType": kind, "rules": []}}

    async def StartImageScan(self, call: Call, input: Input) -> Output:
        await self._check_image(call, input)
        raise not_implemented("ECR StartImageScan: there is no scanner of images here")

    async def DescribeImageScanFindings(self, call: Call, input: Input) -> Output:
        await self._check_image(call, input)
        digest, tag = (input["imageId"].get(key, "null") for key in ("imageDigest", "imageTag"))
        raise AwsError(
            "ScanNotFoundException",
            f"Image scan does not exist for the image with '{{imageDigest:'{digest}', imageTag:'{tag}'}}' in the "
            f"repository with name '{input['repositoryName']}' in the registry with id "
            f"'{scope_of(call, input).split('/')[0]}'",
        )

    async def _check_image(self, call: Call, input: Input) -> None:
        """Raises ImageNotFoundException."""
        repository, scope = self.named(call, input), scope_of(call, input)
        if await self.db.read(lambda tx: find(tx, repository, input["imageId"], [])) is None:
            raise no_such_image(scope, repository, input["imageId"])
