"""The state machine of alerts: from what counts say to what people are told, and when it is over.

`step` takes the stored states of one objective and group to the next ones. It is pure: decided twice from the same
stored states at the same moment, the answer and the keys of its transitions are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from otelslo.alerting import Finding
from otelslo.alerts import PAGE
from otelslo.errors import StateError, shown
from otelslo.window import DAY_NS

Event = Literal["firing", "resolved"]
StateKey = tuple[str, str | None, str]  # objective, group, alert

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"
SHOWN_AFTER_NS = DAY_NS


@dataclass(frozen=True, slots=True)
class AlertState:
    """One alert as it is stored. Times are unix nanoseconds.

    `since_wall_ns` is when `state` began, `fired_wall_ns` when it last fired (None: never), which tells one firing from
    the next. `told` is whether people were told of that firing. `severity` is the one that it fired with; `labels` and
    `channels` are what it was told by, since only the same labels end it there.
    """

    slo: str
    group: str | None
    name: str
    severity: str
    state: str
    since_wall_ns: int
    fired_wall_ns: int | None = None
    told: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()

    @property
    def key(self) -> StateKey:
        return self.slo, self.group, self.name

    def lasted_ns(self, now_wall_ns: int) -> int:
        """For how long it has been so; 0 if the wall clock was set back to before it began."""
        return max(now_wall_ns - self.since_wall_ns, 0)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back."""
        names = ("slo", "group", "name", "severity", "state", "since_wall_ns", "fired_wall_ns", "told")
        rest = {"data": dict(self.data), "labels": dict(self.labels), "channels": list(self.channels)}
        return {name: getattr(self, name) for name in names} | rest

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AlertState:
        """What `to_json` wrote; unknown keys are left alone. StateError if it is damaged."""
        try:
            group, state, fired = data["group"], str(data["state"]), data["fired_wall_ns"]
            if state not in (PENDING, FIRING, RESOLVED) or (state != PENDING and fired is None):
                raise ValueError(f"state {state}, fired at {fired}")
            return cls(
                slo=str(data["slo"]),
                group=None if group is None else str(group),
                name=str(data["name"]),
                severity=str(data["severity"]),
                state=state,
                since_wall_ns=int(data["since_wall_ns"]),
                fired_wall_ns=None if fired is None else int(fired),
                told=bool(data["told"]),
                data=dict(data["data"]),
                labels={str(name): str(text) for name, text in dict(data.get("labels") or {}).items()},
                channels=tuple(str(name) for name in data.get("channels") or ()),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as damage:
            raise StateError(
                f"a saved alert cannot be read ({type(damage).__name__}: {shown(str(damage))})"
            ) from damage


@dataclass(frozen=True, slots=True)
class Transition:
    """What people are to be told; `key` (32 hexadecimal digits) is the same however often it is decided or sent."""

    state: AlertState
    event: Event
    key: str


def transition_key(slo: str, group: str | None, alert: str, fired_wall_ns: int, event: str) -> str:
    """The idempotency key of one event of one firing."""
    text = json.dumps([slo, group, alert, fired_wall_ns, event], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def by_objective(states: Iterable[AlertState]) -> dict[tuple[str, str | None], dict[StateKey, AlertState]]:
    """States by objective and group, each of which is what `step` and `firing_names` ask for."""
    found: dict[tuple[str, str | None], dict[StateKey, AlertState]] = {}
    for state in states:
        found.setdefault((state.slo, state.group), {})[state.key] = state
    return found


def firing_names(before: Mapping[StateKey, AlertState], slo: str, group: str | None) -> frozenset[str]:
    """The alerts of one objective and group that fire, for `findings`."""
    return frozenset(state.name for state in _of(before, slo, group).values() if state.state == FIRING)


def step(
    before: Mapping[StateKey, AlertState],
    slo: str,
    group: str | None,
    findings: Iterable[Finding],
    delays_ns: Mapping[str, int],
    now_wall_ns: int,
) -> tuple[list[AlertState], list[Transition]]:
    """The next states of one objective and group, and what people are to be told. An alert that is named in `delays_ns`
    has to be found for so long before it fires.

    `before` are the stored states (those of others are left alone); one that is not among the returned is to be
    forgotten. An alert without a finding is no longer in the plan: it resolves. A resolved one is kept for a day. While
    a page fires, tickets are not told; what still fires afterwards is told then, what was never told resolves silently.
    """
    own = _of(before, slo, group)
    judged = {finding.alert: finding for finding in findings}
    for name in sorted(own.keys() - judged.keys()):
        judged[name] = Finding(name, own[name].severity, "quiet", own[name].data)
    moved = [
        _next(own.get(name) or _new(slo, group, finding), finding, delays_ns.get(name, 0), now_wall_ns)
        for name, finding in judged.items()
        if name in own or finding.verdict == "firing"
    ]
    kept = [state for state in moved if state is not None]
    paging = any(state.state == FIRING and state.severity == PAGE for state in kept)
    states: list[AlertState] = []
    transitions: list[Transition] = []
    for state in kept:
        event: Event | None = None
        if state.state == FIRING and not state.told and (state.severity == PAGE or not paging):
            state, event = replace(state, told=True), "firing"
        elif state.state == RESOLVED and state.told and state.name in own and own[state.name].state == FIRING:
            event = "resolved"
        states.append(state)
        if event is not None:
            key = transition_key(slo, group, state.name, state.fired_wall_ns or 0, event)
            transitions.append(Transition(state, event, key))
    return states, transitions


def _of(before: Mapping[StateKey, AlertState], slo: str, group: str | None) -> dict[str, AlertState]:
    return {name: state for (of, part, name), state in before.items() if of == slo and part == group}


def _new(slo: str, group: str | None, finding: Finding) -> AlertState:
    """What has never fired: long since resolved."""
    return AlertState(slo, group, finding.alert, finding.severity, RESOLVED, -(2**63))


def _next(state: AlertState, finding: Finding, for_ns: int, now_ns: int) -> AlertState | None:
    """The next state before anyone is told; None to forget it. A clock set back lengthens a wait, never shortens it."""
    if finding.verdict != "unknown" and state.state != RESOLVED:
        state = replace(state, data=finding.data)
    if finding.verdict == "firing" and state.state == RESOLVED:
        return _fire(state, finding, now_ns) if for_ns == 0 else _begin(state, finding, PENDING, now_ns)
    if state.state == PENDING:
        if finding.verdict == "quiet":
            return _begin(state, finding, RESOLVED, now_ns) if state.fired_wall_ns is not None else None
        if finding.verdict == "firing" and now_ns - state.since_wall_ns >= for_ns:
            return _fire(state, finding, now_ns)
        return replace(state, since_wall_ns=min(state.since_wall_ns, now_ns))
    if state.state == FIRING:
        if finding.verdict != "quiet":
            return state
        return replace(state, state=RESOLVED, since_wall_ns=max(now_ns, state.fired_wall_ns or now_ns))
    return state if abs(now_ns - state.since_wall_ns) < SHOWN_AFTER_NS else None


def _begin(state: AlertState, finding: Finding, name: str, now_ns: int) -> AlertState:
    return replace(state, state=name, severity=finding.severity, since_wall_ns=now_ns, data=finding.data)


def _fire(state: AlertState, finding: Finding, now_ns: int) -> AlertState:
    """A new firing, which is never dated at or before the last one, whatever the wall clock did."""
    fired_ns = now_ns if state.fired_wall_ns is None else max(now_ns, state.fired_wall_ns + 1)
    return replace(
        state,
        state=FIRING,
        severity=finding.severity,
        since_wall_ns=fired_ns,
        fired_wall_ns=fired_ns,
        told=False,
        data=finding.data,
        labels={},
        channels=(),
    )
