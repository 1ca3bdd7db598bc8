"""The only room that spells otelslo's API: engines made for measuring, in directories that are thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .harness import Unavailable

WINDOW = "30d"
WINDOW_NS = 30 * 86_400 * 10**9
BEGIN_END = "it.end(page, number, it.begin(page, number), plan)"


def slos(count: int, first: int = 0, alerts: str | None = None, **match: str) -> list[Any]:
    """`count` SLOs that all match: availability and latency by turns, under names like "availability-0"."""
    from otelslo import SLO

    made = []
    for number in range(first, first + count):
        where: dict[str, Any] = {"match": match, "alerts": alerts} if match else {"alerts": alerts}
        if number % 2 == 0:
            made.append(SLO(name=f"availability-{number}", target="99.9%", window=WINDOW, **where))
        else:
            limit = {"indicator": "latency", "threshold": f"{200 + number}ms"}
            made.append(SLO(name=f"latency-{number}", target="95%", window=WINDOW, **limit, **where))
    return made


@contextmanager
def state_dir() -> Iterator[str]:
    """A state directory that vanishes afterwards."""
    with tempfile.TemporaryDirectory(prefix="otelslo-benchmark-") as path:
        yield path


@contextmanager
def engine(objectives: list[Any], **options: Any) -> Iterator[Any]:
    """A started engine without background thread, in a state directory of its own unless one is given."""
    from otelslo import Engine

    with ExitStack() as stack:
        if "state_dir" not in options:
            options["state_dir"] = stack.enter_context(state_dir())
        made = Engine(slos=objectives, **{"runner": False, **options})
        made.start()
        try:
            yield made
        finally:
            made.close()


def valid(engine: Any, objectives: list[Any]) -> list[int]:
    """How many valid events each SLO holds in its window."""
    return [engine.count(slo.name, WINDOW_NS).valid for slo in objectives]


def has_committed(engine: Any) -> bool:
    """Whether somebody leads, and has committed for the first time."""
    return bool(engine.ring.reader.committed_seq)


def stream_slos() -> list[Any]:
    """Two SLOs on the pace of streamed calls: the first token, and every limit together."""
    from otelslo import SLO

    limits = {"ttft": "500ms", "tpot": "50ms", "inter_token": "250ms", "e2e": "30s"}
    return [
        SLO("ttft", indicator="ttft", threshold="500ms", target="95%", window=WINDOW),
        SLO("goodput", indicator="goodput", options=limits, target="95%", window=WINDOW),
    ]


def baseline_of(column: Any, kind: str) -> Any:
    """The baseline of a column."""
    from otelslo.drift.baseline import Baseline

    return Baseline.of("x", column, kind)  # type: ignore[arg-type]


def drift_slo(columns: dict[str, Any]) -> Any:
    """An objective of drift about the rows of "stream", by baselines of these columns."""
    from otelslo import SLO
    from otelslo.drift.baseline import Baseline

    kinds = {name: "numeric" if column.dtype.kind == "f" else "categorical" for name, column in columns.items()}
    given = [Baseline.of(name, column, kinds[name]) for name, column in columns.items()]  # type: ignore[arg-type]
    options = {"measure": "psi", "limit": 0.1, "baseline": given}
    return SLO("drift", indicator="drift", match={"route": "stream"}, target="90%", options=options)


def rows_of_features(engine: Any) -> int:
    """Rows that every feature of the one objective of drift has counted; -1 if they differ."""
    from otelslo.binbook import totals

    (watch,) = engine.features.watches
    found = {sum(bins) for bins in totals(engine.ring.reader, watch.sizes).values()}
    return found.pop() if len(found) == 1 else -1


def pair_of(baseline: Any, live: Any) -> Any:
    """One feature's counts."""
    from otelslo.drift.verdict import Pair

    return Pair(tuple(map(int, baseline)), tuple(map(int, live)))


def has_alarm(pairs: dict[str, Any], limit: Any, only: str | None = None) -> bool:
    """Whether any feature, or that one, has drifted by PSI."""
    from otelslo.drift.divergence import Measure
    from otelslo.drift.verdict import DRIFTED, judge

    found = judge(pairs, Measure.parse("psi"), limit)
    return any(one.state == DRIFTED for name, one in found.items() if only in (None, name))


def inference_slos(second: dict[str, Any]) -> list[Any]:
    """Two SLOs on model calls: that they return in time, and once more with other keys."""
    from otelslo import SLO

    common = {"indicator": "inference", "threshold": "500ms", "target": "99%", "window": WINDOW}
    return [SLO("calls", **common), SLO("second", **common, **second)]


def telling_batch(bare: Any, items: int) -> Any:
    """`bare`, which says how many items it answers."""
    import otelslo

    def told(x: int) -> Any:
        otelslo.current().batch(items)
        return bare(x)

    return told


def track_stream(engine: Any, make: Any) -> Any:
    """`make`, with what it makes handed over to be counted."""
    import otelslo

    return lambda tokens: otelslo.track_stream("recommender", make(tokens), engine=engine)


def gen_ai() -> list[Any]:
    """Calls of `track` counted in a server's gen_ai metrics."""
    from otelslo import GenAI

    return [GenAI("chat", "openai", model="m", match={"route": "recommender"})]


def wrapped(app: Any, engine: Any) -> Any:
    """The app behind our ASGI middleware."""
    from otelslo.asgi import SLOMiddleware

    return SLOMiddleware(app, engine=engine)


def wrapped_wsgi(app: Any, engine: Any) -> Any:
    """The app behind our WSGI middleware."""
    from otelslo.wsgi import SLOMiddleware

    return SLOMiddleware(app, engine=engine)


def track(engine: Any) -> Any:
    """A decorator and context manager for calls."""
    import otelslo

    return otelslo.track("recommender", engine=engine)


def begin_end_names(engine: Any, track: Any) -> dict[str, Any]:
    """What BEGIN_END needs: the two compiled calls that an edge makes for each request."""
    return {"it": engine.kernels, "page": engine.page, "number": track.index, "plan": track.plans["good"]}


def manual_clock() -> Any:
    """A clock that only `advance(ns=...)` moves. Raises Unavailable where the library has none."""
    try:
        from otelslo.clock import ManualClock
    except ImportError as error:
        raise Unavailable(f"no otelslo.clock.ManualClock to fill 30 days with: {error}") from error
    return ManualClock()


def report(rows: int) -> Any:
    """What the leader hands out for one SLO of so many groups, each with its ratios, and a latency histogram for every
    tenth of them; all numbers are made up."""
    import struct

    from otelslo import SLO
    from otelslo.counts import Counts
    from otelslo.report import Report
    from otelslo.rowkey import RowKey
    from otelslo.snapshot import Snapshot
    from otelslo.status import assess

    slo = SLO("checkout-availability", target="99.9%", window=WINDOW, group_by=["route"], max_groups=10_000)
    now_ns, definition = 1_700_000_000 * 10**9, slo.as_definition
    groups = [f"route=/shops/{{shop}}/orders/{number}" for number in range(rows)]
    counts = Counts(good=999_000 + rows, bad=77, excluded=5)
    decided = [assess(definition, group, lambda _: counts, {}, now_ns - WINDOW_NS, now_ns) for group in groups]
    routes = [group.removeprefix("route=") for group in groups[::10]]
    snapshot = Snapshot(
        ring_id="0" * 32,
        at_ns=now_ns,
        wall_offset_ns=0,
        row_keys=tuple(RowKey(slo.name, slo.meaning, group, slo.reason_cells).text() for group in groups),
        births_ns=(now_ns - WINDOW_NS,) * rows,
        cells=struct.pack("<16q", *range(10**6, 10**6 + 16)) * rows,
        histogram_keys=tuple(f"http {route}" for route in routes),
        buckets=struct.pack("<256q", *[10**9, 0, *[0] * 80, *range(1000, 1080), *[0] * 94]) * len(routes),
        closes=(),
        losses=(),
        config="{}",
        seq=1,
    )
    return Report(snapshot, tuple(decided), (definition,))
