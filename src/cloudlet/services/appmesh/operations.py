"""The operations: five for each kind of part, and those on tags."""

from __future__ import annotations

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.appmesh import checks
from cloudlet.services.appmesh.base import Base, page_of
from cloudlet.services.appmesh.records import (
    GATEWAY_ROUTE,
    MESH,
    ROUTE,
    VIRTUAL_GATEWAY,
    VIRTUAL_NODE,
    VIRTUAL_ROUTER,
    VIRTUAL_SERVICE,
    Part,
    key_of_arn,
)
from cloudlet.store import Tx

_MOST_TAGS = 50
_SELF = "appmesh.amazonaws.com"


class Operations(Base):
    """App Mesh's API. What a request says is checked in ``checks.py``."""

    async def CreateMesh(self, call: Call, input: Input) -> Output:
        made = await self.make(call, MESH, input, checks.mesh)
        await self._link_role(call)
        return made

    async def DescribeMesh(self, call: Call, input: Input) -> Output:
        return await self.describe(call, MESH, input)

    async def UpdateMesh(self, call: Call, input: Input) -> Output:
        return await self.change(call, MESH, input, checks.mesh)

    async def DeleteMesh(self, call: Call, input: Input) -> Output:
        return await self.drop(call, MESH, input, checks.mesh_unused)

    async def ListMeshes(self, call: Call, input: Input) -> Output:
        return await self.page(call, MESH, input)

    async def CreateVirtualNode(self, call: Call, input: Input) -> Output:
        return await self.make(call, VIRTUAL_NODE, input, checks.virtual_node)

    async def DescribeVirtualNode(self, call: Call, input: Input) -> Output:
        return await self.describe(call, VIRTUAL_NODE, input)

    async def UpdateVirtualNode(self, call: Call, input: Input) -> Output:
        return await self.change(call, VIRTUAL_NODE, input, checks.virtual_node)

    async def DeleteVirtualNode(self, call: Call, input: Input) -> Output:
        return await self.drop(call, VIRTUAL_NODE, input, checks.virtual_node_unused)

    async def ListVirtualNodes(self, call: Call, input: Input) -> Output:
        return await self.page(call, VIRTUAL_NODE, input)

    async def CreateVirtualService(self, call: Call, input: Input) -> Output:
        return await self.make(call, VIRTUAL_SERVICE, input, checks.virtual_service)

    async def DescribeVirtualService(self, call: Call, input: Input) -> Output:
        return await self.describe(call, VIRTUAL_SERVICE, input)

    async def UpdateVirtualService(self, call: Call, input: Input) -> Output:
        return await self.change(call, VIRTUAL_SERVICE, input, checks.virtual_service)

    async def DeleteVirtualService(self, call: Call, input: Input) -> Output:
        return await self.drop(call, VIRTUAL_SERVICE, input, checks.virtual_service_unused)

    async def ListVirtualServices(self, call: Call, input: Input) -> Output:
        return await self.page(call, VIRTUAL_SERVICE, input)

    async def CreateVirtualRouter(self, call: Call, input: Input) -> Output:
        return await self.make(call, VIRTUAL_ROUTER, input, checks.virtual_router)

    async def DescribeVirtualRouter(self, call: Call, input: Input) -> Output:
        return await self.describe(call, VIRTUAL_ROUTER, input)

    async def UpdateVirtualRouter(self, call: Call, input: Input) -> Output:
        return await self.change(call, VIRTUAL_ROUTER, input, checks.virtual_router_of(input["virtualRouterName"]))

    async def DeleteVirtualRouter(self, call: Call, input: Input) -> Output:
        return await self.drop(call, VIRTUAL_ROUTER, input, checks.virtual_router_unused)

    async def ListVirtualRouters(self, call: Call, input: Input) -> Output:
        return await self.page(call, VIRTUAL_ROUTER, input)

    async def CreateRoute(self, call: Call, input: Input) -> Output:
        return await self.make(call, ROUTE, input, checks.route_of(input["virtualRouterName"]))

    async def DescribeRoute(self, call: Call, input: Input) -> Output:
        return await self.describe(call, ROUTE, input)

    async def UpdateRoute(self, call: Call, input: Input) -> Output:
        return await self.change(call, ROUTE, input, checks.route_of(input["virtualRouterName"]))

    async def DeleteRoute(self, call: Call, input: Input) -> Output:
        return await self.drop(call, ROUTE, input, checks.nothing)

    async def ListRoutes(self, call: Call, input: Input) -> Output:
        return await self.page(call, ROUTE, input)

    async def CreateVirtualGateway(self, call: Call, input: Input) -> Output:
        return await self.make(call, VIRTUAL_GATEWAY, input, checks.virtual_gateway)

    async def DescribeVirtualGateway(self, call: Call, input: Input) -> Output:
        return await self.describe(call, VIRTUAL_GATEWAY, input)

    async def UpdateVirtualGateway(self, call: Call, input: Input) -> Output:
        return await self.change(call, VIRTUAL_GATEWAY, input, checks.virtual_gateway)

    async def DeleteVirtualGateway(self, call: Call, input: Input) -> Output:
        return await self.drop(call, VIRTUAL_GATEWAY, input, checks.virtual_gateway_unused)

    async def ListVirtualGateways(self, call: Call, input: Input) -> Output:
        return await self.page(call, VIRTUAL_GATEWAY, input)

    async def CreateGatewayRoute(self, call: Call, input: Input) -> Output:
        return await self.make(call, GATEWAY_ROUTE, input, checks.gateway_route)

    async def DescribeGatewayRoute(self, call: Call, input: Input) -> Output:
        return await self.describe(call, GATEWAY_ROUTE, input)

    async def UpdateGatewayRoute(self, call: Call, input: Input) -> Output:
        return await self.change(call, GATEWAY_ROUTE, input, checks.gateway_route)

    async def DeleteGatewayRoute(self, call: Call, input: Input) -> Output:
        return await self.drop(call, GATEWAY_ROUTE, input, checks.nothing)

    async def ListGatewayRoutes(self, call: Call, input: Input) -> Output:
        return await self.page(call, GATEWAY_ROUTE, input)

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        tags = list(self._of_arn(call, input["resourceArn"], None).tags.items())
        shown, rest = page_of(tags, input, _MOST_TAGS, lambda tag: tag[0])
        return {"tags": [{"key": key, "value": value} for key, value in shown], **rest}

    async def TagResource(self, call: Call, input: Input) -> Output:
        given = {tag["key"]: tag.get("value", "") for tag in input["tags"]}

        def write(tx: Tx) -> None:
            part = self._of_arn(call, input["resourceArn"], tx)
            tags = {**part.tags, **given}
            if len(tags) > _MOST_TAGS:
                raise AwsError("TooManyTagsException", f"A resource can have at most {_MOST_TAGS} tags")
            self.parts.put(tx, call.scope, part.key, replace(part, tags=tags))

        await self.db.write(write)
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        def write(tx: Tx) -> None:
            part = self._of_arn(call, input["resourceArn"], tx)
            tags = {key: value for key, value in part.tags.items() if key not in input["tagKeys"]}
            self.parts.put(tx, call.scope, part.key, replace(part, tags=tags))

        await self.db.write(write)
        return {}

    def _of_arn(self, call: Call, arn: str, tx: Tx | None) -> Part:
        place = key_of_arn(arn)
        if place is None:
            raise AwsError("BadRequestException", f"Invalid ARN: {arn}")
        found = self.parts.get(*place, tx) if place[0] == call.scope else None
        if found is None:
            raise AwsError("NotFoundException", f"Resource with ARN {arn} is not present for account {call.account}")
        return found.value

    async def _link_role(self, call: Call) -> None:
        """With an account's first mesh App Mesh makes its service-linked role."""
        role = {"AWSServiceName": "appmesh.amazonaws.com"}
        try:
            await self.cloud.call(
                "iam", "CreateServiceLinkedRole", role, account=call.account, region=call.region, principal=_SELF
            )
        except AwsError as error:
            if error.code != "InvalidInput":  # it is there
                raise
