"""Statuses of all objectives from one ring, in this process or from its file: definitions joined with rows.

Needs no compiler: `otelslo status` uses it as it is, the leader hands in its compiled count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from otelslo.counts import Counts
from otelslo.definition import FIRST_EXCLUDED, OTHER, OVERFLOW, UNKNOWN, Definition
from otelslo.joined import JoinedRows
from otelslo.kernels.bounds import USED_WORDS
from otelslo.latencies import observed, quantile_ns
from otelslo.notes import SNAP_NS, Marked, snapped
from otelslo.ring.reader import Reader
from otelslo.rowkey import SHED
from otelslo.slices import Slices
from otelslo.status import Status, assess
from otelslo.tally import CountSince, Line, Looks, Rows, Span, Still, Tally, merged
from otelslo.window import WEEK_NS

__all__ = ["Book", "CountSince", "Judged", "Rows", "Traffic", "excluded_spans", "statuses", "traffic"]


def _nothing() -> None:
    pass


class Book:
    """What somebody who evaluates again and again keeps in between: slices that are counted already."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str, str | None], tuple[int, Line]] = {}

    def line(
        self, definition: Definition, group: str | None, excluded: tuple[Span, ...], revision: int = 0
    ) -> Line | None:
        """`revision` is that of a dated row: closed slices of it may be revised, and then are counted anew."""
        if definition.slices is None:
            return None
        key = (definition.name, definition.meaning, group)
        known, line = self._lines.get(key, (revision, None))
        if line is None or known != revision or not line.goes_on(definition.slices, excluded):
            line = _line_of(definition, definition.slices, excluded)
            self._lines[key] = revision, line
        return line


@dataclass(frozen=True, slots=True)
class Judged:
    """One objective and group as it stands at `now_ns` (ring time), and what its counts can be asked further."""

    definition: Definition
    status: Status
    tally: Tally
    row_key: str
    now_ns: int


def statuses(
    definitions: Iterable[Definition],
    rows: Rows,
    now_ns: int,
    count_since: CountSince | None = None,
    marked: Marked = Marked(),  # noqa: B008
    book: Book | None = None,
) -> list[Status]:
    """One status per objective and group; `now_ns` is ring time. Empty overflow and unknown groups are left out."""
    return [one.status for one in judged(definitions, rows, now_ns, count_since, marked, book)]


def judged(
    definitions: Iterable[Definition],
    rows: Rows,
    now_ns: int,
    count_since: CountSince | None = None,
    marked: Marked = Marked(),  # noqa: B008
    book: Book | None = None,
    between: Callable[[], None] = _nothing,
) -> list[Judged]:
    """As `statuses`, each with its counts of any other window; `between` is called after each."""
    still: Rows = Still(rows) if isinstance(rows, Reader) else rows
    every = JoinedRows(still, marked.dated)
    by_meaning = _rows_by_meaning(every)
    definitions = list(definitions)
    asked = any(one.slices is not None and one.slices.unattended for one in definitions)
    looks = Looks(every, now_ns) if asked else None
    found = []
    for definition in definitions:
        excluded, planned = _spans(definition, rows, now_ns, marked)
        shed_row = dict(by_meaning.get((SHED, definition.meaning), ())).get(definition.name)
        for group, row in by_meaning.get((definition.name, definition.meaning), ()):
            if group in (OVERFLOW, UNKNOWN) and every.counts(row) == Counts():
                continue
            dated = every.dated_row(row)
            own = still if dated is None else every  # the way to the ring's rows stays a short one
            line = (book or Book()).line(definition, group, excluded, 0 if dated is None else dated.revision)
            # The compiled count sees each moment anew: it is for what needs no differences of windows.
            simple = definition.slices is None and not excluded and not planned and dated is None
            counter = count_since if simple else None
            its = looks if definition.slices is not None and definition.slices.unattended else None
            tally = Tally(own, row, now_ns, definition.slices, excluded, counter, line, its, shed_row)
            status = _status(definition, group, own, row, now_ns, tally, planned)
            alerts = marked.alerts.get((definition.name, group))
            if alerts or dated is not None:
                status = replace(status, alerts=tuple(alerts or ()), dated=dated is not None)
            found.append(Judged(definition, status, tally, every.row_name(row).text(), now_ns))
            between()
    return found


def _line_of(definition: Definition, slices: Slices, excluded: tuple[Span, ...]) -> Line:
    """For the longest window that is asked for: a row may be older by years."""
    return Line(slices, excluded, max(definition.window_ns, WEEK_NS))


def _status(
    definition: Definition, group: str | None, rows: Rows, row: int, now_ns: int, tally: Tally, planned: Sequence[Span]
) -> Status:
    offset, born = rows.wall_offset_ns(), rows.row_birth_ns(row)
    start_ns = now_ns - definition.window_ns
    if not definition.over.rolling:
        # The nearest boundary: the clocks may have drifted apart, and the slot that holds the start is yesterday's.
        start_ns = (rows.ring_at(definition.over.bounds(now_ns + offset)[0]) + SNAP_NS // 2) // SNAP_NS * SNAP_NS
    window = tally.since(start_ns)
    since = born if window.whole else max(born, window.reach_ns)
    return assess(
        definition,
        group,
        tally.over,
        _reasons(rows, row),
        since + offset,
        now_ns + offset,
        counts=window.counts,
        whole=window.whole,
        born_ns=born + offset,
        excluded_since=tally.excluded_since(start_ns),
        planned_bad=tally.bad_within(planned, start_ns),
        empty_slices=tally.empty_slices(start_ns),
        unattended_slices=tally.unattended_slices(start_ns),
        load=tally.load(start_ns),
    )


def _spans(
    definition: Definition, rows: Rows, now_ns: int, marked: Marked
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Ring time of what is excluded after the fact, and of planned spending, of one objective; both in whole slots, so
    that their counts are the same when they are old. An instant takes no time, so nothing is spent in it."""
    planned = [
        snapped(
            rows.ring_at(one.start_wall_ns),
            now_ns + SNAP_NS if one.end_wall_ns is None else rows.ring_at(one.end_wall_ns),
        )
        for one in marked.annotations
        if one.planned and one.slo in (None, definition.name) and one.end_wall_ns != one.start_wall_ns
    ]
    return excluded_spans(definition.name, rows, marked), merged(planned)


def excluded_spans(slo: str, rows: Rows, marked: Marked) -> tuple[Span, ...]:
    """Ring time of what is excluded after the fact of an objective, in whole slots."""
    of_it = [one for one in marked.exclusions if one.slo in (None, slo)]
    return merged([snapped(rows.ring_at(one.start_wall_ns), rows.ring_at(one.end_wall_ns)) for one in of_it])


def _reasons(rows: Rows, row: int) -> dict[str, int]:
    """Counts by reason since the row's birth; the ring keeps windows per class only."""
    found: dict[str, int] = {}
    for cell, (name, count) in enumerate(zip(rows.row_name(row).reasons, rows.cells(row), strict=True)):
        if cell and name and count:
            name = "excluded_other" if name == OTHER and cell >= FIRST_EXCLUDED else name
            found[name] = count
    return found


def _rows_by_meaning(reader: Rows) -> dict[tuple[str, str], list[tuple[str | None, int]]]:
    rows: dict[tuple[str, str], list[tuple[str | None, int]]] = {}
    for row in range(reader.rows):
        key = reader.row_name(row)
        rows.setdefault((key.slo, key.meaning), []).append((key.group, row))
    return rows


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one route or call site saw in the last `window_ns`: events, and latencies in ns."""

    kind: str
    name: str
    events: int
    window_ns: int
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None


def traffic(reader: Reader, now_ns: int, window_ns: int) -> Iterator[Traffic]:
    """Latency percentiles and traffic of every route and call site that had any, over at most two hours."""
    for histogram in range(reader.histograms):
        kind, _, name = reader.histogram_key(histogram).partition(" ")
        words = reader.histogram_since(histogram, now_ns - window_ns, now_ns)[:USED_WORDS]
        events = observed(words)
        if events:
            quantiles = (quantile_ns(words, q) for q in (0.5, 0.95, 0.99))
            yield Traffic(kind, name, events, window_ns, *quantiles)
