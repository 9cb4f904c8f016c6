"""REST with bodies in JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.wire.amendments import Amendment
from cloudlet.wire.documents import Documents, convert, unreadable
from cloudlet.wire.faults import Fault, ref_of
from cloudlet.wire.model import Http, Model, OperationSpec, Ref, Shape
from cloudlet.wire.rest import Body, Content, RestProtocol
from cloudlet.wire.rpc import plain_json
from cloudlet.wire.validate import Checks


class RestJsonProtocol(RestProtocol):
    """Bodies in JSON."""

    def __init__(self, model: Model, amendment: Amendment) -> None:
        super().__init__(model, amendment, Checks(model, required_only=not amendment.constraints))
        self._documents = Documents(model, named=True, strict=False, required=False)

    def _read_document(self, ref: Ref) -> Body:
        shape = self._shapes[ref.shape]
        if shape.document:
            return plain_json
        decode = msgspec.json.Decoder(self._documents.type_of(ref), dec_hook=convert).decode
        rename = self._documents.inward(ref)
        documents = self._documents

        def read(body: bytes) -> Any:
            try:
                value = decode(body)
                return value if rename is None else rename(value)
            except msgspec.ValidationError:
                pass
            except (msgspec.DecodeError, RecursionError, ValueError):
                raise unreadable("") from None
            plain = plain_json(body)
            return {} if plain is None else documents.read(ref, plain)

        return read

    def _write_document(self, ref: Ref, operation: OperationSpec, member: str) -> Callable[[Any], Content]:
        shape = self._shapes[ref.shape]
        change = self._documents.outward(ref)
        encode = msgspec.json.Encoder().encode
        bound = [name for name, held in shape.members.items() if held.bound]

        def write(value: Any) -> Content:
            if bound and any(name in value for name in bound):
                value = {name: item for name, item in value.items() if name not in bound}
            return "application/json", encode(value if change is None else change(value))

        return write

    def _event_document(self, shape: Shape) -> Callable[[dict[str, Any]], Content]:
        return self._write_document(Ref(shape.name), OperationSpec("", Http()), "")

    def _empty_payload(self) -> Content:
        return "application/json", b"{}"

    def _text_error(self, where: str, name: str) -> AwsError:
        return unreadable(f"The {where} parameter {name} can not be read.")

    def _mark(self, fault: Fault, headers: dict[str, str]) -> None:
        headers["x-amzn-errortype"] = fault.name

    def _body_fault(self, fault: Fault, request_id: str) -> Content:
        members = fault.members
        if (ref := ref_of(fault)) is not None:
            shape = self._shapes[ref.shape]
            members = {
                name: value
                for name, value in members.items()
                if name not in shape.members or not shape.members[name].location
            }
            if (change := self._documents.outward(ref)) is not None:
                members = {**change(members), **{k: v for k, v in members.items() if k not in shape.members}}
        return "application/json", msgspec.json.encode(members)
