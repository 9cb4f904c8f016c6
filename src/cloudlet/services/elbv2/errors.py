"""Errors in AWS's words that several operations share."""

from __future__ import annotations

from cloudlet.errors import AwsError


def invalid(message: str) -> AwsError:
    """A parameter is wrong; the model has no shape for it."""
    return AwsError("ValidationError", message)


def misconfigured(message: str) -> AwsError:
    """The parameters do not go together."""
    return AwsError("InvalidConfigurationRequestException", message)


def no_load_balancer() -> AwsError:
    """No such load balancer."""
    return AwsError("LoadBalancerNotFoundException", "One or more load balancers not found")


def no_listener() -> AwsError:
    """No such listener."""
    return AwsError("ListenerNotFoundException", "One or more listeners not found")


def no_rule() -> AwsError:
    """No such rule."""
    return AwsError("RuleNotFoundException", "One or more rules not found")


def no_group() -> AwsError:
    """No such target group."""
    return AwsError("TargetGroupNotFoundException", "One or more target groups not found")
