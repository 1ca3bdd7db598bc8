"""What the guard against chance costs and saves: how late pages come, and how many come for nothing.

Traffic is drawn in slots of ten seconds and decided by the engine's own deciders, slot by slot as a leader would; numpy
only says at which turns no decision can change, and those are left out. There is no engine in it: a test plays a small
case through both. Seeds are fixed. Failures come alone, or three at a time within one trace (a request that is tried
three times), which the guard counts as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from otelslo.alert_states import AlertState, StateKey, Transition, firing_names, step
from otelslo.alerting import findings
from otelslo.alerts import PAGE, AlertPlan, Tier, default_tiers
from otelslo.counts import Counts
from otelslo.ring.geometry import Geometry
from otelslo.window import DAY_NS, HOUR_NS

from .harness import Plan
from .results import Results

NAMES = ("alert_detection", "alert_false_pages")
TARGET, WINDOW_NS = Fraction(999, 1000), 30 * DAY_NS
TIERS = default_tiers(WINDOW_NS, TARGET)
RATES_PER_S = {"10/h": 10 / 3600, "100/h": 100 / 3600, "1/s": 1.0, "100/s": 100.0, "10k/s": 10_000.0}
TRIES = {"alone": 1, "in threes": 3}
BURNS = (Fraction(1, 2), Fraction(1))
INCIDENTS = (10, 100)
SEED = 20_261_101

_RING = Geometry()
SLOT_NS = _RING.fine_ns
_MONTH_SLOTS, _PAGES_REACH_SLOTS = WINDOW_NS // SLOT_NS, 7 * HOUR_NS // SLOT_NS
_CALM_SLOTS = _INCIDENT_SLOTS = 3 * DAY_NS // SLOT_NS
_SLO = "simulated"
_QUIET, _ABOVE, _UNKNOWN = 0, 1, 2
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Slots:
    """Sums of what came before each slot; turn n is decided at the beginning of slot n."""

    valid: Numbers
    bad: Numbers
    excess: Numbers

    @classmethod
    def of(cls, valid: Numbers, bad: Numbers, excess: Numbers) -> Slots:
        """From what came in each slot."""
        return cls(*(np.concatenate(([0], np.cumsum(part))) for part in (valid, bad, excess)))

    def counts_over(self, turn: int, length_ns: int) -> Counts:
        first = int(_first_slot(np.array(turn), length_ns))
        bad = int(self.bad[turn] - self.bad[first])
        return Counts(int(self.valid[turn] - self.valid[first]) - bad, bad)

    def excess_over(self, turn: int, length_ns: int) -> int:
        return int(self.excess[turn] - self.excess[max(turn - length_ns // SLOT_NS, 0)])


def _first_slot(turns: Numbers, length_ns: int) -> Numbers:
    """The first slot of a window, as the ring has it: long windows begin where a coarse slot does."""
    first = turns - length_ns // SLOT_NS
    if length_ns // SLOT_NS >= _RING.fine_slots - 1:
        first = first // _RING.fine_per_coarse * _RING.fine_per_coarse
    return np.maximum(first, 0)


def draw(chance: np.random.Generator, per_s: float, failing: npt.NDArray[np.float64], tries: int) -> Slots:
    """Events at a rate of `per_s`, of which the share `failing` of each slot fails, `tries` at a time."""
    visitors_fail = failing / (tries - (tries - 1) * failing)  # each of whom fails `tries` times
    visits = chance.poisson(per_s * SLOT_NS / 1e9 / (1 + (tries - 1) * visitors_fail))
    failed = chance.binomial(visits, visitors_fail)
    return Slots.of(visits + (tries - 1) * failed, tries * failed, tries * (tries - 1) * failed)


@dataclass(frozen=True)
class _Watched:
    """Turns at which a tier's verdict may change: where its windows come to say something else, and where the guard has
    other events to look at."""

    says: Numbers
    guard_looks: Numbers

    @classmethod
    def of(cls, slots: Slots, tier: Tier) -> _Watched:
        turns = np.arange(1, len(slots.valid), dtype=np.int64)
        bar = tier.factor * (1 - TARGET)
        above, long, short_valid = np.ones(len(turns), dtype=bool), [], np.zeros(0)
        for length_ns in (tier.long_ns, tier.short_ns):
            first = _first_slot(turns, length_ns)
            valid, bad = (total[turns] - total[first] for total in (slots.valid, slots.bad))
            above &= bad * bar.denominator > valid * bar.numerator
            long, short_valid = long or [valid, bad], valid
        long.append(slots.excess[turns] - slots.excess[np.maximum(turns - tier.long_ns // SLOT_NS, 0)])
        says = np.where(short_valid == 0, _UNKNOWN, np.where(above, _ABOVE, _QUIET))
        other = np.zeros(len(turns), dtype=bool)
        for part in long:
            other |= np.diff(part, prepend=-1) != 0
        return cls(turns[np.diff(says, prepend=_QUIET) != 0], turns[(says == _ABOVE) & other])


def decided(slots: Slots, plan: AlertPlan, every_turn: bool = False) -> Iterator[tuple[int, Transition]]:
    """What people are told, and at which turn. `every_turn` leaves none out: slow, for a test."""
    watched = {tier.name: _Watched.of(slots, tier) for tier in plan.tiers}
    changes = np.unique(np.concatenate([one.says for one in watched.values()]))
    states: dict[StateKey, AlertState] = {}
    turn, last = 0, len(slots.valid) - 1
    while True:
        firing = firing_names(states, _SLO, None)
        if every_turn:
            turn = turn + 1 if turn < last else 0
        else:
            looks = [changes]
            if plan.confidence is not None:
                looks += [one.guard_looks for name, one in watched.items() if name not in firing]
            turn = min((int(at[i]) for at in looks if (i := np.searchsorted(at, turn, "right")) < len(at)), default=0)
        if not turn:
            return
        found = findings(
            plan,
            TARGET,
            WINDOW_NS,
            partial(slots.counts_over, turn),
            partial(slots.excess_over, turn),
            remaining_ratio=None,
            observed_ns=turn * SLOT_NS,
            ever_valid=True,
            firing=firing,
        )
        after, told = step(states, _SLO, None, found, {}, turn * SLOT_NS)
        states = {state.key: state for state in after}
        yield from ((turn, transition) for transition in told)


def plan_of(guarded: bool, tiers: Sequence[Tier] = TIERS) -> AlertPlan:
    """The burn-rate alerts alone, with the default guard or without one."""
    return AlertPlan(tuple(tiers), AlertPlan().confidence if guarded else None, exhausted=None, exclusion_share=None)


def pages_in_a_month(slots: Slots, guarded: bool) -> int:
    """How often somebody is paged in the month after the first hours, in which the windows fill."""
    plan = plan_of(guarded, [tier for tier in TIERS if tier.severity == PAGE])
    return sum(told.event == "firing" for turn, told in decided(slots, plan) if turn > _PAGES_REACH_SLOTS)


def false_pages(per_s: float, tries: int, burn: Fraction, months: int, seed: Sequence[int]) -> dict[str, float]:
    """Pages a month at a burn rate that the budget allows, without and with the guard, on the same traffic."""
    chance = np.random.default_rng(seed)
    failing = np.full(_PAGES_REACH_SLOTS + _MONTH_SLOTS, float(burn * (1 - TARGET)))
    pages = {False: 0, True: 0}
    for _ in range(months):
        slots = draw(chance, per_s, failing, tries)
        for guarded in pages:
            pages[guarded] += pages_in_a_month(slots, guarded)
    return {"guard off": pages[False] / months, "guard on": pages[True] / months}


def delays_s(slots: Slots, guarded: bool, begins_s: float) -> tuple[float, float]:
    """From the beginning of an incident to the first page, and to whatever is told first; infinite if never.

    Nothing is waited for where a page fires already, by chance.
    """
    begins_turn, paging = math.ceil(begins_s * 1e9 / SLOT_NS), 0
    first_told = math.inf
    for turn, told in decided(slots, plan_of(guarded)):
        is_page = told.state.severity == PAGE
        if turn < begins_turn:
            paging += is_page * (1 if told.event == "firing" else -1)
            continue
        if paging:
            return 0.0, 0.0
        if told.event == "firing":
            delay_s = turn * SLOT_NS / 1e9 - begins_s
            first_told = min(first_told, delay_s)
            if is_page:
                return delay_s, first_told
    return (0.0, 0.0) if paging else (math.inf, first_told)


def detection(per_s: float, tries: int, burn: int, incidents: int, seed: Sequence[int]) -> dict[str, float | None]:
    """How long incidents go unnoticed that begin at any moment of a service that burns at half of what is allowed."""
    chance = np.random.default_rng(seed)
    calm, worse = float(BURNS[0] * (1 - TARGET)), float(burn * (1 - TARGET))
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(incidents):
        failing = np.full(_CALM_SLOTS + _RING.fine_per_coarse + _INCIDENT_SLOTS, worse)
        begins = _CALM_SLOTS + chance.uniform(0, _RING.fine_per_coarse)
        whole, part = int(begins), begins - int(begins)
        failing[:whole], failing[whole] = calm, part * calm + (1 - part) * worse
        slots = draw(chance, per_s, failing, tries)
        for guarded, delays in found.items():
            delays.append(delays_s(slots, guarded, begins * SLOT_NS / 1e9))
    row: dict[str, float | None] = {}
    for guarded, name in ((False, "off"), (True, "on")):
        pages, alerts = zip(*found[guarded], strict=True)
        row |= {f"{name}: page, median_s": quantile(pages, 0.5), f"{name}: page, p90_s": quantile(pages, 0.9)}
        row |= {f"{name}: any, p90_s": quantile(alerts, 0.9)}
    return row


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that so many do not exceed; None if that is infinite."""
    value = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
    return None if math.isinf(value) else value


def run(plan: Plan, results: Results) -> None:
    """Simulate all of NAMES."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for rate, (traffic, per_s) in enumerate(RATES_PER_S.items()):
        for failures, tries in TRIES.items():
            case = {"traffic": traffic, "failures": failures}
            for number, incident in enumerate(INCIDENTS):
                found = detection(per_s, tries, incident, plan.incidents, (SEED, 0, rate, tries, number))
                rows["alert_detection"].append(case | {"burn": incident} | found)
            for number, burn in enumerate(BURNS):
                pages = false_pages(per_s, tries, burn, plan.months, (SEED, 1, rate, tries, number))
                rows["alert_false_pages"].append(case | {"burn": float(burn)} | pages)
    told = "page: the first page; any: the first page or ticket. '-': later than 3 d, or never"
    results.table(
        "alert_detection", rows["alert_detection"], f"guard off and on; {plan.incidents} incidents a row; {told}"
    )
    note = f"pages a month (each tier that fires is one); {plan.months} months a row, the same traffic off and on"
    results.table("alert_false_pages", rows["alert_false_pages"], note)
