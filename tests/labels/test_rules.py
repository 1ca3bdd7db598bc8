"""The rules of labels by example, through a whole engine: logged, counted by the leader, seen in statuses."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from typing import Any

import pytest
from drive import advance

import otelslo
from otelslo import SLO, Counts, Engine
from otelslo.applying import Applying
from otelslo.coverage import Coverage, coverage_of, spans_to_sum
from otelslo.errors import StateError
from otelslo.exporters import sqlite_dated
from otelslo.inbox import backlog, spools
from otelslo.kept import Row, SlotCounts
from otelslo.label_record import Label, Prediction
from otelslo.labelling import Batch
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

ACCURACY = SLO("right", indicator="accuracy", target="90%", window="7d")
CONVERSION = SLO("sold", indicator="conversion", options={"label_within": "30m"}, target="10%", window="7d")


@pytest.fixture
def engine(make_engine: Any) -> Engine:
    return make_engine(ACCURACY, CONVERSION)


def turn(engine: Engine, *, s: float = 0) -> None:
    advance(engine, s=s)
    engine.runner.tick()


def counts(engine: Engine, slo: str) -> Counts:
    """Of the last seven days; statuses know them a little later."""
    now_ns = engine.clock.wall_ns()
    rows = [row for row in engine.runner.store.dated().read().rows if row.key.slo == slo]
    return sum((row.between(now_ns - 7 * DAY_NS, now_ns) for row in rows), Counts())


def counters(engine: Engine, model: str = "fraud") -> dict[str, int]:
    return engine.runner.store.labels.counters().get(model, {})


def corrections(engine: Engine, slo: str) -> int:
    """Of all time, as the history has them."""
    store = engine.runner.store
    return sum(sqlite_dated.corrections(store._fetch, row.key, 0) for row in store.labels.rows() if row.slo == slo)


def coverage(engine: Engine, slo: str) -> Coverage:
    labels, now_ns = engine.runner.store.labels, engine.clock.wall_ns()
    (row,) = [row for row in labels.rows() if row.slo == slo]
    slots = [labels.between(row.number, *span) for span in spans_to_sum(row, 0, now_ns, ())]
    return coverage_of(row, slots, counts(engine, slo), now_ns)


def test_a_label_counts_in_the_slot_of_its_prediction_days_later(engine: Engine) -> None:
    engine.log_prediction("fraud", id="a", output=1, score=0.9)
    engine.log_prediction("fraud", id="b", output=0)
    turn(engine)
    assert [one.slo for one in engine.status()] == ["right", "sold"]  # there, and without an event
    assert counts(engine, "right") == Counts()
    turn(engine, s=5 * 86_400)
    engine.log_label("fraud", id="a", truth=1)
    engine.log_label("fraud", id="b", truth="1")
    turn(engine)
    assert counts(engine, "right") == Counts(1, 1, 0)
    (status, _) = engine.status()
    assert status.counts == Counts(1, 1, 0)
    assert status.burn["1h"] is None  # nothing of it happened in the last hour
    turn(engine, s=2.1 * 86_400)
    assert counts(engine, "right") == Counts()  # and it leaves the window with its prediction


def test_a_correction_takes_the_old_outcome_back_and_a_duplicate_does_nothing(engine: Engine) -> None:
    engine.log_prediction("fraud", id=7, output=True)
    for truth in (1, "1", True, 0):
        engine.log_label("fraud", id="7", truth=truth)
    turn(engine)
    assert counts(engine, "right") == Counts(0, 1, 0)
    assert counters(engine) == {"predictions": 1, "labels": 1, "duplicates": 2, "corrections": 1}
    assert coverage(engine, "right").corrections == corrections(engine, "right") == 1


def test_what_lapses_is_settled_and_a_label_told_in_time_still_counts(engine: Engine) -> None:
    for identity in "abc":
        engine.log_prediction("shop", id=identity)
    turn(engine)
    turn(engine, s=30 * 60 + 299)
    assert counts(engine, "sold") == Counts()
    turn(engine, s=2)
    assert counts(engine, "sold") == Counts(0, 3, 0)
    now_s = engine.clock.wall_ns() // 10**9
    engine.log_label("shop", id="a", truth=1, at=now_s - 1000)  # told in time, and read late
    engine.log_label("shop", id="b", truth=1)
    turn(engine)
    assert counts(engine, "sold") == Counts(1, 2, 0)
    assert counters(engine, "shop")["late"] == 1
    known = coverage(engine, "sold")
    assert (known.labelled, known.lapsed, known.pending, known.corrections) == (1, 2, 0, 0)
    assert corrections(engine, "sold") == 0
    assert known.bounds == (Fraction(1, 3), Fraction(1, 3))  # nothing is unknown: what lapsed is bad


def test_a_label_told_in_time_may_be_read_a_day_late(make_engine: Any) -> None:
    engine = make_engine(CONVERSION)
    engine.log_prediction("shop", id="a")
    told_s = engine.clock.wall_ns() / 1e9 + 60
    turn(engine)
    turn(engine, s=3600)
    assert counts(engine, "sold") == Counts(0, 1, 0)
    turn(engine, s=86_400 - 3600)
    engine.log_label("shop", id="a", truth=1, at=told_s)
    turn(engine)
    assert counts(engine, "sold") == Counts(1, 0, 0)
    turn(engine, s=3600)
    assert engine.runner.store.labels.how_many() == (0, 0)


def test_what_falls_due_while_its_objective_is_out_of_force_waits_for_it(make_engine: Any) -> None:
    drawn = SLO("drawn", indicator="accuracy", options={"sample": "2/d"}, target="90%", window="7d")
    daily = SLO("daily", indicator="f1", options={"positive": 1, "bar": "50%"}, target="90%", window="7d")
    everything = [CONVERSION, drawn, daily]
    engine = make_engine(*everything)
    engine.log_prediction("shop", id="a", output=1)
    engine.log_label("shop", id="a", truth=1)
    turn(engine)
    turn(engine, s=86_400)
    before = {slo.name: counts(engine, slo.name) for slo in everything}
    assert list(before.values()) == [Counts(1, 0, 0)] * 3
    engine.log_prediction("shop", id="b", output=1)
    turn(engine)
    engine.log_label("shop", id="b", truth=0)
    engine.log_label("shop", id="a", truth=0)
    turn(engine)
    engine.log_prediction("shop", id="c", output=1)
    turn(engine)
    engine.reload([ACCURACY])
    turn(engine, s=2 * 86_400)
    engine.reload(everything)
    turn(engine)
    assert counts(engine, "sold") == Counts(1, 1, 0) + Counts(0, 1, 0)
    assert counts(engine, "drawn") == Counts(0, 2, 0)
    assert counts(engine, "daily") == Counts(0, 2, 0)
    assert left_over(engine) == [0, 0]


def test_a_day_is_drawn_when_all_that_waited_was_read(make_engine: Any) -> None:
    """Who stood still over midnight reads the day's predictions after it; who tells of a day that is drawn is counted
    as such."""
    drawn = SLO("drawn", indicator="accuracy", options={"sample": "2/d"}, target="90%", window="30d")
    engine = make_engine(drawn)
    for day in (3, 2):
        at_s = engine.clock.wall_ns() / 1e9 - day * 86_400
        for name in "abc":
            engine.log_prediction("shop", id=f"{name}{day}", output=1, at=at_s)
            engine.log_label("shop", id=f"{name}{day}", truth=1)
    turn(engine)
    assert counts(engine, "drawn") == Counts(4, 0, 0)
    engine.log_prediction("shop", id="late", output=1, at=engine.clock.wall_ns() / 1e9 - 3 * 86_400)
    turn(engine)
    assert counts(engine, "drawn") == Counts(4, 0, 0)
    assert engine.runner.store.labels.counters()["shop"]["undrawn"] == 1


def left_over(engine: Engine) -> list[int]:
    return [
        engine.runner.store._fetch(f"SELECT count(*) FROM {table}", ())[0][0] for table in ("label_due", "label_draws")
    ]


def test_with_a_prediction_goes_what_was_to_fall_due(make_engine: Any) -> None:
    drawn = SLO("drawn", indicator="accuracy", options={"sample": "9/d"}, target="90%", window="7d")
    engine = make_engine(CONVERSION, drawn)
    engine.log_prediction("shop", id="a", output=1)
    turn(engine)
    assert left_over(engine) == [1, 1]
    engine.runner.leader.applying.purge(engine.slos, "shop", engine.clock.wall_ns())
    assert left_over(engine) == [0, 0]
    turn(engine, s=600)
    with engine.runner.store.writing(engine.clock.wall_ns()) as connection:  # as an earlier otelslo may have left it
        connection.execute("INSERT INTO label_due VALUES ('shop', 'a', 1, 0)")
    engine.log_prediction("shop", id="a", output=1)  # the same id, and a time of its own
    turn(engine, s=1500)
    assert counts(engine, "sold") == Counts()
    turn(engine, s=600)
    assert counts(engine, "sold") == Counts(0, 1, 0)
    engine.reload([ACCURACY])
    engine.log_prediction("shop", id="b")
    turn(engine, s=32 * 86_400)
    assert left_over(engine) == [0, 0]


def test_names_that_no_objective_is_about_are_counted_as_one(make_engine: Any) -> None:
    engine = make_engine(SLO("right", indicator="accuracy", match={"route": "fraud"}))
    for n in range(5):
        engine.log_label(f"made-up-{n}", id=1, truth=1)
    turn(engine)
    assert engine.runner.store.labels.counters() == {"": {"ignored": 5}}


def test_of_labels_that_say_the_same_the_earliest_counts(engine: Engine) -> None:
    engine.log_prediction("shop", id="a")
    told_s = engine.clock.wall_ns() // 10**9 + 60
    turn(engine)
    turn(engine, s=3 * 3600)
    engine.log_label("shop", id="a", truth=1)  # a job that gave no time
    turn(engine)
    assert counts(engine, "sold") == Counts(0, 1, 0)
    engine.log_label("shop", id="a", truth=1, at=told_s)
    turn(engine)
    assert counts(engine, "sold") == Counts(1, 0, 0)


def test_a_label_may_come_before_its_prediction_and_is_unknown_after_an_hour(engine: Engine) -> None:
    engine.log_label("fraud", id="a", truth=1)
    engine.log_label("fraud", id="b", truth=1)
    turn(engine)
    turn(engine, s=3599)
    engine.log_prediction("fraud", id="a", output=1)
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)
    turn(engine, s=2)
    engine.log_prediction("fraud", id="b", output=1)
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)
    assert counters(engine)["unknown"] == 1


def test_a_prediction_from_the_future_is_taken_as_now(engine: Engine) -> None:
    engine.log_prediction("fraud", id="a", output=1, at=engine.clock.wall_ns() / 1e9 + 5000)
    engine.log_label("fraud", id="a", truth=1)
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)


def test_bad_input_is_a_fault_and_never_raised(engine: Engine) -> None:
    nan = float("nan")
    engine.log_prediction("fraud", id=None, output=1)
    engine.log_prediction("", id=1, output=1)
    engine.log_label("fraud", id="a", truth=[1])
    engine.log_label("fraud", id="a", truth=1, at="yesterday")
    engine.log_prediction("fraud", id="b", output=nan, score=nan)  # logged without either
    engine.log_label("fraud", id="b", truth=1)
    turn(engine)
    assert counters(engine) == {"predictions": 1, "labels": 1}
    assert counts(engine, "right").excluded == 1
    assert sum(engine.faults().values()) == 6
    with pytest.raises(TypeError):
        engine.log_label("fraud", id="b")  # type: ignore[call-arg]


def test_numbers_of_numpy_are_numbers(engine: Engine) -> None:
    numpy = pytest.importorskip("numpy")
    engine.log_prediction("fraud", id=numpy.int64(7), output=numpy.float32(1), score=numpy.float64(0.5))
    engine.log_label("fraud", id=7, truth=numpy.bool_(True))
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)
    assert engine.faults() == {}


def test_half_a_character_is_no_poison(make_engine: Any) -> None:
    engine = make_engine(SLO("right", indicator="accuracy", group_by="version"))
    engine.log_prediction("m\ud800", id="\udfff", output="\ud800", version="\ud800")
    engine.log_label("m\ud800", id="\udfff", truth="\ud800")
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)
    assert engine.faults() == {}


def test_a_record_that_raises_is_left_out_and_holds_up_no_other(engine: Engine, monkeypatch: Any) -> None:
    take = Batch.take

    def poisoned(batch: Batch, record: Any) -> None:
        take(batch, record)
        if record.id == "3":
            raise ZeroDivisionError

    monkeypatch.setattr(Batch, "take", poisoned)
    for n in range(6):
        engine.log_prediction("m", id=n, output=1)
    turn(engine)
    assert engine.runner.store.labels.counters() == {"m": {"predictions": 5}, "": {"cut": 1}}
    assert engine.faults() == {"internal": 1}


def test_groups_are_bounded_and_come_from_the_prediction(make_engine: Any) -> None:
    engine = make_engine(SLO("right", indicator="accuracy", group_by="version", max_groups=2), version="1")
    for n, version in enumerate(["1", "2", "3", "4"]):
        engine.log_prediction("m", id=n, output=1, version=version)
    engine.log_prediction("m", id="own", output=1)
    for identity in (0, 1, 2, 3, "own"):
        engine.log_label("m", id=identity, truth=1)
    turn(engine)
    found = {one.group: one.counts.good for one in engine.status()}
    assert found == {"version=1": 2, "version=2": 1, "(overflow)": 2}


def test_texts_are_kept_only_where_an_objective_needs_them(make_engine: Any) -> None:
    engine = make_engine(SLO("rouge", indicator="rouge", options={"bar": 0.5}, match={"route": "summary"}), ACCURACY)
    for model in ("summary", "chat"):
        engine.log_prediction(model, id=1, output="a long text " * 40)
    turn(engine)
    found = dict(engine.runner.store._fetch("SELECT model, output IS NOT NULL FROM predictions", ()))
    assert found == {"summary": 1, "chat": 0}
    assert b"a long text" not in b"".join(path.read_bytes().split(b'"chat"')[-1] for path in spools(engine.state_dir))


def test_user_code_that_raises_is_a_fault_and_the_indicator_decides(make_engine: Any) -> None:
    def broken(event: Any) -> bool:
        raise ZeroDivisionError

    engine = make_engine(SLO("right", indicator="accuracy", good=broken, match={"where": broken}))
    engine.log_prediction("m", id=1, output=1)
    engine.log_label("m", id=1, truth=1)
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)
    assert engine.faults()["user_code"] >= 1


def test_a_new_meaning_counts_predictions_that_come_after_it(engine: Engine) -> None:
    engine.log_prediction("m", id=1, output=1)
    turn(engine)
    engine.reload([SLO("right", indicator="accuracy", options={"label_within": "1d"}, target="90%", window="7d")])
    engine.log_prediction("m", id=2, output=1)
    for identity in (1, 2):
        engine.log_label("m", id=identity, truth=1)
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)
    (status,) = engine.status()
    assert status.counts == Counts(1, 0, 0)


def test_an_engine_without_a_runner_or_a_start_logs_all_the_same(tmp_path: Any) -> None:
    job = Engine([ACCURACY], state_dir=tmp_path / "state", limits=[])
    assert job.log_label("fraud", id="a", truth=1)
    assert backlog(tmp_path / "state") > 0
    job.labels.finish()


def test_too_many_predictions_push_out_the_oldest(tmp_path: Any, make_engine: Any) -> None:
    engine = make_engine(ACCURACY)
    engine.runner.tick()
    for n in range(30):
        engine.log_prediction("m", id=n, output=1)
        advance(engine, s=1)
    engine.runner.leader.applying._most_kept = 10
    engine.runner.tick()
    for n in range(30):
        engine.log_label("m", id=n, truth=1)
    engine.runner.tick()
    assert counters(engine, "m")["dropped"] == 20
    assert counts(engine, "right") == Counts(10, 0, 0)
    assert coverage(engine, "right").gone == 20


def test_purging_deletes_what_is_kept_and_leaves_what_is_counted(engine: Engine) -> None:
    for n in range(3):
        engine.log_prediction("m", id=n, output=1)
    engine.log_label("m", id=0, truth=1)
    turn(engine)
    applying = engine.runner.leader.applying
    assert applying.purge(engine.slos, "m", engine.clock.wall_ns()) == 3
    engine.log_label("m", id=1, truth=1)
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)
    assert coverage(engine, "right").gone == 2
    assert engine.runner.store.labels.how_many() == (0, 1)


def test_a_database_that_cannot_be_written_leaves_labels_in_the_inbox(engine: Engine, monkeypatch: Any) -> None:
    engine.runner.tick()
    engine.log_prediction("fraud", id="a", output=1)
    engine.log_label("fraud", id="a", truth=1)
    applying = engine.runner.leader.applying
    with monkeypatch.context() as patch:
        patch.setattr(engine.runner.store, "writing", _unwritable)
        with pytest.raises(StateError):
            applying.turn(engine.slos, engine.clock.wall_ns())
        engine.runner.tick()
    assert counters(engine) == {}
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)


def _unwritable(wall_ns: int) -> Any:
    raise StateError("the disk is full")


def test_a_lost_database_counts_again_what_the_inbox_still_has(engine: Engine) -> None:
    engine.log_prediction("fraud", id="a", output=1)
    engine.log_label("fraud", id="a", truth=1)
    turn(engine)
    os.unlink(engine.runner.store.path)
    turn(engine)
    turn(engine)
    assert counts(engine, "right") == Counts(1, 0, 0)


def test_the_module_functions_act_on_the_processs_own_engine(tmp_path: Any, monkeypatch: Any) -> None:
    from otelslo import default

    monkeypatch.setattr(default, "_engine", [])
    monkeypatch.setattr(default, "_switched_off", [])
    monkeypatch.setenv("OTELSLO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    otelslo.log_prediction("fraud", id="a", output=1, version="7")
    otelslo.log_label("fraud", id="a", truth=0)
    threads = [threading.Thread(target=otelslo.log_label, args=("fraud",), kwargs={"id": "a", "truth": 1})]
    threads[0].start()
    threads[0].join()
    assert backlog(tmp_path / "state") > 0
    default._engine[0].labels.finish()


def test_off_means_that_nothing_is_written(tmp_path: Any, monkeypatch: Any) -> None:
    from otelslo import default

    monkeypatch.setattr(default, "_engine", [])
    monkeypatch.setattr(default, "_switched_off", [])
    monkeypatch.setenv("OTELSLO_DISABLED", "1")
    monkeypatch.chdir(tmp_path)
    otelslo.log_prediction("fraud", id="a", output=1)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_is_said_once_and_never_raised(tmp_path: Any, monkeypatch: Any, caplog: Any) -> None:
    from otelslo import default

    for name in ("_engine", "_switched_off", "_is_wrong"):
        monkeypatch.setattr(default, name, [])
    (tmp_path / "slo.yaml").write_text("slos: [{name: x, target: 200%}]")
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        otelslo.log_prediction("fraud", id="a", output=1)
    assert len([one for one in caplog.records if "otelslo is off" in one.message]) == 1


# ── coverage ───────────────────────────────────────────────────────────────────────────────────────────────────────
ROW = Row(1, "key", "right", "m", None, HOUR_NS, "excluded")


def test_coverage_maturity_and_bounds_are_exact() -> None:
    slots = [SlotCounts(0, 6, 3, 1, 1, 2), SlotCounts(300 * SECOND_NS, 4, 1)]
    found = coverage_of(ROW, slots, Counts(3, 1, 1), HOUR_NS + 5 * MINUTE_NS)
    assert (found.predictions, found.labelled, found.lapsed, found.gone, found.pending) == (10, 4, 1, 1, 4)
    assert found.ratio == Fraction(2, 5)
    assert found.maturity == Fraction(3, 5)
    assert found.unknown == 6  # pending, given up, and lapsed without an outcome that counts
    assert found.bounds == (Fraction(3, 10), Fraction(9, 10))
    assert found.to_json()["sli_if_unknown_good"] == 0.9


def test_without_predictions_nothing_is_known() -> None:
    found = coverage_of(ROW, [], Counts(), DAY_NS)
    assert (found.ratio, found.maturity, found.bounds) == (None, None, None)


def test_days_have_no_bounds_and_no_limit_no_maturity() -> None:
    row = Row(1, "key", "daily", "m", None, None, "")
    found = coverage_of(row, [SlotCounts(0, 2, 1)], Counts(1, 0, 0), DAY_NS)
    assert (found.maturity, found.bounds, found.pending) == (None, None, 1)


def test_applying_needs_nothing_but_a_store(tmp_path: Any, make_engine: Any) -> None:
    engine = make_engine(ACCURACY)
    engine.runner.tick()
    engine.labels.put(Prediction("m", "1", engine.clock.wall_ns(), 1, None, {}))
    engine.labels.put(Label("m", "1", engine.clock.wall_ns(), 1))
    other = Applying(engine.state_dir, engine.runner.store, engine.fault, lambda: 30 * DAY_NS)
    assert other.turn([ACCURACY], engine.clock.wall_ns()) == 2
    engine.runner.tick()
    assert counts(engine, "right") == Counts(1, 0, 0)
