"""Whose failure a loss is: by its reason, by what was raised, by what the operator and the app have named."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction

import pytest
from cli.invoke import invoke
from test_explain import MONTH, checkout, loss
from test_failure import CUDA_OOM

import otelslo
from otelslo import SLO, indicators
from otelslo.counts import Counts
from otelslo.definition import Definition
from otelslo.event import FAILURES
from otelslo.explain import explain, explain_text
from otelslo.loss_class import CLASSES, by_class, class_of, class_of_reason
from otelslo.window import HOUR_NS


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        *((kind, kind) for kind in FAILURES),
        ("oom_cascade", "oom"),
        ("crashed", "infrastructure"),
        ("server_cancel", "cancelled"),
        ("exception", "error"),
        ("cut", "error"),
        ("5xx", "error"),
        ("503", "error"),
        ("4xx", "client_error"),
        ("404", "client_error"),
        ("429", "overload"),
        ("unauthorised", "client_error"),
        ("shed", "overload"),
        ("slow", "slow"),
        ("stalled", "slow"),
        ("abandoned", "slow"),
        ("not_good", "quality"),
        ("other", "other"),
        ("nonsense", "other"),
        ("50", "other"),
        ("5xxx", "other"),
    ],
)
def test_reasons(reason, name):
    assert class_of_reason(reason) == name
    assert name in CLASSES


@pytest.mark.parametrize("name", indicators.names())
def test_every_bad_reason_of_ours_has_a_class(name):
    """What is bad by a table of ours is of some class, unless its indicator says of which."""
    member = indicators.load(name)
    reasons = {out.reason for line in member.RULES for out in (line.within, line.beyond) if out.kind == "bad"}
    known = {reason: class_of_reason(reason, getattr(member, "LOSS_CLASS", "other")) for reason in reasons}
    assert set(known.values()) <= set(CLASSES)
    if getattr(member, "DATED", False):
        assert set(known.values()) == {"quality"}, known
    streams = ("ttft", "tpot", "inter_token", "goodput")
    if name in ("availability", "latency", "inference", "throughput", "saturation", *streams):
        assert "other" not in known.values(), known


@pytest.mark.parametrize(
    ("reason", "exception", "name"),
    [
        ("exception", "OutOfMemoryError", "oom"),
        ("exception", "EngineDeadError", "framework_crash"),
        ("exception", "ReadTimeout", "timeout"),
        ("exception", "ConnectionError", "infrastructure"),
        ("exception", "KeyError", "error"),
        ("exception", "", "error"),
        ("other", "APITimeoutError", "timeout"),
        ("other", "KeyError", "error"),
        ("other", "", "other"),
        ("slow", "TimeoutError", "slow"),
        ("nonsense", "MemoryError", "quality"),
    ],
)
def test_what_was_raised_tells_more_of_a_vague_reason(reason, exception, name):
    assert class_of(reason, exception, {"nonsense": "quality"}) == name


def test_counts_by_class_need_reasons_that_tell():
    assert by_class({"oom": 2, "oom_cascade": 3, "slow": 1, "exception": 0}, {}) == {"oom": 5, "slow": 1}
    assert by_class({"oom": 2, "exception": 1}, {}) is None
    assert by_class({"oom": 2, "other": 1}, {}) is None


def test_an_objective_knows_the_classes_of_its_reasons():
    """Named by the app they are of quality; named by a rule they are of its class, if the rules agree."""
    slo = SLO(
        "m",
        indicator="inference",
        reasons=["nonsense", "timeout"],
        rules={"oom": "bad:memory", "framework_crash": "bad:memory", "infrastructure": "bad:net", "4xx": "bad"},
    )
    classes = slo.as_definition.loss_classes
    named = {name: classes[name] for name in ("nonsense", "timeout", "memory", "net", "crashed")}
    assert named == {
        **{"nonsense": "quality", "timeout": "timeout", "memory": "other", "net": "infrastructure"},
        "crashed": "infrastructure",
    }
    assert set(classes) == {reason for reason in slo.reason_cells[1:10] if reason}
    assert Definition.from_json(json.loads(json.dumps(slo.definition()))).loss_classes == classes


def test_a_definition_of_before_has_the_classes_of_the_names():
    data = checkout.to_json()
    del data["loss_classes"]
    definition = Definition.from_json(data)
    found = explain(MONTH, Counts(9, 2), HOUR_NS, [loss(2)], [("class",)], loss_classes=definition.loss_classes)
    assert [(share.values, share.count) for share in found.breakdowns[0].shares] == [(("error",), 2)]


def told(losses, bad, **more):
    return [line for line in explain_text(explain(MONTH, Counts(90, bad), HOUR_NS, losses, **more)) if "class" in line]


def test_the_class_is_told_where_it_says_more_than_the_reason():
    assert told([loss(2, reason="oom")], 2) == []
    assert told([loss(2), loss(1, reason="exception")], 3) == []
    assert told([loss(2, reason="oom"), loss(1, reason="oom_cascade")], 3) == ["By class: 100% oom"]
    assert told([loss(1, reason="exception", exception="MemoryError"), loss(1)], 2) == ["By class: 50% error, 50% oom"]
    assert told([loss(2)], 2, by=[("class",)]) == ["By class: 100% error"]


def test_a_class_that_nobody_knows_is_said_to_be_none():
    found = explain(MONTH, Counts(90, 5), HOUR_NS, [loss(3, reason="oom"), loss(2, reason="other")], [("class",)])
    (by,) = found.breakdowns
    assert [(share.values[0], share.count, share.exact) for share in by.shares] == [
        ("oom", 3, False),
        ("other", 2, False),
    ]
    assert explain_text(found)[-1].startswith("All 5 bad events are accounted for; the class of 2 is not known")


def test_an_oom_and_its_cascade_are_of_memory_though_others_have_names(make_engine):
    """As in the first example of the document: there is no room for all, and none of these counts as other."""
    named = {"threshold": "500ms", "reasons": ["nonsense"], "options": {"cold_start": "exclude"}}
    engine = make_engine(SLO("model", indicator="inference", target="90%", **named))

    @otelslo.track("rerank", engine=engine)
    def called(error):
        if error is not None:
            raise error

    dead = type("EngineDeadError", (RuntimeError,), {})
    for error in (None, None, RuntimeError(CUDA_OOM), *21 * [dead()], *20 * [ConnectionError()]):
        with suppress(Exception):
            called(error)
    asked = ("explain", "model", "--by", "class", "--state-dir", engine.state_dir)
    (found,) = json.loads(invoke(*asked, "--json").stdout)
    (by,) = found["shares"]
    assert (by["exact"], [(one["class"], one["count"]) for one in by["shares"]]) == (True, [("oom", 42)])


def test_a_sample_is_said_to_be_one():
    found = explain(MONTH, Counts(90, 10), HOUR_NS, [loss(4, reason="oom")], [("class",)])
    (by,) = found.breakdowns
    assert (by.exact, by.shares[0].share, by.shares[0].exact) == (False, Fraction(1), False)
    assert "a sample: the loss log has 4 of the 10 bad events" in explain_text(found)[-1]
    exact = explain(
        MONTH, Counts(90, 10), HOUR_NS, [loss(4, reason="oom")], [("class",)], reasons={"oom": 7, "slow": 3}
    )
    assert [(share.values[0], share.count, share.exact) for share in exact.breakdowns[0].shares] == [
        *(("oom", 7, True), ("slow", 3, True)),
    ]


def test_end_to_end(make_engine):
    """An outage of memory, one of the network, nonsense, and a slow answer, by the command."""
    engine = make_engine(
        SLO("model", indicator="inference", target="90%", reasons=["nonsense"]),
        SLO("calls", target="90%", match={"kind": "call"}),
    )

    @otelslo.track("rerank", engine=engine)
    def called(error):
        if isinstance(error, str):
            otelslo.current().bad(error)
        elif error is not None:
            raise error

    for error in (RuntimeError(CUDA_OOM), MemoryError(), ConnectionError(), "nonsense", KeyError("k"), *90 * [None]):
        with suppress(Exception):
            called(error)
    expected = {
        "model": {"oom": 2, "infrastructure": 1, "quality": 1, "error": 1},
        # Of what is only known to have been raised, the exception's name tells: not of a RuntimeError.
        "calls": {"error": 2, "oom": 1, "infrastructure": 1, "other": 1},
    }
    for slo, classes in expected.items():
        asked = ("explain", slo, "--by", "class", "--state-dir", engine.state_dir)
        (found,) = json.loads(invoke(*asked, "--json").stdout)
        (by,) = found["shares"]
        assert (by["by"], by["exact"], by["of"]) == (["class"], "other" not in classes, 5)
        assert {share["class"]: share["count"] for share in by["shares"]} == classes
        assert "by class" in invoke(*asked, columns=120).stdout
