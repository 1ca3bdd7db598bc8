"""The simulation of benchmarks/alerting_table.py against its slow twins: every turn decided, and an engine's own."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from simulated import GEOMETRY, Simulation

from otelslo import SLO
from otelslo.clock import ManualClock

START_NS = 1_700_000_400 * 10**9  # where a coarse slot begins
EIGHT_HOURS, CALM = 2880, 2300


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    return importlib.import_module("benchmarks.alerting_table")


def traffic(table, per_s, tries, burn, seed):
    """Eight hours, the last of which burn."""
    failing = np.full(EIGHT_HOURS, 0.0005)
    failing[CALM:-180] = burn / 1000
    return table.draw(np.random.default_rng(seed), per_s, failing, tries)


def transitions(table, slots, guarded, **how):
    told = table.decided(slots, table.plan_of(guarded), **how)
    return [(turn, one.event, one.state.name) for turn, one in told]


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize(("per_s", "tries", "burn"), [(0.03, 1, 300), (0.1, 3, 150), (2.0, 1, 20), (0.5, 3, 100)])
def test_nothing_happens_at_turns_that_are_left_out(table, per_s, tries, burn, guarded):
    happened = 0
    for seed in range(3):
        slots = traffic(table, per_s, tries, burn, seed)
        told = transitions(table, slots, guarded)
        assert told == transitions(table, slots, guarded, every_turn=True)
        happened += len(told)
    assert happened


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize(("per_s", "tries", "burn"), [(0.03, 1, 300), (0.3, 3, 200)])
def test_an_engine_decides_the_same(table, make_engine, per_s, tries, burn, guarded):
    slots = traffic(table, per_s, tries, burn, seed=7)
    alerts = {"guard": "99%" if guarded else "off", "exhausted": "off", "exclusion_share": "off"}
    slo = SLO("simulated", match={"kind": "call"}, alerts=alerts)
    simulation = Simulation(make_engine(slo, geometry=GEOMETRY, clock=ManualClock(START_NS)))
    for slot in range(EIGHT_HOURS):
        valid, bad, excess = (int(part[slot + 1] - part[slot]) for part in (slots.valid, slots.bad, slots.excess))
        simulation.record(good=valid - bad)
        for failure in range(bad):
            simulation.fail(trace_id=1 + slot * 10_000 + failure // tries)
        assert excess == bad * (tries - 1)
        simulation.wait(ns=table.SLOT_NS)
        simulation.turn()
    told = [(at_ns // table.SLOT_NS, event, alert) for at_ns, event, alert in simulation.told]
    assert told == transitions(table, slots, guarded)
    assert {event for _, event, _ in told} == {"firing", "resolved"}


def test_what_is_drawn_is_what_was_asked_for(table):
    """The rate of events and the share of failures are the same, however the failures come."""
    for tries in (1, 3):
        slots = table.draw(np.random.default_rng(1), 100.0, np.full(10_000, 0.1), tries)
        valid, bad, excess = (int(part[-1]) for part in (slots.valid, slots.bad, slots.excess))
        assert abs(valid / 10**7 - 1) < 0.01
        assert abs(bad / valid / 0.1 - 1) < 0.01
        assert excess == bad * (tries - 1)


def test_quantiles(table):
    assert [table.quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.9)] == [2.0, 4.0]
    assert table.quantile([1.0, float("inf")], 0.9) is None


def test_a_case_is_the_same_whenever_it_is_simulated(table):
    again = [table.false_pages(0.003, 1, table.BURNS[1], 1, (1, 2)) for _ in range(2)]
    assert again[0] == again[1]
