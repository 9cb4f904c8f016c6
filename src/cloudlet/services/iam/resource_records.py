"""CloudFormation's types of what stands beside identities: keys, profiles, providers, roles of services."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of


class AccessKey(ResourceType):
    """An access key of a user. ``Ref`` is its id."""

    type = "AWS::IAM::AccessKey"
    required = frozenset(("UserName",))
    replaces = frozenset(("UserName", "Serial"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = {name: value for name, value in properties.items() if name not in ("Serial", "Status")}
        key = (await do.call("iam", "CreateAccessKey", input))["AccessKey"]
        id = key["AccessKeyId"]
        made = Physical(id, {"Id": id, "SecretAccessKey": key["SecretAccessKey"]})
        if properties.get("Status", "Active") != "Active":
            await self.update(do, made, {}, properties)
        return made

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        status = {"AccessKeyId": physical.id, "Status": new.get("Status", "Active")}
        await do.call("iam", "UpdateAccessKey", {"UserName": new["UserName"], **status})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless_gone(do, "DeleteAccessKey", {"UserName": properties["UserName"], "AccessKeyId": physical.id})


class InstanceProfile(ResourceType):
    """An instance profile with its role. ``Ref`` is its name."""

    type = "AWS::IAM::InstanceProfile"
    required = frozenset(("Roles",))
    replaces = frozenset(("InstanceProfileName", "Path"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("InstanceProfileName") or do.name(128)
        input = {member: value for member, value in properties.items() if member != "Roles"}
        await do.call("iam", "CreateInstanceProfile", {**input, "InstanceProfileName": name})
        try:
            for role in properties["Roles"]:
                await do.call("iam", "AddRoleToInstanceProfile", {"InstanceProfileName": name, "RoleName": role})
        except AwsError:
            await self.delete(do, Physical(name), {"Roles": properties["Roles"]})
            raise
        made = (await do.call("iam", "GetInstanceProfile", {"InstanceProfileName": name}))["InstanceProfile"]
        return Physical(name, {"Arn": made["Arn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if changed(old, new, "Roles"):
            key = {"InstanceProfileName": physical.id}
            for role in old["Roles"]:
                await unless_gone(do, "RemoveRoleFromInstanceProfile", {**key, "RoleName": role})
            for role in new["Roles"]:
                await do.call("iam", "AddRoleToInstanceProfile", {**key, "RoleName": role})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        key = {"InstanceProfileName": physical.id}
        for role in properties["Roles"]:
            await unless_gone(do, "RemoveRoleFromInstanceProfile", {**key, "RoleName": role})
        await unless_gone(do, "DeleteInstanceProfile", key)


class ServiceLinkedRole(ResourceType):
    """The role of a service. ``Ref`` is its name."""

    type = "AWS::IAM::ServiceLinkedRole"
    replaces = frozenset(("AWSServiceName", "CustomSuffix"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        made = (await do.call("iam", "CreateServiceLinkedRole", properties))["Role"]
        return Physical(made["RoleName"], {"RoleName": made["RoleName"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("iam", "UpdateRole", {"RoleName": physical.id, "Description": new.get("Description", "")})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless_gone(do, "DeleteServiceLinkedRole", {"RoleName": physical.id})


class OidcProvider(ResourceType):
    """An OpenID Connect provider. ``Ref`` is its ARN."""

    type = "AWS::IAM::OIDCProvider"
    replaces = frozenset(("Url",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = {_MEMBER.get(name, name): value for name, value in properties.items()}
        tags = {"Tags": tag_list(do, properties)}
        made = await do.call("iam", "CreateOpenIDConnectProvider", {**input, **tags})
        return Physical(made["OpenIDConnectProviderArn"], {"Arn": made["OpenIDConnectProviderArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        key = {"OpenIDConnectProviderArn": physical.id}
        before, after = old.get("ClientIdList", ()), new.get("ClientIdList", ())
        for client in after:
            await do.call("iam", "AddClientIDToOpenIDConnectProvider", {**key, "ClientID": client})
        for client in before:
            if client not in after:
                await do.call("iam", "RemoveClientIDFromOpenIDConnectProvider", {**key, "ClientID": client})
        if changed(old, new, "ThumbprintList"):
            thumbprints = {"ThumbprintList": new.get("ThumbprintList", [])}
            await do.call("iam", "UpdateOpenIDConnectProviderThumbprint", {**key, **thumbprints})
        await set_tags(do, "OpenIDConnectProvider", key, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless_gone(do, "DeleteOpenIDConnectProvider", {"OpenIDConnectProviderArn": physical.id})


class SamlProvider(ResourceType):
    """A SAML provider. ``Ref`` is its ARN."""

    type = "AWS::IAM::SAMLProvider"
    required = frozenset(("SamlMetadataDocument",))
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = {"Name": do.name(128), **{_MEMBER.get(name, name): value for name, value in properties.items()}}
        made = await do.call("iam", "CreateSAMLProvider", {**input, "Tags": tag_list(do, properties)})
        return Physical(made["SAMLProviderArn"], {"Arn": made["SAMLProviderArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        key = {"SAMLProviderArn": physical.id}
        await do.call("iam", "UpdateSAMLProvider", {**key, "SAMLMetadataDocument": new["SamlMetadataDocument"]})
        await set_tags(do, "SAMLProvider", key, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless_gone(do, "DeleteSAMLProvider", {"SAMLProviderArn": physical.id})


# Property -> member, where the API writes it otherwise.
_MEMBER = {"ClientIdList": "ClientIDList", "SamlMetadataDocument": "SAMLMetadataDocument"}


def tag_list(do: Deployment, properties: Properties) -> list[dict[str, str]]:
    """The resource's and the stack's tags as IAM takes them."""
    return [{"Key": key, "Value": value} for key, value in tags_of(do, properties).items()]


async def set_tags(do: Deployment, kind: str, key: dict[str, str], properties: Properties) -> None:
    """Make the tags those of the template."""
    tags = tag_list(do, properties)
    names = {tag["Key"] for tag in tags}
    found = await do.call("iam", f"List{kind}Tags", dict(key))
    if gone := [tag["Key"] for tag in found["Tags"] if tag["Key"] not in names]:
        await do.call("iam", f"Untag{kind}", {**key, "TagKeys": gone})
    if tags:
        await do.call("iam", f"Tag{kind}", {**key, "Tags": tags})


async def unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    """Call what deletes; that it is gone already is no error."""
    try:
        await do.call("iam", operation, input)
    except AwsError as error:
        if error.code != "NoSuchEntity":
            raise
