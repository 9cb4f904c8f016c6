"""Operations that read parameters."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ssm import filters, public, records, rules
from cloudlet.services.ssm.base import arn_of, find, no_such_parameter, read_token, token_of
from cloudlet.services.ssm.public import Public
from cloudlet.services.ssm.records import Parameter, Version, path_of
from cloudlet.store import Tx

_PAGE = 10
_HISTORY_PAGE = 50
_VERSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_SECRETS = "/aws/reference/secretsmanager/"


class Reading(Public):
    """Operations that change nothing."""

    async def GetParameter(self, call: Call, input: Input) -> Output:
        name, decrypt = input["Name"], input.get("WithDecryption", False)
        if name.startswith(_SECRETS):
            return {"Parameter": await self._secret(call, name, decrypt)}
        if name.startswith(public.PATH):
            return {"Parameter": await self.public_parameter(call, name)}
        found = await self.db.read(lambda tx: find(tx, call.scope, name))
        if found is None:
            raise no_such_parameter(name)
        _, version, selector = found
        shown = await self._shown(call, version, selector, decrypt)
        # The answer has the name as it was asked for, with the slash at its head or without.
        return {"Parameter": shown if name.startswith("arn:") else {**shown, "Name": name.strip().partition(":")[0]}}

    async def GetParameters(self, call: Call, input: Input) -> Output:
        names, decrypt = list(dict.fromkeys(input["Names"])), input.get("WithDecryption", False)
        shown: list[Output] = []
        invalid: list[str] = []
        for name in names:
            try:
                output = await self.GetParameter(call, {"Name": name, "WithDecryption": decrypt})
                shown.append(output["Parameter"])
            except AwsError as error:
                if error.code not in ("ParameterNotFound", "ParameterVersionNotFound"):
                    raise
                invalid.append(name)
        return {"Parameters": shown, "InvalidParameters": invalid}

    async def GetParametersByPath(self, call: Call, input: Input) -> Output:
        path = input["Path"]
        rules.check_path(path)
        recursive, limit = input.get("Recursive", False), input.get("MaxResults", _PAGE)
        after = read_token(input["NextToken"]) if "NextToken" in input else ""
        below = f"{path.rstrip('/')}/"
        if below.startswith(public.PATH):
            known = await self.public_below(call, path, recursive)
            rest = [one for one in known if one["Name"] > after]
            more = {"NextToken": token_of(rest[limit - 1]["Name"])} if len(rest) > limit else {}
            return {"Parameters": rest[:limit], **more}
        labels = [each["Values"] for each in input.get("ParameterFilters", []) if each["Key"] == "Label"]

        def has_label(tx: Tx, path: str, wanted: list[str]) -> bool:
            return any(label in wanted for label in records.labels(tx, call.scope, path))

        def look(tx: Tx) -> list[tuple[str, Version]]:
            wanted = filters.of_path(
                input.get("ParameterFilters", []), lambda path, any_of: has_label(tx, path, any_of)
            )
            found = records.listed(tx, call.scope, after, below)
            here = (each for each in found if (recursive or "/" not in each.path[len(below) :]) and wanted(each))
            return [self._labelled(tx, call, each, labels) for each in itertools.islice(here, limit + 1)]

        page = await self.db.scan(look)
        decrypt = input.get("WithDecryption", False)
        output: Output = {"Parameters": [await self._shown(call, version, "", decrypt) for _, version in page[:limit]]}
        return output | ({"NextToken": token_of(page[limit - 1][0])} if len(page) > limit else {})

    def _labelled(self, tx: Tx, call: Call, parameter: Parameter, wanted: list[list[str]]) -> tuple[str, Version]:
        """The version that a label is on, where the request asks for one, else the newest."""
        if wanted:
            for label, number in records.labels(tx, call.scope, parameter.path).items():
                if label in wanted[0] and (found := records.version(tx, call.scope, parameter.path, number)):
                    return parameter.path, found
        return parameter.path, parameter.latest

    async def DescribeParameters(self, call: Call, input: Input) -> Output:
        if input.get("Shared"):
            raise not_implemented("DescribeParameters with Shared")
        if "Filters" in input and "ParameterFilters" in input:
            raise rules.validation("You can use either Filters or ParameterFilters in a single request.")
        wanted = filters.compiled(input.get("Filters") or input.get("ParameterFilters") or [])
        limit = input.get("MaxResults", _PAGE)
        after = read_token(input["NextToken"]) if "NextToken" in input else ""

        def look(tx: Tx) -> list[Parameter]:
            found = (each for each in records.listed(tx, call.scope, after) if wanted(each))
            return list(itertools.islice(found, limit + 1))

        page = await self.db.scan(look)
        output: Output = {"Parameters": [_described(call, each.latest) for each in page[:limit]]}
        return output | ({"NextToken": token_of(page[limit - 1].path)} if len(page) > limit else {})

    async def GetParameterHistory(self, call: Call, input: Input) -> Output:
        name, limit = input["Name"].strip(), input.get("MaxResults", _HISTORY_PAGE)
        rules.check_readable(name)
        after = int(read_token(input["NextToken"]) or 0) if "NextToken" in input else 0
        versions, labels = await self.db.scan(
            lambda tx: (records.history(tx, call.scope, path_of(name)), records.labels(tx, call.scope, path_of(name)))
        )
        if not versions:
            raise no_such_parameter(name)
        decrypt = input.get("WithDecryption", False)
        left = [version for version in versions if version.number > after]
        shown = []
        for version in left[:limit]:
            entry = _described(call, version)
            del entry["ARN"]
            entry["Value"] = await self.shown_value(call, version, decrypt)
            entry["Labels"] = sorted(label for label, number in labels.items() if number == version.number)
            shown.append(entry)
        output: Output = {"Parameters": shown}
        return output | ({"NextToken": token_of(str(left[limit - 1].number))} if len(left) > limit else {})

    async def _shown(self, call: Call, version: Version, selector: str, decrypt: bool) -> Output:
        shown: dict[str, Any] = {
            "Name": version.name,
            "Type": version.type,
            "Value": await self.shown_value(call, version, decrypt),
            "Version": version.number,
            "LastModifiedDate": version.modified,
            "ARN": arn_of(call, version.name),
            "DataType": version.data_type,
        }
        return shown | ({"Selector": selector} if selector else {})

    async def _secret(self, call: Call, name: str, decrypt: bool) -> Output:
        """A secret of Secrets Manager, which can be read as if it were a parameter."""
        if not decrypt:
            raise rules.validation("WithDecryption flag must be True for retrieving a Secret Manager secret.")
        secret, _, selector = name.removeprefix(_SECRETS).partition(":")
        which = "VersionId" if _VERSION_ID.match(selector) else "VersionStage"
        input = {"SecretId": secret} | ({which: selector} if selector else {})
        try:
            found = await self.cloud.call(
                "secretsmanager",
                "GetSecretValue",
                input,
                account=call.account,
                region=call.region,
                principal=call.principal,
            )
        except AwsError as error:
            if error.code == "ResourceNotFoundException":
                raise AwsError(
                    "ParameterNotFound",
                    f"An error occurred (ParameterNotFound) when referencing Secrets Manager: Secret {name} not found.",
                ) from None
            raise
        source = {
            key if key == "ARN" else key[0].lower() + key[1:]: value
            for key, value in found.items()
            if isinstance(value, str | float | list)
        }
        return {
            "Name": name,
            "Type": "SecureString",
            "Value": found.get("SecretString", ""),
            "Version": 0,
            "SourceResult": json.dumps(source),
            "LastModifiedDate": found["CreatedDate"],
            "ARN": found["ARN"],
        }


def _described(call: Call, version: Version) -> Output:
    """A version without its value."""
    shown: Output = {
        "Name": version.name,
        "ARN": arn_of(call, version.name),
        "Type": version.type,
        "LastModifiedDate": version.modified,
        "LastModifiedUser": version.user,
        "Version": version.number,
        "Tier": version.tier,
        "DataType": version.data_type,
        "Policies": [],
    }
    if version.description:
        shown["Description"] = version.description
    if version.pattern:
        shown["AllowedPattern"] = version.pattern
    if version.key_id:
        shown["KeyId"] = version.key_id
    if version.policies:
        policies, _ = rules.read_policies(version.policies)
        shown["Policies"] = [
            {"PolicyText": json.dumps(policy), "PolicyType": policy["Type"], "PolicyStatus": "Pending"}
            for policy in policies
        ]
    return shown
