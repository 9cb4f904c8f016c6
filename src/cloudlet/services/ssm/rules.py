"""What a parameter's name, value, tier and policies may be."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from cloudlet.errors import AwsError, not_implemented

_NAME = re.compile(r"[A-Za-z0-9_.\-/]+")
_PART = re.compile(r"[A-Za-z0-9_.\-]+")
_LABEL = re.compile(r"[A-Za-z_.\-][A-Za-z0-9_.\-]*")
_LONGEST = 1011  # of an ARN
_DEEPEST = 15
_STANDARD_BYTES = 4096
_ADVANCED_BYTES = 8192
_POLICIES_AT_MOST = 10
_TYPES = ("Expiration", "ExpirationNotification", "NoChangeNotification")
_OTHER_DATA_TYPES = frozenset(
    (
        *("aws:ec2:image", "aws:ssm:integration", "aws:region", "aws:account:id", "boolean", "integer", "float"),
        *("binary", "hostname", "email", "ipv4-address", "ipv6-address", "url", "json", "jsonc"),
    )
)


def validation(message: str) -> AwsError:
    """A request that cannot be."""
    return AwsError("ValidationException", message)


def check_name(name: str, arn: str) -> None:
    """Judge the name of a parameter that is to be written. Raises ValidationException and its like."""
    check_readable(name)
    bare = name.lower().lstrip("/")
    if bare.startswith(("aws", "ssm")):
        if "/" not in name[1:]:
            raise validation('Parameter name: can\'t be prefixed with "aws" or "ssm" (case-insensitive).')
        if bare.startswith("aws"):
            raise AwsError("AccessDeniedException", f"No access to reserved parameter name: {name}.")
        raise _ill_formed()
    if len(arn) > _LONGEST:
        raise validation(f"Parameter name: can't be longer than {_LONGEST} characters, its ARN included.")
    if name.strip("/").count("/") >= _DEEPEST:
        raise AwsError(
            "HierarchyLevelLimitExceededException",
            f"A hierarchy can have a maximum of {_DEEPEST} levels.",
        )


def check_readable(name: str) -> None:
    """Judge the form of a name. Raises ValidationException."""
    is_path = "/" in name
    if _NAME.fullmatch(name) is None or (is_path and (not name.startswith("/") or name.endswith("/") or "//" in name)):
        raise _ill_formed()


def check_path(path: str) -> None:
    """Judge the path of a hierarchy. Raises ValidationException."""
    parts = path.strip("/").split("/") if path != "/" else []
    if not path.startswith("/") or any(_PART.fullmatch(part) is None for part in parts):
        raise validation(
            "The parameter doesn't meet the parameter name requirements. "
            'The parameter name must begin with a forward slash "/". '
            'It can\'t be prefixed with \\"aws\\" or \\"ssm\\" (case-insensitive). '
            "It must use only letters, numbers, or the following symbols: . (period), - (hyphen), _ (underscore). "
            'Special characters are not allowed. All sub-paths, if specified, must use the forward slash symbol "/". '
            "Valid example: /get/parameters2-/by1./path0_."
        )


def is_label(label: str) -> bool:
    """Whether a text may be a label."""
    return _LABEL.fullmatch(label) is not None and not label.lower().startswith(("aws", "ssm"))


def _ill_formed() -> AwsError:
    return validation(
        'Parameter name: can\'t be prefixed with "ssm" (case-insensitive). If formed as a path, it can consist of '
        "sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following "
        "3 symbols .-_"
    )


def check_data_type(data_type: str) -> None:
    """Judge a data type. Raises ValidationException, and NotImplemented for one whose values are not checked here."""
    if data_type in _OTHER_DATA_TYPES:
        raise not_implemented(f"PutParameter with the DataType {data_type}")
    if data_type != "text":
        raise validation(f"The following data type is not supported: {data_type} (Data type names are all lowercase.)")


def check_value(type: str, value: str, pattern: str) -> None:
    """Judge a value by its type and the parameter's pattern. Raises ParameterPatternMismatchException and its like."""
    if not value:
        raise validation(
            "1 validation error detected: Value '' at 'value' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1."
        )
    if "{{" in value and re.search(r"\{\{\s*ssm(-secure)?:[^}]*\}\}", value):
        raise validation('Parameter value can\'t nest another parameter. Do not use "{{}}" in the value.')
    if not pattern:
        return
    try:
        compiled = re.compile(pattern)
    except re.error:
        raise AwsError(
            "InvalidAllowedPatternException",
            "The request does not meet the regular expression requirement. "
            f"The allowed pattern is not a valid regular expression: {pattern}",
        ) from None
    parts = value.split(",") if type == "StringList" else [value]
    if any(compiled.fullmatch(part) is None for part in parts):
        raise AwsError(
            "ParameterPatternMismatchException",
            f"Parameter value, cannot be validated against allowedPattern: {pattern}",
        )


def tier_of(wanted: str, before: str, value: str, has_policies: bool) -> str:
    """The tier that a version gets. Raises ValidationException where the wanted one cannot be."""
    size = len(value.encode())
    if size > _ADVANCED_BYTES:
        raise validation(f"Advanced tier parameters support a maximum parameter value of {_ADVANCED_BYTES} characters.")
    if wanted == "Standard" and before == "Advanced":
        raise validation(
            "This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the "
            "advanced-parameter tier to the standard-parameter tier. If necessary, you can delete the advanced "
            "parameter and recreate it as a standard parameter."
        )
    if "Advanced" in (wanted, before):
        return "Advanced"
    if wanted == "Intelligent-Tiering":
        return "Advanced" if size > _STANDARD_BYTES or has_policies else "Standard"
    if size > _STANDARD_BYTES:
        raise validation(
            f"Standard tier parameters support a maximum parameter value of {_STANDARD_BYTES} characters. To create a "
            "larger parameter value, upgrade the parameter to use the advanced-parameter tier. For more information, "
            "see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"
        )
    if has_policies:
        raise validation("Standard tier parameters don't support parameter policies. Use the advanced-parameter tier.")
    return "Standard"


def read_policies(text: str) -> tuple[list[dict[str, Any]], float | None]:
    """A parameter's policies and when it expires, if ever. Raises InvalidPolicyTypeException and its like."""
    try:
        policies = json.loads(text)
    except ValueError:
        policies = None
    if not isinstance(policies, list) or not all(isinstance(policy, dict) for policy in policies):
        raise AwsError("InvalidPolicyAttributeException", "Policies must be a JSON array of policies.")
    if len(policies) > _POLICIES_AT_MOST:
        raise AwsError(
            "PoliciesLimitExceededException",
            "You specified more than the maximum number of allowed policies for the parameter. The maximum is 10.",
        )
    expires = None
    for policy in policies:
        kind = policy.get("Type")
        if kind not in _TYPES:
            raise AwsError(
                "InvalidPolicyTypeException",
                "The policy type isn't supported. Parameter Store supports the following policy types: "
                "Expiration, ExpirationNotification, and NoChangeNotification.",
            )
        if kind != "Expiration":
            raise not_implemented(f"PutParameter with a policy of type {kind}")
        if expires is not None:
            raise AwsError(
                "IncompatiblePolicyException",
                "There is a conflict in the policies specified for this parameter. You can't, for example, specify "
                "two Expiration policies for a parameter. Review your policies, and try again.",
            )
        expires = _timestamp(policy)
    return policies, expires


def _timestamp(policy: dict[str, Any]) -> float:
    try:
        at = datetime.fromisoformat(policy["Attributes"]["Timestamp"])
        if at.tzinfo is not None:
            return at.timestamp()
    except (KeyError, TypeError, ValueError):
        pass
    raise AwsError(
        "InvalidPolicyAttributeException",
        "A policy attribute or its value is invalid: Timestamp must be a date and time such as "
        "2018-12-02T21:34:33.000Z.",
    )
