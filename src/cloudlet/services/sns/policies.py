"""Delivery policies of topics and subscriptions, and the access policy that a topic has by itself."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from cloudlet.services.sns.errors import invalid
from cloudlet.services.sns.records import Subscription, Topic

_RETRY: dict[str, Any] = {
    "minDelayTarget": 20,
    "maxDelayTarget": 20,
    "numRetries": 3,
    "numMaxDelayRetries": 0,
    "numNoDelayRetries": 0,
    "numMinDelayRetries": 0,
    "backoffFunction": "linear",
}
_REQUEST = {"headerContentType": "text/plain; charset=UTF-8"}
_ACTIONS = (
    "GetTopicAttributes",
    "SetTopicAttributes",
    "AddPermission",
    "RemovePermission",
    "DeleteTopic",
    "Subscribe",
    "ListSubscriptionsByTopic",
    "Publish",
)
ACTIONS = frozenset((*_ACTIONS, "Receive"))


def access(topic: Topic) -> dict[str, Any]:
    """A topic's access policy."""
    if text := topic.attributes.get("Policy"):
        policy: dict[str, Any] = json.loads(text)
        return policy
    return {
        "Version": "2008-10-17",
        "Id": "__default_policy_ID",
        "Statement": [
            {
                "Effect": "Allow",
                "Sid": "__default_statement_ID",
                "Principal": {"AWS": "*"},
                "Action": [f"SNS:{action}" for action in _ACTIONS],
                "Resource": topic.arn,
                "Condition": {"StringEquals": {"AWS:SourceOwner": topic.account}},
            }
        ],
    }


def effective(topic: Topic) -> dict[str, Any]:
    """A topic's delivery policy with its defaults."""
    own = _of(topic.attributes).get("http", {})
    return {
        "http": {
            "defaultHealthyRetryPolicy": {**_RETRY, **(own.get("defaultHealthyRetryPolicy") or {})},
            "disableSubscriptionOverrides": own.get("disableSubscriptionOverrides", False),
            **({"defaultThrottlePolicy": own["defaultThrottlePolicy"]} if own.get("defaultThrottlePolicy") else {}),
            "defaultRequestPolicy": {**_REQUEST, **(own.get("defaultRequestPolicy") or {})},
        }
    }


def effective_of(topic: Topic, subscription: Subscription) -> dict[str, Any]:
    """A subscription's delivery policy with its topic's."""
    return {
        "healthyRetryPolicy": retries_of(topic, subscription),
        "sicklyRetryPolicy": None,
        "throttlePolicy": _of(subscription.attributes).get("throttlePolicy"),
        "requestPolicy": request_of(topic, subscription),
        "guaranteed": False,
    }


def retries_of(topic: Topic, subscription: Subscription) -> dict[str, Any]:
    """How often an HTTP endpoint is tried."""
    of_topic = effective(topic)["http"]
    if of_topic["disableSubscriptionOverrides"]:
        return of_topic["defaultHealthyRetryPolicy"]  # type: ignore[no-any-return]
    return {**of_topic["defaultHealthyRetryPolicy"], **(_of(subscription.attributes).get("healthyRetryPolicy") or {})}


def request_of(topic: Topic, subscription: Subscription) -> dict[str, Any]:
    """How an HTTP endpoint is asked."""
    of_topic = effective(topic)["http"]["defaultRequestPolicy"]
    return {**of_topic, **(_of(subscription.attributes).get("requestPolicy") or {})}


def pause_after(failed: int, policy: dict[str, Any]) -> float | None:
    """Seconds from a failed try to the next one in the phases of a retry policy, or None after the last."""
    if failed > policy["numRetries"]:
        return None
    without, least, most = policy["numNoDelayRetries"], policy["numMinDelayRetries"], policy["numMaxDelayRetries"]
    shortest, longest = float(policy["minDelayTarget"]), float(policy["maxDelayTarget"])
    if failed <= without:
        return 0.0
    if failed <= without + least:
        return shortest
    rising = policy["numRetries"] - without - least - most
    step = failed - without - least
    if step > rising:
        return longest
    share: float = step / rising
    match policy["backoffFunction"]:
        case "exponential":
            return min(longest, shortest * float((longest / shortest) ** share))
        case "arithmetic" | "geometric":
            return shortest + (longest - shortest) * share * share
        case _:
            return shortest + (longest - shortest) * share


def check(text: str, of_topic: bool) -> None:
    """Check a delivery policy. Raises AWS's error."""
    try:
        policy = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        raise invalid("DeliveryPolicy: JSON text is not valid") from None
    if not isinstance(policy, dict):
        raise invalid("DeliveryPolicy: must be a JSON object")
    if of_topic:
        retry = (policy.get("http") or {}).get("defaultHealthyRetryPolicy")
    else:
        retry = policy.get("healthyRetryPolicy")
    if retry is None:
        return
    prefix = "DeliveryPolicy: http.defaultHealthyRetryPolicy" if of_topic else "DeliveryPolicy: healthyRetryPolicy"
    merged = {**_RETRY, **retry}
    for name in ("numRetries", "numNoDelayRetries", "numMinDelayRetries", "numMaxDelayRetries"):
        if not isinstance(merged[name], int) or not 0 <= merged[name] <= 100:
            raise invalid(f"{prefix}.{name} must be between 0 and 100")
    for name in ("minDelayTarget", "maxDelayTarget"):
        if not isinstance(merged[name], int) or not 1 <= merged[name] <= 3600:
            raise invalid(f"{prefix}.{name} must be between 1 and 3600")
    if merged["minDelayTarget"] > merged["maxDelayTarget"]:
        raise invalid(f"{prefix}.minDelayTarget must be less than or equal to maxDelayTarget")
    if merged["numNoDelayRetries"] + merged["numMinDelayRetries"] + merged["numMaxDelayRetries"] > merged["numRetries"]:
        raise invalid(f"{prefix}.numRetries must be greater than or equal to the sum of the other retries")
    if merged["backoffFunction"] not in ("linear", "arithmetic", "geometric", "exponential"):
        raise invalid(f"{prefix}.backoffFunction must be linear, arithmetic, geometric or exponential")


def _of(attributes: dict[str, str]) -> dict[str, Any]:
    text = attributes.get("DeliveryPolicy")
    policy = msgspec.json.decode(text) if text else None
    return policy if isinstance(policy, dict) else {}
