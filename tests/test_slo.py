"""Objectives: what is refused, what matches, who decides, and what the row of an objective is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.errors import BadValue, DefinitionError
from otelslo.event import Ending, Event, Outcome
from otelslo.match import Globs
from otelslo.slo import OVERFLOW, SLO, UNKNOWN, Definition, rules_table
from otelslo.window import DAY_NS, SECOND_NS


def request(**facts):
    """An ordinary event."""
    return Event(**{"kind": "http", "route": "/x", "method": "GET", "status": 200, "latency_ns": 1} | facts)


def outcome(slo, **facts):
    """The event's outcome as a pair."""
    event = request(**facts)
    return tuple(slo.judge(event).outcome(event.latency_ns))


def is_fine(event):
    """A predicate that tests name by import path."""
    return event.status == 200


async def never_asked(event):
    """A predicate of the wrong kind."""


@pytest.mark.parametrize(
    ("arguments", "place", "says"),
    [
        ({"name": ""}, "SLO ''.name", "cannot be a name"),
        ({"name": "../etc"}, "SLO '../etc'.name", "letters, digits"),
        ({"name": "x" * 65}, "SLO 'x", "64 at most"),
        ({"name": "naïve"}, r"SLO 'na\\xefve'.name", "cannot be a name"),
        ({"name": 7}, "SLO.name", "is a number"),
        ({"target": "99,9"}, "SLO 'a'.target", "Use a point"),
        ({"target": "100%"}, "SLO 'a'.target", "no error budget"),
        ({"window": "1M"}, "SLO 'a'.window", "calendar"),
        ({"window": "10s"}, "SLO 'a'.window", "too short"),
        ({"window": 30}, "SLO 'a'.window", "a number and a unit"),
        ({"indicator": "latence"}, "SLO 'a'.indicator", "Did you mean 'latency'"),
        ({"indicator": None}, "SLO 'a'.indicator", "is empty"),
        ({"indicator": "latency"}, "SLO 'a'.threshold", "Add threshold: 200ms"),
        ({"threshold": "1s"}, "SLO 'a'.threshold", "its options: cancel_after"),
        ({"indicator": "latency", "threshold": "0s"}, "SLO 'a'.threshold", "is zero"),
        ({"indicator": "latency", "threshold": 200}, "SLO 'a'.threshold", "a number and a unit"),
        ({"match": "/x"}, "SLO 'a'.match", "is no mapping"),
        ({"match": {"rout": "/x"}}, "SLO 'a'.match.rout", "Did you mean 'route'"),
        ({"match": {"route": []}}, "SLO 'a'.match.route", "empty"),
        ({"match": {"route": ["/x", 5]}}, r"SLO 'a'.match.route\[1\]", "is a number"),
        ({"match": {"kind": "htp"}}, "SLO 'a'.match.kind", "Did you mean 'http'"),
        ({"match": {"where": 5}}, "SLO 'a'.match.where", "a callable or an import path"),
        ({"good": "nowhere.at.all:f"}, "SLO 'a'.good", "ModuleNotFoundError"),
        ({"good": "json:nothing"}, "SLO 'a'.good", "AttributeError"),
        ({"good": "json"}, "SLO 'a'.good", "package.module:name"),
        ({"good": "json:__name__"}, "SLO 'a'.good", "not callable"),
        ({"valid": never_asked}, "SLO 'a'.valid", "async"),
        ({"group_by": "host"}, "SLO 'a'.group_by", "must be declared"),
        ({"group_by": ["route", "route"]}, "SLO 'a'.group_by", "twice"),
        ({"group_by": "a b"}, "SLO 'a'.group_by", "is no key"),
        ({"group_values": {"version": ["1"]}}, "SLO 'a'.group_values.version", "unknown key"),
        ({"max_groups": 0}, "SLO 'a'.max_groups", "1 to"),
        ({"max_groups": True}, "SLO 'a'.max_groups", "a whole number"),
        ({"exclude": [{"name": "x"}]}, r"SLO 'a'.exclude\[0\]", "no condition"),
        ({"exclude": [{"name": "a b", "route": "/x"}]}, r"SLO 'a'.exclude\[0\].name", "cannot be a reason"),
        ({"exclude": [{"name": "x", "header": "a b"}]}, r"SLO 'a'.exclude\[0\].header", "no header name"),
        ({"exclude": [{"name": "x", "route": "/x", "equals": "1"}]}, r"SLO 'a'.exclude\[0\].equals", "no header"),
        ({"exclude": {"name": "x"}}, "SLO 'a'.exclude", "is no list"),
        ({"rules": {"40x": "bad"}}, "SLO 'a'.rules.40x", "Did you mean '4xx'"),
        ({"rules": {"404": "worse"}}, "SLO 'a'.rules.404", "good, bad, excluded"),
        ({"rules": {"404": "good:fine"}}, "SLO 'a'.rules.404", "good, bad, excluded"),
        ({"rules": {"crashed": "good"}}, "SLO 'a'.rules.crashed", "cannot be changed"),
        ({"rules": {"health_check": "bad"}}, "SLO 'a'.rules.health_check", "health_checks instead"),
        ({"reasons": "nonsense"}, "SLO 'a'.reasons", "is no list"),
        ({"reasons": ["other"]}, r"SLO 'a'.reasons\[0\]", "meaning of its own"),
        ({"reasons": list("abcdefgh")}, "SLO 'a'.reasons", "7 at most"),
    ],
)
def test_a_bad_definition_names_its_place_and_a_remedy(arguments, place, says):
    """At construction, never later."""
    with pytest.raises(DefinitionError, match=says) as caught:
        SLO(**{"name": "a"} | arguments)
    assert caught.match(f"^{place}")
    assert isinstance(caught.value, ValueError)
    assert caught.value.remedy


def test_defaults():
    """A name is enough."""
    slo = SLO("a")
    assert (slo.target_ratio, slo.window_ns, slo.kind, slo.dynamic) == (Fraction(999, 1000), 30 * DAY_NS, "http", False)
    assert SLO("a", window=timedelta(days=7)).window_ns == 7 * DAY_NS
    assert slo.matches("http", None, "GET", "x")
    assert not slo.matches("websocket", "/x", "GET", "x")
    assert not slo.matches("call", "/x", "", "")


def test_matching_is_on_templates():
    """Route and host by globs, methods by name; what no route matched has no template."""
    slo = SLO("a", match={"route": ["/checkout/*", "/pay"], "method": ["get", "POST"], "host": "*.Example.com"})
    assert slo.matches("http", "/checkout/{id}/item", "GET", "shop.example.com:8443")
    assert slo.matches("http", "/pay", "post", "SHOP.EXAMPLE.COM")
    assert not slo.matches("http", "/checkout", "GET", "shop.example.com")
    assert not slo.matches("http", "/pay", "PUT", "shop.example.com")
    assert not slo.matches("http", "/pay", "GET", "example.org")
    assert not slo.matches("http", None, "GET", "shop.example.com")
    assert not SLO("a", match={"route": "*"}).matches("http", None, "GET", "")


def naive_glob(pattern, text):
    """The definition of a glob, with all its backtracking."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive_glob(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and naive_glob(pattern[1:], text[1:])


@given(st.lists(st.text("ab/*?[{.\\\n", max_size=7), max_size=3), st.text("ab/*?[{.\\\n", max_size=9))
def test_globs_equal_their_definition(patterns, text):
    """Any pattern, any text, several at once."""
    assert (text in Globs(patterns)) == any(naive_glob(pattern, text) for pattern in patterns)


def test_a_hostile_text_does_not_stall_a_glob():
    """A pattern with many stars gives up without trying all ways."""
    assert "a" * 5_000 not in Globs(["*a" * 25 + "*b"])


def test_the_apps_word_wins_over_all_but_the_latency():
    """Verdicts, for failures, exclusions and slow answers."""
    slo = SLO("a", exclude=[{"name": "bots", "route": "/x"}], valid=lambda event: False)
    assert outcome(slo, status=500, verdict=("good", "good")) == ("good", "good")
    assert outcome(slo, verdict=("bad", "nonsense")) == ("bad", "nonsense")
    assert outcome(slo, verdict=("excluded", "cache_warmup")) == ("excluded", "cache_warmup")
    late = SLO("l", indicator="latency", threshold="1s")
    assert outcome(late, status=500, verdict=("good", "good")) == ("good", "good")
    assert outcome(late, verdict=("good", "good"), latency_ns=SECOND_NS + 1) == ("bad", "slow")
    with pytest.raises(BadValue, match="'meh' is no outcome"):
        slo.judge(request(verdict=("meh", "")))


def test_health_checks_go_by_route_only():
    """Templates, overridable, and never for what no route matched."""
    assert outcome(SLO("a"), route="/healthz", status=500) == ("excluded", "health_check")
    assert outcome(SLO("a"), route=None, status=500) == ("bad", "5xx")
    assert outcome(SLO("a", health_checks=[]), route="/healthz") == ("good", "good")
    assert outcome(SLO("a", health_checks=["/internal/*"]), route="/internal/up") == ("excluded", "health_check")
    assert outcome(SLO("a", health_checks=["/internal/*"]), route="/healthz") == ("good", "good")


def test_only_a_named_header_excludes():
    """With its value where one is named; header names in any case."""
    headers = {"x-probe": "1", "user-agent": "kube-probe"}
    slo = SLO("a", exclude=[{"name": "synthetic", "header": "X-Probe", "equals": "1"}])
    assert slo.dynamic
    assert outcome(slo, header=headers.get) == ("excluded", "synthetic")
    assert outcome(slo, header={"x-probe": "2"}.get) == ("good", "good")
    assert outcome(slo) == ("good", "good")
    assert outcome(SLO("a"), header=headers.get) == ("good", "good")
    assert (
        outcome(SLO("a", exclude=[{"name": "any", "header": "x-probe"}]), header={"x-probe": ""}.get)[0] == "excluded"
    )


def test_exclusions_need_all_their_conditions():
    """Route and predicate together; a route alone needs no event."""
    rule = {"name": "internal", "route": "/x", "when": lambda event: event.method == "GET"}
    slo = SLO("a", exclude=[rule])
    assert slo.dynamic
    assert outcome(slo) == ("excluded", "internal")
    assert outcome(slo, method="PUT") == ("good", "good")
    assert outcome(slo, route="/y") == ("good", "good")
    assert not SLO("a", exclude=[{"name": "internal", "route": "/x"}]).dynamic


def test_user_code_decides():
    """`where`, `valid` and `good`, with True, False, a reason, or no opinion."""
    assert SLO("a", match={"where": lambda event: event.route == "/y"}).judge(request()) is None
    assert outcome(SLO("a", valid=lambda event: False)) == ("excluded", "invalid")
    assert outcome(SLO("a", good=lambda event: True), status=500) == ("good", "good")
    assert outcome(SLO("a", good=lambda event: False)) == ("bad", "not_good")
    assert outcome(SLO("a", good=lambda event: False), status=500) == ("bad", "5xx")
    assert outcome(SLO("a", good=lambda event: "stale")) == ("bad", "stale")
    assert outcome(SLO("a", good=lambda event: None), status=404) == ("excluded", "client_error")
    late = SLO("l", indicator="latency", threshold="1s", good=lambda event: True)
    assert outcome(late, status=500, latency_ns=SECOND_NS + 1) == ("bad", "slow")
    assert outcome(SLO("a", good=f"{__name__}:is_fine"), status=201) == ("bad", "not_good")


def test_what_user_code_raises_is_the_callers():
    """The engine has the guard."""
    slo = SLO("a", good=lambda event: 1 // 0, rules={"404": "bad"})
    with pytest.raises(ZeroDivisionError):
        slo.judge(request())
    assert slo.by_indicator(request()).within == ("good", "good")
    assert slo.by_indicator(request(status=404)).within == ("bad", "404")
    assert slo.by_indicator(request(verdict=("bad", "nonsense"))).within == ("bad", "nonsense")
    assert slo.by_indicator(request(verdict=("meh", ""))).within == ("good", "good")
    assert slo.by_indicator(request(route="/healthz")).within == ("excluded", "health_check")


def test_changed_rules():
    """The most special line wins; `good` stays under the threshold; before the user's `good`."""
    slo = SLO("a", rules={"4xx": "good", "404": "bad", 503: "excluded:upstream", "shed": "excluded", "cut": "good"})
    assert outcome(slo, status=400) == ("good", "good")
    assert outcome(slo, status=404) == ("bad", "404")
    assert outcome(slo, status=401) == ("excluded", "unauthorised")
    assert outcome(slo, status=503) == ("excluded", "upstream")
    assert outcome(slo, status=500) == ("bad", "5xx")
    assert outcome(slo, ending=Ending.SHED) == ("excluded", "shed")
    assert outcome(slo, ending=Ending.CUT) == ("good", "good")
    late = SLO("l", indicator="latency", threshold="1s", rules={"404": "good", "client_cancel": "bad"})
    assert outcome(late, status=404, latency_ns=SECOND_NS + 1) == ("bad", "slow")
    assert outcome(late, ending=Ending.CLIENT_CANCEL) == ("bad", "abandoned")
    assert outcome(SLO("a", rules={"404": "excluded"}, good=lambda event: True), status=404) == ("excluded", "404")


def test_cells_are_sixteen_and_the_last_of_each_side_is_other():
    """Standard reasons in their order; crashed always has a cell."""
    cells = SLO("a").reason_cells
    assert len(cells) == 16
    assert (cells[0], cells[9], cells[15]) == ("good", "other", "other")
    assert set(cells[1:9]) == {
        *("crashed", "5xx", "exception", "shed", "abandoned", "server_cancel", "no_response", "cut")
    }
    assert set(cells[10:15]) == {"unauthorised", "client_error", "client_cancel", "health_check", "maintenance"}


def test_named_reasons_come_first_when_room_is_short():
    """What gives way is the rarest standard reason, never crashed."""
    slo = SLO("a", reasons=["nonsense", "stale"], valid=is_fine, exclude=[{"name": "bots", "route": "/b"}])
    assert "nonsense" in slo.reason_cells[1:9]
    assert "stale" in slo.reason_cells[1:9]
    assert "crashed" in slo.reason_cells[1:9]
    assert "cut" not in slo.reason_cells
    assert {"bots", "invalid"} <= set(slo.reason_cells[10:15])


def test_a_reason_without_a_cell_counts_with_its_kin():
    """Never with what someone else has named, and what has no kin is other."""
    plain = SLO("a", indicator="inference")
    assert plain.reason_cells[7:9] == ("oom_cascade", "server_cancel")
    assert plain.cell(Outcome("bad", "cut")) == plain.cell(Outcome("bad", "exception"))
    named = SLO("a", indicator="inference", threshold="1s", reasons=["nonsense"])
    assert "oom_cascade" not in named.reason_cells
    assert named.reason_cells[named.cell(Outcome("bad", "oom_cascade"))] == "oom"
    assert named.reason_cells[named.cell(Outcome("bad", "abandoned"))] == "slow"
    assert named.reason_cells[named.cell(Outcome("bad", "shed"))] == "other"
    assert named.cell(Outcome("excluded", "abandoned")) == 15


KIN = {"cut": "exception", "no_response": "exception", "5xx": "exception"}  # those that availability can have
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in ("good", "other"))


@given(st.lists(names, max_size=7, unique=True), st.lists(names, max_size=9, unique=True), st.text(max_size=12))
def test_every_outcome_has_a_cell_of_its_side(reasons, excluded, unknown):
    """Whatever is declared and whatever an app says."""
    slo = SLO("a", reasons=reasons, exclude=[{"name": name, "route": f"/{name}"} for name in excluded])
    assert len(slo.reason_cells) == 16
    assert slo.reason_cells[9] == slo.reason_cells[15] == "other"
    assert "crashed" in slo.reason_cells[1:9]
    named = [cell for cell in slo.reason_cells[1:9] if cell]
    assert len(set(named)) == len(named)
    for reason in [*reasons, unknown, "crashed", ""]:
        cell = slo.cell(request_outcome("bad", reason))
        assert 1 <= cell <= 9
        assert slo.reason_cells[cell] in (reason, "other", KIN.get(reason))
    assert all(slo.reason_cells[slo.cell(request_outcome("bad", reason))] == reason for reason in reasons)
    assert 10 <= slo.cell(request_outcome("excluded", unknown)) <= 15
    assert slo.cell(request_outcome("good", unknown)) == 0


def request_outcome(kind, reason):
    """An outcome as an event with that verdict has it (good answers have one reason)."""
    return SLO("a").judge(request(verdict=(kind, reason))).within


def test_meaning_changes_with_what_is_good_and_with_nothing_else():
    """A new target keeps its history, a new meaning of good starts a new row."""
    base = SLO("a").meaning
    same = [{"target": "95%"}, {"window": "7d"}, {"description": "x"}, {"max_groups": 7}]
    other = [
        {"cancel_after": "5s"},
        {"match": {"route": "/x"}},
        {"match": {"where": is_fine}},
        {"rules": {"404": "bad"}},
        {"exclude": [{"name": "x", "route": "/x"}]},
        {"good": is_fine},
        {"valid": is_fine},
        {"health_checks": []},
        {"group_by": "route"},
        {"reasons": ["nonsense"]},
        {"indicator": "latency", "threshold": "1s"},
        {"indicator": "latency", "threshold": "2s"},
    ]
    assert {SLO("b", **arguments).meaning for arguments in same} == {base}
    meanings = [SLO("a", **arguments).meaning for arguments in other]
    assert len({base, *meanings}) == len(other) + 1
    assert SLO("a", good=f"{__name__}:is_fine").meaning == SLO("a", good=is_fine).meaning


def test_groups():
    """Their texts, what is unknown, what is undeclared, and what a client cannot forge."""
    slo = SLO("a", group_by=["route", "method"])
    assert not slo.grouped_by_attributes
    assert slo.group_of(request()) == "route=/x,method=GET"
    assert slo.group_of(request(method="BREW")) == "route=/x,method=_OTHER"
    assert slo.group_of(request(route=None)) == "route=(unknown),method=GET"
    assert slo.group_of(request(route=None, method="")) == UNKNOWN
    assert SLO("a").group_of(request()) is None
    by_version = SLO("a", group_by="version", group_values={"version": ["v1", "v2"]})
    assert by_version.grouped_by_attributes
    assert by_version.group_of(request(attributes={"version": "v1"})) == "version=v1"
    assert by_version.group_of(request(attributes={"version": "v3"})) == OVERFLOW
    assert by_version.group_of(request()) == UNKNOWN
    by_tenant = SLO("a", group_by="tenant")
    assert by_tenant.group_of(request(attributes={"tenant": "a,b=c%\n"})) == "tenant=a%2Cb%3Dc%25%0A"
    assert by_tenant.group_of(request(attributes={"tenant": "x" * 1000})) == OVERFLOW
    by_host = SLO("a", group_by="host", group_values={"host": ["Shop.example.com"]})
    assert by_host.group_of(request(host="shop.example.com")) == "host=shop.example.com"
    assert by_host.group_of(request(host="evil.example.com")) == OVERFLOW


def test_a_definition_survives_json():
    """Without user code, exactly."""
    slo = SLO(
        "a", indicator="latency", threshold="200ms", target=Fraction(1, 3), group_by="route", match={"route": "/x"}
    )
    data = json.loads(json.dumps(slo.definition()))
    assert (data["target"], data["target_num"], data["target_den"], data["window"]) == ("1/3", 1, 3, "30d")
    assert Definition.from_json(data) == slo.as_definition
    assert Definition.from_json(data | {"of_a_later_version": 1}) == slo.as_definition


@pytest.mark.parametrize("damage", [{"target_den": 0}, {"reason_cells": []}, {"window_ns": None}, {"target_num": "x"}])
def test_a_damaged_definition_is_refused(damage):
    """With a remedy."""
    with pytest.raises(DefinitionError, match="saved definition"):
        Definition.from_json(SLO("a").definition() | damage)
    with pytest.raises(DefinitionError, match="KeyError"):
        Definition.from_json({})


def test_from_mapping():
    """As it stands in a file; unknown keys with the nearest known one, at the place that the caller gives."""
    slo = SLO.from_mapping({"name": "l", "indicator": "latency", "threshold": "200ms", "target": "95%", "match": None})
    assert (slo.threshold_ns, slo.target_ratio) == (SECOND_NS // 5, Fraction(19, 20))
    cases = [
        ({"name": "a", "targt": 1}, "Did you mean 'target'"),
        ({"name": "a", "treshold": "1s", "indicator": "latency"}, "Did you mean 'threshold'"),
        ({"name": "a", "calendar": "month", "window": "7d"}, "Leave one out"),
        ({"name": "a", "calendar": "months"}, "Did you mean 'month'"),
        ({"name": "a", "timezone": "UTC"}, "Add calendar: month"),
        ({"name": "a", "slice": "5m"}, "Add budgeting: timeslices"),
        ({"name": "a", "budgeting": "timeslices"}, 'Add slice_target: "95%"'),
        ({"name": "a", "budgeting": "timeslices", "slice_target": "95%", "slice": "15s"}, "multiple of 10s"),
        ({"name": "a", "budgeting": "ratio_timeslices", "slice_target": "95%"}, "has no bar"),
        ({"name": "a", "objective": "p95 200ms"}, "p95 < 200ms"),
        ({"name": "a", "objective": "p95 < 200ms", "target": "99%"}, "Leave one out"),
        ({"name": "a", "sla": "100%"}, "no error budget"),
        ({"name": "a", "runbook_url": "x"}, "Write https://"),
        ({"name": "a", "labels": {"slo": "x"}}, "cannot be a label"),
        ({"name": "a", "target": None}, "no target"),
        ({"target": "99%"}, "Add name"),
        ([], "is no definition"),
        ({"name": "a", 5: 5}, "unknown key 5"),
    ]
    for data, says in cases:
        with pytest.raises(DefinitionError, match=says) as caught:
            SLO.from_mapping(data, "slo.yaml:3:5")
        assert str(caught.value).startswith("slo.yaml:3:5: SLO")


SHORT = {"name": "a", "objective": "p95 < 200ms"}


@pytest.mark.parametrize(
    ("beside", "place", "says"),
    [
        ({"target": "99.9%"}, "SLO 'a'.target", "it says '99.9%', and objective 'p95 < 200ms' says 95%"),
        ({"target": "99%"}, "SLO 'a'.target", "make both say the same"),
        ({"threshold": "500ms"}, "SLO 'a'.threshold", "says under 200ms"),
        ({"indicator": "latency", "threshold": "500ms"}, "SLO 'a'.threshold", "says under 200ms"),
        (
            {"indicator": "freshness", "max_age": "90d"},
            "SLO 'a'.objective",
            "it is for inference, inter_token, latency",
        ),
        ({"indicator": "websocket"}, "SLO 'a'.objective", "has no threshold, which it sets"),
    ],
)
def test_nothing_beside_the_shorthand_may_say_other_than_it(beside, place, says):
    """The usual target too, where it is written; and what cannot have it is named by its own key."""
    with pytest.raises(DefinitionError, match=re.escape(says)) as caught:
        SLO.from_mapping(SHORT | beside)
    assert caught.value.place == place


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"target": "95%"},
        {"target": 0.95},
        {"threshold": "200ms"},
        {"indicator": "latency", "threshold": "0.2s"},
        {"indicator": "latency", "threshold": "199ms999us999ns", "target": "0.95"},
    ],
)
def test_what_says_the_same_beside_the_shorthand_is_fine(beside):
    """Its limit with or without the sign, in any spelling; and a copy of it says the same."""
    slo = SLO.from_mapping(SHORT | beside)
    assert (slo.indicator, slo.threshold_ns, slo.target_ratio) == ("latency", SECOND_NS // 5 - 1, Fraction(19, 20))
    assert replace(slo, window="7d").definition() == SLO(**SHORT, window="7d").definition()


def test_an_installed_indicator_brings_its_own_keys(monkeypatch):
    """A new kind of promise is one module."""
    from otelslo import indicators
    from otelslo.indicators import availability

    member = ModuleType("stub")
    member.__dict__.update(
        {name: getattr(availability, name) for name in ("KIND", "RULES", "keys", "answered", "judge")}
    )
    member.OPTIONS = {"cancel_after": availability.OPTIONS["cancel_after"], "depth": indicators.Option(int, default=1)}
    point = type("Point", (), {"name": "stub", "load": lambda self: member})()
    monkeypatch.setattr(indicators, "entry_points", lambda **_: [point])
    assert SLO.from_mapping({"name": "a", "indicator": "stub", "depth": "7"}).meaning
    assert SLO("a", indicator="stub", options={"depth": "7"}).meaning != SLO("a", indicator="stub").meaning
    assert rules_table(SLO("a", indicator="stub"))


def test_objectives_are_values_that_can_be_keys():
    """Frozen, hashable, told apart by identity."""
    slo = SLO("a")
    with pytest.raises(AttributeError):
        slo.target = "1%"
    assert {slo: 1}[slo] == 1
