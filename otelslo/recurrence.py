"""When something comes again: recurrence rules of RFC 5545 ("FREQ=WEEKLY;BYDAY=SU"), read strictly.

The days are found by dateutil. It takes more than it can honour (a 40th of the month, an interval of 0, which never
ends), so what is written is checked here first. Times are local and know no zone; what they are elsewhere, and when
UNTIL ends them, is up to whoever knows the zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from dateutil.rrule import rrule, rrulestr

from otelslo.errors import BadValue, Place, nearest, shown
from otelslo.window import MINUTE_NS, format_duration

_EXAMPLE = 'Write a rule such as "FREQ=WEEKLY;BYDAY=SU"'
_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_FINER = ("HOURLY", "MINUTELY", "SECONDLY")
_NUMBERS = {
    "INTERVAL": (1, 1000),
    "COUNT": (1, 1_000_000),
    "BYMONTH": (1, 12),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSECOND": (0, 59),
}
_FROM_EITHER_END = {"BYMONTHDAY": 31, "BYYEARDAY": 366, "BYWEEKNO": 53, "BYSETPOS": 366}
_MOST_IN_A_MONTH, _MOST_IN_A_YEAR = 5, 53  # of one weekday
_SINGLE = ("INTERVAL", "COUNT")
_KEYS = ("FREQ", "UNTIL", "WKST", "BYDAY", *_NUMBERS, *_FROM_EITHER_END)
_NUMBER = re.compile(r"[+-]?[0-9]{1,7}")
_WEEKDAY = re.compile(r"([+-]?[1-9][0-9]?)?(MO|TU|WE|TH|FR|SA|SU)")
_UNTIL = re.compile(r"[0-9]{8}(T[0-9]{6}Z?)?")
_LONGEST = 500
_SHORTEST_NS = 5 * MINUTE_NS
_LOOKED_AT, _LOOKED_OVER = 500, timedelta(days=5 * 366)
_LAST_YEAR, _CYCLE_YEARS = 9999, 400


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule as dateutil has it, without its UNTIL.

    `until` is the last local time that may be a start, with a zone (UTC) where the rule says so; a mere date lasts
    until its end. `shortest_ns` is the shortest local time from one start to the next, None where there is one only.
    """

    text: str
    rule: rrule
    until: datetime | None
    shortest_ns: int | None

    def starts(self, start: datetime) -> Iterator[datetime]:
        """Local times of whole seconds, in order, from `start` on, which must be the one that it was read with."""
        return iter(self.rule)


def parse_recurrence(value: object, start: datetime, place: Place) -> Recurrence:
    """The rule that begins at the local time `start`, which is its first only if the rule says so too.

    Raises:
        DefinitionError: it is no rule, or one that never comes true, or too often, or that means two things.
    """
    return place.parse(lambda text: _recurrence(text, start), place.expect(value, str, _EXAMPLE.removeprefix("Write ")))


@lru_cache(maxsize=1024)  # a rule for all objectives is read once for each
def _recurrence(value: str, start: datetime) -> Recurrence:
    parts = _read(value)
    text = ";".join(f"{key}={part}" for key, part in parts.items())
    until = _read_until(parts.pop("UNTIL", None))
    parts.setdefault("WKST", "MO")  # dateutil would ask the process's calendar settings
    bare = ";".join(f"{key}={part}" for key, part in parts.items())
    # The calendar repeats itself every 400 years. So near the end of dateutil's, a rule that never comes true is soon
    # found to do so: it looks on to the end.
    late = start.year + (_LAST_YEAR - start.year) // _CYCLE_YEARS * _CYCLE_YEARS
    try:
        first = next(iter(rrulestr(bare, dtstart=start.replace(year=late))), None)
        rule = rrulestr(bare, dtstart=start)
    except Exception as refused:  # it raises what it happens to meet
        raise BadValue(f"{shown(value)} is no recurrence rule ({shown(str(refused))})", _EXAMPLE) from None
    if first is None or not isinstance(rule, rrule):
        raise BadValue(f"{shown(value)} never comes true", "Is there such a day? " + _EXAMPLE)
    return Recurrence(text, rule, until, _shortest_ns(value, rule, start))


def _shortest_ns(value: str, rule: rrule, start: datetime) -> int | None:
    shortest, before = None, None
    for number, at in enumerate(rule):
        if before is not None:
            shortest = at - before if shortest is None else min(shortest, at - before)
        before = at
        if number >= _LOOKED_AT or (number >= 2 and at - start > _LOOKED_OVER):
            break
    if shortest is None:
        return None
    shortest_ns = shortest // timedelta(microseconds=1) * 1000
    if shortest_ns < _SHORTEST_NS:
        problem = f"{shown(value)} comes again after {format_duration(shortest_ns)}"
        raise BadValue(problem, f"Leave {format_duration(_SHORTEST_NS)} at least; one longer window may do")
    return shortest_ns


def _read(value: str) -> dict[str, str]:
    """The parts of a rule by their names, each checked by itself."""
    text = value.strip().upper().removeprefix("RRULE:")
    if len(text) > _LONGEST or not text.isascii() or not text:
        raise BadValue(f"{shown(value)} is no recurrence rule", _EXAMPLE)
    if ":" in text or len(text.split()) > 1:
        raise BadValue(f"{shown(value)} is more than one rule", f"Say in start when it begins. {_EXAMPLE}")
    parts: dict[str, str] = {}
    for pair in text.removesuffix(";").split(";"):
        key, equals, part = pair.partition("=")
        if not equals or not part:
            raise BadValue(f"{shown(pair)} is no part of a recurrence rule", _EXAMPLE)
        if key not in _KEYS:
            raise BadValue(f"unknown part {shown(key)}", nearest(key, _KEYS))
        if key in parts:
            raise BadValue(f"{key} is said twice", "Keep one")
        parts[key] = part
    _check(parts)
    return parts


def _check(parts: Mapping[str, str]) -> None:
    frequency = parts.get("FREQ")
    if frequency is None:
        raise BadValue("it does not say how often", _EXAMPLE)
    if frequency in _FINER:
        raise BadValue(f"FREQ={frequency} means nothing when clocks change", "Write FREQ=DAILY;BYHOUR=0,6,12,18")
    if frequency not in _FREQUENCIES:
        raise BadValue(f"unknown FREQ {shown(frequency)}", nearest(frequency, _FREQUENCIES))
    if "COUNT" in parts and "UNTIL" in parts:
        raise BadValue("it has both COUNT and UNTIL", "Keep one")
    for key, (lowest, highest) in _NUMBERS.items():
        _check_numbers(key, parts.get(key), lowest, highest)
    for key, highest in _FROM_EITHER_END.items():
        _check_numbers(key, parts.get(key), -highest, highest)
    for key in ("WKST", "BYDAY"):
        for day in parts[key].split(",") if key in parts else ():
            _check_day(key, day, frequency, "BYMONTH" in parts)


def _check_day(key: str, day: str, frequency: str, in_months: bool) -> None:
    """A weekday, and its number if it has one: a month holds five of each at most, a year 53."""
    written = _WEEKDAY.fullmatch(day)
    if written is None:
        raise BadValue(f"{shown(day)} is no weekday", f"Write {key}=SU; days are MO TU WE TH FR SA SU")
    number, plain = written.groups()
    if not number:
        return
    nth = abs(int(number))
    yearly = nth <= _MOST_IN_A_YEAR and not in_months
    rule = "MONTHLY" if nth <= _MOST_IN_A_MONTH else "YEARLY" if yearly else ""
    if key == "WKST" or frequency not in ("MONTHLY", "YEARLY"):
        otherwise = f", or FREQ={rule};BYDAY={day}" if rule and key == "BYDAY" else ""
        raise BadValue(f"{shown(day)} has a number", f"Write {plain}{otherwise}")
    if not rule or (rule == "YEARLY" and frequency == "MONTHLY"):
        span, most = (
            ("year", _MOST_IN_A_YEAR) if frequency == "YEARLY" and not in_months else ("month", _MOST_IN_A_MONTH)
        )
        otherwise = f", or FREQ=YEARLY;BYDAY={day}" if rule else ""
        raise BadValue(f"{shown(day)} never comes: no {span} has so many", f"Use 1 to {most}{otherwise}")


def _check_numbers(key: str, written: str | None, lowest: int, highest: int) -> None:
    if written is None:
        return
    for number in written.split(","):
        fits = _NUMBER.fullmatch(number) and lowest <= int(number) <= highest
        if not fits or (lowest < 0 and int(number) == 0):
            allowed = f"{lowest} to {highest}" if lowest >= 0 else f"1 to {highest}, or -1 to {lowest} from the end"
            raise BadValue(f"{key}={shown(written)} is out of range", f"Use {allowed}")
    if key in _SINGLE and "," in written:
        raise BadValue(f"{key}={written} is a list", "Keep one number")


def _read_until(written: str | None) -> datetime | None:
    if written is None:
        return None
    try:
        if not _UNTIL.fullmatch(written):
            raise ValueError
        until = datetime.fromisoformat(written)
    except ValueError:
        problem = f"UNTIL={shown(written)} is no time"
        raise BadValue(problem, "Write UNTIL=20261231, or UNTIL=20261231T235959Z") from None
    return until if "T" in written else until + timedelta(days=1, microseconds=-1)
