"""A cloud of its own for every test."""

from cloudlet.testing.local import LocalCloud
from cloudlet.testing.waiting import eventually

__all__ = ["LocalCloud", "eventually"]
