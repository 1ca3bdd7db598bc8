"""The state machine of alerts: what people are told, once each, whatever clocks and crashes do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otelslo.alert_states import AlertState, StateKey, Transition, by_objective, firing_names, step, transition_key
from otelslo.alerting import Finding, Verdict
from otelslo.alerts import Tier
from otelslo.errors import StateError
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

NOW_NS = 1_800_000_000 * SECOND_NS
PAGES, TICKETS = ("fast", "slow"), ("leak", "budget-exhausted")
SEVERITY = dict.fromkeys(PAGES, "page") | dict.fromkeys(TICKETS, "ticket")


class Leader:
    """Steps over a store of states: what a leader does, without the rest of it."""

    def __init__(self, slo: str = "checkout", group: str | None = None, **for_ns: int) -> None:
        self.slo, self.group = slo, group
        self.tiers = [Tier(name, "page", HOUR_NS, MINUTE_NS, Fraction(2), delay) for name, delay in for_ns.items()]
        self.stored: dict[StateKey, AlertState] = {}
        self.told: list[Transition] = []

    def decide(self, now_ns: int, verdicts: Mapping[str, Verdict]) -> tuple[list[AlertState], list[Transition]]:
        found = [Finding(name, SEVERITY[name], verdict, {"at": now_ns}) for name, verdict in verdicts.items()]
        delays_ns = {tier.name: tier.for_ns for tier in self.tiers}
        return step(self.stored, self.slo, self.group, found, delays_ns, now_ns)

    def turn(self, now_ns: int, **verdicts: Verdict) -> list[str]:
        """Decide and commit; what people are told, such as "fast firing"."""
        states, transitions = self.decide(now_ns, verdicts)
        self.stored = {state.key: state for state in states}
        self.told += transitions
        return [f"{transition.state.name} {transition.event}" for transition in transitions]

    def state(self, name: str) -> AlertState | None:
        return self.stored.get((self.slo, self.group, name))


def test_a_firing_and_its_end():
    """Told once each; kept for a day."""
    leader = Leader()
    assert leader.turn(NOW_NS, fast="quiet") == []
    assert leader.stored == {}
    assert leader.turn(NOW_NS + 10, fast="firing") == ["fast firing"]
    assert leader.turn(NOW_NS + 20, fast="firing") == []
    assert leader.turn(NOW_NS + 30, fast="unknown") == []
    state = leader.state("fast")
    assert (state.state, state.since_wall_ns, state.fired_wall_ns, state.told) == (
        "firing",
        NOW_NS + 10,
        NOW_NS + 10,
        True,
    )
    assert state.data == {"at": NOW_NS + 20}
    assert leader.turn(NOW_NS + 40, fast="quiet") == ["fast resolved"]
    assert leader.turn(NOW_NS + 50, fast="quiet") == []
    state = leader.state("fast")
    assert (state.state, state.since_wall_ns, state.fired_wall_ns) == ("resolved", NOW_NS + 40, NOW_NS + 10)
    leader.turn(NOW_NS + 40 + DAY_NS - 1, fast="quiet")
    assert leader.state("fast") == state
    leader.turn(NOW_NS + 40 + DAY_NS, fast="quiet")
    assert leader.stored == {}
    assert leader.turn(NOW_NS + 2 * DAY_NS, fast="unknown") == []
    assert leader.stored == {}


def test_a_tier_may_wait():
    """`for`: fires once it has been so for that long, and a quiet moment begins anew."""
    leader = Leader(fast=2 * MINUTE_NS)
    assert leader.turn(NOW_NS, fast="firing") == []
    assert leader.state("fast").state == "pending"
    assert leader.turn(NOW_NS + MINUTE_NS, fast="quiet") == []
    assert leader.stored == {}
    leader.turn(NOW_NS + 2 * MINUTE_NS, fast="firing")
    assert leader.turn(NOW_NS + 3 * MINUTE_NS, fast="unknown") == []
    assert leader.turn(NOW_NS + 4 * MINUTE_NS - 1, fast="firing") == []
    assert leader.turn(NOW_NS + 4 * MINUTE_NS, fast="firing") == ["fast firing"]
    assert leader.turn(NOW_NS + 5 * MINUTE_NS, fast="quiet") == ["fast resolved"]
    leader.turn(NOW_NS + 6 * MINUTE_NS, fast="firing")
    assert leader.turn(NOW_NS + 7 * MINUTE_NS, fast="quiet") == []
    assert (leader.state("fast").state, leader.state("fast").fired_wall_ns) == ("resolved", NOW_NS + 4 * MINUTE_NS)


def test_a_page_silences_its_tickets():
    """And what still fires when the page is over is told then; what has gone is not told at all."""
    leader = Leader()
    now = NOW_NS
    assert leader.turn(now, fast="firing", leak="firing", slow="firing") == ["fast firing", "slow firing"]
    assert leader.state("leak").state == "firing"
    assert not leader.state("leak").told
    assert leader.turn(now + 1, fast="quiet", leak="firing", slow="unknown") == ["fast resolved"]
    assert leader.turn(now + 2, fast="quiet", leak="firing", slow="quiet") == ["leak firing", "slow resolved"]
    assert leader.turn(now + 3, fast="firing", leak="quiet") == ["fast firing", "leak resolved"]
    assert leader.turn(now + 4, fast="firing", leak="firing") == []
    assert leader.turn(now + 5, fast="firing", leak="quiet") == []
    assert leader.state("leak").state == "resolved"
    assert leader.turn(now + 6, fast="quiet", leak="quiet") == ["fast resolved"]


def test_only_the_pages_of_the_same_group_silence():
    """Of the same objective, too."""
    page = AlertState("checkout", None, "fast", "page", "firing", NOW_NS, NOW_NS, True)
    for slo, group in (("checkout", "eu"), ("search", None)):
        _, told = step({page.key: page}, slo, group, [Finding("leak", "ticket", "firing")], {}, NOW_NS)
        assert [transition.state.key for transition in told] == [(slo, group, "leak")]


def test_what_is_no_longer_in_the_plan_resolves():
    """Told if it was told; a waiting one is forgotten."""
    leader = Leader(slow=MINUTE_NS)
    leader.turn(NOW_NS, fast="firing", slow="firing", leak="firing")
    assert leader.turn(NOW_NS + 10) == ["fast resolved"]
    assert {state.name: state.state for state in leader.stored.values()} == {"fast": "resolved", "leak": "resolved"}
    assert leader.turn(NOW_NS + 10 + DAY_NS) == []
    assert leader.stored == {}


def test_others_are_left_alone():
    """Stored states of other groups are neither returned nor resolved."""
    others = [AlertState("checkout", group, "fast", "page", "firing", 1, 1, True) for group in ("eu", "us")]
    before = {state.key: state for state in others}
    states, told = step(before, "checkout", "eu", [Finding("fast", "page", "quiet")], {}, NOW_NS)
    assert [state.group for state in states] == ["eu"]
    assert [transition.event for transition in told] == ["resolved"]
    assert by_objective(others)["checkout", "us"] == {others[1].key: others[1]}
    assert firing_names(before, "checkout", "us") == {"fast"}
    assert firing_names(before, "checkout", None) == frozenset()


def test_a_clock_that_steps_back():
    """No negative lengths, no second firing, no shortened wait; and the next firing has a key of its own."""
    leader = Leader(slow=MINUTE_NS)
    leader.turn(NOW_NS, fast="firing", slow="firing")
    assert leader.turn(NOW_NS - HOUR_NS, fast="firing", slow="firing") == []
    assert leader.state("fast").lasted_ns(NOW_NS - HOUR_NS) == 0
    assert leader.turn(NOW_NS - HOUR_NS + MINUTE_NS - 1, fast="firing", slow="firing") == []
    assert leader.turn(NOW_NS - HOUR_NS + MINUTE_NS, fast="firing", slow="firing") == ["slow firing"]
    assert leader.turn(NOW_NS - 30 * MINUTE_NS, fast="quiet", slow="firing") == ["fast resolved"]
    state = leader.state("fast")
    assert state.fired_wall_ns <= state.since_wall_ns
    assert leader.turn(NOW_NS - 29 * MINUTE_NS, fast="firing", slow="firing") == ["fast firing"]
    assert leader.state("fast").fired_wall_ns > state.fired_wall_ns
    keys = [transition.key for transition in leader.told]
    assert len(keys) == len(set(keys))


def test_a_record_from_a_wrong_future_is_not_kept_for_ever():
    """A clock that was a year ahead, and was set right."""
    leader = Leader()
    leader.turn(NOW_NS + 365 * DAY_NS, fast="firing")
    assert leader.turn(NOW_NS, fast="quiet") == ["fast resolved"]
    leader.turn(NOW_NS + 10, fast="quiet")
    assert leader.stored == {}


def test_a_firing_keeps_the_severity_that_it_began_with():
    """Its end must reach those whom its beginning reached."""
    leader = Leader()
    leader.turn(NOW_NS, fast="firing")
    states, _ = step(leader.stored, "checkout", None, [Finding("fast", "ticket", "firing")], {}, NOW_NS + 1)
    assert states[0].severity == "page"
    _, told = step(leader.stored, "checkout", None, [Finding("fast", "ticket", "quiet")], {}, NOW_NS + 1)
    assert told[0].state.severity == "page"


def test_keys():
    """They depend on the firing and the event, and on nothing else."""
    key = transition_key("checkout", None, "fast", NOW_NS, "firing")
    assert key == transition_key("checkout", None, "fast", NOW_NS, "firing")
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")
    others = [
        ("checkout", "", "fast", NOW_NS, "firing"),
        ("checkout", "null", "fast", NOW_NS, "firing"),
        ("checkout", None, "slow", NOW_NS, "firing"),
        ("checkout", None, "fast", NOW_NS + 1, "firing"),
        ("checkout", None, "fast", NOW_NS, "resolved"),
        ("search", None, "fast", NOW_NS, "firing"),
    ]
    assert len({key, *(transition_key(*parts) for parts in others)}) == 7


def test_the_end_of_a_firing_has_one_key_whenever_it_is_decided():
    """A leader died before its decision was kept; the next one decides later."""
    leader = Leader()
    leader.turn(NOW_NS, fast="firing")
    first = leader.decide(NOW_NS + 10, {"fast": "quiet"})[1]
    later = leader.decide(NOW_NS + 99, {"fast": "quiet"})[1]
    assert first[0].key == later[0].key


states = st.builds(
    AlertState,
    st.text(min_size=1, max_size=5),
    st.none() | st.text(max_size=5),
    st.sampled_from(sorted(SEVERITY)),
    st.sampled_from(["page", "ticket"]),
    st.sampled_from(["pending", "firing", "resolved"]),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.booleans(),
    st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.floats(allow_nan=False), max_size=2),
)


@given(states)
def test_a_state_survives_json(state):
    """Exactly, with keys that a later version may add."""
    assert AlertState.from_json(json.loads(json.dumps(state.to_json())) | {"later": 1}) == state


@pytest.mark.parametrize(
    "damage",
    [{"state": "on"}, {"since_wall_ns": "x"}, {"data": 3}, {"fired_wall_ns": None}, {"told": None, "data": None}],
)
def test_a_damaged_state_is_refused(damage):
    """With one kind of error."""
    state = AlertState("checkout", None, "fast", "page", "firing", NOW_NS, NOW_NS, True)
    with pytest.raises(StateError, match="saved alert"):
        AlertState.from_json(state.to_json() | damage)


verdicts = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(["firing", "quiet", "unknown"]) for name in SEVERITY}
)
clock_steps = st.one_of(
    st.sampled_from([0, 1, 10 * SECOND_NS, MINUTE_NS, -10 * SECOND_NS, -HOUR_NS]), st.integers(-HOUR_NS, 2 * HOUR_NS)
)
turns = st.lists(st.tuples(clock_steps, verdicts, st.booleans()), max_size=40)


@given(turns, st.sampled_from([0, 0, 20 * SECOND_NS, HOUR_NS]))
@example([(0, {"fast": "firing"}, False), (1, {"fast": "quiet"}, True), (0, {"fast": "firing"}, False)], 0)
def test_whatever_happens_people_are_told_of_beginnings_and_ends_in_turn(turns, for_ns):
    """With crashes between deciding and committing: then the same is decided again, with the same keys."""
    leader, now = Leader(fast=for_ns, leak=for_ns), NOW_NS
    for step_ns, judged, crashed in turns:
        now += step_ns
        decided = leader.decide(now, judged)
        if crashed:  # another leader reads what is stored, and decides anew
            leader.stored = {key: AlertState.from_json(state.to_json()) for key, state in leader.stored.items()}
            assert leader.decide(now, judged) == decided
        before = leader.stored
        leader.turn(now, **judged)
        _check_states(leader, before, judged, now)
    for name in SEVERITY:
        mine = [transition for transition in leader.told if transition.state.name == name]
        assert [transition.event for transition in mine] == (["firing", "resolved"] * len(mine))[: len(mine)]
        for begun, ended in zip(mine[::2], mine[1::2], strict=False):
            assert begun.state.fired_wall_ns == ended.state.fired_wall_ns <= ended.state.since_wall_ns
        state = leader.state(name)
        if len(mine) % 2:
            assert (state.state, state.told) == ("firing", True)
    keys = [transition.key for transition in leader.told]
    assert len(keys) == len(set(keys))


def _check_states(
    leader: Leader, before: Mapping[StateKey, AlertState], judged: Mapping[str, Verdict], now: int
) -> None:
    """What holds after every turn."""
    stored = list(leader.stored.values())
    paging = any(state.state == "firing" and state.severity == "page" for state in stored)
    for state in stored:
        assert state.lasted_ns(now) >= 0
        if state.state == "firing":
            assert state.told or (state.severity == "ticket" and paging)
            assert judged.get(state.name) in ("firing", "unknown")
            old = before.get(state.key)
            if old is not None and old.state == "firing":
                assert replace(state, data=old.data, told=old.told) == old
        elif state.state == "pending":
            assert judged.get(state.name) in ("firing", "unknown")
            assert state.since_wall_ns <= now
