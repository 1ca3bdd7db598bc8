"""The window of an objective: a rolling length, or a calendar period in a time zone.

A rolling window ends now and has one length. A calendar period (this month in Europe/Paris) starts and ends at local
midnights, so its length follows the zone's clock: a month in New York has 743 hours in March. Both answer in unix
nanoseconds.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo, available_timezones

from otelslo.errors import BadValue, Place, nearest, shown
from otelslo.window import DAY_NS, SECOND_NS, format_duration

UNITS = ("day", "week", "month", "quarter", "year")
UTC = "UTC"

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_MOST_DAYS = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}
_NOMINAL_DAYS = {"day": 1, "week": 7, "month": 30, "quarter": 91, "year": 365}
_ZONE_REMEDY = "an IANA time zone, such as UTC, Europe/Paris or America/New_York"


@dataclass(frozen=True, slots=True)
class Rolling:
    """The last `length_ns` before now, whenever now is. BadValue unless it is above zero."""

    length_ns: int
    rolling: ClassVar[Literal[True]] = True

    def __post_init__(self) -> None:
        if self.length_ns <= 0:
            raise BadValue(f"a window of {self.length_ns} ns is empty", "Write a length above zero, such as 30d")

    def bounds(self, now_wall_ns: int) -> tuple[int, int]:
        """(start, now) in unix ns."""
        return now_wall_ns - self.length_ns, now_wall_ns

    @property
    def longest_ns(self) -> int:
        return self.length_ns

    @property
    def nominal_ns(self) -> int:
        return self.length_ns

    @property
    def text(self) -> str:
        return format_duration(self.length_ns)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The calendar day, week (from Monday), month, quarter or year of a time zone that holds now.

    BadValue for another unit, or a zone that this host does not know.
    """

    unit: str
    timezone: str = UTC
    rolling: ClassVar[Literal[False]] = False

    def __post_init__(self) -> None:
        _unit(self.unit)
        _zone(self.timezone)

    def bounds(self, now_wall_ns: int) -> tuple[int, int]:
        """(start, end) in unix ns, with start <= now < end; the end of one period is the start of the next.

        A period starts at the first instant that the zone dates on its first day or later: also where that day has no
        midnight, has two, or does not exist. BadValue outside of the years 1 to 9999.
        """
        zone = _zone(self.timezone)
        try:
            day = _day_of(zone, now_wall_ns // SECOND_NS)
            start_ns, end_ns = _bounds(self.unit, self.timezone, day)
            while now_wall_ns >= end_ns:  # a clock set back over midnight shows the day before once more
                day += 1
                start_ns, end_ns = _bounds(self.unit, self.timezone, day)
        except (ValueError, OverflowError, OSError):
            raise _beyond(now_wall_ns) from None
        return start_ns, end_ns

    @property
    def longest_ns(self) -> int:
        """No period of this unit is longer, in any zone: a day more than usual, as where a date line was moved."""
        return (_MOST_DAYS[self.unit] + 1) * DAY_NS

    @property
    def nominal_ns(self) -> int:
        """A usual length of the unit, which alerts go by: 1, 7, 30, 91 or 365 days."""
        return _NOMINAL_DAYS[self.unit] * DAY_NS

    @property
    def text(self) -> str:
        return f"{self.unit} ({self.timezone})"


Period = Rolling | Calendar


def parse_calendar(unit: object, timezone: object, place: Place) -> Calendar:
    """The period of the keys `calendar` and `timezone` (None: UTC) of the definition at `place`.

    DefinitionError names the key and, for an unknown unit or zone, the nearest known one.
    """
    unit_place, zone_place = place.at("calendar"), place.at("timezone")
    unit = unit_place.parse(_unit, unit_place.expect(unit, str, f"one of {', '.join(UNITS)}"))
    timezone = UTC if timezone is None else zone_place.expect(timezone, str, _ZONE_REMEDY)
    return Calendar(unit, zone_place.parse(_zone, timezone).key)


def local_text(wall_ns: int, timezone: str) -> str:
    """An instant (unix ns) as a zone's clock shows it, to the minute: "2026-12-01 00:00 EST".

    BadValue for an unknown zone, or outside of the years 1 to 9999.
    """
    zone = _zone(timezone)
    try:
        local = datetime.fromtimestamp(wall_ns // SECOND_NS, zone)
    except (ValueError, OverflowError, OSError):
        raise _beyond(wall_ns) from None
    return f"{local.replace(tzinfo=None).isoformat(' ', 'minutes')} {local.tzname()}"


@lru_cache(maxsize=4096)
def _bounds(unit: str, timezone: str, day: int) -> tuple[int, int]:
    """Unix ns of the start and end of the period that has the local date `day` (a date's ordinal)."""
    if size := _DAYS.get(unit):
        first = day - (day - 1) % size  # the ordinal 1 is a Monday
        last = first + size
    else:
        size, of_day = _MONTHS[unit], date.fromordinal(day)
        month = of_day.year * 12 + of_day.month - 1
        month -= month % size
        first, last = (date(m // 12, m % 12 + 1, 1).toordinal() for m in (month, month + size))
    zone = _zone(timezone)
    return _begin_s(zone, first) * SECOND_NS, _begin_s(zone, last) * SECOND_NS


def _begin_s(zone: ZoneInfo, day: int) -> int:
    """Unix seconds of the first instant that `zone` dates on `day` or later."""
    midnight = datetime.fromordinal(day).replace(tzinfo=zone)
    first_s = (day - _EPOCH_DAY) * 86_400 - _offset_s(midnight)
    gap_s = _offset_s(midnight.replace(fold=1)) - _offset_s(midnight)
    if gap_s <= 0:
        return first_s  # of two midnights, the first
    low_s = first_s - gap_s  # no midnight: the clock was set forward over it, somewhere in these seconds
    return low_s + bisect_left(range(low_s, first_s), day, key=lambda at_s: _day_of(zone, at_s))


def _offset_s(local: datetime) -> int:
    return (local.utcoffset() or timedelta()) // timedelta(seconds=1)


def _day_of(zone: ZoneInfo, at_s: int) -> int:
    return datetime.fromtimestamp(at_s, zone).toordinal()


def _unit(unit: str) -> str:
    if unit not in UNITS:
        raise BadValue(f"{shown(unit)} is no calendar unit", nearest(unit, UNITS))
    return unit


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    known = sorted(available_timezones() - {"localtime"})  # a link that some systems have: each host's own zone
    if name in known:  # asked first: where file names are case-blind, ZoneInfo takes any spelling
        return ZoneInfo(name)
    # Neither abbreviations, of which several zones have the same, nor Etc/GMT+2, which lies two hours behind UTC.
    likely = [UTC, *(zone for zone in known if "/" in zone and not zone.startswith("Etc/GMT"))]
    names = {zone.rpartition("/")[2].casefold(): zone for zone in likely} | {zone.casefold(): zone for zone in likely}
    close = difflib.get_close_matches(name.strip().replace(" ", "_").casefold(), names, n=1, cutoff=0.8)
    remedy = f"Did you mean {names[close[0]]!r}?" if close else f"Write {_ZONE_REMEDY}"
    raise BadValue(f"{shown(name)} is no known time zone", remedy)


def _beyond(wall_ns: int) -> BadValue:
    return BadValue(f"{wall_ns} ns is no time of a calendar period", "Use a time within the years 1 to 9999")
