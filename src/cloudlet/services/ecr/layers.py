"""Operations on layers: the API's own way to push and pull them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import manifests
from cloudlet.services.ecr.base import Base, invalid, scope_of
from cloudlet.services.ecr.records import Repository
from cloudlet.services.ecr.tokens import Tokens

_PART = 20 * 1024 * 1024
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Layers(Tokens, Base):
    """Operations on layers."""

    async def BatchCheckLayerAvailability(self, call: Call, input: Input) -> Output:
        repository = self.named(call, input)
        layers, failures = [], []
        for digest in input["layerDigests"]:
            if manifests.DIGEST.fullmatch(digest) is None:
                failures.append(
                    {
                        "layerDigest": digest,
                        "failureCode": "InvalidLayerDigest",
                        "failureReason": "Invalid request parameters: layer digest should satisfy the regex "
                        "'[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
                    }
                )
                continue
            size = await self.layer_size(repository, digest)
            if size is None:
                layers.append({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"})
            else:
                layers.append(
                    {
                        "layerDigest": digest,
                        "layerAvailability": "AVAILABLE",
                        "layerSize": size,
                        "mediaType": _LAYER,
                    }
                )
        return {"layers": layers, "failures": failures}

    async def InitiateLayerUpload(self, call: Call, input: Input) -> Output:
        return {"uploadId": self.blobs.begin(self.named(call, input).number), "partSize": _PART}

    async def UploadLayerPart(self, call: Call, input: Input) -> Output:
        repository, upload = self.named(call, input), input["uploadId"]
        received = self._received(call, input, repository)
        first, last, part = input["partFirstByte"], input["partLastByte"], input["layerPartBlob"]
        if first != received or last - first + 1 != len(part):
            raise AwsError(
                "InvalidLayerPartException",
                "The layer part size is not valid, or the first byte specified is not consecutive to the last byte of "
                "a previous layer part upload.",
                registryId=input.get("registryId", call.account),
                repositoryName=repository.name,
                uploadId=upload,
                lastValidByteReceived=received - 1,
            )
        size = await self.blobs.append(repository.number, upload, _once(part))
        return _place(call, input) | {"lastByteReceived": size - 1}

    async def CompleteLayerUpload(self, call: Call, input: Input) -> Output:
        repository, upload = self.named(call, input), input["uploadId"]
        received, (digest, *more) = self._received(call, input, repository), input["layerDigests"]
        if more or manifests.DIGEST.fullmatch(digest) is None:
            raise invalid("layerDigests", "must be one SHA-256 digest")
        if not received:
            raise AwsError("EmptyUploadException", "The specified layer upload does not contain any layer parts.")
        place = f"repository with name '{repository.name}' in registry with id '{_registry(call, input)}'"
        if await self.layer_size(repository, digest) is not None:
            self.blobs.cancel(repository.number, upload)
            raise AwsError("LayerAlreadyExistsException", f"Layer with digest '{digest}' already exists in the {place}")
        if not await self.complete(repository, upload, digest):
            raise AwsError(
                "InvalidLayerException",
                "The layer digest calculation performed by Amazon ECR upon receipt of the image layer does not match "
                "the digest specified.",
            )
        return _place(call, input) | {"layerDigest": digest}

    async def GetDownloadUrlForLayer(self, call: Call, input: Input) -> Output:
        repository, digest = self.named(call, input), input["layerDigest"]
        registry, region = scope_of(call, input).split("/")
        if await self.layer_size(repository, digest) is None:
            raise AwsError(
                "LayersNotFoundException",
                f"Layer with digest '{digest}' not found in the repository with name '{repository.name}' in the "
                f"registry with id '{registry}'",
            )
        path = f"/v2/{registry}.dkr.ecr.{region}/{repository.name}/blobs/{digest}"
        token = await self.download_token(registry, region, digest)
        return {"downloadUrl": f"{self.cloud.endpoint}{path}?token={token}", "layerDigest": digest}

    def _received(self, call: Call, input: Input, repository: Repository) -> int:
        """How many bytes of an upload have arrived. Raises UploadNotFoundException."""
        try:
            upload = str(uuid.UUID(input["uploadId"]))
        except ValueError:
            upload = ""
        received = self.blobs.received(repository.number, upload) if upload else None
        if received is None:
            raise AwsError(
                "UploadNotFoundException",
                f"The upload with id '{input['uploadId']}' does not exist in the repository with name "
                f"'{repository.name}' in the registry with id '{_registry(call, input)}'",
            )
        return received


async def _once(part: bytes) -> AsyncIterator[bytes]:
    yield part


def _registry(call: Call, input: Input) -> str:
    return str(input.get("registryId", call.account))


def _place(call: Call, input: Input) -> Output:
    return {
        "registryId": _registry(call, input),
        "repositoryName": input["repositoryName"],
        "uploadId": input["uploadId"],
    }
