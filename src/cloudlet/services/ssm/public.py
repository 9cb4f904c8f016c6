"""The public parameters that AWS keeps for everybody: here those of machine images and of FireLens's router."""

from __future__ import annotations

from typing import Any

from cloudlet.services.api import Call, Output
from cloudlet.services.ssm.base import Base, no_such_parameter

PATH = "/aws/service/"
_MODIFIED = 1726521072.0  # when the images' parameters were last changed
_TAGS = ("latest", "stable")
_FLUENT_BIT = "906394416424.dkr.ecr.{region}.amazonaws.com/aws-for-fluent-bit:{tag}"


class Public(Base):
    """Reading public parameters."""

    async def public_parameter(self, call: Call, name: str) -> Output:
        """One of them, perhaps with a version after a colon. Raises ParameterNotFound."""
        plain, _, selector = name.partition(":")
        value = (await self._public(call.region)).get(plain)
        if value is None or selector not in ("", "1"):
            raise no_such_parameter(name)
        return _shown(call, plain, value) | ({"Selector": f":{selector}"} if selector else {})

    async def public_below(self, call: Call, path: str, recursive: bool) -> list[Output]:
        """Those below a path."""
        below = f"{path.rstrip('/')}/"
        found = sorted((await self._public(call.region)).items())
        return [
            _shown(call, name, value)
            for name, value in found
            if name.startswith(below) and (recursive or "/" not in name[len(below) :])
        ]

    async def _public(self, region: str) -> dict[str, str]:
        ec2: Any = await self.cloud.service("ec2")
        parameters: dict[str, str] = ec2.public_parameters(region)
        routers = {f"{PATH}aws-for-fluent-bit/{tag}": _FLUENT_BIT.format(region=region, tag=tag) for tag in _TAGS}
        return parameters | routers


def _shown(call: Call, name: str, value: str) -> Output:
    return {
        "Name": name,
        "Type": "String",
        "Value": value,
        "Version": 1,
        "LastModifiedDate": _MODIFIED,
        "ARN": f"arn:aws:ssm:{call.region}::parameter{name}",
        "DataType": "aws:ec2:image" if value.startswith("ami-") and "/ami-amazon-linux" in name else "text",
    }
