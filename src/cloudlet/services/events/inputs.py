"""What of an event a target gets: the event, a part of it (``InputPath``), a constant, or a template's text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.events.errors import invalid

_STEP = re.compile(r"\.([A-Za-z0-9_\-]+)|\.?\[\s*(?:'([^']*)'|\"([^\"]*)\"|(\d+|\*))\s*\]")
_PLACEHOLDER = re.compile(r"<([A-Za-z0-9_.\-]+)>")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_ABSENT: Any = object()

Values = Callable[[str], Any]


def find(event: Any, path: str) -> Any:
    """What a JSON path selects (dots, brackets, indices, ``[*]``); ``_ABSENT`` when there is nothing."""
    found: Any = event
    for match in _STEP.finditer(path, 1):
        name = match[1] or match[2] or match[3]
        if name is not None:
            found = found.get(name, _ABSENT) if isinstance(found, dict) else _ABSENT
        elif not isinstance(found, list):
            return _ABSENT
        elif match[4] != "*":
            index = int(match[4])
            found = found[index] if index < len(found) else _ABSENT
        if found is _ABSENT:
            return _ABSENT
    return found


def text_at(event: Any, path: str) -> str | None:
    """A selected value as text: a string as it is, others as JSON; None when there is nothing."""
    found = find(event, path)
    if found is _ABSENT:
        return None
    return found if isinstance(found, str) else _encode(found).decode()


def is_path(path: str) -> bool:
    """Whether a JSON path is one that ``find`` can follow."""
    at = 1
    if not path.startswith("$"):
        return False
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return False
        at = match.end()
    return True


def payload(target: dict[str, Any], event: bytes, rule: str, ingested: str) -> str:
    """The text that a target gets for an event (JSON)."""
    if (constant := target.get("Input")) is not None:
        return str(constant)
    if (path := target.get("InputPath")) is not None:
        found = find(_decode(event), path)
        return "" if found is _ABSENT else _encode(found).decode()
    if (transformer := target.get("InputTransformer")) is None:
        return event.decode()
    parsed = _decode(event)
    paths = transformer.get("InputPathsMap", {})
    known = {
        "aws.events.rule-arn": rule,
        "aws.events.rule-name": rule.rpartition("/")[2],
        "aws.events.event.ingestion-time": ingested,
    }

    def value(name: str) -> Any:
        if name in paths:
            return find(parsed, paths[name])
        if name == "aws.events.event.json":
            return parsed
        if name == "aws.events.event":
            return _without_detail(parsed)
        return known.get(name, _ABSENT)

    filled = fill(transformer["InputTemplate"], value)
    if not _is_json(filled) and not all(_is_json(line) for line in filled.splitlines() if line.strip()):
        raise AwsError("InvalidInput", "The input transformer has made something that is not valid JSON.")
    return filled


def _without_detail(event: dict[str, Any]) -> dict[str, Any]:
    """The event as ``<aws.events.event>`` shows it."""
    shown = {"detailType" if name == "detail-type" else name: value for name, value in event.items()}
    return {name: value for name, value in shown.items() if name != "detail"}


def fill(template: str, value: Values) -> str:
    """A template's text. A placeholder in quotes becomes text, another one JSON; nothing becomes an empty text.

    An object or a list in a text that is the whole template or line loses its quotes; in the text of an object it
    keeps them, and what comes out is no JSON: AWS does not deliver it.
    """
    parts: list[str] = []
    is_text = template.lstrip().startswith('"')
    at, quoted = 0, False
    for match in _PLACEHOLDER.finditer(template):
        between = template[at : match.start()]
        quoted ^= len(re.findall(r'(?<!\\)"', between)) % 2 == 1
        found = value(match[1])
        at = match.end()
        parts.append(between)
        if found is _ABSENT:
            parts.append("" if quoted else '""')
        elif not quoted:
            parts.append(_encode(found).decode())
        elif isinstance(found, dict | list):
            text = _encode(found).decode()
            parts.append(text.replace('"', "") if is_text else text)
        else:
            text = found if isinstance(found, str) else _encode(found).decode()
            parts.append(_encode(text).decode()[1:-1])
    parts.append(template[at:])
    return "".join(parts)


def check(target: dict[str, Any]) -> None:
    """Check how a target wants its input. Raises ValidationException."""
    id = target["Id"]
    if sum(name in target for name in ("Input", "InputPath", "InputTransformer")) > 1:
        raise invalid(f"Only one of Input, InputPath, or InputTransformer must be provided for target {id}.")
    if (constant := target.get("Input")) is not None and not _is_json(constant):
        raise invalid(f"JSON syntax error in input for target {id}.")
    if (path := target.get("InputPath")) is not None and not is_path(path):
        raise invalid(f"Parameter {path} is not valid. Reason: InputPath of target {id} is not a valid JSON path.")
    if (transformer := target.get("InputTransformer")) is None:
        return
    for name, path in transformer.get("InputPathsMap", {}).items():
        if name.lower().startswith("aws"):
            raise invalid(f"InputPathsMap of target {id} has a reserved name: {name}.")
        if not is_path(path):
            raise invalid(
                f"Parameter {path} is not valid. Reason: InputPathsMap of target {id} has no valid JSON path."
            )
    template = transformer["InputTemplate"]
    for name in _PLACEHOLDER.findall(template):
        if name not in transformer.get("InputPathsMap", {}) and not name.startswith("aws.events."):
            raise invalid(f"InputTemplate for target {id} contains invalid placeholder {name}.")
    sample = fill(template, lambda name: "x")
    if not _is_json(sample) and not all(_is_json(line) for line in sample.splitlines() if line.strip()):
        raise invalid(f"Invalid InputTemplate for target {id} : it is neither a JSON object nor lines of JSON strings.")


def _is_json(text: str) -> bool:
    try:
        _decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return False
    return True
