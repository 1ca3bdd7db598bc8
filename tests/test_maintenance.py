"""Planned maintenance as values: local times and rules against a naive twin that looks at every minute, and errors."""

from __future__ import annotations

import calendar
import random
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelslo.errors import DefinitionError, Place
from otelslo.maintenance import Maintenance, parse_maintenance

MINUTE_NS, HOUR_NS, DAY_NS = 60 * 10**9, 3600 * 10**9, 86_400 * 10**9
PLACE = Place("SLO 'x'").at("maintenance")
ZONES = (
    *("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns"),
    *("Pacific/Chatham", "Africa/Casablanca", "UTC"),
)


def plan(*entries) -> Maintenance:
    return parse_maintenance(list(entries), PLACE)


def ns(text: str) -> int:
    """Unix ns of a time with an offset."""
    at = datetime.fromisoformat(text)
    assert at.tzinfo is not None
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def changes(windows: Maintenance, start_ns: int, end_ns: int) -> list[int]:
    found, at = [], start_ns
    while (at := windows.next_change(at)) is not None and at < end_ns:
        found.append(at)
    return found


def spans(windows: Maintenance, most: int, since: str = "2026-01-01T00:00Z") -> list[str]:
    """The first windows, as UTC."""
    shown = [[datetime.fromtimestamp(at // 10**9, UTC) for at in w[:2]] for w in windows.upcoming(ns(since), most)]
    return [f"{start:%m-%d %H:%M}/{end:%m-%d %H:%M}" for start, end in shown]


# ── one-off ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_no_windows():
    for value in (None, [], ()):
        windows = parse_maintenance(value, PLACE)
        assert not windows
        assert not windows.active(0)
        assert windows.next_change(0) is None
        assert windows.to_json() == []


@pytest.mark.parametrize(
    "entry",
    [
        {"start": "2026-12-01 22:00", "end": "2026-12-02 02:00", "timezone": "Europe/Paris"},
        {"start": "2026-12-01T22:00+01:00", "end": "2026-12-02T01:00Z"},
        {"start": "2026-12-01T22:00+01:00", "duration": "4h"},
        {"start": datetime(2026, 12, 1, 22), "duration": timedelta(hours=4), "timezone": "Europe/Paris"},
        {"start": datetime(2026, 12, 1, 21, tzinfo=UTC), "end": "2026-12-02 02:00", "timezone": "Europe/Paris"},
        {"start": datetime(2026, 12, 1, 22, tzinfo=ZoneInfo("Europe/Paris")), "duration": "4h", "end": None},
    ],
)
def test_a_window_holds_its_start_and_not_its_end(entry):
    windows = plan(entry)
    start, end = ns("2026-12-01T21:00Z"), ns("2026-12-02T01:00Z")
    seen = [windows.active(at) for at in (0, start - 1, start, end - 1, end, 2**62)]
    assert seen == [False, False, True, True, False, False]
    assert [windows.next_change(at) for at in (0, start - 1, start, end - 1, end)] == [start, start, end, end, None]


def test_a_date_is_its_midnight():
    for start in ("2026-12-01", date(2026, 12, 1)):
        assert spans(plan({"start": start, "end": "2026-12-03", "timezone": "Asia/Kolkata"}), 3) == [
            "11-30 18:30/12-02 18:30"
        ]


def test_windows_that_overlap_or_touch_are_one():
    windows = plan(
        {"start": "2026-12-01T00:00Z", "duration": "2h", "name": "b"},
        {"start": "2026-12-01T01:00Z", "duration": "30m", "name": "a"},
        {"start": "2026-12-01T02:00Z", "duration": "1h"},
        {"start": "2026-12-01T03:00:00.000001Z", "duration": "1h"},
    )
    start = ns("2026-12-01T00:00Z")
    moments = [start, start + 3 * HOUR_NS, start + 3 * HOUR_NS + 1000, start + 4 * HOUR_NS + 1000]
    assert changes(windows, 0, 2**62) == moments
    assert [window.name for window in windows.upcoming(0, 3)] == ["b", "a", ""]
    assert [window.name for window in windows.upcoming(start + 2 * HOUR_NS - 1, 9)] == ["b", "", ""]


# ── local times that come twice, or never ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        ("Europe/Paris", "2026-10-25 02:30", "2026-10-25T00:30Z"),  # of two, the first
        ("Europe/Paris", "2026-03-29 02:30", "2026-03-29T01:30Z"),  # left out: 03:30 is meant
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03T15:45Z"),  # half an hour is left out
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30T22:00Z"),  # a whole day is left out
    ],
)
def test_the_stated_rule(zone, local, utc):
    assert plan({"start": local, "duration": "1m", "timezone": zone}).next_change(0) == ns(utc)


def test_an_offset_or_a_fold_chooses_the_second():
    second = ns("2026-10-25T01:30Z")
    for start in ("2026-10-25T02:30+01:00", datetime(2026, 10, 25, 2, 30, fold=1)):
        windows = plan({"start": start, "duration": "1m", "timezone": "Europe/Paris"})
        assert windows.next_change(0) == second
        assert parse_maintenance(windows.to_json(), PLACE).next_change(0) == second


# ── recurring ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_two_o_clock_stays_two_o_clock():
    windows = plan(
        {"start": "2026-03-21 02:00", "duration": "2h", "rrule": "FREQ=WEEKLY;BYDAY=SU", "timezone": "America/New_York"}
    )
    assert spans(windows, 2) == ["03-22 06:00/03-22 08:00", "03-29 06:00/03-29 08:00"]
    assert spans(windows, 2, "2026-10-26T00:00Z") == ["11-01 07:00/11-01 09:00", "11-08 07:00/11-08 09:00"]


def test_the_days_around_both_changes():
    """Every night at 02:30: once left out, once coming twice; each window lasts an hour that passes."""
    windows = plan({"start": "2026-01-01 02:30", "duration": "1h", "rrule": "FREQ=DAILY", "timezone": "Europe/Paris"})
    assert spans(windows, 3, "2026-03-28T00:00Z") == [
        *("03-28 01:30/03-28 02:30", "03-29 01:30/03-29 02:30", "03-30 00:30/03-30 01:30")
    ]
    assert spans(windows, 3, "2026-10-24T00:00Z") == [
        *("10-24 00:30/10-24 01:30", "10-25 00:30/10-25 01:30", "10-26 01:30/10-26 02:30")
    ]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("FREQ=DAILY;COUNT=2", ["01-06 22:00/01-06 23:00", "01-07 22:00/01-07 23:00"]),
        ("FREQ=DAILY;UNTIL=20260107T210000Z", ["01-06 22:00/01-06 23:00"]),
        ("FREQ=DAILY;UNTIL=20260107T220000Z", ["01-06 22:00/01-06 23:00", "01-07 22:00/01-07 23:00"]),
        ("FREQ=DAILY;UNTIL=20260107T225959", ["01-06 22:00/01-06 23:00"]),
        ("FREQ=DAILY;UNTIL=20260107T230000", ["01-06 22:00/01-06 23:00", "01-07 22:00/01-07 23:00"]),
        ("FREQ=DAILY;UNTIL=20260107", ["01-06 22:00/01-06 23:00", "01-07 22:00/01-07 23:00"]),
        ("RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;COUNT=1", ["02-29 22:00/02-29 23:00"]),
        ("freq=monthly;byday=-1SU;count=2", ["01-25 22:00/01-25 23:00", "02-22 22:00/02-22 23:00"]),
        ("FREQ=DAILY;BYHOUR=6,18;COUNT=2;", ["01-07 05:00/01-07 06:00", "01-07 17:00/01-07 18:00"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1;COUNT=1", ["02-02 22:00/02-02 23:00"]),
    ],
)
def test_rules(rule, expected):
    entry = {"start": "2026-01-06 23:00", "duration": "1h", "rrule": rule, "timezone": "Europe/Paris"}
    assert spans(plan(entry), 9) == expected


def test_until_means_the_instant_where_a_local_time_comes_twice():
    """02:30 comes at 00:30Z and 01:30Z; the first is the window's start."""
    entry = {"start": "2026-10-24 02:30", "duration": "1m", "timezone": "Europe/Paris"}
    assert len(spans(plan(entry | {"rrule": "FREQ=DAILY;UNTIL=20261025T002959Z"}), 9)) == 1
    assert len(spans(plan(entry | {"rrule": "FREQ=DAILY;UNTIL=20261025T003000Z"}), 9)) == 2


def test_no_window_begins_before_the_start():
    entry = {"start": "2026-10-25T02:30+01:00", "duration": "10m", "rrule": "FREQ=DAILY", "timezone": "Europe/Paris"}
    windows = plan(entry)
    assert spans(windows, 2) == ["10-25 01:30/10-25 01:40", "10-26 01:30/10-26 01:40"]
    assert parse_maintenance(windows.to_json(), PLACE).upcoming(0, 5) == windows.upcoming(0, 5)


def test_a_start_in_the_gap_keeps_its_local_time():
    windows = plan({"start": "2026-03-29 02:30", "duration": "10m", "rrule": "FREQ=DAILY", "timezone": "Europe/Paris"})
    assert spans(windows, 2) == ["03-29 01:30/03-29 01:40", "03-30 00:30/03-30 00:40"]
    assert parse_maintenance(windows.to_json(), PLACE).upcoming(0, 5) == windows.upcoming(0, 5)


def test_an_offset_without_a_zone_never_changes():
    entry = {"start": "2026-03-28T02:00-05:00", "duration": "1h", "rrule": "FREQ=DAILY"}
    assert spans(plan(entry), 2) == ["03-28 07:00/03-28 08:00", "03-29 07:00/03-29 08:00"]
    aware = {"start": datetime(2026, 3, 28, 2, tzinfo=timezone(timedelta(hours=-5)))}
    assert spans(plan(entry | aware), 2) == spans(plan(entry), 2)


def test_weeks_begin_on_monday_whatever_the_process_says(monkeypatch):
    entry = {
        "start": "2026-01-05 01:00",
        "duration": "1h",
        "rrule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU",
        "timezone": "UTC",
    }
    monkeypatch.setattr(calendar, "firstweekday", lambda: calendar.SUNDAY)
    assert spans(plan(entry), 2) == ["01-11 01:00/01-11 02:00", "01-25 01:00/01-25 02:00"]


def test_windows_without_a_gap_end_where_the_rule_ends():
    """A window of a whole day each day is one window; it ends, and is found to, years on."""
    entry = {"start": "2026-01-01", "duration": "1d", "rrule": "FREQ=DAILY;UNTIL=20351231", "timezone": "UTC"}
    windows = plan(entry)
    assert windows.active(ns("2030-05-05T05:05Z"))
    assert windows.next_change(ns("2026-01-01T00:00Z")) == ns("2036-01-01T00:00Z")
    endless = plan(entry | {"rrule": "FREQ=DAILY"})
    assert endless.next_change(0) == ns("2026-01-01T00:00Z")
    assert endless.next_change(ns("2026-01-01T00:00Z")) is None
    assert endless.active(ns("2199-01-01T00:00Z"))


def test_changes_that_are_far_apart():
    windows = plan(
        {"start": "2024-02-29 10:00", "duration": "1h", "rrule": "FREQ=YEARLY", "timezone": "UTC"},
        {"start": "2050-01-01T00:00Z", "duration": "1h"},
    )
    assert changes(windows, ns("2026-01-01T00:00Z"), ns("2033-01-01T00:00Z")) == [
        *(ns("2028-02-29T10:00Z"), ns("2028-02-29T11:00Z"), ns("2032-02-29T10:00Z"), ns("2032-02-29T11:00Z"))
    ]
    assert ns("2050-01-01T00:00Z") in changes(windows, ns("2026-01-01T00:00Z"), 2**62)


# ── the naive twin ─────────────────────────────────────────────────────────────────────────────────────────────────
RANGES = ("2026-02-20", "2026-09-20")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
DAYS = 56  # from either, both changes of a half-year in all of these zones


@lru_cache
def minutes(zone: str, first_day: str) -> tuple[int, list[datetime]]:
    """The first minute of a range, with days around it, and what the zone's clock shows at each minute."""
    begin = int(datetime.fromisoformat(first_day).replace(tzinfo=UTC).timestamp()) // 60 - 4 * 1440
    tz = ZoneInfo(zone)
    return begin, [datetime.fromtimestamp(60 * (begin + m), tz).replace(tzinfo=None) for m in range((DAYS + 8) * 1440)]


def first_minute(shown: list[datetime], local: datetime) -> int:
    """The minute at which the clock first shows a local time; if it never does, as if it had not been set forward."""
    for at, there in enumerate(shown):
        if there == local:
            return at
        if there > local and at and shown[at - 1] < local:
            return at + (local - shown[at - 1] - timedelta(minutes=1)) // timedelta(minutes=1)
    raise AssertionError("outside of the range")


def naive(entries, zone: str, first_day: str) -> list[int]:
    """Unix ns of all changes in the range, by marking every minute."""
    begin, shown = minutes(zone, first_day)
    marked = bytearray(len(shown) + 10 * 1440)
    days = sorted({at.date() for at in shown})[1:-1]
    for entry in entries:
        length = entry["minutes"]
        for day in days:
            if day < entry["from"].date() or not entry["on"](day):
                continue
            at = first_minute(shown, datetime.combine(day, entry["from"].time()))
            marked[at : at + length] = b"\1" * length
    inside = range(4 * 1440, (DAYS + 4) * 1440)
    return [60 * 10**9 * (begin + at) for at in inside if marked[at] != marked[at - 1]]


@st.composite
def planned(draw):
    first_day = draw(st.sampled_from(RANGES))
    first = datetime.fromisoformat(first_day)
    entries = []
    for _ in range(draw(st.integers(1, 3))):
        start = first + timedelta(days=draw(st.integers(-2, 50)), minutes=draw(st.integers(0, 4 * 60)))
        length = draw(st.integers(1, 1440))
        kind = draw(st.sampled_from(["once", "daily", "weekly", "monthly"]))
        weekdays = draw(st.sets(st.integers(0, 6), min_size=1, max_size=3))
        month_days = draw(st.sets(st.integers(1, 28), min_size=1, max_size=4))
        rule, on = {
            "once": (None, lambda day, start=start: day == start.date()),
            "daily": ("FREQ=DAILY", lambda day: True),
            "weekly": (
                "FREQ=WEEKLY;BYDAY=" + ",".join(WEEKDAYS[d] for d in sorted(weekdays)),
                lambda day, weekdays=weekdays: day.weekday() in weekdays,
            ),
            "monthly": (
                "FREQ=MONTHLY;BYMONTHDAY=" + ",".join(map(str, sorted(month_days))),
                lambda day, month_days=month_days: day.day in month_days,
            ),
        }[kind]
        written = {"start": start.isoformat(" "), "duration": f"{length}m"} | ({"rrule": rule} if rule else {})
        entries.append({"from": start, "minutes": length, "on": on, "written": written})
    return draw(st.sampled_from(ZONES)), first_day, entries


@settings(max_examples=60, deadline=None)
@given(planned(), st.randoms(use_true_random=False))
def test_against_the_twin(plan_, random_):
    zone, first_day, entries = plan_
    windows = plan(*[entry["written"] | {"timezone": zone} for entry in entries])
    expected = naive(entries, zone, first_day)
    begin, _ = minutes(zone, first_day)
    start, end = (60 * 10**9 * (begin + m) for m in (4 * 1440, (DAYS + 4) * 1440))
    assert changes(windows, start - 1, end) == expected
    state, edges = windows.active(start - 1), [start - 1, *expected]
    for number, edge in enumerate(edges):
        assert windows.active(edge) is (state ^ (number % 2 == 1))
        assert number == 0 or windows.active(edge - 1) is not windows.active(edge)
    again = parse_maintenance(windows.to_json(), PLACE)
    moments = [random_.randrange(start, end) for _ in range(50)]
    assert [again.active(at) for at in moments] == [windows.active(at) for at in moments]


def test_what_is_remembered_changes_no_answer():
    """Asked in any order, forwards and back over years, as a new one would answer."""
    entries = [
        {"start": "2025-01-01 02:00", "duration": "90m", "rrule": "FREQ=DAILY", "timezone": "America/New_York"},
        {"start": "2025-01-04 01:00", "duration": "1d", "rrule": "FREQ=WEEKLY", "timezone": "Asia/Kolkata"},
        {"start": "2027-06-01T00:00Z", "duration": "40d"},
    ]
    windows, chance = plan(*entries), random.Random(7)
    for _ in range(150):
        at = chance.randrange(ns("2024-12-01T00:00Z"), ns("2029-01-01T00:00Z"))
        new = plan(*entries)
        assert (windows.active(at), windows.next_change(at)) == (new.active(at), new.next_change(at))


def test_a_window_that_reaches_into_a_span():
    """At its edges, and as one that looks at every change of the span."""
    one = plan({"start": "2026-12-01T02:00Z", "duration": "2h"})
    start, end = ns("2026-12-01T02:00Z"), ns("2026-12-01T04:00Z")
    edges = [(start - 9, start), (start - 9, start + 1), (start + 1, start + 2), (end - 1, end + 9), (end, end + 9)]
    assert [one.reaches(*edge) for edge in edges] == [False, True, True, True, False]
    assert not Maintenance().reaches(0, 2**62)
    entries = [
        {"start": "2026-01-04 02:00", "duration": "2h", "rrule": "FREQ=WEEKLY", "timezone": "Europe/Paris"},
        {"start": "2026-03-01T00:00Z", "duration": "20d"},
    ]
    windows, chance = plan(*entries), random.Random(11)
    for _ in range(150):
        at = chance.randrange(ns("2025-12-01T00:00Z"), ns("2027-01-01T00:00Z"))
        until = at + chance.choice([1, HOUR_NS, DAY_NS, 40 * DAY_NS])
        new = plan(*entries)
        assert windows.reaches(at, until) == (new.active(at) or bool(changes(new, at, until)))
        assert windows.active(until) == new.active(until)


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────
NIGHT = {"start": "2026-01-06 23:00", "duration": "1h", "timezone": "UTC"}


@pytest.mark.parametrize(
    ("entry", "path", "said"),
    [
        ("tonight", (), "is no window"),
        ({"end": "2026-01-01"}, (), "it has no start"),
        (NIGHT | {"rule": "x"}, ("rule",), "Did you mean 'rrule'?"),
        (NIGHT | {"timezone": "Europe/Pariss"}, ("timezone",), "Did you mean 'Europe/Paris'?"),
        (NIGHT | {"timezone": None}, ("start",), "Add timezone: Europe/Paris"),
        (NIGHT | {"start": "tomorrow"}, ("start",), "is no time"),
        (NIGHT | {"start": 20260101}, ("start",), "is no time"),
        (NIGHT | {"start": "2062-13-01"}, ("start",), "is no time"),
        (NIGHT | {"start": "0206-01-01"}, ("start",), "the year 206 is not meant"),
        (NIGHT | {"end": "2026-01-07"}, (), "both an end and a duration"),
        ({"start": "2026-01-06", "timezone": "UTC"}, (), "it never ends"),
        ({"start": "2026-01-06", "end": "2026-01-06", "timezone": "UTC"}, ("end",), "Put the end after the start"),
        (NIGHT | {"duration": 2}, ("duration",), "Write a duration, such as 2h"),
        (NIGHT | {"duration": "0h"}, ("duration",), "is zero"),
        (NIGHT | {"name": "two\nlines"}, ("name",), "not one line"),
        (NIGHT | {"name": 7}, ("name",), "is a number"),
        ({"start": "2026-01-06", "timezone": "UTC", "end": "2026-01-07", "rrule": "FREQ=DAILY"}, ("end",), "duration:"),
        ({"start": "2026-01-06", "timezone": "UTC", "rrule": "FREQ=DAILY"}, (), "Add duration: 2h"),
        (NIGHT | {"rrule": "FREQ=DAILY", "duration": "25h"}, ("duration",), "Write 1d at most"),
        (NIGHT | {"rrule": "FREQ=WEEKLY;BYDAY=SA,SU", "duration": "30h"}, ("duration",), "Write 1d at most"),
        (NIGHT | {"rrule": "FREQ=MONTHLY", "duration": "29d"}, ("duration",), "Write 28d at most"),
        (NIGHT | {"rrule": "FREQ=DAILY;UNTIL=20260105"}, ("rrule",), "its UNTIL lies before its first window"),
    ],
)
def test_what_cannot_be_meant(entry, path, said):
    with pytest.raises(DefinitionError) as refused:
        plan(NIGHT, entry)
    assert refused.value.path == ("maintenance", 1, *path)
    assert said in str(refused.value)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (7, "is a number"),
        ("", "is no recurrence rule"),
        ("weekly", "is no part of a recurrence rule"),
        ("BYDAY=SU", "it does not say how often"),
        ("FREQ=", "is no part"),
        ("FREQ=FORTNIGHTLY", "unknown FREQ"),
        ("FREQ=HOURLY", "BYHOUR=0,6,12,18"),
        ("FREQ=DAILY;FREQ=DAILY", "said twice"),
        ("FREQ=DAILY;BYEASTER=1", "unknown part 'BYEASTER'"),
        ("FREQ=DAILY;INTERVAL=0", "Use 1 to 1000"),
        ("FREQ=DAILY;INTERVAL=1,2", "is a list"),
        ("FREQ=DAILY;COUNT=0", "Use 1 to"),
        ("FREQ=DAILY;COUNT=two", "Use 1 to"),
        ("FREQ=DAILY;COUNT=1;UNTIL=20270101", "both COUNT and UNTIL"),
        ("FREQ=DAILY;UNTIL=soon", "Write UNTIL=20261231"),
        ("FREQ=DAILY;UNTIL=20261301", "Write UNTIL=20261231"),
        ("FREQ=MONTHLY;BYMONTHDAY=40", "1 to 31, or -1 to -31 from the end"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "1 to 31, or -1 to -31 from the end"),
        ("FREQ=DAILY;BYHOUR=24", "Use 0 to 23"),
        ("FREQ=WEEKLY;BYDAY=SUN", "is no weekday"),
        ("FREQ=WEEKLY;BYDAY=SU,", "is no weekday"),
        ("FREQ=WEEKLY;BYDAY=1SU", "FREQ=MONTHLY;BYDAY=1SU"),
        ("FREQ=WEEKLY;BYDAY=8SU", "Write SU, or FREQ=YEARLY;BYDAY=8SU"),
        ("FREQ=WEEKLY;BYDAY=-54SU", "Write SU"),
        ("FREQ=DAILY;BYMONTH=2;BYDAY=8SU", "Write SU"),
        ("FREQ=WEEKLY;WKST=2MO", "Write MO"),
        ("FREQ=MONTHLY;BYDAY=8SU", "no month has so many. Use 1 to 5, or FREQ=YEARLY;BYDAY=8SU"),
        ("FREQ=MONTHLY;BYDAY=SU,-6MO", "'-6MO' never comes: no month has so many"),
        ("FREQ=YEARLY;BYDAY=54SU", "no year has so many. Use 1 to 53"),
        ("FREQ=YEARLY;BYMONTH=2;BYDAY=8SU", "no month has so many. Use 1 to 5"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "never comes true"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "never comes true"),
        ("FREQ=DAILY;BYMINUTE=0,1", "comes again after 1m"),
        ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY", "more than one rule"),
        ("FREQ=DAILY\nEXDATE:20260101T000000", "more than one rule"),
        ("FREQ=DAILY;BYDAY=" + ",".join(["SU"] * 400), "is no recurrence rule"),
    ],
)
def test_rules_that_cannot_be_meant(rule, said):
    with pytest.raises(DefinitionError) as refused:
        plan(NIGHT | {"duration": "1m", "rrule": rule})
    assert refused.value.path == ("maintenance", 0, "rrule")
    assert said in str(refused.value)
    assert refused.value.remedy


def test_what_is_no_list_is_refused():
    for value in ("never", {"start": "2026-01-01"}, 7, [NIGHT] * 1001):
        with pytest.raises(DefinitionError, match="maintenance"):
            parse_maintenance(value, PLACE)


# ── as data and as text ────────────────────────────────────────────────────────────────────────────────────────────
def test_json_is_read_back():
    windows = plan(
        NIGHT | {"name": "deploy"},
        NIGHT | {"rrule": "FREQ=WEEKLY;BYDAY=SU;UNTIL=20261231", "timezone": "Europe/Paris"},
        {"start": "2026-03-28T02:00-05:00", "duration": "1h", "rrule": "FREQ=DAILY"},
        {"start": "2026-03-28T02:00:00.000250-05:00", "end": "2026-03-28T03:00:00Z"} | {"duration": "1h", "end": None},
    )
    again = parse_maintenance(windows.to_json(), PLACE)
    assert again.to_json() == windows.to_json()
    assert again.upcoming(0, 99) == windows.upcoming(0, 99)


def test_text():
    once, weekly = plan(
        NIGHT | {"timezone": "Europe/Paris", "name": "deploy"},
        NIGHT | {"rrule": "FREQ=WEEKLY;BYDAY=SU"},
    ).entries
    assert once.text == "2026-01-06 23:00 CET to 2026-01-07 00:00 CET, deploy"
    assert weekly.text == "FREQ=WEEKLY;BYDAY=SU, 1h each, from 2026-01-06 23:00 UTC"


@pytest.mark.parametrize("day", ["1SU", "-5SU", "6SU", "8SU", "-53SU", "54SU"])
def test_the_rule_that_is_proposed_for_a_numbered_day_comes_true(day):
    with pytest.raises(DefinitionError) as refused:
        plan(NIGHT | {"rrule": f"FREQ=WEEKLY;BYDAY={day}"})
    plain, _, rule = refused.value.remedy.partition(", or ")
    assert plain == "Write SU"
    assert plan(NIGHT | {"rrule": rule or "FREQ=WEEKLY;BYDAY=SU"}).upcoming(0, 1)
