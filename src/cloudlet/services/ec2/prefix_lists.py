"""Prefix lists: AWS's own of a region, and the user's."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, filters
from cloudlet.services.ec2.base import Base, new_tags, page
from cloudlet.services.ec2.kinds import PREFIX_LIST, ROUTE_TABLE, RULE
from cloudlet.services.ec2.operations import describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, shown_tags

Entry = dict[str, str]


class PrefixLists(Base):
    """Operations on prefix lists."""

    async def CreateManagedPrefixList(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, PREFIX_LIST)
        family = input["AddressFamily"]
        if family not in ("IPv4", "IPv6"):
            raise invalid(f"Invalid value '{family}' for addressFamily.")
        entries = [_checked(entry, family) for entry in input.get("Entries", [])]
        if len(entries) > input["MaxEntries"]:
            raise AwsError("PrefixListMaxEntriesExceeded", "The prefix list has more entries than its maximum.")

        def work(world: World) -> Output:
            shown = {
                "AddressFamily": family,
                "MaxEntries": input["MaxEntries"],
                "OwnerId": world.account,
                "PrefixListName": input["PrefixListName"],
                "State": "create-complete",
                "Version": 1,
            }
            made = world.make(PREFIX_LIST, shown, tags, {"versions": [entries]})
            made = world.change(made, {"PrefixListArn": world.arn("prefix-list", made.id)})
            return {"PrefixList": {**made.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    DescribeManagedPrefixLists = describes(PREFIX_LIST)

    async def DescribePrefixLists(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        wanted = input.get("PrefixListIds")
        items = [world.get(PREFIX_LIST, id) for id in wanted] if wanted else world.all(PREFIX_LIST, OwnerId="AWS")
        shown = [
            {
                "PrefixListId": item.id,
                "PrefixListName": item.shown["PrefixListName"],
                "Cidrs": [entry["Cidr"] for entry in item.hidden["versions"][-1]],
            }
            for item in items
        ]
        return page("PrefixLists", filters.chosen(shown, input.get("Filters", []), PREFIX_LIST.paths), input)

    async def GetManagedPrefixListEntries(self, call: Call, input: Input) -> Output:
        item = self.world(call.scope).get(PREFIX_LIST, input["PrefixListId"])
        versions, wanted = item.hidden["versions"], input.get("TargetVersion")
        if wanted is not None and not 1 <= wanted <= len(versions):
            raise _no_version(item, wanted)
        return page("Entries", versions[wanted - 1 if wanted else -1], input)

    async def ModifyManagedPrefixList(self, call: Call, input: Input) -> Output:
        gone = {entry["Cidr"] for entry in input.get("RemoveEntries", [])}

        def work(world: World) -> Output:
            item = _own(world, input["PrefixListId"])
            version = item.shown["Version"]
            _check_version(item, input.get("CurrentVersion", version))
            old: list[Entry] = item.hidden["versions"][-1]
            new = [_checked(entry, item.shown["AddressFamily"]) for entry in input.get("AddEntries", [])]
            if both := [entry["Cidr"] for entry in new if entry["Cidr"] in gone]:
                raise invalid(
                    f"Request cannot contain Cidr {both[0]} in both AddPrefixListEntries and RemovePrefixListEntries"
                )
            replaced = gone | {entry["Cidr"] for entry in new}
            entries = [*(entry for entry in old if entry["Cidr"] not in replaced), *new]
            changes: dict[str, Any] = {"State": "modify-complete"}
            changes |= {name: input[name] for name in ("PrefixListName", "MaxEntries") if name in input}
            if len(entries) > changes.get("MaxEntries", item.shown["MaxEntries"]):
                raise AwsError("PrefixListMaxEntriesExceeded", "The prefix list has more entries than its maximum.")
            hidden = None
            if "AddEntries" in input or "RemoveEntries" in input:
                changes["Version"] = version + 1
                hidden = {"versions": [*item.hidden["versions"], entries]}
            item = world.change(item, changes, hidden)
            return {"PrefixList": {**item.shown, "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def RestoreManagedPrefixListVersion(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = _own(world, input["PrefixListId"])
            _check_version(item, input["CurrentVersion"])
            versions = item.hidden["versions"]
            if not 1 <= input["PreviousVersion"] <= len(versions):
                raise _no_version(item, input["PreviousVersion"])
            again = [*versions, versions[input["PreviousVersion"] - 1]]
            item = world.change(item, {"State": "restore-complete", "Version": len(again)}, {"versions": again})
            return {"PrefixList": {**item.shown, "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def GetManagedPrefixListAssociations(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        item = world.get(PREFIX_LIST, input["PrefixListId"])
        users = [rule.shown["GroupId"] for rule in world.all(RULE, PrefixListId=item.id)]
        for table in world.all(ROUTE_TABLE):
            if any(route.get("DestinationPrefixListId") == item.id for route in table.shown["Routes"]):
                users.append(table.id)
        shown = [{"ResourceId": id, "ResourceOwner": world.account} for id in dict.fromkeys(users)]
        return page("PrefixListAssociations", shown, input)

    async def DeleteManagedPrefixList(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = _own(world, input["PrefixListId"])
            routes = (route for table in world.all(ROUTE_TABLE) for route in table.shown["Routes"])
            if world.all(RULE, PrefixListId=item.id) or any(
                route.get("DestinationPrefixListId") == item.id for route in routes
            ):
                # AWS accepts this too; only afterwards the list says that it was not deleted.
                world.change(item, {"State": "delete-failed", "StateMessage": "The prefix list is referenced."})
            else:
                world.delete(item)
            return {"PrefixList": {**item.shown, "State": "delete-in-progress", "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)


def _own(world: World, id: str) -> Item:
    item = world.get(PREFIX_LIST, id)
    if item.shown["OwnerId"] == "AWS":
        raise AwsError("UnauthorizedOperation", "You are not authorized to perform this operation.", status=403)
    return item


def _check_version(item: Item, version: int) -> None:
    if item.shown["Version"] != version:
        raise AwsError(
            "PrefixListVersionMismatch",
            f"The prefix list has the incorrect version number. Current version: {item.shown['Version']}",
        )


def _no_version(item: Item, version: int) -> AwsError:
    return AwsError("InvalidPrefixListVersion.NotFound", f"The version {version} of {item.id} does not exist")


def _checked(entry: dict[str, str], family: str) -> Entry:
    block = cidr.network(entry["Cidr"], "cidr") if family == "IPv4" else cidr.network6(entry["Cidr"])
    return {"Cidr": str(block), **({"Description": entry["Description"]} if "Description" in entry else {})}
