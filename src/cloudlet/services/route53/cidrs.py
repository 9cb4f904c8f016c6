"""CIDR collections: blocks of addresses by location, which records may be chosen by."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.pages import page_at
from cloudlet.services.route53 import errors
from cloudlet.services.route53.base import limit, plain
from cloudlet.services.route53.records import CidrCollection
from cloudlet.services.route53.recordsets import RecordSets
from cloudlet.store import Tx

_LONGEST = {4: 24, 6: 48}  # prefixes, as Route 53 takes them
_BLOCKS_AT_MOST = 1000


class CidrCollections(RecordSets):
    """The life of collections."""

    async def CreateCidrCollection(self, call: Call, input: Input) -> Output:
        made = CidrCollection(str(uuid.uuid4()), call.account, input["Name"], input["CallerReference"], 1)

        def create(tx: Tx) -> CidrCollection:
            for record in self._cidrs.list(call.account, tx=tx):
                if record.value.name == made.name:
                    if record.value.caller_reference == made.caller_reference:
                        return record.value
                    raise AwsError(
                        "CidrCollectionAlreadyExistsException",
                        "A CIDR collection with this name and a different caller reference already exists in this "
                        "account.",
                    )
            self._cidrs.put(tx, call.account, made.id, made)
            return made

        collection = await self._db.write(create)
        self.index.blocks.put(collection)
        location = f"https://route53.amazonaws.com/2013-04-01/cidrcollection/{collection.id}"
        return {"Collection": _shown(collection), "Location": location}

    async def ChangeCidrCollection(self, call: Call, input: Input) -> Output:
        now = self.clock.now()

        def change(tx: Tx) -> tuple[CidrCollection, Output]:
            collection = self._cidr(call, input["Id"], tx)
            if input.get("CollectionVersion", collection.version) != collection.version:
                raise AwsError(
                    "CidrCollectionVersionMismatchException",
                    "The CIDR collection version you provided, doesn't match the one in the ListCidrCollections "
                    "operation.",
                )
            locations = {name: list(blocks) for name, blocks in collection.locations.items()}
            for one in input["Changes"]:
                _apply(locations, one)
            if sum(map(len, locations.values())) > _BLOCKS_AT_MOST:
                raise AwsError("LimitsExceeded", f"A CIDR collection has {_BLOCKS_AT_MOST} blocks at most.")
            changed = replace(collection, locations=locations, version=collection.version + 1)
            self._cidrs.put(tx, call.account, collection.id, changed)
            return changed, self._change(tx, now)

        collection, info = await self._db.write(change)
        self.index.blocks.put(collection)
        return {"Id": plain(info["Id"])}

    async def DeleteCidrCollection(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> None:
            collection = self._cidr(call, input["Id"], tx)
            if collection.locations:
                raise AwsError("CidrCollectionInUseException", "This CIDR collection is in use, and isn't empty.")
            self._cidrs.delete(tx, call.account, collection.id)

        await self._db.write(delete)
        self.index.blocks.remove(input["Id"])
        return {}

    async def ListCidrCollections(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self._cidrs.list(call.account)]
        return _page(input, "CidrCollections", [_shown(one) for one in found])

    async def ListCidrLocations(self, call: Call, input: Input) -> Output:
        locations = self._cidr(call, input["CollectionId"]).locations
        return _page(input, "CidrLocations", [{"LocationName": name} for name in sorted(locations)])

    async def ListCidrBlocks(self, call: Call, input: Input) -> Output:
        locations = self._cidr(call, input["CollectionId"]).locations
        if (wanted := input.get("LocationName")) is not None and wanted not in locations:
            raise AwsError(
                "NoSuchCidrLocationException",
                "The CIDR collection location doesn't match any locations in your account.",
            )
        names = sorted(locations) if wanted is None else [wanted]
        blocks = [{"CidrBlock": block, "LocationName": name} for name in names for block in locations[name]]
        return _page(input, "CidrBlocks", blocks)

    def _cidr(self, call: Call, id: str, tx: Tx | None = None) -> CidrCollection:
        record = self._cidrs.get(call.account, id, tx)
        if record is None:
            raise AwsError("NoSuchCidrCollectionException", "The CIDR collection you specified, doesn't exist.")
        return record.value


def _apply(locations: dict[str, list[str]], change: dict[str, Any]) -> None:
    """Put blocks into a location, or take them away; what is left without blocks is no location."""
    name, blocks = change["LocationName"], [_block(text) for text in change["CidrList"]]
    there = locations.setdefault(name, [])
    for block in blocks:
        if change["Action"] == "DELETE_IF_EXISTS":
            if block in there:
                there.remove(block)
            continue
        if any(block in others for other, others in locations.items() if other != name):
            raise AwsError("CidrBlockInUseException", f"The CIDR block {block} is already in use.")
        if block not in there:
            there.append(block)
    there.sort()
    if not there:
        del locations[name]


def _block(text: str) -> str:
    try:
        block = ipaddress.ip_network(text)
    except ValueError:
        raise errors.invalid(f"Invalid CIDR block: {text}") from None
    if not 1 <= block.prefixlen <= _LONGEST[block.version]:
        words = f"/1 to /{_LONGEST[block.version]}"
        raise errors.invalid(f"Invalid CIDR block: {text}. IPv{block.version} blocks must be {words}.")
    return str(block)


def _page(input: Input, member: str, items: list[Output]) -> Output:
    """A page of a list; its token is the place of the next."""
    token = input.get("NextToken")
    refusal = errors.invalid(f"Invalid value for NextToken: {token}")
    return page_at(member, items, token, limit(input, "MaxResults"), refusal, "NextToken")


def _shown(one: CidrCollection) -> Output:
    return {
        "Arn": f"arn:aws:route53:::cidrcollection/{one.id}",
        "Id": one.id,
        "Name": one.name,
        "Version": one.version,
    }
