"""What a specification names of ACM has to be there, and private, when it is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud
from cloudlet.services.appmesh.world import Spec

_SELF = "appmesh.amazonaws.com"


def certificates(spec: Any) -> Iterator[Spec]:
    """The certificates that a specification names, wherever it does."""
    yield from _members(spec, "certificate")


def trusts(spec: Any) -> Iterator[Spec]:
    """Whom a specification trusts, wherever it does."""
    yield from _members(spec, "trust")


async def check(cloud: Cloud, call: Call, spec: Spec) -> None:
    """Raises BadRequestException for a certificate or an authority that App Mesh cannot use."""

    async def ask(service: str, operation: str, **input: str) -> dict[str, Any]:
        where = {"account": call.account, "region": call.region, "principal": _SELF}
        try:
            return await cloud.call(service, operation, input, **where)
        except AwsError as error:
            raise AwsError("BadRequestException", error.message) from None

    for one in certificates(spec):
        if "acm" in one:
            arn = one["acm"]["certificateArn"]
            found = (await ask("acm", "DescribeCertificate", CertificateArn=arn))["Certificate"]
            if found["Type"] != "PRIVATE" or found["Status"] != "ISSUED":
                raise AwsError(
                    "BadRequestException", f"Certificate {arn} must be issued by a private certificate authority"
                )
    for one in trusts(spec):
        for arn in one.get("acm", {}).get("certificateAuthorityArns", ()):
            found = await ask("acm-pca", "DescribeCertificateAuthority", CertificateAuthorityArn=arn)
            if found["CertificateAuthority"]["Type"] != "ROOT":
                raise AwsError("BadRequestException", f"Certificate authority {arn} must be a root")


def _members(spec: Any, member: str) -> Iterator[Spec]:
    if isinstance(spec, dict):
        if member in spec:
            yield spec[member]
        for part in spec.values():
            yield from _members(part, member)
    elif isinstance(spec, list):
        for part in spec:
            yield from _members(part, member)
