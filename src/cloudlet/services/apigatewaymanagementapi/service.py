"""API Gateway Management API: connections are ``apigatewayv2``'s; their ids are enough to find them."""

from __future__ import annotations

from typing import Any

from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output


class Service(api.Service):
    """Messages to clients of WebSocket APIs."""

    name = "apigatewaymanagementapi"

    async def PostToConnection(self, call: Call, input: Input) -> Output:
        data = input["Data"]
        whole = data if isinstance(data, bytes) else b"".join([chunk async for chunk in data])
        (await self._sockets()).post(input["ConnectionId"], whole)
        return {}

    async def GetConnection(self, call: Call, input: Input) -> Output:
        found: Output = (await self._sockets()).describe(input["ConnectionId"])
        return found

    async def DeleteConnection(self, call: Call, input: Input) -> Output:
        (await self._sockets()).end(input["ConnectionId"])
        return {}

    async def _sockets(self) -> Any:
        gateway: Any = await self.cloud.service("apigatewayv2")
        return gateway.data_plane.sockets
