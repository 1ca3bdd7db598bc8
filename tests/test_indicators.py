"""Every member of the family by its contract, and the table of outcomes line by line."""

from __future__ import annotations

import itertools

import pytest

from otelslo import indicators
from otelslo.errors import BadValue, DefinitionError
from otelslo.event import EVENT_KINDS, GOOD, Ending, Event, Outcome
from otelslo.labelled import Labelled
from otelslo.slo import SLO, rules_table
from otelslo.window import SECOND_NS

T_NS = SECOND_NS // 5
AVAILABILITY = SLO("a")
LATENCY = SLO("l", indicator="latency", threshold="200ms")
WEBSOCKET = SLO("w", indicator="websocket")
CALLS = SLO("c", match={"kind": "call"})
SLOW_CALLS = SLO("s", indicator="latency", threshold="200ms", match={"kind": "call"})


def outcome(slo, latency_ns=1, **facts):
    """The kind and reason of an event of the SLO's kind."""
    event = Event(slo.kind, route="/x", latency_ns=latency_ns, **facts)
    return tuple(slo.judge(event).outcome(latency_ns))


@pytest.mark.parametrize("name", indicators.names())
def test_every_member_keeps_the_contract(name):
    """Options parse their own example, every rule judges, nothing that can end is left without a line."""
    member = indicators.load(name)
    assert member.KIND in EVENT_KINDS
    for option in member.OPTIONS.values():
        option.parse(option.example)
        with pytest.raises(BadValue):
            option.parse(object())
        if not option.free:
            with pytest.raises(BadValue):
                option.parse("nonsense")
    options = {key: option.parse(option.example) for key, option in member.OPTIONS.items()}
    keys = [line.key for line in member.RULES]
    assert len(keys) == len(set(keys))
    assert {ending.value for ending in Ending} <= set(keys) or member.KIND == "prediction"  # which knows no endings
    for line in member.RULES:
        judgement = line.judgement(options)
        assert (judgement.threshold_ns is None) is (line.option is None)
        assert line.option is not None or judgement.within == judgement.beyond
    assert member.answered(options).within == GOOD
    for ending in Ending:
        for status in (None, 101, 200, 304, 401, 403, 404, 429, 500, 503, 599, 600, 0, -1, 1000, 1011, 4001, 10**9):
            event = Event(member.KIND, ending, status=status)
            assert member.judge(event, options).within.kind in ("good", "bad", "excluded")
            assert member.keys(event)


LABELLED = [name for name in indicators.names() if indicators.load(name).KIND == "prediction"]


@pytest.mark.parametrize("name", LABELLED)
def test_every_member_that_judges_labels_keeps_its_contract(name):
    """Whatever is predicted and labelled, it is judged, by a key of its own; a day's sums can be taken back."""
    member = indicators.load(name)
    assert member.DATED
    assert member.TICKETS_ONLY
    assert {"label_within", "sample"} <= set(member.OPTIONS)
    daily = getattr(member, "DAILY", False)
    assert ("otherwise" in member.OPTIONS) is not daily
    options = {key: option.parse(option.example) for key, option in member.OPTIONS.items()}
    options |= {"average": None} if name == "f1" else {}
    member.check(options)
    values = (None, 0, 1, "1", "spam", 0.5, True, "", float("nan"), "a text of several words", "x" * 1000)
    reasons = {line.key for line in member.RULES} | {"good"}
    for output, truth, lapsed in itertools.product(values, values, (False, True)):
        labelled = Labelled(output, 0.5, None if lapsed else truth, lapsed)
        event = Event("prediction", labelled=labelled)
        outcome = member.judge(event, options).within
        assert member.settled(labelled, options) in (False, True)
        if not daily:
            assert member.keys_by(event, options)[0] in {line.key for line in member.RULES}
            assert outcome.reason in reasons
        elif outcome == GOOD:
            counts = member.tally(labelled, options)
            assert all(isinstance(count, int) and count >= 0 for count in counts.values())
            assert all(len(key) < 200 for key in counts)
            assert member.day(counts, options)[0].kind in ("good", "bad", "excluded")
            assert member.day(dict.fromkeys(counts, 0), options)[0] == Outcome("excluded", "undefined")


@pytest.mark.parametrize("name", ["avaliability", "", "__init__", "../slo", "os", 7 * "x"])
def test_an_unknown_name_lists_what_exists(name):
    """With the nearest one, if any is near."""
    with pytest.raises(DefinitionError, match=r"unknown indicator .*availability"):
        indicators.load(name)


def test_an_installed_indicator_is_found_and_checked(monkeypatch):
    """By its entry point; one that lacks a part is refused by name."""

    class Point:
        name = "installed"

        def load(self):
            return object()

    monkeypatch.setattr(indicators, "entry_points", lambda **_: [Point()])
    assert "installed" in indicators.names()
    with pytest.raises(DefinitionError, match="'installed' has no KIND, OPTIONS"):
        indicators.load("installed")


@pytest.mark.parametrize(
    ("facts", "availability", "latency"),
    [
        ({"status": 200}, ("good", "good"), ("good", "good")),
        ({"status": 204}, ("good", "good"), ("good", "good")),
        ({"status": 304}, ("good", "good"), ("good", "good")),
        ({"status": 101}, ("good", "good"), ("good", "good")),
        ({"status": 500}, ("bad", "5xx"), ("bad", "5xx")),
        ({"status": 503}, ("bad", "5xx"), ("bad", "5xx")),
        ({"status": 700}, ("bad", "5xx"), ("bad", "5xx")),
        ({"status": 0}, ("bad", "5xx"), ("bad", "5xx")),
        ({"status": 429}, ("excluded", "client_error"), ("excluded", "client_error")),
        ({"status": 404}, ("excluded", "client_error"), ("excluded", "client_error")),
        ({"status": 401}, ("excluded", "unauthorised"), ("excluded", "unauthorised")),
        ({"status": 403}, ("excluded", "unauthorised"), ("excluded", "unauthorised")),
        ({"ending": Ending.EXCEPTION, "exception": "ValueError"}, ("bad", "exception"), ("bad", "exception")),
        ({"ending": Ending.EXCEPTION, "status": 200}, ("bad", "exception"), ("bad", "exception")),
        ({"ending": Ending.CUT, "status": 200}, ("bad", "cut"), ("bad", "cut")),
        ({"ending": Ending.NO_RESPONSE}, ("bad", "no_response"), ("bad", "no_response")),
        ({"ending": Ending.SERVER_CANCEL}, ("bad", "server_cancel"), ("bad", "server_cancel")),
        ({"ending": Ending.SHED, "status": 503}, ("bad", "shed"), ("excluded", "shed")),
        ({"ending": Ending.SHED, "status": 429}, ("bad", "shed"), ("excluded", "shed")),
        ({"ending": Ending.CLIENT_CANCEL}, ("excluded", "client_cancel"), ("excluded", "client_cancel")),
    ],
)
def test_what_counts_as_what(facts, availability, latency):
    """The table, for answers in time."""
    assert outcome(AVAILABILITY, **facts) == availability
    assert outcome(LATENCY, **facts) == latency


def test_a_threshold_is_exact():
    """At it is within; one nanosecond more is beyond; an unknown latency is not a good one."""
    assert outcome(LATENCY, T_NS, status=200) == ("good", "good")
    assert outcome(LATENCY, T_NS + 1, status=200) == ("bad", "slow")
    assert outcome(LATENCY, None, status=200) == ("bad", "slow")
    assert outcome(AVAILABILITY, 10**15, status=200) == ("good", "good")


def test_a_client_that_waited_long_had_a_reason():
    """Beyond `cancel_after`, or beyond the latency threshold, it was abandoned."""
    gone = {"ending": Ending.CLIENT_CANCEL}
    assert outcome(AVAILABILITY, 10 * SECOND_NS, **gone) == ("excluded", "client_cancel")
    assert outcome(AVAILABILITY, 10 * SECOND_NS + 1, **gone) == ("bad", "abandoned")
    assert outcome(SLO("a", cancel_after="2s"), 3 * SECOND_NS, **gone) == ("bad", "abandoned")
    assert outcome(LATENCY, T_NS, **gone) == ("excluded", "client_cancel")
    assert outcome(LATENCY, T_NS + 1, **gone) == ("bad", "abandoned")


def test_calls_have_no_status():
    """They return or raise."""
    assert outcome(CALLS) == ("good", "good")
    assert outcome(CALLS, ending=Ending.EXCEPTION) == ("bad", "exception")
    assert outcome(SLOW_CALLS) == ("good", "good")
    assert outcome(SLOW_CALLS, T_NS + 1) == ("bad", "slow")
    assert outcome(SLOW_CALLS, ending=Ending.EXCEPTION) == ("bad", "exception")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, ("good", "good")),
        ({"status": 1000}, ("good", "good")),
        ({"status": 1001}, ("good", "good")),
        ({"status": 1006}, ("good", "good")),
        ({"status": 4001}, ("good", "good")),
        ({"status": 1011}, ("bad", "closed_by_error")),
        ({"status": 1012}, ("bad", "closed_by_error")),
        ({"status": 1013}, ("bad", "closed_by_error")),
        ({"status": 1014}, ("bad", "closed_by_error")),
        ({"status": 403}, ("excluded", "unauthorised")),
        ({"status": 404}, ("excluded", "client_error")),
        ({"status": 500}, ("bad", "5xx")),
        ({"ending": Ending.EXCEPTION}, ("bad", "exception")),
        ({"ending": Ending.SERVER_CANCEL}, ("bad", "server_cancel")),
        ({"ending": Ending.CLIENT_CANCEL}, ("excluded", "client_cancel")),
    ],
)
def test_websocket_connections(facts, expected):
    """Closed, refused, or lost; never by their length."""
    assert outcome(WEBSOCKET, 10**15, **facts) == expected


def test_the_printed_table_is_the_one_in_force():
    """Defaults, both sides of a threshold, changed and added lines, and what is asked before the table."""
    rules = {"404": "bad", "401": "bad:locked_out", "shed": "excluded"}
    rows = rules_table(SLO("a", rules=rules, exclude=[{"name": "bots", "route": "/bots/*"}]))
    text = {happened.partition(":")[0]: (kind, reason) for happened, kind, reason in rows}
    assert text["404"] == ("bad", "404")
    assert text["401"] == ("bad", "locked_out")
    assert text["403"] == ("excluded", "unauthorised")
    assert text["shed"] == ("excluded", "shed")
    assert text["health check"] == ("excluded", "health_check")
    assert ("the operator's rule: route ['/bots/*']", "excluded", "bots") in rows
    assert ("client_cancel: the client went away, after 10s", "bad", "abandoned") in rows
    assert rows[-1][1:] == Outcome("bad", "crashed")
