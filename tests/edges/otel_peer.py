"""OpenTelemetry's own middleware on the cases of the matrix: what its metrics say of each, by a clock turned by hand.

It is the contrib package as installed, with the stable HTTP names and a reader in memory.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from .verdicts import MS

DURATION = "http.server.request.duration"
_MODULES = {"asgi": "opentelemetry.instrumentation.asgi", "wsgi": "opentelemetry.instrumentation.wsgi"}


@dataclass(frozen=True)
class Recorded:
    """One request in OpenTelemetry's metrics; `duration_ns` is rounded to 1 ms."""

    status: Any
    error_type: Any
    duration_ns: int

    @property
    def outcome(self) -> str:
        """What an objective over these attributes would call it: the table's kinds, or "unknown"."""
        if self.error_type is not None:
            return "bad"
        if self.status is None:
            return "unknown"
        return "bad" if self.status >= 500 else "excluded" if self.status >= 400 else "good"


class Peer:
    """A meter provider of its own, and a clock."""

    def __init__(self, edge: str) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        self._edge = edge
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider(metric_readers=[self._reader], shutdown_on_exit=False)
        self._now_ns = 0

    def tick(self, ns: int) -> None:
        self._now_ns += ns

    def _now_s(self) -> float:
        return self._now_ns / 1e9

    @contextlib.contextmanager
    def wrapping(self, app: Any) -> Iterator[Any]:
        """The app in OpenTelemetry's middleware."""
        module = importlib.import_module(_MODULES[self._edge])
        with stable_names(), mock.patch.object(module, "default_timer", self._now_s):
            yield module.OpenTelemetryMiddleware(app, meter_provider=self._provider)

    def points(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        found = [metric for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics]
        return [point for metric in found if metric.name == name for point in metric.data.data_points]

    def recorded(self) -> list[Recorded]:
        """One for each request."""
        answers = []
        for point in self.points(DURATION):
            attributes = dict(point.attributes)
            one = Recorded(
                attributes.get("http.response.status_code"),
                attributes.get("error.type"),
                round(point.sum / point.count * 1000) * MS,
            )
            answers += [one] * point.count
        return answers

    def close(self) -> None:
        self._provider.shutdown()


@contextlib.contextmanager
def stable_names() -> Iterator[None]:
    """The opt-in is read once in a process, so what was read is put aside and back."""
    from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Stability

    with (
        mock.patch.dict(os.environ, {"OTEL_SEMCONV_STABILITY_OPT_IN": "http"}),
        mock.patch.object(Stability, "_initialized", False),
        mock.patch.object(Stability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {}),
    ):
        yield
