"""Values of whole days: from sums that add up and are taken back, against scikit-learn and sacrebleu over the day."""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sklearn.metrics import f1_score, precision_score, recall_score

from otelslo.errors import DefinitionError
from otelslo.event import Event
from otelslo.indicators import bleu
from otelslo.labelled import Labelled
from otelslo.quality.text import rouge
from otelslo.slo import SLO, rules_table

SCORES = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
NEEDED = {"f1": {"bar": "80%", "positive": 1}, "bleu": {"bar": 30}, "rouge": {"bar": 0.4}}
TEXT = st.lists(st.sampled_from(["the", "a", "dog", "cat", "sat", "on", "mat", "."]), max_size=10).map(" ".join)


def daily(indicator, **options):
    given_ = {key: value for key, value in (NEEDED[indicator] | options).items() if value is not None}
    return SLO("q", indicator=indicator, target="90%", options=given_)


def event(**labelled):
    return Event("prediction", route="m", labelled=Labelled(**labelled))


def part(slo, **labelled):
    """Whether it is a part of its day, and why not."""
    kind, reason = slo.judge(event(**labelled)).within
    if kind != "good":
        assert slo.tally(event(**labelled)) == {}
    return True if kind == "good" else reason


def added(slo, pairs):
    """The sums of a day of (truth, output) pairs, as the joiner keeps them."""
    sums = Counter()
    for truth, output in pairs:
        assert part(slo, output=output, truth=truth) is True
        sums.update(slo.tally(event(output=output, truth=truth)))
    return sums


def day(slo, sums):
    outcome, value = slo.day(sums)
    return tuple(outcome), value


CLASS = st.sampled_from([0, 1, 2])
DAY = st.lists(st.tuples(CLASS, CLASS), min_size=1, max_size=30)


@given(DAY, st.sampled_from(["f1", "precision", "recall"]), st.sampled_from([None, "macro", "weighted", "micro"]))
def test_f1_of_a_day_is_scikit_learns(pairs, metric, average):
    """And the comparison with the bar is exact."""
    options = {} if average is None else {"positive": None, "average": average}
    slo = daily("f1", bar="50%", metric=metric, **options)
    outcome, value = day(slo, added(slo, pairs))
    truths, outputs = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = {"average": average} if average else {"average": "macro", "labels": [1]}
        expected = SCORES[metric](truths, outputs, zero_division=math.nan, **chosen)
    if value is None:
        assert outcome == ("excluded", "undefined")
        assert math.isnan(expected) or (average == "weighted" and expected == 0)
    else:
        assert float(value) == pytest.approx(expected, abs=1e-12)
        assert outcome == (("good", "good") if value >= Fraction(1, 2) else ("bad", "below_bar"))


@given(DAY, DAY, st.sampled_from([{"positive": 1}, {"positive": None, "average": "macro"}]))
def test_what_is_taken_back_was_never_there(pairs, others, options):
    """A correction takes the old label's part back and adds the new one's."""
    slo = daily("f1", bar="50%", **options)
    sums = added(slo, [*pairs, *others])
    sums.subtract(added(slo, others))
    assert day(slo, {key: n for key, n in sums.items() if n}) == day(slo, added(slo, pairs))
    assert day(slo, sums) == day(slo, added(slo, pairs))  # zeros that are left say nothing


def test_f1_at_the_bar_is_met():
    """4 of 5: at 80% exactly, and a bar a thousandth of a percent above is not."""
    pairs = [(1, 1)] * 4 + [(1, 0)] * 1 + [(0, 1)] * 1
    assert day(daily("f1"), added(daily("f1"), pairs)) == (("good", "good"), Fraction(4, 5))
    assert day(daily("f1", bar="80.001%"), added(daily("f1"), pairs)) == (("bad", "below_bar"), Fraction(4, 5))


def test_a_day_without_the_class_is_excluded():
    assert day(daily("f1"), added(daily("f1"), [(0, 0)] * 9)) == (("excluded", "undefined"), None)


def test_classes_meet_in_all_their_spellings():
    """One prediction from JSON, one label from a file."""
    slo = SLO("q", indicator="f1", options={"bar": "50%", "average": "macro"})
    assert set(added(slo, [(1, "1"), ("1.0", True), ("1", 1.0)])) == {'["1","1"]'}
    assert day(slo, added(slo, [("1", 1), ("spam", "spam")]))[1] == 1


def test_long_classes_have_short_keys():
    """A sum's key is bounded, and two long classes stay two."""
    slo = SLO("q", indicator="f1", options={"bar": "50%", "average": "macro"})
    sums = added(slo, [("x" * 500, "x" * 500), ("x" * 500, "x" * 499 + "y")])
    assert len(sums) == 2
    assert max(map(len, sums)) < 150
    assert day(slo, sums)[1] == Fraction(1, 3)  # of one class 2/3, of the other 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6), st.booleans())
def test_bleu_of_a_day_is_sacrebleus_of_the_corpus(pairs, lower):
    slo = daily("bleu", case="lower" if lower else "as_written")
    outcome, value = day(slo, added(slo, pairs))
    references, outputs = zip(*pairs, strict=True)
    if value is None:
        assert not any(any(pair) for pair in pairs)
        assert outcome == ("excluded", "undefined")
    else:
        assert value == BLEU(lowercase=lower).corpus_score(list(outputs), [list(references)]).score
        assert outcome == (("good", "good") if value >= 30 else ("bad", "below_bar"))
    sums = added(slo, pairs)
    sums.subtract(added(slo, pairs[1:]))
    assert day(slo, sums) == day(slo, added(slo, pairs[:1]))


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6), st.sampled_from(["rouge1", "rouge2", "rougeL"]))
def test_rouge_of_a_day_is_the_mean(pairs, variant):
    slo = daily("rouge", variant=variant)
    outcome, value = day(slo, added(slo, pairs))
    values = [found for truth, output in pairs if (found := rouge(variant, output, truth).f1) is not None]
    if not values:
        assert (outcome, value) == (("excluded", "undefined"), None)
        return
    assert abs(value - sum(values) / len(values)) <= Fraction(1, 10**12)
    assert outcome == (("good", "good") if value >= Fraction(2, 5) else ("bad", "below_bar"))


def test_who_is_no_part_of_a_day():
    """With the reason by which it is excluded."""
    assert part(daily("f1"), output=1, truth=0) is True
    assert part(daily("f1"), truth=0) == "no_output"
    assert part(daily("f1"), output=1) == "no_label"
    assert part(daily("f1"), output=1, truth=math.nan) == "no_label"
    assert part(daily("f1"), output=1, truth="") == "no_label"
    assert part(daily("f1"), output=1, lapsed=True) == "lapsed"
    for name in ("bleu", "rouge"):
        assert part(daily(name), output="a", truth="b") is True
        assert part(daily(name), truth="b") == "no_output"
        assert part(daily(name), output=1, truth="b") == "no_text"
        assert part(daily(name), output="a", truth=1) == "no_text"
        assert part(daily(name), output="a", lapsed=True) == "lapsed"
    excluding = SLO("q", indicator="f1", options=NEEDED["f1"], exclude=[{"name": "bots", "route": "m"}])
    assert part(excluding, output=1, truth=1) == "bots"


@pytest.mark.parametrize("name", NEEDED)
def test_what_they_have_in_common(name):
    slo = daily(name)
    assert (slo.kind, slo.dated) == ("prediction", True)
    assert slo.daily
    assert slo.needs_texts == (name != "f1")
    assert not slo.settled(Labelled(output=0))
    assert slo.option("otherwise") is None
    assert {tier.severity for tier in slo.alert_plan.tiers} == {"ticket"}
    assert all(tier.long_ns % (24 * 3600 * 10**9) == 0 for tier in slo.alert_plan.tiers)
    assert [row[1:] for row in rules_table(slo)] == [
        ("good", "good"),
        ("bad", "below_bar"),
        ("excluded", "undefined"),
    ]


WRONG = [
    ("f1", {"positive": None}, r"nothing says of which classes. Add positive: 1, or average: macro"),
    ("f1", {"positive": None, "average": "binary"}, r"nothing says of which classes"),
    ("f1", {"average": "macro"}, r"has no positive one. Leave one of the two out"),
    ("f1", {"bar": 80}, r"\.bar: 80 is no share. Write a share such as"),
    ("f1", {"metric": "auc"}, r"'auc' is no choice. Write precision or recall or f1"),
    ("f1", {"otherwise": "bad"}, r"has no option 'otherwise'"),
    ("bleu", {"bar": Decimal("0.35")}, r"a BLEU of 0.35. Write"),
    ("bleu", {"bar": 0.3}, r"a BLEU of 0.3. Write it on its scale of 0 to 100"),
    ("bleu", {"tokenize": "13b"}, r"'13b' is no tokeniser"),
    ("rouge", {"variant": "rougeW"}, r"'rougeW' is no choice"),
]


@pytest.mark.parametrize(("name", "options", "problem"), WRONG)
def test_bad_options_name_key_and_remedy(name, options, problem):
    with pytest.raises(DefinitionError, match=problem):
        daily(name, **options)


def test_a_day_is_judged_by_its_value():
    """User code says which predictions are in, and rules what a day is."""
    with pytest.raises(DefinitionError, match="a day is judged by its value"):
        SLO("q", indicator="f1", options=NEEDED["f1"], good=lambda event: True)
    rules = {"undefined": "bad:no_fraud_at_all", "below_bar": "excluded"}
    slo = SLO("q", indicator="f1", options=NEEDED["f1"], rules=rules, valid=lambda event: event.labelled.score != 0.5)
    assert day(slo, added(slo, [(0, 0)]))[0] == ("bad", "no_fraud_at_all")
    assert day(slo, added(slo, [(0, 1)]))[0] == ("excluded", "below_bar")
    assert day(slo, added(slo, [(1, 1)]))[0] == ("good", "good")
    assert part(slo, output=1, truth=1, score=0.5) == "invalid"
    with pytest.raises(DefinitionError, match="unknown rule 'lapsed'"):
        SLO("q", indicator="f1", options=NEEDED["f1"], rules={"lapsed": "bad"})


def test_sacrebleu_is_asked_for_when_the_definition_is_read(monkeypatch):
    """It may be right elsewhere, so it is an error of its own kind."""
    bleu._bleu.cache_clear()
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(DefinitionError, match=r"SLO 'q'\.indicator: .*pip install 'otelslo\[text\]'") as refused:
        daily("bleu")
    assert refused.value.not_here
    assert daily("rouge").daily
