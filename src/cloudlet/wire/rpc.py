"""The protocols that post one document to one path: json 1.0 and 1.1, and smithy-rpc-v2-cbor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.wire import cbor, events
from cloudlet.wire.amendments import Amendment
from cloudlet.wire.documents import Documents, convert, unreadable
from cloudlet.wire.encodings import inflated
from cloudlet.wire.faults import Fault, look_up, ref_of
from cloudlet.wire.model import Model, OperationSpec, Ref, Shape
from cloudlet.wire.validate import Checks, refusal

_SERIALIZATION = frozenset(("SerializationException", "UnknownOperationException"))


class _Rpc:
    _content_type: str
    _encode: Callable[[Any], bytes]

    def __init__(self, model: Model, amendment: Amendment, *, cbor: bool) -> None:
        self._model = model
        self._amendment = amendment
        self._documents = Documents(model, cbor=cbor, strict=amendment.constraints)
        self._checks = Checks(model, required_only=not amendment.constraints)
        self._compatible = model.metadata.aws_query_compatible is not None

    def _judge(self, operation: OperationSpec, plain: Any) -> dict[str, Any]:
        """Read a document that the types refused: either AWS would take it, or this says why not."""
        assert operation.input is not None
        input: dict[str, Any] = self._documents.read(operation.input, plain)
        check = self._checks.of(operation.input)
        if check is not None and (problems := check(input)):
            amended = self._amendment
            own: dict[str, Any] = {"code": amended.refusal, "words": amended.words}
            raise refusal(self._model, operation, problems, "json", names_missing=amended.names_missing, **own)
        return input

    def _event_stream(self, operation: OperationSpec) -> Callable[[dict[str, Any], str], Response] | None:
        """The encoder of an output that is a stream of events, or None."""
        shape = self._model.shapes[operation.output.shape] if operation.output is not None else None
        if shape is None:
            return None
        name = next((name for name, ref in shape.members.items() if self._model.shapes[ref.shape].eventstream), None)
        if name is None:
            return None
        write = events.writer(self._model, self._model.shapes[shape.members[name].shape], self._document)
        content_type, document = self._content_type, self._document(shape)
        start = {":message-type": "event", ":event-type": "initial-response", ":content-type": content_type}

        def encode(output: dict[str, Any], request_id: str) -> Response:
            rest = {key: value for key, value in output.items() if key != name}
            first = events.message(start, document(rest)[1])
            headers = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": request_id}
            return Response(200, headers, events.stream(output[name], write, first))

        return encode

    def _document(self, shape: Shape) -> Callable[[dict[str, Any]], tuple[str, bytes]]:
        change = self._documents.outward(Ref(shape.name))
        content_type, encode = self._content_type, self._encode
        return lambda value: (content_type, encode(value if change is None else change(value)))

    def _fault(self, error: AwsError) -> Fault:
        return look_up(self._model, error, self._amendment.codes, self._amendment.statuses)

    def _fault_headers(self, fault: Fault, request_id: str) -> dict[str, str]:
        headers = {"x-amzn-requestid": request_id}
        if self._compatible:
            headers["x-amzn-query-error"] = f"{fault.code};{'Sender' if fault.sender else 'Receiver'}"
        return headers

    def _fault_members(self, fault: Fault) -> dict[str, Any]:
        if (ref := ref_of(fault)) is None or (change := self._documents.outward(ref)) is None:
            return fault.members
        changed: dict[str, Any] = change(fault.members)
        return changed


class JsonProtocol(_Rpc):
    """``X-Amz-Target: Prefix.Operation`` and a JSON document."""

    def __init__(self, model: Model, amendment: Amendment, version: str) -> None:
        super().__init__(model, amendment, cbor=False)
        self._version = version
        self._content_type = f"application/x-amz-json-{version}"
        self._encode = msgspec.json.encode

    def decoder(self, operation: OperationSpec) -> Callable[[Request], dict[str, Any]]:
        """Compile an operation's input."""
        if operation.input is None:
            return lambda request: {}
        decode_body = msgspec.json.Decoder(self._documents.type_of(operation.input), dec_hook=convert).decode
        judge = self._judge

        def decode(request: Request) -> dict[str, Any]:
            if "content-encoding" in request.headers:
                request = inflated(request)
            body = request.body or b"{}"
            try:
                return decode_body(body)  # type: ignore[no-any-return]
            except msgspec.ValidationError:
                pass
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError):
                raise unreadable("") from None
            return judge(operation, plain_json(body))

        return decode

    def encoder(self, operation: OperationSpec) -> Callable[[dict[str, Any], str], Response]:
        """Compile an operation's output."""
        content_type = self._content_type
        if operation.output is None:

            def encode_nothing(output: dict[str, Any], request_id: str) -> Response:
                return Response(200, {"content-type": content_type, "x-amzn-requestid": request_id}, b"")

            return encode_nothing
        if (streaming := self._event_stream(operation)) is not None:
            return streaming
        change = self._documents.outward(operation.output)
        encode_body = msgspec.json.Encoder().encode

        def encode(output: dict[str, Any], request_id: str) -> Response:
            if change is not None:
                output = change(output)
            return Response(200, {"content-type": content_type, "x-amzn-requestid": request_id}, encode_body(output))

        return encode

    def error(self, operation: OperationSpec | None, error: AwsError, request_id: str) -> Response:
        """An error as a JSON document with its ``__type``."""
        fault = self._fault(error)
        name = self._amendment.kinds.get(fault.name, fault.name)
        kind = name if self._version == "1.1" else f"{self._space(name)}#{name}"
        headers = self._fault_headers(fault, request_id)
        headers["content-type"] = self._content_type
        body = msgspec.json.encode({"__type": kind, **self._fault_members(fault)})
        return Response(fault.status, headers, body)

    def _space(self, name: str) -> str:
        if name == "ValidationException" and name not in self._model.errors:
            return "com.amazon.coral.validate"
        if name in _SERIALIZATION:
            return "com.amazon.coral.service"
        metadata = self._model.metadata
        prefix, _, version = metadata.target_prefix.partition("_")
        service = metadata.endpoint_prefix.rpartition(".")[2] or prefix.lower()
        return f"com.amazonaws.{service}.v{version}" if version.isdigit() else f"com.amazonaws.{service}"


def plain_json(body: bytes) -> Any:
    """Any JSON. Raises AwsError SerializationException."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise unreadable("") from None


class CborProtocol(_Rpc):
    """``POST /service/Name/operation/Operation`` and a CBOR document."""

    def __init__(self, model: Model, amendment: Amendment) -> None:
        super().__init__(model, amendment, cbor=True)
        self._content_type = "application/cbor"
        self._encode = cbor.encode

    def decoder(self, operation: OperationSpec) -> Callable[[Request], dict[str, Any]]:
        """Compile an operation's input."""
        if operation.input is None:
            return lambda request: {}
        kind = self._documents.type_of(operation.input)

        def decode(request: Request) -> dict[str, Any]:
            if "content-encoding" in request.headers:
                request = inflated(request)
            plain = (cbor.decode(request.body) if request.body else None) or {}
            try:
                return msgspec.convert(plain, kind, dec_hook=convert)  # type: ignore[no-any-return]
            except (msgspec.ValidationError, RecursionError):
                return self._judge(operation, plain)

        return decode

    def encoder(self, operation: OperationSpec) -> Callable[[dict[str, Any], str], Response]:
        """Compile an operation's output."""
        if (streaming := self._event_stream(operation)) is not None:
            return streaming
        change = self._documents.outward(operation.output) if operation.output is not None else None

        def encode(output: dict[str, Any], request_id: str) -> Response:
            headers = {
                "content-type": "application/cbor",
                "smithy-protocol": "rpc-v2-cbor",
                "x-amzn-requestid": request_id,
            }
            return Response(200, headers, cbor.encode(output if change is None else change(output)))

        return encode

    def error(self, operation: OperationSpec | None, error: AwsError, request_id: str) -> Response:
        """An error as a CBOR document with its ``__type``."""
        fault = self._fault(error)
        headers = self._fault_headers(fault, request_id)
        headers["content-type"] = "application/cbor"
        headers["smithy-protocol"] = "rpc-v2-cbor"
        service = self._model.metadata.endpoint_prefix or "cloudlet"
        body = {"__type": f"com.amazonaws.{service}#{fault.name}", **self._fault_members(fault)}
        return Response(fault.status, headers, cbor.encode(body))
