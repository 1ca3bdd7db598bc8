"""One row's counts over any window, as its objective counts them: events or slices, without what was excluded since.

Everything comes from differences of the row's totals at slot boundaries, so an exclusion made after the fact takes its
events out of every window that they lie in, and a slice is counted from the very events that it had.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from otelslo.counts import Counts
from otelslo.ring.reader import Reader, Window
from otelslo.rowkey import ATTENDED, RowKey
from otelslo.slices import Slices
from otelslo.throughput import Load

CountSince = Callable[[int, int], Counts]  # row, ring time of the window's start
Span = tuple[int, int]  # ring time, start and end


class Rows(Protocol):
    """What statuses are made of: rows of a ring, live or saved. Times are ring time in ns."""

    @property
    def rows(self) -> int: ...
    def row_name(self, row: int) -> RowKey: ...
    def row_birth_ns(self, row: int) -> int: ...
    def wall_offset_ns(self) -> int: ...
    def ring_at(self, wall_ns: int) -> int: ...
    def cells(self, row: int) -> list[int]: ...
    def counts(self, row: int) -> Counts: ...
    def window(self, row: int, start_ns: int, now_ns: int) -> Window: ...


class Looks:
    """Whether any worker was attached in a past span, by the looks of whoever led: see `otelslo.attendance`."""

    def __init__(self, rows: Rows, now_ns: int) -> None:
        self._rows = rows
        self._now_ns = now_ns
        self._row = next((row for row in range(rows.rows) if rows.row_name(row).slo == ATTENDED), None)

    def nobody(self, start_ns: int, end_ns: int) -> bool:
        """Whether it is known that nobody was, from one slot's start to another's (ring time)."""
        if self._row is None or start_ns < self._rows.row_birth_ns(self._row):
            return False
        found = self._rows.window(self._row, start_ns, self._now_ns)
        if not found.whole and start_ns < found.reach_ns:
            return False
        return found.counts == self._rows.window(self._row, end_ns, self._now_ns).counts


class Tally:
    """Counts of one row up to `now_ns` (ring time).

    Args:
        slices: None where events are the unit.
        excluded: spans whose events are excluded after the fact, in order and without overlap.
        count_since: a faster count of events since a time.
        line: slices counted before, by whoever asks again and again.
        looks: at who was attached when, where the slices ask for it.
        shed_row: where it is counted what was shed, for slices that ask.
    """

    def __init__(
        self,
        rows: Rows,
        row: int,
        now_ns: int,
        slices: Slices | None = None,
        excluded: Sequence[Span] = (),
        count_since: CountSince | None = None,
        line: Line | None = None,
        looks: Looks | None = None,
        shed_row: int | None = None,
    ) -> None:
        self._looks = looks
        self._rows = rows
        self._row = row
        self._now_ns = now_ns
        self._slices = slices
        self._excluded = excluded
        self._count_since = count_since
        self._line = line
        self._shed_row = shed_row
        self._known: dict[int, Counts] = {}

    def since(self, start_ns: int) -> Window:
        """Units from `start_ns` until now, and how far back they reach."""
        window = self._rows.window(self._row, start_ns, self._now_ns)
        if self._slices is None:
            return Window(self._without(window.counts, start_ns), window.whole, window.reach_ns)
        return Window(self._sliced(start_ns), window.whole, window.reach_ns)

    def over(self, window_ns: int) -> Counts:
        """Units of the last `window_ns`; in slices, of as many closed ones as fit in, at least one."""
        found = self._known.get(window_ns)
        if found is None:
            found = self._known[window_ns] = self._over(window_ns)
        return found

    def _over(self, window_ns: int) -> Counts:
        if self._slices is None:
            start_ns = self._now_ns - window_ns
            return self._without(self._events(start_ns), start_ns)
        length_ns = self._slices.length_ns
        return self._sliced((self._now_ns // length_ns - max(1, window_ns // length_ns)) * length_ns)

    @property
    def total(self) -> Counts:
        """All events since the row's birth."""
        return self._rows.counts(self._row)

    def events(self, start_ns: int, end_ns: int) -> Counts:
        """All events between two times, in whole slots, also those excluded since."""
        return self._events(start_ns) - self._events(end_ns)

    def kept(self, start_ns: int) -> Counts:
        """All events from `start_ns` on, without those that were excluded since."""
        return self._without(self._events(start_ns), start_ns)

    def events_over(self, window_ns: int) -> Counts:
        """Events of the last `window_ns`, whatever the unit is, without those that were excluded since."""
        return self.over(window_ns) if self._slices is None else self.kept(self._now_ns - window_ns)

    def excluded_since(self, start_ns: int) -> Counts:
        """Events from `start_ns` on that were good or bad until they were excluded after the fact."""
        taken = Counts()
        for begin_ns, end_ns in self._excluded:
            if end_ns > start_ns:
                taken += self.events(max(begin_ns, start_ns), end_ns)
        return Counts(taken.good, taken.bad)

    def bad_within(self, spans: Sequence[Span], start_ns: int) -> int:
        """Bad units from `start_ns` on in these spans (in order, without overlap), without what was excluded since. A
        slice is in a span if all of it is."""
        if not spans:
            return 0
        if self._slices is not None:
            line = self._lined()
            return sum(line.bad_between(max(begin_ns, start_ns), end_ns) for begin_ns, end_ns in spans)
        left = [(max(begin_ns, start_ns), end_ns) for begin_ns, end_ns in without(spans, self._excluded)]
        return sum(self.events(begin_ns, end_ns).bad for begin_ns, end_ns in left if end_ns > begin_ns)

    def is_cut(self, start_ns: int) -> bool:
        """Whether anything from `start_ns` on is excluded after the fact, be it that no event came in it."""
        return any(end_ns > start_ns for _, end_ns in self._excluded)

    def empty_slices(self, start_ns: int) -> int:
        """Closed slices from `start_ns` on that had no valid event, whatever they count as, but for those that were
        excluded since."""
        return 0 if self._slices is None else self._lined().empty(start_ns)

    def unattended_slices(self, start_ns: int) -> int | None:
        """Closed slices from `start_ns` on in which no worker was attached either; None where nobody asks for it."""
        return None if self._slices is None or self._looks is None else self._lined().unattended(start_ns)

    def _without(self, events: Counts, start_ns: int) -> Counts:
        if not self._excluded:
            return events
        taken = self.excluded_since(start_ns)
        return Counts(events.good - taken.good, events.bad - taken.bad, events.excluded + taken.valid)

    def load(self, start_ns: int) -> Load | None:
        """The busiest closed slices from `start_ns` on, where a rate is promised."""
        if self._slices is None or self._slices.rate is None:
            return None
        return Load(self._slices.rate, self._slices.length_ns, *self._lined().busiest(start_ns))

    def _events(self, start_ns: int) -> Counts:
        if start_ns > self._now_ns:
            return Counts()
        if self._count_since is not None:
            return self._count_since(self._row, start_ns)
        return self._window(self._row, start_ns)

    def _window(self, row: int, start_ns: int) -> Counts:
        return Counts() if start_ns > self._now_ns else self._rows.window(row, start_ns, self._now_ns).counts

    # ── slices ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _sliced(self, start_ns: int) -> Counts:
        return self._lined().since(start_ns)

    def _lined(self) -> Line:
        assert self._slices is not None
        if self._line is None or not self._line.goes_on(self._slices, self._excluded):
            self._line = Line(self._slices, self._excluded)
        nobody = None if self._looks is None else self._looks.nobody
        shed_at = None if self._shed_row is None else self._shed_at
        self._line.extend(self._totals_at, self._rows.row_birth_ns(self._row), self._now_ns, shed_at, nobody)
        return self._line

    def _totals_at(self, at_ns: int) -> Counts:
        return self._totals_of(self._row, at_ns)

    def _shed_at(self, at_ns: int) -> int:
        assert self._shed_row is not None
        return self._totals_of(self._shed_row, at_ns).good

    def _totals_of(self, row: int, at_ns: int) -> Counts:
        """A row's totals at a slot's start, without what is excluded since."""
        until = self._rows.counts(row) - self._window(row, at_ns)
        taken = Counts()
        for begin_ns, end_ns in self._excluded:
            if begin_ns < at_ns:
                taken += self._window(row, begin_ns) - self._window(row, min(end_ns, at_ns))
        return Counts(until.good - taken.good, until.bad - taken.bad)


class Still:
    """A live ring that stands still: the totals of each row are read once, so that differences of windows are exact
    while events come."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._totals: dict[int, Counts] = {}

    @property
    def rows(self) -> int:
        return self._reader.rows

    def row_name(self, row: int) -> RowKey:
        return self._reader.row_name(row)

    def row_birth_ns(self, row: int) -> int:
        return self._reader.row_birth_ns(row)

    def wall_offset_ns(self) -> int:
        return self._reader.wall_offset_ns()

    def ring_at(self, wall_ns: int) -> int:
        return self._reader.ring_at(wall_ns)

    def cells(self, row: int) -> list[int]:
        return self._reader.cells(row)

    def counts(self, row: int) -> Counts:
        found = self._totals.get(row)
        if found is None:
            found = self._totals[row] = self._reader.counts(row)
        return found

    def window(self, row: int, start_ns: int, now_ns: int) -> Window:
        return self._reader.window(row, start_ns, now_ns, self.counts(row))


class Line:
    """The closed slices of one row, each counted once, as running sums: since its birth, or of the last `keep_ns`."""

    def __init__(self, slices: Slices, excluded: Sequence[Span] = (), keep_ns: int | None = None) -> None:
        self._slices = slices
        self._excluded = tuple(excluded)
        self._keep = None if keep_ns is None else -(-keep_ns // slices.length_ns) + 1
        self._first: int | None = None
        self._last = Counts()  # totals at the end of the last slice
        self._last_shed = 0
        # Good, bad, excluded, empty, unattended: before each slice.
        self._sums = [array("q", [0]) for _ in range(5)]
        self._loads = [array("q"), array("q")]  # of each slice, where a rate is promised: offered; that if it held
        self._busiest = ((0, 0), (0, 0))  # of which slices asked last, and the answer

    def goes_on(self, slices: Slices, excluded: Sequence[Span]) -> bool:
        """Whether what is counted still holds."""
        return self._slices == slices and self._excluded == tuple(excluded)

    def extend(
        self,
        totals_at: Callable[[int], Counts],
        born_ns: int,
        now_ns: int,
        shed_at: Callable[[int], int] | None = None,
        nobody: Callable[[int, int], bool] | None = None,
    ) -> None:
        """Count the slices that have closed by `now_ns`.

        Args:
            shed_at: how many events had been shed by a time.
            nobody: tells of a span whether no worker was attached.
        """
        shed_at = shed_at or _none_shed
        length_ns = self._slices.length_ns
        current = now_ns // length_ns
        if self._first is None:
            self._first = max(born_ns // length_ns, 0 if self._keep is None else current - self._keep)
            self._last = totals_at(self._first * length_ns)
            self._last_shed = shed_at(self._first * length_ns)
        self._forget_before(current)
        for number in range(self._first + len(self._sums[0]) - 1, current):
            totals, shed = totals_at((number + 1) * length_ns), shed_at((number + 1) * length_ns)
            self._append(number, totals - self._last, shed - self._last_shed, nobody)
            self._last, self._last_shed = totals, shed

    def _forget_before(self, current: int) -> None:
        """Drop what no window reaches any more, once it is as much as is kept."""
        if self._keep is None or self._first is None or len(self._sums[0]) <= 2 * self._keep:
            return
        gone = min(current - self._keep - self._first, len(self._sums[0]) - 1)
        if gone > 0:
            self._first += gone
            for sums in (*self._sums, *self._loads):
                del sums[:gone]

    def _append(self, number: int, events: Counts, shed: int, nobody: Callable[[int, int], bool] | None) -> None:
        length_ns, rate = self._slices.length_ns, self._slices.rate
        gone = events.valid == 0 and self._is_cut(number)
        is_empty = events.valid == 0 and not gone
        alone = is_empty and nobody is not None and nobody(number * length_ns, (number + 1) * length_ns)
        units = Counts(excluded=self._slices.parts) if gone else self._slices.of(events, shed, attended=not alone)
        if rate is not None:
            offered, held = self._loads
            offered.append(events.valid)
            held.append(events.valid if rate.held(events, shed) else 0)
        added = (units.good, units.bad, units.excluded, is_empty, alone)
        for sums, more in zip(self._sums, added, strict=True):
            sums.append(sums[-1] + more)

    def _is_cut(self, number: int) -> bool:
        """Whether an exclusion reaches into the slice: then that it is empty says nothing."""
        start_ns, end_ns = number * self._slices.length_ns, (number + 1) * self._slices.length_ns
        return any(begin < end_ns and end > start_ns for begin, end in self._excluded)

    def since(self, start_ns: int) -> Counts:
        """Units of the closed slices that begin at `start_ns` or later."""
        return Counts(*(self._sum(sums, start_ns) for sums in self._sums[:3]))

    def bad_between(self, start_ns: int, end_ns: int) -> int:
        """Bad units of the closed slices that lie between the two as a whole."""
        bad = self._sums[1]
        last = min(max(end_ns // self._slices.length_ns - (self._first or 0), 0), len(bad) - 1)
        return bad[last] - bad[min(self._before(start_ns), last)]

    def empty(self, start_ns: int) -> int:
        return self._sum(self._sums[3], start_ns)

    def unattended(self, start_ns: int) -> int:
        return self._sum(self._sums[4], start_ns)

    def busiest(self, start_ns: int) -> tuple[int, int]:
        """The most that was offered in a closed slice from `start_ns` on, and in one of those in which all held."""
        before, first = self._before(start_ns), self._first or 0
        asked = first + before, first + len(self._loads[0])
        if self._busiest[0] != asked:  # once a slice, and not each second
            peak, held = (max(loads[before:], default=0) for loads in self._loads)
            self._busiest = asked, (peak, held)
        return self._busiest[1]

    def _sum(self, sums: array[int], start_ns: int) -> int:
        return sums[-1] - sums[min(self._before(start_ns), len(sums) - 1)]

    def _before(self, start_ns: int) -> int:
        """How many of the slices that are kept begin before `start_ns`."""
        assert self._first is not None, "extended first"
        return max(0, -(-start_ns // self._slices.length_ns) - self._first)


def _none_shed(at_ns: int) -> int:
    return 0


def merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same spans in order, those that touch or overlap as one."""
    found: list[Span] = []
    for begin_ns, end_ns in sorted(span for span in spans if span[1] > span[0]):
        if found and begin_ns <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end_ns))
        else:
            found.append((begin_ns, end_ns))
    return tuple(found)


def without(spans: Sequence[Span], cut: Sequence[Span]) -> tuple[Span, ...]:
    """What is left of the spans where the others are cut out; both in order and without overlap."""
    found: list[Span] = []
    for begin_ns, end_ns in spans:
        for from_ns, to_ns in cut:
            if from_ns < end_ns and to_ns > begin_ns:
                found.append((begin_ns, from_ns))
                begin_ns = to_ns
        found.append((begin_ns, end_ns))
    return tuple(span for span in found if span[1] > span[0])
