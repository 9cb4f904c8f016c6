"""Resource Groups, as far as groups are questions. Those that services fill (``Configuration``) are refused by name."""

from __future__ import annotations

import dataclasses
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output, Tagged, tags_in
from cloudlet.services.resource_groups import queries
from cloudlet.services.resource_groups.queries import Query
from cloudlet.services.resource_groups.records import Group
from cloudlet.store import Database, Resources, Tx

_PAGE = 50
_SETTINGS = ("Description", "Criticality", "Owner", "DisplayName")


class Service(api.Service):
    """Groups of resources, by their tags or their stack."""

    name = "resource-groups"

    db: Database
    groups: Resources[Group]

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name)
        self.groups = self.db.resources(Group)

    async def CreateGroup(self, call: Call, input: Input) -> Output:
        if "Configuration" in input:
            raise not_implemented("CreateGroup with Configuration")
        if "ResourceQuery" not in input:
            raise not_implemented("CreateGroup without ResourceQuery")
        name, tags = input["Name"], input.get("Tags", {})
        if name.lower().startswith("aws"):
            raise AwsError("BadRequestException", "Group name must not start with 'AWS' or 'aws'.")
        _check_keys(call, tags)
        query = queries.read(input["ResourceQuery"])
        made = Group(call.account, call.region, name, query, _settings(input), tags)

        def create(tx: Tx) -> None:
            if self.groups.get(call.scope, name, tx) is not None:
                raise AwsError("BadRequestException", "Cannot create group: group already exists")
            self.groups.put(tx, call.scope, name, made)

        await self.db.write(create)
        return {"Group": _shown(made), "ResourceQuery": _shown_query(query), "Tags": tags}

    async def GetGroup(self, call: Call, input: Input) -> Output:
        return {"Group": _shown(self._group(call, _asked(input)))}

    async def UpdateGroup(self, call: Call, input: Input) -> Output:
        changed = await self._change(
            call, _asked(input), lambda group: {"settings": {**group.settings, **_settings(input)}}
        )
        return {"Group": _shown(changed)}

    async def DeleteGroup(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> Group:
            group = self._group(call, _asked(input), tx)
            self.groups.delete(tx, call.scope, group.name)
            return group

        return {"Group": _shown(await self.db.write(delete))}

    async def ListGroups(self, call: Call, input: Input) -> Output:
        if input.get("Filters"):
            raise not_implemented("ListGroups with Filters")
        shown = {record.name: _shown(record.value) for record in self.groups.list(call.scope)}
        names, token = _page(list(shown), input)
        arns = [{"GroupName": name, "GroupArn": shown[name]["GroupArn"]} for name in names]
        return {"Groups": [shown[name] for name in names], "GroupIdentifiers": arns, **token}

    async def GetGroupQuery(self, call: Call, input: Input) -> Output:
        group = self._group(call, _asked(input))
        return {"GroupQuery": {"GroupName": group.name, "ResourceQuery": _shown_query(group.query)}}

    async def UpdateGroupQuery(self, call: Call, input: Input) -> Output:
        query = queries.read(input["ResourceQuery"])
        group = await self._change(call, _asked(input), lambda _: {"query": query})
        return {"GroupQuery": {"GroupName": group.name, "ResourceQuery": _shown_query(query)}}

    async def ListGroupResources(self, call: Call, input: Input) -> Output:
        query = self._group(call, _asked(input)).query
        found = await self._found(call, query, input)
        return {**found, "Resources": [{"Identifier": one} for one in found["ResourceIdentifiers"]]}

    async def SearchResources(self, call: Call, input: Input) -> Output:
        return await self._found(call, queries.read(input["ResourceQuery"]), input)

    async def Tag(self, call: Call, input: Input) -> Output:
        _check_keys(call, input["Tags"])
        await self._change(call, input["Arn"], lambda group: {"tags": {**group.tags, **input["Tags"]}})
        return {"Arn": input["Arn"], "Tags": input["Tags"]}

    async def Untag(self, call: Call, input: Input) -> Output:
        gone = input["Keys"]
        await self._change(
            call,
            input["Arn"],
            lambda group: {"tags": {key: value for key, value in group.tags.items() if key not in gone}},
        )
        return {"Arn": input["Arn"], "Keys": gone}

    async def GetTags(self, call: Call, input: Input) -> Output:
        return {"Arn": input["Arn"], "Tags": self._group(call, input["Arn"]).tags}

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self.groups)

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::ResourceGroups::Group", "name": record.name, "arn": record.value.arn}
            for record in self.groups.list(f"{account}/{region}")
        ]

    async def _found(self, call: Call, query: Query, input: Input) -> dict[str, Any]:
        """A page of what a query finds, and what is wrong with it by now."""
        # As on AWS, who asks must be allowed to ask for tags too.
        asks = dataclasses.replace(call, service="resourcegroupstaggingapi", operation="GetResources", request=None)
        await self.cloud.authorize(asks, {})
        wanted = [type for one in input.get("Filters", ()) for type in one["Values"]]
        found = {}
        for resource in await self.cloud.tagged(call.account, call.region):
            identifier = query.finds(resource)
            if identifier is not None and (not wanted or identifier["ResourceType"] in wanted):
                found[resource[0]] = identifier
        arns, token = _page(list(found), input)
        return {"ResourceIdentifiers": [found[arn] for arn in arns], "QueryErrors": await self._errors(query), **token}

    async def _errors(self, query: Query) -> list[dict[str, str]]:
        errors = [
            {"ErrorCode": "RESOURCE_TYPE_NOT_SUPPORTED", "Message": f"The resource type {type} is not supported."}
            for type in query.unknown_types
        ]
        if query.stack:
            status = await self._status(query.stack)
            if status is None:
                words = f"The stack {query.stack} does not exist."
                errors.append({"ErrorCode": "CLOUDFORMATION_STACK_NOT_EXISTING", "Message": words})
            elif status == "DELETE_COMPLETE":
                words = f"The stack {query.stack} is deleted."
                errors.append({"ErrorCode": "CLOUDFORMATION_STACK_INACTIVE", "Message": words})
        return errors

    async def _status(self, stack: str) -> str | None:
        region, account = stack.split(":")[3:5]
        ask = {"StackName": stack}
        try:
            found = await self.cloud.call("cloudformation", "DescribeStacks", ask, account=account, region=region)
        except AwsError:
            return None
        return str(found["Stacks"][0]["StackStatus"])

    def _group(self, call: Call, asked: str, tx: Tx | None = None) -> Group:
        """The group of a name or an ARN. Raises NotFoundException."""
        record = self.groups.get(call.scope, asked.rpartition(":group/")[2], tx)
        if record is None or (asked.startswith("arn:") and record.value.arn != asked):
            raise AwsError("NotFoundException", "Cannot find group.")
        return record.value

    async def _change(self, call: Call, asked: str, change: Any) -> Group:
        def work(tx: Tx) -> Group:
            group = self._group(call, asked, tx)
            return self.groups.put(tx, call.scope, group.name, replace(group, **change(group))).value

        return await self.db.write(work)


def _asked(input: Input) -> str:
    """The group that a request names, in its newer or its older member. Raises BadRequestException."""
    asked = input.get("Group") or input.get("GroupName")
    if not asked:
        raise AwsError("BadRequestException", "Group or GroupName must be specified.")
    return str(asked)


def _settings(input: Input) -> dict[str, Any]:
    return {name: input[name] for name in _SETTINGS if name in input}


def _shown(group: Group) -> dict[str, Any]:
    return {"GroupArn": group.arn, "Name": group.name, **group.settings}


def _shown_query(query: Query) -> dict[str, str]:
    return {"Type": query.type, "Query": query.text}


def _check_keys(call: Call, tags: dict[str, str]) -> None:
    if call.request is not None and any(key.lower().startswith("aws:") for key in tags):
        raise AwsError("BadRequestException", "Tag keys must not start with 'aws:'.")


def _page(names: list[str], input: Input) -> tuple[list[str], dict[str, str]]:
    """A page of sorted names, and the token for the next."""
    try:
        start = urlsafe_b64decode(input.get("NextToken", "")).decode()
    except ValueError:
        raise AwsError("BadRequestException", "NextToken is not valid.") from None
    after = [name for name in names if name > start]
    here = after[: input.get("MaxResults", _PAGE)]
    return here, {"NextToken": urlsafe_b64encode(here[-1].encode()).decode()} if len(here) < len(after) else {}
