"""The language of IAM's policies: what is a document, and whether it lets a request through."""

from cloudlet.services.policies.evaluation import is_resource_policy

__all__ = ["is_resource_policy"]
