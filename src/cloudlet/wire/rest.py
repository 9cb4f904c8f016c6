"""What the REST protocols share: members bound to the path, the query, headers and the status. Bodies come apart."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import unquote

from cloudlet.errors import AwsError, not_implemented
from cloudlet.http import Request, Response
from cloudlet.wire import events, scalars
from cloudlet.wire.amendments import Amendment
from cloudlet.wire.encodings import inflated
from cloudlet.wire.faults import Fault, look_up
from cloudlet.wire.model import Model, OperationSpec, Ref, Shape, streams_body
from cloudlet.wire.routes import Template
from cloudlet.wire.validate import Checks, refusal

Bind = Callable[[Request, dict[str, Any]], None]
Body = Callable[[bytes], Any]
Content = tuple[str, bytes | AsyncIterator[bytes]]

_NO_BODY = frozenset((204, 205, 304))


class RestProtocol:
    """What both REST protocols share; a subclass reads and writes the documents."""

    def __init__(self, model: Model, amendment: Amendment, checks: Checks) -> None:
        self._model = model
        self._shapes = model.shapes
        self._amendment = amendment
        self._checks = checks

    # What a subclass knows.
    def _read_document(self, ref: Ref) -> Body:
        raise NotImplementedError

    def _write_document(self, ref: Ref, operation: OperationSpec, member: str) -> Callable[[Any], Content]:
        raise NotImplementedError

    def _refuse(self, operation: OperationSpec, problems: list[Any]) -> AwsError:
        protocol = self._model.metadata.protocol
        return refusal(self._model, operation, problems, protocol, code=self._amendment.refusal)

    def _missing_payload(self) -> AwsError | None:
        return None

    def _text_error(self, where: str, name: str) -> AwsError:
        raise NotImplementedError

    def _request_id(self, request_id: str) -> dict[str, str]:
        return {"x-amzn-requestid": request_id}

    def _body_fault(self, fault: Fault, request_id: str) -> Content:
        raise NotImplementedError

    # Input.
    def decoder(self, operation: OperationSpec) -> Callable[[Request], dict[str, Any]]:
        """Compile an operation's input."""
        if operation.input is None:
            return lambda request: {}
        shape = self._shapes[operation.input.shape]
        binds = self._bindings(operation, shape)
        read_body = self._body_reader(operation, operation.input, shape)
        check = self._checks.of(operation.input)
        streams = streams_body(self._model, operation.input)

        def decode(request: Request) -> dict[str, Any]:
            if "content-encoding" in request.headers and not streams:
                request = inflated(request)
            input: dict[str, Any] = {}
            for bind in binds:
                bind(request, input)
            if read_body is not None:
                read_body(request, input)
            if check is not None and (problems := check(input)):
                raise self._refuse(operation, problems)
            return input

        return decode

    def _bindings(self, operation: OperationSpec, shape: Shape) -> list[Bind]:
        binds: list[Bind] = []
        labels: dict[str, tuple[str, Callable[[str], Any]]] = {}
        queries: list[tuple[str, str, Ref]] = []
        headers: list[tuple[str, str, Ref]] = []
        for name, ref in shape.members.items():
            wire = ref.location_name or name
            match ref.location:
                case "uri":
                    labels[wire] = (name, self._reader(ref, "path", wire))
                case "querystring":
                    queries.append((name, wire, ref))
                case "header":
                    headers.append((name, wire.lower(), ref))
                case "headers":
                    binds.append(_bind_prefixed(name, (ref.location_name or "").lower()))
        if headers:
            binds.append(self._bind_headers(headers))
        if labels:
            binds.insert(0, self._bind_labels(operation, labels))
        if queries:
            binds.append(self._bind_query(queries, frozenset(Template(operation.http.request_uri).query)))
        return binds

    def _reader(self, ref: Ref, where: str, name: str) -> Callable[[str], Any]:
        """A scalar's reader; what it cannot read is the client's error."""
        shape = self._shapes[ref.shape]
        convert_text = _read_encoded if ref.jsonvalue else scalars.READERS.get(shape.type, str)
        if convert_text is str:
            return str

        def read(text: str) -> Any:
            try:
                return convert_text(text)
            except (ValueError, OverflowError, RecursionError):
                raise self._text_error(where, name) from None

        return read

    def _bind_labels(self, operation: OperationSpec, labels: dict[str, tuple[str, Callable[[str], Any]]]) -> Bind:
        template = Template(operation.http.request_uri)
        bound = [labels.get(label) for label in template.labels]
        match = template.regex.search

        def bind(request: Request, input: dict[str, Any]) -> None:
            found = match(request.path)
            if found is None:
                raise self._text_error("path", request.path)
            for target, text in zip(bound, found.groups(), strict=True):
                if target is not None:
                    input[target[0]] = target[1](self._unquoted(text) if "%" in text else text)

        return bind

    def _unquoted(self, text: str) -> str:
        try:
            return unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise self._text_error("path", text) from None

    def _bind_headers(self, bound: list[tuple[str, str, Ref]]) -> Bind:
        texts: dict[str, str] = {}
        others: dict[str, tuple[str, Callable[[str], Any], bool]] = {}
        for name, wire, ref in bound:
            shape = self._shapes[ref.shape]
            if shape.type == "string" and not ref.jsonvalue:
                texts[wire] = name
            elif shape.type == "list":
                assert shape.member is not None
                dated = self._shapes[shape.member.shape].type == "timestamp"
                read_item = self._reader(shape.member, "header", wire)
                others[wire] = (name, _list_reader(read_item, _split_dates if dated else _split_list), True)
            else:
                others[wire] = (name, self._reader(ref, "header", wire), False)

        def bind(request: Request, input: dict[str, Any]) -> None:
            for header, value in request.headers.items():
                if header in texts:
                    input[texts[header]] = value
                elif header in others:
                    name, read, empty = others[header]
                    if value or empty:
                        input[name] = read(value)

        return bind

    def _bind_query(self, queries: list[tuple[str, str, Ref]], literal: frozenset[str]) -> Bind:
        single: dict[str, tuple[str, Callable[[str], Any]]] = {}
        many: dict[str, tuple[str, Callable[[str], Any]]] = {}
        rest: tuple[str, bool] | None = None
        for name, wire, ref in queries:
            shape = self._shapes[ref.shape]
            if shape.type == "list":
                assert shape.member is not None
                many[wire] = (name, self._reader(shape.member, "query", wire))
            elif shape.type == "map":
                assert shape.value is not None
                rest = (name, self._shapes[shape.value.shape].type == "list")
            else:
                single[wire] = (name, self._reader(ref, "query", wire))

        def bind(request: Request, input: dict[str, Any]) -> None:
            if not request.query:
                return
            try:
                params = request.params()
            except ValueError:
                raise self._text_error("query", "") from None
            others: dict[str, Any] = {}
            for key, value in params:
                if key in single:
                    name, read = single[key]
                    if value != "" or read is str:
                        input.setdefault(name, read(value))
                elif key in many:
                    name, read = many[key]
                    input.setdefault(name, []).append(read(value))
                elif rest is not None and key not in literal:
                    if rest[1]:
                        others.setdefault(key, []).append(value)
                    else:
                        others.setdefault(key, value)
            if rest is not None and others:
                input[rest[0]] = others

        return bind

    def _body_reader(self, operation: OperationSpec, ref: Ref, shape: Shape) -> Bind | None:
        if not shape.payload:
            if all(member.location for member in shape.members.values()):
                return None
            read = self._read_document(ref)

            def read_members(request: Request, input: dict[str, Any]) -> None:
                if request.body:
                    input.update(read(request.body))

            return read_members
        name = shape.payload
        member = shape.members[name]
        target = self._shapes[member.shape]
        if target.eventstream:

            def refuse(request: Request, input: dict[str, Any]) -> None:
                raise not_implemented(f"{operation.name} with an event stream as its input")

            return refuse
        if target.type == "blob":
            if member.streaming or target.streaming:

                def take_stream(request: Request, input: dict[str, Any]) -> None:
                    input[name] = request.stream()

                return take_stream

            def take_bytes(request: Request, input: dict[str, Any]) -> None:
                if request.body:
                    input[name] = request.body

            return take_bytes
        if target.type == "string":

            def take_text(request: Request, input: dict[str, Any]) -> None:
                if request.body:
                    try:
                        input[name] = request.body.decode()
                    except UnicodeDecodeError:
                        raise self._text_error("body", name) from None

            return take_text
        read = self._read_document(member)
        required = name in shape.required
        missing = self._missing_payload()

        def read_payload(request: Request, input: dict[str, Any]) -> None:
            if request.body:
                input[name] = read(request.body)
            elif required and missing is not None:
                raise missing

        return read_payload

    # Output.
    def encoder(self, operation: OperationSpec) -> Callable[[dict[str, Any], str], Response]:
        """Compile an operation's output."""
        declared = operation.http.response_code
        if operation.output is None:
            return lambda output, request_id: Response(declared, self._request_id(request_id))
        shape = self._shapes[operation.output.shape]
        headers = self._header_writers(shape)
        status_member = next((name for name, ref in shape.members.items() if ref.location == "statusCode"), None)
        content = self._content_writer(operation, operation.output, shape)
        request_id_headers = self._request_id

        def encode(output: dict[str, Any], request_id: str) -> Response:
            given = request_id_headers(request_id)
            for name in output:
                if name in headers:
                    headers[name](output, given)
            status = declared
            if status_member is not None and status_member in output:
                status = int(output[status_member])
            elif "content-range" in given and status == 200:
                status = 206
            if content is None or status in _NO_BODY:
                return Response(status, given)
            content_type, body = content(output)
            if content_type:
                given.setdefault("content-type", content_type)
            return Response(status, given, body)

        return encode

    def _header_writers(self, shape: Shape) -> dict[str, Callable[[dict[str, Any], dict[str, str]], None]]:
        """By member."""
        writers: dict[str, Callable[[dict[str, Any], dict[str, str]], None]] = {}
        for name, ref in shape.members.items():
            wire = ref.location_name or name
            if ref.location == "header":
                writers[name] = _write_header(name, wire.lower(), self._header_text(ref))
            elif ref.location == "headers":
                writers[name] = _write_headers(name, ref.location_name or "")
        return writers

    def _header_text(self, ref: Ref) -> Callable[[Any], str]:
        shape = self._shapes[ref.shape]
        if ref.jsonvalue:
            return scalars.write_blob
        if shape.type == "list":
            assert shape.member is not None
            item = self._header_text(shape.member)
            texts = self._shapes[shape.member.shape].type == "string"
            return lambda value: ", ".join(_quoted(item(one)) if texts else item(one) for one in value)
        if shape.type == "timestamp":
            return scalars.TIMESTAMPS[ref.timestamp_format or shape.timestamp_format or "rfc822"]
        return scalars.WRITERS.get(shape.type, str)

    def _content_writer(
        self, operation: OperationSpec, ref: Ref, shape: Shape
    ) -> Callable[[dict[str, Any]], Content] | None:
        if not shape.payload:
            if all(member.bound for member in shape.members.values()):
                return None
            return self._write_document(ref, operation, "")
        name = shape.payload
        member = shape.members[name]
        target = self._shapes[member.shape]
        if target.eventstream:
            return self._event_stream(name, target)
        if target.type == "blob":

            def write_blob(output: dict[str, Any]) -> Content:
                body = output.get(name, b"")
                if isinstance(body, str):
                    body = body.encode()
                elif isinstance(body, bytearray | memoryview):
                    body = bytes(body)
                return ("application/octet-stream" if name in output else "", body)

            return write_blob
        if target.type == "string":
            return lambda output: ("text/plain", output[name].encode()) if name in output else ("", b"")
        write = self._write_document(member, operation, name)

        def write_payload(output: dict[str, Any]) -> Content:
            return write(output[name]) if name in output else self._empty_payload()

        return write_payload

    def _empty_payload(self) -> Content:
        return "", b""

    def _event_stream(self, name: str, target: Shape) -> Callable[[dict[str, Any]], Content]:
        write_event = events.writer(self._model, target, self._event_document)
        return lambda output: ("application/vnd.amazon.eventstream", events.stream(output[name], write_event))

    def _event_document(self, shape: Shape) -> Callable[[dict[str, Any]], Content]:
        raise NotImplementedError

    # Errors.
    def error(self, operation: OperationSpec | None, error: AwsError, request_id: str) -> Response:
        """An error as this protocol carries it."""
        fault = look_up(self._model, error, self._amendment.codes, self._amendment.statuses)
        headers = self._request_id(request_id)
        if fault.shape is not None:
            for write in self._header_writers(fault.shape).values():
                write(fault.members, headers)
        self._mark(fault, headers)
        if fault.status in _NO_BODY or (operation is not None and operation.http.method == "HEAD"):
            return Response(fault.status, headers)
        content_type, body = self._body_fault(fault, request_id)
        headers["content-type"] = content_type
        return Response(fault.status, headers, body)

    def _mark(self, fault: Fault, headers: dict[str, str]) -> None:
        """Say the error in a header, where the protocol does."""


def _read_encoded(text: str) -> str:
    return scalars.read_blob(text).decode()


def _list_reader(read: Callable[[str], Any], split: Callable[[str], list[str]]) -> Callable[[str], list[Any]]:
    def read_list(text: str) -> list[Any]:
        return [read(item) for item in split(text)] if text.strip() else []

    return read_list


def _bind_prefixed(name: str, prefix: str) -> Bind:
    def bind(request: Request, input: dict[str, Any]) -> None:
        found = {header[len(prefix) :]: value for header, value in request.headers.items() if header.startswith(prefix)}
        if found:
            input[name] = found

    return bind


def _write_header(name: str, wire: str, text: Callable[[Any], str]) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def write(output: dict[str, Any], headers: dict[str, str]) -> None:
        if (value := output.get(name)) is not None:
            headers[wire] = text(value)

    return write


def _write_headers(name: str, prefix: str) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def write(output: dict[str, Any], headers: dict[str, str]) -> None:
        for key, value in (output.get(name) or {}).items():
            headers[f"{prefix}{key}".lower()] = str(value)

    return write


_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|\Z)', re.DOTALL)


def _split_list(text: str) -> list[str]:
    """A header's list; its items may be quoted."""
    if '"' not in text:
        return [item.strip() for item in text.split(",")]
    items = []
    position = 0
    while position < len(text):
        found = _ITEM.match(text, position)
        if found is None:
            return [item.strip() for item in text.split(",")]
        quoted, plain = found.groups()
        items.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain.strip())
        position = found.end()
    return items


def _split_dates(text: str) -> list[str]:
    """A header's list of dates, of which HTTP's have a comma of their own."""
    parts = [part.strip() for part in text.split(",")]
    if any(part[:1].isalpha() for part in parts):
        return [f"{day}, {date}" for day, date in zip(parts[::2], parts[1::2], strict=False)]
    return parts


def _quoted(text: str) -> str:
    if "," in text or '"' in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text
