"""AppSpec files: what is deployed, and which functions are asked on the way.

https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-resources.html
"""

from __future__ import annotations

import json
from typing import Any

from cloudlet.services.codedeploy.course import HOOKS
from cloudlet.services.codedeploy.errors import Failure

_TYPES = {"Lambda": "AWS::Lambda::Function", "ECS": "AWS::ECS::Service"}
_NEEDED = {
    "Lambda": ("Name", "Alias", "CurrentVersion", "TargetVersion"),
    "ECS": ("TaskDefinition", "LoadBalancerInfo"),
}


def parse(text: str, platform: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The properties of the one resource, and the hooks by lifecycle event. Raises Failure."""
    document = _read(text)
    resources = _lowered(document, "resources")
    if not isinstance(resources, list) or len(resources) != 1 or not isinstance(resources[0], dict):
        raise _invalid("AppSpec file contains an invalid number of resources: exactly one is expected.")
    ((_, resource),) = resources[0].items() if len(resources[0]) == 1 else (("", {}),)
    if not isinstance(resource, dict) or _lowered(resource, "type") != _TYPES[platform]:
        raise _invalid(f"AppSpec file must have one resource of the type {_TYPES[platform]}.")
    properties = _lowered(resource, "properties")
    properties = properties if isinstance(properties, dict) else {}
    if missing := [name for name in _NEEDED[platform] if properties.get(name) in (None, "")]:
        raise _invalid(f"AppSpec file is missing the property {missing[0]}.")
    if platform == "Lambda":
        properties = {name: str(properties[name]) for name in _NEEDED[platform]}
    return properties, _hooks(_lowered(document, "hooks"), platform)


def _read(text: str) -> dict[str, Any]:
    import yaml

    try:
        # Every text, as versions and numbers of functions are; JSON is YAML.
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=yaml.BaseLoader)
    except (ValueError, yaml.YAMLError):
        raise _invalid("AppSpec file is not valid JSON or YAML.") from None
    if not isinstance(document, dict):
        raise _invalid("AppSpec file is not valid JSON or YAML.")
    version = _lowered(document, "version")
    if version is None or str(version) not in ("0.0", "0"):
        raise _invalid("AppSpec file must have the version 0.0.")
    return document


def _hooks(given: Any, platform: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given or ():
        for name, function in one.items() if isinstance(one, dict) else ():
            if name not in HOOKS[platform]:
                raise _invalid(f"AppSpec file has an invalid hook: {name}.")
            found[name] = str(function)
    return found


def _lowered(document: dict[str, Any], name: str) -> Any:
    """A member whose name may begin with a capital."""
    return document.get(name, document.get(name.capitalize()))


def _invalid(words: str) -> Failure:
    return Failure("INVALID_REVISION", words)
