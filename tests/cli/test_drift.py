"""`otelslo drift`: baselines from files, and what was found of windows, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drift.stream import columns, objective

from otelslo import Limit
from otelslo.cli import drift, gate
from otelslo.drift.baseline import Baseline
from otelslo.drift.kept import read_baselines

from .invoke import invoke
from .turned import advance, turned

HOUR_S = 3600


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    column = columns(np.random.default_rng(1), 4_000)
    path = tmp_path / "training.csv"
    lines = (f"{a},{b},{c}" for a, b, c in zip(*(column[name].tolist() for name in column), strict=True))
    path.write_text("\n".join([",".join(column), *lines]) + "\n")
    return path


def test_a_baseline_from_a_csv_file(csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "baseline.json"
    result = invoke("drift", "baseline", csv, "--features", "age, amount,country:categorical", "--out", out)
    assert result.exit_code == 0, result.stderr
    column = columns(np.random.default_rng(1), 4_000)
    found = read_baselines(out)
    assert found["age"] == Baseline.of("age", column["age"], "numeric")
    assert found["country"] == Baseline.of("country", column["country"], "categorical")
    assert list(found) == ["age", "amount", "country"]
    assert f"age: {found['age'].rows:,} rows counted in {found['age'].bins.size} bins" in result.stdout
    again = invoke("drift", "baseline", csv, "--features", "age", "--out", out, "--bins", "4", "--json")
    assert [Baseline.parse(one) for one in json.loads(again.stdout)] == list(read_baselines(out).values())


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ("agee", "no column is called 'agee'. Did you mean 'age'?"),
        ("height", "no column is called 'height'. Known: age, amount, country"),
        ("country", "is no number"),
        ("age:ordinal", "'ordinal' is no kind of feature"),
        ("age,age", "'age' is named twice"),
    ],
)
def test_what_makes_no_baseline(csv: Path, tmp_path: Path, features: str, says: str) -> None:
    out = tmp_path / "baseline.json"
    result = invoke("drift", "baseline", csv, "--features", features, "--out", out, columns=200)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not out.exists()


def test_a_file_that_cannot_be_written(csv: Path, tmp_path: Path) -> None:
    result = invoke("drift", "baseline", csv, "--features", "age", "--out", tmp_path / "no" / "x.json", columns=200)
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slo = objective(tells=["hourly-psi"])
    with turned(monkeypatch, tmp_path / "state", slo, limits=[Limit("hourly-psi", limit=0.1)]) as made:
        monkeypatch.setattr(gate, "SystemClock", lambda: made.clock)
        made.runner.tick()
        yield made


def window(engine, seed, **moved):
    engine.features.observe("fraud", columns(np.random.default_rng(seed), 2_000, **moved))
    advance(engine, s=HOUR_S)
    engine.runner.tick()


def show(engine, *arguments):
    return invoke("drift", "show", "--state-dir", engine.state_dir, "--timezone", "UTC", *arguments, columns=100)


def test_windows_for_people(engine) -> None:
    assert (show(engine).exit_code, show(engine).stdout) == (3, "no window is closed yet\n")
    window(engine, 1)
    steady = show(engine)
    assert steady.exit_code == 0
    assert "fraud-drift  PSI at most 0.1" in steady.stdout
    assert steady.stdout.count("steady") == 3
    window(engine, 2, older=1, country=(0.1, 0.1, 0.1, 0.7))
    drifted = show(engine)
    assert drifted.exit_code == 1
    assert drifted.stdout.count("drifted") == 2
    (line,) = [line for line in drifted.stdout.splitlines() if line.startswith("  country:")]
    assert line.startswith("  country: at 10.")
    assert "% -> 7" in line
    assert show(engine, "--last", "2").stdout.count("PSI at most") == 2
    window(engine, 3)
    assert show(engine, "--last", "9").exit_code == 0, "the newest window decides"


def test_windows_as_json(engine) -> None:
    window(engine, 2, older=1)
    result = show(engine, "fraud-drift", "--json")
    assert result.exit_code == 1
    found = {one["feature"]: one for one in json.loads(result.stdout)}
    assert {feature: one["state"] for feature, one in found.items()} == {
        "age": "drifted",
        "amount": "steady",
        "country": "steady",
    }
    age = found["age"]
    assert age["corrected"] == pytest.approx(age["value"] - age["bias"])
    assert age["live_rows"] == sum(one["live"] for one in age["top_bins"]) == 2_000
    assert age["start"].endswith("+00:00")
    assert show(engine, "unknown", "--json").stdout == "[]\n"
    assert show(engine, "unknown").exit_code == 3


def test_too_few_rows_are_no_data(engine) -> None:
    advance(engine, s=HOUR_S)
    engine.runner.tick()
    result = show(engine)
    assert result.exit_code == 3
    assert result.stdout.count("not enough data") == 3


def test_status_explain_and_gate_know_it(engine) -> None:
    window(engine, 1)
    window(engine, 2, older=1)
    status = {one["slo"]: one for one in json.loads(at(engine, "status", "--json").stdout)}
    assert (status["fraud-drift"]["good"], status["fraud-drift"]["bad"]) == (1, 1)
    assert status["hourly-psi"]["state"] == "breached"
    assert "drifted" in at(engine, "explain", "fraud-drift", "--last", "1d").stdout
    steps = {one["slo"]: one["step"] for one in json.loads(at(engine, "gate", "--json").stdout)["objectives"]}
    assert steps["hourly-psi"] == "breached"
    assert at(engine, "gate").exit_code == 1


def at(engine, name, *arguments):
    return invoke(name, "--state-dir", engine.state_dir, *arguments, columns=100)


def test_check_reads_the_baseline_and_knows_the_limits(csv: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    invoke("drift", "baseline", csv, "--features", "age,country:categorical", "--out", "baseline.json")
    text = """
    slos:
      - name: fraud-drift
        indicator: drift
        match: {route: fraud}
        baseline: baseline.json
        measure: {name: kl, direction: live_from_baseline, unit: nats}
        limit: 0.1
        target: "90%"
        window: 364d
        tells: [weekly-kl]
    limits:
      - {name: weekly-kl, limit: 0.1, stale_after: 15d}
    """
    Path("slo.yaml").write_text(text)
    good = invoke("check", "slo.yaml", "--rules", "--strict", columns=200)
    assert (good.exit_code, good.stderr) == (0, "")
    assert "a feature is beyond the limit, and beyond chance" in good.stdout
    Path("slo.yaml").write_text(text.replace("[weekly-kl]", "[weekly-kll]"))
    assert "no limit is named 'weekly-kll'. Did you mean 'weekly-kl'?" in invoke("check", "slo.yaml").stderr
    Path("slo.yaml").write_text(text.replace("baseline.json", "none.json"))
    missing = invoke("check", "slo.yaml")
    assert missing.exit_code == 2
    assert "none.json: cannot be read" in missing.stderr


def test_a_window_closed_late_says_so(engine) -> None:
    assert drift._spans({"spans": 1}) == ""
    assert drift._spans({"spans": 3}) == ", closed late: it holds what came in 3 windows"


def test_a_directory_without_workers(tmp_path: Path) -> None:
    result = invoke("drift", "show", "--state-dir", tmp_path)
    assert result.exit_code == 2
    assert "no otelslo.db" in result.stderr
