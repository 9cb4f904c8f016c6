"""How missing data are treated: the cases of AWS's own tables, and how old a lone value must be.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import pytest

from cloudlet.services.cloudwatch.evaluation import judge
from cloudlet.services.cloudwatch.limits import Threshold

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
STATES = {"A": "ALARM", "O": "OK", "I": "INSUFFICIENT_DATA", "=": ""}  # = keeps the state that there is


def states(data: str, needed: int) -> str:
    """The states of an alarm over the last three of five minutes, one for each treatment of what is missing."""
    values = {"X": 2.0, "0": 0.0, "-": None}
    series = [(minute * 60, values[one]) for minute, one in enumerate(data)]
    found = []
    for treatment in TREATMENTS:
        alarm = {"EvaluationPeriods": 3, "DatapointsToAlarm": needed, "TreatMissingData": treatment}
        verdict = judge(alarm, Threshold("GreaterThanThreshold", 1.0), 60, series, 300.0)
        found.append(next(letter for letter, state in STATES.items() if state == verdict.state))
    return "".join(found)


@pytest.mark.parametrize(
    ("data", "expected"),
    [("0-X-X", "OOOO"), ("0----", "OOOO"), ("-----", "I=AO"), ("0XX-X", "AAAA"), ("--X--", "A=AO")],
)
def test_three_of_three(data: str, expected: str) -> None:
    assert states(data, 3) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [("0-X-X", "AAAA"), ("00X0X", "AAAA"), ("0-X--", "OOAO"), ("----0", "OOAO"), ("---X-", "A=AO")],
)
def test_two_of_three(data: str, expected: str) -> None:
    assert states(data, 2) == expected


@pytest.mark.parametrize("data", ["----X", "---X-", "---XX"])
def test_values_that_breach_wait_until_they_are_old_enough(data: str) -> None:
    assert states(data, 3)[0] == "="
