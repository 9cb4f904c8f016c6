"""What all operations of CodeDeploy stand on: the database, names, pages."""

from __future__ import annotations

import re
import secrets
import string
import uuid
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.codedeploy import configs, records
from cloudlet.services.codedeploy.records import Application, Config, Deployment, Group, Revision
from cloudlet.services.pages import page_at
from cloudlet.store import Record, Tx

SELF = "codedeploy.amazonaws.com"
_NAME = re.compile(r"[A-Za-z0-9._+=,@-]{1,100}\Z")
_LETTERS = string.ascii_uppercase + string.digits
_PAGE = 100


class Base(api.Service):
    """The state of the service."""

    name = "codedeploy"

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name, records.MIGRATIONS)
        self.applications = self.db.resources(Application)
        self.configs = self.db.resources(Config)
        self.groups = self.db.resources(Group)
        self.revisions = self.db.resources(Revision)
        self.deployments = self.db.resources(Deployment)

    async def resource_arn(self, call: Call, input: Input) -> str:
        arn = f"arn:aws:codedeploy:{call.region}:{call.account}"
        if "ResourceArn" in input:
            return str(input["ResourceArn"])
        record = self.deployments.get(call.scope, input.get("deploymentId", ""))
        if record is not None:
            return f"{arn}:deploymentgroup:{record.value.place}"
        application = input.get("applicationName", "")
        if group := input.get("deploymentGroupName") or input.get("currentDeploymentGroupName"):
            return f"{arn}:deploymentgroup:{application}/{group}"
        if config := input.get("deploymentConfigName"):
            return f"{arn}:deploymentconfig:{config}"
        return f"{arn}:application:{application}" if application else ""

    def application(self, call: Call, name: str, tx: Tx | None = None) -> Application:
        """An application. Raises ApplicationDoesNotExistException."""
        record = self.applications.get(call.scope, _given(name, "Application"), tx)
        if record is None:
            raise AwsError("ApplicationDoesNotExistException", f"No application found for name: {name}")
        return record.value

    def group(self, call: Call, application: str, name: str, tx: Tx | None = None) -> Group:
        """A deployment group. Raises ApplicationDoesNotExistException, DeploymentGroupDoesNotExistException."""
        self.application(call, application, tx)
        record = self.groups.get(call.scope, f"{application}/{_given(name, 'DeploymentGroup')}", tx)
        if record is None:
            raise AwsError("DeploymentGroupDoesNotExistException", f"No Deployment Group found for name: {name}")
        return record.value

    def config(self, call: Call, name: str, tx: Tx | None = None) -> dict[str, Any]:
        """A deployment configuration, AWS's own or the user's. Raises DeploymentConfigDoesNotExistException."""
        if name in configs.PREDEFINED:
            return configs.PREDEFINED[name]
        record = self.configs.get(call.scope, name, tx)
        if record is None:
            words = f"No deployment configuration found for name: {name}"
            raise AwsError("DeploymentConfigDoesNotExistException", words)
        return record.value.members

    def deployment(self, call: Call, id: str, tx: Tx | None = None) -> Deployment:
        """A deployment. Raises DeploymentIdRequiredException, DeploymentDoesNotExistException."""
        if not id:
            raise AwsError("DeploymentIdRequiredException", "Deployment ID is required")
        record = self.deployments.get(call.scope, id, tx)
        if record is None:
            words = f"The deployment {id} could not be found"
            raise AwsError("DeploymentDoesNotExistException", words)
        return record.value

    def deployments_of(self, scope: str, application: str = "", group: str = "") -> list[Record[Deployment]]:
        """Deployments of a scope, of an application or of a group, newest first."""
        found = [
            record
            for record in self.deployments.list(scope)
            if (not application or record.value.application == application)
            and (not group or record.value.group == group)
        ]
        return sorted(found, key=lambda record: -record.value.created)


def checked(name: str, what: str) -> str:
    """A name as it may be given. Raises <what>NameRequiredException, Invalid<what>NameException."""
    _given(name, what)
    if not _NAME.match(name):
        words = f"{_words(what)} name contains invalid characters or is too long: {name}"
        raise AwsError(f"Invalid{what}NameException", words)
    return name


def _given(name: str, what: str) -> str:
    if not name:
        raise AwsError(f"{what}NameRequiredException", f"{_words(what)} name is missing")
    return name


def _words(what: str) -> str:
    return {"DeploymentGroup": "Deployment Group", "DeploymentConfig": "Deployment config"}.get(what, what)


def new_id() -> str:
    """An id of an application, a group or a configuration."""
    return str(uuid.uuid4())


def new_deployment_id() -> str:
    """An id of a deployment as AWS makes them."""
    return "d-" + "".join(secrets.choice(_LETTERS) for _ in range(9))


def page(key: str, items: list[Any], input: Input) -> Output:
    """One page of a listing; tokens are positions. Raises InvalidNextTokenException."""
    refusal = AwsError("InvalidNextTokenException", "The next token was specified in an invalid format.")
    return page_at(key, items, input.get("nextToken"), _PAGE, refusal, "nextToken")


def few(items: list[Any], most: int = 100) -> list[Any]:
    """What a batch operation is asked for. Raises BatchLimitExceededException."""
    if len(items) > most:
        raise AwsError("BatchLimitExceededException", f"The maximum number of items in one batch is {most}.")
    return items


def from_tags(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """A list of tags as a map."""
    return {tag["Key"]: tag.get("Value", "") for tag in tags or ()}


def to_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    """A map of tags as a list."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
