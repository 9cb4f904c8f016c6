"""The Resource Groups Tagging API. It keeps nothing: every service knows its own tags (ADR 15).

What is tagged is read through ``Service.tagged``; what is changed goes through each service's own operations, which
``dialects.py`` knows, and with the caller's own rights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.resourcegroupstaggingapi import pages
from cloudlet.services.resourcegroupstaggingapi.arns import Arn, parsed
from cloudlet.services.resourcegroupstaggingapi.dialects import Change, dialect_of
from cloudlet.services.resourcegroupstaggingapi.errors import invalid

_PAGE = 50  # resources
_WORDS_PAGE = 1000  # keys or values


class Service(api.Service):
    """The tags of all services."""

    name = "resourcegroupstaggingapi"

    async def GetResources(self, call: Call, input: Input) -> Output:
        _check(input)
        if input.get("IncludeComplianceDetails"):
            raise not_implemented("GetResources with IncludeComplianceDetails, as there are no tag policies")
        now, is_wanted = self.clock.now(), _filter(input)
        start = pages.after(call, input, now)
        found = [
            (arn, tags)
            for arn, tags in await self.cloud.tagged(call.account, call.region)
            if arn > start and is_wanted(arn, tags)
        ]
        page = found if "ResourceARNList" in input else found[: _room(found, input)]
        shown = [
            {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for arn, tags in page
        ]
        next_token = pages.token(call, input, now, page[-1][0]) if len(page) < len(found) else ""
        return {"ResourceTagMappingList": shown, "PaginationToken": next_token}

    async def GetTagKeys(self, call: Call, input: Input) -> Output:
        keys = {key for _, tags in await self.cloud.tagged(call.account, call.region) for key in tags}
        return self._words("TagKeys", keys, call, input)

    async def GetTagValues(self, call: Call, input: Input) -> Output:
        values = {
            tags[input["Key"]] for _, tags in await self.cloud.tagged(call.account, call.region) if input["Key"] in tags
        }
        return self._words("TagValues", values, call, input)

    async def TagResources(self, call: Call, input: Input) -> Output:
        if any(key.lower().startswith("aws:") for key in input["Tags"]):
            raise invalid("aws: prefixed tag key names are not allowed for external use.")
        return await self._change(call, input["ResourceARNList"], Change(added=input["Tags"]))

    async def UntagResources(self, call: Call, input: Input) -> Output:
        if any(key.lower().startswith("aws:") for key in input["TagKeys"]):
            raise invalid("aws: prefixed tag key names are not allowed for external use.")
        return await self._change(call, input["ResourceARNList"], Change(gone=input["TagKeys"]))

    async def _change(self, call: Call, texts: list[str], change: Change) -> Output:
        """Change each resource's tags; what its service refuses is told of it alone."""
        failed = {}
        for arn in [parsed(text) for text in dict.fromkeys(texts)]:
            try:
                await self._change_one(call, arn, change)
            except AwsError as error:
                failed[arn.text] = {
                    "StatusCode": error.status or 400,
                    "ErrorCode": error.code,
                    "ErrorMessage": error.message,
                }
        return {"FailedResourcesMap": failed}

    async def _change_one(self, call: Call, arn: Arn, change: Change) -> None:
        tell = dialect_of(arn)
        if tell is None:
            words = f"Cloudlet does not implement tags of {arn.service}:{arn.kind}."
            raise AwsError("InternalServiceException", words, status=500)
        if not arn.is_in(call):
            raise invalid(f"{arn.text} is not in the account and Region of this request.")

        async def ask(service: str, operation: str, input: Input) -> Output:
            input = self.cloud.conform(service, operation, input)
            own = replace(call, service=service, operation=operation, request=None, headers={})
            await self.cloud.authorize(own, input)
            return await self.cloud.call(
                service, operation, input, account=call.account, region=call.region, principal=call.principal
            )

        await tell(ask, arn, change)

    def _words(self, member: str, words: set[str], call: Call, input: Input) -> Output:
        now = self.clock.now()
        start = pages.after(call, input, now)
        found = sorted(word for word in words if word > start or not start)
        page = found[:_WORDS_PAGE]
        next_token = pages.token(call, input, now, page[-1]) if len(page) < len(found) else ""
        return {member: page, "PaginationToken": next_token}


def _check(input: Input) -> None:
    """Raises InvalidParameterException for what does not go together or is out of range."""
    if "ResourceARNList" in input:
        for member in ("ResourceTypeFilters", "TagFilters", "ResourcesPerPage", "TagsPerPage", "PaginationToken"):
            if input.get(member):
                raise invalid(f"ResourceARNList and {member} cannot be specified in the same request.")
        for text in input["ResourceARNList"]:
            parsed(text)
    for member, least, most in (("ResourcesPerPage", 1, 100), ("TagsPerPage", 100, 500)):
        if not least <= input.get(member, least) <= most:
            raise invalid(f"{member} must be between {least} and {most}.")
    if len(input.get("ResourceTypeFilters", ())) > 100:
        raise invalid("ResourceTypeFilters can have at most 100 items.")
    if any("Key" not in one for one in input.get("TagFilters", ())):
        raise invalid("Each of TagFilters must contain a Key.")
    if input.get("ExcludeCompliantResources") and not input.get("IncludeComplianceDetails"):
        raise invalid("ExcludeCompliantResources can be used only if IncludeComplianceDetails is true.")


def _filter(input: Input) -> Callable[[str, dict[str, str]], bool]:
    """Whether GetResources asks for a resource with these tags."""
    arns, types = input.get("ResourceARNList"), input.get("ResourceTypeFilters")

    def is_wanted(text: str, tags: dict[str, str]) -> bool:
        if arns is not None and text not in arns:
            return False
        if types and not any(parsed(text).is_of(type) for type in types):
            return False
        return all(
            one["Key"] in tags and (not one.get("Values") or tags[one["Key"]] in one["Values"])
            for one in input.get("TagFilters", ())
        )

    return is_wanted


def _room(found: list[tuple[str, dict[str, str]]], input: Input) -> int:
    """How many go onto a page; no resource's tags are split."""
    at_most, tags_left = input.get("ResourcesPerPage", _PAGE), input.get("TagsPerPage")
    if tags_left is None:
        return int(at_most)
    for count, (_, tags) in enumerate(found[:at_most]):
        tags_left -= len(tags)
        if tags_left < 0:
            return count
    return int(at_most)
