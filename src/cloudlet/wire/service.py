"""A service's model, ready for requests: which operation is meant, and its codecs, each compiled on its first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.wire import model as models
from cloudlet.wire.amendments import AMENDMENTS, NONE, Amendment
from cloudlet.wire.model import Model, OperationSpec, streams_body
from cloudlet.wire.routes import Routes
from cloudlet.wire.validate import Checks


class Codec(Protocol):
    """One protocol of one service."""

    def decoder(self, operation: OperationSpec) -> Callable[[Request], dict[str, Any]]: ...
    def encoder(self, operation: OperationSpec) -> Callable[[dict[str, Any], str], Response]: ...
    def error(self, operation: OperationSpec | None, error: AwsError, request_id: str) -> Response: ...


class Operation:
    """One operation in one protocol.

    ``decode`` takes a request whose body was read, unless ``streams_input``, and gives the validated input; it raises
    AwsError. ``encode`` takes the output and the request's id.
    """

    __slots__ = ("_codec", "_spec", "decode", "encode", "name", "protocol", "streams_input")

    def __init__(self, model: Model, spec: OperationSpec, codec: Codec, protocol: str) -> None:
        self.name = spec.name
        self.protocol = protocol
        self.streams_input = streams_body(model, spec.input)
        self.decode: Callable[[Request], dict[str, Any]] = codec.decoder(spec)
        self.encode: Callable[[dict[str, Any], str], Response] = codec.encoder(spec)
        self._codec = codec
        self._spec = spec

    def encode_error(self, error: AwsError, request_id: str) -> Response:
        """An error in the protocol's own shape."""
        return self._codec.error(self._spec, error, request_id)


class _Operations(Mapping[str, Operation]):
    """A protocol's operations, compiled when they are asked for."""

    def __init__(self, service: ServiceModel, protocol: str) -> None:
        self._service = service
        self._protocol = protocol
        self._made: dict[str, Operation] = {}

    def __getitem__(self, name: str) -> Operation:
        known = self._made.get(name)
        if known is None:
            spec = self._service.model.operations[name]
            codec = self._service.codec(self._protocol)
            known = self._made[name] = Operation(self._service.model, spec, codec, self._protocol)
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self._service.model.operations)

    def __len__(self) -> int:
        return len(self._service.model.operations)

    def __contains__(self, name: object) -> bool:
        return name in self._service.model.operations


class ServiceModel:
    """One service as its model describes it. ``model`` may be the dictionary of a model file."""

    def __init__(self, name: str, model: Model | dict[str, Any]) -> None:
        self.name = name
        self.model = models.parse(model) if isinstance(model, dict) else model
        self._amendment: Amendment = AMENDMENTS.get(name, NONE)
        self._amendment.amend(self.model)
        metadata = self.model.metadata
        self.protocol = metadata.protocol
        self.protocols = tuple(metadata.protocols or (metadata.protocol,))
        if metadata.aws_query_compatible is not None and "query" not in self.protocols:
            self.protocols += ("query",)
        self._codecs: dict[str, Codec] = {}
        self._by_protocol: dict[str, _Operations] = {}

    @property
    def operations(self) -> Mapping[str, Operation]:
        """Every operation, in the service's first protocol."""
        return self._speaking(self.protocol)

    @cached_property
    def routes(self) -> Routes:
        """The REST paths."""
        return Routes(self.model)

    def operation(self, request: Request) -> Operation:
        """The operation that a request asks for. Query and ec2 need the body. Raises AwsError."""
        protocol = self.protocol_of(request)
        operations = self._speaking(protocol)
        if protocol in ("rest-json", "rest-xml"):
            found = self.routes.find(request)
            if found is None:
                raise self._no_route(request)
            return operations[found[0]]
        name = _rpc_name(request, protocol)
        if name is None:
            raise _unnamed(protocol)
        if name not in operations:
            raise _unknown(protocol, name)
        return operations[name]

    def protocol_of(self, request: Request) -> str:
        """Which of the service's protocols a request speaks."""
        protocols = self.protocols
        if len(protocols) == 1:
            return protocols[0]
        headers = request.headers
        if "smithy-protocol" in headers and "smithy-rpc-v2-cbor" in protocols:
            return "smithy-rpc-v2-cbor"
        if "x-amz-target" in headers and "json" in protocols:
            return "json"
        if "query" in protocols and "/operation/" not in request.path:
            return "query"
        return self.protocol if self.protocol in protocols else protocols[0]

    def conform(self, operation: str, input: dict[str, Any]) -> dict[str, Any]:
        """Loosely typed input, as templates have it, as an operation's. Raises AwsError."""
        from cloudlet.wire.conform import conform

        if operation not in self.model.operations:
            raise _unknown(self.protocol, operation)
        return conform(self.model, self._checks, self.model.operations[operation], input)

    def knows_error(self, code: str) -> bool:
        """Whether the model has an error of this name or code."""
        return code in self.model.errors

    def present(self, operation: str, output: dict[str, Any]) -> dict[str, Any]:
        """An operation's output as JSON with capital names. Raises AwsError."""
        from cloudlet.wire.present import present

        if operation not in self.model.operations:
            raise _unknown(self.protocol, operation)
        return present(self.model, self.model.operations[operation], output)

    @cached_property
    def _checks(self) -> Checks:
        return Checks(self.model, required_only=not self._amendment.constraints)

    def encode_error(self, request: Request, error: AwsError, request_id: str) -> Response:
        """An error for a request whose operation is not known."""
        protocol = self.protocol_of(request)
        response = self.codec(protocol).error(None, error, request_id)
        if request.method == "HEAD":
            response.body = b""
        return response

    def codec(self, protocol: str) -> Codec:
        """The codec of one of the service's protocols."""
        if (known := self._codecs.get(protocol)) is None:
            known = self._codecs[protocol] = _codec(self.model, self._amendment, protocol)
        return known

    def _speaking(self, protocol: str) -> _Operations:
        if (known := self._by_protocol.get(protocol)) is None:
            known = self._by_protocol[protocol] = _Operations(self, protocol)
        return known

    def _no_route(self, request: Request) -> AwsError:
        if self._amendment.bare_errors:
            return AwsError(
                "MethodNotAllowed", "The specified method is not allowed against this resource.", status=405
            )
        return AwsError(
            "UnknownOperationException", f"There is no operation {request.method} {request.path}.", status=404
        )


def _codec(model: Model, amendment: Amendment, protocol: str) -> Codec:
    # Each protocol is imported when a service first speaks it.
    match protocol:
        case "json":
            from cloudlet.wire.rpc import JsonProtocol

            return JsonProtocol(model, amendment, model.metadata.json_version or "1.0")
        case "smithy-rpc-v2-cbor":
            from cloudlet.wire.rpc import CborProtocol

            return CborProtocol(model, amendment)
        case "query" | "ec2":
            from cloudlet.wire.query import QueryProtocol

            return QueryProtocol(model, amendment, ec2=protocol == "ec2")
        case "rest-json":
            from cloudlet.wire.rest_json import RestJsonProtocol

            return RestJsonProtocol(model, amendment)
        case "rest-xml":
            from cloudlet.wire.rest_xml import RestXmlProtocol

            return RestXmlProtocol(model, amendment)
    raise ValueError(f"{protocol!r} is not a protocol of AWS")


def _rpc_name(request: Request, protocol: str) -> str | None:
    if protocol == "json":
        target = request.headers.get("x-amz-target")
        return target.rpartition(".")[2] if target else None
    if protocol == "smithy-rpc-v2-cbor":
        head, separator, name = request.path.rpartition("/operation/")
        return name if separator and "/service/" in head else None
    from cloudlet.wire.query import action_of

    return action_of(request)


def _unnamed(protocol: str) -> AwsError:
    if protocol in ("query", "ec2"):
        return AwsError("MissingAction", "The request must contain the parameter Action.", status=400)
    return AwsError("UnknownOperationException", "The request names no operation.", status=400)


def _unknown(protocol: str, name: str) -> AwsError:
    if protocol in ("query", "ec2"):
        return AwsError("InvalidAction", f"Could not find operation {name}.", status=400)
    return AwsError("UnknownOperationException", f"The operation {name} is not known.", status=400)
