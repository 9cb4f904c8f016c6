"""Which service a request is for, told from its headers, its path and its host; of the body only Action and Version."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from cloudlet.http import Request
from cloudlet.wire.model import Library, Metadata, UnknownService
from cloudlet.wire.query import form_of
from cloudlet.wire.service import ServiceModel

_SCOPE = re.compile(r"Credential=[^/,\s]+/\d*/[^/,\s]*/([^/,\s]+)/aws4_request")
_VERSIONED = re.compile(r"/(?:v?\d{8}|\d{4}-\d\d-\d\d)/")
# The one API that takes requests without a signature, at any path.
_OPEN = "s3"


class _Known(NamedTuple):
    """What a service is known by."""

    name: str
    metadata: Metadata


class _Index:
    """The names that a set of services goes by."""

    def __init__(self, library: Library, names: Iterable[str]) -> None:
        self.scopes: dict[str, list[_Known]] = {}
        self.targets: dict[str, list[_Known]] = {}
        self.hosts: dict[str, list[_Known]] = {}
        self.versions: dict[str, list[_Known]] = {}
        for name in names:
            try:
                known = _Known(name, library.metadata(name))
            except UnknownService:
                continue
            metadata = known.metadata
            self.scopes.setdefault(metadata.scope, []).append(known)
            self.hosts.setdefault(metadata.endpoint_prefix, []).append(known)
            self.versions.setdefault(metadata.api_version, []).append(known)
            if metadata.target_prefix:
                self.targets.setdefault(metadata.target_prefix, []).append(known)


class Identifier:
    """Tells a request's service; the services that Cloudlet has come first."""

    def __init__(self, library: Library, known: Iterable[str], model: Callable[[str], ServiceModel]) -> None:
        self._library = library
        self._names = sorted(known)
        self._model = model
        self._near: _Index | None = None
        self._far: _Index | None = None
        self._sole: dict[str, str] = {}

    @property
    def _own(self) -> _Index:
        if self._near is None:
            self._near = _Index(self._library, self._names)
        return self._near

    @property
    def _all(self) -> _Index:
        """Every service of AWS: only for those that Cloudlet has not."""
        if self._far is None:
            self._far = _Index(self._library, self._library.names())
        return self._far

    def _nearest_first(self) -> Iterator[_Index]:
        yield self._own
        yield self._all

    def identify(self, request: Request) -> str | None:
        """The service's name, or None when nothing tells it."""
        headers = request.headers
        if (target := headers.get("x-amz-target")) is not None:
            prefix = target.rpartition(".")[0]
            if (sole := self._sole.get(prefix)) is not None:
                return sole
            if (found := self._by_target(prefix)) is not None:
                return found
        if request.path.startswith("/service/") and "smithy-protocol" in headers:
            found = self._by_target(request.path.split("/", 3)[2])
            if found is not None:
                return found
        scope = scope_of(request)
        if scope is not None:
            return self._by_scope(scope, request)
        return self._by_host(request) or self._by_version(request) or self._unsigned(request)

    def _by_target(self, prefix: str) -> str | None:
        for index in self._nearest_first():
            found = index.targets.get(prefix)
            if found:
                if len(found) == 1:
                    self._sole[prefix] = found[0].name
                return found[0].name
        return None

    def _by_scope(self, scope: str, request: Request) -> str | None:
        found = self._own.scopes.get(scope)
        if not found:
            found = self._all.scopes.get(scope) or self._all.hosts.get(scope)
            if not found:
                return scope
        if len(found) == 1 and not (found[0].name == _OPEN and _VERSIONED.match(request.path)):
            return found[0].name
        name, literals = self._choose(found, request)
        if literals == 0 and _VERSIONED.match(request.path):
            # A path like /v20180820/... is a sibling's that Cloudlet has not, rather than a bucket's.
            return self._choose(self._all.scopes.get(scope, found), request)[0]
        return name

    def _choose(self, found: list[_Known], request: Request) -> tuple[str, int]:
        """Among services of one signing name: by the path of REST services, by the version of query services.

        The second value is how many segments of a path are literally the service's own.
        """
        form = _is_form(request)
        best, most = None, -1
        if not form and "x-amz-target" not in request.headers:
            for known in found:
                if _is_rest(known):
                    route = self._model(known.name).routes.find(request)
                    if route is not None and route[1] > most:
                        best, most = known.name, route[1]
        if best is not None:
            return best, most
        if form:
            querying = [known for known in found if _speaks(known, "query")]
            return self._version_of(querying, request) or (querying or found)[0].name, -1
        return found[0].name, -1

    def _by_host(self, request: Request) -> str | None:
        host = request.host
        if "." not in host or host[0].isdigit():
            return None
        if not host.endswith((".localhost", ".amazonaws.com", ".api.aws", ".localstack.cloud")):
            return None
        labels = host.split(".")
        for index in self._nearest_first():
            # From the right, since what is on the left may be a bucket's name.
            for start in range(len(labels) - 2, -1, -1):
                if labels[start] in index.hosts or ".".join(labels[start : start + 2]) in index.hosts:
                    longer = ".".join(labels[max(0, start - 1) : start + 1])
                    own = labels[start] if labels[start] in index.hosts else ".".join(labels[start : start + 2])
                    return self._choose(index.hosts.get(longer) or index.hosts[own], request)[0]
        return None

    def _by_version(self, request: Request) -> str | None:
        """An unsigned query, such as AssumeRoleWithWebIdentity."""
        if not _is_form(request) and "Action=" not in request.query:
            return None
        version = _parameter(request, "Version")
        for index in self._nearest_first():
            found = [known for known in index.versions.get(version or "", []) if _speaks(known, "query")]
            if found and (name := self._version_of(found, request)) is not None:
                return name
        return None

    def _version_of(self, found: list[_Known], request: Request) -> str | None:
        version, action = _parameter(request, "Version"), _parameter(request, "Action")
        matching = [known for known in found if known.metadata.api_version == version] or found
        if len(matching) == 1:
            return matching[0].name
        return next((known.name for known in matching if action in self._model(known.name).model.operations), None)

    def _unsigned(self, request: Request) -> str | None:
        if _is_form(request) or _OPEN not in self._names or "x-amz-target" in request.headers:
            return None
        return _OPEN


def scope_of(request: Request) -> str | None:
    """The service in the signature's scope, of a signed or a presigned request."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        if found := _SCOPE.search(authorization):
            return found.group(1)
        if authorization.startswith("AWS "):
            return _OPEN
    if "X-Amz-Credential=" in request.query:
        text = unquote(request.query.partition("X-Amz-Credential=")[2].partition("&")[0])
        parts = text.split("/")
        if len(parts) >= 5:
            return parts[-2]
    if "AWSAccessKeyId=" in request.query and "Signature=" in request.query:
        return _OPEN if "Action=" not in request.query else None
    return None


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")


def _is_rest(known: _Known) -> bool:
    return known.metadata.protocol in ("rest-json", "rest-xml")


def _speaks(known: _Known, protocol: str) -> bool:
    metadata = known.metadata
    return (
        protocol in (metadata.protocols or (metadata.protocol,))
        or metadata.protocol == "ec2"
        or metadata.aws_query_compatible is not None
    )


def _parameter(request: Request, name: str) -> str | None:
    return next((value for key, value in form_of(request) if key == name), None)
