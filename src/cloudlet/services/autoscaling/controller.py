"""What is to be done for a group next: its record in, steps out. Pure: it reads no clock and starts nothing.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cloudlet.services.autoscaling.mixing import override_of, weight_of
from cloudlet.services.autoscaling.records import COUNTED, GOING, Group, Member

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_LONGEST_PAUSE = 300.0
_REPLACES = {"ReplaceUnhealthy", "Terminate"}  # processes without which the unhealthy stay


@dataclass(slots=True)
class Plan:
    """The steps; ``wake`` is when to look again though nothing has happened."""

    launch: list[str] = field(default_factory=list)  # the zone of each new instance
    enter: list[Member] = field(default_factory=list)  # run: a hook waits, or they are in service
    terminate: list[tuple[Member, str]] = field(default_factory=list)  # and why
    leave: list[Member] = field(default_factory=list)  # going: a hook waits, or they are ended
    forget: list[Member] = field(default_factory=list)  # gone
    wake: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not (self.launch or self.enter or self.terminate or self.leave or self.forget)

    def wake_at(self, when: float) -> None:
        """Look again then, or before."""
        self.wake = when if self.wake is None else min(self.wake, when)


def plan(group: Group, zones: Sequence[str], now: float) -> Plan:
    """The steps from what is to what should be."""
    made = Plan()
    suspended = group.suspended
    for one in group.instances:
        for wait in one.waits:
            made.wake_at(wait.due)
        if (one.state == "Pending" and one.runs) or one.state == "Pending:Proceed":
            made.enter.append(one)
        elif one.state in ("Terminating", "Terminating:Proceed") and not one.is_ending:
            made.leave.append(one)
        elif one.state == "Terminated":
            made.forget.append(one)
        elif group.status and not is_going(one):
            made.terminate.append((one, group.asked))
        elif one.health == "Unhealthy" and one.state in COUNTED and not suspended.keys() & _REPLACES:
            made.terminate.append((one, one.cause or "an instance was taken out of service"))
    ending = {one.id for one, _ in made.terminate}
    counted = [one for one in group.instances if one.state in COUNTED and one.id not in ending]
    if group.status:
        return made
    missing = group.desired - sum(one.weight for one in counted)
    if missing > 0 and "Launch" not in suspended:
        due = group.failed + pause(group.failures)
        if group.failures and due > now:
            made.wake_at(due)
        else:
            made.launch = balanced(counted, zones, math.ceil(missing / weight_of(override_of(group.members))))
    elif missing < 0 and "Terminate" not in suspended:
        policies = group.members.get("TerminationPolicies") or ["Default"]
        for one in victims(counted, policies, -missing):
            made.terminate.append((one, group.asked or "a user request"))
    return made


def pause(failures: int) -> float:
    """Seconds between a launch that failed and the next try."""
    return min(_LONGEST_PAUSE, float(5 * 2 ** min(failures - 1, 10))) if failures else 0.0


def balanced(counted: Sequence[Member], zones: Sequence[str], count: int) -> list[str]:
    """The zones of new instances: always the one with the fewest."""
    there = Counter(dict.fromkeys(zones, 0))
    there.update(one.zone for one in counted if one.zone in there)
    chosen = []
    for _ in range(count):
        zone = min(zones, key=lambda one: there[one])
        there[zone] += 1
        chosen.append(zone)
    return chosen


def victims(counted: Sequence[Member], policies: Sequence[str], capacity: int) -> list[Member]:
    """Which instances of that capacity go: never protected ones, from the zone with the most, by the policies."""
    left = [one for one in counted if not one.is_protected]
    chosen: list[Member] = []
    while left and capacity > 0:
        zones = Counter(one.zone for one in left)
        most = max(zones.values())
        fullest = [one for one in left if zones[one.zone] == most]
        one = min(fullest, key=lambda member: [_rank(member, policy) for policy in policies])
        left.remove(one)
        if one.weight <= capacity:
            chosen.append(one)
            capacity -= one.weight
    return chosen


def _rank(member: Member, policy: str) -> tuple[float, str]:
    """What a policy ends first has the least rank; of equals, those that do not serve yet."""
    if policy == "NewestInstance":
        return -member.launched, member.id
    if policy in ("OldestLaunchConfiguration", "OldestLaunchTemplate"):
        version = member.source.get("LaunchTemplate", {}).get("Version", "0")
        return float(version) if version.isdigit() else 0.0, ""
    if policy == "Default":
        return (0.0 if member.state != "InService" else 1.0), f"{member.launched:020.6f}{member.id}"
    return member.launched, member.id


def is_going(member: Member) -> bool:
    """Whether an instance is on its way out."""
    return member.state in GOING or member.state == "Terminated"
