"""Limits from any shell: `status`, `gate` and `check` show them beside the objectives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelslo import SLO, Engine, Limit
from otelslo.cli import gate, override, state
from otelslo.exporters.sqlite_reader import Reader
from otelslo.notice import Notice
from otelslo.ring import state as files

from .invoke import invoke
from .turned import SECOND_NS, TEN_OCLOCK_NS, advance, record, turned

DAY_S = 86_400
NOW_S = TEN_OCLOCK_NS // SECOND_NS
LIMITS = [
    Limit("model-age", limit="90d", owner="ml", runbook_url="https://run/book", notify=["log"]),
    Limit("divergence", limit=0.1, stale_after="8d"),
]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An objective with a good event, and two limits of which nothing was observed."""
    with turned(monkeypatch, tmp_path / "state", SLO("calls", match={"kind": "call"}), limits=LIMITS) as made:
        monkeypatch.setattr(gate, "SystemClock", lambda: made.clock)
        record(made, "job", good=1)
        made.runner.tick()
        yield made


def status(engine: Engine, *arguments: object, columns: int = 100):
    return invoke("status", "--state-dir", engine.state_dir, *arguments, columns=columns)


def limits_of(engine: Engine) -> dict[str, dict]:
    found = json.loads(status(engine, "--json").stdout)
    return {one["name"]: one for one in found if one.get("kind") == "limit"}


def verdicts(engine: Engine, *arguments: object) -> tuple[int, dict[str, str]]:
    result = invoke("gate", "--state-dir", engine.state_dir, "--json", *arguments)
    return result.exit_code, {one["slo"]: one["step"] for one in json.loads(result.stdout)["objectives"]}


def test_status_says_since_when_a_limit_is_breached(engine: Engine) -> None:
    engine.observe("model-age", since=NOW_S - 93 * DAY_S)
    engine.observe("divergence", 0.05)
    result = status(engine)
    assert result.exit_code == 1
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert "1 of 3 objectives missed" in lines[0]
    at = next(number for number, line in enumerate(lines) if line.startswith("Limits"))
    assert lines[at + 1].startswith("✗ model-age  breached since 2023-11-12 ")
    assert lines[at + 1].endswith(": 93 d, limit 90 d")
    assert lines[at + 2] == "  owner ml · https://run/book"
    assert lines[at + 3].startswith("✓ divergence  met since ")
    assert lines[at + 3].endswith(": 0.05, limit 0.1")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_lines_fit(engine: Engine, columns: int) -> None:
    engine.observe("model-age", since=NOW_S - 93 * DAY_S)
    assert max(map(len, status(engine, columns=columns).stdout.splitlines())) <= columns


def test_an_age_grows_while_nobody_runs(engine: Engine) -> None:
    engine.observe("model-age", since=NOW_S - 89 * DAY_S)
    assert limits_of(engine)["model-age"]["met"] is True
    engine.runner.stop()
    advance(engine, s=2 * DAY_S)
    found = limits_of(engine)["model-age"]
    assert (found["met"], found["since"]) == (False, "2023-11-16T10:00:00.000Z")
    (engine.state_dir / files.RING_FILE).unlink()  # the history has the limits, too
    assert limits_of(engine)["model-age"] == found


def test_json_has_limits_in_the_same_list(engine: Engine) -> None:
    engine.observe("divergence", 0.3)
    advance(engine, s=10)
    engine.runner.tick()
    result = status(engine, "--json")
    assert result.exit_code == 1
    assert [one["slo"] for one in json.loads(result.stdout)] == ["calls", "model-age", "divergence"]
    age, divergence = limits_of(engine).values()
    assert (age["state"], age["met"], age["value"], age["budget"]) == ("no_data", None, None, None)
    assert (divergence["state"], divergence["value"], divergence["limit"]) == ("breached", 0.3, 0.1)
    assert [(alert["name"], alert["state"]) for alert in divergence["alerts"]] == [("limit", "firing")]


def test_old_observations_are_no_data(engine: Engine) -> None:
    engine.observe("divergence", 0.05)
    advance(engine, s=9 * DAY_S)
    assert limits_of(engine)["divergence"]["state"] == "no_data"
    shown = " ".join(status(engine).stdout.split())
    assert "divergence no data since 2023-11-23 " in shown
    assert "0.05, limit 0.1, last observed 9 d ago" in shown


def test_definitions_of_a_worker_that_knows_no_limits(engine: Engine) -> None:
    path = engine.state_dir / files.DEFINITIONS_FILE
    told = json.loads(path.read_text())
    del told["limits"]
    path.write_text(json.dumps(told))
    assert [one["slo"] for one in json.loads(status(engine, "--json").stdout)] == ["calls"]
    assert state.look(engine.state_dir).limits == []


def test_the_gate_asks_limits(engine: Engine) -> None:
    assert verdicts(engine) == (3, {"calls": "free", "model-age": "no-data", "divergence": "no-data"})
    assert verdicts(engine, "--on-no-data", "allow")[0] == 0
    engine.observe("model-age", "90d")
    assert verdicts(engine, "model-age") == (0, {"model-age": "met"})
    engine.observe("divergence", 0.10000000000000002)
    assert verdicts(engine) == (1, {"calls": "free", "model-age": "met", "divergence": "breached"})
    assert verdicts(engine, "--on-no-data", "allow")[0] == 1
    assert verdicts(engine, "calls") == (0, {"calls": "free"})
    drawn = " ".join(invoke("gate", "--state-dir", engine.state_dir).stdout.split())
    assert "0.10000000000000002, limit 0.1, breached since 2023-11-15T10:00:00.000Z" in drawn
    assert drawn.endswith("NO GO 1 of 3 say no: divergence (breached)")


def test_the_gate_of_a_name_that_is_none(engine: Engine) -> None:
    result = invoke("gate", "--state-dir", engine.state_dir, "modle-age")
    assert result.exit_code == 2
    assert "Did you mean 'model-age'?" in result.stderr


def test_an_override_of_a_breached_limit_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(override, "who", lambda: "mia")
    engine.observe("model-age", "91d")
    result = invoke("gate", "--state-dir", engine.state_dir, "model-age", "--override", "the new model is in it")
    assert result.exit_code == 0
    (parcel,) = Reader(engine.state_dir / files.DATABASE_FILE).notes.parcels()
    notice = Notice.from_json(json.loads(parcel.payload))
    assert (parcel.channel, notice.slo, notice.labels["owner"]) == ("log", "model-age", "ml")
    assert "91 d, limit 90 d, breached since" in notice.text


def test_check_shows_limits(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(
        "slos: [{name: calls}]\nlimits:\n  - {name: model-age, limit: 90d, severity: page}\n"
        '  - {name: load, limit: 8, value: "os:getpid", every: 5m, description: of the host}\n'
    )
    drawn = " ".join(invoke("check", path).stdout.split())
    assert "1 objective, 2 limits" in drawn
    assert "model-age promise never more than 90d; a page while it is" in drawn
    assert "load of the host promise never more than 8;" in drawn
    assert ":getpid is asked every 5m no data where it is older than 50m" in drawn
    found = json.loads(invoke("check", path, "--json").stdout)
    assert [(one["name"], one["kind"]) for one in found] == [
        ("calls", "http"),
        ("model-age", "limit"),
        ("load", "limit"),
    ]
    written = invoke("check", path, "--openslo")
    assert "limits are left out" in written.stderr
    assert "model-age" not in written.stdout


def test_check_names_the_line_of_a_bad_limit(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text("limits:\n  - name: model-age\n    limit: 3 months\n")
    result = invoke("check", path)
    assert result.exit_code == 2
    assert f"{path}:3:12" in result.stderr


def test_a_target_of_everything_names_the_form_for_it(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text('slos: [{name: calls, target: "100%"}]\n')
    assert "declare a limit for what must never be exceeded" in invoke("check", path).stderr


def test_explain_says_what_a_limit_is(engine: Engine) -> None:
    result = invoke("explain", "model-age", "--state-dir", engine.state_dir)
    assert result.exit_code == 2
    assert "model-age is a limit, which has no budget" in result.stderr
