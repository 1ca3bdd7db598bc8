"""Rules about the promise itself: target, SLA, window, slices, limits on latency, maintenance that leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from otelslo.lint.finding import ERROR, NOTE, WARNING, Finding, at
from otelslo.shorthand import parse_objective
from otelslo.slices import TIMESLICES
from otelslo.slo import SLO
from otelslo.window import MICROSECOND_NS, format_duration, format_limit, format_target, readable_duration

_TIGHT = Fraction(9999, 10_000)
_HALF = Fraction(1, 2)
_MOST_CHANGES = 200  # of maintenance, looked at


def of(slo: SLO, now_wall_ns: int | None) -> Iterator[Finding]:
    yield from _reversed(slo)
    yield from _sla(slo)
    yield from _slices(slo)
    yield from _traffic(slo)
    yield from _latency(slo)
    yield from _shorthand(slo)
    if now_wall_ns is not None:
        yield from _maintenance(slo, now_wall_ns)


def _reversed(slo: SLO) -> Iterator[Finding]:
    """Shares of failures where shares of success belong; few of those who see an offer take it."""
    if slo.target_ratio < _HALF and slo.indicator != "conversion":
        text, likely = format_target(slo.target_ratio), format_target(1 - slo.target_ratio)
        problem = f"it is met while more than half of its events fail: {text} of them good are enough"
        yield at(slo, "target")(WARNING, "reversed", problem, f"A target is the share of good events: {likely}?")
    bar = None if slo.slices is None else slo.slices.bar
    if bar is not None and bar < _HALF:
        problem = f"a slice in which more than half of the events fail is good: {format_target(bar)} are enough"
        remedy = f"slice_target is the share of good events: {format_target(1 - bar)}?"
        yield at(slo, "slice_target")(WARNING, "reversed", problem, remedy)


def _sla(slo: SLO) -> Iterator[Finding]:
    if slo.sla_ratio is None or slo.sla_ratio < slo.target_ratio:
        return
    sla, target = format_target(slo.sla_ratio), format_target(slo.target_ratio)
    found = at(slo, "sla")
    if slo.sla_ratio == slo.target_ratio:
        problem = f"the SLA promises {sla}, as much as the SLO: when the SLO is broken, so is the SLA"
        yield found(WARNING, "sla-not-looser", problem, "Make the target tighter, so that it warns before")
    else:
        problem = f"the SLA promises {sla}, more than the SLO's {target}: it is broken first"
        yield found(ERROR, "sla-not-looser", problem, "Make the target tighter than the SLA")


def _slices(slo: SLO) -> Iterator[Finding]:
    if slo.slices is None:
        return
    length_ns, shortest_ns = slo.slices.length_ns, slo.period.nominal_ns
    each, window = format_duration(length_ns), slo.period.text
    found = at(slo, "slice")
    if shortest_ns < length_ns:
        problem = f"no slice of {each} fits into the window of {window}, so nothing ever counts"
        yield found(ERROR, "window-too-short", problem, "Use shorter slices, or a longer window")
    elif not slo.period.rolling and length_ns == shortest_ns:
        problem = (
            f"no slice of {each} counts in a calendar day: they are whole days of UTC, and none has closed before the "
            "day that it began in is over"
        )
        yield found(ERROR, "window-too-short", problem, "Use shorter slices, or a longer window")
    elif shortest_ns < 2 * length_ns:
        problem = f"the window of {window} holds a whole slice of {each} only at times"
        yield found(WARNING, "window-too-short", problem, "Use shorter slices; hundreds of them make a budget")
    elif slo.slices.method == TIMESLICES:
        yield from _single_slice(slo, slo.window_ns // length_ns, each)


def _single_slice(slo: SLO, number: int, each: str) -> Iterator[Finding]:
    allowed = (1 - slo.target_ratio) * number
    if allowed < 1:
        target = format_target(slo.target_ratio)
        problem = f"one bad slice breaks it: {target} of at most {number} slices of {each} allows {float(allowed):.3g}"
        remedy = "Use shorter slices, a longer window or a lower target"
        yield at(slo, "target")(WARNING, "impossible-target", problem, remedy)


def _traffic(slo: SLO) -> Iterator[Finding]:
    """How many events a very tight target needs before its budget is one failure."""
    if slo.target_ratio <= _TIGHT or slo.slices is not None:
        return
    events = -(-1 // (1 - slo.target_ratio))
    apart = readable_duration(slo.window_ns // events)
    problem = (
        f"{format_target(slo.target_ratio)} allows a first failure from {events:,} valid events in the window on: "
        f"one every {apart}"
    )
    yield at(slo, "target")(NOTE, "least-traffic", problem, "With fewer, a single failure breaks it")


def _latency(slo: SLO) -> Iterator[Finding]:
    threshold_ns, cancel_after_ns = slo.threshold_ns, slo.option("cancel_after")
    if threshold_ns is None:
        return
    limit = format_duration(threshold_ns)
    path = "threshold" if slo.objective is None else "objective"
    if threshold_ns < MICROSECOND_NS:
        problem = f"nothing that is measured here is done within {limit}"
        yield at(slo, path)(WARNING, "impossible-target", problem, "Is a unit missing? 200ms is usual")
    if cancel_after_ns is not None and threshold_ns > cancel_after_ns:
        after = format_duration(cancel_after_ns)
        problem = f"who waits {after} and leaves was let down, but an answer after {limit} is still in time"
        yield at(slo, path)(WARNING, "reversed", problem, f"Make cancel_after {limit} or more")


def _shorthand(slo: SLO) -> Iterator[Finding]:
    """How `objective` is read, of the two ways to read it."""
    if slo.objective is None:
        return
    meant = parse_objective(slo.objective)
    within, target = format_limit(meant.threshold_ns), format_target(meant.target)
    how = f"read as: {target} of all valid events of the window {within}"
    otherwise = (
        "For the percentile of each slice of time leave objective out, and write "
        f"{{indicator: {slo.indicator}, threshold: {format_duration(meant.limit_ns)}, budgeting: timeslices, "
        f'slice_target: "{target}"}} with a target for the slices'
    )
    if slo.slices is not None:
        how = f"read as: an event is good {within}, and {target} of all slices are good"
        bar = slo.slices.method == TIMESLICES
        otherwise = "Which slices are good, slice_target and slice_count say" if bar else "A slice counts by its ratio"
    yield at(slo, "objective")(NOTE, "shorthand", how, otherwise)


def _maintenance(slo: SLO, now_wall_ns: int) -> Iterator[Finding]:
    """Windows that leave nothing of the objective's own; those of the first few years are looked at."""
    planned, window_ns = slo.planned, slo.period.nominal_ns
    since_ns, active = now_wall_ns, planned.active(now_wall_ns)
    for _ in range(_MOST_CHANGES):
        change_ns = planned.next_change(since_ns)
        if active and change_ns is None:
            problem = "it is always in maintenance: no event counts any more"
            yield at(slo, "maintenance")(ERROR, "always-maintained", problem, "Shorten its windows, or say until when")
        elif active and change_ns is not None and change_ns - since_ns >= window_ns:
            length, window = readable_duration(change_ns - since_ns), slo.period.text
            problem = f"it is in maintenance for {length} on end: of its window of {window} nothing is left to count"
            remedy = "Shorten it, unless the service is gone for so long"
            yield at(slo, "maintenance")(WARNING, "always-maintained", problem, remedy)
        if change_ns is None or (active and change_ns - since_ns >= window_ns):
            return
        since_ns, active = change_ns, not active
