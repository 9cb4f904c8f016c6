"""Functions: runtimes that speak Lambda's Runtime API, warm and in sandboxes of their own."""

from cloudlet.engines.functions.api import Function, FunctionFailed, Image, Outcome, Throttled
from cloudlet.engines.functions.containers import Containers
from cloudlet.engines.functions.engine import Engine

__all__ = ["Containers", "Engine", "Function", "FunctionFailed", "Image", "Outcome", "Throttled"]
