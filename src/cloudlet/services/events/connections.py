"""The operations on connections and API destinations. Secrets stay in the connection's record and are never shown."""

from __future__ import annotations

import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.events import secret
from cloudlet.services.events.base import Base, page
from cloudlet.services.events.errors import invalid, not_found
from cloudlet.services.events.records import ApiDestination, Connection
from cloudlet.store import Tx

_PARAMETERS = {
    "API_KEY": "ApiKeyAuthParameters",
    "BASIC": "BasicAuthParameters",
    "OAUTH_CLIENT_CREDENTIALS": "OAuthParameters",
}
_SECRETS = frozenset(("ApiKeyValue", "Password", "ClientSecret"))


class Connections(Base):
    """Operations on connections and API destinations."""

    async def CreateConnection(self, call: Call, input: Input) -> Output:
        name, now = input["Name"], self.clock.now()
        connection = Connection(
            call.account,
            call.region,
            name,
            str(uuid.uuid4()),
            now,
            now,
            input["AuthorizationType"],
            input["AuthParameters"],
            input.get("Description", ""),
            kms_key=input.get("KmsKeyIdentifier", ""),
            authorized=now,
        )
        _check(connection, input)
        taken = AwsError("ResourceAlreadyExistsException", f"Connection {name} already exists.")
        if self._connections.get(call.scope, name) is not None:
            raise taken
        connection = replace(connection, secret=await secret.create(self.cloud, call, connection))

        def create(tx: Tx) -> None:
            if self._connections.get(call.scope, name, tx) is not None:
                raise taken
            self._connections.put(tx, call.scope, name, connection)

        try:
            await self._db.write(create)
        except AwsError:
            await secret.delete(self.cloud, call, connection.secret)
            raise
        return _made(replace(connection, authorized=0.0))

    async def UpdateConnection(self, call: Call, input: Input) -> Output:
        self._connection(call, input["Name"])

        def update(tx: Tx) -> Connection:
            old = self._connection(call, input["Name"], tx)
            changed = replace(
                old,
                modified=self.clock.now(),
                type=input.get("AuthorizationType", old.type),
                auth=input.get("AuthParameters", old.auth),
                description=input.get("Description", old.description),
                state="AUTHORIZED" if "AuthParameters" in input else old.state,
                kms_key=input.get("KmsKeyIdentifier", old.kms_key),
                authorized=self.clock.now() if "AuthParameters" in input else old.authorized,
            )
            _check(changed, input)
            self._connections.put(tx, call.scope, old.name, changed)
            return changed

        changed = await self._db.write(update)
        await secret.update(self.cloud, call, changed)
        return _made(changed)

    async def DeauthorizeConnection(self, call: Call, input: Input) -> Output:
        def deauthorize(tx: Tx) -> Connection:
            old = self._connection(call, input["Name"], tx)
            bare = {key: value for key, value in old.auth.items() if key == "InvocationHttpParameters"}
            changed = replace(old, auth=bare, state="DEAUTHORIZED", modified=self.clock.now())
            self._connections.put(tx, call.scope, old.name, changed)
            return changed

        changed = await self._db.write(deauthorize)
        await secret.update(self.cloud, call, changed)
        return _made(changed)

    async def DeleteConnection(self, call: Call, input: Input) -> Output:
        connection = self._connection(call, input["Name"])
        await self._db.write(lambda tx: self._connections.delete(tx, call.scope, connection.name))
        await secret.delete(self.cloud, call, connection.secret)
        return {**_made(connection), "ConnectionState": "DELETING"}

    async def DescribeConnection(self, call: Call, input: Input) -> Output:
        connection = self._connection(call, input["Name"])
        shown = {**_shown(connection), "AuthParameters": _without_secrets(connection.auth)}
        for member, told in (("SecretArn", connection.secret), ("KmsKeyIdentifier", connection.kms_key)):
            if told:
                shown[member] = told
        return shown | ({"Description": connection.description} if connection.description else {})

    async def ListConnections(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self._connections.list(call.scope, input.get("NamePrefix", ""))]
        found = [one for one in found if one.state == input.get("ConnectionState", one.state)]
        start, end, token = page([one.name for one in found], input)
        return {"Connections": [_shown(one) for one in found[start:end]], **token}

    def _connection(self, call: Call, name: str, tx: Tx | None = None) -> Connection:
        record = self._connections.get(call.scope, name, tx)
        if record is None:
            failed = "Failed to describe the connection(s). " if call.operation == "DescribeConnection" else ""
            raise not_found(f"{failed}Connection '{name}' does not exist.")
        return record.value

    async def CreateApiDestination(self, call: Call, input: Input) -> Output:
        name, now = input["Name"], self.clock.now()
        destination = ApiDestination(
            call.account,
            call.region,
            name,
            str(uuid.uuid4()),
            now,
            now,
            self._connection_at(call, input["ConnectionArn"]),
            input["InvocationEndpoint"],
            input["HttpMethod"],
            input.get("InvocationRateLimitPerSecond", 300),
            input.get("Description", ""),
        )
        _check_url(destination)

        def create(tx: Tx) -> None:
            if self._destinations.get(call.scope, name, tx) is not None:
                raise AwsError("ResourceAlreadyExistsException", f"An api-destination '{name}' already exists.")
            self._destinations.put(tx, call.scope, name, destination)

        await self._db.write(create)
        return _made_destination(destination)

    async def UpdateApiDestination(self, call: Call, input: Input) -> Output:
        self._destination(call, input["Name"])
        fields = {
            field: input[name]
            for name, field in (
                ("ConnectionArn", "connection"),
                ("Description", "description"),
                ("HttpMethod", "method"),
                ("InvocationEndpoint", "endpoint"),
                ("InvocationRateLimitPerSecond", "rate"),
            )
            if name in input
        }
        if "connection" in fields:
            self._connection_at(call, fields["connection"])

        def update(tx: Tx) -> ApiDestination:
            old = self._destination(call, input["Name"], tx)
            changed = replace(old, modified=self.clock.now(), **fields)
            _check_url(changed)
            self._destinations.put(tx, call.scope, old.name, changed)
            return changed

        return _made_destination(await self._db.write(update))

    async def DeleteApiDestination(self, call: Call, input: Input) -> Output:
        destination = self._destination(call, input["Name"])
        await self._db.write(lambda tx: self._destinations.delete(tx, call.scope, destination.name))
        return {}

    async def DescribeApiDestination(self, call: Call, input: Input) -> Output:
        destination = self._destination(call, input["Name"])
        shown = _shown_destination(destination)
        return shown | ({"Description": destination.description} if destination.description else {})

    async def ListApiDestinations(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self._destinations.list(call.scope, input.get("NamePrefix", ""))]
        found = [one for one in found if one.connection == input.get("ConnectionArn", one.connection)]
        start, end, token = page([one.name for one in found], input)
        return {"ApiDestinations": [_shown_destination(one) for one in found[start:end]], **token}

    def _destination(self, call: Call, name: str, tx: Tx | None = None) -> ApiDestination:
        record = self._destinations.get(call.scope, name, tx)
        if record is None:
            described = call.operation == "DescribeApiDestination"
            failed = "Failed to describe the api-destination(s). " if described else ""
            raise not_found(f"{failed}An api-destination '{name}' does not exist.")
        return record.value

    def _connection_at(self, call: Call, arn: str) -> str:
        """The ARN, if there is such a connection. Raises ResourceNotFoundException."""
        name = arn.split("/")[1] if arn.count("/") == 2 else ""
        if self._connection(call, name).arn != arn:
            raise not_found(f"Connection '{name}' does not exist.")
        return arn


def _check(connection: Connection, input: Input) -> None:
    """Check a connection. Raises ValidationException and NotImplemented."""
    if "InvocationConnectivityParameters" in input or "ConnectivityParameters" in connection.auth:
        raise not_implemented("connections to private endpoints")
    needed = _PARAMETERS[connection.type]
    if connection.state == "AUTHORIZED" and needed not in connection.auth:
        raise invalid(f"AuthParameters has to have {needed} where AuthorizationType is {connection.type}.")


def _check_url(destination: ApiDestination) -> None:
    if not destination.endpoint.startswith(("https://", "http://")):
        raise invalid(f"Parameter InvocationEndpoint is not valid. Reason: {destination.endpoint} is no HTTP URL.")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = {"Value"} if value.get("IsValueSecret") else set()
    return {key: _without_secrets(item) for key, item in value.items() if key not in _SECRETS | hidden}


def _made(connection: Connection) -> Output:
    return {
        "ConnectionArn": connection.arn,
        "ConnectionState": connection.state,
        "CreationTime": connection.created,
        "LastModifiedTime": connection.modified,
        **({"LastAuthorizedTime": connection.authorized} if connection.authorized else {}),
    }


def _shown(connection: Connection) -> dict[str, Any]:
    return {**_made(connection), "Name": connection.name, "AuthorizationType": connection.type}


def _made_destination(destination: ApiDestination) -> Output:
    return {
        "ApiDestinationArn": destination.arn,
        "ApiDestinationState": "ACTIVE",
        "CreationTime": destination.created,
        "LastModifiedTime": destination.modified,
    }


def _shown_destination(destination: ApiDestination) -> dict[str, Any]:
    return {
        **_made_destination(destination),
        "Name": destination.name,
        "ConnectionArn": destination.connection,
        "InvocationEndpoint": destination.endpoint,
        "HttpMethod": destination.method,
        "InvocationRateLimitPerSecond": destination.rate,
    }
