"""Volumes: those of instances, as records. A volume of its own would be a mock: there is no block device behind it."""

from __future__ import annotations

from cloudlet.errors import not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base
from cloudlet.services.ec2.kinds import VOLUME
from cloudlet.services.ec2.operations import describes

_WHY = "volumes are records of instances' root file systems here"


class Volumes(Base):
    """Operations on volumes."""

    DescribeVolumes = describes(VOLUME)

    async def CreateVolume(self, call: Call, input: Input) -> Output:
        raise not_implemented(f"CreateVolume: {_WHY}")

    async def AttachVolume(self, call: Call, input: Input) -> Output:
        raise not_implemented(f"AttachVolume: {_WHY}")
