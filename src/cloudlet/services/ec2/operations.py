"""The operations that most kinds have: one is made, they are described, one is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cloudlet.errors import not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base, Operation, Shown, new_tags
from cloudlet.services.ec2.kinds import Kind
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, shown_tags

_ALWAYS = ("DryRun", "TagSpecifications", "ClientToken")


def creates(kind: Kind, shown: Callable[[World, Input], Members], takes: Iterable[str] = ()) -> Operation:
    """Make one. ``shown`` checks the request and says what the new one shows; it takes no other parameters."""
    taken = (*takes, *_ALWAYS)

    async def create(self: Base, call: Call, input: Input) -> Output:
        refuse_all_but(call, input, *taken)
        tags = new_tags(call, input, kind)
        made = await self.write(call.scope, lambda world: world.make(kind, shown(world, input), tags))
        token = {"ClientToken": input["ClientToken"]} if "ClientToken" in input else {}
        return {kind.noun: {**made.shown, "Tags": shown_tags(tags)}, **token}

    return create


def describes(kind: Kind, present: Callable[[World, Item], Shown] | None = None) -> Operation:
    """Show them all, or those of some ids; ``present`` says what one shows."""

    async def describe(self: Base, call: Call, input: Input) -> Output:
        return self.described(call, input, kind, present)

    return describe


def deletes(kind: Kind, check: Callable[[World, Item], None] = lambda world, item: None) -> Operation:
    """Delete one, unless ``check`` raises what is against it."""

    async def delete(self: Base, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(kind, input[kind.id_member])
            check(world, item)
            # The wire leaves out what the operation's answer has not.
            return {kind.noun: world.retire(kind, item).shown}

        return await self.write(call.scope, work)

    return delete


def refuse_all_but(call: Call, input: Input, *known: str) -> None:
    """Refuse by its name a parameter that has no effect here."""
    for name in input:
        if name not in known:
            raise not_implemented(f"{call.operation} with {name}")
