"""Gateway responses: how an API words the answers that the gateway gives by itself. ``refusals.py`` gives them."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.apigateway import patch
from cloudlet.services.apigateway.parts import Shared
from cloudlet.services.apigateway.records import GatewayResponse

_TEMPLATE = '{"message":$context.error.messageString}'
# The types and their statuses. https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
_STATUSES = {
    "ACCESS_DENIED": "403",
    "API_CONFIGURATION_ERROR": "500",
    "AUTHORIZER_CONFIGURATION_ERROR": "500",
    "AUTHORIZER_FAILURE": "500",
    "BAD_REQUEST_BODY": "400",
    "BAD_REQUEST_PARAMETERS": "400",
    "DEFAULT_4XX": "",  # as the error has it
    "DEFAULT_5XX": "",
    "EXPIRED_TOKEN": "403",
    "INTEGRATION_FAILURE": "504",
    "INTEGRATION_TIMEOUT": "504",
    "INVALID_API_KEY": "403",
    "INVALID_SIGNATURE": "403",
    "MISSING_AUTHENTICATION_TOKEN": "403",
    "QUOTA_EXCEEDED": "429",
    "REQUEST_TOO_LARGE": "413",
    "RESOURCE_NOT_FOUND": "404",
    "THROTTLED": "429",
    "UNAUTHORIZED": "401",
    "UNSUPPORTED_MEDIA_TYPE": "415",
    "WAF_FILTERED": "403",
}
_MAPS = ("responseParameters", "responseTemplates")


class GatewayResponses(Shared):
    """The operations on gateway responses."""

    async def PutGatewayResponse(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        members = {key: value for key, value in input.items() if key != "restApiId"}
        name = f"{input['restApiId']}/{input['responseType']}"
        await self.db.write(lambda tx: self.responses.put(tx, call.scope, name, GatewayResponse(members)))
        return self._shown(call, input["restApiId"], input["responseType"])

    async def GetGatewayResponse(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        return self._shown(call, input["restApiId"], input["responseType"])

    async def GetGatewayResponses(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        return {"items": [self._shown(call, input["restApiId"], kind) for kind in _STATUSES]}

    async def UpdateGatewayResponse(self, call: Call, input: Input) -> Output:
        current = await self.GetGatewayResponse(call, input)
        operations = input.get("patchOperations") or []
        for operation in operations:
            _check_patch(current, operation)
        kept = patch.apply(current, operations)
        del kept["defaultResponse"]
        return await self.PutGatewayResponse(call, {**kept, "restApiId": input["restApiId"]})

    async def DeleteGatewayResponse(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        name = f"{input['restApiId']}/{input['responseType']}"
        if self.responses.get(call.scope, name) is None:
            raise AwsError("NotFoundException", "Gateway response type not defined on api")
        await self.db.write(lambda tx: self.responses.delete(tx, call.scope, name))
        return {}

    def _shown(self, call: Call, api_id: str, kind: str) -> dict[str, Any]:
        """A response as the API has it; what it leaves to its DEFAULT_4XX or DEFAULT_5XX is theirs, as in AWS."""
        status = _STATUSES[kind]
        own = self._own(call, api_id, kind)
        general = {} if own else self._own(call, api_id, "DEFAULT_5XX" if status.startswith("5") else "DEFAULT_4XX")
        shown = {
            "responseType": kind,
            "defaultResponse": not own,
            "responseParameters": {},
            "responseTemplates": {"application/json": _TEMPLATE},
            **({"statusCode": status} if status else {}),
        }
        return shown | {key: value for key, value in (own or general).items() if value and key != "responseType"}

    def _own(self, call: Call, api_id: str, kind: str) -> dict[str, Any]:
        record = self.responses.get(call.scope, f"{api_id}/{kind}")
        return record.value.members if record else {}


def _check_patch(current: dict[str, Any], operation: dict[str, Any]) -> None:
    """Judge one patch of a response. Raises BadRequestException and NotFoundException."""
    path, op = operation.get("path", "null"), operation.get("op")
    first, _, name = path.lstrip("/").partition("/")
    if not (first in _MAPS and name) and not (path == "/statusCode" and op == "replace"):
        raise AwsError("BadRequestException", f"Invalid patch path {path}")
    if first in _MAPS and op != "remove" and not operation.get("value"):
        raise AwsError("BadRequestException", f"Invalid null or empty value in {first}")
    if first in _MAPS and op != "add" and name.replace("~1", "/") not in current[first]:
        raise AwsError("NotFoundException", "Invalid parameter name specified")
