"""What templates and parameter mappings can see: $input, $context, $util, $stageVariables.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote_plus, unquote, unquote_plus

from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.java import from_json, printed
from cloudlet.services.apigateway.velocity import TemplateError, render

_MISSING = object()


def context_of(context: Context) -> dict[str, Any]:
    """$context as templates, parameter mappings and access logs know it."""
    request, stage, resource = context.request, context.stage["stageName"], context.resource or {}
    return {
        "accountId": context.account,
        "apiId": context.api_id,
        "authorizer": dict(context.authorizer or {}),
        "domainName": request.host,
        "domainPrefix": request.host.split(".")[0],
        "extendedRequestId": context.extended_id,
        "httpMethod": request.method,
        "identity": {
            "accountId": "",
            "apiKey": context.api_key or "",
            "apiKeyId": context.api_key_id or "",
            "sourceIp": request.client,
            "userAgent": request.headers.get("user-agent", ""),
        },
        "path": f"/{stage}{unquote(context.path)}",
        "protocol": "HTTP/1.1",
        "requestId": context.request_id,
        "requestTime": datetime.fromtimestamp(context.now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "requestTimeEpoch": int(context.now * 1000),
        "resourceId": resource.get("id", ""),
        "resourcePath": resource.get("path", ""),
        "stage": stage,
        "isCanaryRequest": context.canary,
    }


class Mapper:
    """The mappings of one request; what a template sets in $context (overrides) holds for the rest of its way."""

    def __init__(self, context: Context) -> None:
        self._request = context.request
        self._stage = context.stage
        self.parameters = {
            "path": dict(context.parameters),
            "querystring": dict(parse_qsl(context.request.query, keep_blank_values=True)),
            "header": {name.decode("latin-1").title(): v.decode("latin-1") for name, v in context.request.raw_headers},
        }
        self.body = context.body
        self.context = context_of(context)

    def template(self, source: str, body: bytes) -> str:
        """The text that a template makes of a body. Raises TemplateError."""
        text = body.decode("utf-8", "replace")
        document = _document(text)

        def look(path: str) -> Any:
            found = _at(document, path)
            return None if found is _MISSING else found

        def as_json(path: str) -> str:
            found = _at(document, path)
            return '""' if found is _MISSING else json.dumps(found, ensure_ascii=False, separators=(",", ":"))

        scope: dict[str, Any] = {
            "input": {"body": text, "json": as_json, "path": look, "params": self._params},
            "context": self.context,
            "stageVariables": dict(self._stage.get("variables") or {}),
            "util": _UTIL,
        }
        return render(source, scope)

    def _params(self, name: str | None = None) -> Any:
        if name is None:
            return self.parameters
        for place in ("path", "querystring", "header"):
            found = self.parameters[place].get(name)
            if found is not None:
                return found
        return self._request.headers.get(name.lower(), "")

    def value(self, source: str, headers: dict[str, str] | None = None, body: bytes = b"") -> str | None:
        """What a parameter mapping's source means; ``headers`` and ``body`` are the integration's response's."""
        if source.startswith("'"):
            return source[1:-1]
        root, _, rest = source.partition(".")
        if root == "stageVariables":
            return _text((self._stage.get("variables") or {}).get(rest))
        if root == "context":
            return _text(_dotted(self.context, rest))
        if source.startswith("method.request."):
            place, _, name = source.removeprefix("method.request.").partition(".")
            return self._of_request(place, name)
        if source.startswith("integration.response."):
            place, _, name = source.removeprefix("integration.response.").partition(".")
            if place in ("header", "multivalueheader"):
                return (headers or {}).get(name.lower())
            return _of_body(body, name)
        return None

    def _of_request(self, place: str, name: str) -> str | None:
        if place in ("header", "multivalueheader"):
            return self._request.headers.get(name.lower())
        if place in ("querystring", "multivaluequerystring"):
            return self.parameters["querystring"].get(name)
        if place == "path":
            return self.parameters["path"].get(name)
        return _of_body(self.body, name)

    def override(self, kind: str, place: str) -> dict[str, str]:
        """What a template has set as $context.requestOverride.header.X and its like."""
        found = _dotted(self.context, f"{kind}.{place}")
        return {name: printed(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _of_body(body: bytes, path: str) -> str | None:
    if not path:
        return body.decode("utf-8", "replace")
    found = _at(_document(body.decode("utf-8", "replace")), path if path.startswith("$") else f"$.{path}")
    return None if found is _MISSING else _text(found)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else printed(value)


def _dotted(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _document(text: str) -> Any:
    try:
        return from_json(json.loads(text)) if text.strip() else {}
    except (ValueError, RecursionError):
        return text


def _at(document: Any, path: str) -> Any:
    """What a JSONPath finds: one value, or the list of all for one with wildcards."""
    from cloudlet.services import jsonpath

    if path in ("", "$"):
        return document
    try:
        return from_json(jsonpath.compile_path(path).value(jsonpath.Scope(document, {}, {})))
    except jsonpath.NotFound:
        return _MISSING
    except jsonpath.BadPath as error:
        raise TemplateError(f"{path} is not a JSONPath: {error}") from None


def _escaped(text: Any) -> str:
    """A text as it may stand in a JavaScript string."""
    out = []
    for char in printed(text):
        if char in "\"'\\/":
            out.append("\\" + char)
        elif (short := {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)) is not None:
            out.append(short)
        elif " " <= char <= "~":
            out.append(char)
        else:
            out.append("".join(f"\\u{unit:04X}" for unit in _utf16(char)))
    return "".join(out)


def _utf16(char: str) -> list[int]:
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


_UTIL = {
    "escapeJavaScript": _escaped,
    "parseJson": lambda text: from_json(json.loads(text)),
    "urlEncode": lambda text: quote_plus(printed(text)),
    "urlDecode": lambda text: unquote_plus(printed(text)),
    "base64Encode": lambda text: base64.b64encode(printed(text).encode()).decode(),
    "base64Decode": lambda text: base64.b64decode(printed(text)).decode("utf-8", "replace"),
}
