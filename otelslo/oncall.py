"""What the leader remembers of alerts from turn to turn, and what it decides to tell.

A turn is decided from one snapshot and committed with it: states and notices are in the database before anybody is
told, so that whoever leads next goes on from there and a notice sent twice has the same key.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from otelslo.alert_states import FIRING, AlertState, StateKey, Transition, by_objective, firing_names, step
from otelslo.alerting import findings
from otelslo.alerts import PAGE
from otelslo.announcement import announce_limit, announce_removal, headline, limit_headline
from otelslo.errors import StateError
from otelslo.evaluate import Judged
from otelslo.exporters.sqlite_notes import AlertKey, Told
from otelslo.limits import DELAYS_NS as LIMIT_DELAYS_NS
from otelslo.limits import LimitStatus
from otelslo.limits import findings as findings_of
from otelslo.notes import SNAP_NS, Alerts
from otelslo.notice import Notice
from otelslo.snapshot import Loss
from otelslo.status import iso

log = logging.getLogger("otelslo")

EVERY_NS = 10 * 10**9
CRASHED = "crashed"
Excess = Callable[[Judged, int], int]  # an objective and group, the length of the window
Tell = Callable[[Judged, Transition], Notice]
Maintained = Callable[[str, int, int], bool]  # an objective; from when until when, Unix ns
Of = tuple[str, str | None]
States = Mapping[Of, Mapping[StateKey, AlertState]]


def unmaintained(slo: str, start_wall_ns: int, end_wall_ns: int) -> bool:
    """There is no maintenance."""
    return False


@dataclass(frozen=True, slots=True)
class Turn:
    """What was decided: every state as it is from now on, and what is to be committed of it."""

    states: States
    told: Told

    @property
    def news(self) -> bool:
        """Whether anybody is to be told anything."""
        return bool(self.told.parcels)


class OnCall:
    """The alerts of one leader.

    Args:
        stored: states by key as the database has them; what cannot be read begins anew.
        channels: the names of all channels; an objective may name some of them.
        fault: counts a fault of ours (reason, detail): one objective cannot be decided, and stays as it was.
    """

    def __init__(
        self,
        stored: Mapping[AlertKey, Mapping[str, object]],
        channels: Sequence[str],
        fault: Callable[[str, str], None] = lambda reason, detail: None,
    ) -> None:
        self._channels = tuple(channels)
        self._fault = fault
        self._states: States = restored(stored)
        self._next_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        """Whether it is time for a turn (ring time): they come at most every 10 s."""
        return self._next_ns is None or now_ns >= self._next_ns

    def decide(
        self,
        judged: Iterable[Judged],
        now_wall_ns: int,
        excess: Excess,
        tell: Tell,
        limits: Iterable[LimitStatus] = (),
        defined: Collection[str] = (),
        between: Callable[[], None] = partial(time.sleep, 0),  # noqa: B008
        maintained: Maintained = unmaintained,
    ) -> Turn:
        """The next turn; nothing is remembered until it is `committed`. `defined` are objectives that there are, also
        where nothing of them has been counted yet; `between` is called before each, by default for the app's threads.
        `maintained` is whether maintenance that was declared ahead lies in a span.
        """
        draft = _Draft()
        for one in {(one.definition.name, one.status.group): one for one in judged}.values():
            between()
            of = (one.definition.name, one.status.group)
            self._enter(
                draft,
                of,
                partial(_stepped, one, now_wall_ns=now_wall_ns, excess=excess, maintained=maintained),
                partial(headline, one),
                partial(tell, one),
                self._told(one.definition.notify),
            )
        for status in limits:
            of = (status.name, None)
            self._enter(
                draft,
                of,
                partial(_limit_stepped, status, now_wall_ns=now_wall_ns),
                partial(limit_headline, status),
                partial(announce_limit, status),
                self._told(status.limit.notify),
            )
        self._keep_unseen(draft, now_wall_ns, {slo for slo, _ in draft.states}.union(defined))
        return draft.turn()

    def _enter(
        self,
        draft: _Draft,
        of: Of,
        stepped: Callable[[Mapping[StateKey, AlertState]], tuple[list[AlertState], list[Transition]]],
        headline_of: Callable[[AlertState], str],
        tell: Callable[[Transition], Notice],
        channels: tuple[str, ...],
    ) -> None:
        """One objective and group, or as it was before: that it cannot be decided is no reason to leave out others."""
        before = self._states.get(of, {})
        try:
            after, transitions = stepped(before)
            posts = [(transition, tell(transition)) for transition in transitions]
            told = {
                transition.state.key: replace(transition.state, labels=notice.labels, channels=channels)
                for transition, notice in posts
                if transition.event == "firing"
            }
            after = [told.get(state.key, state) for state in after]
            draft.enter(of, before, after, headline_of)
        except Exception as e:
            self._fault("internal", f"alerts of {of[0]!r} are not decided: {type(e).__name__}: {e}")
            draft.states[of] = before
            return
        for transition, notice in posts:
            draft.post(*self._addressed(transition, notice, channels))

    def _addressed(
        self, transition: Transition, notice: Notice, channels: tuple[str, ...]
    ) -> tuple[Notice, tuple[str, ...]]:
        """An end goes to who was told of the beginning, with the same labels, whatever was changed meanwhile."""
        if transition.event == "firing":
            return notice, channels
        state = transition.state
        there = tuple(name for name in state.channels if name in self._channels)
        return replace(notice, labels=state.labels or notice.labels), there or channels

    def _keep_unseen(self, draft: _Draft, now_wall_ns: int, known: Collection[str]) -> None:
        for of in self._states.keys() - draft.states.keys():
            before = self._states[of]
            if of[0] in known:  # a group that is not seen just now
                draft.states[of] = before
                continue
            # The objective is gone, and its alerts with it: whoever was told of one is told its end.
            draft.changes |= dict.fromkeys(before)
            for transition in step(before, *of, (), {}, now_wall_ns)[1]:
                notice = announce_removal(transition, now_wall_ns)
                draft.journal.append(notice.title)
                draft.post(*self._addressed(transition, notice, self._channels))

    def committed(self, turn: Turn, now_ns: int) -> None:
        """Go on from this turn, decided at `now_ns` (ring time)."""
        self._states = turn.states
        self._next_ns = now_ns // EVERY_NS * EVERY_NS + EVERY_NS

    @property
    def states(self) -> States:
        """As of the last turn that was committed."""
        return self._states

    def _told(self, notify: Sequence[str] | None) -> tuple[str, ...]:
        """Those of an objective's channels that there are, by default all."""
        return self._channels if notify is None else tuple(name for name in notify if name in self._channels)


class _Draft:
    """A turn in the making."""

    def __init__(self) -> None:
        self.states: dict[Of, Mapping[StateKey, AlertState]] = {}
        self.changes: dict[AlertKey, Mapping[str, object] | None] = {}
        self.journal: list[str] = []
        self._parcels: list[tuple[str, str, str]] = []

    def enter(
        self,
        of: Of,
        before: Mapping[StateKey, AlertState],
        after: Iterable[AlertState],
        headline_of: Callable[[AlertState], str],
    ) -> None:
        found = self.states[of] = {state.key: state for state in after}
        self.changes |= _changes(before, found)
        self.journal += [headline_of(state) for state in found.values() if _turned(state, before.get(state.key))]

    def post(self, notice: Notice, channels: Iterable[str]) -> None:
        payload = json.dumps(notice.to_json())
        self._parcels += [(notice.key, channel, payload) for channel in channels]

    def turn(self) -> Turn:
        return Turn(self.states, Told(self.changes, tuple(self._parcels), tuple(self.journal)))


def _limit_stepped(
    status: LimitStatus, before: Mapping[StateKey, AlertState], now_wall_ns: int
) -> tuple[list[AlertState], list[Transition]]:
    return step(before, status.name, None, findings_of(status), LIMIT_DELAYS_NS, now_wall_ns)


def _stepped(
    one: Judged, before: Mapping[StateKey, AlertState], now_wall_ns: int, excess: Excess, maintained: Maintained
) -> tuple[list[AlertState], list[Transition]]:
    definition, status = one.definition, one.status
    wall_offset_ns = status.now_ns - one.now_ns
    found = findings(
        definition.alerts,
        status.target,
        status.window_ns,
        one.tally.over,
        (lambda length_ns: excess(one, length_ns)) if definition.slices is None else lambda length_ns: 0,
        remaining_ratio=status.full_budget.remaining_ratio,
        observed_ns=0 if status.observed_since_ns is None else status.now_ns - status.observed_since_ns,
        ever_valid=one.tally.total.valid > 0,
        firing=firing_names(before, definition.name, status.group),
        events_over=one.tally.events_over,
        parts=1 if definition.slices is None else definition.slices.parts,
        maintained=lambda length_ns: maintained(
            definition.name, _since_ns(one, length_ns) + wall_offset_ns, status.now_ns + 1
        ),
        cut=lambda length_ns: one.tally.is_cut(_since_ns(one, length_ns)),
    )
    delays_ns = {tier.name: tier.for_ns for tier in definition.alerts.tiers if tier.for_ns}
    return step(before, definition.name, status.group, found, delays_ns, now_wall_ns)


def _since_ns(one: Judged, length_ns: int) -> int:
    """Where the counts of its last `length_ns` begin (ring time): with a whole slot, and the widest are as long."""
    return (one.now_ns - length_ns) // SNAP_NS * SNAP_NS


def _turned(after: AlertState, before: AlertState | None) -> bool:
    """Whether it has begun or ceased to fire."""
    return (after.state == FIRING) != (before is not None and before.state == FIRING)


def _changes(
    before: Mapping[StateKey, AlertState], after: Mapping[StateKey, AlertState]
) -> dict[AlertKey, Mapping[str, object] | None]:
    changed: dict[AlertKey, Mapping[str, object] | None] = {
        key: state.to_json() for key, state in after.items() if before.get(key) != state
    }
    return changed | dict.fromkeys(before.keys() - after.keys())


def _readable(stored: Mapping[AlertKey, Mapping[str, object]]) -> Iterable[AlertState]:
    for data in stored.values():
        try:
            yield AlertState.from_json(data)
        except StateError as e:
            log.warning("%s; it begins anew", e)


def shared(losses: Iterable[Loss]) -> int:
    """The sum of n * (n - 1) over the crashes, traces and batches that n of these bad events share: 0 if each has its
    own. A call that answered a batch has logged the other items together, with its time, and itself apart."""
    sizes: Counter[tuple[str, str]] = Counter()
    losses = list(losses)
    for loss in losses:
        if loss.reason == CRASHED:
            sizes[CRASHED, f"{loss.worker} {loss.at_ns // EVERY_NS}"] += loss.count
        elif loss.trace_id:
            sizes["trace", loss.trace_id] += loss.count
    batches = [loss.count + 1 for loss in losses if loss.count > 1 and loss.latency_ns and loss.reason != CRASHED]
    return sum(size * (size - 1) for size in [*sizes.values(), *batches])


def restored(stored: Mapping[AlertKey, Mapping[str, object]]) -> States:
    """States as the database has them; what cannot be read is left out."""
    return by_objective(_readable(stored))


def shown(states: States) -> Alerts:
    """States as a status shows them, by objective and group."""
    found: dict[Of, list[dict[str, object]]] = {}
    for of, alerts in states.items():
        paging = any(state.state == FIRING and state.severity == PAGE for state in alerts.values())
        found[of] = [_shown(state, paging) for state in alerts.values()]
    return found


def _shown(state: AlertState, paging: bool) -> dict[str, object]:
    return {
        "name": state.name,
        "severity": state.severity,
        "state": state.state,
        "since": iso(state.since_wall_ns),
        "inhibited": paging and state.severity != PAGE and state.state == FIRING,
        "data": dict(state.data),
    }
