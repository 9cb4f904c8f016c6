"""Where images come from without an engine: a registry (OCI distribution API), or an OCI layout in a folder."""

from __future__ import annotations

import base64
import http.client
import io
import json
import platform
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, Any, Protocol

from cloudlet.engines.containers.api import ImageMissing

_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_SECONDS = 60.0


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
        host, name, self._wanted = parse(reference)
        plain = host.partition(":")[0]
        local = plain == "localhost" or plain.endswith(".localhost") or plain.startswith("127.")
        self._base = f"{'http' if local else 'https'}://{host}/v2/{name}"
        self._authorization = ""
        if credentials is not None:
            self._authorization = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()

    def manifest(self) -> tuple[dict[str, Any], str]:
        accept = ", ".join((*_INDEXES, *_MANIFESTS))
        with self._get(f"manifests/{self._wanted}", accept) as answer:
            document = json.loads(answer.read())
            digest = answer.headers.get("docker-content-digest", "")
        if "manifests" in document:
            for one in document["manifests"]:
                wanted = one.get("platform", {})
                if (wanted.get("os"), wanted.get("architecture")) == ("linux", _ARCHITECTURE):
                    with self._get(f"manifests/{one['digest']}", accept) as answer:
                        return json.loads(answer.read()), digest
            raise ImageMissing(f"{self._reference} has no image for linux/{_ARCHITECTURE}.")
        return document, digest

    def blob(self, digest: str) -> IO[bytes]:
        return io.BufferedReader(self._get(f"blobs/{digest}", "*/*"))

    def _get(self, path: str, accept: str, again: bool = True) -> http.client.HTTPResponse:
        request = urllib.request.Request(f"{self._base}/{path}", headers={"accept": accept})
        if self._authorization:
            # Not sent on to where a registry redirects to.
            request.add_unredirected_header("authorization", self._authorization)
        # Registries on this machine are reached directly, whatever proxy there is for others.
        direct = [urllib.request.ProxyHandler({})] if self._base.startswith("http:") else []
        try:
            return urllib.request.build_opener(*direct).open(request, timeout=_SECONDS)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("www-authenticate", "")
            error.close()
            if error.code == 401 and again and challenge.lower().startswith("bearer "):
                self._authorization = self._token(challenge)
                return self._get(path, accept, again=False)
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


def parse(reference: str) -> tuple[str, str, str]:
    """A reference's host, its name there, and its tag or digest; Docker's own registry is meant where none is named."""
    name, _, digest = reference.partition("@")
    name, tag = (name, "latest") if ":" not in name.rpartition("/")[2] else name.rsplit(":", 1)
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "registry-1.docker.io", name if slash else f"library/{name}"
    return ("registry-1.docker.io" if host == "docker.io" else host), rest, digest or tag
