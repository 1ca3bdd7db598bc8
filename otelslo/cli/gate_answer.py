"""What the gate answers, from one look at a state directory: each objective by its policy, and whether it is fresh."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from otelslo.cli.state import View
from otelslo.definition import UNKNOWN, Definition
from otelslo.explain import together
from otelslo.limit import Limit
from otelslo.limits import NO_DATA as NOTHING_SEEN
from otelslo.limits import LimitStatus
from otelslo.policy import NO_DATA, Verdict, verdict
from otelslo.status import Status, iso, ratio_number
from otelslo.window import SECOND_NS, readable_duration

GO, NO_GO, NOT_KNOWN = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Line:
    """One objective, or group of it, or a limit. A group without events `decides` nothing while others of its objective
    have some.

    `status` is None where there is nothing at all of it, and of a limit.
    """

    definition: Definition | Limit
    group: str | None
    verdict: Verdict
    status: Status | None = None
    decides: bool = True

    @property
    def denied(self) -> bool:
        return self.decides and not self.verdict.allowed

    @property
    def title(self) -> str:
        return self.definition.name if self.group is None else f"{self.definition.name} [{self.group}]"

    def to_json(self) -> dict[str, Any]:
        """`remaining_ratio` is what the verdict goes by; the budgets are as in `Status.to_json`, on both bases."""
        told = {} if self.status is None else self.status.to_json()
        ratio = None if self.status is None else self.status.full_budget.remaining_ratio
        return {
            "slo": self.definition.name,
            "group": self.group,
            "decides": self.decides,
            **self.verdict.to_json(),
            "remaining_ratio": None if ratio is None else ratio_number(ratio, ratio),
            "budget": told.get("budget"),
            "budget_projected": told.get("budget_projected"),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """All lines. `problem` says why what they rest on cannot be trusted now, "" if it can."""

    lines: tuple[Line, ...] = ()
    problem: str = ""
    allow_no_data: bool = False

    @property
    def exit_code(self) -> int:
        """0 go, 1 no-go, 3 not known. With `allow_no_data` only what is known can say no."""
        denied = [line for line in self.lines if line.denied]
        if not self.allow_no_data and (self.problem or not self.lines):
            return NOT_KNOWN
        if any(line.verdict.data for line in denied):
            return NO_GO
        return NOT_KNOWN if denied and not self.allow_no_data else GO

    @property
    def because(self) -> str:
        """Why it is so, in one line."""
        if self.exit_code == NOT_KNOWN and (self.problem or not self.lines):
            return f"no data: {self.problem or 'there is no objective'}"
        if self.exit_code == GO:
            return "nothing speaks against it"
        named = ", ".join(f"{line.title} ({line.verdict.step})" for line in self.stopping)
        return f"{len(self.stopping)} of {sum(line.decides for line in self.lines)} say no: {named}"

    @property
    def stopping(self) -> list[Line]:
        """The lines that it is not a go for; all, if none of them can be trusted."""
        if self.exit_code == GO:
            return []
        if self.problem and not self.allow_no_data:
            return [line for line in self.lines if line.decides]
        return [line for line in self.lines if line.denied and (line.verdict.data or not self.allow_no_data)]

    @property
    def let_through(self) -> list[str]:
        """What is not known, and stops nothing since `allow_no_data`."""
        if not self.allow_no_data or self.exit_code != GO:
            return []
        silent = [f"no data of {line.title}" for line in self.lines if line.denied]
        return ([self.problem] if self.problem else []) + silent


def answer(
    view: View, names: Collection[str], group: str | None, max_age_ns: int, now_wall_ns: int, allow_no_data: bool
) -> Answer:
    """Of the objectives and limits called `names`, or of all. A `group` is asked for of those that are named, or else
    of those that have such groups; the others are asked as a whole.

    `now_wall_ns` is the wall clock's time, Unix ns.
    """
    definitions = [one for one in view.definitions if not names or one.name in names]
    found = view.statuses(definitions)
    lines: list[Line] = []
    for one in definitions:
        asked = group if names or has_such_groups(one, group) else None
        lines += _lines(one, [status for status in found if status.slo == one.name], asked)
    lines += [_limit_line(one) for one in view.limit_statuses() if not names or one.name in names]
    return Answer(tuple(lines), view.unread or _stale(view, max_age_ns, now_wall_ns), allow_no_data)


def has_such_groups(definition: Definition, group: str | None) -> bool:
    """Whether the objective is grouped by the very keys that the group names."""
    keys = [part.partition("=")[0] for part in (group or "").split(",")]
    return bool(definition.group_by) and keys == list(definition.group_by)


def _lines(definition: Definition, statuses: Sequence[Status], group: str | None) -> list[Line]:
    if group is not None:
        statuses = [status for status in statuses if status.group == group]
    elif definition.group_by and statuses:
        statuses = [_together(statuses), *(status for status in statuses if status.group != UNKNOWN)]
    if not statuses:
        nothing = "there is no such group" if group is not None else "nothing was ever seen of it"
        return [Line(definition, group, Verdict(NO_DATA, False, f"No data: {nothing}.", nothing, data=False))]
    judged = [Line(definition, one.group, verdict(definition.policy, one), one) for one in statuses]
    some = any(line.verdict.data for line in judged)
    return [replace(line, decides=line.verdict.data or not some) for line in judged]


def _limit_line(one: LimitStatus) -> Line:
    if one.state == NOTHING_SEEN:
        nothing = "never observed" if one.at_wall_ns is None else f"not observed since {iso(one.at_wall_ns)}"
        return Line(one.limit, None, Verdict(NO_DATA, False, f"No data: {nothing}.", nothing, data=False))
    because = f"{one.text}, {one.state} since {iso(one.since_wall_ns)}"
    message = "" if one.met else "A limit is exceeded: what brings it back goes out, nothing else."
    return Line(one.limit, None, Verdict(one.state, one.met is True, message, because))


def _together(statuses: Sequence[Status]) -> Status:
    """All groups as one. What happened before a group was known, crashes above all, can be judged only so: in the
    group `(unknown)` there may be nothing but failures. Burn rates are each group's own."""
    alerts = tuple(alert for status in statuses if status.group == UNKNOWN for alert in status.alerts)
    return replace(together(statuses), group=None, burn={}, alerts=alerts)


def _stale(view: View, max_age_ns: int, now_wall_ns: int) -> str:
    """Why the state is not of now: nobody keeps it."""
    reader = view.reader
    if reader is None:
        return _too_old("the last commit", now_wall_ns - view.now_wall_ns, max_age_ns)
    committed_ns = view.committed_ago_ns()
    if committed_ns is None or reader.leader_heartbeat_ns == 0:
        return "nothing was committed yet: is a worker or an agent running?"
    beat_ns = view.now_ns - reader.leader_heartbeat_ns
    return _too_old("the last commit", committed_ns, max_age_ns) or _too_old("the heartbeat", beat_ns, max_age_ns)


def _too_old(what: str, age_ns: int, max_age_ns: int) -> str:
    if age_ns <= max_age_ns:
        return ""
    return f"{what} is {_whole(age_ns)} old, more than {_whole(max_age_ns)}: is a worker or an agent running?"


def _whole(duration_ns: int) -> str:
    return readable_duration(duration_ns // SECOND_NS * SECOND_NS or duration_ns)
