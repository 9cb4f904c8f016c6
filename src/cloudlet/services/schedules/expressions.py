"""``rate(...)``, ``cron(...)`` and ``at(...)``: text in, and out an object that says when the next time is."""

from __future__ import annotations

import math
import re
from calendar import monthrange
from datetime import UTC, date, datetime, tzinfo
from typing import Protocol

_RATE = re.compile(r"rate\(([1-9]\d*)\s+(minute|minutes|hour|hours|day|days)\)")
_CRON = re.compile(r"cron\(\s*(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*\)")
_AT = re.compile(r"at\(\s*(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\s*\)")
_SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_FIRST_YEAR, _LAST_YEAR = 1970, 2199


class ScheduleError(ValueError):
    """The expression is not valid."""


class Schedule(Protocol):
    """When something is due. Times are seconds since the epoch."""

    def after(self, moment: float) -> float | None:
        """The first time that is later than ``moment``, or None when there is none."""
        ...


def parse(expression: str, *, anchor: float, zone: str = "UTC") -> Schedule:
    """Read an expression; a rate counts from ``anchor``, the others are in a time zone. Raises ScheduleError."""
    where = _zone(zone)
    if match := _RATE.fullmatch(expression):
        unit = match[2].removesuffix("s")
        return Rate(int(match[1]) * _SECONDS[unit], anchor)
    if match := _CRON.fullmatch(expression):
        return Cron([field.upper() for field in match.groups()], where)
    if match := _AT.fullmatch(expression):
        try:
            local = datetime.fromisoformat(match[1]).replace(tzinfo=where)
        except ValueError:
            raise ScheduleError(expression) from None
        return At(local.timestamp())
    raise ScheduleError(expression)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ScheduleError(f"the time zone {name}") from None


class Rate:
    """Every so many seconds after the anchor."""

    def __init__(self, period: float, anchor: float) -> None:
        self.period = period
        self.anchor = anchor

    def after(self, moment: float) -> float | None:
        return self.anchor + self.period * max(1, math.floor((moment - self.anchor) / self.period) + 1)


class At:
    """Once."""

    def __init__(self, when: float) -> None:
        self.when = when

    def after(self, moment: float) -> float | None:
        return self.when if moment < self.when else None


class Cron:
    """The minutes that six fields describe: minute, hour, day of month, month, day of week (1 is Sunday), year."""

    def __init__(self, fields: list[str], zone: tzinfo) -> None:
        minute, hour, day, month, weekday, year = fields
        if (day == "?") == (weekday == "?"):
            raise ScheduleError("one of day-of-month and day-of-week has to be ?")
        self._zone = zone
        self._minutes = sorted(_numbers(minute, 0, 59))
        self._hours = sorted(_numbers(hour, 0, 23))
        self._months = sorted(_numbers(month, 1, 12, _MONTHS))
        self._years = sorted(_numbers(year, _FIRST_YEAR, _LAST_YEAR))
        self._days = _Days(day, weekday)

    def after(self, moment: float) -> float | None:
        start = datetime.fromtimestamp(moment, self._zone).replace(second=0, microsecond=0, tzinfo=None)
        for year in self._years:
            if year < start.year:
                continue
            for month in self._months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self._days.of(year, month):
                    if date(year, month, day) < start.date():
                        continue
                    if (found := self._on(year, month, day, moment)) is not None:
                        return found
        return None

    def _on(self, year: int, month: int, day: int, moment: float) -> float | None:
        """The first time of a day that is later than a moment."""
        for hour in self._hours:
            for minute in self._minutes:
                local = datetime(year, month, day, hour, minute, tzinfo=self._zone)
                when = local.timestamp()
                # A time that clocks skip in spring does not come; one that they show twice counts the first time.
                if when > moment and _exists(local, when, self._zone):
                    return when
        return None


def _exists(local: datetime, when: float, zone: tzinfo) -> bool:
    return datetime.fromtimestamp(when, zone).replace(tzinfo=None) == local.replace(tzinfo=None)


_MONTHS = {
    name: number
    for number, name in enumerate(
        ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), 1
    )
}
_WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}


def _number(text: str, low: int, high: int, names: dict[str, int]) -> int:
    value = names.get(text)
    if value is None:
        if not text.isdecimal():
            raise ScheduleError(text)
        value = int(text)
    if not low <= value <= high:
        raise ScheduleError(text)
    return value


def _numbers(field: str, low: int, high: int, names: dict[str, int] | None = None) -> set[int]:
    """The numbers of a field: ``*``, ``a``, ``a-b``, ``a/step``, ``*/step`` and lists of these."""
    found: set[int] = set()
    names = names or {}
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if slash and (not step.isdecimal() or int(step) < 1):
            raise ScheduleError(field)
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(first, low, high, names)
            end = _number(last, low, high, names) if dash else high if slash else begin
        every = int(step) if slash else 1
        if begin <= end:
            found.update(range(begin, end + 1, every))
        else:  # FRI-MON goes around the end
            found.update(
                low + number % (high - low + 1) for number in range(begin - low, end + high - 2 * low + 2, every)
            )
    return found


class _Days:
    """The days that the two fields of days describe."""

    def __init__(self, day: str, weekday: str) -> None:
        self._numbers: set[int] = set()
        self._weekdays: set[int] = set()
        self._last = self._last_workday = False
        self._near: int | None = None  # the workday nearest to that day
        self._nth: tuple[int, int] | None = None  # weekday, which of the month
        self._last_weekday: int | None = None
        if weekday == "?":
            self._by_day(day)
        else:
            self._by_weekday(weekday)

    def _by_day(self, day: str) -> None:
        if day == "L":
            self._last = True
        elif day == "LW":
            self._last_workday = True
        elif day.endswith("W"):
            self._near = _number(day[:-1], 1, 31, {})
        else:
            self._numbers = _numbers(day, 1, 31)

    def _by_weekday(self, weekday: str) -> None:
        if "#" in weekday:
            first, _, which = weekday.partition("#")
            self._nth = _number(first, 1, 7, _WEEKDAYS), _number(which, 1, 5, {})
        elif weekday == "L":
            self._weekdays = {7}
        elif weekday.endswith("L"):
            self._last_weekday = _number(weekday[:-1], 1, 7, _WEEKDAYS)
        else:
            self._weekdays = _numbers(weekday, 1, 7, _WEEKDAYS)

    def of(self, year: int, month: int) -> list[int]:
        """The days of a month, in order."""
        last = monthrange(year, month)[1]
        days = range(1, last + 1)
        if self._last:
            return [last]
        if self._last_workday:
            return [max(day for day in days if _weekday(year, month, day) not in (1, 7))]
        if self._near is not None:
            return [_nearest(year, month, self._near, last)] if self._near <= last else []
        if self._nth is not None:
            weekday, which = self._nth
            return [day for day in days if _weekday(year, month, day) == weekday][which - 1 : which]
        if self._last_weekday is not None:
            return [day for day in days if _weekday(year, month, day) == self._last_weekday][-1:]
        if self._weekdays:
            return [day for day in days if _weekday(year, month, day) in self._weekdays]
        return [day for day in days if day in self._numbers]


def _weekday(year: int, month: int, day: int) -> int:
    return date(year, month, day).isoweekday() % 7 + 1


def _nearest(year: int, month: int, day: int, last: int) -> int:
    """The workday nearest to a day, within its month."""
    match _weekday(year, month, day):
        case 7:
            return day - 1 if day > 1 else day + 2
        case 1:
            return day + 1 if day < last else day - 2
    return day


def text(moment: float) -> str:
    """A time as events have it, in seconds."""
    return datetime.fromtimestamp(math.floor(moment), UTC).isoformat()[:19] + "Z"
