"""Repository creation templates: the settings of repositories that nobody creates, but a copy or a push does."""

from __future__ import annotations

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecr import lifecycle
from cloudlet.services.ecr.base import invalid
from cloudlet.services.ecr.policies import policy_of
from cloudlet.services.ecr.records import Repository, Template
from cloudlet.services.ecr.repositories import Repositories, mutability_of, read_token, token_of
from cloudlet.store import Resources, Tx

_PAGE = 100
_AT_ALL = "ROOT"  # the prefix of the template for what no other one is about
_SETTINGS = (
    *("description", "encryptionConfiguration", "resourceTags", "imageTagMutability", "customRoleArn"),
    *("imageTagMutabilityExclusionFilters", "repositoryPolicy", "lifecyclePolicy", "appliedFor"),
)


class Templates(Repositories):
    """Operations on templates, and the creation of repositories by them."""

    templates: Resources[Template]

    async def start(self) -> None:
        await super().start()
        self.templates = self.db.resources(Template)

    async def CreateRepositoryCreationTemplate(self, call: Call, input: Input) -> Output:
        now = self.clock.now()
        template = Template(_prefix(input), now, now, {"imageTagMutability": "MUTABLE", **_settings(input)})

        def create(tx: Tx) -> None:
            if self.templates.get(call.scope, template.prefix, tx) is not None:
                raise AwsError(
                    "TemplateAlreadyExistsException",
                    f"The repository creation template with prefix '{template.prefix}' already exists in the registry "
                    f"with id '{call.account}'",
                )
            self.templates.put(tx, call.scope, template.prefix, template)

        await self.db.write(create)
        return _answer(call, template)

    async def UpdateRepositoryCreationTemplate(self, call: Call, input: Input) -> Output:
        settings, now = _settings(input), self.clock.now()

        def update(tx: Tx) -> Template:
            before = self._template(call, _prefix(input), tx)
            after = replace(before, updated=now, settings={**before.settings, **settings})
            return self.templates.put(tx, call.scope, before.prefix, after).value

        return _answer(call, await self.db.write(update))

    async def DescribeRepositoryCreationTemplates(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self.templates.list(call.scope)]
        if "prefixes" in input:
            wanted = {prefix.removesuffix("/") for prefix in input["prefixes"]}
            found = [template for template in found if template.prefix in wanted]
        after, limit = read_token(input["nextToken"]) if "nextToken" in input else "", input.get("maxResults", _PAGE)
        found = [template for template in found if template.prefix > after]
        output: Output = {
            "registryId": call.account,
            "repositoryCreationTemplates": [_shown(template) for template in found[:limit]],
        }
        return output | ({"nextToken": token_of(found[limit - 1].prefix)} if len(found) > limit else {})

    async def DeleteRepositoryCreationTemplate(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> Template:
            template = self._template(call, _prefix(input), tx)
            self.templates.delete(tx, call.scope, template.prefix)
            return template

        return _answer(call, await self.db.write(delete))

    async def make_repository(self, scope: str, name: str, occasion: str) -> Repository:
        """A repository that comes into being by an ``occasion`` (``REPLICATION``), with its template's settings."""
        template = self.template_for(scope, name, occasion)
        settings = template.settings if template is not None else {}
        account, region = scope.split("/")
        call, place = Call(account, region), {"repositoryName": name}
        ask = {
            member: settings[member]
            for member in ("encryptionConfiguration", "imageTagMutability", "imageTagMutabilityExclusionFilters")
            if settings.get(member)
        }
        try:
            await self.CreateRepository(call, {**place, **ask, "tags": settings.get("resourceTags", [])})
        except AwsError as error:
            if error.code != "RepositoryAlreadyExistsException":
                raise
            return self.repository(scope, name)  # somebody was faster
        fields = {"policy": settings.get("repositoryPolicy", ""), "lifecycle": settings.get("lifecyclePolicy", "")}
        repository = await self.edit(call, place, **fields, evaluated=self.clock.now())
        self.plan_expiry(scope, repository)
        return repository

    def template_for(self, scope: str, name: str, occasion: str) -> Template | None:
        """The template of the longest prefix that a repository's name has, for an occasion."""
        fitting = [
            record.value
            for record in self.templates.list(scope)
            if occasion in record.value.settings["appliedFor"]
            and (record.name == _AT_ALL or name.startswith(f"{record.name}/"))
        ]
        return max(fitting, key=lambda template: (template.prefix != _AT_ALL, len(template.prefix)), default=None)

    def _template(self, call: Call, prefix: str, tx: Tx) -> Template:
        record = self.templates.get(call.scope, prefix, tx)
        if record is None:
            raise AwsError(
                "TemplateNotFoundException",
                f"The repository creation template with prefix '{prefix}' does not exist in the registry with id "
                f"'{call.account}'",
            )
        return record.value


def _prefix(input: Input) -> str:
    return str(input["prefix"]).removesuffix("/")


def _settings(input: Input) -> Output:
    """A template's settings. Raises InvalidParameterException."""
    if "imageTagMutability" in input or "imageTagMutabilityExclusionFilters" in input:
        mutability_of(input)
    if input.get("repositoryPolicy"):
        policy_of(input["repositoryPolicy"], "Invalid repository policy provided")
    if input.get("lifecyclePolicy"):
        lifecycle.read(input["lifecyclePolicy"])
    if "appliedFor" in input and not input["appliedFor"]:
        raise invalid("appliedFor", "must not be empty")
    return {member: input[member] for member in _SETTINGS if member in input}


def _answer(call: Call, template: Template) -> Output:
    return {"registryId": call.account, "repositoryCreationTemplate": _shown(template)}


def _shown(template: Template) -> Output:
    times = {"createdAt": template.created, "updatedAt": template.updated}
    return {"prefix": template.prefix, **template.settings, **times}
