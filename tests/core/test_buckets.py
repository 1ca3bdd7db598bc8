"""The compiled buckets equal OpenTelemetry's exponential ones of scale 3, exactly, at every boundary."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from naive import NaiveLatencies, bucket_index

from otelslo.clock import ManualClock
from otelslo.kernels.bounds import BUCKETS, FIRST, LOWEST_INDEX, OVERFLOW, SUM, SUM_SHIFT, UPPER_NS, USED_WORDS, ZERO
from otelslo.latencies import quantile_ns

from .small_rings import FULL, START_NS, Worker
from .twin import word_of

MOST_ERROR = Fraction(443, 10_000)


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(None, ManualClock(START_NS), rows=1)


def words_of(worker: Worker, latencies_ns: list[int]) -> list[int]:
    """What the kernel adds to a histogram for these."""
    before = worker.ring.reader.histogram(worker.histogram)
    for first in range(0, len(latencies_ns), 10_000):
        part = latencies_ns[first : first + 10_000]
        refused = worker.record_many([worker.good, worker.bad, worker.excluded], [0] * len(part), part)
        assert refused == 0
    after = worker.ring.reader.histogram(worker.histogram)
    return [now - then for now, then in zip(after, before, strict=True)]


def word_by_record(worker: Worker, latency_ns: int) -> int:
    before = worker.ring.reader.histogram(worker.histogram)
    assert worker.record(worker.good, latency_ns) >= 0
    after = worker.ring.reader.histogram(worker.histogram)
    (word,) = (i for i in range(ZERO, USED_WORDS) if after[i] != before[i])
    assert after[SUM] - before[SUM] == (latency_ns + 512) >> SUM_SHIFT
    return word


def test_every_boundary_and_its_neighbours(worker: Worker) -> None:
    for upper_ns in UPPER_NS:
        for latency_ns in (upper_ns - 1, upper_ns, upper_ns + 1):
            assert word_by_record(worker, latency_ns) == word_of(latency_ns), latency_ns


def test_ends_and_powers_of_two(worker: Worker) -> None:
    latencies_ns = [0, 1, 2, 953, 954, *(1 << i for i in range(46)), 1 << 50]
    for latency_ns in latencies_ns:
        assert word_by_record(worker, latency_ns) == word_of(latency_ns), latency_ns
    assert word_of(0) == ZERO
    assert word_of(1 << 50) == OVERFLOW


def test_boundaries_are_the_sdks() -> None:
    """The SDK maps floats; a boundary that is no power of two is irrational, so 1 ns beside it must agree."""
    mapping = pytest.importorskip("opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.logarithm_mapping")
    theirs = mapping.LogarithmMapping(3)
    for i, upper_ns in enumerate(UPPER_NS[:-1]):
        if upper_ns < 10**6:  # below, 1 ns is coarser than the float of the boundary is fine
            continue
        for latency_ns in (upper_ns - 1, upper_ns + 1):
            expected = theirs.map_to_index(latency_ns / 1e9)
            assert word_of(latency_ns) == FIRST + expected - LOWEST_INDEX, (i, latency_ns)
            assert bucket_index(latency_ns) == expected


def test_random_latencies_equal_the_naive_ones(worker: Worker) -> None:
    rng = random.Random(4)
    latencies_ns = [round(2 ** rng.uniform(0, 42)) for _ in range(200_000 if FULL else 20_000)]
    naive = NaiveLatencies()
    for latency_ns in latencies_ns[:5_000]:
        naive.add(0, latency_ns)
    expected = [0] * USED_WORDS
    for index, count in naive.buckets(0, 1).items():
        expected[ZERO if index < LOWEST_INDEX else min(OVERFLOW, FIRST + index - LOWEST_INDEX)] += count
    assert words_of(worker, latencies_ns[:5_000])[ZERO:USED_WORDS] == expected[ZERO:]
    expected = [0] * USED_WORDS
    for latency_ns in latencies_ns:
        expected[word_of(latency_ns)] += 1
    found = words_of(worker, latencies_ns)
    assert found[ZERO:USED_WORDS] == expected[ZERO:]
    assert found[SUM] == sum((latency_ns + 512) >> SUM_SHIFT for latency_ns in latencies_ns)


def distribution(rng: np.random.Generator) -> np.ndarray:
    """Latencies in ns within the buckets' range: one of six shapes, of random scale and size."""
    n, scale = int(rng.integers(1, 4000)), 10.0 ** rng.uniform(4, 9)
    shapes = (
        lambda: rng.lognormal(0, rng.uniform(0.1, 2), n) * scale,
        lambda: rng.exponential(scale, n),
        lambda: (rng.pareto(rng.uniform(0.5, 3), n) + 1) * scale,
        lambda: rng.uniform(0, scale, n),
        lambda: np.concatenate([rng.normal(scale, scale / 50, n), rng.normal(scale * 40, scale, max(1, n // 20))]),
        lambda: np.full(n, scale),
    )
    values = shapes[int(rng.integers(len(shapes)))]()
    return np.clip(np.rint(values), 1_000, 1_000 * 10**9).astype(np.int64)


@pytest.mark.torture
def test_quantiles_within_their_error(worker: Worker) -> None:
    rng = np.random.default_rng(5)
    worst = Fraction(0)
    for _ in range(10_000 if FULL else 200):
        values = distribution(rng)
        words = words_of(worker, values.tolist())
        for q in (0.5, 0.9, 0.95, 0.99, 0.999, 1.0):
            exact = int(np.quantile(values, q, method="inverted_cdf"))
            found = quantile_ns(words, q)
            assert found is not None
            error = abs(Fraction(found - exact, exact))
            worst = max(worst, error)
            assert error <= MOST_ERROR, f"p{q * 100:g} of {len(values)}: {found}, exactly {exact}"
    print(f"worst error {float(worst):.4%}")


def test_all_words_are_reached(worker: Worker) -> None:
    middles = [UPPER_NS[0], *(UPPER_NS[i + 1] for i in range(BUCKETS)), UPPER_NS[-1] + 1]
    assert [word_by_record(worker, latency_ns) for latency_ns in middles] == list(range(ZERO, USED_WORDS))
