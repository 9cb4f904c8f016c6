"""Whose key a signature was made with."""

from __future__ import annotations

import msgspec

from cloudlet.errors import AwsError


class Credential(msgspec.Struct, frozen=True):
    """An access key, and who has it. ``expires`` is in epoch seconds, 0 for never."""

    access_key: str
    secret: str
    account: str
    principal: str
    session_token: str = ""
    expires: float = 0.0


def unknown_key(access_key: str, service: str) -> AwsError:
    """A key that nobody issued, in the words of the service that was asked."""
    if service == "s3":
        words = "The AWS Access Key Id you provided does not exist in our records."
        return AwsError("InvalidAccessKeyId", words, status=403, AWSAccessKeyId=access_key)
    if service in ("iam", "sts", "sns", "cloudformation", "sqs"):
        return AwsError("InvalidClientTokenId", "The security token included in the request is invalid.", status=403)
    words = "The security token included in the request is invalid."
    return AwsError("UnrecognizedClientException", words, status=400)
