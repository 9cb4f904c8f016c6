"""The model of anomaly detection: which values a band is made of."""

from __future__ import annotations

import pytest

from cloudlet.services.cloudwatch.anomalies import LEAST, Model, band

HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400
MONDAY = 4 * DAY  # 5 January 1970


def bounds(points: dict[int, float], time: int, deviations: float = 2, model: Model | None = None) -> list[float]:
    lower, upper = band(points, [time], deviations, model or Model())
    return [lower[time], upper[time]] if time in lower else []


def test_few_values_have_no_band_and_flat_ones_a_narrow_one() -> None:
    points = {MONDAY + minute * 60: 50.0 for minute in range(LEAST)}
    assert bounds(points, MONDAY + (LEAST - 1) * 60) == []
    assert bounds(points, MONDAY + LEAST * 60) == pytest.approx([49, 51])
    varied = {time: 50.0 + (10 if number % 2 else -10) for number, time in enumerate(points)}
    assert bounds(varied, MONDAY + LEAST * 60) == pytest.approx([30, 70])
    assert bounds(varied, MONDAY + LEAST * 60, 10)[0] == 0  # never negative
    assert bounds({time: value - 50 for time, value in varied.items()}, MONDAY + LEAST * 60) == pytest.approx([-20, 20])


def test_the_hour_of_the_week_comes_before_the_hour_of_the_day() -> None:
    days = {MONDAY + day * DAY + minute * 60: 10.0 + day for day in range(7) for minute in range(60)}
    assert bounds(days, MONDAY + WEEK) == pytest.approx([9.8, 10.2])  # as last Monday at this hour
    later = {time + 8 * HOUR: value for time, value in days.items() if time >= MONDAY + DAY}
    found = bounds(later, MONDAY + WEEK + 8 * HOUR)  # there was no Monday: as on all days at this hour
    assert (found[0] + found[1]) / 2 == pytest.approx(13.5)


def test_zones_exclusions_and_spikes() -> None:
    # A summer's noon in Berlin is another hour of UTC than a winter's.
    change = 1_774_746_000  # 29 March 2026, 01:00 UTC
    noon = change + 10 * HOUR - WEEK
    points = {noon + HOUR + minute * 60: 5.0 for minute in range(60)}  # 12:00 in winter
    points |= {noon + minute * 60: 1.0 for minute in range(60)}  # 11:00 in winter
    assert bounds(points, noon + WEEK) == pytest.approx([0.98, 1.02])
    assert bounds(points, noon + WEEK, model=Model(zone="Europe/Berlin")) == pytest.approx([4.9, 5.1])
    spiked = {**points, noon + 30 * 60: 40.0}
    assert bounds(spiked, noon + WEEK)[1] < 40
    assert bounds(spiked, noon + WEEK, model=Model(spikes=True))[1] == 40
    excluded = Model(excluded=((noon + 30 * 60, noon + 31 * 60),))
    assert bounds(spiked, noon + WEEK, model=excluded) == pytest.approx([0.98, 1.02])
