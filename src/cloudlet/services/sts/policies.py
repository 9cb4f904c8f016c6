"""What a session is narrowed by: policies and tags that are given with the request for its credentials."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.services.api import Input
from cloudlet.services.policies import documents

_MOST_POLICIES = 10
_LARGEST = 2048  # characters of policies and tags together, as they are before AWS packs them


def check_session(input: Input) -> int:
    """The percentage of what a session may carry that is used. Raises MalformedPolicyDocument and its like."""
    document, arns, tags = input.get("Policy", ""), input.get("PolicyArns", ()), input.get("Tags", ())
    if not (document or arns or tags):
        return 0
    if document:
        documents.check_identity_policy(document)
    if len(arns) > _MOST_POLICIES:
        raise AwsError("ValidationError", f"The number of PolicyArns exceeds {_MOST_POLICIES}.", status=400)
    size = len(document) + sum(len(one["arn"]) for one in arns) + sum(len(tag["Key"] + tag["Value"]) for tag in tags)
    if size > _LARGEST:
        raise AwsError(
            "PackedPolicyTooLargeException",
            f"Packed policy consumes {size * 100 // _LARGEST}% of allotted space, please use smaller policy.",
        )
    return max(1, size * 100 // _LARGEST)


def of_session(input: Input) -> list[str]:
    """The documents and ARNs that narrow a session, as they are stored."""
    return [
        *([input["Policy"]] if "Policy" in input else ()),
        *(one["arn"] for one in input.get("PolicyArns", ())),
    ]
