"""A cloud of its own for every test."""

from cloudlet.testing.local import LocalCloud

__all__ = ["LocalCloud"]
