"""What drift costs a row, and how often it is wrong: false alarms without drift, drift that is missed, outliers.

Rates are simulated from counts: the bins are of drawn baselines (10,000 rows), each feature's counts of baseline and
window are drawn anew from the shares of two million values, with nothing between the two. Windows are judged with
practically no limit, so that chance alone decides. The features have thin bins on purpose: nearly always 0, Poisson,
and categories whose frequencies follow Zipf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from . import ours
from .harness import Contender, Plan, expect, interleave
from .results import Results

FEATURES, BATCH = 20, 1_000
BASELINE_ROWS, COUNTED = 10_000, 7_500
RUNS_A_ROUND = 50
NO_LIMIT, TENTH = Fraction(1, 10**9), Fraction(1, 10)
ZIPF = np.arange(1, 1001) ** -1.0
ZIPF_STEEP = np.arange(1, 41) ** -1.5
COSTS = ("drift_numeric_row_us", "drift_mixed_row_us", "drift_single_row_us")
ALARMS = {
    (features, rows): f"drift_alarms_{features}_features_{rows}_rows_percent"
    for features in (1, FEATURES)
    for rows in (100, 1_000, 10_000)
}
QUALITY = ("drift_million_rows_alarms", "drift_missed_at_a_quarter_percent", "drift_outliers_that_hide_it")
NAMES = (*COSTS, *ALARMS.values(), *QUALITY, "drift_alarms_by_kind")

Draw = Callable[[np.random.Generator, int], Any]
KINDS: dict[str, tuple[str, Draw]] = {
    "normal": ("numeric", lambda chance, rows: chance.normal(size=rows)),
    "mostly_0": ("numeric", lambda chance, rows: (chance.random(rows) < 0.05) * chance.lognormal(size=rows)),
    "poisson": ("numeric", lambda chance, rows: chance.poisson(3, rows).astype(float)),
    "zipf": ("categorical", lambda chance, rows: chance.choice(len(ZIPF), rows, p=ZIPF / ZIPF.sum())),
    "zipf_steep": ("categorical", lambda chance, rows: chance.choice(40, rows, p=ZIPF_STEEP / ZIPF_STEEP.sum())),
}


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    _costs(plan, results)
    _false_alarms(plan, results)
    _million(plan, results)
    _missed(plan, results)
    _outliers(plan, results)


# ── cost ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _costs(plan: Plan, results: Results) -> None:
    chance = np.random.default_rng(1)
    countries = np.array([f"country-{number}" for number in range(30)])
    numeric = {f"n{number}": chance.normal(size=BASELINE_ROWS) for number in range(FEATURES)}
    mixed = {f"n{number}": chance.normal(size=BASELINE_ROWS) for number in range(FEATURES // 2)}
    mixed |= {f"c{number}": countries[chance.integers(0, 30, BASELINE_ROWS)] for number in range(FEATURES // 2)}
    for name, columns, single in (
        ("drift_numeric_row_us", numeric, False),
        ("drift_mixed_row_us", mixed, False),
        ("drift_single_row_us", mixed, True),
    ):
        with ours.engine([ours.drift_slo(columns)]) as engine:
            rows: Any = {feature: column[:BATCH] for feature, column in columns.items()}
            if single:
                rows = {feature: column[0].item() for feature, column in rows.items()}
            names = {"observe": engine.features.observe, "rows": rows}
            mine = Contender("ours", 'observe("stream", rows)', names, 1 if single else BATCH)
            samples = interleave([mine], plan)["ours"]
            expect(name, ours.rows_of_features(engine), mine.calls * (1 if single else BATCH))
        what = f"{FEATURES} features, " + ("a row at a time" if single else f"batches of {BATCH:,} rows")
        results.figure(name, [ns / 1_000 for ns in samples], what)


# ── right and wrong ────────────────────────────────────────────────────────────────────────────────────────────────
def _shares(chance: np.random.Generator, kind: str) -> list[np.ndarray]:
    """Shares of the bins of some baselines of a kind."""
    named, draw = KINDS[kind]
    whole = draw(chance, 2_000_000)
    found = []
    for _ in range(10):
        counts = ours.baseline_of(draw(chance, BASELINE_ROWS), named).bins.count(whole)
        found.append(counts / counts.sum())
    return found


def _pairs(chance: np.random.Generator, shares: list[np.ndarray], features: int, rows: int) -> dict[str, Any]:
    drawn = [shares[number] for number in chance.integers(0, len(shares), features)]
    return {
        str(number): ours.pair_of(chance.multinomial(COUNTED, one), chance.multinomial(rows, one))
        for number, one in enumerate(drawn)
    }


def _false_alarms(plan: Plan, results: Results) -> None:
    chance, runs = np.random.default_rng(2), plan.rounds * RUNS_A_ROUND
    shares = {kind: _shares(chance, kind) for kind in KINDS}
    table = []
    for (features, rows), name in ALARMS.items():
        by_kind = {
            kind: sum(ours.has_alarm(_pairs(chance, held, features, rows), NO_LIMIT) for _ in range(runs))
            for kind, held in shares.items()
        }
        percent = {f"{kind}_percent": 100 * alarms / runs for kind, alarms in by_kind.items()}
        table.append({"features": features, "rows": rows, **percent})
        pooled = 100 * sum(by_kind.values()) / (runs * len(by_kind))
        results.figure(name, [pooled], f"{runs * len(by_kind):,} windows without drift, of {len(KINDS)} kinds")
    results.table("drift_alarms_by_kind", table, f"windows called drifted where nothing is, of {runs:,} each")


def _million(plan: Plan, results: Results) -> None:
    """A real difference that does not matter: a twentieth of a standard deviation, PSI 0.003."""
    chance, runs = np.random.default_rng(3), plan.rounds
    alarms = 0
    for _ in range(runs):
        one = ours.baseline_of(chance.normal(size=BASELINE_ROWS), "numeric")
        live = one.bins.count(chance.normal(0.05, 1, 1_000_000))
        alarms += ours.has_alarm({"x": ours.pair_of(one.counts, live)}, TENTH)
    results.figure("drift_million_rows_alarms", [alarms], f"{runs} windows of 1,000,000 rows, PSI 0.003, limit 0.1")


def _missed(plan: Plan, results: Results) -> None:
    chance, runs = np.random.default_rng(4), plan.rounds * RUNS_A_ROUND
    even, moved = np.full(10, 0.1), _shifted(0.25)
    missed = 0
    for _ in range(runs):
        drawn = {str(n): ours.pair_of(*_draws(chance, even, even)) for n in range(FEATURES - 1)}
        drawn["moved"] = ours.pair_of(*_draws(chance, even, moved))
        missed += not ours.has_alarm(drawn, TENTH, only="moved")
    note = f"{runs:,} windows of 1,000 rows in which one feature of {FEATURES} has PSI 0.25, limit 0.1"
    results.figure("drift_missed_at_a_quarter_percent", [100 * missed / runs], note)


def _draws(chance: np.random.Generator, before: np.ndarray, after: np.ndarray) -> Iterator[np.ndarray]:
    yield chance.multinomial(COUNTED, before)
    yield chance.multinomial(1_000, after)


def _shifted(index: float) -> np.ndarray:
    """Shares of ten bins whose PSI against even ones is `index`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        tilt = (low + high) / 2
        shares = 0.1 * (1 + tilt * np.linspace(-1, 1, 10))
        low, high = (tilt, high) if ((shares - 0.1) * np.log(shares / 0.1)).sum() < index else (low, tilt)
    return shares


def _outliers(plan: Plan, results: Results) -> None:
    chance, runs = np.random.default_rng(5), plan.rounds * 5
    hidden = 0
    for _ in range(runs):
        one = ours.baseline_of(chance.normal(size=BASELINE_ROWS), "numeric")
        live = np.append(chance.normal(0.5, 1, 1_000), 1_000.0)
        hidden += not ours.has_alarm({"x": ours.pair_of(one.counts, one.bins.count(live))}, TENTH)
    note = f"{runs} windows of N(0.5, 1) against N(0, 1), with the value 1,000 among 1,000 rows, limit 0.1"
    results.figure("drift_outliers_that_hide_it", [hidden], note)
