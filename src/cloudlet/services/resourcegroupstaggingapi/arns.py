"""ARNs as this API reads them."""

from __future__ import annotations

import re
from typing import NamedTuple

from cloudlet.services.api import GLOBAL_REGION, Call
from cloudlet.services.resourcegroupstaggingapi.errors import invalid

_FORM = re.compile(r"arn:([a-z-]+):([a-z0-9-]+):([a-z0-9-]*):(\d{12})?:(\S.*)", re.DOTALL)
# The type of what has none in its ARN: ``s3:bucket`` is asked for though no bucket's ARN says so.
_ONLY_TYPE = {"s3": "bucket", "sns": "topic", "sqs": "queue"}


class Arn(NamedTuple):
    """An ARN in its parts. ``resource`` is all after the account, without a slash at its beginning."""

    text: str
    service: str
    region: str
    account: str
    resource: str

    @property
    def kind(self) -> str:
        """The first word of the resource: ``instance``, ``hostedzone``; of a resource without a type its name."""
        return re.split("[:/]", self.resource, maxsplit=1)[0]

    @property
    def name(self) -> str:
        """What follows the first word."""
        return self.resource[len(self.kind) + 1 :]

    def is_of(self, wanted: str) -> bool:
        """Whether it is of a type: ``ec2``, ``ec2:instance``, ``elasticloadbalancing:loadbalancer/app``."""
        service, _, type = wanted.partition(":")
        if service != self.service or type in ("", _ONLY_TYPE.get(service)):
            return service == self.service
        type = type.removeprefix("/")
        return self.resource == type or self.resource.startswith((f"{type}/", f"{type}:"))

    def is_in(self, call: Call) -> bool:
        """Whether it is of the caller's account and region; what is in no region is at home in one of them."""
        is_home = self.region == call.region if self.region else self.service == "s3" or call.region == GLOBAL_REGION
        return is_home and self.account in ("", call.account)


def parsed(text: str) -> Arn:
    """An ARN's parts. Raises InvalidParameterException."""
    form = _FORM.fullmatch(text)
    if form is None or (form[2] == "ec2" and "/" not in form[5]):
        raise invalid(f"{text} is not a valid AmazonResourceName (ARN)")
    if form[1] != "aws":
        raise invalid(f"The partition of {text} is not the one of this endpoint.")
    return Arn(text, form[2], form[3], form[4] or "", form[5].removeprefix("/"))
