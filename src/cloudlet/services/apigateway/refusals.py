"""The gateway's own answers, in its words or in those that the API has set (gateway responses)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from cloudlet.http import Response

if TYPE_CHECKING:
    from cloudlet.services.apigateway.events import Context

# Type -> status, message, x-amzn-errortype. https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
_TYPES = {
    "ACCESS_DENIED": (403, "User is not authorized to access this resource", "AccessDeniedException"),
    "API_CONFIGURATION_ERROR": (500, "Internal server error", "InternalServerErrorException"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, None, "AuthorizerConfigurationException"),
    "AUTHORIZER_FAILURE": (500, None, "AuthorizerConfigurationException"),
    "BAD_REQUEST_BODY": (400, "Invalid request body", "BadRequestException"),
    "BAD_REQUEST_PARAMETERS": (400, "Missing required request parameters", "BadRequestException"),
    "INTEGRATION_FAILURE": (500, "Internal server error", "InternalServerErrorException"),
    "INTEGRATION_TIMEOUT": (504, "Endpoint request timed out", "InternalServerErrorException"),
    "INVALID_API_KEY": (403, "Forbidden", "ForbiddenException"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token", "MissingAuthenticationTokenException"),
    "QUOTA_EXCEEDED": (429, "Limit Exceeded", "LimitExceededException"),
    "THROTTLED": (429, "Too Many Requests", "TooManyRequestsException"),
    "UNAUTHORIZED": (401, "Unauthorized", "UnauthorizedException"),
    "UNSUPPORTED_MEDIA_TYPE": (415, "Unsupported Media Type", "BadRequestException"),
}
_VARIABLE = re.compile(r"\$context\.([A-Za-z.]+)")


class Refused(Exception):
    """The gateway answers by itself; ``kind`` is the gateway response's type."""

    def __init__(self, kind: str, message: str | None = None, status: int | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.message = message
        self.status = status


def plain(status: int, message: str) -> Response:
    """An answer where there is no API to word it."""
    return Response(status, {"content-type": "application/json"}, json.dumps({"message": message}).encode())


def answer(refused: Refused, responses: dict[str, dict[str, Any]], context: Context) -> Response:
    """The answer to a refused request."""
    status, message, error_type = _TYPES[refused.kind]
    status = refused.status or status
    message = refused.message if refused.message is not None else message
    own = responses.get(refused.kind) or responses.get("DEFAULT_4XX" if status < 500 else "DEFAULT_5XX") or {}
    known = {
        "error.message": message or "",
        "error.messageString": json.dumps(message),
        "error.responseType": refused.kind,
        "requestId": context.request_id,
        "extendedRequestId": context.extended_id,
        "identity.sourceIp": context.request.client,
        "stage": context.stage["stageName"],
        "error.validationErrorString": refused.message or "",
    }
    template = (own.get("responseTemplates") or {}).get("application/json", '{"message":$context.error.messageString}')
    body = _VARIABLE.sub(lambda found: known.get(found[1], ""), template)
    headers = {"content-type": "application/json", "x-amzn-errortype": error_type}
    for target, value in (own.get("responseParameters") or {}).items():
        name = target.removeprefix("gatewayresponse.header.").lower()
        headers[name] = value[1:-1] if value.startswith("'") else context.value(value) or ""
    return Response(int(own.get("statusCode") or status), headers, body.encode())
