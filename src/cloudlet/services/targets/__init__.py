"""What rules, schedules and their like call: a target's ARN and a payload become one operation of a service."""

from cloudlet.services.targets.requests import Request, failure, is_final, known, request, service_of
from cloudlet.services.targets.trying import AGE, TRIES, bury, pause_after

__all__ = ["AGE", "TRIES", "Request", "bury", "failure", "is_final", "known", "pause_after", "request", "service_of"]
