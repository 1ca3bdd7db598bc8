"""How OpenSLO spells durations, numbers and names, both ways; what it cannot spell goes under annotations of ours."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from fractions import Fraction

from otelslo.errors import BadValue, shown
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, WEEK_NS, format_duration, format_target

API_VERSION = "openslo/v1"
PREFIX = "otelslo.io/"
SOURCE_TYPE = "otelslo"
SERVICE = "service"  # the label that holds an SLO's service
SLA = "sla"
ALL_CHANNELS = "all-channels"  # the name of a notification target that stands for all that are configured
LONGEST_NAME = 63
LONGEST_DESCRIPTION = 1050
METHODS = {"Occurrences": "occurrences", "Timeslices": "timeslices", "RatioTimeslices": "ratio_timeslices"}
CALENDAR_UNITS = {"d": "day", "w": "week", "M": "month", "Q": "quarter", "Y": "year"}
# A month has no length; where one is needed, it has the one that OpenSLO's own SDK gives it.
_UNITS_NS = {"m": MINUTE_NS, "h": HOUR_NS, "d": DAY_NS, "w": WEEK_NS}
_UNITS_NS |= {"M": 30 * DAY_NS, "Q": 90 * DAY_NS, "Y": 365 * DAY_NS}
_SHORTHAND = re.compile(r"([0-9]{1,9})([A-Za-z]+)")
_DECIMALS = 12
_WRITTEN = (("d", DAY_NS), ("h", HOUR_NS), ("m", MINUTE_NS))


def parse_shorthand(value: object) -> tuple[int, str]:
    """Amount and unit of "28d"; BadValue unless it is a whole number above zero and one of m h d w M Q Y."""
    form = _SHORTHAND.fullmatch(value) if isinstance(value, str) else None
    if form is None or int(form[1]) == 0:
        raise BadValue(
            f"{shown(value)} is no duration of OpenSLO", "Write a whole number and one of m h d w M Q Y: 28d"
        )
    if form[2] not in _UNITS_NS:
        problem = f"{shown(value)} has an unknown unit {shown(form[2])}"
        raise BadValue(problem, "Units: m h d w M Q Y; m is a minute, M a month; there are no seconds")
    return int(form[1]), form[2]


def length_ns(value: object) -> int:
    """Nanoseconds of a duration; a month is 30, a quarter 90, a year 365 days. Raises BadValue."""
    amount, unit = parse_shorthand(value)
    return amount * _UNITS_NS[unit]


def shorthand(duration_ns: int) -> str:
    """The duration in OpenSLO's units, rounded up to whole minutes where it has seconds."""
    minutes_ns = -(-duration_ns // MINUTE_NS) * MINUTE_NS
    unit, unit_ns = next(each for each in _WRITTEN if minutes_ns % each[1] == 0)
    return f"{minutes_ns // unit_ns}{unit}"


def number(value: Fraction) -> int | Decimal:
    """The number as YAML writes it, rounded down to 12 decimals where it has more."""
    if value.denominator == 1:
        return int(value)
    scaled = value.numerator * 10**_DECIMALS // value.denominator
    text = f"{Decimal(scaled).scaleb(-_DECIMALS):f}".rstrip("0")
    return Decimal(text + "0" if text.endswith(".") else text)


def ratio_text(value: Fraction) -> str:
    """A ratio as an SLO's key takes it or as `ratio` reads it back: "99.9%", "1/3"."""
    return format_target(value)


def ratio(text: str) -> str | Fraction:
    """What an SLO takes for "99.9%" or "1/3". Raises BadValue."""
    form = re.fullmatch(r"([0-9]{1,15})/([1-9][0-9]{0,15})", text)
    return Fraction(int(form[1]), int(form[2])) if form else text


def duration_text(duration_ns: int) -> str:
    """A duration as an SLO's keys take it."""
    return format_duration(duration_ns)


def dns_name(name: str, taken: Collection[str] = ()) -> str:
    """An RFC 1123 label made of the name, other than all of `taken`."""
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")[:LONGEST_NAME].strip("-") or "x"
    made, count = plain, 1
    while made in taken:
        count += 1
        made = f"{plain[: LONGEST_NAME - 5].strip('-')}-{count}"
    return made


def clipped(text: str) -> str:
    """As much of a description as OpenSLO allows."""
    return text[:LONGEST_DESCRIPTION]
