"""AWS::Serverless: templates of SAM as templates of CloudFormation, by AWS's own translator."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cloudlet.stacks.errors import invalid

NAME = "AWS::Serverless-2016-10-31"

# The translator keeps state in its modules.
_one_at_a_time = threading.Lock()


def translate(
    document: dict[str, Any],
    parameters: Mapping[str, Any],
    account: str,
    region: str,
    policies: Callable[[], dict[str, str]],
) -> dict[str, Any]:
    """The processed template. ``policies`` gives the names and ARNs of AWS's managed policies.

    Takes long, and longer the first time: call it in a thread. Raises ValidationError.
    """
    with _one_at_a_time:
        from samtranslator.model.exceptions import InvalidDocumentException
        from samtranslator.parser.parser import Parser
        from samtranslator.translator.arn_generator import ArnGenerator
        from samtranslator.translator.translator import Translator
        from samtranslator.utils.py27hash_fix import to_py27_compatible_template, undo_mark_unicode_str_in_template

        declared = document.get("Transform")
        _refuse_repository(document)
        document = copy.deepcopy(document)
        values = {"AWS::AccountId": account, "AWS::URLSuffix": "amazonaws.com", **parameters}
        translator = Translator(None, Parser(), boto_session=_Session(region))
        try:
            # The order of Python 2.7's dictionaries is part of the hashes in deployments' names.
            to_py27_compatible_template(document, values)
            translated = undo_mark_unicode_str_in_template(
                translator.translate(document, values, get_managed_policy_map=policies)
            )
        except InvalidDocumentException as error:
            raise invalid(f"Transform {NAME} failed with: {_words(error)}") from None
        finally:
            translator.metrics.publish()
            ArnGenerator.BOTO_SESSION_REGION_NAME = None
    translated.pop("Transform", None)
    if others := _others(declared):
        translated["Transform"] = others
    return dict(translated)


class _Session:
    """What the translator takes for boto3's session: it only asks for the region."""

    def __init__(self, region: str) -> None:
        self.region_name = region


def _others(declared: Any) -> list[Any]:
    return [one for one in declared if one != NAME] if isinstance(declared, list) else []


def _words(error: Any) -> str:
    causes = getattr(error, "causes", None) or []
    if not causes:
        return str(getattr(error, "message", error))
    count = len(causes)
    words = " ".join(str(cause.message) for cause in sorted(causes, key=_place))
    return f"Invalid Serverless Application Specification document. Number of errors found: {count}. {words}"


def _place(cause: Any) -> str:
    """Causes come in the order of the resources or events that they are about."""
    return str(getattr(cause, "_logical_id", None) or getattr(cause, "_event_id", None) or cause.message)


def _refuse_repository(document: dict[str, Any]) -> None:
    """Applications of the Serverless Application Repository are not on this machine. Raises ValidationError."""
    resources = document.get("Resources")
    names = [
        name
        for name, resource in (resources.items() if isinstance(resources, dict) else ())
        if isinstance(resource, dict)
        and resource.get("Type") == "AWS::Serverless::Application"
        and isinstance((resource.get("Properties") or {}).get("Location"), dict)
    ]
    if names:
        raise invalid(
            f"Transform {NAME} failed with: Cloudlet does not have the Serverless Application Repository, of which "
            f"these are applications: [{', '.join(names)}]. Give a template as their Location."
        )
