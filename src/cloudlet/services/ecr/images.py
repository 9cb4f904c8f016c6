"""Operations on images, over the same store as the registry."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import enhanced, manifests, records
from cloudlet.services.ecr.base import Base, invalid, place_of, scope_of
from cloudlet.services.ecr.records import Image, Repository, Scan
from cloudlet.services.ecr.repositories import read_token, token_of
from cloudlet.store import Tx

_PAGE = 100
_EVERY = 2**31
_REFERRERS = 50


class Images(Base):
    """Operations on images."""

    async def PutImage(self, call: Call, input: Input) -> Output:
        repository, tag = self.named(call, input), input.get("imageTag", "")
        try:
            manifest = manifests.read(input["imageManifest"].encode(), input.get("imageManifestMediaType", ""))
        except manifests.Malformed as error:
            raise AwsError("InvalidParameterException", str(error)) from None
        if tag and manifests.TAG.fullmatch(tag) is None:
            raise invalid("imageTag", f"must satisfy regex '{manifests.TAG.pattern}'")
        if input.get("imageDigest", manifest.digest) != manifest.digest:
            raise AwsError(
                "ImageDigestDoesNotMatchException",
                "The specified image digest does not match the digest that Amazon ECR calculated for the image.",
            )
        scope, now = scope_of(call, input), self.clock.now()
        if not await self.db.write(lambda tx: self.push(tx, scope, repository, manifest, tag, now)):
            tagged = f" and tag '{tag}'" if tag else ""
            raise AwsError(
                "ImageAlreadyExistsException",
                f"Image with digest '{manifest.digest}'{tagged} already exists in the repository with name "
                f"'{repository.name}' in registry with id '{scope.split('/')[0]}'",
            )
        self.pushed(scope, repository, manifest, tag)
        id = {"imageDigest": manifest.digest} | ({"imageTag": tag} if tag else {})
        image = _shown(scope, repository, id, manifest.data, manifest.media_type)
        return {"image": image}

    async def BatchGetImage(self, call: Call, input: Input) -> Output:
        for id in input["imageIds"]:
            if reference := id.get("imageDigest") or id.get("imageTag"):
                await self.fill(scope_of(call, input), input["repositoryName"], reference)
        repository, scope = self.named(call, input), scope_of(call, input)
        accepted = input.get("acceptedMediaTypes")

        def look(tx: Tx) -> tuple[list[Output], list[Output], list[Image]]:
            found: list[Output] = []
            failures: list[Output] = []
            pulled: list[Image] = []
            for id in input["imageIds"]:
                image = find(tx, repository, id, failures)
                if image is None or (accepted and image.media_type not in accepted):
                    continue
                if image.status == "ARCHIVED":
                    failures.append(_failure(id, "ImageInaccessible", "The image is archived"))
                    continue
                data = records.manifest(tx, repository.number, image.digest) or b""
                full = {"imageDigest": image.digest, **id}
                found.append(_shown(scope, repository, full, data, image.media_type))
                pulled.append(image)
            return found, failures, pulled

        images, failures, pulled = await self.db.scan(look)
        if call.request is not None:  # a service that asks pulls the image afterwards
            for image in pulled:
                self.pulled(scope, repository, image)
        return {"images": images, "failures": failures}

    async def ListImages(self, call: Call, input: Input) -> Output:
        def ids(tx: Tx, repository: Repository, image: Image) -> list[Output]:
            tags = records.tags_of(tx, repository.number, image.digest)
            return [{"imageDigest": image.digest, "imageTag": tag} for tag in tags] or [{"imageDigest": image.digest}]

        return await self._page(call, input, "imageIds", ids)

    async def DescribeImages(self, call: Call, input: Input) -> Output:
        repository, scope = self.named(call, input), scope_of(call, input)

        def described(tx: Tx, repository: Repository, image: Image) -> list[Output]:
            shown = _described(scope, repository, image, records.tags_of(tx, repository.number, image.digest))
            if (scan := records.scan(tx, repository.number, image.digest)) is not None:
                shown["imageScanStatus"] = status_of(scan)
                if scan.status == "COMPLETE":
                    shown["imageScanFindingsSummary"] = summary_of(scan)
            return [shown]

        if "imageIds" not in input:
            return await self._page(call, input, "imageDetails", described)

        def look(tx: Tx) -> list[Output]:
            found: dict[str, Output] = {}
            for id in input["imageIds"]:
                image = find(tx, repository, id, [])
                if image is None:
                    raise no_such_image(scope, repository, id)
                found[image.digest] = described(tx, repository, image)[0]
            return list(found.values())

        return {"imageDetails": await self.db.scan(look)}

    async def _page(self, call: Call, input: Input, member: str, shown: Any) -> Output:
        """One page of what images are shown as, in the order of their digests."""
        repository, limit = self.named(call, input), input.get("maxResults", _PAGE)
        wish = input.get("filter", {})
        status, state = wish.get("tagStatus", "ANY"), wish.get("imageStatus", "ACTIVE")
        after = read_token(input["nextToken"]) if "nextToken" in input else ""

        def look(tx: Tx) -> Output:
            entries: list[Output] = []
            last = after
            for image in records.images(tx, repository.number, after, _EVERY):
                if len(entries) >= limit:
                    return {member: entries, "nextToken": token_of(last)}
                last = image.digest
                if state not in ("ANY", image.status):
                    continue
                if status != "ANY":
                    is_tagged = bool(records.tags_of(tx, repository.number, image.digest))
                    if is_tagged != (status == "TAGGED"):
                        continue
                entries += shown(tx, repository, image)
            return {member: entries}

        return await self.db.scan(look)

    async def BatchDeleteImage(self, call: Call, input: Input) -> Output:
        repository, scope = self.named(call, input), scope_of(call, input)

        def delete(tx: Tx) -> tuple[list[Output], list[Output], list[str]]:
            deleted: list[Output] = []
            failures: list[Output] = []
            layers: list[str] = []
            for id in input["imageIds"]:
                image = find(tx, repository, id, failures)
                if image is None:
                    continue
                tags = records.tags_of(tx, repository.number, image.digest)
                # An image goes with its last tag.
                if "imageTag" in id and tags != [id["imageTag"]]:
                    self.untag(tx, scope, repository, id["imageTag"])
                    deleted.append({"imageDigest": image.digest, "imageTag": id["imageTag"]})
                    continue
                if lists := records.parents(tx, repository.number, image.digest):
                    reason = f"Requested image referenced by manifest list: [{', '.join(lists)}]"
                    failures.append(_failure(id, "ImageReferencedByManifestList", reason))
                    continue
                layers += self.drop(tx, scope, repository, image.digest)
                deleted += [{"imageDigest": image.digest, "imageTag": tag} for tag in tags] or [
                    {"imageDigest": image.digest}
                ]
            return deleted, failures, layers

        deleted, failures, layers = await self.db.write(delete, long=True)
        await self.delete_files(repository, layers)
        self.dropped()
        for id in deleted:
            self.announce_image(scope, repository, "DELETE", id["imageDigest"], id.get("imageTag", ""))
        return {"imageIds": deleted, "failures": failures}

    async def UpdateImageStorageClass(self, call: Call, input: Input) -> Output:
        """Archive an image, or take it back, which is done at once here."""
        repository, scope, id = self.named(call, input), scope_of(call, input), input["imageId"]
        target, now = input["targetStorageClass"], self.clock.now()

        def update(tx: Tx) -> Image:
            image = find(tx, repository, id, [])
            if image is None:
                raise no_such_image(scope, repository, id)
            lists = [
                records.image(tx, repository.number, one)
                for one in records.parents(tx, repository.number, image.digest)
            ]
            if target == "ARCHIVE" and any(one is not None and one.status == "ACTIVE" for one in lists):
                raise AwsError(
                    "ImageStorageClassUpdateNotSupportedException",
                    "The requested image storage class update is not supported.",
                )
            if target == "ARCHIVE" and image.status == "ACTIVE":
                records.archive(tx, repository.number, image.digest, now)
            elif target == "STANDARD" and image.status == "ARCHIVED":
                records.activate(tx, repository.number, image.digest, now)
            return image

        image = await self.db.write(update)
        status = "ARCHIVED" if target == "ARCHIVE" else "ACTIVE"
        return place_of(call, input) | {"imageId": {"imageDigest": image.digest, **id}, "imageStatus": status}

    async def ListImageReferrers(self, call: Call, input: Input) -> Output:
        repository, subject = self.named(call, input), input["subjectId"]["imageDigest"]
        wish, limit = input.get("filter", {}), input.get("maxResults", _REFERRERS)
        state, types = wish.get("artifactStatus", "ACTIVE"), wish.get("artifactTypes")
        after = read_token(input["nextToken"]) if "nextToken" in input else ""
        attached = await self.db.scan(lambda tx: records.attached(tx, repository.number, subject))
        found = [
            {**referrer(image, data), "artifactStatus": image.status}
            for image, data in attached
            if image.digest > after and state in ("ANY", image.status) and (not types or image.artifact_type in types)
        ]
        output: Output = {"referrers": found[:limit]}
        return output | ({"nextToken": token_of(found[limit - 1]["digest"])} if len(found) > limit else {})


def find(tx: Tx, repository: Repository, id: Input, failures: list[Output]) -> Image | None:
    """The image of an identifier, or a failure more."""
    digest, tag = id.get("imageDigest"), id.get("imageTag")
    if digest is None and tag is None:
        failures.append(
            _failure(id, "MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")
        )
        return None
    if digest is not None and manifests.DIGEST.fullmatch(digest) is None:
        reason = "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"
        failures.append(_failure(id, "InvalidImageDigest", reason))
        return None
    by_tag = records.tagged(tx, repository.number, tag) if tag is not None else None
    if digest is not None and tag is not None and by_tag != digest:
        reason = f"Tag '{tag}' does not match digest '{digest}'" if by_tag else "Requested image not found"
        failures.append(_failure(id, "ImageTagDoesNotMatchDigest" if by_tag else "ImageNotFound", reason))
        return None
    wanted = digest or by_tag
    image = records.image(tx, repository.number, wanted) if wanted is not None else None
    if image is None:
        failures.append(_failure(id, "ImageNotFound", "Requested image not found"))
    return image


def referrer(image: Image, manifest: bytes) -> Output:
    """A descriptor of what is attached to an image."""
    described: Output = {"mediaType": image.media_type, "digest": image.digest, "size": len(manifest)}
    if image.artifact_type:
        described["artifactType"] = image.artifact_type
    if annotations := msgspec.json.decode(manifest).get("annotations"):
        described["annotations"] = annotations
    return described


def _failure(id: Input, code: str, reason: str) -> Output:
    return {"imageId": id, "failureCode": code, "failureReason": reason}


def _shown(scope: str, repository: Repository, id: Input, manifest: bytes, media_type: str) -> Output:
    return {
        "registryId": scope.split("/")[0],
        "repositoryName": repository.name,
        "imageId": id,
        "imageManifest": manifest.decode(),
        "imageManifestMediaType": media_type,
    }


def _described(scope: str, repository: Repository, image: Image, tags: list[str]) -> Output:
    shown: Output = {
        "registryId": scope.split("/")[0],
        "repositoryName": repository.name,
        "imageDigest": image.digest,
        "imageSizeInBytes": image.size,
        "imagePushedAt": image.pushed,
        "imageManifestMediaType": image.media_type,
        "imageStatus": image.status,
    }
    if tags:
        shown["imageTags"] = tags
    if image.artifact_type:
        shown["artifactMediaType"] = image.artifact_type
    if image.subject:
        shown["subjectManifestDigest"] = image.subject
    for member, moment in (
        ("lastRecordedPullTime", image.pulled),
        ("lastArchivedAt", image.archived),
        ("lastActivatedAt", image.activated),
    ):
        if moment:
            shown[member] = moment
    return shown


def no_such_image(scope: str, repository: Repository, id: Input) -> AwsError:
    """There is no image of that identifier."""
    digest, tag = (f"'{id[key]}'" if key in id else "'null'" for key in ("imageDigest", "imageTag"))
    return AwsError(
        "ImageNotFoundException",
        f"The image with imageId {{imageDigest:{digest}, imageTag:{tag}}} does not exist within the repository with "
        f"name '{repository.name}' in the registry with id '{scope.split('/')[0]}'",
    )


def status_of(scan: Scan) -> Output:
    """An image's ``imageScanStatus``."""
    return {"status": scan.status} | ({"description": scan.description} if scan.description else {})


def summary_of(scan: Scan) -> Output:
    """An image's ``imageScanFindingsSummary``."""
    severities = [one["severity"] for one in msgspec.json.decode(scan.findings)]
    counts = Counter(map(enhanced.severity, severities) if scan.enhanced else severities)
    return {"imageScanCompletedAt": scan.completed, "findingSeverityCounts": dict(counts)}
