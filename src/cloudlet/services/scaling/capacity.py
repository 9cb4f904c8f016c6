"""How many there should be: pure functions of what is measured, what is, and what a policy says.

https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-target-tracking.html
"""

from __future__ import annotations

import math
from typing import Any


def tracked(current: int, value: float, target: float) -> int:
    """The capacity that brings an average to its target: it is in proportion."""
    return math.ceil(round(current * value / target, 6)) if target else current


def stepped(current: int, value: float, threshold: float, configuration: dict[str, Any]) -> int:
    """The capacity that a step policy wants, for a metric so far from its alarm's threshold."""
    distance = value - threshold
    for step in configuration.get("StepAdjustments", ()):
        low = step.get("MetricIntervalLowerBound", -math.inf)
        high = step.get("MetricIntervalUpperBound", math.inf)
        # An interval above the threshold includes its lower bound, one below it its upper bound.
        inside = low <= distance < high if low >= 0 or high == math.inf else low < distance <= high
        if inside:
            return adjusted(current, step["ScalingAdjustment"], configuration)
    return current


def adjusted(current: int, adjustment: int, configuration: dict[str, Any]) -> int:
    """The capacity after an adjustment of the policy's type."""
    kind = configuration.get("AdjustmentType", "ChangeInCapacity")
    if kind == "ExactCapacity":
        return adjustment
    if kind == "ChangeInCapacity":
        return current + adjustment
    change = current * adjustment / 100
    # Between 0 and 1 counts as 1; other fractions are dropped.
    whole = math.copysign(1, change) if 0 < abs(change) < 1 else math.trunc(change)
    least = configuration.get("MinAdjustmentMagnitude", 1)
    if whole and abs(whole) < least:
        whole = math.copysign(least, whole)
    return current + int(whole)


def bounded(wanted: int, least: int, most: int) -> int:
    """Within the target's bounds."""
    return max(least, min(most, wanted))
