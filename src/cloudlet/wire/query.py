"""The query and ec2 protocols: a form with dotted names in, XML out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.wire import scalars
from cloudlet.wire.amendments import Amendment
from cloudlet.wire.encodings import inflated
from cloudlet.wire.faults import look_up, message_of, ref_of
from cloudlet.wire.model import Model, OperationSpec, Ref, Shape
from cloudlet.wire.validate import Checks, refusal
from cloudlet.wire.xml import XmlWriters, element_name, escape, flat

# A tree of a form's dotted names: texts at the leaves.
Tree = dict[str, Any]
Read = Callable[[Any], Any]

DEEPEST = 64

_ACTION = re.compile(rb"(?:^|&)Action=(\w+)(?:&|$)", re.ASCII)


def malformed(message: str) -> AwsError:
    """The error for a form that does not fit the operation."""
    return AwsError("MalformedInput", message, status=400)


def form_of(request: Request) -> list[tuple[str, str]]:
    """The parameters of the body and of the query string. Raises AwsError MalformedQueryString."""
    try:
        body = (inflated(request).body or b"").decode("utf-8")
        found = parse_qsl(body, keep_blank_values=True, max_num_fields=100_000)
        return request.params() + found if request.query else found
    except ValueError:
        raise AwsError("MalformedQueryString", "The query string contains a syntax error.", status=400) from None


def action_of(request: Request) -> str | None:
    """The operation that a form asks for. Raises AwsError MalformedQueryString."""
    if request.body and (found := _ACTION.search(request.body)):
        return found.group(1).decode()
    return next((value for name, value in form_of(request) if name == "Action"), None)


def tree_of(form: list[tuple[str, str]]) -> Tree:
    """Dotted names as nested dictionaries. Raises AwsError."""
    root: Tree = {}
    for name, value in form:
        if "." not in name:
            root.setdefault(name, value)
            continue
        *path, last = name.split(".")
        if len(path) > DEEPEST:
            raise malformed("The parameters are nested too deeply.")
        node = root
        for part in path:
            below = node.get(part)
            if not isinstance(below, dict):
                if below:
                    raise malformed("Unexpected complex element termination")
                below = node[part] = {}
            node = below
        node.setdefault(last, value)
    return root


class _Readers:
    """Readers of one model's shapes from a form's tree."""

    def __init__(self, model: Model, ec2: bool) -> None:
        self._shapes = model.shapes
        self._ec2 = ec2
        self._made: dict[str, Read] = {}

    def of(self, ref: Ref) -> Read:
        shape = self._shapes[ref.shape]
        match shape.type:
            case "structure":
                return self.structure(shape)
            case "list":
                return self._list(ref, shape)
            case "map":
                return self._map(ref, shape)
        return _scalar(shape)

    def structure(self, shape: Shape) -> Read:
        if shape.name in self._made:
            return self._made[shape.name]
        # Registered before its members are, so that a shape may hold itself.
        body: list[Read] = []
        self._made[shape.name] = lambda tree: body[0](tree)
        readers = [(self._tag(name, ref), name, self.of(ref)) for name, ref in shape.members.items()]
        tags = {tag for tag, _, _ in readers}
        # Botocore names a flattened list by its member, other SDKs by the list; and it capitalizes not every name.
        aliases = [
            (other, name, self.of(ref))
            for name, ref in shape.members.items()
            if (other := name if self._ec2 else ref.location_name or name) not in tags
        ]

        def read(tree: Any) -> dict[str, Any]:
            if not isinstance(tree, dict):
                if tree == "":
                    return {}
                raise malformed("Unexpected complex element termination")
            found = {name: reader(tree[tag]) for tag, name, reader in readers if tag in tree}
            for tag, name, reader in aliases:
                if tag in tree and name not in found:
                    found[name] = reader(tree[tag])
            return found

        body.append(read)
        self._made[shape.name] = read
        return read

    def _tag(self, name: str, ref: Ref) -> str:
        if self._ec2:
            tag = ref.query_name or ref.location_name or name
            return tag if ref.query_name else tag[:1].upper() + tag[1:]
        return element_name(self._shapes, name, ref)

    def _list(self, ref: Ref, shape: Shape) -> Read:
        assert shape.member is not None
        item = self.of(shape.member)
        nested = "" if self._ec2 or flat(ref, shape) else shape.member.location_name or "member"

        def read(tree: Any) -> list[Any]:
            return [item(one) for one in _numbered(tree, nested)]

        return read

    def _map(self, ref: Ref, shape: Shape) -> Read:
        assert shape.key is not None
        assert shape.value is not None
        key_tag, value_tag = shape.key.location_name or "key", shape.value.location_name or "value"
        read_key, read_value = self.of(shape.key), self.of(shape.value)
        nested = "" if flat(ref, shape) else "entry"

        def read(tree: Any) -> dict[str, Any]:
            found = {}
            for entry in _numbered(tree, nested):
                if not isinstance(entry, dict) or key_tag not in entry or value_tag not in entry:
                    raise malformed("Unexpected map entry termination")
                found[read_key(entry[key_tag])] = read_value(entry[value_tag])
            return found

        return read


def _numbered(tree: Any, nested: str) -> list[Any]:
    """The elements of a list in the order of their numbers."""
    if tree == "":
        return []
    if isinstance(tree, dict) and nested and nested in tree:
        tree = tree[nested]
        if tree == "":
            return []
    if not isinstance(tree, dict):
        raise malformed("Unexpected list element termination")
    if len(tree) == 1 and "1" in tree:
        return [tree["1"]]
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in tree):
        raise malformed("Top level element may not be treated as a list")
    return [tree[number] for number in sorted(tree, key=int)]


def _scalar(shape: Shape) -> Read:
    convert = scalars.READERS.get(shape.type, str)
    wanted = shape.type.capitalize()

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise malformed("Unexpected complex element termination")
        try:
            return convert(value)
        except (ValueError, OverflowError):
            raise malformed(f"'{value[:100]}' can not be converted to {wanted}") from None

    return read


class QueryProtocol:
    """Both query protocols: they differ in the names of lists and in the frame of the answer."""

    def __init__(self, model: Model, amendment: Amendment, *, ec2: bool = False) -> None:
        self._model = model
        self._amendment = amendment
        self._ec2 = ec2
        self._readers = _Readers(model, ec2)
        self._writers = XmlWriters(model, scalars.write_iso_millis)
        self._checks = Checks(model, required_only=ec2 or not amendment.constraints)
        metadata = model.metadata
        self._namespace = amendment.namespace or metadata.namespace
        if not self._namespace and metadata.endpoint_prefix:
            self._namespace = f"http://{metadata.endpoint_prefix}.amazonaws.com/doc/{metadata.api_version}/"

    def decoder(self, operation: OperationSpec) -> Callable[[Request], dict[str, Any]]:
        """Compile an operation's input."""
        if operation.input is None:
            return lambda request: {}
        read = self._readers.of(operation.input)
        check = self._checks.of(operation.input)
        model, names_missing = self._model, self._ec2 or self._amendment.names_missing
        names, protocol = self._amendment.missing, "ec2" if self._ec2 else "query"
        addressed = self._amendment.addressed
        if addressed not in model.shapes[operation.input.shape].members:
            addressed = ""

        def decode(request: Request) -> dict[str, Any]:
            input: dict[str, Any] = read(tree_of(form_of(request)))
            if addressed and addressed not in input and request.path != "/":
                input[addressed] = request.path
            if check is not None and (problems := check(input)):
                raise refusal(model, operation, problems, protocol, names_missing=names_missing, names=names)
            return input

        return decode

    def encoder(self, operation: OperationSpec) -> Callable[[dict[str, Any], str], Response]:
        """Compile an operation's output."""
        opening = f"<{operation.name}Response{self._space}>"
        wrapper = ""
        if not self._ec2 and operation.output is not None:
            wrapper = operation.output.result_wrapper or f"{operation.name}Result"
        write = self._writers.members(self._model.shapes[operation.output.shape]) if operation.output else None
        closing = f"</{operation.name}Response>"
        start = f"{opening}<{wrapper}>" if wrapper else opening
        end = f"</{wrapper}>" if wrapper else ""
        ec2 = self._ec2

        def encode(output: dict[str, Any], request_id: str) -> Response:
            if ec2:
                out = [opening, f"<requestId>{request_id}</requestId>"]
            else:
                out = [start]
            if write is not None:
                write(out, output)
            out.append(end)
            if not ec2:
                out.append(f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>")
            out.append(closing)
            return _answer(200, "".join(out), request_id)

        return encode

    @property
    def _space(self) -> str:
        return f' xmlns="{self._namespace}"' if self._namespace else ""

    def error(self, operation: OperationSpec | None, error: AwsError, request_id: str) -> Response:
        """An error in the protocol's frame."""
        fault = look_up(self._model, error, self._amendment.codes, self._amendment.statuses)
        code, message = escape(fault.code), escape(message_of(fault))
        out: list[str] = []
        if (ref := ref_of(fault)) is not None:
            shape = self._model.shapes[ref.shape]
            for name, member in shape.members.items():
                if name.lower() not in ("message", "code") and fault.members.get(name) is not None:
                    self._writers.element(element_name(self._model.shapes, name, member), member)(
                        out, fault.members[name]
                    )
        details = "".join(out)
        if self._ec2:
            text = (
                f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message>{details}</Error></Errors>"
                f"<RequestID>{request_id}</RequestID></Response>"
            )
        else:
            kind = "Sender" if fault.sender else "Receiver"
            text = (
                f"<ErrorResponse{self._space}><Error><Type>{kind}</Type><Code>{code}</Code>"
                f"<Message>{message}</Message>{details}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        return _answer(fault.status, text, request_id)


def _answer(status: int, text: str, request_id: str) -> Response:
    return Response(
        status,
        {"content-type": "text/xml", "x-amzn-requestid": request_id},
        b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode("utf-8", "replace"),
    )
