"""How each service is told of tags: by its own operations, whose checks and errors are then this API's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.services.api import Input, Output
from cloudlet.services.resourcegroupstaggingapi.arns import Arn

Ask = Callable[[str, str, Input], Awaitable[Output]]  # service, operation and input, with the caller's rights


class Change(NamedTuple):
    """Tags that are added, or keys of tags that go."""

    added: dict[str, str] = {}
    gone: Sequence[str] = ()

    def of(self, tags: dict[str, str]) -> dict[str, str]:
        """What becomes of tags."""
        return {key: value for key, value in tags.items() if key not in self.gone} | self.added


Dialect = Callable[[Ask, Arn, Change], Awaitable[object]]


def dialect_of(arn: Arn) -> Dialect | None:
    """How the service of a resource is told, or None where this cloud has no such service."""
    return _DIALECTS.get(f"{arn.service}:{arn.kind}") or _DIALECTS.get(arn.service)


def _listed(key: str = "Key", value: str = "Value") -> Callable[[dict[str, str]], Any]:
    return lambda tags: [{key: name, value: tag} for name, tag in tags.items()]


_PAIRS = _listed()
_SMALL_PAIRS = _listed("key", "value")


def _named(member: str) -> Callable[[Arn], Input]:
    """A resource that an operation knows by its ARN."""
    return lambda arn: {member: arn.text}


def _own(
    service: str,
    resource: Callable[[Arn], Input],
    tag: str = "TagResource",
    untag: str = "UntagResource",
    tags: str = "Tags",
    keys: str = "TagKeys",
    form: Callable[[dict[str, str]], Any] = _PAIRS,
    key_form: Callable[[Sequence[str]], Any] = list,
) -> Dialect:
    """A service with one operation that adds tags and one that takes them off.

    ``tags`` and ``keys`` are the members that have them, ``form`` and ``key_form`` how they are written there.
    """

    async def tell(ask: Ask, arn: Arn, change: Change) -> None:
        if change.added:
            await ask(service, tag, {**resource(arn), tags: form(change.added)})
        else:
            await ask(service, untag, {**resource(arn), keys: key_form(change.gone)})

    return tell


def _in_small(service: str, form: Callable[[dict[str, str]], Any]) -> Dialect:
    """A service whose members begin with small letters."""
    return _own(service, _named("resourceArn"), tags="tags", keys="tagKeys", form=form)


def _as_tags(keys: Sequence[str]) -> list[dict[str, str]]:
    return [{"Key": key} for key in keys]


def _iam(operation: str, member: str, value: Callable[[Arn], str]) -> Dialect:
    return _own("iam", lambda arn: {member: value(arn)}, f"Tag{operation}", f"Untag{operation}")


def _last(arn: Arn) -> str:
    return arn.resource.rpartition("/")[2]


def _text(arn: Arn) -> str:
    return arn.text


async def _auto_scaling_group(ask: Ask, arn: Arn, change: Change) -> None:
    name = arn.resource.partition("autoScalingGroupName/")[2]
    group: Input = {"ResourceId": name, "ResourceType": "auto-scaling-group"}
    if change.added:
        group["PropagateAtLaunch"] = False
        tags = [{**group, "Key": key, "Value": value} for key, value in change.added.items()]
        await ask("autoscaling", "CreateOrUpdateTags", {"Tags": tags})
    else:
        await ask("autoscaling", "DeleteTags", {"Tags": [{**group, "Key": key} for key in change.gone]})


async def _bucket(ask: Ask, arn: Arn, change: Change) -> None:
    """S3 knows only the whole set of a bucket's tags."""
    bucket = {"Bucket": arn.resource}
    try:
        tags = {tag["Key"]: tag["Value"] for tag in (await ask("s3", "GetBucketTagging", bucket))["TagSet"]}
    except AwsError as error:
        if error.code != "NoSuchTagSet":
            raise
        tags = {}
    await ask("s3", "PutBucketTagging", {**bucket, "Tagging": {"TagSet": _PAIRS(change.of(tags))}})


async def _stack(ask: Ask, arn: Arn, change: Change) -> None:
    """A stack's tags change with an update of it that changes nothing else."""
    stack = (await ask("cloudformation", "DescribeStacks", {"StackName": arn.text}))["Stacks"][0]
    now = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
    if change.of(now) == now:
        return
    given = [one["ParameterKey"] for one in stack.get("Parameters", [])]
    update = {
        "StackName": arn.text,
        "UsePreviousTemplate": True,
        "Parameters": [{"ParameterKey": key, "UsePreviousValue": True} for key in given],
        "Capabilities": stack.get("Capabilities", []),
        "Tags": _PAIRS(change.of(now)),
    }
    await ask("cloudformation", "UpdateStack", update)


_OF_REST, _OF_HTTP = _in_small("apigateway", dict), _own("apigatewayv2", _named("ResourceArn"), form=dict)


async def _domain_name(ask: Ask, arn: Arn, change: Change) -> None:
    """A domain name is one for REST or one for HTTP APIs, and its ARN does not say which."""
    try:
        await _OF_REST(ask, arn, change)
    except AwsError as error:
        if error.code != "NotFoundException":
            raise
        await _OF_HTTP(ask, arn, change)


_DIALECTS: dict[str, Dialect] = {
    "acm": _own("acm", _named("ResourceArn")),
    "acm-pca": _own(
        "acm-pca",
        _named("CertificateAuthorityArn"),
        "TagCertificateAuthority",
        "UntagCertificateAuthority",
        keys="Tags",
        key_form=_as_tags,
    ),
    "apigateway": _OF_REST,
    "apigateway:apis": _OF_HTTP,
    "apigateway:domainnames": _domain_name,
    "application-autoscaling": _own("application-autoscaling", _named("ResourceARN"), form=dict),
    "appmesh": _in_small("appmesh", _SMALL_PAIRS),
    "autoscaling": _auto_scaling_group,
    "cloudformation": _stack,
    "cloudwatch": _own("cloudwatch", _named("ResourceARN")),
    "codedeploy": _own("codedeploy", _named("ResourceArn")),
    "dynamodb": _own("dynamodb", _named("ResourceArn")),
    "ec2": _own(
        "ec2",
        lambda arn: {"Resources": [arn.name]},
        "CreateTags",
        "DeleteTags",
        keys="Tags",
        key_form=_as_tags,
    ),
    "ecr": _in_small("ecr", _PAIRS),
    "ecs": _in_small("ecs", _SMALL_PAIRS),
    "elasticloadbalancing": _own("elbv2", lambda arn: {"ResourceArns": [arn.text]}, "AddTags", "RemoveTags"),
    "events": _own("events", _named("ResourceARN")),
    "iam:instance-profile": _iam("InstanceProfile", "InstanceProfileName", _last),
    "iam:mfa": _iam("MFADevice", "SerialNumber", _text),
    "iam:oidc-provider": _iam("OpenIDConnectProvider", "OpenIDConnectProviderArn", _text),
    "iam:policy": _iam("Policy", "PolicyArn", _text),
    "iam:role": _iam("Role", "RoleName", _last),
    "iam:saml-provider": _iam("SAMLProvider", "SAMLProviderArn", _text),
    "iam:server-certificate": _iam("ServerCertificate", "ServerCertificateName", _last),
    "iam:user": _iam("User", "UserName", _last),
    "kms": _own("kms", _named("KeyId"), form=_listed("TagKey", "TagValue")),
    "lambda": _own("lambda", _named("Resource"), form=dict),
    "logs": _in_small("logs", dict),
    "resource-groups": _own("resource-groups", _named("Arn"), "Tag", "Untag", keys="Keys", form=dict),
    "route53": _own(
        "route53",
        lambda arn: {"ResourceType": arn.kind, "ResourceId": arn.name},
        "ChangeTagsForResource",
        "ChangeTagsForResource",
        tags="AddTags",
        keys="RemoveTagKeys",
    ),
    "s3": _bucket,
    "scheduler": _own("scheduler", _named("ResourceArn")),
    "secretsmanager": _own("secretsmanager", _named("SecretId")),
    "servicediscovery": _own("servicediscovery", _named("ResourceARN")),
    "sns": _own("sns", _named("ResourceArn")),
    "sqs": _own(
        "sqs",
        lambda arn: {"QueueUrl": f"https://sqs.{arn.region}.amazonaws.com/{arn.account}/{arn.resource}"},
        "TagQueue",
        "UntagQueue",
        form=dict,
    ),
    "ssm:parameter": _own(
        "ssm",
        lambda arn: {"ResourceType": "Parameter", "ResourceId": f"/{arn.name}"},
        "AddTagsToResource",
        "RemoveTagsFromResource",
    ),
    "states": _in_small("stepfunctions", _SMALL_PAIRS),
    "xray": _own("xray", _named("ResourceARN")),
}
