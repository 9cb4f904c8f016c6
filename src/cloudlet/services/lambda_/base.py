"""The stored kinds, and how a function's name, ARN and qualifier become one version."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloudlet.control.outbox import Outbox
from cloudlet.engines.functions import Engine, Function
from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud, Input
from cloudlet.services.lambda_.code import Archive, invalid
from cloudlet.services.lambda_.records import LATEST, Alias, Layer, Mapping, Settings, Version
from cloudlet.services.lambda_.reporting import Reporting
from cloudlet.store import Database, Record, Resources, Tx

_NAME = re.compile(
    r"(?:arn:[a-z-]+:lambda:(?P<region>[a-z0-9-]+):(?P<arn_account>\d{12}):(?:function:)?|(?P<account>\d{12}):function:|function:)?"
    r"(?P<name>[A-Za-z0-9_-]+)(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)


@dataclass(frozen=True)
class Code:
    """Code that has been taken in: an archive, a folder of this machine, or an image."""

    sha: str = ""  # of the archive, in hexadecimal
    folder: str = ""
    size: int = 0  # bytes
    sha256: str = ""  # as the API shows it
    image_uri: str = ""
    image: str = ""

    def version(self, members: dict[str, Any], latest_description: str = "") -> Version:
        """A version with this code."""
        return Version(members, self.sha, self.folder, self.image_uri, self.image, latest_description)


def no_such(arn: str) -> AwsError:
    """There is no function of that name."""
    return AwsError("ResourceNotFoundException", f"Function not found: {arn}", status=404, Type="User")


def not_found(words: str = "The resource you requested does not exist.") -> AwsError:
    """There is no such thing, in words of its own."""
    return AwsError("ResourceNotFoundException", words, status=404, Type="User")


def stale(api: str = "GetFunction/GetAlias") -> AwsError:
    """Somebody has changed it since the caller read its RevisionId; ``api`` is what gives the one of now."""
    words = (
        f"The Revision Id provided does not match the latest Revision Id. Call the {api} API to retrieve the latest "
        "Revision Id"
    )
    return AwsError("PreconditionFailedException", words, status=412, Type="User")


class Base:
    """What every part of the service works with."""

    db: Database
    cloud: Cloud
    engine: Engine
    outbox: Outbox
    archive: Archive
    reporting: Reporting

    def load(self) -> None:
        """Open the kinds; once, when the service starts."""
        self.versions: Resources[Version] = self.db.resources(Version)
        self.settings: Resources[Settings] = self.db.resources(Settings)
        self.aliases: Resources[Alias] = self.db.resources(Alias)
        self.layers: Resources[Layer] = self.db.resources(Layer)
        self.mappings: Resources[Mapping] = self.db.resources(Mapping)
        self.runnable: dict[tuple[str, str], tuple[int, Function]] = {}
        self.reserved: dict[tuple[str, str], int] = {}  # by scope and function, as it was last looked up
        self.under_way: dict[tuple[str, str], int] = {}  # invocations, by scope and function or the unreserved rest

    def named(self, call: Call, input: Input) -> tuple[str, str, str]:
        """Scope, function and qualifier (perhaps empty) of a FunctionName and a Qualifier."""
        given = input["FunctionName"]
        found = _NAME.fullmatch(given)
        if found is None:
            raise AwsError(
                "ValidationException",
                f"1 validation error detected: Value '{given}' at 'functionName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-gov)?-[a-z]+"
                "-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?",
                status=400,
            )
        region = found["region"] or call.region
        if region != call.region and call.request is not None:
            words = f"Functions from '{region}' are not reachable in this region ('{call.region}')"
            raise not_found(words)
        account = found["arn_account"] or found["account"] or call.account
        given, derived = input.get("Qualifier"), found["qualifier"]
        if given and derived and given != derived:
            raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
        qualifier = given or derived or ""
        return f"{account}/{region}", found["name"], qualifier

    def arn(self, scope: str, name: str, qualifier: str = "") -> str:
        """A function's ARN."""
        account, region = scope.split("/", 1)
        return f"arn:aws:lambda:{region}:{account}:function:{name}" + (f":{qualifier}" if qualifier else "")

    def function(self, call: Call, input: Input) -> tuple[str, str, Settings]:
        """Scope, name and settings of a function that must be there."""
        scope, name, _ = self.named(call, input)
        record = self.settings.get(scope, name)
        if record is None:
            raise no_such(self.arn(scope, name))
        return scope, name, record.value

    def version(self, scope: str, name: str, qualifier: str, *, choose: bool = False) -> Record[Version]:
        """The version that a qualifier means; an alias chooses by its weights. Raises ResourceNotFoundException."""
        number = qualifier or LATEST
        if qualifier and qualifier != LATEST and not qualifier.isdigit():
            alias = self.aliases.get(scope, f"{name}/{qualifier}")
            if alias is None:
                raise no_such(self.arn(scope, name, qualifier))
            number = alias.value.members["FunctionVersion"]
            weights = (alias.value.members.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
            if choose:
                for other, weight in weights.items():
                    if random.random() < weight:
                        number = other
        record = self.versions.get(scope, f"{name}:{number}")
        if record is None:
            raise no_such(self.arn(scope, name, qualifier))
        return record

    def policy_of(self, scope: str, name: str, qualifier: str) -> str | None:
        """The resource policy of a function, a version or an alias."""
        record = self.settings.get(scope, name)
        statements = record.value.statements.get(qualifier) if record is not None else None
        return json.dumps({"Version": "2012-10-17", "Statement": statements}) if statements else None

    async def alter(self, scope: str, name: str, change: Callable[[Settings], Settings]) -> None:
        """Change a function's settings as they are when it is their turn: two changes at once both hold."""

        def work(tx: Tx) -> None:
            record = self.settings.get(scope, name, tx)
            if record is None:
                raise no_such(self.arn(scope, name))
            self.settings.put(tx, scope, name, change(record.value))

        await self.db.write(work)

    def timestamp(self) -> str:
        """Now, as Lambda writes it."""
        now = datetime.fromtimestamp(self.cloud.clock.now(), UTC)
        return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}+0000"

    def page(self, key: str, items: list[dict[str, Any]], input: Input, most: int = 50) -> dict[str, Any]:
        """One page of a listing; markers are positions."""
        marker = input.get("Marker") or "0"
        if not marker.isdigit():
            raise AwsError("InvalidParameterValueException", "Invalid Marker", status=400)
        end = int(marker) + min(input.get("MaxItems") or most, most)
        return {key: items[int(marker) : end], **({"NextMarker": str(end)} if end < len(items) else {})}


def new_revision() -> str:
    """A revision id."""
    return str(uuid.uuid4())
