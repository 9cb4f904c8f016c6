"""What all operations of EC2 stand on."""

from __future__ import annotations

import base64
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import defaults, filters
from cloudlet.services.ec2.kinds import Kind
from cloudlet.services.ec2.records import Begun, Item
from cloudlet.services.ec2.world import STEP, World, invalid, shown_tags
from cloudlet.store import Database, Resources, Tx

T = TypeVar("T")
Operation = Callable[["Base", Call, Input], Awaitable[Output]]
Shown = dict[str, Any]

_MOST_TAGS = 50


class Base(api.Service):
    """The state of the service."""

    name = "ec2"

    db: Database
    items: Resources[Item]
    begun: Resources[Begun]

    def __init_subclass__(cls) -> None:
        # Every operation works on a network that is there, and every one takes DryRun.
        for name, method in list(vars(cls).items()):
            if name[:1].isupper():
                setattr(cls, name, _prepared(method))

    async def start(self) -> None:
        self.db = await self.cloud.store.database("ec2")
        self.items = self.db.resources(Item)
        self.begun = self.db.resources(Begun)

    async def prepare(self, account: str, region: str) -> None:
        """Make the default network of an account in a region, unless that was done."""
        scope = f"{account}/{region}"
        if self.begun.get(scope, "") is None:
            await self.write(scope, lambda world: None if world.is_begun else defaults.make(world, stable=True))

    def world(self, scope: str) -> World:
        """A scope's network as it is committed."""
        return World(self.items, self.begun, scope, self.clock.now())

    async def write(self, scope: str, fn: Callable[[World], T]) -> T:
        """Change a scope's network in one transaction."""
        now = self.clock.now()

        def work(tx: Tx) -> T:
            return fn(World(self.items, self.begun, scope, now, tx))

        return await self.db.write(work)

    def described(
        self,
        call: Call,
        input: Input,
        kind: Kind,
        present: Callable[[World, Item], Shown] | None = None,
        *,
        tags: str = "Tags",
    ) -> Output:
        """The answer of a Describe operation: by ids or all, filtered, in pages. Raises Invalid<Kind>.NotFound.

        ``present`` says what is shown of an item, ``tags`` under which name its tags are.
        """
        world = self.world(call.scope)
        wanted = input.get(kind.ids)
        items = [world.get(kind, id) for id in dict.fromkeys(wanted)] if wanted else world.all(kind)
        given = input.get("Filters", [])
        for filter in given:
            if filter.get("Name") == f"tag:{STEP}":
                items = [one for one in items if one.tags.get(STEP) in filter["Values"] and "gone" not in one.hidden]
                given = [one for one in given if one is not filter]
        show = present or (lambda world, item: item.shown)
        shown = [{**show(world, item), "Tags": shown_tags(item.tags)} for item in items]
        chosen = filters.chosen(shown, given, kind.paths)
        if tags != "Tags":
            chosen = [{**one, tags: one["Tags"]} for one in chosen]
        return page(kind.plural, chosen, input)


def page(output: str, shown: list[Shown], input: Input) -> Output:
    """One page of an answer, and the token of the next. Raises InvalidParameterValue."""
    start = 0
    if token := input.get("NextToken"):
        try:
            start = int(base64.b64decode(token, validate=True))
        except ValueError:
            raise AwsError("InvalidNextToken", f"The token '{token}' is invalid") from None
    end = start + (input.get("MaxResults") or len(shown))
    answer: Output = {output: shown[start:end]}
    if end < len(shown):
        answer["NextToken"] = base64.b64encode(str(end).encode()).decode()
    return answer


def new_tags(call: Call, input: Input, kind: Kind) -> dict[str, str]:
    """The tags that a request gives to what it makes. Raises InvalidParameterValue."""
    tags: dict[str, str] = {}
    for specification in input.get("TagSpecifications", []):
        if not specification.get("ResourceType"):
            raise AwsError("InvalidParameter", "Tag specification resource type must have a value")
        if (type := specification["ResourceType"]) != kind.resource_type:
            raise AwsError("InvalidParameter", f"'{type}' is not a valid taggable resource type for this operation.")
        if not specification.get("Tags"):
            raise AwsError("InvalidParameter", "Tag specification must have at least one tag")
        tags |= {tag["Key"]: tag.get("Value", "") for tag in specification["Tags"]}
    return checked_tags(call, tags)


def checked_tags(call: Call, tags: dict[str, str], before: dict[str, str] | None = None) -> dict[str, str]:
    """These tags over those before. Raises InvalidParameterValue, TagLimitExceeded."""
    # AWS's own tags are set by its own services only.
    if call.request is not None and any(key.lower().startswith("aws:") for key in tags):
        raise invalid("Tag keys starting with 'aws:' are reserved for internal use")
    for key, value in tags.items():
        if not 0 < len(key) <= 127 and not key.startswith("aws:"):
            raise invalid("Tag key exceeds the maximum length of 127 characters")
        if len(value) > 255:
            raise invalid("Tag value exceeds the maximum length of 255 characters")
    both = (before or {}) | tags
    if sum(not key.startswith("aws:") for key in both) > _MOST_TAGS:
        raise AwsError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
    return both


def _prepared(method: Operation) -> Operation:
    @functools.wraps(method)
    async def operation(self: Base, call: Call, input: Input) -> Output:
        if input.get("DryRun"):
            raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", status=412)
        await self.prepare(call.account, call.region)
        return await method(self, call, input)

    return operation
