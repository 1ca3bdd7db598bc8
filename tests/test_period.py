"""Windows, rolling and calendar: a calendar's periods tile time in every zone, whatever its clock has been through."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otelslo.errors import BadValue, DefinitionError, Place
from otelslo.period import UNITS, Calendar, Rolling, local_text, parse_calendar
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, WEEK_NS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = sorted(available_timezones() - {"localtime"})
PLACE = Place("SLO 'checkout'")

zones = st.sampled_from(ZONES)
units = st.sampled_from(UNITS)
instants_ns = st.integers(0, 130 * 365 * DAY_NS)
# Midnights and what lies around them: where the zone's clock may have been set back or forward.
near_midnights_ns = st.builds(
    lambda day, minutes, ns: day * DAY_NS + minutes * MINUTE_NS + ns,
    st.integers(1, 130 * 365),
    st.integers(-18 * 60, 18 * 60),
    st.sampled_from([-1, 0, 1]),
)


def wall_ns(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """Unix ns of a local time, "2026-03-08 12:00"."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return (local.astimezone(UTC) - EPOCH) // timedelta(microseconds=1) * 1000


def date_at(zone: str, at_s: int) -> date:
    return (EPOCH + timedelta(seconds=at_s)).astimezone(ZoneInfo(zone)).date()


@lru_cache(maxsize=100_000)
def naive_begin_s(zone: str, day: date) -> int:
    """The first second at which the clock shows `day` or a later one: by minutes, then by seconds."""
    at_s = (day - date(1970, 1, 1)).days * 86_400 - 16 * 3_600
    while date_at(zone, at_s) < day:
        at_s += 60
    at_s -= 60
    while date_at(zone, at_s) < day:
        at_s += 1
    return at_s


def begins(unit: str, day: date) -> bool:
    return {
        "day": True,
        "week": day.isoweekday() == 1,
        "month": day.day == 1,
        "quarter": day.day == 1 and day.month in (1, 4, 7, 10),
        "year": day.day == 1 and day.month == 1,
    }[unit]


def naive_bounds(unit: str, zone: str, now_wall_ns: int) -> tuple[int, int]:
    """From two days after now day by day: back to a first day that has begun, then on to the next."""
    one = timedelta(days=1)
    first = date_at(zone, now_wall_ns // SECOND_NS) + 2 * one
    while not begins(unit, first) or naive_begin_s(zone, first) * SECOND_NS > now_wall_ns:
        first -= one
    after = first + one
    while not begins(unit, after):
        after += one
    return naive_begin_s(zone, first) * SECOND_NS, naive_begin_s(zone, after) * SECOND_NS


@settings(max_examples=300, deadline=None)
@given(zones, units, instants_ns | near_midnights_ns)
@example("America/St_Johns", "day", wall_ns("2006-10-29 02:45"))  # 23:15, after 00:00 was shown for a minute
@example("America/St_Johns", "month", wall_ns("1987-11-01 02:45"))
@example("Africa/Monrovia", "day", wall_ns("1972-01-07 12:00"))  # an offset of -44:30 until then, in the night
@example("Pacific/Apia", "day", wall_ns("2011-12-30 12:00"))
@example("America/Havana", "day", wall_ns("2024-11-03 05:30"))
def test_bounds_are_those_of_a_clock_on_the_wall(zone, unit, now_wall_ns):
    """Against the twin that looks at the local date minute by minute."""
    assert Calendar(unit, zone).bounds(now_wall_ns) == naive_bounds(unit, zone, now_wall_ns)


@settings(max_examples=300, deadline=None)
@given(zones, units, st.integers(0, 230 * 365 * DAY_NS) | near_midnights_ns)
def test_periods_tile_time(zone, unit, now_wall_ns):
    """No gap, no overlap, nothing empty; each instant of a period names the same one."""
    calendar = Calendar(unit, zone)
    start_ns, end_ns = calendar.bounds(now_wall_ns)
    assert start_ns <= now_wall_ns < end_ns
    assert calendar.bounds(start_ns) == calendar.bounds(end_ns - 1) == (start_ns, end_ns)
    assert calendar.bounds(end_ns)[0] == end_ns
    assert calendar.bounds(start_ns - 1)[1] == start_ns
    assert end_ns - start_ns <= calendar.longest_ns


@settings(max_examples=300, deadline=None)
@given(zones, units, instants_ns | near_midnights_ns)
def test_a_period_starts_at_the_midnight_of_its_first_day(zone, unit, now_wall_ns):
    """Its clock shows 00:00 of a first day; or the instant before shows an earlier day, where no midnight was."""
    start_ns, _ = Calendar(unit, zone).bounds(now_wall_ns)
    local = (EPOCH + timedelta(seconds=start_ns // SECOND_NS)).astimezone(ZoneInfo(zone))
    assert start_ns % SECOND_NS == 0
    if (local.hour, local.minute, local.second) == (0, 0, 0) and begins(unit, local.date()):
        return
    before = date_at(zone, start_ns // SECOND_NS - 1)
    skipped = [before + timedelta(days=n) for n in range(1, (local.date() - before).days + 1)]
    assert any(begins(unit, day) for day in skipped)


@pytest.mark.parametrize("zone", ZONES)
def test_every_year_and_every_changed_day_since_1970_tile(zone):
    """Years to 2200 one after the other, and the days of each week between 1970 and 2040 that changed the clock."""
    years, at_ns = Calendar("year", zone), wall_ns("1970-06-01")
    for _ in range(230):
        start_ns, end_ns = years.bounds(at_ns)
        assert start_ns < end_ns
        assert years.bounds(end_ns)[0] == end_ns
        at_ns = end_ns
    assert date_at(zone, at_ns // SECOND_NS).year == 2200
    weeks = [
        (n * WEEK_NS, ZoneInfo(zone).utcoffset(datetime(1970, 1, 1) + n * timedelta(weeks=1))) for n in range(3653)
    ]
    days = Calendar("day", zone)
    for (at_ns, offset), (last_ns, later) in pairwise(weeks):
        while offset != later and at_ns < last_ns + 2 * DAY_NS:
            start_ns, end_ns = days.bounds(at_ns)
            assert start_ns <= at_ns < end_ns == days.bounds(end_ns)[0] <= start_ns + days.longest_ns
            at_ns = end_ns


@pytest.mark.parametrize(
    ("unit", "zone", "inside", "first", "after", "hours"),
    [
        ("month", "America/New_York", "2026-03-20 10:00", "2026-03-01", "2026-04-01", 743),
        ("month", "America/New_York", "2026-11-20 10:00", "2026-11-01", "2026-12-01", 721),
        ("week", "America/New_York", "2026-03-08 10:00", "2026-03-02", "2026-03-09", 167),
        ("week", "America/New_York", "2026-11-01 10:00", "2026-10-26", "2026-11-02", 169),
        ("day", "America/New_York", "2026-03-08 10:00", "2026-03-08", "2026-03-09", 23),
        ("day", "America/New_York", "2026-11-01 10:00", "2026-11-01", "2026-11-02", 25),
        ("day", "Australia/Lord_Howe", "2026-04-05 10:00", "2026-04-05", "2026-04-06", 24.5),
        ("day", "UTC", "2028-02-29 23:59", "2028-02-29", "2028-03-01", 24),
        ("month", "UTC", "2028-02-29 00:00", "2028-02-01", "2028-03-01", 29 * 24),
        ("month", "UTC", "2026-02-28 00:00", "2026-02-01", "2026-03-01", 28 * 24),
        ("month", "UTC", "2100-02-28 23:59", "2100-02-01", "2100-03-01", 28 * 24),
        ("month", "Asia/Kolkata", "2026-12-31 23:59", "2026-12-01", "2027-01-01", 31 * 24),
        ("quarter", "UTC", "2026-03-31 23:59", "2026-01-01", "2026-04-01", 90 * 24),
        ("quarter", "UTC", "2028-02-29 00:00", "2028-01-01", "2028-04-01", 91 * 24),
        ("quarter", "UTC", "2026-04-01 00:00", "2026-04-01", "2026-07-01", 91 * 24),
        ("quarter", "UTC", "2026-09-30 00:00", "2026-07-01", "2026-10-01", 92 * 24),
        ("quarter", "Europe/Paris", "2026-12-31 23:59", "2026-10-01", "2027-01-01", 92 * 24 + 1),
        ("year", "Europe/Paris", "2026-07-01 00:00", "2026-01-01", "2027-01-01", 365 * 24),
        ("year", "Europe/Paris", "2028-02-29 00:00", "2028-01-01", "2029-01-01", 366 * 24),
        ("week", "UTC", "2027-01-03 23:59", "2026-12-28", "2027-01-04", 7 * 24),
        ("week", "UTC", "2026-12-28 00:00", "2026-12-28", "2027-01-04", 7 * 24),
    ],
)
def test_a_period_by_name(unit, zone, inside, first, after, hours):
    """Changes of the clock, leap days, quarters, years, weeks over the new year."""
    start_ns, end_ns = Calendar(unit, zone).bounds(wall_ns(inside, zone))
    assert (start_ns, end_ns) == (wall_ns(f"{first} 00:00", zone), wall_ns(f"{after} 00:00", zone))
    assert end_ns - start_ns == hours * HOUR_NS


@pytest.mark.parametrize(
    ("zone", "day", "starts_utc", "hours"),
    [
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04 03:00", 23),  # 00:00 was set to 01:00
        ("Asia/Beirut", "2022-03-27", "2022-03-26 22:00", 23),
        ("America/Havana", "2024-03-10", "2024-03-10 05:00", 23),
        ("America/Toronto", "1919-03-31", "1919-03-31 04:30", 23.5),  # 23:30 was set to 00:30
        ("America/Havana", "2024-11-03", "2024-11-03 04:00", 25),  # 01:00 was set to 00:00: the first of two
        ("America/Sao_Paulo", "2018-02-18", "2018-02-18 03:00", 24),  # 00:00 was set to 23:00 of the day before
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17 02:00", 25),
        ("America/St_Johns", "2006-10-29", "2006-10-29 02:30", 25),  # 00:01 was set to 23:01
        ("Antarctica/Casey", "2010-03-05", "2010-03-04 13:00", 27),
    ],
)
def test_days_without_a_midnight_or_with_two(zone, day, starts_utc, hours):
    """A day begins at its first instant, its first midnight where it has two."""
    start_ns, end_ns = Calendar("day", zone).bounds(wall_ns(f"{day} 12:00", zone))
    assert start_ns == wall_ns(starts_utc)
    assert end_ns - start_ns == hours * HOUR_NS


@pytest.mark.parametrize(
    ("zone", "day_before", "day_after", "at_utc"),
    [
        ("Pacific/Apia", "2011-12-29", "2011-12-31", "2011-12-30 10:00"),
        ("Pacific/Kwajalein", "1993-08-20", "1993-08-22", "1993-08-21 12:00"),
    ],
)
def test_a_day_that_never_was(zone, day_before, day_after, at_utc):
    """Nothing lies between the days on either side of a date line that was moved."""
    days, at_ns = Calendar("day", zone), wall_ns(at_utc)
    before, after = days.bounds(at_ns - 1), days.bounds(at_ns)
    assert before == (at_ns - DAY_NS, at_ns)
    assert after == (at_ns, at_ns + DAY_NS)
    assert [str(date_at(zone, start // SECOND_NS)) for start, _ in (before, after)] == [day_before, day_after]


def test_the_minutes_after_a_second_midnight_belong_to_the_new_day():
    """A clock that shows yesterday once more does not bring yesterday's budget back."""
    days, second_ns = Calendar("day", "America/St_Johns"), wall_ns("2006-10-29 02:31")
    assert local_text(second_ns - 1, "America/St_Johns") == "2006-10-29 00:00 NDT"
    assert local_text(second_ns, "America/St_Johns") == "2006-10-28 23:01 NST"
    assert days.bounds(second_ns) == days.bounds(second_ns - 1)


@pytest.mark.parametrize("unit", UNITS)
def test_beyond_what_a_date_can_say(unit):
    """BadValue, never OverflowError; and right up to the last whole period."""
    calendar = Calendar(unit, "America/New_York")
    for at_ns in (wall_ns("9999-12-31 12:00"), wall_ns("0001-01-01 00:00"), 2**80, -(2**80), 10**40, -(10**40)):
        with pytest.raises(BadValue, match="years 1 to 9999"):
            calendar.bounds(at_ns)
    with pytest.raises(BadValue, match="years 1 to 9999"):
        local_text(2**80, "UTC")
    start_ns, end_ns = calendar.bounds(wall_ns("9998-12-31 12:00"))
    assert start_ns < end_ns


def test_before_1970_and_within_a_second():
    """Nanoseconds below zero are floored, not cut."""
    assert Calendar("day").bounds(-1) == (-DAY_NS, 0)
    assert Calendar("year").bounds(-1) == (-365 * DAY_NS, 0)
    assert local_text(-1, "UTC") == "1969-12-31 23:59 UTC"


@given(st.integers(1, 400 * DAY_NS), instants_ns)
def test_a_rolling_window_ends_now(length_ns, now_wall_ns):
    """It has one length, which is its longest."""
    window = Rolling(length_ns)
    assert window.bounds(now_wall_ns) == (now_wall_ns - length_ns, now_wall_ns)
    assert window.longest_ns == length_ns
    assert window.rolling


def test_values():
    """They compare, hash and describe themselves."""
    assert Rolling(30 * DAY_NS).text == "30d"
    month = Calendar("month", "Europe/Paris")
    assert month.text == "month (Europe/Paris)"
    assert not month.rolling
    assert month == Calendar("month", "Europe/Paris") != Calendar("month", "Europe/Rome")
    assert len({month, Calendar("month", "Europe/Paris"), Calendar("week", "Europe/Paris")}) == 2
    assert [Calendar(unit).longest_ns // DAY_NS for unit in UNITS] == [2, 8, 32, 93, 367]
    for wrong in (lambda: Rolling(0), lambda: Calendar("months"), lambda: Calendar("month", "Mars/Olympus_Mons")):
        with pytest.raises(BadValue):
            wrong()


def test_local_text_has_the_zones_abbreviation():
    """Of the instant, summer or winter; or the offset, where a zone has none."""
    assert local_text(wall_ns("2026-11-01 04:00"), "America/New_York") == "2026-11-01 00:00 EDT"
    assert local_text(wall_ns("2026-12-01 05:00:59"), "America/New_York") == "2026-12-01 00:00 EST"
    assert local_text(wall_ns("2026-12-01 05:00"), "America/Sao_Paulo") == "2026-12-01 02:00 -03"
    with pytest.raises(BadValue, match="'America/New_York'"):
        local_text(0, "America/New York")


@pytest.mark.parametrize("unit", UNITS)
def test_parse_calendar(unit):
    """The zone is UTC unless it is written."""
    assert parse_calendar(unit, None, PLACE) == Calendar(unit, "UTC")
    assert parse_calendar(unit, "Asia/Tokyo", PLACE) == Calendar(unit, "Asia/Tokyo")


@pytest.mark.parametrize(
    ("unit", "zone", "says"),
    [
        ("monthly", None, "SLO 'checkout'.calendar: 'monthly' is no calendar unit. Did you mean 'month'?"),
        ("Week", None, "SLO 'checkout'.calendar: 'Week' is no calendar unit. Did you mean 'week'?"),
        ("hour", None, "SLO 'checkout'.calendar: 'hour' is no calendar unit. Known: day, month, quarter, week, year"),
        (1, None, "SLO 'checkout'.calendar: 1 is a number. Write one of day, week, month, quarter, year"),
        (
            "day",
            "Europe/Pariss",
            "SLO 'checkout'.timezone: 'Europe/Pariss' is no known time zone. Did you mean 'Europe/P",
        ),
        ("day", "europe/paris", "Did you mean 'Europe/Paris'?"),
        ("day", "Tokyo", "Did you mean 'Asia/Tokyo'?"),
        ("day", "new york", "Did you mean 'America/New_York'?"),
        ("day", "utc", "Did you mean 'UTC'?"),
        ("day", "CEST", "Write an IANA time zone"),
        ("day", "GMT+2", "Write an IANA time zone"),  # not Etc/GMT+2: that is UTC-2
        ("day", "localtime", "'localtime' is no known time zone"),
        ("day", "", "Write an IANA time zone"),
        ("day", "../../etc/passwd", "Write an IANA time zone"),
        ("day", "a\0b", "Write an IANA time zone"),
        ("day", 2, "SLO 'checkout'.timezone: 2 is a number. Write an IANA time zone"),
    ],
)
def test_what_parse_calendar_refuses(unit, zone, says):
    """By a DefinitionError that names the key and the nearest name that exists."""
    with pytest.raises(DefinitionError) as refused:
        parse_calendar(unit, zone, PLACE)
    assert says in str(refused.value)
    assert refused.value.path in [("calendar",), ("timezone",)]
