"""Objectives as gauges on a MeterProvider of the app's own, for those whose metrics already go somewhere.

    otelslo.meter.observe()        # once in each worker, after its MeterProvider is set

What this way cannot do: a provider's Resource is its worker's, so a series ends when its worker does and another begins
in the next leader's. So there are gauges only, and only the worker that leads reports them: N workers that exported the
same counters would be added up to N times the truth, and each change of the leader would look like a restart. Counters
and histograms under one identity are what `otelslo.exporters.otlp` and `otelslo.openmetrics` are for. A worker that
has just begun to lead and one that has just stopped may both report within one interval; while `otelslo agent` leads,
no worker reports; workers that could not share a ring report each their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otelslo import default
from otelslo._version import VERSION
from otelslo.attributes import NAME, attributes_of
from otelslo.engine import Engine
from otelslo.errors import OtelsloError
from otelslo.gauges import GAUGES, Gauge, gauges
from otelslo.rowkey import RowKey
from otelslo.totals import host_totals

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


def observe(engine: Engine | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Register the gauges of `otelslo.gauges`: `slo.sli.ratio`, `slo.error_budget.remaining.ratio` and others.

    Args:
        engine: by default the process's own one. While it does not run, nothing is reported.
        meter_provider: by default the global one, also one that is set later.

    Raises:
        OtelsloError: opentelemetry-api is not installed.
        DefinitionError: the configuration of the process's own engine is wrong.
    """
    try:
        from opentelemetry import metrics
    except ImportError as e:
        raise OtelsloError("opentelemetry is not installed. Run pip install opentelemetry-api") from e
    watched = engine or default.engine()
    meter = metrics.get_meter("otelslo", VERSION, meter_provider)
    for gauge in GAUGES:
        callback = _callback(watched, gauge, metrics.Observation)
        meter.create_observable_gauge(gauge.name, [callback], gauge.unit, gauge.description)


def _callback(engine: Engine, gauge: Gauge, observation: Callable[..., Any]) -> Callable[[Any], list[Any]]:
    def callback(options: object) -> list[Any]:
        try:
            if not _leads(engine):
                return []
            totals = host_totals(engine).read()
            if gauge not in gauges(totals.alerts_decided):
                return []
            named = {definition.name: definition for definition in totals.definitions}
            found = []
            for status in totals.statuses:
                definition = named[status.slo]
                key = RowKey(status.slo, definition.meaning, status.group, ())
                attributes = {NAME: status.slo} | attributes_of(key, definition)
                found += [observation(value, attributes | more) for value, more in gauge.points(status, definition)]
            return found
        except Exception as e:
            engine.fault("export", f"gauges: {type(e).__name__}: {e}")
            return []

    return callback


def _leads(engine: Engine) -> bool:
    """Not in a forked child that has not begun its own life, nor in a leader that stood still and was replaced."""
    if not engine.running:
        return False
    ring = engine.ring
    if ring.path is None:
        return ring.blocks.index is not None
    return engine.runner.leading and ring.blocks.index is not None and ring.reader.leader_block == ring.blocks.index
