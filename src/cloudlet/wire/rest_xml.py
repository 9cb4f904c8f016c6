"""REST with bodies in XML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.wire import scalars
from cloudlet.wire.amendments import Amendment
from cloudlet.wire.faults import Fault, message_of
from cloudlet.wire.model import Model, OperationSpec, Ref, Shape
from cloudlet.wire.rest import Body, Content, RestProtocol
from cloudlet.wire.validate import Checks
from cloudlet.wire.xml import XmlReaders, XmlWriters, element_name, escape, malformed, parse


class RestXmlProtocol(RestProtocol):
    """Bodies in XML."""

    def __init__(self, model: Model, amendment: Amendment) -> None:
        super().__init__(model, amendment, Checks(model, required_only=not amendment.constraints))
        self._readers = XmlReaders(model)
        self._writers = XmlWriters(model, scalars.write_iso_millis)
        self._namespace = amendment.namespace or model.metadata.namespace or _request_namespace(model)

    def _read_document(self, ref: Ref) -> Body:
        read = self._readers.of(ref)
        return lambda body: read(parse(body))

    def _write_document(self, ref: Ref, operation: OperationSpec, member: str) -> Callable[[Any], Content]:
        shape = self._shapes[ref.shape]
        space = f' xmlns="{self._namespace}"' if self._namespace else ""
        if (inner := self._amendment.unwrapped.get(operation.name)) is not None:

            def write_text(value: Any) -> Content:
                text = f"<{inner}{space}>{escape(str(value.get(inner, '')))}</{inner}>"
                return "application/xml", _document(text)

            return write_text
        root = self._amendment.roots.get(operation.name) or ref.location_name or shape.location_name
        root = root or shape.name
        if self._namespace and not (member and (ref.xml_namespace or shape.xml_namespace)):
            ref = msgspec.structs.replace(ref, xml_namespace=self._namespace)
        write_element = self._writers.element(root, ref)

        def write(value: Any) -> Content:
            out: list[str] = []
            write_element(out, value)
            return "application/xml", _document("".join(out))

        return write

    def _event_document(self, shape: Shape) -> Callable[[dict[str, Any]], Content]:
        write_members = self._writers.element(shape.name, Ref(shape.name))

        def write(value: dict[str, Any]) -> Content:
            out: list[str] = []
            write_members(out, value)
            return "text/xml", "".join(out).encode()

        return write

    def _refuse(self, operation: OperationSpec, problems: list[Any]) -> AwsError:
        if self._amendment.bare_errors:
            return malformed()
        error = super()._refuse(operation, problems)
        declared = {ref.shape for ref in operation.errors}
        code = next((code for code in ("InvalidInput", "InvalidArgument") if code in declared), "MalformedXML")
        return AwsError(code, error.message, status=400)

    def _missing_payload(self) -> AwsError | None:
        if self._amendment.bare_errors:
            return AwsError("MissingRequestBodyError", "Request Body is empty", status=400)
        return malformed()

    def _text_error(self, where: str, name: str) -> AwsError:
        if where == "path" and self._amendment.bare_errors:
            return AwsError("InvalidURI", "Couldn't parse the specified URI.", status=400)
        return AwsError("InvalidArgument", f"The {where} parameter {name} is not valid.", status=400)

    def _request_id(self, request_id: str) -> dict[str, str]:
        if self._amendment.bare_errors:
            return {"x-amz-request-id": request_id, "x-amz-id-2": request_id}
        return {"x-amzn-requestid": request_id}

    def _body_fault(self, fault: Fault, request_id: str) -> Content:
        out: list[str] = []
        shape_members = fault.shape.members if fault.shape is not None else {}
        for name, value in fault.members.items():
            if name.lower() in ("message", "code") or value is None:
                continue
            if name in shape_members:
                ref = shape_members[name]
                if not ref.location:
                    self._writers.element(element_name(self._shapes, name, ref), ref)(out, value)
            elif self._amendment.bare_errors:
                out.append(f"<{name}>{escape(str(value))}</{name}>")
        details = "".join(out)
        code, message = escape(fault.code), escape(message_of(fault))
        if self._amendment.bare_errors:
            return "application/xml", _document(
                f"<Error><Code>{code}</Code><Message>{message}</Message>{details}"
                f"<RequestId>{request_id}</RequestId><HostId>{request_id}</HostId></Error>"
            )
        space = f' xmlns="{self._namespace}"' if self._namespace else ""
        kind = "Sender" if fault.sender else "Receiver"
        return "text/xml", _document(
            f"<ErrorResponse{space}><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message>"
            f"{details}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )


def _document(text: str) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode("utf-8", "replace")


def _request_namespace(model: Model) -> str:
    """The namespace that a service's requests carry: its answers do too."""
    for operation in model.operations.values():
        if operation.input is not None and (space := operation.input.xml_namespace):
            return space if isinstance(space, str) else space.get("uri", "")
    return ""
