"""What CloudFormation's types of REST APIs share."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Properties, ResourceType, tags_of


class Type(ResourceType):
    """What all types here share: a call, and a deletion that does not mind when it is done already."""

    async def _call(self, do: Deployment, operation: str, **input: Any) -> dict[str, Any]:
        given = {key: value for key, value in input.items() if value is not None}
        return await do.call("apigateway", operation, given)

    async def _gone(self, do: Deployment, operation: str, **input: Any) -> None:
        try:
            await do.call("apigateway", operation, input)
        except AwsError as error:
            if error.code != "NotFoundException":
                raise

    async def _retag(self, do: Deployment, path: str, properties: Properties) -> None:
        """Give a resource the tags that its template has now, and no others."""
        arn, tags = f"arn:aws:apigateway:{do.region}::/{path}", tags_of(do, properties)
        before = (await self._call(do, "GetTags", resourceArn=arn)).get("tags", {})
        if gone := [key for key in before if key not in tags]:
            await self._call(do, "UntagResource", resourceArn=arn, tagKeys=gone)
        if tags and tags != before:
            await self._call(do, "TagResource", resourceArn=arn, tags=tags)


def lower(name: str) -> str:
    """CloudFormation's name of a property as the API's name of it."""
    return name[:1].lower() + name[1:]


def as_text(value: Any) -> str:
    """A value as patches have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
