"""The SRE Workbook's tables on an engine whose clock is turned by hand: what burns how fast, and when it is told."""

from __future__ import annotations

import json
import re
from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from cli.invoke import invoke
from simulated import GEOMETRY, Simulation, dusty

from otelslo import SLO
from otelslo.cli import state
from otelslo.clock import ManualClock
from otelslo.counts import Counts
from otelslo.tiers import DEFAULT_NAMES
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

CALLS = {"kind": "call"}
MONTH_NS = 30 * DAY_NS
SLOT_S = 10
EXPONENT = re.compile(r"(?<![\w.])\d+(?:\.\d+)?[eE][-+]?\d+\b")


@pytest.fixture
def simulate(make_engine):
    def make(guard="off", **objective):
        objective = {"alerts": {"guard": guard}} | objective
        return Simulation(make_engine(SLO("calls", match=CALLS, **objective), geometry=GEOMETRY))

    return make


def play(simulation, seconds, every_s, good=0, bad=0):
    """So many of each at the beginning of every step, and a turn at its end."""
    for _ in range(seconds // every_s):
        simulation.record(good, bad)
        simulation.wait(s=every_s)
        simulation.turn()


def plain(simulation):
    """No text or JSON that anybody gets has a trace of floats."""
    texts = [part for one in simulation.notices for part in (one.title, one.text)]
    data = [one.to_json() for one in simulation.notices] + [one.to_json() for one in simulation.look()]
    assert [text for text in texts if EXPONENT.search(text)] == []
    assert list(dusty(data)) == []


@pytest.mark.parametrize(
    ("burn", "exhausted_s", "every_s", "others"),
    [
        (1, 30 * 86_400, 300, set()),
        (2, 15 * 86_400, 300, {"ticket-slow"}),
        (10, 3 * 86_400, 60, {"ticket-slow", "ticket-fast", "page-slow"}),
        (1000, Fraction("43.2") * 60, SLOT_S, set(DEFAULT_NAMES)),
    ],
)
def test_burn_rates_and_time_to_exhaustion(simulate, burn, exhausted_s, every_s, others):
    """The Workbook's table 5-3, to the very turn; a tier at its own factor stays quiet."""
    simulation = simulate()
    turns = -(-exhausted_s // every_s)
    play(simulation, (turns - 1) * every_s, every_s, 1000 - burn, burn)
    assert set(simulation.fired) == others
    [before] = simulation.look()
    assert 0 < before.full_budget.remaining_ratio <= Fraction(every_s, exhausted_s)
    play(simulation, every_s, every_s, 1000 - burn, burn)
    assert simulation.fired["budget-exhausted"] == turns * every_s * SECOND_NS
    [after] = simulation.look()
    assert after.full_budget.remaining_ratio == 1 - Fraction(turns * every_s) / exhausted_s
    plain(simulation)


@pytest.mark.parametrize(("alert", "hours", "after_s"), [("page-fast", 1, "51.84"), ("page-slow", 6, "129.6")])
def test_a_full_outage_trips_a_tier_after_its_share_of_time(simulate, alert, hours, after_s):
    """At 99.9 % and the same traffic before: not before, and at most a slot and a second after."""
    simulation = simulate()
    for _ in range(hours * 3600):
        simulation.record(good=25)
        simulation.wait(s=1)
    simulation.turn()
    began_ns = simulation.now_ns
    play(simulation, 180, 1, bad=25)
    tripped_s = Fraction(simulation.fired[alert] - began_ns, SECOND_NS)
    slots_s = SLOT_S if hours == 1 else 300  # of the length that a window of this size is counted in
    assert Fraction(after_s) < tripped_s <= Fraction(after_s) * (1 + Fraction(slots_s, hours * 3600)) + 1
    plain(simulation)


def test_15_percent_errors_for_10_minutes(simulate):
    """The Workbook's figure 5-6: an hour and five minutes at 14.4 fire from 5.76 to 14.52 minutes, to a slot."""
    simulation = simulate()
    for _ in range(3600):
        simulation.record(good=20)
        simulation.wait(s=1)
    simulation.turn()
    began_ns = simulation.now_ns
    play(simulation, 600, 1, good=17, bad=3)
    play(simulation, 600, 1, good=20)
    fast = [(Fraction(at - began_ns, SECOND_NS), event) for at, event, name in simulation.told if name == "page-fast"]
    [(fired_s, fired), (resolved_s, resolved)] = fast
    assert (fired, resolved) == ("firing", "resolved")
    assert Fraction("5.76") * 60 < fired_s <= Fraction("5.76") * 60 + SLOT_S
    assert abs(resolved_s - Fraction("14.52") * 60) <= SLOT_S
    plain(simulation)


@pytest.mark.parametrize("guard", ["99%", "off"])
def test_one_failure_of_ten_requests_an_hour(simulate, guard):
    """In a whole month it is no reason to tell anybody anything; without the guard everything fires."""
    simulation = simulate(guard)
    failed_at = 11 * 240 + 7
    for request in range(30 * 240):
        simulation.record(good=request != failed_at, bad=request == failed_at)
        for _ in range(2):
            simulation.turn()
            simulation.wait(s=180)
    assert set(simulation.fired) == (set() if guard != "off" else set(DEFAULT_NAMES))
    plain(simulation)


def test_one_failure_a_day_never_pages(simulate):
    """Four times what the target allows: in three days that is no chance any more, and a ticket."""
    simulation = simulate("99%")
    for request in range(30 * 240):
        simulation.record(good=request % 240 != 100, bad=request % 240 == 100)
        simulation.turn()
        simulation.wait(s=360)
    assert set(simulation.fired) == {"ticket-slow", "budget-exhausted"}
    assert simulation.fired["ticket-slow"] > 3 * DAY_NS
    assert simulation.fired["budget-exhausted"] > 7 * DAY_NS


def test_14_failures_of_20_within_an_hour_page(simulate):
    """As few events, and yet no chance."""
    simulation = simulate("99%")
    for request in range(20):
        simulation.record(good=request % 10 < 3, bad=request % 10 >= 3)
        simulation.turn()
        simulation.wait(s=170)
    assert {"page-fast", "page-slow"} <= simulation.fired.keys()
    assert {alert for _, event, alert in simulation.told if event == "firing"} == {"page-fast", "page-slow"}
    plain(simulation)


@pytest.mark.parametrize(("good", "bad", "exhausted"), [(999, 1, True), (999_001, 999, False), (998_999, 1001, True)])
def test_the_edge_of_the_budget_is_exact(simulate, monkeypatch, good, bad, exhausted):
    """1 of 1000 at 99.9 % spends exactly the budget: nothing is left, though the target is met."""
    simulation = simulate()
    simulation.wait(ns=MONTH_NS)
    simulation.turn()
    simulation.record(good, bad)
    simulation.wait(s=30)
    [status] = simulation.turn()
    assert status.budget.remaining == Fraction(good + bad, 1000) - bad
    assert status.projected is None
    assert ("budget-exhausted" in simulation.fired) is exhausted
    assert status.met is (bad * 1000 <= good + bad)
    plain(simulation)
    engine = simulation.engine
    engine.runner.tick()
    monkeypatch.setattr(state, "SystemClock", lambda epoch_ns=0: engine.clock)
    for arguments in (["status"], ["status", "--json"], ["explain", "calls"], ["explain", "calls", "--json"], ["gate"]):
        shown = invoke(*arguments, "--state-dir", engine.state_dir, columns=200)
        assert EXPONENT.search(shown.stdout) is None, shown.stdout
        if "--json" in arguments:
            assert list(dusty(json.loads(shown.stdout))) == []
    assert invoke("gate", "--state-dir", engine.state_dir, "--max-age", "1d").exit_code == int(exhausted)


def period_of(unit, zone, wall_ns):
    """Which period an instant belongs to, by the date that a clock on the wall shows."""
    day = datetime.fromtimestamp(wall_ns // SECOND_NS, ZoneInfo(zone)).date()
    kinds = {"month": (day.year, day.month), "quarter": (day.year, (day.month - 1) // 3), "day": day}
    return day.isocalendar()[:2] if unit == "week" else kinds[unit]


@pytest.mark.parametrize(
    ("unit", "zone", "begins", "hours"),
    [
        ("month", "America/New_York", "2026-03-01", 743),
        ("month", "America/New_York", "2026-11-01", 721),
        ("month", "America/New_York", "2028-02-01", 29 * 24),
        ("month", "Europe/Paris", "2027-02-01", 28 * 24),
        ("week", "America/New_York", "2026-03-02", 167),
        ("week", "America/New_York", "2026-10-26", 169),
        ("week", "Australia/Lord_Howe", "2026-09-28", Fraction(335, 2)),
        ("day", "America/New_York", "2028-02-29", 24),
        ("day", "America/New_York", "2026-11-01", 25),
        ("quarter", "America/New_York", "2028-01-01", 91 * 24 - 1),
    ],
)
def test_calendar_periods(make_engine, unit, zone, begins, hours):
    """Events on both sides of both bounds, and around the change of the clock, each in its own period and no other."""
    start_ns = int(datetime.fromisoformat(begins).replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND_NS
    end_ns = start_ns + int(hours * HOUR_NS)
    clock = ManualClock(start_ns - 2 * DAY_NS)
    engine = make_engine(SLO("calls", match=CALLS, calendar=unit, timezone=zone), geometry=GEOMETRY, clock=clock)
    simulation = Simulation(engine)
    times = [start_ns - MINUTE_NS, start_ns - 1, start_ns, start_ns + HOUR_NS]
    times += [start_ns + (end_ns - start_ns) * part // 7 for part in range(1, 7)]
    times += [end_ns - HOUR_NS, end_ns - MINUTE_NS, end_ns - 1, end_ns, end_ns + 10 * MINUTE_NS]
    seen = []
    for number, at_ns in enumerate(times):
        simulation.wait(ns=at_ns - clock.wall_ns())
        simulation.record(good=number % 2 + 1, bad=1)
        seen.append((at_ns, Counts(number % 2 + 1, 1)))
        mine = [events for then, events in seen if period_of(unit, zone, then) == period_of(unit, zone, at_ns)]
        [status] = simulation.look()
        [live] = engine.status()
        assert status.counts == live.counts == sum(mine, Counts())
        if start_ns <= at_ns < end_ns:
            assert (status.start_ns, status.end_ns, status.window_ns) == (start_ns, end_ns, end_ns - start_ns)
            assert status.whole
    assert period_of(unit, zone, end_ns - 1) == period_of(unit, zone, start_ns) != period_of(unit, zone, end_ns)
