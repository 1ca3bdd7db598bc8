"""The corrected rate beside a judge's, as an objective's `audit` has it shown; it decides nothing."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from cli.invoke import invoke

from otelslo import SLO, config, openslo
from otelslo.cli import corrected, state
from otelslo.definition import Definition
from otelslo.errors import DefinitionError
from otelslo.indicators import hallucination
from otelslo.quality.judged_rate import Audit, judged_rate

PAGE = (Path("docs/indicators") / "hallucination.md").resolve()
AUDIT = {"tp": 48, "fn": 2, "tn": 95, "fp": 5}
LARGE = {key: 1000 * count for key, count in AUDIT.items()}


def supported(name="supported", **options):
    return SLO(name, indicator="hallucination", target="90%", match={"route": "chat"}, options=options)


def test_readers_know_it_and_the_history_does_not_depend_on_it():
    with_it, without = supported(audit=AUDIT), supported()
    assert with_it.as_definition.audit == Audit(48, 2, 95, 5)
    assert Definition.from_json(json.loads(json.dumps(with_it.definition()))) == with_it.as_definition
    assert without.definition()["audit"] is None
    saved = without.definition()
    del saved["audit"]  # of an earlier version
    assert Definition.from_json(saved) == without.as_definition
    assert with_it.meaning == without.meaning


def test_it_survives_openslo(tmp_path):
    path = tmp_path / "written.yaml"
    path.write_text(openslo.write([supported(audit=AUDIT)]))
    (back,) = config.load(str(path)).slos
    assert back.as_definition == supported(audit=AUDIT).as_definition


@pytest.mark.parametrize(
    ("audit", "says"),
    [
        (95, r"SLO 'supported'.audit: 95 is no audit. Write {tp: 48, fn: 2, tn: 95, fp: 5}"),
        ({"tp": 48}, "the audit does not say fn, tn, fp. Write {tp: 48"),
        (AUDIT | {"tp": 48.0}, "tp of 48.0 is no count. Write a whole number from 0 on"),
        (AUDIT | {"tp": Decimal("1.5")}, "tp of 1.5 is no count"),
        (AUDIT | {"fn": -1}, "fn of -1 is no count"),
        (AUDIT | {"np": 1}, "an audit has no 'np'. Known: fn, fp, tn, tp"),
        (AUDIT | {"tp": 0, "fn": 0}, "the audit has 0 that people call hallucinated.*Audit more answers"),
        (AUDIT | {"tn": 4}, "the audit has 9 that people call supported, and 10 are the fewest"),
        ({"tp": 25, "fn": 25, "tn": 50, "fp": 50}, "no better than a coin.*add up to 100%"),
        ({"tp": 2, "fn": 48, "tn": 5, "fp": 95}, "no better than a coin.*add up to 9%"),
        ({"tp": 7, "fn": 5, "tn": 7, "fp": 5}, "too small to tell the judge from a coin"),
    ],
)
def test_an_audit_that_corrects_no_rate_is_refused_with_its_definition(audit, says):
    with pytest.raises(DefinitionError, match=says):
        supported(audit=audit)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"rules": {"judge_error": "bad"}}, r"SLO 'q'.rules: it counts something else than the judge's verdicts"),
        ({"good": lambda event: None}, r"SLO 'q'.good: it counts something else.*Leave it out, or the audit"),
        ({"budgeting": "timeslices", "slice": "1h", "slice_target": "90%"}, r"SLO 'q'.budgeting: it counts"),
        ({"options": {"otherwise": "bad"}}, "otherwise: bad counts what has no verdict, which no audit corrects"),
    ],
)
def test_counts_of_more_than_verdicts_have_no_audit(keys, says):
    for audited in (False, True):
        options = keys.get("options", {}) | ({"audit": AUDIT} if audited else {})
        arguments = {"indicator": "hallucination", "target": "90%", **keys, "options": options}
        if audited:
            with pytest.raises(DefinitionError, match=says):
                SLO("q", **arguments)
        else:
            SLO("q", **arguments)


@pytest.fixture
def judged(make_engine, monkeypatch):
    """An engine whose judge has found so many of so many; what else is labelled is no verdict."""

    def make(flagged, of):
        engine = make_engine(supported(audit=LARGE), supported("raw"), SLO("answers", match={"kind": "call"}))
        monkeypatch.setattr(state, "SystemClock", lambda epoch_ns=0: engine.clock)
        verdicts = ["hallucinated"] * flagged + ["supported"] * (of - flagged) + ["unknown", "judge_error", 0.3, "?"]
        for number, verdict in enumerate(verdicts):
            engine.log_prediction("chat", id=number)
            engine.log_label("chat", id=number, truth=verdict)
        engine.runner.tick()
        engine.clock.advance(s=2)
        engine.runner.tick()
        return engine

    return make


def status_of(engine):
    result = invoke("status", "--state-dir", engine.state_dir, "--json")
    return {one["slo"]: one for one in json.loads(result.stdout)}, result.exit_code


def test_status_shows_it_beside_the_raw_rate(judged):
    """That of verdicts alone, with the interval; and everything else is as without an audit."""
    engine = judged(30, 200)
    shown, code = status_of(engine)
    expected = judged_rate(30, 200, Audit(**LARGE))
    assert shown["supported"]["judged"] == {
        "observed": 0.15,
        "corrected": float(expected.corrected),
        "low": expected.low,
        "high": expected.high,
        "confidence": 0.95,
        "clipped": False,
        "refused": None,
    }
    assert expected.low < float(expected.corrected) < 0.15
    assert shown["raw"]["judged"] is None
    own = {"slo", "judged"}
    raw, audited = ({k: v for k, v in shown[name].items() if k not in own} for name in ("raw", "supported"))
    assert audited == raw
    assert (raw["good"], raw["bad"], raw["excluded"], raw["met"], code) == (170, 30, 4, False, 1)
    text = " ".join(invoke("status", "--state-dir", engine.state_dir, columns=120).stdout.split())
    assert "judged 15.0% hallucinated as judged; 11.0% by its audit (" in text
    assert text.count("by its audit") == 1


@pytest.mark.parametrize(
    ("flagged", "of", "says"),
    [(0, 0, "not corrected, since nothing was judged"), (0, 300, "0.0% hallucinated as judged; not corrected, since")],
)
def test_a_window_that_has_no_corrected_rate_says_why(judged, flagged, of, says):
    engine = judged(flagged, of)
    found = status_of(engine)[0]["supported"]["judged"]
    assert found["corrected"] is found["low"] is found["high"] is None
    text = " ".join(invoke("status", "--state-dir", engine.state_dir, columns=200).stdout.split())
    assert f"judged {says}" in text
    assert found["refused"].split(":")[0] in text


def test_the_interval_is_rounded_outwards():
    """And the line of the page is what is shown."""
    found = judged_rate(75, 1000, Audit(**AUDIT))
    assert f"`{corrected.told(found)}`" in PAGE.read_text()
    found = judged_rate(3000, 20_000, Audit(**LARGE))
    low, high = (float(share) for share in re.findall(r"\(([\d.]+)% to ([\d.]+)%", corrected.told(found))[0])
    assert low <= found.low * 100 <= low + 0.1
    assert high - 0.1 <= found.high * 100 <= high


def test_nothing_is_shown_without_an_audit():
    assert corrected.rates([supported().as_definition], []) == {}
    assert corrected.plain(None) is None
    assert hallucination.OPTIONS["audit"].meant is False
