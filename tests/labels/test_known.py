"""What is known of predictions, beside what is counted: of slices, of what is excluded since, to the slot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli.invoke import invoke
from drive import advance
from hypothesis import given
from hypothesis import strategies as st

from otelslo import SLO, Engine
from otelslo.cli import state
from otelslo.coverage import coverage_of, spans_to_sum
from otelslo.dated import SLOT_NS
from otelslo.kept import Row, SlotCounts
from otelslo.label_record import Label, Prediction
from otelslo.window import DAY_NS, HOUR_NS

RIGHT = SLO("right", indicator="accuracy", target="90%", window="7d", options={"label_within": "1d"})
SLICED = SLO("sliced", indicator="accuracy", target="50%", window="7d", budgeting="timeslices", slice="1h",
             slice_target="50%")  # fmt: skip


@pytest.fixture
def engine(make_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = make_engine(RIGHT, SLICED)
    monkeypatch.setattr(state, "SystemClock", lambda epoch_ns=0: engine.clock)
    return engine


def predict(engine: Engine, ids: range, ago_ns: int, truth: object = None) -> None:
    """All outputs are 1; where there is a truth, it is told an hour later."""
    at_ns = engine.clock.wall_ns() - ago_ns
    for number in ids:
        engine.labels.put(Prediction("m", str(number), at_ns, 1, None, {}))
        if truth is not None:
            engine.labels.put(Label("m", str(number), at_ns + HOUR_NS, truth))
    engine.runner.tick()
    advance(engine, s=1)
    engine.runner.tick()


def told(engine: Engine) -> dict[str, dict[str, Any]]:
    result = invoke("status", "--state-dir", engine.state_dir, "--json")
    return {one["slo"]: one for one in json.loads(result.stdout)}


def test_slices_and_predictions_are_not_added_up(engine: Engine) -> None:
    for hour in range(3):
        predict(engine, range(10 * hour, 10 * hour + 10), (hour + 2) * HOUR_NS, 1)
    predict(engine, range(50, 70), 2 * HOUR_NS)
    found = told(engine)
    assert (found["sliced"]["unit"], found["sliced"]["good"]) == ("timeslices", 3)
    assert found["sliced"]["labels"]["pending"] == 20
    assert found["sliced"]["labels"]["sli_if_unknown_bad"] is found["sliced"]["labels"]["sli_if_unknown_good"] is None
    assert found["right"]["labels"]["sli_if_unknown_bad"] == 30 / 50


@pytest.mark.parametrize("slo", ["right", None])
def test_what_is_excluded_since_is_not_waited_for(engine: Engine, slo: str | None) -> None:
    now_ns, notes = engine.clock.wall_ns(), engine.runner.store.notes
    predict(engine, range(10), 4 * HOUR_NS, 1)
    predict(engine, range(10, 40), 3 * HOUR_NS)
    predict(engine, range(40, 45), 2 * HOUR_NS, 0)
    before = told(engine)
    assert before["right"]["labels"]["pending"] == 30
    other = notes.exclude("sliced", now_ns - 9 * HOUR_NS, now_ns, "another's", now_ns)
    assert told(engine)["right"]["labels"] == before["right"]["labels"]
    notes.undo_exclusion(other, now_ns)
    notes.exclude(slo, now_ns - 200 * 60 * 10**9, now_ns - 150 * 60 * 10**9, "a wrong feed", now_ns)
    found = told(engine)["right"]
    assert (found["good"], found["bad"]) == (10, 5)
    assert (found["labels"]["predictions"], found["labels"]["pending"], found["labels"]["coverage"]) == (15, 0, 1.0)
    assert found["labels"]["sli_if_unknown_bad"] == found["labels"]["sli_if_unknown_good"] == 10 / 15


@given(
    st.dictionaries(st.integers(0, 40), st.integers(1, 9)),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), max_size=4),
    st.integers(0, 40 * SLOT_NS),
    st.integers(0, 45 * SLOT_NS),
    st.sampled_from([None, 0, SLOT_NS, 7 * SLOT_NS + 1]),
)
def test_spans_hold_each_slot_once_and_none_that_is_excluded(
    predicted: dict[int, int], cuts: list[tuple[int, int]], start_ns: int, now_ns: int, within_ns: int | None
) -> None:
    row = Row(1, "key", "right", "m", None, within_ns, "excluded")
    gone = {slot for first, length in cuts for slot in range(first, first + length)}
    excluded = [(slot * SLOT_NS, (slot + 1) * SLOT_NS) for slot in sorted(gone)]
    seen = range(start_ns // SLOT_NS, now_ns // SLOT_NS + 1)
    kept = {slot: count for slot, count in predicted.items() if slot not in gone and slot in seen}
    naive = [SlotCounts(slot * SLOT_NS, count) for slot, count in kept.items()]
    summed = [
        SlotCounts(a, sum(count for slot, count in predicted.items() if a <= slot * SLOT_NS < b))
        for a, b in spans_to_sum(row, start_ns, now_ns, excluded)
    ]
    assert coverage_of(row, summed, None, now_ns) == coverage_of(row, naive, None, now_ns)


def test_a_window_of_days_needs_few_sums() -> None:
    row = Row(1, "key", "right", "m", None, DAY_NS, "excluded")
    assert len(spans_to_sum(row, 0, 30 * DAY_NS, [(DAY_NS, 2 * DAY_NS)])) == 3
