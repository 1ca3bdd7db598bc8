"""The model: a logistic regression, trained in a moment on payments that are made up."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

VERSION = "2026-11-01"
FEATURES = ("amount", "foreign", "hour")


def payments(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of FEATURES, and whether each was a fraud: large foreign payments at night mostly are."""
    chance = np.random.default_rng(seed)
    amount = chance.lognormal(3.5, 1.0, number)
    foreign = chance.random(number) < 0.2
    hour = chance.integers(0, 24, number)
    risk = 0.02 * amount + 2.0 * foreign + 1.5 * (hour < 6) - 4.5
    is_fraud = chance.random(number) < 1 / (1 + np.exp(-risk))
    return np.column_stack([amount, foreign, hour < 6]), is_fraud.astype(int)


def train() -> Pipeline:
    """A model of 5,000 payments."""
    rows, is_fraud = payments(5_000, seed=1)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, is_fraud)
