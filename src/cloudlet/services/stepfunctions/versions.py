"""The operations on versions and aliases."""

from __future__ import annotations

import re

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.stepfunctions.errors import no_machine
from cloudlet.services.stepfunctions.executions import Executions
from cloudlet.services.stepfunctions.machines import named
from cloudlet.services.stepfunctions.pages import paged
from cloudlet.services.stepfunctions.records import Alias
from cloudlet.store import Record, Tx

_ALIAS_NAME = re.compile(r"(?=.*[a-zA-Z_\-.])[a-zA-Z0-9_\-.]{1,80}")


class Versions(Executions):
    """Operations on versions and aliases."""

    async def PublishStateMachineVersion(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineArn"]
        scope, name, _ = named(its_arn)
        now = self.clock.now()

        def publish(tx: Tx) -> int:
            record = self.machines.get(scope, name, tx)
            if record is None:
                raise no_machine(its_arn)
            if (wanted := input.get("revisionId")) and wanted != record.value.revision:
                words = "The current State Machine revision is not the one that was given"
                raise AwsError("ConflictException", f"Failed to publish the State Machine version: '{words}'")
            return self.publish(tx, scope, name, input.get("description", ""), now)

        number = await self.db.write(publish)
        version = self.version_of(scope, name, str(number), its_arn)
        return {"creationDate": version.created, "stateMachineVersionArn": f"{its_arn}:{number}"}

    async def ListStateMachineVersions(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineArn"]
        scope, name, _ = named(its_arn)
        found, token = paged(list(reversed(self.versions.list(scope, f"{name}:"))), input)
        shown = [
            {
                "stateMachineVersionArn": f"{its_arn}:{int(record.name.rpartition(':')[2])}",
                "creationDate": record.value.created,
            }
            for record in found
        ]
        return {"stateMachineVersions": shown, **token}

    async def DeleteStateMachineVersion(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineVersionArn"]
        scope, name, qualifier = named(its_arn)
        if not qualifier.isdigit():
            raise AwsError("ValidationException", f"Invalid Arn: 'Not a state machine version: {its_arn}'")
        number = int(qualifier)

        def delete(tx: Tx) -> None:
            users = [
                record.name.rpartition(":")[2]
                for record in self.aliases.list(scope, f"{name}:", tx)
                if any(version == number for version, _ in record.value.routes)
            ]
            if users:
                listed = ", ".join(users)
                words = "Version to be deleted must not be referenced by an alias. "
                words += f"Current list of aliases referencing this version: [{listed}]"
                raise AwsError("ConflictException", words)
            self.versions.delete(tx, scope, f"{name}:{number:08d}")

        await self.db.write(delete)
        return {}

    # Aliases

    async def CreateStateMachineAlias(self, call: Call, input: Input) -> Output:
        name = input["name"]
        if _ALIAS_NAME.fullmatch(name) is None:
            raise AwsError("InvalidName", f"Invalid Name: '{name}'")
        scope, machine, routes = self._routes(input["routingConfiguration"])
        now = self.clock.now()
        made = Alias(routes, now, now, input.get("description", ""))

        def create(tx: Tx) -> Alias:
            existing = self.aliases.get(scope, f"{machine}:{name}", tx)
            if existing is not None:
                if (existing.value.routes, existing.value.description) != (made.routes, made.description):
                    words = "Failed to create alias because an alias with the same name and a different routing "
                    words += f"configuration already exists: '{name}'"
                    raise AwsError("ConflictException", words)
                return existing.value
            return self.aliases.put(tx, scope, f"{machine}:{name}", made).value

        alias = await self.db.write(create)
        account, region = scope.split("/")
        its_arn = f"arn:aws:states:{region}:{account}:stateMachine:{machine}:{name}"
        return {"stateMachineAliasArn": its_arn, "creationDate": alias.created}

    async def UpdateStateMachineAlias(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineAliasArn"]
        scope, machine, _ = named(its_arn)
        if "description" not in input and "routingConfiguration" not in input:
            raise AwsError(
                "ValidationException", "At least one of description or routingConfiguration must be specified"
            )
        changes: dict[str, object] = {"updated": self.clock.now()}
        if "description" in input:
            changes["description"] = input["description"]
        if "routingConfiguration" in input:
            _, routed, changes["routes"] = self._routes(input["routingConfiguration"])
            if routed != machine:
                raise AwsError(
                    "ValidationException",
                    "The routing configuration must name versions of the alias's own state machine",
                )

        def update(tx: Tx) -> None:
            record = self._alias(its_arn, tx)
            self.aliases.put(tx, scope, record.name, replace(record.value, **changes))

        await self.db.write(update)
        return {"updateDate": changes["updated"]}

    async def DescribeStateMachineAlias(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineAliasArn"]
        record = self._alias(its_arn)
        own = its_arn.rpartition(":")[0]
        output: Output = {
            "stateMachineAliasArn": its_arn,
            "name": record.name.rpartition(":")[2],
            "routingConfiguration": [
                {"stateMachineVersionArn": f"{own}:{version}", "weight": weight}
                for version, weight in record.value.routes
            ],
            "creationDate": record.value.created,
            "updateDate": record.value.updated,
        }
        if record.value.description:
            output["description"] = record.value.description
        return output

    async def ListStateMachineAliases(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineArn"]
        scope, machine, qualifier = named(its_arn)
        self.machine(its_arn)
        own = its_arn.removesuffix(f":{qualifier}") if qualifier else its_arn
        records = [
            record
            for record in self.aliases.list(scope, f"{machine}:")
            if not qualifier or any(str(version) == qualifier for version, _ in record.value.routes)
        ]
        found, token = paged(records, input)
        shown = [
            {
                "stateMachineAliasArn": f"{own}:{record.name.rpartition(':')[2]}",
                "creationDate": record.value.created,
            }
            for record in found
        ]
        return {"stateMachineAliases": shown, **token}

    async def DeleteStateMachineAlias(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineAliasArn"]
        scope, _, _ = named(its_arn)

        def delete(tx: Tx) -> None:
            self.aliases.delete(tx, scope, self._alias(its_arn, tx).name)

        await self.db.write(delete)
        return {}

    def _alias(self, its_arn: str, tx: Tx | None = None) -> Record[Alias]:
        scope, machine, name = named(its_arn)
        record = self.aliases.get(scope, f"{machine}:{name}", tx)
        if record is None:
            raise AwsError("ResourceNotFound", f"Request references a resource that does not exist: '{its_arn}'")
        return record

    def _routes(self, given: list[dict[str, object]]) -> tuple[str, str, list[tuple[int, int]]]:
        """The scope, the machine and the routes of a routing configuration. Raises ValidationException and its like."""
        routes: list[tuple[int, int]] = []
        owners = set()
        for route in given:
            its_arn, weight = str(route["stateMachineVersionArn"]), route["weight"]
            scope, machine, number = named(its_arn)
            if not number.isdigit():
                raise AwsError("ValidationException", f"Routing configuration must have ARNs of versions: '{its_arn}'")
            self.version_of(scope, machine, number, its_arn)
            assert isinstance(weight, int)
            owners.add((scope, machine))
            routes.append((int(number), weight))
        if len(owners) != 1 or len({number for number, _ in routes}) != len(routes):
            raise AwsError(
                "ValidationException", "Routing configuration must have different versions of one state machine"
            )
        if sum(weight for _, weight in routes) != 100:
            raise AwsError("ValidationException", "Sum of routing configuration weights must equal 100")
        scope, machine = owners.pop()
        return scope, machine, routes
