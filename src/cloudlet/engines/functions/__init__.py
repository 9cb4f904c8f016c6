"""Functions: processes that speak Lambda's Runtime API, warm and in sandboxes of their own."""

from cloudlet.engines.functions.api import Function, FunctionFailed, Outcome, Throttled
from cloudlet.engines.functions.engine import Engine

__all__ = ["Engine", "Function", "FunctionFailed", "Outcome", "Throttled"]
