"""Finds a resource type's class: ``AWS::SQS::Queue`` in ``services/sqs/resources.py``."""

from __future__ import annotations

import functools
import importlib
import importlib.util

from cloudlet.stacks.api import ResourceType

# Where the type's middle word is not the service's folder.
_FOLDERS = {
    "ACMPCA": "acm_pca",
    "AmazonMQ": "mq",
    "CDK": "cloudformation",
    "ApplicationAutoScaling": "application_autoscaling",
    "CertificateManager": "acm",
    "Cognito": "cognito_idp",
    "ElasticLoadBalancingV2": "elbv2",
    "KinesisFirehose": "firehose",
    "Lambda": "lambda_",
    "ResourceGroups": "resource_groups",
}
_CUSTOM = "AWS::CloudFormation::CustomResource"


def find(type: str) -> ResourceType | None:
    """The one object of a type, or None when Cloudlet does not have it."""
    if type.startswith("Custom::") and len(type) > len("Custom::"):
        type = _CUSTOM
    words = type.split("::")
    if len(words) != 3 or words[0] != "AWS":
        return None
    return types_of(_FOLDERS.get(words[1], words[1].lower())).get(type)


def replaces(type: str) -> frozenset[str] | None:
    """The properties whose change makes a new resource; None when the type cannot be changed in place."""
    found = find(type)
    if found is None or found.__class__.update is ResourceType.update:
        return None
    return found.replaces


@functools.cache
def types_of(folder: str) -> dict[str, ResourceType]:
    """The types of a service, by the name of its folder."""
    spec = importlib.util.find_spec(f"cloudlet.services.{folder}") if folder.isidentifier() else None
    if spec is None or spec.submodule_search_locations is None:
        return {}
    name = f"cloudlet.services.{folder}.resources"
    if importlib.util.find_spec(name) is None:
        return {}
    return {kind.type: kind() for kind in importlib.import_module(name).TYPES}
