"""The parts of a REST API besides its tree: authorizers, models, validators; and what all share."""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.apigateway import patch
from cloudlet.services.apigateway.records import (
    Account,
    ApiKey,
    Authorizer,
    Deployment,
    DomainName,
    GatewayResponse,
    Model,
    RequestValidator,
    Resource,
    RestApi,
    Stage,
    UsagePlan,
)
from cloudlet.store import Database, Record, Resources, Tx

if TYPE_CHECKING:
    from cloudlet.services.apigateway.data_plane import DataPlane

P = TypeVar("P", bound=msgspec.Struct)
_LETTERS = string.ascii_lowercase + string.digits


def new_id(length: int = 10) -> str:
    """An identifier as API Gateway makes them."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


class Shared:
    """The stored kinds, and the look-ups that every operation makes."""

    db: Database
    cloud: Cloud
    data_plane: DataPlane
    _ids: dict[str, Record[RestApi]]  # by id, as of the revision
    _ids_of = -1

    def load(self) -> None:
        """Open the kinds; once, when the service starts."""
        self.apis: Resources[RestApi] = self.db.resources(RestApi)
        self.tree: Resources[Resource] = self.db.resources(Resource)
        self.stages: Resources[Stage] = self.db.resources(Stage)
        self.deployments: Resources[Deployment] = self.db.resources(Deployment)
        self.authorizers: Resources[Authorizer] = self.db.resources(Authorizer)
        self.models: Resources[Model] = self.db.resources(Model)
        self.validators: Resources[RequestValidator] = self.db.resources(RequestValidator)
        self.responses: Resources[GatewayResponse] = self.db.resources(GatewayResponse)
        self.keys: Resources[ApiKey] = self.db.resources(ApiKey)
        self.plans: Resources[UsagePlan] = self.db.resources(UsagePlan)
        self.domains: Resources[DomainName] = self.db.resources(DomainName)
        self.accounts: Resources[Account] = self.db.resources(Account)

    def find_api(self, api_id: str) -> Record[RestApi] | None:
        """An API of whatever account and region: its host name does not say whose it is."""
        if self._ids_of != self.db.revision:
            self._ids, self._ids_of = {record.name: record for record in self.apis.all()}, self.db.revision
        return self._ids.get(api_id)

    def api(self, call: Call, api_id: str) -> dict[str, Any]:
        """An API's members. Raises NotFoundException."""
        record = self.apis.get(call.scope, api_id)
        if record is None:
            raise AwsError("NotFoundException", f"Invalid API identifier specified {call.account}:{api_id}")
        return record.value.members

    def found(self, resources: Any, call: Call, api_id: str, name: str, what: str) -> dict[str, Any]:
        """A part's members; AWS names the part also when the API is not there. Raises NotFoundException."""
        record = resources.get(call.scope, f"{api_id}/{name}")
        if record is None:
            raise AwsError("NotFoundException", f"Invalid {what} identifier specified")
        members: dict[str, Any] = record.value.members
        return members

    def page(self, items: list[dict[str, Any]], input: Input, default: int = 25) -> Output:
        """One page of a listing; positions are numbers."""
        position = input.get("position") or "0"
        if not position.isdigit():
            raise AwsError("BadRequestException", "Invalid position specified")
        end = int(position) + (input.get("limit") or default)
        return {"items": items[int(position) : end], **({"position": str(end)} if end < len(items) else {})}

    def put_named(
        self, tx: Tx, call: Call, resources: Resources[P], kind: type[P], api_id: str, members: dict[str, Any]
    ) -> str:
        """Store a part, keeping the id of an existing one with the same ``name``. Returns its id."""
        own_id = next(
            (
                record.value.members["id"]  # type: ignore[attr-defined]
                for record in resources.list(call.scope, f"{api_id}/", tx)
                if record.value.members.get("name") == members["name"]  # type: ignore[attr-defined]
            ),
            None,
        ) or new_id(6)
        resources.put(tx, call.scope, f"{api_id}/{own_id}", kind({**members, "id": own_id}))
        return str(own_id)

    def delete_parts(self, tx: Tx, call: Call, api_id: str, only: type[msgspec.Struct] | None = None) -> None:
        """Delete what belongs to an API: everything, or one kind."""
        for kind, resources in (
            (Resource, self.tree),
            (Stage, self.stages),
            (Deployment, self.deployments),
            (Authorizer, self.authorizers),
            (Model, self.models),
            (RequestValidator, self.validators),
            (GatewayResponse, self.responses),
        ):
            if only in (None, kind):
                for record in resources.list(call.scope, f"{api_id}/", tx):
                    resources.delete(tx, call.scope, record.name)


class Parts(Shared):
    """Authorizers, models, request validators, and the account's settings."""

    async def CreateAuthorizer(self, call: Call, input: Input) -> Output:
        if self.apis.get(call.scope, input["restApiId"]) is None:
            raise AwsError(
                "ConflictException",
                "Unable to complete operation due to concurrent modification. Please try again later.",
            )
        _check_authorizer(input)
        kept = {key: value for key, value in input.items() if key != "restApiId"}
        members = {"authType": "custom", **kept, "id": new_id(6)}
        name = f"{input['restApiId']}/{members['id']}"
        await self.db.write(lambda tx: self.authorizers.put(tx, call.scope, name, Authorizer(members)))
        return members

    async def GetAuthorizer(self, call: Call, input: Input) -> Output:
        return self.found(self.authorizers, call, input["restApiId"], input["authorizerId"], "Authorizer")

    async def GetAuthorizers(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        listed = self.authorizers.list(call.scope, f"{input['restApiId']}/")
        return self.page([record.value.members for record in listed], input)

    async def UpdateAuthorizer(self, call: Call, input: Input) -> Output:
        members = patch.apply(await self.GetAuthorizer(call, input), input.get("patchOperations"))
        _check_authorizer(members)
        name = f"{input['restApiId']}/{input['authorizerId']}"
        await self.db.write(lambda tx: self.authorizers.put(tx, call.scope, name, Authorizer(members)))
        return members

    async def DeleteAuthorizer(self, call: Call, input: Input) -> Output:
        await self.GetAuthorizer(call, input)
        name = f"{input['restApiId']}/{input['authorizerId']}"
        await self.db.write(lambda tx: self.authorizers.delete(tx, call.scope, name))
        return {}

    async def CreateModel(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        if not input["name"]:
            raise AwsError("BadRequestException", "Model name must be non-empty")
        _check_schema(input.get("schema"))
        name = f"{input['restApiId']}/{input['name']}"
        if self.models.get(call.scope, name) is not None:
            raise AwsError("ConflictException", "Model name already exists for this REST API")
        members = {**{key: value for key, value in input.items() if key != "restApiId"}, "id": new_id(6)}
        await self.db.write(lambda tx: self.models.put(tx, call.scope, name, Model(members)))
        return members

    async def GetModel(self, call: Call, input: Input) -> Output:
        record = self.models.get(call.scope, f"{input['restApiId']}/{input['modelName']}")
        if record is None:
            raise AwsError("NotFoundException", f"Invalid model name specified: {input['modelName']}")
        return record.value.members

    async def GetModels(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        listed = self.models.list(call.scope, f"{input['restApiId']}/")
        return self.page([record.value.members for record in listed], input)

    async def UpdateModel(self, call: Call, input: Input) -> Output:
        current = await self.GetModel(call, input)
        patch.check_replaced(input.get("patchOperations"), "/description", "/schema")
        members = patch.apply(current, input.get("patchOperations"))
        _check_schema(members.get("schema"))
        name = f"{input['restApiId']}/{input['modelName']}"
        await self.db.write(lambda tx: self.models.put(tx, call.scope, name, Model(members)))
        return members

    async def DeleteModel(self, call: Call, input: Input) -> Output:
        await self.GetModel(call, input)
        for record in self.tree.list(call.scope, f"{input['restApiId']}/"):
            for verb, method in (record.value.members.get("resourceMethods") or {}).items():
                if input["modelName"] in (method.get("requestModels") or {}).values():
                    raise AwsError(
                        "ConflictException",
                        f"Cannot delete model '{input['modelName']}', is referenced in method request: "
                        f"{record.value.members['path']}/{verb}",
                    )
        name = f"{input['restApiId']}/{input['modelName']}"
        await self.db.write(lambda tx: self.models.delete(tx, call.scope, name))
        return {}

    async def CreateRequestValidator(self, call: Call, input: Input) -> Output:
        if self.apis.get(call.scope, input["restApiId"]) is None:
            raise AwsError("BadRequestException", "Invalid REST API identifier specified")
        kept = {key: value for key, value in input.items() if key != "restApiId"}
        members = {"validateRequestBody": False, "validateRequestParameters": False, **kept, "id": new_id(6)}
        name = f"{input['restApiId']}/{members['id']}"
        await self.db.write(lambda tx: self.validators.put(tx, call.scope, name, RequestValidator(members)))
        return members

    async def GetRequestValidator(self, call: Call, input: Input) -> Output:
        what = "Request Validator"
        return self.found(self.validators, call, input["restApiId"], input["requestValidatorId"], what)

    async def GetRequestValidators(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        listed = self.validators.list(call.scope, f"{input['restApiId']}/")
        return self.page([record.value.members for record in listed], input)

    async def UpdateRequestValidator(self, call: Call, input: Input) -> Output:
        current = await self.GetRequestValidator(call, input)
        patch.check_replaced(
            input.get("patchOperations"), "/name", "/validateRequestParameters", "/validateRequestBody"
        )
        members = patch.apply(current, input.get("patchOperations"))
        if members.get("name") == "":
            raise AwsError("BadRequestException", "Request Validator name cannot be blank")
        name = f"{input['restApiId']}/{input['requestValidatorId']}"
        await self.db.write(lambda tx: self.validators.put(tx, call.scope, name, RequestValidator(members)))
        return members

    async def DeleteRequestValidator(self, call: Call, input: Input) -> Output:
        await self.GetRequestValidator(call, input)
        name = f"{input['restApiId']}/{input['requestValidatorId']}"
        await self.db.write(lambda tx: self.validators.delete(tx, call.scope, name))
        return {}

    async def GetAccount(self, call: Call, input: Input) -> Output:
        record = self.accounts.get(call.scope, "account")
        limits = {"burstLimit": 5000, "rateLimit": 10000.0}
        untouched = {"apiKeyVersion": "4", "features": ["UsagePlans"], "throttleSettings": limits}
        return record.value.members if record else untouched

    async def UpdateAccount(self, call: Call, input: Input) -> Output:
        if any((one.get("op"), one.get("path")) == ("remove", "/features") for one in input.get("patchOperations", ())):
            raise AwsError("BadRequestException", "Usage Plans cannot be disabled once enabled")
        members = patch.apply(await self.GetAccount(call, {}), input.get("patchOperations"))
        await self.db.write(lambda tx: self.accounts.put(tx, call.scope, "account", Account(members)))
        return members


def _check_schema(schema: str | None) -> None:
    """Raises BadRequestException."""
    if schema is not None and not schema.strip():
        raise AwsError("BadRequestException", "Model schema must have at least 1 property or array items defined")


def _check_authorizer(members: dict[str, Any]) -> None:
    """Raises BadRequestException and NotImplemented."""
    kind = members["type"]
    if kind == "COGNITO_USER_POOLS":
        raise not_implemented("REST API authorizers of type COGNITO_USER_POOLS")
    if not members.get("authorizerUri"):
        raise AwsError("BadRequestException", f"Invalid authorizer URI: a {kind} authorizer needs one")
    if kind == "TOKEN" and not members.get("identitySource"):
        raise AwsError("BadRequestException", "Identity source must be specified for a TOKEN authorizer")
