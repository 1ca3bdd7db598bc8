"""`otelslo model`: what jobs of any language tell of versions, and what is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from otelslo import SLO, Engine, Limit
from otelslo.models import ModelFacts

from .invoke import invoke
from .turned import SECOND_NS, TEN_OCLOCK_NS, advance, turned

DAY_NS = 86_400 * SECOND_NS
FRESH = SLO("fresh", indicator="freshness", options={"max_age": "90d"})


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    limits = [Limit("m-age", limit="90d", model="m")]
    with turned(monkeypatch, tmp_path / "state", FRESH, limits=limits) as made:
        made.runner.tick()
        yield made


def run(engine: Engine, *arguments: object, columns: int = 140) -> Result:
    return invoke("model", *arguments, "--state-dir", engine.state_dir, columns=columns)


def test_telling_and_telling_again(engine: Engine) -> None:
    told = run(engine, "m", "v1", "--trained-at", "2023-11-01T03:00+01:00", "--timezone", "UTC")
    assert told.stdout == "m v1: trained 2023-11-01 02:00:00 UTC, evaluated never told; its age is 14 d 8 h\n"
    again = run(engine, "m", "v1", "--evaluated-at", "now", "--timezone", "Europe/Paris", "--json")
    assert json.loads(again.stdout) == {
        "model": "m",
        "version": "v1",
        "trained_at": "2023-11-01T03:00:00+01:00",
        "evaluated_at": "2023-11-15T11:00:00+01:00",
        "age_s": 0,
        "told_at": "2023-11-15T11:00:00+01:00",
        "evaluations": ["2023-11-15T11:00:00+01:00"],
    }
    assert engine.runner.store.models.facts() == {
        ("m", "v1"): ModelFacts(1_698_804_000 * SECOND_NS, TEN_OCLOCK_NS),
    }


def test_a_running_service_goes_by_it_and_so_does_a_limit(engine: Engine) -> None:
    track = engine.track("m", version="v1")
    engine.record(track, None, 1)
    assert run(engine, "m", "v1", "--trained-at", "-89d").exit_code == 0
    advance(engine, s=2)
    engine.housekeeping()
    engine.record(track, None, 1)
    (fresh,) = engine.status()
    assert (fresh.counts.good, fresh.counts.bad) == (1, 1)
    found = json.loads(invoke("status", "--json", "--state-dir", engine.state_dir).stdout)
    assert [(one["state"], one["value"]) for one in found if one.get("kind") == "limit"] == [("met", 89 * 86_400 + 2)]


def test_earlier_dates_stay_unless_it_is_a_correction(engine: Engine) -> None:
    run(engine, "m", "v1", "--evaluated-at", "-1d")
    kept = run(engine, "m", "v1", "--evaluated-at", "-3d", "--timezone", "UTC")
    assert "--evaluated-at is earlier than what is known (2023-11-14 10:00:00 UTC), which stays" in kept.stderr
    assert "evaluated 2023-11-14 10:00:00 UTC" in kept.stdout
    assert "its age is 3 d" in run(engine, "m", "v1", "--evaluated-at", "-3d", "--correct").stdout


def test_listing(engine: Engine) -> None:
    assert run(engine, "list").stdout == "no model version is known\n"
    assert run(engine, "list", "--json").stdout == "[]\n"
    for model, version, ago in (("m", "v1", "-100d"), ("fraud", "7", "-1d"), ("m", "v2", "-2d")):
        run(engine, model, version, "--trained-at", ago)
        advance(engine, s=1)
    found = json.loads(run(engine, "list", "--json").stdout)
    assert [(one["model"], one["version"]) for one in found] == [("fraud", "7"), ("m", "v2"), ("m", "v1")]
    found = json.loads(run(engine, "list", "m", "--json").stdout)
    assert [round(one["age_s"] / 86_400) for one in found] == [2, 100]
    lines = run(engine, "list").stdout.splitlines()
    assert lines[0].split() == ["model", "version", "trained", "evaluated", "age"]
    assert lines[1].split()[:2] == ["fraud", "7"]
    assert "never told" in lines[1]
    assert run(engine, "list", "nothing").stdout == "no model version is known of nothing\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("m", "v1"), "nothing is told: give --trained-at or --evaluated-at"),
        (("m",), 'Name a version too, or list those that are known: "otelslo model list m"'),
        (("m", "--trained-at", "now"), "Name a version too"),
        (("m", "", "--trained-at", "now"), "the version is ''"),
        (("m", "v1", "--trained-at", "+1h"), "is in the future"),
        (("m", "v1", "--trained-at", "1969-01-01T00:00Z"), "is before 1970"),
        (("m", "v1", "--trained-at", "soon"), "'soon' is no time"),
        (("list", "--trained-at", "now"), '"list" tells nothing'),
    ],
)
def test_bad_input(engine: Engine, arguments: tuple[str, ...], told: str) -> None:
    result = run(engine, *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert engine.runner.store.models.facts() == {}


def test_without_a_state_directory(tmp_path: Path) -> None:
    for arguments in (("m", "v1", "--trained-at", "now"), ("list",)):
        result = invoke("model", *arguments, "--state-dir", tmp_path / "none")
        assert result.exit_code == 2
        assert "there is no such state directory" in result.stderr


def test_check_says_what_such_a_limit_is(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text("limits:\n  - {name: m-age, limit: 90d, model: m}\n")
    shown = invoke("check", path, columns=140).stdout
    assert "the age of the newest version of m, by otelslo.model(...)" in shown
