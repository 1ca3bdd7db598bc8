"""The linter: what is wrong is found at its place, with why and a remedy; what is right is left in peace."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo import SLO, Limit, config
from otelslo.alerts import default_tiers
from otelslo.document import compose_all
from otelslo.errors import DefinitionError
from otelslo.lint import NOTE, SEVERITIES, Finding, lint
from otelslo.lint.patterns import within
from otelslo.match import Globs
from otelslo.routes import Leaf
from otelslo.window import DAY_NS, HOUR_NS

README = (Path(__file__).parent.parent / "README.md").read_text()
YAMLS = re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
NOW_NS = 1_800_000_000 * 10**9  # 2027-01-15 08:00 UTC
QUIET = {"runbook_url": "https://runbooks.example.com", "alerts": "off"}
DAILY = {"start": "2026-01-01 00:00", "timezone": "UTC", "rrule": "FREQ=DAILY"}
LONG = {"start": "2027-02-01 00:00", "timezone": "UTC", "duration": "40d"}
SLICED = {"budgeting": "timeslices", "slice_target": "95%"}
PAGE = {"severity": "page", "long": "1h", "short": "5m", "factor": 14.4}


def linted(definition: dict, **arguments) -> list[Finding]:
    return lint([SLO("x", **definition)], now_wall_ns=NOW_NS, **arguments)


def tiers(**changes: object) -> dict:
    return {"tiers": {"fast": PAGE | changes}}


def steps(*steps: tuple[str, dict]) -> list[dict]:
    return [{"name": name, "when": when, "releases": "deny"} for name, when in steps] + [{"name": "free"}]


DRIFT = {
    **{"indicator": "drift", "target": "90%", "match": {"route": "fraud"}},
    "options": {"baseline": "baseline.json", "measure": "psi", "limit": 0.1},
}

LATE = {"indicator": "accuracy", "target": "90%", "window": "28d", "options": {"label_within": "7d"}}
SHORT = {"severity": "ticket", "long": "12d", "short": "6d", "factor": 2}

# what is written -> (rule, severity, the key's way, a part of the problem)
BAD = {
    "a target of failures": ({"target": "0.1%"}, "reversed", "warning", ("target",), "more than half"),
    "a slice target of failures": (
        {**SLICED, "slice_target": "5%"}, "reversed", "warning", ("slice_target",), "5% are enough",
    ),
    "an SLA stricter than the SLO": (
        {"sla": "99.95%"}, "sla-not-looser", "error", ("sla",), "more than the SLO's 99.9%",
    ),
    "an SLA equal to the SLO": ({"sla": "99.9%"}, "sla-not-looser", "warning", ("sla",), "as much as"),
    "a window shorter than a slice": (
        {**SLICED, "window": "30m", "slice": "1h"}, "window-too-short", "error", ("slice",), "nothing ever counts",
    ),
    "a window of one slice": (
        {**SLICED, "window": "1h", "slice": "1h"}, "window-too-short", "warning", ("slice",), "only at times",
    ),
    "a day of one slice": (
        {**SLICED, "calendar": "day", "timezone": "America/New_York", "slice": "24h"},
        "window-too-short", "error", ("slice",), "no slice of 1d counts in a calendar day",
    ),
    "a day of nearly one slice": (
        {**SLICED, "calendar": "day", "slice": "23h"}, "window-too-short", "warning", ("slice",), "only at times",
    ),
    "no slice may be bad": (
        {**SLICED, "target": "99.99%"}, "impossible-target", "warning", ("target",), "at most 8640 slices of 5m",
    ),
    "a very tight target": (
        {"target": "99.999%"}, "least-traffic", "note", ("target",), "from 100,000 valid events",
    ),
    "a threshold without its unit": (
        {"indicator": "latency", "threshold": "200ns"}, "impossible-target", "warning", ("threshold",), "200ns",
    ),
    "the shorthand": ({"objective": "p95 < 200ms"}, "shorthand", "note", ("objective",), "read as: 95%"),
    "the shorthand in slices": (
        {"objective": "p95 < 200ms", **SLICED}, "shorthand", "note", ("objective",), "95% of all slices",
    ),
    "maintenance for ever": (
        {"maintenance": [DAILY | {"duration": "24h"}]}, "always-maintained", "error", ("maintenance",), "always",
    ),
    "maintenance longer than the window": (
        {"maintenance": [LONG]}, "always-maintained", "warning", ("maintenance",), "40 d on end",
    ),
    "a method of a call": (
        {"match": {"kind": "call", "method": "GET"}}, "no-events", "warning", ("match", "method"), "tracked call",
    ),
    "a method that no request has": (
        {"match": {"method": "PSOT"}}, "no-events", "warning", ("match", "method"), "PSOT",
    ),
    "a host of a call": (
        {"match": {"kind": "call", "host": "a"}}, "no-events", "error", ("match", "host"), "has a host",
    ),
    "only a health check": (
        {"match": {"route": "/healthz"}}, "no-events", "error", ("match", "route"), "can never have an event",
    ),
    "a health check beside others": (
        {"match": {"route": ["/pay", "/ping"]}}, "excluded-route", "warning", ("match", "route", 1), "/ping is a",
    ),
    "only what the operator excludes": (
        {"match": {"route": "/bots/a"}, "exclude": [{"name": "bots", "route": "/bots/*"}]},
        "no-events", "error", ("match", "route"), "excluded as bots",
    ),
    "an exclusion of health checks": (
        {"exclude": [{"name": "probe", "route": "/metrics/x"}]}, "shadowed-rule", "warning", ("exclude", 0), "health",
    ),
    "an exclusion after a wider one": (
        {"exclude": [{"name": "wide", "route": "/a/*"}, {"name": "narrow", "route": "/a/b", "header": "x-probe"}]},
        "shadowed-rule", "warning", ("exclude", 1), "'wide' before it",
    ),
    "groups by an attribute": (
        {"group_by": "tenant"}, "unbounded-group", "warning", ("group_by",), "which values tenant has",
    ),
    "groups by what a call has not": (
        {"match": {"kind": "call"}, "group_by": "method"}, "idle-group", "warning", ("group_by",), "makes no groups",
    ),
    "more values than groups": (
        {"group_by": "tenant", "group_values": {"tenant": ["a", "b", "c"]}, "max_groups": 2},
        "too-many-groups", "warning", ("group_values", "tenant"), "3 values",
    ),
    "a tier that the guard holds back": (
        {**SLICED, "target": "90%", "slice": "1h", "alerts": tiers(long="3h", short="2h", factor=7)},
        "dead-alert", "error", ("alerts", "tiers", "fast"), "holds 3 slices",
    ),
    "a default tier that the guard holds back": (
        {**SLICED, "target": "95%", "slice": "4m", "alerts": {"guard": "99.9999%"}},
        "dead-alert", "note", ("alerts", "tiers", "page-fast"), "15 slices",
    ),
    "a tier that takes all of the budget": (
        {"alerts": {"tiers": {"fast": {"severity": "page", "long": "1d", "short": "1h", "budget": "100%"}}}},
        "late-alert", "warning", ("alerts", "tiers", "fast"), "100.00% of the budget",
    ),
    "a tier that waits for too long": (
        {"alerts": tiers(**{"short": "6m", "for": "3d"})},
        "late-alert", "warning", ("alerts", "tiers", "fast"), "too late",
    ),
    "a factor below 1": (
        {"alerts": tiers(short="6m", factor=0.9)},
        "early-alert", "warning", ("alerts", "tiers", "fast"), "objective is met",
    ),
    "a default factor below 1": (
        {"window": "7d", "alerts": None},
        "early-alert", "note", ("alerts", "tiers", "ticket-fast"), "can fire while the objective is met: at 0.7",
    ),
    "a default factor below 1 of days": (
        {"indicator": "f1", "window": "21d", "options": {"positive": 1, "bar": "80%"}, "alerts": None},
        "early-alert", "note", ("alerts", "tiers", "ticket-slow"), "at 0.7",
    ),
    "a short window below a slot": (
        {"alerts": tiers(short="5s")}, "window-too-short", "warning", ("alerts", "tiers", "fast"), "shorter than",
    ),
    "a tier behind another": (
        {"alerts": tiers(severity="ticket", factor=20)},
        "shadowed-alert", "warning", ("alerts", "tiers", "fast"), "page-fast has the same windows",
    ),
    "no tier makes sense": (
        {"window": "1d", "alerts": None}, "no-burn-alerts", "note", ("alerts",), "nobody is told before",
    ),
    "a page without a runbook": (
        {"alerts": None, "runbook_url": ""}, "no-runbook", "note", ("runbook_url",), "what they are to do",
    ),
    "a step of an alert that is off": (
        {"alerts": {"tiers": {"page-fast": "off"}}, "policy": steps(("stop", {"alert": "page-fast"}))},
        "dead-step", "warning", ("policy", 0), "no alert page-fast",
    ),
    "a step of pages without one": (
        {"policy": steps(("stop", {"alert": "page"}))}, "dead-step", "note", ("policy", 0), "none of its alerts",
    ),
    "a step behind a wider one": (
        {"policy": steps(("careful", {"remaining": "< 25%"}), ("frozen", {"remaining": "<= 0%"}))},
        "shadowed-step", "warning", ("policy", 1), "'careful' before it",
    ),
    "a step behind a lower burn": (
        {"policy": steps(("a", {"burn": {"over": "1h", "above": 2}}), ("b", {"burn": {"over": "1h", "above": 3}}))},
        "shadowed-step", "warning", ("policy", 1), "'a' before it",
    ),
    "labels that come when the window is over": (
        {"indicator": "accuracy", "window": "7d", "options": {"label_within": "7d"}},
        "labels-too-late", "warning", ("label_within",), "a label may take 7d",
    ),
    "labels that come when the window is nearly over": (
        {"indicator": "accuracy", "window": "7d", "options": {"label_within": "4d"}},
        "labels-too-late", "note", ("label_within",), "most of the window of 7d",
    ),
    "a tier that is over before its labels come": (
        LATE | {"alerts": {"tiers": {"mine": SHORT}}},
        "late-labels", "warning", ("alerts", "tiers", "mine"), "can hardly fire: a label may take 7d",
    ),
    "no window for labels as late as that": (
        LATE | {"options": {"label_within": "14d"}, "alerts": None},
        "late-labels", "note", ("alerts",), "can hardly fire: a label may take 14d",
    ),
    "labels that nobody says the time of": (
        LATE | {"options": {}, "alerts": None}, "no-label-within", "note", ("label_within",), "take less than 14d",
    ),
    "a few days of a daily value": (
        {"indicator": "f1", "window": "3d", "options": {"positive": 1, "bar": "80%"}},
        "window-too-short", "warning", ("window",), "of which the window of 3d has 3",
    ),
    "a week of drift in a day": (
        DRIFT | {"window": "1d"},
        "window-too-short", "warning", ("window",), "one event each 7d, and its window of 1d holds one at most",
    ),
    "requests that say no model": (
        {"indicator": "freshness", "match": {"kind": "http"}, "options": {"max_age": "90d"}},
        "no-model", "note", (), "does not say its model is undated",
    ),
    "a week of drift in a week": (
        DRIFT | {"window": "7d"}, "window-too-short", "warning", ("window",), "its window of 7d holds one at most",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("definition", "rule", "severity", "path", "problem"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_found_and_nothing_else(definition, rule, severity, path, problem) -> None:
    all_found = linted(QUIET | definition)
    (found,) = [one for one in all_found if (one.rule, one.path) == (rule, path)]
    assert found.severity == severity
    assert problem in found.problem
    assert found.remedy
    assert [one for one in all_found if one.severity != NOTE and one != found] == []
    assert found.place.startswith("SLO 'x'")


FINE = {
    "the default": {},
    "an SLA below the SLO": {"sla": "99.5%"},
    "a tight target in slices that are ever so many": {**SLICED, "slice": "10s", "target": "99.99%"},
    "a calendar month": {"calendar": "month", "timezone": "Europe/Paris", **SLICED},
    "nightly maintenance": {"maintenance": [DAILY | {"duration": "2h"}]},
    "maintenance that is over": {"maintenance": [LONG | {"start": "2026-02-01 00:00", "duration": "60d"}]},
    "health checks that count": {"match": {"route": "/healthz"}, "health_checks": []},
    "a glob that holds a health check too": {"match": {"route": "/health*"}},
    "exclusions beside each other": {
        "exclude": [
            {"name": "a", "route": "/a/*", "header": "x-probe"},
            {"name": "b", "route": "/a/b"},
            {"name": "c", "header": "x-probe", "equals": "1"},
            {"name": "d", "header": "x-probe"},
        ]
    },
    "groups by release": {"group_by": ["route", "version"]},
    "groups by declared values": {"group_by": "tenant", "group_values": {"tenant": ["a", "b"]}},
    "groups with a stated number": {"group_by": "tenant", "max_groups": 200},
    "the defaults of a shorter window": {"window": "28d"},
    "a page and a ticket of the same windows": {"alerts": tiers(severity="ticket", factor=10)},
    "no data where empty slices count: alerts ask for events": {
        **SLICED,
        "target": "90%",
        "empty_slices": "bad",
        "alerts": {"no_data": "1h"},
    },
    "slices without a guard": {**SLICED, "target": "95%", "alerts": {"guard": "off"}},
    "a few who take an offer": {"indicator": "conversion", "target": "5%", "options": {"label_within": "30m"}},
    "labels within a part of the window": {"indicator": "accuracy", "options": {"label_within": "7d"}},
    "the default tiers of late labels": LATE | {"alerts": None},
    "a late default told as a page": LATE | {"alerts": {"tiers": {"ticket-fast": {"severity": "page"}}}},
    "a tier that waits for its labels": LATE | {"alerts": {"tiers": {"mine": SHORT | {"long": "13d", "short": "9d"}}}},
    "requests of one model": {
        "indicator": "freshness",
        "match": {"kind": "http"},
        "options": {"max_age": "90d", "model": "ranker"},
    },
    "calls of a model": {"indicator": "freshness", "options": {"max_age": "90d"}},
    "a month of days": {"indicator": "rouge", "target": "90%", "options": {"bar": 0.4}},
    "a year of drift": DRIFT | {"window": "364d"},
    "hours of drift in a day": DRIFT | {"options": DRIFT["options"] | {"every": "1h"}, "window": "1d"},
    "steps in order": {
        "policy": steps(
            ("frozen", {"remaining": "<= 0%"}),
            ("low", {"remaining": "< 5%", "alert": "ticket"}),
            ("careful", {"remaining": "< 25%"}),
            ("rich", {"remaining": "> 90%"}),
            ("silent", {"no_data": True}),
        )
    },
}


@pytest.mark.parametrize("definition", FINE.values(), ids=FINE.keys())
def test_what_is_right_is_left_in_peace(definition) -> None:
    assert [one for one in linted({"runbook_url": QUIET["runbook_url"]} | definition) if one.severity != NOTE] == []


@pytest.mark.parametrize("text", YAMLS)
def test_the_readmes_configurations_yield_notes_only(text, tmp_path, monkeypatch) -> None:
    (tmp_path / "slo.yaml").write_text(text)
    loaded = config.load(str(tmp_path / "slo.yaml"))
    channels = {name: kind for name, (kind, _) in loaded.channels.items()} or {"log": "log"}
    found = lint(loaded.slos, channels=channels, now_wall_ns=NOW_NS)
    assert [one for one in found if one.severity != NOTE] == []


def test_the_other_reading_of_the_shorthand_can_be_written_as_the_note_says() -> None:
    (note,) = [one for one in linted(QUIET | {"objective": "p95 < 200ms"}) if one.rule == "shorthand"]
    written = re.search(r"leave objective out, and write ({.*}) with a target for the slices", note.remedy)
    slo = SLO.from_mapping({"name": "x", "target": "99%"} | compose_all("note", written[1])[0].value)
    assert (slo.threshold_ns, slo.slices.bar, slo.target_ratio) == (200_000_000, Fraction(19, 20), Fraction(99, 100))


def test_a_default_tier_is_later_as_the_note_says() -> None:
    tiers = {"ticket-fast": {"factor": 1}}
    assert [one for one in linted({"window": "7d", "alerts": {"tiers": tiers}}) if one.rule == "early-alert"] == []


REFUSED = {
    "a dead alert": ({"alerts": tiers(factor=1000)}, "a dead alert"),
    "a short window as long as the long one": ({"alerts": tiers(short="1h")}, "not shorter than the long one"),
    "a long window as long as the objective's": ({"alerts": tiers(long="30d", factor=2)}, "than the objective's"),
    "a target of 100 %": ({"target": "100%"}, "no error budget"),
    "alerts that nobody is told of": ({"notify": []}, "the list is empty"),
    "an exclusion of everything": ({"exclude": [{"name": "all"}]}, "exclude everything"),
    "a step after one that always applies": ({"policy": [{"name": "a"}, {"name": "b"}]}, "can never apply"),
}


@pytest.mark.parametrize(("definition", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_parsers_refuse_needs_no_rule(definition, problem) -> None:
    with pytest.raises(DefinitionError, match=re.escape(problem)):
        SLO("x", **definition)


# ── between objectives ─────────────────────────────────────────────────────────────────────────────────────────────
def rules(*slos: SLO) -> list[tuple[str, str]]:
    return [(one.slo, one.rule) for one in lint(slos) if one.severity != NOTE or one.rule == "overlap"]


def test_two_objectives_that_are_one() -> None:
    assert rules(SLO("a"), SLO("b")) == [("b", "duplicate")]
    assert rules(SLO("a"), SLO("b", match={"method": "GET"})) == []
    assert rules(SLO("a"), SLO("b", window="7d")) == []
    assert rules(SLO("a"), SLO("b", **SLICED)) == []
    assert rules(SLO("a"), SLO("b", maintenance=[DAILY | {"duration": "1h"}])) == []
    assert rules(SLO("a", good=lambda event: True), SLO("b", good=lambda event: None)) == []


def test_a_looser_twin_is_an_agreement() -> None:
    assert rules(SLO("a"), SLO("b", target="99%")) == [("b", "overlap")]
    assert rules(SLO("a", target="99%"), SLO("b")) == [("a", "overlap")]


def test_who_left_was_let_down_though_an_answer_were_in_time() -> None:
    slow = SLO("slow", indicator="latency", threshold="30s", target="95%", match={"route": "/a/b"})
    (found,) = [one for one in lint([slow, SLO("a")]) if one.rule == "reversed"]
    assert (found.slo, found.path) == ("a", ())
    assert "leaves after 10s" in found.problem
    assert "30s or more" in found.remedy
    assert rules(slow, SLO("a", cancel_after="30s")) == []
    assert rules(slow, SLO("a", match={"route": "/b"})) == []
    assert rules(slow, SLO("a", match={"route": "/a/*"})) == [("a", "reversed")]
    assert rules(slow, SLO("a", match={"where": lambda event: True})) == []


def test_a_probe_that_counts_among_the_requests_of_users() -> None:
    def told(url: str, **definition: object) -> list[str]:
        probe = SLO("up", indicator="uptime", options={"url": url}, target="99.5%")
        return [one.problem for one in lint([probe, SLO("a", **definition)]) if one.rule == "probe-counts"]

    (problem,) = told("http://127.0.0.1:8000/v1/ready?deep=1")
    assert problem.startswith("the probe of 'up' asks /v1/ready: ")
    assert told("http://127.0.0.1:8000/v1/ready", exclude=[{"name": "probe", "header": "otelslo-probe"}]) == []
    assert told("http://127.0.0.1:8000/v1/ready", match={"route": "/v1/chat"}) == []
    assert told("http://127.0.0.1:8000/v1/ready", match={"kind": "call"}) == []
    assert told("http://127.0.0.1:8000/readyz") == told("tcp://127.0.0.1:8000") == []
    assert told("http://127.0.0.1:8000/readyz", health_checks=[]) != []


# ── routes ─────────────────────────────────────────────────────────────────────────────────────────────────────────
ROUTES = ["/checkout/{id}", "/search", "/healthz", Leaf("/live/{room}", "", None, True)]
ROUTED = {
    "nothing matches": ({"match": {"route": "/chekout/*"}}, "no-route", ("match", "route"), "'/checkout/{id}'?"),
    "one of two matches nothing": (
        {"match": {"route": ["/search", "/serch"]}}, "no-route", ("match", "route", 1), "'/search'?",
    ),
    "an exclusion matches nothing": (
        {"exclude": [{"name": "bots", "route": "/bots/*"}]}, "no-route", ("exclude", 0, "route"), "The app has",
    ),
    "only a health check matches": (
        {"match": {"route": "/health*"}}, "no-events", ("match", "route"), "health_checks: []",
    ),
    "no route is a websocket": (
        {"indicator": "websocket", "match": {"route": "/search"}}, "no-route", ("match", "route"), "/live/{room}",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("definition", "rule", "path", "remedy"), ROUTED.values(), ids=ROUTED.keys())
def test_what_no_route_of_the_app_matches(definition, rule, path, remedy) -> None:
    routes = [Leaf(one, "", None, False) if isinstance(one, str) else one for one in ROUTES]
    (found,) = [one for one in linted(QUIET | definition, routes=routes) if one.severity != NOTE]
    assert (found.rule, found.path) == (rule, path)
    assert remedy in found.remedy


def test_a_route_that_answers_another_method() -> None:
    routes = [Leaf("/search", "", frozenset({"GET", "HEAD"}), False)]
    (found,) = linted(QUIET | {"match": {"route": "/search", "method": "POST"}}, routes=routes)
    assert (found.rule, found.path, found.remedy) == ("no-route", ("match", "method"), "They answer GET, HEAD")
    assert linted(QUIET | {"match": {"route": "/search", "method": "get"}}, routes=routes) == []


def test_an_app_with_routes_for_all() -> None:
    assert linted(QUIET, routes=ROUTES) == []
    assert linted(QUIET | {"match": {"route": "/checkout/*"}}, routes=ROUTES) == []
    assert linted(QUIET | {"indicator": "websocket"}, routes=ROUTES) == []
    assert linted(QUIET | {"match": {"kind": "call", "route": "rerank"}}, routes=ROUTES) == []
    (found,) = linted(QUIET, routes=[])
    assert found.problem == "the app has no route"


# ── who hears ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_alerts_that_reach_nobody() -> None:
    slo = {"runbook_url": QUIET["runbook_url"]}
    assert [one.rule for one in linted(slo, channels={"ops": "webhook"})] == []
    assert [(one.rule, one.severity) for one in linted(slo, channels={"log": "log"})] == [("unheard", "note")]
    (found,) = linted(slo | {"notify": ["opps"]}, channels={"ops": "webhook"})
    assert (found.rule, found.severity, found.path) == ("unheard", "error", ("notify",))
    assert "'ops'" in found.remedy


def test_findings_stand_by_objective_and_gravity() -> None:
    found = lint([SLO("b", sla="99.95%", target="99.9%"), SLO("a", target="99.999%", group_by="tenant")])
    order = [("b", "a").index(one.slo) * 10 + SEVERITIES.index(one.severity) for one in found]
    assert order == sorted(order)


# ── what is proved ─────────────────────────────────────────────────────────────────────────────────────────────────
PATTERNS = st.text("ab*?/", max_size=5)


@given(PATTERNS, st.lists(PATTERNS, max_size=3), st.text("ab/", max_size=6))
def test_a_pattern_within_others_matches_nothing_that_they_do_not(pattern, others, text) -> None:
    if within(pattern, others) and text in Globs([pattern]):
        assert text in Globs(others)


def test_patterns_within_others() -> None:
    assert within("/a/b", ["/c", "/a/*"])
    assert within("/a/*", ["/*"])
    assert within("/a/?", ["/a/*"])
    assert not within("/a*", ["/a/*"])
    assert not within("*", ["?"])
    assert not within("/a", [])


def test_every_tier_by_default_has_no_warning_of_its_own() -> None:
    """Where the defaults are as they are, nobody can mend them."""
    for window in ("7d", "28d", "30d", "90d"):
        for target in ("50%", "90%", "99%", "99.9%", "99.99%"):
            found = linted({"window": window, "target": target, "runbook_url": QUIET["runbook_url"]})
            assert [one for one in found if one.severity != NOTE] == []
    assert default_tiers(30 * DAY_NS, SLO("x").target_ratio, slice_ns=HOUR_NS)


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────
LIMITS = {
    "a value holds for ever": ({"limit": "90d"}, "never-stale", "note", ("stale_after",), "holds for ever"),
    "nothing is within it": ({"limit": 0}, "zero-limit", "note", ("limit",), "however small"),
    "a page without a runbook": (
        {"limit": 0.1, "severity": "page"}, "no-runbook", "note", ("runbook_url",), "what they are to do",
    ),
    "nobody is told": ({"limit": 1, "notify": ["cat"]}, "unheard", "error", ("notify",), "no channel 'cat'"),
    "a page to the log": ({"limit": 1, "severity": "page"}, "unheard", "note", ("notify",), "wakes nobody"),
}  # fmt: skip


@pytest.mark.parametrize(("definition", "rule", "severity", "path", "problem"), LIMITS.values(), ids=LIMITS)
def test_what_is_wrong_with_a_limit(definition, rule, severity, path, problem):
    found = lint([], limits=[Limit("age", **definition)], channels={"log": "log"})
    (one,) = [one for one in found if one.rule == rule]
    assert (one.severity, one.path) == (severity, path)
    assert problem in one.problem
    assert one.place == f"limit 'age'.{path[0]}"


def test_a_right_limit_is_left_in_peace():
    quiet = Limit("age", limit="90d", stale_after="2d", severity="page", runbook_url="https://runbooks.example.com")
    asked = Limit("drift", limit=0.1, value=lambda: 0, notify=["hook"])
    assert lint([], limits=[quiet, asked], channels={"hook": "webhook"}) == []
