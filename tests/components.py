"""Real components for the tests: finds their binaries, runs them, and reads back exactly what arrived.

An OpenTelemetry Collector and VictoriaMetrics, as `.ci/collector` makes them. The Collector sends on to a receiver in
the test's own process, which decodes every point and keeps the books of every series.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric

_CACHE = Path("~/.cache/otelslo-components")
_START_S = 30.0
_STOP_S = 20.0
_LOOK_S = 0.02
_pause = threading.Event()

Attributes = frozenset[tuple[str, str]]


def component(name: str) -> Path:
    """The binary of that name: in $OTELSLO_COMPONENTS, in the cache, on PATH; otherwise the test is skipped."""
    for directory in (os.environ.get("OTELSLO_COMPONENTS"), _CACHE.expanduser()):
        found = shutil.which(name, path=directory) if directory else None
        if found is not None:
            return Path(found)
    on_path = shutil.which(name)
    if on_path is None:
        pytest.skip(f"{name} is not here: .ci/collector makes it (into $OTELSLO_COMPONENTS, or {_CACHE})")
    return Path(on_path)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────────
class Component:
    """A server as a process, which can be ended and started again on its port; a context manager that ends it."""

    def __init__(self, name: str, arguments: Sequence[str], port: int, directory: Path) -> None:
        self._command = [os.fspath(component(name)), *arguments]
        self.port = port
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until its port answers."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.log.parent)
        give_up_at = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.kill()
                raise AssertionError(f"{self._command} does not answer\n{self.said()}")
            _pause.wait(_LOOK_S)

    def stop(self) -> None:
        """SIGTERM: it sends on what it has."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: what it has taken and not sent on is lost."""
        self._end(signal.SIGKILL)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(_STOP_S)
            finally:
                process.kill()
                process.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=_START_S).close()
        except OSError:
            return False
        return True


class Collector(Component):
    """An OpenTelemetry Collector that takes OTLP/HTTP at `endpoint` and sends all metrics on.

    One consumer for each destination, so that nothing overtakes on the way; otherwise as it comes.

    Args:
        directory: for its configuration and log.
        destinations: whole URLs that take OTLP/HTTP metrics.
    """

    def __init__(self, directory: Path, *destinations: str) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        config = directory / "otelcol.json"
        config.write_text(json.dumps(_collector_config(port, destinations)))
        super().__init__("otelcol", ["--config", os.fspath(config)], port, directory)


def _collector_config(port: int, destinations: Sequence[str]) -> dict[str, object]:
    exporters = {
        f"otlphttp/{number}": {"metrics_endpoint": url, "sending_queue": {"num_consumers": 1}}
        for number, url in enumerate(destinations)
    }
    pipeline = {"receivers": ["otlp"], "processors": ["memory_limiter", "batch"], "exporters": list(exporters)}
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_mib": 256},
            "batch": {"timeout": "100ms"},
        },
        "exporters": exporters,
        "service": {
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            "pipelines": {"metrics": pipeline},
        },
    }


class VictoriaMetrics(Component):
    """A VictoriaMetrics that takes OTLP at `metrics_url` and answers PromQL."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.metrics_url = f"http://127.0.0.1:{port}/opentelemetry/v1/metrics"
        arguments = [
            f"-storageDataPath={directory / 'victoria-metrics'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-opentelemetry.usePrometheusNaming",
            "-search.latencyOffset=0s",  # otherwise it shows nothing of the last 30 s
        ]
        super().__init__("victoria-metrics", arguments, port, directory)

    def query(self, promql: str) -> list[tuple[dict[str, str], Fraction]]:
        """An instant query over all that has arrived: labels and value of each series."""
        self._get("/internal/force_flush")
        answer = json.loads(self._get(f"/api/v1/query?{urlencode({'query': promql, 'nocache': 1})}"))
        return [(found["metric"], Fraction(found["value"][1])) for found in answer["data"]["result"]]

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, f"{path}: {answer.status} {body!r}"
            return body
        finally:
            connection.close()


# ── the receiver at the end of the way ─────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Point:
    """One point as it arrived; of a histogram `value` is its count. `start_ns` and `time_ns` are Unix time.

    `bounds`, `buckets` and `sum` are those of a histogram of explicit bounds.
    """

    instance: str
    name: str
    attributes: Attributes
    kind: str
    start_ns: int
    time_ns: int
    value: int | float
    unit: str = ""
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    sum: float = 0

    @property
    def key(self) -> tuple[str, str, Attributes]:
        return self.instance, self.name, self.attributes


class Books:
    """Every point in the order of its arrival. `findings` tells of each that contradicts one before it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: list[Point] = []
        self._newest: dict[tuple[str, str, Attributes], Point] = {}
        self.findings: list[str] = []

    def add(self, points: Sequence[Point]) -> None:
        with self._lock:
            for point in points:
                before = self._newest.get(point.key)
                if before is not None:
                    self.findings += _contradictions(before, point)
                self._newest[point.key] = point
                self._points.append(point)

    def points(self, name: str | None = None, instance: str | None = None, since: int = 0) -> list[Point]:
        """Those of a metric, or of an instance, or all; without the first `since` of all."""
        with self._lock:
            found = self._points[since:]
        return [p for p in found if name in (None, p.name) and instance in (None, p.instance)]

    def newest(self, name: str, instance: str) -> dict[Attributes, int | float]:
        """The newest value of each series of the metric."""
        with self._lock:
            found = list(self._newest.values())
        return {p.attributes: p.value for p in found if (p.name, p.instance) == (name, instance)}

    def first(self, name: str, instance: str) -> dict[Attributes, int | float]:
        """The first value of each series of the metric."""
        found: dict[Attributes, int | float] = {}
        for point in self.points(name, instance):
            found.setdefault(point.attributes, point.value)
        return found

    def instances(self) -> list[str]:
        """Each `service.instance.id`, in the order of arrival."""
        return list(dict.fromkeys(point.instance for point in self.points()))

    def __len__(self) -> int:
        with self._lock:
            return len(self._points)


def _contradictions(before: Point, after: Point) -> Iterator[str]:
    what = f"{after.name} {sorted(after.attributes)} of {after.instance}"
    if after.time_ns < before.time_ns:
        yield f"{what}: time went back by {before.time_ns - after.time_ns} ns"
    if after.kind != before.kind:
        yield f"{what}: was a {before.kind}, is a {after.kind}"
    if after.kind != "gauge":
        if after.value < before.value:
            yield f"{what}: went back from {before.value} to {after.value}"
        if after.start_ns != before.start_ns:
            yield f"{what}: began at {before.start_ns}, then at {after.start_ns}"


def _points_of(request: ExportMetricsServiceRequest) -> Iterator[Point]:
    for resource in request.resource_metrics:
        instance = dict(_attributes(resource.resource.attributes)).get("service.instance.id", "")
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from _points_of_metric(instance, metric)


def _points_of_metric(instance: str, metric: Metric) -> Iterator[Point]:
    kind: str = metric.WhichOneof("data") or "gauge"
    data = getattr(metric, kind)
    if kind != "gauge":
        assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE, metric.name
    if kind == "sum" and not data.is_monotonic:
        kind = "gauge"
    for point in data.data_points:
        value = point.count if "histogram" in kind else getattr(point, point.WhichOneof("value"))
        attributes = frozenset(_attributes(point.attributes))
        more = (point.explicit_bounds, point.bucket_counts, point.sum) if kind == "histogram" else ((), (), 0)
        yield Point(
            *(instance, metric.name, attributes, kind, point.start_time_unix_nano, point.time_unix_nano, value),
            *(metric.unit, tuple(more[0]), tuple(more[1]), more[2]),
        )


def _attributes(pairs: Sequence[KeyValue]) -> list[tuple[str, str]]:
    return [(pair.key, _text(pair.value)) for pair in pairs]


def _text(value: AnyValue) -> str:
    return str(getattr(value, value.WhichOneof("value") or "string_value"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # the collector's connections stay open until it ends

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.take = take
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.take(body)
        answer = ExportMetricsServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes OTLP/HTTP in this process."""

    metrics_url: str
    books: Books


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver of this process, on a port of its own."""
    books = Books()

    def take(body: bytes) -> None:
        books.add(list(_points_of(ExportMetricsServiceRequest.FromString(body))))

    server = _Server(take)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Receiver(f"http://127.0.0.1:{server.server_port}/v1/metrics", books)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def service_environment(endpoint: str, interval_ms: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with OTLP export to `endpoint` turned on, and nothing else of OpenTelemetry's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return kept | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": str(interval_ms),
        "OTEL_SERVICE_NAME": "shop",
        "NO_PROXY": "127.0.0.1",
        **(more or {}),
    }
