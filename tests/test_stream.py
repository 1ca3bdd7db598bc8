"""The pace of a stream and the indicators of it, as values: against a naive twin, and line by line."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo import SLO
from otelslo.errors import DefinitionError
from otelslo.event import Ending, Event
from otelslo.slo import rules_table
from otelslo.stream import MOST_GAPS, Pace, StreamFacts

MS = 1_000_000
TTFT = SLO("ttft", indicator="ttft", threshold="300ms")
TPOT = SLO("tpot", indicator="tpot", threshold="100ms")
STALLS = SLO("stalls", indicator="inter_token", threshold="250ms")
GOODPUT = SLO("goodput", indicator="goodput", options={"ttft": "300ms", "tpot": "100ms"})
EVERY = SLO(
    "every", indicator="goodput", options={"ttft": "300ms", "tpot": "100ms", "inter_token": "250ms", "e2e": "5s"}
)
ALL = (TTFT, TPOT, STALLS, GOODPUT, EVERY)


def outcome(slo, stream=None, ending=Ending.COMPLETE, **facts):
    """Such as "bad slow_ttft", or "good"."""
    latency_ns = facts.pop("latency_ns", 0 if stream is None else stream.end_ns)
    event = Event(facts.pop("kind", "call"), ending, route="chat", latency_ns=latency_ns, stream=stream, **facts)
    kind, reason = slo.judge(event).outcome(latency_ns)
    return kind if kind == "good" else f"{kind} {reason}"


def regular(first_ms, gap_ms, items, tail_ms=0):
    """Items at even gaps."""
    times = [(first_ms + gap_ms * i) * MS for i in range(items)]
    return StreamFacts.of(times, times[-1] + tail_ms * MS)


# ── facts ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(
    begin=st.integers(0, 2**61),
    gaps=st.lists(st.integers(0, 10**12), max_size=40),
    tail=st.integers(0, 10**12),
    limit=st.integers(1, 10**12),
    share=st.sampled_from([Fraction(1, 2), Fraction(95, 100), Fraction(99, 100), Fraction(999, 1000)]),
)
def test_facts_are_those_of_a_naive_twin(begin, gaps, tail, limit, share):
    """From the times alone, by the definitions."""
    times, now = [], begin
    for gap in gaps:
        now += gap
        times.append(now)
    clock = iter(times)
    pace = Pace(lambda: next(clock))
    for handed_over in [pace.hand_over, pace.per_item(bool)] * len(times):
        if pace.items < len(times):
            handed_over(True)
    facts = pace.facts(begin, now + tail)
    assert (facts.items, facts.tokens, facts.end_ns) == (len(times), len(times), now + tail - begin)
    assert facts.first_ns == (times[0] - begin if times else None)
    assert facts.last_ns == (times[-1] - begin if times else None)
    between = sorted(gaps[1:])
    assert facts.has_gaps is bool(between)
    if not between:
        assert facts.gap_ns() is facts.gap_ns(share) is None
        assert facts.tpot_within(limit)
        return
    assert facts.tpot_within(limit) is (Fraction(times[-1] - times[0], len(times) - 1) <= limit)
    assert facts.gap_ns() == between[-1]
    within = facts.gap_ns(share)
    assert within == next(gap for gap in between if Fraction(sum(g <= gap for g in between), len(between)) >= share)


@given(st.randoms(use_true_random=False), st.integers(0, 1200), st.sampled_from(["hand_over", "per_item"]))
def test_items_are_put_away_by_the_hundred_without_a_trace(random, count, way):
    times = sorted(random.choices(range(10**6), k=count))
    clock = iter(times)
    pace = Pace(lambda: next(clock))
    handed_over = pace.hand_over if way == "hand_over" else pace.per_item(bool)
    for number in range(count):
        assert pace.items == number
        handed_over(True)
    facts = pace.facts(0, 10**6)
    assert (facts.items, list(facts.arrivals)) == (count, times)
    assert pace.facts(0, 10**6) == facts  # asked again


def test_the_app_counts_the_tokens_of_an_item():
    """Several in one item, or none; the item that is handed over next is not counted again."""
    times = iter([1, 5, 9])
    pace = Pace(lambda: next(times))
    pace.say(3)
    pace.hand_over()
    pace.say(0)
    pace.hand_over()
    pace.hand_over(is_token=False)
    pace.hand_over()
    pace.say(-1)
    facts = pace.facts(0, 10)
    assert (facts.first_ns, facts.items, facts.tokens, facts.last_ns) == (1, 2, 4, 5)
    assert facts.tpot_within(2) is True  # 4 ns for 3 tokens after the first
    assert facts.tpot_within(1) is False


def test_a_stream_of_any_length_is_bounded():
    """Beyond that many gaps, counts and the largest gap go on and the percentile is that of the kept ones."""
    pace = Pace(lambda: 0)
    for i in range(MOST_GAPS + 1):
        pace.add(i)
    for late in (MOST_GAPS + 5, MOST_GAPS + 1000, MOST_GAPS + 1001):
        pace.add(late)
    facts = pace.facts(0, MOST_GAPS + 2000)
    assert len(facts.arrivals) == MOST_GAPS + 1
    assert (facts.items, facts.last_ns) == (MOST_GAPS + 4, MOST_GAPS + 1001)
    assert facts.gap_ns() == 995
    assert facts.gap_ns(Fraction(999, 1000)) == 1


# ── the reference case of goodput ──────────────────────────────────────────────────────────────────────────────────
def stalled():
    """A stall of 0.9 s in a stream whose mean of 52.3 ms hides it."""
    times = [100 * MS]
    for gap_ns in [18_392_000] * 12 + [900 * MS] + [18_392_000] * 13:
        times.append(times[-1] + gap_ns)
    return StreamFacts.of(times, times[-1])


SIX = {
    "a": (regular(200, 50, 41, tail_ms=100), Ending.COMPLETE),
    "b": (regular(500, 50, 20), Ending.COMPLETE),
    "c": (regular(100, 0, 1), Ending.COMPLETE),
    "d": (regular(100, 50, 5), Ending.EXCEPTION),
    "e": (stalled(), Ending.COMPLETE),
    "f": (StreamFacts.of([], 4000 * MS), Ending.EXCEPTION),
}


def test_goodput_of_six_requests():
    """Three are good, two when a stall counts; what failed is bad, so that dropping a slow one gains nothing."""
    by_two = {name: outcome(GOODPUT, *how) for name, how in SIX.items()}
    assert by_two == {"a": "good", "b": "bad slow_ttft", "c": "good", "e": "good"} | dict.fromkeys(
        "df", "bad exception"
    )
    by_all = {name: outcome(EVERY, *how) for name, how in SIX.items()}
    assert by_all == by_two | {"e": "bad stalled"}
    good = [sum(one == "good" for one in outcomes.values()) for outcomes in (by_two, by_all)]
    assert [Fraction(n, 6) for n in good] == [Fraction(1, 2), Fraction(1, 3)]  # a second over 6 s, and of all requests
    a, e = SIX["a"][0], SIX["e"][0]
    # By the last token, not by the late close.
    assert [a.tpot_within(limit_ns) for limit_ns in (50 * MS - 1, 50 * MS)] == [False, True]
    assert [e.tpot_within(limit_ns) for limit_ns in (52_299_999, 52_300_000)] == [False, True]
    assert e.gap_ns() == 900 * MS


# ── the tables ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("slo", ALL, ids=lambda slo: slo.name)
def test_limits_are_exact(slo):
    """At the limit is good; one nanosecond more is not."""
    beyond = {
        TTFT: ([300 * MS, 301 * MS], [300 * MS + 1, 301 * MS], "slow_ttft"),
        TPOT: ([0, 150 * MS, 200 * MS], [0, 150 * MS, 200 * MS + 1], "slow_tpot"),
        STALLS: ([0, 250 * MS, 251 * MS], [0, 1, 250 * MS + 2], "stalled"),
        GOODPUT: ([300 * MS, 400 * MS], [300 * MS, 400 * MS + 1], "slow_tpot"),
        EVERY: ([4_900 * MS // 100 * i for i in range(101)][1:], [0, 1, 2], "slow"),
    }
    good, bad, reason = beyond[slo]
    end_ns = 5_000 * MS
    assert outcome(slo, StreamFacts.of(good, end_ns)) == "good"
    assert outcome(slo, StreamFacts.of(bad, end_ns + (slo is EVERY))) == f"bad {reason}"


@pytest.mark.parametrize("slo", ALL, ids=lambda slo: slo.name)
@pytest.mark.parametrize(
    ("ending", "facts", "expected"),
    [
        (Ending.EXCEPTION, {}, "bad exception"),
        (Ending.CUT, {}, "bad cut"),
        (Ending.SERVER_CANCEL, {}, "bad server_cancel"),
        (Ending.NO_RESPONSE, {}, "bad no_response"),
        (Ending.CLIENT_CANCEL, {}, "excluded client_cancel"),
        (Ending.COMPLETE, {"kind": "http", "status": 500}, "bad 5xx"),
        (Ending.COMPLETE, {"kind": "http", "status": 404}, "excluded client_error"),
        (Ending.COMPLETE, {"kind": "http", "status": 401}, "excluded unauthorised"),
        (Ending.COMPLETE, {"kind": "http", "status": 200}, "good"),
    ],
)
def test_an_ending_decides_before_the_pace(slo, ending, facts, expected):
    """However fast it was until then."""
    assert outcome(slo, regular(10, 10, 5), ending, **facts) == expected


@pytest.mark.parametrize("slo", ALL, ids=lambda slo: slo.name)
def test_what_has_no_pace(slo):
    """No stream is excluded; an empty one is bad; a single token has no pace, but keeps the limits of goodput."""
    assert outcome(slo) == outcome(slo, kind="http", status=200) == "excluded not_evaluable"
    assert outcome(slo, StreamFacts.of([], MS)) == "bad empty"
    assert outcome(slo, regular(10, 0, 1)) == ("excluded not_evaluable" if slo in (TPOT, STALLS) else "good")


def test_a_client_that_leaves_is_judged_by_its_wait():
    """Of the first token by the threshold; later by how long nothing had come, not by how long it had listened."""
    listened = regular(100, 50, 1000)  # for 50 s
    waited = StreamFacts.of([100 * MS], 100 * MS + 10_000 * MS + 1)
    for slo in (TPOT, STALLS, GOODPUT):
        assert outcome(slo, listened, Ending.CLIENT_CANCEL) == "excluded client_cancel"
        assert outcome(slo, waited, Ending.CLIENT_CANCEL) == "bad abandoned"
    assert outcome(TTFT, waited, Ending.CLIENT_CANCEL) == "excluded client_cancel"
    for never_ns, expected in ((300 * MS, "excluded client_cancel"), (300 * MS + 1, "bad abandoned")):
        assert outcome(TTFT, StreamFacts.of([], never_ns), Ending.CLIENT_CANCEL) == expected
        assert outcome(TTFT, StreamFacts.of([never_ns], never_ns), Ending.CLIENT_CANCEL) == expected


@pytest.mark.parametrize(("gap", "expected"), [("max", "bad stalled"), ("p99", "bad stalled"), ("p95", "good")])
def test_which_gap_must_be_within(gap, expected):
    """One of 26 gaps is long."""
    slo = SLO("s", indicator="inter_token", threshold="250ms", options={"gap": gap})
    assert outcome(slo, stalled()) == expected


def test_other_responses_are_streams_only_if_asked_for():
    """A download in pieces is no answer of a model, unless someone says that all responses are."""
    pieces = Pace(lambda: MS, begin_ns=0, event_stream=False)
    pieces.hand_over()
    facts = pieces.facts(0, 2 * MS)
    every = SLO("t", indicator="ttft", threshold="1s", options={"responses": "streamed"})
    assert outcome(TTFT, facts, kind="http", status=200) == "excluded not_evaluable"
    assert outcome(every, facts, kind="http", status=200) == "good"


def test_what_people_say_of_a_stream():
    """The app's "good" and a predicate's cannot make a slow stream fast; a changed line of the table can."""
    late = regular(400, 10, 5)
    assert outcome(TTFT, late, verdict=("good", "good")) == "bad slow_ttft"
    assert outcome(TTFT, regular(10, 10, 5), Ending.EXCEPTION, verdict=("good", "good")) == "good"
    assert outcome(TTFT, late, verdict=("bad", "nonsense")) == "bad nonsense"
    assert outcome(TPOT, regular(10, 0, 1), verdict=("good", "good")) == "good"
    fluent = SLO("t", indicator="ttft", threshold="300ms", good=lambda event: event.stream.tokens > 3)
    assert [outcome(fluent, regular(first, 1, n)) for first, n in ((10, 4), (10, 3), (400, 4))] == [
        *("good", "bad not_good", "bad slow_ttft")
    ]
    lenient = SLO("g", indicator="goodput", options={"e2e": "1s", "ttft": "1ms"}, rules={"slow_ttft": "excluded:warm"})
    assert outcome(lenient, late) == "excluded warm"
    assert outcome(lenient, regular(1, 500, 5)) == "bad slow"


def test_the_table_names_every_limit():
    """For `otelslo check --rules`, and each has a cell of its own."""
    reasons = [reason for _, kind, reason in rules_table(EVERY) if kind == "bad"]
    assert reasons[:4] == ["slow_ttft", "slow_tpot", "stalled", "slow"]
    assert {"slow_ttft", "slow_tpot", "stalled", "slow", "empty", "exception"} < set(EVERY.reason_cells)


@pytest.mark.parametrize(
    ("indicator", "options", "message"),
    [
        ("goodput", {}, r"indicator: goodput without a limit is none. Add ttft: 300ms"),
        ("goodput", {"ttft": "fast"}, r"ttft: 'fast' is no duration"),
        ("ttft", {}, r"needs threshold. Add threshold: 500ms"),
        ("inter_token", {"threshold": "1s", "gap": "p100"}, r"gap: 'p100' is no choice of gap. Write max"),
        ("inter_token", {"threshold": "1s", "gap": "p49"}, r"gap: 'p49'"),
        ("tpot", {"threshold": "1s", "responses": "all"}, r"responses: 'all' is no kind of response"),
        ("tpot", {"threshold": "1s", "ttft": "1s"}, r"'tpot' has no option 'ttft'"),
    ],
)
def test_bad_definitions_are_refused(indicator, options, message):
    """By place and remedy."""
    with pytest.raises(DefinitionError, match=message):
        SLO("s", indicator=indicator, options=options)
