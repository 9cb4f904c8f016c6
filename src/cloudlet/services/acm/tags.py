"""The tags of certificates. A tag may have no value."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.acm.base import Base
from cloudlet.services.acm.records import Certificate
from cloudlet.services.api import Call, Input, Output

_MOST = 50


class Tags(Base):
    """Operations on tags, under their older and their newer names."""

    async def AddTagsToCertificate(self, call: Call, input: Input) -> Output:
        new = checked(input["Tags"])

        def add(found: Certificate) -> Certificate:
            both = found.tags | new
            check_count(both)
            return replace(found, tags=both)

        await self.change(input["CertificateArn"], add)
        return {}

    async def RemoveTagsFromCertificate(self, call: Call, input: Input) -> Output:
        gone = {tag["Key"]: tag.get("Value") for tag in input["Tags"]}

        def remove(found: Certificate) -> Certificate:
            # A tag that is named with a value goes only if it has that value.
            return replace(
                found,
                tags={
                    key: value for key, value in found.tags.items() if key not in gone or gone[key] not in (None, value)
                },
            )

        await self.change(input["CertificateArn"], remove)
        return {}

    async def ListTagsForCertificate(self, call: Call, input: Input) -> Output:
        return {"Tags": shown(self.certificate(input["CertificateArn"]).tags)}

    async def TagResource(self, call: Call, input: Input) -> Output:
        return await self.AddTagsToCertificate(call, {"CertificateArn": input["ResourceArn"], "Tags": input["Tags"]})

    async def UntagResource(self, call: Call, input: Input) -> Output:
        tags = [{"Key": key} for key in input["TagKeys"]]
        return await self.RemoveTagsFromCertificate(call, {"CertificateArn": input["ResourceArn"], "Tags": tags})

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        return {"Tags": shown(self.certificate(input["ResourceArn"]).tags)}


def checked(tags: list[dict[str, Any]]) -> dict[str, str | None]:
    """Tags as they are kept. Raises InvalidTagException, TooManyTagsException."""
    if any(tag["Key"].lower().startswith("aws:") for tag in tags):
        raise AwsError("InvalidTagException", "AWS internal tags cannot be changed with this API")
    kept = {tag["Key"]: tag.get("Value") for tag in tags}
    check_count(kept)
    return kept


def check_count(tags: dict[str, str | None]) -> None:
    """Raises TooManyTagsException."""
    if len(tags) > _MOST:
        text = ", ".join(f"{key}={value or ''}" for key, value in tags.items())
        raise AwsError("TooManyTagsException", f"the TagSet: '{{{text}}}' contains too many Tags")


def shown(tags: dict[str, str | None]) -> list[dict[str, str]]:
    """Tags as they are answered."""
    return [{"Key": key} if value is None else {"Key": key, "Value": value} for key, value in tags.items()]
