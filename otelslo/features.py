"""What models are fed, counted into bins as it passes: the edge of drift, and which objectives ask for it.

A stream of rows is what `match: {route: ...}` of its objectives names. Its features have the bins of their baselines,
and each bin is a cell in the ring, so that all workers of the host count together. Here values are only counted;
windows are closed and judged by whoever leads (`otelslo.drifting`). numpy is loaded once there is such an objective.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from otelslo.errors import Place, nearest, shown
from otelslo.slo import SLO

if TYPE_CHECKING:
    from otelslo.binbook import BinBook
    from otelslo.clock import Clock
    from otelslo.drift.baseline import Baseline
    from otelslo.drift.bins import Bins
    from otelslo.drift.rows import Table
    from otelslo.drift.source import Source
    from otelslo.exporters.sqlite import Store
    from otelslo.kernels.ring import Kernels
    from otelslo.live_baseline import Kept, LiveBaseline
    from otelslo.ring.live import Ring

log = logging.getLogger("otelslo")

INDICATOR = "drift"


class _Runner(Protocol):
    @property
    def store(self) -> Store: ...


class _Engine(Protocol):
    """What is needed of an engine."""

    clock: Clock
    page: int
    ring: Ring
    kernels: Kernels

    @property
    def runner(self) -> _Runner: ...
    @property
    def running(self) -> bool: ...
    def start(self) -> object: ...
    def attach(self) -> bool: ...
    def fault(self, reason: str, detail: str) -> None: ...


class Watch:
    """One objective of drift: its stream, the baselines of its features, and what their histograms are called.

    There are none while a live one is gathered, which is `settled` once it is made, or cannot be.
    """

    def __init__(self, slo: SLO, stream: str, live: LiveBaseline | None = None) -> None:
        self.slo, self.stream, self.live = slo, stream, live
        self.settled = live is None
        self.baselines: Mapping[str, Baseline] = {}
        self.histograms: Mapping[str, str] = {}
        self.sizes: Mapping[str, int] = {}

    def judge_by(self, baselines: Mapping[str, Baseline]) -> Watch:
        """Have these baselines, by feature. A histogram's name says its bins, so that others are never added to it."""
        from otelslo.drift.kept import digest_of

        names = {feature: f"{self.stream}/{feature}/{digest_of(one.bins)}" for feature, one in baselines.items()}
        self.sizes = {names[feature]: one.bins.size for feature, one in baselines.items()}
        self.histograms, self.baselines, self.settled = names, baselines, True
        return self

    @property
    def source(self) -> str:
        """What its baselines are kept under in the history."""
        return str(self.slo.option("baseline")) if self.live is None else self.live.key


class Features:
    """The streams of one engine."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self.watches: tuple[Watch, ...] = ()
        self._streams: dict[str, _Stream] = {}
        self._said: set[str] = set()
        self._tried = False

    # ── what requests use ──────────────────────────────────────────────────────────────────────────────────────────
    def observe(self, stream: str, rows: Any, names: Sequence[str] | None = None) -> None:
        """Count rows that a model of `stream` is fed. Never raises: rows that cannot be read are a fault, said once.

        A value outside of a feature's bins, one that is missing or no number, and a feature that is not there at all
        have bins of their own. Features that no objective asks for are passed over.

        Args:
            rows: one row or many: {feature: value}, {feature: column}, a list of such rows, a structured array, an
                array (rows, features) with `names`, a data frame.
            names: the features of the columns of an array, in order.
        """
        try:
            if not self._engine.running:
                self._start()
            found = self._streams.get(stream)
            if found is None:
                self._say_unknown(stream)
            else:
                found.observe(rows, names)
        except Exception as e:
            self._engine.fault("user_code", f"rows of {shown(stream)} were not counted: {type(e).__name__}: {e}")

    def _start(self) -> None:
        """Once: an engine that cannot be started is not tried in each request."""
        if not self._tried:
            self._tried = True
            self._engine.start()
            self._tried = False

    def _say_unknown(self, stream: object) -> None:
        key = str(stream)
        if key not in self._said and len(self._said) < 100:
            self._said.add(key)
            known = sorted(self._streams)
            remedy = nearest(key, known) if known else "There is none"
            log.warning("observe_features: no objective of drift is about %s. %s", shown(stream), remedy)

    # ── when objectives come or change ─────────────────────────────────────────────────────────────────────────────
    def resolve(self, slos: Iterable[SLO]) -> None:
        """Read the baselines of these objectives. DefinitionError if one cannot be had; then nothing has changed."""
        found = [watch_of(slo) for slo in slos if slo.indicator == INDICATOR]
        lives = {(one.stream, one.live.key): one.live for one in (*found, *self.watches) if one.live is not None}
        for watch in found:  # what is gathered is gathered once, and goes on over a reload
            if watch.live is not None:
                watch.live = lives[watch.stream, watch.live.key]
        self.watches = tuple(found)

    def bind(self) -> None:
        """Have rows for all bins in the engine's ring; off the request path. Never raises."""
        self._settle()
        try:
            self._streams = {name: self._stream(name) for name in {watch.stream for watch in self.watches}}
        except Exception as e:
            self._engine.fault("capacity", f"features are not counted: {type(e).__name__}: {e}")

    def _stream(self, name: str) -> _Stream:
        from otelslo.binbook import BinBook

        watches = [watch for watch in self.watches if watch.stream == name]
        found: dict[str, tuple[str, Bins]] = {}
        for watch in watches:
            for feature, histogram in watch.histograms.items():
                found[histogram] = feature, watch.baselines[feature].bins
        book = BinBook(self._engine, {histogram: bins.size for histogram, (_, bins) in found.items()})
        waiting = dict.fromkeys(watch.live for watch in watches if watch.live is not None and not watch.settled)
        return _Stream(book, list(found.values()), list(waiting))

    def wants(self, histogram: str) -> bool:
        """Whether a histogram of the ring is still counted into, as far as is known before the ring is open."""
        return any(
            histogram in watch.sizes or (watch.live is not None and histogram.startswith(f"{watch.stream}/"))
            for watch in self.watches
        )

    # ── off the request path ───────────────────────────────────────────────────────────────────────────────────────
    def tend(self) -> None:
        """Write down what is gathered for live baselines, and take over those that are made. Never raises."""
        if self._settle():
            self.bind()

    def _settle(self) -> bool:
        """Whether a live baseline was made since."""
        made: dict[LiveBaseline, Kept | None] = {}
        waiting = [watch for watch in self.watches if not watch.settled]
        for watch in waiting:
            try:
                assert watch.live is not None
                if watch.live not in made:
                    made[watch.live] = watch.live.turn(self._engine.runner.store, self._engine.clock.wall_ns())
                self._take(watch, made[watch.live])
            except Exception as e:
                detail = f"{watch.slo.name}: its live baseline is not written: {type(e).__name__}: {e}"
                self._engine.fault("internal", detail)
        return any(watch.settled for watch in waiting)

    def _take(self, watch: Watch, kept: Kept | None) -> None:
        from otelslo.drift.baseline import Baseline

        if kept is None:
            return
        for one in kept.values():
            if "error" in one:
                self._engine.fault("user_code", f"{watch.slo.name}: left out, {one['error']}")
        watch.judge_by({feature: Baseline.parse(one) for feature, one in kept.items() if "error" not in one})


class _Stream:
    """One stream as one process counts it."""

    def __init__(self, book: BinBook, parts: list[tuple[str, Bins]], waiting: list[LiveBaseline]) -> None:
        self._book = book
        self._parts: list[tuple[str, Bins, int]] = []
        start = 0
        for feature, bins in parts:
            self._parts.append((feature, bins, start))
            start += bins.size
        self._waiting = waiting
        self._features = {feature for feature, _ in parts} | {one for live in waiting for one in live.kinds}

    def observe(self, rows: Any, names: Sequence[str] | None) -> None:
        from otelslo.drift.rows import row_of, table_of

        row = None if self._waiting else row_of(rows)
        if row is not None:
            self._book.add_one([start + bins.bin_of(row.get(feature)) for feature, bins, start in self._parts])
            return
        table = table_of(rows, self._features, names)
        for live in self._waiting:
            live.offer(table)
        if table.rows:
            self._count(table)

    def _count(self, table: Table) -> None:
        import numpy as np

        counts = np.zeros(self._book.size, dtype=np.int64)
        for feature, bins, start in self._parts:
            column = table.columns.get(feature)
            if column is None:
                counts[start + bins.size - 1] = table.rows
            else:
                counts[start : start + bins.size] = bins.count(column)
        self._book.add(counts)


def watch_of(slo: SLO) -> Watch:
    """The watch of an objective of drift, its baselines read. DefinitionError if they cannot be had."""
    place = Place(f"SLO {slo.name!r}")
    source: Source = slo.option("baseline")
    wanted: Mapping[str, str | None] | None = slo.option("features")
    stream = (slo.as_definition.match or {})["route"][0]
    if source.live_rows is not None:
        from otelslo.live_baseline import LiveBaseline

        assert wanted is not None
        return Watch(slo, stream, LiveBaseline(stream, source.live_rows, wanted))
    if source.path is not None:
        from otelslo.drift.kept import read_baselines

        known = read_baselines(source.path)
    else:
        known = {one.feature: one for one in source.given}
    for name in wanted or ():
        if name not in known:
            raise place.at("features").error(f"the baseline has no feature {shown(name)}", nearest(name, known))
    return Watch(slo, stream).judge_by({name: known[name] for name in (wanted or known)})
