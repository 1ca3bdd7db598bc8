"""One event recorded: ours against OTel's histogram and Prometheus's, each with three labels or the like.

Subtracted from each: an empty loop. The call itself is part of recording.
OTel gets one ready dict of attributes for all calls; Prometheus looks its child up by labels each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import ours
from .harness import Contender, Plan, Unavailable, expect, interleave
from .results import Results

NAMES = ("record_ns", "begin_end_ns", "record_vs_otel_histogram", "record_vs_prometheus_observe")
LABELS = {"method": "GET", "route": "/items/{item_id}", "status": "200"}


def otel_histogram() -> tuple[Contender, Callable[[], float | None]]:
    """OTel SDK: explicit histogram, in-memory reader, three attributes. Returns it and how many it counted."""
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    except ImportError as error:
        raise Unavailable(f"opentelemetry-sdk is not installed: {error}") from error
    reader = InMemoryMetricReader()
    histogram = MeterProvider([reader]).get_meter("benchmarks").create_histogram("request.duration", unit="s")

    def counted() -> float | None:
        data: Any = reader.get_metrics_data()
        return data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].count  # type: ignore[no-any-return]

    names = {"it": histogram, "attributes": LABELS}
    return Contender("otel", "it.record(0.012, attributes)", names), counted


def prometheus_histogram() -> tuple[Contender, Callable[[], float | None]]:
    """prometheus_client: a histogram with three labels. Returns it and how many it counted."""
    try:
        from prometheus_client import CollectorRegistry, Histogram
    except ImportError as error:
        raise Unavailable(f"prometheus_client is not installed: {error}") from error
    registry = CollectorRegistry()
    histogram = Histogram("request_seconds", "Duration.", list(LABELS), registry=registry)
    statement = "it.labels('GET', '/items/{item_id}', '200').observe(0.012)"
    return Contender("prometheus", statement, {"it": histogram}), lambda: registry.get_sample_value(
        "request_seconds_count", LABELS
    )


PEERS = {"record_vs_otel_histogram": otel_histogram, "record_vs_prometheus_observe": prometheus_histogram}


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    objectives = ours.slos(2, kind="call")
    with ours.engine(objectives) as engine:
        track = engine.track("recommender")
        mine = Contender("ours", "it.record(track, 'good', 12_000_000)", {"it": engine, "track": track})
        peers = _available(results)
        contenders = [mine, *(peer for peer, _ in peers.values())]
        samples = interleave([*contenders, Contender("loop", "pass", {})], plan)
        for counted in ours.valid(engine, objectives):
            expect("engine.record", counted, mine.calls)
        results.timing("record_ns", samples, "ours", "loop", "2 SLOs, clock reading included")
        for name, (peer, counted_by_peer) in peers.items():
            expect(peer.name, counted_by_peer(), peer.calls)
            results.ratio(name, samples, ("ours", "loop"), (peer.name, "loop"))
        _begin_end(engine, track, plan, results)


def _available(results: Results) -> dict[str, tuple[Contender, Callable[[], float | None]]]:
    peers = {}
    for name, make in PEERS.items():
        try:
            peers[name] = make()
        except Unavailable as reason:
            results.skip(name, str(reason))
    return peers


def _begin_end(engine: Any, track: Any, plan: Plan, results: Results) -> None:
    pair = Contender("pair", ours.BEGIN_END, ours.begin_end_names(engine, track))
    samples = interleave([pair, Contender("loop", "pass", {})], plan)
    results.timing("begin_end_ns", samples, "pair", "loop", "begin and end of one event, both clock readings")
