"""Moments as people type them and as they are shown to them: one way for all commands that take a time.

A local time that a clock shows twice or never is refused: whoever excludes an hour must mean one hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import click

from otelslo.clock import SystemClock
from otelslo.errors import BadValue, shown
from otelslo.period import Calendar
from otelslo.window import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS, parse_duration

REMEDY = 'Write "2026-12-01T22:00", the same with an offset such as +01:00, "22:00" of today, "now", or "-2h" for ago'
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moments:
    """Reads and shows times beside `now_wall_ns` (Unix ns) in a time zone; None is this host's."""

    now_wall_ns: int
    zone: ZoneInfo | None = None

    def parse(self, text: str) -> int:
        """Unix ns. BadValue for what is no time, or no certain one."""
        text = text.strip()
        if text.lower() == "now":
            return self.now_wall_ns
        if text.startswith(("-", "+")):
            ago_ns = parse_duration(text[1:])
            return self.now_wall_ns + (ago_ns if text[0] == "+" else -ago_ns)
        found = self._datetime(text)
        moment = found if found.tzinfo is not None else self._certain(found, text)
        try:
            return (moment - _EPOCH) // timedelta(microseconds=1) * MICROSECOND_NS
        except OverflowError:
            raise BadValue(f"{shown(text)} is out of range", REMEDY) from None

    def text(self, wall_ns: int) -> str:
        """To the second, with the date: "2026-12-01 22:00:00 CET"."""
        local = self._local(wall_ns, SECOND_NS)
        return f"{local.replace(tzinfo=None).isoformat(' ', 'seconds')} {local.tzname()}"

    def iso(self, wall_ns: int) -> str:
        """For machines, with the offset; milliseconds only where there are any."""
        local = self._local(wall_ns, MILLISECOND_NS)
        return local.isoformat(timespec="milliseconds" if local.microsecond else "seconds")

    def span(self, start_ns: int, end_ns: int) -> str:
        """ "2026-12-01 10:00:00 to 10:05:00 CET": the second date only where it is another."""
        start, end = self._local(start_ns, SECOND_NS), self._local(end_ns, SECOND_NS)
        if (start.date(), start.tzname()) != (end.date(), end.tzname()):
            return f"{self.text(start_ns)} to {self.text(end_ns)}"
        return f"{start.replace(tzinfo=None).isoformat(' ', 'seconds')} to {end:%H:%M:%S} {end.tzname()}"

    def _local(self, wall_ns: int, to_ns: int = MICROSECOND_NS) -> datetime:
        """Rounded: a slot begins at a full minute of ring time, from which the wall clock is some nanoseconds off."""
        wall_ns = (wall_ns + to_ns // 2) // to_ns * to_ns
        return (_EPOCH + timedelta(microseconds=wall_ns // MICROSECOND_NS)).astimezone(self.zone)

    def _datetime(self, text: str) -> datetime:
        try:
            if ":" in text[:3]:
                return datetime.combine(self._local(self.now_wall_ns).date(), time.fromisoformat(text))
            return datetime.fromisoformat(text)
        except ValueError:
            raise BadValue(f"{shown(text)} is no time", REMEDY) from None

    def _certain(self, naive: datetime, text: str) -> datetime:
        """The one instant at which the zone's clock shows this."""
        try:
            instants = [naive.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        except (OverflowError, ValueError, OSError):
            raise BadValue(f"{shown(text)} is out of range", REMEDY) from None
        shown_as = [instant.astimezone(self.zone).replace(tzinfo=None, fold=0) for instant in instants]
        if naive not in shown_as:
            raise BadValue(
                f"{shown(text)} is no time here: the clock was set forward over it", "Write it with an offset"
            )
        if instants[0] != instants[1]:
            both = " or ".join(instant.astimezone(self.zone).isoformat() for instant in instants)
            raise BadValue(f"{shown(text)} is two times here: the clock was set back", f"Write {both}")
        return instants[0]


def moments(timezone: str | None) -> Moments:
    """Beside the system's time. BadValue for an unknown zone."""
    zone = None if timezone is None else ZoneInfo(Calendar("day", timezone).timezone)
    return Moments(SystemClock().wall_ns(), zone)


@contextmanager
def of_option(name: str) -> Iterator[None]:
    """BadValue as a usage error that names the option."""
    try:
        yield
    except BadValue as refused:
        raise click.BadParameter(str(refused), param_hint=name) from None
