"""What rules, schedules and their like call: a target's ARN and a payload become one operation of a service."""

from cloudlet.services.targets.requests import Request, failure, is_final, known, request, service_of

__all__ = ["Request", "failure", "is_final", "known", "request", "service_of"]
