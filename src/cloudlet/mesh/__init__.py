"""Desired traffic, as one consistent snapshot of Envoy resources."""

from cloudlet.mesh.snapshot import Inconsistent, Snapshot

__all__ = ["Inconsistent", "Snapshot"]
