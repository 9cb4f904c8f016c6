"""The errors that most operations of SNS share."""

from __future__ import annotations

from cloudlet.errors import AwsError


def invalid(reason: str) -> AwsError:
    """A parameter that cannot be."""
    return AwsError("InvalidParameterException", f"Invalid parameter: {reason}")


def no_topic() -> AwsError:
    """The topic is not there."""
    return AwsError("NotFoundException", "Topic does not exist")


def no_subscription() -> AwsError:
    """The subscription is not there."""
    return AwsError("NotFoundException", "Subscription does not exist")
