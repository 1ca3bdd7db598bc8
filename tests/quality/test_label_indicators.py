"""Which predictions are good, bad or excluded by their labels, through the SLO as the joiner asks it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_score, recall_score

from otelslo import config
from otelslo.errors import DefinitionError
from otelslo.event import Event
from otelslo.labelled import JUDGE_ERROR, Labelled
from otelslo.quality.sample import Sample
from otelslo.slo import SLO, rules_table

BY_LABELS = ("accuracy", "precision", "recall", "score", "conversion", "hallucination")
LAPSED = {"lapsed": True}


def quality(indicator, **options):
    """An objective of that kind, with what it needs."""
    needed = {"score": {"bar": 4}, "conversion": {"label_within": "30m"}, "precision": {"positive": 1}}
    needed["recall"] = needed["precision"]
    return SLO("q", indicator=indicator, target="95%", options=needed.get(indicator, {}) | options)


def event(route="fraud", version="1", **labelled):
    return Event("prediction", route=route, attributes={"version": version}, labelled=Labelled(**labelled))


def outcome(slo, **labelled):
    """Kind and reason; the same with rules that change another line, which are looked up by the same keys."""
    judgement = slo.judge(event(**labelled))
    assert judgement.threshold_ns is None
    return tuple(judgement.within)


TABLE = [
    ("accuracy", {}, {"output": 1, "truth": "1"}, ("good", "good")),
    ("accuracy", {}, {"output": "spam", "truth": "ham"}, ("bad", "wrong")),
    ("accuracy", {}, {"output": "spam", **LAPSED}, ("excluded", "lapsed")),
    ("accuracy", {"otherwise": "bad"}, {"output": "spam", **LAPSED}, ("bad", "lapsed")),
    ("accuracy", {}, {"truth": 1}, ("excluded", "no_output")),
    ("accuracy", {}, {"output": 1}, ("excluded", "no_label")),
    ("accuracy", {}, {"output": 1, "truth": float("nan")}, ("excluded", "no_label")),
    ("accuracy", {}, {"output": "", "truth": ""}, ("excluded", "no_label")),
    ("accuracy", {}, {"output": "", "truth": "spam"}, ("bad", "wrong")),
    ("recall", {"positive": 1}, {"output": 1, "truth": ""}, ("excluded", "no_label")),
    ("precision", {"positive": 1}, {"output": 1, "truth": ""}, ("excluded", "no_label")),
    ("accuracy", {}, {"output": float("nan"), "truth": 1}, ("bad", "wrong")),
    ("precision", {}, {"output": 1, "truth": True}, ("good", "good")),
    ("precision", {}, {"output": "1", "truth": 0}, ("bad", "false_positive")),
    ("precision", {}, {"output": 0, "truth": 1}, ("excluded", "not_positive")),
    ("precision", {"otherwise": "bad"}, {"output": 0, **LAPSED}, ("excluded", "not_positive")),
    ("precision", {"otherwise": "bad"}, {"output": 1, **LAPSED}, ("bad", "lapsed")),
    ("precision", {}, {"output": 1, **LAPSED}, ("excluded", "lapsed")),
    ("precision", {"positive": "fraud"}, {"output": "fraud", "truth": "fraud"}, ("good", "good")),
    ("precision", {}, {"truth": 1}, ("excluded", "no_output")),
    ("recall", {}, {"output": 1, "truth": True}, ("good", "good")),
    ("recall", {}, {"output": "0", "truth": 1}, ("bad", "false_negative")),
    ("recall", {}, {"output": 1, "truth": 0}, ("excluded", "not_positive")),
    ("recall", {"otherwise": "bad"}, {"output": 1, **LAPSED}, ("bad", "lapsed")),
    ("recall", {}, {"output": 0, **LAPSED}, ("excluded", "lapsed")),
    ("recall", {}, {"truth": 1}, ("excluded", "no_output")),
    ("score", {}, {"truth": 4}, ("good", "good")),
    ("score", {}, {"truth": "3.999"}, ("bad", "below_bar")),
    ("score", {"bar": 0.7}, {"truth": 0.7}, ("good", "good")),
    ("score", {"bar": "0.8"}, {"truth": 0.1 + 0.7}, ("bad", "below_bar")),  # which is 0.8 less a bit
    ("score", {"better": "lower"}, {"truth": 4}, ("good", "good")),
    ("score", {"better": "lower"}, {"truth": 4.5}, ("bad", "above_bar")),
    ("score", {}, {"truth": "four"}, ("excluded", "no_score")),
    ("score", {}, {"truth": True}, ("excluded", "no_score")),
    ("score", {}, {"output": 5, "score": 5.0, **LAPSED}, ("excluded", "lapsed")),
    ("score", {"of": "score", "bar": 0.8}, {"score": 0.8}, ("good", "good")),
    ("score", {"of": "score", "bar": 0.8}, {"score": 0.79, **LAPSED}, ("bad", "below_bar")),
    ("score", {"of": "score", "bar": 0.8}, {"truth": 1}, ("excluded", "no_score")),
    ("score", {"of": "error", "bar": "0.5"}, {"output": 2.5, "truth": "3"}, ("good", "good")),
    ("score", {"of": "error", "bar": "0.5"}, {"output": 3.6, "truth": 3}, ("bad", "above_bar")),
    ("score", {"of": "error", "bar": "0.5"}, {"truth": 3}, ("excluded", "no_score")),
    ("score", {"of": "error", "bar": "0.5"}, {"output": 3, **LAPSED}, ("excluded", "lapsed")),
    ("conversion", {}, {"truth": 1}, ("good", "good")),
    ("conversion", {}, {"truth": "true"}, ("good", "good")),
    ("conversion", {}, {"truth": 0}, ("bad", "not_converted")),
    ("conversion", {}, LAPSED, ("bad", "lapsed")),
    ("conversion", {"otherwise": "excluded"}, LAPSED, ("excluded", "lapsed")),
    ("conversion", {"positive": "sale"}, {"truth": "sale"}, ("good", "good")),
    ("conversion", {"positive": "sale"}, {"truth": "click"}, ("bad", "not_converted")),
    ("hallucination", {}, {"truth": "supported"}, ("good", "good")),
    ("hallucination", {}, {"truth": "hallucinated"}, ("bad", "hallucinated")),
    ("hallucination", {}, {"truth": "unknown"}, ("excluded", "unknown")),
    ("hallucination", {}, {"truth": JUDGE_ERROR}, ("excluded", "judge_error")),
    ("hallucination", {}, {"truth": 0.93}, ("excluded", "bare_score")),
    ("hallucination", {}, {"truth": "0.93"}, ("excluded", "bare_score")),
    ("hallucination", {}, {"truth": True}, ("excluded", "bare_score")),
    ("hallucination", {}, {"truth": "Supported"}, ("excluded", "no_verdict")),
    ("hallucination", {}, {"output": "long", **LAPSED}, ("excluded", "lapsed")),
    ("hallucination", {"otherwise": "bad"}, LAPSED, ("bad", "lapsed")),
]


@pytest.mark.parametrize(("indicator", "options", "labelled", "expected"), TABLE)
def test_what_counts_as_what(indicator, options, labelled, expected):
    """And it has a line in the printed table, and a cell."""
    slo = quality(indicator, **options)
    assert outcome(slo, **labelled) == expected
    kind, reason = expected
    assert any(row[1:] == ((kind, reason)) for row in rules_table(slo))
    assert slo.as_definition.reason_cells[slo.cell(slo.judge(event(**labelled)).within)] == reason


@pytest.mark.parametrize("name", BY_LABELS)
def test_what_they_have_in_common(name):
    """Of a time of their own, pages nobody, by model, with no lines about requests."""
    slo = quality(name)
    assert (slo.kind, slo.dated, slo.daily) == ("prediction", True, False)
    assert {tier.severity for tier in slo.alert_plan.tiers} == {"ticket"}
    text = str(rules_table(slo))
    assert not any(word in text for word in ("worker", "health check", "the app says"))
    by_model = SLO("m", indicator=name, options=slo.options, match={"route": "fraud"})
    assert by_model.matches("prediction", "fraud", "", "")
    assert not by_model.matches("prediction", "ads", "", "")
    assert not by_model.matches("call", "fraud", "", "")


def test_whose_outcome_needs_no_label():
    """What precision is not about, and what the model said of itself."""
    assert quality("precision").settled(Labelled(output=0))
    assert not quality("precision").settled(Labelled(output=1))
    assert quality("precision").settled(Labelled())
    assert not quality("recall").settled(Labelled(output=0))
    assert quality("score", of="score").settled(Labelled(score=1.0))
    assert not quality("score").settled(Labelled(score=1.0))
    asks = SLO("q", indicator="precision", options={"positive": 1}, valid=lambda event: event.labelled.truth != 7)
    assert not asks.settled(Labelled(output=0))


def test_no_alert_on_what_is_excluded_before_the_rest_is_known():
    """Unless it is asked for; a judge that fails is told of."""
    assert quality("precision").alert_plan.exclusion_share is None
    asked = SLO("q", indicator="precision", options={"positive": 1}, alerts={"exclusion_share": "ticket"})
    assert asked.alert_plan.exclusion_share == "ticket"
    assert quality("hallucination").alert_plan.exclusion_share == "ticket"


@given(st.data())
def test_what_is_settled_stays_what_it_is(data):
    """Whatever its label will be, and if none comes."""
    classes = st.sampled_from([0, 1, "1", 2.5, "x"])
    name = data.draw(st.sampled_from(BY_LABELS))
    slo = quality(name, **data.draw(st.sampled_from([{}, {"otherwise": "bad"}])))
    output, score = data.draw(st.none() | classes), data.draw(st.none() | st.floats(0, 9))
    if slo.settled(Labelled(output, score)):
        found = {outcome(slo, output=output, score=score, truth=truth) for truth in (0, 1, "x", 7)}
        assert found | {outcome(slo, output=output, score=score, lapsed=True)} == found
        assert len(found) == 1


CLASS = st.sampled_from([0, 1])


@given(st.lists(st.tuples(CLASS, CLASS), min_size=1, max_size=40))
def test_occurrences_add_up_to_what_scikit_learn_says(pairs):
    truths, outputs = zip(*pairs, strict=True)
    expected = {
        "accuracy": accuracy_score(truths, outputs),
        "precision": precision_score(truths, outputs, zero_division=float("nan")),
        "recall": recall_score(truths, outputs, zero_division=float("nan")),
    }
    for name, value in expected.items():
        slo = quality(name)
        kinds = [outcome(slo, output=output, truth=truth)[0] for truth, output in pairs]
        good, valid = kinds.count("good"), kinds.count("good") + kinds.count("bad")
        assert (good / valid if valid else None) == (None if value != value else pytest.approx(value, abs=1e-12))


def test_the_users_own_word_comes_first():
    """good, valid, exclude, rules, reasons, where and groups, as of any objective."""
    slo = SLO(
        "q",
        indicator="accuracy",
        target="95%",
        match={"where": lambda event: event.attributes["version"] != "0"},
        good=lambda event: "far_off" if event.labelled.truth == 9 else None,
        valid=lambda event: event.labelled.score != 0.5,
        exclude=[{"name": "bots", "route": "bots"}],
        rules={"lapsed": "bad:never_told"},
        reasons=["far_off"],
        group_by="version",
    )
    assert slo.judge(event(version="0", output=1, truth=1)) is None
    assert outcome(slo, output=1, truth=1) == ("good", "good")
    assert outcome(slo, output=1, truth=2) == ("bad", "wrong")
    assert outcome(slo, output=1, truth=9) == ("bad", "far_off")
    assert outcome(slo, output=1, score=0.5, truth=1) == ("excluded", "invalid")
    assert outcome(slo, output=1, lapsed=True) == ("bad", "never_told")
    assert tuple(slo.judge(event(route="bots", output=1, truth=1)).within) == ("excluded", "bots")
    assert slo.group_of(event(output=1, truth=1)) == "version=1"
    assert {"far_off", "never_told", "wrong"} < set(slo.reason_cells)
    assert ("lapsed: no label came within label_within", "bad", "never_told") in rules_table(slo)


def test_a_new_sample_keeps_the_history():
    """Since a label weighs the same; another positive class, time or rule for what lapsed is another thing."""
    meanings = {
        quality("precision", **options).meaning
        for options in ({}, {"sample": "5%"}, {"sample": "500/d"}, {"sample": 0.5})
    }
    assert len(meanings) == 1
    others = ({}, {"positive": 2}, {"label_within": "7d"}, {"otherwise": "bad"})
    assert len({quality("precision", **options).meaning for options in others}) == len(others)


def test_samples_as_they_are_in_force():
    assert quality("accuracy").option("sample") is None
    assert quality("accuracy", sample=Decimal("0.05")).option("sample") == Sample(rate=Fraction(1, 20))
    assert quality("accuracy", sample="5%").option("sample") == Sample(rate=Fraction(1, 20))
    assert quality("accuracy", sample="100%").option("sample") == Sample(rate=Fraction(1))
    assert quality("accuracy", sample="500/d").option("sample") == Sample(a_day=500)


WRONG = [
    ("accuracy", {"sample": 5}, r"\.sample: 5 is no sample. Write a share such as"),
    ("accuracy", {"sample": "0.05"}, r"'0.05' is no sample"),
    ("accuracy", {"sample": "0/d"}, r"Write 1/d to"),
    ("accuracy", {"sample": "120%"}, r"'120%' is no share. Write a share such as"),
    ("accuracy", {"otherwise": "good"}, r"\.otherwise: 'good' is no choice. Write bad or excluded"),
    ("accuracy", {"label_within": "7"}, r"\.label_within: "),
    ("accuracy", {"positive": 1}, r"has no option 'positive'"),
    ("precision", {"positive": ""}, r"the positive class is empty"),
    ("precision", {"positive": [1]}, r"\.positive: \[1\] is no class"),
    ("score", {"bar": "high"}, r"\.bar: 'high' is no number"),
    ("score", {"of": "loss"}, r"\.of: 'loss' is no choice. Write truth or score or error"),
    ("score", {"of": "error", "better": "higher"}, r"an error is no better when it is higher"),
]


@pytest.mark.parametrize(("indicator", "options", "problem"), WRONG)
def test_bad_options_name_key_and_remedy(indicator, options, problem):
    with pytest.raises(DefinitionError, match=problem):
        quality(indicator, **options)


@pytest.mark.parametrize(
    ("indicator", "needs"),
    [("precision", "positive"), ("recall", "positive"), ("score", "bar"), ("conversion", "label")],
)
def test_what_is_needed_is_asked_for(indicator, needs):
    with pytest.raises(DefinitionError, match=f"needs {needs}"):
        SLO("q", indicator=indicator)


BOTH_READINGS = """
slos:
  - {name: per-prediction, indicator: precision, positive: fraud, target: "95%", window: 30d, match: {route: fraud}}
  - name: per-day
    indicator: precision
    positive: fraud
    match: {route: fraud}
    budgeting: timeslices
    slice: 24h
    slice_target: "95%"
    target: "90%"
    window: 30d
"""


def test_both_readings_of_a_precision_of_95_percent(tmp_path):
    """Of every 100 flagged, 95 are right; or on nine days of ten they are."""
    (tmp_path / "slo.yaml").write_text(BOTH_READINGS)
    one, other = config.load(str(tmp_path / "slo.yaml")).slos
    assert (one.slices, one.target_ratio) == (None, Fraction(95, 100))
    assert (other.slices.bar, other.target_ratio) == (Fraction(95, 100), Fraction(9, 10))
    assert outcome(one, output="fraud", truth="fraud") == outcome(other, output="fraud", truth="fraud")
