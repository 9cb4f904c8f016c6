"""Layers: archives that functions share."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Response
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_.base import new_revision
from cloudlet.services.lambda_.code import LOCAL, invalid
from cloudlet.services.lambda_.functions import Functions
from cloudlet.services.lambda_.records import Layer
from cloudlet.store import Record, Tx


class Layers(Functions):
    """The operations on layers."""

    async def PublishLayerVersion(self, call: Call, input: Input) -> Output:
        content = input["Content"]
        if content.get("S3Bucket") == LOCAL:
            data = await asyncio.to_thread(_zipped, content["S3Key"])
        elif "ZipFile" in content:
            data = content["ZipFile"]
        elif "S3Bucket" in content:
            data = await self._from_s3(call, content)
        else:
            raise invalid("Please provide the content of the layer.")
        sha = await asyncio.to_thread(self.archive.keep, data)
        name = _own_name(input["LayerName"])
        arn = f"arn:aws:lambda:{call.region}:{call.account}:layer:{name}"
        given: dict[str, Any] = {
            key: input[key] for key in ("CompatibleArchitectures", "CompatibleRuntimes", "LicenseInfo") if key in input
        }

        def work(tx: Tx) -> dict[str, Any]:
            published = self.layers.list(call.scope, f"{name}:", tx)
            number = published[-1].value.members["Version"] + 1 if published else 1
            members = {
                "LayerArn": arn,
                "LayerVersionArn": f"{arn}:{number}",
                "Version": number,
                "Description": input.get("Description", ""),
                "CreatedDate": self.timestamp(),
                **given,
                "Content": {
                    "Location": f"{self.cloud.endpoint}/_cloudlet/lambda-code/{sha}",
                    "CodeSha256": base64.b64encode(bytes.fromhex(sha)).decode(),
                    "CodeSize": len(data),
                },
            }
            self.layers.put(tx, call.scope, f"{name}:{number:08d}", Layer(members, sha))
            return members

        return await self.db.write(work)

    async def GetLayerVersion(self, call: Call, input: Input) -> Output:
        return self._layer(call, input["LayerName"], input["VersionNumber"]).value.members

    async def GetLayerVersionByArn(self, call: Call, input: Input) -> Output:
        name, _, number = input["Arn"].rpartition(":")
        return self._layer(call, name, int(number)).value.members

    async def ListLayerVersions(self, call: Call, input: Input) -> Output:
        versions = self.layers.list(call.scope, f"{_own_name(input['LayerName'])}:")
        found = [record.value.members for record in reversed(versions) if not record.value.deleted]
        found = [one for one in found if _fits(one, input)]
        return self.page("LayerVersions", [_brief(one) for one in found], input)

    async def ListLayers(self, call: Call, input: Input) -> Output:
        newest: dict[str, dict[str, Any]] = {}
        for record in self.layers.list(call.scope):
            if not record.value.deleted and _fits(record.value.members, input):
                newest[record.name.rsplit(":", 1)[0]] = record.value.members
        found = [
            {"LayerName": name, "LayerArn": members["LayerArn"], "LatestMatchingVersion": _brief(members)}
            for name, members in newest.items()
        ]
        return self.page("Layers", found, input)

    async def DeleteLayerVersion(self, call: Call, input: Input) -> Output:
        name = f"{_own_name(input['LayerName'])}:{input['VersionNumber']:08d}"

        def work(tx: Tx) -> None:
            record = self.layers.get(call.scope, name, tx)
            if record is not None:
                gone = msgspec.structs.replace(record.value, statements=[], deleted=True)
                self.layers.put(tx, call.scope, name, gone)

        await self.db.write(work)
        return {}

    async def AddLayerVersionPermission(self, call: Call, input: Input) -> Output:
        record = self._layer(call, input["LayerName"], input["VersionNumber"])
        if any(statement["Sid"] == input["StatementId"] for statement in record.value.statements):
            words = f"The statement id ({input['StatementId']}) provided already exists."
            raise AwsError("ResourceConflictException", words, status=409, Type="User")
        principal = input["Principal"]
        statement = {
            "Sid": input["StatementId"],
            "Effect": "Allow",
            "Principal": "*" if principal == "*" else {"AWS": f"arn:aws:iam::{principal}:root"},
            "Action": input["Action"],
            "Resource": record.value.members["LayerVersionArn"],
        }
        if "OrganizationId" in input:
            statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": input["OrganizationId"]}}
        changed = msgspec.structs.replace(record.value, statements=[*record.value.statements, statement])
        await self.db.write(lambda tx: self.layers.put(tx, call.scope, record.name, changed))
        return {"Statement": json.dumps(statement), "RevisionId": new_revision()}

    async def GetLayerVersionPolicy(self, call: Call, input: Input) -> Output:
        record = self._layer(call, input["LayerName"], input["VersionNumber"])
        if not record.value.statements:
            words = "No policy is associated with the given resource."
            raise AwsError("ResourceNotFoundException", words, status=404, Type="User")
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": record.value.statements}
        return {"Policy": json.dumps(policy), "RevisionId": new_revision()}

    async def RemoveLayerVersionPermission(self, call: Call, input: Input) -> Output:
        record = self._layer(call, input["LayerName"], input["VersionNumber"])
        kept = [statement for statement in record.value.statements if statement["Sid"] != input["StatementId"]]
        if len(kept) == len(record.value.statements):
            words = f"Statement {input['StatementId']} is not found in resource policy."
            raise AwsError("ResourceNotFoundException", words, status=404, Type="User")
        changed = msgspec.structs.replace(record.value, statements=kept)
        await self.db.write(lambda tx: self.layers.put(tx, call.scope, record.name, changed))
        return {}

    async def answer_archive(self, sha: str) -> Response:
        """The zip of a function or a layer, for who was given its Location."""
        path = self.archive.zip(sha)
        if not sha.isalnum() or not path.is_file():
            return Response(404, {"content-type": "text/plain"}, b"There is no such archive.\n")
        return Response(200, {"content-type": "application/zip"}, await asyncio.to_thread(path.read_bytes))

    def _layer(self, call: Call, name: str, number: int) -> Record[Layer]:
        record = self.layers.get(call.scope, f"{_own_name(name)}:{number:08d}")
        if record is None or record.value.deleted:
            words = "The resource you requested does not exist."
            raise AwsError("ResourceNotFoundException", words, status=404, Type="User")
        return record


def _own_name(name: str) -> str:
    """A layer's name out of its name or ARN."""
    return name.rsplit(":", 1)[-1]


def _brief(members: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key not in ("Content", "LayerArn")}


def _fits(members: dict[str, Any], input: Input) -> bool:
    runtime, architecture = input.get("CompatibleRuntime"), input.get("CompatibleArchitecture")
    return (runtime is None or runtime in members.get("CompatibleRuntimes", ())) and (
        architecture is None or architecture in members.get("CompatibleArchitectures", (architecture,))
    )


def _zipped(folder: str) -> bytes:
    """A local folder, or a local zip, as an archive."""
    root = Path(folder)
    if root.is_file():
        return root.read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root))
    return packed.getvalue()
