"""Where images come from without an engine: a registry (OCI distribution API), or an OCI layout in a folder."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, Any, Protocol

from cloudlet.engines.containers import platforms, references
from cloudlet.engines.containers.api import ImageMissing

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join((*_INDEXES, *_MANIFESTS))
_SECONDS = 60.0
_SECONDS_OF_LOOKUP = 5.0  # of a machine without a network no task waits for longer


class Source(Protocol):
    """One image, somewhere."""

    def manifest(self) -> tuple[dict[str, Any], str]:
        """The manifest for this machine, and the digest of what the reference names. Raises ImageMissing."""
        ...

    def blob(self, digest: str) -> IO[bytes]:
        """A layer or configuration. Raises ImageMissing."""
        ...


class Layout:
    """An OCI layout: the first image that its index has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def manifest(self) -> tuple[dict[str, Any], str]:
        digest = json.loads((self._folder / "index.json").read_text())["manifests"][0]["digest"]
        return json.loads(self.blob(digest).read()), digest

    def blob(self, digest: str) -> IO[bytes]:
        try:
            return (self._folder / "blobs" / digest.replace(":", "/")).open("rb")
        except OSError as error:
            raise ImageMissing(f"The image has no {digest}: {error.strerror}") from None


class Remote:
    """An image in a registry. Registries on this machine are spoken to in HTTP. Blocks; call off the event loop."""

    def __init__(self, reference: str, credentials: tuple[str, str] | None) -> None:
        self._reference = reference
        host, name, self._wanted = references.parse(reference)
        self._base = f"{'http' if references.is_local(host) else 'https'}://{host}/v2/"
        self._name = name
        self._authorization = ""
        if credentials is not None:
            self._authorization = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()

    def digest(self) -> str:
        """What the reference names now; nothing is pulled. Raises ImageMissing."""
        path = f"{self._name}/manifests/{self._wanted}"
        with self._get(path, _ACCEPT, method="HEAD", timeout=_SECONDS_OF_LOOKUP) as answer:
            return str(answer.headers.get("docker-content-digest", ""))

    def ping(self) -> None:
        """See that the registry lets us in. Raises ImageMissing."""
        self._get("", "*/*", timeout=_SECONDS_OF_LOOKUP).close()

    def raw(self) -> tuple[bytes, str]:
        """The manifest of what the reference names as it is, and its media type. Raises ImageMissing."""
        with self._get(f"{self._name}/manifests/{self._wanted}", _ACCEPT) as answer:
            return answer.read(), answer.headers.get_content_type()

    def manifest(self) -> tuple[dict[str, Any], str]:
        with self._get(f"{self._name}/manifests/{self._wanted}", _ACCEPT) as answer:
            data = answer.read()
            document = self._document(data)
            digest = answer.headers.get("docker-content-digest") or f"sha256:{hashlib.sha256(data).hexdigest()}"
        if "manifests" not in document:
            return document, digest
        chosen = platforms.choose(document["manifests"])
        if chosen is None:
            raise ImageMissing(platforms.NONE)
        with self._get(f"{self._name}/manifests/{chosen['digest']}", _ACCEPT) as answer:
            return self._document(answer.read()), digest

    def _document(self, data: bytes) -> dict[str, Any]:
        """A manifest; whatever listens at the address need not be a registry."""
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if not isinstance(document, dict) or not {"manifests", "config"} & document.keys():
            raise ImageMissing(f"{self._reference}: what answers there is no registry.")
        return document

    def blob(self, digest: str) -> IO[bytes]:
        return io.BufferedReader(self._get(f"{self._name}/blobs/{digest}", "*/*"))

    def _get(
        self, path: str, accept: str, again: bool = True, method: str = "GET", timeout: float = _SECONDS
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(f"{self._base}{path}", headers={"accept": accept}, method=method)
        if self._authorization:
            # Not sent on to where a registry redirects to.
            request.add_unredirected_header("authorization", self._authorization)
        # Registries on this machine are reached directly, whatever proxy there is for others.
        direct = [urllib.request.ProxyHandler({})] if self._base.startswith("http:") else []
        try:
            return urllib.request.build_opener(*direct).open(request, timeout=timeout)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("www-authenticate", "")
            error.close()
            if error.code == 401 and again and challenge.lower().startswith("bearer "):
                self._authorization = self._token(challenge)
                return self._get(path, accept, False, method, timeout)
            raise ImageMissing(f"{self._reference}: {error.code} {error.reason}") from None
        except OSError as error:
            raise ImageMissing(f"{self._reference}: {getattr(error, 'reason', error)}") from None

    def _token(self, challenge: str) -> str:
        """What a registry that asks for a token is given: one that its own issuer has made."""
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
        request = urllib.request.Request(f"{fields.get('realm', '')}?{query}")
        if self._authorization:
            request.add_header("authorization", self._authorization)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                document = json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise ImageMissing(f"{self._reference}: {error}") from None
        return f"Bearer {document.get('token') or document.get('access_token')}"
