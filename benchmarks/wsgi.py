"""What the WSGI middleware adds to one request, ours (two SLOs on the route) against OpenTelemetry's.

Over the plainest app there is, which answers with a list or with a generator, and over Flask with one route; a request
is a call, its body taken to the end, and its close. Subtracted from each: the bare app, in the same round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import ours
from .harness import Contender, Plan, Unavailable, expect, interleave
from .results import Results

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/items/42",
    "QUERY_STRING": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "127.0.0.1:8000",
    "HTTP_USER_AGENT": "benchmark",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": False,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "2")]
REQUEST = """
body = it(environ.copy(), start_response)
for chunk in body:
    pass
if hasattr(body, "close"):
    body.close()
"""
LABELS = ("", "_generator", "_flask")
NAMES = tuple(f"{name}{label}" for label in LABELS for name in ("wsgi_vs_otel_wsgi", "wsgi_added_ns"))


def plain(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answers with a list of one chunk."""
    start_response("200 OK", HEADERS)
    return [b"ok"]


def generator(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
    """Answers as a generator, which starts when the server takes its first chunk."""
    start_response("200 OK", HEADERS)
    yield b"ok"


def flask() -> App:
    """The same answer from Flask, with one route. Raises Unavailable."""
    try:
        from flask import Flask
    except ImportError as error:
        raise Unavailable(f"flask is not installed: {error}") from error
    app = Flask("benchmark", static_folder=None)
    app.add_url_rule("/items/<int:item_id>", "item", lambda item_id: "ok")
    made: App = app.wsgi_app
    return made


def otel(app: App) -> tuple[App, Callable[[], float | None]]:
    """OpenTelemetry's middleware with its real metrics and no tracer, which is its cheapest. Raises Unavailable."""
    try:
        from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.trace import NoOpTracerProvider
    except ImportError as error:
        raise Unavailable(f"opentelemetry-instrumentation-wsgi is not installed: {error}") from error
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    middleware: Any = OpenTelemetryMiddleware(app, meter_provider=provider, tracer_provider=NoOpTracerProvider())

    def counted() -> float | None:
        data: Any = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        durations = [metric for metric in metrics if metric.name.endswith(".duration")]
        return durations[0].data.data_points[0].count if durations else None

    return middleware, counted


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    _compare(plain, "", plan, results)
    _compare(generator, "_generator", plan, results)
    try:
        _compare(flask(), "_flask", plan, results)
    except Unavailable as reason:
        results.skip("wsgi_vs_otel_wsgi_flask", str(reason))
        results.skip("wsgi_added_ns_flask", str(reason))


def _compare(app: App, label: str, plan: Plan, results: Results) -> None:
    objectives = ours.slos(2)
    counted = None
    with ours.engine(objectives) as engine:
        contenders = [_contender("bare", app), _contender("ours", ours.wrapped_wsgi(app, engine))]
        try:
            peer, counted = otel(app)
            contenders.append(_contender("otel", peer))
        except Unavailable as reason:
            results.skip(f"wsgi_vs_otel_wsgi{label}", str(reason))
        samples = interleave(contenders, plan)
        counted_by_us = ours.valid(engine, objectives)
    calls = {contender.name: contender.calls for contender in contenders}
    for events in counted_by_us:
        expect("SLOMiddleware", events, calls["ours"])
    results.timing(f"wsgi_added_ns{label}", samples, "ours", "bare", "2 SLOs on the route")
    if counted is not None:
        expect("otel", counted(), calls["otel"])
        results.ratio(f"wsgi_vs_otel_wsgi{label}", samples, ("ours", "bare"), ("otel", "bare"))


def _contender(name: str, app: App) -> Contender:
    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        return _drop

    return Contender(name, REQUEST, {"it": app, "environ": ENVIRON, "start_response": start_response})


def _drop(data: bytes) -> None:
    """A server's `write` that sends nothing."""
