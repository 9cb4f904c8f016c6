"""Botocore's models as they are read: shapes, operations and metadata, without the documentation."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec


class UnknownService(Exception):
    """There is no model of that name."""


class Ref(msgspec.Struct, rename="camel", omit_defaults=True):
    """A member's reference to its shape, with the traits of that place."""

    shape: str
    location: str = ""
    location_name: str = ""
    query_name: str = ""
    flattened: bool = False
    streaming: bool = False
    jsonvalue: bool = False
    event: bool = False
    eventpayload: bool = False
    eventheader: bool = False
    xml_attribute: bool = False
    xml_namespace: dict[str, str] | str | None = None
    timestamp_format: str = ""
    result_wrapper: str = ""
    idempotency_token: bool = False

    @property
    def bound(self) -> bool:
        """Whether an output's member is outside of the body; only inputs have paths and queries."""
        return self.location in ("header", "headers", "statusCode")


class ErrorTrait(msgspec.Struct, rename="camel"):
    """What an exception shape says of itself."""

    code: str = ""
    http_status_code: int = 0


class Shape(msgspec.Struct, rename="camel", dict=True):
    """One shape of a model; ``name`` is filled in when the model is loaded."""

    type: str
    name: str = ""
    members: dict[str, Ref] = {}
    required: list[str] = []
    member: Ref | None = None
    key: Ref | None = None
    value: Ref | None = None
    payload: str = ""
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    enum: list[str] = []
    flattened: bool = False
    streaming: bool = False
    sparse: bool = False
    document: bool = False
    eventstream: bool = False
    event: bool = False
    sensitive: bool = False
    union: bool = False
    exception: bool = False
    fault: bool = False
    error: ErrorTrait | None = None
    location_name: str = ""
    timestamp_format: str = ""
    xml_namespace: dict[str, str] | str | None = None


class Http(msgspec.Struct, rename="camel"):
    """Where an operation is found."""

    method: str = "POST"
    request_uri: str = "/"
    response_code: int = 200


class OperationSpec(msgspec.Struct, rename="camel"):
    """One operation of a model."""

    name: str
    http: Http
    input: Ref | None = None
    output: Ref | None = None
    errors: list[Ref] = []
    deprecated: bool = False


class Metadata(msgspec.Struct, rename="camel"):
    """What a model says of its service."""

    protocol: str
    api_version: str = ""
    protocols: list[str] = []
    endpoint_prefix: str = ""
    signing_name: str = ""
    target_prefix: str = ""
    json_version: str = "1.0"
    xml_namespace: str | dict[str, str] = ""
    aws_query_compatible: dict[str, Any] | None = None

    @property
    def scope(self) -> str:
        """The service's name in a signature."""
        return self.signing_name or self.endpoint_prefix

    @property
    def namespace(self) -> str:
        """The XML namespace of the service's answers."""
        given = self.xml_namespace
        return given.get("uri", "") if isinstance(given, dict) else given


class Model(msgspec.Struct, dict=True):
    """A service's whole model."""

    metadata: Metadata
    operations: dict[str, OperationSpec] = {}
    shapes: dict[str, Shape] = {}

    def __post_init__(self) -> None:
        for name, shape in self.shapes.items():
            shape.name = name
        for name, operation in self.operations.items():
            operation.name = name  # what clients call it; CloudFront's own names end in a date

    @cached_property
    def errors(self) -> dict[str, Shape]:
        """Every exception by its shape's name and by its code."""
        found = {}
        for name, shape in self.shapes.items():
            if shape.exception or shape.fault or shape.error is not None:
                found[name] = shape
        for shape in list(found.values()):
            if shape.error is not None and shape.error.code:
                found.setdefault(shape.error.code, shape)
        return found


def streams_body(model: Model, holder: Ref | None) -> bool:
    """Whether an input or output is carried by a stream of bytes."""
    shape = model.shapes[holder.shape] if holder is not None else None
    if shape is None or not shape.payload:
        return False
    ref = shape.members[shape.payload]
    target = model.shapes[ref.shape]
    return target.type == "blob" and (ref.streaming or target.streaming)


_MODEL = msgspec.json.Decoder(Model)


def parse(document: bytes | dict[str, Any]) -> Model:
    """A model from its JSON or from the dictionary of it."""
    if isinstance(document, dict):
        return msgspec.convert(document, Model)
    return _MODEL.decode(document)


class Library:
    """Botocore's data folder, found without importing botocore."""

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            spec = importlib.util.find_spec("botocore")
            if spec is None or not spec.submodule_search_locations:
                raise UnknownService("botocore's models are not installed")
            folder = Path(spec.submodule_search_locations[0]) / "data"
        self._folder = folder

    def names(self) -> list[str]:
        """Every service that has a model."""
        return sorted(entry.name for entry in os.scandir(self._folder) if entry.is_dir())

    def load(self, service: str) -> Model:
        """A service's newest model. Raises UnknownService."""
        return parse(self._read(service, -1))

    def metadata(self, service: str) -> Metadata:
        """Only the metadata, which stands at the head of the file. Raises UnknownService."""
        head = self._read(service, 8192)
        found = re.search(rb'"metadata"\s*:\s*(\{)', head)
        if found is None:
            return self.load(service).metadata
        text = head[found.start(1) :]
        depth = 0
        for brace in re.finditer(rb"[{}]", text):
            depth += 1 if brace.group() == b"{" else -1
            if depth == 0:
                return msgspec.json.decode(text[: brace.end()], type=Metadata)
        return self.load(service).metadata

    def _read(self, service: str, size: int) -> bytes:
        folder = self._folder / service
        try:
            versions = sorted((entry for entry in os.listdir(folder) if entry[:1].isdigit()), reverse=True)
        except (OSError, ValueError):
            raise UnknownService(service) from None
        for version in versions:
            for name, opener in (("service-2.json.gz", gzip.open), ("service-2.json", open)):
                try:
                    with opener(folder / version / name, "rb") as file:
                        data: bytes = file.read(size)
                        return data
                except FileNotFoundError:
                    continue
        raise UnknownService(service)
