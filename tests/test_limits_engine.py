"""Limits through an engine: told by any process, judged and alerted on by the leader, kept by the database."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from drive import advance

import otelslo
from otelslo import SLO, Engine, Limit, ManualClock, default
from otelslo.errors import BadValue
from otelslo.exporters.sqlite_reader import Reader
from otelslo.gauges import LIMIT_GAUGES
from otelslo.limits import Observation
from otelslo.notice import Notice
from otelslo.openmetrics import render
from otelslo.window import DAY_NS, SECOND_NS

NOW_NS = 1_700_042_400 * SECOND_NS
NOWHERE = {"ops": ("webhook", {"url": "http://127.0.0.1:9/", "allow_http": True, "allow_private": True})}
AGE, DRIFT = Limit("age", limit="90d", owner="ml", labels={"tier": "1"}), Limit("drift", limit=0.1, severity="page")


@pytest.fixture
def leading(make_engine):
    def make(*limits, **arguments):
        engine = make_engine(
            SLO("calls", match={"kind": "call"}), limits=limits, clock=ManualClock(NOW_NS), **arguments
        )
        engine.channels = NOWHERE
        engine.runner.tick()
        assert engine.runner.leading
        return engine

    return make


def turn(engine, *, s=10):
    advance(engine, s=s)
    engine.runner.tick()


def stand(engine):
    return {one.name: one.state for one in engine.observing.statuses()}


def notices(engine):
    return [Notice.from_json(json.loads(parcel.payload)) for parcel in engine.runner.store.notes.parcels()]


def told(engine):
    return [(notice.event, notice.slo, notice.alert, notice.severity) for notice in notices(engine)]


def alerts(engine, name="limit"):
    stored = engine.runner.store.notes.alerts()
    return {key[0]: data["state"] for key, data in stored.items() if key[2] == name}


def said(engine):
    return [entry.text for entry in engine.runner.store.journal(10, kind="alert")][::-1]


# ── told ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_told_is_judged(leading):
    engine = leading(AGE, DRIFT)
    assert stand(engine) == {"age": "no_data", "drift": "no_data"}
    engine.observe("age", timedelta(days=91))
    engine.observe("drift", 0.1)
    assert stand(engine) == {"age": "breached", "drift": "met"}
    engine.observe("age", since=datetime.fromtimestamp(NOW_NS // SECOND_NS, UTC) - timedelta(days=89))
    assert stand(engine)["age"] == "met"
    advance(engine, s=2 * 86_400)
    assert stand(engine)["age"] == "breached"
    (age, _) = engine.observing.statuses()
    assert age.since_wall_ns == NOW_NS + DAY_NS


def test_a_bad_value_names_the_limit_and_leaves_what_was_known(leading):
    engine = leading(AGE, DRIFT)
    engine.observe("drift", 0.05)
    with pytest.raises(BadValue, match="limit 'drift': nan is no finite number"):
        engine.observe("drift", float("nan"))
    with pytest.raises(ValueError, match="limit 'age': 12 is no duration"):
        engine.observe("age", 12)
    with pytest.raises(TypeError, match="either a value or since="):
        engine.observe("age")
    with pytest.raises(TypeError, match="either a value or since="):
        engine.observe("age", "1d", since=0)
    assert stand(engine) == {"age": "no_data", "drift": "met"}
    assert engine.faults() == {}


def test_an_unknown_name_is_said_once_and_hurts_nobody(leading, caplog):
    engine = leading(AGE)
    for _ in range(2):
        engine.observe("aeg", "1d")
    assert [r.message for r in caplog.records if "observe" in r.message] == [
        "observe: no limit is named 'aeg'. Did you mean 'age'?"
    ]


def test_a_database_that_cannot_be_written_is_a_fault_of_ours(leading, monkeypatch):
    engine = leading(AGE)

    def broken(*_):
        raise OSError("no")

    monkeypatch.setattr("otelslo.exporters.sqlite_limits.Limits.observe", broken)
    engine.observe("age", "91d")
    assert engine.faults() == {"internal": 1}


def test_a_process_of_its_own_may_tell_without_starting_anything(tmp_path, leading):
    engine = leading(AGE)
    job = Engine([], limits=[AGE], state_dir=engine.state_dir, clock=ManualClock(NOW_NS))
    job.observe("age", "91d")
    assert not job.running
    assert stand(engine) == stand(job) == {"age": "breached"}
    alone = Engine([], limits=[AGE], state_dir=tmp_path / "new" / "state", clock=ManualClock(NOW_NS))
    assert stand(alone) == {"age": "no_data"}
    assert not alone.state_dir.exists()
    alone.observe("age", "1d")
    assert stand(alone) == {"age": "met"}
    with Engine([], limits=[AGE], state_dir=alone.state_dir, clock=ManualClock(NOW_NS), runner=False) as begun:
        begun.runner.tick()
        assert stand(begun) == {"age": "met"}


def test_the_module_s_function_acts_on_the_configuration(tmp_path):
    (tmp_path / "slo.yaml").write_text("limits: [{name: drift, limit: 0.1}]\n")
    code = "import otelslo; otelslo.observe('drift', 0.2); otelslo.observe('dirft', 1)\n"
    code += "try: otelslo.observe('drift', 'x')\nexcept ValueError as e: print(e)"
    here = {"cwd": tmp_path, "capture_output": True, "text": True}
    answer = subprocess.run([sys.executable, "-c", code], check=True, **here)
    assert answer.stdout.startswith("limit 'drift': 'x' is no number")
    assert "no limit is named 'dirft'" in answer.stderr
    seen = Reader(tmp_path / ".otelslo" / "otelslo.db").limits.observations()["drift"]
    assert (float(seen.value), seen.state) == (0.2, "breached")
    assert (tmp_path / ".otelslo" / ".gitignore").exists()
    off = "import os; os.environ['OTELSLO_DISABLED'] = '1'; import otelslo; otelslo.observe('drift', 0.05)"
    subprocess.run([sys.executable, "-c", off], check=True, **here)
    assert Reader(tmp_path / ".otelslo" / "otelslo.db").limits.observations()["drift"] == seen
    (tmp_path / "slo.yaml").write_text("limits: 3\n")
    wrong = subprocess.run([sys.executable, "-c", code.splitlines()[0]], check=True, **here)
    assert "no list of limits" in wrong.stderr


def test_code_that_a_configuration_imports_starts_no_second_one(monkeypatch):
    monkeypatch.setattr(default, "_engine", [])
    with default._making():
        otelslo.observe("anything", 1)
    assert default._engine == []


# ── alerted on ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_breach_is_told_once_and_resolves(leading):
    engine = leading(AGE)
    engine.observe("age", since=NOW_NS // SECOND_NS - 90 * 86_400 + 15)
    turn(engine)
    assert told(engine) == []
    turn(engine)
    turn(engine)
    assert told(engine) == [("firing", "age", "limit", "ticket")]
    assert alerts(engine) == {"age": "firing"}
    engine.observe("age", since=NOW_NS // SECOND_NS)
    turn(engine)
    turn(engine)
    assert told(engine) == [("firing", "age", "limit", "ticket"), ("resolved", "age", "limit", "ticket")]
    firing, resolved = said(engine)
    assert firing == "age: 90d5s, more than its limit of 90 d"
    assert resolved == "age: 40 s, within its limit of 90 d again"


def test_a_notice_says_what_a_limit_is_about(leading):
    engine = leading(AGE)
    engine.observe("age", "93d")
    turn(engine)
    (notice,) = notices(engine)
    assert notice.labels == {"slo": "age", "alert": "limit", "severity": "ticket", "owner": "ml", "tier": "1"}
    assert notice.title == notice.annotations["title"] == "age: 93 d, more than its limit of 90 d"
    assert notice.text.splitlines()[0] == "93 d, limit 90 d"
    assert "breached since 2023-11-15T10:00:00.000Z" in notice.text
    assert (notice.data["value"], notice.data["limit"]) == (93 * 86_400, 90 * 86_400)


def test_whoever_leads_next_tells_nothing_twice(leading):
    engine = leading(DRIFT)
    engine.observe("drift", 1)
    turn(engine)
    before = notices(engine)
    assert told(engine) == [("firing", "drift", "limit", "page")]
    engine.runner.leader.step_down()
    turn(engine)
    assert engine.runner.leading
    assert notices(engine) == before


def test_a_breach_that_is_not_observed_any_more_goes_on(leading):
    engine = leading(Limit("drift", limit=0.1, stale_after="1m"))
    engine.observe("drift", 1)
    turn(engine)
    turn(engine, s=120)
    assert stand(engine) == {"drift": "no_data"}
    assert alerts(engine) == {"drift": "firing"}
    engine.observe("drift", 0)
    turn(engine)
    assert alerts(engine) == {"drift": "resolved"}


def test_whoever_falls_silent_is_told_of(leading):
    """A minute after the value got stale: the host may have stood still, and nobody have been asked."""
    engine = leading(Limit("drift", limit=0.1, stale_after="1h"), Limit("never", limit=1, stale_after="1h"))
    engine.observe("drift", 0)
    turn(engine)
    turn(engine, s=3590)
    assert (stand(engine)["drift"], alerts(engine, "no-data")) == ("met", {})
    turn(engine)
    turn(engine)
    assert (stand(engine)["drift"], alerts(engine, "no-data")) == ("no_data", {"drift": "pending"})
    turn(engine, s=60)
    assert alerts(engine, "no-data") == {"drift": "firing"}
    assert said(engine) == ["drift: nothing observed for 1 h"]
    assert told(engine) == [("firing", "drift", "no-data", "ticket")]
    engine.observe("drift", 0)
    turn(engine)
    assert told(engine)[-1] == ("resolved", "drift", "no-data", "ticket")
    assert said(engine)[-1] == "drift: observed again"


def test_only_the_limit_s_own_channels_are_told(make_engine):
    limits = [Limit("a", limit=1, notify=["ops"]), Limit("b", limit=1)]
    engine = make_engine(SLO("calls"), limits=limits, clock=ManualClock(NOW_NS))
    engine.channels = NOWHERE | {"second": NOWHERE["ops"]}
    engine.runner.tick()
    for name in ("a", "b"):
        engine.observe(name, 2)
    turn(engine)
    channels = {(json.loads(p.payload)["slo"], p.channel) for p in engine.runner.store.notes.parcels()}
    assert channels == {("a", "ops"), ("b", "ops"), ("b", "second")}


def test_a_limit_that_is_removed_ends_its_alert(leading):
    engine = leading(AGE, DRIFT)
    engine.observe("drift", 1)
    turn(engine)
    assert engine.reload([SLO("calls", match={"kind": "call"})], [AGE]) == "2 objectives, drift removed"
    turn(engine)
    assert alerts(engine) == {}
    assert [event for event, *_ in told(engine)] == ["firing", "resolved"]
    assert [limit["name"] for limit in json.loads(engine.definitions_json)["limits"]] == ["age"]


def test_an_engine_may_have_limits_only(make_engine):
    engine = make_engine(limits=[DRIFT], clock=ManualClock(NOW_NS))
    engine.observe("drift", 1)
    turn(engine)
    assert engine.status() == []
    assert alerts(engine) == {"drift": "firing"}


# ── asked for ──────────────────────────────────────────────────────────────────────────────────────────────────────
class Value:
    """A function that a limit asks, and what it answers."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def __call__(self):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer


def asked(engine, *, s=10):
    """A turn, and the answers that came of it."""
    turn(engine, s=s)
    assert engine.runner.leader.asking.join(30)


def test_a_value_is_asked_for_as_often_as_it_says(leading):
    value = Value(0.05, 0.2)
    engine = leading(Limit("drift", limit=0.1, value=value, every="1m"))
    asked(engine, s=0)
    assert (value.asked, stand(engine)) == (1, {"drift": "met"})
    asked(engine, s=59)
    assert value.asked == 1
    asked(engine, s=1)
    assert (value.asked, stand(engine)) == (2, {"drift": "breached"})
    turn(engine)
    assert alerts(engine) == {"drift": "firing"}


def test_a_function_may_tell_a_moment_or_that_it_does_not_know(leading):
    trained = datetime.fromtimestamp(NOW_NS // SECOND_NS, UTC) - timedelta(days=91)
    value = Value(None, trained)
    engine = leading(Limit("age", limit="90d", value=value, every="1m"))
    asked(engine, s=0)
    assert (value.asked, stand(engine)) == (1, {"age": "no_data"})
    asked(engine, s=60)
    assert stand(engine) == {"age": "breached"}
    assert engine.faults() == {}


@pytest.mark.parametrize("answer", [RuntimeError("no model"), SystemExit(3), "a text", float("inf")])
def test_a_function_that_fails_is_a_fault_and_in_the_end_no_data(leading, answer):
    engine = leading(Limit("drift", limit=0.1, value=Value(0.05, answer), every="1m"))
    asked(engine, s=0)
    for minute in range(10):
        assert stand(engine) == {"drift": "met"}, minute
        asked(engine, s=60)
    asked(engine, s=60)
    assert stand(engine) == {"drift": "no_data"}
    assert engine.faults() == {"user_code": 11}
    assert engine.runner.leading


def test_a_function_that_hangs_holds_up_neither_the_leader_nor_another(leading, caplog):
    go_on, entered = threading.Event(), threading.Event()

    def hang():
        entered.set()
        assert go_on.wait(60)
        return 0.05

    hanging, prompt = Value(hang), Value(1)
    engine = leading(
        Limit("hangs", limit=0.1, value=hanging, every="10s"), Limit("prompt", limit=2, value=prompt, every="10s")
    )
    try:
        assert entered.wait(30)
        for _ in range(3):
            turn(engine)
        assert (hanging.asked, stand(engine)["hangs"]) == (1, "no_data")
        assert prompt.asked >= 3
        assert engine.runner.leading
        assert engine.faults() == {"user_code": 1}
        assert "'hangs': its value is still awaited" in caplog.text
    finally:
        go_on.set()
    assert engine.runner.leader.asking.join(30)
    assert stand(engine) == {"hangs": "met", "prompt": "met"}
    asked(engine)
    assert hanging.asked == 2


def test_who_leads_no_more_writes_no_late_answer(leading):
    go_on, entered = threading.Event(), threading.Event()

    def late():
        entered.set()
        assert go_on.wait(60)
        return 1

    engine = leading(Limit("late", limit=0.1, value=late))
    assert entered.wait(30)
    engine.runner.leader.step_down()
    go_on.set()
    assert engine.runner.leader.asking.join(30)
    assert stand(engine) == {"late": "no_data"}
    assert engine.faults() == {}


# ── kept and shown ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_stored_is_exact_and_what_is_garbled_is_left_out(leading):
    engine = leading(DRIFT, Limit("tiny", limit=1))
    engine.observe("drift", 0.1)
    engine.observe("tiny", 5e-324)
    found = engine.runner.store.limits.observations()
    assert found["drift"] == Observation("1", DRIFT.bound, None, NOW_NS, "met", NOW_NS)
    assert found["tiny"].value * 10**324 == 5
    with engine.runner.store._writing(NOW_NS) as connection:
        connection.execute("UPDATE limits SET value_den = '0' WHERE name = 'drift'")
        connection.execute("UPDATE limits SET value_num = NULL WHERE name = 'tiny'")
    assert engine.runner.store.limits.observations() == {}
    turn(engine)
    assert stand(engine) == {"drift": "no_data", "tiny": "no_data"}
    engine.observe("drift", 1)
    assert stand(engine)["drift"] == "breached"


def test_gauges_of_limits(leading):
    engine = leading(AGE, DRIFT, Limit("unknown", limit=3))
    engine.observe("age", "91d")
    engine.observe("drift", 0.05)
    page = render(engine)[1].decode()
    lines = [line for line in page.splitlines() if line.startswith("slo_limit")]
    assert lines == [
        'slo_limit_value{slo_name="age"} 7862400.0',
        'slo_limit_value{slo_name="drift"} 0.05',
        'slo_limit_threshold{slo_name="age"} 7776000.0',
        'slo_limit_threshold{slo_name="drift"} 0.1',
        'slo_limit_threshold{slo_name="unknown"} 3.0',
        'slo_limit_breached{slo_name="age"} 1.0',
        'slo_limit_breached{slo_name="drift"} 0.0',
    ]


def test_exporters_get_limits_as_of_the_last_turn(leading):
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.sdk.resources import Resource

    from otelslo.exporters.otlp_points import requests

    engine = leading(AGE, DRIFT)
    engine.observe("age", "91d")
    reports = []
    leader = engine.runner.leader
    leader.dispatch.due, leader.dispatch.offer = lambda now: True, reports.append
    turn(engine)
    assert [(one.name, one.state) for one in reports[-1].limits] == [("age", "breached"), ("drift", "no_data")]
    assert [alert["state"] for alert in reports[-1].limits[0].alerts] == ["firing"]
    found = {}
    for _, body in requests(reports[-1], Resource({})):
        for metric in ExportMetricsServiceRequest.FromString(body).resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.gauge.data_points:
                attributes = {pair.key: pair.value.string_value for pair in point.attributes}
                found[metric.name, attributes.get("slo.name")] = point.as_double
    names = {gauge.name for gauge in LIMIT_GAUGES}
    assert {key: value for key, value in found.items() if key[0] in names} == {
        ("slo.limit.value", "age"): 91 * 86_400,
        ("slo.limit.threshold", "age"): 90 * 86_400,
        ("slo.limit.threshold", "drift"): 0.1,
        ("slo.limit.breached", "age"): 1,
    }


def test_a_changed_limit_is_told_when_the_configuration_is_read_again(leading, caplog):
    engine = leading(DRIFT)
    engine.observe("drift", 0.2)
    turn(engine)
    caplog.set_level(logging.INFO, "otelslo")
    assert engine.reload(engine.slos, [Limit("drift", limit=0.5)]) == "2 objectives, drift changed"
    turn(engine)
    assert stand(engine) == {"drift": "met"}
    assert alerts(engine) == {"drift": "resolved"}
