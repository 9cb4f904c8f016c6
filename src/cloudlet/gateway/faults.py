"""Faults on demand: errors and delays for chosen operations, to see what an application does then."""

from __future__ import annotations

import random
import secrets
from typing import Any

import msgspec

from cloudlet.control.clock import Clock
from cloudlet.errors import AwsError


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. Empty ``service`` or ``operation`` means all; ``probability`` is 0 to 1; ``delay`` is in seconds."""

    id: str = ""
    service: str = ""
    operation: str = ""
    probability: float = 1.0
    delay: float = 0.0
    error: str = ""  # an AWS error code, such as ThrottlingException
    message: str = "A fault that was asked for."
    status: int = 500


class Faults:
    """The rules in force. They are for a test's duration and are not kept over a restart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rules: list[Fault] = []

    def add(self, document: dict[str, Any]) -> Fault:
        """Add a rule from JSON. Raises msgspec.ValidationError."""
        fault = msgspec.convert({**document, "id": secrets.token_hex(4)}, Fault)
        if not (0 <= fault.probability <= 1 and 0 <= fault.delay <= 900 and 400 <= fault.status <= 599):
            raise msgspec.ValidationError("probability is 0 to 1, delay 0 to 900 seconds, status 400 to 599")
        self.rules.append(fault)
        return fault

    def remove(self, id: str) -> bool:
        """Remove one rule, or all with an empty id."""
        kept = [fault for fault in self.rules if id and fault.id != id]
        removed = len(kept) < len(self.rules)
        self.rules = kept
        return removed

    async def strike(self, service: str, operation: str) -> None:
        """Do to a call what the rules say. Raises AwsError."""
        for fault in self.rules:
            if (
                (fault.service in ("", service))
                and (fault.operation in ("", operation))
                and random.random() < fault.probability
            ):
                if fault.delay:
                    await self._clock.sleep(fault.delay)
                if fault.error:
                    raise AwsError(fault.error, fault.message, status=fault.status)
