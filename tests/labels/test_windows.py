"""Late labels and what is decided of windows: counts, budget, burn and alerts are those of a plain list of events, at
each moment, as far as labels have come by then."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from drive import advance

from otelslo import SLO, Counts, Engine
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS

SLOT_NS = 5 * MINUTE_NS
TARGET = Fraction(95, 100)
WINDOW_NS = 7 * DAY_NS
BURNS = {"5m": 5 * MINUTE_NS, "30m": 30 * MINUTE_NS, "1h": HOUR_NS, "2h": 2 * HOUR_NS, "6h": 6 * HOUR_NS}
BURNS |= {"1d": DAY_NS, "3d": 3 * DAY_NS}


@dataclass
class Predicted:
    """One prediction: when, whether it was right, when its label comes, and whether that has been told."""

    number: int
    at_ns: int
    right: bool
    label_ns: int
    told: bool = False


def plan(chosen: random.Random, start_ns: int) -> list[Predicted]:
    """Nine days: as a rule one wrong in fifty, six hours of one in three; labels minutes to three days late."""
    made = []
    for number in range(1_500):
        at_ns = start_ns + chosen.randrange(9 * DAY_NS)
        incident = 4 * DAY_NS <= at_ns - start_ns < 4 * DAY_NS + 6 * HOUR_NS
        delay_ns = chosen.choice((MINUTE_NS, HOUR_NS, DAY_NS, 3 * DAY_NS)) * chosen.randrange(1, 100) // 100
        right = chosen.random() > (1 / 3 if incident else 1 / 50)
        made.append(Predicted(number, at_ns, right, at_ns + delay_ns))
    return sorted(made, key=lambda one: one.at_ns)


class Naive:
    """A list of events, and the alerts of its tiers from turn to turn."""

    def __init__(self, slo: SLO) -> None:
        self.events: list[Predicted] = []
        self.tiers = slo.alert_plan.tiers
        self.firing: set[str] = set()

    def over(self, window_ns: int, now_ns: int) -> Counts:
        first_ns = (now_ns - window_ns) // SLOT_NS * SLOT_NS
        known = [one.right for one in self.events if one.told and one.at_ns // SLOT_NS * SLOT_NS >= first_ns]
        return Counts(sum(known), len(known) - sum(known), 0)

    def burn(self, window_ns: int, now_ns: int) -> Fraction | None:
        counts = self.over(window_ns, now_ns)
        return Fraction(counts.bad, counts.valid) / (1 - TARGET) if counts.valid else None

    def turn(self, now_ns: int) -> set[str]:
        for tier in self.tiers:
            long, short = self.burn(tier.long_ns, now_ns), self.burn(tier.short_ns, now_ns)
            if short is None:  # which neither fires nor resolves
                continue
            fires = long is not None and long > tier.factor and short > tier.factor
            self.firing = self.firing | {tier.name} if fires else self.firing - {tier.name}
        return self.firing


def firing(engine: Engine, names: set[str]) -> set[str]:
    alerts = engine.runner.store.notes.alerts()
    return {key[2] for key, data in alerts.items() if data["state"] == "firing" and key[2] in names}


@pytest.mark.parametrize("seed", range(3))
def test_each_window_is_revised_as_a_list_of_events_says(make_engine: Any, seed: int) -> None:
    slo = SLO("right", indicator="accuracy", target="95%", window="7d", alerts={"guard": "off"})
    engine = make_engine(slo)
    engine.runner.tick()
    chosen, naive = random.Random(seed), Naive(slo)
    start_ns = engine.clock.wall_ns()
    waiting = plan(chosen, start_ns)
    seen: set[str] = set()
    for step in range(13 * 8):  # thirteen days of three hours: the labels go on after the last prediction
        advance(engine, s=3 * 3600 + chosen.randrange(-200, 200))
        now_ns = engine.clock.wall_ns()
        for one in [one for one in waiting if one.at_ns <= now_ns]:
            engine.log_prediction("m", id=one.number, output=1, at=one.at_ns / 10**9)
            naive.events.append(one)
        waiting = [one for one in waiting if one.at_ns > now_ns]
        for one in naive.events:
            if not one.told and one.label_ns <= now_ns:
                engine.log_label("m", id=one.number, truth=int(one.right), at=one.label_ns / 10**9)
                one.told = True
        engine.runner.tick()
        expected = naive.turn(now_ns)
        assert firing(engine, {tier.name for tier in naive.tiers}) == expected, step
        seen |= expected
        found = next((one for one in engine.status() if one.slo == "right"), None)
        if found is None:
            assert not naive.events
            continue
        counts = naive.over(WINDOW_NS, now_ns)
        assert found.counts == counts, step
        assert (found.budget.spent, found.budget.allowed) == (counts.bad, counts.valid * (1 - TARGET))
        assert dict(found.burn) == {name: naive.burn(window_ns, now_ns) for name, window_ns in BURNS.items()}
    assert all(one.told for one in naive.events)
    assert seen, "an incident of six hours burns fast enough for a ticket"
