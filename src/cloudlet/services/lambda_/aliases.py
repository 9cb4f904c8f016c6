"""Aliases, permissions, tags, concurrency: what belongs to a function beside its versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_.base import new_revision, no_such, not_found, stale
from cloudlet.services.lambda_.code import invalid
from cloudlet.services.lambda_.provisioned import Provisioned
from cloudlet.services.lambda_.records import ACCOUNT_CONCURRENCY, LATEST, Alias, Mapping, Settings
from cloudlet.store import Record

_UNRESERVED = 100  # of the account's thousand, what must stay for functions without a reservation
_MAPPING = ":event-source-mapping:"
_TAGGABLE = (
    r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:"
    r"(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}"
    r"|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|capacity-provider:[a-zA-Z0-9-_]+)"
)


class Aliases(Provisioned):
    """The operations on them."""

    async def CreateAlias(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        self._check_versions(scope, name, input)
        key = f"{name}/{input['Name']}"
        if self.aliases.get(scope, key) is not None:
            arn = self.arn(scope, name, input["Name"])
            raise AwsError("ResourceConflictException", f"Alias already exists: {arn}", status=409, Type="User")
        members = _alias_of({"Description": ""}, input)
        members["AliasArn"] = self.arn(scope, name, input["Name"])
        await self.db.write(lambda tx: self.aliases.put(tx, scope, key, Alias(members)))
        return members

    async def GetAlias(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        return self._alias(scope, name, input["Name"])

    async def ListAliases(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        found = [record.value.members for record in self.aliases.list(scope, f"{name}/")]
        wanted = input.get("FunctionVersion")
        return self.page("Aliases", [one for one in found if wanted in (None, one["FunctionVersion"])], input)

    async def UpdateAlias(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        record = self.aliases.get(scope, f"{name}/{input['Name']}")
        if record is None:
            raise not_found(f"Alias not found: {self.arn(scope, name, input['Name'])}")
        current = record.value.members
        if input.get("RevisionId") not in (None, current["RevisionId"]):
            raise stale()
        self._check_versions(scope, name, {**current, **input})
        members = _alias_of(current, input)
        await self.db.write(lambda tx: self.aliases.put(tx, scope, f"{name}/{input['Name']}", Alias(members)))
        self.provision_later(scope, name, input["Name"], before=current["FunctionVersion"])
        return members

    async def DeleteAlias(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        await self.db.write(lambda tx: self.aliases.delete(tx, scope, f"{name}/{input['Name']}"))
        return {}

    def _alias(self, scope: str, name: str, alias: str) -> dict[str, Any]:
        record = self.aliases.get(scope, f"{name}/{alias}")
        if record is None:
            raise not_found(f"Cannot find alias arn: {self.arn(scope, name, alias)}")
        return record.value.members

    def _check_versions(self, scope: str, name: str, input: Input) -> None:
        weights = (input.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        if len(weights) > 1:
            raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
        if (own := input["FunctionVersion"]) in weights:
            raise invalid(
                f"Invalid function version {own}. Function version {own} is already included in routing configuration."
            )
        for number in (input["FunctionVersion"], *weights):
            if number != LATEST and not number.isdigit():
                raise invalid(f"Function alias can only point to a version, not {number}.")
            if self.versions.get(scope, f"{name}:{number}") is None:
                raise no_such(self.arn(scope, name, number))
        if weights and LATEST in (input["FunctionVersion"], *weights):
            raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")

    # Permissions

    async def AddPermission(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        self.function(call, input)
        self._check_policy(scope, name, qualifier, input)
        statement = _statement(input, self.arn(scope, name, qualifier))

        def change(settings: Settings) -> Settings:
            statements = settings.statements.get(qualifier, [])
            if any(known["Sid"] == input["StatementId"] for known in statements):
                words = (
                    f"The statement id ({input['StatementId']}) provided already exists. Please provide a new "
                    "statement id, or remove the existing statement."
                )
                raise AwsError("ResourceConflictException", words, status=409, Type="User")
            return replace(settings, statements={**settings.statements, qualifier: [*statements, statement]})

        await self.alter(scope, name, change)
        return {"Statement": json.dumps(statement)}

    async def RemovePermission(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        if self.settings.get(scope, name) is None:
            raise not_found(f"No policy found for: {self.arn(scope, name)}")
        self._check_policy(scope, name, qualifier, input)

        def change(settings: Settings) -> Settings:
            statements = settings.statements.get(qualifier, [])
            kept = [statement for statement in statements if statement["Sid"] != input["StatementId"]]
            if not statements:
                raise not_found("No policy is associated with the given resource.")
            if len(kept) == len(statements):
                raise not_found(f"Statement {input['StatementId']} is not found in resource policy.")
            return replace(settings, statements={**settings.statements, qualifier: kept})

        await self.alter(scope, name, change)
        return {}

    async def GetPolicy(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        record = self.settings.get(scope, name)
        statements = record.value.statements.get(qualifier) if record is not None else None
        if not statements:
            raise not_found()
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
        return {"Policy": json.dumps(policy), "RevisionId": self._policy_revision(scope, name, qualifier)}

    def _check_policy(self, scope: str, name: str, qualifier: str, input: Input) -> None:
        """A policy can be had by what the qualifier names, and is as the caller knows it. Raises as Lambda does."""
        if qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        if input.get("RevisionId") not in (None, self._policy_revision(scope, name, qualifier)):
            raise stale("GetPolicy")

    def _policy_revision(self, scope: str, name: str, qualifier: str) -> str:
        """The RevisionId of the alias or version that a policy is of. Raises ResourceNotFoundException."""
        if qualifier and qualifier != LATEST and not qualifier.isdigit():
            found: str = self._alias(scope, name, qualifier)["RevisionId"]
        else:
            found = self.version(scope, name, qualifier).value.members["RevisionId"]
        return found

    # Tags

    async def TagResource(self, call: Call, input: Input) -> Output:
        if _MAPPING in input["Resource"]:
            await self._tag_mapping(call, input["Resource"], lambda tags: {**tags, **input["Tags"]})
            return {}
        scope, name, _ = self._tagged_function(call, input["Resource"])
        await self.alter(scope, name, lambda now: replace(now, tags={**now.tags, **input["Tags"]}))
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        if _MAPPING in input["Resource"]:
            gone = set(input["TagKeys"])
            await self._tag_mapping(
                call, input["Resource"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
            )
            return {}
        scope, name, _ = self._tagged_function(call, input["Resource"])
        gone = set(input["TagKeys"])

        def change(settings: Settings) -> Settings:
            return replace(settings, tags={key: value for key, value in settings.tags.items() if key not in gone})

        await self.alter(scope, name, change)
        return {}

    async def ListTags(self, call: Call, input: Input) -> Output:
        if _MAPPING in input["Resource"]:
            return {"Tags": self._tagged_mapping(call, input["Resource"]).value.tags}
        return {"Tags": self._tagged_function(call, input["Resource"])[2].tags}

    def _tagged_function(self, call: Call, arn: str) -> tuple[str, str, Settings]:
        if ":function:" not in arn:
            words = (
                f"1 validation error detected: Value '{arn}' at 'resource' failed to satisfy constraint: Member must "
                f"satisfy regular expression pattern: {_TAGGABLE}"
            )
            raise AwsError("ValidationException", words, status=400)
        if self.named(call, {"FunctionName": arn})[2]:
            raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        return self.function(call, {"FunctionName": arn})

    async def _tag_mapping(self, call: Call, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        record = self._tagged_mapping(call, arn)
        changed = replace(record.value, tags=change(record.value.tags))
        await self.db.write(lambda tx: self.mappings.put(tx, call.scope, record.name, changed))

    def _tagged_mapping(self, call: Call, arn: str) -> Record[Mapping]:
        record = self.mappings.get(call.scope, arn.rsplit(":", 1)[1])
        if record is None:
            raise not_found(f"Event source mapping not found: {arn}")
        return record

    # Concurrency

    async def PutFunctionConcurrency(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        wanted = input["ReservedConcurrentExecutions"]
        taken = sum(record.value.reserved or 0 for record in self.settings.list(scope) if record.name != name)
        if taken + wanted > ACCOUNT_CONCURRENCY - _UNRESERVED:
            raise invalid(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{_UNRESERVED}]."
            )
        await self.alter(scope, name, lambda now: replace(now, reserved=wanted))
        self.reserved.clear()
        return {"ReservedConcurrentExecutions": wanted}

    async def GetFunctionConcurrency(self, call: Call, input: Input) -> Output:
        _, _, settings = self.function(call, input)
        return {} if settings.reserved is None else {"ReservedConcurrentExecutions": settings.reserved}

    async def DeleteFunctionConcurrency(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        await self.alter(scope, name, lambda now: replace(now, reserved=None))
        self.reserved.clear()
        return {}

    async def GetAccountSettings(self, call: Call, input: Input) -> Output:
        latest = [one for one in self.versions.list(call.scope) if one.value.members["Version"] == LATEST]
        reserved = sum(record.value.reserved or 0 for record in self.settings.list(call.scope))
        return {
            "AccountLimit": {
                "TotalCodeSize": 80530636800,
                "CodeSizeUnzipped": 262144000,
                "CodeSizeZipped": 52428800,
                "ConcurrentExecutions": ACCOUNT_CONCURRENCY,
                "UnreservedConcurrentExecutions": ACCOUNT_CONCURRENCY - reserved,
            },
            "AccountUsage": {
                "TotalCodeSize": sum(one.value.members["CodeSize"] for one in latest),
                "FunctionCount": len(latest),
            },
        }

    # What functions have whether they use it or not

    async def GetFunctionCodeSigningConfig(self, call: Call, input: Input) -> Output:
        _, name, _ = self.function(call, input)
        return {"FunctionName": name}

    async def GetRuntimeManagementConfig(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        _, _, settings = self.function(call, input)
        return {
            "UpdateRuntimeOn": "Auto",
            **settings.runtime_management,
            "FunctionArn": self.arn(scope, name, qualifier or LATEST),
        }

    async def PutRuntimeManagementConfig(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        kept: dict[str, Any] = {key: input[key] for key in ("UpdateRuntimeOn", "RuntimeVersionArn") if key in input}
        await self.alter(scope, name, lambda now: replace(now, runtime_management=kept))
        return {**kept, "FunctionArn": self.arn(scope, name, LATEST)}

    async def GetFunctionRecursionConfig(self, call: Call, input: Input) -> Output:
        return {"RecursiveLoop": self.function(call, input)[2].recursion}

    async def PutFunctionRecursionConfig(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        await self.alter(scope, name, lambda now: replace(now, recursion=input["RecursiveLoop"]))
        return {"RecursiveLoop": input["RecursiveLoop"]}


def _alias_of(before: dict[str, Any], input: Input) -> dict[str, Any]:
    """An alias as a request makes it, of what it was before; without weights it has no RoutingConfig."""
    own = ("Name", "FunctionVersion", "Description", "RoutingConfig")
    members = {**before, **{key: input[key] for key in own if key in input}, "RevisionId": new_revision()}
    if not members.get("RoutingConfig", {}).get("AdditionalVersionWeights"):
        members.pop("RoutingConfig", None)
    return members


def _statement(input: Input, resource: str) -> dict[str, Any]:
    principal = input["Principal"]
    kind = "Service" if principal.endswith((".amazonaws.com", ".amazon.com")) else "AWS"
    if kind == "AWS" and principal.isdigit():
        principal = f"arn:aws:iam::{principal}:root"
    conditions: dict[str, dict[str, Any]] = {}
    if "SourceAccount" in input:
        conditions.setdefault("StringEquals", {})["AWS:SourceAccount"] = input["SourceAccount"]
    if "PrincipalOrgID" in input:
        conditions.setdefault("StringEquals", {})["aws:PrincipalOrgID"] = input["PrincipalOrgID"]
    if "EventSourceToken" in input:
        conditions.setdefault("StringEquals", {})["lambda:EventSourceToken"] = input["EventSourceToken"]
    if "FunctionUrlAuthType" in input:
        conditions.setdefault("StringEquals", {})["lambda:FunctionUrlAuthType"] = input["FunctionUrlAuthType"]
    if "InvokedViaFunctionUrl" in input:
        by_url = "true" if input["InvokedViaFunctionUrl"] else "false"
        conditions.setdefault("Bool", {})["lambda:InvokedViaFunctionUrl"] = by_url
    if "SourceArn" in input:
        conditions.setdefault("ArnLike", {})["AWS:SourceArn"] = input["SourceArn"]
    return {
        "Sid": input["StatementId"],
        "Effect": "Allow",
        "Principal": "*" if principal == "*" else {kind: principal},
        "Action": input["Action"],
        "Resource": resource,
        **({"Condition": conditions} if conditions else {}),
    }
