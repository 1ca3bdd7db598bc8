"""A stream of rows with three features, their baselines, and objectives about it."""

from __future__ import annotations

import numpy as np

from otelslo import SLO
from otelslo.drift.baseline import Baseline

FEATURES = ("age", "amount", "country")
COUNTRIES = np.array(["de", "fr", "it", "at"])
PSI = {"measure": "psi", "limit": 0.1, "every": "1h"}


def columns(chance, rows, *, older=0.0, country=(0.4, 0.3, 0.2, 0.1)):
    """`rows` rows by column; `older` moves the age by so many standard deviations."""
    return {
        "age": chance.normal(40 + 10 * older, 10, rows),
        "amount": chance.lognormal(3, 1, rows),
        "country": chance.choice(COUNTRIES, rows, p=country),
    }


def baselines(rows=10_000, seed=1):
    column = columns(np.random.default_rng(seed), rows)
    kinds = {"age": "numeric", "amount": "numeric", "country": "categorical"}
    return [Baseline.of(name, column[name], kind) for name, kind in kinds.items()]


BASELINES = baselines()


def objective(name="fraud-drift", *, stream="fraud", window="28d", target="50%", group_by=None, **options):
    given = PSI | {"baseline": BASELINES} | options
    return SLO(
        name, indicator="drift", match={"route": stream}, window=window, target=target, group_by=group_by, options=given
    )
