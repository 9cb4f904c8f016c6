"""The operations: five for each kind of part, and those on tags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.appmesh import checks, material
from cloudlet.services.appmesh.base import Base, page_of
from cloudlet.services.appmesh.records import (
    GATEWAY_ROUTE,
    MESH,
    ROUTE,
    VIRTUAL_GATEWAY,
    VIRTUAL_NODE,
    VIRTUAL_ROUTER,
    VIRTUAL_SERVICE,
    Kind,
    Part,
    key_of_arn,
)
from cloudlet.store import Tx

_MOST_TAGS = 50
_SELF = "appmesh.amazonaws.com"


Operation = Callable[[Any, Call, Input], Awaitable[Output]]


def _five(kind: Kind) -> tuple[Operation, Operation, Operation, Operation, Operation]:
    """The operations that create, describe, update and delete a part of a kind, and list them."""
    valid, unused = checks.VALID[kind], checks.UNUSED[kind]

    async def create(self: Base, call: Call, input: Input) -> Output:
        await material.check(self.cloud, call, input.get("spec", {}))
        return await self.make(call, kind, input, valid)

    async def describe(self: Base, call: Call, input: Input) -> Output:
        return await self.describe(call, kind, input)

    async def update(self: Base, call: Call, input: Input) -> Output:
        await material.check(self.cloud, call, input.get("spec", {}))
        return await self.change(call, kind, input, valid)

    async def delete(self: Base, call: Call, input: Input) -> Output:
        return await self.drop(call, kind, input, unused)

    async def list(self: Base, call: Call, input: Input) -> Output:
        return await self.page(call, kind, input)

    return create, describe, update, delete, list


class Operations(Base):
    """App Mesh's API. What a request says is checked in ``checks.py``."""

    _create_mesh, DescribeMesh, UpdateMesh, DeleteMesh, ListMeshes = _five(MESH)
    CreateVirtualNode, DescribeVirtualNode, UpdateVirtualNode, DeleteVirtualNode, ListVirtualNodes = _five(VIRTUAL_NODE)
    CreateVirtualService, DescribeVirtualService, UpdateVirtualService, DeleteVirtualService, ListVirtualServices = (
        _five(VIRTUAL_SERVICE)
    )
    CreateVirtualRouter, DescribeVirtualRouter, UpdateVirtualRouter, DeleteVirtualRouter, ListVirtualRouters = _five(
        VIRTUAL_ROUTER
    )
    CreateRoute, DescribeRoute, UpdateRoute, DeleteRoute, ListRoutes = _five(ROUTE)
    CreateVirtualGateway, DescribeVirtualGateway, UpdateVirtualGateway, DeleteVirtualGateway, ListVirtualGateways = (
        _five(VIRTUAL_GATEWAY)
    )
    CreateGatewayRoute, DescribeGatewayRoute, UpdateGatewayRoute, DeleteGatewayRoute, ListGatewayRoutes = _five(
        GATEWAY_ROUTE
    )

    async def CreateMesh(self, call: Call, input: Input) -> Output:
        made = await self._create_mesh(call, input)
        await self._link_role(call)
        return made

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
