"""The registry: the OCI distribution API, version 2, as container engines speak it."""

from __future__ import annotations

import json
import re
from typing import NamedTuple
from urllib.parse import unquote

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services.api import Call
from cloudlet.services.ecr import manifests, records
from cloudlet.services.ecr.images import referrer
from cloudlet.services.ecr.records import Repository
from cloudlet.services.ecr.settings import Settings
from cloudlet.services.ecr.templates import Templates
from cloudlet.services.ecr.tokens import Bearer, Tokens
from cloudlet.store import Tx

_ON_PUSH = "CREATE_ON_PUSH"
_NAME = re.compile(r"(?=.{2,256}\Z)[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_LARGEST_MANIFEST = 4 * 1024 * 1024
_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>blobs/uploads|blobs|manifests|tags|referrers)/(?P<rest>[^/]*)\Z")
_OWN_NAME = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)/(.+)\Z")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d+)-(\d+)(?:/.*)?\Z")
_NUMBER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


_DOWNLOADS = "GetDownloadUrlForLayer"
# What may be done in the registry is what the API's operations may do. Other methods are refused in any case.
_OPERATIONS = {
    ("GET", "manifests"): "BatchGetImage",
    ("HEAD", "manifests"): "BatchGetImage",
    ("PUT", "manifests"): "PutImage",
    ("DELETE", "manifests"): "BatchDeleteImage",
    ("GET", "blobs"): _DOWNLOADS,
    ("HEAD", "blobs"): "BatchCheckLayerAvailability",
    ("POST", "blobs/uploads"): "InitiateLayerUpload",
    ("PATCH", "blobs/uploads"): "UploadLayerPart",
    ("PUT", "blobs/uploads"): "CompleteLayerUpload",
    ("GET", "tags"): "ListImages",
    ("GET", "referrers"): "BatchGetImage",
}


class _Place(NamedTuple):
    """What a request's path means."""

    scope: str
    repository: Repository
    base: str  # the path up to the repository's name, as the client has it
    rest: str
    bearer: Bearer


class _Refusal(Exception):
    """An error in the registry's own shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


# AWS's errors that a push meets -> the registry's.
_CODES = {
    "AccessDeniedException": (403, "DENIED"),
    "RepositoryNotFoundException": (404, "NAME_UNKNOWN"),
    "LayersNotFoundException": (400, "MANIFEST_BLOB_UNKNOWN"),
    "ReferencedImagesNotFoundException": (400, "MANIFEST_BLOB_UNKNOWN"),
    "ImageTagAlreadyExistsException": (400, "TAG_INVALID"),
}


class Registry(Templates, Settings, Tokens):
    """The front door: ``<account>.dkr.ecr.<region>.localhost/v2/...``."""

    async def serve(self, request: Request, label: str) -> Response:
        """Answer a request for the registry of ``account/region``, or of whoever has asked where that is empty."""
        try:
            response = await self._answer(request, label)
        except _Refusal as refusal:
            response = _error(refusal.status, refusal.code, str(refusal))
        except AwsError as error:
            if error.code not in _CODES:
                raise
            response = _error(*_CODES[error.code], error.message)
        response.headers.setdefault("docker-distribution-api-version", "registry/2.0")
        return response

    async def _answer(self, request: Request, label: str) -> Response:
        if "origin" in request.headers:
            raise _Refusal(403, "DENIED", "A browser's page of another origin may not use the registry.")
        bearer = await self.bearer(request)
        if bearer is None and self.cloud.config.auth == "enforce":
            response = _error(401, "UNAUTHORIZED", "Not Authorized")
            response.headers["www-authenticate"] = f'Basic realm="{self.cloud.endpoint}/",service="ecr.amazonaws.com"'
            return response
        bearer = bearer or Bearer("000000000000", self.cloud.config.region)
        own = label or f"{bearer.account}/{bearer.region}"
        path = unquote(request.path)
        if path in ("/v2", "/v2/"):
            return Response(200, {"content-type": "application/json"}, b"{}")
        if path == "/v2/_catalog":
            await self._authorize(own, bearer, "DescribeRepositories")
            names = [record.name for record in self.repositories.list(own)]
            return _page(request, "repositories", names, path)
        found = _ROUTE.match(path)
        if found is None:
            raise _Refusal(404, "UNSUPPORTED", "The registry does not know this path.")
        name = found["name"]
        if (named := _OWN_NAME.match(name)) is not None:
            own, name = f"{named[1]}/{named[2]}", named[3]
        await self._authorize(own, bearer, _operation(request.method, found["kind"]), name, found["rest"])
        await self._see_repository(request, own, name, found["kind"], found["rest"])
        place = _Place(own, self.repository(own, name), f"/v2/{found['name']}", found["rest"], bearer)
        match found["kind"]:
            case "blobs/uploads":
                return await self._upload(request, place)
            case "blobs":
                return await self._blob(request, place)
            case "manifests":
                return await self._manifest(request, place)
            case "tags" if place.rest == "list":
                return await self._tags(request, place)
            case "referrers":
                return await self._referrers(request, place)
        raise _Refusal(404, "UNSUPPORTED", "The registry does not know this path.")

    async def _see_repository(self, request: Request, scope: str, name: str, kind: str, reference: str) -> None:
        """Have what a pull brings from upstream, or make the repository that a push makes."""
        if kind == "manifests" and request.method in ("GET", "HEAD"):
            await self.fill(scope, name, reference)
            return
        is_push = request.method in ("POST", "PUT") and self.repositories.get(scope, name) is None
        if is_push and _NAME.fullmatch(name) and self.template_for(scope, name, _ON_PUSH) is not None:
            await self.make_repository(scope, name, _ON_PUSH)

    async def _authorize(self, scope: str, bearer: Bearer, operation: str, name: str = "", rest: str = "") -> None:
        """See that whoever the token was given to may do here what the API's operation does. Raises AccessDenied."""
        if self.cloud.config.auth != "enforce":
            return
        account, region = scope.split("/")
        if bearer.access_key and not bearer.digest:
            call = Call(bearer.caller, region, bearer.principal, bearer.access_key, service="ecr", operation=operation)
            named = {"repositoryName": name} if name else {}
            await self.cloud.authorize(call, {"registryId": account, **named})
        elif bearer.account != account or (bearer.digest and (operation, bearer.digest) != (_DOWNLOADS, rest)):
            raise _Refusal(403, "DENIED", f"User is not authorized for the registry with id '{account}'")

    async def _blob(self, request: Request, place: _Place) -> Response:
        digest = _digest(place.rest)
        size = await self.layer_size(place.repository, digest)
        if size is None:
            raise _Refusal(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {
            "content-type": "application/octet-stream",
            "docker-content-digest": digest,
            "accept-ranges": "bytes",
            "etag": f'"{digest}"',
        }
        if request.method == "HEAD":
            return Response(200, {**headers, "content-length": str(size)})
        if request.method != "GET":
            raise _not_allowed()
        start, end, status = 0, size - 1, 200
        if (found := _RANGE.match(request.headers.get("range", ""))) is not None:
            start, end, status = int(found[1]), min(int(found[2] or end), end), 206
            if start > end:
                return Response(416, {"content-range": f"bytes */{size}"})
            headers["content-range"] = f"bytes {start}-{end}/{size}"
        headers["content-length"] = str(end - start + 1)
        return Response(status, headers, self.blobs.read(place.repository.number, digest, start, end - start + 1))

    async def _upload(self, request: Request, place: _Place) -> Response:
        """Uploads: POST opens one, PATCH adds to it, PUT ends it with the digest."""
        number, params = place.repository.number, dict(request.params())
        if request.method == "POST" and not place.rest:
            if "mount" in params and await self._mounted(place, params):
                return _created(place, params["mount"])
            id = self.blobs.begin(number)
            if "digest" not in params:
                return _going_on(place, id, 0)
        else:
            id = place.rest
        received = self.blobs.received(number, id) if _NUMBER.match(id) else None
        if received is None:
            raise _Refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        match request.method:
            case "GET":
                response = _going_on(place, id, received)
                response.status = 204
                return response
            case "DELETE":
                self.blobs.cancel(number, id)
                return Response(204)
            case "PATCH":
                _check_range(request, received)
                return _going_on(place, id, await self.blobs.append(number, id, request.stream()))
            case "PUT" | "POST":
                digest = _digest(params.get("digest", ""))
                _check_range(request, received)
                await self.blobs.append(number, id, request.stream())
                if not await self.complete(place.repository, id, digest):
                    self.blobs.cancel(number, id)
                    raise _Refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
                return _created(place, digest)
        raise _not_allowed()

    async def _mounted(self, place: _Place, params: dict[str, str]) -> bool:
        """Take a layer over from another repository; where that cannot be, the client uploads it."""
        if self.setting(place.scope, "BLOB_MOUNTING") == "DISABLED":
            return False
        name = params.get("from", "")
        if (named := _OWN_NAME.match(name)) is not None:
            name = named[3]
        try:
            await self._authorize(place.scope, place.bearer, _DOWNLOADS, name)
        except AwsError:
            return False
        source = self.repositories.get(place.scope, name)
        return source is not None and await self.mount(source.value, place.repository, _digest(params["mount"]))

    async def _manifest(self, request: Request, place: _Place) -> Response:
        repository, reference = place.repository, place.rest
        if request.method == "PUT":
            return await self._put_manifest(request, place)
        by_digest = ":" in reference

        def look(tx: Tx) -> tuple[records.Image, bytes] | None:
            digest = reference if by_digest else records.tagged(tx, repository.number, reference)
            image = records.image(tx, repository.number, digest) if digest is not None else None
            return None if image is None else (image, records.manifest(tx, repository.number, image.digest) or b"")

        found = await self.db.read(look)
        if found is None:
            raise _Refusal(404, "MANIFEST_UNKNOWN", "Requested image not found")
        image, data = found
        if request.method == "DELETE":
            return await self._delete_manifest(place, image.digest)
        if request.method not in ("GET", "HEAD"):
            raise _not_allowed()
        if image.status == "ARCHIVED":
            raise _Refusal(404, "MANIFEST_UNKNOWN", "Requested image is archived")
        if request.method == "GET":
            self.pulled(place.scope, repository, image)
        headers = {
            "content-type": image.media_type,
            "docker-content-digest": image.digest,
            "etag": f'"{image.digest}"',
            "content-length": str(len(data)),
        }
        return Response(200, headers, data if request.method == "GET" else b"")

    async def _put_manifest(self, request: Request, place: _Place) -> Response:
        repository, reference = place.repository, place.rest
        data = await request.read(_LARGEST_MANIFEST)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        try:
            manifest = manifests.read(data, "" if media_type == "application/json" else media_type)
        except manifests.Malformed as error:
            raise _Refusal(400, "MANIFEST_INVALID", str(error)) from None
        tag = "" if ":" in reference else reference
        if not tag and reference != manifest.digest:
            raise _Refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        if tag and manifests.TAG.fullmatch(tag) is None:
            raise _Refusal(400, "TAG_INVALID", "manifest tag did not match URI")
        now = self.clock.now()
        if await self.db.write(lambda tx: self.push(tx, place.scope, repository, manifest, tag, now)):
            self.pushed(place.scope, repository, manifest, tag)
        headers = {
            "location": f"{place.base}/manifests/{manifest.digest}",
            "docker-content-digest": manifest.digest,
        }
        if manifest.subject:
            headers["oci-subject"] = manifest.subject
        return Response(201, headers)

    async def _delete_manifest(self, place: _Place, digest: str) -> Response:
        """By a tag only the tag goes; by its digest the image."""
        repository, tag = place.repository, "" if ":" in place.rest else place.rest

        def delete(tx: Tx) -> list[str]:
            if tag:
                self.untag(tx, place.scope, repository, tag)
                return []
            if records.parents(tx, repository.number, digest):
                raise _Refusal(403, "DENIED", "Requested image referenced by manifest list")
            return self.drop(tx, place.scope, repository, digest)

        await self.delete_files(repository, await self.db.write(delete))
        self.dropped()
        self.announce_image(place.scope, repository, "DELETE", digest, tag)
        return Response(202)

    async def _tags(self, request: Request, place: _Place) -> Response:
        tags = await self.db.scan(lambda tx: records.tags(tx, place.repository.number, "", 2**31))
        response = _page(request, "tags", tags, f"{place.base}/tags/list")
        assert isinstance(response.body, bytes)
        document = {"name": place.base.removeprefix("/v2/"), **json.loads(response.body)}
        response.body = json.dumps(document).encode()
        return response

    async def _referrers(self, request: Request, place: _Place) -> Response:
        subject = _digest(place.rest)
        found = await self.db.scan(lambda tx: records.attached(tx, place.repository.number, subject))
        kind = dict(request.params()).get("artifactType", "")
        entries = [
            referrer(image, data)
            for image, data in found
            if image.status == "ACTIVE" and kind in ("", image.artifact_type)
        ]
        document = {"schemaVersion": 2, "mediaType": manifests.INDEX, "manifests": entries}
        headers = {"content-type": manifests.INDEX} | ({"oci-filters-applied": "artifactType"} if kind else {})
        return Response(200, headers, json.dumps(document).encode())


def _operation(method: str, kind: str) -> str:
    return _OPERATIONS.get((method, kind), "UploadLayerPart")


def _digest(text: str) -> str:
    if manifests.DIGEST.fullmatch(text) is None:
        raise _Refusal(400, "DIGEST_INVALID", "provided digest is not a SHA-256 digest")
    return text


def _check_range(request: Request, received: int) -> None:
    """A chunk says where it belongs: right behind what has arrived."""
    found = _CONTENT_RANGE.match(request.headers.get("content-range", ""))
    if found is not None and int(found[1]) != received:
        raise _Refusal(416, "BLOB_UPLOAD_INVALID", f"the upload has {received} bytes")


def _going_on(place: _Place, id: str, received: int) -> Response:
    headers = {
        "location": f"{place.base}/blobs/uploads/{id}",
        "docker-upload-uuid": id,
        "range": f"0-{max(0, received - 1)}",
    }
    return Response(202, headers)


def _created(place: _Place, digest: str) -> Response:
    return Response(201, {"location": f"{place.base}/blobs/{digest}", "docker-content-digest": digest})


def _page(request: Request, member: str, names: list[str], path: str) -> Response:
    """One page of names, and where the next one is."""
    params = dict(request.params())
    names = [name for name in names if name > params.get("last", "")]
    headers = {"content-type": "application/json"}
    limit = int(params["n"]) if params.get("n", "").isdigit() else len(names)
    if limit < len(names):
        last = f"&last={names[limit - 1]}" if limit else ""
        headers["link"] = f'<{path}?n={limit}{last}>; rel="next"'
    return Response(200, headers, json.dumps({member: names[:limit]}).encode())


def _not_allowed() -> _Refusal:
    return _Refusal(405, "UNSUPPORTED", "The operation is unsupported.")


def _error(status: int, code: str, message: str) -> Response:
    document = {"errors": [{"code": code, "message": message}]}
    return Response(status, {"content-type": "application/json"}, json.dumps(document).encode())
