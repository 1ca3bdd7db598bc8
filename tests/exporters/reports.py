"""Reports for tests: from what an engine has counted, or from numbers made up; and exported points as plain values."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otelslo import SLO, Engine
from otelslo.committed import CommittedRows
from otelslo.evaluate import statuses
from otelslo.report import Report
from otelslo.ring.collect import Collector
from otelslo.rowkey import RowKey
from otelslo.snapshot import CELL_WORDS, Saved, Snapshot

RING_ID = "0123456789abcdef" * 2
START_NS = 1_700_000_000 * 10**9
Row = tuple[str, int, Sequence[int]]  # key, birth in ns, cells


class _NoHistory:
    needs_full = False

    def load(self) -> Saved | None:
        return None


def report_of(engine: Engine) -> Report:
    """What the leader would hand out now."""
    snapshot = Collector(engine.ring, _NoHistory()).collect(engine.clock.ring_ns(), engine.definitions_json)
    definitions = tuple(engine.definitions)
    found = statuses(definitions, CommittedRows(snapshot, engine.ring.reader), snapshot.at_ns)
    return Report(snapshot, tuple(found), definitions)


def row(slo: SLO, cells: Sequence[int] = (), group: str | None = None, birth_ns: int = START_NS) -> Row:
    key = RowKey(slo.name, slo.meaning, group, slo.reason_cells).text()
    return key, birth_ns, [*cells, *[0] * (CELL_WORDS - len(cells))]


def report(
    slos: Iterable[SLO] = (),
    rows: Sequence[Row] = (),
    histograms: Mapping[str, Sequence[int]] | None = None,
    **more: Any,
) -> Report:
    """Rows and histograms (256 words by key) of one snapshot, a minute after START_NS, without statuses."""
    histograms = histograms or {}
    values: dict[str, Any] = {
        "ring_id": RING_ID,
        "at_ns": START_NS + 60 * 10**9,
        "wall_offset_ns": 0,
        "row_keys": tuple(key for key, _, _ in rows),
        "births_ns": tuple(birth for _, birth, _ in rows),
        "cells": b"".join(struct.pack("<16q", *cells) for _, _, cells in rows),
        "histogram_keys": tuple(histograms),
        "buckets": b"".join(struct.pack("<256q", *words) for words in histograms.values()),
        "closes": (),
        "losses": (),
        "config": "{}",
        "seq": 1,
    }
    return Report(Snapshot(**(values | more)), (), tuple(slo.as_definition for slo in slos))


def encoded(given: Report, **options: bool) -> list[Any]:
    """The requests that a report becomes, decoded; the worker that sends them has an identity of its own."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.sdk.resources import Resource

    from otelslo.exporters.otlp_points import requests

    resource = Resource({"service.name": "shop", "service.instance.id": "worker-7", "process.pid": 17})
    return [ExportMetricsServiceRequest.FromString(body) for _, body in requests(given, resource, **options)]


def word(data: bytes, number: int) -> int:
    """One word of a snapshot's cells or buckets."""
    return int.from_bytes(data[8 * number : 8 * number + 8], "little", signed=True)


Key = tuple[str, frozenset[tuple[str, str]]]


def points(requests: Iterable[Any]) -> dict[Key, Any]:
    """Every point of some requests, by metric and attributes. Two of the same are a mistake, and so are two
    resources or scopes in one request."""
    found: dict[Key, Any] = {}
    for request in requests:
        (resource,) = request.resource_metrics
        (scope,) = resource.scope_metrics
        assert scope.scope.name == "otelslo"
        for metric in scope.metrics:
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                key = metric.name, attributes(point.attributes)
                assert key not in found, f"twice: {key}"
                found[key] = point
    return found


def attributes(pairs: Iterable[Any]) -> frozenset[tuple[str, str]]:
    return frozenset((pair.key, pair.value.string_value) for pair in pairs)


def values(requests: Iterable[Any], metric: str) -> dict[frozenset[tuple[str, str]], int | float]:
    """The numbers of one metric by attributes."""
    return {
        key: getattr(point, point.WhichOneof("value"))
        for (name, key), point in points(requests).items()
        if name == metric
    }
