"""Latencies that are none: counted as a fault of our own, never stored, and never an exception in a request."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import MakeEngine

from otelslo import SLO, Engine
from otelslo.kernels.bounds import USED_WORDS, ZERO

DAY_NS = 86_400 * 10**9


@pytest.fixture
def calls(make_engine: MakeEngine) -> Engine:
    where = {"kind": "call"}
    return make_engine(
        SLO("availability", match=where),
        SLO("latency", indicator="latency", threshold="200ms", target="95%", match=where),
    )


def stored(engine: Engine) -> tuple[int, int, int]:
    """Events counted by the two objectives and by the histograms."""
    reader = engine.ring.reader
    timed = sum(sum(reader.histogram(h)[ZERO:USED_WORDS]) for h in range(reader.histograms))
    return engine.count("availability", DAY_NS).valid, engine.count("latency", DAY_NS).valid, timed


@pytest.mark.parametrize(
    "latency",
    [
        *(math.nan, -math.nan, math.inf, -math.inf, -1, -0.5, -1e300, 1e300, 2**62 + 1, 2**63, 2**64, 10**30),
        *(-(2**63), -(2**63) - 1, float(2**63), "5", "abc", "", b"5", None, 1 + 2j, [1], (1,), {}, object()),
        *(True, False, Decimal(5), Fraction(5), np.float64("nan"), np.float32("inf"), np.float64(-1), np.int8(-3)),
        *(np.uint64(2**63 + 5), np.array([1, 2]), np.array(["5"]), np.bool_(True)),
    ],
    ids=lambda value: repr(value).partition(" at ")[0],
)
def test_refused(calls: Engine, latency: Any) -> None:
    track = calls.track("call")
    for outcome in ("good", "bad", "excluded", None):
        calls.record(track, outcome, latency)
    assert stored(calls) == (0, 0, 0)
    assert calls.faults() == {"bad_latency": 4}


@pytest.mark.parametrize(
    "latency", [0, 1, 2**53, 2**62, 1.0, 1.9, -0.0, np.int64(5), np.uint8(5), np.int32(0), np.float64(3.7), np.array(5)]
)
def test_taken(calls: Engine, latency: Any) -> None:
    calls.record(calls.track("call"), "good", latency)
    assert stored(calls) == (1, 1, 1)
    assert calls.faults() == {}


BATCHES = [
    ([0, 1], [1.0, math.nan], 1, 1),
    ([0, 1, 2], [math.inf, -math.inf, -1.0], 0, 3),
    ([0, 0], [1e30, -1e30], 0, 2),
    ([0, 0, 0], [2**62, 2**62 + 1, -1], 1, 2),
    ([3, -1, 127, -128, 256, 1], [1] * 6, 1, 5),
    ([0, 0], np.array([2**63 + 1, 5], dtype=np.uint64), 1, 1),
    (np.zeros(0, dtype=np.int8), np.zeros(0, dtype=np.int64), 0, 0),
    (np.array([0, 1, 2, 0], dtype=np.uint64), np.array([1, 2, 3, 4], dtype=np.int8), 4, 0),
    (np.zeros(9, dtype=np.int8)[::3], np.arange(9, dtype=np.int64)[::3], 3, 0),
]


@pytest.mark.parametrize(("outcomes", "latencies", "timed", "faults"), BATCHES)
def test_batches(calls: Engine, outcomes: Any, latencies: Any, timed: int, faults: int) -> None:
    calls.record_many(calls.track("call"), outcomes, latencies)
    assert stored(calls)[2] == timed
    assert calls.faults() == ({"bad_latency": faults} if faults else {})


@pytest.mark.parametrize(
    ("outcomes", "latencies"),
    [
        ([0], [None]),
        ([0], ["1"]),
        ([0], [True]),
        ([0.0], [1]),
        ([None], [1]),
        (["good"], [1]),
        ([0, 1], [1]),
        ([[0]], [[1]]),
        (None, None),
        (0, 1),
    ],
)
def test_batches_of_other_types_are_errors(calls: Engine, outcomes: Any, latencies: Any) -> None:
    track = calls.track("call")
    with pytest.raises(ValueError, match="must be"):
        calls.record_many(track, outcomes, latencies)
    assert stored(calls) == (0, 0, 0)


def test_a_batch_larger_than_a_commit_is_split(make_engine: MakeEngine) -> None:
    slos = [
        SLO(f"latency-{i}", indicator="latency", threshold=f"{i + 1}ms", target="95%", match={"kind": "call"})
        for i in range(60)
    ]
    engine = make_engine(*slos)
    rng = np.random.default_rng(6)
    outcomes, latencies = rng.integers(0, 3, 5000), rng.integers(0, 100_000_000, 5000)
    engine.record_many(engine.track("call"), outcomes, latencies)
    for i in range(60):
        counts = engine.count(f"latency-{i}", DAY_NS)
        slow = int(((latencies > (i + 1) * 10**6) & (outcomes == 0)).sum())
        assert counts.total == 5000
        assert counts.good == int((outcomes == 0).sum()) - slow


def test_texts_that_no_encoding_takes(calls: Engine) -> None:
    """A lone surrogate, as from a bad environment variable: the event counts, and housekeeping goes on."""
    track = calls.track("call \udcff", version="\ud800")
    calls.record(track, "bad", 5)
    calls.housekeeping()
    calls.record(track, "bad", 5)
    calls.housekeeping()
    assert calls.count("availability", DAY_NS).bad == 2
