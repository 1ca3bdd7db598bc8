"""Times as people type them: exact, in any zone, and never guessed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.cli.moments import Moments
from otelslo.errors import BadValue

SECOND_NS = 1_000_000_000
NOW_NS = 1_700_042_400 * SECOND_NS + 123_456_789  # 2023-11-15T10:00:00.123456789Z
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")


def unix_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_NS),
        (" NOW ", NOW_NS),
        ("-2h", NOW_NS - 7_200 * SECOND_NS),
        ("-1h30m", NOW_NS - 5_400 * SECOND_NS),
        ("+5m", NOW_NS + 300 * SECOND_NS),
        ("2023-11-14T22:00", unix_ns("2023-11-14T22:00+01:00")),
        ("2023-11-14 22:00:30", unix_ns("2023-11-14T22:00:30+01:00")),
        ("2023-07-14T22:00", unix_ns("2023-07-14T22:00+02:00")),
        ("2023-11-14", unix_ns("2023-11-14T00:00+01:00")),
        ("2023-11-14T22:00Z", unix_ns("2023-11-14T22:00+00:00")),
        ("2023-11-14T22:00-05:00", unix_ns("2023-11-14T22:00-05:00")),
        ("10:30", unix_ns("2023-11-15T10:30+01:00")),
        ("2023-11-14T22:00:00.25", unix_ns("2023-11-14T22:00+01:00") + SECOND_NS // 4),
    ],
)
def test_what_is_read(text: str, expected: int) -> None:
    assert Moments(NOW_NS, ZoneInfo("Europe/Paris")).parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "2h", "yesterday", "-", "-2", "-2 parsecs", "2023", "2023-13-01", "25:00", "9" * 99]
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        Moments(NOW_NS, ZoneInfo("UTC")).parse(text)


@pytest.mark.parametrize(
    ("zone", "text", "words"),
    [
        ("Europe/Paris", "2023-10-29T02:30", "Write 2023-10-29T02:30:00+02:00 or 2023-10-29T02:30:00+01:00"),
        ("Europe/Paris", "2023-03-26T02:30", "the clock was set forward over it"),
        ("Australia/Lord_Howe", "2023-04-02T01:45", "two times"),
        ("Pacific/Apia", "2011-12-30T12:00", "the clock was set forward over it"),
    ],
)
def test_local_times_that_come_twice_or_never(zone: str, text: str, words: str) -> None:
    at = Moments(NOW_NS, ZoneInfo(zone))
    with pytest.raises(BadValue) as refused:
        at.parse(text)
    assert words in str(refused.value)
    assert at.parse(f"{text}+01:00") == unix_ns(f"{text}+01:00")


@given(st.integers(0, 4_000_000_000), st.sampled_from(ZONES))
def test_what_is_shown_is_read_back(at_s: int, zone: str) -> None:
    at = Moments(NOW_NS, ZoneInfo(zone))
    assert at.parse(at.iso(at_s * SECOND_NS)) == at_s * SECOND_NS
    local, _, _ = at.text(at_s * SECOND_NS).rpartition(" ")
    offsets = {datetime.fromisoformat(local).replace(tzinfo=at.zone, fold=fold).utcoffset() for fold in (0, 1)}
    if len(offsets) == 1:
        assert at.parse(local) == at_s * SECOND_NS


def test_spans() -> None:
    at = Moments(NOW_NS, ZoneInfo("UTC"))
    assert at.span(at.parse("10:00"), at.parse("10:05")) == "2023-11-15 10:00:00 to 10:05:00 UTC"
    day = at.span(at.parse("2023-11-14"), at.parse("10:05"))
    assert day == "2023-11-14 00:00:00 UTC to 2023-11-15 10:05:00 UTC"
    assert at.text(at.parse("10:00") - 3) == "2023-11-15 10:00:00 UTC"


def test_without_a_zone_it_is_this_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Moments(NOW_NS)
    now = datetime.fromtimestamp(1_700_042_400).astimezone()
    assert at.text(1_700_042_400 * SECOND_NS) == f"{now:%Y-%m-%d %H:%M:%S %Z}"
    assert at.parse(f"{now:%H:%M}") == 1_700_042_400 * SECOND_NS
