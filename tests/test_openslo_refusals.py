"""OpenSLO: what is not done as written is said, what is wrong is refused, each at its line and column."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openslo_documents import (
    ALERTED,
    CHECKOUT,
    FOREIGN,
    METHOD,
    OBJECTIVE,
    REFERRED,
    SEARCH,
    WINDOW,
    annotated,
    changed,
    pointed_at,
)

from otelslo import config, openslo
from otelslo.errors import DefinitionError

BURN = "condition: {kind: burnrate, op: gt, threshold: 14.4, lookbackWindow: 1h}"
AVAILABILITY = "spec: {indicator: availability}"
SOURCE = """---
apiVersion: openslo/v1
kind: DataSource
metadata: {name: p}
spec: {type: Prometheus}
"""


def refusal(text: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        openslo.read(text, "slo.yaml")
    return str(caught.value)


def notices(text: str) -> list[str]:
    return [str(notice) for notice in openslo.read(text, "slo.yaml").notices]


def window(text: str) -> str:
    return changed(CHECKOUT, (WINDOW, text))


def objective(text: str, method: str = METHOD) -> str:
    return changed(CHECKOUT, (OBJECTIVE, text), (METHOD, method))


def total(spec: str) -> str:
    return changed(CHECKOUT, (AVAILABILITY, spec))


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        (FOREIGN, "type: Prometheus", "metrics of type 'Prometheus' are not read"),
        (FOREIGN.replace("type: Prom", "metricSourceRef: prom"), "metricSourceRef", "of an unknown type"),
        (changed(FOREIGN, (WINDOW, "[{duration: 1m, calendar: {timeZone: UTC}}]")), "duration", "write 1M for a month"),
        (changed(CHECKOUT, (f"  timeWindow: {WINDOW}\n", "")), "spec:", "30d is assumed"),
        (window("[{duration: 1M, isRolling: true}]"), "duration: 1M", "30d is meant"),
        (
            window("[{duration: 1w, calendar: {timeZone: UTC, startTime: 2022-01-01 12:00:00}}]"),
            "startTime",
            "(Monday)",
        ),
        (window("[{duration: 1d, calendar: {startTime: 2022-01-01 00:00:00}}]"), "calendar", "UTC is assumed"),
        (changed(CHECKOUT, (f"  {METHOD}\n", "")), "spec:", "Occurrences is assumed"),
        (objective("[{target: 0.9, op: gt}]"), "op: gt", "only a thresholdMetric"),
        (objective("[{target: 0.9, timeSliceTarget: 0.9}]"), "timeSliceTarget", "no meaning with Occurrences"),
        (changed(ALERTED, ("op: gt", "op: lte")), "op: lte", "read as gt"),
        (changed(ALERTED, ("op: gt", "op: gte")), "op: gte", "not at it"),
        (ALERTED, "lookbackWindow: 1h", "a short window of 5m too"),
        (changed(ALERTED, ("severity: page", "severity: sev7")), "severity", "it is read as ticket"),
        (changed(ALERTED, ("Breaching: true", "Resolved: false")), "alertWhenResolved", "has ended is told"),
        (changed(ALERTED, ("target: otelslo", "target: slack")), "target: slack", "nothing is set up here"),
        (REFERRED.replace(", {alertPolicyRef: tickets}", ""), "apiVersion", "uses the AlertPolicy 'tickets'"),
        (REFERRED.replace("targetRef: ops", "targetRef: op"), "targetRef: op", "all channels are told"),
        (changed(ALERTED, ("        alertWhenBreaching: true\n", "")), "spec:", "true is assumed"),
        (changed(CHECKOUT, ("{name: checkout}\nspec", "{name: a, labels: {service: x}}\nspec")), "service", "says 'x'"),
        (REFERRED + SOURCE, "apiVersion", "nothing connects to the DataSource 'p'"),
    ],
)
def test_what_is_not_done_as_written_is_said(text: str, at: str, says: str) -> None:
    """With file, line and column."""
    said = [notice for notice in notices(text) if says in notice]
    assert len(said) == 1, notices(text)
    assert pointed_at(text, said[0]).startswith(at)


def test_an_slo_of_another_source_is_left_out_and_the_rest_is_measured() -> None:
    """It says so; an unused condition is read all the same."""
    found = openslo.read(f"{FOREIGN}---\n{SEARCH}", "slo.yaml")
    assert [slo.name for slo in found.slos] == ["search"]
    assert [notice.place for notice in found.notices] == ["slo.yaml:11:31"]
    alone = REFERRED[REFERRED.index("apiVersion: openslo/v1\nkind: AlertCondition") :].split("---")[0]
    assert "uses the AlertCondition 'fast-burn'" in "".join(notices(alone))
    assert "threshold" in refusal(changed(alone, ("threshold: 14.4, ", "")))


def test_the_notes_are_said_once_for_several_objectives() -> None:
    """Though each reads the window and the policies anew."""
    text = changed(ALERTED, (OBJECTIVE, "[{target: 0.99}, {target: 0.999}]"), (WINDOW, "[{duration: 1M}]"))
    said = notices(text)
    assert len(said) == len(set(said)) == 3


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        (changed(CHECKOUT, ("openslo/v1", "openslo/v1alpha")), "openslo/v1alpha", "Write apiVersion: openslo/v1"),
        (changed(CHECKOUT, ("openslo/v1", "openslo.com/v2alpha")), "openslo.com", "Write apiVersion: openslo/v1"),
        ("objectives: []\n", "objectives", "it has no apiVersion"),
        (changed(CHECKOUT, ("kind: SLO", "kind: SLOs")), "SLOs", "Did you mean 'SLO'?"),
        (changed(CHECKOUT, ("{name: checkout}\nspec", "{}\nspec")), "{}", "it has no name"),
        (f"{CHECKOUT}---\n{CHECKOUT}", "checkout}", "two objects of kind SLO are named 'checkout'"),
        (changed(CHECKOUT, ("service: shop", "objectve: 1")), "objectve", "Did you mean 'objectives'?"),
        (objective("[]"), "[]", "there is no objective"),
        (objective("[{}]"), "{}", "neither target nor targetPercent"),
        (objective("[{target: 0.9, targetPercent: 90}]"), "targetPercent", "both"),
        (objective("[{target: 99.9}]"), "99.9", "Did you mean targetPercent: 99.9?"),
        (objective('[{target: "0.9"}]'), '"0.9"', "is no number"),
        (objective("[{target: 0}]"), "0}", "promises nothing"),
        (changed(CHECKOUT, (METHOD, "budgetingMethod: TimeSlices")), "TimeSlices", "Did you mean 'Timeslices'?"),
        (changed(CHECKOUT, (METHOD, "budgetingMethod: Timeslices")), "{target", "it has no timeSliceWindow"),
        (
            objective("[{timeSliceWindow: 1m, timeSliceTarget: 1.5, target: 0.9}]", "budgetingMethod: Timeslices"),
            "1.5",
            "out of range",
        ),
        (window("[{duration: 1M, isRolling: false}]"), "false", "has no calendar"),
        (window("[{duration: 1M, isRolling: true, calendar: {}}]"), "true", "has a calendar"),
        (window("[{duration: 1m, calendar: {timeZone: UTC}}]"), "1m", "write 1M for a month"),
        (window("[{duration: 2M, calendar: {timeZone: UTC}}]"), "2M", "Write 1d, 1w, 1M, 1Q or 1Y"),
        (window("[{duration: 1M, calendar: {timeZone: Europe/Pari}}]"), "Europe/Pari", "Europe/Paris"),
        (window("[{duration: 1M, calendar: {startTime: noon, timeZone: UTC}}]"), "noon", "is no start"),
        (window("[{duration: 30s}]"), "30s", "there are no seconds"),
        (window("[{duration: 28d}, {duration: 7d}]"), "[", "2 time windows"),
        (changed(CHECKOUT, ("service: shop", "indicatorRef: x")), "indicatorRef", "an indicator too"),
        (changed(SEARCH, ("thresholdMetric:", "ratioMetric: {}\n      thresholdMetric:")), "ratioMetric", "both"),
        (changed(CHECKOUT, ("good:", "god:")), "god", "Did you mean 'good'?"),
        (changed(CHECKOUT, ("        good:", "        raw:")), "raw", "raw cannot stand beside total"),
        (total("spec: {}").replace("otelslo, spec: {}", "X, spec: {}"), "{type: X", "different systems"),
        (total("spec: {indicator: latency}"), "latency", "differ in indicator"),
        (total("spec: {window: 30d}"), "window", "Write it in timeWindow"),
        (total("spec: {owner: me}"), "owner", "Write it in metadata.annotations, as otelslo.io/owner"),
        (total("spec: {rout: x}"), "rout", "unknown key"),
        (changed(CHECKOUT, ('route: "/checkout/*"', "rout: x")), "rout", "Did you mean 'route'?"),
        (changed(SEARCH, ("op: lte, ", "")), "{value", "it has no op"),
        (changed(SEARCH, ("op: lte", "op: gt")), "gt", "slow requests the good ones"),
        (changed(SEARCH, ("value: 500", "value: 0")), "0,", "above zero"),
        (changed(SEARCH, ("indicator: latency", "indicator: latency, unit: m")), "m}", "Did you mean 'ms'?"),
        (changed(SEARCH, ("indicator: latency", "indicator: availability")), "value", "has no option 'threshold'"),
        (REFERRED.replace("indicatorRef: answers", "indicatorRef: answer"), "answer", "Did you mean 'answers'?"),
        (REFERRED.replace("alertPolicyRef: pages", "alertPolicyRef: page"), "page}", "Did you mean 'pages'?"),
        (REFERRED.replace("conditionRef: fast-burn", "conditionRef: fast"), "fast}", "no AlertCondition"),
        (changed(ALERTED, ("lookbackWindow: 1h", "lookbackWindow: 40d")), "40d", "not shorter than the objective's"),
        (changed(ALERTED, ("threshold: 14.4", "threshold: 1000")), "1000", "a dead alert"),
        (changed(ALERTED, ("kind: AlertCondition", "kind: AlertPolicies")), "AlertPolicies", "Known: AlertCondition"),
        (changed(ALERTED, ("kind: burnrate", "kind: budget")), "budget", "Known: burnrate"),
        (changed(ALERTED, (BURN, "condition: {op: gt, threshold: 2}")), "{op", "it has no lookbackWindow"),
        (annotated(CHECKOUT, "otelslo.io/ownr: x"), "otelslo.io/ownr", "otelslo.io/owner"),
        (annotated(CHECKOUT, "otelslo.io/window: 7d"), "7d", "the document itself 28d"),
        (annotated(CHECKOUT, "otelslo.io/target: 1/3"), "1/3", "the document itself 99.9%"),
        (annotated(CHECKOUT, "otelslo.io/labels: '[a'"), "'[a'", "it cannot be read"),
        (annotated(ALERTED, "otelslo.io/alerts: off"), "off", "has alertPolicies"),
        (annotated(objective("[{target: 0.9}, {target: 0.8}]"), "otelslo.io/name: a"), "otelslo", "several"),
        (changed(ALERTED, ("{name: fast-burn}", "{name: b, annotations: {otelslo.io/factor: 1/3}}")), "1/3", "14.4"),
        (f"{CHECKOUT}---\n{SEARCH.replace('name: search', 'name: Checkout', 1)}", "Checkout", "two SLOs are named"),
    ],
)  # fmt: skip
def test_a_wrong_document_is_refused(text: str, at: str, says: str) -> None:
    """With file, line, column and remedy."""
    message = refusal(text)
    assert says in message
    assert pointed_at(text, message).startswith(at), message


def test_loaded_like_any_configuration(tmp_path: Any, monkeypatch: Any, caplog: Any) -> None:
    """The file is taken by what stands in it; an engine's start tells the notices."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "slo.yaml"
    file.write_text(f"{FOREIGN}---\n{SEARCH}")
    loaded = config.given_or_loaded(None)
    assert ([slo.name for slo in loaded.slos], loaded.watchable) == (["search"], "slo.yaml")
    assert "slo.yaml:11:31: metrics of type 'Prometheus'" in caplog.text
    file.write_text(FOREIGN)
    with pytest.raises(DefinitionError, match=r"^slo\.yaml:11:31: no SLO of this file can be measured here"):
        config.load()
    # What is only told, before it, is not the cause.
    two = changed(FOREIGN, (OBJECTIVE, "[{target: 0.999}, {target: 0.99}]"), (f"  {METHOD}\n", ""))
    file.write_text(two)
    with pytest.raises(DefinitionError, match=r"^slo\.yaml:11:31: .*first of all: metrics of type 'Prometheus'"):
        config.load()
    file.write_text(f"slos: [{{name: a}}]\n---\n{SEARCH}")
    with pytest.raises(DefinitionError, match=r"^slo\.yaml:1:1: .*do not mix"):
        config.load()
    file.write_text(f"{SEARCH}---\nslos: [{{name: a}}]\n")
    with pytest.raises(DefinitionError, match=r"^slo\.yaml:15:1: .*do not mix"):
        config.load()


TREES = [list(yaml.load_all(text, yaml.BaseLoader)) for text in (ALERTED, SEARCH, REFERRED)]
PLAIN = {"0.999": 0.999, "14.4": 14.4, "0.99": 0.99, "500": 500, "3": 3, "true": True}
ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**30, "", "x", "1M", "otelslo", [], {}, [[]], {"a": "b"}, ["x"], {"": {}}]
)


@st.composite
def mutants(draw: Any) -> list[Any]:
    """A good file with some values replaced, doubled or removed."""
    rate = draw(st.sampled_from([6, 30, 60]))

    def twist(node: Any) -> Any:
        if draw(st.integers(0, rate)) == 0:
            return draw(ODD)
        if isinstance(node, dict):
            return {key: twist(item) for key, item in node.items()}
        if isinstance(node, list):
            return [twist(item) for item in node for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2])))]
        return PLAIN.get(node, node)

    return [twist(document) for document in draw(st.sampled_from(TREES))]


@settings(max_examples=300, deadline=None)
@given(mutants())
def test_no_document_raises_anything_else(documents: list[Any]) -> None:
    """Whatever is wrong is a DefinitionError with a place."""
    text = yaml.safe_dump_all(documents, sort_keys=False)
    with suppress(DefinitionError):
        openslo.read(text, "slo.yaml")
