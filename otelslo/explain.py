"""What burned a budget: the counts of a span in the language of budgets, and who had which share of its failures.

For `otelslo explain` and for the text of every alert. Counts are exact. Shares come from the loss log, which is
bounded, and are exact where it holds as many failures as were counted; otherwise they say of how many they speak.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from otelslo.budget import Budget, budget, budget_of, exhausts_in_ns
from otelslo.burn import burn_rate
from otelslo.counts import Counts
from otelslo.errors import BadValue, nearest, shown
from otelslo.explanation import Breakdown, Explanation, Share, printable
from otelslo.loss_class import OTHER, by_class, class_of
from otelslo.rowkey import RowKey
from otelslo.snapshot import SavedLoss
from otelslo.status import Status
from otelslo.window import DAY_NS, HOUR_NS, SECOND_NS, readable_duration

__all__ = ["DIMENSIONS", "EACH", "Breakdown", "Explanation", "Share", "explain", "explain_text", "together"]

DIMENSIONS = ("reason", "class", "route", "status", "exception", "group", "version")
EACH: tuple[tuple[str, ...], ...] = tuple((name,) for name in DIMENSIONS)
_MOST_TRACES = 3
_MOST_SHARES = 4
_HOURS_UNTIL_NS = 3 * DAY_NS  # "46 h left" says more than "1 d 22 h left"


def explain(
    status: Status,
    counts: Counts,
    span_ns: int,
    losses: Iterable[SavedLoss],
    by: Sequence[tuple[str, ...]] | None = None,
    *,
    events: Counts | None = None,
    reasons: Mapping[str, int] | None = None,
    bad_by_group: Mapping[str | None, int] | None = None,
    excluded_since: Counts = Counts(),  # noqa: B008
    planned_bad: int = 0,
    loss_classes: Mapping[str, str] | None = None,
) -> Explanation:
    """Explain the last `span_ns` before `status.now_ns`.

    Args:
        status: the objective's own window, which has the budget.
        counts: of the span, in the objective's unit.
        losses: those of the objective and group (or groups) in the span, without the ones excluded since.
        by: one breakdown for each; those of several dimensions are by all of them together. By default each of
            DIMENSIONS by itself, without the group where `status` is of one, and the class where it says no more than
            the reason.
        events: of the span, where slices are the unit; by default `counts`.
        reasons: bad events by reason since the row's birth.
        bad_by_group: bad events of the span by group, where `status` is of several groups.
        excluded_since, planned_bad: of the span, as a Status has them of its window (`planned_bad` in its unit).
        loss_classes: the class of each of the objective's bad reasons, as its Definition has them.
    """
    classes = loss_classes or {}
    chosen = by is not None
    events = counts if events is None else events
    reasons = dict(reasons or {})
    if by is None:
        by = [one for one in EACH if status.group is None or one != ("group",)]
    listed = sorted(losses, key=lambda one: -one.wall_ns)
    seen_ns = _seen_ns(status, span_ns)
    full = status.full_budget
    known = _known(events.bad, reasons, bad_by_group, classes)
    breakdowns = tuple(_breakdown(one, listed, events.bad, known.get(one), classes, chosen) for one in by)
    return Explanation(
        status=status,
        span_ns=span_ns,
        seen_ns=seen_ns,
        counts=counts,
        events=events,
        burn=burn_rate(counts, status.target),
        spent=counts.bad / full.allowed if full.allowed else None,
        spent_so_far=_spent_so_far(status),
        left_ns=_left_ns(status, full, counts, seen_ns),
        logged=sum(one.loss.count for one in listed),
        breakdowns=breakdowns if chosen else _without_echo(breakdowns),
        since_birth=tuple(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        excluded_since=excluded_since,
        planned_bad=planned_bad,
    )


def together(statuses: Sequence[Status]) -> Status:
    """One status of several groups of one objective and window, as if they were one; burn rates are left out.

    Each group has a budget of its own; this is what they were allowed, and spent, in sum.
    """
    first = statuses[0]
    if len(statuses) == 1:
        return first
    counts = sum((one.counts for one in statuses), Counts())
    reasons: Counter[str] = Counter()
    for one in statuses:
        reasons.update(one.reasons_total)
    projected = None
    if any(one.projected is not None for one in statuses):
        allowed = sum((one.projected or one.budget).allowed for one in statuses)
        valid = allowed / (1 - first.target)
        projected = budget_of(Fraction(valid), counts.bad, first.target, first.window_ns)
    return replace(
        first,
        group=None,
        counts=counts,
        budget=budget(counts, first.target, first.window_ns),
        projected=projected,
        observed_since_ns=min((one.observed_since_ns for one in statuses if one.observed_since_ns), default=None),
        born_ns=min((one.born_ns for one in statuses if one.born_ns), default=None),
        whole=all(one.whole for one in statuses),
        burn={},
        exhausts_at_ns=None,
        reasons_total=dict(reasons),
        excluded_since=sum((one.excluded_since for one in statuses), Counts()),
        planned_bad=sum(one.planned_bad for one in statuses),
        empty_slices=sum(one.empty_slices for one in statuses),
        unattended_slices=None
        if first.unattended_slices is None
        else sum(one.unattended_slices or 0 for one in statuses),
        sla_budget=None if first.sla is None else budget(counts, first.sla, first.window_ns),
    )


def parse_dimensions(text: str) -> tuple[str, ...]:
    """The dimensions of "route,exception"; BadValue for one that there is not, twice the same, or none."""
    found = tuple(part.strip() for part in text.split(","))
    for name in found:
        if name not in DIMENSIONS:
            raise BadValue(f"{shown(name)} is no dimension of a failure", nearest(name, DIMENSIONS))
    if len(set(found)) < len(found):
        raise BadValue(f"{shown(text)} names one twice", "Name each once")
    return found


def _known(
    bad: int,
    reasons: Mapping[str, int],
    bad_by_group: Mapping[str | None, int] | None,
    classes: Mapping[str, str],
) -> dict[tuple[str, ...], Mapping[str, int]]:
    """What the rows tell without the loss log: groups, and where all failures ever are those of the span reasons, with
    the classes that follow from them alone."""
    known: dict[tuple[str, ...], Mapping[str, int]] = {}
    if reasons and sum(reasons.values()) == bad:
        known[("reason",)] = reasons
        counts = by_class(reasons, classes)
        if counts is not None:
            known[("class",)] = counts
    if bad_by_group is not None:
        known[("group",)] = {group or "": count for group, count in bad_by_group.items() if count}
    return known


def _left_ns(status: Status, full: Budget, counts: Counts, seen_ns: int) -> int | None:
    left_ns = exhausts_in_ns(full, counts, seen_ns, status.target) if seen_ns else None
    ends_first = left_ns is not None and status.end_ns is not None and left_ns > status.end_ns - status.now_ns
    return None if ends_first else left_ns


def _spent_so_far(status: Status) -> Fraction | None:
    """Of the budget that the window's traffic so far allows; None where the window has been observed whole."""
    if status.projected is None or not status.budget.allowed:
        return None
    return status.budget.spent / status.budget.allowed


def _seen_ns(status: Status, span_ns: int) -> int:
    if status.observed_since_ns is None:
        return 0
    return min(span_ns, max(0, status.now_ns - status.observed_since_ns))


def _breakdown(
    by: tuple[str, ...],
    losses: Sequence[SavedLoss],
    bad: int,
    known: Mapping[str, int] | None,
    classes: Mapping[str, str],
    asked: bool,
) -> Breakdown:
    """By the loss log; `known` are the exact counts of a single dimension, where the rows themselves tell."""
    counts: Counter[tuple[str, ...]] = Counter()
    traces: dict[tuple[str, ...], list[str]] = defaultdict(list)
    groups: dict[str | None, str] = {}
    for one in losses:
        values = tuple(_value(name, one, groups, classes) for name in by)
        counts[values] += one.loss.count
        newest = traces[values]
        if one.loss.trace_id and len(newest) < _MOST_TRACES and one.loss.trace_id not in newest:
            newest.append(one.loss.trace_id)
    if known is not None:
        counts = Counter({(name,): count for name, count in known.items()})
    told = sum(counts.values())
    untold = sum(one.loss.count for one in losses if _classless(one, classes)) if "class" in by and known is None else 0
    exact = told == bad and not untold
    order = sorted(counts, key=lambda values: (-counts[values], values))
    shares = (Share(v, counts[v], Fraction(counts[v], told), tuple(traces[v]), exact) for v in order if counts[v])
    return Breakdown(by, tuple(shares), told, exact, asked, untold)


def _classless(one: SavedLoss, classes: Mapping[str, str]) -> bool:
    """Whether a loss was counted in the cell of all that have none, and nothing else says what it was."""
    return one.loss.reason == OTHER and class_of(one.loss.reason, one.loss.exception, classes) == OTHER


def _without_echo(breakdowns: tuple[Breakdown, ...]) -> tuple[Breakdown, ...]:
    """Classes that say nothing beside the reasons are not told unless they are asked for."""
    told = {one.by: {share.values for share in one.shares} for one in breakdowns}
    classes = told.get(("class",), set())
    if classes in (told.get(("reason",)), {("error",)}, {("other",)}):
        return tuple(one for one in breakdowns if one.by != ("class",))
    return breakdowns


def _value(dimension: str, one: SavedLoss, groups: dict[str | None, str], classes: Mapping[str, str]) -> str:
    if dimension == "group":
        if one.row_key not in groups:
            groups[one.row_key] = (RowKey.parse(one.row_key).group or "") if one.row_key else ""
        return groups[one.row_key]
    if dimension == "class":
        return class_of(one.loss.reason, one.loss.exception, classes)
    if dimension == "status":
        return str(one.loss.status) if one.loss.status else ""
    return str(getattr(one.loss, dimension))


# ── in words ──
def explain_text(explanation: Explanation) -> list[str]:
    """A few lines of plain text: "312 bad of 18,040 valid in the last 6 h: 2.1% of the 30-day budget; 46 h left at
    this burn", then how fast, what was excluded, and the shares. Nothing in it came unchecked from a request."""
    lines = headline(explanation)
    if not explanation.events.bad:
        return lines
    for one in explanation.breakdowns:
        if one.tells:
            lines.append(f"By {' and '.join(one.by)}: {_shares_text(one)}")
    lines += since_birth(explanation)
    source = source_text(explanation)
    traces = newest_traces(explanation)
    return lines + ([source] if source else []) + ([f"Newest traces: {', '.join(traces)}"] if traces else [])


def headline(explanation: Explanation) -> list[str]:
    """The first lines of `explain_text`: all but the shares."""
    one, span = explanation, _span_text(explanation)
    if not one.counts.valid:
        lines = [f"Nothing valid was seen {span}"]
    elif not one.counts.bad:
        lines = [f"None bad of {_units(one, one.counts.valid)} valid {span}"]
        if one.left_ns == 0:
            lines[0] += f"; none of {_budget_name(one)} is left all the same"
    else:
        lines = [f"{_units(one, one.counts.bad)} bad of {_units(one, one.counts.valid)} valid {span}: {_cost(one)}"]
        lines += _pace(one)
    if one.status.slices is not None and one.events.total:
        lines.append(f"In events: {one.events.bad:,} bad of {one.events.valid:,} valid")
    return lines + _beside(one)


def source_text(explanation: Explanation) -> str:
    """Whether the shares are exact; "" where there are none to speak of."""
    bad, logged = explanation.events.bad, explanation.logged
    if not bad or all(one.exact for one in explanation.breakdowns):
        return f"Shares are exact: all {bad:,} bad events are accounted for" if bad else ""
    untold = max(one.untold for one in explanation.breakdowns)
    if untold and all(one.told == bad for one in explanation.breakdowns):
        return (
            f"All {bad:,} bad events are accounted for; the class of {untold:,} is not known, as their reason has no "
            "count of its own: reasons: gives it one"
        )
    exact = [" and ".join(one.by) for one in explanation.breakdowns if one.exact and one.tells]
    kept = f"Shares by {', '.join(exact)} are exact; the others are" if exact else "Shares are"
    if not logged:
        return f"Of the {bad:,} bad events none is in the loss log, so what burned it is not known further"
    if logged > bad:
        return f"{kept} those of the loss log, which has {logged:,} bad events where {bad:,} are counted"
    return f"{kept} those of a sample: the loss log has {logged:,} of the {bad:,} bad events"


def since_birth(explanation: Explanation) -> list[str]:
    """Exact counts by reason since the row's birth, where those of the span are not exact."""
    unsure = any(one.by == ("reason",) and not one.exact for one in explanation.breakdowns)
    if not unsure or not explanation.since_birth:
        return []
    listed = ", ".join(f"{count:,} {printable(reason)}" for reason, count in explanation.since_birth)
    return [f"By reason since it was first seen, exactly: {listed}"]


def newest_traces(explanation: Explanation) -> tuple[str, ...]:
    """Trace ids of the largest shares, the newest first within each, at most three."""
    found = (trace for one in explanation.breakdowns for share in one.shares for trace in share.trace_ids)
    return tuple(dict.fromkeys(printable(trace) for trace in found))[:_MOST_TRACES]


def percent(share: Fraction) -> str:
    """Of failures, rounded down: "71%", "<1%"."""
    whole = 100 * share.numerator // share.denominator
    return f"{whole}%" if whole or not share else "<1%"


def _units(one: Explanation, count: int) -> str:
    return _number_of(one, count) + ("" if one.status.slices is None else " slices")


def _number_of(one: Explanation, count: int) -> str:
    """So many events, or slices; a ratio slice may be bad in part."""
    parts = 1 if one.status.slices is None else one.status.slices.parts
    return f"{count // parts:,}" if count % parts == 0 else f"{count / parts:,.2f}"


def _span_text(one: Explanation) -> str:
    if one.seen_ns and one.seen_ns < one.span_ns:
        return f"in the {_readable(one.seen_ns)} that it has been observed"
    return f"in the last {_readable(one.span_ns)}"


def _cost(one: Explanation) -> str:
    """The share of the whole window's budget, and how long that lasts."""
    share = "" if one.spent is None else f"{_spent(one.spent)} of {_budget_name(one)}; "
    if one.left_ns is None:
        return share + (
            "it lasts at this burn" if one.status.end_ns is None else "it lasts until the window's end at this burn"
        )
    if one.left_ns == 0:
        return share + "none of it is left"
    return share + f"{_left(one.left_ns)} left at this burn"


def _pace(one: Explanation) -> list[str]:
    lines = []
    if one.burn is not None:
        lines.append(f"Burn rate {_rate(one.burn)}; at 1 the budget lasts exactly the window")
    if one.spent_so_far is not None:
        observed, window = _readable(one.status.observed_ns), readable_duration(one.status.window_ns)
        seen = f"The window has been observed for {observed} of {window}"
        lines.append(f"{seen}: of what its traffic so far allows, {_spent(one.spent_so_far)} is spent")
    return lines


def _beside(one: Explanation) -> list[str]:
    """What does not count, and what was planned, apart from the rest."""
    lines, since = [], one.excluded_since
    if one.events.excluded:
        after = f"{since.valid:,} of them after the fact: {since.good:,} good, {since.bad:,} bad"
        told = f"Excluded, in no number above: {one.events.excluded:,} events"
        lines.append(f"{told} ({after})" if since.valid else told)
    if one.planned_bad:
        what = "events" if one.status.slices is None else "slices"
        lines.append(f"Inside planned annotations: {_number_of(one, one.planned_bad)} bad {what}; they stay spent")
    return lines


def _shares_text(one: Breakdown) -> str:
    parts = [f"{percent(share.share)} {share.label}" for share in one.shares[:_MOST_SHARES]]
    rest = one.shares[_MOST_SHARES:]
    if rest:
        parts.append(f"{percent(sum((share.share for share in rest), Fraction(0)))} {len(rest)} others")
    return ", ".join(parts)


def _budget_name(one: Explanation) -> str:
    if one.status.end_ns is not None:
        return f"the budget of this {one.status.window}"
    days, rest_ns = divmod(one.status.window_ns, DAY_NS)
    return f"the {readable_duration(one.status.window_ns)} budget" if rest_ns else f"the {days}-day budget"


def _spent(share: Fraction) -> str:
    """A percentage, rounded up: what is spent is never told smaller than it is, and as 100% only if it is all."""
    if share >= 1:
        return f"{-(-100 * share.numerator // share.denominator):,}%"
    tenths = min(999, -(-1000 * share.numerator // share.denominator))
    return f"{tenths // 10}.{tenths % 10}%"


def _rate(rate: Fraction) -> str:
    return f"{float(rate):,.0f}" if rate >= 100 else f"{float(rate):.1f}" if rate >= 10 else f"{float(rate):.2f}"


def _left(left_ns: int) -> str:
    if 10 * HOUR_NS <= left_ns < _HOURS_UNTIL_NS:
        return f"{left_ns // HOUR_NS} h"
    return _readable(left_ns)


def _readable(duration_ns: int) -> str:
    """Without fractions of a second, once there are whole ones."""
    return readable_duration(duration_ns // SECOND_NS * SECOND_NS if duration_ns >= SECOND_NS else duration_ns)
