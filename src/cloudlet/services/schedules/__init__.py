"""Schedule expressions, as EventBridge's rules and EventBridge Scheduler have them."""

from cloudlet.services.schedules.expressions import Schedule, ScheduleError, parse

__all__ = ["Schedule", "ScheduleError", "parse"]
