"""What the operations of every kind of part have in common."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.appmesh.records import KINDS, MESH, Kind, Part, key_of
from cloudlet.store import Database, Resources, Tx

_PAGE = 100

# Says why a part cannot be, or cannot go; looks at other parts through the transaction.
Check = Callable[["Parts", Part], None]


class Parts:
    """The parts of one mesh as a transaction, or the committed state, sees them."""

    def __init__(self, resources: Resources[Part], scope: str, mesh: str, tx: Tx | None = None) -> None:
        self._resources = resources
        self._scope = scope
        self._tx = tx
        self.mesh = mesh

    def get(self, kind: Kind, name: str, parent: str = "") -> Part | None:
        """A part, or None."""
        found = self._resources.get(self._scope, key_of(kind, self.mesh, parent, name), self._tx)
        return found.value if found else None

    def need(self, kind: Kind, name: str, parent: str = "") -> Part:
        """A part. Raises NotFoundException."""
        found = self.get(kind, name, parent)
        if found is None:
            account = self._scope.split("/")[0]
            if kind is MESH:
                raise AwsError("NotFoundException", f"Mesh with name {name} is not present for account {account}")
            where = f"mesh {self.mesh}"
            if kind.parent:
                where = f"{KINDS[kind.parent].label} {parent} of {where}"
            raise AwsError(
                "NotFoundException", f"{kind.label} with name {name} is not present under {where} for account {account}"
            )
        return found

    def list(self, kind: Kind, parent: str = "") -> list[Part]:
        """All parts of a kind, of one router or gateway where it is given."""
        prefix = f"{kind.name}/{self.mesh}/" + (f"{parent}/" if parent else "")
        return [record.value for record in self._resources.list(self._scope, prefix, self._tx)]


class Base(api.Service):
    """The state of the service, and making, changing and deleting a part."""

    name = "appmesh"

    db: Database
    parts: Resources[Part]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("appmesh")
        self.parts = self.db.resources(Part)

    def mesh_changed(self, scope: str, mesh: str) -> None:
        """A part of a mesh is another now."""

    async def make(self, call: Call, kind: Kind, input: Input, check: Check) -> Output:
        """Create a part, or return the one that this very request has made before."""
        names = _names(call, kind, input)
        token = input.get("clientToken", "")
        now, uid = self.clock.now(), str(uuid.uuid4())
        tags = _tags(input.get("tags", []))

        def write(tx: Tx) -> Part:
            parts = self._within(call, kind, names, tx)
            parent = names.get(f"{kind.parent}Name", "")
            name = names[kind.member]
            made = Part(
                *(kind.name, names["meshName"], name, call.account, call.region, uid, now, now),
                *(input.get("spec", {}), parent, 1, token, tags),
            )
            there = parts.get(kind, name, parent)
            if there is not None:
                if token and there.token == token and (there.spec, there.tags) == (made.spec, made.tags):
                    return there
                raise AwsError("ConflictException", f"{kind.label} with name {name} already exists")
            check(parts, made)
            self.parts.put(tx, call.scope, made.key, made, 0)
            return made

        made = await self.db.write(write)
        self.mesh_changed(call.scope, made.mesh)
        return {kind.name: made.description()}

    async def describe(self, call: Call, kind: Kind, input: Input) -> Output:
        """A part as it is."""
        return {kind.name: self._find(call, kind, _names(call, kind, input), None).description()}

    async def change(self, call: Call, kind: Kind, input: Input, check: Check) -> Output:
        """Give a part another specification."""
        names = _names(call, kind, input)
        now = self.clock.now()

        def write(tx: Tx) -> Part:
            old = self._find(call, kind, names, tx)
            made = replace(old, spec=input.get("spec", {}), version=old.version + 1, updated=now)
            check(Parts(self.parts, call.scope, made.mesh, tx), made)
            self.parts.put(tx, call.scope, made.key, made)
            return made

        made = await self.db.write(write)
        self.mesh_changed(call.scope, made.mesh)
        return {kind.name: made.description()}

    async def drop(self, call: Call, kind: Kind, input: Input, check: Check) -> Output:
        """Delete a part that nothing else needs."""
        names = _names(call, kind, input)

        def write(tx: Tx) -> Part:
            old = self._find(call, kind, names, tx)
            check(Parts(self.parts, call.scope, old.mesh, tx), old)
            self.parts.delete(tx, call.scope, old.key)
            return old

        gone = await self.db.write(write)
        self.mesh_changed(call.scope, gone.mesh)
        return {kind.name: gone.description("DELETED")}

    async def page(self, call: Call, kind: Kind, input: Input) -> Output:
        """A page of references, in the order of their names."""
        if kind is MESH:
            found = [record.value for record in self.parts.list(call.scope, "mesh/")]
        else:
            names = _names(call, kind, input)
            parts = self._within(call, kind, names, None)
            found = parts.list(kind, names.get(f"{kind.parent}Name", ""))
        shown, rest = page_of(found, input, _PAGE, lambda part: part.name)
        return {kind.members: [part.reference() for part in shown], **rest}

    def _within(self, call: Call, kind: Kind, names: dict[str, str], tx: Tx | None) -> Parts:
        """The parts of the mesh that a request is about. Raises NotFoundException where it or the parent is missing."""
        parts = Parts(self.parts, call.scope, names["meshName"], tx)
        if kind is not MESH:
            parts.need(MESH, parts.mesh)
        if kind.parent:
            parts.need(KINDS[kind.parent], names[f"{kind.parent}Name"])
        return parts

    def _find(self, call: Call, kind: Kind, names: dict[str, str], tx: Tx | None) -> Part:
        parts = self._within(call, kind, names, tx)
        return parts.need(kind, names[kind.member], names.get(f"{kind.parent}Name", ""))


def page_of(found: list[Any], input: Input, most: int, name: Callable[[Any], str]) -> tuple[list[Any], Output]:
    """The part of a list that a request asks for. A token is the last name of the page before."""
    limit = input.get("limit", most)
    if after := input.get("nextToken"):
        position = next((index for index, one in enumerate(found) if name(one) == after), None)
        if position is None:
            raise AwsError("BadRequestException", "Invalid nextToken")
        found = found[position + 1 :]
    return found[:limit], {"nextToken": name(found[limit - 1])} if len(found) > limit else {}


def _names(call: Call, kind: Kind, input: Input) -> dict[str, str]:
    """The members of a request that name things."""
    if input.get("meshOwner", call.account) != call.account:
        raise not_implemented(f"{call.operation} with a meshOwner that is another account")
    names = {key: value for key, value in input.items() if key.endswith("Name")}
    for key, value in names.items():
        if "/" in value:
            raise AwsError("BadRequestException", f"{key} must not contain '/'")
    return names


def _tags(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in tags}
