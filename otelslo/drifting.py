"""Windows of drift, closed by whoever leads: counts of each bin, a verdict, and one dated event for each window.

Windows have a fixed length and lie side by side, counted from Monday 1970-01-05 00:00 UTC: those of seven days begin on
Mondays, shorter ones that divide a day at midnight. A window is closed from the first commit after its end, so it also
holds what came between the two, a second as a rule. What its bins held then is where the next one begins; it is kept in
the history, and read and moved on in the transaction that counts the window, so a change of leaders or a restart loses
and doubles nothing.

Where nobody led over the ends of several windows, all that came since the first began is judged as that first one,
which says how many it spans; the others have no event, since nothing is known of them apart.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from otelslo.binbook import first_row, totals
from otelslo.dated import DatedAdd
from otelslo.drift.verdict import DRIFTED, NOT_ENOUGH_DATA, STEADY, Finding, Pair, judge
from otelslo.errors import BadValue
from otelslo.event import Event
from otelslo.exporters.sqlite_dated import add_dated
from otelslo.exporters.sqlite_drift import (
    ClosedWindow,
    OpenWindow,
    opened,
    put_baselines,
    put_closed,
    put_open,
)
from otelslo.rowkey import RowKey
from otelslo.slo import SLO
from otelslo.snapshot import Saved
from otelslo.status import iso
from otelslo.window import DAY_NS, MINUTE_NS

if TYPE_CHECKING:
    from otelslo.clock import Clock
    from otelslo.drift.baseline import Baseline
    from otelslo.exporters.sqlite import Store
    from otelslo.features import Features, Watch
    from otelslo.observing import Observing

FIRST_MONDAY_NS = 4 * DAY_NS
MOST_BINS_SHOWN = 20
_CELLS = 16


class _Engine(Protocol):
    """What is needed of an engine."""

    clock: Clock
    features: Features
    observing: Observing

    def fault(self, reason: str, detail: str) -> None: ...


def window_start(wall_ns: int, every_ns: int) -> int:
    """The start of the window that holds a moment, both in Unix ns."""
    return (wall_ns - FIRST_MONDAY_NS) // every_ns * every_ns + FIRST_MONDAY_NS


class SavedRows:
    """The rows of the last commit, with what they are called there."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._names = [RowKey.parse(text) for text in saved.row_keys]
        self._cells = memoryview(saved.cells).cast("q")
        self.rows = len(self._names)
        self.wall_ns = saved.at_ns + saved.wall_offset_ns

    def row_name(self, row: int) -> RowKey:
        return self._names[row]

    def cells(self, row: int) -> list[int]:
        return self._cells[_CELLS * row : _CELLS * (row + 1)].tolist()

    def birth_wall_ns(self, row: int) -> int:
        return self._saved.births_ns[row] + self._saved.wall_offset_ns


@dataclass(frozen=True, slots=True)
class _Known:
    """What this leader knows of one objective's open window, so that most turns need not ask the history."""

    start_wall_ns: int
    histograms: frozenset[str]
    asked_wall_ns: int


class Drifting:
    """What one leader does for the objectives of drift."""

    def __init__(self, engine: _Engine, store: Store) -> None:
        self._engine = engine
        self._store = store
        self._known: dict[tuple[str, str], _Known] = {}

    def tend(self, wall_ns: int) -> None:
        """Close the windows that have ended by `wall_ns` (Unix ns), if a commit has come since. Never raises."""
        watches = self._engine.features.watches
        try:
            due = [watch for watch in watches if watch.baselines and self._is_due(watch, wall_ns)]
            saved = self._store.load() if due else None
        except Exception as e:
            self._fault("windows of drift are not closed", e)
            return
        if saved is not None:
            rows = SavedRows(saved)
            for watch in due:
                try:
                    self._turn(watch, rows)
                except Exception as e:
                    self._fault(f"{watch.slo.name}: its window is not closed", e)

    def _fault(self, what: str, error: Exception) -> None:
        self._engine.fault("internal", f"{what}: {type(error).__name__}: {error}")

    def _is_due(self, watch: Watch, wall_ns: int) -> bool:
        known = self._known.get((watch.slo.name, watch.slo.meaning))
        return (
            known is None
            or known.start_wall_ns < window_start(wall_ns, watch.slo.option("every"))
            or known.histograms != watch.sizes.keys()
            or not known.asked_wall_ns <= wall_ns < known.asked_wall_ns + MINUTE_NS  # somebody may have replaced it
        )

    def _turn(self, watch: Watch, rows: SavedRows) -> None:
        objective = _objective(watch.slo)
        first = (watch.slo.name, watch.slo.meaning) not in self._known
        now = _now(watch, rows)
        with self._store.writing(rows.wall_ns) as connection:
            if first:
                _keep_baselines(connection, watch, rows.wall_ns)
            before = opened(connection, objective)
            closed: list[ClosedWindow] = []
            if before is not None and before.start_wall_ns < now.start_wall_ns:
                closed = _close(connection, watch, rows, before, now, self._engine.fault)
            if before is None or closed:
                put_open(connection, objective, now if closed else _begun(watch, rows, now))
            elif before.start_wall_ns == now.start_wall_ns and set(before.totals) != set(now.totals):
                put_open(connection, objective, _begun(watch, rows, now, before))
        start_ns = max(now.start_wall_ns, before.start_wall_ns if before else 0)
        known = _Known(start_ns, frozenset(now.totals), rows.wall_ns)
        self._known[watch.slo.name, watch.slo.meaning] = known
        if closed or first:
            self._tell(watch, closed)

    def _tell(self, watch: Watch, closed: list[ClosedWindow]) -> None:
        """Tell limits the last window's value; once more where whoever closed it may not have come to do so."""
        told: list[str] = watch.slo.option("tells")
        if not told:
            return
        last = closed or self._store.drift.windows(watch.slo.name)
        value = limit_value(last)
        known = {} if closed else self._store.limits.observations()
        for name in told:
            seen = known.get(name)
            if value is not None and (seen is None or seen.at_wall_ns < last[0].read_wall_ns):
                try:
                    self._engine.observing.tell(name, value)
                except BadValue as e:  # a limit of durations
                    self._engine.fault("user_code", f"{watch.slo.name}: {e}")


def limit_value(windows: list[ClosedWindow]) -> float | None:
    """What a limit is told of a window: the largest corrected divergence of those beyond chance, 0 if none is; None
    where there were too few rows to tell, unless a feature has plainly drifted."""
    values, unknown = [0.0], False
    for one in windows:
        p_value, level, corrected = (one.data.get(key) for key in ("p_value", "level", "corrected"))
        unknown = unknown or one.state == NOT_ENOUGH_DATA
        if p_value is not None and level is not None and corrected is not None and p_value <= level:
            values.append(corrected)
    drifted = any(one.state == DRIFTED for one in windows)
    return None if not windows or (unknown and not drifted) else max(values)


def _objective(slo: SLO) -> str:
    return f"{slo.name} {slo.meaning}"


def _now(watch: Watch, rows: SavedRows) -> OpenWindow:
    """The window of the last commit, with what the bins held then."""
    start_ns = window_start(rows.wall_ns, watch.slo.option("every"))
    return OpenWindow(start_ns, rows.wall_ns, totals(rows, watch.sizes))


def _begun(watch: Watch, rows: SavedRows, now: OpenWindow, before: OpenWindow | None = None) -> OpenWindow:
    """The window of today, where it was not begun at its start for all histograms: one that is older than the window
    counts from now, one that is younger from 0."""
    held = {} if before is None else before.totals
    begun = {name: held.get(name) or _base(rows, name, bins, now) for name, bins in now.totals.items()}
    read_ns = now.read_wall_ns if before is None else before.read_wall_ns
    young = all(not any(base) for base in begun.values())
    return OpenWindow(now.start_wall_ns, now.start_wall_ns if young else read_ns, begun)


def _base(rows: SavedRows, name: str, bins: tuple[int, ...], window: OpenWindow) -> tuple[int, ...]:
    row = first_row(rows, name)
    is_younger = row is None or rows.birth_wall_ns(row) >= window.start_wall_ns
    return (0,) * len(bins) if is_younger else bins


def _close(
    connection: sqlite3.Connection,
    watch: Watch,
    rows: SavedRows,
    before: OpenWindow,
    now: OpenWindow,
    fault: Callable[[str, str], None],
) -> list[ClosedWindow]:
    """Judge the window `before`, count it, keep what was found."""
    slo, every_ns = watch.slo, watch.slo.option("every")
    names = watch.histograms
    pairs = {}
    for feature, baseline in watch.baselines.items():
        held = now.totals[names[feature]]
        base = before.totals.get(names[feature]) or _base(rows, names[feature], held, before)
        pairs[feature] = Pair(baseline.counts, _between(base, held))
    found = judge(pairs, slo.option("measure"), slo.option("limit"))
    end_ns = before.start_wall_ns + every_ns
    spans = (now.start_wall_ns - before.start_wall_ns) // every_ns
    make = partial(_closed_window, watch, before, end_ns, now.read_wall_ns, spans)
    closed = [make(feature, one, pairs[feature]) for feature, one in found.items()]
    add_dated(connection, _events(watch, found, end_ns - 1, fault), rows.wall_ns)
    put_closed(connection, _objective(slo), closed)
    return closed


def _between(base: tuple[int, ...], held: tuple[int, ...]) -> tuple[int, ...]:
    """What came between two readings. Bins that hold less than before are those of a new ring, which began at 0."""
    if any(a < b for a, b in zip(held, base, strict=True)):
        return held
    return tuple(a - b for a, b in zip(held, base, strict=True))


def _events(
    watch: Watch, found: Mapping[str, Finding], at_wall_ns: int, fault: Callable[[str, str], None]
) -> Iterator[DatedAdd]:
    """One for the window, or one for each feature where the objective is grouped by it."""
    slo = watch.slo
    if "feature" in slo.group_keys:
        said = [({"feature": feature}, one.state) for feature, one in found.items()]
    else:
        states = {one.state for one in found.values()}
        said = [({}, next(state for state in (DRIFTED, NOT_ENOUGH_DATA, STEADY) if state in states))]
    for attributes, state in said:
        event = Event(slo.kind, route=watch.stream, attributes=attributes, finding=state)
        try:
            judgement = slo.in_maintenance(event) if slo.planned.active(at_wall_ns) else slo.judge(event)
        except Exception as e:
            fault("user_code", f"{slo.name}: {type(e).__name__}: {e}; judged without it")
            judgement = slo.by_indicator(event)
        if judgement is not None:
            key = RowKey(slo.name, slo.meaning, slo.group_of(event), slo.reason_cells)
            yield DatedAdd(key.text(), at_wall_ns, slo.cell(judgement.outcome(None)), 1)


def _closed_window(
    watch: Watch, before: OpenWindow, end_ns: int, read_ns: int, spans: int, feature: str, found: Finding, pair: Pair
) -> ClosedWindow:
    slo, baseline = watch.slo, watch.baselines[feature]
    data: dict[str, Any] = asdict(found) | {
        "limit": float(found.limit),
        "corrected": found.corrected,
        "measure": str(slo.option("measure")),
        "spans": spans,
        "top_bins": _top_bins(baseline, pair),
        "from": iso(before.read_wall_ns),
        "read": iso(read_ns),
    }
    return ClosedWindow(
        *(slo.name, watch.stream, feature, before.start_wall_ns, end_ns, before.read_wall_ns, read_ns),
        state=found.state,
        data=data,
    )


def _top_bins(baseline: Baseline, pair: Pair) -> list[dict[str, Any]]:
    """The bins whose shares differ most, the largest difference first."""
    rows, live_rows = max(sum(pair.baseline), 1), max(sum(pair.live), 1)
    named: list[dict[str, Any]] = [
        {"bin": name, "baseline": e, "live": a, "difference": a / live_rows - e / rows}
        for name, e, a in zip(baseline.bins.names, pair.baseline, pair.live, strict=True)
        if e or a
    ]
    return sorted(named, key=lambda one: -abs(one["difference"]))[:MOST_BINS_SHOWN]


def _keep_baselines(connection: sqlite3.Connection, watch: Watch, wall_ns: int) -> None:
    """Those of a file or given, beside what they judge; a live one is there already."""
    if watch.live is None:
        plain = {feature: one.plain() for feature, one in watch.baselines.items()}
        put_baselines(connection, watch.stream, f"{watch.source} {watch.slo.name}", plain, wall_ns)
