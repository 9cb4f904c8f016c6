"""The operations on state machines."""

from __future__ import annotations

import re
import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output, arn
from cloudlet.services.stepfunctions.definition import Machine, diagnose, every_state, parse
from cloudlet.services.stepfunctions.engine import Engine, scope_of
from cloudlet.services.stepfunctions.errors import invalid_arn, invalid_name, no_machine
from cloudlet.services.stepfunctions.maps import check_mode
from cloudlet.services.stepfunctions.pages import paged
from cloudlet.services.stepfunctions.records import Revision, StateMachine, Version
from cloudlet.store import Record, Tx

_BAD_NAME = re.compile(r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]")
_MACHINE_ARN = re.compile(r"arn:aws[\w-]*:states:[\w-]+:\d{12}:stateMachine:([^:]+)(?::([^:]+))?")


class Machines(Engine):
    """Operations on state machines."""

    async def CreateStateMachine(self, call: Call, input: Input) -> Output:
        name, kind = input["name"], input.get("type", "STANDARD")
        check_name(name)
        role = _role(input["roleArn"])
        self._checked(input["definition"], kind)
        now, id, revision_id = self.clock.now(), uuid.uuid4().hex, str(uuid.uuid4())
        revision = Revision(id, input["definition"], role, _logging(input), _tracing(input), now)
        tags = {tag["key"]: tag.get("value", "") for tag in input.get("tags", [])}
        machine = StateMachine(id, kind, now, revision_id, encryption_of(input), tags)
        if input.get("versionDescription") and not input.get("publish"):
            raise AwsError("ValidationException", "Version description can only be set when publish is true")
        its_arn = arn("states", call, f"stateMachine:{name}")

        def create(tx: Tx) -> tuple[StateMachine, int | None]:
            if (existing := self.machines.get(call.scope, name, tx)) is not None:
                return self._created_again(tx, call.scope, existing.value, machine, revision, its_arn), None
            self.revisions.put(tx, call.scope, revision_id, revision)
            self.machines.put(tx, call.scope, name, machine)
            if not input.get("publish"):
                return machine, None
            return machine, self.publish(tx, call.scope, name, input.get("versionDescription", ""), now)

        made, version = await self.db.write(create)
        output: Output = {"stateMachineArn": its_arn, "creationDate": made.created}
        if version is not None:
            output["stateMachineVersionArn"] = f"{its_arn}:{version}"
        return output

    def _created_again(
        self, tx: Tx, scope: str, existing: StateMachine, wanted: StateMachine, revision: Revision, its_arn: str
    ) -> StateMachine:
        """Creating is idempotent as long as definition, type, logging and tracing are the same."""
        own = self.revisions.get(scope, existing.revision, tx)
        plain = {"machine": "", "updated": 0.0, "role": ""}
        same = own is not None and replace(own.value, **plain) == replace(revision, **plain)
        if not same or existing.kind != wanted.kind:
            raise AwsError("StateMachineAlreadyExists", f"State Machine Already Exists: '{its_arn}'")
        return existing

    async def UpdateStateMachine(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = named(input["stateMachineArn"])
        record = self.machine(input["stateMachineArn"])
        if qualifier:
            raise AwsError("ValidationException", "Updating an alias or a version is not supported")
        wanted = ("definition", "roleArn", "loggingConfiguration", "tracingConfiguration", "encryptionConfiguration")
        if not any(key in input for key in (*wanted, "publish")):
            raise AwsError(
                "MissingRequiredParameter",
                "Either the definition, the role ARN, the LoggingConfiguration, the EncryptionConfiguration or the "
                "TracingConfiguration must be specified",
            )
        if "definition" in input:
            self._checked(input["definition"], record.value.kind)
        if "roleArn" in input:
            _role(input["roleArn"])
        now, id = self.clock.now(), str(uuid.uuid4())

        def update(tx: Tx) -> tuple[str, int | None]:
            machine = self._present(tx, scope, name, input["stateMachineArn"])
            own = self.revisions.get(scope, machine.revision, tx)
            assert own is not None
            changed = replace(
                own.value,
                definition=input.get("definition", own.value.definition),
                role=input.get("roleArn", own.value.role),
                logging=_logging(input) if "loggingConfiguration" in input else own.value.logging,
                tracing=_tracing(input) if "tracingConfiguration" in input else own.value.tracing,
            )
            encryption = encryption_of(input) if "encryptionConfiguration" in input else machine.encryption
            revision_id = machine.revision
            # Every update makes a revision, also one that changes nothing.
            if any(key in input for key in wanted):
                revision_id = id
                self.revisions.put(tx, scope, id, replace(changed, updated=now))
                self.machines.put(tx, scope, name, replace(machine, revision=id, encryption=encryption))
            if not input.get("publish"):
                return revision_id, None
            return revision_id, self.publish(tx, scope, name, input.get("versionDescription", ""), now)

        revision_id, version = await self.db.write(update)
        output: Output = {"updateDate": now, "revisionId": revision_id}
        if version is not None:
            output["stateMachineVersionArn"] = f"{input['stateMachineArn']}:{version}"
        return output

    async def DeleteStateMachine(self, call: Call, input: Input) -> Output:
        """Its executions are ended and forgotten with it."""
        scope, name, qualifier = named(input["stateMachineArn"])
        if qualifier:
            raise AwsError("ValidationException", "Deleting an alias or a version needs its own operation")

        def delete(tx: Tx) -> str:
            record = self.machines.get(scope, name, tx)
            if record is None:
                return ""
            self.machines.delete(tx, scope, name)
            for kind in (self.versions, self.aliases):
                for found in kind.list(scope, f"{name}:", tx):
                    kind.delete(tx, scope, found.name)
            return record.value.id

        if id := await self.db.write(delete):
            for run in list(self.running.values()):
                if run.journal.body.machine_arn == input["stateMachineArn"]:
                    run.stop("ABORTED")
            self.cloud.spawn(self.sweep(scope, id), f"stepfunctions sweeps {name}")
        return {}

    async def DescribeStateMachine(self, call: Call, input: Input) -> Output:
        its_arn = input["stateMachineArn"]
        scope, name, qualifier = named(its_arn)
        record = self.machine(its_arn)
        machine, revision_id, version = record.value, record.value.revision, None
        if qualifier:
            version = self.version_of(scope, name, qualifier, its_arn)
            revision_id = version.revision
        own = self.revisions.get(scope, revision_id)
        assert own is not None
        output: Output = {
            "stateMachineArn": its_arn,
            "name": name,
            "status": "ACTIVE",
            "definition": own.value.definition,
            "roleArn": own.value.role,
            "type": machine.kind,
            "creationDate": version.created if version is not None else machine.created,
            "loggingConfiguration": own.value.logging or {"level": "OFF", "includeExecutionData": False},
            "tracingConfiguration": {"enabled": own.value.tracing},
            "encryptionConfiguration": machine.encryption or {"type": "AWS_OWNED_KEY"},
        }
        if revision_id != self._first_revision(machine, own) or version is not None:
            output["revisionId"] = revision_id
        if version is not None and version.description:
            output["description"] = version.description
        if references := variable_references(own.value.definition, machine.kind):
            output["variableReferences"] = references
        if input.get("includedData") == "METADATA_ONLY":
            output["definition"] = ""
        return output

    def _first_revision(self, machine: StateMachine, own: Record[Revision]) -> str:
        """AWS gives the first revision no id, as long as nothing has been published."""
        return machine.revision if own.value.updated == machine.created and not machine.last_version else ""

    async def ListStateMachines(self, call: Call, input: Input) -> Output:
        found, token = paged(self.machines.list(call.scope), input)
        shown = [
            {
                "stateMachineArn": arn("states", call, f"stateMachine:{record.name}"),
                "name": record.name,
                "type": record.value.kind,
                "creationDate": record.value.created,
            }
            for record in found
        ]
        return {"stateMachines": shown, **token}

    async def ValidateStateMachineDefinition(self, call: Call, input: Input) -> Output:
        _, problems = diagnose(input["definition"], input.get("type", "STANDARD"))
        shown = [
            {
                "severity": problem.severity,
                "code": problem.code,
                "message": problem.message,
                **({"location": problem.location} if problem.location else {}),
            }
            for problem in problems
            if problem.severity == "ERROR" or input.get("severity") == "WARNING"
        ]
        most = input.get("maxResults") or 100
        failed = any(problem.severity == "ERROR" for problem in problems)
        output: Output = {"result": "FAIL" if failed else "OK", "diagnostics": shown[:most]}
        if len(shown) > most:
            output["truncated"] = True
        return output

    # What other operations use

    def machine(self, its_arn: str) -> Record[StateMachine]:
        """The machine of an ARN, also of a version or an alias. Raises InvalidArn and StateMachineDoesNotExist."""
        scope, name, _ = named(its_arn)
        record = self.machines.get(scope, name)
        if record is None:
            raise no_machine(its_arn)
        return record

    def version_of(self, scope: str, name: str, qualifier: str, its_arn: str) -> Version:
        """The version of a number. Raises StateMachineDoesNotExist."""
        record = self.versions.get(scope, f"{name}:{int(qualifier):08d}") if qualifier.isdigit() else None
        if record is None:
            raise no_machine(its_arn)
        return record.value

    def publish(self, tx: Tx, scope: str, name: str, description: str, now: float) -> int:
        """Publish the latest revision; the number of its version, an old one where it was published already."""
        record = self.machines.get(scope, name, tx)
        assert record is not None
        machine = record.value
        latest = self.versions.get(scope, f"{name}:{machine.last_version:08d}", tx)
        if latest is not None and latest.value.revision == machine.revision:
            return machine.last_version
        number = machine.last_version + 1
        self.versions.put(tx, scope, f"{name}:{number:08d}", Version(machine.revision, now, description))
        self.machines.put(tx, scope, name, replace(machine, last_version=number))
        return number

    def _present(self, tx: Tx, scope: str, name: str, its_arn: str) -> StateMachine:
        record = self.machines.get(scope, name, tx)
        if record is None:
            raise no_machine(its_arn)
        return record.value

    def _checked(self, definition: str, kind: str) -> Machine:
        """The machine of a definition. Raises InvalidDefinition, and NotImplemented for what Cloudlet cannot run."""
        machine = parse(definition, kind)
        for state in every_state(machine):
            if state.type == "Map":
                check_mode(state.fields)
        return machine


def variable_references(definition: str, kind: str) -> dict[str, list[str]]:
    """The variables that each state names."""
    machine, _ = diagnose(definition, kind)
    found: dict[str, list[str]] = {}
    for state in every_state(machine) if machine is not None else []:
        own = {
            key: value for key, value in state.fields.items() if key not in ("Branches", "ItemProcessor", "Iterator")
        }
        if names := sorted(_names(own, state.jsonata)):
            found[state.name] = names
    return found


def _names(value: Any, jsonata: bool, path: bool = False) -> set[str]:
    if isinstance(value, dict):
        return {
            name
            for key, item in value.items()
            for name in _names(item, jsonata, key.endswith(("Path", ".$")) or key == "Variable")
        }
    if isinstance(value, list):
        return {name for item in value for name in _names(item, jsonata, path)}
    if not isinstance(value, str):
        return set()
    if jsonata:
        return set(re.findall(r"\$([A-Za-z_]\w*)(?![\w(])", value)) - {"states"} if value.startswith("{%") else set()
    return set(re.findall(r"(?<![\w$])\$([A-Za-z_]\w*)", value)) if path else set()


def named(its_arn: str) -> tuple[str, str, str]:
    """The scope, the name and the qualifier of a state machine's ARN. Raises InvalidArn."""
    match = _MACHINE_ARN.fullmatch(its_arn)
    if match is None:
        raise invalid_arn(
            its_arn,
            "Resource type not valid in this context" if its_arn.startswith("arn:aws") else "Invalid ARN prefix",
        )
    return scope_of(its_arn), match[1], match[2] or ""


def check_name(name: str) -> None:
    """Raises InvalidName."""
    if not 1 <= len(name) <= 80 or _BAD_NAME.search(name):
        raise invalid_name(name)


def _role(role: str) -> str:
    if re.fullmatch(r"arn:aws[\w-]*:iam::\d{12}:role/.+", role) is None:
        raise AwsError("InvalidArn", f"Invalid Role Arn: '{role}'")
    return role


def _logging(input: Input) -> dict[str, Any]:
    configuration: dict[str, Any] = input.get("loggingConfiguration") or {}
    if configuration.get("level", "OFF") != "OFF":
        groups = [
            destination.get("cloudWatchLogsLogGroup", {}).get("logGroupArn", "")
            for destination in configuration.get("destinations", [])
        ]
        if (
            len(groups) != 1
            or re.fullmatch(r"arn:aws[\w-]*:logs:[\w-]+:\d{12}:log-group:[^:]+(:\*)?", groups[0]) is None
        ):
            raise AwsError(
                "InvalidLoggingConfiguration",
                "Invalid Logging Configuration: Must specify exactly one Log Destination.",
            )
    return configuration


def _tracing(input: Input) -> bool:
    return bool((input.get("tracingConfiguration") or {}).get("enabled", False))


def encryption_of(input: Input) -> dict[str, Any]:
    """The encryption configuration. Raises NotImplemented for a key of the customer's."""
    configuration: dict[str, Any] = input.get("encryptionConfiguration") or {}
    if configuration.get("type") == "CUSTOMER_MANAGED_KMS_KEY":
        raise not_implemented("state machines and activities with the encryption type CUSTOMER_MANAGED_KMS_KEY")
    return configuration
