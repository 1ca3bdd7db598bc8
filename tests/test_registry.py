"""The registry of model versions: told by any process, never moved back by chance, kept small, also a limit."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from drive import advance

import otelslo
from otelslo import SLO, DefinitionError, Engine, Limit, ManualClock
from otelslo.errors import BadValue
from otelslo.exporters.sqlite import Store, StoreUnavailable
from otelslo.exporters.sqlite_models import MOST_EVALUATIONS, Models
from otelslo.exporters.sqlite_reader import Reader
from otelslo.models import ModelFacts
from otelslo.window import DAY_NS, SECOND_NS

NOW_NS = 1_700_042_400 * SECOND_NS
NOW_S = NOW_NS // SECOND_NS
NOW = datetime.fromtimestamp(NOW_S, UTC)
AGE = Limit("recommender-age", limit="90d", model="recommender")


@pytest.fixture
def job(tmp_path):
    """An engine that is never started."""
    return Engine([], state_dir=tmp_path / "state", clock=ManualClock(NOW_NS))


def known(engine):
    return Reader(engine.state_dir / "otelslo.db").models.facts()


# ── told ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "moment",
    [
        NOW - timedelta(days=1),
        (NOW - timedelta(days=1)).astimezone(timezone(timedelta(hours=5))),
        (NOW - timedelta(days=1)).isoformat(),
        (NOW - timedelta(days=1)).isoformat().replace("+00:00", "Z"),
        NOW_S - 86_400,
        float(NOW_S - 86_400),
    ],
)
def test_a_moment_in_every_form(job, moment):
    job.model("recommender", "v1", trained_at=moment)
    job.model("recommender", "v2", evaluated_at=moment)
    assert known(job) == {
        ("recommender", "v1"): ModelFacts(NOW_NS - DAY_NS, None),
        ("recommender", "v2"): ModelFacts(None, NOW_NS - DAY_NS),
    }
    assert not job.running


@pytest.mark.parametrize(
    ("name", "version", "dates", "told"),
    [
        ("m", "v", {}, "nothing is told of 'm' 'v'. Give trained_at or evaluated_at"),
        ("m", "v", {"trained_at": datetime(2023, 1, 1)}, "trained_at='2023-01-01 00:00:00' has no time zone"),
        ("m", "v", {"evaluated_at": "2023-01-01"}, "evaluated_at='2023-01-01' has no time zone"),
        ("m", "v", {"trained_at": "yesterday"}, "trained_at='yesterday' is no time"),
        ("m", "v", {"trained_at": True}, "trained_at: True is no moment"),
        ("m", "v", {"trained_at": float("nan")}, "trained_at: nan is no moment"),
        ("m", "v", {"trained_at": -1}, "trained_at=-1 is before 1970"),
        ("m", "v", {"trained_at": NOW_S + 61}, f"trained_at={NOW_S + 61} is in the future"),
        ("m", "v", {"evaluated_at": NOW_S * 1000}, "is out of range"),
        ("m", "", {"trained_at": 1}, "the version is ''"),
        ("m", "  ", {"trained_at": 1}, "the version is '  '"),
        ("m", None, {"trained_at": 1}, "the version is None"),
        ("m", 7, {"trained_at": 1}, "the version is 7"),
        ("", "v", {"trained_at": 1}, "the model is ''"),
        ("list", "v", {"trained_at": 1}, "'list' is no model"),
        ("m", "v\n", {"trained_at": 1}, "is too long or not one line"),
        ("m" * 201, "v", {"trained_at": 1}, "is too long or not one line"),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(job, name, version, dates, told):
    with pytest.raises(BadValue) as refused:
        job.model(name, version, **dates)
    assert told in str(refused.value)
    assert refused.value.remedy
    assert not job.state_dir.exists()


def test_a_clock_that_is_a_little_ahead(job):
    job.model("m", "v", trained_at=NOW_S + 60)
    assert known(job) == {("m", "v"): ModelFacts(NOW_NS + 60 * SECOND_NS)}


def test_nothing_moves_back_unless_it_is_a_correction(job, caplog):
    job.model("m", "v", trained_at=1000, evaluated_at=2000)
    job.model("m", "v", evaluated_at=3000)
    assert known(job) == {("m", "v"): ModelFacts(1000 * SECOND_NS, 3000 * SECOND_NS)}
    assert caplog.text == ""
    job.model("m", "v", trained_at=500, evaluated_at=2500)
    assert known(job) == {("m", "v"): ModelFacts(1000 * SECOND_NS, 3000 * SECOND_NS)}
    assert "model 'm' 'v': evaluated_at is earlier than what is known, which stays" in caplog.text
    job.model("m", "v", evaluated_at=2000, correct=True)
    assert known(job) == {("m", "v"): ModelFacts(1000 * SECOND_NS, 2000 * SECOND_NS)}
    (one,) = Reader(job.state_dir / "otelslo.db").models.versions("m")
    assert one.evaluations == (2000 * SECOND_NS,)


def test_of_each_version_the_last_evaluations_are_kept_and_of_each_model_the_last_versions(job, monkeypatch):
    monkeypatch.setattr("otelslo.exporters.sqlite_models.MOST_VERSIONS", 3)
    for at_s in range(1, MOST_EVALUATIONS + 6):
        job.model("m", "v0", evaluated_at=at_s)
    (one,) = Reader(job.state_dir / "otelslo.db").models.versions()
    assert [at_ns // SECOND_NS for at_ns in one.evaluations] == list(range(MOST_EVALUATIONS + 5, 5, -1))
    for number in range(1, 6):
        job.clock.advance(s=1)
        job.model("m", f"v{number}", trained_at=number)
        job.model("other", f"v{number}", trained_at=number)
        job.model("m", "v0", evaluated_at=1)
    models = Reader(job.state_dir / "otelslo.db").models
    assert {one.version for one in models.versions("m")} == {"v5", "v4", "v0"}
    assert {one.version for one in models.versions("other")} == {"v5", "v4", "v3"}
    assert {one.version: len(one.evaluations) for one in models.versions("m")}["v0"] == MOST_EVALUATIONS


def test_a_database_that_cannot_be_written_is_a_fault_of_ours(make_engine, monkeypatch):
    engine = make_engine(SLO("calls", match={"kind": "call"}), clock=ManualClock(NOW_NS))

    def broken(*_, **__):
        raise OSError("no")

    monkeypatch.setattr("otelslo.exporters.sqlite_models.Models.tell", broken)
    engine.model("m", "v", trained_at=1)
    assert engine.faults() == {"internal": 1}


def test_a_busy_database_is_tried_again(job, monkeypatch):
    """By a job that tells once, and by nobody else."""
    tries, real = [], Models.tell

    def busy(*arguments, **more):
        tries.append(arguments)
        if len(tries) < 3:
            raise StoreUnavailable("database is locked")
        return real(*arguments, **more)

    monkeypatch.setattr(Models, "tell", busy)
    job.model("m", "v", trained_at=1)
    assert known(job) == {("m", "v"): ModelFacts(SECOND_NS)}


def test_what_is_garbled_in_the_database_was_never_told(job):
    job.model("m", "v", trained_at=1, evaluated_at=2)
    store = Store(job.state_dir / "otelslo.db")
    store.open(NOW_NS)
    with store._writing(NOW_NS) as connection:
        connection.execute("UPDATE models SET trained_wall_ns = 'soon'")
    store.close()
    assert known(job) == {("m", "v"): ModelFacts(None, 2 * SECOND_NS)}


def test_the_module_s_function_acts_on_the_configuration(tmp_path):
    (tmp_path / "slo.yaml").write_text("limits: [{name: age, limit: 90d, model: m}]\n")
    code = "import otelslo; otelslo.model('m', 'v', trained_at=1, evaluated_at='2023-11-01T00:00Z')\n"
    code += "try: otelslo.model('m', '', trained_at=1)\nexcept ValueError as e: print(e)"
    here = {"cwd": tmp_path, "capture_output": True, "text": True}
    answer = subprocess.run([sys.executable, "-c", code], check=True, **here)
    assert answer.stdout.startswith("the version is ''")
    database = Reader(tmp_path / ".otelslo" / "otelslo.db")
    assert database.models.facts() == {("m", "v"): ModelFacts(SECOND_NS, 1_698_796_800 * SECOND_NS)}
    off = "import os; os.environ['OTELSLO_DISABLED'] = '1'; import otelslo; otelslo.model('m', 'w', trained_at=1)"
    subprocess.run([sys.executable, "-c", off], check=True, **here)
    assert len(database.models.facts()) == 1
    (tmp_path / "slo.yaml").write_text("limits: 3\n")
    wrong = subprocess.run([sys.executable, "-c", code.splitlines()[0]], check=True, **here)
    assert "no list of limits" in wrong.stderr
    heavy = (
        "import otelslo, sys; otelslo.model; print([m for m in ('numba', 'numpy', 'sqlite_utils') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", heavy], check=True, **here).stdout.strip() == "[]"


def test_many_processes_tell_at_once(tmp_path):
    """Each a process of its own, on one database that none of them found there."""
    code = "import otelslo, sys\nfor at in range(1, 6): otelslo.model('m', sys.argv[1], evaluated_at=at)"
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, f"v{number}"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    told = [job.communicate()[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4, told
    found = Reader(tmp_path / ".otelslo" / "otelslo.db").models.facts()
    assert found == {("m", f"v{number}"): ModelFacts(None, 5 * SECOND_NS) for number in range(4)}, told


# ── as a limit ─────────────────────────────────────────────────────────────────────────────────────────────────────
def stand(engine):
    return {one.name: (one.state, one.value_text) for one in engine.observing.statuses()}


def test_a_limit_on_the_age_of_a_model(make_engine, job):
    """By the version that was trained or evaluated last; told by a job that knows no limits; it grows by itself."""
    engine = make_engine(limits=[AGE], clock=ManualClock(NOW_NS), state_dir=job.state_dir)
    assert stand(engine) == {"recommender-age": ("no_data", "nothing observed")}
    job.model("recommender", "v1", trained_at=NOW_S - 80 * 86_400)
    job.model("another", "v1", trained_at=NOW_S)
    assert stand(engine) == {"recommender-age": ("met", "80 d")}
    job.model("recommender", "v0", trained_at=NOW_S - 400 * 86_400)
    assert stand(engine) == {"recommender-age": ("met", "80 d")}
    advance(engine, s=10 * 86_400)
    assert stand(engine) == {"recommender-age": ("met", "90 d")}
    advance(engine, ns=1)
    assert stand(engine)["recommender-age"][0] == "breached"
    (status,) = engine.observing.statuses()
    assert status.since_wall_ns == NOW_NS + 10 * DAY_NS
    job.clock.advance(s=10 * 86_400)
    job.model("recommender", "v0", evaluated_at=NOW_S + 9 * 86_400)
    assert stand(engine) == {"recommender-age": ("met", "1 d")}


def test_its_breach_is_told_as_a_ticket_and_resolves(make_engine):
    engine = make_engine(limits=[AGE], clock=ManualClock(NOW_NS))
    engine.channels = {"ops": ("webhook", {"url": "http://127.0.0.1:9/", "allow_http": True, "allow_private": True})}
    engine.runner.tick()
    engine.model("recommender", "v1", trained_at=NOW_S - 90 * 86_400 + 15)

    def turn():
        advance(engine, s=10)
        engine.runner.tick()
        return [json.loads(one.payload)["event"] for one in engine.runner.store.notes.parcels()]

    assert turn() == []
    assert turn() == ["firing"]
    engine.model("recommender", "v1", evaluated_at=NOW_S)
    assert turn() == ["firing", "resolved"]
    (parcel, _) = engine.runner.store.notes.parcels()
    assert json.loads(parcel.payload)["severity"] == "ticket"


def test_such_a_limit_is_told_by_the_model_alone_and_reads_back(make_engine):
    engine = make_engine(limits=[AGE], clock=ManualClock(NOW_NS))
    with pytest.raises(BadValue, match=r"is the age of a model. Tell it by otelslo\.model\('recommender'"):
        engine.observe("recommender-age", "1d")
    again = Limit.from_json(json.loads(json.dumps(AGE.definition())))
    assert (again.model, again.source, again.bound) == ("recommender", "model:recommender", AGE.bound)
    assert Limit.from_mapping({"name": "a", "limit": "90d", "model": "m"}).model == "m"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"limit": 0.1, "model": "m"}, "the age of a model is a duration"),
        ({"limit": "90d", "model": ""}, "it is empty"),
        ({"limit": "90d", "model": 7}, "7 is a number"),
        ({"limit": "90d", "model": "m", "value": lambda: 1}, "is not asked for"),
    ],
)
def test_a_limit_that_cannot_be_meant(given, told):
    with pytest.raises(DefinitionError, match=told):
        Limit("age", **given)


def test_the_age_of_data_is_an_observed_limit(make_engine):
    engine = make_engine(limits=[Limit("features-age", limit="26h")], clock=ManualClock(NOW_NS))
    engine.observe("features-age", since=NOW - timedelta(hours=26))
    assert stand(engine) == {"features-age": ("met", "1 d 2 h")}
    advance(engine, ns=1)
    assert stand(engine)["features-age"][0] == "breached"


def test_names_are_exported():
    assert {"model", "observe"} <= set(otelslo.__all__)
