"""The indicator `saturation`: its thresholds, exactly; which samples are taken where, by a clock turned by hand."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import pytest
from drive import advance
from hypothesis import given
from hypothesis import strategies as st

import otelslo
from otelslo import SLO, readings
from otelslo.clock import ManualClock
from otelslo.errors import BadValue, DefinitionError
from otelslo.event import Event
from otelslo.indicators.saturation import Bound, parse_bound
from otelslo.process import Cpu, Memory
from otelslo.ring.geometry import Geometry
from otelslo.sampling import in_unit
from otelslo.slices import Slices
from otelslo.window import MINUTE_NS

NOW_NS = 1_800_000_000 * 10**9


needs_psutil = pytest.mark.skipif(find_spec("psutil") is None, reason="memory is measured by psutil")


def full(gauge, threshold, name="full", **more):
    return SLO(name, indicator="saturation", threshold=threshold, options={"gauge": gauge}, **more)


def counted(engine, name="full"):
    """Samples at or under the threshold, and above it."""
    good = bad = 0
    for row in range(engine.ring.reader.rows):
        if engine.ring.reader.row_name(row).slo == name:
            counts = engine.ring.reader.counts(row)
            good, bad = good + counts.good, bad + counts.bad
    return good, bad


def turn(engine, *, s=1):
    advance(engine, s=s)
    engine.runner.tick()
    assert engine.runner.sampling.join(30)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(readings, "_readings", {})
    monkeypatch.setattr(readings, "_said", set())
    readings._refused.clear()


@pytest.fixture
def sampling(make_engine):
    def make(*slos, **arguments):
        return make_engine(*slos, **({"clock": ManualClock(NOW_NS)} | arguments))

    return make


# ── thresholds ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("written", "amount", "unit", "text"),
    [
        (50, 50, "a number", "50"),
        ("50", 50, "a number", "50"),
        (0.1, Fraction(1, 10), "a number", "1/10"),
        (Decimal("2.50"), Fraction(5, 2), "a number", "5/2"),
        (Fraction(1, 3), Fraction(1, 3), "a number", "1/3"),
        ("80%", Fraction(4, 5), "a share", "80%"),
        ("250 %", Fraction(5, 2), "a share", "250%"),
        ("100ms", 10**8, "a duration", "100ms"),
        ("1h30m", 5400 * 10**9, "a duration", "1h30m"),
        (timedelta(seconds=2), 2 * 10**9, "a duration", "2s"),
        ("2GiB", 2 << 30, "bytes", "2147483648B"),
        ("1.5 kB", 1500, "bytes", "1500B"),
        ("512 MiB", 512 << 20, "bytes", "536870912B"),
    ],
)
def test_a_threshold_is_read_exactly(written, amount, unit, text):
    bound = parse_bound(written)
    assert (bound, str(bound)) == (Bound(Fraction(amount), unit), text)
    assert parse_bound(str(bound) if unit != "a number" or "/" not in text else written) == bound


@pytest.mark.parametrize("written", [0, "0%", -1, "-5", "", "much", "5 widgets", "2Gb", True, None, float("nan"), [1]])
def test_what_is_no_threshold_is_refused(written):
    with pytest.raises(BadValue):
        parse_bound(written)


@given(st.fractions(), st.fractions(min_value=Fraction(1, 10**6)))
def test_at_the_threshold_is_good(value, amount):
    assert Bound(amount, "a number").holds(value) is (value - amount <= 0)


@pytest.mark.parametrize(
    ("gauge", "threshold", "message"),
    [
        ("in_flight", "80%", r"a threshold of in_flight is a number, and 80% is a share. Write 100"),
        ("loop_lag", 100, "a threshold of loop_lag is a duration, and 100 is a number. Write 100ms"),
        ("memory", "100ms", "a threshold of memory is bytes or a share, and 100ms is a duration. Write 2GiB, or 80%"),
        ("cpu", 0.8, "a threshold of cpu is a share"),
        ("in-flight", 10, r"SLO 'full'.gauge: 'in-flight' is no gauge. Did you mean in_flight"),
        ("loop_lags", "1s", "Did you mean loop_lag"),
        ("Memory", "1GiB", "Did you mean memory"),
        ("queue depth", 10, r"'queue depth' is no gauge. Write in_flight, loop_lag, memory, cpu, or the name given to"),
        (7, 10, "7 is no gauge"),
        ("in_flight", None, r"the indicator 'saturation' needs threshold"),
        (None, 10, r"the indicator 'saturation' needs gauge. Add gauge: in_flight"),
    ],
)
def test_bad_options_name_place_and_remedy(gauge, threshold, message):
    options = {} if gauge is None else {"gauge": gauge}
    with pytest.raises(DefinitionError, match=message):
        SLO("full", indicator="saturation", threshold=threshold, options=options)


def test_memory_without_psutil_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)  # as where it is not installed
    monkeypatch.setattr("otelslo.indicators.saturation.find_spec", lambda name: None)
    with pytest.raises(DefinitionError, match=r"psutil, which is not installed. pip install 'otelslo\[saturation\]'"):
        full("memory", "2GiB")


def test_its_budget_is_in_slices_of_five_minutes_unless_said_otherwise():
    assert full("in_flight", 10).slices == Slices("timeslices", 5 * MINUTE_NS, Fraction(95, 100))
    assert full("in_flight", 10, budgeting="timeslices", slice="1m").slices == (
        Slices("timeslices", MINUTE_NS, Fraction(95, 100))
    )
    assert full("in_flight", 10, slice_target="50%", empty_slices="bad").slices == (
        Slices("timeslices", 5 * MINUTE_NS, Fraction(1, 2), empty="bad")
    )
    assert full("in_flight", 10, budgeting="occurrences").slices is None
    assert SLO("a").slices is None
    assert full("in_flight", 10).threshold_ns is None


def test_a_sample_says_itself_whether_it_is_saturated():
    slo = full("in_flight", 10, rules={"saturated": "excluded"})
    assert tuple(full("in_flight", 10).judge(Event("sample", route="full", failure="saturated")).within) == (
        *("bad", "saturated"),
    )
    assert slo.judge(Event("sample", route="full", failure="saturated")).within.kind == "excluded"
    assert slo.judge(Event("sample", route="full")).within.kind == "good"


# ── the app's own gauges ───────────────────────────────────────────────────────────────────────────────────────────
def test_a_value_that_was_told_is_sampled_each_second(sampling):
    """Exactly at the threshold is good; one sample a second, however often somebody looks."""
    engine = sampling(full("queue_depth", 50))
    turn(engine)
    assert counted(engine) == (0, 0)  # nobody has told anything
    otelslo.gauge("queue_depth", 50)
    turn(engine)
    engine.runner.tick()
    assert counted(engine) == (1, 0)
    otelslo.gauge("queue_depth", 51)
    turn(engine)
    turn(engine)
    assert counted(engine) == (1, 2)
    assert engine.faults() == {}


def test_a_minute_with_too_few_good_samples_is_bad(sampling):
    """57 of 60 are 95 %; the running minute does not count."""
    engine = sampling(full("queue_depth", 50, slice="1m"), clock=ManualClock(NOW_NS))
    for bad in (3, 4):
        for second in range(60):
            otelslo.gauge("queue_depth", 51 if second < bad else 0)
            engine.runner.tick()
            advance(engine, s=1)
    (status,) = engine.status()
    assert (status.counts.good, status.counts.bad) == (1, 1)


def test_a_told_value_is_stale_after_a_minute(sampling, monkeypatch):
    engine = sampling(full("queue_depth", 50))
    otelslo.gauge("queue_depth", 1)
    told_ns = readings.reading("queue_depth").told_ns
    assert not readings.reading("queue_depth").is_stale(told_ns + MINUTE_NS)
    assert readings.reading("queue_depth").is_stale(told_ns + MINUTE_NS + 1)
    readings._readings["queue_depth"] = readings.Reading(1, told_ns - 2 * MINUTE_NS)
    turn(engine)
    assert counted(engine) == (0, 0)


def test_a_function_is_asked_each_second(sampling):
    answers = [10, Decimal("50.0"), 50.1, None]
    engine = sampling(full("queue_depth", 50))
    otelslo.gauge("queue_depth", lambda: answers.pop(0))
    for _ in range(4):
        turn(engine)
    assert (counted(engine), answers) == ((2, 1), [])
    turn(engine)
    assert engine.faults() == {"user_code": 1}  # it has nothing left to pop
    assert counted(engine) == (2, 1)


def test_a_function_that_hangs_holds_up_nobody(sampling):
    entered, go_on, asked = threading.Event(), threading.Event(), []

    def hang():
        asked.append(1)
        entered.set()
        assert go_on.wait(60)
        return 1

    engine = sampling(full("queue_depth", 50), full("in_flight", 5, "busy"))
    otelslo.gauge("queue_depth", hang)
    try:
        engine.runner.tick()
        assert entered.wait(30)
        for _ in range(3):
            advance(engine, s=1)
            engine.runner.tick()
        assert (asked, counted(engine), counted(engine, "busy")) == ([1], (0, 0), (4, 0))
        assert engine.faults() == {"user_code": 3}
    finally:
        go_on.set()
    assert engine.runner.sampling.join(30)
    assert counted(engine) == (1, 0)


@pytest.mark.parametrize(
    ("value", "unit", "found"),
    [
        (7, "a number", 7),
        (0.1, "a share", Fraction(1, 10)),
        (2**40, "bytes", 2**40),
        (1.5, "a duration", 1_500_000_000),
        (timedelta(milliseconds=20), "a duration", 20_000_000),
    ],
)
def test_what_is_told_is_compared_in_the_unit_of_the_threshold(value, unit, found):
    assert in_unit(value, unit) == found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), timedelta(seconds=1), 1j])
def test_what_cannot_be_compared_is_no_sample_but_a_fault(sampling, value):
    engine = sampling(full("queue_depth", 50))
    otelslo.gauge("queue_depth", value)
    turn(engine)
    assert (counted(engine), engine.faults()) == ((0, 0), {"user_code": 1})


async def later():
    return 1


@pytest.mark.parametrize("value", ["7", None, True, [1], later])
def test_what_is_no_value_hurts_no_request_and_is_a_fault(sampling, caplog, value):
    engine = sampling(full("queue_depth", 50))
    for _ in range(3):
        otelslo.gauge("queue_depth", value)
    assert readings.reading("queue_depth") is None
    assert [one.message.startswith("gauge 'queue_depth': ") for one in caplog.records] == [True]
    turn(engine)
    turn(engine)
    assert (counted(engine), engine.faults()) == ((0, 0), {"user_code": 3})


@pytest.mark.parametrize("name", [None, 5, ["queue_depth"]])
def test_a_name_that_is_no_text_hurts_no_request(sampling, name):
    engine = sampling(full("queue_depth", 50))
    otelslo.gauge(name, 5)
    turn(engine)
    assert engine.faults() == {"user_code": 1}


def test_more_refused_than_one_second_can_hold_are_no_memory_leak():
    for number in range(5000):
        otelslo.gauge(f"queue_depth{number}", None)
    assert len(list(readings.refused())) == 1000
    assert list(readings.refused()) == []


@pytest.mark.parametrize(
    ("name", "slos", "said"),
    [
        ("queue_dept", [full("queue_depth", 50)], "no objective asks for a gauge named 'queue_dept'. Did you mean"),
        ("nosuch", [], "no objective asks for a gauge named 'nosuch'. There are none of the app's own"),
        ("in_flight", [full("in_flight", 50)], "in_flight is measured by otelslo itself"),
    ],
)
def test_a_gauge_that_nobody_asks_for_is_said_once(sampling, caplog, name, slos, said):
    engine = sampling(*slos)
    for _ in range(3):
        otelslo.gauge(name, 5)
        turn(engine)
    (line,) = [one.message for one in caplog.records if one.message.startswith("gauge: ")]
    assert said in line
    assert engine.faults() == {}


# ── in flight ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_in_flight_is_the_hosts_and_sampled_by_its_leader(sampling, tmp_path):
    clock = ManualClock(NOW_NS)
    first, second = (sampling(full("in_flight", 2), state_dir=tmp_path, clock=clock) for _ in range(2))
    calls = [engine.track("job").open() for engine in (first, first, second)]
    for engine in (first, second):
        engine.runner.tick()
    assert counted(first) == (0, 1)
    calls.pop().close()
    clock.advance(s=1)
    for engine in (first, second):
        engine.ring.blocks.advance_manual_clock()
        engine.runner.tick()
    assert counted(first) == (1, 1)
    for call in calls:
        call.close()


def test_an_agent_samples_only_what_is_the_hosts(sampling):
    engine = sampling(full("in_flight", 2), full("cpu", "100%", "cpu"), full("depth", 1, "depth"), agent=True)
    otelslo.gauge("depth", 1)
    for _ in range(3):
        turn(engine)
    assert engine.runner.leading
    assert [counted(engine, name) for name in ("full", "cpu", "depth")] == [(3, 0), (0, 0), (0, 0)]


# ── this process ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_cpu_is_a_share_of_one_core():
    used, now = iter([100, 150, 150, 350]), iter([1000, 1100, 1100, 1200])
    cpu = Cpu(lambda: next(used), lambda: next(now))
    assert [cpu() for _ in range(4)] == [None, Fraction(1, 2), None, Fraction(2)]


@needs_psutil
def test_this_process_is_measured(sampling):
    """Each worker, also one that does not lead."""
    clock = ManualClock(NOW_NS)
    slos = [full("memory", "1TiB", "room"), full("memory", "1B", "none"), full("memory", "99.99%", "share")]
    slos += [full("cpu", "100000%", "cpu")]
    engine = sampling(*slos, clock=clock)
    other = sampling(*slos, state_dir=engine.state_dir, clock=clock)
    for _ in range(2):
        turn(engine)
        other.ring.blocks.advance_manual_clock()
        other.runner.tick()
    assert engine.runner.leading
    assert not other.runner.leading
    found = {slo.name: counted(engine, slo.name) for slo in slos}
    assert found == {"room": (4, 0), "none": (0, 4), "share": (4, 0), "cpu": (2, 0)}
    assert engine.faults() == {}


def rss_by_proc():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@needs_psutil
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_is_what_the_system_says():
    """Before, with 64 MiB more, and after."""
    memory = Memory()
    before = memory()
    assert abs(before - rss_by_proc()) < 8 << 20
    with mmap.mmap(-1, 64 << 20) as more:
        more.write(b"x" * len(more))
        assert abs(memory() - rss_by_proc()) < 8 << 20
        assert memory() - before > 56 << 20
    assert memory() - before < 8 << 20
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < memory.limit <= total


@needs_psutil
def test_what_cannot_be_read_is_a_fault_and_others_go_on(sampling, monkeypatch):
    monkeypatch.setattr("otelslo.process.Memory.__call__", lambda self: 1 // 0)
    engine = sampling(full("memory", "1TiB", "memory"), full("in_flight", 2))
    turn(engine)
    assert (counted(engine), counted(engine, "memory")) == ((1, 0), (0, 0))
    assert engine.faults() == {"internal": 1}


def test_nothing_is_measured_where_nobody_asks(sampling, monkeypatch):
    monkeypatch.setattr("otelslo.sampling.Sampling._sample", lambda *_: 1 // 0)
    engine = sampling(SLO("a"))
    turn(engine)
    assert engine.faults() == {}


def test_a_new_configuration_is_sampled_from_the_next_turn_on(sampling):
    engine = sampling(SLO("a"), geometry=Geometry(max_blocks=4, snapshots=4))
    turn(engine)
    engine.reload([full("in_flight", 2)])
    turn(engine)
    assert counted(engine) == (1, 0)
    engine.reload([SLO("a")])
    turn(engine)
    assert counted(engine) == (1, 0)


def test_no_histogram_is_kept_of_samples(sampling):
    engine = sampling(full("in_flight", 2))
    turn(engine)
    assert engine.traffic() == []
    assert not [
        key for key in map(engine.ring.reader.histogram_key, range(engine.ring.reader.histograms)) if "sample" in key
    ]
