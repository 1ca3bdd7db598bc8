"""Planned maintenance: the windows of time whose events count neither as good nor as bad, known before they begin.

One-off, or recurring by an RFC 5545 rule in local time: 02:00 stays 02:00 when the clocks change. A local time that
comes twice means the first, one that is left out is as much later as the clocks were set forward; with an offset
("2026-10-25T02:30+01:00") there is nothing to choose. A duration is time that passes. A window holds its start and not
its end. All answers are in Unix nanoseconds of the wall clock.

An event belongs where it ends. What was in flight when its worker was killed stays bad, in maintenance too: that is
booked by what was known when it began, in a file that all workers share.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo

from otelslo.errors import Place, shown
from otelslo.period import UTC, local_text, parse_calendar
from otelslo.recurrence import Recurrence, parse_recurrence
from otelslo.window import DAY_NS, SECOND_NS, format_duration, parse_positive_duration

_KEYS = ("name", "start", "end", "duration", "timezone", "rrule")
_EXAMPLE = '{start: "2026-12-01 22:00", end: "2026-12-02 02:00", timezone: Europe/Paris}'
_EPOCH = datetime(1970, 1, 1)
_YEARS = range(1970, 2201)
_LONGEST_NAME = 100
_MOST_ENTRIES = 1000
_HORIZONS_NS = (60 * DAY_NS, 500 * DAY_NS, 4000 * DAY_NS)
_MOST_WINDOWS = 4096  # looked at of one entry; they begin five minutes apart at least
_NEVER_NS = 2**63 - 1


class Window(NamedTuple):
    """One stretch of maintenance: start <= t < end, Unix ns; `timezone` is where its times are local, for display."""

    start_ns: int
    end_ns: int
    name: str
    timezone: str

    @property
    def text(self) -> str:
        """ "2026-12-01 22:00 CET to 2026-12-02 02:00 CET, database upgrade"."""
        start, end = (local_text(at_ns, self.timezone) for at_ns in (self.start_ns, self.end_ns))
        return f"{start} to {end}" + (f", {self.name}" if self.name else "")


@dataclass(frozen=True, slots=True)
class OneOff:
    """A window that comes once."""

    name: str
    start_ns: int
    end_ns: int
    zone: tzinfo

    def spans(self, since_ns: int) -> Iterator[tuple[int, int]]:
        """(start, end) of the window, if it ends after `since_ns`."""
        if self.end_ns > since_ns:
            yield self.start_ns, self.end_ns

    @property
    def text(self) -> str:
        return Window(self.start_ns, self.end_ns, self.name, zone_name(self.zone)).text

    def to_json(self) -> dict[str, str]:
        ends = {"start": _iso(self.start_ns, self.zone), "end": _iso(self.end_ns, self.zone)}
        return _named(self.name) | ends | _zoned(self.zone)


@dataclass(frozen=True, slots=True)
class Recurring:
    """Windows of one length that begin by a rule, none before `start_ns`; `start` is that moment in local time."""

    name: str
    start: datetime
    start_ns: int
    duration_ns: int
    recurrence: Recurrence
    zone: tzinfo
    until_ns: int | None

    def spans(self, since_ns: int) -> Iterator[tuple[int, int]]:
        """(start, end) of the windows that end after `since_ns`, in order of local time: near a change of the clocks
        that need not be the order in which they come."""
        fraction = timedelta(microseconds=self.start.microsecond)
        for whole in self.recurrence.starts(self.start):
            local = whole + fraction
            if _naive_ns(local) + self.duration_ns + 2 * DAY_NS <= since_ns:  # no offset is so large
                continue
            start_ns = self.start_ns if local == self.start else instant_ns(local, self.zone)
            if self.until_ns is not None and start_ns > self.until_ns:
                if start_ns > self.until_ns + DAY_NS:
                    return
                continue
            if start_ns >= self.start_ns and start_ns + self.duration_ns > since_ns:
                yield start_ns, start_ns + self.duration_ns

    @property
    def text(self) -> str:
        """ "FREQ=WEEKLY;BYDAY=SU, 2h each, from 2026-12-06 02:00 CET, deploys"."""
        start = local_text(self.start_ns, zone_name(self.zone))
        told = f"{self.recurrence.text}, {format_duration(self.duration_ns)} each, from {start}"
        return told + (f", {self.name}" if self.name else "")

    def to_json(self) -> dict[str, str]:
        zoned = _zoned(self.zone)
        # A local time that the clocks leave out on that day is to stay what it is on all others.
        start = self.start.isoformat() if zoned and not self.start.fold else _iso(self.start_ns, self.zone)
        rest = {"duration": format_duration(self.duration_ns), "rrule": self.recurrence.text}
        return _named(self.name) | {"start": start} | rest | zoned


Entry = OneOff | Recurring


class _Known(NamedTuple):
    """What has been looked up: the moments of change, a start first, right for `since_ns` <= t < `until_ns`."""

    since_ns: int
    renew_ns: int
    until_ns: int
    edges: tuple[int, ...]


class Maintenance:
    """All windows of one objective, those that overlap or touch as one. What it has looked up it remembers.

    Threads may share one.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = tuple(entries)
        self._known = _Known(0, 0, 0, ())
        self._past: Maintenance | None = None

    def __bool__(self) -> bool:
        """Whether any window is planned, past ones too."""
        return bool(self.entries)

    def active(self, wall_ns: int) -> bool:
        """Whether this moment lies in a window."""
        return bool(self.entries) and bisect_right(self._edges(wall_ns), wall_ns) % 2 == 1

    def next_change(self, wall_ns: int) -> int | None:
        """The next moment after `wall_ns` at which `active` changes.

        None: never again; or windows follow each other without a gap for the next thousands of them.
        """
        edges = self._edges(wall_ns) if self.entries else ()
        at = bisect_right(edges, wall_ns)
        return edges[at] if at < len(edges) else None

    def reaches(self, start_ns: int, end_ns: int) -> bool:
        """Whether any moment of start <= t < end lies in a window."""
        if not self.entries:
            return False
        # With a memory of its own: a look at what was a month ago would have requests look at the present anew.
        past = self._past = self._past or Maintenance(self.entries)
        change_ns = past.next_change(start_ns)
        return past.active(start_ns) or (change_ns is not None and change_ns < end_ns)

    def upcoming(self, wall_ns: int, most: int) -> list[Window]:
        """The windows that end after `wall_ns`, each by itself, by their start."""
        found = [
            Window(start_ns, end_ns, entry.name, zone_name(entry.zone))
            for entry in self.entries
            for start_ns, end_ns in _few(entry.spans(wall_ns), most)
        ]
        return sorted(found)[:most]

    def to_json(self) -> list[dict[str, str]]:
        """Plain data that `parse_maintenance` reads."""
        return [entry.to_json() for entry in self.entries]

    def _edges(self, wall_ns: int) -> tuple[int, ...]:
        known = self._known
        if not known.since_ns <= wall_ns < known.renew_ns:
            for horizon_ns in _HORIZONS_NS:
                known = self._look(wall_ns, horizon_ns)
                if known.until_ns == _NEVER_NS or (known.edges and known.edges[-1] > wall_ns):
                    break
            self._known = known
        return known.edges

    def _look(self, wall_ns: int, horizon_ns: int) -> _Known:
        since_ns, until_ns = wall_ns - DAY_NS, _NEVER_NS
        spans: list[tuple[int, int]] = []
        for entry in self.entries:
            found, whole_until_ns = _spans_ahead(entry, since_ns, wall_ns, horizon_ns)
            spans += found
            until_ns = min(until_ns, whole_until_ns)
        edges = tuple(edge for span in _merged(spans) for edge in span if edge < until_ns)
        renew_ns = until_ns if until_ns == _NEVER_NS else (wall_ns + until_ns) // 2
        if until_ns != _NEVER_NS and edges and edges[-1] > wall_ns:
            renew_ns = min(renew_ns, edges[-1])  # so that there is always one to come
        return _Known(since_ns, renew_ns, until_ns, edges)


def _spans_ahead(entry: Entry, since_ns: int, wall_ns: int, horizon_ns: int) -> tuple[list[tuple[int, int]], int]:
    """Windows of an entry, and until when they are all there: at least until the first that starts after now."""
    found: list[tuple[int, int]] = []
    enough_ns = None
    for span in entry.spans(since_ns):
        found.append(span)
        if enough_ns is None and span[0] > wall_ns:
            enough_ns = max(wall_ns + horizon_ns, span[0] + 2 * DAY_NS)
        if len(found) >= _MOST_WINDOWS or (enough_ns is not None and span[0] > enough_ns):
            return found, span[0] - DAY_NS  # none that is still to come begins before that
    return found, _NEVER_NS


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start_ns, end_ns in sorted(spans):
        if merged and start_ns <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_ns))
        else:
            merged.append((start_ns, end_ns))
    return merged


def _few(spans: Iterator[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """The first of them to begin; in order of local time they may be a day off."""
    found: list[tuple[int, int]] = []
    for span in spans:
        found.append(span)
        found.sort()
        if len(found) >= most and span[0] > found[most - 1][0] + DAY_NS:
            break
    return found[:most]


# ── local times ────────────────────────────────────────────────────────────────────────────────────────────────────
def instant_ns(local: datetime, zone: tzinfo) -> int:
    """Unix ns of a local time (its own zone is not looked at), by the rule that the module's first lines state."""
    offset = local.replace(tzinfo=zone).utcoffset() or timedelta()
    return _naive_ns(local) - offset // timedelta(microseconds=1) * 1000


def _naive_ns(local: datetime) -> int:
    return (local.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1) * 1000


def zone_name(zone: tzinfo) -> str:
    """Where times of this zone are shown: its own IANA name, UTC for a mere offset."""
    return zone.key if isinstance(zone, ZoneInfo) and zone.key else UTC


def _local_of(at_ns: int, zone: tzinfo) -> datetime:
    seconds, ns = divmod(at_ns, SECOND_NS)
    return datetime.fromtimestamp(seconds, zone).replace(microsecond=ns // 1000)


def _iso(at_ns: int, zone: tzinfo) -> str:
    return _local_of(at_ns, zone).isoformat()


def _named(name: str) -> dict[str, str]:
    return {"name": name} if name else {}


def _zoned(zone: tzinfo) -> dict[str, str]:
    return {"timezone": zone.key} if isinstance(zone, ZoneInfo) and zone.key else {}


# ── as people write it ─────────────────────────────────────────────────────────────────────────────────────────────
def parse_maintenance(value: object, place: Place) -> Maintenance:
    """The windows of a `maintenance` list; None or an empty one has none.

    Raises:
        DefinitionError: an entry cannot be meant; names its place and a remedy.
    """
    if value is None:
        return Maintenance()
    if not isinstance(value, list | tuple):
        raise place.error(f"{shown(value)} is no list of windows", f"Write [{_EXAMPLE}]")
    if len(value) > _MOST_ENTRIES:
        raise place.error(f"{len(value)} entries are too many", f"Use {_MOST_ENTRIES} at most; rrule says many at once")
    found = Maintenance(_parse_entry(entry, place.at(index)) for index, entry in enumerate(value))
    return _shared.setdefault(json.dumps(found.to_json()), found)


_shared: WeakValueDictionary[str, Maintenance] = WeakValueDictionary()  # windows of many objectives are looked up once


def _parse_entry(value: object, place: Place) -> Entry:
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no window", f"Write {_EXAMPLE}")
    place.only(value, _KEYS)
    given = {key: item for key, item in value.items() if item is not None}
    if "start" not in given:
        raise place.error("it has no start", 'Add start: "2026-12-01 22:00"')
    name = _parse_name(given.get("name", ""), place.at("name"))
    zone = None
    if "timezone" in given:
        zone = ZoneInfo(parse_calendar("day", given["timezone"], place).timezone)
    start, own_zone = _parse_time(given["start"], zone, place.at("start"))
    if "rrule" in given:
        return _parse_recurring(name, given, start, own_zone, place)
    start_ns = instant_ns(start, own_zone)
    return OneOff(name, start_ns, _parse_end(given, start_ns, zone, place), own_zone)


def _parse_end(given: Mapping[str, object], start_ns: int, zone: ZoneInfo | None, place: Place) -> int:
    if ("end" in given) == ("duration" in given):
        problem = "it has both an end and a duration" if "end" in given else "it never ends"
        raise place.error(problem, 'Give it one: end: "2026-12-02 02:00", or duration: 4h')
    if "duration" in given:
        return start_ns + _parse_duration(given["duration"], place)
    end_ns = instant_ns(*_parse_time(given["end"], zone, place.at("end")))
    if end_ns <= start_ns:
        raise place.at("end").error("it ends before it has started", "Put the end after the start")
    return end_ns


def _parse_recurring(name: str, given: Mapping[str, object], start: datetime, zone: tzinfo, place: Place) -> Recurring:
    if "end" in given:
        raise place.at("end").error("windows that recur have a duration", "Write duration: 2h instead", at_key=True)
    if "duration" not in given:
        raise place.error("it does not say how long each window is", "Add duration: 2h")
    own = getattr(given["start"], "tzinfo", None)
    if "timezone" not in given and not isinstance(own, ZoneInfo | timezone | None):
        raise place.at("start").error("what its zone does later is not known", "Add timezone: Europe/Paris")
    duration_ns = _parse_duration(given["duration"], place)
    spot = place.at("rrule")
    recurrence = parse_recurrence(given["rrule"], start, spot)
    if recurrence.shortest_ns is not None and duration_ns > recurrence.shortest_ns:
        apart, each = format_duration(recurrence.shortest_ns), format_duration(duration_ns)
        problem = f"a window of {each} has not ended when the next begins, {apart} later"
        raise place.at("duration").error(problem, f"Write {apart} at most")
    until_ns = None if recurrence.until is None else instant_ns(recurrence.until, recurrence.until.tzinfo or zone)
    found = Recurring(name, start, instant_ns(start, zone), duration_ns, recurrence, zone, until_ns)
    if next(found.spans(found.start_ns), None) is None:
        raise spot.error("its UNTIL lies before its first window", "Write a later one, or leave the window out")
    return found


def _parse_duration(value: object, place: Place) -> int:
    spot = place.at("duration")
    if not isinstance(value, timedelta):
        spot.expect(value, str, "a duration, such as 2h")
    return spot.parse(parse_positive_duration, value)  # type: ignore[arg-type]


def _parse_time(value: object, zone: ZoneInfo | None, place: Place) -> tuple[datetime, tzinfo]:
    """A local time without its zone, and the zone: `zone`, or the value's own."""
    remedy = 'such as "2026-12-01 22:00", with timezone, or "2026-12-01T22:00+01:00"'
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise place.error(f"{shown(value)} is no time", f"Write one {remedy}") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise place.error(f"{shown(value)} is no time", f"Write a text {remedy}")
    if value.year not in _YEARS:
        raise place.error(f"the year {value.year} is not meant", f"Write one of {_YEARS[0]} to {_YEARS[-1]}")
    offset = value.utcoffset()
    if offset is None:
        if zone is None:
            problem = f"{shown(str(value))} has neither a time zone nor an offset"
            raise place.error(problem, "Add timezone: Europe/Paris")
        return value.replace(tzinfo=None), zone
    own = value.tzinfo if isinstance(value.tzinfo, ZoneInfo | timezone) else timezone(offset)
    return value.astimezone(zone or own).replace(tzinfo=None), zone or own


def _parse_name(value: object, place: Place) -> str:
    name = place.expect(value, str, "a short text")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise place.error(f"{shown(name)} is too long or not one line", f"Write {_LONGEST_NAME} characters at most")
    return name
