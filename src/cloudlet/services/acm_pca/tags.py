"""The tags of authorities."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.acm_pca.base import Base, checked_tags, page
from cloudlet.services.acm_pca.records import CertificateAuthority
from cloudlet.services.api import Call, Input, Output

_MOST = 50


class Tags(Base):
    """Operations on tags."""

    async def TagCertificateAuthority(self, call: Call, input: Input) -> Output:
        new = checked_tags(input["Tags"])

        def add(found: CertificateAuthority) -> dict[str, Any]:
            both = found.tags | new
            if len(both) > _MOST:
                raise AwsError("TooManyTagsException", f"A certificate authority has at most {_MOST} tags.")
            return {"tags": both}

        await self.change(input["CertificateAuthorityArn"], add)
        return {}

    async def UntagCertificateAuthority(self, call: Call, input: Input) -> Output:
        gone = {tag["Key"]: tag.get("Value") for tag in input["Tags"]}

        def remove(found: CertificateAuthority) -> dict[str, Any]:
            # A tag that is named with a value goes only if it has that value.
            left = {key: value for key, value in found.tags.items() if gone.get(key, "\0") not in (None, value)}
            return {"tags": left}

        await self.change(input["CertificateAuthorityArn"], remove)
        return {}

    async def ListTags(self, call: Call, input: Input) -> Output:
        tags = self.authority(input["CertificateAuthorityArn"]).tags
        return page("Tags", [{"Key": key, "Value": value} for key, value in tags.items()], input)
