"""AWS's protocols: bytes <-> typed operations, compiled from botocore's models. Knows no service by name."""

from __future__ import annotations

from collections.abc import Iterable

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.wire.hosts import to_path_style
from cloudlet.wire.identify import Identifier
from cloudlet.wire.model import Library, Metadata, Model, UnknownService
from cloudlet.wire.service import Operation, ServiceModel

__all__ = ["Operation", "ServiceModel", "UnknownService", "Wire", "to_path_style"]


class Wire:
    """Every protocol of every service; made once."""

    def __init__(self, known: Iterable[str]) -> None:
        self._library = Library()
        self._models: dict[str, ServiceModel] = {}
        self._nameless: dict[str, ServiceModel] = {}
        self._identifier = Identifier(self._library, known, self.model)

    def identify(self, request: Request) -> str | None:
        """The service that a request is for; None when it can't be told. An unsigned form must have been read."""
        return self._identifier.identify(request)

    def model(self, service: str) -> ServiceModel:
        """A service's model, loaded on its first use. Raises UnknownService."""
        if (known := self._models.get(service)) is None:
            known = self._models[service] = ServiceModel(service, self._library.load(service))
        return known

    def to_path_style(self, request: Request) -> Request:
        """A request for ``bucket.s3...`` as the path-style request that it means; any other request as it is."""
        return to_path_style(request)

    def encode_error(self, request: Request, service: str | None, error: AwsError, request_id: str) -> Response:
        """An error for a request whose operation, and perhaps whose service, is not known."""
        if service is not None:
            try:
                return self.model(service).encode_error(request, error, request_id)
            except UnknownService:
                pass
        return self._any(_guess(request)).encode_error(request, error, request_id)

    def _any(self, protocol: str) -> ServiceModel:
        """A service without operations that speaks a protocol."""
        if (known := self._nameless.get(protocol)) is None:
            metadata = Metadata(protocol.partition(":")[0], json_version=protocol.partition(":")[2] or "1.0")
            known = self._nameless[protocol] = ServiceModel("", Model(metadata))
        return known


def _guess(request: Request) -> str:
    """The protocol that a client of this request will understand."""
    headers = request.headers
    content_type = headers.get("content-type", "")
    if "smithy-protocol" in headers:
        return "smithy-rpc-v2-cbor"
    if "x-amz-target" in headers or content_type.startswith("application/x-amz-json"):
        return "json:1.1" if content_type.endswith("1.1") else "json:1.0"
    if content_type.startswith("application/x-www-form-urlencoded") or "Action=" in request.query:
        return "query"
    if content_type.startswith("application/json"):
        return "rest-json"
    return "rest-xml"
