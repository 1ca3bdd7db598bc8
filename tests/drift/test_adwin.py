"""ADWIN by river: the same changes at the same outcomes as river's own, and clear errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from otelslo.drift.adwin import OutcomeStream
from otelslo.errors import BadValue, OtelsloError

drift = pytest.importorskip("river.drift", reason="needs river", exc_type=ImportError)


def outcomes(*parts, seed=1):
    chance = np.random.default_rng(seed)
    return np.concatenate([chance.random(n) < rate for n, rate in parts]).tolist()


@pytest.mark.parametrize("delta", [0.002, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_changes_are_those_that_river_sees(delta, seed) -> None:
    theirs, mine = drift.ADWIN(delta=delta), OutcomeStream(delta)
    due, found = [], []
    for number, outcome in enumerate(outcomes((3_000, 0.05), (3_000, 0.15), (3_000, 0.05), seed=seed), 1):
        theirs.update(float(outcome))
        if theirs.drift_detected:
            due.append((number, theirs.estimation, int(theirs.width)))
        change = mine.add(outcome)
        if change is not None:
            found.append((change.at, change.after, change.kept))
    assert found == due
    assert len(found) >= 2


def test_a_change_says_from_what_to_what() -> None:
    mine = OutcomeStream()
    changes = [change for one in outcomes((20_000, 0.01), (10_000, 0.10)) if (change := mine.add(one)) is not None]
    assert 20_000 < changes[0].at < 21_000
    assert changes[0].before == pytest.approx(0.01, abs=0.005)
    assert changes[0].after > changes[0].before
    assert len(changes) < 10


def test_scores_are_taken_too() -> None:
    mine = OutcomeStream()
    assert [mine.add(score) for score in (0, 1, 0.5, True, False)] == [None] * 5


@pytest.mark.parametrize("outcome", [2, -0.1, float("nan"), None, "bad", [1]])
def test_what_is_no_outcome(outcome) -> None:
    with pytest.raises(BadValue, match=r"no outcome.*from 0 to 1"):
        OutcomeStream().add(outcome)


@pytest.mark.parametrize("delta", [0, 1, -1, True, "x"])
def test_deltas_that_are_none(delta) -> None:
    with pytest.raises(BadValue, match="between 0 and 1"):
        OutcomeStream(delta)


def test_without_river_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "river.drift", None)
    with pytest.raises(OtelsloError, match=r"pip install 'otelslo\[river\]'"):
        OutcomeStream()
