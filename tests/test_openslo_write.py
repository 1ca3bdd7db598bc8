"""OpenSLO out: what is written reads back as the same SLOs, and keeps to the specification's own rules."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from openslo_documents import CHECKOUT, FOREIGN, REFERRED, SEARCH, changed, pointed_at

from otelslo import SLO, config, openslo
from otelslo.cli.check import command
from otelslo.errors import DefinitionError
from otelslo.event import Event

DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DURATION = re.compile(r"[1-9][0-9]*[mhdwMQY]")
LABEL_KEY = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
words = st.text("abcXYZ019._-", min_size=1, max_size=20)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
fine_targets = st.integers(1, 10**4).flatmap(lambda low: st.just(Fraction(low, 10**4 + low)))
targets = st.one_of(st.sampled_from(["99.9%", "95%", "99.999999%"]), fine_targets)
windows = st.one_of(
    st.sampled_from(["30d", "28d", "1h"]),
    st.integers(60, 400 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
)
labels = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True), texts, max_size=3)
severities = st.sampled_from(["page", "ticket", "off"])
tiers = st.fixed_dictionaries(
    {
        "severity": st.sampled_from(["page", "ticket"]),
        "long": st.sampled_from(["40m", "90s", "1h", "2h30m"]),
        "short": st.sampled_from(["5m", "30s", "7500ms"]),
        "factor": st.one_of(st.sampled_from([2, "1.5"]), st.integers(1, 40).map(lambda part: Fraction(part, 39))),
    },
    optional={"for": st.sampled_from(["5m", "90s"])},
)
plans = st.one_of(
    st.none(),
    st.just("off"),
    st.fixed_dictionaries(
        {},
        optional={
            "guard": st.sampled_from(["off", "95%"]),
            "no_data": st.sampled_from(["30m", "90s"]),
            "exhausted": severities,
            "exclusion_share": severities,
            "tiers": st.one_of(
                st.just("off"),
                st.dictionaries(st.sampled_from(["page-fast", "ticket-slow", "Mine", "mine", "other_1"]), tiers),
            ),
        },
    ),
)
kinds = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"indicator": st.just("availability"), "cancel_after": st.sampled_from(["5s", "1500ms"])}),
    st.fixed_dictionaries(
        {"indicator": st.just("latency"), "threshold": st.integers(1, 10**10).map(lambda ns: f"{ns}ns")}
    ),
    st.sampled_from([{"objective": "p95 < 200ms"}, {"objective": "p99.9 <= 1s"}, {"indicator": "websocket"}]),
)
calendars = st.fixed_dictionaries(
    {"calendar": st.sampled_from(["day", "week", "month", "quarter", "year"])},
    optional={"timezone": st.sampled_from(["America/New_York", "Asia/Kathmandu", "UTC"])},
)
empty = st.sampled_from(["good", "bad", "ignore"])
unattended = st.sampled_from(["bad", "ignore"])
slices = st.sampled_from(["10s", "1m", "5m", "90s"])
budgeting = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"budgeting": st.just("timeslices"), "slice_target": st.sampled_from(["95%", "100%", Fraction(1, 3)])},
        optional={
            "slice": slices,
            "slice_count": st.integers(1, 50),
            "empty_slices": empty,
            "unattended": unattended,
        },
    ),
    st.fixed_dictionaries({"budgeting": st.just("timeslices"), "slice_count": st.integers(1, 50), "slice": slices}),
    st.fixed_dictionaries(
        {"budgeting": st.just("ratio_timeslices")},
        optional={"slice": slices, "empty_slices": empty, "unattended": unattended},
    ),
)
measures = st.fixed_dictionaries(
    {},
    optional={
        "match": st.one_of(
            st.just({"route": ["/a", "/{id}*"], "method": "post"}), st.just({"host": "*.example.com", "route": "/x y"})
        ),
        "group_by": st.sampled_from(["route", ["route", "tenant"]]),
        "max_groups": st.integers(1, 100),
        "health_checks": st.sampled_from([(), ["/alive"]]),
        "exclude": st.just([{"name": "probe", "header": "x-probe", "equals": "1"}]),
        "rules": st.just({"404": "bad", "4xx": "good"}),
        "reasons": st.just(("stale",)),
        "good": st.sampled_from([f"{__name__}:is_good", None]),
    },
)
abouts = st.fixed_dictionaries(
    {},
    optional={
        "owner": texts,
        "because": texts,
        "description": st.one_of(texts, st.just("long " * 300)),
        "runbook_url": st.just("https://example.com/a?b=c#d"),
        "labels": labels,
        "sla": targets,
        "notify": st.lists(words, min_size=1, max_size=3),
        "alerts": plans,
        "policy": st.just([{"name": "frozen", "when": {"remaining": "<= 0"}, "releases": "deny"}, {"name": "free"}]),
        "maintenance": st.just([{"start": datetime(2026, 12, 1, 22), "duration": "2h", "timezone": "Iran"}]),
    },
)


def is_good(event: Event) -> bool:
    """A user's code that a text can name."""
    return True


@st.composite
def slos(draw: Any) -> SLO:
    """Any SLO that there can be; what is no SLO is not what is tested here."""
    arguments: dict[str, Any] = {"name": draw(names)}
    for part in (kinds, budgeting, measures, abouts, st.one_of(calendars, windows.map(lambda w: {"window": w}))):
        arguments |= draw(part)
    if "objective" not in arguments:
        arguments["target"] = draw(targets)
    try:
        return SLO(**arguments)
    except DefinitionError:
        assume(False)
        raise


@settings(max_examples=150, deadline=None)
@given(st.lists(slos(), min_size=1, max_size=3, unique_by=lambda slo: slo.name.casefold()))
def test_what_is_written_reads_back_as_the_same(given_slos: list[SLO]) -> None:
    """To the last digit, whatever OpenSLO can or cannot say."""
    text = openslo.write(given_slos)
    found = openslo.read(text, "slo.yaml")
    assert [slo.definition() for slo in found.slos] == [slo.definition() for slo in given_slos]
    assert found.notices == ()
    for body in yaml.safe_load_all(text):
        keeps_to_the_specification(body)


def keeps_to_the_specification(body: dict[str, Any]) -> None:
    """The rules that OpenSLO's own SDK has for an SLO, as far as a document of ours can break them."""
    spec = body["spec"]
    keeps_to_metadata(body["metadata"])
    keeps_to_metadata(spec["indicator"]["metadata"])
    assert (body["apiVersion"], body["kind"]) == ("openslo/v1", "SLO")
    assert isinstance(spec["service"], str)
    assert spec["service"]
    assert len(spec.get("description", "")) <= 1050
    (window,) = spec["timeWindow"]
    assert DURATION.fullmatch(window["duration"])
    assert window["isRolling"] is ("calendar" not in window)
    for objective in spec["objectives"]:
        assert 0 <= objective["target"] < 1
        assert ("op" in objective) is ("value" in objective) is ("thresholdMetric" in spec["indicator"]["spec"])
        if spec["budgetingMethod"] != "Occurrences":
            assert DURATION.fullmatch(objective["timeSliceWindow"])
        if spec["budgetingMethod"] == "Timeslices":
            assert 0 < objective["timeSliceTarget"] <= 1
    for policy in spec.get("alertPolicies", []):
        keeps_to_metadata(policy["metadata"])
        (condition,) = policy["spec"]["conditions"]
        keeps_to_metadata(condition["metadata"])
        assert DURATION.fullmatch(condition["spec"]["condition"]["lookbackWindow"])
        assert condition["spec"]["condition"]["threshold"] > 0
        assert policy["spec"]["notificationTargets"]
        for target in policy["spec"]["notificationTargets"]:
            keeps_to_metadata(target["metadata"])


def keeps_to_metadata(metadata: dict[str, Any]) -> None:
    assert DNS_NAME.fullmatch(metadata["name"])
    assert all(LABEL_KEY.fullmatch(key) and isinstance(value, str) for key, value in metadata.get("labels", {}).items())
    assert all(isinstance(value, str) for value in metadata.get("annotations", {}).values())


def test_what_was_read_is_written_again() -> None:
    """Documents of others keep their meaning too; the objects become inline."""
    slos = openslo.read(REFERRED, "slo.yaml").slos
    again = openslo.read(openslo.write(slos), "again.yaml")
    assert [slo.definition() for slo in again.slos] == [slo.definition() for slo in slos]


def test_what_was_read_is_written_as_it_was() -> None:
    """A limit that is not in itself too, though it is a nanosecond less; and so each time."""
    text = openslo.write(openslo.read(changed(SEARCH, ("op: lte, value: 500", "op: lt, value: 200")), "a.yaml").slos)
    (body,) = yaml.safe_load_all(text)
    assert body["spec"]["objectives"] == [{"op": "lt", "value": 200, "target": 0.99}]
    assert "thresholdMetric" in body["spec"]["indicator"]["spec"]
    assert openslo.write(openslo.read(text, "b.yaml").slos) == text


def test_a_document_reads_well() -> None:
    """What OpenSLO has words for is said in them, and nothing is annotated that it says."""
    slo = SLO(
        "checkout",
        objective="p95 < 200ms",
        calendar="month",
        timezone="Europe/Paris",
        labels={"service": "shop", "team": "a"},
        match={"route": "/checkout/*"},
        alerts={"tiers": dict.fromkeys(("page-slow", "ticket-fast", "ticket-slow"), "off")},
        notify=["ops"],
    )
    (body,) = yaml.safe_load_all(openslo.write([slo]))
    assert body["metadata"] == {"name": "checkout", "labels": {"team": "a"}}
    assert body["spec"]["service"] == "shop"
    assert body["spec"]["objectives"] == [{"op": "lt", "value": 200, "target": 0.95}]
    calendar = {"startTime": "2024-01-01 00:00:00", "timeZone": "Europe/Paris"}
    assert body["spec"]["timeWindow"] == [{"duration": "1M", "isRolling": False, "calendar": calendar}]
    source = {"type": "otelslo", "spec": {"indicator": "latency", "match": {"route": "/checkout/*"}, "unit": "ms"}}
    assert body["spec"]["indicator"]["spec"] == {"thresholdMetric": {"metricSource": source}}
    (policy,) = body["spec"]["alertPolicies"]
    assert policy["spec"]["notificationTargets"] == [
        {"kind": "AlertNotificationTarget", "metadata": {"name": "ops"}, "spec": {"target": "otelslo"}}
    ]


def test_an_sla_is_a_second_objective() -> None:
    """As the specification's own example has it."""
    (body,) = yaml.safe_load_all(openslo.write([SLO("a", target="99.9%", sla="99.5%")]))
    assert [(each["displayName"], each["target"]) for each in body["spec"]["objectives"]] == [
        ("SLO", 0.999),
        ("SLA", 0.995),
    ]
    assert set(body["metadata"]["annotations"]) == {"otelslo.io/service"}


def test_names_are_made_fit_and_differ() -> None:
    """And are kept beside."""
    text = openslo.write([SLO("a.b"), SLO("a_b"), SLO("A-B")])
    assert [body["metadata"]["name"] for body in yaml.safe_load_all(text)] == ["a-b", "a-b-2", "a-b-3"]
    assert [slo.name for slo in openslo.read(text, "x").slos] == ["a.b", "a_b", "A-B"]


@pytest.mark.parametrize(
    ("arguments", "at"),
    [
        ({"good": lambda event: True}, "SLO 'a'.good"),
        ({"valid": partial(is_good)}, "SLO 'a'.valid"),
        ({"match": {"where": lambda event: True}}, "SLO 'a'.match.where"),
        ({"exclude": [{"name": "x", "when": lambda event: True}]}, "SLO 'a'.exclude[0].when"),
    ],
)
def test_code_without_a_name_cannot_be_written(arguments: dict[str, Any], at: str) -> None:
    """Rather than a document that means something else."""
    with pytest.raises(DefinitionError) as caught:
        openslo.write([SLO("a", **arguments)])
    assert caught.value.place == at


def test_code_with_a_name_is_written_as_its_path() -> None:
    (slo,) = openslo.read(openslo.write([SLO("a", good=is_good)]), "x").slos
    assert slo.good == f"{__name__}:is_good"


def test_channels_are_documents_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is printed is all that a start needs; secrets stay references."""
    monkeypatch.chdir(tmp_path)
    channels = """
channels:
  ops: {webhook: {url: "env:OPS_HOOK"}}
  Desk.1: {log: {}}
slos: [{name: a, notify: [ops]}, {name: b}]
"""
    Path("slo.yaml").write_text(channels)
    own = config.load("slo.yaml")
    Path("openslo.yaml").write_text(openslo.write(own.slos, own.channels))
    found = config.load("openslo.yaml")
    assert (found.channels, found.notices) == (own.channels, ())
    assert [slo.definition() for slo in found.slos] == [slo.definition() for slo in own.slos]


@pytest.mark.parametrize(
    ("changes", "at", "says"),
    [
        ([("targetRef: desk", "targetRef: ops")], None, ""),
        ([], "target: otelslo", "there is no channel 'desk'"),
        ([("{webhook:", "{webhoke:")], "otelslo.io/channel", "Did you mean 'webhook'?"),
    ],
)
def test_every_channel_that_is_told_is_set_up(
    changes: list[tuple[str, str]], at: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in our own form; the place is where the channel is named."""
    monkeypatch.chdir(tmp_path)
    text = changed(REFERRED, *changes)
    Path("slo.yaml").write_text(text)
    if at is None:
        assert config.load("slo.yaml").channels == {"ops": ("webhook", {"url": "env:OPS_HOOK"})}
        return
    with pytest.raises(DefinitionError, match=re.escape(says)) as caught:
        config.load("slo.yaml")
    assert pointed_at(text, str(caught.value)).startswith(at)


def test_check_prints_documents_and_notes(tmp_path: Path) -> None:
    """Of our own form and of OpenSLO's; what is not measured is told beside."""
    (tmp_path / "slo.yaml").write_text("slos: [{name: a}]")
    (tmp_path / "other.yaml").write_text(f"{FOREIGN.replace('name: checkout', 'name: foreign', 1)}---\n{CHECKOUT}")
    own = CliRunner().invoke(command, [str(tmp_path / "slo.yaml"), "--openslo"])
    assert (own.exit_code, own.stdout) == (0, openslo.write([SLO("a")]))
    other = CliRunner().invoke(command, [str(tmp_path / "other.yaml"), "--openslo"])
    assert openslo.read(other.stdout, "x").slos[0].name == "checkout"
    assert re.match(r"note: .*other\.yaml:11:31: metrics of type 'Prometheus'", other.stderr)


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://h.example", "error: {}: channel 'ops': "), ("env:OPS_HOOK", "note: {}: channel 'ops': env:OPS_HOOK is ")],
)
def test_what_is_wrong_with_a_channel_has_the_line_of_its_document(
    url: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPS_HOOK", raising=False)
    text = changed(REFERRED, ("env:OPS_HOOK", url), ("targetRef: desk", "targetRef: ops"))
    (tmp_path / "slo.yaml").write_text(text)
    stderr = CliRunner().invoke(command, [str(tmp_path / "slo.yaml")]).stderr
    (line,) = [one for one in stderr.splitlines() if "channel 'ops'" in one]
    at = text.splitlines().index(next(one for one in text.splitlines() if url in one)) + 1
    column = text.splitlines()[at - 1].index("otelslo.io/channel") + 1
    assert line.startswith(says.format(f"{tmp_path / 'slo.yaml'}:{at}:{column}"))
