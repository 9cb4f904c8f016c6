"""Shapes as XML: a small parser that knows no DTDs, readers of nodes and writers of text, compiled per shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from cloudlet.errors import AwsError
from cloudlet.wire import scalars
from cloudlet.wire.model import Model, Ref, Shape

DEEPEST = 200

_UNSAFE = re.compile(r"[&<>\"\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#xD;"}

Read = Callable[["Node"], Any]
Readers = dict[str, tuple[str, Read]]  # by tag: a member's name, and the reader of its element
Write = Callable[[list[str], Any], None]


class Node:
    """One element: its name without a prefix, its attributes as they are written, its children and its text."""

    __slots__ = ("attributes", "children", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.children: list[Node] = []
        self.text = ""


def malformed(
    message: str = "The XML you provided was not well-formed or did not validate against our published schema",
) -> AwsError:
    """The error for XML that is none, or not the operation's."""
    return AwsError("MalformedXML", message, status=400)


class _Builder:
    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._text: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        node = Node(name.rpartition(":")[2], attributes)
        if self._open:
            if len(self._open) >= DEEPEST:
                raise malformed()
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)
        self._text.clear()

    def end(self, name: str) -> None:
        node = self._open.pop()
        if not node.children:
            node.text = "".join(self._text)
        self._text.clear()

    def doctype(self, *_: Any) -> None:
        raise malformed()


def parse(body: bytes) -> Node:
    """The root of a document. Raises AwsError MalformedXML, also for anything with a DTD."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder._text.append
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise malformed() from None
    if builder.root is None:
        raise malformed()
    return builder.root


def escape(text: str) -> str:
    """Text as it may stand in XML. What XML cannot carry is written as a character reference, as AWS does."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(lambda found: _ENTITIES.get(found.group()) or f"&#x{ord(found.group()):X};", text)


def flat(ref: Ref, shape: Shape) -> bool:
    """Whether a list or map repeats its own element."""
    return ref.flattened or shape.flattened


def element_name(shapes: dict[str, Shape], name: str, ref: Ref) -> str:
    """The element of a member."""
    shape = shapes[ref.shape]
    if shape.type == "list" and flat(ref, shape):
        assert shape.member is not None
        if shape.member.location_name:
            return shape.member.location_name
    return ref.location_name or name


class XmlReaders:
    """Readers of one model's shapes."""

    def __init__(self, model: Model) -> None:
        self._shapes = model.shapes
        self._made: dict[str, Read] = {}

    def of(self, ref: Ref) -> Read:
        """The reader of a shape from its node. Raises AwsError MalformedXML."""
        shape = self._shapes[ref.shape]
        match shape.type:
            case "structure":
                return self.structure(shape)
            case "list":
                item = self._item(shape)
                return lambda node: [item(child) for child in node.children]
            case "map":
                entry = self._entry(shape)
                return lambda node: dict(entry(child) for child in node.children)
        return _scalar(scalars.READERS.get(shape.type, str))

    def structure(self, shape: Shape) -> Read:
        """The reader of a structure's members that stand in a body."""
        if shape.name in self._made:
            return self._made[shape.name]
        # Registered before its members are, so that a shape may hold itself.
        body: list[Read] = []
        self._made[shape.name] = lambda node: body[0](node)
        single, repeated, entries, attributes = self._members(shape)

        def read(node: Node) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for child in node.children:
                tag = child.name
                if tag in single:
                    name, reader = single[tag]
                    found[name] = reader(child)
                elif tag in repeated:
                    name, reader = repeated[tag]
                    found.setdefault(name, []).append(reader(child))
                elif tag in entries:
                    name, reader = entries[tag]
                    key, value = reader(child)
                    found.setdefault(name, {})[key] = value
            for attribute, (name, reader) in attributes.items():
                if attribute in node.attributes:
                    holder = Node(name, {})
                    holder.text = node.attributes[attribute]
                    found[name] = reader(holder)
            return found

        body.append(read)
        self._made[shape.name] = read
        return read

    def _members(self, shape: Shape) -> tuple[Readers, Readers, Readers, Readers]:
        """Readers of single elements, of flattened lists' and maps' elements, and of attributes."""
        single: Readers = {}
        repeated: Readers = {}
        entries: Readers = {}
        attributes: Readers = {}
        # Botocore names a flattened list's elements by its member, other SDKs by the list.
        aliases: Readers = {}
        for name, ref in shape.members.items():
            if ref.location:
                continue
            target = self._shapes[ref.shape]
            tag = element_name(self._shapes, name, ref)
            if ref.xml_attribute:
                attributes[tag] = (name, _scalar(scalars.READERS[target.type]))
            elif target.type == "list" and flat(ref, target):
                item = self._item(target)
                repeated[ref.location_name or name] = (name, item)
                aliases.setdefault(tag, (name, item))
            elif target.type == "map" and flat(ref, target):
                entries[tag] = (name, self._entry(target))
            else:
                single[tag] = (name, self.of(ref))
        for tag, named in aliases.items():
            if tag not in single and tag not in entries:
                repeated.setdefault(tag, named)
        return single, repeated, entries, attributes

    def _item(self, shape: Shape) -> Read:
        assert shape.member is not None
        return self.of(shape.member)

    def _entry(self, shape: Shape) -> Read:
        assert shape.key is not None
        assert shape.value is not None
        key_tag, value_tag = shape.key.location_name or "key", shape.value.location_name or "value"
        read_key, read_value = self.of(shape.key), self.of(shape.value)

        def read(node: Node) -> tuple[Any, Any]:
            key = value = None
            for child in node.children:
                if child.name == key_tag:
                    key = read_key(child)
                elif child.name == value_tag:
                    value = read_value(child)
            if key is None or value is None:
                raise malformed()
            return key, value

        return read


def _scalar(convert: Callable[[str], Any]) -> Read:
    def read(node: Node) -> Any:
        if node.children:
            raise malformed()
        try:
            return convert(node.text)
        except (ValueError, OverflowError):
            raise malformed() from None

    return read


class XmlWriters:
    """Writers of one model's shapes; timestamps in ``style`` where the model says nothing."""

    def __init__(self, model: Model, timestamp: Callable[[Any], str] = scalars.write_iso) -> None:
        self._shapes = model.shapes
        self._timestamp = timestamp
        self._made: dict[str, Write] = {}

    def text_of(self, ref: Ref) -> Callable[[Any], str]:
        """The text of a scalar, not escaped."""
        shape = self._shapes[ref.shape]
        if shape.type == "timestamp":
            return scalars.TIMESTAMPS.get(ref.timestamp_format or shape.timestamp_format, self._timestamp)
        return scalars.WRITERS[shape.type]

    def element(self, tag: str, ref: Ref) -> Write:
        """The writer of a member's element, or of its elements when it is flattened."""
        shape = self._shapes[ref.shape]
        match shape.type:
            case "structure":
                return self._structure(tag, ref, shape)
            case "list":
                return self._list(tag, ref, shape)
            case "map":
                return self._map(tag, ref, shape)
        text = self.text_of(ref)
        opening, closing = f"<{tag}{_namespace(ref)}>", f"</{tag}>"
        if shape.type in ("string", "character"):
            return lambda out, value: out.append(f"{opening}{escape(str(value))}{closing}")
        return lambda out, value: out.append(f"{opening}{text(value)}{closing}")

    def members(self, shape: Shape) -> Write:
        """The writer of a structure's members that stand in a body."""
        if shape.name in self._made:
            return self._made[shape.name]
        # Registered before its members are, so that a shape may hold itself.
        body: list[Write] = []
        self._made[shape.name] = lambda out, value: body[0](out, value)
        writers = [
            (name, self.element(element_name(self._shapes, name, ref), ref))
            for name, ref in shape.members.items()
            if not ref.bound and not ref.xml_attribute
        ]

        def write(out: list[str], value: Any) -> None:
            for name, writer in writers:
                if (item := value.get(name)) is not None:
                    writer(out, item)

        body.append(write)
        self._made[shape.name] = write
        return write

    def _structure(self, tag: str, ref: Ref, shape: Shape) -> Write:
        members = self.members(shape)
        closing = f"</{tag}>"
        space = _namespace(ref) or _namespace(shape)
        attributes = [
            (name, member.location_name or name, self.text_of(member))
            for name, member in shape.members.items()
            if member.xml_attribute
        ]
        if not attributes:
            opening = f"<{tag}{space}>"

            def write(out: list[str], value: Any) -> None:
                out.append(opening)
                members(out, value)
                out.append(closing)

            return write

        def write_with_attributes(out: list[str], value: Any) -> None:
            given = "".join(
                f' {attribute}="{escape(text(value[name]))}"' for name, attribute, text in attributes if name in value
            )
            out.append(f"<{tag}{space}{given}>")
            members(out, value)
            out.append(closing)

        return write_with_attributes

    def _list(self, tag: str, ref: Ref, shape: Shape) -> Write:
        assert shape.member is not None
        if flat(ref, shape):
            repeated = self.element(tag, shape.member)

            def write_flat(out: list[str], value: Any) -> None:
                for item in value:
                    repeated(out, item)

            return write_flat
        item = self.element(shape.member.location_name or "member", shape.member)
        opening, closing = f"<{tag}{_namespace(ref)}>", f"</{tag}>"

        def write(out: list[str], value: Any) -> None:
            out.append(opening)
            for one in value:
                item(out, one)
            out.append(closing)

        return write

    def _map(self, tag: str, ref: Ref, shape: Shape) -> Write:
        assert shape.key is not None
        assert shape.value is not None
        key = self.element(shape.key.location_name or "key", shape.key)
        value = self.element(shape.value.location_name or "value", shape.value)
        flattened = flat(ref, shape)
        entry = tag if flattened else "entry"
        opening, closing = f"<{tag}{_namespace(ref)}>", f"</{tag}>"

        def write(out: list[str], entries: Any) -> None:
            if not flattened:
                out.append(opening)
            for name, item in entries.items():
                out.append(f"<{entry}>")
                key(out, name)
                value(out, item)
                out.append(f"</{entry}>")
            if not flattened:
                out.append(closing)

        return write


def _namespace(holder: Ref | Shape) -> str:
    space = holder.xml_namespace
    if not space:
        return ""
    if isinstance(space, str):
        return f' xmlns="{space}"'
    prefix = f":{space['prefix']}" if space.get("prefix") else ""
    return f' xmlns{prefix}="{space.get("uri", "")}"'
