"""Alerts of what is known late: somebody is told whenever labels come, up to the last moment that is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cli.invoke import invoke
from drive import advance

from otelslo import SLO, Engine
from otelslo.window import HOUR_NS

HOUR_S = 3600
EACH = 12  # predictions an hour


def hours(engine: Engine, delay_h: int, truths: Iterator[Any], number: int) -> Iterator[int]:
    """The hours of a model whose labels come that late, after each turn."""
    waiting = []
    for hour in range(number):
        for one in range(EACH):
            engine.log_prediction("chat", id=f"{hour}-{one}", output=1)
        waiting.append((hour, [next(truths) for _ in range(EACH)]))
        advance(engine, s=HOUR_S)
        while waiting and waiting[0][0] + delay_h <= hour:
            known, labels = waiting.pop(0)
            for one, truth in enumerate(labels):
                engine.log_label("chat", id=f"{known}-{one}", truth=truth)
        engine.runner.tick()
        yield hour


def firing(engine: Engine) -> dict[str, Any]:
    alerts = engine.runner.store.notes.alerts()
    return {key[2]: data for key, data in alerts.items() if data["state"] == "firing"}


def wrong_from(start: int) -> Iterator[int]:
    """Right until then, and from then on one in four is wrong: five times what the target allows."""
    number = 0
    while True:
        yield 0 if number >= start * EACH and number % 4 == 0 else 1
        number += 1


@pytest.mark.parametrize(
    ("within", "delay_h", "by_h"),
    [("7d", 0, 24), ("7d", 3, 24), ("7d", 8, 24), ("7d", 24, 48), ("7d", 166, 270), ("1d", 23, 48), (None, 72, 160)],
)
def test_wrong_predictions_open_a_ticket_however_late_it_is_known(
    make_engine: Any, within: str | None, delay_h: int, by_h: int
) -> None:
    """Days of right ones before, so that it is no matter of a new objective; well before the budget is used up."""
    options = {"positive": 1} | ({} if within is None else {"label_within": within})
    slo = SLO("precise", indicator="precision", options=options, target="95%", window="28d", match={"route": "chat"})
    before_h = 72
    engine = make_engine(slo)
    told: dict[str, int] = {}
    for hour in hours(engine, delay_h, wrong_from(before_h), before_h + by_h):
        for name in firing(engine):
            told.setdefault(name, hour - before_h)
        if told:
            break
    assert told, "nobody was told"
    assert min(told.values()) >= delay_h
    assert "budget-exhausted" not in told


@pytest.mark.parametrize(("delay_h", "by_h"), [(0, 3), (3, 6), (20, 36)])
def test_a_judge_that_breaks_is_told_however_late_its_verdicts_are(make_engine: Any, delay_h: int, by_h: int) -> None:
    def verdicts() -> Iterator[str]:
        for number in range(10**9):
            yield "supported" if number < 96 * EACH else "judge_error"

    options = {"label_within": "1d"}
    slo = SLO("true", indicator="hallucination", options=options, target="97%", window="28d", match={"route": "chat"})
    engine = make_engine(slo)
    heard = (hour for hour in hours(engine, delay_h, verdicts(), 96 + by_h) if "exclusion-share" in firing(engine))
    hour = next(heard)
    data = firing(engine)["exclusion-share"]["data"]
    assert 96 + delay_h <= hour
    assert HOUR_NS <= data["recent_ns"] <= 48 * HOUR_NS
    assert data["usual_ns"] >= 4 * data["recent_ns"] or delay_h < 20


def test_check_prints_the_windows_that_wait(tmp_path: Any) -> None:
    definition = "{name: right, indicator: accuracy, target: 95%, window: 28d, label_within: 7d, match: {route: chat}}"
    (tmp_path / "slo.yaml").write_text(f"slos:\n  - {definition}\n")
    said = " ".join(invoke("check", tmp_path / "slo.yaml").stdout.split())
    assert (
        "ticket-fast (burn > 2.8 in 1d and 12h), ticket-slow (burn > 0.9333 in 3d and 1d12h), ticket-late (burn > 1 in"
        in said
    )
    assert "exclusion-share (in the last 14d at most)" in said


def test_what_is_excluded_at_once_is_no_unusual_share(make_engine: Any) -> None:
    """A fifth is excluded when it is made, the rest is judged half a day later: nothing is unusual."""
    options = {"label_within": "1d"}
    slo = SLO("right", indicator="accuracy", options=options, target="97%", window="28d", match={"route": "chat"})
    engine = make_engine(slo)
    for hour in range(48):
        for one in range(100):
            engine.log_prediction("chat", id=f"{hour}-{one}", output=1 if one % 5 else None)
            if hour >= 12:
                engine.log_label("chat", id=f"{hour - 12}-{one}", truth=1)
        advance(engine, s=HOUR_S)
        engine.runner.tick()
        assert "exclusion-share" not in firing(engine)
