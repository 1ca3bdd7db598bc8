"""What passes by is counted as a naive twin counts it, in whatever form it comes; and nothing that is wrong is felt."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otelslo
from drift.stream import BASELINES, FEATURES, columns, objective
from otelslo import default, live_baseline
from otelslo.binbook import totals
from otelslo.drift.baseline import Baseline
from otelslo.drift.kept import read_baselines, write_baselines
from otelslo.drift.rows import Table
from otelslo.errors import DefinitionError

NAMED = {one.feature: one for one in BASELINES}
values = st.one_of(
    st.none(),
    st.floats(),
    st.floats(0, 100),
    st.integers(-10, 200),
    st.sampled_from(["de", "fr", "xx", "", "12"]),
    st.booleans(),
    st.just(10**400),
)
rows_drawn = st.lists(st.dictionaries(st.sampled_from([*FEATURES, "unasked"]), values), min_size=1, max_size=20)


@pytest.fixture
def engine(make_engine):
    return make_engine(objective())


def counted(engine, slo="fraud-drift"):
    """Counts of each bin since the beginning, by feature."""
    (watch,) = [one for one in engine.features.watches if one.slo.name == slo]
    names = watch.histograms
    held = totals(engine.ring.reader, watch.sizes)
    return {feature: held[names[feature]] for feature in watch.baselines}


def naive(rows):
    """One value at a time."""
    found = {}
    for feature, one in NAMED.items():
        bins = Counter(one.bins.bin_of(row.get(feature)) for row in rows)
        found[feature] = tuple(bins[number] for number in range(one.bins.size))
    return found


def add(*several):
    return {f: tuple(map(sum, zip(*(one[f] for one in several), strict=True))) for f in FEATURES}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_drawn)
def test_bins_equal_a_naive_twin_in_every_form(engine, rows) -> None:
    before, due = counted(engine), naive(rows)
    engine.features.observe("fraud", rows)
    engine.features.observe("fraud", {name: [row.get(name) for row in rows] for name in FEATURES})
    for row in rows:
        engine.features.observe("fraud", row)
    table = np.array([[row.get(name) for name in FEATURES] for row in rows], dtype=object)
    engine.features.observe("fraud", table, FEATURES)
    engine.features.observe("fraud", table.tolist(), list(FEATURES))
    assert counted(engine) == add(before, *[due] * 5)
    assert engine.faults() == {}


def test_arrays_of_numpy_and_frames(engine) -> None:
    column = columns(np.random.default_rng(5), 500, older=2)
    due = naive([dict(zip(FEATURES, row, strict=True)) for row in zip(*column.values(), strict=True)])
    engine.features.observe("fraud", column)
    structured = np.empty(500, dtype=[("country", "U8"), ("age", "f8"), ("amount", "f8"), ("more", "i4")])
    for name in FEATURES:
        structured[name] = column[name]
    engine.features.observe("fraud", structured)
    for row in structured[:250]:
        engine.features.observe("fraud", row.reshape(1) if isinstance(row, np.ndarray) else np.array([row]))
    engine.features.observe("fraud", structured[250:])

    class Frame(SimpleNamespace):
        columns = np.array([*FEATURES, "more"])

        def __len__(self):
            return 500

        def __getitem__(self, name):
            return column[name]

    engine.features.observe("fraud", Frame())
    assert counted(engine) == add(due, due, due, due)
    two = {"age": np.float64(30), "amount": np.array(3.0), "country": np.str_("de")}
    engine.features.observe("fraud", two)
    assert counted(engine) == add(due, due, due, due, naive([{"age": 30, "amount": 3.0, "country": "de"}]))
    assert engine.faults() == {}


def test_a_feature_that_is_not_there_is_missing(engine) -> None:
    engine.features.observe("fraud", {"age": [1.0, 40.0]})
    engine.features.observe("fraud", [{}, {"age": None}])
    engine.features.observe("fraud", {})
    assert counted(engine) == naive([{"age": 1.0}, {"age": 40.0}, {}, {}, {}])


@pytest.mark.parametrize(
    ("rows", "names", "says"),
    [
        ({"age": [1.0], "amount": [1.0, 2.0]}, None, "different lengths"),
        (np.zeros((3, 3)), None, "needs names="),
        (np.zeros((3, 2)), FEATURES, "not the 3 columns"),
        (np.zeros((3, 3, 3)), FEATURES, "not the 3 columns"),
        ("abc", None, "str are no rows"),
        (7, None, "int are no rows"),
        ([1, 2], None, "need names="),
        ({"age": np.zeros((2, 2))}, None, "2 dimensions"),
    ],
)
def test_what_are_no_rows_is_a_fault_and_nothing_is_counted(engine, caplog, rows, names, says) -> None:
    engine.features.observe("fraud", rows, names)
    assert engine.faults() == {"user_code": 1}
    assert says in caplog.text
    assert sum(map(sum, counted(engine).values())) == 0


def test_no_rows_at_all_are_none(engine) -> None:
    for nothing in ([], {"age": []}, np.empty((0, 3))):
        engine.features.observe("fraud", nothing, FEATURES)
    assert sum(map(sum, counted(engine).values())) == 0
    assert engine.faults() == {}


def test_a_stream_that_nobody_asks_for_is_said_once(engine, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="otelslo"):
        for _ in range(3):
            engine.features.observe("frau", {"age": 1.0})
    assert caplog.text.count("no objective of drift is about 'frau'. Did you mean 'fraud'?") == 1
    assert engine.faults() == {}


def test_objectives_of_one_stream_share_what_is_the_same(make_engine) -> None:
    other = Baseline.of("age", columns(np.random.default_rng(9), 10_000)["age"], "numeric", bins=5)
    engine = make_engine(
        objective(), objective("same", limit=0.3), objective("other", baseline=[other]), objective("x", stream="x")
    )
    before = engine.ring.reader.rows
    engine.features.observe("fraud", columns(np.random.default_rng(3), 100))
    assert engine.ring.reader.rows == before
    assert counted(engine) == counted(engine, "same")
    assert {sum(bins) for bins in counted(engine).values()} == {100}
    assert sum(counted(engine, "other")["age"]) == 100
    assert len(counted(engine, "other")["age"]) == other.bins.size
    assert sum(map(sum, counted(engine, "x").values())) == 0


def test_workers_and_forked_children_count_together(make_engine, tmp_path) -> None:
    first = make_engine(objective(), state_dir=tmp_path)
    second = make_engine(objective(), state_dir=tmp_path)
    first.features.observe("fraud", {"age": 1.0})
    second.features.observe("fraud", {"age": 1.0})
    pid = os.fork()
    if pid == 0:
        first.features.observe("fraud", {"age": 1.0})
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert counted(second) == naive([{"age": 1.0}] * 3)


# ── where baselines come from ──────────────────────────────────────────────────────────────────────────────────────
def test_from_a_file_with_some_of_its_features(make_engine, tmp_path) -> None:
    write_baselines(tmp_path / "baseline.json", BASELINES)
    assert read_baselines(tmp_path / "baseline.json") == NAMED
    slo = objective(baseline=str(tmp_path / "baseline.json"), features=["country", "age"])
    assert list(counted(make_engine(slo))) == ["country", "age"]


def test_a_file_that_is_moved_or_made_anew_is_no_new_meaning(tmp_path) -> None:
    assert objective(baseline="a.json").meaning == objective(baseline="b.json", tells=["kl"]).meaning
    assert objective(baseline="a.json").meaning != objective(baseline="a.json", limit=0.2).meaning
    one, other = ({"age": "numeric", "country": "categorical"}, {"country": "categorical", "age": "numeric"})
    live = {"baseline": "live:500"}
    assert objective(features=one, **live).meaning == objective(features=other, **live).meaning


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read.*Make it by `otelslo drift baseline`"),
        ("{", "cannot be read"),
        ("[]", "holds no baselines"),
        ('{"format": 1, "baselines": []}', "holds no baselines"),
        ('{"format": 9, "baselines": [1]}', "holds no baselines"),
        ('{"format": 1, "baselines": [{"feature": "age"}]}', "baseline 'age'"),
        (json.dumps({"format": 1, "baselines": [BASELINES[0].plain()] * 2}), "'age' is there twice"),
        (json.dumps({"format": 1, "baselines": [BASELINES[0].plain()]}), "no feature 'amount'.*Known: age"),
    ],
)
def test_a_bad_file_is_refused_at_start(make_engine, tmp_path, text, says) -> None:
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DefinitionError, match=f"(?s){says}"):
        make_engine(objective(baseline=str(path), features=["age", "amount"]))


def test_a_bad_file_leaves_a_running_service_as_it_is(engine, tmp_path) -> None:
    with pytest.raises(DefinitionError):
        engine.reload([objective(baseline=str(tmp_path / "none.json"))])
    engine.features.observe("fraud", {"age": 1.0})
    assert counted(engine) == naive([{"age": 1.0}])


def test_a_reload_takes_over_another_stream(engine) -> None:
    engine.reload([objective(stream="other")])
    engine.features.observe("other", {"age": 1.0})
    assert counted(engine) == naive([{"age": 1.0}])


def gathered(engine):
    return engine.runner.store.drift.gathered("fraud", engine.features.watches[0].source)


LIVE = {"baseline": "live:1000", "features": {"age": "numeric", "country": "categorical", "flat": "numeric"}}


def test_the_first_rows_of_all_workers_make_a_baseline(make_engine, tmp_path, caplog) -> None:
    clockless = {"state_dir": tmp_path}
    first, second = (make_engine(objective(**LIVE), **clockless) for _ in range(2))
    chance = np.random.default_rng(2)
    given = [columns(chance, 400) | {"flat": np.full(400, 5.0)} for _ in range(3)]
    given[1]["age"][:3] = math.inf, math.nan, -math.inf
    for engine, rows in ((first, given[0]), (second, given[1])):
        engine.features.observe("fraud", rows)
        engine.housekeeping()
    assert first.features.watches[0].baselines == {}
    assert gathered(first) == 800
    first.features.observe("fraud", given[2])
    first.housekeeping()
    made = first.features.watches[0].baselines
    assert list(made) == ["age", "country"], "a constant makes no baseline"
    assert "flat" in caplog.text
    assert "every value is 5" in caplog.text
    whole = [np.where(np.isfinite(rows["age"]), rows["age"], np.nan) for rows in given]
    assert made["age"] == Baseline.of("age", np.concatenate(whole)[:1000], "numeric", nan_is_missing=True)
    second.features.observe("fraud", {"age": [1.0] * 9})  # not judged: it does not know yet
    second.housekeeping()
    assert second.features.watches[0].baselines == made
    assert sum(map(sum, counted(second).values())) == 0
    second.features.observe("fraud", {"age": 1.0})
    first.features.observe("fraud", [{"age": 1.0}])
    assert counted(first)["age"] == tuple(2 * (n == made["age"].bins.bin_of(1.0)) for n in range(made["age"].bins.size))
    assert gathered(first) == 0


def test_of_a_large_table_only_the_rows_still_wanted_are_kept(make_engine) -> None:
    """And nothing is made while the database is locked for it."""
    engine = make_engine(objective(**LIVE))
    gathering = engine.features.watches[0].live
    parts = [columns(np.random.default_rng(n), n) | {"flat": np.arange(n)} for n in (300, 5000, 40)]
    for rows in parts:
        engine.features.observe("fraud", rows)
    kept = [(rows, {feature: len(column) for feature, column in of.items()}) for rows, of in gathering._pieces]
    assert kept == [(rows, dict.fromkeys(LIVE["features"], rows)) for rows in (300, 700)]
    engine.housekeeping()
    first = np.concatenate([part["age"] for part in parts])[:1000]
    assert engine.features.watches[0].baselines["age"] == Baseline.of("age", first, "numeric")


def test_what_is_gathered_is_made_into_text_before_the_transaction(monkeypatch) -> None:
    """A leader that commits waits for no worker's rows."""
    order, plain = [], live_baseline._plain

    class Locked(Exception):
        pass

    class Store:
        @contextmanager
        def writing(self, wall_ns):
            order.append("locked")
            raise Locked
            yield

    monkeypatch.setattr(live_baseline, "_plain", lambda *value: order.append("made") or plain(*value))
    gathering = live_baseline.LiveBaseline("fraud", 1000, {"age": "numeric"})
    gathering.offer(Table(2, {"age": [1.0, 2.0]}))
    for _ in range(2):  # what could not be written is written later
        order.clear()
        with pytest.raises(Locked):
            gathering.turn(Store(), 0)
        assert order == ["made", "made", "locked"]


def test_a_live_baseline_is_taken_over_at_the_next_start(make_engine, tmp_path) -> None:
    first = make_engine(objective(**LIVE), state_dir=tmp_path)
    first.features.observe("fraud", columns(np.random.default_rng(2), 1000) | {"flat": np.arange(1000)})
    first.housekeeping()
    made = first.features.watches[0].baselines
    first.close()
    second = make_engine(objective(**LIVE), state_dir=tmp_path)
    assert second.features.watches[0].baselines == made
    other = make_engine(objective(**LIVE | {"baseline": "live:2000"}), state_dir=tmp_path)
    other.housekeeping()
    assert other.features.watches[0].baselines == {}


def test_objectives_share_a_live_baseline_and_gather_it_once(make_engine) -> None:
    engine = make_engine(objective(**LIVE), objective("other", limit=0.2, **LIVE))
    engine.features.observe("fraud", columns(np.random.default_rng(2), 600) | {"flat": np.arange(600)})
    engine.housekeeping()
    assert gathered(engine) == 600
    engine.reload([objective(**LIVE), objective("other", limit=0.3, **LIVE)])
    engine.features.observe("fraud", columns(np.random.default_rng(3), 400) | {"flat": np.arange(400)})
    engine.reload([objective(**LIVE), objective("other", limit=0.4, **LIVE)])
    one, other = engine.features.watches
    assert one.settled
    assert one.baselines == other.baselines
    assert sum(map(sum, counted(engine).values())) == 0
    engine.features.observe("fraud", {"age": 1.0})
    assert sum(counted(engine)["age"]) == 1


def test_a_forked_child_does_not_write_what_its_parent_gathers(make_engine) -> None:
    engine = make_engine(objective(**LIVE))
    engine.features.observe("fraud", columns(np.random.default_rng(2), 600) | {"flat": np.arange(600)})
    pid = os.fork()
    if pid == 0:
        engine.features.tend()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    engine.housekeeping()
    assert gathered(engine) == 600


def test_an_engine_that_cannot_start_is_tried_once(monkeypatch, tmp_path, caplog) -> None:
    engine = otelslo.Engine([objective()], state_dir=tmp_path, runner=False)
    tries = []
    monkeypatch.setattr(engine, "start", lambda: tries.append(1) or 1 / 0)
    for _ in range(3):
        engine.features.observe("fraud", {"age": 1.0})
    assert tries == [1]
    assert "division by zero" in caplog.text


def test_rows_that_make_no_baseline_are_said_once(make_engine, caplog) -> None:
    engine = make_engine(objective(baseline="live:200", features={"flat": "numeric"}))
    engine.features.observe("fraud", {"flat": [5.0] * 300})
    for _ in range(3):
        engine.housekeeping()
    engine.features.observe("fraud", {"flat": [5.0] * 300})
    assert engine.faults() == {"user_code": 1}
    assert caplog.text.count("every value is 5") == 1


def test_rows_are_gathered_as_they_were_when_they_passed(make_engine) -> None:
    engine = make_engine(objective(**LIVE))
    rows = columns(np.random.default_rng(2), 1000) | {"flat": np.arange(1000.0)}
    before = rows["age"].copy()
    engine.features.observe("fraud", rows)
    rows["age"][:] = 0
    engine.housekeeping()
    assert engine.features.watches[0].baselines["age"] == Baseline.of("age", before, "numeric")


def test_a_locked_history_loses_no_gathered_row(make_engine, monkeypatch) -> None:
    engine = make_engine(objective(**LIVE))
    engine.features.observe("fraud", columns(np.random.default_rng(2), 600) | {"flat": np.arange(600)})
    with monkeypatch.context() as broken:
        broken.setattr("otelslo.exporters.sqlite_drift.gather", lambda *_: 1 / 0)
        engine.housekeeping()
    assert engine.faults() == {"internal": 1}
    engine.features.observe("fraud", columns(np.random.default_rng(3), 400) | {"flat": np.arange(400)})
    engine.housekeeping()
    assert engine.features.watches[0].baselines["age"].rows == sum(engine.features.watches[0].baselines["flat"].counts)


def test_the_module_function_counts_in_the_processes_own_engine(engine, monkeypatch) -> None:
    monkeypatch.setattr(default, "_engine", [engine])
    monkeypatch.setattr(default, "_switched_off", [False])
    otelslo.observe_features("fraud", {"age": 1.0})
    assert counted(engine) == naive([{"age": 1.0}])
