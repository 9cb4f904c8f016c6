"""Functions: create, read, change, delete."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_ import networks
from cloudlet.services.lambda_.base import Code, new_revision, no_such, stale
from cloudlet.services.lambda_.code import LOCAL, invalid
from cloudlet.services.lambda_.images import CREATING, Images
from cloudlet.services.lambda_.records import LATEST, Settings, Version
from cloudlet.store import Tx

_RUNTIMES = re.compile(r"python3\.\d+|nodejs\d+\.x|java(8\.al2|8|11|17|21|25)|provided(\.al2|\.al2023)?")
# Those of AWS's retired runtimes that do not run here either; the others still do, for code that is that old.
_RETIRED = frozenset(
    (
        *("nodejs", "nodejs4.3", "nodejs6.10", "nodejs8.10", "nodejs4.3-edge", "python2.7", "go1.x"),
        *("dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1", "dotnet6", "ruby2.5", "ruby2.7"),
    )
)
_CONFIGURATION = (
    *("Role", "Handler", "Description", "Timeout", "MemorySize", "VpcConfig", "Environment", "Runtime"),
    *("DeadLetterConfig", "KMSKeyArn", "TracingConfig", "FileSystemConfigs", "EphemeralStorage", "SnapStart"),
    *("LoggingConfig",),
)
_NOT_HERE = (
    *("CapacityProviderConfig", "DurableConfig", "TenancyConfig", "AcceleratorConfig"),
    *("RuntimeConfig", "CodeSigningConfigArn", "PublishTo", "FileSystemConfigs"),
)
_ENVIRONMENT = 4096  # bytes of all variables
_RESERVED = frozenset(
    (
        *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_ACCESS_KEY"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API"),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"),
        *("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
        *("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"),
    )
)


class Functions(Images):
    """The operations on functions."""

    async def CreateFunction(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.named(call, input)
        _check_name(input["FunctionName"], name)
        if self.settings.get(scope, name) is not None:
            raise AwsError("ResourceConflictException", f"Function already exist: {name}", status=409, Type="User")
        _refuse("CreateFunction", input)
        kind = input.get("PackageType", "Zip")
        _check_kind(kind, input, created=True)
        given = {key: input[key] for key in _CONFIGURATION if key in input}
        members: dict[str, Any] = {
            "FunctionName": name,
            "FunctionArn": self.arn(scope, name),
            "Description": "",
            "Timeout": 3,
            "MemorySize": 128,
            "PackageType": kind,
            "Architectures": input.get("Architectures") or ["x86_64"],
            "TracingConfig": {"Mode": "PassThrough"},
            "EphemeralStorage": {"Size": 512},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
            **given,
            "Version": LATEST,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "LastModified": self.timestamp(),
            "RevisionId": new_revision(),
        }
        self._complete(members, name)
        self._check(members)
        if input.get("Layers"):
            members["Layers"] = self._layers(scope, input["Layers"])
        if input.get("ImageConfig"):
            members["ImageConfigResponse"] = {"ImageConfig": input["ImageConfig"]}
        code = await self._code(call, input["Code"], kind)
        members.update(CodeSize=code.size, CodeSha256=code.sha256)
        if code.image:
            members |= CREATING
        settings = Settings(tags=input.get("Tags", {}))

        def work(tx: Tx) -> dict[str, Any]:
            self.versions.put(tx, scope, f"{name}:{LATEST}", code.version(members), 0)
            self.settings.put(tx, scope, name, settings)
            if input.get("Publish"):
                return {**self.publish(tx, scope, name, ""), "FunctionArn": members["FunctionArn"]}
            return members

        made = await self.db.write(work)
        await networks.speak_for(self.cloud, scope, name, members, {})
        self.watch_folders()
        if code.image and call.request is not None:
            self.fetch_later(scope, name)
        elif code.image:
            # A deployment goes on when the function can be used.
            await self.fetch(scope, name)
            made = self.version(scope, name, "").value.members
        return made

    async def GetFunction(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        record = self.version(scope, name, qualifier)
        settings = self.settings.get(scope, name)
        assert settings is not None
        if record.value.image:
            digest = record.value.members["CodeSha256"]
            repository = re.sub(r"(@.*|:[^:/]*)$", "", record.value.image_uri)
            code = {"RepositoryType": "ECR", "ImageUri": record.value.image_uri}
            code["ResolvedImageUri"] = f"{repository}@sha256:{digest}"
        else:
            code = {"RepositoryType": "S3", "Location": self._location(record.value)}
        answer: Output = {"Configuration": self.shown(scope, name, qualifier, record.value), "Code": code}
        if settings.value.tags:
            answer["Tags"] = settings.value.tags
        if settings.value.reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": settings.value.reserved}
        return answer

    async def GetFunctionConfiguration(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        return self.shown(scope, name, qualifier, self.version(scope, name, qualifier).value)

    async def ListFunctions(self, call: Call, input: Input) -> Output:
        every = input.get("FunctionVersion") == "ALL"
        records = [
            record for record in self.versions.list(call.scope) if every or record.value.members["Version"] == LATEST
        ]
        found = [_listed(record.value.members) for record in records]
        if every:
            found = [{**members, "FunctionArn": self._version_arn(members)} for members in found]
        return self.page("Functions", found, input)

    async def UpdateFunctionCode(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.named(call, input)
        current = self._latest(scope, name, input)
        members = current.members
        kind = members["PackageType"]
        if kind == "Image" and not input.get("ImageUri"):
            raise invalid("Please provide ImageUri when updating a function with packageType Image.")
        if kind == "Zip" and input.get("ImageUri"):
            raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
        code = await self._code(call, input, kind)
        changes = {
            **({"Architectures": input["Architectures"]} if "Architectures" in input else {}),
            "CodeSize": code.size,
            "CodeSha256": code.sha256,
            "LastModified": self.timestamp(),
            "RevisionId": new_revision(),
        }
        if input.get("DryRun"):
            return {**members, **changes}
        if code.image:
            # The old code serves until the new one is here; a function that has failed gets another chance.
            await self.pull(code)
            changes["State"] = "Active"

        def work(tx: Tx) -> dict[str, Any]:
            # The configuration may have changed while the code was taken in.
            now = self.versions.get(scope, f"{name}:{LATEST}", tx)
            if now is None:
                raise no_such(self.arn(scope, name))
            members = {**now.value.members, **changes}
            if code.image:
                members = {key: value for key, value in members.items() if not key.startswith("StateReason")}
            self.versions.put(tx, scope, f"{name}:{LATEST}", code.version(members))
            return self.publish(tx, scope, name, "") if input.get("Publish") else members

        made = await self.db.write(work)
        self.forget(scope, name, LATEST)
        self.watch_folders()
        return made

    async def UpdateFunctionConfiguration(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.named(call, input)
        current = self._latest(scope, name, input)
        _refuse("UpdateFunctionConfiguration", input)
        _check_kind(current.members["PackageType"], input, created=False)
        members = {
            **current.members,
            **{key: input[key] for key in _CONFIGURATION if key in input},
            "LastModified": self.timestamp(),
            "RevisionId": new_revision(),
        }
        self._complete(members, name)
        self._check(members)
        if "Layers" in input:
            members["Layers"] = self._layers(scope, input["Layers"])
            if not members["Layers"]:
                del members["Layers"]
        if "ImageConfig" in input:
            members["ImageConfigResponse"] = {"ImageConfig": input["ImageConfig"]}
            if not input["ImageConfig"]:
                del members["ImageConfigResponse"]
        changed = msgspec.structs.replace(current, members=members)
        await self.db.write(lambda tx: self.versions.put(tx, scope, f"{name}:{LATEST}", changed))
        await networks.speak_for(self.cloud, scope, name, members, current.members)
        self.forget(scope, name, LATEST)
        return members

    async def DeleteFunction(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        if qualifier and (qualifier == LATEST or not qualifier.isdigit()):
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        record = self.version(scope, name, "")
        if qualifier:
            for alias in self.aliases.list(scope, f"{name}/"):
                if alias.value.members["FunctionVersion"] == qualifier:
                    other = alias.name.split("/")[1]
                    words = f"Unable to delete version because the following aliases reference it: [{other}]"
                    raise AwsError("ResourceConflictException", words, status=409, Type="User")
            # That the version is gone already is no error.
            await self.db.write(lambda tx: self.versions.delete(tx, scope, f"{name}:{qualifier}"))
            self.forget(scope, name, qualifier)
            return {"StatusCode": 204}
        numbers = [one.value.members["Version"] for one in self.versions.list(scope, f"{name}:")]

        def work(tx: Tx) -> None:
            for version in self.versions.list(scope, f"{name}:", tx):
                self.versions.delete(tx, scope, version.name)
            for alias in self.aliases.list(scope, f"{name}/", tx):
                self.aliases.delete(tx, scope, alias.name)
            self.settings.delete(tx, scope, name)

        await self.db.write(work)
        await networks.speak_for(self.cloud, scope, name, {}, record.value.members)
        self.reserved.clear()
        for number in numbers:
            self.forget(scope, name, number)
        self.watch_folders()
        return {"StatusCode": 204}

    async def PublishVersion(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.named(call, input)
        latest = self._latest(scope, name, input)
        if input.get("CodeSha256") not in (None, latest.members["CodeSha256"]):
            raise invalid(
                f"CodeSHA256 ({input['CodeSha256']}) is different from current CodeSHA256 in $LATEST "
                f"({latest.members['CodeSha256']}). Please try again with the CodeSHA256 in $LATEST."
            )
        return await self.db.write(lambda tx: self.publish(tx, scope, name, input.get("Description", "")))

    async def ListVersionsByFunction(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.function(call, input)
        records = [record.value.members for record in self.versions.list(scope, f"{name}:")]
        records.sort(key=lambda members: -1 if members["Version"] == LATEST else int(members["Version"]))
        return self.page(
            "Versions", [{**_listed(one), "FunctionArn": self._version_arn(one)} for one in records], input
        )

    def publish(self, tx: Tx, scope: str, name: str, description: str) -> dict[str, Any]:
        """Freeze $LATEST as the next version; the newest one again when nothing has changed since."""
        latest = self.versions.get(scope, f"{name}:{LATEST}", tx)
        settings = self.settings.get(scope, name, tx)
        assert latest is not None
        assert settings is not None
        number = settings.value.next_version
        newest = self.versions.get(scope, f"{name}:{number - 1}", tx)
        own = ("Version", "FunctionArn", "RevisionId", "LastModified", "Description")
        if newest is not None:
            before = {k: v for k, v in newest.value.members.items() if k not in own}
            same = before == {k: v for k, v in latest.value.members.items() if k not in own}
            if same and newest.value.latest_description == latest.value.members["Description"]:
                return newest.value.members
        members = {
            **latest.value.members,
            "Version": str(number),
            "FunctionArn": self.arn(scope, name, str(number)),
            "Description": description or latest.value.members["Description"],
            "RevisionId": new_revision(),
        }
        description = latest.value.members["Description"]
        published = msgspec.structs.replace(latest.value, members=members, latest_description=description)
        self.versions.put(tx, scope, f"{name}:{number}", published)
        self.settings.put(tx, scope, name, msgspec.structs.replace(settings.value, next_version=number + 1))
        return members

    def shown(self, scope: str, name: str, qualifier: str, version: Version) -> dict[str, Any]:
        """A configuration with the ARN by which it was asked for."""
        return {**version.members, "FunctionArn": self.arn(scope, name, qualifier)}

    def forget(self, scope: str, name: str, number: str) -> None:
        """Retire the sandboxes of a version that has changed."""
        known = self.runnable.pop((scope, f"{name}:{number}"), None)
        if known is not None:
            self.engine.retire(known[1].key)

    def watch_folders(self) -> None:
        """Local folders may have come or gone."""

    def _latest(self, scope: str, name: str, input: Input) -> Version:
        record = self.versions.get(scope, f"{name}:{LATEST}")
        if record is None:
            raise no_such(self.arn(scope, name))
        if input.get("RevisionId") not in (None, record.value.members["RevisionId"]):
            raise stale()
        return record.value

    def _complete(self, members: dict[str, Any], name: str) -> None:
        """Fill in what a part of the configuration leaves open."""
        logging = {"LogFormat": "Text", **(members.get("LoggingConfig") or {})}
        logging.setdefault("LogGroup", f"/aws/lambda/{name}")
        if logging["LogFormat"] == "JSON":
            logging.setdefault("ApplicationLogLevel", "INFO")
            logging.setdefault("SystemLogLevel", "INFO")
        members["LoggingConfig"] = logging
        members["SnapStart"] = {"OptimizationStatus": "Off", **members["SnapStart"]}
        if "VpcConfig" in members:
            members["VpcConfig"] = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", **members["VpcConfig"]}
        for empty in ("Environment", "DeadLetterConfig"):
            if members.get(empty) in ({}, {"TargetArn": ""}):
                del members[empty]

    def _check(self, members: dict[str, Any]) -> None:
        if members["PackageType"] == "Zip" and not _RUNTIMES.fullmatch(members["Runtime"]):
            runtime = members["Runtime"]
            if runtime in _RETIRED:
                raise invalid(
                    f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
                    "functions. We recommend you use a supported runtime while creating or updating functions."
                )
            raise not_implemented(f"Lambda functions with Runtime {runtime}")
        if not 128 <= members["MemorySize"] <= 10240:
            raise invalid("'MemorySize' value failed to satisfy constraint: Member must be between 128 and 10240")
        if not 1 <= members["Timeout"] <= 900:
            raise invalid("'Timeout' value failed to satisfy constraint: Member must be between 1 and 900")
        variables = (members.get("Environment") or {}).get("Variables") or {}
        if reserved := sorted(_RESERVED.intersection(variables)):
            raise invalid(
                "Lambda was unable to configure your environment variables because the environment variables you have "
                "provided contains reserved keys that are currently not supported for modification. "
                f"Reserved keys used in this request: {', '.join(reserved)}"
            )
        if sum(len(name) + len(value) for name, value in variables.items()) > _ENVIRONMENT:
            raise invalid(
                "Lambda was unable to configure your environment variables because the environment variables you have "
                f"provided exceeded the 4KB limit. String measured: {json.dumps(variables, separators=(',', ':'))}"
            )

    def _layers(self, scope: str, arns: list[str]) -> list[dict[str, Any]]:
        found = []
        for arn in arns:
            layer, _, number = arn.rpartition(":")
            record = (
                self.layers.get(scope, f"{layer.rsplit(':', 1)[-1]}:{int(number):08d}") if number.isdigit() else None
            )
            if record is None or record.value.deleted:
                raise invalid(f"Layer version {arn} does not exist.")
            found.append({"Arn": arn, "CodeSize": record.value.members["Content"]["CodeSize"]})
        return found

    async def _code(self, call: Call, code: Input, kind: str) -> Code:
        """Take in the code that a request brings or names."""
        if kind == "Image":
            return await self.image(code.get("ImageUri", ""))
        if code.get("S3Bucket") == LOCAL:
            folder = Path(code["S3Key"])
            if not (folder.is_absolute() and folder.is_dir()):
                raise invalid(f"There is no folder {folder} on this machine.")
            return Code(folder=str(folder), sha256=base64.b64encode(str(folder).encode()).decode())
        if "ZipFile" in code:
            data = code["ZipFile"]
        elif "S3Bucket" in code:
            data = await self._from_s3(call, code)
        else:
            raise invalid("Please provide a source for function code.")
        if len(data) > 50 * 1024 * 1024 and "ZipFile" in code:
            words = "Zipped size must be smaller than 52428800 bytes"
            raise AwsError("RequestEntityTooLargeException", words, status=413)
        sha = await asyncio.to_thread(self.archive.keep, data)
        return Code(sha, "", len(data), base64.b64encode(bytes.fromhex(sha)).decode())

    async def _from_s3(self, call: Call, code: Input) -> bytes:
        place = {"Bucket": code["S3Bucket"], "Key": code["S3Key"]}
        if "S3ObjectVersion" in code:
            place["VersionId"] = code["S3ObjectVersion"]
        try:
            found = await self.cloud.call("s3", "GetObject", place, account=call.account, region=call.region)
        except AwsError as error:
            words = f"Error occurred while GetObject. S3 Error Code: {error.code}. S3 Error Message: {error.message}"
            raise invalid(words) from None
        body = found["Body"]
        return body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])

    def _location(self, version: Version) -> str:
        if version.folder:
            return f"file://{version.folder}"
        return f"{self.cloud.endpoint}/_cloudlet/lambda-code/{version.sha}"

    def _version_arn(self, members: dict[str, Any]) -> str:
        arn: str = members["FunctionArn"]
        return f"{arn}:{LATEST}" if members["Version"] == LATEST else arn


def _refuse(operation: str, input: Input) -> None:
    """Raises NotImplemented for what has no effect here."""
    for member in _NOT_HERE:
        if input.get(member):
            raise not_implemented(f"{operation} with {member}")
    if (input.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions":
        raise not_implemented(f"{operation} with SnapStart of PublishedVersions")


def _check_name(given: str, name: str) -> None:
    """A new function's name, or the ARN that it is given as, is not too long. Raises as Lambda does."""
    words = f"1 validation error detected: Value '{given}' at 'functionName' failed to satisfy constraint: "
    if len(given) > 140:
        raise AwsError("ValidationException", words + "Member must have length less than or equal to 140", status=400)
    if len(name) > 64:
        raise invalid(words + "Member must have length less than or equal to 64")


def _listed(members: dict[str, Any]) -> dict[str, Any]:
    """A configuration as lists show it: they say nothing of states."""
    return {key: value for key, value in members.items() if not key.startswith(("State", "LastUpdateStatus"))}


def _check_kind(kind: str, input: Input, *, created: bool) -> None:
    """An archive needs a runtime and a handler; an image brings its own, and its layers. Raises as Lambda does."""
    if kind == "Image":
        if any(input.get(member) for member in ("Runtime", "Handler", "Layers")):
            raise invalid(
                "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
            )
        if created and not input["Code"].get("ImageUri"):
            raise invalid("Please provide a source for function code.")
        return
    if input.get("ImageConfig"):
        raise invalid("ImageConfig is not supported for functions created with deployment packages.")
    if created and input["Code"].get("ImageUri"):
        raise invalid("Please don't provide ImageUri when the intended function PackageType is Zip.")
    if created and not (input.get("Runtime") and input.get("Handler")):
        raise invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
