"""`budget_allows`: exact at the edge, a look-up in the request, and a yes whenever it is not known better."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import weakref
from fractions import Fraction

import pytest
from drive import advance

import otelslo
from otelslo import SLO, Engine, ManualClock, default
from otelslo.serving import MOST_QUESTIONS, STALE_NS, Serving

CALLS = {"kind": "call"}
DAY_S = 86_400


@pytest.fixture
def shop(make_engine) -> Engine:
    """99 % of calls, over a window that has been observed whole: one bad in a hundred is exactly the budget."""
    engine = make_engine(SLO("shop", target="99%", window="1d", match=CALLS))
    advance(engine, s=DAY_S)
    return engine


def record(engine, good=0, bad=0, name="pay"):
    track = engine.track(name)
    for outcome, count in (("good", good), ("bad", bad)):
        for _ in range(count):
            engine.record(track, outcome, 1_000)


def answer(engine, *arguments, **more):
    """What is answered once the background thread has had its turn."""
    engine.budget_allows(*arguments, **more)
    engine.housekeeping()
    return engine.budget_allows(*arguments, **more)


def test_yes_until_the_first_answer_then_no_when_the_budget_is_spent(shop):
    record(shop, good=10, bad=10)
    assert shop.budget_allows("shop") is True
    shop.housekeeping()
    assert shop.budget_allows("shop") is False


@pytest.mark.parametrize(("good", "bad", "allowed"), [(99, 1, False), (100, 1, True), (98, 1, False), (100, 0, True)])
def test_the_edge_is_exact(shop, good, bad, allowed):
    record(shop, good, bad)
    assert shop.status()[0].projected is None
    assert answer(shop, "shop") is allowed


def test_one_failure_in_the_first_minute_of_a_month_is_allowed(make_engine):
    """Of 100 calls a minute 4,464 may fail in a December; and 0.1 of those that came."""
    engine = make_engine(SLO("month", target="99.9%", calendar="month", match=CALLS))
    advance(engine, s=1_701_388_800 - 1_700_000_000)  # 2023-12-01T00:00:00Z
    record(engine, good=99, bad=1)
    advance(engine, s=60)
    (status,) = engine.status()
    assert (status.budget.allowed, status.full_budget.allowed) == (Fraction(1, 10), 4464)
    assert answer(engine, "month") is True
    assert answer(engine, "month", at_least=Fraction(4463, 4464)) is True
    assert answer(engine, "month", at_least="99.98%") is False


def test_the_same_over_a_whole_window_is_not(make_engine):
    engine = make_engine(SLO("month", target="99.9%", window="30d", match=CALLS))
    advance(engine, s=60)
    record(engine, good=99, bad=1)
    advance(engine, s=15 * DAY_S)
    assert answer(engine, "month") is False  # about 200 would come in a whole one, so 0.2 may fail
    advance(engine, s=15 * DAY_S - 60)
    assert engine.status()[0].projected is None
    assert answer(engine, "month") is False


@pytest.mark.parametrize(("good", "bad", "allowed"), [(97, 3, True), (96, 4, False), (95, 5, False), (0, 0, True)])
def test_the_edge_of_a_window_that_is_not_full_is_exact(make_engine, good, bad, allowed):
    """100 in a quarter of it: 400 in all of it, of which 4 may fail."""
    engine = make_engine(SLO("shop", target="99%", window="1d", match=CALLS))
    record(engine, good, bad)
    advance(engine, s=DAY_S // 4)
    assert answer(engine, "shop") is allowed


@pytest.mark.parametrize(
    ("at_least", "allowed"),
    [
        *((yes, True) for yes in ("75%", 0.75, Fraction(3, 4), "3/4", 0.1, 0, "0")),
        *((no, False) for no in ("75.000001%", 0.76, Fraction(300_001, 400_000), 1, "100%")),
    ],
)
def test_a_share_that_must_be_left(shop, at_least, allowed):
    """Of a budget of 4 one is spent."""
    record(shop, good=399, bad=1)
    assert answer(shop, "shop", at_least=at_least) is allowed


def test_it_follows_the_window(shop):
    record(shop, bad=5)
    assert answer(shop, "shop") is False
    advance(shop, s=2 * 86_400)
    shop.housekeeping()
    assert shop.budget_allows("shop") is True
    record(shop, bad=1)
    shop.housekeeping()
    assert shop.budget_allows("shop") is False


def test_without_events_it_is_yes(shop):
    assert answer(shop, "shop", at_least=1) is True


def test_a_no_that_is_old_is_a_yes(shop):
    record(shop, bad=1)
    assert answer(shop, "shop") is False
    advance(shop, ns=STALE_NS)
    assert shop.budget_allows("shop") is False
    advance(shop, ns=1)
    assert shop.budget_allows("shop") is True
    shop.housekeeping()
    assert shop.budget_allows("shop") is False


def test_groups_each_and_together(make_engine):
    engine = make_engine(SLO("models", target="90%", match=CALLS, group_by="route"))
    for name in ("a", "b"):  # the first event asks for its group's row
        record(engine, good=1, name=name)
    engine.housekeeping()
    advance(engine, s=31 * DAY_S)
    record(engine, good=29, bad=3, name="a")
    record(engine, good=1, bad=1, name="b")
    found = {group: answer(engine, "models", group) for group in (None, "route=a", "route=b", "route=never")}
    assert found == {None: False, "route=a": True, "route=b": False, "route=never": True}
    record(engine, good=100, name="a")
    assert answer(engine, "models") is True


def test_groups_together_may_spend_what_each_may_in_sum(make_engine):
    """One seen for a whole window, the other for an hour of it: each is projected by itself, as alerts do."""
    engine = make_engine(SLO("models", target="99%", match=CALLS, group_by="route"))
    engine.record(engine.track("old"), "excluded", 1_000)
    engine.housekeeping()
    advance(engine, s=30 * DAY_S)
    engine.record(engine.track("new"), "excluded", 1_000)
    engine.housekeeping()
    record(engine, good=99, bad=1, name="old")
    record(engine, good=10, name="new")
    advance(engine, s=3_600)
    allowed = {one.group: one.full_budget.allowed for one in engine.status() if one.counts.valid}
    assert allowed == {"route=old": 1, "route=new": 72}
    groups = (None, "route=old", "route=new")
    assert [answer(engine, "models", group) for group in groups] == [True, False, True]
    assert answer(engine, "models", at_least=Fraction(72, 73)) is True
    assert answer(engine, "models", at_least=Fraction(73, 74)) is False
    record(engine, bad=73, name="old")  # 74 spent, and 1.73 + 72 allowed
    assert [answer(engine, "models", group) for group in groups] == [False, False, True]


def test_an_unknown_name_is_a_yes_and_said_once(shop, caplog):
    with caplog.at_level(logging.WARNING, "otelslo"):
        assert answer(shop, "shp") is True
        assert answer(shop, "shp", at_least=0.5) is True
        shop.housekeeping()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["budget_allows: no SLO is named 'shp', so the answer is yes. Did you mean 'shop'?"]


@pytest.mark.parametrize("at_least", [2, -0.1, "lots", "110%", None, float("nan"), True])
def test_what_is_no_share_is_a_yes_and_counted(shop, at_least):
    record(shop, bad=1)
    assert answer(shop, "shop", at_least=at_least) is True
    assert shop.faults() == {"user_code": 1}


def test_what_cannot_be_asked_is_a_yes_and_counted(shop):
    assert answer(shop, ["shop"]) is True
    assert shop.faults() == {"user_code": 2}


def test_questions_are_bounded(shop):
    record(shop, bad=1)
    for number in range(MOST_QUESTIONS):
        shop.budget_allows("shop", f"user={number}")
    assert answer(shop, "shop") is True
    assert shop.faults() == {"capacity": 2}


def test_only_what_was_asked_is_computed(make_engine):
    engine = make_engine(SLO("one", match=CALLS), SLO("two", match=CALLS))
    asked = []

    def judged(definitions, _book):
        asked.append([definition.name for definition in definitions])
        return ()

    serving = Serving(lambda: engine.definitions, judged, engine.clock, engine.fault, lambda: None)
    serving.refresh()
    serving.allows("two", None, 0)
    serving.refresh()
    assert asked == [["two"]]


def test_our_own_faults_are_a_yes_and_counted(shop, monkeypatch):
    record(shop, bad=1)
    assert answer(shop, "shop") is False

    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(shop._serving, "_judged", broken)
    shop.housekeeping()
    assert shop.budget_allows("shop") is False  # the last answer is still fresh
    advance(shop, ns=STALE_NS + 1)
    shop.housekeeping()
    assert shop.budget_allows("shop") is True
    assert shop.faults() == {"internal": 2}
    monkeypatch.setattr(shop._serving, "_now_ns", broken)
    assert shop.budget_allows("shop") is True


def test_what_is_excluded_after_the_fact_is_not_spent(shop):
    record(shop, bad=1)
    shop.runner.tick()
    assert answer(shop, "shop") is False
    wall_ns = shop.clock.wall_ns()
    shop.runner.store.notes.exclude("shop", wall_ns - 1, wall_ns + 1, "not ours", wall_ns)
    shop.housekeeping()
    assert shop.budget_allows("shop") is False  # the database is asked every ten seconds
    advance(shop, s=10)
    shop.housekeeping()
    assert shop.budget_allows("shop") is True
    assert shop.status()[0].excluded_since.bad == 1


def test_slices_are_counted_once_and_answered(make_engine):
    sliced = {"budgeting": "timeslices", "slice": "10s", "slice_target": "50%", "alerts": "off"}
    engine = make_engine(SLO("sliced", target="90%", window="5m", match=CALLS, **sliced))
    advance(engine, s=300)
    for bad in (0, 0, 0, 1, 0, 0, 0, 0, 0):
        record(engine, good=1 - bad, bad=bad)
        advance(engine, s=10)
        answer(engine, "sliced")
    assert engine.budget_allows("sliced") is False
    for _ in range(2):
        record(engine, good=1)
        advance(engine, s=10)
        engine.housekeeping()
    assert engine.budget_allows("sliced") is True
    assert len(engine._serving._book._lines) == 1


def test_new_objectives_are_followed(shop):
    record(shop, good=98, bad=2)
    assert answer(shop, "shop") is False
    shop.reload([SLO("shop", target="90%", window="1d", match=CALLS)])
    shop.housekeeping()
    assert shop.budget_allows("shop") is True
    shop.reload([SLO("other", match=CALLS)])
    shop.housekeeping()
    assert shop.budget_allows("shop") is True


def test_before_the_start_and_after_the_end_it_is_yes(tmp_path):
    engine = Engine([SLO("shop", match=CALLS)], state_dir=tmp_path, runner=False, clock=ManualClock())
    assert engine.budget_allows("shop") is True
    assert not engine.running
    with engine:
        advance(engine, s=30 * DAY_S)
        record(engine, bad=1)
        engine.housekeeping()
        assert engine.budget_allows("shop") is False
    assert not engine.running


def test_an_engine_that_nobody_has_is_not_kept(tmp_path):
    engine = Engine([SLO("shop")], state_dir=tmp_path)
    gone = weakref.ref(engine._serving)
    del engine
    gc.collect()
    assert gone() is None


def test_the_background_thread_answers_by_itself(tmp_path):
    with Engine([SLO("shop", match=CALLS)], state_dir=tmp_path, clock=ManualClock()) as engine:
        advance(engine, s=30 * DAY_S)
        record(engine, bad=1)
        turned = threading.Event()
        refresh = engine._serving.refresh
        engine._serving.refresh = lambda: (refresh(), turned.set())
        engine.budget_allows("shop")
        assert turned.wait(30)
        assert engine.budget_allows("shop") is False


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_its_own_thread_by_asking(tmp_path):
    with Engine([SLO("shop", match=CALLS)], state_dir=tmp_path, clock=ManualClock()) as engine:
        advance(engine, s=30 * DAY_S)
        record(engine, bad=1)
        assert answer(engine, "shop") is False
        pid = os.fork()
        if pid == 0:
            turned = threading.Event()
            refresh = engine._serving.refresh
            engine._serving.refresh = lambda: (refresh(), turned.set())
            first = engine.budget_allows("shop")
            second = turned.wait(30) and engine.budget_allows("shop")
            os._exit(0 if (first, second) == (True, False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ── the process's own engine ───────────────────────────────────────────────────────────────────────────────────────
def test_the_module_s_function_asks_the_process_s_own_engine(shop, monkeypatch):
    monkeypatch.setattr(default, "_engine", [shop])
    record(shop, good=399, bad=1)
    for at_least in (0, "80%"):
        otelslo.budget_allows("shop", at_least=at_least)
    shop.housekeeping()
    assert otelslo.budget_allows("shop") is True
    assert otelslo.budget_allows("shop", None, at_least="80%") is False


PROGRAM = """
import threading, sys, otelslo
assert otelslo.budget_allows("availability") is True
assert otelslo.budget_allows("availability") is True
assert "numba" not in sys.modules or threading.active_count() > 1
starting = [thread for thread in threading.enumerate() if thread.name == "otelslo-start"]
for thread in starting:
    thread.join()
from otelslo import default
print(len(starting), bool(default._engine and default._engine[0].running))
"""


@pytest.mark.parametrize(("switch", "printed"), [({}, "1 True"), ({"OTELSLO_DISABLED": "1"}, "False")])
def test_the_first_question_starts_the_engine_aside(tmp_path, switch, printed):
    """Unless it is off. The request that asks does not wait for the compiler."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("OTELSLO")} | switch
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip().endswith(printed)
