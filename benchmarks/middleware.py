"""What a middleware adds to one request, ours (two SLOs on the route) against the peers.

Over Starlette with one route and one item. `_distinct`: the same with 20,000 different items by turns, more than our
edge remembers. `_plain`: over the plainest app there is, with each peer at its cheapest. Subtracted from each: the bare
app, driven by the same statement in the same round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from . import ours
from .asgi_apps import REQUEST, REQUEST_DISTINCT, App, TimingWrapper, plain, request_names, starlette
from .harness import Contender, Plan, Unavailable, expect, interleave
from .results import Results

Counted = Callable[[], float | None]
Peer = Callable[[App, str], tuple[App, Counted | None]]


def otel_metrics_only(app: App, label: str) -> tuple[App, Counted]:
    """OTel's, its real metrics and no tracer; without the spans per message, which no metric needs."""
    return _otel(app, exclude_spans=["receive", "send"])


def otel_defaults(app: App, label: str) -> tuple[App, Counted]:
    """OTel's as its documentation installs it: the same metrics, and a no-op span for each message."""
    return _otel(app, exclude_spans=None)


def _otel(app: App, exclude_spans: list[Literal["receive", "send"]] | None) -> tuple[App, Counted]:
    try:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.trace import NoOpTracerProvider
    except ImportError as error:
        raise Unavailable(f"opentelemetry-instrumentation-asgi is not installed: {error}") from error
    reader = InMemoryMetricReader()
    middleware = OpenTelemetryMiddleware(
        app,
        meter_provider=MeterProvider([reader]),
        tracer_provider=NoOpTracerProvider(),
        exclude_spans=exclude_spans,
    )

    def counted() -> float | None:
        data: Any = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        durations = [metric for metric in metrics if metric.name.endswith(".duration")]
        return durations[0].data.data_points[0].count if durations else None

    return middleware, counted


def exporter(app: App, label: str) -> tuple[App, Counted]:
    """starlette_exporter; over the plain app it must be told to record without a router, which is its cheapest way."""
    try:
        from prometheus_client import REGISTRY
        from starlette_exporter import PrometheusMiddleware
    except ImportError as error:
        raise Unavailable(f"starlette_exporter is not installed: {error}") from error
    prefix = f"benchmark{label}"
    by_route = label != "_plain"

    def counted() -> float | None:
        path = "/items/{item_id}" if by_route else "/items/42"
        labels = {"method": "GET", "path": path, "status_code": "200", "app_name": "starlette"}
        return REGISTRY.get_sample_value(f"{prefix}_requests_total", labels)

    middleware = PrometheusMiddleware(app, prefix=prefix, filter_unhandled_paths=by_route, group_paths=by_route)
    return middleware, counted


def timing_wrapper(app: App, label: str) -> tuple[App, None]:
    """The least that a timing middleware does; it keeps nothing, so it has nothing to count."""
    return TimingWrapper(app), None


PEERS: dict[str, Peer] = {
    "middleware_vs_otel_asgi": otel_metrics_only,
    "middleware_vs_otel_asgi_defaults": otel_defaults,
    "middleware_vs_starlette_exporter": exporter,
    "middleware_vs_bare_wrapper": timing_wrapper,
}
LABELS = ("", "_distinct", "_plain")
NAMES = tuple(f"{name}{label}" for label in LABELS for name in (*PEERS, "middleware_added_ns"))


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    _compare(starlette(), "", plan, results)
    _compare(starlette(), "_distinct", plan, results)
    _compare(plain, "_plain", plan, results)


def _compare(app: App, label: str, plan: Plan, results: Results) -> None:
    objectives = ours.slos(2)
    counters: dict[str, Counted] = {}
    with ours.engine(objectives) as engine:
        contenders = [_contender("bare", app, label), _contender("ours", ours.wrapped(app, engine), label)]
        for name, make in PEERS.items():
            try:
                peer, counted = make(app, label)
            except Unavailable as reason:
                results.skip(name + label, str(reason))
                continue
            contenders.append(_contender(name, peer, label))
            if counted is not None:
                counters[name] = counted
        samples = interleave(contenders, plan)
        counted_by_us = ours.valid(engine, objectives)
    calls = {contender.name: contender.calls for contender in contenders}
    for events in counted_by_us:
        expect("SLOMiddleware", events, calls["ours"])
    for name, count in counters.items():
        expect(name, count(), calls[name])
    results.timing(f"middleware_added_ns{label}", samples, "ours", "bare", "2 SLOs on the route")
    for name in PEERS:
        if name in samples:
            results.ratio(name + label, samples, ("ours", "bare"), (name, "bare"))


def _contender(name: str, app: App, label: str) -> Contender:
    statement = REQUEST_DISTINCT if label == "_distinct" else REQUEST
    return Contender(name, statement, request_names(app))
