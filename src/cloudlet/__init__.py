"""Cloudlet: a small, complete cloud for microservices that speaks AWS's own APIs."""

__version__ = "0.1.0"
