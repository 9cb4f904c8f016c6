"""Schedule expressions."""

from __future__ import annotations

from datetime import datetime

import pytest

from cloudlet.services.schedules import ScheduleError, parse


def moment(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def following(expression: str, start: str, count: int = 3, zone: str = "UTC") -> list[str]:
    """The next times of an expression, in UTC."""
    schedule, at, found = parse(expression, anchor=moment(start), zone=zone), moment(start), []
    for _ in range(count):
        due = schedule.after(at)
        if due is None:
            break
        found.append(
            datetime.fromtimestamp(due, datetime.fromisoformat("2020-01-01T00:00+00:00").tzinfo).isoformat()[:16]
        )
        at = due
    return found


def test_rates_count_from_their_anchor() -> None:
    assert following("rate(5 minutes)", "2024-01-01T00:02") == [
        "2024-01-01T00:07",
        "2024-01-01T00:12",
        "2024-01-01T00:17",
    ]
    assert following("rate(1 day)", "2024-02-28T12:00", 2) == ["2024-02-29T12:00", "2024-03-01T12:00"]


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("cron(0 10 * * ? *)", ["2024-01-01T10:00", "2024-01-02T10:00"]),
        ("cron(0/15 8 ? * MON-FRI *)", ["2024-01-01T08:00", "2024-01-01T08:15"]),
        ("cron(0 0 L * ? *)", ["2024-01-31T00:00", "2024-02-29T00:00"]),
        ("cron(0 0 15W 6 ? *)", ["2024-06-14T00:00", "2025-06-16T00:00"]),
        ("cron(0 0 LW 3 ? *)", ["2024-03-29T00:00", "2025-03-31T00:00"]),
        ("cron(0 9 ? * 2#1 *)", ["2024-01-01T09:00", "2024-02-05T09:00"]),
        ("cron(0 9 ? * 6L *)", ["2024-01-26T09:00", "2024-02-23T09:00"]),
        ("cron(0 0 ? * FRI-MON *)", ["2024-01-05T00:00", "2024-01-06T00:00"]),
        ("cron(30 1,3 1 JAN,JUL ? 2024-2025)", ["2024-01-01T01:30", "2024-01-01T03:30"]),
        ("cron(0 0 29 2 ? *)", ["2024-02-29T00:00", "2028-02-29T00:00"]),
        ("cron(0 0 1 1 ? 2023)", []),
        ("at(2024-05-01T10:00:00)", ["2024-05-01T10:00"]),
    ],
)
def test_next_times(expression: str, times: list[str]) -> None:
    assert following(expression, "2024-01-01T00:00", len(times) or 1)[: len(times)] == times
    if not times:
        assert following(expression, "2024-01-01T00:00") == []


def test_time_zones_and_the_hours_that_clocks_skip_or_repeat() -> None:
    assert following("cron(0 9 * * ? *)", "2024-03-30T00:00", 2, "Europe/Berlin") == [
        "2024-03-30T08:00",
        "2024-03-31T07:00",
    ]
    skipped = following("cron(30 2 * * ? *)", "2024-03-30T12:00", 1, "Europe/Berlin")
    assert skipped == ["2024-04-01T00:30"]
    repeated = following("cron(30 2 * * ? *)", "2024-10-26T12:00", 2, "Europe/Berlin")
    assert repeated == ["2024-10-27T00:30", "2024-10-28T01:30"]
    assert following("at(2024-07-01T10:00:00)", "2024-01-01T00:00", 1, "America/New_York") == ["2024-07-01T14:00"]


@pytest.mark.parametrize(
    "expression",
    [
        "rate(0 minutes)",
        "rate(5 seconds)",
        "cron(0 10 * * * *)",
        "cron(60 10 * * ? *)",
        "cron(0 10 ? * ? *)",
        "cron(0 10 * * ?)",
        "at(2024-13-01T00:00:00)",
        "every day",
    ],
)
def test_what_is_no_schedule(expression: str) -> None:
    with pytest.raises(ScheduleError):
        parse(expression, anchor=0.0)
    with pytest.raises(ScheduleError):
        parse("cron(0 0 * * ? *)", anchor=0.0, zone="Nowhere/Town")
