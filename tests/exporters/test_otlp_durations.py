"""Latencies as exponential histograms: in OpenTelemetry's buckets, each where a latency of the ring belongs."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.reports import encoded, points, report, report_of, row, word
from otelslo import SLO
from otelslo.kernels.bounds import BUCKETS, UPPER_NS, USED_WORDS

CALLS = SLO("calls", match={"kind": "call"})
S = 10**9


def durations(given, name: str = "slo.request.duration", **options: bool) -> dict:
    return {where: point for (metric, where), point in points(encoded(given, **options)).items() if metric == name}


def lies_in(latency_ns: int, index: int) -> bool:
    """Whether a latency lies in (base**index, base**(index + 1)] seconds, base 2**(1/8): by 8th powers, exactly."""
    eighth = Fraction(latency_ns, S) ** 8
    return Fraction(2) ** index < eighth <= Fraction(2) ** (index + 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, USED_WORDS - 1), st.integers(0, 2**40)), max_size=300))
def test_every_bucket_is_the_snapshots(counts) -> None:
    words = [0] * 256
    for place, count in counts:
        words[place] = count
    given = report([CALLS], [row(CALLS)], {"http /pay": words})
    (point,) = durations(given).values()
    offset = point.positive.offset
    exported = {offset + i: count for i, count in enumerate(point.positive.bucket_counts) if count}
    wanted = {}
    for i in range(BUCKETS + 1):
        count = word(given.snapshot.buckets, 2 + i)
        if count:
            wanted[-160 + i] = count
    assert exported == wanted
    assert point.zero_count == words[1]
    assert point.count == point.zero_count + sum(point.positive.bucket_counts) == sum(words[1:USED_WORDS])
    assert point.sum == words[0] * 1024 / S
    assert (point.scale, point.zero_threshold) == (3, 2.0**-20)
    assert not point.negative.bucket_counts


@pytest.mark.parametrize(
    "latency_ns",
    [
        954,
        1000,
        10**6,
        10**9 - 1,
        10**9,
        10**9 + 1,
        200_000_000,
        1024 * S,
        *UPPER_NS[1::37],
        *(u + 1 for u in UPPER_NS[1::37]),
    ],
)
def test_a_recorded_latency_lies_in_its_exported_bucket(make_engine, latency_ns) -> None:
    engine = make_engine(CALLS)
    engine.record(engine.track("pay"), "good", latency_ns)
    point = durations(report_of(engine))[frozenset({("slo.kind", "call"), ("http.route", "pay")})]
    assert list(point.positive.bucket_counts) == [1]
    assert (point.count, point.zero_count) == (1, 0)
    assert lies_in(latency_ns, point.positive.offset)


@pytest.mark.parametrize("latency_ns", [0, 1, 953])
def test_what_is_within_the_zero_threshold_is_a_zero(make_engine, latency_ns) -> None:
    engine = make_engine(CALLS)
    engine.record(engine.track("pay"), "good", latency_ns)
    point = durations(report_of(engine))[frozenset({("slo.kind", "call"), ("http.route", "pay")})]
    assert (point.count, point.zero_count, list(point.positive.bucket_counts)) == (1, 1, [])
    assert Fraction(latency_ns, S) <= Fraction(point.zero_threshold)


def test_what_took_longer_than_the_last_bucket_is_in_the_next_one_and_whole_in_the_sum(make_engine) -> None:
    engine = make_engine(CALLS)
    for latency_ns in (1024 * S, 1024 * S + 1, 5000 * S):
        engine.record(engine.track("pay"), "good", latency_ns)
    point = durations(report_of(engine))[frozenset({("slo.kind", "call"), ("http.route", "pay")})]
    assert (point.positive.offset, list(point.positive.bucket_counts)) == (79, [1, 2])
    assert lies_in(1024 * S, 79)
    assert not lies_in(1024 * S + 1, 79)
    assert point.count == 3
    assert point.sum == pytest.approx(7048, abs=3 * 1024 / S)


def test_histograms_exist_before_their_first_latency_and_start_with_the_ring(make_engine) -> None:
    engine = make_engine(CALLS)
    given = report_of(engine)
    found = durations(given)
    assert {dict(where)["slo.kind"] for where in found} == {"http", "call"}
    for point in found.values():
        assert (point.count, point.sum, point.HasField("sum")) == (0, 0.0, True)
        assert point.start_time_unix_nano == min(given.snapshot.births_ns)


def test_http_durations_take_the_conventions_name_only_when_asked() -> None:
    words = [0, 1, *[0] * 254]
    given = report([CALLS], [row(CALLS)], {"http /pay": words, "http (unmatched)": words, "call f": words})
    assert len(durations(given)) == 3
    assert durations(given, "http.server.request.duration") == {}
    ours = durations(given, http_duration=True)
    assert set(ours) == {frozenset({("slo.kind", "call"), ("http.route", "f")})}
    theirs = durations(given, "http.server.request.duration", http_duration=True)
    assert set(theirs) == {frozenset({("http.route", "/pay")}), frozenset()}
