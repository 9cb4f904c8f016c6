"""Task definitions: registered as revisions of a family, never changed."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import sidecars, validation
from cloudlet.services.ecs.base import Base, client_error, from_tags, last, page, revision_key, to_tags
from cloudlet.services.ecs.records import Family, TaskDefinition
from cloudlet.store import Tx


class Definitions(Base):
    """Operations on task definitions."""

    async def RegisterTaskDefinition(self, call: Call, input: Input) -> Output:
        members = validation.normalized(input)
        if "proxyConfiguration" in input:
            await sidecars.check(self.cloud, members)
        tags = from_tags(input.get("tags"))
        if "tags" in input and not input["tags"]:
            raise client_error("Tags can not be empty.")
        family, now, by = input["family"], self.clock.now(), call.principal

        def work(tx: Tx) -> TaskDefinition:
            known = self.families.get(call.scope, family, tx)
            number = known.value.latest + 1 if known is not None else 1
            made = TaskDefinition(
                {
                    **members,
                    "taskDefinitionArn": self.arn(call.scope, "task-definition", f"{family}:{number}"),
                    "revision": number,
                    "status": "ACTIVE",
                    "registeredAt": now,
                    "registeredBy": by,
                },
                tags,
            )
            self.definitions.put(tx, call.scope, revision_key(family, number), made)
            active = known.value.active + 1 if known is not None else 1
            self.families.put(tx, call.scope, family, Family(number, active))
            return made

        made = await self.db.write(work)
        return {"taskDefinition": _described(made), **({"tags": to_tags(made.tags)} if made.tags else {})}

    async def DescribeTaskDefinition(self, call: Call, input: Input) -> Output:
        found = self.definition(call.scope, input["taskDefinition"])
        if found is None:
            raise client_error("Unable to describe task definition.")
        output: Output = {"taskDefinition": _described(found)}
        if "TAGS" in (input.get("include") or ()) and found.tags:
            output["tags"] = to_tags(found.tags)
        return output

    async def DeregisterTaskDefinition(self, call: Call, input: Input) -> Output:
        family, colon, number = last(input["taskDefinition"]).partition(":")
        if not colon:
            raise client_error("Revision is missing.")
        if not number.isdigit():
            raise client_error(f"Invalid revision number. Number: {number}")
        now = self.clock.now()

        def work(tx: Tx) -> TaskDefinition:
            key = revision_key(family, int(number))
            record = self.definitions.get(call.scope, key, tx)
            if record is None:
                raise client_error("Unable to describe task definition.")
            if record.value.members["status"] != "ACTIVE":
                raise client_error("The specified task definition is inactive. Specify an active task definition.")
            members = {**record.value.members, "status": "INACTIVE", "deregisteredAt": now}
            made = msgspec.structs.replace(record.value, members=members)
            self.definitions.put(tx, call.scope, key, made)
            known = self.families.get(call.scope, family, tx)
            assert known is not None
            self.families.put(tx, call.scope, family, Family(known.value.latest, known.value.active - 1))
            return made

        return {"taskDefinition": _described(await self.db.write(work))}

    async def DeleteTaskDefinitions(self, call: Call, input: Input) -> Output:
        if len(input["taskDefinitions"]) > 10:
            raise AwsError(
                "InvalidParameterException", "A maximum of 10 task definitions can be deleted at the same time."
            )

        def delete(identifier: str, tx: Tx) -> TaskDefinition | str:
            family, _, number = last(identifier).partition(":")
            if not number.isdigit():
                return "The specified task definition identifier is invalid. Specify a valid name or ARN and try again."
            key = revision_key(family, int(number))
            record = self.definitions.get(call.scope, key, tx)
            if record is None:
                return (
                    "The specified task definition does not exist. "
                    "Specify a valid account, family, revision and try again."
                )
            if record.value.members["status"] == "ACTIVE":
                return (
                    "The specified task definition is still in ACTIVE status. "
                    "Please deregister the target and try again."
                )
            used = any(
                task.value.task_definition == record.value.members["taskDefinitionArn"]
                and task.value.status != "STOPPED"
                for task in self.tasks.list(call.scope, "", tx)
            )
            deleted = msgspec.structs.replace(
                record.value, members={**record.value.members, "status": "DELETE_IN_PROGRESS"}
            )
            if used:
                self.definitions.put(tx, call.scope, key, deleted)
            else:
                self.definitions.delete(tx, call.scope, key)
            return deleted

        found, failures = [], []
        for identifier in input["taskDefinitions"]:
            outcome = await self.db.write(functools.partial(delete, identifier))
            if isinstance(outcome, str):
                failures.append({"arn": identifier, "reason": outcome})
            else:
                found.append(_described(outcome))
        return {"taskDefinitions": found, "failures": failures}

    async def ListTaskDefinitions(self, call: Call, input: Input) -> Output:
        family = input.get("familyPrefix")
        wanted = input.get("status") or "ACTIVE"
        found = [
            record.value.members
            for record in self.definitions.list(call.scope, f"{family}:" if family else "")
            if record.value.members["status"] == wanted
        ]
        found.sort(key=lambda one: (one["family"], one["revision"]), reverse=input.get("sort") == "DESC")
        return page("taskDefinitionArns", [one["taskDefinitionArn"] for one in found], input)

    async def ListTaskDefinitionFamilies(self, call: Call, input: Input) -> Output:
        wanted = input.get("status") or "ACTIVE"
        names = [
            record.name
            for record in self.families.list(call.scope, input.get("familyPrefix") or "")
            if wanted == "ALL" or (wanted == "ACTIVE") == (record.value.active > 0)
        ]
        return page("families", names, input)


def _described(definition: TaskDefinition) -> dict[str, Any]:
    return definition.members
