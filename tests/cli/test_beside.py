"""What `otelslo status` and `explain` show beside counts: labels, bounds, judged rates, headroom, values of days."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from drive import advance

from otelslo import SLO, Engine
from otelslo.cli import state
from otelslo.cli.days import Day
from otelslo.definition import Definition
from otelslo.label_record import Label, Prediction
from otelslo.window import DAY_NS, HOUR_NS

from .invoke import invoke

F1 = SLO("daily", indicator="f1", target="50%", window="7d", options={"positive": 1, "bar": "70%"})
RIGHT = SLO("right", indicator="accuracy", target="90%", window="7d", match={"route": "m"},
            options={"label_within": "1d"})  # fmt: skip
AUDIT = {"tp": 480, "fn": 20, "tn": 950, "fp": 50}
SUPPORTED = SLO("supported", indicator="hallucination", target="90%", match={"route": "chat"}, options={"audit": AUDIT})
LOAD = SLO("load", indicator="throughput", threshold="200ms", target="99%", match={"kind": "call"},
           options={"rate": "2/min"})  # fmt: skip
CALLS = [SLO(f"calls-{number}", match={"kind": "call"}) for number in range(9)]


@pytest.fixture
def make(make_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    def made(*slos: SLO) -> Engine:
        engine = make_engine(*slos)
        monkeypatch.setattr(state, "SystemClock", lambda epoch_ns=0: engine.clock)
        return engine

    return made


def put(engine: Engine, at_ns: int, pairs: list[tuple[Any, Any]], model: str = "m") -> None:
    """Predictions (output, truth), by a number of their own; None is not labelled."""
    for number, (output, truth) in enumerate(pairs):
        identity = f"{at_ns}-{number}"
        engine.labels.put(Prediction(model, identity, at_ns, output, None, {}))
        if truth is not None:
            engine.labels.put(Label(model, identity, at_ns, truth))


def settle(engine: Engine) -> None:
    for _ in range(3):
        engine.runner.tick()
        advance(engine, s=1)


def status(engine: Engine, *arguments: object, columns: int = 100) -> str:
    return invoke("status", "--state-dir", engine.state_dir, *arguments, columns=columns).stdout


def plain(engine: Engine) -> dict[str, dict[str, Any]]:
    return {one["slo"]: one for one in json.loads(status(engine, "--json"))}


def days_of(engine: Engine) -> int:
    """Three days: 2/3 exactly is below the bar of 0.7, then 1, then one without the class."""
    today_ns = engine.clock.wall_ns() // DAY_NS * DAY_NS
    put(engine, today_ns - 3 * DAY_NS + HOUR_NS, [(1, 1), (1, 0)])
    put(engine, today_ns - 2 * DAY_NS + HOUR_NS, [(1, 1), (0, 0)])
    put(engine, today_ns - DAY_NS + HOUR_NS, [(0, 0)])
    settle(engine)
    return today_ns


# ── values of days ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_value_of_a_day_is_shown_beside_its_bar(make: Callable[..., Engine]) -> None:
    engine = make(F1, RIGHT)
    days_of(engine)
    found = plain(engine)
    assert [(one["value"], one["counted"]) for one in found["daily"]["days"]] == [
        (None, "excluded"),
        (1.0, "good"),
        (2 / 3, "bad"),
    ]
    assert {one["bar"] for one in found["daily"]["days"]} == {0.7}
    assert found["right"]["days"] is None
    (line,) = [line for line in status(engine).splitlines() if line.strip().startswith("days")]
    assert line.split(maxsplit=2)[2].strip() == "no value (excluded), bar 0.7; before 1, 0.6667 (bad)"


def test_explain_lists_the_days(make: Callable[..., Engine]) -> None:
    engine = make(F1, RIGHT)
    today_ns = days_of(engine)
    shown = invoke("explain", "daily", "--state-dir", engine.state_dir).stdout
    listed = [line.split() for line in shown.split("UTC, the newest first; bar 0.7")[1].splitlines() if line.strip()]
    assert [line[1:] for line in listed] == [["no", "value", "excluded"], ["1", "good"], ["0.6667", "bad"]]
    (told, *_) = json.loads(invoke("explain", "daily", "--state-dir", engine.state_dir, "--json").stdout)
    assert [(one["day"], one["group"]) for one in told["days"]] == [(line[0], None) for line in listed]
    (other, *_) = json.loads(invoke("explain", "right", "--state-dir", engine.state_dir, "--json").stdout)
    assert other["days"] is None
    assert "the newest first" not in invoke("explain", "right", "--state-dir", engine.state_dir).stdout
    notes = engine.runner.store.notes
    notes.exclude("daily", today_ns - 3 * DAY_NS, today_ns - 2 * DAY_NS, "a feed", engine.clock.wall_ns())
    assert [one["counted"] for one in plain(engine)["daily"]["days"]] == ["excluded", "good", "excluded"]


@pytest.mark.parametrize(
    ("value", "outcome", "told"),
    [
        (0.79996, "bad", "0.79996"),
        (0.80004, "good", "0.8"),
        (0.7, "good", "0.7"),
        (None, "excluded", "no value"),
        (1 / 3, "excluded", "0.3333"),
        (0.9, "bad", "0.9"),  # by the operator's own rules
        (35.25, "good", "35.25"),
    ],
)
def test_a_value_is_not_rounded_across_its_bar(value: float | None, outcome: str, told: str) -> None:
    bar = Fraction(7, 10) if value == 0.7 else Fraction(4, 5)
    assert Day(0, value, bar, outcome).text == told


def test_the_bar_is_known_to_readers_and_is_that_of_days_alone() -> None:
    assert F1.as_definition.day_bar == Fraction(7, 10)
    assert Definition.from_json(json.loads(json.dumps(F1.definition()))) == F1.as_definition
    saved = F1.definition()
    del saved["day_bar"]  # of an earlier version
    assert Definition.from_json(saved) == replace(F1.as_definition, day_bar=None)
    score = SLO("score", indicator="score", target="90%", options={"bar": 0.7})
    assert score.as_definition.day_bar is None


# ── labels, judged rates, headroom ─────────────────────────────────────────────────────────────────────────────────
def test_a_line_each_says_what_its_sli_stands_on(make: Callable[..., Engine]) -> None:
    engine = make(*CALLS, RIGHT, SUPPORTED, LOAD, F1)
    now_ns = engine.clock.wall_ns()
    put(engine, now_ns - HOUR_NS, [(1, 1)] * 52 + [(1, None)] * 48)
    put(engine, now_ns - HOUR_NS, [(1, "supported")] * 90 + [(1, "hallucinated")] * 10, "chat")
    days_of(engine)
    track = engine.track("job")
    for _ in range(3):
        for _ in range(4):
            engine.record(track, "good", 10**6)
        advance(engine, s=60)
    settle(engine)
    for columns in (60, 80, 100):
        shown = status(engine, columns=columns)
        under = _under(shown)
        text = {name: " ".join(lines.split()) for name, lines in under.items()}
        assert text["right"].startswith("labels 54 %, 4 % mature · SLI 53.3 % to 99.1 %")
        assert text["supported"].startswith("labels 100 % · 10.0% hallucinated as judged; 5.5% by its audit")
        assert "of the promised 2/min" in text["load"]
        assert "bar 0.7" in text["daily"]
        assert text["calls-0"] == ""
        assert all(len(line) <= columns for line in shown.splitlines())


def _under(shown: str) -> dict[str, str]:
    """What stands under the line of each objective."""
    found: dict[str, str] = {}
    body = shown.split("burn 5m", 1)[1].split("What burned it")[0].split("Traffic")[0]
    for line in body.splitlines()[1:]:
        if line[:1].strip() or line[1:2].strip():
            name = line.split()[1]
            found[name] = ""
        elif found:
            found[name] += line + " "
    return found


def test_maturity_is_told_in_words(make: Callable[..., Engine]) -> None:
    engine = make(RIGHT)
    now_ns = engine.clock.wall_ns()
    put(engine, now_ns - HOUR_NS, [(1, 1)] * 3)
    put(engine, now_ns - 2 * DAY_NS, [(1, 1)] * 2)
    settle(engine)
    assert "40 % mature" in status(engine)
    assert plain(engine)["right"]["labels"]["maturity"] == 0.4
