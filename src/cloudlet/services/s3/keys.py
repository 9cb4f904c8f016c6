"""Keys of objects: their limits, and the errors for those that are not there."""

from __future__ import annotations

import re

from cloudlet.errors import AwsError
from cloudlet.services.s3.records import NULL

_LONGEST = 1024
_VERSION = re.compile(r"[A-Za-z0-9._-]{32}\Z")


def check_key(key: str) -> str:
    """A key that can be stored. Raises KeyTooLongError."""
    length = len(key) if key.isascii() else len(key.encode())
    if length > _LONGEST:
        raise AwsError("KeyTooLongError", "Your key is too long", Size=length, MaxSizeAllowed=_LONGEST)
    return key


def check_version(version: str) -> None:
    """Refuse what is no version's id. Raises InvalidArgument."""
    if version != NULL and _VERSION.match(version) is None:
        raise AwsError(
            "InvalidArgument", "Invalid version id specified", ArgumentName="versionId", ArgumentValue=version
        )


def no_such_key(key: str) -> AwsError:
    """The error for a key that is not there."""
    return AwsError("NoSuchKey", "The specified key does not exist.", status=404, Key=key)


def no_such_version(key: str, version: str) -> AwsError:
    """The error for a version that is not there."""
    return AwsError("NoSuchVersion", "The specified version does not exist.", status=404, Key=key, VersionId=version)


def method_not_allowed(method: str, what: str) -> AwsError:
    """The error for what a delete marker does not answer."""
    return AwsError(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        status=405,
        Method=method,
        ResourceType=what,
    )
