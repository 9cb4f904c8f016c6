"""Execution logs: what became of a request, for stages whose methods have a logging level.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html
"""

from __future__ import annotations

from cloudlet.http import Response
from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.refusals import Refused

_LONGEST = 1024  # bytes of a body that are shown, as AWS has it


def lines(context: Context, response: Response, refused: Refused | None) -> list[str]:
    """The lines of one request: all of them at INFO, of failed ones at ERROR, none where nothing is asked for."""
    level = context.settings.get("loggingLevel", "OFF")
    failed = refused is not None or response.status >= 500
    if level not in ("INFO", "ERROR") or (level == "ERROR" and not failed):
        return []
    traces = context.settings.get("dataTraceEnabled")
    path = (context.resource or {}).get("path", context.path)
    told = [
        f"Extended Request Id: {context.extended_id}",
        f"Starting execution for request: {context.request_id}",
        f"HTTP Method: {context.request.method}, Resource Path: {path}",
    ]
    if traces:
        told += [
            f"Method request path: {_map(context.parameters)}",
            f"Method request query string: {_map(dict(context.request.params()))}",
            f"Method request headers: {_map(context.request.headers)}",
            f"Method request body before transformations: {_shown(context.body)}",
        ]
    if refused is not None:
        told.append(f"Execution failed due to {refused.message or refused.kind}")
    else:
        if traces and isinstance(response.body, bytes):
            told.append(f"Method response body after transformations: {_shown(response.body)}")
        if traces:
            told.append(f"Method response headers: {_map(response.headers)}")
        told.append("Successfully completed execution")
    told.append(f"Method completed with status: {response.status}")
    return [f"({context.request_id}) {line}" for line in told]


def _map(values: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}={_hidden(name, value)}" for name, value in values.items()) + "}"


def _hidden(name: str, value: str) -> str:
    """A credential is shown by its end alone."""
    return "*" * 10 + value[-6:] if name.lower() in ("authorization", "x-api-key", "x-amz-security-token") else value


def _shown(body: bytes) -> str:
    text = body[:_LONGEST].decode(errors="replace")
    return text + " [TRUNCATED]" if len(body) > _LONGEST else text
