"""Definitions of APIs, OpenAPI documents: what all fronts read alike."""

from __future__ import annotations


def with_variables(text: str, account: str, region: str) -> str:
    """A document whose AWS variables, ``${AWS::Region}`` and its like, are resolved, as an import does it."""
    for name, value in (("AccountId", account), ("Partition", "aws"), ("Region", region)):
        text = text.replace(f"${{AWS::{name}}}", value)
    return text
