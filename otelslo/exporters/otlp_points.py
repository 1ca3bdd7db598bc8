"""A report as OTLP metrics: cumulative totals of one ring, under the ring's own identity.

Written with OpenTelemetry's own message classes rather than the SDK's data classes, which have no zero threshold and
lose the first of two equal resources. Everything is an absolute total since a birth, so the same points may arrive
twice, and a report that is lost is made good by the next.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.sdk.resources import Resource

from otelslo._version import VERSION
from otelslo.attributes import CHANNEL, DELIVERY, NAME, OUTCOME, REASON, attributes_of
from otelslo.definition import FIRST_EXCLUDED, Definition
from otelslo.gauges import LIMIT_GAUGES, gauges
from otelslo.genai.series import OVERFLOWED, Series, series_of
from otelslo.kernels.bounds import FIRST, LOWEST_INDEX, OVERFLOW, SCALE, SUM, SUM_SHIFT, WORDS, ZERO
from otelslo.report import Report
from otelslo.rowkey import NOTICES, SELF, RowKey
from otelslo.status import Status

MOST_POINTS = 500
ZERO_THRESHOLD_S = 2.0 ** (LOWEST_INDEX / 2**SCALE)
KIND, FAULT_REASON, ROUTE = "slo.kind", "otelslo.fault.reason", "http.route"
_UNMATCHED = "(unmatched)"
_NS_PER_S = 1_000_000_000
_CELLS = struct.Struct("<16q")
_BUCKETS = struct.Struct(f"<{WORDS}q")
_Pairs = Sequence[KeyValue]
_Point = NumberDataPoint | ExponentialHistogramDataPoint | HistogramDataPoint
_Add = Callable[..., _Point]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of ours."""

    name: str
    unit: str
    kind: Literal["sum", "gauge", "exponential_histogram", "histogram"]
    description: str


EVENTS = Family("slo.events", "{event}", "sum", "Events by what they count as for the objective.")
DURATION = Family("slo.request.duration", "s", "exponential_histogram", "Duration of requests and calls.")
HTTP_DURATION = Family(
    "http.server.request.duration", "s", "exponential_histogram", "Duration of HTTP server requests."
)
FAULTS = Family("otelslo.faults", "{fault}", "sum", "Faults of otelslo's own.")
NOTICED = Family(
    "otelslo.notices", "{notice}", "sum", "Attempts to tell a channel that arrived or failed, and notices given up."
)
IN_FLIGHT = Family("otelslo.requests.in_flight", "{request}", "gauge", "Requests begun and not ended.")


def requests(report: Report, resource: Resource, http_duration: bool = False) -> list[tuple[int, bytes]]:
    """The whole report as serialised requests of at most 500 points each, with how many each has.

    Args:
        resource: the service's; `service.instance.id` becomes the ring's.
        http_duration: whether HTTP durations go under their name of the semantic conventions instead of ours.
    """
    out = _Requests(report, resource)
    _events(out, report)
    _gauges(out, report)
    _limits(out, report)
    _durations(out, report, http_duration)
    _faults(out, report)
    _notices(out, report)
    _gen_ai(out, report)
    if report.in_flight is not None:
        out.number(IN_FLIGHT, ()).as_int = report.in_flight
    return out.finish()


class _Requests:
    """Requests in the making: a new one begins when one is full, and goes on with the same metric."""

    def __init__(self, report: Report, resource: Resource) -> None:
        self._resource = _resource_message(resource, report.snapshot.ring_id)
        self._scope = InstrumentationScope(name="otelslo", version=VERSION)
        self._time_ns = report.snapshot.wall_ns
        self._done: list[tuple[int, bytes]] = []
        self._begin()

    def _begin(self) -> None:
        self._request = ExportMetricsServiceRequest()
        self._room = MOST_POINTS
        self._points: dict[str, _Add] = {}
        found = self._request.resource_metrics.add()
        found.resource.CopyFrom(self._resource)
        self._metrics: ScopeMetrics = found.scope_metrics.add()
        self._metrics.scope.CopyFrom(self._scope)

    def number(self, family: Family, pairs: _Pairs, start_ns: int = 0) -> NumberDataPoint:
        """A new point without a value; only totals have a start."""
        point = self._add(family, pairs, start_ns)
        assert isinstance(point, NumberDataPoint)
        return point

    def histogram(self, family: Family, pairs: _Pairs, start_ns: int) -> ExponentialHistogramDataPoint:
        point = self._add(family, pairs, start_ns)
        assert isinstance(point, ExponentialHistogramDataPoint)
        return point

    def explicit_histogram(self, family: Family, pairs: _Pairs, start_ns: int) -> HistogramDataPoint:
        point = self._add(family, pairs, start_ns)
        assert isinstance(point, HistogramDataPoint)
        return point

    def _add(self, family: Family, pairs: _Pairs, start_ns: int) -> _Point:
        if self._room == 0:
            self._end()
            self._begin()
        self._room -= 1
        add = self._points.get(family.name)
        if add is None:
            add = self._points[family.name] = self._begin_metric(family)
        # A wall clock that was stepped back never puts a total before its own beginning.
        point = add(start_time_unix_nano=start_ns, time_unix_nano=max(self._time_ns, start_ns, 0))
        point.attributes.extend(pairs)
        return point

    def _begin_metric(self, family: Family) -> _Add:
        metric = self._metrics.metrics.add(name=family.name, unit=family.unit, description=family.description)
        data = getattr(metric, family.kind)
        if family.kind != "gauge":
            data.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
        if family.kind == "sum":
            data.is_monotonic = True
        add: _Add = data.data_points.add
        return add

    def _end(self) -> None:
        if self._room < MOST_POINTS:
            self._done.append((MOST_POINTS - self._room, self._request.SerializeToString()))

    def finish(self) -> list[tuple[int, bytes]]:
        self._end()
        return self._done


# ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────────
def _rows(report: Report) -> Iterator[tuple[RowKey, int, tuple[int, ...]]]:
    """Name, birth in ns and the 16 cells of every row. The birth is in ring time, which never moves; it was Unix time
    when the ring was made."""
    snapshot = report.snapshot
    cells = _CELLS.iter_unpack(snapshot.cells)
    for text, birth_ns, counts in zip(snapshot.row_keys, snapshot.births_ns, cells, strict=True):
        yield _row_key(text), birth_ns, counts


@lru_cache(maxsize=8192)
def _row_key(text: str) -> RowKey:
    return RowKey.parse(text)


def _events(out: _Requests, report: Report) -> None:
    in_force = {(definition.name, definition.meaning): definition for definition in report.definitions}
    for key, birth_ns, counts in _rows(report):
        definition = in_force.get((key.slo, key.meaning))
        if definition is None:
            continue
        row = _pairs({NAME: key.slo, **attributes_of(key, definition)})
        for cell, (reason, count) in enumerate(zip(key.reasons, counts, strict=False)):
            if reason:
                out.number(EVENTS, [*row, *_outcome(cell, reason)], birth_ns).as_int = count


@lru_cache(maxsize=1024)
def _outcome(cell: int, reason: str) -> _Pairs:
    if cell == 0:
        return _pairs({OUTCOME: "good"})
    return _pairs({OUTCOME: "bad" if cell < FIRST_EXCLUDED else "excluded", REASON: reason})


def _gauges(out: _Requests, report: Report) -> None:
    decided = list(_each_status(report))
    for gauge in gauges(report.alerts_decided):
        family = Family(gauge.name, gauge.unit, "gauge", gauge.description)
        for status, definition, pairs in decided:
            for value, more in gauge.points(status, definition):
                out.number(family, [*pairs, *_pairs_of(tuple(more.items()))]).as_double = value


def _limits(out: _Requests, report: Report) -> None:
    for gauge in LIMIT_GAUGES:
        family = Family(gauge.name, "1", "gauge", gauge.description)
        for status in report.limits:
            value = gauge.value_of(status)
            if value is not None:
                out.number(family, _pairs({NAME: status.name})).as_double = float(value)


def _each_status(report: Report) -> Iterator[tuple[Status, Definition, _Pairs]]:
    in_force = {definition.name: definition for definition in report.definitions}
    for status in report.statuses:
        definition = in_force.get(status.slo)
        if definition is not None:
            key = RowKey(status.slo, definition.meaning, status.group, definition.reason_cells)
            yield status, definition, _pairs({NAME: status.slo, **attributes_of(key, definition)})


@lru_cache(maxsize=1024)
def _pairs_of(attributes: tuple[tuple[str, str], ...]) -> _Pairs:
    return _pairs(dict(attributes))


def _durations(out: _Requests, report: Report, http_duration: bool) -> None:
    snapshot = report.snapshot
    born_ns = min(snapshot.births_ns, default=0)  # a histogram counted nothing before its own birth either
    for key, words in zip(snapshot.histogram_keys, _BUCKETS.iter_unpack(snapshot.buckets), strict=True):
        kind, _, route = key.partition(" ")
        if kind == "http" and http_duration:
            pairs = _pairs({} if route == _UNMATCHED else {ROUTE: route})
            _fill(out.histogram(HTTP_DURATION, pairs, born_ns), words)
        else:
            _fill(out.histogram(DURATION, _pairs({KIND: kind, ROUTE: route}), born_ns), words)


def _fill(point: ExponentialHistogramDataPoint, words: Sequence[int]) -> None:
    """Our buckets are OpenTelemetry's at the same scale. What took more than 1,024 s is in the bucket after the last,
    as if it had taken 1,117 s at most; the sum has its true duration."""
    buckets = words[FIRST : OVERFLOW + 1]
    point.scale = SCALE
    point.zero_threshold = ZERO_THRESHOLD_S
    point.zero_count = words[ZERO]
    point.count = words[ZERO] + sum(buckets)
    point.sum = (words[SUM] << SUM_SHIFT) / _NS_PER_S
    used = [i for i, count in enumerate(buckets) if count]
    if used:
        point.positive.offset = LOWEST_INDEX + used[0]
        point.positive.bucket_counts.extend(buckets[used[0] : used[-1] + 1])


def _faults(out: _Requests, report: Report) -> None:
    """A version of ours that knows other reasons counts on a row of its own; they are one series outside."""
    totals: dict[str, int] = {}
    born_ns: list[int] = []
    for key, birth_ns, counts in _rows(report):
        if key.slo == SELF:
            born_ns.append(birth_ns)
            for reason, count in list(zip(key.reasons, counts, strict=False))[1:]:
                if reason:
                    totals[reason] = totals.get(reason, 0) + count
    for reason, total in totals.items():
        out.number(FAULTS, _pairs({FAULT_REASON: reason}), min(born_ns)).as_int = total


def _notices(out: _Requests, report: Report) -> None:
    for key, birth_ns, counts in _rows(report):
        if key.slo == NOTICES:
            for outcome, count in zip(key.reasons, counts, strict=False):
                if outcome:
                    pairs = _pairs({CHANNEL: str(key.group), DELIVERY: outcome})
                    out.number(NOTICED, pairs, birth_ns).as_int = count


def _gen_ai(out: _Requests, report: Report) -> None:
    """The snapshot was not taken at one instant: a sum may lack what its buckets have, of calls that ended then."""
    for one in series_of(_rows(report)):
        instrument = one.instrument
        family = Family(instrument.name, instrument.unit, "histogram", instrument.description)
        point = out.explicit_histogram(family, _pairs_of_series(one), one.born_ns)
        point.explicit_bounds.extend(instrument.explicit_bounds)
        point.bucket_counts.extend(one.buckets)
        point.count = sum(one.buckets)
        point.sum = one.total_in_unit


def _pairs_of_series(one: Series) -> _Pairs:
    pairs = _pairs({name: value for name, value in one.attributes.items() if name != OVERFLOWED})
    return [*pairs, KeyValue(key=OVERFLOWED, value=AnyValue(bool_value=True))] if one.overflow else pairs


# ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _pairs(attributes: Mapping[str, str]) -> _Pairs:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()]


def _resource_message(resource: Resource, ring_id: str) -> ResourceMessage:
    """The service's attributes, without those of the process that happens to lead."""
    found = {key: value for key, value in resource.attributes.items() if not key.startswith("process.")}
    found["service.instance.id"] = ring_id
    return ResourceMessage(attributes=[KeyValue(key=key, value=_any(value)) for key, value in found.items()])


def _any(value: object) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, (list, tuple)):
        return AnyValue(array_value=ArrayValue(values=[_any(each) for each in value]))
    return AnyValue(string_value=str(value))
