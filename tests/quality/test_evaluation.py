"""OpenTelemetry's evaluation events as labels."""

from __future__ import annotations

import pytest

from otelslo.errors import BadValue
from otelslo.quality.evaluation import EVENT_NAME, Evaluation

LABELS = {"pass": "supported", "fail": "hallucinated", "n/a": "unknown"}
BY_LABEL = Evaluation("Faithfulness", LABELS)


def result(**changes):
    attributes = {
        "gen_ai.evaluation.name": "Faithfulness",
        "gen_ai.response.id": "chatcmpl-123",
        "gen_ai.evaluation.explanation": "The answer names a source that is not there.",
    }
    return attributes | {f"gen_ai.evaluation.score.{key}": value for key, value in changes.items()}


def test_labels_mean_what_the_reader_says():
    assert EVENT_NAME == "gen_ai.evaluation.result"
    read = [BY_LABEL.read(result(label=label, value=0.1)) for label in LABELS]
    assert read == [("chatcmpl-123", verdict) for verdict in LABELS.values()]


def test_results_of_others_are_left_alone():
    assert BY_LABEL.read(result(label="pass") | {"gen_ai.evaluation.name": "Relevance"}) is None
    assert BY_LABEL.read({}) is None


def test_a_failure_of_the_judge_is_its_own():
    """Whatever stands beside it."""
    assert BY_LABEL.read(result(label="pass") | {"error.type": "timeout"}) == ("chatcmpl-123", "judge_error")


@pytest.mark.parametrize(
    ("direction", "value", "verdict"),
    [
        ({"supported_from": 0.7}, 0.7, "supported"),
        ({"supported_from": 0.7}, 0.699, "hallucinated"),
        ({"supported_to": "0.5"}, 0.5, "supported"),
        ({"supported_to": "0.5"}, 1, "hallucinated"),
    ],
)
def test_a_score_with_a_direction_is_read(direction, value, verdict):
    """Its evaluator's own label is then not asked, unless it has a meaning."""
    scored = Evaluation("Faithfulness", **direction)
    assert scored.read(result(value=value)) == ("chatcmpl-123", verdict)
    assert scored.read(result(value=value, label="fine")) == ("chatcmpl-123", verdict)
    both = Evaluation("Faithfulness", LABELS, **direction)
    assert both.read(result(value=value, label="n/a")) == ("chatcmpl-123", "unknown")
    assert both.read(result(value=value)) == ("chatcmpl-123", verdict)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        (result(value=0.93), "a bare score of 0.93 says not which way is good"),
        (result(label="maybe", value=0.5), "nobody says what the label 'maybe' means"),
        (result(), "neither label nor score"),
        (result(value=float("nan")), "neither label nor score"),
        (result(label="pass") | {"gen_ai.response.id": ""}, r"has no gen_ai.response.id. Have the evaluator set"),
    ],
)
def test_what_cannot_be_read_is_refused(attributes, problem):
    with pytest.raises(BadValue, match=problem):
        BY_LABEL.read(attributes)


def test_another_attribute_may_hold_the_id():
    reader = Evaluation("Faithfulness", LABELS, id_attribute="session.id")
    assert reader.read(result(label="pass") | {"session.id": "s-1"}) == ("s-1", "supported")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"labels": {"pass": "suported"}}, "Did you mean 'supported'"),
        ({"labels": {"pass": "judge_error"}}, "is to mean 'judge_error'"),
        ({"supported_from": 0.5, "supported_to": 0.5}, "one way only"),
        ({}, "nothing says what results of 'x' mean"),
        ({"supported_from": "high"}, "'high' is no score"),
    ],
)
def test_a_reader_without_a_meaning_is_refused(arguments, problem):
    with pytest.raises(BadValue, match=problem):
        Evaluation("x", **arguments)
